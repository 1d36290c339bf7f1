//! Every write of Secrets, and every guarded write besides; nothing else in this program writes one.
//!
//! Decision -> [`Writer`] -> facts of the Secret as it is now, or [`WriteError`].
//!
//! Server-side apply is an upsert: each carries the precondition under which it was decided, so that it creates only
//! what is absent and changes only what was read (`docs/design/controller.md` 1). The lease is asked right before each
//! write.

use std::{
    fmt,
    time::{Duration, Instant},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use k8s_openapi::{
    api::core::v1::Secret,
    apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, OwnerReference},
    jiff::Timestamp,
};
use kube::{
    Api, Client, Resource,
    api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams, Preconditions},
};
use seal_crds::{FIELD_MANAGER, OWNER_ANNOTATION, OWNER_LABEL};
use serde::{Serialize, Serializer, de::DeserializeOwned};
use serde_json::{Value, json};
use thiserror::Error;
use tokio::sync::watch;
use zeroize::Zeroizing;

use crate::{
    error::{self, ApiError},
    facts::{Facts, TakeOver},
    fields,
    lease::Leadership,
    store::Key,
    target::{Desired, LAST_APPLIED},
};

/// The most that one call may take.
pub const DEADLINE: Duration = Duration::from_secs(15);
/// "Absent" as the precondition of an apply: no object ever has this resourceVersion.
const ABSENT: &str = "1";

