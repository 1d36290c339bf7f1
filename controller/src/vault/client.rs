//! One server: the only module that knows vaultrs, rustify and reqwest.
//!
//! ```text
//! Connection -> Client;  request of vaultrs -> our own sending -> Answer | Fault
//! ```
//!
//! vaultrs and rustify build the requests; they never send one. Their clients read environment variables, log bodies,
//! follow redirects with the token, drop headers, and put whole answers into their errors. So what is sent, over which
//! connection, and what is kept of an answer is decided here: a status and a few words of our own, never a body.

use std::{
    borrow::Cow,
    error::Error as _,
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use reqwest::{
    Certificate, Url,
    dns::{Addrs, Name, Resolve, Resolving},
    header::{HeaderMap, HeaderValue, RETRY_AFTER},
    redirect,
};
use ring::digest::{SHA256, digest};
use rustify::{
    Endpoint, MiddleWare,
    endpoint::MutatedEndpoint,
    enums::{RequestMethod, RequestType, ResponseType},
    errors::ClientError,
};
use seal_crds::VaultStoreSpec;
use serde::Deserialize;
use serde_json::value::RawValue;
use thiserror::Error;
use vaultrs::api::{
    auth::{
        approle::requests::LoginWithApproleRequest, kubernetes::requests::LoginWithKubernetesRequest,
        oidc::requests::JWTLoginRequest,
    },
    kv1::requests::GetSecretRequest,
    kv2::requests::ReadSecretRequest,
    token::requests::{LookupTokenSelfRequest, RenewTokenSelfRequest, RevokeTokenSelfRequest},
};
use zeroize::Zeroizing;

use super::{
    cluster::LARGEST_CREDENTIAL,
    path::{Kv, Read},
    purse::Purse,
    value::{Content, ContentError},
};

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a request may take, where the store does not say.
const REQUEST: Duration = Duration::from_secs(10);
/// More than the largest Secret, as base64 in JSON; less than would hurt us.
const LARGEST_ANSWER: usize = 2 << 20;
/// More than any answer that is not a secret: a login, a lookup, an error.
const LARGEST_WORD: usize = 128 << 10;
/// Redirects that are followed, all of them to where the request went.
const REDIRECTS: usize = 3;

/// How a server is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    address: String,
    server_name: Option<String>,
    authorities: Option<Vec<u8>>,
    is_verified: bool,
    timeout: Duration,
}

/// A store that makes no sense.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectionError {
    /// Not a URL of a server.
    #[error("address is not the URL of a server")]
    Address,
    /// Unencrypted, and not allowed to be.
    #[error("address is not https, and tls.allowPlaintext is not true")]
    Plaintext,
    /// A name that no certificate can be matched with.
    #[error("tls.serverName is not a DNS name")]
    ServerName,
    /// No certificates where some belong.
    #[error("the CA holds no certificate in PEM")]
    Authorities,
    /// No roots to verify a certificate by.
    #[error("there are no CAs on this system to verify the server by; give tls.caBundle or tls.caFrom")]
    NoRoots,
}

impl Connection {
    /// Judges a store's spec. `authorities` are the certificates that it names, in PEM.
    ///
    /// # Errors
    ///
    /// When it makes no sense.
    pub fn of(spec: &VaultStoreSpec, authorities: Option<Vec<u8>>) -> Result<Self, ConnectionError> {
        let tls = spec.tls.clone().unwrap_or_default();
        let url = Url::parse(&spec.address).map_err(|_| ConnectionError::Address)?;
        let is_bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        if !is_bare || !url.username().is_empty() || url.password().is_some() || url.host_str().is_none() {
            return Err(ConnectionError::Address);
        }
        match url.scheme() {
            "https" => {}
            "http" if tls.allow_plaintext == Some(true) => {}
            _ => return Err(ConnectionError::Plaintext),
        }
        // Were it an address, the request would go there.
        let is_name = |name: &String| {
            name.parse::<IpAddr>().is_err()
                && Url::parse(&format!("https://{name}/")).is_ok_and(|url| url.domain() == Some(&**name))
        };
        if tls.server_name.as_ref().is_some_and(|name| !is_name(name)) {
            return Err(ConnectionError::ServerName);
        }
        Ok(Self {
            address: url.to_string(),
            server_name: tls.server_name.filter(|_| url.scheme() == "https"),
            authorities: authorities.or_else(|| tls.ca_bundle.map(String::into_bytes)),
            is_verified: tls.insecure_skip_verify != Some(true),
            timeout: spec
                .limits
                .as_ref()
                .and_then(|limits| limits.request_timeout.as_ref())
                .map_or(REQUEST, |timeout| timeout.duration())
                .clamp(Duration::from_secs(1), Duration::from_secs(300)),
        })
    }

