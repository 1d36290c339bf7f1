//! The entry functions of the fuzz targets (`fuzz/entries.rs`), on stable and without libFuzzer: over all vectors and
//! over damaged copies of them.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, path::Path, sync::LazyLock};

use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use proptest::{collection, prelude::*, sample};

#[path = "../fuzz/entries.rs"]
#[allow(clippy::expect_used, unreachable_pub, reason = "the other crate exports them")]
mod entries;

/// Every value of every vector, as text and as the bytes that it encodes.
static SEEDS: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let kinds = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")).unwrap();
    let files = kinds.flat_map(|kind| fs::read_dir(kind.unwrap().path()).unwrap());
    let mut seeds = Vec::new();
    for file in files {
        for line in fs::read_to_string(file.unwrap().path()).unwrap().lines() {
            let value = line.split_once(": ").map_or("", |(_, value)| value);
            seeds.extend(value.rsplit('.').next().and_then(|last| BASE64_URL_SAFE_NO_PAD.decode(last).ok()));
            seeds.extend(BASE64_STANDARD.decode(value));
            seeds.push(value.into());
        }
    }
    seeds
});

#[test]
fn no_entry_panics_on_a_vector() {
    assert!(SEEDS.len() > 1000);
    for (_, entry) in entries::ENTRIES {
        SEEDS.iter().for_each(|seed| entry(seed));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_entry_panics_on_damaged_vectors(
        seed in sample::select(&**SEEDS),
        other in sample::select(&**SEEDS),
        (at, end) in any::<(sample::Index, sample::Index)>(),
        put in collection::vec(any::<u8>(), 0..8),
    ) {
        let (at, end) = (at.index(seed.len() + 1), end.index(other.len() + 1));
        let data = [&seed[..at], &put, &other[end..]].concat();
        for (_, entry) in entries::ENTRIES {
            entry(&data);
        }
    }

    #[test]
    fn no_entry_panics_on_any_bytes(data in collection::vec(any::<u8>(), 0..3000)) {
        for (_, entry) in entries::ENTRIES {
            entry(&data);
        }
    }
}

/// A target for each entry, so that neither is forgotten.
#[test]
fn every_entry_has_its_target() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let manifest = fs::read_to_string(folder.join("Cargo.toml")).unwrap();
    for (name, _) in entries::ENTRIES {
        let target = fs::read_to_string(folder.join(format!("fuzz_targets/{name}.rs"))).unwrap();
        assert!(target.contains(&format!("seal_envelope_fuzz::{name}(data)")), "{name}");
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name}");
    }
    assert_eq!(fs::read_dir(folder.join("fuzz_targets")).unwrap().count(), entries::ENTRIES.len());
}
