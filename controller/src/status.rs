//! What people, Argo CD and Flux read: the status of a SealedSecret and of a KeyRing.
//!
//! object + [`Verdict`] + now -> status -> one merge patch, and only if it says something new.
//!
//! kstatus takes `Ready=False` alone for "in progress"; so what only a person can help also says `Stalled=True`, and
//! what we try again says `Reconciling=True`, never both (`docs/design/controller.md` 7). Messages name ids and paths.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta, Time},
    jiff::{Timestamp, Unit},
};
use ring::digest::{SHA256, digest};
use seal_crds::{
    KeyRing, KeyRingStatus, SealedSecret, SealedSecretStatus, VaultStore, VaultStoreStatus,
    condition::{
        FALSE, KeyRingReason, READY, RECONCILING, RECOVERABLE, RecoverableReason, STALLED, SealedSecretReason, TRUE,
        VAULT_SYNCED, VaultReason, VaultStoreReason,
    },
    key_ring::RingKeyStatus,
    sealed_secret::SecretStatus,
};
use seal_envelope::Token;
use serde_json::{Value, json};

use crate::{
    keys::OpenedRing,
    template::RENDERER_VERSION,
    vault::{StoreHealth, VaultFailure, course::refresh_asked, errand::Fetched},
};

/// The outcome of one look at an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    /// The stable word.
    pub reason: SealedSecretReason,
    /// For people.
    pub message: String,
    /// Whether only a person can help.
    pub is_stalled: bool,
    /// The Secret, where it is as it should be.
    pub secret: Option<SecretStatus>,
    /// What came of the last fetch from Vault, if there was one.
    pub vault: Option<VaultPart>,
}

/// What is said of a fetch.
#[derive(Clone, Debug, PartialEq)]
pub enum VaultPart {
    /// It succeeded, and the Secret holds what it gave.
    Synced {
        /// A keyed MAC of the values.
        mac: String,
        /// The versions that they come from.
        versions: BTreeMap<String, i64>,
    },
    /// It succeeded, but no Secret can be made of what it gave.
    Unused,
    /// It failed.
    Failed {
        /// The stable word.
        reason: VaultReason,
        /// For people.
        message: String,
    },
}

impl From<&Fetched> for VaultPart {
    fn from(fetched: &Fetched) -> Self {
        Self::Synced { mac: fetched.mac.clone(), versions: fetched.values.versions.clone() }
    }
}

/// What a failed fetch means for the object: its Secret stays, and while that is what the spec says and not too old, so
/// does `Ready`.
pub fn withheld(object: &SealedSecret, failure: &VaultFailure, is_right: bool, is_stale: bool) -> Verdict {
    let old = object.status.clone().unwrap_or_default();
    let ready = seal_crds::condition::find(&old.conditions, READY);
    let was_stale = ready.is_some_and(|ready| ready.reason == SealedSecretReason::Stale.as_str());
    let message = words(object, failure);
    let failed = format!("{}: {message}", failure.reason);
    let vault = Some(VaultPart::Failed { reason: failure.reason, message });
    let verdict = |reason, message, secret| Verdict { reason, message, is_stalled: false, secret, vault };
    match (ready, old.secret.filter(|_| is_right)) {
        (Some(_), Some(_)) if is_stale || was_stale => {
            verdict(SealedSecretReason::Stale, format!("the last fetch is older than staleAfter; {failed}"), None)
        }
        (Some(ready), Some(secret)) => verdict(SealedSecretReason::Synced, ready.message.clone(), Some(secret)),
        _ => verdict(SealedSecretReason::NeverSynced, format!("nothing is written without Vault; {failed}"), None),
    }
}

