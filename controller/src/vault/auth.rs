//! Whose token a request carries: always one of the namespace that wants the secret.
//!
//! ```text
//! store's auth, consumer namespace -> Identity -> Session: one login, one renewal task, one token at a time
//! ```
//!
//! An [`Identity`] is everything that a login depends on. Two consumers share a session only if all of it is equal, so
//! nobody ever receives what another's token may read. Sessions live in memory and end with their credential, their
//! store, their use, or the process.

use std::{
    hash::Hash,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures::{
    FutureExt,
    future::{BoxFuture, Shared, WeakShared},
};
use ring::digest::{SHA256, digest};
use seal_crds::{
    condition::VaultReason,
    vault_store::{CredentialRef, VaultStoreSpec},
};
use tokio::sync::Notify;
use tracing::{debug, info};
use zeroize::Zeroizing;

use super::{
    Asked, CLUSTER_WAIT, LOGIN_WAIT, Retry, VaultFailure,
    client::{As, Client, Credentials, Fault, Issued},
    cluster::{Cluster, LookupError},
    judged,
    link::{Failed, Link},
    meter::Operation,
    path::{self, Read},
    value::Content,
};

/// A session that nobody has used for so long is ended, and its token revoked.
pub const UNUSED: Duration = Duration::from_secs(2 * 3600);
/// How often a session looks at itself, at most.
const LOOK: Duration = Duration::from_secs(300);
/// No token is renewed sooner after it was made, however short it lives.
const SOONEST: Duration = Duration::from_secs(1);
/// For how long a ServiceAccount's token serves further logins: half its life.
const JWT_HOLDS: Duration = Duration::from_secs(300);
/// No token is believed to live longer.
const LONGEST_LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// What a login needs of a ServiceAccount's token, where the store does not say.
const AUDIENCE: &str = "vault";

/// How long sessions wait with what.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// After a login, until one more is worth a try because something may not be read: the role may have got new policies.
    pub denied: Duration,
    /// Until a session that nobody uses is dropped, if it has no token.
    pub idle: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { denied: Duration::from_secs(300), idle: Duration::from_secs(600) }
    }
}

/// Everything that a login depends on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Identity {
    mount: String,
    method: Method,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Method {
    Kubernetes { role: String, account: Account },
    Jwt { role: String, account: Account },
    JwtSecret { role: String, credential: Credential },
    AppRole { role_id: String, credential: Credential },
    Token { credential: Credential },
}

/// A ServiceAccount. Another one of the same name has another uid, and another session.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Account {
    namespace: String,
    name: String,
    uid: Arc<str>,
    audiences: Vec<String>,
}

/// One key of a Secret, as it was: a new content is a new identity, and a new login.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Credential {
    namespace: String,
    name: String,
    key: String,
    digest: [u8; 32],
}

impl Identity {
    /// Whether this is the other one, with what its Secret or its ServiceAccount is now.
    pub fn succeeds(&self, other: &Self) -> bool {
        self != other && self.method.source() == other.method.source() && self.mount == other.mount
    }
}

impl Method {
    /// Where that is which it logs in with: namespace, name and key; and what as.
    fn source(&self) -> (&str, &str, &str, &str) {
        match self {
            Self::Kubernetes { role, account } | Self::Jwt { role, account } => {
                (&account.namespace, &account.name, "", role)
            }
            Self::JwtSecret { role: what, credential } | Self::AppRole { role_id: what, credential } => {
                (&credential.namespace, &credential.name, &credential.key, what)
            }
            Self::Token { credential } => (&credential.namespace, &credential.name, &credential.key, ""),
        }
    }
}

