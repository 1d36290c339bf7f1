//! When an object's Vault part is fetched again: pure, the caller brings the time.
//!
//! ```text
//! first seen -> Course -> succeeded | failed | refused -> next -> a store, a credential, an allowance changed: sooner
//! ```
//!
//! No status says when the last fetch was: that would be a write at every refresh. So after a start an object is due at a
//! time of the clock that interval and uid decide: a restart reads nothing that is fresh, however often it happens, and
//! between the last fetch before it and the first after it there are two intervals at most.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::{Duration, Instant},
};

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::ObjectMeta, jiff::Timestamp};
use seal_crds::{REFRESH_ANNOTATION, sealed_secret::VaultSource};

use super::{Retry, VaultFailure};

/// While a store is out nothing is sent to it, so it costs little to look whether a wake-up was missed.
const NET: Duration = Duration::from_secs(5 * 60);
/// Nobody is asked again sooner than this after a failure.
const SHORTEST: Duration = Duration::from_secs(1);
/// What had failed before a restart is fetched again within this time.
const SOON: Duration = Duration::from_secs(30);

/// One version of what somebody wants: another uid, generation or refresh annotation is another wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish(u64);

impl Wish {
    /// The wish that an object is now.
    pub fn of(metadata: &ObjectMeta) -> Self {
        let mut hasher = DefaultHasher::new();
        (&metadata.uid, metadata.generation, refresh_annotation(metadata)).hash(&mut hasher);
        Self(hasher.finish())
    }
}

fn refresh_annotation(metadata: &ObjectMeta) -> Option<&String> {
    metadata.annotations.as_ref()?.get(REFRESH_ANNOTATION)
}

/// The annotation that asks for a fetch now, as the status repeats it: that has a bound, an annotation has none.
pub fn refresh_asked(metadata: &ObjectMeta) -> Option<String> {
    refresh_annotation(metadata).map(|refresh| refresh.chars().take(1024).collect())
}

/// How often an object is fetched.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cadence {
    interval: Option<Duration>,
    stale_after: Option<Duration>,
    /// 0 to 1, the same for an object whenever it is asked: what would fall due together is spread by it.
    share: f64,
}

impl Cadence {
    /// The cadence of the object with this uid.
    pub fn of(source: &VaultSource, uid: &str) -> Self {
        let mut hasher = DefaultHasher::new();
        uid.hash(&mut hasher);
        let share = (hasher.finish() >> 11) as f64 / (1_u64 << 53) as f64;
        Self { interval: source.refresh_interval(), stale_after: source.stale_after(), share }
    }

    /// From one refresh to the next: up to a tenth sooner than the interval says, and never later.
    fn regular(&self) -> Option<Duration> {
        self.interval.map(|interval| interval.mul_f64(1.0 - self.share / 10.0))
    }

    /// Until the next of the times of the clock that are this object's: the first refresh after a start.
    fn by_the_clock(&self, wall: Timestamp) -> Option<Duration> {
        let interval = self.interval?;
        let shifted = wall.as_millisecond().unsigned_abs() as u128 + interval.mul_f64(self.share).as_millis();
        let passed = shifted % interval.as_millis().max(1);
        Some(interval.saturating_sub(Duration::from_millis(u64::try_from(passed).unwrap_or_default())))
    }

    /// Until the last success is too old, if it is not yet.
    fn until_stale(&self, last_success: Option<Timestamp>, wall: Timestamp) -> Option<Duration> {
        let left = self.stale_after?.saturating_sub(age(last_success?, wall));
        (!left.is_zero()).then_some(left)
    }
}

/// What the status of an object says of its Vault part.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Told {
    /// Nothing yet.
    Nothing,
    /// The last fetch succeeded.
    Synced,
    /// The fetches fail, and the first one failed then.
    Failing(Timestamp),
}

/// How the last fetch ended.
#[derive(Clone, Debug)]
enum Ended {
    /// There was none yet in this process.
    Unknown,
    Well,
    /// It gave nothing.
    Failed(VaultFailure),
    /// It gave values of which no Secret can be made.
    Refused,
}

