//! `seal [FILE...]`: input as people really have it, and what becomes of it. Everything sealed is opened again.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::Value;

use self::support::{Folder, Run};

const MARKER: &str = "hunter2-marker";
const SECRET: &str = "\
apiVersion: v1
kind: Secret
metadata: {name: db, namespace: shop}
stringData:
  password: hunter2-marker
";

fn folder() -> Folder {
    let folder = Folder::new();
    folder.ring("prod", &["recovery"]);
    folder
}

/// Opens a manifest with one object: its values, as bytes.
fn values(folder: &Folder, sealed: &[u8]) -> BTreeMap<String, Vec<u8>> {
    let opened = opened(folder, sealed);
    let data = opened["data"].as_object().expect("has data");
    let decode = |value: &Value| BASE64_STANDARD.decode(value.as_str().unwrap()).unwrap();
    data.iter().map(|(key, value)| (key.clone(), decode(value))).collect()
}

fn opened(folder: &Folder, sealed: &[u8]) -> Value {
    folder.seal_with_stdin(&["open", "-", "-i", "recovery.txt", "-o", "json"], sealed).succeeds().json()
}

fn map(pairs: &[(&str, &[u8])]) -> BTreeMap<String, Vec<u8>> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), value.to_vec())).collect()
}

fn leaks_nothing(run: &Run) {
    let encoded = BASE64_STANDARD.encode(MARKER);
    for text in [&run.stderr, &String::from_utf8_lossy(&run.stdout).into_owned()] {
        assert!(!text.contains(MARKER) && !text.contains(&encoded), "{text}");
    }
}

#[test]
fn everything_that_kubectl_prints_is_sealed() {
    let folder = folder();
    let fixtures = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/kubectl");
    for kind in ["generic", "tls", "docker-registry"] {
        for format in ["yaml", "json"] {
            let plain = std::fs::read(fixtures.join(format!("{kind}.{format}"))).unwrap();
            let run = folder.seal_with_stdin(&[], &plain).succeeds();
            let sealed: Value = serde_yaml::from_slice(&run.stdout).unwrap();
            assert_eq!(run.stdout.starts_with(b"{"), format == "json", "the format is that of the input");
            assert_eq!(sealed["kind"], "SealedSecret");
            assert_eq!(sealed["metadata"].as_object().unwrap().len(), 2, "name and namespace: {}", sealed["metadata"]);
            let (before, after): (Value, Value) =
                (serde_yaml::from_slice(&plain).unwrap(), opened(&folder, &run.stdout));
            for field in ["data", "metadata/name", "metadata/namespace"] {
                let pointer = format!("/{field}");
                assert_eq!(before.pointer(&pointer), after.pointer(&pointer), "{kind}.{format} {field}");
            }
            let kind_of = |object: &Value| object["type"].as_str().unwrap_or("Opaque").to_owned();
            assert_eq!(kind_of(&before), kind_of(&after));
        }
    }
}

#[test]
fn every_encoding_and_line_end_is_read() {
    let folder = folder();
    let text = format!("{}  note: \"ä€😀\"\n", SECRET);
    let crlf = text.replace('\n', "\r\n");
    let utf16 = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    for bytes in [
        text.clone().into_bytes(),
        crlf.clone().into_bytes(),
        [b"\xef\xbb\xbf", text.as_bytes()].concat(),
        [b"\xff\xfe".to_vec(), utf16(&crlf)].concat(),
        utf16(&crlf),
        text.trim_end().as_bytes().to_vec(),
    ] {
        let sealed = folder.seal_with_stdin(&[], &bytes).succeeds().stdout;
        let expected = map(&[("password", MARKER.as_bytes()), ("note", "ä€😀".as_bytes())]);
        assert_eq!(values(&folder, &sealed), expected);
    }
}

#[test]
fn string_data_wins_and_is_taken_verbatim() {
    let folder = folder();
    let secret = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: db, namespace: shop}}\ndata:\n  a: {}\n  b: {}\n  wrapped: |\n    {}\n    {}\nstringData:\n  b: new\n  block: |\n    line one\n    line two\n  folded: >-\n    one\n    two\n  quoted: \"tab\\t\\x00 end\"\n  yes-string: 'yes'\n  empty: \"\"\n",
        BASE64_STANDARD.encode([0, 159, 146, 150]),
        BASE64_STANDARD.encode("old"),
        "aHVu",
        "dGVy"
    );
    let sealed = folder.seal_with_stdin(&[], secret.as_bytes()).succeeds().stdout;
    let expected = map(&[
        ("a", &[0, 159, 146, 150]),
        ("b", b"new"),
        ("wrapped", b"hunter"),
        ("block", b"line one\nline two\n"),
        ("folded", b"one two"),
        ("quoted", b"tab\t\0 end"),
        ("yes-string", b"yes"),
        ("empty", b""),
    ]);
    assert_eq!(values(&folder, &sealed), expected);
}

#[test]
fn a_value_of_one_mebibyte_is_sealed_and_one_byte_more_is_refused() {
    let folder = folder();
    let secret = |length: usize| {
        let value: Vec<u8> = (0..length).map(|index| (index * 31 % 251) as u8).collect();
        (
            format!(
                "apiVersion: v1\nkind: Secret\nmetadata: {{name: big, namespace: shop}}\ndata:\n  big: {}\n",
                BASE64_STANDARD.encode(&value)
            ),
            value,
        )
    };
    let (manifest, value) = secret(1 << 20);
    let sealed = folder.seal_with_stdin(&[], manifest.as_bytes()).succeeds().stdout;
    assert_eq!(values(&folder, &sealed), map(&[("big", &value)]));
    folder.seal_with_stdin(&[], secret((1 << 20) + 1).0.as_bytes()).fails(1, "Kubernetes takes 1048576 in all");
}

