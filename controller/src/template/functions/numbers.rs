//! sprig's arithmetic. Whole numbers wrap around as Go's do.

use zeroize::Zeroizing;

use super::{ANY, Call, Function, function};
use crate::template::Reason;
use crate::template::value::{Buffer, Outcome, Value};

pub(super) const FUNCTIONS: &[Function] = &[
    function("int", 1, 1, |call| Ok(Value::Int(number(call, 0)?))),
    function("int64", 1, 1, |call| Ok(Value::Int(number(call, 0)?))),
    function("float64", 1, 1, |call| Ok(Value::Float(float(call, 0)?))),
    function("atoi", 1, 1, atoi),
    function("toDecimal", 1, 1, to_decimal),
    function("add", 0, ANY, |call| folded(call, i64::wrapping_add)),
    function("add1", 1, 1, |call| Ok(Value::Int(number(call, 0)?.wrapping_add(1)))),
    function("sub", 2, 2, |call| binary(call, |a, b| Some(a.wrapping_sub(b)))),
    function("div", 2, 2, |call| binary(call, |a, b| if b == 0 { None } else { Some(a.wrapping_div(b)) })),
    function("mod", 2, 2, |call| binary(call, |a, b| if b == 0 { None } else { Some(a.wrapping_rem(b)) })),
    function("mul", 1, ANY, |call| folded(call, i64::wrapping_mul)),
    function("max", 1, ANY, |call| folded(call, i64::max)),
    function("biggest", 1, ANY, |call| folded(call, i64::max)),
    function("min", 1, ANY, |call| folded(call, i64::min)),
    function("floor", 1, 1, |call| Ok(Value::Float(float(call, 0)?.floor()))),
    function("ceil", 1, 1, |call| Ok(Value::Float(float(call, 0)?.ceil()))),
    function("round", 2, 3, round),
    function("until", 1, 1, |call| {
        let count = call.int(0)?;
        counted_list(call, 0, count, if count < 0 { -1 } else { 1 })
    }),
    function("untilStep", 3, 3, |call| {
        let (start, stop, step) = (call.int(0)?, call.int(1)?, call.int(2)?);
        counted_list(call, start, stop, step)
    }),
    function("seq", 0, ANY, seq),
];

/// A count as a value.
pub(super) fn int(n: usize) -> Outcome {
    i64::try_from(n).map(Value::Int).map_err(|_| Reason::ExecutionFailed)
}

/// What a byte costs that a number is read from.
const DIGIT: usize = 4;

/// All arguments, as whole numbers, from the first on; none make 0.
fn folded(call: &mut Call<'_>, of: fn(i64, i64) -> i64) -> Outcome {
    let mut numbers = (0..call.arguments.len()).map(|i| number(call, i));
    let first = numbers.next().transpose()?.unwrap_or(0);
    numbers.try_fold(first, |all, next| Ok(of(all, next?))).map(Value::Int)
}

fn binary(call: &mut Call<'_>, of: fn(i64, i64) -> Option<i64>) -> Outcome {
    of(number(call, 0)?, number(call, 1)?).map(Value::Int).ok_or(Reason::ExecutionFailed)
}

/// Anything as a whole number; what is none is 0.
fn number(call: &mut Call<'_>, index: usize) -> Result<i64, Reason> {
    Ok(match call.argument(index)? {
        Value::Int(n) => *n,
        Value::Float(f) => *f as i64,
        Value::Bool(b) => i64::from(*b),
        Value::Text(text) => digits(call, text)?.and_then(parse_int).unwrap_or(0),
        _ => 0,
    })
}

/// A text as one that a number is read from, paid for.
fn digits<'t>(call: &mut Call<'_>, text: &'t [u8]) -> Result<Option<&'t str>, Reason> {
    call.meter.spend(text.len().saturating_mul(DIGIT))?;
    Ok(std::str::from_utf8(text).ok())
}

