//! sprig's defaults, lists and dicts. Nothing is changed in place.

use std::collections::BTreeMap;

use super::{ANY, Call, Function, function};
use crate::template::Reason;
use crate::template::value::{Dict, Items, Outcome, Text, Value};

pub(super) const FUNCTIONS: &[Function] = &[
    function("default", 1, ANY, |call| {
        let given = call.arguments.get(1).filter(|given| given.is_true());
        Ok(given.unwrap_or(call.argument(0)?).clone())
    }),
    function("empty", 1, 1, |call| Ok(Value::Bool(!call.argument(0)?.is_true()))),
    function("coalesce", 0, ANY, |call| {
        Ok(call.arguments.iter().find(|value| value.is_true()).cloned().unwrap_or(Value::Nil))
    }),
    function("all", 0, ANY, |call| Ok(Value::Bool(call.arguments.iter().all(Value::is_true)))),
    function("any", 0, ANY, |call| Ok(Value::Bool(call.arguments.iter().any(Value::is_true)))),
    function("ternary", 3, 3, |call| match call.argument(2)? {
        Value::Bool(holds) => Ok(call.argument(usize::from(!holds))?.clone()),
        _ => Err(Reason::ExecutionFailed),
    }),
    function("list", 0, ANY, |call| call.made_list(call.arguments.iter().cloned())),
    function("tuple", 0, ANY, |call| call.made_list(call.arguments.iter().cloned())),
    function("first", 1, 1, |call| Ok(call.list(0)?.first().cloned().unwrap_or(Value::Nil))),
    function("mustFirst", 1, 1, |call| Ok(call.list(0)?.first().cloned().unwrap_or(Value::Nil))),
    function("last", 1, 1, |call| Ok(call.list(0)?.last().cloned().unwrap_or(Value::Nil))),
    function("mustLast", 1, 1, |call| Ok(call.list(0)?.last().cloned().unwrap_or(Value::Nil))),
    function("rest", 1, 1, rest),
    function("mustRest", 1, 1, rest),
    function("initial", 1, 1, initial),
    function("mustInitial", 1, 1, initial),
    function("append", 2, 2, append),
    function("mustAppend", 2, 2, append),
    function("push", 2, 2, append),
    function("mustPush", 2, 2, append),
    function("prepend", 2, 2, prepend),
    function("mustPrepend", 2, 2, prepend),
    function("concat", 0, ANY, concat),
    function("reverse", 1, 1, reverse),
    function("mustReverse", 1, 1, reverse),
    function("uniq", 1, 1, uniq),
    function("mustUniq", 1, 1, uniq),
    function("without", 1, ANY, without),
    function("mustWithout", 1, ANY, without),
    function("has", 2, 2, has),
    function("mustHas", 2, 2, has),
    function("compact", 1, 1, compact),
    function("mustCompact", 1, 1, compact),
    function("chunk", 2, 2, chunk),
    function("mustChunk", 2, 2, chunk),
    function("dict", 0, ANY, make_dict),
    function("get", 2, 2, |call| {
        let (dict, key) = (call.dict(0)?, call.text(1)?);
        match dict.entries().get(key) {
            Some(value) => Ok(value.clone()),
            None => call.made(Vec::new()),
        }
    }),
    function("hasKey", 2, 2, |call| {
        let (dict, key) = (call.dict(0)?, call.text(1)?);
        Ok(Value::Bool(dict.entries().contains_key(key)))
    }),
    function("pluck", 1, ANY, pluck),
    function("dig", 3, ANY, dig),
    function("keys", 0, ANY, keys),
    function("values", 1, 1, |call| {
        let values = call.dict(0)?.entries().values().cloned();
        call.made_list(values)
    }),
    function("pick", 1, ANY, |call| chosen(call, true)),
    function("omit", 1, ANY, |call| chosen(call, false)),
    // Values never change, so one is as good as its copy.
    function("deepCopy", 1, 1, |call| Ok(call.argument(0)?.clone())),
    function("mustDeepCopy", 1, 1, |call| Ok(call.argument(0)?.clone())),
    function("deepEqual", 2, 2, |call| Ok(Value::Bool(call.argument(0)?.equals(call.argument(1)?, call.meter)?))),
];

/// A dict of entries that were just made.
pub(super) fn dict(call: &mut Call<'_>, entries: Vec<(Text, Value)>) -> Outcome {
    Ok(Value::Dict(Dict::made(entries.into_iter().collect(), call.meter)?))
}

fn rest(call: &mut Call<'_>) -> Outcome {
    match call.list(0)? {
        [_, rest @ ..] => call.made_list(rest.iter().cloned()),
        [] => Ok(Value::Nil),
    }
}

