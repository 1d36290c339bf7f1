//! Runs every file of `vectors/`: a folder for each kind of input, a file for each input, accepted or refused.
//!
//! The files are made by `interop/vectors`, which shares nothing with this crate. Beside our own verdict, the pieces in
//! a file (shared secret, frame) are checked with x-wing and hpke as published, so that a vector that should be refused
//! for one reason is not refused for another.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeSet,
    fmt::Debug,
    fs,
    path::{Path, PathBuf},
};

use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use hpke::{Deserializable, OpModeR, aead::ChaCha20Poly1305, kdf::HkdfSha256, kem::XWing};
use ring::hmac;
use seal_envelope::{
    BindingError, DataKey, Identity, KeyId, Member, OpenError, Place, Proof, Recipient, Ring, RingError, RingKey,
    SealedFor, Token, open,
};
use x_wing::Decapsulate;

mod go;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors")
}

/// One file. Fields are taken out of it as they are used; one that nobody uses is an error.
struct Vector {
    path: PathBuf,
    fields: Vec<(String, String)>,
}

impl Vector {
    fn read(path: PathBuf) -> Self {
        let text = fs::read_to_string(&path).unwrap();
        let fields = text.lines().filter(|line| !line.starts_with('#')).map(|line| {
            let (field, value) = line.split_once(": ").unwrap_or_else(|| panic!("{path:?}: not a field: {line}"));
            let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
            (field.to_owned(), value.to_owned())
        });
        let fields = fields.collect();
        Self { path, fields }
    }

    fn all(&mut self, field: &str) -> Vec<String> {
        self.fields.extract_if(.., |(name, _)| name == field).map(|(_, value)| value).collect()
    }

    fn optional(&mut self, field: &str) -> Option<String> {
        let mut values = self.all(field);
        assert!(values.len() < 2, "{:?}: {field} twice", self.path);
        values.pop()
    }

    fn text(&mut self, field: &str) -> String {
        self.optional(field).unwrap_or_else(|| panic!("{:?}: no {field}", self.path))
    }

    fn bytes(&mut self, field: &str) -> Vec<u8> {
        from_hex(&self.text(field)).unwrap()
    }
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |c: u8| char::from(c).to_digit(16).filter(|_| !c.is_ascii_uppercase());
    let (pairs, odd) = text.as_bytes().as_chunks();
    let bytes = pairs.iter().map(|[high, low]| Some((digit(*high)? << 4 | digit(*low)?) as u8));
    bytes.collect::<Option<_>>().filter(|_| odd.is_empty())
}

/// Runs all files of one kind; `judge` gives what we make of a file in the words of its `expect`.
fn run(kind: &str, judge: impl Fn(&mut Vector) -> String) {
    let mut verdicts = BTreeSet::new();
    for entry in fs::read_dir(folder().join(kind)).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(path.extension().unwrap(), "txt", "{path:?} is no vector");
        let mut vector = Vector::read(path);
        let expected = vector.text("expect");
        assert_eq!(judge(&mut vector), expected, "{:?}", vector.path);
        assert!(vector.fields.is_empty(), "{:?}: nobody knows {:?}", vector.path, vector.fields[0].0);
        verdicts.insert(expected);
    }
    assert!(verdicts.len() > 1, "{kind}: vectors of one outcome only: {verdicts:?}");
}

/// An error as the vectors call it: its variant, in kebab case.
fn word(error: impl Debug) -> String {
    let debug = format!("{error:?}");
    let variant = debug.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap();
    let mut word = String::new();
    for c in variant.chars() {
        if c.is_ascii_uppercase() && !word.is_empty() {
            word.push('-');
        }
        word.push(c.to_ascii_lowercase());
    }
    word
}

fn verdict<T, E: Debug>(result: Result<T, E>, good: &str) -> String {
    result.map_or_else(word, |_| good.to_owned())
}

/// The identity of a seed; that our own seed is the file's is what the identity vectors check.
fn identity(seed: &[u8]) -> Identity {
    use bech32::{ToBase32, Variant};
    let text = bech32::encode("age-secret-key-pq-", seed.to_base32(), Variant::Bech32).unwrap();
    Identity::parse(&text.to_uppercase()).unwrap()
}

fn bound(vector: &mut Vector) -> Result<(SealedFor, DataKey), BindingError> {
    let (name, namespaces, key) = (vector.optional("name"), vector.all("namespace"), vector.text("data key"));
    Ok((SealedFor::new(name.as_deref(), namespaces)?, DataKey::new(&key)?))
}

