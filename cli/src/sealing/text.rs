//! Documents -> a new text: Secrets replaced where they stand, or everything in another format.

use std::ops::Range;

use serde_json::{Value, json};

use super::{SealedNow, Sealer, Source};
use crate::{
    args::seal::Format,
    error::{Error, Result},
    manifest::{
        read::{self, Found, Stream},
        text::{line_break_of, line_start},
        write,
        yaml::{Document, is_json},
    },
};

/// The text of a new file or of stdout.
pub(crate) fn new_text(sources: &[Source], format: Option<Format>, sealer: &mut Sealer<'_>) -> Result<String> {
    match format {
        None => Ok(joined(sources.iter().map(|source| spliced(source, sealer)).collect::<Result<Vec<_>>>()?)),
        Some(Format::Yaml) => {
            let mut texts = Vec::new();
            for source in sources {
                if source.stream.documents.iter().any(is_json) {
                    texts.extend(yaml_documents(source, sealer)?);
                } else {
                    texts.push(spliced(source, sealer)?);
                }
            }
            Ok(joined(texts))
        }
        Some(Format::Json) => {
            let mut objects = Vec::new();
            for source in sources {
                for document in &source.stream.documents {
                    let (sealed, others) = taken_apart(source, document, sealer)?;
                    objects.extend(sealed.iter().map(|sealed| sealed.manifest().json()).chain(others));
                }
            }
            let whole = match objects.len() {
                1 => objects.remove(0),
                _ => json!({"apiVersion": "v1", "kind": "List", "items": objects}),
            };
            let text = format!("{}\n", write::pretty(&whole));
            refuse_leftovers(&text)?;
            Ok(text)
        }
    }
}

/// The text with its Secrets replaced, every other byte as it is.
pub(crate) fn spliced(source: &Source, sealer: &mut Sealer<'_>) -> Result<String> {
    let text = source.stream.text.as_str();
    let mut result = String::with_capacity(text.len());
    let mut at = 0;
    for document in &source.stream.documents {
        for (found, secret) in source.stream.secrets(document).map_err(|error| error.within(source.shown()))? {
            let place = format!("{}, line {}", source.shown(), secret.line);
            let sealed = sealer.seal(secret, &place)?;
            let (range, replacement) = replacement(text, document, &found, &sealed);
            result.push_str(&text[at..range.start]);
            result.push_str(&replacement);
            at = range.end;
        }
    }
    result.push_str(&text[at..]);
    refuse_leftovers(&result).map_err(|error| error.within(source.shown()))?;
    Ok(result)
}

/// The last look at what is to be written: it must still be YAML, and hold no Secret.
fn refuse_leftovers(text: &str) -> Result<()> {
    let stream = Stream::parse(text.as_bytes()).map_err(|_| {
        Error::request("the Secrets cannot be taken out of what stands around them")
            .hint("an alias outside of a Secret refers into it: write out there what it stands for")
    })?;
    for document in &stream.documents {
        if !stream.secrets(document)?.is_empty() {
            return Err(Error::bug("a Secret would have been left unsealed; nothing was written"));
        }
    }
    Ok(())
}

/// What a Secret becomes where it stands. Its comments go too: nobody can tell whether they hold a value.
fn replacement(text: &str, document: &Document, found: &Found<'_>, sealed: &SealedNow) -> (Range<usize>, String) {
    let line_break = line_break_of(text);
    let with_breaks = |yaml: String| if line_break == "\n" { yaml } else { yaml.replace('\n', line_break) };
    match found {
        Found::Document if is_json(document) => {
            let root = document.root.as_ref().map_or(document.range.clone(), |root| root.range.clone());
            let blank_or = |around: &'static str, range: Range<usize>| {
                if text[range.clone()].trim().is_empty() { text[range].to_owned() } else { around.to_owned() }
            };
            let before = blank_or(if document.is_explicit { line_break } else { "" }, document.range.start..root.start);
            let after = blank_or(line_break, root.end..document.range.end);
            (document.range.clone(), format!("{before}{}{after}", write::pretty(&sealed.manifest().json())))
        }
        Found::Document => {
            let yaml = with_breaks(sealed.manifest().yaml());
            (document.range.clone(), if document.is_explicit { format!("{line_break}{yaml}") } else { yaml })
        }
        Found::Item { node, is_flow: true } => {
            // Inside block style, lines must be deeper than the entry that they belong to.
            let deeper = if is_json(document) { 0 } else { 2 };
            let indent = " ".repeat(leading_blanks(text, node.range.start) + deeper);
            let json = write::pretty(&sealed.manifest().json());
            (node.range.clone(), json.replace('\n', &format!("{line_break}{indent}")))
        }
        Found::Item { node, is_flow: false } => {
            let column = node.range.start - line_start(text, node.range.start);
            let yaml = sealed.manifest().yaml();
            let indented = yaml.trim_end().replace('\n', &format!("{line_break}{}", " ".repeat(column)));
            (read::item_lines(text, node), indented)
        }
    }
}

