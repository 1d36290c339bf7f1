//! Text -> documents and nodes that know where they stand.
//!
//! The parser is a real one (YAML 1.2, so JSON too); this module keeps what editing in place needs and a plain value
//! tree would lose: byte ranges, styles, aliases, duplicate keys. Nodes may hold plaintext: scalars are wiped, there is
//! no `Debug`, and errors tell a line and never the text.

use std::{collections::HashMap, ops::Range, rc::Rc};

use saphyr_parser::{Event, Parser, ScalarStyle, Span};
use thiserror::Error;
use zeroize::Zeroizing;

/// How deep documents may nest; Kubernetes' own manifests stay far below.
const MAX_DEPTH: usize = 100;

/// One document of a stream.
pub(crate) struct Document {
    /// From behind its `---` (or the start of the text) to the next `---`, `...` or the end: comments included.
    pub(crate) range: Range<usize>,
    /// Whether a `---` stands before the range.
    pub(crate) is_explicit: bool,
    /// Nothing for a document that holds comments only.
    pub(crate) root: Option<Rc<Node>>,
}

/// A value and where it stands.
pub(crate) struct Node {
    /// Exact for flow collections, quoted and plain scalars. Block collections start at their first entry; the end of
    /// what is written in block style is the end of its last line that is not blank.
    pub(crate) range: Range<usize>,
    /// 1-based, for messages.
    pub(crate) line: usize,
    /// Whether aliases may refer to this node.
    pub(crate) is_anchored: bool,
    pub(crate) kind: Kind,
}

pub(crate) enum Kind {
    Scalar(Scalar),
    Mapping {
        entries: Vec<Entry>,
        is_flow: bool,
    },
    Sequence {
        items: Vec<Rc<Node>>,
        is_flow: bool,
    },
    /// The anchor's number in its stream, and the node that it names.
    Alias(usize, Rc<Node>),
}

pub(crate) struct Scalar {
    pub(crate) text: Zeroizing<String>,
    pub(crate) style: ScalarStyle,
    pub(crate) tag: Option<String>,
}

pub(crate) struct Entry {
    pub(crate) key: Rc<Node>,
    pub(crate) value: Rc<Node>,
}

/// A stream that is not YAML.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum YamlError {
    #[error("line {line}, column {column}: {reason}")]
    Syntax { line: usize, column: usize, reason: String },
    #[error("line {line}: nested deeper than {MAX_DEPTH} levels")]
    TooDeep { line: usize },
    #[error("line {line}: an alias refers to no anchor before it")]
    UnknownAlias { line: usize },
}

/// Parses a whole stream; an error anywhere refuses all of it.
pub(crate) fn parse(text: &str) -> Result<Vec<Document>, YamlError> {
    Builder { text, offsets: Offsets::of(text), parser: Parser::new_from_str(text), anchors: HashMap::new() }.stream()
}

/// Whether a document is written as JSON is: one flow mapping.
pub(crate) fn is_json(document: &Document) -> bool {
    document.root.as_ref().is_some_and(|root| matches!(root.kind, Kind::Mapping { is_flow: true, .. }))
}

impl Node {
    /// The node itself, or what it is an alias of.
    pub(crate) fn resolved(&self) -> &Self {
        match &self.kind {
            Kind::Alias(_, target) => target.resolved(),
            _ => self,
        }
    }

    pub(crate) fn scalar(&self) -> Option<&Scalar> {
        match &self.resolved().kind {
            Kind::Scalar(scalar) => Some(scalar),
            _ => None,
        }
    }

    /// The text of a scalar, whatever it means.
    pub(crate) fn text(&self) -> Option<&str> {
        self.scalar().map(|scalar| scalar.text.as_str())
    }

    /// The string that this node is, as Kubernetes reads it; nothing if it is a number, a boolean, null or no scalar.
    pub(crate) fn string(&self) -> Option<&str> {
        self.scalar().filter(|scalar| scalar.is_string()).map(|scalar| scalar.text.as_str())
    }

    pub(crate) fn is_null(&self) -> bool {
        self.scalar().is_some_and(Scalar::is_null)
    }

    /// The entries as written, merge keys not followed.
    pub(crate) fn entries(&self) -> Option<&[Entry]> {
        match &self.resolved().kind {
            Kind::Mapping { entries, .. } => Some(entries),
            _ => None,
        }
    }

    pub(crate) fn items(&self) -> Option<&[Rc<Self>]> {
        match &self.resolved().kind {
            Kind::Sequence { items, .. } => Some(items),
            _ => None,
        }
    }

