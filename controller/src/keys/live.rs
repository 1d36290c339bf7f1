//! Keeps the keys as the cluster has them: watches identities and rings, opens what they hold, publishes the index.
//!
//! ```text
//! identity Secrets, KeyRings -> Picture -+-> rings, index -> Published (to the loop, to HTTP) + status of each ring
//! ConfigMap -> Memory -------------------+
//! ```
//!
//! While this replica leads, it also makes what a fresh namespace lacks: the first identity, the ConfigMap that
//! publishes its recipient, and the first ring. A list that failed is never taken for "there is none".

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use futures::{
    StreamExt,
    stream::{self, BoxStream},
};
use k8s_openapi::{
    api::core::v1::{ConfigMap, Secret},
    jiff::Timestamp,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    core::{DeserializeGuard, ObjectMeta},
    runtime::{WatchStreamExt, watcher},
};
use seal_crds::{
    CLUSTER_CONFIG_MAP, FIELD_MANAGER, IDENTITY_SECRET_TYPE, KeyRing, KeyRingSpec, condition::KeyRingReason,
};
use seal_envelope::{Identity, Recipient};
use serde_json::json;
use tokio::{sync::watch, time::Instant};
use tracing::{error, info, warn};

use super::{ClusterIdentity, KeyIndex, Memory, OpenedRing, identity, index::Finding, rings};
use crate::{
    apply::{DEADLINE, WriteError, Writer},
    error::{ApiError, within},
    facts,
    realm::Realm,
    report::Report,
    rewatch::{Soon, cause},
    settings::FirstRing,
    status,
    store::Key,
    vault::mac::MacKey,
};

/// Marks, on the published ConfigMap, that this namespace had its first ring: it is made once and never again.
const FIRST_RING_ANNOTATION: &str = "sealwright.dev/first-ring";
/// `kubectl apply --server-side` of the committed ring then changes its own fields, and meets no conflict with a
/// manager that never touches the ring again.
const GIT_MANAGER: &str = "kubectl";
/// How soon something that could not be written is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// How soon a ring that was rewritten is looked at again: nothing tells when somebody has forgotten its old state.
const FORGIVENESS: Duration = Duration::from_secs(60);

/// What the keys look like now.
#[derive(Clone, Default)]
pub struct Published {
    /// Identities and rings have been listed, and there is an identity.
    pub is_ready: bool,
    /// Why there is none, where only a person can help.
    pub lack: Option<String>,
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
    /// Tells whether what Vault gives has changed: the key of the first identity, which stays when others are added.
    pub mac_key: Option<MacKey>,
}

/// Watches and keeps; ends only with the process.
pub struct Keeper {
    client: Client,
    writer: Writer,
    namespace: String,
    /// Whether rings in namespaces that count for nothing are seen, and told so.
    hears_of_all: bool,
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
struct Picture {
    namespace: String,
    identities: Option<BTreeMap<String, Option<ClusterIdentity>>>,
    identities_listed: BTreeMap<String, Option<ClusterIdentity>>,
    rings: Option<Rings>,
    rings_listed: Rings,
}

/// The rings that were seen.
#[derive(Default)]
struct Rings {
    /// Those of the controller's namespace, whole; none where the spec cannot be read: there is a ring all the same.
    own: BTreeMap<String, Option<KeyRing>>,
    /// Those of all others, without their specs: anybody may make any number of them.
    elsewhere: HashMap<Key, KeyRing>,
}

type RingEvent = watcher::Result<watcher::Event<DeserializeGuard<KeyRing>>>;

/// What is to be done about something that was seen.
#[derive(Debug, PartialEq)]
enum News {
    Nothing,
    /// What opens may be something else now.
    Keys,
    /// A ring that is not honoured has to be told so.
    Elsewhere(Key),
}

impl Keeper {
    /// A keeper, and what it publishes.
    pub fn new(
        client: Client,
        writer: Writer,
        (namespace, realm): (&str, &Realm),
        cluster_name: &str,
        first_ring: Option<FirstRing>,
        report: Report,
    ) -> (Self, watch::Receiver<Published>) {
        let (publish, published) = watch::channel(Published::default());
        let keeper = Self {
            client,
            writer,
            namespace: namespace.to_owned(),
            hears_of_all: *realm == Realm::Cluster,
            first_ring,
            cluster_name: cluster_name.to_owned(),
            report,
            publish,
            picture: Picture::new(namespace),
            retry: None,
            complaint: None,
        };
        (keeper, published)
    }

