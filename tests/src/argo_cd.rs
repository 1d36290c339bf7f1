//! Argo CD, the real one: the processes of its own that sync, beside a control plane and without its user interface.
//!
//! The user's cache, or a build from `servers/argo-cd/go.mod` -> its definitions, rights and settings in the cluster
//! -> redis-server, repo-server, application controller -> Applications, which it syncs.

use std::env;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Client;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::ApiResource;
use kube::core::GroupVersionKind;
use serde_json::{Value, json};

use crate::control_plane::{ControlPlane, free_ports};
use crate::go_build::{GoModule, source_of};
use crate::needs::{self, Need};
use crate::process::{Process, command};
use crate::{helm, http, manifests, wait};

const ARGO_CD: &str = "argocd";
const DEPENDENCY: &str = "github.com/argoproj/argo-cd/v2";

const MODULE: GoModule = GoModule {
    folder: concat!(env!("CARGO_MANIFEST_DIR"), "/servers/argo-cd"),
    title: "Argo CD",
    cache: "argo-cd",
    dependency: DEPENDENCY,
    sources: &[],
    // The versions of Helm and kustomize that its image carries.
    programs: &[
        (ARGO_CD, "github.com/argoproj/argo-cd/v2/cmd"),
        ("helm", "helm.sh/helm/v3/cmd/helm"),
        ("kustomize", "sigs.k8s.io/kustomize/kustomize/v5"),
    ],
    tags: "",
    ldflags: |_| "-s -w".to_owned(),
    otherwise: None,
};

/// What it needs besides.
pub const NEEDS: &[Need] = &[
    ("git", "install git"),
    ("go", "install Go 1.26 or later, https://go.dev/dl: Argo CD, Helm and kustomize are built from source, once"),
    ("redis-server", "install Redis (Debian: apt install redis-server)"),
];

/// Its namespace.
pub const NAMESPACE: &str = "argocd";
/// How often it looks by itself whether an Application is in sync; three minutes by default.
pub const RESYNC: &str = "5s";

const REDIS: &str = "redis-server";
const REPO_SERVER: &str = "argocd-repo-server";
const APPLICATION_CONTROLLER: &str = "argocd-application-controller";

/// A running Argo CD; its processes end with those of the control plane.
#[derive(Debug)]
pub struct ArgoCd(Mutex<[Process; 3]>);

impl ArgoCd {
    /// Installs it into the cluster, starts it, and waits until all of it answers.
    pub async fn start(plane: &ControlPlane) -> Result<Self> {
        needs::programs(NEEDS)?;
        let programs = MODULE.built()?;
        install(&plane.client().await?).await?;
        let kubeconfig = plane.kubeconfig_of(NAMESPACE, APPLICATION_CONTROLLER).await?;
        let home = plane.guard().scratch().join(ARGO_CD);
        let component = |name: &str| component(&programs, &home, &kubeconfig, name);
        let [redis_port, repo_port, repo_metrics, controller_metrics] = free_ports()?;
        let redis_address = format!("127.0.0.1:{redis_port}");
        let repo_address = format!("127.0.0.1:{repo_port}");

        std::fs::create_dir_all(home.join("redis")).context("make a folder for Redis")?;
        let mut redis = command(REDIS);
        redis.args(["--bind", "127.0.0.1", "--port", &redis_port.to_string(), "--save", "", "--appendonly", "no"]);
        redis.arg("--dir").arg(home.join("redis"));
        let redis = plane.guard().spawn(REDIS, &mut redis)?;

        let mut repo_server = component(REPO_SERVER)?;
        repo_server.args(["--address", "127.0.0.1", "--port", &repo_port.to_string(), "--disable-tls"]);
        repo_server.args(["--redis", &redis_address]);
        repo_server.args(["--metrics-address", "127.0.0.1", "--metrics-port", &repo_metrics.to_string()]);
        let repo_server = plane.guard().spawn(REPO_SERVER, &mut repo_server)?;

        let mut controller = component(APPLICATION_CONTROLLER)?;
        controller.args(["--repo-server", &repo_address, "--repo-server-plaintext", "--redis", &redis_address]);
        controller.args(["--namespace", NAMESPACE, "--metrics-port", &controller_metrics.to_string()]);
        let controller = plane.guard().spawn(APPLICATION_CONTROLLER, &mut controller)?;

        let argo_cd = Self(Mutex::new([controller, repo_server, redis]));
        for port in [repo_metrics, controller_metrics] {
            argo_cd.answers(port).await?;
        }
        Ok(argo_cd)
    }

