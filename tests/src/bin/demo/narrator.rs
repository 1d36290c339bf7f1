//! Says on stdout what happens: steps with numbers, commands as they are typed, what they answer.

use std::fmt::Display;
use std::io::{IsTerminal, Write, stdout};
use std::path::Path;
use std::time::{Duration, Instant};

use seal_tests::laptop::Said;

/// A token is 1.6 KB; more than its beginning says nothing to a reader.
const SHOWN_OF_A_LINE: usize = 100;

/// Tells the story.
pub(crate) struct Narrator {
    bold: &'static str,
    dim: &'static str,
    plain: &'static str,
    step: usize,
}

impl Narrator {
    pub(crate) fn new() -> Self {
        let colours = stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let (bold, dim, plain) = if colours { ("\x1b[1m", "\x1b[2m", "\x1b[0m") } else { ("", "", "") };
        Self { bold, dim, plain, step: 0 }
    }

    pub(crate) fn title(&self, text: &str) {
        self.line(&format!("{}{text}{}", self.bold, self.plain));
    }

    /// Begins a new step.
    pub(crate) fn step(&mut self, text: &str) {
        self.step += 1;
        self.line("");
        self.line(&format!("{}{}. {text}{}", self.bold, self.step, self.plain));
    }

    /// A sentence of the story.
    pub(crate) fn say(&self, text: impl Display) {
        self.line(&format!("   {text}"));
    }

    /// What was typed.
    pub(crate) fn command(&self, text: impl Display) {
        self.line(&format!("   {}$ {text}{}", self.bold, self.plain));
    }

    /// What a program answered, or what is in a file; long lines are cut.
    pub(crate) fn shows(&self, text: &str) {
        for line in text.trim_end().lines() {
            let cut = line.char_indices().nth(SHOWN_OF_A_LINE).map_or(line.len(), |(at, _)| at);
            let more = if cut < line.len() { "..." } else { "" };
            self.line(&format!("   {}| {}{more}{}", self.dim, &line[..cut], self.plain));
        }
    }

    /// Both outputs of a program.
    pub(crate) fn answers(&self, said: &Said) {
        self.shows(&said.stderr);
        self.shows(&String::from_utf8_lossy(&said.stdout));
    }

    /// That something was seen to be so, and how long it took.
    pub(crate) fn seen(&self, what: impl Display, since: Instant) {
        self.line(&format!("   {}-> {what}, after {}{}", self.bold, spoken(since.elapsed()), self.plain));
    }

    pub(crate) fn path(&self, path: &Path) -> String {
        path.display().to_string()
    }

    pub(crate) fn fail(&self, error: &anyhow::Error) {
        let mut text = format!("error: {error}");
        for cause in error.chain().skip(1) {
            text += &format!("\n  caused by: {cause}");
        }
        let _ = writeln!(std::io::stderr(), "\n{text}");
    }

    fn line(&self, text: &str) {
        // A closed pipe is somebody who has seen enough.
        let _ = writeln!(stdout(), "{text}");
    }
}

fn spoken(time: Duration) -> String {
    match time.as_millis() {
        short @ 0..1000 => format!("{short} ms"),
        long => format!("{:.1} s", long as f64 / 1000.0),
    }
}
