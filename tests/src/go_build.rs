//! Programs that are built once, from a pinned Go module, into the user's cache.
//!
//! [`GoModule`] (`go.mod`, `go.sum`, flags) -> its folder in the cache -> a build into that folder, if it is not there.
//!
//! The folder's name holds the version and a hash of everything that the build depends on, so a change of `go.mod`
//! makes a new folder and never mixes with an old one. A lock file keeps two test runs from building twice.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use ring::digest::{SHA256, digest};

/// What is built, and how.
pub(crate) struct GoModule {
    /// The folder with `go.mod` and `go.sum`.
    pub(crate) folder: &'static str,
    /// What people call it; also the folder of its builds in the cache.
    pub(crate) title: &'static str,
    pub(crate) cache: &'static str,
    /// The dependency whose version is the version of the whole.
    pub(crate) dependency: &'static str,
    /// Sources of our own in it.
    pub(crate) sources: &'static [&'static str],
    /// The names of the programs, and their packages.
    pub(crate) programs: &'static [(&'static str, &'static str)],
    /// Build tags: what is left out.
    pub(crate) tags: &'static str,
    /// The linker's flags, from the version.
    pub(crate) ldflags: fn(&str) -> String,
    /// What else helps where there is no Go.
    pub(crate) otherwise: Option<&'static str>,
}

impl GoModule {
    /// The folder with the built programs.
    pub(crate) fn built(&self) -> Result<PathBuf> {
        let recipe = Recipe::of(self)?;
        let cache = cache_dir()?.join("sealwright").join(self.cache);
        let ready = cache.join(&recipe.id);
        if ready.is_dir() {
            return Ok(ready);
        }
        fs::create_dir_all(&cache).with_context(|| format!("make {cache:?}"))?;
        let lock =
            File::create(cache.join(format!("{}.lock", recipe.id))).context("make the lock file of the build")?;
        lock.lock().with_context(|| format!("wait for another build of {}", self.title))?;
        if !ready.is_dir() {
            let unfinished =
                tempfile::Builder::new().prefix("build-").tempdir_in(&cache).context("make a build folder")?;
            self.build(&recipe, &ready, unfinished.path())?;
            fs::rename(unfinished.keep(), &ready).context("put what was built in its place")?;
        }
        Ok(ready)
    }

    fn build(&self, recipe: &Recipe, ready: &Path, into: &Path) -> Result<()> {
        if Command::new("go").arg("version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
            let names: Vec<_> = self.programs.iter().map(|(name, _)| *name).collect();
            let otherwise = self.otherwise.map(|way| format!("\n- {way};")).unwrap_or_default();
            bail!(
                "no {} to test with. One of these helps:{otherwise}\n\
                 - put what is missing into the folder {ready:?};\n\
                 - install Go 1.26 or later (https://go.dev/dl): it is then built from source, once, in minutes",
                names.join(", "),
            );
        }
        let mut progress = Progress::start(format!("building {} {} from source, once", self.title, recipe.version));
        for (name, package) in self.programs {
            progress.step(name);
            self.compile(recipe, package, &into.join(name), &mut progress)?;
        }
        progress.finish();
        Ok(())
    }

    fn compile(&self, recipe: &Recipe, package: &str, output: &Path, progress: &mut Progress) -> Result<()> {
        let mut go = Command::new("go")
            .args(["build", "-v", "-mod=readonly", "-trimpath", "-buildvcs=false"])
            .args(["-tags", self.tags, "-ldflags", &recipe.ldflags, "-o"])
            .arg(output)
            .arg(package)
            .current_dir(self.folder)
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
}

/// The folder of a dependency of the module in `folder`, as `go.sum` there pins it; fetched if it is not there yet.
pub(crate) fn source_of(folder: &str, dependency: &str) -> Result<PathBuf> {
    let output = Command::new("go")
        .args(["mod", "download", "-json", dependency])
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .context("start `go mod download`")?;
    let answer: serde_json::Value =
        serde_json::from_slice(&output.stdout).context("read what `go mod download` prints")?;
    let found = answer["Dir"].as_str().map(PathBuf::from);
    found.with_context(|| format!("no {dependency}: {} {}", answer["Error"], String::from_utf8_lossy(&output.stderr)))
}

/// The pinned build: how it is built, and under which name it is kept.
struct Recipe {
    version: String,
    ldflags: String,
    id: String,
}

impl Recipe {
    fn of(module: &GoModule) -> Result<Self> {
        let text = |name: &str| {
            let path = Path::new(module.folder).join(name);
            fs::read_to_string(&path).with_context(|| format!("read {path:?}"))
        };
        let (go_mod, sums) = (text("go.mod")?, text("go.sum")?);
        let version = version_of(module.dependency, &go_mod)
            .with_context(|| format!("go.mod in {} names no version of {}", module.folder, module.dependency))?
            .to_owned();
        let ldflags = (module.ldflags)(&version);
        let mut inputs = format!("{go_mod}\0{sums}\0{ldflags}");
        if !module.tags.is_empty() {
            inputs = format!("{inputs}\0{}", module.tags);
        }
        for source in module.sources {
            inputs = format!("{inputs}\0{source}\0{}", text(source)?);
        }
        let hash = digest(&SHA256, inputs.as_bytes());
        let short: String = hash.as_ref().iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { id: format!("{version}-{short}"), version, ldflags })
    }
}

/// The version in a `require` block.
fn version_of<'a>(dependency: &str, go_mod: &'a str) -> Option<&'a str> {
    let rest = go_mod.lines().find_map(|line| line.trim().strip_prefix(dependency)?.strip_prefix(' '))?;
    rest.split_whitespace().next()
}

pub(crate) fn cache_dir() -> Result<PathBuf> {
    let given = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    given
        .or_else(|| std::env::home_dir().map(|home| home.join(".cache")))
        .context("no cache folder: neither XDG_CACHE_HOME nor HOME is set")
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