    /// Watches until the process ends. `led` ticks whenever this replica begins to lead. Rings that an older CRD gives
    /// lack parts: they are listed anew when the CRDs are right again.
    pub async fn run(mut self, mut led: watch::Receiver<bool>, mut is_schema_right: watch::Receiver<bool>) {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let config = watcher::Config::default().fields(&format!("type={IDENTITY_SECRET_TYPE}"));
        let mut identities = watcher(secrets, config).backoff(Soon::default()).boxed();
        let mut rings = self.watch_rings(*is_schema_right.borrow_and_update());
        loop {
            let retry = self.retry;
            let news = tokio::select! {
                Some(event) = identities.next() => match event {
                    Ok(event) => self.picture.see_identity(event),
                    Err(error) => { watch_failed("identity Secrets", error); News::Nothing }
                },
                Some(event) = rings.next() => match event {
                    Ok(event) => self.picture.see_ring(event),
                    Err(error) => { watch_failed("KeyRings", error); News::Nothing }
                },
                Ok(()) = led.changed() => News::Keys,
                Ok(()) = is_schema_right.changed() => {
                    rings = self.watch_rings(*is_schema_right.borrow_and_update());
                    News::Nothing
                },
                () = tokio::time::sleep_until(retry.unwrap_or_else(Instant::now)), if retry.is_some() => News::Keys,
                else => return,
            };
            match news {
                News::Nothing => {}
                News::Keys => {
                    self.retry = None;
                    self.refresh().await;
                }
                News::Elsewhere(key) => self.tell_elsewhere(&key).await,
            }
        }
    }

    /// The rings, with those of other namespaces where they may be seen; none come while the CRDs are not right.
    fn watch_rings(&mut self, is_schema_right: bool) -> BoxStream<'static, RingEvent> {
        self.picture.rings = None;
        if !is_schema_right {
            return stream::pending().boxed();
        }
        let rings: Api<DeserializeGuard<KeyRing>> = match self.hears_of_all {
            true => Api::all(self.client.clone()),
            false => Api::namespaced(self.client.clone(), &self.namespace),
        };
        watcher(rings, watcher::Config::default().page_size(50)).backoff(Soon::default()).boxed()
    }

    /// Opens everything anew, publishes it, and writes what is to be written.
    async fn refresh(&mut self) {
        let (Some(identities), Some(rings)) = (&self.picture.identities, &self.picture.rings) else { return };
        let identities: Vec<_> = identities.values().flatten().cloned().collect();
        let has_identity_secret = !self.picture.identities.as_ref().is_some_and(BTreeMap::is_empty);
        let own: Vec<_> = rings.own.values().flatten().cloned().collect();
        let has_ring = !rings.own.is_empty();
        let elsewhere: Vec<_> = rings.elsewhere.keys().cloned().collect();

        let configs: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace);
        let config = match within(DEADLINE, configs.get_opt(CLUSTER_CONFIG_MAP)).await {
            Ok(config) => config,
            // Without what is remembered, nothing can be said of a ring.
            Err(error) => return self.complain(Lack::Read(error)),
        };
        let mut memory = config.as_ref().map(Memory::read).unwrap_or_default();

        let Some((opened, findings, index)) = opened(&own, &identities, &memory).await else {
            // A panic, which the hook has logged. What is known stays.
            self.retry = Some(Instant::now() + RETRY);
            return;
        };
        let verdicts: Vec<_> = opened.iter().map(|ring| verdict(ring, &findings)).collect();
        let lost = Lack::of_identity(&identities, has_identity_secret, config.is_some());
        self.publish.send_replace(Published {
            is_ready: !identities.is_empty(),
            lack: lost.as_ref().map(ToString::to_string),
            recipient: identity::published(&identities).map(|own| own.identity.recipient().clone()),
            identities: identities.len(),
            rings: opened.clone(),
            findings,
            index: Arc::new(index),
            mac_key: identities.iter().min_by_key(|own| own.number).map(|own| MacKey::of(&own.identity)),
        });

