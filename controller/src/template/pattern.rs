//! Regular expressions as Go's: the same syntax, ASCII classes, linear time.
//!
//! A pattern that is used again is compiled once, unless too many others came between. Compiling and every search are
//! paid for, so a search that starts over many times costs what it costs.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::rc::Rc;

use regex::bytes::{Regex, RegexBuilder};

use super::Reason;
use super::functions::Call;
use super::value::{Buffer, Items, Outcome, Text, Value};

/// What compiling one pattern costs; with [`MAX_SIZE`] about a millisecond of work.
const COMPILE: usize = 128 << 10;
/// The largest compiled pattern, in bytes.
const MAX_SIZE: usize = 256 << 10;

/// How many compiled patterns are kept at once.
const KEPT: usize = 16;

/// Compiled patterns by their source.
#[derive(Default)]
pub(super) struct Patterns(BTreeMap<Text, Rc<Regex>>);

fn compiled(call: &mut Call<'_>) -> Result<Rc<Regex>, Reason> {
    call.text(0)?;
    let Some(Value::Text(source)) = call.arguments.first() else { return Err(Reason::ExecutionFailed) };
    if let Some(regex) = call.patterns.0.get(source) {
        return Ok(regex.clone());
    }
    call.meter.spend(COMPILE)?;
    let text = std::str::from_utf8(source).map_err(|_| Reason::ExecutionFailed)?;
    let regex = RegexBuilder::new(&translated(text))
        .size_limit(MAX_SIZE)
        .dfa_size_limit(MAX_SIZE)
        .nest_limit(64)
        .build()
        .map_err(|_| Reason::ExecutionFailed)?;
    let regex = Rc::new(regex);
    if call.patterns.0.len() == KEPT {
        call.patterns.0.clear();
    }
    call.patterns.0.insert(source.clone(), regex.clone());
    Ok(regex)
}

/// Go's classes are ASCII, its brackets do not nest, and it knows `\z`, `\C`-less and `\Q...\E`.
fn translated(source: &str) -> Cow<'_, str> {
    if !source.contains(['\\', '[']) {
        return Cow::Borrowed(source);
    }
    let mut out = String::with_capacity(source.len() + 16);
    let mut rest = source;
    let mut in_class = false;
    while let Some(c) = rest.chars().next() {
        let tail = &rest[c.len_utf8()..];
        rest = tail;
        match c {
            '\\' => {
                let Some(escaped) = tail.chars().next() else {
                    out.push('\\');
                    break;
                };
                rest = &tail[escaped.len_utf8()..];
                match escaped {
                    'd' => out.push_str("[0-9]"),
                    'D' => out.push_str("[^0-9]"),
                    'w' => out.push_str("[0-9A-Za-z_]"),
                    'W' => out.push_str("[^0-9A-Za-z_]"),
                    's' => out.push_str("[\\t\\n\\f\\r ]"),
                    'S' => out.push_str("[^\\t\\n\\f\\r ]"),
                    'b' if !in_class => out.push_str("(?-u:\\b)"),
                    'B' if !in_class => out.push_str("(?-u:\\B)"),
                    'Q' if !in_class => {
                        let (literal, after) = rest.split_once("\\E").unwrap_or((rest, ""));
                        out.push_str(&regex::escape(literal));
                        rest = after;
                    }
                    escaped => {
                        out.push('\\');
                        out.push(escaped);
                    }
                }
            }
            '[' if !in_class => {
                in_class = true;
                out.push('[');
                if let Some(after) = rest.strip_prefix('^') {
                    out.push('^');
                    rest = after;
                }
                if let Some(after) = rest.strip_prefix(']') {
                    out.push_str("\\]");
                    rest = after;
                }
            }
            '[' if rest.starts_with(':') && rest.contains(":]") => {
                let end = rest.find(":]").map_or(0, |end| end + 2);
                out.push('[');
                out.push_str(&rest[..end]);
                rest = &rest[end..];
            }
            '[' => out.push_str("\\["),
            ']' => {
                in_class = false;
                out.push(']');
            }
            '&' | '~' if in_class => {
                out.push('\\');
                out.push(c);
            }
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// The text and where a pattern matches it, at most `most` times.
fn matches<'a>(call: &mut Call<'a>, most: usize) -> Result<(&'a [u8], Vec<std::ops::Range<usize>>), Reason> {
    let regex = compiled(call)?;
    let text = call.text(1)?;
    call.meter.spend(text.len().saturating_mul(8))?;
    let mut found = Vec::new();
    for one in regex.find_iter(text).take(most) {
        // The next search may look at all the rest again.
        call.meter.spend((text.len() - one.start()) / 4)?;
        call.meter.steps(1)?;
        found.push(one.range());
    }
    Ok((text, found))
}

/// A count argument: negative means all.
fn count(call: &Call<'_>) -> Result<usize, Reason> {
    match call.arguments.get(2) {
        Some(Value::Int(n)) => Ok(usize::try_from(*n).unwrap_or(usize::MAX)),
        _ => Err(Reason::ExecutionFailed),
    }
}

pub(super) fn is_match(call: &mut Call<'_>) -> Outcome {
    let (_, found) = matches(call, 1)?;
    Ok(Value::Bool(!found.is_empty()))
}

pub(super) fn find(call: &mut Call<'_>) -> Outcome {
    let (text, found) = matches(call, 1)?;
    let part = found.first().map_or(&text[..0], |range| &text[range.clone()]);
    Ok(Value::Text(Text::made(part.to_vec(), call.meter)?))
}

pub(super) fn find_all(call: &mut Call<'_>) -> Outcome {
    let most = count(call)?;
    let (text, found) = matches(call, most)?;
    let ranges = found.into_iter().map(|range| &text[range]);
    parts(call, ranges)
}

fn parts<'a>(call: &mut Call<'_>, parts: impl Iterator<Item = &'a [u8]>) -> Outcome {
    let mut items = Items::default();
    for part in parts {
        items.push_part(part, call.meter)?;
    }
    items.into_value()
}

