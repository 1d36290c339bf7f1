//! The story itself: every step is a short function that does it, shows it, and waits until it is seen to be so.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Secret;
use kube::Client;
use kube::api::{Api, DeleteParams, Patch, PatchParams};
use seal_crds::SealedSecret;
use seal_crds::condition::{READY, find};
use seal_tests::openbao::Bao;
use seal_tests::stage::{RECOVERY, text_of};
use seal_tests::{Laptop, binaries, wait};
use serde_json::json;

use crate::cluster::{Cluster, SHOP};
use crate::operator::Operator;
use seal_tests::narrator::Narrator;

/// What is left when the story is over.
pub(crate) struct Ending {
    pub(crate) laptop: Laptop,
    pub(crate) operator: Operator,
    // Killed when dropped: whoever goes on playing goes on having it.
    _bao: Option<Bao>,
    kubeconfig: std::path::PathBuf,
    controller_url: Option<String>,
}

/// The people and machines of the story.
pub(crate) struct Scene<'a> {
    pub(crate) laptop: Laptop,
    operator: Operator,
    pub(crate) client: Client,
    pub(crate) narrator: &'a mut Narrator,
}

/// Tells it from the first key to the recovery without a cluster.
pub(crate) async fn tell(cluster: &mut Cluster, narrator: &mut Narrator) -> Result<Ending> {
    let laptop = Laptop::new(cluster.kubeconfig().to_owned())?;
    narrator.step("A recovery identity, which stays offline");
    narrator.command("seal keygen -w ../recovery.txt > recovery.pub");
    let recovery = laptop.seal(&["keygen", "-w", RECOVERY])?;
    laptop.write("recovery.pub", &recovery)?;
    narrator.shows(&recovery);

    narrator.step("Install Sealwright");
    cluster.install(&recovery, narrator).await?;

    let client = cluster.client().await?;
    let operator = Operator::new(&laptop, client.clone())?;
    let mut scene = Scene { laptop, operator, client, narrator };
    scene.pin_the_ring()?;
    scene.seal()?;
    scene.commit_and_apply().await?;
    scene.change().await?;
    scene.meddle().await?;
    scene.tamper().await?;
    scene.merge().await?;
    let bao = scene.refer_to_vault(cluster).await?;
    scene.recover()?;
    Ok(Ending {
        _bao: bao,
        laptop: scene.laptop,
        operator: scene.operator,
        kubeconfig: cluster.kubeconfig().to_owned(),
        controller_url: cluster.controller_url(),
    })
}

