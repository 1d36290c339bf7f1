//! Runs the built `seal` in a folder of its own, as a person without a cluster would.

#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// An empty folder, in which `seal` runs.
pub(crate) struct Folder(tempfile::TempDir);

/// How a run ended.
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let file = self.file(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, content).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.file(name)).unwrap()
    }

    /// A command that knows no kubeconfig, identity or home of whoever runs the tests.
    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.path()).env_remove("SEAL_IDENTITY").env_remove("KUBERNETES_SERVICE_HOST");
        command.env("KUBECONFIG", self.file("no-kubeconfig")).env("HOME", self.path());
        command
    }

    pub(crate) fn seal(&self, arguments: &[&str]) -> Run {
        self.seal_with_stdin(arguments, b"")
    }

    pub(crate) fn seal_with_stdin(&self, arguments: &[&str], stdin: &[u8]) -> Run {
        let mut command = self.command(env!("CARGO_BIN_EXE_seal"));
        run(command.args(arguments), stdin)
    }

    /// Makes `NAME.txt`, an identity, and `NAME.pub`, its recipient.
    pub(crate) fn keygen(&self, name: &str) -> String {
        let run = self.seal(&["keygen", "-w", &format!("{name}.txt")]).succeeds();
        self.write(&format!("{name}.pub"), &run.stdout);
        run.stdout().trim().to_owned()
    }

    /// Makes identities of these names and a ring of them.
    pub(crate) fn ring(&self, ring: &str, members: &[&str]) {
        let mut arguments = vec!["ring".to_owned(), "new".to_owned(), ring.to_owned()];
        for member in members {
            self.keygen(member);
            arguments.extend(["--member".to_owned(), format!("{member}={member}.pub")]);
        }
        let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
        self.seal(&arguments).succeeds();
    }
}

pub(crate) fn run(command: &mut Command, stdin: &[u8]) -> Run {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program starts");
    let mut pipe = child.stdin.take().unwrap();
    // A program that does not read its stdin is in its right.
    let _ = pipe.write_all(stdin);
    drop(pipe);
    let output = child.wait_with_output().unwrap();
    Run {
        code: output.status.code().expect("was not killed"),
        stdout: output.stdout,
        stderr: String::from_utf8(output.stderr).expect("talk is UTF-8"),
    }
}

impl Run {
    #[track_caller]
    pub(crate) fn succeeds(self) -> Self {
        assert_eq!(self.code, 0, "stderr: {}", self.stderr);
        self
    }

    /// With this exit code, nothing on stdout, and advice.
    #[track_caller]
    pub(crate) fn fails(self, code: i32, message: &str) -> Self {
        assert_eq!(self.code, code, "stderr: {}", self.stderr);
        assert!(self.stderr.contains(message), "{message:?} is not in: {}", self.stderr);
        assert!(self.stdout.is_empty(), "stdout: {}", self.stdout());
        self
    }

    #[track_caller]
    pub(crate) fn hints(self, hint: &str) -> Self {
        let hints: Vec<_> = self.stderr.lines().filter(|line| line.starts_with("hint: ")).collect();
        assert!(hints.iter().any(|line| line.contains(hint)), "{hint:?} is no hint of: {}", self.stderr);
        self
    }

    #[track_caller]
    pub(crate) fn stdout(&self) -> &str {
        std::str::from_utf8(&self.stdout).expect("stdout is UTF-8")
    }

    #[track_caller]
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.stdout).expect("stdout is JSON")
    }
}
