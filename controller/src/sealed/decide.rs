//! What has to happen to the Secret of one SealedSecret.
//!
//! [`Observed`] + [`KeyIndex`] -> [`Decision`]. No client, no clock, no `async`: everything that it judges by was read
//! before, and everything that it wants is done afterwards.

use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt;
use seal_crds::{SealedSecret, condition::SealedSecretReason as Reason, sealed_secret::SpecError};
use seal_envelope::{BindingError, DataKey, KeyId, OpenError, Place, SealedFor, Token, TokenError};
use std::time::Duration;
use zeroize::Zeroizing;

use crate::{
    facts::{self, Facts, TakeOver},
    fields::Fields,
    keys::{Found, KeyIndex},
    target::{self, Claim, Desired, Difference, Values},
    template::{self, Renderer},
    vault::{VaultFailure, errand::Fetched, path::Plan},
};

/// How often at most a Secret that is not ours is asked for: foreign Secrets are not watched, so nothing tells when it
/// consents or goes, and it may be there for ever.
const POLL: Duration = Duration::from_secs(30);

/// Everything that a decision rests on.
pub struct Observed<'a> {
    /// The object, whole.
    pub object: &'a SealedSecret,
    /// The Secret that it makes.
    pub live: &'a Live,
    /// Another object that makes the same Secret and goes first.
    pub rival: Option<&'a str>,
    /// The controller's own namespace.
    pub own_namespace: &'a str,
    /// For how long the repair of this Secret is put off, because that manager keeps changing it back.
    pub contest: Option<(String, Duration)>,
    /// What Vault gave, for an object with a Vault part; none if it has not been asked.
    pub fetched: Option<&'a Result<Fetched, VaultFailure>>,
}

/// What is known of the Secret that an object makes.
pub enum Live {
    /// Nothing of ours was ever seen there. Creating it will tell, and costs no GET.
    PresumedAbsent,
    /// It was asked for and does not exist.
    Absent,
    /// It exists.
    Present(Box<Secret>),
}

impl Drop for Live {
    fn drop(&mut self) {
        if let Self::Present(secret) = self {
            facts::wipe(secret);
        }
    }
}

/// What has to happen.
#[derive(Debug)]
pub enum Decision {
    /// The Secret is as it should be, under this uid and resourceVersion.
    Hold(Facts),
    /// It does not exist and has to.
    Create {
        /// What it should be.
        desired: Desired,
        /// Whether it did exist and was deleted by somebody.
        drift: Option<Drift>,
    },
    /// It exists and has to change.
    Change {
        /// What it should be.
        desired: Desired,
        /// What it was when it was read: the precondition.
        facts: Facts,
        /// What our apply has to own first, so that it prunes.
        take_over: Option<TakeOver>,
        /// Whether it was somebody else's until now.
        is_adoption: bool,
        /// Whether it was right before and somebody changed it.
        drift: Option<Drift>,
    },
    /// It exists with another type, and has to be deleted and made anew.
    Replace {
        /// What it should be.
        desired: Desired,
        /// What it was when it was read: the precondition.
        facts: Facts,
    },
    /// Nothing may happen to it.
    Refuse(Refusal),
    /// Nothing stands in its way but that Vault has not been asked for this yet.
    Fetch(Plan),
    /// Vault gave nothing, so it stays as it is.
    Withhold(VaultFailure),
}

/// How a Secret that was right became wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Drift {
    /// It was deleted.
    Deleted,
    /// A value was changed or removed.
    Edited,
    /// A key was added.
    Extra,
    /// Type, labels, annotations or owner references.
    Metadata,
}

impl Drift {
    /// The word in metrics and Events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Deleted => "deleted",
            Self::Edited => "edited",
            Self::Extra => "extra",
            Self::Metadata => "metadata",
        }
    }
}

/// Why nothing happens. The message names ids and paths, never values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The stable word.
    pub reason: Reason,
    /// For people.
    pub message: String,
    /// When to look again, if the usual backoff is not right.
    pub after: Option<Duration>,
    /// Whether only a person can help, against what the reason usually means.
    pub is_stalled: bool,
}

impl Refusal {
    /// A refusal with what the reason usually means.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: shortened(message.into()), after: None, is_stalled: reason.needs_a_person() }
    }
}

/// The API server takes 32,768 characters; nobody reads so many.
fn shortened(message: String) -> String {
    match message.char_indices().nth(1024) {
        Some((at, _)) => format!("{}...", &message[..at]),
        None => message,
    }
}