        if !self.writer.leads() {
            return;
        }
        opened.iter().for_each(|ring| memory.learn(ring));
        let provided = match lost {
            Some(lost) => Err(lost),
            None => self.provide(&identities, (config, &memory), has_ring).await,
        };
        match provided {
            Ok(()) => self.complaint = None,
            // Somebody else was faster: it is read again.
            Err(Lack::Write(WriteError::Conflict)) => self.retry = Some(Instant::now() + RETRY),
            Err(error) => self.complain(error),
        }
        if opened.iter().any(|ring| ring.reason == KeyRingReason::KeysRewritten) {
            self.retry.get_or_insert(Instant::now() + FORGIVENESS);
        }
        for (object, (ring, (reason, message))) in own.iter().zip(opened.iter().zip(&verdicts)) {
            let next = status::next_of_ring(object, ring, (*reason, message), Timestamp::now());
            self.tell(object, next).await;
        }
        for key in &elsewhere {
            self.tell_elsewhere(key).await;
        }
    }

    /// Tells a ring of another namespace that it is not honoured. What opens has nothing to do with it.
    async fn tell_elsewhere(&mut self, key: &Key) {
        let object = self.picture.rings.as_ref().and_then(|rings| rings.elsewhere.get(key)).cloned();
        if let Some(object) = object.filter(|_| self.writer.leads()) {
            self.tell(&object, status::not_honoured(&object, &self.namespace, Timestamp::now())).await;
        }
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
        (config, memory): (Option<ConfigMap>, &Memory),
        has_ring: bool,
    ) -> Result<(), Lack> {
        let configs: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace);
        let Some(own) = identity::published(identities) else {
            // The watch brings it back to us; until then there is nothing to publish.
            return self.make_identity().await;
        };
        let had_first_ring =
            config.as_ref().is_some_and(|config| config.annotations().contains_key(FIRST_RING_ANNOTATION));
        let mut wanted = identity::cluster_config_map(&self.namespace, own);
        wanted.data.get_or_insert_default().extend(memory.data());
        // What others keep in it is theirs.
        let held = config.as_ref().and_then(|config| config.data.as_ref());
        let is_held = |(key, value): (&String, &String)| held.and_then(|held| held.get(key)) == Some(value);
        let recipient_in = |data: &BTreeMap<String, String>| data.get(identity::RECIPIENT_KEY).cloned();
        let published = held.and_then(recipient_in);
        if published.is_some() && published != wanted.data.as_ref().and_then(recipient_in) {
            warn!("the published recipient was another: somebody added an identity, or wrote to {CLUSTER_CONFIG_MAP}");
        }
        if !wanted.data.iter().flatten().all(is_held) || (has_ring && !had_first_ring) {
            // What was read, or read again: a line that a person took out meanwhile is not put back. Absent: see `apply`.
            let version = config.as_ref().map_or_else(|| Some("1".to_owned()), ResourceExt::resource_version);
            let mut body = json!({
                "apiVersion": "v1", "kind": "ConfigMap", "data": wanted.data,
                "metadata": {"name": CLUSTER_CONFIG_MAP, "resourceVersion": version},
            });
            if has_ring || had_first_ring {
                body["metadata"]["annotations"] = json!({FIRST_RING_ANNOTATION: "made"});
            }
            self.writer.apply_own(&configs, CLUSTER_CONFIG_MAP, FIELD_MANAGER, &body).await?;
            info!(config_map = CLUSTER_CONFIG_MAP, key = %own.identity.recipient().key_id(), "published the cluster's recipient and the keys of its rings");
        }
        match &self.first_ring {
            Some(first) if !has_ring && !had_first_ring => self.make_ring(first.clone(), own).await,
            _ => Ok(()),
        }
    }

    async fn make_identity(&self) -> Result<(), Lack> {
        let identity = Identity::generate().map_err(|_| Lack::Randomness)?;
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let mut secret = identity::new_secret(&self.namespace, 1, &identity);
        let made = self.writer.create(&secrets, &secret).await;
        facts::wipe(&mut secret);
        facts::wipe(&mut made?);
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

impl Lack {
    /// Why there is no identity and none is made.
    fn of_identity(identities: &[ClusterIdentity], has_secret: bool, had_one: bool) -> Option<Self> {
        match (identities.is_empty(), has_secret, had_one) {
            (true, true, _) => Some(Self::NoneReadable),
            (true, false, true) => Some(Self::Lost),
            _ => None,
        }
    }
}

/// Opens all rings, away from the async workers. None: it panicked.
async fn opened(
    own: &[KeyRing],
    identities: &[ClusterIdentity],
    memory: &Memory,
) -> Option<(Vec<OpenedRing>, Vec<Finding>, KeyIndex)> {
    let (own, identities, memory) = (own.to_vec(), identities.to_vec(), memory.clone());
    let work = move || {
        let open = |ring: &KeyRing| rings::open(ring, &identities, memory.of(&ring.name_any()));
        let opened: Vec<_> = own.iter().map(open).collect();
        let (index, findings) = KeyIndex::new(&opened);
        (opened, findings, index)
    };
    tokio::task::spawn_blocking(work).await.ok()
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
    warn!(what, cause = cause(error).text(), "a watch failed and is begun again");
}

impl Picture {
    fn new(namespace: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            identities: None,
            identities_listed: BTreeMap::new(),
            rings: None,
            rings_listed: Rings::default(),
        }
    }

    fn see_identity(&mut self, event: watcher::Event<Secret>) -> News {
        match event {
            watcher::Event::Init => self.identities_listed = BTreeMap::new(),
            watcher::Event::InitApply(secret) => self.identities_listed.extend([taken(secret)]),
            watcher::Event::InitDone => {
                self.identities = Some(std::mem::take(&mut self.identities_listed));
                return News::Keys;
            }
            watcher::Event::Apply(secret) => {
                self.identities.get_or_insert_default().extend([taken(secret)]);
                return News::Keys;
            }
            watcher::Event::Delete(mut secret) => {
                facts::wipe(&mut secret);
                self.identities.get_or_insert_default().remove(&secret.name_any());
                return News::Keys;
            }
        }
        News::Nothing
    }

    fn see_ring(&mut self, event: watcher::Event<DeserializeGuard<KeyRing>>) -> News {
        match event {
            watcher::Event::Init => self.rings_listed = Rings::default(),
            watcher::Event::InitApply(ring) => drop(self.rings_listed.put(&self.namespace, ring)),
            watcher::Event::InitDone => {
                self.rings = Some(std::mem::take(&mut self.rings_listed));
                return News::Keys;
            }
            watcher::Event::Apply(ring) => return self.rings.get_or_insert_default().put(&self.namespace, ring),
            watcher::Event::Delete(ring) => {
                let rings = self.rings.get_or_insert_default();
                let key = key(&ring);
                if *key.namespace == *self.namespace {
                    rings.own.remove(&*key.name);
                    return News::Keys;
                }
                rings.elsewhere.remove(&key);
            }
        }
        News::Nothing
    }

    /// A ring as our own status patch left it: its event is no news then.
    fn remember(&mut self, ring: KeyRing) {
        drop(self.rings.get_or_insert_default().put(&self.namespace, DeserializeGuard(Ok(ring))));
    }
}