    /// What tells it from another of the same spec: a hash of the certificates, which may be many.
    pub fn fingerprint(&self) -> [u8; 32] {
        let digest = digest(&SHA256, self.authorities.as_deref().unwrap_or_default());
        digest.as_ref().try_into().unwrap_or_default()
    }

    /// Makes the client. No connection is made yet.
    ///
    /// # Errors
    ///
    /// When the certificates are none.
    pub fn client(&self) -> Result<Client, ConnectionError> {
        let mut url = Url::parse(&self.address).map_err(|_| ConnectionError::Address)?;
        let mut builder = reqwest::Client::builder()
            .no_proxy()
            .redirect(redirect::Policy::custom(only_to_the_same_origin))
            .referer(false)
            .connect_timeout(CONNECT.min(self.timeout))
            .timeout(self.timeout)
            .tcp_keepalive(Duration::from_secs(30))
            .pool_idle_timeout(Duration::from_secs(30));
        if url.scheme() == "http" {
            // No roots are read for what is not encrypted.
            builder = builder.tls_certs_only([]);
        } else if !self.is_verified {
            builder = builder.tls_danger_accept_invalid_certs(true);
        } else if let Some(pem) = &self.authorities {
            let certificates = Certificate::from_pem_bundle(pem).map_err(|_| ConnectionError::Authorities)?;
            if certificates.is_empty() {
                return Err(ConnectionError::Authorities);
            }
            builder = builder.tls_certs_only(certificates);
        }
        if let Some(name) = &self.server_name {
            // The name goes into the URL, so that SNI and verification use it, and is resolved to the true host.
            let host = url.host_str().ok_or(ConnectionError::Address)?.trim_matches(['[', ']']).into();
            builder = builder.dns_resolver(Arc::new(Instead { host }));
            url.set_host(Some(name)).map_err(|_| ConnectionError::ServerName)?;
        }
        let failed = if self.authorities.is_some() { ConnectionError::Authorities } else { ConnectionError::NoRoots };
        let http = builder.build().map_err(|_| failed)?;
        Ok(Client { http, base: url.to_string() })
    }
}

/// Follows a redirect only to where the request went anyway: every other one would receive the token.
fn only_to_the_same_origin(attempt: redirect::Attempt<'_>) -> redirect::Action {
    let is_same = attempt.previous().last().is_some_and(|from| from.origin() == attempt.url().origin());
    if is_same && attempt.previous().len() <= REDIRECTS { attempt.follow() } else { attempt.stop() }
}

/// Resolves any name to the addresses of one host.
struct Instead {
    host: Arc<str>,
}

impl Resolve for Instead {
    fn resolve(&self, _: Name) -> Resolving {
        let host = self.host.clone();
        Box::pin(async move {
            let found: Vec<SocketAddr> = tokio::net::lookup_host((&*host, 0)).await?.collect();
            Ok(Box::new(found.into_iter()) as Addrs)
        })
    }
}

/// Who asks.
#[derive(Clone, Copy)]
pub struct As<'a> {
    /// With this token, if any.
    pub token: Option<&'a str>,
    /// In this Vault namespace, if not the root.
    pub namespace: Option<&'a str>,
}

/// How to log in.
pub enum Credentials {
    /// `auth/<mount>/login` of the kubernetes method.
    Kubernetes {
        /// The role.
        role: String,
        /// The ServiceAccount's token.
        jwt: Zeroizing<String>,
    },
    /// `auth/<mount>/login` of the jwt method.
    Jwt {
        /// The role.
        role: String,
        /// The token.
        jwt: Zeroizing<String>,
    },
    /// `auth/<mount>/login` of the approle method.
    AppRole {
        /// The role id.
        role_id: String,
        /// The secret id.
        secret_id: Zeroizing<String>,
    },
}

/// A token as the server issued it.
pub struct Issued {
    /// The token itself.
    pub token: Zeroizing<String>,
    /// How long it lives. Zero: for ever.
    pub ttl: Duration,
    /// Whether it can be renewed.
    pub is_renewable: bool,
}

