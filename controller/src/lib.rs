//! `seal-controller`: opens SealedSecrets and keeps the resulting Secrets true to Git.
//!
//! ```text
//! event -> read -> Observed -> decide -> Decision -> apply -> Outcome -> status
//! ```

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test fails by panicking"))]

pub mod apply;
pub mod args;
pub mod contest;
pub mod engine;
pub mod error;
pub mod events;
pub mod facts;
pub mod fields;
pub mod http;
pub mod keys;
pub mod leading;
pub mod lease;
pub mod metrics;
pub mod process;
pub mod queue;
pub mod rate;
pub mod realm;
pub mod report;
pub mod rewatch;
pub mod schema;
pub mod sealed;
pub mod settings;
pub mod status;
pub mod store;
pub mod target;
pub mod telemetry;
pub mod template;
pub mod vault;
pub mod wiring;
