//! Go's own functions.

use std::cmp::Ordering;

use super::{ANY, Call, Function, function};
use crate::template::Reason;
use crate::template::format;
use crate::template::value::{Buffer, Meter, Outcome, Value, runes};

pub(super) const FUNCTIONS: &[Function] = &[
    function("eq", 2, ANY, eq),
    function("ne", 2, 2, |call| match eq(call)? {
        Value::Bool(equal) => Ok(Value::Bool(!equal)),
        other => Ok(other),
    }),
    function("lt", 2, 2, |call| ordered(call, Ordering::is_lt)),
    function("le", 2, 2, |call| ordered(call, Ordering::is_le)),
    function("gt", 2, 2, |call| ordered(call, Ordering::is_gt)),
    function("ge", 2, 2, |call| ordered(call, Ordering::is_ge)),
    function("not", 1, 1, |call| Ok(Value::Bool(!call.argument(0)?.is_true()))),
    function("len", 1, 1, len),
    function("index", 1, ANY, index),
    function("slice", 1, 4, slice),
    function("mustSlice", 1, 4, slice),
    function("print", 0, ANY, |call| printed(call, format::print)),
    function("println", 0, ANY, |call| printed(call, format::println)),
    function("printf", 1, ANY, |call| printed(call, format::printf)),
    function("html", 0, ANY, |call| escaped(call, html)),
    function("js", 0, ANY, |call| escaped(call, js)),
    function("urlquery", 0, ANY, |call| escaped(call, query)),
];

fn eq(call: &mut Call<'_>) -> Outcome {
    let first = call.argument(0)?;
    for other in &call.arguments[1..] {
        let equal = match (first, other) {
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::Int(a), Value::Int(b)) => a == b,
            (Value::Float(a), Value::Float(b)) => a == b,
            (Value::Text(a), Value::Text(b)) => {
                call.meter.spend(a.len().min(b.len()))?;
                a == b
            }
            (Value::Nil, Value::Nil) => true,
            (Value::Nil, _) | (_, Value::Nil) => false,
            _ => return Err(Reason::ExecutionFailed),
        };
        if equal {
            return Ok(Value::Bool(true));
        }
    }
    Ok(Value::Bool(false))
}

fn ordered(call: &mut Call<'_>, holds: fn(Ordering) -> bool) -> Outcome {
    let ordering = match (call.argument(0)?, call.argument(1)?) {
        (Value::Int(a), Value::Int(b)) => Some(a.cmp(b)),
        (Value::Float(a), Value::Float(b)) => a.partial_cmp(b),
        (Value::Text(a), Value::Text(b)) => {
            call.meter.spend(a.len().min(b.len()))?;
            Some(a.cmp(b))
        }
        _ => None,
    };
    ordering.map(|ordering| Value::Bool(holds(ordering))).ok_or(Reason::ExecutionFailed)
}

fn len(call: &mut Call<'_>) -> Outcome {
    let length = match call.argument(0)? {
        Value::Text(text) => text.len(),
        Value::List(list) => list.items().len(),
        Value::Dict(dict) => dict.entries().len(),
        _ => return Err(Reason::ExecutionFailed),
    };
    super::numbers::int(length)
}

fn index(call: &mut Call<'_>) -> Outcome {
    let mut value = call.argument(0)?.clone();
    if matches!(value, Value::Nil) {
        return Err(Reason::ExecutionFailed);
    }
    for key in &call.arguments[1..] {
        value = match (&value, key) {
            (Value::List(list), Value::Int(i)) => at(*i, list.items())?.clone(),
            (Value::Text(text), Value::Int(i)) => Value::Int(i64::from(*at(*i, text)?)),
            (Value::Dict(dict), Value::Text(key)) => {
                call.meter.spend(key.len())?;
                dict.entries().get(key).cloned().unwrap_or(Value::Nil)
            }
            _ => return Err(Reason::ExecutionFailed),
        };
    }
    Ok(value)
}

