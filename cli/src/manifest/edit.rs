//! Changes a document in place: text + parsed documents + what to set and remove -> text.
//!
//! Every byte that need not change stays: comments, order, quoting, line ends, other documents, a missing last line
//! break. A new token gets its own line (`key: >-`, then the token), so that branches that change different keys merge.
//! Afterwards the result is parsed again and compared with what was meant; anything else is refused, not written.

mod list;
mod tree;

use std::{fmt, ops::Range, rc::Rc};

use saphyr_parser::ScalarStyle;
use thiserror::Error;

pub(crate) use self::tree::Tree;
use super::{
    text::{line_end, line_start},
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
    #[error("line {line}: `{path}` is not a list")]
    NotAList { line: usize, path: String },
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
    let is_changed = |before: Option<&Node>, after: &Node| {
        let set: Vec<&str> = changes.set.iter().map(|(key, _)| *key).collect();
        let is_set =
            changes.set.iter().all(|(key, token)| after.get(key).and_then(|node| node.string()) == Some(token));
        is_set && others_are_same(before, after, &set, &changes.remove)
    };
    edited(text, documents, document, path, &Goal::Change(changes), &is_changed)
}

/// Puts a new entry into the mapping at `path`, which is there and does not have the key yet.
pub(crate) fn put(
    text: &str,
    documents: &[Document],
    document: usize,
    path: &[Step],
    key: &str,
    tree: &Tree,
) -> Result<String, EditError> {
    let is_put = |before: Option<&Node>, after: &Node| {
        after.get(key).is_some_and(|node| tree.is(node)) && others_are_same(before, after, &[key], &[])
    };
    edited(text, documents, document, path, &Goal::Put(key, tree), &is_put)
}

/// Puts one more item behind those of the list at `path`.
pub(crate) fn append(
    text: &str,
    documents: &[Document],
    document: usize,
    path: &[Step],
    item: &Tree,
) -> Result<String, EditError> {
    let is_appended = |before: Option<&Node>, after: &Node| {
        let before = before.and_then(Node::items).unwrap_or_default();
        after.items().and_then(|items| items.split_last()).is_some_and(|(last, others)| {
            item.is(last)
                && others.len() == before.len()
                && others.iter().zip(before).all(|(after, before)| after.means_the_same_as(before))
        })
    };
    edited(text, documents, document, path, &Goal::Append(item), &is_appended)
}

/// What becomes of the node at the end of a path.
enum Goal<'a> {
    Change(&'a Changes<'a>),
    Put(&'a str, &'a Tree),
    Append(&'a Tree),
}

