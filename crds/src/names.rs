//! Names that both programs, the chart and users' manifests agree on.

/// The API group of all our kinds.
pub const API_GROUP: &str = "sealwright.dev";

/// The one served version of all our kinds.
pub const API_VERSION: &str = "v1alpha1";

/// Label on every Secret that we own: 32 hex digits of SHA-256 over `<kind>/<name>`.
///
/// A digest, because names may exceed a label value's 63 characters. It selects; it proves nothing: see
/// [`OWNER_ANNOTATION`].
pub const OWNER_LABEL: &str = "sealwright.dev/owner";

/// Annotation on every Secret that we own: `<kind>/<name>` of the object that makes it.
pub const OWNER_ANNOTATION: &str = "sealwright.dev/owner";

/// Annotation on a foreign Secret: the name of the SealedSecret that may take it over.
pub const ADOPT_BY_ANNOTATION: &str = "sealwright.dev/adopt-by";

/// Annotation on a SealedSecret: any new value fetches its Vault references at once.
pub const REFRESH_ANNOTATION: &str = "sealwright.dev/refresh";

/// Label that a Secret must carry (with the value `"true"`) before a VaultStore may use it as a credential.
///
/// Without it, whoever writes a store could have any Secret of the namespace sent to an address of their choice.
pub const VAULT_AUTH_LABEL: &str = "sealwright.dev/vault-auth";

/// Annotation on our CRDs: the number of the schema that they carry, see [`SCHEMA`].
pub const SCHEMA_ANNOTATION: &str = "sealwright.dev/schema";

/// The number of this schema. It rises with every field that is added.
///
/// An API server prunes fields that its CRD does not know, also on a status write, and for good. So the controller
/// writes nothing while the CRD in the cluster carries a lower number than this.
pub const SCHEMA: u32 = 1;

/// The field manager of every server-side apply of the controller.
pub const FIELD_MANAGER: &str = "seal-controller";

/// The type of the Secrets that hold a controller's own identity.
pub const IDENTITY_SECRET_TYPE: &str = "sealwright.dev/identity";

/// The names of identity Secrets begin with this; a number follows.
pub const IDENTITY_SECRET_PREFIX: &str = "identity-";

/// The ConfigMap, in the controller's namespace, that publishes the cluster's recipient.
pub const CLUSTER_CONFIG_MAP: &str = "sealwright-cluster";