#[test]
fn what_no_cluster_takes_is_refused_whoever_sealed_what_is_in_it() {
    let folder = folder();
    folder.write("half", vec![0; 500_000]);
    folder.write("more", vec![0; 600_000]);
    let create = ["create", "big.yaml", "-n", "shop", "--name", "big", "--from-file", "half=half"];
    folder.seal(&create).succeeds();
    let before = folder.read("big.yaml");
    let set = |key: &str, file: &str| folder.seal(&["set", "big.yaml", "--from-file", &format!("{key}={file}")]);
    set("more", "more").fails(1, "the Secret of `shop/big` is ").hints("several Secrets");
    assert_eq!(folder.read("big.yaml"), before);
    set("again", "half").succeeds();
    set("more", "more").fails(1, "the SealedSecret of `shop/big` is ").hints("several Secrets");

    let many: String = (0..1000).map(|number| format!("  k{number}: x\n")).collect();
    let many = format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: many, namespace: shop}}\nstringData:\n{many}");
    folder.seal_with_stdin(&[], many.as_bytes()).fails(1, "the SealedSecret of `shop/many` is ");
}

#[test]
fn json_objects_one_after_the_other_are_documents() {
    let folder = folder();
    let secret = |name: &str| {
        let metadata = format!(r#"{{"name": "{name}", "namespace": "shop"}}"#);
        format!(
            r#"{{"apiVersion": "v1", "kind": "Secret", "metadata": {metadata}, "stringData": {{"a": "\ud83d\ude00"}}}}"#
        )
    };
    let two = format!("{}\n{}\n", secret("one"), secret("two"));
    let sealed = folder.seal_with_stdin(&[], two.as_bytes()).succeeds();
    assert_eq!(sealed.stdout().matches("kind\": \"SealedSecret").count(), 2, "{}", sealed.stdout());
    folder.write("two.json", &two);
    folder.seal(&["--in-place", "two.json"]).succeeds();
    folder.seal_with_stdin(&["set", "two.json", "--name", "two", "b"], b"hunter2").succeeds();
    let opened = folder.seal(&["open", "two.json", "-i", "recovery.txt"]).succeeds();
    assert_eq!(opened.stdout().matches("a: 8J+YgA==").count(), 2, "{}", opened.stdout());
    assert!(opened.stdout().ends_with("b: aHVudGVyMg==\n"), "{}", opened.stdout());
}

#[test]
fn documents_that_are_no_secrets_keep_every_byte() {
    let folder = folder();
    let before =
        "# licence\n%YAML 1.2\n---\napiVersion: v1\nkind:   ConfigMap # odd   spacing\ndata: {a: 'b',   c: \"d\"}\n";
    let before = before.replace("# licence\n%YAML 1.2\n", "# licence\n");
    let between =
        "---\n# only a comment\n---\r\nkind: Deployment\r\nspec: &x {a: 1}\r\nother: *x\r\n---   # marker comment\n";
    let after = "---\n{\"kind\": \"Service\",   \"apiVersion\": \"v1\"}\n...\n---\nlast: document";
    let secret = SECRET.replace("stringData:", "# comment with hunter2-marker\nstringData:");
    let run = folder.seal_with_stdin(&[], format!("{before}{between}{secret}{after}").as_bytes()).succeeds();
    leaks_nothing(&run);
    let text = run.stdout();
    let between_without_comment = between.replace("   # marker comment\n", "\n");
    let sealed = text
        .strip_prefix(&before)
        .and_then(|rest| rest.strip_prefix(between_without_comment.trim_end_matches("\n")))
        .and_then(|rest| rest.strip_suffix(after));
    let sealed = sealed.unwrap_or_else(|| panic!("{text}"));
    assert_eq!(values(&folder, sealed.as_bytes()), map(&[("password", MARKER.as_bytes())]));
}

#[test]
fn secrets_in_a_list_are_sealed_where_they_stand() {
    let folder = folder();
    let list = "apiVersion: v1\nitems:\n- apiVersion: v1\n  kind: ConfigMap # stays\n- apiVersion: v1\n  kind: Secret\n  metadata:\n    name: db\n    namespace: shop\n  # hunter2-marker\n  stringData:\n    password: hunter2-marker # hunter2-marker\n  # hunter2-marker\n- apiVersion: v1\n  kind: Service\nkind: List\n";
    let run = folder.seal_with_stdin(&[], list.as_bytes()).succeeds();
    leaks_nothing(&run);
    let text = run.stdout();
    assert!(text.starts_with("apiVersion: v1\nitems:\n- apiVersion: v1\n  kind: ConfigMap # stays\n- apiVersion: sealwright.dev/v1alpha1\n  kind: SealedSecret\n"), "{text}");
    assert!(text.ends_with("\n- apiVersion: v1\n  kind: Service\nkind: List\n"), "{text}");
    let object: Value = serde_yaml::from_str(text).unwrap();
    let item = serde_json::to_vec(&object["items"][1]).unwrap();
    assert_eq!(values(&folder, &item), map(&[("password", MARKER.as_bytes())]));

    let json = serde_json::json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Service"},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "db", "namespace": "shop"}, "data": {"password": BASE64_STANDARD.encode(MARKER)}},
    ]});
    let run = folder.seal_with_stdin(&[], serde_json::to_string_pretty(&json).unwrap().as_bytes()).succeeds();
    leaks_nothing(&run);
    let item = serde_json::to_vec(&run.json()["items"][1]).unwrap();
    assert_eq!(values(&folder, &item), map(&[("password", MARKER.as_bytes())]));
    assert_eq!(run.json()["items"][0], json["items"][0]);

    let expanded = folder.seal_with_stdin(&["-o", "yaml"], json.to_string().as_bytes()).succeeds();
    assert_eq!(expanded.stdout().matches("kind: SealedSecret\n").count(), 1);
    assert_eq!(expanded.stdout().matches("---\n").count(), 1);
}

