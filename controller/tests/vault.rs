//! The vault module against a real OpenBao and a real API server: what is sent, and what comes of the answers.
//!
//! What the whole controller makes of it is the business of the suite `vault` in `tests/`.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    future::Future,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use anyhow::Result;
use k8s_openapi::api::{
    admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding},
    core::v1::{ConfigMap, Namespace, Secret, ServiceAccount},
    rbac::v1::ClusterRoleBinding,
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
    client::Body,
};
use rustix::process::Signal;
use seal_controller::vault::{
    Retry, VaultFailure,
    auth::Patience,
    cluster::Cluster,
    meter::Meter,
    path::Plan,
    reader::{Reader, StoreEvent, StoreId},
    value::Values,
};
use seal_crds::{
    VaultStore,
    condition::{VaultReason, VaultStoreReason},
    sealed_secret::VaultSource,
};
use seal_tests::{
    ControlPlane,
    certificates::Authority,
    fault_proxy::{Fault, FaultProxy},
    openbao::Bao,
    process::Guard,
    wait,
};
use serde_json::{Value, json};
use tokio::sync::mpsc::UnboundedReceiver;

const READ: &str = "path \"kv/*\" { capabilities = [\"read\"] }";

/// One test's world: a server of its own, a namespace of its own, a reader.
struct World {
    guard: Guard,
    plane: Arc<ControlPlane>,
    client: Client,
    namespace: String,
    bao: Bao,
    reader: Reader,
    events: UnboundedReceiver<StoreEvent>,
}

fn plane() -> Arc<ControlPlane> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    ControlPlane::shared()
}

fn run<F: Future<Output = Result<()>>>(test: impl FnOnce(World) -> F, name: &str) {
    let plane = plane();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let world = World::make(plane, name).await.unwrap();
        if let Err(error) = test(world).await {
            panic!("{error:#}");
        }
    });
}

impl World {
    async fn make(plane: Arc<ControlPlane>, name: &str) -> Result<Self> {
        let guard = Guard::start()?;
        let client = plane.client().await?;
        let bao = Bao::dev(&guard, "bao").await?;
        bao.mount_kv("kv", 2).await?;
        bao.policy("read", READ).await?;
        bao.put("kv", "app/db", json!({"user": "ada", "password": "first", "port": 5432})).await?;
        let (reader, events) = Reader::new(Cluster::new(client.clone(), false), Meter::default());
        let world = Self { guard, plane, client, namespace: name.to_owned(), bao, reader, events };
        world.namespace(name).await?;
        Ok(world)
    }

    async fn namespace(&self, name: &str) -> Result<()> {
        let namespace: Namespace =
            serde_json::from_value(json!({"metadata": {"name": name, "labels": {"tier": "gold"}}}))?;
        Api::all(self.client.clone()).create(&PostParams::default(), &namespace).await?;
        Ok(())
    }

    async fn account(&self, namespace: &str, name: &str) -> Result<()> {
        let account: ServiceAccount = serde_json::from_value(json!({"metadata": {"name": name}}))?;
        Api::namespaced(self.client.clone(), namespace).create(&PostParams::default(), &account).await?;
        Ok(())
    }

    /// A labelled Secret with a credential.
    async fn credential(&self, name: &str, value: &str) -> Result<()> {
        let secret: Secret = serde_json::from_value(json!({
            "metadata": {"name": name, "labels": {"sealwright.dev/vault-auth": "true"}}, "stringData": {"id": value},
        }))?;
        Api::namespaced(self.client.clone(), &self.namespace).create(&PostParams::default(), &secret).await?;
        Ok(())
    }

    /// A token of OpenBao that may read `kv/`.
    async fn token(&self, more: Value) -> Result<String> {
        let mut body = json!({"policies": ["read"]});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let made = self.bao.ask("POST", "auth/token/create", body).await?;
        Ok(made["auth"]["client_token"].as_str().unwrap().to_owned())
    }

    /// A store in our namespace at this URL that logs in with the token in Secret `token`.
    fn token_store(&self, url: &str, more: Value) -> VaultStore {
        self.store(url, json!({"token": {"secretRef": {"name": "token", "key": "id"}}}), more)
    }

    fn store(&self, url: &str, auth: Value, more: Value) -> VaultStore {
        let mut spec = json!({"address": url, "auth": auth, "tls": {"allowPlaintext": true}});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(json!({
            "apiVersion": "sealwright.dev/v1alpha1", "kind": "VaultStore",
            "metadata": {"name": "main", "namespace": self.namespace, "uid": "store", "generation": 1}, "spec": spec,
        }))
        .unwrap()
    }