/// Finds out who logs in, for a consumer namespace. Gives what a Secret holds, if one is used.
///
/// # Errors
///
/// When the store names nothing usable in that namespace.
pub async fn identify(
    spec: &VaultStoreSpec,
    namespace: &str,
    cluster: &Cluster,
) -> Result<(Identity, Option<Zeroizing<String>>), VaultFailure> {
    let auth = &spec.auth;
    let account = async |name: &str, audiences: &[String]| {
        let uid = cluster.account_uid(namespace, name).await.map_err(unusable)?;
        let audiences = if audiences.is_empty() { vec![AUDIENCE.to_owned()] } else { audiences.to_vec() };
        Ok::<_, VaultFailure>(Account { namespace: namespace.to_owned(), name: name.to_owned(), uid, audiences })
    };
    let credential = async |of: &CredentialRef| {
        let value = cluster.credential(namespace, of).await.map_err(unusable)?;
        let digest: [u8; 32] = digest(&SHA256, value.as_bytes()).as_ref().try_into().unwrap_or_default();
        let (name, key) = (of.name.clone(), of.key.clone());
        Ok::<_, VaultFailure>((Credential { namespace: namespace.to_owned(), name, key, digest }, Some(value)))
    };
    let expand = |pattern: &str| path::expand(pattern, namespace);
    let mount = |mount: &Option<String>, default: &str| mount.clone().unwrap_or_else(|| default.to_owned());
    let (mount, method, value) = if let Some(kubernetes) = &auth.kubernetes {
        let account = account(&kubernetes.service_account, &kubernetes.audiences).await?;
        let role = expand(&kubernetes.role);
        (mount(&kubernetes.mount, "kubernetes"), Method::Kubernetes { role, account }, None)
    } else if let Some(jwt) = &auth.jwt {
        let (mount, role) = (mount(&jwt.mount, "jwt"), expand(&jwt.role));
        match (&jwt.service_account, &jwt.secret_ref) {
            (Some(name), _) => (mount, Method::Jwt { role, account: account(name, &jwt.audiences).await? }, None),
            (None, Some(of)) => {
                let (credential, value) = credential(of).await?;
                (mount, Method::JwtSecret { role, credential }, value)
            }
            (None, None) => return Err(no_method()),
        }
    } else if let Some(app_role) = &auth.app_role {
        let (credential, value) = credential(&app_role.secret_id_ref).await?;
        let role_id = expand(&app_role.role_id);
        (mount(&app_role.mount, "approle"), Method::AppRole { role_id, credential }, value)
    } else if let Some(token) = &auth.token {
        let (credential, value) = credential(&token.secret_ref).await?;
        ("token".to_owned(), Method::Token { credential }, value)
    } else {
        return Err(no_method());
    };
    if path::is_plain(&mount) { Ok((Identity { mount, method }, value)) } else { Err(no_method()) }
}

fn no_method() -> VaultFailure {
    refused("the store names no usable auth method".to_owned(), Retry::Refresh)
}

fn unusable(error: LookupError) -> VaultFailure {
    let retry = match &error {
        LookupError::Api(_, error) if error.is_transient() => CLUSTER_WAIT,
        _ => Retry::Backoff { from: LOGIN_WAIT.0, to: LOGIN_WAIT.1 },
    };
    refused(error.to_string(), retry)
}

fn refused(message: String, retry: Retry) -> VaultFailure {
    VaultFailure { reason: VaultReason::AuthFailed, message, retry }
}

/// A token of Vault. Nobody but its session makes one, and nothing shows it.
pub struct Token {
    secret: Zeroizing<String>,
    issued: Instant,
    ttl: Duration,
    is_renewable: bool,
}

impl Token {
    fn new(issued: Issued) -> Arc<Self> {
        let Issued { token, ttl, is_renewable } = issued;
        // The number is the server's, and may be any: beyond this no clock of ours can count.
        let ttl = ttl.min(LONGEST_LIFE);
        Arc::new(Self { secret: token, issued: Instant::now(), ttl, is_renewable })
    }

    /// None: it does not end.
    fn ends(&self) -> Option<Instant> {
        (!self.ttl.is_zero()).then(|| self.issued + self.ttl)
    }

    fn has_ended(&self) -> bool {
        self.ends().is_some_and(|end| end <= Instant::now())
    }

    /// At two thirds of its life.
    fn renewal_due(&self) -> Option<Instant> {
        (!self.ttl.is_zero()).then(|| self.issued + (self.ttl * 2 / 3).max(SOONEST))
    }
}

