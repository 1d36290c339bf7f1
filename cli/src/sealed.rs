//! SealedSecrets in files and folders, as `open`, `ls`, `verify` and `ring` look at them.
//!
//! PATH -> files as Git sees them -> [`SealedDocument`]; and, for any text at all, which keys its values are sealed to.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use seal_crds::{API_GROUP, API_VERSION, SealedSecret};
use seal_envelope::KeyId;
use serde::Deserialize as _;
use serde_yaml::Value;

use crate::{
    error::{Error, Result},
    files,
    manifest::{
        read::{Stream, is_sealed_secret, list_items},
        text::Text,
        yaml::Node,
    },
    output::{self, Progress},
};

/// What every sealed value begins with.
const TOKEN: &str = "seal1.";
const KEY_ID: usize = 32;
/// Nobody keeps a larger manifest in a repository; images and archives are not read to look for one.
const MAX_FOUND: u64 = 32 << 20;

/// One SealedSecret and where it stands.
pub(crate) struct SealedDocument {
    /// The file as it was given, or `-`.
    pub(crate) file: String,
    /// The number of its document in the file, from 1. The items of a List share one.
    pub(crate) document: usize,
    pub(crate) object: SealedSecret,
}

impl SealedDocument {
    pub(crate) fn namespace(&self) -> Option<&str> {
        self.object.metadata.namespace.as_deref().filter(|namespace| !namespace.is_empty())
    }

    /// `NAMESPACE/NAME` of the Secret, for messages.
    pub(crate) fn shown(&self) -> String {
        match self.namespace() {
            Some(namespace) => format!("{namespace}/{}", self.object.target_name()),
            None => self.object.target_name().to_owned(),
        }
    }

    /// Where messages say that something is.
    pub(crate) fn place(&self) -> String {
        format!("{}: {}", self.file, self.shown())
    }
}

/// What files and folders hold.
#[derive(Default)]
pub(crate) struct Contents {
    pub(crate) documents: Vec<SealedDocument>,
    /// Files in folders that hold sealed values and cannot be read as what they are.
    pub(crate) broken: Vec<Error>,
}

/// All SealedSecrets of these files and folders.
///
/// What is broken in a file that was named is an error. In a folder, `*.yaml`, `*.yml` and `*.json` are looked at, as by
/// `kubectl`, and other people's templates, which are no YAML, are left alone.
pub(crate) fn read_all(paths: &[PathBuf]) -> Result<Contents> {
    let mut contents = Contents::default();
    for path in paths {
        if !path.is_dir() {
            contents.documents.extend(read(path)?);
            continue;
        }
        let mut files = files_below(path);
        files.retain(|file| is_manifest(file));
        let mut progress = Progress::of("reading", files.len());
        for file in &files {
            progress.step();
            let shown = file.display().to_string();
            match read_found(file, &shown) {
                Ok(documents) => contents.documents.extend(documents),
                Err(error) => contents.broken.push(error),
            }
        }
    }
    Ok(contents)
}

fn is_manifest(file: &Path) -> bool {
    file.extension().is_some_and(|end| ["yaml", "yml", "json"].iter().any(|known| end.eq_ignore_ascii_case(known)))
}

/// All SealedSecrets of one file, or of stdin (`-`).
pub(crate) fn read(path: &Path) -> Result<Vec<SealedDocument>> {
    let file = path.display().to_string();
    let bytes = if file == "-" { files::read_stdin()? } else { files::read(path)? };
    parse(&file, &bytes).map_err(|error| error.within(&file))
}

fn read_found(path: &Path, shown: &str) -> Result<Vec<SealedDocument>> {
    let Some(text) = text_of(path)?.filter(|text| text.as_str().contains("SealedSecret")) else {
        return Ok(Vec::new());
    };
    let is_sealed = text.as_str().contains(TOKEN);
    match Stream::of(text) {
        Err(_) if !is_sealed => Ok(Vec::new()),
        stream => stream.and_then(|stream| documents(shown, &stream)).map_err(|error| error.within(shown)),
    }
}

/// All SealedSecrets of a text.
pub(crate) fn parse(file: &str, bytes: &[u8]) -> Result<Vec<SealedDocument>> {
    documents(file, &Stream::parse(bytes)?)
}

fn documents(file: &str, stream: &Stream) -> Result<Vec<SealedDocument>> {
    let mut documents = Vec::new();
    for (number, document) in (1..).zip(&stream.documents) {
        let Some(root) = &document.root else { continue };
        if !holds_sealed_secrets(root) {
            continue;
        }
        let mut value: Value =
            serde_yaml::from_str(&stream.text.as_str()[document.range.clone()]).map_err(|_| unreadable(root.line))?;
        value.apply_merge().map_err(|_| unreadable(root.line))?;
        let mut objects = Vec::new();
        flatten(value, &mut objects);
        for object in objects {
            let object = sealed_secret(object, root.line)?;
            documents.push(SealedDocument { file: file.to_owned(), document: number, object });
        }
    }
    Ok(documents)
}

fn holds_sealed_secrets(node: &Node) -> bool {
    is_sealed_secret(node) || list_items(node).into_iter().flatten().any(|item| holds_sealed_secrets(item))
}