    /// Lets OpenBao review tokens at our API server, and gives ServiceAccount `app` of our namespace a role.
    async fn kubernetes_auth(&self) -> Result<()> {
        let (namespace, name) = (&self.namespace, "reviewer");
        self.account(namespace, name).await?;
        let binding: ClusterRoleBinding = serde_json::from_value(json!({
            "metadata": {"name": format!("{namespace}-reviewer")},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:auth-delegator"},
            "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": namespace}],
        }))?;
        Api::all(self.client.clone()).create(&PostParams::default(), &binding).await?;
        let request = serde_json::from_value(json!({"spec": {"audiences": []}, "metadata": {}}))?;
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), namespace);
        let jwt = accounts.create_token_request(name, &PostParams::default(), &request).await?.status.unwrap().token;
        let kubeconfig: Value = serde_yaml::from_str(&std::fs::read_to_string(self.plane.kubeconfig())?)?;
        let cluster = &kubeconfig["clusters"][0]["cluster"];
        let ca = match cluster["certificate-authority"].as_str() {
            Some(file) => std::fs::read_to_string(file)?,
            None => {
                use base64::{Engine, prelude::BASE64_STANDARD};
                String::from_utf8(BASE64_STANDARD.decode(cluster["certificate-authority-data"].as_str().unwrap())?)?
            }
        };
        self.bao.ask("POST", "sys/auth/kubernetes", json!({"type": "kubernetes"})).await?;
        let config = json!({"kubernetes_host": cluster["server"], "kubernetes_ca_cert": ca, "token_reviewer_jwt": jwt});
        self.bao.ask("POST", "auth/kubernetes/config", config).await?;
        let role = json!({
            "bound_service_account_names": ["app"], "bound_service_account_namespaces": [namespace],
            "audience": "vault", "token_policies": ["read"], "token_ttl": "1h",
        });
        self.bao.ask("POST", &format!("auth/kubernetes/role/app-{namespace}"), role).await.map(drop)
    }

    /// Makes a role of the approle method that may read `kv/`, with a secret id in Secret `secret-id`.
    async fn app_role(&self, more: Value) -> Result<Value> {
        self.bao.ask("POST", "sys/auth/approle", json!({"type": "approle"})).await?;
        let mut role = json!({"token_policies": ["read"]});
        role.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        self.bao.ask("POST", "auth/approle/role/app", role).await?;
        let id = self.bao.ask("GET", "auth/approle/role/app/role-id", Value::Null).await?;
        self.credential("secret-id", &self.secret_id().await?).await?;
        Ok(json!({"appRole": {
            "roleId": id["data"]["role_id"], "secretIdRef": {"name": "secret-id", "key": "id"},
        }}))
    }

    /// How many tokens live.
    async fn tokens(&self) -> Result<usize> {
        let accessors = self.bao.ask("LIST", "auth/token/accessors", Value::Null).await?;
        Ok(accessors["data"]["keys"].as_array().map_or(0, Vec::len))
    }

    async fn secret_id(&self) -> Result<String> {
        let made = self.bao.ask("POST", "auth/approle/role/app/secret-id", json!({})).await?;
        Ok(made["data"]["secret_id"].as_str().unwrap().to_owned())
    }

    async fn fetch(&self, store: &VaultStore, vault: &str) -> Result<Values, VaultFailure> {
        self.fetch_as(store, vault, &self.namespace).await
    }

    /// For an object that has no other values.
    async fn fetch_alone(&self, store: &VaultStore, vault: &str) -> Result<Values, VaultFailure> {
        let source: VaultSource = serde_yaml::from_str(&format!("{{storeRef: {{name: main}}, {vault}}}")).unwrap();
        self.reader.fetch(&Plan::of(&source).unwrap().standing_alone(), store, &self.namespace).await
    }

    async fn fetch_as(&self, store: &VaultStore, vault: &str, namespace: &str) -> Result<Values, VaultFailure> {
        let source: VaultSource = serde_yaml::from_str(&format!("{{storeRef: {{name: main}}, {vault}}}")).unwrap();
        self.reader.fetch(&Plan::of(&source).unwrap(), store, namespace).await
    }
}

/// A client that remembers what it is asked; and how many of the requests for ServiceAccounts had this method.
fn counting(client: Client) -> (Client, impl Fn(&str) -> usize) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let asked = {
        let seen = seen.clone();
        move |method: &str| seen.lock().unwrap().iter().filter(|line: &&String| line.starts_with(method)).count()
    };
    let service = tower::service_fn(move |request: http::Request<Body>| {
        let line = format!("{} {}", request.method(), request.uri().path());
        if line.contains("/serviceaccounts/") {
            seen.lock().unwrap().push(line);
        }
        let client = client.clone();
        async move { client.send(request).await }
    });
    (Client::new(service, "default"), asked)
}

const DB: &str = "data: [{key: u, mount: kv, path: app/db, field: user}, {key: p, mount: kv, path: app/db, field: password}, {key: n, mount: kv, path: app/db, field: port}]";

fn text(values: &Values, key: &str) -> String {
    String::from_utf8(values.values[key].to_vec()).unwrap()
}

fn reason<T>(result: Result<T, VaultFailure>) -> VaultReason {
    result.err().expect("it fails").reason
}

#[test]
fn keys_of_one_path_cost_one_request() {
    run(
        |world| async move {
            world.credential("token", &world.token(json!({})).await?).await?;
            let store = world.token_store(&world.bao.url(), json!({}));
            assert_eq!(world.reader.judge(&store).await.reason, VaultStoreReason::Unknown);
            let nonsense = world.token_store("http://user@vault.test", json!({}));
            assert_eq!(world.reader.judge(&nonsense).await.reason, VaultStoreReason::InvalidSpec);
            assert_eq!(world.reader.health(&StoreId::of(&store)), None, "nothing is kept for a store that nobody uses");
            let values = world.fetch(&store, DB).await.unwrap();
            assert_eq!((text(&values, "u"), text(&values, "p")), ("ada".into(), "first".into()));
            assert_eq!(text(&values, "n"), "5432");
            assert_eq!(values.versions["kv/app/db"], 1);
            assert_eq!(world.bao.count("read kv/data/app/db")?, 1);
            for _ in 0..4 {
                world.fetch(&store, DB).await.unwrap();
            }
            assert_eq!(world.bao.count("read kv/data/app/db")?, 5);
            assert_eq!(world.bao.count("read auth/token/lookup-self")?, 1, "the token is asked about once");
            assert_eq!(world.reader.health(&StoreId::of(&store)).unwrap().reason, VaultStoreReason::Reachable);
            Ok(())
        },
        "one-request",
    );
}

