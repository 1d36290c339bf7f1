//! VaultStore: where a Vault or OpenBao server is, how to log in, and who may read what through it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use crate::{Period, schema};

/// The server, the login, and who may use them.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "sealwright.dev",
    version = "v1alpha1",
    kind = "VaultStore",
    namespaced,
    category = "sealwright",
    doc = "A VaultStore says where a Vault or OpenBao server is and how SealedSecrets log in to it. The identity is always the reading namespace's, never the controller's.",
    status = "VaultStoreStatus",
    derive = "PartialEq",
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(name = "Address", type_ = "string", json_path = ".spec.address", priority = 1),
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
    validation = Rule::new("self.address.startsWith('https://') || (has(self.tls) && has(self.tls.allowPlaintext) && self.tls.allowPlaintext)")
        .message("address must be https, unless tls.allowPlaintext is true"),
)]
pub struct VaultStoreSpec {
    /// The server: scheme, host and, if need be, port, such as `https://vault.example:8200`.
    #[schemars(
        length(min = 8, max = 512),
        regex(pattern = r"^https?://([-.A-Za-z0-9]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?/?$")
    )]
    pub address: String,

    /// The Vault namespace that holds the data. Absent means the root namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), regex(pattern = schema::VAULT_PATH))]
    #[x_kube(
        validation = Rule::new("self.split('/').all(s, s != '' && s != '.' && s != '..')").message("a namespace has no empty, `.` or `..` part"),
    )]
    pub namespace: Option<String>,

    /// How the server's certificate is verified. Absent means by the system's roots, of which the image has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<StoreTls>,

    /// How to log in: exactly one method.
    pub auth: StoreAuth,

    /// The namespaces whose SealedSecrets may use this store, besides its own. Absent means none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_namespaces: Option<AllowedNamespaces>,

    /// The paths that may be read, each with its mount: `kv/app/db`, or with a last part `*` for everything below:
    /// `kv/{namespace}/*`. `{namespace}` is the reading namespace. Checked before any request. Absent means every
    /// path.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 512), regex(pattern = schema::VAULT_PATH)))]
    #[x_kube(
        merge_strategy = ListMerge::Atomic,
        validation = Rule::new("self.all(p, p.split('/').all(s, s != '' && s != '.' && s != '..'))").message("a path has no empty, `.` or `..` part"),
        validation = Rule::new("self.all(p, !p.contains('*') || (p.endsWith('/*') && p.indexOf('*') == p.size() - 1))").message("`*` stands alone, as the last part of a path"),
    )]
    pub allowed_paths: Vec<String>,

    /// How much is asked of the server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limits: Option<StoreLimits>,
}

/// How the server's certificate is verified.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!has(self.caBundle) || !has(self.caFrom)").message("give caBundle or caFrom, not both"),
    validation = Rule::new("!has(self.insecureSkipVerify) || !self.insecureSkipVerify || (!has(self.caBundle) && !has(self.caFrom))")
        .message("with insecureSkipVerify a CA means nothing"),
)]
pub struct StoreTls {
    /// Certificates of the CAs to trust, in PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 262_144))]
    pub ca_bundle: Option<String>,

    /// Where the certificates of the CAs are kept, in the store's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_from: Option<CaSource>,

    /// The name that the certificate must have. Absent means the host of the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub server_name: Option<String>,

    /// Accept any certificate: anyone on the way can read tokens and secrets. For tests. Absent means false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub insecure_skip_verify: Option<bool>,

    /// Allow an address with `http://`: anyone on the way can read tokens and secrets. For tests. Absent means
    /// false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow_plaintext: Option<bool>,
}

/// One key of a ConfigMap or Secret that holds certificates in PEM.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct CaSource {
    /// ConfigMap or Secret.
    pub kind: CaKind,

    /// The object's name.
    #[schemars(length(min = 1, max = 253), regex(pattern = schema::SUBDOMAIN))]
    pub name: String,

    /// The key.
    #[schemars(length(min = 1, max = 253), regex(pattern = schema::DATA_KEY))]
    pub key: String,
}

/// What holds the certificates.
#[derive(schemars::JsonSchema, Serialize, Deserialize, Clone, Copy, Debug, PartialEq, Eq)]
#[schemars(inline)]
pub enum CaKind {
    /// A ConfigMap.
    ConfigMap,
    /// A Secret.
    Secret,
}

/// How to log in: exactly one method.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("[has(self.kubernetes), has(self.jwt), has(self.appRole), has(self.token)].filter(x, x).size() == 1")
        .message("give exactly one of kubernetes, jwt, appRole and token"),
)]
pub struct StoreAuth {
    /// The Vault namespace to log in to. Absent means that of the data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), regex(pattern = schema::VAULT_PATH))]
    #[x_kube(
        validation = Rule::new("self.split('/').all(s, s != '' && s != '.' && s != '..')").message("a namespace has no empty, `.` or `..` part"),
    )]
    pub namespace: Option<String>,

    /// With a token of a ServiceAccount, which Vault has the API server review.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<KubernetesAuth>,

    /// With a signed token, which Vault verifies by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwt: Option<JwtAuth>,

    /// With a role id and a secret id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_role: Option<AppRoleAuth>,

    /// With a Vault token that somebody put into a Secret. For emergencies and tests.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<TokenAuth>,
}

