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
