//! The way of a Secret, from `helm install` to the container that reads it.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams};
use seal_crds::condition::SealedSecretReason::SealedForElsewhere;
use seal_tests::helm::{RELEASE, chart};
use seal_tests::install;
use seal_tests::stage::RECOVERY;
use seal_tests::{Space, manifests, wait};
use serde_json::json;

use crate::world::{SHOP, WAIT, World};

/// Without its tag, which is the chart's.
pub(crate) const IMAGE: &str = "localhost/seal-controller";

pub(crate) async fn helm_installs_and_waits(world: &mut World<'_>) -> Result<()> {
    world.narrator.step("helm install --wait");
    manifests::apply(&world.client().await?, &[install::namespace()?]).await?;
    let begin = Instant::now();
    install(world)?;
    world.narrator.seen("Helm says that all is ready", begin);
    world.all_ready().await?;
    world.narrator.say("Two pods of the released image, in a namespace under the restricted Pod Security standard.");
    Ok(())
}

/// Into the namespace that is there, and waits until all is ready.
pub(crate) fn install(world: &World<'_>) -> Result<()> {
    let chart = chart();
    let chart = chart.to_str().context("the chart's path is text")?;
    let recovery = format!("keyRing.recovery={{{}}}", world.laptop.read("recovery.pub")?.trim());
    let image = format!("image.repository={IMAGE}");
    let values = ["--set", &recovery, "--set", &image, "--set", "image.pullPolicy=Never"];
    world.helm.run(&[&["install", RELEASE, chart][..], &values, &WAIT].concat()).map(drop)
}

pub(crate) async fn a_sealed_secret_is_opened(world: &mut World<'_>) -> Result<()> {
    world.narrator.step("Seal, apply, change, meddle, tamper, recover");
    Space::named(world.plane.clone(), SHOP.to_owned()).await?;
    let stage = world.stage().await?;
    world.laptop.seal(&["init", "--from-cluster"])?;
    let begin = Instant::now();
    stage.establish("db", &[("user", "app"), ("password", "first")]).await?;
    world.narrator.seen("opened: the Secret holds both values", begin);

    let said = world.laptop.try_seal(&["verify", "db.yaml"], "")?;
    ensure!(said.code == Some(0), "`seal verify` ended with {:?}: {}", said.code, said.stderr);
    world.narrator.say("`seal verify`, through the API server to a pod: it would be opened.");

    let begin = Instant::now();
    world.laptop.seal_with(&["set", "db.yaml", "password"], "second")?;
    stage.apply("db.yaml").await?;
    let wanted = [("user", "app"), ("password", "second")];
    stage.holds("db", &wanted).await?;
    world.narrator.seen("one value changed", begin);

    let begin = Instant::now();
    stage.meddle("db", json!({"stringData": {"password": "mine", "extra": "1"}})).await?;
    stage.holds("db", &wanted).await?;
    stage.space.secrets().delete("db", &DeleteParams::default()).await?;
    stage.holds("db", &wanted).await?;
    world.narrator.seen("a change by hand and a deletion are undone", begin);

    let good = world.laptop.read("db.yaml")?;
    let begin = Instant::now();
    stage
        .tamper("db.yaml", |file| {
            file["spec"]["sealedFor"]["namespaces"] = json!(["elsewhere"]);
            Ok(())
        })
        .await?;
    stage.reason("db", SealedForElsewhere).await?;
    stage.holds("db", &wanted).await?;
    world.laptop.write("db.yaml", good)?;
    stage.apply("db.yaml").await?;
    stage.ready("db").await?;
    world.narrator.seen("a file that was tampered with is refused, the last good Secret stays", begin);

    let opened = world.laptop.seal(&["open", "db.yaml", "-i", RECOVERY, "--key", "password"])?;
    ensure!(opened == "second", "`seal open` printed another value");
    world.narrator.say("The recovery identity opens it without the cluster.");
    Ok(())
}

pub(crate) async fn a_pod_reads_it(world: &mut World<'_>) -> Result<()> {
    world.narrator.step("A pod waits for a Secret that is not there yet, and starts with it");
    let stage = world.stage().await?;
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "shop", "namespace": SHOP},
        "spec": {"containers": [{
            "name": "shop", "image": "localhost/pause:1", "imagePullPolicy": "Never",
            "env": [{"name": "PASSWORD", "valueFrom": {"secretKeyRef": {"name": "late", "key": "password"}}}],
        }], "terminationGracePeriodSeconds": 0},
    });
    manifests::apply(&stage.space.client, &[serde_json::from_value(pod)?]).await?;
    let pods: Api<Pod> = Api::namespaced(stage.space.client.clone(), SHOP);
    let state = || async {
        let status = pods.get("shop").await?.status.unwrap_or_default();
        let container = status.container_statuses.unwrap_or_default().into_iter().next();
        let container = container.context("no word of the container yet")?;
        anyhow::Ok(container.state.unwrap_or_default())
    };
    wait::until("the container cannot be made", || async {
        let reason = state().await?.waiting.and_then(|waiting| waiting.reason);
        Ok((reason.as_deref() == Some("CreateContainerConfigError")).then_some(()))
    })
    .await?;
    let begin = Instant::now();
    stage.establish("late", &[("password", "1")]).await?;
    wait::until("the container runs", || async { Ok(state().await?.running.map(drop)) }).await?;
    world.narrator.seen("sealed and applied: the container runs", begin);
    pods.delete("shop", &DeleteParams::default()).await.context("delete the pod")?;
    Ok(())
}
