//! Sealing and opening one value: RFC 9180 HPKE and the frame inside it.
//!
//! value -> frame -> HPKE (info = `ctx`) -> [`Token`], and back.
//!
//! ```text
//! frame   = u32 big-endian 4 + length of the value, value, zeros up to the bucket
//! bucket  = the smallest that fits of 64, 128, 256, 512, 1024, 2048, 4096, and then every 1024 more
//! payload = enc (1120 bytes), ciphertext of the frame (bucket + 16 bytes)
//! ```
//!
//! Base mode, single shot: KEM X-Wing (0x647a), KDF HKDF-SHA256 (1), AEAD ChaCha20-Poly1305 (3), `info = ctx`, empty
//! AAD. Any HPKE implementation makes and reads these bytes; Go's is `crypto/hpke`.

use hpke::{Deserializable, OpModeR, OpModeS, Serializable, aead::ChaCha20Poly1305, kdf::HkdfSha256};
use zeroize::Zeroizing;

use crate::{
    binding::{DataKey, Place, SealedFor},
    error::{OpenError, SealError},
    kem::{EncappedKey, KeptXWing},
    keyring::RingKey,
    keys::Recipient,
    token::Token,
};

pub(crate) use crate::kem::ENC;

/// The most bytes that one value may have: what the API server accepts for a whole Secret.
pub const MAX_VALUE: usize = 1_048_576;
/// Poly1305's tag.
pub(crate) const TAG: usize = 16;
/// The frame's length field.
const LENGTH: usize = 4;
const MAX_BUCKET: usize = bucket(LENGTH + MAX_VALUE);
pub(crate) const MAX_PAYLOAD: usize = ENC + MAX_BUCKET + TAG;

/// Seals `value` to the ring key `recipient`, for `key` of the Secrets that `sealed_for` names.
///
/// Two calls with the same input give different tokens; nobody can test a guess of the value against one.
///
/// # Errors
///
/// [`SealError::TooLarge`] above [`MAX_VALUE`] bytes.
///
/// # Panics
///
/// When the operating system refuses to give random bytes.
pub fn seal(recipient: &Recipient, sealed_for: &SealedFor, key: &DataKey, value: &[u8]) -> Result<Token, SealError> {
    if value.len() > MAX_VALUE {
        return Err(SealError::TooLarge);
    }
    let (enc, ciphertext) = hpke::single_shot_seal::<ChaCha20Poly1305, HkdfSha256, KeptXWing>(
        &OpModeS::Base,
        recipient.public_key(),
        &sealed_for.ctx(key),
        &frame(value),
        b"",
    )
    .map_err(|_| SealError::Recipient)?;
    let mut payload = enc.to_bytes().to_vec();
    payload.extend_from_slice(&ciphertext);
    Ok(Token { key_id: recipient.key_id(), place: sealed_for.tag(key), payload })
}

/// Opens `token`, which stands at `key` of an object sealed for `sealed_for`, in order to put it into the Secret at
/// `place`.
///
/// Everything that can be judged without the private key is judged first: whether the place is one that the value
/// was sealed for, whether the token was moved, whether it names this ring key.
///
/// # Errors
///
/// See [`OpenError`]; a failure of HPKE or of the frame is always [`OpenError::Forged`].
pub fn open(
    ring_key: &RingKey,
    sealed_for: &SealedFor,
    key: &DataKey,
    place: &Place,
    token: &Token,
) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    sealed_for.admits(place)?;
    if sealed_for.tag(key) != token.place {
        return Err(OpenError::Moved);
    }
    if ring_key.id() != token.key_id {
        return Err(OpenError::OtherKey { sealed_to: token.key_id });
    }
    let (enc, ciphertext) = token.payload.split_at_checked(ENC).ok_or(OpenError::Forged)?;
    let enc = EncappedKey::from_bytes(enc).map_err(|_| OpenError::Forged)?;
    let frame = hpke::single_shot_open::<ChaCha20Poly1305, HkdfSha256, KeptXWing>(
        &OpModeR::Base,
        ring_key.private_key(),
        &enc,
        &sealed_for.ctx(key),
        ciphertext,
        b"",
    );
    let frame = Zeroizing::new(frame.map_err(|_| OpenError::Forged)?);
    unframe(frame).ok_or(OpenError::Forged)
}

/// Whether a payload of this length can come from [`seal`]: `enc`, a bucket and a tag.
pub(crate) fn is_payload_length(length: usize) -> bool {
    length.checked_sub(ENC + TAG).is_some_and(|framed| framed <= MAX_BUCKET && framed == bucket(framed))
}

/// The smallest bucket that holds `framed` bytes.
const fn bucket(framed: usize) -> usize {
    match framed {
        0..=64 => 64,
        65..=4096 => framed.next_power_of_two(),
        _ => framed.div_ceil(1024) * 1024,
    }
}

fn frame(value: &[u8]) -> Zeroizing<Vec<u8>> {
    let total = LENGTH + value.len();
    let mut frame = Zeroizing::new(vec![0; bucket(total)]);
    let length = u32::try_from(total).expect("seal refuses values above 1 MiB");
    frame[..LENGTH].copy_from_slice(&length.to_be_bytes());
    frame[LENGTH..total].copy_from_slice(value);
    frame
}

/// Refuses padding that is not zero and every bucket but the smallest, so that each value has one frame.
fn unframe(mut frame: Zeroizing<Vec<u8>>) -> Option<Zeroizing<Vec<u8>>> {
    let length = frame.first_chunk::<LENGTH>()?;
    let total = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    if !(LENGTH..=LENGTH + MAX_VALUE).contains(&total) || bucket(total) != frame.len() {
        return None;
    }
    if frame[total..].iter().any(|byte| *byte != 0) {
        return None;
    }
    frame.copy_within(LENGTH..total, 0);
    // What stays behind the value in the buffer's capacity is cleared with it.
    frame.truncate(total - LENGTH);
    Some(frame)
}