/// What is said of a failure. As long as a server fails for one reason the words of the first time stay, unless somebody
/// asks anew: a load balancer that answers 502 and 503 in turn would be a write for each object and each try.
fn words(object: &SealedSecret, failure: &VaultFailure) -> String {
    use VaultReason as Reason;
    let told = object.status.as_ref().filter(|status| {
        status.observed_generation == object.metadata.generation
            && status.observed_refresh == refresh_asked(&object.metadata)
            && matches!(failure.reason, Reason::VaultUnreachable | Reason::VaultSealed | Reason::RateLimited)
    });
    let told = told.and_then(|status| seal_crds::condition::find(&status.conditions, VAULT_SYNCED));
    let told = told.filter(|told| told.reason == failure.reason.as_str());
    told.map_or_else(|| failure.message.clone(), |told| told.message.clone())
}

/// A hash of what the Secret depends on besides the spec. No secret is in it.
///
/// A renderer that gives other bytes than before makes every object worth another look.
pub fn inputs() -> String {
    let digest = digest(&SHA256, format!("renderer {RENDERER_VERSION}").as_bytes());
    digest.as_ref()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The status that `object` should have.
pub fn next(object: &SealedSecret, verdict: &Verdict, now: Timestamp) -> SealedSecretStatus {
    let old = object.status.clone().unwrap_or_default();
    let is_ready = verdict.secret.is_some();
    let generation = object.metadata.generation;
    let word = verdict.reason.as_str();
    let mut conditions = Conditions { old: &old.conditions, generation, now, new: Vec::new() };
    conditions.set(READY, is_ready, word, &verdict.message);
    if !is_ready {
        let mark = if verdict.is_stalled { STALLED } else { RECONCILING };
        conditions.set(mark, true, word, &verdict.message);
    }
    match (&object.spec.vault, &verdict.vault) {
        (Some(_), Some(VaultPart::Synced { .. } | VaultPart::Unused)) => {
            let word = VaultReason::Synced.as_str();
            conditions.set(VAULT_SYNCED, true, word, "the last fetch succeeded");
        }
        (Some(_), Some(VaultPart::Failed { reason, message })) => {
            conditions.set(VAULT_SYNCED, false, reason.as_str(), message);
        }
        (Some(_), None) => conditions.keep(VAULT_SYNCED),
        (None, _) => {}
    }
    let status = SealedSecretStatus {
        observed_generation: generation,
        conditions: conditions.with_foreign(&[READY, STALLED, RECONCILING, VAULT_SYNCED]),
        keys_in_use: keys_in_use(object),
        secret: verdict.secret.clone().or_else(|| old.secret.clone()),
        ..SealedSecretStatus::default()
    };
    match &object.spec.vault {
        Some(_) => with_fetched(object, status, verdict.vault.as_ref(), old, now),
        None => status,
    }
}

/// Adds what is told of the fetch besides its condition. `lastSyncTime` moves with the content and after a failure only:
/// a time in it for each fetch would be a write for each.
fn with_fetched(
    object: &SealedSecret,
    status: SealedSecretStatus,
    vault: Option<&VaultPart>,
    old: SealedSecretStatus,
    now: Timestamp,
) -> SealedSecretStatus {
    let refresh = refresh_asked(&object.metadata);
    let was_synced = seal_crds::condition::is_true(&old.conditions, VAULT_SYNCED);
    let time = || Some(Time(now.round(Unit::Second).unwrap_or(now)));
    match vault {
        None => SealedSecretStatus {
            last_sync_time: old.last_sync_time,
            vault_versions: old.vault_versions,
            data_mac: old.data_mac,
            observed_refresh: old.observed_refresh,
            ..status
        },
        Some(VaultPart::Failed { .. }) => SealedSecretStatus {
            last_sync_time: old.last_sync_time,
            vault_versions: old.vault_versions,
            data_mac: old.data_mac,
            observed_refresh: refresh,
            ..status
        },
        // Of the Secret itself there is nothing new to tell.
        Some(VaultPart::Unused) => SealedSecretStatus {
            last_sync_time: if was_synced { old.last_sync_time } else { time() },
            vault_versions: old.vault_versions,
            data_mac: old.data_mac,
            observed_refresh: refresh,
            ..status
        },
        Some(VaultPart::Synced { mac, versions }) => {
            let is_same = was_synced && old.data_mac.as_ref() == Some(mac);
            SealedSecretStatus {
                last_sync_time: if is_same { old.last_sync_time } else { time() },
                vault_versions: versions.clone(),
                data_mac: Some(mac.clone()),
                observed_refresh: refresh,
                ..status
            }
        }
    }
}

/// The status that a VaultStore should have.
pub fn next_of_store(object: &VaultStore, health: &StoreHealth, now: Timestamp) -> VaultStoreStatus {
    let old = object.status.clone().unwrap_or_default();
    let generation = object.metadata.generation;
    // What was learnt before this process began is better than nothing, as long as it is about this spec.
    let is_known =
        old.observed_generation == generation && seal_crds::condition::find(&old.conditions, READY).is_some();
    if health.reason == VaultStoreReason::Unknown && is_known {
        return old;
    }
    let (is_ready, word) = (health.reason == VaultStoreReason::Reachable, health.reason.as_str());
    let mut conditions = Conditions { old: &old.conditions, generation, now, new: Vec::new() };
    conditions.set(READY, is_ready, word, &health.message);
    match health.reason {
        VaultStoreReason::Reachable | VaultStoreReason::Unknown => {}
        VaultStoreReason::InvalidSpec => conditions.set(STALLED, true, word, &health.message),
        _ => conditions.set(RECONCILING, true, word, &health.message),
    }
    VaultStoreStatus {
        observed_generation: generation,
        conditions: conditions.with_foreign(&[READY, STALLED, RECONCILING]),
    }
}

fn keys_in_use(object: &SealedSecret) -> Vec<String> {
    let tokens = object.spec.encrypted_data.values().filter_map(|token| token.parse::<Token>().ok());
    let ids: BTreeSet<_> = tokens.map(|token| token.key_id()).collect();
    ids.iter().map(ToString::to_string).collect()
}

/// The status that a KeyRing should have.
pub fn next_of_ring(
    object: &KeyRing,
    ring: &OpenedRing,
    (reason, message): (KeyRingReason, &str),
    now: Timestamp,
) -> KeyRingStatus {
    let old = object.status.clone().unwrap_or_default();
    let is_ready = matches!(reason, KeyRingReason::Opened | KeyRingReason::KeyInTwoRings);
    let generation = object.metadata.generation;
    let mut conditions = Conditions { old: &old.conditions, generation, now, new: Vec::new() };
    conditions.set(READY, is_ready, reason.as_str(), message);
    if !is_ready {
        conditions.set(STALLED, true, reason.as_str(), message);
    }
    let (is_recoverable, explanation) = match ring.recoverable {
        RecoverableReason::OtherMembers => (true, "somebody besides this cluster can open the ring"),
        _ => (
            false,
            "only this cluster can open the ring: losing it loses every value; add a recovery member with `seal ring add`",
        ),
    };
    if !ring.members.is_empty() {
        conditions.set(RECOVERABLE, is_recoverable, ring.recoverable.as_str(), explanation);
    }
    let keys = ring.keys.iter().map(|key| RingKeyStatus {
        id: key.id.to_string(),
        opened_by: key.opened.as_ref().map(|(_, member)| member.clone()),
        proven: key.is_proven,
    });
    // What was there before a ring was rewritten is the only evidence of it.
    let keep = reason == KeyRingReason::KeysRewritten || ring.keys.is_empty();
    KeyRingStatus {
        observed_generation: generation,
        conditions: conditions.with_foreign(&[READY, STALLED, RECOVERABLE]),
        keys: if keep { old.keys } else { keys.collect() },
    }
}

/// The status of a KeyRing outside the controller's namespace.
pub fn not_honoured(object: &KeyRing, own_namespace: &str, now: Timestamp) -> KeyRingStatus {
    let old = object.status.clone().unwrap_or_default();
    let message = format!("rings are honoured in namespace {own_namespace} only; nothing is ever sealed to this one");
    let word = KeyRingReason::NotHonoured.as_str();
    let mut conditions =
        Conditions { old: &old.conditions, generation: object.metadata.generation, now, new: Vec::new() };
    conditions.set(READY, false, word, &message);
    conditions.set(STALLED, true, word, &message);
    KeyRingStatus {
        observed_generation: object.metadata.generation,
        conditions: conditions.with_foreign(&[READY, STALLED, RECOVERABLE]),
        keys: Vec::new(),
    }
}

/// Builds conditions; the transition time moves with the status only.
struct Conditions<'a> {
    old: &'a [Condition],
    generation: Option<i64>,
    now: Timestamp,
    new: Vec<Condition>,
}

