//! A Git operator in forty lines: pulls, and applies what has changed, as Argo CD and Flux do.

use std::time::Duration;

use anyhow::{Context, Result};
use kube::Client;
use seal_tests::{Laptop, manifests};

use seal_tests::narrator::Narrator;

const BETWEEN_PULLS: Duration = Duration::from_secs(1);

/// A clone of the laptop's repository, and the cluster that it is applied to.
pub(crate) struct Operator {
    clone: Laptop,
    client: Client,
}

impl Operator {
    pub(crate) fn new(laptop: &Laptop, client: Client) -> Result<Self> {
        let clone = Laptop::new("/dev/null".into())?;
        let origin = laptop.folder();
        clone.git(&["remote", "add", "origin", origin.to_str().context("the repository's path is no text")?])?;
        Ok(Self { clone, client })
    }

    /// Pulls `main`, and applies everything if it is new; gives the new commit.
    pub(crate) async fn sync(&self) -> Result<Option<String>> {
        let before = self.clone.git(&["rev-parse", "--verify", "--quiet", "HEAD"]).unwrap_or_default();
        self.clone.git(&["fetch", "--quiet", "origin", "main"])?;
        self.clone.git(&["reset", "--quiet", "--hard", "FETCH_HEAD"])?;
        if self.clone.git(&["rev-parse", "HEAD"])? == before {
            return Ok(None);
        }
        for folder in [".seal/keyrings", "."] {
            let folder = self.clone.path(folder);
            if folder.is_dir() {
                manifests::apply(&self.client, &manifests::read(&folder)?).await?;
            }
        }
        self.clone.git(&["log", "-1", "--format=%h %s"]).map(|line| Some(line.trim().to_owned()))
    }
}

/// Goes on syncing for whoever plays with the repository.
pub(crate) async fn serve(operator: &Operator, narrator: &Narrator) -> Result<()> {
    loop {
        match operator.sync().await {
            Ok(Some(commit)) => narrator.say(format!("applied {commit}")),
            Ok(None) => {}
            Err(error) => narrator.say(format!("could not apply the last commit: {error:#}")),
        }
        tokio::time::sleep(BETWEEN_PULLS).await;
    }
}
