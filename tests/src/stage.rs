//! Everything that a journey needs: a namespace, a laptop with a Git repository, a ring that the cluster can open.
//!
//! laptop: `seal` -> file -> Git -> [`Stage::apply`] -> controller -> Secret -> [`Stage::holds`].

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Event, ResourceQuota, Secret};
use kube::api::{Api, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::{Client, Resource, ResourceExt};
use seal_crds::condition::{READY, SealedSecretReason, find};
use seal_crds::{CLUSTER_CONFIG_MAP, KeyRing, SealedSecret};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::controller::Controller;
use crate::install::{self, CONTROLLER, NAMESPACE};
use crate::laptop::{Laptop, secret_manifest};
use crate::space::Space;
use crate::{ControlPlane, manifests, wait};

/// The file with the recovery identity on the laptop: beside the repository, never in it.
pub const RECOVERY: &str = "../recovery.txt";

/// One test's side of the world.
pub struct Stage {
    /// Where its objects are.
    pub space: Space,
    /// The person's side.
    pub laptop: Arc<Laptop>,
    /// The name of the ring that the laptop seals to: the namespace's, so that every test has its own.
    pub ring: String,
}

/// The controller that the tests of one binary share.
pub async fn shared_controller(plane: &ControlPlane) -> Result<Arc<Controller>> {
    static SHARED: OnceCell<Arc<Controller>> = OnceCell::const_new();
    let started = SHARED.get_or_try_init(|| async {
        install::everything(&plane.client().await?).await?;
        Controller::start(plane, CONTROLLER, &[]).await.map(Arc::new)
    });
    started.await.map(Arc::clone)
}

impl Stage {
    /// Sets the stage on the shared cluster, with the shared controller.
    pub async fn shared(space: Space) -> Result<(Self, Arc<Controller>)> {
        let controller = shared_controller(&space.plane).await?;
        Ok((Self::set(space).await?, controller))
    }

    /// Sets the stage on a cluster where a controller runs: makes a ring for it and a recovery identity, and applies
    /// that ring.
    pub async fn set(space: Space) -> Result<Self> {
        let laptop = Arc::new(Laptop::new(space.plane.kubeconfig())?);
        let recovery = laptop.seal(&["keygen", "-w", RECOVERY])?;
        laptop.write("recovery.pub", recovery)?;
        laptop.write("cluster.pub", cluster_recipient(&space.client).await?)?;
        let ring = space.name.clone();
        let stage = Self { space, laptop, ring };
        let members = ["--member", "cluster=cluster.pub", "--member", "recovery=recovery.pub"];
        stage.laptop.seal(&[&["ring", "new", stage.ring.as_str()][..], &members].concat())?;
        stage.laptop.commit("our ring")?;
        stage.apply(&stage.ring_file()).await?;
        stage.ring_is("Opened").await?;
        Ok(stage)
    }

    /// The ring's file on the laptop.
    pub fn ring_file(&self) -> String {
        format!(".seal/keyrings/{}.yaml", self.ring)
    }

    /// Seals a new file, named after the Secret, and commits it.
    pub fn seal(&self, name: &str, data: &[(&str, &str)]) -> Result<String> {
        let file = format!("{name}.yaml");
        let manifest = secret_manifest(&self.space.name, name, data)?;
        self.laptop.seal_with(&["-w", &file], manifest)?;
        self.laptop.commit(&format!("seal {name}"))?;
        Ok(file)
    }

    /// Seals it, applies it, and waits until the Secret is there.
    pub async fn establish(&self, name: &str, data: &[(&str, &str)]) -> Result<SealedSecret> {
        self.apply(&self.seal(name, data)?).await?;
        let object = self.ready(name).await?;
        self.holds(name, data).await?;
        Ok(object)
    }

    /// Applies a file, as a Git operator or `kubectl apply --server-side` would.
    pub async fn apply(&self, file: &str) -> Result<()> {
        let objects = manifests::read(&self.laptop.path(file))?;
        manifests::apply(&self.space.client, &objects).await.with_context(|| format!("apply {file}")).map(drop)
    }

    /// Changes the one document of a file, as somebody with an editor would, and applies it.
    pub async fn tamper(&self, file: &str, change: impl FnOnce(&mut Value) -> Result<()>) -> Result<()> {
        self.change_file(file, change)?;
        self.apply(file).await
    }

    /// Changes the one document of a file.
    pub fn change_file(&self, file: &str, change: impl FnOnce(&mut Value) -> Result<()>) -> Result<()> {
        let mut document: Value = serde_yaml::from_str(&self.laptop.read(file)?).context("read a YAML document")?;
        change(&mut document)?;
        self.laptop.write(file, serde_yaml::to_string(&document).context("write a YAML document")?)
    }

    /// The SealedSecrets of the namespace.
    pub fn sealed(&self) -> Api<SealedSecret> {
        Api::namespaced(self.space.client.clone(), &self.space.name)
    }

    /// The rings that count.
    pub fn rings(&self) -> Api<KeyRing> {
        Api::namespaced(self.space.client.clone(), NAMESPACE)
    }

    /// Waits until the controller has seen the object as it is now and says `Ready=True`.
    pub async fn ready(&self, name: &str) -> Result<SealedSecret> {
        self.reason(name, SealedSecretReason::Synced).await
    }

    /// Waits until the controller has seen the object as it is now and says `Ready` with this reason; checks that
    /// `Stalled` and `Reconciling` agree with it.
    pub async fn reason(&self, name: &str, wanted: SealedSecretReason) -> Result<SealedSecret> {
        let sealed = self.sealed();
        let object = wait::until(&format!("{name} is {wanted}"), || async {
            let object = sealed.get(name).await?;
            let status = object.status.clone().unwrap_or_default();
            let ready = find(&status.conditions, READY).map(|condition| condition.reason.clone()).unwrap_or_default();
            ensure!(
                status.observed_generation == object.metadata.generation && ready == wanted.as_str(),
                "generation {:?} of {:?} is {ready:?}",
                status.observed_generation,
                object.metadata.generation
            );
            Ok(Some(object))
        })
        .await?;
        conditions_agree(&object, wanted)?;
        Ok(object)
    }

    /// Waits until `Ready` of our ring has this reason.
    pub async fn ring_is(&self, wanted: &str) -> Result<KeyRing> {
        let rings = self.rings();
        wait::until(&format!("ring {} is {wanted}", self.ring), || async {
            let ring = rings.get(&self.ring).await?;
            let status = ring.status.clone().unwrap_or_default();
            let ready = find(&status.conditions, READY).map(|condition| condition.reason.clone()).unwrap_or_default();
            ensure!(
                status.observed_generation == ring.metadata.generation && ready == wanted,
                "generation {:?} of {:?} is {ready:?}",
                status.observed_generation,
                ring.metadata.generation
            );
            Ok(Some(ring))
        })
        .await
    }

    /// What is in a Secret, as text; none if there is no such Secret.
    pub async fn data(&self, name: &str) -> Result<Option<BTreeMap<String, String>>> {
        let secret = self.space.secrets().get_opt(name).await?;
        Ok(secret.map(|secret| text_of(&secret)))
    }

    /// Waits until the Secret holds exactly this.
    pub async fn holds(&self, name: &str, data: &[(&str, &str)]) -> Result<()> {
        let wanted = data.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        wait::until_equal(&format!("what Secret {name} holds"), Some(wanted), || self.data(name)).await
    }

    /// Checks that there is no such Secret now.
    pub async fn holds_nothing(&self, name: &str) -> Result<()> {
        let found = self.data(name).await?;
        ensure!(found.is_none(), "there is a Secret {name}");
        Ok(())
    }

    /// Changes a Secret by hand, as field manager [`MEDDLER`].
    pub async fn meddle(&self, name: &str, merge: Value) -> Result<Secret> {
        self.meddle_as(MEDDLER, name, merge).await
    }

    /// Changes a Secret by hand, as another field manager.
    pub async fn meddle_as(&self, manager: &str, name: &str, merge: Value) -> Result<Secret> {
        let params = PatchParams { field_manager: Some(manager.to_owned()), ..PatchParams::default() };
        self.space.secrets().patch(name, &params, &Patch::Merge(merge)).await.context("change a Secret by hand")
    }

    /// Makes a quota `none`, under which no further Secret can be made until it is deleted.
    pub async fn no_more_secrets(&self) -> Result<Api<ResourceQuota>> {
        let quotas: Api<ResourceQuota> = Api::namespaced(self.space.client.clone(), &self.space.name);
        let quota = json!({"metadata": {"name": "none"}, "spec": {"hard": {"count/secrets": "0"}}});
        let quota = serde_json::from_value(quota)?;
        quotas.create(&PostParams::default(), &quota).await.context("make a quota")?;
        wait::until("the quota is counted", || async {
            let status = quotas.get("none").await?.status.unwrap_or_default();
            Ok(status.used.map(drop))
        })
        .await?;
        Ok(quotas)
    }

    /// Makes a ConfigMap `owner`, for tests in which a Secret belongs to somebody else; gives its uid.
    pub async fn meddle_owner(&self) -> Result<String> {
        let maps: Api<ConfigMap> = Api::namespaced(self.space.client.clone(), &self.space.name);
        let owner = serde_json::from_value(json!({"metadata": {"name": "owner"}}))?;
        let made = maps.create(&PostParams::default(), &owner).await.context("make an owner")?;
        made.uid().context("an object has a uid")
    }

    /// How often the controller has said that it found this object's Secret changed behind its back.
    ///
    /// Its metric counts over all objects, those of other tests too.
    pub fn drifts(&self, controller: &Controller, name: &str) -> usize {
        let object = format!("\"object\":\"{}/{name}\"", self.space.name);
        controller.log().lines().filter(|line| line.contains(&object) && line.contains("\"drift\":")).count()
    }

    /// All Events about an object of the namespace.
    pub async fn events(&self, name: &str) -> Result<Vec<Event>> {
        let events: Api<Event> = Api::namespaced(self.space.client.clone(), &self.space.name);
        let all = events.list(&ListParams::default()).await?.items;
        Ok(all.into_iter().filter(|event| event.involved_object.name.as_deref() == Some(name)).collect())
    }
}

/// Who changes Secrets by hand: no word that the controller uses where it does not know who it was.
pub const MEDDLER: &str = "their-operator";

/// The recipient that the controller publishes for laptops.
pub async fn cluster_recipient(client: &Client) -> Result<String> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    wait::until("the cluster's recipient is published", || async {
        let map = maps.get_opt(CLUSTER_CONFIG_MAP).await?;
        Ok(map.and_then(|map| map.data?.remove("recipient")))
    })
    .await
}

