//! Identities, recipients and key ids: age's hybrid keys as age spells them.
//!
//! text <-> [`Recipient`], text <-> [`Identity`], [`Recipient`] -> [`KeyId`].
//!
//! Only the native post-quantum kind is accepted (`age1pq1...`, `AGE-SECRET-KEY-PQ-1...`, c2sp.org/age
//! "mlkem768x25519"), in its one canonical spelling. A single classic recipient would undo a whole ring.

use std::{fmt, str::FromStr};

use bech32::{Bech32Writer, FromBase32, ToBase32, Variant, u5};
use hpke::Deserializable;
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

use crate::{
    encoding::{base32_decode, base32_encode, digest},
    error::KeyError,
    kem::{self, PUBLIC_KEY, PrivateKey, PublicKey, SEED},
};

const RECIPIENT_HRP: &str = "age1pq";
/// Bech32 itself is written in lower case, age shows it in upper case.
const IDENTITY_HRP: &str = "age-secret-key-pq-";
const IDENTITY_PREFIX: &str = "AGE-SECRET-KEY-PQ-1";
/// Characters of a recipient: the prefix `age1pq1`, 1216 bytes in base32, six of checksum.
const RECIPIENT_TEXT: usize = 1959;
/// Characters of an identity: the prefix, 32 bytes in base32, six of checksum.
pub(crate) const IDENTITY_TEXT: usize = 77;
const KEY_ID_DOMAIN: &[u8] = b"sealwright.dev/key-id";

/// A public key to seal or to wrap to: `age1pq1` and 1952 more characters.
///
/// Made by `age-keygen -pq`, `seal keygen`, or a cluster. The parser refuses what gives no security (an X25519 half of
/// low order, an ML-KEM half that is not reduced), private keys, and all other kinds of age recipient.
#[derive(Clone, PartialEq, Eq)]
pub struct Recipient {
    text: String,
    key: Box<PublicKey>,
}

impl Recipient {
    /// The name of this key everywhere: in tokens, in status, in messages.
    pub fn key_id(&self) -> KeyId {
        let digest = digest(&[KEY_ID_DOMAIN, self.text.as_bytes()]);
        let mut id = [0; 20];
        id.copy_from_slice(&digest[..20]);
        KeyId(id)
    }

    /// The canonical text, `age1pq1...`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub(crate) fn public_key(&self) -> &PublicKey {
        &self.key
    }

    fn from_bytes(bytes: &[u8; PUBLIC_KEY]) -> Result<Self, KeyError> {
        let mut share = [0; 32];
        share.copy_from_slice(&bytes[PUBLIC_KEY - 32..]);
        if kem::is_low_order(&share) {
            return Err(KeyError::Weak);
        }
        let key = Box::new(PublicKey::from_bytes(bytes).map_err(|_| KeyError::Weak)?);
        let text = bech32::encode(RECIPIENT_HRP, bytes.to_base32(), Variant::Bech32).expect("the prefix is valid");
        Ok(Self { text, key })
    }
}

impl FromStr for Recipient {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        if is_identity(text) {
            return Err(KeyError::PrivateKey);
        }
        if !text.starts_with("age1pq1") {
            return Err(if text.starts_with("age1") { KeyError::NotHybrid } else { KeyError::Damaged });
        }
        if text.len() != RECIPIENT_TEXT {
            return Err(KeyError::Damaged);
        }
        let (hrp, data, variant) = bech32::decode(text).map_err(|_| KeyError::Damaged)?;
        let bytes = Vec::from_base32(&data).map_err(|_| KeyError::Damaged)?;
        let bytes = bytes.as_slice().try_into().map_err(|_| KeyError::Damaged)?;
        let recipient = Self::from_bytes(bytes)?;
        if hrp != RECIPIENT_HRP || variant != Variant::Bech32 || recipient.text != text {
            return Err(KeyError::Damaged);
        }
        Ok(recipient)
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recipient({})", self.key_id())
    }
}