enum State {
    /// No token, and no login has failed.
    Empty,
    /// A token.
    Held(Arc<Token>),
    /// The last login failed; the next is not tried before.
    Failed { until: Instant, wait: Duration, failure: VaultFailure },
}

type Flight = Shared<BoxFuture<'static, Result<Arc<Content>, Failed>>>;
type Landing = WeakShared<BoxFuture<'static, Result<Arc<Content>, Failed>>>;

/// One identity at one store.
pub struct Session {
    identity: Identity,
    /// The consumer's.
    namespace: Arc<str>,
    /// What the Secret holds, where one is used.
    value: Option<Zeroizing<String>>,
    patience: Patience,
    /// Locked while a login is under way: there is never more than one.
    state: tokio::sync::Mutex<State>,
    has_token: AtomicBool,
    is_kept: AtomicBool,
    /// Another session has taken its place.
    is_over: AtomicBool,
    /// Tells whoever keeps the token that it is another one now, which may end sooner, or is to end.
    is_replaced: Notify,
    used: Mutex<Instant>,
    /// When a login was last tried.
    tried: Mutex<Instant>,
    /// The ServiceAccount's token, and when it was made.
    jwt: Mutex<Option<(Instant, Zeroizing<String>)>>,
    /// Reads that are under way. They belong to the session, so another identity cannot see them.
    flights: Mutex<Vec<(Read, Landing)>>,
}

impl Session {
    /// A session without a token.
    pub fn new(identity: Identity, value: Option<Zeroizing<String>>, patience: Patience) -> Self {
        let now = Instant::now();
        Self {
            namespace: identity.method.source().0.into(),
            identity,
            value,
            patience,
            state: tokio::sync::Mutex::new(State::Empty),
            has_token: AtomicBool::new(false),
            is_kept: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            is_replaced: Notify::new(),
            used: Mutex::new(now),
            tried: Mutex::new(now),
            jwt: Mutex::default(),
            flights: Mutex::default(),
        }
    }

    /// Whether there is a token now.
    pub fn holds_a_token(&self) -> bool {
        self.has_token.load(Ordering::Relaxed)
    }

    /// Reads a secret, together with whoever else reads it for this identity at this moment.
    ///
    /// # Errors
    ///
    /// A fault only if it is about this secret, else what it means.
    pub async fn read(self: &Arc<Self>, link: &Arc<Link>, read: &Read) -> Result<Arc<Content>, Failed> {
        *lock(&self.used) = Instant::now();
        let flight = {
            let mut flights = lock(&self.flights);
            flights.retain(|(_, landing)| landing.upgrade().is_some_and(|flight| flight.peek().is_none()));
            let known = flights.iter().find(|(known, _)| known == read).and_then(|(_, landing)| landing.upgrade());
            known.unwrap_or_else(|| {
                let (session, link, wanted) = (self.clone(), link.clone(), read.clone());
                let flight: Flight = async move { session.fetch(&link, &wanted).await.map(Arc::new) }.boxed().shared();
                flights.extend(flight.downgrade().map(|landing| (read.clone(), landing)));
                flight
            })
        };
        flight.await
    }

    /// One read with the token that there is; with a new one, if that turns out to be worth nothing.
    async fn fetch(self: &Arc<Self>, link: &Arc<Link>, read: &Read) -> Result<Content, Failed> {
        let mut token = self.token(link).await?;
        let mut may_retry_denied = true;
        let mut lags = 0;
        loop {
            let asker = token.clone();
            let request = |client: Client| async move {
                let who = As { token: Some(&asker.secret), namespace: link.data_namespace() };
                client.read(read, who, link.purse()).await
            };
            match link.call(Operation::Read, &self.namespace, request).await {
                Err(Failed::Fault(Fault::Status { code: 401 | 403, .. })) if may_retry_denied => {
                    may_retry_denied = false;
                    let Some(other) = self.after_denied(link, &token).await? else {
                        return Err(Failed::Fault(Fault::Status { code: 403, retry_after: None, hint: None }));
                    };
                    token = other;
                }
                // A replica that has not seen what the token stands for yet.
                Err(Failed::Fault(Fault::Status { code: 412, .. })) if lags < 3 => {
                    lags += 1;
                    tokio::time::sleep(Duration::from_millis(100) * lags).await;
                }
                result => return result,
            }
        }
    }

