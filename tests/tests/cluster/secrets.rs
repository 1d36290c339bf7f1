//! Server-side apply of Secrets: which preconditions guard a write, and which do not.

use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Error, ResourceExt};
use seal_tests::{Result, in_namespace};
use serde_json::{Value, json};

/// A Secret as the controller applies it; `guard` goes into its metadata.
fn desired(name: &str, data: Value, guard: Value) -> Patch<Value> {
    let mut metadata = json!({"name": name});
    if let (Some(into), Some(from)) = (metadata.as_object_mut(), guard.as_object()) {
        into.extend(from.clone());
    }
    Patch::Apply(json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data}))
}

async fn apply(secrets: &Api<Secret>, patch: Patch<Value>) -> Result<Secret, Error> {
    let Patch::Apply(object) = &patch else { unreachable!("`desired` makes applies") };
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    secrets.patch(name, &PatchParams::apply("seal-controller").force(), &patch).await
}

fn is_conflict<T>(result: &Result<T, Error>) -> bool {
    matches!(result, Err(Error::Api(status)) if status.code == 409)
}

#[test]
fn an_apply_with_resource_version_1_creates_but_never_overwrites() {
    in_namespace(|space| async move {
        let secrets = space.secrets();
        let absent = json!({"resourceVersion": "1"});
        let made = apply(&secrets, desired("db", json!({"a": "1"}), absent.clone())).await?;
        assert_eq!(made.data.unwrap_or_default()["a"].0, b"1");
        assert!(is_conflict(&apply(&secrets, desired("db", json!({"a": "2"}), absent)).await));
        assert_eq!(secrets.get("db").await?.data.unwrap_or_default()["a"].0, b"1");
        Ok(())
    });
}

#[test]
fn an_apply_without_a_precondition_merges_into_a_secret_of_somebody_else() {
    in_namespace(|space| async move {
        let secrets = space.secrets();
        let theirs = serde_json::from_value(json!({"metadata": {"name": "db"}, "stringData": {"theirs": "x"}}))?;
        secrets.create(&PostParams::default(), &theirs).await?;
        let merged = apply(&secrets, desired("db", json!({"ours": "y"}), json!({}))).await?;
        assert_eq!(merged.data.unwrap_or_default().len(), 2);
        Ok(())
    });
}

#[test]
fn an_apply_with_a_stale_resource_version_is_refused() {
    in_namespace(|space| async move {
        let secrets = space.secrets();
        let read = apply(&secrets, desired("db", json!({"a": "1"}), json!({}))).await?;
        apply(&secrets, desired("db", json!({"a": "2"}), json!({}))).await?;
        let guard = json!({"uid": read.uid(), "resourceVersion": read.resource_version()});
        assert!(is_conflict(&apply(&secrets, desired("db", json!({"a": "3"}), guard)).await));
        Ok(())
    });
}

#[test]
fn an_apply_with_uid_and_resource_version_does_not_bring_a_deleted_secret_back_but_resource_version_alone_does() {
    in_namespace(|space| async move {
        let secrets = space.secrets();
        let read = apply(&secrets, desired("db", json!({"a": "1"}), json!({}))).await?;
        secrets.delete("db", &DeleteParams::default()).await?;
        let both = json!({"uid": read.uid(), "resourceVersion": read.resource_version()});
        assert!(is_conflict(&apply(&secrets, desired("db", json!({"a": "2"}), both)).await));
        let version_alone = json!({"resourceVersion": read.resource_version()});
        let again = apply(&secrets, desired("db", json!({"a": "2"}), version_alone)).await?;
        assert_ne!(again.uid(), read.uid());
        Ok(())
    });
}

#[test]
fn an_apply_that_changes_nothing_keeps_the_resource_version() {
    in_namespace(|space| async move {
        let secrets = space.secrets();
        let first = apply(&secrets, desired("db", json!({"a": "1"}), json!({}))).await?;
        let second = apply(&secrets, desired("db", json!({"a": "1"}), json!({}))).await?;
        assert_eq!(first.resource_version(), second.resource_version());
        Ok(())
    });
}

#[test]
fn a_forced_apply_keeps_a_key_that_a_person_added() {
    in_namespace(|space| async move {
        let secrets = space.secrets();
        apply(&secrets, desired("db", json!({"a": "1"}), json!({}))).await?;
        let theirs = Patch::Merge(json!({"stringData": {"extra": "x"}}));
        secrets.patch("db", &PatchParams::default(), &theirs).await?;
        let after = apply(&secrets, desired("db", json!({"a": "1"}), json!({}))).await?;
        assert!(after.data.unwrap_or_default().contains_key("extra"));
        Ok(())
    });
}

#[test]
fn a_delete_with_the_uid_of_an_earlier_secret_of_that_name_is_refused() {
    in_namespace(|space| async move {
        let secrets = space.secrets();
        let earlier = apply(&secrets, desired("db", json!({"a": "1"}), json!({}))).await?;
        secrets.delete("db", &DeleteParams::default()).await?;
        apply(&secrets, desired("db", json!({"a": "1"}), json!({}))).await?;
        let preconditions = Preconditions { uid: earlier.uid(), ..Preconditions::default() };
        let result = secrets.delete("db", &DeleteParams::default().preconditions(preconditions)).await;
        assert!(is_conflict(&result));
        Ok(())
    });
}

#[test]
fn a_custom_secret_type_is_accepted_so_only_the_controller_refuses_one() {
    in_namespace(|space| async move {
        let forged = serde_json::from_value(json!({
            "metadata": {"name": "forged"}, "type": seal_crds::IDENTITY_SECRET_TYPE, "stringData": {"a": "1"},
        }))?;
        space.secrets().create(&PostParams::default(), &forged).await?;
        Ok(())
    });
}
