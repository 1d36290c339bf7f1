//! `seal vault add`: references to Vault, edited in place, offline.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use self::support::{Folder, Run};

fn folder() -> Folder {
    let folder = Folder::new();
    folder.ring("prod", &["recovery"]);
    folder.seal_with_stdin(&["create", "db.yaml", "-n", "shop", "--name", "db", "password"], b"first").succeeds();
    folder
}

fn add(folder: &Folder, more: &[&str]) -> Run {
    let arguments = ["vault", "add", "db.yaml", "--mount", "kv", "--path", "app/db", "--field", "f"];
    folder.seal(&[&arguments, more].concat())
}

#[test]
fn references_are_lines_of_their_own_and_every_other_byte_stays() {
    let folder = folder();
    let before = format!("# mine\n{}", folder.read("db.yaml")).replace('\n', "\r\n");
    folder.write("db.yaml", &before);
    add(&folder, &["DB_USER", "--store", "platform/main"]).succeeds();
    add(&folder, &["tls.p12", "--version", "4", "--decode", "base64"]).succeeds();
    add(&folder, &["y", "--kv", "1", "--store", "platform/main"]).succeeds();
    let added = "  vault:\n    storeRef: {name: main, namespace: platform}\n    data:\n    \
                 - {key: DB_USER, mount: kv, path: app/db, field: f}\n    \
                 - {key: tls.p12, mount: kv, path: app/db, field: f, version: 4, decode: Base64}\n    \
                 - {key: \"y\", mount: kv, path: app/db, field: f, kv: 1}\n";
    assert_eq!(folder.read("db.yaml"), before + &added.replace('\n', "\r\n"));

    let listed = folder.seal(&["ls", "-o", "json"]).succeeds().json();
    let of = |index: usize| ["key", "source", "store"].map(|field| listed[0]["vault"][index][field].clone());
    assert_eq!(of(0), ["DB_USER", "kv/app/db#f", "platform/main"]);
    assert_eq!(listed[0]["vault"].as_array().unwrap().len(), 3);
    let text = folder.seal(&["ls"]).succeeds();
    let line = text.stdout().lines().find(|line| line.contains("DB_USER")).unwrap().to_owned();
    assert!(line.contains("vault platform/main") && line.contains("kv/app/db#f"), "{line}");
}

#[test]
fn a_key_has_one_source_and_an_object_one_store() {
    let folder = folder();
    add(&folder, &["DB_USER", "--store", "main"]).succeeds();
    let before = folder.read("db.yaml");
    add(&folder, &["password"]).fails(1, "holds a sealed value for `password`").hints("seal unset db.yaml password");
    add(&folder, &["DB_USER"]).fails(1, "takes `DB_USER` from Vault already").hints("by hand");
    add(&folder, &["more", "--store", "other"]).fails(1, "from the store main").hints("another SealedSecret");
    let taken = "`DB_USER` is taken from Vault";
    folder.seal_with_stdin(&["set", "db.yaml", "DB_USER"], b"x").fails(1, taken).hints("spec.vault.data");
    folder.seal(&["unset", "db.yaml", "DB_USER"]).fails(1, "no sealed `DB_USER`").hints("it comes from Vault");
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: db, namespace: shop}\nstringData: {DB_USER: x}\n";
    folder.seal_with_stdin(&["-w", "db.yaml"], secret.as_bytes()).fails(1, taken);
    assert_eq!(folder.read("db.yaml"), before);
    // The object's own namespace may be said or not: it is the same store.
    add(&folder, &["more", "--store", "shop/main"]).succeeds();
    assert_eq!(folder.read("db.yaml"), before + "    - {key: more, mount: kv, path: app/db, field: f}\n");
}

