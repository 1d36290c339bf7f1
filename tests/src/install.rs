//! Installs Sealwright into a control plane: the chart, as Helm renders it, and a namespace for it.
//!
//! There is no node, so nothing runs yet: [`Container`] is what a kubelet would read out of the Deployment, and
//! `controller` starts the built binary as it says.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, DynamicObject};
use kube::{Client, ResourceExt};
use seal_crds::SCHEMA_ANNOTATION;
use serde_json::Value;

use crate::binaries::ROOT;
use crate::{helm, manifests};

/// The definition of SealedSecrets.
pub const SEALED_SECRETS: &str = "sealedsecrets.sealwright.dev";

/// The controller's namespace.
pub const NAMESPACE: &str = "sealwright-system";
/// The controller's ServiceAccount, its Deployment, and the Service in front of it.
pub const CONTROLLER: &str = "seal-controller";
/// The policy that keeps the definitions from being replaced by older ones.
pub const SCHEMA_POLICY: &str = "seal-controller-schema";

/// The folder of the CRDs.
pub fn crds() -> PathBuf {
    Path::new(ROOT).join("crds")
}

/// Applies the CRDs and waits until they are served.
pub async fn definitions(client: &Client) -> Result<()> {
    manifests::apply_crds(client, &manifests::read(&crds())?).await
}

/// Makes the namespace, under the strictest Pod Security standard, and applies the chart.
pub async fn everything(client: &Client) -> Result<()> {
    chart(client, &helm::rendered()?).await
}

/// The same without [`SCHEMA_POLICY`], for tests in which the definitions are older than they may be.
pub async fn without_schema_policy(client: &Client) -> Result<()> {
    let mut objects = helm::rendered()?;
    objects.retain(|object| object.name_any() != SCHEMA_POLICY);
    chart(client, &objects).await
}

/// The same with definitions that check nothing: what an attacker could hope for is a cluster with an older or an altered
/// CRD.
pub async fn without_checks(client: &Client) -> Result<()> {
    let mut definitions = manifests::read(&crds())?;
    definitions.iter_mut().for_each(|definition| remove_checks(&mut definition.data));
    everything(client).await?;
    manifests::apply(client, &definitions).await.map(drop)
}

/// Removes every rule and pattern.
fn remove_checks(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            // A property may have such a name.
            fields
                .retain(|name, value| !(name == "x-kubernetes-validations" || name == "pattern" && value.is_string()));
            fields.values_mut().for_each(remove_checks);
        }
        Value::Array(items) => items.iter_mut().for_each(remove_checks),
        _ => {}
    }
}

/// Makes the namespace, and applies what Helm made of the chart.
pub async fn chart(client: &Client, objects: &[DynamicObject]) -> Result<()> {
    manifests::apply(client, &[namespace()?]).await?;
    let is_definition = |object: &&DynamicObject| manifests::kind_of(object) == "CustomResourceDefinition";
    let (definitions, others): (Vec<_>, Vec<_>) = objects.iter().partition(is_definition);
    manifests::apply_crds(client, &definitions.into_iter().cloned().collect::<Vec<_>>()).await?;
    manifests::apply(client, &others.into_iter().cloned().collect::<Vec<_>>()).await.map(drop)
}

/// The controller's namespace as the guide has it made.
pub fn namespace() -> Result<DynamicObject> {
    serde_json::from_value(serde_json::json!({
        "apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": NAMESPACE, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
    }))
    .context("make a namespace")
}

/// What a kubelet would start.
#[derive(Debug, Clone)]
pub struct Container {
    /// The namespace of the pod.
    pub namespace: String,
    /// Under which ServiceAccount.
    pub account: String,
    /// With which arguments.
    pub args: Vec<String>,
    /// And variables; those that take their value from elsewhere are not among them.
    pub env: Vec<(String, String)>,
}

impl Container {
    /// Reads it out of the Deployment of this name in the API server.
    pub async fn of(client: &Client, namespace: &str, deployment: &str) -> Result<Self> {
        let deployments: Api<Deployment> = Api::namespaced(client.clone(), namespace);
        let found = deployments.get(deployment).await.context("get the controller's Deployment")?;
        let pod = found.spec.and_then(|spec| spec.template.spec).context("the Deployment has no pod template")?;
        let container = pod.containers.into_iter().next().context("the Deployment has no container")?;
        let env = container.env.into_iter().flatten().filter_map(|variable| Some((variable.name, variable.value?)));
        Ok(Self {
            namespace: namespace.to_owned(),
            account: pod.service_account_name.context("the Deployment names no ServiceAccount")?,
            args: container.args.unwrap_or_default(),
            env: env.collect(),
        })
    }
}

/// The schema number of the definition of SealedSecrets in the cluster.
pub async fn schema(client: &Client) -> Result<u32> {
    let crd = Api::<CustomResourceDefinition>::all(client.clone()).get(SEALED_SECRETS).await?;
    let schema = crd.annotations().get(SCHEMA_ANNOTATION).context("a definition has a number")?;
    schema.parse().context("it is a number")
}
