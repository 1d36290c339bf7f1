//! Bytes as they come from editors, kubectl and PowerShell -> text, and back in the same encoding.

use thiserror::Error;
use zeroize::Zeroizing;

/// The text of a stream and how it was encoded. It may hold plaintext, so it is wiped and has no `Debug`.
pub(crate) struct Text {
    content: Zeroizing<String>,
    encoding: Encoding,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Utf8 { bom: bool },
    Utf16 { big_endian: bool, bom: bool },
}

/// Bytes that are no text; says where, never what.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum TextError {
    #[error("line {line} is not valid UTF-8")]
    Utf8 { line: usize },
    #[error("not valid UTF-16")]
    Utf16,
    #[error("the file holds zero bytes, so it is no text")]
    Binary,
}

const UTF8_BOM: &[u8] = &[0xef, 0xbb, 0xbf];
const UTF16LE_BOM: &[u8] = &[0xff, 0xfe];
const UTF16BE_BOM: &[u8] = &[0xfe, 0xff];

impl Text {
    /// Decodes UTF-8 or UTF-16, with or without a byte order mark.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, TextError> {
        let (encoding, body) = detect(bytes);
        let content = match encoding {
            Encoding::Utf8 { .. } => {
                let text = std::str::from_utf8(body).map_err(|error| TextError::Utf8 {
                    line: 1 + body[..error.valid_up_to()].iter().filter(|byte| **byte == b'\n').count(),
                })?;
                Zeroizing::new(text.to_owned())
            }
            Encoding::Utf16 { big_endian, .. } => decode_utf16(body, big_endian)?,
        };
        if content.contains('\0') {
            return Err(TextError::Binary);
        }
        Ok(Self { content, encoding })
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.content
    }

    /// JSON spells characters beyond U+FFFF as two `\u` escapes; YAML knows one character an escape. Joins them, so that
    /// the YAML parser reads such JSON. Text that is not JSON stays as it is.
    pub(crate) fn with_json_surrogates_joined(self) -> Self {
        let escapes = ["\\ud8", "\\ud9", "\\uda", "\\udb"];
        if !escapes.iter().any(|escape| contains_ignoring_case(&self.content, escape))
            || json_ends(&self.content).is_none()
        {
            return self;
        }
        let mut joined = Zeroizing::new(String::with_capacity(self.content.len()));
        let mut rest = self.content.as_str();
        while let Some(at) = rest.find('\\') {
            joined.push_str(&rest[..at]);
            rest = &rest[at..];
            let length = match surrogate_pair(rest) {
                Some(character) => {
                    joined.push(character);
                    12
                }
                None => {
                    let length = rest.char_indices().nth(2).map_or(rest.len(), |(length, _)| length);
                    joined.push_str(&rest[..length]);
                    length
                }
            };
            rest = &rest[length..];
        }
        joined.push_str(rest);
        Self { content: joined, encoding: self.encoding }
    }

    /// JSON objects one after the other, as two runs of `kubectl -o json` into one file give, are several documents; YAML
    /// wants a line between them. Other text stays as it is.
    pub(crate) fn with_json_objects_apart(self) -> Self {
        let Some(ends) = json_ends(&self.content).filter(|ends| ends.len() > 1) else { return self };
        let line_break = line_break_of(&self.content);
        let line = format!("{line_break}---{line_break}");
        let mut apart = Zeroizing::new(String::with_capacity(self.content.len() + ends.len() * line.len()));
        let mut start = 0;
        for end in ends {
            apart.push_str(if start > 0 { &line } else { "" });
            apart.push_str(self.content[start..end].trim_start());
            start = end;
        }
        apart.push_str(&self.content[start..]);
        Self { content: apart, encoding: self.encoding }
    }

    /// Encodes a changed content the way this text was encoded.
    pub(crate) fn encode_like(&self, content: &str) -> Vec<u8> {
        match self.encoding {
            Encoding::Utf8 { bom } => [if bom { UTF8_BOM } else { &[] }, content.as_bytes()].concat(),
            Encoding::Utf16 { big_endian, bom } => {
                let to_bytes = if big_endian { u16::to_be_bytes } else { u16::to_le_bytes };
                let mark = bom.then_some(0xfeff);
                mark.into_iter().chain(content.encode_utf16()).flat_map(to_bytes).collect()
            }
        }
    }
}

