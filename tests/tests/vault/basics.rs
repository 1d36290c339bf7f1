//! Fetched, refreshed, kept.

use seal_tests::{ensure, in_namespace, wait};
use serde_json::json;

use crate::world::World;

#[test]
fn a_reference_becomes_a_secret_and_follows_what_is_in_vault() {
    in_namespace(|space| async move {
        let world = World::set(space).await?;
        let data = json!([
            {"key": "DB_USER", "mount": "kv", "path": "app/db", "field": "user"},
            {"key": "DB_PASSWORD", "mount": "kv", "path": "app/db", "field": "password"},
        ]);
        world.object("db", json!({"data": data, "refreshInterval": "10s"}), json!({})).await?;
        world.vault_is("db", "StoreNotFound").await?;
        world.stage.holds_nothing("db").await?;

        world.store(json!({})).await?;
        world.stage.ready("db").await?;
        world.stage.holds("db", &[("DB_USER", "ada"), ("DB_PASSWORD", "first")]).await?;
        let told = world.vault_is("db", "Synced").await?;
        world.store_is("Reachable").await?;
        ensure!(told.status.unwrap_or_default().vault_versions["kv/app/db"] == 1);

        world.bao.put("kv", "app/db", json!({"user": "grace", "password": "second"})).await?;
        world.stage.holds("db", &[("DB_USER", "grace"), ("DB_PASSWORD", "second")]).await?;
        wait::until_equal("the version that was read", Some(2), || async {
            let status = world.stage.sealed().get("db").await?.status.unwrap_or_default();
            Ok(status.vault_versions.get("kv/app/db").copied())
        })
        .await?;
        ensure!(world.stage.drifts(&world.controller, "db") == 0, "a rotation is nobody's doing");
        Ok(())
    });
}
