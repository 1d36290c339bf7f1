//! `seal ring ...`: ring file + identity -> changed ring file, and what to do next.

use std::{collections::BTreeSet, path::Path};

use jiff::Timestamp;
use seal_crds::KeyRing;
use seal_envelope::{KeyId, Member};
use serde::Serialize;

use crate::{
    args::ring::{AddArgs, DisableArgs, Listing, MemberArgs, NewArgs, RemoveArgs, RingCommand, RotateArgs, StatusArgs},
    config::{Config, RingFile},
    error::{Error, Result},
    files, keyfile, output,
    rings::{self, OpenedRing},
    sealed,
    terminal::{self, Answer},
};

pub(crate) fn run(command: RingCommand) -> Result<()> {
    match command {
        RingCommand::New(args) => new(args),
        RingCommand::Add(args) => add(args),
        RingCommand::Remove(args) => remove(args),
        RingCommand::Rotate(args) => rotate(args),
        RingCommand::Disable(args) => disable(args),
        RingCommand::Status(args) => status(args),
    }
}

fn new(args: NewArgs) -> Result<()> {
    let config = Config::find(None)?;
    let to_stdout = args.write.as_deref() == Some(Path::new("-"));
    let path = match args.write {
        Some(path) => path,
        None => config.home()?.join(".seal/keyrings").join(format!("{}.yaml", args.name)),
    };
    if !to_stdout && path.exists() {
        return Err(Error::request(format!("{} exists already", output::near(&path)))
            .hint(format!("change it: `seal ring add {0}`, `seal ring rotate {0}`", args.name)));
    }
    let members = read_members(&args.members, &config)?;
    let manifest = rings::new_ring(&args.name, &args.namespace, &members, now())?;
    let text = rings::yaml(&manifest)?;
    if to_stdout {
        output::data(text.as_bytes())?;
    } else {
        files::make_folder_of(&path)?;
        files::create(&path, text.as_bytes())?;
    }
    output::say(&format!("made the ring `{}`", args.name));
    show_members('+', &members);
    for key in manifest.spec.keys.iter().filter_map(|key| key.recipient().ok()) {
        output::say(&format!("  + key {}", key.key_id()));
    }
    if !to_stdout {
        say_what_next(&path);
    }
    rings::warn_if_unrecoverable(&members);
    Ok(())
}

fn add(args: AddArgs) -> Result<()> {
    let config = Config::find(None)?;
    let file = config.ring_for(Some(&args.ring), None)?;
    let members = read_members(&args.members, &config)?;
    let opened = open(&file, &args.identity)?;
    output::say(&format!("members to add to the ring `{}`, as `{}`:", file.name(), opened.member()));
    show_members('+', &members);
    let manifest = opened.with_members(&members)?;
    confirm(&args.identity, "They will open everything that was ever sealed to it. Add them?")?;
    write(&file, &manifest)?;
    say_what_next(&file.path);
    Ok(())
}

fn remove(args: RemoveArgs) -> Result<()> {
    let config = Config::find(None)?;
    let file = config.ring_for(Some(&args.ring), None)?;
    let names: Vec<String> = args.names.into_iter().chain(args.members).collect();
    let opened = open(&file, &args.identity)?;
    let manifest = opened.without_members(&names, now())?;
    output::say(&format!("members to remove from the ring `{}`, as `{}`:", file.name(), opened.member()));
    let (gone, stay): (Vec<_>, Vec<_>) =
        file.ring.members().iter().cloned().partition(|member| names.contains(&member.name));
    show_members('-', &gone);
    output::say("members that stay:");
    show_members(' ', &stay);
    confirm(&args.identity, "Remove them, and rotate without them?")?;
    write(&file, &manifest)?;
    say_new_key(&manifest);
    say_what_next(&file.path);
    say_what_must_change(&config, &file)
}

fn rotate(args: RotateArgs) -> Result<()> {
    let config = Config::find(None)?;
    let file = config.ring_for(Some(&args.ring), None)?;
    let opened = open(&file, &args.identity)?;
    let manifest = opened.rotated(now())?;
    output::say(&format!("a new key for the ring `{}`, as `{}`, wrapped for:", file.name(), opened.member()));
    show_members(' ', file.ring.members());
    confirm(&args.identity, "Append it?")?;
    write(&file, &manifest)?;
    say_new_key(&manifest);
    say_what_next(&file.path);
    Ok(())
}

