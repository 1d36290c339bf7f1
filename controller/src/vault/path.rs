//! What is to be asked of Vault, and whether it may be asked: before any request, and pure.
//!
//! `spec.vault` -> [`Plan`] (well-formed) -> [`Fence`] of the store (allowed here) -> requests
//!
//! The API server judges most of this too, but an object may be older than its rules, and the `url` crate drops `..`
//! without a word. So a path is refused here or taken literally, and never repaired.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use regex::{RegexSet, RegexSetBuilder};
use seal_crds::{
    VaultStoreSpec,
    sealed_secret::{Decode, OnMissing, VaultSource},
    vault_path::{self, is_vaults_own},
};
use thiserror::Error;

/// What stands for the reading namespace in roles and allowed paths. The only expansion there is.
const NAMESPACE: &str = "{namespace}";

/// First parts below the mount of a KV engine of version 2 that are words of its API.
///
/// In a namespace of such a name, `kv/{namespace}/*` would mean the whole engine to a request in the way of version 1.
const KV_WORDS: [&str; 8] =
    ["config", "data", "delete", "destroy", "detailed-metadata", "metadata", "subkeys", "undelete"];

/// The most that one entry's patterns may take, compiled.
const LARGEST_PATTERN: usize = 512 << 10;

/// The most patterns that one object may have: each is compiled, at every fetch.
const MOST_PATTERNS: usize = 128;

/// The most parts that a JSON pointer may have. Every secret that a person has written is far less deep.
const DEEPEST_POINTER: usize = 32;

/// The version of a KV engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kv {
    /// Without versions of secrets.
    V1,
    /// With them.
    V2,
}

/// One request for a secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Read {
    /// The engine's version.
    pub kv: Kv,
    /// Where the engine is mounted.
    pub mount: String,
    /// The secret's path below the mount.
    pub path: String,
    /// A fixed version of the secret.
    pub version: Option<u64>,
}

impl Read {
    /// Mount and path, as allowed paths and messages name them.
    pub fn place(&self) -> String {
        format!("{}/{}", self.mount, self.path)
    }
}

/// What becomes of one answer.
#[derive(Clone, Debug)]
pub enum Take {
    /// One field goes under one key.
    Field {
        /// Which read, by its position in the plan.
        read: usize,
        /// The key.
        key: String,
        /// The field's name, or a JSON pointer.
        field: String,
        /// How the field is encoded.
        decode: Option<Decode>,
    },
    /// Every field goes under a key of its name.
    All {
        /// Which read, by its position in the plan.
        read: usize,
        /// Only fields whose names match one of these, unless there are none.
        include: Patterns,
        /// Put before each name.
        prefix: String,
        /// How every field is encoded.
        decode: Option<Decode>,
    },
}

/// Regular expressions that are known to be some. Compiled they take many times their length, so they are that only
/// while they are used: a plan may wait for a server, and anybody's plans are many.
#[derive(Clone, Debug, Default)]
pub struct Patterns(Vec<String>);

