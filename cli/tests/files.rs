//! Files that cannot be written, and pipes that close: a clear error, and the old file as it was.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    fs,
    os::unix::fs::{PermissionsExt as _, symlink},
    process::Stdio,
};

use self::support::{Folder, run};

const SECRET: &str =
    "apiVersion: v1\nkind: Secret\nmetadata: {name: db, namespace: shop}\nstringData: {password: hunter2-marker}\n";

fn folder() -> Folder {
    let folder = Folder::new();
    folder.ring("prod", &["recovery"]);
    folder.seal_with_stdin(&["-w", "sealed.yaml"], SECRET.as_bytes()).succeeds();
    folder
}

/// What lies in the folder itself.
fn names(folder: &Folder) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_full_disk_leaves_the_old_file() {
    let folder = folder();
    let (before, names_before) = (folder.read("sealed.yaml"), names(&folder));
    // The kernel refuses to write more than one block, as a full disk would; the signal that comes with it is off.
    let script = format!("trap '' XFSZ; ulimit -f 1; exec {} -w sealed.yaml", env!("CARGO_BIN_EXE_seal"));
    let run = run(folder.command("sh").args(["-c", &script]), SECRET.as_bytes());
    run.fails(1, "cannot write sealed.yaml").hints("nothing was changed");
    assert_eq!((folder.read("sealed.yaml"), names(&folder)), (before, names_before), "no temporary file is left");
    let run = folder.seal_with_stdin(&["-w", "/dev/full"], SECRET.as_bytes());
    run.fails(1, "cannot write /dev/full");
}

#[test]
fn what_cannot_be_written_says_why() {
    let folder = folder();
    folder
        .seal_with_stdin(&["-w", "missing/sealed.yaml"], SECRET.as_bytes())
        .fails(1, "cannot write")
        .hints("mkdir -p missing");
    fs::create_dir(folder.file("directory")).unwrap();
    folder.seal_with_stdin(&["-w", "directory"], SECRET.as_bytes()).fails(1, "cannot read directory");
    fs::set_permissions(folder.file("sealed.yaml"), fs::Permissions::from_mode(0o444)).unwrap();
    let before = folder.read("sealed.yaml");
    folder.seal_with_stdin(&["-w", "sealed.yaml"], SECRET.as_bytes()).fails(1, "it is read-only").hints("-w");
    assert_eq!(folder.read("sealed.yaml"), before);
    symlink("nowhere", folder.file("dangling.yaml")).unwrap();
    folder.seal_with_stdin(&["-w", "dangling.yaml"], SECRET.as_bytes()).fails(1, "dangling.yaml");
    folder.seal(&["sealed.yaml", "-w", "./sealed.yaml"]).fails(2, "both read and written").hints("--in-place");
    folder.seal(&["missing.yaml"]).fails(1, "there is no file missing.yaml").hints("looked for from");
    folder.seal(&["directory"]).fails(1, "cannot read directory").hints("*.yaml");
    folder.seal(&["crate"]).fails(1, "there is no file crate").hints("did you mean `seal create`?");
}

#[test]
fn symlinks_and_modes_stay() {
    let folder = folder();
    fs::create_dir(folder.file("real")).unwrap();
    fs::rename(folder.file("sealed.yaml"), folder.file("real/sealed.yaml")).unwrap();
    fs::set_permissions(folder.file("real/sealed.yaml"), fs::Permissions::from_mode(0o604)).unwrap();
    symlink("real/sealed.yaml", folder.file("sealed.yaml")).unwrap();
    folder.seal_with_stdin(&["set", "sealed.yaml", "more"], b"x").succeeds();
    assert!(fs::symlink_metadata(folder.file("sealed.yaml")).unwrap().is_symlink());
    assert!(folder.read("real/sealed.yaml").contains("    more: >-\n"));
    assert_eq!(fs::metadata(folder.file("real/sealed.yaml")).unwrap().permissions().mode() & 0o777, 0o604);
}

#[test]
fn a_new_file_is_readable_as_the_umask_says() {
    let folder = folder();
    let script = format!("umask 022; exec {} -w new.yaml", env!("CARGO_BIN_EXE_seal"));
    run(folder.command("sh").args(["-c", &script]), SECRET.as_bytes()).succeeds();
    assert_eq!(fs::metadata(folder.file("new.yaml")).unwrap().permissions().mode() & 0o777, 0o644);
}

