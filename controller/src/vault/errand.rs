//! Fetches for objects, beside the loop: a look that needs values from Vault leaves an errand here, and is begun anew
//! when the errand has ended.
//!
//! ```text
//! Decision::Fetch -> Errands::send -> a task: VaultStore, Reader -> Answer -> the object is looked at again
//! ```
//!
//! So a server that takes its time, or none that answers, holds no slot of the loop. Answers lie here until a look has
//! made something of them, and not for long: values are not kept.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use seal_crds::{
    VaultStore,
    condition::{VaultReason, VaultStoreReason},
};
use tokio::sync::{mpsc, watch};

use super::{
    CLUSTER_WAIT, Retry, StoreHealth, VaultFailure, course::Wish, link::StoreId, mac::MacKey, path::Plan,
    reader::Reader, value::Values,
};
use crate::store::Key;

/// A look that could not write tries again with the same answer, if that is not older than this.
const HOLDS: Duration = Duration::from_secs(60);
/// How often a fetch is begun anew because its store changed meanwhile.
const ATTEMPTS: usize = 3;

/// What the errands to one store may take together while they wait for it. Those beyond come again later, so that a
/// store that answers nothing costs no more memory than this, and the others none.
const WAITING: usize = 4 << 20;
/// What a namespace may have of that however much others have, so that nobody can be kept from a shared store: fifty
/// errands, or one.
const SHARE: usize = 32 << 10;

/// What one object wants.
pub struct Errand {
    /// For which version of it.
    pub wish: Wish,
    /// Its uid.
    pub uid: String,
    /// Which store.
    pub store: StoreId,
    /// What is to be read.
    pub plan: Plan,
}

/// How an errand ended.
pub struct Answer {
    /// The version of the object that it was for.
    pub wish: Wish,
    /// The values, or why there are none.
    pub result: Result<Fetched, VaultFailure>,
    /// When the server was first asked for it.
    pub began: Instant,
    ended: Instant,
}

/// Values, and what tells whether they changed.
pub struct Fetched {
    /// The values and their versions.
    pub values: Values,
    /// A keyed MAC of the values.
    pub mac: String,
}

impl Answer {
    /// An answer that has just come, to a question that was asked then.
    pub fn new(wish: Wish, result: Result<Fetched, VaultFailure>, began: Instant) -> Self {
        Self { wish, result, began, ended: Instant::now() }
    }
}

/// A VaultStore as it was last seen.
#[derive(Clone)]
pub enum Known {
    /// Whole.
    Store(Arc<VaultStore>),
    /// Its spec cannot be read; the rest of it can.
    Unreadable(Arc<VaultStore>),
}

/// What the sight of a store tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// It was not there before.
    New,
    /// What a fetch comes to may be something else now.
    Changed,
    /// Nothing.
    Same,
}

impl Known {
    fn of(&self) -> &VaultStore {
        match self {
            Self::Store(store) | Self::Unreadable(store) => store,
        }
    }

    fn is_newer_than(&self, other: &Self) -> bool {
        let version = |known: &Self| known.of().metadata.resource_version.as_ref()?.parse::<u64>().ok();
        self.of().metadata.uid == other.of().metadata.uid && version(self) > version(other)
    }
}

/// Errands under way, and what has come of others.
pub struct Errands {
    reader: Reader,
    serves: bool,
    mac_key: watch::Receiver<Option<MacKey>>,
    stores: Mutex<HashMap<StoreId, Known>>,
    running: Mutex<HashMap<Key, Wish>>,
    /// Of the errands to each store.
    waiting: Mutex<HashMap<StoreId, Waiting>>,
    answers: Mutex<HashMap<Key, Arc<Answer>>>,
    ended: mpsc::UnboundedSender<Key>,
}

impl Errands {
    /// No errands; and whose will have ended. Unless `serves`, each ends without anything being asked.
    pub fn new(
        reader: Reader,
        serves: bool,
        mac_key: watch::Receiver<Option<MacKey>>,
    ) -> (Arc<Self>, mpsc::UnboundedReceiver<Key>) {
        let (ended, told) = mpsc::unbounded_channel();
        let (stores, running, waiting, answers) = Default::default();
        (Arc::new(Self { reader, serves, mac_key, stores, running, waiting, answers, ended }), told)
    }

