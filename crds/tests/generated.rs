//! The committed YAML, the chart's copies too, says what the types say, and what they say is fit for an API server.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};

fn folders() -> [PathBuf; 2] {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    [own.to_owned(), own.join("../charts/sealwright/files/crds")]
}

#[test]
fn committed_definitions_are_those_of_the_types() {
    for folder in folders() {
        for crd in seal_crds::crds() {
            let path = folder.join(seal_crds::file_name(&crd));
            let committed = fs::read_to_string(&path).unwrap_or_default();
            assert!(committed == seal_crds::yaml(&crd), "{} is out of date: run `cargo crdgen`", path.display());
        }
    }
}

#[test]
fn committed_schemas_are_those_of_the_types() {
    let folder = folders()[0].join("schemas");
    let schemas: Vec<_> = seal_crds::crds().iter().flat_map(seal_crds::json_schemas).collect();
    for (name, schema) in &schemas {
        let committed = fs::read_to_string(folder.join(name)).unwrap_or_default();
        assert!(committed == *schema, "{name} is out of date: run `cargo crdgen`");
    }
    assert_eq!(fs::read_dir(&folder).unwrap().count(), schemas.len(), "no other is committed");
}

#[test]
fn no_other_definition_is_committed() {
    let known: Vec<_> = seal_crds::crds().iter().map(seal_crds::file_name).collect();
    for entry in folders().iter().flat_map(|folder| fs::read_dir(folder).unwrap()) {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(!name.ends_with(".yaml") || known.contains(&name), "{name} belongs to no kind");
    }
}

#[test]
fn the_stream_holds_every_definition() {
    use serde::Deserialize;

    let stream = seal_crds::crds_yaml();
    let read: Vec<CustomResourceDefinition> = serde_yaml::Deserializer::from_str(&stream)
        .map(|document| CustomResourceDefinition::deserialize(document).unwrap())
        .collect();
    assert_eq!(read, seal_crds::crds());
}

#[test]
fn every_definition_carries_the_schema_number() {
    for crd in seal_crds::crds() {
        let annotations = crd.metadata.annotations.unwrap();
        assert_eq!(annotations[seal_crds::SCHEMA_ANNOTATION], seal_crds::SCHEMA.to_string());
    }
}

#[test]
fn every_string_list_and_map_is_bounded() {
    visit(&mut |path, schema| {
        let exempt = schema.enum_.is_some() || schema.format.as_deref() == Some("date-time");
        match schema.type_.as_deref() {
            Some("string") => assert!(exempt || schema.max_length.is_some(), "{path} has no maxLength"),
            Some("array") => assert!(schema.max_items.is_some(), "{path} has no maxItems"),
            Some("object") if schema.additional_properties.is_some() => {
                assert!(schema.max_properties.is_some(), "{path} has no maxProperties");
            }
            _ => {}
        }
    });
}

#[test]
fn every_list_says_how_it_merges() {
    visit(&mut |path, schema| {
        let says = schema.x_kubernetes_list_type.is_some();
        assert!(schema.type_.as_deref() != Some("array") || says, "{path} has no list type");
    });
}

#[test]
fn nothing_but_the_status_has_a_default() {
    visit(&mut |path, schema| {
        let is_status = path.ends_with(":status");
        assert_eq!(schema.default.is_some(), is_status, "{path}");
    });
}

#[test]
fn everything_that_explain_shows_is_described() {
    visit(&mut |path, schema| {
        let is_entry = path.ends_with("[]") || path.ends_with("{}");
        assert!(is_entry || schema.description.is_some(), "{path} has no description");
    });
}

/// Walks every schema of every kind. Paths read `KeyRing:spec.members[].name`.
fn visit(check: &mut dyn FnMut(&str, &JSONSchemaProps)) {
    for crd in seal_crds::crds() {
        for version in &crd.spec.versions {
            let root = version.schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap();
            for part in ["spec", "status"] {
                let schema = &root.properties.as_ref().unwrap()[part];
                walk(&format!("{}:{part}", crd.spec.names.kind), schema, check);
            }
        }
    }
}

fn walk(path: &str, schema: &JSONSchemaProps, check: &mut dyn FnMut(&str, &JSONSchemaProps)) {
    check(path, schema);
    for (name, property) in schema.properties.iter().flatten() {
        walk(&format!("{path}.{name}"), property, check);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &schema.items {
        walk(&format!("{path}[]"), items, check);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &schema.additional_properties {
        walk(&format!("{path}{{}}"), values, check);
    }
}
