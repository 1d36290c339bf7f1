//! A Kubernetes control plane on loopback, in about four seconds.
//!
//! certificates -> etcd -> kube-apiserver -> kube-controller-manager -> ready: an administrator's kubeconfig.
//!
//! There is no node and no scheduler. Whatever runs "in" this cluster is a process that was started here with the
//! ServiceAccount token that its pod would have.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::Api;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};

use crate::certificates::Certificates;
use crate::egress::Egress;
use crate::kubeconfig;
use crate::process::{Guard, Process, command, tail};
use crate::servers::Servers;
use crate::wait;

/// What kube-controller-manager is asked to run: what a namespace with Secrets needs, and no more.
const CONTROLLERS: &str = "garbage-collector-controller,namespace-controller,serviceaccount-controller,\
                           serviceaccount-token-controller,resourcequota-controller,\
                           clusterrole-aggregation-controller";

const AUDIT_LOG: &str = "audit.log";

/// Another process may take a free port between our look and the server's start; then all is tried again.
const ATTEMPTS: usize = 3;

/// A running control plane; everything of it is gone when it is dropped, and when this process ends.
#[derive(Debug)]
pub struct ControlPlane {
    // The order is the order of the drop: servers, then the guard with the scratch folder.
    controller_manager: Mutex<Process>,
    apiserver: Mutex<Process>,
    etcd: Mutex<Process>,
    egress: Egress,
    certificates: Certificates,
    ports: Ports,
    servers: Servers,
    further: Further,
    guard: Guard,
}

/// Flags besides the usual ones; a later flag beats an earlier one.
#[derive(Debug, Clone, Default)]
pub struct Further {
    /// Of the API server.
    pub apiserver: Vec<String>,
    /// Of the controller manager.
    pub controller_manager: Vec<String>,
}

#[derive(Debug, Clone, Copy)]
struct Ports {
    etcd: u16,
    etcd_peer: u16,
    apiserver: u16,
    controller_manager: u16,
}

impl ControlPlane {
    /// The one of this process, started by whoever asks first.
    ///
    /// Not from async code: it blocks until the API server answers.
    pub fn shared() -> Arc<Self> {
        static SHARED: OnceLock<Result<Arc<ControlPlane>>> = OnceLock::new();
        match SHARED.get_or_init(|| Self::start().map(Arc::new)) {
            Ok(plane) => Arc::clone(plane),
            Err(error) => panic!("no control plane to test against: {error:?}"),
        }
    }

    /// Starts one. Not from async code: it blocks until the API server answers.
    pub fn start() -> Result<Self> {
        Self::start_with(|_| Ok(Further::default()))
    }

    /// Starts one that writes down every request of the user `user`: see [`Self::audited`]. `flags`: further ones of the
    /// API server.
    pub fn start_audited(user: &str, flags: &[&str]) -> Result<Self> {
        Self::start_with(|scratch| {
            let policy = serde_json::json!({
                "apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": ["RequestReceived"],
                "rules": [{"level": "Metadata", "users": [user]}, {"level": "None"}],
            });
            let file = scratch.join("audit-policy.json");
            std::fs::write(&file, policy.to_string()).context("write an audit policy")?;
            let mut apiserver = vec![
                format!("--audit-policy-file={}", file.display()),
                format!("--audit-log-path={}", scratch.join(AUDIT_LOG).display()),
            ];
            apiserver.extend(flags.iter().map(|flag| (*flag).to_owned()));
            Ok(Further { apiserver, ..Further::default() })
        })
    }

    /// Starts one whose servers have further flags, which may name files in the scratch folder.
    pub fn start_with(further: impl Fn(&Path) -> Result<Further>) -> Result<Self> {
        let servers = Servers::find()?;
        let mut attempt = 1;
        loop {
            match Self::try_start(&servers, &further) {
                Err(error) if attempt < ATTEMPTS && format!("{error:?}").contains("address already in use") => {
                    attempt += 1;
                }
                result => return result,
            }
        }
    }

    fn try_start(servers: &Servers, further: impl Fn(&Path) -> Result<Further>) -> Result<Self> {
        let guard = Guard::start()?;
        let further = further(guard.scratch())?;
        let certificates = Certificates::make(&guard.scratch().join("certificates"))?;
        let egress = Egress::start(guard.scratch())?;
        let ports = Ports::free()?;
        let etcd = Mutex::new(start_etcd(&guard, servers, ports)?);
        let apiserver = start_apiserver(&guard, servers, ports, &certificates, egress.config(), &further)?;
        let apiserver = Mutex::new(apiserver);
        let kubeconfig = guard.scratch().join("admin.kubeconfig");
        kubeconfig::write_admin(&kubeconfig, &ports.server(), &certificates.authority, &certificates.admin)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start a runtime")?;
        // The controller manager ends at once if nobody listens yet.
        runtime.block_on(answers(&kubeconfig, [&etcd, &apiserver]))?;
        let controller_manager =
            start_controller_manager(&guard, servers, ports, &certificates, &kubeconfig, &further)?;
        let plane = Self {
            controller_manager: Mutex::new(controller_manager),
            apiserver,
            etcd,
            egress,
            certificates,
            ports,
            servers: servers.clone(),
            further,
            guard,
        };
        runtime.block_on(plane.ready())?;
        Ok(plane)
    }

