//! Who gets the next place in flight at one store: namespaces take turns, as in the [queue](crate::queue).
//!
//! ```text
//! take(namespace) -> Line -> Place, the next one's when it is dropped
//! ```
//!
//! So a namespace that wants ten thousand reads of a shared store holds up the one read of another by one read.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use tokio::sync::oneshot;

use crate::queue::{
    Namespaced,
    line::{self, Line},
};

/// The places of one store, and who waits for one.
pub struct Turns(Mutex<State>);

struct State {
    free: usize,
    line: Line<Waiter>,
    /// Of those who wait, by number.
    calls: HashMap<u64, oneshot::Sender<()>>,
    arrived: u64,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Waiter {
    namespace: Arc<str>,
    number: u64,
}

impl Namespaced for Waiter {
    fn namespace(&self) -> &str {
        &self.namespace
    }
}

impl Turns {
    /// So many places.
    pub fn new(places: usize) -> Arc<Self> {
        let (line, calls) = Default::default();
        Arc::new(Self(Mutex::new(State { free: places, line, calls, arrived: 0 })))
    }

    /// Waits for a place. Whoever stops to wait for it holds up nobody.
    pub async fn take(self: &Arc<Self>, namespace: &Arc<str>) -> Place {
        let (call, called) = oneshot::channel();
        let place = {
            let mut state = self.state();
            state.arrived += 1;
            let waiter = Waiter { namespace: namespace.clone(), number: state.arrived };
            let stands = (Instant::now(), waiter.number);
            state.line.push(stands, waiter.clone());
            state.calls.insert(waiter.number, call);
            state.call();
            Place { turns: self.clone(), stands, waiter }
        };
        // The other end goes with the call only, or with the place.
        let _ = called.await;
        place
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Gives free places to those whose turn it is.
    fn call(&mut self) {
        while self.free > 0 {
            let Some((_, waiter)) = self.line.pop(Instant::now()) else { return };
            if let Some(call) = self.calls.remove(&waiter.number) {
                self.free -= 1;
                // Whoever does not hear it drops the place in a moment.
                let _ = call.send(());
            }
        }
    }
}

/// A place, or the wait for one.
pub struct Place {
    turns: Arc<Turns>,
    stands: line::Place,
    waiter: Waiter,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.turns.state();
        match state.calls.remove(&self.waiter.number) {
            Some(_) => state.line.remove(self.stands, &self.waiter),
            None => {
                state.free += 1;
                state.call();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn namespaces_take_turns_and_who_gives_up_loses_no_place() {
        let (turns, many, one): (_, Arc<str>, Arc<str>) = (Turns::new(2), "many".into(), "one".into());
        let held = [turns.take(&many).await, turns.take(&many).await];
        let mut crowd: Vec<_> = (0..3).map(|_| Box::pin(turns.take(&many))).collect();
        assert!(crowd.iter_mut().all(|wait| wait.now_or_never().is_none()));
        let mut late = Box::pin(turns.take(&one));
        assert!((&mut late).now_or_never().is_none());
        drop(crowd.pop());
        drop(held);
        let (first, late) = (crowd.remove(0).now_or_never(), late.now_or_never());
        assert!(first.is_some() && late.is_some(), "one run of each");
        assert!(crowd[0].as_mut().now_or_never().is_none());
        // It was called, and did not hear it.
        drop(first);
        drop(crowd);
        let both = [turns.take(&one).now_or_never(), turns.take(&many).now_or_never()];
        assert!(both[0].is_some() && both[1].is_none(), "two places, and both are taken");
        drop(late);
        assert!(turns.take(&many).now_or_never().is_some());
    }
}
