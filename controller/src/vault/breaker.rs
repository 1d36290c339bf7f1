//! How much is asked of one server, and when nothing is: pure, the caller brings the time and the dice.
//!
//! ```text
//! request failed -> Breaker: Closed -> Probing -> Open, and a probe now and then -> Closed -> dependants wake
//! 429            -> Pace: half the rate, and back to all of it by and by
//! ```
//!
//! A failed request alone proves nothing about the server: one path may hang, or be answered with 500. So the failure
//! asks for a probe, which is cheap and needs no login; only if that fails too does the breaker open. While it is not
//! closed nothing but probes is sent.

use std::time::{Duration, Instant};

/// The first wait after a failed probe, and the shortest of all.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest wait between two probes.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// A server that has just answered a probe is not asked again at once: a single path may be what fails, all the time.
const TRUSTED: Duration = Duration::from_secs(5);
/// Dependants are woken within this time, however many they are.
const LONGEST_WAKE: Duration = Duration::from_secs(60);
/// How long a halved rate stays, before it is doubled again.
const SLOW_FOR: Duration = Duration::from_secs(30);
/// The rate is never less than its 16th part.
const MOST_HALVINGS: u32 = 4;

/// Where a breaker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stand {
    /// Requests pass.
    Closed,
    /// The first probe is under way.
    Probing,
    /// No request passes, and the next probe begins then.
    Open {
        /// When the next probe begins.
        until: Instant,
    },
}

/// Whether requests may pass to one server.
#[derive(Clone, Debug)]
pub struct Breaker {
    stand: Stand,
    /// Probes that failed in a row.
    failures: u32,
    /// When a probe was last answered.
    answered: Option<Instant>,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { stand: Stand::Closed, failures: 0, answered: None }
    }
}

impl Breaker {
    /// Where it stands.
    pub fn stand(&self) -> Stand {
        self.stand
    }

    /// Whether requests pass.
    pub fn is_closed(&self) -> bool {
        self.stand == Stand::Closed
    }

    /// A request has failed in a way that the server as a whole may be to blame for. Gives true if the caller has to
    /// probe it now: only the first of many failures asks for that, and none just after a probe that was answered.
    pub fn failed(&mut self, now: Instant) -> bool {
        let is_trusted = self.answered.is_some_and(|at| now.saturating_duration_since(at) < TRUSTED);
        let is_first = self.is_closed() && !is_trusted;
        if is_first {
            self.stand = Stand::Probing;
        }
        is_first
    }

    /// A probe was answered: requests pass again. Gives whether they had been held back for longer than one probe.
    pub fn revived(&mut self, now: Instant) -> bool {
        let before = std::mem::replace(self, Self { answered: Some(now), ..Self::default() });
        before.failures > 0
    }

    /// A probe has failed as well. Gives the time of the next.
    ///
    /// `dice` is a random number in 0..1, for full jitter: many controllers must not come back at once.
    pub fn probe_failed(&mut self, now: Instant, dice: f64) -> Instant {
        let ceiling = LONGEST_WAIT.min(FIRST_WAIT * 2u32.saturating_pow(self.failures.min(16)));
        self.failures = self.failures.saturating_add(1);
        let until = now + FIRST_WAIT + (ceiling - FIRST_WAIT).mul_f64(dice.clamp(0.0, 1.0));
        self.stand = Stand::Open { until };
        until
    }
}

/// Over which time the dependants of a store that is back are woken, so that they do not bring it down again.
pub fn wake_over(dependants: usize, per_second: u32) -> Duration {
    let dependants = u32::try_from(dependants).unwrap_or(u32::MAX);
    LONGEST_WAKE.min(Duration::from_secs(dependants.into()) / per_second.max(1))
}

/// When the next request may be sent.
#[derive(Clone, Debug)]
pub struct Pace {
    per_second: u32,
    halvings: u32,
    /// When the last halving ends.
    slow_until: Option<Instant>,
    /// The server itself said when.
    not_before: Option<Instant>,
    next: Option<Instant>,
}

impl Pace {
    /// So many requests a second, and a burst of half a second's.
    pub fn new(per_second: u32) -> Self {
        Self { per_second: per_second.max(1), halvings: 0, slow_until: None, not_before: None, next: None }
    }

    /// Books a place for one request: it may be sent then.
    pub fn book(&mut self, now: Instant) -> Instant {
        self.recover(now);
        let gap = Duration::from_secs(1) / self.per_second * 2u32.pow(self.halvings);
        // Who has not asked for a while may send a burst; nobody saves more than half a second.
        let burst = Duration::from_millis(500);
        let earliest = now.checked_sub(burst).unwrap_or(now);
        let place = self.next.unwrap_or(earliest).max(earliest);
        self.next = Some(place + gap);
        let place = place.max(now);
        self.not_before.map_or(place, |not_before| place.max(not_before))
    }

