//! `docs/guide/vault.md`, followed word by word: the real `bao`, `kubectl` and `seal`, in a shell.

use std::{fs, path::Path};

use seal_tests::{
    Context, Result, Stage,
    binaries::ROOT,
    certificates::Authority,
    ensure, in_namespace,
    openbao::{self, Bao},
    page::{Person, commands},
    process::Guard,
    wait,
};
use serde_json::json;

use crate::world::{Tenant, field};

#[test]
fn the_guide_for_platform_teams_does_what_it_says_word_by_word() {
    in_namespace(|space| async move {
        let (stage, _controller) = Stage::shared(space).await?;
        let guard = Guard::start()?;
        let authority = Authority::make()?;
        let pair = authority.server(&guard.scratch().join("tls"), "bao", &[], false)?;
        let ca = guard.scratch().join("tls/ca.crt");
        fs::write(&ca, &authority.certificate)?;
        let bao = Bao::server(&guard, "bao", &pair, &ca).await?;
        let program = openbao::find()?;
        let mut person = Person::new(&stage.space.plane, &[("bao", program.as_path())])?;
        person.laptop.write("vault-ca.crt", &authority.certificate)?;
        person.exports("BAO_ADDR", &bao.url());
        person.exports("BAO_CACERT", "vault-ca.crt");
        person.exports("BAO_TOKEN", &bao.root_token());

        let page = fs::read_to_string(Path::new(ROOT).join("docs/guide/vault.md"))?;
        let commands = commands(&page.replace("https://vault.example:8200", &bao.url()));
        ensure!(commands.len() > 40, "the page has lost its commands: {}", commands.len());
        let mut passwords = vec!["correct horse", "battery staple"].into_iter();
        let mut in_team = None;
        for line in commands {
            // What people do slowly and a test does at once.
            if line.contains("{.data.token}") {
                until(&mut person, "kubectl get secret vault-reviewer -n platform -o jsonpath={.data.token}").await?;
            }
            let shown = person.types(&line)?;
            if let Some(namespace) = line.strip_prefix("export BAO_NAMESPACE=") {
                in_team = Some(namespace.to_owned());
            } else if line.starts_with("unset BAO_NAMESPACE") {
                in_team = None;
            } else if line.starts_with("bao secrets enable") {
                // A new engine of version 2 upgrades itself for a moment.
                wait::until("the engine is ready", || async {
                    bao.ask_in(in_team.as_deref(), "GET", "kv/config", json!(null)).await.map(Some)
                })
                .await?;
            } else if line.starts_with("seal ls") {
                ensure!(shown.contains("kv/shop/db#password"), "{shown}");
            } else if line.starts_with("kubectl get secret db") {
                assert_eq!(Some(shown.as_str()), passwords.next());
            } else if line.contains("VaultSynced") {
                assert_eq!(shown, "Synced");
            } else if line.starts_with("kubectl get vaultstore") {
                ensure!(shown.contains("Reachable"), "{shown}");
            }
        }
        assert_eq!(passwords.next(), None, "the page shows both passwords");

        // And every other way to log in gives what it should.
        let shop = Tenant {
            stage: Stage { space: seal_tests::Space { name: "shop".into(), ..stage.space.clone() }, ..stage },
        };
        for (name, namespace, holds) in [
            ("by-signature", "platform", "battery staple"),
            ("by-approle", "shop", "battery staple"),
            ("team", "platform", "of the team"),
        ] {
            let store = json!({"name": name, "namespace": namespace});
            let password = field("password", "shop/db", "password");
            shop.object(name, json!({"storeRef": store, "data": [password]}), json!({})).await?;
            shop.stage.ready(name).await.with_context(|| format!("over store {name}"))?;
            shop.stage.holds(name, &[("password", holds)]).await?;
        }
        Ok(())
    });
}

/// Waits until a command prints something.
async fn until(person: &mut Person, line: &str) -> Result<()> {
    let person = std::sync::Mutex::new(person);
    wait::until(line, || async {
        let shown = person.lock().map_err(|_| seal_tests::anyhow!("nobody panics here"))?.types(line)?;
        Ok((!shown.is_empty()).then_some(()))
    })
    .await
}
