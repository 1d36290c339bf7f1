//! One store at work: everything that is sent to its server passes here.
//!
//! ```text
//! request -> breaker closed? -> a place in flight -> its turn -> Client -> what it means for the breaker and the pace
//! ```
//!
//! Each store has its own of all of these, so that a slow or dead one slows no other.

use std::{
    collections::HashMap,
    fmt,
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures::future::join_all;
use ring::rand::{SecureRandom, SystemRandom};
use seal_crds::{VaultStore, VaultStoreSpec, condition::VaultStoreReason, sealed_secret::StoreRef};
use tokio::sync::{mpsc, watch};
use tracing::info;

use super::{
    StoreHealth, VaultFailure,
    auth::{Identity, Session, UNUSED},
    breaker::{Breaker, Pace},
    client::{Client, Connection, Fault},
    cluster::{Cluster, LookupError},
    health,
    meter::{Meter, Operation},
    outage,
    purse::Purse,
    turns::{Place, Turns},
};

/// While the reason is the same, other words about a store are told at most so often: a fault that varies is no news.
const WORDS_HOLD: Duration = Duration::from_secs(300);
/// A CA that is no longer in its ConfigMap stops being trusted within this time.
const AUTHORITIES_HOLD: Duration = Duration::from_secs(300);

/// How long a server that nobody uses is listened to, whatever its store says: others wait for their turn.
const UNUSED_WAIT: Duration = Duration::from_secs(10);

/// Namespace and name of a store.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StoreId {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
}

impl StoreId {
    /// The id of these two.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// The id of the store that an object of namespace `home` refers to.
    pub fn referred_to(reference: &StoreRef, home: &str) -> Self {
        Self::new(reference.namespace.as_deref().unwrap_or(home), &reference.name)
    }

    /// The id of a store.
    pub fn of(store: &VaultStore) -> Self {
        let metadata = &store.metadata;
        Self::new(metadata.namespace.as_deref().unwrap_or_default(), metadata.name.as_deref().unwrap_or_default())
    }
}

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Something about a store's health has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreEvent {
    /// Which store.
    pub store: StoreId,
    /// Its server answers again after an outage: whoever waits for it may be woken.
    pub is_back: bool,
}

/// Why a request gave nothing.
#[derive(Clone, Debug)]
pub enum Failed {
    /// The server was asked.
    Fault(Fault),
    /// It was not asked, or its answer has been judged already.
    Judged(VaultFailure),
}

/// The connection to one store's server.
pub struct Link {
    /// Which store.
    pub id: StoreId,
    /// Its spec, but for the certificates in it.
    pub spec: VaultStoreSpec,
    version: Version,
    connected: Mutex<Connected>,
    breaker: Mutex<Breaker>,
    pace: Mutex<Pace>,
    in_flight: Arc<Turns>,
    gate: watch::Sender<Gate>,
    /// And when that was learnt.
    health: Mutex<(StoreHealth, Instant)>,
    sessions: Mutex<HashMap<Identity, Arc<Session>>>,
    used: Mutex<Instant>,
    /// The store has another link now, or is gone: nothing is told of this one.
    is_retired: AtomicBool,
    cluster: Arc<Cluster>,
    purse: Purse,
    meter: Meter,
    events: mpsc::UnboundedSender<StoreEvent>,
}

/// What a store must still be for what was learnt of it to hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Version {
    uid: Option<String>,
    generation: Option<i64>,
}

impl Version {
    pub(super) fn of(store: &VaultStore) -> Self {
        Self { uid: store.metadata.uid.clone(), generation: store.metadata.generation }
    }
}

struct Connected {
    /// Of the connection that the client was made for.
    fingerprint: [u8; 32],
    client: Client,
    checked: Instant,
}

/// What requests see of the breaker: they wait for the first probe, and for none of the later ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gate {
    Closed,
    Probing,
    Open,
}

