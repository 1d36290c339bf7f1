//! Two independent implementations read what we write, and we read what they write: Go's standard library (the
//! program in `interop/`) and stock age (pinned in `interop/age/`).

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::LazyLock,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use seal_envelope::{DataKey, Identity, Place, Recipient, RingKey, SealedFor, UnwrapError, open, seal};

mod go;

static INTEROP: LazyLock<PathBuf> = LazyLock::new(|| go::build("", ".", "interop"));

/// Value lengths around every kind of border: nothing, both sides of a bucket, powers of two and steps, the most.
const LENGTHS: [usize; 11] = [0, 1, 60, 61, 124, 4092, 4093, 5116, 5117, 70_000, 1_048_576];

struct Binding {
    name: Option<&'static str>,
    namespaces: &'static [&'static str],
    key: &'static str,
}

const BINDINGS: [Binding; 4] = [
    Binding { name: Some("db"), namespaces: &["shop"], key: "password" },
    Binding { name: Some("db.v2"), namespaces: &["shop-b", "shop", "shop-a"], key: "tls.crt" },
    Binding { name: None, namespaces: &["shop"], key: "_" },
    Binding { name: None, namespaces: &[], key: ".dockerconfigjson" },
];

impl Binding {
    fn sealed_for(&self) -> SealedFor {
        SealedFor::new(self.name, self.namespaces).unwrap()
    }

    fn data_key(&self) -> DataKey {
        DataKey::new(self.key).unwrap()
    }

    fn place(&self) -> Place {
        Place::new(self.namespaces.first().unwrap_or(&"any"), self.name.unwrap_or("any")).unwrap()
    }

    fn args(&self) -> Vec<String> {
        let mut args =
            vec!["-key".to_owned(), self.key.to_owned(), "-namespaces".to_owned(), self.namespaces.join(",")];
        args.extend(self.name.map(|name| format!("-name={name}")));
        args
    }
}

/// A folder with the private key in `identity` and the public one in `recipient`, as their owners keep them.
struct Keys {
    folder: tempfile::TempDir,
    identity: Identity,
}

impl Keys {
    fn new() -> Self {
        let keys = Self { folder: tempfile::tempdir().unwrap(), identity: Identity::generate().unwrap() };
        fs::write(keys.identity_file(), keys.identity.to_secret_string().as_bytes()).unwrap();
        fs::write(keys.recipient_file(), keys.identity.recipient().as_str()).unwrap();
        keys
    }

    fn identity_file(&self) -> PathBuf {
        self.folder.path().join("identity")
    }

    fn recipient_file(&self) -> PathBuf {
        self.folder.path().join("recipient")
    }
}

fn value(length: usize) -> Vec<u8> {
    (0..length).map(|i| (i % 251) as u8).collect()
}

fn interop(command: &str, key_flag: &str, key_file: &Path, binding: &Binding, input: &[u8]) -> Output {
    let mut args = vec![command.to_owned(), key_flag.to_owned(), key_file.to_str().unwrap().to_owned()];
    args.extend(binding.args());
    go::run(&INTEROP, args, input)
}

#[test]
fn the_standard_library_of_go_opens_what_we_seal() {
    let keys = Keys::new();
    for (binding, length) in BINDINGS.iter().flat_map(|binding| LENGTHS.map(|length| (binding, length))) {
        let token =
            seal(keys.identity.recipient(), &binding.sealed_for(), &binding.data_key(), &value(length)).unwrap();
        let opened = interop("open", "-i", &keys.identity_file(), binding, token.to_string().as_bytes());
        assert!(go::stdout(opened) == value(length), "{length} bytes");
    }
}

#[test]
fn we_open_what_the_standard_library_of_go_seals() {
    let keys = Keys::new();
    let ring_key = RingKey::from(keys.identity.clone());
    for (binding, length) in BINDINGS.iter().flat_map(|binding| LENGTHS.map(|length| (binding, length))) {
        let token = go::stdout(interop("seal", "-r", &keys.recipient_file(), binding, &value(length)));
        let token = std::str::from_utf8(&token).unwrap().trim_end().parse().unwrap();
        let opened = open(&ring_key, &binding.sealed_for(), &binding.data_key(), &binding.place(), &token).unwrap();
        assert!(*opened == value(length), "{length} bytes");
    }
}

#[test]
fn the_go_program_refuses_another_key_and_another_binding() {
    let (keys, others) = (Keys::new(), Keys::new());
    let [binding, elsewhere, ..] = &BINDINGS;
    let token = seal(keys.identity.recipient(), &binding.sealed_for(), &binding.data_key(), b"hunter2").unwrap();
    let token = token.to_string();
    for (file, binding, message) in
        [(others.identity_file(), binding, "sealed to key"), (keys.identity_file(), elsewhere, "sealed for another")]
    {
        let refused = interop("open", "-i", &file, binding, token.as_bytes());
        assert!(!refused.status.success() && refused.stdout.is_empty());
        assert!(String::from_utf8_lossy(&refused.stderr).contains(message));
    }
}