    /// The token, after a login if need be.
    async fn token(self: &Arc<Self>, link: &Arc<Link>) -> Result<Arc<Token>, Failed> {
        let mut state = self.state.lock().await;
        // Nobody would keep or revoke what a login brings now.
        if self.is_over.load(Ordering::Relaxed) {
            let message = "the store or the credential has changed meanwhile".to_owned();
            let retry = Retry::After(SOONEST);
            return Err(Failed::Judged(VaultFailure { reason: VaultReason::AuthFailed, message, retry }));
        }
        match &*state {
            State::Held(token) if !token.has_ended() => return Ok(token.clone()),
            State::Failed { until, failure, .. } if *until > Instant::now() => {
                let retry = Retry::After(until.saturating_duration_since(Instant::now()));
                return Err(Failed::Judged(VaultFailure { retry, ..failure.clone() }));
            }
            _ => {}
        }
        self.log_in(link, &mut state).await
    }

    /// What to do about a 403: the token may have been revoked, or may simply not read this. Gives another token to try
    /// with, or none if it would be no use.
    async fn after_denied(
        self: &Arc<Self>,
        link: &Arc<Link>,
        denied: &Arc<Token>,
    ) -> Result<Option<Arc<Token>>, Failed> {
        let mut state = self.state.lock().await;
        match &*state {
            State::Held(token) if !Arc::ptr_eq(token, denied) => return Ok(Some(token.clone())),
            State::Failed { failure, .. } => return Err(Failed::Judged(failure.clone())),
            _ => {}
        }
        let who = |token: &Arc<Token>| (token.clone(), link.auth_namespace().map(str::to_owned));
        let (token, namespace) = who(denied);
        let look = |client: Client| async move {
            client.look_up_self(As { token: Some(&token.secret), namespace: namespace.as_deref() }).await
        };
        match link.call(Operation::LookUp, &self.namespace, look).await {
            // It lives, and is another's good token even if nobody gives us a new one.
            Ok(_) if lock(&self.tried).elapsed() < self.patience.denied => Ok(None),
            Ok(_) if matches!(self.identity.method, Method::Token { .. }) => Ok(None),
            Ok(_) => Ok(self.replaced(link, &mut state).await),
            Err(Failed::Fault(Fault::Status { code: 401 | 403, .. })) => {
                self.drop_token(&mut state);
                self.log_in(link, &mut state).await.map(Some)
            }
            Err(Failed::Fault(fault)) => Err(Failed::Judged(judged(fault, Asked::Login(&self.identity.mount)))),
            Err(judged) => Err(judged),
        }
    }

    /// Logs in beside the token that there is. That serves on if there is no other, and is revoked if there is.
    async fn replaced(self: &Arc<Self>, link: &Arc<Link>, state: &mut State) -> Option<Arc<Token>> {
        let token = match self.new_token(link).await {
            Ok(token) => token,
            Err(failed) => {
                let failure = self.judged(failed);
                debug!(store = %link.id, cause = failure.message, "no login beside the token that there is");
                return None;
            }
        };
        self.replace(link, state, &token);
        self.is_replaced.notify_one();
        Some(token)
    }

    /// Puts another token in the place of what there is, which is of no more use to anybody.
    fn replace(self: &Arc<Self>, link: &Arc<Link>, state: &mut State, token: &Arc<Token>) {
        if let State::Held(before) = std::mem::replace(state, State::Held(token.clone())) {
            let (session, link) = (self.clone(), link.clone());
            tokio::spawn(async move { session.revoke(&link, &before).await });
        }
    }

    fn drop_token(&self, state: &mut State) {
        *state = State::Empty;
        self.has_token.store(false, Ordering::Relaxed);
    }

