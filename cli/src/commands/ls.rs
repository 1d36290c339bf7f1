//! `seal ls`: sealed files -> what is sealed to whom for whom.

use std::{
    collections::btree_map::{BTreeMap, Entry},
    path::{Path, PathBuf},
};

use seal_crds::sealed_secret::{SealedForSpec, VaultSource};
use seal_envelope::{DataKey, Token};
use serde::Serialize;

use crate::{
    args::{open::LsArgs, ring::Listing},
    config::{Config, RingFile},
    error::Result,
    output, rings,
    sealed::{self, SealedDocument},
};

pub(crate) fn run(args: LsArgs) -> Result<()> {
    let paths = if args.paths.is_empty() { vec![PathBuf::from(".")] } else { args.paths };
    let sealed::Contents { documents, broken } = sealed::read_all(&paths)?;
    broken.iter().for_each(output::warning);
    let mut rings = BTreeMap::new();
    let mut listed = Vec::new();
    for document in &documents {
        let config = Config::find((document.file != "-").then(|| Path::new(&document.file)))?;
        let rings = match rings.entry(config.root().map(Path::to_owned)) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(unknown) => unknown.insert(rings::given_or_pinned(&[], &config)?),
        };
        listed.push(list(document, rings));
    }
    match args.output {
        Listing::Json => output::json(&listed),
        Listing::Text if listed.is_empty() => {
            output::say("no SealedSecret found");
            Ok(())
        }
        Listing::Text => output::data(text(&listed).as_bytes()),
    }
}

/// One SealedSecret. The names of these fields are a contract.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    file: String,
    document: usize,
    namespace: Option<String>,
    name: String,
    sealed_for: Option<SealedForSpec>,
    keys: Vec<ListedKey>,
    vault: Vec<ListedReference>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum ListedKey {
    #[serde(rename_all = "camelCase")]
    Value {
        key: String,
        key_id: String,
        ring: Option<String>,
        place: &'static str,
        bucket: usize,
    },
    Broken {
        key: String,
        error: String,
    },
}

#[derive(Serialize)]
struct ListedReference {
    /// Nothing for `dataFrom`, which names its keys itself.
    key: Option<String>,
    source: String,
    store: String,
}

fn list(document: &SealedDocument, rings: &[RingFile]) -> Listed {
    let spec = &document.object.spec;
    Listed {
        file: document.file.clone(),
        document: document.document,
        namespace: document.namespace().map(str::to_owned),
        name: document.object.target_name().to_owned(),
        sealed_for: spec.sealed_for.clone(),
        keys: spec.encrypted_data.iter().map(|(key, token)| list_key(document, key, token, rings)).collect(),
        vault: spec.vault.iter().flat_map(references).collect(),
    }
}

fn list_key(document: &SealedDocument, key: &str, token: &str, rings: &[RingFile]) -> ListedKey {
    let broken = |cause: &dyn std::error::Error| ListedKey::Broken { key: key.to_owned(), error: cause.to_string() };
    let token: Token = match token.parse() {
        Ok(token) => token,
        Err(cause) => return broken(&cause),
    };
    let (binding, data_key) = match (document.object.spec.binding(), DataKey::new(key)) {
        (Ok(binding), Ok(data_key)) => (binding, data_key),
        (Err(cause), _) => return broken(&cause),
        (_, Err(cause)) => return broken(&cause),
    };
    ListedKey::Value {
        key: key.to_owned(),
        key_id: token.key_id().to_string(),
        ring: rings::holding(rings, token.key_id()).next().map(|(ring, _)| ring.name().to_owned()),
        place: if binding.tag(&data_key) == token.place() { "ok" } else { "moved" },
        bucket: token.bucket(),
    }
}

fn references(vault: &VaultSource) -> Vec<ListedReference> {
    let store = match &vault.store_ref.namespace {
        Some(namespace) => format!("{namespace}/{}", vault.store_ref.name),
        None => vault.store_ref.name.clone(),
    };
    let fields = vault.data.iter().map(|data| ListedReference {
        key: Some(data.key.clone()),
        source: format!("{}/{}#{}", data.mount, data.path, data.field),
        store: store.clone(),
    });
    let whole = vault.data_from.iter().map(|from| ListedReference {
        key: None,
        source: format!("{}/{}", from.mount, from.path),
        store: store.clone(),
    });
    fields.chain(whole).collect()
}

fn text(listed: &[Listed]) -> String {
    let mut rows = Vec::new();
    for object in listed {
        let secret = format!("{}/{}", object.namespace.as_deref().unwrap_or("-"), object.name);
        let head = |cells: [String; 4]| {
            let first = [object.file.clone(), secret.clone(), sealed_for(object.sealed_for.as_ref())];
            first.into_iter().chain(cells).collect::<Vec<_>>()
        };
        for key in &object.keys {
            rows.push(head(match key {
                ListedKey::Value { key, key_id, ring, place, bucket } => {
                    let ring = ring.clone().unwrap_or_else(|| "(unknown)".to_owned());
                    let size = if *place == "ok" { format!("< {bucket} B") } else { "MOVED".to_owned() };
                    [key.clone(), ring, key_id.clone(), size]
                }
                ListedKey::Broken { key, error } => [key.clone(), String::new(), String::new(), error.clone()],
            }));
        }
        for reference in &object.vault {
            let key = reference.key.clone().unwrap_or_else(|| "*".to_owned());
            rows.push(head([key, format!("vault {}", reference.store), reference.source.clone(), String::new()]));
        }
    }
    output::table(&["FILE", "SECRET", "SEALED FOR", "KEY", "RING", "SEALED TO", "SIZE"], &rows)
}

/// `shop/db`, `shop,test/*`, `*/*`.
fn sealed_for(sealed_for: Option<&SealedForSpec>) -> String {
    let Some(sealed_for) = sealed_for else { return "-".to_owned() };
    let namespaces = sealed_for.namespaces.as_ref().map_or_else(|| "*".to_owned(), |namespaces| namespaces.join(","));
    format!("{namespaces}/{}", sealed_for.name.as_deref().unwrap_or("*"))
}
