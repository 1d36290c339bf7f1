//! When Vault is asked, and when nothing is: intervals, restarts, repairs, deletions.

use k8s_openapi::api::core::v1::Namespace;
use kube::{
    ResourceExt,
    api::{Api, DeleteParams, PostParams},
};
use seal_crds::{
    ADOPT_BY_ANNOTATION,
    condition::SealedSecretReason::{NeverSynced, TargetNotOwned},
};
use seal_tests::{
    Controller, Result, ensure,
    fault_proxy::{Fault, FaultProxy},
    in_namespace, in_own_cluster, wait,
};
use serde_json::json;

use crate::world::{Tenant, World, field, merged};

#[test]
fn refreshes_that_bring_nothing_new_write_nothing_and_tell_nobody() {
    in_namespace(|space| async move {
        let world = World::set(space).await?;
        let shop = &world.shop;
        world.store(json!({})).await?;
        world.bao.put("kv", "app/never", json!({"user": "once"})).await?;
        let often = json!({"data": [field("user", "app/db", "user")], "refreshInterval": "10s"});
        let never = json!({"data": [field("user", "app/never", "user")], "refreshInterval": "0"});
        for (name, vault) in [("often", often), ("never", never)] {
            shop.object(name, vault, json!({})).await?;
            shop.stage.ready(name).await?;
        }
        let events = wait::until("the first fetch is told", || async {
            let events = shop.stage.events("often").await?;
            Ok((!events.is_empty()).then_some(events))
        })
        .await?;
        let (before, store) = (shop.versions().await?, shop.stores().get("main").await?.resource_version());
        wait::until("it is read three times", || async { Ok((world.reads("app/db")? >= 3).then_some(())) }).await?;
        // The status would be written after the answer: the next one comes after that of the one before.
        assert_eq!(shop.versions().await?, before);
        assert_eq!(shop.stores().get("main").await?.resource_version(), store);
        assert_eq!(shop.stage.events("often").await?, events);
        assert_eq!((world.logins()?, world.reads("app/never")?), (1, 1), "0 is never");

        world.bao.put("kv", "app/never", json!({"user": "twice"})).await?;
        let asked = shop.refresh("never").await?;
        shop.stage.holds("never", &[("user", "twice")]).await?;
        ensure!(asked.status.is_some_and(|status| status.vault_versions["kv/app/never"] == 2));
        Ok(())
    });
}

#[test]
fn a_restart_over_a_thousand_fresh_objects_asks_vault_for_nothing() {
    in_own_cluster(|space| async move {
        let world = World::set_own(space).await?;
        let shop = &world.shop;
        world.store(json!({"limits": {"requestsPerSecond": 1000}})).await?;
        let names = shop.many("main", "1000h", 1000).await?;
        shop.all_ready(&names).await?;
        assert_eq!(world.logins()?, 1);
        let (before, requests) = (shop.versions().await?, world.bao.requests()?.len());

        world.controller.kill();
        let second = Controller::start(&shop.stage.space.plane, "seal-controller-second", &[]).await?;
        wait::until("the next one is at work", || async {
            let log = second.log();
            Ok(log.lines().any(|line| line.contains("\"at work\"") && line.contains("\"settled\":1000")).then_some(()))
        })
        .await?;
        // Something new is served, so what is old has had its turn.
        shop.wants("new", &[field("user", "app/db", "user")]).await?;
        shop.stage.ready("new").await?;
        let asked = world.bao.requests()?.split_off(requests);
        assert_eq!(asked, ["update auth/kubernetes/login", "read kv/data/app/db"], "one new object, one login");
        let mut after = shop.versions().await?;
        after.retain(|name, _| before.contains_key(name));
        ensure!(after == before, "something was written");
        Ok(())
    });
}