    /// Waits until the API server is ready and namespaces are being served.
    pub async fn ready(&self) -> Result<()> {
        answers(&self.kubeconfig(), [&self.etcd, &self.apiserver]).await?;
        let accounts: Api<ServiceAccount> = Api::default_namespaced(self.client().await?);
        wait::until("the `default` ServiceAccount exists", || async {
            held(&self.controller_manager).assert_running()?;
            Ok(accounts.get_opt("default").await?.map(drop))
        })
        .await
    }

    /// An administrator's client. It belongs to the runtime that it was made in, so every test makes its own.
    pub async fn client(&self) -> Result<Client> {
        client_of(&self.kubeconfig()).await
    }

    /// An administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.guard.scratch().join("admin.kubeconfig")
    }

    /// Writes a kubeconfig that holds a token of this ServiceAccount, as its pods would.
    pub async fn kubeconfig_of(&self, namespace: &str, account: &str) -> Result<PathBuf> {
        let path = self.guard.scratch().join(format!("{namespace}.{account}.kubeconfig"));
        kubeconfig::write_account(&path, &self.kubeconfig(), namespace, account).await?;
        Ok(path)
    }

    /// The group and the scratch folder that further processes of this cluster belong to.
    pub fn guard(&self) -> &Guard {
        &self.guard
    }

    /// The way from pod addresses to processes.
    pub fn egress(&self) -> &Egress {
        &self.egress
    }

    /// The end of each server's log.
    pub fn logs(&self) -> String {
        let servers = [&self.etcd, &self.apiserver, &self.controller_manager];
        servers.map(|server| tail(&held(server).log(), 20)).join("\n---\n")
    }

    /// What [`Self::start_audited`] has written down so far, without the first `before`: an `audit.k8s.io/v1` Event for
    /// each request.
    pub fn audited(&self, before: usize) -> Result<Vec<serde_json::Value>> {
        let log = std::fs::read_to_string(self.guard.scratch().join(AUDIT_LOG)).context("read the audit log")?;
        // The last line may be half written.
        Ok(log.lines().skip(before).filter_map(|line| serde_json::from_str(line).ok()).collect())
    }

    /// Kills the API server at once.
    pub fn stop_apiserver(&self) {
        held(&self.apiserver).kill();
    }

    /// Starts the API server again, at its old address, and waits until it is ready.
    pub async fn start_apiserver(&self) -> Result<()> {
        let egress = self.egress.config();
        let started =
            start_apiserver(&self.guard, &self.servers, self.ports, &self.certificates, egress, &self.further)?;
        *held(&self.apiserver) = started;
        self.ready().await
    }

    /// Kills etcd at once.
    pub fn stop_etcd(&self) {
        held(&self.etcd).kill();
    }

    /// Starts etcd again, at its old address and with its data.
    pub fn start_etcd(&self) -> Result<()> {
        *held(&self.etcd) = start_etcd(&self.guard, &self.servers, self.ports)?;
        Ok(())
    }

    /// Copies etcd's data, which must be stopped, to a folder beside; gives back that folder.
    pub fn back_up_etcd(&self) -> Result<PathBuf> {
        let copy = self.guard.scratch().join("etcd.backup");
        copy_folder(&etcd_data(&self.guard), &copy)?;
        Ok(copy)
    }

    /// Puts a backup in the place of etcd's data; etcd must be stopped.
    pub fn restore_etcd(&self, backup: &Path) -> Result<()> {
        let data = etcd_data(&self.guard);
        std::fs::remove_dir_all(&data).context("remove etcd's data")?;
        copy_folder(backup, &data)
    }
}

impl Ports {
    fn free() -> Result<Self> {
        let [etcd, etcd_peer, apiserver, controller_manager] = free_ports()?;
        Ok(Self { etcd, etcd_peer, apiserver, controller_manager })
    }

    fn server(self) -> String {
        format!("https://127.0.0.1:{}", self.apiserver)
    }
}

/// Ports of 127.0.0.1 that nobody listens on, all different.
pub fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let mut held = Vec::with_capacity(N);
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).context("look for a free port")?;
        *port = listener.local_addr().context("look at a free port")?.port();
        held.push(listener);
    }
    Ok(ports)
}

/// A client that speaks as this kubeconfig says.
pub async fn client_of(kubeconfig: &Path) -> Result<Client> {
    let read = Kubeconfig::read_from(kubeconfig).with_context(|| format!("read {kubeconfig:?}"))?;
    let options = KubeConfigOptions::default();
    let mut config = Config::from_custom_kubeconfig(read, &options).await.context("use a kubeconfig")?;
    config.read_timeout = Some(Duration::from_secs(30));
    Client::try_from(config).context("make a client")
}

