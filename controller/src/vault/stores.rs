//! VaultStores: watched, told in their status what is known of their servers, and a reason to fetch again.
//!
//! ```text
//! VaultStore, credential, namespace changed; server back -> whom it concerns -> Engine, spread
//! Reader's view of a server -> status of its VaultStore, on change
//! ```
//!
//! A status says what the last requests told; only where there were none is a server asked for its sake.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use k8s_openapi::{
    api::core::v1::{Namespace, Secret},
    jiff::Timestamp,
};
use kube::{
    Api, ResourceExt,
    api::{DynamicObject, PartialObjectMeta},
    core::ApiResource,
    runtime::watcher,
};
use seal_crds::{
    VAULT_AUTH_LABEL, VaultStore, VaultStoreSpec,
    condition::{self, READY, TRUE, VaultStoreReason},
};
use tokio::{
    sync::{mpsc, watch},
    time::MissedTickBehavior,
};
use tracing::warn;

use super::{
    StoreHealth,
    course::Course,
    errand::{Known, Sight},
    link::{StoreEvent, StoreId},
    probes::{Probed, Probes},
};
use crate::{
    apply::WriteError,
    engine::{Engine, Term},
    realm::{self, Region},
    sealed::{Context, read::part},
    status,
    store::Key,
};

/// How soon a status that could not be written is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// Where news of stores goes.
#[derive(Clone)]
pub struct Desk {
    context: Context,
    engine: Engine,
    /// Stores of which the status may say something else now.
    changed: mpsc::UnboundedSender<StoreId>,
}

impl Desk {
    /// A desk, and the stores that it hears of.
    pub fn new(context: Context, engine: Engine) -> (Self, mpsc::UnboundedReceiver<StoreId>) {
        let (changed, told) = mpsc::unbounded_channel();
        (Self { context, engine, changed }, told)
    }

