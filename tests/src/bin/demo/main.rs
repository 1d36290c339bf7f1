//! `cargo demo`: the whole journey of a Secret, on a real Kubernetes API server, told step by step.
//!
//! arguments -> cluster (started, or one's own) -> story -> what to try next.

mod cluster;
mod operator;
mod story;
mod vault;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use crate::cluster::Cluster;
use seal_tests::narrator::Narrator;

/// Watch a Secret being sealed, committed, applied, opened, changed, tampered with and repaired, and a value that stays in
/// OpenBao.
#[derive(Parser)]
#[command(name = "cargo demo", bin_name = "cargo demo")]
struct Arguments {
    /// Leave it running, with a kubeconfig to play with, until Ctrl-C.
    #[arg(long)]
    keep: bool,

    /// Use the cluster of this kubeconfig instead of starting one.
    ///
    /// The definitions, the namespace `sealwright-system` and the rights are installed there if they are not yet, and
    /// what was installed is removed at the end. The controller runs here, as a local process.
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut narrator = Narrator::new();
    match told(&arguments, &mut narrator) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            narrator.fail(&error);
            ExitCode::FAILURE
        }
    }
}

fn told(arguments: &Arguments, narrator: &mut Narrator) -> anyhow::Result<()> {
    narrator.title("Sealwright: a Secret's way through Git");
    let mut cluster = Cluster::prepare(arguments.kubeconfig.as_deref(), narrator)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        let outcome = tokio::select! {
            outcome = perform(arguments, &mut cluster, narrator) => outcome,
            _ = tokio::signal::ctrl_c() => Ok(()),
        };
        cluster.leave(narrator).await?;
        outcome
    })
}

async fn perform(arguments: &Arguments, cluster: &mut Cluster, narrator: &mut Narrator) -> anyhow::Result<()> {
    let ending = story::tell(cluster, narrator).await?;
    story::what_next(&ending, arguments.keep, narrator);
    if arguments.keep {
        operator::serve(&ending.operator, narrator).await?;
    }
    Ok(())
}
