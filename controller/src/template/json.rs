//! JSON as Go's `encoding/json` writes and reads it.

use super::Reason;
use super::value::{Buffer, Dict, Items, Meter, Text, Value};

/// How JSON is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Style {
    /// `<`, `>` and `&` as escapes: Go's default.
    Escaped,
    /// Those three as they are.
    Raw,
    /// Escaped, on many lines, indented by two spaces.
    Pretty,
}

/// Writes a value.
pub(super) fn write(value: &Value, style: Style, out: &mut Buffer, meter: &mut Meter) -> Result<(), Reason> {
    Writer { style, out, meter, indent: 0 }.value(value)
}

struct Writer<'a> {
    style: Style,
    out: &'a mut Buffer,
    meter: &'a mut Meter,
    indent: usize,
}

impl Writer<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Reason> {
        self.out.push(bytes, self.meter)
    }

    fn line(&mut self) -> Result<(), Reason> {
        if self.style != Style::Pretty {
            return Ok(());
        }
        self.put(b"\n")?;
        self.out.repeat(b"  ", self.indent, self.meter)
    }

    fn value(&mut self, value: &Value) -> Result<(), Reason> {
        self.meter.steps(1)?;
        match value {
            Value::Nil => self.put(b"null"),
            Value::Bool(b) => self.put(if *b { b"true" } else { b"false" }),
            Value::Int(n) => self.put(n.to_string().as_bytes()),
            Value::Float(f) => self.put(number(*f)?.as_bytes()),
            Value::Text(text) => self.string(text),
            Value::List(list) => {
                let items = list.items().iter();
                self.compound(b"[", b"]", items, |this, item| this.value(item))
            }
            Value::Dict(dict) => self.compound(b"{", b"}", dict.entries().iter(), |this, (key, item)| {
                this.string(key)?;
                this.put(if this.style == Style::Pretty { b": " } else { b":" })?;
                this.value(item)
            }),
        }
    }

    fn compound<T>(
        &mut self,
        open: &[u8],
        close: &[u8],
        items: impl ExactSizeIterator<Item = T>,
        mut write: impl FnMut(&mut Self, T) -> Result<(), Reason>,
    ) -> Result<(), Reason> {
        self.put(open)?;
        let is_empty = items.len() == 0;
        self.indent += 1;
        for (i, item) in items.enumerate() {
            if i > 0 {
                self.put(b",")?;
            }
            self.line()?;
            write(self, item)?;
        }
        self.indent -= 1;
        if !is_empty {
            self.line()?;
        }
        self.put(close)
    }

    fn string(&mut self, text: &[u8]) -> Result<(), Reason> {
        self.put(b"\"")?;
        for chunk in text.utf8_chunks() {
            for c in chunk.valid().chars() {
                self.char(c)?;
            }
            for _ in chunk.invalid() {
                self.put(b"\\ufffd")?;
            }
        }
        self.put(b"\"")
    }

    fn char(&mut self, c: char) -> Result<(), Reason> {
        match c {
            '"' => self.put(b"\\\""),
            '\\' => self.put(b"\\\\"),
            '\x08' => self.put(b"\\b"),
            '\x0c' => self.put(b"\\f"),
            '\n' => self.put(b"\\n"),
            '\r' => self.put(b"\\r"),
            '\t' => self.put(b"\\t"),
            '<' | '>' | '&' if self.style == Style::Raw => self.out.push_char(c, self.meter),
            '\0'..='\x1f' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                self.put(format!("\\u{:04x}", u32::from(c)).as_bytes())
            }
            c => self.out.push_char(c, self.meter),
        }
    }
}

fn number(f: f64) -> Result<String, Reason> {
    if !f.is_finite() {
        return Err(Reason::ExecutionFailed);
    }
    let magnitude = f.abs();
    if magnitude != 0.0 && !(1e-6..1e21).contains(&magnitude) {
        let text = format!("{f:e}");
        return Ok(if magnitude >= 1.0 { text.replace('e', "e+") } else { text });
    }
    Ok(format!("{f}"))
}

/// Reads a value. Every number becomes a float, as in Go.
pub(super) fn read(text: &[u8], meter: &mut Meter) -> Result<Value, Reason> {
    meter.spend(text.len().saturating_mul(8))?;
    // The parser's own tree has no bound. Texts may hold such bytes too; then it seems larger than it is.
    meter.items(text.iter().filter(|byte| b",[{".contains(byte)).count())?;
    meter.dicts(text.iter().filter(|byte| **byte == b'{').count())?;
    let text = zeroize::Zeroizing::new(String::from_utf8_lossy(text).into_owned());
    // serde's text is dropped: it quotes the input.
    let parsed = serde_json::from_str(&text).map_err(|_| Reason::ExecutionFailed)?;
    taken(parsed, meter)
}

fn taken(value: serde_json::Value, meter: &mut Meter) -> Result<Value, Reason> {
    Ok(match value {
        serde_json::Value::Null => Value::Nil,
        serde_json::Value::Bool(b) => Value::Bool(b),
        serde_json::Value::Number(n) => Value::Float(n.as_f64().ok_or(Reason::ExecutionFailed)?),
        serde_json::Value::String(text) => Value::Text(Text::made(text.into_bytes(), meter)?),
        serde_json::Value::Array(items) => {
            let mut list = Items::default();
            for item in items {
                let item = taken(item, meter)?;
                list.push(item, meter)?;
            }
            list.into_value()?
        }
        serde_json::Value::Object(entries) => {
            let entries = entries
                .into_iter()
                .map(|(key, item)| Ok((Text::made(key.into_bytes(), meter)?, taken(item, meter)?)))
                .collect::<Result<_, Reason>>()?;
            Value::Dict(Dict::made(entries, meter)?)
        }
    })
}
