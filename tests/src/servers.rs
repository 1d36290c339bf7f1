//! Finds the servers under test, or builds them.
//!
//! `KUBEBUILDER_ASSETS` -> the user's cache -> a build from `servers/go.mod` into that cache -> `Servers`.
//!
//! The cache's folder name holds the version and a hash of everything that the build depends on, so a change of
//! `go.mod` makes a new folder and never mixes with an old one. A lock file keeps two test runs from building twice.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use ring::digest::{SHA256, digest};

const MODULE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/servers");
const ETCD: &str = "etcd";
const APISERVER: &str = "kube-apiserver";
const CONTROLLER_MANAGER: &str = "kube-controller-manager";
const PACKAGES: [(&str, &str); 3] = [
    (ETCD, "go.etcd.io/etcd/server/v3"),
    (APISERVER, "k8s.io/kubernetes/cmd/kube-apiserver"),
    (CONTROLLER_MANAGER, "k8s.io/kubernetes/cmd/kube-controller-manager"),
];

/// Where the three servers of a control plane are.
#[derive(Debug, Clone)]
pub struct Servers {
    /// The store.
    pub etcd: PathBuf,
    /// The API server.
    pub apiserver: PathBuf,
    /// Garbage collection, namespaces, ServiceAccounts.
    pub controller_manager: PathBuf,
}

impl Servers {
    /// Finds all three, building what is missing.
    pub fn find() -> Result<Self> {
        let assets = std::env::var_os("KUBEBUILDER_ASSETS").map(PathBuf::from);
        // `setup-envtest` brings no controller manager, so each is looked for by itself.
        let given = |name: &str| assets.as_ref().map(|dir| dir.join(name)).filter(|path| path.is_file());
        if let (Some(etcd), Some(apiserver), Some(controller_manager)) =
            (given(ETCD), given(APISERVER), given(CONTROLLER_MANAGER))
        {
            return Ok(Self { etcd, apiserver, controller_manager });
        }
        let built = cached_or_built()?;
        let pick = |name: &str| given(name).unwrap_or_else(|| built.join(name));
        Ok(Self { etcd: pick(ETCD), apiserver: pick(APISERVER), controller_manager: pick(CONTROLLER_MANAGER) })
    }
}

/// The pinned build: what is built, how, and under which name it is kept.
struct Recipe {
    version: String,
    ldflags: String,
    id: String,
}

impl Recipe {
    fn read() -> Result<Self> {
        let text =
            |name: &str| fs::read_to_string(Path::new(MODULE).join(name)).with_context(|| format!("read {name}"));
        let (module, sums) = (text("go.mod")?, text("go.sum")?);
        let version = module
            .lines()
            .find_map(|line| line.trim().strip_prefix("k8s.io/kubernetes "))
            .and_then(|rest| rest.split_whitespace().next())
            .context("servers/go.mod names no version of k8s.io/kubernetes")?
            .to_owned();
        let mut parts = version.trim_start_matches('v').split('.');
        let (major, minor) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        // Without the stamp the server calls itself `v0.0.0-master+$Format`, which kubectl and Helm cannot parse.
        let stamp = "k8s.io/component-base/version.git";
        let ldflags = format!("-s -w -X {stamp}Version={version} -X {stamp}Major={major} -X {stamp}Minor={minor}");
        let hash = digest(&SHA256, format!("{module}\0{sums}\0{ldflags}").as_bytes());
        let short: String = hash.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { id: format!("{version}-{short}"), version, ldflags })
    }
}

fn cached_or_built() -> Result<PathBuf> {
    let recipe = Recipe::read()?;
    let cache = cache_dir()?.join("sealwright/servers");
    let ready = cache.join(&recipe.id);
    if ready.is_dir() {
        return Ok(ready);
    }
    fs::create_dir_all(&cache).with_context(|| format!("make {cache:?}"))?;
    let lock = File::create(cache.join(format!("{}.lock", recipe.id))).context("make the lock file of the build")?;
    lock.lock().context("wait for another build of the servers")?;
    if !ready.is_dir() {
        let unfinished = tempfile::Builder::new().prefix("build-").tempdir_in(&cache).context("make a build folder")?;
        build(&recipe, unfinished.path())?;
        fs::rename(unfinished.keep(), &ready).context("put the built servers in their place")?;
    }
    Ok(ready)
}

fn cache_dir() -> Result<PathBuf> {
    let given = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    given
        .or_else(|| std::env::home_dir().map(|home| home.join(".cache")))
        .context("no cache folder: neither XDG_CACHE_HOME nor HOME is set")
}

fn build(recipe: &Recipe, into: &Path) -> Result<()> {
    if Command::new("go").arg("version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
        bail!(
            "no {APISERVER}, {CONTROLLER_MANAGER} and {ETCD} to test against. One of these helps:\n\
             1. point KUBEBUILDER_ASSETS at a folder that holds the three;\n\
             2. put them into {into:?} without its last part, as folder `{}`;\n\
             3. install Go 1.24 or later (https://go.dev/dl): they are then built from source, once, in about 5 minutes",
            recipe.id
        );
    }
    let mut progress = Progress::start(format!("building Kubernetes {} from source, once", recipe.version));
    for (name, package) in PACKAGES {
        progress.step(name);
        compile(recipe, package, &into.join(name), &mut progress)?;
    }
    progress.finish();
    Ok(())
}

fn compile(recipe: &Recipe, package: &str, output: &Path, progress: &mut Progress) -> Result<()> {
    let mut go = Command::new("go")
        .args(["build", "-v", "-mod=readonly", "-trimpath", "-buildvcs=false", "-ldflags", &recipe.ldflags, "-o"])
        .arg(output)
        .arg(package)
        .current_dir(MODULE)
        .env("CGO_ENABLED", "0")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("start `go build`")?;
    let mut said = Vec::new();
    for line in BufReader::new(go.stderr.take().context("stderr is piped above")?).lines() {
        let line = line.context("read what `go build` says")?;
        progress.package(&line);
        said.push(line);
    }
    let status = go.wait().context("wait for `go build`")?;
    if !status.success() {
        bail!("`go build {package}` failed ({status}):\n{}", said[said.len().saturating_sub(30)..].join("\n"));
    }
    Ok(())
}

/// Says on stderr how far the build is. Written past the test runner's capture, which would hide it for minutes.
struct Progress {
    terminal: bool,
    title: String,
    step: String,
    packages: usize,
}

impl Progress {
    fn start(title: String) -> Self {
        Self { terminal: io::stderr().is_terminal(), title, step: String::new(), packages: 0 }
    }

    fn step(&mut self, name: &str) {
        name.clone_into(&mut self.step);
        self.say(true);
    }

    fn package(&mut self, line: &str) {
        self.packages += usize::from(!line.starts_with("go: "));
        self.say(self.packages.is_multiple_of(100));
    }

    fn say(&self, milestone: bool) {
        let text = format!("{}: {} ({} packages so far)", self.title, self.step, self.packages);
        let _ = match (self.terminal, milestone) {
            (true, _) => write!(io::stderr(), "\r\x1b[K{text}"),
            (false, true) => writeln!(io::stderr(), "{text}"),
            (false, false) => Ok(()),
        };
    }

    fn finish(&self) {
        let (start, text) = (if self.terminal { "\r\x1b[K" } else { "" }, format!("{}: done", self.title));
        let _ = writeln!(io::stderr(), "{start}{text}");
    }
}
