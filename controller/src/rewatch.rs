//! Watches that go on for ever: how their first list comes, and how soon one that failed is begun again.
//!
//! kube's own delays grow to a minute, counting the failures of an outage: after half a minute without an API server,
//! a changed SealedSecret waited for another minute and a half. One controller has a handful of watches, so asking
//! every few seconds burdens nobody.

use std::{
    fmt::Debug,
    time::{Duration, Instant},
};

use futures::{Stream, StreamExt, stream};
use kube::{
    Api, Resource,
    runtime::{WatchStreamExt, utils::Backoff, watcher},
};
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::error::ApiError;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(4);
/// Without a failure for so long, the next one is the first again.
const QUIET: Duration = Duration::from_secs(20);

/// A watch whose first list is streamed, or comes in pages where the API server cannot do that.
///
/// A page is in memory as a whole, and anybody's object may have 1.5 MB: pages of 250 took 700 MB at a start. Small
/// pages take a request each, and ten thousand objects four times as long as one list. A stream has neither fault. It
/// may begin with an older state than a list would, which costs nothing here: every write is guarded.
pub fn streamed<K>(api: Api<K>, config: watcher::Config) -> impl Stream<Item = watcher::Result<watcher::Event<K>>>
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

/// Feeds a watch into `see` for ever, and says when its first list is complete.
pub async fn follow<K>(
    stream: impl Stream<Item = watcher::Result<watcher::Event<K>>>,
    what: &'static str,
    mut see: impl FnMut(watcher::Event<K>),
    synced: &watch::Sender<bool>,
) {
    let mut stream = std::pin::pin!(stream);
    while let Some(event) = stream.next().await {
        match event {
            Ok(event) => {
                let is_complete = matches!(event, watcher::Event::InitDone);
                see(event);
                if is_complete && !synced.send_replace(true) {
                    info!(what, "listed");
                }
            }
            Err(error) => warn!(what, cause = watch_error(error), "a watch failed and is begun again"),
        }
    }
}

/// What a watch failed with, without what it was about.
pub fn watch_error(error: watcher::Error) -> String {
    match error {
        watcher::Error::InitialListFailed(error)
        | watcher::Error::WatchStartFailed(error)
        | watcher::Error::WatchFailed(error) => ApiError::from(error).text(),
        watcher::Error::WatchError(status) => format!("{} {}", status.code, status.reason),
        watcher::Error::NoResourceVersion => "no resourceVersion".to_owned(),
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
