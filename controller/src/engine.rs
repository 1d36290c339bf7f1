//! Takes objects out of the queue and looks at them, many at a time, while this replica leads.
//!
//! ```text
//! Wake -> Queue -> run -> sealed::reconcile -> Next -> Queue
//! ```
//!
//! A follower keeps its store warm and its queue empty; whoever begins to lead looks at everything once, and of that
//! the settled costs nothing.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures::FutureExt;
use tokio::{
    sync::{Notify, Semaphore, watch},
    task::JoinSet,
};
use tracing::{debug, info};

use crate::{
    queue::{Lane, Limits, Outcome, Queue, Run},
    sealed::{self, Context, Look, Next, fetch},
    store::{Cause, Key, Wake},
};

/// No settled object is verified so soon after a start: a cluster that comes up has other worries.
const QUIET_START: Duration = Duration::from_secs(600);
/// Bytes of objects that are worked on at one time. Each is in memory several times over: read, opened, rendered, sent.
const IN_HAND: usize = 12 * 1024 * 1024;
const KIB: usize = 1024;
/// How long work that is under way may take once the process is to end.
const DRAIN: Duration = Duration::from_secs(20);

/// While there is work here, which time it is, counted from 1.
pub type Term = Option<u64>;

/// The loop.
#[derive(Clone)]
pub struct Engine {
    context: Context,
    queue: Arc<Mutex<Queue<Key>>>,
    woken: Arc<Notify>,
    /// A permit for each KiB that may be worked on.
    in_hand: Arc<Semaphore>,
    /// Whether there is anything to be done here at all (leading, caches synced, keys loaded), and for which time it is.
    term: watch::Receiver<Term>,
    verify_every: Option<Duration>,
}

impl Engine {
    /// A loop with an empty queue.
    pub fn new(context: Context, workers: usize, term: watch::Receiver<Term>) -> Self {
        let seed = std::process::id().into();
        let limits = Limits { slots: workers, kept_for_fresh: workers / 4, seed, ..Limits::default() };
        let queue = Arc::new(Mutex::new(Queue::new(limits)));
        let in_hand = Arc::new(Semaphore::new(IN_HAND / KIB));
        let verify_every = context.verify_every;
        Self { context, queue, woken: Arc::default(), in_hand, term, verify_every }
    }

    fn queue(&self) -> MutexGuard<'_, Queue<Key>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for a look at these objects.
    pub fn wake(&self, wake: Wake) {
        if wake.is_empty() || self.term.borrow().is_none() {
            return;
        }
        let now = Instant::now();
        let mut queue = self.queue();
        for (key, cause) in wake {
            queue.add(key, lane(cause), now);
        }
        drop(queue);
        self.woken.notify_one();
    }

    /// Asks for looks at these objects, each at its time.
    pub fn wake_at(&self, looks: Vec<(Key, Instant)>) {
        if looks.is_empty() || self.term.borrow().is_none() {
            return;
        }
        let mut queue = self.queue();
        for (key, due) in looks {
            queue.add(key, Lane::Drift, due);
        }
        drop(queue);
        self.woken.notify_one();
    }

    /// Asks for a look at an object of which Vault has been asked.
    pub fn answered(&self, key: Key) {
        let is_awaited = self.context.store().lacks_secret(&key);
        if self.term.borrow().is_some() {
            self.queue().add(key, if is_awaited { Lane::Fresh } else { Lane::Periodic }, Instant::now());
            self.woken.notify_one();
        }
    }

    /// Asks for a look at every object; at the settled ones when their verification, or their next fetch from Vault, is
    /// due.
    fn wake_all(&self) {
        let keys = self.context.keys.borrow().clone();
        let mut store = self.context.store();
        let mut queue = self.queue();
        let now = Instant::now();
        let mut settled = 0;
        // Those of an earlier time tell nothing: another replica has fetched since.
        store.forget_courses();
        let all: Vec<_> = store.keys().cloned().collect();
        for key in &all {
            if store.is_settled(key, &keys) {
                settled += 1;
                if store.summary(key).is_some_and(|summary| summary.vault.is_some()) {
                    if let Some(due) = store.next_fetch(key, now) {
                        queue.add(key.clone(), Lane::Periodic, due);
                    }
                } else if let Some(period) = self.verify_every {
                    let due = now + queue.spread(key, QUIET_START.min(period / 2), period);
                    queue.add(key.clone(), Lane::Periodic, due);
                }
            } else {
                // What failed the last time goes behind what may only be new.
                let lane = if store.is_failing(key) { Lane::Retry } else { Lane::Drift };
                queue.add(key.clone(), lane, now);
            }
        }
        info!(objects = store.len(), settled, "at work");
    }