#[test]
fn a_rule_names_the_default_store() {
    let folder = folder();
    add(&folder, &["a"]).fails(2, "nothing says which VaultStore").hints("vaultStore");
    folder.write(".seal/config.yaml", "rules:\n- path: '*.yaml'\n  vaultStore: platform/main\n");
    let explained = folder.seal(&["config", "explain", "db.yaml"]).succeeds();
    assert!(explained.stdout().contains("refers to the VaultStore platform/main\n"), "{}", explained.stdout());
    add(&folder, &["a"]).succeeds();
    assert!(folder.read("db.yaml").contains("storeRef: {name: main, namespace: platform}\n"));
    // A default gives way to what the file says.
    folder.write(".seal/config.yaml", "rules:\n- path: '*.yaml'\n  vaultStore: other\n");
    add(&folder, &["b"]).succeeds();
    folder.write(".seal/config.yaml", "rules:\n- path: '*.yaml'\n  vaultStore: a/b/c\n");
    folder.seal(&["config", "explain", "db.yaml"]).fails(1, "is no VaultStore").hints("platform/main");
}

#[test]
fn what_the_api_server_would_refuse_is_refused_here() {
    let folder = folder();
    let before = folder.read("db.yaml");
    let with = |mount: &str, path: &str, more: &[&str]| {
        let arguments =
            ["vault", "add", "db.yaml", "k", "--store", "s", "--field", "f", "--mount", mount, "--path", path];
        folder.seal(&[&arguments, more].concat())
    };
    for (mount, path) in [("", "a"), ("kv", "a/../b"), ("kv", "/a"), ("kv", "a%2e"), ("kv", "a?b"), ("kv//x", "a")] {
        with(mount, path, &[]).fails(2, if mount == "kv" { "--path" } else { "--mount" }).hints("vault kv get");
    }
    for mount in ["sys", "team-a/sys"] {
        with(mount, "policies", &[]).fails(2, "no KV engine").hints("vault secrets list");
    }
    with("kv", "a/auth", &["--kv", "1"]).fails(2, "--kv 1 does not allow").hints("use version 2");
    with("kv", "a/ b", &[]).fails(2, "ends with a space").hints("vault kv get");
    with("kv", "a", &["--kv", "1", "--version", "3"]).fails(2, "keeps no versions");
    add(&folder, &["not a key"]).fails(2, "none that a Secret can have");
    add(&folder, &["k", "--store", "Bad_Name"]).fails(2, "--store names no VaultStore").hints("platform/main");
    assert_eq!(folder.read("db.yaml"), before);
    let run = with("kv", "data/a", &[]).succeeds();
    assert!(run.stderr.contains("begins with `data/`"), "{}", run.stderr);
}

#[test]
fn a_secret_of_which_nothing_is_sealed_begins_with_its_first_reference() {
    let folder = Folder::new();
    let with = |file: &str, more: &[&str]| {
        let arguments =
            ["vault", "add", file, "USER", "--store", "main", "--mount", "kv", "--path", "a", "--field", "u"];
        folder.seal(&[&arguments, more].concat())
    };
    with("db.yaml", &[]).fails(1, "there is no file db.yaml").hints("--name NAMESPACE/NAME");
    with("db.yaml", &["--name", "shop/No_Name"]).fails(2, "--name names no Secret");
    with("db.yaml", &["--name", "shop/db"]).succeeds();
    with("db.yaml", &["--name", "shop/db"]).fails(1, "takes `USER` from Vault already");
    let made = "apiVersion: sealwright.dev/v1alpha1\nkind: SealedSecret\nmetadata: {name: db, namespace: shop}\nspec:\n  \
                vault:\n    storeRef: {name: main}\n    data:\n    - {key: USER, mount: kv, path: a, field: u}\n";
    assert_eq!(folder.read("db.yaml"), made);
    with("db.json", &["--name", "shop/db"]).succeeds();
    let json: serde_json::Value = serde_json::from_str(&folder.read("db.json")).unwrap();
    assert_eq!(json["spec"]["vault"]["data"][0]["key"], "USER");
    let listed = folder.seal(&["ls", "-o", "json"]).succeeds().json();
    assert_eq!((listed.as_array().unwrap().len(), &listed[1]["vault"][0]["store"]), (2, &"main".into()));
}
