//! sprig's functions on strings.

use super::{ANY, Call, Function, function};
use crate::template::Reason;
use crate::template::format;
use crate::template::pattern;
use crate::template::value::{Buffer, Items, Outcome, Text, Value, runes};

pub(super) const FUNCTIONS: &[Function] = &[
    function("trim", 1, 1, |call| {
        let text = call.text(0)?;
        call.made(trim_space(text).to_vec())
    }),
    function("trimAll", 2, 2, trim_all),
    function("trimall", 2, 2, trim_all),
    function("trimPrefix", 2, 2, |call| {
        let (prefix, text) = (call.text(0)?, call.text(1)?);
        call.made(text.strip_prefix(prefix).unwrap_or(text).to_vec())
    }),
    function("trimSuffix", 2, 2, |call| {
        let (suffix, text) = (call.text(0)?, call.text(1)?);
        call.made(text.strip_suffix(suffix).unwrap_or(text).to_vec())
    }),
    function("nospace", 1, 1, |call| mapped(call, |c, _| if is_space(c) { None } else { Some(c) })),
    function("upper", 1, 1, |call| mapped(call, |c, _| Some(upper(c)))),
    function("lower", 1, 1, |call| mapped(call, |c, _| Some(lower(c)))),
    function("title", 1, 1, |call| {
        mapped(call, |c, before| Some(if before.is_none_or(is_separator) { upper(c) } else { c }))
    }),
    function("untitle", 1, 1, |call| {
        mapped(call, |c, before| Some(if before.is_none_or(is_space) { lower(c) } else { c }))
    }),
    function("swapcase", 1, 1, |call| mapped(call, |c, _| Some(if c.is_uppercase() { lower(c) } else { upper(c) }))),
    function("repeat", 2, 2, repeat),
    function("substr", 3, 3, substr),
    function("trunc", 2, 2, trunc),
    function("contains", 2, 2, |call| {
        let (part, text) = (call.text(0)?, call.text(1)?);
        Ok(Value::Bool(find(text, part, call)?.is_some()))
    }),
    function("hasPrefix", 2, 2, |call| {
        let (prefix, text) = (call.text(0)?, call.text(1)?);
        Ok(Value::Bool(text.starts_with(prefix)))
    }),
    function("hasSuffix", 2, 2, |call| {
        let (suffix, text) = (call.text(0)?, call.text(1)?);
        Ok(Value::Bool(text.ends_with(suffix)))
    }),
    function("quote", 0, ANY, |call| {
        joined(call, |call, value, out| {
            let text = call.strval(value)?;
            format::quote(&text, false, out, call.meter)
        })
    }),
    function("squote", 0, ANY, |call| {
        joined(call, |call, value, out| {
            out.push(b"'", call.meter)?;
            format::plain(value, out, call.meter)?;
            out.push(b"'", call.meter)
        })
    }),
    function("cat", 0, ANY, |call| joined(call, |call, value, out| format::plain(value, out, call.meter))),
    function("indent", 2, 2, |call| indented(call, b"")),
    function("nindent", 2, 2, |call| indented(call, b"\n")),
    function("replace", 3, 3, replace),
    function("plural", 3, 3, |call| {
        let count = call.int(2)?;
        Ok(call.argument(usize::from(count != 1))?.clone())
    }),
    function("toString", 1, 1, |call| {
        let value = call.argument(0)?;
        Ok(Value::Text(call.strval(value)?))
    }),
    function("toStrings", 1, 1, |call| {
        let strings = strings(call, 0)?;
        call.made_list(strings)
    }),
    function("join", 2, 2, join),
    function("split", 2, 2, |call| {
        let (separator, text) = (call.text(0)?, call.text(1)?);
        numbered(call, separator, text, ANY)
    }),
    function("splitn", 3, 3, splitn),
    function("splitList", 2, 2, |call| {
        let (separator, text) = (call.text(0)?, call.text(1)?);
        split(call, separator, text, ANY)?.into_value()
    }),
    function("sortAlpha", 1, 1, sort_alpha),
    function("fail", 1, 1, |_| Err(Reason::ExecutionFailed)),
    function("base", 1, 1, |call| path(call, base)),
    function("dir", 1, 1, |call| path(call, |path| clean(&path[..path.rfind('/').map_or(0, |i| i + 1)]))),
    function("clean", 1, 1, |call| path(call, clean)),
    function("ext", 1, 1, |call| {
        path(call, |path| {
            let name = path.rsplit('/').next().unwrap_or("");
            name.rfind('.').map_or(String::new(), |dot| name[dot..].to_owned())
        })
    }),
    function("isAbs", 1, 1, |call| Ok(Value::Bool(call.text(0)?.starts_with(b"/")))),
    function("regexMatch", 2, 2, pattern::is_match),
    function("mustRegexMatch", 2, 2, pattern::is_match),
    function("regexFind", 2, 2, pattern::find),
    function("mustRegexFind", 2, 2, pattern::find),
    function("regexFindAll", 3, 3, pattern::find_all),
    function("mustRegexFindAll", 3, 3, pattern::find_all),
    function("regexReplaceAll", 3, 3, |call| pattern::replace_all(call, false)),
    function("mustRegexReplaceAll", 3, 3, |call| pattern::replace_all(call, false)),
    function("regexReplaceAllLiteral", 3, 3, |call| pattern::replace_all(call, true)),
    function("mustRegexReplaceAllLiteral", 3, 3, |call| pattern::replace_all(call, true)),
    function("regexSplit", 3, 3, pattern::split),
    function("mustRegexSplit", 3, 3, pattern::split),
    function("regexQuoteMeta", 1, 1, pattern::quote_meta),
];

