//! Owns the Events that people see in `kubectl describe`: bounded, best effort, and never in a reconcile's way.
//!
//! ```text
//! a transition -> publish -> bounded channel -> one task -> token bucket per reason -> POST events.k8s.io/v1
//! ```
