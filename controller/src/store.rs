//! The picture of the cluster that the loop works from: small, and pure.
//!
//! watch events -> [`Store`] -> which objects to look at ([`Wake`]); [`Store::is_settled`] says that nothing is to be
//! done for one, without a request and without opening a value (`docs/design/controller.md` 4).
//!
//! Ten thousand objects have to fit into a few megabytes. So an object is kept as a [`Summary`]; its sealed values
//! stay only while it waits for its turn, within a budget, and are fetched again where the budget did not suffice. While
//! another replica leads, nothing waits here. Of
//! Secrets only metadata ever arrives, and of that only what [`OwnedSecret`] holds is kept.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::{Duration, Instant},
};

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::ObjectMeta, jiff::Timestamp};
use seal_crds::{
    OWNER_LABEL, SealedSecret, SealedSecretStatus,
    condition::{self, SealedSecretReason},
};
use seal_envelope::KeyId;

use crate::{
    contest::Contest,
    fields::{Fields, Part, Shape},
    keys::KeyIndex,
    metrics::Ready,
    queue::Namespaced,
    realm::{self, Region},
    status, target,
    vault::{
        breaker,
        course::{self, Cadence, Course, Gate, Told, Wish},
        errand::Answer,
        link::StoreId,
    },
};

/// Namespace and name, of an object or of a Secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The namespace.
    pub namespace: Arc<str>,
    /// The name.
    pub name: Arc<str>,
}

impl Namespaced for Key {
    fn namespace(&self) -> &str {
        &self.namespace
    }
}

impl Key {
    /// The key of these two.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    fn of(metadata: &ObjectMeta) -> Self {
        Self::new(metadata.namespace.as_deref().unwrap_or_default(), metadata.name.as_deref().unwrap_or_default())
    }

    fn sibling(&self, name: &str) -> Self {
        Self { namespace: self.namespace.clone(), name: name.into() }
    }

    fn is_in(&self, region: Region<'_>) -> bool {
        realm::is_in(&self.namespace, region)
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// Why an object has to be looked at; decides how soon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It is new or its spec changed: somebody waits for it.
    Fresh,
    /// Its Secret, its keys or its rival changed.
    Drift,
}

/// Objects to look at.
pub type Wake = Vec<(Key, Cause)>;

/// What is kept of a SealedSecret.
#[derive(Clone, Debug)]
pub struct Summary {
    /// Its uid.
    pub uid: Box<str>,
    /// Its resourceVersion.
    pub resource_version: Box<str>,
    generation: i64,
    created: Option<Timestamp>,
    is_deleting: bool,
    /// Whether its spec could be read at all.
    pub is_readable: bool,
    /// About how many bytes it has.
    pub size: usize,
    target: Arc<str>,
    key_ids: Box<[KeyId]>,
    shape: Option<Shape>,
    known: Option<Known>,
    status: u64,
    ready: Ready,
    /// What it wants of Vault.
    pub vault: Option<Box<Wanted>>,
}

/// What is kept of an object's Vault part.
#[derive(Clone, Debug)]
pub struct Wanted {
    /// Which store.
    pub store: StoreId,
    /// This version of it.
    pub wish: Wish,
    /// How often.
    pub cadence: Cadence,
    told: Told,
    /// A refresh annotation that the status does not know.
    is_refresh_asked: bool,
    mac: Option<Box<str>>,
    versions: u64,
}

/// What its status says of its Secret, where the status is good and current.
#[derive(Clone, Debug)]
struct Known {
    uid: Box<str>,
    resource_version: Box<str>,
}

/// What is kept of a Secret with our label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnedSecret {
    /// Its uid.
    pub uid: Box<str>,
    /// Its resourceVersion.
    pub resource_version: Box<str>,
    /// The SealedSecret that its annotation names.
    pub owner: Option<Arc<str>>,
    /// Its shape, if it is ours alone.
    shape: Option<Shape>,
    /// Whether we ever applied it. A copy that somebody made carries our marks, and never our fields.
    is_applied: bool,
    /// Whether our label has the value that belongs to the owner.
    is_labelled: bool,
    /// Whether another controller has taken it over since.
    is_taken: bool,
    /// Whether somebody's `kubectl apply` left a copy of the values in an annotation.
    holds_copy: bool,
    is_deleting: bool,
}

#[derive(Debug)]
struct Entry {
    summary: Summary,
    /// Waits for its turn.
    full: Option<Arc<SealedSecret>>,
    /// The status that we are about to write or have written: its echo wakes nobody.
    intended: Option<u64>,
    contest: Option<Box<Contest>>,
    /// Where its fetches from Vault stand.
    course: Option<Box<Course>>,
}

/// What an object has besides its own bytes while it waits.
const OVERHEAD: usize = 2048;
/// No object that etcd takes has more bytes.
const LARGEST: usize = 1536 * 1024;

/// The objects, the Secrets, and what connects them.
#[derive(Debug)]
pub struct Store {
    objects: HashMap<Key, Entry>,
    secrets: HashMap<Key, OwnedSecret>,
    /// Objects by target, where the target has another name than the object.
    renamed: HashMap<Key, Vec<Arc<str>>>,
    /// Secrets by owner, where the Secret has another name than its owner.
    strangers: HashMap<Key, Vec<Arc<str>>>,
    /// Bytes of `full` that are kept, and how many may be.
    waiting: usize,
    budget: usize,
    /// Whether objects wait for a turn here at all.
    is_kept: bool,
    objects_seen: HashSet<Key>,
    secrets_seen: HashSet<Key>,
    /// How far the watches have come: everything up to these versions has been told, deletions included.
    objects_told: u64,
    secrets_told: u64,
}

impl Store {
    /// An empty store that keeps at most `budget` bytes of objects that wait for their turn.
    pub fn new(budget: usize) -> Self {
        Self {
            objects: HashMap::new(),
            secrets: HashMap::new(),
            renamed: HashMap::new(),
            strangers: HashMap::new(),
            waiting: 0,
            budget,
            is_kept: true,
            objects_seen: HashSet::new(),
            secrets_seen: HashSet::new(),
            objects_told: 0,
            secrets_told: 0,
        }
    }