/// What to do about a fetch that somebody wants now.
#[derive(Clone, Debug)]
pub enum Gate {
    /// Fetch.
    Go,
    /// It failed a moment ago, with this; wait.
    Failed(VaultFailure),
    /// It would come to the same as a moment ago; wait.
    Wait,
}

/// Where an object's fetches stand.
#[derive(Clone, Debug)]
pub struct Course {
    wish: Option<Wish>,
    ended: Ended,
    failures: u32,
    /// When the next fetch is due by itself. None: never.
    next: Option<Instant>,
    last_success: Option<Timestamp>,
    /// When the Secret itself was last compared.
    verified: Instant,
    /// When something that a fetch depends on last changed.
    news: Option<Instant>,
}

impl Course {
    /// The course of an object that this process sees for the first time.
    pub fn begun(told: Told, cadence: &Cadence, now: Instant, wall: Timestamp) -> Self {
        let (wait, last_success) = match told {
            Told::Nothing => (Some(Duration::ZERO), None),
            Told::Synced => (cadence.by_the_clock(wall), Some(wall)),
            Told::Failing(since) => (Some(SOON.mul_f64(cadence.share)), Some(since)),
        };
        let next = wait.map(|wait| now + wait);
        Self { wish: None, ended: Ended::Unknown, failures: 0, next, last_success, verified: now, news: None }
    }

    /// A fetch has succeeded, and the Secret is as it says.
    pub fn succeeded(&mut self, wish: Wish, cadence: &Cadence, now: Instant, wall: Timestamp) {
        self.wish = Some(wish);
        self.ended = Ended::Well;
        self.failures = 0;
        self.last_success = Some(wall);
        self.next = cadence.regular().map(|wait| now + wait);
    }

    /// A fetch has failed.
    pub fn failed(&mut self, wish: Wish, failure: &VaultFailure, cadence: &Cadence, now: Instant, wall: Timestamp) {
        if self.wish != Some(wish) {
            self.failures = 0;
        }
        self.wish = Some(wish);
        let wait = match failure.retry {
            Retry::WhenUp => Some(NET.mul_f64(1.0 - cadence.share / 4.0)),
            Retry::Backoff { from, to } => {
                let wait = to.min(from.saturating_mul(2_u32.saturating_pow(self.failures)));
                Some(wait.mul_f64(1.0 - cadence.share / 4.0))
            }
            // A server may say zero.
            Retry::After(wait) => Some(wait.max(SHORTEST).mul_f64(1.0 + cadence.share / 4.0)),
            Retry::Refresh => cadence.regular(),
        };
        self.failures = self.failures.saturating_add(1);
        let until_stale = cadence.until_stale(self.last_success, wall);
        self.next = [wait, until_stale].into_iter().flatten().min().map(|wait| now + wait);
        self.ended = Ended::Failed(failure.clone());
    }

    /// A fetch has succeeded, but no Secret can be made of it.
    pub fn refused(&mut self, wish: Wish, cadence: &Cadence, now: Instant) {
        self.wish = Some(wish);
        self.ended = Ended::Refused;
        self.next = cadence.regular().map(|wait| now + wait);
    }

    /// Something changed that a fetch depends on: it is due then, if not before.
    pub fn wake(&mut self, at: Instant) {
        self.next = Some(self.next.map_or(at, |next| next.min(at)));
    }

    /// Something that a fetch depends on has changed now; a fetch that is under way may not have seen it.
    pub fn heard(&mut self, now: Instant) {
        self.news = Some(now);
    }

    /// A fetch that began then has been made something of. What changed while it was under way is fetched for again.
    pub fn catch_up(&mut self, began: Instant, now: Instant) {
        if self.news.is_some_and(|news| news >= began) {
            self.wake(now);
        }
    }

    /// There is no room for a fetch now: it is due after this, or up to twice this, so that not all come back at once.
    pub fn put_off(&mut self, wait: Duration, cadence: &Cadence, now: Instant) {
        self.next = Some(now + wait.mul_f64(1.0 + cadence.share));
    }

    /// When the next fetch is due by itself.
    pub fn next(&self) -> Option<Instant> {
        self.next
    }

    /// Whether a fetch is due.
    pub fn is_due(&self, now: Instant) -> bool {
        self.next.is_some_and(|next| next <= now)
    }

