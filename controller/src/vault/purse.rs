//! What everything that is fetched may take in memory, over all stores and for each: a permit for each KiB.
//!
//! ```text
//! Purse -> share of a store -> Hold: as large as an answer is, for as long as it, or what was made of it, lives
//! ```
//!
//! A request waits for the beginning of its hold before it is sent. More than that is had at once or not at all: whoever
//! waited for more while holding some would wait for those who do the same.

use std::{sync::Arc, time::Duration};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};

/// All answers, and all values that wait for a look, together.
const ALL: usize = 32 << 20;
/// What one store may take of that.
const SHARE: usize = ALL / 2;
/// What a request begins with: most answers need no more.
const BEGINNING: usize = 16 << 10;
/// How long a request waits for its beginning.
const PATIENCE: Duration = Duration::from_secs(10);
const KIB: usize = 1 << 10;

/// What may be held.
#[derive(Clone)]
pub struct Purse {
    all: Arc<Semaphore>,
    own: Arc<Semaphore>,
}

/// What is held.
pub struct Hold {
    all: OwnedSemaphorePermit,
    own: OwnedSemaphorePermit,
}

impl Purse {
    /// A full one.
    pub fn full() -> Self {
        Self { all: Arc::new(Semaphore::new(ALL / KIB)), own: Arc::new(Semaphore::new(ALL / KIB)) }
    }

    /// The share of one store.
    pub fn share(&self) -> Self {
        Self { all: self.all.clone(), own: Arc::new(Semaphore::new(SHARE / KIB)) }
    }

    /// Waits for what a request begins with. None: there was nothing to be had.
    pub async fn begin(&self) -> Option<Hold> {
        let permits = permits(BEGINNING);
        let both = async {
            let own = self.own.clone().acquire_many_owned(permits).await.ok()?;
            Some(Hold { own, all: self.all.clone().acquire_many_owned(permits).await.ok()? })
        };
        tokio::time::timeout(PATIENCE, both).await.ok()?
    }

    /// As much as this, if it is to be had at once.
    pub fn hold(&self, bytes: usize) -> Option<Hold> {
        let both = || {
            let own = self.own.clone().try_acquire_many_owned(permits(bytes))?;
            Ok::<_, TryAcquireError>(Hold { own, all: self.all.clone().try_acquire_many_owned(permits(bytes))? })
        };
        both().ok()
    }

    /// Makes a hold as large as this at least. False: there is not so much.
    pub fn widen(&self, hold: &mut Hold, bytes: usize) -> bool {
        let missing = bytes.saturating_sub(hold.bytes());
        if missing == 0 {
            return true;
        }
        let Some(more) = self.hold(missing) else { return false };
        hold.own.merge(more.own);
        hold.all.merge(more.all);
        true
    }
}

impl Hold {
    fn bytes(&self) -> usize {
        self.own.num_permits() * KIB
    }

    /// Gives back what is more than this.
    pub fn narrow(&mut self, bytes: usize) {
        let surplus = self.own.num_permits().saturating_sub(bytes.div_ceil(KIB));
        drop((self.own.split(surplus), self.all.split(surplus)));
    }
}

fn permits(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(KIB)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_store_that_takes_its_whole_share_leaves_the_rest_to_others() {
        let purse = Purse::full();
        let (greedy, other) = (purse.share(), purse.share());
        let mut hold = greedy.begin().await.unwrap();
        assert!(greedy.widen(&mut hold, SHARE));
        assert!(greedy.hold(1).is_none() && !greedy.widen(&mut hold, SHARE + 1));
        let rest = other.hold(ALL - SHARE).unwrap();
        assert!(purse.share().hold(1).is_none(), "there is no more for anybody");
        hold.narrow(SHARE - 10 * KIB);
        assert!(purse.share().hold(10 * KIB).is_some() && greedy.hold(11 * KIB).is_none());
        drop((hold, rest));
        assert!(greedy.hold(SHARE).is_some());
    }
}