/// `$1` and `${name}` in the replacement stand for groups, unless it is literal.
pub(super) fn replace_all(call: &mut Call<'_>, literal: bool) -> Outcome {
    let regex = compiled(call)?;
    let (text, replacement) = (call.text(1)?, call.text(2)?);
    call.meter.spend(text.len().saturating_mul(8))?;
    let mut out = Buffer::new();
    let mut expanded = zeroize::Zeroizing::new(Vec::new());
    let mut from = 0;
    for one in regex.captures_iter(text) {
        let Some(whole) = one.get(0) else { break };
        call.meter.spend((text.len() - whole.start()) / 4 + replacement.len())?;
        call.meter.steps(1 + one.len())?;
        out.push(&text[from..whole.start()], call.meter)?;
        if literal {
            out.push(replacement, call.meter)?;
        } else {
            let groups = replacement.iter().filter(|b| **b == b'$').count();
            if groups.saturating_mul(whole.len()) > super::value::MAX_BYTES {
                return Err(Reason::OutputTooLarge);
            }
            expanded.clear();
            one.expand(replacement, &mut expanded);
            out.push(&expanded, call.meter)?;
        }
        from = whole.end();
    }
    out.push(&text[from..], call.meter)?;
    Ok(out.into_value())
}

pub(super) fn split(call: &mut Call<'_>) -> Outcome {
    let most = count(call)?;
    let (text, found) = matches(call, most)?;
    let has_pattern = !call.text(0)?.is_empty();
    if most == 0 {
        return Items::default().into_value();
    }
    if has_pattern && text.is_empty() {
        return parts(call, std::iter::once(text));
    }
    let (mut ranges, mut from, mut end) = (Vec::new(), 0, 0);
    for range in found {
        if ranges.len() + 1 == most {
            break;
        }
        end = range.start;
        if range.end != 0 {
            ranges.push(from..end);
        }
        from = range.end;
    }
    if end != text.len() {
        ranges.push(from..text.len());
    }
    parts(call, ranges.into_iter().map(|range| &text[range]))
}

pub(super) fn quote_meta(call: &mut Call<'_>) -> Outcome {
    let mut out = Buffer::new();
    for byte in call.text(0)? {
        if b"\\.+*?()|[]{}^$".contains(byte) {
            out.push(b"\\", call.meter)?;
        }
        out.push(&[*byte], call.meter)?;
    }
    Ok(out.into_value())
}
