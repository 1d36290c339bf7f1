//! Keeps the keys as the cluster has them: watches identities and rings, opens what they hold, publishes the index.
//!
//! ```text
//! identity Secrets, KeyRings -> Picture -> rings, index -> Published (to the loop, to HTTP) + status of each ring
//! ```
//!
//! While this replica leads, it also makes what a fresh namespace lacks: the first identity, the ConfigMap that
//! publishes its recipient, and the first ring. A list that failed is never taken for "there is none".

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use futures::StreamExt;
use k8s_openapi::{
    api::core::v1::{ConfigMap, Secret},
    jiff::Timestamp,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    core::DeserializeGuard,
    runtime::{WatchStreamExt, watcher},
};
use seal_crds::{CLUSTER_CONFIG_MAP, FIELD_MANAGER, IDENTITY_SECRET_TYPE, KeyRing, condition::KeyRingReason};
use seal_envelope::{Identity, Recipient};
use serde_json::json;
use tokio::{sync::watch, time::Instant};
use tracing::{error, info, warn};

use super::{ClusterIdentity, KeyIndex, OpenedRing, identity, index::Finding, rings};
use crate::{
    apply::{DEADLINE, WriteError, Writer},
    error::{ApiError, within},
    report::Report,
    rewatch::Soon,
    settings::FirstRing,
    status,
    store::Key,
    wiring::watch_error,
};

/// Marks, on the published ConfigMap, that this namespace had its first ring: it is made once and never again.
const FIRST_RING_ANNOTATION: &str = "sealwright.dev/first-ring";
/// `kubectl apply --server-side` of the committed ring then changes its own fields, and meets no conflict with a
/// manager that never touches the ring again.
const GIT_MANAGER: &str = "kubectl";
/// How soon something that could not be written is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// What the keys look like now.
#[derive(Clone, Default)]
pub struct Published {
    /// Identities and rings have been listed, and there is an identity.
    pub is_ready: bool,
    /// The cluster's recipient.
    pub recipient: Option<Recipient>,
    /// How many identities there are.
    pub identities: usize,
    /// The rings of the controller's namespace.
    pub rings: Vec<OpenedRing>,
    /// What is wrong between them.
    pub findings: Vec<Finding>,
    /// What can be opened.
    pub index: Arc<KeyIndex>,
}

/// Watches and keeps; ends only with the process.
pub struct Keeper {
    client: Client,
    writer: Writer,
    namespace: String,
    first_ring: Option<FirstRing>,
    cluster_name: String,
    report: Report,
    publish: watch::Sender<Published>,
    picture: Picture,
    /// When what could not be written is tried again.
    retry: Option<Instant>,
    /// What was said last about the lack of an identity, so that it is said once.
    complaint: Option<String>,
}

/// What was seen.
#[derive(Default)]
struct Picture {
    identities: Option<BTreeMap<String, Option<ClusterIdentity>>>,
    identities_listed: BTreeMap<String, Option<ClusterIdentity>>,
    rings: Option<HashMap<Key, KeyRing>>,
    rings_listed: HashMap<Key, KeyRing>,
}

impl Keeper {
    /// A keeper, and what it publishes.
    pub fn new(
        client: Client,
        writer: Writer,
        namespace: &str,
        cluster_name: &str,
        first_ring: Option<FirstRing>,
        report: Report,
    ) -> (Self, watch::Receiver<Published>) {
        let (publish, published) = watch::channel(Published::default());
        let keeper = Self {
            client,
            writer,
            namespace: namespace.to_owned(),
            first_ring,
            cluster_name: cluster_name.to_owned(),
            report,
            publish,
            picture: Picture::default(),
            retry: None,
            complaint: None,
        };
        (keeper, published)
    }

