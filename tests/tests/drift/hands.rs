//! Somebody changes the Secret: it is put right, and counted.

use std::cell::Cell;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams};
use seal_crds::condition::SealedSecretReason::{Contested, Synced, TargetImmutable, TargetNotOwned};
use seal_crds::condition::{READY, find};
use seal_crds::{OWNER_ANNOTATION, OWNER_LABEL};
use seal_tests::stage::MEDDLER;
use seal_tests::{Result, Stage, in_namespace, wait};
use serde_json::json;

const GOOD: [(&str, &str); 2] = [("password", "s3cret"), ("user", "app")];

/// Establishes a Secret, lets somebody change it, and sees that it is put right and that the repair is told.
fn repaired(change: impl AsyncFnOnce(&Stage) -> Result<()>) {
    in_namespace(|space| async move {
        let (stage, controller) = Stage::shared(space).await?;
        stage.establish("db", &GOOD).await?;
        let counted = controller.metric("sealwright_drift_total", &[]).await?;
        change(&stage).await?;
        wait::until("the Secret is ours again, and as it was", || async {
            let Some(secret) = stage.space.secrets().get_opt("db").await? else { return Ok(None) };
            let right = seal_tests::stage::text_of(&secret) == GOOD.map(|(k, v)| (k.into(), v.into())).into();
            Ok((right
                && secret.labels().contains_key(OWNER_LABEL)
                && secret.annotations().contains_key(OWNER_ANNOTATION))
            .then_some(()))
        })
        .await?;
        wait::until("the drift is told", || async { Ok((stage.drifts(&controller, "db") > 0).then_some(())) }).await?;
        wait::until("the drift is counted", || async {
            Ok((controller.metric("sealwright_drift_total", &[]).await? > counted).then_some(()))
        })
        .await?;
        stage.reason("db", Synced).await.map(drop)
    });
}

#[test]
fn a_secret_deleted_by_hand_is_made_again() {
    repaired(async |stage| {
        stage.space.secrets().delete("db", &DeleteParams::default()).await?;
        Ok(())
    });
}

#[test]
fn a_value_edited_by_hand_is_put_right() {
    repaired(async |stage| stage.meddle("db", json!({"stringData": {"password": "mine"}})).await.map(drop));
}

#[test]
fn a_key_removed_by_hand_is_put_back() {
    repaired(async |stage| stage.meddle("db", json!({"data": {"user": null}})).await.map(drop));
}

#[test]
fn a_key_added_by_hand_is_removed() {
    repaired(async |stage| stage.meddle("db", json!({"stringData": {"extra": "x"}})).await.map(drop));
}

#[test]
fn a_key_added_by_another_field_manager_with_force_is_removed() {
    repaired(async |stage| {
        let theirs = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "db"}, "stringData": {"extra": "x", "password": "y"}});
        let params = PatchParams::apply("somebody").force();
        stage.space.secrets().patch("db", &params, &Patch::Apply(theirs)).await?;
        Ok(())
    });
}

#[test]
fn the_label_removed_by_hand_is_put_back() {
    repaired(async |stage| stage.meddle("db", json!({"metadata": {"labels": {OWNER_LABEL: null}}})).await.map(drop));
}

#[test]
fn label_and_value_changed_in_one_edit_are_both_put_right() {
    repaired(async |stage| {
        let edit = json!({"metadata": {"labels": {OWNER_LABEL: null}}, "stringData": {"password": "mine"}});
        stage.meddle("db", edit).await.map(drop)
    });
}

#[test]
fn a_repair_takes_less_than_a_second() {
    in_namespace(|space| async move {
        let (stage, _) = Stage::shared(space).await?;
        let mut times = Vec::new();
        // The fastest of some: what else a machine is busy with is not the controller's.
        for name in ["a", "b", "c", "d", "e"] {
            stage.establish(name, &GOOD).await?;
            let begin = Instant::now();
            stage.meddle(name, json!({"stringData": {"password": "mine"}})).await?;
            stage.holds(name, &GOOD).await?;
            times.push(begin.elapsed());
        }
        assert!(times.iter().min() < Some(&Duration::from_secs(1)), "{times:?}");
        Ok(())
    });
}

