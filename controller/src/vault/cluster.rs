//! What the API server knows of those who read: ServiceAccounts, credentials, labels, CAs.
//!
//! Every lookup is for a namespace that the caller names, and that is the consumer's, or the store's for its CA. What
//! is remembered, is so for half a minute: five hundred objects with one ServiceAccount ask for it once.

use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use http::{HeaderValue, Request, header::AUTHORIZATION};
use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec, TokenReview, TokenReviewSpec},
    core::v1::{ConfigMap, Namespace, Secret, ServiceAccount},
};
use kube::{Api, Client, ResourceExt, api::PostParams};
use seal_crds::{
    VAULT_AUTH_LABEL,
    vault_store::{CaKind, CaSource, CredentialRef},
};
use thiserror::Error;
use zeroize::Zeroizing;

use super::turns::Turns;
use crate::{
    apply::DEADLINE,
    error::{ApiError, within},
};

const REMEMBERED: Duration = Duration::from_secs(30);
/// A token or a secret id is a fraction of this; each is kept as long as its session.
pub const LARGEST_CREDENTIAL: usize = 16 << 10;
/// How many tokens are asked for at once: whoever makes thousands of accounts need not become the API server's load.
const MINTING: usize = 16;
/// The shortest life that the API server gives a token.
const TOKEN_SECONDS: i64 = 600;

/// Why the cluster has no credential to log in with.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum LookupError {
    /// There is no such object.
    #[error("{0} does not exist")]
    Absent(String),
    /// It does not consent to be used as a credential.
    #[error("{0} lacks the label {VAULT_AUTH_LABEL}: \"true\", without which it is no credential")]
    Unlabelled(String),
    /// It has no such key.
    #[error("{0} has no key `{1}`")]
    NoKey(String, String),
    /// What is under the key is no text that could be a credential.
    #[error(
        "key `{1}` of {0} is no credential: it is empty, longer than {limit} KiB, or not text of one line",
        limit = LARGEST_CREDENTIAL >> 10
    )]
    NoText(String, String),
    /// A token for Vault that the API server would take as well.
    #[error(
        "the audiences of the store are the API server's own: such a token is a credential for the cluster, and needs \
         --vault-allow-api-audience"
    )]
    ApiAudience,
    /// The API server, or admission, will not have it.
    #[error("the API server makes no token of {0}: {text}", text = .1.text())]
    NoToken(String, ApiError),
    /// The API server does not answer, or not well.
    #[error("the API server did not say what is known of {0}: {1}")]
    Api(String, ApiError),
}

/// The API server, as far as Vault is concerned.
pub struct Cluster {
    client: Client,
    /// Shows no credential of its own; there where no TokenReview may be asked for.
    nobody: Option<Client>,
    allows_api_audience: bool,
    minting: Arc<Turns>,
    accounts: Remembered<(String, String), Arc<str>>,
    labels: Remembered<String, Arc<BTreeMap<String, String>>>,
    /// Audiences that are known not to be the API server's.
    foreign: Remembered<Vec<String>, ()>,
}

impl Cluster {
    /// Asks with this client.
    pub fn new(client: Client, allows_api_audience: bool) -> Self {
        let (accounts, labels, foreign) = Default::default();
        let minting = Turns::new(MINTING);
        Self { client, nobody: None, allows_api_audience, minting, accounts, labels, foreign }
    }

    /// The same without a right in the whole cluster, which a TokenReview takes. `nobody` shows no credential.
    pub fn without_reviews(self, nobody: Client) -> Self {
        Self { nobody: Some(nobody), ..self }
    }

