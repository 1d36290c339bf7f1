//! Owns what a template computes with: values as Go's untyped data, the meter that bounds
//! memory and work, and the buffers in which secrets grow.
//!
//! Values are trees that never change once made, so nothing can refer to itself, and a recorded
//! depth keeps every recursion over them (printing, comparing, dropping) shallow. Strings are
//! bytes, as in Go, and are wiped when the last reference goes.

use std::collections::BTreeMap;
use std::rc::Rc;

use zeroize::Zeroizing;

use super::Reason;

/// What one evaluated expression costs.
pub(super) const STEP: usize = 16;
/// What a byte costs that comes into being. With [`WORK`] this bounds strings to 8 MiB.
const BYTE_MADE: usize = 4;
/// What a string, or an element of a list or dict, costs that comes into being: some 60 bytes.
const ITEM_MADE: usize = 256;
/// What a dict costs besides its entries, in elements: the first of them brings room for eleven.
const DICT_MADE: usize = 4;
/// The work that all templates of one object may do together.
pub(super) const WORK: usize = 32 << 20;
/// The longest single string, and the longest output of one object.
pub(super) const MAX_BYTES: usize = 1 << 20;
/// How deep lists and dicts may nest.
const MAX_NESTING: usize = 64;

/// What a function gives: a value, or the reason to stop.
pub(super) type Outcome = Result<Value, Reason>;

/// What is left of the work that the templates of one object may do.
pub(super) struct Meter {
    left: usize,
}

impl Meter {
    pub(super) fn new() -> Self {
        Self { left: WORK }
    }

    /// Pays for work. One unit is about a nanosecond: a byte looked at.
    pub(super) fn spend(&mut self, units: usize) -> Result<(), Reason> {
        self.left = self.left.checked_sub(units).ok_or(Reason::TooMuchWork)?;
        Ok(())
    }

    /// Pays for looking at `count` things that cost a step each.
    pub(super) fn steps(&mut self, count: usize) -> Result<(), Reason> {
        self.spend(count.saturating_mul(STEP))
    }

    /// Pays for elements that are about to take memory.
    pub(super) fn items(&mut self, count: usize) -> Result<(), Reason> {
        self.spend(count.saturating_mul(ITEM_MADE))
    }

    /// Pays for dicts that are about to take memory, without their entries.
    pub(super) fn dicts(&mut self, count: usize) -> Result<(), Reason> {
        self.items(count.saturating_mul(DICT_MADE))
    }

    fn pay_for_bytes(&mut self, count: usize) -> Result<(), Reason> {
        self.spend(count.saturating_mul(BYTE_MADE))
    }
}

/// A value of the template language.
#[derive(Clone)]
pub(super) enum Value {
    Nil,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Text),
    List(List),
    Dict(Dict),
}

impl Value {
    /// Go's notion of truth: not the zero value of its type.
    pub(super) fn is_true(&self) -> bool {
        match self {
            Self::Nil => false,
            Self::Bool(b) => *b,
            Self::Int(n) => *n != 0,
            Self::Float(f) => *f != 0.0,
            Self::Text(t) => !t.is_empty(),
            Self::List(l) => !l.items().is_empty(),
            Self::Dict(d) => !d.entries().is_empty(),
        }
    }

    fn nesting(&self) -> usize {
        match self {
            Self::List(l) => l.0.nesting,
            Self::Dict(d) => d.0.nesting,
            _ => 0,
        }
    }

    /// Whether two values are the same, all the way down.
    pub(super) fn equals(&self, other: &Self, meter: &mut Meter) -> Result<bool, Reason> {
        meter.steps(1)?;
        Ok(match (self, other) {
            (Self::Nil, Self::Nil) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Int(a), Self::Int(b)) => a == b,
            (Self::Float(a), Self::Float(b)) => a == b,
            (Self::Text(a), Self::Text(b)) => {
                meter.spend(a.len().min(b.len()))?;
                a == b
            }
            (Self::List(a), Self::List(b)) => {
                if a.items().len() != b.items().len() {
                    return Ok(false);
                }
                for (a, b) in a.items().iter().zip(b.items()) {
                    if !a.equals(b, meter)? {
                        return Ok(false);
                    }
                }
                true
            }
            (Self::Dict(a), Self::Dict(b)) => {
                if a.entries().len() != b.entries().len() {
                    return Ok(false);
                }
                for ((ka, va), (kb, vb)) in a.entries().iter().zip(b.entries()) {
                    meter.spend(ka.len().min(kb.len()))?;
                    if ka != kb || !va.equals(vb, meter)? {
                        return Ok(false);
                    }
                }
                true
            }
            _ => false,
        })
    }
}

/// Bytes that are wiped when dropped; cheap to clone.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Text(Rc<Zeroizing<Vec<u8>>>);

impl Text {
    /// Takes bytes over without paying: for what the object itself holds (values, literals).
    pub(super) fn free(bytes: Vec<u8>) -> Self {
        Self(Rc::new(Zeroizing::new(bytes)))
    }