    /// Watches VaultStores. One that makes no sense stops no other.
    pub async fn watch_stores(self, synced: watch::Sender<bool>) {
        let api = realm::objects::<VaultStore>(self.context.client.clone());
        let mut listed: Vec<StoreId> = Vec::new();
        let see = |region: Region<'_>, event| match event {
            watcher::Event::Init => listed.retain(|id| !realm::is_in(&id.namespace, region)),
            // At a start all are new, and what is fresh stays fresh.
            watcher::Event::InitApply(object) => listed.push(self.see(object)),
            watcher::Event::InitDone => {
                let mut gone = self.context.errands.stores();
                gone.retain(|id| realm::is_in(&id.namespace, region) && !listed.contains(id));
                gone.iter().for_each(|id| self.forget(id));
            }
            watcher::Event::Apply(object) => drop(self.see(object)),
            watcher::Event::Delete(object) => self.forget(&id_of(&object)),
        };
        self.context.watch("VaultStores", api, &watcher::Config::default()).follow(&synced, see).await;
    }

    fn see(&self, mut object: DynamicObject) -> StoreId {
        let id = id_of(&object);
        object.metadata.managed_fields = None;
        match self.context.errands.see_store(&id, typed(object)) {
            Sight::Same => return id,
            Sight::New => self.fetch_again(&id, |_, course| course.is_failing(), true),
            // What it says now may be refused, reached or allowed, whatever it was before.
            Sight::Changed => self.fetch_again(&id, |_, _| true, true),
        }
        // Nobody listens any more when the process ends.
        let _ = self.changed.send(id.clone());
        id
    }

    fn forget(&self, id: &StoreId) {
        if self.context.errands.forget_store(id) {
            self.fetch_again(id, |_, _| true, true);
        }
    }

    /// Has objects looked at that use the store.
    fn fetch_again(&self, id: &StoreId, is_meant: impl Fn(&Key, &Course) -> bool, is_news: bool) {
        let per_second = match self.context.errands.store(id) {
            Some(Known::Store(store)) => store.spec.limits.as_ref().and_then(|limits| limits.requests_per_second),
            _ => None,
        };
        let per_second = per_second.and_then(|limit| u32::try_from(limit).ok()).unwrap_or(20);
        let looks = self.context.store().fetch_again(id, is_meant, is_news, per_second, Instant::now());
        self.engine.wake_at(looks);
    }

    /// Watches Secrets that consent to be credentials: a new one may be what a login waits for.
    pub async fn watch_credentials(self, synced: watch::Sender<bool>) {
        let api = realm::secrets(self.context.client.clone());
        let config = watcher::Config::default().labels(&format!("{VAULT_AUTH_LABEL}=true"));
        let see = |_: Region<'_>, event: watcher::Event<PartialObjectMeta<Secret>>| {
            if let watcher::Event::Apply(secret) = event {
                let namespace = secret.namespace().unwrap_or_default();
                self.where_store(&namespace, |spec| names_credential(spec, &secret.name_any()));
            }
        };
        self.context.watch("credentials", api, &config).follow(&synced, see).await;
    }

    /// Watches the labels of all namespaces: a store may allow by them.
    pub async fn watch_namespaces(self, synced: watch::Sender<bool>) {
        let api = |_: Region<'_>| Api::all(self.context.client.clone());
        let mut known: HashMap<String, BTreeMap<String, String>> = HashMap::new();
        let see = |_: Region<'_>, event: watcher::Event<PartialObjectMeta<Namespace>>| match event {
            // A list after a gap may hold what the gap has swallowed.
            watcher::Event::InitApply(namespace) | watcher::Event::Apply(namespace) => {
                let (name, labels) = (namespace.name_any(), namespace.labels().clone());
                if known.insert(name.clone(), labels.clone()).is_some_and(|before| before != labels) {
                    self.context.errands.reader().cluster().forget_labels(&name);
                    self.where_store(&name, |spec| {
                        spec.allowed_namespaces.as_ref().is_some_and(|allowed| allowed.selector.is_some())
                    });
                }
            }
            watcher::Event::Delete(namespace) => {
                let name = namespace.name_any();
                self.context.errands.reader().cluster().forget_labels(&name);
                known.remove(&name);
            }
            watcher::Event::Init | watcher::Event::InitDone => {}
        };
        self.context.watch("Namespaces", api, &watcher::Config::default()).follow(&synced, see).await;
    }

    /// Has everything of a namespace fetched again whose store is like this.
    fn where_store(&self, namespace: &str, is_like: impl Fn(&VaultStoreSpec) -> bool) {
        let stores = self.context.store().stores_of(namespace);
        for id in stores {
            if let Some(Known::Store(store)) = self.context.errands.store(&id)
                && is_like(&store.spec)
            {
                self.fetch_again(&id, |key, _| *key.namespace == *namespace, true);
            }
        }
    }

    /// Keeps the status of every store true to what is known of its server, while this replica leads.
    pub async fn keep_statuses(
        self,
        mut changed: mpsc::UnboundedReceiver<StoreId>,
        mut events: mpsc::UnboundedReceiver<StoreEvent>,
        mut term: watch::Receiver<Term>,
    ) {
        let mut late: Vec<StoreId> = Vec::new();
        let (mut probes, mut heard) = Probes::new();
        // Other news put nothing off.
        let mut retry = tokio::time::interval(RETRY);
        retry.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let mut probed = None;
            let stores = tokio::select! {
                Some(id) = changed.recv() => vec![id],
                Some(answer) = heard.recv() => vec![probed.insert(answer).id()],
                Some(StoreEvent { store, is_back }) = events.recv() => {
                    if is_back {
                        self.fetch_again(&store, |_, course| course.is_failing(), false);
                    }
                    vec![store]
                }
                Ok(()) = term.changed() => match *term.borrow_and_update() {
                    Some(_) => self.context.errands.stores(),
                    None => {
                        probes.end_all();
                        Vec::new()
                    }
                },
                _ = retry.tick(), if !late.is_empty() => std::mem::take(&mut late),
                else => return,
            };
            for id in stores {
                if self.context.writer.leads() && !self.tell(&id, probed.as_ref(), &mut probes).await {
                    late.push(id);
                }
            }
        }
    }

    /// Writes what is to be said of a store. Gives false if that is to be tried again.
    async fn tell(&self, id: &StoreId, probed: Option<&Probed>, probes: &mut Probes) -> bool {
        let errands = &self.context.errands;
        let (store, judged) = match errands.store(id) {
            Some(Known::Store(store)) => {
                let judged = errands.reader().judge(&store).await;
                (store, judged)
            }
            Some(Known::Unreadable(store)) => {
                let message = "the spec cannot be read: a field has another type than this controller expects";
                (store, StoreHealth { reason: VaultStoreReason::InvalidSpec, message: message.to_owned() })
            }
            None => {
                probes.end(id);
                return true;
            }
        };
        let is_open = is_open(&store, &judged);
        let answer = probed.filter(|probed| is_open && probed.is_of(&store));
        let health = answer.map_or(&judged, |probed| &probed.health);
        let next = status::next_of_store(&store, health, Timestamp::now());
        match condition::find(&next.conditions, READY) {
            // Of logins a server that is there says nothing.
            Some(ready) if ready.reason == VaultStoreReason::AuthFailed.as_str() => probes.end(id),
            Some(ready) if is_open && ready.status != TRUE => probes.begin(&store, errands),
            _ => probes.end(id),
        }
        // What is being asked is told in a moment.
        let is_asked = health.reason == VaultStoreReason::Unknown && answer.is_none();
        if is_asked || store.status.as_ref() == Some(&next) {
            return true;
        }
        let kind = ApiResource::erase::<VaultStore>(&());
        let api: Api<DynamicObject> = Api::namespaced_with(self.context.client.clone(), &id.namespace, &kind);
        let patch = status::patch(&store.metadata, &next, status::VAULT_STORE_FIELDS);
        match self.context.writer.patch_status(&api, &id.name, &patch).await {
            Ok(patched) => {
                self.context.report.store(&store, &next);
                self.context.errands.answered_store(id, typed(patched));
                true
            }
            Err(WriteError::Gone | WriteError::NotLeading | WriteError::Terminating) => true,
            // It changed meanwhile; the watch brings it in a moment.
            Err(WriteError::Conflict) => false,
            Err(error) => {
                warn!(store = %id, cause = error.text(), "cannot write the status of a VaultStore");
                false
            }
        }
    }
}