impl Link {
    /// Prepares the connection. Nothing is sent.
    pub async fn to(
        store: &VaultStore,
        cluster: Arc<Cluster>,
        purse: Purse,
        meter: Meter,
        events: mpsc::UnboundedSender<StoreEvent>,
    ) -> Result<Arc<Self>, StoreHealth> {
        let id = StoreId::of(store);
        let connected = connect(&id, &store.spec, &cluster).await?;
        let limits = store.spec.limits.clone().unwrap_or_default();
        let at_most =
            |limit: Option<i32>, default: u32| limit.and_then(|limit| limit.try_into().ok()).unwrap_or(default);
        let max_in_flight = at_most(limits.max_in_flight, 8).clamp(1, 256);
        Ok(Arc::new(Self {
            version: Version::of(store),
            connected: Mutex::new(connected),
            breaker: Mutex::default(),
            pace: Mutex::new(Pace::new(at_most(limits.requests_per_second, 20).clamp(1, 1000))),
            in_flight: Turns::new(max_in_flight as usize),
            gate: watch::Sender::new(Gate::Closed),
            health: Mutex::new((unknown(), Instant::now())),
            sessions: Mutex::default(),
            spec: without_bundle(&store.spec),
            used: Mutex::new(Instant::now()),
            is_retired: AtomicBool::new(false),
            id,
            cluster,
            purse,
            meter,
            events,
        }))
    }

    /// Whether it is a link to this store as it is now.
    pub fn serves(&self, store: &VaultStore) -> bool {
        self.version == Version::of(store)
    }

    /// Whether it is a link to the same store as it became after this.
    pub fn is_newer_than(&self, store: &VaultStore) -> bool {
        let other = Version::of(store);
        self.version.uid == other.uid && self.version.generation > other.generation
    }

    /// The Vault namespace of the data.
    pub fn data_namespace(&self) -> Option<&str> {
        self.spec.namespace.as_deref()
    }

    /// The Vault namespace of the logins.
    pub fn auth_namespace(&self) -> Option<&str> {
        self.spec.auth.namespace.as_deref().or(self.data_namespace())
    }

    /// The API server.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// What its answers may take in memory.
    pub fn purse(&self) -> &Purse {
        &self.purse
    }

    /// Somebody asks for something.
    pub fn mark_used(&self) {
        *lock(&self.used) = Instant::now();
    }

    /// Whether nobody has asked for anything for long, and no session holds a token.
    pub fn is_idle(&self) -> bool {
        let holds_a_token = lock(&self.sessions).values().any(|session| session.holds_a_token());
        !holds_a_token && lock(&self.used).elapsed() > UNUSED
    }

    /// What is known of the server.
    pub fn health(&self) -> StoreHealth {
        lock(&self.health).0.clone()
    }

    /// The one session of this identity.
    pub fn session(&self, identity: &Identity, make: impl FnOnce() -> Session) -> Arc<Session> {
        let mut sessions = lock(&self.sessions);
        if let Some(session) = sessions.get(identity) {
            return session.clone();
        }
        // One that never logged in would be ended by nobody else, and each content of a Secret is an identity.
        sessions.retain(|other, session| {
            let stays = !session.is_idle() && !identity.succeeds(other);
            if !stays {
                session.let_go();
            }
            stays
        });
        let session = Arc::new(make());
        if self.is_retired() {
            session.let_go();
        } else {
            sessions.insert(identity.clone(), session.clone());
        }
        session
    }

    /// Ends a session that nobody uses.
    pub fn end_session(&self, identity: &Identity, session: &Arc<Session>) {
        let mut sessions = lock(&self.sessions);
        if sessions.get(identity).is_some_and(|known| Arc::ptr_eq(known, session)) {
            sessions.remove(identity);
        }
        drop(sessions);
        self.count_tokens();
    }

