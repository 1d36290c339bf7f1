//! Documents with Secrets -> text with SealedSecrets in their place.
//!
//! [`Source`] (an input) + [`Sealer`] (ring, flags, rule) -> a new text (`text`), or an existing one with more sealed into
//! it (`merge`). Nothing is written here.

mod bounds;
mod merge;
mod text;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use seal_envelope::{KeyId, SealedFor};
use zeroize::Zeroizing;

pub(crate) use self::{
    bounds::refuse_too_large,
    merge::{changed, merged_text},
    text::{new_text, spliced},
};
use crate::{
    config::{Config, RingFile, Rule},
    error::Result,
    manifest::{
        read::{self, Secret, Stream},
        write::Manifest,
    },
    output,
    plan::{self, Names, Target},
    request::{Request, Wish},
};

/// An input that was read and understood.
pub(crate) struct Source {
    pub(crate) path: Option<PathBuf>,
    shown: String,
    pub(crate) bytes: Zeroizing<Vec<u8>>,
    pub(crate) stream: Stream,
}

impl Source {
    /// Reads the documents of a file, or of stdin where there is no path.
    pub(crate) fn of(path: Option<PathBuf>, bytes: Zeroizing<Vec<u8>>) -> Result<Self> {
        let shown = path.as_deref().map_or_else(|| "stdin".to_owned(), |path| path.display().to_string());
        let stream = Stream::parse(&bytes).map_err(|error| error.within(&shown))?;
        Ok(Self { path, shown, bytes, stream })
    }

    /// How messages call it.
    pub(crate) fn shown(&self) -> &str {
        &self.shown
    }

    pub(crate) fn count_secrets(&self) -> Result<usize> {
        let secrets = self.stream.documents.iter().map(|document| Ok(self.stream.secrets(document)?.len()));
        secrets.sum::<Result<usize>>().map_err(|error| error.within(self.shown()))
    }
}

/// Everything that sealing depends on, for one destination.
pub(crate) struct Sealer<'a> {
    wish: &'a Wish,
    rule: Option<&'a Rule>,
    ring: RingFile,
    is_dry_run: bool,
    /// The Secrets that were sealed into new objects.
    made: BTreeSet<String>,
    /// What was sealed, in words.
    pub(crate) report: Vec<String>,
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
    /// For a destination that holds what is `sealed_to` these keys.
    pub(crate) fn new(
        request: &'a Request,
        config: &'a Config,
        written: Option<&Path>,
        sealed_to: &BTreeSet<KeyId>,
    ) -> Result<Self> {
        let rule = written.and_then(|path| config.rule_for(path));
        let ring = config.ring_for_more(request.ring.as_deref(), rule, sealed_to)?;
        ring.sealing_recipient()?;
        Ok(Self {
            wish: &request.wish,
            rule,
            ring,
            is_dry_run: request.is_dry_run,
            made: BTreeSet::new(),
            report: Vec::new(),
        })
    }

    fn seal(&mut self, mut secret: Secret, place: &str) -> Result<SealedNow> {
        let target = plan::target(Names::from(&secret), self.wish, self.rule).map_err(|error| error.within(place))?;
        self.warn_of_dropped(&mut secret, place)?;
        let object = object(&target.name, target.namespace.as_deref());
        if self.made.contains(&object) {
            output::warn(&format!("{place}: `{object}` is there twice; of two that are applied, only the later stays"));
            output::hint("put all its keys into one Secret");
        }
        self.made.insert(object);
        let data = self.tokens(&secret, &target.sealed_for)?;
        self.note(&target.name, target.namespace.as_deref(), &data, &target.sealed_for);
        Ok(SealedNow { target, template: secret.template, data })
    }

    fn tokens(&self, secret: &Secret, sealed_for: &SealedFor) -> Result<Vec<(String, String)>> {
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

    fn note(&mut self, name: &str, namespace: Option<&str>, data: &[(String, String)], sealed_for: &SealedFor) {
        let keys: Vec<&str> = data.iter().map(|(key, _)| key.as_str()).collect();
        self.report.push(format!(
            "{}: {} sealed to ring `{}` for {}",
            object(name, namespace),
            listed(&keys),
            self.ring.ring.name(),
            plan::described(sealed_for)
        ));
    }

    fn note_removed(&mut self, name: &str, namespace: Option<&str>, keys: &[&str]) {
        if !keys.is_empty() {
            self.report.push(format!("{}: {} removed", object(name, namespace), listed(keys)));
        }
    }

    /// A dry run's report is its data; otherwise it is talk.
    pub(crate) fn tell(&self, written: Option<&Path>) -> Result<()> {
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

/// Key names as a person can still read them in one line.
fn listed(keys: &[&str]) -> String {
    match keys.len() {
        ..=20 => keys.join(", "),
        all => format!("{} and {} more", keys[..10].join(", "), all - 10),
    }
}

fn object(name: &str, namespace: Option<&str>) -> String {
    namespace.map_or_else(|| name.to_owned(), |namespace| format!("{namespace}/{name}"))
}