impl Scene<'_> {
    fn pin_the_ring(&mut self) -> Result<()> {
        self.narrator.step("Pin the cluster's key ring in the repository");
        self.seal_shown(&["init", "--from-cluster"])?;
        self.narrator.say("From now on sealing reads that file, and never the network.");
        Ok(())
    }

    fn seal(&mut self) -> Result<()> {
        self.narrator.step("Seal a Secret");
        let secret = format!(
            "apiVersion: v1\nkind: Secret\nmetadata:\n  name: db\n  namespace: {SHOP}\nstringData:\n  user: app\n  \
             password: correct horse battery staple\n"
        );
        self.laptop.write("../secret.yaml", &secret)?;
        self.narrator.command("cat ../secret.yaml     # as `kubectl create secret --dry-run=client -o yaml` prints it");
        self.narrator.shows(&secret);
        self.seal_shown(&["../secret.yaml", "-w", "db.yaml"])?;
        self.narrator.command("cat db.yaml");
        self.narrator.shows(&self.laptop.read("db.yaml")?);
        Ok(())
    }

    async fn commit_and_apply(&mut self) -> Result<()> {
        self.narrator.step("Commit it; a Git operator applies it; the controller opens it");
        self.commit("database password")?;
        self.applied().await?;
        let begin = Instant::now();
        self.holds("password", "correct horse battery staple").await?;
        self.narrator.seen("Secret db holds user=app, password=correct horse battery staple", begin);
        self.show_object().await
    }

    async fn change(&mut self) -> Result<()> {
        self.narrator.step("Change one value: one line of diff, no private key");
        self.narrator.command("printf %s 'hunter2' | seal set db.yaml password");
        self.answered(&["set", "db.yaml", "password"], "hunter2")?;
        self.narrator.command("git diff --stat");
        self.narrator.shows(&self.laptop.git(&["diff", "--stat"])?);
        self.commit("a new database password")?;
        self.applied().await?;
        let begin = Instant::now();
        self.holds("password", "hunter2").await?;
        self.narrator.seen("Secret db holds password=hunter2", begin);
        Ok(())
    }

    async fn meddle(&mut self) -> Result<()> {
        self.narrator.step("Somebody changes the Secret by hand, then deletes it");
        let edit = json!({"stringData": {"password": "mine now", "extra": "key"}});
        self.narrator.command(format!("kubectl -n {SHOP} patch secret db -p '{edit}'"));
        let params = PatchParams { field_manager: Some("somebody".into()), ..PatchParams::default() };
        self.secrets().patch("db", &params, &Patch::Merge(&edit)).await?;
        let begin = Instant::now();
        wait::until("the Secret is repaired", || async {
            let data = text_of(&self.secrets().get("db").await?);
            Ok((data["password"] == "hunter2" && !data.contains_key("extra")).then_some(()))
        })
        .await?;
        self.narrator.seen("repaired", begin);
        self.narrator.command(format!("kubectl -n {SHOP} delete secret db"));
        self.secrets().delete("db", &DeleteParams::default()).await?;
        let begin = Instant::now();
        self.holds("password", "hunter2").await?;
        self.narrator.seen("made again", begin);
        Ok(())
    }

    async fn tamper(&mut self) -> Result<()> {
        self.narrator.step("Somebody tampers with the file in Git");
        self.narrator.say("The sealed password is copied to the key `user`, to be shown where user names are shown:");
        let file = self.laptop.read("db.yaml")?;
        self.laptop.write("db.yaml", moved(&file)?)?;
        self.narrator.command("git commit --all --message 'tidy up'");
        self.laptop.commit("tidy up")?;
        self.applied().await?;
        let begin = Instant::now();
        let message = self.refused().await?;
        self.narrator.seen("refused", begin);
        self.narrator.shows(&message);
        self.narrator.say("The last good Secret is untouched, and serves on.");
        self.narrator.command("git revert HEAD");
        self.laptop.git(&["revert", "--no-edit", "HEAD"])?;
        self.applied().await?;
        let begin = Instant::now();
        self.is_ready().await?;
        self.narrator.seen("healed by itself", begin);
        Ok(())
    }

    async fn merge(&mut self) -> Result<()> {
        self.narrator.step("Two people change different keys of the file at once");
        for (branch, key, value) in [("anna", "user", "shop"), ("ben", "password", "tr0ub4dor")] {
            self.laptop.git(&["switch", "--quiet", "--create", branch, "main"])?;
            self.narrator.command(format!("git switch --create {branch}; printf %s ... | seal set db.yaml {key}"));
            self.laptop.seal_with(&["set", "db.yaml", key], value)?;
            self.laptop.commit(&format!("{branch} changes the {key}"))?;
        }
        self.laptop.git(&["switch", "--quiet", "main"])?;
        self.narrator.command("git switch main; git merge anna; git merge ben");
        self.laptop.git(&["merge", "--quiet", "--no-edit", "anna"])?;
        self.laptop.git(&["merge", "--quiet", "--no-edit", "ben"])?;
        self.applied().await?;
        let begin = Instant::now();
        self.holds("user", "shop").await?;
        self.holds("password", "tr0ub4dor").await?;
        self.narrator.seen("merged by plain git; Secret db holds both", begin);
        Ok(())
    }

    fn recover(&mut self) -> Result<()> {
        self.narrator.step("The cluster is lost; the repository and the recovery identity are not");
        self.narrator.say("No cluster is asked:");
        self.narrator.command(format!("seal open db.yaml -i {RECOVERY} --key password"));
        let opened = self.laptop.seal(&["open", "db.yaml", "-i", RECOVERY, "--key", "password"])?;
        ensure!(opened == "tr0ub4dor", "`seal open` printed another value");
        self.narrator.shows(&opened);
        Ok(())
    }

    pub(crate) fn seal_shown(&self, arguments: &[&str]) -> Result<()> {
        self.narrator.command(format!("seal {}", arguments.join(" ")));
        self.answered(arguments, "")
    }

    fn answered(&self, arguments: &[&str], stdin: &str) -> Result<()> {
        let said = self.laptop.try_seal(arguments, stdin)?;
        self.narrator.answers(&said);
        ensure!(said.code == Some(0), "`seal {}` ended with {:?}", arguments.join(" "), said.code);
        Ok(())
    }

    pub(crate) fn commit(&self, message: &str) -> Result<()> {
        self.narrator.command(format!("git add --all; git commit --message '{message}'"));
        self.laptop.commit(message)
    }

    pub(crate) async fn applied(&self) -> Result<()> {
        let commit = self.operator.sync().await?.context("there is nothing new to apply")?;
        self.narrator.say(format!("The operator pulls and applies {commit}"));
        Ok(())
    }

    pub(crate) fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), SHOP)
    }

    pub(crate) fn sealed(&self) -> Api<SealedSecret> {
        Api::namespaced(self.client.clone(), SHOP)
    }

    async fn holds(&self, key: &str, value: &str) -> Result<()> {
        wait::until(&format!("Secret db holds the new {key}"), || async {
            let secret = self.secrets().get_opt("db").await?;
            Ok(secret.filter(|secret| text_of(secret).get(key).is_some_and(|held| held == value)).map(drop))
        })
        .await
    }

    /// `Ready` of the object, once the controller has seen it as it is now: status, reason, message.
    async fn readiness(&self) -> Result<Option<(String, String, String)>> {
        let object = self.sealed().get("db").await?;
        let status = object.status.unwrap_or_default();
        if status.observed_generation != object.metadata.generation {
            return Ok(None);
        }
        let ready = find(&status.conditions, READY).cloned();
        Ok(ready.map(|ready| (ready.status, ready.reason, ready.message)))
    }

    async fn is_ready(&self) -> Result<()> {
        wait::until("SealedSecret db is Ready", || async {
            Ok(self.readiness().await?.filter(|(status, ..)| status == "True").map(drop))
        })
        .await
    }

    async fn refused(&self) -> Result<String> {
        wait::until("SealedSecret db is refused", || async {
            let refusal = self.readiness().await?.filter(|(status, ..)| status == "False");
            Ok(refusal.map(|(status, reason, message)| format!("Ready={status}  {reason}: {message}")))
        })
        .await
    }

    async fn show_object(&self) -> Result<()> {
        self.is_ready().await?;
        let (status, reason, message) = self.readiness().await?.context("the object has been seen")?;
        self.narrator.command(format!("kubectl -n {SHOP} get sealedsecret db"));
        self.narrator.shows(&format!("NAME   READY   REASON\ndb     {status}    {reason}   {message}"));
        Ok(())
    }
}

