//! The door to Vault: one fetch for one object.
//!
//! ```text
//! Plan, VaultStore, namespace -> allowed? -> Link of the store -> Session of the identity -> reads -> Values
//! ```
//!
//! What is not allowed is refused before anything is sent, to the API server too.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::{StreamExt, future::join_all, stream};
use seal_crds::{
    VaultStore,
    condition::{VaultReason, VaultStoreReason},
};
use tokio::sync::{Semaphore, mpsc};

pub use super::link::{StoreEvent, StoreId};
use super::{
    Asked, CLUSTER_WAIT, LOGIN_WAIT, Retry, StoreHealth, VaultFailure,
    auth::{self, Patience, Session},
    client::Fault,
    cluster::Cluster,
    judged,
    link::{self, Failed, Link},
    meter::Meter,
    path::{Fence, NotAllowed, Plan},
    purse::Purse,
    turns::Turns,
    value::{self, Content, Values},
};

/// How many reads of one plan are under way at once.
const AT_ONCE: usize = 8;
/// What the answers to one plan may have together: several times a Secret, for not every field of them is wanted.
const LARGEST_SUM: usize = 4 << 20;
/// How many plans are made values of at once.
const COMPOSING: usize = 2;
/// How many stores that nobody uses are asked at once whether their servers are there.
const PROBING: usize = 8;
/// How long the end of the process waits until tokens are revoked.
const FAREWELL: Duration = Duration::from_secs(3);

/// Fetches from every store; keeps what belongs to each.
pub struct Reader {
    cluster: Arc<Cluster>,
    purse: Purse,
    /// Whoever makes values out of answers may take a while, and a processor.
    composing: Semaphore,
    probing: Arc<Turns>,
    links: Mutex<HashMap<StoreId, Arc<Link>>>,
    patience: Patience,
    meter: Meter,
    events: mpsc::UnboundedSender<StoreEvent>,
}

impl Reader {
    /// A reader without connections, and what it will tell of the stores.
    pub fn new(cluster: Cluster, meter: Meter) -> (Self, mpsc::UnboundedReceiver<StoreEvent>) {
        let (events, told) = mpsc::unbounded_channel();
        let (purse, composing, probing) = (Purse::full(), Semaphore::new(COMPOSING), Turns::new(PROBING));
        let (cluster, links, patience) = (Arc::new(cluster), Mutex::default(), Patience::default());
        (Self { cluster, purse, composing, probing, links, patience, meter, events }, told)
    }

    /// The same with sessions of another patience.
    pub fn with_patience(self, patience: Patience) -> Self {
        Self { patience, ..self }
    }

    /// The API server, as far as Vault is concerned.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Fetches everything that the plan asks for, as the namespace.
    ///
    /// # Errors
    ///
    /// If anything of it cannot be had: then there is nothing at all.
    pub async fn fetch(&self, plan: &Plan, store: &VaultStore, namespace: &str) -> Result<Values, VaultFailure> {
        self.allow(plan, store, namespace).await?;
        let link = self.link(store).await?;
        // Who logs in is asked of the API server, and nobody logs in to a server that is out.
        link.admitted().await?;
        let (identity, value) = auth::identify(&link.spec, namespace, &self.cluster).await?;
        let session = link.session(&identity, || Session::new(identity.clone(), value, self.patience));
        let reads: Vec<_> = plan.reads().iter().map(|read| session.read(&link, read)).collect();
        let mut reads = stream::iter(reads).buffered(AT_ONCE);
        let (mut answers, mut size) = (Vec::new(), 0);
        while let Some(answer) = reads.next().await {
            size += answer.as_ref().map_or(0, |content| content.size());
            if size > LARGEST_SUM {
                return Err(not_found(format!("the answers have more than {} MiB together", LARGEST_SUM >> 20)));
            }
            answers.push(answer);
        }
        drop(reads);
        let answers = plan.reads().iter().zip(answers).map(|(read, answer)| settled(plan, &read.place(), answer));
        let answers = answers.collect::<Result<Vec<_>, _>>()?;
        let mut values = self.compose(plan.clone(), answers).await?;
        let size = values.values.iter().map(|(key, value)| key.len() + value.len()).sum();
        values.hold = link.purse().hold(size);
        match values.hold {
            Some(_) => Ok(values),
            None => Err(judged(Fault::Crowded, Asked::Secret(&link.id.to_string()))),
        }
    }

    /// Makes values of the answers, on a thread where that may take its time.
    async fn compose(&self, plan: Plan, answers: Vec<Option<Arc<Content>>>) -> Result<Values, VaultFailure> {
        // It is never closed.
        let _turn = self.composing.acquire().await.ok();
        let work = tokio::task::spawn_blocking(move || {
            let values = value::compose(&plan, &answers).map_err(|error| not_found(error.to_string()))?;
            match plan.stands_alone && values.values.is_empty() {
                true => Err(nothing(&answers)),
                false => Ok(values),
            }
        });
        work.await.unwrap_or_else(|fault| std::panic::resume_unwind(fault.into_panic()))
    }

    /// What is known of a store's server; nothing, if it was never used.
    pub fn health(&self, store: &StoreId) -> Option<StoreHealth> {
        self.links().get(store).map(|link| link.health())
    }

