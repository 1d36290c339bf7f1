//! `seal [FILE...]`: Secrets in, SealedSecrets out.
//!
//! read everything -> plan and seal every Secret -> write. A fault anywhere and nothing is written.

use std::{
    collections::BTreeSet,
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
};

use crate::{
    args::{
        Cli,
        seal::{Format, SealArgs},
    },
    config::Config,
    error::{Error, Result, did_you_mean},
    files,
    manifest::{
        read::{self, Stream},
        yaml::is_json,
    },
    output,
    request::{Destination, Input, Request, format_of},
    sealed,
    sealing::{Sealer, Source, merged_text, new_text, refuse_too_large, spliced},
};

pub(crate) fn run(args: SealArgs) -> Result<()> {
    let request = Request::of(args)?;
    if request.inputs.iter().any(|input| matches!(input, Input::Stdin)) && io::stdin().is_terminal() {
        return Err(Error::usage("there is nothing to seal: no file was given and stdin is the terminal")
            .hint("pipe a Secret in, as `kubectl create secret ... --dry-run=client -o yaml | seal`, or name a file")
            .hint("to type values instead: `seal create FILE -n NAMESPACE --name NAME KEY`"));
    }
    let sources = request.inputs.iter().map(source).collect::<Result<Vec<_>>>()?;
    if request.wish.name.is_some() {
        refuse_one_name_for_several(&sources)?;
    }
    match &request.destination {
        Destination::Stdout { path } => to_stdout(&request, &sources, path.as_deref()),
        Destination::File { path, prune } => to_file(&request, &sources, path, *prune),
        Destination::InPlace => in_place(&request, &sources),
    }
}

fn source(input: &Input) -> Result<Source> {
    match input {
        Input::Stdin => Source::of(None, files::read_stdin()?),
        Input::File(path) => {
            let bytes = files::read_if_exists(path)?.ok_or_else(|| no_such_file(path))?;
            Source::of(Some(path.clone()), bytes)
        }
    }
}

/// A word without a file behind it may be a verb that was misspelt.
fn no_such_file(path: &Path) -> Error {
    use clap::CommandFactory as _;
    let command = Cli::command();
    let verbs: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
    if path == Path::new("seal") {
        return files::no_such_file(path).hint("sealing is what `seal` does without a verb: `seal FILE`");
    }
    match path.to_str().and_then(|word| did_you_mean(word, verbs)) {
        Some(verb) => {
            Error::request(format!("there is no file {}", path.display())).hint(format!("did you mean `seal {verb}`?"))
        }
        None => files::no_such_file(path),
    }
}

fn to_stdout(request: &Request, sources: &[Source], path: Option<&Path>) -> Result<()> {
    refuse_nothing(sources)?;
    let config = Config::find(path)?;
    let mut sealer = Sealer::new(request, &config, path, &BTreeSet::new())?;
    let text = new_text(sources, request.format, &mut sealer)?;
    refuse_too_large(&text)?;
    if sealer.report.is_empty() {
        output::warn("there is no Secret in the input; it is passed through as it is");
    }
    if request.is_dry_run {
        return sealer.tell(None);
    }
    output::data(text.as_bytes())
}

fn to_file(request: &Request, sources: &[Source], path: &Path, prune: bool) -> Result<()> {
    refuse_nothing(sources)?;
    if sources.iter().any(|source| source.path.as_deref().is_some_and(|input| is_same_file(input, path))) {
        return Err(Error::usage(format!("{} is both read and written", path.display()))
            .hint("pass --in-place to replace the Secrets in a file"));
    }
    let config = Config::find(Some(path))?;
    let before = files::read_old(path)?;
    let existing = match &before {
        Some(bytes) => Some(Stream::parse(bytes).map_err(|error| error.within(path.display()))?),
        None => None,
    };
    let sealed_to = existing.iter().flat_map(|stream| sealed::key_ids(stream.text.as_str())).collect();
    let mut sealer = Sealer::new(request, &config, Some(path), &sealed_to)?;
    let after = match existing.filter(|stream| !stream.is_empty()) {
        Some(stream) => {
            refuse_another_format(request.format, &stream, path)?;
            refuse_unsealed(&stream, path)?;
            let text = merged_text(&stream, sources, path, prune, &mut sealer)?;
            refuse_too_large(&text).map_err(|error| error.within(path.display()))?;
            stream.text.encode_like(&text)
        }
        None => {
            let text = new_text(sources, request.format.or_else(|| format_of(path)), &mut sealer)?;
            refuse_too_large(&text).map_err(|error| error.within(path.display()))?;
            text.into_bytes()
        }
    };
    if !request.is_dry_run {
        files::replace(path, before.as_deref().map(Vec::as_slice), &after)?;
    }
    if sealer.report.is_empty() {
        output::warn("there is no Secret in the input");
    }
    sealer.tell(Some(path))
}

