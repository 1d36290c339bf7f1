//! A marker planted in plaintexts appears nowhere but in Secrets.

use k8s_openapi::api::core::v1::Event;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams};
use ring::digest::{SHA256, digest};
use seal_crds::condition::SealedSecretReason::{DecryptFailed, TargetNotOwned, TemplateFailed, UnknownFormat};
use seal_tests::stage::RECOVERY;
use seal_tests::{Stage, in_namespace};
use serde_json::json;

/// Long and odd enough to be nothing else.
const MARKER: &str = "Xq7-marker-vLw93kTzPlaintext";

/// The marker as a program might write it: as it is, in base64 at each of the three offsets, in hex, as a list of
/// numbers, and its plain hash.
fn spellings() -> Vec<String> {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD_NO_PAD;
    let mut all = vec![MARKER.to_owned()];
    for offset in 0..3 {
        let encoded = STANDARD_NO_PAD.encode(format!("{}{MARKER}", "x".repeat(offset)));
        // The first and the last characters depend on the neighbours.
        all.push(encoded[offset + 1..encoded.len() - 3].to_owned());
    }
    all.push(MARKER.bytes().map(|byte| format!("{byte:02x}")).collect());
    all.push(MARKER.bytes().map(|byte| byte.to_string()).collect::<Vec<_>>().join(", "));
    all.push(digest(&SHA256, MARKER.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect());
    all
}

fn assert_clean(place: &str, text: &str) {
    for spelling in spellings() {
        assert!(!text.contains(&spelling), "the plaintext stands in {place}, as {spelling}");
    }
}

#[test]
fn the_spellings_would_be_found() {
    use base64::Engine;
    for around in ["", "a", "ab", "abc"] {
        let text = base64::engine::general_purpose::STANDARD.encode(format!("{around}{MARKER}!!"));
        assert!(spellings().iter().any(|spelling| text.contains(spelling)), "{text}");
    }
}

#[test]
fn the_plaintext_is_in_no_log_event_status_metric_or_answer_whatever_goes_wrong() {
    in_namespace(|space| async move {
        let (stage, controller) = Stage::shared(space).await?;
        let mut talk = String::new();
        // Shorter than its first character's code, so that `index .p (index .p 0)` fails and would quote it.
        let value = format!("{MARKER}: {{{{ {MARKER} }}}}");
        assert!(value.len() < usize::from(value.as_bytes()[0]));

        // All is well; changed, meddled with, repaired, deleted.
        stage.establish("db", &[("password", &value), ("user", MARKER)]).await?;
        stage.laptop.seal_with(&["set", "db.yaml", "password"], MARKER)?;
        stage.apply("db.yaml").await?;
        stage.holds("db", &[("password", MARKER), ("user", MARKER)]).await?;
        stage.meddle("db", json!({"stringData": {"user": format!("{MARKER} by hand"), "extra": MARKER}})).await?;
        stage.holds("db", &[("password", MARKER), ("user", MARKER)]).await?;
        stage.space.secrets().delete("db", &DeleteParams::default()).await?;
        stage.holds("db", &[("password", MARKER), ("user", MARKER)]).await?;

        // Templates that fail on the value itself.
        let failing = [
            "{{ index .p (index .p 0) }}",
            "{{ .p.deeper }}",
            "{{ fromJson .p }}",
            "{{ .p | b64dec }}",
            "{{ fail .p }}",
            "{{ template .p }}",
            "{{ required .p .none }}",
            "{{ atoi .p }}",
            "{{ (index .p 1000) }}",
            "{{ printf \"%d\" .p | len | index .p }}",
            "{{ regexMatch .p .p }}",
            "{{ repeat 999999999 .p }}",
            "{{ mustFromJson .p }}",
            "{{ .p | toDate }}",
        ];
        for (number, template) in failing.iter().enumerate() {
            let name = format!("template-{number}");
            let file = stage.seal(&name, &[("p", &value)])?;
            let change = |file: &mut serde_json::Value| {
                file["spec"]["template"] = json!({"data": {"out": template}});
                Ok(())
            };
            stage.tamper(&file, change).await?;
        }
        stage.reason("template-0", TemplateFailed).await?;

        // A target of somebody else that holds the marker too; values that are altered or unknown.
        let theirs = serde_json::from_value(json!({"metadata": {"name": "theirs"}, "stringData": {"p": MARKER}}))?;
        stage.space.secrets().create(&kube::api::PostParams::default(), &theirs).await?;
        stage.apply(&stage.seal("theirs", &[("p", MARKER)])?).await?;
        stage.reason("theirs", TargetNotOwned).await?;
        for (name, from, to, reason) in
            [("altered", "A", "B", DecryptFailed), ("unknown", "seal1.", "seal9.", UnknownFormat)]
        {
            let file = stage.seal(name, &[("p", MARKER)])?;
            let change = |file: &mut serde_json::Value| {
                let token = file["spec"]["encryptedData"]["p"].as_str().unwrap_or_default().to_owned();
                let (head, tail) = if from == "A" { token.split_at(600) } else { token.split_at(0) };
                file["spec"]["encryptedData"]["p"] = format!("{head}{}", tail.replacen(from, to, 1)).into();
                Ok(())
            };
            stage.tamper(&file, change).await?;
            stage.reason(name, reason).await?;
        }

        // A person pastes the plaintext where a sealed value belongs, into the cluster and into the tool.
        let answer = controller.post("/v1/verify", stage.laptop.read("db.yaml")?.into_bytes()).await?;
        talk += &answer.body;
        let pasted = json!({"apiVersion": "sealwright.dev/v1alpha1", "kind": "SealedSecret", "metadata": {"name": MARKER, "namespace": stage.space.name}, "spec": {"sealedFor": {}, "encryptedData": {"p": MARKER}}});
        talk += &controller.post("/v1/verify", serde_json::to_vec(&pasted)?).await?.body;
        for file in ["db.yaml", "altered.yaml", "unknown.yaml", "theirs.yaml"] {
            for arguments in [
                &["verify", file, "--controller-url", &controller.url()][..],
                &["ls", file],
                &["verify", file, "-i", RECOVERY],
            ] {
                let said = stage.laptop.try_seal(arguments, "")?;
                talk += &said.stderr;
                talk += &String::from_utf8_lossy(&said.stdout);
            }
        }
        for broken in [
            format!("kind: Secret\ndata: {{p: {MARKER}"),
            format!("{{\"kind\": \"Secret\", \"data\": {{\"p\": \"{MARKER}\"}}}}"),
            format!("kind: Secret\nmetadata: {{name: x, namespace: y}}\ndata: [{MARKER}]"),
        ] {
            let said = stage.laptop.try_seal(&["--name", "x"], broken)?;
            talk += &said.stderr;
            talk += &String::from_utf8_lossy(&said.stdout);
        }
        let said = stage.laptop.try_seal(&["keygen", "-w", "/nonexistent/file"], MARKER)?;
        talk += &said.stderr;

        for path in ["/metrics", "/healthz", "/readyz", "/v1/recipient", "/", "/v1/verify", "/debug"] {
            talk += &controller.get(path).await?.body;
        }
        assert_clean("what the controller or seal said", &talk);
        let log = controller.log();
        assert!(log.lines().count() > 100 && log.contains("\"DEBUG\""), "the log says as much as it can");
        assert_clean("the controller's log", &log);
        let events: Api<Event> = Api::namespaced(stage.space.client.clone(), &stage.space.name);
        assert_clean("an Event", &serde_json::to_string(&events.list(&ListParams::default()).await?.items)?);
        for object in stage.sealed().list(&ListParams::default()).await? {
            let status = serde_json::to_string(&object.status)?;
            assert_clean(&format!("the status of {}", object.name_any()), &status);
            assert_clean(&object.name_any(), &serde_json::to_string(&object)?);
        }
        // And not in the laptop's folder, which is what is pushed.
        assert!(stage.laptop.git(&["grep", "--quiet", MARKER, "HEAD"]).is_err(), "the plaintext is in the repository");
        Ok(())
    });
}