#[test]
fn json_with_escapes_is_read_as_json_reads_it() {
    let folder = folder();
    let secret = r#"{"apiVersion":"v1","kind":"Secret","metadata":{"name":"db","namespace":"shop"},"stringData":{"a":"\ud83d\ude00\/\u00e4\n\"\\u"}}"#;
    let sealed = folder.seal_with_stdin(&[], secret.as_bytes()).succeeds().stdout;
    assert_eq!(values(&folder, &sealed), map(&[("a", "😀/ä\n\"\\u".as_bytes())]));
}

#[test]
fn what_the_api_server_added_is_dropped_and_the_rest_goes_to_the_template() {
    let folder = folder();
    let secret = "\
apiVersion: v1
kind: Secret
metadata:
  name: db
  namespace: shop
  uid: 0d6c
  resourceVersion: \"12\"
  creationTimestamp: \"2026-11-21T09:00:00Z\"
  managedFields: [{manager: kubectl}]
  ownerReferences: [{kind: Foo}]
  labels:
    app: db
    enabled: \"true\"
    argocd.argoproj.io/instance: shop
  annotations:
    note: \"a: b\"
    kubectl.kubernetes.io/last-applied-configuration: '{\"stringData\":{\"password\":\"hunter2-marker\"}}'
type: kubernetes.io/basic-auth
immutable: true
stringData:
  password: hunter2-marker
";
    let typeless = folder.seal_with_stdin(&[], format!("{SECRET}type: \"\"\n").as_bytes()).succeeds();
    assert!(!typeless.stdout().contains("type:"), "an empty type is Opaque: {}", typeless.stdout());
    let run = folder.seal_with_stdin(&[], secret.as_bytes()).succeeds();
    leaks_nothing(&run);
    assert!(run.stderr.contains("left out argocd.argoproj.io/instance"), "{}", run.stderr);
    let sealed: Value = serde_yaml::from_slice(&run.stdout).unwrap();
    assert_eq!(sealed["metadata"], serde_json::json!({"name": "db", "namespace": "shop"}));
    assert_eq!(
        sealed["spec"]["template"],
        serde_json::json!({
            "type": "kubernetes.io/basic-auth",
            "immutable": true,
            "metadata": {"labels": {"app": "db", "enabled": "true"}, "annotations": {"note": "a: b"}},
        })
    );
}

#[test]
fn scope_and_namespaces_are_said_in_clear() {
    let folder = folder();
    for (arguments, sealed_for, namespace) in [
        (&[][..], serde_json::json!({"name": "db", "namespaces": ["shop"]}), Some("shop")),
        (&["--scope", "namespace"], serde_json::json!({"namespaces": ["shop"]}), Some("shop")),
        (&["--scope", "cluster"], serde_json::json!({}), Some("shop")),
        (&["-n", "test,shop"], serde_json::json!({"name": "db", "namespaces": ["shop", "test"]}), None),
        (&["--name", "cache"], serde_json::json!({"name": "cache", "namespaces": ["shop"]}), Some("shop")),
    ] {
        let run = folder.seal_with_stdin(arguments, SECRET.as_bytes()).succeeds();
        let sealed: Value = serde_yaml::from_slice(&run.stdout).unwrap();
        assert_eq!(sealed["spec"]["sealedFor"], sealed_for, "{arguments:?}");
        assert_eq!(sealed["metadata"]["namespace"].as_str(), namespace, "{arguments:?}");
    }
}

#[test]
fn a_secret_without_a_namespace_is_refused() {
    let folder = folder();
    let plain = include_bytes!("data/kubectl/no-namespace.yaml");
    folder.seal_with_stdin(&[], plain).fails(1, "names no namespace").hints("-n NAMESPACE");
    folder.seal_with_stdin(&["-n", "shop"], plain).succeeds();
    folder
        .seal_with_stdin(&["-n", "other"], SECRET.as_bytes())
        .fails(1, "in namespace `shop`, and --namespace says `other`");
    let nameless = SECRET.replace("name: db, ", "");
    folder.seal_with_stdin(&[], nameless.as_bytes()).fails(1, "has no name").hints("--name");
    let generated = SECRET.replace("name: db", "generateName: db-");
    folder.seal_with_stdin(&[], generated.as_bytes()).fails(1, "has no name").hints("--name");
    folder.seal_with_stdin(&["--name", "db"], generated.as_bytes()).succeeds();
    let two = format!("{SECRET}---\n{}", SECRET.replace("name: db", "name: cache"));
    for arguments in [&["--name", "x"][..], &["--name", "x", "-w", "x.yaml"]] {
        folder.seal_with_stdin(arguments, two.as_bytes()).fails(2, "the name of one Secret, and the input holds 2");
    }
}

