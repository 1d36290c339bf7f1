//! A server that is sealed, dead, silent, slow, elsewhere or too busy: the Secret stays, and all heals by itself.

use std::time::{Duration, Instant};

use futures::future::try_join_all;
use kube::{
    ResourceExt,
    api::{DeleteParams, ListParams},
};
use seal_crds::condition::SealedSecretReason::{NeverSynced, Stale};
use seal_tests::{
    Result, Stage,
    certificates::Authority,
    ensure,
    fault_proxy::{Fault, FaultProxy},
    in_namespace,
    openbao::Bao,
    process::Guard,
    wait,
};
use serde_json::{Value, json};

use crate::world::{Tenant, World, field, merged};

/// Checks that a failed fetch has changed nothing but what is told of it.
async fn is_kept(shop: &Tenant, name: &str, data: &[(&str, &str)]) -> Result<()> {
    shop.stage.ready(name).await?;
    shop.stage.holds(name, data).await
}

#[test]
fn a_sealed_server_costs_no_secret_and_unsealing_it_is_enough() {
    in_namespace(|space| async move {
        let (stage, controller) = Stage::shared(space).await?;
        let guard = Guard::start()?;
        let authority = Authority::make()?;
        let pair = authority.server(&guard.scratch().join("tls"), "bao", &[], false)?;
        let ca = guard.scratch().join("tls/ca.crt");
        std::fs::write(&ca, &authority.certificate)?;
        let bao = Bao::server(&guard, "bao", &pair, &ca).await?;
        let world = World::with(stage, controller, guard, bao).await?;
        let shop = &world.shop;
        world.store(json!({"tls": {"caBundle": authority.certificate}})).await?;
        shop.wants("old", &[field("user", "app/db", "user")]).await?;
        shop.stage.ready("old").await?;
        let kept = shop.secret("old").await?;

        world.bao.seal().await?;
        assert_eq!(shop.refresh_tells("old").await?.0, "VaultSealed");
        is_kept(shop, "old", &[("user", "ada")]).await?;
        shop.store_is("main", "VaultSealed").await?;
        let file = shop.stage.seal("new", &[("password", "sealed")])?;
        let vault = json!({"storeRef": {"name": "main"}, "data": [field("user", "app/db", "user")]});
        shop.stage
            .tamper(&file, |file| {
                file["spec"]["vault"] = vault;
                Ok(())
            })
            .await?;
        shop.stage.reason("new", NeverSynced).await?;
        shop.stage.holds_nothing("new").await?;

        world.bao.unseal().await?;
        shop.vault_is("old", "Synced").await?;
        shop.stage.ready("new").await?;
        shop.stage.holds("new", &[("password", "sealed"), ("user", "ada")]).await?;
        shop.store_is("main", "Reachable").await?;
        ensure!(shop.secret("old").await? == kept, "the Secret was touched");
        Ok(())
    });
}

#[test]
fn a_server_that_dies_and_comes_back_as_another_is_logged_in_to_anew() {
    in_namespace(|space| async move {
        let world = World::with_db(space).await?;
        let shop = &world.shop;

        world.bao.kill();
        assert_eq!(shop.refresh_tells("db").await?.0, "VaultUnreachable");
        is_kept(shop, "db", &[("user", "ada")]).await?;
        shop.store_is("main", "VaultUnreachable").await?;

        // In memory: nothing of what it knew is left, so every token is worth nothing.
        world.bao.restart(&world.guard).await?;
        world.bao.active().await?;
        world.fill(&shop.token_of("reviewer", None).await?).await?;
        world.bao.put("kv", "app/db", json!({"user": "grace"})).await?;
        wait::until("what the new server holds is fetched", || async {
            Ok((shop.refresh_tells("db").await?.0 == "Synced").then_some(()))
        })
        .await?;
        shop.stage.holds("db", &[("user", "grace")]).await?;
        shop.store_is("main", "Reachable").await.map(drop)
    });
}