    /// The way to the servers.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Begins to fetch for an object, unless that is under way. Gives false if too much is: then it is to be sent later.
    pub fn send(self: &Arc<Self>, key: &Key, errand: Errand) -> bool {
        let mut running = lock(&self.running);
        if running.get(key) == Some(&errand.wish) {
            return true;
        }
        let weight = errand.plan.weight();
        {
            let mut waiting = lock(&self.waiting);
            if !waiting.entry(errand.store.clone()).or_default().admits(&key.namespace, weight) {
                return false;
            }
        }
        running.insert(key.clone(), errand.wish);
        drop(running);
        lock(&self.answers).remove(key);
        let (errands, store) = (self.clone(), errand.store.clone());
        let mut end = End { errands, key: key.clone(), wish: errand.wish, store, weight, is_answered: false };
        tokio::spawn(async move {
            let (result, began) = end.errands.fetch(&end.key, &errand).await;
            end.answer(Answer::new(errand.wish, result, began));
        });
        true
    }

    /// What comes of an errand, and when what came was asked for.
    async fn fetch(&self, key: &Key, errand: &Errand) -> (Result<Fetched, VaultFailure>, Instant) {
        if !self.serves {
            let message = "this controller fetches nothing from Vault: it runs with --vault=false".to_owned();
            let failure = VaultFailure { reason: VaultReason::StoreNotFound, message, retry: Retry::Refresh };
            return (Err(failure), Instant::now());
        }
        let mut attempts = 0;
        loop {
            attempts += 1;
            let began = Instant::now();
            let store = self.store(&errand.store);
            let result = match &store {
                Some(Known::Store(store)) => self.reader.fetch(&errand.plan, store, &key.namespace).await,
                Some(Known::Unreadable(_)) => Err(unreadable(&errand.store)),
                None => Err(absent(&errand.store)),
            };
            // What it allows may have changed while it was asked.
            if self.is_still(&errand.store, store.as_ref()) {
                return (result.map(|values| self.fetched(errand, values)), began);
            }
            if store.is_some() && self.store(&errand.store).is_none() {
                // What was asked for it has made a link again.
                self.reader.forget(&errand.store);
            }
            if attempts == ATTEMPTS {
                return (Err(unsteady(&errand.store)), began);
            }
        }
    }

    fn fetched(&self, errand: &Errand, values: Values) -> Fetched {
        // Nothing is looked at before the keys are there; without one, everything would count as changed.
        let mac = self.mac_key.borrow().as_ref().map(|key| key.of_values(&errand.uid, &values.values));
        Fetched { values, mac: mac.unwrap_or_default() }
    }

    /// An errand has ended like this.
    pub fn keep(&self, key: &Key, answer: Answer) {
        if lock(&self.running).get(key) == Some(&answer.wish) {
            let mut answers = lock(&self.answers);
            answers.retain(|_, answer| answer.ended.elapsed() < HOLDS);
            answers.insert(key.clone(), Arc::new(answer));
        }
    }

    /// What has come of an object's errand.
    pub fn answer(&self, key: &Key) -> Option<Arc<Answer>> {
        lock(&self.answers).get(key).filter(|answer| answer.ended.elapsed() < HOLDS).cloned()
    }

    /// Something was made of an answer.
    pub fn done(&self, key: &Key, answer: &Arc<Answer>) {
        let mut answers = lock(&self.answers);
        if answers.get(key).is_some_and(|known| Arc::ptr_eq(known, answer)) {
            answers.remove(key);
        }
    }

    /// Forgets what was fetched for an object that is gone.
    pub fn forget(&self, key: &Key) {
        lock(&self.running).remove(key);
        lock(&self.answers).remove(key);
    }

    /// Forgets all answers, because nobody works here now.
    pub fn clear(&self) {
        lock(&self.running).clear();
        lock(&self.answers).clear();
    }

    // === VaultStores ===

    /// A store as it was last seen.
    pub fn store(&self, id: &StoreId) -> Option<Known> {
        lock(&self.stores).get(id).cloned()
    }

    /// The ids of all stores.
    pub fn stores(&self) -> Vec<StoreId> {
        lock(&self.stores).keys().cloned().collect()
    }

    /// A store is as a watch tells.
    pub fn see_store(&self, id: &StoreId, now: Known) -> Sight {
        put(&mut lock(&self.stores), id, now)
    }

