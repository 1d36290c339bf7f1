//! An existing text -> the same with the Secrets of the input sealed into it.

use std::path::Path;

use super::{SealedNow, Sealer, Source};
use crate::{
    error::{Error, Result},
    manifest::{
        edit::{self, Changes, Step},
        read::{self, Found, Secret, Stream},
        text::line_break_of,
        yaml::{Document, Node},
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
    let mut text = existing.text.as_str().to_owned();
    for source in sources {
        for document in &source.stream.documents {
            let secrets = source.stream.secrets(document).map_err(|error| error.within(source.shown()))?;
            if secrets.is_empty() && document.root.is_some() {
                text = with_foreign(&text, source, document).map_err(|error| error.within(path.display()))?;
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
                text = with_secret(&text, secret, &place, prune, sealer)
                    .map_err(|error| error.within(format_args!("cannot seal into {}", path.display())))?;
            }
        }
    }
    Ok(text)
}

fn with_secret(text: &str, secret: Secret, place: &str, prune: bool, sealer: &mut Sealer<'_>) -> Result<String> {
    let stream = Stream::parse(text.as_bytes())?;
    let sealed = stream.sealed_secrets()?;
    let names = Names::from(&secret);
    let Some(into) = plan::matching(&sealed, names, sealer.wish).map_err(|error| error.within(place))? else {
        let new = sealer.seal(secret, place)?;
        return appended(text, &new);
    };
    let sealed_for = plan::merged(into, names, sealer.wish, sealer.rule).map_err(|error| error.within(place))?;
    let data = sealer.tokens(&secret, &sealed_for)?;
    let keys: Vec<&str> = data.iter().map(|(key, _)| key.as_str()).collect();
    let remove = into.keys.iter().map(String::as_str).filter(|key| prune && !keys.contains(key)).collect();
    let name = into.name.as_deref().or(names.name).unwrap_or_default();
    sealer.note(name, into.namespace.as_deref(), &data, &sealed_for);
    if sealer.is_dry_run {
        return Ok(text.to_owned());
    }
    let changes = Changes { set: data.iter().map(|(key, token)| (key.as_str(), token.clone())).collect(), remove };
    changed(&stream, into, &changes)
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

/// One more document at the end.
fn appended(text: &str, new: &SealedNow) -> Result<String> {
    let yaml = new.manifest().yaml();
    with_document(text, &if text.contains("\r\n") { yaml.replace('\n', "\r\n") } else { yaml })
}

fn with_document(text: &str, document: &str) -> Result<String> {
    if text.trim_start().starts_with('{') {
        return Err(Error::request("a JSON file holds one object, and this one is not it")
            .hint("write it to another file, or use YAML"));
    }
    let line_break = line_break_of(text);
    let gap = if text.is_empty() || text.ends_with('\n') { "" } else { line_break };
    Ok(format!("{text}{gap}---{line_break}{document}"))
}

/// A document that is no Secret: it stays where the file has it already, else it takes its old version's place or
/// comes last.
fn with_foreign(text: &str, source: &Source, document: &Document) -> Result<String> {
    let Some(root) = &document.root else { return Ok(text.to_owned()) };
    let stream = Stream::parse(text.as_bytes())?;
    let old = |is_it: &dyn Fn(&Node) -> bool| {
        stream.documents.iter().find(|document| document.root.as_ref().is_some_and(|root| is_it(root)))
    };
    if old(&|old| old.means_the_same_as(root)).is_some() {
        return Ok(text.to_owned());
    }
    let written = source.stream.text.as_str()[document.range.clone()].trim_start_matches(['\r', '\n']);
    let id = identity(root);
    let Some(old) = old(&|old| id.is_some() && identity(old) == id) else { return with_document(text, written) };
    let line_break = line_break_of(text);
    let lead = if old.is_explicit { line_break } else { "" };
    let end = if written.ends_with('\n') { "" } else { line_break };
    Ok(format!("{}{lead}{written}{end}{}", &text[..old.range.start], &text[old.range.end..]))
}

/// Which object a manifest is, or nothing for one without a name, as a List is: two of those are not the same.
fn identity(object: &Node) -> Option<[Option<&str>; 4]> {
    let metadata = object.get("metadata")?;
    let name = metadata.get("name")?.string()?;
    let [version, kind] = ["apiVersion", "kind"].map(|field| object.get(field).and_then(|node| node.string()));
    Some([version, kind, metadata.get("namespace").and_then(|node| node.string()), Some(name)])
}
