//! Which Secret was read, and what of it has to become ours: what a decision hands to the guarded write.
//!
//! Secret -> decide -> [`Facts`], [`TakeOver`] -> apply; [`wipe`] when it is done with.

use std::collections::BTreeSet;

use k8s_openapi::{
    api::core::v1::Secret,
    apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta},
};
use zeroize::Zeroize;

use crate::fields::Part;

/// A Secret at one moment: the precondition of a write that was decided by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Its uid.
    pub uid: String,
    /// Its resourceVersion.
    pub resource_version: String,
}

impl Facts {
    /// Those of what was read, or answered.
    pub fn of(metadata: &ObjectMeta) -> Self {
        Self {
            uid: metadata.uid.clone().unwrap_or_default(),
            resource_version: metadata.resource_version.clone().unwrap_or_default(),
        }
    }
}

/// Clears the values of a Secret that was read or made; the buffers that they came through are not ours to clear.
pub fn wipe(secret: &mut Secret) {
    secret.data.iter_mut().flat_map(|data| data.values_mut()).for_each(|value| value.0.zeroize());
}

/// What one JSON patch does before the apply.
#[derive(Debug, PartialEq)]
pub struct TakeOver {
    /// The parts that become ours alone.
    pub parts: BTreeSet<Part>,
    /// The entries as they are now.
    pub managed_fields: Vec<ManagedFieldsEntry>,
    /// Whether `kubectl apply` left a copy of plaintext in an annotation.
    pub has_last_applied: bool,
}