    /// The server asks to slow down, and may have said for how long to leave it alone.
    pub fn slow_down(&mut self, now: Instant, retry_after: Option<Duration>) {
        self.recover(now);
        // Answers to requests that were under way at the same time are one complaint.
        if self.slow_until.is_none_or(|until| now + SLOW_FOR > until + Duration::from_secs(1)) {
            self.halvings = (self.halvings + 1).min(MOST_HALVINGS);
        }
        self.slow_until = Some(now + SLOW_FOR);
        if let Some(wait) = retry_after {
            let wait = now + wait.min(LONGEST_WAIT);
            self.not_before = Some(self.not_before.map_or(wait, |before| before.max(wait)));
        }
    }

    fn recover(&mut self, now: Instant) {
        while let Some(until) = self.slow_until.filter(|until| *until <= now) {
            self.halvings = self.halvings.saturating_sub(1);
            self.slow_until = (self.halvings > 0).then_some(until + SLOW_FOR);
        }
        self.not_before = self.not_before.filter(|not_before| *not_before > now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn one_failure_asks_for_one_probe_and_closes_nothing_for_good() {
        let (now, mut breaker) = (Instant::now(), Breaker::default());
        assert!(breaker.is_closed());
        assert!(breaker.failed(now), "the first failure asks for a probe");
        assert!(!breaker.failed(now), "the others wait for it");
        assert!(!breaker.is_closed());
        assert!(!breaker.revived(now), "nothing was held back for longer than the probe");
        assert!(breaker.is_closed() && !breaker.failed(now), "it has just answered");
        assert!(breaker.failed(now + TRUSTED));
    }

    #[test]
    fn probes_come_ever_more_slowly_and_never_more_than_a_minute_apart() {
        let now = Instant::now();
        for (dice, waits) in [(1.0, [1, 2, 4, 8, 16, 32, 60, 60, 60]), (0.0, [1; 9])] {
            let mut breaker = Breaker::default();
            assert!(breaker.failed(now));
            for wait in waits {
                assert_eq!(breaker.probe_failed(now, dice), now + seconds(wait));
                assert_eq!(breaker.stand(), Stand::Open { until: now + seconds(wait) });
                assert!(!breaker.failed(now), "an open breaker asks for no further probe");
            }
            assert!(breaker.revived(now) && breaker.is_closed());
        }
    }

    #[test]
    fn after_a_recovery_the_waits_begin_anew() {
        let now = Instant::now();
        let mut breaker = Breaker::default();
        breaker.failed(now);
        (0..5).for_each(|_| assert!(breaker.probe_failed(now, 1.0) > now));
        assert!(breaker.revived(now));
        breaker.failed(now + TRUSTED);
        assert_eq!(breaker.probe_failed(now, 1.0), now + seconds(1));
    }

    #[test]
    fn many_dependants_are_woken_at_the_rate_of_the_store_within_a_minute() {
        for (dependants, per_second, over) in [(0, 20, 0), (20, 20, 1), (200, 20, 10), (100_000, 20, 60), (5, 0, 5)] {
            assert_eq!(wake_over(dependants, per_second), seconds(over));
        }
    }

    /// How many of `tries` requests may be sent within the first second.
    fn within_a_second(pace: &mut Pace, now: Instant) -> usize {
        (0..1000).map(|_| pace.book(now)).filter(|at| *at < now + seconds(1)).count()
    }

    #[test]
    fn the_rate_is_kept_with_a_small_burst() {
        let now = Instant::now() + seconds(10);
        let mut pace = Pace::new(20);
        assert_eq!(within_a_second(&mut pace, now), 30);
        let mut pace = Pace::new(20);
        assert_eq!((0..10).filter(|_| pace.book(now) == now).count(), 10);
    }

    #[test]
    fn a_complaint_halves_the_rate_and_time_restores_it() {
        let now = Instant::now() + seconds(10);
        let mut pace = Pace::new(20);
        pace.slow_down(now, None);
        pace.slow_down(now, None);
        assert_eq!(within_a_second(&mut pace.clone(), now), 15, "two complaints at once are one");
        pace.slow_down(now + seconds(5), None);
        assert_eq!(within_a_second(&mut pace.clone(), now + seconds(5)), 8);
        assert_eq!(within_a_second(&mut pace.clone(), now + seconds(36)), 15);
        assert_eq!(within_a_second(&mut pace.clone(), now + seconds(70)), 30);
    }

    #[test]
    fn a_server_that_says_when_is_left_alone_until_then() {
        let now = Instant::now() + seconds(10);
        let mut pace = Pace::new(20);
        pace.slow_down(now, Some(seconds(7)));
        assert_eq!(pace.book(now), now + seconds(7));
        pace.slow_down(now, Some(seconds(86_400)));
        assert!(pace.book(now) <= now + seconds(61), "no server can switch a store off for a day");
        assert_eq!(pace.book(now + seconds(90)), now + seconds(90));
    }
}
