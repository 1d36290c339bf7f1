//! Owns who of several replicas writes: one Lease, held by PUT with `resourceVersion`.
//!
//! ```text
//! GET Lease -> Elector::observe -> next move -> PUT with the resourceVersion seen -> Leadership {until}
//! ```
//!
//! Clocks of other machines count for nothing: a foreign Lease has expired when we have not seen it
//! change for its duration by our own monotonic clock, and our own leadership ends a fixed time after
//! we *began* the last renewal that succeeded. That time is shorter than the duration, so a replica
//! that was frozen finds itself no longer leading before anybody else can be. [`Leadership`] is asked
//! right before every write.
//!
//! A Lease that is not there may have been deleted, and whoever held it may write until its time is over. So it is made
//! at once only by the one who holds it still, or where nobody ever led: in a namespace without the ConfigMap that the
//! first leader makes. Everybody else waits as long as for one that does not change.
//!
//! A Lease whose `resourceVersion` is lower than one that was seen before means that etcd was restored
//! from a snapshot. Watches do not notice that and would stay silent for a long time, so the task ends
//! with [`Error::Restored`], and the process must end with it and start anew.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{Api, ObjectMeta, PostParams};
use seal_crds::CLUSTER_CONFIG_MAP;
use tokio::sync::watch;
use tracing::{debug, info, warn};

use crate::error::ApiError;

/// The name of the Lease in the controller's namespace.
pub const NAME: &str = "seal-controller";

/// Who we are and how fast leadership passes on. The defaults are those of client-go.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Unlike that of any other replica, past or present: the pod's name and something random.
    pub identity: String,
    /// How long a Lease that does not change keeps others out.
    pub duration: Duration,
    /// How long after the start of the last good renewal we may write. Shorter than `duration`.
    pub renew_deadline: Duration,
    /// The pause between two looks.
    pub retry_period: Duration,
}

impl Settings {
    /// The usual times: 15 s, 10 s, 2 s.
    pub fn new(identity: String) -> Self {
        Self {
            identity,
            duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        }
    }

    /// No call takes longer, so that a hanging one leaves time for another before the deadline.
    fn call_deadline(&self) -> Duration {
        self.renew_deadline / 3
    }
}

/// Why the lease task ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Everything in memory may be newer than the cluster: start anew.
    #[error("the cluster was restored from a snapshot: resourceVersion {now} of the lease follows {seen}")]
    Restored {
        /// The highest version seen before.
        seen: u64,
        /// The version of the Lease now.
        now: u64,
    },
}

/// Whether this replica leads, as of now. To be asked right before each write.
#[derive(Debug, Clone)]
pub struct Leadership(watch::Receiver<Option<Instant>>);

impl Leadership {
    /// Until when this replica may write; `None` if it may not.
    pub fn deadline(&self) -> Option<Instant> {
        self.0.borrow().filter(|until| Instant::now() < *until)
    }

    /// Whether this replica may write at this moment.
    pub fn is_leading(&self) -> bool {
        self.deadline().is_some()
    }

