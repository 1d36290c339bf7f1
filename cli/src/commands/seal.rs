//! `seal [FILE...]`: Secrets in, SealedSecrets out.
//!
//! read everything -> plan and seal every Secret -> write. A fault anywhere and nothing is written.

use std::{
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use zeroize::Zeroizing;

use crate::{
    args::{
        Cli,
        seal::{Format, SealArgs},
    },
    config::{Config, RingFile, Rule},
    error::{Error, Result, did_you_mean},
    files,
    manifest::{
        edit::{self, Changes, Step},
        read::{self, Found, Secret, Stream},
        write::{self, Manifest},
        yaml::{Document, Kind, Node},
    },
    output,
    plan::{self, Names, Target},
    request::{Destination, Input, Request, Wish, format_of},
};

pub(crate) fn run(args: SealArgs) -> Result<()> {
    let request = Request::of(args)?;
    if request.inputs.iter().any(|input| matches!(input, Input::Stdin)) && io::stdin().is_terminal() {
        return Err(Error::usage("there is nothing to seal: no file was given and stdin is the terminal")
            .hint("pipe a Secret in, as `kubectl create secret ... --dry-run=client -o yaml | seal`, or name a file")
            .hint("to type values instead: `seal create FILE -n NAMESPACE --name NAME KEY`"));
    }
    let sources = request.inputs.iter().map(Source::read).collect::<Result<Vec<_>>>()?;
    if request.wish.name.is_some() {
        refuse_one_name_for_several(&sources)?;
    }
    match &request.destination {
        Destination::Stdout { path } => to_stdout(&request, &sources, path.as_deref()),
        Destination::File { path, prune } => to_file(&request, &sources, path, *prune),
        Destination::InPlace => in_place(&request, &sources),
    }
}

/// An input that was read and understood.
struct Source {
    path: Option<PathBuf>,
    bytes: Zeroizing<Vec<u8>>,
    stream: Stream,
}

impl Source {
    fn read(input: &Input) -> Result<Self> {
        let (path, bytes) = match input {
            Input::Stdin => (None, files::read_stdin()?),
            Input::File(path) => {
                let bytes = files::read_if_exists(path)?.ok_or_else(|| no_such_file(path))?;
                (Some(path.clone()), bytes)
            }
        };
        let stream = Stream::parse(&bytes).map_err(|error| error.within(shown(path.as_deref())))?;
        Ok(Self { path, bytes, stream })
    }

    fn shown(&self) -> String {
        shown(self.path.as_deref())
    }

    fn count_secrets(&self) -> Result<usize> {
        let secrets = self.stream.documents.iter().map(|document| Ok(self.stream.secrets(document)?.len()));
        secrets.sum::<Result<usize>>().map_err(|error| error.within(self.shown()))
    }
}

fn shown(path: Option<&Path>) -> String {
    path.map_or_else(|| "stdin".to_owned(), |path| path.display().to_string())
}

/// A word without a file behind it may be a verb that was misspelt.
fn no_such_file(path: &Path) -> Error {
    use clap::CommandFactory as _;
    let command = Cli::command();
    let verbs: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
    match path.to_str().and_then(|word| did_you_mean(word, verbs)) {
        Some(verb) => {
            Error::request(format!("there is no file {}", path.display())).hint(format!("did you mean `seal {verb}`?"))
        }
        None => files::no_such_file(path),
    }
}

/// Everything that sealing depends on, for one destination.
struct Sealer<'a> {
    wish: &'a Wish,
    rule: Option<&'a Rule>,
    ring: RingFile,
    is_dry_run: bool,
    /// What was sealed, in words.
    report: Vec<String>,
}

/// A Secret that was sealed.
struct SealedNow {
    target: Target,
    template: read::Template,
    data: Vec<(String, String)>,
}

impl SealedNow {
    fn manifest(&self) -> Manifest<'_> {
        Manifest {
            name: &self.target.name,
            namespace: self.target.namespace.as_deref(),
            sealed_for: &self.target.sealed_for,
            data: &self.data,
            template: &self.template,
        }
    }
}

impl<'a> Sealer<'a> {
    fn new(request: &'a Request, config: &'a Config, written: Option<&Path>) -> Result<Self> {
        let rule = written.and_then(|path| config.rule_for(path));
        let ring = config.ring_for(request.ring.as_deref(), rule)?;
        ring.sealing_recipient()?;
        Ok(Self { wish: &request.wish, rule, ring, is_dry_run: request.is_dry_run, report: Vec::new() })
    }

