//! A release's life on a node: a next version of chart and image, the way back, the end. No Secret may miss it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition as Crd;
use kube::ResourceExt;
use kube::api::{Api, DynamicObject, ListParams};
use seal_crds::{SCHEMA, SCHEMA_ANNOTATION};
use seal_tests::helm::{RELEASE, chart, next_chart};
use seal_tests::install::NAMESPACE;
use seal_tests::{Stage, manifests, wait};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::journey::{self, IMAGE};
use crate::world::{RING, SHOP, World};

/// The tag of the next version's image: the same program, as far as a node can tell another one.
const NEXT: &str = "next";
/// How many SealedSecrets may wait for their Secrets at the same time.
const AT_ONCE: usize = 20;
/// For Helm, on a machine that is busy with something else.
const WAIT: [&str; 5] = ["--namespace", NAMESPACE, "--wait", "--timeout", "5m"];

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
    ensure!(schema(world).await? == SCHEMA + 1, "the definitions are not the next chart's");

    world.narrator.step("helm rollback, under the same load");
    let said = under_load(world, "back", &[&["rollback", RELEASE, "1"][..], &WAIT].concat()).await?;
    let said = format!("{:#}", said.err().context("Helm says nothing of definitions that stay")?);
    ensure!(said.contains("the schema of a definition is never lowered"), "{said}");
    all_run(world, &versions.tag).await?;
    ensure!(schema(world).await? == SCHEMA + 1, "the definitions were lowered");
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
    world.helm.run(&["uninstall", RELEASE, "--namespace", NAMESPACE, "--wait", "--timeout", "5m"])?;
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
    let stage = world.stage().await?;
    let pattern = pattern(&stage)?;
    let arguments: Vec<_> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    let helm = Arc::clone(&world.helm);
    let begin = Instant::now();
    let helm = tokio::task::spawn_blocking(move || helm.run(&arguments));
    let waits = load(stage, names, &pattern, || helm.is_finished()).await?;
    let said = helm.await?;
    world.narrator.seen("Helm is done", begin);
    world.narrator.say(format!(
        "{} SealedSecrets were applied meanwhile, each has its Secret; the slowest took {} ms.",
        waits.len(),
        waits.iter().max().context("there was a load")?.as_millis()
    ));
    Ok(said)
}

/// A SealedSecret that may have any name in the namespace.
fn pattern(stage: &Stage) -> Result<DynamicObject> {
    let manifest = seal_tests::laptop::secret_manifest(SHOP, "pattern", &[("password", "loaded")])?;
    stage.laptop.seal_with(&["--scope", "namespace", "-w", "pattern.yaml"], manifest)?;
    manifests::read(&stage.laptop.path("pattern.yaml"))?.pop().context("there is one document")
}

/// Applies one after the other until it is over; how long each waited for its Secret.
async fn load(stage: Stage, names: &str, pattern: &DynamicObject, is_over: impl Fn() -> bool) -> Result<Vec<Duration>> {
    let (stage, at_once) = (Arc::new(stage), Arc::new(Semaphore::new(AT_ONCE)));
    let mut waits = JoinSet::new();
    while !is_over() {
        let permit = Arc::clone(&at_once).acquire_owned().await?;
        let mut object = pattern.clone();
        let name = format!("{names}-{}", waits.len());
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

/// Waits until all pods run the image with this tag.
async fn all_run(world: &World<'_>, tag: &str) -> Result<()> {
    world.all_ready().await?;
    wait::until("the pods of the other image are gone", || async {
        for pod in world.pods().await? {
            let image =
                pod.spec.as_ref().and_then(|spec| spec.containers.first()?.image.as_deref()).unwrap_or_default();
            ensure!(image.ends_with(&format!(":{tag}")), "{} runs {image}", pod.name_any());
        }
        Ok(Some(()))
    })
    .await
}

/// The schema number of the definition in the cluster.
async fn schema(world: &World<'_>) -> Result<u32> {
    let crd = Api::<Crd>::all(world.client().await?).get("sealedsecrets.sealwright.dev").await?;
    let schema = crd.annotations().get(SCHEMA_ANNOTATION).context("a definition has a number")?;
    schema.parse().context("it is a number")
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
