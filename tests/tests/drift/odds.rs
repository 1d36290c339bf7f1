//! Circumstances that a Secret meets in real clusters: quotas, foreground deletion, old managedFields, haste.

use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, PropagationPolicy};
use seal_crds::condition::SealedSecretReason::{WriteFailed, WriteRefused};
use seal_crds::{ADOPT_BY_ANNOTATION, SealedSecret};
use seal_tests::control_plane::free_ports;
use seal_tests::{Context, Stage, ensure, in_namespace, wait};
use serde_json::json;

const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

#[test]
fn an_adopted_secret_holds_exactly_what_is_sealed_and_no_annotation_with_the_old_plaintext() {
    in_namespace(|space| async move {
        let (stage, _) = Stage::shared(space).await?;
        let theirs: Secret = serde_json::from_value(json!({
            "metadata": {"name": "db", "annotations": {
                ADOPT_BY_ANNOTATION: "db", LAST_APPLIED: "{\"stringData\":{\"old\":\"plaintext\"}}",
            }},
            "stringData": {"old": "plaintext", "password": "theirs"},
        }))?;
        stage.space.secrets().create(&PostParams::default(), &theirs).await?;
        stage.apply(&stage.seal("db", &[("password", "ours")])?).await?;
        stage.ready("db").await?;
        stage.holds("db", &[("password", "ours")]).await?;
        assert!(!stage.space.secrets().get("db").await?.annotations().contains_key(LAST_APPLIED));
        Ok(())
    });
}

#[test]
fn a_secret_whose_managed_fields_were_stripped_is_still_kept_exact() {
    in_namespace(|space| async move {
        let (stage, _) = Stage::shared(space).await?;
        stage.establish("db", &[("password", "1")]).await?;
        stage.meddle("db", json!({"metadata": {"managedFields": [{}]}, "stringData": {"extra": "x"}})).await?;
        stage.holds("db", &[("password", "1")]).await?;
        stage.laptop.seal_with(&["set", "db.yaml", "password"], "2")?;
        stage.apply("db.yaml").await?;
        stage.holds("db", &[("password", "2")]).await
    });
}

#[test]
fn a_quota_is_named_and_tried_again_until_there_is_room() {
    in_namespace(|space| async move {
        let (stage, _) = Stage::shared(space).await?;
        let quotas = stage.no_more_secrets().await?;
        stage.apply(&stage.seal("db", &[("password", "1")])?).await?;
        stage.reason("db", WriteRefused).await?;
        stage.holds_nothing("db").await?;
        quotas.delete("none", &DeleteParams::default()).await?;
        stage.ready("db").await?;
        stage.holds("db", &[("password", "1")]).await
    });
}

#[test]
fn a_foreground_deletion_ends_and_takes_the_secret_along() {
    in_namespace(|space| async move {
        let (stage, _) = Stage::shared(space).await?;
        stage.establish("db", &[("password", "1")]).await?;
        let foreground = DeleteParams { propagation_policy: Some(PropagationPolicy::Foreground), ..Default::default() };
        stage.sealed().delete("db", &foreground).await?;
        wait::until("object and Secret are gone", || async {
            let object = stage.sealed().get_opt("db").await?;
            Ok((object.is_none() && stage.data("db").await?.is_none()).then_some(()))
        })
        .await
    });
}

#[test]
fn an_object_that_is_held_by_a_finalizer_makes_no_new_secret() {
    in_namespace(|space| async move {
        let (stage, _) = Stage::shared(space).await?;
        stage.establish("db", &[("password", "1")]).await?;
        let hold = json!({"metadata": {"finalizers": ["example.com/hold"]}});
        stage.sealed().patch("db", &PatchParams::default(), &Patch::Merge(hold)).await?;
        stage.sealed().delete("db", &DeleteParams::default()).await?;
        stage.space.secrets().delete("db", &DeleteParams::default()).await?;
        // Whoever comes later is served, so the controller has come past these events.
        stage.establish("later", &[("password", "2")]).await?;
        stage.holds_nothing("db").await?;
        let release = json!({"metadata": {"finalizers": null}});
        stage.sealed().patch("db", &PatchParams::default(), &Patch::Merge(release)).await?;
        Ok(())
    });
}

#[test]
fn of_many_quick_changes_the_last_one_wins() {
    in_namespace(|space| async move {
        let (stage, _) = Stage::shared(space).await?;
        stage.establish("db", &[("password", "0")]).await?;
        for number in 1..=20 {
            stage.laptop.seal_with(&["set", "db.yaml", "password"], number.to_string())?;
            stage.apply("db.yaml").await?;
        }
        let object = stage.ready("db").await?;
        stage.holds("db", &[("password", "20")]).await?;
        let written = object.status.and_then(|status| status.secret).context("the status names the Secret")?;
        assert_eq!(written.resource_version, stage.space.secrets().get("db").await?.resource_version());
        Ok(())
    });
}