/// Where each object of a text ends that is JSON objects and nothing else.
fn json_ends(text: &str) -> Option<Vec<usize>> {
    if !text.trim_start().starts_with('{') {
        return None;
    }
    let mut objects = serde_json::Deserializer::from_str(text).into_iter::<serde::de::IgnoredAny>();
    let mut ends = Vec::new();
    while let Some(object) = objects.next() {
        object.ok()?;
        ends.push(objects.byte_offset());
    }
    Some(ends)
}

/// The line break that a text uses.
pub(crate) fn line_break_of(text: &str) -> &'static str {
    if text.contains("\r\n") { "\r\n" } else { "\n" }
}

/// The offset at which the line begins in which `at` stands.
pub(crate) fn line_start(text: &str, at: usize) -> usize {
    text[..at].rfind('\n').map_or(0, |at| at + 1)
}

/// The offset of the line break, or of the end of the text, at or behind `from`.
pub(crate) fn line_end(text: &str, from: usize) -> usize {
    let end = text[from..].find('\n').map_or(text.len(), |length| from + length);
    if end > from && text[..end].ends_with('\r') { end - 1 } else { end }
}

/// Every manifest begins with an ASCII character, so a zero byte in the first two gives UTF-16 away.
fn detect(bytes: &[u8]) -> (Encoding, &[u8]) {
    if let Some(body) = bytes.strip_prefix(UTF8_BOM) {
        return (Encoding::Utf8 { bom: true }, body);
    }
    if let Some(body) = bytes.strip_prefix(UTF16LE_BOM) {
        return (Encoding::Utf16 { big_endian: false, bom: true }, body);
    }
    if let Some(body) = bytes.strip_prefix(UTF16BE_BOM) {
        return (Encoding::Utf16 { big_endian: true, bom: true }, body);
    }
    match bytes {
        [0, second, ..] if *second != 0 => (Encoding::Utf16 { big_endian: true, bom: false }, bytes),
        [first, 0, ..] if *first != 0 => (Encoding::Utf16 { big_endian: false, bom: false }, bytes),
        _ => (Encoding::Utf8 { bom: false }, bytes),
    }
}

/// Whether some ASCII stands in a text, in upper or lower case. It is found by its first character that has no case, which
/// is a rare one: manifests are long, and nearly all of them is base64.
pub(crate) fn contains_ignoring_case(text: &str, ascii: &str) -> bool {
    let Some((offset, rare)) = ascii.char_indices().find(|(_, c)| !c.is_ascii_alphabetic()) else {
        return text.to_ascii_lowercase().contains(&ascii.to_ascii_lowercase());
    };
    let part = |at: usize| text.as_bytes().get(at.checked_sub(offset)?..)?.get(..ascii.len());
    text.match_indices(rare).any(|(at, _)| part(at).is_some_and(|part| part.eq_ignore_ascii_case(ascii.as_bytes())))
}

/// The character that `\uD83D\uDE00` at the start of `text` spells.
fn surrogate_pair(text: &str) -> Option<char> {
    let unit = |from: usize| -> Option<u16> {
        let digits = text.get(from..from + 6)?.strip_prefix("\\u")?;
        u16::from_str_radix(digits, 16).ok()
    };
    let pair = [unit(0)?, unit(6)?];
    if !(0xd800..0xdc00).contains(&pair[0]) {
        return None;
    }
    char::decode_utf16(pair).next()?.ok()
}

