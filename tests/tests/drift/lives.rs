//! SealedSecrets that are deleted, renamed, doubled, too large; namespaces that end.

use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use kube::{ResourceExt, api::ListParams};
use seal_crds::condition::SealedSecretReason::{Synced, TargetConflict, TooLarge};
use seal_crds::{OWNER_ANNOTATION, OWNER_LABEL};
use seal_tests::{Context, Result, Stage, in_namespace, wait};
use serde_json::json;

async fn gone(stage: &Stage, name: &str) -> Result<()> {
    wait::until(&format!("Secret {name} is gone"), || async { Ok(stage.data(name).await?.is_none().then_some(())) })
        .await
}

#[test]
fn the_secret_goes_with_its_object() {
    in_namespace(|space| async move {
        let (stage, _) = Stage::shared(space).await?;
        stage.establish("db", &[("password", "1")]).await?;
        stage.sealed().delete("db", &DeleteParams::default()).await?;
        gone(&stage, "db").await
    });
}

#[test]
fn with_retain_the_secret_stays_and_belongs_to_nobody() {
    in_namespace(|space| async move {
        let (stage, _) = Stage::shared(space).await?;
        let file = stage.seal("db", &[("password", "1")])?;
        stage
            .tamper(&file, |file| {
                file["spec"]["target"] = json!({"deletionPolicy": "Retain"});
                Ok(())
            })
            .await?;
        stage.ready("db").await?;
        let before = stage.space.secrets().get("db").await?;
        assert!(before.owner_references().is_empty(), "the garbage collector must not take it");
        stage.sealed().delete("db", &DeleteParams::default()).await?;
        // What is made and repaired after the deletion shows that the controller has seen it.
        stage.establish("later", &[("password", "2")]).await?;
        stage.holds("db", &[("password", "1")]).await?;
        assert_eq!(stage.space.secrets().get("db").await?.uid(), before.uid());
        Ok(())
    });
}

#[test]
fn a_secret_left_behind_under_its_old_name_with_retain_survives_its_object() {
    in_namespace(|space| async move {
        let (stage, _) = Stage::shared(space).await?;
        let manifest = seal_tests::laptop::secret_manifest(&stage.space.name, "db", &[("password", "1")])?;
        stage.laptop.seal_with(&["--scope", "namespace", "-w", "db.yaml"], manifest)?;
        let target = |target: serde_json::Value| {
            move |file: &mut serde_json::Value| {
                file["spec"]["target"] = target;
                Ok(())
            }
        };
        stage.tamper("db.yaml", target(json!({"name": "old"}))).await?;
        stage.holds("old", &[("password", "1")]).await?;
        stage.tamper("db.yaml", target(json!({"name": "new", "deletionPolicy": "Retain"}))).await?;
        stage.holds("new", &[("password", "1")]).await?;
        wait::until("the old Secret is let go", || async {
            let old = stage.space.secrets().get("old").await?;
            Ok((!old.labels().contains_key(OWNER_LABEL) && !old.annotations().contains_key(OWNER_ANNOTATION))
                .then_some(old))
        })
        .await
        .map(|old| assert!(old.owner_references().is_empty(), "the garbage collector must not take it"))
    });
}

#[test]
fn a_retained_secret_is_taken_up_again_by_an_object_of_that_name() {
    in_namespace(|space| async move {
        let (stage, _) = Stage::shared(space).await?;
        let file = stage.seal("db", &[("password", "1")])?;
        stage
            .tamper(&file, |file| {
                file["spec"]["target"] = json!({"deletionPolicy": "Retain"});
                Ok(())
            })
            .await?;
        stage.ready("db").await?;
        let before = stage.space.secrets().get("db").await?;
        stage.sealed().delete("db", &DeleteParams::default()).await?;
        stage.laptop.seal_with(&["set", &file, "password"], "2")?;
        stage.apply(&file).await?;
        stage.ready("db").await?;
        stage.holds("db", &[("password", "2")]).await?;
        assert_eq!(stage.space.secrets().get("db").await?.uid(), before.uid());
        Ok(())
    });
}

#[test]
fn an_object_deleted_and_made_again_has_its_secret() {
    in_namespace(|space| async move {
        let (stage, _) = Stage::shared(space).await?;
        stage.establish("db", &[("password", "1")]).await?;
        stage.sealed().delete("db", &DeleteParams::default()).await?;
        stage.apply("db.yaml").await?;
        let object = stage.ready("db").await?;
        wait::until("the Secret belongs to the new object", || async {
            let Some(secret) = stage.space.secrets().get_opt("db").await? else { return Ok(None) };
            Ok(secret
                .owner_references()
                .iter()
                .any(|owner| Some(&owner.uid) == object.metadata.uid.as_ref())
                .then_some(()))
        })
        .await?;
        stage.holds("db", &[("password", "1")]).await
    });
}

