//! The exact requests of one look at an object, against an API server that answers from a script.
//!
//! What the real API server makes of these requests is the business of the suites in `tests/`; here stands that no
//! request is ever more than needed, carries its precondition, and is sent at all only while this replica may write.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use http_body_util::BodyExt;
use kube::{Client, client::Body};
use seal_controller::{
    apply::Writer,
    events,
    keys::{KeyIndex, OpenedRing, rings::OpenedKey},
    lease::{self, Announcement},
    metrics::Metrics,
    realm::Realm,
    report::Report,
    sealed::{self, Context, Next},
    store::{Key, Store},
    target,
    vault::{
        self, Retry, VaultFailure,
        cluster::Cluster,
        course::Wish,
        errand::{Errands, Fetched, Known},
        link::StoreId,
        mac::MacKey,
        meter::Meter,
        reader::Reader,
        value::Values,
    },
};
use seal_crds::{
    SealedSecret,
    condition::{KeyRingReason, RecoverableReason, VaultReason},
};
use seal_envelope::{DataKey, Identity, RingKey, SealedFor};
use serde_json::{Value, json};
use tokio::sync::watch;

const MARKER: &str = "plaintext-that-must-not-be-seen";

/// A request as it is compared: method, path with query, and the body.
struct Seen {
    line: String,
    body: Value,
}

/// What a request is answered with.
enum Answer {
    /// This.
    Fixed(u16, Value),
    /// The object with the status of the request, at this version.
    Patched(Value, &'static str),
}

#[derive(Default)]
struct Script {
    answers: VecDeque<Answer>,
    seen: Vec<Seen>,
}

/// A controller with one key, before an API server that answers from a script.
struct Scenario {
    context: Context,
    script: Arc<Mutex<Script>>,
    ring_key: RingKey,
    announcement: Announcement,
    schema: watch::Sender<bool>,
    // The context holds the other end.
    _keys: watch::Sender<Arc<KeyIndex>>,
}

impl Scenario {
    /// A replica that leads, with a ring key that opens.
    fn new() -> Self {
        let script = Arc::new(Mutex::new(Script::default()));
        let client = Client::new(service(script.clone()), "default");
        let (announcement, leadership) = lease::leadership();
        announcement.announce(Some(Instant::now() + Duration::from_secs(3600)));
        let (schema, is_schema_right) = watch::channel(true);
        let ring_key = RingKey::generate().unwrap();
        let (keys, index) = watch::channel(Arc::new(index_of(&ring_key)));
        let metrics = Arc::new(Metrics::new());
        // Events are published outside of a look, so no request of theirs is among the expected ones.
        let (events, _) = events::channel(client.clone(), "replica", metrics.clone());
        let report = Report { metrics, events };
        let (reader, _) = Reader::new(Cluster::new(client.clone(), false), Meter::default());
        let mac_key = watch::Sender::new(Some(MacKey::of(&Identity::generate().unwrap())));
        let (errands, _) = Errands::new(reader, true, mac_key.subscribe());
        let context = Context {
            client: client.clone(),
            writer: Writer::new(client, leadership, is_schema_right),
            store: Arc::new(Mutex::new(Store::new(1 << 20))),
            keys: index,
            own_namespace: "sealwright-system".into(),
            realm: Realm::Cluster,
            errands,
            verify_every: None,
            report,
        };
        Self { context, script, ring_key, announcement, schema, _keys: keys }
    }

    /// An object `shop/db` with one value, as the API server first shows it.
    fn object(&self) -> Value {
        let sealed_for = SealedFor::new(Some("db"), ["shop"]).unwrap();
        let key = DataKey::new("password").unwrap();
        let token = seal_envelope::seal(self.ring_key.recipient(), &sealed_for, &key, MARKER.as_bytes()).unwrap();
        json!({
            "apiVersion": "sealwright.dev/v1alpha1", "kind": "SealedSecret",
            "metadata": {
                "name": "db", "namespace": "shop", "uid": "object-uid", "resourceVersion": "100", "generation": 1,
                "creationTimestamp": "2026-11-21T09:00:00Z",
            },
            "spec": {
                "sealedFor": {"name": "db", "namespaces": ["shop"]},
                "encryptedData": {"password": token.to_string()},
            },
            "status": {"observedGeneration": -1},
        })
    }

    /// Lets the watch bring an object.
    fn arrives(&self, object: &Value) {
        let object: SealedSecret = serde_json::from_value(object.clone()).unwrap();
        self.context.store().apply_object(Ok(object));
    }

    /// What the next requests are answered with.
    fn answers<const N: usize>(&self, answers: [Answer; N]) {
        self.script.lock().unwrap().answers.extend(answers);
    }

    async fn look(&self) -> Next {
        self.look_at(false).await
    }

    async fn look_at(&self, verify: bool) -> Next {
        sealed::reconcile(&self.context, &Key::new("shop", "db"), verify, 0).await.next
    }

    /// A look after `failures` others that failed.
    async fn look_again(&self, failures: u32) -> Next {
        sealed::reconcile(&self.context, &Key::new("shop", "db"), false, failures).await.next
    }