/// A write that did not happen, or whose outcome is unknown.
#[derive(Debug, Error)]
pub enum WriteError {
    /// Another replica leads now.
    #[error("this replica does not lead")]
    NotLeading,
    /// The object is not what it was when it was read.
    #[error("the object changed since it was read")]
    Conflict,
    /// The object is gone.
    #[error("the object is gone")]
    Gone,
    /// The namespace is being deleted.
    #[error("the namespace is being deleted")]
    Terminating,
    /// The API server will not have it.
    #[error("the API server refuses the write")]
    Refused(#[source] ApiError),
    /// It may work another time.
    #[error("the API server could not do it")]
    Unavailable(#[source] ApiError),
    /// What should decide on it panicked.
    #[error("a fault of the controller")]
    Fault,
}

impl WriteError {
    /// For people.
    pub fn text(&self) -> String {
        match self {
            Self::Refused(cause) | Self::Unavailable(cause) => format!("{self}: {}", cause.text()),
            _ => self.to_string(),
        }
    }

    /// With one name in place of another: nobody knows the Secret of a rehearsal, and its name is new each time.
    fn renamed(self, from: &str, to: &str) -> Self {
        match self {
            Self::Refused(error) => Self::Refused(error.renamed(from, to)),
            Self::Unavailable(error) => Self::Unavailable(error.renamed(from, to)),
            other => other,
        }
    }
}

impl From<ApiError> for WriteError {
    fn from(error: ApiError) -> Self {
        match &error {
            error if error.is_namespace_terminating() => Self::Terminating,
            error if error.is_conflict() => Self::Conflict,
            error if error.is_not_found() => Self::Gone,
            error if error.is_transient() => Self::Unavailable(ApiError::clone(error)),
            _ => Self::Refused(error),
        }
    }
}

/// Writes, while this replica leads.
#[derive(Clone)]
pub struct Writer {
    client: Client,
    leadership: Leadership,
    is_schema_right: watch::Receiver<bool>,
}

impl Writer {
    /// A writer that asks `leadership` before each write, and writes nothing under an older schema.
    pub fn new(client: Client, leadership: Leadership, is_schema_right: watch::Receiver<bool>) -> Self {
        Self { client, leadership, is_schema_right }
    }

    /// Whether a write would be allowed now.
    pub fn leads(&self) -> bool {
        self.leadership.is_leading() && *self.is_schema_right.borrow()
    }

    /// Creates a Secret that must not exist.
    pub async fn create_secret(&self, desired: &Desired) -> Result<ObjectMeta, WriteError> {
        self.apply(desired, &desired.name, Guard::Absent, false).await
    }

    /// Changes the Secret that was read.
    pub async fn change_secret(&self, desired: &Desired, facts: &Facts) -> Result<ObjectMeta, WriteError> {
        self.apply(desired, &desired.name, Guard::Is(facts), false).await
    }

    /// Replaces the Secret that was read by one of another type.
    ///
    /// Quota and admission are asked first, with a dry run under another name: what they would refuse must not cost
    /// the old Secret.
    pub async fn replace_secret(&self, desired: &Desired, facts: &Facts) -> Result<ObjectMeta, WriteError> {
        let rehearsal = rehearsal_name(Timestamp::now());
        self.apply(desired, &rehearsal, Guard::Absent, true)
            .await
            .map_err(|error| error.renamed(&rehearsal, &desired.name))?;
        self.delete_secret(&Key::new(&desired.namespace, &desired.name), facts).await?;
        self.create_secret(desired).await
    }

    async fn apply(
        &self,
        desired: &Desired,
        name: &str,
        guard: Guard<'_>,
        dry_run: bool,
    ) -> Result<ObjectMeta, WriteError> {
        let deadline = self.check()?;
        let mut params = PatchParams::apply(FIELD_MANAGER).force();
        params.dry_run = dry_run;
        let body = Patch::Apply(body(desired, name, guard));
        let call = self.secrets(&desired.namespace);
        let applied = within(deadline, call.patch_metadata(name, &params, &body)).await?;
        Ok(applied.metadata)
    }

    /// Moves the ownership of parts to our Apply entry, and removes the copy of the old plaintext that `kubectl apply`
    /// leaves. Gives the Secret's facts after that.
    pub async fn take_over(&self, key: &Key, facts: &Facts, take_over: &TakeOver) -> Result<Facts, WriteError> {
        let entries: Vec<ManagedFieldsEntry> = fields::taken_over(&take_over.managed_fields, &take_over.parts);
        let mut patch = vec![
            json!({"op": "test", "path": "/metadata/uid", "value": facts.uid}),
            json!({"op": "test", "path": "/metadata/resourceVersion", "value": facts.resource_version}),
            json!({"op": "add", "path": "/metadata/managedFields", "value": entries}),
        ];
        if take_over.has_last_applied {
            let path = format!("/metadata/annotations/{}", escaped(LAST_APPLIED));
            patch.push(json!({"op": "remove", "path": path}));
        }
        let metadata = self.json_patch(key, patch).await?;
        Ok(Facts::of(&metadata))
    }

    /// Lets go of a Secret that is to stay: it keeps its data, and belongs to nobody. `owner` is the uid of the object:
    /// with its reference left there, the garbage collector would take the Secret when the object goes.
    pub async fn release_secret(&self, key: &Key, facts: &Facts, owner: &str) -> Result<(), WriteError> {
        let patch = json!({"metadata": {
            "uid": facts.uid,
            "resourceVersion": facts.resource_version,
            "labels": {OWNER_LABEL: null},
            "annotations": {OWNER_ANNOTATION: null},
            "ownerReferences": [{"$patch": "delete", "uid": owner}],
        }});
        let deadline = self.check()?;
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let secrets = self.secrets(&key.namespace);
        let patch = Patch::Strategic(&patch);
        within(deadline, secrets.patch_metadata(&key.name, &params, &patch)).await.map(drop).map_err(into_read_again)
    }

    async fn json_patch(&self, key: &Key, patch: Vec<Value>) -> Result<ObjectMeta, WriteError> {
        let deadline = self.check()?;
        let patch: json_patch::Patch =
            serde_json::from_value(Value::Array(patch)).map_err(|_| WriteError::Refused(ApiError::Malformed))?;
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let secrets = self.secrets(&key.namespace);
        let patch = Patch::Json::<()>(patch);
        let patched = within(deadline, secrets.patch_metadata(&key.name, &params, &patch)).await;
        match patched {
            Ok(patched) => Ok(patched.metadata),
            // A failed `test` is 422: somebody was faster.
            Err(error) if error.is_invalid() && !error.names_who_refuses() => Err(WriteError::Conflict),
            Err(error) => Err(into_read_again(error)),
        }
    }

    /// Deletes exactly the Secret that was read. That it is gone already is fine.
    pub async fn delete_secret(&self, key: &Key, facts: &Facts) -> Result<(), WriteError> {
        let resource_version = (!facts.resource_version.is_empty()).then(|| facts.resource_version.clone());
        let preconditions = Preconditions { uid: Some(facts.uid.clone()), resource_version };
        let deadline = self.check()?;
        let params = DeleteParams::default().preconditions(preconditions);
        match within(deadline, self.secrets(&key.namespace).delete(&key.name, &params)).await {
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Patches the status of an object that still is what it was when it was read. Gives the object as it is now.
    pub async fn patch_status<K>(&self, api: &Api<K>, name: &str, patch: &Value) -> Result<K, WriteError>
    where
        K: Resource + DeserializeOwned + Clone + fmt::Debug,
    {
        let deadline = self.check()?;
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        Ok(error::within(deadline, api.patch_status(name, &params, &Patch::Merge(patch))).await?)
    }

    /// Creates an object whose name is its lock. It may be a Secret.
    pub async fn create<K>(&self, api: &Api<K>, object: &K) -> Result<K, WriteError>
    where
        K: Resource + Serialize + DeserializeOwned + Clone + fmt::Debug,
    {
        let deadline = self.check()?;
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        Ok(within(deadline, api.create(&params, object)).await?)
    }

    /// Applies an object that is wholly ours, under the name of `manager`.
    pub async fn apply_own<K>(&self, api: &Api<K>, name: &str, manager: &str, object: &Value) -> Result<K, WriteError>
    where
        K: Resource + DeserializeOwned + Clone + fmt::Debug,
    {
        let deadline = self.check()?;
        let params = PatchParams::apply(manager).force();
        Ok(error::within(deadline, api.patch(name, &params, &Patch::Apply(object))).await?)
    }

    fn secrets(&self, namespace: &str) -> Api<Secret> {
        Api::namespaced(self.client.clone(), namespace)
    }

    /// Asks the lease, right before a write; gives how long the write may take before another replica may lead.
    fn check(&self) -> Result<Duration, WriteError> {
        let until = self.leadership.deadline().filter(|_| *self.is_schema_right.borrow());
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        left.map(|left| left.min(DEADLINE)).ok_or(WriteError::NotLeading)
    }
}

/// A name that any Secret can have and none has. A part of the target's could end where no name may, and a name that
/// stays the same would be in the way for good once somebody has it.
fn rehearsal_name(now: Timestamp) -> String {
    format!("rehearsal-{:x}", now.as_nanosecond())
}

/// A write of a Secret, with a deadline. What goes wrong is told without a word that could come from the Secret.
async fn within<T>(deadline: Duration, call: impl Future<Output = Result<T, kube::Error>>) -> Result<T, ApiError> {
    error::within(deadline, call).await.map_err(ApiError::of_secret_write)
}

/// A Secret that is gone, unlike the object that makes it, is a reason to look again.
fn into_read_again(error: ApiError) -> WriteError {
    if error.is_not_found() { WriteError::Conflict } else { error.into() }
}

/// The precondition of an apply.
enum Guard<'a> {
    Absent,
    Is(&'a Facts),
}

/// A step of a JSON pointer.
fn escaped(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

fn body<'a>(desired: &'a Desired, name: &'a str, guard: Guard<'a>) -> Body<'a> {
    let (uid, resource_version) = match guard {
        Guard::Absent => (None, ABSENT),
        Guard::Is(facts) => (Some(facts.uid.as_str()), facts.resource_version.as_str()),
    };
    Body {
        api_version: "v1",
        kind: "Secret",
        metadata: BodyMetadata {
            name,
            namespace: &desired.namespace,
            uid,
            resource_version,
            labels: &desired.labels,
            annotations: &desired.annotations,
            owner_references: desired.owner.as_slice(),
        },
        type_: &desired.type_,
        immutable: desired.is_immutable.then_some(true),
        data: Data(desired),
    }
}

/// The Secret as it is sent. Its `Debug` shows no value, because kube demands one.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    api_version: &'static str,
    kind: &'static str,
    metadata: BodyMetadata<'a>,
    #[serde(rename = "type")]
    type_: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    immutable: Option<bool>,
    data: Data<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct BodyMetadata<'a> {
    name: &'a str,
    namespace: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<&'a str>,
    resource_version: &'a str,
    labels: &'a std::collections::BTreeMap<String, String>,
    annotations: &'a std::collections::BTreeMap<String, String>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    owner_references: &'a [OwnerReference],
}

impl fmt::Debug for Body<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Body({}/{})", self.metadata.namespace, self.metadata.name)
    }
}

struct Data<'a>(&'a Desired);

impl Serialize for Data<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.data.iter().map(|(key, value)| (key, Base64(value))))
    }
}

struct Base64<'a>(&'a [u8]);

impl Serialize for Base64<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Zeroizing::new(BASE64_STANDARD.encode(self.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rehearsal_has_a_valid_name_of_its_own_each_time() {
        let [first, second] = [1, 2].map(|nanosecond| rehearsal_name(Timestamp::from_nanosecond(nanosecond).unwrap()));
        assert_ne!(first, second, "or a Secret of that name would stand in the way for ever");
        let longest = rehearsal_name(Timestamp::MAX);
        let is_valid = |name: &str| name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        assert!(longest.len() <= 63 && is_valid(&longest), "{longest}");
    }
}
