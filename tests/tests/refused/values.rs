//! Values that are not what they say, or not where they belong.

use k8s_openapi::jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use seal_crds::condition::SealedSecretReason::{
    self, DecryptFailed, KeyNotFound, SealedForElsewhere, TemplateFailed, UnknownFormat,
};
use seal_tests::{Context, Result, Stage, in_namespace, wait};
use serde_json::{Value, json};

/// Establishes a Secret, changes its file so that it must be refused, and sees that the Secret stays as it was, that a
/// good object beside is served, and that all is well again when the file is as before.
fn refused_and_healed(reason: SealedSecretReason, change: fn(&mut Value) -> Result<()>) {
    in_namespace(|space| async move {
        let (stage, _) = Stage::shared(space).await?;
        stage.establish("db", &[("password", "good"), ("user", "app")]).await?;
        let (secret, file) = (stage.space.secrets().get("db").await?, stage.laptop.read("db.yaml")?);
        stage.tamper("db.yaml", change).await?;
        stage.reason("db", reason).await?;
        stage.establish("beside", &[("password", "fine")]).await?;
        assert_eq!(stage.space.secrets().get("db").await?, secret, "the last good Secret is untouched");
        stage.laptop.write("db.yaml", file)?;
        stage.apply("db.yaml").await?;
        stage.ready("db").await?;
        assert_eq!(stage.space.secrets().get("db").await?.uid(), secret.uid());
        Ok(())
    });
}

fn token(file: &Value, key: &str) -> Result<String> {
    Ok(file["spec"]["encryptedData"][key].as_str().context("the file has this key")?.to_owned())
}

