//! What this controller makes of one KeyRing: which of its keys open here, and what is wrong with it.
//!
//! KeyRing + our identities + what was seen before -> [`OpenedRing`]; [`first_ring`] makes the first one.
//!
//! Only the wrap of our own member is ever tried, and a key counts once a proof that covers it has been seen: then
//! whoever added it could open the ring. What was proven is kept in the ring's status, so that a ring whose members
//! were changed without a proof goes on opening what it opened before, and nothing more. A ring that was deleted and
//! comes back in an older state is known by what is [remembered](super::memory) of it.

use std::collections::{BTreeMap, HashSet};

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::Time, jiff::Timestamp};
use seal_crds::{
    CLUSTER_CONFIG_MAP, KeyRing, KeyRingSpec,
    condition::{KeyRingReason, RecoverableReason},
    key_ring,
};
use seal_envelope::{KeyError, KeyId, Recipient, RingError, RingKey, WrapError};
use thiserror::Error;

use super::{identity::ClusterIdentity, memory::Remembered};

/// A ring as this controller sees it.
#[derive(Clone)]
pub struct OpenedRing {
    /// The ring's name.
    pub name: String,
    /// Its keys in the order of the spec; empty where the spec cannot be read.
    pub keys: Vec<OpenedKey>,
    /// The ids of its members' recipients, taken as keys: no ring may have one of these as a key.
    pub members: Vec<KeyId>,
    /// The worst that is wrong with it by itself; [`KeyRingReason::Opened`] if nothing is.
    pub reason: KeyRingReason,
    /// What is wrong, for people. Names members, positions and ids.
    pub message: String,
    /// Whether somebody besides this cluster can open it.
    pub recoverable: RecoverableReason,
}

/// One key of a ring.
#[derive(Clone)]
pub struct OpenedKey {
    /// Its id.
    pub id: KeyId,
    /// The private half and the member whose wrap gave it.
    pub opened: Option<(RingKey, String)>,
    /// Whether a proof that covers it has been seen.
    pub is_proven: bool,
    /// Whether the ring has switched it off.
    pub is_disabled: bool,
}

/// Opens what can be opened of `object`. `remembered`: the keys that a ring of this name had here.
pub fn open(object: &KeyRing, identities: &[ClusterIdentity], remembered: &[Remembered]) -> OpenedRing {
    let name = object.metadata.name.clone().unwrap_or_default();
    let ring = match object.ring() {
        Ok(ring) => ring,
        Err(error) => {
            return OpenedRing {
                name,
                keys: Vec::new(),
                members: Vec::new(),
                reason: KeyRingReason::InvalidSpec,
                message: explained(&error),
                recoverable: RecoverableReason::OtherMembers,
            };
        }
    };
    let members: Vec<_> = ring.members().iter().map(|member| member.recipient.key_id()).collect();
    let recoverable = recoverable(&object.spec, &ring, identities);
    let before = proven_before(object);

    let mut problem = None;
    let mut keys = Vec::new();
    for (key, (recipient, position)) in object.spec.keys.iter().zip(ring.keys().iter().zip(1..)) {
        let id = recipient.key_id();
        let opened = match unwrap(key, recipient, &ring, identities) {
            Ok(opened) => Some(opened),
            Err(found) => {
                problem.get_or_insert_with(|| found.report(position, id));
                None
            }
        };
        let is_disabled = key.is_disabled() || remembered.iter().any(|before| before.id == id && before.is_disabled);
        keys.push(OpenedKey { id, opened, is_proven: before.contains(&id), is_disabled });
    }

    let verdict = if let Some(problem) = problem {
        problem
    } else {
        match prove(&object.spec, &ring, &keys) {
            Ok(()) => {
                keys.iter_mut().for_each(|key| key.is_proven = true);
                let open = keys.iter().filter(|key| !key.is_disabled).count();
                (KeyRingReason::Opened, format!("opens {open} of {} keys", keys.len()))
            }
            Err(message) => (KeyRingReason::NotProven, message),
        }
    };
    // A shrunk ring is the gravest: a key that was taken out silently locks its values.
    let (reason, message) = rewritten(object, &keys, remembered).unwrap_or(verdict);
    OpenedRing { name, keys, members, reason, message, recoverable }
}