#[test]
fn what_kubernetes_would_refuse_or_drop_is_named_by_line_and_path_and_never_quoted() {
    let folder = folder();
    let head = "apiVersion: v1\nkind: Secret\nmetadata: {name: db, namespace: shop}\n";
    let encoded = BASE64_STANDARD.encode(MARKER);
    for (rest, message, hint) in [
        (format!("data:\n  password: {MARKER}\n"), "line 5: `data.password` is not base64", "stringData"),
        (format!("data:\n  password: {encoded}=\n"), "line 5: `data.password` is not base64", "stringData"),
        ("data:\n  password: 12345678\n".to_owned(), "line 5: `data.password` is not a string", "quotes"),
        ("stringData:\n  port: 5432\n".to_owned(), "line 5: `stringData.port` is not a string", "quotes"),
        ("stringData:\n  on: yes\n".to_owned(), "is not a string", "quotes"),
        (format!("stringData:\n  a: [{MARKER}]\n"), "line 5: `stringData.a` is not a string", "quotes"),
        ("stringData:\n  a:\n".to_owned(), "line 5: `stringData.a` is null", "\"\""),
        (format!("stringdata:\n  a: {MARKER}\n"), "line 4: `stringdata` is no field", "did you mean `stringData`?"),
        (format!("stringData:\n  a: {MARKER}\n  a: {MARKER}\n"), "line 6: `stringData.a` is there twice", ""),
        (format!("data: {MARKER}\n"), "line 4: `data` is not a mapping", ""),
        (format!("stringData:\n  \"a {MARKER}\": b\n"), "a key that no Secret can have", "letters"),
        ("type: Opaque\n".to_owned(), "line 1: this Secret holds no values", "stringData"),
        ("stringData: {a: \"x\u{2028}y\"}\n".to_owned(), "a line break of old YAML", "escape"),
        (format!("stringData:\n  a: \"{MARKER}\n"), "line ", "the whole file"),
        (format!("stringData:\n  a: @{MARKER}\n"), "line 5", "the whole file"),
        (format!("stringData:\n\ta: {MARKER}\n"), "line 5", "the whole file"),
        (format!("stringData:\n  a: *{MARKER}\n"), "line 5", "the whole file"),
        (
            format!("type: kubernetes.io/service-account-token\nstringData: {{a: {MARKER}}}\n"),
            "a Secret of type kubernetes.io/service-account-token is not sealed",
            "",
        ),
    ] {
        let run = folder.seal_with_stdin(&[], format!("{head}{rest}").as_bytes());
        leaks_nothing(&run);
        let run = run.fails(1, message);
        if !hint.is_empty() {
            run.hints(hint);
        }
    }
    for bytes in [&b"\xff\xff kind: Secret"[..], b"kind: Secret\xff", b"a: 1\n\0", &[0xff, 0xfe, 0x00]] {
        folder.seal_with_stdin(&[], bytes).fails(1, "stdin");
    }
}

#[test]
fn a_secret_is_never_passed_through_for_another_kind() {
    let folder = folder();
    for disguise in [
        SECRET.replace("kind: Secret", "kind: ConfigMap\nkind: Secret"),
        SECRET.replace("kind: Secret", "kind: Secret\nkind: ConfigMap"),
        SECRET.replace("apiVersion: v1\n", ""),
        SECRET.replace("apiVersion: v1", "apiVersion: v2"),
        SECRET.replace("kind: Secret", "kind: secret"),
        SECRET.replace("kind: Secret", "kind: Secrets"),
        SECRET.replace("kind: Secret\n", ""),
        SECRET.replace("kind: Secret\n", "").replace("stringData", "data"),
        SECRET.replace("kind: Secret", "kind: SECRET").replace("stringData", "data"),
        format!(
            "apiVersion: v1\nkind: SecretList\nitems:\n- metadata: {{name: a, namespace: b}}\n  stringData: {{a: {MARKER}}}\n"
        ),
    ] {
        let run = folder.seal_with_stdin(&[], disguise.as_bytes());
        leaks_nothing(&run);
        assert_eq!(run.code, 1, "{disguise}");
    }
    for other in ["apiVersion: example.dev/v1\nkind: Secret\nstringData: {a: b}\n", "stringData: {a: b}\n"] {
        assert_eq!(folder.seal_with_stdin(&[], other.as_bytes()).succeeds().stdout(), other);
    }
    let quoted = SECRET.replace("kind: Secret", "\"kind\": 'Secret'");
    leaks_nothing(&folder.seal_with_stdin(&[], quoted.as_bytes()).succeeds());
}

#[test]
fn a_secret_is_found_wherever_kubernetes_would_find_one() {
    let folder = folder();
    let flow = format!(
        "{{apiVersion: v1, kind: Secret, metadata: {{name: db, namespace: shop}}, stringData: {{a: {MARKER}}}}}"
    );
    let list = |items: &str| format!("apiVersion: v1\nkind: List\nitems:\n{items}");
    let nested = (0..9).fold(flow.clone(), |inner, _| format!("{{apiVersion: v1, kind: List, items: [{inner}]}}"));
    for (input, secrets) in [
        (SECRET.replace("kind: Secret", "kind: !mine Secret"), 1),
        (format!("<<: {{kind: Secret}}\n{}", SECRET.replace("kind: Secret\n", "")), 1),
        (format!("<<: [{{type: Opaque}}, {{<<: {{kind: Secret}}}}]\n{}", SECRET.replace("kind: Secret\n", "")), 1),
        (
            list(&format!(
                "- apiVersion: v1\n  <<: &kind {{kind: Secret}}\n  metadata: {{name: a, namespace: shop}}\n  stringData: {{a: {MARKER}}}\n- kind: ConfigMap\n"
            )),
            1,
        ),
        (nested, 1),
        (list(&format!("- &one {flow}\n- {{<<: *one, metadata: {{name: cache, namespace: shop}}}}\n")), 2),
        (format!("apiVersion: example.dev/v1\nkind: Whatever\nitems: [{flow}]\n"), 1),
        (list(&format!("- {{kind: List, items: &x [{flow}]}}\n- {{kind: List, items: *x}}\n")), 1),
        (format!("x: &x [{flow}]\nkind: List\nitems:\n- {}\n- items: *x\n", flow.replace("name: db", "name: a")), 2),
    ] {
        for arguments in [&[][..], &["-o", "json"], &["-o", "yaml"]] {
            let run = folder.seal_with_stdin(arguments, input.as_bytes());
            leaks_nothing(&run);
            if run.code == 0 {
                assert_eq!(run.stdout().matches("SealedSecret").count(), secrets, "{arguments:?} {input}");
            } else {
                let is_converted = arguments.contains(&"-o");
                assert!(is_converted && run.stderr.contains("cannot be written in the other format"), "{}", run.stderr);
            }
        }
    }
}

