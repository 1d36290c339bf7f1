//! Bytes -> documents -> Secrets and SealedSecrets.
//!
//! Reads Secrets as `kubectl` writes them and people edit them. What Kubernetes would refuse or drop without a word (a
//! misspelt field, a number where a string belongs, the same key twice) is an error here, told by line and path.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    ops::Range,
    rc::Rc,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use seal_envelope::{DataKey, KeyId, MAX_VALUE, SealedFor};
use zeroize::Zeroizing;

use super::{
    text::{Text, line_end},
    yaml::{self, Document, Entry, Node},
};
use crate::error::{Error, Result, did_you_mean};

/// A file or stdin: its text and the documents in it.
pub(crate) struct Stream {
    pub(crate) text: Text,
    pub(crate) documents: Vec<Document>,
}

/// A Secret with its values, before it is sealed. No `Debug`: it holds plaintext.
pub(crate) struct Secret {
    /// Where it begins in its file, for messages.
    pub(crate) line: usize,
    pub(crate) name: Option<String>,
    pub(crate) namespace: Option<String>,
    pub(crate) template: Template,
    /// In the order written, `data` first; `stringData` wins as it does in Kubernetes.
    pub(crate) values: Vec<(DataKey, Zeroizing<Vec<u8>>)>,
}

/// What of a Secret is kept in clear.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Template {
    /// Nothing for `Opaque`, which is what absence means.
    pub(crate) secret_type: Option<String>,
    pub(crate) immutable: Option<bool>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
}

/// A SealedSecret in a file, as far as sealing more into it needs.
pub(crate) struct Sealed {
    /// Which document of its stream.
    pub(crate) document: usize,
    /// Path of the object in the document: empty, or the item of a List.
    pub(crate) path: Vec<super::edit::Step>,
    pub(crate) name: Option<String>,
    pub(crate) namespace: Option<String>,
    /// Nothing where the file has no `sealedFor`, which is right only without sealed values.
    pub(crate) sealed_for: Option<SealedFor>,
    pub(crate) keys: Vec<String>,
    /// To which keys of which rings, as far as its values say so.
    pub(crate) sealed_to: BTreeSet<KeyId>,
    pub(crate) vault: Option<Vault>,
}

/// What a SealedSecret says of Vault, as far as one more reference needs.
pub(crate) struct Vault {
    /// Namespace, where it says one, and name; nothing where it names no store, which is not valid.
    pub(crate) store: Option<(Option<String>, String)>,
    /// The keys of `data`, in order; nothing where there is no such list yet.
    pub(crate) keys: Option<Vec<String>>,
}

impl Sealed {
    /// Whether Vault gives this key by name.
    pub(crate) fn fetches(&self, key: &str) -> bool {
        self.vault.iter().flat_map(|vault| &vault.keys).flatten().any(|fetched| fetched == key)
    }
}

/// Where an object stands in its document.
pub(crate) enum Found<'a> {
    /// It is the document.
    Document,
    /// It is an item of a List, in this form.
    Item { node: &'a Rc<Node>, is_flow: bool },
}

const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Line breaks in YAML 1.1, which Kubernetes reads, and ordinary characters in YAML 1.2, which we read.
const OLD_LINE_BREAKS: [char; 3] = ['\u{85}', '\u{2028}', '\u{2029}'];
/// How deep merge keys may refer to mappings with merge keys.
const MERGE_DEPTH: usize = 4;
const SECRET_FIELDS: [&str; 7] = ["apiVersion", "kind", "metadata", "data", "stringData", "type", "immutable"];
const METADATA_FIELDS: [&str; 13] = [
    "name",
    "namespace",
    "labels",
    "annotations",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "managedFields",
    "ownerReferences",
    "finalizers",
    "selfLink",
    "generateName",
];