    /// Whether the last fetch failed, or was of no use.
    pub fn is_failing(&self) -> bool {
        matches!(self.ended, Ended::Failed(_) | Ended::Refused)
    }

    /// Whether a fetch that somebody wants now makes sense.
    pub fn gate(&self, wish: Wish, now: Instant) -> Gate {
        if self.wish != Some(wish) || self.is_due(now) {
            return Gate::Go;
        }
        match &self.ended {
            Ended::Unknown | Ended::Well => Gate::Go,
            Ended::Failed(failure) => Gate::Failed(failure.clone()),
            Ended::Refused => Gate::Wait,
        }
    }

    /// Whether the last success is older than the object allows.
    pub fn is_stale(&self, cadence: &Cadence, wall: Timestamp) -> bool {
        cadence.stale_after.zip(self.last_success).is_some_and(|(limit, last)| age(last, wall) >= limit)
    }

    /// The Secret was compared with what it should be.
    pub fn verified(&mut self, now: Instant) {
        self.verified = now;
    }

    /// Whether the Secret was compared longer ago than this.
    pub fn is_verification_due(&self, every: Option<Duration>, now: Instant) -> bool {
        every.is_some_and(|every| now.saturating_duration_since(self.verified) >= every)
    }
}

fn age(since: Timestamp, now: Timestamp) -> Duration {
    Duration::from_millis(u64::try_from(now.as_millisecond() - since.as_millisecond()).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use seal_crds::condition::VaultReason;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const HOUR: Duration = Duration::from_secs(3600);

    fn cadence(interval: &str, stale_after: &str, uid: &str) -> Cadence {
        let source = format!("{{storeRef: {{name: main}}, refreshInterval: {interval}, staleAfter: {stale_after}}}");
        Cadence::of(&serde_yaml::from_str(&source).unwrap(), uid)
    }

    fn wish(refresh: &str) -> Wish {
        let annotations = [(REFRESH_ANNOTATION.to_owned(), refresh.to_owned())].into();
        Wish::of(&ObjectMeta { annotations: Some(annotations), ..ObjectMeta::default() })
    }

    fn failure(retry: Retry) -> VaultFailure {
        VaultFailure { reason: VaultReason::VaultUnreachable, message: String::new(), retry }
    }

    fn wait(course: &Course, now: Instant) -> Option<Duration> {
        course.next().map(|next| next.saturating_duration_since(now))
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn what_is_fresh_waits_for_its_time_of_the_clock_whenever_the_process_begins() {
        let now = Instant::now();
        let cadence = cadence("1h", "24h", "u1");
        let due = |second: i64| {
            let course = Course::begun(Told::Synced, &cadence, now, at(second));
            second as u64 + wait(&course, now).unwrap().as_secs()
        };
        let first = due(1_000_000);
        assert!((1_000_000..=1_003_600).contains(&first));
        assert_eq!(due(i64::try_from(first).unwrap() - 10), first, "another start moves nothing");
        assert!((first + 3590..=first + 3600).contains(&due(i64::try_from(first).unwrap() + 10)));
        let dues: Vec<_> = (0..200)
            .map(|i| {
                let cadence = super::tests::cadence("1h", "24h", &format!("u{i}"));
                wait(&Course::begun(Told::Synced, &cadence, now, at(1_000_000)), now).unwrap()
            })
            .collect();
        let early = dues.iter().filter(|due| **due < HOUR / 2).count();
        assert!((60..140).contains(&early), "{early} of 200 in the first half");
    }

    #[test]
    fn what_never_was_fetched_is_due_at_once_and_what_failed_soon() {
        let now = Instant::now();
        let cadence = cadence("1h", "24h", "u1");
        assert!(Course::begun(Told::Nothing, &cadence, now, at(0)).is_due(now));
        let failing = Course::begun(Told::Failing(at(0)), &cadence, now, at(50));
        assert!(wait(&failing, now).unwrap() <= SOON);
    }

    #[test]
    fn from_one_fetch_to_the_next_it_is_never_longer_than_the_interval_and_zero_is_never() {
        let now = Instant::now();
        for i in 0..50 {
            let cadence = cadence("10s", "24h", &format!("u{i}"));
            let mut course = Course::begun(Told::Nothing, &cadence, now, at(0));
            course.succeeded(wish(""), &cadence, now, at(0));
            let wait = wait(&course, now).unwrap();
            assert!(wait <= 10 * SECOND && wait >= 9 * SECOND, "{wait:?}");
        }
        let never = cadence("0", "24h", "u1");
        assert_eq!(Course::begun(Told::Synced, &never, now, at(0)).next(), None);
        let mut course = Course::begun(Told::Nothing, &never, now, at(0));
        course.succeeded(wish(""), &never, now, at(0));
        assert_eq!(course.next(), None);
    }

    #[test]
    fn failures_wait_as_they_are_told_and_a_wake_comes_before() {
        let now = Instant::now();
        let cadence = cadence("1h", "0", "u1");
        let mut course = Course::begun(Told::Nothing, &cadence, now, at(0));
        let backoff = failure(Retry::Backoff { from: 30 * SECOND, to: 100 * SECOND });
        for most in [30, 60, 100, 100] {
            course.failed(wish(""), &backoff, &cadence, now, at(0));
            let wait = wait(&course, now).unwrap();
            assert!(wait <= most * SECOND && wait >= most * SECOND * 3 / 4, "{wait:?} of {most}");
        }
        assert!(matches!(course.gate(wish(""), now), Gate::Failed(_)));
        assert!(matches!(course.gate(wish("now"), now), Gate::Go), "somebody asks for it");
        course.failed(wish("now"), &backoff, &cadence, now, at(0));
        assert!(wait(&course, now).unwrap() <= 30 * SECOND, "and it begins anew");
        course.failed(wish("now"), &failure(Retry::Refresh), &cadence, now, at(0));
        assert!(wait(&course, now).unwrap() > 50 * 60 * SECOND);
        course.wake(now + SECOND);
        assert_eq!(wait(&course, now), Some(SECOND));
        let mut told_zero = course.clone();
        told_zero.failed(wish("now"), &failure(Retry::After(Duration::ZERO)), &cadence, now, at(0));
        assert!(wait(&told_zero, now).unwrap() >= SECOND);
        assert!(matches!(course.gate(wish("now"), now + SECOND), Gate::Go));
    }

    #[test]
    fn the_moment_of_staleness_is_not_slept_through() {
        let now = Instant::now();
        let cadence = cadence("0", "1h", "u1");
        let mut course = Course::begun(Told::Nothing, &cadence, now, at(0));
        course.succeeded(wish(""), &cadence, now, at(1000));
        course.failed(wish(""), &failure(Retry::Refresh), &cadence, now, at(2000));
        assert_eq!(wait(&course, now), Some(2600 * SECOND));
        assert!(!course.is_stale(&cadence, at(4599)) && course.is_stale(&cadence, at(4600)));
        course.failed(wish(""), &failure(Retry::Refresh), &cadence, now, at(4600));
        assert_eq!(course.next(), None, "it is stale already");
        let restarted = Course::begun(Told::Failing(at(2000)), &cadence, now, at(9000));
        assert!(restarted.is_stale(&cadence, at(9000)));
    }

    #[test]
    fn what_changed_while_a_fetch_was_under_way_is_fetched_for_again() {
        let now = Instant::now();
        let cadence = cadence("1h", "24h", "u1");
        for (news, is_due) in [(2, true), (0, false)] {
            let mut course = Course::begun(Told::Nothing, &cadence, now, at(0));
            course.heard(now + news * SECOND);
            course.failed(wish(""), &failure(Retry::Refresh), &cadence, now + 3 * SECOND, at(3));
            course.catch_up(now + SECOND, now + 3 * SECOND);
            assert_eq!(course.is_due(now + 3 * SECOND), is_due);
        }
    }

    #[test]
    fn what_cannot_become_a_secret_is_not_fetched_again_and_again() {
        let now = Instant::now();
        let cadence = cadence("1h", "24h", "u1");
        let mut course = Course::begun(Told::Nothing, &cadence, now, at(0));
        course.refused(wish(""), &cadence, now);
        assert!(matches!(course.gate(wish(""), now), Gate::Wait));
        assert!(matches!(course.gate(wish("now"), now), Gate::Go));
    }
}
