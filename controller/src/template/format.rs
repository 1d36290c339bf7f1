//! Values -> text, as Go's `fmt` prints them: `%v` for actions, and `printf`.
//!
//! Where Go prints a complaint into the text (`%!d(string=...)`), this fails: a Secret never wants it.

use super::Reason;
use super::value::{Buffer, Meter, Value, runes};

type Done = Result<(), Reason>;

/// The widest padding and the longest precision.
const MAX_WIDTH: usize = 4096;

/// Writes a value as `%v` does.
pub(super) fn plain(value: &Value, out: &mut Buffer, meter: &mut Meter) -> Done {
    meter.steps(1)?;
    match value {
        Value::Nil => out.push(b"<nil>", meter),
        Value::Bool(b) => out.push(if *b { b"true" } else { b"false" }, meter),
        Value::Int(n) => out.push(n.to_string().as_bytes(), meter),
        Value::Float(f) => out.push(shortest(*f, b'e').as_bytes(), meter),
        Value::Text(t) => out.push(t, meter),
        Value::List(_) | Value::Dict(_) => compound(value, out, meter, &mut plain),
    }
}

fn compound(
    value: &Value,
    out: &mut Buffer,
    meter: &mut Meter,
    element: &mut dyn FnMut(&Value, &mut Buffer, &mut Meter) -> Done,
) -> Done {
    match value {
        Value::List(list) => {
            out.push(b"[", meter)?;
            for (i, item) in list.items().iter().enumerate() {
                if i > 0 {
                    out.push(b" ", meter)?;
                }
                element(item, out, meter)?;
            }
            out.push(b"]", meter)
        }
        Value::Dict(dict) => {
            out.push(b"map[", meter)?;
            for (i, (key, item)) in dict.entries().iter().enumerate() {
                if i > 0 {
                    out.push(b" ", meter)?;
                }
                element(&Value::Text(key.clone()), out, meter)?;
                out.push(b":", meter)?;
                element(item, out, meter)?;
            }
            out.push(b"]", meter)
        }
        _ => Err(Reason::ExecutionFailed),
    }
}

/// `print`: spaces between neighbours of which neither is a string.
pub(super) fn print(values: &[Value], out: &mut Buffer, meter: &mut Meter) -> Done {
    for (i, value) in values.iter().enumerate() {
        if i > 0 && !matches!(value, Value::Text(_)) && !matches!(values[i - 1], Value::Text(_)) {
            out.push(b" ", meter)?;
        }
        plain(value, out, meter)?;
    }
    Ok(())
}

/// `println`: spaces between all, and a line feed.
pub(super) fn println(values: &[Value], out: &mut Buffer, meter: &mut Meter) -> Done {
    for (i, value) in values.iter().enumerate() {
        if i > 0 {
            out.push(b" ", meter)?;
        }
        plain(value, out, meter)?;
    }
    out.push(b"\n", meter)
}

/// A double-quoted Go string literal.
pub(super) fn quote(bytes: &[u8], ascii_only: bool, out: &mut Buffer, meter: &mut Meter) -> Done {
    out.push(b"\"", meter)?;
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            quoted_char(c, '"', ascii_only, out, meter)?;
        }
        for byte in chunk.invalid() {
            out.push(format!("\\x{byte:02x}").as_bytes(), meter)?;
        }
    }
    out.push(b"\"", meter)
}

fn quoted_char(c: char, quote: char, ascii_only: bool, out: &mut Buffer, meter: &mut Meter) -> Done {
    meter.spend(4)?;
    match c {
        '\x07' => out.push(b"\\a", meter),
        '\x08' => out.push(b"\\b", meter),
        '\x0c' => out.push(b"\\f", meter),
        '\n' => out.push(b"\\n", meter),
        '\r' => out.push(b"\\r", meter),
        '\t' => out.push(b"\\t", meter),
        '\x0b' => out.push(b"\\v", meter),
        '\\' => out.push(b"\\\\", meter),
        c if c == quote => out.push(&[b'\\', quote as u8], meter),
        ' '..='~' => out.push_char(c, meter),
        '\0'..='\x7f' => out.push(format!("\\x{:02x}", u32::from(c)).as_bytes(), meter),
        c if !ascii_only && is_print(c) => out.push_char(c, meter),
        c if u32::from(c) < 0x10000 => out.push(format!("\\u{:04x}", u32::from(c)).as_bytes(), meter),
        c => out.push(format!("\\U{:08x}", u32::from(c)).as_bytes(), meter),
    }
}

