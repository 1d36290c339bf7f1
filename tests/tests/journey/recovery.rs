//! What a laptop can do with and without the cluster.

use seal_tests::install::CONTROLLER;
use seal_tests::stage::RECOVERY;
use seal_tests::{Laptop, Stage, in_namespace, install, pods};

#[test]
fn with_no_cluster_at_all_the_recovery_identity_opens_every_file() {
    in_namespace(|space| async move {
        let (stage, _) = Stage::shared(space).await?;
        let file = stage.seal("db", &[("user", "app"), ("password", "s3cret")])?;
        assert_eq!(stage.laptop.seal(&["open", &file, "-i", RECOVERY, "--key", "password"])?, "s3cret");
        let manifest = stage.laptop.seal(&["open", &file, "-i", RECOVERY])?;
        stage.laptop.write("opened.yaml", manifest)?;
        stage.apply("opened.yaml").await?;
        stage.holds("db", &[("user", "app"), ("password", "s3cret")]).await
    });
}

#[test]
fn a_fresh_laptop_fetches_the_ring_of_the_cluster_and_what_it_seals_opens_there() {
    in_namespace(|space| async move {
        let (stage, _) = Stage::shared(space).await?;
        let fresh = Laptop::new(stage.space.plane.kubeconfig())?;
        fresh.seal(&["init", "--from-cluster", "--ring", &stage.ring, "--yes"])?;
        assert!(fresh.path(&stage.ring_file()).is_file());
        let stage = Stage { laptop: fresh.into(), ..stage };
        stage.establish("db", &[("password", "s3cret")]).await.map(drop)
    });
}

#[test]
fn verify_asks_the_controller_and_says_no_to_what_it_cannot_open() {
    in_namespace(|space| async move {
        let (stage, controller) = Stage::shared(space).await?;
        let file = stage.seal("db", &[("password", "s3cret")])?;
        stage.laptop.seal(&["verify", &file, "--controller-url", &controller.url()])?;
        stage.laptop.seal(&["verify", &file, "-i", RECOVERY])?;
        stage.change_file(&file, |file| {
            file["spec"]["sealedFor"]["name"] = "other".into();
            Ok(())
        })?;
        let said = stage.laptop.try_seal(&["verify", &file, "--controller-url", &controller.url()], "")?;
        assert_eq!(said.code, Some(1), "{}", said.stderr);
        Ok(())
    });
}

#[test]
fn verify_reaches_the_controller_through_the_service_proxy() {
    in_namespace(|space| async move {
        let (stage, controller) = Stage::shared(space).await?;
        pods::back(&stage.space, install::NAMESPACE, CONTROLLER, 8080, &[controller.address()]).await?;
        let file = stage.seal("db", &[("password", "s3cret")])?;
        stage.laptop.seal(&["verify", &file])?;
        Ok(())
    });
}
