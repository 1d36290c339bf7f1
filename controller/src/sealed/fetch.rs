//! The part that Vault has in a look at an object.
//!
//! ```text
//! settled, and no fetch due -> nothing
//! Decision::Fetch -> errand -> (its answer brings the object back) -> Secret and status, or Decision::Withhold -> status
//! ```
//!
//! An answer that says what the status says already costs no request at all.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use k8s_openapi::jiff::Timestamp;
use kube::ResourceExt;
use seal_crds::{SealedSecret, condition::SealedSecretReason as Reason};

use super::{Context, Look, Next, tell};
use crate::{
    apply::WriteError,
    keys::KeyIndex,
    status,
    store::Key,
    vault::{
        Retry, VaultFailure,
        course::{Gate, Wish},
        errand::{Answer, Errand},
        link::StoreId,
        path::Plan,
    },
};

/// Refusals that the same values would meet again.
const OF_VALUES: [Reason; 4] = [Reason::InvalidSpec, Reason::TemplateFailed, Reason::TooLarge, Reason::OutputRefused];

/// A fetch that was refused for an outage that is over is made again after this.
const AGAIN: Duration = Duration::from_secs(1);

/// An errand for which there is no room at its store comes again after this.
const CROWDED: Duration = Duration::from_secs(5);

/// What a look begins with.
pub enum Start {
    /// It ends here.
    Over(Next),
    /// It goes on, with what Vault gave.
    With(Option<Arc<Answer>>),
}

/// Whether anything is to be done, as far as can be told without a request.
pub fn begin(context: &Context, key: &Key, keys: &KeyIndex, verify: bool) -> Start {
    let now = Instant::now();
    let answer = context.errands.answer(key);
    let mut store = context.store();
    let Some(summary) = store.summary(key) else {
        context.errands.forget(key);
        return Start::Over(Next::Nothing);
    };
    let (wants, wish) = (summary.vault.is_some(), summary.vault.as_ref().map(|wanted| wanted.wish));
    let is_settled = store.is_settled(key, keys);
    if !wants {
        return if is_settled && !verify { Start::Over(Next::Settled) } else { Start::With(None) };
    }
    // One that was for an older version of the object is worth nothing.
    let answer = answer.filter(|answer| Some(answer.wish) == wish);
    if !is_settled {
        return Start::With(answer);
    }
    let verify_every = context.verify_every;
    let Some((wanted, course)) = store.course(key, now) else { return Start::With(answer) };
    let cadence = wanted.cadence;
    let Some(answer) = answer else {
        return if course.is_due(now) { Start::With(None) } else { Start::Over(Next::Settled) };
    };
    if course.is_verification_due(verify_every, now) || !store.is_old_news(key, &answer) {
        return Start::With(Some(answer));
    }
    if let Some((_, course)) = store.course(key, now) {
        course.succeeded(answer.wish, &cadence, now, Timestamp::now());
        course.catch_up(answer.began, now);
    }
    // Nobody needs it whole before the next refresh.
    store.take_full(key);
    drop(store);
    context.errands.done(key, &answer);
    Start::Over(Next::Settled)
}

/// Nothing but Vault stands between the object and its Secret: asks it, unless it has just been asked.
pub async fn send(context: &Context, key: &Key, object: Arc<SealedSecret>, plan: Plan) -> Result<Look, WriteError> {
    let Some(source) = &object.spec.vault else { return Ok(Next::Nothing.into()) };
    let gate = context.store().gate(key, Instant::now());
    match gate {
        Gate::Go => {}
        Gate::Failed(failure) => return withhold(context, key, &object, &failure).await,
        Gate::Wait => return Ok(Next::Later.into()),
    }
    let errand = Errand {
        wish: Wish::of(&object.metadata),
        uid: object.uid().unwrap_or_default(),
        store: StoreId::referred_to(&source.store_ref, &key.namespace),
        plan,
    };
    let is_sent = context.errands.send(key, errand);
    let mut store = context.store();
    store.keep_full(key, object);
    if is_sent {
        return Ok(Next::Fetching.into());
    }
    let now = Instant::now();
    if let Some((wanted, course)) = store.course(key, now) {
        let cadence = wanted.cadence;
        course.put_off(CROWDED, &cadence, now);
    }
    Ok(Next::Later.into())
}

/// Vault gave nothing: the Secret stays, and the status says why.
pub async fn withhold(
    context: &Context,
    key: &Key,
    object: &SealedSecret,
    failure: &VaultFailure,
) -> Result<Look, WriteError> {
    let verdict = {
        let keys = context.keys.borrow().clone();
        let mut store = context.store();
        let is_right = store.is_right(key, &keys);
        let course = store.course(key, Instant::now());
        let is_stale = course.is_some_and(|(wanted, course)| course.is_stale(&wanted.cadence, Timestamp::now()));
        status::withheld(object, failure, is_right, is_stale)
    };
    let look = tell(context, key, object, &verdict, None).await?;
    Ok(match look.next {
        Next::Nothing => look,
        _ => Look { next: Next::Later, ..look },
    })
}

/// A look has made something of an answer: the next fetch is planned by it.
pub fn conclude(context: &Context, key: &Key, answer: Option<&Arc<Answer>>, next: Next) {
    let Some(answer) = answer else { return };
    match next {
        // Nothing was made of it yet.
        Next::Retry(_) | Next::Fetching | Next::Fault => return,
        Next::Settled | Next::Later | Next::Stalled(_) | Next::Nothing => {}
    }
    let (now, wall) = (Instant::now(), Timestamp::now());
    let mut store = context.store();
    let is_about_values = store.summary(key).is_some_and(|summary| OF_VALUES.iter().any(|why| summary.is_told(*why)));
    if let Some((wanted, course)) = store.course(key, now) {
        let cadence = wanted.cadence;
        match (&answer.result, next) {
            (Ok(_), Next::Settled) => {
                course.succeeded(answer.wish, &cadence, now, wall);
                course.verified(now);
            }
            (Ok(_), _) if is_about_values => course.refused(answer.wish, &cadence, now),
            // Whatever stands in the way may be gone any moment, and then nobody wants to wait for the next refresh.
            (Ok(_), _) => {}
            (Err(failure), _) => {
                let id = wanted.store.clone();
                course.failed(answer.wish, failure, &cadence, now, wall);
                // The store may have come back while this was told, and would not come back for it again.
                if failure.retry == Retry::WhenUp && context.errands.may_serve(&id) {
                    course.wake(now + AGAIN);
                }
            }
        }
        course.catch_up(answer.began, now);
    }
    context.errands.done(key, answer);
}

/// Whether an object wants anything of Vault, and when it is to be looked at again for the sake of that.
pub fn next_look(context: &Context, key: &Key) -> (bool, Option<Instant>) {
    let now = Instant::now();
    let mut store = context.store();
    let course = store.course(key, now);
    (course.is_some(), course.and_then(|(_, course)| course.next()))
}
