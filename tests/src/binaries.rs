//! Finds the built programs: `SEAL_BIN` and `SEAL_CONTROLLER_BIN`, else one `cargo build` per process.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, bail, ensure};

/// The root of the repository.
pub const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

/// The command line tool.
pub fn seal() -> Result<PathBuf> {
    find("SEAL_BIN", "seal")
}

/// The controller.
pub fn seal_controller() -> Result<PathBuf> {
    find("SEAL_CONTROLLER_BIN", "seal-controller")
}

/// The command line tool as a release links it (`.cargo/release.toml`), to be measured.
pub fn released_seal() -> Result<PathBuf> {
    if std::env::var_os("SEAL_BIN").is_some() {
        return seal();
    }
    let target = host()?;
    let mut build = cargo(&["build", "--locked", "--release", "--package", "seal"]);
    build.args(["--config", ".cargo/release.toml", "--target", &target]);
    let status = build.status().context("start `cargo build`")?;
    ensure!(status.success(), "`cargo build` of a released seal failed");
    Ok(target_folder()?.join(target).join("release/seal"))
}

fn find(variable: &str, name: &str) -> Result<PathBuf> {
    if let Some(given) = std::env::var_os(variable).map(PathBuf::from) {
        ensure!(given.is_file(), "{variable} names {given:?}, which is no file");
        return Ok(given);
    }
    static BUILT: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match BUILT.get_or_init(|| build().map_err(|error| format!("{error:#}"))) {
        Ok(folder) => Ok(folder.join(name)),
        Err(error) => bail!("no {name} to test: {error}"),
    }
}

/// Builds both now, with cargo's own progress on stderr, unless they are given.
pub fn build_visibly() -> Result<()> {
    if std::env::var_os("SEAL_BIN").is_some() && std::env::var_os("SEAL_CONTROLLER_BIN").is_some() {
        return Ok(());
    }
    let status = cargo_build().status().context("start `cargo build`")?;
    ensure!(status.success(), "`cargo build` failed");
    Ok(())
}

fn build() -> Result<PathBuf> {
    let output = cargo_build().arg("--quiet").output().context("start `cargo build`")?;
    ensure!(output.status.success(), "`cargo build` failed:\n{}", String::from_utf8_lossy(&output.stderr));
    Ok(target_folder()?.join(if cfg!(debug_assertions) { "debug" } else { "release" }))
}

/// Builds what the workspace builds anyway, with the same features, so that nothing is compiled twice.
fn cargo_build() -> Command {
    let mut build = cargo(&["build", "--workspace", "--bins"]);
    if !cfg!(debug_assertions) {
        build.arg("--release");
    }
    build
}

fn cargo(arguments: &[&str]) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(arguments).current_dir(ROOT);
    // Set by the cargo that runs us; a build under them would not share its results with the outer one.
    for (name, _) in std::env::vars_os() {
        let lossy = name.to_string_lossy();
        if lossy.starts_with("CARGO_PKG_") || lossy.starts_with("CARGO_MANIFEST_") || lossy.starts_with("CARGO_BIN_") {
            cargo.env_remove(&name);
        }
    }
    cargo
}

/// The target that rustc builds for by itself.
fn host() -> Result<String> {
    let said = Command::new("rustc").arg("-vV").current_dir(ROOT).output().context("start `rustc -vV`")?;
    let said = String::from_utf8_lossy(&said.stdout);
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    host.map(str::to_owned).context("`rustc -vV` names no host")
}

/// Every program of this package runs out of the target folder: `target/debug/demo`, `target/debug/deps/journey-0`.
fn target_folder() -> Result<PathBuf> {
    let own = std::env::current_exe().context("find this program's own file")?;
    let above = own.ancestors().find(|folder| folder.join("CACHEDIR.TAG").is_file());
    above.map(Path::to_owned).with_context(|| format!("{own:?} is in no target folder of cargo"))
}
