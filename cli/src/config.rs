//! `.seal/`: the committed configuration. Found upward from what is written; says which ring, scope and namespace.
//!
//! path -> directory that holds `.seal/` -> rules of `config.yaml` (first match wins) and rings of `keyrings/*.yaml`.
//! A ring file is public and committed, so errors may name it; one that holds a private key is refused unquoted.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
};

use globset::{GlobBuilder, GlobMatcher};
use kube::core::{ObjectMeta, TypeMeta};
use seal_crds::{KeyRing, KeyRingSpec};
use seal_envelope::{KeyId, Recipient, Ring};
use serde::Deserialize;

use crate::{
    args::seal::Scope,
    error::{Error, Result, did_you_mean},
    files,
    manifest::text::{Text, contains_ignoring_case},
    output,
    vault::{STORES, Store},
};

/// What `.seal/` says; an empty one where there is none.
pub(crate) struct Config {
    /// The directory that holds `.seal/`, absolute; nothing where none was found.
    root: Option<PathBuf>,
    rules: Vec<Rule>,
}

/// One rule of `config.yaml`.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) path: String,
    pub(crate) ring: Option<String>,
    pub(crate) scope: Option<Scope>,
    pub(crate) namespaces: Vec<String>,
    /// Where `seal vault add` refers to.
    pub(crate) vault_store: Option<Store>,
    glob: GlobMatcher,
}

/// A ring and the file that it was read from.
pub(crate) struct RingFile {
    pub(crate) path: PathBuf,
    /// What the file held when it was read: a change is made to this, and refused if it is no longer there.
    pub(crate) bytes: Vec<u8>,
    /// As committed, wraps and proof included.
    pub(crate) manifest: KeyRing,
    /// Its members and keys, checked.
    pub(crate) ring: Ring,
}