/// Whether a character has a shape: std decides it for `{:?}`, where only a leading mark is special.
fn is_print(c: char) -> bool {
    let mut text = [b'a', 0, 0, 0, 0];
    let length = 1 + c.encode_utf8(&mut text[1..]).len();
    std::str::from_utf8(&text[..length]).is_ok_and(|text| text.escape_debug().nth(1) == Some(c))
}

/// A float as `%g` (or `%G`) without precision: the fewest digits that name it.
pub(super) fn shortest(f: f64, e: u8) -> String {
    if !f.is_finite() {
        return if f.is_nan() {
            "NaN"
        } else if f > 0.0 {
            "+Inf"
        } else {
            "-Inf"
        }
        .into();
    }
    let scientific = format!("{f:e}");
    let exponent = exponent_of(&scientific);
    if (-4..6).contains(&exponent) { format!("{f}") } else { go_exponent(&scientific, e) }
}

fn exponent_of(scientific: &str) -> i32 {
    scientific.split_once('e').and_then(|(_, exponent)| exponent.parse().ok()).unwrap_or(0)
}

/// Rust's `1e5` as Go's `1e+05`.
fn go_exponent(scientific: &str, e: u8) -> String {
    let (mantissa, _) = scientific.split_once('e').unwrap_or((scientific, ""));
    let exponent = exponent_of(scientific);
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}{}{sign}{:02}", char::from(e), exponent.unsigned_abs())
}

/// One `%` directive.
#[derive(Default, Clone, Copy)]
struct Directive {
    minus: bool,
    plus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    width: Option<usize>,
    precision: Option<usize>,
    verb: char,
}

/// `printf`: the first value is the format.
pub(super) fn printf(values: &[Value], out: &mut Buffer, meter: &mut Meter) -> Done {
    let Some((Value::Text(format), arguments)) = values.split_first() else { return Err(Reason::ExecutionFailed) };
    let mut used = Arguments { values: arguments, next: 0, reordered: false };
    let mut rest: &[u8] = format;
    while let Some(percent) = rest.iter().position(|b| *b == b'%') {
        meter.steps(1)?;
        out.push(&rest[..percent], meter)?;
        rest = &rest[percent + 1..];
        let directive = parse_directive(&mut rest, &mut used)?;
        if directive.verb == '%' {
            out.push(b"%", meter)?;
        } else {
            let value = used.take()?;
            formatted(value, &directive, out, meter)?;
        }
    }
    out.push(rest, meter)?;
    if !used.reordered && used.next < arguments.len() { Err(Reason::ExecutionFailed) } else { Ok(()) }
}

struct Arguments<'a> {
    values: &'a [Value],
    next: usize,
    reordered: bool,
}

impl<'a> Arguments<'a> {
    fn take(&mut self) -> Result<&'a Value, Reason> {
        let value = self.values.get(self.next).ok_or(Reason::ExecutionFailed)?;
        self.next += 1;
        Ok(value)
    }

    /// `[n]` before a verb or a `*`.
    fn reorder(&mut self, rest: &mut &[u8]) -> Done {
        if !eat(rest, b'[') {
            return Ok(());
        }
        let number = digits(rest)?.ok_or(Reason::ExecutionFailed)?;
        if !eat(rest, b']') || number == 0 || number > self.values.len() {
            return Err(Reason::ExecutionFailed);
        }
        self.reordered = true;
        self.next = number - 1;
        Ok(())
    }

    fn star(&mut self) -> Result<i64, Reason> {
        match self.take()? {
            Value::Int(n) if n.unsigned_abs() <= MAX_WIDTH as u64 => Ok(*n),
            _ => Err(Reason::ExecutionFailed),
        }
    }
}

fn eat(rest: &mut &[u8], byte: u8) -> bool {
    let matches = rest.first() == Some(&byte);
    if matches {
        *rest = &rest[1..];
    }
    matches
}

fn digits(rest: &mut &[u8]) -> Result<Option<usize>, Reason> {
    let count = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    let (number, tail) = rest.split_at(count);
    *rest = tail;
    if count == 0 {
        return Ok(None);
    }
    let number = std::str::from_utf8(number).ok().and_then(|n| n.parse().ok()).filter(|n| *n <= MAX_WIDTH);
    number.map(Some).ok_or(Reason::ExecutionFailed)
}