    /// Waits until this replica leads.
    pub async fn acquired(&mut self) {
        while !self.is_leading() {
            if self.0.changed().await.is_err() {
                // The lease task has ended, so this will never be true again.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Waits until this replica leads no longer.
    pub async fn lost(&mut self) {
        while let Some(until) = self.deadline() {
            let over = tokio::time::sleep_until(until.into());
            tokio::select! {
                () = over => {}
                changed = self.0.changed() => if changed.is_err() { return },
            }
        }
    }
}

/// Where the lease task says whether this replica leads.
#[derive(Debug)]
pub struct Announcement(watch::Sender<Option<Instant>>);

impl Announcement {
    /// Says until when this replica leads; `None`: it does not.
    pub fn announce(&self, until: Option<Instant>) {
        self.0.send_replace(until);
    }
}

/// A place to announce leadership and the handle to ask it.
pub fn leadership() -> (Announcement, Leadership) {
    let (sender, receiver) = watch::channel(None);
    (Announcement(sender), Leadership(receiver))
}

/// Takes part in the election until `shutdown` resolves, then gives the Lease back.
///
/// `shutdown` is to resolve once nothing writes any more. Trouble with the API server is survived;
/// the only error is [`Error::Restored`]. `configs`: where the first leader publishes its recipient.
pub async fn run(
    (api, configs): (Api<Lease>, Api<ConfigMap>),
    settings: Settings,
    announcement: Announcement,
    shutdown: impl Future<Output = ()>,
) -> Result<(), Error> {
    let mut elector = Elector::new(settings);
    let mut shutdown = std::pin::pin!(shutdown);
    loop {
        let leads = turn(&api, &configs, &mut elector).await?;
        announcement.announce(leads);
        tokio::select! {
            () = tokio::time::sleep(elector.settings.retry_period) => {}
            () = &mut shutdown => break,
        }
    }
    announcement.announce(None);
    release(&api, &mut elector).await
}

/// One look at the Lease and the move that follows from it; until when we lead afterwards.
async fn turn(api: &Api<Lease>, configs: &Api<ConfigMap>, elector: &mut Elector) -> Result<Option<Instant>, Error> {
    let limit = elector.settings.call_deadline();
    let started = Instant::now();
    let Some(lease) = within(limit, "read", api.get_opt(NAME)).await else { return Ok(elector.leads_until) };
    if lease.is_none() && elector.is_news_to() {
        let published = within(limit, "read the recipient", configs.get_metadata_opt(CLUSTER_CONFIG_MAP)).await;
        let Some(published) = published else { return Ok(elector.leads_until) };
        elector.was_led = published.is_some();
    }
    elector.observe(lease, started)?;
    let Some(desired) = elector.desired(Instant::now(), jiff::Timestamp::now()) else { return Ok(elector.leads_until) };

    let started = Instant::now();
    let written = if desired.metadata.resource_version.is_some() {
        within(limit, "renew", api.replace(NAME, &PostParams::default(), &desired)).await
    } else {
        within(limit, "create", api.create(&PostParams::default(), &desired)).await
    };
    if let Some(lease) = written {
        elector.wrote(lease, started)?;
    }
    Ok(elector.leads_until)
}

/// Empties the holder, so that another replica need not wait; only if the Lease is still ours.
async fn release(api: &Api<Lease>, elector: &mut Elector) -> Result<(), Error> {
    let limit = elector.settings.call_deadline();
    let Some(lease) = within(limit, "read", api.get_opt(NAME)).await else { return Ok(()) };
    elector.observe(lease, Instant::now())?;
    if let Some(desired) = elector.released(jiff::Timestamp::now())
        && within(limit, "release", api.replace(NAME, &PostParams::default(), &desired)).await.is_some()
    {
        info!("released the lease");
    }
    Ok(())
}

/// The answer of a call, or `None` if it failed or took too long: the next turn tries again.
async fn within<T>(limit: Duration, what: &str, call: impl Future<Output = kube::Result<T>>) -> Option<T> {
    match tokio::time::timeout(limit, call).await {
        Ok(Ok(answer)) => Some(answer),
        Ok(Err(kube::Error::Api(status))) if status.is_conflict() || status.is_already_exists() => {
            debug!(what, "another replica was faster");
            None
        }
        Ok(Err(error)) => {
            warn!(what, cause = ApiError::from(error).text(), "cannot reach the lease");
            None
        }
        Err(_) => {
            warn!(what, "no answer about the lease in time");
            None
        }
    }
}

/// What was seen of the Lease, and what follows. Pure: times are passed in.
struct Elector {
    settings: Settings,
    seen: Option<Seen>,
    highest: u64,
    leads_until: Option<Instant>,
    /// Whether anybody leads or ever led here, as far as is known.
    was_led: bool,
    /// While there is no Lease: from when on one may be made.
    free_at: Option<Instant>,
}

struct Seen {
    lease: Lease,
    /// When this version was first seen.
    since: Instant,
}

impl Elector {
    fn new(settings: Settings) -> Self {
        Self { settings, seen: None, highest: 0, leads_until: None, was_led: false, free_at: None }
    }

    /// Whether nothing is known yet, so that a Lease which is not there may never have been.
    fn is_news_to(&self) -> bool {
        !self.was_led && self.free_at.is_none()
    }

    /// Takes note of the Lease as read by a call that began at `now`.
    fn observe(&mut self, lease: Option<Lease>, now: Instant) -> Result<(), Error> {
        let Some(lease) = lease else {
            self.seen = None;
            let leads = self.leads_until.take().is_some_and(|until| now < until);
            let wait = if leads || !self.was_led { Duration::ZERO } else { self.settings.duration };
            if self.free_at.is_none() && !wait.is_zero() {
                warn!("the lease was deleted; whoever held it may write for a while, which is awaited");
            }
            self.free_at.get_or_insert(now + wait);
            return Ok(());
        };
        self.was_led = true;
        self.free_at = None;
        if let Some(version) = version_of(&lease) {
            if version < self.highest {
                return Err(Error::Restored { seen: self.highest, now: version });
            }
            self.highest = version;
        }
        let is_known = self.seen.as_ref().is_some_and(|seen| {
            seen.lease.metadata.resource_version == lease.metadata.resource_version
                && seen.lease.metadata.uid == lease.metadata.uid
        });
        if holder_of(&lease) != Some(&self.settings.identity) {
            if self.leads_until.take().is_some() {
                warn!(holder = holder_of(&lease), "another replica holds the lease");
            } else if self.seen.as_ref().and_then(|seen| holder_of(&seen.lease)) != holder_of(&lease) {
                debug!(holder = holder_of(&lease), "the lease has another holder");
            }
        }
        if !is_known {
            self.seen = Some(Seen { lease, since: now });
        }
        Ok(())
    }

    /// Takes note of a Lease that we wrote by a call that began at `started`.
    fn wrote(&mut self, lease: Lease, started: Instant) -> Result<(), Error> {
        let was_leading = self.leads_until.is_some();
        self.observe(Some(lease), started)?;
        self.leads_until = Some(started + self.settings.renew_deadline);
        if !was_leading {
            info!(identity = self.settings.identity, "leading");
        }
        Ok(())
    }

    /// The Lease to write now, or `None` while it is another's.
    fn desired(&self, now: Instant, wall: jiff::Timestamp) -> Option<Lease> {
        let Some(seen) = &self.seen else {
            if self.free_at.is_some_and(|free_at| now < free_at) {
                return None;
            }
            let metadata = ObjectMeta { name: Some(NAME.into()), ..ObjectMeta::default() };
            return Some(self.held(Lease { metadata, spec: None }, wall, 0));
        };
        let transitions = seen.lease.spec.as_ref().and_then(|spec| spec.lease_transitions).unwrap_or(0);
        match holder_of(&seen.lease) {
            Some(holder) if *holder == self.settings.identity => {
                let mut lease = seen.lease.clone();
                let spec = lease.spec.get_or_insert_default();
                spec.renew_time = Some(MicroTime(wall));
                spec.lease_duration_seconds = Some(seconds(self.settings.duration));
                Some(lease)
            }
            Some(_) if now < seen.since + self.duration_of(&seen.lease) => None,
            _ => Some(self.held(seen.lease.clone(), wall, transitions.saturating_add(1))),
        }
    }

    /// The Lease without a holder, if it is ours.
    fn released(&self, wall: jiff::Timestamp) -> Option<Lease> {
        let mut lease = self.seen.as_ref()?.lease.clone();
        if holder_of(&lease)? != &self.settings.identity {
            return None;
        }
        let spec = lease.spec.get_or_insert_default();
        spec.holder_identity = Some(String::new());
        spec.lease_duration_seconds = Some(1);
        spec.renew_time = Some(MicroTime(wall));
        Some(lease)
    }

    fn held(&self, lease: Lease, wall: jiff::Timestamp, transitions: i32) -> Lease {
        let spec = LeaseSpec {
            holder_identity: Some(self.settings.identity.clone()),
            lease_duration_seconds: Some(seconds(self.settings.duration)),
            acquire_time: Some(MicroTime(wall)),
            renew_time: Some(MicroTime(wall)),
            lease_transitions: Some(transitions),
            ..lease.spec.unwrap_or_default()
        };
        Lease { metadata: lease.metadata, spec: Some(spec) }
    }

    /// What the holder promised; our own duration where it says nothing usable.
    fn duration_of(&self, lease: &Lease) -> Duration {
        let said = lease.spec.as_ref().and_then(|spec| spec.lease_duration_seconds);
        said.and_then(|seconds| u64::try_from(seconds).ok())
            .filter(|seconds| *seconds > 0)
            .map_or(self.settings.duration, Duration::from_secs)
    }
}

/// Versions are numbers that only grow (etcd's revisions); one that is no number is not compared.
fn version_of(lease: &Lease) -> Option<u64> {
    lease.metadata.resource_version.as_ref()?.parse().ok()
}

fn holder_of(lease: &Lease) -> Option<&String> {
    lease.spec.as_ref()?.holder_identity.as_ref().filter(|holder| !holder.is_empty())
}

fn seconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_secs()).unwrap_or(i32::MAX).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WALL: jiff::Timestamp = jiff::Timestamp::UNIX_EPOCH;

    fn elector(identity: &str) -> Elector {
        Elector::new(Settings::new(identity.into()))
    }

    fn lease(holder: &str, version: u64) -> Lease {
        let mut lease = elector(holder).desired(Instant::now(), WALL).unwrap();
        lease.metadata.resource_version = Some(version.to_string());
        lease.metadata.uid = Some("uid".into());
        lease
    }

    fn after(start: Instant, seconds: f64) -> Instant {
        start + Duration::from_secs_f64(seconds)
    }

    /// Who would be holder after the elector's next write, if it would write.
    fn next_holder(elector: &Elector, now: Instant) -> Option<String> {
        elector.desired(now, WALL).and_then(|lease| lease.spec.and_then(|spec| spec.holder_identity))
    }

    #[test]
    fn an_absent_lease_is_created_and_a_creation_carries_no_version() {
        let start = Instant::now();
        let mut a = elector("a");
        a.observe(None, start).unwrap();
        let desired = a.desired(start, WALL).unwrap();
        assert_eq!(desired.metadata.resource_version, None);
        let spec = desired.spec.unwrap();
        assert_eq!(spec.holder_identity.as_deref(), Some("a"));
        assert_eq!((spec.lease_duration_seconds, spec.lease_transitions), (Some(15), Some(0)));
    }

    #[test]
    fn a_lease_that_was_deleted_is_made_again_only_when_whoever_held_it_writes_no_more() {
        let start = Instant::now();
        // One who saw it before, and one who comes anew to where somebody led.
        let mut witness = elector("b");
        witness.observe(Some(lease("a", 10)), start).unwrap();
        let mut newcomer = elector("c");
        newcomer.was_led = true;
        for mut other in [witness, newcomer] {
            other.observe(None, after(start, 1.0)).unwrap();
            other.observe(None, after(start, 15.0)).unwrap();
            assert_eq!(next_holder(&other, after(start, 15.9)), None);
            assert!(next_holder(&other, after(start, 16.0)).is_some());
        }
        // Others wait longer than the holder leads, so it may be at once; not when its time is over.
        for (seen_at, free_at) in [(9.0, 9.0), (11.0, 26.0)] {
            let mut holder = elector("a");
            holder.wrote(lease("a", 10), start).unwrap();
            holder.observe(None, after(start, seen_at)).unwrap();
            assert_eq!(next_holder(&holder, after(start, free_at)).as_deref(), Some("a"));
            assert!(next_holder(&holder, after(start, free_at - 0.1)).is_none(), "{seen_at}");
        }
    }

    #[test]
    fn a_foreign_lease_is_left_alone_until_it_has_not_changed_for_its_duration() {
        let start = Instant::now();
        let mut b = elector("b");
        b.observe(Some(lease("a", 10)), start).unwrap();
        assert_eq!(next_holder(&b, after(start, 14.9)), None);
        // A renewal starts the wait anew, whatever times are written in it.
        b.observe(Some(lease("a", 11)), after(start, 14.9)).unwrap();
        assert_eq!(next_holder(&b, after(start, 29.8)), None);
        // Seeing the same version again does not.
        b.observe(Some(lease("a", 11)), after(start, 29.8)).unwrap();
        assert_eq!(next_holder(&b, after(start, 29.9)).as_deref(), Some("b"));
    }

    #[test]
    fn a_takeover_names_the_version_that_was_seen_and_counts() {
        let start = Instant::now();
        let mut b = elector("b");
        b.observe(Some(lease("a", 10)), start).unwrap();
        let desired = b.desired(after(start, 15.0), WALL).unwrap();
        assert_eq!(desired.metadata.resource_version.as_deref(), Some("10"));
        assert_eq!(desired.metadata.uid.as_deref(), Some("uid"));
        assert_eq!(desired.spec.unwrap().lease_transitions, Some(1));
    }

    #[test]
    fn the_holder_s_duration_counts_and_nonsense_does_not() {
        let start = Instant::now();
        for (said, free_at) in [(Some(40), 40.0), (Some(0), 15.0), (Some(-5), 15.0), (None, 15.0), (Some(1), 1.0)] {
            let mut foreign = lease("a", 1);
            foreign.spec.as_mut().unwrap().lease_duration_seconds = said;
            let mut b = elector("b");
            b.observe(Some(foreign), start).unwrap();
            assert_eq!(next_holder(&b, after(start, free_at - 0.1)), None, "{said:?}");
            assert_eq!(next_holder(&b, after(start, free_at)).as_deref(), Some("b"), "{said:?}");
        }
    }

    #[test]
    fn a_released_lease_is_taken_at_once() {
        let start = Instant::now();
        let mut a = elector("a");
        a.wrote(lease("a", 7), start).unwrap();
        let released = a.released(WALL).unwrap();
        assert_eq!(released.metadata.resource_version.as_deref(), Some("7"));
        let mut b = elector("b");
        b.observe(Some(released), start).unwrap();
        assert_eq!(next_holder(&b, start).as_deref(), Some("b"));
    }

    #[test]
    fn only_the_holder_releases() {
        let mut b = elector("b");
        b.observe(Some(lease("a", 7)), Instant::now()).unwrap();
        assert_eq!(b.released(WALL), None);
    }

    #[test]
    fn leading_ends_a_fixed_time_after_the_last_good_renewal_began() {
        let start = Instant::now();
        let mut a = elector("a");
        a.wrote(lease("a", 7), start).unwrap();
        assert_eq!(a.leads_until, Some(after(start, 10.0)));
        // Reading our own Lease proves nothing new.
        a.observe(Some(lease("a", 7)), after(start, 4.0)).unwrap();
        assert_eq!(a.leads_until, Some(after(start, 10.0)));
        a.wrote(lease("a", 8), after(start, 4.0)).unwrap();
        assert_eq!(a.leads_until, Some(after(start, 14.0)));
        // Others wait longer than we lead, counted from the same write.
        assert!(a.settings.renew_deadline < a.settings.duration);
    }

    #[test]
    fn a_renewal_keeps_the_time_of_acquisition() {
        let start = Instant::now();
        let mut a = elector("a");
        a.wrote(lease("a", 7), start).unwrap();
        let later = WALL + jiff::SignedDuration::from_secs(60);
        let spec = a.desired(after(start, 2.0), later).unwrap().spec.unwrap();
        assert_eq!(spec.acquire_time, Some(MicroTime(WALL)));
        assert_eq!(spec.renew_time, Some(MicroTime(later)));
        assert_eq!(spec.lease_transitions, Some(0));
    }

    #[test]
    fn seeing_another_holder_or_no_lease_ends_leading_at_once() {
        for observed in [Some(lease("b", 8)), None] {
            let start = Instant::now();
            let mut a = elector("a");
            a.wrote(lease("a", 7), start).unwrap();
            a.observe(observed, after(start, 1.0)).unwrap();
            assert_eq!(a.leads_until, None);
        }
    }

    #[test]
    fn a_version_that_goes_back_means_a_restored_cluster() {
        let start = Instant::now();
        let mut a = elector("a");
        a.observe(Some(lease("b", 100)), start).unwrap();
        assert_eq!(a.observe(Some(lease("b", 99)), start), Err(Error::Restored { seen: 100, now: 99 }));

        // Also when the snapshot is older than the Lease, which is then made anew.
        let mut a = elector("a");
        a.wrote(lease("a", 100), start).unwrap();
        a.observe(None, start).unwrap();
        assert_eq!(a.wrote(lease("a", 50), start), Err(Error::Restored { seen: 100, now: 50 }));
    }

    #[test]
    fn a_lease_that_was_deleted_and_made_anew_by_another_is_a_new_one() {
        let start = Instant::now();
        let mut b = elector("b");
        b.observe(Some(lease("a", 10)), start).unwrap();
        b.observe(None, after(start, 14.0)).unwrap();
        b.observe(Some(lease("c", 12)), after(start, 14.5)).unwrap();
        assert_eq!(next_holder(&b, after(start, 16.0)), None);
    }

    #[tokio::test]
    async fn the_handle_says_no_once_the_deadline_has_passed() {
        let (announcement, mut leadership) = leadership();
        assert!(!leadership.is_leading());
        announcement.announce(Some(Instant::now() + Duration::from_secs(3600)));
        leadership.acquired().await;
        assert!(leadership.is_leading());
        announcement.announce(Some(Instant::now()));
        leadership.lost().await;
        assert_eq!(leadership.deadline(), None);
        announcement.announce(Some(Instant::now() + Duration::from_secs(3600)));
        announcement.announce(None);
        leadership.lost().await;
    }
}
