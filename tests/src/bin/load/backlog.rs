//! Many SealedSecrets at once, and the writes that they need.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::{
    Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams,
};
use seal_crds::condition::{READY, is_true};
use seal_crds::{FIELD_MANAGER, OWNER_LABEL, SealedSecret};
use seal_tests::laptop::secret_manifest;
use seal_tests::{Stage, manifests, wait};
use serde_json::{Value, json};

/// Requests in flight, for the bare client as for the setting of the stage.
const AT_ONCE: usize = 32;
/// The size of each value.
const VALUE: usize = 1024;
/// The label of the backlog's objects.
const LABEL: &str = "load=backlog";

/// The objects, sealed once for any name in the namespace.
pub(crate) struct Backlog {
    objects: Vec<SealedSecret>,
}

impl Backlog {
    pub(crate) fn seal(stage: &Stage, number: usize) -> Result<Self> {
        let manifest = secret_manifest(&stage.space.name, "any", &[("value", "v".repeat(VALUE).as_str())])?;
        let sealed = stage.laptop.seal_with(&["--scope", "namespace"], manifest)?;
        let one: DynamicObject = manifests::parse(&sealed)?.pop().context("one document")?;
        let one: SealedSecret = serde_json::from_value(serde_json::to_value(&one)?)?;
        let named = |index| {
            let mut object = one.clone();
            object.metadata.name = Some(format!("item-{index:05}"));
            object.labels_mut().insert("load".into(), "backlog".into());
            object
        };
        Ok(Self { objects: (0..number).map(named).collect() })
    }

    /// Creates the objects; nobody serves them yet.
    pub(crate) async fn apply(&self, stage: &Stage) -> Result<()> {
        let api = stage.sealed();
        each(&self.objects, |object| {
            let api = api.clone();
            async move { api.create(&PostParams::default(), object).await.map(drop).context("create an object") }
        })
        .await
    }

    /// As many Secrets of other people, in a namespace beside.
    pub(crate) async fn make_foreign_secrets(&self, stage: &Stage) -> Result<()> {
        let space = seal_tests::Space::named(stage.space.plane.clone(), "foreign".to_owned()).await?;
        let secrets = space.secrets();
        each(&self.objects, |object| {
            let (secrets, name) = (secrets.clone(), object.name_any());
            async move {
                let secret: Secret = serde_json::from_value(
                    json!({"metadata": {"name": name}, "stringData": {"value": "f".repeat(VALUE)}}),
                )?;
                secrets.create(&PostParams::default(), &secret).await.map(drop).context("create a foreign Secret")
            }
        })
        .await
    }

    /// What the controller writes, without its work: an apply that creates the Secret, and one patch of the status.
    pub(crate) async fn write_barely(&self, stage: &Stage) -> Result<()> {
        let owners: BTreeMap<_, _> = stage
            .sealed()
            .list_metadata(&ListParams::default())
            .await?
            .into_iter()
            .map(|object| (object.name_any(), object))
            .collect();
        let (secrets, sealed) = (stage.space.secrets(), stage.sealed());
        each(&self.objects, |object| {
            let (secrets, sealed, owner) = (secrets.clone(), sealed.clone(), owners.get(&object.name_any()));
            async move {
                let owner = owner.context("every object was created")?;
                let name = object.name_any();
                let params = PatchParams::apply(FIELD_MANAGER).force();
                let made = secrets.patch(&name, &params, &Patch::Apply(desired(&name, owner.uid()))).await?;
                let status = status(&name, &made, owner.metadata.generation);
                sealed.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await?;
                Ok(())
            }
        })
        .await
    }

    /// Removes the objects and their Secrets, each by name: a server answers for a whole collection only when all is
    /// gone, which is later than a client waits.
    pub(crate) async fn clear(&self, stage: &Stage) -> Result<()> {
        let (secrets, sealed) = (stage.space.secrets(), stage.sealed());
        each(&self.objects, |object| {
            let (secrets, sealed, name) = (secrets.clone(), sealed.clone(), object.name_any());
            async move {
                gone(sealed.delete(&name, &DeleteParams::default()).await)?;
                gone(secrets.delete(&name, &DeleteParams::default()).await)
            }
        })
        .await?;
        let labelled = ListParams::default().labels(LABEL);
        wait::until("the objects and their Secrets are gone", || async {
            let secrets = stage.space.secrets().list_metadata(&ListParams::default().labels(OWNER_LABEL)).await?;
            let left = secrets.items.len() + stage.sealed().list_metadata(&labelled).await?.items.len();
            ensure!(left == 0, "{left} are left");
            Ok(Some(()))
        })
        .await
    }

