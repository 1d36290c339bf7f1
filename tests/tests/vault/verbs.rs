//! Each verb that the chart gives for Vault is needed: without it something stands still, and with it nothing does.

use std::sync::Arc;

use kube::ResourceExt;
use kube::api::DynamicObject;
use seal_crds::condition::{READY, is_true};
use seal_tests::certificates::Authority;
use seal_tests::helm::Helm;
use seal_tests::install::{self, CONTROLLER};
use seal_tests::rights::{self, Less, each_verb};
use seal_tests::{Context, Controller, Result, Space, Stage, anyhow, ensure, in_cluster, manifests, wait};
use serde_json::json;

use crate::tenants::label_namespace;
use crate::world::{Tenant, World, field};

/// What stands still without a right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    /// A value is fetched and becomes a Secret.
    Fetch,
    /// The status of the store says whether its server answers.
    TellOfStore,
    /// The same from another namespace's store, which allows namespaces by their labels.
    FetchAfar,
    /// The same at once when the namespace gets the label.
    HearOfLabels,
}

use Deed::{Fetch, FetchAfar, HearOfLabels, TellOfStore};

/// What each right is for.
fn deed_of(less: &Less) -> Result<Deed> {
    Ok(match (&*less.resource, &*less.verb) {
        ("vaultstores", "list" | "watch") => Fetch,
        ("vaultstores/status", "patch") => TellOfStore,
        ("serviceaccounts" | "configmaps", "get") => Fetch,
        ("serviceaccounts/token" | "tokenreviews", "create") => Fetch,
        ("namespaces", "get") => FetchAfar,
        ("namespaces", "list" | "watch") => HearOfLabels,
        _ => return Err(anyhow!("{less} is for nothing that is known here")),
    })
}

#[test]
fn without_any_one_of_its_verbs_something_of_vault_stands_still() {
    in_cluster(rights::plane(), |space| async move {
        let objects = Helm::find()?.template(&[])?;
        install::chart(&space.client, &objects).await?;
        let world = settle(space).await?;
        let role = role_in(&objects, None)?;
        for less in each_verb(role)? {
            let tenant = tenant(&world, Space::make(world.shop.stage.space.plane.clone()).await?).await?;
            miss(&world, &[(tenant, less)]).await?;
        }
        Ok(())
    });
}

#[test]
fn nor_is_there_a_verb_too_many_for_vault_where_some_namespaces_are_served() {
    in_cluster(rights::plane(), |space| async move {
        // Every namespace lacks another verb.
        let verbs = each_verb(role_in(&Helm::find()?.template(&["--set", "namespaces={any}"])?, Some("any"))?)?.len();
        let spaces = (0..verbs).map(|number| Space::named(space.plane.clone(), format!("lacking-{number}")));
        let spaces = futures::future::try_join_all(spaces).await?;
        let names: Vec<_> = spaces.iter().chain([&space]).map(|space| &*space.name).collect();
        let objects = Helm::find()?.template(&["--set", &format!("namespaces={{{}}}", names.join(","))])?;
        install::chart(&space.client, &objects).await?;
        let world = settle(space).await?;
        let mut lacking = Vec::new();
        for (number, space) in spaces.into_iter().enumerate() {
            let less = each_verb(role_in(&objects, Some(&space.name))?)?.swap_remove(number);
            lacking.push((tenant(&world, space).await?, less));
        }
        miss(&world, &lacking).await
    });
}

fn role_in<'a>(objects: &'a [DynamicObject], namespace: Option<&str>) -> Result<&'a DynamicObject> {
    let is_it = |object: &&DynamicObject| {
        let is_role = ["Role", "ClusterRole"].contains(&manifests::kind_of(object));
        is_role && object.name_any() == "seal-controller-vault" && object.namespace().as_deref() == namespace
    };
    objects.iter().find(is_it).context("there is a role for Vault")
}

