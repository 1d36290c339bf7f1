//! `seal` turns Secrets into SealedSecret manifests, with public keys only.
//!
//! arguments -> `Request` -> documents -> sealed documents -> files. This file parses, runs, and turns the result
//! into an exit code; a broken pipe is success.

#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test fails by panicking"))]

mod args;
mod cluster;
mod commands;
mod config;
mod error;
mod files;
mod keyfile;
mod manifest;
mod opener;
mod output;
mod plan;
mod refusal;
mod request;
mod rings;
mod sealed;
mod sealing;
mod terminal;
mod values;
mod vault;

use std::{path::PathBuf, process::ExitCode};

use clap::{CommandFactory as _, FromArgMatches as _};

use crate::args::Cli;

fn main() -> ExitCode {
    keep_memory_private();
    report_panics_without_their_text();
    let cli = parse().unwrap_or_else(|refusal| refuse(&refusal));
    match commands::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::error(&error);
            ExitCode::from(error.kind().exit_code())
        }
    }
}

/// Ends the program as clap would, or with an error of ours.
fn refuse(refusal: &clap::Error) -> ! {
    let Err(error) = refusal::told(refusal) else { refusal.exit() };
    output::error(&error);
    std::process::exit(i32::from(error.kind().exit_code()));
}

/// Reads the command line. As kubectl's plugin the program is `kubectl seal`; on Windows it is not `seal.exe`.
fn parse() -> Result<Cli, clap::Error> {
    let program = std::env::args_os().next().map(PathBuf::from).unwrap_or_default();
    let is_plugin = program.file_stem().is_some_and(|name| name == "kubectl-seal" || name == "kubectl_seal");
    let command = Cli::command().bin_name(if is_plugin { "kubectl seal" } else { "seal" });
    Cli::from_arg_matches(&command.try_get_matches()?)
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

#[cfg(test)]
mod tests {
    use std::process::Command;

    /// The test runs itself as a program that panics, so that the program itself needs no way to make it panic.
    #[test]
    fn a_panic_shows_no_byte_of_what_was_worked_on() {
        const PANICS: &str = "SEAL_TEST_PANICS";
        const MARKER: &str = "hunter2-marker";
        if std::env::var_os(PANICS).is_some() {
            super::report_panics_without_their_text();
            panic!("cannot seal {MARKER}");
        }
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "tests::a_panic_shows_no_byte_of_what_was_worked_on", "--nocapture"])
            .env(PANICS, "yes")
            .env("RUST_BACKTRACE", "full")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert_eq!(output.status.code(), Some(70), "{said}");
        assert!(said.contains("error: internal error at ") && said.contains(concat!(file!(), ":")), "{said}");
        assert!(said.contains("hint: this is a bug in seal") && !said.contains(MARKER), "{said}");
    }
}