impl Rings {
    fn put(&mut self, own_namespace: &str, ring: DeserializeGuard<KeyRing>) -> News {
        let key = key(&ring);
        if *key.namespace != *own_namespace {
            // One that cannot be read is not worth a word: it would not be honoured anyway.
            let Ok(ring) = ring.0.map(outline) else { return News::Nothing };
            let old = self.elsewhere.insert(key.clone(), ring.clone());
            return if old.as_ref() == Some(&ring) { News::Nothing } else { News::Elsewhere(key) };
        }
        match ring.0 {
            Ok(mut ring) => {
                ring.metadata.managed_fields = None;
                let old = self.own.insert(key.name.to_string(), Some(ring.clone())).flatten();
                if old.as_ref() == Some(&ring) { News::Nothing } else { News::Keys }
            }
            Err(_) => {
                error!(ring = &*key.name, "a KeyRing is skipped: its spec cannot be read");
                self.own.entry(key.name.to_string()).or_default();
                News::Nothing
            }
        }
    }
}

/// What is needed of a ring to tell it that it is not honoured.
fn outline(ring: KeyRing) -> KeyRing {
    let ObjectMeta { name, namespace, uid, resource_version, generation, .. } = ring.metadata;
    KeyRing {
        metadata: ObjectMeta { name, namespace, uid, resource_version, generation, ..ObjectMeta::default() },
        spec: KeyRingSpec { members: Vec::new(), keys: Vec::new(), proof: String::new() },
        status: ring.status,
    }
}

