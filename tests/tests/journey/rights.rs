//! What people may do with ordinary rights, and what they may not.

use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{Api, DynamicObject, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, ResourceExt};
use seal_crds::SealedSecret;
use seal_tests::control_plane::client_of;
use seal_tests::helm::Helm;
use seal_tests::install::{CONTROLLER, NAMESPACE};
use seal_tests::{Laptop, Result, Space, Stage, in_namespace, manifests, pods, wait};
use serde_json::json;

/// A kubeconfig of a person who has this ClusterRole in the namespace, or none.
async fn person(space: &Space, name: &str, role: Option<&str>) -> Result<std::path::PathBuf> {
    let accounts: Api<ServiceAccount> = Api::namespaced(space.client.clone(), &space.name);
    let account = serde_json::from_value(json!({"metadata": {"name": name}}))?;
    accounts.create(&PostParams::default(), &account).await?;
    if let Some(role) = role {
        let bindings: Api<RoleBinding> = Api::namespaced(space.client.clone(), &space.name);
        let binding = serde_json::from_value(json!({
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": space.name}],
        }))?;
        bindings.create(&PostParams::default(), &binding).await?;
    }
    space.plane.kubeconfig_of(&space.name, name).await
}

fn is_forbidden<T>(result: &kube::Result<T>) -> bool {
    matches!(result, Err(kube::Error::Api(status)) if status.code == 403)
}

fn stores(client: Client, space: &Space) -> Api<DynamicObject> {
    let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("sealwright.dev", "v1alpha1", "VaultStore"));
    Api::namespaced_with(client, &space.name, &kind)
}

fn a_store() -> Result<DynamicObject> {
    let text = include_str!("../../../crds/tests/cases/accepted/vaultstore-smallest.yaml");
    Ok(manifests::parse(text)?.remove(0))
}

#[test]
fn whom_an_operator_names_can_pin_the_ring_and_verify_and_sees_no_secret() {
    in_namespace(|space| async move {
        let (stage, controller) = Stage::shared(space).await?;
        let space = &stage.space;
        pods::back(space, NAMESPACE, CONTROLLER, 8080, &[controller.address()]).await?;
        let (named, other) = (person(space, "named", None).await?, person(space, "other", None).await?);
        let subject = format!(
            "rbac.proxier.subjects=[{{\"kind\":\"ServiceAccount\",\"name\":\"named\",\"namespace\":\"{}\"}}]",
            space.name
        );
        let mut given = Helm::find()?.template(&["--set-json", &subject])?;
        given.retain(|object| object.name_any() == "sealwright-user");
        assert_eq!(given.len(), 2, "a Role and its binding");
        manifests::apply(&space.client, &given).await?;

        let pin = ["init", "--from-cluster", "--ring", &stage.ring, "--yes"];
        let laptop = Laptop::new(named.clone())?;
        // What was applied counts a moment later.
        wait::until("they may pin the ring", || async { laptop.seal(&pin).map(|_| Some(())) }).await?;
        let manifest = seal_tests::laptop::secret_manifest(&space.name, "db", &[("password", "1")])?;
        laptop.seal_with(&["-w", "db.yaml"], manifest.clone())?;
        laptop.seal(&["verify", "db.yaml"])?;
        let client = client_of(&named).await?;
        for namespace in [NAMESPACE, &space.name] {
            let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
            assert!(is_forbidden(&secrets.list(&Default::default()).await), "{namespace}");
            let sealed: Api<SealedSecret> = Api::namespaced(client.clone(), namespace);
            assert!(is_forbidden(&sealed.list(&Default::default()).await), "{namespace}");
        }

        // Everybody else who can log in seals to the pinned ring, and asks the cluster nothing.
        stage.laptop.seal_with(&["-w", "other.yaml"], manifest)?;
        let laptop = Laptop::new(other)?;
        for refused in [&pin[..], &["verify", &stage.laptop.path("other.yaml").to_string_lossy()]] {
            let refused = format!("{:#}", laptop.seal(refused).expect_err("nobody named them"));
            assert!(refused.contains("hint: you need the right"), "{refused}");
        }
        Ok(())
    });
}

#[test]
fn edit_may_make_sealed_secrets_and_admin_alone_may_make_vault_stores() {
    in_namespace(|space| async move {
        let (stage, _) = Stage::shared(space).await?;
        let space = &stage.space;
        stage.seal("db", &[("password", "1")])?;
        let object = manifests::read(&stage.laptop.path("db.yaml"))?.remove(0);
        let (view, edit) = (person(space, "viewer", Some("view")).await?, person(space, "editor", Some("edit")).await?);
        let admin = person(space, "boss", Some("admin")).await?;
        let as_whom = async |kubeconfig: &std::path::Path| client_of(kubeconfig).await;
        // kube-controller-manager aggregates the roles a moment after they are applied.
        wait::until("`edit` may make SealedSecrets", || async {
            manifests::apply(&as_whom(&edit).await?, std::slice::from_ref(&object)).await.map(|_| Some(()))
        })
        .await?;
        stage.ready("db").await?;
        assert!(is_forbidden(&stores(as_whom(&edit).await?, space).create(&PostParams::default(), &a_store()?).await));
        stores(as_whom(&admin).await?, space).create(&PostParams::default(), &a_store()?).await?;
        let sealed: Api<SealedSecret> = Api::namespaced(as_whom(&view).await?, &space.name);
        sealed.get("db").await?;
        assert!(is_forbidden(&sealed.delete("db", &Default::default()).await));
        Ok(())
    });
}

#[test]
fn nobody_but_an_operator_may_write_rings_where_they_count() {
    in_namespace(|space| async move {
        let (stage, _) = Stage::shared(space).await?;
        let admin = client_of(&person(&stage.space, "boss", Some("admin")).await?).await?;
        let ring = manifests::read(&stage.laptop.path(&stage.ring_file()))?;
        let refused = manifests::apply(&admin, &ring).await.expect_err("only an operator may");
        assert!(format!("{refused:#}").contains("forbidden"), "{refused:#}");
        Ok(())
    });
}
