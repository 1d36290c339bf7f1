//! Applies manifests as `kubectl apply --server-side` does: documents -> kinds (discovery) -> one patch each.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::discovery::{self, Scope};
use kube::{Client, ResourceExt};
use serde::Deserialize;

use crate::wait;

/// The field manager of everything that tests apply.
pub const MANAGER: &str = "seal-tests";

/// The manifests of a folder or of one file, in the order of their names.
pub fn read(path: &Path) -> Result<Vec<DynamicObject>> {
    let mut objects = Vec::new();
    for file in files(path)? {
        let text = std::fs::read_to_string(&file).with_context(|| format!("read {file:?}"))?;
        objects.extend(parse(&text).with_context(|| format!("read {file:?}"))?);
    }
    Ok(objects)
}

/// The documents of a YAML text; empty ones are left out.
pub fn parse(text: &str) -> Result<Vec<DynamicObject>> {
    let mut objects = Vec::new();
    for document in serde_yaml::Deserializer::from_str(text) {
        let value = serde_json::Value::deserialize(document).context("read a YAML document")?;
        if !value.is_null() {
            objects.push(serde_json::from_value(value).context("read a Kubernetes object")?);
        }
    }
    Ok(objects)
}

/// Applies each object by force, and gives back what the API server made of it.
pub async fn apply(client: &Client, objects: &[DynamicObject]) -> Result<Vec<DynamicObject>> {
    let mut applied = Vec::with_capacity(objects.len());
    for object in objects {
        let api = api_of(client, object).await?;
        let params = PatchParams::apply(MANAGER).force();
        let name = object.name_any();
        let done = api.patch(&name, &params, &Patch::Apply(object)).await;
        applied.push(done.with_context(|| format!("apply {} {name}", kind_of(object)))?);
    }
    Ok(applied)
}

/// Applies CRDs and waits until all of them are served.
pub async fn apply_crds(client: &Client, crds: &[DynamicObject]) -> Result<()> {
    let crds = apply(client, crds).await?;
    for crd in &crds {
        let api = api_of(client, crd).await?;
        let name = crd.name_any();
        wait::until(&format!("CRD {name} is established"), || async {
            let conditions = api.get(&name).await?.data["status"]["conditions"].clone();
            let established = conditions
                .as_array()
                .into_iter()
                .flatten()
                .any(|condition| condition["type"] == "Established" && condition["status"] == "True");
            Ok(established.then_some(()))
        })
        .await?;
    }
    Ok(())
}

/// The API that serves this object, in its namespace.
pub async fn api_of(client: &Client, object: &DynamicObject) -> Result<Api<DynamicObject>> {
    let types = object.types.as_ref().context("an object without apiVersion and kind")?;
    let kind = GroupVersionKind::try_from(types).context("an object with an unreadable apiVersion")?;
    // A kind whose CRD has just been established may take a moment to be served.
    let (resource, capabilities) = wait::until(&format!("{} is served", types.kind), || async {
        Ok(Some(discovery::pinned_kind(client, &kind).await?))
    })
    .await?;
    Ok(match (capabilities.scope, object.namespace()) {
        (Scope::Cluster, _) => Api::all_with(client.clone(), &resource),
        (Scope::Namespaced, Some(namespace)) => Api::namespaced_with(client.clone(), &namespace, &resource),
        (Scope::Namespaced, None) => Api::default_namespaced_with(client.clone(), &resource),
    })
}

/// The kind of an object.
pub fn kind_of(object: &DynamicObject) -> &str {
    object.types.as_ref().map_or("object", |types| &types.kind)
}

fn files(path: &Path) -> Result<Vec<PathBuf>> {
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).with_context(|| format!("list {path:?}"))? {
        let file = entry.with_context(|| format!("list {path:?}"))?.path();
        if file.extension().is_some_and(|extension| extension == "yaml") {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}