fn parse_directive(rest: &mut &[u8], arguments: &mut Arguments<'_>) -> Result<Directive, Reason> {
    let mut directive = Directive::default();
    while let Some(flag) = rest.first() {
        match flag {
            b'-' => directive.minus = true,
            b'+' => directive.plus = true,
            b'#' => directive.sharp = true,
            b' ' => directive.space = true,
            b'0' => directive.zero = true,
            _ => break,
        }
        *rest = &rest[1..];
    }
    arguments.reorder(rest)?;
    if eat(rest, b'*') {
        let width = arguments.star()?;
        directive.minus |= width < 0;
        directive.width = Some(usize::try_from(width.unsigned_abs()).unwrap_or(MAX_WIDTH));
    } else {
        directive.width = digits(rest)?;
    }
    if eat(rest, b'.') {
        arguments.reorder(rest)?;
        directive.precision =
            if eat(rest, b'*') { usize::try_from(arguments.star()?).ok() } else { Some(digits(rest)?.unwrap_or(0)) };
    }
    arguments.reorder(rest)?;
    let (verb, length) = runes(rest).next().ok_or(Reason::ExecutionFailed)?;
    *rest = &rest[length..];
    directive.verb = verb;
    // Left-justified text is never padded with zeros.
    directive.zero &= !directive.minus;
    Ok(directive)
}

fn formatted(value: &Value, directive: &Directive, out: &mut Buffer, meter: &mut Meter) -> Done {
    meter.steps(1)?;
    match (value, directive.verb) {
        (Value::List(_) | Value::Dict(_), 'x' | 'X') => Err(Reason::ExecutionFailed),
        (Value::List(_) | Value::Dict(_), _) => {
            compound(value, out, meter, &mut |item, out, meter| formatted(item, directive, out, meter))
        }
        (Value::Nil, 'v') => padded(b"<nil>", directive, out, meter),
        (Value::Bool(b), 't' | 'v') => padded(if *b { b"true" } else { b"false" }, directive, out, meter),
        (Value::Int(n), verb) => integer(*n, verb, directive, out, meter),
        (Value::Float(f), verb) => float(*f, verb, directive, out, meter),
        (Value::Text(text), verb) => string(text, verb, directive, out, meter),
        _ => Err(Reason::ExecutionFailed),
    }
}

fn string(text: &[u8], verb: char, directive: &Directive, out: &mut Buffer, meter: &mut Meter) -> Done {
    let text = match directive.precision {
        Some(precision) if !matches!(verb, 'x' | 'X') => {
            &text[..runes(text).take(precision).map(|(_, length)| length).sum()]
        }
        Some(precision) => &text[..precision.min(text.len())],
        None => text,
    };
    match verb {
        'v' | 's' => padded(text, directive, out, meter),
        'q' => {
            let mut quoted = Buffer::new();
            let is_raw = directive.sharp
                && std::str::from_utf8(text).is_ok_and(|text| {
                    text.chars().all(|c| c != '`' && c != '\u{feff}' && (c == '\t' || !c.is_control()))
                });
            if is_raw {
                quoted.push(b"`", meter)?;
                quoted.push(text, meter)?;
                quoted.push(b"`", meter)?;
            } else {
                quote(text, directive.plus, &mut quoted, meter)?;
            }
            padded(quoted.bytes(), directive, out, meter)
        }
        'x' | 'X' => {
            let mut hex = Buffer::new();
            for (i, byte) in text.iter().enumerate() {
                if directive.space && i > 0 {
                    hex.push(b" ", meter)?;
                }
                if directive.sharp && (directive.space || i == 0) {
                    hex.push(if verb == 'x' { b"0x" } else { b"0X" }, meter)?;
                }
                let table = if verb == 'x' { b"0123456789abcdef" } else { b"0123456789ABCDEF" };
                hex.push(&[table[usize::from(byte >> 4)], table[usize::from(byte & 15)]], meter)?;
            }
            padded(hex.bytes(), directive, out, meter)
        }
        _ => Err(Reason::ExecutionFailed),
    }
}