    /// Works until `stop` says so; then finishes what is under way.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        let mut terms = self.term.clone();
        let mut runs = JoinSet::new();
        let mut last = None;
        while !*stop.borrow_and_update() {
            let term = *terms.borrow_and_update();
            // An end may go unseen when the next beginning follows at once; what was not heard in between is asked for.
            if term != last {
                match term {
                    Some(_) => self.wake_all(),
                    None => {
                        info!("not at work");
                        self.queue().clear();
                        self.context.errands.clear();
                    }
                }
            }
            last = term;
            let mut next_due = None;
            if term.is_some() {
                let mut queue = self.queue();
                while let Some(run) = queue.take(Instant::now()) {
                    runs.spawn(self.clone().work(run));
                }
                next_due = queue.next_due();
                self.context.report.queue(&queue);
            }
            let due = async {
                match next_due {
                    Some(due) => tokio::time::sleep_until(due.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.woken.notified() => {}
                () = due => {}
                Some(_) = runs.join_next() => while runs.try_join_next().is_some() {},
                Ok(()) = terms.changed() => {}
                _ = stop.changed() => {}
            }
        }
        let drained = async { while runs.join_next().await.is_some() {} };
        if tokio::time::timeout(DRAIN, drained).await.is_err() {
            info!("ending with work under way");
        }
    }

    async fn work(self, run: Run<Key>) {
        let size = self.context.store().summary(&run.key).map_or(0, |summary| summary.size);
        let _in_hand = self.in_hand.acquire_many(permits(size)).await;
        let started = Instant::now();
        let verify = run.lane == Lane::Periodic;
        let look = guarded(sealed::reconcile(&self.context, &run.key, verify, run.attempt)).await;
        let Look { next, wrote } = look.unwrap_or_else(|| Next::Fault.into());
        let now = Instant::now();
        debug!(object = %run.key, lane = ?run.lane, attempt = run.attempt, took = ?(now - started), next = ?next, "looked");
        self.context.report.look(&run.key, next, wrote, now - started);
        let (wants, next_fetch) = fetch::next_look(&self.context, &run.key);
        let mut queue = self.queue();
        let outcome = match next {
            // What comes from Vault is verified when it is fetched.
            Next::Settled | Next::Later if wants => Outcome::Good { again: next_fetch },
            Next::Settled | Next::Later => Outcome::Good {
                again: self.verify_every.map(|period| now + queue.spread(&run.key, period / 2, period * 3 / 2)),
            },
            Next::Nothing | Next::Fetching => Outcome::Good { again: None },
            Next::Retry(at_least) | Next::Stalled(at_least) => Outcome::Retry { at_least },
            Next::Fault => Outcome::Retry { at_least: Duration::ZERO },
        };
        queue.done(&run.key, outcome, now);
        drop(queue);
        self.woken.notify_one();
    }
}

/// What an object of this size takes of [`IN_HAND`]. The largest must not wait for ever.
fn permits(size: usize) -> u32 {
    u32::try_from((size.min(IN_HAND) / KIB).max(1)).unwrap_or(1)
}

/// The outcome of a look, or none if it panicked: a fault costs the one object its backoff, and not its slot for ever.
async fn guarded<T>(look: impl Future<Output = T>) -> Option<T> {
    AssertUnwindSafe(look).catch_unwind().await.ok()
}

fn lane(cause: Cause) -> Lane {
    match cause {
        Cause::Fresh => Lane::Fresh,
        Cause::Drift => Lane::Drift,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_object_is_too_large_to_get_its_turn() {
        let all = u32::try_from(IN_HAND / KIB).unwrap();
        for (size, expected) in [(0, 1), (KIB, 1), (IN_HAND, all), (usize::MAX, all)] {
            assert_eq!(permits(size), expected, "{size}");
        }
    }

    #[tokio::test]
    async fn a_look_that_panics_ends_like_any_other() {
        assert_eq!(guarded(async { 7 }).await, Some(7));
        let fault = async {
            tokio::task::yield_now().await;
            Vec::<u8>::new()[0]
        };
        assert_eq!(guarded(fault).await, None);
    }
}
