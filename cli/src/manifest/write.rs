//! A SealedSecret -> a new manifest. Laid out by hand, so that each token has a line of its own.

use seal_envelope::SealedFor;
use serde_json::{Map, Value, json};

use super::{read::Template, yaml};

/// What a new manifest says.
pub(crate) struct Manifest<'a> {
    pub(crate) name: &'a str,
    /// Nothing where the manifest may be applied to several namespaces.
    pub(crate) namespace: Option<&'a str>,
    pub(crate) sealed_for: &'a SealedFor,
    /// Tokens by key, in the order to be written.
    pub(crate) data: &'a [(String, String)],
    pub(crate) template: &'a Template,
}

impl Manifest<'_> {
    /// The manifest in YAML, ending in a line break.
    pub(crate) fn yaml(&self) -> String {
        let mut lines = vec![
            format!("apiVersion: {}/{}", seal_crds::API_GROUP, seal_crds::API_VERSION),
            "kind: SealedSecret".to_owned(),
            "metadata:".to_owned(),
            format!("  name: {}", scalar(self.name)),
        ];
        if let Some(namespace) = self.namespace {
            lines.push(format!("  namespace: {}", scalar(namespace)));
        }
        lines.push("spec:".to_owned());
        self.sealed_for_lines(&mut lines);
        lines.push("  encryptedData:".to_owned());
        for (key, token) in self.data {
            lines.push(format!("    {}: >-", scalar(key)));
            lines.push(format!("      {token}"));
        }
        self.template_lines(&mut lines);
        lines.push(String::new());
        lines.join("\n")
    }

    fn sealed_for_lines(&self, lines: &mut Vec<String>) {
        let (name, namespaces) = (self.sealed_for.name(), self.sealed_for.namespaces());
        if name.is_none() && namespaces.is_empty() {
            lines.push("  sealedFor: {}".to_owned());
            return;
        }
        lines.push("  sealedFor:".to_owned());
        if let Some(name) = name {
            lines.push(format!("    name: {}", scalar(name)));
        }
        if !namespaces.is_empty() {
            let namespaces: Vec<String> = namespaces.iter().map(|namespace| scalar(namespace)).collect();
            lines.push(format!("    namespaces: [{}]", namespaces.join(", ")));
        }
    }

    fn template_lines(&self, lines: &mut Vec<String>) {
        let template = self.template;
        if *template == Template::default() {
            return;
        }
        lines.push("  template:".to_owned());
        if let Some(secret_type) = &template.secret_type {
            lines.push(format!("    type: {}", scalar(secret_type)));
        }
        if let Some(immutable) = template.immutable {
            lines.push(format!("    immutable: {immutable}"));
        }
        let maps = [("labels", &template.labels), ("annotations", &template.annotations)];
        if maps.iter().any(|(_, map)| !map.is_empty()) {
            lines.push("    metadata:".to_owned());
        }
        for (field, map) in maps.into_iter().filter(|(_, map)| !map.is_empty()) {
            lines.push(format!("      {field}:"));
            lines.extend(map.iter().map(|(key, value)| format!("        {}: {}", scalar(key), scalar(value))));
        }
    }

    /// The manifest as a JSON value.
    pub(crate) fn json(&self) -> Value {
        let mut metadata = Map::new();
        metadata.insert("name".to_owned(), json!(self.name));
        if let Some(namespace) = self.namespace {
            metadata.insert("namespace".to_owned(), json!(namespace));
        }
        let mut sealed_for = Map::new();
        if let Some(name) = self.sealed_for.name() {
            sealed_for.insert("name".to_owned(), json!(name));
        }
        if !self.sealed_for.namespaces().is_empty() {
            sealed_for.insert("namespaces".to_owned(), json!(self.sealed_for.namespaces()));
        }
        let data: Map<String, Value> = self.data.iter().map(|(key, token)| (key.clone(), json!(token))).collect();
        let mut spec = Map::new();
        spec.insert("sealedFor".to_owned(), Value::Object(sealed_for));
        spec.insert("encryptedData".to_owned(), Value::Object(data));
        if let Some(template) = self.template_json() {
            spec.insert("template".to_owned(), template);
        }
        json!({
            "apiVersion": format!("{}/{}", seal_crds::API_GROUP, seal_crds::API_VERSION),
            "kind": "SealedSecret",
            "metadata": metadata,
            "spec": spec,
        })
    }

    fn template_json(&self) -> Option<Value> {
        let template = self.template;
        let mut fields = Map::new();
        if let Some(secret_type) = &template.secret_type {
            fields.insert("type".to_owned(), json!(secret_type));
        }
        if let Some(immutable) = template.immutable {
            fields.insert("immutable".to_owned(), json!(immutable));
        }
        let mut metadata = Map::new();
        if !template.labels.is_empty() {
            metadata.insert("labels".to_owned(), json!(template.labels));
        }
        if !template.annotations.is_empty() {
            metadata.insert("annotations".to_owned(), json!(template.annotations));
        }
        if !metadata.is_empty() {
            fields.insert("metadata".to_owned(), Value::Object(metadata));
        }
        (!fields.is_empty()).then_some(Value::Object(fields))
    }
}

/// JSON as `kubectl` prints it.
pub(crate) fn pretty(value: &Value) -> String {
    let mut bytes = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, formatter);
    let written = serde::Serialize::serialize(value, &mut serializer);
    debug_assert!(written.is_ok(), "a JSON value has a text");
    String::from_utf8(bytes).unwrap_or_default()
}

/// A string in YAML: plain where every reader takes it for a string, else in double quotes.
pub(crate) fn scalar(text: &str) -> String {
    let is_plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '_' | '/'))
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/'))
        && !yaml::is_word(text)
        && !yaml::is_number(text);
    if is_plain { text.to_owned() } else { quoted(text) }
}

/// A string in double quotes, as both YAML and JSON read it.
pub(crate) fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            // What YAML does not take as it is, or takes for a line break.
            '\u{0}'..='\u{1f}'
            | '\u{7f}'..='\u{9f}'
            | '\u{2028}'
            | '\u{2029}'
            | '\u{feff}'
            | '\u{fffe}'
            | '\u{ffff}' => {
                quoted.push_str(&format!("\\u{:04x}", u32::from(character)));
            }
            _ => quoted.push(character),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn a_written_string_is_read_as_the_same_string(text in proptest::prelude::any::<String>()) {
            let yaml = yaml::parse(&format!("k: {}\n", scalar(&text))).expect("is YAML");
            let read = yaml[0].root.as_ref().and_then(|root| root.get("k")).and_then(|node| node.string().map(str::to_owned));
            proptest::prop_assert_eq!(read.as_deref(), Some(text.as_str()));
            let json: String = serde_json::from_str(&quoted(&text)).expect("is JSON");
            proptest::prop_assert_eq!(json, text);
        }
    }

    #[test]
    fn what_some_yaml_reads_as_no_string_is_quoted() {
        for text in [
            "",
            "y",
            "No",
            "null",
            "1",
            "1e3",
            ".5",
            "0x1F",
            "-",
            "~",
            "<<",
            "a: b",
            "a #b",
            "@a",
            "2026-11-21",
            "12:30",
        ] {
            assert!(scalar(text).starts_with('"'), "{text}");
        }
        for text in ["password", "tls.crt", "app.kubernetes.io/name", "_x", "shop-prod"] {
            assert_eq!(scalar(text), text);
        }
    }
}
