//! Opening SealedSecrets with a member's identity: recovery, drills, local development.
//!
//! [`SealedDocument`] + identities + ring files -> values, and doubts: what a cluster would refuse.

use std::{collections::HashMap, path::PathBuf};

use seal_crds::SealedSecret;
use seal_envelope::{DataKey, Identity, KeyId, Place, Recipient, RingKey, SealedFor, Token};
use zeroize::Zeroizing;

use crate::{
    config::{Config, RingFile},
    error::{Error, Result, did_you_mean},
    keyfile, rings,
    sealed::SealedDocument,
};

/// Identities, and the rings whose wraps they may open.
pub(crate) struct Opener {
    identities: Vec<Identity>,
    rings: Vec<RingFile>,
    opened: HashMap<KeyId, RingKey>,
    doubts: Vec<Error>,
}

/// The values of one SealedSecret. No `Debug`: it holds plaintext.
pub(crate) struct OpenedValues {
    pub(crate) place: Place,
    pub(crate) values: Vec<(DataKey, Zeroizing<Vec<u8>>)>,
}

impl Opener {
    /// Reads identities, and the rings `given` or those pinned at or above the first of the sealed `files`.
    pub(crate) fn beside(identities: &[PathBuf], given: &[String], files: &[PathBuf]) -> Result<Self> {
        let from_stdin = files.iter().chain(identities).filter(|file| file.as_os_str() == "-").count();
        if from_stdin > 1 {
            return Err(
                Error::usage("stdin can be read once only").hint("give the identity or the sealed file as a file")
            );
        }
        let file = files.iter().find(|file| file.as_os_str() != "-");
        let beside = file.map(|file| if file.is_dir() { file.join("any") } else { file.clone() });
        let rings = rings::given_or_pinned(given, &Config::find(beside.as_deref())?)?;
        let identities = keyfile::identities(identities)?;
        Ok(Self { identities, rings, opened: HashMap::new(), doubts: Vec::new() })
    }

    /// What a cluster would have refused of all that was opened, each once.
    pub(crate) fn doubts(&mut self) -> Vec<Error> {
        std::mem::take(&mut self.doubts)
    }

    /// Opens all values, or the one of `key`, for the Secret that the object makes.
    pub(crate) fn open(
        &mut self,
        document: &SealedDocument,
        namespace: Option<&str>,
        key: Option<&str>,
    ) -> Result<OpenedValues> {
        self.open_values(document, namespace, key).map_err(|error| error.within(document.place()))
    }

    fn open_values(
        &mut self,
        document: &SealedDocument,
        namespace: Option<&str>,
        key: Option<&str>,
    ) -> Result<OpenedValues> {
        let object = &document.object;
        let place = place(object, namespace)?;
        if object.spec.encrypted_data.is_empty() && key.is_none() {
            return Ok(OpenedValues { place, values: Vec::new() });
        }
        object.spec.check().map_err(|cause| {
            Error::request("the object contradicts itself")
                .because(cause)
                .hint("no cluster would take it: see who changed it, `git log -p`")
        })?;
        let sealed_for = object.spec.binding().map_err(|cause| {
            Error::request("`spec.sealedFor` is not valid")
                .because(cause)
                .hint("its values open for what they were sealed for alone: see who changed it, `git log -p`")
        })?;
        let wanted = match key {
            Some(key) => vec![known_key(object, key)?],
            None => object.spec.encrypted_data.keys().map(String::as_str).collect(),
        };
        let mut values = Vec::new();
        for key in wanted {
            let token = &object.spec.encrypted_data[key];
            let opened = self.open_value(&sealed_for, &place, key, token);
            values.push(opened.map_err(|error| error.within(format_args!("`{key}`")))?);
        }
        Ok(OpenedValues { place, values })
    }