fn edited(
    text: &str,
    documents: &[Document],
    document: usize,
    path: &[Step],
    goal: &Goal<'_>,
    is_reached: &Reached<'_>,
) -> Result<String, EditError> {
    let not_alone = || EditError::NotAlone { path: PathText(path).to_string() };
    let root = documents.get(document).and_then(|document| document.root.as_ref()).ok_or_else(not_alone)?;
    let mut edit = Edit { text, replacements: Vec::new() };
    edit.descend(root, None, path, 0, goal)?;
    let edited = edit.applied();
    let after = yaml::parse(&edited).map_err(|_| not_alone())?;
    let others_same = after.len() == documents.len()
        && after.iter().zip(documents).enumerate().all(|(number, (after, before))| match (&after.root, &before.root) {
            (Some(after), Some(before)) if number == document => is_as_meant(Some(before), after, path, is_reached),
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
        goal: &Goal<'_>,
    ) -> Result<(), EditError> {
        let here = || PathText(&path[..depth]).to_string();
        if node.is_anchored || matches!(node.kind, Kind::Alias(..)) {
            return Err(EditError::Shared { line: node.line, path: here() });
        }
        let Some(step) = path.get(depth) else {
            return match goal {
                Goal::Change(changes) => self.change_mapping(node, entry, changes, &here()),
                Goal::Put(key, tree) => self.insert(node, entry, &[(*key, Value::Tree(tree))], &here()),
                Goal::Append(item) => self.append(node, entry, item, &here()),
            };
        };
        match (step, &node.kind) {
            (Step::Index(index), Kind::Sequence { items, .. }) => {
                let item = items
                    .get(*index)
                    .ok_or_else(|| EditError::Missing { path: PathText(&path[..=depth]).to_string() })?;
                self.descend(item, None, path, depth + 1, goal)
            }
            (Step::Key(key), Kind::Mapping { entries, .. }) => {
                match entries.iter().find(|entry| entry.key_text() == Some(key)) {
                    Some(entry) => self.descend(&entry.value, Some(entry), path, depth + 1, goal),
                    None => self.make_missing(node, entry, &path[depth..], goal, &here()),
                }
            }
            (Step::Key(_), _) if node.is_null() => self.make_missing(node, entry, &path[depth..], goal, &here()),
            _ => Err(EditError::NotAMapping { line: node.line, path: here() }),
        }
    }

    /// Puts nested mappings for steps that are not there yet.
    fn make_missing(
        &mut self,
        node: &Node,
        entry: Option<&Entry>,
        missing: &[Step],
        goal: &Goal<'_>,
        here: &str,
    ) -> Result<(), EditError> {
        let keys: Option<Vec<&str>> = missing
            .iter()
            .map(|step| match step {
                Step::Key(key) => Some(key.as_str()),
                Step::Index(_) => None,
            })
            .collect();
        let (Some(keys), Goal::Change(changes)) = (keys, goal) else {
            return Err(EditError::Missing { path: format!("{here}{}", PathText(missing)) });
        };
        if changes.set.is_empty() {
            return Err(EditError::Missing { path: format!("{here}{}", PathText(missing)) });
        }
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
        if !added.is_empty() && entries.is_empty() {
            self.fill_empty(node, entry, &added, here)?;
        } else if !added.is_empty() {
            for (key, value) in &added {
                self.insert_line_wise(entry, entries, &removed, key, value);
            }
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
                    self.insert_line_wise(entry, entries, &[], key, value);
                }
                Ok(())
            }
            _ => self.fill_empty(node, entry, added, here),
        }
    }

    /// Behind the entry that comes before it, if the entries are sorted; else behind the last one.
    fn insert_line_wise(
        &mut self,
        parent: Option<&Entry>,
        entries: &[Entry],
        removed: &[usize],
        key: &str,
        value: &Value<'_>,
    ) {
        let first = entries[0].key.range.start;
        let column = self.column(first);
        let is_sorted =
            matches!(value, Value::Token(_)) && entries.windows(2).all(|pair| pair[0].key_text() < pair[1].key_text());
        let before = entries
            .iter()
            .enumerate()
            .rfind(|(index, entry)| !removed.contains(index) && (!is_sorted || entry.key_text() < Some(key)));
        let starts_line = self.text[self.line_start(first)..first].trim().is_empty();
        match (before, parent) {
            (Some((_, entry)), _) => self.insert_behind(end_of(entry), column, key, value),
            (None, Some(parent)) if starts_line => self.insert_behind(self.behind_colon(parent), column, key, value),
            (None, _) => {
                let line_break = self.line_break(first);
                let text = format!("{}{line_break}{}", value.block(key, column, line_break), " ".repeat(column));
                self.replacements.push((first..first, text));
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
        if value.is_anchored || matches!(value.kind, Kind::Alias(..)) {
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
        let comment = header.find(" #").map_or("", |at| &header[header[..at].trim_end().len()..]);
        let text = format!(" >-{comment}{}{indent}{token}", self.line_break(colon));
        let end = if is_below_header { range.end } else { colon + header.len() };
        self.replacements.push((colon..end, text));
    }

    fn remove_lines(&mut self, entry: &Entry) {
        let start = self.line_start(entry.key.range.start);
        let end = self.line_end(end_of(entry));
        let range = match self.text[end..].find('\n') {
            Some(line_break) => start..end + line_break + 1,
            // The last line of a text without a final line break: the one before it goes, so that there is still none.
            None => {
                let before = self.text[..start].strip_suffix('\n').unwrap_or(&self.text[..start]);
                before.strip_suffix('\r').unwrap_or(before).len()..end
            }
        };
        self.replacements.push((range, String::new()));
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
        line_start(self.text, at)
    }

    fn line_end(&self, at: usize) -> usize {
        line_end(self.text, at)
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
    Tree(&'a Tree),
}

impl Value<'_> {
    /// `key: ...` in block style; the first line is not indented.
    fn block(&self, key: &str, column: usize, line_break: &str) -> String {
        let deeper = " ".repeat(column + 2);
        let key = write::scalar(key);
        match self {
            Self::Token(token) => format!("{key}: >-{line_break}{deeper}{token}"),
            Self::Tree(tree) => format!("{key}:{}", tree.behind_key(column, line_break)),
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
            Self::Tree(tree) => format!("{key}: {}", tree.json()),
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

/// Whether the node at the end of the path, before and after, is as it was meant to become.
type Reached<'a> = dyn Fn(Option<&Node>, &Node) -> bool + 'a;

/// Whether `after` is `before` but for what was meant at `path`.
fn is_as_meant(before: Option<&Node>, after: &Node, path: &[Step], is_reached: &Reached<'_>) -> bool {
    let before = before.filter(|node| !node.is_null());
    match path.split_first() {
        Some((Step::Index(index), rest)) => {
            let (Some(before), Some(after)) = (before.and_then(Node::items), after.items()) else { return false };
            before.len() == after.len()
                && before.iter().zip(after).enumerate().all(|(number, (before, after))| {
                    if number == *index {
                        is_as_meant(Some(before), after, rest, is_reached)
                    } else {
                        after.means_the_same_as(before)
                    }
                })
        }
        Some((Step::Key(key), rest)) => {
            let old = before.and_then(|before| before.get(key));
            let new_is_right =
                after.get(key).is_some_and(|after| is_as_meant(old.map(|node| &**node), after, rest, is_reached));
            new_is_right && others_are_same(before, after, &[key], &[])
        }
        None => is_reached(before, after),
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Applies changes to `spec.encryptedData` of the first document.
    fn changed(text: &str, set: &[(&str, &str)], remove: &[&str]) -> Result<String, EditError> {
        let path = [Step::Key("spec".to_owned()), Step::Key("encryptedData".to_owned())];
        at_path(text, &path, set, remove)
    }

    fn at_path(text: &str, path: &[Step], set: &[(&str, &str)], remove: &[&str]) -> Result<String, EditError> {
        let documents = yaml::parse(text).expect("the example is YAML");
        let set = set.iter().map(|(key, token)| (*key, (*token).to_owned())).collect();
        change(text, &documents, 0, path, &Changes { set, remove: remove.to_vec() })
    }

    const FILE: &str = "\
# licence
kind: SealedSecret
spec:
  encryptedData:   # sealed
    # the first
    a: >-
      seal1.a
    c: 'seal1.c'  # rotated in May

    # the last
    \"e\": seal1.e
  template: {type: Opaque}
---
kind: Other  # stays
";

    #[test]
    fn a_value_is_replaced_in_its_own_style() {
        let after = changed(FILE, &[("a", "seal1.A"), ("c", "seal1.C"), ("e", "seal1.E")], &[]).expect("is changed");
        let expected = FILE.replace("seal1.a", "seal1.A").replace("seal1.c", "seal1.C").replace("seal1.e", "seal1.E");
        assert_eq!(after, expected);
    }

    #[test]
    fn a_new_key_goes_where_the_order_wants_it() {
        for (key, before, after) in [
            ("0", "  encryptedData:   # sealed\n", "    \"0\": >-\n      seal1.new\n"),
            ("b", "      seal1.a\n", "    b: >-\n      seal1.new\n"),
            ("d", "    c: 'seal1.c'  # rotated in May\n", "    d: >-\n      seal1.new\n"),
            ("f", "    \"e\": seal1.e\n", "    f: >-\n      seal1.new\n"),
        ] {
            let expected = FILE.replace(before, &format!("{before}{after}"));
            assert_eq!(changed(FILE, &[(key, "seal1.new")], &[]).expect("is changed"), expected, "{key}");
        }
        let unsorted = "spec:\n  encryptedData:\n    b: x\n    a: x\n";
        let after = changed(unsorted, &[("aa", "seal1.new")], &[]).expect("is changed");
        assert_eq!(after, format!("{unsorted}    aa: >-\n      seal1.new\n"));
    }

    #[test]
    fn a_removed_key_takes_its_lines_and_nothing_else() {
        let after = changed(FILE, &[], &["a"]).expect("is changed");
        assert_eq!(after, FILE.replace("    a: >-\n      seal1.a\n", ""));
        let after = changed(FILE, &[], &["c", "e"]).expect("is changed");
        assert_eq!(after, FILE.replace("    c: 'seal1.c'  # rotated in May\n", "").replace("    \"e\": seal1.e\n", ""));
        let after = changed(FILE, &[], &["a", "c", "e"]).expect("is changed");
        assert!(after.contains("encryptedData: {}   # sealed\n    # the first\n"), "{after}");
    }

    #[test]
    fn line_ends_and_a_missing_last_one_stay() {
        let file = "spec:\r\n  encryptedData:\r\n    a: >-\r\n      seal1.a";
        let set = changed(file, &[("a", "seal1.A"), ("b", "seal1.b")], &[]).expect("is changed");
        assert_eq!(set, "spec:\r\n  encryptedData:\r\n    a: >-\r\n      seal1.A\r\n    b: >-\r\n      seal1.b");
        assert_eq!(changed(&set, &[], &["b"]).expect("is changed"), file.replace("seal1.a", "seal1.A"));
    }

    #[test]
    fn what_is_empty_is_filled() {
        for (before, after) in [
            ("spec:\n  encryptedData: {}\n", "spec:\n  encryptedData:\n    k: >-\n      seal1.k\n"),
            ("spec:\n  encryptedData:\n", "spec:\n  encryptedData:\n    k: >-\n      seal1.k\n"),
            ("spec:\n  encryptedData: # c\n", "spec:\n  encryptedData: # c\n    k: >-\n      seal1.k\n"),
            ("spec:\n  encryptedData: {} # c\n", "spec:\n  encryptedData: {\"k\": \"seal1.k\"} # c\n"),
            ("spec:\n  encryptedData: ~\n", "spec:\n  encryptedData:\n    k: >-\n      seal1.k\n"),
            ("spec:\n  vault: x\n", "spec:\n  vault: x\n  encryptedData:\n    k: >-\n      seal1.k\n"),
            ("spec:\n  encryptedData:\n    k:\n", "spec:\n  encryptedData:\n    k: >-\n      seal1.k\n"),
            ("spec:\n  encryptedData:\n    k: # c\n", "spec:\n  encryptedData:\n    k: >- # c\n      seal1.k\n"),
            ("spec:\n  encryptedData:\n    k: ~ # c\n", "spec:\n  encryptedData:\n    k: seal1.k # c\n"),
            (
                "spec:\n  encryptedData:\n    k: |\n      x\n      y\n  z: 1\n",
                "spec:\n  encryptedData:\n    k: >-\n      seal1.k\n  z: 1\n",
            ),
            (
                "spec:\n  encryptedData:\n    k: |  # c\n      x\n",
                "spec:\n  encryptedData:\n    k: >-  # c\n      seal1.k\n",
            ),
            (
                "spec:\n  encryptedData:\n    k: >-  # c\n      x\n\n      y\n",
                "spec:\n  encryptedData:\n    k: >-  # c\n      seal1.k\n",
            ),
        ] {
            assert_eq!(changed(before, &[("k", "seal1.k")], &[]).expect("is changed"), after, "{before}");
        }
    }

    #[test]
    fn json_stays_json() {
        let pretty = "{\n  \"spec\": {\n    \"encryptedData\": {\n      \"a\": \"seal1.a\",\n      \"b\": \"seal1.b\"\n    }\n  }\n}\n";
        let set = changed(pretty, &[("a", "seal1.A"), ("c", "seal1.c")], &[]).expect("is changed");
        assert_eq!(
            set,
            pretty.replace("seal1.a", "seal1.A").replace("\"seal1.b\"\n", "\"seal1.b\",\n      \"c\": \"seal1.c\"\n")
        );
        assert_eq!(changed(&set, &[], &["c"]).expect("is changed"), pretty.replace("seal1.a", "seal1.A"));
        let one_line = r#"{"spec":{"encryptedData":{"a":"seal1.a","b":"seal1.b"}}}"#;
        for (set, remove, expected) in [
            (
                vec![("c", "seal1.c")],
                vec![],
                r#"{"spec":{"encryptedData":{"a":"seal1.a","b":"seal1.b","c": "seal1.c"}}}"#,
            ),
            (vec![], vec!["a"], r#"{"spec":{"encryptedData":{"b":"seal1.b"}}}"#),
            (vec![], vec!["b"], r#"{"spec":{"encryptedData":{"a":"seal1.a"}}}"#),
            (vec![], vec!["a", "b"], r#"{"spec":{"encryptedData":{}}}"#),
            (vec![("c", "seal1.c")], vec!["a", "b"], r#"{"spec":{"encryptedData":{"c": "seal1.c"}}}"#),
        ] {
            let after = changed(one_line, &set, &remove).expect("is changed");
            assert_eq!(after, expected);
            assert!(serde_json::from_str::<serde_json::Value>(&after).is_ok());
        }
    }

    #[test]
    fn values_of_a_chart_are_reached_by_path() {
        let values = "image: x # y\ndb:\n  auth:\n    password: \"\"  # sealed\n  list:\n  - name: a\n    value: ''\n";
        let key = |key: &str| Step::Key(key.to_owned());
        let after = at_path(values, &[key("db"), key("auth")], &[("password", "seal1.p")], &[]).expect("is changed");
        assert_eq!(after, values.replace("\"\"", "\"seal1.p\""));
        let after = at_path(values, &[key("db"), key("list"), Step::Index(0)], &[("value", "seal1.v")], &[]);
        assert_eq!(after.expect("is changed"), values.replace("''", "'seal1.v'"));
        let after =
            at_path(values, &[key("db"), key("new"), key("deep")], &[("k", "seal1.k")], &[]).expect("is changed");
        assert_eq!(after, format!("{values}  new:\n    deep:\n      k: >-\n        seal1.k\n"));
        let after = at_path(values, &[], &[("top", "seal1.t")], &[]).expect("is changed");
        assert_eq!(after, format!("{values}top: >-\n  seal1.t\n"));
    }

    #[test]
    fn what_cannot_be_changed_alone_is_refused() {
        for text in [
            "spec:\n  encryptedData: &x\n    k: v\nother: *x\n",
            "spec:\n  encryptedData: *x\n",
            "spec:\n  encryptedData:\n    k: &v x\nother: *v\n",
            "spec:\n  encryptedData:\n    k: {a: b}\n",
            "spec:\n  encryptedData: text\n",
            "spec:\n  encryptedData: [k]\n",
            "spec: text\n",
            "[spec]\n",
        ] {
            let Ok(documents) = yaml::parse(text) else { continue };
            let path = [Step::Key("spec".to_owned()), Step::Key("encryptedData".to_owned())];
            let changes = Changes { set: vec![("k", "seal1.k".to_owned())], remove: Vec::new() };
            assert!(change(text, &documents, 0, &path, &changes).is_err(), "{text}");
        }
        // Aliases elsewhere are no obstacle, however deep they are nested.
        let mut nested = String::from("a0: &a0 x\n");
        for level in 1..60 {
            nested.push_str(&format!("a{level}: &a{level} [*a{0}, *a{0}]\n", level - 1));
        }
        let text = format!("{nested}spec:\n  encryptedData:\n    k: x\n");
        assert!(changed(&text, &[("k", "seal1.k")], &[]).is_ok());
        assert!(matches!(changed(FILE, &[], &["missing"]), Err(EditError::Missing { .. })));
    }

    /// Files as people format them: any order, quoting, comments, blank lines, line ends, neighbours.
    fn files() -> impl Strategy<Value = (String, Vec<String>)> {
        let comment = prop_oneof![Just(""), Just("  # note: x"), Just(" # '\"")];
        let style = prop_oneof![Just(0), Just(1), Just(2), Just(3), Just(4)];
        let before = prop_oneof![Just(""), Just("    # about: it\n"), Just("\n"), Just("  # outdented\n")];
        let entry = ("[a-z][a-z0-9._-]{0,6}", style, comment, before);
        let entries = prop::collection::vec(entry, 1..6);
        let tail = prop_oneof![
            Just(""),
            Just("  template:\n    type: Opaque # t\n"),
            Just("\n---\nkind: Other\n# end\n"),
            Just("...\n---\n- a\n- b: |\n    text\n\n"),
        ];
        (entries, tail, any::<bool>(), any::<bool>()).prop_map(|(entries, tail, crlf, final_break)| {
            let mut text =
                String::from("# top\nkind: SealedSecret\nspec:\n  sealedFor: {name: db}\n  encryptedData: # here\n");
            let mut keys: Vec<String> = Vec::new();
            for (key, style, comment, before) in entries {
                if keys.contains(&key) {
                    continue;
                }
                let value = match style {
                    0 => format!(">-{comment}\n      seal1.{key}"),
                    1 => format!("seal1.{key}{comment}"),
                    2 => format!("\"seal1.{key}\"{comment}"),
                    3 => format!("'seal1.{key}'{comment}"),
                    _ => format!("|-{comment}\n        seal1.{key}\n"),
                };
                text.push_str(&format!("{before}    {}: {value}\n", write::scalar(&key)));
                keys.push(key);
            }
            text.push_str(tail);
            if !final_break {
                text.truncate(text.trim_end().len());
            }
            (if crlf { text.replace('\n', "\r\n") } else { text }, keys)
        })
    }

    proptest! {
        #[test]
        fn bytes_outside_of_the_change_stay((text, keys) in files(), pick in any::<prop::sample::Index>(), new in "[a-z]{1,4}") {
            let key = pick.get(&keys).as_str();

            let replaced = changed(&text, &[(key, "seal1.new")], &[]).expect("is replaced");
            prop_assert_eq!(&replaced.replace("seal1.new", &format!("seal1.{key}")), &text);

            // What is added can be taken away again, and then everything is as it was.
            if !keys.contains(&new) {
                let added = changed(&text, &[(new.as_str(), "seal1.new")], &[]).expect("is added");
                prop_assert_eq!(added.lines().count(), text.lines().count() + 2);
                prop_assert_eq!(changed(&added, &[], &[new.as_str()]).expect("is removed"), text.clone());
            }

            // Every line that is left was there, in this order.
            let removed = changed(&text, &[], &[key]).expect("is removed");
            let mut lines = text.lines();
            for line in removed.lines().filter(|line| !line.contains("encryptedData")) {
                prop_assert!(lines.any(|before| before == line), "{line}");
            }
            prop_assert!(text.matches('\n').count() - removed.matches('\n').count() <= 2);
        }

        #[test]
        fn many_changes_at_once_are_the_same_as_one_by_one((text, keys) in files(), new in prop::collection::vec("[a-z]{1,4}", 0..3)) {
            let mut fresh: Vec<String> = new.into_iter().filter(|key| !keys.contains(key)).collect();
            fresh.sort();
            fresh.dedup();
            let set: Vec<(&str, &str)> = fresh.iter().map(|key| (key.as_str(), "seal1.new")).collect();
            let (remove, replace) = keys.split_at(keys.len() / 2);
            let remove: Vec<&str> = remove.iter().map(String::as_str).collect();
            let all: Vec<(&str, &str)> =
                replace.iter().map(|key| (key.as_str(), "seal1.new")).chain(set.iter().copied()).collect();
            let at_once = changed(&text, &all, &remove).expect("is changed");
            let documents = yaml::parse(&at_once).expect("is YAML");
            let data = documents[0].root.as_ref().and_then(|root| root.get("spec")?.get("encryptedData").cloned()).expect("is there");
            prop_assert_eq!(data.entries().expect("is a mapping").len(), all.len());
            for (key, token) in all {
                prop_assert_eq!(data.get(key).and_then(|node| node.string()), Some(token));
            }
        }
    }
}