    /// Logs in, and remembers how that ended for everybody of this identity.
    async fn log_in(self: &Arc<Self>, link: &Arc<Link>, state: &mut State) -> Result<Arc<Token>, Failed> {
        let result = self.new_token(link).await;
        match result {
            Ok(token) => {
                *state = State::Held(token.clone());
                self.has_token.store(true, Ordering::Relaxed);
                debug!(store = %link.id, method = self.method(), "logged in");
                link.login_ended(None);
                if !self.is_kept.swap(true, Ordering::Relaxed) {
                    tokio::spawn(keep(self.clone(), Arc::downgrade(link)));
                }
                self.is_replaced.notify_one();
                Ok(token)
            }
            Err(failed) => {
                let is_servers = matches!(failed, Failed::Fault(_));
                let failure = self.judged(failed);
                let before = match state {
                    State::Failed { wait, .. } => Some(*wait),
                    _ => None,
                };
                self.drop_token(state);
                if let Some(wait) = rest(failure.retry, before) {
                    *state = State::Failed { until: Instant::now() + wait, wait, failure: failure.clone() };
                }
                if failure.reason == VaultReason::AuthFailed {
                    info!(store = %link.id, method = self.method(), cause = failure.message, "a login was refused");
                    // What a consumer's namespace lacks is no fault of the store.
                    if is_servers {
                        link.login_ended(Some(&failure));
                    }
                }
                Err(Failed::Judged(failure))
            }
        }
    }

    async fn new_token(&self, link: &Arc<Link>) -> Result<Arc<Token>, Failed> {
        // A server that is out costs the API server nothing.
        link.admitted().await.map_err(Failed::Judged)?;
        *lock(&self.tried) = Instant::now();
        let value = || self.value.clone().unwrap_or_default();
        let credentials = match &self.identity.method {
            Method::Kubernetes { role, account } => {
                Credentials::Kubernetes { role: role.clone(), jwt: self.jwt(link.cluster(), account).await? }
            }
            Method::Jwt { role, account } => {
                Credentials::Jwt { role: role.clone(), jwt: self.jwt(link.cluster(), account).await? }
            }
            Method::JwtSecret { role, .. } => Credentials::Jwt { role: role.clone(), jwt: value() },
            Method::AppRole { role_id, .. } => Credentials::AppRole { role_id: role_id.clone(), secret_id: value() },
            Method::Token { .. } => return self.given_token(link, value()).await,
        };
        let mount = self.identity.mount.as_str();
        let namespace = link.auth_namespace();
        let request = |client: Client| async move { client.log_in(mount, &credentials, namespace).await };
        let issued = link.call(Operation::Login, &self.namespace, request).await;
        if matches!(issued, Err(Failed::Fault(Fault::Status { code: 400..=403, .. }))) {
            // It may be the ServiceAccount's token that is no good any more.
            *lock(&self.jwt) = None;
        }
        issued.map(Token::new)
    }

    /// A token of the ServiceAccount. Logins that follow one another share it, however often a server wants them.
    async fn jwt(&self, cluster: &Cluster, account: &Account) -> Result<Zeroizing<String>, Failed> {
        let known = lock(&self.jwt).clone().filter(|(made, _)| made.elapsed() < JWT_HOLDS);
        if let Some((_, jwt)) = known {
            return Ok(jwt);
        }
        let made = Instant::now();
        let jwt = cluster.account_token(&account.namespace, &account.name, &account.audiences).await;
        let jwt = jwt.map_err(|error| Failed::Judged(unusable(error)))?;
        *lock(&self.jwt) = Some((made, jwt.clone()));
        Ok(jwt)
    }

    /// A token that somebody has put into a Secret: what it is worth is asked once.
    async fn given_token(&self, link: &Arc<Link>, token: Zeroizing<String>) -> Result<Arc<Token>, Failed> {
        let namespace = link.auth_namespace();
        let asker = token.clone();
        let look = |client: Client| async move { client.look_up_self(As { token: Some(&asker), namespace }).await };
        let (ttl, is_renewable) = link.call(Operation::LookUp, &self.namespace, look).await?;
        Ok(Token::new(Issued { token, ttl, is_renewable }))
    }

