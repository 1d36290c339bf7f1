//! `create`, `set`, `unset`, `value`: values that a person changes, one key at a time.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use self::support::Folder;

const MARKER: &str = "hunter2-marker";

fn folder() -> Folder {
    let folder = Folder::new();
    folder.ring("prod", &["recovery"]);
    folder.seal_with_stdin(&["create", "db.yaml", "-n", "shop", "--name", "db", "password"], b"first").succeeds();
    folder
}

fn opened(folder: &Folder, key: &str) -> Vec<u8> {
    folder.seal(&["open", "db.yaml", "-i", "recovery.txt", "--key", key]).succeeds().stdout
}

#[test]
fn a_file_is_created_changed_and_emptied() {
    let folder = folder();
    assert_eq!(opened(&folder, "password"), b"first");
    folder.seal_with_stdin(&["set", "db.yaml", "password"], MARKER.as_bytes()).succeeds();
    assert_eq!(opened(&folder, "password"), MARKER.as_bytes());
    folder.write("binary", [0, 255, 10]);
    folder.seal(&["set", "db.yaml", "--from-file", "bin=binary"]).succeeds();
    folder.seal_with_stdin(&["set", "db.yaml", "--from-file", "in=-"], b"piped").succeeds();
    assert_eq!((opened(&folder, "bin"), opened(&folder, "in")), (vec![0, 255, 10], b"piped".to_vec()));
    folder.seal(&["unset", "db.yaml", "bin", "in"]).succeeds();
    folder.seal(&["unset", "db.yaml", "pasword"]).fails(1, "no sealed `pasword`").hints("did you mean `password`?");
    let run = folder.seal(&["unset", "db.yaml", "password"]).succeeds();
    assert!(run.stderr.contains("no sealed value is left"));
    folder.seal_with_stdin(&["set", "db.yaml", "again"], b"x").succeeds();
    assert_eq!(opened(&folder, "again"), b"x");
}

#[test]
fn only_the_line_of_the_token_changes() {
    let folder = folder();
    folder.seal_with_stdin(&["set", "db.yaml", "url"], b"x").succeeds();
    let text =
        format!("# mine\n{}", folder.read("db.yaml").replace("    url: >-", "\n    # why: see wiki\n    url: >-"));
    let text = text.trim_end().replace('\n', "\r\n");
    folder.write("db.yaml", &text);
    folder.seal_with_stdin(&["set", "db.yaml", "password"], b"second").succeeds();
    let after = folder.read("db.yaml");
    let changed: Vec<_> = text.split('\n').zip(after.split('\n')).filter(|(before, after)| before != after).collect();
    assert_eq!((changed.len(), text.matches('\n').count()), (1, after.matches('\n').count()));
    assert!(changed[0].0.starts_with("      seal1.") && changed[0].1.ends_with('\r'));
}

#[test]
fn a_file_in_utf_16_stays_in_utf_16() {
    let folder = folder();
    let utf16: Vec<u8> = folder.read("db.yaml").encode_utf16().flat_map(u16::to_le_bytes).collect();
    folder.write("db.yaml", [b"\xff\xfe".to_vec(), utf16].concat());
    folder.seal_with_stdin(&["set", "db.yaml", "password"], b"second").succeeds();
    assert!(std::fs::read(folder.file("db.yaml")).unwrap().starts_with(b"\xff\xfea\0p\0i\0"));
    assert_eq!(opened(&folder, "password"), b"second");
}

#[test]
fn stdin_is_verbatim_and_a_final_line_break_is_pointed_out() {
    let folder = folder();
    let run = folder.seal_with_stdin(&["set", "db.yaml", "password"], b"with\n").succeeds();
    assert!(run.stderr.contains("ends in a line break") && run.stderr.contains("--trim"), "{}", run.stderr);
    assert_eq!(opened(&folder, "password"), b"with\n");
    let run = folder.seal_with_stdin(&["set", "db.yaml", "password", "--trim"], b"without\n").succeeds();
    assert!(!run.stderr.contains("line break"));
    assert_eq!(opened(&folder, "password"), b"without");
    let before = folder.read("db.yaml");
    folder.seal_with_stdin(&["set", "db.yaml", "password"], b"").fails(1, "stdin is empty").hints("/dev/null");
    folder.seal_with_stdin(&["set", "db.yaml", "a", "b"], b"x").fails(2, "stdin holds the value of one KEY");
    folder.seal(&["set", "db.yaml"]).fails(2, "no KEY was given");
    assert_eq!(folder.read("db.yaml"), before);
    folder.seal(&["set", "db.yaml", "--from-file", "password=/dev/null"]).succeeds();
    assert_eq!(opened(&folder, "password"), b"");
}

