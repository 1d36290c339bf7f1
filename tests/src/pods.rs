//! Objects that make a process on loopback look like pods behind a Service.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU8, Ordering};

use anyhow::{Context, Result};
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};

use crate::manifests;
use crate::space::Space;

/// Makes Service `name` in the space's namespace, with `processes` behind it.
pub async fn expose(space: &Space, name: &str, port: u16, processes: &[SocketAddr]) -> Result<()> {
    let ports = json!([{"name": "http", "port": port}]);
    apply(space, &space.name, "Service", name, json!({"spec": {"ports": ports}})).await?;
    back(space, &space.name, name, port, processes).await
}

/// Puts one Pod for each of `processes` behind an existing Service, reachable through the API server's service proxy.
///
/// The proxy takes only endpoints that belong to a real Pod whose status has the address; it reads Endpoints, not
/// EndpointSlices.
pub async fn back(space: &Space, namespace: &str, name: &str, port: u16, processes: &[SocketAddr]) -> Result<()> {
    let mut addresses = Vec::new();
    for (number, process) in processes.iter().enumerate() {
        let address = pod_address();
        space.plane.egress().route(&format!("{address}:{port}"), *process);
        let pod = format!("{name}-{number}");
        make_pod(space, namespace, &pod, &address).await?;
        addresses.push(json!({"ip": address, "targetRef": {"kind": "Pod", "name": pod, "namespace": namespace}}));
    }
    let ports = json!([{"name": "http", "port": port}]);
    let subsets = json!({"subsets": [{"addresses": addresses, "ports": ports}]});
    apply(space, namespace, "Endpoints", name, subsets).await
}

async fn make_pod(space: &Space, namespace: &str, name: &str, address: &str) -> Result<()> {
    // As strict as the strictest namespace wants it.
    let context = json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": true,
                         "seccompProfile": {"type": "RuntimeDefault"}});
    let container = json!({"name": "main", "image": "none", "securityContext": context});
    apply(space, namespace, "Pod", name, json!({"spec": {"containers": [container]}})).await?;
    let status = json!({"status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}});
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("", "v1", "Pod"));
    let pods: Api<DynamicObject> = Api::namespaced_with(space.client.clone(), namespace, &kind);
    pods.patch_status(name, &PatchParams::default(), &Patch::Merge(&status)).await.context("say that a pod runs")?;
    Ok(())
}

async fn apply(space: &Space, namespace: &str, kind: &str, name: &str, mut object: Value) -> Result<()> {
    object["apiVersion"] = "v1".into();
    object["kind"] = kind.into();
    object["metadata"] = json!({"name": name, "namespace": namespace});
    let object = serde_json::from_value(object).context("make an object")?;
    manifests::apply(&space.client, &[object]).await.map(drop)
}

/// A new address out of the pods' network; a cluster of tests never has more than a few.
fn pod_address() -> String {
    static GIVEN: AtomicU8 = AtomicU8::new(1);
    format!("10.99.0.{}", GIVEN.fetch_add(1, Ordering::Relaxed))
}