#[test]
fn a_store_that_nobody_uses_says_whether_its_server_is_there() {
    in_namespace(|space| async move {
        let world = World::set(space).await?;
        let shop = &world.shop;
        world.bao.kill();
        let ca = json!({"caFrom": {"kind": "ConfigMap", "name": "late", "key": "ca.crt"}});
        shop.store("trusting", world.spec(json!({"tls": merged(json!({"allowPlaintext": true}), ca)}))).await?;
        shop.store_is("trusting", "InvalidSpec").await?;
        world.store(json!({})).await?;
        shop.store_is("main", "VaultUnreachable").await?;

        world.bao.restart(&world.guard).await?;
        let authority = json!({"ca.crt": Authority::make()?.certificate});
        shop.apply(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "late"}, "data": authority}))
            .await?;
        shop.store_is("main", "Reachable").await?;
        shop.store_is("trusting", "Reachable").await?;
        ensure!(world.bao.requests()?.iter().all(|request| !request.contains("login")), "somebody logged in");

        // Whoever uses it knows better.
        world.bao.kill();
        shop.wants("db", &[field("user", "app/db", "user")]).await?;
        shop.store_is("main", "VaultUnreachable").await.map(drop)
    });
}

#[test]
fn metrics_count_what_a_store_is_asked_and_show_its_outage() {
    in_namespace(|space| async move {
        let world = World::with_db(space).await?;
        let shop = &world.shop;
        shop.refresh("db").await?;
        let store = format!("store=\"{}/main\"", shop.namespace());
        let metric = async |name: &str, labels: &[&str]| {
            let labels = [&[store.as_str()], labels].concat();
            world.controller.metric(&format!("sealwright_vault_{name}"), &labels).await
        };
        let well = "class=\"ok\"";
        assert_eq!(metric("requests_total", &["operation=\"login\"", well]).await?, 1.0);
        assert_eq!(metric("requests_total", &["operation=\"read\"", well]).await?, 2.0);
        assert_eq!(metric("request_seconds_count", &["operation=\"read\""]).await?, 2.0);
        assert_eq!(metric("tokens", &[]).await?, 1.0);
        assert_eq!(metric("store_open", &[]).await?, 0.0);
        ensure!(metric("last_success_timestamp_seconds", &[]).await? > 1e9);

        world.bao.kill();
        shop.refresh("db").await?;
        ensure!(metric("requests_total", &["class=\"connection\""]).await? >= 1.0);
        wait::until_equal("the store is open", 1.0, || metric("store_open", &[])).await?;
        shop.stores().delete("main", &DeleteParams::default()).await?;
        wait::until("nothing is counted for a store that is gone", || async {
            let text = world.controller.get("/metrics").await?.body;
            Ok((!text.contains(&store)).then_some(()))
        })
        .await
    });
}

#[test]
fn a_server_that_answers_nothing_slows_no_other() {
    in_namespace(|space| async move {
        const OBJECTS: usize = 200;
        let world = World::set(space).await?;
        let shop = &world.shop;
        let hole = FaultProxy::start(world.bao.address()).await?;
        hole.set(Fault::BlackHole);
        let limits = json!({"requestsPerSecond": 1000, "requestTimeout": "5m"});
        let address = format!("http://{}", hole.address());
        shop.store("hole", world.spec(json!({"address": address, "limits": limits}))).await?;
        world.store(json!({"limits": limits})).await?;
        let fine = shop.many("main", "1h", OBJECTS).await?;
        shop.all_ready(&fine).await?;
        let all_refreshed = async || -> Result<Duration> {
            let start = Instant::now();
            for names in fine.chunks(50) {
                try_join_all(names.iter().map(|name| shop.refresh(name))).await?;
            }
            Ok(start.elapsed())
        };
        let before = all_refreshed().await?;
        let lost = shop.many("hole", "1h", OBJECTS).await?;
        wait::until("the silent server is asked", || async { Ok((hole.connections() > 0).then_some(())) }).await?;
        let during = all_refreshed().await?;
        ensure!(during < 4 * before.max(Duration::from_secs(1)), "{during:?} beside it, {before:?} without");
        // None of them has given up yet, so all of them waited meanwhile: many times the slots of the loop.
        let sealed = shop.stage.sealed().list(&ListParams::default()).await?.items;
        let told = sealed.iter().filter(|object| lost.contains(&object.name_any()));
        ensure!(told.clone().count() == OBJECTS);
        ensure!(told.flat_map(|object| &object.status).all(|status| status.conditions.is_empty()));
        Ok(())
    });
}

