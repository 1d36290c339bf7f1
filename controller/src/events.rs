//! Owns the Events that people see in `kubectl describe`: bounded, best effort, and never in a reconcile's way.
//!
//! Callers publish transitions only, so nothing is folded here. An Event that finds no place is counted and forgotten:
//! the condition beside it says the same for as long as it holds.
//!
//! ```text
//! a transition -> publish: token bucket per reason, bounded channel -> one task -> POST events.k8s.io/v1
//! ```

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use k8s_openapi::{
    api::{core::v1::ObjectReference, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{Api, Client, api::PostParams};
use seal_crds::condition::{KeyRingReason, RecoverableReason, SealedSecretReason, VaultReason, VaultStoreReason};
use tokio::sync::mpsc;
use tracing::{debug, trace};

use crate::{
    error::{self, ApiError},
    metrics::{Dropped, Metrics},
    rate::TokenBucket,
};

/// Who reports, in every Event.
pub const REPORTING_CONTROLLER: &str = "sealwright.dev/seal-controller";

/// What every Event of ours is about.
const ACTION: &str = "Reconcile";
/// The most that one request may take; an Event is not worth more.
const DEADLINE: Duration = Duration::from_secs(5);
/// Events that wait for the API server.
const WAITING: usize = 512;
/// Events of one reason that may come at once, and per second after that.
const BURST: u32 = 100;
const RATE: f64 = 2.0;
/// What the API server takes, in bytes.
const MAX_NOTE: usize = 1024;
const MAX_INSTANCE: usize = 128;
/// What is kept of an object's name in that of its Event, which has a suffix and 253 bytes.
const MAX_NAME: usize = 220;

/// Whether an Event is good or bad news.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventType {
    /// As it should be.
    Normal,
    /// Somebody may have to do something.
    Warning,
}

impl EventType {
    /// The news that a condition is true, or that it is not.
    pub const fn of(is_true: bool) -> Self {
        if is_true { Self::Normal } else { Self::Warning }
    }

    /// The word in the Event.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Normal => "Normal",
            Self::Warning => "Warning",
        }
    }
}

/// The reason of an Event: that of the condition which changed, or what was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// `Ready` of a SealedSecret changed.
    SealedSecret(SealedSecretReason),
    /// `VaultSynced` of a SealedSecret changed.
    Vault(VaultReason),
    /// `Ready` of a KeyRing changed.
    KeyRing(KeyRingReason),
    /// `Recoverable` of a KeyRing changed.
    Recoverable(RecoverableReason),
    /// `Ready` of a VaultStore changed.
    VaultStore(VaultStoreReason),
    /// A Secret that somebody changed was put right.
    DriftRepaired,
}

impl Reason {
    /// The word in the Event.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SealedSecret(reason) => reason.as_str(),
            Self::Vault(reason) => reason.as_str(),
            Self::KeyRing(reason) => reason.as_str(),
            Self::Recoverable(reason) => reason.as_str(),
            Self::VaultStore(reason) => reason.as_str(),
            Self::DriftRepaired => "DriftRepaired",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

macro_rules! from_condition {
    ($($variant:ident($reason:ident)),+) => {
        $(impl From<$reason> for Reason {
            fn from(reason: $reason) -> Self {
                Self::$variant(reason)
            }
        })+
    };
}

from_condition! {
    SealedSecret(SealedSecretReason), Vault(VaultReason), KeyRing(KeyRingReason), Recoverable(RecoverableReason),
    VaultStore(VaultStoreReason)
}

/// Where Events are left. Clones share one channel; the publisher ends when the last of them is dropped.
#[derive(Clone)]
pub struct Events {
    sender: mpsc::Sender<Waiting>,
    buckets: Arc<Mutex<HashMap<Reason, TokenBucket>>>,
    metrics: Arc<Metrics>,
}

/// Takes them to the API server.
pub struct Publisher {
    client: Client,
    instance: String,
    receiver: mpsc::Receiver<Waiting>,
    metrics: Arc<Metrics>,
}

struct Waiting {
    about: ObjectReference,
    type_: EventType,
    reason: Reason,
    note: String,
    time: Timestamp,
}

/// The two ends. `instance` is the name of this replica.
pub fn channel(client: Client, instance: &str, metrics: Arc<Metrics>) -> (Events, Publisher) {
    let (sender, receiver) = mpsc::channel(WAITING);
    let instance = shortened(instance, MAX_INSTANCE).to_owned();
    let events = Events { sender, buckets: Arc::default(), metrics: metrics.clone() };
    (events, Publisher { client, instance, receiver, metrics })
}

impl Events {
    /// Leaves an Event about an object, or counts it as dropped. Never waits.
    ///
    /// `note` is read by everybody who may read Events: ids and paths, never values. It is cut at 1 KiB.
    pub fn publish(
        &self,
        about: ObjectReference,
        type_: EventType,
        reason: impl Into<Reason>,
        note: impl Into<String>,
    ) {
        let reason = reason.into();
        if !self.is_allowed(reason) {
            return self.metrics.event_dropped(Dropped::Limited);
        }
        let event = Waiting { about, type_, reason, note: note.into(), time: Timestamp::now() };
        if self.sender.try_send(event).is_err() {
            self.metrics.event_dropped(Dropped::Full);
        }
    }

