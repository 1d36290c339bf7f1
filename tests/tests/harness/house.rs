//! Promises about the repository itself.

use std::fs;
use std::path::Path;

use seal_tests::binaries::ROOT;
use seal_tests::{Context, Result, ensure};

/// The names under `[dependencies]` and its like for some targets, without those that only tests take, and ours.
fn direct(manifest: &str) -> Vec<String> {
    let mut is_shipped = false;
    let mut names = Vec::new();
    for line in manifest.lines() {
        if line.starts_with('[') {
            is_shipped = line == "[dependencies]" || (line.starts_with("[target.") && line.ends_with(".dependencies]"));
        } else if is_shipped && let Some(name) = line.split(['.', ' ', '=']).next().filter(|name| is_name(name)) {
            names.push(name.to_owned());
        }
    }
    names.retain(|name| !name.starts_with("seal-"));
    names
}

fn is_name(text: &str) -> bool {
    text.starts_with(|letter: char| letter.is_ascii_lowercase())
}

#[test]
fn every_direct_dependency_of_what_is_shipped_has_its_reason() -> Result<()> {
    let page = fs::read_to_string(Path::new(ROOT).join("docs/operations/supply-chain.md"))?;
    let (programs, _) = page.split_once("## What a release carries").context("the page has two halves")?;
    let table: String = programs.lines().filter_map(|line| line.strip_prefix('|')?.split('|').next()).collect();
    let mut shipped = Vec::new();
    for package in ["envelope", "crds", "cli", "controller"] {
        let manifest = fs::read_to_string(Path::new(ROOT).join(package).join("Cargo.toml"))?;
        let names = direct(&manifest);
        ensure!(names.len() > 5, "{package} has dependencies: {names:?}");
        for name in &names {
            ensure!(table.contains(&format!("`{name}`")), "docs/operations/supply-chain.md says nothing of {name}");
        }
        shipped.extend(names);
    }
    for name in table.split('`').skip(1).step_by(2).filter(|name| is_name(name)) {
        shipped.iter().find(|shipped| *shipped == name).with_context(|| format!("{name} is no dependency any more"))?;
    }
    Ok(())
}
