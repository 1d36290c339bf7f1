//! Objects that would have the controller do for them what they may not do themselves.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::{Api, PostParams};
use seal_crds::condition::SealedSecretReason::{OutputRefused, TargetNotOwned};
use seal_crds::{ADOPT_BY_ANNOTATION, IDENTITY_SECRET_TYPE, SealedSecret};
use seal_tests::install::{self, CONTROLLER, NAMESPACE};
use seal_tests::laptop::secret_manifest;
use seal_tests::{Controller, Stage, in_namespace, in_own_cluster};
use serde_json::{Value, json};

#[test]
fn a_sealed_secret_in_the_controllers_namespace_never_replaces_an_identity() {
    in_namespace(|space| async move {
        let (stage, _) = Stage::shared(space).await?;
        let system: Api<Secret> = Api::namespaced(stage.space.client.clone(), NAMESPACE);
        let identity = system.get("identity-1").await?;
        assert_eq!(identity.type_.as_deref(), Some(IDENTITY_SECRET_TYPE));
        let manifest = secret_manifest(NAMESPACE, "identity-1", &[("identity", "AGE-SECRET-KEY-PQ-1FORGED")])?;
        stage.laptop.seal_with(&["-w", "forged.yaml"], manifest)?;
        stage.apply("forged.yaml").await?;
        let sealed: Api<SealedSecret> = Api::namespaced(stage.space.client.clone(), NAMESPACE);
        let reason = seal_tests::wait::until("the forged identity is refused", || async {
            let status = sealed.get("identity-1").await?.status.unwrap_or_default();
            let ready = seal_crds::condition::find(&status.conditions, "Ready").cloned();
            Ok(ready.filter(|ready| ready.status == "False").map(|ready| ready.reason))
        })
        .await?;
        assert!(["OutputRefused", "TargetNotOwned"].contains(&reason.as_str()), "{reason}");
        assert_eq!(system.get("identity-1").await?, identity);
        Ok(())
    });
}

#[test]
fn a_secret_of_somebody_else_is_refused_untouched_and_taken_over_only_with_its_consent() {
    in_namespace(|space| async move {
        let (stage, _) = Stage::shared(space).await?;
        let theirs: Secret = serde_json::from_value(json!({
            "metadata": {"name": "db", "labels": {"theirs": "yes"}}, "stringData": {"password": "theirs", "more": "x"},
        }))?;
        let theirs = stage.space.secrets().create(&PostParams::default(), &theirs).await?;
        stage.apply(&stage.seal("db", &[("password", "ours")])?).await?;
        stage.reason("db", TargetNotOwned).await?;
        assert_eq!(stage.space.secrets().get("db").await?, theirs);

        stage.meddle("db", json!({"metadata": {"annotations": {ADOPT_BY_ANNOTATION: "db"}}})).await?;
        // Consent alone wakes nobody: we do not watch foreign Secrets. A new generation does.
        stage.laptop.seal_with(&["set", "db.yaml", "password"], "ours now")?;
        stage.apply("db.yaml").await?;
        stage.ready("db").await?;
        stage.holds("db", &[("password", "ours now")]).await?;
        assert_eq!(stage.space.secrets().get("db").await?.uid(), theirs.uid(), "adopted, not replaced");
        Ok(())
    });
}

#[test]
fn a_secret_that_another_controller_owns_is_refused_even_with_consent() {
    in_namespace(|space| async move {
        let (stage, _) = Stage::shared(space).await?;
        let owner = stage.meddle_owner().await?;
        let theirs: Secret = serde_json::from_value(json!({
            "metadata": {
                "name": "db", "annotations": {ADOPT_BY_ANNOTATION: "db"},
                "ownerReferences": [{"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner, "controller": true}],
            },
            "stringData": {"password": "theirs"},
        }))?;
        let theirs = stage.space.secrets().create(&PostParams::default(), &theirs).await?;
        stage.apply(&stage.seal("db", &[("password", "ours")])?).await?;
        stage.reason("db", TargetNotOwned).await?;
        assert_eq!(stage.space.secrets().get("db").await?, theirs);
        Ok(())
    });
}

#[test]
fn types_labels_and_annotations_that_would_give_power_are_refused_by_the_controller_itself() {
    in_own_cluster(|space| async move {
        install::without_checks(&space.client).await?;
        let _controller = Controller::start(&space.plane, CONTROLLER, &[]).await?;
        let stage = Stage::set(space).await?;

        let forbidden: BTreeMap<&str, Value> = BTreeMap::from([
            ("identity", json!({"type": IDENTITY_SECRET_TYPE})),
            ("token", json!({"type": "kubernetes.io/service-account-token"})),
            ("bootstrap", json!({"type": "bootstrap.kubernetes.io/token"})),
            ("owner-label", json!({"metadata": {"labels": {"sealwright.dev/owner": "x"}}})),
            ("owner-annotation", json!({"metadata": {"annotations": {"sealwright.dev/owner": "SealedSecret/x"}}})),
            ("bitnami", json!({"metadata": {"labels": {"sealedsecrets.bitnami.com/sealed-secrets-key": "active"}}})),
            ("argo", json!({"metadata": {"labels": {"argocd.argoproj.io/instance": "x"}}})),
            ("flux", json!({"metadata": {"labels": {"kustomize.toolkit.fluxcd.io/name": "x"}}})),
            ("helm", json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": "Helm"}}})),
        ]);
        for (name, template) in forbidden {
            let file = stage.seal(name, &[("password", "x")])?;
            let change = |file: &mut Value| {
                file["spec"]["template"] = template;
                Ok(())
            };
            stage.tamper(&file, change).await?;
            stage.reason(name, OutputRefused).await?;
            stage.holds_nothing(name).await?;
        }
        Ok(())
    });
}