    fn seal(&mut self, mut secret: Secret, place: &str) -> Result<SealedNow> {
        let target = plan::target(Names::from(&secret), self.wish, self.rule).map_err(|error| error.within(place))?;
        self.warn_of_dropped(&mut secret, place)?;
        let data = self.tokens(&secret, &target.sealed_for)?;
        self.note(&target.name, target.namespace.as_deref(), &data, &target.sealed_for);
        Ok(SealedNow { target, template: secret.template, data })
    }

    fn tokens(&self, secret: &Secret, sealed_for: &seal_envelope::SealedFor) -> Result<Vec<(String, String)>> {
        if self.is_dry_run {
            return Ok(secret.values.iter().map(|(key, _)| (key.as_str().to_owned(), String::new())).collect());
        }
        plan::seal_values(self.ring.sealing_recipient()?, sealed_for, &secret.values)
    }

    fn warn_of_dropped(&self, secret: &mut Secret, place: &str) -> Result<()> {
        let dropped = plan::without_foreign_marks(&mut secret.template).map_err(|error| error.within(place))?;
        if !dropped.is_empty() {
            output::warn(&format!("{place}: left out {}: it marks a Secret as another program's", dropped.join(", ")));
        }
        Ok(())
    }

    fn note(
        &mut self,
        name: &str,
        namespace: Option<&str>,
        data: &[(String, String)],
        sealed_for: &seal_envelope::SealedFor,
    ) {
        let keys: Vec<&str> = data.iter().map(|(key, _)| key.as_str()).collect();
        let object = namespace.map_or_else(|| name.to_owned(), |namespace| format!("{namespace}/{name}"));
        self.report.push(format!(
            "{object}: {} sealed to ring `{}` for {}",
            keys.join(", "),
            self.ring.ring.name(),
            plan::described(sealed_for)
        ));
    }

    /// A dry run's report is its data; otherwise it is talk.
    fn tell(&self, written: Option<&Path>) -> Result<()> {
        if self.is_dry_run {
            let lines: String = self.report.iter().map(|line| format!("{line}\n")).collect();
            return output::data(output::visible(&lines).as_bytes());
        }
        if let Some(path) = written {
            for line in &self.report {
                output::say(&format!("{}: {line}", path.display()));
            }
        }
        Ok(())
    }
}

