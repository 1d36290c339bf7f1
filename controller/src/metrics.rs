//! Owns what Prometheus sees of the controller.
//!
//! Labels come from enums and from what an operator named: the rings of the controller's own namespace with their key
//! ids, and the VaultStores in use. So their number is bounded, and neither the name of what they make nor a value can
//! become one.
//!
//! ```text
//! reconcile, queue, keys, lease, http -> Metrics (typed methods) -> encode -> GET /metrics
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{self, Write as _},
    sync::{Mutex, MutexGuard, OnceLock, PoisonError, atomic::AtomicU64},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder, text},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
        info::Info,
    },
    registry::{Registry, Unit},
};
use seal_crds::condition::{self, KeyRingReason, RecoverableReason, SealedSecretReason};
use seal_envelope::KeyId;

use crate::{
    error,
    keys::{OpenedRing, index::Finding},
    queue::Lane,
    sealed::decide::Drift,
    vault::meter::Meter,
};

/// The `Content-Type` of what [`Metrics::encode`] gives.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Declares an enum that is the set of values of a label.
macro_rules! label {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// Every value of the label.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The label's value.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }
        }

        impl EncodeLabelValue for $name {
            fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
                encoder.write_str(self.as_str())
            }
        }
    };
}

label! {
    /// What is reconciled.
    Kind {
        /// A SealedSecret.
        SealedSecret = "SealedSecret",
    }
}

label! {
    /// How a reconcile ended.
    Outcome {
        /// Nothing had to be written.
        Unchanged = "unchanged",
        /// A Secret or a status was written.
        Changed = "changed",
        /// It did not succeed.
        Failed = "failed",
    }
}

label! {
    /// Whose turn it is after a reconcile.
    Class {
        /// Nobody's: it succeeded.
        None = "none",
        /// Ours: it is tried again.
        Transient = "transient",
        /// A person's: nothing changes until the object, or what it depends on, does.
        User = "user",
        /// Our developers'.
        Bug = "bug",
    }
}

label! {
    /// What was done to a Secret.
    Write {
        /// Made.
        Create = "create",
        /// Given other data or metadata.
        Update = "update",
        /// Taken over from somebody who consented.
        Adopt = "adopt",
        /// Deleted and made anew, as its type had to change.
        Replace = "replace",
        /// Left in place, no longer ours.
        Release = "release",
        /// Deleted.
        Delete = "delete",
    }
}

label! {
    /// How a request to the API server failed.
    ApiFailure {
        /// The object is not what the precondition says.
        Conflict = "conflict",
        /// It is not there.
        NotFound = "not_found",
        /// No right, or admission refused.
        Forbidden = "forbidden",
        /// Validation refused.
        Invalid = "invalid",
        /// The server asked us to slow down.
        Throttled = "throttled",
        /// Another refusal.
        Refused = "refused",
        /// The server's own fault.
        Server = "server",
        /// No answer in time.
        Deadline = "deadline",
        /// No connection, or none that lasted.
        Connection = "connection",
        /// The request or the answer made no sense.
        Malformed = "malformed",
    }
}

label! {
    /// Why an Event was not published.
    Dropped {
        /// Too many were waiting.
        Full = "full",
        /// Too many of this reason had been published lately.
        Limited = "limited",
        /// There is no right to, or the namespace is being deleted.
        Refused = "refused",
        /// The API server did not take it, or not in time.
        Failed = "failed",
    }
}

label! {
    /// What was asked for over HTTP.
    Endpoint {
        /// `/healthz`
        Healthz = "/healthz",
        /// `/readyz`
        Readyz = "/readyz",
        /// `/metrics`
        Metrics = "/metrics",
        /// `/v1/recipient`
        Recipient = "/v1/recipient",
        /// `/v1/verify`
        Verify = "/v1/verify",
        /// Anything else.
        Other = "other",
    }
}

label! {
    /// What is counted of a ring's keys.
    KeyState {
        /// In the ring.
        Listed = "listed",
        /// Opened by this cluster.
        Opened = "opened",
        /// Covered by a proof.
        Proven = "proven",
        /// Switched off by the ring.
        Disabled = "disabled",
        /// In another ring as well.
        InTwoRings = "in_two_rings",
    }
}

