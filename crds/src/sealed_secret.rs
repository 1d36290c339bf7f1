//! SealedSecret: sealed values and Vault references in, one Secret out.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use seal_envelope::{BindingError, Place, SealedFor};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{Period, schema};

/// What is sealed, for whom, and the Secret that it becomes.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[kube(
    group = "sealwright.dev",
    version = "v1alpha1",
    kind = "SealedSecret",
    namespaced,
    shortname = "sws",
    category = "sealwright",
    doc = "A SealedSecret holds values that only the cluster can open, and becomes one Secret.",
    status = "SealedSecretStatus",
    derive = "PartialEq",
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(name = "Secret", type_ = "string", json_path = ".status.secret.name"),
    printcolumn(
        name = "Vault",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="VaultSynced")].reason"#,
        priority = 1
    ),
    printcolumn(
        name = "Message",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Ready")].message"#,
        priority = 1
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(has(self.encryptedData) && self.encryptedData.size() > 0) || has(self.vault)")
        .message("nothing to make a Secret of: give encryptedData, vault, or both"),
    validation = Rule::new("!has(self.encryptedData) || self.encryptedData.size() == 0 || has(self.sealedFor)")
        .message("sealedFor is required with encryptedData; `sealedFor: {}` means any name in any namespace"),
    validation = Rule::new("!has(self.sealedFor) || !has(self.sealedFor.name) || !has(self.target) || !has(self.target.name) || self.target.name == self.sealedFor.name")
        .message("target.name must equal sealedFor.name: the values open for that name only"),
    validation = Rule::new("!has(self.encryptedData) || !has(self.vault) || !has(self.vault.data) || !self.vault.data.exists(d, d.key in self.encryptedData)")
        .message("a key stands both in encryptedData and in vault.data"),
)]
pub struct SealedSecretSpec {
    /// For which Secret the values were sealed, in clear. It is bound into every value: change it and none opens.
    /// `seal` writes it. Required with encryptedData.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    // One thing to server-side apply, as to the envelope: `{}` after `{name: db}` would otherwise become null.
    #[x_kube(merge_strategy = MapMerge::Atomic)]
    pub sealed_for: Option<SealedForSpec>,

    /// The sealed values by the key that they have in the Secret. Each is a self-contained `seal1.` token that opens
    /// for this key, and for the name and namespaces of sealedFor, only. `seal set` writes them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::encrypted_data")]
    pub encrypted_data: BTreeMap<String, String>,

    /// Values that the controller fetches from Vault or OpenBao, with the sealed ones or instead of them. The Secret
    /// is written when all parts succeeded, and otherwise stays as it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vault: Option<VaultSource>,

    /// The shape of the Secret: its type, labels and annotations, and keys made out of others.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<Template>,

    /// The Secret that is made: its name, and what becomes of it when this object is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<Target>,
}

/// For which Secret values are sealed. An absent part means any.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SealedForSpec {
    /// The Secret's name. Absent means any name.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = schema::SUBDOMAIN))]
    pub name: Option<String>,

    /// The namespaces, one to 64, each once. Absent means any namespace.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = seal_envelope::MAX_NAMESPACES), inner(length(min = 1, max = 63), regex(pattern = schema::LABEL)))]
    #[x_kube(
        merge_strategy = ListMerge::Atomic,
        validation = Rule::new("self.all(n, self.exists_one(m, m == n))").message("a namespace is named twice"),
    )]
    pub namespaces: Option<Vec<String>>,
}

/// Reads a part that may be absent but not null: null must never come to mean any.
fn present<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    match Option::deserialize(deserializer)? {
        Some(part) => Ok(Some(part)),
        None => Err(serde::de::Error::custom("null is no value here; leave the part out to mean any")),
    }
}

/// References to values in Vault or OpenBao.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(has(self.data) && self.data.size() > 0) || (has(self.dataFrom) && self.dataFrom.size() > 0)")
        .message("nothing to fetch: give data, dataFrom, or both"),
)]
pub struct VaultSource {
    /// The VaultStore that says where the server is and how to log in.
    pub store_ref: StoreRef,

