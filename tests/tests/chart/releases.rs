//! A release's life, with the real Helm: install, upgrade, rollback, uninstall, install again.

use std::fs;
use std::path::Path;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::rbac::v1::ClusterRole;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition as Crd;
use kube::ResourceExt;
use kube::api::Api;
use seal_crds::SCHEMA_ANNOTATION;
use seal_tests::helm::{self, Helm, RELEASE};
use seal_tests::install::{self, CONTROLLER, Container, NAMESPACE, SCHEMA_POLICY, SEALED_SECRETS};
use seal_tests::{Context, Controller, Laptop, Result, Space, Stage, in_own_cluster, manifests, wait};

async fn workers(space: &Space) -> Result<Option<String>> {
    let container = Container::of(&space.client, NAMESPACE, CONTROLLER).await?;
    Ok(container.args.into_iter().find_map(|flag| flag.strip_prefix("--workers=").map(str::to_owned)))
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("the path is text")
}

#[test]
fn a_release_is_installed_upgraded_rolled_back_and_removed_and_no_secret_is_lost() {
    in_own_cluster(|space| async move {
        let helm = Helm::of(space.plane.kubeconfig())?;
        let chart = helm::chart();
        let chart = text(&chart)?;
        let (folder, recovery) = (tempfile::tempdir()?, tempfile::NamedTempFile::new()?);
        let laptop = Laptop::new(space.plane.kubeconfig())?;
        fs::write(&recovery, format!("# offline\n{}", laptop.seal(&["keygen", "-w", "../identity.txt"])?))?;
        let recovery = format!("keyRing.recovery={}", text(recovery.path())?);
        let to = ["--namespace", NAMESPACE];
        let install = [&["install", RELEASE, chart, "--create-namespace", "--set-file", &recovery], &to[..]].concat();

        helm.run(&install)?;
        let controller = Controller::start(&space.plane, CONTROLLER, &[]).await?;
        first_ring_has(&space, &["cluster", "recovery"]).await?;
        first_ring_goes_on_in_git(&laptop)?;
        first_ring_has(&space, &["cluster", "recovery", "second"]).await?;
        let stage = Stage::set(space.clone()).await?;
        stage.establish("db", &[("password", "1")]).await?;

        let next = folder.path().join("next");
        helm::next_chart(&next)?;
        helm.run(
            &[&["upgrade", RELEASE, text(&next)?, "--reset-then-reuse-values", "--set", "workers=8"], &to[..]].concat(),
        )?;
        assert_eq!(
            (install::schema(&space.client).await?, workers(&space).await?),
            (seal_crds::SCHEMA + 1, Some("8".to_owned()))
        );
        controller.end().await?;
        let controller = Controller::start(&space.plane, "seal-controller-next", &[]).await?;
        stage.establish("next", &[("password", "2")]).await?;

        // Everything goes back but the definitions, and Helm says why.
        let back = helm.run(&[&["rollback", RELEASE, "1"], &to[..]].concat()).expect_err("the definitions stay");
        assert!(format!("{back:#}").contains("the schema of a definition is never lowered"), "{back:#}");
        assert_eq!(
            (install::schema(&space.client).await?, workers(&space).await?),
            (seal_crds::SCHEMA + 1, Some("24".to_owned()))
        );

        // The way without an error: the older chart leaves newer definitions alone.
        helm.run(&[&["upgrade", RELEASE, chart, "--reset-then-reuse-values"], &to[..]].concat())?;
        assert_eq!(install::schema(&space.client).await?, seal_crds::SCHEMA + 1);
        controller.end().await?;
        let controller = Controller::start(&space.plane, "seal-controller-back", &[]).await?;
        stage.establish("back", &[("password", "3")]).await?;

        controller.end().await?;
        helm.run(&[&["uninstall", RELEASE], &to[..]].concat())?;
        let deployments: Api<Deployment> = Api::namespaced(space.client.clone(), NAMESPACE);
        assert_eq!(deployments.get_opt(CONTROLLER).await?, None);
        assert_eq!(Api::<ClusterRole>::all(space.client.clone()).get_opt(CONTROLLER).await?, None);
        let identities: Api<Secret> = Api::namespaced(space.client.clone(), NAMESPACE);
        let identity = identities.get("identity-1").await?;
        stage.rings().get("default").await?;
        for (name, value) in [("db", "1"), ("next", "2"), ("back", "3")] {
            stage.sealed().get(name).await?;
            stage.holds(name, &[("password", value)]).await?;
        }

        helm.run(&install)?;
        let _controller = Controller::start(&space.plane, "seal-controller-again", &[]).await?;
        stage.establish("again", &[("password", "4")]).await?;
        assert_eq!(identities.get("identity-1").await?.uid(), identity.uid());

        // Under another name, with the definitions that are there.
        helm.run(&[&["uninstall", RELEASE], &to[..]].concat())?;
        helm.run(&[&["install", "other", text(&next)?, "--take-ownership"], &to[..]].concat())?;
        let crd = Api::<Crd>::all(space.client.clone()).get(SEALED_SECRETS).await?;
        assert_eq!(crd.annotations()["meta.helm.sh/release-name"], "other");

        // Helm deletes what is no longer in a release, and with a definition all of its kind.
        let upgrade = [&["upgrade", "other", text(&next)?, "--reset-values", "--set"], &to[..]];
        helm.run(&[upgrade[0], &["crds.keep=false"], upgrade[1]].concat())?;
        let refused = helm.run(&[upgrade[0], &["crds.enabled=false"], upgrade[1]].concat());
        let refused = format!("{:#}", refused.expect_err("definitions without keep are not left out"));
        assert!(refused.contains("annotate it with helm.sh/resource-policy=keep first"), "{refused}");
        schema_is_kept(&space).await
    });
}

