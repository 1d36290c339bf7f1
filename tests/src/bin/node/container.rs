//! The container as the kernel has it: what it may, what it takes, and what becomes of one that hangs or takes too much.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use kube::ResourceExt;
use rustix::process::Signal;
use seal_tests::helm::{RELEASE, chart};
use seal_tests::node::FirstProcess;
use seal_tests::wait;

use crate::load::Load;
use crate::world::{WAIT, World};

/// What the chart's security contexts come to, in the kernel's words.
const CONFINED: [(&str, &str); 9] = [
    ("Uid", "65532 65532 65532 65532"),
    ("Gid", "65532 65532 65532 65532"),
    ("NoNewPrivs", "1"),
    // A filter, which the runtime's default is.
    ("Seccomp", "2"),
    ("CapInh", "0000000000000000"),
    ("CapPrm", "0000000000000000"),
    ("CapEff", "0000000000000000"),
    ("CapBnd", "0000000000000000"),
    ("CapAmb", "0000000000000000"),
];

/// A hanging process is seen after three probes, 20 s apart, and given 30 s to end: both are the chart's.
const HANGING: Duration = Duration::from_secs(300);

pub(crate) async fn it_is_confined(world: &mut World<'_>) -> Result<()> {
    world.narrator.step("What the kernel says of the containers");
    for pod in world.pods().await? {
        let process = FirstProcess::of(&pod)?;
        for (field, wanted) in CONFINED {
            let found = process.status(field)?;
            ensure!(found == wanted, "{field} of {} is {found}, not {wanted}", pod.name_any());
        }
        ensure!(process.has_read_only_root()?, "{} can write to its root", pod.name_any());
    }
    world.narrator.say("Not root, no capability, no way to get one, system calls filtered, nothing to write to.");
    world.narrator.say("The NetworkPolicy is not judged here: the bridge between these pods enforces none.");
    Ok(())
}

pub(crate) async fn it_keeps_to_its_memory(world: &mut World<'_>) -> Result<()> {
    const OBJECTS: usize = 200;
    world.narrator.step("200 SealedSecrets of 64 KB");
    let begin = Instant::now();
    let before = world.restarts().await?;
    Load::of(world.stage().await?, "large", &"x".repeat(64 << 10))?.until(|made| made == OBJECTS).await?;
    world.narrator.seen("each has its Secret", begin);
    let leader = world.leader().await?;
    for pod in world.pods().await? {
        let (peak, limit) = FirstProcess::of(&pod)?.memory()?;
        ensure!(peak < limit / 2, "{} took {peak} of {limit} bytes", pod.name_any());
        let role = if pod.name_any() == leader { "The one that works" } else { "The other" };
        world.narrator.say(format!("{role} never took more than {} MB of {} MB.", peak >> 20, limit >> 20));
    }
    // One that was killed for it would have begun to count anew.
    ensure!(world.restarts().await? == before, "a container was started again");
    Ok(())
}

pub(crate) async fn one_that_hangs_is_started_again(world: &mut World<'_>) -> Result<()> {
    world.narrator.step("The controller that works hangs (SIGSTOP)");
    let stage = world.stage().await?;
    let (hanging, before) = (world.leading_pod().await?, world.restarts().await?);
    let begin = Instant::now();
    FirstProcess::of(&hanging)?.signal(Signal::STOP)?;
    stage.establish("hanging", &[("password", "1")]).await?;
    world.narrator.seen("its lease ran out: what was applied is opened, by the other", begin);
    wait::until_within(HANGING, "the kubelet starts it again", || async {
        Ok((world.restarts().await? > before).then_some(()))
    })
    .await?;
    world.all_ready().await?;
    world.narrator.seen("its probe failed, the kubelet started it again", begin);
    let leader = world.leader().await?;
    ensure!(leader != hanging.name_any(), "{leader} has the lease again");
    Ok(())
}

pub(crate) async fn one_with_too_little_memory_comes_back(world: &mut World<'_>) -> Result<()> {
    // Enough to start, and for nothing large.
    const SCARCE: &str = "resources.limits.memory=8Mi,resources.requests.memory=8Mi";
    const MOST: usize = 100;
    world.narrator.step("A memory limit that is too small, and helm rollback");
    let chart = chart();
    let chart = chart.to_str().context("the chart's path is text")?;
    let upgrade = ["upgrade", RELEASE, chart, "--reset-then-reuse-values", "--set", SCARCE];
    world.helm.run(&[&upgrade[..], &WAIT].concat())?;
    world.all_ready().await?;

    let load = Load::of(world.stage().await?, "huge", &"x".repeat(600 << 10))?;
    let begin = Instant::now();
    let mut applied = 0;
    while applied < MOST && !was_out_of_memory(world).await? {
        load.apply(applied).await?;
        applied += 1;
    }
    wait::until("the kernel kills it", || async { Ok(was_out_of_memory(world).await?.then_some(())) }).await?;
    world.narrator.seen(format!("OOMKilled, by {applied} SealedSecrets of 600 KB at once"), begin);

    let begin = Instant::now();
    world.helm.run(&[&["rollback", RELEASE][..], &WAIT].concat())?;
    world.all_ready().await?;
    for number in 0..applied {
        load.has_its_secret(number).await?;
    }
    world.narrator.seen("with the chart's limit again, each has its Secret", begin);
    Ok(())
}

/// Whether the kernel killed a container of ours, and the kubelet started it again.
async fn was_out_of_memory(world: &World<'_>) -> Result<bool> {
    let pods = world.pods().await?;
    let containers = pods.iter().filter_map(|pod| pod.status.as_ref()?.container_statuses.as_ref()).flatten();
    let ends = containers.filter_map(|container| container.last_state.as_ref()?.terminated.as_ref());
    Ok(ends.into_iter().any(|end| end.reason.as_deref() == Some("OOMKilled")))
}
