//! Who is there: a cluster with a node, the released image in it, a person with a repository, and Helm.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node as NodeObject, Pod};
use kube::api::{Api, ListParams};
use kube::{Client, ResourceExt};
use seal_tests::helm::Helm;
use seal_tests::install::{CONTROLLER, NAMESPACE};
use seal_tests::narrator::Narrator;
use seal_tests::node::{self, Node, Programs};
use seal_tests::process::tail;
use seal_tests::stage::RECOVERY;
use seal_tests::{ControlPlane, Laptop, Space, Stage, dump, wait};

use crate::machine::{IMAGE, SANDBOX, group_of};

/// The ring that everything is sealed to: the one that the chart has the controller make.
pub(crate) const RING: &str = "default";
/// The application's namespace.
pub(crate) const SHOP: &str = "shop";
/// For Helm: where, and to wait, on a machine that may be busy with something else.
pub(crate) const WAIT: [&str; 5] = ["--namespace", NAMESPACE, "--wait", "--timeout", "5m"];
/// How many replicas the chart has.
const REPLICAS: i32 = 2;

/// What the steps share.
pub(crate) struct World<'a> {
    // The order is the order of the drop.
    node: Option<Node>,
    pub(crate) plane: Arc<ControlPlane>,
    pub(crate) helm: Arc<Helm>,
    pub(crate) laptop: Arc<Laptop>,
    pub(crate) narrator: &'a mut Narrator,
    folder: &'a Path,
}

impl<'a> World<'a> {
    /// In the namespaces: gives them a network, and starts a control plane.
    pub(crate) fn make(folder: &'a Path, narrator: &'a mut Narrator) -> Result<Self> {
        narrator.step("Start a control plane and a node");
        node::prepare()?;
        let plane = Arc::new(ControlPlane::start_with(|_| Ok(node::further()))?);
        let laptop = Laptop::new(plane.kubeconfig())?;
        let recovery = laptop.seal(&["keygen", "-w", RECOVERY])?;
        laptop.write("recovery.pub", recovery)?;
        let helm = Arc::new(Helm::of(plane.kubeconfig())?);
        Ok(Self { node: None, plane, helm, laptop: Arc::new(laptop), narrator, folder })
    }

    pub(crate) async fn with_node(mut self) -> Result<Self> {
        let images = [SANDBOX, IMAGE].map(|image| self.folder.join(image));
        let group = group_of(self.folder)?;
        self.node = Some(Node::start(&self.plane, &Programs::find()?, &images, group).await?);
        let nodes: Api<NodeObject> = Api::all(self.client().await?);
        let node = nodes.get(node::NAME).await?.status.and_then(|status| status.node_info);
        let node = node.context("a node says what it is")?;
        self.narrator.say(format!(
            "The node is Ready: kubelet {} with {}, kube-scheduler and kube-proxy, the real ones; control groups v{}.",
            node.kubelet_version,
            node.container_runtime_version,
            node::groups_version()
        ));
        Ok(self)
    }

    pub(crate) fn node(&mut self) -> Result<&mut Node> {
        self.node.as_mut().context("the node was started")
    }

    pub(crate) async fn client(&self) -> Result<Client> {
        self.plane.client().await
    }

    /// The application's namespace, seen by its people.
    pub(crate) async fn stage(&self) -> Result<Stage> {
        let space = Space { plane: Arc::clone(&self.plane), client: self.client().await?, name: SHOP.to_owned() };
        Ok(Stage { space, laptop: Arc::clone(&self.laptop), ring: RING.to_owned() })
    }

    pub(crate) async fn pods(&self) -> Result<Vec<Pod>> {
        let pods: Api<Pod> = Api::namespaced(self.client().await?, NAMESPACE);
        Ok(pods.list(&ListParams::default()).await?.items)
    }

    /// The pod that works; the others wait.
    pub(crate) async fn leading_pod(&self) -> Result<Pod> {
        let leader = self.leader().await?;
        let mut pods = self.pods().await?.into_iter();
        pods.find(|pod| pod.name_any() == leader).context("the pod that works is gone")
    }

    /// Its name.
    pub(crate) async fn leader(&self) -> Result<String> {
        let leases: Api<Lease> = Api::namespaced(self.client().await?, NAMESPACE);
        let pods = self.pods().await?;
        wait::until("a running pod holds the lease", || async {
            let holder = leases.get(CONTROLLER).await?.spec.and_then(|spec| spec.holder_identity).unwrap_or_default();
            Ok(pods.iter().map(ResourceExt::name_any).find(|pod| holder.starts_with(pod.as_str())))
        })
        .await
    }

    /// How often the containers of the pods were started again.
    pub(crate) async fn restarts(&self) -> Result<i32> {
        let pods = self.pods().await?;
        let statuses = pods.iter().filter_map(|pod| pod.status.as_ref()?.container_statuses.as_ref()).flatten();
        Ok(statuses.map(|status| status.restart_count).sum())
    }

    /// Says whether the node takes new pods.
    pub(crate) async fn cordon(&self, cordoned: bool) -> Result<()> {
        let nodes: Api<NodeObject> = Api::all(self.client().await?);
        if cordoned {
            nodes.cordon(node::NAME).await?
        } else {
            nodes.uncordon(node::NAME).await?
        };
        Ok(())
    }

    /// Waits until every replica that there should be is ready, and there is no other.
    pub(crate) async fn all_ready(&self) -> Result<()> {
        let deployments: Api<Deployment> = Api::namespaced(self.client().await?, NAMESPACE);
        wait::until("every replica is ready", || async {
            let found = deployments.get(CONTROLLER).await?;
            let status = found.status.unwrap_or_default();
            let counts =
                [status.ready_replicas, status.updated_replicas, status.replicas].map(Option::unwrap_or_default);
            ensure!(
                counts == [REPLICAS; 3] && status.observed_generation == found.metadata.generation,
                "ready, updated, all: {counts:?}"
            );
            let pods = self.pods().await?.len();
            ensure!(pods == REPLICAS as usize, "{pods} pods, with those that end");
            Ok(Some(()))
        })
        .await
    }

    /// What a failed step leaves behind.
    pub(crate) async fn show(&self) {
        let scratch = self.plane.guard().scratch();
        let mut text = String::new();
        for name in ["kubelet", "containerd", "kube-scheduler", "kube-proxy"] {
            let log = std::fs::read_to_string(scratch.join(format!("{name}.log"))).unwrap_or_default();
            text += &format!("---- {name}\n{}\n", tail(&log, 20));
        }
        for pod in self.pods().await.unwrap_or_default() {
            let status = serde_json::to_string(&pod.status).unwrap_or_default();
            text += &format!("---- pod {}\n{status}\n", pod.name_any());
        }
        let _ = writeln!(std::io::stderr(), "{text}");
        if let Ok(stage) = self.stage().await {
            dump::show(&stage.space).await;
        }
    }
}