impl EncodeLabelValue for Lane {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        encoder.write_str(match self {
            Self::Fresh => "fresh",
            Self::Drift => "drift",
            Self::Retry => "retry",
            Self::Periodic => "periodic",
        })
    }
}

impl From<&error::ApiError> for ApiFailure {
    fn from(error: &error::ApiError) -> Self {
        use error::ApiError;
        match error {
            ApiError::Status { code: 409, .. } => Self::Conflict,
            ApiError::Status { code: 404 | 410, .. } => Self::NotFound,
            ApiError::Status { code: 401 | 403, .. } => Self::Forbidden,
            ApiError::Status { code: 422, .. } => Self::Invalid,
            ApiError::Status { code: 429, .. } => Self::Throttled,
            ApiError::Status { code: 408 | 504, .. } | ApiError::Deadline(_) => Self::Deadline,
            ApiError::Status { code: 500.., .. } => Self::Server,
            ApiError::Status { .. } => Self::Refused,
            ApiError::Connection => Self::Connection,
            ApiError::Malformed => Self::Malformed,
        }
    }
}

/// Whether an object is ready, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ready {
    /// It has not been looked at yet.
    Unknown,
    /// It is ready.
    Yes(SealedSecretReason),
    /// It is not.
    No(SealedSecretReason),
}

impl Ready {
    fn labels(self) -> State {
        match self {
            Self::Unknown => State { ready: condition::UNKNOWN, reason: "" },
            Self::Yes(reason) => State { ready: condition::TRUE, reason: reason.as_str() },
            Self::No(reason) => State { ready: condition::FALSE, reason: reason.as_str() },
        }
    }
}

