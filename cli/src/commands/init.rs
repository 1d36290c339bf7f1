//! `seal init`: the cluster's rings, or ring files -> pinned in `.seal/keyrings/`.

use std::path::Path;

use seal_crds::{
    KeyRing,
    condition::{self, READY, TRUE},
    key_ring::KeyRingStatus,
    output::{RefusedOutput, check_annotation, check_label},
};
use seal_envelope::Ring;

use crate::{
    args::cluster::InitArgs,
    cluster::Cluster,
    config::{self, Config, RingFile},
    error::{Error, Result, did_you_mean},
    files, output, rings,
    terminal::{self, Answer},
};

const CONFIG: &str = "\
# Rules for `seal`. The first whose `path` matches the file that is written wins; flags beat rules.
# `seal config explain PATH` shows which one that is.
#
# rules:
# - path: apps/prod/**        # a glob, from the folder that holds .seal/
#   ring: prod                # one of .seal/keyrings/; not needed while there is only one
#   scope: strict             # strict: this name in this namespace | namespace: any name in it | cluster: anywhere
#   namespace: shop           # for Secrets that name none; also a list: the values open in each
#   vaultStore: platform/main # for `seal vault add`
# - path: apps/dev/**
#   ring: dev
rules: []
";

pub(crate) fn run(args: InitArgs) -> Result<()> {
    if !args.from_cluster && args.files.is_empty() {
        return Err(Error::usage("nothing says where the key ring is to come from")
            .hint("the cluster's: `seal init --from-cluster`")
            .hint("one that somebody gave you: `seal init RING.yaml`")
            .hint("a new one: `seal ring new NAME --member NAME=FILE`"));
    }
    let config = Config::find(None)?;
    let root = config.home()?;
    let fetched = if args.from_cluster {
        let cluster = Cluster::connect(args.cluster.context.as_deref(), args.cluster.kubeconfig.as_deref())?;
        let rings = cluster.key_rings(&args.namespace)?;
        let rings = chosen(rings, args.ring.as_deref(), &args.namespace)?;
        rings.iter().try_for_each(|ring| accept(ring, &args.namespace, args.yes))?;
        rings.into_iter().map(clean).collect()
    } else {
        args.files.iter().map(|file| Ok(config::read_ring(file)?.manifest)).collect::<Result<Vec<_>>>()?
    };
    let mut has_new = false;
    for manifest in &fetched {
        has_new |= pin(&root, manifest, args.yes)?;
    }
    if has_new {
        output::say("compare these ids with those of whoever made the ring: `seal ring status` shows them there");
    }
    let rules = root.join(".seal/config.yaml");
    if files::read_if_exists(&rules)?.is_none() {
        files::make_folder_of(&rules)?;
        files::create(&rules, CONFIG.as_bytes())?;
    }
    output::say(&format!("next: commit {}/", output::near(&root.join(".seal"))));
    Ok(())
}

fn chosen(rings: Vec<KeyRing>, name: Option<&str>, namespace: &str) -> Result<Vec<KeyRing>> {
    if rings.is_empty() {
        return Err(Error::request(format!("there is no KeyRing in the namespace `{namespace}`"))
            .hint("is the controller elsewhere? pass --namespace")
            .hint("or make a ring: `seal ring new NAME --member NAME=FILE`"));
    }
    let Some(name) = name else { return Ok(rings) };
    let names: Vec<_> = rings.iter().filter_map(|ring| ring.metadata.name.clone()).collect();
    let rings: Vec<_> = rings.into_iter().filter(|ring| ring.metadata.name.as_deref() == Some(name)).collect();
    if rings.is_empty() {
        let error = Error::request(format!("there is no KeyRing `{name}` in the namespace `{namespace}`"));
        return Err(match did_you_mean(name, names.iter().map(String::as_str)) {
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None => error.hint(format!("there are: {}", names.join(", "))),
        });
    }
    Ok(rings)
}

/// Sees that the cluster accepts the ring, or that the person does all the same.
///
/// It is the one moment at which a laptop has the verdict of somebody who can check the proof. Whoever may write a ring
/// can put a key of their own into it; only the verdict tells.
fn accept(ring: &KeyRing, namespace: &str, yes: bool) -> Result<()> {
    let name = ring.metadata.name.as_deref().unwrap_or_default();
    let details = format!("`kubectl describe keyring {name} -n {namespace}` says more");
    let what = match verdict(ring) {
        Verdict::Accepted => return Ok(()),
        Verdict::None => {
            output::warn(&format!("no controller has looked at the ring `{name}` yet, as it is now"));
            output::hint(&format!("the ids below may be anybody's; wait for Ready: {details}"));
            return Ok(());
        }
        Verdict::Refused(what) => what,
    };
    output::warn(&format!("the cluster does not accept the ring `{name}`: {what}"));
    let nobody = Error::request(format!("the ring `{name}` is not pinned: the cluster does not accept it"))
        .hint("what is sealed to it may be for somebody else, and may not open there")
        .hint(details)
        .hint("another one: --ring NAME; this one all the same: --yes");
    confirm("Pin it all the same?", yes, nobody)
}

/// What the cluster's controller says of a ring.
enum Verdict {
    Accepted,
    /// Nothing, or of an earlier state of it.
    None,
    Refused(String),
}