    /// Begins to watch; what it gives resolves when every object has said `Ready=True`. One watch, so that the seeing
    /// costs little.
    pub(crate) async fn all_ready(&self, stage: &Stage) -> Result<impl Future<Output = Result<()>> + use<>> {
        let (sealed, number) = (stage.sealed(), self.objects.len());
        let list = sealed.list_metadata(&ListParams::default().limit(1)).await?;
        let version = list.metadata.resource_version.context("a list has a resourceVersion")?;
        let watching = tokio::spawn(async move { count_ready(&sealed, number, version).await });
        Ok(async move { watching.await.context("the watching task ends")? })
    }

    /// The resourceVersions of all objects and Secrets.
    pub(crate) async fn versions(&self, stage: &Stage) -> Result<BTreeMap<String, Option<String>>> {
        let sealed = stage.sealed().list_metadata(&ListParams::default().labels(LABEL)).await?;
        let secrets = stage.space.secrets().list_metadata(&ListParams::default().labels(OWNER_LABEL)).await?;
        let ours = secrets.items.iter().filter(|secret| secret.name_any().starts_with("item-"));
        let objects =
            sealed.items.iter().map(|object| (format!("object {}", object.name_any()), object.resource_version()));
        Ok(objects.chain(ours.map(|secret| (secret.name_any(), secret.resource_version()))).collect())
    }
}

/// What somebody else has removed is gone, too.
fn gone<T>(deleted: kube::Result<T>) -> Result<()> {
    match deleted {
        Err(kube::Error::Api(status)) if status.is_not_found() => Ok(()),
        deleted => deleted.map(drop).context("delete an object"),
    }
}

async fn count_ready(sealed: &Api<SealedSecret>, number: usize, mut version: String) -> Result<()> {
    let params = WatchParams::default().labels(LABEL).timeout(290);
    let mut ready = std::collections::HashSet::new();
    while ready.len() < number {
        let mut events = pin!(sealed.watch(&params, &version).await?);
        while let Some(event) = events.try_next().await? {
            let WatchEvent::Modified(object) = event else { continue };
            version = object.resource_version().unwrap_or(version);
            if object.status.as_ref().is_some_and(|status| is_true(&status.conditions, READY)) {
                ready.insert(object.name_any());
            }
            if ready.len() == number {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn desired(name: &str, owner: Option<String>) -> Value {
    use base64::Engine;
    let value = base64::engine::general_purpose::STANDARD.encode("v".repeat(VALUE));
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque", "data": {"value": value},
        "metadata": {
            "name": name, "resourceVersion": "1",
            "labels": {OWNER_LABEL: "0123456789abcdef0123456789abcdef"},
            "annotations": {OWNER_LABEL: format!("SealedSecret/{name}")},
            "ownerReferences": [{"apiVersion": "sealwright.dev/v1alpha1", "kind": "SealedSecret", "name": name, "uid": owner, "controller": true}],
        },
    })
}

fn status(name: &str, secret: &Secret, generation: Option<i64>) -> Value {
    let condition = json!({
        "type": "Ready", "status": "True", "reason": "Synced", "message": "", "observedGeneration": generation,
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    });
    json!({"status": {
        "observedGeneration": generation, "conditions": [condition], "keysInUse": ["a".repeat(32)],
        "secret": {"name": name, "uid": secret.uid(), "resourceVersion": secret.resource_version(), "inputs": "0".repeat(32)},
    }})
}

/// Does `work` for each object, many at once.
async fn each<'a, W, F>(objects: &'a [SealedSecret], work: W) -> Result<()>
where
    W: Fn(&'a SealedSecret) -> F,
    F: Future<Output = Result<()>>,
{
    stream::iter(objects).map(work).buffer_unordered(AT_ONCE).try_collect::<()>().await
}
