//! The text of a sealed value: `seal1.<key id>.<place>.<base64url>`.
//!
//! [`Token`] <-> text. One accepted spelling for each token: no white space, no padding, no second alphabet, no spare
//! bits. Limits are checked before anything is decoded.

use std::{fmt, str::FromStr};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};

use crate::{
    binding::PlaceTag,
    encoding::base32_decode,
    error::TokenError,
    keys::KeyId,
    value::{self, ENC},
};

const VERSION: &str = "seal1";
/// Characters before the payload: `seal1.`, the key id and its dot, the place and its dot.
const HEAD: usize = 6 + 33 + 9;
/// The longest token there can be: a value of [`crate::MAX_VALUE`] bytes.
pub const MAX_TOKEN: usize = HEAD + (value::MAX_PAYLOAD * 4).div_ceil(3);

/// One sealed value, self-contained: which key opens it, where it belongs, and the HPKE message.
///
/// ```
/// # use seal_envelope::Token;
/// assert!("seal9.abc".parse::<Token>().is_err());
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    pub(crate) key_id: KeyId,
    pub(crate) place: PlaceTag,
    /// HPKE's `enc`, then its ciphertext.
    pub(crate) payload: Vec<u8>,
}

impl Token {
    /// The ring key that opens this value.
    pub fn key_id(&self) -> KeyId {
        self.key_id
    }

    /// What [`crate::SealedFor::tag`] must give where this value stands, else it was moved.
    pub fn place(&self) -> PlaceTag {
        self.place
    }

    /// The bucket that the value was padded into, in bytes: all that its length tells about the value's.
    pub fn bucket(&self) -> usize {
        self.payload.len() - ENC - value::TAG
    }
}

impl FromStr for Token {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let (version, rest) = text.split_once('.').ok_or(TokenError::NotSealed)?;
        match version.strip_prefix("seal") {
            Some("1") => {}
            Some(number) if !number.is_empty() && number.bytes().all(|c| c.is_ascii_digit()) => {
                return Err(TokenError::UnknownVersion);
            }
            _ => return Err(TokenError::NotSealed),
        }
        if text.len() < HEAD || text.len() > MAX_TOKEN {
            return Err(TokenError::Length);
        }
        let (key_id, rest) = rest.split_once('.').ok_or(TokenError::Spelling)?;
        let (place, payload) = rest.split_once('.').ok_or(TokenError::Spelling)?;
        let key_id = KeyId::from_str(key_id).map_err(|_| TokenError::Spelling)?;
        let place = base32_decode(place).map(PlaceTag).ok_or(TokenError::Spelling)?;
        let payload = BASE64_URL_SAFE_NO_PAD.decode(payload).map_err(|_| TokenError::Spelling)?;
        if !value::is_payload_length(payload.len()) {
            return Err(TokenError::Length);
        }
        Ok(Self { key_id, place, payload })
    }
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{VERSION}.{}.{}.{}", self.key_id, self.place, BASE64_URL_SAFE_NO_PAD.encode(&self.payload))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{VERSION}.{}.{}.<{} bytes>", self.key_id, self.place, self.payload.len())
    }
}