    fn open_value(
        &mut self,
        sealed_for: &SealedFor,
        place: &Place,
        key: &str,
        token: &str,
    ) -> Result<(DataKey, Zeroizing<Vec<u8>>)> {
        let refused =
            |cause: Box<dyn std::error::Error + Send + Sync>| Error::request("the value does not open").because(cause);
        let key = DataKey::new(key).map_err(|cause| refused(cause.into()))?;
        let token: Token = token.parse().map_err(|cause: seal_envelope::TokenError| refused(cause.into()))?;
        let ring_key = self.ring_key(token.key_id())?;
        let value = seal_envelope::open(ring_key, sealed_for, &key, place, &token).map_err(|cause| {
            refused(cause.into()).hint(format!(
                "it was asked to open for Secret {}/{}; a value opens only where it was sealed for",
                place.namespace(),
                place.name()
            ))
        })?;
        Ok((key, value))
    }

    fn ring_key(&mut self, id: KeyId) -> Result<&RingKey> {
        if !self.opened.contains_key(&id) {
            let (ring_key, doubts) = self.open_ring_key(id)?;
            self.opened.insert(id, ring_key);
            self.doubts.extend(doubts);
        }
        self.opened.get(&id).ok_or_else(|| Error::bug("a key was opened and is not there"))
    }

    /// Opens a key with the first ring that holds it and has one of these identities as a member.
    fn open_ring_key(&self, id: KeyId) -> Result<(RingKey, Vec<Error>)> {
        let mut refusal = None;
        for (ring, listed) in rings::holding(&self.rings, id) {
            let ring_key = match ring.open_key(id, &self.identities) {
                Ok(ring_key) => ring_key,
                Err(error) => {
                    refusal.get_or_insert(error);
                    continue;
                }
            };
            let disabled = || {
                let ring = ring.name();
                Error::request(format!("key {id} of the ring `{ring}` is disabled: no cluster opens it"))
            };
            let is_known = |key: &Recipient| self.opened.contains_key(&key.key_id());
            // The ring as a whole is looked at once.
            let unproven = if ring.ring.keys().iter().any(is_known) { None } else { ring.open(&self.identities).err() };
            return Ok((ring_key, listed.is_disabled().then(disabled).into_iter().chain(unproven).collect()));
        }
        Err(refusal.unwrap_or_else(|| self.unknown_key(id)))
    }

    fn unknown_key(&self, id: KeyId) -> Error {
        let error = Error::request(format!("sealed to key {id}, which no ring at hand holds"));
        if self.rings.is_empty() {
            return error.hint("give the ring file with --ring, or fetch it: `seal init --from-cluster`");
        }
        self.rings.iter().fold(error, |error, ring| {
            let ids: Vec<_> = ring.ring.keys().iter().map(|key| key.key_id().to_string()).collect();
            error.hint(format!("the ring `{}` holds {}", ring.name(), ids.join(", ")))
        })
    }
}

/// The Secret that the object makes, where the manifest may leave its namespace to others.
pub(crate) fn place(object: &SealedSecret, namespace: Option<&str>) -> Result<Place> {
    let own = object.metadata.namespace.as_deref().filter(|own| !own.is_empty());
    let only = object.spec.sealed_for.as_ref().and_then(|sealed_for| match sealed_for.namespaces.as_deref() {
        Some([only]) => Some(only.as_str()),
        _ => None,
    });
    if let (Some(own), Some(asked)) = (own, namespace)
        && own != asked
    {
        return Err(Error::request(format!("the SealedSecret is in namespace `{own}`, not in `{asked}`"))
            .hint("leave out --namespace"));
    }
    let namespace = own.or(namespace).or(only).ok_or_else(|| {
        Error::request("the SealedSecret names no namespace").hint("say for which to open it: --namespace NS")
    })?;
    Place::new(namespace, object.target_name())
        .map_err(|cause| Error::request("the SealedSecret names no valid Secret").because(cause))
}

fn known_key<'a>(object: &'a SealedSecret, key: &str) -> Result<&'a str> {
    let keys = || object.spec.encrypted_data.keys().map(String::as_str);
    keys().find(|known| *known == key).ok_or_else(|| {
        let error = Error::request(format!("there is no sealed key `{key}`"));
        match did_you_mean(key, keys()) {
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None => error.hint(format!("there are: {}", keys().collect::<Vec<_>>().join(", "))),
        }
    })
}
