//! The two channels: stdout carries data and nothing else, stderr carries talk.
//!
//! The only file that prints. A reader that goes away (`seal ... | head`) is not an error, and neither is a stdout that
//! was closed from the start, which Rust's library has replaced by `/dev/null` before `main`.

#![allow(clippy::print_stderr, reason = "this is the file that talks")]

use std::{
    error::Error as StdError,
    io::{self, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use serde::Serialize;

use crate::error::{Error, Kind, Result};

/// Writes data to stdout, verbatim.
pub(crate) fn data(bytes: &[u8]) -> Result<()> {
    clear_progress();
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes).and_then(|()| stdout.flush()).map_err(|cause| match cause.kind() {
        io::ErrorKind::BrokenPipe => Error::broken_pipe(),
        _ => Error::request("cannot write to stdout").because(cause).hint("the output is not complete: do not use it"),
    })
}

/// As [`data`], where the exit code says what the data do: it is the same whether anybody reads them or not.
pub(crate) fn data_if_read(bytes: &[u8]) -> Result<()> {
    data(bytes).or_else(|error| if error.kind() == Kind::BrokenPipe { Ok(()) } else { Err(error) })
}

/// Writes a value to stdout, as JSON.
pub(crate) fn json(value: &impl Serialize) -> Result<()> {
    data(&json_text(value)?)
}

/// A value as JSON, ending in a line break.
pub(crate) fn json_text(value: &impl Serialize) -> Result<Vec<u8>> {
    let mut text = serde_json::to_vec_pretty(value).map_err(|cause| Error::bug("no JSON").because(cause))?;
    text.push(b'\n');
    Ok(text)
}

/// Whether a person reads stdout.
pub(crate) fn stdout_is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// A path as a person here would type it.
pub(crate) fn near(path: &Path) -> String {
    let Ok(here) = std::env::current_dir() else { return path.display().to_string() };
    // Up to three folders above, as from a folder of a repository to its top.
    let above = here.ancestors().take(4).enumerate();
    let short = above
        .filter(|(_, folder)| folder.parent().is_some())
        .find_map(|(steps, folder)| Some(Path::new(&"../".repeat(steps)).join(path.strip_prefix(folder).ok()?)));
    // Put together anew, with the separators of this system.
    short.as_deref().unwrap_or(path).components().collect::<PathBuf>().display().to_string()
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

/// Asks; the answer is typed on the same line.
pub(crate) fn prompt(question: &str) {
    talk(format_args!("{question}"));
}

/// Rows below headings, in columns.
pub(crate) fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let in_one_line = |cell: &String| visible(&cell.replace('\n', "\\n"));
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(in_one_line).collect()).collect();
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([headings[column].len()]).max().unwrap_or_default()
    };
    let widths: Vec<_> = (0..headings.len()).map(width).collect();
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let padded: Vec<_> = cells.zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        format!("{}\n", padded.join("  ").trim_end())
    };
    let body = rows.iter().map(|row| line(&mut row.iter().map(String::as_str)));
    [line(&mut headings.iter().copied())].into_iter().chain(body).collect()
}

/// Prints an error: the message with its causes on one line, then the hints.
pub(crate) fn error(error: &Error) {
    if error.kind() != Kind::BrokenPipe {
        report("error", error);
    }
}

/// Prints what went wrong with a part, where the rest goes on.
pub(crate) fn warning(error: &Error) {
    report("warning", error);
}

fn report(severity: &str, error: &Error) {
    let mut line = format!("{severity}: {error}");
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
    clear_progress();
    let _ = io::stderr().lock().write_all(visible(&without_private_keys(text.to_string())).as_bytes());
}

/// How far long work has come: one line, for a person at a terminal alone, and gone when anything else is said.
pub(crate) struct Progress {
    what: &'static str,
    all: usize,
    done: usize,
    begun: Instant,
    /// When it was last told, after it had begun.
    told: Duration,
    is_seen: bool,
}

/// Whether a line of progress stands on the terminal.
static IN_PROGRESS: AtomicBool = AtomicBool::new(false);

