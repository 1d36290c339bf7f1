//! The harness: a real Kubernetes control plane on loopback, the built binaries, and the means to watch them.
//!
//! `servers` (find or build) -> `control_plane` (etcd, kube-apiserver, kube-controller-manager) -> `install` (CRDs,
//! rights) -> `controller` (the built `seal-controller` under those rights) -> `space` (a namespace for one test).
//!
//! Nothing that is started here outlives the process that started it, however that process ends: see [`process`].
//! Nothing here sleeps for a fixed time: see [`wait`].

pub mod argo_cd;
pub mod binaries;
pub mod certificates;
pub mod control_plane;
pub mod controller;
pub mod dump;
pub mod egress;
pub mod fault_proxy;
pub mod gitops;
mod go_build;
pub mod helm;
pub mod http;
pub mod install;
pub mod kubeconfig;
pub mod kubectl;
pub mod kubeseal;
pub mod laptop;
pub mod manifests;
pub mod narrator;
pub mod needs;
pub mod node;
pub mod openbao;
pub mod page;
pub mod pods;
pub mod process;
pub mod promtool;
pub mod rights;
pub mod schemas;
pub mod servers;
pub mod space;
pub mod stage;
pub mod wait;

pub use anyhow::{Context, Result, anyhow, bail, ensure};
pub use control_plane::ControlPlane;
pub use controller::Controller;
pub use laptop::Laptop;
pub use space::{Space, in_cluster, in_namespace, in_own_cluster};
pub use stage::Stage;