/// Decides.
///
/// Vault is asked only for what nothing else stands in the way of.
pub fn decide(observed: &Observed<'_>, keys: &KeyIndex) -> Decision {
    let values = match sealed_values(observed, keys) {
        Ok(values) => values,
        Err(refusal) => return Decision::Refuse(refusal),
    };
    let values = match (&observed.object.spec.vault, observed.fetched) {
        (None, _) => Ok(values),
        (Some(_), Some(Ok(fetched))) => joined(values, fetched),
        (Some(_), Some(Err(failure))) => return Decision::Withhold(failure.clone()),
        (Some(source), None) => {
            let plan = Plan::of(source).map_err(|error| Refusal::new(Reason::InvalidSpec, format!("vault: {error}")));
            let stands_alone = observed.object.spec.encrypted_data.is_empty();
            let plan = plan.map(|plan| if stands_alone { plan.standing_alone() } else { plan });
            let plan = plan.and_then(|plan| untouchable(observed).map_or(Ok(plan), Err));
            return plan.map_or_else(Decision::Refuse, Decision::Fetch);
        }
    };
    let desired = values.and_then(|values| desired(observed.object, values));
    desired.map_or_else(Decision::Refuse, |desired| settle(observed, desired))
}

/// Sealed and fetched values together. No key has two sources.
fn joined(mut values: Values, fetched: &Fetched) -> Result<Values, Refusal> {
    for (key, value) in &fetched.values.values {
        if values.insert(key.clone(), value.clone()).is_some() {
            let message = format!("key `{key}` comes from encryptedData and from vault.dataFrom");
            return Err(Refusal::new(Reason::InvalidSpec, message));
        }
    }
    Ok(values)
}

/// Whether every sealed value of `object` opens at its place. Renders nothing, and says no more than that.
pub fn opens(object: &SealedSecret, keys: &KeyIndex) -> bool {
    object.spec.check().is_ok() && open(object, keys).is_ok()
}

/// The sealed values, opened, or why there can be no Secret whatever Vault says.
fn sealed_values(observed: &Observed<'_>, keys: &KeyIndex) -> Result<Values, Refusal> {
    let object = observed.object;
    object.spec.check().map_err(|error| invalid(&error))?;
    if let Some(refused) = target::refusal(object, observed.own_namespace) {
        return Err(Refusal::new(Reason::OutputRefused, refused));
    }
    if let Some(rival) = observed.rival {
        let message = format!("SealedSecret {rival} already makes the Secret {}", object.target_name());
        return Err(Refusal::new(Reason::TargetConflict, message));
    }
    open(object, keys)
}

/// The Secret as it should be, or why there can be none.
fn desired(object: &SealedSecret, values: Values) -> Result<Desired, Refusal> {
    let values = rendered(object, values)?;
    let size: usize = values.values().map(|value| value.len()).sum();
    if size > target::MAX_DATA {
        let message = format!("the values have {size} bytes together; a Secret takes {}", target::MAX_DATA);
        return Err(Refusal::new(Reason::TooLarge, message));
    }
    Ok(Desired::new(object, values))
}

fn invalid(error: &SpecError) -> Refusal {
    let message = match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    };
    Refusal::new(Reason::InvalidSpec, message)
}

/// Opens every sealed value, or says what is wrong with the first that fails.
///
/// What can be judged without a private key is judged for all values first.
fn open(object: &SealedSecret, keys: &KeyIndex) -> Result<Values, Refusal> {
    if object.spec.encrypted_data.is_empty() {
        return Ok(Values::new());
    }
    let place = object.place().map_err(|error| Refusal::new(Reason::InvalidSpec, error.to_string()))?;
    let sealed_for = object.spec.binding().map_err(|error| invalid(&error))?;
    sealed_for.admits(&place).map_err(|error| elsewhere(&sealed_for, &place, &error))?;

    let mut tokens = Vec::new();
    for (key, text) in &object.spec.encrypted_data {
        let data_key = DataKey::new(key).map_err(|error| Refusal::new(Reason::InvalidSpec, error.to_string()))?;
        let token: Token = text.parse().map_err(|error| unreadable(key, &error))?;
        tokens.push((data_key, token));
    }
    let mut values = Values::new();
    for (data_key, token) in tokens {
        let key = data_key.as_str();
        let ring_key = match keys.find(token.key_id()) {
            Found::Open(ring_key) => ring_key,
            other => return Err(no_key(key, token.key_id(), &other, keys)),
        };
        let value = seal_envelope::open(ring_key, &sealed_for, &data_key, &place, &token)
            .map_err(|error| unopened(key, &error))?;
        values.insert(key.to_owned(), value);
    }
    Ok(values)
}