#[test]
fn many_at_once_read_a_path_once_and_log_in_once() {
    run(
        |world| async move {
            world.kubernetes_auth().await?;
            world.account(&world.namespace, "app").await?;
            let auth = json!({"kubernetes": {"role": "app-{namespace}", "serviceAccount": "app"}});
            let store = world.store(&world.bao.url(), auth, json!({"limits": {"requestsPerSecond": 1000}}));
            let fetches = (0..500).map(|_| world.fetch(&store, DB));
            for values in futures::future::join_all(fetches).await {
                assert_eq!(text(&values.unwrap(), "u"), "ada");
            }
            assert_eq!(world.bao.count("update auth/kubernetes/login")?, 1);
            let reads = world.bao.count("read kv/data/app/db")?;
            assert!(reads < 50, "500 fetches at once made {reads} reads");
            Ok(())
        },
        "many-at-once",
    );
}

#[test]
fn an_identity_that_the_role_does_not_know_is_refused_and_told_why() {
    run(
        |world| async move {
            world.kubernetes_auth().await?;
            world.account(&world.namespace, "app").await?;
            world.account(&world.namespace, "other").await?;
            let store = |role: &str, account: &str, audience: &str, generation: i64| {
                let auth = json!({"kubernetes": {"role": role, "serviceAccount": account, "audiences": [audience]}});
                let mut store = world.store(&world.bao.url(), auth, json!({}));
                store.metadata.generation = Some(generation);
                store
            };
            let mut generation = 1;
            for (role, account, audience, says) in [
                ("app-{namespace}", "other", "vault", "HTTP 403"),
                ("app-{namespace}", "app", "elsewhere", "HTTP 4"),
                ("nothing", "app", "vault", "HTTP 400"),
                ("app-{namespace}", "absent", "vault", "does not exist"),
            ] {
                generation += 1;
                let failure = world.fetch(&store(role, account, audience, generation), DB).await.err().unwrap();
                assert_eq!(failure.reason, VaultReason::AuthFailed, "{failure:?}");
                assert!(failure.message.contains(says), "{failure:?}");
            }
            let before = world.bao.count("update auth/kubernetes/login")?;
            let store = store("nothing", "app", "vault", 100);
            for _ in 0..20 {
                assert_eq!(reason(world.fetch(&store, DB).await), VaultReason::AuthFailed);
            }
            assert_eq!(world.bao.count("update auth/kubernetes/login")?, before + 1, "a refusal is remembered");
            Ok(())
        },
        "refused-login",
    );
}

#[test]
fn a_token_that_the_api_server_would_take_is_sent_to_nobody() {
    run(
        |world| async move {
            world.kubernetes_auth().await?;
            world.account(&world.namespace, "app").await?;
            let spy = FaultProxy::start(world.bao.address()).await?;
            let auth = json!({"kubernetes": {
                "role": "app", "serviceAccount": "app", "audiences": ["https://kubernetes.default.svc"],
            }});
            let store = world.store(&format!("http://{}", spy.address()), auth, json!({}));
            let failure = world.fetch(&store, DB).await.err().unwrap();
            assert_eq!(failure.reason, VaultReason::AuthFailed);
            assert!(failure.message.contains("--vault-allow-api-audience"), "{failure:?}");
            assert_eq!(spy.connections(), 0);
            Ok(())
        },
        "api-audience",
    );
}

#[test]
fn what_is_not_allowed_is_refused_before_anything_is_sent() {
    run(
        |world| async move {
            let secret: Secret =
                serde_json::from_value(json!({"metadata": {"name": "token"}, "stringData": {"id": "s.x"}}))?;
            Api::namespaced(world.client.clone(), &world.namespace).create(&PostParams::default(), &secret).await?;
            let spy = FaultProxy::start(world.bao.address()).await?;
            let url = format!("http://{}", spy.address());
            let store = world.token_store(&url, json!({"allowedPaths": ["kv/{namespace}/*"]}));
            assert_eq!(reason(world.fetch(&store, DB).await), VaultReason::StoreNotAllowed);
            assert_eq!(reason(world.fetch_as(&store, DB, "bank").await), VaultReason::StoreNotAllowed);
            let open = world.token_store(&url, json!({}));
            assert_eq!(reason(world.fetch_as(&open, DB, "default").await), VaultReason::StoreNotAllowed);
            let failure = world.fetch(&open, DB).await.err().unwrap();
            assert_eq!(failure.reason, VaultReason::AuthFailed);
            assert!(failure.message.contains("lacks the label"), "{failure:?}");
            assert_eq!(spy.connections(), 0);
            let selects = json!({"allowedNamespaces": {"selector": {"matchLabels": {"tier": "gold"}}}});
            let failure =
                world.fetch_as(&world.token_store(&url, selects.clone()), DB, "kube-system").await.err().unwrap();
            assert_eq!(failure.reason, VaultReason::StoreNotAllowed);
            world.namespace("not-allowed-gold").await?;
            let failure =
                world.fetch_as(&world.token_store(&url, selects), DB, "not-allowed-gold").await.err().unwrap();
            assert_eq!(failure.reason, VaultReason::AuthFailed, "selected, but without the credential: {failure:?}");
            assert_eq!(spy.connections(), 0);
            Ok(())
        },
        "not-allowed",
    );
}