    /// The uid of a ServiceAccount.
    pub async fn account_uid(&self, namespace: &str, name: &str) -> Result<Arc<str>, LookupError> {
        let key = (namespace.to_owned(), name.to_owned());
        if let Some(uid) = self.accounts.get(&key) {
            return Ok(uid);
        }
        let what = format!("ServiceAccount {namespace}/{name}");
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), namespace);
        let found = within(DEADLINE, api.get_metadata_opt(name)).await;
        let found = found.map_err(|error| LookupError::Api(what.clone(), error))?;
        let uid: Arc<str> = found.and_then(|found| found.uid()).ok_or(LookupError::Absent(what))?.into();
        self.accounts.put(key, uid.clone());
        Ok(uid)
    }

    /// A token of a ServiceAccount for these audiences, and none that the API server would take too. Namespaces take
    /// turns.
    pub async fn account_token(
        &self,
        namespace: &str,
        name: &str,
        audiences: &[String],
    ) -> Result<Zeroizing<String>, LookupError> {
        let what = format!("ServiceAccount {namespace}/{name}");
        let _place = self.minting.take(&namespace.into()).await;
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), namespace);
        let spec = TokenRequestSpec {
            audiences: audiences.to_vec(),
            expiration_seconds: Some(TOKEN_SECONDS),
            bound_object_ref: None,
        };
        let request = TokenRequest { spec, ..TokenRequest::default() };
        let made = within(DEADLINE, api.create_token_request(name, &PostParams::default(), &request)).await;
        let made = made.map_err(|error| match error {
            error if error.is_not_found() => LookupError::Absent(what.clone()),
            error if error.is_transient() => LookupError::Api(what.clone(), error),
            // There is no secret in the request, so its answer may be told: an audience that is not listed, perhaps.
            error => LookupError::NoToken(what.clone(), error),
        })?;
        let token = made.status.map(|status| Zeroizing::new(status.token));
        let token = token.ok_or_else(|| LookupError::Api(what.clone(), ApiError::Malformed))?;
        match &self.nobody {
            None => self.is_foreign(&token, audiences, what).await?,
            Some(nobody) if !self.allows_api_audience => is_refused(nobody, &token).await?,
            Some(_) => {}
        }
        Ok(token)
    }

    /// Asks the API server itself whether it would accept the token. Its audiences have no names that we could know.
    async fn is_foreign(&self, token: &str, audiences: &[String], account: String) -> Result<(), LookupError> {
        let key = audiences.to_vec();
        if self.allows_api_audience || self.foreign.get(&key).is_some() {
            return Ok(());
        }
        let api: Api<TokenReview> = Api::all(self.client.clone());
        let is_accepted = async |audiences: Option<Vec<String>>| {
            let spec = TokenReviewSpec { token: Some(token.to_owned()), audiences };
            let review = TokenReview { spec, ..TokenReview::default() };
            let reviewed = within(DEADLINE, api.create(&PostParams::default(), &review)).await;
            let reviewed = reviewed.map_err(|error| LookupError::Api("the token's audiences".to_owned(), error))?;
            Ok(reviewed.status.and_then(|status| status.authenticated) == Some(true))
        };
        if is_accepted(None).await? {
            return Err(LookupError::ApiAudience);
        }
        // A token of an account that has just been deleted is accepted by nobody, and tells nothing of the audiences.
        if !is_accepted(Some(key.clone())).await? {
            return Err(LookupError::Absent(account));
        }
        self.foreign.put(key, ());
        Ok(())
    }

    /// One key of a Secret that consents to be a credential.
    pub async fn credential(&self, namespace: &str, of: &CredentialRef) -> Result<Zeroizing<String>, LookupError> {
        let what = || format!("Secret {namespace}/{}", of.name);
        let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
        let secret = within(DEADLINE, api.get_opt(&of.name)).await;
        let secret = secret.map_err(|error| LookupError::Api(what(), error))?;
        let mut secret = secret.ok_or_else(|| LookupError::Absent(what()))?;
        if secret.labels().get(VAULT_AUTH_LABEL).map(String::as_str) != Some("true") {
            return Err(LookupError::Unlabelled(what()));
        }
        let value = secret.data.as_mut().and_then(|data| data.remove(&of.key));
        let value = value.ok_or_else(|| LookupError::NoKey(what(), of.key.clone()))?;
        let value = Zeroizing::new(value.0);
        let text = std::str::from_utf8(&value).unwrap_or_default().trim();
        if text.is_empty() || text.len() > LARGEST_CREDENTIAL || text.chars().any(char::is_control) {
            return Err(LookupError::NoText(what(), of.key.clone()));
        }
        Ok(Zeroizing::new(text.to_owned()))
    }

    /// The certificates that a store trusts, from the store's namespace.
    pub async fn authorities(&self, namespace: &str, of: &CaSource) -> Result<Vec<u8>, LookupError> {
        let (name, key) = (&of.name, &of.key);
        let what = format!("{:?} {namespace}/{name}", of.kind);
        let failed = |error| LookupError::Api(what.clone(), error);
        let found = match of.kind {
            CaKind::ConfigMap => {
                let api: Api<ConfigMap> = Api::namespaced(self.client.clone(), namespace);
                let map = within(DEADLINE, api.get_opt(name)).await.map_err(failed)?;
                map.map(|map| map.data.and_then(|mut data| data.remove(key)).map(String::into_bytes))
            }
            CaKind::Secret => {
                let api: Api<Secret> = Api::namespaced(self.client.clone(), namespace);
                let secret = within(DEADLINE, api.get_opt(name)).await.map_err(failed)?;
                secret.map(|secret| secret.data.and_then(|mut data| data.remove(key)).map(|value| value.0))
            }
        };
        found.ok_or_else(|| LookupError::Absent(what.clone()))?.ok_or_else(|| LookupError::NoKey(what, key.clone()))
    }

    /// The labels of a namespace.
    pub async fn labels(&self, namespace: &str) -> Result<Arc<BTreeMap<String, String>>, LookupError> {
        let key = namespace.to_owned();
        if let Some(labels) = self.labels.get(&key) {
            return Ok(labels);
        }
        let what = format!("namespace {namespace}");
        let seen = self.labels.forgettings();
        let api: Api<Namespace> = Api::all(self.client.clone());
        let found = within(DEADLINE, api.get_metadata_opt(namespace)).await;
        let found = found.map_err(|error| LookupError::Api(what.clone(), error))?;
        let labels = Arc::new(found.ok_or(LookupError::Absent(what))?.metadata.labels.unwrap_or_default());
        self.labels.put_unless_forgotten(key, labels.clone(), Some(seen));
        Ok(labels)
    }

    /// Forgets the labels of a namespace, because they changed.
    pub fn forget_labels(&self, namespace: &str) {
        self.labels.remove(&namespace.to_owned());
    }
}

