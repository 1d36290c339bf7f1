//! The harness's own promises: it starts real servers, and leaves nothing behind.

mod endings;
mod plane;
mod vault;
