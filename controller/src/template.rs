//! Templates of `spec.template.data`: opened values + source -> the bytes of one key.
//!
//! ```text
//! source -> parse -> tree -> execute(values) -> bytes | Failure {key, line, column, reason}
//! ```
//!
//! The language is that of Go's `text/template` with `missingkey=error` and the functions of
//! [`function_names`]. The context is a map of the opened values, each a string of bytes that
//! need not be text. Rendering reads nothing else: no clock, no randomness, no environment, no
//! file, so the same values give the same bytes for ever ([`RENDERER_VERSION`] says when not).
//!
//! The author of a template is not trusted with the controller, nor with values that other people
//! sealed beyond what lands in the Secret:
//! * all templates of one object share one budget of work and one of output; depth is bounded, and
//!   nothing can recurse by data;
//! * a failure is a place and one of six fixed reasons. What the engine would have to say quotes
//!   data (`{{ index .p (index .p 0) }}`), so it says nothing.
//!
//! The engine is our own. The published port of `text/template` was read and tried first: it
//! accepts what Go refuses (a stray `{{end}}` drops the rest of a Secret silently), overflows the
//! stack on a long `else if` chain, reports no place for failures, cannot carry bytes that are not
//! UTF-8, and bounds neither work nor output. Go's own output for several hundred templates is
//! kept in `tests/templates`.

mod exec;
mod format;
mod functions;
mod json;
mod parse;
mod pattern;
mod value;

use std::fmt;

use zeroize::Zeroizing;

use self::pattern::Patterns;
use self::value::{MAX_BYTES, Meter, Value};

/// Changes whenever the same template and values may give other bytes than before; part of the
/// hash by which an unchanged object is recognised.
pub const RENDERER_VERSION: u32 = 1;

/// Why a template gave nothing. Says nothing about any value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The source is not a template.
    ParseError,
    /// A function is called that does not exist here.
    UnknownFunction,
    /// A key is used that the values lack, or nothing is printed.
    MissingKey,
    /// An action could not be done with the values that it got.
    ExecutionFailed,
    /// The object's rendered keys exceed one mebibyte together, or one string does.
    OutputTooLarge,
    /// The work for the object, or its nesting, exceeds the bound.
    TooMuchWork,
}

impl Reason {
    /// The text that status and events show.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ParseError => "parse error",
            Self::UnknownFunction => "unknown function",
            Self::MissingKey => "missing key",
            Self::ExecutionFailed => "execution failed",
            Self::OutputTooLarge => "output too large",
            Self::TooMuchWork => "too much work",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A template that could not be rendered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("template of key `{key}`, line {line}, column {column}: {reason}")]
pub struct Failure {
    /// The key of `template.data`.
    pub key: String,
    /// Counted from 1.
    pub line: usize,
    /// Counted from 1, in characters.
    pub column: usize,
    /// What went wrong.
    pub reason: Reason,
}

/// Renders the templates of one object, within one budget.
///
/// Not `Send`: to be made and dropped between two `await`s.
pub struct Renderer {
    root: Option<Value>,
    meter: Meter,
    patterns: Patterns,
    output_left: usize,
}

impl Renderer {
    /// A renderer over the opened values.
    pub fn new<'a>(values: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Self {
        let values = values.into_iter().map(|(key, value)| (key.as_bytes().to_vec(), value.to_vec()));
        Self {
            root: exec::root(values).ok(),
            meter: Meter::new(),
            patterns: Patterns::default(),
            output_left: MAX_BYTES,
        }
    }

    /// Renders the template `source` of `key`.
    pub fn render(&mut self, key: &str, source: &str) -> Result<Zeroizing<Vec<u8>>, Failure> {
        self.bytes_of(source).map_err(|(at, reason)| {
            let (line, column) = place(source, at);
            Failure { key: key.to_owned(), line, column, reason }
        })
    }

    fn bytes_of(&mut self, source: &str) -> Result<Zeroizing<Vec<u8>>, (usize, Reason)> {
        self.meter.spend(source.len().saturating_mul(4)).map_err(|reason| (0, reason))?;
        let tree = parse::parse(source).map_err(|mistake| (mistake.at, mistake.reason))?;
        let root = self.root.clone().unwrap_or(Value::Nil);
        let output = exec::execute(&tree, &root, &mut self.meter, &mut self.patterns)?;
        self.output_left = self.output_left.checked_sub(output.bytes().len()).ok_or((0, Reason::OutputTooLarge))?;
        Ok(output.into_bytes())
    }
}

/// The functions that templates may call, in no particular order.
pub fn function_names() -> impl Iterator<Item = &'static str> {
    functions::names()
}

/// Line and column, from 1, of a byte offset.
fn place(source: &str, at: usize) -> (usize, usize) {
    let before = source.get(..at).unwrap_or(source);
    let line_start = before.rfind('\n').map_or(0, |end| end + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

#[cfg(test)]
mod tests;