fn initial(call: &mut Call<'_>) -> Outcome {
    match call.list(0)? {
        [initial @ .., _] => call.made_list(initial.iter().cloned()),
        [] => Ok(Value::Nil),
    }
}

fn append(call: &mut Call<'_>) -> Outcome {
    let (items, last) = (call.list(0)?, call.argument(1)?);
    call.made_list(items.iter().chain([last]).cloned())
}

fn prepend(call: &mut Call<'_>) -> Outcome {
    let (items, first) = (call.list(0)?, call.argument(1)?);
    call.made_list([first].into_iter().chain(items).cloned())
}

fn concat(call: &mut Call<'_>) -> Outcome {
    let lists = (0..call.arguments.len()).map(|i| call.list(i)).collect::<Result<Vec<_>, _>>()?;
    call.made_list(lists.into_iter().flatten().cloned())
}

fn reverse(call: &mut Call<'_>) -> Outcome {
    let items = call.list(0)?.iter().rev().cloned();
    call.made_list(items)
}

fn contains(call: &mut Call<'_>, items: &[Value], wanted: &Value) -> Result<bool, Reason> {
    for item in items {
        if item.equals(wanted, call.meter)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn uniq(call: &mut Call<'_>) -> Outcome {
    let mut items = Items::default();
    for item in call.list(0)? {
        if !contains(call, items.as_slice(), item)? {
            items.push(item.clone(), call.meter)?;
        }
    }
    items.into_value()
}

fn without(call: &mut Call<'_>) -> Outcome {
    let mut items = Items::default();
    for item in call.list(0)? {
        if !contains(call, &call.arguments[1..], item)? {
            items.push(item.clone(), call.meter)?;
        }
    }
    items.into_value()
}

fn has(call: &mut Call<'_>) -> Outcome {
    if matches!(call.argument(1)?, Value::Nil) {
        return Ok(Value::Bool(false));
    }
    let (items, wanted) = (call.list(1)?, call.argument(0)?);
    Ok(Value::Bool(contains(call, items, wanted)?))
}

fn compact(call: &mut Call<'_>) -> Outcome {
    let items = call.list(0)?.iter().filter(|item| item.is_true()).cloned();
    call.made_list(items)
}

fn chunk(call: &mut Call<'_>) -> Outcome {
    let size = usize::try_from(call.int(0)?).ok().filter(|size| *size > 0).ok_or(Reason::ExecutionFailed)?;
    let mut chunks = Items::default();
    for part in call.list(1)?.chunks(size) {
        let chunk = call.made_list(part.iter().cloned())?;
        chunks.push(chunk, call.meter)?;
    }
    chunks.into_value()
}

fn make_dict(call: &mut Call<'_>) -> Outcome {
    let mut entries = Vec::new();
    for pair in call.arguments.chunks(2) {
        let key = call.strval(&pair[0])?;
        let value = match pair.get(1) {
            Some(value) => value.clone(),
            None => call.made(Vec::new())?,
        };
        entries.push((key, value));
    }
    dict(call, entries)
}

fn pluck(call: &mut Call<'_>) -> Outcome {
    let mut found = Items::default();
    for i in 1..call.arguments.len() {
        // Looked for once more, and paid for once more.
        let key = call.text(0)?;
        if let Some(value) = call.dict(i)?.entries().get(key) {
            found.push(value.clone(), call.meter)?;
        }
    }
    found.into_value()
}

fn dig(call: &mut Call<'_>) -> Outcome {
    let [keys @ .., otherwise, dict] = call.arguments else { return Err(Reason::ExecutionFailed) };
    let mut value = dict;
    for key in keys {
        let (Value::Dict(dict), Value::Text(key)) = (value, key) else { return Err(Reason::ExecutionFailed) };
        call.meter.spend(key.len())?;
        match dict.entries().get(key) {
            Some(found) => value = found,
            None => return Ok(otherwise.clone()),
        }
    }
    Ok(value.clone())
}

fn keys(call: &mut Call<'_>) -> Outcome {
    let dicts = (0..call.arguments.len()).map(|i| call.dict(i)).collect::<Result<Vec<_>, _>>()?;
    call.made_list(dicts.into_iter().flat_map(|dict| dict.entries().keys()).cloned().map(Value::Text))
}

fn chosen(call: &mut Call<'_>, named: bool) -> Outcome {
    let mut names = BTreeMap::new();
    for i in 1..call.arguments.len() {
        names.insert(call.text(i)?, ());
    }
    let dict = call.dict(0)?;
    call.meter.steps(dict.entries().len())?;
    let entries = dict.entries().iter().filter(|(key, _)| names.contains_key(&***key) == named);
    let entries = entries.map(|(key, value)| (key.clone(), value.clone())).collect();
    Ok(Value::Dict(Dict::made(entries, call.meter)?))
}
