//! Finds the servers under test, or builds them.
//!
//! `KUBEBUILDER_ASSETS` -> the user's cache -> a build from `servers/go.mod` into that cache -> `Servers`.

use std::path::PathBuf;

use anyhow::Result;

use crate::go_build::GoModule;

const ETCD: &str = "etcd";
const APISERVER: &str = "kube-apiserver";
const CONTROLLER_MANAGER: &str = "kube-controller-manager";

const KUBERNETES: GoModule = GoModule {
    folder: concat!(env!("CARGO_MANIFEST_DIR"), "/servers"),
    title: "Kubernetes",
    cache: "servers",
    dependency: "k8s.io/kubernetes",
    sources: &[],
    programs: &[
        (ETCD, "go.etcd.io/etcd/server/v3"),
        (APISERVER, "k8s.io/kubernetes/cmd/kube-apiserver"),
        (CONTROLLER_MANAGER, "k8s.io/kubernetes/cmd/kube-controller-manager"),
    ],
    tags: "",
    ldflags: stamped,
    otherwise: Some("point KUBEBUILDER_ASSETS at a folder that holds them"),
};

/// Without the stamp the server calls itself `v0.0.0-master+$Format`, which kubectl and Helm cannot parse.
pub(crate) fn stamped(version: &str) -> String {
    let mut parts = version.trim_start_matches('v').split('.');
    let (major, minor) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let stamp = "k8s.io/component-base/version.git";
    format!("-s -w -X {stamp}Version={version} -X {stamp}Major={major} -X {stamp}Minor={minor}")
}

/// Where the three servers of a control plane are.
#[derive(Debug, Clone)]
pub struct Servers {
    /// The store.
    pub etcd: PathBuf,
    /// The API server.
    pub apiserver: PathBuf,
    /// Garbage collection, namespaces, ServiceAccounts.
    pub controller_manager: PathBuf,
}

impl Servers {
    /// Finds all three, building what is missing.
    pub fn find() -> Result<Self> {
        let assets = std::env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from);
        // `setup-envtest` brings no controller manager, so each is looked for by itself.
        let given = |name: &str| assets.as_ref().map(|dir| dir.join(name)).filter(|path| path.is_file());
        if let (Some(etcd), Some(apiserver), Some(controller_manager)) =
            (given(ETCD), given(APISERVER), given(CONTROLLER_MANAGER))
        {
            return Ok(Self { etcd, apiserver, controller_manager });
        }
        let built = KUBERNETES.built()?;
        let pick = |name: &str| given(name).unwrap_or_else(|| built.join(name));
        Ok(Self { etcd: pick(ETCD), apiserver: pick(APISERVER), controller_manager: pick(CONTROLLER_MANAGER) })
    }
}
