//! A real node: containerd, kubelet, kube-scheduler and kube-proxy beside a control plane, and pods that run.
//!
//! The user's cache, or builds from `servers/node/go.mod` and `servers/containerd/go.mod` -> [`Programs`] -> processes in
//! namespaces of the kernel that the caller made ([`prepare`]) -> [`Node`].
//!
//! Everything of it listens on, and is reached at, [`ADDRESS`], in a network of its own.

mod containerd;
mod groups;
mod kernel;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Node as NodeObject;
use kube::api::Api;
use serde_json::json;

use self::containerd::Containerd;
pub use self::groups::{groups_version, make_groups, remove_groups};
pub use self::kernel::FirstProcess;
use crate::control_plane::{ControlPlane, Further};
use crate::go_build::GoModule;
use crate::needs::Need;
use crate::process::{Process, command};
use crate::wait;

const PAUSE: &str = "pause";
const KUBELET: &str = "kubelet";
const PROXY: &str = "kube-proxy";
const SCHEDULER: &str = "kube-scheduler";

const MODULE: GoModule = GoModule {
    folder: concat!(env!("CARGO_MANIFEST_DIR"), "/servers/node"),
    title: "a Kubernetes node",
    cache: "node",
    dependency: "k8s.io/kubernetes",
    sources: &["pause/main.go"],
    programs: &[
        (PAUSE, "sealwright.dev/tests/servers/node/pause"),
        (PROXY, "k8s.io/kubernetes/cmd/kube-proxy"),
        (SCHEDULER, "k8s.io/kubernetes/cmd/kube-scheduler"),
        (KUBELET, "k8s.io/kubernetes/cmd/kubelet"),
    ],
    tags: "",
    ldflags: crate::servers::stamped,
    otherwise: None,
};

/// What it needs besides, and root.
pub const NEEDS: &[Need] = &[
    ("runc", "install runc (Debian: apt install runc)"),
    ("iptables", "install iptables (Debian: apt install iptables)"),
    ("conntrack", "install conntrack (Debian: apt install conntrack)"),
    ("ip", "install iproute2 (Debian: apt install iproute2)"),
    ("unshare", "install util-linux (Debian: apt install util-linux)"),
    ("buildah", "install buildah (Debian: apt install buildah)"),
    (
        "go",
        "install Go 1.26 or later, https://go.dev/dl: containerd and the node's own programs are built from source, once",
    ),
];

/// Where the plugins of the pods' network may be.
const PLUGINS: [&str; 2] = ["/usr/lib/cni", "/opt/cni/bin"];

/// The node's own address, which the API server's certificate names.
pub const ADDRESS: &str = "10.99.0.1";
/// Its name.
pub const NAME: &str = "node";

const SANDBOX: &str = "localhost/pause:1";

/// What must be there before the namespaces are made, in which there is no network.
#[derive(Debug, Clone)]
pub struct Programs {
    kubernetes: PathBuf,
    containerd: PathBuf,
}

impl Programs {
    /// Finds them, building what is missing.
    pub fn find() -> Result<Self> {
        ensure!(
            network_plugins().is_some(),
            "no network plugins in {PLUGINS:?} (Debian: apt install containernetworking-plugins)"
        );
        Ok(Self { kubernetes: MODULE.built()?, containerd: containerd::MODULE.built()? })
    }

    /// Makes the image of the containers that hold the pods' networks, as an archive in `folder`.
    pub fn sandbox_image(&self, folder: &Path) -> Result<PathBuf> {
        fs::copy(self.kubernetes.join(PAUSE), folder.join(PAUSE)).context("copy the sandbox's program")?;
        let file = folder.join("Containerfile");
        fs::write(&file, "FROM scratch\nCOPY pause /pause\nENTRYPOINT [\"/pause\"]\n")
            .context("write a Containerfile")?;
        let archive = folder.join("pause.tar");
        let store = |buildah: &mut Command| {
            buildah.arg("--root").arg(folder.join("images")).arg("--runroot").arg(folder.join("run"));
            buildah.args(["--storage-driver", "vfs"]);
        };
        let mut build = Command::new("buildah");
        store(&mut build);
        run(build.args(["bud", "--isolation", "chroot", "--tag", SANDBOX, "--file"]).arg(&file).arg(folder))?;
        let mut push = Command::new("buildah");
        store(&mut push);
        run(push.args(["push", SANDBOX, &format!("oci-archive:{}:{SANDBOX}", archive.display())]))?;
        Ok(archive)
    }
}