fn verdict(ring: &KeyRing) -> Verdict {
    let Some(status) = &ring.status else { return Verdict::None };
    let Some(ready) = condition::find(&status.conditions, READY) else { return Verdict::None };
    if status.observed_generation != ring.metadata.generation {
        return Verdict::None;
    }
    if ready.status != TRUE {
        return Verdict::Refused(format!("{}: {}", ready.reason, ready.message));
    }
    // Other findings (a key in two rings) may stand where the lack of a proof would.
    match ring.ring().ok().and_then(|ring| unproven(&ring, status)) {
        Some(id) => Verdict::Refused(format!("no proof covers its key {id}")),
        None => Verdict::Accepted,
    }
}

/// The first key of the ring that is not proven in the cluster.
fn unproven(ring: &Ring, status: &KeyRingStatus) -> Option<String> {
    let mut ids = ring.keys().iter().map(|key| key.key_id().to_string());
    ids.find(|id| !status.keys.iter().any(|key| key.id == *id && key.proven))
}

/// What of an object belongs into Git: not what the API server, `kubectl`, and those that deliver from Git wrote into it.
fn clean(ring: KeyRing) -> KeyRing {
    let mut annotations = ring.metadata.annotations.unwrap_or_default();
    annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    annotations.retain(|key, _| check_annotation(key) != Err(RefusedOutput::Tracking));
    let mut labels = ring.metadata.labels.unwrap_or_default();
    labels.retain(|key, value| check_label(key, value) != Err(RefusedOutput::Tracking));
    let mut cleaned = KeyRing::new(ring.metadata.name.as_deref().unwrap_or_default(), ring.spec);
    cleaned.metadata.namespace = ring.metadata.namespace;
    cleaned.metadata.labels = (!labels.is_empty()).then_some(labels);
    cleaned.metadata.annotations = (!annotations.is_empty()).then_some(annotations);
    cleaned
}

/// Writes the ring, or what has changed of it; tells whether it is a new one.
fn pin(root: &Path, manifest: &KeyRing, yes: bool) -> Result<bool> {
    let ring = manifest
        .ring()
        .map_err(|cause| Error::request("the ring contradicts itself, and is not pinned").because(cause))?;
    let path = root.join(".seal/keyrings").join(format!("{}.yaml", ring.name()));
    let Some(before) = files::read_if_exists(&path)? else {
        files::make_folder_of(&path)?;
        files::create(&path, rings::yaml(manifest)?.as_bytes())?;
        output::say(&format!("pinned the ring `{}` in {}", ring.name(), output::near(&path)));
        show(&ring);
        return Ok(true);
    };
    let pinned = config::read_ring(&path)?;
    if pinned.manifest.spec == manifest.spec {
        output::say(&format!("the ring `{}` is as it was pinned", ring.name()));
        return Ok(false);
    }
    output::say(&format!("the ring `{}` is not as it was pinned in {}:", ring.name(), output::near(&path)));
    let is_continuation = show_changes(&pinned, manifest, &ring);
    let nobody = Error::request(format!("the ring `{}` has changed, and there is nobody to ask", ring.name()))
        .hint("check the ids above, then accept them with --yes");
    confirm("Pin it as it is now?", yes, nobody)?;
    let text = match is_continuation {
        true => rings::rewritten(&before, manifest)?,
        false => rings::yaml(manifest)?.into_bytes(),
    };
    files::replace(&path, Some(&before), &text)?;
    output::say(&format!("pinned the ring `{}` anew", ring.name()));
    Ok(false)
}

/// Goes on where a person says so; `nobody` is the error where there is none to ask.
fn confirm(question: &str, yes: bool, nobody: Error) -> Result<()> {
    if yes {
        return Ok(());
    }
    match terminal::ask(question)? {
        Answer::Yes => Ok(()),
        Answer::No => Err(Error::request("not confirmed; what is pinned is as it was")),
        Answer::Nobody => Err(nobody),
    }
}

fn show(ring: &Ring) {
    for member in ring.members() {
        output::say(&format!("  + member {} {}", member.name, member.recipient.key_id()));
    }
    for key in ring.keys() {
        output::say(&format!("  + key {}", key.key_id()));
    }
    rings::warn_if_unrecoverable(ring.members());
}

/// Shows old and new ids; tells whether the keys are the pinned ones, with perhaps more behind them.
fn show_changes(pinned: &RingFile, manifest: &KeyRing, now: &Ring) -> bool {
    let before = &pinned.ring;
    for member in before.members().iter().filter(|member| !now.members().contains(member)) {
        output::say(&format!("  - member {} {}", member.name, member.recipient.key_id()));
    }
    for member in now.members().iter().filter(|member| !before.members().contains(member)) {
        output::say(&format!("  + member {} {}", member.name, member.recipient.key_id()));
    }
    for key in before.keys().iter().filter(|key| !now.keys().contains(key)) {
        output::say(&format!("  - key {}", key.key_id()));
    }
    for key in now.keys().iter().filter(|key| !before.keys().contains(key)) {
        output::say(&format!("  + key {}", key.key_id()));
    }
    for ((key, old), new) in before.keys().iter().zip(&pinned.manifest.spec.keys).zip(&manifest.spec.keys) {
        match (old.is_disabled(), new.is_disabled()) {
            (false, true) => output::say(&format!("  ~ key {} is disabled", key.key_id())),
            (true, false) => output::say(&format!("  ~ key {} is no longer disabled", key.key_id())),
            _ => {}
        }
    }
    if before.members() == now.members() && before.keys() == now.keys() {
        output::say("  ~ members and keys are the same; wraps, proof or states differ");
    }
    let is_continuation = now.keys().starts_with(before.keys());
    if !is_continuation {
        output::warn(
            "keys are only ever appended: this is an older state of the ring, or another ring of the same name",
        );
    }
    is_continuation
}
