//! The controller's own identity is lost, restored, carried to another cluster.

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use seal_crds::condition::SealedSecretReason::KeyNotFound;
use seal_tests::install::{self, CONTROLLER, NAMESPACE};
use seal_tests::stage::cluster_recipient;
use seal_tests::{Controller, Result, Space, Stage, in_own_cluster, wait};

fn system(space: &Space) -> Api<Secret> {
    Api::namespaced(space.client.clone(), NAMESPACE)
}

/// A copy, as a backup has it, under another name.
fn copy(identity: &Secret, name: &str) -> Secret {
    let mut copy = identity.clone();
    copy.metadata = kube::core::ObjectMeta { name: Some(name.to_owned()), ..Default::default() };
    copy
}

async fn identities(space: &Space) -> Result<Vec<String>> {
    let all = system(space).list(&ListParams::default().fields("type=sealwright.dev/identity")).await?.items;
    Ok(all.iter().map(ResourceExt::name_any).collect())
}

#[test]
fn a_cluster_that_lost_its_identity_never_makes_a_second_one_and_heals_when_it_is_restored() {
    in_own_cluster(|space| async move {
        install::everything(&space.client).await?;
        let controller = Controller::start(&space.plane, CONTROLLER, &[]).await?;
        let stage = Stage::set(space.clone()).await?;
        stage.establish("before", &[("password", "1")]).await?;
        let backup = system(&space).get("identity-1").await?;
        let recipient = cluster_recipient(&space.client).await?;
        controller.kill();
        system(&space).delete("identity-1", &DeleteParams::default()).await?;

        let second = Controller::spawn(&space.plane, "seal-controller-again", &[]).await?;
        stage.apply(&stage.seal("while-lost", &[("password", "2")])?).await?;
        stage.meddle("before", serde_json::json!({"stringData": {"password": "mine"}})).await?;
        wait::until("the controller says that the identity is lost", || async {
            second.process().assert_running()?;
            Ok((second.log().contains("identity") && second.log().contains("\"ERROR\"")).then_some(()))
        })
        .await?;
        assert_eq!(identities(&space).await?, Vec::<String>::new(), "none is made");
        assert_eq!(cluster_recipient(&space.client).await?, recipient, "the published recipient stays");
        let readiness = second.get("/readyz").await?;
        assert_eq!(readiness.status, 503);
        assert!(readiness.body.contains("restore the Secret identity-1"), "{}", readiness.body);

        system(&space).create(&PostParams::default(), &copy(&backup, "identity-1")).await?;
        stage.ready("while-lost").await?;
        stage.holds("while-lost", &[("password", "2")]).await?;
        stage.holds("before", &[("password", "1")]).await?;
        second.ready().await
    });
}

#[test]
fn an_identity_carried_to_another_cluster_opens_what_the_old_one_did() {
    // Outside of the runtime: starting a cluster blocks.
    let other = std::sync::Arc::new(seal_tests::ControlPlane::start().expect("a second cluster can be started"));
    in_own_cluster(|space| async move {
        install::everything(&space.client).await?;
        let _controller = Controller::start(&space.plane, CONTROLLER, &[]).await?;
        let stage = Stage::set(space.clone()).await?;
        stage.establish("db", &[("password", "1")]).await?;

        let elsewhere = Space::named(other, space.name.clone()).await?;
        install::everything(&elsewhere.client).await?;
        let _second = Controller::start(&elsewhere.plane, CONTROLLER, &[]).await?;
        let own = cluster_recipient(&elsewhere.client).await?;
        let second = Stage { space: elsewhere, laptop: stage.laptop, ring: stage.ring };
        second.apply(&second.ring_file()).await?;
        second.ring_is("NotAMember").await?;
        second.apply("db.yaml").await?;
        second.reason("db", KeyNotFound).await?;

        let carried = copy(&system(&space).get("identity-1").await?, "identity-2");
        system(&second.space).create(&PostParams::default(), &carried).await?;
        second.ring_is("Opened").await?;
        second.holds("db", &[("password", "1")]).await?;
        wait::until("the highest number is published", || async {
            Ok((cluster_recipient(&second.space.client).await? != own).then_some(()))
        })
        .await
    });
}