    /// Whether whole objects are kept for their turn: only where they get one.
    pub fn keep_waiting(&mut self, is_kept: bool) {
        self.is_kept = is_kept;
        if !is_kept {
            self.drop_waiting();
        }
    }

    fn drop_waiting(&mut self) {
        self.objects.values_mut().for_each(|entry| entry.full = None);
        self.waiting = 0;
    }

    // === SealedSecrets ===

    /// A list of the SealedSecrets of a region begins. What waited may have been given by an older CRD, and is fetched again.
    pub fn begin_objects(&mut self, region: Region<'_>) {
        drop(taken(&mut self.objects_seen, region));
        self.drop_waiting();
    }

    /// One of the list.
    pub fn list_object(&mut self, object: Result<SealedSecret, Box<ObjectMeta>>) -> Wake {
        let metadata = object.as_ref().map_or_else(|metadata| &**metadata, |object| &object.metadata);
        let key = Key::of(metadata);
        self.objects_told = self.objects_told.max(version(metadata).unwrap_or_default());
        self.objects_seen.insert(key.clone());
        self.put_object(key, object)
    }

    /// The list is complete: what was not in it is gone.
    pub fn end_objects(&mut self, region: Region<'_>) -> Wake {
        let seen = taken(&mut self.objects_seen, region);
        let gone: Vec<_> =
            self.objects.keys().filter(|key| key.is_in(region) && !seen.contains(*key)).cloned().collect();
        gone.iter().flat_map(|key| self.remove_object(key)).collect()
    }

    /// What the answer to a request said of an object. The watch may have told more since: that it is gone.
    pub fn answered_object(&mut self, object: Result<SealedSecret, Box<ObjectMeta>>) {
        let metadata = object.as_ref().map_or_else(|metadata| &**metadata, |object| &object.metadata);
        if version(metadata).is_some_and(|version| version > self.objects_told) {
            let key = Key::of(metadata);
            if !self.is_older_object(&key, metadata) {
                self.put_object(key, object);
            }
        }
    }

    /// An object is new or changed.
    pub fn apply_object(&mut self, object: Result<SealedSecret, Box<ObjectMeta>>) -> Wake {
        let metadata = object.as_ref().map_or_else(|metadata| &**metadata, |object| &object.metadata);
        let key = Key::of(metadata);
        self.objects_told = self.objects_told.max(version(metadata).unwrap_or_default());
        if self.is_older_object(&key, metadata) { Wake::new() } else { self.put_object(key, object) }
    }

    fn is_older_object(&self, key: &Key, metadata: &ObjectMeta) -> bool {
        self.objects.get(key).is_some_and(|entry| {
            metadata.uid.as_deref() == Some(&*entry.summary.uid)
                && is_older(metadata.resource_version.as_deref(), &entry.summary.resource_version)
        })
    }

    fn put_object(&mut self, key: Key, object: Result<SealedSecret, Box<ObjectMeta>>) -> Wake {
        let summary = match &object {
            Ok(object) => Summary::of(object, &key),
            Err(metadata) => Summary::unreadable(metadata, &key),
        };
        let before = self.objects.get(&key);
        let is_echo = before.is_some_and(|before| {
            before.summary.is_same_wish(&summary)
                && (before.summary.status == summary.status || before.intended == Some(summary.status))
        });
        if is_echo {
            if let Some(entry) = self.objects.get_mut(&key) {
                self.waiting -= entry.waiting();
                // What waits is at another version now, and would be fetched anyway.
                entry.full = entry.full.take().filter(|_| entry.summary.resource_version == summary.resource_version);
                entry.summary = summary;
                self.waiting += entry.waiting();
            }
            return Wake::new();
        }
        let is_new_wish = before.is_none_or(|before| !before.summary.is_same_wish(&summary));
        let mut wake = Wake::new();
        if before.is_some_and(|before| before.summary.target != summary.target) {
            wake.extend(self.remove_object(&key));
        }
        let old = self.objects.remove(&key);
        self.waiting -= old.as_ref().map_or(0, Entry::waiting);
        if summary.target != key.name {
            let names = self.renamed.entry(key.sibling(&summary.target)).or_default();
            if !names.contains(&key.name) {
                names.push(key.name.clone());
            }
        }
        // A settled object is probably never needed whole.
        let full = object.ok().filter(|_| self.is_kept && summary.known.is_none()).map(Arc::new);
        let is_same_object = old.as_ref().is_some_and(|old| old.summary.uid == summary.uid);
        let (intended, contest, course) = old.map_or((None, None, None), |old| (old.intended, old.contest, old.course));
        let mut entry = Entry { summary, full, intended, contest, course: course.filter(|_| is_same_object) };
        if self.waiting + entry.waiting() > self.budget {
            entry.full = None;
        }
        self.waiting += entry.waiting();
        self.objects.insert(key.clone(), entry);
        wake.push((key, if is_new_wish { Cause::Fresh } else { Cause::Drift }));
        wake
    }

    /// An object was deleted.
    pub fn delete_object(&mut self, metadata: &ObjectMeta) -> Wake {
        self.objects_told = self.objects_told.max(version(metadata).unwrap_or_default());
        self.remove_object(&Key::of(metadata))
    }

    /// An object is gone. Others that wanted its Secret may have it now.
    pub fn remove_object(&mut self, key: &Key) -> Wake {
        let Some(entry) = self.objects.remove(key) else { return Wake::new() };
        self.waiting -= entry.waiting();
        let target = key.sibling(&entry.summary.target);
        if let Some(names) = self.renamed.get_mut(&target) {
            names.retain(|name| *name != key.name);
            if names.is_empty() {
                self.renamed.remove(&target);
            }
        }
        self.contenders(&target).into_iter().map(|key| (key, Cause::Drift)).collect()
    }

    /// What is kept of an object.
    pub fn summary(&self, key: &Key) -> Option<&Summary> {
        self.objects.get(key).map(|entry| &entry.summary)
    }

