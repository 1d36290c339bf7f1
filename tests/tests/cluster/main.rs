//! What the API server really does, where the design rests on it.

mod definitions;
mod secrets;
