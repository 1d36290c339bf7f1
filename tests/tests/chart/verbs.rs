//! Each verb that the chart gives the controller is needed: without it something stands still, and goes on with it.
//!
//! What fetching from Vault takes is tried in the suite `vault`.

use std::sync::Arc;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Event, Secret};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams};
use seal_crds::condition::{READY, is_true};
use seal_crds::{CLUSTER_CONFIG_MAP, KeyRing};
use seal_tests::helm::Helm;
use seal_tests::install::{self, CONTROLLER, NAMESPACE};
use seal_tests::laptop::secret_manifest;
use seal_tests::rights::{self, Less, each_verb};
use seal_tests::{Context, Controller, Result, Space, Stage, anyhow, ensure, in_cluster, manifests, wait};
use serde_json::json;

/// What stands still without a right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    /// A new object becomes a Secret.
    Make,
    /// Its status says so.
    Tell,
    /// An Event says so.
    Announce,
    /// A Secret that somebody changed is put right.
    Repair,
    /// A Secret that is to have another name is gone under its old one.
    Rename,
    /// An identity is made and published, and a first ring.
    Begin,
    /// The status of that ring says whether it opens.
    TellOfRing,
    /// An Event says so.
    AnnounceRing,
}

use Deed::{Announce, AnnounceRing, Begin, Make, Rename, Repair, Tell, TellOfRing};

/// In a namespace that is served.
const SERVING: [Deed; 5] = [Make, Tell, Announce, Repair, Rename];
/// In the controller's own.
const BEGINNING: [Deed; 3] = [Begin, TellOfRing, AnnounceRing];

/// What each right is for.
fn deed_of(less: &Less) -> Result<Deed> {
    let is_home = less.namespace().is_some_and(|namespace| namespace == NAMESPACE);
    Ok(match (&*less.resource, &*less.verb) {
        ("customresourcedefinitions" | "sealedsecrets", "list" | "watch") => Make,
        // What was looked at is not held in memory.
        ("sealedsecrets", "get") => Repair,
        ("sealedsecrets/status", "patch") => Tell,
        ("secrets", "list" | "watch" | "create") if is_home => Begin,
        ("secrets", "create" | "patch") => Make,
        ("secrets", "get" | "list" | "watch") => Repair,
        ("secrets", "delete") => Rename,
        ("events", "create") if is_home => AnnounceRing,
        ("events", "create") => Announce,
        // What is there already is opened without.
        ("keyrings", "watch") => TellOfRing,
        ("keyrings", "list" | "create" | "patch") => Begin,
        ("keyrings/status", "patch") => TellOfRing,
        ("configmaps", "get" | "create" | "patch") if is_home => Begin,
        ("leases", "get" | "create" | "update") if is_home => Begin,
        _ => return Err(anyhow!("{less} is for nothing that is known here")),
    })
}

/// A namespace that lacks a right, or none.
struct Trial {
    space: Space,
    less: Option<(Less, Deed)>,
}

#[test]
fn without_any_one_of_its_verbs_the_controller_leaves_something_undone() {
    in_cluster(rights::plane(), |space| async move {
        // With Vault, ConfigMaps may be read anyway.
        let objects = Helm::find()?.template(&["--set", "vault.enabled=false"])?;
        install::chart(&space.client, &objects).await?;
        let (mut home, mut served) = (Vec::new(), Vec::new());
        for role in roles(&objects) {
            for less in each_verb(role)? {
                let deed = deed_of(&less)?;
                if BEGINNING.contains(&deed) { &mut home } else { &mut served }.push((less, deed));
            }
        }
        let village = Village::settle(space).await?;
        for less in served {
            let space = Space::make(village.stage.space.plane.clone()).await?;
            village.miss(&[Trial { space, less: Some(less) }]).await?;
        }
        village.miss_at_home(&home).await
    });
}

