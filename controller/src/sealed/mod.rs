//! One look at one SealedSecret: `read -> decide -> apply -> status`.
//!
//! [`reconcile`] joins the four and decides nothing itself; what comes of it is a [`Next`] for the queue.

pub mod decide;
pub mod fetch;
pub mod read;

use std::{
    fmt::Debug,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use k8s_openapi::jiff::Timestamp;
use kube::{
    Api, Client, Resource, ResourceExt,
    api::DynamicObject,
    core::{ApiResource, ObjectMeta},
    runtime::watcher,
};
use seal_crds::{
    SealedSecret,
    condition::{self, SealedSecretReason as Reason},
    sealed_secret::{DeletionPolicy, SecretStatus},
};
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use self::{
    decide::{Decision, Drift, Live, Observed, Refusal},
    fetch::Start,
    read::Read,
};
use crate::{
    apply::{WriteError, Writer},
    error::ApiError,
    facts::Facts,
    keys::KeyIndex,
    metrics::Write,
    realm::{Realm, Region},
    report::Report,
    rewatch::Watch,
    status::{self, VaultPart, Verdict},
    store::{Key, OwnedSecret, Store},
    vault::{
        course::Wish,
        errand::{Answer, Errands},
    },
};

/// How often a look is begun anew at once, because something changed under it.
const RETRIES: usize = 4;

/// What every look at an object needs.
#[derive(Clone)]
pub struct Context {
    /// For reading.
    pub client: Client,
    /// For writing.
    pub writer: Writer,
    /// The picture of the cluster.
    pub store: Arc<Mutex<Store>>,
    /// The keys.
    pub keys: watch::Receiver<Arc<KeyIndex>>,
    /// The controller's own namespace.
    pub own_namespace: Arc<str>,
    /// The namespaces whose objects it looks at.
    pub realm: Realm,
    /// Fetches from Vault, beside the looks.
    pub errands: Arc<Errands>,
    /// How often each Secret is read and compared as a whole.
    pub verify_every: Option<Duration>,
    /// Metrics, Events and the log.
    pub report: Report,
}

impl Context {
    /// The store. A panic elsewhere while it was held leaves it usable: every change of it is whole.
    pub fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A watch of one kind in all that is served.
    pub fn watch<K>(&self, what: &'static str, api: impl Fn(Region<'_>) -> Api<K>, config: &watcher::Config) -> Watch<K>
    where
        K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
    {
        Watch::new(what, &self.realm, api, config, self.report.metrics.clone())
    }

    fn is_settled(&self, key: &Key) -> bool {
        let keys = self.keys.borrow().clone();
        self.store().is_settled(key, &keys)
    }
}

/// What the queue does with the object now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It is settled; only an event brings it back, or the time of its next fetch from Vault.
    Settled,
    /// Vault is being asked for it; the answer brings it back.
    Fetching,
    /// Vault gave nothing of use; tried again when that makes sense.
    Later,
    /// It is not, and is tried again, ever more slowly, and not before this time has passed.
    Retry(Duration),
    /// It is not, and only a person can help; tried again all the same.
    Stalled(Duration),
    /// The controller itself failed; tried again all the same.
    Fault,
    /// Nothing is to be done here: it is gone, or another replica leads.
    Nothing,
}

impl Next {
    fn not_before(self, delay: Duration) -> Self {
        match self {
            Self::Retry(_) => Self::Retry(delay),
            Self::Stalled(_) => Self::Stalled(delay),
            other => other,
        }
    }
}

/// How one look ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Look {
    /// What the queue does with the object now.
    pub next: Next,
    /// Whether the Secret or the status was written.
    pub wrote: bool,
}

impl From<Next> for Look {
    fn from(next: Next) -> Self {
        Self { next, wrote: false }
    }
}