/// A ring file, read in one go: whatever status a cluster has put there is no business of ours.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Manifest {
    api_version: String,
    kind: String,
    metadata: ObjectMeta,
    spec: KeyRingSpec,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigFile {
    #[serde(default)]
    rules: Vec<RuleEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct RuleEntry {
    path: String,
    ring: Option<String>,
    scope: Option<Scope>,
    namespace: Option<OneOrMany>,
    vault_store: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl Config {
    /// Looks for `.seal/` in the directory of `written` (or the current one) and upward, up to the top of the Git
    /// repository; a file outside any such directory falls back to the current one.
    pub(crate) fn find(written: Option<&Path>) -> Result<Self> {
        let current = current_directory()?;
        let beside = written.and_then(|path| absolute(path).parent().map(Path::to_owned));
        let root = beside.as_deref().and_then(root_above).or_else(|| root_above(&current));
        let rules = match &root {
            Some(root) => read_rules(&root.join(".seal/config.yaml"))?,
            None => Vec::new(),
        };
        Ok(Self { root, rules })
    }

    pub(crate) fn root(&self) -> Option<&Path> {
        self.root.as_deref()
    }

    /// The directory that holds `.seal/`, or is to hold it: the top of the Git repository, or else the current one.
    pub(crate) fn home(&self) -> Result<PathBuf> {
        if let Some(root) = &self.root {
            return Ok(root.clone());
        }
        let current = current_directory()?;
        let top = current.ancestors().find(|directory| directory.join(".git").exists()).map(Path::to_owned);
        Ok(top.unwrap_or(current))
    }

    pub(crate) fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// The first rule that matches, by the path below the directory that holds `.seal/`.
    pub(crate) fn rule_for(&self, path: &Path) -> Option<&Rule> {
        let below = self.below_root(path)?;
        self.rules.iter().find(|rule| rule.matches(&below))
    }

    /// The path as rules see it; nothing for one outside.
    pub(crate) fn below_root(&self, path: &Path) -> Option<PathBuf> {
        absolute(path).strip_prefix(self.root.as_deref()?).ok().map(Path::to_owned)
    }

    /// The ring to seal to: `chosen` (a name or a ring file), else the rule's, else the only one there is.
    pub(crate) fn ring_for(&self, chosen: Option<&str>, rule: Option<&Rule>) -> Result<RingFile> {
        match (chosen, rule.and_then(|rule| rule.ring.as_deref())) {
            (Some(chosen), _) => self.chosen_ring(chosen),
            (None, Some(name)) => self.ring_named(name),
            (None, None) => self.only_ring(),
        }
    }

    /// As [`Config::ring_for`], for more of what is `sealed_to` these keys already: where nothing says which of several
    /// rings, it is the one that holds them.
    pub(crate) fn ring_for_more(
        &self,
        chosen: Option<&str>,
        rule: Option<&Rule>,
        sealed_to: &BTreeSet<KeyId>,
    ) -> Result<RingFile> {
        let is_said = chosen.is_some() || rule.is_some_and(|rule| rule.ring.is_some());
        let paths = self.ring_paths()?;
        let holds_one = |file: &RingFile| file.ring.keys().iter().any(|key| sealed_to.contains(&key.key_id()));
        if !is_said && !sealed_to.is_empty() && paths.len() > 1 {
            let readable = paths.iter().filter_map(|path| read_ring(path).ok());
            let mut holding = readable.filter(holds_one);
            if let (Some(ring), None) = (holding.next(), holding.next()) {
                return Ok(ring);
            }
        }
        let ring = self.ring_for(chosen, rule)?;
        if !is_said && !sealed_to.is_empty() && !holds_one(&ring) {
            let (name, place) = (ring.ring.name(), self.described_keyrings());
            output::warn(&format!(
                "what is there is sealed to a ring that is not in {place}; more is sealed to `{name}`"
            ));
            output::hint(&format!(
                "if that is meant, say so with --to {name}; else fetch the ring: `seal init --from-cluster`"
            ));
        }
        Ok(ring)
    }

    /// All rings of `.seal/keyrings/`, by file name.
    pub(crate) fn rings(&self) -> Result<Vec<RingFile>> {
        self.ring_paths()?.iter().map(|path| read_ring(path)).collect()
    }

    /// The ring of this name.
    pub(crate) fn ring_named(&self, name: &str) -> Result<RingFile> {
        let expected = self.ring_path(name);
        if let Some(path) = expected.filter(|path| path.exists()) {
            let file = read_ring(&path)?;
            if file.ring.name() == name {
                return Ok(file);
            }
        }
        let rings = self.rings()?;
        let known: Vec<String> = rings.iter().map(|file| file.ring.name().to_owned()).collect();
        rings.into_iter().find(|file| file.ring.name() == name).ok_or_else(|| {
            let error = Error::request(format!("there is no key ring `{name}` in {}", self.described_keyrings()));
            match did_you_mean(name, known.iter().map(String::as_str)) {
                Some(near) => error.hint(format!("did you mean `{near}`?")),
                None if known.is_empty() => error.hint(HOW_TO_GET_A_RING),
                None => error.hint(format!("there are: {}", known.join(", "))),
            }
        })
    }

    /// Where the ring of this name belongs; nothing without `.seal/`.
    pub(crate) fn ring_path(&self, name: &str) -> Option<PathBuf> {
        let is_plain = !name.contains(['/', '\\']) && !name.starts_with('.');
        self.root.as_ref().filter(|_| is_plain).map(|root| root.join(".seal/keyrings").join(format!("{name}.yaml")))
    }

    fn chosen_ring(&self, chosen: &str) -> Result<RingFile> {
        if looks_like_private_key(chosen) {
            return Err(private_key_error("--to"));
        }
        if chosen.starts_with("age1") {
            return Err(Error::request("--to takes a key ring, and this is a recipient")
                .hint("make a ring of it: `seal ring new NAME --member NAME=RECIPIENT`"));
        }
        let is_file_name =
            chosen.contains(['/', '\\']) || [".yaml", ".yml", ".json"].iter().any(|end| chosen.ends_with(end));
        if is_file_name { read_ring(Path::new(chosen)) } else { self.ring_named(chosen) }
    }

    fn only_ring(&self) -> Result<RingFile> {
        let paths = self.ring_paths()?;
        match paths.as_slice() {
            [] => Err(Error::request(format!("there is no key ring in {}", self.described_keyrings()))
                .hint(HOW_TO_GET_A_RING)
                .hint("or pass --to RING-FILE")),
            [only] => read_ring(only),
            _ => {
                let names: Vec<_> =
                    paths.iter().filter_map(|path| path.file_stem()).map(|stem| stem.to_string_lossy()).collect();
                Err(Error::request(format!("there are {} key rings and nothing says which to seal to", names.len()))
                    .hint(format!("pass --to with one of: {}", names.join(", ")))
                    .hint("or name it in a rule of .seal/config.yaml (with stdout, --path says which rule)"))
            }
        }
    }

    /// The files of `.seal/keyrings/`, in order.
    pub(crate) fn ring_paths(&self) -> Result<Vec<PathBuf>> {
        let Some(root) = &self.root else { return Ok(Vec::new()) };
        let directory = root.join(".seal/keyrings");
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(cause) => return Err(Error::request(format!("cannot list {}", directory.display())).because(cause)),
        };
        let mut paths: Vec<PathBuf> = entries
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .filter(|path| path.extension().is_some_and(|end| end == "yaml" || end == "yml" || end == "json"))
            .collect();
        paths.sort();
        Ok(paths)
    }

    fn described_keyrings(&self) -> String {
        match &self.root {
            Some(root) => output::near(&root.join(".seal/keyrings")),
            None => ".seal/keyrings (no .seal/ directory was found)".to_owned(),
        }
    }
}

fn current_directory() -> Result<PathBuf> {
    std::env::current_dir().map_err(|cause| {
        Error::request("cannot tell the current directory").because(cause).hint("was it removed? change to another one")
    })
}

const HOW_TO_GET_A_RING: &str = "fetch the cluster's ring with `seal init --from-cluster`, or make one with `seal ring new NAME --member NAME=FILE`";

impl Rule {
    pub(crate) fn matches(&self, below_root: &Path) -> bool {
        self.glob.is_match(below_root)
    }
}

impl RingFile {
    /// The key that seals: the last one.
    pub(crate) fn sealing_recipient(&self) -> Result<&Recipient> {
        let disabled = self.manifest.spec.sealing_key().is_some_and(seal_crds::key_ring::RingKey::is_disabled);
        match self.ring.keys().last() {
            Some(recipient) if !disabled => Ok(recipient),
            _ => Err(Error::request(format!("the last key of ring `{}` is disabled", self.ring.name()))
                .hint(format!("append a new one: `seal ring rotate {} -i IDENTITY`", self.ring.name()))),
        }
    }
}

/// Reads a ring manifest.
pub(crate) fn read_ring(path: &Path) -> Result<RingFile> {
    let place = path.display();
    let bytes = files::read(path)?;
    let text = text(path, &bytes)?;
    if looks_like_private_key(text.as_str()) {
        return Err(private_key_error(&place.to_string()));
    }
    let no_ring = |line: Option<usize>| {
        let line = line.map(|line| format!(", line {line}")).unwrap_or_default();
        Error::request(format!("{place}{line}: not a KeyRing manifest"))
            .hint("`seal ring new` and `seal init` write one; a recipient alone is not a ring")
    };
    // serde's text would quote what stands in the file; the place is enough.
    let unreadable = |cause: serde_yaml::Error| no_ring(cause.location().map(|location| location.line()));
    let Manifest { api_version, kind, metadata, spec } = serde_yaml::from_str(text.as_str()).map_err(unreadable)?;
    if (TypeMeta { api_version, kind }) != TypeMeta::resource::<KeyRing>() {
        return Err(no_ring(None));
    }
    let manifest = KeyRing { metadata, spec, status: None };
    let ring = manifest.ring().map_err(|cause| {
        Error::request(format!("{place}: the key ring is not usable"))
            .because(cause)
            .hint("fetch it again: `seal init --from-cluster`; see who changed it: `git log -p`")
    })?;
    Ok(RingFile { path: path.to_owned(), bytes: bytes.to_vec(), manifest, ring })
}

const PRIVATE_KEY: &str = "AGE-SECRET-KEY-";

/// Whether this text is, or holds, an age identity.
pub(crate) fn looks_like_private_key(text: &str) -> bool {
    contains_ignoring_case(text, PRIVATE_KEY)
}

/// A private key where a public one belongs; it is not echoed.
pub(crate) fn private_key_error(place: &str) -> Error {
    Error::request(format!("{place}: a private key stands where only public ones belong"))
        .hint("keep it out of repositories and command lines; if it was committed or shared, replace it")
}

/// A file of `.seal/`, whatever editor or shell has encoded it.
fn text(path: &Path, bytes: &[u8]) -> Result<Text> {
    Text::decode(bytes).map_err(|cause| {
        Error::request(format!("{} cannot be read", path.display())).because(cause).hint("write it in UTF-8")
    })
}

fn read_rules(path: &Path) -> Result<Vec<Rule>> {
    let Some(bytes) = files::read_if_exists(path)? else { return Ok(Vec::new()) };
    let place = output::near(path);
    let text = text(path, &bytes)?;
    if text.as_str().trim().is_empty() {
        return Ok(Vec::new());
    }
    let config: Option<ConfigFile> = serde_yaml::from_str(text.as_str()).map_err(|cause| {
        Error::request(format!("{place} cannot be read"))
            .because(cause)
            .hint("it holds `rules:`, a list of `path`, `ring`, `scope`, `namespace` and `vaultStore`")
    })?;
    let entries = config.map(|config| config.rules).unwrap_or_default();
    entries.into_iter().map(|entry| compiled(entry).map_err(|error| error.within(&place))).collect()
}

fn compiled(entry: RuleEntry) -> Result<Rule> {
    let pattern = if entry.path.ends_with('/') { format!("{}**", entry.path) } else { entry.path.clone() };
    let glob = GlobBuilder::new(pattern.trim_start_matches("./"))
        .literal_separator(true)
        .build()
        .map_err(|cause| {
            Error::request(format!("the path `{}` is no glob", entry.path))
                .because(cause)
                .hint("globs are such as apps/*.yaml, apps/**/db.yaml or {dev,prod}/**")
        })?
        .compile_matcher();
    let namespaces = match entry.namespace {
        None => Vec::new(),
        Some(OneOrMany::One(one)) => vec![one],
        Some(OneOrMany::Many(many)) => many,
    };
    let RuleEntry { path, ring, scope, vault_store, .. } = entry;
    let vault_store = vault_store.as_deref().map(Store::parse).transpose().map_err(|cause| {
        Error::request(format!("`vaultStore` of the rule for `{path}` is no VaultStore")).because(cause).hint(STORES)
    })?;
    Ok(Rule { path, ring, scope, namespaces, vault_store, glob })
}

/// The nearest directory at or above `start` that holds `.seal/`, not leaving the Git repository.
fn root_above(start: &Path) -> Option<PathBuf> {
    for directory in start.ancestors() {
        if directory.join(".seal").is_dir() {
            return Some(directory.to_owned());
        }
        if directory.join(".git").exists() {
            return None;
        }
    }
    None
}

/// Absolute, with the symlinks of its directory followed: `a/../b` and a linked checkout give the path meant.
fn absolute(path: &Path) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    match (path.parent().and_then(|parent| dunce::canonicalize(parent).ok()), path.file_name()) {
        (Some(parent), Some(name)) => parent.join(name),
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(path: &str) -> Rule {
        compiled(RuleEntry { path: path.to_owned(), ring: None, scope: None, namespace: None, vault_store: None })
            .expect("is a glob")
    }

    #[test]
    fn globs_match_paths_below_the_root() {
        for (glob, path, expected) in [
            ("apps/*.yaml", "apps/db.yaml", true),
            ("apps/*.yaml", "apps/shop/db.yaml", false),
            ("apps/**/*.yaml", "apps/shop/db.yaml", true),
            ("apps/**/*.yaml", "apps/db.yaml", true),
            ("apps/", "apps/shop/db.yaml", true),
            ("./apps/", "apps/db.yaml", true),
            ("**", "any/thing.yaml", true),
            ("db.yaml", "apps/db.yaml", false),
            ("{dev,prod}/*", "prod/db.yaml", true),
        ] {
            assert_eq!(rule(glob).matches(Path::new(path)), expected, "{glob} {path}");
        }
    }

    #[test]
    fn the_example_of_the_reference_is_read() {
        let reference = include_str!("../../docs/reference/config.md");
        let example = reference.split("```yaml\n").nth(1).and_then(|rest| rest.split("```").next()).expect("has one");
        let directory = tempfile::tempdir().expect("is made");
        let path = directory.path().join("config.yaml");
        fs::write(&path, example).expect("is written");
        let rules = read_rules(&path).expect("is read");
        let rule = rules.iter().find(|rule| rule.matches(Path::new("clusters/dev/a/db.yaml"))).expect("matches");
        assert_eq!((rule.ring.as_deref(), rule.scope), (Some("dev"), Some(Scope::Namespace)));
        assert_eq!(rule.namespaces, ["sandbox", "preview"]);
    }

    #[test]
    fn a_misspelt_rule_is_refused() {
        for text in [
            "rules:\n- path: a\n  rnig: prod\n",
            "rules:\n- path: '['\n",
            "rules:\n- path: a\n  scope: wide\n",
            "rule: []\n",
        ] {
            let directory = tempfile::tempdir().expect("is made");
            let path = directory.path().join("config.yaml");
            fs::write(&path, text).expect("is written");
            assert!(read_rules(&path).is_err(), "{text}");
        }
    }

    #[test]
    fn a_path_is_shown_as_it_is_typed_here() {
        let typed = Path::new("src").join("main.rs");
        assert_eq!(output::near(&absolute(Path::new("./src/main.rs"))), typed.display().to_string());
    }

    #[test]
    fn an_empty_config_has_no_rules() {
        for text in ["", "# nothing yet\n", "rules: []\n"] {
            let directory = tempfile::tempdir().expect("is made");
            let path = directory.path().join("config.yaml");
            fs::write(&path, text).expect("is written");
            assert!(read_rules(&path).expect("is read").is_empty(), "{text}");
        }
    }
}