fn at<T>(index: i64, items: &[T]) -> Result<&T, Reason> {
    usize::try_from(index).ok().and_then(|i| items.get(i)).ok_or(Reason::ExecutionFailed)
}

/// Go's for strings; sprig's, which takes its place there, for lists.
fn slice(call: &mut Call<'_>) -> Outcome {
    let bound = |index: usize, otherwise: usize| match call.arguments.get(index) {
        None => Ok(otherwise),
        Some(Value::Int(n)) => usize::try_from(*n).map_err(|_| Reason::ExecutionFailed),
        Some(_) => Err(Reason::ExecutionFailed),
    };
    match call.argument(0)? {
        Value::Text(text) if call.arguments.len() < 4 => {
            let part = text.get(bound(1, 0)?..bound(2, text.len())?).ok_or(Reason::ExecutionFailed)?;
            call.made(part.to_vec())
        }
        Value::List(list) if list.items().is_empty() => Ok(Value::Nil),
        Value::List(list) => {
            let items = list.items();
            let part = items.get(bound(1, 0)?..bound(2, items.len())?).ok_or(Reason::ExecutionFailed)?;
            call.made_list(part.iter().cloned())
        }
        _ => Err(Reason::ExecutionFailed),
    }
}

fn printed(call: &mut Call<'_>, print: fn(&[Value], &mut Buffer, &mut Meter) -> Result<(), Reason>) -> Outcome {
    let mut out = Buffer::new();
    print(call.arguments, &mut out, call.meter)?;
    Ok(out.into_value())
}

fn escaped(call: &mut Call<'_>, escape: fn(&[u8], &mut Buffer, &mut Meter) -> Result<(), Reason>) -> Outcome {
    let mut text = Buffer::new();
    if let [Value::Nil] = call.arguments {
        return Err(Reason::MissingKey);
    }
    format::print(call.arguments, &mut text, call.meter)?;
    let mut out = Buffer::new();
    escape(text.bytes(), &mut out, call.meter)?;
    Ok(out.into_value())
}

fn html(text: &[u8], out: &mut Buffer, meter: &mut Meter) -> Result<(), Reason> {
    for byte in text {
        match byte {
            b'\0' => out.push("\u{fffd}".as_bytes(), meter)?,
            b'"' => out.push(b"&#34;", meter)?,
            b'\'' => out.push(b"&#39;", meter)?,
            b'&' => out.push(b"&amp;", meter)?,
            b'<' => out.push(b"&lt;", meter)?,
            b'>' => out.push(b"&gt;", meter)?,
            byte => out.push(&[*byte], meter)?,
        }
    }
    Ok(())
}

fn js(text: &[u8], out: &mut Buffer, meter: &mut Meter) -> Result<(), Reason> {
    let mut rest = text;
    for (c, length) in runes(text) {
        let (raw, tail) = rest.split_at(length);
        rest = tail;
        match c {
            '\\' => out.push(b"\\\\", meter)?,
            '\'' => out.push(b"\\'", meter)?,
            '"' => out.push(b"\\\"", meter)?,
            '<' | '>' | '&' | '=' => out.push(format!("\\u{:04X}", u32::from(c)).as_bytes(), meter)?,
            c if c < ' ' => out.push(format!("\\u{:04X}", u32::from(c)).as_bytes(), meter)?,
            c if c.is_ascii() || !c.is_control() && c != '\u{2028}' && c != '\u{2029}' => out.push(raw, meter)?,
            c => out.push(format!("\\u{:04X}", u32::from(c)).as_bytes(), meter)?,
        }
    }
    Ok(())
}

fn query(text: &[u8], out: &mut Buffer, meter: &mut Meter) -> Result<(), Reason> {
    for byte in text {
        match byte {
            b' ' => out.push(b"+", meter)?,
            b if b.is_ascii_alphanumeric() || b"-_.~".contains(b) => out.push(&[*b], meter)?,
            b => out.push(format!("%{b:02X}").as_bytes(), meter)?,
        }
    }
    Ok(())
}
