//! `seal` turns Secrets into SealedSecret manifests, with public keys only.
//!
//! arguments -> `Request` -> documents -> sealed documents -> files. This file parses, runs, and turns the result
//! into an exit code; a broken pipe is success.

mod args;
mod commands;
mod config;
mod error;
mod files;
mod manifest;
mod output;

use std::process::ExitCode;

use clap::Parser as _;

use crate::args::Cli;

fn main() -> ExitCode {
    keep_memory_private();
    report_panics_without_their_text();
    let cli = Cli::parse();
    match commands::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::error(&error);
            ExitCode::from(error.kind().exit_code())
        }
    }
}

/// Core dumps off: a crash must not write plaintext to the disk. Best effort, a refusal changes nothing for the worse.
fn keep_memory_private() {
    #[cfg(unix)]
    {
        use rustix::process::{Resource, Rlimit, setrlimit};
        let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    }
}

/// A panic message can quote what was being worked on, so only its place is told.
fn report_panics_without_their_text() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
        output::error(
            &error::Error::bug(format!("internal error at {place}"))
                .hint("this is a bug in seal; please report the line above (it holds nothing of your files)"),
        );
        std::process::exit(i32::from(error::Kind::Bug.exit_code()));
    }));
}