#[test]
fn values() {
    run("value", |vector| {
        let seed = vector.bytes("seed");
        let ring_key = RingKey::from(identity(&seed));
        assert_eq!(ring_key.recipient().as_str(), vector.text("recipient"));
        assert_eq!(ring_key.id().to_string(), vector.text("key id"));
        let (sealed_for, key) = bound(vector).unwrap();
        let ctx = vector.bytes("ctx");
        assert_eq!(sealed_for.ctx(&key), ctx);
        let place = vector.text("place");
        let (namespace, name) = place.split_once('/').unwrap();
        let place = Place::new(namespace, name).unwrap();
        let text = vector.text("token");
        let token: Token = text.parse().unwrap();
        assert_eq!(token.to_string(), text);

        let payload = BASE64_URL_SAFE_NO_PAD.decode(text.rsplit_once('.').unwrap().1).unwrap();
        assert_eq!(
            independently_opened(&seed, &ctx, &payload),
            vector.optional("frame").map(|frame| from_hex(&frame).unwrap())
        );
        if let Some(enc) = vector.optional("enc") {
            let enc = from_hex(&enc).unwrap();
            assert!(payload.starts_with(&enc));
            let private = x_wing::DecapsulationKey::from(<[u8; 32]>::try_from(seed.as_slice()).unwrap());
            let secret = private.decapsulate(&enc.as_slice().try_into().unwrap());
            let expected = vector.bytes("shared secret");
            assert_eq!(secret.as_slice(), expected);
            let randomness: [u8; 64] = vector.bytes("randomness").try_into().unwrap();
            let (enc_again, secret_again) =
                x_wing::Decapsulator::encapsulation_key(&private).encapsulate_deterministic(&randomness.into());
            let is_low_order = enc_again.as_slice() != enc;
            assert_eq!(is_low_order, vector.path.file_name().unwrap().to_str().unwrap().starts_with("low-order"));
            assert_eq!(is_low_order, secret_again.as_slice() != expected);
        }

        match open(&ring_key, &sealed_for, &key, &place, &token) {
            Ok(value) => {
                assert_eq!(*value, vector.bytes("value"));
                "opened".to_owned()
            }
            Err(OpenError::Place(error)) => word(error),
            Err(error) => word(error),
        }
    });
}

/// What hpke makes of a message with its own X-Wing, which accepts shares of low order.
fn independently_opened(seed: &[u8], info: &[u8], payload: &[u8]) -> Option<Vec<u8>> {
    let private = Deserializable::from_bytes(seed).unwrap();
    let (enc, ciphertext) = payload.split_at(1120);
    let enc = Deserializable::from_bytes(enc).unwrap();
    hpke::single_shot_open::<ChaCha20Poly1305, HkdfSha256, XWing>(&OpModeR::Base, &private, &enc, info, ciphertext, b"")
        .ok()
}

/// The program on Go's standard library comes to the same verdicts; it knows no place, so those of places aside.
#[test]
fn values_in_go() {
    let interop = go::build("", ".", "interop");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("ring-key");
    run("value", |vector| {
        let expected = Vector::read(vector.path.clone()).text("expect");
        fs::write(&file, identity(&vector.bytes("seed")).to_secret_string().as_bytes()).unwrap();
        let (sealed_for, key) = bound(vector).unwrap();
        let namespaces = sealed_for.namespaces().join(",");
        let mut args = vec!["open", "-i", file.to_str().unwrap(), "-key", key.as_str(), "-namespaces", &namespaces];
        args.extend(sealed_for.name().into_iter().flat_map(|name| ["-name", name]));
        let output = go::run(&interop, args, vector.text("token").as_bytes());
        let accepts = ["opened", "other-name", "other-namespace"].contains(&expected.as_str());
        assert_eq!(output.status.success(), accepts, "{:?}: {}", vector.path, String::from_utf8_lossy(&output.stderr));
        if expected == "opened" {
            assert_eq!(output.stdout, vector.bytes("value"));
        }
        vector.fields.clear();
        expected
    });
}

#[test]
fn tokens() {
    run("token", |vector| {
        let text = vector.text("token");
        let parsed = text.parse::<Token>();
        assert!(parsed.as_ref().is_ok_and(|token| token.to_string() == text) || parsed.is_err());
        verdict(parsed, "token")
    });
}

#[test]
fn bindings() {
    run("binding", |vector| {
        let bound = bound(vector);
        if let Ok((sealed_for, key)) = &bound {
            assert_eq!(sealed_for.ctx(key), vector.bytes("ctx"));
            assert_eq!(sealed_for.tag(key).to_string(), vector.text("place tag"));
        }
        verdict(bound, "bound")
    });
}

#[test]
fn recipients() {
    run("recipient", |vector| {
        let text = vector.text("recipient");
        let parsed = text.parse::<Recipient>();
        if let Ok(recipient) = &parsed {
            assert_eq!(recipient.as_str(), text);
            let id = vector.text("key id");
            assert_eq!(recipient.key_id().to_string(), id);
            assert_eq!(recipient.key_id(), id.parse::<KeyId>().unwrap());
        }
        verdict(parsed, "accepted")
    });
}