/// A cluster with the chart, a server, and a store of the shop's for namespaces of a label; no controller runs.
async fn settle(space: Space) -> Result<World> {
    let controller = Arc::new(Controller::start(&space.plane, CONTROLLER, &[]).await?);
    let world = World::around(Stage::set(space).await?, controller).await?;
    let allowed = json!({"selector": {"matchLabels": {"tier": "gold"}}});
    world.shop.store("gold", world.spec(json!({"allowedNamespaces": allowed}))).await?;
    world.controller.end().await?;
    Ok(world)
}

/// A namespace with an account that the server knows.
async fn tenant(world: &World, space: Space) -> Result<Tenant> {
    let shop = &world.shop.stage;
    let tenant = Tenant { stage: Stage { space, laptop: Arc::clone(&shop.laptop), ring: shop.ring.clone() } };
    tenant.account("app").await?;
    world.role(&tenant, "app", json!({})).await?;
    Ok(tenant)
}

/// Takes from each namespace what it is to lack, has a controller begin, and gives everything to do. What was refused
/// stays undone, and is done by the next one, with the right.
async fn miss(world: &World, lacking: &[(Tenant, Less)]) -> Result<()> {
    let Space { plane, client, .. } = &world.shop.stage.space;
    for (_, less) in lacking {
        less.take(client).await?;
    }
    let before = plane.audited(0)?.len();
    let controller = Controller::spawn(plane, CONTROLLER, &[]).await?;
    for (tenant, less) in lacking {
        give_work(world, tenant, deed_of(less)?).await?;
    }
    for (tenant, less) in lacking {
        less.is_missed(plane, before).await?;
        let deed = deed_of(less)?;
        if deed == HearOfLabels {
            done(tenant, Fetch).await?;
        }
        ensure!(is_done(tenant, deed).await?.is_none(), "{deed:?} is done without {less}");
    }
    for (_, less) in lacking {
        less.give(client).await?;
    }
    // What failed is not tried for half a minute; a new controller knows nothing of that.
    controller.end().await?;
    let controller = Controller::spawn(plane, CONTROLLER, &[]).await?;
    for (tenant, less) in lacking {
        for deed in [Fetch, TellOfStore, FetchAfar] {
            done(tenant, deed).await.with_context(|| format!("with {less} again"))?;
        }
    }
    controller.end().await
}

/// A store that is told its CA by another object, and a reference to it; and one to the store of the shop.
async fn give_work(world: &World, tenant: &Tenant, deed: Deed) -> Result<()> {
    let (metadata, ca) = (json!({"name": "ca"}), Authority::make()?.certificate);
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"ca.crt": ca}});
    tenant.apply(map).await?;
    let tls = json!({"allowPlaintext": true, "caFrom": {"kind": "ConfigMap", "name": "ca", "key": "ca.crt"}});
    tenant.store("main", world.spec(json!({"tls": tls}))).await?;
    let gold = json!({"name": "gold", "namespace": world.shop.namespace()});
    let afar = json!({"storeRef": gold, "data": [field("user", "app/db", "user")]});
    if deed == HearOfLabels {
        tenant.object("afar", afar, json!({})).await?;
        tenant.vault_is("afar", "StoreNotAllowed").await?;
        label_namespace(tenant, "gold").await?;
    } else {
        label_namespace(tenant, "gold").await?;
        tenant.object("afar", afar, json!({})).await?;
    }
    tenant.wants("db", &[field("user", "app/db", "user")]).await
}

async fn done(tenant: &Tenant, deed: Deed) -> Result<()> {
    wait::until(&format!("{deed:?} is done in {}", tenant.namespace()), || is_done(tenant, deed)).await
}

async fn is_done(tenant: &Tenant, deed: Deed) -> Result<Option<()>> {
    let is_done = match deed {
        Fetch => tenant.secret("db").await?.is_some(),
        FetchAfar | HearOfLabels => tenant.secret("afar").await?.is_some(),
        TellOfStore => {
            let store = tenant.stores().get("main").await?;
            store.status.is_some_and(|told| is_true(&told.conditions, READY))
        }
    };
    Ok(is_done.then_some(()))
}
