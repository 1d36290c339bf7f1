//! Owns the controller's HTTP endpoints, and what strangers may cost us there.
//!
//! Everybody in the cluster may connect, so everything is bounded: connections (in all, and of one address), the time
//! for a request's head and body, the life of a connection, requests at work, and what `/v1/verify` may be asked. No
//! header is believed to say who asks. The body of a request is never quoted, in no answer and no log, and nothing
//! that comes back is sealed, open or a key; the one exception is `/v1/recipient`, which is public.
//!
//! ```text
//! connection -> limits and deadlines -> route -> Served (what the loops publish) -> a short answer
//! ```

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    future::Future,
    net::IpAddr,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{DefaultBodyLimit, FromRequest, Request, State},
    http::{
        HeaderValue, StatusCode,
        header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER, X_CONTENT_TYPE_OPTIONS},
    },
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use kube::Resource;
use seal_crds::SealedSecret;
use seal_envelope::Recipient;
use serde::Deserialize;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, oneshot, watch},
    task::JoinSet,
    time::{sleep, timeout},
};
use tracing::{debug, trace, warn};

use crate::{
    metrics::{self, Endpoint, Metrics},
    rate::TokenBucket,
};

/// The largest body: more than the API server takes for an object.
pub const MAX_BODY: usize = 2 * 1024 * 1024;

/// What the endpoints answer from; the loops publish it.
#[derive(Clone)]
pub struct Served {
    /// Whether caches are synced and keys loaded, for `/readyz`. Before that, nothing is verified.
    pub ready: watch::Receiver<bool>,
    /// What keeps it from being ready, where a person can help; names no object.
    pub hindrances: Vec<watch::Receiver<Option<String>>>,
    /// The recipient that is published, for `/v1/recipient`; none before the identity exists.
    pub recipient: watch::Receiver<Option<Recipient>>,
    /// Whether every value of the object opens here; it renders nothing. Called on a thread that may be blocked.
    pub verify: Arc<dyn Fn(&SealedSecret) -> bool + Send + Sync>,
    /// For `/metrics`.
    pub metrics: Arc<Metrics>,
}

/// What strangers may cost us. [`Limits::default`] is meant for everybody.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Connections at one time; one too many, and the oldest of whoever holds most is cut.
    pub connections: usize,
    /// Connections of one address at one time.
    pub connections_of_one: usize,
    /// The longest time for a request's head, and between two requests of a connection.
    pub head: Duration,
    /// The longest time for a request's body.
    pub body: Duration,
    /// The longest life of a connection; whoever reads slowly does so at most for this long.
    pub connection: Duration,
    /// Requests at work at one time, probes aside.
    pub requests: usize,
    /// Bodies of `/v1/verify` in memory at one time.
    pub bodies: usize,
    /// Objects being verified at one time; each occupies a core.
    pub verifications: usize,
    /// Requests to `/v1/verify` that may come at once.
    pub burst: u32,
    /// Requests to `/v1/verify` per second, after a burst.
    pub rate: f64,
    /// How long requests may take to end at shutdown.
    pub grace: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 256,
            connections_of_one: 64,
            head: Duration::from_secs(5),
            body: Duration::from_secs(10),
            connection: Duration::from_secs(60),
            requests: 64,
            bodies: 8,
            verifications: 1,
            burst: 100,
            rate: 20.0,
            grace: Duration::from_secs(5),
        }
    }
}

/// Serves until `stop` resolves, then lets the requests that are at work end.
pub async fn serve(listener: TcpListener, served: Served, limits: Limits, stop: impl Future<Output = ()>) {
    let router = router(served, limits);
    let connections = Connections::new(limits);
    let (stopped, stopping) = watch::channel(false);
    let mut open = JoinSet::new();
    let mut stop = pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    let mut place = connections.admit(peer.ip());
                    let connection = connection(stream, router.clone(), limits, stopping.clone());
                    open.spawn(async move {
                        tokio::select! {
                            () = connection => {}
                            () = place.is_cut() => {}
                        }
                    });
                }
                Err(error) => {
                    // Usually no file descriptor is left: asking again at once would only burn the core.
                    warn!(%error, "cannot accept HTTP connections");
                    sleep(Duration::from_millis(100)).await;
                }
            },
            Some(_) = open.join_next() => {}
        }
    }
    drop(listener);
    stopped.send_replace(true);
    let ended = timeout(limits.grace, async { while open.join_next().await.is_some() {} }).await;
    if ended.is_err() {
        debug!(connections = open.len(), "HTTP connections are cut");
    }
}

