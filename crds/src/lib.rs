//! Sealwright's Kubernetes resources: [`SealedSecret`], [`KeyRing`] and [`VaultStore`].
//!
//! This crate owns what is written into manifests and what the API server is told about it: the types, their
//! bounds, the CEL rules and the names that both programs agree on. It never talks to a cluster.
//!
//! ```text
//! types (doc comments, bounds, rules) -> crds() -> crds/*.yaml, the chart, `seal-controller crds`
//! ```
//!
//! The doc comments of the fields are the text of `kubectl explain`, so they are written for its reader.
#![deny(missing_docs)]
#![allow(unreachable_pub, reason = "the schema derive repeats each type inside a function")]
#![allow(clippy::duplicated_attributes, reason = "columns of one kind share their parts, not their meaning")]
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test fails by panicking"))]

pub mod condition;
mod definition;
mod json_schema;
pub mod key_ring;
pub mod names;
pub mod output;
pub mod period;
mod schema;
pub mod sealed_secret;
pub mod vault_path;
pub mod vault_store;

pub use definition::{crds, crds_yaml, file_name, yaml};
pub use json_schema::json_schemas;
pub use key_ring::{KeyRing, KeyRingSpec, KeyRingStatus};
pub use names::*;
pub use period::Period;
pub use sealed_secret::{SealedSecret, SealedSecretSpec, SealedSecretStatus};
pub use vault_store::{VaultStore, VaultStoreSpec, VaultStoreStatus};
