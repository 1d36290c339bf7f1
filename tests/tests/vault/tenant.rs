//! A namespace whose people have stores and references: what they apply, and what they see of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicUsize, Ordering},
};

use futures::future::try_join_all;
use k8s_openapi::api::{
    authentication::v1::TokenRequest,
    core::v1::{Secret, ServiceAccount},
};
use kube::{
    ResourceExt,
    api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams},
};
use seal_crds::{REFRESH_ANNOTATION, SealedSecret, VaultStore, condition};
use seal_tests::{Context, Result, Stage, ensure, manifests, wait};
use serde_json::{Value, json};

pub(crate) struct Tenant {
    pub(crate) stage: Stage,
}

/// An entry of `spec.vault.data`, at mount `kv`.
pub(crate) fn field(key: &str, path: &str, field: &str) -> Value {
    json!({"key": key, "mount": "kv", "path": path, "field": field})
}

/// One object with the fields of another put into it.
pub(crate) fn merged(mut into: Value, more: Value) -> Value {
    if let (Value::Object(into), Value::Object(more)) = (&mut into, more) {
        into.extend(more);
    }
    into
}

impl Tenant {
    pub(crate) fn namespace(&self) -> &str {
        &self.stage.space.name
    }

    pub(crate) fn accounts(&self) -> Api<ServiceAccount> {
        Api::namespaced(self.stage.space.client.clone(), self.namespace())
    }

    /// Makes a ServiceAccount.
    pub(crate) async fn account(&self, name: &str) -> Result<()> {
        let account: ServiceAccount = serde_json::from_value(json!({"metadata": {"name": name}}))?;
        self.accounts().create(&PostParams::default(), &account).await.context("make a ServiceAccount").map(drop)
    }

    /// A token of a ServiceAccount; without an audience, for the API server itself.
    pub(crate) async fn token_of(&self, account: &str, audience: Option<&str>) -> Result<String> {
        let audiences: Vec<_> = audience.into_iter().collect();
        let request: TokenRequest = serde_json::from_value(json!({"metadata": {}, "spec": {"audiences": audiences}}))?;
        let made = self.accounts().create_token_request(account, &PostParams::default(), &request).await?;
        Ok(made.status.context("a token request has a token")?.token)
    }

    /// Applies a Secret with a credential under `id`, which consents to be one.
    pub(crate) async fn credential(&self, name: &str, value: &str) -> Result<()> {
        let labels = json!({"sealwright.dev/vault-auth": "true"});
        self.apply(json!({
            "apiVersion": "v1", "kind": "Secret", "stringData": {"id": value},
            "metadata": {"name": name, "labels": labels},
        }))
        .await
    }

    /// Applies a VaultStore.
    pub(crate) async fn store(&self, name: &str, spec: Value) -> Result<()> {
        self.ours("VaultStore", name, spec).await
    }

    /// Applies a SealedSecret with this Vault part, which uses store `main` unless it says otherwise; `more` adds to the
    /// spec.
    pub(crate) async fn object(&self, name: &str, vault: Value, more: Value) -> Result<()> {
        let vault = merged(json!({"storeRef": {"name": "main"}}), vault);
        self.ours("SealedSecret", name, merged(json!({"vault": vault}), more)).await
    }

    /// Applies a SealedSecret that wants these fields.
    pub(crate) async fn wants(&self, name: &str, fields: &[Value]) -> Result<()> {
        self.object(name, json!({"data": fields}), json!({})).await
    }

    /// Applies so many SealedSecrets, named after their store and numbered, that want one field; gives their names.
    pub(crate) async fn many(&self, store: &str, interval: &str, count: usize) -> Result<Vec<String>> {
        let names: Vec<_> = (0..count).map(|number| format!("{store}-{number}")).collect();
        let (store, data) = (json!({"name": store}), json!([field("user", "app/db", "user")]));
        let vault = json!({"storeRef": store, "refreshInterval": interval, "data": data});
        for names in names.chunks(20) {
            try_join_all(names.iter().map(|name| {
                let (metadata, spec) = (json!({"name": name}), json!({"vault": vault}));
                let object = json!({
                    "apiVersion": "sealwright.dev/v1alpha1", "kind": "SealedSecret", "metadata": metadata, "spec": spec,
                });
                async move {
                    let object: SealedSecret = serde_json::from_value(object)?;
                    self.stage.sealed().create(&PostParams::default(), &object).await.context("make an object")
                }
            }))
            .await?;
        }
        Ok(names)
    }

    /// Waits until all of these are ready, with one list for each look.
    pub(crate) async fn all_ready(&self, names: &[String]) -> Result<()> {
        let sealed = self.stage.sealed();
        wait::until("all are ready", || async {
            let ready = |object: &SealedSecret| {
                let status = object.status.as_ref();
                status.is_some_and(|status| condition::is_true(&status.conditions, condition::READY))
            };
            let all = sealed.list(&ListParams::default()).await?.items;
            let ready: BTreeSet<_> =
                all.iter().filter(|object| ready(object)).map(|object| object.name_any()).collect();
            let missing = names.iter().filter(|name| !ready.contains(*name)).count();
            ensure!(missing == 0, "{missing} of {} are not", names.len());
            Ok(Some(()))
        })
        .await
    }

