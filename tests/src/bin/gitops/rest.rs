//! Nothing to do: at rest no Application is ever OutOfSync, and nobody writes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, pin_mut};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, DynamicObject, ListParams, WatchEvent, WatchParams};
use kube::{Client, Resource, ResourceExt};
use seal_crds::{KeyRing, SealedSecret};
use seal_tests::argo_cd::RESYNC;
use serde::de::DeserializeOwned;

use crate::world::World;

/// How often each Application must have been compared.
const COMPARISONS: usize = 6;

/// Far more than they take.
const PATIENCE: Duration = Duration::from_secs(300);

pub(crate) async fn nothing_is_out_of_sync_at_rest(world: &mut World<'_>) -> Result<()> {
    world.narrator.step("At rest nothing is ever OutOfSync");
    let names: Vec<_> = world.applications().list(&ListParams::default()).await?.iter().map(|a| a.name_any()).collect();
    for name in &names {
        world.is_synced(name, "Healthy").await?;
    }
    let before = world.written(&names).await?;
    let begin = Instant::now();
    tokio::time::timeout(PATIENCE, world.compared()).await.context("Argo CD compares too seldom")??;
    world.narrator.seen(
        format!(
            "{} Applications, each compared {COMPARISONS} times, every {RESYNC}: no other state was seen",
            names.len()
        ),
        begin,
    );
    let begin = Instant::now();
    for name in &names {
        world.refresh(name, "hard").await?;
        world.is_synced(name, "Healthy").await?;
    }
    world.narrator.seen("and once more without any cache", begin);
    ensure!(world.written(&names).await? == before, "something was written or synced meanwhile");
    world.narrator.say("No sync, and not one write to a SealedSecret, a KeyRing or a Secret.");
    Ok(())
}

impl World<'_> {
    /// How often Argo CD has synced an Application.
    pub(crate) async fn syncs(&self, name: &str) -> Result<usize> {
        let application = self.applications().get(name).await?;
        Ok(application.data["status"]["history"].as_array().map_or(0, Vec::len))
    }

    /// Watches every Application until each was compared often enough; fails at the first that is not in sync.
    async fn compared(&self) -> Result<()> {
        let applications = self.applications();
        let listed = applications.list(&ListParams::default()).await?;
        let version = listed.metadata.resource_version.context("a list has a version")?;
        let mut compared: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for application in &listed.items {
            note(&mut compared, application)?;
        }
        let events = applications.watch(&WatchParams::default().timeout(290).disable_bookmarks(), &version).await?;
        pin_mut!(events);
        while compared.values().any(|times| times.len() <= COMPARISONS) {
            self.assert_running()?;
            match events.next().await.context("the watch has ended")?? {
                WatchEvent::Modified(application) => note(&mut compared, &application)?,
                other => anyhow::bail!("unexpected: {other:?}"),
            }
        }
        Ok(())
    }

    /// What changes when somebody writes: syncs, and the versions of our objects.
    async fn written(&self, names: &[String]) -> Result<BTreeMap<String, String>> {
        let mut written = BTreeMap::new();
        for name in names {
            written.insert(format!("syncs of {name}"), self.syncs(name).await?.to_string());
        }
        versions::<SealedSecret>(&self.client, &mut written).await?;
        versions::<KeyRing>(&self.client, &mut written).await?;
        versions::<Secret>(&self.client, &mut written).await?;
        Ok(written)
    }
}

/// Notes the version of each object of a kind.
async fn versions<K>(client: &Client, into: &mut BTreeMap<String, String>) -> Result<()>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned,
{
    for object in Api::<K>::all(client.clone()).list(&ListParams::default()).await? {
        let place = format!("{} {}/{}", K::kind(&()), object.namespace().unwrap_or_default(), object.name_any());
        into.insert(place, object.resource_version().unwrap_or_default());
    }
    Ok(())
}

/// Checks an Application, and notes when it was compared.
fn note(compared: &mut BTreeMap<String, BTreeSet<String>>, application: &DynamicObject) -> Result<()> {
    let (name, status) = (application.name_any(), &application.data["status"]);
    let (sync, health) = (&status["sync"]["status"], &status["health"]["status"]);
    ensure!(sync == "Synced" && health == "Healthy", "{name} is {sync} and {health}");
    let at = status["reconciledAt"].as_str().context("an Application says when it was compared")?;
    compared.entry(name).or_default().insert(at.to_owned());
    Ok(())
}