    /// The whole object, if it waits here; it is not kept any longer.
    pub fn take_full(&mut self, key: &Key) -> Option<Arc<SealedSecret>> {
        let entry = self.objects.get_mut(key)?;
        self.waiting -= entry.waiting();
        entry.full.take()
    }

    /// Keeps the whole object for the next look, as far as the budget suffices.
    pub fn keep_full(&mut self, key: &Key, object: Arc<SealedSecret>) {
        let Some(entry) = self.objects.get_mut(key).filter(|_| self.is_kept) else { return };
        let before = entry.waiting();
        entry.full = Some(object);
        let waiting = self.waiting - before + entry.waiting();
        if waiting > self.budget {
            entry.full = None;
        }
        self.waiting = self.waiting - before + entry.waiting();
    }

    /// Says which status is about to be written, so that its echo wakes nobody.
    pub fn intend_status(&mut self, key: &Key, status: &SealedSecretStatus) {
        if let Some(entry) = self.objects.get_mut(key) {
            entry.intended = Some(status_hash(Some(status)));
        }
    }

    /// Whether its status says, of this spec, that it is not ready.
    pub fn is_failing(&self, key: &Key) -> bool {
        self.summary(key).is_some_and(|summary| matches!(summary.ready, Ready::No(_)))
    }