    /// Ends all sessions by and by, because the store is another one now, or gone.
    pub fn retire(self: Arc<Self>) {
        self.is_retired.store(true, Ordering::Relaxed);
        // Whether the next one's server is out, its own link will tell.
        self.meter.open(&self.id, false);
        tokio::spawn(async move { self.end_sessions().await });
    }

    /// Ends all sessions. Their tokens would live on at the server.
    pub async fn end_sessions(self: &Arc<Self>) {
        self.is_retired.store(true, Ordering::Relaxed);
        let sessions = std::mem::take(&mut *lock(&self.sessions));
        let end = |session: Arc<Session>| async move { session.end(self).await };
        join_all(sessions.into_values().map(end)).await;
    }

    fn is_retired(&self) -> bool {
        self.is_retired.load(Ordering::Relaxed)
    }

    /// Tells how many tokens are held.
    pub fn count_tokens(&self) {
        if self.is_retired() {
            return;
        }
        let held = lock(&self.sessions).values().filter(|session| session.holds_a_token()).count();
        self.meter.tokens(&self.id, held);
    }

    /// A login was accepted, or refused. One identity that is refused says nothing about the store while others are
    /// accepted.
    pub fn login_ended(&self, refusal: Option<&VaultFailure>) {
        self.count_tokens();
        match refusal {
            None => self.is_well(),
            Some(refusal) => {
                let is_accepted = lock(&self.sessions).values().any(|session| session.holds_a_token());
                if !is_accepted {
                    let message = refusal.message.clone();
                    self.tell(StoreHealth { reason: VaultStoreReason::AuthFailed, message }, false);
                }
            }
        }
    }

    /// Sends one request for a namespace, when its turn has come, unless the server is known to be out.
    pub async fn call<T, F>(
        self: &Arc<Self>,
        operation: Operation,
        namespace: &Arc<str>,
        request: impl FnOnce(Client) -> F,
    ) -> Result<T, Failed>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        let place = loop {
            self.admitted().await.map_err(Failed::Judged)?;
            tokio::select! {
                biased;
                () = self.is_held() => {}
                place = self.place(namespace) => break place,
            }
        };
        let client = lock(&self.connected).client.clone();
        let started = Instant::now();
        let result = request(client).await;
        drop(place);
        if !self.is_retired() {
            self.meter.request(&self.id, operation, &result, started.elapsed());
        }
        match result {
            Ok(answer) => {
                if operation == Operation::Read {
                    self.is_well();
                }
                Ok(answer)
            }
            Err(fault) => {
                if let Fault::Status { code: 429, retry_after, .. } = fault {
                    lock(&self.pace).slow_down(Instant::now(), retry_after);
                }
                if fault.is_of_the_server() {
                    self.suspect();
                    // Whether it is the server or this one path is known in a moment, and is worth waiting for.
                    self.admitted().await.map_err(Failed::Judged)?;
                }
                Err(Failed::Fault(fault))
            }
        }
    }

    /// Whether the server may be asked. Waits while a probe is under way.
    ///
    /// # Errors
    ///
    /// While it is out.
    pub async fn admitted(&self) -> Result<(), VaultFailure> {
        let mut gate = self.gate.subscribe();
        // The sender is ours, so it lives as long as we wait.
        let gate = *gate.wait_for(|gate| *gate != Gate::Probing).await.map_err(|_| self.is_out())?;
        if gate == Gate::Open { Err(self.is_out()) } else { Ok(()) }
    }

    fn is_out(&self) -> VaultFailure {
        outage(&self.id, self.health().reason)
    }

    /// Waits until requests are held back.
    async fn is_held(&self) {
        let mut gate = self.gate.subscribe();
        let _ = gate.wait_for(|gate| *gate != Gate::Closed).await;
    }

    /// Waits for a place in flight, and for the turn.
    async fn place(&self, namespace: &Arc<str>) -> Place {
        let place = self.in_flight.take(namespace).await;
        let turn = lock(&self.pace).book(Instant::now());
        tokio::time::sleep_until(turn.into()).await;
        place
    }

    fn is_well(&self) {
        self.tell(reachable(), false);
    }

    fn tell(&self, now: StoreHealth, is_back: bool) {
        let mut health = lock(&self.health);
        let (before, since) = &*health;
        let is_new = before.reason != now.reason || (*before != now && since.elapsed() >= WORDS_HOLD);
        if is_new {
            info!(store = %self.id, reason = %now.reason, cause = now.message, "a store's health changed");
            *health = (now, Instant::now());
        }
        drop(health);
        if is_new || is_back {
            // Nobody listens any more when the process ends.
            let _ = self.events.send(StoreEvent { store: self.id.clone(), is_back });
        }
    }

    /// Begins to probe, if nobody does yet.
    fn suspect(self: &Arc<Self>) {
        if lock(&self.breaker).failed(Instant::now()) {
            self.gate.send_replace(Gate::Probing);
            tokio::spawn(revive(Arc::downgrade(self)));
        }
    }

    /// Asks whether the server is there, by the CA as it is now.
    async fn probe(&self) -> Result<(), StoreHealth> {
        self.refresh_authorities(Duration::ZERO).await?;
        let client = lock(&self.connected).client.clone();
        let started = Instant::now();
        let result = probe(&client).await;
        if !self.is_retired() {
            self.meter.request(&self.id, Operation::Probe, &result, started.elapsed());
        }
        result.map_err(health)
    }

    /// Reads the CA again, if it was read longer ago than this.
    pub async fn refresh_authorities(&self, older_than: Duration) -> Result<(), StoreHealth> {
        let has_source = self.spec.tls.as_ref().is_some_and(|tls| tls.ca_from.is_some());
        if !has_source || lock(&self.connected).checked.elapsed() < older_than {
            return Ok(());
        }
        let fresh = connect(&self.id, &self.spec, &self.cluster).await?;
        let mut connected = lock(&self.connected);
        if connected.fingerprint == fresh.fingerprint {
            connected.checked = fresh.checked;
        } else {
            *connected = fresh;
        }
        Ok(())
    }

    /// Reads the CA again, if that was a while ago. What cannot be read now is the next probe's business.
    pub async fn keep_authorities(&self) {
        let _ = self.refresh_authorities(AUTHORITIES_HOLD).await;
    }
}

