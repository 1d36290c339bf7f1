//! Identities and rings, through the built binary: made, changed, refused.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs;

use self::support::{Folder, run};

#[test]
fn keygen_writes_a_private_file_once_and_prints_the_recipient_alone() {
    let folder = Folder::new();
    let run = folder.seal(&["keygen", "-w", "me.txt"]).succeeds();
    let recipient = run.stdout().strip_suffix('\n').unwrap();
    assert!(recipient.starts_with("age1pq1") && recipient.len() == 1959);

    let file = folder.read("me.txt");
    let lines: Vec<_> = file.lines().collect();
    assert!(lines[0].starts_with("# created: 20") && lines[0].ends_with('Z'));
    assert_eq!(lines[1], format!("# public key: {recipient}"));
    assert!(lines[2].starts_with("AGE-SECRET-KEY-PQ-1") && lines.len() == 3);
    assert!(!run.stderr.contains("AGE-SECRET-KEY"));
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(fs::metadata(folder.file("me.txt")).unwrap().permissions().mode() & 0o777, 0o600);
    }

    folder.seal(&["keygen", "-w", "missing/me.txt"]).fails(1, "cannot write").hints("mkdir -p missing");
    folder.seal(&["keygen", "-w", "me.txt"]).fails(1, "me.txt exists already").hints("-w");
    assert_eq!(folder.read("me.txt"), file);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file stays");
}

#[test]
fn keygen_into_a_pipe_prints_the_identity_and_tells_the_recipient() {
    let folder = Folder::new();
    let run = folder.seal(&["keygen"]).succeeds();
    assert!(run.stdout().lines().any(|line| line.starts_with("AGE-SECRET-KEY-PQ-1")));
    assert!(run.stderr.starts_with("public key: age1pq1"));
}

/// `script` gives the program a terminal.
#[cfg(target_os = "linux")]
#[test]
fn a_private_key_is_not_shown_on_a_terminal() {
    let folder = Folder::new();
    let line = format!("{} keygen", env!("CARGO_BIN_EXE_seal"));
    let run = run(folder.command("script").args(["-qec", &line, "/dev/null"]), b"");
    assert_eq!(run.code, 1);
    assert!(run.stdout().contains("hint: write it to a file: `seal keygen -w recovery.txt`"));
    assert!(!run.stdout().contains("AGE-SECRET-KEY"));
}

#[cfg(target_os = "linux")]
#[test]
fn an_identity_behind_a_passphrase_opens_after_asking_for_it() {
    let folder = Folder::new();
    let on_terminal = |arguments: &str, typed: &str| {
        let line = format!("{} {arguments}", env!("CARGO_BIN_EXE_seal"));
        run(folder.command("script").args(["-qec", &line, "/dev/null"]), typed.as_bytes())
    };
    let made = on_terminal("keygen --passphrase -w me.txt > me.pub", "open sesame\nopen sesame\n");
    assert_eq!(made.code, 0, "{}", made.stdout());
    assert!(folder.read("me.txt").starts_with("-----BEGIN AGE ENCRYPTED FILE-----\n"));
    assert!(folder.read("me.pub").starts_with("age1pq1"));

    folder.seal(&["ring", "new", "prod", "--member", "me=me.pub"]).succeeds();
    let opened = on_terminal("ring rotate prod --yes -i me.txt", "open sesame\n");
    assert_eq!(opened.code, 0, "{}", opened.stdout());
    let refused = on_terminal("ring rotate prod --yes -i me.txt", "open says me\n");
    assert_eq!(refused.code, 1);
    assert!(refused.stdout().contains("the passphrase does not open me.txt"), "{}", refused.stdout());
    folder.seal(&["ring", "new", "x", "--member", "me=me.txt"]).fails(1, "encrypted file").hints("age1pq1");
}

#[cfg(target_os = "linux")]
#[test]
fn on_a_terminal_a_change_is_shown_and_asked_about() {
    let folder = Folder::new();
    folder.ring("prod", &["eu"]);
    folder.keygen("us");
    let before = folder.read(".seal/keyrings/prod.yaml");
    let add = |answer: &str| {
        let line = format!("{} ring add prod --member us=us.pub -i eu.txt", env!("CARGO_BIN_EXE_seal"));
        run(folder.command("script").args(["-qec", &line, "/dev/null"]), answer.as_bytes())
    };
    let refused = add("n\n");
    assert_eq!(refused.code, 1);
    for text in ["+ member us ", "Add them? [y/N]", "not confirmed; nothing was changed"] {
        assert!(refused.stdout().contains(text), "{text}: {}", refused.stdout());
    }
    assert_eq!(folder.read(".seal/keyrings/prod.yaml"), before);
    assert_eq!(add("y\n").code, 0);
    assert_ne!(folder.read(".seal/keyrings/prod.yaml"), before);
}