/// What went wrong with a request. Holds nothing that came from the server but numbers.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// The server answered with an error.
    #[error("HTTP {code}")]
    Status {
        /// The status.
        code: u16,
        /// How long to leave it alone, if it says so.
        retry_after: Option<Duration>,
        /// What else could be learnt.
        hint: Option<Hint>,
    },
    /// There is nothing at that path: the server itself says so, and says nothing else.
    #[error("HTTP 404")]
    Absent,
    /// A KV engine of version 2 has a version there, which is deleted or destroyed.
    #[error("HTTP 404, version {version} is {}", if *.is_destroyed { "destroyed" } else { "deleted" })]
    Deleted {
        /// The version.
        version: i64,
        /// Whether it is gone for good.
        is_destroyed: bool,
    },
    /// No connection came about.
    #[error("no connection")]
    Connect,
    /// The server's certificate was not accepted.
    #[error("{0}")]
    Tls(TlsFault),
    /// No answer in time.
    #[error("no answer in time")]
    Timeout,
    /// The connection broke in the middle of the answer.
    #[error("the answer was cut off")]
    Torn,
    /// The server points elsewhere.
    #[error("HTTP {0}, a redirect to another server, which is never followed")]
    Redirect(u16),
    /// The answer is not one that Vault would give.
    #[error("an answer that is not Vault's")]
    Malformed,
    /// The answer is not one that a KV engine of version 1 would give.
    #[error("an answer that is no KV engine's")]
    NotKv,
    /// The answer is too large.
    #[error("an answer of more than {} MiB, or of too many fields", LARGEST_ANSWER >> 20)]
    TooLarge,
    /// So much is being fetched that there is no room for the answer.
    #[error("too much is being fetched at this moment")]
    Crowded,
    /// A token, role or namespace that no request can carry.
    #[error("a character that no request can carry")]
    Unsendable,
}

/// Why a certificate was not accepted.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum TlsFault {
    /// Signed by nobody whom we trust.
    #[error("TLS: the server's certificate is signed by an unknown CA")]
    UnknownAuthority,
    /// For another name.
    #[error("TLS: the server's certificate is for another name")]
    Name,
    /// Out of date.
    #[error("TLS: the server's certificate has expired")]
    Expired,
    /// Not valid yet.
    #[error("TLS: the server's certificate is not valid yet")]
    NotYet,
    /// Another fault of the certificate.
    #[error("TLS: the server's certificate is not acceptable")]
    Certificate,
    /// No agreement at all.
    #[error("TLS: the handshake failed")]
    Handshake,
}

/// What the words of an error tell. Only these are ever looked for; the words themselves are never kept, for a server
/// may put a token into them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// The server is sealed.
    Sealed,
    /// The server has not been initialised.
    NotInitialised,
    /// The role does not exist.
    Role,
    /// The token is for somebody else.
    Audience,
    /// The role is not for this ServiceAccount.
    Account,
    /// The role is not for this namespace.
    Namespace,
    /// The answer is of something in front of the server, or in its place.
    NotVaults,
}

impl Fault {
    /// Whether the server as a whole may be to blame, so that it is worth a probe.
    pub fn is_of_the_server(self) -> bool {
        match self {
            Self::Connect | Self::Tls(_) | Self::Timeout | Self::Torn | Self::Malformed | Self::Redirect(_) => true,
            Self::Status { code, hint, .. } => code >= 500 || hint == Some(Hint::NotVaults),
            Self::Absent | Self::Deleted { .. } | Self::NotKv | Self::TooLarge | Self::Crowded | Self::Unsendable => {
                false
            }
        }
    }

    /// The HTTP status, where there was one.
    pub fn code(self) -> Option<u16> {
        match self {
            Self::Status { code, .. } | Self::Redirect(code) => Some(code),
            Self::Absent | Self::Deleted { .. } => Some(404),
            _ => None,
        }
    }
}

/// A client of one server.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    base: String,
}

