//! The chart: what Helm, the API server and Prometheus say of it, what it gives, and what it refuses.

mod alerts;
mod modes;
mod namespaces;
mod readme;
mod releases;
mod rights;
mod values;
mod verbs;
mod walk;
