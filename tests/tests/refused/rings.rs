//! Rings that are not what they say.

use kube::api::Api;
use seal_crds::KeyRing;
use seal_crds::condition::SealedSecretReason::{KeyDisabled, KeyNotFound, KeyNotProven};
use seal_crds::condition::{READY, find};
use seal_tests::stage::RECOVERY;
use seal_tests::{Context, Result, Stage, in_namespace, manifests, wait};
use serde_json::Value;

/// Changes our ring's file so that the cluster must refuse it: the ring says why, an object sealed to it waits, and all
/// is well when the file is as before.
fn ring_refused_and_healed(reason: &'static str, change: fn(&mut Value) -> Result<()>) {
    in_namespace(|space| async move {
        let (stage, _) = Stage::shared(space).await?;
        // The ring must be unknown to the cluster: a key that was proven once goes on opening.
        std::fs::remove_file(stage.laptop.path(&stage.ring_file()))?;
        let fresh = format!("fresh-{}", stage.ring);
        let members = ["--member", "cluster=cluster.pub", "--member", "recovery=recovery.pub"];
        stage.laptop.seal(&[&["ring", "new", fresh.as_str()][..], &members].concat())?;
        let stage = Stage { ring: fresh.clone(), ..stage };
        stage.laptop.seal(&["ring", "rotate", &fresh, "-i", RECOVERY, "--yes"])?;
        let good = stage.laptop.read(&stage.ring_file())?;
        let file = stage.seal("db", &[("password", "s3cret")])?;

        stage.tamper(&stage.ring_file(), change).await?;
        stage.ring_is(reason).await?;
        stage.apply(&file).await?;
        let waiting = if reason == "NotProven" { KeyNotProven } else { KeyNotFound };
        stage.reason("db", waiting).await?;
        stage.holds_nothing("db").await?;

        stage.laptop.write(&stage.ring_file(), good)?;
        stage.apply(&stage.ring_file()).await?;
        stage.ring_is("Opened").await?;
        stage.holds("db", &[("password", "s3cret")]).await
    });
}

/// The wrap of the last key, the one that seals, for the cluster.
fn wrap(ring: &mut Value, key: usize) -> Result<&mut Value> {
    ring.pointer_mut(&format!("/spec/keys/{key}/wraps/cluster")).context("the ring is wrapped for the cluster")
}

#[test]
fn a_ring_whose_wrap_is_garbage_is_named_and_heals() {
    ring_refused_and_healed("WrapInvalid", |ring| {
        *wrap(ring, 1)? = "Z2FyYmFnZQ==".into();
        Ok(())
    });
}

#[test]
fn a_ring_whose_wrap_opens_to_another_key_than_it_says_is_named_and_heals() {
    ring_refused_and_healed("WrapInvalid", |ring| {
        let first = wrap(ring, 0)?.clone();
        *wrap(ring, 1)? = first;
        Ok(())
    });
}

#[test]
fn a_ring_whose_proof_is_not_its_own_is_named_and_heals() {
    ring_refused_and_healed("NotProven", |ring| {
        ring["spec"]["proof"] = format!("{}=", "A".repeat(43)).into();
        Ok(())
    });
}

#[test]
fn a_ring_from_which_the_cluster_was_removed_is_named_and_heals() {
    ring_refused_and_healed("NotAMember", |ring| {
        for key in ring["spec"]["keys"].as_array_mut().context("a ring has keys")? {
            key["wraps"].as_object_mut().context("a key has wraps")?.remove("cluster");
        }
        ring["spec"]["members"]
            .as_array_mut()
            .context("a ring has members")?
            .retain(|member| member["name"] != "cluster");
        Ok(())
    });
}

#[test]
fn an_object_waits_for_its_ring_and_heals_when_it_comes_or_comes_back() {
    in_namespace(|space| async move {
        let (stage, _) = Stage::shared(space).await?;
        let file = stage.seal("db", &[("password", "s3cret")])?;
        stage.rings().delete(&stage.ring, &kube::api::DeleteParams::default()).await?;
        wait::until("the ring is gone", || async {
            Ok(stage.rings().get_opt(&stage.ring).await?.is_none().then_some(()))
        })
        .await?;
        stage.apply(&file).await?;
        stage.reason("db", KeyNotFound).await?;
        stage.apply(&stage.ring_file()).await?;
        stage.ready("db").await?;
        stage.holds("db", &[("password", "s3cret")]).await
    });
}

#[test]
fn a_key_planted_in_a_ring_without_a_proof_fails_loudly_at_its_first_use_and_the_others_go_on() {
    in_namespace(|space| async move {
        let (stage, _) = Stage::shared(space).await?;
        let old = stage.seal("old", &[("password", "1")])?;
        // An attacker's key, wrapped as it should be: anybody can do that with public recipients.
        stage.laptop.seal(&[
            "ring",
            "new",
            "evil",
            "--member",
            "cluster=cluster.pub",
            "--member",
            "recovery=recovery.pub",
        ])?;
        let evil: Value = serde_yaml::from_str(&stage.laptop.read(".seal/keyrings/evil.yaml")?)?;
        std::fs::remove_file(stage.laptop.path(".seal/keyrings/evil.yaml"))?;
        stage
            .tamper(&stage.ring_file(), |ring| {
                let keys = ring["spec"]["keys"].as_array_mut().context("a ring has keys")?;
                keys.push(evil["spec"]["keys"][0].clone());
                Ok(())
            })
            .await?;
        stage.ring_is("NotProven").await?;
        let new = stage.seal("new", &[("password", "2")])?;
        stage.apply(&new).await?;
        stage.reason("new", KeyNotProven).await?;
        stage.holds_nothing("new").await?;
        stage.apply(&old).await?;
        stage.holds("old", &[("password", "1")]).await
    });
}

