//! From a commit to a Secret, and what Argo CD shows of our objects in each state.

use std::time::Instant;

use anyhow::{Context, Result};
use kube::api::DeleteParams;
use seal_tests::manifests;
use seal_tests::openbao::Bao;
use serde_json::{Value, json};

use crate::world::{RING, World};

const SHOP: &str = "shop";
const DB: &str = "shop/db.yaml";

pub(crate) async fn a_commit_becomes_a_secret(world: &mut World<'_>) -> Result<()> {
    world.narrator.step("A commit becomes a Secret");
    world.seal(SHOP, "db", &[("password", "first")])?;
    world.laptop.commit("database password")?;
    let begin = Instant::now();
    world.apply_folder(SHOP, SHOP, SHOP, json!({})).await?;
    world.is_synced(SHOP, "Healthy").await?;
    world.stage(SHOP).holds("db", &[("password", "first")]).await?;
    world.narrator.seen("a new Application is Synced and Healthy; the Secret holds the value", begin);

    world.laptop.seal_with(&["set", DB, "password"], "second")?;
    let begin = Instant::now();
    world.push("a new password", SHOP).await?;
    world.is_synced(SHOP, "Healthy").await?;
    world.stage(SHOP).holds("db", &[("password", "second")]).await?;
    world.narrator.seen("so is the next commit", begin);
    Ok(())
}

pub(crate) async fn each_state_of_a_sealed_secret(world: &mut World<'_>) -> Result<()> {
    world.narrator.step("A SealedSecret is Progressing, Degraded or Healthy, as it is");
    let stage = world.stage(SHOP);

    world.controller()?.freeze()?;
    world.laptop.seal_with(&["set", DB, "password"], "third")?;
    world.push("while nobody looks", SHOP).await?;
    world.is_synced(SHOP, "Progressing").await?;
    judged(world, "Progressing", "changed, and not looked at since", "not looked at it yet").await?;
    world.controller()?.thaw()?;
    world.is_synced(SHOP, "Healthy").await?;
    stage.holds("db", &[("password", "third")]).await?;
    judged(world, "Healthy", "looked at", "Synced").await?;

    let quotas = stage.no_more_secrets().await?;
    world.seal(SHOP, "late", &[("password", "1")])?;
    world.push("one more", SHOP).await?;
    world.is_synced(SHOP, "Progressing").await?;
    let told = world.has_health(SHOP, ("SealedSecret", "late"), "Progressing", "WriteRefused").await?;
    world.narrator.say(format!("Progressing, refused by a quota: {told}"));
    quotas.delete("none", &DeleteParams::default()).await.context("remove the quota")?;
    world.is_synced(SHOP, "Healthy").await?;

    stage.change_file(DB, |file| {
        file["spec"]["sealedFor"]["namespaces"] = json!(["elsewhere"]);
        Ok(())
    })?;
    world.push("tidy up", SHOP).await?;
    world.is_synced(SHOP, "Degraded").await?;
    judged(world, "Degraded", "sealed for elsewhere", "SealedForElsewhere").await?;
    stage.holds("db", &[("password", "third")]).await?;
    world.laptop.git(&["revert", "--no-edit", "HEAD"])?;
    world.refresh(SHOP, "normal").await?;
    world.is_synced(SHOP, "Healthy").await?;
    judged(world, "Healthy", "reverted; the last good Secret was there all the time", "Synced").await
}

/// Waits until `db` has this health, with these words.
async fn judged(world: &World<'_>, health: &str, what: &str, words: &str) -> Result<()> {
    let told = world.has_health(SHOP, ("SealedSecret", "db"), health, words).await?;
    world.narrator.say(format!("{health}, {what}: {told}"));
    Ok(())
}

