//! Helm, the real one, and our chart through it.
//!
//! The user's cache, or a build from `servers/helm/go.mod` -> [`Helm`] -> [`rendered`]: the chart as objects.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, Result, bail, ensure};
use kube::api::DynamicObject;
use seal_crds::{SCHEMA, SCHEMA_ANNOTATION};

use crate::binaries::ROOT;
use crate::control_plane::copy_folder;
use crate::go_build::{GoModule, source_of};
use crate::install::NAMESPACE;
use crate::manifests;
use crate::process::command;

const HELM: &str = "helm";

const MODULE: GoModule = GoModule {
    folder: concat!(env!("CARGO_MANIFEST_DIR"), "/servers/helm"),
    title: "Helm",
    cache: HELM,
    dependency: "helm.sh/helm/v4",
    sources: &[],
    programs: &[(HELM, "helm.sh/helm/v4/cmd/helm")],
    tags: "",
    ldflags: |version| format!("-s -w -X helm.sh/helm/v4/internal/version.version={version}"),
    otherwise: None,
};

/// The name that our releases have.
pub const RELEASE: &str = "sealwright";

/// The built program, with folders of its own: nothing of the developer's Helm is read or written.
#[derive(Debug)]
pub struct Helm {
    program: PathBuf,
    home: tempfile::TempDir,
    kubeconfig: Option<PathBuf>,
}

impl Helm {
    /// Finds it, building it where it is missing. It knows no cluster.
    pub fn find() -> Result<Self> {
        let home = tempfile::Builder::new().prefix("sealwright-helm-").tempdir().context("make a folder for Helm")?;
        Ok(Self { program: MODULE.built()?.join(HELM), home, kubeconfig: None })
    }

    /// One that works in the cluster of this kubeconfig.
    pub fn of(kubeconfig: PathBuf) -> Result<Self> {
        Ok(Self { kubeconfig: Some(kubeconfig), ..Self::find()? })
    }

    /// Where it is.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Runs it; what it prints, or everything that it said when it fails.
    pub fn run<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<String> {
        let output = self.output(arguments)?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        if !output.status.success() {
            let verb = arguments.first().map(|verb| verb.as_ref().to_string_lossy().into_owned());
            bail!("helm {} failed: {said}{}", verb.unwrap_or_default(), String::from_utf8_lossy(&output.stdout));
        }
        String::from_utf8(output.stdout).context("helm prints text")
    }

    /// Runs it, whatever comes of it.
    pub fn output<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<Output> {
        let mut helm = command(&self.program);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("HELM_") {
                helm.env_remove(name);
            }
        }
        for folder in ["CACHE", "CONFIG", "DATA"] {
            helm.env(format!("HELM_{folder}_HOME"), self.home.path().join(folder));
        }
        // Without one, Helm would look for the developer's.
        helm.env("KUBECONFIG", self.kubeconfig.as_deref().unwrap_or(Path::new("/dev/null")));
        helm.args(arguments).stdin(Stdio::null()).output().context("start `helm`")
    }

    /// What the chart makes with these flags (`--set`, `--values`).
    pub fn template(&self, flags: &[&str]) -> Result<Vec<DynamicObject>> {
        manifests::parse(&self.template_text(flags)?)
    }

    /// The same as the text that Helm writes.
    pub fn template_text(&self, flags: &[&str]) -> Result<String> {
        let chart = chart();
        let mut arguments = vec!["template", RELEASE];
        let chart = chart.to_str().context("the chart's path is text")?;
        arguments.extend([chart, "--namespace", NAMESPACE]);
        arguments.extend(flags);
        self.run(&arguments)
    }
}

/// The folder of the chart.
pub fn chart() -> PathBuf {
    Path::new(ROOT).join("charts/sealwright")
}

/// The chart of the next version, written into this folder, with a higher schema number in its definitions.
pub fn next_chart(into: &Path) -> Result<()> {
    copy_folder(&chart(), into)?;
    let edit = |file: &Path, from: &str, to: &str| -> Result<()> {
        let text = fs::read_to_string(file).with_context(|| format!("read {file:?}"))?;
        ensure!(text.contains(from), "no {from} in {file:?}");
        fs::write(file, text.replace(from, to)).with_context(|| format!("write {file:?}"))
    };
    let version = concat!("\nversion: ", env!("CARGO_PKG_VERSION"), "\n");
    edit(&into.join("Chart.yaml"), version, "\nversion: 1000.0.0\n")?;
    for entry in fs::read_dir(into.join("files/crds")).context("list the definitions")? {
        let file = entry.context("list the definitions")?.path();
        let own = format!("{SCHEMA_ANNOTATION}: '{SCHEMA}'");
        edit(&file, &own, &format!("{SCHEMA_ANNOTATION}: '{}'", SCHEMA + 1))?;
    }
    Ok(())
}

/// With audiences that suites ask for on purpose. That of the API server is put in afterwards, for the chart takes it only
/// where it is allowed; what the policy lets through then, the controller and Vault must refuse.
fn for_suites(flags: &[&str]) -> Result<Vec<DynamicObject>> {
    let listed = r#"[\"vault\",\"elsewhere\"]"#;
    let text = Helm::find()?.template_text(&[&["--set", "vault.audiences={vault,elsewhere}"], flags].concat())?;
    ensure!(text.contains(listed), "the policy on tokens lists vault.audiences");
    manifests::parse(&text.replace(listed, r#"[\"vault\",\"elsewhere\",\"https://kubernetes.default.svc\"]"#))
}

/// The chart as the suites have it, with its defaults but for `vault.audiences`: rendered once in each process.
pub fn rendered() -> Result<Vec<DynamicObject>> {
    static RENDERED: OnceLock<Result<Vec<DynamicObject>, String>> = OnceLock::new();
    let rendered = RENDERED.get_or_init(|| for_suites(&[]).map_err(|error| format!("{error:#}")));
    rendered.clone().map_err(anyhow::Error::msg)
}

/// The same for a controller that serves these namespaces and no others.
pub fn for_namespaces(names: &[&str]) -> Result<Vec<DynamicObject>> {
    for_suites(&["--set", &format!("namespaces={{{}}}", names.join(","))])
}

/// The definitions of other projects' kinds that optional parts of the chart use.
pub fn foreign_definitions() -> Result<Vec<DynamicObject>> {
    const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/servers/definitions");
    let operator = source_of(FOLDER, "github.com/prometheus-operator/prometheus-operator")?;
    let gateway = source_of(FOLDER, "sigs.k8s.io/gateway-api")?;
    let of_operator =
        |kind: &str| operator.join(format!("example/prometheus-operator-crd/monitoring.coreos.com_{kind}.yaml"));
    let files = [
        of_operator("podmonitors"),
        of_operator("servicemonitors"),
        of_operator("prometheusrules"),
        gateway.join("config/crd/standard/gateway.networking.k8s.io_httproutes.yaml"),
    ];
    Ok(files.iter().map(|file| manifests::read(file)).collect::<Result<Vec<_>>>()?.concat())
}
