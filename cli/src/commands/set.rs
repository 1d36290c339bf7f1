//! `seal set`: new values into a sealed file, or a token to any path of a YAML file.

use std::path::Path;

use super::change::Opened;
use crate::{
    args::{change::SetArgs, seal::Scope},
    config::Config,
    error::{Error, Result, did_you_mean},
    manifest::{
        edit::{self, Changes, PathText, Step},
        yaml::{Entry, Node},
    },
    output, plan,
    request::{self, Wish},
    sealed,
    sealing::{changed, refuse_too_large},
    values::{self, Values},
};

pub(crate) fn run(args: &SetArgs) -> Result<()> {
    for key in &args.keys {
        values::checked_key(key)?; // before anybody types a secret
    }
    match (&args.at, &args.sealed_for) {
        (Some(at), Some(sealed_for)) => set_at(args, at, sealed_for),
        _ => set_keys(args),
    }
}

fn set_keys(args: &SetArgs) -> Result<()> {
    let path = args.file.as_path();
    let file = Opened::read(path)?;
    let object = file.sealed(path, args.which.name.as_deref())?;
    let config = Config::find(Some(path))?;
    let rule = config.rule_for(path);
    let names = plan::Names { name: object.name.as_deref(), namespace: object.namespace.as_deref() };
    let sealed_for =
        plan::merged(&object, names, &Wish::default(), rule).map_err(|error| error.within(path.display()))?;
    let within = |error: Error| error.within(path.display());
    plan::refuse_fetched(&object, args.keys.iter().map(String::as_str)).map_err(within)?; // before anybody types
    let ring = config.ring_for_more(args.ring.to.as_deref(), rule, &object.sealed_to)?;
    let recipient = ring.sealing_recipient()?;
    let values = values::collect(&args.keys, &args.values, &[] as &[&Path])?;
    plan::refuse_fetched(&object, values.iter().map(|(key, _)| key.as_str())).map_err(within)?;
    let data = plan::seal_values(recipient, &sealed_for, &values)?;
    let set = data.iter().map(|(key, token)| (key.as_str(), token.clone())).collect();
    let text = changed(&file.stream, &object, &Changes { set, remove: Vec::new() })
        .and_then(|text| refuse_too_large(&text).map(|()| text))
        .map_err(within)?;
    file.replace(path, &text)?;
    output::say(&format!("{}: {} sealed to ring `{}`", path.display(), keys_of(&values), ring.ring.name()));
    Ok(())
}

fn keys_of(values: &Values) -> String {
    values.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>().join(", ")
}

fn set_at(args: &SetArgs, at: &str, sealed_for: &str) -> Result<()> {
    let path = args.file.as_path();
    let steps = steps(at)?;
    let file = Opened::read(path)?;
    let document = only_document(&file, path)?;
    let config = Config::find(Some(path))?;
    let rule = config.rule_for(path);
    let scope = args.scope.or(rule.and_then(|rule| rule.scope)).unwrap_or(Scope::Strict);
    let sealed_for = request::sealed_for(sealed_for, scope)?;
    let sealed_to = sealed::key_ids(file.stream.text.as_str()).collect();
    let ring = config.ring_for_more(args.ring.to.as_deref(), rule, &sealed_to)?;
    let values = values::collect(&args.keys, &args.values, &[] as &[&Path])?;
    if values.len() != 1 {
        return Err(Error::usage("--at takes the value of one KEY").hint("run the command once for each path"));
    }
    let data = plan::seal_values(ring.sealing_recipient()?, &sealed_for, &values)?;
    let [(_, token)] = data.as_slice() else { return Err(Error::bug("one value gives one token")) };
    let Some((Step::Key(last), parents)) = steps.split_last() else {
        return Err(Error::usage("--at ends in a key, such as `db.auth.password`"));
    };
    let changes = Changes { set: vec![(last, token.clone())], remove: Vec::new() };
    let text = edit::change(file.stream.text.as_str(), &file.stream.documents, document, parents, &changes).map_err(
        |cause| {
            Error::request(format!("{} cannot be changed there", path.display()))
                .because(cause)
                .hint("nothing was written; `seal value` prints the token, to be put there by hand")
        },
    )?;
    file.replace(path, &text)?;
    if let Some(root) = file.stream.documents.get(document).and_then(|document| document.root.as_deref()) {
        tell_of_new_branch(root, parents, path);
    }
    output::say(&format!(
        "{}: {at} is {} sealed to ring `{}` for {}",
        path.display(),
        keys_of(&values),
        ring.ring.name(),
        plan::described(&sealed_for)
    ));
    Ok(())
}