#[test]
fn aliases_into_and_of_secrets_are_refused() {
    let folder = folder();
    let list = |items: &str| format!("apiVersion: v1\nkind: List\nitems:\n{items}");
    let secret = |metadata: &str| {
        format!("- &one\n  apiVersion: v1\n  kind: Secret\n  metadata: {metadata}\n  stringData: {{a: {MARKER}}}\n")
    };
    for (items, message) in [
        (
            format!(
                "{}- kind: ConfigMap\n  data: *labels\n",
                secret("{name: a, namespace: shop, labels: &labels {a: b}}")
            ),
            "cannot be taken out",
        ),
        (
            format!("- kind: X\n  y: &one {{apiVersion: v1, kind: Secret, stringData: {{a: {MARKER}}}}}\n- *one\n"),
            "is an alias",
        ),
    ] {
        let input = list(&items);
        let run = folder.seal_with_stdin(&[], input.as_bytes());
        leaks_nothing(&run);
        run.fails(1, message).hints("write");
        folder.write("list.yaml", &input);
        folder.seal(&["--in-place", "list.yaml"]).fails(1, message);
        assert_eq!(folder.read("list.yaml"), input);
    }
}

#[test]
fn comments_around_a_secret_in_json_go_with_it() {
    let folder = folder();
    let json = SECRET.replace("apiVersion: v1\n", "").replace("kind: Secret\n", "");
    let secret = format!(
        "{{apiVersion: v1, kind: Secret, {}}}",
        json.trim_end()
            .replace('\n', ", ")
            .replace("stringData:,   password: hunter2-marker", "stringData: {password: hunter2-marker}")
    );
    for (before, after) in [
        ("", "\n"),
        ("# hunter2-marker\n", " # hunter2-marker\n# hunter2-marker\n"),
        ("--- # hunter2-marker\n", "\n---\n{kind: X}\n"),
    ] {
        let run = folder.seal_with_stdin(&[], format!("{before}{secret}{after}").as_bytes()).succeeds();
        leaks_nothing(&run);
        let expected = if before.starts_with("---") { "---\n{" } else { "{\n" };
        assert!(run.stdout().starts_with(expected) && run.stdout().ends_with("}\n"), "{}", run.stdout());
        assert_eq!(run.stdout().contains("kind: X"), after.contains("kind: X"));
    }
}

#[test]
fn one_broken_document_or_an_empty_input_writes_nothing() {
    let folder = folder();
    let cases = [
        (format!("{SECRET}---\nbroken: [\n---\n{SECRET}"), "line "),
        (format!("{SECRET}---\napiVersion: v1\nkind: Secret\nmetadata: {{name: x}}\nstringData: {{a: b}}\n"), "line 7"),
        (String::new(), "holds no document"),
        ("# nothing\n---\n".to_owned(), "holds no document"),
    ];
    for (input, message) in &cases {
        folder.seal_with_stdin(&[], input.as_bytes()).fails(1, message);
        folder.seal_with_stdin(&["-w", "new.yaml"], input.as_bytes()).fails(1, message);
        assert!(!folder.file("new.yaml").exists());
    }
    folder.seal_with_stdin(&["-w", "old.yaml"], SECRET.as_bytes()).succeeds();
    folder.write("good.yaml", SECRET);
    let old = folder.read("old.yaml");
    for (input, message) in &cases {
        folder.write("bad.yaml", input);
        let merged = folder.seal(&["good.yaml", "bad.yaml", "-w", "old.yaml"]);
        let in_place = folder.seal(&["--in-place", "good.yaml", "bad.yaml"]);
        if message.starts_with("line") {
            merged.fails(1, message);
            in_place.fails(1, message);
            assert_eq!((folder.read("old.yaml"), folder.read("good.yaml")), (old.clone(), SECRET.to_owned()));
        }
    }
}

#[test]
fn files_are_joined_into_one_stream() {
    let folder = folder();
    folder.write("a.yaml", SECRET.trim_end());
    folder.write("b.yaml", "%YAML 1.2\n---\nkind: A\n");
    folder.write("c.yaml", "---\nkind: B\n");
    folder.write("d.json", "{\"kind\": \"C\"}\n");
    let run = folder.seal(&["a.yaml", "b.yaml", "c.yaml", "d.json"]).succeeds();
    let documents = "...\n%YAML 1.2\n---\nkind: A\n---\nkind: B\n---\n{\"kind\": \"C\"}\n";
    assert!(
        run.stdout().starts_with("apiVersion: sealwright") && run.stdout().ends_with(documents),
        "{}",
        run.stdout()
    );
    let again = folder.seal_with_stdin(&[], &run.stdout).succeeds();
    assert_eq!(again.stdout(), run.stdout());
}

#[test]
fn the_format_is_that_of_the_file_written() {
    let folder = folder();
    let as_json = folder.seal_with_stdin(&["-o", "json"], SECRET.as_bytes()).succeeds();
    assert_eq!(values(&folder, &as_json.stdout), map(&[("password", MARKER.as_bytes())]));
    let two = format!("{SECRET}---\nkind: ConfigMap\napiVersion: v1\n");
    let list = folder.seal_with_stdin(&["-o", "json"], two.as_bytes()).succeeds().json();
    assert_eq!((&list["kind"], &list["items"][1]["kind"]), (&"List".into(), &"ConfigMap".into()));
    folder.seal_with_stdin(&["-w", "sealed.json"], SECRET.as_bytes()).succeeds();
    assert!(folder.read("sealed.json").starts_with("{\n"));
    folder.seal_with_stdin(&["-w", "sealed.yaml"], include_bytes!("data/kubectl/generic.json")).succeeds();
    assert!(folder.read("sealed.yaml").starts_with("apiVersion: "));
    // JSON is merged as JSON.
    let more = SECRET.replace("password:", "more:");
    folder.seal_with_stdin(&["-w", "sealed.json"], more.as_bytes()).succeeds();
    let sealed: Value = serde_json::from_str(&folder.read("sealed.json")).unwrap();
    assert_eq!(sealed["spec"]["encryptedData"].as_object().unwrap().len(), 2);
}

