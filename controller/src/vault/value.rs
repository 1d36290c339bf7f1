//! Out of Vault's answers, the values of a Secret: pure.
//!
//! [`Plan`], the [`Content`] of each of its reads -> [`Values`]
//!
//! JSON is kept as the text that came: a number stays the digits that the server sent, beyond 2^53 too. Nothing in
//! here can be printed, and no error of a parser is passed on, because those quote what they were parsing.

use std::{collections::BTreeMap, fmt, sync::Arc};

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use seal_crds::sealed_secret::{Decode, OnMissing};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor},
};
use serde_json::value::RawValue;
use thiserror::Error;
use zeroize::Zeroizing;

use super::{
    path::{Plan, Take},
    purse::Hold,
};
use crate::target::MAX_DATA;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The most fields that one secret may have: more than a Secret takes keys, and each costs more than its text.
const MOST_FIELDS: usize = 4096;

/// The most that keys and values may take together. A Secret takes half of it, but a template may leave out the rest; and
/// one field may be asked for under many keys.
const LARGEST_VALUES: usize = 2 * MAX_DATA;

/// A value of the Secret.
pub type Value = Zeroizing<Vec<u8>>;

/// The fields of one secret: names, and values as JSON text.
pub struct Content {
    /// Which version it is, where the engine keeps versions.
    pub version: Option<i64>,
    fields: BTreeMap<String, Zeroizing<String>>,
    size: usize,
    _hold: Option<Hold>,
}

/// What a plan has given.
pub struct Values {
    /// The values by the keys of the Secret.
    pub values: BTreeMap<String, Value>,
    /// The versions that they come from, by mount and path.
    pub versions: BTreeMap<String, i64>,
    /// What they take in memory.
    pub hold: Option<Hold>,
}

/// Why a text is not the content of a secret.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum ContentError {
    /// It is no JSON object.
    #[error("not a JSON object")]
    NotAnObject,
    /// It has too many fields.
    #[error("more than {MOST_FIELDS} fields")]
    TooMany,
}

/// Why a field gives no value. Names places and fields, never values.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum FieldError {
    /// There is no such field.
    #[error("{place} has no field `{field}`")]
    Absent {
        /// Mount and path.
        place: String,
        /// The field.
        field: String,
    },
    /// It is null.
    #[error("field `{field}` of {place} is null")]
    Null {
        /// Mount and path.
        place: String,
        /// The field.
        field: String,
    },
    /// Its text is not base64.
    #[error("field `{field}` of {place} is not base64")]
    NotBase64 {
        /// Mount and path.
        place: String,
        /// The field.
        field: String,
    },
    /// Its name cannot be a key of a Secret.
    #[error("a field of {place} cannot be a key of a Secret; leave it out with include, or name it in data")]
    NotAKey {
        /// Mount and path. The name of the field came from the server, and may be a secret itself.
        place: String,
    },
    /// All of it is more than any Secret takes.
    #[error("the values have more than {} MiB together", LARGEST_VALUES >> 20)]
    TooLarge,
    /// The patterns cannot be compiled.
    #[error("an include for {0} is not a regular expression, or too large a one")]
    Pattern(String),
}

impl Content {
    /// Reads a JSON object.
    ///
    /// # Errors
    ///
    /// If it is something else, or has too many fields.
    pub fn of(json: &str, version: Option<i64>) -> Result<Self, ContentError> {
        let mut reader = serde_json::Deserializer::from_str(json);
        let fields = reader.deserialize_map(Fields).map_err(|_| ContentError::NotAnObject)?;
        reader.end().map_err(|_| ContentError::NotAnObject)?;
        let fields = fields.ok_or(ContentError::TooMany)?;
        let fields = fields.into_iter().map(|(name, value)| (name, Zeroizing::new(value.get().to_owned())));
        Ok(Self { version, fields: fields.collect(), size: json.len(), _hold: None })
    }

    /// The same, with what it takes in memory.
    pub fn holding(self, hold: Hold) -> Self {
        Self { _hold: Some(hold), ..self }
    }

    /// The length of the text that it was.
    pub fn size(&self) -> usize {
        self.size
    }

    /// The JSON text of a field, by its name or by a JSON pointer (RFC 6901).
    fn find(&self, field: &str) -> Option<&str> {
        let Some(pointer) = field.strip_prefix('/') else { return self.fields.get(field).map(|value| value.as_str()) };
        let parts: Vec<_> = pointer.split('/').map(|part| part.replace("~1", "/").replace("~0", "~")).collect();
        let (first, rest) = parts.split_first()?;
        let mut reader = serde_json::Deserializer::from_str(self.fields.get(first)?);
        Follow(rest).deserialize(&mut reader).ok()?.map(RawValue::get)
    }
}