    /// How often to fetch: `10s` or more, such as `15m` or `1h30m`. `0`: only when this object changes, or is given
    /// a new `sealwright.dev/refresh` annotation. Absent means `1h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(
        validation = Rule::new("duration(self) == duration('0s') || duration(self) >= duration('10s')")
            .message("refreshInterval is 0, or 10s or more"),
    )]
    pub refresh_interval: Option<Period>,

    /// What to do about a key whose path is gone from Vault. Keep: the Secret keeps its last value. RemoveKey: the
    /// key, and only it, leaves the Secret. Absent means Keep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "OnMissing")]
    pub on_missing: Option<OnMissing>,

    /// The age of the last successful fetch at which Ready turns False; the Secret stays. `0`: never. Absent means
    /// `24h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale_after: Option<Period>,

    /// Single fields, each under a key of the Secret.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 256))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["key".into()]))]
    pub data: Vec<VaultData>,

    /// Whole secrets: every field becomes a key of its own name. A later entry wins over an earlier one, and data
    /// over all of them; none may bring a key that is in encryptedData.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub data_from: Vec<VaultDataFrom>,
}

/// Which VaultStore.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct StoreRef {
    /// The store's name.
    #[schemars(length(min = 1, max = 253), regex(pattern = schema::SUBDOMAIN))]
    pub name: String,

    /// The store's namespace; it must allow this one. Absent means this namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63), regex(pattern = schema::LABEL))]
    pub namespace: Option<String>,
}

/// What to do about a key whose path is gone from Vault.
#[derive(schemars::JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[schemars(inline)]
pub enum OnMissing {
    /// The Secret keeps its last value.
    #[default]
    Keep,
    /// The key, and only it, leaves the Secret.
    RemoveKey,
}

/// One field of a secret in Vault.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.version) || !has(self.kv) || self.kv == 2").message("version 1 of the KV engine keeps no versions"),
)]
pub struct VaultData {
    /// The key in the Secret.
    #[schemars(length(min = 1, max = 253), regex(pattern = schema::DATA_KEY))]
    pub key: String,

    /// Where the KV engine is mounted, such as `kv`.
    #[schemars(length(min = 1, max = 256), regex(pattern = schema::VAULT_PATH))]
    #[x_kube(
        validation = Rule::new("self.split('/').all(s, s != '' && s != '.' && s != '..')").message("a mount has no empty, `.` or `..` part"),
        validation = Rule::new("!(self.split('/')[0] in ['sys', 'auth', 'identity', 'cubbyhole'])").message("sys, auth, identity and cubbyhole are no KV mounts"),
    )]
    pub mount: String,

    /// The path of the secret below the mount, without `data/`.
    #[schemars(length(min = 1, max = 512), regex(pattern = schema::VAULT_PATH))]
    #[x_kube(
        validation = Rule::new("self.split('/').all(s, s != '' && s != '.' && s != '..')").message("a path has no empty, `.` or `..` part"),
    )]
    pub path: String,

    /// The field: its name, or a JSON pointer into the secret when it begins with `/`.
    #[schemars(length(min = 1, max = 1024))]
    pub field: String,

    /// A fixed version of the secret. Absent means the latest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub version: Option<i64>,

    /// How the field is encoded in Vault. Absent means not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Decode")]
    pub decode: Option<Decode>,

    /// The version of the KV engine, 1 or 2. Absent means 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2))]
    pub kv: Option<i32>,
}

/// How a field is encoded in Vault.
#[derive(schemars::JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[schemars(inline)]
pub enum Decode {
    /// Standard base64.
    Base64,
}

/// All fields of a secret in Vault.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.version) || !has(self.kv) || self.kv == 2").message("version 1 of the KV engine keeps no versions"),
)]
pub struct VaultDataFrom {
    /// Where the KV engine is mounted, such as `kv`.
    #[schemars(length(min = 1, max = 256), regex(pattern = schema::VAULT_PATH))]
    #[x_kube(
        validation = Rule::new("self.split('/').all(s, s != '' && s != '.' && s != '..')").message("a mount has no empty, `.` or `..` part"),
        validation = Rule::new("!(self.split('/')[0] in ['sys', 'auth', 'identity', 'cubbyhole'])").message("sys, auth, identity and cubbyhole are no KV mounts"),
    )]
    pub mount: String,

    /// The path of the secret below the mount, without `data/`.
    #[schemars(length(min = 1, max = 512), regex(pattern = schema::VAULT_PATH))]
    #[x_kube(
        validation = Rule::new("self.split('/').all(s, s != '' && s != '.' && s != '..')").message("a path has no empty, `.` or `..` part"),
    )]
    pub path: String,

    /// Regular expressions; a field is taken if its name matches one of them anywhere. Absent means every field.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), inner(length(min = 1, max = 256)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub include: Vec<String>,

    /// Put before each field's name to make the key in the Secret.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253), regex(pattern = "^[-._A-Za-z0-9]*$"))]
    pub prefix: Option<String>,

    /// A fixed version of the secret. Absent means the latest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub version: Option<i64>,

    /// How every field is encoded in Vault. Absent means not at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Decode")]
    pub decode: Option<Decode>,

    /// The version of the KV engine, 1 or 2. Absent means 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 2))]
    pub kv: Option<i32>,
}

