//! The `seal1` sealed value and the ring keys that open it.
//!
//! ```text
//! Recipient + SealedFor + DataKey + value --seal--> Token            (public key only)
//! RingKey   + SealedFor + DataKey + Place + Token --open--> value    (nothing opens without a Place)
//! RingKey   --wrap--> age file for one member --unwrap--> RingKey
//! Ring      + all its RingKeys --prove / verify--> Proof
//! ```
//!
//! # What is bound and what is not
//!
//! A value is bound to its data key, to the name of the Secret and to the set of namespaces that it was sealed for
//! ([`SealedFor`]); an absent part means any. It opens nowhere else, and cannot be moved. Its length is hidden up to
//! a bucket. Confidentiality is hybrid: it holds as long as either X25519 or ML-KEM-768 does.
//!
//! Not given, by design: *authorship* (anyone who has the public key can seal), *freshness* (an old value opens as
//! well as a new one) and *revocation* (who could open once can open that for ever).
//!
//! # The format
//!
//! `docs/design/envelope.md` in the repository is the specification, with reasons and test vectors; this is the whole of
//! it in short. Nothing is negotiated: another suite, field or encoding is another version.
//!
//! ```text
//! LP(b)       = u32 big-endian length of b, then b
//! identity    = 32-byte seed; Bech32, upper case: AGE-SECRET-KEY-PQ-1...
//!               the seed is X-Wing's private key (SHAKE256 expands it), never HPKE's DeriveKeyPair of it
//! recipient   = ML-KEM-768 key (1184 bytes), X25519 key (32); Bech32, lower case: age1pq1...
//! key id      = base32(SHA-256(LP("sealwright.dev/key-id") LP(recipient))[..20])
//!
//! ctx         = LP("sealwright.dev/seal1/value") LP(name) u32 n, n times LP(namespace), LP(data key)
//!               no name: empty; no namespaces: n = 0; namespaces unique and in byte order
//! frame       = u32 4 + length of the value, value, zeros up to 64, 128, ... 4096, or a multiple of 1024
//! enc, ct     = HPKE SealBase(recipient, info = ctx, aad = "", frame), RFC 9180
//!               KEM X-Wing 0x647a, KDF HKDF-SHA256 1, AEAD ChaCha20-Poly1305 3
//! place       = base32(SHA-256(ctx)[..5])
//! token       = "seal1." key id "." place "." base64url(enc ct)
//!
//! wrap        = binary age file, at most 4096 bytes, one mlkem768x25519 stanza besides grease,
//!               plaintext: an identity and a line feed
//! K           = HKDF-SHA256(ikm = seeds of all keys, salt = "", info = "sealwright.dev/ring-proof")
//! proof       = HMAC-SHA256(K, LP("sealwright.dev/ring") LP(ring name)
//!                              u32 members, each LP(name) LP(recipient)
//!                              u32 keys,    each LP(recipient))
//! ```
//!
//! base32 is RFC 4648's in lower case, base64url is without padding, every number is big-endian, and each text has one
//! accepted spelling. X25519 shares and public keys of low order are refused, as are ML-KEM keys that are not reduced,
//! padding that is not zero, and any bucket but the smallest.
//!
//! # Which of these do you need
//!
//! * To seal: [`seal()`] with the [`Recipient`] of a ring's last key.
//! * To open: [`RingKey::unwrap`] with a member's [`Identity`], then [`open()`].
//! * To make or change a ring: [`RingKey::generate`], [`RingKey::wrap`], [`Ring::prove`].
//!
//! ```
//! use seal_envelope::{DataKey, Identity, Place, RingKey, SealedFor, open, seal};
//!
//! let ring_key = RingKey::generate()?;
//! let member = Identity::generate()?;
//! let wrap = ring_key.wrap(member.recipient())?;
//!
//! let sealed_for = SealedFor::new(Some("db"), ["shop"])?;
//! let key = DataKey::new("password")?;
//! let token = seal(ring_key.recipient(), &sealed_for, &key, b"hunter2")?.to_string();
//!
//! let opened = RingKey::unwrap(&wrap, &member, ring_key.recipient())?;
//! let value = open(&opened, &sealed_for, &key, &Place::new("shop", "db")?, &token.parse()?)?;
//! assert_eq!(*value, b"hunter2");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! This crate knows no files, no network, no clock, no environment and no Kubernetes. It reads nothing but its
//! arguments and the operating system's randomness. No input makes it panic.

#![deny(missing_docs)]

mod binding;
mod encoding;
mod error;
mod kem;
mod keyring;
mod keys;
mod pq;
mod token;
mod value;

pub use binding::{DataKey, MAX_NAMESPACES, Place, PlaceTag, SealedFor};
pub use error::{BindingError, KeyError, OpenError, RingError, SealError, TokenError, UnwrapError, WrapError};
pub use keyring::{MAX_KEYS, MAX_MEMBERS, MAX_WRAP, Member, PROOF, Proof, Ring, RingKey};
pub use keys::{Identity, KeyId, Recipient};
pub use token::{MAX_TOKEN, Token};
pub use value::{MAX_VALUE, open, seal};