#[test]
fn nor_is_there_a_verb_too_many_where_it_serves_some_namespaces() {
    in_cluster(rights::plane(), |space| async move {
        // Every namespace lacks another verb, and one lacks none.
        let verbs = Helm::find()?.template(&["--set", "namespaces={any}"])?;
        let verbs = each_verb(role_in(&verbs, "any")?)?.len();
        let spaces = (0..=verbs).map(|number| Space::named(space.plane.clone(), format!("lacking-{number}")));
        let spaces = futures::future::try_join_all(spaces).await?;
        let names: Vec<_> = spaces.iter().map(|space| &*space.name).collect();
        let objects = Helm::find()?.template(&["--set", &format!("namespaces={{{}}}", names.join(","))])?;
        install::chart(&space.client, &objects).await?;
        let mut trials = Vec::new();
        for (number, space) in spaces.into_iter().enumerate() {
            let less = each_verb(role_in(&objects, &space.name)?)?.into_iter().nth(number);
            let less = less.map(|less| deed_of(&less).map(|deed| (less, deed))).transpose()?;
            trials.push(Trial { space, less });
        }
        let village = Village::settle(space).await?;
        village.miss(&trials).await?;
        let home = each_verb(role_in(&objects, NAMESPACE)?)?;
        let home: Result<Vec<_>> = home.into_iter().map(|less| deed_of(&less).map(|deed| (less, deed))).collect();
        village.miss_at_home(&home?).await
    });
}

/// The roles that are the controller's.
fn roles(objects: &[DynamicObject]) -> impl Iterator<Item = &DynamicObject> {
    objects.iter().filter(|object| {
        let is_role = ["Role", "ClusterRole"].contains(&manifests::kind_of(object));
        is_role && [CONTROLLER, "seal-controller-served"].contains(&object.name_any().as_str())
    })
}

fn role_in<'a>(objects: &'a [DynamicObject], namespace: &str) -> Result<&'a DynamicObject> {
    let found = roles(objects).find(|role| role.namespace().as_deref() == Some(namespace));
    found.with_context(|| format!("a role in {namespace}"))
}

/// Where it is tried: a cluster with the chart and a ring, and objects that open in every namespace.
struct Village {
    stage: Stage,
    object: DynamicObject,
}

impl Village {
    async fn settle(space: Space) -> Result<Self> {
        let controller = Controller::start(&space.plane, CONTROLLER, &[]).await?;
        let stage = Stage::set(space).await?;
        controller.end().await?;
        let sealed = secret_manifest(&stage.space.name, "any", &[("a", "1")])?;
        let sealed = stage.laptop.seal_with(&["--scope", "cluster"], sealed)?;
        let object = manifests::parse(&sealed)?.pop().context("one document")?;
        let village = Self { stage, object };
        village.done(&village.stage.space, &BEGINNING).await?;
        Ok(village)
    }

    /// Takes from each namespace what it is to lack, has the controller begin anew, and gives everything to do. What was
    /// refused stays undone, and gets done with the right.
    async fn miss(&self, trials: &[Trial]) -> Result<()> {
        let (plane, client) = (&self.stage.space.plane, &self.stage.space.client);
        let controller = Controller::start(plane, CONTROLLER, &[]).await?;
        for Trial { space, .. } in trials {
            self.apply(space, "old", None).await?;
            self.apply(space, "moved", None).await?;
        }
        for Trial { space, .. } in trials {
            for name in ["old", "moved"] {
                wait::until("it is there", || async { is_told(&self.at(space), name).await }).await?;
            }
        }
        controller.end().await?;
        let lacking: Vec<_> = trials.iter().filter_map(|trial| Some((&trial.space, trial.less.as_ref()?))).collect();
        for (_, (less, _)) in &lacking {
            less.take(client).await?;
        }
        let before = plane.audited(0)?.len();
        let controller = Controller::spawn(plane, CONTROLLER, &[]).await?;
        if lacking.iter().all(|(_, (less, _))| less.namespace().is_some() || !["list", "watch"].contains(&&*less.verb))
        {
            controller.ready().await?;
            wait::until("it has looked at everything", || async {
                Ok((controller.metric("sealwright_queue_depth", &[]).await? == 0.0).then_some(()))
            })
            .await?;
        }
        for Trial { space, .. } in trials {
            self.give_work(space).await?;
        }
        for trial in trials.iter().filter(|trial| trial.less.is_none()) {
            self.done(&trial.space, &SERVING).await?;
        }
        for (space, (less, deed)) in &lacking {
            less.is_missed(plane, before).await?;
            ensure!(self.is_done(space, *deed).await?.is_none(), "{deed:?} is done without {less}");
        }
        for (space, (less, _)) in &lacking {
            less.give(client).await?;
            // An Event that was refused is not told again.
            self.apply(space, "late", None).await?;
        }
        for (space, (less, _)) in &lacking {
            self.done(space, &SERVING).await.with_context(|| format!("with {less} again"))?;
            self.at(space).sealed().delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
        }
        controller.end().await
    }