/// The fields of an object; none if they are too many.
struct Fields;

impl<'de> Visitor<'de> for Fields {
    type Value = Option<BTreeMap<String, &'de RawValue>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = BTreeMap::new();
        for _ in 0..MOST_FIELDS {
            let Some((name, value)) = map.next_entry()? else { return Ok(Some(fields)) };
            fields.insert(name, value);
        }
        let mut is_all = true;
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {
            is_all = false;
        }
        Ok(is_all.then_some(fields))
    }
}

/// What a pointer leads to, found in one pass over the text however long the pointer is.
struct Follow<'p>(&'p [String]);

impl<'de> DeserializeSeed<'de> for Follow<'_> {
    type Value = Option<&'de RawValue>;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Self::Value, D::Error> {
        if self.0.is_empty() { <&RawValue>::deserialize(json).map(Some) } else { json.deserialize_any(self) }
    }
}

impl<'de> Visitor<'de> for Follow<'_> {
    type Value = Option<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or an array")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let (part, rest) = self.0.split_first().ok_or_else(|| A::Error::custom("no part"))?;
        let mut found = None;
        while let Some(is_meant) = map.next_key_seed(Named(part))? {
            if is_meant {
                found = map.next_value_seed(Follow(rest))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Self::Value, A::Error> {
        let (part, rest) = self.0.split_first().ok_or_else(|| A::Error::custom("no part"))?;
        let is_index = part == "0" || (!part.starts_with('0') && part.bytes().all(|byte| byte.is_ascii_digit()));
        let mut left: Option<usize> = part.parse().ok().filter(|_| is_index);
        let mut found = None;
        loop {
            let is_there = match left {
                Some(0) => elements.next_element_seed(Follow(rest))?.map(|element| found = element).is_some(),
                _ => elements.next_element::<IgnoredAny>()?.is_some(),
            };
            if !is_there {
                return Ok(found);
            }
            left = left.and_then(|left| left.checked_sub(1));
        }
    }
}

/// Whether a key is this.
struct Named<'p>(&'p str);

impl<'de> DeserializeSeed<'de> for Named<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, key: D) -> Result<bool, D::Error> {
        key.deserialize_str(self)
    }
}

impl Visitor<'_> for Named<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<bool, E> {
        Ok(key == self.0)
    }
}

/// Takes everything out of the answers that the plan asks for. `None` in `answers`: there is nothing at that path, and
/// the plan says to go without.
///
/// # Errors
///
/// The first field that gives no value: then nothing is taken at all.
pub fn compose(plan: &Plan, answers: &[Option<Arc<Content>>]) -> Result<Values, FieldError> {
    let mut values = Bounded::default();
    for take in plan.takes() {
        let read = match take {
            Take::Field { read, .. } | Take::All { read, .. } => *read,
        };
        let place = || plan.reads()[read].place();
        let Some(content) = answers.get(read).and_then(Option::as_ref) else { continue };
        match take {
            Take::Field { key, field, decode, .. } => {
                let json = content.find(field);
                let json = json.ok_or_else(|| FieldError::Absent { place: place(), field: shown(field) })?;
                let value = value(json).ok_or_else(|| FieldError::Null { place: place(), field: shown(field) })?;
                let value = decoded(value, *decode);
                let value = value.ok_or_else(|| FieldError::NotBase64 { place: place(), field: shown(field) })?;
                values.insert(key.clone(), value)?;
            }
            Take::All { include, prefix, decode, .. } => {
                let pattern = include.compiled().ok_or_else(|| FieldError::Pattern(place()))?;
                for (name, json) in &content.fields {
                    if !include.is_empty() && !pattern.is_match(name) {
                        continue;
                    }
                    // Whoever takes everything takes what is there; null is nothing.
                    let Some(value) = value(json) else { continue };
                    let key = format!("{prefix}{name}");
                    if !is_key(&key) {
                        return Err(FieldError::NotAKey { place: place() });
                    }
                    let value = decoded(value, *decode);
                    let value = value.ok_or_else(|| FieldError::NotBase64 { place: place(), field: shown(name) })?;
                    values.insert(key, value)?;
                }
            }
        }
    }
    Ok(Values { values: values.values, versions: versions(plan, answers), hold: None })
}

/// Values that are no more than so much together.
#[derive(Default)]
struct Bounded {
    values: BTreeMap<String, Value>,
    size: usize,
}

impl Bounded {
    fn insert(&mut self, key: String, value: Value) -> Result<(), FieldError> {
        self.size += key.len() + value.len();
        // Some of the key is counted twice where one takes another's place, and no more.
        self.size -= self.values.insert(key, value).map_or(0, |before| before.len());
        if self.size > LARGEST_VALUES { Err(FieldError::TooLarge) } else { Ok(()) }
    }
}