#[test]
fn a_server_that_limits_its_rate_is_heard_and_asked_again_later() {
    in_namespace(|space| async move {
        let world = World::with_db(space).await?;
        let shop = &world.shop;
        world.bao.ask("POST", "sys/quotas/rate-limit/kv", json!({"path": "kv", "rate": 1, "interval": "60s"})).await?;
        wait::until("the quota is used up", || async {
            let (reason, told) = shop.refresh_tells("db").await?;
            Ok((reason == "RateLimited" && told.contains("kv/app/db: HTTP 429")).then_some(()))
        })
        .await?;
        is_kept(shop, "db", &[("user", "ada")]).await?;
        world.bao.ask("DELETE", "sys/quotas/rate-limit/kv", Value::Null).await?;
        shop.vault_is("db", "Synced").await.map(drop)
    });
}

#[test]
fn a_redirect_to_a_foreign_host_is_followed_with_nothing() {
    in_namespace(|space| async move {
        let world = World::set(space).await?;
        let shop = &world.shop;
        let (proxy, thief) =
            (FaultProxy::start(world.bao.address()).await?, FaultProxy::start(world.bao.address()).await?);
        world.store(json!({"address": format!("http://{}", proxy.address())})).await?;
        shop.wants("db", &[field("user", "app/db", "user")]).await?;
        shop.stage.ready("db").await?;
        proxy.set(Fault::Redirect(format!("http://{}/v1/kv/data/app/db", thief.address())));
        assert_eq!(shop.refresh_tells("db").await?.0, "VaultUnreachable");
        let told = shop.store_is("main", "VaultUnreachable").await?;
        ensure!(told.contains("redirect"), "{told}");
        is_kept(shop, "db", &[("user", "ada")]).await?;
        ensure!(proxy.seen().to_lowercase().contains("x-vault-token"), "the token was sent to the store's own address");
        assert_eq!((thief.connections(), thief.seen().as_str()), (0, ""));
        proxy.set(Fault::None);
        shop.vault_is("db", "Synced").await.map(drop)
    });
}

#[test]
fn answers_that_are_torn_drip_or_make_no_sense_change_nothing() {
    in_namespace(|space| async move {
        let world = World::set(space).await?;
        let shop = &world.shop;
        let proxy = FaultProxy::start(world.bao.address()).await?;
        let limits = json!({"requestTimeout": "1s"});
        world.store(json!({"address": format!("http://{}", proxy.address()), "limits": limits})).await?;
        shop.wants("db", &[field("user", "app/db", "user")]).await?;
        shop.stage.ready("db").await?;
        let kept = shop.secret("db").await?;
        let page = "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\ncontent-length: 15\r\n\r\n<html>no</html>";
        for fault in
            [Fault::Torn(100), Fault::Drip(Duration::from_millis(100)), Fault::Refuse, Fault::Answer(page.to_owned())]
        {
            proxy.set(fault.clone());
            let (reason, told) = shop.refresh_tells("db").await?;
            ensure!(reason == "VaultUnreachable", "{fault:?}: {reason}: {told}");
            is_kept(shop, "db", &[("user", "ada")]).await?;
            ensure!(shop.secret("db").await? == kept, "the Secret was touched: {fault:?}");
            proxy.set(Fault::None);
            shop.vault_is("db", "Synced").await?;
        }
        Ok(())
    });
}

#[test]
fn a_last_success_that_is_too_old_is_told_and_the_secret_stays() {
    in_namespace(|space| async move {
        let world = World::set(space).await?;
        let shop = &world.shop;
        world.store(json!({})).await?;
        let vault = json!({"data": [field("user", "app/db", "user")]});
        shop.object("hasty", merged(vault.clone(), json!({"staleAfter": "3s"})), json!({})).await?;
        shop.object("never", merged(vault, json!({"staleAfter": "0"})), json!({})).await?;
        for name in ["hasty", "never"] {
            shop.stage.ready(name).await?;
        }
        let proxy = FaultProxy::start(world.bao.address()).await?;
        proxy.set(Fault::Refuse);
        world.store(json!({"address": format!("http://{}", proxy.address())})).await?;
        for name in ["hasty", "never"] {
            shop.vault_is(name, "VaultUnreachable").await?;
        }
        shop.stage.reason("hasty", Stale).await?;
        is_kept(shop, "never", &[("user", "ada")]).await?;
        shop.stage.holds("hasty", &[("user", "ada")]).await?;
        proxy.set(Fault::None);
        shop.stage.ready("hasty").await.map(drop)
    });
}