    /// The requests since the last time, in order. Every answer of the script must have been used.
    fn requests(&self) -> Vec<Seen> {
        let mut script = self.script.lock().unwrap();
        assert!(script.answers.is_empty(), "{} answers were not asked for", script.answers.len());
        let seen = std::mem::take(&mut script.seen);
        for request in seen.iter().filter(|request| request.line.contains("sealwright.dev")) {
            assert!(!request.body.to_string().contains(MARKER), "a status shows a value");
        }
        seen
    }

    fn lines(&self) -> Vec<String> {
        self.requests().into_iter().map(|request| request.line).collect()
    }
}

fn service(
    script: Arc<Mutex<Script>>,
) -> impl tower::Service<
    http::Request<Body>,
    Response = http::Response<Body>,
    Error = std::io::Error,
    Future = impl Future<Output = Result<http::Response<Body>, std::io::Error>> + Send,
> + Clone
+ Send {
    tower::service_fn(move |request: http::Request<Body>| {
        let script = script.clone();
        async move {
            let line = format!("{} {}", request.method(), request.uri().path_and_query().unwrap());
            if line == CREDENTIAL {
                std::future::pending::<()>().await;
            }
            let bytes = request.into_body().collect().await.unwrap().to_bytes();
            let body = serde_json::from_slice(&bytes).unwrap_or_default();
            let mut script = script.lock().unwrap();
            let (code, answer) = match script.answers.pop_front() {
                Some(Answer::Fixed(code, answer)) => (code, answer),
                Some(Answer::Patched(object, version)) => (200, with_status(&object, version, &body)),
                // The comparison of the requests shows it.
                None => (501, json!({"code": 501, "reason": "NotForeseen", "status": "Failure", "message": ""})),
            };
            script.seen.push(Seen { line, body });
            let response = http::Response::builder().status(code).header("content-type", "application/json");
            Ok(response.body(Body::from(answer.to_string().into_bytes())).unwrap())
        }
    })
}

fn index_of(ring_key: &RingKey) -> KeyIndex {
    let ring = OpenedRing {
        name: "prod".into(),
        keys: vec![OpenedKey {
            id: ring_key.id(),
            opened: Some((ring_key.clone(), "here".into())),
            is_proven: true,
            is_disabled: false,
        }],
        members: Vec::new(),
        reason: KeyRingReason::Opened,
        message: String::new(),
        recoverable: RecoverableReason::OtherMembers,
    };
    let (index, findings) = KeyIndex::new(&[ring]);
    assert_eq!(findings, []);
    index
}

fn failure(code: u16, reason: &str, causes: Value) -> Answer {
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason,
        "message": reason, "details": {"causes": causes},
    });
    Answer::Fixed(code, status)
}

fn conflict() -> Answer {
    failure(409, "Conflict", json!([]))
}

/// The metadata of the Secret as our apply leaves it.
fn secret_metadata(resource_version: &str) -> Value {
    json!({
        "name": "db", "namespace": "shop", "uid": "secret-uid", "resourceVersion": resource_version,
        "labels": {"sealwright.dev/owner": target::owner_label("db")},
        "annotations": {"sealwright.dev/owner": "SealedSecret/db"},
        "ownerReferences": [{
            "apiVersion": "sealwright.dev/v1alpha1", "kind": "SealedSecret", "name": "db", "uid": "object-uid",
            "controller": true,
        }],
        "managedFields": [managed("Apply", json!({"f:password": {}}))],
    })
}

fn managed(operation: &str, data: Value) -> Value {
    let ours = operation == "Apply";
    json!({
        "manager": if ours { "seal-controller" } else { "kubectl-edit" }, "operation": operation, "apiVersion": "v1",
        "fieldsType": "FieldsV1",
        "fieldsV1": if ours {
            json!({
                "f:data": data, "f:type": {},
                "f:metadata": {
                    "f:labels": {"f:sealwright.dev/owner": {}},
                    "f:annotations": {"f:sealwright.dev/owner": {}},
                    "f:ownerReferences": {"k:{\"uid\":\"object-uid\"}": {}},
                },
            })
        } else {
            json!({"f:data": data})
        },
    })
}