/// Login with a token of a ServiceAccount, which Vault has the API server review.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct KubernetesAuth {
    /// Where the auth method is mounted. Absent means `kubernetes`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), regex(pattern = schema::VAULT_PATH))]
    #[x_kube(
        validation = Rule::new("self.split('/').all(s, s != '' && s != '.' && s != '..')").message("a mount has no empty, `.` or `..` part"),
    )]
    pub mount: Option<String>,

    /// The role in Vault. `{namespace}` is the reading namespace.
    #[schemars(length(min = 1, max = 256))]
    pub role: String,

    /// The ServiceAccount, in the reading namespace, whose token is used.
    #[schemars(length(min = 1, max = 253), regex(pattern = schema::SUBDOMAIN))]
    pub service_account: String,

    /// The audiences of the token. Those of the API server need a flag of the controller. Absent means `vault`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(min = 1, max = 256)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub audiences: Vec<String>,
}

/// Login with a signed token, which Vault verifies by itself.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("has(self.serviceAccount) != has(self.secretRef)").message("give serviceAccount or secretRef"),
    validation = Rule::new("!has(self.audiences) || self.audiences.size() == 0 || has(self.serviceAccount)").message("audiences belong to a serviceAccount"),
)]
pub struct JwtAuth {
    /// Where the auth method is mounted. Absent means `jwt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), regex(pattern = schema::VAULT_PATH))]
    #[x_kube(
        validation = Rule::new("self.split('/').all(s, s != '' && s != '.' && s != '..')").message("a mount has no empty, `.` or `..` part"),
    )]
    pub mount: Option<String>,

    /// The role in Vault. `{namespace}` is the reading namespace.
    #[schemars(length(min = 1, max = 256))]
    pub role: String,

    /// The ServiceAccount, in the reading namespace, whose token is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253), regex(pattern = schema::SUBDOMAIN))]
    pub service_account: Option<String>,

    /// The audiences of the token. Those of the API server need a flag of the controller. Absent means `vault`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), inner(length(min = 1, max = 256)))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub audiences: Vec<String>,

    /// A token that somebody put into a Secret of the reading namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<CredentialRef>,
}

/// Login with a role id and a secret id.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct AppRoleAuth {
    /// Where the auth method is mounted. Absent means `approle`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256), regex(pattern = schema::VAULT_PATH))]
    #[x_kube(
        validation = Rule::new("self.split('/').all(s, s != '' && s != '.' && s != '..')").message("a mount has no empty, `.` or `..` part"),
    )]
    pub mount: Option<String>,

    /// The role id. `{namespace}` is the reading namespace.
    #[schemars(length(min = 1, max = 256))]
    pub role_id: String,

    /// The secret id, in a Secret of the reading namespace.
    pub secret_id_ref: CredentialRef,
}

/// Login with a Vault token that somebody put into a Secret.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct TokenAuth {
    /// The token, in a Secret of the reading namespace.
    pub secret_ref: CredentialRef,
}

/// One key of a Secret in the reading namespace. The Secret must carry the label `sealwright.dev/vault-auth: "true"`.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct CredentialRef {
    /// The Secret's name.
    #[schemars(length(min = 1, max = 253), regex(pattern = schema::SUBDOMAIN))]
    pub name: String,

    /// The key.
    #[schemars(length(min = 1, max = 253), regex(pattern = schema::DATA_KEY))]
    pub key: String,
}

/// The namespaces whose SealedSecrets may use a store: those named, and those that the selector selects.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("(has(self.names) && self.names.size() > 0) || has(self.selector)")
        .message("give names, selector, or both; leave allowedNamespaces out for the store's own namespace only"),
)]
pub struct AllowedNamespaces {
    /// Namespaces by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1024), inner(length(min = 1, max = 63), regex(pattern = schema::LABEL)))]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub names: Vec<String>,

    /// Namespaces by their labels. An empty selector selects every namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::label_selector")]
    pub selector: Option<NamespaceSelector>,
}

/// A label selector.
pub type NamespaceSelector = k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// How much is asked of the server.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct StoreLimits {
    /// Requests a second, 1 to 1000. Absent means 20.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub requests_per_second: Option<i32>,

    /// Requests under way at once, 1 to 256. Absent means 8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 256))]
    pub max_in_flight: Option<i32>,

    /// How long one request may take, `1s` to `5m`. Absent means `10s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[x_kube(
        validation = Rule::new("duration(self) >= duration('1s') && duration(self) <= duration('5m')").message("requestTimeout is 1s to 5m"),
    )]
    pub request_timeout: Option<Period>,
}

/// What the controller knows of the server.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct VaultStoreStatus {
    /// The metadata.generation that this status speaks of; -1 before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// Ready, Stalled and Reconciling.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,
}
