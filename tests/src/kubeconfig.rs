//! Writes kubeconfigs: address, authority, and either a client certificate or a token.
//!
//! [`write_admin`] for a new cluster -> [`write_account`] for a ServiceAccount of any cluster.

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{Api, PostParams};
use kube::config::Kubeconfig;
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::certificates::Pair;
use crate::control_plane::client_of;

/// Writes one for the holder of a client certificate.
pub fn write_admin(path: &Path, server: &str, authority: &Path, pair: &Pair) -> Result<()> {
    let cluster = json!({"server": server, "certificate-authority": authority});
    let user = json!({"client-certificate": pair.certificate, "client-key": pair.key});
    write(path, cluster, user, "default")
}

/// Writes one that reaches the same cluster as `admin`, with a token of this ServiceAccount, as its pods would.
pub async fn write_account(path: &Path, admin: &Path, namespace: &str, account: &str) -> Result<()> {
    let accounts: Api<ServiceAccount> = Api::namespaced(client_of(admin).await?, namespace);
    let spec = TokenRequestSpec { expiration_seconds: Some(24 * 60 * 60), ..TokenRequestSpec::default() };
    let request = TokenRequest { spec, ..TokenRequest::default() };
    let answer = accounts.create_token_request(account, &PostParams::default(), &request).await;
    let answer = answer.with_context(|| format!("ask for a token of {namespace}/{account}"))?;
    let token = answer.status.context("a TokenRequest was answered without a token")?.token;
    write(path, current_cluster(admin)?, json!({"token": token}), namespace)
}

/// The cluster of the current context, with its files' paths made absolute.
fn current_cluster(kubeconfig: &Path) -> Result<Value> {
    let read = Kubeconfig::read_from(kubeconfig).with_context(|| format!("read {kubeconfig:?}"))?;
    let current = read.current_context.context("a kubeconfig without a current context")?;
    let context = read.contexts.into_iter().find(|context| context.name == current).and_then(|named| named.context);
    let name = context.context("the current context is not in the kubeconfig")?.cluster;
    let cluster = read.clusters.into_iter().find(|cluster| cluster.name == name).and_then(|named| named.cluster);
    serde_json::to_value(cluster.context("the current context's cluster is not in the kubeconfig")?)
        .context("write the cluster of a kubeconfig")
}

/// Readable by its owner alone, and whole at every moment: replicas of one account share a file.
fn write(path: &Path, cluster: Value, user: Value, namespace: &str) -> Result<()> {
    let config: Value = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "tests", "cluster": cluster}],
        "users": [{"name": "tests", "user": user}],
        "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "tests", "namespace": namespace}}],
        "current-context": "tests",
    });
    let yaml = serde_yaml::to_string(&config).context("write a kubeconfig as YAML")?;
    let folder = path.parent().with_context(|| format!("{path:?} has no folder"))?;
    let mut file = NamedTempFile::new_in(folder).with_context(|| format!("make a file beside {path:?}"))?;
    file.write_all(yaml.as_bytes()).with_context(|| format!("write {path:?}"))?;
    file.persist(path).map(drop).with_context(|| format!("put {path:?} in place"))
}
