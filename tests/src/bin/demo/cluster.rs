//! The cluster of the story: one started for the occasion, or one's own.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{Api, DeleteParams};
use kube::{Client, ResourceExt};
use seal_tests::control_plane::client_of;
use seal_tests::helm::{self, Helm, RELEASE};
use seal_tests::install::{self, CONTROLLER, Container, NAMESPACE};
use seal_tests::process::Guard;
use seal_tests::{ControlPlane, Controller, binaries, kubeconfig, manifests, wait};

use seal_tests::narrator::Narrator;

/// The namespace of the application in the story.
pub(crate) const SHOP: &str = "sealwright-demo";

/// Where the story takes place.
pub(crate) struct Cluster {
    // The order is the order of the drop.
    controller: Option<Controller>,
    plane: Option<Arc<ControlPlane>>,
    guard: Guard,
    kubeconfig: PathBuf,
    installed_here: bool,
}

impl Cluster {
    /// Builds the programs, and starts a control plane where none is given.
    pub(crate) fn prepare(given: Option<&Path>, narrator: &mut Narrator) -> Result<Self> {
        narrator.step("Build seal and seal-controller, and find a cluster");
        binaries::build_visibly()?;
        let guard = Guard::start()?;
        let (plane, kubeconfig) = match given {
            Some(file) => (None, file.canonicalize().with_context(|| format!("find {file:?}"))?),
            None => {
                let begin = Instant::now();
                let plane = Arc::new(ControlPlane::start()?);
                let kubeconfig = plane.kubeconfig();
                narrator.say("etcd, kube-apiserver and kube-controller-manager, the real ones, on 127.0.0.1 alone.");
                narrator.seen("the API server is ready", begin);
                (Some(plane), kubeconfig)
            }
        };
        Ok(Self { controller: None, plane, guard, kubeconfig, installed_here: false })
    }

    pub(crate) fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    pub(crate) async fn client(&self) -> Result<Client> {
        client_of(&self.kubeconfig).await
    }

    /// What other servers of the story end with.
    pub(crate) fn guard(&self) -> &Guard {
        &self.guard
    }

    /// Where the controller of the story answers, unless the cluster had its own.
    pub(crate) fn controller_url(&self) -> Option<String> {
        self.controller.as_ref().map(Controller::url)
    }

    /// Installs Sealwright and starts a controller, unless the cluster has them.
    pub(crate) async fn install(&mut self, recovery: &str, narrator: &Narrator) -> Result<()> {
        let client = self.client().await?;
        let namespaces: Api<Namespace> = Api::all(client.clone());
        if namespaces.get_opt(NAMESPACE).await.context("look for an installation")?.is_some() {
            narrator.say(format!("This cluster has a namespace {NAMESPACE}: its own controller is used."));
        } else {
            narrator.command(format!(
                "helm install {RELEASE} charts/sealwright --namespace {NAMESPACE} --create-namespace \\\n    \
                 --set-file keyRing.recovery=recovery.pub"
            ));
            self.installed_here = true;
            let recovery = format!("keyRing.recovery={{{}}}", recovery.trim());
            let flags = ["--set", &recovery, "--set", "replicaCount=0"];
            // The image is not what is shown here: in a cluster with nodes no pod is to look for it.
            let flags = if self.plane.is_some() { &flags[..2] } else { &flags };
            install::chart(&client, &Helm::find()?.template(flags)?).await?;
            self.start_controller(&client, narrator).await?;
        }
        let shop = format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {SHOP}}}");
        manifests::apply(&client, &manifests::parse(&shop)?).await.map(drop)
    }

    async fn start_controller(&mut self, client: &Client, narrator: &Narrator) -> Result<()> {
        let container = Container::of(client, NAMESPACE, CONTROLLER).await?;
        let account = self.guard.scratch().join("controller.kubeconfig");
        kubeconfig::write_account(&account, &self.kubeconfig, &container.namespace, &container.account).await?;
        narrator.say(
            "The controller runs here and not in a pod: as the Deployment says, with its ServiceAccount's rights.",
        );
        let begin = Instant::now();
        let controller = Controller::spawn_with(&self.guard, CONTROLLER, &account, &container, &[])?;
        controller.ready().await?;
        narrator.seen("the controller is ready: it has made its identity and the first key ring", begin);
        self.controller = Some(controller);
        Ok(())
    }

    /// Removes what was installed into a cluster of one's own. One that was started ends with this process.
    pub(crate) async fn leave(&mut self, narrator: &Narrator) -> Result<()> {
        if self.plane.is_some() {
            return Ok(());
        }
        let client = self.client().await?;
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let _ = namespaces.delete(SHOP, &DeleteParams::default()).await;
        if !self.installed_here {
            return Ok(());
        }
        narrator.say("Removing what was installed.");
        self.controller = None;
        let mut installed = helm::rendered()?;
        installed.push(install::namespace()?);
        for object in installed {
            let api = manifests::api_of(&client, &object).await?;
            let _ = api.delete(&object.name_any(), &DeleteParams::default()).await;
        }
        wait::until("the namespaces are gone", || async {
            for name in [SHOP, NAMESPACE] {
                ensure!(namespaces.get_opt(name).await?.is_none(), "{name} is still there");
            }
            Ok(Some(()))
        })
        .await
    }
}
