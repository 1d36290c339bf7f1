//! Pins: what `seal init --from-cluster` takes from a real API server, and what it says when there is nothing to take.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{Api, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use seal_crds::KeyRing;
use seal_tests::laptop::Said;
use seal_tests::{Context, Laptop, Result, in_own_cluster, install, wait};
use serde_json::json;

fn failed(said: &Said, texts: &[&str]) {
    assert_eq!(said.code, Some(1), "{}", said.stderr);
    for text in texts {
        assert!(said.stderr.contains(text), "{text:?} is not in: {}", said.stderr);
    }
}

/// A ring made on another laptop.
fn ring(laptop: &Laptop) -> Result<KeyRing> {
    serde_yaml::from_str(&laptop.read(".seal/keyrings/prod.yaml")?).context("read a ring")
}

#[test]
fn a_ring_is_pinned_as_git_wants_it_and_a_change_of_it_is_shown_and_needs_consent() {
    in_own_cluster(|space| async move {
        let laptop = Laptop::new(space.plane.kubeconfig())?;
        let fetch = ["init", "--from-cluster", "--namespace", space.name.as_str()];
        failed(
            &laptop.try_seal(&fetch, "")?,
            &["cannot list the KeyRings", "hint: this cluster does not know KeyRings"],
        );

        install::definitions(&space.client).await?;
        let rings: Api<KeyRing> = Api::namespaced(space.client.clone(), &space.name);
        // A definition that was just changed answers 429 for a moment.
        wait::until("KeyRings are served", || async { Ok(rings.list(&ListParams::default()).await.ok()) }).await?;
        failed(
            &laptop.try_seal(&fetch, "")?,
            &["there is no KeyRing in the namespace", "hint: is the controller elsewhere?"],
        );

        let other = Laptop::new(space.plane.kubeconfig())?;
        for member in ["eu", "recovery"] {
            let recipient = other.seal(&["keygen", "-w", &format!("{member}.txt")])?;
            other.write(&format!("{member}.pub"), recipient)?;
        }
        let members =
            ["--member", "eu=eu.pub", "--member", "recovery=recovery.pub", "--namespace", space.name.as_str()];
        other.seal(&[&["ring", "new", "prod"][..], &members].concat())?;
        let mut manifest = ring(&other)?;
        manifest.metadata.annotations = Some(BTreeMap::from([
            ("kubectl.kubernetes.io/last-applied-configuration".to_owned(), "{}".to_owned()),
            ("argocd.argoproj.io/tracking-id".to_owned(), "rings".to_owned()),
            ("example.com/owner".to_owned(), "platform".to_owned()),
        ]));
        rings.create(&PostParams::default(), &manifest).await?;

        failed(&laptop.try_seal(&[&fetch[..], &["--ring", "prdo"]].concat(), "")?, &["hint: did you mean `prod`?"]);
        // The cluster's word of the very state that is fetched counts, and nothing is pinned against it.
        let id = manifest.ring().unwrap().keys()[0].key_id().to_string();
        let generation = rings.get("prod").await?.metadata.generation;
        let judge = async |reason: &str, status: &str, proven: bool| {
            let condition = json!({"type": "Ready", "status": status, "reason": reason, "message": "as it is",
                "lastTransitionTime": "2026-11-21T09:00:00Z"});
            let keys = json!([{"id": id, "proven": proven}]);
            let status = json!({"observedGeneration": generation, "conditions": [condition], "keys": keys});
            rings.patch_status("prod", &PatchParams::default(), &Patch::Merge(json!({"status": status}))).await
        };
        for (reason, status, why) in [
            ("NotProven", "False", "does not accept the ring `prod`: NotProven: as it is"),
            ("KeyInTwoRings", "True", "no proof covers its key"),
        ] {
            judge(reason, status, false).await?;
            failed(&laptop.try_seal(&fetch, "")?, &[why, "is not pinned", "hint: another one: --ring NAME"]);
            assert!(ring(&laptop).is_err());
        }
        judge("Opened", "True", true).await?;
        let said = laptop.try_seal(&fetch, "")?;
        assert_eq!((said.code, said.stderr.contains("warning")), (Some(0), false), "{}", said.stderr);
        let pinned = ring(&laptop)?;
        assert_eq!(pinned.spec, manifest.spec);
        let annotations = BTreeMap::from([("example.com/owner".to_owned(), "platform".to_owned())]);
        let expected = ObjectMeta {
            name: Some("prod".into()),
            namespace: Some(space.name.clone()),
            annotations: Some(annotations),
            ..Default::default()
        };
        assert_eq!(pinned.metadata, expected);
        assert!(laptop.read(".seal/config.yaml")?.contains("rules: []"));

        // Nothing has changed: no byte does.
        let before = laptop.read(".seal/keyrings/prod.yaml")?;
        laptop.write(".seal/keyrings/prod.yaml", format!("# ours\n{before}"))?;
        laptop.seal(&fetch)?;
        assert_eq!(laptop.read(".seal/keyrings/prod.yaml")?, format!("# ours\n{before}"));

        other.seal(&["ring", "remove", "prod", "eu", "-i", "recovery.txt"])?;
        let rotated = json!({"spec": ring(&other)?.spec});
        rings.patch("prod", &PatchParams::default(), &Patch::Merge(rotated)).await?;
        let said = laptop.try_seal(&fetch, "")?;
        failed(
            &said,
            &[
                "no controller has looked at the ring `prod` yet",
                "is not as it was pinned",
                "  - member eu ",
                "  + key ",
                "nobody to ask",
                "hint: check the ids",
            ],
        );
        assert_eq!(laptop.read(".seal/keyrings/prod.yaml")?, format!("# ours\n{before}"));
        laptop.seal(&[&fetch[..], &["--yes"]].concat())?;
        assert_eq!(ring(&laptop)?.spec, ring(&other)?.spec);
        assert!(laptop.read(".seal/keyrings/prod.yaml")?.starts_with("# ours\n"));

        // An older state of the ring is not taken for a continuation.
        laptop.write("old.yaml", &before)?;
        failed(&laptop.try_seal(&["init", "old.yaml"], "")?, &["keys are only ever appended", "  - key "]);

        let accounts: Api<ServiceAccount> = Api::namespaced(space.client.clone(), &space.name);
        let nobody = ServiceAccount {
            metadata: ObjectMeta { name: Some("nobody".into()), ..Default::default() },
            ..Default::default()
        };
        accounts.create(&PostParams::default(), &nobody).await?;
        let nobody = Laptop::new(space.plane.kubeconfig_of(&space.name, "nobody").await?)?;
        failed(&nobody.try_seal(&fetch, "")?, &["hint: you need the right to list keyrings.sealwright.dev"]);
        Ok(())
    });
}