/// A Secret's data as text.
pub fn text_of(secret: &Secret) -> BTreeMap<String, String> {
    let data = secret.data.iter().flatten();
    data.map(|(key, value)| (key.clone(), String::from_utf8_lossy(&value.0).into_owned())).collect()
}

/// The manifest of an object as the API server has it, as a client could apply it somewhere else.
pub fn as_dynamic<K>(object: &K) -> Result<DynamicObject>
where
    K: Resource<DynamicType = ()> + serde::Serialize,
{
    let mut value = serde_json::to_value(object).context("write an object")?;
    value["apiVersion"] = K::api_version(&()).into();
    value["kind"] = K::kind(&()).into();
    serde_json::from_value(value).context("read an object")
}

fn conditions_agree(object: &SealedSecret, reason: SealedSecretReason) -> Result<()> {
    let conditions = object.status.as_ref().map(|status| status.conditions.clone()).unwrap_or_default();
    let is = |kind: &str| find(&conditions, kind).is_some_and(|condition| condition.status == "True");
    let well = reason == SealedSecretReason::Synced;
    ensure!(is("Ready") == well, "{} is {reason}, but Ready is not {well}", object.name_any());
    ensure!(is("Stalled") == (!well && reason.needs_a_person()), "Stalled does not fit {reason}");
    ensure!(is("Reconciling") == (!well && !reason.needs_a_person()), "Reconciling does not fit {reason}");
    Ok(())
}
