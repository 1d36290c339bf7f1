//! An existing text -> the same with the Secrets of the input sealed into it.

use std::path::Path;

use super::{Sealer, Source};
use crate::{
    error::{Error, Result},
    manifest::{
        edit::{self, Changes, Step},
        read::{self, Found, Secret, Stream},
        text::line_break_of,
        yaml::{Document, Node, is_json},
    },
    output,
    plan::{self, Names},
};

/// The existing text with the Secrets of the input sealed into it.
pub(crate) fn merged_text(
    existing: &Stream,
    sources: &[Source],
    path: &Path,
    prune: bool,
    sealer: &mut Sealer<'_>,
) -> Result<String> {
    let mut file = Parts::of(existing).map_err(|error| error.within(path.display()))?;
    for source in sources {
        for document in &source.stream.documents {
            let secrets = source.stream.secrets(document).map_err(|error| error.within(source.shown()))?;
            if secrets.is_empty() {
                file.put_foreign(source, document).map_err(|error| error.within(path.display()))?;
            }
            if secrets.iter().any(|(found, _)| matches!(found, Found::Item { .. })) {
                output::warn(&format!(
                    "{}: of a List, only the Secrets are merged; its other objects are in {} as they were, or not at all",
                    source.shown(),
                    path.display()
                ));
            }
            for (_, secret) in secrets {
                let place = format!("{}, line {}", source.shown(), secret.line);
                file.put_secret(secret, &place, prune, sealer)
                    .map_err(|error| error.within(format_args!("cannot seal into {}", path.display())))?;
            }
        }
    }
    file.joined()
}

/// A file in its documents, so that a change costs what its document does, however many there are.
struct Parts {
    /// What stands before the first document.
    head: String,
    parts: Vec<Part>,
    line_break: &'static str,
}

struct Part {
    /// One document, alone.
    stream: Stream,
    /// Whether `---` stands before it.
    is_explicit: bool,
    /// What stands between it and the next one.
    tail: String,
    sealed: Vec<read::Sealed>,
}

impl Part {
    fn of(text: &str, is_explicit: bool, tail: &str) -> Result<Self> {
        let stream = Stream::parse(text.as_bytes())?;
        let sealed = stream.sealed_secrets()?;
        Ok(Self { stream, is_explicit, tail: tail.to_owned(), sealed })
    }

    fn replace(&mut self, text: &str) -> Result<()> {
        *self = Self::of(text, self.is_explicit, &self.tail)?;
        Ok(())
    }

    fn root(&self) -> Option<&Node> {
        self.stream.documents.first()?.root.as_deref()
    }
}

impl Parts {
    fn of(existing: &Stream) -> Result<Self> {
        let (text, documents) = (existing.text.as_str(), &existing.documents);
        let starts = documents.iter().map(|document| document.range.start).chain([text.len()]);
        let parts = documents.iter().zip(starts.skip(1)).map(|(document, next)| {
            Part::of(&text[document.range.clone()], document.is_explicit, &text[document.range.end..next])
        });
        Ok(Self {
            head: text[..documents.first().map_or(text.len(), |document| document.range.start)].to_owned(),
            parts: parts.collect::<Result<_>>()?,
            line_break: line_break_of(text),
        })
    }

    /// The whole text again. Its documents must begin and end where those did that were changed one by one.
    fn joined(self) -> Result<String> {
        let mut text = self.head;
        for part in &self.parts {
            text.push_str(part.stream.text.as_str());
            text.push_str(&part.tail);
        }
        let whole = Stream::parse(text.as_bytes())?;
        let written = whole.documents.iter().map(|document| &text[document.range.clone()]);
        if !written.eq(self.parts.iter().map(|part| part.stream.text.as_str())) {
            return Err(Error::bug("the documents of the file would have run into each other; nothing was written"));
        }
        Ok(text)
    }