/// A GET request for [`Client::request_text`] and its like.
pub fn http_get(path: &str) -> Result<::http::Request<Vec<u8>>> {
    ::http::Request::get(path).body(Vec::new()).with_context(|| format!("make a request for {path}"))
}

fn start_etcd(guard: &Guard, servers: &Servers, ports: Ports) -> Result<Process> {
    let client = format!("http://127.0.0.1:{}", ports.etcd);
    let peer = format!("http://127.0.0.1:{}", ports.etcd_peer);
    let mut etcd = command(&servers.etcd);
    etcd.arg("--data-dir").arg(etcd_data(guard));
    // All five addresses, else it also opens the default ports.
    etcd.args(["--listen-client-urls", &client, "--advertise-client-urls", &client]);
    etcd.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
    etcd.args(["--initial-cluster", &format!("default={peer}")]);
    // A killed process loses nothing that the kernel has; only the loss of power would.
    etcd.args(["--unsafe-no-fsync", "--log-level", "warn"]);
    guard.spawn("etcd", &mut etcd)
}

fn etcd_data(guard: &Guard) -> PathBuf {
    guard.scratch().join("etcd")
}

fn start_apiserver(
    guard: &Guard,
    servers: &Servers,
    ports: Ports,
    certificates: &Certificates,
    egress: &Path,
    further: &Further,
) -> Result<Process> {
    let mut server = command(&servers.apiserver);
    let mut flag = |name: &str, value: &Path| {
        server.arg(format!("--{name}={}", value.display()));
    };
    flag("cert-dir", &guard.scratch().join("apiserver"));
    flag("client-ca-file", &certificates.authority);
    flag("tls-cert-file", &certificates.serving.certificate);
    flag("tls-private-key-file", &certificates.serving.key);
    flag("service-account-key-file", &certificates.token_public);
    flag("service-account-signing-key-file", &certificates.token_private);
    flag("egress-selector-config-file", egress);
    server.arg(format!("--etcd-servers=http://127.0.0.1:{}", ports.etcd));
    server.arg(format!("--secure-port={}", ports.apiserver));
    server.args([
        "--bind-address=127.0.0.1",
        "--advertise-address=127.0.0.1",
        "--service-account-issuer=https://kubernetes.default.svc",
        "--service-cluster-ip-range=10.0.0.0/24",
        "--authorization-mode=RBAC",
        "--allow-privileged=true",
    ]);
    server.args(&further.apiserver);
    guard.spawn("kube-apiserver", &mut server)
}

/// Waits until the API server is ready, as long as the servers that it takes run.
async fn answers(kubeconfig: &Path, servers: [&Mutex<Process>; 2]) -> Result<()> {
    let client = client_of(kubeconfig).await?;
    wait::until("the API server is ready", || async {
        for server in servers {
            held(server).assert_running()?;
        }
        let request = http_get("/readyz")?;
        Ok((client.request_text(request).await? == "ok").then_some(()))
    })
    .await
}

fn start_controller_manager(
    guard: &Guard,
    servers: &Servers,
    ports: Ports,
    certificates: &Certificates,
    kubeconfig: &Path,
    further: &Further,
) -> Result<Process> {
    let mut manager = command(&servers.controller_manager);
    let mut flag = |name: &str, value: &Path| {
        manager.arg(format!("--{name}={}", value.display()));
    };
    flag("cert-dir", &guard.scratch().join("controller-manager"));
    flag("kubeconfig", kubeconfig);
    flag("authentication-kubeconfig", kubeconfig);
    flag("authorization-kubeconfig", kubeconfig);
    flag("root-ca-file", &certificates.authority);
    flag("service-account-private-key-file", &certificates.token_private);
    manager.arg(format!("--secure-port={}", ports.controller_manager));
    manager.arg(format!("--controllers={CONTROLLERS}"));
    manager.args([
        "--bind-address=127.0.0.1",
        "--leader-elect=false",
        "--use-service-account-credentials=true",
        "--kube-api-qps=200",
        "--kube-api-burst=400",
    ]);
    manager.args(&further.controller_manager);
    guard.spawn("kube-controller-manager", &mut manager)
}

/// Copies a folder with everything in it.
pub fn copy_folder(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to).with_context(|| format!("make {to:?}"))?;
    for entry in std::fs::read_dir(from).with_context(|| format!("list {from:?}"))? {
        let entry = entry.with_context(|| format!("list {from:?}"))?;
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), &target).with_context(|| format!("copy {:?}", entry.path()))?;
        }
    }
    Ok(())
}

fn held(server: &Mutex<Process>) -> MutexGuard<'_, Process> {
    server.lock().unwrap_or_else(PoisonError::into_inner)
}
