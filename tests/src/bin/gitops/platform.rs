//! What the platform team commits: the chart, and the cluster's rings.

use std::time::Instant;

use anyhow::Result;
use seal_tests::control_plane::copy_folder;
use seal_tests::install::{CONTROLLER, NAMESPACE};
use seal_tests::{Controller, helm};
use serde_json::json;

use crate::world::{RING, World};

pub(crate) async fn the_chart_is_an_application(world: &mut World<'_>) -> Result<()> {
    world.narrator.step("The chart is an Application");
    copy_folder(&helm::chart(), &world.laptop.path("charts/sealwright"))?;
    world.laptop.commit("our platform")?;
    let recovery = world.laptop.read("recovery.pub")?;
    // No pod could run: the replica that works here is a process, as the Deployment says and under its rights.
    let values = json!({"replicaCount": 0, "keyRing": {"recovery": [recovery.trim()]}});
    let begin = Instant::now();
    let source = json!({"helm": {"valuesObject": values}});
    world.apply_folder("sealwright", NAMESPACE, "charts/sealwright", source).await?;
    world.is_synced("sealwright", "Healthy").await?;
    world.narrator.seen("Synced and Healthy, by server-side apply", begin);
    let begin = Instant::now();
    world.controller = Some(Controller::start(&world.plane, CONTROLLER, &[]).await?);
    world.narrator.seen("the controller is ready, under the rights that Argo CD gave it", begin);
    Ok(())
}

pub(crate) async fn rings_are_an_application(world: &mut World<'_>) -> Result<()> {
    world.narrator.step("The cluster's rings are an Application: .seal/keyrings, into the controller's namespace");
    world.narrator.command("seal init --from-cluster; git commit");
    world.laptop.seal(&["init", "--from-cluster"])?;
    world.laptop.commit("our rings")?;
    let begin = Instant::now();
    world.apply_folder("rings", NAMESPACE, ".seal/keyrings", json!({})).await?;
    world.is_synced("rings", "Healthy").await?;
    let told = world.has_health("rings", ("KeyRing", RING), "Healthy", "Opened").await?;
    world.narrator.seen(format!("Synced and Healthy: {told}"), begin);
    Ok(())
}