fn elsewhere(sealed_for: &SealedFor, place: &Place, error: &BindingError) -> Refusal {
    let message = match error {
        BindingError::OtherNamespace => {
            format!("sealed for namespace {}, this is {}", sealed_for.namespaces().join(", "), place.namespace())
        }
        BindingError::OtherName => format!(
            "sealed for a Secret named {}, this would be {}",
            sealed_for.name().unwrap_or_default(),
            place.name()
        ),
        other => other.to_string(),
    };
    Refusal::new(Reason::SealedForElsewhere, message)
}

fn unreadable(key: &str, error: &TokenError) -> Refusal {
    Refusal::new(Reason::UnknownFormat, format!("{key}: {error}"))
}

fn no_key(key: &str, id: KeyId, found: &Found<'_>, keys: &KeyIndex) -> Refusal {
    let (reason, why) = match found {
        Found::Disabled(ring) => (Reason::KeyDisabled, format!("ring {ring} has disabled it")),
        Found::NotProven(ring) => {
            (Reason::KeyNotProven, format!("it stands in ring {ring} without a proof that covers it"))
        }
        Found::NotOpened(ring) => {
            (Reason::KeyNotFound, format!("it stands in ring {ring}, which does not open it here"))
        }
        Found::Open(_) | Found::Unknown => (Reason::KeyNotFound, holds(keys)),
    };
    Refusal::new(reason, format!("{key}: sealed to key {id}; {why}"))
}

fn holds(keys: &KeyIndex) -> String {
    let ids: Vec<_> = keys.open_ids().iter().map(ToString::to_string).collect();
    if ids.is_empty() {
        "this controller holds no key".to_owned()
    } else {
        format!("this controller holds {}", ids.join(", "))
    }
}

fn unopened(key: &str, error: &OpenError) -> Refusal {
    let reason = match error {
        OpenError::Place(_) => Reason::SealedForElsewhere,
        _ => Reason::DecryptFailed,
    };
    Refusal::new(reason, format!("{key}: {error}"))
}

/// Renders `template.data` over the opened values.
fn rendered(object: &SealedSecret, mut values: Values) -> Result<Values, Refusal> {
    let templates = object.spec.template.iter().flat_map(|template| &template.data);
    let mut outputs: Vec<(&String, Option<Zeroizing<Vec<u8>>>)> = Vec::new();
    let mut renderer = None;
    for (key, template) in templates {
        DataKey::new(key).map_err(|error| Refusal::new(Reason::InvalidSpec, format!("template.data: {error}")))?;
        let Some(source) = template else {
            outputs.push((key, None));
            continue;
        };
        let renderer = renderer
            .get_or_insert_with(|| Renderer::new(values.iter().map(|(key, value)| (key.as_str(), value.as_slice()))));
        let output = renderer.render(key, source).map_err(|failure| {
            let is_too_large = failure.reason == template::Reason::OutputTooLarge;
            let reason = if is_too_large { Reason::TooLarge } else { Reason::TemplateFailed };
            Refusal::new(reason, failure.to_string())
        })?;
        outputs.push((key, Some(output)));
    }
    for (key, output) in outputs {
        match output {
            Some(output) => values.insert(key.clone(), output),
            None => values.remove(key),
        };
    }
    Ok(values)
}

/// Compares what should be with what is.
fn settle(observed: &Observed<'_>, desired: Desired) -> Decision {
    let live = match observed.live {
        Live::Present(live) => live,
        Live::PresumedAbsent => return Decision::Create { desired, drift: None },
        Live::Absent => {
            let drift = was_right(observed, &desired.name).then_some(Drift::Deleted);
            return match contested(observed, drift.is_some()) {
                Some(refusal) => Decision::Refuse(refusal),
                None => Decision::Create { desired, drift },
            };
        }
    };
    let claim = match claimed(observed.object, live) {
        Ok(claim) => claim,
        Err(refusal) => return Decision::Refuse(refusal),
    };
    let facts = Facts::of(&live.metadata);
    let difference = target::difference(&desired, live);
    if difference.is_none() {
        return Decision::Hold(facts);
    }
    let is_immutable = live.immutable.unwrap_or_default();
    if is_immutable && (difference.is_in_data() || difference.type_ || difference.too_immutable) {
        let message =
            format!("Secret {} is immutable and would have to change; delete it to let it be made anew", desired.name);
        return Decision::Refuse(Refusal::new(Reason::TargetImmutable, message));
    }
    let drift = (claim == Claim::Ours && was_right(observed, &desired.name)).then(|| drift(&difference));
    if let Some(refusal) = contested(observed, drift.is_some()) {
        return Decision::Refuse(refusal);
    }
    if difference.type_ {
        return Decision::Replace { desired, facts };
    }
    let take_over = take_over(&desired, live);
    Decision::Change { desired, facts, take_over, is_adoption: claim == Claim::Consents, drift }
}

