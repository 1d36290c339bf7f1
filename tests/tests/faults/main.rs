//! Processes that die, freeze and come back; an API server and an etcd that go away, and back in time.
//!
//! Each test has a cluster of its own, for it breaks it.

mod clusters;
mod identities;
mod replicas;
mod schema;