    /// Watches until the process ends. `led` ticks whenever this replica begins to lead.
    pub async fn run(mut self, mut led: watch::Receiver<bool>) {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let config = watcher::Config::default().fields(&format!("type={IDENTITY_SECRET_TYPE}"));
        let mut identities = watcher(secrets, config).backoff(Soon::default()).boxed();
        let rings: Api<DeserializeGuard<KeyRing>> = Api::all(self.client.clone());
        let mut rings = watcher(rings, watcher::Config::default().page_size(50)).backoff(Soon::default()).boxed();
        loop {
            let retry = self.retry;
            let is_new = tokio::select! {
                Some(event) = identities.next() => match event {
                    Ok(event) => self.picture.see_identity(event),
                    Err(error) => { watch_failed("identity Secrets", error); false }
                },
                Some(event) = rings.next() => match event {
                    Ok(event) => self.picture.see_ring(event),
                    Err(error) => { watch_failed("KeyRings", error); false }
                },
                Ok(()) = led.changed() => true,
                () = tokio::time::sleep_until(retry.unwrap_or_else(Instant::now)), if retry.is_some() => true,
                else => return,
            };
            if is_new {
                self.retry = None;
                self.refresh().await;
            }
        }
    }

    /// Opens everything anew, publishes it, and writes what is to be written.
    async fn refresh(&mut self) {
        let (Some(identities), Some(rings)) = (&self.picture.identities, &self.picture.rings) else { return };
        let identities: Vec<_> = identities.values().flatten().cloned().collect();
        let has_identity_secret = !self.picture.identities.as_ref().is_some_and(BTreeMap::is_empty);
        let own: Vec<_> = rings.values().filter(|ring| self.is_own(ring)).cloned().collect();
        let others: Vec<_> = rings.values().filter(|ring| !self.is_own(ring)).cloned().collect();

        let (opened, findings, index) = opened(&own, &identities).await;
        let verdicts: Vec<_> = opened.iter().map(|ring| verdict(ring, &findings)).collect();
        self.publish.send_replace(Published {
            is_ready: !identities.is_empty(),
            recipient: identity::published(&identities).map(|own| own.identity.recipient().clone()),
            identities: identities.len(),
            rings: opened.clone(),
            findings,
            index: Arc::new(index),
        });

        if !self.writer.leads() {
            return;
        }
        if let Err(error) = self.provide(&identities, has_identity_secret, !own.is_empty()).await {
            self.complain(error);
        }
        for (object, (ring, (reason, message))) in own.iter().zip(opened.iter().zip(&verdicts)) {
            let next = status::next_of_ring(object, ring, (*reason, message), Timestamp::now());
            self.tell(object, next).await;
        }
        for object in &others {
            self.tell(object, status::not_honoured(object, &self.namespace, Timestamp::now())).await;
        }
    }

    fn is_own(&self, ring: &KeyRing) -> bool {
        ring.metadata.namespace.as_deref() == Some(&self.namespace)
    }

    async fn tell(&mut self, object: &KeyRing, next: seal_crds::KeyRingStatus) {
        if object.status.as_ref() == Some(&next) {
            return;
        }
        let api: Api<KeyRing> = Api::namespaced(self.client.clone(), &object.namespace().unwrap_or_default());
        let patch = status::patch(&object.metadata, &next, status::KEY_RING_FIELDS);
        match self.writer.patch_status(&api, &object.name_any(), &patch).await {
            Ok(patched) => {
                self.report.ring(object, &next.conditions);
                self.picture.remember(patched);
            }
            // The event that follows brings us back.
            Err(WriteError::Conflict | WriteError::Gone | WriteError::NotLeading | WriteError::Terminating) => {}
            Err(error) => {
                warn!(ring = object.name_any(), "cannot write the status of a KeyRing: {}", error.text());
                self.retry = Some(Instant::now() + RETRY);
            }
        }
    }