/// A literal with Go's base prefixes; `.000` at the end is ignored.
fn parse_int(text: &str) -> Option<i64> {
    let text = match text.split_once('.') {
        Some((whole, zeros)) if zeros.bytes().all(|b| b == b'0') => whole,
        _ => text,
    };
    let (negative, digits) = match text.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (digits, radix) = match digits.get(..2).map(str::to_ascii_lowercase).as_deref() {
        Some("0x") => (&digits[2..], 16),
        Some("0o") => (&digits[2..], 8),
        Some("0b") => (&digits[2..], 2),
        _ if digits.len() > 1 && digits.starts_with('0') => (&digits[1..], 8),
        _ => (digits, 10),
    };
    let is_misplaced = digits.starts_with('_') && radix == 10 || digits.ends_with('_') || digits.contains("__");
    if is_misplaced || digits.starts_with(['+', '-']) {
        return None;
    }
    let digits = Zeroizing::new(digits.replace('_', ""));
    let magnitude = i128::from(u64::from_str_radix(&digits, radix).ok()?);
    i64::try_from(if negative { -magnitude } else { magnitude }).ok()
}

fn float(call: &mut Call<'_>, index: usize) -> Result<f64, Reason> {
    Ok(match call.argument(index)? {
        Value::Int(n) => *n as f64,
        Value::Float(f) => *f,
        Value::Bool(b) => f64::from(u8::from(*b)),
        Value::Text(text) => digits(call, text)?.and_then(|text| text.parse().ok()).unwrap_or(0.0),
        _ => 0.0,
    })
}

/// Like Go's: what does not fit is the nearest that does, what is no number is 0.
fn atoi(call: &mut Call<'_>) -> Outcome {
    let text = std::str::from_utf8(call.text(0)?).unwrap_or("");
    Ok(Value::Int(match text.parse::<i64>() {
        Ok(n) => n,
        Err(error) => match error.kind() {
            std::num::IntErrorKind::PosOverflow => i64::MAX,
            std::num::IntErrorKind::NegOverflow => i64::MIN,
            _ => 0,
        },
    }))
}

fn to_decimal(call: &mut Call<'_>) -> Outcome {
    let value = call.argument(0)?;
    let text = call.strval(value)?;
    let octal = std::str::from_utf8(&text).ok().and_then(|text| i64::from_str_radix(text, 8).ok());
    Ok(Value::Int(octal.unwrap_or(0)))
}

fn round(call: &mut Call<'_>) -> Outcome {
    let value = float(call, 0)?;
    let places = i32::try_from(call.int(1)?).map_err(|_| Reason::ExecutionFailed)?;
    let on = match call.arguments.get(2) {
        None => 0.5,
        Some(Value::Float(on)) => *on,
        Some(_) => return Err(Reason::ExecutionFailed),
    };
    let power = 10_f64.powi(places);
    let scaled = power * value;
    let rounded = if scaled.fract() >= on { scaled.ceil() } else { scaled.floor() };
    Ok(Value::Float(rounded / power))
}

/// The whole numbers from `start` up to, not including, `stop`.
fn counted(call: &mut Call<'_>, start: i64, stop: i64, step: i64) -> Result<Vec<i64>, Reason> {
    let mut numbers = Vec::new();
    let (mut n, down) = (start, stop < start);
    if step == 0 || down != (step < 0) {
        return Ok(numbers);
    }
    while if down { n > stop } else { n < stop } {
        call.meter.steps(4)?;
        numbers.push(n);
        match n.checked_add(step) {
            Some(next) => n = next,
            None => break,
        }
    }
    Ok(numbers)
}

fn counted_list(call: &mut Call<'_>, start: i64, stop: i64, step: i64) -> Outcome {
    let numbers = counted(call, start, stop, step)?;
    call.made_list(numbers.into_iter().map(Value::Int))
}

/// `seq LAST`, `seq FIRST LAST`, `seq FIRST STEP LAST`: numbers with spaces between them.
fn seq(call: &mut Call<'_>) -> Outcome {
    let params = (0..call.arguments.len()).map(|i| call.int(i)).collect::<Result<Vec<_>, _>>()?;
    let (first, step, last) = match params[..] {
        [last] => (1, None, last),
        [first, last] => (first, None, last),
        [first, step, last] => (first, Some(step), last),
        _ => return Ok(Buffer::new().into_value()),
    };
    let towards = if last < first { -1 } else { 1 };
    if last < first && step.is_some_and(|step| step > 0) {
        return Ok(Buffer::new().into_value());
    }
    let mut out = Buffer::new();
    let numbers = counted(call, first, last.saturating_add(towards), step.unwrap_or(towards))?;
    for (i, n) in numbers.into_iter().enumerate() {
        let space = if i > 0 { " " } else { "" };
        out.push(format!("{space}{n}").as_bytes(), call.meter)?;
    }
    Ok(out.into_value())
}
