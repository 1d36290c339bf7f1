//! Ring keys: made, wrapped for members, unwrapped, and proven to belong together.
//!
//! [`RingKey`] -> wrap (an ordinary age file for one member) -> [`RingKey`]; [`Ring`] + all its opened keys -> [`Proof`].
//!
//! A wrap is a binary age file with exactly one `mlkem768x25519` stanza besides grease, whose plaintext is the ring
//! key's identity string and a line feed: `age -d -i recovery.txt` opens it anywhere, without any program of ours.
//!
//! ```text
//! K     = HKDF-SHA256(ikm = seeds of all ring keys in list order, salt = "", info = "sealwright.dev/ring-proof"), 32 bytes
//! proof = HMAC-SHA256(K, LP("sealwright.dev/ring") LP(ring name)
//!                        u32 count, for each member LP(name) LP(recipient)
//!                        u32 count, for each key    LP(recipient))
//! ```
//!
//! Lists are taken in their order. Only someone who can open every key of the ring can make its proof, so nobody else
//! can plant a key that people then seal to.

use std::io::{Read, Write};

use age_core::format::{FileKey, Stanza};
use ring::{hkdf, hmac};
use zeroize::Zeroizing;

use crate::{
    binding::is_label,
    encoding::{put, put_count},
    error::{KeyError, RingError, UnwrapError, WrapError},
    kem::PrivateKey,
    keys::{IDENTITY_TEXT, Identity, KeyId, Recipient},
    pq::STANZA_TAG,
};

/// The most bytes that a wrap may have. Ours have about 1,800.
pub const MAX_WRAP: usize = 4096;
/// The most members of a ring.
pub const MAX_MEMBERS: usize = 64;
/// The most keys of a ring.
pub const MAX_KEYS: usize = 64;
/// Bytes of a proof.
pub const PROOF: usize = 32;

const RING_DOMAIN: &[u8] = b"sealwright.dev/ring";
const PROOF_INFO: &[u8] = b"sealwright.dev/ring-proof";

/// The private half of a ring's key: what values are opened with. It has no `Debug`, and clears itself.
///
/// Its seed is the seed of an age identity and the private key of HPKE at once; HPKE's `info` keeps the two uses apart.
#[derive(Clone)]
pub struct RingKey {
    identity: Identity,
    id: KeyId,
}

impl RingKey {
    /// Makes a new ring key from the operating system's randomness.
    ///
    /// # Errors
    ///
    /// [`KeyError::NoRandomness`], and nothing else.
    pub fn generate() -> Result<Self, KeyError> {
        Identity::generate().map(Self::from)
    }

    /// The public half: what laptops seal to.
    pub fn recipient(&self) -> &Recipient {
        self.identity.recipient()
    }

    /// The name that tokens carry. Computed once.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// Wraps this key for one member.
    ///
    /// # Errors
    ///
    /// [`WrapError`] when the operating system gives no randomness, or not to the caller.
    pub fn wrap(&self, member: &Recipient) -> Result<Vec<u8>, WrapError> {
        let encryptor =
            age::Encryptor::with_recipients(std::iter::once(member as &dyn age::Recipient)).map_err(|_| WrapError)?;
        // Its buffer has room for the line feed, so no copy is left behind.
        let mut plaintext = self.identity.to_secret_string();
        plaintext.push('\n');

        let mut wrap = Vec::new();
        let mut writer = encryptor.wrap_output(&mut wrap).map_err(|_| WrapError)?;
        writer.write_all(plaintext.as_bytes()).map_err(|_| WrapError)?;
        writer.finish().map_err(|_| WrapError)?;
        Ok(wrap)
    }

    /// Opens the wrap of `member`, and checks that it holds the private half of `expected`.
    ///
    /// # Errors
    ///
    /// See [`UnwrapError`]. None of them tells what a wrap held.
    pub fn unwrap(wrap: &[u8], member: &Identity, expected: &Recipient) -> Result<Self, UnwrapError> {
        if wrap.len() > MAX_WRAP {
            return Err(UnwrapError::TooLarge);
        }
        let decryptor = age::Decryptor::new_buffered(wrap).map_err(|_| UnwrapError::NotAWrap)?;
        let reader = decryptor.decrypt(std::iter::once(&OnlyStanza(member) as &dyn age::Identity)).map_err(
            |error| match error {
                age::DecryptError::NoMatchingKeys => UnwrapError::OtherMember,
                _ => UnwrapError::NotAWrap,
            },
        )?;

        // One byte of room beyond the right length is enough to see that there is more.
        let mut plaintext = Zeroizing::new(Vec::with_capacity(IDENTITY_TEXT + 2));
        reader.take(IDENTITY_TEXT as u64 + 2).read_to_end(&mut plaintext).map_err(|_| UnwrapError::NotAWrap)?;
        let text = plaintext.strip_suffix(b"\n").ok_or(UnwrapError::NoKey)?;
        let text = std::str::from_utf8(text).map_err(|_| UnwrapError::NoKey)?;
        let identity = Identity::parse(text).map_err(|_| UnwrapError::NoKey)?;
        if identity.recipient() != expected {
            return Err(UnwrapError::OtherKey);
        }
        Ok(identity.into())
    }

    pub(crate) fn private_key(&self) -> &PrivateKey {
        self.identity.private_key()
    }
}

impl From<Identity> for RingKey {
    /// Takes an identity as a ring key: what `age -d` printed out of a wrap, say.
    fn from(identity: Identity) -> Self {
        let id = identity.recipient().key_id();
        Self { identity, id }
    }
}

