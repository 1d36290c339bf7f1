//! The `seal-controller` binary: prepares the process, then runs the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    match seal_controller::process::harden() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

/// Says on stderr what went wrong before telemetry exists.
#[expect(clippy::print_stderr, reason = "telemetry is not up yet, and stderr is where it would go")]
fn complain(error: &dyn std::error::Error) {
    eprintln!("error: {error}");
    if let Some(cause) = error.source() {
        eprintln!("cause: {cause}");
    }
}
