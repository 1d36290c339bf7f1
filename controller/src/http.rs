//! Owns the controller's HTTP endpoints, and what strangers may cost us there.
//!
//! ```text
//! connection -> limits and deadlines -> route -> Served (what the loops publish) -> a short answer without a secret
//! ```