#[test]
fn absent_deleted_and_destroyed_are_told_apart() {
    run(
        |world| async move {
            world.credential("token", &world.token(json!({})).await?).await?;
            let store = world.token_store(&world.bao.url(), json!({}));
            let one =
                |path: &str, more: &str| format!("data: [{{key: a, mount: kv, path: {path}, field: user{more}}}]");
            let failure = world.fetch(&store, &one("nothing", "")).await.err().unwrap();
            assert_eq!((failure.reason, failure.retry), (VaultReason::PathNotFound, Retry::Refresh));
            let gone = format!("onMissing: RemoveKey, {}", one("nothing", ""));
            assert!(world.fetch(&store, &gone).await.unwrap().values.is_empty(), "others are in the Secret");
            let alone = world.fetch_alone(&store, &gone).await.err().unwrap();
            assert_eq!((alone.reason, alone.retry), (VaultReason::PathNotFound, Retry::Refresh), "none would be left");
            let empty = "dataFrom: [{mount: kv, path: app/db, include: [none]}]";
            assert_eq!(reason(world.fetch_alone(&store, empty).await), VaultReason::FieldNotFound);
            world.bao.policy("read", "path \"*\" { capabilities = [\"read\"] }").await?;
            let unmounted = "onMissing: RemoveKey, data: [{key: a, mount: none, path: app/db, field: user}]";
            let failure = world.fetch(&store, unmounted).await.err().unwrap();
            assert_eq!(failure.reason, VaultReason::PathNotFound, "not mounted is not gone: {failure:?}");
            assert!(matches!(failure.retry, Retry::Backoff { .. }), "{failure:?}");
            world.bao.put("kv", "app/db", json!({"user": "grace"})).await?;
            world.bao.ask("DELETE", "kv/data/app/db", Value::Null).await?;
            for more in ["", ", version: 2"] {
                let failure = world.fetch(&store, &one("app/db", more)).await.err().unwrap();
                assert_eq!(failure.reason, VaultReason::VersionDeleted, "{failure:?}");
            }
            let deleted = format!("onMissing: RemoveKey, {}", one("app/db", ""));
            assert_eq!(reason(world.fetch(&store, &deleted).await), VaultReason::VersionDeleted);
            assert_eq!(text(&world.fetch(&store, &one("app/db", ", version: 1")).await.unwrap(), "a"), "ada");
            world.bao.ask("POST", "kv/undelete/app/db", json!({"versions": [2]})).await?;
            assert_eq!(text(&world.fetch(&store, &one("app/db", "")).await.unwrap(), "a"), "grace");
            world.bao.ask("PUT", "kv/destroy/app/db", json!({"versions": [2]})).await?;
            let failure = world.fetch(&store, &one("app/db", "")).await.err().unwrap();
            assert_eq!(failure.message, "kv/app/db: HTTP 404, version 2 is destroyed");
            world.bao.ask("DELETE", "kv/metadata/app/db", Value::Null).await?;
            assert_eq!(reason(world.fetch(&store, &one("app/db", "")).await), VaultReason::PathNotFound);
            world.bao.mount_kv("old", 1).await?;
            // Only version 1: OpenBao's engine of version 2 itself stores numbers as floats.
            world.bao.ask("POST", "old/app", json!({"user": "v1", "n": 12345678901234567890_u64})).await?;
            let v1 = "data: [{key: a, mount: old, path: app, field: user, kv: 1}, {key: n, mount: old, path: app, field: n, kv: 1}]";
            let values = world.fetch(&store, v1).await.unwrap();
            assert_eq!((text(&values, "a"), text(&values, "n")), ("v1".into(), "12345678901234567890".into()));
            Ok(())
        },
        "absent-deleted",
    );
}