impl Patterns {
    /// None: one of them is no regular expression, or they are too large.
    fn of(patterns: &[String]) -> Option<Self> {
        let patterns = Self(patterns.to_vec());
        patterns.compiled().map(|_| patterns)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Ready for use. It worked once, so it works.
    pub fn compiled(&self) -> Option<RegexSet> {
        RegexSetBuilder::new(&self.0).size_limit(LARGEST_PATTERN).dfa_size_limit(LARGEST_PATTERN).build().ok()
    }
}

/// A well-formed `spec.vault`: each distinct path once, and what is taken out of the answers, the weakest first.
#[derive(Clone, Debug)]
pub struct Plan {
    reads: Vec<Read>,
    takes: Vec<Take>,
    /// What becomes of a key whose path is gone.
    pub on_missing: OnMissing,
    /// Whether nothing but this goes into the Secret.
    pub stands_alone: bool,
}

/// A `spec.vault` that makes no sense.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum PlanError {
    /// A mount or a path that is none.
    #[error("{what} `{text}` {fault}")]
    Path {
        /// `mount` or `path`.
        what: &'static str,
        /// The text, shortened and escaped.
        text: String,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// A version of the engine that there is not.
    #[error("kv is 1 or 2")]
    Kv,
    /// A version of a secret that there is not.
    #[error("version is 1 or more, and belongs to kv 2")]
    Version,
    /// One key twice.
    #[error("key `{0}` stands twice in vault.data")]
    KeyTwice(String),
    /// Too many patterns.
    #[error("vault.dataFrom has more than {MOST_PATTERNS} patterns in its includes together")]
    Includes,
    /// Too deep a pointer.
    #[error("the JSON pointer of key `{0}` has more than {DEEPEST_POINTER} parts")]
    Pointer(String),
    /// A pattern that is none.
    #[error("an include of vault.dataFrom for {0} is not a regular expression, or too large a one")]
    Include(String),
}

impl Plan {
    /// Judges and orders what the object asks for.
    ///
    /// # Errors
    ///
    /// The first thing that makes no sense.
    pub fn of(source: &VaultSource) -> Result<Self, PlanError> {
        let (reads, takes) = Default::default();
        let on_missing = source.on_missing.unwrap_or_default();
        let mut plan = Self { reads, takes, on_missing, stands_alone: false };
        if source.data_from.iter().map(|entry| entry.include.len()).sum::<usize>() > MOST_PATTERNS {
            return Err(PlanError::Includes);
        }
        for entry in &source.data_from {
            let read = plan.read(&entry.mount, &entry.path, entry.kv, entry.version)?;
            let include = Patterns::of(&entry.include).ok_or_else(|| PlanError::Include(plan.reads[read].place()))?;
            let prefix = entry.prefix.clone().unwrap_or_default();
            plan.takes.push(Take::All { read, include, prefix, decode: entry.decode });
        }
        let mut keys = std::collections::BTreeSet::new();
        for entry in &source.data {
            if !keys.insert(&entry.key) {
                return Err(PlanError::KeyTwice(entry.key.clone()));
            }
            if entry.field.starts_with('/') && entry.field.matches('/').count() > DEEPEST_POINTER {
                return Err(PlanError::Pointer(entry.key.clone()));
            }
            let read = plan.read(&entry.mount, &entry.path, entry.kv, entry.version)?;
            let (key, field) = (entry.key.clone(), entry.field.clone());
            plan.takes.push(Take::Field { read, key, field, decode: entry.decode });
        }
        Ok(plan)
    }

    /// The same for an object that has no other values.
    pub fn standing_alone(self) -> Self {
        Self { stands_alone: true, ..self }
    }

    /// About how many bytes it takes while it waits.
    pub fn weight(&self) -> usize {
        let reads = self.reads.iter().map(|read| 64 + read.mount.len() + read.path.len());
        let takes = self.takes.iter().map(|take| match take {
            Take::Field { key, field, .. } => 64 + key.len() + field.len(),
            Take::All { include, prefix, .. } => 64 + prefix.len() + include.0.iter().map(String::len).sum::<usize>(),
        });
        512 + reads.sum::<usize>() + takes.sum::<usize>()
    }

    /// The distinct requests.
    pub fn reads(&self) -> &[Read] {
        &self.reads
    }

    /// What is taken out of the answers; a later one wins.
    pub fn takes(&self) -> &[Take] {
        &self.takes
    }

    /// The position of the read, which is added where it is new.
    fn read(&mut self, mount: &str, path: &str, kv: Option<i32>, version: Option<i64>) -> Result<usize, PlanError> {
        let kv = match kv {
            None | Some(2) => Kv::V2,
            Some(1) => Kv::V1,
            Some(_) => return Err(PlanError::Kv),
        };
        let version = match version {
            None => None,
            Some(version) if kv == Kv::V2 && version > 0 => Some(version.unsigned_abs()),
            Some(_) => return Err(PlanError::Version),
        };
        well_formed("mount", mount)?;
        well_formed("path", path)?;
        if is_vaults_own(mount) {
            return Err(fault(
                "mount",
                mount,
                "has a part sys, auth, identity or cubbyhole, which is Vault's own and no KV engine; mount the engine \
                 elsewhere",
            ));
        }
        // Version 1 has no word of its own between mount and path, so the server may cut them elsewhere.
        if kv == Kv::V1 && is_vaults_own(path) {
            return Err(fault(
                "path",
                path,
                "has a part sys, auth, identity or cubbyhole, which with kv 1 cannot be told from Vault's own API; move \
                 the secret, or use kv 2",
            ));
        }
        let read = Read { kv, mount: mount.to_owned(), path: path.to_owned(), version };
        if let Some(position) = self.reads.iter().position(|known| *known == read) {
            return Ok(position);
        }
        self.reads.push(read);
        Ok(self.reads.len() - 1)
    }
}

fn well_formed(what: &'static str, text: &str) -> Result<(), PlanError> {
    vault_path::well_formed(text).map_err(|reason| fault(what, text, reason))
}

fn fault(what: &'static str, text: &str, fault: &'static str) -> PlanError {
    let text = text.chars().take(80).flat_map(char::escape_default).collect();
    PlanError::Path { what, text, fault }
}

/// Whether a mount of an auth method, or a Vault namespace, is a plain path.
pub fn is_plain(path: &str) -> bool {
    vault_path::well_formed(path).is_ok()
}

/// Puts the reading namespace in the place that is left for it.
pub fn expand(pattern: &str, namespace: &str) -> String {
    pattern.replace(NAMESPACE, namespace)
}

/// Why a store does not serve a namespace or a path.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum NotAllowed {
    /// Not this namespace.
    #[error("the store does not allow namespace {0}")]
    Namespace(String),
    /// Not this path.
    #[error("the store does not allow {0}")]
    Path(String),
    /// Not this namespace, because of its name.
    #[error("the store's allowedPaths cannot be applied to a namespace named {0}, a word of the KV engine's API")]
    Word(String),
}