    /// All objects.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.objects.keys()
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.objects.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.objects.is_empty()
    }

    /// How all objects are, as their status says.
    pub fn readiness(&self) -> impl Iterator<Item = Ready> {
        self.objects.values().map(|entry| entry.summary.ready)
    }

    /// The objects with a value that is sealed to one of these keys.
    pub fn sealed_to(&self, ids: &[KeyId]) -> Vec<Key> {
        let uses = |entry: &Entry| entry.summary.key_ids.iter().any(|id| ids.contains(id));
        self.objects.iter().filter(|(_, entry)| uses(entry)).map(|(key, _)| key.clone()).collect()
    }

    /// How many objects use each key.
    pub fn key_uses(&self) -> HashMap<KeyId, usize> {
        let mut uses = HashMap::new();
        for id in self.objects.values().flat_map(|entry| &entry.summary.key_ids) {
            *uses.entry(*id).or_default() += 1;
        }
        uses
    }

    // === Secrets ===

    /// A list of the Secrets of ours in a region begins.
    pub fn begin_secrets(&mut self, region: Region<'_>) {
        drop(taken(&mut self.secrets_seen, region));
    }

    /// One of the list.
    pub fn list_secret(&mut self, metadata: &ObjectMeta) -> Wake {
        let key = Key::of(metadata);
        self.secrets_told = self.secrets_told.max(version(metadata).unwrap_or_default());
        self.secrets_seen.insert(key.clone());
        self.put_secret(key, metadata)
    }

    /// The list is complete: what was not in it is no longer ours, or gone.
    pub fn end_secrets(&mut self, region: Region<'_>) -> Wake {
        let seen = taken(&mut self.secrets_seen, region);
        let gone: Vec<_> =
            self.secrets.keys().filter(|key| key.is_in(region) && !seen.contains(*key)).cloned().collect();
        gone.iter().flat_map(|key| self.remove_secret(key)).collect()
    }

    /// What the answer to a request said of a Secret of ours, so that its echo wakes nobody.
    ///
    /// Between the answer and now, the watch may have told that the Secret is gone. To put it back into the picture
    /// would make its object settled, and nobody would ever miss the Secret.
    pub fn answered_secret(&mut self, metadata: &ObjectMeta) {
        if version(metadata).is_some_and(|version| version > self.secrets_told) {
            let key = Key::of(metadata);
            if !self.is_older_secret(&key, metadata) {
                self.put_secret(key, metadata);
            }
        }
    }

    /// A Secret of ours is new or changed.
    pub fn apply_secret(&mut self, metadata: &ObjectMeta) -> Wake {
        let key = Key::of(metadata);
        self.secrets_told = self.secrets_told.max(version(metadata).unwrap_or_default());
        if self.is_older_secret(&key, metadata) { Wake::new() } else { self.put_secret(key, metadata) }
    }

    fn is_older_secret(&self, key: &Key, metadata: &ObjectMeta) -> bool {
        self.secrets.get(key).is_some_and(|secret| {
            metadata.uid.as_deref() == Some(&*secret.uid)
                && is_older(metadata.resource_version.as_deref(), &secret.resource_version)
        })
    }

    fn put_secret(&mut self, key: Key, metadata: &ObjectMeta) -> Wake {
        let secret = OwnedSecret::of(metadata, &key);
        let old = self.secrets.get(&key);
        if old == Some(&secret) {
            return Wake::new();
        }
        let mut wake = self.affected(&key, old);
        self.unlink(&key);
        if let Some(owner) = secret.owner.as_ref().filter(|owner| **owner != key.name) {
            self.strangers.entry(key.sibling(owner)).or_default().push(key.name.clone());
        }
        wake.extend(self.affected(&key, Some(&secret)));
        self.secrets.insert(key, secret);
        wake.dedup();
        wake
    }

    /// A Secret no longer carries our label, or was deleted.
    pub fn delete_secret(&mut self, metadata: &ObjectMeta) -> Wake {
        self.secrets_told = self.secrets_told.max(version(metadata).unwrap_or_default());
        self.remove_secret(&Key::of(metadata))
    }

    /// A Secret no longer carries our label, or is gone.
    pub fn remove_secret(&mut self, key: &Key) -> Wake {
        let wake = self.affected(key, self.secrets.get(key));
        self.unlink(key);
        self.secrets.remove(key);
        wake
    }

    fn unlink(&mut self, key: &Key) {
        let Some(owner) = self.secrets.get(key).and_then(|secret| secret.owner.as_ref()) else { return };
        let owner = key.sibling(owner);
        if let Some(names) = self.strangers.get_mut(&owner) {
            names.retain(|name| *name != key.name);
            if names.is_empty() {
                self.strangers.remove(&owner);
            }
        }
    }

    /// Whoever makes this Secret, or is named by it.
    fn affected(&self, key: &Key, secret: Option<&OwnedSecret>) -> Wake {
        let owner = secret.and_then(|secret| secret.owner.as_ref()).map(|owner| key.sibling(owner));
        let mut keys = self.contenders(key);
        keys.extend(owner.filter(|owner| self.objects.contains_key(owner)));
        keys.sort_unstable();
        keys.dedup();
        keys.into_iter().map(|key| (key, Cause::Drift)).collect()
    }

    /// What is kept of a Secret.
    pub fn secret(&self, key: &Key) -> Option<&OwnedSecret> {
        self.secrets.get(key)
    }

    // === What connects them ===

    /// The Secret that an object makes.
    pub fn target(&self, key: &Key) -> Option<Key> {
        Some(key.sibling(&self.objects.get(key)?.summary.target))
    }

    fn contenders(&self, target: &Key) -> Vec<Key> {
        let namesake =
            self.objects.get(target).filter(|entry| entry.summary.target == target.name).map(|_| target.clone());
        let others = self.renamed.get(target).into_iter().flatten().map(|name| target.sibling(name));
        namesake.into_iter().chain(others).collect()
    }

    /// Another object that makes the same Secret and goes first: the owner keeps it, else the oldest gets it.
    pub fn rival(&self, key: &Key) -> Option<Key> {
        let target = self.target(key)?;
        let contenders = self.contenders(&target);
        if contenders.len() < 2 {
            return None;
        }
        let living = contenders.into_iter().filter_map(|key| {
            let summary = &self.objects.get(&key)?.summary;
            (!summary.is_deleting).then_some((summary.created, key))
        });
        let living: Vec<_> = living.collect();
        let owner = self.secrets.get(&target).and_then(|secret| secret.owner.as_ref());
        let owner = living.iter().find(|(_, key)| owner.is_some_and(|owner| *owner == key.name));
        let first = owner.or_else(|| living.iter().min()).map(|(_, first)| first)?;
        (first != key).then(|| first.clone())
    }

    /// Secrets that this object made under another name than it makes now.
    pub fn strays(&self, key: &Key) -> Vec<(Key, OwnedSecret)> {
        let Some(target) = self.target(key) else { return Vec::new() };
        let others = self.strangers.get(key).into_iter().flatten().map(|name| key.sibling(name));
        let all = std::iter::once(key.clone()).chain(others).filter(|secret| *secret != target);
        all.filter_map(|secret| {
            let owned = self.secrets.get(&secret)?;
            let is_ours = owned.owner.as_ref() == Some(&key.name) && owned.is_applied && !owned.is_taken;
            (is_ours && !owned.is_deleting).then(|| (secret, owned.clone()))
        })
        .collect()
    }

    /// Whether the object is as its status says and its Secret as it was left: nothing is to be done, unless a fetch
    /// from Vault is due.
    pub fn is_settled(&self, key: &Key, keys: &KeyIndex) -> bool {
        let wanted = self.objects.get(key).and_then(|entry| entry.summary.vault.as_ref());
        wanted.is_none_or(|wanted| wanted.told != Told::Nothing && !wanted.is_refresh_asked) && self.is_right(key, keys)
    }

    /// Whether its Secret is as it was left, for this spec.
    pub fn is_right(&self, key: &Key, keys: &KeyIndex) -> bool {
        let Some(entry) = self.objects.get(key) else { return true };
        let summary = &entry.summary;
        if summary.is_deleting {
            return true;
        }
        let Some(known) = &summary.known else { return false };
        let Some(secret) = self.secrets.get(&key.sibling(&summary.target)) else { return false };
        let is_untouched = secret.resource_version == known.resource_version
            || (secret.shape.is_some() && secret.shape == summary.shape);
        is_untouched
            && secret.uid == known.uid
            && secret.is_labelled
            && !secret.is_taken
            && !secret.holds_copy
            && !secret.is_deleting
            && secret.owner.as_ref() == Some(&key.name)
            && summary.key_ids.iter().all(|id| keys.opens(*id))
            && self.rival(key).is_none()
            && self.strays(key).is_empty()
    }

    // === Vault ===

    /// Where the fetches of an object stand. None: it wants nothing of Vault.
    pub fn course(&mut self, key: &Key, now: Instant) -> Option<(&Wanted, &mut Course)> {
        let entry = self.objects.get_mut(key)?;
        let wanted = entry.summary.vault.as_deref()?;
        let begun = || Box::new(Course::begun(wanted.told, &wanted.cadence, now, Timestamp::now()));
        Some((wanted, entry.course.get_or_insert_with(begun)))
    }

    /// Forgets where fetches stand, except for what the statuses say.
    pub fn forget_courses(&mut self) {
        self.objects.values_mut().for_each(|entry| entry.course = None);
    }

    /// What to do about a fetch that is wanted now.
    pub fn gate(&mut self, key: &Key, now: Instant) -> Gate {
        self.course(key, now).map_or(Gate::Go, |(wanted, course)| course.gate(wanted.wish, now))
    }

    /// When the next fetch is due by itself.
    pub fn next_fetch(&mut self, key: &Key, now: Instant) -> Option<Instant> {
        self.course(key, now)?.1.next()
    }

    /// Whether an answer is what the status says already.
    pub fn is_old_news(&self, key: &Key, answer: &Answer) -> bool {
        let wanted = self.objects.get(key).and_then(|entry| entry.summary.vault.as_ref());
        wanted.zip(answer.result.as_ref().ok()).is_some_and(|(wanted, fetched)| {
            wanted.wish == answer.wish
                && wanted.told == Told::Synced
                && wanted.mac.as_deref() == Some(&*fetched.mac)
                && wanted.versions == versions_hash(&fetched.values.versions)
                && matches!(self.objects.get(key).map(|entry| entry.summary.ready), Some(Ready::Yes(_)))
        })
    }

    /// Whether an object has no Secret that is what its spec says: somebody waits for it.
    pub fn lacks_secret(&self, key: &Key) -> bool {
        self.summary(key).is_none_or(|summary| summary.known.is_none())
    }

    /// Has everything fetched again that uses this store and is meant, spread so that it does not bring the store down.
    /// `is_news`: something changed that a fetch depends on, also one that is under way. Gives when each object is to be
    /// looked at.
    pub fn fetch_again(
        &mut self,
        store: &StoreId,
        is_meant: impl Fn(&Key, &Course) -> bool,
        is_news: bool,
        per_second: u32,
        now: Instant,
    ) -> Vec<(Key, Instant)> {
        let uses = |entry: &Entry| entry.summary.vault.as_ref().is_some_and(|wanted| wanted.store == *store);
        let users = self.objects.iter().filter(|(_, entry)| uses(entry));
        // Whoever waits for a first Secret goes first.
        let mut users: Vec<_> = users.map(|(key, entry)| (entry.summary.known.is_some(), key.clone())).collect();
        users.retain(|(_, key)| self.course(key, now).is_some_and(|(_, course)| is_meant(key, course)));
        users.sort_unstable();
        let over = breaker::wake_over(users.len(), per_second);
        let step = over / u32::try_from(users.len()).unwrap_or(u32::MAX).max(1);
        let mut woken = Vec::with_capacity(users.len());
        for ((_, key), i) in users.into_iter().zip(0..) {
            let due = now + step * i;
            if let Some((_, course)) = self.course(&key, now) {
                course.wake(due);
                if is_news {
                    course.heard(now);
                }
            }
            woken.push((key, due));
        }
        woken
    }

    /// The stores that objects of a namespace use.
    pub fn stores_of(&self, namespace: &str) -> HashSet<StoreId> {
        let of = |(key, entry): (&Key, &Entry)| {
            (*key.namespace == *namespace).then(|| entry.summary.vault.as_ref().map(|wanted| wanted.store.clone()))?
        };
        self.objects.iter().filter_map(of).collect()
    }

    // === Contests ===

    /// Who keeps changing this object's Secret back, and how much longer its repair is put off.
    pub fn contest(&self, key: &Key, now: Instant) -> Option<(String, Duration)> {
        self.objects.get(key)?.contest.as_ref()?.wait(now)
    }

    /// A change by `manager` was repaired.
    pub fn repaired(&mut self, key: &Key, manager: &str, now: Instant) {
        if let Some(entry) = self.objects.get_mut(key) {
            entry.contest = Some(Box::new(Contest::repaired(entry.contest.as_deref(), manager, now)));
        }
    }
}

