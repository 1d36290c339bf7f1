//! However a test run ends, its servers end too and its scratch folder is gone.

use std::io::{BufRead, BufReader, Write, stdin, stdout};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use seal_tests::control_plane::ControlPlane;
use seal_tests::process::Guard;
use seal_tests::{Context, Result, wait};

/// Set in the run that is to be ended: the test of this name, in a process of its own.
const VICTIM: &str = "SEAL_TESTS_VICTIM";

#[test]
fn a_run_killed_with_sigkill_leaves_no_server_behind() -> Result<()> {
    if is_victim() {
        let plane = ControlPlane::start()?;
        return tell_and_stay(plane.guard());
    }
    let mut run = Victim::start("a_run_killed_with_sigkill_leaves_no_server_behind")?;
    assert_eq!(run.servers.len(), 3, "etcd, kube-apiserver and kube-controller-manager run");
    run.signal(Signal::KILL)?;
    run.leaves_nothing_behind()
}

#[test]
fn a_run_interrupted_with_ctrl_c_leaves_no_server_behind() -> Result<()> {
    if is_victim() {
        return tell_and_stay(&guarded_sleeper()?);
    }
    let mut run = Victim::start("a_run_interrupted_with_ctrl_c_leaves_no_server_behind")?;
    run.signal(Signal::INT)?;
    run.leaves_nothing_behind()
}

#[test]
fn a_run_that_panics_leaves_no_server_behind() -> Result<()> {
    if is_victim() {
        // Leaked on purpose, as the shared control plane is: nothing but the end of the process can clean up.
        let guard = Box::leak(Box::new(guarded_sleeper()?));
        tell_and_stay(guard)?;
        panic!("the run ends here");
    }
    let mut run = Victim::start("a_run_that_panics_leaves_no_server_behind")?;
    run.proceed();
    run.leaves_nothing_behind()
}

#[test]
fn dropping_the_guard_ends_its_processes_and_removes_its_folder() -> Result<()> {
    let guard = guarded_sleeper()?;
    let (servers, scratch) = (members(&guard)?, guard.scratch().to_owned());
    assert!(servers.iter().all(|id| is_alive(*id)) && scratch.is_dir());
    drop(guard);
    assert!(!scratch.exists());
    all_end(&servers)
}

fn guarded_sleeper() -> Result<Guard> {
    let guard = Guard::start()?;
    // Forgotten on purpose: its own drop must not be what ends it.
    std::mem::forget(guard.spawn("sleeper", Command::new("sleep").arg("1000"))?);
    Ok(guard)
}

fn is_victim() -> bool {
    std::env::var_os(VICTIM).is_some()
}

/// In the victim: says what it runs, then stays until it is told to go on, or is ended.
fn tell_and_stay(guard: &Guard) -> Result<()> {
    let servers: Vec<String> = members(guard)?.iter().map(u32::to_string).collect();
    writeln!(stdout(), "\nVICTIM\t{}\t{}", servers.join(","), guard.scratch().display())?;
    stdin().read_line(&mut String::new())?;
    Ok(())
}

/// The processes that hold a log in the guard's scratch folder open.
fn members(guard: &Guard) -> Result<Vec<u32>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        let Some(id) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let output = std::fs::read_link(format!("/proc/{id}/fd/1"));
        if id != std::process::id() && output.is_ok_and(|path| path.starts_with(guard.scratch())) {
            found.push(id);
        }
    }
    Ok(found)
}

/// A zombie counts as dead: who reaps the orphans of a killed process is the machine's affair.
fn is_alive(id: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{id}/stat"))
        .is_ok_and(|stat| !stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('Z')))
}

struct Victim {
    run: Child,
    servers: Vec<u32>,
    scratch: PathBuf,
}

impl Victim {
    fn start(test: &str) -> Result<Self> {
        let mut run = Command::new(std::env::current_exe()?)
            .args(["--exact", &format!("endings::{test}"), "--nocapture"])
            .env(VICTIM, "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        for line in BufReader::new(run.stdout.take().context("stdout is piped above")?).lines() {
            if let Some((servers, scratch)) = line?.strip_prefix("VICTIM\t").and_then(|rest| rest.split_once('\t')) {
                let servers = servers.split(',').map(str::parse).collect::<Result<_, _>>()?;
                return Ok(Self { run, servers, scratch: Path::new(scratch).to_owned() });
            }
        }
        seal_tests::bail!("the run ended without saying what it had started: {}", run.wait()?)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        assert!(self.servers.iter().all(|id| is_alive(*id)) && self.scratch.is_dir());
        let id = Pid::from_raw(i32::try_from(self.run.id())?).context("not a process")?;
        Ok(kill_process(id, signal)?)
    }

    fn proceed(&mut self) {
        drop(self.run.stdin.take());
    }

    fn leaves_nothing_behind(&mut self) -> Result<()> {
        assert!(!self.run.wait()?.success());
        all_end(&self.servers)?;
        eventually("the scratch folder is gone", || !self.scratch.exists())
    }
}

/// A killed process needs a moment to end.
fn all_end(servers: &[u32]) -> Result<()> {
    eventually("no server is left", || !servers.iter().any(|id| is_alive(*id)))
}

fn eventually(what: &str, claim: impl Fn() -> bool) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(wait::until(what, || async { Ok(claim().then_some(())) }))
}
