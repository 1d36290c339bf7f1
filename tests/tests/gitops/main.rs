//! What GitOps systems make of our objects, judged by their own code in each state that a real controller brings about.

mod kustomize;

use std::fs;
use std::path::PathBuf;

use kube::api::Api;
use kube::core::ObjectMeta;
use seal_crds::condition::SealedSecretReason::{SealedForElsewhere, WriteRefused};
use seal_crds::condition::{self, READY};
use seal_crds::{KeyRing, SealedSecret, VaultStore};
use seal_tests::gitops::Judges;
use seal_tests::install;
use seal_tests::openbao::Bao;
use seal_tests::process::Guard;
use seal_tests::{Context, Result, Stage, ensure, helm, in_namespace, manifests, wait};
use serde_json::{Value, json};

/// The scripts as they are shipped, by kind.
fn scripts() -> Result<Vec<(String, String)>> {
    let shipped = fs::read_to_string(helm::chart().join("files/argocd-cm.yaml"))?;
    let shipped: Value = serde_yaml::from_str(&shipped)?;
    let data = shipped["data"].as_object().context("it is a ConfigMap's data")?;
    let script = |(key, script): (&String, &Value)| {
        let kind = key.strip_prefix("resource.customizations.health.sealwright.dev_");
        Ok((kind.context("a key names a kind")?.to_owned(), script.as_str().context("a script is text")?.to_owned()))
    };
    data.iter().map(script).collect()
}

/// What both systems say of an object.
struct Court {
    judges: Judges,
    folder: tempfile::TempDir,
}

impl Court {
    fn sits() -> Result<Self> {
        let folder = tempfile::tempdir()?;
        for (kind, script) in scripts()? {
            fs::write(folder.path().join(kind), script)?;
        }
        Ok(Self { judges: Judges::find()?, folder })
    }

    fn finds(&self, what: &str, object: &Value, flux: &str, argo_cd: &str) -> Result<()> {
        let kind = object["kind"].as_str().context("an object has a kind")?;
        let by_flux = self.judges.kstatus(object)?;
        let by_argo_cd = self.judges.lua(&self.folder.path().join(kind), object)?;
        ensure!(by_flux.status == flux, "{kind}, {what}: Flux says {by_flux:?}, not {flux}");
        ensure!(by_argo_cd.status == argo_cd, "{kind}, {what}: Argo CD says {by_argo_cd:?}, not {argo_cd}");
        Ok(())
    }
}

/// As the API server shows it.
fn shown<K: serde::Serialize>(kind: &str, object: &K) -> Result<Value> {
    let mut shown = serde_json::to_value(object)?;
    shown["apiVersion"] = "sealwright.dev/v1alpha1".into();
    shown["kind"] = kind.into();
    Ok(shown)
}

#[test]
fn flux_and_argo_cd_see_in_each_state_whether_to_go_on_to_wait_or_to_give_up() {
    in_namespace(|space| async move {
        let court = Court::sits()?;
        // Before there is a controller.
        install::definitions(&space.client).await?;
        let text = fs::read_to_string(install::crds().join("tests/cases/accepted/sealedsecret-strict.yaml"))?;
        let mut fresh = manifests::parse(&text)?;
        fresh[0].metadata = ObjectMeta { name: fresh[0].metadata.name.clone(), ..ObjectMeta::default() };
        fresh[0].metadata.namespace = Some(space.name.clone());
        let fresh = manifests::apply(&space.client, &fresh).await?;
        court.finds("just applied", &serde_json::to_value(&fresh[0])?, "InProgress", "Progressing")?;

        let (stage, _) = Stage::shared(space).await?;
        let good = stage.establish("good", &[("password", "1")]).await?;
        court.finds("ready", &shown("SealedSecret", &good)?, "Current", "Healthy")?;
        let mut changed = shown("SealedSecret", &good)?;
        changed["metadata"]["generation"] = json!(good.metadata.generation.unwrap_or_default() + 1);
        court.finds("changed, and not looked at since", &changed, "InProgress", "Progressing")?;

        stage.seal("lost", &[("password", "1")])?;
        let elsewhere = |file: &mut Value| {
            file["spec"]["sealedFor"]["namespaces"] = json!(["elsewhere"]);
            Ok(())
        };
        stage.tamper("lost.yaml", elsewhere).await?;
        let lost: SealedSecret = stage.reason("lost", SealedForElsewhere).await?;
        court.finds("sealed for elsewhere", &shown("SealedSecret", &lost)?, "Failed", "Degraded")?;

        stage.no_more_secrets().await?;
        stage.apply(&stage.seal("late", &[("password", "1")])?).await?;
        let late = stage.reason("late", WriteRefused).await?;
        court.finds("refused by a quota", &shown("SealedSecret", &late)?, "InProgress", "Progressing")?;

        let ring = stage.ring_is("Opened").await?;
        court.finds("opened", &shown("KeyRing", &ring)?, "Current", "Healthy")?;
        court.finds("where it does not count", &elsewhere_ring(&stage).await?, "Failed", "Degraded")?;
        let guard = Guard::start()?;
        let bao = Bao::dev(&guard, "bao").await?;
        let store = unused_store(&stage, "there", &bao.url(), "Reachable").await?;
        court.finds("there", &store, "Current", "Healthy")?;
        let store = unused_store(&stage, "out", "http://127.0.0.1:1", "VaultUnreachable").await?;
        court.finds("out", &store, "InProgress", "Progressing")
    });
}

