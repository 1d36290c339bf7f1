//! The cluster: the only module that talks to a network.
//!
//! kubeconfig or URL -> KeyRings of the controller's namespace, and the controller's yes or no about an object. Every
//! call has a deadline. Errors are of our own wording: kube's repeat themselves.

use std::{
    future::Future,
    path::Path,
    time::{Duration, Instant},
};

use http::{
    Request, StatusCode, Uri,
    header::{CONTENT_TYPE, RETRY_AFTER},
};
use http_body_util::{BodyExt as _, Limited};
use kube::{
    Api, Client, Config,
    api::ListParams,
    client::Body,
    config::{KubeConfigOptions, Kubeconfig},
};
use seal_crds::{KeyRing, SealedSecret};
use serde::Deserialize;
use tokio::runtime::Runtime;

use crate::error::{Error, Result, did_you_mean};

const DEADLINE: Duration = Duration::from_secs(30);
/// The controller's Service and the name of its port.
const SERVICE: &str = "http:seal-controller:http";
const VERIFY: &str = "/v1/verify";
/// Behind a right that is missing.
const WHO_HAS_IT: &str = "whom `rbac.proxier.subjects` of the chart names has it";
/// No answer that we want is larger.
const MAX_ANSWER: usize = 64 * 1024;

/// A controller's answer about one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Yes,
    No,
}

/// What the controller says, or the API server in its place.
#[derive(Default, Deserialize)]
struct Answer {
    /// Whether the object opens: the controller's answer, and nobody else's.
    ok: Option<bool>,
    /// Why the controller gives none.
    error: Option<String>,
    /// Why the API server does not reach the controller.
    message: Option<String>,
    /// `Status`, where it is the API server that answers.
    kind: Option<String>,
}

/// A connection to an API server, or to a controller itself.
pub(crate) struct Cluster {
    runtime: Runtime,
    client: Client,
    /// Who is asked, for messages.
    address: String,
}

impl Cluster {
    /// The cluster of a kubeconfig's context; the pod's own, where there is no kubeconfig.
    pub(crate) fn connect(context: Option<&str>, kubeconfig: Option<&Path>) -> Result<Self> {
        let runtime = runtime()?;
        let config = runtime.block_on(config(context, kubeconfig))?;
        Self::new(runtime, config)
    }

