//! A release's life on a node: a next version of chart and image, the way back, the end. No Secret may miss it.

use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::{Api, ListParams};
use seal_crds::SCHEMA;
use seal_tests::helm::{RELEASE, chart, next_chart};
use seal_tests::install::{self, NAMESPACE};
use seal_tests::{Stage, wait};

use crate::journey::{self, IMAGE};
use crate::load::Load;
use crate::world::{RING, WAIT, World};

/// The tag of the next version's image: the same program, as far as a node can tell another one.
const NEXT: &str = "next";
/// Where the two versions of the chart are, and the tag of this one's image.
struct Versions {
    this: String,
    next: String,
    tag: String,
}

pub(crate) async fn an_upgrade_under_load_and_the_way_back(world: &mut World<'_>) -> Result<()> {
    world.narrator.step("helm upgrade to the next chart and image, while SealedSecrets come in all the time");
    let versions = versions(world)?;
    world.node()?.tag(&format!("{IMAGE}:{}", versions.tag), &format!("{IMAGE}:{NEXT}"))?;
    let tag = format!("image.tag={NEXT}");
    let upgrade = ["upgrade", RELEASE, &versions.next, "--reset-then-reuse-values", "--set", &tag];
    under_load(world, "up", &[&upgrade[..], &WAIT].concat()).await??;
    all_run(world, NEXT).await?;
    ensure!(install::schema(&world.client().await?).await? == SCHEMA + 1, "the definitions are not the next chart's");

    world.narrator.step("helm rollback, under the same load");
    let said = under_load(world, "back", &[&["rollback", RELEASE, "1"][..], &WAIT].concat()).await?;
    let said = format!("{:#}", said.err().context("Helm says nothing of definitions that stay")?);
    ensure!(said.contains("the schema of a definition is never lowered"), "{said}");
    all_run(world, &versions.tag).await?;
    ensure!(install::schema(&world.client().await?).await? == SCHEMA + 1, "the definitions were lowered");
    world.narrator.say("All went back but the definitions, which are never lowered; Helm says so, and that it failed.");

    let begin = Instant::now();
    let upgrade = ["upgrade", RELEASE, &versions.this, "--reset-then-reuse-values"];
    world.helm.run(&[&upgrade[..], &WAIT].concat())?;
    all_run(world, &versions.tag).await?;
    world.narrator.seen("the way without an error, helm upgrade to the older chart: done", begin);
    Ok(())
}

pub(crate) async fn an_uninstall_keeps_what_matters(world: &mut World<'_>) -> Result<()> {
    world.narrator.step("helm uninstall, and install again");
    let stage = world.stage().await?;
    let (identities, secrets) = (identities(&stage).await?, stage.space.secrets());
    let before = versions_of(&secrets).await?;
    let begin = Instant::now();
    world.helm.run(&[&["uninstall", RELEASE][..], &WAIT].concat())?;
    wait::until("the pods are gone", || async { Ok(world.pods().await?.is_empty().then_some(())) }).await?;
    world.narrator.seen("no pod is left", begin);
    ensure!(self::identities(&stage).await? == identities, "the cluster's identity was touched");
    stage.rings().get(RING).await.context("the ring is there")?;
    let sealed = stage.sealed().list(&ListParams::default()).await?.items;
    ensure!(!sealed.is_empty(), "the SealedSecrets are gone");
    ensure!(versions_of(&secrets).await? == before, "a Secret was touched");
    world.narrator.say(format!(
        "Definitions, identity, ring, {} SealedSecrets and their Secrets are as they were.",
        sealed.len()
    ));
    let begin = Instant::now();
    stage.apply(&stage.seal("between", &[("password", "1")])?).await?;
    journey::install(world)?;
    stage.ready("between").await?;
    stage.holds("between", &[("password", "1")]).await?;
    ensure!(self::identities(&stage).await? == identities, "there is another identity");
    world.narrator.seen("installed again; what was applied in between is opened with the old identity", begin);
    Ok(())
}

fn versions(world: &World<'_>) -> Result<Versions> {
    let next = world.plane.guard().scratch().join("next-chart");
    next_chart(&next)?;
    let file = std::fs::read_to_string(chart().join("Chart.yaml")).context("read Chart.yaml")?;
    let file: serde_json::Value = serde_yaml::from_str(&file).context("read Chart.yaml")?;
    Ok(Versions {
        this: chart().to_str().context("the chart's path is text")?.to_owned(),
        next: next.to_str().context("the chart's path is text")?.to_owned(),
        tag: file["appVersion"].as_str().context("the chart has an appVersion")?.to_owned(),
    })
}

/// Runs Helm while SealedSecrets are applied, each of which gets its Secret; what Helm says.
async fn under_load(world: &World<'_>, names: &str, arguments: &[&str]) -> Result<Result<String>> {
    let load = Load::of(world.stage().await?, names, "loaded")?;
    let arguments: Vec<_> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    let helm = Arc::clone(&world.helm);
    let begin = Instant::now();
    let helm = tokio::task::spawn_blocking(move || helm.run(&arguments));
    let waits = load.until(|_| helm.is_finished()).await?;
    let said = helm.await?;
    world.narrator.seen("Helm is done", begin);
    world.narrator.say(format!(
        "{} SealedSecrets were applied meanwhile, each has its Secret; the slowest took {} ms.",
        waits.len(),
        waits.iter().max().context("there was a load")?.as_millis()
    ));
    Ok(said)
}

/// Waits until all is ready, and sees that every pod runs the image with this tag.
async fn all_run(world: &World<'_>, tag: &str) -> Result<()> {
    world.all_ready().await?;
    for pod in world.pods().await? {
        let image = pod.spec.as_ref().and_then(|spec| spec.containers.first()?.image.as_deref()).unwrap_or_default();
        ensure!(image.ends_with(&format!(":{tag}")), "{} runs {image}", pod.name_any());
    }
    Ok(())
}

/// The identities' names and versions.
pub(crate) async fn identities(stage: &Stage) -> Result<Vec<(String, Option<String>)>> {
    let mut all = versions_of(&Api::namespaced(stage.space.client.clone(), NAMESPACE)).await?;
    all.retain(|(name, _)| name.starts_with("identity-"));
    Ok(all)
}

async fn versions_of(secrets: &Api<Secret>) -> Result<Vec<(String, Option<String>)>> {
    let all = secrets.list_metadata(&ListParams::default()).await?;
    Ok(all.iter().map(|secret| (secret.name_any(), secret.resource_version())).collect())
}
