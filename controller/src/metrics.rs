//! Owns what Prometheus sees of the controller. Labels come from enums, and in one family from the key ids of the
//! rings, so their number is bounded and no object's name or value can become one.
//!
//! ```text
//! reconcile, keys, lease, http -> Metrics (typed methods) -> encode -> GET /metrics
//! ```
