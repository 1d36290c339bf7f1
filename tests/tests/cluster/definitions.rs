//! The CRDs of `crds/` on a real API server: what they take, and what they refuse and with which words.

use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Error, api::DynamicObject};
use seal_crds::{KeyRing, SealedSecret};
use seal_tests::{Context, Result, Space, in_namespace, install};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

/// Shaped like a token; whether it opens is none of the API server's business.
fn token() -> String {
    format!("seal1.{}.{}.AAAA", "a".repeat(32), "b".repeat(8))
}

fn recipient(last: char) -> String {
    format!("age1pq1{}{last}", "q".repeat(1951))
}

fn sealed(spec: Value) -> Value {
    json!({"apiVersion": "sealwright.dev/v1alpha1", "kind": "SealedSecret", "metadata": {"name": "db"}, "spec": spec})
}

fn ring() -> Value {
    json!({
        "apiVersion": "sealwright.dev/v1alpha1", "kind": "KeyRing", "metadata": {"name": "prod"},
        "spec": {
            "members": [{"name": "prod-eu", "recipient": recipient('q')}, {"name": "recovery", "recipient": recipient('p')}],
            "keys": [key('z'), key('r')],
            "proof": format!("{}=", "A".repeat(43)),
        },
    })
}

fn key(last: char) -> Value {
    let wraps = json!({"prod-eu": "QUFB", "recovery": "QUFB"});
    json!({"recipient": recipient(last), "created": "2026-11-21T09:00:00Z", "wraps": wraps})
}

async fn api(space: &Space, kind: &str) -> Result<Api<DynamicObject>> {
    static INSTALLED: OnceCell<()> = OnceCell::const_new();
    INSTALLED.get_or_try_init(|| install::definitions(&space.client)).await?;
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("sealwright.dev", "v1alpha1", kind));
    Ok(Api::namespaced_with(space.client.clone(), &space.name, &kind))
}

/// Creates it as `kubectl create --validate=strict` does.
async fn create(space: &Space, object: Value) -> Result<Result<DynamicObject, Error>> {
    let kind = object["kind"].as_str().context("an object has a kind")?.to_owned();
    let api = api(space, &kind).await?;
    Ok(api.create(&PostParams::default(), &serde_json::from_value(object)?).await)
}

/// The first word of the API server on an object that it must refuse.
async fn refusal(space: &Space, object: Value) -> Result<String> {
    match create(space, object).await? {
        Err(Error::Api(status)) if status.code == 422 => Ok(status.message),
        Err(other) => Err(other.into()),
        Ok(_) => seal_tests::bail!("the API server took it"),
    }
}

async fn assert_refused(space: &Space, object: Value, because: &str) -> Result<()> {
    let said = refusal(space, object.clone()).await.with_context(|| format!("{object:.300}"))?;
    assert!(said.contains(because), "`{because}` is not in `{said}`");
    Ok(())
}

#[test]
fn a_whole_sealed_secret_is_taken_and_gets_a_status_that_says_unseen() {
    in_namespace(|space| async move {
        let made = create(
            &space,
            sealed(json!({
                "sealedFor": {"name": "db", "namespaces": ["shop", "shop-dev"]},
                "encryptedData": {"password": token(), "tls.key": token()},
                "template": {
                    "type": "Opaque", "immutable": false,
                    "metadata": {"labels": {"app": "db"}, "annotations": {"team": "shop"}},
                    "data": {"url": "postgres://{{ .password }}@db", "password": null},
                },
                "target": {"name": "db", "deletionPolicy": "Retain"},
            })),
        )
        .await??;
        assert_eq!(made.data["status"], json!({"observedGeneration": -1}));
        assert_eq!(made.data["spec"]["template"]["data"]["password"], Value::Null, "null omits a key, and is kept");
        serde_json::from_value::<SealedSecret>(serde_json::to_value(&made)?)?;
        Ok(())
    });
}

#[test]
fn a_spec_gets_no_defaults() {
    in_namespace(|space| async move {
        let spec = json!({"sealedFor": {}, "encryptedData": {"password": token()}, "template": {}, "target": {}});
        assert_eq!(create(&space, sealed(spec.clone())).await??.data["spec"], spec);
        Ok(())
    });
}

#[test]
fn only_absence_means_any_in_sealed_for() {
    in_namespace(|space| async move {
        for sealed_for in [
            json!({"name": null}),
            json!({"namespaces": null}),
            json!({"name": ""}),
            json!({"namespaces": []}),
            json!({"namespaces": ["shop", null]}),
        ] {
            let spec = json!({"sealedFor": sealed_for, "encryptedData": {"password": token()}});
            assert_refused(&space, sealed(spec), "spec.sealedFor").await?;
        }
        Ok(())
    });
}

