//! Whether it is the right server: CAs, names, certificates.

use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::Signal;
use seal_tests::{Result, Stage, certificates::Authority, ensure, in_namespace, openbao::Bao, process::Guard, wait};
use serde_json::json;

use crate::world::{Tenant, World, field, merged};

async fn config_map(shop: &Tenant, pem: &str) -> Result<()> {
    let metadata = json!({"name": "vault-ca"});
    shop.apply(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"ca.crt": pem}})).await
}

#[test]
fn a_server_is_known_by_its_ca_and_its_name_and_a_new_ca_is_found_in_its_place() {
    in_namespace(|space| async move {
        let (stage, controller) = Stage::shared(space).await?;
        let guard = Guard::start()?;
        let [old, new, other] = [Authority::make()?, Authority::make()?, Authority::make()?];
        let folder = guard.scratch().join("tls");
        let pair = old.server(&folder, "bao", &["vault.internal"], false)?;
        // The harness has to know it before and after.
        let ca = folder.join("ca.crt");
        std::fs::write(&ca, format!("{}{}", old.certificate, new.certificate))?;
        let bao = Bao::server(&guard, "bao", &pair, &ca).await?;
        let world = World::with(stage, controller, guard, bao).await?;
        let shop = &world.shop;
        config_map(shop, &old.certificate).await?;

        let from = json!({"kind": "ConfigMap", "name": "vault-ca", "key": "ca.crt"});
        let named = |name: &str| json!({"caBundle": old.certificate, "serverName": name});
        for (name, tls) in [
            ("main", json!({"caFrom": from})),
            ("named", named("vault.internal")),
            ("misnamed", named("vault.external")),
            ("unknown", json!({"caBundle": other.certificate})),
            ("system", json!({})),
        ] {
            shop.store(name, merged(world.spec(json!({})), json!({"tls": tls}))).await?;
            let vault = json!({"storeRef": {"name": name}, "data": [field("user", "app/db", "user")]});
            shop.object(name, vault, json!({})).await?;
        }
        for name in ["main", "named"] {
            shop.stage.ready(name).await?;
            shop.store_is(name, "Reachable").await?;
        }
        for (name, says) in [("misnamed", "name"), ("unknown", "CA"), ("system", "CA")] {
            shop.vault_is(name, "VaultUnreachable").await?;
            let told = shop.store_is(name, "TLSFailed").await?;
            ensure!(told.contains(says), "{name}: {told}");
            shop.stage.holds_nothing(name).await?;
        }

        // Another certificate, of a CA that is not known yet; then the CA; then a certificate that has expired.
        let asked = AtomicU32::new(100);
        let shows_another = async |says: &str| {
            world.bao.process().signal(Signal::HUP)?;
            wait::until(&format!("the certificate is refused: {says}"), || async {
                // A changed store has no session that could be resumed without a look at the certificate.
                let limits = json!({"requestsPerSecond": asked.fetch_add(1, Ordering::Relaxed)});
                world.store(json!({"tls": {"caFrom": from}, "limits": limits})).await?;
                if shop.refresh_tells("main").await?.0 != "VaultUnreachable" {
                    return Ok(None);
                }
                let told = shop.store_is("main", "TLSFailed").await?;
                Ok(told.contains(says).then_some(()))
            })
            .await?;
            shop.stage.ready("main").await
        };
        new.server(&folder, "bao", &[], false)?;
        shows_another("CA").await?;
        shop.stage.holds("main", &[("user", "ada")]).await?;
        config_map(shop, &new.certificate).await?;
        world.bao.put("kv", "app/db", json!({"user": "grace"})).await?;
        shop.stage.holds("main", &[("user", "grace")]).await?;
        shop.store_is("main", "Reachable").await?;
        new.server(&folder, "bao", &[], true)?;
        shows_another("expired").await?;
        shop.stage.holds("main", &[("user", "grace")]).await
    });
}