impl Conditions<'_> {
    fn set(&mut self, type_: &str, is_true: bool, reason: &str, message: &str) {
        let status = if is_true { TRUE } else { FALSE };
        let before = seal_crds::condition::find(self.old, type_).filter(|before| before.status == status);
        let now = || Time(self.now.round(Unit::Second).unwrap_or(self.now));
        self.new.push(Condition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message: message.to_owned(),
            observed_generation: self.generation,
            last_transition_time: before.map_or_else(now, |before| before.last_transition_time.clone()),
        });
    }

    /// Leaves a condition as it is, if there is one.
    fn keep(&mut self, type_: &str) {
        self.new.extend(seal_crds::condition::find(self.old, type_).cloned());
    }

    /// Conditions of types that are not ours stay as they are.
    fn with_foreign(self, ours: &[&str]) -> Vec<Condition> {
        let foreign = self.old.iter().filter(|condition| !ours.contains(&condition.type_.as_str())).cloned();
        self.new.into_iter().chain(foreign).collect()
    }
}

/// The merge patch that sets `status`, if the object still is what it was when it was read.
///
/// What is absent is null, or it would stay.
pub fn patch(metadata: &ObjectMeta, status: &impl serde::Serialize, optional: &[&str]) -> Value {
    let mut status = serde_json::to_value(status).unwrap_or_default();
    if let Some(fields) = status.as_object_mut() {
        for field in optional {
            fields.entry(*field).or_insert(Value::Null);
        }
    }
    json!({"metadata": {"uid": metadata.uid, "resourceVersion": metadata.resource_version}, "status": status})
}