    /// The controller at this address.
    pub(crate) fn at(url: &str) -> Result<Self> {
        let unusable = || Error::usage("--controller-url is not a URL").hint("it looks like `http://127.0.0.1:8080`");
        let uri: Uri = url.parse().map_err(|_| unusable())?;
        if uri.host().is_none() || !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err(unusable());
        }
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err(Error::usage("--controller-url holds a user or a password")
                .hint("the controller asks for none, and every process can read the command line: leave them out"));
        }
        Self::new(runtime()?, Config::new(uri))
    }

    fn new(runtime: Runtime, mut config: Config) -> Result<Self> {
        config.connect_timeout = Some(Duration::from_secs(10));
        config.read_timeout = Some(DEADLINE);
        // A person waits; retries for minutes would look like a hang.
        config.default_retry = false;
        let address = shown(&config.cluster_url);
        let client = {
            let _context = runtime.enter();
            Client::try_from(config).map_err(|cause| Error::request("cannot connect to the cluster").because(cause))?
        };
        Ok(Self { runtime, client, address })
    }

    /// The KeyRings of the controller's namespace.
    pub(crate) fn key_rings(&self, namespace: &str) -> Result<Vec<KeyRing>> {
        let rings: Api<KeyRing> = Api::namespaced(self.client.clone(), namespace);
        let list = self.within_deadline(async { rings.list(&ListParams::default()).await })?;
        list.map(|list| list.items).map_err(|cause| {
            let asked = format!("cannot list the KeyRings of the namespace `{namespace}` at {}", self.address);
            match &cause {
                kube::Error::Api(status) if status.code == StatusCode::NOT_FOUND => {
                    Error::request(asked).hint("this cluster does not know KeyRings: Sealwright is not installed there")
                }
                kube::Error::Api(status) if status.is_forbidden() => Error::request(asked)
                    .hint(format!("you need the right to list keyrings.sealwright.dev there: {WHO_HAS_IT}"))
                    .hint("or get the ring file from somebody, and pin it: `seal init RING.yaml`"),
                kube::Error::Api(_) => Error::request(asked).because(Wording(cause)),
                _ => Error::request(asked)
                    .because(Wording(cause))
                    .hint("is that cluster running, and this the right context? `kubectl config get-contexts`")
                    .hint("without a cluster: pin a ring file that somebody gave you, `seal init RING.yaml`"),
            }
        })
    }

    /// Asks the controller through the API server's proxy to its Service.
    pub(crate) fn verify_through_api_server(&self, namespace: &str, object: &SealedSecret) -> Result<Verdict> {
        let path = format!("/api/v1/namespaces/{namespace}/services/{SERVICE}/proxy{VERIFY}");
        let (status, answer) = self.ask(&path, object).map_err(|error| {
            error.hint("is the cluster of the kubeconfig's context running? without one: `seal verify -i IDENTITY`")
        })?;
        let is_api_servers = answer.kind.as_deref() == Some("Status");
        self.verdict(status, answer).map_err(|error| match status {
            StatusCode::NOT_FOUND if is_api_servers => error
                .hint(format!(
                    "there is no Service `seal-controller` in `{namespace}`, or nothing behind it: `kubectl get \
                     services,pods -n {namespace}`"
                ))
                .hint("is the controller in another namespace? pass --controller-namespace; outside? --controller-url"),
            StatusCode::SERVICE_UNAVAILABLE if is_api_servers => error
                .hint(format!("no controller behind the Service is ready: `kubectl get pods -n {namespace}`"))
                .hint("without one: `seal verify -i IDENTITY`"),
            StatusCode::FORBIDDEN if is_api_servers => {
                let right =
                    format!("you need the right to create services/proxy of `seal-controller` in `{namespace}`");
                error.hint(format!("{right}: {WHO_HAS_IT}")).hint("without it: `seal verify -i IDENTITY`")
            }
            StatusCode::NOT_FOUND => {
                error.hint("what answers behind the Service is no seal-controller, or one of another version")
            }
            _ => error,
        })
    }

    /// Asks the controller that this connection leads to.
    pub(crate) fn verify_directly(&self, object: &SealedSecret) -> Result<Verdict> {
        let elsewhere = |error: Error| {
            error.hint("is a controller running there? `seal verify` without the URL asks through the API server")
        };
        let (status, answer) = self.ask(VERIFY, object).map_err(elsewhere)?;
        let verdict = self.verdict(status, answer);
        verdict.map_err(|error| if status == StatusCode::PAYLOAD_TOO_LARGE { error } else { elsewhere(error) })
    }

    fn ask(&self, path: &str, object: &SealedSecret) -> Result<(StatusCode, Answer)> {
        let body = serde_json::to_vec(object).map_err(|_| Error::bug("a SealedSecret is no JSON"))?;
        let (status, answer) = self.within_deadline(self.asked_until_answered(path, body))?.map_err(|cause| {
            Error::request(format!("the controller at {} gave no answer", self.address)).because(Wording(cause))
        })?;
        Ok((status, serde_json::from_slice(&answer).unwrap_or_default()))
    }

    fn verdict(&self, status: StatusCode, answer: Answer) -> Result<Verdict> {
        match (status, answer.ok) {
            (StatusCode::OK, Some(true)) => Ok(Verdict::Yes),
            (_, Some(false)) => Ok(Verdict::No),
            _ => {
                let mut error = Error::request(format!("the controller at {} answered {status}", self.address));
                if status == StatusCode::PAYLOAD_TOO_LARGE {
                    error = error.hint("no cluster takes so large an object: part the values over several Secrets");
                }
                Err(answer.error.or(answer.message).into_iter().fold(error, |error, why| error.because(Text(why))))
            }
        }
    }

    /// Asks, and asks again when the controller says that it is too busy and for how long. Zero is a second, and what is
    /// longer than we wait is an answer.
    async fn asked_until_answered(&self, path: &str, body: Vec<u8>) -> kube::Result<(StatusCode, Vec<u8>)> {
        let begin = Instant::now();
        let pause = |seconds: u64| Duration::from_secs(seconds.max(1));
        loop {
            let request = Request::post(path).header(CONTENT_TYPE, "application/json").body(Body::from(body.clone()));
            let response = self.client.send(request.map_err(kube::Error::HttpError)?).await?;
            let after = response.headers().get(RETRY_AFTER).and_then(|after| after.to_str().ok()?.parse().ok());
            match (response.status(), after) {
                (StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE, Some(seconds))
                    if begin.elapsed() + pause(seconds) < DEADLINE =>
                {
                    tokio::time::sleep(pause(seconds)).await;
                }
                (status, _) => {
                    let answer = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
                    return Ok((status, answer.map(|answer| answer.to_bytes().to_vec()).unwrap_or_default()));
                }
            }
        }
    }

    fn within_deadline<T>(&self, call: impl Future<Output = T>) -> Result<T> {
        self.runtime.block_on(async { tokio::time::timeout(DEADLINE, call).await }).map_err(|_| {
            Error::request(format!("{} did not answer within {} seconds", self.address, DEADLINE.as_secs()))
        })
    }
}

