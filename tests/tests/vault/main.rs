//! Values out of a real OpenBao, through the built controller, into Secrets of a real API server.

mod basics;
mod numbers;
mod wakes;
mod world;