impl Client {
    /// Reads a secret.
    ///
    /// # Errors
    ///
    /// [`Fault::Deleted`] for a version that is deleted, [`Fault::Absent`] where there is nothing.
    pub async fn read(&self, read: &Read, who: As<'_>, purse: &Purse) -> Result<Content, Fault> {
        let mut hold = purse.begin().await.ok_or(Fault::Crowded)?;
        let mut room = |bytes: usize| match bytes > LARGEST_ANSWER {
            true => Err(Fault::TooLarge),
            // As it came, and once more in fields.
            false if purse.widen(&mut hold, 2 * bytes) => Ok(()),
            false => Err(Fault::Crowded),
        };
        let (mount, path) = (read.mount.clone(), read.path.clone());
        let content = match read.kv {
            Kv::V1 => content_v1(&self.send(GetSecretRequest { mount, path }, who, &mut room).await?)?,
            Kv::V2 => {
                let request = ReadSecretRequest { mount, path, version: read.version };
                content_v2(&self.send(request, who, &mut room).await?)?
            }
        };
        hold.narrow(2 * content.size());
        Ok(content.holding(hold))
    }

    /// Logs in. No token is sent.
    ///
    /// # Errors
    ///
    /// As the server answers.
    pub async fn log_in(&self, mount: &str, with: &Credentials, namespace: Option<&str>) -> Result<Issued, Fault> {
        let mount = mount.to_owned();
        let who = As { token: None, namespace };
        let answer = match with {
            Credentials::Kubernetes { role, jwt } => {
                let (role, jwt) = (role.clone(), jwt.to_string());
                self.ask(LoginWithKubernetesRequest { mount, role, jwt }, who).await
            }
            Credentials::Jwt { role, jwt } => {
                let (role, jwt) = (Some(role.clone()), jwt.to_string());
                self.ask(JWTLoginRequest { mount, jwt, role }, who).await
            }
            Credentials::AppRole { role_id, secret_id } => {
                let (role_id, secret_id) = (role_id.clone(), secret_id.to_string());
                self.ask(LoginWithApproleRequest { mount, role_id, secret_id }, who).await
            }
        };
        issued(&answer?)
    }

    /// Gives the token a longer life. The new time to live may be shorter than asked for.
    ///
    /// # Errors
    ///
    /// As the server answers.
    pub async fn renew_self(&self, who: As<'_>) -> Result<Issued, Fault> {
        issued(&self.ask(RenewTokenSelfRequest { increment: None }, who).await?)
    }

    /// Asks what the token is worth; its remaining life and whether it can be renewed.
    ///
    /// # Errors
    ///
    /// 403 if the token is worth nothing.
    pub async fn look_up_self(&self, who: As<'_>) -> Result<(Duration, bool), Fault> {
        #[derive(Deserialize)]
        struct Lookup {
            data: Data,
        }
        #[derive(Deserialize)]
        struct Data {
            ttl: u64,
            renewable: Option<bool>,
        }
        let answer = self.ask(LookupTokenSelfRequest {}, who).await?;
        let lookup: Lookup = serde_json::from_slice(&answer).map_err(|_| Fault::Malformed)?;
        Ok((Duration::from_secs(lookup.data.ttl), lookup.data.renewable.unwrap_or_default()))
    }

    /// Ends the token.
    ///
    /// # Errors
    ///
    /// As the server answers.
    pub async fn revoke_self(&self, who: As<'_>) -> Result<(), Fault> {
        self.ask(RevokeTokenSelfRequest {}, who).await.map(drop)
    }

    /// Asks, without any identity, whether the server is there and unsealed.
    ///
    /// # Errors
    ///
    /// If it is not. Anything that answers with less than 500 is there: a proxy may refuse this path.
    pub async fn probe(&self) -> Result<(), Fault> {
        match self.ask(HealthRequest, As { token: None, namespace: None }).await {
            Ok(_) => Ok(()),
            Err(Fault::Status { code, .. }) if code < 500 => Ok(()),
            Err(Fault::TooLarge | Fault::Absent | Fault::Deleted { .. }) => Ok(()),
            Err(Fault::Status { code: 501, retry_after, .. }) => {
                Err(Fault::Status { code: 501, retry_after, hint: Some(Hint::NotInitialised) })
            }
            Err(fault) => Err(fault),
        }
    }

    /// Sends a request that vaultrs has built, and gives the body of a good answer.
    async fn ask<E: Endpoint>(&self, endpoint: E, who: As<'_>) -> Result<Zeroizing<Vec<u8>>, Fault> {
        let room = |bytes: usize| if bytes > LARGEST_WORD { Err(Fault::TooLarge) } else { Ok(()) };
        self.send(endpoint, who, room).await
    }

