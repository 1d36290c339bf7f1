//! What brings an object back before its time, and what keeps its Secret as it is.

use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use seal_crds::condition::{self, SealedSecretReason};
use seal_tests::{
    ensure,
    fault_proxy::{Fault, FaultProxy},
    in_namespace, wait,
};
use serde_json::{Value, json};

use crate::world::World;

/// Field `user` of `kv/app/db`, under key `user`.
fn user() -> Value {
    json!([{"key": "user", "mount": "kv", "path": "app/db", "field": "user"}])
}

#[test]
fn a_credential_that_comes_or_is_labelled_late_is_noticed() {
    in_namespace(|space| async move {
        let world = World::set(space).await?;
        let made = world.bao.ask("POST", "auth/token/create", json!({"policies": ["read"]})).await?;
        let login = json!({"auth": {"token": {"secretRef": {"name": "token", "key": "id"}}}});
        world.store(login).await?;
        world.object("db", json!({"data": user()}), json!({})).await?;
        world.vault_is("db", "AuthFailed").await?;
        let secret: Secret = serde_json::from_value(json!({
            "metadata": {"name": "token"}, "stringData": {"id": made["auth"]["client_token"]},
        }))?;
        let secrets = world.stage.space.secrets();
        secrets.create(&PostParams::default(), &secret).await?;
        world.annotate("db", "it is there").await?;
        wait::until("it lacks its label", || async {
            let status = world.stage.sealed().get("db").await?.status.unwrap_or_default();
            let synced = condition::find(&status.conditions, "VaultSynced").cloned();
            Ok(synced.filter(|synced| synced.message.contains("lacks the label")))
        })
        .await?;
        let label = Patch::Merge(json!({"metadata": {"labels": {"sealwright.dev/vault-auth": "true"}}}));
        secrets.patch("token", &PatchParams::default(), &label).await?;
        world.stage.ready("db").await?;
        world.stage.holds("db", &[("user", "ada")]).await
    });
}

#[test]
fn a_namespace_that_gets_or_loses_the_label_is_let_in_or_shut_out() {
    in_namespace(|space| async move {
        let world = World::set(space).await?;
        let home = format!("{}-platform", world.namespace());
        let client = world.stage.space.client.clone();
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let namespace = serde_json::from_value(json!({"metadata": {"name": home}}))?;
        namespaces.create(&PostParams::default(), &namespace).await?;
        let selector = json!({"allowedNamespaces": {"selector": {"matchLabels": {"vault": "allowed"}}}});
        world.store_in(&home, selector).await?;
        let store = json!({"storeRef": {"name": "main", "namespace": home}, "data": user()});
        world.object("db", store, json!({})).await?;
        world.vault_is("db", "StoreNotAllowed").await?;
        world.stage.holds_nothing("db").await?;

        let label = |value: Value| Patch::Merge(json!({"metadata": {"labels": {"vault": value}}}));
        namespaces.patch(world.namespace(), &PatchParams::default(), &label(json!("allowed"))).await?;
        world.stage.ready("db").await?;
        namespaces.patch(world.namespace(), &PatchParams::default(), &label(Value::Null)).await?;
        world.vault_is("db", "StoreNotAllowed").await?;
        world.stage.holds("db", &[("user", "ada")]).await
    });
}

#[test]
fn a_secret_changed_by_hand_is_put_right_from_vault_and_waits_for_it_while_it_is_out() {
    in_namespace(|space| async move {
        let world = World::set(space).await?;
        let proxy = FaultProxy::start(world.bao.address()).await?;
        world.store(json!({"address": format!("http://{}", proxy.address())})).await?;
        world.object("db", json!({"data": user(), "refreshInterval": "0"}), json!({})).await?;
        world.stage.ready("db").await?;
        world.stage.meddle("db", json!({"stringData": {"user": "mallory"}})).await?;
        world.stage.holds("db", &[("user", "ada")]).await?;
        ensure!(world.stage.drifts(&world.controller, "db") == 1);

        proxy.set(Fault::Refuse);
        world.stage.space.secrets().delete("db", &DeleteParams::default()).await?;
        world.stage.reason("db", SealedSecretReason::NeverSynced).await?;
        world.vault_is("db", "VaultUnreachable").await?;
        proxy.set(Fault::None);
        world.stage.ready("db").await?;
        world.stage.holds("db", &[("user", "ada")]).await
    });
}

