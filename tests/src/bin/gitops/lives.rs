//! What happens to our objects after they were made: changed behind Git's back, and removed from Git.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams};
use seal_tests::wait;
use serde_json::json;

use crate::world::World;

pub(crate) async fn what_is_changed_in_the_cluster_is_put_back(world: &mut World<'_>) -> Result<()> {
    const HEALS: &str = "heals";
    world.narrator.step("What is changed in the cluster is put back");
    let data = [("user", "app"), ("password", "1")];
    world.seal(HEALS, "db", &data)?;
    world.laptop.commit("to be meddled with")?;
    world.apply_folder(HEALS, HEALS, HEALS, json!({})).await?;
    world.is_synced(HEALS, "Healthy").await?;
    let stage = world.stage(HEALS);
    stage.holds("db", &data).await?;
    let syncs = world.syncs(HEALS).await?;

    let begin = Instant::now();
    stage.meddle("db", json!({"stringData": {"password": "mine", "extra": "1"}})).await?;
    stage.holds("db", &data).await?;
    stage.space.secrets().delete("db", &DeleteParams::default()).await?;
    stage.holds("db", &data).await?;
    world.narrator.seen("the Secret, changed and then deleted: by the controller", begin);
    world.refresh(HEALS, "hard").await?;
    world.is_synced(HEALS, "Healthy").await?;
    ensure!(world.syncs(HEALS).await? == syncs, "Argo CD has synced, though nothing of Git was changed");
    world.narrator.say("Argo CD had nothing to do with it: no sync.");

    let sealed = stage.sealed();
    let begin = Instant::now();
    let mine = json!({"spec": {"encryptedData": {"user": null}}});
    sealed.patch("db", &PatchParams::default(), &Patch::Merge(&mine)).await.context("change a SealedSecret")?;
    wait::until("the SealedSecret has both keys again", || async {
        let keys = sealed.get("db").await?.spec.encrypted_data;
        ensure!(keys.len() == 2, "it has {:?}", keys.keys());
        Ok(Some(()))
    })
    .await?;
    stage.holds("db", &data).await?;
    world.narrator.seen("the SealedSecret, without a key: by Argo CD; the Secret follows", begin);

    let begin = Instant::now();
    let before = sealed.get("db").await?.uid();
    sealed.delete("db", &DeleteParams::default()).await.context("delete a SealedSecret")?;
    wait::until("the SealedSecret is there again", || async {
        Ok(sealed.get_opt("db").await?.filter(|object| object.uid() != before).map(drop))
    })
    .await?;
    world.is_synced(HEALS, "Healthy").await?;
    stage.holds("db", &data).await?;
    world.narrator.seen("the SealedSecret, deleted: by Argo CD; the Secret is there again", begin);
    Ok(())
}

pub(crate) async fn what_leaves_git_is_pruned(world: &mut World<'_>) -> Result<()> {
    const PRUNES: &str = "prunes";
    world.narrator.step("What leaves Git is pruned: with its Secret, or with `Retain` without");
    for name in ["goes", "stays", "other"] {
        world.seal(PRUNES, name, &[("password", "1")])?;
    }
    let stage = world.stage(PRUNES);
    stage.change_file("prunes/stays.yaml", |file| {
        file["spec"]["target"] = json!({"deletionPolicy": "Retain"});
        Ok(())
    })?;
    world.laptop.commit("for a while")?;
    world.apply_folder(PRUNES, PRUNES, PRUNES, json!({})).await?;
    world.is_synced(PRUNES, "Healthy").await?;
    for name in ["goes", "stays", "other"] {
        stage.holds(name, &[("password", "1")]).await?;
    }

    world.laptop.git(&["rm", "--quiet", "prunes/goes.yaml", "prunes/stays.yaml"])?;
    let begin = Instant::now();
    world.push("no longer needed", PRUNES).await?;
    world.is_synced(PRUNES, "Healthy").await?;
    let sealed = stage.sealed();
    wait::until("two of three SealedSecrets and one Secret are gone", || async {
        for name in ["goes", "stays"] {
            ensure!(sealed.get_opt(name).await?.is_none(), "SealedSecret {name} is still there");
        }
        ensure!(stage.data("goes").await?.is_none(), "Secret goes is still there");
        Ok(Some(()))
    })
    .await?;
    world.narrator.seen("`Delete`, the default: the SealedSecret is gone, and its Secret with it", begin);

    // Once more, with the Secret that now belongs to nobody beside.
    world.refresh(PRUNES, "hard").await?;
    world.is_synced(PRUNES, "Healthy").await?;
    stage.holds("stays", &[("password", "1")]).await?;
    stage.holds("other", &[("password", "1")]).await?;
    let kept = stage.space.secrets().get("stays").await?;
    ensure!(kept.owner_references().is_empty(), "it belongs to {:?}", kept.owner_references());
    world.narrator.say("`Retain`: the SealedSecret is gone, its Secret is there; Argo CD does not ask for it.");
    Ok(())
}