fn integer(n: i64, verb: char, directive: &Directive, out: &mut Buffer, meter: &mut Meter) -> Done {
    let (digits, prefix) = match verb {
        'v' | 'd' => (n.unsigned_abs().to_string(), ""),
        'b' => (format!("{:b}", n.unsigned_abs()), "0b"),
        'o' => (format!("{:o}", n.unsigned_abs()), "0"),
        'O' => (format!("{:o}", n.unsigned_abs()), "0o"),
        'x' => (format!("{:x}", n.unsigned_abs()), "0x"),
        'X' => (format!("{:X}", n.unsigned_abs()), "0X"),
        'c' => {
            let c = rune(n);
            return padded(c.encode_utf8(&mut [0; 4]).as_bytes(), directive, out, meter);
        }
        'q' => {
            let mut quoted = Buffer::new();
            quoted.push(b"'", meter)?;
            quoted_char(rune(n), '\'', directive.plus, &mut quoted, meter)?;
            quoted.push(b"'", meter)?;
            return padded(quoted.bytes(), directive, out, meter);
        }
        'U' => {
            let mut text = format!("U+{n:04X}");
            if directive.sharp && is_print(rune(n)) {
                text.push_str(&format!(" '{}'", rune(n)));
            }
            return padded(text.as_bytes(), &Directive { zero: false, ..*directive }, out, meter);
        }
        _ => return Err(Reason::ExecutionFailed),
    };
    let sign = if n < 0 { "-" } else { sign_of_positive(directive) };
    let prefix = if verb == 'O' || (directive.sharp && verb != 'd' && verb != 'v') { prefix } else { "" };
    // An explicit precision is the least number of digits; zero flag and width set it otherwise.
    let least = match (directive.precision, directive.width) {
        (Some(precision), _) => precision,
        (None, Some(width)) if directive.zero => width.saturating_sub(sign.len()),
        _ => 0,
    };
    let digits = if directive.precision == Some(0) && n == 0 { String::new() } else { digits };
    if digits.is_empty() {
        return padded(b"", &Directive { zero: false, ..*directive }, out, meter);
    }
    let prefix = if prefix == "0" && digits.len() < least { "" } else { prefix };
    let text = format!("{sign}{prefix}{digits:0>least$}");
    padded(text.as_bytes(), &Directive { zero: false, ..*directive }, out, meter)
}

fn sign_of_positive(directive: &Directive) -> &'static str {
    if directive.plus {
        "+"
    } else if directive.space {
        " "
    } else {
        ""
    }
}

fn rune(n: i64) -> char {
    u32::try_from(n).ok().and_then(char::from_u32).unwrap_or('\u{fffd}')
}

fn float(f: f64, verb: char, directive: &Directive, out: &mut Buffer, meter: &mut Meter) -> Done {
    if directive.sharp {
        return Err(Reason::ExecutionFailed);
    }
    let magnitude = f.abs();
    let e = if verb.is_ascii_uppercase() { b'E' } else { b'e' };
    let digits = match verb {
        _ if !f.is_finite() => if f.is_nan() { "NaN" } else { "Inf" }.to_owned(),
        'v' | 'g' | 'G' => match directive.precision {
            None => shortest(magnitude, e),
            Some(precision) => general(magnitude, precision.max(1), e),
        },
        'e' | 'E' => go_exponent(&format!("{magnitude:.*e}", directive.precision.unwrap_or(6)), e),
        'f' | 'F' => format!("{magnitude:.*}", directive.precision.unwrap_or(6)),
        _ => return Err(Reason::ExecutionFailed),
    };
    let sign = if f.is_sign_negative() && !f.is_nan() {
        "-"
    } else if f == f64::INFINITY && !directive.space {
        "+"
    } else {
        sign_of_positive(directive)
    };
    let width = directive.width.unwrap_or(0).saturating_sub(sign.len());
    let text =
        if directive.zero && f.is_finite() { format!("{sign}{digits:0>width$}") } else { format!("{sign}{digits}") };
    padded(text.as_bytes(), &Directive { zero: false, ..*directive }, out, meter)
}

/// `%g` with a precision: that many significant digits, without trailing zeros.
fn general(f: f64, precision: usize, e: u8) -> String {
    let scientific = format!("{f:.*e}", precision - 1);
    let exponent = exponent_of(&scientific);
    let limit = i32::try_from(precision).unwrap_or(i32::MAX);
    let trim = |text: &str| {
        if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text.to_owned() }
    };
    let (mantissa, _) = scientific.split_once('e').unwrap_or((&scientific, ""));
    let significant = trim(mantissa).chars().filter(char::is_ascii_digit).count();
    let significant = i32::try_from(significant).unwrap_or(i32::MAX);
    // Go: a precision beyond the digits that there are does not postpone the exponent form.
    let limit = if limit > significant && significant > exponent { significant } else { limit };
    if exponent < -4 || exponent >= limit {
        go_exponent(&format!("{}e{exponent}", trim(mantissa)), e)
    } else {
        let decimals =
            usize::try_from((i32::try_from(precision).unwrap_or(i32::MAX) - 1 - exponent).max(0)).unwrap_or(0);
        trim(&format!("{f:.decimals$}"))
    }
}

fn padded(text: &[u8], directive: &Directive, out: &mut Buffer, meter: &mut Meter) -> Done {
    meter.spend(text.len())?;
    let width = runes(text).count();
    let padding = directive.width.unwrap_or(0).saturating_sub(width);
    if directive.minus {
        out.push(text, meter)?;
        out.repeat(b" ", padding, meter)
    } else {
        out.repeat(if directive.zero { b"0" } else { b" " }, padding, meter)?;
        out.push(text, meter)
    }
}
