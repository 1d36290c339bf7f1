//! Owns the token bucket: how often something may happen, with a burst. Pure: the caller brings the time.

use std::time::Instant;

/// Holds up to `burst` tokens and gains `rate` of them a second.
#[derive(Debug, Clone)]
pub struct TokenBucket {
    burst: f64,
    rate: f64,
    tokens: f64,
    seen: Option<Instant>,
}

impl TokenBucket {
    /// A full one.
    pub fn new(burst: u32, rate: f64) -> Self {
        let burst = f64::from(burst);
        Self { burst, rate, tokens: burst, seen: None }
    }

    /// Takes a token, if there is one at `now`.
    pub fn take(&mut self, now: Instant) -> bool {
        let since = self.seen.map_or(0.0, |seen| now.saturating_duration_since(seen).as_secs_f64());
        self.seen = Some(now);
        self.tokens = (self.tokens + since * self.rate).min(self.burst);
        let has_one = self.tokens >= 1.0;
        if has_one {
            self.tokens -= 1.0;
        }
        has_one
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_passes_and_then_only_the_rate() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(3, 2.0);
        assert_eq!((0..5).filter(|_| bucket.take(start)).count(), 3);
        assert!(!bucket.take(start + Duration::from_millis(400)));
        assert!(bucket.take(start + Duration::from_millis(500)));
        assert!(!bucket.take(start + Duration::from_millis(600)));
    }

    #[test]
    fn a_long_rest_saves_no_more_than_a_burst() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(3, 2.0);
        assert!(bucket.take(start));
        let later = start + Duration::from_secs(3600);
        assert_eq!((0..5).filter(|_| bucket.take(later)).count(), 3);
    }
}
