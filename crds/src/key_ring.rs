//! KeyRing: the keys that laptops seal to, and their private halves wrapped for each member.

use std::collections::BTreeMap;

use base64::{Engine, prelude::BASE64_STANDARD};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, KubeSchema};
use seal_envelope::{KeyError, PROOF, Proof, Recipient, Ring, RingError};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::schema;

/// Who can open, and with which keys.
#[derive(CustomResource, KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq)]
#[kube(
    group = "sealwright.dev",
    version = "v1alpha1",
    kind = "KeyRing",
    namespaced,
    category = "sealwright",
    doc = "A KeyRing holds the keys that values are sealed to, each wrapped for every member. It is honoured in the controller's namespace only. `seal ring` writes it.",
    status = "KeyRingStatus",
    derive = "PartialEq",
    validation = Rule::new("self.metadata.name.size() <= 63 && !self.metadata.name.contains('.')")
        .message("a ring's name has at most 63 characters and no dot"),
    printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#),
    printcolumn(name = "Reason", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].reason"#),
    printcolumn(
        name = "Recoverable",
        type_ = "string",
        json_path = r#".status.conditions[?(@.type=="Recoverable")].status"#
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
    validation = Rule::new("self.keys.all(k, k.wraps.size() == self.members.size() && self.members.all(m, m.name in k.wraps))")
        .message("every key is wrapped for exactly the members listed"),
    validation = Rule::new("self.members.all(m, !self.keys.exists(k, k.recipient == m.recipient))")
        .message("a member is itself a key of this ring"),
)]
pub struct KeyRingSpec {
    /// Who can open everything that is sealed to this ring: clusters, and people who keep an identity offline.
    #[schemars(length(min = 1, max = seal_envelope::MAX_MEMBERS))]
    #[x_kube(
        merge_strategy = ListMerge::Atomic,
        validation = Rule::new("self.all(m, self.exists_one(n, n.name == m.name))").message("two members have one name"),
        validation = Rule::new("self.all(m, self.exists_one(n, n.recipient == m.recipient))").message("two members have one recipient"),
    )]
    pub members: Vec<Member>,

    /// The keys, oldest first. The last one seals, all of them open. Keys are only ever appended.
    #[schemars(length(min = 1, max = seal_envelope::MAX_KEYS))]
    #[x_kube(
        merge_strategy = ListMerge::Atomic,
        validation = Rule::new("self.all(k, self.exists_one(j, j.recipient == k.recipient))").message("a key stands in the ring twice"),
        validation = Rule::new("self.size() >= oldSelf.size() && oldSelf.all(i, old, self[i].recipient == old.recipient && self[i].created == old.created)")
            .message("keys are append-only: none is removed, changed or moved"),
        validation = Rule::new("oldSelf.all(i, old, !has(old.disabled) || !old.disabled || (i < self.size() && has(self[i].disabled) && self[i].disabled))")
            .message("a disabled key stays disabled"),
    )]
    pub keys: Vec<RingKey>,

    /// Made by someone who can open the ring, over its members and keys: keys that it does not cover open nothing.
    #[schemars(length(equal = 44), regex(pattern = "^[A-Za-z0-9+/]{43}=$"))]
    pub proof: String,
}

/// Somebody who can open everything that is sealed to the ring.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct Member {
    /// What the ring calls it, such as `prod-eu` or `recovery`.
    #[schemars(length(min = 1, max = 63), regex(pattern = schema::LABEL))]
    pub name: String,

    /// The member's hybrid age recipient, `age1pq1...`.
    #[schemars(length(equal = 1959), regex(pattern = schema::RECIPIENT))]
    pub recipient: String,
}

/// One key of the ring.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RingKey {
    /// The public half, `age1pq1...`: what laptops seal to.
    #[schemars(length(equal = 1959), regex(pattern = schema::RECIPIENT))]
    pub recipient: String,

    /// When the key was made. Information only.
    #[schemars(schema_with = "schema::time")]
    pub created: Time,

    /// The private half, by member: an ordinary age file in base64. `age -d` opens it with the member's identity.
    #[schemars(schema_with = "schema::wraps")]
    pub wraps: BTreeMap<String, String>,

    /// Whether the key no longer opens. Never set back. Absent means false.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
}