    /// Makes what a fresh namespace lacks.
    async fn provide(
        &mut self,
        identities: &[ClusterIdentity],
        has_identity_secret: bool,
        has_ring: bool,
    ) -> Result<(), Lack> {
        let configs: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace);
        let config = within(DEADLINE, configs.get_opt(CLUSTER_CONFIG_MAP)).await?;
        let Some(own) = identity::published(identities) else {
            if has_identity_secret {
                return Err(Lack::NoneReadable);
            }
            if config.is_some() {
                return Err(Lack::Lost);
            }
            // The watch brings it back to us; until then there is nothing to publish.
            return self.make_identity().await;
        };
        let had_first_ring =
            config.as_ref().is_some_and(|config| config.annotations().contains_key(FIRST_RING_ANNOTATION));
        let wanted = identity::cluster_config_map(&self.namespace, own);
        if config.as_ref().and_then(|config| config.data.as_ref()) != wanted.data.as_ref()
            || (has_ring && !had_first_ring)
        {
            let mut body = json!({
                "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": CLUSTER_CONFIG_MAP}, "data": wanted.data,
            });
            if has_ring || had_first_ring {
                body["metadata"]["annotations"] = json!({FIRST_RING_ANNOTATION: "made"});
            }
            self.writer.apply_own(&configs, CLUSTER_CONFIG_MAP, FIELD_MANAGER, &body).await?;
            info!(config_map = CLUSTER_CONFIG_MAP, key = %own.identity.recipient().key_id(), "published the cluster's recipient");
        }
        match &self.first_ring {
            Some(first) if !has_ring && !had_first_ring => self.make_ring(first.clone(), own).await,
            _ => Ok(()),
        }
    }

    async fn make_identity(&self) -> Result<(), Lack> {
        let identity = Identity::generate().map_err(|_| Lack::Randomness)?;
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        self.writer.create(&secrets, &identity::new_secret(&self.namespace, 1, &identity)).await?;
        info!(key = %identity.recipient().key_id(), "made the first identity");
        Ok(())
    }

    async fn make_ring(&self, first: FirstRing, own: &ClusterIdentity) -> Result<(), Lack> {
        let cluster =
            seal_envelope::Member { name: self.cluster_name.clone(), recipient: own.identity.recipient().clone() };
        let recovery = first.recovery.into_iter().zip(1..).map(|(recipient, position)| seal_envelope::Member {
            name: if position == 1 { "recovery".to_owned() } else { format!("recovery-{position}") },
            recipient,
        });
        let members = std::iter::once(cluster).chain(recovery).collect();
        let ring = rings::first_ring(&self.namespace, &first.name, members, Timestamp::now())?;
        let mut body = serde_json::to_value(&ring).map_err(|_| Lack::Randomness)?;
        // Absent, or refused: see `apply`.
        body["metadata"]["resourceVersion"] = json!("1");
        let api: Api<KeyRing> = Api::namespaced(self.client.clone(), &self.namespace);
        self.writer.apply_own(&api, &first.name, GIT_MANAGER, &body).await?;
        info!(ring = first.name, "made the first key ring; commit it with `seal init --from-cluster`");
        Ok(())
    }

    fn complain(&mut self, lack: Lack) {
        self.retry = Some(Instant::now() + RETRY);
        let text = lack.to_string();
        if self.complaint.as_ref() != Some(&text) {
            error!("{text}");
            self.complaint = Some(text);
        }
    }
}