fn decode_utf16(bytes: &[u8], big_endian: bool) -> Result<Zeroizing<String>, TextError> {
    if !bytes.len().is_multiple_of(2) {
        return Err(TextError::Utf16);
    }
    let from_bytes = if big_endian { u16::from_be_bytes } else { u16::from_le_bytes };
    let units = bytes.chunks_exact(2).map(|pair| from_bytes([pair[0], pair[1]]));
    let mut text = Zeroizing::new(String::with_capacity(bytes.len() * 3 / 2));
    for character in char::decode_utf16(units) {
        text.push(character.map_err(|_| TextError::Utf16)?);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTENT: &str = "kind: Secret\r\nname: ä€😀\r\n";

    fn utf16(bytes_of: fn(u16) -> [u8; 2]) -> Vec<u8> {
        CONTENT.encode_utf16().flat_map(bytes_of).collect()
    }

    #[test]
    fn every_encoding_is_read_and_written_back_the_same() {
        for bytes in [
            CONTENT.as_bytes().to_vec(),
            [UTF8_BOM, CONTENT.as_bytes()].concat(),
            [UTF16LE_BOM, &utf16(u16::to_le_bytes)].concat(),
            [UTF16BE_BOM, &utf16(u16::to_be_bytes)].concat(),
            utf16(u16::to_le_bytes),
            utf16(u16::to_be_bytes),
        ] {
            let text = Text::decode(&bytes).expect("is text");
            assert_eq!(text.as_str(), CONTENT);
            assert_eq!(text.encode_like(CONTENT), bytes);
        }
    }

    #[test]
    fn what_is_no_text_is_refused_by_place() {
        assert_eq!(Text::decode(b"a: b\nc: \xff\n").err(), Some(TextError::Utf8 { line: 2 }));
        assert_eq!(Text::decode(&[0xff, 0xfe, b'a']).err(), Some(TextError::Utf16));
        assert_eq!(Text::decode(&[0xff, 0xfe, 0x00, 0xd8]).err(), Some(TextError::Utf16));
        assert_eq!(Text::decode(b"kind: Secret\n\0").err(), Some(TextError::Binary));
    }

    #[test]
    fn surrogate_pairs_of_json_are_joined_and_nothing_else_changes() {
        let join = |text: &str| {
            Text::decode(text.as_bytes()).expect("is text").with_json_surrogates_joined().as_str().to_owned()
        };
        assert_eq!(
            join(r#"{"a": "\uD83d\uDE00 \n \\ud83d\\ude00 \u00e4"}"#),
            "{\"a\": \"😀 \\n \\\\ud83d\\\\ude00 \\u00e4\"}"
        );
        assert_eq!(join(r#"{"a": "\ud83d"}"#), r#"{"a": "\ud83d"}"#);
        assert_eq!(join(r#"a: '\ud83d\ude00'"#), r#"a: '\ud83d\ude00'"#);
    }

    #[test]
    fn json_objects_are_put_apart_and_nothing_else_changes() {
        let apart =
            |text: &str| Text::decode(text.as_bytes()).expect("is text").with_json_objects_apart().as_str().to_owned();
        assert_eq!(apart("{\"a\": 1}\n{\"b\": 2}\n"), "{\"a\": 1}\n---\n{\"b\": 2}\n");
        assert_eq!(apart("{}{}\r\n \r\n{}"), "{}\r\n---\r\n{}\r\n---\r\n{}");
        for text in ["{\"a\": 1}\n", "{}\n---\n{}\n", "{} x\n", "1 2\n", "a: {}\n", ""] {
            assert_eq!(apart(text), text);
        }
    }

    #[test]
    fn words_are_found_in_upper_and_lower_case() {
        for text in ["age-secret-key-", "x-yAGE-Secret-KEY-1", "-age-secret-key-äage-secret-key-"] {
            assert!(contains_ignoring_case(text, "AGE-SECRET-KEY-"), "{text}");
        }
        for text in ["", "-", "ge-secret-key-", "age-secret-key", "age-secret-kéy-"] {
            assert!(!contains_ignoring_case(text, "AGE-SECRET-KEY-"), "{text}");
        }
        assert!(contains_ignoring_case("aBc", "bC") && !contains_ignoring_case("aBc", "ac"));
    }

    #[test]
    fn an_empty_file_is_empty_text() {
        assert_eq!(Text::decode(b"").expect("is text").as_str(), "");
    }
}
