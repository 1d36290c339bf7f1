//! Child processes that surely die.
//!
//! `Guard` (a process group, its watcher, a scratch folder) -> `Process` (one server in that group).
//!
//! Children join a process group at fork. A watcher outside of the group holds one end of a pipe whose other end
//! only this process has. However this process ends (return, panic, Ctrl-C, `kill -9`), the kernel closes the pipe;
//! the watcher then kills the group and removes the scratch folder. There is no moment at which a child lives
//! unguarded, and no parent-death signal, which would fire when the *thread* that started the child ends.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::param::clock_ticks_per_second;
use rustix::process::{Pid, Signal, kill_process};

/// Waits for the end of the pipe, then kills group `$1` and removes folder `$2` (again, while dying servers write to it).
const WATCH: &str = r#"
read -r _
kill -s KILL -- "-$1"
for _ in 1 2 3 4 5 6 7 8 9 10; do rm -rf -- "$2" 2>/dev/null && exit 0; sleep 0.1; done
"#;

/// A process group and a scratch folder that end together with this process.
#[derive(Debug)]
pub struct Guard {
    leader: Child,
    watcher: Child,
    scratch: PathBuf,
}

impl Guard {
    /// Makes the scratch folder, the group and its watcher.
    pub fn start() -> Result<Self> {
        let scratch = tempfile::Builder::new().prefix("sealwright-").tempdir().context("make a scratch folder")?.keep();
        // The leader only keeps the group's number from being reused; it ends by itself at the end of its pipe.
        let leader = on_a_pipe(Command::new("cat")).context("start `cat`, the leader of the process group")?;
        let mut watch = Command::new("sh");
        watch.args(["-c", WATCH, "watcher", &leader.id().to_string()]).arg(&scratch);
        let watcher = on_a_pipe(watch).context("start `sh`, the watcher of the process group")?;
        Ok(Self { leader, watcher, scratch })
    }

    /// The folder for everything that the group's processes write.
    pub fn scratch(&self) -> &Path {
        &self.scratch
    }

    /// Starts `command` in the group; both its outputs are appended to `NAME.log` in the scratch folder.
    pub fn spawn(&self, name: &str, command: &mut Command) -> Result<Process> {
        let log = self.scratch.join(format!("{name}.log"));
        let out = File::options().create(true).append(true).open(&log).with_context(|| format!("open {log:?}"))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(out.try_clone().context("share the log file")?)
            .stderr(out)
            .process_group(i32::try_from(self.leader.id()).context("process id out of range")?)
            .spawn()
            .with_context(|| format!("start {:?}", command.get_program()))?;
        Ok(Process { name: name.to_owned(), child, log })
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.watcher.stdin.take());
        drop(self.leader.stdin.take());
        let _ = self.watcher.wait();
        let _ = self.leader.wait();
    }
}

/// In a group of its own, so that a terminal's Ctrl-C does not reach it.
fn on_a_pipe(mut command: Command) -> std::io::Result<Child> {
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0).spawn()
}

/// A running server; killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().with_context(|| format!("ask for the state of {}", self.name))
    }

    /// Fails, with the end of its log, if it has ended.
    pub fn assert_running(&mut self) -> Result<()> {
        match self.ended()? {
            None => Ok(()),
            Some(status) => anyhow::bail!("{} ended: {status}\n{}", self.name, tail(&self.log(), 30)),
        }
    }

    /// Everything that it has written so far, to either output.
    pub fn log(&self) -> String {
        std::fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let id = i32::try_from(self.child.id()).context("process id out of range")?;
        let id = Pid::from_raw(id).context("process id is zero")?;
        kill_process(id, signal).with_context(|| format!("signal {}", self.name))
    }

    /// Kills it at once and waits for its end.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        self.child.wait().with_context(|| format!("wait for {}", self.name))
    }

    /// Memory in use, in bytes, as the kernel counts it (`VmRSS`, `VmHWM`, ...).
    pub fn memory(&self, field: &str) -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).context("read process status")?;
        let line = status.lines().find_map(|l| l.strip_prefix(field)?.strip_prefix(':'));
        let kib: u64 = line.and_then(|l| l.trim().strip_suffix(" kB")?.parse().ok()).context("no such memory field")?;
        Ok(kib * 1024)
    }

    /// Processor time that it has used, in user and kernel mode.
    pub fn processor_time(&self) -> Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id())).context("read process times")?;
        // The name, in parentheses, may hold anything; after it the times are the 12th and 13th field.
        let (_, fields) = stat.rsplit_once(") ").context("no such process times")?;
        let ticks = fields.split(' ').skip(11).take(2).map(str::parse::<u64>).sum::<Result<u64, _>>();
        Ok(Duration::from_secs(ticks.context("process times are numbers")?) / u32::try_from(clock_ticks_per_second())?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The last lines of a text.
pub fn tail(text: &str, lines: usize) -> String {
    let all: Vec<_> = text.lines().collect();
    all[all.len().saturating_sub(lines)..].join("\n")
}

/// A command whose environment holds nothing of the developer's cluster or configuration.
pub fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let lossy = name.to_string_lossy();
        if lossy == "KUBECONFIG" || ["KUBERNETES_", "SEALWRIGHT_", "SEAL_"].iter().any(|ours| lossy.starts_with(ours)) {
            command.env_remove(&name);
        }
    }
    command
}
