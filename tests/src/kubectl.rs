//! kubectl, for the pages that people follow word by word.
//!
//! The user's cache, or a build from `servers/kubectl/go.mod` -> the program.

use std::path::PathBuf;

use anyhow::Result;

use crate::go_build::GoModule;

const KUBECTL: &str = "kubectl";

const MODULE: GoModule = GoModule {
    folder: concat!(env!("CARGO_MANIFEST_DIR"), "/servers/kubectl"),
    title: KUBECTL,
    cache: KUBECTL,
    dependency: "k8s.io/kubectl",
    sources: &["main.go"],
    programs: &[(KUBECTL, "sealwright.dev/tests/servers/kubectl")],
    tags: "",
    ldflags: |_| "-s -w".to_owned(),
    otherwise: None,
};

/// Finds it, building it where it is missing.
pub fn kubectl() -> Result<PathBuf> {
    Ok(MODULE.built()?.join(KUBECTL))
}
