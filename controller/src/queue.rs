//! Owns the order of work: which key runs next, and when a key runs again.
//!
//! ```text
//! add(key, lane, due) -> waiting -> take(now) -> running -> done(key, outcome) -> waiting | forgotten
//! ```
//!
//! Pure: time is passed in, nothing waits, nothing is random. One run per key at a time; what arrives
//! meanwhile is remembered and runs afterwards. Every key has its own exponential backoff that never
//! gives up. Lanes share the slots by weight, so fresh objects go ahead of a backlog and no lane
//! starves; some slots are kept for fresh objects, so that slow repairs cannot hold all of them. Within
//! a lane namespaces take turns.

pub(crate) mod line;

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use line::Line;
pub use line::Namespaced;

/// Why a key waits; in the order of urgency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// A new or changed object: somebody waits for it.
    Fresh,
    /// A Secret that may not be as it should.
    Drift,
    /// Another try of what failed: any number of objects may fail for ever, and must not hold up repairs.
    Retry,
    /// Verification that nobody asked for.
    Periodic,
}

impl Lane {
    /// All lanes, the most urgent first.
    pub const ALL: [Self; 4] = [Self::Fresh, Self::Drift, Self::Retry, Self::Periodic];

    /// Its share of the runs while all lanes have work.
    const fn weight(self) -> i64 {
        match self {
            Self::Fresh => 8,
            Self::Drift => 4,
            Self::Retry => 2,
            Self::Periodic => 1,
        }
    }
}

/// The numbers that shape a queue.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How many keys run at the same time.
    pub slots: usize,
    /// How many of the slots only fresh objects may use.
    pub kept_for_fresh: usize,
    /// The delay after the first failure; it doubles with each further one.
    pub first_retry: Duration,
    /// The longest delay between two attempts.
    pub longest_retry: Duration,
    /// Makes the jitter of two replicas differ; the same seed gives the same delays.
    pub seed: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            slots: 24,
            kept_for_fresh: 6,
            first_retry: Duration::from_secs(1),
            longest_retry: Duration::from_secs(300),
            seed: 0,
        }
    }
}

/// A key that is to be worked on now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run<K> {
    /// What to work on.
    pub key: K,
    /// The lane that it waited in.
    pub lane: Lane,
    /// How many runs before this one failed in a row.
    pub attempt: u32,
    /// How long it waited beyond its due time.
    pub waited: Duration,
}

/// What a run came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Done; to be verified again at that time.
    Good {
        /// When the key is due in [`Lane::Periodic`]; `None`: never by itself.
        again: Option<Instant>,
    },
    /// Failed; to be tried again after its backoff, and not before `at_least` has passed.
    Retry {
        /// A delay that somebody else asked for, or zero.
        at_least: Duration,
    },
}

/// Keys waiting in their lanes, and those running.
pub struct Queue<K> {
    limits: Limits,
    entries: HashMap<K, Entry>,
    waiting: [Line<K>; Lane::ALL.len()],
    credit: [i64; Lane::ALL.len()],
    running: usize,
    running_unfresh: usize,
    sequence: u64,
}

struct Entry {
    attempts: u32,
    state: State,
}

#[derive(Clone, Copy)]
enum State {
    Waiting { lane: Lane, due: Instant, sequence: u64 },
    Running { lane: Lane, next: Next },
}

/// What was asked of a key while it runs.
#[derive(Clone, Copy)]
enum Next {
    Nothing,
    Again { lane: Lane, due: Instant },
    Forget,
}

