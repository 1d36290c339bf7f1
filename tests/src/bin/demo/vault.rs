//! The part of the story about a value that is not in Git at all: fetched from OpenBao, rotated there, and kept while the
//! server hangs.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use kube::api::{Patch, PatchParams};
use rustix::process::Signal;
use seal_crds::REFRESH_ANNOTATION;
use seal_crds::condition::{READY, VAULT_SYNCED, find};
use seal_tests::openbao::{self, Bao};
use seal_tests::stage::text_of;
use seal_tests::{manifests, wait};
use serde_json::{Value, json};

use crate::cluster::{Cluster, SHOP};
use crate::story::Scene;

const POLICY: &str = "path \"kv/data/shop/*\" { capabilities = [\"read\"] }";

impl Scene<'_> {
    /// Gives the server; none if the story goes on without it.
    pub(crate) async fn refer_to_vault(&mut self, cluster: &Cluster) -> Result<Option<Bao>> {
        self.narrator.step("A value that stays in OpenBao; Git holds only where it is");
        if cluster.controller_url().is_none() {
            self.narrator
                .say("Not shown here: the controller of this cluster would not reach a server of this machine.");
            return Ok(None);
        }
        if let Err(error) = openbao::find() {
            self.narrator.say("Not shown here, because there is no OpenBao; the rest does not need it:");
            self.narrator.shows(&format!("{error:#}"));
            return Ok(None);
        }
        let bao = Bao::dev(cluster.guard(), "bao").await?;
        self.narrator.say(format!("OpenBao, the real one, in memory, at {}.", bao.url()));
        self.admit(&bao).await?;
        self.fetch().await?;
        self.rotate(&bao).await?;
        self.survive(&bao).await?;
        Ok(Some(bao))
    }

    /// The platform team's part: a policy, a role, a credential in the namespace, and the store.
    async fn admit(&self, bao: &Bao) -> Result<()> {
        self.narrator.command("bao kv put kv/shop/mail password=first");
        bao.mount_kv("kv", 2).await?;
        bao.put("kv", "shop/mail", json!({"password": "first"})).await?;
        self.narrator.command(format!("bao policy write shop -     # {POLICY}"));
        bao.policy("shop", POLICY).await?;
        self.narrator.command("bao auth enable approle; bao write auth/approle/role/shop token_policies=shop");
        bao.ask("POST", "sys/auth/approle", json!({"type": "approle"})).await?;
        bao.ask("POST", "auth/approle/role/shop", json!({"token_policies": ["shop"]})).await?;
        self.narrator.command(format!(
            "bao write -f -field=secret_id auth/approle/role/shop/secret-id |\n       \
             kubectl create secret generic approle -n {SHOP} --from-file=id=/dev/stdin"
        ));
        self.narrator.command(format!("kubectl label secret approle -n {SHOP} sealwright.dev/vault-auth=true"));
        let role = bao.ask("GET", "auth/approle/role/shop/role-id", Value::Null).await?;
        let made = bao.ask("POST", "auth/approle/role/shop/secret-id", json!({})).await?;
        let labels = json!({"sealwright.dev/vault-auth": "true"});
        self.apply(json!({
            "apiVersion": "v1", "kind": "Secret", "stringData": {"id": made["data"]["secret_id"]},
            "metadata": {"name": "approle", "labels": labels},
        }))
        .await?;
        self.narrator.command("kubectl apply -f store.yaml     # a VaultStore: the address, and how to log in");
        let secret_id = json!({"name": "approle", "key": "id"});
        let login = json!({"appRole": {"roleId": role["data"]["role_id"], "secretIdRef": secret_id}});
        let limits = json!({"requestTimeout": "1s"});
        let spec = json!({"address": bao.url(), "tls": {"allowPlaintext": true}, "auth": login, "limits": limits});
        self.apply(json!({
            "apiVersion": "sealwright.dev/v1alpha1", "kind": "VaultStore", "metadata": {"name": "main"}, "spec": spec,
        }))
        .await
    }

    async fn fetch(&self) -> Result<()> {
        let name = format!("{SHOP}/mail");
        let reference = ["--mount", "kv", "--path", "shop/mail", "--field", "password"];
        let arguments =
            [&["vault", "add", "mail.yaml", "password", "--name", &name, "--store", "main"][..], &reference];
        self.seal_shown(&arguments.concat())?;
        self.narrator.command("cat mail.yaml");
        self.narrator.shows(&self.laptop.read("mail.yaml")?);
        self.commit("the mail password is in OpenBao")?;
        self.applied().await?;
        let begin = Instant::now();
        self.mail_holds("first").await?;
        self.narrator.seen("Secret mail holds password=first", begin);
        Ok(())
    }

    async fn rotate(&self, bao: &Bao) -> Result<()> {
        self.narrator.say("It is rotated there. Seen within refreshInterval, or at once for whoever asks:");
        self.narrator.command("bao kv put kv/shop/mail password=second");
        bao.put("kv", "shop/mail", json!({"password": "second"})).await?;
        let begin = Instant::now();
        self.ask_refresh("rotated").await?;
        self.mail_holds("second").await?;
        self.narrator.seen("Secret mail holds password=second", begin);
        wait::until("the refresh is told", || async {
            let status = self.sealed().get("mail").await?.status.unwrap_or_default();
            Ok((status.observed_refresh.as_deref() == Some("rotated")).then_some(()))
        })
        .await?;
        Ok(())
    }

    async fn survive(&self, bao: &Bao) -> Result<()> {
        self.narrator.say("The server hangs:");
        self.narrator.command("kill -STOP $(pidof bao)");
        bao.process().signal(Signal::STOP)?;
        let begin = Instant::now();
        self.ask_refresh("outage").await?;
        let told = self.mail_is("False").await?;
        self.narrator.seen(format!("told: {told}"), begin);
        let held = text_of(&self.secrets().get("mail").await?);
        ensure!(held.get("password").is_some_and(|held| held == "second"), "the Secret was touched");
        self.narrator.say("The last good Secret is untouched, and Ready stays True.");
        self.narrator.command("kill -CONT $(pidof bao)");
        bao.process().signal(Signal::CONT)?;
        let begin = Instant::now();
        self.mail_is("True").await?;
        self.narrator.seen("the outage is over, noticed by itself", begin);
        Ok(())
    }

    async fn ask_refresh(&self, wish: &str) -> Result<()> {
        self.narrator
            .command(format!("kubectl annotate sealedsecret mail -n {SHOP} --overwrite {REFRESH_ANNOTATION}={wish}"));
        let patch = json!({"metadata": {"annotations": {REFRESH_ANNOTATION: wish}}});
        self.sealed().patch("mail", &PatchParams::default(), &Patch::Merge(patch)).await?;
        Ok(())
    }

    async fn mail_holds(&self, password: &str) -> Result<()> {
        wait::until(&format!("Secret mail holds {password}"), || async {
            let secret = self.secrets().get_opt("mail").await?;
            Ok(secret.filter(|secret| text_of(secret).get("password").is_some_and(|held| held == password)).map(drop))
        })
        .await
    }

    /// Waits until `VaultSynced` has this status, while `Ready` is true; gives both as people read them.
    async fn mail_is(&self, synced: &str) -> Result<String> {
        wait::until(&format!("VaultSynced is {synced}"), || async {
            let status = self.sealed().get("mail").await?.status.unwrap_or_default();
            let ready = find(&status.conditions, READY).context("the object says Ready")?;
            ensure!(ready.status == "True", "Ready is {}", ready.reason);
            let vault = find(&status.conditions, VAULT_SYNCED).filter(|vault| vault.status == synced);
            Ok(vault.map(|vault| format!("Ready=True, VaultSynced={synced} {}", vault.reason)))
        })
        .await
    }

    async fn apply(&self, mut object: Value) -> Result<()> {
        object["metadata"]["namespace"] = SHOP.into();
        let object = serde_json::from_value(object).context("read an object")?;
        manifests::apply(&self.client, &[object]).await.map(drop)
    }
}