    /// Sends it, and reads of the answer what there is room for.
    async fn send<E: Endpoint>(
        &self,
        endpoint: E,
        who: As<'_>,
        room: impl FnMut(usize) -> Result<(), Fault>,
    ) -> Result<Zeroizing<Vec<u8>>, Fault> {
        let outfit = Outfit { token: header(who.token, true)?, namespace: header(who.namespace, false)? };
        let request = MutatedEndpoint::new(endpoint, &outfit).request(&self.base).map_err(|_| Fault::Unsendable)?;
        let request = reqwest::Request::try_from(request).map_err(|_| Fault::Unsendable)?;
        let answer = self.http.execute(request).await.map_err(|error| unsent(&error))?;
        let (status, headers) = (answer.status(), answer.headers().clone());
        if status.is_redirection() {
            return Err(Fault::Redirect(status.as_u16()));
        }
        let body = body(answer, room).await;
        if status.is_success() { body } else { Err(refusal(status.as_u16(), &headers, body)) }
    }
}

/// `sys/health`, which vaultrs asks in a way that counts a standby as a failure.
struct HealthRequest;

impl Endpoint for HealthRequest {
    type Response = ();
    const REQUEST_BODY_TYPE: RequestType = RequestType::JSON;
    const RESPONSE_BODY_TYPE: ResponseType = ResponseType::JSON;

    fn path(&self) -> String {
        "sys/health".to_owned()
    }

    fn method(&self) -> RequestMethod {
        RequestMethod::GET
    }

    fn query(&self) -> Result<Option<String>, ClientError> {
        Ok(Some("standbyok=true&perfstandbyok=true".to_owned()))
    }
}

/// What every request wears. vaultrs' own panics at a token that no header can carry.
struct Outfit {
    token: Option<HeaderValue>,
    namespace: Option<HeaderValue>,
}

impl MiddleWare for Outfit {
    fn request<E: Endpoint>(&self, _: &E, request: &mut http::Request<Vec<u8>>) -> Result<(), ClientError> {
        let build_error = |source| ClientError::UrlParseError { source };
        let mut url = Url::parse(&request.uri().to_string()).map_err(build_error)?;
        let path = format!("/v1/{}", url.path().trim_start_matches('/'));
        url.set_path(&path);
        *request.uri_mut() = url.as_str().parse().map_err(|source| ClientError::UrlBuildError { source })?;
        let headers = request.headers_mut();
        headers.insert("x-vault-request", HeaderValue::from_static("true"));
        if let Some(token) = &self.token {
            headers.insert("x-vault-token", token.clone());
        }
        if let Some(namespace) = &self.namespace {
            headers.insert("x-vault-namespace", namespace.clone());
        }
        Ok(())
    }

    fn response<E: Endpoint>(&self, _: &E, _: &mut http::Response<Vec<u8>>) -> Result<(), ClientError> {
        Ok(())
    }
}

fn header(text: Option<&str>, is_secret: bool) -> Result<Option<HeaderValue>, Fault> {
    let Some(text) = text else { return Ok(None) };
    let mut value = HeaderValue::from_str(text).map_err(|_| Fault::Unsendable)?;
    value.set_sensitive(is_secret);
    Ok(Some(value))
}

/// Reads the body, as far as there is room.
async fn body(
    mut answer: reqwest::Response,
    mut room: impl FnMut(usize) -> Result<(), Fault>,
) -> Result<Zeroizing<Vec<u8>>, Fault> {
    let expected = answer.content_length().and_then(|length| usize::try_from(length).ok()).unwrap_or_default();
    room(expected)?;
    // Grown in place, a buffer would leave copies behind.
    let mut body = Zeroizing::new(Vec::with_capacity(expected.max(4096)));
    loop {
        match answer.chunk().await {
            Ok(None) => return Ok(body),
            Ok(Some(chunk)) => {
                if body.len() + chunk.len() > body.capacity() {
                    let needed = body.len() + chunk.len();
                    room(needed)?;
                    let mut wider = Zeroizing::new(Vec::with_capacity(needed.max(2 * body.capacity())));
                    wider.extend_from_slice(&body);
                    body = wider;
                }
                body.extend_from_slice(&chunk);
            }
            Err(error) if error.is_timeout() => return Err(Fault::Timeout),
            Err(_) => return Err(Fault::Torn),
        }
    }
}

