//! Says on stdout what happens: steps with numbers, commands as they are typed, what they answer.

use std::fmt::Display;
use std::io::{IsTerminal, Write, stdout};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::laptop::Said;

/// A token is 1.6 KB; more than its beginning says nothing to a reader.
const SHOWN_OF_A_LINE: usize = 100;

/// Tells the story of a command.
#[derive(Debug)]
pub struct Narrator {
    bold: &'static str,
    dim: &'static str,
    plain: &'static str,
    step: usize,
    title: String,
}

impl Narrator {
    /// On a terminal with colours, unless `NO_COLOR` is set.
    #[expect(clippy::new_without_default, reason = "it looks at the terminal")]
    pub fn new() -> Self {
        let colours = stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let (bold, dim, plain) = if colours { ("\x1b[1m", "\x1b[2m", "\x1b[0m") } else { ("", "", "") };
        Self { bold, dim, plain, step: 0, title: String::new() }
    }

    /// What the whole is called.
    pub fn title(&self, text: &str) {
        self.line(&format!("{}{text}{}", self.bold, self.plain));
    }

    /// Begins a new step.
    pub fn step(&mut self, text: &str) {
        self.step += 1;
        text.clone_into(&mut self.title);
        self.line("");
        self.line(&format!("{}{}. {text}{}", self.bold, self.step, self.plain));
    }

    /// A sentence of the story.
    pub fn say(&self, text: impl Display) {
        self.line(&format!("   {text}"));
    }

    /// What was typed.
    pub fn command(&self, text: impl Display) {
        self.line(&format!("   {}$ {text}{}", self.bold, self.plain));
    }

    /// What a program answered, or what is in a file; long lines are cut.
    pub fn shows(&self, text: &str) {
        for line in text.trim_end().lines() {
            let cut = line.char_indices().nth(SHOWN_OF_A_LINE).map_or(line.len(), |(at, _)| at);
            let more = if cut < line.len() { "..." } else { "" };
            self.line(&format!("   {}| {}{more}{}", self.dim, &line[..cut], self.plain));
        }
    }

    /// Both outputs of a program.
    pub fn answers(&self, said: &Said) {
        self.shows(&said.stderr);
        self.shows(&String::from_utf8_lossy(&said.stdout));
    }

    /// That something was seen to be so, and how long it took.
    pub fn seen(&self, what: impl Display, since: Instant) {
        self.line(&format!("   {}-> {what}, after {}{}", self.bold, spoken(since.elapsed()), self.plain));
    }

    /// A path as it is typed.
    pub fn path(&self, path: &Path) -> String {
        path.display().to_string()
    }

    /// What went wrong and in which step, on stderr, with all its causes.
    pub fn fail(&self, error: &anyhow::Error) {
        let place = if self.step == 0 { String::new() } else { format!("step {} ({}): ", self.step, self.title) };
        let mut text = format!("error: {place}{error}");
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
