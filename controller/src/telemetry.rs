//! Owns the log: one subscriber for the process, as text or JSON on stderr, with filters that no flag can widen to
//! libraries that log bodies or headers.
//!
//! ```text
//! --log-level, --log-format -> Telemetry -> tracing events of our crates and kube's -> stderr
//! ```
