//! `cargo gitops`: a real Argo CD syncs a real Git repository; every claim of its guide is a step that is judged.
//!
//! needs of this machine -> control plane, Argo CD, laptop ([`world`]) -> steps, each with a namespace and an Application
//! of its own -> the first that fails, and everything that was seen there.

mod applications;
mod health;
mod lives;
mod platform;
mod rest;
mod sources;
mod waves;
mod world;

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use clap::Parser;
use seal_tests::argo_cd::NEEDS;
use seal_tests::narrator::Narrator;
use seal_tests::{ControlPlane, binaries, needs, wait};

use crate::world::{World, further};

/// See a real Argo CD install the chart, sync sealed files, judge their health, heal, prune and wait.
///
/// Not part of `cargo test`: it needs redis-server, and builds Argo CD from source once. Exits with 1 at the first step
/// that fails.
#[derive(Parser)]
#[command(name = "cargo gitops", bin_name = "cargo gitops")]
struct Arguments {}

fn main() -> ExitCode {
    Arguments::parse();
    let mut narrator = Narrator::new();
    match judged(&mut narrator) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            narrator.fail(&error);
            ExitCode::FAILURE
        }
    }
}

fn judged(narrator: &mut Narrator) -> Result<()> {
    narrator.title("Sealwright under a real Argo CD");
    needs::programs(NEEDS)?;
    narrator.step("Build what is under test, and start a control plane");
    binaries::build_visibly()?;
    let plane = Arc::new(ControlPlane::start_with(|_| Ok(further()))?);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let mut world = World::make(plane, narrator).await?;
        let outcome = wait::or_interrupted(all_steps(&mut world)).await;
        if outcome.is_err() {
            world.show().await;
        }
        outcome
    })
}

async fn all_steps(world: &mut World<'_>) -> Result<()> {
    platform::the_chart_is_an_application(world).await?;
    platform::rings_are_an_application(world).await?;
    health::a_commit_becomes_a_secret(world).await?;
    health::each_state_of_a_sealed_secret(world).await?;
    health::each_state_of_a_ring(world).await?;
    health::each_state_of_a_vault_store(world).await?;
    lives::what_is_changed_in_the_cluster_is_put_back(world).await?;
    lives::what_leaves_git_is_pruned(world).await?;
    waves::a_workload_waits_for_its_secret(world).await?;
    waves::a_workload_is_not_made_without_its_secret(world).await?;
    sources::kustomize_overlays(world).await?;
    sources::a_chart_with_sealed_values(world).await?;
    rest::nothing_is_out_of_sync_at_rest(world).await?;
    world.narrator.title("\nAll of it holds.");
    Ok(())
}
