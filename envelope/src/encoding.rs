//! The few encodings under everything here: length prefixes, their digest, and base32.
//!
//! parts -> unambiguous bytes -> SHA-256; id bytes <-> text.

use ring::digest::{Context, SHA256};

/// Appends LP(bytes).
pub(crate) fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    put_count(out, bytes.len());
    out.extend_from_slice(bytes);
}

/// Appends a count or a length. What we encode is bounded far below 4 GiB by the checks that let it in.
pub(crate) fn put_count(out: &mut Vec<u8>, count: usize) {
    let count = u32::try_from(count).expect("names, keys and lists are bounded where they are parsed");
    out.extend_from_slice(&count.to_be_bytes());
}

/// SHA-256 over LP of each part.
pub(crate) fn digest(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = Context::new(&SHA256);
    let mut encoded = Vec::new();
    for part in parts {
        encoded.clear();
        put(&mut encoded, part);
        context.update(&encoded);
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    digest
}

/// RFC 4648 base32 in lower case. Our ids are whole groups of 40 bits, so there is neither padding nor a spare bit.
const BASE32: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

pub(crate) fn base32_encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 8 / 5);
    for group in bytes.chunks(5) {
        let bits = group.iter().fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
        text.extend((0..8).rev().map(|i| char::from(BASE32[(bits >> (5 * i) & 31) as usize])));
    }
    text
}

pub(crate) fn base32_decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != N * 8 / 5 {
        return None;
    }
    let mut bytes = [0; N];
    for (group, out) in text.as_bytes().chunks(8).zip(bytes.chunks_mut(5)) {
        let mut bits = 0_u64;
        for c in group {
            let digit = BASE32.iter().position(|digit| digit == c)?;
            bits = bits << 5 | digit as u64;
        }
        out.copy_from_slice(&bits.to_be_bytes()[3..]);
    }
    Some(bytes)
}