/// Whose the Secret is, if it may be written at all.
fn claimed(object: &SealedSecret, live: &Secret) -> Result<Claim, Refusal> {
    let target = object.target_name();
    let known_uid = object.status.as_ref().and_then(|status| status.secret.as_ref());
    let known_uid = known_uid.filter(|known| known.name == target).and_then(|known| known.uid.as_deref());
    let claim = target::claim(object, known_uid, live);
    match &claim {
        Claim::Ours | Claim::Consents => {}
        Claim::Identity => {
            let message = format!("Secret {target} holds an identity of the controller");
            return Err(Refusal::new(Reason::OutputRefused, message));
        }
        Claim::Foreign(whose) => {
            let name = object.name_any();
            let message = format!(
                "Secret {target} is not this object's: {whose}; to hand it over, annotate it with sealwright.dev/adopt-by: {name}"
            );
            return Err(Refusal { after: Some(POLL), ..Refusal::new(Reason::TargetNotOwned, message) });
        }
    }
    if live.metadata.deletion_timestamp.is_some() {
        let message = format!("Secret {target} is being deleted; it is made anew when it is gone");
        return Err(Refusal::new(Reason::TargetTerminating, message));
    }
    Ok(claim)
}

/// What would keep the Secret from being written whatever Vault says.
fn untouchable(observed: &Observed<'_>) -> Option<Refusal> {
    let refusal = match observed.live {
        Live::Present(live) => claimed(observed.object, live).err(),
        Live::Absent | Live::PresumedAbsent => None,
    };
    let is_repair = was_right(observed, observed.object.target_name());
    refusal.or_else(|| contested(observed, is_repair))
}

/// Whether the status says that this very spec, and what Vault gave, had become the Secret: then what differs now is
/// somebody's doing.
fn was_right(observed: &Observed<'_>, name: &str) -> bool {
    let object = observed.object;
    let Some(status) = &object.status else { return false };
    if let Some(Ok(fetched)) = observed.fetched
        && status.data_mac.as_ref() != Some(&fetched.mac)
    {
        return false;
    }
    let is_current = status.observed_generation.is_some() && status.observed_generation == object.metadata.generation;
    let was_good = seal_crds::condition::find(&status.conditions, seal_crds::condition::READY)
        .is_some_and(|ready| ready.status == seal_crds::condition::TRUE || ready.reason == Reason::Contested.as_str());
    is_current && was_good && status.secret.as_ref().is_some_and(|secret| secret.name == name && secret.uid.is_some())
}

fn drift(difference: &Difference) -> Drift {
    if difference.edited || difference.missing {
        Drift::Edited
    } else if difference.extra {
        Drift::Extra
    } else {
        Drift::Metadata
    }
}

fn contested(observed: &Observed<'_>, is_drift: bool) -> Option<Refusal> {
    let (manager, wait) = observed.contest.as_ref().filter(|_| is_drift)?;
    let message = format!(
        "{manager} keeps changing Secret {} back; it is repaired again, ever more slowly",
        observed.object.target_name()
    );
    Some(Refusal { after: Some(*wait), ..Refusal::new(Reason::Contested, message) })
}

fn take_over(desired: &Desired, live: &Secret) -> Option<TakeOver> {
    let parts = target::parts_to_take_over(desired, live);
    let fields = Fields::read(live.metadata.managed_fields.as_ref());
    let has_last_applied = target::holds_copy(&live.metadata, &fields);
    (!parts.is_empty() || has_last_applied).then(|| TakeOver {
        parts,
        managed_fields: live.metadata.managed_fields.clone().unwrap_or_default(),
        has_last_applied,
    })
}