fn disable(args: DisableArgs) -> Result<()> {
    let config = Config::find(None)?;
    let file = config.ring_for(Some(&args.ring), None)?;
    let ids = args.ids.iter().chain(&args.keys).map(|word| key_meant(&file, word)).collect::<Result<Vec<_>>>()?;
    let opened = open(&file, &args.identity)?;
    let manifest = opened.with_disabled(&ids)?;
    output::say(&format!("keys of the ring `{}` to disable, for ever:", file.name()));
    let needed = sealed::values_by_key(&[config.home()?]);
    for id in &ids {
        let values = needed.get(id).map_or(0, |files| files.values().sum());
        output::say(&format!(
            "  - key {id}, {} here",
            counted(values, "value is sealed to it", "values are sealed to it")
        ));
    }
    let files: BTreeSet<_> = ids.iter().filter_map(|id| needed.get(id)).flat_map(|files| files.keys()).collect();
    if !files.is_empty() {
        output::warn("these files hold values that no cluster will open any more:");
        files.iter().for_each(|file| output::say(&format!("  {}", output::near(Path::new(file)))));
        output::hint(
            "seal those values anew first, such as with `seal set`; they are sealed to the ring's last key then",
        );
    }
    confirm(&args.identity, "No cluster will open what is sealed to them. Disable?")?;
    write(&file, &manifest)?;
    say_what_next(&file.path);
    Ok(())
}

/// One ring, as `ring status -o json` shows it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RingStatus {
    name: String,
    file: String,
    members: Vec<MemberStatus>,
    keys: Vec<KeyStatus>,
    /// Nothing where no identity was given to check it.
    #[serde(skip_serializing_if = "Option::is_none")]
    proven: Option<bool>,
}

#[derive(Serialize)]
struct MemberStatus {
    name: String,
    id: String,
}

#[derive(Serialize)]
struct KeyStatus {
    id: String,
    created: String,
    state: &'static str,
    values: usize,
    files: Vec<String>,
}

fn status(args: StatusArgs) -> Result<()> {
    let config = Config::find(None)?;
    let given: Vec<String> = args.ring.into_iter().collect();
    let rings = rings::given_or_pinned(&given, &config)?;
    if rings.is_empty() {
        return Err(Error::request("there is no key ring in .seal/keyrings")
            .hint("fetch the cluster's ring with `seal init --from-cluster`, or make one with `seal ring new`"));
    }
    let paths = if args.paths.is_empty() { vec![config.home()?] } else { args.paths };
    let needed = sealed::values_by_key(&paths);
    let identities = keyfile::identities(&args.identities)?;
    let mut unproven = None;
    let mut statuses = Vec::new();
    for ring in &rings {
        let proof = (!identities.is_empty()).then(|| ring.open(&identities).map(|_| ()));
        let mut status = ring_status(ring, &needed);
        status.proven = proof.as_ref().map(Result::is_ok);
        statuses.push(status);
        unproven = unproven.or(proof.and_then(Result::err));
    }
    match args.output {
        Listing::Text => output::data_if_read(status_text(&statuses).as_bytes())?,
        Listing::Json => output::data_if_read(&output::json_text(&statuses)?)?,
    }
    rings.iter().for_each(|ring| rings::warn_if_unrecoverable(ring.ring.members()));
    unproven.map_or(Ok(()), Err)
}

fn ring_status(
    ring: &RingFile,
    needed: &std::collections::BTreeMap<KeyId, std::collections::BTreeMap<String, usize>>,
) -> RingStatus {
    let members = ring.ring.members().iter();
    let members = members.map(|m| MemberStatus { name: m.name.clone(), id: m.recipient.key_id().to_string() });
    let last = ring.ring.keys().len() - 1;
    let keys = ring.ring.keys().iter().zip(&ring.manifest.spec.keys).enumerate().map(|(position, (key, listed))| {
        let files = needed.get(&key.key_id());
        KeyStatus {
            id: key.key_id().to_string(),
            created: listed.created.0.to_string(),
            state: match position {
                _ if listed.is_disabled() => "disabled",
                position if position == last => "seals",
                _ => "opens",
            },
            values: files.map_or(0, |files| files.values().sum()),
            files: files.into_iter().flatten().map(|(file, _)| output::near(Path::new(file))).collect(),
        }
    });
    RingStatus {
        name: ring.name().to_owned(),
        file: output::near(&ring.path),
        members: members.collect(),
        keys: keys.collect(),
        proven: None,
    }
}

fn status_text(statuses: &[RingStatus]) -> String {
    let mut texts = Vec::new();
    for ring in statuses {
        let proven = match ring.proven {
            None => "",
            Some(true) => ", proven",
            Some(false) => ", NOT PROVEN",
        };
        let members: Vec<_> = ring.members.iter().map(|member| vec![member.name.clone(), member.id.clone()]).collect();
        let keys = ring.keys.iter().map(|key| {
            let needed = match key.values {
                0 => "nothing here".to_owned(),
                values => {
                    let values = counted(values, "value", "values");
                    format!("{values} in {}", counted(key.files.len(), "file", "files"))
                }
            };
            vec![key.id.clone(), key.created.clone(), key.state.to_owned(), needed]
        });
        texts.push(format!(
            "ring {} ({}){proven}\n\n{}\n{}",
            ring.name,
            ring.file,
            output::table(&["MEMBER", "ID"], &members),
            output::table(&["KEY", "CREATED", "STATE", "NEEDED BY"], &keys.collect::<Vec<_>>()),
        ));
    }
    texts.join("\n")
}