fn leading_blanks(text: &str, at: usize) -> usize {
    let line = &text[line_start(text, at)..at];
    line.len() - line.trim_start_matches([' ', '-']).len()
}

/// Each document, and each item of a List, as YAML of its own.
fn yaml_documents(source: &Source, sealer: &mut Sealer<'_>) -> Result<Vec<String>> {
    let mut texts = Vec::new();
    for document in &source.stream.documents {
        let (sealed, others) = taken_apart(source, document, sealer)?;
        texts.extend(sealed.iter().map(|sealed| sealed.manifest().yaml()));
        for object in &others {
            let text = serde_yaml::to_string(object).map_err(|_| not_convertible(source))?;
            refuse_leftovers(&text)?;
            texts.push(text);
        }
    }
    Ok(texts)
}

/// What a document and the Lists in it hold: the Secrets, sealed, and all other objects.
fn taken_apart(source: &Source, document: &Document, sealer: &mut Sealer<'_>) -> Result<(Vec<SealedNow>, Vec<Value>)> {
    let (mut sealed, mut others) = (Vec::new(), Vec::new());
    let mut is_secret = false;
    for (found, secret) in source.stream.secrets(document).map_err(|error| error.within(source.shown()))? {
        let place = format!("{}, line {}", source.shown(), secret.line);
        sealed.push(sealer.seal(secret, &place)?);
        is_secret |= matches!(found, Found::Document);
    }
    if !is_secret {
        foreign_objects(source, document, &mut others)?;
    }
    Ok((sealed, others))
}

/// The objects of a document that are no Secrets, out of their Lists.
fn foreign_objects(source: &Source, document: &Document, objects: &mut Vec<Value>) -> Result<()> {
    if document.root.is_none() {
        return Ok(());
    }
    let text = &source.stream.text.as_str()[document.range.clone()];
    let read = || -> Result<Value, serde_yaml::Error> {
        let mut object: serde_yaml::Value = serde_yaml::from_str(text)?;
        object.apply_merge()?;
        serde_yaml::from_value(object)
    };
    flatten(read().map_err(|_| not_convertible(source))?, objects);
    Ok(())
}

fn flatten(mut object: Value, objects: &mut Vec<Value>) {
    let says = |field: &str, value: &str| object.get(field).and_then(Value::as_str) == Some(value);
    if says("kind", "Secret") && says("apiVersion", "v1") {
        return;
    }
    match object.get_mut("items") {
        Some(Value::Array(items)) if items.iter().any(|item| item.get("kind").is_some()) => {
            items.drain(..).for_each(|item| flatten(item, objects));
        }
        _ => objects.push(object),
    }
}

fn not_convertible(source: &Source) -> Error {
    Error::request(format!("{}: a document cannot be written in the other format", source.shown()))
        .hint("leave out -o, so that documents that are no Secrets stay as they are")
}

/// Texts as one stream of documents.
fn joined(texts: Vec<String>) -> String {
    let mut whole = String::new();
    for text in texts.into_iter().filter(|text| !text.is_empty()) {
        if !whole.is_empty() {
            if !whole.ends_with('\n') {
                whole.push('\n');
            }
            if text.starts_with('%') {
                whole.push_str("...\n"); // a directive follows the end of a document only
            } else if !text.starts_with("---") {
                whole.push_str("---\n");
            }
        }
        whole.push_str(&text);
    }
    whole
}
