//! Writes kubeconfigs: address, authority, and either a client certificate or a token.

use std::fs;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::certificates::Pair;

/// How a client says who it is.
#[derive(Debug, Clone, Copy)]
pub enum Credential<'a> {
    /// A client certificate.
    Certificate(&'a Pair),
    /// A bearer token.
    Token(&'a str),
}

/// Writes one, readable by its owner alone.
pub fn write(path: &Path, server: &str, authority: &Path, credential: Credential<'_>, namespace: &str) -> Result<()> {
    let user = match credential {
        Credential::Certificate(pair) => {
            json!({"client-certificate": pair.certificate, "client-key": pair.key})
        }
        Credential::Token(token) => json!({"token": token}),
    };
    let config: Value = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "tests", "cluster": {"server": server, "certificate-authority": authority}}],
        "users": [{"name": "tests", "user": user}],
        "contexts": [{"name": "tests", "context": {"cluster": "tests", "user": "tests", "namespace": namespace}}],
        "current-context": "tests",
    });
    let yaml = serde_yaml::to_string(&config).context("write a kubeconfig as YAML")?;
    let file = fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(path);
    let mut file = file.with_context(|| format!("open {path:?}"))?;
    std::io::Write::write_all(&mut file, yaml.as_bytes()).with_context(|| format!("write {path:?}"))
}
