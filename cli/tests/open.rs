//! Sealing and opening again, through the built binary: what comes out is what went in.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use base64::{Engine as _, prelude::BASE64_STANDARD};

use self::support::Folder;

/// A Secret with text, binary and empty values.
fn secret(name: &str, namespace: &str) -> (String, Vec<(&'static str, Vec<u8>)>) {
    let values = vec![
        ("password", b"hunter2\n".to_vec()),
        ("binary", (0..=255).collect()),
        ("empty", Vec::new()),
        ("big", vec![b'x'; 100_000]),
    ];
    let data: String =
        values.iter().map(|(key, value)| format!("  {key}: {}\n", BASE64_STANDARD.encode(value))).collect();
    let manifest = format!(
        "apiVersion: v1\nkind: Secret\nmetadata:\n  name: {name}\n  namespace: {namespace}\n  labels: {{app: shop}}\ntype: Opaque\ndata:\n{}",
        data.replace(": \n", ": \"\"\n")
    );
    (manifest, values)
}

fn sealed_shop() -> (Folder, Vec<(&'static str, Vec<u8>)>) {
    let folder = Folder::new();
    folder.ring("prod", &["eu", "recovery"]);
    let (manifest, values) = secret("db", "shop");
    folder.write("secret.yaml", manifest);
    folder.seal(&["secret.yaml", "-w", "sealed.yaml"]).succeeds();
    std::fs::remove_file(folder.file("secret.yaml")).unwrap();
    (folder, values)
}

#[test]
fn what_comes_out_is_what_went_in() {
    let (folder, values) = sealed_shop();
    let run = folder.seal(&["open", "sealed.yaml", "-i", "recovery.txt"]).succeeds();
    let opened: serde_json::Value = serde_yaml::from_slice(&run.stdout).unwrap();
    assert_eq!(
        (&opened["apiVersion"], &opened["kind"], &opened["type"]),
        (&"v1".into(), &"Secret".into(), &"Opaque".into())
    );
    assert_eq!((&opened["metadata"]["name"], &opened["metadata"]["namespace"]), (&"db".into(), &"shop".into()));
    assert_eq!(opened["metadata"]["labels"]["app"], "shop");
    assert_eq!(opened["data"].as_object().unwrap().len(), values.len());
    for (key, value) in &values {
        assert_eq!(BASE64_STANDARD.decode(opened["data"][key].as_str().unwrap()).unwrap(), *value, "{key}");
        let raw = folder.seal(&["open", "sealed.yaml", "-i", "eu.txt", "--key", key]).succeeds();
        assert_eq!(raw.stdout, *value, "{key}");
    }
    let json = folder.seal(&["open", "sealed.yaml", "-i", "eu.txt", "-o", "json"]).succeeds();
    assert_eq!(json.json()["data"], opened["data"]);
}

#[test]
fn an_opened_manifest_can_be_sealed_again() {
    let (folder, values) = sealed_shop();
    let opened = folder.seal(&["open", "sealed.yaml", "-i", "recovery.txt"]).succeeds();
    let sealed = folder.seal_with_stdin(&[], &opened.stdout).succeeds();
    let again =
        folder.seal_with_stdin(&["open", "-", "-i", "recovery.txt", "--key", "password"], &sealed.stdout).succeeds();
    assert_eq!(again.stdout, values[0].1);
}

#[test]
fn a_ring_lives_through_rotation_a_new_member_and_one_that_leaves() {
    let (folder, values) = sealed_shop();
    let sealed = folder.read("sealed.yaml");
    let password = |file: &str, identity: &str| folder.seal(&["open", file, "-i", identity, "--key", "password"]);

    folder.seal(&["ring", "rotate", "prod", "-i", "recovery.txt"]).succeeds();
    assert_eq!(password("sealed.yaml", "eu.txt").succeeds().stdout, values[0].1, "old values open after a rotation");

    folder.keygen("us");
    password("sealed.yaml", "us.txt").fails(1, "no member of the ring `prod`").hints("eu, recovery");
    let added = folder.seal(&["ring", "add", "prod", "--member", "us=us.pub", "-i", "recovery.txt"]).succeeds();
    assert!(added.stderr.contains("+ member us "), "{}", added.stderr);
    assert_eq!(password("sealed.yaml", "us.txt").succeeds().stdout, values[0].1, "a new member opens old values");

    folder.write("new.yaml", secret("new", "shop").0);
    folder.seal(&["new.yaml", "-w", "new.sealed.yaml"]).succeeds();
    std::fs::remove_file(folder.file("new.yaml")).unwrap();
    folder
        .seal(&["ring", "remove", "prod", "--member", "eu", "-i", "eu.txt"])
        .fails(1, "cannot remove itself")
        .hints("stays");
    let removed = folder.seal(&["ring", "remove", "prod", "--member", "eu", "-i", "us.txt"]).succeeds();
    assert!(removed.stderr.contains("change them at their source"), "{}", removed.stderr);
    for line in ["shop/db (sealed.yaml) password", "shop/new (new.sealed.yaml) binary"] {
        assert!(removed.stderr.contains(line), "{line}: {}", removed.stderr);
    }
    password("sealed.yaml", "eu.txt").fails(1, "no member");
    folder.write("later.yaml", secret("later", "shop").0);
    folder.seal(&["later.yaml", "-w", "later.sealed.yaml"]).succeeds();
    password("later.sealed.yaml", "eu.txt").fails(1, "no member");
    assert_eq!(password("later.sealed.yaml", "recovery.txt").succeeds().stdout, values[0].1);
    assert_eq!(password("later.sealed.yaml", "us.txt").succeeds().stdout, values[0].1);
    assert_eq!(folder.read("sealed.yaml"), sealed, "a ring changes without touching a sealed file");
}

#[test]
fn what_does_not_belong_here_does_not_open() {
    let (folder, _) = sealed_shop();
    let sealed = folder.read("sealed.yaml");
    let open = |file: &str| folder.seal(&["open", file, "-i", "eu.txt", "--key", "password"]);

    folder.write("elsewhere.yaml", sealed.replace("namespace: shop", "namespace: test"));
    open("elsewhere.yaml").fails(1, "sealed for another namespace").hints("test/db");
    folder.write("claimed.yaml", sealed.replace("shop", "test"));
    open("claimed.yaml").fails(1, "sealed for another key, name or set of namespaces");
    folder.write("renamed.yaml", sealed.replace("password:", "root:"));
    folder.seal(&["open", "renamed.yaml", "-i", "eu.txt", "--key", "root"]).fails(1, "sealed for another key");
    folder.write("later.yaml", sealed.replace("seal1.", "seal9."));
    open("later.yaml").fails(1, "only seal1 is");
    folder.write("plain.yaml", sealed.replace("seal1.", "hunter2."));
    let run = open("plain.yaml").fails(1, "not a sealed value");
    assert!(!run.stderr.contains("hunter2"));

    folder
        .seal(&["open", "sealed.yaml", "-i", "eu.txt", "--key", "pasword"])
        .fails(1, "no sealed key")
        .hints("did you mean `password`?");
    folder.seal(&["open", "gone.yaml", "-i", "eu.txt"]).fails(1, "gone.yaml");
    folder.seal(&["open", ".seal/keyrings/prod.yaml", "-i", "eu.txt"]).fails(1, "no SealedSecret");
}

#[test]
fn an_unknown_key_is_named_with_those_at_hand() {
    let (folder, _) = sealed_shop();
    std::fs::rename(folder.file(".seal/keyrings/prod.yaml"), folder.file("prod-ring.yaml")).unwrap();
    let open = ["open", "sealed.yaml", "-i", "recovery.txt", "--key", "password"];
    folder.seal(&open).fails(1, "which no ring at hand holds").hints("--ring");
    let given = [&open[..], &["--ring", "prod-ring.yaml"]].concat();
    assert_eq!(folder.seal(&given).succeeds().stdout, b"hunter2\n");
    folder.seal(&["ring", "new", "test", "--member", "eu=eu.pub"]).succeeds();
    folder.seal(&open).fails(1, "sealed to key ").hints("the ring `test` holds ");
}

#[test]
fn of_two_rings_that_hold_a_key_the_one_that_the_identity_opens_is_used() {
    let (folder, _) = sealed_shop();
    folder.write(".seal/keyrings/other.yaml", folder.read(".seal/keyrings/prod.yaml"));
    folder.seal(&["ring", "remove", "./.seal/keyrings/other.yaml", "eu", "-i", "recovery.txt"]).succeeds();
    let run = folder.seal(&["open", "sealed.yaml", "-i", "eu.txt", "--key", "password"]).succeeds();
    assert_eq!(run.stdout, b"hunter2\n");
    folder.seal(&["open", "-", "-i", "-"]).fails(2, "stdin can be read once only");
}

#[test]
fn many_documents_open_together_and_one_by_name() {
    let (folder, _) = sealed_shop();
    folder.write("more.yaml", format!("{}---\n{}", secret("a", "shop").0, secret("b", "test").0));
    folder.seal(&["more.yaml", "-w", "many.yaml"]).succeeds();
    let all = folder.seal(&["open", "many.yaml", "-i", "eu.txt"]).succeeds();
    assert_eq!(all.stdout().matches("kind: Secret\n").count(), 2);
    let one = folder.seal(&["open", "many.yaml", "-i", "eu.txt", "--name", "b"]).succeeds();
    assert!(one.stdout().contains("namespace: test") && one.stdout().matches("kind: Secret\n").count() == 1);
    folder.seal(&["open", "many.yaml", "-i", "eu.txt", "--key", "password"]).fails(1, "several").hints("--name");
    let value = folder.seal(&["open", "many.yaml", "-i", "eu.txt", "--key", "password", "--name", "b"]).succeeds();
    assert_eq!(value.stdout, b"hunter2\n");
}

#[test]
fn a_disabled_or_unproven_key_is_a_warning_in_recovery_and_a_no_in_a_drill() {
    let (folder, values) = sealed_shop();
    let id = folder.seal(&["ring", "status", "-o", "json"]).succeeds().json()[0]["keys"][0]["id"].clone();
    let verify = || folder.seal(&["verify", "sealed.yaml", "-i", "recovery.txt"]);
    assert_eq!(verify().succeeds().stdout(), "yes  sealed.yaml: shop/db\n");
    folder.seal(&["ring", "rotate", "prod", "-i", "eu.txt"]).succeeds();
    folder.seal(&["ring", "disable", "prod", id.as_str().unwrap(), "-i", "eu.txt"]).succeeds();

    let opened = folder.seal(&["open", "sealed.yaml", "-i", "eu.txt", "--key", "password"]).succeeds();
    assert_eq!(opened.stdout, values[0].1);
    assert!(opened.stderr.contains("is disabled"), "{}", opened.stderr);
    let drill = verify();
    assert_eq!((drill.code, drill.stdout()), (1, "no   sealed.yaml: shop/db\n"));
    assert!(drill.stderr.contains("is disabled"), "{}", drill.stderr);

    let ring = folder.read(".seal/keyrings/prod.yaml").replace("disabled: true", "disabled: false");
    let proof = ring.lines().find(|line| line.contains("proof: ")).unwrap();
    let other = if proof.contains("proof: A") { "proof: B" } else { "proof: A" };
    let at = ring.find("proof: ").unwrap();
    folder.write(".seal/keyrings/prod.yaml", format!("{}{other}{}", &ring[..at], &ring[at + other.len()..]));
    assert!(verify().stderr.contains("not proven"));
}

#[test]
fn a_drill_says_no_where_the_identity_is_no_member() {
    let (folder, _) = sealed_shop();
    folder.keygen("stranger");
    let run = folder.seal(&["verify", "sealed.yaml", "-i", "stranger.txt"]);
    assert_eq!((run.code, run.stdout()), (1, "no   sealed.yaml: shop/db\n"));
    folder.write("empty.yaml", "");
    folder.seal(&["verify", "empty.yaml", "-i", "eu.txt"]).fails(1, "no SealedSecret");
}

#[test]
fn a_drill_over_a_folder_passes_over_nothing() {
    let (folder, _) = sealed_shop();
    let sealed = folder.read("sealed.yaml");
    let utf16: Vec<u8> = format!("\u{feff}{sealed}").encode_utf16().flat_map(u16::to_le_bytes).collect();
    let verify = || folder.seal(&["verify", "apps", "-i", "eu.txt"]);
    folder.write("apps/good.yaml", &sealed);
    folder.write("apps/utf16.yml", utf16);
    // None of these is one: words about it, somebody else's, a template.
    folder.write("apps/README.md", format!("A SealedSecret holds `seal1.` values: [\n{sealed}"));
    folder.write("apps/other.yaml", "apiVersion: bitnami.com/v1alpha1\nkind: SealedSecret\n");
    folder.write("apps/template.yaml", "kind: SealedSecret\n{{ if .Values.x }}\n");
    let run = verify().succeeds();
    assert_eq!(run.stdout(), "yes  apps/good.yaml: shop/db\nyes  apps/utf16.yml: shop/db\n");
    let status = folder.seal(&["ring", "status", "prod", "apps", "-o", "json"]).succeeds().json();
    assert_eq!(
        status[0]["keys"][0]["files"],
        serde_json::json!(["apps/README.md", "apps/good.yaml", "apps/utf16.yml"])
    );

    for (name, content, message) in [
        ("later.yaml", sealed.replace("seal1.", "seal9."), "no   apps/later.yaml: shop/db\n"),
        ("plain.yaml", sealed.replace("seal1.", "hunter2."), "no   apps/plain.yaml: shop/db\n"),
        ("cut.yaml", format!("{sealed}---\nx: [\n"), "apps/cut.yaml: line "),
        (
            "number.yaml",
            sealed.split("encryptedData:").next().unwrap().to_owned() + "encryptedData: {a: 1}\n",
            "apps/number.yaml: the document at line 1 is not",
        ),
    ] {
        folder.write(&format!("apps/{name}"), content);
        let run = verify();
        let said = format!("{}{}", run.stdout(), run.stderr);
        assert!(run.code == 1 && said.contains(message) && said.contains("1 of 3"), "{said}");
        assert!(!said.contains("hunter2"), "{said}");
        std::fs::remove_file(folder.file(&format!("apps/{name}"))).unwrap();
    }
    verify().succeeds();
}

#[test]
fn lists_that_aliases_nest_for_ever_are_searched_at_once() {
    let folder = Folder::new();
    let mut text = "kind: List\na0: &a0 {kind: List, items: []}\n".to_owned();
    for level in 1..60 {
        text.push_str(&format!("a{level}: &a{level} {{kind: List, items: [*a{0}, *a{0}, *a{0}]}}\n", level - 1));
    }
    folder.write("nested.yaml", text + "items: [*a59]\nx: SealedSecret seal1.\n");
    folder.ring("prod", &["eu"]);
    assert!(folder.seal(&["ls", "."]).succeeds().stderr.contains("no SealedSecret"));
    folder.seal(&["set", "nested.yaml", "k"]).fails(1, "holds no SealedSecret");
    folder.seal(&["nested.yaml"]).succeeds();
}

#[test]
fn ls_tells_what_is_sealed_to_whom_for_whom() {
    let (folder, _) = sealed_shop();
    let listed = folder.seal(&["ls", "sealed.yaml", "-o", "json"]).succeeds().json();
    let object = &listed[0];
    assert_eq!((&object["file"], &object["document"]), (&"sealed.yaml".into(), &1.into()));
    assert_eq!((&object["namespace"], &object["name"]), (&"shop".into(), &"db".into()));
    assert_eq!(object["sealedFor"], serde_json::json!({"name": "db", "namespaces": ["shop"]}));
    let key = object["keys"].as_array().unwrap().iter().find(|key| key["key"] == "password").unwrap();
    let status = folder.seal(&["ring", "status", "-o", "json"]).succeeds().json();
    assert_eq!(key["keyId"], status[0]["keys"][0]["id"]);
    assert_eq!((&key["ring"], &key["place"], &key["bucket"]), (&"prod".into(), &"ok".into(), &64.into()));

    folder.write("apps/moved.yaml", folder.read("sealed.yaml").replace("shop", "test"));
    folder.write("chart/templates/x.yaml", "{{ if .Values.x }}\na: b\n{{ end }}\n");
    let text = folder.seal(&["ls"]).succeeds();
    assert!(text.stdout().starts_with("FILE"), "{}", text.stdout());
    let rows: Vec<_> = text.stdout().lines().filter(|line| line.contains("password")).collect();
    assert!(
        rows[0].starts_with("apps/moved.yaml") && rows[0].contains("test/db") && rows[0].ends_with("MOVED"),
        "{rows:?}"
    );
    assert!(rows[1].starts_with("sealed.yaml") && rows[1].contains("prod") && rows[1].ends_with("< 64 B"), "{rows:?}");
}

#[test]
fn ls_shows_references_to_vault_by_source() {
    let folder = Folder::new();
    folder.write(
        "vault.yaml",
        "apiVersion: sealwright.dev/v1alpha1\nkind: SealedSecret\nmetadata: {name: db, namespace: shop}\nspec:\n  vault:\n    storeRef: {name: main, namespace: platform}\n    data:\n    - {key: USER, mount: kv, path: app/db, field: username}\n    dataFrom:\n    - {mount: kv, path: app/env}\n",
    );
    let listed = folder.seal(&["ls", "vault.yaml", "-o", "json"]).succeeds().json();
    assert_eq!(
        listed[0]["vault"],
        serde_json::json!([
            {"key": "USER", "source": "kv/app/db#username", "store": "platform/main"},
            {"key": null, "source": "kv/app/env", "store": "platform/main"},
        ])
    );
}

#[test]
fn a_template_is_not_rendered_and_that_is_said() {
    let (folder, _) = sealed_shop();
    let sealed = folder.read("sealed.yaml");
    assert!(sealed.contains("  template:\n"), "labels are kept in the template: {sealed}");
    folder.write("sealed.yaml", sealed.replace("  template:\n", "  template:\n    data: {url: 'x{{ .password }}'}\n"));
    let run = folder.seal(&["open", "sealed.yaml", "-i", "eu.txt"]).succeeds();
    assert!(run.stderr.contains("not rendered"), "{}", run.stderr);
    assert!(!run.stdout().contains("url"));
}

#[test]
fn names_of_strangers_do_not_reach_the_terminal_as_commands() {
    let (folder, _) = sealed_shop();
    folder.write(
        "hostile.yaml",
        "apiVersion: sealwright.dev/v1alpha1\nkind: SealedSecret\nmetadata: {name: \"a\\e[2J\", namespace: \"b\\e]0;t\\a\"}\nspec: {sealedFor: {}, encryptedData: {\"k\\e[1A\": seal1.x}}\n",
    );
    for arguments in [
        &["ls", "hostile.yaml"][..],
        &["open", "hostile.yaml", "-i", "eu.txt"],
        &["verify", "hostile.yaml", "-i", "eu.txt"],
        &["set", "hostile.yaml", "--name", "x", "k"],
        &["unset", "hostile.yaml", "k"],
    ] {
        let run = folder.seal(arguments);
        let said = format!("{}{}", run.stdout(), run.stderr);
        assert!(said.contains("\\u{1b}") && !said.contains(|c: char| c.is_control() && c != '\n'), "{said:?}");
    }
}