#[test]
fn a_value_on_the_command_line_is_refused_and_not_repeated() {
    let folder = folder();
    let pair = format!("password={MARKER}");
    let before = folder.read("db.yaml");
    for arguments in [
        vec!["set", "db.yaml", &pair],
        vec!["create", "new.yaml", "-n", "shop", "--name", "db", &pair],
        vec!["value", "--for", "shop/db", &pair],
    ] {
        let run =
            folder.seal_with_stdin(&arguments, b"x").fails(2, "not taken from the command line").hints("KEY alone");
        assert!(!run.stderr.contains(MARKER), "{}", run.stderr);
    }
    for stray in [
        &["value", "--for", "shop/db", "password", MARKER][..],
        &["set", "db.yaml", "password", "--trim=hunter2-marker"],
    ] {
        let run = folder.seal_with_stdin(stray, b"x").fails(2, "a word too many");
        assert!(!run.stderr.contains(MARKER), "{}", run.stderr);
    }
    assert_eq!(folder.read("db.yaml"), before);
    assert!(!folder.file("new.yaml").exists());
}

#[test]
fn create_takes_files_and_env_files_and_refuses_to_overwrite() {
    let folder = folder();
    folder.write(".env", "# comment\nA=1\nB=two words\n");
    folder.write("tls.crt", "CERT");
    let arguments = [
        "create",
        "web.yaml",
        "-n",
        "a,b",
        "--name",
        "web",
        "--type",
        "kubernetes.io/tls",
        "--from-env-file",
        ".env",
        "--from-file",
        "tls.crt",
    ];
    folder.seal(&arguments).succeeds();
    let object: serde_json::Value = serde_yaml::from_str(&folder.read("web.yaml")).unwrap();
    assert_eq!(object["spec"]["sealedFor"], serde_json::json!({"name": "web", "namespaces": ["a", "b"]}));
    assert_eq!(object["spec"]["template"], serde_json::json!({"type": "kubernetes.io/tls"}));
    let keys: Vec<_> = object["spec"]["encryptedData"].as_object().unwrap().keys().cloned().collect();
    assert_eq!(keys, ["A", "B", "tls.crt"]);
    folder.seal(&arguments).fails(1, "web.yaml exists already").hints("seal set web.yaml");
    folder.seal_with_stdin(&["create", "x.yaml", "--name", "x", "k"], b"v").fails(1, "names no namespace");
    folder.seal_with_stdin(&["create", "x.yaml", "-n", "shop", "--name", "X", "k"], b"v").fails(1, "for these names");
    let printed =
        folder.seal_with_stdin(&["create", "-", "-n", "shop", "--name", "x", "k", "-o", "json"], b"v").succeeds();
    assert_eq!(printed.json()["kind"], "SealedSecret");
}

