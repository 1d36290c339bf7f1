//! The harness's own promises: it starts a real control plane, and leaves nothing behind.

mod endings;
mod plane;