/// A private key: a member's, or (inside a [`crate::RingKey`]) a ring's. It has no `Debug`, and clears itself.
///
/// Expanded once when it is made, which costs about as much as opening a value: keep it, do not parse it again.
#[derive(Clone)]
pub struct Identity {
    key: Box<PrivateKey>,
    recipient: Recipient,
}

impl Identity {
    /// Makes a new identity from the operating system's randomness.
    ///
    /// # Errors
    ///
    /// [`KeyError::NoRandomness`], and nothing else.
    pub fn generate() -> Result<Self, KeyError> {
        let mut seed = Zeroizing::new([0; SEED]);
        SystemRandom::new().fill(&mut *seed).map_err(|_| KeyError::NoRandomness)?;
        Self::from_seed(&seed)
    }

    /// Reads `AGE-SECRET-KEY-PQ-1...`, exactly as `age-keygen -pq` writes it, without white space around it.
    ///
    /// # Errors
    ///
    /// Refuses every other kind of key and every other spelling. The error never quotes the text.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        if text.starts_with("age1") {
            return Err(KeyError::PublicKey);
        }
        if !text.starts_with(IDENTITY_PREFIX) {
            return Err(if is_identity(text) { KeyError::NotHybrid } else { KeyError::Damaged });
        }
        if text.len() != IDENTITY_TEXT {
            return Err(KeyError::Damaged);
        }
        let (hrp, mut data, variant) = bech32::decode(text).map_err(|_| KeyError::Damaged)?;
        let bytes = Vec::from_base32(&data).map(Zeroizing::new);
        data.fill(u5::default());
        std::hint::black_box(&data);
        let bytes = bytes.map_err(|_| KeyError::Damaged)?;
        let seed = bytes.as_slice().try_into().map_err(|_| KeyError::Damaged)?;
        if !hrp.eq_ignore_ascii_case(IDENTITY_HRP) || variant != Variant::Bech32 {
            return Err(KeyError::Damaged);
        }
        Self::from_seed(seed)
    }

    /// Reads an identity file as age writes it: one identity a line, empty lines and `#` comments between.
    ///
    /// # Errors
    ///
    /// The number of the first line (from 1) that is none of these, and why; the number 0 where there is no identity.
    pub fn parse_file(text: &str) -> Result<Vec<Self>, (usize, KeyError)> {
        let mut identities = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if !line.is_empty() && !line.starts_with('#') {
                identities.push(Self::parse(line).map_err(|error| (number, error))?);
            }
        }
        if identities.is_empty() { Err((0, KeyError::Damaged)) } else { Ok(identities) }
    }

    /// The public half.
    pub fn recipient(&self) -> &Recipient {
        &self.recipient
    }

    /// The private key as age spells it. Whoever holds this text can open everything that is wrapped for it.
    pub fn to_secret_string(&self) -> Zeroizing<String> {
        // Written straight into its own buffer: an intermediate of bech32's could not be cleared.
        let mut text = Zeroizing::new(String::with_capacity(IDENTITY_TEXT + 1));
        let mut writer = Bech32Writer::new(IDENTITY_HRP, Variant::Bech32, &mut *text).expect("the prefix is valid");
        self.key.seed().write_base32(&mut writer).expect("a String takes every write");
        writer.finalize().expect("a String takes every write");
        text.make_ascii_uppercase();
        text
    }

    pub(crate) fn private_key(&self) -> &PrivateKey {
        &self.key
    }

    fn from_seed(seed: &[u8; SEED]) -> Result<Self, KeyError> {
        let key = Box::new(PrivateKey::from_seed(seed));
        let recipient = Recipient::from_bytes(&key.public_bytes())?;
        Ok(Self { key, recipient })
    }
}

/// The first 20 bytes of `SHA-256(LP("sealwright.dev/key-id"), LP(recipient))`, shown as 32 base32 characters.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyId([u8; 20]);

impl FromStr for KeyId {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        base32_decode(text).map(Self).ok_or(KeyError::Damaged)
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base32_encode(&self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Any age identity, whatever its kind and case.
fn is_identity(text: &str) -> bool {
    let prefix = b"AGE-SECRET-KEY-";
    text.len() >= prefix.len() && text.as_bytes()[..prefix.len()].eq_ignore_ascii_case(prefix)
}
