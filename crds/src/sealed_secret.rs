//! SealedSecret: sealed values and Vault references in, one Secret out.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

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
    #[schemars(length(min = 1, max = 64), inner(length(min = 1, max = 63), regex(pattern = schema::LABEL)))]
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
    T::deserialize(deserializer).map(Some)
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
    #[x_kube(
        validation = Rule::new("!(self in ['kubernetes.io/service-account-token', 'bootstrap.kubernetes.io/token']) && !self.startsWith('sealwright.dev/')")
            .message("a Secret of this type would be a credential of the cluster or of the controller"),
    )]
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

    /// A hash of what the Secret depends on besides the spec: the renderer's version and annotations. No secret is
    /// in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub inputs: Option<String>,
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

    /// What becomes of the Secret when this object is deleted.
    pub fn deletion_policy(&self) -> DeletionPolicy {
        self.spec.target.as_ref().and_then(|target| target.deletion_policy).unwrap_or_default()
    }
}