/// The file with the sealed value of `password` under the key `user`.
fn moved(file: &str) -> Result<String> {
    let mut document: serde_json::Value = serde_yaml::from_str(file).context("read db.yaml")?;
    document["spec"]["encryptedData"]["user"] = document["spec"]["encryptedData"]["password"].clone();
    serde_yaml::to_string(&document).context("write db.yaml")
}

/// What a stranger could do now.
pub(crate) fn what_next(ending: &Ending, keep: bool, narrator: &mut Narrator) {
    if !keep {
        narrator.step("What to try next");
        narrator.command("cargo demo --keep                 # leaves it running, for you to play with");
        narrator.command("cargo demo --kubeconfig FILE      # the same, in a cluster of yours");
        narrator.command("cargo test                        # everything that is claimed, on real servers");
        narrator.command("cargo install --locked --path cli # `seal`, for your own repositories");
        return;
    }
    narrator.step("It is left running, until Ctrl-C");
    let folder = narrator.path(&ending.laptop.folder());
    narrator.say("In another terminal:");
    narrator.command(format!("export KUBECONFIG={}", narrator.path(&ending.kubeconfig)));
    if let Ok(seal) = binaries::seal() {
        narrator.command(format!("PATH={}:$PATH", narrator.path(seal.parent().unwrap_or(&seal))));
    }
    narrator.command(format!("cd {folder}"));
    narrator.command("printf %s 'my value' | seal set db.yaml password && git commit --all --message 'my change'");
    narrator.say("Every commit on `main` is applied within a second.");
    if let Some(url) = &ending.controller_url {
        narrator.command(format!("seal verify db.yaml --controller-url {url}"));
    }
}
