//! The machine that all of it runs on: what it must have, and the namespaces that keep it as it was.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, ensure};
use seal_tests::binaries::{self, ROOT};
use seal_tests::helm::Helm;
use seal_tests::narrator::Narrator;
use seal_tests::node::{self, NEEDS, Programs};
use seal_tests::{kubectl, needs, openbao, wait};
use tempfile::TempDir;
use tokio::signal::unix::{SignalKind, signal};

/// The archive of the controller's image, in the folder.
pub(crate) const IMAGE: &str = "seal-controller.tar";
/// The archive of the sandbox's.
pub(crate) const SANDBOX: &str = "pause.tar";

/// Everything that needs the machine's own network.
pub(crate) struct Machine(TempDir);

impl Machine {
    pub(crate) fn prepare(image: Option<&Path>, narrator: &mut Narrator) -> Result<Self> {
        narrator.title("Sealwright on a real node");
        narrator.say("Programs, image and node first; then all of it in namespaces of its own.");
        needs::programs(NEEDS)?;
        ensure!(
            rustix::process::geteuid().is_root(),
            "this needs root, for it makes namespaces, mounts and containers"
        );
        binaries::build_visibly()?;
        let folder = tempfile::Builder::new().prefix("sealwright-node-").tempdir().context("make a folder")?;
        Programs::find()?.sandbox_image(folder.path())?;
        Helm::find()?;
        openbao::find()?;
        kubectl::kubectl()?;
        let archive = folder.path().join(IMAGE);
        match image {
            Some(given) => drop(fs::copy(given, &archive).with_context(|| format!("copy {given:?}"))?),
            None => {
                narrator.say(".ci/image");
                let built = Command::new(PathBuf::from(ROOT).join(".ci/image")).arg(&archive).status();
                ensure!(built.context("start .ci/image")?.success(), "`.ci/image` failed");
            }
        }
        Ok(Self(folder))
    }

    /// Runs this program again as the first process of namespaces of its own: when it ends, so does all that runs there.
    /// However this one ends but by `kill -9`, it tidies up.
    pub(crate) fn enter(self) -> Result<ExitCode> {
        let own = std::env::current_exe().context("find this program's own file")?;
        let mut inside = tokio::process::Command::new("unshare");
        inside.args([
            "--net",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "--propagation",
            "private",
        ]);
        inside.arg(own).arg("--inside").arg(self.0.path());
        // Built above; cargo could not reach a registry from there.
        inside.env("SEAL_BIN", binaries::seal()?).env("SEAL_CONTROLLER_BIN", binaries::seal_controller()?);
        // What it leaves behind goes with this folder.
        inside.env("TMPDIR", self.0.path());
        let group = group_of(self.0.path())?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start a runtime")?;
        runtime.block_on(async {
            let hear = |kind| signal(kind).context("listen to signals");
            let (mut interrupted, mut ended) = (hear(SignalKind::interrupt())?, hear(SignalKind::terminate())?);
            let mut hung_up = hear(SignalKind::hangup())?;
            node::make_groups(group)?;
            let mut inside = inside.spawn().context("start `unshare`")?;
            let status = tokio::select! {
                status = inside.wait() => Some(status),
                // At a terminal the program inside hears it too, and ends by itself.
                _ = interrupted.recv() => tokio::time::timeout(wait::PATIENCE, inside.wait()).await.ok(),
                _ = ended.recv() => None,
                _ = hung_up.recv() => None,
            };
            // It has ended already, unless nobody wants to wait for it.
            let _ = inside.kill().await;
            wait::until("the control groups are gone", || async { Ok(node::remove_groups(group).then_some(())) })
                .await?;
            let is_success = status.transpose().context("wait for `unshare`")?.is_some_and(|status| status.success());
            Ok(if is_success { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        })
    }
}

/// The control group of a run: named after its folder, which no other run has.
pub(crate) fn group_of(folder: &Path) -> Result<&str> {
    folder.file_name().and_then(|name| name.to_str()).context("the folder was given a name")
}