fn refuse_another_format(format: Option<Format>, existing: &Stream, path: &Path) -> Result<()> {
    let (is, other) =
        if existing.documents.iter().any(is_json) { ("JSON", Format::Yaml) } else { ("YAML", Format::Json) };
    if format != Some(other) {
        return Ok(());
    }
    Err(Error::usage(format!("{} is {is}, and -o asks for another format", path.display()))
        .hint("leave -o out to merge into it, or write another file"))
}

/// A file that is merged into is about to be committed.
fn refuse_unsealed(existing: &Stream, path: &Path) -> Result<()> {
    for document in &existing.documents {
        if !existing.secrets(document).map_err(|error| error.within(path.display()))?.is_empty() {
            return Err(Error::request(format!("{} holds a Secret that is not sealed", path.display()))
                .hint(format!("seal it where it stands: seal --in-place {}", path.display())));
        }
    }
    Ok(())
}

fn in_place(request: &Request, sources: &[Source]) -> Result<()> {
    let mut prepared: Vec<(&PathBuf, &Source, String, Sealer<'_>)> = Vec::new();
    let configs = sources.iter().map(|source| Config::find(source.path.as_deref())).collect::<Result<Vec<_>>>()?;
    let mut progress = output::Progress::of("sealing", sources.len());
    for (source, config) in sources.iter().zip(&configs) {
        progress.step();
        let Some(path) = &source.path else { continue };
        let is_given_twice = prepared.iter().any(|(known, ..)| is_same_file(known, path));
        if is_given_twice || source.count_secrets()? == 0 {
            continue;
        }
        let sealed_to = sealed::key_ids(source.stream.text.as_str()).collect();
        let mut sealer = Sealer::new(request, config, Some(path), &sealed_to)?;
        let text = spliced(source, &mut sealer)?;
        refuse_two_of_one_name(&text)
            .and_then(|()| refuse_too_large(&text))
            .map_err(|error| error.within(source.shown()))?;
        prepared.push((path, source, text, sealer));
    }
    drop(progress);
    if prepared.is_empty() {
        output::say("there is no Secret in these files; nothing was changed");
    }
    for (path, source, text, sealer) in &prepared {
        if !request.is_dry_run {
            files::replace(path, Some(&source.bytes), &source.stream.text.encode_like(text))?;
        }
        sealer.tell(Some(path))?;
    }
    Ok(())
}

/// A Secret beside the SealedSecret that it should have been merged into.
fn refuse_two_of_one_name(text: &str) -> Result<()> {
    let sealed = Stream::parse(text.as_bytes())?.sealed_secrets()?;
    for (index, object) in sealed.iter().enumerate() {
        let is_same = |other: &read::Sealed| other.name == object.name && other.namespace == object.namespace;
        if sealed[..index].iter().any(is_same) {
            let name = object.name.as_deref().unwrap_or_default();
            return Err(Error::request(format!("the file holds `{name}` both sealed and as a Secret"))
                .hint("move the Secret into a file of its own and merge it: seal SECRET -w SEALED"));
        }
    }
    Ok(())
}

fn refuse_one_name_for_several(sources: &[Source]) -> Result<()> {
    match sources.iter().map(Source::count_secrets).sum::<Result<usize>>()? {
        0 | 1 => Ok(()),
        several => Err(Error::usage(format!("--name is the name of one Secret, and the input holds {several}"))
            .hint("give each its `metadata.name`, or seal them one by one")),
    }
}

/// An empty input is what a failed command before the pipe leaves; it must not become an empty file.
fn refuse_nothing(sources: &[Source]) -> Result<()> {
    if sources.iter().all(|source| source.stream.is_empty()) {
        let names: Vec<&str> = sources.iter().map(Source::shown).collect();
        return Err(Error::request(format!("{} holds no document", names.join(", ")))
            .hint("did the command before the pipe fail?"));
    }
    Ok(())
}

fn is_same_file(one: &Path, other: &Path) -> bool {
    matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}