/// Takes the keys of a region out of a set.
fn taken(keys: &mut HashSet<Key>, region: Region<'_>) -> HashSet<Key> {
    match region {
        None => std::mem::take(keys),
        Some(_) => keys.extract_if(|key| key.is_in(region)).collect(),
    }
}

impl Entry {
    fn waiting(&self) -> usize {
        if self.full.is_some() { OVERHEAD + self.summary.size } else { 0 }
    }
}

impl Summary {
    fn of(object: &SealedSecret, key: &Key) -> Self {
        let target = object.target_name();
        let mut key_ids: Vec<KeyId> = object.spec.encrypted_data.values().filter_map(|token| key_id(token)).collect();
        key_ids.sort_unstable();
        key_ids.dedup();
        let mut summary = Self::unreadable(&object.metadata, key);
        if *target != *key.name {
            summary.target = target.into();
        }
        summary.is_readable = true;
        summary.size = size(object);
        summary.key_ids = key_ids.into();
        summary.shape = target::expected_shape(object);
        summary.known = known(object);
        summary.status = status_hash(object.status.as_ref());
        summary.ready = ready(object);
        summary.vault = wanted(object, key).map(Box::new);
        summary
    }

    fn unreadable(metadata: &ObjectMeta, key: &Key) -> Self {
        Self {
            uid: metadata.uid.as_deref().unwrap_or_default().into(),
            resource_version: metadata.resource_version.as_deref().unwrap_or_default().into(),
            generation: metadata.generation.unwrap_or_default(),
            created: metadata.creation_timestamp.as_ref().map(|time| time.0),
            is_deleting: metadata.deletion_timestamp.is_some(),
            is_readable: false,
            // Nobody knows.
            size: LARGEST,
            target: key.name.clone(),
            key_ids: Box::default(),
            shape: None,
            known: None,
            status: 0,
            ready: Ready::Unknown,
            vault: None,
        }
    }

    /// Whether its status says already, and of this spec, that it is not ready for this reason.
    pub fn is_told(&self, reason: SealedSecretReason) -> bool {
        self.ready == Ready::No(reason)
    }

    fn is_same_wish(&self, other: &Self) -> bool {
        self.uid == other.uid
            && self.generation == other.generation
            && self.is_deleting == other.is_deleting
            && self.is_readable == other.is_readable
            && self.vault.as_ref().map(|wanted| wanted.wish) == other.vault.as_ref().map(|wanted| wanted.wish)
    }
}

impl OwnedSecret {
    fn of(metadata: &ObjectMeta, key: &Key) -> Self {
        let owner = target::named_owner(metadata);
        let label = metadata.labels.as_ref().and_then(|labels| labels.get(OWNER_LABEL));
        let fields = Fields::read(metadata.managed_fields.as_ref());
        Self {
            uid: metadata.uid.as_deref().unwrap_or_default().into(),
            resource_version: metadata.resource_version.as_deref().unwrap_or_default().into(),
            is_labelled: owner.is_some_and(|owner| label == Some(&target::owner_label(owner))),
            owner: owner.map(|owner| if *owner == *key.name { key.name.clone() } else { owner.into() }),
            shape: fields.shape_if_ours_alone(),
            is_taken: target::other_controller(metadata, owner.unwrap_or_default()).is_some(),
            holds_copy: target::holds_copy(metadata, &fields),
            is_applied: fields.ours.contains(&Part::Type),
            is_deleting: metadata.deletion_timestamp.is_some(),
        }
    }
}

