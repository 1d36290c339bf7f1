//! Who logs in, how often, and what becomes of the token.

use std::time::{Duration, Instant};

use rustix::process::Signal;
use seal_crds::condition::SealedSecretReason::NeverSynced;
use seal_tests::{Context, Result, ensure, in_namespace, in_own_cluster, wait};
use serde_json::{Value, json};

use crate::world::{Tenant, World, field, merged};

/// A login as this ServiceAccount, with this role.
fn kubernetes(role: &str, account: &str, audience: &str) -> Value {
    json!({"auth": {"kubernetes": {"role": role, "serviceAccount": account, "audiences": [audience]}}})
}

/// An object over the shop's store of the same name.
async fn over_its_own_store(shop: &Tenant, name: &str) -> Result<()> {
    let data = json!([field("user", "app/db", "user")]);
    shop.object(name, json!({"storeRef": {"name": name}, "data": data}), json!({})).await
}

#[test]
fn only_the_account_that_the_role_names_logs_in_and_what_is_mended_is_found_without_help() {
    in_namespace(|space| async move {
        let world = World::set(space).await?;
        let shop = &world.shop;
        shop.account("other").await?;
        let bank = json!({"bound_service_account_namespaces": ["bank"]});
        world.role(shop, "bank", merged(json!({"bound_service_account_names": ["app"]}), bank)).await?;
        for (name, login) in [
            ("right", kubernetes("app-{namespace}", "app", "vault")),
            ("account", kubernetes("app-{namespace}", "other", "vault")),
            ("namespace", kubernetes("bank-{namespace}", "app", "vault")),
            ("audience", kubernetes("app-{namespace}", "app", "elsewhere")),
            ("role", kubernetes("late-{namespace}", "app", "vault")),
            ("absent", kubernetes("app-{namespace}", "nobody", "vault")),
        ] {
            shop.store(name, world.spec(login)).await?;
            over_its_own_store(shop, name).await?;
        }
        shop.stage.ready("right").await?;
        shop.stage.holds("right", &[("user", "ada")]).await?;
        for (name, says) in [
            ("account", "HTTP 403"),
            ("namespace", "HTTP 403"),
            ("audience", "audience"),
            ("role", "HTTP 400: there is no such role"),
            ("absent", "does not exist"),
        ] {
            let told = shop.vault_is(name, "AuthFailed").await?;
            ensure!(told.contains(says), "{name}: {told}");
            shop.stage.reason(name, NeverSynced).await?;
            shop.stage.holds_nothing(name).await?;
            // Nobody was sent there for an account that does not exist, and the server is there.
            let store = if name == "absent" { "Reachable" } else { "AuthFailed" };
            shop.store_is(name, store).await?;
        }

        // Both take their time: refused logins are repeated after half a minute, and who exists is remembered so long.
        world.role(shop, "late", json!({"bound_service_account_names": ["app"]})).await?;
        shop.accounts().delete("app", &Default::default()).await?;
        let kept = shop.secret("right").await?;
        wait::until("the deleted ServiceAccount logs in no more", || async {
            let (reason, told) = shop.refresh_tells("right").await?;
            Ok((reason == "AuthFailed" && told.contains("does not exist")).then_some(()))
        })
        .await?;
        ensure!(shop.secret("right").await? == kept, "the Secret was touched");
        let before = world.logins()?;
        shop.account("app").await?;
        assert_eq!(shop.refresh_tells("right").await?.0, "Synced");
        ensure!(world.logins()? > before, "another account of that name is another identity");
        shop.vault_is("role", "Synced").await?;
        shop.stage.holds("role", &[("user", "ada")]).await
    });
}

#[test]
fn tokens_of_the_cluster_are_known_by_their_signature_alone() {
    in_namespace(|space| async move {
        let world = World::set(space).await?;
        let (shop, bao) = (&world.shop, &world.bao);
        let key = std::fs::read_to_string(shop.stage.space.plane.guard().scratch().join("certificates/sa.pub"))?;
        bao.ask("POST", "sys/auth/jwt", json!({"type": "jwt"})).await?;
        bao.ask("POST", "auth/jwt/config", json!({"jwt_validation_pubkeys": [key]})).await?;
        let subject = format!("system:serviceaccount:{}:app", shop.namespace());
        let role = json!({
            "role_type": "jwt", "user_claim": "sub", "bound_subject": subject, "bound_audiences": ["vault"],
            "token_policies": ["read"],
        });
        bao.ask("POST", &format!("auth/jwt/role/app-{}", shop.namespace()), role).await?;

        let by_account = json!({"jwt": {"role": "app-{namespace}", "serviceAccount": "app"}});
        let by_secret = json!({"jwt": {"role": "app-{namespace}", "secretRef": {"name": "jwt", "key": "id"}}});
        for (name, auth) in [("account", by_account), ("secret", by_secret)] {
            shop.store(name, world.spec(json!({"auth": auth}))).await?;
            over_its_own_store(shop, name).await?;
        }
        shop.stage.ready("account").await?;
        ensure!(shop.vault_is("secret", "AuthFailed").await?.contains("does not exist"));
        // That the credential is there wakes whoever waits for it.
        shop.credential("jwt", &shop.token_of("app", Some("vault")).await?).await?;
        shop.stage.ready("secret").await?;
        assert_eq!((bao.count("update auth/jwt/login")?, world.logins()?), (2, 0));

        shop.credential("jwt", &shop.token_of("reviewer", Some("vault")).await?).await?;
        let (reason, told) = shop.refresh_tells("secret").await?;
        ensure!(reason == "AuthFailed" && told.contains("auth/jwt"), "{reason}: {told}");
        shop.stage.holds("secret", &[("user", "ada")]).await
    });
}

