//! `seal-controller`: opens SealedSecrets and keeps the resulting Secrets true to Git.
//!
//! ```text
//! event -> read -> Observed -> decide -> Decision -> apply -> Outcome -> status
//! ```

pub mod events;
pub mod http;
pub mod metrics;
pub mod process;
pub mod telemetry;
pub mod template;