#[test]
fn a_token_goes_to_any_path_of_a_values_file() {
    let folder = folder();
    let values = "# chart\nimage: x\ndb:\n  password: \"\"  # sealed\n  users:\n  - name: a\n";
    folder.write("values.yaml", values);
    let set = |at: &str| {
        folder.seal_with_stdin(&["set", "values.yaml", "--at", at, "--for", "shop/db", "password"], MARKER.as_bytes())
    };
    set("db.password").succeeds();
    let text = folder.read("values.yaml");
    let token = text.split('"').nth(1).unwrap().to_owned();
    assert!(token.starts_with("seal1."));
    assert_eq!(text.replace(&token, ""), values);
    set("db.users[0].token").succeeds();
    set("cache.auth.\"pass.word\"").succeeds();
    let object: serde_json::Value = serde_yaml::from_str(&folder.read("values.yaml")).unwrap();
    assert!(object["db"]["users"][0]["token"].as_str().unwrap().starts_with("seal1."));
    assert!(object["cache"]["auth"]["pass.word"].as_str().unwrap().starts_with("seal1."));
    let before = folder.read("values.yaml");
    set("db").fails(1, "holds a mapping or a list");
    set("db.users[7].x").fails(1, "db.users[7]");
    set("image.deep").fails(1, "`image`");
    set("db..x").fails(2, "--at is no path");
    assert_eq!(folder.read("values.yaml"), before);
    // The token is the one that a manifest would hold.
    let manifest = format!(
        "apiVersion: sealwright.dev/v1alpha1\nkind: SealedSecret\nmetadata: {{name: db, namespace: shop}}\nspec:\n  sealedFor: {{name: db, namespaces: [shop]}}\n  encryptedData: {{password: {token}}}\n"
    );
    let run = folder.seal_with_stdin(&["open", "-", "-i", "recovery.txt", "--key", "password"], manifest.as_bytes());
    assert_eq!(run.succeeds().stdout, MARKER.as_bytes());
}

#[test]
fn of_several_rings_more_goes_to_the_one_that_the_file_is_sealed_to() {
    let folder = folder();
    folder.ring("dev", &["developer"]);
    let run = folder.seal_with_stdin(&["set", "db.yaml", "more"], b"x").succeeds();
    assert!(run.stderr.contains("sealed to ring `prod`"), "{}", run.stderr);
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: db, namespace: shop}\nstringData: {merged: x}\n";
    folder.seal_with_stdin(&["-w", "db.yaml"], secret.as_bytes()).succeeds();
    assert_eq!((opened(&folder, "more"), opened(&folder, "merged")), (b"x".to_vec(), b"x".to_vec()));
    folder.write("values.yaml", "db: {}\n");
    let at = |path: &str, more: &[&str]| {
        let arguments = ["set", "values.yaml", "--at", path, "--for", "shop/db", "password"];
        folder.seal_with_stdin(&[&arguments, more].concat(), b"x")
    };
    at("db.first", &[]).fails(1, "nothing says which").hints("--to");
    at("db.first", &["--to", "dev"]).succeeds();
    assert!(at("db.second", &[]).succeeds().stderr.contains("sealed to ring `dev`"));
    at("db.third", &["--to", "prod"]).succeeds();
    at("db.fourth", &[]).fails(1, "nothing says which");
}

#[test]
fn more_that_goes_to_another_ring_than_the_file_is_told() {
    let folder = folder();
    std::fs::remove_file(folder.file(".seal/keyrings/prod.yaml")).unwrap();
    folder.ring("dev", &["developer"]);
    let told = |more: &[&str]| {
        folder.seal_with_stdin(&[&["set", "db.yaml", "more"][..], more].concat(), b"x").succeeds().stderr
    };
    assert!(
        told(&[]).contains(
            "warning: what is there is sealed to a ring that is not in .seal/keyrings; more is sealed to `dev`"
        )
    );
    assert!(!told(&["--to", "dev"]).contains("warning"));
}

#[test]
fn a_new_branch_of_a_values_file_is_told() {
    let folder = folder();
    folder.write("values.yaml", "db:\n  auth:\n    user: app\n");
    let at = |path: &str| {
        let arguments = ["set", "values.yaml", "--at", path, "--for", "shop/db", "password"];
        folder.seal_with_stdin(&arguments, b"x").succeeds().stderr
    };
    assert!(!at("db.auth.password").contains("warning"));
    let told = at("db.auht.deep.password");
    assert!(told.contains("warning: values.yaml: `db.auht` was not there, and was made"), "{told}");
    assert!(told.contains("hint: did you mean `auth`?"), "{told}");
}