/// Why our member's wrap gave no key.
enum NotOpened {
    NoMember,
    Wrap { member: String, why: String },
}

impl NotOpened {
    fn report(self, position: usize, id: KeyId) -> (KeyRingReason, String) {
        match self {
            Self::NoMember => {
                (KeyRingReason::NotAMember, "none of this controller's identities is a member of the ring".to_owned())
            }
            Self::Wrap { member, why } => {
                (KeyRingReason::WrapInvalid, format!("key {position} ({id}), wrap of member {member}: {why}"))
            }
        }
    }
}

/// Tries the wraps of those members that are us, and no other.
fn unwrap(
    key: &key_ring::RingKey,
    recipient: &Recipient,
    ring: &seal_envelope::Ring,
    identities: &[ClusterIdentity],
) -> Result<(RingKey, String), NotOpened> {
    let mut failure = NotOpened::NoMember;
    for member in ring.members() {
        let Some(own) = identities.iter().find(|own| *own.identity.recipient() == member.recipient) else { continue };
        let opened = match key.wrap(&member.name) {
            Ok(Some(wrap)) => RingKey::unwrap(&wrap, &own.identity, recipient).map_err(|error| error.to_string()),
            Ok(None) => Err("it is absent".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        match opened {
            Ok(opened) => return Ok((opened, member.name.clone())),
            Err(why) => failure = NotOpened::Wrap { member: member.name.clone(), why },
        }
    }
    Err(failure)
}

fn prove(spec: &KeyRingSpec, ring: &seal_envelope::Ring, keys: &[OpenedKey]) -> Result<(), String> {
    let proof = spec.proof().map_err(|error| error.to_string())?;
    let opened = keys.iter().filter_map(|key| key.opened.as_ref().map(|(key, _)| key));
    ring.verify(opened, &proof).map_err(|error| match error {
        RingError::Unproven => "somebody who cannot open the ring changed its members or keys; what was proven before \
                                still opens, nothing else does"
            .to_owned(),
        other => other.to_string(),
    })
}

/// The keys that the status says were proven.
fn proven_before(object: &KeyRing) -> HashSet<KeyId> {
    let keys = object.status.iter().flat_map(|status| &status.keys);
    keys.filter(|key| key.proven).filter_map(|key| key.id.parse().ok()).collect()
}

/// Keys are append-only and disabled for good. The API server sees to it while the object lives; beyond its deletion,
/// what is remembered does.
fn rewritten(object: &KeyRing, keys: &[OpenedKey], remembered: &[Remembered]) -> Option<(KeyRingReason, String)> {
    let in_status = object.status.iter().flat_map(|status| &status.keys).map(|key| key.id.clone());
    let lost = lost(in_status, keys).or_else(|| lost(remembered.iter().map(|key| key.id.to_string()), keys));
    let enabled = || {
        let enabled = object.spec.keys.iter().zip(keys).find(|(key, seen)| seen.is_disabled && !key.is_disabled())?.1;
        Some(format!("key {} was disabled here, and stays so", enabled.id))
    };
    let what =
        lost.map(|id| format!("key {id} was removed, changed or moved; a ring only ever grows")).or_else(enabled)?;
    let name = object.metadata.name.as_deref().unwrap_or_default();
    let way_out = if remembered.is_empty() {
        String::new()
    } else {
        format!(
            "; apply its last state, or, if it was begun anew on purpose, remove ring.{name} from ConfigMap \
             {CLUSTER_CONFIG_MAP}"
        )
    };
    Some((KeyRingReason::KeysRewritten, format!("{what}{way_out}")))
}

/// The first of these keys that is not where it was.
fn lost(before: impl Iterator<Item = String>, keys: &[OpenedKey]) -> Option<String> {
    let now = keys.iter().map(Some).chain(std::iter::repeat(None));
    before.zip(now).find(|(before, now)| now.is_none_or(|now| now.id.to_string() != *before)).map(|(before, _)| before)
}

/// Somebody who is not this controller and for whom every key is wrapped.
fn recoverable(spec: &KeyRingSpec, ring: &seal_envelope::Ring, identities: &[ClusterIdentity]) -> RecoverableReason {
    let others = ring
        .members()
        .iter()
        .filter(|member| identities.iter().all(|own| *own.identity.recipient() != member.recipient));
    let has_other = others.into_iter().any(|member| spec.keys.iter().all(|key| key.wraps.contains_key(&member.name)));
    if has_other { RecoverableReason::OtherMembers } else { RecoverableReason::OnlyThisCluster }
}

fn explained(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

/// A first ring that could not be made.
#[derive(Debug, Error)]
pub enum FirstRingError {
    /// No randomness.
    #[error("cannot make a ring key")]
    Key(#[from] KeyError),
    /// No randomness, in age's words.
    #[error("cannot wrap the ring key")]
    Wrap(#[from] WrapError),
    /// A name that no ring can have, or a recovery recipient that is repeated.
    #[error("cannot put the first ring together")]
    Ring(#[from] RingError),
}

/// Makes the ring that a namespace without any gets: born here, for this cluster and the recovery recipients.
pub fn first_ring(
    namespace: &str,
    name: &str,
    members: Vec<seal_envelope::Member>,
    now: Timestamp,
) -> Result<KeyRing, FirstRingError> {
    let private = RingKey::generate()?;
    let mut key = key_ring::RingKey {
        recipient: private.recipient().to_string(),
        created: Time(now.round(k8s_openapi::jiff::Unit::Second).unwrap_or(now)),
        wraps: BTreeMap::new(),
        disabled: None,
    };
    for member in &members {
        key.set_wrap(&member.name, &private.wrap(&member.recipient)?);
    }
    let ring = seal_envelope::Ring::new(name, members, vec![private.recipient().clone()])?;
    let listed = ring
        .members()
        .iter()
        .map(|member| key_ring::Member { name: member.name.clone(), recipient: member.recipient.to_string() });
    let spec = KeyRingSpec { members: listed.collect(), keys: vec![key], proof: String::new() };
    let mut object = KeyRing::new(name, spec);
    object.metadata.namespace = Some(namespace.to_owned());
    object.spec.set_proof(&ring.prove([&private])?);
    Ok(object)
}

#[cfg(test)]
mod tests {
    use seal_crds::{KeyRingStatus, key_ring::RingKeyStatus};
    use seal_envelope::{Identity, Member};

    use super::*;
    use crate::keys::Memory;

    fn identity(number: u32) -> ClusterIdentity {
        ClusterIdentity { number, identity: Identity::generate().unwrap() }
    }

    fn member(name: &str, identity: &ClusterIdentity) -> Member {
        Member { name: name.to_owned(), recipient: identity.identity.recipient().clone() }
    }

    fn ring(members: Vec<Member>) -> KeyRing {
        first_ring("sealwright-system", "prod", members, Timestamp::UNIX_EPOCH).unwrap()
    }

    /// What the status says after a look.
    fn remembered(ring: &mut KeyRing, opened: &OpenedRing) {
        let keys = opened.keys.iter().map(|key| RingKeyStatus {
            id: key.id.to_string(),
            opened_by: None,
            proven: key.is_proven,
        });
        ring.status = Some(KeyRingStatus { keys: keys.collect(), ..KeyRingStatus::default() });
    }

    fn opens(ring: &OpenedRing) -> Vec<bool> {
        ring.keys.iter().map(|key| key.opened.is_some() && key.is_proven).collect()
    }

    #[test]
    fn the_first_ring_opens_here_and_for_its_recovery_member() {
        let (own, recovery) = (identity(1), identity(2));
        let ring = ring(vec![member("cluster", &own), member("recovery", &recovery)]);
        for identity in [own, recovery] {
            let opened = open(&ring, &[identity], &[]);
            assert_eq!((opened.reason, opens(&opened)), (KeyRingReason::Opened, vec![true]), "{}", opened.message);
            assert_eq!(opened.recoverable, RecoverableReason::OtherMembers);
        }
    }

    #[test]
    fn a_ring_without_another_member_is_not_recoverable() {
        let own = identity(1);
        let opened = open(&ring(vec![member("cluster", &own)]), &[own], &[]);
        assert_eq!((opened.reason, opened.recoverable), (KeyRingReason::Opened, RecoverableReason::OnlyThisCluster));
    }

    #[test]
    fn any_of_several_identities_opens() {
        let (old, new) = (identity(1), identity(2));
        let opened = open(&ring(vec![member("cluster", &old)]), &[new, old], &[]);
        assert_eq!(opened.keys[0].opened.as_ref().map(|(_, member)| member.as_str()), Some("cluster"));
    }

    #[test]
    fn a_ring_of_others_does_not_open() {
        let opened = open(&ring(vec![member("other", &identity(1))]), &[identity(1)], &[]);
        assert_eq!((opened.reason, opens(&opened)), (KeyRingReason::NotAMember, vec![false]));
    }

    #[test]
    fn a_wrap_that_is_garbage_or_of_another_key_is_named_by_member_and_position() {
        let own = identity(1);
        let good = ring(vec![member("cluster", &own)]);
        let other = ring(vec![member("cluster", &own)]);
        for wrap in ["AAAA".to_owned(), other.spec.keys[0].wraps["cluster"].clone(), "%".to_owned()] {
            let mut ring = good.clone();
            ring.spec.keys[0].wraps.insert("cluster".into(), wrap);
            let opened = open(&ring, std::slice::from_ref(&own), &[]);
            assert_eq!((opened.reason, opens(&opened)), (KeyRingReason::WrapInvalid, vec![false]));
            assert!(opened.message.contains("key 1") && opened.message.contains("cluster"), "{}", opened.message);
        }
    }

    #[test]
    fn a_planted_key_does_not_open_and_those_proven_before_go_on() {
        let own = identity(1);
        let mut ring = ring(vec![member("cluster", &own)]);
        let before = open(&ring, std::slice::from_ref(&own), &[]);
        remembered(&mut ring, &before);
        // Somebody with the members' public halves alone appends a key of his own.
        let planted = RingKey::generate().unwrap();
        let mut key = ring.spec.keys[0].clone();
        key.recipient = planted.recipient().to_string();
        key.set_wrap("cluster", &planted.wrap(own.identity.recipient()).unwrap());
        ring.spec.keys.push(key);
        let opened = open(&ring, std::slice::from_ref(&own), &[]);
        assert_eq!((opened.reason, opens(&opened)), (KeyRingReason::NotProven, vec![true, false]));

        ring.status = None;
        assert_eq!(opens(&open(&ring, std::slice::from_ref(&own), &[])), [false, false], "nothing was ever proven");
    }

    #[test]
    fn a_ring_that_lost_a_key_is_named() {
        let own = identity(1);
        let mut ring = ring(vec![member("cluster", &own)]);
        let opened = open(&ring, std::slice::from_ref(&own), &[]);
        remembered(&mut ring, &opened);
        let other = super::tests::ring(vec![member("cluster", &own)]);
        ring.spec = other.spec;
        assert_eq!(open(&ring, &[own], &[]).reason, KeyRingReason::KeysRewritten);
    }

    #[test]
    fn of_a_ring_that_was_deleted_only_the_last_state_comes_back_unnamed() {
        let own = identity(1);
        let mut ring = ring(vec![member("cluster", &own)]);
        let open_with = |ring: &KeyRing, memory: &Memory| open(ring, std::slice::from_ref(&own), memory.of("prod"));
        let older = ring.clone();
        ring.spec.keys[0].disabled = Some(true);
        let mut memory = Memory::default();
        memory.learn(&open_with(&ring, &memory));
        assert_eq!(open_with(&ring, &memory).reason, KeyRingReason::Opened, "the same state");

        let opened = open_with(&older, &memory);
        assert_eq!((opened.reason, opened.keys[0].is_disabled), (KeyRingReason::KeysRewritten, true));
        assert!(opened.message.contains("ring.prod"), "the way out is named: {}", opened.message);
        let before = memory.clone();
        memory.learn(&opened);
        assert_eq!(memory, before, "nothing is learnt from it");
        let other = super::tests::ring(vec![member("cluster", &own)]);
        assert_eq!(open_with(&other, &memory).reason, KeyRingReason::KeysRewritten);
        assert_eq!(open_with(&other, &Memory::default()).reason, KeyRingReason::Opened);
    }

    #[test]
    fn a_ring_that_contradicts_itself_opens_nothing() {
        let own = identity(1);
        let mut ring = ring(vec![member("cluster", &own)]);
        ring.spec.members.push(ring.spec.members[0].clone());
        let opened = open(&ring, &[own], &[]);
        assert_eq!((opened.reason, opened.keys.len()), (KeyRingReason::InvalidSpec, 0));
    }
}
