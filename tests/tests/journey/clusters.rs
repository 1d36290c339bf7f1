//! Several clusters, one repository: the ring file changes, and no sealed file does.

use std::sync::Arc;

use kube::ResourceExt;
use seal_tests::install::{self, CONTROLLER};
use seal_tests::stage::{RECOVERY, cluster_recipient};
use seal_tests::{Context, ControlPlane, Controller, Space, Stage, in_namespace};

#[test]
fn a_new_cluster_opens_everything_after_a_change_of_the_ring_file_alone() {
    // Outside of the runtime: starting a cluster blocks.
    let other = Arc::new(ControlPlane::start().expect("a second cluster can be started"));
    in_namespace(|space| async move {
        let (stage, _) = Stage::shared(space).await?;
        stage.establish("db", &[("password", "s3cret")]).await?;
        let sealed = stage.laptop.read("db.yaml")?;

        let elsewhere = Space::named(other, stage.space.name.clone()).await?;
        install::everything(&elsewhere.client).await?;
        let _controller = Controller::start(&elsewhere.plane, CONTROLLER, &[]).await?;
        stage.laptop.write("second.pub", cluster_recipient(&elsewhere.client).await?)?;
        stage.laptop.seal(&["ring", "add", &stage.ring, "--member", "second=second.pub", "-i", RECOVERY, "--yes"])?;
        let changed = stage.laptop.git(&["diff", "--name-only"])?;
        assert_eq!(changed.trim(), stage.ring_file());

        let second = Stage { space: elsewhere, laptop: stage.laptop, ring: stage.ring };
        second.apply(&second.ring_file()).await?;
        second.ring_is("Opened").await?;
        assert_eq!(second.laptop.read("db.yaml")?, sealed);
        second.apply("db.yaml").await?;
        second.holds("db", &[("password", "s3cret")]).await
    });
}

#[test]
fn after_a_rotation_old_values_still_open_and_new_ones_are_sealed_to_the_new_key() {
    in_namespace(|space| async move {
        let (stage, _) = Stage::shared(space).await?;
        let before = stage.establish("old", &[("password", "1")]).await?.status.context("it has a status")?.keys_in_use;
        stage.laptop.seal(&["ring", "rotate", &stage.ring, "-i", RECOVERY, "--yes"])?;
        stage.apply(&stage.ring_file()).await?;
        stage.ring_is("Opened").await?;
        let after = stage.establish("new", &[("password", "2")]).await?.status.context("it has a status")?.keys_in_use;
        assert_ne!(before, after);

        let secret = stage.space.secrets().get("old").await?;
        stage.space.secrets().delete("old", &kube::api::DeleteParams::default()).await?;
        stage.holds("old", &[("password", "1")]).await?;
        assert_ne!(stage.space.secrets().get("old").await?.uid(), secret.uid(), "it was opened anew");
        Ok(())
    });
}