/// A URL as messages show it: a user and a password in it (a kubeconfig may have them) are nobody's to read.
fn shown(url: &Uri) -> String {
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}://{}{port}{}", url.scheme_str().unwrap_or("https"), url.host().unwrap_or_default(), url.path())
}

fn runtime() -> Result<Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|cause| Error::request("cannot start the network runtime").because(cause))
}

async fn config(context: Option<&str>, kubeconfig: Option<&Path>) -> Result<Config> {
    let no_cluster = |cause: &dyn std::error::Error| {
        Error::request("there is no usable kubeconfig")
            .because(Text(cause.to_string()))
            .hint("set KUBECONFIG, or pass --kubeconfig and --context")
    };
    if context.is_none() && kubeconfig.is_none() {
        // Who is not in a pod need not read that this is no pod: the source tells of the kubeconfig.
        return Config::infer().await.map_err(|cause| no_cluster(std::error::Error::source(&cause).unwrap_or(&cause)));
    }
    let read = kubeconfig.map_or_else(Kubeconfig::read, Kubeconfig::read_from);
    let kubeconfig = read.map_err(|cause| no_cluster(&cause))?;
    if let Some(context) = context {
        known_context(&kubeconfig, context)?;
    }
    let options = KubeConfigOptions { context: context.map(str::to_owned), ..Default::default() };
    Config::from_custom_kubeconfig(kubeconfig, &options).await.map_err(|cause| no_cluster(&cause))
}

fn known_context(kubeconfig: &Kubeconfig, context: &str) -> Result<()> {
    let names: Vec<_> = kubeconfig.contexts.iter().map(|known| known.name.as_str()).collect();
    if names.contains(&context) {
        return Ok(());
    }
    let error = Error::request(format!("the kubeconfig has no context `{context}`"));
    Err(match did_you_mean(context, names.iter().copied()) {
        Some(near) => error.hint(format!("did you mean `{near}`?")),
        None => error.hint(format!("there are: {}", names.join(", "))),
    })
}

/// kube's errors put their cause into their own text and into `source()`; this is the text alone.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Text(String);

/// The innermost cause says what happened; the layers above say "HyperError".
struct Wording(kube::Error);

impl From<Wording> for Box<dyn std::error::Error + Send + Sync> {
    fn from(Wording(error): Wording) -> Self {
        if let kube::Error::Api(status) = &error {
            return Text(status.message.clone()).into();
        }
        let mut innermost: &dyn std::error::Error = &error;
        while let Some(cause) = innermost.source() {
            innermost = cause;
        }
        Text(innermost.to_string()).into()
    }
}