/// The latest version of a path stands, where a fixed one is read as well.
fn versions(plan: &Plan, answers: &[Option<Arc<Content>>]) -> BTreeMap<String, i64> {
    let mut versions = BTreeMap::new();
    let read = || plan.reads().iter().zip(answers);
    for is_fixed in [true, false] {
        for (read, content) in read().filter(|(read, _)| read.version.is_some() == is_fixed) {
            if let Some(version) = content.as_ref().and_then(|content| content.version) {
                versions.insert(read.place(), version);
            }
        }
    }
    versions
}

/// Whether a plan goes without a path at which there is nothing.
pub fn goes_without(plan: &Plan) -> bool {
    plan.on_missing == OnMissing::RemoveKey
}

/// The bytes of a JSON value: of a string its text, of anything else its JSON. None for null.
fn value(json: &str) -> Option<Value> {
    match json.as_bytes().first() {
        Some(b'"') => serde_json::from_str::<String>(json).ok().map(|text| Zeroizing::new(text.into_bytes())),
        Some(b'n') => None,
        _ => Some(Zeroizing::new(json.as_bytes().to_vec())),
    }
}

/// None: it does not decode. Line breaks in base64 are usual, and mean nothing.
fn decoded(value: Value, decode: Option<Decode>) -> Option<Value> {
    match decode {
        None => Some(value),
        Some(Decode::Base64) => {
            let text: Value =
                Zeroizing::new(value.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect());
            BASE64.decode(&*text).ok().map(Zeroizing::new)
        }
    }
}

fn is_key(key: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    (1..=253).contains(&key.len()) && key.bytes().all(is_plain) && key != "." && !key.starts_with("..")
}

fn shown(field: &str) -> String {
    field.chars().take(80).flat_map(char::escape_default).collect()
}

#[cfg(test)]
mod tests {
    use seal_crds::sealed_secret::VaultSource;

    use super::*;

