//! Rings and their members: opened with an identity, changed, written back.
//!
//! [`RingFile`] (public) + a member's identity -> [`OpenedRing`] + a change -> new manifest -> the file's new text.
//!
//! A ring is changed only by somebody who can open all of it and has checked its proof. The text keeps what the change
//! does not concern, unknown fields and the spelling of times included: the API server refuses a ring whose old keys
//! changed in any way. Comments at the head of the file stay, others are lost: ring files are made by machines.

mod change;

use seal_crds::{KeyRing, key_ring::RingKey as ListedKey};
use seal_envelope::{Identity, KeyId, Member, Recipient, RingKey};

pub(crate) use self::change::{OpenedRing, new_ring, rewritten};
use crate::{
    config::{Config, RingFile},
    error::{Error, Result},
    output,
};

type Cause = Box<dyn std::error::Error + Send + Sync>;

/// The rings that are given by name or file, else every readable one of `.seal/keyrings/`.
///
/// A pinned ring that cannot be read is pointed out; the others are still good for opening.
pub(crate) fn given_or_pinned(given: &[String], config: &Config) -> Result<Vec<RingFile>> {
    if !given.is_empty() {
        return given.iter().map(|ring| config.ring_for(Some(ring), None)).collect();
    }
    let mut rings = Vec::new();
    for path in config.ring_paths()? {
        match crate::config::read_ring(&path) {
            Ok(ring) => rings.push(ring),
            Err(error) => output::warning(&error),
        }
    }
    Ok(rings)
}

/// The rings that hold this key, and the key as each lists it.
pub(crate) fn holding(rings: &[RingFile], id: KeyId) -> impl Iterator<Item = (&RingFile, &ListedKey)> {
    rings.iter().filter_map(move |ring| {
        let position = ring.ring.keys().iter().position(|key| key.key_id() == id)?;
        Some((ring, ring.manifest.spec.keys.get(position)?))
    })
}

/// The text of a new ring file.
pub(crate) fn yaml(manifest: &KeyRing) -> Result<String> {
    serde_yaml::to_string(manifest).map_err(|cause| Error::bug("a ring is no YAML").because(cause))
}

/// Points out a ring that dies with the key of its only member.
pub(crate) fn warn_if_unrecoverable(members: &[Member]) {
    if let [only] = members {
        output::warn(&format!(
            "`{}` is the only member: if its key is lost, nothing sealed to this ring opens again",
            only.name
        ));
        output::hint("add an identity that is kept offline: `seal keygen -w recovery.txt`, `seal ring add`");
    }
}

impl RingFile {
    pub(crate) fn name(&self) -> &str {
        self.ring.name()
    }

    /// The member that one of these identities is.
    fn member_among<'a>(&self, identities: &'a [Identity]) -> Result<(&str, &'a Identity)> {
        let whose = |identity: &Identity| self.ring.members().iter().find(|m| m.recipient == *identity.recipient());
        let found = identities.iter().find_map(|identity| Some((whose(identity)?.name.as_str(), identity)));
        found.ok_or_else(|| {
            let names: Vec<_> = self.ring.members().iter().map(|member| member.name.as_str()).collect();
            Error::request(format!("the identity is no member of the ring `{}`", self.name()))
                .hint(format!("its members are: {}", names.join(", ")))
        })
    }

    /// Opens the one key with this id.
    pub(crate) fn open_key(&self, id: KeyId, identities: &[Identity]) -> Result<RingKey> {
        let (member, identity) = self.member_among(identities)?;
        let mut keys = self.ring.keys().iter().zip(&self.manifest.spec.keys);
        let (recipient, listed) = keys
            .find(|(recipient, _)| recipient.key_id() == id)
            .ok_or_else(|| Error::bug("a key was looked for in a ring that does not hold it"))?;
        self.open_wrap(recipient, listed, member, identity)
    }

    /// Opens all keys as a member and checks the proof: only then may the ring be changed.
    pub(crate) fn open(&self, identities: &[Identity]) -> Result<OpenedRing<'_>> {
        let (member, identity) = self.member_among(identities)?;
        let keys = self.ring.keys().iter().zip(&self.manifest.spec.keys);
        let keys = keys
            .map(|(recipient, listed)| self.open_wrap(recipient, listed, member, identity))
            .collect::<Result<Vec<_>>>()?;
        let unproven = |cause: Cause| {
            Error::request(format!("the ring `{}` is not proven: do not use it", self.name()))
                .because(cause)
                .hint("somebody who cannot open the ring has changed its members or keys")
                .hint(format!("see who: `git log -p {}`", self.path.display()))
        };
        let proof = self.manifest.spec.proof().map_err(|cause| unproven(cause.into()))?;
        self.ring.verify(&keys, &proof).map_err(|cause| unproven(cause.into()))?;
        Ok(OpenedRing::new(self, keys, member))
    }

    fn open_wrap(&self, key: &Recipient, listed: &ListedKey, member: &str, identity: &Identity) -> Result<RingKey> {
        let failed = |cause: Cause| {
            let (id, ring) = (key.key_id(), self.name());
            Error::request(format!("member `{member}` cannot open key {id} of the ring `{ring}`"))
                .because(cause)
                .hint(format!("the ring file was damaged or tampered with: see `git log -p {}`", self.path.display()))
        };
        let wrap = listed.wrap(member).map_err(|cause| failed(cause.into()))?;
        let wrap = wrap.ok_or_else(|| failed("it is not wrapped for this member".into()))?;
        RingKey::unwrap(&wrap, identity, key).map_err(|cause| failed(cause.into()))
    }
}
