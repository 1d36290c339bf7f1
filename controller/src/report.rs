//! What is told about the loop while it works: log, metrics and Events, each without a secret.
//!
//! outcome of a look -> [`Report`] -> log line, counter, Event. It decides nothing and waits for nobody.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use k8s_openapi::{api::core::v1::ObjectReference, apimachinery::pkg::apis::meta::v1::Condition};
use kube::{Resource, ResourceExt};
use seal_crds::{
    KeyRing, SealedSecret, SealedSecretStatus, VaultStore, VaultStoreStatus,
    condition::{
        self, KeyRingReason, READY, RECOVERABLE, RecoverableReason, SealedSecretReason, TRUE, VAULT_SYNCED,
        VaultReason, VaultStoreReason,
    },
};
use tracing::{debug, error, info, warn};

use crate::{
    apply::WriteError,
    events::{EventType, Events, Reason},
    metrics::{Class, Kind, Metrics, Outcome, Write},
    queue::{Lane, Queue},
    sealed::{Next, decide::Drift},
    status::Verdict,
    store::Key,
};

/// Where the loop reports to.
#[derive(Clone)]
pub struct Report {
    /// Counters and gauges.
    pub metrics: Arc<Metrics>,
    /// For `kubectl describe`.
    pub events: Events,
}

impl Report {
    /// `Ready` of an object changed its status or its reason.
    pub fn transition(&self, object: &SealedSecret, verdict: &Verdict) {
        let key = key(object);
        let is_ready = verdict.secret.is_some();
        if is_ready {
            info!(object = %key, reason = verdict.reason.as_str(), "{}", verdict.message);
        } else {
            warn!(object = %key, reason = verdict.reason.as_str(), "{}", verdict.message);
        }
        self.events.publish(object.object_ref(&()), EventType::of(is_ready), verdict.reason, verdict.message.as_str());
    }

    /// The status of an object was written: tells of its fetches, if they fail now, or no longer.
    pub fn vault_transition(&self, object: &SealedSecret, now: &SealedSecretStatus) {
        let before = object.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
        let Some(synced) = condition::find(&now.conditions, VAULT_SYNCED) else { return };
        let is_news = match condition::find(before, VAULT_SYNCED) {
            Some(old) => (&old.status, &old.reason) != (&synced.status, &synced.reason),
            // That the first one succeeded is what the Secret itself says.
            None => synced.status != TRUE,
        };
        let Ok(reason) = synced.reason.parse::<VaultReason>() else { return };
        if is_news {
            info!(object = %key(object), reason = reason.as_str(), "Vault: {}", synced.message);
            let type_ = EventType::of(synced.status == TRUE);
            self.events.publish(object.object_ref(&()), type_, reason, synced.message.as_str());
        }
    }

    /// The status of a VaultStore was written.
    pub fn store(&self, object: &VaultStore, now: &VaultStoreStatus) {
        let before = object.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
        let Some(ready) = condition::find(&now.conditions, READY) else { return };
        let is_news = condition::find(before, READY)
            .is_none_or(|old| (&old.status, &old.reason) != (&ready.status, &ready.reason));
        // That nothing was asked yet is no news.
        if let (true, Ok(reason)) = (is_news && ready.reason != "Unknown", ready.reason.parse::<VaultStoreReason>()) {
            let type_ = EventType::of(ready.status == TRUE);
            self.events.publish(object.object_ref(&()), type_, reason, ready.message.as_str());
        }
    }

    /// A Secret that somebody changed was repaired.
    pub fn drift(&self, object: &SealedSecret, drift: Drift, manager: &str) {
        self.metrics.drifted(drift);
        info!(object = %key(object), drift = drift.as_str(), manager, "the Secret was changed by somebody and is repaired");
        let note = format!("the Secret was changed ({}) by {manager}, and is put right", drift.as_str());
        self.events.publish(object.object_ref(&()), EventType::Warning, Reason::DriftRepaired, note);
    }

    /// The status of a KeyRing was written; `now` are its conditions.
    pub fn ring(&self, object: &KeyRing, now: &[Condition]) {
        let before = object.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
        for type_ in [READY, RECOVERABLE] {
            let Some(condition) = condition::find(now, type_) else { continue };
            let is_news = condition::find(before, type_)
                .is_none_or(|old| (&old.status, &old.reason) != (&condition.status, &condition.reason));
            let ready = condition.reason.parse::<KeyRingReason>().map(Reason::from);
            let recoverable = condition.reason.parse::<RecoverableReason>().map(Reason::from);
            if let (true, Ok(reason)) = (is_news, ready.or(recoverable)) {
                let type_ = EventType::of(condition.status == TRUE);
                self.events.publish(object.object_ref(&()), type_, reason, condition.message.as_str());
            }
        }
    }

    /// A CRD is older than this controller, which therefore writes nothing.
    pub fn outdated(&self, crd: ObjectReference, why: &str) {
        let note = format!("{why}, and therefore writes nothing; apply the CRDs of its version");
        self.events.publish(crd, EventType::Warning, SealedSecretReason::SchemaOutdated, note);
    }

    /// A look at an object ended with this reason.
    pub fn outcome(&self, key: &Key, reason: SealedSecretReason) {
        debug!(object = %key, reason = reason.as_str(), "looked at");
    }

    /// A look at an object ended without anything that its status could say.
    pub fn unanswered(&self, key: &Key, error: &WriteError) {
        let cause = match error {
            WriteError::Refused(cause) | WriteError::Unavailable(cause) => cause.to_string(),
            _ => String::new(),
        };
        if let WriteError::Refused(cause) | WriteError::Unavailable(cause) = error {
            self.metrics.api_failed(cause);
        }
        warn!(object = %key, cause, "{error}");
    }
}

impl Report {
    /// How the queue is.
    pub fn queue(&self, queue: &Queue<Key>) {
        let now = Instant::now();
        for lane in Lane::ALL {
            self.metrics.queued(lane, queue.backlog(lane, now));
        }
    }

    /// A look ended.
    pub fn look(&self, key: &Key, next: Next, wrote: bool, took: Duration) {
        let (outcome, class) = match next {
            Next::Settled | Next::Nothing | Next::Fetching if wrote => (Outcome::Changed, Class::None),
            Next::Settled | Next::Nothing | Next::Fetching => (Outcome::Unchanged, Class::None),
            Next::Stalled(_) => (Outcome::Failed, Class::User),
            Next::Retry(_) | Next::Later => (Outcome::Failed, Class::Transient),
            Next::Fault => (Outcome::Failed, Class::Bug),
        };
        self.metrics.reconciled(Kind::SealedSecret, outcome, class, took);
        if next == Next::Fault {
            // Where, the panic itself has logged.
            error!(object = %key, "a fault of the controller; the object is tried again");
        }
    }

    /// A Secret was written.
    pub fn wrote(&self, write: Write) {
        self.metrics.wrote(write);
    }
}

fn key(object: &SealedSecret) -> Key {
    Key::new(object.meta().namespace.as_deref().unwrap_or_default(), &object.name_any())
}
