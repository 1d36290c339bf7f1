//! The controller's own identity: the private key that opens the wraps of every ring it is a member of.
//!
//! Secret `identity-<n>` -> [`ClusterIdentity`]; [`new_secret`] makes the first one, [`published`] says which
//! recipient laptops and other rings should use.
//!
//! Each identity stands in a Secret of type `sealwright.dev/identity` in the controller's namespace. Several may exist
//! (restored from a backup, renewed): all of them open, the one with the highest number is published.

use std::collections::BTreeMap;

use k8s_openapi::{
    ByteString,
    api::core::v1::{ConfigMap, Secret},
};
use kube::core::ObjectMeta;
use seal_crds::{CLUSTER_CONFIG_MAP, IDENTITY_SECRET_PREFIX, IDENTITY_SECRET_TYPE};
use seal_envelope::{Identity, KeyError};
use thiserror::Error;

/// The key of the Secret's data that holds the identity, as an age identity file.
pub const IDENTITY_KEY: &str = "identity";
/// The key of the published ConfigMap that holds the recipient.
pub const RECIPIENT_KEY: &str = "recipient";

/// One identity of this controller.
#[derive(Clone)]
pub struct ClusterIdentity {
    /// `n` of `identity-<n>`.
    pub number: u32,
    /// The private key.
    pub identity: Identity,
}

/// A Secret that looks like an identity and is none. Never quotes what it holds.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum IdentityError {
    /// Its name is not `identity-<n>`.
    #[error("its name is not {IDENTITY_SECRET_PREFIX}<number>")]
    Name,
    /// It has no key `identity`.
    #[error("it has no key `{IDENTITY_KEY}`")]
    Absent,
    /// The text is no identity file.
    #[error("line {line} of its key `{IDENTITY_KEY}` is no post-quantum age identity")]
    Text {
        /// Counted from 1; 0 where there is no identity at all.
        line: usize,
        /// Why not.
        source: KeyError,
    },
    /// More than one identity.
    #[error("its key `{IDENTITY_KEY}` holds more than one identity")]
    Several,
}

/// Reads an identity out of its Secret.
pub fn read(secret: &Secret) -> Result<ClusterIdentity, IdentityError> {
    let number = secret.metadata.name.as_deref().and_then(number).ok_or(IdentityError::Name)?;
    let data = secret.data.as_ref().and_then(|data| data.get(IDENTITY_KEY)).ok_or(IdentityError::Absent)?;
    let text = std::str::from_utf8(&data.0).map_err(|_| IdentityError::Text { line: 1, source: KeyError::Damaged })?;
    let mut identities = Identity::parse_file(text).map_err(|(line, source)| IdentityError::Text { line, source })?;
    match (identities.pop(), identities.is_empty()) {
        (Some(identity), true) => Ok(ClusterIdentity { number, identity }),
        _ => Err(IdentityError::Several),
    }
}

/// `n` of `identity-<n>`, in its one spelling.
pub fn number(name: &str) -> Option<u32> {
    let digits = name.strip_prefix(IDENTITY_SECRET_PREFIX)?;
    let number = digits.parse().ok()?;
    (number > 0 && digits == u32::to_string(&number)).then_some(number)
}

/// The Secret that holds a new identity.
///
/// Immutable, because nothing ever changes an identity: a new one gets a new number. To be wiped after use.
pub fn new_secret(namespace: &str, number: u32, identity: &Identity) -> Secret {
    let line = identity.to_secret_string();
    // Sized at once: a growing buffer would leave a copy behind.
    let mut text = Vec::with_capacity(line.len() + 1);
    text.extend_from_slice(line.as_bytes());
    text.push(b'\n');
    Secret {
        metadata: ObjectMeta {
            name: Some(format!("{IDENTITY_SECRET_PREFIX}{number}")),
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        type_: Some(IDENTITY_SECRET_TYPE.to_owned()),
        immutable: Some(true),
        data: Some(BTreeMap::from([(IDENTITY_KEY.to_owned(), ByteString(text))])),
        ..Secret::default()
    }
}

/// The identity that is published: the one with the highest number.
pub fn published(identities: &[ClusterIdentity]) -> Option<&ClusterIdentity> {
    identities.iter().max_by_key(|identity| identity.number)
}

/// The ConfigMap that tells everybody this cluster's recipient.
pub fn cluster_config_map(namespace: &str, identity: &ClusterIdentity) -> ConfigMap {
    let recipient = identity.identity.recipient().to_string();
    ConfigMap {
        metadata: ObjectMeta {
            name: Some(CLUSTER_CONFIG_MAP.to_owned()),
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([(RECIPIENT_KEY.to_owned(), recipient)])),
        ..ConfigMap::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(name: &str, text: &str) -> Secret {
        let mut secret = new_secret("sealwright-system", 1, &Identity::generate().unwrap());
        secret.metadata.name = Some(name.to_owned());
        secret.data = Some(BTreeMap::from([(IDENTITY_KEY.to_owned(), ByteString(text.as_bytes().to_vec()))]));
        secret
    }

    #[test]
    fn a_new_identity_reads_back() {
        let identity = Identity::generate().unwrap();
        let read = read(&new_secret("sealwright-system", 3, &identity)).unwrap();
        assert_eq!((read.number, read.identity.recipient()), (3, identity.recipient()));
    }

    #[test]
    fn an_identity_file_with_comments_is_taken() {
        let text = Identity::generate().unwrap().to_secret_string();
        assert!(read(&secret("identity-12", &format!("# created: today\n\n{}\n", *text))).is_ok());
    }

    #[test]
    fn what_is_no_identity_is_named_and_not_quoted() {
        let text = Identity::generate().unwrap().to_secret_string();
        for name in ["identity-", "identity-0", "identity-01", "identity-x", "other-1", "identity--1", "identity-+1"] {
            assert_eq!(read(&secret(name, &text)).err(), Some(IdentityError::Name), "{name}");
        }
        let two = format!("{}\n{}", *text, *text);
        assert_eq!(read(&secret("identity-1", &two)).err(), Some(IdentityError::Several));
        let error = read(&secret("identity-1", "hunter2")).err().unwrap();
        assert!(matches!(error, IdentityError::Text { line: 1, .. }));
        assert!(!format!("{error} {error:?}").contains("hunter2"));
    }

    #[test]
    fn the_highest_number_is_published() {
        let identities: Vec<_> = [2, 10, 9]
            .map(|number| ClusterIdentity { number, identity: Identity::generate().unwrap() })
            .into_iter()
            .collect();
        assert_eq!(published(&identities).unwrap().number, 10);
        assert!(published(&[]).is_none());
    }
}
