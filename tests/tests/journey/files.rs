//! One cluster, one repository: sealing, changing, tampering, merging.

use kube::ResourceExt;
use seal_crds::condition::SealedSecretReason;
use seal_crds::{FIELD_MANAGER, OWNER_ANNOTATION, OWNER_LABEL};
use seal_tests::install::CONTROLLER;
use seal_tests::laptop::secret_manifest;
use seal_tests::{Context, Stage, ensure, in_namespace, pods};
use serde_json::{Value, json};

#[test]
fn what_is_sealed_on_a_laptop_becomes_a_secret_and_its_plaintext_is_nowhere_in_git() {
    in_namespace(|space| async move {
        let (stage, _) = Stage::shared(space).await?;
        let object = stage.establish("db", &[("user", "app"), ("password", "correct horse battery staple")]).await?;
        assert!(stage.laptop.git(&["grep", "--quiet", "correct horse"]).is_err(), "the plaintext is in the repository");

        let secret = stage.space.secrets().get("db").await?;
        assert_eq!(secret.type_.as_deref(), Some("Opaque"));
        assert_eq!(secret.annotations()[OWNER_ANNOTATION], "SealedSecret/db");
        assert_eq!(secret.labels()[OWNER_LABEL].len(), 32);
        assert_eq!(secret.owner_references()[0].uid, object.uid().context("the object has a uid")?);
        assert!(secret.managed_fields().iter().all(|entry| entry.manager.as_deref() == Some(FIELD_MANAGER)));

        let status = object.status.context("the object has a status")?;
        let written = status.secret.context("the status names the Secret")?;
        assert_eq!(written.name, "db");
        assert_eq!((written.uid, written.resource_version), (secret.uid(), secret.resource_version()));
        assert_eq!(status.keys_in_use.len(), 1);
        let file = stage.laptop.read("db.yaml")?;
        assert!(file.contains(&format!("seal1.{}.", status.keys_in_use[0])));
        Ok(())
    });
}

#[test]
fn a_changed_value_changes_one_line_of_the_file_and_arrives() {
    in_namespace(|space| async move {
        let (stage, _) = Stage::shared(space).await?;
        stage.establish("db", &[("user", "app"), ("password", "old")]).await?;
        stage.laptop.seal_with(&["set", "db.yaml", "password"], "new")?;
        assert_eq!(stage.laptop.git(&["diff", "--numstat"])?, "1\t1\tdb.yaml\n");
        stage.laptop.commit("a new password")?;
        stage.apply("db.yaml").await?;
        stage.holds("db", &[("user", "app"), ("password", "new")]).await
    });
}

#[test]
fn a_key_that_is_unset_leaves_the_secret() {
    in_namespace(|space| async move {
        let (stage, _) = Stage::shared(space).await?;
        stage.establish("db", &[("user", "app"), ("password", "old")]).await?;
        stage.laptop.seal(&["unset", "db.yaml", "user"])?;
        stage.apply("db.yaml").await?;
        stage.holds("db", &[("password", "old")]).await
    });
}

#[test]
fn sealing_again_into_a_file_adds_keys_and_keeps_the_others() {
    in_namespace(|space| async move {
        let (stage, _) = Stage::shared(space).await?;
        let file = stage.seal("db", &[("user", "app")])?;
        let more = secret_manifest(&stage.space.name, "db", &[("password", "s3cret")])?;
        stage.laptop.seal_with(&["-w", &file], more)?;
        stage.apply(&file).await?;
        stage.holds("db", &[("user", "app"), ("password", "s3cret")]).await
    });
}

#[test]
fn a_tampered_file_leaves_the_last_good_secret_and_heals_when_git_is_reverted() {
    in_namespace(|space| async move {
        let (stage, _) = Stage::shared(space).await?;
        stage.establish("db", &[("password", "good")]).await?;
        let before = stage.space.secrets().get("db").await?;
        stage
            .tamper("db.yaml", |file| {
                let other = "elsewhere".to_owned();
                file["spec"]["sealedFor"]["namespaces"] = json!([other]);
                Ok(())
            })
            .await?;
        stage.laptop.commit("an innocent change")?;
        stage.reason("db", SealedSecretReason::SealedForElsewhere).await?;
        assert_eq!(stage.space.secrets().get("db").await?, before, "the last good Secret is untouched");

        stage.laptop.git(&["revert", "--no-edit", "HEAD"])?;
        stage.apply("db.yaml").await?;
        stage.ready("db").await?;
        assert_eq!(stage.space.secrets().get("db").await?.uid(), before.uid());
        Ok(())
    });
}

#[test]
fn two_branches_that_change_different_keys_merge_with_plain_git_and_both_arrive() {
    in_namespace(|space| async move {
        let (stage, _) = Stage::shared(space).await?;
        let laptop = &stage.laptop;
        stage.establish("db", &[("password", "0"), ("user", "0")]).await?;
        laptop.git(&["switch", "--quiet", "--create", "mine"])?;
        laptop.seal_with(&["set", "db.yaml", "password"], "1")?;
        laptop.commit("my change")?;
        laptop.git(&["switch", "--quiet", "--create", "theirs", "main"])?;
        laptop.seal_with(&["set", "db.yaml", "user"], "2")?;
        laptop.commit("their change")?;
        laptop.git(&["switch", "--quiet", "main"])?;
        laptop.git(&["merge", "--quiet", "--no-edit", "mine"])?;
        laptop.git(&["merge", "--quiet", "--no-edit", "theirs"])?;
        stage.apply("db.yaml").await?;
        stage.holds("db", &[("password", "1"), ("user", "2")]).await
    });
}