/// The shape of the Secret.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Template {
    /// The Secret's type, such as `kubernetes.io/tls`. Absent means `Opaque`.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = crate::output::type_rule())]
    pub type_: Option<String>,

    /// Whether Kubernetes refuses later changes of the data. Absent means false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub immutable: Option<bool>,

    /// Labels and annotations of the Secret, taken literally.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<TemplateMetadata>,

    /// Keys made out of others, in Go's template syntax: `postgres://{{ .DB_USER }}:{{ .password }}@db`. An entry
    /// replaces the value of its key; null leaves the key out of the Secret, and templates can still use it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::template_data")]
    pub data: BTreeMap<String, Option<String>>,
}

/// Labels and annotations of the Secret.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct TemplateMetadata {
    /// Labels of the Secret.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::secret_labels")]
    pub labels: BTreeMap<String, String>,

    /// Annotations of the Secret.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::secret_annotations")]
    pub annotations: BTreeMap<String, String>,
}

/// The Secret that is made.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    /// The Secret's name. Absent means sealedFor.name, or else the name of this object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = schema::SUBDOMAIN))]
    pub name: Option<String>,

    /// What becomes of the Secret when this object is deleted. Delete: it goes too. Retain: it stays, and belongs to
    /// nobody. Absent means Delete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "DeletionPolicy")]
    pub deletion_policy: Option<DeletionPolicy>,
}

/// What becomes of the Secret when its SealedSecret is deleted.
#[derive(schemars::JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[schemars(inline)]
pub enum DeletionPolicy {
    /// It is deleted too.
    #[default]
    Delete,
    /// It stays.
    Retain,
}

/// What the controller has seen and done.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct SealedSecretStatus {
    /// The metadata.generation that this status speaks of; -1 before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// Ready, Stalled, Reconciling and, with a vault part, VaultSynced.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,

    /// Ids of the ring keys that the values are sealed to. A key that is in no such list can be retired.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::key_ids")]
    pub keys_in_use: Vec<String>,

    /// The Secret as it was last written or verified.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretStatus>,

    /// When a fetch from Vault last changed the content, or succeeded again after a failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::time")]
    pub last_sync_time: Option<Time>,

    /// The versions that were last read from Vault, by mount and path.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(schema_with = "schema::vault_versions")]
    pub vault_versions: BTreeMap<String, i64>,

    /// A keyed MAC over what was last read from Vault: tells change without telling the values.
    #[serde(default, rename = "dataMAC", skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub data_mac: Option<String>,

    /// The value of the `sealwright.dev/refresh` annotation that was last acted on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    pub observed_refresh: Option<String>,
}

/// The Secret as it was last written or verified.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct SecretStatus {
    /// The Secret's name.
    #[schemars(length(max = 253))]
    pub name: String,

    /// Its uid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub uid: Option<String>,

    /// Its resourceVersion.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub resource_version: Option<String>,

    /// A hash of what the Secret depends on besides the spec: the renderer's version. No secret is in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub inputs: Option<String>,
}