    fn judged(&self, failed: Failed) -> VaultFailure {
        match failed {
            Failed::Fault(fault) => judged(fault, Asked::Login(&self.identity.mount)),
            Failed::Judged(failure) => failure,
        }
    }

    /// Replaces the token before it ends: by a renewed one, or by that of a new login. Gives when to do it again.
    async fn renew(self: &Arc<Self>, link: &Arc<Link>) -> Option<Instant> {
        let mut state = self.state.lock().await;
        let State::Held(token) = &*state else { return None };
        let due = token.renewal_due()?;
        if due > Instant::now() {
            return Some(due);
        }
        let token = token.clone();
        let renewed = if token.is_renewable { self.renewed(link, &token).await } else { None };
        if let Some(renewed) = renewed {
            let due = renewed.renewal_due();
            *state = State::Held(renewed);
            return due;
        }
        match self.new_token(link).await {
            Ok(next) => {
                self.replace(link, &mut state, &next);
                next.renewal_due()
            }
            // The old one serves to its end; the next attempt comes in half of what is left of it.
            Err(failed) => {
                let failure = self.judged(failed);
                debug!(store = %link.id, cause = failure.message, "no new token");
                let left = token.ends()?.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    self.drop_token(&mut state);
                    return None;
                }
                Some(Instant::now() + (left / 2).max(SOONEST))
            }
        }
    }

    /// None: it cannot be renewed, or not for much longer, so a new login is due.
    async fn renewed(&self, link: &Arc<Link>, token: &Arc<Token>) -> Option<Arc<Token>> {
        let (asker, namespace) = (token.clone(), link.auth_namespace());
        let request =
            |client: Client| async move { client.renew_self(As { token: Some(&asker.secret), namespace }).await };
        let renewed = link.call(Operation::Renew, &self.namespace, request).await.ok()?;
        // Near the end of its longest life a token is renewed for less and less.
        let is_worth_it = renewed.ttl >= token.ttl / 2 || matches!(self.identity.method, Method::Token { .. });
        let ttl = renewed.ttl;
        is_worth_it.then(|| Token::new(Issued { token: token.secret.clone(), ttl, is_renewable: renewed.is_renewable }))
    }

    /// Ends the session and its token.
    pub async fn end(&self, link: &Arc<Link>) {
        self.let_go();
        let mut state = self.state.lock().await;
        let State::Held(token) = &*state else { return };
        let token = token.clone();
        self.drop_token(&mut state);
        self.revoke(link, &token).await;
    }

    /// Ends a token at the server, unless it is somebody else's who gave it to us.
    async fn revoke(&self, link: &Arc<Link>, token: &Token) {
        if matches!(self.identity.method, Method::Token { .. }) {
            return;
        }
        let namespace = link.auth_namespace();
        let request =
            |client: Client| async move { client.revoke_self(As { token: Some(&token.secret), namespace }).await };
        // Where it fails the token ends by itself.
        let _ = link.call(Operation::Revoke, &self.namespace, request).await;
    }

    /// Whether it has nothing that anybody may come back for.
    pub fn is_idle(&self) -> bool {
        !self.holds_a_token() && lock(&self.used).elapsed() >= self.patience.idle
    }

    /// Whoever keeps its token ends it.
    pub fn let_go(&self) {
        self.is_over.store(true, Ordering::Relaxed);
        self.is_replaced.notify_one();
    }

    fn is_unused(&self) -> bool {
        lock(&self.used).elapsed() > UNUSED
    }

    fn method(&self) -> &'static str {
        match self.identity.method {
            Method::Kubernetes { .. } => "kubernetes",
            Method::Jwt { .. } | Method::JwtSecret { .. } => "jwt",
            Method::AppRole { .. } => "approle",
            Method::Token { .. } => "token",
        }
    }
}

/// For how long a failed login is everybody's of the identity, after one that was for so long. None: nothing was asked.
fn rest(retry: Retry, before: Option<Duration>) -> Option<Duration> {
    match retry {
        Retry::WhenUp => None,
        Retry::After(wait) => Some(wait.max(SOONEST)),
        Retry::Backoff { from, to } => Some(before.map_or(from, |before| (before * 2).clamp(from, to))),
        Retry::Refresh => Some(LOGIN_WAIT.0),
    }
}