fn to_stdout(request: &Request, sources: &[Source], path: Option<&Path>) -> Result<()> {
    refuse_nothing(sources)?;
    let config = Config::find(path)?;
    let mut sealer = Sealer::new(request, &config, path)?;
    let text = new_text(sources, request.format, &mut sealer)?;
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
    let mut sealer = Sealer::new(request, &config, Some(path))?;
    let before = files::read_old(path)?;
    let existing = match &before {
        Some(bytes) => Some(Stream::parse(bytes).map_err(|error| error.within(path.display()))?),
        None => None,
    };
    let after = match existing.filter(|stream| !stream.is_empty()) {
        Some(stream) => {
            refuse_another_format(request.format, &stream, path)?;
            let text = merged_text(&stream, sources, path, prune, &mut sealer)?;
            stream.text.encode_like(&text)
        }
        None => new_text(sources, request.format.or_else(|| format_of(path)), &mut sealer)?.into_bytes(),
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

fn in_place(request: &Request, sources: &[Source]) -> Result<()> {
    let mut prepared = Vec::new();
    let configs = sources.iter().map(|source| Config::find(source.path.as_deref())).collect::<Result<Vec<_>>>()?;
    for (source, config) in sources.iter().zip(&configs) {
        let Some(path) = &source.path else { continue };
        if source.count_secrets()? == 0 {
            continue;
        }
        let mut sealer = Sealer::new(request, config, Some(path))?;
        let text = spliced(source, &mut sealer)?;
        refuse_two_of_one_name(&text).map_err(|error| error.within(source.shown()))?;
        prepared.push((path, source, text, sealer));
    }
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
        let names: Vec<String> = sources.iter().map(Source::shown).collect();
        return Err(Error::request(format!("{} holds no document", names.join(", ")))
            .hint("did the command before the pipe fail?"));
    }
    Ok(())
}

fn is_same_file(one: &Path, other: &Path) -> bool {
    matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}

// --- Documents to text ---

/// The text of a new file or of stdout.
fn new_text(sources: &[Source], format: Option<Format>, sealer: &mut Sealer<'_>) -> Result<String> {
    match format {
        None => Ok(joined(sources.iter().map(|source| spliced(source, sealer)).collect::<Result<Vec<_>>>()?)),
        Some(Format::Yaml) => {
            let mut texts = Vec::new();
            for source in sources {
                if source.stream.documents.iter().any(is_json) {
                    texts.extend(yaml_documents(source, sealer)?);
                } else {
                    texts.push(spliced(source, sealer)?);
                }
            }
            Ok(joined(texts))
        }
        Some(Format::Json) => {
            let mut objects = Vec::new();
            for source in sources {
                for document in &source.stream.documents {
                    let (sealed, others) = taken_apart(source, document, sealer)?;
                    objects.extend(sealed.iter().map(|sealed| sealed.manifest().json()).chain(others));
                }
            }
            let whole = match objects.len() {
                1 => objects.remove(0),
                _ => json!({"apiVersion": "v1", "kind": "List", "items": objects}),
            };
            let text = format!("{}\n", write::pretty(&whole));
            refuse_leftovers(&text)?;
            Ok(text)
        }
    }
}

/// The text with its Secrets replaced, every other byte as it is.
fn spliced(source: &Source, sealer: &mut Sealer<'_>) -> Result<String> {
    let text = source.stream.text.as_str();
    let mut result = String::with_capacity(text.len());
    let mut at = 0;
    for document in &source.stream.documents {
        for (found, secret) in source.stream.secrets(document).map_err(|error| error.within(source.shown()))? {
            let place = format!("{}, line {}", source.shown(), secret.line);
            let sealed = sealer.seal(secret, &place)?;
            let (range, replacement) = replacement(text, document, &found, &sealed);
            result.push_str(&text[at..range.start]);
            result.push_str(&replacement);
            at = range.end;
        }
    }
    result.push_str(&text[at..]);
    refuse_leftovers(&result).map_err(|error| error.within(source.shown()))?;
    Ok(result)
}

/// The last look at what is to be written: it must still be YAML, and hold no Secret.
fn refuse_leftovers(text: &str) -> Result<()> {
    let stream = Stream::parse(text.as_bytes()).map_err(|_| {
        Error::request("the Secrets cannot be taken out of what stands around them")
            .hint("an alias outside of a Secret refers into it: write out there what it stands for")
    })?;
    for document in &stream.documents {
        if !stream.secrets(document)?.is_empty() {
            return Err(Error::bug("a Secret would have been left unsealed; nothing was written"));
        }
    }
    Ok(())
}

/// What a Secret becomes where it stands. Its comments go too: nobody can tell whether they hold a value.
fn replacement(
    text: &str,
    document: &Document,
    found: &Found<'_>,
    sealed: &SealedNow,
) -> (std::ops::Range<usize>, String) {
    let line_break = line_break_of(text);
    let with_breaks = |yaml: String| if line_break == "\n" { yaml } else { yaml.replace('\n', line_break) };
    match found {
        Found::Document if is_json(document) => {
            let root = document.root.as_ref().map_or(document.range.clone(), |root| root.range.clone());
            let blank_or = |around: &'static str, range: std::ops::Range<usize>| {
                if text[range.clone()].trim().is_empty() { text[range].to_owned() } else { around.to_owned() }
            };
            let before = blank_or(if document.is_explicit { line_break } else { "" }, document.range.start..root.start);
            let after = blank_or(line_break, root.end..document.range.end);
            (document.range.clone(), format!("{before}{}{after}", write::pretty(&sealed.manifest().json())))
        }
        Found::Document => {
            let yaml = with_breaks(sealed.manifest().yaml());
            (document.range.clone(), if document.is_explicit { format!("{line_break}{yaml}") } else { yaml })
        }
        Found::Item { node, is_flow: true } => {
            // Inside block style, lines must be deeper than the entry that they belong to.
            let deeper = if is_json(document) { 0 } else { 2 };
            let indent = " ".repeat(leading_blanks(text, node.range.start) + deeper);
            let json = write::pretty(&sealed.manifest().json());
            (node.range.clone(), json.replace('\n', &format!("{line_break}{indent}")))
        }
        Found::Item { node, is_flow: false } => {
            let column = node.range.start - line_start(text, node.range.start);
            let yaml = sealed.manifest().yaml();
            let indented = yaml.trim_end().replace('\n', &format!("{line_break}{}", " ".repeat(column)));
            (read::item_lines(text, node), indented)
        }
    }
}

fn line_start(text: &str, at: usize) -> usize {
    text[..at].rfind('\n').map_or(0, |at| at + 1)
}

