//! How GitOps systems judge our objects, with their own code: Flux's kstatus, Argo CD's Lua, kubeconform.
//!
//! The user's cache, or a build from `servers/gitops/go.mod` -> [`Judges`] -> a [`Verdict`].

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::Value;

use crate::go_build::GoModule;
use crate::process::command;

const JUDGE: &str = "judge";
const KUBECONFORM: &str = "kubeconform";

const MODULE: GoModule = GoModule {
    folder: concat!(env!("CARGO_MANIFEST_DIR"), "/servers/gitops"),
    title: "judges of GitOps systems",
    cache: "gitops",
    dependency: "github.com/fluxcd/cli-utils",
    sources: &["judge/main.go"],
    programs: &[
        (JUDGE, "sealwright.dev/tests/servers/gitops/judge"),
        (KUBECONFORM, "github.com/yannh/kubeconform/cmd/kubeconform"),
    ],
    tags: "",
    ldflags: |_| "-s -w".to_owned(),
    otherwise: None,
};

/// What a system thinks of an object.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Verdict {
    /// In its own words: `Current`, `Healthy`.
    pub status: String,
    /// For people.
    pub message: String,
}

/// The built programs.
#[derive(Debug)]
pub struct Judges(PathBuf);

impl Judges {
    /// Finds them, building what is missing.
    pub fn find() -> Result<Self> {
        Ok(Self(MODULE.built()?))
    }

    /// Flux's verdict.
    pub fn kstatus(&self, object: &Value) -> Result<Verdict> {
        self.judge(&[OsStr::new("kstatus")], object)
    }

    /// Argo CD's verdict, with this script.
    pub fn lua(&self, script: &Path, object: &Value) -> Result<Verdict> {
        self.judge(&[OsStr::new("lua"), script.as_os_str()], object)
    }

    /// kubeconform's words on manifests, and whether it is content.
    pub fn kubeconform<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<Output> {
        let mut kubeconform = command(self.0.join(KUBECONFORM));
        kubeconform.args(arguments).stdin(Stdio::null()).output().context("start `kubeconform`")
    }

    fn judge(&self, arguments: &[&OsStr], object: &Value) -> Result<Verdict> {
        let mut judge = command(self.0.join(JUDGE));
        judge.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = judge.spawn().context("start `judge`")?;
        let mut stdin = child.stdin.take().context("stdin is piped above")?;
        stdin.write_all(object.to_string().as_bytes()).context("write to `judge`")?;
        drop(stdin);
        let output = child.wait_with_output().context("wait for `judge`")?;
        ensure!(output.status.success(), "judge: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).context("read what `judge` prints")
    }
}