    /// Many objects may change for one reason at once; nobody reads an Event of each.
    fn is_allowed(&self, reason: Reason) -> bool {
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        buckets.entry(reason).or_insert_with(|| TokenBucket::new(BURST, RATE)).take(Instant::now())
    }
}

impl Publisher {
    /// Publishes until the last [`Events`] is dropped and none waits any more.
    pub async fn run(mut self) {
        while let Some(event) = self.receiver.recv().await {
            self.post(event).await;
        }
    }

    async fn post(&self, event: Waiting) {
        let reason = event.reason;
        let event = manifest(event, &self.instance);
        let namespace = event.metadata.namespace.as_deref().unwrap_or_default();
        let events: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        let Err(error) = error::within(DEADLINE, events.create(&PostParams::default(), &event)).await else {
            trace!(%reason, event = event.metadata.name, "published an Event");
            return self.metrics.event_published();
        };
        self.metrics.api_failed(&error);
        match error {
            // The namespace is being deleted, or somebody took the right away on purpose.
            ApiError::Status { code: 403 | 404, .. } => self.metrics.event_dropped(Dropped::Refused),
            error => {
                self.metrics.event_dropped(Dropped::Failed);
                debug!(%reason, cause = %error, "an Event was not published");
            }
        }
    }
}

fn manifest(event: Waiting, instance: &str) -> Event {
    let Waiting { about, type_, reason, note, time } = event;
    let name = shortened(about.name.as_deref().unwrap_or_default(), MAX_NAME).trim_end_matches(['.', '-']);
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{name}.{:x}", time.as_nanosecond())),
            // Events about what has no namespace live in `default`.
            namespace: Some(about.namespace.clone().unwrap_or_else(|| "default".to_owned())),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(time)),
        action: Some(ACTION.to_owned()),
        reason: Some(reason.as_str().to_owned()),
        type_: Some(type_.as_str().to_owned()),
        note: Some(shortened(&note, MAX_NOTE).to_owned()),
        regarding: Some(about),
        reporting_controller: Some(REPORTING_CONTROLLER.to_owned()),
        reporting_instance: Some(instance.to_owned()),
        ..Event::default()
    }
}

