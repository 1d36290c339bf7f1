//! Tenants who would have the controller fetch, or send, what is not theirs: refused before anything is sent.

use std::sync::Arc;

use seal_crds::condition::SealedSecretReason::{InvalidSpec, OutputRefused};
use seal_tests::{
    Controller, Result, Space, Stage, ensure,
    fault_proxy::{Fault, FaultProxy},
    helm, in_namespace, in_own_cluster,
    install::{self, CONTROLLER},
    manifests,
};
use serde_json::{Value, json};

use crate::world::{Tenant, World, field, merged, store_at};

/// A server that answers nothing and keeps what it is sent; nobody is behind it.
async fn spy() -> Result<(FaultProxy, String)> {
    let spy = FaultProxy::start(([127, 0, 0, 1], 1).into()).await?;
    spy.set(Fault::BlackHole);
    let address = format!("http://{}", spy.address());
    Ok((spy, address))
}

/// Checks that it was asked whether it is there, and was sent nothing else.
fn only_probed(spy: &FaultProxy) -> Result<()> {
    for request in spy.seen().split_terminator("\r\n\r\n") {
        let is_probe = request.starts_with("GET /v1/sys/health?") && !request.contains("x-vault-token");
        ensure!(is_probe, "it was sent {request}");
    }
    Ok(())
}

fn user() -> Value {
    json!({"data": [field("user", "app/db", "user")]})
}

fn of_store(tenant: &Tenant) -> Value {
    merged(user(), json!({"storeRef": {"name": "main", "namespace": tenant.namespace()}}))
}

pub(crate) async fn label_namespace(tenant: &Tenant, tier: &str) -> Result<()> {
    let metadata = json!({"name": tenant.namespace(), "labels": {"tier": tier}});
    let namespace = serde_json::from_value(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}))?;
    manifests::apply(&tenant.stage.space.client, &[namespace]).await.map(drop)
}

#[test]
fn a_store_serves_other_namespaces_only_as_long_as_it_allows_them() {
    in_namespace(|space| async move {
        let world = World::set(space).await?;
        let (shop, bank) = (&world.shop, world.neighbour().await?);
        world.role(&bank, "app", json!({})).await?;
        world.store(json!({})).await?;
        bank.object("db", of_store(shop), json!({})).await?;
        let told = bank.vault_is("db", "StoreNotAllowed").await?;
        ensure!(told.contains(&format!("does not allow namespace {}", bank.namespace())), "{told}");
        bank.stage.holds_nothing("db").await?;
        assert_eq!((world.logins()?, world.reads("app/db")?), (0, 0), "something was sent");

        // By name; and no longer.
        world.store(json!({"allowedNamespaces": {"names": [bank.namespace()]}})).await?;
        bank.stage.ready("db").await?;
        bank.stage.holds("db", &[("user", "ada")]).await?;
        world.store(json!({"allowedNamespaces": {"names": []}})).await?;
        bank.vault_is("db", "StoreNotAllowed").await?;
        bank.stage.ready("db").await?;
        let (logins, reads) = (world.logins()?, world.reads("app/db")?);
        assert_eq!(bank.refresh_tells("db").await?.0, "StoreNotAllowed");
        bank.stage.holds("db", &[("user", "ada")]).await?;
        assert_eq!((world.logins()?, world.reads("app/db")?), (logins, reads), "something was sent");

        // By label; and no longer.
        world.store(json!({"allowedNamespaces": {"selector": {"matchLabels": {"tier": "gold"}}}})).await?;
        assert_eq!(bank.refresh_tells("db").await?.0, "StoreNotAllowed");
        world.bao.put("kv", "app/db", json!({"user": "grace"})).await?;
        label_namespace(&bank, "gold").await?;
        bank.stage.holds("db", &[("user", "grace")]).await?;
        bank.vault_is("db", "Synced").await?;
        label_namespace(&bank, "iron").await?;
        bank.vault_is("db", "StoreNotAllowed").await?;
        bank.stage.holds("db", &[("user", "grace")]).await
    });
}