    fn put_secret(&mut self, secret: Secret, place: &str, prune: bool, sealer: &mut Sealer<'_>) -> Result<()> {
        let names = Names::from(&secret);
        let sealed = self.parts.iter().flat_map(|part| &part.sealed);
        let Some(into) = plan::matching(sealed, names, sealer.wish).map_err(|error| error.within(place))? else {
            let yaml = sealer.seal(secret, place)?.manifest().yaml();
            let yaml = if self.line_break == "\n" { yaml } else { yaml.replace('\n', self.line_break) };
            return self.append(&yaml);
        };
        let sealed_for = plan::merged(into, names, sealer.wish, sealer.rule).map_err(|error| error.within(place))?;
        plan::refuse_fetched(into, secret.values.iter().map(|(key, _)| key.as_str()))
            .map_err(|error| error.within(place))?;
        let data = sealer.tokens(&secret, &sealed_for)?;
        let keys: Vec<&str> = data.iter().map(|(key, _)| key.as_str()).collect();
        let remove: Vec<_> = into.keys.iter().map(String::as_str).filter(|key| prune && !keys.contains(key)).collect();
        let name = into.name.as_deref().or(names.name).unwrap_or_default();
        sealer.note(name, into.namespace.as_deref(), &data, &sealed_for);
        sealer.note_removed(name, into.namespace.as_deref(), &remove);
        if sealer.is_dry_run {
            return Ok(());
        }
        let changes = Changes { set: data.iter().map(|(key, token)| (key.as_str(), token.clone())).collect(), remove };
        let holds_it = |part: &Part| part.sealed.iter().any(|sealed| std::ptr::eq(sealed, into));
        let part = self.parts.iter().position(holds_it).ok_or_else(|| Error::bug("an object was found nowhere"))?;
        let text = changed(&self.parts[part].stream, into, &changes)?;
        self.parts[part].replace(&text)
    }

    /// A document that is no Secret: it stays where the file has it already, else it takes its old version's place or
    /// comes last.
    fn put_foreign(&mut self, source: &Source, document: &Document) -> Result<()> {
        let Some(root) = &document.root else { return Ok(()) };
        if self.parts.iter().filter_map(Part::root).any(|old| old.means_the_same_as(root)) {
            return Ok(());
        }
        let text = source.stream.text.as_str()[document.range.clone()].trim_start_matches(['\r', '\n']);
        let is_it = |part: &&mut Part| part.root().and_then(identity).is_some_and(|id| Some(id) == identity(root));
        let line_break = self.line_break;
        let Some(old) = self.parts.iter_mut().find(is_it) else { return self.append(text) };
        let lead = if old.is_explicit { line_break } else { "" };
        let end = if text.ends_with('\n') { "" } else { line_break };
        old.replace(&format!("{lead}{text}{end}"))
    }

    /// One more document at the end.
    fn append(&mut self, document: &str) -> Result<()> {
        if self.parts.first().is_some_and(|part| !part.is_explicit && part.stream.documents.iter().any(is_json)) {
            return Err(Error::request("a JSON file holds one object, and this one is not it")
                .hint("write it to another file, or use YAML"));
        }
        let line_break = self.line_break;
        if let Some(last) = self.parts.last_mut() {
            let text = last.stream.text.as_str();
            if last.tail.is_empty() && !text.ends_with('\n') {
                last.replace(&format!("{text}{line_break}"))?;
            } else if !last.tail.is_empty() && !last.tail.ends_with('\n') {
                last.tail.push_str(line_break);
            }
            last.tail.push_str("---");
        }
        self.parts.push(Part::of(&format!("{line_break}{document}"), true, "")?);
        Ok(())
    }
}

/// The text of a stream with changes to the `encryptedData` of one of its objects.
pub(crate) fn changed(stream: &Stream, object: &read::Sealed, changes: &Changes<'_>) -> Result<String> {
    let mut path = object.path.clone();
    path.extend(["spec", "encryptedData"].map(|field| Step::Key(field.to_owned())));
    edit::change(stream.text.as_str(), &stream.documents, object.document, &path, changes).map_err(|cause| {
        Error::request("the file cannot be changed in place")
            .because(cause)
            .hint("nothing was written; rewrite that part by hand")
    })
}

/// Which object a manifest is, or nothing for one without a name, as a List is: two of those are not the same.
fn identity(object: &Node) -> Option<[Option<&str>; 4]> {
    let metadata = object.get("metadata")?;
    let name = metadata.get("name")?.string()?;
    let [version, kind] = ["apiVersion", "kind"].map(|field| object.get(field).and_then(|node| node.string()));
    Some([version, kind, metadata.get("namespace").and_then(|node| node.string()), Some(name)])
}
