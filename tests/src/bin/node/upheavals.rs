//! What happens to pods and nodes; no SealedSecret may be lost by it, and no Secret changed.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams};
use seal_tests::install::NAMESPACE;
use serde_json::json;

use crate::releases::identities;
use crate::world::World;

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

pub(crate) async fn the_node_loses_its_power(world: &mut World<'_>) -> Result<()> {
    world.narrator.step("The node loses its power: kubelet, containerd and every container, at once");
    let stage = world.stage().await?;
    let before = identities(&stage).await?;
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
    ensure!(identities(&stage).await? == before, "the cluster's identity was touched");
    world.narrator.seen("both pods are ready, with the identity that they had", begin);
    Ok(())
}

async fn restarts(world: &World<'_>) -> Result<i32> {
    let pods = world.pods().await?;
    let statuses = pods.iter().filter_map(|pod| pod.status.as_ref()?.container_statuses.as_ref()).flatten();
    Ok(statuses.map(|status| status.restart_count).sum())
}