    /// What is to be said of a store as it is now. Its spec and its CA are judged; its server is sent nothing.
    pub async fn judge(&self, store: &VaultStore) -> StoreHealth {
        let id = StoreId::of(store);
        {
            let mut links = self.links();
            if let Some(link) = links.get(&id).filter(|link| link.serves(store)) {
                return link.health();
            }
            // One of an older spec would go on probing.
            if let Some(old) = links.remove(&id) {
                old.retire();
            }
        }
        link::judge(store, &self.cluster).await
    }

    /// Asks the server of a store that nobody uses whether it is there, in its turn. Namespaces take turns.
    pub async fn probe(&self, store: &VaultStore) -> StoreHealth {
        let _place = self.probing.take(&StoreId::of(store).namespace).await;
        link::probe_unused(store, &self.cluster).await
    }

    /// Drops everything of a store that is gone.
    pub fn forget(&self, store: &StoreId) {
        let gone = self.links().remove(store);
        if let Some(gone) = gone {
            gone.retire();
        }
        self.meter.forget(store);
    }

    /// Ends every session, before the process does. What a server does not answer soon, it ends by itself later.
    pub async fn end(&self) {
        let links: Vec<_> = self.links().drain().map(|(_, link)| link).collect();
        let _ = tokio::time::timeout(FAREWELL, join_all(links.iter().map(Link::end_sessions))).await;
    }

    async fn allow(&self, plan: &Plan, store: &VaultStore, namespace: &str) -> Result<(), VaultFailure> {
        let id = StoreId::of(store);
        let fence = Fence { home: &id.namespace, spec: &store.spec };
        let refuse = |refusal: NotAllowed| VaultFailure {
            reason: VaultReason::StoreNotAllowed,
            message: format!("{id}: {refusal}"),
            retry: Retry::Refresh,
        };
        // By name first: whoever is refused by path as well is refused without a request.
        fence.allows(namespace, plan).map_err(refuse)?;
        let labels = match fence.needs_labels(namespace) {
            true => Some(self.cluster.labels(namespace).await.map_err(|error| VaultFailure {
                reason: VaultReason::StoreNotAllowed,
                message: error.to_string(),
                retry: CLUSTER_WAIT,
            })?),
            false => None,
        };
        fence.is_allowed(namespace, labels.as_deref()).map_err(refuse)
    }

    async fn link(&self, store: &VaultStore) -> Result<Arc<Link>, VaultFailure> {
        self.connected(store).await.map_err(|health| VaultFailure {
            reason: VaultReason::VaultUnreachable,
            message: format!("store {} cannot be used: {}", StoreId::of(store), health.message),
            retry: match health.reason {
                VaultStoreReason::InvalidSpec => Retry::Backoff { from: LOGIN_WAIT.0, to: LOGIN_WAIT.1 },
                _ => CLUSTER_WAIT,
            },
        })
    }

    /// The link to the store as it is now; an older one ends, and its sessions with it.
    async fn connected(&self, store: &VaultStore) -> Result<Arc<Link>, StoreHealth> {
        let id = StoreId::of(store);
        let known = self.links().get(&id).filter(|link| link.serves(store)).cloned();
        if let Some(link) = known {
            link.mark_used();
            link.keep_authorities().await;
            return Ok(link);
        }
        let made =
            Link::to(store, self.cluster.clone(), self.purse.share(), self.meter.clone(), self.events.clone()).await?;
        let mut links = self.links();
        // Another object may have been faster.
        match links.get(&id) {
            Some(link) if link.serves(store) => return Ok(link.clone()),
            // What comes of an older store is never used.
            Some(link) if link.is_newer_than(store) => {
                let message = "it has changed meanwhile".to_owned();
                return Err(StoreHealth { reason: VaultStoreReason::Unknown, message });
            }
            _ => {}
        }
        links.extract_if(|_, link| link.is_idle()).for_each(|(_, idle)| idle.retire());
        if let Some(old) = links.insert(id, made.clone()) {
            old.retire();
        }
        Ok(made)
    }

    fn links(&self) -> MutexGuard<'_, HashMap<StoreId, Arc<Link>>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn not_found(message: String) -> VaultFailure {
    VaultFailure { reason: VaultReason::FieldNotFound, message, retry: Retry::Refresh }
}

/// A Secret without any key helps nobody, and whoever emptied the server by mistake would empty the cluster too.
fn nothing(answers: &[Option<Arc<Content>>]) -> VaultFailure {
    if answers.iter().any(Option::is_some) {
        return not_found("there is not a single value to make a Secret of".to_owned());
    }
    let message = "there is nothing at any of the paths; the last key of a Secret is never removed".to_owned();
    VaultFailure { reason: VaultReason::PathNotFound, message, retry: Retry::Refresh }
}

/// What one answer means: content, nothing where the plan goes without, or the failure of the whole.
fn settled(
    plan: &Plan,
    place: &str,
    answer: Result<Arc<Content>, Failed>,
) -> Result<Option<Arc<Content>>, VaultFailure> {
    match answer {
        Ok(content) => Ok(Some(content)),
        Err(Failed::Fault(Fault::Absent)) if value::goes_without(plan) => Ok(None),
        Err(Failed::Fault(fault)) => Err(judged(fault, Asked::Secret(place))),
        Err(Failed::Judged(failure)) => Err(failure),
    }
}