#[test]
fn identities() {
    run("identity", |vector| {
        let text = vector.text("identity");
        let parsed = Identity::parse(&text);
        if let Ok(parsed) = &parsed {
            assert_eq!(*parsed.to_secret_string(), text);
            assert_eq!(parsed.recipient().as_str(), vector.text("recipient"));
            assert_eq!(parsed.recipient().key_id().to_string(), vector.text("key id"));
            assert_eq!(*identity(&vector.bytes("seed")).to_secret_string(), text);
        }
        verdict(parsed.map(drop), "accepted")
    });
}

#[test]
fn wraps() {
    run("wrap", |vector| {
        let member = Identity::parse(&vector.text("member identity")).unwrap();
        assert_eq!(*member.to_secret_string(), *identity(&vector.bytes("member seed")).to_secret_string());
        let expected: Recipient = vector.text("ring key recipient").parse().unwrap();
        let ring_key = RingKey::from(identity(&vector.bytes("ring key seed")));
        assert_eq!(*ring_key.recipient(), expected);
        let _ = (vector.bytes("file key"), vector.bytes("plaintext"));
        let wrap = BASE64_STANDARD.decode(vector.text("wrap")).unwrap();
        let unwrapped = RingKey::unwrap(&wrap, &member, &expected);
        if let Ok(unwrapped) = &unwrapped {
            assert_eq!(unwrapped.id(), expected.key_id());
        }
        verdict(unwrapped.map(drop), "unwrapped")
    });
}

#[test]
fn proofs() {
    fn ring(vector: &mut Vector) -> Result<Ring, RingError> {
        let name = vector.text("ring");
        let members = vector.all("member").into_iter().map(|member| {
            let (name, recipient) = member.split_once(' ').unwrap();
            Member { name: name.to_owned(), recipient: recipient.parse().unwrap() }
        });
        let members = members.collect();
        let keys = vector.all("key").iter().map(|key| key.parse().unwrap()).collect();
        Ring::new(&name, members, keys)
    }
    run("proof", |vector| {
        let ring = ring(vector);
        let seeds = vector.all("key seed");
        let ring = match ring {
            Ok(ring) => ring,
            Err(error) => return word(error),
        };
        let opened: Vec<_> = seeds.iter().map(|seed| RingKey::from(identity(&from_hex(seed).unwrap()))).collect();
        let proof = Proof(vector.bytes("proof").try_into().unwrap());
        let verified = ring.verify(&opened, &proof);
        if verified.is_ok() {
            assert_eq!(ring.prove(&opened).unwrap(), proof);
            let key = hmac::Key::new(hmac::HMAC_SHA256, &vector.bytes("hmac key"));
            assert_eq!(hmac::sign(&key, &vector.bytes("statement")).as_ref(), proof.0);
        }
        verdict(verified, "proven")
    });
}

#[test]
fn the_specification_shows_a_vector_as_it_is() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/design/envelope.md")).unwrap();
    let example =
        page.split("```text\n").find(|block| block.starts_with("seed ")).unwrap().split("```").next().unwrap();
    let mut vector = Vector::read(folder().join("value/strict.txt"));
    for field in ["seed", "key id", "shared secret"] {
        assert!(example.contains(&format!("{field:<15}{}\n", vector.text(field))), "{field}");
    }
    let token = vector.text("token");
    assert!(example.contains(&format!("{}...", &token[..64])), "{}", &token[..64]);
    assert!(page.contains(&format!("place          {}\n", token.split('.').nth(2).unwrap())));
}

#[test]
fn every_folder_is_run() {
    let folders: BTreeSet<_> =
        fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let known = ["binding", "identity", "proof", "recipient", "token", "value", "wrap"];
    assert_eq!(folders, known.map(str::to_owned).into());
}

#[test]
fn the_files_are_what_their_generator_makes() {
    fn files(folder: &Path) -> BTreeSet<(PathBuf, Vec<u8>)> {
        let kinds = fs::read_dir(folder).unwrap().map(|kind| kind.unwrap().path());
        let paths = kinds.flat_map(|kind| fs::read_dir(kind).unwrap()).map(|file| file.unwrap().path());
        paths.map(|path| (path.strip_prefix(folder).unwrap().to_owned(), fs::read(&path).unwrap())).collect()
    }
    let made = tempfile::tempdir().unwrap();
    go::stdout(go::run(&go::build("vectors", ".", "vectors"), [made.path()], b""));
    let (made, committed) = (files(made.path()), files(&folder()));
    let differing: Vec<_> = made.symmetric_difference(&committed).map(|(path, _)| path).collect();
    assert!(differing.is_empty(), "{differing:?}\nhint: cd envelope/interop/vectors && go run . ../../tests/vectors");
}
