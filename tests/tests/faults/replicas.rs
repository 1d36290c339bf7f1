//! Controllers that are killed, frozen, doubled.

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::future::try_join_all;
use futures::{FutureExt, TryStreamExt};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, WatchEvent, WatchParams};
use seal_crds::KeyRing;
use seal_crds::{FIELD_MANAGER, OWNER_LABEL};
use seal_tests::control_plane::http_get;
use seal_tests::http::metric;
use seal_tests::install::{self, CONTROLLER, NAMESPACE};
use seal_tests::laptop::secret_manifest;
use seal_tests::{Context, Controller, Result, Space, Stage, in_own_cluster, manifests, wait};
use serde_json::json;

const BACKLOG: usize = 300;

/// Applies `BACKLOG` objects at once: one sealed file for any name, under many names.
async fn backlog(stage: &Stage) -> Result<()> {
    let manifest = secret_manifest(&stage.space.name, "any", &[("password", "s3cret")])?;
    let sealed = stage.laptop.seal_with(&["--scope", "namespace"], manifest)?;
    let mut objects = Vec::with_capacity(BACKLOG);
    for number in 0..BACKLOG {
        let mut object = manifests::parse(&sealed)?.pop().context("one document")?;
        object.metadata.name = Some(format!("item-{number:03}"));
        objects.push(object);
    }
    try_join_all(objects.chunks(30).map(|chunk| manifests::apply(&stage.space.client, chunk))).await.map(drop)
}

/// Applies the backlog, and stops a controller in the middle of it; gives the Secrets that were made by then.
async fn amid_backlog(stage: &Stage, stop: impl FnOnce() -> Result<()>) -> Result<Vec<Secret>> {
    let (applied, stopped) = futures::join!(backlog(stage), async {
        wait::until("the backlog is begun", || async { Ok((made(stage).await?.len() >= BACKLOG / 10).then_some(())) })
            .await?;
        stop()?;
        made(stage).await
    });
    applied?;
    let before = stopped?;
    assert!(before.len() < BACKLOG, "it was stopped too late to prove anything");
    Ok(before)
}

/// How many Secrets the API server has been asked for one by one. Nobody but us asks for any; the garbage collector does
/// ask for their owners.
async fn gets(stage: &Stage) -> Result<f64> {
    let text = stage.space.client.request_text(http_get("/metrics")?).await?;
    Ok(metric(&text, "apiserver_request_total", &["verb=\"GET\"", ",resource=\"secrets\""]))
}

async fn made(stage: &Stage) -> Result<Vec<Secret>> {
    Ok(stage.space.secrets().list(&ListParams::default().labels(OWNER_LABEL)).await?.items)
}

/// Every Secret of the backlog is there and whole, and its object says so.
async fn all_made(stage: &Stage) -> Result<()> {
    wait::until_equal("the number of Secrets", BACKLOG, || async { Ok(made(stage).await?.len()) }).await?;
    for number in 0..BACKLOG {
        stage.ready(&format!("item-{number:03}")).await?;
    }
    for secret in made(stage).await? {
        let name = secret.name_any();
        assert_eq!(seal_tests::stage::text_of(&secret)["password"], "s3cret", "{name}");
        let managers: Vec<_> = secret.managed_fields().iter().flat_map(|entry| entry.manager.as_deref()).collect();
        assert_eq!(managers, [FIELD_MANAGER], "{name}");
    }
    Ok(())
}

/// The names of Secrets that are written more than once, or deleted, from now on.
struct Writes(Arc<Mutex<Vec<String>>>);

impl Writes {
    async fn watch(stage: &Stage) -> Result<Self> {
        let secrets = stage.space.secrets();
        let params = WatchParams::default().labels(OWNER_LABEL).timeout(290);
        let list = secrets.list_metadata(&ListParams::default()).await?;
        let version = list.metadata.resource_version.context("a list has a resourceVersion")?;
        let seen = Arc::<Mutex<Vec<_>>>::default();
        let into = Arc::clone(&seen);
        tokio::spawn(async move {
            let mut events = pin!(secrets.watch_metadata(&params, &version).await?);
            while let Some(event) = events.try_next().await? {
                if let WatchEvent::Modified(secret) | WatchEvent::Deleted(secret) = event {
                    into.lock().unwrap_or_else(PoisonError::into_inner).push(secret.name_any());
                }
            }
            Ok::<_, kube::Error>(())
        });
        Ok(Self(seen))
    }

    fn assert_none(&self) {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(seen.is_empty(), "written more than once: {seen:?}");
    }
}

#[test]
fn a_controller_killed_in_the_middle_of_a_backlog_leaves_nothing_wrong_lost_or_torn() {
    in_own_cluster(|space| async move {
        install::everything(&space.client).await?;
        let controller = Controller::start(&space.plane, CONTROLLER, &[]).await?;
        let stage = Stage::set(space).await?;
        let writes = Writes::watch(&stage).await?;
        let before = amid_backlog(&stage, || {
            controller.kill();
            Ok(())
        })
        .await?;
        let _second = Controller::start(&stage.space.plane, "seal-controller-again", &[]).await?;
        all_made(&stage).await?;
        writes.assert_none();
        let after = made(&stage).await?;
        for secret in before {
            let same = after.iter().find(|other| other.name_any() == secret.name_any());
            assert_eq!(same.and_then(ResourceExt::uid), secret.uid(), "{} was made again", secret.name_any());
        }
        Ok(())
    });
}

