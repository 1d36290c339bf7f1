//! Whether the CRDs in the cluster know every field that this controller writes.
//!
//! ```text
//! watch of each CRD's metadata -> its schema number -> may we write? + what /readyz, a metric and an Event say
//! ```
//!
//! Who may not watch definitions, because only some namespaces are served, looks at what is published of them (`schema/published.rs`).
//!
//! An older CRD prunes fields that it does not know on every status write, and for good
//! (`docs/design/controller.md` 8), so under one nothing is written, and that is said. What is read under it is pruned
//! as well: whoever watches our kinds begins anew when it is right again, see [`while_right`].

mod published;

use std::future::Future;

use futures::{StreamExt, stream};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, Client, CustomResourceExt, Resource, ResourceExt,
    api::PartialObjectMeta,
    runtime::{WatchStreamExt, watcher},
};
use seal_crds::{KeyRing, SCHEMA, SCHEMA_ANNOTATION, SealedSecret, VaultStore};
use tokio::sync::watch;
use tracing::{error, info, warn};

use crate::{
    realm::Realm,
    report::Report,
    rewatch::{Soon, cause},
};

type Crd = PartialObjectMeta<CustomResourceDefinition>;

/// What is known of one CRD.
#[derive(Debug, Default)]
enum Seen {
    /// Nothing yet.
    #[default]
    Unknown,
    /// It is not installed.
    Absent,
    /// It is installed.
    Present(Box<Crd>),
}

/// One CRD, and whether the list that is coming has shown it.
#[derive(Debug, Default)]
struct Definition {
    seen: Seen,
    is_listed: bool,
}

/// Where it is said whether the CRDs are right.
pub struct Notice {
    /// Whether anything may be written.
    pub is_right: watch::Sender<bool>,
    /// What is wrong, for `/readyz`; none if nothing is.
    pub hindrance: watch::Sender<Option<String>>,
    /// For the metric and the Event.
    pub report: Report,
}

/// Keeps `notice` true to the cluster, with the rights that serving `realm` takes; ends only with the process.
pub async fn keep(client: Client, realm: Realm, notice: Notice) {
    match realm {
        Realm::Cluster => watch(client, notice).await,
        Realm::Namespaces(_) => published::keep(client, notice).await,
    }
}

async fn watch(client: Client, notice: Notice) {
    let names = [SealedSecret::crd_name(), KeyRing::crd_name(), VaultStore::crd_name()];
    let mut definitions: [Definition; 3] = Default::default();
    let events = names.iter().enumerate().map(|(index, name)| {
        let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
        let events = watcher(Api::<Crd>::all(client.clone()), config).backoff(Soon::default());
        events.map(move |event| (index, event)).boxed()
    });
    let mut events = stream::select_all(events);
    while let Some((index, event)) = events.next().await {
        match event {
            Ok(event) => definitions[index].see(event),
            // What was right stays right while the API server cannot be asked.
            Err(error) => warn!(what = names[index], cause = cause(error).text(), "a watch failed and is begun again"),
        }
        notice.say(names.iter().copied().zip(definitions.iter().map(|definition| &definition.seen)));
    }
}

impl Definition {
    fn see(&mut self, event: watcher::Event<Crd>) {
        match event {
            watcher::Event::Init => self.is_listed = false,
            watcher::Event::InitApply(crd) | watcher::Event::Apply(crd) => {
                self.is_listed = true;
                self.seen = Seen::Present(Box::new(crd));
            }
            watcher::Event::InitDone if self.is_listed => {}
            watcher::Event::InitDone | watcher::Event::Delete(_) => self.seen = Seen::Absent,
        }
    }
}

impl Notice {
    fn say<'a>(&self, seen: impl Iterator<Item = (&'a str, &'a Seen)>) {
        let mut is_known = true;
        let mut hindrance = None;
        for (name, seen) in seen {
            is_known &= !matches!(seen, Seen::Unknown);
            hindrance = hindrance.or_else(|| wrong(name, seen).map(|why| (why, seen)));
        }
        if !is_known {
            return;
        }
        let (why, seen) = hindrance.unzip();
        let crd = seen.and_then(|seen| if let Seen::Present(crd) = seen { Some(&**crd) } else { None });
        self.tell(why, crd);
    }

    /// Says what is wrong, and with which definition, or that nothing is.
    fn tell(&self, why: Option<String>, crd: Option<&Crd>) {
        let is_right = why.is_none();
        if self.hindrance.send_if_modified(|before| std::mem::replace(before, why.clone()) != why)
            && let Some(why) = &why
        {
            error!("nothing is written: {why}; apply the CRDs of this version");
            if let Some(crd) = crd {
                self.report.outdated(crd.object_ref(&()), why);
            }
        }
        self.report.metrics.crds_right(is_right);
        let is_news = self.is_right.send_if_modified(|before| std::mem::replace(before, is_right) != is_right);
        if is_news && is_right {
            info!(schema = SCHEMA, "the CRDs are right");
        }
    }
}