/// The SealedSecrets of a document, out of Lists.
fn flatten(mut value: Value, objects: &mut Vec<Value>) {
    let version = value.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
    let is_ours = version.split('/').next() == Some(API_GROUP);
    if is_ours && value.get("kind").and_then(Value::as_str) == Some("SealedSecret") {
        objects.push(value);
    } else if let Some(items) = value.get_mut("items").and_then(Value::as_sequence_mut) {
        for item in std::mem::take(items) {
            flatten(item, objects);
        }
    }
}

/// serde's text would quote what stands in the file, which may be a value that somebody forgot to seal.
fn sealed_secret(value: Value, line: usize) -> Result<SealedSecret> {
    let version = value.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
    if version != format!("{API_GROUP}/{API_VERSION}") {
        return Err(Error::request(format!("line {line}: a SealedSecret of a version that is not known here"))
            .hint("a newer `seal` may know it"));
    }
    SealedSecret::deserialize(value).map_err(|_| unreadable(line))
}

fn unreadable(line: usize) -> Error {
    Error::request(format!("the document at line {line} is not a valid SealedSecret"))
        .hint("`kubectl apply --dry-run=server -f FILE` says which field is wrong")
}

/// How many values of each key there are in each file, wherever in it they stand: in manifests, Helm values, templates.
pub(crate) fn values_by_key(paths: &[PathBuf]) -> BTreeMap<KeyId, BTreeMap<String, usize>> {
    let mut found: BTreeMap<KeyId, BTreeMap<String, usize>> = BTreeMap::new();
    for path in paths {
        let files = if path.is_dir() { files_below(path) } else { vec![path.clone()] };
        let mut progress = Progress::of("reading", files.len());
        for file in files {
            progress.step();
            let text = match text_of(&file) {
                Ok(Some(text)) => text,
                Ok(None) => continue,
                Err(error) => {
                    output::warning(&error);
                    continue;
                }
            };
            for id in key_ids(text.as_str()) {
                *found.entry(id).or_default().entry(file.display().to_string()).or_default() += 1;
            }
        }
    }
    found
}

/// The keys that values anywhere in a text are sealed to, each as often as there are values.
pub(crate) fn key_ids(text: &str) -> impl Iterator<Item = KeyId> {
    text.match_indices(TOKEN).filter_map(|(at, token)| {
        let (id, rest) = text.get(at + token.len()..)?.split_at_checked(KEY_ID)?;
        rest.starts_with('.').then(|| id.parse().ok()).flatten()
    })
}

/// What a file says; nothing for one that holds no text, or more of it than anybody would seal.
fn text_of(path: &Path) -> Result<Option<Text>> {
    if path.metadata().is_ok_and(|metadata| metadata.len() > MAX_FOUND) {
        return Ok(None);
    }
    Ok(Text::decode(&files::read(path)?).ok())
}

/// Every file below a folder that Git would see, in order.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let walk = ignore::WalkBuilder::new(folder)
        .hidden(false)
        .sort_by_file_path(Path::cmp)
        .filter_entry(|entry| entry.file_name() != ".git")
        .build();
    let is_file = |entry: &ignore::DirEntry| entry.file_type().is_some_and(|kind| kind.is_file());
    walk.flatten().filter(is_file).map(|entry| tidy(entry.path())).collect()
}

/// Without the `./` of the folder that nobody typed.
fn tidy(path: &Path) -> PathBuf {
    path.strip_prefix(".").unwrap_or(path).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_wherever_they_stand() {
        let id = "abcdefghijklmnopqrstuvwxyz234567";
        let text = format!("x: \"seal1.{id}.aaaaaaaa.AAAA\"\n{{{{ if }}}} seal1.{id}.b seal1.short. seal1.{id}");
        let id: KeyId = id.parse().unwrap();
        assert_eq!(key_ids(&text).collect::<Vec<_>>(), [id, id]);
    }

    #[test]
    fn sealed_secrets_come_out_of_lists_and_between_other_documents() {
        let text = "kind: ConfigMap\n---\napiVersion: v1\nkind: List\nitems:\n- apiVersion: sealwright.dev/v1alpha1\n  kind: SealedSecret\n  metadata: {name: a, namespace: n}\n  spec: {sealedFor: {}, encryptedData: {k: v}}\n- {apiVersion: v1, kind: Secret, stringData: {a: b}}\n---\napiVersion: sealwright.dev/v1alpha1\nkind: SealedSecret\nmetadata: {name: b}\nspec: {target: {name: c}}\n";
        let documents = parse("f.yaml", text.as_bytes()).unwrap();
        let shown: Vec<_> = documents.iter().map(|document| (document.document, document.shown())).collect();
        assert_eq!(shown, [(2, "n/a".to_owned()), (3, "c".to_owned())]);
    }

    #[test]
    fn a_value_that_was_not_sealed_is_not_quoted() {
        for data in ["{k: 31337}", "{k: [31337]}", "31337"] {
            let text =
                format!("apiVersion: sealwright.dev/v1alpha1\nkind: SealedSecret\nspec: {{encryptedData: {data}}}\n");
            let error = parse("f.yaml", text.as_bytes()).err().unwrap();
            assert!(!format!("{error} {error:?}").contains("31337"));
        }
    }
}
