//! The built controller as a process: as the chart's Deployment says, with a pod's token and rights, and none of an
//! administrator's.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::{Context, Result, ensure};
use rustix::process::Signal;

use crate::control_plane::{ControlPlane, free_ports};
use crate::http::{self, Answer};
use crate::install::{CONTROLLER, Container, NAMESPACE};
use crate::process::{Guard, Process, command};
use crate::{binaries, wait};

/// One replica; killed when dropped.
#[derive(Debug)]
pub struct Controller {
    name: String,
    process: Mutex<Process>,
    address: SocketAddr,
}

impl Controller {
    /// Starts a replica as the Deployment in the cluster says, and does not wait for anything. The name only names its
    /// log. A flag among `further` beats the Deployment's.
    ///
    /// It logs at trace level: whatever it could ever say is in its log.
    pub async fn spawn(plane: &ControlPlane, name: &str, further: &[&str]) -> Result<Self> {
        let container = Container::of(&plane.client().await?, NAMESPACE, CONTROLLER).await?;
        let kubeconfig = plane.kubeconfig_of(&container.namespace, &container.account).await?;
        Self::spawn_with(plane.guard(), name, &kubeconfig, &container, further)
    }

    /// Starts a replica that speaks as this kubeconfig says.
    ///
    /// What differs from the pod: the kubeconfig stands for the token and the authority that a pod has as files, the
    /// port is a free one of the loopback, and the log is for tests.
    pub fn spawn_with(
        guard: &Guard,
        name: &str,
        kubeconfig: &Path,
        container: &Container,
        further: &[&str],
    ) -> Result<Self> {
        let [port] = free_ports()?;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut run = command(binaries::seal_controller()?);
        let ours = ["--listen", "--log-format", "--log-level"];
        let is_kept = |flag: &&String| !ours.iter().chain(further).any(|other| name_of(other) == name_of(flag));
        run.args(container.args.iter().filter(is_kept));
        run.arg("--kubeconfig").arg(kubeconfig);
        run.args(["--listen", &address.to_string(), "--log-format", "json"]).args(further);
        // A flag among `further` beats the variable.
        run.env("SEALWRIGHT_LOG_LEVEL", "trace").env("SEALWRIGHT_REPLICA", name);
        run.envs(container.env.iter().map(|(name, value)| (name, value)));
        let process = Mutex::new(guard.spawn(name, &mut run)?);
        Ok(Self { name: name.to_owned(), process, address })
    }

    /// Starts a replica and waits until it is ready.
    pub async fn start(plane: &ControlPlane, name: &str, further: &[&str]) -> Result<Self> {
        let controller = Self::spawn(plane, name, further).await?;
        controller.ready().await?;
        Ok(controller)
    }

    /// Waits until `/readyz` says yes.
    pub async fn ready(&self) -> Result<()> {
        wait::until(&format!("{} is ready", self.name), || async {
            self.process().assert_running()?;
            let answer = self.get("/readyz").await?;
            ensure!(answer.status == 200, "it says {} {}", answer.status, answer.body);
            Ok(Some(()))
        })
        .await
    }

    /// Asks it.
    pub async fn get(&self, path: &str) -> Result<Answer> {
        http::get(self.address, path).await.with_context(|| format!("GET {path} of {}", self.name))
    }

    /// Asks it, with a body.
    pub async fn post(&self, path: &str, body: Vec<u8>) -> Result<Answer> {
        http::post(self.address, path, body).await.with_context(|| format!("POST {path} of {}", self.name))
    }

    /// The sum of a metric over all label sets that contain every one of `labels` (such as `kind="SealedSecret"`).
    pub async fn metric(&self, name: &str, labels: &[&str]) -> Result<f64> {
        Ok(http::metric(&self.get("/metrics").await?.body, name, labels))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Everything that it has logged.
    pub fn log(&self) -> String {
        self.process().log()
    }

    /// The process itself.
    pub fn process(&self) -> MutexGuard<'_, Process> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends it as a kubelet does, and waits for its end; it hands the lease over.
    pub async fn end(&self) -> Result<()> {
        self.process().signal(Signal::TERM)?;
        wait::until(&format!("{} has ended", self.name), || async { Ok(self.process().ended()?.map(drop)) }).await
    }

    /// `kill -9`.
    pub fn kill(&self) {
        self.process().kill();
    }

    /// Stops its time.
    pub fn freeze(&self) -> Result<()> {
        self.process().signal(Signal::STOP)
    }

    /// Lets its time go on.
    pub fn thaw(&self) -> Result<()> {
        self.process().signal(Signal::CONT)
    }
}

/// `--flag` of `--flag=value`.
fn name_of(flag: &str) -> &str {
    flag.split('=').next().unwrap_or_default()
}
