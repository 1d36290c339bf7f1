//! Values of 1 MB out of OpenBao, beside Secrets of that size of other people: what they cost in memory.

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, PostParams};
use seal_crds::condition::{READY, find, is_true};
use seal_crds::{OWNER_LABEL, SealedSecret, VAULT_AUTH_LABEL};
use seal_tests::openbao::Bao;
use seal_tests::process::Guard;
use seal_tests::{Controller, Stage, manifests, wait};
use serde_json::{Value, json};

/// How many of ours, and how many of other people.
const SECRETS: usize = 60;
const VALUE: usize = 1_000_000;
/// Made at the same time, so that we do not measure ourselves.
const AT_ONCE: usize = 4;

/// Large values in a server, a store for it, and foreign Secrets.
pub(crate) struct Large {
    _guard: Guard,
    _bao: Bao,
}

impl Large {
    pub(crate) async fn prepare(stage: &Stage) -> Result<Self> {
        let guard = Guard::start()?;
        let bao = Bao::dev(&guard, "bao").await?;
        bao.mount_kv("kv", 2).await?;
        let value = "v".repeat(VALUE);
        let numbers: Vec<_> = (0..SECRETS).collect();
        for some in numbers.chunks(AT_ONCE) {
            try_join_all(some.iter().map(|number| async {
                bao.put("kv", &format!("large/{}", *number), json!({"value": value})).await?;
                let name = format!("foreign-{}", *number);
                let foreign = secret(&name, json!({}), json!({"value": value}))?;
                stage.space.secrets().create(&PostParams::default(), &foreign).await.context("make a foreign Secret")
            }))
            .await?;
        }
        let labels = json!({VAULT_AUTH_LABEL: "true"});
        let token = secret("token", labels, json!({"id": bao.root_token()}))?;
        stage.space.secrets().create(&PostParams::default(), &token).await.context("make a credential")?;
        let login = json!({"token": {"secretRef": {"name": "token", "key": "id"}}});
        let limits = json!({"requestsPerSecond": 1000});
        let spec = json!({"address": bao.url(), "tls": {"allowPlaintext": true}, "auth": login, "limits": limits});
        let store = serde_json::from_value(json!({
            "apiVersion": "sealwright.dev/v1alpha1", "kind": "VaultStore",
            "metadata": {"name": "main", "namespace": stage.space.name}, "spec": spec,
        }))?;
        manifests::apply(&stage.space.client, &[store]).await?;
        Ok(Self { _guard: guard, _bao: bao })
    }

    /// Has all of them fetched by this controller; gives its memory then, and the most that it ever was.
    pub(crate) async fn fetch(&self, stage: &Stage, controller: &Controller) -> Result<[u64; 2]> {
        let sealed = stage.sealed();
        try_join_all((0..SECRETS).map(|number| {
            let sealed = sealed.clone();
            async move {
                let path = format!("large/{number}");
                let data = json!([{"key": "value", "mount": "kv", "path": path, "field": "value"}]);
                let object: SealedSecret = serde_json::from_value(json!({
                    "apiVersion": "sealwright.dev/v1alpha1", "kind": "SealedSecret",
                    "metadata": {"name": format!("large-{number}")},
                    "spec": {"vault": {"storeRef": {"name": "main"}, "data": data}},
                }))?;
                sealed.create(&PostParams::default(), &object).await.context("make an object")
            }
        }))
        .await?;
        wait::until("the large Secrets are there", || async {
            let all = sealed.list(&ListParams::default()).await?.items;
            let is_ready = |object: &&SealedSecret| {
                object.status.as_ref().is_some_and(|status| is_true(&status.conditions, READY))
            };
            let ready = all.iter().filter(is_ready).count();
            let reason =
                |object: &SealedSecret| Some(find(&object.status.as_ref()?.conditions, READY)?.message.clone());
            let other = all.iter().filter(|object| !is_ready(object)).find_map(reason);
            ensure!(ready == SECRETS, "{ready} are; another: {other:?}");
            Ok(Some(()))
        })
        .await?;
        let process = controller.process();
        Ok([process.memory("VmRSS")?, process.memory("VmHWM")?])
    }

    /// Removes everything that could be in the way of what is measured later.
    pub(crate) async fn clear(self, stage: &Stage) -> Result<()> {
        let (every, now) = (ListParams::default(), DeleteParams::default());
        stage.sealed().delete_collection(&now, &every).await?;
        stage.space.secrets().delete_collection(&now, &every.clone().labels(OWNER_LABEL)).await?;
        let secrets = stage.space.secrets().list_metadata(&every).await?;
        for foreign in secrets.iter().filter(|secret| secret.name_any().starts_with("foreign-")) {
            stage.space.secrets().delete(&foreign.name_any(), &now).await?;
        }
        Ok(())
    }
}

fn secret(name: &str, labels: Value, data: Value) -> Result<Secret> {
    let metadata = json!({"name": name, "labels": labels});
    serde_json::from_value(json!({"metadata": metadata, "stringData": data})).context("a Secret")
}
