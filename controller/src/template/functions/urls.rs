//! sprig's `urlParse`: a URL taken apart by the rules of Go's `net/url`.

use super::{Call, Function, function};
use crate::template::Reason;
use crate::template::value::{Outcome, Text};

pub(super) const FUNCTIONS: &[Function] = &[function("urlParse", 1, 1, parse)];

fn parse(call: &mut Call<'_>) -> Outcome {
    let text = std::str::from_utf8(call.text(0)?).map_err(|_| Reason::ExecutionFailed)?;
    let url = Url::parse(text).ok_or(Reason::ExecutionFailed)?;
    let hostname = url.hostname().to_vec();
    let parts = [
        ("scheme", url.scheme),
        ("host", url.host),
        ("hostname", hostname),
        ("path", url.path),
        ("query", url.query),
        ("opaque", url.opaque),
        ("fragment", url.fragment),
        ("userinfo", url.userinfo),
    ];
    let mut entries = Vec::with_capacity(parts.len());
    for (name, part) in parts {
        entries.push((Text::free(name.as_bytes().to_vec()), call.made(part)?));
    }
    super::collections::dict(call, entries)
}

#[derive(Default)]
struct Url {
    scheme: Vec<u8>,
    userinfo: Vec<u8>,
    host: Vec<u8>,
    path: Vec<u8>,
    query: Vec<u8>,
    opaque: Vec<u8>,
    fragment: Vec<u8>,
}

impl Url {
    fn parse(text: &str) -> Option<Self> {
        let mut url = Self::default();
        let (text, fragment) = text.split_once('#').unwrap_or((text, ""));
        url.fragment = unescaped(fragment)?;
        if text.bytes().any(|b| b < b' ' || b == 0x7f) {
            return None;
        }
        let (scheme, rest) = scheme(text)?;
        url.scheme = scheme.to_ascii_lowercase().into_bytes();
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        url.query = query.as_bytes().to_vec();
        if !rest.starts_with('/') {
            if !scheme.is_empty() {
                url.opaque = rest.as_bytes().to_vec();
                return Some(url);
            }
            if rest.split('/').next().is_some_and(|first| first.contains(':')) {
                return None;
            }
        }
        let mut path = rest;
        if let Some(after) = rest.strip_prefix("//").filter(|_| !scheme.is_empty() || !rest.starts_with("///")) {
            let (authority, tail) = after.split_at(after.find('/').unwrap_or(after.len()));
            path = tail;
            let (userinfo, host) = match authority.rsplit_once('@') {
                Some((userinfo, host)) => (Some(userinfo), host),
                None => (None, authority),
            };
            url.host = checked_host(host)?;
            url.userinfo = userinfo.map_or(Some(Vec::new()), checked_userinfo)?;
        }
        url.path = unescaped(path)?;
        Some(url)
    }

    /// The host without brackets and port.
    fn hostname(&self) -> &[u8] {
        let host = &self.host[..];
        if let (Some(b'['), Some(close)) = (host.first(), host.iter().rposition(|b| *b == b']')) {
            return &host[1..close];
        }
        &host[..host.iter().position(|b| *b == b':').unwrap_or(host.len())]
    }
}

/// The scheme and what follows its colon; none is not an error, an empty one is.
fn scheme(text: &str) -> Option<(&str, &str)> {
    for (i, c) in text.char_indices() {
        match c {
            'a'..='z' | 'A'..='Z' => {}
            '0'..='9' | '+' | '-' | '.' if i > 0 => {}
            ':' if i == 0 => return None,
            ':' => return Some((&text[..i], &text[i + 1..])),
            _ => break,
        }
    }
    Some(("", text))
}

fn checked_host(host: &str) -> Option<Vec<u8>> {
    let port = if host.starts_with('[') {
        &host[host.rfind(']')? + 1..]
    } else {
        &host[host.rfind(':').unwrap_or(host.len())..]
    };
    let is_port =
        port.is_empty() || port.strip_prefix(':').is_some_and(|port| port.bytes().all(|b| b.is_ascii_digit()));
    let is_clean = |b: u8| !b.is_ascii() || b.is_ascii_alphanumeric() || b"-_.~!$&'()*+,;=:[]<>\"%".contains(&b);
    if !is_port || !host.bytes().all(is_clean) {
        return None;
    }
    let plain = unescaped(host)?;
    // In a host only bytes beyond ASCII may be escaped.
    let escapes = host.bytes().filter(|b| *b == b'%').count();
    let beyond = |bytes: &[u8]| bytes.iter().filter(|b| !b.is_ascii()).count();
    (beyond(&plain) == beyond(host.as_bytes()) + escapes).then_some(plain)
}

fn checked_userinfo(userinfo: &str) -> Option<Vec<u8>> {
    if !userinfo.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:~!$&'()*+,;=%@".contains(&b)) {
        return None;
    }
    let mut out = Vec::new();
    for (i, part) in userinfo.splitn(2, ':').enumerate() {
        if i > 0 {
            out.push(b':');
        }
        for byte in unescaped(part)? {
            if byte.is_ascii_alphanumeric() || b"-_.~$&+,;=".contains(&byte) {
                out.push(byte);
            } else {
                out.extend_from_slice(format!("%{byte:02X}").as_bytes());
            }
        }
    }
    Some(out)
}

fn unescaped(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, tail)) = rest.split_first() {
        rest = tail;
        if *byte == b'%' {
            let code = tail.get(..2).filter(|code| code.iter().all(u8::is_ascii_hexdigit))?;
            out.push(u8::from_str_radix(std::str::from_utf8(code).ok()?, 16).ok()?);
            rest = &tail[2..];
        } else {
            out.push(*byte);
        }
    }
    Some(out)
}