#[test]
fn one_file_serves_two_namespaces_and_no_third() {
    in_namespace(|space| async move {
        let (stage, _) = Stage::shared(space.clone()).await?;
        let second = seal_tests::Space::make(space.plane.clone()).await?;
        let third = seal_tests::Space::make(space.plane.clone()).await?;
        let manifest = "{apiVersion: v1, kind: Secret, metadata: {name: db}, stringData: {password: shared}}";
        let both = format!("{},{}", space.name, second.name);
        stage.laptop.seal_with(&["-w", "db.yaml", "-n", &both], manifest)?;
        for place in [&space, &second, &third] {
            stage.change_file("db.yaml", |file| {
                file["metadata"]["namespace"] = place.name.clone().into();
                Ok(())
            })?;
            stage.apply("db.yaml").await?;
        }
        stage.holds("db", &[("password", "shared")]).await?;
        let at = |space| Stage {
            space,
            laptop: seal_tests::Laptop::new("/dev/null".into()).expect("a folder").into(),
            ring: String::new(),
        };
        at(second).holds("db", &[("password", "shared")]).await?;
        let third = at(third);
        third.reason("db", SealedSecretReason::SealedForElsewhere).await?;
        third.holds_nothing("db").await
    });
}

#[test]
fn a_template_makes_one_value_out_of_others_and_leaves_out_what_is_null() {
    in_namespace(|space| async move {
        let (stage, _) = Stage::shared(space).await?;
        let file = stage.seal("db", &[("user", "app"), ("password", "s3cret")])?;
        stage
            .tamper(&file, |file| {
                file["spec"]["template"] = json!({
                    "metadata": {"labels": {"app": "shop"}, "annotations": {"team": "blue"}},
                    "data": {"url": "postgres://{{ .user }}:{{ .password }}@db", "password": null},
                });
                Ok(())
            })
            .await?;
        stage.ready("db").await?;
        stage.holds("db", &[("user", "app"), ("url", "postgres://app:s3cret@db")]).await?;
        let secret = stage.space.secrets().get("db").await?;
        assert_eq!((secret.labels()["app"].as_str(), secret.annotations()["team"].as_str()), ("shop", "blue"));
        Ok(())
    });
}

#[test]
fn binary_values_arrive_byte_for_byte_and_a_value_may_fill_a_secret() {
    in_namespace(|space| async move {
        let (stage, _) = Stage::shared(space).await?;
        let bytes: Vec<u8> = (0..=255).cycle().take(1_000_000).collect();
        stage.laptop.write("value.bin", &bytes)?;
        let file = stage.seal("db", &[("text", "x")])?;
        stage.laptop.seal(&["set", &file, "--from-file", "blob=value.bin"])?;
        stage.apply(&file).await?;
        stage.ready("db").await?;
        let secret = stage.space.secrets().get("db").await?;
        assert!(secret.data.context("the Secret has data")?["blob"].0 == bytes, "the bytes differ");
        Ok(())
    });
}

#[test]
fn a_tls_secret_keeps_its_type_and_documents_that_are_no_secrets_pass_through() {
    in_namespace(|space| async move {
        let (stage, _) = Stage::shared(space).await?;
        let input = format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: colours, namespace: {0}}}\ndata: {{sky: blue}}\n---\n\
             apiVersion: v1\nkind: Secret\ntype: kubernetes.io/tls\nmetadata: {{name: web, namespace: {0}}}\n\
             stringData: {{tls.crt: certificate, tls.key: key}}\n",
            stage.space.name
        );
        let sealed = stage.laptop.seal_with(&[], input)?;
        stage.laptop.write("web.yaml", sealed)?;
        stage.apply("web.yaml").await?;
        stage.ready("web").await?;
        assert_eq!(stage.space.secrets().get("web").await?.type_.as_deref(), Some("kubernetes.io/tls"));
        let map: Value = serde_json::to_value(
            kube::Api::<k8s_openapi::api::core::v1::ConfigMap>::namespaced(
                stage.space.client.clone(),
                &stage.space.name,
            )
            .get("colours")
            .await?,
        )?;
        assert_eq!(map["data"]["sky"], "blue");
        Ok(())
    });
}

#[test]
fn a_scope_is_widened_by_server_side_apply() {
    in_namespace(|space| async move {
        let (stage, _) = Stage::shared(space).await?;
        stage.establish("db", &[("password", "old")]).await?;
        let manifest = secret_manifest(&stage.space.name, "db", &[("password", "new")])?;
        stage.laptop.seal_with(&["--scope", "cluster", "-w", "wide.yaml"], manifest)?;
        assert!(stage.laptop.read("wide.yaml")?.contains("sealedFor: {}"));
        // Merged part by part, an empty map in place of one with parts would become null, and be refused.
        stage.apply("wide.yaml").await?;
        stage.holds("db", &[("password", "new")]).await
    });
}

#[test]
fn verify_says_what_is_missing_where_the_api_server_answers_for_the_controller() {
    in_namespace(|space| async move {
        let (stage, _) = Stage::shared(space).await?;
        let file = stage.seal("db", &[("password", "s3cret")])?;
        let asked = |hint: &str| {
            let arguments = ["verify", &file, "--controller-namespace", &stage.space.name];
            let said = stage.laptop.try_seal(&arguments, "")?;
            ensure!(said.code == Some(1) && said.stderr.contains(hint), "not {hint:?}: {}", said.stderr);
            Ok(())
        };
        asked("hint: there is no Service `seal-controller` in")?;
        // Nothing listens on the port of a listener that is gone.
        let gone = std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        pods::expose(&stage.space, CONTROLLER, 8080, &[gone]).await?;
        asked("hint: no controller behind the Service is ready")?;
        Ok(())
    });
}
