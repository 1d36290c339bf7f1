//! The community's vectors of age's hybrid recipients (`cctv/`), through the published age crate and our identity.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, io::Read, path::Path};

use age::{DecryptError, Decryptor, armor::ArmoredReader};
use ring::digest::{SHA256, digest};
use seal_envelope::Identity;

struct Vector {
    expect: String,
    payload: Option<String>,
    identities: Vec<Box<dyn age::Identity>>,
    file: Vec<u8>,
}

impl Vector {
    fn read(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap();
        let end = bytes.windows(2).position(|pair| pair == b"\n\n").unwrap();
        let mut vector =
            Self { expect: String::new(), payload: None, identities: Vec::new(), file: bytes[end + 2..].to_vec() };
        for line in std::str::from_utf8(&bytes[..end]).unwrap().lines() {
            match line.split_once(": ").unwrap() {
                ("expect", expect) => vector.expect = expect.to_owned(),
                ("payload", hash) => vector.payload = Some(hash.to_owned()),
                ("identity", text) if text.starts_with("AGE-SECRET-KEY-PQ-1") => {
                    vector.identities.push(Box::new(Identity::parse(text).unwrap()));
                }
                ("identity", text) => {
                    vector.identities.push(Box::new(text.parse::<age::x25519::Identity>().unwrap()));
                }
                ("compressed", "zlib") => {
                    let mut inflated = Vec::new();
                    flate2::read::ZlibDecoder::new(&*vector.file).read_to_end(&mut inflated).unwrap();
                    vector.file = inflated;
                }
                ("armored" | "file key" | "comment", _) => {}
                (field, _) => panic!("{path:?}: nobody knows {field}"),
            }
        }
        vector
    }

    /// Decrypts to the end, in the words of `expect`.
    fn verdict(&self) -> (&'static str, Option<Vec<u8>>) {
        let decryptor = Decryptor::new_buffered(ArmoredReader::new(&*self.file));
        let reader = decryptor.and_then(|file| file.decrypt(self.identities.iter().map(|identity| &**identity)));
        match reader {
            Ok(mut reader) => {
                let mut payload = Vec::new();
                match reader.read_to_end(&mut payload) {
                    Ok(_) => ("success", Some(payload)),
                    Err(_) => ("payload failure", Some(payload)),
                }
            }
            Err(DecryptError::NoMatchingKeys) => ("no match", None),
            Err(DecryptError::InvalidMac) => ("HMAC failure", None),
            Err(_) => ("header failure", None),
        }
    }
}

#[test]
fn all_hybrid_vectors_have_the_outcome_that_they_name() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cctv/testdata");
    let paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(paths.len(), 19);
    for path in paths {
        let vector = Vector::read(&path);
        let (verdict, payload) = vector.verdict();
        assert_eq!(verdict, vector.expect, "{path:?}");
        let hash = payload.map(|payload| digest(&SHA256, &payload));
        let hash = hash.map(|hash| hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        assert_eq!(hash, vector.payload, "{path:?}");
    }
}