/// Probes until the server answers, or nobody wants it any more.
async fn revive(link: Weak<Link>) {
    loop {
        let Some(link) = link.upgrade() else { return };
        let probed = link.probe().await;
        if link.is_retired() {
            return;
        }
        let Err(health) = probed else {
            let was_out = lock(&link.breaker).revived(Instant::now());
            link.gate.send_replace(Gate::Closed);
            if was_out {
                link.meter.open(&link.id, false);
                link.tell(reachable(), true);
            }
            return;
        };
        let due = lock(&link.breaker).probe_failed(Instant::now(), dice());
        link.meter.open(&link.id, true);
        link.tell(health, false);
        link.gate.send_replace(Gate::Open);
        drop(link);
        tokio::time::sleep_until(due.into()).await;
    }
}

async fn probe(client: &Client) -> Result<(), Fault> {
    match client.probe().await {
        // A connection out of the pool may have been closed while it lay there; the next one is new.
        Err(Fault::Torn) => client.probe().await,
        result => result,
    }
}

/// Asks the server of a store that nobody has used, by a connection that is not kept. It is not counted: there may be
/// no store any more when it answers.
pub async fn probe_unused(store: &VaultStore, cluster: &Cluster) -> StoreHealth {
    let connected = match connect(&StoreId::of(store), &store.spec, cluster).await {
        Ok(connected) => connected,
        Err(health) => return health,
    };
    match tokio::time::timeout(UNUSED_WAIT, probe(&connected.client)).await.unwrap_or(Err(Fault::Timeout)) {
        Ok(()) => reachable(),
        Err(fault) => health(fault),
    }
}