#[test]
fn each_token_has_a_line_of_its_own() {
    let folder = folder();
    let secret = SECRET.replace("stringData:", "stringData:\n  a.crt: b\n  \"no\": c");
    let text = folder.seal_with_stdin(&[], secret.as_bytes()).succeeds();
    let lines: Vec<&str> = text.stdout().lines().collect();
    let start = lines.iter().position(|line| *line == "  encryptedData:").unwrap();
    for (number, key) in ["a.crt", "\"no\"", "password"].iter().enumerate() {
        assert_eq!(lines[start + 1 + 2 * number], format!("    {key}: >-"));
        assert!(lines[start + 2 + 2 * number].starts_with("      seal1."));
    }
    let again = folder.seal_with_stdin(&[], secret.as_bytes()).succeeds();
    assert_ne!(text.stdout, again.stdout, "sealing twice gives two tokens");
}

#[test]
fn in_place_replaces_the_secrets_and_nothing_else() {
    let folder = folder();
    let other = "# top\r\nkind: ConfigMap\r\n---\r\n";
    folder.write("a.yaml", format!("{other}{}", SECRET.replace('\n', "\r\n")));
    folder.write("b.yaml", "kind: ConfigMap # no Secret here");
    let run = folder.seal(&["--in-place", "a.yaml", "b.yaml"]).succeeds();
    leaks_nothing(&run);
    let a = folder.read("a.yaml");
    assert!(a.starts_with(&format!("{other}apiVersion: sealwright.dev/v1alpha1\r\n")), "{a}");
    assert!(!a.replace("\r\n", "").contains('\n'), "line ends are those of the file");
    assert_eq!(folder.read("b.yaml"), "kind: ConfigMap # no Secret here");
    let run = folder.seal(&["--in-place", "a.yaml", "b.yaml"]).succeeds();
    assert!(run.stderr.contains("nothing was changed"));
    assert_eq!(folder.read("a.yaml"), a);
    folder.write("c.yaml", format!("{SECRET}---\n{a}"));
    folder.seal(&["--in-place", "c.yaml"]).fails(1, "`db` both sealed and as a Secret").hints("-w");
    folder.write("d.yaml", SECRET);
    let merged = folder.seal_with_stdin(&["-w", "d.yaml"], SECRET.as_bytes());
    merged.fails(1, "d.yaml holds a Secret that is not sealed").hints("--in-place");
    folder.seal(&["--in-place", "d.yaml", "./d.yaml"]).succeeds();
    folder.seal(&["--in-place"]).fails(2, "FILE");
    folder.seal(&["--in-place", "-"]).fails(2, "stdin cannot be changed in place");
}

#[test]
fn a_dry_run_says_and_writes_nothing() {
    let folder = folder();
    let run = folder.seal_with_stdin(&["--dry-run", "-w", "sealed.yaml"], SECRET.as_bytes()).succeeds();
    assert_eq!(run.stdout(), "shop/db: password sealed to ring `prod` for `db` in shop\n");
    assert!(!folder.file("sealed.yaml").exists());
}

#[test]
fn sealing_again_merges() {
    let folder = folder();
    folder.seal_with_stdin(&["-w", "sealed.yaml"], SECRET.as_bytes()).succeeds();
    let mut text = folder.read("sealed.yaml");
    text = format!("# owner: shop\n{}", text.replace("  encryptedData:", "  # values\n  encryptedData:"));
    text.push_str("  template:\n    metadata: {labels: {team: shop}}   # by hand\n");
    folder.write("sealed.yaml", &text);
    let token = |text: &str, key: &str| -> String {
        let object: Value = serde_yaml::from_str(text).unwrap();
        object["spec"]["encryptedData"][key].as_str().map(str::to_owned).unwrap_or_default()
    };

    let url = SECRET
        .replace("password: hunter2-marker", "url: hunter2-marker")
        .replace("{name: db", "{labels: {app: db}, name: db");
    folder.seal_with_stdin(&["-w", "sealed.yaml"], url.as_bytes()).succeeds();
    let merged = folder.read("sealed.yaml");
    assert_eq!(token(&merged, "password"), token(&text, "password"), "a key not mentioned stays");
    let without = merged.replace(&format!("    url: >-\n      {}\n", token(&merged, "url")), "");
    assert_eq!(without, text, "nothing else changes");

    let pruning = folder.seal_with_stdin(&["-w", "sealed.yaml", "--prune", "--dry-run"], url.as_bytes()).succeeds();
    assert!(pruning.stdout().contains("shop/db: password") && pruning.stdout().contains(" removed\n"));
    let pruning = folder.seal_with_stdin(&["-w", "sealed.yaml", "--prune"], url.as_bytes()).succeeds();
    assert!(pruning.stderr.contains("sealed.yaml: shop/db: password"), "{}", pruning.stderr);
    let pruned = folder.read("sealed.yaml");
    assert_eq!((token(&pruned, "password"), token(&pruned, "url").is_empty()), (String::new(), false));
    assert!(pruned.contains("# by hand") && pruned.contains("  # values\n") && pruned.contains("# owner: shop\n"));

    // What the file is sealed for holds.
    for arguments in [&["--scope", "namespace"][..], &["-n", "test"], &["--name", "other", "-n", "test"]] {
        let before = folder.read("sealed.yaml");
        let nowhere = SECRET.replace("{name: db, namespace: shop}", "{name: db}");
        let run = folder.seal_with_stdin(&[&["-w", "sealed.yaml"], arguments].concat(), nowhere.as_bytes());
        if arguments.contains(&"other") {
            run.succeeds(); // another Secret: a document of its own
        } else {
            run.fails(1, "the file is sealed for `db` in shop").hints("keeps its binding");
            assert_eq!(folder.read("sealed.yaml"), before);
        }
    }

    // The file gives name and namespace where the input has none; another Secret is added.
    folder.seal_with_stdin(&["-w", "one.yaml"], SECRET.as_bytes()).succeeds();
    let anonymous = SECRET.replace("metadata: {name: db, namespace: shop}\n", "");
    folder.seal_with_stdin(&["-w", "one.yaml"], anonymous.as_bytes()).succeeds();
    let second = SECRET.replace("name: db", "name: cache");
    folder.seal_with_stdin(&["-w", "one.yaml"], second.as_bytes()).succeeds();
    assert_eq!(folder.read("one.yaml").matches("kind: SealedSecret").count(), 2);
    folder.seal_with_stdin(&["-w", "one.yaml"], anonymous.as_bytes()).fails(1, "several SealedSecrets");
}