#[test]
fn hands_are_put_right_and_a_secret_of_somebody_else_is_asked_for_consent() {
    in_namespace(|space| async move {
        let world = World::set(space).await?;
        let shop = &world.shop;
        let proxy = FaultProxy::start(world.bao.address()).await?;
        world.store(json!({"address": format!("http://{}", proxy.address())})).await?;
        shop.wants("db", &[field("user", "app/db", "user")]).await?;
        shop.stage.ready("db").await?;
        shop.stage.meddle("db", json!({"stringData": {"user": "mallory", "extra": "x"}})).await?;
        shop.stage.holds("db", &[("user", "ada")]).await?;
        shop.stage.space.secrets().delete("db", &DeleteParams::default()).await?;
        shop.stage.holds("db", &[("user", "ada")]).await?;
        shop.stage.ready("db").await?;
        assert_eq!(shop.stage.drifts(&world.controller, "db"), 2);

        // Nothing is kept that a Secret could be made of: it waits for Vault, and says so.
        proxy.set(Fault::Refuse);
        shop.stage.space.secrets().delete("db", &DeleteParams::default()).await?;
        shop.stage.reason("db", NeverSynced).await?;
        shop.vault_is("db", "VaultUnreachable").await?;
        proxy.set(Fault::None);
        shop.stage.ready("db").await?;
        shop.stage.holds("db", &[("user", "ada")]).await?;

        let theirs = serde_json::from_value(json!({"metadata": {"name": "theirs"}, "stringData": {"mine": "x"}}))?;
        let theirs = shop.stage.space.secrets().create(&PostParams::default(), &theirs).await?;
        let reads = world.reads("app/db")?;
        shop.wants("theirs", &[field("user", "app/db", "user")]).await?;
        shop.stage.reason("theirs", TargetNotOwned).await?;
        assert_eq!(shop.secret("theirs").await?.as_ref(), Some(&theirs));
        shop.stage.meddle("theirs", json!({"metadata": {"annotations": {ADOPT_BY_ANNOTATION: "theirs"}}})).await?;
        shop.object("theirs", json!({"data": [field("name", "app/db", "user")]}), json!({})).await?;
        shop.stage.ready("theirs").await?;
        shop.stage.holds("theirs", &[("name", "ada")]).await?;
        ensure!(world.reads("app/db")? > reads);
        Ok(())
    });
}

#[test]
fn a_key_that_leaves_the_spec_leaves_the_secret_with_the_next_fetch_that_succeeds() {
    in_namespace(|space| async move {
        let world = World::set(space).await?;
        let shop = &world.shop;
        world.store(json!({})).await?;
        let (user, password) = (field("user", "app/db", "user"), field("password", "app/db", "password"));
        shop.wants("db", &[user.clone(), password]).await?;
        shop.stage.ready("db").await?;
        world.bao.policy("read", "path \"kv/nothing\" { capabilities = [\"read\"] }").await?;
        shop.wants("db", &[user]).await?;
        shop.vault_is("db", "PermissionDenied").await?;
        shop.stage.holds("db", &[("user", "ada"), ("password", "first")]).await?;
        world.bao.policy("read", "path \"kv/*\" { capabilities = [\"read\"] }").await?;
        shop.refresh("db").await?;
        shop.stage.ready("db").await?;
        shop.stage.holds("db", &[("user", "ada")]).await
    });
}

#[test]
fn while_vault_is_down_everything_can_be_deleted_in_any_order() {
    in_namespace(|space| async move {
        let world = World::set(space).await?;
        let (shop, bank) = (&world.shop, world.neighbour().await?);
        world.role(&bank, "app", json!({})).await?;
        let limits = json!({"requestTimeout": "1s"});
        world.store(json!({"allowedNamespaces": {"names": [bank.namespace()]}, "limits": limits})).await?;
        let store = json!({"storeRef": {"name": "main", "namespace": shop.namespace()}});
        let data = json!({"data": [field("user", "app/db", "user")]});
        let retain = json!({"target": {"deletionPolicy": "Retain"}});
        shop.object("first", data.clone(), json!({})).await?;
        shop.object("retained", data.clone(), retain).await?;
        shop.object("orphan", data.clone(), json!({})).await?;
        bank.object("guest", merged(data, store), json!({})).await?;
        for (tenant, name) in [(shop, "first"), (shop, "retained"), (shop, "orphan"), (&bank, "guest")] {
            tenant.stage.ready(name).await?;
        }

        world.bao.kill();
        assert_eq!(shop.refresh_tells("first").await?.0, "VaultUnreachable");
        shop.delete("first").await?;
        shop.delete("retained").await?;
        wait::until_equal("the Secret of the deleted object", None, || shop.stage.data("first")).await?;
        bank.leaves().await?;
        shop.stores().delete("main", &DeleteParams::default()).await?;
        shop.vault_is("orphan", "StoreNotFound").await?;
        shop.stage.ready("orphan").await?;
        for name in ["orphan", "retained"] {
            shop.stage.holds(name, &[("user", "ada")]).await?;
        }
        shop.delete("orphan").await?;
        wait::until_equal("the Secret of the last object", None, || shop.stage.data("orphan")).await?;
        // And the controller has time for everybody else.
        shop.stage.establish("sealed", &[("password", "x")]).await.map(drop)
    });
}

impl Tenant {
    /// Deletes the namespace, and waits until it is gone.
    async fn leaves(&self) -> Result<()> {
        let namespaces: Api<Namespace> = Api::all(self.stage.space.client.clone());
        namespaces.delete(self.namespace(), &DeleteParams::default()).await?;
        wait::until("the namespace is gone", || async {
            Ok(namespaces.get_opt(self.namespace()).await?.is_none().then_some(()))
        })
        .await
    }
}
