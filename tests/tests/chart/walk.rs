//! Pages of `docs/operations`, followed word by word in a shell, with the real kubectl, Helm, git and `seal`.
//!
//! Only what a node would do is played: once the chart is installed, the built controller is started as its Deployment
//! says, and the Deployment's status says so.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::Client;
use kube::api::{Api, Patch, PatchParams};
use rustix::process::Signal;
use seal_tests::binaries::ROOT;
use seal_tests::helm::Helm;
use seal_tests::install::{CONTROLLER, NAMESPACE};
use seal_tests::page::{Person, commands};
use seal_tests::{Context, ControlPlane, Controller, Result, Space, ensure, in_own_cluster, pods, wait};
use serde_json::json;

/// What a node would do.
async fn run_pod(space: &Space) -> Result<Controller> {
    let controller = Controller::start(&space.plane, CONTROLLER, &[]).await?;
    pods::back(space, NAMESPACE, CONTROLLER, 8080, &[controller.address()]).await?;
    let deployments: Api<Deployment> = Api::namespaced(space.client.clone(), NAMESPACE);
    let status = json!({"status": {"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2,
        "availableReplicas": 2, "conditions": [{"type": "Available", "status": "True"}]}});
    deployments.patch_status(CONTROLLER, &PatchParams::default(), &Patch::Merge(status)).await?;
    Ok(controller)
}

/// Nobody types as fast as this test.
async fn exists(client: &Client, namespace: &str, secret: &str) -> Result<()> {
    let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
    wait::until(&format!("Secret {secret} is made"), || async { Ok(secrets.get_opt(secret).await?.map(drop)) }).await
}

#[test]
fn the_page_on_installing_does_what_it_says_word_by_word() {
    in_own_cluster(|space| async move {
        let page = fs::read_to_string(Path::new(ROOT).join("docs/operations/install.md"))?;
        let mut person = operator(&space.plane)?;
        let mut controller = None;
        for line in commands(&page) {
            if line.starts_with("kubectl get secret db") {
                exists(&space.client, "shop", "db").await?;
            }
            let shown = person.types(&line)?;
            if line.starts_with("helm install") {
                controller = Some(run_pod(&space).await?);
                exists(&space.client, NAMESPACE, "identity-1").await?;
            } else if line.starts_with("kubectl get keyrings") {
                let row = shown.lines().nth(1).context("there is a ring")?;
                let columns: Vec<_> = row.split_whitespace().collect();
                ensure!(columns[..4] == ["default", "True", "Opened", "True"], "{shown}");
            } else if line.starts_with("kubectl get secret db") {
                ensure!(shown == "s3cret", "{shown}");
            } else if line.starts_with("helm uninstall") {
                let ended = controller.take().context("it was installed before")?;
                ended.process().signal(Signal::TERM)?;
                exists(&space.client, NAMESPACE, "identity-1").await?;
                exists(&space.client, "shop", "db").await?;
            }
        }
        ensure!(controller.is_none(), "the page ends with the removal");
        let namespaces: Api<Namespace> = Api::all(space.client.clone());
        assert_eq!(namespaces.get_opt(NAMESPACE).await?, None);
        let secrets: Api<Secret> = Api::namespaced(space.client.clone(), "shop");
        wait::until("the Secret has gone with its object", || async {
            Ok(secrets.get_opt("db").await?.is_none().then_some(()))
        })
        .await
    });
}

/// A person with Helm and the chart.
fn operator(plane: &ControlPlane) -> Result<Person> {
    let person = Person::new(plane, &[("helm", Helm::find()?.program())])?;
    symlink(Path::new(ROOT).join("charts"), person.laptop.path("charts"))?;
    Ok(person)
}

#[test]
fn the_page_on_backups_brings_a_lost_clusters_identity_to_another() {
    let other = ControlPlane::start().expect("a control plane can be started");
    in_own_cluster(|space| async move {
        let page = fs::read_to_string(Path::new(ROOT).join("docs/operations/backup.md"))?;
        let mut person = operator(&space.plane)?;
        person.types("helm install sealwright charts/sealwright --namespace sealwright-system --create-namespace")?;
        let lost = Controller::start(&space.plane, CONTROLLER, &[]).await?;
        exists(&space.client, NAMESPACE, "identity-1").await?;
        for what in ["create", "condition=Ready"] {
            person.types(&format!("kubectl wait keyring/default -n {NAMESPACE} --for={what} --timeout=60s"))?;
        }
        person.types("seal init --from-cluster")?;
        // What the runbook says of a ring that nobody else can open.
        let runbook = fs::read_to_string(Path::new(ROOT).join("docs/operations/alerts.md"))?;
        let alone =
            runbook.split("## SealwrightKeyRingCannotBeRecovered").nth(1).and_then(|rest| rest.split("\n## ").next());
        for line in commands(alone.context("the runbook has that alert")?) {
            person.types(&line)?;
        }
        person
            .types(&format!("kubectl wait keyring/default -n {NAMESPACE} --for=condition=Recoverable --timeout=60s"))?;
        let sealing =
            "kubectl create secret generic db -n shop --from-literal=password=s3cret --dry-run=client -o yaml";
        person.types(&format!("mkdir -p apps/shop && {sealing} | seal -w apps/shop/db.yaml"))?;

        let other = Space::make(Arc::new(other)).await?;
        let mut restored = None;
        for line in commands(&page) {
            person.types(&line)?;
            if line.contains("> identities.yaml") {
                lost.kill();
                person.exports("KUBECONFIG", &other.plane.kubeconfig().to_string_lossy());
            } else if line.starts_with("helm upgrade") {
                restored = Some(run_pod(&other).await?);
            }
        }
        ensure!(restored.is_some(), "the page ends with a controller");
        person.types("kubectl create namespace shop && kubectl apply --server-side -f apps/shop/db.yaml")?;
        exists(&other.client, "shop", "db").await?;
        let secret = "kubectl get secret db -n shop -o jsonpath='{.data.password}' | base64 -d";
        assert_eq!(person.types(secret)?, "s3cret");
        Ok(())
    });
}
