//! containerd, of the line that production has: the images of a node, and its containers.
//!
//! The user's cache, or a build from `servers/containerd/go.mod` -> [`Containerd`], a process; `ctr` asks it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::{SANDBOX, network_plugins, output, run};
use crate::go_build::GoModule;
use crate::process::{Guard, Process, command};
use crate::wait;

const CONTAINERD: &str = "containerd";
const CTR: &str = "ctr";
const SHIM: &str = "containerd-shim-runc-v2";

pub(super) const MODULE: GoModule = GoModule {
    folder: concat!(env!("CARGO_MANIFEST_DIR"), "/servers/containerd"),
    title: CONTAINERD,
    cache: CONTAINERD,
    dependency: "github.com/containerd/containerd/v2",
    sources: &[],
    programs: &[
        (CTR, "github.com/containerd/containerd/v2/cmd/ctr"),
        (SHIM, "github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2"),
        (CONTAINERD, "github.com/containerd/containerd/v2/cmd/containerd"),
    ],
    // Snapshots are made with overlayfs.
    tags: "no_btrfs no_devmapper no_zfs",
    ldflags: |version| format!("-s -w -X github.com/containerd/containerd/v2/version.Version={version}"),
    otherwise: None,
};

pub(super) const SOCKET: &str = "/run/containerd/containerd.sock";

/// A running one.
#[derive(Debug)]
pub(super) struct Containerd {
    programs: PathBuf,
    process: Process,
}

impl Containerd {
    /// Starts it on what [`configure`] wrote, and waits until it answers.
    pub(super) async fn start(guard: &Guard, programs: &Path, home: &Path) -> Result<Self> {
        let mut containerd = command(programs.join(CONTAINERD));
        containerd.arg("--config").arg(home.join("containerd.toml"));
        let started = Self { programs: programs.to_owned(), process: guard.spawn(CONTAINERD, &mut containerd)? };
        wait::until("containerd answers", || async { output(&mut started.ctr(&["version"])).map(|_| Some(())) })
            .await?;
        Ok(started)
    }

    /// Takes the image in this archive.
    pub(super) fn import(&self, image: &Path) -> Result<()> {
        run(self.ctr(&["images", "import"]).arg(image))
    }

    /// Gives an image a second name.
    pub(super) fn tag(&self, image: &str, name: &str) -> Result<()> {
        run(&mut self.ctr(&["images", "tag", image, name]))
    }

    /// The ids of everything that runs.
    pub(super) fn tasks(&self) -> Result<String> {
        String::from_utf8(output(&mut self.ctr(&["tasks", "list", "--quiet"]))?).context("ctr prints text")
    }

    /// Kills it at once. What it started, it started so that it outlives it.
    pub(super) fn kill(&mut self) {
        self.process.kill();
    }

    fn ctr(&self, arguments: &[&str]) -> Command {
        let mut ctr = Command::new(self.programs.join(CTR));
        ctr.args(["--address", SOCKET, "--namespace", "k8s.io"]).args(arguments);
        ctr
    }
}

/// Writes its configuration into the node's folder.
pub(super) fn configure(programs: &Path, home: &Path) -> Result<()> {
    let images = "plugins.\"io.containerd.cri.v1.images\"";
    let runtime = "plugins.\"io.containerd.cri.v1.runtime\"";
    let text = format!(
        "version = 3\nroot = \"{root}\"\nstate = \"/run/containerd\"\n\
         [grpc]\naddress = \"{SOCKET}\"\n\
         [{images}.pinned_images]\nsandbox = \"{SANDBOX}\"\n\
         [{runtime}]\n\
         # Else sandboxes fail where this process itself may not lower its score.\nrestrict_oom_score_adj = true\n\
         [{runtime}.containerd.runtimes.runc]\nruntime_type = \"io.containerd.runc.v2\"\n\
         # Not that of another containerd on the PATH.\nruntime_path = \"{shim}\"\n\
         [{runtime}.containerd.runtimes.runc.options]\nSystemdCgroup = false\n\
         [{runtime}.cni]\nbin_dirs = [\"{plugins}\"]\nconf_dir = \"{network}\"\n",
        root = home.join(CONTAINERD).display(),
        shim = programs.join(SHIM).display(),
        plugins = network_plugins().context("the plugins were found before")?,
        network = home.join("cni").display(),
    );
    fs::write(home.join("containerd.toml"), text).context("write containerd's configuration")
}
