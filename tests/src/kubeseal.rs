//! The peer's command line tool, for comparison: kubeseal, and a certificate for it.
//!
//! The user's cache, or a build from `servers/kubeseal/go.mod` -> [`Kubeseal`].

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::go_build::GoModule;
use crate::process::command;

const KUBESEAL: &str = "kubeseal";
const CERTIFICATE: &str = "certificate";

const MODULE: GoModule = GoModule {
    folder: concat!(env!("CARGO_MANIFEST_DIR"), "/servers/kubeseal"),
    title: KUBESEAL,
    cache: KUBESEAL,
    dependency: "github.com/bitnami/sealed-secrets",
    sources: &["certificate/main.go"],
    programs: &[
        (KUBESEAL, "github.com/bitnami/sealed-secrets/cmd/kubeseal"),
        (CERTIFICATE, "sealwright.dev/tests/servers/kubeseal/certificate"),
    ],
    tags: "",
    ldflags: |version| format!("-s -w -X main.VERSION={version}"),
    otherwise: None,
};

/// The built programs.
#[derive(Debug, Clone)]
pub struct Kubeseal {
    kubeseal: PathBuf,
    certificate: PathBuf,
}

impl Kubeseal {
    /// Finds them, building what is missing.
    pub fn find() -> Result<Self> {
        let built = MODULE.built()?;
        Ok(Self { kubeseal: built.join(KUBESEAL), certificate: built.join(CERTIFICATE) })
    }

    /// A new RSA-4096 certificate, as the peer's controller makes it; PEM.
    pub fn certificate(&self) -> Result<Vec<u8>> {
        let output = Command::new(&self.certificate).output().context("make a certificate")?;
        ensure!(output.status.success(), "no certificate: {}", String::from_utf8_lossy(&output.stderr));
        Ok(output.stdout)
    }

    /// `kubeseal` without anything of the developer's cluster.
    pub fn command(&self) -> Command {
        command(&self.kubeseal)
    }
}
