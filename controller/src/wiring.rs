//! Joins client, watches, store, keys, loop, lease and servers; decides nothing.
//!
//! ```text
//! watches -> Store -> Engine -> API server
//! Keeper -> KeyIndex --^          ^-- Writer <- lease, schema
//! ```

use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{ConfigMap, Secret},
};
use kube::{
    Api, Client, Config,
    api::PartialObjectMeta,
    config::{AuthInfo, KubeConfigOptions, Kubeconfig},
    runtime::watcher,
};
use seal_crds::{OWNER_LABEL, SealedSecret};
use seal_envelope::Recipient;
use thiserror::Error;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::{mpsc, oneshot, watch},
};
use tracing::info;

use crate::{
    apply::Writer,
    engine::Engine,
    events,
    http::{self, Served},
    keys::{
        KeyIndex,
        live::{Keeper, Published},
    },
    leading, lease,
    metrics::Metrics,
    realm::{self, Realm, Region},
    report::Report,
    schema,
    sealed::{Context, decide, read},
    settings::{Cluster, Settings},
    store::{Cause, Key, Store, Wake},
    vault::{self, errand::Errands, mac::MacKey, reader::Reader, stores::Desk},
};

/// Bytes of sealed objects that may wait for their turn in memory; those beyond are fetched again.
const WAITING_BUDGET: usize = 12 * 1024 * 1024;

