//! Watches that go on for ever: how their first list comes, and how soon one that failed is begun again.
//!
//! kube's own delays grow to a minute, counting the failures of an outage: after half a minute without an API server,
//! a changed SealedSecret waited for another minute and a half. One controller has a handful of watches, so asking
//! every few seconds burdens nobody.

use std::{
    collections::HashSet,
    fmt::Debug,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{
    Stream, StreamExt,
    stream::{self, BoxStream},
};
use kube::{
    Api, Resource,
    runtime::{WatchStreamExt, utils::Backoff, watcher},
};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::{
    error::ApiError,
    metrics::Metrics,
    realm::{Realm, Region},
};

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(4);
/// Without a failure for so long, the next one is the first again.
const QUIET: Duration = Duration::from_secs(20);

/// A watch whose first list is streamed, or comes in pages where the API server cannot do that.
///
/// A page is in memory as a whole, and anybody's object may have 1.5 MB: pages of 250 took 700 MB at a start. Small
/// pages take a request each, and ten thousand objects four times as long as one list. A stream has neither fault. It
/// may begin with an older state than a list would, which costs nothing here: every write is guarded.
fn streamed<K>(api: Api<K>, config: watcher::Config) -> impl Stream<Item = watcher::Result<watcher::Event<K>>>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let stream = watcher(api.clone(), config.clone().streaming_lists()).backoff(Soon::default()).boxed();
    let pages = move || watcher(api, config.page_size(32)).backoff(Soon::default()).boxed();
    stream::unfold((stream, Some(pages)), |(mut stream, mut pages)| async move {
        let event = stream.next().await?;
        if event.as_ref().err().is_some_and(is_unknown_to_the_server)
            && let Some(pages) = pages.take()
        {
            stream = pages();
        }
        Some((event, (stream, pages)))
    })
}

/// The API server does not know streamed lists, or has them switched off.
fn is_unknown_to_the_server(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::WatchStartFailed(kube::Error::Api(status)) if matches!(status.code, 400 | 422))
}

type Events<K> = BoxStream<'static, watcher::Result<watcher::Event<K>>>;

/// One kind of objects that is watched, each region of a realm by itself.
pub struct Watch<K> {
    what: &'static str,
    regions: Vec<(Option<Arc<str>>, Events<K>)>,
    metrics: Arc<Metrics>,
}

impl<K: Resource + Clone + Debug + DeserializeOwned + Send + 'static> Watch<K> {
    /// `what` is its name for the log; `api` gives where a region is asked for.
    pub fn new(
        what: &'static str,
        realm: &Realm,
        api: impl Fn(Region<'_>) -> Api<K>,
        config: &watcher::Config,
        metrics: Arc<Metrics>,
    ) -> Self {
        let regions = realm.regions().into_iter().map(|region| {
            let events = streamed(api(region.as_deref()), config.clone()).boxed();
            (region, events)
        });
        Self { what, regions: regions.collect(), metrics }
    }

    /// Feeds it into `see` for ever, with the region that each event is of, and says when everything has been listed.
    ///
    /// A namespace that the API server refuses is not waited for, and asked for again and again: it may not exist yet,
    /// and neither may a right in it. The others are served meanwhile.
    pub async fn follow(self, synced: &watch::Sender<bool>, mut see: impl FnMut(Region<'_>, watcher::Event<K>)) {
        let Self { what, regions, metrics } = self;
        let mut awaited: HashSet<_> = regions.iter().map(|(region, _)| region.clone()).collect();
        let mut refused = HashSet::new();
        let of_region =
            |(region, events): (Option<Arc<str>>, Events<K>)| events.map(move |event| (region.clone(), event)).boxed();
        let mut events = stream::select_all(regions.into_iter().map(of_region));
        while let Some((region, event)) = events.next().await {
            let namespace = region.as_deref();
            let is_answered = match event {
                Ok(event) => {
                    let is_listed = matches!(event, watcher::Event::InitDone);
                    see(namespace, event);
                    if is_listed && refused.remove(&region) {
                        info!(what, namespace, "a namespace that was refused is served");
                    }
                    is_listed
                }
                Err(error) => {
                    let error = cause(error);
                    metrics.api_failed(&error);
                    let is_refused = region.is_some() && matches!(error, ApiError::Status { code: 403, .. });
                    if !is_refused {
                        warn!(what, namespace, cause = error.text(), "a watch failed and is begun again");
                    } else if refused.insert(region.clone()) {
                        warn!(what, namespace, cause = error.text(), "a namespace is refused; it is asked for again");
                    }
                    is_refused
                }
            };
            if is_answered {
                awaited.remove(&region);
                if awaited.is_empty() && !synced.send_replace(true) {
                    info!(what, "listed");
                }
            }
        }
    }
}

/// What a watch failed with, without what it was about.
pub fn cause(error: watcher::Error) -> ApiError {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => error.into(),
        watcher::Error::WatchError(status) => kube::Error::Api(status).into(),
        watcher::Error::NoResourceVersion => ApiError::Malformed,
    }
}

/// Delays of one watch: short at first, never long, and each up to half as long again.
#[derive(Debug, Default)]
pub struct Soon {
    failures: u32,
    last: Option<Instant>,
}

impl Soon {
    /// The delay after a failure at this moment, without its random part.
    fn delay(&mut self, now: Instant) -> Duration {
        if self.last.is_none_or(|last| now.duration_since(last) > QUIET) {
            self.failures = 0;
        }
        let delay = FIRST.saturating_mul(1 << self.failures.min(10)).min(LONGEST);
        self.failures += 1;
        self.last = Some(now);
        delay
    }
}

impl Iterator for Soon {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let delay = self.delay(Instant::now());
        Some(delay + delay.mul_f32(fraction() / 2.0))
    }
}

impl Backoff for Soon {
    /// Nothing: a list that succeeds before each watch that fails would otherwise be repeated without a pause.
    fn reset(&mut self) {}
}

/// 0 to 1, different in each replica: the clock's nanoseconds are good enough to keep replicas apart.
fn fraction() -> f32 {
    let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |now| now.subsec_nanos());
    (nanos % 1000) as f32 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_stay_short_and_are_not_forgotten_by_a_success_in_between() {
        let mut soon = Soon::default();
        let delays: Vec<_> = std::iter::repeat_with(|| {
            soon.reset();
            soon.next()
        })
        .take(20)
        .flatten()
        .collect();
        assert!(delays[0] < FIRST * 2 && delays[19] >= LONGEST, "{delays:?}");
        assert!(delays.iter().all(|delay| *delay <= LONGEST * 3 / 2), "{delays:?}");
    }

    #[test]
    fn after_a_quiet_time_a_failure_is_the_first_again() {
        let mut soon = Soon::default();
        let now = Instant::now();
        assert_eq!((0..10).map(|_| soon.delay(now)).last(), Some(LONGEST));
        assert_eq!(soon.delay(now + QUIET), LONGEST);
        assert_eq!(soon.delay(now + QUIET * 2 + FIRST), FIRST);
    }
}
