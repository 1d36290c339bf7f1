//! The promises of the harness and of the house: it starts real servers, leaves nothing behind, and says what it stands on.

mod endings;
mod house;
mod plane;
mod vault;