fn applied(resource_version: &str) -> Answer {
    let metadata = secret_metadata(resource_version);
    found(json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": metadata}))
}

fn found(object: Value) -> Answer {
    Answer::Fixed(200, object)
}

/// The whole Secret with these values.
fn secret(resource_version: &str, data: Value) -> Value {
    let metadata = secret_metadata(resource_version);
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", "data": data})
}

fn base64(text: &str) -> String {
    use base64::{Engine, prelude::BASE64_STANDARD};
    BASE64_STANDARD.encode(text)
}

/// The object after its status was patched by a request with this body.
fn with_status(object: &Value, version: &str, patch: &Value) -> Value {
    let mut object = object.clone();
    object["metadata"]["resourceVersion"] = json!(version);
    object["status"] = patch["status"].clone();
    // In a merge patch null means absent.
    object["status"].as_object_mut().unwrap().retain(|_, value| !value.is_null());
    object
}

const APPLY: &str = "PATCH /api/v1/namespaces/shop/secrets/db?&force=true&fieldManager=seal-controller";
const READ: &str = "GET /api/v1/namespaces/shop/secrets/db";
const OBJECT: &str = "GET /apis/sealwright.dev/v1alpha1/namespaces/shop/sealedsecrets/db?&resourceVersion=200";
const OBJECT_NOW: &str = "GET /apis/sealwright.dev/v1alpha1/namespaces/shop/sealedsecrets/db";
const STATUS: &str =
    "PATCH /apis/sealwright.dev/v1alpha1/namespaces/shop/sealedsecrets/db/status?&fieldManager=seal-controller";

/// What the last status patch says of `Ready`: status and reason.
fn ready(requests: &[Seen]) -> (String, String) {
    let status = &requests.iter().rfind(|request| request.line == STATUS).unwrap().body["status"];
    let ready = status["conditions"].as_array().unwrap().iter().find(|c| c["type"] == "Ready").unwrap();
    (ready["status"].as_str().unwrap().into(), ready["reason"].as_str().unwrap().into())
}

/// Brings an object through its first look, so that it is settled at version 200 with its Secret at 150.
async fn settled(scenario: &Scenario) -> Value {
    let object = scenario.object();
    scenario.arrives(&object);
    scenario.answers([applied("150"), Answer::Patched(object.clone(), "200")]);
    assert_eq!(scenario.look().await, Next::Settled);
    with_status(&object, "200", &scenario.requests()[1].body)
}

#[tokio::test]
async fn a_fresh_object_costs_one_apply_and_one_status() {
    let scenario = Scenario::new();
    let object = scenario.object();
    scenario.arrives(&object);
    scenario.answers([applied("150"), Answer::Patched(object.clone(), "200")]);
    assert_eq!(scenario.look().await, Next::Settled);

    let requests = scenario.requests();
    let lines: Vec<_> = requests.iter().map(|request| request.line.as_str()).collect();
    assert_eq!(lines, [APPLY, STATUS]);
    // The apply creates what must be absent, and nothing else.
    let apply = &requests[0].body;
    assert_eq!(apply["metadata"]["resourceVersion"], "1");
    assert_eq!(apply["metadata"].get("uid"), None);
    assert_eq!(apply["data"], json!({"password": base64(MARKER)}));
    assert_eq!(apply["metadata"]["ownerReferences"][0]["uid"], "object-uid");
    // The status is of the object that was read.
    let patch = &requests[1].body;
    assert_eq!(
        (&patch["metadata"]["uid"], &patch["metadata"]["resourceVersion"]),
        (&json!("object-uid"), &json!("100"))
    );
    assert_eq!(patch["status"]["observedGeneration"], 1);
    assert_eq!(patch["status"]["secret"]["uid"], "secret-uid");
    assert_eq!(ready(&requests), ("True".into(), "Synced".into()));
}

#[tokio::test]
async fn a_settled_object_costs_nothing() {
    let scenario = Scenario::new();
    settled(&scenario).await;
    assert_eq!(scenario.look().await, Next::Settled);
    assert_eq!(scenario.lines(), [""; 0]);
}

#[tokio::test]
async fn the_verification_of_a_right_secret_is_one_read() {
    let scenario = Scenario::new();
    let object = settled(&scenario).await;
    // Settled objects do not wait in the store.
    scenario.answers([found(object.clone()), found(secret("150", json!({"password": base64(MARKER)})))]);
    assert_eq!(scenario.look_at(true).await, Next::Settled);
    assert_eq!(scenario.lines(), [OBJECT, READ]);
}

#[tokio::test]
async fn a_secret_that_appeared_unseen_is_read_and_left_alone_if_it_is_foreign() {
    let scenario = Scenario::new();
    let object = scenario.object();
    scenario.arrives(&object);
    let foreign = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque", "data": {"a": base64("b")},
        "metadata": {"name": "db", "namespace": "shop", "uid": "foreign-uid", "resourceVersion": "50"},
    });
    scenario.answers([conflict(), found(object.clone()), found(foreign), Answer::Patched(object.clone(), "200")]);
    scenario.look().await;
    let requests = scenario.requests();
    let lines: Vec<_> = requests.iter().map(|request| request.line.as_str()).collect();
    assert_eq!((lines[0], lines[2], lines[3]), (APPLY, READ, STATUS));
    assert!(lines.len() == 4 && lines[1].starts_with("GET "));
    assert_eq!(ready(&requests), ("False".into(), "TargetNotOwned".into()));
}

#[tokio::test]
async fn an_edited_secret_is_repaired_by_one_apply_with_the_version_that_was_read() {
    let scenario = Scenario::new();
    let object = settled(&scenario).await;
    let edited = json!({"password": base64("edited")});
    scenario.answers([
        found(object.clone()),
        found(secret("160", edited)),
        applied("161"),
        Answer::Patched(object.clone(), "201"),
    ]);
    assert_eq!(scenario.look_at(true).await, Next::Settled);
    let requests = scenario.requests();
    let lines: Vec<_> = requests.iter().map(|request| request.line.as_str()).collect();
    assert_eq!(lines[1..], [READ, APPLY, STATUS]);
    let apply = &requests[2].body["metadata"];
    assert_eq!((&apply["uid"], &apply["resourceVersion"]), (&json!("secret-uid"), &json!("160")));
}