#[test]
fn of_two_objects_with_one_target_the_owner_keeps_it_and_the_other_gets_it_when_it_is_free() {
    in_namespace(|space| async move {
        let (stage, _) = Stage::shared(space).await?;
        stage.establish("db", &[("password", "first")]).await?;
        let second = seal_tests::laptop::secret_manifest(&stage.space.name, "db", &[("password", "second")])?;
        stage.laptop.seal_with(&["-w", "second.yaml"], second)?;
        stage
            .tamper("second.yaml", |file| {
                file["metadata"]["name"] = "second".into();
                Ok(())
            })
            .await?;
        stage.reason("second", TargetConflict).await?;
        stage.reason("db", Synced).await?;
        stage.holds("db", &[("password", "first")]).await?;
        stage.sealed().delete("db", &DeleteParams::default()).await?;
        stage.ready("second").await?;
        stage.holds("db", &[("password", "second")]).await
    });
}

#[test]
fn a_renamed_target_moves_the_secret() {
    in_namespace(|space| async move {
        let (stage, _) = Stage::shared(space).await?;
        // Sealed for any name in this namespace, so that the target may change.
        let manifest = seal_tests::laptop::secret_manifest(&stage.space.name, "db", &[("password", "1")])?;
        stage.laptop.seal_with(&["--scope", "namespace", "-w", "db.yaml"], manifest)?;
        stage.apply("db.yaml").await?;
        stage.holds("db", &[("password", "1")]).await?;
        stage
            .tamper("db.yaml", |file| {
                file["spec"]["target"] = json!({"name": "database"});
                Ok(())
            })
            .await?;
        stage.ready("db").await?;
        stage.holds("database", &[("password", "1")]).await?;
        gone(&stage, "db").await
    });
}

#[test]
fn a_changed_type_replaces_the_secret() {
    in_namespace(|space| async move {
        let (stage, _) = Stage::shared(space).await?;
        stage.establish("db", &[("password", "1")]).await?;
        let before = stage.space.secrets().get("db").await?;
        stage
            .tamper("db.yaml", |file| {
                file["spec"]["template"] = json!({"type": "example.com/database"});
                Ok(())
            })
            .await?;
        stage.ready("db").await?;
        stage.holds("db", &[("password", "1")]).await?;
        let after = stage.space.secrets().get("db").await?;
        assert_ne!(after.uid(), before.uid());
        assert_eq!(after.type_.as_deref(), Some("example.com/database"));
        Ok(())
    });
}

#[test]
fn a_secret_beyond_the_size_that_the_api_server_takes_is_named_and_the_last_one_stays() {
    in_namespace(|space| async move {
        let (stage, _) = Stage::shared(space).await?;
        stage.establish("db", &[("password", "1")]).await?;
        // Each value fits, the object fits; the Secret, which holds one of them twice, does not.
        stage.laptop.write("value.txt", "x".repeat(400_000))?;
        stage.laptop.seal(&["set", "db.yaml", "--from-file", "a=value.txt", "--from-file", "b=value.txt"])?;
        stage
            .tamper("db.yaml", |file| {
                file["spec"]["template"] = json!({"data": {"c": "{{ .a }}"}});
                Ok(())
            })
            .await?;
        stage.reason("db", TooLarge).await?;
        stage.holds("db", &[("password", "1")]).await
    });
}

#[test]
fn a_namespace_that_ends_is_left_in_peace() {
    in_namespace(|space| async move {
        let (stage, controller) = Stage::shared(space).await?;
        stage.establish("db", &[("password", "1")]).await?;
        let namespaces: Api<Namespace> = Api::all(stage.space.client.clone());
        // Held open, so that the controller has time to do something wrong.
        let hold = json!({"metadata": {"finalizers": ["example.com/hold"]}});
        stage.sealed().patch("db", &PatchParams::default(), &Patch::Merge(hold)).await?;
        namespaces.delete(&stage.space.name, &DeleteParams::default()).await?;
        gone(&stage, "db").await?;
        // An object elsewhere, made and repaired since, shows that the controller has come past these events.
        let elsewhere = seal_tests::Space::make(stage.space.plane.clone()).await?;
        let other = Stage::set(elsewhere).await?;
        other.establish("db", &[("password", "2")]).await?;
        stage.holds_nothing("db").await?;
        let release = json!({"metadata": {"finalizers": null}});
        stage.sealed().patch("db", &PatchParams::default(), &Patch::Merge(release)).await?;
        wait::until("the namespace is gone", || async {
            Ok(namespaces.get_opt(&stage.space.name).await?.is_none().then_some(()))
        })
        .await?;
        assert_eq!(stage.drifts(&controller, "db"), 0, "an end is no drift");
        Ok(())
    });
}

#[test]
fn a_prefix_on_the_objects_name_is_harmless() {
    in_namespace(|space| async move {
        let (stage, _) = Stage::shared(space).await?;
        let file = stage.seal("db", &[("password", "1")])?;
        stage
            .tamper(&file, |file| {
                file["metadata"]["name"] = "prod-db".into();
                Ok(())
            })
            .await?;
        stage.ready("prod-db").await?;
        stage.holds("db", &[("password", "1")]).await?;
        let secrets = stage.space.secrets().list(&ListParams::default().labels(OWNER_LABEL)).await?;
        let secret = secrets.items.first().context("there is one Secret of ours")?;
        assert_eq!(secret.annotations()[OWNER_ANNOTATION], "SealedSecret/prod-db");
        Ok(())
    });
}