/// One connection: ended by the peer, by a deadline, or at shutdown; in the latter two the request at work is finished.
async fn connection(stream: TcpStream, router: Router, limits: Limits, mut stopping: watch::Receiver<bool>) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(16 * 1024)
        .max_headers(48)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = pin!(connection);
    // How a connection ends is the peer's business: there is nobody to tell.
    tokio::select! {
        _ = &mut connection => return,
        () = sleep(limits.connection) => {}
        _ = stopping.wait_for(|stop| *stop) => {}
    }
    connection.as_mut().graceful_shutdown();
    timeout(limits.grace, connection).await.ok();
}

/// Who is connected. Of one address there are only so many, and of all together: then the oldest connection of that
/// address gives way, or of the one that holds most. Nobody waits in a queue that others fill, and a newcomer such as the
/// kubelet's probe gets in, however many addresses join and whoever shares its own.
#[derive(Clone)]
struct Connections {
    limits: Limits,
    open: Arc<Mutex<Open>>,
}

#[derive(Default)]
struct Open {
    /// By arrival; whoever drops the sender cuts the connection.
    places: HashMap<IpAddr, BTreeMap<u64, oneshot::Sender<()>>>,
    arrivals: u64,
}

/// The place of one connection; dropped with it.
struct Place {
    peer: IpAddr,
    arrival: u64,
    kept: oneshot::Receiver<()>,
    connections: Connections,
}

impl Connections {
    fn new(limits: Limits) -> Self {
        Self { limits, open: Arc::default() }
    }