/// Looks at one object. With `verify`, the Secret itself is read even where nothing speaks for a change. `failures`: how
/// many looks before this one failed in a row.
pub async fn reconcile(context: &Context, key: &Key, verify: bool, failures: u32) -> Look {
    let keys = context.keys.borrow().clone();
    let answer = match fetch::begin(context, key, &keys, verify) {
        Start::Over(next) => return next.into(),
        Start::With(answer) => answer,
    };
    let mut must_ask = verify;
    for _ in 0..RETRIES {
        match attempt(context, key, &keys, must_ask, answer.as_ref()).await {
            Ok(look) => {
                fetch::conclude(context, key, answer.as_ref(), look.next);
                return look;
            }
            Err(WriteError::Conflict) => must_ask = true,
            // Also where the namespace is going: the garbage collector is at work, and a drift that is not.
            Err(WriteError::Gone | WriteError::Terminating) => return Next::Nothing.into(),
            // The lease may be ours again before anybody hears that it was not: nothing is to be forgotten meanwhile.
            Err(WriteError::NotLeading) => return Next::Retry(Duration::ZERO).into(),
            Err(error) => return unfinished(context, key, &error, failures).await,
        }
    }
    unfinished(context, key, &WriteError::Conflict, failures).await
}

/// Nothing came of a look. Where that lasts, the status says so: that is where people and Argo CD look, not in the log.
async fn unfinished(context: &Context, key: &Key, error: &WriteError, failures: u32) -> Look {
    context.report.unanswered(key, error);
    let told = match lasting(error) {
        Some((reason, message)) if failures > 0 => tell_lasting(context, key, reason, message).await,
        _ => Ok(Next::Retry(Duration::ZERO).into()),
    };
    // What keeps the Secret from being written may keep the status from it too; the log has it.
    let look = told.unwrap_or_else(|_| Next::Retry(Duration::ZERO).into());
    if matches!(error, WriteError::Fault) { Look { next: Next::Fault, ..look } } else { look }
}

/// What the status says of a failure that lasts; nothing where no status can be written either.
fn lasting(error: &WriteError) -> Option<(Reason, String)> {
    match error {
        WriteError::Unavailable(ApiError::Connection) => None,
        WriteError::Unavailable(_) => Some((Reason::WriteFailed, format!("{}; it is tried again", error.text()))),
        WriteError::Conflict => {
            let message = "the object or its Secret keeps changing while it is worked on; it is tried again";
            Some((Reason::WriteFailed, message.to_owned()))
        }
        WriteError::Fault => Some((Reason::InternalError, format!("{error}; its log says where"))),
        WriteError::NotLeading | WriteError::Gone | WriteError::Terminating | WriteError::Refused(_) => None,
    }
}

/// Writes into the status that a failure lasts, once: the words of the first time stay, whatever the next ones are.
async fn tell_lasting(context: &Context, key: &Key, reason: Reason, message: String) -> Result<Look, WriteError> {
    let Some(summary) = context.store().summary(key).cloned() else { return Ok(Next::Nothing.into()) };
    if summary.is_told(reason) {
        return Ok(Next::Retry(Duration::ZERO).into());
    }
    let object = match read::object(&context.client, key, &summary, None).await.map_err(unread)? {
        Read::Object(object) => object,
        Read::Unreadable(object) => Arc::new(*object),
        Read::Gone => return Ok(Next::Nothing.into()),
    };
    tell(context, key, &object, &Verdict { reason, message, is_stalled: false, secret: None, vault: None }, None).await
}