#[test]
fn a_document_is_added_behind_any_end() {
    let folder = folder();
    let other = SECRET.replace("name: db", "name: cache");
    for (end, before_the_new_one) in [
        ("", "\n---\n"),
        ("\n", "\n---\n"),
        ("\n...", "\n...\n---\n"),
        ("\n...\n", "\n...\n---\n"),
        ("\n---\n", "\n---\n---\n"),
        ("\n# end", "\n# end\n---\n"),
    ] {
        for line_break in ["\n", "\r\n"] {
            let sealed = folder.seal_with_stdin(&[], SECRET.as_bytes()).succeeds();
            let old = format!("# head\n---\n{}{end}", sealed.stdout().trim_end()).replace('\n', line_break);
            folder.write("all.yaml", &old);
            folder.seal_with_stdin(&["-w", "all.yaml"], other.as_bytes()).succeeds();
            let text = folder.read("all.yaml");
            let new = text
                .find("apiVersion: sealwright.dev/v1alpha1")
                .and_then(|at| Some(at + 1 + text[at + 1..].find("apiVersion")?))
                .unwrap();
            let expected = old[..old.trim_end().len() - end.trim_end().len()].trim_end().to_owned()
                + &before_the_new_one.replace('\n', line_break);
            assert_eq!(text[..new], expected, "{end:?}");
            for name in ["db", "cache"] {
                let run = folder.seal(&["open", "all.yaml", "-i", "recovery.txt", "--name", name, "--key", "password"]);
                assert_eq!(run.succeeds().stdout, MARKER.as_bytes());
            }
        }
    }
}

#[test]
fn documents_beside_secrets_are_merged_too() {
    let folder = folder();
    let both = format!("kind: ConfigMap\nmetadata: {{name: cm}}\ndata: {{a: '1'}}\n---\n{SECRET}");
    folder.seal_with_stdin(&["-w", "all.yaml"], both.as_bytes()).succeeds();
    folder.seal_with_stdin(&["-w", "all.yaml"], both.as_bytes()).succeeds();
    let text = folder.read("all.yaml");
    assert_eq!((text.matches("ConfigMap").count(), text.matches("SealedSecret").count()), (1, 1), "{text}");
    folder.seal_with_stdin(&["-w", "all.yaml"], both.replace("'1'", "'2'").as_bytes()).succeeds();
    assert!(
        folder
            .read("all.yaml")
            .starts_with("kind: ConfigMap\nmetadata: {name: cm}\ndata: {a: '2'}\n---\napiVersion: sealwright")
    );
    let more = "kind: Service\nmetadata: {name: web}\n---\n".to_owned() + SECRET;
    folder.seal_with_stdin(&["-w", "all.yaml"], more.as_bytes()).succeeds();
    assert!(folder.read("all.yaml").ends_with("---\nkind: Service\nmetadata: {name: web}\n"));
}

#[test]
fn what_has_no_name_takes_no_place() {
    let folder = folder();
    let list = |items: &str| format!("apiVersion: v1\nkind: List\nitems:\n{items}");
    let item = format!("- {}", SECRET.trim_end().replace('\n', "\n  "));
    let map = "- {apiVersion: v1, kind: ConfigMap, metadata: {name: cm}}\n";
    folder.write("list.yaml", list(&format!("{map}{item}\n")));
    folder.seal(&["list.yaml", "-w", "sealed.yaml"]).succeeds();
    let before = folder.read("sealed.yaml");
    // A List has no name: this one is another, and what is sealed in the file stays.
    folder.write("other.yaml", list(map));
    folder.seal(&["other.yaml", "-w", "sealed.yaml"]).succeeds();
    assert_eq!(folder.read("sealed.yaml"), format!("{before}---\n{}", list(map)));
    folder.seal(&["other.yaml", "-w", "sealed.yaml"]).succeeds();
    assert_eq!(folder.read("sealed.yaml"), format!("{before}---\n{}", list(map)));
    // Of a List with Secrets these are merged where they stand, and it is said that the rest is not.
    let run = folder.seal(&["list.yaml", "-w", "sealed.yaml"]).succeeds();
    assert!(run.stderr.contains("only the Secrets are merged"), "{}", run.stderr);
    assert_eq!(folder.read("sealed.yaml").matches("SealedSecret").count(), 1);

    let jobs = "kind: Job\nmetadata: {generateName: a-}\n---\nkind: Job\nmetadata: {generateName: b-}\n";
    folder.write("jobs.yaml", format!("{SECRET}---\n{jobs}"));
    folder.seal_with_stdin(&["-w", "jobs.sealed.yaml"], SECRET.as_bytes()).succeeds();
    folder.seal(&["jobs.yaml", "-w", "jobs.sealed.yaml"]).succeeds();
    assert!(folder.read("jobs.sealed.yaml").ends_with(jobs));
}