    fn admit(&self, peer: IpAddr) -> Place {
        let mut open = self.open();
        if open.places.get(&peer).map_or(0, BTreeMap::len) >= self.limits.connections_of_one {
            open.cut_one_of(peer);
        } else if open.places.values().map(BTreeMap::len).sum::<usize>() >= self.limits.connections {
            open.cut_one();
        }
        let (keep, kept) = oneshot::channel();
        let arrival = open.arrivals;
        open.arrivals += 1;
        open.places.entry(peer).or_default().insert(arrival, keep);
        Place { peer, arrival, kept, connections: self.clone() }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    /// Cuts the oldest connection of the address that holds most; of several such addresses, the oldest connection.
    fn cut_one(&mut self) {
        let oldest = self.places.iter().filter_map(|(peer, held)| {
            let (arrival, _) = held.first_key_value()?;
            Some((held.len(), Reverse(*arrival), *peer))
        });
        if let Some((_, Reverse(arrival), peer)) = oldest.max() {
            self.remove(peer, arrival);
        }
    }

    /// Cuts the oldest connection of this address.
    fn cut_one_of(&mut self, peer: IpAddr) {
        if let Some((arrival, _)) = self.places.get(&peer).and_then(BTreeMap::first_key_value) {
            self.remove(peer, *arrival);
        }
    }

    fn remove(&mut self, peer: IpAddr, arrival: u64) {
        if let Some(held) = self.places.get_mut(&peer) {
            held.remove(&arrival);
            if held.is_empty() {
                self.places.remove(&peer);
            }
        }
    }
}

impl Place {
    /// Resolves once the connection has to give way.
    async fn is_cut(&mut self) {
        // Nothing is ever sent.
        (&mut self.kept).await.ok();
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.open().remove(self.peer, self.arrival);
    }
}

// === Routes ===

#[derive(Clone)]
struct App {
    served: Served,
    limits: Limits,
    requests: Arc<Semaphore>,
    bodies: Arc<Semaphore>,
    verifications: Arc<Semaphore>,
    bucket: Arc<Mutex<TokenBucket>>,
}

fn router(served: Served, limits: Limits) -> Router {
    let app = App {
        served,
        limits,
        requests: Arc::new(Semaphore::new(limits.requests)),
        bodies: Arc::new(Semaphore::new(limits.bodies)),
        verifications: Arc::new(Semaphore::new(limits.verifications)),
        bucket: Arc::new(Mutex::new(TokenBucket::new(limits.burst, limits.rate))),
    };
    let probes = Router::new().route(HEALTHZ, get(|| async { "ok\n" })).route(READYZ, get(ready));
    let rest = Router::new()
        .route(METRICS, get(metrics))
        .route(RECIPIENT, get(recipient))
        .route(VERIFY, post(verify))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .fallback(|| async { refuse(StatusCode::NOT_FOUND, "there is nothing here") })
        .layer(middleware::from_fn_with_state(app.clone(), admit));
    probes.merge(rest).layer(middleware::from_fn_with_state(app.clone(), account)).with_state(app)
}

const HEALTHZ: &str = "/healthz";
const READYZ: &str = "/readyz";
const METRICS: &str = "/metrics";
const RECIPIENT: &str = "/v1/recipient";
const VERIFY: &str = "/v1/verify";

/// Counts every answer, and marks it as one that nobody keeps or guesses about.
async fn account(State(app): State<App>, request: Request, next: Next) -> Response {
    let endpoint = match request.uri().path() {
        HEALTHZ => Endpoint::Healthz,
        READYZ => Endpoint::Readyz,
        METRICS => Endpoint::Metrics,
        RECIPIENT => Endpoint::Recipient,
        VERIFY => Endpoint::Verify,
        _ => Endpoint::Other,
    };
    let mut response = next.run(request).await;
    let code = response.status().as_u16();
    app.served.metrics.answered(endpoint, code);
    // What else was asked for may be anything, and is not repeated.
    trace!(endpoint = endpoint.as_str(), code, "answered");
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

/// Lets a bounded number of requests be at work.
async fn admit(State(app): State<App>, request: Request, next: Next) -> Response {
    match app.requests.try_acquire() {
        Ok(_permit) => next.run(request).await,
        Err(_) => busy(),
    }
}

async fn ready(State(app): State<App>) -> Response {
    if *app.served.ready.borrow() {
        return "ok\n".into_response();
    }
    let text = match app.served.hindrances.iter().find_map(|hindrance| hindrance.borrow().clone()) {
        Some(hindrance) => format!("not ready: {hindrance}\n"),
        None => "not ready\n".to_owned(),
    };
    (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
}

async fn metrics(State(app): State<App>) -> Response {
    match app.served.metrics.encode() {
        Ok(text) => ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response(),
        Err(_) => refuse(StatusCode::INTERNAL_SERVER_ERROR, "the metrics cannot be written"),
    }
}

async fn recipient(State(app): State<App>) -> Response {
    match &*app.served.recipient.borrow() {
        Some(recipient) => format!("{recipient}\n").into_response(),
        None => refuse(StatusCode::SERVICE_UNAVAILABLE, "this cluster has no identity yet"),
    }
}

/// Says whether an object opens here: yes or no, whatever the reason. Why it does not, its status would tell those who
/// may read it.
async fn verify(State(app): State<App>, request: Request) -> Result<Response, Response> {
    if !*app.served.ready.borrow() {
        return Err(refuse(StatusCode::SERVICE_UNAVAILABLE, "the keys are not loaded yet"));
    }
    if !app.bucket.lock().unwrap_or_else(PoisonError::into_inner).take(Instant::now()) {
        let refused = refuse(StatusCode::TOO_MANY_REQUESTS, "asked too often");
        return Err(([(RETRY_AFTER, "1")], refused).into_response());
    }
    // Before the body, so that those who wait hold none.
    let place = app.bodies.clone().try_acquire_owned().map_err(|_| busy())?;
    let body = timeout(app.limits.body, Bytes::from_request(request, &())).await;
    let body = match body {
        Ok(Ok(body)) => body,
        Ok(Err(refused)) if refused.status() == StatusCode::PAYLOAD_TOO_LARGE => return Err(too_large()),
        Ok(Err(_)) => return Err(refuse(StatusCode::BAD_REQUEST, "the body could not be read")),
        Err(_) => return Err(refuse(StatusCode::REQUEST_TIMEOUT, "the body did not come in time")),
    };
    let turn = app.verifications.clone().acquire_owned().await.map_err(|_| busy())?;
    let verdict = tokio::task::spawn_blocking(move || {
        // Both are held by the work itself: it goes on where the asker hangs up.
        let _held = (place, turn);
        let object = parse(&body)?;
        Ok((app.served.verify)(&object))
    });
    match verdict.await {
        Ok(Ok(true)) => Ok(json(StatusCode::OK, r#"{"ok":true}"#)),
        Ok(Ok(false)) => Ok(json(StatusCode::UNPROCESSABLE_ENTITY, r#"{"ok":false}"#)),
        Ok(Err(Unusable::TooLarge)) => Err(too_large()),
        Ok(Err(Unusable::NoSealedSecret)) => Err(refuse(StatusCode::BAD_REQUEST, "the body is not one SealedSecret")),
        Err(_) => Err(refuse(StatusCode::INTERNAL_SERVER_ERROR, "a fault of the controller")),
    }
}

// === Bodies ===

/// A body that is not looked at further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unusable {
    /// It would take too much memory.
    TooLarge,
    /// It is not one SealedSecret. serde's own text quotes what it found, so it is dropped.
    NoSealedSecret,
}

/// Marks that a document may have: two bytes can become a node of hundreds, and a parsed document must not take more
/// memory than the process has. The largest SealedSecrets have a fifth of this.
const MAX_MARKS: usize = 32 * 1024;

/// Brackets that may be open at once: the time that YAML takes grows with the square of it. No SealedSecret has ten.
const MAX_DEPTH: usize = 512;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kind {
    api_version: String,
    kind: String,
}

/// Reads one SealedSecret, in JSON or YAML.
fn parse(body: &[u8]) -> Result<SealedSecret, Unusable> {
    let body = std::str::from_utf8(body).map_err(|_| Unusable::NoSealedSecret)?;
    if marks(body) > MAX_MARKS || depth(body) > MAX_DEPTH {
        return Err(Unusable::TooLarge);
    }
    if let Ok(kind) = serde_json::from_str::<Kind>(body) {
        return object(&kind, || serde_json::from_str(body).ok());
    }
    if begins_name(body, b'&') && begins_name(body, b'*') {
        // Aliases repeat what they name, a megabyte a word; no tool writes them into a SealedSecret.
        return Err(Unusable::TooLarge);
    }
    let kind = serde_yaml::from_str::<Kind>(body).map_err(|_| Unusable::NoSealedSecret)?;
    object(&kind, || serde_yaml::from_str(body).ok())
}

fn object(kind: &Kind, read: impl FnOnce() -> Option<SealedSecret>) -> Result<SealedSecret, Unusable> {
    let is_ours = kind.api_version == SealedSecret::api_version(&()) && kind.kind == SealedSecret::kind(&());
    is_ours.then(read).flatten().ok_or(Unusable::NoSealedSecret)
}

/// At least as many as a document has nodes, in JSON and in YAML: a further one needs a separator, or a dash or question
/// mark before a blank (or one of Unicode's line breaks).
fn marks(body: &str) -> usize {
    let separators = body.bytes().filter(|byte| b",:[]{}\n\r".contains(byte)).count();
    let indicators =
        body.as_bytes().windows(2).filter(|pair| b"-?".contains(&pair[0]) && !pair[1].is_ascii_graphic()).count();
    separators + indicators
}

/// At least as many brackets as are ever open at once; those in texts count too.
fn depth(body: &str) -> usize {
    let (mut open, mut most) = (0_usize, 0);
    for byte in body.bytes() {
        match byte {
            b'[' | b'{' => open += 1,
            b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        most = most.max(open);
    }
    most
}

/// Whether this mark stands right before something: without an anchor and an alias, which do, nothing is repeated.
fn begins_name(body: &str, mark: u8) -> bool {
    body.as_bytes().windows(2).any(|pair| pair[0] == mark && !pair[1].is_ascii_whitespace())
}

// === Answers ===

fn json(status: StatusCode, body: &'static str) -> Response {
    (status, [(CONTENT_TYPE, "application/json")], body).into_response()
}

fn refuse(status: StatusCode, why: &'static str) -> Response {
    (status, [(CONTENT_TYPE, "application/json")], Body::from(format!(r#"{{"error":"{why}"}}"#))).into_response()
}

fn too_large() -> Response {
    refuse(StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than any SealedSecret")
}

fn busy() -> Response {
    ([(RETRY_AFTER, "1")], refuse(StatusCode::SERVICE_UNAVAILABLE, "too much is asked at the moment")).into_response()
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use seal_envelope::Identity;
    use serde_json::json;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpSocket,
        sync::oneshot::error::TryRecvError,
        task::JoinHandle,
    };

    use super::*;

    /// A served listener on loopback; ends with the test.
    struct Server {
        address: SocketAddr,
        ready: watch::Sender<bool>,
        hindrance: watch::Sender<Option<String>>,
        recipient: watch::Sender<Option<Recipient>>,
        metrics: Arc<Metrics>,
        stop: oneshot::Sender<()>,
        task: JoinHandle<()>,
    }

    impl Server {
        /// Ready, and able to open what is called `ours`.
        async fn start(limits: Limits) -> Self {
            Self::start_with(limits, Arc::new(|object| object.metadata.name.as_deref() == Some("ours"))).await
        }

        async fn start_with(limits: Limits, verify: Arc<dyn Fn(&SealedSecret) -> bool + Send + Sync>) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let (ready, is_ready) = watch::channel(true);
            let (_, unhindered) = watch::channel(None);
            let (hindrance, hindered) = watch::channel(None);
            let hindrances = vec![unhindered, hindered];
            let (recipient, published) = watch::channel(None);
            let metrics = Arc::new(Metrics::new());
            let served = Served { ready: is_ready, hindrances, recipient: published, verify, metrics: metrics.clone() };
            let (stop, stopped) = oneshot::channel();
            let task = tokio::spawn(serve(listener, served, limits, async { drop(stopped.await) }));
            Self { address, ready, hindrance, recipient, metrics, stop, task }
        }

        async fn connect(&self) -> TcpStream {
            TcpStream::connect(self.address).await.unwrap()
        }

        async fn get(&self, path: &str) -> String {
            self.say(format!("GET {path} HTTP/1.1\r\nhost: c\r\nconnection: close\r\n\r\n").as_bytes()).await
        }

        async fn verify(&self, body: &[u8]) -> String {
            self.say(&verification(body)).await
        }

        /// Everything that comes back until the connection ends.
        async fn say(&self, request: &[u8]) -> String {
            let mut stream = self.connect().await;
            stream.write_all(request).await.unwrap();
            heard(&mut stream).await
        }
    }

    fn verification(body: &[u8]) -> Vec<u8> {
        let length = body.len();
        let head =
            format!("POST /v1/verify HTTP/1.1\r\nhost: c\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
        [head.as_bytes(), body].concat()
    }

    /// Until the peer ends the connection, which a reset does as well.
    async fn heard(stream: &mut TcpStream) -> String {
        let mut answer = Vec::new();
        let end = timeout(Duration::from_secs(30), stream.read_to_end(&mut answer)).await;
        assert!(end.is_ok(), "the connection stays open");
        String::from_utf8(answer).unwrap()
    }

    fn code(answer: &str) -> u16 {
        answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or_default()
    }

    fn sealed_secret(name: &str) -> serde_json::Value {
        json!({
            "apiVersion": "sealwright.dev/v1alpha1",
            "kind": "SealedSecret",
            "metadata": {"name": name, "namespace": "shop"},
            "spec": {"sealedFor": {}, "encryptedData": {"password": "seal1.k.p.data"}},
        })
    }

    #[tokio::test]
    async fn probes_say_what_the_loops_publish() {
        let server = Server::start(Limits::default()).await;
        assert_eq!(code(&server.get("/healthz").await), 200);
        assert_eq!(code(&server.get("/readyz").await), 200);
        server.ready.send_replace(false);
        assert_eq!(code(&server.get("/readyz").await), 503);
        server.hindrance.send_replace(Some("apply the CRDs".to_owned()));
        assert!(server.get("/readyz").await.ends_with("not ready: apply the CRDs\n"));
        assert_eq!(code(&server.get("/healthz").await), 200);
        assert_eq!(code(&server.verify(sealed_secret("ours").to_string().as_bytes()).await), 503);
    }

    #[tokio::test]
    async fn the_recipient_is_published_once_there_is_one() {
        let server = Server::start(Limits::default()).await;
        assert_eq!(code(&server.get("/v1/recipient").await), 503);
        let identity = Identity::generate().unwrap();
        server.recipient.send_replace(Some(identity.recipient().clone()));
        let answer = server.get("/v1/recipient").await;
        assert!(answer.ends_with(&format!("\r\n\r\n{}\n", identity.recipient())), "{answer}");
    }

    #[tokio::test]
    async fn what_opens_is_told_from_what_does_not_in_json_and_in_yaml() {
        let server = Server::start(Limits::default()).await;
        for (name, status, body) in [("ours", 200, r#"{"ok":true}"#), ("theirs", 422, r#"{"ok":false}"#)] {
            let object = sealed_secret(name);
            for text in [object.to_string(), format!("---\n# sealed\n{}", serde_yaml::to_string(&object).unwrap())] {
                let answer = server.verify(text.as_bytes()).await;
                assert_eq!(code(&answer), status, "{answer}");
                assert!(answer.ends_with(body), "{answer}");
            }
        }
    }

    #[tokio::test]
    async fn what_is_no_sealed_secret_is_refused_and_not_quoted() {
        let server = Server::start(Limits::default()).await;
        let mut secret = sealed_secret("ours");
        secret["kind"] = "Secret".into();
        let mut elsewhere = sealed_secret("ours");
        elsewhere["apiVersion"] = "bitnami.com/v1alpha1".into();
        let mut broken = sealed_secret("ours");
        broken["spec"]["encryptedData"] = "hunter2".into();
        let two = format!("{}\n---\n{}\n", sealed_secret("ours"), sealed_secret("ours"));
        for body in [
            "hunter2".to_owned(),
            "{\"kind\": \"hunter2\"".to_owned(),
            "a: *hunter2".to_owned(),
            String::new(),
            secret.to_string(),
            elsewhere.to_string(),
            broken.to_string(),
            two,
        ] {
            let answer = server.verify(body.as_bytes()).await;
            assert_eq!(code(&answer), 400, "{body}: {answer}");
            assert!(!answer.contains("hunter2") && !answer.contains("bitnami"), "{answer}");
        }
        assert_eq!(code(&server.verify(b"\xff\xfe").await), 400);
    }

    #[tokio::test]
    async fn an_oversized_body_is_refused_before_it_is_read_whole() {
        let server = Server::start(Limits::default()).await;
        let mut stream = server.connect().await;
        let head = b"POST /v1/verify HTTP/1.1\r\nhost: c\r\ntransfer-encoding: chunked\r\n\r\n";
        stream.write_all(head).await.unwrap();
        // A chunk of exactly what is too much, and no end of the body.
        stream.write_all(format!("{:x}\r\n", MAX_BODY + 1).as_bytes()).await.unwrap();
        stream.write_all(&vec![b'a'; MAX_BODY + 1]).await.unwrap();
        assert_eq!(code(&heard(&mut stream).await), 413);
    }

    #[tokio::test]
    async fn a_small_body_that_would_fill_the_memory_is_refused() {
        let server = Server::start(Limits::default()).await;
        for body in ["a,".repeat(MAX_MARKS + 1), "- ".repeat(MAX_MARKS + 1), "[".repeat(MAX_MARKS + 1)] {
            assert_eq!(code(&server.verify(body.as_bytes()).await), 413);
        }
        let word = "a".repeat(1024 * 1024);
        let repeated = format!("a: &a {word}\nb: {{c: *a, d: *a, e: *a}}\n");
        assert_eq!(code(&server.verify(repeated.as_bytes()).await), 413);
        assert_eq!(parse(&[b'['; MAX_DEPTH]).unwrap_err(), Unusable::NoSealedSecret);
    }

    #[test]
    fn brackets_within_brackets_are_refused_before_yaml_goes_over_them_again_and_again() {
        for opening in ["[", "{a: ", "[{b: "] {
            let body = format!("kind: SealedSecret\nspec: {}", opening.repeat(MAX_DEPTH + 1));
            assert_eq!(parse(body.as_bytes()).unwrap_err(), Unusable::TooLarge);
        }
        assert_eq!(depth(r#"{"a": [{}, {}], "b": {"c": "]["}}"#), 3);
    }

    #[test]
    fn the_largest_sealed_secret_is_far_from_the_limits() {
        let mut object = sealed_secret("ours");
        for key in 0..900 {
            object["spec"]["encryptedData"][format!("key-{key}")] = format!("seal1.{}", "a-_b".repeat(400)).into();
        }
        let yaml = serde_yaml::to_string(&object).unwrap();
        assert!(yaml.len() > 1_400_000 && yaml.len() < MAX_BODY, "{}", yaml.len());
        assert!(marks(&yaml) < MAX_MARKS / 5);
        assert!(parse(yaml.as_bytes()).is_ok());
    }

    #[tokio::test]
    async fn who_asks_too_often_is_told_so_whatever_address_he_claims() {
        let server = Server::start(Limits { burst: 3, rate: 0.001, ..Limits::default() }).await;
        let object = sealed_secret("ours").to_string();
        for _ in 0..3 {
            assert_eq!(code(&server.verify(object.as_bytes()).await), 200);
        }
        for claimed in ["10.0.0.1", "10.0.0.2"] {
            let head = format!("POST /v1/verify HTTP/1.1\r\nhost: c\r\nx-forwarded-for: {claimed}\r\n");
            let request = format!("{head}connection: close\r\ncontent-length: {}\r\n\r\n{object}", object.len());
            let answer = server.say(request.as_bytes()).await;
            assert_eq!(code(&answer), 429);
            assert!(answer.contains("retry-after: 1"), "{answer}");
        }
        let counted = r#"sealwright_http_requests_total{endpoint="/v1/verify",code="429"} 2"#;
        assert!(server.metrics.encode().unwrap().contains(counted));
    }

    #[tokio::test]
    async fn a_client_that_dribbles_its_head_is_cut() {
        let server = Server::start(Limits { head: Duration::from_millis(200), ..Limits::default() }).await;
        let mut stream = server.connect().await;
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: c\r\nx-slow: ").await.unwrap();
        assert_ne!(code(&heard(&mut stream).await), 200);
        let mut silent = server.connect().await;
        assert_eq!(heard(&mut silent).await, "");
    }

    #[tokio::test]
    async fn a_client_that_dribbles_its_body_is_cut() {
        let server = Server::start(Limits { body: Duration::from_millis(200), ..Limits::default() }).await;
        let mut stream = server.connect().await;
        stream
            .write_all(b"POST /v1/verify HTTP/1.1\r\nhost: c\r\ncontent-length: 1000\r\n\r\n{\"hunter2")
            .await
            .unwrap();
        let answer = heard(&mut stream).await;
        assert_eq!(code(&answer), 408);
        assert!(!answer.contains("hunter2"));
    }

    #[tokio::test]
    async fn a_connection_ends_however_busy_it_is() {
        let server = Server::start(Limits { connection: Duration::from_secs(2), ..Limits::default() }).await;
        let mut stream = server.connect().await;
        let mut answers = 0;
        let mut buffer = [0; 4096];
        let until_cut = async {
            while stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: c\r\n\r\n").await.is_ok()
                && stream.read(&mut buffer).await.is_ok_and(|read| read > 0)
            {
                answers += 1;
            }
        };
        timeout(Duration::from_secs(30), until_cut).await.unwrap();
        assert!(answers > 0);
    }

    #[tokio::test]
    async fn of_one_address_the_oldest_connection_gives_way() {
        let server = Server::start(Limits { connections_of_one: 2, ..Limits::default() }).await;
        let mut held = Vec::new();
        for _ in 0..2 {
            let mut stream = server.connect().await;
            stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: c\r\n\r\n").await.unwrap();
            assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
            held.push(stream);
        }
        assert_eq!(code(&server.get("/healthz").await), 200);
        assert_eq!(heard(&mut held[0]).await, "");
        held[1].write_all(b"GET /healthz HTTP/1.1\r\nhost: c\r\n\r\n").await.unwrap();
        assert!(held[1].read(&mut [0; 4096]).await.unwrap() > 0);
    }

    #[tokio::test]
    async fn whoever_holds_most_gives_way_to_a_newcomer() {
        let limits = Limits { connections: 3, connections_of_one: 2, ..Limits::default() };
        let connections = Connections::new(limits);
        let [one, other, probe]: [IpAddr; 3] = [1, 2, 3].map(|last| [10, 0, 0, last].into());
        let mut held = [one, other, one].map(|peer| connections.admit(peer));
        let mut newcomer = connections.admit(probe);
        held[0].is_cut().await;
        assert!(held[1..].iter_mut().all(|place| place.kept.try_recv() == Err(TryRecvError::Empty)));
        let second = connections.admit(probe);
        held[1].is_cut().await;
        let third = connections.admit(probe);
        newcomer.is_cut().await;
        assert_eq!(connections.open().places.values().map(BTreeMap::len).sum::<usize>(), 3);
        drop((held, newcomer, second, third));
        assert!(connections.open().places.is_empty());
    }

    #[tokio::test]
    async fn addresses_that_join_cannot_keep_the_probes_out() {
        let server = Server::start(Limits { connections: 4, connections_of_one: 2, ..Limits::default() }).await;
        let mut held = Vec::new();
        for last in [2, 2, 3, 3] {
            let socket = TcpSocket::new_v4().unwrap();
            socket.bind(SocketAddr::from(([127, 0, 0, last], 0))).unwrap();
            let mut stream = socket.connect(server.address).await.unwrap();
            stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: c\r\n\r\n").await.unwrap();
            assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
            held.push(stream);
        }
        assert_eq!(code(&server.get("/healthz").await), 200);
        assert_eq!(heard(&mut held[0]).await, "");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn requests_beyond_what_can_be_at_work_are_refused_and_probes_are_not() {
        let (entered, mut at_work) = tokio::sync::mpsc::unbounded_channel();
        let (release, released) = std::sync::mpsc::channel::<()>();
        let released = Mutex::new(released);
        let verify = move |_: &SealedSecret| {
            entered.send(()).unwrap();
            released.lock().unwrap().recv().is_ok()
        };
        let server = Server::start_with(Limits { requests: 1, ..Limits::default() }, Arc::new(verify)).await;
        let mut first = server.connect().await;
        first.write_all(&verification(sealed_secret("ours").to_string().as_bytes())).await.unwrap();
        at_work.recv().await.unwrap();
        assert_eq!(code(&server.get("/metrics").await), 503);
        assert_eq!(code(&server.get("/healthz").await), 200);
        release.send(()).unwrap();
        assert_eq!(code(&heard(&mut first).await), 200);
        assert_eq!(code(&server.get("/metrics").await), 200);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn the_request_at_work_is_finished_at_shutdown_and_no_other_is_taken() {
        let (entered, mut at_work) = tokio::sync::mpsc::unbounded_channel();
        let (release, released) = std::sync::mpsc::channel::<()>();
        let released = Mutex::new(released);
        let verify = move |_: &SealedSecret| {
            entered.send(()).unwrap();
            released.lock().unwrap().recv().is_ok()
        };
        let server = Server::start_with(Limits::default(), Arc::new(verify)).await;
        let mut idle = server.connect().await;
        let mut first = server.connect().await;
        first.write_all(&verification(sealed_secret("ours").to_string().as_bytes())).await.unwrap();
        at_work.recv().await.unwrap();
        server.stop.send(()).unwrap();
        assert_eq!(heard(&mut idle).await, "");
        assert!(TcpStream::connect(server.address).await.is_err());
        release.send(()).unwrap();
        assert_eq!(code(&heard(&mut first).await), 200);
        server.task.await.unwrap();
    }

    #[tokio::test]
    async fn nothing_else_is_there() {
        let server = Server::start(Limits::default()).await;
        assert_eq!(code(&server.get("/v1/secrets").await), 404);
        assert_eq!(code(&server.get("/v1/verify").await), 405);
        let answer = server.get("/metrics").await;
        assert!(answer.contains("cache-control: no-store") && answer.ends_with("# EOF\n"), "{answer}");
        assert!(answer.contains(r#"sealwright_http_requests_total{endpoint="other",code="404"} 1"#), "{answer}");
    }
}
