//! The CustomResourceDefinitions: what the types say, brought into the form that an API server should have.

use std::collections::BTreeMap;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;
use serde_json::json;

use crate::{KeyRing, SCHEMA, SCHEMA_ANNOTATION, SealedSecret, VaultStore};

/// The definitions of all our kinds, as they are installed.
pub fn crds() -> Vec<CustomResourceDefinition> {
    vec![finished(SealedSecret::crd()), finished(KeyRing::crd()), finished(VaultStore::crd())]
}

/// All definitions as one YAML stream: what `seal-controller crds` prints.
pub fn crds_yaml() -> String {
    crds().iter().map(|crd| format!("---\n{}", yaml(crd))).collect()
}

/// One definition as YAML.
pub fn yaml(crd: &CustomResourceDefinition) -> String {
    serde_yaml::to_string(crd).expect("a definition of ours has only string keys, which YAML takes")
}

/// The file that holds one definition in this repository.
pub fn file_name(crd: &CustomResourceDefinition) -> String {
    format!("{}.yaml", crd.spec.names.plural)
}

/// Adds what the derives cannot say, and takes away what they say too much.
fn finished(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    crd.metadata.annotations.get_or_insert_default().insert(SCHEMA_ANNOTATION.into(), SCHEMA.to_string());
    for version in &mut crd.spec.versions {
        let Some(root) = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut()) else {
            continue;
        };
        without_optional_nulls(root);
        if let Some(status) = property(root, "status") {
            // Without it, a fresh object has no status, and kstatus takes it for healthy.
            status.default = Some(JSON(json!({"observedGeneration": -1})));
        }
        refuse_null_in_sealed_for(root);
        one_line_a_paragraph(root);
    }
    crd
}

/// Removes `nullable` from every property.
///
/// The derives make each optional property nullable. An API server drops a null where it is not allowed, so that it
/// means the same as absence and is not stored; the maps of ours that allow null values say so themselves.
fn without_optional_nulls(schema: &mut JSONSchemaProps) {
    for property in schema.properties.iter_mut().flat_map(|properties| properties.values_mut()) {
        property.nullable = None;
        without_optional_nulls(property);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        without_optional_nulls(items);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        without_optional_nulls(values);
    }
}

/// Makes a null in `sealedFor` an error.
///
/// Dropped in silence, it would be an absent part, which means any. A CEL rule cannot see a null property, and an
/// API server skips a null in `enum`, so the nulls are let in and refused by a negative schema: of all values, only
/// null and the empty one (refused as such) pass a bound of zero length.
fn refuse_null_in_sealed_for(root: &mut JSONSchemaProps) {
    let Some(sealed_for) = property(root, "spec").and_then(|spec| property(spec, "sealedFor")) else { return };
    let mut refusals = Vec::new();
    for (name, part) in sealed_for.properties.iter_mut().flatten() {
        part.nullable = Some(true);
        let null = JSONSchemaProps { max_length: Some(0), max_items: Some(0), ..Default::default() };
        let is_null = JSONSchemaProps {
            required: Some(vec![name.clone()]),
            properties: Some(BTreeMap::from([(name.clone(), null)])),
            ..Default::default()
        };
        refusals.push(JSONSchemaProps { not: Some(Box::new(is_null)), ..Default::default() });
    }
    sealed_for.all_of = Some(refusals);
}

/// Joins the lines of each description, which `kubectl explain` breaks anew.
fn one_line_a_paragraph(schema: &mut JSONSchemaProps) {
    if let Some(description) = &mut schema.description {
        *description = description.replace("\n\n", "\0").replace('\n', " ").replace('\0', "\n\n");
    }
    schema.properties.iter_mut().flatten().for_each(|(_, property)| one_line_a_paragraph(property));
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        one_line_a_paragraph(items);
    }
}

/// The schema of one property.
fn property<'a>(schema: &'a mut JSONSchemaProps, name: &str) -> Option<&'a mut JSONSchemaProps> {
    schema.properties.as_mut()?.get_mut(name)
}