/// What the status says of the Secret, if the status is current, good, and made by this renderer.
fn known(object: &SealedSecret) -> Option<Known> {
    let status = object.status.as_ref()?;
    let secret = status.secret.as_ref()?;
    // With Vault, a Secret may be right and old.
    let is_good = condition::find(&status.conditions, condition::READY)
        .is_some_and(|ready| ready.status == condition::TRUE || ready.reason == SealedSecretReason::Stale.as_str());
    let is_current = status.observed_generation == object.metadata.generation
        && is_good
        && secret.name == object.target_name()
        && secret.inputs.as_deref() == Some(&status::inputs());
    let (uid, resource_version) = (secret.uid.as_deref()?, secret.resource_version.as_deref()?);
    is_current.then(|| Known { uid: uid.into(), resource_version: resource_version.into() })
}

/// What the object wants of Vault, and what its status says of that.
fn wanted(object: &SealedSecret, key: &Key) -> Option<Wanted> {
    let source = object.spec.vault.as_ref()?;
    let status = object.status.clone().unwrap_or_default();
    let synced = condition::find(&status.conditions, condition::VAULT_SYNCED);
    let told = match synced {
        Some(synced) if synced.status == condition::TRUE => Told::Synced,
        Some(synced) => Told::Failing(synced.last_transition_time.0),
        None => Told::Nothing,
    };
    let refresh = course::refresh_asked(&object.metadata);
    Some(Wanted {
        store: StoreId::referred_to(&source.store_ref, &key.namespace),
        wish: Wish::of(&object.metadata),
        cadence: Cadence::of(source, object.metadata.uid.as_deref().unwrap_or_default()),
        told,
        is_refresh_asked: refresh.is_some() && refresh != status.observed_refresh,
        mac: status.data_mac.map(Into::into),
        versions: versions_hash(&status.vault_versions),
    })
}

fn versions_hash(versions: &BTreeMap<String, i64>) -> u64 {
    let mut hasher = DefaultHasher::new();
    versions.hash(&mut hasher);
    hasher.finish()
}

/// What the status says of `Ready`, if it speaks of this spec.
fn ready(object: &SealedSecret) -> Ready {
    let Some(status) = object.status.as_ref().filter(|status| status.observed_generation == object.metadata.generation)
    else {
        return Ready::Unknown;
    };
    let ready = condition::find(&status.conditions, condition::READY);
    match ready.map(|ready| (ready.status == condition::TRUE, ready.reason.parse())) {
        Some((true, Ok(reason))) => Ready::Yes(reason),
        Some((false, Ok(reason))) => Ready::No(reason),
        _ => Ready::Unknown,
    }
}

/// The bytes of an object, but for its status.
fn size(object: &SealedSecret) -> usize {
    let ObjectMeta { labels, annotations, .. } = &object.metadata;
    let texts = labels.iter().chain(annotations).flatten().map(|(key, value)| key.len() + value.len());
    let mut spec = Counted(0);
    // Only a writer that fails could fail here.
    serde_json::to_writer(&mut spec, &object.spec).ok();
    spec.0 + texts.sum::<usize>()
}

/// Counts what is written.
struct Counted(usize);

impl std::io::Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The key id inside a token, read without judging the rest.
fn key_id(token: &str) -> Option<KeyId> {
    token.split('.').nth(1)?.parse().ok()
}

fn status_hash(status: Option<&SealedSecretStatus>) -> u64 {
    let mut hasher = DefaultHasher::new();
    status.map(|status| serde_json::to_string(status).unwrap_or_default()).hash(&mut hasher);
    hasher.finish()
}

fn version(metadata: &ObjectMeta) -> Option<u64> {
    metadata.resource_version.as_deref()?.parse().ok()
}

