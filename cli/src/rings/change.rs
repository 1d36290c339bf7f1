//! Changes of a ring: pure, apart from the randomness of new keys and wraps.
//!
//! [`OpenedRing`] + what is asked -> a new, consistent, proven manifest -> the text of the ring file.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use seal_crds::{
    KeyRing, KeyRingSpec,
    key_ring::{self, KeyRingError},
};
use seal_envelope::{KeyId, Member, RingError, RingKey};
use serde::Deserialize as _;
use serde_yaml::Value;

use crate::{
    config::RingFile,
    error::{Error, Result},
    manifest::text::Text,
};

/// Makes a ring with one new key, wrapped for its members.
pub(crate) fn new_ring(name: &str, namespace: &str, members: &[Member], now: Timestamp) -> Result<KeyRing> {
    let private = generated()?;
    let spec = KeyRingSpec {
        members: members.iter().map(listed_member).collect(),
        keys: vec![wrapped(&private, members, now)?],
        proof: String::new(),
    };
    let mut manifest = KeyRing::new(name, spec);
    manifest.metadata.namespace = Some(namespace.to_owned());
    proven(manifest, &[private])
}

/// A ring, all of its keys, and the member that opened them; its proof was checked.
pub(crate) struct OpenedRing<'a> {
    file: &'a RingFile,
    /// All keys, in the ring's order.
    keys: Vec<RingKey>,
    member: &'a str,
}

impl<'a> OpenedRing<'a> {
    pub(super) fn new(file: &'a RingFile, keys: Vec<RingKey>, member: &'a str) -> Self {
        Self { file, keys, member }
    }

    /// The member that opened the ring.
    pub(crate) fn member(&self) -> &str {
        self.member
    }

    /// Wraps every key for these members, too.
    pub(crate) fn with_members(&self, added: &[Member]) -> Result<KeyRing> {
        for member in added {
            self.refuse_known(member)?;
        }
        let mut manifest = self.file.manifest.clone();
        manifest.spec.members.extend(added.iter().map(listed_member));
        for (listed, private) in manifest.spec.keys.iter_mut().zip(&self.keys) {
            wrap_for(listed, private, added)?;
        }
        proven(manifest, &self.keys)
    }

    fn refuse_known(&self, added: &Member) -> Result<()> {
        let ring = &self.file.ring;
        let is_known = |known: &&Member| known.name == added.name || known.recipient == added.recipient;
        let Some(known) = ring.members().iter().find(is_known) else { return Ok(()) };
        let error = Error::request(format!("the ring `{}` has a member `{}` already", ring.name(), known.name));
        Err(match (known.name == added.name, known.recipient == added.recipient) {
            (true, true) => error.hint("with this very recipient: there is nothing to do"),
            (true, false) => {
                error.hint("with another recipient: give the new member another name, or remove the old one first")
            }
            (false, _) => error.hint(format!("with the recipient of `{}`: one identity is one member", added.name)),
        })
    }

    /// Takes members out, and appends a key that they never see.
    pub(crate) fn without_members(&self, removed: &[String], now: Timestamp) -> Result<KeyRing> {
        let known: Vec<_> = self.file.ring.members().iter().map(|member| member.name.as_str()).collect();
        if let Some(unknown) = removed.iter().find(|name| !known.contains(&name.as_str())) {
            // No guess at a near name: whoever takes it up would remove a member that nobody meant.
            return Err(Error::request(format!("the ring `{}` has no member `{unknown}`", self.file.name()))
                .hint(format!("its members are: {}", known.join(", "))));
        }
        if removed.iter().any(|name| name == self.member) {
            return Err(Error::request(format!("member `{}` cannot remove itself", self.member))
                .hint("whoever makes the new key sees it: use the identity of a member that stays"));
        }
        let mut manifest = self.file.manifest.clone();
        manifest.spec.members.retain(|member| !removed.contains(&member.name));
        for key in &mut manifest.spec.keys {
            key.wraps.retain(|member, _| !removed.contains(member));
        }
        self.rotated_from(manifest, now)
    }

    /// Appends a new key.
    pub(crate) fn rotated(&self, now: Timestamp) -> Result<KeyRing> {
        self.rotated_from(self.file.manifest.clone(), now)
    }

    fn rotated_from(&self, mut manifest: KeyRing, now: Timestamp) -> Result<KeyRing> {
        let private = generated()?;
        let members: Vec<Member> = {
            let stays = |member: &&Member| manifest.spec.members.iter().any(|listed| listed.name == member.name);
            self.file.ring.members().iter().filter(stays).cloned().collect()
        };
        manifest.spec.keys.push(wrapped(&private, &members, now)?);
        let keys: Vec<_> = self.keys.iter().cloned().chain([private]).collect();
        proven(manifest, &keys)
    }

