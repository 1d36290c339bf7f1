//! A value that is not in Git at all: a pod fetches it from a real OpenBao, over TLS, with a token of the shop's own
//! ServiceAccount that OpenBao has the API server review.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use kube::api::{Api, PostParams};
use seal_crds::condition::{VAULT_SYNCED, find};
use seal_tests::certificates::Authority;
use seal_tests::openbao::Bao;
use seal_tests::process::Guard;
use seal_tests::{Stage, manifests, node, wait};
use serde_json::json;

use crate::world::{SHOP, World};

const READ: &str = "path \"kv/data/shop/*\" { capabilities = [\"read\"] }";
/// The API server as the node reaches it: the Service `kubernetes`.
const KUBERNETES: &str = "https://10.0.0.1";
/// Logs in for the shop.
const READER: &str = "vault-reader";
/// Asks the API server about tokens, for OpenBao.
const REVIEWER: &str = "vault-reviewer";
/// The SealedSecret, and the key in it that is fetched.
const MAIL: &str = "mail";

pub(crate) async fn a_value_stays_in_openbao(world: &mut World<'_>) -> Result<()> {
    world.narrator.step("A value that stays in OpenBao: fetched, rotated, and kept when the server is gone");
    let stage = world.stage().await?;
    let guard = world.plane.guard();
    let (bao, authority) = serve(guard).await?;
    trust(&bao, &stage).await?;
    bao.put("kv", "shop/mail", json!({"password": "first"})).await?;
    let begin = Instant::now();
    refer(&stage, &bao, &authority).await?;
    holds(&stage, "first").await?;
    ensure!(bao.count("update auth/kubernetes/login")? == 1, "it took more than one login");
    world.narrator.seen("beside a sealed value in one Secret, with one login as the shop's own account", begin);

    let begin = Instant::now();
    bao.put("kv", "shop/mail", json!({"password": "second"})).await?;
    holds(&stage, "second").await?;
    world.narrator.seen("rotated there, the Secret follows; it asks every 10 s", begin);

    let begin = Instant::now();
    bao.kill();
    synced(&stage, "False").await?;
    stage.ready(MAIL).await?;
    holds(&stage, "second").await?;
    world.narrator.seen("the server is gone: told in VaultSynced, Ready and the Secret stay", begin);

    bao.restart(guard).await?;
    bao.unseal().await?;
    bao.put("kv", "shop/mail", json!({"password": "third"})).await?;
    let begin = Instant::now();
    holds(&stage, "third").await?;
    synced(&stage, "True").await?;
    world.narrator.seen("it is back and unsealed: what is new there is fetched, by itself", begin);
    bao.kill();
    world.narrator.say("It goes for good. What follows finds a Secret whose server nobody can ask.");
    Ok(())
}

/// Waits until the Secret holds the sealed value and this password.
pub(crate) async fn holds(stage: &Stage, password: &str) -> Result<()> {
    stage.holds(MAIL, &[("user", "app"), ("password", password)]).await
}

/// A server with its data on disk, at an address that pods reach; and the CA of its certificate.
async fn serve(guard: &Guard) -> Result<(Bao, String)> {
    let authority = Authority::make()?;
    let folder = guard.scratch().join("bao-tls");
    let pair = authority.server(&folder, "bao", &[node::ADDRESS], false)?;
    let ca = folder.join("ca.crt");
    std::fs::write(&ca, &authority.certificate).context("write the CA of OpenBao")?;
    let bao = Bao::server_at(node::ADDRESS.parse()?, guard, "bao", &pair, &ca).await?;
    Ok((bao, authority.certificate))
}

/// The platform team's part: the server learns to ask the API server about tokens, and what the shop may read.
async fn trust(bao: &Bao, stage: &Stage) -> Result<()> {
    let client = &stage.space.client;
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": REVIEWER},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:auth-delegator"},
        "subjects": [{"kind": "ServiceAccount", "name": REVIEWER, "namespace": "default"}],
    });
    let account = |namespace: &str, name: &str| json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": namespace}});
    for object in [account("default", REVIEWER), account(SHOP, READER), binding] {
        manifests::apply(client, &[serde_json::from_value(object)?]).await?;
    }
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), "default");
    let review = accounts.create_token_request(REVIEWER, &PostParams::default(), &TokenRequest::default()).await?;
    let review = review.status.context("a token request has a token")?.token;
    let cluster: Api<ConfigMap> = Api::namespaced(client.clone(), "default");
    let cluster = cluster.get("kube-root-ca.crt").await?.data.unwrap_or_default();

    bao.mount_kv("kv", 2).await?;
    bao.policy("shop", READ).await?;
    bao.ask("POST", "sys/auth/kubernetes", json!({"type": "kubernetes"})).await?;
    let config = json!({
        "kubernetes_host": KUBERNETES, "kubernetes_ca_cert": cluster.get("ca.crt"), "token_reviewer_jwt": review,
    });
    bao.ask("POST", "auth/kubernetes/config", config).await?;
    let role = json!({
        "audience": "vault", "token_policies": ["shop"], "token_ttl": "1h",
        "bound_service_account_names": [READER], "bound_service_account_namespaces": [SHOP],
    });
    bao.ask("POST", "auth/kubernetes/role/shop", role).await.map(drop)
}

/// The shop's part: its store, and a file in Git with a sealed value and a reference.
async fn refer(stage: &Stage, bao: &Bao, authority: &str) -> Result<()> {
    let store = json!({
        "apiVersion": "sealwright.dev/v1alpha1", "kind": "VaultStore", "metadata": {"name": "main", "namespace": SHOP},
        "spec": {
            "address": bao.url(), "tls": {"caBundle": authority},
            "auth": {"kubernetes": {"role": "shop", "serviceAccount": READER}},
        },
    });
    manifests::apply(&stage.space.client, &[serde_json::from_value(store)?]).await?;
    let file = stage.seal(MAIL, &[("user", "app")])?;
    let reference = ["--store", "main", "--mount", "kv", "--path", "shop/mail", "--field", "password"];
    stage.laptop.seal(&[&["vault", "add", &file, "password"][..], &reference].concat())?;
    stage.change_file(&file, |file| {
        file["spec"]["vault"]["refreshInterval"] = "10s".into();
        Ok(())
    })?;
    stage.apply(&file).await?;
    stage.ready(MAIL).await.map(drop)
}

async fn synced(stage: &Stage, wanted: &str) -> Result<()> {
    let sealed = stage.sealed();
    wait::until(&format!("VaultSynced is {wanted}"), || async {
        let status = sealed.get(MAIL).await?.status.unwrap_or_default();
        let vault = find(&status.conditions, VAULT_SYNCED).context("nothing is told of it yet")?;
        ensure!(vault.status == wanted, "it is {} {}", vault.status, vault.reason);
        Ok(Some(()))
    })
    .await
}