/// Who changed the data of this Secret, as far as it tells.
pub fn meddler(live: &Live) -> String {
    let unknown = || "somebody".to_owned();
    match live {
        Live::Present(live) => {
            let fields = Fields::read(live.metadata.managed_fields.as_ref());
            fields.data_managers.into_iter().find(|manager| !manager.is_empty()).unwrap_or_else(unknown)
        }
        _ => unknown(),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::{ByteString, api::core::v1::Secret, jiff::Timestamp};
    use seal_crds::{condition::RecoverableReason, sealed_secret::SecretStatus};
    use seal_envelope::RingKey;
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        fields::Part,
        keys::{OpenedRing, rings::OpenedKey},
        status::{self, Verdict},
    };

    const OWN: &str = "sealwright-system";

    /// A ring key, the index that holds it, and an object that is sealed to it.
    struct Stage {
        key: RingKey,
        keys: KeyIndex,
        object: SealedSecret,
    }

    impl Stage {
        fn new() -> Self {
            let key = RingKey::generate().unwrap();
            let keys = index(&key, true, false);
            let token = sealed(&key, "password", b"hunter2");
            let object = serde_json::from_value(json!({
                "apiVersion": "sealwright.dev/v1alpha1", "kind": "SealedSecret",
                "metadata": {"name": "db", "namespace": "shop", "uid": "u1", "generation": 1},
                "spec": {"sealedFor": {"name": "db", "namespaces": ["shop"]}, "encryptedData": {"password": token}},
            }));
            Self { key, keys, object: object.unwrap() }
        }

        fn with(mut self, change: impl FnOnce(&mut SealedSecret, &RingKey)) -> Self {
            change(&mut self.object, &self.key);
            self
        }

        fn decide(&self, live: &Live) -> Decision {
            self.decide_with(live, None, None)
        }

        fn decide_with(&self, live: &Live, rival: Option<&str>, contest: Option<(String, Duration)>) -> Decision {
            let observed = Observed { object: &self.object, live, rival, own_namespace: OWN, contest, fetched: None };
            decide(&observed, &self.keys)
        }

        fn decide_fetched(&self, live: &Live, fetched: &Result<Fetched, VaultFailure>) -> Decision {
            let object = &self.object;
            let fetched = Some(fetched);
            decide(&Observed { object, live, rival: None, own_namespace: OWN, contest: None, fetched }, &self.keys)
        }

        fn refused(&self) -> Refusal {
            refusal(self.decide(&Live::PresumedAbsent))
        }

        /// The Secret as our apply leaves it, and the object as our status patch does.
        fn established(&mut self) -> Secret {
            let decision = self.decide(&Live::PresumedAbsent);
            self.carried_out(decision, None)
        }

        fn carried_out(&mut self, decision: Decision, fetched: Option<&Fetched>) -> Secret {
            let Decision::Create { desired, .. } = decision else { panic!("not created") };
            let secret = SecretStatus { name: "db".into(), uid: Some("s1".into()), ..SecretStatus::default() };
            let verdict = Verdict {
                reason: Reason::Synced,
                message: String::new(),
                is_stalled: false,
                secret: Some(secret),
                vault: fetched.map(Into::into),
            };
            self.object.status = Some(status::next(&self.object, &verdict, Timestamp::UNIX_EPOCH));
            let mut live = Secret {
                type_: Some(desired.type_.clone()),
                data: Some(desired.data.iter().map(|(key, value)| (key.clone(), ByteString(value.to_vec()))).collect()),
                ..Secret::default()
            };
            live.metadata.uid = Some("s1".into());
            live.metadata.resource_version = Some("7".into());
            live.metadata.managed_fields = Some(crate::fields::taken_over(&[], &desired.parts()));
            live.metadata.labels = Some(desired.labels);
            live.metadata.annotations = Some(desired.annotations);
            live.metadata.owner_references = desired.owner.map(|owner| vec![owner]);
            live
        }
    }

    fn index(key: &RingKey, is_proven: bool, is_disabled: bool) -> KeyIndex {
        let key = OpenedKey { id: key.id(), opened: Some((key.clone(), "c".into())), is_proven, is_disabled };
        let ring = OpenedRing {
            name: "prod".into(),
            keys: vec![key],
            members: Vec::new(),
            reason: seal_crds::condition::KeyRingReason::Opened,
            message: String::new(),
            recoverable: RecoverableReason::OtherMembers,
        };
        KeyIndex::new(&[ring]).0
    }

    fn sealed(key: &RingKey, data_key: &str, value: &[u8]) -> String {
        let sealed_for = SealedFor::new(Some("db"), ["shop"]).unwrap();
        seal_envelope::seal(key.recipient(), &sealed_for, &DataKey::new(data_key).unwrap(), value).unwrap().to_string()
    }

    fn refusal(decision: Decision) -> Refusal {
        match decision {
            Decision::Refuse(refusal) => refusal,
            other => panic!("not refused: {other:?}"),
        }
    }

    fn template(data: Value) -> Option<seal_crds::sealed_secret::Template> {
        serde_json::from_value(json!({"data": data})).unwrap()
    }

    #[test]
    fn a_fresh_object_is_created_without_being_read_and_without_drift() {
        let Decision::Create { desired, drift: None } = Stage::new().decide(&Live::PresumedAbsent) else { panic!() };
        assert_eq!(*desired.data["password"], b"hunter2");
        assert!(!format!("{desired:?}").contains("hunter2"));
    }

    #[test]
    fn what_cannot_be_opened_is_named_by_key_and_id() {
        let other = RingKey::generate().unwrap();
        let id = other.id().to_string();
        type Change = Box<dyn Fn(&mut SealedSecret, &RingKey)>;
        let token = |token: &str| -> Change {
            let token = token.to_owned();
            Box::new(move |object, _| drop(object.spec.encrypted_data.insert("password".into(), token.clone())))
        };
        let table: [(Change, Reason, &str); 8] = [
            (token("seal9.x.y.z"), Reason::UnknownFormat, "password"),
            (token("hunter2"), Reason::UnknownFormat, "password"),
            (token(&sealed(&other, "password", b"v")), Reason::KeyNotFound, &id),
            (
                Box::new(|object, key| {
                    object.spec.encrypted_data.insert("user".into(), sealed(key, "password", b"v"));
                }),
                Reason::DecryptFailed,
                "user",
            ),
            (
                Box::new(|object, _| object.metadata.namespace = Some("other".into())),
                Reason::SealedForElsewhere,
                "other",
            ),
            (
                Box::new(|object, _| object.spec.sealed_for = Some(Default::default())),
                Reason::DecryptFailed,
                "password",
            ),
            (Box::new(|object, _| object.spec.sealed_for = None), Reason::InvalidSpec, "sealedFor"),
            (Box::new(|object, _| object.spec.encrypted_data.clear()), Reason::InvalidSpec, "encryptedData"),
        ];
        for (change, reason, says) in table {
            let refusal = Stage::new().with(change).refused();
            assert_eq!(refusal.reason, reason, "{}", refusal.message);
            assert!(refusal.is_stalled && refusal.message.contains(says), "{}", refusal.message);
            assert!(!refusal.message.contains("hunter2"));
        }
    }

    #[test]
    fn keys_that_are_unproven_or_disabled_are_told_apart() {
        for (is_proven, is_disabled, reason) in
            [(false, false, Reason::KeyNotProven), (true, true, Reason::KeyDisabled)]
        {
            let mut stage = Stage::new();
            stage.keys = index(&stage.key, is_proven, is_disabled);
            let refusal = stage.refused();
            assert_eq!(refusal.reason, reason);
            assert!(refusal.message.contains("prod"), "{}", refusal.message);
        }
    }

    /// What Vault gave, with this MAC.
    fn fetched(pairs: &[(&str, &str)], mac: &str) -> Result<Fetched, VaultFailure> {
        let values = pairs.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec().into())).collect();
        let values = crate::vault::value::Values { values, versions: Default::default(), hold: None };
        Ok(Fetched { values, mac: mac.to_owned() })
    }

    /// A stage whose object also wants `user` from Vault.
    fn with_vault() -> Stage {
        let vault =
            json!({"storeRef": {"name": "main"}, "data": [{"key": "user", "mount": "kv", "path": "p", "field": "f"}]});
        let vault = serde_json::from_value(vault).unwrap();
        Stage::new().with(|object, _| object.spec.vault = Some(vault))
    }

    #[test]
    fn vault_is_asked_only_for_what_nothing_else_stands_in_the_way_of() {
        let stage = with_vault();
        let Decision::Fetch(plan) = stage.decide(&Live::PresumedAbsent) else { panic!("not asked") };
        assert_eq!(plan.reads().len(), 1);

        let foreign = Live::Present(Box::default());
        assert_eq!(refusal(stage.decide(&foreign)).reason, Reason::TargetNotOwned);
        assert_eq!(
            refusal(stage.decide_with(&Live::PresumedAbsent, Some("other"), None)).reason,
            Reason::TargetConflict
        );
        let unknown = with_vault().with(|object, _| {
            object
                .spec
                .encrypted_data
                .insert("password".into(), sealed(&RingKey::generate().unwrap(), "password", b"v"));
        });
        assert_eq!(unknown.refused().reason, Reason::KeyNotFound);
        let escape = with_vault().with(|object, _| object.spec.vault.as_mut().unwrap().data[0].path = "../x".into());
        assert_eq!(escape.refused().reason, Reason::InvalidSpec);
    }

    #[test]
    fn fetched_and_sealed_values_become_one_secret_and_no_key_has_two_sources() {
        let stage = with_vault();
        let both = fetched(&[("user", "ada")], "m1");
        let Decision::Create { desired, drift: None } = stage.decide_fetched(&Live::PresumedAbsent, &both) else {
            panic!()
        };
        assert_eq!((&**desired.data["password"], &**desired.data["user"]), (&b"hunter2"[..], &b"ada"[..]));

        let twice = fetched(&[("user", "ada"), ("password", "theirs")], "m1");
        let refused = refusal(stage.decide_fetched(&Live::PresumedAbsent, &twice));
        assert!(refused.reason == Reason::InvalidSpec && refused.message.contains("`password`"), "{refused:?}");
        assert!(!refused.message.contains("theirs"));

        let failure = VaultFailure {
            reason: seal_crds::condition::VaultReason::VaultSealed,
            message: String::new(),
            retry: crate::vault::Retry::WhenUp,
        };
        let nothing = stage.decide_fetched(&Live::PresumedAbsent, &Err(failure.clone()));
        assert!(matches!(nothing, Decision::Withhold(withheld) if withheld == failure));
    }

    #[test]
    fn what_changed_in_vault_is_no_drift_and_what_changed_in_the_secret_is() {
        for (mac, expected) in [("m2", None), ("m1", Some(Drift::Edited))] {
            let mut stage = with_vault();
            let before = fetched(&[("user", "ada")], "m1");
            let decision = stage.decide_fetched(&Live::PresumedAbsent, &before);
            let live = Live::Present(Box::new(stage.carried_out(decision, before.as_ref().ok())));
            let now = fetched(&[("user", "grace")], mac);
            let Decision::Change { drift, .. } = stage.decide_fetched(&live, &now) else { panic!() };
            assert_eq!(drift, expected);
        }
    }

    #[test]
    fn templates_shape_the_data_and_fail_without_quoting_it() {
        let stage = Stage::new().with(|object, _| {
            object.spec.template = template(json!({"url": "pg://{{ .password }}@db", "password": null}));
        });
        let Decision::Create { desired, .. } = stage.decide(&Live::PresumedAbsent) else { panic!() };
        assert_eq!(desired.data.keys().collect::<Vec<_>>(), ["url"]);
        assert_eq!(*desired.data["url"], b"pg://hunter2@db");

        let stage = Stage::new().with(|object, _| object.spec.template = template(json!({"url": "{{ .absent }}"})));
        let refusal = stage.refused();
        assert_eq!(refusal.reason, Reason::TemplateFailed);
        assert!(!refusal.message.contains("hunter2"));
    }

    #[test]
    fn a_rival_goes_first() {
        let refusal = refusal(Stage::new().decide_with(&Live::PresumedAbsent, Some("older"), None));
        assert_eq!(refusal.reason, Reason::TargetConflict);
        assert!(refusal.message.contains("older"));
    }

    #[test]
    fn an_established_secret_is_held() {
        let mut stage = Stage::new();
        let live = stage.established();
        let held = Facts { uid: "s1".into(), resource_version: "7".into() };
        assert!(matches!(stage.decide(&Live::Present(Box::new(live))), Decision::Hold(facts) if facts == held));
    }

    #[test]
    fn what_somebody_changed_is_drift_and_what_git_changed_is_not() {
        type Tamper = fn(&mut Secret);
        let edit: Tamper = |live| drop(live.data.as_mut().unwrap().insert("password".into(), ByteString(vec![1])));
        let extra: Tamper = |live| drop(live.data.as_mut().unwrap().insert("extra".into(), ByteString(vec![1])));
        let unlabel: Tamper = |live| live.metadata.labels = None;
        let kubectl: Tamper = |live| {
            live.metadata.annotations.as_mut().unwrap().insert(target::LAST_APPLIED.into(), "hunter2".into());
        };
        for (tamper, expected, takes_over) in [
            (edit, Drift::Edited, false),
            (extra, Drift::Extra, true),
            (unlabel, Drift::Metadata, false),
            (kubectl, Drift::Metadata, true),
        ] {
            let mut stage = Stage::new();
            let mut live = stage.established();
            tamper(&mut live);
            let live = Live::Present(Box::new(live));
            let Decision::Change { facts, take_over, drift, is_adoption: false, .. } = stage.decide(&live) else {
                panic!()
            };
            assert_eq!((drift, take_over.is_some()), (Some(expected), takes_over));
            assert_eq!(facts.resource_version, "7");

            stage.object.metadata.generation = Some(2);
            assert!(matches!(stage.decide(&live), Decision::Change { drift: None, .. }));
        }
        let mut stage = Stage::new();
        stage.established();
        assert!(matches!(stage.decide(&Live::Absent), Decision::Create { drift: Some(Drift::Deleted), .. }));
    }

    #[test]
    fn a_contested_repair_waits() {
        let mut stage = Stage::new();
        stage.established();
        let contest = Some(("kubectl-edit".to_owned(), Duration::from_secs(8)));
        let refusal = refusal(stage.decide_with(&Live::Absent, None, contest.clone()));
        assert_eq!((refusal.reason, refusal.after), (Reason::Contested, Some(Duration::from_secs(8))));
        assert!(refusal.message.contains("kubectl-edit") && !refusal.is_stalled);
        // A change of ours is no part of the contest.
        stage.object.metadata.generation = Some(2);
        assert!(matches!(stage.decide_with(&Live::Absent, None, contest), Decision::Create { .. }));
    }

    #[test]
    fn a_secret_that_is_not_ours_is_left_alone_until_it_consents() {
        let mut foreign =
            Secret { data: Some([("theirs".to_owned(), ByteString(vec![1]))].into()), ..Secret::default() };
        foreign.type_ = Some("Opaque".into());
        foreign.metadata.annotations = Some([(target::LAST_APPLIED.to_owned(), "{}".to_owned())].into());
        let live = Live::Present(Box::new(foreign.clone()));
        let refused = refusal(Stage::new().decide(&live));
        assert_eq!((refused.reason, refused.after), (Reason::TargetNotOwned, Some(Duration::from_secs(30))));

        let consent = (seal_crds::ADOPT_BY_ANNOTATION.to_owned(), "db".to_owned());
        foreign.metadata.annotations.as_mut().unwrap().extend([consent]);
        let live = Live::Present(Box::new(foreign));
        let Decision::Change { take_over: Some(take_over), is_adoption: true, drift: None, .. } =
            Stage::new().decide(&live)
        else {
            panic!()
        };
        assert!(take_over.has_last_applied && take_over.parts.contains(&Part::Data("theirs".into())));
    }

    #[test]
    fn what_stands_in_the_way_is_named() {
        type Tamper = fn(&mut Secret);
        let table: [(Tamper, Reason); 5] = [
            (|live| live.type_ = Some("sealwright.dev/identity".into()), Reason::OutputRefused),
            (
                |live| {
                    live.metadata.deletion_timestamp =
                        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::UNIX_EPOCH));
                },
                Reason::TargetTerminating,
            ),
            (|live| live.immutable = Some(true), Reason::TargetImmutable),
            (
                |live| {
                    live.immutable = Some(true);
                    live.data = None;
                },
                Reason::TargetImmutable,
            ),
            (|live| live.metadata.annotations = None, Reason::TargetNotOwned),
        ];
        for (i, (tamper, reason)) in table.into_iter().enumerate() {
            let mut stage = Stage::new();
            let mut live = stage.established();
            if reason == Reason::TargetNotOwned {
                live.metadata.uid = Some("another".into());
            }
            tamper(&mut live);
            assert_eq!(refusal(stage.decide(&Live::Present(Box::new(live)))).reason, reason, "case {i}");
        }
    }

    #[test]
    fn another_type_needs_a_new_secret() {
        let mut stage = Stage::new();
        let live = stage.established();
        stage.object.spec.template = serde_json::from_value(json!({"type": "a/b"})).unwrap();
        stage.object.metadata.generation = Some(2);
        assert!(matches!(stage.decide(&Live::Present(Box::new(live))), Decision::Replace { .. }));
    }
}
