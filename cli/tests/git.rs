//! Sealed files in Git: branches that change different keys of one file merge with plain `git merge`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use self::support::{Folder, run};

fn git(folder: &Folder, arguments: &[&str]) -> support::Run {
    let mut command = folder.command("git");
    for (name, value) in [("NAME", "t"), ("EMAIL", "t@example.com")] {
        command.env(format!("GIT_AUTHOR_{name}"), value).env(format!("GIT_COMMITTER_{name}"), value);
    }
    command.env("GIT_CONFIG_NOSYSTEM", "1");
    run(command.args(arguments), b"")
}

fn commit(folder: &Folder) {
    git(folder, &["add", "."]).succeeds();
    git(folder, &["commit", "--quiet", "-m", "change"]).succeeds();
}

/// A file with the keys b, d and f in it, on branch `main`.
fn repository() -> Folder {
    let folder = Folder::new();
    folder.ring("prod", &["recovery"]);
    git(&folder, &["init", "--quiet", "--initial-branch", "main"]).succeeds();
    folder.write("env", "b=1\nd=1\nf=1\n");
    folder.seal(&["create", "db.yaml", "-n", "shop", "--name", "db", "--from-env-file", "env"]).succeeds();
    commit(&folder);
    folder
}

/// Runs each change on a branch of its own, all from `main`, and merges them.
fn merged(folder: &Folder, changes: &[&[&str]]) -> Vec<i32> {
    for (number, change) in changes.iter().enumerate() {
        git(folder, &["checkout", "--quiet", "-b", &format!("branch-{number}"), "main"]).succeeds();
        folder.seal_with_stdin(change, b"new").succeeds();
        commit(folder);
    }
    git(folder, &["checkout", "--quiet", "main"]).succeeds();
    (0..changes.len())
        .map(|number| git(folder, &["merge", "--quiet", "--no-edit", &format!("branch-{number}")]).code)
        .collect()
}

fn opened(folder: &Folder, key: &str) -> Vec<u8> {
    folder.seal(&["open", "db.yaml", "-i", "recovery.txt", "--key", key]).succeeds().stdout
}

#[test]
fn branches_that_change_neighbouring_keys_merge() {
    let folder = repository();
    let codes = merged(&folder, &[&["set", "db.yaml", "b"], &["set", "db.yaml", "d"], &["set", "db.yaml", "f"]]);
    assert_eq!(codes, [0, 0, 0]);
    for key in ["b", "d", "f"] {
        assert_eq!(opened(&folder, key), b"new", "{key}");
    }
}

#[test]
fn branches_that_add_keys_in_different_places_merge() {
    let folder = repository();
    let codes = merged(&folder, &[&["set", "db.yaml", "a"], &["set", "db.yaml", "c"], &["set", "db.yaml", "g"]]);
    assert_eq!(codes, [0, 0, 0]);
    for key in ["a", "c", "g"] {
        assert_eq!(opened(&folder, key), b"new", "{key}");
    }
}

#[test]
fn branches_that_add_change_and_remove_merge() {
    let folder = repository();
    let codes = merged(&folder, &[&["set", "db.yaml", "a"], &["set", "db.yaml", "b"], &["unset", "db.yaml", "f"]]);
    assert_eq!(codes, [0, 0, 0]);
    assert_eq!((opened(&folder, "a"), opened(&folder, "b")), (b"new".to_vec(), b"new".to_vec()));
    assert!(!folder.read("db.yaml").contains("    f: >-"));
}

#[test]
fn a_changed_value_is_one_line_of_a_diff() {
    let folder = repository();
    folder.seal_with_stdin(&["set", "db.yaml", "d"], b"new").succeeds();
    let run = git(&folder, &["diff", "--numstat", "db.yaml"]).succeeds();
    assert_eq!(run.stdout(), "1\t1\tdb.yaml\n");
}

#[test]
fn branches_that_change_one_key_conflict() {
    let folder = repository();
    assert_eq!(merged(&folder, &[&["set", "db.yaml", "d"], &["set", "db.yaml", "d"]]), [0, 1]);
}
