//! The manifests in `cases/`, as far as they can be judged without an API server.
//!
//! `accepted/` and `refused/` hold what an API server with our definitions takes and refuses; a suite with a real one
//! asks it. Of several documents in a file only the last is in question, the others are the states before it. The
//! first line of a refused one, `# expected: ...`, says what the answer must contain.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, path::Path};

use seal_crds::{KeyRing, SealedSecret, VaultStore};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

#[test]
fn what_an_api_server_takes_is_read_and_written_without_loss() {
    for (name, text) in cases("accepted") {
        for manifest in documents(&text) {
            match manifest["kind"].as_str() {
                Some("SealedSecret") => {
                    let object: SealedSecret = unchanged(&name, manifest);
                    assert_eq!(object.spec.check(), Ok(()), "{name}");
                }
                Some("KeyRing") => {
                    let object: KeyRing = unchanged(&name, manifest);
                    object.ring().unwrap_or_else(|error| panic!("{name}: {error}"));
                    object.spec.proof().unwrap_or_else(|error| panic!("{name}: {error}"));
                }
                Some("VaultStore") => drop(unchanged::<VaultStore>(&name, manifest)),
                kind => panic!("{name} is of kind {kind:?}"),
            }
        }
    }
}

#[test]
fn every_refusal_says_which_words_are_expected() {
    for (name, text) in cases("refused") {
        let expected = text.lines().next().and_then(|line| line.strip_prefix("# expected: "));
        assert!(expected.is_some_and(|words| words.len() > 8), "{name}");
        assert!(!documents(&text).is_empty(), "{name}");
    }
}

#[test]
fn every_rule_has_a_refused_case() {
    let expected: Vec<_> =
        cases("refused").map(|(_, text)| text.lines().next().unwrap_or_default().to_owned()).collect();
    for crd in seal_crds::crds() {
        let mut messages = Vec::new();
        collect_messages(&serde_json::to_value(&crd).unwrap(), &mut messages);
        assert!(!messages.is_empty());
        for message in messages {
            let is_expected = |line: &&String| message.contains(line.trim_start_matches("# expected: "));
            assert!(expected.iter().any(|line| is_expected(&line)), "no case is refused with: {message}");
        }
    }
}

/// The manifest as its type, after a check that nothing was lost or added on the way.
fn unchanged<T: DeserializeOwned + Serialize>(name: &str, manifest: Value) -> T {
    let object: T = serde_json::from_value(manifest.clone()).unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(serde_json::to_value(&object).unwrap(), manifest, "{name}");
    object
}

fn documents(text: &str) -> Vec<Value> {
    serde_yaml::Deserializer::from_str(text).map(|document| Value::deserialize(document).unwrap()).collect()
}

fn cases(folder: &str) -> impl Iterator<Item = (String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases").join(folder);
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    assert!(!files.is_empty());
    files.into_iter().map(|file| (file.display().to_string(), fs::read_to_string(file).unwrap()))
}

/// The messages of all rules of one definition.
fn collect_messages(schema: &Value, messages: &mut Vec<String>) {
    match schema {
        Value::Object(fields) => {
            for rule in fields.get("x-kubernetes-validations").and_then(Value::as_array).into_iter().flatten() {
                messages.push(rule["message"].as_str().unwrap().to_owned());
            }
            fields.values().for_each(|field| collect_messages(field, messages));
        }
        Value::Array(items) => items.iter().for_each(|item| collect_messages(item, messages)),
        _ => {}
    }
}
