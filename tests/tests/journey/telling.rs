//! What people and monitoring are told while all that happens.

use seal_tests::{Result, Stage, in_namespace, wait};

/// Waits for an Event about the object.
async fn told(stage: &Stage, name: &str, type_: &str, reason: &str) -> Result<()> {
    wait::until(&format!("an Event {reason} about {name}"), || async {
        let events = stage.events(name).await?;
        let is_told = |event: &&_| {
            let (event_type, event_reason) = kind_of(event);
            event_type == Some(type_) && event_reason == Some(reason)
        };
        Ok(events.iter().find(is_told).map(drop))
    })
    .await
}

fn kind_of(event: &k8s_openapi::api::core::v1::Event) -> (Option<&str>, Option<&str>) {
    (event.type_.as_deref(), event.reason.as_deref())
}

#[test]
fn events_tell_what_becomes_of_an_object_and_of_its_secret() {
    in_namespace(|space| async move {
        let (stage, _) = Stage::shared(space).await?;
        stage.establish("db", &[("password", "s3cret")]).await?;
        told(&stage, "db", "Normal", "Synced").await?;
        stage.meddle("db", serde_json::json!({"stringData": {"password": "another"}})).await?;
        told(&stage, "db", "Warning", "DriftRepaired").await?;
        stage
            .tamper("db.yaml", |file| {
                file["spec"]["sealedFor"]["namespaces"] = serde_json::json!(["elsewhere"]);
                Ok(())
            })
            .await?;
        told(&stage, "db", "Warning", "SealedForElsewhere").await
    });
}

#[test]
fn metrics_tell_of_objects_keys_and_writes() {
    in_namespace(|space| async move {
        let (stage, controller) = Stage::shared(space).await?;
        stage.establish("db", &[("password", "s3cret")]).await?;
        for (name, labels) in [
            ("sealwright_sealedsecrets", &["ready=\"True\"", "reason=\"Synced\""][..]),
            ("sealwright_key_objects", &[]),
            ("sealwright_secret_writes_total", &["operation=\"create\""]),
            ("sealwright_reconciles_total", &["kind=\"SealedSecret\"", "result=\"changed\""]),
            ("sealwright_reconcile_duration_seconds_count", &["kind=\"SealedSecret\""]),
            ("sealwright_keyring_keys", &["state=\"opened\""]),
            ("sealwright_identities", &[]),
            ("sealwright_leader", &[]),
        ] {
            wait::until(&format!("{name} is counted"), || async {
                Ok((controller.metric(name, labels).await? >= 1.0).then_some(()))
            })
            .await?;
        }
        Ok(())
    });
}