#[test]
fn what_can_be_judged_statically_is_refused_with_a_reason() {
    in_namespace(|space| async move {
        let values = json!({"password": token()});
        let table = [
            (json!({}), "nothing to make a Secret of"),
            (json!({"sealedFor": {}, "encryptedData": {}}), "nothing to make a Secret of"),
            (json!({"encryptedData": values}), "sealedFor is required"),
            (json!({"sealedFor": {}, "encryptedData": {"password": null}}), "a sealed value is text"),
            (json!({"sealedFor": {}, "encryptedData": {"password": "hunter2"}}), "spec.encryptedData"),
            (json!({"sealedFor": {}, "encryptedData": {"pass word": token()}}), "a key of a Secret has"),
            (json!({"sealedFor": {"namespaces": ["a", "a"]}, "encryptedData": values}), "named twice"),
            (
                json!({"sealedFor": {"name": "db"}, "encryptedData": values, "target": {"name": "other"}}),
                "target.name must equal sealedFor.name",
            ),
            (
                json!({"sealedFor": {}, "encryptedData": values, "vault": {
                    "storeRef": {"name": "main"}, "data": [{"key": "password", "mount": "kv", "path": "p", "field": "f"}],
                }}),
                "both in encryptedData and in vault.data",
            ),
        ];
        for (spec, because) in table {
            assert_refused(&space, sealed(spec), because).await?;
        }
        Ok(())
    });
}

#[test]
fn types_labels_and_annotations_that_would_give_power_are_refused() {
    in_namespace(|space| async move {
        let with = |template: Value| {
            sealed(json!({"sealedFor": {}, "encryptedData": {"password": token()}, "template": template}))
        };
        for kind in ["sealwright.dev/identity", "kubernetes.io/service-account-token", "bootstrap.kubernetes.io/token"]
        {
            assert_refused(&space, with(json!({"type": kind})), "a credential of the cluster").await?;
        }
        for key in [
            "sealwright.dev/owner",
            "sealedsecrets.bitnami.com/sealed-secrets-key",
            "argocd.argoproj.io/instance",
            "kustomize.toolkit.fluxcd.io/name",
            "helm.toolkit.fluxcd.io/name",
            "meta.helm.sh/release-name",
        ] {
            for part in ["labels", "annotations"] {
                assert_refused(&space, with(json!({"metadata": {part: {key: "x"}}})), &format!("metadata.{part}"))
                    .await?;
            }
        }
        let helm = json!({"metadata": {"labels": {"app.kubernetes.io/managed-by": "Helm"}}});
        assert_refused(&space, with(helm), "tracking keys").await
    });
}

#[test]
fn a_whole_ring_is_taken() {
    in_namespace(|space| async move {
        let made = create(&space, ring()).await??;
        serde_json::from_value::<KeyRing>(serde_json::to_value(&made)?)?;
        Ok(())
    });
}

#[test]
fn a_ring_that_contradicts_itself_is_refused() {
    in_namespace(|space| async move {
        let changed = |pointer: &str, value: Value| {
            let mut ring = ring();
            *ring.pointer_mut(pointer).expect("a path of the ring above") = value;
            ring
        };
        let table = [
            (changed("/spec/keys/0/wraps", json!({"prod-eu": "QUFB"})), "wrapped for exactly the members"),
            (changed("/spec/keys/0/recipient", json!(recipient('q'))), "a member is itself a key"),
            (changed("/spec/keys/0/recipient", json!(recipient('r'))), "stands in the ring twice"),
            (changed("/spec/members/0/name", json!("recovery")), "two members have one name"),
            (changed("/spec/members/0/recipient", json!(recipient('p'))), "two members have one recipient"),
            (changed("/spec/members/0/recipient", json!("age1classic")), "spec.members[0].recipient"),
            (changed("/spec/proof", json!("")), "spec.proof"),
        ];
        for (ring, because) in table {
            assert_refused(&space, ring, because).await?;
        }
        Ok(())
    });
}

#[test]
fn keys_of_a_ring_are_append_only_and_stay_disabled() {
    in_namespace(|space| async move {
        let mut with_disabled = ring();
        with_disabled["spec"]["keys"][0]["disabled"] = true.into();
        create(&space, with_disabled.clone()).await??;
        let rings = api(&space, "KeyRing").await?;
        let replaced = |keys: Value| {
            let mut ring = with_disabled.clone();
            ring["spec"]["keys"] = keys;
            Patch::Apply(ring)
        };
        let disabled = with_disabled["spec"]["keys"][0].clone();
        let params = PatchParams::apply("tests").force();
        for (keys, because) in [
            (json!([disabled]), "append-only"),
            (json!([key('r'), disabled]), "append-only"),
            (json!([disabled, key('y')]), "append-only"),
            (json!([key('z'), key('r')]), "stays disabled"),
        ] {
            let refused = rings.patch("prod", &params, &replaced(keys)).await.expect_err("the API server took it");
            assert!(refused.to_string().contains(because), "`{because}` is not in `{refused}`");
        }
        rings.patch("prod", &params, &replaced(json!([disabled, key('r'), key('y')]))).await?;
        Ok(())
    });
}
