//! What people, Argo CD and Flux read: the status of a SealedSecret and of a KeyRing.
//!
//! object + [`Verdict`] + now -> status -> one merge patch, and only if it says something new.
//!
//! kstatus takes `Ready=False` alone for "in progress"; so what only a person can help also says `Stalled=True`, and
//! what we try again says `Reconciling=True`, never both (`docs/design/controller.md` 7). Messages name ids and paths.

use std::collections::BTreeSet;

use k8s_openapi::{
    apimachinery::pkg::apis::meta::v1::{Condition, ObjectMeta, Time},
    jiff::{Timestamp, Unit},
};
use ring::digest::{SHA256, digest};
use seal_crds::{
    KeyRing, KeyRingStatus, SealedSecret, SealedSecretStatus,
    condition::{
        FALSE, KeyRingReason, READY, RECONCILING, RECOVERABLE, RecoverableReason, STALLED, SealedSecretReason, TRUE,
    },
    key_ring::RingKeyStatus,
    sealed_secret::SecretStatus,
};
use seal_envelope::Token;
use serde_json::{Value, json};

use crate::{keys::OpenedRing, template::RENDERER_VERSION};

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
}

/// A hash of what the Secret depends on besides the spec. No secret is in it.
///
/// A renderer that gives other bytes than before makes every object worth another look.
pub fn inputs(_object: &SealedSecret) -> String {
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
    SealedSecretStatus {
        observed_generation: generation,
        conditions: conditions.with_foreign(&[READY, STALLED, RECONCILING]),
        keys_in_use: keys_in_use(object),
        secret: verdict.secret.clone().or(old.secret),
        ..old
    }
}

fn keys_in_use(object: &SealedSecret) -> Vec<String> {
    let tokens = object.spec.encrypted_data.values().filter_map(|token| token.parse::<Token>().ok());
    let ids: BTreeSet<_> = tokens.map(|token| token.key_id()).collect();
    ids.iter().take(64).map(ToString::to_string).collect()
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

/// The optional fields of a SealedSecret's status that we write.
pub const SEALED_SECRET_FIELDS: &[&str] = &["keysInUse", "secret"];
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
        Verdict { reason: SealedSecretReason::Synced, message: "fine".into(), is_stalled: false, secret: Some(secret) }
    }

    fn bad(is_stalled: bool) -> Verdict {
        Verdict { reason: SealedSecretReason::KeyNotFound, message: "no".into(), is_stalled, secret: None }
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

    #[test]
    fn a_patch_nulls_what_is_absent_and_carries_its_precondition() {
        let metadata =
            ObjectMeta { uid: Some("u".into()), resource_version: Some("7".into()), ..ObjectMeta::default() };
        let patch = patch(&metadata, &SealedSecretStatus::default(), SEALED_SECRET_FIELDS);
        assert_eq!(patch["metadata"], json!({"uid": "u", "resourceVersion": "7"}));
        assert_eq!(patch["status"], json!({"keysInUse": null, "secret": null}));
    }
}