#[test]
fn labels_and_annotations_of_others_stay() {
    in_namespace(|space| async move {
        let (stage, _) = Stage::shared(space).await?;
        stage.establish("db", &GOOD).await?;
        stage.meddle("db", json!({"metadata": {"labels": {"theirs": "yes"}}})).await?;
        stage.laptop.seal_with(&["set", "db.yaml", "password"], "new")?;
        stage.apply("db.yaml").await?;
        stage.holds("db", &[("password", "new"), ("user", "app")]).await?;
        assert_eq!(stage.space.secrets().get("db").await?.labels()["theirs"], "yes");
        Ok(())
    });
}

#[test]
fn a_secret_taken_over_by_another_owner_is_left_to_it_and_named() {
    in_namespace(|space| async move {
        let (stage, _) = Stage::shared(space).await?;
        stage.establish("db", &GOOD).await?;
        let owner = stage.meddle_owner().await?;
        let theirs =
            json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": owner, "controller": true}]);
        let edit = json!({"metadata": {"ownerReferences": theirs}, "stringData": {"password": "theirs"}});
        stage.meddle("db", edit).await?;
        stage.reason("db", TargetNotOwned).await?;
        assert_eq!(stage.data("db").await?.unwrap_or_default()["password"], "theirs");
        Ok(())
    });
}

#[test]
fn an_immutable_secret_is_left_as_it_is_and_named_until_it_is_deleted() {
    in_namespace(|space| async move {
        let (stage, _) = Stage::shared(space).await?;
        let file = stage.seal("db", &[("password", "1")])?;
        stage
            .tamper(&file, |file| {
                file["spec"]["template"] = json!({"immutable": true});
                Ok(())
            })
            .await?;
        stage.ready("db").await?;
        assert_eq!(stage.space.secrets().get("db").await?.immutable, Some(true));
        stage.laptop.seal_with(&["set", &file, "password"], "2")?;
        stage.apply(&file).await?;
        stage.reason("db", TargetImmutable).await?;
        stage.holds("db", &[("password", "1")]).await?;
        stage.space.secrets().delete("db", &DeleteParams::default()).await?;
        stage.holds("db", &[("password", "2")]).await?;
        stage.ready("db").await.map(drop)
    });
}

#[test]
fn who_keeps_changing_it_back_is_named_and_not_fought_without_end() {
    contested_by([MEDDLER; 2]);
}

#[test]
fn two_who_take_turns_at_changing_it_back_are_not_fought_without_end_either() {
    contested_by([MEDDLER, "another-operator"]);
}

fn contested_by(operators: [&'static str; 2]) {
    in_namespace(move |space| async move {
        let (stage, _) = Stage::shared(space).await?;
        stage.establish("db", &GOOD).await?;
        // Somebody else's operators: whenever the value is ours, the next one makes it theirs.
        let turn = Cell::new(0);
        let object = wait::until("the contest is named", || async {
            let secret = stage.space.secrets().get("db").await?;
            if seal_tests::stage::text_of(&secret)["password"] != "theirs" {
                let operator = operators[turn.replace(turn.get() + 1) % 2];
                stage.meddle_as(operator, "db", json!({"stringData": {"password": "theirs"}})).await?;
            }
            let object = stage.sealed().get("db").await?;
            let conditions = object.status.clone().unwrap_or_default().conditions;
            Ok(find(&conditions, READY).is_some_and(|c| c.reason == Contested.as_str()).then_some(object))
        })
        .await?;
        let said = object.status.unwrap_or_default().conditions;
        let message = find(&said, READY).map(|c| c.message.clone()).unwrap_or_default();
        assert!(operators.iter().any(|operator| message.starts_with(operator)), "one of them is named: {message}");
        // Left alone, it is put right, if later.
        wait::until("the Secret is put right", || async {
            Ok((stage.data("db").await?.is_some_and(|data| data["password"] == "s3cret")).then_some(()))
        })
        .await
    });
}

#[test]
fn an_unchanged_secret_is_never_written() {
    in_namespace(|space| async move {
        let (stage, _) = Stage::shared(space).await?;
        stage.establish("db", &GOOD).await?;
        let before: Secret = stage.space.secrets().get("db").await?;
        // A new generation that means the same, and one that is seen after it.
        stage
            .tamper("db.yaml", |file| {
                file["spec"]["target"] = json!({"name": "db"});
                Ok(())
            })
            .await?;
        stage.ready("db").await?;
        assert_eq!(stage.space.secrets().get("db").await?.resource_version(), before.resource_version());
        Ok(())
    });
}
