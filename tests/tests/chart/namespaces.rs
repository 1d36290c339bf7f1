//! `namespaces` of the chart: some namespaces are served, with roles in them, and nothing is asked for in the cluster.

use std::collections::BTreeSet;

use k8s_openapi::api::authorization::v1::SelfSubjectRulesReview;
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, PostParams};
use seal_tests::control_plane::client_of;
use seal_tests::helm;
use seal_tests::install::{self, CONTROLLER, NAMESPACE};
use seal_tests::rights::CONTROLLER_USER;
use seal_tests::stage::as_dynamic;
use seal_tests::{Context, ControlPlane, Controller, Result, Space, Stage, ensure, in_cluster, manifests, wait};
use serde_json::json;

/// Listed, and made later.
const LATER: &str = "later";
/// Not listed.
const ASIDE: &str = "aside";

#[test]
fn some_namespaces_are_served_each_when_it_is_there_and_no_other_is_touched() {
    let plane = ControlPlane::start_audited(CONTROLLER_USER, &[]).expect("a control plane can be started");
    in_cluster(plane, |space| async move {
        let objects = helm::for_namespaces(&[&space.name, LATER])?;
        let (later, now): (Vec<_>, Vec<_>) = objects.into_iter().partition(|object| is_in(object, LATER));
        ensure!(later.len() == 4, "roles and bindings, with and without Vault");
        install::chart(&space.client, &now).await?;
        nothing_is_given_in_the_cluster(&space).await?;

        // One that is not there yet holds up nobody; who looks at log or metrics is told.
        let controller = Controller::start(&space.plane, CONTROLLER, &[]).await?;
        let told = format!("\"namespace\":\"{LATER}\"");
        ensure!(
            controller.log().lines().any(|line| line.contains(&told) && line.contains("\"WARN\"")),
            "no word of it"
        );
        ensure!(controller.metric("sealwright_api_errors_total", &["class=\"forbidden\""]).await? > 0.0, "not counted");

        let stage = Stage::set(space.clone()).await?;
        stage.establish("db", &[("password", "1")]).await?;
        stage.meddle("db", json!({"data": {"password": "bWluZQ=="}})).await?;
        stage.holds("db", &[("password", "1")]).await?;

        let aside = Stage::set(Space::named(space.plane.clone(), ASIDE.to_owned()).await?).await?;
        aside.apply(&aside.seal("db", &[("password", "1")])?).await?;
        stage.establish("after", &[("password", "2")]).await?;
        aside.holds_nothing("db").await?;
        let status = aside.sealed().get("db").await?.status.unwrap_or_default();
        ensure!(status.observed_generation == Some(-1), "it was looked at: {status:?}");
        ensure!(
            opens(&controller, &stage).await? && !opens(&controller, &aside).await?,
            "what would be served is told"
        );

        let made = Stage::set(Space::named(space.plane.clone(), LATER.to_owned()).await?).await?;
        manifests::apply(&space.client, &later).await?;
        made.establish("db", &[("password", "3")]).await?;
        // And again, after it was gone with its roles.
        remove(&made.space).await?;
        stage.meddle("after", json!({"data": {"password": "bWluZQ=="}})).await?;
        stage.holds("after", &[("password", "2")]).await?;
        Space::named(space.plane.clone(), LATER.to_owned()).await?;
        manifests::apply(&space.client, &later).await?;
        made.apply("db.yaml").await?;
        made.ready("db").await?;
        made.holds("db", &[("password", "3")]).await?;
        nothing_was_asked_elsewhere(&space)
    });
}

fn is_in(object: &DynamicObject, namespace: &str) -> bool {
    object.namespace().as_deref() == Some(namespace)
}

async fn remove(space: &Space) -> Result<()> {
    let namespaces: Api<Namespace> = Api::all(space.client.clone());
    namespaces.delete(&space.name, &DeleteParams::background()).await?;
    wait::until("the namespace is gone", || async {
        Ok(namespaces.get_opt(&space.name).await?.is_none().then_some(()))
    })
    .await
}

/// Whether the controller says that `db` of this namespace opens.
async fn opens(controller: &Controller, stage: &Stage) -> Result<bool> {
    let object = serde_json::to_vec(&as_dynamic(&stage.sealed().get("db").await?)?)?;
    let answer = controller.post("/v1/verify", object).await?;
    ensure!([200, 422].contains(&answer.status), "{} {}", answer.status, answer.body);
    Ok(answer.status == 200)
}

/// Where nothing is listed, it may do no more than everybody who is logged in; a right in the cluster would show there.
pub(crate) async fn nothing_is_given_in_the_cluster(space: &Space) -> Result<()> {
    let own = client_of(&space.plane.kubeconfig_of(NAMESPACE, CONTROLLER).await?).await?;
    let reviews: Api<SelfSubjectRulesReview> = Api::all(own);
    let resources = async |namespace: &str| -> Result<BTreeSet<String>> {
        let review = serde_json::from_value(json!({"metadata": {}, "spec": {"namespace": namespace}}))?;
        let rules = reviews.create(&PostParams::default(), &review).await?.status.context("an answer")?.resource_rules;
        Ok(rules.into_iter().flat_map(|rule| rule.resources.unwrap_or_default()).collect())
    };
    // What was applied counts a moment later.
    wait::until("it may read Secrets where it serves", || async {
        Ok(resources(&space.name).await?.contains("secrets").then_some(()))
    })
    .await?;
    let of_everybody = ["selfsubjectaccessreviews", "selfsubjectreviews", "selfsubjectrulesreviews"];
    let of_everybody = of_everybody.map(str::to_owned).into();
    wait::until_equal("it may do nothing elsewhere", of_everybody, || resources("kube-system")).await?;
    let bindings: Api<ClusterRoleBinding> = Api::all(space.client.clone());
    let bindings = bindings.list(&ListParams::default()).await?.items;
    let of_ours = bindings.iter().find(|binding| json!(binding.subjects).to_string().contains(NAMESPACE));
    ensure!(of_ours.is_none(), "{of_ours:?}");
    Ok(())
}

/// Every request for an object was for one in a namespace that it serves, or in its own.
fn nothing_was_asked_elsewhere(space: &Space) -> Result<()> {
    let audited = space.plane.audited(0)?;
    let objects = audited.iter().map(|event| &event["objectRef"]).filter(|object| !object.is_null());
    // The test's own question.
    let objects = objects.filter(|object| object["resource"] != "selfsubjectrulesreviews");
    let asked: BTreeSet<_> = objects.map(|object| object["namespace"].as_str().unwrap_or_default()).collect();
    ensure!(asked == [NAMESPACE, LATER, &space.name].into(), "{asked:?}");
    Ok(())
}