#[tokio::test]
async fn an_extra_key_costs_one_more_patch_that_moves_ownership_first() {
    let scenario = Scenario::new();
    let object = settled(&scenario).await;
    let mut extra = secret("160", json!({"password": base64(MARKER), "extra": base64("x")}));
    extra["metadata"]["managedFields"] =
        json!([managed("Apply", json!({"f:password": {}})), managed("Update", json!({"f:extra": {}}))]);
    scenario.answers([
        found(object.clone()),
        found(extra),
        applied("161"),
        applied("162"),
        Answer::Patched(object.clone(), "201"),
    ]);
    assert_eq!(scenario.look_at(true).await, Next::Settled);
    let requests = scenario.requests();
    let patch = &requests[2];
    assert_eq!(patch.line, "PATCH /api/v1/namespaces/shop/secrets/db?&fieldManager=seal-controller");
    let tests: Vec<_> = patch.body.as_array().unwrap().iter().filter(|op| op["op"] == "test").collect();
    assert_eq!(tests.len(), 2, "uid and resourceVersion are tested");
    assert_eq!(tests[1]["value"], "160");
    assert_eq!((requests[3].line.as_str(), requests[4].line.as_str()), (APPLY, STATUS));
    assert_eq!(requests[3].body["metadata"]["resourceVersion"], "161");
}

#[tokio::test]
async fn a_secret_that_vanishes_before_its_ownership_moves_is_made_anew() {
    let scenario = Scenario::new();
    let object = settled(&scenario).await;
    let mut extra = secret("160", json!({"password": base64(MARKER), "extra": base64("x")}));
    extra["metadata"]["managedFields"] =
        json!([managed("Apply", json!({"f:password": {}})), managed("Update", json!({"f:extra": {}}))]);
    scenario.answers([
        found(object.clone()),
        found(extra),
        failure(404, "NotFound", json!([])),
        found(object.clone()),
        failure(404, "NotFound", json!([])),
        applied("170"),
        Answer::Patched(object.clone(), "201"),
    ]);
    assert_eq!(scenario.look_at(true).await, Next::Settled);
    let lines = scenario.lines();
    assert_eq!(lines[3..], [OBJECT, READ, APPLY, STATUS]);
}

#[tokio::test]
async fn without_the_lease_or_under_an_older_schema_nothing_is_written() {
    for why in ["no lease", "lease over", "schema"] {
        let scenario = Scenario::new();
        scenario.arrives(&scenario.object());
        match why {
            "no lease" => scenario.announcement.announce(None),
            "lease over" => scenario.announcement.announce(Some(Instant::now())),
            _ => drop(scenario.schema.send_replace(false)),
        }
        // The lease may come back before anybody heard that it was gone: the object is not forgotten.
        assert_eq!(scenario.look().await, Next::Retry(Duration::ZERO), "{why}");
        assert_eq!(scenario.lines(), [""; 0], "{why}");
    }
}

#[tokio::test]
async fn a_namespace_that_is_being_deleted_is_left_in_peace() {
    let scenario = Scenario::new();
    scenario.arrives(&scenario.object());
    scenario.answers([failure(403, "Forbidden", json!([{"reason": "NamespaceTerminating"}]))]);
    assert_eq!(scenario.look().await, Next::Nothing);
    assert_eq!(scenario.lines(), [APPLY]);
}

#[tokio::test]
async fn a_server_in_trouble_gets_one_request_and_the_object_its_backoff() {
    for code in [429, 500, 503] {
        let scenario = Scenario::new();
        scenario.arrives(&scenario.object());
        scenario.answers([failure(code, "Trouble", json!([]))]);
        assert_eq!(scenario.look().await, Next::Retry(Duration::ZERO), "{code}");
        assert_eq!(scenario.lines(), [APPLY], "{code}");
    }
}

#[tokio::test]
async fn a_failure_that_lasts_is_told_once_whatever_its_words_are_and_heals() {
    let scenario = Scenario::new();
    let object = scenario.object();
    scenario.arrives(&object);
    scenario.answers([failure(500, "InternalError", json!([]))]);
    assert_eq!(scenario.look().await, Next::Retry(Duration::ZERO));
    assert_eq!(scenario.lines(), [APPLY], "the first time, nobody is told");

    let trouble = failure(500, "InternalError", json!([]));
    scenario.answers([trouble, found(object.clone()), Answer::Patched(object.clone(), "200")]);
    assert_eq!(scenario.look_again(1).await, Next::Retry(Duration::ZERO));
    let requests = scenario.requests();
    assert_eq!(requests.len(), 3);
    assert_eq!(ready(&requests), ("False".into(), "WriteFailed".into()));
    let told = with_status(&object, "200", &requests[2].body);
    let is_tried_again = |condition: &Value| condition["type"] == "Reconciling" && condition["status"] == "True";
    assert!(told["status"]["conditions"].as_array().unwrap().iter().any(is_tried_again), "{told}");

    for failures in 2..5 {
        scenario.answers([found(told.clone()), failure(503, "ServiceUnavailable", json!([]))]);
        scenario.look_again(failures).await;
        assert_eq!(scenario.lines(), [OBJECT, APPLY], "the status says it already");
    }
    scenario.answers([found(told.clone()), applied("150"), Answer::Patched(object.clone(), "201")]);
    assert_eq!(scenario.look_again(5).await, Next::Settled);
    assert_eq!(ready(&scenario.requests()), ("True".into(), "Synced".into()));
}

