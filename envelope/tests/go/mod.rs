//! The Go programs under `interop/`: folder -> built binary, linked once into Cargo's own folder for such things.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

/// Builds `package` of the module `interop/<module>` and gives the binary `name`.
///
/// Go's own cache makes this cheap from the second time on. Where Go is absent the test fails and says what to do.
pub(crate) fn build(module: &str, package: &str, name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("go");
    fs::create_dir_all(&folder).unwrap();
    let lock = File::create(folder.join("lock")).unwrap();
    lock.lock().unwrap();
    let built = Command::new("go")
        .args(["build", "-trimpath", "-o"])
        .arg(&folder)
        .arg(package)
        .env("GOFLAGS", "-buildvcs=false -mod=readonly")
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("interop").join(module))
        .output();
    let built = built.unwrap_or_else(|error| {
        panic!("these tests need Go 1.26 or newer in PATH ({error})\nhint: https://go.dev/dl/, or your distribution's `golang`")
    });
    assert!(
        built.status.success(),
        "go build {package}: {}\nhint: needs Go 1.26 or newer and, the first time, a module proxy",
        String::from_utf8_lossy(&built.stderr)
    );
    folder.join(format!("{name}{}", std::env::consts::EXE_SUFFIX))
}

/// Runs a program with `input` on its stdin.
pub(crate) fn run(program: &Path, args: impl IntoIterator<Item = impl AsRef<OsStr>>, input: &[u8]) -> Output {
    let mut child = Command::new(program)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // All of them read their input to the end before they write, or fail early and close the pipe.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

/// What a run printed, when it succeeded.
pub(crate) fn stdout(output: Output) -> Vec<u8> {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}
