//! Joins client, watches, store, keys, loop, lease and servers; decides nothing.
//!
//! ```text
//! watches -> Store -> Engine -> API server
//! Keeper -> KeyIndex --^          ^-- Writer <- lease, schema
//! ```

use std::{
    fmt::Debug,
    sync::{Arc, Mutex, PoisonError},
};

use futures::{Stream, StreamExt, stream};
use k8s_openapi::api::{coordination::v1::Lease, core::v1::Secret};
use kube::{
    Api, Client, Config, Resource,
    api::{DynamicObject, PartialObjectMeta},
    config::{KubeConfigOptions, Kubeconfig},
    core::ApiResource,
    runtime::{WatchStreamExt, watcher},
};
use seal_crds::{OWNER_LABEL, SealedSecret};
use seal_envelope::Recipient;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
    sync::{oneshot, watch},
};
use tracing::{info, warn};

use crate::{
    apply::Writer,
    engine::{Engine, Term},
    error::ApiError,
    events,
    http::{self, Served},
    keys::{
        KeyIndex,
        live::{Keeper, Published},
    },
    lease,
    metrics::Metrics,
    report::Report,
    rewatch::Soon,
    schema,
    sealed::{Context, decide, read},
    settings::{Cluster, Settings},
    store::{Cause, Store, Wake},
};

/// Bytes of sealed objects that may wait for their turn in memory; those beyond are fetched again.
const WAITING_BUDGET: usize = 12 * 1024 * 1024;

/// Why the controller ended.
#[derive(Debug, Error)]
pub enum RunError {
    /// No way to the API server is configured.
    #[error("cannot tell how to reach the API server")]
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
    let client = client(&settings.cluster).await?;
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
    let (recipient, published_recipient) = watch::channel(None);

    let (keeper, published) = Keeper::new(
        client.clone(),
        writer.clone(),
        &settings.namespace,
        &settings.cluster_name,
        settings.first_ring.clone(),
        report.clone(),
    );
    let (index, keys) = watch::channel(Arc::new(KeyIndex::default()));
    let context = Context {
        client: client.clone(),
        writer,
        store: Arc::new(Mutex::new(Store::new(WAITING_BUDGET))),
        keys,
        own_namespace: settings.namespace.as_str().into(),
        report,
    };
    let store = context.store.clone();
    context.report.metrics.refresh_with(move |metrics| {
        let store = store.lock().unwrap_or_else(PoisonError::into_inner);
        metrics.objects(store.readiness());
        metrics.key_objects(store.key_uses());
    });
    let engine = Engine::new(context.clone(), settings.workers, settings.verify_every, term);