#[tokio::test]
async fn an_object_that_keeps_changing_is_given_up_for_now_and_the_next_time_that_is_told() {
    for failures in [0, 1] {
        let scenario = Scenario::new();
        let object = scenario.object();
        scenario.arrives(&object);
        let wrong = || found(secret("160", json!({"password": base64("edited")})));
        scenario.answers([conflict()]);
        for _ in 0..3 {
            scenario.answers([found(object.clone()), wrong(), conflict()]);
        }
        if failures > 0 {
            scenario.answers([found(object.clone()), Answer::Patched(object.clone(), "200")]);
        }
        assert_eq!(scenario.look_again(failures).await, Next::Retry(Duration::ZERO));
        let requests = scenario.requests();
        assert_eq!(requests.iter().filter(|request| request.line == APPLY).count(), 4);
        if failures > 0 {
            assert_eq!(ready(&requests), ("False".into(), "WriteFailed".into()));
        }
    }
}

#[tokio::test]
async fn an_old_secret_that_may_not_be_removed_is_named() {
    let scenario = Scenario::new();
    let object = scenario.object();
    scenario.arrives(&object);
    let mut old = secret_metadata("90");
    old["name"] = json!("old");
    scenario.context.store().apply_secret(&serde_json::from_value(old).unwrap());
    let refusal = failure(403, "Forbidden", json!([]));
    scenario.answers([applied("150"), refusal, Answer::Patched(object.clone(), "200")]);
    assert_eq!(scenario.look().await, Next::Retry(Duration::ZERO));
    let requests = scenario.requests();
    assert!(requests[1].line.starts_with("DELETE /api/v1/namespaces/shop/secrets/old"), "{}", requests[1].line);
    assert_eq!(ready(&requests), ("False".into(), "WriteRefused".into()));
    assert!(requests[2].body.to_string().contains("Secret old"), "{}", requests[2].body);
}

#[tokio::test]
async fn a_secret_whose_object_vanished_meanwhile_is_deleted_again() {
    let scenario = Scenario::new();
    scenario.arrives(&scenario.object());
    scenario.answers([applied("150"), failure(404, "NotFound", json!([])), found(json!({"kind": "Status"}))]);
    assert_eq!(scenario.look().await, Next::Nothing);
    let requests = scenario.requests();
    let lines: Vec<_> = requests.iter().map(|request| request.line.as_str()).collect();
    assert_eq!(lines[..2], [APPLY, STATUS]);
    assert!(lines[2].starts_with("DELETE /api/v1/namespaces/shop/secrets/db"), "{}", lines[2]);
    assert_eq!(requests[2].body["preconditions"]["uid"], "secret-uid");
    assert_eq!(requests.len(), 3);
}

#[tokio::test]
async fn what_cannot_be_opened_costs_one_status_and_then_nothing_but_it() {
    let scenario = Scenario::new();
    let mut object = scenario.object();
    let moved = object["spec"]["encryptedData"]["password"].take();
    object["spec"]["encryptedData"] = json!({"other": moved});
    scenario.arrives(&object);
    scenario.answers([Answer::Patched(object.clone(), "200")]);
    scenario.look().await;
    let requests = scenario.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(ready(&requests).0, "False");

    // The same again: the status says it already.
    scenario.answers([found(with_status(&object, "200", &requests[0].body))]);
    scenario.look().await;
    assert_eq!(scenario.lines(), [OBJECT]);
}

#[tokio::test]
async fn a_template_that_fails_on_purpose_shows_no_byte_of_a_value() {
    let scenario = Scenario::new();
    let mut object = scenario.object();
    object["spec"]["template"] = json!({"data": {"url": "{{ index .password (index .password 0) }}"}});
    scenario.arrives(&object);
    scenario.answers([Answer::Patched(object.clone(), "200")]);
    scenario.look().await;
    let requests = scenario.requests();
    assert_eq!(requests.len(), 1);
    assert_eq!(ready(&requests), ("False".into(), "TemplateFailed".into()));
    let said = requests[0].body.to_string();
    assert!(said.contains("template of key `url`, line 1, column 4: execution failed"), "{said}");
    // 112 is its first byte.
    assert!(!said.contains("112"), "{said}");
}

#[tokio::test]
async fn of_a_client_side_apply_no_second_copy_is_kept() {
    let mut object = Scenario::new().object();
    let last_applied = "kubectl.kubernetes.io/last-applied-configuration";
    object["metadata"]["annotations"] = json!({last_applied: object.to_string(), "note": "x"});
    let kept = sealed::read::stripped(serde_json::from_value(object).unwrap()).unwrap();
    assert_eq!(kept.metadata.annotations.unwrap().into_keys().collect::<Vec<_>>(), ["note"]);
}

