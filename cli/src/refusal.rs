//! What clap refuses, said as everything else is: one `error:` line, then hints.
//!
//! clap quotes what it did not expect, and that may be a key or a value: a stray word is never repeated.

use clap::{
    CommandFactory as _,
    error::{ContextKind, ContextValue, ErrorKind},
};

use crate::{
    args::Cli,
    config,
    error::{Error, Result},
};

/// The error to tell; nothing where clap has been asked for text, as by `--help`.
pub(crate) fn told(refusal: &clap::Error) -> Result<(), Error> {
    match refusal.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            Ok(())
        }
        _ if config::looks_like_private_key(&refusal.to_string()) => {
            Err(Error::usage("a private key stands on the command line, where every process can read it")
                .hint("give a file that holds it, or `-` and the key on stdin"))
        }
        _ if is_about_a_stray_word(refusal) => {
            Err(Error::usage("the command line has a word too many; it is not repeated, as it may be a secret")
                .hint("values are typed, piped, or read from files; see --help"))
        }
        _ => Err(hints(refusal).into_iter().fold(Error::usage(message(refusal)), Error::hint)),
    }
}

fn is_about_a_stray_word(refusal: &clap::Error) -> bool {
    let word = match refusal.kind() {
        ErrorKind::UnknownArgument => text(refusal, ContextKind::InvalidArg),
        ErrorKind::TooManyValues => return true,
        _ => None,
    };
    word.is_some_and(|word| !word.starts_with('-'))
}

/// clap's own first paragraph, on one line and quoted as we quote.
fn message(refusal: &clap::Error) -> String {
    if let (ErrorKind::MissingRequiredArgument, Some(missing)) =
        (refusal.kind(), list(refusal, ContextKind::InvalidArg))
    {
        return format!("what is missing: {}", missing.join(", "));
    }
    let rendered = refusal.render().to_string();
    let first = rendered.lines().next().unwrap_or_default();
    first.strip_prefix("error: ").unwrap_or(first).replace('\'', "`")
}

fn hints(refusal: &clap::Error) -> Vec<String> {
    let near = [ContextKind::SuggestedArg, ContextKind::SuggestedSubcommand, ContextKind::SuggestedValue]
        .into_iter()
        .filter_map(|kind| Some(list(refusal, kind)?.into_iter().next()?.to_owned()))
        .map(|near| format!("did you mean `{near}`?"));
    let mut hints: Vec<String> = near.collect();
    if hints.is_empty() {
        hints.extend(text(refusal, ContextKind::InvalidArg).and_then(flag_of_verbs));
    }
    if let Some(values) = list(refusal, ContextKind::ValidValue).filter(|values| !values.is_empty()) {
        hints.push(format!("it is one of: {}", values.join(", ")));
    }
    hints.extend(usage(refusal));
    hints
}

/// A flag of another verb than the one that was given, or of one where none was.
fn flag_of_verbs(flag: &str) -> Option<String> {
    let long = flag.strip_prefix("--")?;
    let command = Cli::command();
    let has_it = |verb: &&clap::Command| verb.get_arguments().any(|argument| argument.get_long() == Some(long));
    let verbs: Vec<_> =
        command.get_subcommands().filter(has_it).map(|verb| format!("`seal {}`", verb.get_name())).collect();
    (!verbs.is_empty()).then(|| format!("`{flag}` is a flag of {}", verbs.join(", ")))
}

/// `usage: seal set ...`, and where there is more.
fn usage(refusal: &clap::Error) -> Option<String> {
    let ContextValue::StyledStr(usage) = refusal.get(ContextKind::Usage)? else { return None };
    let usage = usage.to_string();
    let line = usage.lines().next()?.trim().strip_prefix("Usage: ")?.trim().to_owned();
    let verb: Vec<_> = line.split(' ').take_while(|word| word.starts_with(|c: char| c.is_ascii_lowercase())).collect();
    Some(format!("it is used as `{line}`; `{} --help` says more", verb.join(" ")))
}

fn text(refusal: &clap::Error, kind: ContextKind) -> Option<&str> {
    match refusal.get(kind)? {
        ContextValue::String(text) => Some(text),
        _ => None,
    }
}

fn list(refusal: &clap::Error, kind: ContextKind) -> Option<Vec<&str>> {
    match refusal.get(kind)? {
        ContextValue::Strings(texts) => Some(texts.iter().map(String::as_str).collect()),
        ContextValue::String(text) => Some(vec![text]),
        _ => None,
    }
}