fn leading_blanks(text: &str, at: usize) -> usize {
    let line = &text[line_start(text, at)..at];
    line.len() - line.trim_start_matches([' ', '-']).len()
}

fn is_json(document: &Document) -> bool {
    document.root.as_ref().is_some_and(|root| matches!(root.kind, Kind::Mapping { is_flow: true, .. }))
}

/// Each document, and each item of a List, as YAML of its own.
fn yaml_documents(source: &Source, sealer: &mut Sealer<'_>) -> Result<Vec<String>> {
    let mut texts = Vec::new();
    for document in &source.stream.documents {
        let (sealed, others) = taken_apart(source, document, sealer)?;
        texts.extend(sealed.iter().map(|sealed| sealed.manifest().yaml()));
        for object in &others {
            let text = serde_yaml::to_string(object).map_err(|_| not_convertible(source))?;
            refuse_leftovers(&text)?;
            texts.push(text);
        }
    }
    Ok(texts)
}

/// What a document and the Lists in it hold: the Secrets, sealed, and all other objects.
fn taken_apart(source: &Source, document: &Document, sealer: &mut Sealer<'_>) -> Result<(Vec<SealedNow>, Vec<Value>)> {
    let (mut sealed, mut others) = (Vec::new(), Vec::new());
    let mut is_secret = false;
    for (found, secret) in source.stream.secrets(document).map_err(|error| error.within(source.shown()))? {
        let place = format!("{}, line {}", source.shown(), secret.line);
        sealed.push(sealer.seal(secret, &place)?);
        is_secret |= matches!(found, Found::Document);
    }
    if !is_secret {
        foreign_objects(source, document, &mut others)?;
    }
    Ok((sealed, others))
}

/// The objects of a document that are no Secrets, out of their Lists.
fn foreign_objects(source: &Source, document: &Document, objects: &mut Vec<Value>) -> Result<()> {
    if document.root.is_none() {
        return Ok(());
    }
    let text = &source.stream.text.as_str()[document.range.clone()];
    let read = || -> Result<Value, serde_yaml::Error> {
        let mut object: serde_yaml::Value = serde_yaml::from_str(text)?;
        object.apply_merge()?;
        serde_yaml::from_value(object)
    };
    flatten(read().map_err(|_| not_convertible(source))?, objects);
    Ok(())
}

fn flatten(mut object: Value, objects: &mut Vec<Value>) {
    let says = |field: &str, value: &str| object.get(field).and_then(Value::as_str) == Some(value);
    if says("kind", "Secret") && says("apiVersion", "v1") {
        return;
    }
    match object.get_mut("items") {
        Some(Value::Array(items)) if items.iter().any(|item| item.get("kind").is_some()) => {
            items.drain(..).for_each(|item| flatten(item, objects));
        }
        _ => objects.push(object),
    }
}

fn not_convertible(source: &Source) -> Error {
    Error::request(format!("{}: a document cannot be written in the other format", source.shown()))
        .hint("leave out -o, so that documents that are no Secrets stay as they are")
}

/// Texts as one stream of documents.
fn joined(texts: Vec<String>) -> String {
    let mut whole = String::new();
    for text in texts.into_iter().filter(|text| !text.is_empty()) {
        if !whole.is_empty() {
            if !whole.ends_with('\n') {
                whole.push('\n');
            }
            if !text.starts_with("---") && !text.starts_with('%') {
                whole.push_str("---\n");
            }
        }
        whole.push_str(&text);
    }
    whole
}

// --- Merging ---

/// The existing text with the Secrets of the input sealed into it.
fn merged_text(
    existing: &Stream,
    sources: &[Source],
    path: &Path,
    prune: bool,
    sealer: &mut Sealer<'_>,
) -> Result<String> {
    let mut text = existing.text.as_str().to_owned();
    for source in sources {
        for document in &source.stream.documents {
            let secrets = source.stream.secrets(document).map_err(|error| error.within(source.shown()))?;
            if secrets.is_empty() && document.root.is_some() {
                text = with_foreign(&text, source, document).map_err(|error| error.within(path.display()))?;
            }
            if secrets.iter().any(|(found, _)| matches!(found, Found::Item { .. })) {
                output::warn(&format!(
                    "{}: of a List, only the Secrets are merged; its other objects are in {} as they were, or not at all",
                    source.shown(),
                    path.display()
                ));
            }
            for (_, secret) in secrets {
                let place = format!("{}, line {}", source.shown(), secret.line);
                text = with_secret(&text, secret, &place, prune, sealer)
                    .map_err(|error| error.within(format_args!("cannot seal into {}", path.display())))?;
            }
        }
    }
    Ok(text)
}