#[test]
fn a_ring_in_another_namespace_than_the_controllers_opens_nothing() {
    in_namespace(|space| async move {
        let (stage, _) = Stage::shared(space).await?;
        stage.laptop.seal(&[
            "ring",
            "new",
            "mine",
            "--member",
            "cluster=cluster.pub",
            "--member",
            "recovery=recovery.pub",
        ])?;
        let manifest = seal_tests::laptop::secret_manifest(&stage.space.name, "db", &[("password", "x")])?;
        stage.laptop.seal_with(&["--to", "mine", "-w", "db.yaml"], manifest)?;
        let mut rings = manifests::read(&stage.laptop.path(".seal/keyrings/mine.yaml"))?;
        rings[0].metadata.namespace = Some(stage.space.name.clone());
        manifests::apply(&stage.space.client, &rings).await?;
        let here: Api<KeyRing> = Api::namespaced(stage.space.client.clone(), &stage.space.name);
        wait::until_equal("the ring's reason", Some("NotHonoured".to_owned()), || async {
            let status = here.get("mine").await?.status.unwrap_or_default();
            Ok(find(&status.conditions, READY).map(|ready| ready.reason.clone()))
        })
        .await?;
        stage.apply("db.yaml").await?;
        stage.reason("db", KeyNotFound).await?;
        stage.holds_nothing("db").await
    });
}

#[test]
fn a_ring_that_claims_a_members_recipient_or_disables_anothers_key_harms_no_other_ring() {
    in_namespace(|space| async move {
        let (stage, _) = Stage::shared(space).await?;
        let ours = stage.rings().get(&stage.ring).await?;
        let recipients = [stage.laptop.read("cluster.pub")?, ours.spec.keys[0].recipient.clone()];
        stage.laptop.seal(&["keygen", "-w", "../stranger.txt"]).and_then(|own| stage.laptop.write("own", own))?;
        let stranger = stage.laptop.read("own")?;
        for (recipient, is_disabled) in recipients.iter().zip([false, true]) {
            let name = format!("hostile-{is_disabled}-{}", stage.ring);
            let hostile = serde_json::from_value(serde_json::json!({
                "apiVersion": "sealwright.dev/v1alpha1", "kind": "KeyRing",
                "metadata": {"name": name, "namespace": ours.metadata.namespace},
                "spec": {
                    "members": [{"name": "x", "recipient": stranger.trim()}],
                    "keys": [{
                        "recipient": recipient.trim(), "created": "2026-11-21T09:00:00Z",
                        "wraps": {"x": "Z2FyYmFnZQ=="}, "disabled": is_disabled,
                    }],
                    "proof": format!("{}=", "A".repeat(43)),
                },
            }))?;
            manifests::apply(&stage.space.client, &[hostile]).await?;
            let judged = if is_disabled { "NotAMember" } else { "MemberIsRingKey" };
            wait::until_equal(&format!("what is said of {name}"), Some(judged.to_owned()), || async {
                let status = stage.rings().get(&name).await?.status.unwrap_or_default();
                Ok(find(&status.conditions, READY).map(|ready| ready.reason.clone()))
            })
            .await?;
        }
        stage.ring_is("KeyInTwoRings").await?;
        stage.establish("db", &[("password", "1")]).await.map(drop)
    });
}

#[test]
fn a_ring_that_was_deleted_comes_back_in_its_last_state_and_an_older_one_is_named() {
    in_namespace(|space| async move {
        let (stage, _) = Stage::shared(space).await?;
        let older = stage.laptop.read(&stage.ring_file())?;
        let file = stage.seal("db", &[("password", "s3cret")])?;
        let first = stage.rings().get(&stage.ring).await?.status.unwrap_or_default().keys[0].id.clone();
        stage.laptop.seal(&["ring", "rotate", &stage.ring, "-i", RECOVERY, "--yes"])?;
        stage.laptop.seal(&["ring", "disable", &stage.ring, &first, "-i", RECOVERY, "--yes"])?;
        let last = stage.laptop.read(&stage.ring_file())?;
        stage.apply(&stage.ring_file()).await?;
        stage.ring_is("Opened").await?;
        stage.apply(&file).await?;
        stage.reason("db", KeyDisabled).await?;

        for (state, is_older) in [(&last, false), (&older, true), (&last, false)] {
            stage.rings().delete(&stage.ring, &kube::api::DeleteParams::default()).await?;
            stage.reason("db", KeyNotFound).await?;
            stage.laptop.write(&stage.ring_file(), state)?;
            stage.apply(&stage.ring_file()).await?;
            stage.ring_is(if is_older { "KeysRewritten" } else { "Opened" }).await?;
            // In both, what was disabled stays so.
            stage.reason("db", KeyDisabled).await?;
            stage.holds_nothing("db").await?;
        }
        Ok(())
    });
}