/// Who may read what through a store.
#[derive(Clone, Copy, Debug)]
pub struct Fence<'a> {
    /// The store's namespace.
    pub home: &'a str,
    /// Its rules.
    pub spec: &'a VaultStoreSpec,
}

impl Fence<'_> {
    /// Whether the answer for this namespace depends on the namespace's labels.
    pub fn needs_labels(&self, namespace: &str) -> bool {
        self.is_allowed(namespace, None).is_err() && self.selector().is_some()
    }

    /// Whether SealedSecrets of this namespace may use the store.
    ///
    /// # Errors
    ///
    /// If not. Unknown labels match no selector.
    pub fn is_allowed(&self, namespace: &str, labels: Option<&BTreeMap<String, String>>) -> Result<(), NotAllowed> {
        let named = self.spec.allowed_namespaces.iter().flat_map(|allowed| &allowed.names);
        let is_selected = || labels.zip(self.selector()).is_some_and(|(labels, selector)| selects(selector, labels));
        if namespace == self.home || named.into_iter().any(|name| name == namespace) || is_selected() {
            Ok(())
        } else {
            Err(NotAllowed::Namespace(namespace.to_owned()))
        }
    }

    /// Whether everything in the plan may be read from this namespace.
    ///
    /// # Errors
    ///
    /// The first path that may not.
    pub fn allows(&self, namespace: &str, plan: &Plan) -> Result<(), NotAllowed> {
        let patterns = &self.spec.allowed_paths;
        if patterns.is_empty() {
            return Ok(());
        }
        if KV_WORDS.contains(&namespace) && patterns.iter().any(|pattern| pattern.contains(NAMESPACE)) {
            return Err(NotAllowed::Word(namespace.to_owned()));
        }
        let patterns: Vec<_> = patterns.iter().map(|pattern| expand(pattern, namespace)).collect();
        for place in plan.reads().iter().map(Read::place) {
            if !patterns.iter().any(|pattern| covers(pattern, &place)) {
                return Err(NotAllowed::Path(place));
            }
        }
        Ok(())
    }

    fn selector(&self) -> Option<&LabelSelector> {
        self.spec.allowed_namespaces.as_ref()?.selector.as_ref()
    }
}

fn covers(pattern: &str, place: &str) -> bool {
    match pattern.strip_suffix('*') {
        // The slash before the star stays, so `kv/shop/*` covers neither `kv/shop` nor `kv/shopping/x`.
        Some(prefix) if prefix.ends_with('/') => place.len() > prefix.len() && place.starts_with(prefix),
        Some(_) => false,
        None => pattern == place,
    }
}

