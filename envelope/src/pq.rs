//! age's `mlkem768x25519` recipient type, over the published `age` crate's traits.
//!
//! age file key <-> one stanza of 1120 + 32 bytes (c2sp.org/age, "mlkem768x25519 recipient stanza"):
//!
//! ```text
//! -> mlkem768x25519 <base64 of enc>
//! <base64 of the HPKE ciphertext of the 16-byte file key>
//! ```
//!
//! HPKE base mode, info `age-encryption.org/mlkem768x25519`, empty AAD. The released `age` crate has no such type yet;
//! when it does, this module goes.

use std::collections::HashSet;

use age::{DecryptError, EncryptError};
use age_core::format::{FILE_KEY_BYTES, FileKey, Stanza};
use age_core::secrecy::ExposeSecret;
use base64::{Engine, prelude::BASE64_STANDARD_NO_PAD};
use hpke::{Deserializable, OpModeR, OpModeS, Serializable, aead::ChaCha20Poly1305, kdf::HkdfSha256};
use zeroize::Zeroizing;

use crate::{
    kem::{self, ENC, EncappedKey, KeptXWing},
    keys::{Identity, Recipient},
};

pub(crate) const STANZA_TAG: &str = "mlkem768x25519";
const INFO: &[u8] = b"age-encryption.org/mlkem768x25519";
/// All recipients of a file must carry the same labels, so a hybrid one never stands beside a classic one.
const LABEL: &str = "postquantum";

impl age::Recipient for Recipient {
    fn wrap_file_key(&self, file_key: &FileKey) -> Result<(Vec<Stanza>, HashSet<String>), EncryptError> {
        let (enc, body) = hpke::single_shot_seal::<ChaCha20Poly1305, HkdfSha256, KeptXWing>(
            &OpModeS::Base,
            self.public_key(),
            INFO,
            file_key.expose_secret(),
            b"",
        )
        .map_err(|_| EncryptError::Io(std::io::ErrorKind::InvalidInput.into()))?;
        let stanza =
            Stanza { tag: STANZA_TAG.to_owned(), args: vec![BASE64_STANDARD_NO_PAD.encode(enc.to_bytes())], body };
        Ok((vec![stanza], HashSet::from([LABEL.to_owned()])))
    }
}

impl age::Identity for Identity {
    fn unwrap_stanza(&self, stanza: &Stanza) -> Option<Result<FileKey, DecryptError>> {
        if stanza.tag != STANZA_TAG {
            return None;
        }
        let Some(enc) = parse_stanza(stanza) else {
            return Some(Err(DecryptError::InvalidHeader));
        };
        let opened = hpke::single_shot_open::<ChaCha20Poly1305, HkdfSha256, KeptXWing>(
            &OpModeR::Base,
            self.private_key(),
            &enc,
            INFO,
            &stanza.body,
            b"",
        );
        // Another key's stanza looks like a damaged one; age goes on to the next.
        let file_key = Zeroizing::new(opened.ok()?);
        Some(Ok(FileKey::init_with_mut(|key| key.copy_from_slice(&file_key))))
    }
}

/// One argument, canonical base64, right lengths, no share of low order; anything else makes the header invalid.
fn parse_stanza(stanza: &Stanza) -> Option<EncappedKey> {
    let [arg] = stanza.args.as_slice() else { return None };
    let enc = BASE64_STANDARD_NO_PAD.decode(arg).ok()?;
    let share = enc.get(ENC - 32..)?.try_into().ok()?;
    if stanza.body.len() != FILE_KEY_BYTES + 16 || kem::is_low_order(share) {
        return None;
    }
    EncappedKey::from_bytes(&enc).ok()
}