#[test]
fn value_prints_one_token() {
    let folder = folder();
    let run = folder.seal_with_stdin(&["value", "--for", "shop/db", "password"], MARKER.as_bytes()).succeeds();
    assert!(run.stdout().starts_with("seal1.") && run.stdout().ends_with('\n') && run.stdout().lines().count() == 1);
    folder.seal_with_stdin(&["value", "--for", "shop", "password"], b"x").fails(2, "NAMESPACE/NAME");
    folder.seal_with_stdin(&["value", "--for", "shop", "--scope", "namespace", "password"], b"x").succeeds();
}

#[test]
fn one_of_several_objects_is_named() {
    let folder = folder();
    let one = folder.read("db.yaml");
    folder.write("all.yaml", format!("{one}---\n{}", one.replace("name: db", "name: cache")));
    let set = |arguments: &[&str]| folder.seal_with_stdin(&[&["set", "all.yaml", "new"], arguments].concat(), b"x");
    set(&[]).fails(2, "several SealedSecrets").hints("--name");
    set(&["--name", "nobody"]).fails(1, "no SealedSecret of this name");
    set(&["--name", "shop/cache"]).succeeds();
    let all = folder.read("all.yaml");
    assert!(all.starts_with(&format!("{one}---\n")) && all.contains("    new: >-\n"));
    folder.write("other.yaml", "kind: ConfigMap\n");
    folder.seal_with_stdin(&["set", "other.yaml", "k"], b"x").fails(1, "holds no SealedSecret").hints("seal create");
}

#[cfg(target_os = "linux")]
mod on_a_terminal {
    use std::{
        io::{Read as _, Write as _},
        process::{Child, Command, Stdio},
        time::{Duration, Instant},
    };

    use super::*;

    /// Runs `session` on a real terminal, made by `script`, up to where it asks and shows nothing of what is typed.
    fn asked(folder: &Folder, session: &str) -> Child {
        let session = format!("tty; {session}");
        let mut child = folder
            .command("script")
            .args(["--quiet", "--return", "--command", &session, "/dev/null"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("`script` is installed (util-linux)");
        let stdout = child.stdout.as_mut().unwrap();
        let mut shown = Vec::new();
        let mut byte = [0];
        while !String::from_utf8_lossy(&shown).contains("Value for password: ") {
            assert_eq!(stdout.read(&mut byte).unwrap(), 1, "no prompt: {}", String::from_utf8_lossy(&shown));
            shown.push(byte[0]);
        }
        let terminal = String::from_utf8_lossy(&shown).lines().next().unwrap().trim().to_owned();
        let started = Instant::now();
        loop {
            let state = Command::new("stty").args(["-a", "-F", &terminal]).output().unwrap();
            if String::from_utf8_lossy(&state.stdout).split_whitespace().any(|word| word == "-echo") {
                break;
            }
            assert!(started.elapsed() < Duration::from_secs(10), "the terminal goes on showing what is typed");
        }
        child
    }

    /// Types, and gives everything that is shown until the end.
    fn typed(child: &mut Child, keys: &[u8]) -> String {
        child.stdin.take().unwrap().write_all(keys).unwrap();
        let mut shown = String::new();
        child.stdout.take().unwrap().read_to_string(&mut shown).unwrap();
        shown
    }

    #[test]
    fn the_value_is_typed_unseen() {
        let folder = folder();
        let mut child = asked(&folder, &format!("exec {} set db.yaml password", env!("CARGO_BIN_EXE_seal")));
        let shown = typed(&mut child, format!("{MARKER}\n").as_bytes());
        assert!(child.wait().unwrap().success());
        assert!(!shown.contains(MARKER));
        assert_eq!(opened(&folder, "password"), MARKER.as_bytes());
    }

    #[test]
    fn an_interrupt_leaves_a_terminal_that_shows_what_is_typed() {
        let folder = folder();
        let before = folder.read("db.yaml");
        // The shell goes on after the interrupt, and tells how it finds the terminal.
        let session = format!("trap : INT; {} set db.yaml password; stty -a", env!("CARGO_BIN_EXE_seal"));
        let mut child = asked(&folder, &session);
        let shown = typed(&mut child, b"\x03");
        child.wait().unwrap();
        assert!(shown.split_whitespace().any(|word| word == "echo"), "{shown}");
        assert_eq!(folder.read("db.yaml"), before);
    }
}