/// Why the namespace lacks something that could not be made.
#[derive(Debug, thiserror::Error)]
enum Lack {
    #[error(
        "ConfigMap {CLUSTER_CONFIG_MAP} says that this cluster had an identity, and there is none: restore the Secret \
         identity-1 from a backup, or delete the ConfigMap to give up everything that was sealed for it"
    )]
    Lost,
    #[error("none of the Secrets of type {IDENTITY_SECRET_TYPE} holds an identity; no other is made")]
    NoneReadable,
    #[error("the operating system gives no random bytes")]
    Randomness,
    #[error("cannot make the first key ring: {0}")]
    Ring(#[from] rings::FirstRingError),
    #[error("{}", .0.text())]
    Write(#[from] WriteError),
    #[error("cannot read ConfigMap {CLUSTER_CONFIG_MAP}: {0}")]
    Read(#[from] ApiError),
}

/// Opens all rings, away from the async workers.
async fn opened(own: &[KeyRing], identities: &[ClusterIdentity]) -> (Vec<OpenedRing>, Vec<Finding>, KeyIndex) {
    let (own, identities) = (own.to_vec(), identities.to_vec());
    let work = move || {
        let opened: Vec<_> = own.iter().map(|ring| rings::open(ring, &identities)).collect();
        let (index, findings) = KeyIndex::new(&opened);
        (opened, findings, index)
    };
    tokio::task::spawn_blocking(work).await.unwrap_or_default()
}

/// The worst that is wrong with a ring, by itself or beside the others.
fn verdict(ring: &OpenedRing, findings: &[Finding]) -> (KeyRingReason, String) {
    let finding = findings.iter().find(|finding| finding.ring == ring.name);
    match finding {
        Some(finding) if finding.reason == KeyRingReason::MemberIsRingKey || ring.reason == KeyRingReason::Opened => {
            (finding.reason, finding.message.clone())
        }
        _ => (ring.reason, ring.message.clone()),
    }
}

fn watch_failed(what: &str, error: watcher::Error) {
    warn!(what, cause = watch_error(error), "a watch failed and is begun again");
}

impl Picture {
    /// Gives whether anything is to be done about it.
    fn see_identity(&mut self, event: watcher::Event<Secret>) -> bool {
        match event {
            watcher::Event::Init => self.identities_listed = BTreeMap::new(),
            watcher::Event::InitApply(secret) => drop(self.identities_listed.insert(secret.name_any(), read(&secret))),
            watcher::Event::InitDone => {
                self.identities = Some(std::mem::take(&mut self.identities_listed));
                return true;
            }
            watcher::Event::Apply(secret) => {
                self.identities.get_or_insert_default().insert(secret.name_any(), read(&secret));
                return true;
            }
            watcher::Event::Delete(secret) => {
                self.identities.get_or_insert_default().remove(&secret.name_any());
                return true;
            }
        }
        false
    }

    fn see_ring(&mut self, event: watcher::Event<DeserializeGuard<KeyRing>>) -> bool {
        match event {
            watcher::Event::Init => self.rings_listed = HashMap::new(),
            watcher::Event::InitApply(ring) => {
                if let Some(ring) = readable(ring) {
                    self.rings_listed.insert(key(&ring), ring);
                }
            }
            watcher::Event::InitDone => {
                self.rings = Some(std::mem::take(&mut self.rings_listed));
                return true;
            }
            watcher::Event::Apply(ring) => {
                let Some(ring) = readable(ring) else { return false };
                let known = self.rings.get_or_insert_default();
                let is_new = known.get(&key(&ring)) != Some(&ring);
                known.insert(key(&ring), ring);
                return is_new;
            }
            watcher::Event::Delete(ring) => {
                let key = Key::new(&ring.namespace().unwrap_or_default(), &ring.name_any());
                self.rings.get_or_insert_default().remove(&key);
                return true;
            }
        }
        false
    }

    /// A ring as our own status patch left it: its event is no news then.
    fn remember(&mut self, mut ring: KeyRing) {
        ring.metadata.managed_fields = None;
        self.rings.get_or_insert_default().insert(key(&ring), ring);
    }
}

fn read(secret: &Secret) -> Option<ClusterIdentity> {
    match identity::read(secret) {
        Ok(identity) => Some(identity),
        Err(error) => {
            error!(secret = secret.name_any(), "an identity Secret is skipped: {error}");
            None
        }
    }
}

fn readable(ring: DeserializeGuard<KeyRing>) -> Option<KeyRing> {
    match ring.0 {
        Ok(mut ring) => {
            ring.metadata.managed_fields = None;
            Some(ring)
        }
        Err(invalid) => {
            let ring = invalid.metadata.name.as_deref().unwrap_or_default();
            error!(ring, "a KeyRing is skipped: its spec cannot be read");
            None
        }
    }
}

fn key(ring: &KeyRing) -> Key {
    Key::new(ring.meta().namespace.as_deref().unwrap_or_default(), &ring.name_any())
}
