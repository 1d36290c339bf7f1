//! The `seal-controller` binary: prepares the process, then runs the library.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Parser;
use seal_controller::{
    args::{Args, Command},
    process,
    settings::Settings,
    telemetry, wiring,
};

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> ExitCode {
    let args = Args::parse();
    let ended = match args.command {
        Some(Command::Crds) => print(&seal_crds::crds_yaml()).map_err(Failure::from),
        None => run(args),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&*error);
            ExitCode::FAILURE
        }
    }
}

fn run(args: Args) -> Result<(), Failure> {
    process::harden()?;
    let (format, level) = (args.log_format, args.log_level);
    let settings = Settings::try_from(args)?;
    telemetry::start(format, level)?;
    // Opening values is arithmetic: more threads than processors would only take memory, and so would one for each of a
    // large node's where the pod has no limit.
    let threads = std::thread::available_parallelism().map_or(2, usize::from).min(8);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(threads)
        .max_blocking_threads(threads + 2)
        .enable_all()
        .build()?;
    Ok(runtime.block_on(wiring::run(settings))?)
}

fn print(text: &str) -> io::Result<()> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        // Whoever reads has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// Says on stderr why the process ends.
#[expect(clippy::print_stderr, reason = "telemetry may not be up, and stderr is where it would go")]
fn complain(error: &(dyn std::error::Error + 'static)) {
    eprintln!("error: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        eprintln!("cause: {error}");
        cause = error.source();
    }
}
