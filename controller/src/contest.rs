//! Somebody who keeps changing a Secret back: how often, and how long the next repair waits for that.
//!
//! repairs, with their times -> [`Contest`] -> who is named, and until when nothing is repaired. Pure.

use std::time::{Duration, Instant};

/// After so many repairs in a row the next one is put off.
const PATIENCE: u32 = 3;
const FORGOTTEN: Duration = Duration::from_secs(600);
const LONGEST: Duration = Duration::from_secs(300);

/// What is known of a Secret that somebody changes back.
#[derive(Clone, Debug)]
pub struct Contest {
    manager: String,
    repairs: u32,
    last: Instant,
}

impl Contest {
    /// After the repair of a change by `manager`; `before`: after the one before it.
    pub fn repaired(before: Option<&Self>, manager: &str, now: Instant) -> Self {
        let repairs = match before {
            // Whoever it was: two who take turns are a fight as well.
            Some(before) if now.duration_since(before.last) < FORGOTTEN => before.repairs + 1,
            _ => 1,
        };
        Self { manager: manager.to_owned(), repairs, last: now }
    }

    /// Who changed it last, and how much longer its repair is put off; none if it is not.
    pub fn wait(&self, now: Instant) -> Option<(String, Duration)> {
        let wait = (self.last + self.patience()?).checked_duration_since(now)?;
        (!wait.is_zero()).then(|| (self.manager.clone(), wait))
    }

    /// How long after the last repair the next one waits.
    fn patience(&self) -> Option<Duration> {
        let doublings = self.repairs.checked_sub(PATIENCE)?;
        Some(Duration::from_secs(1 << doublings.min(16)).min(LONGEST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repairs_are_put_off_ever_longer_while_somebody_goes_on_whatever_their_name() {
        let wait = |contest: &Contest, now| contest.wait(now).map(|(_, wait)| wait.as_secs());
        let mut now = Instant::now();
        let mut contest = Contest::repaired(None, "edit", now);
        for expected in [None, Some(1), Some(2), Some(4)] {
            now += Duration::from_secs(5);
            contest = Contest::repaired(Some(&contest), "edit", now);
            assert_eq!(wait(&contest, now), expected);
        }
        contest = Contest::repaired(Some(&contest), "another", now);
        assert_eq!(contest.wait(now), Some(("another".into(), Duration::from_secs(8))), "two who take turns fight too");
        for _ in 0..40 {
            contest = Contest::repaired(Some(&contest), "edit", now);
        }
        assert_eq!(wait(&contest, now), Some(300));
        let later = now + FORGOTTEN;
        assert_eq!(wait(&Contest::repaired(Some(&contest), "edit", later), later), None);
    }
}