fn is_space(c: char) -> bool {
    c.is_whitespace()
}

/// Go's word boundary for `title`.
fn is_separator(c: char) -> bool {
    if c.is_ascii() {
        !c.is_ascii_alphanumeric() && c != '_'
    } else {
        !c.is_alphabetic() && !c.is_numeric() && is_space(c)
    }
}

/// The one-to-one mapping; where upper case is several characters, the character stays.
fn upper(c: char) -> char {
    let mut mapped = c.to_uppercase();
    if mapped.len() == 1 { mapped.next().unwrap_or(c) } else { c }
}

fn lower(c: char) -> char {
    c.to_lowercase().next().unwrap_or(c)
}

/// Maps each character, knowing the one before it.
fn mapped(call: &mut Call<'_>, map: fn(char, Option<char>) -> Option<char>) -> Outcome {
    let mut out = Buffer::new();
    let mut before = None;
    for (c, _) in runes(call.text(0)?) {
        if let Some(c) = map(c, before) {
            out.push_char(c, call.meter)?;
        }
        before = Some(c);
    }
    Ok(out.into_value())
}

fn trim_space(text: &[u8]) -> &[u8] {
    match std::str::from_utf8(text) {
        Ok(text) => text.trim().as_bytes(),
        Err(_) => text.trim_ascii(),
    }
}

fn trim_all(call: &mut Call<'_>) -> Outcome {
    let (set, text) = (call.text(0)?, call.text(1)?);
    call.meter.spend(text.len().saturating_mul(set.len()))?;
    let trimmed = match (std::str::from_utf8(set), std::str::from_utf8(text)) {
        (Ok(set), Ok(text)) => text.trim_matches(|c| set.contains(c)).as_bytes(),
        _ => {
            let mut text = text;
            while let Some((_, rest)) = text.split_first().filter(|(first, _)| set.contains(first)) {
                text = rest;
            }
            while let Some((_, rest)) = text.split_last().filter(|(last, _)| set.contains(last)) {
                text = rest;
            }
            text
        }
    };
    call.made(trimmed.to_vec())
}

fn repeat(call: &mut Call<'_>) -> Outcome {
    let count = usize::try_from(call.int(0)?).map_err(|_| Reason::ExecutionFailed)?;
    let text = call.text(1)?;
    let mut out = Buffer::new();
    out.repeat(text, count, call.meter)?;
    Ok(out.into_value())
}

fn substr(call: &mut Call<'_>) -> Outcome {
    let (start, end, text) = (call.int(0)?, call.int(1)?, call.text(2)?);
    let end = usize::try_from(end).ok();
    let part = match usize::try_from(start) {
        Err(_) => end.and_then(|end| text.get(..end)),
        Ok(start) => match end {
            Some(end) if end <= text.len() => text.get(start..end),
            _ => text.get(start..),
        },
    };
    call.made(part.ok_or(Reason::ExecutionFailed)?.to_vec())
}

fn trunc(call: &mut Call<'_>) -> Outcome {
    let (count, text) = (call.int(0)?, call.text(1)?);
    let length = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
    let part = match text.len().checked_sub(length) {
        Some(_) if count >= 0 => &text[..length],
        Some(from) if from > 0 => &text[from..],
        _ => text,
    };
    call.made(part.to_vec())
}

/// Where `part` first occurs, paid for.
fn find(text: &[u8], part: &[u8], call: &mut Call<'_>) -> Result<Option<usize>, Reason> {
    if part.is_empty() {
        return Ok(Some(0));
    }
    let found = memchr::memmem::find(text, part);
    call.meter.spend(found.unwrap_or(text.len()))?;
    Ok(found)
}

fn joined(call: &mut Call<'_>, write: fn(&mut Call<'_>, &Value, &mut Buffer) -> Result<(), Reason>) -> Outcome {
    let mut out = Buffer::new();
    let mut is_first = true;
    for value in call.arguments.iter().filter(|value| !matches!(value, Value::Nil)) {
        if !is_first {
            out.push(b" ", call.meter)?;
        }
        is_first = false;
        write(call, value, &mut out)?;
    }
    Ok(out.into_value())
}