/// What the controller makes of the ring.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct KeyRingStatus {
    /// The metadata.generation that this status speaks of; -1 before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,

    /// Ready, Stalled and Recoverable.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::conditions")]
    pub conditions: Vec<Condition>,

    /// The keys as this cluster sees them, in the order of the spec.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = seal_envelope::MAX_KEYS))]
    #[x_kube(merge_strategy = ListMerge::Atomic)]
    pub keys: Vec<RingKeyStatus>,
}

/// One key as this cluster sees it.
#[derive(KubeSchema, Serialize, Deserialize, Clone, Debug, Default, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct RingKeyStatus {
    /// The key's id, as it stands in every value that is sealed to it.
    #[schemars(length(equal = 32), regex(pattern = schema::KEY_ID))]
    pub id: String,

    /// The member whose wrap this cluster opened. Absent: it could not be opened here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub opened_by: Option<String>,

    /// Whether a proof that covers the key has been seen.
    pub proven: bool,
}

/// A ring that contradicts itself. Says where, and never quotes what was there.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyRingError {
    /// A member's recipient is none.
    #[error("member {name} has no usable recipient")]
    Member {
        /// The member.
        name: String,
        /// What is wrong with it.
        source: KeyError,
    },
    /// A key's recipient is none.
    #[error("key {position} has no usable recipient")]
    Key {
        /// The key, counted from 1.
        position: usize,
        /// What is wrong with it.
        source: KeyError,
    },
    /// A key is wrapped for somebody else than the members.
    #[error("key {position} is not wrapped for exactly the members listed")]
    Wraps {
        /// The key, counted from 1.
        position: usize,
    },
    /// Names, counts or repetitions.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// The proof is not 32 bytes in base64.
    #[error("the proof is not 32 bytes in base64")]
    Proof,
}

/// A wrap is not in standard base64.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the wrap is not in base64")]
pub struct NotBase64;

impl KeyRing {
    /// The public part of the ring: what its proof covers.
    ///
    /// # Errors
    ///
    /// Whatever makes the ring unusable besides its proof and the content of its wraps.
    pub fn ring(&self) -> Result<Ring, KeyRingError> {
        self.spec.ring(self.metadata.name.as_deref().unwrap_or_default())
    }
}

impl KeyRingSpec {
    /// As [`KeyRing::ring`], for a spec whose object is called `name`.
    ///
    /// # Errors
    ///
    /// See there.
    pub fn ring(&self, name: &str) -> Result<Ring, KeyRingError> {
        let mut members = Vec::new();
        for Member { name, recipient } in &self.members {
            let recipient = recipient.parse().map_err(|source| KeyRingError::Member { name: name.clone(), source })?;
            members.push(seal_envelope::Member { name: name.clone(), recipient });
        }
        let mut keys = Vec::new();
        for (key, position) in self.keys.iter().zip(1..) {
            keys.push(key.recipient.parse().map_err(|source| KeyRingError::Key { position, source })?);
            let listed = self.members.iter().all(|member| key.wraps.contains_key(&member.name));
            if !listed || key.wraps.len() != self.members.len() {
                return Err(KeyRingError::Wraps { position });
            }
        }
        Ok(Ring::new(name, members, keys)?)
    }

    /// The proof, still to be verified.
    ///
    /// # Errors
    ///
    /// [`KeyRingError::Proof`] when it is none.
    pub fn proof(&self) -> Result<Proof, KeyRingError> {
        let bytes = BASE64_STANDARD.decode(&self.proof).map_err(|_| KeyRingError::Proof)?;
        Ok(Proof(<[u8; PROOF]>::try_from(bytes).map_err(|_| KeyRingError::Proof)?))
    }

    /// Puts a new proof into the manifest.
    pub fn set_proof(&mut self, proof: &Proof) {
        self.proof = BASE64_STANDARD.encode(proof.0);
    }

    /// The key that laptops seal to: the last one.
    pub fn sealing_key(&self) -> Option<&RingKey> {
        self.keys.last()
    }
}

