//! JSON schemas of the kinds that an API server serves, as kubeconform takes them.
//!
//! the server's OpenAPI documents -> [`write()`] -> a file for each kind, in which an unknown field is an error.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use kube::Client;
use kube::api::DynamicObject;
use serde_json::{Value, json};

use crate::control_plane::http_get;
use crate::wait;

/// Where kubeconform is to look in a folder that [`write()`] has filled.
pub const LOCATION: &str = "{{.ResourceKind}}_{{.ResourceAPIVersion}}.json";

/// Writes one for the kind of each of these objects. A definition is served a moment before its schema is.
pub async fn write(client: &Client, objects: &[DynamicObject], into: &Path) -> Result<()> {
    wait::until("the API server has the schemas", || async { write_now(client, objects, into).await.map(Some) }).await
}

async fn write_now(client: &Client, objects: &[DynamicObject], into: &Path) -> Result<()> {
    let index: Value = client.request(http_get("/openapi/v3")?).await.context("ask what is served")?;
    let mut documents: BTreeMap<String, Value> = BTreeMap::new();
    for object in objects {
        let types = object.types.as_ref().context("an object has a kind")?;
        let (group, version) = types.api_version.split_once('/').unwrap_or(("", &types.api_version));
        let path = if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") };
        if !documents.contains_key(&path) {
            let place = index["paths"][&path]["serverRelativeURL"].as_str();
            let place = place.with_context(|| format!("the API server has no schemas of {path}"))?;
            let document = client.request(http_get(place)?).await.with_context(|| format!("ask for {path}"))?;
            documents.insert(path.clone(), closed_document(document)?);
        }
        let kind = json!({"group": group, "version": version, "kind": types.kind});
        let schemas = &documents[&path];
        let is_of = |schema: &Value| schema["x-kubernetes-group-version-kind"] == json!([kind]);
        let found = schemas.as_object().into_iter().flatten().find(|(_, schema)| is_of(schema));
        let (name, _) = found.with_context(|| format!("the API server has no schema of {kind}"))?;
        let schema = json!({"$ref": format!("#/components/schemas/{name}"), "components": {"schemas": schemas}});
        let file = into.join(format!("{}_{version}.json", types.kind.to_lowercase()));
        std::fs::write(&file, schema.to_string()).with_context(|| format!("write {file:?}"))?;
    }
    Ok(())
}

fn closed_document(mut document: Value) -> Result<Value> {
    let mut schemas = document["components"]["schemas"].take();
    schemas.as_object_mut().context("a document has schemas")?.values_mut().for_each(close);
    Ok(schemas)
}

/// Has it refuse every field that it does not name.
fn close(schema: &mut Value) {
    let Some(parts) = schema.as_object_mut() else { return };
    let is_open =
        parts.contains_key("additionalProperties") || parts.contains_key("x-kubernetes-preserve-unknown-fields");
    if let Some(properties) = parts.get_mut("properties").and_then(Value::as_object_mut) {
        properties.values_mut().for_each(close);
        if !is_open {
            parts.insert("additionalProperties".to_owned(), false.into());
        }
    }
    for inner in ["items", "additionalProperties"] {
        parts.get_mut(inner).into_iter().for_each(close);
    }
    for list in ["allOf", "anyOf", "oneOf"] {
        parts.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten().for_each(close);
    }
}