impl Stream {
    /// Reads all documents; one that is broken refuses the whole stream.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
        let text = Text::decode(bytes).map_err(|cause| {
            Error::request(cause.to_string()).hint("manifests are YAML or JSON, in UTF-8 or UTF-16")
        })?;
        Self::of(text)
    }

    /// As [`Stream::parse`], of what was decoded.
    pub(crate) fn of(text: Text) -> Result<Self> {
        let text = text.with_json_surrogates_joined().with_json_objects_apart();
        let documents = yaml::parse(text.as_str())
            .map_err(|cause| Error::request(cause.to_string()).hint("one broken document refuses the whole file"))?;
        Ok(Self { text, documents })
    }

    /// Whether there is nothing but white space and comments.
    pub(crate) fn is_empty(&self) -> bool {
        self.documents.iter().all(|document| document.root.is_none())
    }

    /// The Secrets of a document, with where they stand.
    pub(crate) fn secrets<'a>(&self, document: &'a Document) -> Result<Vec<(Found<'a>, Secret)>> {
        let Some(root) = &document.root else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        if is_secret(root)? {
            found.push((Found::Document, secret(root)?));
        } else {
            items_that_are_secrets(root, &mut HashSet::new(), &mut found)?;
            found.sort_by_key(|(found, _)| match found {
                Found::Document => root.range.start,
                Found::Item { node, .. } => node.range.start,
            });
        }
        let text = &self.text.as_str()[document.range.clone()];
        if !found.is_empty() && !yaml::is_json(document) && text.contains(OLD_LINE_BREAKS) {
            return Err(at(root, "this document holds a line break of old YAML (U+0085, U+2028 or U+2029)").hint(
                "Kubernetes would read it as a line break; write it as an escape in double quotes: \"\\u2028\"",
            ));
        }
        Ok(found)
    }

    /// All SealedSecrets of our kind.
    pub(crate) fn sealed_secrets(&self) -> Result<Vec<Sealed>> {
        let mut sealed = Vec::new();
        for (number, document) in self.documents.iter().enumerate() {
            let Some(root) = &document.root else { continue };
            collect_sealed(root, number, &mut Vec::new(), &mut sealed)?;
        }
        Ok(sealed)
    }
}

/// Searches Lists in Lists. Whatever has `items` is one, as for `kubectl`, which applies the items of any kind.
///
/// Each list is `searched` once, where its anchor stands, however often and deeply aliases repeat it.
fn items_that_are_secrets<'a>(
    list: &'a Node,
    searched: &mut HashSet<*const Node>,
    found: &mut Vec<(Found<'a>, Secret)>,
) -> Result<()> {
    for items in readings(list, "items") {
        let yaml::Kind::Sequence { items, is_flow } = &items.resolved().kind else { continue };
        for node in items {
            if !searched.insert(node.resolved()) {
                continue;
            }
            if !is_secret(node)? {
                items_that_are_secrets(node.resolved(), searched, found)?;
            } else if matches!(node.kind, yaml::Kind::Alias(..)) {
                return Err(at(node, "a Secret of this List is an alias").hint("write it out"));
            } else {
                found.push((Found::Item { node, is_flow: *is_flow }, secret(node)?));
            }
        }
    }
    Ok(())
}

/// Whatever may be read as a Secret is one: passing plaintext through is the one mistake not to make.
fn is_secret(node: &Node) -> Result<bool> {
    let says = |field, value| readings(node, field).iter().any(|node| node.text() == Some(value));
    if says("kind", "SecretList") && says("apiVersion", "v1") {
        return Err(at(node, "a SecretList cannot be sealed as a whole")
            .hint("give it as `kind: List`, which is what `kubectl get secrets -o yaml` prints"));
    }
    if !says("kind", "Secret") {
        let is_meant = |kind: &Node| kind.text().is_some_and(|kind| kind.eq_ignore_ascii_case("secret"));
        let has = |field| !readings(node, field).is_empty();
        let is_like_one =
            has("stringData") || has("data") && !has("kind") || readings(node, "kind").into_iter().any(is_meant);
        if is_like_one && says("apiVersion", "v1") {
            return Err(at(node, "this looks like a Secret, and its kind is not `Secret`")
                .hint("write `kind: Secret`; as it is, its values would go through unsealed"));
        }
        return Ok(false);
    }
    if says("apiVersion", "v1") {
        return Ok(true);
    }
    match readings(node, "apiVersion").first().and_then(|version| version.text()) {
        Some(other) if other.contains('/') => Ok(false),
        _ => Err(at(node, "a Secret without `apiVersion: v1`").hint("write `apiVersion: v1`: there is no other")),
    }
}