/// One pass. Err: nothing could be said about the object, not even in its status.
async fn attempt(
    context: &Context,
    key: &Key,
    keys: &Arc<KeyIndex>,
    must_ask: bool,
    answer: Option<&Arc<Answer>>,
) -> Result<Look, WriteError> {
    let (summary, waiting) = {
        let mut store = context.store();
        let Some(summary) = store.summary(key).cloned() else { return Ok(Next::Nothing.into()) };
        (summary, store.take_full(key))
    };
    let object = match read::object(&context.client, key, &summary, waiting).await.map_err(unread)? {
        Read::Object(object) => object,
        Read::Unreadable(object) => {
            let message = "the spec cannot be read: a field has another type than this controller expects";
            return tell(context, key, &object, &refused(Refusal::new(Reason::InvalidSpec, message)), None).await;
        }
        Read::Gone => return Ok(Next::Nothing.into()),
    };
    if object.metadata.deletion_timestamp.is_some() {
        return Ok(Next::Nothing.into());
    }
    let target = Key::new(&key.namespace, object.target_name());
    let answer = answer.filter(|answer| answer.wish == Wish::of(&object.metadata)).cloned();
    let (must_ask, rival, contest) = {
        let store = context.store();
        // Before Vault has been asked, a Secret that is right is nobody's business; nor is any after it gave nothing.
        let is_refresh = match &answer {
            Some(answer) => answer.result.is_err(),
            None => object.spec.vault.is_some() && store.is_right(key, keys),
        };
        let must_ask = !is_refresh && (must_ask || read::is_expected(&store, &target, &object));
        (must_ask, store.rival(key), store.contest(key, Instant::now()).filter(|_| !is_refresh))
    };
    let live = read::live(&context.client, &target, must_ask).await.map_err(unread)?;
    let (live, decision) = decided(context, keys, object.clone(), live, rival, contest, answer.clone()).await?;

    match decision {
        Decision::Fetch(plan) => fetch::send(context, key, object, plan).await,
        Decision::Withhold(failure) => fetch::withhold(context, key, &object, &failure).await,
        Decision::Refuse(refusal) => {
            let after = refusal.after.unwrap_or_default();
            let fetched = answer.as_ref().and_then(|answer| answer.result.as_ref().ok());
            let verdict = Verdict { vault: fetched.map(|_| VaultPart::Unused), ..refused(refusal) };
            let look = tell(context, key, &object, &verdict, None).await?;
            Ok(Look { next: look.next.not_before(after), ..look })
        }
        decision => match carry_out(context, &target, &live, decision).await {
            Ok(done) => finish(context, key, &object, &live, done, answer.as_ref()).await,
            Err(error @ WriteError::Refused(_)) => tell(context, key, &object, &forbidden(error.text()), None).await,
            Err(error) => Err(error),
        },
    }
}

fn unread(error: ApiError) -> WriteError {
    match WriteError::from(error) {
        // Nothing was written, so nothing was refused for good.
        WriteError::Refused(error) => WriteError::Unavailable(error),
        other => other,
    }
}

/// Decides on a thread where the arithmetic of many values holds up nobody.
async fn decided(
    context: &Context,
    keys: &Arc<KeyIndex>,
    object: Arc<SealedSecret>,
    live: Live,
    rival: Option<Key>,
    contest: Option<(String, Duration)>,
    answer: Option<Arc<Answer>>,
) -> Result<(Live, Decision), WriteError> {
    let (keys, own_namespace) = (keys.clone(), context.own_namespace.clone());
    let work = move || {
        let observed = Observed {
            object: &object,
            live: &live,
            rival: rival.as_ref().map(|rival| &*rival.name),
            own_namespace: &own_namespace,
            contest,
            fetched: answer.as_ref().map(|answer| &answer.result),
        };
        let decision = decide::decide(&observed, &keys);
        (live, decision)
    };
    aside(work).await
}

/// Does work on a thread of its own. The only way to fail is a panic, which the hook has logged.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, WriteError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| WriteError::Fault)
}

/// A Secret that is now as it should be.
struct Done {
    facts: Facts,
    /// As the API server has it now, if it was written.
    metadata: Option<ObjectMeta>,
    write: Option<Write>,
    drift: Option<Drift>,
}

/// Does what was decided, except for refusals, which need nothing done.
async fn carry_out(context: &Context, target: &Key, live: &Live, decision: Decision) -> Result<Done, WriteError> {
    let writer = &context.writer;
    let (metadata, write, drift) = match decision {
        Decision::Hold(facts) => {
            let metadata = match live {
                Live::Present(live) => Some(live.metadata.clone()),
                _ => None,
            };
            return Ok(Done { facts, metadata, write: None, drift: None });
        }
        Decision::Create { desired, drift } => (writer.create_secret(&desired).await?, Write::Create, drift),
        Decision::Change { desired, mut facts, take_over, is_adoption, drift } => {
            if let Some(take_over) = take_over {
                facts = writer.take_over(target, &facts, &take_over).await?;
            }
            let write = if is_adoption { Write::Adopt } else { Write::Update };
            (writer.change_secret(&desired, &facts).await?, write, drift)
        }
        Decision::Replace { desired, facts } => (writer.replace_secret(&desired, &facts).await?, Write::Replace, None),
        Decision::Refuse(_) | Decision::Fetch(_) | Decision::Withhold(_) => {
            return Err(WriteError::Refused(ApiError::Malformed));
        }
    };
    context.report.wrote(write);
    Ok(Done { facts: Facts::of(&metadata), metadata: Some(metadata), write: Some(write), drift })
}