/// The Secret with the credential of the store. Its lookup is never answered here, so that an errand ends when the test
/// says how.
const CREDENTIAL: &str = "GET /api/v1/namespaces/shop/secrets/token";

/// An object that also wants `user` from store `main`.
fn wanting(scenario: &Scenario) -> Value {
    // Another test of this process may have been faster.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let store = json!({
        "apiVersion": "sealwright.dev/v1alpha1", "kind": "VaultStore",
        "metadata": {"name": "main", "namespace": "shop", "uid": "store-uid", "generation": 1},
        "spec": {"address": "https://vault.test", "auth": {"token": {"secretRef": {"name": "token", "key": "id"}}}},
    });
    let store = Known::Store(Arc::new(serde_json::from_value(store).unwrap()));
    scenario.context.errands.see_store(&StoreId::new("shop", "main"), store);
    let mut object = scenario.object();
    let data = json!([{"key": "user", "mount": "kv", "path": "db", "field": "user"}]);
    object["spec"]["vault"] = json!({"storeRef": {"name": "main"}, "data": data});
    object
}

impl Scenario {
    /// The errand of `shop/db` ends.
    fn comes(&self, object: &Value, result: Result<Fetched, VaultFailure>) {
        let object: SealedSecret = serde_json::from_value(object.clone()).unwrap();
        let brought = vault::errand::Answer::new(Wish::of(&object.metadata), result, Instant::now());
        self.context.errands.keep(&Key::new("shop", "db"), brought);
    }

    /// The next fetch is due.
    fn due(&self) {
        self.context.store().fetch_again(&StoreId::new("shop", "main"), |_, _| true, false, 20, Instant::now());
    }
}

fn fetched(user: &str, mac: &str) -> Result<Fetched, VaultFailure> {
    let values = [("user".to_owned(), user.as_bytes().to_vec().into())].into();
    let versions = [("kv/db".to_owned(), 1)].into();
    Ok(Fetched { values: Values { values, versions, hold: None }, mac: mac.to_owned() })
}

fn sealed_server() -> Result<Fetched, VaultFailure> {
    let message = "the server of VaultStore shop/main is sealed".to_owned();
    Err(VaultFailure { reason: VaultReason::VaultSealed, message, retry: Retry::WhenUp })
}

/// What the last status patch says of a condition: status and reason.
fn says(requests: &[Seen], type_: &str) -> Option<(String, String)> {
    let status = &requests.iter().rfind(|request| request.line == STATUS)?.body["status"];
    let condition = status["conditions"].as_array()?.iter().find(|condition| condition["type"] == type_)?;
    Some((condition["status"].as_str()?.into(), condition["reason"].as_str()?.into()))
}

fn claim(status: &str, reason: &str) -> Option<(String, String)> {
    Some((status.into(), reason.into()))
}

/// Brings an object with a Vault part through its first looks; gives it as it is then.
async fn synced(scenario: &Scenario) -> Value {
    let object = wanting(scenario);
    scenario.arrives(&object);
    assert_eq!(scenario.look().await, Next::Fetching);
    assert_eq!(scenario.lines(), [""; 0], "the slot is free before anything is asked");
    scenario.comes(&object, fetched("ada", "m1"));
    scenario.answers([applied_both("150"), Answer::Patched(object.clone(), "200")]);
    assert_eq!(scenario.look().await, Next::Settled);
    let requests = scenario.requests();
    let lines: Vec<_> = requests.iter().map(|request| request.line.as_str()).collect();
    assert_eq!(lines, [APPLY, STATUS]);
    assert_eq!(requests[0].body["data"], json!({"password": base64(MARKER), "user": base64("ada")}));
    assert_eq!(says(&requests, "VaultSynced"), claim("True", "Synced"));
    let status = &requests[1].body["status"];
    assert_eq!((&status["dataMAC"], &status["vaultVersions"]), (&json!("m1"), &json!({"kv/db": 1})));
    with_status(&object, "200", &requests[1].body)
}

/// The answer to an apply of both values.
fn applied_both(resource_version: &str) -> Answer {
    found(json!({
        "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadata", "metadata": both_metadata(resource_version),
    }))
}

fn both_metadata(resource_version: &str) -> Value {
    let mut metadata = secret_metadata(resource_version);
    metadata["managedFields"] = json!([managed("Apply", json!({"f:password": {}, "f:user": {}}))]);
    metadata
}

/// The whole Secret with both values.
fn both(resource_version: &str, user: &str) -> Answer {
    let mut secret = secret(resource_version, json!({"password": base64(MARKER), "user": base64(user)}));
    secret["metadata"] = both_metadata(resource_version);
    found(secret)
}

#[tokio::test]
async fn a_refresh_that_brings_nothing_new_costs_one_read_of_the_object_and_no_write() {
    let scenario = Scenario::new();
    let object = synced(&scenario).await;
    assert_eq!(scenario.look().await, Next::Settled, "nothing is due");
    for _ in 0..3 {
        scenario.due();
        scenario.answers([found(object.clone())]);
        assert_eq!(scenario.look().await, Next::Fetching);
        assert_eq!(scenario.lines(), [OBJECT]);
        scenario.comes(&object, fetched("ada", "m1"));
        assert_eq!(scenario.look().await, Next::Settled);
        assert_eq!(scenario.lines(), [""; 0]);
        assert_eq!(scenario.look().await, Next::Settled, "the next one is due later");
    }
}