/// Reads the members given, and refuses those that are a key of a ring that is known here.
fn read_members(given: &[String], config: &Config) -> Result<Vec<Member>> {
    let members = given.iter().map(|member| keyfile::member(member)).collect::<Result<Vec<_>>>()?;
    for (number, member) in members.iter().enumerate() {
        let is_same = |other: &&Member| other.name == member.name || other.recipient == member.recipient;
        if let Some(other) = members[..number].iter().find(is_same) {
            return Err(Error::request(format!(
                "the members `{}` and `{}` share a name or a recipient",
                other.name, member.name
            ))
            .hint("give each a name and a recipient of its own"));
        }
    }
    for ring in rings::given_or_pinned(&[], config)? {
        if let Some(member) = members.iter().find(|member| ring.ring.keys().contains(&member.recipient)) {
            return Err(Error::request(format!(
                "the recipient of member `{}` is a key of the ring `{}`",
                member.name,
                ring.name()
            ))
            .hint("a member needs an identity of its own: `seal keygen -w FILE`"));
        }
    }
    Ok(members)
}

fn open<'a>(file: &'a RingFile, member: &MemberArgs) -> Result<OpenedRing<'a>> {
    file.open(&keyfile::identities(&member.identities)?)
}

/// The key whose id begins with `word`.
fn key_meant(file: &RingFile, word: &str) -> Result<KeyId> {
    let ids = || file.ring.keys().iter().map(seal_envelope::Recipient::key_id);
    let mut meant = ids().filter(|id| id.to_string().starts_with(word));
    match (meant.next(), meant.next()) {
        (Some(id), None) => Ok(id),
        (found, _) => {
            let what = if found.is_some() { "more than one key begins" } else { "no key begins" };
            let known: Vec<_> = ids().map(|id| id.to_string()).collect();
            Err(Error::request(format!("{what} with `{word}` in the ring `{}`", file.name()))
                .hint(format!("its keys are: {}", known.join(", "))))
        }
    }
}

/// Asks a person. A script has said what it wants by its arguments.
fn confirm(member: &MemberArgs, question: &str) -> Result<()> {
    if member.yes || terminal::ask(question)? != Answer::No {
        return Ok(());
    }
    Err(Error::request("not confirmed; nothing was changed"))
}

fn write(file: &RingFile, manifest: &KeyRing) -> Result<()> {
    files::replace(&file.path, Some(&file.bytes), &rings::rewritten(&file.bytes, manifest)?)
}

fn show_members(sign: char, members: &[Member]) {
    for member in members {
        output::say(&format!("  {sign} member {} {}", member.name, member.recipient.key_id()));
    }
}

fn say_new_key(manifest: &KeyRing) {
    if let Some(key) = manifest.spec.sealing_key().and_then(|key| key.recipient().ok()) {
        output::say(&format!("key {} seals from now on", key.key_id()));
    }
}

fn say_what_next(path: &Path) {
    output::say(&format!("next: commit {0}, and apply it: kubectl apply --server-side -f {0}", output::near(path)));
}

/// What a removed member still knows: every value that is sealed to the keys that the ring had.
fn say_what_must_change(config: &Config, before: &RingFile) -> Result<()> {
    let root = config.home()?;
    let known: BTreeSet<_> = before.ring.keys().iter().map(|key| key.key_id().to_string()).collect();
    let opens = |token: &str| token.split('.').nth(1).is_some_and(|id| known.contains(id));
    let mut lines = BTreeSet::new();
    let contents = sealed::read_all(std::slice::from_ref(&root))?;
    contents.broken.iter().for_each(output::warning);
    for document in contents.documents {
        for (key, _) in document.object.spec.encrypted_data.iter().filter(|(_, token)| opens(token)) {
            lines.insert(format!("  {} ({}) {key}", document.shown(), output::near(Path::new(&document.file))));
        }
    }
    let in_documents = lines.len();
    let everywhere: usize = {
        let found = sealed::values_by_key(&[root]);
        before.ring.keys().iter().filter_map(|key| found.get(&key.key_id())).flat_map(|files| files.values()).sum()
    };
    if everywhere == 0 {
        return Ok(());
    }
    output::warn(
        "who was removed could open these values, and still can in the Git history; change them at their source:",
    );
    lines.iter().for_each(|line| output::say(line));
    if everywhere > in_documents {
        output::say(&format!(
            "  and {} outside of SealedSecrets, see `seal ring status`",
            counted(everywhere - in_documents, "value", "values")
        ));
    }
    Ok(())
}

fn counted(number: usize, one: &str, many: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { many })
}

/// Whole seconds, as Kubernetes writes times.
fn now() -> Timestamp {
    keyfile::rounded(Timestamp::now())
}