    /// Disables keys.
    pub(crate) fn with_disabled(&self, ids: &[KeyId]) -> Result<KeyRing> {
        if self.keys.last().is_some_and(|last| ids.contains(&last.id())) {
            return Err(Error::request("the ring's last key is the one that seals, and cannot be disabled")
                .hint(format!("rotate first: `seal ring rotate {} -i IDENTITY`", self.file.name())));
        }
        let mut manifest = self.file.manifest.clone();
        for (listed, private) in manifest.spec.keys.iter_mut().zip(&self.keys) {
            if ids.contains(&private.id()) {
                listed.disabled = Some(true);
            }
        }
        proven(manifest, &self.keys)
    }
}

fn generated() -> Result<RingKey> {
    RingKey::generate().map_err(|cause| Error::request("cannot make a key").because(cause))
}

fn listed_member(member: &Member) -> key_ring::Member {
    key_ring::Member { name: member.name.clone(), recipient: member.recipient.to_string() }
}

fn wrapped(private: &RingKey, members: &[Member], now: Timestamp) -> Result<key_ring::RingKey> {
    let mut listed = key_ring::RingKey {
        recipient: private.recipient().to_string(),
        created: Time(now),
        wraps: Default::default(),
        disabled: None,
    };
    wrap_for(&mut listed, private, members)?;
    Ok(listed)
}

fn wrap_for(listed: &mut key_ring::RingKey, private: &RingKey, members: &[Member]) -> Result<()> {
    for member in members {
        let wrap = private.wrap(&member.recipient).map_err(|cause| {
            Error::request(format!("cannot wrap key {} for member `{}`", private.id(), member.name)).because(cause)
        })?;
        listed.set_wrap(&member.name, &wrap);
    }
    Ok(())
}

/// Checks the ring as a whole, and proves it.
fn proven(mut manifest: KeyRing, keys: &[RingKey]) -> Result<KeyRing> {
    let refused = |cause: KeyRingError| {
        let hint = match &cause {
            KeyRingError::Ring(RingError::RepeatedMember) => {
                Some("give the new member a name and an identity of its own, or remove the old one first")
            }
            KeyRingError::Ring(RingError::Name) => {
                Some("names are up to 63 lower-case letters, digits and `-`, and begin and end with a letter or digit")
            }
            _ => None,
        };
        let error = Error::request("the ring would contradict itself").because(cause);
        hint.into_iter().fold(error, Error::hint)
    };
    let ring = manifest.ring().map_err(refused)?;
    let proof = ring.prove(keys).map_err(|cause| Error::bug("the ring's keys cannot prove it").because(cause))?;
    manifest.spec.set_proof(&proof);
    Ok(manifest)
}

/// A ring file after its ring became `manifest`; what the change does not concern stays, encoding and line ends too.
pub(crate) fn rewritten(before: &[u8], manifest: &KeyRing) -> Result<Vec<u8>> {
    let unreadable = |cause| Error::bug("the ring file was read and is no text").because(cause);
    let text = Text::decode(before).map_err(unreadable)?;
    let after = rewritten_text(text.as_str(), manifest)?;
    let has_crlf = text.as_str().contains("\r\n");
    Ok(text.encode_like(&if has_crlf { after.replace('\n', "\r\n") } else { after }))
}

fn rewritten_text(before: &str, manifest: &KeyRing) -> Result<String> {
    let is_head = |line: &&str| line.trim().is_empty() || line.starts_with('#');
    let head: String = before.lines().take_while(is_head).map(|line| format!("{line}\n")).collect();
    let updated = || -> Result<String, serde_yaml::Error> {
        let mut document = Value::deserialize(serde_yaml::Deserializer::from_str(before))?;
        write_into(&mut document, manifest)?;
        serde_yaml::to_string(&document)
    };
    let yaml = updated().map_err(|cause| Error::bug("the ring cannot be written as YAML").because(cause))?;
    Ok(head + &yaml)
}