/// Why the controller ended.
#[derive(Debug, Error)]
pub enum RunError {
    /// No way to the API server is configured.
    #[error("cannot tell how to reach the API server; outside of a pod, give --kubeconfig FILE")]
    Config(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The client cannot be made.
    #[error("cannot make a client of the API server")]
    Client(#[source] kube::Error),
    /// No signal handler.
    #[error("cannot listen for signals")]
    Signals(#[source] std::io::Error),
    /// The address of the HTTP endpoints is taken, or not ours.
    #[error("cannot listen for HTTP")]
    Listen(#[source] std::io::Error),
    /// The lease says that this process must not go on.
    #[error("cannot go on")]
    Lease(#[source] lease::Error),
    /// A task that must never end did.
    #[error("the task of the {0} ended")]
    Ended(&'static str),
}

/// Runs until a signal ends it.
pub async fn run(settings: Settings) -> Result<(), RunError> {
    let config = config(&settings.cluster).await?;
    let client = client(config.clone())?;
    let (announcement, leadership) = lease::leadership();
    let (schema_right, is_schema_right) = watch::channel(false);
    let writer = Writer::new(client.clone(), leadership.clone(), is_schema_right.clone());
    let metrics = Arc::new(Metrics::new());
    let (events, publisher) = events::channel(client.clone(), &settings.replica, metrics.clone());
    let report = Report { metrics, events };

    let (active, term) = watch::channel(None);
    let (synced_objects, objects) = watch::channel(false);
    let (synced_secrets, secrets) = watch::channel(false);
    let (stop, stopped) = watch::channel(false);
    let (drained, is_drained) = oneshot::channel::<()>();
    let (led, is_led) = watch::channel(false);
    let (ready, is_ready) = watch::channel(false);
    let (hindrance, outdated) = watch::channel(None);
    let (lack, lacking) = watch::channel(None);
    let (recipient, published_recipient) = watch::channel(None);
    let (synced_stores, stores) = watch::channel(!settings.serves_vault);
    let (mac_key, is_mac_key) = watch::channel(None);

    let (keeper, published) = Keeper::new(
        client.clone(),
        writer.clone(),
        (&settings.namespace, &settings.realm),
        &settings.cluster_name,
        settings.first_ring.clone(),
        report.clone(),
    );
    let (index, keys) = watch::channel(Arc::new(KeyIndex::default()));
    let cluster = vault::cluster::Cluster::new(client.clone(), settings.vault_allows_api_audience);
    let cluster = match settings.realm {
        Realm::Cluster => cluster,
        Realm::Namespaces(_) => cluster.without_reviews(self::client(anonymous(config))?),
    };
    let (reader, store_events) = Reader::new(cluster, report.metrics.vault().clone());
    let (errands, answered) = Errands::new(reader, settings.serves_vault, is_mac_key);
    let context = Context {
        client: client.clone(),
        writer,
        store: Arc::new(Mutex::new(Store::new(WAITING_BUDGET))),
        keys,
        own_namespace: settings.namespace.as_str().into(),
        realm: settings.realm.clone(),
        errands: errands.clone(),
        verify_every: settings.verify_every,
        report,
    };
    let store = context.store.clone();
    context.report.metrics.refresh_with(move |metrics| {
        let store = store.lock().unwrap_or_else(PoisonError::into_inner);
        metrics.objects(store.readiness());
        metrics.key_objects(store.key_uses());
    });
    let engine = Engine::new(context.clone(), settings.workers, term.clone());
    let (desk, changed_stores) = Desk::new(context.clone(), engine.clone());

    let leases: Api<Lease> = Api::namespaced(client.clone(), &settings.namespace);
    let election = lease::Settings::new(settings.replica.clone());
    let configs: Api<ConfigMap> = Api::namespaced(client.clone(), &settings.namespace);
    let mut election = tokio::spawn(lease::run((leases, configs), election, announcement, async {
        is_drained.await.ok();
    }));
    let authority = leading::authority(leadership, is_schema_right.clone(), led, context.report.metrics.clone());
    let (loaded, is_loaded) = watch::channel(false);
    let readiness = leading::readiness(is_led.clone(), objects, secrets, stores, is_loaded, (ready, active));
    let notice = schema::Notice { is_right: schema_right, hindrance, report: context.report.clone() };
    let served = served(&context, (is_ready, vec![outdated, lacking]), published_recipient);
    let object_watch = watch_objects(is_schema_right.clone(), context.clone(), engine.clone(), synced_objects);
    let secret_watch = watch_secrets(context.clone(), engine.clone(), synced_secrets);
    let key_watch = follow_keys(published, (index, mac_key, recipient, loaded, lack), context.clone(), engine.clone());
    let store_watch = watch_stores(is_schema_right.clone(), desk.clone(), synced_stores);
    let credential_watch = desk.clone().watch_credentials(watch::Sender::new(false));
    // Nobody may watch one namespace by its name: its labels are asked for when they count.
    let sees_namespaces = settings.serves_vault && settings.realm == Realm::Cluster;
    let namespace_watch = desk.clone().watch_namespaces(watch::Sender::new(false));
    let store_statuses = desk.keep_statuses(changed_stores, store_events, term);
    let answers = follow_answers(answered, engine.clone());
    let mut work = tokio::spawn(engine.run(stopped));
    let mut signals = Signals::new()?;
    let listener = TcpListener::bind(settings.listen).await.map_err(RunError::Listen)?;
    let mut http_stopped = stop.subscribe();
    let mut server = tokio::spawn(http::serve(listener, served, http::Limits::default(), async move {
        http_stopped.wait_for(|stop| *stop).await.ok();
    }));
    info!(namespace = settings.namespace, replica = settings.replica, "started");

    let ended = tokio::select! {
        () = signals.end() => None,
        end = &mut election => Some(lease_ended(end)),
        _ = &mut work => Some(RunError::Ended("loop")),
        _ = &mut server => Some(RunError::Ended("HTTP server")),
        end = task("CRD watch", schema::keep(client, settings.realm, notice)) => Some(end),
        end = task("leadership", authority) => Some(end),
        end = task("store", keep_while_led(is_led.clone(), context.clone())) => Some(end),
        end = task("readiness", readiness) => Some(end),
        end = task("SealedSecret watch", object_watch) => Some(end),
        end = task("Secret watch", secret_watch) => Some(end),
        end = task("key watch", key_watch) => Some(end),
        end = task("VaultStore watch", store_watch), if settings.serves_vault => Some(end),
        end = task("credential watch", credential_watch), if settings.serves_vault => Some(end),
        end = task("Namespace watch", namespace_watch), if sees_namespaces => Some(end),
        end = task("VaultStore statuses", store_statuses), if settings.serves_vault => Some(end),
        end = task("answers of Vault", answers) => Some(end),
        end = task("keys", keeper.run(is_led, is_schema_right)) => Some(end),
        end = task("Events", publisher.run()) => Some(end),
    };
    if let Some(error) = ended {
        return Err(error);
    }
    info!("ending");
    stop.send_replace(true);
    work.await.ok();
    // The loop writes no more; what else may still be under way carries the precondition of what it read.
    drop(drained);
    let (_, election, ()) = tokio::join!(server, election, errands.reader().end());
    match election {
        Ok(Err(error)) => Err(RunError::Lease(error)),
        _ => Ok(()),
    }
}

fn lease_ended(end: Result<Result<(), lease::Error>, tokio::task::JoinError>) -> RunError {
    match end {
        Ok(Err(error)) => RunError::Lease(error),
        _ => RunError::Ended("lease"),
    }
}

/// Runs a task of its own; gives the name of the task if it ever ends.
async fn task(name: &'static str, task: impl Future<Output = ()> + Send + 'static) -> RunError {
    tokio::spawn(task).await.ok();
    RunError::Ended(name)
}

async fn config(cluster: &Cluster) -> Result<Config, RunError> {
    let mut config = match cluster {
        Cluster::Own => Config::incluster().map_err(|error| RunError::Config(error.into()))?,
        Cluster::Kubeconfig { path, context } => {
            let kubeconfig = Kubeconfig::read_from(path).map_err(|error| RunError::Config(error.into()))?;
            let options = KubeConfigOptions { context: context.clone(), ..KubeConfigOptions::default() };
            Config::from_custom_kubeconfig(kubeconfig, &options)
                .await
                .map_err(|error| RunError::Config(error.into()))?
        }
    };
    // It would retry for minutes; every call here has a deadline, and every object its own backoff.
    config.default_retry = false;
    Ok(config)
}

/// The way to the same API server, without a credential.
fn anonymous(mut config: Config) -> Config {
    config.auth_info = AuthInfo::default();
    config
}

fn client(config: Config) -> Result<Client, RunError> {
    Client::try_from(config).map_err(RunError::Client)
}

struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> Result<Self, RunError> {
        Ok(Self {
            terminate: signal(SignalKind::terminate()).map_err(RunError::Signals)?,
            interrupt: signal(SignalKind::interrupt()).map_err(RunError::Signals)?,
        })
    }

    async fn end(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Lets whole objects wait for their turn while this replica leads.
async fn keep_while_led(mut is_led: watch::Receiver<bool>, context: Context) {
    loop {
        let is_kept = *is_led.borrow_and_update();
        context.store().keep_waiting(is_kept);
        if is_led.changed().await.is_err() {
            return;
        }
    }
}

/// What the HTTP endpoints answer from.
fn served(
    context: &Context,
    (ready, hindrances): (watch::Receiver<bool>, Vec<watch::Receiver<Option<String>>>),
    recipient: watch::Receiver<Option<Recipient>>,
) -> Served {
    let (keys, realm) = (context.keys.clone(), context.realm.clone());
    let verify = move |object: &SealedSecret| {
        let keys = keys.borrow().clone();
        object.metadata.namespace.as_deref().is_some_and(|namespace| realm.serves(namespace))
            && decide::opens(object, &keys)
    };
    Served { ready, hindrances, recipient, verify: Arc::new(verify), metrics: context.report.metrics.clone() }
}

/// SealedSecrets, as they are: one that makes no sense must not stop the others.
async fn watch_objects(
    is_schema_right: watch::Receiver<bool>,
    context: Context,
    engine: Engine,
    synced: watch::Sender<bool>,
) {
    schema::while_right(is_schema_right, &synced, || {
        let api = realm::objects::<SealedSecret>(context.client.clone());
        let see = |region: Region<'_>, event| {
            let wake = {
                let mut store = context.store();
                match event {
                    watcher::Event::Init => {
                        store.begin_objects(region);
                        Wake::new()
                    }
                    watcher::Event::InitApply(object) => store.list_object(read::stripped(object)),
                    watcher::Event::InitDone => store.end_objects(region),
                    watcher::Event::Apply(object) => store.apply_object(read::stripped(object)),
                    watcher::Event::Delete(object) => store.delete_object(&object.metadata),
                }
            };
            engine.wake(wake);
        };
        context.watch("SealedSecrets", api, &watcher::Config::default()).follow(&synced, see)
    })
    .await;
}

/// VaultStores.
async fn watch_stores(is_schema_right: watch::Receiver<bool>, desk: Desk, synced: watch::Sender<bool>) {
    let begin = || desk.clone().watch_stores(synced.clone());
    schema::while_right(is_schema_right, &synced, begin).await;
}

/// Metadata of the Secrets with our label. Foreign ones never arrive, and no Secret's bytes do.
async fn watch_secrets(context: Context, engine: Engine, synced: watch::Sender<bool>) {
    let api = realm::secrets(context.client.clone());
    let see = |region: Region<'_>, event: watcher::Event<PartialObjectMeta<Secret>>| {
        let wake = {
            let mut store = context.store();
            match event {
                watcher::Event::Init => {
                    store.begin_secrets(region);
                    Wake::new()
                }
                watcher::Event::InitApply(secret) => store.list_secret(&secret.metadata),
                watcher::Event::InitDone => store.end_secrets(region),
                watcher::Event::Apply(secret) => store.apply_secret(&secret.metadata),
                watcher::Event::Delete(secret) => store.delete_secret(&secret.metadata),
            }
        };
        engine.wake(wake);
    };
    let labelled = watcher::Config::default().labels(OWNER_LABEL);
    context.watch("Secrets", api, &labelled).follow(&synced, see).await;
}

/// Looks at every object of which Vault has been asked.
async fn follow_answers(mut answered: mpsc::UnboundedReceiver<Key>, engine: Engine) {
    while let Some(key) = answered.recv().await {
        engine.answered(key);
    }
}

/// Where what is known of the keys goes: what opens, what tells change, what is published, that they are there, or why not.
type KeySenders = (
    watch::Sender<Arc<KeyIndex>>,
    watch::Sender<Option<MacKey>>,
    watch::Sender<Option<Recipient>>,
    watch::Sender<bool>,
    watch::Sender<Option<String>>,
);

/// Passes a new index on, and looks at every object that uses a key of which something else is known now.
///
/// `loaded` is said after there is an index, and taken back before there is none: an object that was looked at with the
/// keys of a controller that has not read them yet would be told that nobody can open it.
async fn follow_keys(
    mut published: watch::Receiver<Published>,
    (index, mac_key, recipient, loaded, lack): KeySenders,
    context: Context,
    engine: Engine,
) {
    while published.changed().await.is_ok() {
        let (next, is_loaded) = {
            let published = published.borrow_and_update();
            context.report.metrics.identities(published.identities);
            context.report.metrics.rings(&published.rings, &published.findings);
            recipient.send_replace(published.recipient.clone());
            // Stays while identities are read anew: without it, what is fetched just then would look changed.
            if let Some(key) = &published.mac_key {
                mac_key.send_replace(Some(key.clone()));
            }
            lack.send_replace(published.lack.clone());
            (published.index.clone(), published.is_ready)
        };
        if !is_loaded {
            loaded.send_replace(false);
        }
        let changed = next.changed_since(&index.borrow());
        index.send_replace(next);
        if !is_loaded {
            continue;
        }
        loaded.send_replace(true);
        let keys = context.store().sealed_to(&changed);
        engine.wake(keys.into_iter().map(|key| (key, Cause::Drift)).collect());
    }
}