/// A misspelt path makes a branch of its own, which no chart reads.
fn tell_of_new_branch(root: &Node, parents: &[Step], path: &Path) {
    let mut node = root;
    for (depth, step) in parents.iter().enumerate() {
        let next = match step {
            Step::Index(index) => node.items().and_then(|items| items.get(*index)),
            Step::Key(key) => node.get(key),
        };
        match (next, step) {
            (Some(next), _) => node = next,
            (None, Step::Index(_)) => return,
            (None, Step::Key(key)) => {
                let new = PathText(&parents[..=depth]);
                output::warn(&format!("{}: `{new}` was not there, and was made", path.display()));
                let siblings = node.entries().unwrap_or_default().iter().filter_map(Entry::key_text);
                if let Some(near) = did_you_mean(key, siblings) {
                    output::hint(&format!("did you mean `{near}`? then take it out again: nothing reads it there"));
                }
                return;
            }
        }
    }
}

fn only_document(file: &Opened, path: &Path) -> Result<usize> {
    let mut documents = file.stream.documents.iter().enumerate().filter(|(_, document)| document.root.is_some());
    match (documents.next(), documents.next()) {
        (Some((number, _)), None) => Ok(number),
        (None, _) => Err(Error::request(format!("{} is empty", path.display())).hint("write the parent key first")),
        _ => Err(Error::request(format!("{} holds several documents", path.display()))
            .hint("--at is for files with one, such as Helm values; print a token with `seal value` instead")),
    }
}

/// `db.auth[0]."a.b"`.
fn steps(path: &str) -> Result<Vec<Step>> {
    let wrong = || {
        Error::usage("--at is no path")
            .hint("write it as `db.auth[0].password`; quote a key with dots: `db.\"tls.crt\"`")
    };
    let mut steps = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(inner) = rest.strip_prefix('[') {
            let (index, behind) = inner.split_once(']').ok_or_else(wrong)?;
            steps.push(match index.strip_prefix('"').and_then(|key| key.strip_suffix('"')) {
                Some(key) => Step::Key(key.to_owned()),
                None => Step::Index(index.parse().map_err(|_| wrong())?),
            });
            rest = behind;
        } else {
            if !steps.is_empty() {
                rest = rest.strip_prefix('.').ok_or_else(wrong)?;
            }
            let (key, behind) = match rest.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"').ok_or_else(wrong)?,
                None => rest.split_at(rest.find(['.', '[']).unwrap_or(rest.len())),
            };
            if key.is_empty() {
                return Err(wrong());
            }
            steps.push(Step::Key(key.to_owned()));
            rest = behind;
        }
    }
    if steps.is_empty() { Err(wrong()) } else { Ok(steps) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read() {
        for (text, expected) in [
            ("a", "a"),
            ("db.auth[0].password", "db.auth[0].password"),
            ("db.\"tls.crt\"", "db.tls.crt"),
            ("db[\"tls.crt\"][1]", "db.tls.crt[1]"),
        ] {
            assert_eq!(PathText(&steps(text).expect("is a path")).to_string(), expected);
        }
        for text in ["", ".", "a.", ".a", "a..b", "a[x]", "a[", "a[0]b", "\"a"] {
            assert!(steps(text).is_err(), "{text}");
        }
    }
}