#[test]
fn what_is_old_is_called_stale_and_stays() {
    in_namespace(|space| async move {
        let world = World::set(space).await?;
        let proxy = FaultProxy::start(world.bao.address()).await?;
        world.store(json!({"address": format!("http://{}", proxy.address())})).await?;
        let cadence = json!({"data": user(), "refreshInterval": "10s", "staleAfter": "15s"});
        world.object("db", cadence, json!({})).await?;
        world.stage.ready("db").await?;
        let secret = world.stage.space.secrets().get("db").await?;
        proxy.set(Fault::Refuse);
        world.stage.reason("db", SealedSecretReason::Stale).await?;
        ensure!(world.stage.space.secrets().get("db").await? == secret);
        proxy.set(Fault::None);
        world.stage.ready("db").await?;
        ensure!(world.stage.space.secrets().get("db").await? == secret);
        Ok(())
    });
}

#[test]
fn what_is_deleted_in_vault_stays_unless_the_object_says_otherwise() {
    in_namespace(|space| async move {
        let world = World::set(space).await?;
        world.store(json!({})).await?;
        world.bao.put("kv", "app/env", json!({"A": "1", "B": "2"})).await?;
        let both = |more: Value| {
            let mut vault = json!({"data": user(), "dataFrom": [{"mount": "kv", "path": "app/env", "prefix": "ENV_"}]});
            vault
                .as_object_mut()
                .into_iter()
                .for_each(|vault| vault.extend(more.as_object().cloned().unwrap_or_default()));
            vault
        };
        let whole = [("user", "ada"), ("ENV_A", "1"), ("ENV_B", "2")];
        world.object("db", both(json!({})), json!({})).await?;
        world.stage.ready("db").await?;
        world.stage.holds("db", &whole).await?;

        world.bao.ask("DELETE", "kv/data/app/env", Value::Null).await?;
        world.annotate("db", "deleted").await?;
        world.vault_is("db", "VersionDeleted").await?;
        world.stage.holds("db", &whole).await?;
        world.bao.ask("DELETE", "kv/metadata/app/env", Value::Null).await?;
        world.annotate("db", "gone").await?;
        world.vault_is("db", "PathNotFound").await?;
        world.stage.holds("db", &whole).await?;
        world.object("db", both(json!({"onMissing": "RemoveKey"})), json!({})).await?;
        world.vault_is("db", "Synced").await?;
        world.stage.holds("db", &[("user", "ada")]).await?;
        world.bao.put("kv", "app/env", json!({"A": "3"})).await?;
        world.annotate("db", "back").await?;
        world.stage.holds("db", &[("user", "ada"), ("ENV_A", "3")]).await
    });
}

#[test]
fn sealed_and_fetched_values_are_one_secret_or_none_and_no_key_comes_from_both() {
    in_namespace(|space| async move {
        let world = World::set(space).await?;
        world.store(json!({})).await?;
        let file = world.stage.seal("db", &[("password", "sealed")])?;
        let vault = json!({"storeRef": {"name": "main"}, "data": user()});
        let change = |file: &mut Value| {
            file["spec"]["vault"] = vault;
            Ok(())
        };
        world.stage.tamper(&file, change).await?;
        world.stage.ready("db").await?;
        world.stage.holds("db", &[("password", "sealed"), ("user", "ada")]).await?;

        let all = json!({"storeRef": {"name": "main"}, "dataFrom": [{"mount": "kv", "path": "app/db"}]});
        let change = |file: &mut Value| {
            file["spec"]["vault"] = all;
            Ok(())
        };
        world.stage.tamper(&file, change).await?;
        let told = world.stage.reason("db", SealedSecretReason::InvalidSpec).await?;
        let conditions = told.status.unwrap_or_default().conditions;
        let ready = condition::find(&conditions, "Ready").map(|ready| ready.message.clone()).unwrap_or_default();
        ensure!(ready.contains("`password`") && ready.contains("dataFrom"), "{ready}");
        world.stage.holds("db", &[("password", "sealed"), ("user", "ada")]).await
    });
}