fn indented(call: &mut Call<'_>, before: &[u8]) -> Outcome {
    let spaces = usize::try_from(call.int(0)?).map_err(|_| Reason::ExecutionFailed)?;
    let text = call.text(1)?;
    let mut out = Buffer::new();
    out.push(before, call.meter)?;
    for (i, line) in text.split(|b| *b == b'\n').enumerate() {
        if i > 0 {
            out.push(b"\n", call.meter)?;
        }
        out.repeat(b" ", spaces, call.meter)?;
        out.push(line, call.meter)?;
    }
    Ok(out.into_value())
}

fn replace(call: &mut Call<'_>) -> Outcome {
    let (old, new, text) = (call.text(0)?, call.text(1)?, call.text(2)?);
    let mut out = Buffer::new();
    if old.is_empty() {
        let mut rest = text;
        for (_, length) in runes(text) {
            out.push(new, call.meter)?;
            out.push(&rest[..length], call.meter)?;
            rest = &rest[length..];
        }
        out.push(new, call.meter)?;
        return Ok(out.into_value());
    }
    let mut rest = text;
    while let Some(found) = find(rest, old, call)? {
        out.push(&rest[..found], call.meter)?;
        out.push(new, call.meter)?;
        rest = &rest[found + old.len()..];
    }
    out.push(rest, call.meter)?;
    Ok(out.into_value())
}

/// A list as strings, without its nils; anything else as a list of one string.
fn strings(call: &mut Call<'_>, index: usize) -> Result<Vec<Value>, Reason> {
    let value = call.argument(index)?;
    let items = match value {
        Value::List(_) => call.list(index)?,
        Value::Nil => &[],
        value => std::slice::from_ref(value),
    };
    items.iter().filter(|item| !matches!(item, Value::Nil)).map(|item| Ok(Value::Text(call.strval(item)?))).collect()
}

fn join(call: &mut Call<'_>) -> Outcome {
    let separator = call.text(0)?;
    let mut out = Buffer::new();
    for (i, item) in strings(call, 1)?.iter().enumerate() {
        if i > 0 {
            out.push(separator, call.meter)?;
        }
        format::plain(item, &mut out, call.meter)?;
    }
    Ok(out.into_value())
}

fn sort_alpha(call: &mut Call<'_>) -> Outcome {
    let mut strings: Vec<Text> = strings(call, 0)?
        .into_iter()
        .filter_map(|value| if let Value::Text(text) = value { Some(text) } else { None })
        .collect();
    let bytes: usize = strings.iter().map(|text| text.len()).sum();
    let rounds = usize::try_from(strings.len().checked_ilog2().unwrap_or(0)).unwrap_or(0) + 1;
    call.meter.spend(bytes.saturating_mul(rounds))?;
    call.meter.steps(strings.len().saturating_mul(rounds))?;
    strings.sort();
    call.made_list(strings.into_iter().map(Value::Text))
}

/// At most `most` parts; an empty separator splits into characters.
fn split(call: &mut Call<'_>, separator: &[u8], text: &[u8], most: usize) -> Result<Items, Reason> {
    let mut parts = Items::default();
    let mut rest = text;
    while parts.len() + 1 < most {
        let (part, skip) = if separator.is_empty() {
            match runes(rest).next() {
                Some((_, length)) if length < rest.len() => (length, 0),
                _ => break,
            }
        } else {
            match find(rest, separator, call)? {
                Some(found) => (found, separator.len()),
                None => break,
            }
        };
        call.meter.steps(1)?;
        parts.push_part(&rest[..part], call.meter)?;
        rest = &rest[part + skip..];
    }
    if !(separator.is_empty() && text.is_empty()) {
        parts.push_part(rest, call.meter)?;
    }
    Ok(parts)
}

fn splitn(call: &mut Call<'_>) -> Outcome {
    let (separator, count, text) = (call.text(0)?, call.int(1)?, call.text(2)?);
    let most = usize::try_from(count).unwrap_or(ANY);
    if most == 0 {
        return super::collections::dict(call, Vec::new());
    }
    numbered(call, separator, text, most)
}

/// `_0`, `_1`, ...
fn numbered(call: &mut Call<'_>, separator: &[u8], text: &[u8], most: usize) -> Outcome {
    let parts = split(call, separator, text, most)?;
    let entries = parts.into_iter().enumerate().map(|(i, part)| (Text::free(format!("_{i}").into_bytes()), part));
    super::collections::dict(call, entries.collect())
}

fn path(call: &mut Call<'_>, of: fn(&str) -> String) -> Outcome {
    let text = std::str::from_utf8(call.text(0)?).map_err(|_| Reason::ExecutionFailed)?;
    call.made(of(text).into_bytes())
}

fn base(path: &str) -> String {
    match (path.is_empty(), path.trim_end_matches('/').rsplit('/').next()) {
        (true, _) | (_, None) => ".".into(),
        (_, Some("")) => "/".into(),
        (_, Some(name)) => name.into(),
    }
}

/// The shortest equivalent of a slash-separated path.
fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            ".." if rooted => {}
            part => parts.push(part),
        }
    }
    match (rooted, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".into(),
        (false, false) => parts.join("/"),
    }
}
