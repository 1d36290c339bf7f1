//! What this cluster has seen of its rings, for longer than they last.
//!
//! ```text
//! ConfigMap sealwright-cluster -> Memory -> what a ring must hold;  opened rings -> Memory -> ConfigMap
//! ```
//!
//! The API server keeps a ring from losing a key or enabling one again, and a ring's status remembers what was proven.
//! Both end with the object. Whoever deletes a ring and applies an older state of it, on purpose or by a Git operator
//! that replaces objects, would get a key back that was disabled. So the ids of the keys of each ring that was proven
//! as a whole are kept beside the recipient, under the ring's name: the proof covers that name, so that nobody who
//! cannot open the ring can bring its keys under another.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ConfigMap;
use seal_crds::condition::KeyRingReason;
use seal_envelope::KeyId;

use super::rings::OpenedRing;

/// The keys of the ConfigMap's data that speak of a ring begin with this; its name follows, which has no dot.
const PREFIX: &str = "ring.";
/// After an id: the key is disabled.
const DISABLED: &str = "disabled";

/// The keys of every ring that was ever proven here, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Memory(BTreeMap<String, Vec<Remembered>>);

/// A key that a ring had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Remembered {
    /// Its id.
    pub id: KeyId,
    /// Whether the ring had switched it off.
    pub is_disabled: bool,
}

impl Memory {
    /// Reads what was written by [`Self::data`]. People may remove a ring or a line; what makes no sense is left out.
    pub fn read(config: &ConfigMap) -> Self {
        let entries = config.data.iter().flatten();
        let rings = entries.filter_map(|(key, text)| Some((key.strip_prefix(PREFIX)?.to_owned(), text)));
        Self(rings.map(|(ring, text)| (ring, text.lines().filter_map(remembered).collect())).collect())
    }

    /// What it is kept as: a line for each key.
    pub fn data(&self) -> BTreeMap<String, String> {
        let text = |keys: &Vec<Remembered>| keys.iter().map(line).collect::<String>();
        self.0.iter().map(|(ring, keys)| (format!("{PREFIX}{ring}"), text(keys))).collect()
    }

    /// The keys that this ring had.
    pub fn of(&self, ring: &str) -> &[Remembered] {
        self.0.get(ring).map(Vec::as_slice).unwrap_or_default()
    }

    /// Takes note of a ring, if all of it was proven. It then holds whatever is remembered of it.
    pub fn learn(&mut self, ring: &OpenedRing) {
        if ring.reason == KeyRingReason::Opened {
            let keys = ring.keys.iter().map(|key| Remembered { id: key.id, is_disabled: key.is_disabled });
            self.0.insert(ring.name.clone(), keys.collect());
        }
    }
}

fn line(key: &Remembered) -> String {
    if key.is_disabled { format!("{} {DISABLED}\n", key.id) } else { format!("{}\n", key.id) }
}

fn remembered(line: &str) -> Option<Remembered> {
    let mut words = line.split_whitespace();
    let id = words.next()?.parse().ok()?;
    Some(Remembered { id, is_disabled: words.next() == Some(DISABLED) })
}

#[cfg(test)]
mod tests {
    use seal_envelope::RingKey;

    use super::*;

    #[test]
    fn what_is_kept_reads_back_and_what_people_leave_of_it_too() {
        let [first, second] = [(); 2].map(|()| RingKey::generate().unwrap().id());
        let keys = vec![Remembered { id: first, is_disabled: true }, Remembered { id: second, is_disabled: false }];
        let memory = Memory(BTreeMap::from([("prod".to_owned(), keys.clone())]));
        let mut config = ConfigMap { data: Some(memory.data()), ..ConfigMap::default() };
        assert_eq!(Memory::read(&config), memory);
        assert_eq!((memory.of("prod"), memory.of("dev")), (&*keys, &[][..]));
        config.data.get_or_insert_default().insert("recipient".into(), "age1pq1".into());
        config.data.get_or_insert_default().insert("ring.prod".into(), format!("# by hand\n\n{second}\r\n"));
        assert_eq!(Memory::read(&config).of("prod"), &keys[1..]);
    }
}