    let leases: Api<Lease> = Api::namespaced(client.clone(), &settings.namespace);
    let election = lease::Settings::new(settings.replica.clone());
    let mut election = tokio::spawn(lease::run(leases, election, announcement, async {
        is_drained.await.ok();
    }));
    let authority = authority(leadership, is_schema_right, led, context.report.metrics.clone());
    let (loaded, is_loaded) = watch::channel(false);
    let readiness = readiness(is_led.clone(), objects, secrets, is_loaded, (ready, active));
    let served = served(&context, is_ready, published_recipient);
    let object_watch = watch_objects(client.clone(), context.clone(), engine.clone(), synced_objects);
    let secret_watch = watch_secrets(client.clone(), context.clone(), engine.clone(), synced_secrets);
    let key_watch = follow_keys(published, (index, recipient, loaded), context.clone(), engine.clone());
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
        end = task("schema check", schema::watch(client, schema_right)) => Some(end),
        end = task("leadership", authority) => Some(end),
        end = task("readiness", readiness) => Some(end),
        end = task("SealedSecret watch", object_watch) => Some(end),
        end = task("Secret watch", secret_watch) => Some(end),
        end = task("key watch", key_watch) => Some(end),
        end = task("keys", keeper.run(is_led)) => Some(end),
        end = task("Events", publisher.run()) => Some(end),
    };
    if let Some(error) = ended {
        return Err(error);
    }
    info!("ending");
    stop.send_replace(true);
    work.await.ok();
    // Nothing writes any more.
    drop(drained);
    server.await.ok();
    match election.await {
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

async fn client(cluster: &Cluster) -> Result<Client, RunError> {
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

/// `led`: this replica holds the lease, and the CRDs are right.
async fn authority(
    mut leadership: lease::Leadership,
    mut is_right: watch::Receiver<bool>,
    led: watch::Sender<bool>,
    metrics: Arc<Metrics>,
) {
    loop {
        leadership.acquired().await;
        if is_right.wait_for(|is_right| *is_right).await.is_err() {
            return;
        }
        led.send_replace(true);
        metrics.leading(true);
        tokio::select! {
            () = leadership.lost() => {}
            _ = is_right.wait_for(|is_right| !*is_right) => {}
        }
        led.send_replace(false);
        metrics.leading(false);
    }
}

/// `ready`: all caches are synced and the keys loaded. `active`: ready, and leading, with the number of the time.
async fn readiness(
    mut led: watch::Receiver<bool>,
    mut objects: watch::Receiver<bool>,
    mut secrets: watch::Receiver<bool>,
    mut keys: watch::Receiver<bool>,
    (ready, active): (watch::Sender<bool>, watch::Sender<Term>),
) {
    let mut terms = 0;
    loop {
        let is_ready = *objects.borrow_and_update() && *secrets.borrow_and_update() && *keys.borrow_and_update();
        let is_active = *led.borrow_and_update() && is_ready;
        ready.send_if_modified(|ready| std::mem::replace(ready, is_ready) != is_ready);
        active.send_if_modified(|term| {
            let is_news = term.is_some() != is_active;
            if is_news {
                terms += u64::from(is_active);
                *term = is_active.then_some(terms);
            }
            is_news
        });
        let changed = tokio::select! {
            changed = led.changed() => changed,
            changed = objects.changed() => changed,
            changed = secrets.changed() => changed,
            changed = keys.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
    }
}

/// What the HTTP endpoints answer from.
fn served(context: &Context, ready: watch::Receiver<bool>, recipient: watch::Receiver<Option<Recipient>>) -> Served {
    let keys = context.keys.clone();
    let verify = move |object: &SealedSecret| {
        let keys = keys.borrow().clone();
        decide::opens(object, &keys)
    };
    Served { ready, recipient, verify: Arc::new(verify), metrics: context.report.metrics.clone() }
}

/// SealedSecrets of all namespaces, as they are: one that makes no sense must not stop the others.
async fn watch_objects(client: Client, context: Context, engine: Engine, synced: watch::Sender<bool>) {
    let kind = ApiResource::erase::<SealedSecret>(&());
    let api: Api<DynamicObject> = Api::all_with(client, &kind);
    let stream = streamed(api, watcher::Config::default());
    follow(
        stream,
        "SealedSecrets",
        |event| {
            let wake = {
                let mut store = context.store();
                match event {
                    watcher::Event::Init => {
                        store.begin_objects();
                        Wake::new()
                    }
                    watcher::Event::InitApply(object) => store.list_object(read::stripped(object)),
                    watcher::Event::InitDone => store.end_objects(),
                    watcher::Event::Apply(object) => store.apply_object(read::stripped(object)),
                    watcher::Event::Delete(object) => store.delete_object(&object.metadata),
                }
            };
            engine.wake(wake);
        },
        synced,
    )
    .await;
}

/// Metadata of the Secrets with our label. Foreign ones never arrive, and no Secret's bytes do.
async fn watch_secrets(client: Client, context: Context, engine: Engine, synced: watch::Sender<bool>) {
    let api: Api<PartialObjectMeta<Secret>> = Api::all(client);
    let stream = streamed(api, watcher::Config::default().labels(OWNER_LABEL));
    follow(
        stream,
        "Secrets",
        |event| {
            let wake = {
                let mut store = context.store();
                match event {
                    watcher::Event::Init => {
                        store.begin_secrets();
                        Wake::new()
                    }
                    watcher::Event::InitApply(secret) => store.list_secret(&secret.metadata),
                    watcher::Event::InitDone => store.end_secrets(),
                    watcher::Event::Apply(secret) => store.apply_secret(&secret.metadata),
                    watcher::Event::Delete(secret) => store.delete_secret(&secret.metadata),
                }
            };
            engine.wake(wake);
        },
        synced,
    )
    .await;
}

/// A watch whose first list is streamed, or comes in pages where the API server cannot do that.
///
/// A page is in memory as a whole, and anybody's object may have 1.5 MB: pages of 250 took 700 MB at a start. Small
/// pages take a request each, and ten thousand objects four times as long as one list. A stream has neither fault. It
/// may begin with an older state than a list would, which costs nothing here: every write is guarded.
fn streamed<K>(api: Api<K>, config: watcher::Config) -> impl Stream<Item = watcher::Result<watcher::Event<K>>>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let stream = watcher(api.clone(), config.clone().streaming_lists()).backoff(Soon::default()).boxed();
    let pages = move || watcher(api, config.page_size(32)).backoff(Soon::default()).boxed();
    stream::unfold((stream, Some(pages)), |(mut stream, mut pages)| async move {
        let event = stream.next().await?;
        if event.as_ref().err().is_some_and(is_unknown_to_the_server)
            && let Some(pages) = pages.take()
        {
            stream = pages();
        }
        Some((event, (stream, pages)))
    })
}

/// The API server does not know streamed lists, or has them switched off.
fn is_unknown_to_the_server(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::WatchStartFailed(kube::Error::Api(status)) if matches!(status.code, 400 | 422))
}

/// Feeds a watch into `see` for ever, and says when its first list is complete.
async fn follow<K>(
    stream: impl Stream<Item = watcher::Result<watcher::Event<K>>>,
    what: &'static str,
    mut see: impl FnMut(watcher::Event<K>),
    synced: watch::Sender<bool>,
) {
    let mut stream = std::pin::pin!(stream);
    while let Some(event) = stream.next().await {
        match event {
            Ok(event) => {
                let is_complete = matches!(event, watcher::Event::InitDone);
                see(event);
                if is_complete && !synced.send_replace(true) {
                    info!(what, "listed");
                }
            }
            Err(error) => warn!(what, cause = watch_error(error), "a watch failed and is begun again"),
        }
    }
}

/// What a watch failed with, without what it was about.
pub(crate) fn watch_error(error: watcher::Error) -> String {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => ApiError::from(error).text(),
        watcher::Error::WatchError(status) => format!("{} {}", status.code, status.reason),
        watcher::Error::NoResourceVersion => "no resourceVersion".to_owned(),
    }
}

