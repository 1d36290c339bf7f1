//! The API server and etcd fail under a running controller.

use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams};
use seal_crds::condition::SealedSecretReason::Synced;
use seal_crds::{SCHEMA_ANNOTATION, condition};
use seal_tests::install::{self, CONTROLLER};
use seal_tests::{Controller, Result, Space, Stage, in_own_cluster, manifests, wait};
use serde_json::json;

/// How long the API server is away: the test's subject, not a wait for something.
const OUTAGE: Duration = Duration::from_secs(30);

#[test]
fn after_thirty_seconds_without_an_api_server_everything_goes_on() {
    in_own_cluster(|space| async move {
        install::everything(&space.client).await?;
        let controller = Controller::start(&space.plane, CONTROLLER, &[]).await?;
        let stage = Stage::set(space).await?;
        stage.establish("db", &[("password", "1")]).await?;
        stage.meddle("db", json!({"metadata": {"annotations": {"seen": "before"}}})).await?;
        let before = stage.space.secrets().get("db").await?;

        stage.space.plane.stop_apiserver();
        tokio::time::sleep(OUTAGE).await;
        stage.space.plane.start_apiserver().await?;

        // What happened meanwhile, and what happens now.
        stage.meddle("db", json!({"stringData": {"password": "mine"}})).await?;
        stage.holds("db", &[("password", "1")]).await?;
        stage.establish("new", &[("password", "2")]).await?;
        assert_eq!(stage.space.secrets().get("db").await?.uid(), before.uid());
        controller.ready().await?;
        Ok(())
    });
}

#[test]
fn a_killed_and_restarted_etcd_loses_and_tears_nothing() {
    in_own_cluster(|space| async move {
        install::everything(&space.client).await?;
        let _controller = Controller::start(&space.plane, CONTROLLER, &[]).await?;
        let stage = Stage::set(space).await?;
        stage.establish("db", &[("password", "1")]).await?;
        let before = stage.space.secrets().get("db").await?;
        stage.space.plane.stop_etcd();
        stage.space.plane.start_etcd()?;
        stage.space.plane.ready().await?;
        stage.meddle("db", json!({"stringData": {"password": "mine"}})).await?;
        stage.holds("db", &[("password", "1")]).await?;
        stage.establish("new", &[("password", "2")]).await?;
        assert_eq!(stage.space.secrets().get("db").await?.uid(), before.uid());
        Ok(())
    });
}

#[test]
fn an_etcd_restored_from_an_old_snapshot_is_noticed_and_what_happens_after_it_is_seen() {
    in_own_cluster(|space| async move {
        install::everything(&space.client).await?;
        let mut controller = Controller::start(&space.plane, CONTROLLER, &[]).await?;
        let stage = Stage::set(space).await?;
        let plane = &stage.space.plane;
        stage.establish("old", &[("password", "1")]).await?;
        plane.stop_apiserver();
        plane.stop_etcd();
        let backup = plane.back_up_etcd()?;
        plane.start_etcd()?;
        plane.start_apiserver().await?;
        for number in 0..20 {
            stage.establish(&format!("lost-{number}"), &[("password", "x")]).await?;
        }

        plane.stop_apiserver();
        plane.stop_etcd();
        plane.restore_etcd(&backup)?;
        plane.start_etcd()?;
        plane.start_apiserver().await?;
        // A watch resumed at its old, higher resourceVersion would see nothing of this.
        stage.meddle("old", json!({"stringData": {"password": "mine"}})).await?;
        wait::until("the controller ends itself, or repairs the Secret", || async {
            let ended = controller.process().ended()?.is_some();
            let repaired = stage.data("old").await?.is_some_and(|data| data["password"] == "1");
            Ok((ended || repaired).then_some(()))
        })
        .await?;
        let ended = controller.process().ended()?.is_some();
        if ended {
            // As the kubelet would.
            controller = Controller::start(plane, "seal-controller-again", &[]).await?;
        }
        stage.holds("old", &[("password", "1")]).await?;
        stage.establish("new", &[("password", "2")]).await?;
        stage.space.secrets().delete("old", &DeleteParams::default()).await?;
        stage.holds("old", &[("password", "1")]).await?;
        controller.ready().await
    });
}

#[test]
fn under_an_older_crd_nothing_is_written_and_under_the_new_one_all_is() {
    in_own_cluster(|space| async move {
        install::without_schema_policy(&space.client).await?;
        let mut old = manifests::read(&install::crds())?;
        for crd in &mut old {
            crd.annotations_mut().insert(SCHEMA_ANNOTATION.to_owned(), "0".to_owned());
        }
        manifests::apply(&space.client, &old).await?;
        let controller = Controller::spawn(&space.plane, CONTROLLER, &[]).await?;
        says_outdated(&controller, 1).await?;
        manifests::apply(&space.client, &manifests::read(&install::crds())?).await?;
        let stage = Stage::set(space).await?;
        stage.establish("db", &[("password", "1")]).await?;

        manifests::apply(&stage.space.client, &old).await?;
        says_outdated(&controller, 2).await?;
        stage.laptop.seal_with(&["set", "db.yaml", "password"], "2")?;
        stage.apply("db.yaml").await?;
        let changed = stage.sealed().get("db").await?;
        // A Secret that is deleted would be made again at once, and the namespace takes its time to end.
        stage.space.secrets().delete("db", &DeleteParams::default()).await?;
        a_namespace_comes_and_goes(&stage.space).await?;
        assert_eq!(stage.sealed().get("db").await?.resource_version(), changed.resource_version());
        stage.holds_nothing("db").await?;

        manifests::apply(&stage.space.client, &manifests::read(&install::crds())?).await?;
        let object = stage.reason("db", Synced).await?;
        assert!(condition::is_true(&object.status.unwrap_or_default().conditions, condition::READY));
        stage.holds("db", &[("password", "2")]).await
    });
}

/// Waits until the log has said for the `times`th time that the definitions are too old.
async fn says_outdated(controller: &Controller, times: usize) -> Result<()> {
    // The definitions are looked at once a minute.
    let patience = Duration::from_secs(90);
    wait::until_within(patience, "the controller says that the definitions are too old", || async {
        Ok((controller.log().matches("nothing is written: CRD").count() >= times).then_some(()))
    })
    .await
}

async fn a_namespace_comes_and_goes(space: &Space) -> Result<()> {
    let passing = Space::make(space.plane.clone()).await?;
    let namespaces: Api<Namespace> = Api::all(space.client.clone());
    namespaces.delete(&passing.name, &DeleteParams::default()).await?;
    wait::until("a namespace is gone", || async {
        Ok(namespaces.get_opt(&passing.name).await?.is_none().then_some(()))
    })
    .await
}
