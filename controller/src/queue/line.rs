//! Who waits in one lane, and whose turn it is.
//!
//! ```text
//! push -> later -- its time comes --> turns -> pop
//! ```
//!
//! Keys whose time has come take turns by namespace: the n-th of each goes before the (n+1)-th of any. So a namespace
//! with ten thousand objects holds up the one object of another by one run, not by ten thousand. This is self-clocked
//! fair queueing with runs of equal cost.

use std::{
    collections::{BTreeSet, HashMap},
    time::{Duration, Instant},
};

/// A key that waits in line with those of other namespaces.
pub trait Namespaced {
    /// The namespace. All get the same share.
    fn namespace(&self) -> &str;
}

/// Where a key stands: its due time, and its number in the order of arrival.
pub(crate) type Place = (Instant, u64);

/// The keys of one lane.
pub(crate) struct Line<K> {
    later: BTreeSet<(Place, K)>,
    turns: BTreeSet<(u64, Place, K)>,
    /// The places of those in `turns`, and their turns.
    turn_of: HashMap<Place, u64>,
    /// The same places, the longest due first.
    due: BTreeSet<Place>,
    /// The last turn that each namespace has; only of those that have one to come.
    last: HashMap<Box<str>, u64>,
    /// The turn that went last.
    turn: u64,
}

impl<K> Default for Line<K> {
    fn default() -> Self {
        let (turn_of, last) = Default::default();
        Self { later: BTreeSet::new(), turns: BTreeSet::new(), turn_of, due: BTreeSet::new(), last, turn: 0 }
    }
}

impl<K: Clone + Ord + Namespaced> Line<K> {
    /// A key begins to wait.
    pub(crate) fn push(&mut self, place: Place, key: K) {
        self.later.insert((place, key));
    }

    /// A key waits no more.
    pub(crate) fn remove(&mut self, place: Place, key: &K) {
        if let Some(turn) = self.turn_of.remove(&place) {
            self.turns.remove(&(turn, place, key.clone()));
            self.due.remove(&place);
            self.rest();
        } else {
            self.later.remove(&(place, key.clone()));
        }
    }

    /// The key whose turn it is, and since when it is due.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<(Instant, K)> {
        while self.later.first().is_some_and(|(place, _)| place.0 <= now) {
            let (place, key) = self.later.pop_first()?;
            let last = self.last.entry(key.namespace().into()).or_default();
            *last = self.turn.max(*last) + 1;
            self.turn_of.insert(place, *last);
            self.due.insert(place);
            self.turns.insert((*last, place, key));
        }
        let (turn, place, key) = self.turns.pop_first()?;
        self.turn = turn;
        self.turn_of.remove(&place);
        self.due.remove(&place);
        if self.last.get(key.namespace()) == Some(&turn) {
            self.last.remove(key.namespace());
        }
        self.rest();
        Some((place.0, key))
    }

    /// Where nobody is in line, nobody has a turn to come.
    fn rest(&mut self) {
        if self.turns.is_empty() {
            self.last.clear();
        }
    }

    /// The earliest due time.
    pub(crate) fn first_due(&self) -> Option<Instant> {
        let later = self.later.first().map(|(place, _)| place.0);
        self.due.first().map(|place| place.0).into_iter().chain(later).min()
    }

    /// How many are due, and for how long the oldest has been.
    pub(crate) fn backlog(&self, now: Instant) -> (usize, Duration) {
        let is_due = |(place, _): &(Place, K)| place.0 <= now;
        // A backlog is mostly due as a whole, and is asked about often.
        let arrived = if self.later.last().is_some_and(is_due) {
            self.later.len()
        } else {
            self.later.iter().take_while(|waiting| is_due(waiting)).count()
        };
        let oldest = self.first_due().map_or(Duration::ZERO, |due| now.saturating_duration_since(due));
        (self.turns.len() + arrived, oldest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(keys: &[&'static str], now: Instant) -> Line<&'static str> {
        let mut line = Line::default();
        for (n, key) in (0..).zip(keys) {
            line.push((now, n), *key);
        }
        line
    }

    fn order(line: &mut Line<&'static str>, now: Instant) -> Vec<&'static str> {
        std::iter::from_fn(|| line.pop(now)).map(|(_, key)| key).collect()
    }

    #[test]
    fn namespaces_take_turns() {
        let now = Instant::now();
        let mut line = line(&["a/1", "a/2", "a/3", "b/1", "b/2", "c/1"], now);
        assert_eq!(order(&mut line, now), ["a/1", "b/1", "c/1", "a/2", "b/2", "a/3"]);
    }

    #[test]
    fn who_comes_late_waits_for_one_run_of_each_and_gains_nothing_by_it() {
        let now = Instant::now();
        let mut line = line(&["a/1", "a/2", "a/3", "a/4", "a/5"], now);
        assert_eq!([line.pop(now).unwrap().1, line.pop(now).unwrap().1], ["a/1", "a/2"]);
        for (n, key) in (10..).zip(["b/1", "b/2", "b/3"]) {
            line.push((now, n), key);
        }
        assert_eq!(order(&mut line, now), ["a/3", "b/1", "a/4", "b/2", "a/5", "b/3"]);
    }

    #[test]
    fn a_key_that_is_gone_is_gone_wherever_it_stood() {
        let now = Instant::now();
        let mut line = line(&["a/1", "a/2", "b/1"], now);
        assert_eq!(line.pop(now).map(|(_, key)| key), Some("a/1"));
        line.push((now + Duration::from_secs(1), 9), "b/9");
        line.remove((now, 1), &"a/2");
        line.remove((now + Duration::from_secs(1), 9), &"b/9");
        assert_eq!(line.backlog(now), (1, Duration::ZERO));
        assert_eq!(order(&mut line, now + Duration::from_secs(9)), ["b/1"]);
        assert_eq!((line.first_due(), line.backlog(now)), (None, (0, Duration::ZERO)));
        assert!(line.last.is_empty() && line.turn_of.is_empty() && line.due.is_empty());
    }
}
