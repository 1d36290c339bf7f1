//! Everything that one look at an object asks the API server.
//!
//! key -> the object, whole -> the Secret that it makes ([`Live`]). A fresh object costs no request here: it waits in
//! the store, and that its Secret is absent is told by the guarded create.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client,
    api::{DynamicObject, GetParams},
    core::{ApiResource, ObjectMeta},
};
use seal_crds::{SealedSecret, SealedSecretSpec, condition::SealedSecretReason};
use serde::de::DeserializeOwned;

use super::decide::Live;
use crate::{
    apply::DEADLINE,
    error::{ApiError, within},
    store::{Key, Store, Summary},
    target::LAST_APPLIED,
};

/// An object as it was read.
pub enum Read {
    /// Whole.
    Object(Arc<SealedSecret>),
    /// Its spec makes no sense to us. What is left is its metadata and its status.
    Unreadable(Box<SealedSecret>),
    /// It does not exist any more.
    Gone,
}

/// Reads the object itself: from the store where it waits, else from the API server.
pub async fn object(
    client: &Client,
    key: &Key,
    summary: &Summary,
    waiting: Option<Arc<SealedSecret>>,
) -> Result<Read, ApiError> {
    if let Some(object) = waiting.filter(|object| is_at(object, summary)) {
        return Ok(Read::Object(object));
    }
    asked(client, key, &GetParams::at(&summary.resource_version)).await
}

/// Reads the object as it is now, whatever the watch has told.
pub async fn latest(client: &Client, key: &Key) -> Result<Read, ApiError> {
    asked(client, key, &GetParams::default()).await
}

async fn asked(client: &Client, key: &Key, version: &GetParams) -> Result<Read, ApiError> {
    let kind = ApiResource::erase::<SealedSecret>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &key.namespace, &kind);
    match within(DEADLINE, api.get_with(&key.name, version)).await {
        Ok(object) => Ok(typed(object)),
        Err(error) if error.is_not_found() => Ok(Read::Gone),
        Err(error) => Err(error),
    }
}

/// An object as a watch gave it, without what is never needed; only its metadata where its spec makes no sense.
pub fn stripped(mut object: DynamicObject) -> Result<SealedSecret, Box<ObjectMeta>> {
    object.metadata.managed_fields = None;
    if let Some(annotations) = &mut object.metadata.annotations {
        // A copy of the whole object, from a client-side `kubectl apply`.
        annotations.remove(LAST_APPLIED);
    }
    match typed(object) {
        Read::Object(object) => Ok(Arc::unwrap_or_clone(object)),
        Read::Unreadable(object) => Err(Box::new(object.metadata)),
        Read::Gone => Err(Box::default()),
    }
}

fn is_at(object: &SealedSecret, summary: &Summary) -> bool {
    object.metadata.resource_version.as_deref() == Some(&*summary.resource_version)
}

fn typed(object: DynamicObject) -> Read {
    let (spec, status) = (part::<SealedSecretSpec>(&object, "spec"), part(&object, "status"));
    let is_readable = spec.is_some();
    let object = SealedSecret { metadata: object.metadata, spec: spec.unwrap_or_default(), status };
    if is_readable { Read::Object(Arc::new(object)) } else { Read::Unreadable(Box::new(object)) }
}

/// The spec or the status of an object that was read without a type: serde's error would quote what it cannot read.
pub fn part<T: DeserializeOwned>(object: &DynamicObject, name: &str) -> Option<T> {
    T::deserialize(object.data.get(name)?).ok()
}

/// Reads the Secret that the object makes, where anything speaks for its being there.
pub async fn live(client: &Client, target: &Key, must_ask: bool) -> Result<Live, ApiError> {
    if !must_ask {
        return Ok(Live::PresumedAbsent);
    }
    let secrets: Api<Secret> = Api::namespaced(client.clone(), &target.namespace);
    let live = within(DEADLINE, secrets.get_opt(&target.name)).await?;
    Ok(live.map_or(Live::Absent, |live| Live::Present(Box::new(live))))
}

/// Whether anything speaks for the Secret's being there: our label on it, or a status that knows of it.
pub fn is_expected(store: &Store, target: &Key, object: &SealedSecret) -> bool {
    let met_before = |reason: &str| {
        [
            SealedSecretReason::TargetNotOwned,
            SealedSecretReason::TargetTerminating,
            SealedSecretReason::TargetImmutable,
            SealedSecretReason::OutputRefused,
        ]
        .iter()
        .any(|met| met.as_str() == reason)
    };
    store.secret(target).is_some()
        || object.status.as_ref().is_some_and(|status| {
            status.secret.as_ref().is_some_and(|secret| *secret.name == *target.name)
                || status.conditions.iter().any(|condition| met_before(&condition.reason))
        })
}