    /// What tells that objects and Secrets of the namespace were written.
    pub(crate) async fn versions(&self) -> Result<BTreeMap<String, Option<String>>> {
        let sealed = self.stage.sealed().list_metadata(&ListParams::default()).await?;
        let secrets = self.stage.space.secrets().list_metadata(&ListParams::default()).await?;
        let objects = sealed.iter().map(|object| (format!("object {}", object.name_any()), object.resource_version()));
        Ok(objects.chain(secrets.iter().map(|secret| (secret.name_any(), secret.resource_version()))).collect())
    }

    async fn ours(&self, kind: &str, name: &str, spec: Value) -> Result<()> {
        let metadata = json!({"name": name});
        self.apply(json!({
            "apiVersion": "sealwright.dev/v1alpha1", "kind": kind, "metadata": metadata, "spec": spec,
        }))
        .await
    }

    /// Applies any object in this namespace.
    pub(crate) async fn apply(&self, mut object: Value) -> Result<()> {
        object["metadata"]["namespace"] = self.namespace().into();
        let object: DynamicObject = serde_json::from_value(object)?;
        manifests::apply(&self.stage.space.client, &[object]).await.map(drop)
    }

    pub(crate) fn stores(&self) -> Api<VaultStore> {
        Api::namespaced(self.stage.space.client.clone(), self.namespace())
    }

    /// Deletes a SealedSecret.
    pub(crate) async fn delete(&self, name: &str) -> Result<()> {
        self.stage.sealed().delete(name, &DeleteParams::default()).await.context("delete a SealedSecret").map(drop)
    }

    /// Asks for a fetch now.
    pub(crate) async fn ask_refresh(&self, name: &str) -> Result<String> {
        static ASKED: AtomicUsize = AtomicUsize::new(1);
        let wish = format!("ask-{}", ASKED.fetch_add(1, Ordering::Relaxed));
        let patch = json!({"metadata": {"annotations": {REFRESH_ANNOTATION: wish}}});
        self.stage.sealed().patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
        Ok(wish)
    }

    /// Waits until such a fetch has been made.
    pub(crate) async fn refreshed(&self, name: &str, wish: &str) -> Result<SealedSecret> {
        let sealed = self.stage.sealed();
        wait::until(&format!("{name} is fetched for {wish}"), || async {
            let object = sealed.get(name).await?;
            let observed = object.status.as_ref().and_then(|status| status.observed_refresh.as_deref());
            ensure!(observed == Some(wish), "it was for {observed:?}");
            Ok(Some(object))
        })
        .await
    }

    /// Asks for a fetch, and waits until it has been made, whatever it brought.
    pub(crate) async fn refresh(&self, name: &str) -> Result<SealedSecret> {
        let wish = self.ask_refresh(name).await?;
        self.refreshed(name, &wish).await
    }

    /// The same, and gives the reason of `VaultSynced` and the message beside it.
    pub(crate) async fn refresh_tells(&self, name: &str) -> Result<(String, String)> {
        let object = self.refresh(name).await?;
        let status = object.status.unwrap_or_default();
        let synced = condition::find(&status.conditions, condition::VAULT_SYNCED).cloned();
        let synced = synced.context("an object with a Vault part says VaultSynced")?;
        Ok((synced.reason, synced.message))
    }

    /// Waits until `VaultSynced` of the object as it is now has this reason; gives the message beside it.
    pub(crate) async fn vault_is(&self, name: &str, wanted: &str) -> Result<String> {
        let sealed = self.stage.sealed();
        wait::until(&format!("the Vault part of {name} is {wanted}"), || async {
            let object = sealed.get(name).await?;
            let status = object.status.clone().unwrap_or_default();
            let synced = condition::find(&status.conditions, condition::VAULT_SYNCED).cloned();
            ensure!(
                status.observed_generation == object.metadata.generation
                    && synced.as_ref().is_some_and(|synced| synced.reason == wanted),
                "generation {:?} of {:?} is {synced:?}",
                status.observed_generation,
                object.metadata.generation
            );
            Ok(synced.map(|synced| synced.message))
        })
        .await
    }

    /// Waits until `Ready` of a store has this reason; gives the message beside it.
    pub(crate) async fn store_is(&self, name: &str, wanted: &str) -> Result<String> {
        let stores = self.stores();
        wait::until(&format!("store {name} is {wanted}"), || async {
            let store = stores.get(name).await?;
            let status = store.status.clone().unwrap_or_default();
            let ready = condition::find(&status.conditions, condition::READY).cloned();
            ensure!(
                status.observed_generation == store.metadata.generation
                    && ready.as_ref().is_some_and(|ready| ready.reason == wanted),
                "it is {ready:?}"
            );
            Ok(ready.map(|ready| ready.message))
        })
        .await
    }

    /// A Secret as it is now; none if there is none.
    pub(crate) async fn secret(&self, name: &str) -> Result<Option<Secret>> {
        self.stage.space.secrets().get_opt(name).await.context("read a Secret")
    }
}