fn network_plugins() -> Option<&'static str> {
    PLUGINS.into_iter().find(|folder| Path::new(folder).join("bridge").is_file())
}

/// Gives the network namespace of this process the node's address, and its mount namespace empty folders where the node's
/// programs keep their state. Only for the first process of namespaces of its own: elsewhere it would be the machine's.
pub fn prepare() -> Result<()> {
    ensure!(std::process::id() == 1, "this is not a namespace of its own: run `cargo node`");
    let ip = |arguments: &str| run(Command::new("ip").args(arguments.split(' ')));
    ip("link set lo up")?;
    ip("link add node0 type veth peer name node1")?;
    ip(&format!("address add {ADDRESS}/24 dev node0"))?;
    ip("link set node0 up")?;
    ip("link set node1 up")?;
    ip("route add default dev node0")?;
    fs::write("/proc/sys/net/ipv4/ip_forward", "1").context("let packets be forwarded")?;
    for folder in ["/run", "/var/lib/cni", "/var/log/pods", "/var/log/containers", "/var/lib/kubelet"] {
        fs::create_dir_all(folder).with_context(|| format!("make {folder}"))?;
        run(Command::new("mount").args(["-t", "tmpfs", "tmpfs", folder]))?;
    }
    run(Command::new("mount").args(["--make-rshared", "/var/lib/kubelet"]))
}

/// What the servers of a control plane with a node need besides.
pub fn further() -> Further {
    let apiserver = [
        "--bind-address=0.0.0.0".to_owned(),
        format!("--advertise-address={ADDRESS}"),
        "--kubelet-preferred-address-types=InternalIP".to_owned(),
        // Pods are reached as they are.
        "--egress-selector-config-file=".to_owned(),
    ];
    let controllers = "--controllers=deployment-controller,replicaset-controller,endpoints-controller,\
                       endpointslice-controller,node-lifecycle-controller,taint-eviction-controller,\
                       disruption-controller,root-ca-certificate-publisher-controller,pod-garbage-collector-controller";
    Further { apiserver: apiserver.into(), controller_manager: vec![controllers.to_owned()] }
}

/// A running node; its processes end with those of the control plane, its containers with their namespace.
#[derive(Debug)]
pub struct Node {
    programs: Programs,
    home: PathBuf,
    group: String,
    // The order is the order of the drop.
    kubelet: Process,
    containerd: Containerd,
    _scheduler: Process,
    _proxy: Process,
}

impl Node {
    /// Starts everything of it with these images, and waits until it is ready for pods, which are to run in the control
    /// group `group` (see [`make_groups`]).
    pub async fn start(plane: &ControlPlane, programs: &Programs, images: &[PathBuf], group: &str) -> Result<Self> {
        let home = plane.guard().scratch().join(NAME);
        fs::create_dir_all(home.join("cni")).context("make the node's folder")?;
        configure(&home, group)?;
        containerd::configure(&programs.containerd, &home)?;
        let containerd = Containerd::start(plane.guard(), &programs.containerd, &home).await?;
        for image in images {
            containerd.import(image)?;
        }
        let kubeconfig = plane.kubeconfig();
        let mut scheduler = command(programs.kubernetes.join(SCHEDULER));
        scheduler.arg("--kubeconfig").arg(&kubeconfig).args(["--leader-elect=false", "--bind-address=127.0.0.1"]);
        scheduler.arg("--authentication-kubeconfig").arg(&kubeconfig);
        scheduler.arg("--authorization-kubeconfig").arg(&kubeconfig);
        let mut proxy = command(programs.kubernetes.join(PROXY));
        proxy.arg("--kubeconfig").arg(&kubeconfig).args([
            &format!("--hostname-override={NAME}"),
            "--proxy-mode=iptables",
            // The machine's own limits stay as they are.
            "--conntrack-max-per-core=0",
            "--conntrack-tcp-timeout-established=0",
            "--conntrack-tcp-timeout-close-wait=0",
        ]);
        let node = Self {
            kubelet: start_kubelet(plane, programs, &home)?,
            programs: programs.clone(),
            home,
            group: group.to_owned(),
            containerd,
            _scheduler: plane.guard().spawn(SCHEDULER, &mut scheduler)?,
            _proxy: plane.guard().spawn(PROXY, &mut proxy)?,
        };
        node.ready(plane).await?;
        Ok(node)
    }

