//! Fetched, refreshed, kept.

use seal_tests::{ensure, in_namespace, wait};
use serde_json::json;

use crate::world::{World, field};

#[test]
fn a_reference_becomes_a_secret_and_follows_what_is_in_vault() {
    in_namespace(|space| async move {
        let world = World::set(space).await?;
        let shop = &world.shop;
        let data = json!([field("DB_USER", "app/db", "user"), field("DB_PASSWORD", "app/db", "password")]);
        shop.object("db", json!({"data": data, "refreshInterval": "10s"}), json!({})).await?;
        shop.vault_is("db", "StoreNotFound").await?;
        shop.stage.holds_nothing("db").await?;

        world.store(json!({})).await?;
        let told = shop.stage.ready("db").await?.status.unwrap_or_default();
        shop.stage.holds("db", &[("DB_USER", "ada"), ("DB_PASSWORD", "first")]).await?;
        shop.vault_is("db", "Synced").await?;
        shop.store_is("main", "Reachable").await?;
        ensure!(told.vault_versions["kv/app/db"] == 1);

        world.bao.put("kv", "app/db", json!({"user": "grace", "password": "second"})).await?;
        shop.stage.holds("db", &[("DB_USER", "grace"), ("DB_PASSWORD", "second")]).await?;
        wait::until_equal("the version that was read", Some(2), || async {
            let status = shop.stage.sealed().get("db").await?.status.unwrap_or_default();
            Ok(status.vault_versions.get("kv/app/db").copied())
        })
        .await?;
        ensure!(shop.stage.drifts(&world.controller, "db") == 0, "a rotation is nobody's doing");
        Ok(())
    });
}
