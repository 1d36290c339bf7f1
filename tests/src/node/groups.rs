//! Control groups: those of a node's pods, which are in no namespace of the kernel.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

const ROOT: &str = "/sys/fs/cgroup";

/// 2 where one hierarchy has every controller; else 1. A mount cannot change that: a controller is in one hierarchy of the
/// whole machine.
pub fn groups_version() -> u8 {
    if is_group(Path::new(ROOT)) { 2 } else { 1 }
}

/// Makes a control group of this name in every hierarchy, for the pods of one node. Another kubelet of this machine has its
/// own: they are in no namespace.
pub fn make_groups(name: &str) -> Result<()> {
    for hierarchy in hierarchies() {
        let group = hierarchy.join(name);
        fs::create_dir(&group).with_context(|| format!("make control group {group:?}"))?;
    }
    Ok(())
}

/// Removes it again with all in it; whether nothing ran there any more.
pub fn remove_groups(name: &str) -> bool {
    let left = hierarchies().iter().filter(|hierarchy| !remove_group(&hierarchy.join(name))).count();
    left == 0
}

/// One, or one for each controller on older machines.
fn hierarchies() -> Vec<PathBuf> {
    let root = Path::new(ROOT);
    let below = fs::read_dir(root).into_iter().flatten().flatten().map(|entry| entry.path());
    let all: Vec<_> = if groups_version() == 2 { vec![root.to_owned()] } else { below.collect() };
    // One hierarchy may have two names.
    all.into_iter().filter(|path| is_group(path) && !path.is_symlink()).collect()
}

fn is_group(path: &Path) -> bool {
    path.join("cgroup.procs").is_file()
}

fn remove_group(group: &Path) -> bool {
    for entry in fs::read_dir(group).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir()) {
        remove_group(&entry.path());
    }
    fs::remove_dir(group).is_ok() || !group.exists()
}