/// A spec that contradicts itself. The API server refuses it too; a file that never met one is judged by this.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum SpecError {
    /// Neither encryptedData nor vault.
    #[error("nothing to make a Secret of: give encryptedData, vault, or both")]
    Nothing,
    /// Sealed values, and nothing that says for whom.
    #[error("sealedFor is required with encryptedData; `sealedFor: {{}}` means any name in any namespace")]
    NoSealedFor,
    /// `namespaces: []`: only absence means any.
    #[error("sealedFor.namespaces is empty; leave it out to mean any namespace")]
    NoNamespaces,
    /// A name or a namespace that Kubernetes would refuse.
    #[error("sealedFor cannot be bound into a value")]
    Binding(#[from] BindingError),
    /// The target is another Secret than the one that the values open for.
    #[error("target.name must equal sealedFor.name: the values open for that name only")]
    TargetName,
    /// One key with two sources.
    #[error("key `{0}` stands both in encryptedData and in vault.data")]
    KeyTwice(String),
}

impl SealedSecret {
    /// The name of the Secret that this object makes: `target.name`, else `sealedFor.name`, else its own.
    ///
    /// So a `namePrefix` on the object is harmless, and a value is never led into another Secret.
    pub fn target_name(&self) -> &str {
        let spec = &self.spec;
        let target = spec.target.as_ref().and_then(|target| target.name.as_deref());
        let sealed_for = spec.sealed_for.as_ref().and_then(|sealed_for| sealed_for.name.as_deref());
        target.or(sealed_for).or(self.metadata.name.as_deref()).unwrap_or_default()
    }

    /// The Secret that this object makes, as the place in which its values are opened.
    ///
    /// # Errors
    ///
    /// When the object has no namespace, or a name that Kubernetes would refuse.
    pub fn place(&self) -> Result<Place, BindingError> {
        Place::new(self.metadata.namespace.as_deref().unwrap_or_default(), self.target_name())
    }
}

impl SealedSecretSpec {
    /// Judges everything that can be judged without a cluster or a key, as the rules of the API server do.
    ///
    /// # Errors
    ///
    /// The first contradiction.
    pub fn check(&self) -> Result<(), SpecError> {
        if self.encrypted_data.is_empty() && self.vault.is_none() {
            return Err(SpecError::Nothing);
        }
        if !self.encrypted_data.is_empty() || self.sealed_for.is_some() {
            let sealed_for = self.binding()?;
            let target = self.target.as_ref().and_then(|target| target.name.as_deref());
            if target.is_some() && sealed_for.name().is_some() && target != sealed_for.name() {
                return Err(SpecError::TargetName);
            }
        }
        let fetched = self.vault.iter().flat_map(|vault| &vault.data);
        match fetched.map(|data| &data.key).find(|key| self.encrypted_data.contains_key(*key)) {
            Some(key) => Err(SpecError::KeyTwice(key.clone())),
            None => Ok(()),
        }
    }

    /// What is bound into every value of this object.
    ///
    /// # Errors
    ///
    /// When `sealedFor` is absent, empty where only absence means any, or holds what Kubernetes would refuse.
    pub fn binding(&self) -> Result<SealedFor, SpecError> {
        self.sealed_for.as_ref().ok_or(SpecError::NoSealedFor)?.binding()
    }

    /// What becomes of the Secret when the object is deleted.
    pub fn deletion_policy(&self) -> DeletionPolicy {
        self.target.as_ref().and_then(|target| target.deletion_policy).unwrap_or_default()
    }
}

impl SealedForSpec {
    /// What is bound into a value that is sealed for this.
    ///
    /// # Errors
    ///
    /// As [`SealedSecretSpec::binding`].
    pub fn binding(&self) -> Result<SealedFor, SpecError> {
        if self.namespaces.as_ref().is_some_and(Vec::is_empty) {
            return Err(SpecError::NoNamespaces);
        }
        Ok(SealedFor::new(self.name.as_deref(), self.namespaces.iter().flatten())?)
    }
}

impl From<&SealedFor> for SealedForSpec {
    fn from(sealed_for: &SealedFor) -> Self {
        let namespaces = sealed_for.namespaces();
        Self {
            name: sealed_for.name().map(str::to_owned),
            namespaces: (!namespaces.is_empty()).then(|| namespaces.to_vec()),
        }
    }
}

impl VaultSource {
    /// How often to fetch; `None` means only on change.
    pub fn refresh_interval(&self) -> Option<Duration> {
        positive_or(&self.refresh_interval, Duration::from_secs(3600))
    }

    /// The age of the last successful fetch at which Ready turns False; `None` means never.
    pub fn stale_after(&self) -> Option<Duration> {
        positive_or(&self.stale_after, Duration::from_secs(24 * 3600))
    }
}

