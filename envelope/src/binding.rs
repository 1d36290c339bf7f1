//! Where a sealed value belongs, as unambiguous bytes.
//!
//! `SealedFor` (a Secret's name, its namespaces) + `DataKey` -> `ctx`, the bytes that HPKE binds into every value;
//! `SealedFor` + [`Place`] -> may this value be opened here at all?
//!
//! This is the single definition of both, used by whoever seals and whoever opens, so that the two cannot disagree.
//!
//! ```text
//! LP(b)  = u32 big-endian length of b, then b
//! ctx    = LP("sealwright.dev/seal1/value")
//!          LP(name)            empty: any name
//!          u32 n               number of namespaces, 0: any namespace
//!          n times LP(namespace), unique, in byte order
//!          LP(data key)
//! ```
//!
//! All fields are always there; there is no other encoding of the same binding, and no two bindings share one.

use std::fmt;

use ring::digest::SHA256;

use crate::{
    encoding::{base32_encode, put, put_count},
    error::BindingError,
};

/// The domain separator of [`SealedFor::ctx`]. A new field in `ctx` means a new domain and a new token version.
const VALUE_DOMAIN: &[u8] = b"sealwright.dev/seal1/value";

/// How many namespaces one value may be sealed for.
pub const MAX_NAMESPACES: usize = 64;

/// For which Secrets values are sealed: a name and a set of namespaces, where an absent part means any.
///
/// This is `spec.sealedFor` of a `SealedSecret`, and it is bound into every value: a value that was sealed for one
/// `SealedFor` opens under no other one, wider or narrower.
///
/// ```
/// use seal_envelope::{Place, SealedFor};
///
/// let strict = SealedFor::new(Some("db"), ["shop"])?;
/// assert!(strict.admits(&Place::new("shop", "db")?).is_ok());
/// assert!(strict.admits(&Place::new("test", "db")?).is_err());
///
/// let anywhere = SealedFor::new(None, [""; 0])?;
/// assert!(anywhere.admits(&Place::new("test", "db")?).is_ok());
/// # Ok::<(), seal_envelope::BindingError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SealedFor {
    name: Option<String>,
    /// Unique and in byte order.
    namespaces: Vec<String>,
}

impl SealedFor {
    /// Binds to `name` (absent: any name) and to `namespaces` (none: any namespace), whatever their order.
    ///
    /// # Errors
    ///
    /// Refuses a name that is no RFC 1123 subdomain of at most 253 characters, a namespace that is no RFC 1123 label
    /// of at most 63, a namespace given twice, and more than [`MAX_NAMESPACES`]. An empty name is refused as well:
    /// only absence means any.
    pub fn new(
        name: Option<&str>,
        namespaces: impl IntoIterator<Item = impl AsRef<str>>,
    ) -> Result<Self, BindingError> {
        let name = name.map(secret_name).transpose()?;
        let mut sorted = Vec::new();
        for namespace in namespaces {
            if sorted.len() == MAX_NAMESPACES {
                return Err(BindingError::TooManyNamespaces);
            }
            sorted.push(self::namespace(namespace.as_ref())?);
        }
        sorted.sort_unstable();
        if sorted.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(BindingError::RepeatedNamespace);
        }
        Ok(Self { name, namespaces: sorted })
    }

    /// The one Secret name, or none for any name.
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The namespaces in byte order; empty means any namespace.
    pub fn namespaces(&self) -> &[String] {
        &self.namespaces
    }

    /// Checks that a Secret at `place` is among those that this binding names.
    ///
    /// # Errors
    ///
    /// Says which part does not fit, without quoting either.
    pub fn admits(&self, place: &Place) -> Result<(), BindingError> {
        if self.name.as_deref().is_some_and(|name| name != place.name) {
            return Err(BindingError::OtherName);
        }
        if !self.namespaces.is_empty() && self.namespaces.binary_search(&place.namespace).is_err() {
            return Err(BindingError::OtherNamespace);
        }
        Ok(())
    }

    /// The tag that a token sealed for this binding and `key` carries, so that a misplaced one is seen offline.
    ///
    /// It is a lint and no security: the binding itself is what HPKE authenticates.
    pub fn tag(&self, key: &DataKey) -> PlaceTag {
        let digest = ring::digest::digest(&SHA256, &self.ctx(key));
        let mut tag = [0; 5];
        tag.copy_from_slice(&digest.as_ref()[..5]);
        PlaceTag(tag)
    }

    /// HPKE's `info`: see the head of this module for its bytes.
    pub fn ctx(&self, key: &DataKey) -> Vec<u8> {
        let mut ctx = Vec::new();
        put(&mut ctx, VALUE_DOMAIN);
        put(&mut ctx, self.name.as_deref().unwrap_or_default().as_bytes());
        put_count(&mut ctx, self.namespaces.len());
        for namespace in &self.namespaces {
            put(&mut ctx, namespace.as_bytes());
        }
        put(&mut ctx, key.0.as_bytes());
        ctx
    }
}

/// One concrete Secret: where a value is about to be opened.
///
/// Nothing in this crate opens a value without one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    namespace: String,
    name: String,
}

impl Place {
    /// Names the Secret `name` in `namespace`.
    ///
    /// # Errors
    ///
    /// Refuses what Kubernetes would refuse as either.
    pub fn new(namespace: &str, name: &str) -> Result<Self, BindingError> {
        Ok(Self { namespace: self::namespace(namespace)?, name: secret_name(name)? })
    }

    /// The Secret's namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The Secret's name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// A key of a Secret's `data`: 1 to 253 of `[-._A-Za-z0-9]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DataKey(String);

impl DataKey {
    /// Takes `key` as it stands.
    ///
    /// # Errors
    ///
    /// Refuses what Kubernetes would refuse as a data key: other characters, `.`, `..` and names beginning with `..`.
    pub fn new(key: &str) -> Result<Self, BindingError> {
        let allowed = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.' | b'_');
        if key.is_empty() || key.len() > 253 || !key.bytes().all(allowed) || key == "." || key.starts_with("..") {
            return Err(BindingError::DataKey);
        }
        Ok(Self(key.to_owned()))
    }

    /// The key as it stands in the Secret.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The first 40 bits of SHA-256 over `ctx`, shown as 8 base32 characters: `place` in a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlaceTag(pub(crate) [u8; 5]);

impl fmt::Display for PlaceTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base32_encode(&self.0))
    }
}

fn secret_name(name: &str) -> Result<String, BindingError> {
    if name.len() > 253 || !name.split('.').all(is_label) {
        return Err(BindingError::Name);
    }
    Ok(name.to_owned())
}

fn namespace(namespace: &str) -> Result<String, BindingError> {
    if namespace.len() > 63 || !is_label(namespace) {
        return Err(BindingError::Namespace);
    }
    Ok(namespace.to_owned())
}

/// RFC 1123 without its length limit: Kubernetes bounds the whole name, not a subdomain's labels.
pub(crate) fn is_label(label: &str) -> bool {
    let alphanumeric = |c: &u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let bytes = label.as_bytes();
    bytes.first().is_some_and(alphanumeric)
        && bytes.last().is_some_and(alphanumeric)
        && bytes.iter().all(|c| alphanumeric(c) || *c == b'-')
}
