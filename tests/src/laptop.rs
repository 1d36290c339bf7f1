//! A person's side: a home folder, a Git repository in it, and the built `seal`.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;

use crate::binaries;
use crate::kubectl::kubectl;
use crate::process::command;

/// A home folder; commands run in the repository in it, and what must not be committed lies beside that.
#[derive(Debug)]
pub struct Laptop {
    home: TempDir,
    kubeconfig: PathBuf,
}

/// What a program said, and how it ended.
#[derive(Debug, Clone)]
pub struct Said {
    /// The exit code; none when it was ended by a signal.
    pub code: Option<i32>,
    /// Data.
    pub stdout: Vec<u8>,
    /// Talk.
    pub stderr: String,
}

impl Laptop {
    /// A new home with an empty Git repository; `seal` is to speak with the cluster of this kubeconfig.
    pub fn new(kubeconfig: PathBuf) -> Result<Self> {
        let home = tempfile::Builder::new().prefix("laptop-").tempdir().context("make a home")?;
        let laptop = Self { home, kubeconfig };
        std::fs::create_dir(laptop.folder()).context("make a folder for the repository")?;
        laptop.git(&["init", "--quiet", "--initial-branch=main"])?;
        laptop.git(&["config", "user.name", "Somebody"])?;
        laptop.git(&["config", "user.email", "somebody@example.com"])?;
        Ok(laptop)
    }

    /// The repository's folder.
    pub fn folder(&self) -> PathBuf {
        self.home.path().join("repository")
    }

    /// The path of a file, seen from the repository.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    /// Writes a file.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> Result<()> {
        let path = self.path(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).with_context(|| format!("make {parent:?}"))?;
        }
        std::fs::write(&path, content).with_context(|| format!("write {name}"))
    }

    /// Reads a file.
    pub fn read(&self, name: &str) -> Result<String> {
        std::fs::read_to_string(self.path(name)).with_context(|| format!("read {name}"))
    }

    /// Runs `seal` and expects that it succeeds; gives what it printed.
    pub fn seal(&self, arguments: &[&str]) -> Result<String> {
        self.seal_with(arguments, "")
    }

    /// Like [`Self::seal`], with something on stdin.
    pub fn seal_with(&self, arguments: &[&str], stdin: impl AsRef<[u8]>) -> Result<String> {
        let said = self.try_seal(arguments, stdin)?;
        ensure!(said.code == Some(0), "`seal {}` ended with {:?}: {}", arguments.join(" "), said.code, said.stderr);
        String::from_utf8(said.stdout).context("what seal printed is no text")
    }

    /// Runs `seal`, however it ends.
    pub fn try_seal(&self, arguments: &[&str], stdin: impl AsRef<[u8]>) -> Result<Said> {
        let mut seal = command(binaries::seal()?);
        seal.args(arguments).env("KUBECONFIG", &self.kubeconfig);
        self.run(seal, stdin.as_ref()).with_context(|| format!("run `seal {}`", arguments.join(" ")))
    }

    /// Runs `kubectl`, however it ends.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<Said> {
        let mut program = command(kubectl()?);
        program.args(arguments).env("KUBECONFIG", &self.kubeconfig);
        self.run(program, b"").with_context(|| format!("run `kubectl {}`", arguments.join(" ")))
    }

    /// Runs `git` and expects that it succeeds; gives what it printed.
    pub fn git(&self, arguments: &[&str]) -> Result<String> {
        let mut git = command("git");
        // Nothing of the machine's own configuration.
        git.args(arguments).env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_SYSTEM", "/dev/null");
        let said = self.run(git, b"").context("run `git`")?;
        let text = String::from_utf8_lossy(&said.stdout).into_owned();
        ensure!(said.code == Some(0), "`git {}` failed: {text}{}", arguments.join(" "), said.stderr);
        Ok(text)
    }

    /// Commits everything.
    pub fn commit(&self, message: &str) -> Result<()> {
        self.git(&["add", "--all"])?;
        self.git(&["commit", "--quiet", "--message", message]).map(drop)
    }

    /// Runs any program in the repository, however it ends.
    pub fn run(&self, mut command: Command, stdin: &[u8]) -> Result<Said> {
        command.current_dir(self.folder()).env("HOME", self.home.path()).env_remove("XDG_CONFIG_HOME");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("start {:?}", command.get_program()))?;
        let mut pipe = child.stdin.take().context("stdin is piped above")?;
        let output = std::thread::scope(|scope| {
            // Whoever does not read its stdin closes it: not our failure.
            scope.spawn(move || pipe.write_all(stdin).ok());
            child.wait_with_output()
        })
        .context("wait for its end")?;
        Ok(Said {
            code: output.status.code(),
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }
}

/// A Secret manifest as people have it.
pub fn secret_manifest(namespace: &str, name: &str, data: &[(&str, &str)]) -> Result<String> {
    let data: serde_json::Map<_, _> = data.iter().map(|(key, value)| ((*key).to_owned(), (*value).into())).collect();
    let secret = serde_json::json!({
        "apiVersion": "v1", "kind": "Secret",
        "metadata": {"name": name, "namespace": namespace}, "stringData": data,
    });
    serde_yaml::to_string(&secret).context("write a Secret as YAML")
}