/// The documented default for an absent period, and nothing for zero.
fn positive_or(period: &Option<Period>, default: Duration) -> Option<Duration> {
    let duration = period.as_ref().map_or(default, Period::duration);
    (!duration.is_zero()).then_some(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed_secret(spec: &str) -> SealedSecret {
        let manifest = format!("{{metadata: {{name: own, namespace: shop}}, spec: {spec}}}");
        let manifest: serde_json::Value = serde_yaml::from_str(&manifest).unwrap();
        SealedSecret { spec: serde_json::from_value(manifest["spec"].clone()).unwrap(), ..named("own", "shop") }
    }

    fn named(name: &str, namespace: &str) -> SealedSecret {
        let mut object = SealedSecret::new(name, SealedSecretSpec::default());
        object.metadata.namespace = Some(namespace.to_owned());
        object
    }

    #[test]
    fn the_secret_is_named_by_target_then_sealed_for_then_the_object() {
        for (spec, name) in [
            ("{}", "own"),
            ("{sealedFor: {}}", "own"),
            ("{sealedFor: {name: bound}}", "bound"),
            ("{target: {name: aim}}", "aim"),
            ("{target: {name: aim}, sealedFor: {}}", "aim"),
            ("{target: {deletionPolicy: Retain}, sealedFor: {name: bound}}", "bound"),
        ] {
            assert_eq!(sealed_secret(spec).place().unwrap(), Place::new("shop", name).unwrap(), "{spec}");
        }
    }

    #[test]
    fn contradictions_are_named() {
        let vault = "vault: {storeRef: {name: main}, data: [{key: a, mount: kv, path: p, field: f}]}";
        for (spec, error) in [
            ("{}".into(), SpecError::Nothing),
            ("{sealedFor: {}}".into(), SpecError::Nothing),
            ("{encryptedData: {a: seal1.x}}".into(), SpecError::NoSealedFor),
            ("{sealedFor: {namespaces: []}, encryptedData: {a: seal1.x}}".into(), SpecError::NoNamespaces),
            ("{sealedFor: {name: ''}, encryptedData: {a: seal1.x}}".into(), SpecError::Binding(BindingError::Name)),
            (
                "{sealedFor: {name: db}, target: {name: other}, encryptedData: {a: seal1.x}}".into(),
                SpecError::TargetName,
            ),
            (format!("{{sealedFor: {{}}, encryptedData: {{a: seal1.x}}, {vault}}}"), SpecError::KeyTwice("a".into())),
        ] {
            assert_eq!(sealed_secret(&spec).spec.check(), Err(error), "{spec}");
        }
        for spec in [
            "{sealedFor: {}, encryptedData: {b: seal1.x}}".into(),
            "{sealedFor: {name: db}, target: {name: db}, encryptedData: {b: seal1.x}}".into(),
            format!("{{{vault}}}"),
            format!("{{sealedFor: {{}}, encryptedData: {{b: seal1.x}}, {vault}}}"),
        ] {
            assert_eq!(sealed_secret(&spec).spec.check(), Ok(()), "{spec}");
        }
    }

    #[test]
    fn null_never_means_any() {
        for part in ["{name: null}", "{namespaces: null}"] {
            assert!(serde_yaml::from_str::<SealedForSpec>(part).is_err(), "{part}");
        }
    }

    #[test]
    fn a_null_in_a_template_survives_reading_and_writing() {
        let template: Template = serde_yaml::from_str("data: {user: null, url: '{{ .user }}'}").unwrap();
        assert_eq!(template.data["user"], None);
        assert_eq!(serde_json::to_value(&template).unwrap()["data"]["user"], serde_json::Value::Null);
    }

    #[test]
    fn an_absent_period_means_its_documented_default_and_zero_means_never() {
        let mut vault: VaultSource = serde_yaml::from_str("storeRef: {name: main}").unwrap();
        assert_eq!(vault.refresh_interval(), Some(Duration::from_secs(3600)));
        assert_eq!(vault.stale_after(), Some(Duration::from_secs(86_400)));
        vault.refresh_interval = Some("0".parse().unwrap());
        vault.stale_after = Some("90m".parse().unwrap());
        assert_eq!(vault.refresh_interval(), None);
        assert_eq!(vault.stale_after(), Some(Duration::from_secs(5400)));
    }
}