/// As much of `text` as fits into `bytes`.
fn shortened(text: &str, bytes: usize) -> &str {
    let end = (0..=bytes.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    &text[..end.unwrap_or_default()]
}

#[cfg(test)]
mod tests {
    use axum::{Router, body::Bytes, extract::State, http::StatusCode, routing::post};
    use kube::Config;
    use serde_json::{Value, json};
    use tokio::net::TcpListener;

    use super::*;

    /// A server that takes Events as the API server does, or refuses them; and a client of it.
    async fn server(code: StatusCode) -> (Client, mpsc::UnboundedReceiver<Value>) {
        let (sender, received) = mpsc::unbounded_channel();
        let take = move |State(sender): State<mpsc::UnboundedSender<Value>>, body: Bytes| async move {
            let event: Value = serde_json::from_slice(&body).unwrap();
            sender.send(event.clone()).unwrap();
            let status = json!({"kind": "Status", "status": "Failure", "reason": "Forbidden", "code": code.as_u16()});
            (code, (if code.is_success() { event } else { status }).to_string())
        };
        let router =
            Router::new().route("/apis/events.k8s.io/v1/namespaces/{ns}/events", post(take)).with_state(sender);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        let mut config = Config::new(url.parse().unwrap());
        config.default_retry = false;
        (Client::try_from(config).unwrap(), received)
    }

    fn about(name: &str) -> ObjectReference {
        ObjectReference {
            api_version: Some("sealwright.dev/v1alpha1".into()),
            kind: Some("SealedSecret".into()),
            name: Some(name.into()),
            namespace: Some("shop".into()),
            ..ObjectReference::default()
        }
    }

    fn counted(metrics: &Metrics, sample: &str) -> bool {
        metrics.encode().unwrap().lines().any(|line| line == sample)
    }

    #[tokio::test]
    async fn an_event_says_who_what_and_why() {
        let (client, mut received) = server(StatusCode::CREATED).await;
        let metrics = Arc::new(Metrics::new());
        let (events, publisher) = channel(client, "pod-1", metrics.clone());
        events.publish(about("db"), EventType::Warning, SealedSecretReason::KeyNotFound, "sealed to key 5f3a");
        drop(events);
        publisher.run().await;

        let event = received.recv().await.unwrap();
        assert_eq!(event["regarding"]["name"], "db");
        assert_eq!(event["metadata"]["namespace"], "shop");
        assert_eq!((&event["type"], &event["reason"]), (&"Warning".into(), &"KeyNotFound".into()));
        assert_eq!(event["note"], "sealed to key 5f3a");
        assert_eq!(event["reportingController"], REPORTING_CONTROLLER);
        assert_eq!(event["reportingInstance"], "pod-1");
        assert!(event["eventTime"].is_string() && event["action"].is_string());
        assert!(counted(&metrics, "sealwright_events_published_total 1"));
    }

    #[tokio::test]
    async fn a_refused_event_is_forgotten_and_the_next_one_is_tried() {
        let (client, mut received) = server(StatusCode::FORBIDDEN).await;
        let metrics = Arc::new(Metrics::new());
        let (events, publisher) = channel(client, "pod-1", metrics.clone());
        events.publish(about("a"), EventType::Normal, SealedSecretReason::Synced, "");
        events.publish(about("b"), EventType::Normal, SealedSecretReason::Synced, "");
        drop(events);
        publisher.run().await;

        assert_eq!(received.recv().await.unwrap()["regarding"]["name"], "a");
        assert_eq!(received.recv().await.unwrap()["regarding"]["name"], "b");
        assert!(counted(&metrics, "sealwright_events_dropped_total{cause=\"refused\"} 2"));
    }

    #[tokio::test]
    async fn a_flood_of_one_reason_leaves_room_for_the_others() {
        let (client, _received) = server(StatusCode::CREATED).await;
        let metrics = Arc::new(Metrics::new());
        let (events, mut publisher) = channel(client, "pod-1", metrics.clone());
        for _ in 0..2 * WAITING {
            events.publish(about("db"), EventType::Normal, SealedSecretReason::Synced, "");
        }
        events.publish(about("db"), EventType::Warning, Reason::DriftRepaired, "");
        let mut waiting = 0;
        while let Ok(event) = publisher.receiver.try_recv() {
            waiting += 1;
            if event.reason == Reason::DriftRepaired {
                break;
            }
        }
        assert!(waiting > usize::try_from(BURST).unwrap() && waiting < WAITING, "{waiting}");
        assert!(publisher.receiver.try_recv().is_err());
    }

    #[tokio::test]
    async fn a_full_channel_drops_and_counts() {
        let (client, _received) = server(StatusCode::CREATED).await;
        let metrics = Arc::new(Metrics::new());
        let (events, publisher) = channel(client, "pod-1", metrics.clone());
        for reason in SealedSecretReason::ALL {
            for _ in 0..BURST {
                events.publish(about("db"), EventType::Normal, *reason, "");
            }
        }
        assert_eq!(publisher.receiver.len(), WAITING);
        let dropped = SealedSecretReason::ALL.len() * usize::try_from(BURST).unwrap() - WAITING;
        assert!(counted(&metrics, &format!("sealwright_events_dropped_total{{cause=\"full\"}} {dropped}")));
    }

    #[test]
    fn what_is_too_long_is_cut_where_a_character_ends() {
        let waiting = Waiting {
            about: about(&format!("{}.{}", "a".repeat(MAX_NAME - 1), "b".repeat(30))),
            type_: EventType::Normal,
            reason: Reason::DriftRepaired,
            note: "é".repeat(MAX_NOTE),
            time: Timestamp::UNIX_EPOCH,
        };
        let event = manifest(waiting, "pod-1");
        assert_eq!(event.note.unwrap(), "é".repeat(MAX_NOTE / 2));
        assert_eq!(event.metadata.name.unwrap(), format!("{}.0", "a".repeat(MAX_NAME - 1)));
    }
}