    /// The value of the first entry with this key.
    pub(crate) fn get(&self, key: &str) -> Option<&Rc<Self>> {
        self.entries()?.iter().find(|entry| entry.key_text() == Some(key)).map(|entry| &entry.value)
    }

    /// Whether both say the same, whatever their style; the order of keys does not matter.
    ///
    /// Aliases are the same when they name the same anchor, which is compared where it stands: following them would
    /// take for ever in a stream that nests them on purpose.
    pub(crate) fn means_the_same_as(&self, other: &Self) -> bool {
        match (&self.kind, &other.kind) {
            (Kind::Alias(one, _), Kind::Alias(two, _)) => one == two,
            (Kind::Scalar(one), Kind::Scalar(two)) => {
                *one.text == *two.text && one.is_string() == two.is_string() && one.tag == two.tag
            }
            (Kind::Sequence { items: one, .. }, Kind::Sequence { items: two, .. }) => {
                one.len() == two.len() && one.iter().zip(two).all(|(one, two)| one.means_the_same_as(two))
            }
            (Kind::Mapping { entries: one, .. }, Kind::Mapping { entries: two, .. }) => {
                one.len() == two.len()
                    && one.iter().all(|entry| {
                        two.iter().any(|other| {
                            entry.key.means_the_same_as(&other.key) && entry.value.means_the_same_as(&other.value)
                        })
                    })
            }
            _ => false,
        }
    }
}

impl Entry {
    pub(crate) fn key_text(&self) -> Option<&str> {
        self.key.text()
    }
}

impl Scalar {
    /// Whether Kubernetes reads a string here. Its YAML is 1.1: plain `yes`, `012` or `1_000` are none.
    pub(crate) fn is_string(&self) -> bool {
        match self.tag.as_deref() {
            Some("tag:yaml.org,2002:str" | "!") => true,
            Some(_) => false,
            None => self.style != ScalarStyle::Plain || !(is_word(&self.text) || is_number(&self.text)),
        }
    }

    pub(crate) fn boolean(&self) -> Option<bool> {
        match self.text.as_str() {
            "true" | "True" | "TRUE" if self.style == ScalarStyle::Plain => Some(true),
            "false" | "False" | "FALSE" if self.style == ScalarStyle::Plain => Some(false),
            _ => None,
        }
    }

    pub(crate) fn is_null(&self) -> bool {
        self.style == ScalarStyle::Plain && matches!(self.text.as_str(), "" | "~" | "null" | "Null" | "NULL")
    }
}

/// Plain words that YAML 1.1 reads as null or a boolean: in lower case, upper case, or with one capital.
pub(crate) fn is_word(plain: &str) -> bool {
    const WORDS: [&str; 11] = ["", "~", "null", "true", "false", "yes", "no", "on", "off", "y", "n"];
    let Some(word) = WORDS.iter().find(|word| plain.eq_ignore_ascii_case(word)) else { return false };
    let rest = plain.get(1..).unwrap_or_default();
    plain == *word || plain == word.to_ascii_uppercase() || rest.chars().all(|c| c.is_ascii_lowercase())
}

/// Plain text that the YAML of Kubernetes (Go, YAML 1.1) reads as a number.
pub(crate) fn is_number(plain: &str) -> bool {
    let plain = Zeroizing::new(plain.replace('_', "").to_ascii_lowercase());
    let unsigned = plain.strip_prefix(['-', '+']).unwrap_or(&plain);
    let all = |digits: &str, radix| !digits.is_empty() && digits.chars().all(|digit| digit.is_digit(radix));
    match unsigned {
        ".inf" | ".nan" => true,
        _ if unsigned.starts_with("0x") => all(&unsigned[2..], 16),
        _ if unsigned.starts_with("0o") => all(&unsigned[2..], 8),
        _ if unsigned.starts_with("0b") => all(&unsigned[2..], 2),
        _ => {
            let (mantissa, exponent) = unsigned.split_once('e').unwrap_or((unsigned, "0"));
            let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
            let exponent = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
            (all(whole, 10) && (fraction.is_empty() || all(fraction, 10)) || whole.is_empty() && all(fraction, 10))
                && all(exponent, 10)
                && unsigned.starts_with(|first: char| first.is_ascii_digit() || first == '.')
        }
    }
}

/// Character positions, as the parser counts, to byte positions.
struct Offsets {
    length: usize,
    /// Nothing for ASCII, where both are the same.
    of_characters: Option<Vec<usize>>,
}

impl Offsets {
    fn of(text: &str) -> Self {
        let of_characters = (!text.is_ascii()).then(|| text.char_indices().map(|(offset, _)| offset).collect());
        Self { length: text.len(), of_characters }
    }