/// Passes a new index on, and looks at every object that uses a key of which something else is known now.
///
/// `loaded` is said after there is an index, and taken back before there is none: an object that was looked at with the
/// keys of a controller that has not read them yet would be told that nobody can open it.
async fn follow_keys(
    mut published: watch::Receiver<Published>,
    (index, recipient, loaded): (watch::Sender<Arc<KeyIndex>>, watch::Sender<Option<Recipient>>, watch::Sender<bool>),
    context: Context,
    engine: Engine,
) {
    while published.changed().await.is_ok() {
        let (next, is_loaded) = {
            let published = published.borrow_and_update();
            context.report.metrics.identities(published.identities);
            context.report.metrics.rings(&published.rings, &published.findings);
            recipient.send_replace(published.recipient.clone());
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[tokio::test]
    async fn each_beginning_is_another_term_and_nothing_begins_before_the_keys_are_there() {
        let (led, is_led) = watch::channel(true);
        let (loaded, is_loaded) = watch::channel(false);
        let (_objects, objects) = watch::channel(true);
        let (_secrets, secrets) = watch::channel(true);
        let (ready, mut is_ready) = watch::channel(true);
        let (active, mut term) = watch::channel(None);
        tokio::spawn(readiness(is_led, objects, secrets, is_loaded, (ready, active)));

        assert!(!*is_ready.wait_for(|ready| !ready).await.unwrap());
        assert_eq!(*term.borrow(), None, "no keys yet");
        loaded.send_replace(true);
        assert_eq!(*term.wait_for(Option::is_some).await.unwrap(), Some(1));
        led.send_replace(false);
        term.wait_for(Option::is_none).await.unwrap();
        assert!(*is_ready.borrow(), "a replica that does not lead is ready too");
        led.send_replace(true);
        assert_eq!(*term.wait_for(Option::is_some).await.unwrap(), Some(2));
    }
}
