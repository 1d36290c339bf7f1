//! The kinds as plain JSON Schema, for tools that judge manifests without a cluster (kubeconform, editors).
//!
//! CRD -> its schema without what only an API server understands -> JSON Schema, where an unknown field is an error.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Map, Value, json};

/// The schema of each version of a kind, with the name of its file: `sealedsecret_v1alpha1.json`.
///
/// The rules of a definition are not in it: what only they refuse, it accepts.
pub fn json_schemas(crd: &CustomResourceDefinition) -> Vec<(String, String)> {
    let kind = &crd.spec.names.kind;
    let mut schemas = Vec::new();
    for version in &crd.spec.versions {
        let schema = version.schema.as_ref().and_then(|schema| schema.open_api_v3_schema.as_ref());
        let mut schema = serde_json::to_value(schema).expect("a schema of ours has only string keys");
        plain(&mut schema);
        let group = format!("{}/{}", crd.spec.group, version.name);
        schema["$schema"] = json!("http://json-schema.org/draft-07/schema#");
        schema["required"] = json!(["apiVersion", "kind", "metadata", "spec"]);
        schema["properties"]["apiVersion"] = json!({"type": "string", "enum": [group]});
        schema["properties"]["kind"] = json!({"type": "string", "enum": [kind]});
        schema["properties"]["metadata"] = json!({"type": "object"});
        let text = serde_json::to_string_pretty(&schema).expect("it was a value before");
        schemas.push((format!("{}_{}.json", kind.to_lowercase(), version.name), text + "\n"));
    }
    schemas
}

fn plain(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            fields.retain(|name, _| !name.starts_with("x-kubernetes-"));
            closed(fields);
            nullable(fields);
            fields.values_mut().for_each(plain);
        }
        Value::Array(items) => items.iter_mut().for_each(plain),
        _ => {}
    }
}

/// An API server drops what it does not know; here it is a typing error.
fn closed(fields: &mut Map<String, Value>) {
    if fields.get("properties").is_some_and(Value::is_object) && !fields.contains_key("additionalProperties") {
        fields.insert("additionalProperties".to_owned(), Value::Bool(false));
    }
}

fn nullable(fields: &mut Map<String, Value>) {
    if fields.remove("nullable") == Some(Value::Bool(true))
        && let Some(kind) = fields.get_mut("type")
    {
        *kind = json!([kind.take(), "null"]);
    }
}