#[test]
fn when_the_leader_of_two_dies_in_the_middle_of_a_backlog_the_other_finishes_it_and_writes_nothing_twice() {
    in_own_cluster(|space| async move {
        install::everything(&space.client).await?;
        let first = Controller::start(&space.plane, "seal-controller-a", &[]).await?;
        let stage = Stage::set(space).await?;
        let _second = Controller::start(&stage.space.plane, "seal-controller-b", &[]).await?;
        let writes = Writes::watch(&stage).await?;
        amid_backlog(&stage, || {
            first.kill();
            Ok(())
        })
        .await?;
        all_made(&stage).await?;
        writes.assert_none();
        Ok(())
    });
}

#[test]
fn a_leader_frozen_in_the_middle_of_a_backlog_and_woken_writes_nothing_that_its_successor_wrote() {
    in_own_cluster(|space| async move {
        install::everything(&space.client).await?;
        let first = Controller::start(&space.plane, "seal-controller-a", &[]).await?;
        let stage = Stage::set(space).await?;
        let _second = Controller::start(&stage.space.plane, "seal-controller-b", &[]).await?;
        let writes = Writes::watch(&stage).await?;
        amid_backlog(&stage, || first.freeze()).await?;
        all_made(&stage).await?;
        first.thaw()?;
        wait::until_equal("whether the woken replica leads", 0.0, || first.metric("sealwright_leader", &[])).await?;
        stage.establish("later", &[("password", "x")]).await?;
        writes.assert_none();
        Ok(())
    });
}

#[test]
fn a_restart_over_unchanged_objects_reads_none_of_them_and_writes_nothing() {
    in_own_cluster(|space| async move {
        install::everything(&space.client).await?;
        let controller = Controller::start(&space.plane, CONTROLLER, &[]).await?;
        let stage = Stage::set(space).await?;
        backlog(&stage).await?;
        all_made(&stage).await?;
        let versions = async || -> Result<Vec<_>> {
            let objects = stage.sealed().list(&ListParams::default()).await?.items;
            let objects = objects.iter().map(|object| (object.name_any(), object.resource_version()));
            let secrets = made(&stage).await?;
            Ok(objects.chain(secrets.iter().map(|secret| (secret.name_any(), secret.resource_version()))).collect())
        };
        let before = versions().await?;
        controller.kill();
        let read = gets(&stage).await?;
        let second = Controller::start(&stage.space.plane, "seal-controller-again", &[]).await?;
        wait::until("the second one has begun its work", || async {
            Ok(second.log().contains("\"at work\"").then_some(()))
        })
        .await?;
        wait::until_equal("what waits there", 0.0, || second.metric("sealwright_queue_depth", &[])).await?;
        let read = gets(&stage).await? - read;
        assert!(read < BACKLOG as f64 / 10.0, "{read} Secrets were read one by one");
        // Something that comes after all of them shows that they have been looked at.
        stage.establish("later", &[("password", "x")]).await?;
        stage.sealed().delete("later", &DeleteParams::default()).await?;
        wait::until_equal("the number of Secrets", BACKLOG, || async { Ok(made(&stage).await?.len()) }).await?;
        assert_eq!(versions().await?, before);
        Ok(())
    });
}

#[test]
fn a_leader_frozen_past_its_lease_and_woken_does_not_fight_its_successor() {
    in_own_cluster(|space| async move {
        install::everything(&space.client).await?;
        let first = Controller::start(&space.plane, "seal-controller-a", &[]).await?;
        let stage = Stage::set(space.clone()).await?;
        stage.establish("db", &[("password", "1")]).await?;
        let second = Controller::start(&space.plane, "seal-controller-b", &[]).await?;
        let leader = holder(&space).await?;
        first.freeze()?;
        wait::until("the other replica leads", || async { Ok((holder(&space).await? != leader).then_some(())) })
            .await?;
        stage.establish("while-frozen", &[("password", "2")]).await?;
        let successor = holder(&space).await?;
        first.thaw()?;
        stage.laptop.seal_with(&["set", "db.yaml", "password"], "3")?;
        stage.apply("db.yaml").await?;
        stage.holds("db", &[("password", "3")]).await?;
        wait::until("the woken replica is ready, or has ended", || async {
            let ended = first.process().ended()?.is_some();
            Ok((ended || first.get("/readyz").await?.status == 200).then_some(()))
        })
        .await?;
        assert_eq!(holder(&space).await?, successor, "the woken replica does not take the lease back");
        second.ready().await
    });
}