#[test]
fn allowed_paths_are_the_tenants_own_and_every_other_is_refused_unasked() {
    in_namespace(|space| async move {
        let world = World::set(space).await?;
        let shop = &world.shop;
        let (spy, address) = spy().await?;
        let paths = json!(["kv/{namespace}/*", "kv/shared/one"]);
        shop.store("spied", merged(store_at(&address), json!({"allowedPaths": paths}))).await?;
        world.store(json!({"allowedPaths": paths})).await?;
        world.bao.put("kv", &format!("{}/db", shop.namespace()), json!({"user": "own"})).await?;
        let own = json!({"data": [field("user", &format!("{}/db", shop.namespace()), "user")]});
        shop.object("own", own, json!({})).await?;
        shop.stage.ready("own").await?;

        let others = ["app/db", "shared/one/more", "shared/two", "other/db"].map(str::to_owned);
        let names = [format!("{}x/db", shop.namespace()), shop.namespace().to_owned()];
        for (number, path) in others.into_iter().chain(names).enumerate() {
            let vault = json!({"storeRef": {"name": "spied"}, "data": [field("user", &path, "user")]});
            let name = format!("not-{number}");
            shop.object(&name, vault, json!({})).await?;
            let told = shop.vault_is(&name, "StoreNotAllowed").await?;
            ensure!(told.contains(&format!("does not allow kv/{path}")), "{told}");
        }
        // A part of the plan that is not allowed lets nothing of it pass.
        let from = json!([{"mount": "kv", "path": "shared/two"}]);
        let mixed =
            json!({"storeRef": {"name": "spied"}, "data": [field("user", "shared/one", "user")], "dataFrom": from});
        shop.object("mixed", mixed, json!({})).await?;
        shop.vault_is("mixed", "StoreNotAllowed").await?;
        only_probed(&spy)?;

        // What is no longer allowed is heard at once, and so is what is again.
        world.store(json!({"allowedPaths": ["kv/shared/one"]})).await?;
        shop.vault_is("own", "StoreNotAllowed").await?;
        shop.stage.ready("own").await?;
        shop.stage.holds("own", &[("user", "own")]).await?;
        world.store(json!({"allowedPaths": paths})).await?;
        shop.vault_is("own", "Synced").await.map(drop)
    });
}

#[test]
fn nothing_that_is_not_the_tenants_own_can_be_sent_to_an_address_of_the_tenants_choice() {
    in_namespace(|space| async move {
        let world = World::set(space).await?;
        let (shop, bank) = (&world.shop, world.neighbour().await?);
        let (spy, address) = spy().await?;
        // A Secret of the namespace that does not consent to be a credential.
        bank.apply(json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "customers"}, "stringData": {"id": "private"},
        }))
        .await?;
        let secret = json!({"name": "customers", "key": "id"});
        let audiences = ["https://kubernetes.default.svc"];
        for (name, auth, says) in [
            ("secret", json!({"token": {"secretRef": secret}}), "lacks the label"),
            ("id", json!({"appRole": {"roleId": "r", "secretIdRef": secret}}), "lacks the label"),
            ("jwt", json!({"jwt": {"role": "r", "secretRef": secret}}), "lacks the label"),
            (
                "audience",
                json!({"kubernetes": {"role": "r", "serviceAccount": "app", "audiences": audiences}}),
                "--vault-allow-api-audience",
            ),
            (
                "jwt-audience",
                json!({"jwt": {"role": "r", "serviceAccount": "app", "audiences": audiences}}),
                "--vault-allow-api-audience",
            ),
            // One of another namespace: of the tenant's own there is none of that name.
            ("reviewer", json!({"kubernetes": {"role": "r", "serviceAccount": "reviewer"}}), "does not exist"),
        ] {
            bank.store(name, merged(store_at(&address), json!({"auth": auth}))).await?;
            bank.object(name, merged(user(), json!({"storeRef": {"name": name}})), json!({})).await?;
            let told = bank.vault_is(name, "AuthFailed").await?;
            ensure!(told.contains(says), "{name}: {told}");
            bank.stage.holds_nothing(name).await?;
        }
        for account in ["test-1/app", "test-1:app", "../app"] {
            let auth = json!({"kubernetes": {"role": "r", "serviceAccount": account}});
            let refused = bank.store("other", merged(store_at(&address), json!({"auth": auth}))).await;
            ensure!(refused.is_err(), "ServiceAccount {account} is accepted");
        }
        only_probed(&spy)?;

        // The shop's role is bound to the shop's ServiceAccount: naming it does not help the bank's.
        let auth = json!({"kubernetes": {"role": format!("app-{}", shop.namespace()), "serviceAccount": "app"}});
        bank.store("main", world.spec(json!({"auth": auth}))).await?;
        bank.object("theirs", user(), json!({})).await?;
        let told = bank.vault_is("theirs", "AuthFailed").await?;
        ensure!(told.contains("HTTP 403"), "{told}");
        assert_eq!(world.reads("app/db")?, 0);
        Ok(())
    });
}