/// What is to be said of a store that nobody has used: nothing, unless it makes no sense. Its server is sent nothing.
pub async fn judge(store: &VaultStore, cluster: &Cluster) -> StoreHealth {
    connect(&StoreId::of(store), &store.spec, cluster).await.map_or_else(|health| health, |_| unknown())
}

/// The bundle is in the client already; a store may have many and large certificates.
fn without_bundle(spec: &VaultStoreSpec) -> VaultStoreSpec {
    let mut spec = spec.clone();
    if let Some(tls) = &mut spec.tls {
        tls.ca_bundle = None;
    }
    spec
}

fn reachable() -> StoreHealth {
    StoreHealth { reason: VaultStoreReason::Reachable, message: "the server answers".to_owned() }
}

fn unknown() -> StoreHealth {
    StoreHealth { reason: VaultStoreReason::Unknown, message: "no request has been made yet".to_owned() }
}

async fn connect(id: &StoreId, spec: &VaultStoreSpec, cluster: &Cluster) -> Result<Connected, StoreHealth> {
    let invalid = |message: String| StoreHealth { reason: VaultStoreReason::InvalidSpec, message };
    let source = spec.tls.as_ref().and_then(|tls| tls.ca_from.as_ref());
    let authorities = match source {
        None => None,
        Some(source) => match cluster.authorities(&id.namespace, source).await {
            Ok(authorities) => Some(authorities),
            Err(error @ LookupError::Api(..)) => {
                return Err(StoreHealth { reason: VaultStoreReason::Unknown, message: error.to_string() });
            }
            Err(error) => return Err(invalid(error.to_string())),
        },
    };
    let connection = Connection::of(spec, authorities).map_err(|error| invalid(error.to_string()))?;
    let client = connection.client().map_err(|error| invalid(error.to_string()))?;
    Ok(Connected { fingerprint: connection.fingerprint(), client, checked: Instant::now() })
}

/// A random number in 0..1.
pub(super) fn dice() -> f64 {
    let mut random = [0; 4];
    // Without randomness everybody waits as long as possible.
    SystemRandom::new().fill(&mut random).map_or(1.0, |()| f64::from(u32::from_be_bytes(random)) / f64::from(u32::MAX))
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
pub(super) mod tests {
    use kube::client::Body;
    use serde_json::json;

    use super::*;

    /// A link to nowhere.
    pub(in crate::vault) async fn nowhere() -> (Arc<Link>, mpsc::UnboundedReceiver<StoreEvent>) {
        // Another test of this process may have been faster.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let service = tower::service_fn(|_: http::Request<Body>| async {
            Err::<http::Response<Body>, _>(std::io::Error::other("nobody is there"))
        });
        let cluster = Arc::new(Cluster::new(kube::Client::new(service, "default"), false));
        let auth = json!({"token": {"secretRef": {"name": "a", "key": "id"}}});
        let spec = json!({"address": "http://vault.test", "tls": {"allowPlaintext": true}, "auth": auth});
        let store = VaultStore::new("main", serde_json::from_value(spec).unwrap());
        let (events, told) = mpsc::unbounded_channel();
        let link = Link::to(&store, cluster, Purse::full(), Meter::default(), events).await;
        (link.ok().unwrap(), told)
    }

    #[tokio::test]
    async fn a_fault_that_varies_is_told_once() {
        let (link, mut events) = nowhere().await;
        let bad = |reason, code: u16| StoreHealth { reason, message: format!("HTTP {code}") };
        for code in [502, 503, 504] {
            link.tell(bad(VaultStoreReason::VaultUnreachable, code), false);
        }
        assert_eq!(link.health().message, "HTTP 502");
        link.tell(bad(VaultStoreReason::VaultSealed, 503), false);
        assert_eq!(link.health().message, "HTTP 503");
        let told = std::iter::from_fn(|| events.try_recv().ok()).count();
        assert_eq!(told, 2, "one for each reason");
    }
}
