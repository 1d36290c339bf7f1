//! What the fuzz targets run, one function for each parser: bytes from anywhere -> no panic, and one spelling.
//!
//! `tests/fuzz.rs` of the crate runs the same functions over its vectors and damaged copies of them, on stable.

use std::sync::LazyLock;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use seal_envelope::{DataKey, Identity, KeyId, OpenError, Place, Recipient, Ring, RingKey, SealedFor, Token, open};

/// Any key will do: nobody can make bytes that it opens.
static KEY: LazyLock<Identity> = LazyLock::new(|| Identity::generate().expect("the system gives randomness"));
static RING_KEY: LazyLock<RingKey> = LazyLock::new(|| KEY.clone().into());

/// A function that takes whatever it is given.
pub type Entry = fn(&[u8]);

/// All of them, by the name of their target.
pub const ENTRIES: [(&str, Entry); 8] = [
    ("binding", binding),
    ("identity", identity),
    ("key_id", key_id),
    ("payload", payload),
    ("recipient", recipient),
    ("ring", ring),
    ("token", token),
    ("wrap", wrap),
];

/// The text of a sealed value.
pub fn token(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    if let Ok(token) = text.parse::<Token>() {
        assert_eq!(token.to_string(), text);
        let _ = (token.key_id(), token.place(), token.bucket(), format!("{token:?}"));
    }
}

/// HPKE's message inside a well-spelt token that is in its place.
pub fn payload(data: &[u8]) {
    let sealed_for = SealedFor::new(Some("db"), ["shop"]).expect("valid names");
    let key = DataKey::new("password").expect("a valid key");
    let place = Place::new("shop", "db").expect("valid names");
    let payload = BASE64_URL_SAFE_NO_PAD.encode(data);
    let text = format!("seal1.{}.{}.{payload}", RING_KEY.id(), sealed_for.tag(&key));
    if let Ok(token) = text.parse::<Token>() {
        assert_eq!(open(&RING_KEY, &sealed_for, &key, &place, &token).err(), Some(OpenError::Forged));
    }
}

/// A recipient.
pub fn recipient(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    if let Ok(recipient) = text.parse::<Recipient>() {
        assert_eq!(recipient.as_str(), text);
    }
}

/// An identity, and a file of identities.
pub fn identity(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    if let Ok(identity) = Identity::parse(text) {
        assert_eq!(*identity.to_secret_string(), text);
    }
    let _ = Identity::parse_file(text).is_ok();
}

/// A key id.
pub fn key_id(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    if let Ok(id) = text.parse::<KeyId>() {
        assert_eq!(id.to_string(), text);
    }
}

/// Names, one a line: the Secret's, the data key, then namespaces.
pub fn binding(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let mut lines = text.split('\n');
    let (name, key) = (lines.next(), lines.next().unwrap_or_default());
    let (Ok(sealed_for), Ok(key)) = (SealedFor::new(name, lines), DataKey::new(key)) else { return };
    let ctx = sealed_for.ctx(&key);
    let names = sealed_for.name().map_or(0, str::len) + key.as_str().len();
    let namespaces: usize = sealed_for.namespaces().iter().map(|namespace| 4 + namespace.len()).sum();
    assert_eq!(ctx.len(), 4 + 26 + 4 + 4 + 4 + names + namespaces);
}

/// A wrap.
pub fn wrap(data: &[u8]) {
    assert!(RingKey::unwrap(data, &KEY, KEY.recipient()).is_err());
}

/// A ring's name.
pub fn ring(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let _ = Ring::new(text, Vec::new(), vec![KEY.recipient().clone()]);
}
