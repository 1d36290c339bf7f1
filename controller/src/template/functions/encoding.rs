//! sprig's encodings, digests and JSON.

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use ring::digest;

use super::{Call, Function, function};
use crate::template::Reason;
use crate::template::json;
use crate::template::value::{Buffer, Outcome, Value};

pub(super) const FUNCTIONS: &[Function] = &[
    function("b64enc", 1, 1, |call| {
        let text = call.text(0)?;
        call.made(BASE64.encode(text).into_bytes())
    }),
    function("b64dec", 1, 1, |call| {
        let text = without_line_ends(call.text(0)?);
        let bytes = BASE64.decode(&*text).map_err(|_| Reason::ExecutionFailed)?;
        call.made(bytes)
    }),
    function("b32enc", 1, 1, |call| {
        let text = call.text(0)?;
        call.made(base32(text))
    }),
    function("b32dec", 1, 1, |call| {
        let text = without_line_ends(call.text(0)?);
        let bytes = from_base32(&text).ok_or(Reason::ExecutionFailed)?;
        call.made(bytes)
    }),
    function("sha1sum", 1, 1, |call| digested(call, &digest::SHA1_FOR_LEGACY_USE_ONLY)),
    function("sha256sum", 1, 1, |call| digested(call, &digest::SHA256)),
    function("sha512sum", 1, 1, |call| digested(call, &digest::SHA512)),
    function("adler32sum", 1, 1, |call| {
        let sum = adler32(call.text(0)?);
        call.made(sum.to_string().into_bytes())
    }),
    function("toJson", 1, 1, |call| to_json(call, json::Style::Escaped)),
    function("mustToJson", 1, 1, |call| to_json(call, json::Style::Escaped)),
    function("toRawJson", 1, 1, |call| to_json(call, json::Style::Raw)),
    function("mustToRawJson", 1, 1, |call| to_json(call, json::Style::Raw)),
    function("toPrettyJson", 1, 1, |call| to_json(call, json::Style::Pretty)),
    function("mustToPrettyJson", 1, 1, |call| to_json(call, json::Style::Pretty)),
    function("fromJson", 1, 1, from_json),
    function("mustFromJson", 1, 1, from_json),
];

/// RFC 4648 section 4, as lenient about the last bits as Go's standard encoding.
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

fn without_line_ends(text: &[u8]) -> zeroize::Zeroizing<Vec<u8>> {
    zeroize::Zeroizing::new(text.iter().copied().filter(|b| !matches!(b, b'\r' | b'\n')).collect())
}

const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

/// RFC 4648 section 6, padded.
fn base32(bytes: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(bytes.len().div_ceil(5) * 8);
    for group in bytes.chunks(5) {
        let bits = (0..5).fold(0_u64, |bits, i| bits << 8 | u64::from(group.get(i).copied().unwrap_or(0)));
        let used = (group.len() * 8).div_ceil(5);
        for i in 0..8 {
            let letter = BASE32[usize::try_from(bits >> (35 - 5 * i) & 31).unwrap_or(0)];
            text.push(if i < used { letter } else { b'=' });
        }
    }
    text
}

fn from_base32(text: &[u8]) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(8) {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len() / 8 * 5);
    let groups = text.len() / 8;
    for (n, group) in text.chunks(8).enumerate() {
        let used = group.iter().position(|b| *b == b'=').unwrap_or(8);
        let is_padded_well = group[used..].iter().all(|b| *b == b'=') && matches!(used, 2 | 4 | 5 | 7 | 8);
        if !is_padded_well || (used < 8 && n + 1 < groups) {
            return None;
        }
        let mut bits = 0_u64;
        for letter in &group[..used] {
            let value = BASE32.iter().position(|b| b == letter)?;
            bits = bits << 5 | u64::try_from(value).ok()?;
        }
        bits <<= 5 * (8 - used);
        bytes.extend_from_slice(&bits.to_be_bytes()[3..3 + used * 5 / 8]);
    }
    Some(bytes)
}

fn digested(call: &mut Call<'_>, algorithm: &'static digest::Algorithm) -> Outcome {
    let text = call.text(0)?;
    call.meter.spend(text.len().saturating_mul(4))?;
    let mut out = Buffer::new();
    for byte in digest::digest(algorithm, text).as_ref() {
        out.push(format!("{byte:02x}").as_bytes(), call.meter)?;
    }
    Ok(out.into_value())
}

fn adler32(bytes: &[u8]) -> u32 {
    let (a, b) = bytes.iter().fold((1_u32, 0_u32), |(a, b), byte| {
        let a = (a + u32::from(*byte)) % 65521;
        (a, (b + a) % 65521)
    });
    b << 16 | a
}

fn to_json(call: &mut Call<'_>, style: json::Style) -> Outcome {
    let mut out = Buffer::new();
    json::write(call.argument(0)?, style, &mut out, call.meter)?;
    Ok(out.into_value())
}

fn from_json(call: &mut Call<'_>) -> Outcome {
    let text = call.text(0)?;
    let value: Value = json::read(text, call.meter)?;
    Ok(value)
}
