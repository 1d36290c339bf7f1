//! VaultStores that nobody uses yet: whoever applies one wants to know whether its server is there.
//!
//! ```text
//! store of which nothing good is known -> a probe in its turn -> Probed -> its status, and again until it is good
//! ```
//!
//! A store that is used needs none of this: its requests tell, and its breaker probes.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
    time::Instant,
};

use seal_crds::{VaultStore, condition::VaultStoreReason};
use tokio::sync::mpsc;

use super::{
    StoreHealth,
    breaker::Breaker,
    errand::Errands,
    link::{StoreId, Version, dice},
};

/// Servers that are being asked whether they are there.
pub struct Probes {
    /// Whose entry is gone is asked no more.
    wanted: HashMap<StoreId, Arc<Wanted>>,
    heard: mpsc::UnboundedSender<Probed>,
}

struct Wanted {
    store: Arc<VaultStore>,
    errands: Arc<Errands>,
}

/// What a server says of itself without being asked for anything.
pub struct Probed {
    store: Arc<VaultStore>,
    /// What is to be said of the store, if its requests tell nothing.
    pub health: StoreHealth,
}

impl Probed {
    /// Which store.
    pub fn id(&self) -> StoreId {
        StoreId::of(&self.store)
    }

    /// Whether it was this one, with the same spec.
    pub fn is_of(&self, store: &VaultStore) -> bool {
        is_same(&self.store, store)
    }
}

impl Probes {
    /// Nobody is asked yet; and what will be heard.
    pub fn new() -> (Self, mpsc::UnboundedReceiver<Probed>) {
        let (heard, told) = mpsc::unbounded_channel();
        (Self { wanted: HashMap::new(), heard }, told)
    }

    /// Asks the server of a store, now and until it answers well, unless that was begun already and not [ended](Self::end).
    pub fn begin(&mut self, store: &Arc<VaultStore>, errands: &Arc<Errands>) {
        let id = StoreId::of(store);
        if self.wanted.get(&id).is_none_or(|known| !is_same(&known.store, store)) {
            let wanted = Arc::new(Wanted { store: store.clone(), errands: errands.clone() });
            tokio::spawn(probe(Arc::downgrade(&wanted), self.heard.clone()));
            self.wanted.insert(id, wanted);
        }
    }

    /// Asks it no more.
    pub fn end(&mut self, store: &StoreId) {
        self.wanted.remove(store);
    }

    /// Asks none any more.
    pub fn end_all(&mut self) {
        self.wanted.clear();
    }
}

/// Whether it is one store, with one spec.
fn is_same(one: &VaultStore, other: &VaultStore) -> bool {
    Version::of(one) == Version::of(other)
}

async fn probe(wanted: Weak<Wanted>, heard: mpsc::UnboundedSender<Probed>) {
    let mut breaker = Breaker::default();
    while let Some(wanted) = wanted.upgrade() {
        let health = wanted.errands.reader().probe(&wanted.store).await;
        let is_well = health.reason == VaultStoreReason::Reachable;
        // Nobody listens any more when the process ends.
        let _ = heard.send(Probed { store: wanted.store.clone(), health });
        if is_well {
            return;
        }
        drop(wanted);
        let due = breaker.probe_failed(Instant::now(), dice());
        tokio::time::sleep_until(due.into()).await;
    }
}