/// Resource versions of one object grow; only a restored etcd sets them back, and that ends the process.
fn is_older(resource_version: Option<&str>, than: &str) -> bool {
    let number = |version: &str| version.parse::<u64>().ok();
    match (resource_version.and_then(number), number(than)) {
        (Some(version), Some(than)) => version < than,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use seal_crds::condition::SealedSecretReason;
    use seal_envelope::RingKey;
    use serde_json::{Value, json};

    use super::*;
    use crate::{keys::OpenedRing, target::Desired};

    fn store() -> Store {
        Store::new(1 << 20)
    }

    fn key(name: &str) -> Key {
        Key::new("shop", name)
    }

    /// An object; `target` is what its Secret is called.
    fn object(name: &str, target: &str, generation: i64) -> SealedSecret {
        serde_json::from_value(json!({
            "apiVersion": "sealwright.dev/v1alpha1", "kind": "SealedSecret",
            "metadata": {
                "name": name, "namespace": "shop", "uid": format!("u-{name}"), "generation": generation,
                "resourceVersion": "10", "creationTimestamp": "2026-01-01T00:00:00Z",
            },
            "spec": {"sealedFor": {}, "encryptedData": {"a": "seal1.x"}, "target": {"name": target}},
        }))
        .unwrap()
    }

    /// The same after all went well.
    fn good(mut object: SealedSecret) -> SealedSecret {
        let verdict = status::Verdict {
            reason: SealedSecretReason::Synced,
            message: String::new(),
            is_stalled: false,
            secret: Some(seal_crds::sealed_secret::SecretStatus {
                name: object.target_name().to_owned(),
                uid: Some(format!("s-{}", object.target_name())),
                resource_version: Some("20".to_owned()),
                inputs: Some(status::inputs()),
            }),
            vault: None,
        };
        object.status = Some(status::next(&object, &verdict, Timestamp::UNIX_EPOCH));
        object
    }

    /// The metadata of the Secret that `object` makes.
    fn secret(object: &SealedSecret) -> ObjectMeta {
        let desired = Desired::new(object, [("a".to_owned(), Default::default())].into());
        ObjectMeta {
            name: Some(desired.name.clone()),
            namespace: Some(desired.namespace.clone()),
            uid: Some(format!("s-{}", desired.name)),
            resource_version: Some("20".to_owned()),
            managed_fields: Some(crate::fields::taken_over(&[], &desired.parts())),
            labels: Some(desired.labels),
            annotations: Some(desired.annotations),
            ..ObjectMeta::default()
        }
    }

    fn settled() -> (Store, SealedSecret) {
        let mut store = store();
        let object = good(object("db", "db", 1));
        store.list_object(Ok(object.clone()));
        store.list_secret(&secret(&object));
        assert!(store.is_settled(&key("db"), &KeyIndex::default()));
        (store, object)
    }

    fn woken(wake: Wake) -> Vec<String> {
        wake.into_iter().map(|(key, _)| key.name.to_string()).collect()
    }

    #[test]
    fn a_foreign_label_leaves_an_object_settled_and_everything_else_does_not() {
        type Change = fn(&mut ObjectMeta);
        let table: [(Change, bool); 10] = [
            (|_| {}, true),
            (
                |meta| {
                    let theirs =
                        json!([{"apiVersion": "a/v1", "kind": "B", "name": "db", "uid": "u", "controller": true}]);
                    meta.owner_references = serde_json::from_value(theirs).unwrap();
                },
                false,
            ),
            (|meta| drop(meta.annotations.as_mut().unwrap().insert(target::LAST_APPLIED.into(), "{}".into())), false),
            (|meta| drop(meta.labels.as_mut().unwrap().insert("team".into(), "x".into())), true),
            (|meta| meta.managed_fields = None, false),
            (|meta| meta.uid = Some("another".into()), false),
            (|meta| drop(meta.labels.as_mut().unwrap().insert(OWNER_LABEL.into(), "x".into())), false),
            (|meta| meta.annotations = None, false),
            (
                |meta| {
                    let theirs =
                        json!([{"manager": "edit", "operation": "Update", "fieldsV1": {"f:data": {"f:a": {}}}}]);
                    let theirs: Vec<_> = serde_json::from_value(theirs).unwrap();
                    meta.managed_fields.as_mut().unwrap().extend(theirs);
                },
                false,
            ),
            (
                |meta| {
                    let time = k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::UNIX_EPOCH);
                    meta.deletion_timestamp = Some(time);
                },
                false,
            ),
        ];
        for (i, (change, expected)) in table.into_iter().enumerate() {
            let (mut store, object) = settled();
            let mut metadata = secret(&object);
            metadata.resource_version = Some("21".into());
            change(&mut metadata);
            store.apply_secret(&metadata);
            assert_eq!(store.is_settled(&key("db"), &KeyIndex::default()), expected, "case {i}");
        }
    }

    #[test]
    fn a_status_that_is_old_bad_or_of_another_renderer_is_not_settled() {
        type Change = fn(&mut SealedSecret);
        let table: [Change; 4] = [
            |object| object.metadata.generation = Some(2),
            |object| object.status.as_mut().unwrap().conditions[0].status = "False".into(),
            |object| object.status.as_mut().unwrap().secret.as_mut().unwrap().inputs = None,
            |object| object.status = None,
        ];
        for (i, change) in table.into_iter().enumerate() {
            let (mut store, mut object) = settled();
            change(&mut object);
            assert_eq!(woken(store.apply_object(Ok(object))), ["db"], "case {i}");
            assert!(!store.is_settled(&key("db"), &KeyIndex::default()), "case {i}");
        }
    }

    #[test]
    fn an_object_is_settled_only_while_its_keys_open() {
        let ring_key = RingKey::generate().unwrap();
        let mut object = object("db", "db", 1);
        object.spec.encrypted_data.insert("a".into(), format!("seal1.{}.x.y", ring_key.id()));
        let object = good(object);
        let mut store = store();
        store.list_object(Ok(object.clone()));
        store.list_secret(&secret(&object));
        assert!(!store.is_settled(&key("db"), &KeyIndex::default()));
        assert_eq!(store.sealed_to(&[ring_key.id()]), [key("db")]);

        let opened = crate::keys::rings::OpenedKey {
            id: ring_key.id(),
            opened: Some((ring_key, "cluster".into())),
            is_proven: true,
            is_disabled: false,
        };
        let ring = OpenedRing {
            name: "prod".into(),
            keys: vec![opened],
            members: Vec::new(),
            reason: seal_crds::condition::KeyRingReason::Opened,
            message: String::new(),
            recoverable: seal_crds::condition::RecoverableReason::OtherMembers,
        };
        assert!(store.is_settled(&key("db"), &KeyIndex::new(&[ring]).0));
    }

    #[test]
    fn the_echo_of_our_own_status_wakes_nobody() {
        let mut store = store();
        assert_eq!(woken(store.apply_object(Ok(object("db", "db", 1)))), ["db"]);
        let mut told = good(object("db", "db", 1));
        told.metadata.resource_version = Some("11".into());
        store.intend_status(&key("db"), told.status.as_ref().unwrap());
        assert!(store.apply_object(Ok(told.clone())).is_empty());

        told.status = None;
        told.metadata.resource_version = Some("12".into());
        assert_eq!(woken(store.apply_object(Ok(told.clone()))), ["db"], "somebody wiped the status");
        told.metadata.generation = Some(2);
        told.metadata.resource_version = Some("11".into());
        assert!(store.apply_object(Ok(told)).is_empty(), "an older version is no news");
    }

    #[test]
    fn what_is_missing_from_a_list_is_gone() {
        let (mut store, _) = settled();
        store.list_object(Ok(object("other", "db", 1)));
        store.begin_objects(None);
        store.list_object(Ok(object("other", "db", 1)));
        assert_eq!(woken(store.end_objects(None)), ["other"], "its rival is gone");
        assert_eq!(store.len(), 1);
        store.begin_secrets(None);
        assert_eq!(woken(store.end_secrets(None)), ["other"]);
        assert!(store.secret(&key("db")).is_none());
    }

    #[test]
    fn a_list_of_one_namespace_says_nothing_of_another() {
        let (mut store, _) = settled();
        let mut elsewhere = object("db", "db", 1);
        elsewhere.metadata.namespace = Some("bank".into());
        store.begin_objects(Some("bank"));
        store.begin_objects(Some("shop"));
        store.list_object(Ok(elsewhere.clone()));
        assert!(store.end_objects(Some("bank")).is_empty());
        assert_eq!(store.len(), 2);
        store.end_objects(Some("shop"));
        assert_eq!(store.keys().collect::<Vec<_>>(), [&Key::new("bank", "db")]);
        store.begin_secrets(Some("bank"));
        store.end_secrets(Some("bank"));
        assert!(store.secret(&key("db")).is_some());
    }

    #[test]
    fn of_two_with_one_target_the_owner_goes_first_and_else_the_oldest() {
        let mut store = store();
        let mut younger = object("a", "db", 1);
        younger.metadata.creation_timestamp = serde_json::from_value(Value::from("2026-06-01T00:00:00Z")).unwrap();
        store.list_object(Ok(younger.clone()));
        store.list_object(Ok(object("z", "db", 1)));
        assert_eq!((store.rival(&key("a")), store.rival(&key("z"))), (Some(key("z")), None));

        store.list_secret(&secret(&younger));
        assert_eq!((store.rival(&key("a")), store.rival(&key("z"))), (None, Some(key("a"))));
        assert_eq!(woken(store.remove_object(&key("a"))), ["z"]);
        assert_eq!(store.rival(&key("z")), None);
    }

    #[test]
    fn a_secret_under_an_old_name_is_a_stray() {
        let mut store = store();
        let before = object("db", "old", 1);
        store.list_object(Ok(before.clone()));
        store.list_secret(&secret(&before));
        assert!(store.strays(&key("db")).is_empty());
        store.apply_object(Ok(object("db", "new", 2)));
        let strays: Vec<_> = store.strays(&key("db")).into_iter().map(|(stray, _)| stray).collect();
        assert_eq!(strays, [key("old")]);

        let mut taken = secret(&before);
        let theirs = json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "db", "uid": "u", "controller": true}]);
        taken.owner_references = serde_json::from_value(theirs).unwrap();
        taken.resource_version = Some("25".into());
        store.apply_secret(&taken);
        assert!(store.strays(&key("db")).is_empty(), "another controller has taken it over");

        let mut copy = secret(&before);
        copy.managed_fields = None;
        copy.resource_version = Some("30".into());
        store.apply_secret(&copy);
        assert!(store.strays(&key("db")).is_empty(), "a copy that somebody made is theirs");
        store.remove_secret(&key("old"));
        assert!(store.strays(&key("db")).is_empty());
    }

    #[test]
    fn an_answer_that_comes_after_the_deletion_brings_nothing_back() {
        let (mut store, object) = settled();
        let gone = ObjectMeta { resource_version: Some("30".into()), ..secret(&object) };
        assert_eq!(woken(store.delete_secret(&gone)), ["db"]);
        store.answered_secret(&secret(&object));
        assert!(store.secret(&key("db")).is_none());
        assert!(!store.is_settled(&key("db"), &KeyIndex::default()), "the Secret is missed");

        let mut deleted = object.metadata.clone();
        deleted.resource_version = Some("31".into());
        store.delete_object(&deleted);
        store.answered_object(Ok(object));
        assert!(store.is_empty(), "or it would stand in another object's way for ever");
    }

    #[test]
    fn an_answer_that_comes_before_its_event_counts() {
        let (mut store, object) = settled();
        let written = ObjectMeta { resource_version: Some("40".into()), ..secret(&object) };
        store.answered_secret(&written);
        assert_eq!(&*store.secret(&key("db")).unwrap().resource_version, "40");
        assert!(store.apply_secret(&written).is_empty(), "its echo is no news");
    }

    #[test]
    fn objects_wait_within_a_budget() {
        let mut store = Store::new(3000);
        store.list_object(Ok(object("a", "a", 1)));
        store.list_object(Ok(object("b", "b", 1)));
        store.list_object(Ok(good(object("c", "c", 1))));
        assert!(store.take_full(&key("a")).is_some() && store.take_full(&key("a")).is_none());
        assert!(store.take_full(&key("b")).is_none(), "the budget was used up");
        assert!(store.take_full(&key("c")).is_none(), "it needs nothing");
        store.apply_object(Ok(object("b", "b", 2)));
        assert!(store.take_full(&key("b")).is_some(), "there is room again");
    }

    #[test]
    fn a_template_and_annotations_count_as_waiting_and_nothing_waits_where_another_leads() {
        let large = "x".repeat(3000);
        let mut template = object("t", "t", 1);
        template.spec.template =
            serde_json::from_value(json!({"data": {"url": large}, "metadata": {"annotations": {}}})).unwrap();
        let mut annotated = object("n", "n", 1);
        annotated.metadata.annotations = Some([("note".to_owned(), large)].into());
        for object in [template, annotated] {
            let mut store = Store::new(3000);
            let key = Key::of(&object.metadata);
            store.list_object(Ok(object));
            assert!(store.take_full(&key).is_none(), "{key} is larger than the budget");
        }
        let mut store = store();
        store.list_object(Ok(object("a", "a", 1)));
        let mut annotated = object("a", "a", 1);
        annotated.metadata.annotations = Some([("note".to_owned(), "x".repeat(9000))].into());
        annotated.metadata.resource_version = Some("99".into());
        assert!(store.apply_object(Ok(annotated)).is_empty(), "an annotation is no news");
        store.keep_waiting(false);
        store.list_object(Ok(object("b", "b", 1)));
        assert!(["a", "b"].iter().all(|name| store.take_full(&key(name)).is_none()));
        store.keep_waiting(true);
        store.apply_object(Ok(object("b", "b", 2)));
        assert!(store.take_full(&key("b")).is_some());
    }

    #[test]
    fn an_object_that_cannot_be_read_is_there_all_the_same() {
        let mut store = store();
        let metadata = object("db", "db", 1).metadata;
        assert_eq!(woken(store.list_object(Err(Box::new(metadata)))), ["db"]);
        assert!(!store.summary(&key("db")).unwrap().is_readable);
        assert!(!store.is_settled(&key("db"), &KeyIndex::default()));
    }
}