impl Progress {
    /// Of `all` files, of which none is done yet.
    pub(crate) fn of(what: &'static str, all: usize) -> Self {
        let is_seen = io::stderr().is_terminal();
        Self { what, all, done: 0, begun: Instant::now(), told: Duration::ZERO, is_seen }
    }

    /// One more is done.
    pub(crate) fn step(&mut self) {
        self.done += 1;
        if let Some(line) = self.line_at(self.begun.elapsed()).filter(|_| self.is_seen) {
            let _ = write!(io::stderr().lock(), "\r\x1b[K{line}");
            IN_PROGRESS.store(true, Ordering::Relaxed);
        }
    }

    /// What is done within half a second needs no line, and nobody reads ten a second.
    fn line_at(&mut self, now: Duration) -> Option<String> {
        if now < Duration::from_millis(500) || now < self.told + Duration::from_millis(100) {
            return None;
        }
        self.told = now;
        Some(format!("{}: {} of {} files", self.what, self.done, self.all))
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        clear_progress();
    }
}

fn clear_progress() {
    if IN_PROGRESS.swap(false, Ordering::Relaxed) {
        let _ = io::stderr().lock().write_all(b"\r\x1b[K");
    }
}

/// Text in which every control character but a line break is spelt out: names come from files of strangers, and must
/// not move the cursor, clear the screen or set the title of a terminal.
pub(crate) fn visible(text: &str) -> String {
    let spelt = |c: char| if c.is_control() && c != '\n' { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(spelt).collect()
}

/// A private key that was given for a file name, say, would be quoted by the error about it. Where only its beginning
/// stands, as in advice, nothing is told.
fn without_private_keys(text: String) -> String {
    const PREFIX: &str = "AGE-SECRET-KEY-";
    let mut rest = text.as_str();
    let mut clean = String::new();
    while let Some(at) = rest.to_ascii_uppercase().find(PREFIX) {
        let (before, key) = rest.split_at(at);
        let end = key.find(|c: char| !c.is_ascii_alphanumeric() && c != '-').unwrap_or(key.len());
        let (key, behind) = key.split_at(end);
        let is_beginning = matches!(key[PREFIX.len()..].to_ascii_uppercase().as_str(), "" | "1" | "PQ-1");
        clean.push_str(before);
        clean.push_str(if is_beginning { key } else { "(a private key)" });
        rest = behind;
    }
    clean + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_key_is_never_said() {
        for key in ["AGE-SECRET-KEY-PQ-1QQQ", "age-secret-key-1qqq"] {
            let said = without_private_keys(format!("é: no file `{key}`, no {key}"));
            assert_eq!(said, "é: no file `(a private key)`, no (a private key)");
        }
        let advice = "a line AGE-SECRET-KEY-PQ-1..., not AGE-SECRET-KEY-1...";
        assert_eq!(without_private_keys(advice.to_owned()), advice);
    }

    #[test]
    fn only_long_work_tells_how_far_it_is() {
        let mut progress = Progress::of("reading", 7000);
        progress.done = 30;
        let mut line_at = |millis| progress.line_at(Duration::from_millis(millis));
        assert_eq!((line_at(0), line_at(499)), (None, None));
        assert_eq!(line_at(500).as_deref(), Some("reading: 30 of 7000 files"));
        assert_eq!((line_at(599), line_at(600).is_some()), (None, true));
    }

    #[test]
    fn control_characters_are_spelt_out() {
        assert_eq!(visible("a\x1b[2J\u{9b}\r\tä\nb"), "a\\u{1b}[2J\\u{9b}\\r\\tä\nb");
        assert_eq!(table(&["A"], &[vec!["\x07\n".to_owned()]]), "A\n\\u{7}\\n\n");
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["ä".to_owned(), "1".to_owned()], vec!["bbb".to_owned(), String::new()]];
        assert_eq!(table(&["A", "B"], &rows), "A    B\nä    1\nbbb\n");
    }
}