#[test]
fn paths_that_climb_are_refused_by_the_api_server() {
    in_namespace(|space| async move {
        let world = World::set(space).await?;
        for (mount, path) in CLIMBING {
            let data = json!({"data": [merged(field("a", path, "f"), json!({"mount": mount}))]});
            ensure!(world.shop.object("climb", data, json!({})).await.is_err(), "{mount} {path} is accepted");
        }
        Ok(())
    });
}

const CLIMBING: [(&str, &str); 10] = [
    ("kv", "../../sys/mounts"),
    ("kv", "app/../../../sys/seal"),
    ("kv", "%2e%2e/sys"),
    ("kv", "app/./db"),
    ("kv", "app//db"),
    ("kv", "app/db?version=1"),
    ("kv", "app/db#x"),
    ("kv", "app\\db"),
    ("sys", "mounts"),
    ("auth/token", "lookup-self"),
];

#[test]
fn a_controller_without_the_rights_for_vault_says_so_and_serves_the_rest() {
    in_own_cluster(|space| async move {
        install::everything(&space.client).await?;
        let _controller = Controller::start(&space.plane, CONTROLLER, &["--vault=false"]).await?;
        let shop = Tenant { stage: Stage::set(space).await? };
        let (spy, address) = spy().await?;
        shop.store("main", store_at(&address)).await?;
        shop.object("db", user(), json!({})).await?;
        let told = shop.vault_is("db", "StoreNotFound").await?;
        ensure!(told.contains("--vault=false"), "{told}");
        shop.stage.holds_nothing("db").await?;
        shop.stage.establish("sealed", &[("password", "x")]).await?;
        assert_eq!(spy.connections(), 0);
        Ok(())
    });
}

#[test]
fn where_the_api_server_checks_nothing_the_controller_refuses_by_itself_and_sends_nothing() {
    in_own_cluster(|space| async move {
        install::without_checks(&space.client).await?;
        let _controller = Controller::start(&space.plane, CONTROLLER, &[]).await?;
        let shop = Tenant { stage: Stage::set(space).await? };
        shop.account("app").await?;
        let (spy, address) = spy().await?;
        shop.store("main", store_at(&address)).await?;
        for (number, (mount, path)) in CLIMBING.into_iter().enumerate() {
            let name = format!("climb-{number}");
            let data = json!({"data": [merged(field("a", path, "f"), json!({"mount": mount}))]});
            shop.object(&name, data, json!({})).await?;
            shop.stage.reason(&name, InvalidSpec).await?;
            shop.stage.holds_nothing(&name).await?;
        }
        let owner = json!({"sealwright.dev/owner": "SealedSecret/other"});
        for (name, template) in [
            ("identity", json!({"type": "sealwright.dev/identity"})),
            ("token", json!({"type": "kubernetes.io/service-account-token"})),
            ("owner", json!({"metadata": {"annotations": owner}})),
            ("label", json!({"metadata": {"labels": {"sealwright.dev/vault-auth": "true"}}})),
        ] {
            shop.object(name, user(), json!({"template": template})).await?;
            shop.stage.reason(name, OutputRefused).await?;
            shop.stage.holds_nothing(name).await?;
        }
        only_probed(&spy)
    });
}

#[test]
fn where_some_namespaces_are_served_their_roles_suffice_for_vault() {
    in_own_cluster(|space| async move {
        let other = Space::make(space.plane.clone()).await?;
        install::chart(&space.client, &helm::for_namespaces(&[&space.name, &other.name])?).await?;
        let controller = Controller::start(&space.plane, CONTROLLER, &[]).await?;
        let world = World::around(Stage::set(space).await?, Arc::new(controller)).await?;
        let bank = Tenant { stage: Stage::set(other).await? };
        bank.account("app").await?;
        world.role(&bank, "app", json!({})).await?;

        // By a label that nothing but a Role in the namespace itself lets it see.
        label_namespace(&bank, "gold").await?;
        world.store(json!({"allowedNamespaces": {"selector": {"matchLabels": {"tier": "gold"}}}})).await?;
        bank.object("db", of_store(&world.shop), json!({})).await?;
        bank.stage.ready("db").await?;
        bank.stage.holds("db", &[("user", "ada")]).await?;

        let (spy, address) = spy().await?;
        let audiences = ["https://kubernetes.default.svc"];
        let auth = json!({"kubernetes": {"role": "r", "serviceAccount": "app", "audiences": audiences}});
        bank.store("spied", merged(store_at(&address), json!({"auth": auth}))).await?;
        bank.object("spied", merged(user(), json!({"storeRef": {"name": "spied"}})), json!({})).await?;
        let told = bank.vault_is("spied", "AuthFailed").await?;
        ensure!(told.contains("--vault-allow-api-audience"), "{told}");
        only_probed(&spy)
    });
}