/// After the Secret is right: old targets go, repairs are counted, the status says so.
async fn finish(
    context: &Context,
    key: &Key,
    object: &SealedSecret,
    live: &Live,
    done: Done,
    answer: Option<&Arc<Answer>>,
) -> Result<Look, WriteError> {
    if let Some(metadata) = &done.metadata {
        context.store().answered_secret(metadata);
    }
    if let Some(drift) = done.drift {
        let manager = decide::meddler(live);
        context.store().repaired(key, &manager, Instant::now());
        context.report.drift(object, drift, &manager);
    }
    let strays = context.store().strays(key);
    for (stray, secret) in strays {
        match leave(context, object, &stray, &secret).await {
            Err(error @ WriteError::Refused(_)) => {
                let message = format!("the old Secret {} cannot be let go of: {}", stray.name, error.text());
                let look = tell(context, key, object, &forbidden(message), None).await?;
                return Ok(Look { wrote: look.wrote || done.write.is_some(), ..look });
            }
            left => left?,
        }
    }
    let secret = match object.status.as_ref().and_then(|status| status.secret.clone()) {
        // Only foreign labels moved its resourceVersion: what the status says suffices at the next start.
        Some(secret) if done.write.is_none() && context.is_settled(key) => secret,
        _ => SecretStatus {
            name: object.target_name().to_owned(),
            uid: Some(done.facts.uid.clone()),
            resource_version: Some(done.facts.resource_version.clone()),
            inputs: Some(status::inputs()),
        },
    };
    let fetched = answer.and_then(|answer| answer.result.as_ref().ok());
    let verdict = Verdict {
        reason: Reason::Synced,
        message: synced(object, fetched.map(|fetched| fetched.values.values.len())),
        is_stalled: false,
        secret: Some(secret),
        vault: fetched.map(VaultPart::from),
    };
    let created = matches!(done.write, Some(Write::Create | Write::Replace)).then_some(&done.facts);
    let look = match tell(context, key, object, &verdict, created).await {
        Err(WriteError::Conflict) => tell_of_now(context, key, object, &verdict, created, answer).await?,
        told => told?,
    };
    Ok(Look { wrote: look.wrote || done.write.is_some(), ..look })
}

/// The object changed between its Secret and its status. Where its spec is the same the verdict stands: were it dropped,
/// nobody would know that this Secret is right, and if the next fetch failed it would say that there never was one.
async fn tell_of_now(
    context: &Context,
    key: &Key,
    object: &SealedSecret,
    verdict: &Verdict,
    created: Option<&Facts>,
    answer: Option<&Arc<Answer>>,
) -> Result<Look, WriteError> {
    let Read::Object(now) = read::latest(&context.client, key).await.map_err(unread)? else {
        return Err(WriteError::Conflict);
    };
    if (&now.metadata.uid, now.metadata.generation) != (&object.metadata.uid, object.metadata.generation) {
        return Err(WriteError::Conflict);
    }
    // The annotation stays the one that was acted on.
    let mut told = SealedSecret { status: now.status.clone(), ..object.clone() };
    told.metadata.resource_version = now.metadata.resource_version.clone();
    let look = tell(context, key, &told, verdict, created).await?;
    if Wish::of(&now.metadata) == Wish::of(&object.metadata) {
        return Ok(look);
    }
    // What is wished now has not been looked at yet.
    fetch::conclude(context, key, answer, Next::Settled);
    Err(WriteError::Conflict)
}

/// Removes a Secret that the object made under another name, or lets go of it.
async fn leave(context: &Context, object: &SealedSecret, stray: &Key, secret: &OwnedSecret) -> Result<(), WriteError> {
    let facts = Facts { uid: secret.uid.to_string(), resource_version: secret.resource_version.to_string() };
    let write = match object.spec.deletion_policy() {
        DeletionPolicy::Delete => {
            context.writer.delete_secret(stray, &facts).await?;
            Write::Delete
        }
        DeletionPolicy::Retain => {
            context.writer.release_secret(stray, &facts, &object.uid().unwrap_or_default()).await?;
            Write::Release
        }
    };
    context.report.wrote(write);
    Ok(())
}