#[test]
fn a_credential_that_comes_or_is_labelled_late_is_noticed() {
    in_namespace(|space| async move {
        let world = World::set(space).await?;
        let shop = &world.shop;
        let made = world.bao.ask("POST", "auth/token/create", json!({"policies": ["read"]})).await?;
        world.store(json!({"auth": {"token": {"secretRef": {"name": "token", "key": "id"}}}})).await?;
        shop.wants("db", &[field("user", "app/db", "user")]).await?;
        ensure!(shop.vault_is("db", "AuthFailed").await?.contains("does not exist"));
        let token = json!({"id": made["auth"]["client_token"]});
        let metadata = json!({"name": "token"});
        shop.apply(json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": token})).await?;
        ensure!(shop.refresh_tells("db").await?.1.contains("lacks the label"));
        shop.stage.meddle("token", json!({"metadata": {"labels": {"sealwright.dev/vault-auth": "true"}}})).await?;
        shop.stage.ready("db").await?;
        shop.stage.holds("db", &[("user", "ada")]).await
    });
}

#[test]
fn an_app_role_goes_on_with_the_secret_id_that_its_secret_holds() {
    in_namespace(|space| async move {
        let world = World::set(space).await?;
        let (shop, bao) = (&world.shop, &world.bao);
        bao.ask("POST", "sys/auth/approle", json!({"type": "approle"})).await?;
        let once = json!({"token_policies": ["read"], "secret_id_num_uses": 1});
        bao.ask("POST", "auth/approle/role/app", once).await?;
        let role = bao.ask("GET", "auth/approle/role/app/role-id", Value::Null).await?;
        let secret_id = async || {
            let made = bao.ask("POST", "auth/approle/role/app/secret-id", json!({})).await?;
            made["data"]["secret_id"].as_str().map(str::to_owned).context("a secret id is text")
        };
        shop.credential("approle", &secret_id().await?).await?;
        let secret = json!({"name": "approle", "key": "id"});
        let login = json!({"appRole": {"roleId": role["data"]["role_id"], "secretIdRef": secret}});
        world.store(json!({"auth": login})).await?;
        shop.wants("db", &[field("user", "app/db", "user")]).await?;
        shop.stage.ready("db").await?;
        assert_eq!(shop.refresh_tells("db").await?.0, "Synced");
        assert_eq!(bao.count("update auth/approle/login")?, 1, "what may be used once is used once");

        bao.ask("POST", "sys/leases/revoke-prefix/auth/approle/login", json!({})).await?;
        wait::until("the used secret id is refused", || async {
            Ok((shop.refresh_tells("db").await?.0 == "AuthFailed").then_some(()))
        })
        .await?;
        shop.stage.holds("db", &[("user", "ada")]).await?;
        bao.put("kv", "app/db", json!({"user": "grace"})).await?;
        shop.credential("approle", &secret_id().await?).await?;
        shop.stage.holds("db", &[("user", "grace")]).await?;
        shop.vault_is("db", "Synced").await.map(drop)
    });
}

#[test]
fn two_namespaces_at_one_store_have_a_login_each_and_never_the_others_token() {
    in_namespace(|space| async move {
        let world = World::set(space).await?;
        let (shop, bank) = (&world.shop, world.neighbour().await?);
        for tenant in [shop, &bank] {
            let namespace = tenant.namespace();
            let rule = format!("path \"kv/data/{namespace}/*\" {{ capabilities = [\"read\"] }}");
            world.bao.policy(&format!("own-{namespace}"), &rule).await?;
            world.role(tenant, "app", json!({"token_policies": [format!("own-{namespace}")]})).await?;
            world.bao.put("kv", &format!("{namespace}/db"), json!({"owner": namespace})).await?;
        }
        world.store(json!({"allowedNamespaces": {"names": [bank.namespace()]}})).await?;
        let store = json!({"name": "main", "namespace": shop.namespace()});
        for tenant in [shop, &bank] {
            for whose in [shop, &bank] {
                let data = json!([field("owner", &format!("{}/db", whose.namespace()), "owner")]);
                tenant.object(whose.namespace(), json!({"storeRef": store, "data": data}), json!({})).await?;
            }
        }
        for (tenant, other) in [(shop, &bank), (&bank, shop)] {
            tenant.stage.ready(tenant.namespace()).await?;
            tenant.stage.holds(tenant.namespace(), &[("owner", tenant.namespace())]).await?;
            let told = tenant.vault_is(other.namespace(), "PermissionDenied").await?;
            ensure!(told.contains(&format!("kv/{}/db: HTTP 403", other.namespace())), "{told}");
            tenant.stage.holds_nothing(other.namespace()).await?;
        }
        assert_eq!(world.logins()?, 2, "and a path that is denied brings no further one");
        Ok(())
    });
}

#[test]
fn five_hundred_objects_with_one_account_are_one_login() {
    in_namespace(|space| async move {
        const OBJECTS: usize = 500;
        let world = World::set(space).await?;
        let shop = &world.shop;
        world.store(json!({"limits": {"requestsPerSecond": 1000, "maxInFlight": 64}})).await?;
        let names = shop.many("main", "1h", OBJECTS).await?;
        shop.all_ready(&names).await?;
        assert_eq!(world.logins()?, 1);
        ensure!(world.reads("app/db")? <= OBJECTS, "somebody read twice");
        Ok(())
    });
}

#[test]
fn a_token_that_ends_is_renewed_or_replaced_before_anybody_notices() {
    in_namespace(|space| async move {
        let world = World::set(space).await?;
        let shop = &world.shop;
        world.role(shop, "app", json!({"token_ttl": "3s", "token_max_ttl": "7s"})).await?;
        world.store(json!({})).await?;
        shop.wants("db", &[field("user", "app/db", "user")]).await?;
        shop.stage.ready("db").await?;
        let (start, revoked) = (Instant::now(), world.revoked()?);
        while start.elapsed() < Duration::from_secs(9) {
            let (reason, told) = shop.refresh_tells("db").await?;
            assert_eq!(reason, "Synced", "{told}");
        }
        let (logins, renewals) = (world.logins()?, world.bao.count("auth/token/renew-self")?);
        ensure!(logins >= 2 && renewals >= 1, "{logins} logins, {renewals} renewals");
        assert_eq!(world.bao.count("auth/token/lookup-self")?, 0, "no request was denied");
        wait::until("the replaced token is revoked", || async { Ok((world.revoked()? > revoked).then_some(())) }).await
    });
}

#[test]
fn a_controller_that_ends_leaves_no_token_behind() {
    in_own_cluster(|space| async move {
        let world = World::set_own(space).await?;
        world.store(json!({})).await?;
        world.shop.wants("db", &[field("user", "app/db", "user")]).await?;
        world.shop.stage.ready("db").await?;
        let before = world.revoked()?;
        world.controller.process().signal(Signal::TERM)?;
        ensure!(world.controller.process().wait()?.success(), "it did not end well");
        assert_eq!((world.logins()?, world.revoked()?), (1, before + 1));
        Ok(())
    });
}

#[test]
fn a_token_that_is_revoked_is_replaced_at_once() {
    in_namespace(|space| async move {
        let world = World::with_db(space).await?;
        let shop = &world.shop;
        world.bao.ask("POST", "sys/leases/revoke-prefix/auth/kubernetes/login", json!({})).await?;
        wait::until("the revoked token is replaced", || async {
            let (reason, told) = shop.refresh_tells("db").await?;
            assert_eq!(reason, "Synced", "{told}");
            Ok((world.logins()? == 2).then_some(()))
        })
        .await
    });
}

#[test]
fn a_policy_that_is_withdrawn_denies_and_given_back_heals_with_the_same_token() {
    in_namespace(|space| async move {
        let world = World::set(space).await?;
        let shop = &world.shop;
        world.store(json!({})).await?;
        shop.wants("db", &[field("user", "app/db", "user")]).await?;
        shop.wants("other", &[field("user", "app/other", "user")]).await?;
        world.bao.put("kv", "app/other", json!({"user": "eve"})).await?;
        shop.stage.ready("db").await?;
        shop.vault_is("other", "Synced").await?;
        world.bao.policy("read", "path \"kv/data/app/other\" { capabilities = [\"read\"] }").await?;
        for _ in 0..3 {
            let (reason, told) = shop.refresh_tells("db").await?;
            ensure!(reason == "PermissionDenied" && told.starts_with("kv/app/db: HTTP 403"), "{reason}: {told}");
            assert_eq!(shop.refresh_tells("other").await?.0, "Synced", "one denied path takes nobody's token");
        }
        shop.stage.ready("db").await?;
        shop.stage.holds("db", &[("user", "ada")]).await?;
        shop.store_is("main", "Reachable").await?;
        world.bao.policy("read", "path \"kv/*\" { capabilities = [\"read\"] }").await?;
        assert_eq!(shop.refresh_tells("db").await?.0, "Synced");
        assert_eq!(world.logins()?, 1);
        Ok(())
    });
}