#[tokio::test]
async fn what_changed_in_vault_is_one_guarded_apply_and_one_status() {
    let scenario = Scenario::new();
    let object = synced(&scenario).await;
    scenario.due();
    scenario.answers([found(object.clone())]);
    scenario.look().await;
    scenario.comes(&object, fetched("grace", "m2"));
    scenario.answers([both("150", "ada"), applied_both("151"), Answer::Patched(object.clone(), "201")]);
    assert_eq!(scenario.look().await, Next::Settled);
    let requests = scenario.requests();
    let lines: Vec<_> = requests.iter().map(|request| request.line.as_str()).collect();
    assert_eq!(lines, [OBJECT, READ, APPLY, STATUS]);
    assert_eq!(requests[2].body["metadata"]["resourceVersion"], "150");
    assert_eq!(requests[3].body["status"]["dataMAC"], "m2");
}

#[tokio::test]
async fn an_outage_costs_one_status_and_leaves_the_secret_alone() {
    let scenario = Scenario::new();
    let object = synced(&scenario).await;
    scenario.due();
    scenario.answers([found(object.clone())]);
    scenario.look().await;
    scenario.comes(&object, sealed_server());
    scenario.answers([Answer::Patched(object.clone(), "201")]);
    assert_eq!(scenario.look().await, Next::Later);
    let requests = scenario.requests();
    let lines: Vec<_> = requests.iter().map(|request| request.line.as_str()).collect();
    assert_eq!(lines, [OBJECT, STATUS]);
    assert_eq!(says(&requests, "Ready"), claim("True", "Synced"));
    assert_eq!(says(&requests, "VaultSynced"), claim("False", "VaultSealed"));

    // The same again is no news, and the end of it is.
    let told = with_status(&object, "201", &requests[1].body);
    scenario.due();
    scenario.answers([found(told.clone())]);
    scenario.look().await;
    scenario.comes(&told, sealed_server());
    assert_eq!(scenario.look().await, Next::Later);
    assert_eq!(scenario.requests().len(), 1);
    scenario.due();
    scenario.answers([found(told.clone())]);
    scenario.look().await;
    scenario.comes(&told, fetched("ada", "m1"));
    scenario.answers([both("150", "ada"), Answer::Patched(told.clone(), "202")]);
    assert_eq!(scenario.look().await, Next::Settled);
    assert_eq!(says(&scenario.requests(), "VaultSynced"), claim("True", "Synced"));
}

#[tokio::test]
async fn a_first_fetch_that_fails_withholds_the_sealed_values_too() {
    let scenario = Scenario::new();
    let object = wanting(&scenario);
    scenario.arrives(&object);
    scenario.look().await;
    scenario.comes(&object, sealed_server());
    scenario.answers([Answer::Patched(object.clone(), "200")]);
    assert_eq!(scenario.look().await, Next::Later);
    let requests = scenario.requests();
    assert_eq!(requests.len(), 1, "no Secret");
    assert_eq!(says(&requests, "Ready"), claim("False", "NeverSynced"));
    assert_eq!(says(&requests, "Reconciling"), claim("True", "NeverSynced"));
    // Whatever else wakes it, Vault is not asked again before its time.
    scenario.answers([found(with_status(&object, "200", &requests[0].body))]);
    assert_eq!(scenario.look().await, Next::Later);
    assert_eq!(scenario.lines(), [OBJECT]);
}

#[tokio::test]
async fn a_restart_over_what_is_fresh_asks_nobody() {
    let before = Scenario::new();
    let object = synced(&before).await;
    let scenario = Scenario { ring_key: before.ring_key.clone(), ..Scenario::new() };
    let keys = watch::Sender::new(Arc::new(index_of(&scenario.ring_key)));
    let scenario = Scenario { context: Context { keys: keys.subscribe(), ..scenario.context.clone() }, ..scenario };
    scenario.arrives(&object);
    scenario.context.store().apply_secret(&serde_json::from_value(both_metadata("150")).unwrap());
    assert_eq!(scenario.look().await, Next::Settled);
    assert_eq!(scenario.lines(), [""; 0]);
}

#[tokio::test]
async fn the_refresh_annotation_is_acted_on_once() {
    let scenario = Scenario::new();
    let object = synced(&scenario).await;
    let mut asked = object.clone();
    asked["metadata"]["annotations"] = json!({"sealwright.dev/refresh": "now"});
    asked["metadata"]["resourceVersion"] = json!("205");
    scenario.arrives(&asked);
    scenario.answers([found(asked.clone())]);
    assert_eq!(scenario.look().await, Next::Fetching);
    scenario.comes(&asked, fetched("ada", "m1"));
    scenario.answers([both("150", "ada"), Answer::Patched(asked.clone(), "206")]);
    assert_eq!(scenario.look().await, Next::Settled);
    let requests = scenario.requests();
    assert_eq!(requests.last().unwrap().body["status"]["observedRefresh"], "now");
    assert_eq!(scenario.look().await, Next::Settled);
    assert_eq!(scenario.lines(), [""; 0]);
}