    const SECRET: &str = r#"{
        "user": "ada", "empty": "", "number": 12345678901234567890, "float": 1.10, "yes": true, "nothing": null,
        "quoted": "a\"b\nü", "deep": {"list": [1, {"a/b": "x", "m~n": "y", "": "z"}], "big": 9007199254740993},
        "binary": "AP8=", "bare": "AP8", "wrapped": "AP\n8=\n", "broken": "**", "/slash": "s", "a b": "space"
    }"#;

    fn plan(text: &str) -> Plan {
        let source: VaultSource = serde_yaml::from_str(&format!("{{storeRef: {{name: main}}, {text}}}")).unwrap();
        Plan::of(&source).unwrap()
    }

    fn content(version: i64) -> Option<Arc<Content>> {
        Some(Arc::new(Content::of(SECRET, Some(version)).unwrap()))
    }

    fn field(field: &str, more: &str) -> Result<Vec<u8>, FieldError> {
        let field = serde_json::to_string(field).unwrap();
        let plan = plan(&format!("data: [{{key: k, mount: kv, path: p, field: {field} {more}}}]"));
        let mut values = compose(&plan, &[content(1)])?.values;
        Ok(values.remove("k").unwrap().to_vec())
    }

    #[test]
    fn fields_are_taken_by_name_or_by_pointer_as_the_server_sent_them() {
        for (name, value) in [
            ("user", "ada"),
            ("empty", ""),
            ("number", "12345678901234567890"),
            ("float", "1.10"),
            ("yes", "true"),
            ("quoted", "a\"b\nü"),
            ("/deep/big", "9007199254740993"),
            ("/deep/list/0", "1"),
            ("/deep/list/1/a~1b", "x"),
            ("/deep/list/1/m~0n", "y"),
            ("/deep/list/1/", "z"),
            ("/user", "ada"),
            ("/~1slash", "s"),
            ("/deep/list", r#"[1, {"a/b": "x", "m~n": "y", "": "z"}]"#),
        ] {
            assert_eq!(field(name, "").map(|value| String::from_utf8(value).unwrap()), Ok(value.to_owned()), "{name}");
        }
    }

    #[test]
    fn a_field_that_is_not_there_is_named_and_nothing_is_quoted() {
        for name in
            ["User", "deep.big", "/deep/none", "/deep/list/2", "/deep/list/00", "/deep/list/+0", "/user/x", "/slash"]
        {
            assert!(matches!(field(name, ""), Err(FieldError::Absent { .. })), "{name}");
        }
        assert!(matches!(field("nothing", ""), Err(FieldError::Null { .. })));
        let error = field("broken", ", decode: Base64").unwrap_err();
        assert!(matches!(error, FieldError::NotBase64 { .. }) && !error.to_string().contains("**"), "{error}");
    }

    #[test]
    fn base64_is_decoded_with_and_without_padding_and_over_lines() {
        for name in ["binary", "bare", "wrapped"] {
            assert_eq!(field(name, ", decode: Base64"), Ok(vec![0, 255]), "{name}");
        }
        assert_eq!(field("empty", ", decode: Base64"), Ok(vec![]));
    }

    #[test]
    fn whole_secrets_are_taken_by_pattern_and_named_keys_win() {
        let plan = plan(
            "data: [{key: P_user, mount: kv, path: q, field: number}],
             dataFrom: [{mount: kv, path: p, include: ['^u', '^yes$', 'nothing'], prefix: P_}]",
        );
        let values = compose(&plan, &[content(3), content(4)]).unwrap();
        let text = |key: &str| String::from_utf8(values.values[key].to_vec()).unwrap();
        assert_eq!(values.values.keys().collect::<Vec<_>>(), ["P_user", "P_yes"]);
        assert_eq!((text("P_user"), text("P_yes")), ("12345678901234567890".into(), "true".into()));
        assert_eq!(values.versions, BTreeMap::from([("kv/p".into(), 3), ("kv/q".into(), 4)]));
    }

    #[test]
    fn a_name_that_cannot_be_a_key_fails_the_whole_unless_left_out() {
        let all = plan("dataFrom: [{mount: kv, path: p}]");
        let error = compose(&all, &[content(1)]).err().unwrap();
        let told = "a field of kv/p cannot be a key of a Secret; leave it out with include, or name it in data";
        assert_eq!(error.to_string(), told, "a name that came from the server may be a secret itself");
        let some = plan("dataFrom: [{mount: kv, path: p, include: ['^[a-z]+$']}]");
        assert_eq!(compose(&some, &[content(1)]).unwrap().values.len(), 11);
    }

    #[test]
    fn a_path_that_is_gone_leaves_out_its_own_keys_only() {
        let plan = plan("data: [{key: a, mount: kv, path: p, field: user}, {key: b, mount: kv, path: q, field: user}]");
        let values = compose(&plan, &[None, content(2)]).unwrap();
        assert_eq!(values.values.keys().collect::<Vec<_>>(), ["b"]);
        assert_eq!(values.versions.keys().collect::<Vec<_>>(), ["kv/q"]);
    }

    #[test]
    fn a_fixed_version_does_not_hide_the_latest() {
        let plan = plan(
            "data: [{key: a, mount: kv, path: p, field: user}, {key: b, mount: kv, path: p, field: user, version: 2}]",
        );
        let values = compose(&plan, &[content(7), content(2)]).unwrap();
        assert_eq!(values.versions["kv/p"], 7);
    }

    #[test]
    fn one_field_under_many_keys_is_no_more_than_a_secret_could_hold() {
        let plan = |keys: usize| {
            let keys: Vec<_> = (0..keys).map(|i| format!("{{key: k{i}, mount: kv, path: p, field: x}}")).collect();
            plan(&format!("data: [{}]", keys.join(", ")))
        };
        let json = format!(r#"{{"x": "{}"}}"#, "x".repeat(700_000));
        let content = Some(Arc::new(Content::of(&json, None).unwrap()));
        assert_eq!(compose(&plan(2), std::slice::from_ref(&content)).unwrap().values.len(), 2);
        assert_eq!(compose(&plan(200), std::slice::from_ref(&content)).map(drop), Err(FieldError::TooLarge));
        // What takes another's place is there once.
        let again =
            "dataFrom: [{mount: kv, path: p}, {mount: kv, path: p}, {mount: kv, path: p}, {mount: kv, path: p}]";
        assert_eq!(compose(&super::tests::plan(again), &[content]).unwrap().values.len(), 1);
    }

    #[test]
    fn a_secret_of_more_fields_than_any_needs_is_not_read() {
        let json = |fields: usize| {
            let fields: Vec<_> = (0..fields).map(|i| format!(r#""f{i}": 0"#)).collect();
            format!("{{{}}}", fields.join(", "))
        };
        assert!(Content::of(&json(MOST_FIELDS), None).is_ok());
        assert_eq!(Content::of(&json(MOST_FIELDS + 1), None).map(drop), Err(ContentError::TooMany));
    }

    #[test]
    fn what_is_no_object_has_no_content() {
        for json in ["", "null", "[]", "\"x\"", "{", "{\"a\": }"] {
            assert_eq!(Content::of(json, None).map(drop), Err(ContentError::NotAnObject), "{json}");
        }
    }
}
