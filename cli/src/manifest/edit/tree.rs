//! What is put into a document besides tokens: a small tree -> its text, in block style, on one line, or as JSON.

use super::super::{
    write,
    yaml::{Kind, Node},
};

/// A value that is written as a whole.
pub(crate) enum Tree {
    Text(String),
    Number(i64),
    Map(Vec<(&'static str, Self)>),
    /// In block style each item has its line, so that branches that add different ones merge.
    List(Vec<Self>),
}

impl Tree {
    /// What stands behind `key:`, which begins at `column`.
    pub(super) fn behind_key(&self, column: usize, line_break: &str) -> String {
        match self {
            Self::Map(entries) if !self.fits_on_a_line() => {
                let indent = " ".repeat(column + 2);
                let entry = |(key, value): &(&str, Self)| {
                    format!("{line_break}{indent}{}:{}", write::scalar(key), value.behind_key(column + 2, line_break))
                };
                entries.iter().map(entry).collect()
            }
            Self::List(items) => {
                let indent = " ".repeat(column);
                items.iter().map(|item| format!("{line_break}{indent}- {}", item.line())).collect()
            }
            _ => format!(" {}", self.line()),
        }
    }

    /// A document of its own, ending in a line break.
    pub(crate) fn document(&self) -> String {
        match self {
            Self::Map(entries) => {
                let entry = |(key, value): &(&str, Self)| format!("{key}:{}\n", value.behind_key(0, "\n"));
                entries.iter().map(entry).collect()
            }
            _ => format!("{}\n", self.line()),
        }
    }

    /// As YAML on one line.
    pub(crate) fn line(&self) -> String {
        self.flow(write::scalar)
    }

    /// As JSON, which is also what stands between the braces of YAML.
    pub(crate) fn json(&self) -> String {
        self.flow(write::quoted)
    }

    fn flow(&self, text: fn(&str) -> String) -> String {
        match self {
            Self::Text(content) => text(content),
            Self::Number(number) => number.to_string(),
            Self::Map(entries) => {
                let entries = entries.iter().map(|(key, value)| format!("{}: {}", text(key), value.flow(text)));
                format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
            }
            Self::List(items) => {
                format!("[{}]", items.iter().map(|item| item.flow(text)).collect::<Vec<_>>().join(", "))
            }
        }
    }

    fn fits_on_a_line(&self) -> bool {
        match self {
            Self::Map(entries) => entries.iter().all(|(_, value)| matches!(value, Self::Text(_) | Self::Number(_))),
            _ => true,
        }
    }

    /// Whether a parser read exactly this.
    pub(super) fn is(&self, node: &Node) -> bool {
        match (self, &node.kind) {
            (Self::Text(text), _) => node.string() == Some(text),
            (Self::Number(number), Kind::Scalar(scalar)) => !scalar.is_string() && *scalar.text == number.to_string(),
            (Self::Map(entries), Kind::Mapping { entries: read, .. }) => {
                entries.len() == read.len()
                    && entries.iter().all(|(key, value)| node.get(key).is_some_and(|node| value.is(node)))
            }
            (Self::List(items), Kind::Sequence { items: read, .. }) => {
                items.len() == read.len() && items.iter().zip(read).all(|(item, node)| item.is(node))
            }
            _ => false,
        }
    }
}