fn synced(object: &SealedSecret, fetched: Option<usize>) -> String {
    let counted =
        |values: usize, what: &str| format!("{values} {what} {}", if values == 1 { "value" } else { "values" });
    let values = match (object.spec.encrypted_data.len(), fetched) {
        (sealed, None) => counted(sealed, "sealed"),
        (0, Some(fetched)) => counted(fetched, "fetched"),
        (sealed, Some(fetched)) => format!("{} and {}", counted(sealed, "sealed"), counted(fetched, "fetched")),
    };
    let message = format!("Secret {} holds {values}", object.target_name());
    let template = object.spec.template.as_ref().and_then(|template| template.metadata.as_ref());
    let is_tracked = template.is_some_and(|metadata| metadata.labels.contains_key("app.kubernetes.io/instance"));
    if is_tracked && object.spec.deletion_policy() == DeletionPolicy::Retain {
        // It prunes what it tracks unless an ownerReference stands in its way, and with Retain there is none.
        return format!("{message}; with Retain and the label app.kubernetes.io/instance, Argo CD may prune it");
    }
    message
}

fn refused(refusal: Refusal) -> Verdict {
    Verdict {
        reason: refusal.reason,
        message: refusal.message,
        is_stalled: refusal.is_stalled,
        secret: None,
        vault: None,
    }
}

/// The API server will not have what is to be done.
fn forbidden(message: String) -> Verdict {
    Verdict { reason: Reason::WriteRefused, message, is_stalled: false, secret: None, vault: None }
}

/// Writes the status if it says something new. `created`: the Secret that was just made for this object.
async fn tell(
    context: &Context,
    key: &Key,
    object: &SealedSecret,
    verdict: &Verdict,
    created: Option<&Facts>,
) -> Result<Look, WriteError> {
    let status = status::next(object, verdict, Timestamp::now());
    let wrote = object.status.as_ref() != Some(&status);
    if wrote {
        // Untyped, because an object whose spec makes no sense gets its status too.
        let kind = ApiResource::erase::<SealedSecret>(&());
        let api: Api<DynamicObject> = Api::namespaced_with(context.client.clone(), &key.namespace, &kind);
        let patch = status::patch_of(object, &status);
        context.store().intend_status(key, &status);
        match context.writer.patch_status(&api, &object.name_any(), &patch).await {
            Ok(patched) => context.store().answered_object(read::stripped(patched)),
            Err(WriteError::Gone) => {
                if let Some(facts) = created {
                    // Nobody is left who would delete it.
                    let orphan = Key::new(&key.namespace, object.target_name());
                    let facts = Facts { resource_version: String::new(), ..facts.clone() };
                    context.writer.delete_secret(&orphan, &facts).await?;
                }
                return Ok(Next::Nothing.into());
            }
            Err(error) => return Err(error),
        }
        if is_transition(object, verdict) {
            context.report.transition(object, verdict);
        }
        context.report.vault_transition(object, &status);
    }
    context.report.outcome(key, verdict.reason);
    let next = match verdict {
        Verdict { secret: Some(_), .. } => Next::Settled,
        Verdict { is_stalled: true, .. } => Next::Stalled(Duration::ZERO),
        _ => Next::Retry(Duration::ZERO),
    };
    Ok(Look { next, wrote })
}

/// Whether `Ready` changes its status or its reason.
fn is_transition(object: &SealedSecret, verdict: &Verdict) -> bool {
    let conditions = object.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    condition::find(conditions, condition::READY).is_none_or(|ready| ready.reason != verdict.reason.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_told_as_the_controller_s_own_fault() {
        let panicked = aside(|| Vec::<u8>::new()[0]).await.unwrap_err();
        assert_eq!(lasting(&panicked).map(|(reason, _)| reason), Some(Reason::InternalError));
    }

    #[test]
    fn a_delay_that_was_asked_for_does_not_change_what_the_outcome_is() {
        let delay = Duration::from_secs(30);
        for (next, expected) in [
            (Next::Stalled(Duration::ZERO), Next::Stalled(delay)),
            (Next::Retry(Duration::ZERO), Next::Retry(delay)),
            (Next::Nothing, Next::Nothing),
        ] {
            assert_eq!(next.not_before(delay), expected);
        }
    }
}