/// The identity in a Secret, if there is one, by its name.
fn taken(mut secret: Secret) -> (String, Option<ClusterIdentity>) {
    let name = secret.name_any();
    let read =
        identity::read(&secret).inspect_err(|error| error!(secret = name, "an identity Secret is skipped: {error}"));
    facts::wipe(&mut secret);
    (name, read.ok())
}

fn key(ring: &impl Resource) -> Key {
    let ObjectMeta { namespace, name, .. } = ring.meta();
    Key::new(namespace.as_deref().unwrap_or_default(), name.as_deref().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const OWN: &str = "sealwright-system";

    fn ring(namespace: &str, spec: Value) -> DeserializeGuard<KeyRing> {
        serde_json::from_value(json!({
            "apiVersion": "sealwright.dev/v1alpha1", "kind": "KeyRing",
            "metadata": {"name": "prod", "namespace": namespace, "uid": "u", "annotations": {"large": "x"}},
            "spec": spec,
        }))
        .unwrap()
    }

    fn spec() -> Value {
        json!({"members": [{"name": "prod-eu", "recipient": "r"}], "keys": [], "proof": "p"})
    }

    fn listed(rings: impl IntoIterator<Item = DeserializeGuard<KeyRing>>) -> Picture {
        let mut picture = Picture::new(OWN);
        picture.see_ring(watcher::Event::Init);
        for ring in rings {
            picture.see_ring(watcher::Event::InitApply(ring));
        }
        assert_eq!(picture.see_ring(watcher::Event::InitDone), News::Keys);
        picture
    }

    #[test]
    fn a_ring_elsewhere_is_kept_without_its_content_and_opens_nothing_anew() {
        let mut picture = listed([ring(OWN, spec())]);
        let elsewhere = Key::new("shop", "prod");
        let seen = picture.see_ring(watcher::Event::Apply(ring("shop", spec())));
        assert_eq!(seen, News::Elsewhere(elsewhere.clone()));
        assert_eq!(picture.see_ring(watcher::Event::Apply(ring("shop", spec()))), News::Nothing);
        let kept = &picture.rings.as_ref().unwrap().elsewhere[&elsewhere];
        assert!(kept.spec.members.is_empty() && kept.metadata.annotations.is_none());
        assert_eq!(picture.see_ring(watcher::Event::Delete(ring("shop", spec()))), News::Nothing);
        assert!(picture.rings.as_ref().unwrap().elsewhere.is_empty());

        assert_eq!(picture.see_ring(watcher::Event::Apply(ring(OWN, spec()))), News::Nothing);
        assert_eq!(picture.see_ring(watcher::Event::Delete(ring(OWN, spec()))), News::Keys);
    }

    #[test]
    fn a_ring_that_cannot_be_read_is_a_ring_all_the_same() {
        let unreadable = || ring(OWN, json!({"members": "hunter2"}));
        assert!(unreadable().0.is_err());
        let rings = listed([unreadable()]).rings.unwrap();
        assert!(rings.own.contains_key("prod") && rings.own.values().flatten().next().is_none());

        let mut picture = listed([ring(OWN, spec())]);
        assert_eq!(picture.see_ring(watcher::Event::Apply(unreadable())), News::Nothing);
        assert!(picture.rings.unwrap().own["prod"].is_some(), "what it opened it goes on opening");
    }
}