async fn first_ring_has(space: &Space, members: &[&str]) -> Result<()> {
    let rings: Api<seal_crds::KeyRing> = Api::namespaced(space.client.clone(), NAMESPACE);
    let ring = wait::until("the first ring is made", || async { Ok(rings.get_opt("default").await?) }).await?;
    assert_eq!(ring.spec.members.iter().map(|member| member.name.as_str()).collect::<Vec<_>>(), members);
    Ok(())
}

/// The ring that the controller made is committed, gets a member, and is applied as people do, without a conflict.
fn first_ring_goes_on_in_git(laptop: &Laptop) -> Result<()> {
    const FILE: &str = ".seal/keyrings/default.yaml";
    laptop.seal(&["init", "--from-cluster", "--ring", "default", "--yes"])?;
    let second = laptop.seal(&["keygen", "-w", "../second.txt"])?;
    let member = format!("second={}", second.trim());
    laptop.seal(&["ring", "add", "default", "--member", &member, "-i", "../identity.txt", "--yes"])?;
    for way in [&["--server-side"][..], &[]] {
        let said = laptop.kubectl(&[&["apply", "-f", FILE], way].concat())?;
        assert_eq!((said.code, said.stderr.contains("conflict")), (Some(0), false), "{way:?}: {}", said.stderr);
    }
    Ok(())
}

/// Nobody replaces a definition by an older one, Helm or not.
async fn schema_is_kept(space: &Space) -> Result<()> {
    let with = |number: &str| -> Result<_> {
        let mut crd = manifests::read(&install::crds())?.remove(0);
        crd.annotations_mut().insert(SCHEMA_ANNOTATION.to_owned(), number.to_owned());
        Ok(crd)
    };
    // A policy is at work a moment after it is made.
    wait::until(&format!("{SCHEMA_POLICY} is at work"), || async {
        manifests::apply(&space.client, &[with("9")?]).await?;
        let refused = manifests::apply(&space.client, &[with("8")?]).await;
        Ok(refused.is_err_and(|error| format!("{error:#}").contains("never lowered")).then_some(()))
    })
    .await
}