    /// The Applications of a cluster.
    pub fn applications(client: &Client) -> Api<DynamicObject> {
        let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("argoproj.io", "v1alpha1", "Application"));
        Api::namespaced_with(client.clone(), NAMESPACE, &kind)
    }

    /// Fails, with the end of its log, if a part of it has ended.
    pub fn assert_running(&self) -> Result<()> {
        let mut parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        parts.iter_mut().try_for_each(Process::assert_running)
    }

    async fn answers(&self, port: u16) -> Result<()> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        wait::until("Argo CD answers", || async {
            self.assert_running()?;
            let answer = http::get(address, "/healthz").await?;
            ensure!(answer.status == 200, "it says {} {}", answer.status, answer.body);
            Ok(Some(()))
        })
        .await
    }
}

/// One program is all components; which one, its environment says.
fn component(programs: &Path, home: &Path, kubeconfig: &Path, name: &str) -> Result<Command> {
    let mut component = command(programs.join(ARGO_CD));
    for (variable, folder) in [
        ("HOME", "home"),
        ("TMPDIR", "tmp"),
        ("ARGOCD_TLS_DATA_PATH", "tls"),
        ("ARGOCD_SSH_DATA_PATH", "ssh"),
        ("ARGOCD_GNUPGHOME", "gpg"),
    ] {
        let folder = home.join(folder);
        std::fs::create_dir_all(&folder).with_context(|| format!("make {folder:?}"))?;
        component.env(variable, folder);
    }
    let path = env::var_os("PATH").unwrap_or_default();
    let path = env::join_paths([programs.to_owned()].into_iter().chain(env::split_paths(&path)));
    component.env("PATH", path.context("put Argo CD's tools on the PATH")?);
    component.env("KUBECONFIG", kubeconfig).env("ARGOCD_FAKE_IN_CLUSTER", "true").env("ARGOCD_BINARY_NAME", name);
    component.env("ARGOCD_GPG_ENABLED", "false").env("ARGOCD_RECONCILIATION_TIMEOUT", RESYNC);
    // Nothing of the machine's own configuration.
    component.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
    Ok(component)
}

/// As Argo CD's own manifests have it, and with the health checks that we ship, merged as our guide says.
async fn install(client: &Client) -> Result<()> {
    let source = source_of(MODULE.folder, DEPENDENCY)?.join("manifests");
    let definitions = ["application-crd", "appproject-crd"].map(|name| source.join(format!("crds/{name}.yaml")));
    let definitions = definitions.iter().map(|file| manifests::read(file)).collect::<Result<Vec<_>>>()?;
    manifests::apply_crds(client, &definitions.concat()).await?;

    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}});
    let mut objects = vec![serde_json::from_value(namespace).context("make a namespace")?];
    for folder in ["base/config", "base/application-controller-roles", "cluster-rbac/application-controller"] {
        let files: Vec<PathBuf> = std::fs::read_dir(source.join(folder))
            .with_context(|| format!("list {folder}"))?
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<_, _>>()?;
        for file in files.iter().filter(|file| file.file_name().is_some_and(|name| name != "kustomization.yaml")) {
            objects.extend(manifests::read(file)?);
        }
    }
    objects.push(everything_allowed()?);
    for object in &mut objects {
        let kind = manifests::kind_of(object);
        if kind != "Namespace" && !kind.starts_with("Cluster") {
            object.metadata.namespace = Some(NAMESPACE.to_owned());
        }
    }
    manifests::apply(client, &objects).await?;

    let health = std::fs::read_to_string(helm::chart().join("files/argocd-cm.yaml")).context("read our checks")?;
    let health: Value = serde_yaml::from_str(&health).context("read our health checks")?;
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    maps.patch("argocd-cm", &PatchParams::default(), &Patch::Merge(&health)).await.context("merge our checks")?;
    Ok(())
}

fn everything_allowed() -> Result<DynamicObject> {
    let any = json!([{"group": "*", "kind": "*"}]);
    serde_json::from_value(json!({
        "apiVersion": "argoproj.io/v1alpha1", "kind": "AppProject", "metadata": {"name": "default"},
        "spec": {"sourceRepos": ["*"], "destinations": [{"server": "*", "namespace": "*"}],
                 "clusterResourceWhitelist": any},
    }))
    .context("make a project")
}
