//! `cargo node`: the chart and the image on a real node, with real pods; every claim is a step that is judged.
//!
//! needs of this machine, programs, image -> this program again, in namespaces of the kernel of its own ([`machine`]) ->
//! control plane and node -> steps -> the first that fails, and what was seen there.

mod container;
mod journey;
mod load;
mod machine;
mod releases;
mod upheavals;
mod vault;
mod world;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use seal_tests::narrator::Narrator;
use seal_tests::wait;

use crate::machine::Machine;
use crate::world::World;

/// See the chart installed on a real node, with the image that is released: what the kernel says of its containers, a
/// value from OpenBao, memory, a controller that hangs, a drained node, the next release under load and the way back, a
/// node that loses its power.
///
/// Not part of `cargo test`: it needs root, for it makes namespaces, mounts and containers, all of which end with it. Says
/// what is missing. Takes five minutes. Exits with 1 at the first step that fails.
#[derive(Parser)]
#[command(name = "cargo node", bin_name = "cargo node")]
struct Arguments {
    /// Use this image, as `.ci/image` writes it, instead of building one.
    #[arg(long, value_name = "FILE")]
    image: Option<PathBuf>,

    /// Said by this program to itself: everything is prepared in this folder, and this is its namespace.
    #[arg(long, value_name = "FOLDER", hide = true)]
    inside: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut narrator = Narrator::new();
    let outcome = match &arguments.inside {
        None => Machine::prepare(arguments.image.as_deref(), &mut narrator).and_then(|machine| machine.enter()),
        Some(folder) => judged(folder, &mut narrator).map(|()| ExitCode::SUCCESS),
    };
    outcome.unwrap_or_else(|error| {
        narrator.fail(&error);
        ExitCode::FAILURE
    })
}

fn judged(folder: &Path, narrator: &mut Narrator) -> Result<()> {
    let world = World::make(folder, narrator)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let mut world = world.with_node().await?;
        let outcome = wait::or_interrupted(all_steps(&mut world)).await;
        if outcome.is_err() {
            world.show().await;
        }
        outcome
    })
}

async fn all_steps(world: &mut World<'_>) -> Result<()> {
    journey::helm_installs_and_waits(world).await?;
    container::it_is_confined(world).await?;
    journey::a_sealed_secret_is_opened(world).await?;
    journey::a_pod_reads_it(world).await?;
    vault::a_value_stays_in_openbao(world).await?;
    container::it_keeps_to_its_memory(world).await?;
    container::one_with_too_little_memory_comes_back(world).await?;
    container::one_that_hangs_is_started_again(world).await?;
    upheavals::a_pod_is_killed(world).await?;
    upheavals::the_node_is_drained(world).await?;
    releases::an_upgrade_under_load_and_the_way_back(world).await?;
    upheavals::the_node_loses_its_power(world).await?;
    releases::an_uninstall_keeps_what_matters(world).await?;
    vault::holds(&world.stage().await?, "third").await?;
    world.narrator.title("\nAll of it holds.");
    Ok(())
}