    /// A store is as the answer to a request says. The watch may have told more since: that it is gone.
    pub fn answered_store(&self, id: &StoreId, now: Known) {
        let mut stores = lock(&self.stores);
        if stores.get(id).is_some_and(|known| known.of().metadata.uid == now.of().metadata.uid) {
            put(&mut stores, id, now);
        }
    }

    /// Whether a fetch may succeed now that had to wait for the store.
    pub fn may_serve(&self, id: &StoreId) -> bool {
        use VaultStoreReason as Reason;
        let is_out = |health: StoreHealth| {
            matches!(
                health.reason,
                Reason::VaultUnreachable | Reason::TLSFailed | Reason::VaultSealed | Reason::InvalidSpec
            )
        };
        matches!(self.store(id), Some(Known::Store(_))) && !self.reader.health(id).is_some_and(is_out)
    }

    /// A store is gone. Gives whether it was there.
    pub fn forget_store(&self, id: &StoreId) -> bool {
        self.reader.forget(id);
        lock(&self.stores).remove(id).is_some()
    }

    fn is_still(&self, id: &StoreId, store: Option<&Known>) -> bool {
        is_same(lock(&self.stores).get(id), store)
    }
}

fn put(stores: &mut HashMap<StoreId, Known>, id: &StoreId, now: Known) -> Sight {
    let before = stores.get(id);
    if before.is_some_and(|before| before.is_newer_than(&now)) {
        return Sight::Same;
    }
    let sight = match before {
        None => Sight::New,
        Some(_) if is_same(before, Some(&now)) => Sight::Same,
        Some(_) => Sight::Changed,
    };
    stores.insert(id.clone(), now);
    sight
}

/// Whether nothing changed but the status.
fn is_same(one: Option<&Known>, other: Option<&Known>) -> bool {
    match (one, other) {
        (Some(Known::Store(one)), Some(Known::Store(other)))
        | (Some(Known::Unreadable(one)), Some(Known::Unreadable(other))) => {
            (&one.metadata.uid, one.metadata.generation) == (&other.metadata.uid, other.metadata.generation)
        }
        (None, None) => true,
        _ => false,
    }
}

fn absent(store: &StoreId) -> VaultFailure {
    let message = format!("there is no VaultStore {store}");
    VaultFailure { reason: VaultReason::StoreNotFound, message, retry: Retry::WhenUp }
}

fn unreadable(store: &StoreId) -> VaultFailure {
    let message = format!("the spec of VaultStore {store} cannot be read: a field has another type than is expected");
    VaultFailure { reason: VaultReason::StoreNotFound, message, retry: Retry::WhenUp }
}

/// What a store allowed a moment ago may be what it refuses now.
fn unsteady(store: &StoreId) -> VaultFailure {
    let message = format!("VaultStore {store} keeps changing while it is used");
    VaultFailure { reason: VaultReason::StoreNotAllowed, message, retry: CLUSTER_WAIT }
}

fn fault() -> VaultFailure {
    VaultFailure {
        reason: VaultReason::VaultUnreachable,
        message: "a fault of the controller; its log says where".to_owned(),
        retry: Retry::Backoff { from: Duration::from_secs(30), to: Duration::from_secs(5 * 60) },
    }
}

/// Bytes of errands to one store.
#[derive(Default)]
struct Waiting {
    all: usize,
    of: HashMap<Arc<str>, usize>,
}

impl Waiting {
    /// Takes in one more, if there is room for it.
    fn admits(&mut self, namespace: &Arc<str>, weight: usize) -> bool {
        let own = self.of.get(namespace).copied().unwrap_or_default();
        let is_admitted = own == 0 || own + weight <= SHARE || self.all + weight <= WAITING;
        if is_admitted {
            self.all += weight;
            self.of.insert(namespace.clone(), own + weight);
        }
        is_admitted
    }

    fn ended(&mut self, namespace: &Arc<str>, weight: usize) {
        self.all -= weight;
        if let Some(own) = self.of.get_mut(namespace) {
            *own -= weight;
            if *own == 0 {
                self.of.remove(namespace);
            }
        }
    }
}

/// Says that an errand has ended, however it did.
struct End {
    errands: Arc<Errands>,
    key: Key,
    wish: Wish,
    store: StoreId,
    weight: usize,
    is_answered: bool,
}

