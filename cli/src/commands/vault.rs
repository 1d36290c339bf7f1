//! `seal vault add`: one more reference into `spec.vault` of a SealedSecret, where it stands, or the first of a new file.

use std::path::Path;

use seal_envelope::Place;

use super::change::Opened;
use crate::{
    args::{
        seal::Format,
        vault::{VaultAddArgs, VaultCommand},
    },
    config::{Config, Rule},
    error::{Error, Result},
    files,
    manifest::{
        edit::{self, Step, Tree},
        read::Sealed,
    },
    output, request,
    vault::{Reference, STORES, Store},
};

pub(crate) fn run(command: VaultCommand) -> Result<()> {
    match command {
        VaultCommand::Add(args) => add(&args),
    }
}

fn add(args: &VaultAddArgs) -> Result<()> {
    let path = args.file.as_path();
    let reference = Reference::of(args)?;
    let asked = args.store.as_deref().map(asked).transpose()?;
    let config = Config::find(Some(path))?;
    let within = |error: Error| error.within(path.display());
    if !path.exists() {
        return create(args, &store_of(None, asked, config.rule_for(path))?, &reference);
    }
    let file = Opened::read(path)?;
    let object = file.sealed(path, args.which.name.as_deref())?;
    refuse_taken(&object, &reference.key, &args.file.display().to_string())?;
    let store = store_of(Some(&object), asked, config.rule_for(path)).map_err(within)?;
    let text = added(&file, &object, &store, &reference).map_err(within)?;
    file.replace(path, &text)?;
    tell(path, &store, &reference);
    Ok(())
}

fn tell(path: &Path, store: &Store, reference: &Reference) {
    output::say(&format!("{}: {} is {reference} of the store {store}", path.display(), reference.key));
    if reference.has_path_of_the_api() {
        output::warn("the path begins with `data/`, which version 2 of the KV engine puts there itself");
        output::hint("leave it out, unless the secret's own path begins so");
    }
}

/// A new file for a Secret of which nothing is sealed.
fn create(args: &VaultAddArgs, store: &Store, reference: &Reference) -> Result<()> {
    let path = args.file.as_path();
    let Some((namespace, name)) = args.which.name.as_deref().and_then(|name| name.split_once('/')) else {
        return Err(files::no_such_file(path).hint("to make it, say of which Secret: --name NAMESPACE/NAME"));
    };
    Place::new(namespace, name)
        .map_err(|cause| Error::usage("--name names no Secret").because(cause).hint("it looks like `shop/db`"))?;
    let text = |text: &str| Tree::Text(text.to_owned());
    let vault = Tree::Map(vec![("storeRef", store.tree()), ("data", Tree::List(vec![reference.tree()]))]);
    let manifest = Tree::Map(vec![
        ("apiVersion", text(&format!("{}/{}", seal_crds::API_GROUP, seal_crds::API_VERSION))),
        ("kind", text("SealedSecret")),
        ("metadata", Tree::Map(vec![("name", text(name)), ("namespace", text(namespace))])),
        ("spec", Tree::Map(vec![("vault", vault)])),
    ]);
    let manifest = match request::format_of(path) {
        Some(Format::Json) => format!("{}\n", manifest.json()),
        _ => manifest.document(),
    };
    files::create(path, manifest.as_bytes())?;
    tell(path, store, reference);
    Ok(())
}

fn asked(store: &str) -> Result<Store> {
    Store::parse(store).map_err(|cause| Error::usage("--store names no VaultStore").because(cause).hint(STORES))
}

fn refuse_taken(object: &Sealed, key: &str, file: &str) -> Result<()> {
    if object.keys.iter().any(|sealed| sealed == key) {
        return Err(Error::request(format!("{file} holds a sealed value for `{key}`, and a key has one source"))
            .hint(format!("to take it from Vault instead: seal unset {file} {key}")));
    }
    if object.fetches(key) {
        return Err(Error::request(format!("{file} takes `{key}` from Vault already"))
            .hint("change that line of `spec.vault.data` by hand: it holds no secret"));
    }
    Ok(())
}

/// The store of the object; where it has none yet, the one that is asked for, or else the rule's.
fn store_of(object: Option<&Sealed>, asked: Option<Store>, rule: Option<&Rule>) -> Result<Store> {
    let Some((object, vault)) = object.and_then(|object| Some((object, object.vault.as_ref()?))) else {
        let from_rule = || rule.and_then(|rule| rule.vault_store.clone());
        return asked.or_else(from_rule).ok_or_else(|| {
            Error::usage("nothing says which VaultStore to take the value from")
                .hint("pass --store NAME or --store NAMESPACE/NAME, or give a rule of .seal/config.yaml a `vaultStore`")
        });
    };
    let Some((namespace, name)) = vault.store.clone() else {
        return Err(Error::request("`spec.vault` names no store")
            .hint("add it, such as `storeRef: {name: main, namespace: platform}`"));
    };
    let own = Store { namespace, name };
    match asked {
        Some(asked) if !asked.is(&own, object.namespace.as_deref()) => Err(Error::request(format!(
            "the SealedSecret takes its values from the store {own}, and --store says {asked}"
        ))
        .hint("one SealedSecret has one store: put the value into another SealedSecret")),
        _ => Ok(own),
    }
}

fn added(file: &Opened, object: &Sealed, store: &Store, reference: &Reference) -> Result<String> {
    let (text, documents) = (file.stream.text.as_str(), &file.stream.documents);
    let at = |fields: &[&str]| -> Vec<Step> {
        object.path.iter().cloned().chain(fields.iter().map(|field| Step::Key((*field).to_owned()))).collect()
    };
    let list = || Tree::List(vec![reference.tree()]);
    match object.vault.as_ref().map(|vault| &vault.keys) {
        Some(Some(_)) => {
            edit::append(text, documents, object.document, &at(&["spec", "vault", "data"]), &reference.tree())
        }
        Some(None) => edit::put(text, documents, object.document, &at(&["spec", "vault"]), "data", &list()),
        None => {
            let vault = Tree::Map(vec![("storeRef", store.tree()), ("data", list())]);
            edit::put(text, documents, object.document, &at(&["spec"]), "vault", &vault)
        }
    }
    .map_err(|cause| {
        Error::request("the file cannot be changed in place")
            .because(cause)
            .hint(format!("nothing was written; add it to `spec.vault.data` by hand: {}", reference.tree().line()))
    })
}