fn with_secret(text: &str, secret: Secret, place: &str, prune: bool, sealer: &mut Sealer<'_>) -> Result<String> {
    let stream = Stream::parse(text.as_bytes())?;
    let sealed = stream.sealed_secrets()?;
    let names = Names::from(&secret);
    let Some(into) = plan::matching(&sealed, names, sealer.wish).map_err(|error| error.within(place))? else {
        let new = sealer.seal(secret, place)?;
        return appended(text, &new);
    };
    let sealed_for = plan::merged(into, names, sealer.wish, sealer.rule).map_err(|error| error.within(place))?;
    let data = sealer.tokens(&secret, &sealed_for)?;
    let keys: Vec<&str> = data.iter().map(|(key, _)| key.as_str()).collect();
    let remove = into.keys.iter().map(String::as_str).filter(|key| prune && !keys.contains(key)).collect();
    let name = into.name.as_deref().or(names.name).unwrap_or_default();
    sealer.note(name, into.namespace.as_deref(), &data, &sealed_for);
    if sealer.is_dry_run {
        return Ok(text.to_owned());
    }
    let changes = Changes { set: data.iter().map(|(key, token)| (key.as_str(), token.clone())).collect(), remove };
    changed(&stream, into, &changes)
}

/// The text of a stream with changes to the `encryptedData` of one of its objects.
pub(crate) fn changed(stream: &Stream, object: &read::Sealed, changes: &Changes<'_>) -> Result<String> {
    let mut path = object.path.clone();
    path.extend(["spec", "encryptedData"].map(|field| Step::Key(field.to_owned())));
    edit::change(stream.text.as_str(), &stream.documents, object.document, &path, changes).map_err(|cause| {
        Error::request("the file cannot be changed in place")
            .because(cause)
            .hint("nothing was written; rewrite that part by hand")
    })
}

/// One more document at the end.
fn appended(text: &str, new: &SealedNow) -> Result<String> {
    let yaml = new.manifest().yaml();
    with_document(text, &if text.contains("\r\n") { yaml.replace('\n', "\r\n") } else { yaml })
}

fn with_document(text: &str, document: &str) -> Result<String> {
    if text.trim_start().starts_with('{') {
        return Err(Error::request("a JSON file holds one object, and this one is not it")
            .hint("write it to another file, or use YAML"));
    }
    let line_break = line_break_of(text);
    let gap = if text.is_empty() || text.ends_with('\n') { "" } else { line_break };
    Ok(format!("{text}{gap}---{line_break}{document}"))
}

fn line_break_of(text: &str) -> &'static str {
    if text.contains("\r\n") { "\r\n" } else { "\n" }
}

/// A document that is no Secret: it stays where the file has it already, else it takes its old version's place or
/// comes last.
fn with_foreign(text: &str, source: &Source, document: &Document) -> Result<String> {
    let Some(root) = &document.root else { return Ok(text.to_owned()) };
    let stream = Stream::parse(text.as_bytes())?;
    let old = |is_it: &dyn Fn(&Node) -> bool| {
        stream.documents.iter().find(|document| document.root.as_ref().is_some_and(|root| is_it(root)))
    };
    if old(&|old| old.means_the_same_as(root)).is_some() {
        return Ok(text.to_owned());
    }
    let written = source.stream.text.as_str()[document.range.clone()].trim_start_matches(['\r', '\n']);
    let id = identity(root);
    let Some(old) = old(&|old| id.is_some() && identity(old) == id) else { return with_document(text, written) };
    let line_break = line_break_of(text);
    let lead = if old.is_explicit { line_break } else { "" };
    let end = if written.ends_with('\n') { "" } else { line_break };
    Ok(format!("{}{lead}{written}{end}{}", &text[..old.range.start], &text[old.range.end..]))
}

/// Which object a manifest is, or nothing for one without a name, as a List is: two of those are not the same.
fn identity(object: &Node) -> Option<[Option<&str>; 4]> {
    let metadata = object.get("metadata")?;
    let name = metadata.get("name")?.string()?;
    let [version, kind] = ["apiVersion", "kind"].map(|field| object.get(field).and_then(|node| node.string()));
    Some([version, kind, metadata.get("namespace").and_then(|node| node.string()), Some(name)])
}
