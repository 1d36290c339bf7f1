//! Changes a document in place: text + parsed documents + what to set and remove -> text.
//!
//! Every byte that need not change stays: comments, order, quoting, line ends, other documents, a missing last line
//! break. A new token gets its own line (`key: >-`, then the token), so that branches that change different keys merge.
//! Afterwards the result is parsed again and compared with what was meant; anything else is refused, not written.

use std::{fmt, ops::Range, rc::Rc};

use saphyr_parser::ScalarStyle;
use thiserror::Error;

use super::{
    write,
    yaml::{self, Document, Entry, Kind, Node},
};

/// One step into a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Key(String),
    Index(usize),
}

/// What to do with the entries of one mapping.
#[derive(Default)]
pub(crate) struct Changes<'a> {
    pub(crate) set: Vec<(&'a str, String)>,
    pub(crate) remove: Vec<&'a str>,
}

/// A change that cannot be made in place.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum EditError {
    #[error("line {line}: `{path}` is neither a value nor a mapping that could be extended")]
    NotAMapping { line: usize, path: String },
    #[error("line {line}: `{path}` holds a mapping or a list, not a value")]
    NotAValue { line: usize, path: String },
    #[error("`{path}` is not there")]
    Missing { path: String },
    #[error("line {line}: `{path}` is shared through an anchor or an alias")]
    Shared { line: usize, path: String },
    #[error("`{path}` cannot be changed without touching something else")]
    NotAlone { path: String },
}

/// Sets and removes entries of the mapping at `path` of one document; mappings missing on the way are made.
pub(crate) fn change(
    text: &str,
    documents: &[Document],
    document: usize,
    path: &[Step],
    changes: &Changes<'_>,
) -> Result<String, EditError> {
    let not_alone = || EditError::NotAlone { path: PathText(path).to_string() };
    let root = documents.get(document).and_then(|document| document.root.as_ref()).ok_or_else(not_alone)?;
    let mut edit = Edit { text, replacements: Vec::new() };
    edit.descend(root, None, path, 0, changes)?;
    let edited = edit.applied();
    let after = yaml::parse(&edited).map_err(|_| not_alone())?;
    let others_same = after.len() == documents.len()
        && after.iter().zip(documents).enumerate().all(|(number, (after, before))| match (&after.root, &before.root) {
            (Some(after), Some(before)) if number == document => is_as_meant(Some(before), after, path, changes),
            (Some(after), Some(before)) => after.means_the_same_as(before),
            (None, None) => true,
            _ => false,
        });
    if others_same { Ok(edited) } else { Err(not_alone()) }
}

struct Edit<'a> {
    text: &'a str,
    /// Byte ranges and what stands there afterwards; they do not overlap.
    replacements: Vec<(Range<usize>, String)>,
}