#[cfg(target_os = "linux")]
#[test]
fn a_ring_that_changes_while_a_person_is_asked_is_left_alone() {
    use std::{
        io::{Read as _, Write as _},
        process::Stdio,
    };
    let folder = Folder::new();
    folder.ring("prod", &["eu"]);
    folder.keygen("us");
    let line = format!("{} ring add prod --member us=us.pub -i eu.txt", env!("CARGO_BIN_EXE_seal"));
    let mut command = folder.command("script");
    command.args(["-qec", &line, "/dev/null"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let (mut stdout, mut shown, mut byte) = (child.stdout.take().unwrap(), Vec::new(), [0]);
    while !String::from_utf8_lossy(&shown).contains("[y/N] ") {
        assert_eq!(stdout.read(&mut byte).unwrap(), 1, "no question: {}", String::from_utf8_lossy(&shown));
        shown.push(byte[0]);
    }
    folder.seal(&["ring", "rotate", "prod", "-i", "eu.txt"]).succeeds();
    let rotated = folder.read(".seal/keyrings/prod.yaml");
    child.stdin.take().unwrap().write_all(b"y\n").unwrap();
    stdout.read_to_end(&mut shown).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(1));
    assert!(String::from_utf8_lossy(&shown).contains("changed by someone else meanwhile"));
    assert_eq!(folder.read(".seal/keyrings/prod.yaml"), rotated);
}

#[test]
fn files_from_windows_editors_and_power_shell_are_read() {
    let utf16 = |text: &str| format!("\u{feff}{text}").encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let with_bom = |text: &str| format!("\u{feff}{}", text.replace('\n', "\r\n")).into_bytes();
    for encoded in [&utf16 as &dyn Fn(&str) -> Vec<u8>, &with_bom] {
        let folder = Folder::new();
        for name in ["me", "you"] {
            folder.keygen(name);
            for end in ["txt", "pub"] {
                let file = format!("{name}.{end}");
                folder.write(&file, encoded(&folder.read(&file)));
            }
        }
        folder.seal(&["ring", "new", "prod", "--member", "me=me.pub"]).succeeds();
        let ring = ".seal/keyrings/prod.yaml";
        folder.write(ring, encoded(&folder.read(ring)));
        folder.write(".seal/config.yaml", encoded("rules: [{path: '**', ring: prod, namespace: shop}]\n"));
        folder.write("env", encoded("A=1\n"));
        folder.seal(&["create", "a.yaml", "--name", "a", "--from-env-file", "env"]).succeeds();
        folder.seal(&["ring", "add", "prod", "--member", "you=you.pub", "-i", "me.txt"]).succeeds();
        let written = fs::read(folder.file(ring)).unwrap();
        assert!(written.starts_with(&encoded("apiVersion: sealwright.dev/v1alpha1\nkind: KeyRing\n")));
        let opened = folder.seal(&["open", "a.yaml", "-i", "you.txt", "--key", "A"]).succeeds();
        assert_eq!(opened.stdout, b"1");

        folder.write(ring, encoded(&format!("kind: KeyRing\nx: {}\n", "AGE-SECRET-KEY-PQ-1QQQ")));
        folder.seal(&["value", "--for", "a/b", "A", "--to", "prod"]).fails(1, "a private key stands");
    }
}

#[test]
fn another_manifest_is_no_ring() {
    let folder = Folder::new();
    folder.ring("prod", &["eu"]);
    let ring = folder.read(".seal/keyrings/prod.yaml");
    for text in [
        ring.replace("kind: KeyRing", "kind: ConfigMap"),
        ring.replace("v1alpha1", "v9"),
        ring.replace("kind: KeyRing\n", ""),
        format!("{ring}---\n{ring}"),
        String::new(),
    ] {
        folder.write("ring.yaml", text);
        folder.seal_with_stdin(&["value", "--for", "a/b", "k", "--to", "ring.yaml"], b"x").fails(1, "not a KeyRing");
    }
}

#[test]
fn a_ring_is_one_manifest_to_commit_and_apply() {
    let folder = Folder::new();
    folder.ring("prod", &["prod-eu", "recovery"]);
    let text = folder.read(".seal/keyrings/prod.yaml");
    let manifest: serde_json::Value = serde_yaml::from_str(&text).unwrap();
    assert_eq!(manifest["apiVersion"], "sealwright.dev/v1alpha1");
    assert_eq!(manifest["kind"], "KeyRing");
    assert_eq!(manifest["metadata"], serde_json::json!({"name": "prod", "namespace": "sealwright-system"}));
    let spec = &manifest["spec"];
    assert_eq!(spec["members"][0]["name"], "prod-eu");
    assert_eq!(spec["members"][1]["recipient"], folder.read("recovery.pub").trim());
    assert_eq!(spec["keys"].as_array().unwrap().len(), 1);
    assert_eq!(spec["keys"][0]["wraps"].as_object().unwrap().keys().collect::<Vec<_>>(), ["prod-eu", "recovery"]);
    assert_eq!(spec["proof"].as_str().unwrap().len(), 44);
    assert!(!text.contains("AGE-SECRET-KEY"));

    folder
        .seal(&["ring", "new", "prod", "--member", "a=recovery.pub"])
        .fails(1, "exists already")
        .hints("seal ring add prod");
    assert_eq!(folder.read(".seal/keyrings/prod.yaml"), text);
}

#[test]
fn a_ring_with_one_member_is_called_unrecoverable() {
    let folder = Folder::new();
    let recipient = folder.keygen("eu");
    let run = folder.seal(&["ring", "new", "prod", "--member", &format!("eu={recipient}"), "-w", "-"]).succeeds();
    assert!(run.stderr.contains("warning: `eu` is the only member"), "{}", run.stderr);
    assert!(run.stdout().contains("kind: KeyRing"));
    assert!(!folder.file(".seal").exists());

    let piped = folder.seal_with_stdin(&["ring", "new", "test", "--member", "eu=-"], recipient.as_bytes());
    piped.succeeds();
    let status = folder.seal(&["ring", "status"]).succeeds();
    assert!(status.stderr.contains("`eu` is the only member"), "{}", status.stderr);
    assert!(folder.file(".seal/keyrings/test.yaml").exists());
}

#[test]
fn a_private_key_is_refused_and_never_echoed() {
    let folder = Folder::new();
    folder.ring("prod", &["eu"]);
    let identity = folder.read("eu.txt");
    let secret = identity.lines().last().unwrap();
    let member = format!("me={secret}");
    for arguments in [
        vec!["ring", "new", "x", "--member", "me=eu.txt"],
        vec!["ring", "new", "x", "--member", &member],
        vec!["ring", "new", "x", "--member", secret],
        vec!["ring", "add", "prod", "--member", "me=eu.txt", "-i", "eu.txt"],
        vec!["ring", "rotate", "prod", "-i", secret],
        vec!["ring", "rotate", secret, "-i", "eu.txt"],
        vec!["ring", "rotate", "prod", secret, "-i", "eu.txt"],
        vec!["ring", "status", secret],
        vec!["ring", secret],
        vec!["open", secret, "-i", "eu.txt"],
        vec!["ls", secret],
        vec![secret],
    ] {
        let run = folder.seal(&arguments);
        assert_ne!(run.code, 0);
        assert!(!run.stderr.contains(&secret[..40]) && run.stdout.is_empty(), "{arguments:?}: {}", run.stderr);
    }
    folder.seal(&["ring", "new", "x", "--member", "me=eu.txt"]).fails(1, "private key").hints("# public key:");
    assert!(!folder.file(".seal/keyrings/x.yaml").exists());
}

#[test]
fn what_is_no_recipient_is_refused_with_advice() {
    let folder = Folder::new();
    let recipient = folder.keygen("eu");
    folder.write("classic.pub", "age1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq\n");
    folder.write("cut.pub", &recipient[..1000]);
    folder.write("empty.pub", "# nothing\n");
    for (file, message) in [
        ("classic.pub", "post-quantum"),
        ("cut.pub", "no usable recipient"),
        ("empty.pub", "no usable recipient"),
        ("gone.pub", "no file"),
    ] {
        folder.seal(&["ring", "new", "x", "--member", &format!("me={file}")]).fails(1, message);
    }
    folder.seal(&["ring", "new", "x", "--member", "eu.pub"]).fails(2, "has no name").hints("NAME=FILE");
    folder
        .seal(&["ring", "new", "x", "--member", "a=eu.pub", "--member", "b=eu.pub"])
        .fails(1, "share a name or a recipient");
    folder.seal(&["ring", "new", "X_", "--member", "a=eu.pub"]).fails(1, "no valid name");
    folder.seal(&["ring", "new", "x"]).fails(2, "--member");
}

#[test]
fn a_key_of_a_ring_is_no_member() {
    let folder = Folder::new();
    folder.ring("prod", &["eu"]);
    let manifest: serde_json::Value = serde_yaml::from_str(&folder.read(".seal/keyrings/prod.yaml")).unwrap();
    let key = manifest["spec"]["keys"][0]["recipient"].as_str().unwrap();
    folder.seal(&["ring", "new", "test", "--member", &format!("me={key}")]).fails(1, "is a key of the ring `prod`");
}

#[test]
fn rotation_appends_and_status_tells_what_is_still_needed() {
    let folder = Folder::new();
    folder.ring("prod", &["eu", "recovery"]);
    let status = || folder.seal(&["ring", "status", "-o", "json"]).succeeds().json();
    let first = status()[0]["keys"][0]["id"].as_str().unwrap().to_owned();
    folder.write(
        "values.yaml",
        format!("db:\n  password: seal1.{first}.aaaaaaaa.AAAA\n  # {{{{ not YAML\n  x: seal1.{first}.b\n"),
    );
    folder.write("ignored.yaml", format!("a: seal1.{first}.aaaaaaaa.AAAA\n"));
    folder.write(".gitignore", "ignored.yaml\n");
    fs::create_dir(folder.file(".git")).unwrap();

    let run = folder.seal(&["ring", "rotate", "prod", "-i", "recovery.txt"]).succeeds();
    assert!(run.stderr.contains("kubectl apply --server-side -f .seal/keyrings/prod.yaml"));
    let status = status();
    let keys = status[0]["keys"].as_array().unwrap();
    assert_eq!(keys.len(), 2);
    assert_eq!(
        (&keys[0]["id"], &keys[0]["state"], &keys[0]["values"]),
        (&first.as_str().into(), &"opens".into(), &2.into())
    );
    assert_eq!((&keys[1]["state"], &keys[1]["values"]), (&"seals".into(), &0.into()));
    assert!(keys[0]["files"][0].as_str().unwrap().ends_with("values.yaml"));
    assert_eq!(status[0]["members"][1]["name"], "recovery");

    let text = folder.seal(&["ring", "status", "prod", "-i", "eu.txt"]).succeeds();
    assert!(text.stdout().contains("proven") && text.stdout().contains("2 values in 1 file"), "{}", text.stdout());
    folder
        .seal(&["ring", "rotate", "prdo", "-i", "recovery.txt"])
        .fails(1, "no key ring `prdo`")
        .hints("did you mean `prod`?");
}

#[test]
fn a_disabled_key_stays_disabled_and_the_last_one_cannot_be() {
    let folder = Folder::new();
    folder.ring("prod", &["eu"]);
    let id = |position: usize| {
        let status = folder.seal(&["ring", "status", "prod", "-o", "json"]).succeeds().json();
        status[0]["keys"][position]["id"].as_str().unwrap().to_owned()
    };
    let first = id(0);
    folder
        .seal(&["ring", "disable", "prod", &first, "-i", "eu.txt"])
        .fails(1, "cannot be disabled")
        .hints("ring rotate prod");
    folder.seal(&["ring", "rotate", "prod", "-i", "eu.txt"]).succeeds();
    let arguments = ["set", "values.yaml", "--at", "a.b", "--for", "shop/db", "k", "--to", "prod"];
    folder.write("values.yaml", "a: {}\n");
    folder.seal_with_stdin(&arguments, b"x").succeeds();
    folder.write("old.yaml", folder.read("values.yaml").replace(&id(1), &first));
    let run = folder.seal(&["ring", "disable", "prod", &first[..8], "-i", "eu.txt"]).succeeds();
    assert!(run.stderr.contains("no cluster will open any more:\n  old.yaml\nhint: seal those"), "{}", run.stderr);
    folder.seal(&["ring", "disable", "prod", "zzz", "-i", "eu.txt"]).fails(1, "no key begins with `zzz`").hints(&id(1));
    folder.seal(&["ring", "rotate", "prod", "-i", "eu.txt"]).succeeds();
    let status = folder.seal(&["ring", "status", "prod", "-i", "eu.txt"]).succeeds();
    assert_eq!(status.stdout().matches("disabled").count(), 1);
}

#[test]
fn only_members_change_a_ring_and_a_tampered_one_is_left_alone() {
    let folder = Folder::new();
    folder.ring("prod", &["eu", "recovery"]);
    folder.keygen("stranger");
    folder
        .seal(&["ring", "rotate", "prod", "-i", "stranger.txt"])
        .fails(1, "no member of the ring `prod`")
        .hints("eu, recovery");
    folder.seal(&["ring", "rotate", "prod", "-i", "eu.pub"]).fails(1, "holds no identity").hints("public half");
    folder.write("note.txt", "my key is at home\n");
    folder
        .seal(&["ring", "rotate", "prod", "-i", "note.txt"])
        .fails(1, "line 1")
        .hints("a line AGE-SECRET-KEY-PQ-1...");
    folder.seal(&["ring", "rotate", "prod"]).fails(2, "--identity");

    // A pull request makes the stranger a member: it cannot make the proof.
    let good = folder.read(".seal/keyrings/prod.yaml");
    let tampered = good.replacen(folder.read("recovery.pub").trim(), folder.read("stranger.pub").trim(), 1);
    folder.write(".seal/keyrings/prod.yaml", &tampered);
    folder.seal(&["ring", "rotate", "prod", "-i", "eu.txt"]).fails(1, "not proven").hints("git log -p");
    folder.seal(&["ring", "rotate", "prod", "-i", "stranger.txt"]).fails(1, "the wrap is not for this member");
    assert_eq!(folder.read(".seal/keyrings/prod.yaml"), tampered);
}

#[test]
fn a_ring_of_another_repository_is_pinned_from_its_file() {
    let folder = Folder::new();
    folder.ring("prod", &["eu", "recovery"]);
    fs::rename(folder.file(".seal/keyrings/prod.yaml"), folder.file("given.yaml")).unwrap();
    fs::remove_dir_all(folder.file(".seal")).unwrap();
    let run = folder.seal(&["init", "given.yaml"]).succeeds();
    assert!(run.stderr.contains("+ member recovery") && run.stderr.contains("+ key "), "{}", run.stderr);
    assert!(folder.read(".seal/config.yaml").contains("# rules:"));

    // The same again changes nothing; a changed one is shown, and needs consent.
    folder.write(".seal/config.yaml", "rules: [] # mine\n");
    assert!(folder.seal(&["init", "given.yaml"]).succeeds().stderr.contains("as it was pinned"));
    folder.seal(&["ring", "rotate", "./given.yaml", "-i", "eu.txt"]).succeeds();
    let refused = folder.seal(&["init", "given.yaml"]).fails(1, "nobody to ask").hints("--yes");
    assert!(refused.stderr.contains("  + key "), "{}", refused.stderr);
    folder.seal(&["init", "given.yaml", "--yes"]).succeeds();
    let status = folder.seal(&["ring", "status", "prod", "-o", "json"]).succeeds().json();
    assert_eq!(status[0]["keys"].as_array().unwrap().len(), 2);
    assert_eq!(folder.read(".seal/config.yaml"), "rules: [] # mine\n");

    folder.seal(&["init"]).fails(2, "where the key ring is to come from").hints("--from-cluster");
    folder.seal(&["init", "--from-cluster"]).fails(1, "no usable kubeconfig").hints("KUBECONFIG");
}

#[test]
fn config_explain_tells_the_winner_the_shadowed_and_the_unreachable() {
    let folder = Folder::new();
    folder.ring("prod", &["eu"]);
    folder.write(
        ".seal/config.yaml",
        "rules:\n- {path: 'apps/**', ring: prod, scope: namespace}\n- {path: '**/*.yaml', namespace: shop}\n- {path: 'apps/db/*.yaml'}\n- {path: 'test/*'}\n",
    );
    let run = folder.seal(&["config", "explain", "apps/db/x.yaml"]).succeeds();
    let line = |number: &str| run.stdout().lines().find(|line| line.starts_with(number)).unwrap().to_owned();
    assert!(line("1 ").ends_with("wins") && line("1 ").contains("ring prod, scope namespace"));
    assert!(line("2 ").ends_with("matches too, and comes too late"));
    assert!(line("3 ").contains("can never win: rule 1"));
    assert!(line("4 ").ends_with("nothing"));
    assert!(run.stdout().contains("seals to the ring prod"));
}

#[test]
fn completions_and_manual_pages_name_every_verb() {
    let folder = Folder::new();
    for shell in ["bash", "zsh", "fish"] {
        assert!(folder.seal(&["completion", shell]).succeeds().stdout().contains("keygen"), "{shell}");
    }
    assert!(
        folder.seal(&["man"]).succeeds().stdout().starts_with(".ie")
            || folder.seal(&["man"]).stdout().contains(".TH seal")
    );
    folder.seal(&["man", "--dir", "pages"]).succeeds();
    assert!(folder.read("pages/seal-ring-add.1").contains("recovery.txt"));
}

#[test]
fn a_member_that_is_not_there_is_not_mistaken_for_another() {
    let folder = Folder::new();
    folder.ring("prod", &["prod-eu", "prod-us", "recovery"]);
    let run = folder
        .seal(&["ring", "remove", "prod", "prod-ap", "-i", "recovery.txt"])
        .fails(1, "no member `prod-ap`")
        .hints("its members are: prod-eu, prod-us, recovery");
    assert!(!run.stderr.contains("did you mean"), "{}", run.stderr);
}

#[test]
fn what_is_no_identity_is_called_what_it_is() {
    let folder = Folder::new();
    folder.ring("prod", &["eu"]);
    folder.seal_with_stdin(&["create", "db.yaml", "-n", "shop", "--name", "db", "k"], b"x").succeeds();
    folder.write("db.json", r#"{"apiVersion": "v1", "kind": "Secret"}"#);
    folder.write("pretty.json", "{\n  \"kind\": \"Secret\"\n}\n");
    folder.write("id_ed25519", "-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n");
    for (file, kind) in [
        ("db.yaml", "is a SealedSecret"),
        (".seal/keyrings/prod.yaml", "is a key ring"),
        ("pretty.json", "is a Secret"),
        ("id_ed25519", "is a PEM file"),
        ("eu.pub", "line 1, holds no identity"),
    ] {
        folder.seal(&["open", "db.yaml", "-i", file]).fails(1, kind).hints("`seal keygen -w`");
    }
    folder.seal(&["open", "db.yaml", "-i", "db.json"]).fails(1, "holds no identity");
}

#[test]
fn the_folder_of_a_repository_is_its_top() {
    let folder = Folder::new();
    folder.keygen("eu");
    let member = folder.file("eu.pub");
    std::fs::create_dir_all(folder.file("repo/.git")).unwrap();
    std::fs::create_dir_all(folder.file("repo/apps/shop")).unwrap();
    let mut command = folder.command(env!("CARGO_BIN_EXE_seal"));
    command.current_dir(folder.file("repo/apps/shop"));
    let run = support::run(command.args(["ring", "new", "prod", "--member", &format!("eu={}", member.display())]), b"");
    assert!(run.succeeds().stderr.contains("commit ../../.seal/keyrings/prod.yaml"));
    assert!(folder.file("repo/.seal/keyrings/prod.yaml").exists() && !folder.file("repo/apps/shop/.seal").exists());
    let mut command = folder.command(env!("CARGO_BIN_EXE_seal"));
    command.current_dir(folder.file("repo/apps"));
    let run = support::run(command.args(["init", "../.seal/keyrings/prod.yaml"]), b"");
    assert!(run.succeeds().stderr.ends_with("next: commit ../.seal/\n"));
}

#[test]
fn a_member_that_is_there_is_not_added_again() {
    let folder = Folder::new();
    folder.ring("prod", &["eu", "recovery"]);
    folder.keygen("other");
    let before = folder.read(".seal/keyrings/prod.yaml");
    for (member, hint) in [
        ("eu=eu.pub", "nothing to do"),
        ("eu=other.pub", "another name"),
        ("again=eu.pub", "one identity is one member"),
    ] {
        folder
            .seal(&["ring", "add", "prod", "--member", member, "-i", "recovery.txt"])
            .fails(1, "the ring `prod` has a member `eu` already")
            .hints(hint);
    }
    let twice = ["ring", "add", "prod", "--member", "a=other.pub", "--member", "b=other.pub", "-i", "recovery.txt"];
    folder.seal(&twice).fails(1, "the members `a` and `b` share a name or a recipient").hints("of its own");
    assert_eq!(folder.read(".seal/keyrings/prod.yaml"), before);
}