/// Why there was no answer at all.
fn unsent(error: &reqwest::Error) -> Fault {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<rustls::Error>() {
            return Fault::Tls(tls_fault(error));
        }
        // An io::Error does not show what it wraps as its source.
        let wrapped = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        cause = wrapped.map_or_else(|| error.source(), |wrapped| Some(wrapped as &dyn std::error::Error));
    }
    match () {
        () if error.is_timeout() => Fault::Timeout,
        () if error.is_connect() => Fault::Connect,
        () if error.is_builder() => Fault::Unsendable,
        () => Fault::Torn,
    }
}

fn tls_fault(error: &rustls::Error) -> TlsFault {
    use rustls::{CertificateError as Certificate, Error};
    match error {
        Error::InvalidCertificate(Certificate::UnknownIssuer | Certificate::BadSignature) => TlsFault::UnknownAuthority,
        Error::InvalidCertificate(Certificate::NotValidForName | Certificate::NotValidForNameContext { .. }) => {
            TlsFault::Name
        }
        Error::InvalidCertificate(Certificate::Expired | Certificate::ExpiredContext { .. }) => TlsFault::Expired,
        Error::InvalidCertificate(Certificate::NotValidYet | Certificate::NotValidYetContext { .. }) => {
            TlsFault::NotYet
        }
        Error::InvalidCertificate(_) => TlsFault::Certificate,
        _ => TlsFault::Handshake,
    }
}

/// What is kept of an answer that is an error.
fn refusal(code: u16, headers: &HeaderMap, body: Result<Zeroizing<Vec<u8>>, Fault>) -> Fault {
    if code == 404 {
        return match body {
            Ok(body) => not_found(&body),
            Err(Fault::TooLarge) => Fault::Status { code, retry_after: None, hint: Some(Hint::NotVaults) },
            // What was to be read there may tell what is not there.
            Err(fault) => fault,
        };
    }
    let seconds = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
    let hint = body.ok().and_then(|body| hint(code, &body));
    Fault::Status { code, retry_after: seconds.map(Duration::from_secs), hint }
}

/// A 404 has four meanings, and a key may be removed for one of them only: the others come from a version that can be
/// brought back, an engine that is not mounted, or a load balancer without a server.
fn not_found(body: &[u8]) -> Fault {
    #[derive(Deserialize)]
    struct Told<'a> {
        #[serde(borrow)]
        errors: Vec<&'a RawValue>,
    }
    if let Some(version) = versioned(body).and_then(|versioned| versioned.metadata) {
        return Fault::Deleted { version: version.version, is_destroyed: version.destroyed };
    }
    match serde_json::from_slice::<Told<'_>>(body) {
        Ok(told) if told.errors.is_empty() => Fault::Absent,
        Ok(_) => Fault::Status { code: 404, retry_after: None, hint: None },
        Err(_) => Fault::Status { code: 404, retry_after: None, hint: Some(Hint::NotVaults) },
    }
}

/// Looks for words that we know in what the server says.
fn hint(code: u16, body: &[u8]) -> Option<Hint> {
    #[derive(Deserialize)]
    struct Errors {
        #[serde(default)]
        errors: Vec<String>,
        #[serde(default)]
        sealed: bool,
        #[serde(default)]
        initialized: Option<bool>,
    }
    let told: Errors = serde_json::from_slice(body).ok()?;
    if told.initialized == Some(false) {
        return Some(Hint::NotInitialised);
    }
    if told.sealed {
        return Some(Hint::Sealed);
    }
    let words = Zeroizing::new(told.errors.join(" ").to_lowercase());
    let says = |word: &str| words.contains(word);
    match code {
        503 if says("sealed") => Some(Hint::Sealed),
        400 | 403 if says("audience") => Some(Hint::Audience),
        400 | 403 if says("service account name not authorized") => Some(Hint::Account),
        400 | 403 if says("namespace not authorized") => Some(Hint::Namespace),
        400 if says("role") && (says("could not be found") || says("invalid role")) => Some(Hint::Role),
        _ => None,
    }
}

#[derive(Deserialize)]
struct Enclosing<'a> {
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    lease_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    mount_type: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Versioned<'a> {
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    metadata: Option<VersionMetadata>,
}

#[derive(Clone, Copy, Deserialize)]
struct VersionMetadata {
    version: i64,
    #[serde(default)]
    destroyed: bool,
}

fn versioned(body: &[u8]) -> Option<Versioned<'_>> {
    let enclosing: Enclosing<'_> = serde_json::from_slice(body).ok()?;
    serde_json::from_str(enclosing.data?.get()).ok()
}

