//! What the node's kernel knows of a container, whatever its image or the API server say.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::Pod;
use rustix::process::{Pid, Signal, kill_process};

/// The first process of a container.
#[derive(Debug)]
pub struct FirstProcess {
    id: i32,
    /// What `/proc/ID/cgroup` says.
    groups: String,
}

impl FirstProcess {
    /// Of a pod's only container, which must run.
    pub fn of(pod: &Pod) -> Result<Self> {
        let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
        let container = statuses.and_then(|statuses| statuses.first()?.container_id.as_deref());
        let (_, container) =
            container.and_then(|id| id.split_once("://")).context("the container was not started yet")?;
        for entry in fs::read_dir("/proc").context("list processes")? {
            let entry = entry.context("list processes")?;
            let Some(id) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            // One that has ended meanwhile is not it.
            let groups = fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
            if groups.lines().any(|group| group.ends_with(container)) {
                return Ok(Self { id, groups });
            }
        }
        bail!("no process of container {container}")
    }

    /// A field of its `/proc/ID/status`, with single blanks.
    pub fn status(&self, field: &str) -> Result<String> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id)).context("read a process's status")?;
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        let line = line.with_context(|| format!("the kernel says nothing of {field}"))?;
        Ok(line.split_whitespace().collect::<Vec<_>>().join(" "))
    }

    /// Whether nothing can be written to the file system at its root.
    pub fn has_read_only_root(&self) -> Result<bool> {
        let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", self.id)).context("read a process's mounts")?;
        // Two numbers, the device, the root in it, where it is mounted, the options.
        let mut mounts = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
        let root = mounts.find(|fields| fields.get(4) == Some(&"/")).context("a process has a root")?;
        Ok(root.get(5).context("a mount has options")?.split(',').any(|option| option == "ro"))
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let id = Pid::from_raw(self.id).context("process id is zero")?;
        kill_process(id, signal).context("signal a container's process")
    }

    /// The most memory that its container ever used, files in the cache included, and its limit: bytes.
    pub fn memory(&self) -> Result<(u64, u64)> {
        // A hierarchy of its own on older machines, else the one that there is.
        let (path, peak, limit) = match self.groups.lines().find_map(|line| line.split_once(":memory:")) {
            Some((_, path)) => (format!("memory{path}"), "memory.max_usage_in_bytes", "memory.limit_in_bytes"),
            None => {
                let path = self.groups.trim().strip_prefix("0::/").context("a container has a control group")?;
                (path.to_owned(), "memory.peak", "memory.max")
            }
        };
        let group = PathBuf::from("/sys/fs/cgroup").join(path);
        let number = |name: &str| -> Result<u64> {
            let text = fs::read_to_string(group.join(name)).with_context(|| format!("read {name} of {group:?}"))?;
            text.trim().parse().with_context(|| format!("{name} is no number"))
        };
        Ok((number(peak)?, number(limit)?))
    }
}