/// All values that some reader may take for that of this field: of each of its entries if there are several, and those
/// of merge keys if there is none.
fn readings<'a>(node: &'a Node, field: &str) -> Vec<&'a Node> {
    let (mut values, mut sources, mut next) = (Vec::new(), vec![node.resolved()], 0);
    while let Some(source) = sources.get(next).copied() {
        next += 1;
        let entries = || source.entries().unwrap_or_default().iter();
        let before = values.len();
        values.extend(entries().filter(|entry| entry.key_text() == Some(field)).map(|entry| &*entry.value));
        if values.len() > before {
            continue;
        }
        for merge in entries().filter(|entry| entry.key_text() == Some("<<")) {
            let merged: Vec<&Node> = match merge.value.items() {
                Some(items) => items.iter().map(|item| item.resolved()).collect(),
                None => vec![merge.value.resolved()],
            };
            // Each once: merges of merges can be nested on purpose so that following them would take for ever.
            for source in merged {
                if !sources.iter().any(|known| std::ptr::eq(*known, source)) {
                    sources.push(source);
                }
            }
        }
    }
    values
}

fn secret(node: &Node) -> Result<Secret> {
    let fields = fields(node, "", Some(&SECRET_FIELDS))?;
    let of = |name: &str| fields.iter().find(|(key, _)| key == name).map(|(_, value)| *value);
    let mut secret = Secret {
        line: node.line,
        name: None,
        namespace: None,
        template: Template {
            secret_type: of("type")
                .map(|node| string(node, "type"))
                .transpose()?
                .flatten()
                .filter(|kind| !matches!(kind.as_str(), "" | "Opaque")),
            immutable: of("immutable").map(|node| boolean(node, "immutable")).transpose()?.flatten(),
            ..Template::default()
        },
        values: Vec::new(),
    };
    if let Some(metadata) = of("metadata") {
        read_metadata(metadata, &mut secret)?;
    }
    for (key, value) in mapping(of("data"), "data")? {
        secret.values.push((data_key(&key, value, "data")?, decoded(value, &key)?));
    }
    for (key, value) in mapping(of("stringData"), "stringData")? {
        let data_key = data_key(&key, value, "stringData")?;
        let path = format!("stringData.{key}");
        let text = string(value, &path)?
            .ok_or_else(|| at(value, format!("`{path}` is null")).hint("write \"\" for an empty value"))?;
        let bytes = Zeroizing::new(text.into_bytes());
        match secret.values.iter_mut().find(|(known, _)| *known == data_key) {
            Some((_, value)) => *value = bytes,
            None => secret.values.push((data_key, bytes)),
        }
    }
    if secret.values.is_empty() {
        return Err(at(node, "this Secret holds no values").hint("put them under `stringData`"));
    }
    let total: usize = secret.values.iter().map(|(_, value)| value.len()).sum();
    if total > MAX_VALUE {
        return Err(at(node, format!("this Secret holds {total} bytes; Kubernetes takes {MAX_VALUE} in all"))
            .hint("part the values over several Secrets"));
    }
    Ok(secret)
}

fn read_metadata(node: &Node, secret: &mut Secret) -> Result<()> {
    for (key, value) in fields(node, "metadata", Some(&METADATA_FIELDS))? {
        match key.as_str() {
            "name" => secret.name = string(value, "metadata.name")?,
            "namespace" => secret.namespace = string(value, "metadata.namespace")?.filter(|name| !name.is_empty()),
            "labels" => secret.template.labels = strings(value, "metadata.labels")?,
            "annotations" => {
                secret.template.annotations = strings(value, "metadata.annotations")?;
                secret.template.annotations.remove(LAST_APPLIED); // it holds the plaintext
            }
            _ => {} // what the API server wrote
        }
    }
    Ok(())
}

/// `data` as Kubernetes decodes it: standard base64, line breaks ignored.
fn decoded(node: &Node, key: &str) -> Result<Zeroizing<Vec<u8>>> {
    let path = format!("data.{key}");
    let text = string(node, &path)?
        .ok_or_else(|| at(node, format!("`{path}` is null")).hint("write \"\" for an empty value"))?;
    let text = Zeroizing::new(text);
    let joined = Zeroizing::new(text.replace(['\r', '\n'], ""));
    STANDARD.decode(joined.as_bytes()).map(Zeroizing::new).map_err(|_| {
        at(node, format!("`{path}` is not base64")).hint("put plain text under `stringData`, which needs no encoding")
    })
}