#[test]
fn names_of_the_greatest_length_work() {
    in_namespace(|space| async move {
        let (stage, _) = Stage::shared(space).await?;
        let name = "n".repeat(253);
        // File names are shorter than that.
        let manifest = seal_tests::laptop::secret_manifest(&stage.space.name, &name, &[(&"k".repeat(253), "1")])?;
        stage.laptop.seal_with(&["-w", "long.yaml"], manifest)?;
        stage.apply("long.yaml").await?;
        stage.ready(&name).await?;
        stage.holds(&name, &[(&"k".repeat(253), "1")]).await?;
        stage.meddle(&name, json!({"stringData": {"extra": "x"}})).await?;
        stage.holds(&name, &[(&"k".repeat(253), "1")]).await
    });
}

#[test]
fn a_status_that_somebody_emptied_is_written_again() {
    in_namespace(|space| async move {
        let (stage, _) = Stage::shared(space).await?;
        stage.establish("db", &[("password", "1")]).await?;
        let secret = stage.space.secrets().get("db").await?;
        let mut object: SealedSecret = stage.sealed().get("db").await?;
        object.status = None;
        stage.sealed().replace_status("db", &PostParams::default(), &object).await?;
        stage.ready("db").await?;
        assert_eq!(stage.space.secrets().get("db").await?.resource_version(), secret.resource_version());
        Ok(())
    });
}

#[test]
fn a_secret_that_somebody_is_deleting_slowly_is_awaited_and_made_anew() {
    in_namespace(|space| async move {
        let (stage, _) = Stage::shared(space).await?;
        stage.establish("db", &[("password", "1")]).await?;
        stage.meddle("db", json!({"metadata": {"finalizers": ["example.com/hold"]}})).await?;
        let before =
            stage.space.secrets().delete("db", &DeleteParams::default()).await?.left().context("it is held")?;
        stage.laptop.seal_with(&["set", "db.yaml", "password"], "2")?;
        stage.apply("db.yaml").await?;
        stage.reason("db", seal_crds::condition::SealedSecretReason::TargetTerminating).await?;
        stage.holds("db", &[("password", "1")]).await?;
        stage.meddle("db", json!({"metadata": {"finalizers": null}})).await?;
        stage.ready("db").await?;
        stage.holds("db", &[("password", "2")]).await?;
        assert_ne!(stage.space.secrets().get("db").await?.uid(), before.uid());
        Ok(())
    });
}

#[test]
fn from_delete_to_retain_and_back_the_owner_reference_follows() {
    in_namespace(|space| async move {
        let (stage, _) = Stage::shared(space).await?;
        stage.establish("db", &[("password", "1")]).await?;
        for (policy, owners) in [("Retain", 0), ("Delete", 1)] {
            stage
                .tamper("db.yaml", |file| {
                    file["spec"]["target"] = json!({"deletionPolicy": policy});
                    Ok(())
                })
                .await?;
            stage.ready("db").await?;
            assert_eq!(stage.space.secrets().get("db").await?.owner_references().len(), owners, "{policy}");
        }
        Ok(())
    });
}

#[test]
fn an_admission_webhook_that_is_dead_is_named_and_the_object_heals_when_it_is_gone() {
    in_namespace(|space| async move {
        let (stage, _) = Stage::shared(space).await?;
        let webhooks: Api<ValidatingWebhookConfiguration> = Api::all(stage.space.client.clone());
        let name = stage.space.name.clone();
        let [port] = free_ports()?;
        let dead = serde_json::from_value(json!({"metadata": {"name": name}, "webhooks": [{
            "name": "policy.example.org",
            "clientConfig": {"url": format!("https://127.0.0.1:{port}/")},
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["*"], "resources": ["secrets"]}],
            "failurePolicy": "Fail", "sideEffects": "None", "admissionReviewVersions": ["v1"],
        }]}))?;
        webhooks.create(&PostParams::default(), &dead).await?;
        let outcome = async {
            stage.apply(&stage.seal("db", &[("password", "1")])?).await?;
            let object = stage.reason("db", WriteFailed).await?;
            let said = serde_json::to_string(&object.status)?;
            ensure!(said.contains("policy.example.org"), "who is at fault is named: {said}");
            stage.holds_nothing("db").await
        }
        .await;
        webhooks.delete(&name, &DeleteParams::default()).await?;
        outcome?;
        stage.ready("db").await?;
        stage.holds("db", &[("password", "1")]).await
    });
}
