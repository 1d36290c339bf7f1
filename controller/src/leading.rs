//! When this replica is ready, and when it works.
//!
//! ```text
//! lease, CRDs -> led
//! led, lists of objects, Secrets and stores, keys -> ready (for HTTP), active (for the loop)
//! ```

use std::sync::Arc;

use tokio::sync::watch;

use crate::{engine::Term, lease::Leadership, metrics::Metrics};

/// `led`: this replica holds the lease, and the CRDs are right.
pub async fn authority(
    mut leadership: Leadership,
    mut is_right: watch::Receiver<bool>,
    led: watch::Sender<bool>,
    metrics: Arc<Metrics>,
) {
    loop {
        leadership.acquired().await;
        if is_right.wait_for(|is_right| *is_right).await.is_err() {
            return;
        }
        led.send_replace(true);
        metrics.leading(true);
        tokio::select! {
            () = leadership.lost() => {}
            _ = is_right.wait_for(|is_right| !*is_right) => {}
        }
        led.send_replace(false);
        metrics.leading(false);
    }
}

/// `ready`: all caches are synced and the keys loaded. `active`: ready, and leading, with the number of the time.
pub async fn readiness(
    mut led: watch::Receiver<bool>,
    mut objects: watch::Receiver<bool>,
    mut secrets: watch::Receiver<bool>,
    mut stores: watch::Receiver<bool>,
    mut keys: watch::Receiver<bool>,
    (ready, active): (watch::Sender<bool>, watch::Sender<Term>),
) {
    let mut terms = 0;
    loop {
        let is_listed = *objects.borrow_and_update() && *secrets.borrow_and_update() && *stores.borrow_and_update();
        let is_ready = is_listed && *keys.borrow_and_update();
        let is_active = *led.borrow_and_update() && is_ready;
        ready.send_if_modified(|ready| std::mem::replace(ready, is_ready) != is_ready);
        active.send_if_modified(|term| {
            let is_news = term.is_some() != is_active;
            if is_news {
                terms += u64::from(is_active);
                *term = is_active.then_some(terms);
            }
            is_news
        });
        let changed = tokio::select! {
            changed = led.changed() => changed,
            changed = objects.changed() => changed,
            changed = secrets.changed() => changed,
            changed = stores.changed() => changed,
            changed = keys.changed() => changed,
        };
        if changed.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_beginning_is_another_term_and_nothing_begins_before_the_keys_are_there() {
        let (led, is_led) = watch::channel(true);
        let (loaded, is_loaded) = watch::channel(false);
        let (_objects, objects) = watch::channel(true);
        let (_secrets, secrets) = watch::channel(true);
        let (_stores, stores) = watch::channel(true);
        let (ready, mut is_ready) = watch::channel(true);
        let (active, mut term) = watch::channel(None);
        tokio::spawn(readiness(is_led, objects, secrets, stores, is_loaded, (ready, active)));

        assert!(!*is_ready.wait_for(|ready| !ready).await.unwrap());
        assert_eq!(*term.borrow(), None, "no keys yet");
        loaded.send_replace(true);
        assert_eq!(*term.wait_for(Option::is_some).await.unwrap(), Some(1));
        led.send_replace(false);
        term.wait_for(Option::is_none).await.unwrap();
        assert!(*is_ready.borrow(), "a replica that does not lead is ready too");
        led.send_replace(true);
        assert_eq!(*term.wait_for(Option::is_some).await.unwrap(), Some(2));
    }
}