#[tokio::test]
async fn a_secret_whose_status_met_another_annotation_is_known_to_be_right() {
    let scenario = Scenario::new();
    let object = synced(&scenario).await;
    scenario.due();
    scenario.answers([found(object.clone())]);
    scenario.look().await;
    scenario.requests();
    let mut asked = object.clone();
    asked["metadata"]["annotations"] = json!({"sealwright.dev/refresh": "now"});
    asked["metadata"]["resourceVersion"] = json!("205");
    scenario.comes(&object, fetched("grace", "m2"));
    scenario.answers([
        both("150", "ada"),
        applied_both("151"),
        conflict(),
        found(asked.clone()),
        Answer::Patched(asked.clone(), "206"),
        found(asked.clone()),
    ]);
    assert_eq!(scenario.look().await, Next::Fetching, "the annotation wants one more");
    let requests = scenario.requests();
    let lines: Vec<_> = requests.iter().map(|request| request.line.as_str()).collect();
    assert_eq!(lines[..5], [READ, APPLY, STATUS, OBJECT_NOW, STATUS]);
    let patch = &requests[4].body;
    assert_eq!(patch["metadata"]["resourceVersion"], "205");
    assert_eq!(patch["status"]["dataMAC"], "m2");
    assert_eq!(patch["status"]["observedRefresh"], Value::Null, "nothing was fetched for it yet");

    let told = with_status(&asked, "206", patch);
    scenario.comes(&told, sealed_server());
    scenario.answers([found(told.clone()), Answer::Patched(told, "207")]);
    assert_eq!(scenario.look().await, Next::Later);
    let requests = scenario.requests();
    assert_eq!(says(&requests, "Ready"), claim("True", "Synced"));
    assert_eq!(says(&requests, "VaultSynced"), claim("False", "VaultSealed"));
}

#[tokio::test]
async fn a_store_that_answers_nothing_does_not_fill_the_memory() {
    let scenario = Scenario::new();
    // Every object waits for its look here; what waits for Vault has a bound of its own.
    *scenario.context.store() = Store::new(64 << 20);
    let mut object = wanting(&scenario);
    let field = "f".repeat(1000);
    let data: Vec<_> =
        (0..256).map(|i| json!({"key": format!("k{i}"), "mount": "kv", "path": "db", "field": field})).collect();
    object["spec"]["vault"]["data"] = json!(data);
    let mut ends = Vec::new();
    for i in 0..40 {
        object["metadata"]["name"] = json!(format!("db-{i}"));
        object["metadata"]["uid"] = json!(format!("uid-{i}"));
        object["spec"].as_object_mut().unwrap().retain(|part, _| part == "vault");
        scenario.arrives(&object);
        let key = Key::new("shop", &format!("db-{i}"));
        ends.push(sealed::reconcile(&scenario.context, &key, false, 0).await.next);
    }
    let fetching = ends.iter().take_while(|next| **next == Next::Fetching).count();
    assert!((10..20).contains(&fetching), "{ends:?}");
    assert!(ends[fetching..].iter().all(|next| *next == Next::Later), "{ends:?}");
    let put_off = scenario.context.store().next_fetch(&Key::new("shop", "db-39"), Instant::now()).unwrap();
    assert!(put_off > Instant::now() + Duration::from_secs(1), "it does not come back at once");
}

#[tokio::test]
async fn a_secret_that_consents_to_be_taken_over_waits_for_no_refresh() {
    let scenario = Scenario::new();
    let object = wanting(&scenario);
    scenario.arrives(&object);
    scenario.look().await;
    scenario.comes(&object, fetched("ada", "m1"));
    let mut foreign = json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque", "data": {"a": base64("b")},
        "metadata": {"name": "db", "namespace": "shop", "uid": "foreign-uid", "resourceVersion": "50"},
    });
    scenario.answers([
        conflict(),
        found(object.clone()),
        found(foreign.clone()),
        Answer::Patched(object.clone(), "200"),
    ]);
    scenario.look().await;
    let requests = scenario.requests();
    assert_eq!(ready(&requests), ("False".into(), "TargetNotOwned".into()));
    let told = with_status(&object, "200", &requests[3].body);
    scenario.answers([found(told.clone()), found(foreign.clone())]);
    assert!(matches!(scenario.look().await, Next::Stalled(_)), "and Vault is not asked");
    assert_eq!(scenario.lines(), [OBJECT, READ]);

    foreign["metadata"]["annotations"] = json!({"sealwright.dev/adopt-by": "db"});
    scenario.answers([found(told.clone()), found(foreign.clone())]);
    assert_eq!(scenario.look().await, Next::Fetching);
    scenario.comes(&told, fetched("ada", "m1"));
    scenario.requests();
    scenario.answers([found(foreign), applied_both("160"), applied_both("161"), Answer::Patched(told.clone(), "201")]);
    assert_eq!(scenario.look().await, Next::Settled);
    assert_eq!(ready(&scenario.requests()), ("True".into(), "Synced".into()));
}
