//! What no cluster takes is seen before it is written, and not when a sync has failed.
//!
//! Counted is all of an object, whoever sealed what is in it: `seal set` adds to what is there.

use seal_crds::SealedSecret;
use seal_envelope::{MAX_VALUE, Token};

use crate::{
    error::{Error, Result},
    sealed,
};

/// What etcd takes in one request, unless it is told otherwise: 1.5 MiB.
const MAX_OBJECT: usize = 3 << 19;

/// Refuses a text in which a SealedSecret, or the Secret that would be made of it, is too large.
pub(crate) fn refuse_too_large(text: &str) -> Result<()> {
    // What is too large is longer than this in any spelling; all else costs nothing here.
    if text.len() <= MAX_VALUE {
        return Ok(());
    }
    // What cannot be read was there before, and is for those commands that open it.
    let Ok(documents) = sealed::parse("", text.as_bytes()) else { return Ok(()) };
    for document in &documents {
        let refused = |what: &str, bytes: usize, most: usize| {
            Error::request(format!("{what} of `{}` is {bytes} bytes or more; a cluster takes {most}", document.shown()))
                .hint("part the values over several Secrets")
        };
        let (stored, made) = (stored(&document.object)?, made(&document.object));
        if stored > MAX_OBJECT {
            return Err(refused("the SealedSecret", stored, MAX_OBJECT));
        }
        if made > MAX_VALUE {
            return Err(refused("the Secret", made, MAX_VALUE));
        }
    }
    Ok(())
}

/// The object as it is stored: JSON, and who owns which key of it.
fn stored(object: &SealedSecret) -> Result<usize> {
    let json = serde_json::to_vec(object).map_err(|_| Error::bug("a SealedSecret is no JSON"))?;
    let owned = object.spec.encrypted_data.keys().map(|key| key.len() + "\"f:\":{},".len());
    Ok(json.len() + owned.sum::<usize>())
}

/// At least this many bytes are sealed; none count where a template may leave them out.
fn made(object: &SealedSecret) -> usize {
    if object.spec.template.as_ref().is_some_and(|template| !template.data.is_empty()) {
        return 0;
    }
    let buckets = object.spec.encrypted_data.values().filter_map(|token| Some(token.parse::<Token>().ok()?.bucket()));
    // A bucket of 64 bytes may hold nothing, one of up to 4 KiB is more than half full, a larger one lacks under 1 KiB.
    let least = |bucket: usize| match bucket {
        ..=64 => 0,
        65..=4096 => bucket / 2 - 4,
        _ => bucket - 1024 - 4,
    };
    buckets.map(least).sum()
}