fn data_key(key: &str, node: &Node, field: &str) -> Result<DataKey> {
    DataKey::new(key).map_err(|_| {
        at(node, format!("`{field}` has a key that no Secret can have"))
            .hint("keys are up to 253 letters, digits, `-`, `_` and `.`")
    })
}

fn collect_sealed(
    node: &Rc<Node>,
    document: usize,
    path: &mut Vec<super::edit::Step>,
    sealed: &mut Vec<Sealed>,
) -> Result<()> {
    use super::edit::Step;
    if is_sealed_secret(node) {
        sealed.push(sealed_secret(node, document, path.clone())?);
    } else if let Some(items) = list_items(node) {
        for (index, item) in items.iter().enumerate() {
            path.extend([Step::Key("items".to_owned()), Step::Index(index)]);
            collect_sealed(item, document, path, sealed)?;
            path.truncate(path.len() - 2);
        }
    }
    Ok(())
}

/// The items of a List that are written where it stands. Aliases are not followed: what they name is changed nowhere.
pub(crate) fn list_items(node: &Node) -> Option<&[Rc<Node>]> {
    let yaml::Kind::Mapping { entries, .. } = &node.kind else { return None };
    let items = entries.iter().find(|entry| entry.key_text() == Some("items"))?;
    match &items.value.kind {
        yaml::Kind::Sequence { items, .. } => Some(items),
        _ => None,
    }
}

/// Whether the object is of our kind, in whatever version of our group.
pub(crate) fn is_sealed_secret(node: &Node) -> bool {
    let text = |field| node.get(field).and_then(|node| node.string());
    text("kind") == Some("SealedSecret")
        && text("apiVersion").is_some_and(|version| version.starts_with("sealwright.dev/"))
}

fn sealed_secret(node: &Node, document: usize, path: Vec<super::edit::Step>) -> Result<Sealed> {
    let metadata = node.get("metadata");
    let named = |field: &str| -> Result<Option<String>> {
        let value = metadata.and_then(|metadata| metadata.get(field));
        Ok(value.map(|value| string(value, &format!("metadata.{field}"))).transpose()?.flatten())
    };
    let spec = node.get("spec");
    let sealed_for = spec.and_then(|spec| spec.get("sealedFor"));
    let data = spec.and_then(|spec| spec.get("encryptedData"));
    let data = mapping(data.map(|data| &**data), "spec.encryptedData")?;
    let key_id = |(_, token): &(String, &Node)| token.text()?.split('.').nth(1)?.parse().ok();
    Ok(Sealed {
        document,
        path,
        name: named("name")?,
        namespace: named("namespace")?,
        sealed_for: sealed_for.map(|node| sealed_for_of(node)).transpose()?,
        sealed_to: data.iter().filter_map(key_id).collect(),
        keys: data.into_iter().map(|(key, _)| key).collect(),
        vault: spec.and_then(|spec| spec.get("vault")).map(|node| vault(node)),
    })
}

fn vault(node: &Node) -> Vault {
    let text = |node: &Node, field: &str| node.get(field).and_then(|node| node.string()).map(str::to_owned);
    let store = node.get("storeRef").and_then(|store| Some((text(store, "namespace"), text(store, "name")?)));
    let keys = node
        .get("data")
        .map(|data| data.items().unwrap_or_default().iter().filter_map(|item| text(item, "key")).collect::<Vec<_>>());
    Vault { store, keys }
}

/// Only absence means any: an empty or null part is an error.
fn sealed_for_of(node: &Node) -> Result<SealedFor> {
    let wrong = |node: &Node, what: &str| {
        at(node, format!("`spec.sealedFor{what}` says nothing"))
            .hint("leave it out to mean any; `seal` writes it right")
    };
    let (mut name, mut namespaces) = (None, Vec::new());
    for (key, value) in fields(node, "spec.sealedFor", Some(&["name", "namespaces"]))? {
        if key == "name" {
            name = Some(string(value, "spec.sealedFor.name")?.ok_or_else(|| wrong(value, ".name"))?);
        } else {
            let items = value.items().filter(|items| !items.is_empty()).ok_or_else(|| wrong(value, ".namespaces"))?;
            for item in items {
                let namespace = string(item, "spec.sealedFor.namespaces")?;
                namespaces.push(namespace.ok_or_else(|| wrong(item, ".namespaces"))?);
            }
        }
    }
    SealedFor::new(name.as_deref(), &namespaces)
        .map_err(|cause| at(node, "`spec.sealedFor` is not valid").because(cause))
}