/// Shows this very token to the API server, as whoever gets it could. Why it is refused, nobody says; so that tells
/// nothing of the next one, and is not remembered.
async fn is_refused(nobody: &Client, token: &str) -> Result<(), LookupError> {
    let failed = |error| LookupError::Api("the token's audiences".to_owned(), error);
    let bearer = Zeroizing::new(format!("Bearer {token}"));
    let mut bearer = HeaderValue::from_str(&bearer).map_err(|_| failed(ApiError::Malformed))?;
    bearer.set_sensitive(true);
    let request = Request::get("/version").header(AUTHORIZATION, bearer).body(Vec::new());
    let request = request.map_err(|_| failed(ApiError::Malformed))?;
    match within(DEADLINE, nobody.request_text(request)).await {
        Err(ApiError::Status { code: 401, .. }) => Ok(()),
        // Known, and allowed nothing: known all the same.
        Ok(_) | Err(ApiError::Status { code: 403, .. }) => Err(LookupError::ApiAudience),
        Err(error) => Err(failed(error)),
    }
}

/// Answers that hold for a while.
struct Remembered<K, V>(Mutex<HashMap<K, (Instant, V)>>, AtomicU64);

impl<K, V> Default for Remembered<K, V> {
    fn default() -> Self {
        Self(Mutex::default(), AtomicU64::new(0))
    }
}

impl<K: Eq + Hash, V: Clone> Remembered<K, V> {
    fn get(&self, key: &K) -> Option<V> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(key).filter(|(at, _)| at.elapsed() < REMEMBERED).map(|(_, value)| value.clone())
    }

    fn put(&self, key: K, value: V) {
        self.put_unless_forgotten(key, value, None);
    }

    /// What was forgotten while it was asked for is not remembered as it was: `seen` is the number from before.
    fn put_unless_forgotten(&self, key: K, value: V, seen: Option<u64>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.is_some_and(|seen| seen != self.forgettings()) {
            return;
        }
        if known.len() >= 1024 {
            known.retain(|_, (at, _)| at.elapsed() < REMEMBERED);
        }
        known.insert(key, (Instant::now(), value));
    }

    /// How often something was forgotten.
    fn forgettings(&self) -> u64 {
        self.1.load(Ordering::SeqCst)
    }

    fn remove(&self, key: &K) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        self.1.fetch_add(1, Ordering::SeqCst);
        known.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use kube::client::Body;
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn a_token_that_nobody_accepts_tells_nothing_of_its_audiences() {
        let reviews = Arc::new(Mutex::new(vec![true, true, false, false, false]));
        let script = reviews.clone();
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let answer = if request.uri().path().ends_with("/token") {
                let status = json!({"token": "t", "expirationTimestamp": "2026-11-21T09:00:00Z"});
                json!({"metadata": {}, "spec": {"audiences": []}, "status": status})
            } else {
                let is_accepted = script.lock().unwrap().pop().expect("no further review");
                json!({"metadata": {}, "spec": {}, "status": {"authenticated": is_accepted}})
            };
            let answer = http::Response::new(Body::from(answer.to_string().into_bytes()));
            async move { Ok::<_, std::io::Error>(answer) }
        });
        let cluster = Cluster::new(Client::new(service, "default"), false);
        let token = async |audience: &str| cluster.account_token("shop", "app", &[audience.to_owned()]).await;
        assert!(matches!(token("vault").await, Err(LookupError::Absent(_))), "the account was deleted meanwhile");
        assert_eq!(token("vault").await.ok().as_deref().map(String::as_str), Some("t"));
        assert!(token("vault").await.is_ok() && reviews.lock().unwrap().len() == 1, "that is remembered");
        assert!(matches!(token("kubernetes").await, Err(LookupError::ApiAudience)));
    }

    #[test]
    fn what_was_forgotten_while_it_was_asked_for_is_not_remembered() {
        let known: Remembered<&str, u8> = Remembered::default();
        let seen = known.forgettings();
        known.put_unless_forgotten("a", 1, Some(seen));
        assert_eq!(known.get(&"a"), Some(1));
        known.remove(&"a");
        known.put_unless_forgotten("a", 1, Some(seen));
        assert_eq!(known.get(&"a"), None);
        known.put("a", 2);
        assert_eq!(known.get(&"a"), Some(2));
    }
}
