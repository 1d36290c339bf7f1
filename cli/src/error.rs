//! What can go wrong, as a person sees it: one message, hints, and the cause; the kind decides the exit code.
//!
//! Library errors are converted once, where they happen, so that the hint can name what the person typed.
//! Text never holds a plaintext value: errors about Secret documents name a line and a path.

use std::{error::Error as StdError, fmt};

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// Who has to act, and so the exit code; the numbers are a contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The request was understood and could not be met.
    Request,
    /// The command line contradicts itself or cannot be understood.
    Usage,
    /// The reader of our output went away; that is its right.
    BrokenPipe,
    /// A mistake of ours.
    Bug,
}

impl Kind {
    pub(crate) fn exit_code(self) -> u8 {
        match self {
            Self::BrokenPipe => 0,
            Self::Request => 1,
            Self::Usage => 2,
            Self::Bug => 70,
        }
    }
}

/// An error with its advice.
#[derive(Debug)]
pub(crate) struct Error {
    kind: Kind,
    message: String,
    hints: Vec<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    pub(crate) fn request(message: impl Into<String>) -> Self {
        Self::new(Kind::Request, message)
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Kind::Usage, message)
    }

    pub(crate) fn bug(message: impl Into<String>) -> Self {
        Self::new(Kind::Bug, message)
    }

    pub(crate) fn broken_pipe() -> Self {
        Self::new(Kind::BrokenPipe, "the reader of the output went away")
    }

    fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hints: Vec::new(), source: None }
    }

    /// Adds a sentence that says what to do.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Adds the cause; its text is printed after the message, each link once.
    pub(crate) fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Says in which file or document it happened.
    pub(crate) fn within(mut self, place: impl fmt::Display) -> Self {
        self.message = format!("{place}: {}", self.message);
        self
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn hints(&self) -> &[String] {
        &self.hints
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

/// The name among `known` that was probably meant by `word`.
pub(crate) fn did_you_mean<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed = (word.chars().count() / 3).clamp(1, 3);
    known
        .into_iter()
        .map(|name| (strsim::osa_distance(word, name), name))
        .filter(|(distance, _)| *distance <= allowed)
        .min()
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::did_you_mean;

    #[test]
    fn a_near_word_is_suggested_and_a_far_one_is_not() {
        let verbs = ["create", "set", "unset", "value"];
        assert_eq!(did_you_mean("crate", verbs), Some("create"));
        assert_eq!(did_you_mean("secret.yaml", verbs), None);
    }
}