impl End {
    fn answer(&mut self, answer: Answer) {
        self.errands.keep(&self.key, answer);
        self.is_answered = true;
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let mut waiting = lock(&self.errands.waiting);
        if let Some(at_store) = waiting.get_mut(&self.store) {
            at_store.ended(&self.key.namespace, self.weight);
            if at_store.of.is_empty() {
                waiting.remove(&self.store);
            }
        }
        drop(waiting);
        let mut running = lock(&self.errands.running);
        if running.get(&self.key) == Some(&self.wish) {
            running.remove(&self.key);
            if !self.is_answered {
                // It panicked. Without an answer the object would send the next one at once, and so on.
                let answer = Arc::new(Answer::new(self.wish, Err(fault()), Instant::now()));
                lock(&self.errands.answers).insert(self.key.clone(), answer);
            }
            drop(running);
            // Nobody listens any more when the process ends.
            let _ = self.errands.ended.send(self.key.clone());
        }
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use kube::client::Body;
    use serde_json::json;

    use super::{
        super::{cluster::Cluster, meter::Meter},
        *,
    };

    #[test]
    fn a_namespace_that_fills_a_store_keeps_no_other_from_it() {
        let (many, one, weight): (Arc<str>, Arc<str>, _) = ("many".into(), "one".into(), SHARE / 2);
        let mut waiting = Waiting::default();
        let taken = (0..1000).take_while(|_| waiting.admits(&many, weight)).count();
        assert_eq!(taken * weight, WAITING);
        assert!(waiting.admits(&one, weight) && waiting.admits(&one, weight));
        assert!(!waiting.admits(&one, weight), "it has its share, and no more");
        waiting.ended(&one, weight);
        assert!(waiting.admits(&one, weight));
        assert!(Waiting::default().admits(&one, 2 * WAITING), "the largest must not wait for ever");
    }

    fn errands() -> (Arc<Errands>, mpsc::UnboundedReceiver<Key>) {
        let service = tower::service_fn(|_: http::Request<Body>| async {
            Err::<http::Response<Body>, _>(std::io::Error::other("nobody is there"))
        });
        let cluster = Cluster::new(kube::Client::new(service, "default"), false);
        let mac_key = watch::Sender::new(None);
        Errands::new(Reader::new(cluster, Meter::default()).0, true, mac_key.subscribe())
    }

    #[tokio::test]
    async fn a_store_that_is_gone_is_not_brought_back_by_the_answer_to_its_status() {
        let (errands, _) = errands();
        let id = StoreId::new("shop", "main");
        let known = |uid: &str, resource_version: &str| {
            let auth = json!({"token": {"secretRef": {"name": "a", "key": "id"}}});
            let metadata =
                json!({"name": "main", "namespace": "shop", "uid": uid, "resourceVersion": resource_version});
            let store = json!({
                "apiVersion": "sealwright.dev/v1alpha1", "kind": "VaultStore", "metadata": metadata,
                "spec": {"address": "https://vault.test", "auth": auth},
            });
            Known::Store(Arc::new(serde_json::from_value(store).unwrap()))
        };
        let version = || errands.store(&id).and_then(|known| known.of().metadata.resource_version.clone());
        assert_eq!(errands.see_store(&id, known("a", "1")), Sight::New);
        errands.answered_store(&id, known("a", "2"));
        assert_eq!(version().as_deref(), Some("2"));
        errands.forget_store(&id);
        errands.answered_store(&id, known("a", "3"));
        assert_eq!(version(), None);
        errands.see_store(&id, known("b", "4"));
        errands.answered_store(&id, known("a", "5"));
        assert_eq!(version().as_deref(), Some("4"), "another of the same name");
    }

    #[tokio::test]
    async fn an_errand_that_panics_ends_as_a_failure_with_a_backoff() {
        let (errands, mut ended) = errands();
        let (key, wish) = (Key::new("shop", "db"), Wish::of(&Default::default()));
        lock(&errands.running).insert(key.clone(), wish);
        let end = End {
            errands: errands.clone(),
            key: key.clone(),
            wish,
            store: StoreId::new("shop", "main"),
            weight: 0,
            is_answered: false,
        };
        let task = tokio::spawn(async move {
            let _end = end;
            Vec::<u8>::new()[0]
        });
        assert!(task.await.is_err());
        assert_eq!(ended.recv().await, Some(key.clone()));
        let answer = errands.answer(&key).unwrap();
        let failure = answer.result.as_ref().err().unwrap();
        assert!(matches!(failure.retry, Retry::Backoff { .. }) && lock(&errands.running).is_empty());
    }
}