fn write_into(document: &mut Value, manifest: &KeyRing) -> Result<(), serde_yaml::Error> {
    let spec = &manifest.spec;
    document["spec"]["members"] = serde_yaml::to_value(&spec.members)?;
    document["spec"]["proof"] = serde_yaml::to_value(&spec.proof)?;
    let keys = document["spec"]["keys"].as_sequence_mut();
    for (position, key) in keys.into_iter().flat_map(|keys| {
        keys.resize(spec.keys.len(), Value::Null);
        keys.iter_mut().zip(&spec.keys)
    }) {
        if position.is_null() {
            *position = serde_yaml::to_value(key)?;
            continue;
        }
        position["wraps"] = serde_yaml::to_value(&key.wraps)?;
        if key.is_disabled() {
            position["disabled"] = Value::Bool(true);
        }
    }
    // A cluster's opinion does not belong into Git.
    if let Some(document) = document.as_mapping_mut() {
        document.remove("status");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{path::Path, slice::from_ref};

    use seal_envelope::Identity;

    use super::*;

    fn member(name: &str) -> (Member, Identity) {
        let identity = Identity::generate().unwrap();
        (Member { name: name.to_owned(), recipient: identity.recipient().clone() }, identity)
    }

    fn file(manifest: KeyRing) -> RingFile {
        let ring = manifest.ring().unwrap();
        RingFile { path: Path::new("ring.yaml").to_owned(), bytes: Vec::new(), manifest, ring }
    }

    fn now() -> Timestamp {
        "2026-11-21T09:00:00Z".parse().unwrap()
    }

    #[test]
    fn every_change_is_proven_and_opens_for_exactly_the_members_listed() {
        let (eu, eu_key) = member("eu");
        let (us, us_key) = member("us");
        let first = file(new_ring("prod", "ns", &[eu], now()).unwrap());
        let both = file(first.open(from_ref(&eu_key)).unwrap().with_members(&[us]).unwrap());
        both.open(from_ref(&us_key)).unwrap();
        let rotated = file(both.open(from_ref(&us_key)).unwrap().rotated(now()).unwrap());
        assert_eq!(rotated.ring.keys().len(), 2);
        assert_eq!(rotated.ring.keys()[0], first.ring.keys()[0]);
        rotated.open(from_ref(&eu_key)).unwrap();

        let alone = rotated.open(from_ref(&us_key)).unwrap().without_members(&["eu".to_owned()], now()).unwrap();
        let alone = file(alone);
        alone.open(&[us_key]).unwrap();
        assert_eq!(alone.ring.keys().len(), 3);
        assert!(alone.open(&[eu_key]).err().unwrap().to_string().contains("no member"));
    }

    #[test]
    fn a_key_planted_without_a_proof_stops_every_change() {
        let (eu, eu_key) = member("eu");
        let mut manifest = new_ring("prod", "ns", from_ref(&eu), now()).unwrap();
        manifest.spec.keys.push(wrapped(&generated().unwrap(), &[eu], now()).unwrap());
        let error = file(manifest).open(&[eu_key]).err().unwrap();
        assert!(error.to_string().contains("not proven"), "{error}");
    }

    #[test]
    fn a_member_that_leaves_does_not_make_the_new_key() {
        let ((eu, eu_key), (us, _)) = (member("eu"), member("us"));
        let ring = file(new_ring("prod", "ns", &[eu, us], now()).unwrap());
        let opened = ring.open(&[eu_key]).unwrap();
        assert!(opened.without_members(&["eu".to_owned()], now()).is_err());
        let error = opened.without_members(&["uss".to_owned()], now()).unwrap_err();
        assert_eq!(error.hints(), ["its members are: eu, us"]);
    }

    #[test]
    fn the_sealing_key_cannot_be_disabled_and_an_old_one_stays_so() {
        let (eu, eu_key) = member("eu");
        let ring = file(new_ring("prod", "ns", &[eu], now()).unwrap());
        let first = ring.ring.keys()[0].key_id();
        assert!(ring.open(from_ref(&eu_key)).unwrap().with_disabled(&[first]).is_err());
        let ring = file(ring.open(from_ref(&eu_key)).unwrap().rotated(now()).unwrap());
        let disabled = ring.open(&[eu_key]).unwrap().with_disabled(&[first]).unwrap();
        assert_eq!(disabled.spec.keys.iter().map(|key| key.is_disabled()).collect::<Vec<_>>(), [true, false]);
    }

    #[test]
    fn a_change_keeps_the_head_unknown_fields_and_the_spelling_of_times() {
        let (eu, eu_key) = member("eu");
        let ring = file(new_ring("prod", "ns", &[eu], now()).unwrap());
        let before = format!(
            "# owned by platform\n\n{}status: {{conditions: []}}\n",
            serde_yaml::to_string(&ring.manifest).unwrap()
        )
        .replace("2026-11-21T09:00:00Z", "2026-11-21T10:00:00.5+01:00")
        .replace("  namespace: ns", "  namespace: ns\n  annotations: {a: b}\n  later: true");
        let after = rewritten_text(&before, &ring.open(&[eu_key]).unwrap().rotated(now()).unwrap()).unwrap();
        assert!(after.starts_with("# owned by platform\n\napiVersion:"));
        for kept in ["2026-11-21T10:00:00.5+01:00", "a: b", "later: true", &ring.manifest.spec.keys[0].recipient] {
            assert!(after.contains(kept), "{kept}");
        }
        assert!(!after.contains("status"));
        let read: KeyRing = serde_yaml::from_str(&after).unwrap();
        assert_eq!(read.spec.keys.len(), 2);
    }
}
