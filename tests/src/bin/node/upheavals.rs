//! What happens to pods and nodes; no SealedSecret may be lost by it, and no Secret changed.

use std::pin::pin;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use futures::{Stream, TryStreamExt};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, EvictParams, WatchEvent, WatchParams};
use seal_tests::install::{CONTROLLER, NAMESPACE};
use seal_tests::{node, wait};
use serde_json::json;

use crate::releases::identities;
use crate::world::World;

/// As `kubectl drain` does it: no new pod here, and every pod is asked to leave.
pub(crate) async fn the_node_is_drained(world: &mut World<'_>) -> Result<()> {
    world.narrator.step("The node is drained, and there is no other");
    let stage = world.stage().await?;
    let (client, leader) = (world.client().await?, world.leader().await?);
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    let leases: Api<Lease> = Api::namespaced(client, NAMESPACE);
    let only = |name: &str| WatchParams::default().fields(&format!("metadata.name={name}"));
    let (pod, lease) = (pods.watch(&only(&leader), "0").await?, leases.watch(&only(CONTROLLER), "0").await?);

    world.cordon(true).await?;
    let begin = Instant::now();
    pods.evict(&leader, &EvictParams::default()).await.context("evict the pod that works")?;
    let last = wait::or_late("the evicted pod ends", last_of(pod)).await?;
    let ended = last.status.and_then(|status| status.container_statuses?.pop()?.state?.terminated);
    let ended = ended.context("nothing is told of its end")?;
    ensure!(ended.exit_code == 0, "it was killed: {ended:?}");
    world.narrator.seen("the pod that works may leave, and ended by itself", begin);
    wait::or_late("the lease goes over", handed_over(lease, &leader)).await?;
    stage.establish("drained", &[("password", "1")]).await?;
    world.narrator.seen("it gave the lease back: what was applied is opened by the one that stayed", begin);
    // It asks for the other one again and again until its time is over.
    let said = world.laptop.kubectl(&["drain", node::NAME, "--timeout=10s"])?;
    ensure!(
        said.code == Some(1) && said.stderr.contains("would violate the pod's disruption budget"),
        "`kubectl drain` ended with {:?}: {}",
        said.code,
        said.stderr
    );
    world.narrator.say("The other may not: `kubectl drain` names the disruption budget, and gives up.");

    world.cordon(false).await?;
    world.all_ready().await
}

/// What a pod was when it was gone.
async fn last_of(pod: impl Stream<Item = kube::Result<WatchEvent<Pod>>>) -> Result<Pod> {
    let mut events = pin!(pod);
    while let Some(event) = events.try_next().await? {
        if let WatchEvent::Deleted(pod) = event {
            return Ok(pod);
        }
    }
    bail!("the watch ended")
}

/// Sees it without a holder before it has another one: it was given back, and did not run out.
async fn handed_over(lease: impl Stream<Item = kube::Result<WatchEvent<Lease>>>, before: &str) -> Result<()> {
    let mut events = pin!(lease);
    let mut free = false;
    while let Some(event) = events.try_next().await? {
        let (WatchEvent::Added(lease) | WatchEvent::Modified(lease)) = event else { continue };
        let holder = lease.spec.and_then(|spec| spec.holder_identity).unwrap_or_default();
        if !holder.is_empty() && !holder.starts_with(before) {
            ensure!(free, "{holder} took it over before it was given back");
            return Ok(());
        }
        free = holder.is_empty();
    }
    bail!("the watch ended")
}

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
    let restarts = world.restarts().await?;
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
    ensure!(world.restarts().await? >= restarts + 2, "no container was started again");
    ensure!(identities(&stage).await? == before, "the cluster's identity was touched");
    world.narrator.seen("both pods are ready, with the identity that they had", begin);
    Ok(())
}
