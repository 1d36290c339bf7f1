//! What happens to pods and nodes; no SealedSecret may be lost by it, and no Secret changed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams};
use seal_tests::helm::{RELEASE, chart};
use seal_tests::install::NAMESPACE;
use seal_tests::{Stage, manifests, wait};
use serde_json::json;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::journey::IMAGE;
use crate::world::{SHOP, World};

/// The next release, as far as a node can tell.
const NEXT: &str = "next";
/// How many SealedSecrets may wait for their Secrets at the same time.
const AT_ONCE: usize = 20;

pub(crate) async fn a_pod_is_killed(world: &mut World<'_>) -> Result<()> {
    world.narrator.step("The pod that works is killed");
    let stage = world.stage().await?;
    let leader = world.leader().await?;
    let pods: Api<Pod> = Api::namespaced(stage.space.client.clone(), NAMESPACE);
    let begin = Instant::now();
    pods.delete(&leader, &DeleteParams::default().grace_period(0)).await.context("kill a pod")?;
    stage.establish("meanwhile", &[("password", "1")]).await?;
    world.narrator.seen("what was applied at that moment is opened, by the other", begin);
    world.all_ready().await?;
    let now = world.leader().await?;
    ensure!(now != leader, "{leader} still holds the lease");
    world.narrator.seen("two pods are ready again", begin);
    Ok(())
}

pub(crate) async fn an_upgrade_under_load(world: &mut World<'_>) -> Result<()> {
    world.narrator.step("helm upgrade to another image, while SealedSecrets come in all the time");
    let stage = world.stage().await?;
    let chart_file = std::fs::read_to_string(chart().join("Chart.yaml")).context("read Chart.yaml")?;
    let chart_file: serde_json::Value = serde_yaml::from_str(&chart_file).context("read Chart.yaml")?;
    let version = chart_file["appVersion"].as_str().context("the chart has an appVersion")?;
    world.node()?.tag(&format!("{IMAGE}:{version}"), &format!("{IMAGE}:{NEXT}"))?;
    let pattern = pattern(&stage)?;

    let chart = chart().to_str().context("the chart's path is text")?.to_owned();
    let tag = format!("image.tag={NEXT}");
    let upgrade = ["upgrade", RELEASE, &chart, "--namespace", NAMESPACE, "--wait", "--timeout", "5m"];
    let upgrade = [&upgrade[..], &["--reset-then-reuse-values", "--set", &tag]].concat();
    let upgrade: Vec<_> = upgrade.into_iter().map(str::to_owned).collect();
    let helm = Arc::clone(&world.helm);
    let begin = Instant::now();
    let upgrade = tokio::task::spawn_blocking(move || helm.run(&upgrade));
    let waits = load(stage, &pattern, || upgrade.is_finished()).await?;
    upgrade.await??;
    world.narrator.seen("upgraded", begin);
    let worst = waits.iter().max().context("there was a load")?;
    world.narrator.say(format!(
        "{} SealedSecrets were applied meanwhile, each has its Secret; the slowest took {} ms.",
        waits.len(),
        worst.as_millis()
    ));
    world.all_ready().await?;
    wait::until("the pods of the old image are gone", || async {
        for pod in world.pods().await? {
            let image =
                pod.spec.as_ref().and_then(|spec| spec.containers.first()?.image.as_deref()).unwrap_or_default();
            ensure!(image.ends_with(NEXT), "{} runs {image}", pod.name_any());
        }
        Ok(Some(()))
    })
    .await
}

/// A SealedSecret that may have any name in the namespace.
fn pattern(stage: &Stage) -> Result<DynamicObject> {
    let manifest = seal_tests::laptop::secret_manifest(SHOP, "pattern", &[("password", "loaded")])?;
    stage.laptop.seal_with(&["--scope", "namespace", "-w", "pattern.yaml"], manifest)?;
    manifests::read(&stage.laptop.path("pattern.yaml"))?.pop().context("there is one document")
}

/// Applies one after the other until it is over; how long each waited for its Secret.
async fn load(stage: Stage, pattern: &DynamicObject, is_over: impl Fn() -> bool) -> Result<Vec<Duration>> {
    let (stage, at_once) = (Arc::new(stage), Arc::new(Semaphore::new(AT_ONCE)));
    let mut waits = JoinSet::new();
    while !is_over() {
        let permit = Arc::clone(&at_once).acquire_owned().await?;
        let mut object = pattern.clone();
        let name = format!("load-{}", waits.len());
        object.metadata.name = Some(name.clone());
        let begin = Instant::now();
        manifests::apply(&stage.space.client, &[object]).await?;
        // Each is waited for beside those that follow, so that a late one does not hold up the load.
        let stage = Arc::clone(&stage);
        waits.spawn(async move {
            stage.holds(&name, &[("password", "loaded")]).await?;
            drop(permit);
            Ok::<_, anyhow::Error>(begin.elapsed())
        });
    }
    waits.join_all().await.into_iter().collect()
}

pub(crate) async fn the_node_loses_its_power(world: &mut World<'_>) -> Result<()> {
    world.narrator.step("The node loses its power: kubelet, containerd and every container, at once");
    let stage = world.stage().await?;
    let identities = identities(&stage).await?;
    let restarts = restarts(world).await?;
    let plane = world.plane.clone();
    world.node()?.lose_power().await?;
    stage.apply(&stage.seal("dark", &[("password", "1")])?).await?;
    stage.meddle("db", json!({"stringData": {"password": "mine"}})).await?;
    world.narrator.say("Meanwhile a SealedSecret is applied, and a Secret is changed by hand.");
    let begin = Instant::now();
    world.node()?.boot(&plane).await?;
    world.narrator.seen("the node is heard of again", begin);
    stage.ready("dark").await?;
    stage.holds("dark", &[("password", "1")]).await?;
    stage.holds("db", &[("user", "app"), ("password", "second")]).await?;
    world.narrator.seen("the one is opened, the other put right", begin);
    world.all_ready().await?;
    ensure!(self::restarts(world).await? >= restarts + 2, "no container was started again");
    ensure!(self::identities(&stage).await? == identities, "the cluster's identity was touched");
    world.narrator.seen("both pods are ready, with the identity that they had", begin);
    Ok(())
}

async fn restarts(world: &World<'_>) -> Result<i32> {
    let pods = world.pods().await?;
    let statuses = pods.iter().filter_map(|pod| pod.status.as_ref()?.container_statuses.as_ref()).flatten();
    Ok(statuses.map(|status| status.restart_count).sum())
}

/// The identities' names and versions.
async fn identities(stage: &Stage) -> Result<Vec<(String, Option<String>)>> {
    let secrets: Api<Secret> = Api::namespaced(stage.space.client.clone(), NAMESPACE);
    let all = secrets.list(&ListParams::default()).await?;
    let ours = all.iter().filter(|secret| secret.name_any().starts_with("identity-"));
    Ok(ours.map(|secret| (secret.name_any(), secret.resource_version())).collect())
}
