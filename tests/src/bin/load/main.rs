//! `cargo load`: what the controller costs, against a bare client that makes the same writes, in one run.
//!
//! control plane -> foreign Secrets -> baseline -> backlog -> restart -> memory -> a table.

mod backlog;
mod counts;
mod large;
mod table;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Parser;
use kube::api::{Api, ListParams};
use rustix::process::Signal;
use seal_crds::SealedSecret;
use seal_tests::install::{self, CONTROLLER};
use seal_tests::kubeseal::Kubeseal;
use seal_tests::process::command;
use seal_tests::{ControlPlane, Controller, Space, Stage, binaries};

use crate::backlog::Backlog;
use crate::counts::Counts;
use crate::large::Large;
use crate::table::{Ratio, Table};

/// Measure backlog, restart and memory on a real API server.
#[derive(Parser)]
#[command(name = "cargo load", bin_name = "cargo load")]
struct Arguments {
    /// How many SealedSecrets, and as many foreign Secrets beside.
    #[arg(long, short = 'n', default_value_t = 2000)]
    objects: usize,

    /// How often the backlog and the restart are measured; the times are means.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let measured = binaries::build_visibly().and_then(|()| measure(arguments));
    let text = match &measured {
        Ok(table) => table.to_string(),
        Err(error) => format!("error: {error:#}"),
    };
    let _ = std::io::Write::write_all(&mut std::io::stdout(), format!("{text}\n").as_bytes());
    if measured.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn measure(arguments: Arguments) -> Result<Table> {
    // Built before anything is measured.
    let programs = Programs { seal: binaries::released_seal()?, kubeseal: Kubeseal::find()? };
    let plane = Arc::new(ControlPlane::start()?);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(Run::prepare(plane, arguments))?.measure(&runtime, &programs)
}

/// What is timed as a whole process.
struct Programs {
    seal: PathBuf,
    kubeseal: Kubeseal,
}

/// One measured run.
struct Run {
    stage: Stage,
    backlog: Backlog,
    rounds: u32,
    table: Table,
}

impl Run {
    async fn prepare(plane: Arc<ControlPlane>, arguments: Arguments) -> Result<Self> {
        install::everything(&plane.client().await?).await?;
        let space = Space::named(plane, "load".to_owned()).await?;
        // The ring needs a controller to be known; it is gone before anything is measured.
        let controller = start(&space.plane, "seal-controller-first").await?;
        let stage = Stage::set(space).await?;
        let mut table = Table::new(arguments.objects);
        let process = controller.process();
        table.memory("memory with no objects", process.memory("VmRSS")?, process.memory("VmHWM")?);
        drop(process);
        stop(controller)?;
        let backlog = Backlog::seal(&stage, arguments.objects)?;
        Ok(Self { stage, backlog, rounds: arguments.rounds, table })
    }

    fn measure(mut self, runtime: &tokio::runtime::Runtime, programs: &Programs) -> Result<Table> {
        runtime.block_on(async {
            self.large_values().await?;
            self.backlog.make_foreign_secrets(&self.stage).await?;
            self.backlog_to_secrets().await?;
            self.restart().await
        })?;
        self.seal_process(programs)?;
        Ok(self.table)
    }

    /// As much at once as one Secret can hold, many times over.
    async fn large_values(&mut self) -> Result<()> {
        let large = Large::prepare(&self.stage).await?;
        let controller = start(&self.stage.space.plane, "seal-controller-large").await?;
        let [resident, peak] = large.fetch(&self.stage, &controller).await?;
        self.table.memory("memory after 60 values of 1 MB out of OpenBao, as much of others beside", resident, peak);
        self.table.claim("never more than 64 MiB meanwhile", peak <= 64 << 20);
        stop(controller)?;
        large.clear(&self.stage).await
    }

    /// The bare client and the controller in turns, so that a machine that is busy with something else is so for both.
    async fn backlog_to_secrets(&mut self) -> Result<()> {
        let (mut bare, mut ours) = (Duration::ZERO, Duration::ZERO);
        for round in 1..=self.rounds {
            bare += self.baseline().await?;
            self.backlog.clear(&self.stage).await?;
            ours += self.controller(round).await?;
            if round < self.rounds {
                self.backlog.clear(&self.stage).await?;
            }
        }
        let (bare, ours) = (bare / self.rounds, ours / self.rounds);
        self.table.row("bare client: Secret and status of each object", bare, None);
        self.table.row(
            "backlog to Secrets, from the start of the process",
            ours,
            Some(Ratio::to_bare(ours, bare, 1.3)),
        );
        Ok(())
    }

    /// The same writes by a client that does nothing else: one apply of a Secret and one of a status for each object.
    async fn baseline(&self) -> Result<Duration> {
        self.backlog.apply(&self.stage).await?;
        let done = self.backlog.all_ready(&self.stage).await?;
        let begin = Instant::now();
        self.backlog.write_barely(&self.stage).await?;
        done.await?;
        Ok(begin.elapsed())
    }

