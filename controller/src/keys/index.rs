//! Key id -> open ring key, over all rings of the controller's namespace.
//!
//! [`OpenedRing`]s -> [`KeyIndex`]; [`KeyIndex::find`] answers what may be done with a key, [`KeyIndex::changed_since`]
//! which keys the objects that use them must be looked at again for.

use std::collections::{BTreeSet, HashMap};

use seal_crds::condition::KeyRingReason;
use seal_envelope::{KeyId, RingKey};

use super::rings::OpenedRing;

/// All keys that this controller knows.
#[derive(Clone, Default)]
pub struct KeyIndex {
    keys: HashMap<KeyId, Entry>,
}

#[derive(Clone)]
struct Entry {
    key: Option<RingKey>,
    state: State,
    /// The ring that proved the key and has switched it off.
    vetoed_by: Option<String>,
    rings: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Open,
    Disabled,
    NotProven,
    NotOpened,
}

/// What may be done with a key.
pub enum Found<'a> {
    /// It opens.
    Open(&'a RingKey),
    /// This ring has switched it off.
    Disabled(&'a str),
    /// It stands in this ring without a proof that covers it.
    NotProven(&'a str),
    /// It stands in this ring and could not be opened here.
    NotOpened(&'a str),
    /// It is in no ring.
    Unknown,
}

/// What the rings together say about one of them, where that is worse than what it says by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The ring.
    pub ring: String,
    /// What is wrong.
    pub reason: KeyRingReason,
    /// For people.
    pub message: String,
}

impl KeyIndex {
    /// Joins all rings; also says what is wrong between them.
    ///
    /// Recipients are public, so anybody can write any of them into a ring as its key. What a ring says of a key that
    /// it never proved therefore harms that ring alone.
    pub fn new(rings: &[OpenedRing]) -> (Self, Vec<Finding>) {
        let mut findings = Vec::new();
        let mut index = Self::default();
        let all_keys = || rings.iter().flat_map(|ring| &ring.keys);
        let proven: BTreeSet<KeyId> = all_keys().filter(|key| key.is_proven).map(|key| key.id).collect();
        let members: BTreeSet<KeyId> = rings.iter().flat_map(|ring| ring.members.iter().copied()).collect();
        for ring in rings {
            let mut find = |message| {
                findings.push(Finding { ring: ring.name.clone(), reason: KeyRingReason::MemberIsRingKey, message });
            };
            if let Some(member) = ring.members.iter().find(|member| proven.contains(member)) {
                // Its wraps are for everybody who can open that ring: it counts for nothing.
                find(format!("a member's recipient is the ring key {member}"));
                continue;
            }
            if let Some(key) = ring.keys.iter().find(|key| !key.is_proven && members.contains(&key.id)) {
                find(format!("key {} is a member's recipient, and is not proven", key.id));
            }
            index.add(ring);
        }
        for ring in rings {
            for key in &ring.keys {
                let others = index.keys.get(&key.id).map(|entry| entry.rings.as_slice()).unwrap_or_default();
                if let Some(other) = others.iter().find(|other| **other != ring.name)
                    && others.contains(&ring.name)
                {
                    let message = format!("key {} is in ring {other} as well; it opens", key.id);
                    findings.push(Finding { ring: ring.name.clone(), reason: KeyRingReason::KeyInTwoRings, message });
                    break;
                }
            }
        }
        (index, findings)
    }

    fn add(&mut self, ring: &OpenedRing) {
        for key in &ring.keys {
            let state = match (&key.opened, key.is_proven, key.is_disabled) {
                (_, _, true) => State::Disabled,
                (None, _, _) => State::NotOpened,
                (Some(_), false, _) => State::NotProven,
                (Some(_), true, false) => State::Open,
            };
            let opened = key.opened.as_ref().filter(|_| state == State::Open).map(|(key, _)| key.clone());
            let new = || Entry { key: None, state, vetoed_by: None, rings: Vec::new() };
            let entry = self.keys.entry(key.id).or_insert_with(new);
            entry.rings.push(ring.name.clone());
            if key.is_disabled && key.is_proven {
                entry.vetoed_by.get_or_insert_with(|| ring.name.clone());
            }
            // Disabled anywhere is disabled; otherwise the ring that opens it wins.
            if entry.vetoed_by.is_some() {
                (entry.state, entry.key) = (State::Disabled, None);
            } else if state == State::Open {
                (entry.state, entry.key) = (state, opened);
            }
        }
    }

    /// What may be done with this key.
    pub fn find(&self, id: KeyId) -> Found<'_> {
        let Some(entry) = self.keys.get(&id) else { return Found::Unknown };
        let ring = entry.vetoed_by.as_ref().or(entry.rings.first()).map(String::as_str).unwrap_or_default();
        match (&entry.state, &entry.key) {
            (State::Open, Some(key)) => Found::Open(key),
            (State::Disabled, _) => Found::Disabled(ring),
            (State::NotProven, _) => Found::NotProven(ring),
            _ => Found::NotOpened(ring),
        }
    }

    /// Whether the key opens.
    pub fn opens(&self, id: KeyId) -> bool {
        self.keys.get(&id).is_some_and(|entry| entry.key.is_some())
    }

    /// The ids of all keys that open, in order.
    pub fn open_ids(&self) -> Vec<KeyId> {
        let mut ids: Vec<_> = self.keys.iter().filter(|(_, entry)| entry.key.is_some()).map(|(id, _)| *id).collect();
        ids.sort_unstable();
        ids
    }

    /// The keys with which something else may be done now than in `before`.
    pub fn changed_since(&self, before: &Self) -> Vec<KeyId> {
        let all: BTreeSet<&KeyId> = self.keys.keys().chain(before.keys.keys()).collect();
        let state = |index: &Self, id: &KeyId| index.keys.get(id).map(|entry| entry.state);
        all.into_iter().filter(|id| state(self, id) != state(before, id)).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use seal_crds::condition::RecoverableReason;

    use super::*;
    use crate::keys::rings::OpenedKey;

    fn ring(name: &str, keys: &[(&RingKey, bool, bool, bool)]) -> OpenedRing {
        let keys = keys.iter().map(|(key, is_open, is_proven, is_disabled)| OpenedKey {
            id: key.id(),
            opened: is_open.then(|| ((*key).clone(), "cluster".to_owned())),
            is_proven: *is_proven,
            is_disabled: *is_disabled,
        });
        OpenedRing {
            name: name.to_owned(),
            keys: keys.collect(),
            members: Vec::new(),
            reason: KeyRingReason::Opened,
            message: String::new(),
            recoverable: RecoverableReason::OtherMembers,
        }
    }

    #[test]
    fn only_an_open_proven_and_enabled_key_opens() {
        let key = RingKey::generate().unwrap();
        for (is_open, is_proven, is_disabled, opens) in [
            (true, true, false, true),
            (true, true, true, false),
            (true, false, false, false),
            (false, true, false, false),
            (false, false, true, false),
        ] {
            let (index, _) = KeyIndex::new(&[ring("prod", &[(&key, is_open, is_proven, is_disabled)])]);
            assert_eq!(matches!(index.find(key.id()), Found::Open(_)), opens);
            assert_eq!((index.opens(key.id()), index.open_ids().len()), (opens, usize::from(opens)));
        }
        assert!(matches!(KeyIndex::default().find(key.id()), Found::Unknown));
    }

    #[test]
    fn a_key_in_two_rings_opens_and_is_reported_in_both_unless_one_disables_it() {
        let key = RingKey::generate().unwrap();
        let [open, closed] = [false, true].map(|is_disabled| [(&key, true, true, is_disabled)]);
        let (index, findings) = KeyIndex::new(&[ring("a", &open), ring("b", &open)]);
        assert!(index.opens(key.id()));
        let reported: Vec<_> = findings.iter().map(|finding| (finding.ring.as_str(), finding.reason)).collect();
        assert_eq!(reported, [("a", KeyRingReason::KeyInTwoRings), ("b", KeyRingReason::KeyInTwoRings)]);
        for (rings, by) in
            [([ring("a", &closed), ring("b", &open)], "a"), ([ring("a", &open), ring("b", &closed)], "b")]
        {
            assert!(matches!(KeyIndex::new(&rings).0.find(key.id()), Found::Disabled(ring) if ring == by));
        }
    }

    #[test]
    fn a_ring_with_a_member_that_is_a_ring_key_counts_for_nothing() {
        let [first, second] = [(); 2].map(|()| RingKey::generate().unwrap());
        let good = ring("good", &[(&first, true, true, false)]);
        let mut bad = ring("bad", &[(&second, true, true, false)]);
        bad.members = vec![first.id()];
        let (index, findings) = KeyIndex::new(&[bad, good]);
        assert!(index.opens(first.id()) && !index.opens(second.id()));
        assert_eq!(findings.len(), 1);
        assert_eq!((findings[0].ring.as_str(), findings[0].reason), ("bad", KeyRingReason::MemberIsRingKey));
    }

    #[test]
    fn a_ring_that_proves_nothing_takes_no_key_and_no_member_from_another() {
        let [key, member] = [(); 2].map(|()| RingKey::generate().unwrap());
        let mut good = ring("good", &[(&key, true, true, false)]);
        good.members = vec![member.id()];
        let disables = ring("disables", &[(&key, false, false, true)]);
        let claims = ring("claims", &[(&member, false, false, false)]);
        for rings in [[good.clone(), disables.clone(), claims.clone()], [claims, disables, good]] {
            let (index, findings) = KeyIndex::new(&rings);
            assert!(index.opens(key.id()) && !index.opens(member.id()));
            let accused: Vec<_> =
                findings.iter().filter(|found| found.reason == KeyRingReason::MemberIsRingKey).collect();
            assert_eq!(accused.iter().map(|found| found.ring.as_str()).collect::<Vec<_>>(), ["claims"]);
        }
    }

    #[test]
    fn what_changed_is_what_something_else_may_be_done_with() {
        let [kept, gone, new] = [(); 3].map(|()| RingKey::generate().unwrap());
        let (before, _) = KeyIndex::new(&[ring("prod", &[(&kept, true, true, false), (&gone, true, true, false)])]);
        let (after, _) = KeyIndex::new(&[ring("prod", &[(&kept, true, true, false), (&new, true, false, false)])]);
        let mut changed = vec![gone.id(), new.id()];
        changed.sort_unstable();
        assert_eq!(after.changed_since(&before), changed);
        assert!(after.changed_since(&after).is_empty());
    }
}