#[test]
fn when_the_leader_dies_the_other_replica_goes_on() {
    in_own_cluster(|space| async move {
        install::everything(&space.client).await?;
        let first = Controller::start(&space.plane, "seal-controller-a", &[]).await?;
        let stage = Stage::set(space.clone()).await?;
        stage.establish("db", &[("password", "1")]).await?;
        let _second = Controller::start(&space.plane, "seal-controller-b", &[]).await?;
        first.kill();
        stage.meddle("db", json!({"stringData": {"password": "mine"}})).await?;
        stage.holds("db", &[("password", "1")]).await
    });
}

#[test]
fn a_leader_that_is_asked_to_end_hands_over_at_once() {
    in_own_cluster(|space| async move {
        install::everything(&space.client).await?;
        let first = Controller::start(&space.plane, "seal-controller-a", &[]).await?;
        let stage = Stage::set(space.clone()).await?;
        let _second = Controller::start(&space.plane, "seal-controller-b", &[]).await?;
        first.process().signal(rustix::process::Signal::TERM)?;
        let end = first.process().wait()?;
        assert!(end.success(), "a graceful end: {end}");
        wait::until_within(Duration::from_secs(10), "the other replica leads and works", || async {
            stage.establish("db", &[("password", "1")]).await.map(Some)
        })
        .await
        .map(drop)
    });
}

#[test]
fn two_replicas_at_the_very_first_start_make_one_identity_and_one_ring() {
    in_own_cluster(|space| async move {
        install::everything(&space.client).await?;
        let names = ["seal-controller-a", "seal-controller-b", "seal-controller-c"];
        let started = names.map(|name| Controller::spawn(&space.plane, name, &[]));
        let controllers = try_join_all(started).await?;
        for controller in &controllers {
            controller.ready().await?;
        }
        let secrets: Api<Secret> = Api::namespaced(space.client.clone(), NAMESPACE);
        let of_ours = secrets.list(&ListParams::default().fields("type=sealwright.dev/identity")).await?;
        assert_eq!(of_ours.items.iter().map(ResourceExt::name_any).collect::<Vec<_>>(), ["identity-1"]);
        let rings: Api<KeyRing> = Api::namespaced(space.client.clone(), NAMESPACE);
        assert_eq!(rings.list(&ListParams::default()).await?.items.len(), 1);
        let mut recipients = Vec::new();
        for controller in &controllers {
            recipients.push(controller.get("/v1/recipient").await?.body);
        }
        assert!(recipients.windows(2).all(|two| two[0] == two[1]) && recipients[0].contains("age1pq1"));
        Ok(())
    });
}

async fn holder(space: &Space) -> Result<String> {
    let leases: Api<Lease> = Api::namespaced(space.client.clone(), NAMESPACE);
    let all = leases.list(&ListParams::default()).await?.items;
    let lease = all.into_iter().next().context("there is a lease")?;
    lease
        .spec
        .and_then(|spec| spec.holder_identity)
        .filter(|holder| !holder.is_empty())
        .context("nobody holds the lease")
}

#[test]
fn two_replicas_of_one_name_never_lead_both() {
    in_own_cluster(|space| async move {
        install::everything(&space.client).await?;
        let controllers = [(); 2].map(|()| Controller::spawn(&space.plane, "seal-controller", &["--replica", "same"]));
        let controllers = try_join_all(controllers).await?;
        for controller in &controllers {
            controller.ready().await?;
        }
        // A few renewals, at each of which the other one could have taken the lease for its own.
        let leases: Api<Lease> = Api::namespaced(space.client.clone(), NAMESPACE);
        let mut last = None;
        for _ in 0..4 {
            last = wait::until("the lease is renewed", || async {
                let version = leases.get("seal-controller").await?.resource_version();
                Ok((version != last).then_some(version))
            })
            .await?;
            let mut leaders = 0.0;
            for controller in &controllers {
                leaders += controller.metric("sealwright_leader", &[]).await?;
            }
            assert!(leaders <= 1.0, "both lead");
        }
        Ok(())
    });
}

#[test]
fn a_lease_that_is_deleted_under_a_frozen_leader_is_not_taken_while_that_one_may_write() {
    in_own_cluster(|space| async move {
        install::everything(&space.client).await?;
        let first = Controller::start(&space.plane, "seal-controller-a", &[]).await?;
        let stage = Stage::set(space.clone()).await?;
        stage.establish("db", &[("password", "1")]).await?;
        first.freeze()?;
        let leases: Api<Lease> = Api::namespaced(space.client.clone(), NAMESPACE);
        leases.delete("seal-controller", &DeleteParams::default()).await?;
        let deleted = Instant::now();
        let _second = Controller::spawn(&space.plane, "seal-controller-b", &[]).await?;
        wait::until("another replica leads", || holder(&space).map(|holder| holder.map(Some))).await?;
        // What a leader may write after its last renewal.
        assert!(deleted.elapsed() >= Duration::from_secs(10), "after {:?}", deleted.elapsed());
        first.thaw()?;
        stage.establish("new", &[("password", "2")]).await.map(drop)
    });
}
