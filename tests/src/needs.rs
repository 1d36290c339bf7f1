//! What a machine must bring for the commands that are not part of `cargo test`.

use std::env;
use std::fmt::Write as _;
use std::path::PathBuf;

use anyhow::{Result, ensure};

/// A program, and what to do where it is missing.
pub type Need = (&'static str, &'static str);

/// Fails, naming everything that is missing and what to do about each.
pub fn programs(needs: &[Need]) -> Result<()> {
    let mut missing = String::new();
    for (program, remedy) in needs.iter().filter(|(program, _)| found(program).is_none()) {
        let _ = write!(missing, "\n- {program} is missing: {remedy}");
    }
    ensure!(missing.is_empty(), "this machine cannot run it:{missing}");
    Ok(())
}

/// Where a program is on the `PATH`.
pub fn found(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}