    async fn ready(&self, plane: &ControlPlane) -> Result<()> {
        let nodes: Api<NodeObject> = Api::all(plane.client().await?);
        wait::until("the node is ready", || async {
            let status = nodes.get(NAME).await?.status.unwrap_or_default();
            let conditions = status.conditions.unwrap_or_default();
            let ready = conditions.iter().find(|condition| condition.type_ == "Ready").context("no word of it yet")?;
            ensure!(ready.status == "True", "it says {:?}", ready.message);
            Ok(Some(()))
        })
        .await
    }

    /// Ends everything that runs on it at once, as a loss of power would: kubelet, containerd, and every container.
    pub async fn lose_power(&mut self) -> Result<()> {
        self.kubelet.kill();
        let running = self.containerd.tasks()?;
        self.containerd.kill();
        for entry in fs::read_dir("/proc").context("list processes")? {
            let process = entry.context("list processes")?.path();
            let words = fs::read(process.join("cmdline")).unwrap_or_default();
            let words = String::from_utf8_lossy(&words);
            let is_ours = words.contains("containerd-shim")
                || words.starts_with("/seal-controller")
                || words.starts_with("/pause");
            if let (true, Some(id)) = (is_ours, process.file_name().and_then(|name| name.to_str())) {
                let _ = run(Command::new("kill").args(["-s", "KILL", id]));
            }
        }
        ensure!(!running.trim().is_empty(), "no container was running");
        // What is in memory is gone too.
        let pods = format!("{}/kubepods", self.group);
        wait::until("the containers' groups are gone", || async { Ok(remove_groups(&pods).then_some(())) }).await?;
        run(Command::new("mount").args(["-t", "tmpfs", "tmpfs", "/run"]))
    }

    /// Starts it again, and waits until it is heard of.
    pub async fn boot(&mut self, plane: &ControlPlane) -> Result<()> {
        let leases: Api<Lease> = Api::namespaced(plane.client().await?, "kube-node-lease");
        let renewed = || async { anyhow::Ok(leases.get(NAME).await?.spec.and_then(|spec| spec.renew_time)) };
        let before = renewed().await?;
        self.containerd = Containerd::start(plane.guard(), &self.programs.containerd, &self.home).await?;
        self.kubelet = start_kubelet(plane, &self.programs, &self.home)?;
        wait::until("the node is heard of", || async { Ok((renewed().await? != before).then_some(())) }).await
    }

    /// Gives an image a second name.
    pub fn tag(&self, image: &str, name: &str) -> Result<()> {
        self.containerd.tag(image, name)
    }
}

fn start_kubelet(plane: &ControlPlane, programs: &Programs, home: &Path) -> Result<Process> {
    let mut kubelet = command(programs.kubernetes.join(KUBELET));
    kubelet.arg("--config").arg(home.join("kubelet.json")).arg("--kubeconfig").arg(plane.kubeconfig());
    kubelet.args([&format!("--hostname-override={NAME}"), &format!("--node-ip={ADDRESS}")]);
    plane.guard().spawn(KUBELET, &mut kubelet)
}

fn configure(home: &Path, group: &str) -> Result<()> {
    let bridge = json!({
        "cniVersion": "1.0.0", "name": "pods",
        "plugins": [{
            "type": "bridge", "bridge": "pods0", "isGateway": true, "hairpinMode": true,
            "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.98.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}]},
        }],
    });
    fs::write(home.join("cni/pods.conflist"), bridge.to_string()).context("write the pods' network")?;
    let kubelet = json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
        "authentication": {"anonymous": {"enabled": true}, "webhook": {"enabled": false}},
        "authorization": {"mode": "AlwaysAllow"},
        "address": "127.0.0.1",
        "containerRuntimeEndpoint": format!("unix://{}", containerd::SOCKET),
        "cgroupDriver": "cgroupfs", "cgroupRoot": format!("/{group}"), "enforceNodeAllocatable": [], "failCgroupV1": false,
        "failSwapOn": false, "localStorageCapacityIsolation": false, "oomScoreAdj": 0,
        // The disk of whoever runs this is not what is under test.
        "evictionHard": {"memory.available": "0%", "nodefs.available": "0%", "nodefs.inodesFree": "0%",
                         "imagefs.available": "0%"},
        "imageGCHighThresholdPercent": 100,
    });
    fs::write(home.join("kubelet.json"), kubelet.to_string()).context("write the kubelet's configuration")
}

fn run(command: &mut Command) -> Result<()> {
    output(command).map(drop)
}

fn output(command: &mut Command) -> Result<Vec<u8>> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("start {:?}", command.get_program()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{:?} {:?} failed: {said}", command.get_program(), command.get_args());
    Ok(output.stdout)
}
