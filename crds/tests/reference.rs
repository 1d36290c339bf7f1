//! `docs/reference/` names every field and every reason.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, path::Path};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{JSONSchemaProps, JSONSchemaPropsOrArray};
use seal_crds::condition::{KeyRingReason, RecoverableReason, SealedSecretReason, VaultReason, VaultStoreReason};

fn page(kind: &str) -> String {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/reference");
    fs::read_to_string(docs.join(format!("{}.md", kind.to_lowercase()))).unwrap()
}

#[test]
fn every_field_is_in_the_reference() {
    for crd in seal_crds::crds() {
        let kind = &crd.spec.names.kind;
        let page = page(kind);
        let root = crd.spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
        for part in ["spec", "status"] {
            assert_named(&page, kind, &root.properties.as_ref().unwrap()[part]);
        }
    }
}

/// Fields below `conditions` and `selector` are Kubernetes' own, and explained there.
fn assert_named(page: &str, path: &str, schema: &JSONSchemaProps) {
    for (name, property) in schema.properties.iter().flatten() {
        let path = format!("{path}.{name}");
        let spellings = ["`{}`", ".{}`", "`{}:", "`{},", "`{}."].map(|spelling| spelling.replace("{}", name));
        assert!(spellings.iter().any(|spelling| page.contains(spelling.as_str())), "{path} is not in the reference");
        if name == "conditions" || name == "selector" {
            continue;
        }
        assert_named(page, &path, property);
        if let Some(JSONSchemaPropsOrArray::Schema(items)) = &property.items {
            assert_named(page, &path, items);
        }
    }
}

#[test]
fn every_reason_is_in_the_reference() {
    let words = |words: Vec<&'static str>, kind: &str| {
        let page = page(kind);
        for word in words {
            assert!(page.contains(&format!("| `{word}` |")), "{word} is not in the reference of {kind}");
        }
    };
    words(SealedSecretReason::ALL.iter().map(|reason| reason.as_str()).collect(), "SealedSecret");
    words(VaultReason::ALL.iter().map(|reason| reason.as_str()).collect(), "SealedSecret");
    words(KeyRingReason::ALL.iter().map(|reason| reason.as_str()).collect(), "KeyRing");
    words(RecoverableReason::ALL.iter().map(|reason| reason.as_str()).collect(), "KeyRing");
    words(VaultStoreReason::ALL.iter().map(|reason| reason.as_str()).collect(), "VaultStore");
}

#[test]
fn the_reference_says_of_every_reason_whether_it_needs_a_person() {
    let page = page("SealedSecret");
    for reason in SealedSecretReason::ALL {
        let row = format!(
            "| `{reason}` | {}|",
            match (*reason, reason.needs_a_person()) {
                (SealedSecretReason::Synced, _) => "True ",
                // In no status: nothing is written under an older definition.
                (SealedSecretReason::SchemaOutdated, _) => "",
                (_, true) => "Stalled ",
                (_, false) => "Reconciling ",
            }
        );
        assert!(page.contains(&row), "{row}");
    }
}