#[test]
fn plaintext_is_in_no_file() {
    let folder = folder();
    folder.write("all.yaml", SECRET);
    folder.seal(&["--in-place", "all.yaml"]).succeeds();
    for name in names(&folder) {
        let path = folder.file(&name);
        if path.is_file() {
            assert!(!String::from_utf8_lossy(&fs::read(&path).unwrap()).contains("hunter2-marker"), "{name}");
        }
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let folder = folder();
    let mut secret = SECRET.to_owned();
    for number in 0..40 {
        secret.push_str(&format!("---\n{}", SECRET.replace("name: db", &format!("name: db-{number}"))));
    }
    folder.write("many.yaml", secret);
    let script =
        format!("{{ {} many.yaml; echo \"code $?\" >&2; }} | head -c 10 >/dev/null", env!("CARGO_BIN_EXE_seal"));
    let run = run(folder.command("sh").args(["-c", &script]), b"");
    assert_eq!(run.stderr, "code 0\n");
}

#[test]
fn closed_standard_streams_are_errors_and_no_panics() {
    let folder = folder();
    let script = |redirect: &str| {
        let script = format!("exec {} {redirect}", env!("CARGO_BIN_EXE_seal"));
        folder.command("sh").args(["-c", &script]).stdin(Stdio::null()).output().unwrap()
    };
    let closed_stdin = script("<&-");
    assert_eq!(closed_stdin.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&closed_stdin.stderr).contains("holds no document"));
    folder.write("secret.yaml", SECRET);
    assert_eq!(script("secret.yaml 2>&-").status.code(), Some(0));
    // Whoever closes stdout wants no output: what else was asked for is done.
    assert_eq!(script("secret.yaml >&-").status.code(), Some(0));
    assert_eq!(script("secret.yaml -w closed.yaml >&-").status.code(), Some(0));
    assert!(folder.read("closed.yaml").contains("seal1."));
    let full = script("secret.yaml >/dev/full");
    assert_eq!(full.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&full.stderr).contains("cannot write to stdout"));
}

#[test]
fn the_file_that_was_asked_for_is_named_and_no_other() {
    let folder = folder();
    // Not even root may write into /proc.
    for path in ["/proc/self/sealed.yaml", "missing/sealed.yaml"] {
        let run = folder.seal_with_stdin(&["-w", path], SECRET.as_bytes()).fails(1, &format!("cannot write {path}: "));
        assert!(!run.stderr.contains(".tmp") && !run.stderr.contains("at path"), "{}", run.stderr);
    }
}

#[test]
fn a_command_line_that_is_refused_has_hints() {
    let folder = Folder::new();
    for (arguments, message, hint) in [
        (
            &["set", "a.yaml", "--form-file", "k=f"][..],
            "unexpected argument `--form-file`",
            "did you mean `--from-file`?",
        ),
        (&["--from-cluster"], "unexpected argument `--from-cluster`", "is a flag of `seal init`"),
        (&["ring", "ad"], "unrecognized subcommand `ad`", "did you mean `add`?"),
        (&["create"], "what is missing: --name <NAME>, <FILE>", "`seal create --help` says more"),
        (&["ls", "-o", "xml"], "invalid value `xml`", "it is one of: text, json"),
        (&["a.yaml", "--scope", "cluter"], "invalid value `cluter`", "did you mean `cluster`?"),
    ] {
        folder.seal(arguments).fails(2, message).hints(hint);
    }
    folder.seal(&["seal", "a.yaml"]).fails(1, "there is no file seal").hints("without a verb");
    assert!(folder.seal(&["--help"]).succeeds().stdout().contains("Usage: seal"));
}

#[test]
fn a_refusal_says_what_helps() {
    let folder = Folder::new();
    folder.ring("prod", &["recovery"]);
    let secret =
        |head: &str, data: &str| format!("{head}kind: Secret\nmetadata: {{name: db, namespace: shop}}\n{data}\n");
    let typed = secret("apiVersion: v1\n", "stringData: {a: b}");
    folder.write("empty.env", "# nothing\n");
    for (arguments, stdin, message, hint) in [
        (&["--scope", "namespace", "-n", "shop,shop"][..], &*typed, "listed twice", "each namespace once"),
        (&[], &secret("apiVersion: v2\n", ""), "without `apiVersion: v1`", "write `apiVersion: v1`"),
        (&[], &secret("apiVersion: v1\n", "stringData: [a]"), "`stringData` is not a mapping", "KEY: VALUE"),
        (&["create", "-", "-n", "a", "--name", "b", "--from-env-file", "empty.env"], "", "no KEY=VALUE", "--from-file"),
    ] {
        folder.seal_with_stdin(arguments, stdin.as_bytes()).fails(1, message).hints(hint);
    }
    let many: String = (0..30).map(|number| format!(" k{number}: x\n")).collect();
    let many = secret("apiVersion: v1\n", &format!("stringData:\n{many}"));
    let told = folder.seal_with_stdin(&["-w", "many.yaml"], many.as_bytes()).succeeds().stderr;
    assert!(told.contains("k9 and 20 more sealed"), "{told}");
    let twice = folder.seal_with_stdin(&[], format!("{typed}---\n{typed}").as_bytes()).succeeds();
    assert!(twice.stderr.contains("`shop/db` is there twice"), "{}", twice.stderr);
    // An anchor ends with its document: what follows is no Secret that Kubernetes would read.
    let alias = format!("x: &v PLAIN\n---\n{}", secret("apiVersion: v1\n", "stringData: {a: *v}"));
    folder.seal_with_stdin(&[], alias.as_bytes()).fails(1, "no anchor before it");
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("nowhere", folder.file("link.yaml")).unwrap();
        let run = folder.seal_with_stdin(&["-w", "link.yaml"], typed.as_bytes());
        run.fails(1, "is a link to a file that is not there").hints("remove the link");
    }
}