    fn at(&self, space: &Space) -> Stage {
        Stage { space: space.clone(), laptop: Arc::clone(&self.stage.laptop), ring: self.stage.ring.clone() }
    }

    async fn apply(&self, space: &Space, name: &str, target: Option<&str>) -> Result<()> {
        let mut object = self.object.clone();
        object.metadata.name = Some(name.to_owned());
        object.metadata.namespace = Some(space.name.clone());
        object.data["spec"]["target"] = json!({"name": target.unwrap_or(name)});
        manifests::apply(&space.client, &[object]).await.map(drop)
    }

    async fn give_work(&self, space: &Space) -> Result<()> {
        self.apply(space, "new", None).await?;
        self.apply(space, "moved", Some("moved-on")).await?;
        self.at(space).meddle("old", json!({"data": {"a": "bWluZQ=="}})).await.map(drop)
    }

    async fn done(&self, space: &Space, deeds: &[Deed]) -> Result<()> {
        for deed in deeds {
            let what = format!("{deed:?} is done in {}", space.name);
            wait::until(&what, || async { self.is_done(space, *deed).await }).await?;
        }
        Ok(())
    }

    async fn is_done(&self, space: &Space, deed: Deed) -> Result<Option<()>> {
        let stage = self.at(space);
        let is_done = match deed {
            Make => stage.data("new").await?.is_some(),
            Tell => return is_told(&stage, "new").await,
            Announce => !stage.events("new").await?.is_empty() || !stage.events("late").await?.is_empty(),
            Repair => stage.data("old").await?.is_some_and(|data| data["a"] == "1"),
            Rename => stage.data("moved").await?.is_none() && stage.data("moved-on").await?.is_some(),
            Begin => {
                let configs: Api<ConfigMap> = Api::namespaced(space.client.clone(), NAMESPACE);
                configs.get_opt(CLUSTER_CONFIG_MAP).await?.is_some()
                    && stage.rings().get_opt("default").await?.is_some()
            }
            TellOfRing => {
                let ring = stage.rings().get_opt("default").await?;
                ring.is_some_and(|ring| ring.status.is_some_and(|told| is_true(&told.conditions, READY)))
            }
            AnnounceRing => {
                let events: Api<Event> = Api::namespaced(space.client.clone(), NAMESPACE);
                !events.list(&ListParams::default()).await?.items.is_empty()
            }
        };
        Ok(is_done.then_some(()))
    }

    /// The same for what a first start takes, which was seen to be enough when the village was settled.
    async fn miss_at_home(&self, lacking: &[(Less, Deed)]) -> Result<()> {
        let Space { plane, client, .. } = &self.stage.space;
        for (less, deed) in lacking {
            forget(&self.stage.space).await?;
            if less.verb == "update" {
                // A lease that is there is taken over and not made.
                let holder = Controller::start(plane, CONTROLLER, &[]).await?;
                self.done(&self.stage.space, &[Begin]).await?;
                holder.end().await?;
                forget(&self.stage.space).await?;
            } else {
                let leases: Api<Lease> = Api::namespaced(client.clone(), NAMESPACE);
                leases.delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
            }
            less.take(client).await?;
            let before = plane.audited(0)?.len();
            let controller = Controller::spawn(plane, CONTROLLER, &[]).await?;
            less.is_missed(plane, before).await?;
            controller.end().await?;
            ensure!(self.is_done(&self.stage.space, *deed).await?.is_none(), "{deed:?} is done without {less}");
            less.give(client).await?;
        }
        Ok(())
    }
}

async fn is_told(stage: &Stage, name: &str) -> Result<Option<()>> {
    let object = stage.sealed().get(name).await?;
    let status = object.status.unwrap_or_default();
    let is_told = status.observed_generation == object.metadata.generation && is_true(&status.conditions, READY);
    Ok(is_told.then_some(()))
}

/// As if there had never been a controller: identity, rings, what it has published and told. The lease stays.
async fn forget(space: &Space) -> Result<()> {
    let (client, all) = (&space.client, ListParams::default());
    let gone = DeleteParams::default();
    Api::<KeyRing>::namespaced(client.clone(), NAMESPACE).delete_collection(&gone, &all).await?;
    Api::<Secret>::namespaced(client.clone(), NAMESPACE).delete_collection(&gone, &all).await?;
    Api::<ConfigMap>::namespaced(client.clone(), NAMESPACE).delete_collection(&gone, &all).await?;
    Api::<Event>::namespaced(client.clone(), NAMESPACE).delete_collection(&gone, &all).await?;
    Ok(())
}