    fn byte(&self, character: usize) -> usize {
        match &self.of_characters {
            None => character.min(self.length),
            Some(offsets) => offsets.get(character).copied().unwrap_or(self.length),
        }
    }
}

struct Builder<'text> {
    text: &'text str,
    offsets: Offsets,
    parser: Parser<'text, saphyr_parser::StrInput<'text>>,
    anchors: HashMap<usize, Rc<Node>>,
}

impl<'text> Builder<'text> {
    fn stream(mut self) -> Result<Vec<Document>, YamlError> {
        let mut documents = Vec::new();
        loop {
            let (event, span) = self.next()?;
            match event {
                Event::DocumentStart(is_explicit) => documents.push(self.document(is_explicit, span)?),
                Event::StreamEnd => return Ok(documents),
                _ => {}
            }
        }
    }

    fn document(&mut self, is_explicit: bool, start: Span) -> Result<Document, YamlError> {
        let start = if is_explicit { self.offsets.byte(start.end.index()) } else { 0 };
        self.anchors.clear(); // they end with their document (YAML 1.2, 3.2.2.2), whatever the parser remembers
        let mut root: Option<Rc<Node>> = None;
        loop {
            let (event, span) = self.next()?;
            if matches!(event, Event::DocumentEnd) {
                let end = self.offsets.byte(span.start.index()).max(start);
                let root = root.filter(|root| !is_absent(root));
                return Ok(Document { range: start..end, is_explicit, root });
            }
            root = Some(self.node(event, span, 0)?);
        }
    }

    fn node(&mut self, event: Event<'text>, span: Span, depth: usize) -> Result<Rc<Node>, YamlError> {
        let line = span.start.line();
        if depth > MAX_DEPTH {
            return Err(YamlError::TooDeep { line });
        }
        let start = self.offsets.byte(span.start.index());
        let (anchor, range, kind) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let tag = tag.map(|tag| format!("{}{}", tag.handle, tag.suffix));
                let text = Zeroizing::new(text.into_owned());
                let end = self.scalar_end(start, self.offsets.byte(span.end.index()), style, &text);
                (anchor, start..end, Kind::Scalar(Scalar { text, style, tag }))
            }
            Event::SequenceStart(anchor, _) => {
                let mut items = Vec::new();
                let end = loop {
                    let (event, span) = self.next()?;
                    if matches!(event, Event::SequenceEnd) {
                        break self.offsets.byte(span.start.index() + 1); // the bracket; the parser's own end may reach over a comment
                    }
                    items.push(self.node(event, span, depth + 1)?);
                };
                let is_flow = self.is_flow(start, '[');
                let end = if is_flow { end } else { items.last().map_or(start, |item| item.range.end) };
                (anchor, start..end, Kind::Sequence { items, is_flow })
            }
            Event::MappingStart(anchor, _) => {
                let mut entries: Vec<Entry> = Vec::new();
                let end = loop {
                    let (event, span) = self.next()?;
                    if matches!(event, Event::MappingEnd) {
                        break self.offsets.byte(span.start.index() + 1); // the bracket; the parser's own end may reach over a comment
                    }
                    let key = self.node(event, span, depth + 1)?;
                    let (event, span) = self.next()?;
                    let value = self.node(event, span, depth + 1)?;
                    entries.push(Entry { key, value });
                };
                let is_flow = self.is_flow(start, '{');
                let end = if is_flow {
                    end
                } else {
                    entries.last().map_or(start, |entry| entry.value.range.end.max(entry.key.range.end))
                };
                (anchor, start..end, Kind::Mapping { entries, is_flow })
            }
            Event::Alias(anchor) => {
                let target = self.anchors.get(&anchor).cloned().ok_or(YamlError::UnknownAlias { line })?;
                (0, start..self.offsets.byte(span.end.index()), Kind::Alias(anchor, target))
            }
            _ => {
                return Err(YamlError::Syntax {
                    line,
                    column: span.start.col() + 1,
                    reason: "unexpected end".to_owned(),
                });
            }
        };
        let node = Rc::new(Node { range, line, is_anchored: anchor != 0, kind });
        if anchor != 0 {
            self.anchors.insert(anchor, Rc::clone(&node));
        }
        Ok(node)
    }

    /// The parser's own end may reach over white space and comments that follow.
    fn scalar_end(&self, start: usize, end: usize, style: ScalarStyle, value: &str) -> usize {
        let written = &self.text[start..end.max(start)];
        match style {
            ScalarStyle::Plain if value.is_empty() => start,
            ScalarStyle::Plain => start + written.trim_end().len(),
            ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted => start + quoted_length(&self.text[start..]),
            ScalarStyle::Literal | ScalarStyle::Folded => start + written.trim_end().len(),
        }
    }

    fn is_flow(&self, start: usize, bracket: char) -> bool {
        behind_properties(&self.text[start..]).starts_with(bracket)
    }

    fn next(&mut self) -> Result<(Event<'text>, Span), YamlError> {
        match self.parser.next_event() {
            Some(Ok(event)) => Ok(event),
            Some(Err(error)) => Err(YamlError::Syntax {
                line: error.marker().line(),
                column: error.marker().col() + 1,
                reason: reason(error.info()),
            }),
            None => Err(YamlError::Syntax { line: 1, column: 1, reason: "unexpected end".to_owned() }),
        }
    }
}

