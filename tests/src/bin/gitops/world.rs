//! Who is there: a cluster with Argo CD, our controller once the chart is installed, and a person with a repository.

use std::io::Write;
use std::sync::Arc;

use anyhow::{Context, Result};
use kube::Client;
use seal_tests::argo_cd::ArgoCd;
use seal_tests::control_plane::Further;
use seal_tests::install::NAMESPACE;
use seal_tests::laptop::secret_manifest;
use seal_tests::narrator::Narrator;
use seal_tests::process::tail;
use seal_tests::stage::RECOVERY;
use seal_tests::{ControlPlane, Controller, Laptop, Space, Stage, dump};

/// The ring that everything is sealed to: the one that the chart has the controller make.
pub(crate) const RING: &str = "default";

/// What the steps share.
pub(crate) struct World<'a> {
    // The order is the order of the drop.
    pub(crate) controller: Option<Controller>,
    argo_cd: ArgoCd,
    pub(crate) plane: Arc<ControlPlane>,
    pub(crate) client: Client,
    pub(crate) laptop: Arc<Laptop>,
    pub(crate) narrator: &'a mut Narrator,
}

/// Deployments are judged here: somebody must look at them.
pub(crate) fn further() -> Further {
    let controller_manager = vec!["--controllers=deployment-controller,replicaset-controller".to_owned()];
    Further { controller_manager, ..Further::default() }
}

impl<'a> World<'a> {
    pub(crate) async fn make(plane: Arc<ControlPlane>, narrator: &'a mut Narrator) -> Result<Self> {
        narrator.say("etcd, kube-apiserver and kube-controller-manager, the real ones, on 127.0.0.1 alone.");
        narrator.step("Start Argo CD: Redis, repo-server, application controller");
        let argo_cd = ArgoCd::start(&plane).await?;
        let client = plane.client().await?;
        let laptop = Arc::new(Laptop::new(plane.kubeconfig())?);
        let recovery = laptop.seal(&["keygen", "-w", RECOVERY])?;
        laptop.write("recovery.pub", recovery)?;
        Ok(Self { controller: None, argo_cd, plane, client, laptop, narrator })
    }

    /// The controller, which runs once the chart is installed.
    pub(crate) fn controller(&self) -> Result<&Controller> {
        self.controller.as_ref().context("the chart is not installed yet")
    }

    /// The person's view of a namespace: files of the laptop, objects of the cluster.
    pub(crate) fn stage(&self, namespace: &str) -> Stage {
        let plane = Arc::clone(&self.plane);
        let space = Space { plane, client: self.client.clone(), name: namespace.to_owned() };
        Stage { space, laptop: Arc::clone(&self.laptop), ring: RING.to_owned() }
    }

    /// Writes a sealed file, `FOLDER/NAME.yaml`, for the namespace that is called as the folder; commits nothing.
    pub(crate) fn seal(&self, folder: &str, name: &str, data: &[(&str, &str)]) -> Result<String> {
        let file = format!("{folder}/{name}.yaml");
        std::fs::create_dir_all(self.laptop.path(folder)).with_context(|| format!("make {folder}"))?;
        self.laptop.seal_with(&["-w", &file], secret_manifest(folder, name, data)?)?;
        Ok(file)
    }

    /// What a failed step leaves behind.
    pub(crate) async fn show(&self) {
        let scratch = self.plane.guard().scratch();
        let read = |name: &str| std::fs::read_to_string(scratch.join(format!("{name}.log"))).unwrap_or_default();
        let said = ["argocd-application-controller", "argocd-repo-server"].map(|name| tail(&read(name), 30));
        let mut text = said.join("\n---\n");
        for application in self.applications_as_they_are().await.unwrap_or_default() {
            text += &format!("\n--- {application}");
        }
        let _ = writeln!(std::io::stderr(), "{text}");
        dump::show(&self.stage(NAMESPACE).space).await;
    }

    /// Fails if a part of Argo CD or the controller has ended.
    pub(crate) fn assert_running(&self) -> Result<()> {
        self.argo_cd.assert_running()?;
        self.controller.as_ref().map_or(Ok(()), |controller| controller.process().assert_running())
    }
}
