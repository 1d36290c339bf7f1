//! References to Vault, as they are written: arguments -> [`Store`] and [`Reference`], which the API server would take.
//!
//! The same rules as the controller's and in the schema of `spec.vault`, so that a slip is seen before it is committed.

use std::fmt;

use seal_crds::vault_path::{is_vaults_own, well_formed};
use seal_envelope::{BindingError, Place};

use crate::{
    args::vault::{Decode, VaultAddArgs},
    error::{Error, Result},
    manifest::edit::Tree,
    values,
};

/// What stores look like, for hints.
pub(crate) const STORES: &str = "a store is `main`, or `platform/main` for one of the namespace `platform`";

/// A VaultStore; without a namespace, one of the SealedSecret's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Store {
    pub(crate) namespace: Option<String>,
    pub(crate) name: String,
}

impl Store {
    /// Reads `NAME` or `NAMESPACE/NAME`.
    pub(crate) fn parse(text: &str) -> Result<Self, BindingError> {
        let (namespace, name) = match text.split_once('/') {
            Some((namespace, name)) => (Some(namespace), name),
            None => (None, text),
        };
        Place::new(namespace.unwrap_or("any"), name)?;
        Ok(Self { namespace: namespace.map(str::to_owned), name: name.to_owned() })
    }

    /// Whether both are one store for an object of this namespace.
    pub(crate) fn is(&self, other: &Self, own: Option<&str>) -> bool {
        let namespace = |store: &Self| store.namespace.clone().or_else(|| own.map(str::to_owned));
        self.name == other.name && namespace(self) == namespace(other)
    }

    pub(crate) fn tree(&self) -> Tree {
        let namespace = self.namespace.clone().map(|namespace| ("namespace", Tree::Text(namespace)));
        Tree::Map([("name", Tree::Text(self.name.clone()))].into_iter().chain(namespace).collect())
    }
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{namespace}/{}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

/// One entry of `spec.vault.data`.
pub(crate) struct Reference {
    pub(crate) key: String,
    mount: String,
    path: String,
    field: String,
    version: Option<i64>,
    decode: Option<Decode>,
    kv: Option<i64>,
}

impl Reference {
    pub(crate) fn of(args: &VaultAddArgs) -> Result<Self> {
        let key = values::checked_key(&args.key)?.as_str().to_owned();
        check_path("--mount", &args.mount, 256)?;
        check_path("--path", &args.path, 512)?;
        if is_vaults_own(&args.mount) {
            return Err(Error::usage("--mount has a part sys, auth, identity or cubbyhole, which is no KV engine")
                .hint("give where the KV engine is mounted, such as `kv` or `secret`: `vault secrets list`"));
        }
        if args.kv == Some(1) && is_vaults_own(&args.path) {
            return Err(Error::usage(
                "--path has a part sys, auth, identity or cubbyhole, which --kv 1 does not allow",
            )
            .hint("with version 1 it cannot be told from Vault's own API: move the secret, or use version 2"));
        }
        if !(1..=1024).contains(&args.field.chars().count()) {
            return Err(
                Error::usage("--field is empty or too long").hint("give the name of a field, or a JSON pointer")
            );
        }
        if args.version.is_some() && args.kv == Some(1) {
            return Err(
                Error::usage("version 1 of the KV engine keeps no versions").hint("leave out --version or --kv 1")
            );
        }
        Ok(Self {
            key,
            mount: args.mount.clone(),
            path: args.path.clone(),
            field: args.field.clone(),
            version: args.version,
            decode: args.decode,
            kv: args.kv,
        })
    }

    /// `data/` is the API's; whoever has copied it from there gets a path that is not there.
    pub(crate) fn has_path_of_the_api(&self) -> bool {
        self.kv != Some(1) && self.path.starts_with("data/")
    }

    pub(crate) fn tree(&self) -> Tree {
        let texts = [("key", &self.key), ("mount", &self.mount), ("path", &self.path), ("field", &self.field)];
        let mut entries: Vec<_> = texts.map(|(field, text)| (field, Tree::Text(text.clone()))).into_iter().collect();
        entries.extend(self.version.map(|version| ("version", Tree::Number(version))));
        entries.extend(self.decode.map(|Decode::Base64| ("decode", Tree::Text("Base64".to_owned()))));
        entries.extend(self.kv.map(|kv| ("kv", Tree::Number(kv))));
        Tree::Map(entries)
    }
}

impl fmt::Display for Reference {
    /// As `seal ls` shows it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}#{}", self.mount, self.path, self.field)
    }
}

fn check_path(flag: &str, path: &str, longest: usize) -> Result<()> {
    let what = match well_formed(path) {
        Err(what) => what,
        Ok(()) if path.chars().count() > longest => "is too long",
        Ok(()) => return Ok(()),
    };
    Err(Error::usage(format!("{flag} {what}"))
        .hint("write it as `vault kv get` takes it, such as --mount kv --path app/db"))
}
