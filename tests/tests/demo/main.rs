//! `cargo demo` itself, in its three forms.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use k8s_openapi::api::core::v1::Namespace;
use kube::api::Api;
use rustix::process::{Pid, Signal, kill_process};
use seal_tests::{Context, Result, bail, ensure, in_namespace};

fn demo(arguments: &[&str]) -> Command {
    let mut demo = Command::new(env!("CARGO_BIN_EXE_demo"));
    demo.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped());
    demo
}

/// What every telling must have seen to be so.
fn assert_told(story: &str) {
    for seen in [
        "the API server is ready",
        "Secret db holds user=app",
        "-> repaired",
        "-> made again",
        "-> refused",
        "-> healed by itself",
        "-> merged by plain git",
        "Secret mail holds password=first",
        "Secret mail holds password=second",
        "-> told: Ready=True, VaultSynced=False VaultUnreachable",
        "-> the outage is over",
        "| tr0ub4dor",
    ] {
        assert!(story.contains(seen), "`{seen}` is missing in:\n{story}");
    }
}

#[test]
fn the_demo_tells_its_story_to_the_end() -> Result<()> {
    let output = demo(&[]).output()?;
    let story = String::from_utf8(output.stdout)?;
    assert!(output.status.success(), "{story}");
    assert_told(&story);
    Ok(())
}

#[test]
fn without_openbao_the_demo_says_so_and_tells_the_rest() -> Result<()> {
    let output = demo(&[]).env("BAO_BIN", "/nonexistent/bao").output()?;
    let story = String::from_utf8(output.stdout)?;
    assert!(output.status.success(), "{story}");
    assert!(story.contains("Not shown here, because there is no OpenBao") && story.contains("BAO_BIN"), "{story}");
    assert!(story.contains("-> merged by plain git") && story.contains("| tr0ub4dor"), "{story}");
    Ok(())
}

#[test]
fn in_a_cluster_of_ones_own_the_demo_leaves_nothing_behind() {
    in_namespace(|space| async move {
        let kubeconfig = space.plane.kubeconfig();
        let run = tokio::task::spawn_blocking(move || demo(&["--kubeconfig", &kubeconfig.to_string_lossy()]).output());
        let output = run.await??;
        let story = String::from_utf8(output.stdout)?;
        ensure!(output.status.success(), "{story}");
        assert_told(&format!("the API server is ready{story}"));
        let namespaces: Api<Namespace> = Api::all(space.client.clone());
        assert_eq!(namespaces.get_opt("sealwright-system").await?, None);
        assert_eq!(namespaces.get_opt("sealwright-demo").await?, None);
        assert!(kube::discovery::group(&space.client, "sealwright.dev").await.is_err(), "the definitions are gone");
        Ok(())
    });
}

#[test]
fn kept_it_applies_every_commit_and_ends_with_ctrl_c() -> Result<()> {
    let mut kept = demo(&["--keep"]).spawn()?;
    let mut lines = BufReader::new(kept.stdout.take().context("stdout is piped")?).lines();
    let mut until = |wanted: &str| -> Result<String> {
        for line in lines.by_ref() {
            let line = line?;
            if line.contains(wanted) {
                return Ok(line);
            }
        }
        bail!("the demo ended without saying `{wanted}`")
    };
    let folder = until("$ cd ")?.split("$ cd ").nth(1).context("a folder is named")?.to_owned();
    until("is applied within a second")?;
    let commit = "git -c user.name=me -c user.email=me@example.com commit --quiet --allow-empty --message 'my change'";
    let committed = Command::new("sh").args(["-c", commit]).current_dir(&folder).status()?;
    assert!(committed.success());
    until("my change")?;
    interrupt(&kept)?;
    assert!(kept.wait()?.success());
    assert!(!std::path::Path::new(&folder).exists(), "the repository is gone");
    Ok(())
}

fn interrupt(process: &Child) -> Result<()> {
    let id = Pid::from_raw(i32::try_from(process.id())?).context("not a process")?;
    Ok(kill_process(id, Signal::INT)?)
}