/// A member's identity that accepts a header with exactly one stanza besides grease, and that one its own.
///
/// A second recipient, even of the same kind, would mean that somebody who is no member can open the ring.
struct OnlyStanza<'a>(&'a Identity);

impl age::Identity for OnlyStanza<'_> {
    fn unwrap_stanza(&self, stanza: &Stanza) -> Option<Result<FileKey, age::DecryptError>> {
        self.0.unwrap_stanza(stanza)
    }

    fn unwrap_stanzas(&self, stanzas: &[Stanza]) -> Option<Result<FileKey, age::DecryptError>> {
        let mut real = stanzas.iter().filter(|stanza| !stanza.tag.ends_with("-grease"));
        match (real.next(), real.next()) {
            (Some(stanza), None) if stanza.tag == STANZA_TAG => self.unwrap_stanza(stanza),
            _ => Some(Err(age::DecryptError::InvalidHeader)),
        }
    }
}

/// One who can open a ring: a cluster, or a person with a recovery identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// An RFC 1123 label of at most 63 characters, unique in the ring.
    pub name: String,
    /// To whom every key of the ring is wrapped.
    pub recipient: Recipient,
}

/// The public part of a ring: what its proof covers.
///
/// It is always consistent: at least one member and one key, nothing twice, and no member that is a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ring {
    name: String,
    members: Vec<Member>,
    keys: Vec<Recipient>,
}

impl Ring {
    /// Puts a ring together, lists in the order in which they stand in its manifest.
    ///
    /// # Errors
    ///
    /// See [`RingError`]; never [`RingError::OtherKeys`] nor [`RingError::Unproven`].
    pub fn new(name: &str, members: Vec<Member>, keys: Vec<Recipient>) -> Result<Self, RingError> {
        let is_name = |name: &str| name.len() <= 63 && is_label(name);
        if !is_name(name) || !members.iter().all(|member| is_name(&member.name)) {
            return Err(RingError::Name);
        }
        if members.is_empty() || members.len() > MAX_MEMBERS {
            return Err(RingError::MemberCount);
        }
        if keys.is_empty() || keys.len() > MAX_KEYS {
            return Err(RingError::KeyCount);
        }
        for (i, member) in members.iter().enumerate() {
            if members[..i].iter().any(|other| other.name == member.name || other.recipient == member.recipient) {
                return Err(RingError::RepeatedMember);
            }
            if keys.contains(&member.recipient) {
                return Err(RingError::MemberIsKey);
            }
        }
        if keys.iter().enumerate().any(|(i, key)| keys[..i].contains(key)) {
            return Err(RingError::RepeatedKey);
        }
        Ok(Self { name: name.to_owned(), members, keys })
    }

    /// The ring's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Who can open it.
    pub fn members(&self) -> &[Member] {
        &self.members
    }

    /// Its keys; the last one seals, all open.
    pub fn keys(&self) -> &[Recipient] {
        &self.keys
    }

    /// Proves that whoever calls this can open every key. `opened` are all keys of the ring in its order.
    ///
    /// # Errors
    ///
    /// [`RingError::OtherKeys`] when they are not.
    pub fn prove<'a>(&self, opened: impl IntoIterator<Item = &'a RingKey>) -> Result<Proof, RingError> {
        let tag = hmac::sign(&self.proof_key(opened)?, &self.statement());
        let mut proof = [0; PROOF];
        proof.copy_from_slice(tag.as_ref());
        Ok(Proof(proof))
    }

    /// Checks a proof, in constant time.
    ///
    /// # Errors
    ///
    /// [`RingError::OtherKeys`] when `opened` are not all keys of the ring in its order, [`RingError::Unproven`] when
    /// the proof was made for other members, other keys or another name.
    pub fn verify<'a>(&self, opened: impl IntoIterator<Item = &'a RingKey>, proof: &Proof) -> Result<(), RingError> {
        hmac::verify(&self.proof_key(opened)?, &self.statement(), &proof.0).map_err(|_| RingError::Unproven)
    }

    fn proof_key<'a>(&self, opened: impl IntoIterator<Item = &'a RingKey>) -> Result<hmac::Key, RingError> {
        let mut seeds = Zeroizing::new(Vec::with_capacity(self.keys.len() * 32));
        let mut listed = self.keys.iter();
        for key in opened {
            if listed.next() != Some(key.recipient()) {
                return Err(RingError::OtherKeys);
            }
            seeds.extend_from_slice(key.private_key().seed());
        }
        if listed.next().is_some() {
            return Err(RingError::OtherKeys);
        }
        let key = hkdf::Salt::new(hkdf::HKDF_SHA256, b"").extract(&seeds);
        let okm = key.expand(&[PROOF_INFO], hmac::HMAC_SHA256).expect("32 bytes are within HKDF's limit");
        Ok(okm.into())
    }

    fn statement(&self) -> Vec<u8> {
        let mut statement = Vec::new();
        put(&mut statement, RING_DOMAIN);
        put(&mut statement, self.name.as_bytes());
        put_count(&mut statement, self.members.len());
        for member in &self.members {
            put(&mut statement, member.name.as_bytes());
            put(&mut statement, member.recipient.as_str().as_bytes());
        }
        put_count(&mut statement, self.keys.len());
        for key in &self.keys {
            put(&mut statement, key.as_str().as_bytes());
        }
        statement
    }
}

/// What [`Ring::prove`] makes: 32 bytes, public.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Proof(pub [u8; PROOF]);
