//! Whole journeys: laptop -> `seal` -> Git -> API server -> controller -> Secret, and back again.

mod clusters;
mod files;
mod recovery;
mod rights;
mod telling;
