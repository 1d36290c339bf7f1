//! Prometheus's own judge of rules: their syntax, and what they say about a course of events.
//!
//! The user's cache, or a build from `servers/promtool/go.mod` -> [`Promtool`].

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};

use crate::go_build::GoModule;
use crate::process::command;

const PROMTOOL: &str = "promtool";

const MODULE: GoModule = GoModule {
    folder: concat!(env!("CARGO_MANIFEST_DIR"), "/servers/promtool"),
    title: PROMTOOL,
    cache: PROMTOOL,
    dependency: "github.com/prometheus/prometheus",
    sources: &[],
    programs: &[(PROMTOOL, "github.com/prometheus/prometheus/cmd/promtool")],
    // Without the discovery of targets in a dozen clouds: half of the code, and nothing of it is asked here.
    tags: "remove_all_sd",
    ldflags: |_| "-s -w".to_owned(),
    otherwise: None,
};

/// The built program.
#[derive(Debug)]
pub struct Promtool(PathBuf);

impl Promtool {
    /// Finds it, building it where it is missing.
    pub fn find() -> Result<Self> {
        Ok(Self(MODULE.built()?.join(PROMTOOL)))
    }

    /// Runs it and expects that it is content.
    pub fn run<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Result<()> {
        let output = command(&self.0).args(arguments).stdin(Stdio::null()).output().context("start `promtool`")?;
        let said = [output.stdout, output.stderr].concat();
        ensure!(output.status.success(), "promtool: {}", String::from_utf8_lossy(&said));
        Ok(())
    }
}
