//! The functions that a template may call: Go's own and a deterministic part of sprig v3.3.0.
//!
//! What is left out: time, randomness, environment, network, key and certificate making, password
//! hashing, reflection, and everything that changes a dict in place (values here never change).
//! What differs on purpose: where the original writes an error message into the output (`b64dec`,
//! `b32dec`) or swallows an error (`fromJson`, `regexMatch`), this fails, because the output is a
//! Secret; `keys` and `values` are in key order instead of none.

mod builtin;
mod collections;
mod encoding;
mod numbers;
mod strings;
mod urls;

use super::Reason;
use super::format;
use super::pattern::Patterns;
use super::value::{Buffer, Dict, Items, Meter, Outcome, Text, Value};

/// A function by its name, with the number of arguments that it takes.
pub(super) struct Function {
    name: &'static str,
    pub(super) least: usize,
    pub(super) most: usize,
    pub(super) run: fn(&mut Call<'_>) -> Outcome,
    pub(super) special: Option<Special>,
}

/// Functions that the executor runs itself, because they do not evaluate all of their arguments.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Special {
    And,
    Or,
}

const ANY: usize = usize::MAX;

const fn function(name: &'static str, least: usize, most: usize, run: fn(&mut Call<'_>) -> Outcome) -> Function {
    Function { name, least, most, run, special: None }
}

const fn special(name: &'static str, special: Special) -> Function {
    Function { name, least: 1, most: ANY, run: |_| Err(Reason::ExecutionFailed), special: Some(special) }
}

const SPECIAL: &[Function] = &[special("and", Special::And), special("or", Special::Or)];

/// Finds a function.
pub(super) fn lookup(name: &str) -> Option<&'static Function> {
    all().find(|function| function.name == name)
}

fn all() -> impl Iterator<Item = &'static Function> {
    [
        SPECIAL,
        builtin::FUNCTIONS,
        strings::FUNCTIONS,
        encoding::FUNCTIONS,
        numbers::FUNCTIONS,
        collections::FUNCTIONS,
        urls::FUNCTIONS,
    ]
    .into_iter()
    .flatten()
}

/// The names of all functions, for the documentation and its test.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    all().map(|function| function.name)
}

/// One call: arguments in, meter to pay with.
pub(super) struct Call<'a> {
    pub(super) arguments: &'a [Value],
    pub(super) meter: &'a mut Meter,
    pub(super) patterns: &'a mut Patterns,
}

impl<'a> Call<'a> {
    fn argument(&self, index: usize) -> Result<&'a Value, Reason> {
        self.arguments.get(index).ok_or(Reason::ExecutionFailed)
    }

    /// A string argument, paid for as if every byte were looked at.
    pub(super) fn text(&mut self, index: usize) -> Result<&'a [u8], Reason> {
        match self.argument(index)? {
            Value::Text(text) => {
                self.meter.spend(text.len())?;
                Ok(text)
            }
            _ => Err(Reason::ExecutionFailed),
        }
    }

    fn int(&self, index: usize) -> Result<i64, Reason> {
        match self.argument(index)? {
            Value::Int(n) => Ok(*n),
            _ => Err(Reason::ExecutionFailed),
        }
    }

    fn list(&mut self, index: usize) -> Result<&'a [Value], Reason> {
        match self.argument(index)? {
            Value::List(list) => {
                self.meter.steps(list.items().len())?;
                Ok(list.items())
            }
            _ => Err(Reason::ExecutionFailed),
        }
    }

    fn dict(&mut self, index: usize) -> Result<&'a Dict, Reason> {
        match self.argument(index)? {
            Value::Dict(dict) => Ok(dict),
            _ => Err(Reason::ExecutionFailed),
        }
    }

    /// Any argument as a string: strings as they are, the rest as printed.
    fn strval(&mut self, value: &Value) -> Result<Text, Reason> {
        if let Value::Text(text) = value {
            self.meter.spend(text.len())?;
            return Ok(text.clone());
        }
        self.meter.items(1)?;
        let mut out = Buffer::new();
        format::plain(value, &mut out, self.meter)?;
        Ok(out.into_text())
    }

    fn made(&mut self, bytes: Vec<u8>) -> Outcome {
        Ok(Value::Text(Text::made(bytes, self.meter)?))
    }

    fn made_list(&mut self, items: impl IntoIterator<Item = Value>) -> Outcome {
        let mut made = Items::default();
        for item in items {
            made.push(item, self.meter)?;
        }
        made.into_value()
    }
}