/// Changes one character in the middle of the sealed bytes: every bit of it counts.
fn flipped(token: &str) -> String {
    let mut bytes = token.as_bytes().to_vec();
    let middle = token.len() - 40;
    bytes[middle] = if bytes[middle] == b'A' { b'B' } else { b'A' };
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn a_file_whose_sealed_for_names_another_namespace_is_refused() {
    refused_and_healed(SealedForElsewhere, |file| {
        file["spec"]["sealedFor"]["namespaces"] = json!(["elsewhere"]);
        Ok(())
    });
}

#[test]
fn a_file_whose_sealed_for_was_widened_to_another_place_does_not_open() {
    refused_and_healed(DecryptFailed, |file| {
        file["spec"]["sealedFor"].as_object_mut().context("sealedFor is an object")?.remove("namespaces");
        Ok(())
    });
}

#[test]
fn a_value_moved_to_another_key_is_refused() {
    refused_and_healed(DecryptFailed, |file| {
        file["spec"]["encryptedData"]["user"] = token(file, "password")?.into();
        Ok(())
    });
}

#[test]
fn a_value_with_one_flipped_bit_is_refused() {
    refused_and_healed(DecryptFailed, |file| {
        file["spec"]["encryptedData"]["password"] = flipped(&token(file, "password")?).into();
        Ok(())
    });
}

#[test]
fn a_value_of_an_unknown_version_is_refused() {
    refused_and_healed(UnknownFormat, |file| {
        file["spec"]["encryptedData"]["password"] = token(file, "password")?.replacen("seal1.", "seal9.", 1).into();
        Ok(())
    });
}

#[test]
fn a_value_sealed_to_a_key_that_the_cluster_does_not_hold_is_refused() {
    refused_and_healed(KeyNotFound, |file| {
        let value = token(file, "password")?;
        let id = value.split('.').nth(1).context("a token has a key id")?;
        file["spec"]["encryptedData"]["password"] = value.replacen(id, &"a".repeat(id.len()), 1).into();
        Ok(())
    });
}

#[test]
fn a_template_that_cannot_be_rendered_is_refused() {
    refused_and_healed(TemplateFailed, |file| {
        file["spec"]["template"] = json!({"data": {"url": "{{ .nosuchkey.deeper }}"}});
        Ok(())
    });
}

#[test]
fn a_file_sealed_for_another_namespace_makes_no_secret_here() {
    in_namespace(|space| async move {
        let (stage, _) = Stage::shared(space).await?;
        let other = seal_tests::laptop::secret_manifest("elsewhere", "db", &[("password", "theirs")])?;
        stage.laptop.seal_with(&["-w", "db.yaml"], other)?;
        // Somebody who may write here copies it, and names this namespace everywhere.
        let here = stage.space.name.clone();
        stage
            .tamper("db.yaml", |file| {
                file["metadata"]["namespace"] = here.clone().into();
                file["spec"]["sealedFor"]["namespaces"] = json!([here]);
                Ok(())
            })
            .await?;
        stage.reason("db", DecryptFailed).await?;
        stage.holds_nothing("db").await
    });
}

#[test]
fn a_file_sealed_for_another_name_makes_no_secret_of_this_name() {
    in_namespace(|space| async move {
        let (stage, _) = Stage::shared(space).await?;
        let file = stage.seal("theirs", &[("password", "theirs")])?;
        stage
            .tamper(&file, |file| {
                file["metadata"]["name"] = "mine".into();
                file["spec"]["sealedFor"]["name"] = "mine".into();
                Ok(())
            })
            .await?;
        stage.reason("mine", DecryptFailed).await?;
        stage.holds_nothing("mine").await?;
        stage.holds_nothing("theirs").await
    });
}

#[test]
fn a_template_that_fails_on_purpose_to_leak_shows_no_byte_of_the_value() {
    in_namespace(|space| async move {
        let (stage, controller) = Stage::shared(space).await?;
        let file = stage.seal("db", &[("p", "Zq8WxLeakMarker")])?;
        stage
            .tamper(&file, |file| {
                file["spec"]["template"] = json!({"data": {"out": "{{ index .p (index .p 0) }}"}});
                Ok(())
            })
            .await?;
        let object = stage.reason("db", TemplateFailed).await?;
        let status = serde_json::to_string(&object.status)?;
        let events = serde_json::to_string(&stage.events("db").await?)?;
        let first_byte = format!("{}", b'Z');
        for text in [&status, &events] {
            assert!(!text.contains("Zq8Wx") && !text.contains(&format!(" {first_byte}")), "{text}");
        }
        assert!(!controller.log().contains("Zq8WxLeak"));
        assert!(status.contains("out"), "the key of the template is named: {status}");
        stage.holds_nothing("db").await
    });
}

#[test]
fn a_refused_object_is_tried_ever_more_rarely() {
    in_namespace(|space| async move {
        let (stage, controller) = Stage::shared(space).await?;
        stage.establish("db", &[("password", "good")]).await?;
        stage
            .tamper("db.yaml", |file| {
                file["spec"]["encryptedData"]["password"] = flipped(&token(file, "password")?).into();
                Ok(())
            })
            .await?;
        let refused = stage.reason("db", DecryptFailed).await?;
        let tries = wait::until("it is tried for the third time after that", || async {
            let tries = tries(&controller.log(), &stage.space.name, "db")?;
            Ok(tries.iter().any(|again| again.number >= 3 && again.is_retry).then_some(tries))
        })
        .await?;
        for (before, again) in tries.iter().zip(tries.iter().skip(1)).filter(|(_, again)| again.is_retry) {
            // Doubling from a second on, and up to a quarter shorter.
            let least = SignedDuration::from_millis(750 << (again.number - 1));
            assert!(again.at.duration_since(before.at) >= least, "{before:?}, {again:?}");
        }
        let now = stage.sealed().get("db").await?;
        assert_eq!(refused.resource_version(), now.resource_version(), "the status is written once, not at every try");
        let events = stage.events("db").await?;
        let about_it = |reason: &str| events.iter().filter(|e| e.reason.as_deref() == Some(reason)).count();
        assert!(about_it("DecryptFailed") <= 1, "{events:?}");
        Ok(())
    });
}

/// A look at an object.
#[derive(Debug)]
struct Try {
    /// After so many that came to nothing.
    number: u32,
    is_retry: bool,
    at: Timestamp,
}

/// What a controller's log says of them.
fn tries(log: &str, namespace: &str, name: &str) -> Result<Vec<Try>> {
    let object = format!("{namespace}/{name}");
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let looks = lines.filter(|line| line["message"] == "looked" && line["object"] == object.as_str());
    let read = |line: Value| -> Result<Try> {
        let number = line["attempt"].as_u64().context("a look has a number")?;
        let at = line["timestamp"].as_str().context("a line has a time")?.parse()?;
        Ok(Try { number: u32::try_from(number)?, is_retry: line["lane"] == "Retry", at })
    };
    looks.map(read).collect()
}

#[test]
fn values_of_no_format_stop_no_other_object() {
    in_namespace(|space| async move {
        let (stage, _) = Stage::shared(space).await?;
        stage.establish("good", &[("password", "1")]).await?;
        for number in 0..5 {
            let name = format!("bad-{number}");
            let file = stage.seal(&name, &[("password", "x")])?;
            stage
                .tamper(&file, |file| {
                    file["spec"]["encryptedData"]["password"] = "seal1.zzz.zzz.zzz".into();
                    Ok(())
                })
                .await?;
        }
        stage.laptop.seal_with(&["set", "good.yaml", "password"], "2")?;
        stage.apply("good.yaml").await?;
        stage.holds("good", &[("password", "2")]).await?;
        for number in 0..5 {
            stage.reason(&format!("bad-{number}"), UnknownFormat).await?;
        }
        wait::until("the bad ones made nothing", || async {
            let secrets = stage.space.secrets().list(&kube::api::ListParams::default()).await?;
            Ok((secrets.items.len() == 1).then_some(()))
        })
        .await
    });
}

#[test]
fn a_value_that_validation_refuses_is_told_by_its_field_and_not_by_its_first_byte() {
    in_namespace(|space| async move {
        let (stage, _) = Stage::shared(space).await?;
        let file = stage.seal("registry", &[("login", "%login")])?;
        stage
            .tamper(&file, |file| {
                file["spec"]["template"] =
                    json!({"type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": "{{ .login }}"}});
                Ok(())
            })
            .await?;
        let object = stage.reason("registry", SealedSecretReason::WriteRefused).await?;
        let said = serde_json::to_string(&object.status)?;
        assert!(said.contains("data[.dockerconfigjson]") && !said.contains('%'), "{said}");
        Ok(())
    });
}
