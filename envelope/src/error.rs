//! What can go wrong, without a byte of plaintext or of a private key in it.
//!
//! Every enum is `non_exhaustive`; texts say what was wrong and never quote the input, which may be a secret pasted
//! into the wrong field.

use thiserror::Error;

use crate::keys::KeyId;

/// A name, namespace or data key that cannot be bound, or a place that a binding does not admit.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum BindingError {
    /// Not an RFC 1123 subdomain of at most 253 characters.
    #[error("the Secret's name is not a valid Kubernetes name")]
    Name,
    /// Not an RFC 1123 label of at most 63 characters.
    #[error("a namespace is not a valid Kubernetes namespace")]
    Namespace,
    /// The same namespace twice.
    #[error("a namespace is listed twice")]
    RepeatedNamespace,
    /// More than [`crate::MAX_NAMESPACES`].
    #[error("more than {} namespaces", crate::MAX_NAMESPACES)]
    TooManyNamespaces,
    /// Not 1 to 253 of `[-._A-Za-z0-9]`.
    #[error("the data key is not a valid key of a Secret")]
    DataKey,
    /// The Secret at this place has another name than the one sealed for.
    #[error("sealed for a Secret of another name")]
    OtherName,
    /// The place is in none of the namespaces sealed for.
    #[error("sealed for another namespace")]
    OtherNamespace,
}

/// Text that is no sealed value.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenError {
    /// Begins with no `seal<number>.`
    #[error("not a sealed value: it does not begin with `seal1.`")]
    NotSealed,
    /// A version that this program does not know.
    #[error("a sealed value of a version that is not supported here (only seal1 is)")]
    UnknownVersion,
    /// Shorter or longer than any value can be.
    #[error("a sealed value of an impossible length: it was cut off or glued together")]
    Length,
    /// A wrong character, a missing part, or a second spelling of the same bytes.
    #[error("a damaged sealed value: it is not spelt as `seal1.<key id>.<place>.<base64url>`")]
    Spelling,
}

/// A value that cannot be sealed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum SealError {
    /// More than [`crate::MAX_VALUE`] bytes.
    #[error("the value is larger than {} bytes, the most that a Secret can hold", crate::MAX_VALUE)]
    TooLarge,
    /// HPKE refused. Cannot happen with a [`crate::Recipient`], whose parser has checked all that it checks.
    #[error("the recipient cannot be sealed to")]
    Recipient,
}

/// A sealed value that does not open here.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpenError {
    /// The place is not one that the value may be opened in.
    #[error(transparent)]
    Place(#[from] BindingError),
    /// The token's own place tag does not belong to this key, name and namespaces: it was moved here.
    #[error("sealed for another key, name or set of namespaces")]
    Moved,
    /// The token names another ring key than the one given.
    #[error("sealed to key {sealed_to}")]
    OtherKey {
        /// The key that the token names.
        sealed_to: KeyId,
    },
    /// The ciphertext, its binding or its key are not what was sealed. HPKE cannot tell which.
    #[error("damaged or forged, or sealed for another place")]
    Forged,
}

/// Text that is no hybrid post-quantum age recipient or identity.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyError {
    /// A private key where a public one belongs. Its text is not kept.
    #[error("this is a private key, where a recipient (age1pq1...) belongs")]
    PrivateKey,
    /// A public key where a private one belongs.
    #[error("this is a recipient, where an identity (AGE-SECRET-KEY-PQ-1...) belongs")]
    PublicKey,
    /// An age key of a kind that a quantum computer breaks, or a plugin's.
    #[error("not a post-quantum age key: only age1pq1... (made by `age-keygen -pq` or `seal keygen`) is accepted")]
    NotHybrid,
    /// Damaged, or not in the one canonical spelling.
    #[error("a damaged age key")]
    Damaged,
    /// The X25519 half has low order, or the ML-KEM half is not reduced.
    #[error("an age key that gives no security")]
    Weak,
    /// The operating system gave no random bytes.
    #[error("the operating system gives no random bytes")]
    NoRandomness,
}

/// A wrap that does not give the ring key it stands beside.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum UnwrapError {
    /// Larger than [`crate::MAX_WRAP`] bytes.
    #[error("the wrap is larger than {} bytes", crate::MAX_WRAP)]
    TooLarge,
    /// Not a binary age file with exactly one `mlkem768x25519` stanza.
    #[error("the wrap is not an age file to exactly one post-quantum recipient")]
    NotAWrap,
    /// A good age file, to somebody else.
    #[error("the wrap is not for this member")]
    OtherMember,
    /// It opened, and held something else than one identity and a line feed.
    #[error("the wrap does not hold a ring key")]
    NoKey,
    /// It opened, and held another key than the recipient beside it says.
    #[error("the wrap holds another key than the ring says")]
    OtherKey,
}

/// A ring key that could not be wrapped.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("the ring key cannot be wrapped for this member")]
#[non_exhaustive]
pub struct WrapError;

/// A ring that contradicts itself, or whose proof does not cover it.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum RingError {
    /// The ring's or a member's name is no RFC 1123 label of at most 63 characters.
    #[error("the ring or one of its members has no valid name")]
    Name,
    /// No member, or more than [`crate::MAX_MEMBERS`].
    #[error("a ring has between 1 and {} members", crate::MAX_MEMBERS)]
    MemberCount,
    /// No key, or more than [`crate::MAX_KEYS`].
    #[error("a ring has between 1 and {} keys", crate::MAX_KEYS)]
    KeyCount,
    /// Two members share a name or a recipient.
    #[error("two members share a name or a recipient")]
    RepeatedMember,
    /// Two keys share a recipient.
    #[error("a key is listed twice")]
    RepeatedKey,
    /// A member is one of the ring's own keys.
    #[error("a member's recipient is one of the ring's own keys")]
    MemberIsKey,
    /// The private keys given are not those that the ring lists, in its order.
    #[error("the opened keys are not the keys of this ring")]
    OtherKeys,
    /// The proof was not made for these members and keys by someone who can open them.
    #[error("the proof does not cover these members and keys")]
    Unproven,
}