/// A store that nobody refers to: whoever will may be in a later wave.
async fn unused_store(stage: &Stage, name: &str, address: &str, reason: &str) -> Result<Value> {
    let auth = json!({"token": {"secretRef": {"name": "login", "key": "token"}}});
    let store = json!({
        "apiVersion": "sealwright.dev/v1alpha1", "kind": "VaultStore",
        "metadata": {"name": name, "namespace": stage.space.name},
        "spec": {"address": address, "tls": {"allowPlaintext": true}, "auth": auth},
    });
    manifests::apply(&stage.space.client, &[serde_json::from_value(store)?]).await?;
    let stores: Api<VaultStore> = Api::namespaced(stage.space.client.clone(), &stage.space.name);
    let store = wait::until(&format!("store {name} is {reason}"), || async {
        let store = stores.get(name).await?;
        let ready = store.status.as_ref().and_then(|status| condition::find(&status.conditions, READY));
        let is_told = ready.is_some_and(|ready| ready.reason == reason);
        Ok(is_told.then_some(store))
    })
    .await?;
    shown("VaultStore", &store)
}

/// The ring in a namespace that is not the controller's.
async fn elsewhere_ring(stage: &Stage) -> Result<Value> {
    let mut ring = manifests::read(&stage.laptop.path(&stage.ring_file()))?;
    ring[0].metadata.namespace = Some(stage.space.name.clone());
    manifests::apply(&stage.space.client, &ring).await?;
    let rings: Api<KeyRing> = Api::namespaced(stage.space.client.clone(), &stage.space.name);
    let ring = wait::until("the controller has looked at the other ring", || async {
        let ring = rings.get(&stage.ring).await?;
        let is_seen = ring.status.as_ref().is_some_and(|status| status.observed_generation == ring.metadata.generation);
        Ok(is_seen.then_some(ring))
    })
    .await?;
    shown("KeyRing", &ring)
}

/// The manifests that the API server takes or refuses.
fn cases(folder: &str) -> Result<Vec<PathBuf>> {
    let folder = install::crds().join("tests/cases").join(folder);
    let files: Result<Vec<_>, _> = fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect();
    Ok(files?)
}

#[test]
fn kubeconform_takes_what_the_api_server_takes_and_no_unknown_field() -> Result<()> {
    let judges = Judges::find()?;
    let schemas = install::crds().join("schemas");
    let location = format!("{}/{{{{.ResourceKind}}}}_{{{{.ResourceAPIVersion}}}}.json", schemas.display());
    let run = |files: &[PathBuf]| {
        let files = files.iter().map(|file| file.to_string_lossy().into_owned());
        let flags = ["-strict", "-summary", "-schema-location", &location].map(str::to_owned);
        judges.kubeconform(&flags.into_iter().chain(files).collect::<Vec<_>>())
    };
    let accepted = run(&cases("accepted")?)?;
    ensure!(accepted.status.success(), "{}", String::from_utf8_lossy(&accepted.stdout));

    let typo = tempfile::Builder::new().suffix(".yaml").tempfile()?;
    let good = fs::read_to_string(install::crds().join("tests/cases/accepted/sealedsecret-strict.yaml"))?;
    ensure!(good.contains("sealedFor:"), "there is something to misspell");
    fs::write(&typo, good.replace("sealedFor:", "sealedfor:"))?;
    let refused = run(&[typo.path().to_owned()])?;
    let said = String::from_utf8_lossy(&refused.stdout);
    ensure!(!refused.status.success() && said.contains("sealedfor"), "{said}");
    Ok(())
}