impl<K: Clone + Eq + Ord + Hash + Namespaced> Queue<K> {
    /// An empty queue.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            entries: HashMap::new(),
            waiting: Default::default(),
            credit: [0; Lane::ALL.len()],
            running: 0,
            running_unfresh: 0,
            sequence: 0,
        }
    }

    /// Asks for a run of `key` at `due`. Asked for twice, it runs once: in the more urgent lane, at
    /// the earlier time. A key that is running runs once more afterwards.
    pub fn add(&mut self, key: K, lane: Lane, due: Instant) {
        match self.entries.get_mut(&key) {
            None => self.wait(key, lane, due, 0),
            Some(entry) => match &mut entry.state {
                State::Running { next, .. } => {
                    *next = match *next {
                        Next::Again { lane: other, due: earlier } => {
                            Next::Again { lane: lane.min(other), due: due.min(earlier) }
                        }
                        Next::Nothing | Next::Forget => Next::Again { lane, due },
                    };
                }
                State::Waiting { lane: other, due: earlier, .. } => {
                    let (lane, due) = (lane.min(*other), due.min(*earlier));
                    let attempts = entry.attempts;
                    self.unwait(&key);
                    self.wait(key, lane, due, attempts);
                }
            },
        }
    }

    /// Forgets a key and its failures; a run that is under way is its last.
    pub fn remove(&mut self, key: &K) {
        match self.entries.get_mut(key).map(|entry| &mut entry.state) {
            Some(State::Running { next, .. }) => *next = Next::Forget,
            Some(State::Waiting { .. }) => self.unwait(key),
            None => {}
        }
    }

    /// Forgets all keys and their failures; runs that are under way are their last.
    pub fn clear(&mut self) {
        let keys: Vec<K> = self.entries.keys().cloned().collect();
        keys.iter().for_each(|key| self.remove(key));
    }

    /// The next key to run, if one is due and a slot is free for it.
    pub fn take(&mut self, now: Instant) -> Option<Run<K>> {
        let lane = self.next_lane(now)?;
        let (due, key) = self.waiting[lane as usize].pop(now)?;
        let entry = self.entries.get_mut(&key)?;
        entry.state = State::Running { lane, next: Next::Nothing };
        self.running += 1;
        self.running_unfresh += usize::from(lane != Lane::Fresh);
        Some(Run { key, lane, attempt: entry.attempts, waited: now.saturating_duration_since(due) })
    }

    /// Ends the run of `key`.
    pub fn done(&mut self, key: &K, outcome: Outcome, now: Instant) {
        let Some(&Entry { attempts, state: State::Running { lane, next } }) = self.entries.get(key) else { return };
        self.entries.remove(key);
        self.running -= 1;
        self.running_unfresh -= usize::from(lane != Lane::Fresh);
        let (attempts, planned) = match outcome {
            Outcome::Good { again } => (0, again.map(|due| (Lane::Periodic, due))),
            Outcome::Retry { at_least } => {
                let delay = self.backoff(key, attempts).max(at_least);
                (attempts.saturating_add(1), Some((Lane::Retry, now + delay)))
            }
        };
        let planned = match (next, planned) {
            (Next::Forget, _) => None,
            (Next::Nothing, planned) => planned,
            (Next::Again { lane, due }, None) => Some((lane, due)),
            (Next::Again { lane, due }, Some((other, earlier))) => Some((lane.min(other), due.min(earlier))),
        };
        if let Some((lane, due)) = planned {
            self.wait(key.clone(), lane, due, attempts);
        }
    }

    /// When to call [`Self::take`] next, unless something is added or done before: the earliest due
    /// time in a lane that has a free slot.
    pub fn next_due(&self) -> Option<Instant> {
        Lane::ALL.into_iter().filter(|lane| self.has_slot(*lane)).filter_map(|lane| self.first_due(lane)).min()
    }

    /// How many keys are due in a lane and not running, and for how long the oldest has been.
    pub fn backlog(&self, lane: Lane, now: Instant) -> (usize, Duration) {
        self.waiting[lane as usize].backlog(now)
    }

    /// How many keys are running.
    pub fn running(&self) -> usize {
        self.running
    }

    /// A time between `from` and `to` that is the same for a key whenever it is asked for: spreads
    /// what would otherwise fall due together.
    pub fn spread(&self, key: &K, from: Duration, to: Duration) -> Duration {
        from + to.saturating_sub(from).mul_f64(self.fraction(key, u32::MAX))
    }

    /// The delay after the failure that follows `attempts` others: doubling, and up to a quarter
    /// shorter so that keys that failed together do not return together.
    fn backoff(&self, key: &K, attempts: u32) -> Duration {
        let doubled = self.limits.first_retry.saturating_mul(1_u32.checked_shl(attempts).unwrap_or(u32::MAX));
        let delay = doubled.min(self.limits.longest_retry);
        delay - delay.mul_f64(self.fraction(key, attempts) / 4.0)
    }

    /// A number in `0.0..1.0` that only key, attempt and seed decide.
    fn fraction(&self, key: &K, attempts: u32) -> f64 {
        let mut hasher = DefaultHasher::new();
        (self.limits.seed, attempts, key).hash(&mut hasher);
        (hasher.finish() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn first_due(&self, lane: Lane) -> Option<Instant> {
        self.waiting[lane as usize].first_due()
    }

    fn has_slot(&self, lane: Lane) -> bool {
        let unfresh = self.limits.slots.saturating_sub(self.limits.kept_for_fresh).max(1);
        self.running < self.limits.slots && (lane == Lane::Fresh || self.running_unfresh < unfresh)
    }

    /// Smooth weighted turns: each lane that could run earns its weight, the richest runs and pays
    /// what all earned.
    fn next_lane(&mut self, now: Instant) -> Option<Lane> {
        let ready = Lane::ALL.map(|lane| self.has_slot(lane) && self.first_due(lane).is_some_and(|due| due <= now));
        let mut earned = 0;
        for lane in Lane::ALL {
            if ready[lane as usize] {
                self.credit[lane as usize] += lane.weight();
                earned += lane.weight();
            } else {
                self.credit[lane as usize] = 0;
            }
        }
        let richest = Lane::ALL.into_iter().rev().filter(|lane| ready[*lane as usize]);
        let lane = richest.max_by_key(|lane| self.credit[*lane as usize])?;
        self.credit[lane as usize] -= earned;
        Some(lane)
    }

    fn wait(&mut self, key: K, lane: Lane, due: Instant, attempts: u32) {
        self.sequence += 1;
        self.waiting[lane as usize].push((due, self.sequence), key.clone());
        self.entries.insert(key, Entry { attempts, state: State::Waiting { lane, due, sequence: self.sequence } });
    }

    fn unwait(&mut self, key: &K) {
        if let Some(Entry { state: State::Waiting { lane, due, sequence }, .. }) = self.entries.remove(key) {
            self.waiting[lane as usize].remove((due, sequence), key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    impl Namespaced for &str {
        fn namespace(&self) -> &str {
            self.split_once('/').map_or("", |(namespace, _)| namespace)
        }
    }

    impl Namespaced for u32 {
        fn namespace(&self) -> &str {
            ""
        }
    }

    struct Clock(Instant);

    impl Clock {
        fn at(&self, seconds: f64) -> Instant {
            self.0 + Duration::from_secs_f64(seconds)
        }
    }

    fn queue(slots: usize, kept_for_fresh: usize) -> (Queue<&'static str>, Clock) {
        (Queue::new(Limits { slots, kept_for_fresh, ..Limits::default() }), Clock(Instant::now()))
    }

    fn keys(queue: &mut Queue<&'static str>, now: Instant) -> Vec<&'static str> {
        std::iter::from_fn(|| queue.take(now)).map(|run| run.key).collect()
    }

    const GOOD: Outcome = Outcome::Good { again: None };
    const RETRY: Outcome = Outcome::Retry { at_least: Duration::ZERO };

    #[test]
    fn a_key_runs_when_it_is_due_and_not_before() {
        let (mut queue, clock) = queue(4, 0);
        queue.add("later", Lane::Fresh, clock.at(2.0));
        queue.add("soon", Lane::Fresh, clock.at(1.0));
        assert_eq!(queue.take(clock.at(0.5)), None);
        assert_eq!(queue.next_due(), Some(clock.at(1.0)));
        let run = queue.take(clock.at(1.5)).unwrap();
        assert_eq!((run.key, run.lane, run.attempt, run.waited), ("soon", Lane::Fresh, 0, SECOND / 2));
        assert_eq!(queue.take(clock.at(1.5)), None);
        assert_eq!(queue.next_due(), Some(clock.at(2.0)));
    }

    #[test]
    fn within_a_lane_the_earliest_due_goes_first_and_then_the_first_come() {
        let (mut queue, clock) = queue(9, 0);
        for (key, due) in [("c", 2.0), ("a", 1.0), ("b", 1.0)] {
            queue.add(key, Lane::Drift, clock.at(due));
        }
        assert_eq!(keys(&mut queue, clock.at(3.0)), ["a", "b", "c"]);
    }

    #[test]
    fn one_key_never_runs_twice_at_once() {
        let (mut queue, clock) = queue(4, 0);
        queue.add("k", Lane::Drift, clock.at(0.0));
        assert!(queue.take(clock.at(0.0)).is_some());
        queue.add("k", Lane::Fresh, clock.at(0.0));
        queue.add("k", Lane::Periodic, clock.at(0.0));
        assert_eq!(queue.take(clock.at(9.0)), None);
        queue.done(&"k", GOOD, clock.at(9.0));
        assert_eq!(queue.take(clock.at(9.0)).map(|run| run.lane), Some(Lane::Fresh));
        queue.done(&"k", GOOD, clock.at(9.0));
        assert_eq!(queue.take(clock.at(99.0)), None);
        assert_eq!(queue.running(), 0);
    }

    #[test]
    fn asked_for_twice_it_runs_once_in_the_more_urgent_lane_at_the_earlier_time() {
        let (mut queue, clock) = queue(4, 0);
        queue.add("k", Lane::Periodic, clock.at(1.0));
        queue.add("k", Lane::Fresh, clock.at(5.0));
        assert_eq!(queue.take(clock.at(1.0)).map(|run| (run.key, run.lane)), Some(("k", Lane::Fresh)));
        assert_eq!(queue.take(clock.at(9.0)), None);
    }

    #[test]
    fn fresh_objects_go_ahead_of_a_backlog_and_nobody_starves() {
        let (mut queue, clock) = queue(1, 0);
        let names: Vec<String> = (0..300).map(|n| format!("{n:03}")).collect();
        let mut counted: Queue<&str> = Queue::new(Limits { slots: 1, kept_for_fresh: 0, ..Limits::default() });
        for (n, name) in names.iter().enumerate() {
            counted.add(name, [Lane::Fresh, Lane::Drift, Lane::Periodic][n % 3], clock.at(0.0));
        }
        let mut runs = [0; Lane::ALL.len()];
        for _ in 0..130 {
            let run = counted.take(clock.at(1.0)).unwrap();
            runs[run.lane as usize] += 1;
            counted.done(&run.key, GOOD, clock.at(1.0));
        }
        assert_eq!(runs, [80, 40, 0, 10]);

        // Of a single fresh object and a long backlog, the fresh one is next.
        for key in ["p1", "p2", "p3"] {
            queue.add(key, Lane::Periodic, clock.at(0.0));
        }
        assert_eq!(queue.take(clock.at(1.0)).map(|run| run.key), Some("p1"));
        queue.add("new", Lane::Fresh, clock.at(2.0));
        queue.done(&"p1", GOOD, clock.at(2.0));
        assert_eq!(queue.take(clock.at(2.0)).map(|run| run.key), Some("new"));
    }

    #[test]
    fn any_number_of_failing_objects_does_not_hold_up_repairs() {
        let mut queue: Queue<u32> = Queue::new(Limits { slots: 1, kept_for_fresh: 0, ..Limits::default() });
        let start = Instant::now();
        for key in 0..1000 {
            queue.add(key, Lane::Drift, start);
            queue.take(start);
            queue.done(&key, RETRY, start);
        }
        // All of them are due again, and have waited longer than what needs repair now.
        let now = start + SECOND * 10;
        for key in 1000..1010 {
            queue.add(key, Lane::Drift, now);
        }
        let first: Vec<_> = std::iter::from_fn(|| {
            let run = queue.take(now)?;
            queue.done(&run.key, GOOD, now);
            Some(run.key)
        })
        .take(16)
        .collect();
        assert_eq!(first.iter().filter(|key| **key >= 1000).count(), 10, "{first:?}");
        assert!(first.iter().any(|key| *key < 1000), "they are tried all the same");
    }

    #[test]
    fn slots_are_kept_for_fresh_objects() {
        let (mut queue, clock) = queue(3, 1);
        for key in ["d1", "d2", "d3"] {
            queue.add(key, Lane::Drift, clock.at(0.0));
        }
        assert_eq!(keys(&mut queue, clock.at(0.0)), ["d1", "d2"]);
        assert_eq!(queue.next_due(), None, "only a finished run can help");
        for key in ["f1", "f2"] {
            queue.add(key, Lane::Fresh, clock.at(0.0));
        }
        assert_eq!(keys(&mut queue, clock.at(0.0)), ["f1"]);
        queue.done(&"d1", GOOD, clock.at(0.0));
        assert_eq!(keys(&mut queue, clock.at(0.0)), ["f2"]);
        queue.done(&"f1", GOOD, clock.at(0.0));
        assert_eq!(keys(&mut queue, clock.at(0.0)), ["d3"]);
    }

    #[test]
    fn failures_back_off_exponentially_without_end_and_success_forgets_them() {
        let (mut queue, clock) = queue(1, 0);
        queue.add("k", Lane::Fresh, clock.at(0.0));
        let mut now = clock.at(0.0);
        for attempt in 0..40_u32 {
            let run = queue.take(now).unwrap();
            assert_eq!(run.attempt, attempt);
            queue.done(&"k", RETRY, now);
            let due = queue.next_due().unwrap();
            let full = Duration::from_secs(300.min(1_u64 << attempt.min(20)));
            assert!(due - now <= full && due - now > full * 3 / 4, "{attempt}: {:?}", due - now);
            now = due;
        }
        queue.take(now).unwrap();
        queue.done(&"k", GOOD, now);
        queue.add("k", Lane::Fresh, now);
        assert_eq!(queue.take(now).map(|run| run.attempt), Some(0));
    }

    #[test]
    fn a_requested_delay_is_kept_even_where_the_backoff_is_shorter() {
        let (mut queue, clock) = queue(1, 0);
        queue.add("k", Lane::Fresh, clock.at(0.0));
        queue.take(clock.at(0.0));
        queue.done(&"k", Outcome::Retry { at_least: SECOND * 60 }, clock.at(0.0));
        assert_eq!(queue.next_due(), Some(clock.at(60.0)));
    }

    #[test]
    fn a_change_does_not_wait_for_the_backoff_but_does_not_forget_it_either() {
        let (mut queue, clock) = queue(1, 0);
        queue.add("k", Lane::Fresh, clock.at(0.0));
        queue.take(clock.at(0.0));
        queue.done(&"k", RETRY, clock.at(0.0));
        queue.add("k", Lane::Fresh, clock.at(0.1));
        let run = queue.take(clock.at(0.1)).unwrap();
        assert_eq!((run.lane, run.attempt), (Lane::Fresh, 1));
    }

    #[test]
    fn jitter_differs_between_keys_and_seeds_and_is_the_same_each_time() {
        let delays = |seed| {
            let queue = Queue::new(Limits { seed, ..Limits::default() });
            ["a", "b", "c"].map(|key| queue.backoff(&key, 5))
        };
        let [a, b, c] = delays(1);
        assert!(a != b && b != c && a != c);
        assert_eq!(delays(1), [a, b, c]);
        assert_ne!(delays(2), [a, b, c]);

        let queue: Queue<u32> = Queue::new(Limits::default());
        let spread: Vec<Duration> = (0..1000).map(|key| queue.spread(&key, SECOND, SECOND * 11)).collect();
        let early = spread.iter().filter(|due| **due < SECOND * 6).count();
        assert!(spread.iter().all(|due| (SECOND..SECOND * 11).contains(due)) && (400..600).contains(&early));
    }

    #[test]
    fn good_runs_are_verified_when_they_said() {
        let (mut queue, clock) = queue(1, 0);
        queue.add("k", Lane::Fresh, clock.at(0.0));
        queue.take(clock.at(0.0));
        queue.done(&"k", Outcome::Good { again: Some(clock.at(600.0)) }, clock.at(0.0));
        assert_eq!(queue.backlog(Lane::Periodic, clock.at(1.0)), (0, Duration::ZERO));
        assert_eq!(queue.take(clock.at(600.0)).map(|run| run.lane), Some(Lane::Periodic));
    }

    #[test]
    fn what_arrives_during_a_run_is_not_delayed_by_its_outcome() {
        for outcome in [RETRY, Outcome::Good { again: None }] {
            let (mut queue, clock) = queue(1, 0);
            queue.add("k", Lane::Periodic, clock.at(0.0));
            queue.take(clock.at(0.0));
            queue.add("k", Lane::Fresh, clock.at(0.2));
            queue.done(&"k", outcome, clock.at(0.3));
            assert_eq!(queue.take(clock.at(0.3)).map(|run| run.lane), Some(Lane::Fresh), "{outcome:?}");
        }
    }

    #[test]
    fn a_removed_key_runs_no_more_unless_it_comes_back() {
        let (mut queue, clock) = queue(2, 0);
        queue.add("waiting", Lane::Fresh, clock.at(0.0));
        queue.remove(&"waiting");
        assert_eq!(queue.take(clock.at(1.0)), None);

        queue.add("running", Lane::Fresh, clock.at(0.0));
        queue.take(clock.at(1.0));
        queue.remove(&"running");
        queue.done(&"running", RETRY, clock.at(1.0));
        assert_eq!(queue.take(clock.at(999.0)), None);

        queue.add("back", Lane::Fresh, clock.at(0.0));
        queue.take(clock.at(1.0));
        queue.remove(&"back");
        queue.add("back", Lane::Fresh, clock.at(1.0));
        queue.done(&"back", GOOD, clock.at(1.0));
        assert_eq!(queue.take(clock.at(1.0)).map(|run| run.key), Some("back"));
        queue.remove(&"unknown");
        queue.done(&"unknown", GOOD, clock.at(1.0));
        assert_eq!(queue.running(), 1);
    }

    #[test]
    fn a_cleared_queue_holds_nothing_and_ends_what_runs() {
        let (mut queue, clock) = queue(1, 0);
        queue.add("running", Lane::Fresh, clock.at(0.0));
        queue.add("waiting", Lane::Fresh, clock.at(0.0));
        queue.take(clock.at(0.0));
        queue.clear();
        queue.done(&"running", RETRY, clock.at(1.0));
        assert_eq!((queue.take(clock.at(999.0)), queue.next_due()), (None, None));
    }

    #[test]
    fn the_backlog_counts_what_is_due_and_knows_the_oldest() {
        let (mut queue, clock) = queue(1, 0);
        for (key, due) in [("a", 1.0), ("b", 2.0), ("c", 50.0)] {
            queue.add(key, Lane::Drift, clock.at(due));
        }
        assert_eq!(queue.backlog(Lane::Drift, clock.at(11.0)), (2, SECOND * 10));
        assert_eq!(queue.backlog(Lane::Fresh, clock.at(11.0)), (0, Duration::ZERO));
    }
}