fn content_v1(body: &[u8]) -> Result<Content, Fault> {
    let enclosing: Enclosing<'_> = serde_json::from_slice(body).map_err(|_| Fault::Malformed)?;
    // What has a lease is made for whoever asks, and dies with it; nobody here would renew it.
    let is_leased = enclosing.lease_id.is_some_and(|id| !id.is_empty());
    // Not every server says which engine has answered.
    let is_of_another = enclosing.mount_type.is_some_and(|engine| !matches!(&*engine, "" | "kv" | "generic"));
    if is_leased || is_of_another {
        return Err(Fault::NotKv);
    }
    Content::of(enclosing.data.ok_or(Fault::Malformed)?.get(), None).map_err(unfit)
}

fn content_v2(body: &[u8]) -> Result<Content, Fault> {
    let Versioned { data, metadata } = versioned(body).ok_or(Fault::Malformed)?;
    let metadata = metadata.ok_or(Fault::Malformed)?;
    // A server that answers a deleted version with 200 and null is taken at its word, not at its status.
    let deleted = Fault::Deleted { version: metadata.version, is_destroyed: metadata.destroyed };
    Content::of(data.ok_or(deleted)?.get(), Some(metadata.version)).map_err(unfit)
}

fn unfit(error: ContentError) -> Fault {
    match error {
        ContentError::NotAnObject => Fault::Malformed,
        ContentError::TooMany => Fault::TooLarge,
    }
}

fn issued(body: &[u8]) -> Result<Issued, Fault> {
    #[derive(Deserialize)]
    struct Login {
        auth: Option<Auth>,
    }
    /// As vaultrs' `AuthInfo`, without the parts that some servers leave out.
    #[derive(Deserialize)]
    struct Auth {
        client_token: String,
        #[serde(default)]
        lease_duration: u64,
        #[serde(default)]
        renewable: bool,
    }
    let login: Login = serde_json::from_slice(body).map_err(|_| Fault::Malformed)?;
    let auth = login.auth.filter(|auth| auth.client_token.len() <= LARGEST_CREDENTIAL).ok_or(Fault::Malformed)?;
    let ttl = Duration::from_secs(auth.lease_duration);
    Ok(Issued { token: Zeroizing::new(auth.client_token), ttl, is_renewable: auth.renewable })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(code: u16, body: &str) -> Fault {
        refusal(code, &HeaderMap::new(), Ok(body.as_bytes().to_vec().into()))
    }

    #[test]
    fn only_the_servers_own_word_that_there_is_nothing_makes_a_path_absent() {
        let other = |hint| Fault::Status { code: 404, retry_after: None, hint };
        let deleted = r#"{"data":{"data":null,"metadata":{"version":3,"destroyed":true}}}"#;
        for (body, fault) in [
            (r#"{"errors":[]}"#, Fault::Absent),
            (deleted, Fault::Deleted { version: 3, is_destroyed: true }),
            (r#"{"errors":["no handler for route \"kv/app\". route entry not found."]}"#, other(None)),
            ("<html><h1>404 Not Found</h1></html>", other(Some(Hint::NotVaults))),
            ("", other(Some(Hint::NotVaults))),
            ("{}", other(Some(Hint::NotVaults))),
            (&deleted[..40], other(Some(Hint::NotVaults))),
        ] {
            assert_eq!(answered(404, body), fault, "{body}");
        }
        for fault in [Fault::Torn, Fault::Timeout] {
            assert_eq!(refusal(404, &HeaderMap::new(), Err(fault)), fault);
        }
        assert!(other(Some(Hint::NotVaults)).is_of_the_server() && !other(None).is_of_the_server());
    }

    #[test]
    fn version_1_takes_nothing_of_another_engine_and_nothing_that_has_a_lease() {
        for (more, is_kv) in [
            (r#""lease_id": "", "mount_type": "kv""#, true),
            (r#""lease_id": """#, true),
            (r#""lease_id": "database/creds/app/x""#, false),
            (r#""mount_type": "token""#, false),
        ] {
            let content = content_v1(format!(r#"{{"data": {{"id": "x"}}, {more}}}"#).as_bytes());
            assert_eq!(content.map(drop), if is_kv { Ok(()) } else { Err(Fault::NotKv) }, "{more}");
        }
    }
}