impl Member {
    /// The member's recipient.
    ///
    /// # Errors
    ///
    /// When it is not a usable one.
    pub fn recipient(&self) -> Result<Recipient, KeyError> {
        self.recipient.parse()
    }
}

impl RingKey {
    /// The public half.
    ///
    /// # Errors
    ///
    /// When it is not a usable one.
    pub fn recipient(&self) -> Result<Recipient, KeyError> {
        self.recipient.parse()
    }

    /// Whether the key no longer opens.
    pub fn is_disabled(&self) -> bool {
        self.disabled.unwrap_or_default()
    }

    /// The age file that holds the private half for `member`, if there is one.
    ///
    /// # Errors
    ///
    /// When it is not in base64.
    pub fn wrap(&self, member: &str) -> Result<Option<Vec<u8>>, NotBase64> {
        self.wraps.get(member).map(|wrap| BASE64_STANDARD.decode(wrap).map_err(|_| NotBase64)).transpose()
    }

    /// Puts an age file into the manifest as the wrap for `member`.
    pub fn set_wrap(&mut self, member: &str, wrap: &[u8]) {
        self.wraps.insert(member.to_owned(), BASE64_STANDARD.encode(wrap));
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::jiff::Timestamp;
    use seal_envelope::Identity;

    use super::*;

    /// A ring with one key, and the identity of its only member.
    fn ring() -> (KeyRing, Identity) {
        let member = Identity::generate().unwrap();
        let private = seal_envelope::RingKey::generate().unwrap();
        let mut key = RingKey {
            recipient: private.recipient().to_string(),
            created: Time(Timestamp::UNIX_EPOCH),
            wraps: BTreeMap::new(),
            disabled: None,
        };
        key.set_wrap("prod", &private.wrap(member.recipient()).unwrap());
        let members = vec![Member { name: "prod".into(), recipient: member.recipient().to_string() }];
        let mut ring = KeyRing::new("main", KeyRingSpec { members, keys: vec![key], proof: String::new() });
        let proof = ring.ring().unwrap().prove([&private]).unwrap();
        ring.spec.set_proof(&proof);
        (ring, member)
    }

    #[test]
    fn a_ring_survives_its_manifest_and_its_member_opens_it() {
        let (ring, member) = ring();
        let manifest = serde_yaml::to_string(&ring).unwrap();
        let read: KeyRing = serde_yaml::from_str(&manifest).unwrap();
        assert_eq!(read, ring);

        let key = read.spec.sealing_key().unwrap();
        let wrap = key.wrap("prod").unwrap().unwrap();
        let opened = seal_envelope::RingKey::unwrap(&wrap, &member, &key.recipient().unwrap()).unwrap();
        read.ring().unwrap().verify([&opened], &read.spec.proof().unwrap()).unwrap();
    }

    #[test]
    fn a_wrap_too_few_or_too_many_is_refused() {
        let (ring, _) = ring();
        for wraps in [vec![], vec!["prod", "stranger"], vec!["stranger"]] {
            let mut ring = ring.clone();
            ring.spec.keys[0].wraps = wraps.into_iter().map(|name| (name.to_owned(), "AAAA".to_owned())).collect();
            assert_eq!(ring.ring(), Err(KeyRingError::Wraps { position: 1 }));
        }
    }

    #[test]
    fn what_is_no_recipient_is_named_and_not_quoted() {
        let (mut ring, member) = ring();
        ring.spec.members[0].recipient = member.to_secret_string().to_string();
        let error = ring.ring().unwrap_err();
        assert_eq!(error, KeyRingError::Member { name: "prod".into(), source: KeyError::PrivateKey });
        assert!(!format!("{error:?}").contains("AGE-SECRET-KEY"));
    }

    #[test]
    fn what_is_no_proof_is_refused() {
        let (mut ring, _) = ring();
        for proof in ["", "AAAA", "not base64", &"A".repeat(44)] {
            ring.spec.proof = proof.to_owned();
            assert_eq!(ring.spec.proof(), Err(KeyRingError::Proof), "{proof:?}");
        }
    }
}