    async fn controller(&mut self, round: u32) -> Result<Duration> {
        self.backlog.apply(&self.stage).await?;
        let before = Counts::read(&self.stage.space.client).await?;
        let done = self.backlog.all_ready(&self.stage).await?;
        let begin = Instant::now();
        let controller = start(&self.stage.space.plane, CONTROLLER).await?;
        let ready = begin.elapsed();
        done.await?;
        let took = begin.elapsed();
        if round == self.rounds {
            self.table.row("start to ready, with the backlog waiting", ready, None);
            self.table.requests("backlog", &Counts::read(&self.stage.space.client).await?.since(&before));
            let process = controller.process();
            self.table.row("processor time of the controller for it", process.processor_time()?, None);
            self.table.memory("memory after the backlog", process.memory("VmRSS")?, process.memory("VmHWM")?);
        }
        stop(controller)?;
        Ok(took)
    }

    async fn restart(&mut self) -> Result<()> {
        let versions = self.backlog.versions(&self.stage).await?;
        let (mut listing, mut ready) = (Duration::ZERO, Duration::ZERO);
        for round in 1..=self.rounds {
            listing += self.list_barely().await?;
            let before = Counts::read(&self.stage.space.client).await?;
            let begin = Instant::now();
            let controller = start(&self.stage.space.plane, "seal-controller-again").await?;
            ready += begin.elapsed();
            if round == self.rounds {
                // Something new, behind all the others: when it is done, they have been looked at.
                self.stage.establish("later", &[("value", "x")]).await?;
                let counts = Counts::read(&self.stage.space.client).await?.since(&before);
                self.table.requests("restart, and one new object", &counts);
                let process = controller.process();
                self.table.memory("memory after the restart", process.memory("VmRSS")?, process.memory("VmHWM")?);
            }
            stop(controller)?;
        }
        let (listing, ready) = (listing / self.rounds, ready / self.rounds);
        self.table.row("bare client: listing both kinds", listing, None);
        let ratio = Ratio::to_bare(ready, listing, 2.0);
        self.table.row("restart over unchanged objects, to ready", ready, Some(ratio));
        let unchanged = self.backlog.versions(&self.stage).await? == versions;
        self.table.claim("no Secret and no SealedSecret was written", unchanged);
        Ok(())
    }

    /// As the controller lists: pages of SealedSecrets, and of our Secrets' metadata.
    async fn list_barely(&self) -> Result<Duration> {
        let begin = Instant::now();
        let sealed: Api<SealedSecret> = self.stage.sealed();
        let mut params = ListParams::default().limit(500);
        loop {
            let page = sealed.list(&params).await?;
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => break,
            }
        }
        let mut params = ListParams::default().limit(500).labels(seal_crds::OWNER_LABEL);
        loop {
            let page = self.stage.space.secrets().list_metadata(&params).await?;
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => return Ok(begin.elapsed()),
            }
        }
    }

    /// Both programs, over the same manifest, in turns.
    fn seal_process(&mut self, Programs { seal, kubeseal }: &Programs) -> Result<()> {
        const RUNS: usize = 40;
        let laptop = &self.stage.laptop;
        let manifest = seal_tests::laptop::secret_manifest("load", "one", &[("a", "1"), ("b", "2"), ("c", "3")])?;
        laptop.write("kubeseal.pem", kubeseal.certificate()?)?;
        let mut times = [Vec::new(), Vec::new()];
        for _ in 0..RUNS {
            let mut ours = command(seal);
            ours.args(["--to", &self.stage.ring]);
            let mut peer = kubeseal.command();
            peer.args(["--cert", "kubeseal.pem", "--format", "yaml"]);
            for (times, program) in times.iter_mut().zip([ours, peer]) {
                let begin = Instant::now();
                let said = laptop.run(program, manifest.as_bytes())?;
                times.push(begin.elapsed());
                ensure!(said.code == Some(0), "it ended with {:?}: {}", said.code, said.stderr);
                ensure!(said.stdout.windows(12).any(|word| word == b"SealedSecret"), "it sealed nothing");
            }
        }
        let [ours, peers] = times.map(median);
        self.table.row("`kubeseal --cert`, 3 values, whole process", peers, None);
        let ratio = Ratio { ours, theirs: peers, whose: "kubeseal", budget: 0.2 };
        self.table.row("`seal`, the same 3 values, whole process", ours, Some(ratio));
        Ok(())
    }
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

async fn start(plane: &ControlPlane, name: &str) -> Result<Controller> {
    let controller = Controller::spawn(plane, name, &["--log-level", "info"]).await?;
    controller.ready().await?;
    Ok(controller)
}

/// Ends it as Kubernetes would, so that the next one finds the lease released.
fn stop(controller: Controller) -> Result<()> {
    let mut process = controller.process();
    process.signal(Signal::TERM)?;
    process.wait().map(drop)
}
