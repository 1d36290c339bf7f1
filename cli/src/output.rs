//! The two channels: stdout carries data and nothing else, stderr carries talk.
//!
//! The only file that prints. A reader that goes away (`seal ... | head`) is not an error.

#![allow(clippy::print_stderr, reason = "this is the file that talks")]

use std::{
    error::Error as StdError,
    io::{self, IsTerminal as _, Write as _},
};

use crate::error::{Error, Kind, Result};

/// Writes data to stdout, verbatim.
pub(crate) fn data(bytes: &[u8]) -> Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(|cause| match cause.kind() {
        io::ErrorKind::BrokenPipe => Error::broken_pipe(),
        _ => Error::request("cannot write to stdout").because(cause),
    })
}

/// Whether a person reads stdout.
pub(crate) fn stdout_is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Says what was done.
pub(crate) fn say(text: &str) {
    talk(format_args!("{text}\n"));
}

/// Points out what is probably not meant; the work goes on.
pub(crate) fn warn(text: &str) {
    talk(format_args!("warning: {text}\n"));
}

/// Adds what to do to a message or a warning.
pub(crate) fn hint(text: &str) {
    talk(format_args!("hint: {text}\n"));
}

/// Prints an error: the message with its causes on one line, then the hints.
pub(crate) fn error(error: &Error) {
    if error.kind() == Kind::BrokenPipe {
        return;
    }
    let mut line = format!("error: {error}");
    let mut cause = error.source();
    while let Some(link) = cause {
        line.push_str(": ");
        line.push_str(&link.to_string());
        cause = link.source();
    }
    say(&line);
    for advice in error.hints() {
        hint(advice);
    }
}

/// Talk that nobody can hear (stderr closed) is not worth failing for.
fn talk(text: std::fmt::Arguments<'_>) {
    let _ = io::stderr().lock().write_fmt(text);
}