/// The fields of an object, each once, merge keys followed.
fn fields<'a>(node: &'a Node, path: &str, known: Option<&[&str]>) -> Result<Vec<(String, &'a Node)>> {
    fields_to_depth(node, path, known, MERGE_DEPTH)
}

fn fields_to_depth<'a>(
    node: &'a Node,
    path: &str,
    known: Option<&[&str]>,
    depth: usize,
) -> Result<Vec<(String, &'a Node)>> {
    if depth == 0 {
        return Err(at(node, "merge keys (`<<`) are nested too deep"));
    }
    let place = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    let Some(entries) = node.entries() else {
        return Err(at(node, format!("`{path}` is not a mapping")).hint("write it as `KEY: VALUE` lines"));
    };
    let mut fields: Vec<(String, &Node)> = Vec::new();
    let (merges, own): (Vec<&Entry>, Vec<&Entry>) = entries.iter().partition(|entry| entry.key_text() == Some("<<"));
    for entry in own {
        let key = entry.key.string().ok_or_else(|| {
            at(
                &entry.key,
                format!("a key under `{}` is not a string", if path.is_empty() { "the document" } else { path }),
            )
            .hint("put it in quotes")
        })?;
        if fields.iter().any(|(known, _)| known == key) {
            return Err(at(&entry.key, format!("`{}` is there twice", place(key))));
        }
        if let Some(known) = known
            && !known.contains(&key)
        {
            let error = at(&entry.key, format!("`{}` is no field of a manifest of this kind", place(key)));
            return Err(match did_you_mean(key, known.iter().copied()) {
                Some(near) => error.hint(format!("did you mean `{near}`?")),
                None => error.hint("is it indented as it should be?"),
            });
        }
        fields.push((key.to_owned(), &entry.value));
    }
    for merge in merges {
        let sources: Vec<&Node> = match merge.value.items() {
            Some(items) => items.iter().map(|item| &**item).collect(),
            None => vec![&*merge.value],
        };
        for source in sources {
            for (key, value) in fields_to_depth(source.resolved(), path, known, depth - 1)? {
                if !fields.iter().any(|(own, _)| *own == key) {
                    fields.push((key, value));
                }
            }
        }
    }
    Ok(fields)
}

/// A mapping that may be absent or null.
fn mapping<'a>(node: Option<&'a Node>, path: &str) -> Result<Vec<(String, &'a Node)>> {
    match node {
        Some(node) if !node.is_null() => fields(node, path, None),
        _ => Ok(Vec::new()),
    }
}

fn strings(node: &Node, path: &str) -> Result<BTreeMap<String, String>> {
    let mut strings = BTreeMap::new();
    for (key, value) in mapping(Some(node), path)? {
        let text = string(value, &format!("{path}.{key}"))?.unwrap_or_default();
        strings.insert(key, text);
    }
    Ok(strings)
}

/// A string, or nothing for null. What else stands there is not quoted: it may be a secret.
fn string(node: &Node, path: &str) -> Result<Option<String>> {
    match node.string() {
        Some(text) => Ok(Some(text.to_owned())),
        None if node.is_null() => Ok(None),
        None => Err(at(node, format!("`{path}` is not a string")).hint("put it in quotes")),
    }
}

fn boolean(node: &Node, path: &str) -> Result<Option<bool>> {
    match node.scalar().and_then(yaml::Scalar::boolean) {
        Some(value) => Ok(Some(value)),
        None if node.is_null() => Ok(None),
        None => Err(at(node, format!("`{path}` is neither true nor false"))),
    }
}

fn at(node: &Node, message: impl std::fmt::Display) -> Error {
    Error::request(format!("line {}: {message}", node.line))
}

/// The lines of an item of a block List: what replaces it must not leave a comment of the Secret behind.
pub(crate) fn item_lines(text: &str, node: &Node) -> Range<usize> {
    let mut end = line_end(text, node.range.end);
    let mut at = end;
    while at < text.len() {
        let next = line_end(text, at + 1);
        match text[at..next].trim() {
            "" => {}
            line if line.starts_with('#') => end = next,
            _ => break,
        }
        at = next;
    }
    node.range.start..end
}