/// The set of a single label.
type By<T> = [(&'static str, T); 1];

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reconcile {
    kind: Kind,
    result: Outcome,
    class: Class,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
struct State {
    ready: &'static str,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RingState {
    ring: String,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RingKeys {
    ring: String,
    state: KeyState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    endpoint: Endpoint,
    code: u16,
}

type Refresh = Box<dyn Fn(&Metrics) + Send + Sync>;

/// Everything that is counted. Updates are cheap and may come from anywhere.
pub struct Metrics {
    registry: Registry,
    counts: Counts,
    vault: Meter,
    refresh: OnceLock<Refresh>,
    /// Locked while something is replaced as a whole, so that no scrape sees half of it.
    whole: Mutex<Whole>,
}

#[derive(Default)]
struct Whole {
    /// Since when the oldest object of each lane has waited. Its age is worked out when somebody looks, so that it
    /// grows even where the loop is stuck.
    waiting: [Option<Instant>; Lane::ALL.len()],
    /// The keys that may become labels.
    keys: BTreeSet<KeyId>,
}

/// The metrics themselves: handles to what the registry holds.
#[derive(Clone)]
struct Counts {
    reconciles: Family<Reconcile, Counter>,
    durations: Family<By<Kind>, Histogram, fn() -> Histogram>,
    depths: Family<By<Lane>, Gauge>,
    ages: Family<By<Lane>, Gauge<f64, AtomicU64>>,
    drift: Family<By<&'static str>, Counter>,
    writes: Family<By<Write>, Counter>,
    objects: Family<State, Gauge>,
    rings: Family<RingState, Gauge>,
    recoverable: Family<By<String>, Gauge>,
    ring_keys: Family<RingKeys, Gauge>,
    key_objects: Family<By<String>, Gauge>,
    identities: Gauge,
    start_time: Gauge<f64, AtomicU64>,
    leader: Gauge,
    crds_right: Gauge,
    events: Counter,
    events_dropped: Family<By<Dropped>, Counter>,
    api_errors: Family<By<ApiFailure>, Counter>,
    requests: Family<Request, Counter>,
}

impl Default for Counts {
    fn default() -> Self {
        Self {
            reconciles: Family::default(),
            // 1 ms to 16 s: from an untouched object to a deadline of the API server.
            durations: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.001, 2.0, 15))),
            depths: Family::default(),
            ages: Family::default(),
            drift: Family::default(),
            writes: Family::default(),
            objects: Family::default(),
            rings: Family::default(),
            recoverable: Family::default(),
            ring_keys: Family::default(),
            key_objects: Family::default(),
            identities: Gauge::default(),
            start_time: Gauge::default(),
            leader: Gauge::default(),
            crds_right: Gauge::default(),
            events: Counter::default(),
            events_dropped: Family::default(),
            api_errors: Family::default(),
            requests: Family::default(),
        }
    }
}

impl Counts {
    /// Every metric under its name and with its help; the reference repeats this table.
    fn register(&self, registry: &mut Registry) {
        let counts = self.clone();
        registry.register("build", "What is running", Info::new([("version", env!("CARGO_PKG_VERSION"))]));
        registry.register_with_unit("start_time", "When it was started, since 1970", Unit::Seconds, counts.start_time);
        registry.register("reconciles", "Reconciles, by how they ended and whose turn it is then", counts.reconciles);
        registry.register_with_unit("reconcile_duration", "How long a reconcile took", Unit::Seconds, counts.durations);
        registry.register("queue_depth", "Objects that wait for their turn", counts.depths);
        registry.register_with_unit(
            "queue_oldest_age",
            "How long the object that has waited longest has waited",
            Unit::Seconds,
            counts.ages,
        );
        registry.register("drift", "Secrets found changed behind our back, by how", counts.drift);
        registry.register("secret_writes", "Secrets written, by what was done", counts.writes);
        registry.register("sealedsecrets", "SealedSecrets, by their condition Ready", counts.objects);
        registry.register("keyring_ready", "Whether each KeyRing is ready, and why", counts.rings);
        registry.register(
            "keyring_recoverable",
            "Whether somebody besides this cluster can open the KeyRing: 0 means that losing the cluster loses every value",
            counts.recoverable,
        );
        registry.register("keyring_keys", "Keys of each KeyRing, by state; a key may be in several", counts.ring_keys);
        registry.register("key_objects", "SealedSecrets that are sealed to a key", counts.key_objects);
        registry.register("identities", "Identities that this controller holds", counts.identities);
        registry.register("leader", "Whether this replica writes", counts.leader);
        registry.register(
            "crds_right",
            "Whether the CRDs are as new as this controller: under older ones nothing is written",
            counts.crds_right,
        );
        registry.register("events_published", "Events that the API server took", counts.events);
        registry.register("events_dropped", "Events that were not published, by why", counts.events_dropped);
        registry.register("api_errors", "Requests to the API server that failed, by how", counts.api_errors);
        registry.register("http_requests", "HTTP requests answered", counts.requests);
    }

    /// Whoever alerts on an increase needs the zero before it, and on restarts the time of the start.
    fn begin(&self) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        self.start_time.set(now.unwrap_or_default().as_secs_f64());
        let bug = Reconcile { kind: Kind::SealedSecret, result: Outcome::Failed, class: Class::Bug };
        drop(self.reconciles.get_or_create(&bug));
        for write in Write::ALL {
            drop(self.writes.get_or_create(&[("operation", *write)]));
        }
        for cause in Dropped::ALL {
            drop(self.events_dropped.get_or_create(&[("cause", *cause)]));
        }
        for class in ApiFailure::ALL {
            drop(self.api_errors.get_or_create(&[("class", *class)]));
        }
        for how in [Drift::Deleted, Drift::Edited, Drift::Extra, Drift::Metadata] {
            drop(self.drift.get_or_create(&[("how", how.as_str())]));
        }
        for lane in Lane::ALL {
            drop(self.depths.get_or_create(&[("lane", lane)]));
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All metrics, at zero.
    pub fn new() -> Self {
        let counts = Counts::default();
        let mut registry = Registry::with_prefix("sealwright");
        counts.register(&mut registry);
        counts.begin();
        let vault = Meter::default();
        vault.register(&mut registry);
        Self { registry, counts, vault, refresh: OnceLock::new(), whole: Mutex::default() }
    }

    /// Has `refresh` called before each scrape, for what is looked up rather than counted. Only the first call counts.
    pub fn refresh_with(&self, refresh: impl Fn(&Self) + Send + Sync + 'static) {
        // A second one would be a mistake of ours that costs a number, not a process.
        self.refresh.set(Box::new(refresh)).ok();
    }

    /// What is counted of the requests to Vault.
    pub fn vault(&self) -> &Meter {
        &self.vault
    }

    /// A reconcile ended.
    pub fn reconciled(&self, kind: Kind, result: Outcome, class: Class, took: Duration) {
        self.counts.reconciles.get_or_create(&Reconcile { kind, result, class }).inc();
        self.counts.durations.get_or_create(&[("kind", kind)]).observe(took.as_secs_f64());
    }

    /// So many objects of a lane wait, the oldest of them for `waited`.
    pub fn queued(&self, lane: Lane, (depth, waited): (usize, Duration)) {
        let mut whole = self.whole();
        self.counts.depths.get_or_create(&[("lane", lane)]).set(number(depth));
        whole.waiting[lane as usize] = Instant::now().checked_sub(waited).filter(|_| depth > 0);
    }

    /// A Secret was not as we left it.
    pub fn drifted(&self, how: Drift) {
        self.counts.drift.get_or_create(&[("how", how.as_str())]).inc();
    }

    /// A Secret was written.
    pub fn wrote(&self, operation: Write) {
        self.counts.writes.get_or_create(&[("operation", operation)]).inc();
    }

    /// How all SealedSecrets are, one item each.
    pub fn objects(&self, objects: impl IntoIterator<Item = Ready>) {
        let mut numbers = BTreeMap::<Ready, usize>::new();
        for ready in objects {
            *numbers.entry(ready).or_default() += 1;
        }
        let _whole = self.whole();
        self.counts.objects.clear();
        for (ready, objects) in numbers {
            self.counts.objects.get_or_create(&ready.labels()).set(number(objects));
        }
    }

    /// All rings of the controller's namespace, and what is wrong between them.
    pub fn rings(&self, rings: &[OpenedRing], findings: &[Finding]) {
        let mut holders = BTreeMap::<KeyId, usize>::new();
        for key in rings.iter().flat_map(|ring| &ring.keys) {
            *holders.entry(key.id).or_default() += 1;
        }
        let mut whole = self.whole();
        self.counts.rings.clear();
        self.counts.recoverable.clear();
        self.counts.ring_keys.clear();
        for ring in rings {
            let finding = findings.iter().find(|finding| finding.ring == ring.name);
            self.ring(ring, finding.map_or(ring.reason, |finding| finding.reason), &holders);
        }
        whole.keys = holders.into_keys().collect();
    }

    fn ring(&self, ring: &OpenedRing, reason: KeyRingReason, holders: &BTreeMap<KeyId, usize>) {
        let name = || ring.name.clone();
        // What is in two rings opens all the same; see the condition.
        let ready = i64::from(matches!(reason, KeyRingReason::Opened | KeyRingReason::KeyInTwoRings));
        self.counts.rings.get_or_create(&RingState { ring: name(), reason: reason.as_str() }).set(ready);
        let recoverable = i64::from(ring.recoverable == RecoverableReason::OtherMembers);
        self.counts.recoverable.get_or_create(&[("ring", name())]).set(recoverable);
        for state in KeyState::ALL {
            let keys = ring.keys.iter().filter(|key| match state {
                KeyState::Listed => true,
                KeyState::Opened => key.opened.is_some(),
                KeyState::Proven => key.is_proven,
                KeyState::Disabled => key.is_disabled,
                KeyState::InTwoRings => holders.get(&key.id).is_some_and(|rings| *rings > 1),
            });
            self.counts.ring_keys.get_or_create(&RingKeys { ring: name(), state: *state }).set(number(keys.count()));
        }
    }

    /// How many SealedSecrets are sealed to each key. Keys that no ring holds are counted together: whoever writes
    /// SealedSecrets could name any number of them.
    pub fn key_objects(&self, objects: impl IntoIterator<Item = (KeyId, usize)>) {
        let whole = self.whole();
        let mut numbers: BTreeMap<Option<KeyId>, usize> = whole.keys.iter().map(|key| (Some(*key), 0)).collect();
        for (key, objects) in objects {
            *numbers.entry(whole.keys.get(&key).copied()).or_default() += objects;
        }
        self.counts.key_objects.clear();
        for (key, objects) in numbers {
            let key = key.map_or_else(|| "unknown".to_owned(), |key| key.to_string());
            self.counts.key_objects.get_or_create(&[("key", key)]).set(number(objects));
        }
    }

    /// So many identities are held.
    pub fn identities(&self, held: usize) {
        self.counts.identities.set(number(held));
    }

    /// Whether this replica leads.
    pub fn leading(&self, leads: bool) {
        self.counts.leader.set(i64::from(leads));
    }

    /// Whether the CRDs are as new as this controller.
    pub fn crds_right(&self, are_right: bool) {
        self.counts.crds_right.set(are_right.into());
    }

    /// The API server took an Event.
    pub fn event_published(&self) {
        self.counts.events.inc();
    }

    /// An Event was not published.
    pub fn event_dropped(&self, cause: Dropped) {
        self.counts.events_dropped.get_or_create(&[("cause", cause)]).inc();
    }

    /// A request to the API server failed.
    pub fn api_failed(&self, how: impl Into<ApiFailure>) {
        self.counts.api_errors.get_or_create(&[("class", how.into())]).inc();
    }

    /// An HTTP request was answered.
    pub fn answered(&self, endpoint: Endpoint, code: u16) {
        self.counts.requests.get_or_create(&Request { endpoint, code }).inc();
    }

    /// Everything, in OpenMetrics' text form.
    ///
    /// # Errors
    ///
    /// Only where a metric encodes itself wrongly.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        if let Some(refresh) = self.refresh.get() {
            refresh(self);
        }
        let whole = self.whole();
        for lane in Lane::ALL {
            let age = whole.waiting[lane as usize].map_or(0.0, |since| since.elapsed().as_secs_f64());
            self.counts.ages.get_or_create(&[("lane", lane)]).set(age);
        }
        let mut text = String::with_capacity(16 * 1024);
        text::encode(&mut text, &self.registry)?;
        Ok(text)
    }

    fn whole(&self) -> MutexGuard<'_, Whole> {
        self.whole.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn number(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use seal_envelope::RingKey;

    use super::*;
    use crate::keys::rings::OpenedKey;

    fn key(opened: bool) -> OpenedKey {
        let key = RingKey::generate().unwrap();
        let id = key.recipient().key_id();
        OpenedKey { id, opened: opened.then(|| (key, "prod".to_owned())), is_proven: opened, is_disabled: false }
    }

    fn ring(name: &str, keys: Vec<OpenedKey>) -> OpenedRing {
        let reason = KeyRingReason::Opened;
        let recoverable = RecoverableReason::OnlyThisCluster;
        OpenedRing { name: name.to_owned(), keys, members: vec![], reason, message: String::new(), recoverable }
    }

    /// The sample of this name and these labels, as it stands in the text.
    fn sample(metrics: &Metrics, name: &str) -> Option<f64> {
        let text = metrics.encode().unwrap();
        let line = text.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')))?;
        line.rsplit(' ').next()?.parse().ok()
    }

    #[test]
    fn every_number_stands_under_its_documented_name() {
        let metrics = Metrics::new();
        metrics.reconciled(Kind::SealedSecret, Outcome::Failed, Class::User, Duration::from_millis(3));
        metrics.drifted(Drift::Edited);
        metrics.wrote(Write::Create);
        metrics.identities(2);
        metrics.leading(true);
        metrics.event_published();
        metrics.event_dropped(Dropped::Full);
        metrics.api_failed(ApiFailure::Conflict);
        metrics.answered(Endpoint::Verify, 429);
        let version = concat!("sealwright_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"}");
        for (name, value) in [
            (version, 1.0),
            ("sealwright_reconciles_total{kind=\"SealedSecret\",result=\"failed\",class=\"user\"}", 1.0),
            ("sealwright_reconciles_total{kind=\"SealedSecret\",result=\"failed\",class=\"bug\"}", 0.0),
            ("sealwright_reconcile_duration_seconds_bucket{le=\"0.002\",kind=\"SealedSecret\"}", 0.0),
            ("sealwright_reconcile_duration_seconds_bucket{le=\"0.004\",kind=\"SealedSecret\"}", 1.0),
            ("sealwright_drift_total{how=\"edited\"}", 1.0),
            ("sealwright_drift_total{how=\"deleted\"}", 0.0),
            ("sealwright_secret_writes_total{operation=\"create\"}", 1.0),
            ("sealwright_identities", 2.0),
            ("sealwright_leader", 1.0),
            ("sealwright_events_published_total", 1.0),
            ("sealwright_events_dropped_total{cause=\"full\"}", 1.0),
            ("sealwright_api_errors_total{class=\"conflict\"}", 1.0),
            ("sealwright_http_requests_total{endpoint=\"/v1/verify\",code=\"429\"}", 1.0),
        ] {
            assert_eq!(sample(&metrics, name), Some(value), "{name}\n{}", metrics.encode().unwrap());
        }
    }

    #[test]
    fn the_oldest_in_a_lane_grows_older_without_being_told() {
        let metrics = Metrics::new();
        metrics.queued(Lane::Fresh, (3, Duration::from_secs(60)));
        assert_eq!(sample(&metrics, "sealwright_queue_depth{lane=\"fresh\"}"), Some(3.0));
        let age = "sealwright_queue_oldest_age_seconds{lane=\"fresh\"}";
        assert!(sample(&metrics, age).unwrap() >= 60.0);
        metrics.queued(Lane::Fresh, (0, Duration::ZERO));
        assert_eq!(sample(&metrics, age), Some(0.0));
    }

    #[test]
    fn objects_are_counted_anew_before_each_scrape() {
        let metrics = Metrics::new();
        let objects = [Ready::Unknown, Ready::Yes(SealedSecretReason::Synced), Ready::Yes(SealedSecretReason::Synced)];
        metrics.objects([Ready::No(SealedSecretReason::KeyNotFound)]);
        metrics.refresh_with(move |metrics| metrics.objects(objects));
        assert_eq!(sample(&metrics, "sealwright_sealedsecrets{ready=\"True\",reason=\"Synced\"}"), Some(2.0));
        assert_eq!(sample(&metrics, "sealwright_sealedsecrets{ready=\"Unknown\",reason=\"\"}"), Some(1.0));
        assert!(!metrics.encode().unwrap().contains("KeyNotFound"));
    }

    #[test]
    fn rings_and_keys_that_are_gone_leave_no_label() {
        let metrics = Metrics::new();
        let (shared, closed) = (key(true), key(false));
        let rings = [ring("prod", vec![shared.clone(), closed.clone()]), ring("spare", vec![shared.clone()])];
        let finding = Finding { ring: "prod".into(), reason: KeyRingReason::KeyInTwoRings, message: String::new() };
        metrics.rings(&rings, &[finding]);
        metrics.key_objects([(closed.id, 3), (key(true).id, 1), (key(true).id, 1)]);
        for (name, value) in [
            ("sealwright_keyring_ready{ring=\"prod\",reason=\"KeyInTwoRings\"}".to_owned(), 1.0),
            ("sealwright_keyring_recoverable{ring=\"spare\"}".to_owned(), 0.0),
            ("sealwright_keyring_keys{ring=\"prod\",state=\"listed\"}".to_owned(), 2.0),
            ("sealwright_keyring_keys{ring=\"prod\",state=\"opened\"}".to_owned(), 1.0),
            ("sealwright_keyring_keys{ring=\"prod\",state=\"in_two_rings\"}".to_owned(), 1.0),
            (format!("sealwright_key_objects{{key=\"{}\"}}", closed.id), 3.0),
            (format!("sealwright_key_objects{{key=\"{}\"}}", shared.id), 0.0),
            ("sealwright_key_objects{key=\"unknown\"}".to_owned(), 2.0),
        ] {
            assert_eq!(sample(&metrics, &name), Some(value), "{name}\n{}", metrics.encode().unwrap());
        }

        metrics.rings(&rings[1..], &[]);
        metrics.key_objects([]);
        let text = metrics.encode().unwrap();
        assert!(!text.contains("\"prod\"") && !text.contains(&closed.id.to_string()), "{text}");
    }

    #[test]
    fn a_failed_request_has_a_class_whatever_its_code() {
        let status = |code| {
            ApiFailure::from(&error::ApiError::Status {
                code,
                reason: String::new(),
                message: String::new(),
                causes: vec![],
            })
        };
        assert_eq!(status(409), ApiFailure::Conflict);
        assert_eq!(status(504), ApiFailure::Deadline);
        assert_eq!(status(503), ApiFailure::Server);
        assert_eq!(status(418), ApiFailure::Refused);
    }
}