impl Edit<'_> {
    fn descend(
        &mut self,
        node: &Rc<Node>,
        entry: Option<&Entry>,
        path: &[Step],
        depth: usize,
        changes: &Changes<'_>,
    ) -> Result<(), EditError> {
        let here = || PathText(&path[..depth]).to_string();
        if node.is_anchored || matches!(node.kind, Kind::Alias(_)) {
            return Err(EditError::Shared { line: node.line, path: here() });
        }
        let Some(step) = path.get(depth) else {
            return self.change_mapping(node, entry, changes, &here());
        };
        match (step, &node.kind) {
            (Step::Index(index), Kind::Sequence { items, .. }) => {
                let item = items
                    .get(*index)
                    .ok_or_else(|| EditError::Missing { path: PathText(&path[..=depth]).to_string() })?;
                self.descend(item, None, path, depth + 1, changes)
            }
            (Step::Key(key), Kind::Mapping { entries, .. }) => {
                match entries.iter().find(|entry| entry.key_text() == Some(key)) {
                    Some(entry) => self.descend(&entry.value, Some(entry), path, depth + 1, changes),
                    None => self.make_missing(node, entry, &path[depth..], changes, &here()),
                }
            }
            (Step::Key(_), _) if node.is_null() => self.make_missing(node, entry, &path[depth..], changes, &here()),
            _ => Err(EditError::NotAMapping { line: node.line, path: here() }),
        }
    }

    /// Puts nested mappings for steps that are not there yet.
    fn make_missing(
        &mut self,
        node: &Node,
        entry: Option<&Entry>,
        missing: &[Step],
        changes: &Changes<'_>,
        here: &str,
    ) -> Result<(), EditError> {
        let keys: Option<Vec<&str>> = missing
            .iter()
            .map(|step| match step {
                Step::Key(key) => Some(key.as_str()),
                Step::Index(_) => None,
            })
            .collect();
        let (Some(keys), false) = (keys, changes.set.is_empty()) else {
            return Err(EditError::Missing { path: format!("{here}{}", PathText(missing)) });
        };
        let Some((first, nested)) = keys.split_first() else { return Ok(()) };
        let value = Value::Nested { keys: nested, changes };
        self.insert(node, entry, &[(first, value)], here)
    }

    fn change_mapping(
        &mut self,
        node: &Node,
        entry: Option<&Entry>,
        changes: &Changes<'_>,
        here: &str,
    ) -> Result<(), EditError> {
        let entries = match &node.kind {
            Kind::Mapping { entries, .. } => entries.as_slice(),
            _ if node.is_null() => &[],
            _ => return Err(EditError::NotAMapping { line: node.line, path: here.to_owned() }),
        };
        let is_flow = matches!(node.kind, Kind::Mapping { is_flow: true, .. });
        let mut added = Vec::new();
        for (key, token) in &changes.set {
            match entries.iter().find(|entry| entry.key_text() == Some(*key)) {
                Some(entry) => self.replace_value(entry, token, is_flow, &format!("{here}.{key}"))?,
                None => added.push((*key, Value::Token(token))),
            }
        }
        let removed: Vec<usize> = changes
            .remove
            .iter()
            .map(|key| {
                entries
                    .iter()
                    .position(|entry| entry.key_text() == Some(*key))
                    .ok_or_else(|| EditError::Missing { path: format!("{here}.{key}") })
            })
            .collect::<Result<_, _>>()?;
        if is_flow && !entries.is_empty() {
            return self.change_flow_entries(node, entries, &removed, &added);
        }
        for index in &removed {
            self.remove_lines(&entries[*index]);
        }
        if !added.is_empty() {
            self.insert(node, entry, &added, here)?;
        } else if !removed.is_empty() && removed.len() == entries.len() {
            let entry = entry.ok_or_else(|| EditError::NotAlone { path: here.to_owned() })?;
            let colon = self.behind_colon(entry);
            self.replacements.push((colon..colon, " {}".to_owned()));
        }
        Ok(())
    }

    /// Puts entries into a block mapping, an empty one or where nothing stands yet.
    fn insert(
        &mut self,
        node: &Node,
        entry: Option<&Entry>,
        added: &[(&str, Value<'_>)],
        here: &str,
    ) -> Result<(), EditError> {
        match &node.kind {
            Kind::Mapping { entries, is_flow: true } if !entries.is_empty() => {
                self.change_flow_entries(node, entries, &[], added)
            }
            Kind::Mapping { entries, .. } if !entries.is_empty() => {
                for (key, value) in added {
                    self.insert_line_wise(entry, entries, key, value);
                }
                Ok(())
            }
            _ => self.fill_empty(node, entry, added, here),
        }
    }

    /// Behind the entry that comes before it, if the entries are sorted; else behind the last one.
    fn insert_line_wise(&mut self, parent: Option<&Entry>, entries: &[Entry], key: &str, value: &Value<'_>) {
        let column = self.column(entries[0].key.range.start);
        let is_sorted = entries.windows(2).all(|pair| pair[0].key_text() < pair[1].key_text());
        let before = if is_sorted {
            entries.iter().rposition(|entry| entry.key_text() < Some(key))
        } else {
            Some(entries.len() - 1)
        };
        let starts_line =
            self.text[self.line_start(entries[0].key.range.start)..entries[0].key.range.start].trim().is_empty();
        match (before, parent) {
            (Some(index), _) => self.insert_behind(end_of(&entries[index]), column, key, value),
            (None, Some(parent)) if starts_line => {
                self.insert_behind(self.behind_colon(parent), column, key, value);
            }
            (None, _) => {
                let at = entries[0].key.range.start;
                let line_break = self.line_break(at);
                let text = format!("{}{line_break}{}", value.block(key, column, line_break), " ".repeat(column));
                self.replacements.push((at..at, text));
            }
        }
    }

    /// On a new line behind the line in which `at` stands.
    fn insert_behind(&mut self, at: usize, column: usize, key: &str, value: &Value<'_>) {
        let end = self.line_end(at);
        let line_break = self.line_break(at);
        let text = format!("{line_break}{}{}", " ".repeat(column), value.block(key, column, line_break));
        self.replacements.push((end..end, text));
    }

    /// `parent:`, `parent: {}` or `parent: null` gets its first entries.
    fn fill_empty(
        &mut self,
        node: &Node,
        entry: Option<&Entry>,
        added: &[(&str, Value<'_>)],
        here: &str,
    ) -> Result<(), EditError> {
        let entry = entry.ok_or_else(|| EditError::NotAlone { path: here.to_owned() })?;
        let is_written = !node.range.is_empty();
        let is_flow = is_written && matches!(node.kind, Kind::Mapping { .. });
        let behind = &self.text[node.range.end..self.line_end(node.range.end)];
        if is_flow && !behind.trim().is_empty() {
            let entries: Vec<String> = added.iter().map(|(key, value)| value.flow(key)).collect();
            self.replacements.push((node.range.clone(), format!("{{{}}}", entries.join(", "))));
            return Ok(());
        }
        let at = self.behind_colon(entry);
        let column = self.column(entry.key.range.start) + 2;
        let line_break = self.line_break(at);
        let mut text = String::new();
        for (key, value) in added {
            text.push_str(line_break);
            text.push_str(&" ".repeat(column));
            text.push_str(&value.block(key, column, line_break));
        }
        if is_written {
            self.replacements.push((at..node.range.end, text));
        } else {
            let end = self.line_end(at);
            self.replacements.push((end..end, text));
        }
        Ok(())
    }

    /// Keeps the style in which the old value stands, so that one line changes.
    fn replace_value(&mut self, entry: &Entry, token: &str, is_flow: bool, path: &str) -> Result<(), EditError> {
        let value = &entry.value;
        if value.is_anchored || matches!(value.kind, Kind::Alias(_)) {
            return Err(EditError::Shared { line: value.line, path: path.to_owned() });
        }
        let Kind::Scalar(scalar) = &value.kind else {
            return Err(EditError::NotAValue { line: value.line, path: path.to_owned() });
        };
        let colon = self.behind_colon(entry);
        match scalar.style {
            ScalarStyle::SingleQuoted => self.replacements.push((value.range.clone(), format!("'{token}'"))),
            ScalarStyle::DoubleQuoted => self.replacements.push((value.range.clone(), format!("\"{token}\""))),
            ScalarStyle::Plain if is_flow => self.replacements.push((value.range.clone(), format!("\"{token}\""))),
            ScalarStyle::Plain if value.range.is_empty() => {
                let (column, line_break, end) =
                    (self.column(entry.key.range.start) + 2, self.line_break(colon), self.line_end(colon));
                self.replacements.push((colon..colon, " >-".to_owned()));
                self.replacements.push((end..end, format!("{line_break}{}{token}", " ".repeat(column))));
            }
            ScalarStyle::Plain => self.replacements.push((value.range.clone(), token.to_owned())),
            ScalarStyle::Literal | ScalarStyle::Folded => self.replace_block(entry, token, colon),
        }
        Ok(())
    }

    fn replace_block(&mut self, entry: &Entry, token: &str, colon: usize) {
        let range = entry.value.range.clone();
        let header = &self.text[colon..self.line_end(colon)];
        let is_below_header = range.start > colon + header.len() && !range.is_empty();
        if is_below_header && matches!(header.split_whitespace().next(), Some(">-" | "|-")) {
            self.replacements.push((range, token.to_owned()));
            return;
        }
        let indent = " ".repeat(self.column(entry.key.range.start) + 2);
        let text = format!(" >-{}{indent}{token}", self.line_break(colon));
        let end = if is_below_header { range.end } else { colon + header.len() };
        self.replacements.push((colon..end, text));
    }

    fn remove_lines(&mut self, entry: &Entry) {
        let start = self.line_start(entry.key.range.start);
        let end = self.line_end(end_of(entry));
        let breaks = self.text[end..].len() - self.text[end..].trim_start_matches('\r').trim_start_matches('\n').len();
        let behind = match self.text[end..].strip_prefix("\r\n").or_else(|| self.text[end..].strip_prefix('\n')) {
            Some(rest) => self.text.len() - rest.len(),
            None => end,
        };
        if breaks == 0 {
            // The last line of a text without a final line break: the one before it goes, so that there is still none.
            let before = self.text[..start].trim_end_matches('\n').trim_end_matches('\r').len();
            self.replacements.push((before..end, String::new()));
        } else {
            self.replacements.push((start..behind, String::new()));
        }
    }

    /// JSON and `{a: b}`: entries are parted by commas, and keep the white space that stands between them.
    fn change_flow_entries(
        &mut self,
        node: &Node,
        entries: &[Entry],
        removed: &[usize],
        added: &[(&str, Value<'_>)],
    ) -> Result<(), EditError> {
        let kept: Vec<usize> = (0..entries.len()).filter(|index| !removed.contains(index)).collect();
        for index in removed {
            let first_kept_before = kept.iter().rev().find(|kept| *kept < index);
            let range = match first_kept_before {
                // From the end of the entry before, comma included.
                Some(_) => end_of(&entries[index - 1])..end_of(&entries[*index]),
                None => {
                    let next = entries.get(index + 1).map_or(end_of(&entries[*index]), |next| next.key.range.start);
                    entries[*index].key.range.start..next
                }
            };
            self.replacements.push((range, String::new()));
        }
        let Some(last) = entries.last().filter(|_| !added.is_empty()) else { return Ok(()) };
        let before_first = &self.text
            [entries[0].key.range.start - self.blank_before(entries[0].key.range.start)..entries[0].key.range.start];
        let between = match entries {
            [.., one, two] => {
                let gap = &self.text[end_of(one)..two.key.range.start];
                &gap[gap.find(',').map_or(0, |comma| comma + 1)..]
            }
            _ if before_first.is_empty() => " ",
            _ => before_first,
        };
        let mut text = String::new();
        for (key, value) in added {
            if !(text.is_empty() && kept.is_empty()) {
                text.push(',');
                text.push_str(between);
            }
            text.push_str(&value.flow(key));
        }
        let at = end_of(last).min(node.range.end);
        self.replacements.push((at..at, text));
        Ok(())
    }

    fn blank_before(&self, at: usize) -> usize {
        let before = &self.text[..at];
        before.len() - before.trim_end().len()
    }

    /// The offset behind the colon that follows the key.
    fn behind_colon(&self, entry: &Entry) -> usize {
        let from = entry.key.range.end;
        self.text[from..].find(':').map_or(from, |at| from + at + 1)
    }

    fn line_start(&self, at: usize) -> usize {
        self.text[..at].rfind('\n').map_or(0, |at| at + 1)
    }

    fn line_end(&self, at: usize) -> usize {
        let end = self.text[at..].find('\n').map_or(self.text.len(), |length| at + length);
        if end > at && self.text[..end].ends_with('\r') { end - 1 } else { end }
    }

    /// The line break of the line in which `at` stands; that of the text, if it is the last.
    fn line_break(&self, at: usize) -> &'static str {
        let end = self.text[at..].find('\n').map(|length| at + length).or_else(|| self.text.find('\n'));
        match end {
            Some(end) if self.text[..end].ends_with('\r') => "\r\n",
            _ => "\n",
        }
    }

    fn column(&self, at: usize) -> usize {
        self.text[self.line_start(at)..at].chars().count()
    }

    fn applied(mut self) -> String {
        self.replacements.sort_by_key(|(range, _)| (range.start, range.end)); // stable: insertions keep their order
        let mut edited = String::with_capacity(self.text.len() + 2048);
        let mut at = 0;
        for (range, text) in &self.replacements {
            edited.push_str(&self.text[at.min(range.start)..range.start]);
            edited.push_str(text);
            at = at.max(range.end);
        }
        edited.push_str(&self.text[at..]);
        edited
    }
}

/// What an added entry holds.
enum Value<'a> {
    Token(&'a str),
    Nested { keys: &'a [&'a str], changes: &'a Changes<'a> },
}

impl Value<'_> {
    /// `key: ...` in block style; the first line is not indented.
    fn block(&self, key: &str, column: usize, line_break: &str) -> String {
        let deeper = " ".repeat(column + 2);
        let key = write::scalar(key);
        match self {
            Self::Token(token) => format!("{key}: >-{line_break}{deeper}{token}"),
            Self::Nested { keys, changes } => {
                let mut text = format!("{key}:");
                for entry in self.below(keys, changes) {
                    text.push_str(line_break);
                    text.push_str(&deeper);
                    text.push_str(&entry.1.block(entry.0, column + 2, line_break));
                }
                text
            }
        }
    }

    fn flow(&self, key: &str) -> String {
        let key = write::quoted(key);
        match self {
            Self::Token(token) => format!("{key}: \"{token}\""),
            Self::Nested { keys, changes } => {
                let entries: Vec<String> =
                    self.below(keys, changes).into_iter().map(|(key, value)| value.flow(key)).collect();
                format!("{key}: {{{}}}", entries.join(", "))
            }
        }
    }

    fn below<'b>(&self, keys: &'b [&'b str], changes: &'b Changes<'b>) -> Vec<(&'b str, Value<'b>)> {
        match keys.split_first() {
            Some((first, nested)) => vec![(first, Value::Nested { keys: nested, changes })],
            None => changes.set.iter().map(|(key, token)| (*key, Value::Token(token))).collect(),
        }
    }
}

fn end_of(entry: &Entry) -> usize {
    entry.value.range.end.max(entry.key.range.end)
}

/// Whether `after` is `before` with exactly these changes made at `path`.
fn is_as_meant(before: Option<&Node>, after: &Node, path: &[Step], changes: &Changes<'_>) -> bool {
    let before = before.filter(|node| !node.is_null());
    match path.split_first() {
        Some((Step::Index(index), rest)) => {
            let (Some(before), Some(after)) = (before.and_then(Node::items), after.items()) else { return false };
            before.len() == after.len()
                && before.iter().zip(after).enumerate().all(|(number, (before, after))| {
                    if number == *index {
                        is_as_meant(Some(before), after, rest, changes)
                    } else {
                        after.means_the_same_as(before)
                    }
                })
        }
        Some((Step::Key(key), rest)) => {
            let old = before.and_then(|before| before.get(key));
            let new_is_right =
                after.get(key).is_some_and(|after| is_as_meant(old.map(|node| &**node), after, rest, changes));
            new_is_right && others_are_same(before, after, &[key], &[])
        }
        None => {
            let set: Vec<&str> = changes.set.iter().map(|(key, _)| *key).collect();
            let is_set =
                changes.set.iter().all(|(key, token)| after.get(key).and_then(|node| node.string()) == Some(token));
            is_set && others_are_same(before, after, &set, &changes.remove)
        }
    }
}

/// Whether entries are the same in both, but for `set` (in `after` once each) and `removed` (not in `after`).
fn others_are_same(before: Option<&Node>, after: &Node, set: &[&str], removed: &[&str]) -> bool {
    let before = match before.map(|before| before.entries()) {
        Some(Some(entries)) => entries,
        Some(None) => return false,
        None => &[],
    };
    let Some(after) = after.entries() else { return false };
    let is_other = |entry: &&Entry| entry.key_text().is_none_or(|key| !set.contains(&key) && !removed.contains(&key));
    let (kept, left): (Vec<_>, Vec<_>) =
        (before.iter().filter(is_other).collect(), after.iter().filter(is_other).collect());
    let same = kept.len() == left.len()
        && kept
            .iter()
            .zip(&left)
            .all(|(old, new)| old.key.means_the_same_as(&new.key) && old.value.means_the_same_as(&new.value));
    let once = |key: &&str| after.iter().filter(|entry| entry.key_text() == Some(*key)).count() == 1;
    let gone = |key: &&str| after.iter().all(|entry| entry.key_text() != Some(*key));
    same && set.iter().all(once) && removed.iter().all(gone)
}

/// A path as people write it.
pub(crate) struct PathText<'a>(pub(crate) &'a [Step]);

impl fmt::Display for PathText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, step) in self.0.iter().enumerate() {
            match step {
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Key(key) if number == 0 => f.write_str(key)?,
                Step::Key(key) => write!(f, ".{key}")?,
            }
        }
        Ok(())
    }
}
