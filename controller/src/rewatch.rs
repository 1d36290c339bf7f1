//! How soon a watch that failed is begun again.
//!
//! kube's own delays grow to a minute, counting the failures of an outage: after half a minute without an API server,
//! a changed SealedSecret waited for another minute and a half. One controller has a handful of watches, so asking
//! every few seconds burdens nobody.

use std::time::{Duration, Instant};

use kube::runtime::utils::Backoff;

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(4);
/// Without a failure for so long, the next one is the first again.
const QUIET: Duration = Duration::from_secs(20);

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
