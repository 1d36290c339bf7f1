//! What a failed test leaves behind, for whoever reads its output: objects, Events, logs.

use std::fmt::Write as _;

use anyhow::Result;
use k8s_openapi::api::core::v1::{Event, Secret};
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt, discovery};

use crate::install::CONTROLLER;
use crate::process::tail;
use crate::space::Space;

/// Prints it, into the test's captured output.
#[expect(clippy::print_stderr, reason = "the test runner captures this macro, and shows it for failed tests only")]
pub async fn show(space: &Space) {
    let text = text(&space.client, &space.name).await.unwrap_or_else(|error| format!("cannot look: {error:?}"));
    eprintln!("==== namespace {} ====\n{text}\n==== servers ====\n{}", space.name, space.plane.logs());
    eprintln!("==== what the controllers said of the namespace, and last ====\n{}", controllers(space));
}

/// Of every controller's log: the lines that name the namespace, then the last lines of all.
fn controllers(space: &Space) -> String {
    let Ok(entries) = std::fs::read_dir(space.plane.guard().scratch()) else { return String::new() };
    let mut text = String::new();
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if !name.starts_with(CONTROLLER) || path.extension().is_none_or(|extension| extension != "log") {
            continue;
        }
        let log = std::fs::read_to_string(&path).unwrap_or_default();
        let ours: Vec<_> = log.lines().filter(|line| line.contains(&space.name)).collect();
        let _ = writeln!(text, "---- {name}\n{}\n...\n{}", tail(&ours.join("\n"), 40), tail(&log, 20));
    }
    text
}

async fn text(client: &Client, namespace: &str) -> Result<String> {
    let mut text = String::new();
    for object in ours(client, namespace).await? {
        let _ = writeln!(text, "{object}\n");
    }
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    for secret in secrets.list(&ListParams::default()).await? {
        let keys: Vec<_> = secret.data.iter().flatten().map(|(key, value)| (key, value.0.len())).collect();
        let kind = secret.type_.as_deref().unwrap_or_default();
        let _ = writeln!(text, "Secret {} of type {kind}, keys and lengths {keys:?}", secret.name_any());
        let _ = writeln!(text, "  labels {:?}, annotations {:?}", secret.labels(), secret.annotations());
        let _ = writeln!(text, "  owners {:?}", secret.owner_references());
    }
    let events: Api<Event> = Api::namespaced(client.clone(), namespace);
    for event in events.list(&ListParams::default()).await? {
        let object = event.involved_object.name.unwrap_or_default();
        let _ = writeln!(text, "Event {object}: {:?}: {:?}", event.reason, event.message);
    }
    Ok(text)
}

/// Everything of our API group in the namespace, as YAML; nothing where the CRDs are not installed.
async fn ours(client: &Client, namespace: &str) -> Result<Vec<String>> {
    let mut objects = Vec::new();
    let Ok(group) = discovery::group(client, "sealwright.dev").await else { return Ok(objects) };
    for (resource, _) in group.recommended_resources() {
        let api: Api<kube::api::DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
        for mut object in api.list(&ListParams::default()).await? {
            object.metadata.managed_fields = None;
            objects.push(serde_yaml::to_string(&object)?);
        }
    }
    Ok(objects)
}
