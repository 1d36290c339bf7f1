//! Many objects: what they cost, and what they do not do to each other.

use futures::future::try_join_all;
use kube::api::{Api, PostParams};
use seal_crds::{SealedSecret, condition};
use seal_tests::{
    Controller, Result, ensure,
    fault_proxy::{Fault, FaultProxy},
    in_namespace, in_own_cluster,
    install::CONTROLLER,
    wait,
};
use serde_json::json;

use crate::world::World;

/// Makes so many objects with these names that want `user` through a store.
async fn many(world: &World, prefix: &str, store: &str, interval: &str, count: usize) -> Result<()> {
    let sealed = world.stage.sealed();
    let data = json!([{"key": "user", "mount": "kv", "path": "app/db", "field": "user"}]);
    let names: Vec<_> = (0..count).map(|i| format!("{prefix}-{i}")).collect();
    for names in names.chunks(20) {
        try_join_all(names.iter().map(|name| {
            let (sealed, data) = (sealed.clone(), data.clone());
            async move {
                let object: SealedSecret = serde_json::from_value(json!({
                    "apiVersion": "sealwright.dev/v1alpha1", "kind": "SealedSecret", "metadata": {"name": name},
                    "spec": {"vault": {"storeRef": {"name": store}, "refreshInterval": interval, "data": data}},
                }))?;
                anyhow::Ok(sealed.create(&PostParams::default(), &object).await?)
            }
        }))
        .await?;
    }
    Ok(())
}

/// How many of the namespace's objects with this prefix are ready, and how many have been told anything.
async fn progress(sealed: &Api<SealedSecret>, prefix: &str) -> Result<(usize, usize)> {
    let all = sealed.list(&Default::default()).await?.items;
    let ours = all.iter().filter(|object| object.metadata.name.as_deref().is_some_and(|name| name.starts_with(prefix)));
    let statuses: Vec<_> = ours.filter_map(|object| object.status.as_ref()).collect();
    let ready = statuses.iter().filter(|status| condition::is_true(&status.conditions, condition::READY)).count();
    let told = statuses.iter().filter(|status| !status.conditions.is_empty()).count();
    Ok((ready, told))
}

#[test]
fn a_store_that_swallows_everything_holds_up_no_other() {
    in_namespace(|space| async move {
        let world = World::set(space).await?;
        let hole = FaultProxy::start(world.bao.address()).await?;
        hole.set(Fault::BlackHole);
        let limits = json!({"requestsPerSecond": 1000, "requestTimeout": "5m"});
        world.store(json!({"limits": limits})).await?;
        world.store_named("hole", json!({"address": format!("http://{}", hole.address()), "limits": limits})).await?;
        many(&world, "lost", "hole", "1h", 200).await?;
        wait::until("the hole has been asked", || async { Ok((hole.connections() > 0).then_some(())) }).await?;
        many(&world, "fine", "main", "1h", 200).await?;
        let sealed = world.stage.sealed();
        wait::until("those of the other store are ready", || async {
            let (ready, _) = progress(&sealed, "fine").await?;
            ensure!(ready == 200, "{ready} are");
            Ok(Some(()))
        })
        .await?;
        // None of them has given up yet, so all of them were waiting meanwhile: many times the slots of the loop.
        ensure!(progress(&sealed, "lost").await? == (0, 0));
        Ok(())
    });
}

#[test]
fn a_restart_over_a_thousand_fresh_objects_reads_nothing_from_vault() {
    in_own_cluster(|space| async move {
        let world = World::set_own(space).await?;
        world.store(json!({"limits": {"requestsPerSecond": 1000}})).await?;
        many(&world, "db", "main", "1000h", 1000).await?;
        let sealed = world.stage.sealed();
        wait::until("all are ready", || async {
            let (ready, _) = progress(&sealed, "db").await?;
            ensure!(ready == 1000, "{ready} are");
            Ok(Some(()))
        })
        .await?;
        ensure!(world.bao.count("update auth/kubernetes/login")? == 1);
        let before = world.bao.requests()?.len();
        world.controller.kill();
        let second = Controller::start(&world.stage.space.plane, CONTROLLER, &[]).await?;
        wait::until("it is at work", || async {
            let log = second.log();
            Ok(log.lines().any(|line| line.contains("\"at work\"") && line.contains("\"settled\":1000")).then_some(()))
        })
        .await?;
        // Something new is served, so what is old has had its turn.
        many(&world, "new", "main", "1h", 1).await?;
        world.stage.ready("new-0").await?;
        let since: Vec<_> = world.bao.requests()?.split_off(before);
        let reads = since.iter().filter(|request| request.contains("kv/data")).count();
        ensure!(reads == 1, "besides the new one's: {since:?}");
        Ok(())
    });
}
