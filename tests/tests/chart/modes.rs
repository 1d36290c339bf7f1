//! A living release that goes from all namespaces to some, and back, with the real Helm.

use k8s_openapi::api::rbac::v1::{ClusterRole, Role};
use kube::ResourceExt;
use kube::api::Api;
use seal_tests::helm::{self, Helm, RELEASE};
use seal_tests::install::{CONTROLLER, NAMESPACE};
use seal_tests::{Context, Controller, Result, Space, Stage, ensure, in_own_cluster};
use serde_json::json;

use crate::namespaces::nothing_is_given_in_the_cluster;

#[test]
fn a_release_goes_from_all_namespaces_to_some_and_back_and_no_secret_is_lost() {
    in_own_cluster(|space| async move {
        let helm = Helm::of(space.plane.kubeconfig())?;
        let chart = helm::chart();
        let chart = chart.to_str().context("the path is text")?;
        let to = ["--namespace", NAMESPACE];
        let upgrade = [&["upgrade", RELEASE, chart, "--reset-then-reuse-values", "--set"], &to[..]].concat();
        let upgrade = |namespaces: &str| -> Result<()> {
            let mut arguments = upgrade.clone();
            arguments.insert(5, namespaces);
            helm.run(&arguments).map(drop)
        };
        helm.run(&[&["install", RELEASE, chart, "--create-namespace"], &to[..]].concat())?;
        let old = Controller::start(&space.plane, CONTROLLER, &[]).await?;
        let stage = Stage::set(space.clone()).await?;
        let aside = Stage::set(Space::named(space.plane.clone(), "aside".to_owned()).await?).await?;
        for stage in [&stage, &aside] {
            stage.establish("db", &[("password", "1")]).await?;
        }
        let (kept, left) = (versions(&stage).await?, versions(&aside).await?);

        // The old pod is still there when its rights have gone, and when the new one begins.
        upgrade(&format!("namespaces={{{}}}", space.name))?;
        nothing_is_given_in_the_cluster(&space).await?;
        let new = Controller::spawn(&space.plane, "seal-controller-some", &[]).await?;
        old.end().await?;
        new.ready().await?;
        stage.establish("after", &[("password", "2")]).await?;
        aside.meddle("db", json!({"data": {"password": "bWluZQ=="}})).await?;
        aside.apply(&aside.seal("late", &[("password", "3")])?).await?;
        stage.meddle("db", json!({"data": {"password": "bWluZQ=="}})).await?;
        stage.holds("db", &[("password", "1")]).await?;
        assert_eq!(uid_of(&stage).await?, kept.0);
        aside.holds("db", &[("password", "mine")]).await?;
        aside.holds_nothing("late").await?;
        // What was said last stays said; a new object says that nobody has looked at it.
        assert_eq!(versions(&aside).await?.1, left.1);
        let status = aside.sealed().get("late").await?.status.unwrap_or_default();
        ensure!(status.observed_generation == Some(-1), "it was looked at: {status:?}");

        upgrade("namespaces=null")?;
        new.end().await?;
        let _again = Controller::start(&space.plane, "seal-controller-all", &[]).await?;
        aside.holds("db", &[("password", "1")]).await?;
        aside.holds("late", &[("password", "3")]).await?;
        assert_eq!(uid_of(&aside).await?, left.0);
        stage.establish("last", &[("password", "4")]).await?;
        let roles: Api<Role> = Api::namespaced(space.client.clone(), &space.name);
        ensure!(roles.list(&Default::default()).await?.items.is_empty(), "Roles are left");
        ensure!(Api::<ClusterRole>::all(space.client.clone()).get_opt(CONTROLLER).await?.is_some(), "no ClusterRole");
        Ok(())
    });
}

async fn uid_of(stage: &Stage) -> Result<Option<String>> {
    Ok(stage.space.secrets().get("db").await?.uid())
}

/// The uid of the Secret, and the version of its object, which every word in its status would change.
async fn versions(stage: &Stage) -> Result<(Option<String>, Option<String>)> {
    Ok((uid_of(stage).await?, stage.sealed().get("db").await?.resource_version()))
}