pub(crate) async fn each_state_of_a_ring(world: &mut World<'_>) -> Result<()> {
    const STRAY: &str = "stray";
    world.narrator.step("A KeyRing that does not count is Degraded");
    let stage = world.stage(STRAY);
    world.laptop.write("stray/ring.yaml", world.laptop.read(&stage.ring_file())?)?;
    stage.change_file("stray/ring.yaml", |file| {
        file["metadata"]["namespace"] = STRAY.into();
        Ok(())
    })?;
    world.laptop.commit("a ring of our own")?;
    world.apply_folder(STRAY, STRAY, STRAY, json!({})).await?;
    world.is_synced(STRAY, "Degraded").await?;
    let told = world.has_health(STRAY, ("KeyRing", RING), "Degraded", "NotHonoured").await?;
    world.narrator.say(format!("Degraded, in another namespace than the controller's: {told}"));
    world.drop_application(STRAY).await
}

pub(crate) async fn each_state_of_a_vault_store(world: &mut World<'_>) -> Result<()> {
    const STORES: &str = "stores";
    world.narrator.step("A VaultStore is Healthy, Progressing or Degraded, as it is");
    let bao = Bao::dev(world.plane.guard(), "bao").await?;
    bao.mount_kv("kv", 2).await?;
    bao.put("kv", "shop/mail", json!({"password": "first"})).await?;
    let plain = json!({"allowPlaintext": true});
    let absent = json!({"caFrom": {"kind": "ConfigMap", "name": "absent", "key": "ca.crt"}});
    store(world, "main", "-1", &bao.url(), &plain)?;
    store(world, "spare", "-1", &bao.url(), &plain)?;
    let reference = ["--store", "main", "--mount", "kv", "--path", "shop/mail", "--field", "password"];
    let add = ["vault", "add", "stores/mail.yaml", "password", "--name", "stores/mail"];
    world.laptop.seal(&[&add[..], &reference].concat())?;
    world.laptop.commit("our stores")?;
    log_in(world, STORES, &bao).await?;
    let begin = Instant::now();
    world.apply_folder(STORES, STORES, STORES, json!({})).await?;
    world.is_synced(STORES, "Healthy").await?;
    world.stage(STORES).holds("mail", &[("password", "first")]).await?;
    world.narrator.seen("a store in one wave, what it serves in the next, and the Secret", begin);
    for (name, words) in [("main", "Reachable"), ("spare", "Reachable")] {
        let told = world.has_health(STORES, ("VaultStore", name), "Healthy", words).await?;
        world.narrator.say(format!("Healthy: {told}"));
    }

    store(world, "nobody", "0", "http://127.0.0.1:1", &plain)?;
    let user = world.laptop.read("stores/mail.yaml")?.replace("main", "nobody").replace("mail", "lost");
    world.laptop.write("stores/lost.yaml", user)?;
    world.push("a store that is down", STORES).await?;
    let told = world.has_health(STORES, ("VaultStore", "nobody"), "Progressing", "VaultUnreachable").await?;
    world.narrator.say(format!("Progressing: {told}"));
    store(world, "wrong", "0", "https://127.0.0.1:1", &absent)?;
    world.push("a store that cannot be", STORES).await?;
    let told = world.has_health(STORES, ("VaultStore", "wrong"), "Degraded", "InvalidSpec").await?;
    world.narrator.say(format!("Degraded: {told}"));
    world.drop_application(STORES).await
}

/// Writes a store.
fn store(world: &World<'_>, name: &str, wave: &str, address: &str, tls: &Value) -> Result<()> {
    let login = json!({"token": {"secretRef": {"name": "login", "key": "token"}}});
    let store: Value = json!({
        "apiVersion": "sealwright.dev/v1alpha1", "kind": "VaultStore",
        "metadata": {"name": name, "annotations": {"argocd.argoproj.io/sync-wave": wave}},
        "spec": {"address": address, "tls": tls, "auth": login},
    });
    world.laptop.write(&format!("stores/{name}.yaml"), serde_yaml::to_string(&store)?)
}

/// What the namespace logs in with; not in Git.
async fn log_in(world: &World<'_>, namespace: &str, bao: &Bao) -> Result<()> {
    let objects = [
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}),
        json!({
            "apiVersion": "v1", "kind": "Secret", "stringData": {"token": bao.root_token()},
            "metadata": {"name": "login", "namespace": namespace, "labels": {"sealwright.dev/vault-auth": "true"}},
        }),
    ];
    for object in objects {
        manifests::apply(&world.client, &[serde_json::from_value(object)?]).await?;
    }
    Ok(())
}