/// Keeps a session's token alive until nobody uses the session, or its link is gone.
async fn keep(session: Arc<Session>, link: Weak<Link>) {
    loop {
        let Some(strong) = link.upgrade() else { return };
        if session.is_over.load(Ordering::Relaxed) || session.is_unused() {
            strong.end_session(&session.identity, &session);
            session.end(&strong).await;
            return;
        }
        let due = session.renew(&strong).await;
        drop(strong);
        let look = Instant::now() + LOOK;
        let due = due.map_or(look, |due| due.min(look));
        tokio::select! {
            () = tokio::time::sleep_until(due.into()) => {}
            () = session.is_replaced.notified() => {}
        }
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::{super::link, *};

    /// Who logs in with a token out of this Secret, while it holds this.
    fn identity(secret: &str, content: u8) -> Identity {
        let (namespace, name, key) = ("shop".to_owned(), secret.to_owned(), "id".to_owned());
        let method = Method::Token { credential: Credential { namespace, name, key, digest: [content; 32] } };
        Identity { mount: "token".to_owned(), method }
    }

    #[tokio::test]
    async fn a_session_that_never_logged_in_stays_while_it_is_used_and_its_credential_is_the_same() {
        let (link, _events) = link::tests::nowhere().await;
        let session = |name: &str, content: u8, idle: Duration| {
            let identity = identity(name, content);
            let patience = Patience { idle, ..Patience::default() };
            Arc::downgrade(&link.session(&identity, || Session::new(identity.clone(), None, patience)))
        };
        let minute = Duration::from_secs(60);
        let (first, other) = (session("a", 1, minute), session("b", 1, minute));
        assert!(first.ptr_eq(&session("a", 1, minute)), "the same identity has one session");
        let idle = session("c", 1, Duration::ZERO);
        let second = session("a", 2, minute);
        assert!(first.upgrade().is_none(), "its Secret holds something else now");
        assert!(idle.upgrade().is_none(), "nobody has come for it");
        assert!(other.upgrade().is_some() && second.upgrade().is_some());
    }

    #[tokio::test]
    async fn a_session_that_is_over_logs_in_no_more() {
        let (link, _events) = link::tests::nowhere().await;
        link.clone().retire();
        let identity = identity("a", 1);
        let session = link.session(&identity, || Session::new(identity.clone(), None, Patience::default()));
        let Err(Failed::Judged(failure)) = session.token(&link).await else { panic!("it has a token") };
        assert!(failure.message.contains("changed meanwhile"), "{}", failure.message);
    }

    #[test]
    fn a_token_that_is_said_to_live_for_ever_has_an_end_that_can_be_counted() {
        let ttl = Duration::from_secs(u64::MAX);
        let token = Token::new(Issued { token: "s.x".to_owned().into(), ttl, is_renewable: true });
        assert!(!token.has_ended() && token.renewal_due() < token.ends());
    }

    #[test]
    fn a_failed_login_is_remembered_for_as_long_as_its_retry_says_and_an_outage_is_not() {
        let second = Duration::from_secs(1);
        let backoff = Retry::Backoff { from: 5 * second, to: 12 * second };
        for (retry, before, wait) in [
            (backoff, None, Some(5 * second)),
            (backoff, Some(5 * second), Some(10 * second)),
            (backoff, Some(10 * second), Some(12 * second)),
            (backoff, Some(second), Some(5 * second)),
            (Retry::After(Duration::ZERO), None, Some(second)),
            (Retry::After(7 * second), Some(second), Some(7 * second)),
            (Retry::WhenUp, Some(second), None),
        ] {
            assert_eq!(rest(retry, before), wait, "{retry:?} after {before:?}");
        }
    }

    #[test]
    fn a_token_of_no_life_is_renewed_once_a_second_at_most() {
        let token = Token::new(Issued { token: "s.x".to_owned().into(), ttl: SOONEST, is_renewable: false });
        assert!(token.renewal_due() >= Some(token.issued + SOONEST));
    }
}