    /// Takes over bytes that a function made.
    pub(super) fn made(bytes: Vec<u8>, meter: &mut Meter) -> Result<Self, Reason> {
        let bytes = Zeroizing::new(bytes);
        if bytes.len() > MAX_BYTES {
            return Err(Reason::OutputTooLarge);
        }
        meter.items(1)?;
        meter.pay_for_bytes(bytes.len())?;
        Ok(Self(Rc::new(bytes)))
    }
}

impl std::ops::Deref for Text {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl Ord for Text {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self[..].cmp(&other[..])
    }
}

impl PartialOrd for Text {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// Lets a dict be searched by plain bytes.
impl std::borrow::Borrow<[u8]> for Text {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

/// Values in order.
#[derive(Clone)]
pub(super) struct List(Rc<ListBody>);

struct ListBody {
    items: Vec<Value>,
    nesting: usize,
}

/// Elements that become a list, each paid for before it takes memory.
#[derive(Default)]
pub(super) struct Items(Vec<Value>);

impl Items {
    pub(super) fn push(&mut self, item: Value, meter: &mut Meter) -> Result<(), Reason> {
        meter.items(1)?;
        self.0.push(item);
        Ok(())
    }

    /// Adds a part of a string as a string of its own.
    pub(super) fn push_part(&mut self, part: &[u8], meter: &mut Meter) -> Result<(), Reason> {
        let text = Text::made(part.to_vec(), meter)?;
        self.push(Value::Text(text), meter)
    }

    pub(super) fn into_value(self) -> Outcome {
        let nesting = nesting_above(self.0.iter())?;
        Ok(Value::List(List(Rc::new(ListBody { items: self.0, nesting }))))
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn as_slice(&self) -> &[Value] {
        &self.0
    }
}

impl IntoIterator for Items {
    type Item = Value;
    type IntoIter = std::vec::IntoIter<Value>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl List {
    pub(super) fn items(&self) -> &[Value] {
        &self.0.items
    }
}

/// Values by key, in byte order.
#[derive(Clone)]
pub(super) struct Dict(Rc<DictBody>);

struct DictBody {
    entries: BTreeMap<Text, Value>,
    nesting: usize,
}

impl Dict {
    pub(super) fn made(entries: BTreeMap<Text, Value>, meter: &mut Meter) -> Result<Self, Reason> {
        meter.dicts(1)?;
        meter.items(entries.len())?;
        Self::free(entries)
    }

    /// Takes over what the object itself holds, without paying.
    pub(super) fn free(entries: BTreeMap<Text, Value>) -> Result<Self, Reason> {
        let nesting = nesting_above(entries.values())?;
        Ok(Self(Rc::new(DictBody { entries, nesting })))
    }

    pub(super) fn entries(&self) -> &BTreeMap<Text, Value> {
        &self.0.entries
    }
}

fn nesting_above<'a>(children: impl Iterator<Item = &'a Value>) -> Result<usize, Reason> {
    let nesting = 1 + children.map(Value::nesting).max().unwrap_or(0);
    if nesting > MAX_NESTING { Err(Reason::TooMuchWork) } else { Ok(nesting) }
}

/// Bytes that grow: bounded, paid for, and without unwiped copies left behind by growing.
pub(super) struct Buffer(Zeroizing<Vec<u8>>);

impl Buffer {
    pub(super) fn new() -> Self {
        Self(Zeroizing::new(Vec::new()))
    }

    pub(super) fn push(&mut self, bytes: &[u8], meter: &mut Meter) -> Result<(), Reason> {
        let length = self.0.len() + bytes.len();
        if length > MAX_BYTES {
            return Err(Reason::OutputTooLarge);
        }
        meter.pay_for_bytes(bytes.len())?;
        if length > self.0.capacity() {
            let mut grown = Zeroizing::new(Vec::with_capacity(length.next_power_of_two().max(64)));
            grown.extend_from_slice(&self.0);
            self.0 = grown; // the old bytes are wiped here
        }
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    pub(super) fn push_char(&mut self, c: char, meter: &mut Meter) -> Result<(), Reason> {
        self.push(c.encode_utf8(&mut [0; 4]).as_bytes(), meter)
    }

    pub(super) fn repeat(&mut self, bytes: &[u8], count: usize, meter: &mut Meter) -> Result<(), Reason> {
        if bytes.len().saturating_mul(count) > MAX_BYTES {
            return Err(Reason::OutputTooLarge);
        }
        meter.steps(count.div_ceil(16))?;
        for _ in 0..if bytes.is_empty() { 0 } else { count } {
            self.push(bytes, meter)?;
        }
        Ok(())
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(super) fn into_bytes(self) -> Zeroizing<Vec<u8>> {
        self.0
    }

    pub(super) fn into_text(self) -> Text {
        Text(Rc::new(self.0))
    }

    pub(super) fn into_value(self) -> Value {
        Value::Text(self.into_text())
    }
}

/// The characters of bytes that may not be UTF-8, as Go ranges over a string: each invalid byte
/// counts as one U+FFFD. The second part is the length in bytes.
pub(super) fn runes(bytes: &[u8]) -> impl Iterator<Item = (char, usize)> {
    bytes.utf8_chunks().flat_map(|chunk| {
        let broken = std::iter::repeat_n(('\u{fffd}', 1), chunk.invalid().len());
        chunk.valid().chars().map(|c| (c, c.len_utf8())).chain(broken)
    })
}
