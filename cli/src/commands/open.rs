//! `seal open`: sealed file + member's identity -> Secret manifests, or one raw value, on stdout.

use std::collections::BTreeMap;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use seal_crds::sealed_secret::TemplateMetadata;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::{
    args::{open::OpenArgs, seal::Format},
    error::{Error, Result},
    opener::{OpenedValues, Opener},
    output,
    sealed::{self, SealedDocument},
};

pub(crate) fn run(args: OpenArgs) -> Result<()> {
    let mut opener = Opener::beside(&args.keys.identities, &args.keys.rings, &args.files)?;
    let mut documents = Vec::new();
    for file in &args.files {
        documents.extend(sealed::read(file)?);
    }
    let documents = selected(documents, args.name.as_deref(), args.key.as_deref())?;
    let mut opened = Vec::new();
    for document in &documents {
        opened.push((document, opener.open(document, args.namespace.as_deref(), args.key.as_deref())?));
    }
    for doubt in opener.doubts() {
        output::warning(&doubt);
    }
    match &args.key {
        Some(key) => print_value(key, &opened),
        None => print_secrets(&opened, args.output),
    }
}

fn selected(documents: Vec<SealedDocument>, name: Option<&str>, key: Option<&str>) -> Result<Vec<SealedDocument>> {
    if documents.is_empty() {
        return Err(Error::request("there is no SealedSecret in it").hint("`seal ls` shows where there are"));
    }
    let names = || documents.iter().map(SealedDocument::shown).collect::<Vec<_>>().join(", ");
    let is_meant = |document: &SealedDocument| name.is_none_or(|name| document.object.target_name() == name);
    if !documents.iter().any(is_meant) {
        return Err(Error::request(format!("there is no SealedSecret for a Secret `{}`", name.unwrap_or_default()))
            .hint(format!("there are: {}", names())));
    }
    let several =
        || Err(Error::request("several SealedSecrets have that key").hint(format!("choose with --name: {}", names())));
    let Some(key) = key else { return Ok(documents.into_iter().filter(is_meant).collect()) };
    let has_key = |document: &SealedDocument| document.object.spec.encrypted_data.contains_key(key);
    match documents.iter().filter(|document| is_meant(document) && has_key(document)).count() {
        0 | 1 => {}
        _ => return several(),
    }
    // Without the key anywhere, the first one's error tells which keys there are.
    let position = documents.iter().position(|document| is_meant(document) && has_key(document));
    let position = position.or_else(|| documents.iter().position(is_meant));
    Ok(documents.into_iter().nth(position.unwrap_or_default()).into_iter().collect())
}

fn print_value(key: &str, opened: &[(&SealedDocument, OpenedValues)]) -> Result<()> {
    let value = opened.iter().flat_map(|(_, opened)| &opened.values).map(|(_, value)| value).next();
    let value = value.ok_or_else(|| Error::bug("a value was opened and is not there"))?;
    if output::stdout_is_terminal() && !is_printable(value) {
        return Err(Error::request(format!("the value of `{key}` is binary, and not shown on a terminal"))
            .hint(format!("write it to a file: `seal open ... --key {key} > FILE`")));
    }
    output::data(value)
}

fn is_printable(value: &[u8]) -> bool {
    std::str::from_utf8(value)
        .is_ok_and(|text| !text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')))
}

/// A Secret as `kubectl` would print it. No `Debug`: it holds plaintext.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SecretManifest<'a> {
    api_version: &'static str,
    kind: &'static str,
    metadata: Metadata<'a>,
    #[serde(rename = "type")]
    secret_type: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    immutable: Option<bool>,
    data: BTreeMap<&'a str, Zeroizing<String>>,
}

#[derive(Serialize)]
struct Metadata<'a> {
    name: &'a str,
    namespace: &'a str,
    #[serde(flatten)]
    template: Option<&'a TemplateMetadata>,
}

fn print_secrets(opened: &[(&SealedDocument, OpenedValues)], format: Format) -> Result<()> {
    let mut text = Zeroizing::new(Vec::new());
    for (document, opened) in opened {
        say_what_is_missing(document);
        let manifest = manifest(document, opened);
        let one = match format {
            Format::Yaml => serde_yaml::to_string(&manifest).map_err(|_| Error::bug("a Secret is no YAML"))?,
            Format::Json => serde_json::to_string_pretty(&manifest).map_err(|_| Error::bug("a Secret is no JSON"))?,
        };
        let one = Zeroizing::new(one);
        if format == Format::Yaml && !text.is_empty() {
            text.extend_from_slice(b"---\n");
        }
        text.extend_from_slice(one.as_bytes());
        if format == Format::Json {
            text.push(b'\n');
        }
    }
    output::data(&text)
}

fn manifest<'a>(document: &'a SealedDocument, opened: &'a OpenedValues) -> SecretManifest<'a> {
    let template = document.object.spec.template.as_ref();
    let encode = |value: &[u8]| Zeroizing::new(BASE64_STANDARD.encode(value));
    SecretManifest {
        api_version: "v1",
        kind: "Secret",
        metadata: Metadata {
            name: opened.place.name(),
            namespace: opened.place.namespace(),
            template: template.and_then(|template| template.metadata.as_ref()),
        },
        secret_type: template.and_then(|template| template.type_.as_deref()).unwrap_or("Opaque"),
        immutable: template.and_then(|template| template.immutable),
        data: opened.values.iter().map(|(key, value)| (key.as_str(), encode(value))).collect(),
    }
}

/// What the controller would do to the Secret and this command does not.
fn say_what_is_missing(document: &SealedDocument) {
    let spec = &document.object.spec;
    if spec.template.as_ref().is_some_and(|template| !template.data.is_empty()) {
        output::warn(&format!(
            "{}: `template.data` is not rendered here; these are the sealed values",
            document.place()
        ));
    }
    if spec.vault.is_some() {
        output::warn(&format!("{}: values from Vault are left out", document.place()));
    }
}
