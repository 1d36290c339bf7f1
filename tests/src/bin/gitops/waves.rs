//! Sync waves: what mounts a Secret comes after what makes it.

use std::time::Instant;

use anyhow::{Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use kube::api::Api;
use serde_json::{Value, json};

use crate::world::World;

const WAVE: &str = "argocd.argoproj.io/sync-wave";

/// Writes a SealedSecret for the first wave and a Deployment that mounts its Secret for the second.
fn write(world: &World<'_>, folder: &str) -> Result<()> {
    let file = world.seal(folder, "db", &[("password", "1")])?;
    world.stage(folder).change_file(&file, |file| {
        file["metadata"]["annotations"] = json!({WAVE: "-1"});
        Ok(())
    })?;
    let labels = json!({"app": "shop"});
    let container = json!({
        "name": "shop", "image": "shop", "envFrom": [{"secretRef": {"name": "db"}}],
    });
    // No pod could run here: it is complete with none.
    let deployment: Value = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "shop"},
        "spec": {"replicas": 0, "selector": {"matchLabels": labels},
                 "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}}},
    });
    world.laptop.write(&format!("{folder}/deployment.yaml"), serde_yaml::to_string(&deployment)?)?;
    world.laptop.commit("a shop and its database password")
}

fn deployments(world: &World<'_>, namespace: &str) -> Api<Deployment> {
    Api::namespaced(world.client.clone(), namespace)
}

pub(crate) async fn a_workload_waits_for_its_secret(world: &mut World<'_>) -> Result<()> {
    const WAVES: &str = "waves";
    world.narrator.step("A workload in a later wave waits until its SealedSecret is Healthy");
    write(world, WAVES)?;
    world.controller()?.freeze()?;
    world.apply_folder(WAVES, WAVES, WAVES, json!({})).await?;
    let waiting = world.shows(WAVES, "Argo CD waits", |status| {
        let operation = &status["operationState"];
        let message = operation["message"].as_str().unwrap_or_default();
        ensure!(
            operation["phase"] == "Running"
                && message.contains("waiting for healthy state of sealwright.dev/SealedSecret/db"),
            "it is {operation}"
        );
        Ok(())
    });
    let waiting = waiting.await?;
    world.narrator.say(format!("While the controller does not answer: {}", waiting["operationState"]["message"]));
    let deployments = deployments(world, WAVES);
    ensure!(deployments.get_opt("shop").await?.is_none(), "the Deployment is there already");
    let begin = Instant::now();
    world.controller()?.thaw()?;
    world.is_synced(WAVES, "Healthy").await?;
    deployments.get("shop").await?;
    world.stage(WAVES).holds("db", &[("password", "1")]).await?;
    world.narrator.seen("it answers: the Secret, then the Deployment", begin);
    Ok(())
}

pub(crate) async fn a_workload_is_not_made_without_its_secret(world: &mut World<'_>) -> Result<()> {
    const BLOCKED: &str = "blocked";
    world.narrator.step("A workload is not made when its SealedSecret cannot be opened");
    write(world, BLOCKED)?;
    world.stage(BLOCKED).change_file("blocked/db.yaml", |file| {
        file["spec"]["sealedFor"]["namespaces"] = json!(["elsewhere"]);
        Ok(())
    })?;
    world.laptop.commit("a slip")?;
    let begin = Instant::now();
    world.apply_folder(BLOCKED, BLOCKED, BLOCKED, json!({})).await?;
    let failed = world.shows(BLOCKED, "the sync fails", |status| {
        let operation = &status["operationState"];
        ensure!(operation["phase"] == "Failed", "it is {operation}");
        Ok(())
    });
    failed.await?;
    let told = world.has_health(BLOCKED, ("SealedSecret", "db"), "Degraded", "SealedForElsewhere").await?;
    ensure!(deployments(world, BLOCKED).get_opt("shop").await?.is_none(), "the Deployment was made");
    world.narrator.seen(format!("the sync has failed: {told}"), begin);

    world.laptop.git(&["revert", "--no-edit", "HEAD"])?;
    let begin = Instant::now();
    world.refresh(BLOCKED, "normal").await?;
    world.is_synced(BLOCKED, "Healthy").await?;
    deployments(world, BLOCKED).get("shop").await?;
    world.narrator.seen("the next commit, which mends it, goes through", begin);
    Ok(())
}