/// The parser's text, without the one character of the input that it quotes in one case.
fn reason(info: &str) -> String {
    info.split(": `").next().unwrap_or(info).to_owned()
}

/// The parser gives a document of comments only an empty plain scalar.
fn is_absent(root: &Node) -> bool {
    matches!(&root.kind, Kind::Scalar(scalar) if scalar.text.is_empty() && scalar.style == ScalarStyle::Plain)
        && !root.is_anchored
}

/// Skips anchors and tags that stand before a node.
pub(crate) fn behind_properties(mut text: &str) -> &str {
    while text.starts_with(['&', '!']) {
        text = text.trim_start_matches(|c: char| !c.is_whitespace()).trim_start();
    }
    text
}

/// The length of a quoted scalar with its quotes and properties.
fn quoted_length(text: &str) -> usize {
    let body = behind_properties(text);
    let before = text.len() - body.len();
    let quote = if body.starts_with('"') { b'"' } else { b'\'' };
    let bytes = body.as_bytes();
    let mut at = 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' if quote == b'"' => at += 2,
            b'\'' if quote == b'\'' && bytes.get(at + 1) == Some(&b'\'') => at += 2,
            byte if byte == quote => return before + at + 1,
            _ => at += 1,
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_is_a_string_exactly_where_kubernetes_reads_one() {
        for text in [
            "hunter2",
            "1abcdef0",
            "12e",
            "1.2.3",
            "0xzz",
            "2026-11-21",
            "10:20",
            "-",
            "e5",
            ".",
            "1-2",
            "null2",
            "=",
            "<<",
            "nO",
            "tRUE",
        ] {
            assert!(!is_word(text) && !is_number(text), "{text}");
        }
        for text in
            ["0", "-1", "1_000", "0755", "0x1F", "0b1", "1.", ".5", "1e3", "+1.5E-3", ".inf", "-.INF", ".NaN", "089"]
        {
            assert!(is_number(text), "{text}");
        }
        for text in ["", "~", "Null", "YES", "n", "off", "True"] {
            assert!(is_word(text), "{text}");
        }
    }

    #[test]
    fn ranges_are_exact_whatever_follows() {
        let text = "a: \"x\" # c\r\n'b' : &n {k: v} # d\r\nc: |\r\n  1\r\n  2\r\n\r\n# e\r\nd: p q\r\n  r # f\r\n";
        let documents = parse(text).expect("is YAML");
        let root = documents[0].root.as_ref().expect("has content");
        let written = |key: &str| &text[root.get(key).expect("is there").range.clone()];
        assert_eq!(written("a"), "\"x\"");
        assert_eq!(written("b"), "&n {k: v}");
        assert_eq!(written("c"), "1\r\n  2");
        assert_eq!(written("d"), "p q\r\n  r");
    }

    #[test]
    fn errors_tell_the_line_and_quote_nothing() {
        let error = parse("a: 1\nb: @hunter2\n").err().expect("is no YAML").to_string();
        assert!(error.starts_with("line 2") && !error.contains('@') && !error.contains("hunter2"), "{error}");
        assert!(parse(&"[".repeat(5000)).is_err());
        assert!(parse(&"- ".repeat(5000)).is_err());
        assert!(parse("a: &b 1\n---\na: *b\n").is_err());
        assert_eq!(parse("a: *b\n").err().map(|error| error.to_string().contains("line 1")), Some(true));
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics_and_ranges_are_in_order(text in "[ \\n\\r:#'\"{}\\[\\]>|&*!a-c0,?%@`ä-]{0,60}") {
            for document in parse(&text).unwrap_or_default() {
                proptest::prop_assert!(text.get(document.range.clone()).is_some());
                if let Some(root) = &document.root {
                    proptest::prop_assert!(text.get(root.range.clone()).is_some());
                }
            }
        }
    }
}