/// The merge patch that sets the status of a SealedSecret. A version that is read no longer is null too, or it would stay.
pub fn patch_of(object: &SealedSecret, status: &SealedSecretStatus) -> Value {
    let mut patch = patch(&object.metadata, status, SEALED_SECRET_FIELDS);
    let before = object.status.iter().flat_map(|status| status.vault_versions.keys());
    if let Some(versions) = patch["status"]["vaultVersions"].as_object_mut() {
        for place in before {
            versions.entry(place).or_insert(Value::Null);
        }
    }
    patch
}

/// The optional fields of a SealedSecret's status that we write.
const SEALED_SECRET_FIELDS: &[&str] =
    &["dataMAC", "keysInUse", "lastSyncTime", "observedRefresh", "secret", "vaultVersions"];
/// The optional fields of a VaultStore's status.
pub const VAULT_STORE_FIELDS: &[&str] = &[];
/// The optional fields of a KeyRing's status.
pub const KEY_RING_FIELDS: &[&str] = &["keys"];

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn object(generation: i64) -> SealedSecret {
        let mut object = SealedSecret::new("db", seal_crds::SealedSecretSpec::default());
        object.metadata.generation = Some(generation);
        object
    }

    fn good() -> Verdict {
        let secret = SecretStatus { name: "db".into(), uid: Some("s".into()), ..SecretStatus::default() };
        Verdict {
            reason: SealedSecretReason::Synced,
            message: "fine".into(),
            is_stalled: false,
            secret: Some(secret),
            vault: None,
        }
    }

    fn bad(is_stalled: bool) -> Verdict {
        Verdict { reason: SealedSecretReason::KeyNotFound, message: "no".into(), is_stalled, secret: None, vault: None }
    }

    fn types(status: &SealedSecretStatus) -> Vec<(&str, &str)> {
        status.conditions.iter().map(|condition| (condition.type_.as_str(), condition.status.as_str())).collect()
    }

    #[test]
    fn stalled_and_reconciling_are_never_both_there_and_neither_when_ready() {
        let mut object = object(1);
        assert_eq!(types(&next(&object, &good(), at(1))), [("Ready", "True")]);
        assert_eq!(types(&next(&object, &bad(true), at(1))), [("Ready", "False"), ("Stalled", "True")]);
        object.status = Some(next(&object, &bad(true), at(1)));
        assert_eq!(types(&next(&object, &bad(false), at(2))), [("Ready", "False"), ("Reconciling", "True")]);
        assert_eq!(types(&next(&object, &good(), at(2))), [("Ready", "True")]);
    }

    #[test]
    fn the_same_verdict_gives_the_same_status() {
        let mut object = object(1);
        object.status = Some(next(&object, &good(), at(1)));
        assert_eq!(object.status.as_ref(), Some(&next(&object, &good(), at(99))));
    }

    #[test]
    fn the_transition_time_moves_with_the_status_only() {
        let mut object = object(1);
        object.status = Some(next(&object, &bad(true), at(1)));
        let other = Verdict { message: "still no".into(), ..bad(true) };
        assert_eq!(next(&object, &other, at(2)).conditions[0].last_transition_time, Time(at(1)));
        assert_eq!(next(&object, &good(), at(2)).conditions[0].last_transition_time, Time(at(2)));
    }

    #[test]
    fn a_failure_keeps_what_is_known_of_the_secret_and_foreign_conditions() {
        let mut object = object(1);
        let mut status = next(&object, &good(), at(1));
        status.conditions.push(Condition { type_: "Theirs".into(), ..status.conditions[0].clone() });
        object.status = Some(status);
        let failed = next(&object, &bad(false), at(2));
        assert_eq!(failed.secret.as_ref().map(|secret| secret.name.as_str()), Some("db"));
        assert_eq!(types(&failed), [("Ready", "False"), ("Reconciling", "True"), ("Theirs", "True")]);
    }

    fn with_vault(generation: i64, refresh: Option<&str>) -> SealedSecret {
        let mut object = object(generation);
        object.spec.vault = serde_json::from_value(json!({"storeRef": {"name": "main"}})).unwrap();
        let refresh = refresh.map(|refresh| (seal_crds::REFRESH_ANNOTATION.to_owned(), refresh.to_owned()));
        object.metadata.annotations = refresh.map(|refresh| [refresh].into());
        object
    }

    fn fetched(mac: &str, version: i64) -> Verdict {
        let versions = [("kv/db".to_owned(), version)].into();
        Verdict { vault: Some(VaultPart::Synced { mac: mac.to_owned(), versions }), ..good() }
    }

    fn failure() -> VaultFailure {
        VaultFailure {
            reason: VaultReason::VaultSealed,
            message: "the server is sealed".into(),
            retry: crate::vault::Retry::WhenUp,
        }
    }

    fn condition<'a>(status: &'a SealedSecretStatus, type_: &str) -> Option<(&'a str, &'a str)> {
        seal_crds::condition::find(&status.conditions, type_).map(|c| (c.status.as_str(), c.reason.as_str()))
    }

    #[test]
    fn a_fetch_that_brought_nothing_new_says_nothing_new() {
        let mut object = with_vault(1, None);
        object.status = Some(next(&object, &fetched("m1", 3), at(10)));
        let told = object.status.clone().unwrap();
        assert_eq!(told.last_sync_time, Some(Time(at(10))));
        assert_eq!(condition(&told, VAULT_SYNCED), Some(("True", "Synced")));
        assert_eq!(next(&object, &fetched("m1", 3), at(20)), told);
        assert_eq!(next(&object, &fetched("m1", 4), at(20)).last_sync_time, Some(Time(at(10))), "the same content");
        assert_eq!(next(&object, &fetched("m2", 4), at(20)).last_sync_time, Some(Time(at(20))));
    }

    #[test]
    fn an_outage_leaves_ready_as_it_is_until_it_is_stale_and_the_end_of_it_is_told() {
        let mut object = with_vault(1, Some("now"));
        object.status = Some(next(&object, &fetched("m1", 3), at(10)));
        object.status = Some(next(&object, &withheld(&object, &failure(), true, false), at(20)));
        let told = object.status.clone().unwrap();
        assert_eq!(condition(&told, READY), Some(("True", "Synced")));
        assert_eq!(condition(&told, RECONCILING), None);
        assert_eq!(condition(&told, VAULT_SYNCED), Some(("False", "VaultSealed")));
        assert_eq!((told.data_mac.as_deref(), told.observed_refresh.as_deref()), (Some("m1"), Some("now")));
        assert!(told.secret.is_some() && told.last_sync_time == Some(Time(at(10))));

        object.status = Some(next(&object, &withheld(&object, &failure(), true, true), at(30)));
        assert_eq!(condition(object.status.as_ref().unwrap(), READY), Some(("False", "Stale")));
        let after_restart = next(&object, &withheld(&object, &failure(), true, false), at(40));
        assert_eq!(condition(&after_restart, READY), Some(("False", "Stale")), "only a success ends it");
        let recovered = next(&object, &fetched("m1", 3), at(50));
        assert_eq!(condition(&recovered, READY), Some(("True", "Synced")));
        assert_eq!(recovered.last_sync_time, Some(Time(at(50))));
    }

    #[test]
    fn an_outage_whose_fault_varies_is_told_once_and_again_when_somebody_asks() {
        let says = |reason, message: &str| VaultFailure { reason, message: message.into(), ..failure() };
        let mut object = with_vault(1, None);
        for is_first in [true, false] {
            if !is_first {
                object.status = Some(next(&object, &fetched("m1", 3), at(10)));
            }
            let gateway = says(VaultReason::VaultUnreachable, "kv/db: HTTP 502");
            object.status = Some(next(&object, &withheld(&object, &gateway, true, false), at(20)));
            let told = object.status.clone().unwrap();
            let timeout = says(VaultReason::VaultUnreachable, "kv/db: no answer in time");
            assert_eq!(next(&object, &withheld(&object, &timeout, true, false), at(30)), told);
            let mut asked = object.clone();
            asked.metadata.annotations = with_vault(1, Some("now")).metadata.annotations;
            let anew = next(&asked, &withheld(&asked, &timeout, true, false), at(30));
            let synced = seal_crds::condition::find(&anew.conditions, VAULT_SYNCED);
            assert_eq!(synced.map(|synced| &*synced.message), Some("kv/db: no answer in time"));
            let denied = says(VaultReason::PermissionDenied, "kv/db: HTTP 403");
            let other = next(&object, &withheld(&object, &denied, true, false), at(30));
            assert_eq!(condition(&other, VAULT_SYNCED), Some(("False", "PermissionDenied")));
        }
    }

    #[test]
    fn a_fetch_of_which_no_secret_can_be_made_is_acted_on_and_leaves_what_is_told_of_the_secret() {
        let mut object = with_vault(1, None);
        object.status = Some(next(&object, &fetched("m1", 3), at(10)));
        let annotations = [(seal_crds::REFRESH_ANNOTATION.to_owned(), "é".repeat(2000))];
        object.metadata.annotations = Some(annotations.into());
        let too_large = Verdict { reason: SealedSecretReason::TooLarge, vault: Some(VaultPart::Unused), ..bad(true) };
        let told = next(&object, &too_large, at(20));
        assert_eq!(condition(&told, READY), Some(("False", "TooLarge")));
        assert_eq!(condition(&told, VAULT_SYNCED), Some(("True", "Synced")));
        assert_eq!((told.data_mac.as_deref(), told.vault_versions["kv/db"]), (Some("m1"), 3));
        assert_eq!(told.last_sync_time, Some(Time(at(10))));
        // As much of it as the field takes; and that counts as all of it.
        assert_eq!(told.observed_refresh.as_ref().map(|refresh| refresh.chars().count()), Some(1024));
        assert_eq!(told.observed_refresh, refresh_asked(&object.metadata));
    }

    #[test]
    fn without_a_secret_that_is_right_a_failed_fetch_is_a_failure() {
        for is_right in [true, false] {
            let fresh = with_vault(1, None);
            let told = next(&fresh, &withheld(&fresh, &failure(), is_right, false), at(10));
            assert_eq!(condition(&told, READY), Some(("False", "NeverSynced")));
            assert_eq!(condition(&told, RECONCILING), Some(("True", "NeverSynced")));
        }
        let mut changed = with_vault(1, None);
        changed.status = Some(next(&changed, &fetched("m1", 3), at(10)));
        changed.metadata.generation = Some(2);
        let told = next(&changed, &withheld(&changed, &failure(), false, false), at(20));
        assert_eq!(condition(&told, READY), Some(("False", "NeverSynced")));
        assert!(told.secret.is_some(), "the old Secret stays");
    }

    #[test]
    fn an_object_without_a_vault_part_says_nothing_of_vault_and_a_version_that_is_gone_is_nulled() {
        let mut object = with_vault(1, Some("now"));
        object.status = Some(next(&object, &fetched("m1", 3), at(10)));
        let other = Verdict {
            vault: Some(VaultPart::Synced { mac: "m2".into(), versions: [("kv/other".to_owned(), 1)].into() }),
            ..good()
        };
        let patch = patch_of(&object, &next(&object, &other, at(20)));
        assert_eq!(patch["status"]["vaultVersions"], json!({"kv/db": null, "kv/other": 1}));

        object.spec.vault = None;
        let told = next(&object, &good(), at(20));
        assert_eq!(condition(&told, VAULT_SYNCED), None);
        let patch = patch_of(&object, &told);
        for field in ["dataMAC", "lastSyncTime", "observedRefresh", "vaultVersions"] {
            assert_eq!(patch["status"][field], Value::Null, "{field}");
        }
    }

    #[test]
    fn what_was_known_of_a_server_before_the_start_stays_until_more_is_known() {
        let spec =
            json!({"address": "https://vault:8200", "auth": {"token": {"secretRef": {"name": "t", "key": "k"}}}});
        let mut store = VaultStore::new("main", serde_json::from_value(spec).unwrap());
        store.metadata.generation = Some(1);
        let health = |reason| StoreHealth { reason, message: "says".into() };
        let told = next_of_store(&store, &health(VaultStoreReason::Unknown), at(10));
        assert_eq!(told.conditions.len(), 1);
        store.status = Some(next_of_store(&store, &health(VaultStoreReason::VaultSealed), at(20)));
        let types: Vec<_> = store.status.iter().flat_map(|told| &told.conditions).map(|c| c.type_.as_str()).collect();
        assert_eq!(types, [READY, RECONCILING]);
        assert_eq!(Some(next_of_store(&store, &health(VaultStoreReason::Unknown), at(30))), store.status);
        store.metadata.generation = Some(2);
        let told = next_of_store(&store, &health(VaultStoreReason::Unknown), at(30));
        assert_eq!(told.conditions[0].reason, "Unknown");
    }

    #[test]
    fn a_patch_nulls_what_is_absent_and_carries_its_precondition() {
        let metadata =
            ObjectMeta { uid: Some("u".into()), resource_version: Some("7".into()), ..ObjectMeta::default() };
        let patch = patch(&metadata, &SealedSecretStatus::default(), SEALED_SECRET_FIELDS);
        assert_eq!(patch["metadata"], json!({"uid": "u", "resourceVersion": "7"}));
        assert_eq!(
            patch["status"],
            json!({
                "dataMAC": null, "keysInUse": null, "lastSyncTime": null, "observedRefresh": null, "secret": null,
                "vaultVersions": null,
            })
        );
    }
}