#[test]
fn stock_age_opens_our_wraps() {
    let age = go::build("age", "tool", "age");
    let (member, stranger) = (Keys::new(), Keys::new());
    let ring_key = Identity::generate().unwrap();
    let wrap = RingKey::from(ring_key.clone()).wrap(member.identity.recipient()).unwrap();

    let opened = go::stdout(go::run(&age, ["-d".as_ref(), "-i".as_ref(), member.identity_file().as_os_str()], &wrap));
    assert_eq!(opened, format!("{}\n", *ring_key.to_secret_string()).into_bytes());

    let refused = go::run(&age, ["-d".as_ref(), "-i".as_ref(), stranger.identity_file().as_os_str()], &wrap);
    assert!(!refused.status.success() && refused.stdout.is_empty());
}

/// The commands of docs/design/envelope.md, "With Go and age alone", as they stand there.
#[cfg(unix)]
#[test]
fn the_documented_way_without_any_program_of_ours_works() {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(manifest.join("../docs/design/envelope.md")).unwrap();
    let section = page.split("## With Go and age alone").nth(1).unwrap();
    let block = section.split("```console\n").nth(1).unwrap().split("```").next().unwrap();
    let commands: String =
        block.lines().filter_map(|line| line.strip_prefix("$ ")).map(|line| format!("{line}\n")).collect();

    let ring_key = RingKey::generate().unwrap();
    let member = Keys::new();
    let [binding, ..] = &BINDINGS;
    let token = seal(ring_key.recipient(), &binding.sealed_for(), &binding.data_key(), b"hunter2\n").unwrap();
    let wrap = BASE64_STANDARD.encode(ring_key.wrap(member.identity.recipient()).unwrap());
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("wrap.txt"), wrap).unwrap();
    fs::write(folder.path().join("token.txt"), format!("{token}\n")).unwrap();
    fs::copy(member.identity_file(), folder.path().join("recovery.txt")).unwrap();
    fs::copy(manifest.join("interop/main.go"), folder.path().join("main.go")).unwrap();

    let age = go::build("age", "tool", "age");
    let path = std::env::join_paths(
        [age.parent().unwrap().to_owned()].into_iter().chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    );
    let shown = Command::new("sh").args(["-euc", &commands]).env("PATH", path.unwrap()).current_dir(&folder).output();
    assert_eq!(go::stdout(shown.unwrap()), b"hunter2\n");
    assert!(block.contains("\nhunter2\n") && !folder.path().join("ring-key.txt").exists());
}

#[test]
fn we_unwrap_what_stock_age_wraps() {
    let age = go::build("age", "tool", "age");
    let member = Identity::generate().unwrap();
    let ring_key = Identity::generate().unwrap();
    let plaintext = format!("{}\n", *ring_key.to_secret_string());
    let wrap = go::stdout(go::run(&age, ["-r", member.recipient().as_str()], plaintext.as_bytes()));
    let unwrapped = RingKey::unwrap(&wrap, &member, ring_key.recipient()).unwrap();
    assert_eq!(unwrapped.id(), ring_key.recipient().key_id());

    let other = Identity::generate().unwrap();
    let two = ["-r", member.recipient().as_str(), "-r", other.recipient().as_str()];
    let wrap = go::stdout(go::run(&age, two, plaintext.as_bytes()));
    assert_eq!(RingKey::unwrap(&wrap, &member, ring_key.recipient()).err(), Some(UnwrapError::NotAWrap));
}

#[test]
fn identities_of_stock_age_and_ours_are_the_same_thing() {
    let keygen = go::build("age", "tool", "age-keygen");
    let theirs = String::from_utf8(go::stdout(go::run(&keygen, ["-pq"], b""))).unwrap();
    let identities = Identity::parse_file(&theirs).unwrap();
    let [identity] = identities.as_slice() else { panic!("one identity in the file") };
    let published = theirs.lines().find_map(|line| line.strip_prefix("# public key: ")).unwrap();
    assert_eq!(*identity.recipient(), published.parse::<Recipient>().unwrap());
    assert!(theirs.contains(identity.to_secret_string().as_str()));

    let ours = Keys::new();
    let published = go::stdout(go::run(&keygen, ["-y".as_ref(), ours.identity_file().as_os_str()], b""));
    assert_eq!(String::from_utf8(published).unwrap().trim_end(), ours.identity.recipient().as_str());

    let classic = String::from_utf8(go::stdout(go::run(&keygen, [""; 0], b""))).unwrap();
    assert!(Identity::parse_file(&classic).is_err());
}