/// Whether the labels match, as the API server defines it. What it would refuse selects nothing.
fn selects(selector: &LabelSelector, labels: &BTreeMap<String, String>) -> bool {
    let equal = selector.match_labels.iter().flatten().all(|(name, value)| labels.get(name) == Some(value));
    equal
        && selector.match_expressions.iter().flatten().all(|expression| {
            let value = labels.get(&expression.key);
            let is_among = || value.is_some_and(|value| expression.values.iter().flatten().any(|v| v == value));
            match expression.operator.as_str() {
                "In" => is_among(),
                "NotIn" => !is_among(),
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                _ => false,
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> VaultSource {
        serde_yaml::from_str(&format!("{{storeRef: {{name: main}}, {text}}}")).unwrap()
    }

    fn plan_of(mount: &str, path: &str) -> Result<Plan, PlanError> {
        let mut source = source("data: [{key: a, mount: m, path: p, field: f}]");
        (source.data[0].mount, source.data[0].path) = (mount.to_owned(), path.to_owned());
        Plan::of(&source)
    }

    fn spec(text: &str) -> VaultStoreSpec {
        let base = "address: https://vault:8200, auth: {token: {secretRef: {name: t, key: t}}}";
        serde_yaml::from_str(&format!("{{{base}, {text}}}")).unwrap()
    }

    #[test]
    fn each_distinct_path_is_asked_for_once() {
        let plan = Plan::of(&source(
            "data: [{key: a, mount: kv, path: db, field: user}, {key: b, mount: kv, path: db, field: pass},
                    {key: c, mount: kv, path: db, field: pass, version: 3}, {key: d, mount: kv, path: db, field: f, kv: 1}],
             dataFrom: [{mount: kv, path: db}, {mount: kv, path: env}]",
        ))
        .unwrap();
        assert_eq!(plan.reads().len(), 4);
        assert_eq!(plan.takes().len(), 6);
        assert!(matches!(plan.takes()[0], Take::All { read: 0, .. }), "what is named by key comes last, and wins");
    }

    #[test]
    fn paths_that_mean_something_else_are_refused() {
        for path in [
            "..",
            "../x",
            "a/../b",
            "a/./b",
            ".",
            "",
            "/a",
            "a/",
            "a//b",
            "a?version=1",
            "a#b",
            "a%2e%2e/b",
            "%2e%2e",
            "a\\..\\b",
            "a\nb",
            "a\tb",
            "a\u{7f}",
            "a /b",
            " a",
            "a/ b",
        ] {
            assert!(plan_of("kv", path).is_err(), "{path:?}");
            assert!(plan_of(path, "x").is_err(), "{path:?}");
        }
        for mount in [
            "sys",
            "auth",
            "identity",
            "cubbyhole",
            "sys/raw",
            "auth/token",
            "identity/entity",
            "team-a/auth/token",
            "team-a/sys",
            "a/b/cubbyhole",
        ] {
            assert!(plan_of(mount, "x").is_err(), "{mount}");
        }
        for (mount, path) in
            [("kv", "sys"), ("system", "a/auth"), ("team-a/kv", "a b/c..d"), ("kv", "größe/..."), ("kv", "a:b@c")]
        {
            assert!(plan_of(mount, path).is_ok(), "{mount} {path}");
        }
    }

    #[test]
    fn version_1_reaches_no_api_of_vault_through_a_namespace() {
        let plan_of = |mount: &str, path: &str, kv: i32| {
            let mut source = source("data: [{key: a, mount: m, path: p, field: f}]");
            (source.data[0].mount, source.data[0].path, source.data[0].kv) = (mount.into(), path.into(), Some(kv));
            Plan::of(&source)
        };
        for (mount, path) in [
            ("team-a/auth/token", "lookup-self"),
            ("team-a/auth", "token/lookup-self"),
            ("team-a", "auth/token/lookup-self"),
            ("team-a", "team-b/sys/raw/x"),
            ("team-a", "identity/entity/id/x"),
            ("a/b", "cubbyhole"),
        ] {
            let refused = plan_of(mount, path, 1).unwrap_err().to_string();
            assert!(refused.contains("elsewhere") || refused.contains("use kv 2"), "{refused}");
        }
        for (mount, path, kv) in
            [("team-a/kv", "app/db", 1), ("kv", "authors/system", 1), ("team-a/kv", "app/auth/db", 2)]
        {
            assert!(plan_of(mount, path, kv).is_ok(), "{mount} {path}");
        }
    }

    #[test]
    fn what_the_schema_would_refuse_is_refused_here_too() {
        for text in [
            "data: [{key: a, mount: kv, path: p, field: f, kv: 3}]",
            "data: [{key: a, mount: kv, path: p, field: f, kv: 1, version: 2}]",
            "data: [{key: a, mount: kv, path: p, field: f, version: 0}]",
            "data: [{key: a, mount: kv, path: p, field: f}, {key: a, mount: kv, path: q, field: f}]",
            "dataFrom: [{mount: kv, path: p, include: ['(']}]",
            "dataFrom: [{mount: kv, path: p, include: ['(a{1000}){1000}']}]",
        ] {
            assert!(Plan::of(&source(text)).is_err(), "{text}");
        }
        for (parts, is_ok) in [(DEEPEST_POINTER, true), (DEEPEST_POINTER + 1, false)] {
            let pointed = format!("data: [{{key: a, mount: kv, path: p, field: '{}'}}]", "/a".repeat(parts));
            assert_eq!(Plan::of(&source(&pointed)).is_ok(), is_ok, "{pointed}");
        }
        for (patterns, is_ok) in [(16, true), (17, false)] {
            let entry = format!("{{mount: kv, path: p, include: [{}]}}", ["'^A[A-Z_]+_URL$'"; 8].join(", "));
            let many = format!("dataFrom: [{}]", vec![entry; patterns].join(", "));
            assert_eq!(Plan::of(&source(&many)).is_ok(), is_ok, "{patterns}");
        }
    }

    #[test]
    fn a_refused_path_is_shown_escaped_and_short() {
        let error = plan_of("kv", &format!("a\n{}", "b".repeat(500))).unwrap_err().to_string();
        assert!(error.len() < 200 && !error.contains('\n'), "{error}");
    }

    #[test]
    fn a_store_serves_its_own_namespace_and_those_it_names_or_selects() {
        let labels = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        let none: BTreeMap<String, String> = labels(&[]);
        let gold: BTreeMap<String, String> = labels(&[("tier", "gold")]);
        let closed = spec("namespace: n");
        let named = spec("allowedNamespaces: {names: [shop]}");
        let selected = spec("allowedNamespaces: {selector: {matchLabels: {tier: gold}}}");
        let expression = spec(
            "allowedNamespaces: {selector: {matchExpressions: [{key: tier, operator: NotIn, values: [gold]}, {key: x, operator: DoesNotExist}]}}",
        );
        let everyone = spec("allowedNamespaces: {selector: {}}");
        let odd =
            spec("allowedNamespaces: {selector: {matchExpressions: [{key: tier, operator: in, values: [gold]}]}}");
        for (spec, namespace, labels, is_allowed) in [
            (&closed, "platform", None, true),
            (&closed, "shop", Some(&gold), false),
            (&named, "shop", None, true),
            (&named, "shops", None, false),
            (&named, "platform", None, true),
            (&selected, "shop", None, false),
            (&selected, "shop", Some(&none), false),
            (&selected, "shop", Some(&gold), true),
            (&expression, "shop", Some(&none), true),
            (&expression, "shop", Some(&gold), false),
            (&everyone, "shop", Some(&none), true),
            (&everyone, "shop", None, false),
            (&odd, "shop", Some(&gold), false),
        ] {
            let fence = Fence { home: "platform", spec };
            assert_eq!(fence.is_allowed(namespace, labels).is_ok(), is_allowed, "{namespace} {labels:?} {spec:?}");
        }
        assert!(Fence { home: "platform", spec: &selected }.needs_labels("shop"));
        assert!(!Fence { home: "platform", spec: &selected }.needs_labels("platform"));
        assert!(!Fence { home: "platform", spec: &named }.needs_labels("other"));
    }

    #[test]
    fn allowed_paths_are_whole_parts() {
        let fenced = spec("allowedPaths: ['kv/{namespace}/*', 'kv/common/ca']");
        let fence = Fence { home: "platform", spec: &fenced };
        for (namespace, mount, path, is_allowed) in [
            ("shop", "kv", "shop/db", true),
            ("shop", "kv", "shop/a/b", true),
            ("shop", "kv/shop", "a/b", true),
            ("shop", "kv", "common/ca", true),
            ("shop", "kv", "common/ca/x", false),
            ("shop", "kv", "shop", false),
            ("shop", "kv", "shopping/db", false),
            ("shop", "kv", "bank/db", false),
            ("shop", "kv", "{namespace}/db", false),
            ("shop", "kv2", "shop/db", false),
            ("shop", "kv", "*", false),
        ] {
            let plan = plan_of(mount, path).unwrap();
            assert_eq!(fence.allows(namespace, &plan).is_ok(), is_allowed, "{namespace} {mount} {path}");
        }
    }

    #[test]
    fn a_namespace_that_is_a_word_of_the_api_does_not_open_the_fence() {
        let fenced = spec("allowedPaths: ['kv/{namespace}/*']");
        let plan = Plan::of(&source("data: [{key: a, mount: kv, path: data/bank/db, field: f, kv: 1}]")).unwrap();
        let refusal = Fence { home: "platform", spec: &fenced }.allows("data", &plan);
        assert_eq!(refusal, Err(NotAllowed::Word("data".into())));
    }
}