/// Whether nobody's use of the store tells more than this: it was not used, or its CA is not there yet.
fn is_open(store: &VaultStore, judged: &StoreHealth) -> bool {
    match judged.reason {
        VaultStoreReason::Unknown => true,
        VaultStoreReason::InvalidSpec => store.spec.tls.as_ref().is_some_and(|tls| tls.ca_from.is_some()),
        _ => false,
    }
}

fn id_of(object: &DynamicObject) -> StoreId {
    StoreId::new(&object.namespace().unwrap_or_default(), &object.name_any())
}

fn typed(object: DynamicObject) -> Known {
    let (spec, status) = (part::<VaultStoreSpec>(&object, "spec"), part(&object, "status"));
    let is_readable = spec.is_some();
    let store = VaultStore { metadata: object.metadata, spec: spec.unwrap_or_else(nowhere), status };
    if is_readable { Known::Store(Arc::new(store)) } else { Known::Unreadable(Arc::new(store)) }
}

/// A spec that leads nowhere, in place of one that cannot be read.
fn nowhere() -> VaultStoreSpec {
    VaultStoreSpec {
        address: String::new(),
        namespace: None,
        tls: None,
        auth: Default::default(),
        allowed_namespaces: None,
        allowed_paths: Vec::new(),
        limits: None,
    }
}

/// Whether logins through a store need this Secret.
fn names_credential(spec: &VaultStoreSpec, name: &str) -> bool {
    let auth = &spec.auth;
    let references = [
        auth.app_role.as_ref().map(|auth| &auth.secret_id_ref),
        auth.jwt.as_ref().and_then(|auth| auth.secret_ref.as_ref()),
        auth.token.as_ref().map(|auth| &auth.secret_ref),
    ];
    references.into_iter().flatten().any(|reference| reference.name == name)
}
