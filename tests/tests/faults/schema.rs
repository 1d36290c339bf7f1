//! Definitions that are older than the controller: seen at once, told, and nothing is damaged under them.

use std::time::Duration;

use k8s_openapi::api::events::v1::Event;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams};
use seal_crds::SCHEMA_ANNOTATION;
use seal_tests::helm;
use seal_tests::install::{self, CONTROLLER, SCHEMA_POLICY};
use seal_tests::{Context, Controller, Result, Stage, in_own_cluster, manifests, wait};
use serde_json::{Value, json};

/// Far less than a minute: the definitions are watched, not asked for now and then.
const AT_ONCE: Duration = Duration::from_secs(20);

const NUMBER: &str = "has schema number 0";

/// Our definitions as an older release had them: without templates, and without the Secret in the status.
fn older() -> Result<Vec<DynamicObject>> {
    let mut crds = manifests::read(&install::crds())?;
    for crd in &mut crds {
        crd.annotations_mut().insert(SCHEMA_ANNOTATION.to_owned(), "0".to_owned());
        if crd.name_any().starts_with("sealedsecrets.") {
            let schema = "/spec/versions/0/schema/openAPIV3Schema";
            let root = crd.data.pointer_mut(schema).and_then(Value::as_object_mut).context("a CRD has a schema")?;
            root.remove("x-kubernetes-validations");
            for (part, field) in [("spec", "template"), ("status", "secret")] {
                let part = &mut root["properties"][part];
                part.as_object_mut().context("a part has a schema")?.remove("x-kubernetes-validations");
                part["properties"].as_object_mut().context("a part has fields")?.remove(field).context("had it")?;
            }
        }
    }
    Ok(crds)
}

/// Waits until the controller says that it is not ready, and why.
async fn is_hindered(controller: &Controller, why: &str) -> Result<()> {
    wait::until_within(AT_ONCE, "the controller is not ready, for the CRDs are too old", || async {
        let answer = controller.get("/readyz").await?;
        Ok((answer.status == 503 && answer.body.contains(why)).then_some(()))
    })
    .await
}

#[test]
fn a_definition_that_becomes_older_under_a_running_controller_is_seen_at_once_and_damages_nothing() {
    in_own_cluster(|space| async move {
        install::without_schema_policy(&space.client).await?;
        let first = Controller::start(&space.plane, CONTROLLER, &[]).await?;
        let stage = Stage::set(space.clone()).await?;
        let file = stage.seal("db", &[("password", "1")])?;
        let url = |file: &mut Value| {
            file["spec"]["template"] = json!({"data": {"url": "db://{{ .password }}"}});
            Ok(())
        };
        stage.tamper(&file, url).await?;
        let whole = [("password", "1"), ("url", "db://1")];
        stage.ready("db").await?;
        stage.holds("db", &whole).await?;
        stage.establish("other", &[("password", "x")]).await?;
        let before = stage.sealed().get("db").await?;

        manifests::apply(&space.client, &older()?).await?;
        is_hindered(&first, NUMBER).await?;
        assert_eq!(first.metric("sealwright_crds_right", &[]).await?, 0.0);
        let events: Api<Event> = Api::namespaced(space.client.clone(), "default");
        wait::until("an Event of the definition says it", || async {
            let all = events.list(&ListParams::default()).await?.items;
            Ok(all.iter().any(|event| event.reason.as_deref() == Some("SchemaOutdated")).then_some(()))
        })
        .await?;
        // Something to repair, which has to wait; and a restart, for which everything is without its template.
        stage.space.secrets().delete("other", &DeleteParams::default()).await?;
        first.kill();
        let second = Controller::spawn(&space.plane, "seal-controller-again", &[]).await?;
        is_hindered(&second, NUMBER).await?;
        stage.holds_nothing("other").await?;

        manifests::apply(&space.client, &manifests::read(&install::crds())?).await?;
        second.ready().await?;
        stage.holds("other", &[("password", "x")]).await?;
        stage.ready("other").await?;
        stage.holds("db", &whole).await?;
        let after = stage.ready("db").await?;
        assert_eq!(after.resource_version(), before.resource_version(), "nothing was written");
        assert_eq!(json!(after.spec), json!(before.spec));
        Ok(())
    });
}

#[test]
fn a_controller_that_may_not_read_definitions_sees_in_what_is_published_that_they_are_older() {
    in_own_cluster(|space| async move {
        let mut objects = helm::for_namespaces(&[&space.name])?;
        objects.retain(|object| object.name_any() != SCHEMA_POLICY);
        install::chart(&space.client, &objects).await?;
        let controller = Controller::start(&space.plane, CONTROLLER, &[]).await?;
        let stage = Stage::set(space.clone()).await?;
        stage.establish("db", &[("password", "1")]).await?;
        let before = stage.sealed().get("db").await?;

        manifests::apply(&space.client, &older()?).await?;
        is_hindered(&controller, "CRD sealedsecrets.sealwright.dev is older than this controller").await?;
        stage.space.secrets().delete("db", &DeleteParams::default()).await?;
        stage.holds_nothing("db").await?;

        manifests::apply(&space.client, &manifests::read(&install::crds())?).await?;
        controller.ready().await?;
        stage.holds("db", &[("password", "1")]).await?;
        assert_eq!(json!(stage.ready("db").await?.spec), json!(before.spec));
        Ok(())
    });
}