#[test]
fn a_file_is_merged_in_its_own_format_and_line_ends() {
    let folder = folder();
    let map = |value: &str| format!("kind: ConfigMap\r\nmetadata: {{name: cm}}\r\ndata: {{a: '{value}'}}\r\n");
    folder.write("all.yaml", format!("---\r\n{}---\r\n{}", map("1"), SECRET.replace('\n', "\r\n")));
    folder.seal(&["--in-place", "all.yaml"]).succeeds();
    let before = folder.read("all.yaml");
    folder.seal_with_stdin(&["-w", "all.yaml"], map("2").as_bytes()).succeeds();
    assert_eq!(folder.read("all.yaml"), before.replace("'1'", "'2'"));
    folder
        .seal_with_stdin(&["-w", "all.yaml", "-o", "json"], SECRET.as_bytes())
        .fails(2, "all.yaml is YAML")
        .hints("-o");
    folder.seal_with_stdin(&["-w", "one.json"], SECRET.as_bytes()).succeeds();
    folder.seal_with_stdin(&["-w", "one.json", "-o", "yaml"], SECRET.as_bytes()).fails(2, "one.json is JSON");
    let one = folder.read("one.json");
    folder.seal_with_stdin(&["-w", "one.json"], map("1").as_bytes()).fails(1, "a JSON file holds one object");
    assert_eq!(folder.read("one.json"), one);
}

#[test]
fn rules_say_ring_scope_and_namespace() {
    let folder = folder();
    folder.seal(&["ring", "new", "dev", "--member", "recovery=recovery.pub"]).succeeds();
    folder.write(
        ".seal/config.yaml",
        "rules:\n- path: clusters/dev/**\n  ring: dev\n  scope: namespace\n  namespace: sandbox\n- path: '**'\n  ring: prod\n",
    );
    folder.write("clusters/dev/.keep", "");
    let anonymous = SECRET.replace(", namespace: shop", "");
    let run = folder.seal_with_stdin(&["-w", "clusters/dev/db.yaml"], anonymous.as_bytes()).succeeds();
    assert!(run.stderr.contains("sealed to ring `dev` for any name in sandbox"), "{}", run.stderr);
    let run = folder.seal_with_stdin(&["-w", "db.yaml"], SECRET.as_bytes()).succeeds();
    assert!(run.stderr.contains("ring `prod` for `db` in shop"), "{}", run.stderr);
    folder
        .seal_with_stdin(&["-w", "clusters/dev/new.yaml"], SECRET.as_bytes())
        .fails(1, "the rule for `clusters/dev/**` says `sandbox`");
    let run = folder.seal_with_stdin(
        &["-w", "clusters/dev/x.yaml", "--scope", "strict", "--to", "prod", "-n", "shop"],
        SECRET.as_bytes(),
    );
    assert!(run.succeeds().stderr.contains("ring `prod` for `db` in shop"));
    let run = folder.seal_with_stdin(&["--path", "clusters/dev/y.yaml", "--dry-run"], anonymous.as_bytes()).succeeds();
    assert!(run.stdout().contains("ring `dev`"));
    // stdout has no path, so no rule says which of the two rings.
    folder.seal_with_stdin(&[], SECRET.as_bytes()).fails(1, "2 key rings").hints("dev, prod");
    folder
        .seal_with_stdin(&["--to", "prd"], SECRET.as_bytes())
        .fails(1, "no key ring `prd`")
        .hints("did you mean `prod`?");
    folder.write(".seal/config.yaml", "rules:\n- path: x\n  rings: prod\n");
    folder.seal_with_stdin(&[], SECRET.as_bytes()).fails(1, "config.yaml cannot be read");
}

#[test]
fn a_ring_file_is_enough_and_no_ring_says_what_to_do() {
    let folder = folder();
    std::fs::rename(folder.file(".seal/keyrings/prod.yaml"), folder.file("ring.yaml")).unwrap();
    std::fs::remove_dir_all(folder.file(".seal")).unwrap();
    folder.seal_with_stdin(&["--to", "ring.yaml"], SECRET.as_bytes()).succeeds();
    folder.seal_with_stdin(&[], SECRET.as_bytes()).fails(1, "no key ring").hints("seal init --from-cluster");
    folder.seal_with_stdin(&["--to", "missing.yaml"], SECRET.as_bytes()).fails(1, "missing.yaml");
    folder.seal_with_stdin(&["--to", "recovery.pub"], SECRET.as_bytes()).fails(1, "no key ring `recovery.pub`");
    let recipient = folder.read("recovery.pub");
    folder
        .seal_with_stdin(&["--to", recipient.trim()], SECRET.as_bytes())
        .fails(1, "this is a recipient")
        .hints("seal ring new");
    folder.write("broken.yaml", "kind: KeyRing\n");
    folder.seal_with_stdin(&["--to", "broken.yaml"], SECRET.as_bytes()).fails(1, "not a KeyRing");
}

#[test]
fn a_private_key_where_a_ring_belongs_is_refused_and_not_repeated() {
    let folder = folder();
    let identity = folder.read("recovery.txt");
    let key = identity.lines().find(|line| line.starts_with("AGE-SECRET-KEY")).unwrap();
    let ring = folder.read(".seal/keyrings/prod.yaml");
    let recipient = ring.lines().find_map(|line| line.split("recipient: ").nth(1)).unwrap();
    folder.write("mixed.yaml", ring.replace(recipient, key));
    folder.write("plain.yaml", &identity);
    for to in [key, &key.to_lowercase(), "mixed.yaml", "plain.yaml"] {
        let run = folder.seal_with_stdin(&["--to", to], SECRET.as_bytes()).fails(1, "private key");
        assert!(!run.stderr.to_uppercase().contains("AGE-SECRET-KEY-PQ-1"), "{}", run.stderr);
    }
}