/// What is wrong with a CRD that was looked for.
fn wrong(name: &str, seen: &Seen) -> Option<String> {
    let Seen::Present(crd) = seen else { return Some(format!("CRD {name} is not installed")) };
    let number = crd.annotations().get(SCHEMA_ANNOTATION).and_then(|number| number.parse::<u32>().ok());
    number.is_none_or(|number| number < SCHEMA).then(|| {
        let number = number.map_or_else(|| "none".to_owned(), |number| number.to_string());
        format!("CRD {name} has schema number {number}, this controller needs {SCHEMA}")
    })
}

/// Runs a watch of one of our kinds while the CRDs are right, and begins it anew each time they become so.
///
/// Under an older CRD the API server gives objects without the fields that it does not know, under the
/// resourceVersions that the whole ones have: nothing would ever tell that more is there.
pub async fn while_right<F: Future<Output = ()>>(
    mut is_right: watch::Receiver<bool>,
    synced: &watch::Sender<bool>,
    begin: impl Fn() -> F,
) {
    while is_right.wait_for(|is_right| *is_right).await.is_ok() {
        // Not only while it is false: that may go unseen where it is true again at once.
        is_right.mark_unchanged();
        tokio::select! {
            () = begin() => return,
            changed = is_right.changed() => if changed.is_err() { return },
        }
        synced.send_replace(false);
    }
}

#[cfg(test)]
mod tests {
    use kube::core::ObjectMeta;

    use super::*;

    fn crd(number: Option<&str>) -> Crd {
        let annotations = number.map(|number| [(SCHEMA_ANNOTATION.to_owned(), number.to_owned())].into());
        Crd { metadata: ObjectMeta { annotations, ..ObjectMeta::default() }, ..Crd::default() }
    }

    #[test]
    fn only_a_definition_with_this_schema_number_or_a_higher_one_is_right() {
        let right = SCHEMA.to_string();
        let later = (SCHEMA + 1).to_string();
        for (number, is_right) in
            [(Some(&*right), true), (Some(&*later), true), (Some("0"), false), (Some("x"), false), (None, false)]
        {
            let mut definition = Definition::default();
            definition.see(watcher::Event::Init);
            assert!(matches!(definition.seen, Seen::Unknown));
            definition.see(watcher::Event::InitApply(crd(number)));
            definition.see(watcher::Event::InitDone);
            assert_eq!(wrong("x", &definition.seen).is_none(), is_right, "{number:?}");
            // A list without it, after a break of the watch.
            definition.see(watcher::Event::Init);
            definition.see(watcher::Event::InitDone);
            assert_eq!(wrong("x", &definition.seen).as_deref(), Some("CRD x is not installed"));
            definition.see(watcher::Event::Apply(crd(number)));
            definition.see(watcher::Event::Delete(crd(number)));
            assert!(matches!(definition.seen, Seen::Absent));
        }
    }

    #[tokio::test]
    async fn a_watch_begins_anew_whenever_the_definitions_become_right_even_if_at_once() {
        let (right, is_right) = watch::channel(false);
        let (synced, _kept) = watch::channel(false);
        let (begun, mut beginnings) = watch::channel(0);
        tokio::spawn(async move {
            while_right(is_right, &synced, || async {
                begun.send_modify(|times| *times += 1);
                std::future::pending().await
            })
            .await;
        });
        assert_eq!(*beginnings.borrow_and_update(), 0);
        right.send_replace(true);
        beginnings.wait_for(|times| *times == 1).await.unwrap();
        right.send_replace(false);
        right.send_replace(true);
        beginnings.wait_for(|times| *times == 2).await.unwrap();
    }
}