#[test]
fn an_ending_token_is_replaced_before_anybody_notices() {
    run(
        |world| async move {
            let auth = world.app_role(json!({"token_ttl": "3s", "token_max_ttl": "7s"})).await?;
            let store = world.store(&world.bao.url(), auth, json!({}));
            let start = Instant::now();
            while start.elapsed() < Duration::from_secs(12) {
                world.fetch(&store, DB).await.unwrap();
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
            let (logins, renewals) =
                (world.bao.count("update auth/approle/login")?, world.bao.count("auth/token/renew-self")?);
            assert!((2..=4).contains(&logins), "{logins} logins");
            assert!(
                (2..=10).contains(&renewals),
                "{renewals} renewals: one every two seconds, and sooner near the longest life"
            );
            let denied = world.bao.requests()?.iter().filter(|request| request.contains("lookup-self")).count();
            assert_eq!(denied, 0, "no request was denied");
            Ok(())
        },
        "ending-token",
    );
}

#[test]
fn a_revoked_token_is_replaced_at_once_and_a_denied_path_is_not_blamed_on_the_token() {
    run(
        |world| async move {
            world.kubernetes_auth().await?;
            world.account(&world.namespace, "app").await?;
            let auth = json!({"kubernetes": {"role": "app-{namespace}", "serviceAccount": "app"}});
            let store = world.store(&world.bao.url(), auth, json!({}));
            world.fetch(&store, DB).await.unwrap();
            world.bao.ask("POST", "sys/leases/revoke-prefix/auth/kubernetes/login", json!({})).await?;
            wait::until("the token is revoked", || async { Ok((world.tokens().await? == 1).then_some(())) }).await?;
            world.fetch(&store, DB).await.unwrap();
            assert_eq!(world.bao.count("update auth/kubernetes/login")?, 2);
            world.bao.policy("read", "path \"kv/data/other\" { capabilities = [\"read\"] }").await?;
            for _ in 0..3 {
                assert_eq!(reason(world.fetch(&store, DB).await), VaultReason::PermissionDenied);
            }
            assert_eq!(world.bao.count("update auth/kubernetes/login")?, 2, "the token itself is good");
            world.bao.policy("read", READ).await?;
            world.fetch(&store, DB).await.unwrap();

            // The next token lives shorter than the one that somebody had planned to renew.
            world
                .bao
                .ask("POST", &format!("auth/kubernetes/role/app-{}", world.namespace), json!({"token_ttl": "5s"}))
                .await?;
            world.bao.ask("POST", "sys/leases/revoke-prefix/auth/kubernetes/login", json!({})).await?;
            wait::until("a third login", || async {
                world.fetch(&store, DB).await.ok();
                Ok((world.bao.count("update auth/kubernetes/login")? == 3).then_some(()))
            })
            .await?;
            wait::until("the new token is renewed", || async {
                Ok((world.bao.count("auth/token/renew-self")? > 0).then_some(()))
            })
            .await?;
            Ok(())
        },
        "revoked",
    );
}

#[test]
fn a_denied_path_costs_nobody_the_token_and_leaves_no_old_one_behind() {
    run(
        |mut world| async move {
            world.reader = world.reader.with_patience(Patience { denied: Duration::ZERO, ..Patience::default() });
            let auth = world.app_role(json!({"secret_id_num_uses": 2})).await?;
            let store = world.store(&world.bao.url(), auth, json!({}));
            let closed = "data: [{key: a, mount: closed, path: app, field: a}]";
            let logins = "update auth/approle/login";
            world.fetch(&store, DB).await.unwrap();
            assert_eq!(reason(world.fetch(&store, closed).await), VaultReason::PermissionDenied);
            // Ours, and the root token.
            wait::until_equal("tokens that live", 2, || world.tokens()).await?;
            world.fetch(&store, DB).await.unwrap();
            assert_eq!(world.bao.count(logins)?, 2);
            for _ in 0..2 {
                // The secret id is used up.
                assert_eq!(reason(world.fetch(&store, closed).await), VaultReason::PermissionDenied);
                world.fetch(&store, DB).await.unwrap();
            }
            assert_eq!((world.bao.count(logins)?, world.tokens().await?), (4, 2));
            Ok(())
        },
        "denied-path",
    );
}

#[test]
fn a_credential_that_is_replaced_and_a_store_that_changes_or_goes_take_their_tokens_with_them() {
    run(
        |world| async move {
            let auth = world.app_role(json!({})).await?;
            let store = world.store(&world.bao.url(), auth, json!({}));
            world.fetch(&store, DB).await.unwrap();
            let secrets: Api<Secret> = Api::namespaced(world.client.clone(), &world.namespace);
            let patch = Patch::Merge(json!({"stringData": {"id": world.secret_id().await?}}));
            secrets.patch("secret-id", &PatchParams::default(), &patch).await?;
            world.fetch(&store, DB).await.unwrap();
            assert_eq!(world.bao.count("update auth/approle/login")?, 2);
            // The new one, and the root token.
            wait::until_equal("tokens that live", 2, || world.tokens()).await?;

            let mut changed = store.clone();
            changed.metadata.generation = Some(2);
            world.fetch(&changed, DB).await.unwrap();
            assert_eq!(reason(world.fetch(&store, DB).await), VaultReason::VaultUnreachable, "it is as it was before");
            assert_eq!(world.bao.count("update auth/approle/login")?, 3);
            wait::until_equal("tokens after a change of the store", 2, || world.tokens()).await?;
            world.reader.forget(&StoreId::of(&store));
            wait::until_equal("tokens after its end", 1, || world.tokens()).await
        },
        "replaced-credential",
    );
}

#[test]
fn a_namespace_that_reads_without_end_holds_up_another_by_one_read_at_a_time() {
    run(
        |world| async move {
            const CROWD: usize = 200;
            let token = world.token(json!({})).await?;
            world.credential("token", &token).await?;
            world.namespace("turns-guest").await?;
            let guest = World { namespace: "turns-guest".to_owned(), ..world };
            guest.credential("token", &token).await?;
            let world = World { namespace: "turns".to_owned(), ..guest };
            let limits = json!({"maxInFlight": 1, "requestsPerSecond": 50});
            let more = json!({"limits": limits, "allowedNamespaces": {"names": ["turns-guest"]}});
            let store = world.token_store(&world.bao.url(), more);
            let crowd = (0..CROWD).map(|i| format!("data: [{{key: a, mount: kv, path: crowd/{i}, field: a}}]"));
            let crowd: Vec<_> = crowd.collect();
            let crowd = futures::future::join_all(crowd.iter().map(|data| world.fetch(&store, data)));
            let late = async {
                let read = || world.bao.count("read kv/data/crowd/");
                wait::until("the crowd reads", || async { Ok((read()? > 0).then_some(())) }).await?;
                world.fetch_as(&store, DB, "turns-guest").await.unwrap();
                read()
            };
            let (crowd, before) = futures::join!(crowd, late);
            let before = before?;
            assert!(before < CROWD / 2, "{before} of {CROWD} went before it");
            assert!(crowd.into_iter().all(|fetched| reason(fetched) == VaultReason::PathNotFound));
            Ok(())
        },
        "turns",
    );
}

#[test]
fn a_server_that_takes_no_logins_costs_the_api_server_next_to_nothing() {
    run(
        |mut world| async move {
            world.kubernetes_auth().await?;
            world.account(&world.namespace, "app").await?;
            let (client, asked) = counting(world.client.clone());
            (world.reader, world.events) = Reader::new(Cluster::new(client, false), Meter::default());
            let proxy = FaultProxy::start(world.bao.address()).await?;
            let auth = json!({"kubernetes": {"role": "app-{namespace}", "serviceAccount": "app"}});
            let guests = json!({"allowedNamespaces": {"names": ["no-logins-guest"]}});
            let store = world.store(&format!("http://{}", proxy.address()), auth, guests);

            proxy.set(Fault::Answer("HTTP/1.1 429 Too Many Requests\r\ncontent-length: 2\r\n\r\n{}".to_owned()));
            for _ in 0..30 {
                assert_eq!(reason(world.fetch(&store, DB).await), VaultReason::RateLimited);
            }
            let logins = proxy.seen().matches("/v1/auth/kubernetes/login").count();
            assert!((1..10).contains(&logins), "{logins} logins were tried for 30 fetches");
            assert_eq!(asked("POST"), 1, "and one token of the ServiceAccount was made for all of them");

            proxy.set(Fault::Refuse);
            wait::until("the server counts as out", || async {
                let failure = world.fetch(&store, DB).await.err();
                Ok(failure.filter(|failure| failure.retry == Retry::WhenUp))
            })
            .await?;
            let before = asked("");
            let guest = world.fetch_as(&store, DB, "no-logins-guest").await;
            assert_eq!(reason(guest), VaultReason::VaultUnreachable);
            assert_eq!(asked(""), before, "nobody asks who somebody is who cannot log in");
            proxy.set(Fault::None);
            wait::until("the store answers", || async { Ok(world.fetch(&store, DB).await.ok()) }).await?;
            assert_eq!(asked("POST"), 1);
            Ok(())
        },
        "no-logins",
    );
}

#[test]
fn a_redirect_to_another_server_carries_no_token() {
    run(
        |world| async move {
            world.credential("token", &world.token(json!({})).await?).await?;
            let proxy = FaultProxy::start(world.bao.address()).await?;
            let thief = FaultProxy::start(world.bao.address()).await?;
            thief.set(Fault::BlackHole);
            let store = world.token_store(&format!("http://{}", proxy.address()), json!({}));
            proxy.set(Fault::Redirect(format!("http://{}/v1/kv/data/app/db", thief.address())));
            let failure = world.fetch(&store, DB).await.err().unwrap();
            assert_eq!(failure.reason, VaultReason::VaultUnreachable);
            let health = world.reader.health(&StoreId::of(&store)).unwrap();
            assert!(health.message.contains("redirect"), "{health:?}");
            assert_eq!((thief.connections(), thief.seen()), (0, String::new()));
            Ok(())
        },
        "redirect",
    );
}

#[test]
fn an_outage_opens_the_breaker_and_a_recovery_is_told() {
    run(
        |mut world| async move {
            world.credential("token", &world.token(json!({})).await?).await?;
            let proxy = FaultProxy::start(world.bao.address()).await?;
            let limits = json!({"limits": {"requestTimeout": "1s"}});
            let store = world.token_store(&format!("http://{}", proxy.address()), limits);
            let faults = [
                Fault::BlackHole,
                Fault::Refuse,
                Fault::Torn(40),
                Fault::Drip(Duration::from_millis(100)),
                Fault::Answer("nonsense\r\n\r\n".into()),
            ];
            for fault in faults {
                proxy.set(Fault::None);
                wait::until("the store answers", || async { Ok(world.fetch(&store, DB).await.ok().map(drop)) }).await?;
                while world.events.try_recv().is_ok() {}
                proxy.set(fault.clone());
                let mut failure = world.fetch(&store, DB).await.err();
                while failure.as_ref().is_none_or(|failure| failure.retry != Retry::WhenUp) {
                    failure = world.fetch(&store, DB).await.err();
                }
                assert_eq!(failure.unwrap().reason, VaultReason::VaultUnreachable, "{fault:?}");
                let before = proxy.connections();
                let start = Instant::now();
                for _ in 0..100 {
                    assert_eq!(reason(world.fetch(&store, DB).await), VaultReason::VaultUnreachable);
                }
                assert!(start.elapsed() < Duration::from_secs(5), "{:?} for 100 refusals", start.elapsed());
                assert!(proxy.connections() <= before + 4, "nothing but probes is sent");
                proxy.set(Fault::None);
                let back = async { while !world.events.recv().await.unwrap().is_back {} };
                tokio::time::timeout(Duration::from_secs(60), back).await?;
                world.fetch(&store, DB).await.unwrap();
            }
            Ok(())
        },
        "outage",
    );
}

#[test]
fn one_path_that_tears_holds_back_no_other() {
    run(
        |world| async move {
            world.credential("token", &world.token(json!({})).await?).await?;
            world.bao.put("kv", "large", json!({"user": "x".repeat(200_000)})).await?;
            let proxy = FaultProxy::start(world.bao.address()).await?;
            proxy.set(Fault::Torn(20_000));
            let store = world.token_store(&format!("http://{}", proxy.address()), json!({}));
            let large = "data: [{key: a, mount: kv, path: large, field: user}]";
            let failure = world.fetch(&store, large).await.err().unwrap();
            assert!(matches!(failure.retry, Retry::Backoff { .. }), "{failure:?}");
            assert_eq!(failure.message, "kv/large: the answer was cut off");
            world.fetch(&store, DB).await.unwrap();
            Ok(())
        },
        "one-path",
    );
}

#[test]
fn a_server_is_known_by_its_ca_and_its_name() {
    run(
        |world| async move {
            let guard = &world.guard;
            let (ours, other) = (Authority::make()?, Authority::make()?);
            let folder = guard.scratch().join("tls");
            let pair = ours.server(&folder, "bao", &["vault.internal"], false)?;
            std::fs::write(folder.join("ca.crt"), &ours.certificate)?;
            let bao = Bao::server(guard, "tls-bao", &pair, &folder.join("ca.crt")).await?;
            bao.mount_kv("kv", 2).await?;
            bao.put("kv", "app/db", json!({"user": "ada"})).await?;
            world.credential("token", &bao.root_token()).await?;
            let user = "data: [{key: u, mount: kv, path: app/db, field: user}]";
            let mut generation = 10;
            for (tls, is_known) in [
                (json!({"caBundle": ours.certificate}), true),
                (json!({"caBundle": other.certificate}), false),
                (json!({"caBundle": ours.certificate, "serverName": "vault.internal"}), true),
                (json!({"caBundle": ours.certificate, "serverName": "vault.external"}), false),
                (json!({"insecureSkipVerify": true}), true),
            ] {
                generation += 1;
                let mut store = world.token_store(&bao.url(), json!({"tls": tls}));
                store.metadata.generation = Some(generation);
                let result = world.fetch(&store, user).await;
                assert_eq!(result.is_ok(), is_known, "{tls} {:?}", result.err());
                let health = world.reader.health(&StoreId::of(&store)).unwrap();
                let wanted = if is_known { VaultStoreReason::Reachable } else { VaultStoreReason::TLSFailed };
                assert_eq!(health.reason, wanted, "{health:?}");
            }
            Ok(())
        },
        "tls",
    );
}

#[test]
fn a_server_that_limits_its_rate_is_heard() {
    run(
        |world| async move {
            world.credential("token", &world.token(json!({})).await?).await?;
            let store = world.token_store(&world.bao.url(), json!({}));
            world.fetch(&store, DB).await.unwrap();
            world
                .bao
                .ask("POST", "sys/quotas/rate-limit/kv", json!({"path": "kv", "rate": 1, "interval": "60s"}))
                .await?;
            let mut reasons = Vec::new();
            for _ in 0..3 {
                reasons.push(world.fetch(&store, DB).await.err().map(|failure| failure.reason));
            }
            assert!(reasons.contains(&Some(VaultReason::RateLimited)), "{reasons:?}");
            Ok(())
        },
        "rate-limit",
    );
}

#[test]
fn a_signed_token_logs_in_without_anybody_asking_the_api_server() {
    run(
        |world| async move {
            world.account(&world.namespace, "app").await?;
            let key = std::fs::read_to_string(world.plane.guard().scratch().join("certificates/sa.pub"))?;
            world.bao.ask("POST", "sys/auth/jwt", json!({"type": "jwt"})).await?;
            world.bao.ask("POST", "auth/jwt/config", json!({"jwt_validation_pubkeys": [key]})).await?;
            let subject = format!("system:serviceaccount:{}:app", world.namespace);
            let role = json!({
                "role_type": "jwt", "bound_audiences": ["vault"], "bound_subject": subject, "user_claim": "sub",
                "token_policies": ["read"],
            });
            world.bao.ask("POST", "auth/jwt/role/app", role).await?;
            let account = json!({"jwt": {"role": "app", "serviceAccount": "app"}});
            let store = world.store(&world.bao.url(), account, json!({}));
            assert_eq!(text(&world.fetch(&store, DB).await.unwrap(), "u"), "ada");

            // A token that somebody else made, in a Secret of the namespace.
            let request = serde_json::from_value(json!({"spec": {"audiences": ["vault"]}, "metadata": {}}))?;
            let accounts: Api<ServiceAccount> = Api::namespaced(world.client.clone(), &world.namespace);
            let made = accounts.create_token_request("app", &PostParams::default(), &request).await?;
            world.credential("jwt", &made.status.unwrap().token).await?;
            let given = json!({"jwt": {"role": "app", "secretRef": {"name": "jwt", "key": "id"}}});
            let mut store = world.store(&world.bao.url(), given, json!({}));
            store.metadata.generation = Some(2);
            assert_eq!(text(&world.fetch(&store, DB).await.unwrap(), "u"), "ada");
            assert_eq!(world.bao.count("update auth/jwt/login")?, 2);

            let secrets: Api<Secret> = Api::namespaced(world.client.clone(), &world.namespace);
            let patch = Patch::Merge(json!({"stringData": {"id": "x".repeat(20_000)}}));
            secrets.patch("jwt", &PatchParams::default(), &patch).await?;
            let failure = world.fetch(&store, DB).await.err().unwrap();
            assert_eq!(failure.reason, VaultReason::AuthFailed);
            assert!(failure.message.contains("longer than 16 KiB"), "{failure:?}");
            Ok(())
        },
        "signed-token",
    );
}

#[test]
fn vault_namespaces_are_honoured_for_logins_and_for_data() {
    run(
        |world| async move {
            world.bao.ask("POST", "sys/namespaces/team", json!({})).await?;
            world.bao.ask_in(Some("team"), "POST", "sys/namespaces/app", json!({})).await?;
            let inside = "team/app";
            world
                .bao
                .ask_in(Some(inside), "POST", "sys/mounts/kv", json!({"type": "kv", "options": {"version": "1"}}))
                .await?;
            world.bao.ask_in(Some(inside), "POST", "kv/app/db", json!({"user": "inside"})).await?;
            let rules = json!({"policy": "path \"app/kv/*\" { capabilities = [\"read\"] }"});
            world.bao.ask_in(Some("team"), "PUT", "sys/policies/acl/read", rules).await?;
            let body = json!({"policies": ["read"]});
            let made = world.bao.ask_in(Some("team"), "POST", "auth/token/create", body).await?;
            world.credential("token", made["auth"]["client_token"].as_str().unwrap()).await?;
            let auth = json!({"namespace": "team", "token": {"secretRef": {"name": "token", "key": "id"}}});
            let data = "data: [{key: u, mount: kv, path: app/db, field: user, kv: 1}]";
            let store = world.store(&world.bao.url(), auth.clone(), json!({"namespace": inside}));
            assert_eq!(text(&world.fetch(&store, data).await.unwrap(), "u"), "inside");
            let mut root = world.store(&world.bao.url(), auth, json!({}));
            root.metadata.generation = Some(2);
            assert_eq!(reason(world.fetch(&root, data).await), VaultReason::PermissionDenied);
            Ok(())
        },
        "vault-namespaces",
    );
}

#[test]
fn a_server_that_lost_everything_is_logged_in_to_anew() {
    run(
        |world| async move {
            let set_up = || async {
                world.bao.ask("POST", "sys/auth/approle", json!({"type": "approle"})).await?;
                world.bao.ask("POST", "auth/approle/role/app", json!({"token_policies": ["read"]})).await?;
                world.bao.ask("POST", "auth/approle/role/app/role-id", json!({"role_id": "the-role"})).await?;
                let id = json!({"secret_id": "the-secret-id"});
                world.bao.ask("POST", "auth/approle/role/app/custom-secret-id", id).await
            };
            set_up().await?;
            world.credential("secret-id", "the-secret-id").await?;
            let auth = json!({"appRole": {"roleId": "the-role", "secretIdRef": {"name": "secret-id", "key": "id"}}});
            let store = world.store(&world.bao.url(), auth, json!({}));
            assert_eq!(text(&world.fetch(&store, DB).await.unwrap(), "p"), "first");

            world.bao.kill();
            world.bao.restart(&world.guard).await?;
            world.bao.active().await?;
            world.bao.mount_kv("kv", 2).await?;
            world.bao.policy("read", READ).await?;
            world.bao.put("kv", "app/db", json!({"user": "ada", "password": "second", "port": 1})).await?;
            set_up().await?;
            // Its first answer after the restart may come on a connection that is gone.
            let values = wait::until("the store answers", || async { Ok(world.fetch(&store, DB).await.ok()) }).await?;
            assert_eq!(text(&values, "p"), "second");
            assert_eq!(world.bao.count("update auth/approle/login")?, 2);
            Ok(())
        },
        "lost-everything",
    );
}

#[test]
fn a_ca_that_is_replaced_in_place_is_read_again_and_an_expired_certificate_is_named() {
    run(
        |mut world| async move {
            let (old, new) = (Authority::make()?, Authority::make()?);
            let folder = world.guard.scratch().join("tls");
            let pair = old.server(&folder, "bao", &[], false)?;
            std::fs::write(folder.join("ca.crt"), &old.certificate)?;
            let bao = Bao::server(&world.guard, "tls-bao", &pair, &folder.join("ca.crt")).await?;
            bao.mount_kv("kv", 2).await?;
            bao.put("kv", "app/db", json!({"user": "ada"})).await?;
            world.credential("token", &bao.root_token()).await?;
            let maps: Api<ConfigMap> = Api::namespaced(world.client.clone(), &world.namespace);
            let map: ConfigMap = serde_json::from_value(
                json!({"metadata": {"name": "vault-ca"}, "data": {"ca.crt": old.certificate.clone()}}),
            )?;
            maps.create(&PostParams::default(), &map).await?;
            let tls = json!({"tls": {"caFrom": {"kind": "ConfigMap", "name": "vault-ca", "key": "ca.crt"}}});
            let mut store = world.token_store(&bao.url(), tls);
            let user = "data: [{key: u, mount: kv, path: app/db, field: user}]";
            world.fetch(&store, user).await.unwrap();

            let generation = std::cell::Cell::new(1);
            for (is_expired, says) in [(false, "unknown"), (true, "expired")] {
                new.server(&folder, "bao", &[], is_expired)?;
                // It reads its certificate again.
                bao.process().signal(Signal::HUP)?;
                let (failure, health) = wait::until("the certificate is refused", || {
                    // A connection that exists, and a TLS session that is taken up again, show no certificate.
                    generation.set(generation.get() + 1);
                    let mut store = store.clone();
                    store.metadata.generation = Some(generation.get());
                    let world = &world;
                    async move {
                        let failure = world.fetch(&store, user).await.err();
                        let health = world.reader.health(&StoreId::of(&store)).unwrap();
                        Ok(failure.filter(|_| health.message.contains(says)).map(|failure| (failure, health)))
                    }
                })
                .await?;
                store.metadata.generation = Some(generation.get());
                assert_eq!(failure.reason, VaultReason::VaultUnreachable, "{failure:?}");
                assert_eq!(health.reason, VaultStoreReason::TLSFailed, "{health:?}");
                if !is_expired {
                    while world.events.try_recv().is_ok() {}
                    let patch = Patch::Merge(json!({"data": {"ca.crt": new.certificate.clone()}}));
                    maps.patch("vault-ca", &PatchParams::default(), &patch).await?;
                    let back = async { while !world.events.recv().await.unwrap().is_back {} };
                    tokio::time::timeout(Duration::from_secs(90), back).await?;
                    world.fetch(&store, user).await.unwrap();
                }
            }
            Ok(())
        },
        "ca-rotation",
    );
}

#[test]
fn what_admission_says_of_a_token_is_told() {
    run(
        |world| async move {
            world.kubernetes_auth().await?;
            world.account(&world.namespace, "app").await?;
            let policy: ValidatingAdmissionPolicy = serde_json::from_value(json!({
                "metadata": {"name": "audiences"},
                "spec": {
                    "matchConstraints": {"resourceRules": [{
                        "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"],
                        "resources": ["serviceaccounts/token"],
                    }]},
                    "matchConditions": [{
                        "name": "here", "expression": format!("request.namespace == '{}'", world.namespace),
                    }],
                    "validations": [{"expression": "false", "message": "this audience is not listed"}],
                },
            }))?;
            Api::all(world.client.clone()).create(&PostParams::default(), &policy).await?;
            let binding: ValidatingAdmissionPolicyBinding = serde_json::from_value(json!({
                "metadata": {"name": "audiences"},
                "spec": {"policyName": "audiences", "validationActions": ["Deny"]},
            }))?;
            Api::all(world.client.clone()).create(&PostParams::default(), &binding).await?;
            let auth = json!({"kubernetes": {"role": "app-{namespace}", "serviceAccount": "app"}});
            let store = world.store(&world.bao.url(), auth, json!({}));
            let generation = std::cell::Cell::new(1);
            // A policy holds a moment after it was made; each generation of the store logs in anew.
            let failure = wait::until("a token is refused", || {
                generation.set(generation.get() + 1);
                let mut store = store.clone();
                store.metadata.generation = Some(generation.get());
                let world = &world;
                async move { Ok(world.fetch(&store, DB).await.err()) }
            })
            .await?;
            assert_eq!(failure.reason, VaultReason::AuthFailed);
            assert!(failure.message.contains("this audience is not listed"), "{failure:?}");
            Ok(())
        },
        "admission",
    );
}
