//! Fetched, refreshed, kept.

use seal_crds::condition::{self, SealedSecretReason};
use seal_tests::{
    ensure,
    fault_proxy::{Fault, FaultProxy},
    in_namespace, wait,
};
use serde_json::json;

use crate::world::World;

#[test]
fn a_reference_becomes_a_secret_and_follows_what_is_in_vault() {
    in_namespace(|space| async move {
        let world = World::set(space).await?;
        let data = json!([
            {"key": "DB_USER", "mount": "kv", "path": "app/db", "field": "user"},
            {"key": "DB_PASSWORD", "mount": "kv", "path": "app/db", "field": "password"},
        ]);
        world.object("db", json!({"data": data, "refreshInterval": "10s"}), json!({})).await?;
        world.vault_is("db", "StoreNotFound").await?;
        world.stage.holds_nothing("db").await?;

        world.store(json!({})).await?;
        world.stage.ready("db").await?;
        world.stage.holds("db", &[("DB_USER", "ada"), ("DB_PASSWORD", "first")]).await?;
        let told = world.vault_is("db", "Synced").await?;
        world.store_is("Reachable").await?;
        ensure!(told.status.unwrap_or_default().vault_versions["kv/app/db"] == 1);

        world.bao.put("kv", "app/db", json!({"user": "grace", "password": "second"})).await?;
        world.stage.holds("db", &[("DB_USER", "grace"), ("DB_PASSWORD", "second")]).await?;
        wait::until_equal("the version that was read", Some(2), || async {
            let status = world.stage.sealed().get("db").await?.status.unwrap_or_default();
            Ok(status.vault_versions.get("kv/app/db").copied())
        })
        .await?;
        ensure!(world.stage.drifts(&world.controller, "db") == 0, "a rotation is nobody's doing");
        Ok(())
    });
}

#[test]
fn refreshes_that_bring_nothing_new_write_nothing_and_the_annotation_asks_for_one_now() {
    in_namespace(|space| async move {
        let world = World::set(space).await?;
        world.store(json!({})).await?;
        let data = json!([{"key": "user", "mount": "kv", "path": "app/db", "field": "user"}]);
        world.object("db", json!({"data": data, "refreshInterval": "10s"}), json!({})).await?;
        let told = world.stage.ready("db").await?;
        let secret = world.stage.space.secrets().get("db").await?;
        let events = world.stage.events("db").await?.len();
        let read = || world.bao.count("read kv/data/app/db");
        let before = read()?;
        wait::until("three refreshes", || async { Ok((read()? >= before + 3).then_some(())) }).await?;
        ensure!(world.bao.count("update auth/kubernetes/login")? == 1, "one login");
        ensure!(world.stage.sealed().get("db").await?.metadata == told.metadata, "a status was written");
        ensure!(world.stage.space.secrets().get("db").await? == secret, "the Secret was written");
        ensure!(world.stage.events("db").await?.len() == events, "an Event was published");

        world.object("db", json!({"data": data, "refreshInterval": "0"}), json!({})).await?;
        world.vault_is("db", "Synced").await?;
        world.bao.put("kv", "app/db", json!({"user": "grace"})).await?;
        world.annotate("db", "first").await?;
        world.stage.holds("db", &[("user", "grace")]).await?;
        wait::until_equal("the annotation is acted on", Some("first".to_owned()), || async {
            Ok(world.stage.sealed().get("db").await?.status.unwrap_or_default().observed_refresh)
        })
        .await?;
        Ok(())
    });
}

#[test]
fn an_outage_leaves_the_secret_and_ready_alone_and_its_end_is_noticed() {
    in_namespace(|space| async move {
        let world = World::set(space).await?;
        let proxy = FaultProxy::start(world.bao.address()).await?;
        world.store(json!({"address": format!("http://{}", proxy.address())})).await?;
        let data = json!([{"key": "user", "mount": "kv", "path": "app/db", "field": "user"}]);
        world.object("db", json!({"data": data}), json!({})).await?;
        world.stage.ready("db").await?;
        let secret = world.stage.space.secrets().get("db").await?;

        proxy.set(Fault::Refuse);
        world.annotate("db", "during").await?;
        let told = world.vault_is("db", "VaultUnreachable").await?;
        ensure!(condition::is_true(&told.status.unwrap_or_default().conditions, "Ready"), "the Secret is what it was");
        world.store_is("VaultUnreachable").await?;
        ensure!(world.stage.space.secrets().get("db").await? == secret);
        // What is new waits, with its sealed values.
        world.object("new", json!({"data": data}), json!({})).await?;
        world.stage.reason("new", SealedSecretReason::NeverSynced).await?;
        world.stage.holds_nothing("new").await?;

        proxy.set(Fault::None);
        world.vault_is("db", "Synced").await?;
        world.stage.ready("new").await?;
        world.stage.holds("new", &[("user", "ada")]).await?;
        world.store_is("Reachable").await?;
        ensure!(world.stage.space.secrets().get("db").await? == secret);
        Ok(())
    });
}

#[test]
fn an_allowance_that_is_withdrawn_or_given_is_heard_at_once() {
    in_namespace(|space| async move {
        let world = World::set(space).await?;
        world.store(json!({})).await?;
        let data = json!([{"key": "user", "mount": "kv", "path": "app/db", "field": "user"}]);
        world.object("db", json!({"data": data}), json!({})).await?;
        world.stage.ready("db").await?;
        world.store(json!({"allowedPaths": ["kv/{namespace}/*"]})).await?;
        world.vault_is("db", "StoreNotAllowed").await?;
        world.stage.holds("db", &[("user", "ada")]).await?;
        world.store(json!({"allowedPaths": ["kv/{namespace}/*", "kv/app/db"]})).await?;
        world.vault_is("db", "Synced").await?;
        Ok(())
    });
}
