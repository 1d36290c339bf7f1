//! What is read, and what becomes of it: fields, versions, whole secrets, both engines, and how many requests it takes.

use base64::{Engine, prelude::BASE64_STANDARD};
use seal_crds::condition::SealedSecretReason::{InvalidSpec, NeverSynced, TooLarge};
use seal_tests::{Context, Result, ensure, in_namespace, wait};
use serde_json::{Value, json};

use crate::world::{World, field, merged};

#[test]
fn every_kind_of_field_becomes_the_text_or_the_bytes_that_it_is() {
    in_namespace(|space| async move {
        let world = World::set(space).await?;
        let shop = &world.shop;
        let binary = [0, 159, 146, 150, 255];
        let secret = json!({
            "text": "ada", "empty": "", "number": 42, "yes": true, "list": ["a", {"b/c": "deep"}],
            "binary": BASE64_STANDARD.encode(binary), "/slash": "literal",
        });
        world.bao.put("kv", "kinds", secret).await?;
        // Its engine of version 2 stores numbers as floats by itself.
        world.bao.mount_kv("old", 1).await?;
        world.bao.policy("read", "path \"*\" { capabilities = [\"read\"] }").await?;
        world.bao.ask("POST", "old/kinds", json!({"big": 12_345_678_901_234_567_890_u64})).await?;
        world.store(json!({})).await?;
        shop.wants(
            "kinds",
            &[
                field("text", "kinds", "text"),
                field("empty", "kinds", "empty"),
                field("number", "kinds", "number"),
                field("yes", "kinds", "yes"),
                field("list", "kinds", "list"),
                field("deep", "kinds", "/list/1/b~1c"),
                field("slash", "kinds", "/~1slash"),
                merged(field("binary", "kinds", "binary"), json!({"decode": "Base64"})),
                merged(field("big", "kinds", "big"), json!({"mount": "old", "kv": 1})),
            ],
        )
        .await?;
        shop.stage.ready("kinds").await?;
        let secret = shop.secret("kinds").await?.context("there is a Secret")?;
        let mut data = secret.data.unwrap_or_default();
        ensure!(data.remove("binary").context("the bytes are there")?.0 == binary);
        let texts: Vec<_> = data.iter().map(|(key, value)| (key.as_str(), String::from_utf8_lossy(&value.0))).collect();
        assert_eq!(
            texts,
            [
                ("big", "12345678901234567890".into()),
                ("deep", "deep".into()),
                ("empty", "".into()),
                ("list", r#"["a",{"b/c":"deep"}]"#.into()),
                ("number", "42".into()),
                ("slash", "literal".into()),
                ("text", "ada".into()),
                ("yes", "true".into()),
            ]
        );
        Ok(())
    });
}

#[test]
fn one_field_that_gives_no_value_leaves_the_whole_secret_as_it_is() {
    in_namespace(|space| async move {
        let world = World::set(space).await?;
        let shop = &world.shop;
        world.store(json!({})).await?;
        let binary = merged(field("key", "app/key", "pem"), json!({"decode": "Base64"}));
        world.bao.put("kv", "app/key", json!({"pem": "AP8="})).await?;
        shop.wants("db", &[field("user", "app/db", "user"), binary]).await?;
        shop.stage.ready("db").await?;
        let good = shop.secret("db").await?;

        world.bao.put("kv", "app/db", json!({"user": "somebody else"})).await?;
        for (broken, says) in [
            (json!({"pem": null}), "field `pem` of kv/app/key is null"),
            (json!({"other": "x"}), "kv/app/key has no field `pem`"),
            (json!({"pem": "**"}), "field `pem` of kv/app/key is not base64"),
        ] {
            world.bao.put("kv", "app/key", broken).await?;
            assert_eq!(shop.refresh_tells("db").await?, ("FieldNotFound".to_owned(), says.to_owned()));
            shop.stage.ready("db").await?;
            ensure!(shop.secret("db").await? == good, "the Secret was touched: {says}");
        }

        world.bao.put("kv", "app/key", json!({"pem": "AQ=="})).await?;
        assert_eq!(shop.refresh_tells("db").await?.0, "Synced");
        shop.stage.holds("db", &[("user", "somebody else"), ("key", "\u{1}")]).await
    });
}

#[test]
fn whole_secrets_come_by_pattern_and_prefix_and_a_named_key_wins() {
    in_namespace(|space| async move {
        let world = World::set(space).await?;
        let shop = &world.shop;
        world.store(json!({})).await?;
        let env = json!({"APP_HOST": "one", "APP_PORT": "1", "NOT_MINE": "x", "no key!": "x", "APP_NONE": null});
        world.bao.put("kv", "env/base", env).await?;
        world.bao.put("kv", "env/over", json!({"HOST": "two"})).await?;
        let from = |more: Value| merged(json!({"mount": "kv", "path": "env/base"}), more);
        let over = json!({"mount": "kv", "path": "env/over", "prefix": "APP_"});
        let named = json!([field("APP_PORT", "app/db", "user")]);
        let vault = |first: Value| json!({"dataFrom": [first, over], "data": named});

        shop.object("env", vault(from(json!({}))), json!({})).await?;
        let told = shop.vault_is("env", "FieldNotFound").await?;
        ensure!(told.contains("a field of kv/env/base cannot be a key") && !told.contains("no key!"), "{told}");
        shop.stage.holds_nothing("env").await?;

        shop.object("env", vault(from(json!({"include": ["^APP_"]}))), json!({})).await?;
        shop.stage.ready("env").await?;
        shop.stage.holds("env", &[("APP_HOST", "two"), ("APP_PORT", "ada")]).await
    });
}

#[test]
fn pinned_deleted_restored_and_destroyed_versions_are_told_apart_and_never_wipe_the_secret() {
    in_namespace(|space| async move {
        let world = World::set(space).await?;
        let (shop, bao) = (&world.shop, &world.bao);
        world.store(json!({})).await?;
        shop.wants("latest", &[field("user", "app/db", "user")]).await?;
        let pinned = merged(field("user", "app/db", "user"), json!({"version": 1}));
        shop.wants("pinned", &[pinned]).await?;
        shop.stage.ready("latest").await?;
        shop.stage.ready("pinned").await?;

        bao.put("kv", "app/db", json!({"user": "grace"})).await?;
        assert_eq!(shop.refresh_tells("latest").await?.0, "Synced");
        shop.stage.holds("latest", &[("user", "grace")]).await?;
        let kept = shop.secret("latest").await?;
        let stays = async |reason: &str, says: &str| {
            let told = shop.refresh_tells("latest").await?;
            ensure!(told.0 == reason && told.1.starts_with(says), "{told:?}");
            ensure!(shop.secret("latest").await? == kept, "the Secret was touched: {says}");
            shop.stage.ready("latest").await.map(drop)
        };

        bao.ask("DELETE", "kv/data/app/db", Value::Null).await?;
        stays("VersionDeleted", "kv/app/db: HTTP 404, version 2 is deleted").await?;
        bao.ask("POST", "kv/undelete/app/db", json!({"versions": [2]})).await?;
        stays("Synced", "").await?;
        bao.ask("PUT", "kv/destroy/app/db", json!({"versions": [2]})).await?;
        stays("VersionDeleted", "kv/app/db: HTTP 404, version 2 is destroyed").await?;
        assert_eq!(shop.refresh_tells("pinned").await?.0, "Synced");
        shop.stage.holds("pinned", &[("user", "ada")]).await?;
        bao.ask("DELETE", "kv/metadata/app/db", Value::Null).await?;
        stays("PathNotFound", "kv/app/db: HTTP 404").await?;

        bao.ask("POST", "kv/metadata/app/db", json!({"delete_version_after": "1s"})).await?;
        bao.put("kv", "app/db", json!({"user": "gone in a second"})).await?;
        wait::until("the version ends by itself", || async {
            let answer = bao.raw("GET", "kv/data/app/db", Some(&bao.root_token()), None, None).await?;
            Ok((answer.status == 404).then_some(()))
        })
        .await?;
        stays("VersionDeleted", "kv/app/db: HTTP 404").await
    });
}

#[test]
fn a_path_that_is_gone_takes_its_own_key_with_it_only_where_that_is_wanted() {
    in_namespace(|space| async move {
        let world = World::set(space).await?;
        let (shop, bao) = (&world.shop, &world.bao);
        bao.mount_kv("old", 1).await?;
        bao.policy("read", "path \"*\" { capabilities = [\"read\"] }").await?;
        bao.ask("POST", "old/app", json!({"token": "t1"})).await?;
        world.store(json!({})).await?;
        let token = merged(field("token", "app", "token"), json!({"mount": "old", "kv": 1}));
        let data = json!([field("user", "app/db", "user"), token]);
        shop.object("keeps", json!({"data": data}), json!({})).await?;
        shop.object("removes", json!({"data": data, "onMissing": "RemoveKey"}), json!({})).await?;
        for name in ["keeps", "removes"] {
            shop.stage.ready(name).await?;
            shop.stage.holds(name, &[("user", "ada"), ("token", "t1")]).await?;
        }

        bao.ask("POST", "old/app", json!({"token": "t2"})).await?;
        assert_eq!(shop.refresh_tells("keeps").await?.0, "Synced");
        shop.stage.holds("keeps", &[("user", "ada"), ("token", "t2")]).await?;

        bao.ask("DELETE", "old/app", Value::Null).await?;
        assert_eq!(
            shop.refresh_tells("keeps").await?,
            ("PathNotFound".into(), "old/app: HTTP 404: there is nothing at this path".into(),)
        );
        shop.stage.holds("keeps", &[("user", "ada"), ("token", "t2")]).await?;
        assert_eq!(shop.refresh_tells("removes").await?.0, "Synced");
        shop.stage.holds("removes", &[("user", "ada")]).await
    });
}

#[test]
fn many_keys_of_two_paths_are_two_requests_a_refresh_and_one_login() {
    in_namespace(|space| async move {
        let world = World::set(space).await?;
        let shop = &world.shop;
        world.store(json!({})).await?;
        world.bao.put("kv", "app/env", json!({"A": "1", "B": "2"})).await?;
        let keys = ["one", "two", "three", "four", "five"].map(|key| field(key, "app/db", "user"));
        let from = json!([{"mount": "kv", "path": "app/env"}, {"mount": "kv", "path": "app/db", "prefix": "DB_"}]);
        shop.object("db", json!({"data": keys, "dataFrom": from}), json!({})).await?;
        shop.stage.ready("db").await?;
        for _ in 0..3 {
            assert_eq!(shop.refresh_tells("db").await?.0, "Synced");
        }
        assert_eq!((world.reads("app/db")?, world.reads("app/env")?, world.logins()?), (4, 4, 1));
        let requests = world.bao.requests()?;
        let ours = requests.iter().skip_while(|request| !request.contains("auth/kubernetes/login"));
        assert_eq!(ours.count(), 9, "one login, four times two reads, and nothing else: {requests:?}");
        Ok(())
    });
}

#[test]
fn sealed_and_fetched_values_become_one_secret_or_none() {
    in_namespace(|space| async move {
        let world = World::set(space).await?;
        let shop = &world.shop;
        let file = shop.stage.seal("db", &[("password", "sealed")])?;
        let vault = json!({"storeRef": {"name": "main"}, "data": [field("user", "app/db", "user")]});
        let url = json!({"data": {"url": "postgres://{{ .user }}:{{ .password }}@db", "user": null}});
        shop.stage
            .tamper(&file, |file| {
                (file["spec"]["vault"], file["spec"]["template"]) = (vault, url);
                Ok(())
            })
            .await?;
        shop.stage.reason("db", NeverSynced).await?;
        shop.stage.holds_nothing("db").await?;
        world.store(json!({})).await?;
        shop.stage.ready("db").await?;
        shop.stage.holds("db", &[("password", "sealed"), ("url", "postgres://ada:sealed@db")]).await?;

        let twice = |file: &mut Value| {
            file["spec"]["vault"]["data"][0]["key"] = "password".into();
            Ok(())
        };
        let refused: Result<()> = shop.stage.tamper(&file, twice).await;
        ensure!(refused.is_err(), "one key out of two places is accepted");
        // What a whole secret brings is known only when it is there.
        let all = json!({"storeRef": {"name": "main"}, "dataFrom": [{"mount": "kv", "path": "app/db"}]});
        let clashing = |file: &mut Value| {
            file["spec"]["vault"] = all;
            Ok(())
        };
        shop.stage.tamper(&file, clashing).await?;
        shop.stage.reason("db", InvalidSpec).await?;
        shop.stage.holds("db", &[("password", "sealed"), ("url", "postgres://ada:sealed@db")]).await
    });
}

#[test]
fn more_than_a_secret_can_hold_is_said_and_what_was_there_stays() {
    in_namespace(|space| async move {
        let world = World::set(space).await?;
        let shop = &world.shop;
        world.store(json!({})).await?;
        let large = "x".repeat(900_000);
        world.bao.put("kv", "large", json!({"value": large})).await?;
        shop.wants("large", &[field("value", "large", "value"), field("again", "app/db", "user")]).await?;
        shop.stage.ready("large").await?;
        shop.stage.holds("large", &[("value", &large), ("again", "ada")]).await?;
        let kept = shop.secret("large").await?;
        world.bao.put("kv", "app/db", json!({"user": large})).await?;
        shop.refresh("large").await?;
        shop.stage.reason("large", TooLarge).await?;
        ensure!(shop.secret("large").await? == kept, "the Secret was touched");
        world.bao.put("kv", "app/db", json!({"user": "ada"})).await?;
        shop.refresh("large").await?;
        shop.stage.ready("large").await.map(drop)
    });
}

#[test]
fn the_namespaces_of_the_server_hold_data_and_logins_apart() {
    in_namespace(|space| async move {
        let world = World::set(space).await?;
        let (shop, bao) = (&world.shop, &world.bao);
        bao.ask("POST", "sys/namespaces/team", Value::Null).await?;
        bao.ask_in(Some("team"), "POST", "sys/namespaces/data", Value::Null).await?;
        for (namespace, user) in [("team", "in team"), ("team/data", "in team/data")] {
            let kv = json!({"type": "kv", "options": {"version": "1"}});
            bao.ask_in(Some(namespace), "POST", "sys/mounts/kv", kv).await?;
            bao.ask_in(Some(namespace), "POST", "kv/app", json!({"user": user})).await?;
        }
        let cluster = world.cluster(&shop.token_of("reviewer", None).await?)?;
        let policy = "path \"kv/*\" { capabilities = [\"read\"] } path \"data/kv/*\" { capabilities = [\"read\"] }";
        let role = crate::world::role_of(shop, "app");
        for (path, body) in [
            ("sys/auth/kubernetes", json!({"type": "kubernetes"})),
            ("auth/kubernetes/config", cluster),
            ("sys/policies/acl/read", json!({"policy": policy})),
            (format!("auth/kubernetes/role/app-{}", shop.namespace()).as_str(), role),
        ] {
            bao.ask_in(Some("team"), "POST", path, body).await?;
        }

        let login = world.spec(json!({}))["auth"].clone();
        let elsewhere = merged(login.clone(), json!({"namespace": "team"}));
        shop.store("team", world.spec(json!({"namespace": "team"}))).await?;
        shop.store("data", world.spec(json!({"namespace": "team/data", "auth": elsewhere}))).await?;
        let user = merged(field("user", "app", "user"), json!({"kv": 1}));
        for (name, holds) in [("team", "in team"), ("data", "in team/data")] {
            shop.object(name, json!({"storeRef": {"name": name}, "data": [user]}), json!({})).await?;
            shop.stage.ready(name).await?;
            shop.stage.holds(name, &[("user", holds)]).await?;
        }
        shop.store("nowhere", world.spec(json!({"namespace": "team/data", "auth": login}))).await?;
        shop.object("nowhere", json!({"storeRef": {"name": "nowhere"}, "data": [user]}), json!({})).await?;
        let told = shop.vault_is("nowhere", "AuthFailed").await?;
        ensure!(told.contains("auth/kubernetes"), "{told}");
        Ok(())
    });
}
