//! A length of time as manifests spell it: `1h`, `90s`, `1h30m`, `0`.

use std::{borrow::Cow, fmt, str::FromStr, time::Duration};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A length of time in hours, minutes and seconds, in that order: `24h`, `1h30m`, `10s`; `0` is none.
///
/// It keeps its spelling, so that a manifest that is read and written stays the same.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Period {
    text: String,
    duration: Duration,
}

/// The text is not a length of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotAPeriod;

impl fmt::Display for NotAPeriod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a length of time such as `1h30m`, `10s` or `0`")
    }
}

impl std::error::Error for NotAPeriod {}

impl Period {
    /// The length itself.
    pub const fn duration(&self) -> Duration {
        self.duration
    }

    /// The spelling.
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl FromStr for Period {
    type Err = NotAPeriod;

    fn from_str(text: &str) -> Result<Self, NotAPeriod> {
        let duration = if text == "0" { Duration::ZERO } else { parts(text)? };
        Ok(Self { text: text.to_owned(), duration })
    }
}

/// Reads `1h30m10s`: each unit at most once, the longer ones first.
fn parts(text: &str) -> Result<Duration, NotAPeriod> {
    let mut rest = text;
    let mut seconds = 0u64;
    for (unit, length) in [('h', 3600), ('m', 60), ('s', 1)] {
        let Some((digits, after)) = rest.split_once(unit) else { continue };
        if digits.is_empty() || digits.len() > 6 || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(NotAPeriod);
        }
        seconds += digits.parse::<u64>().map_err(|_| NotAPeriod)? * length;
        rest = after;
    }
    if text.is_empty() || !rest.is_empty() { Err(NotAPeriod) } else { Ok(Duration::from_secs(seconds)) }
}

impl TryFrom<String> for Period {
    type Error = NotAPeriod;

    fn try_from(text: String) -> Result<Self, NotAPeriod> {
        text.parse()
    }
}

impl From<Period> for String {
    fn from(period: Period) -> Self {
        period.text
    }
}

impl fmt::Display for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Period {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl JsonSchema for Period {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Period".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "minLength": 1,
            "maxLength": 21,
            "pattern": "^(0|([0-9]{1,6}h)?([0-9]{1,6}m)?([0-9]{1,6}s)?)$",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_are_read_as_they_are_meant() {
        for (text, seconds) in
            [("0", 0), ("0s", 0), ("10s", 10), ("90s", 90), ("1h", 3600), ("1h30m", 5400), ("24h0m1s", 86401)]
        {
            let period: Period = text.parse().unwrap();
            assert_eq!((period.duration().as_secs(), period.as_str()), (seconds, text));
        }
    }

    #[test]
    fn other_spellings_are_refused() {
        for text in ["", "1", "h", "1d", "1.5h", "-1h", "1m1h", "1h1h", "1 h", "1h ", "1000000s", "+1s", "1ms"] {
            assert_eq!(text.parse::<Period>(), Err(NotAPeriod), "{text:?}");
        }
    }
}
