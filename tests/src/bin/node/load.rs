//! Many SealedSecrets, each of which must get its Secret.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use kube::api::DynamicObject;
use seal_tests::{Stage, laptop, manifests};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// How many may wait for their Secrets at the same time.
const AT_ONCE: usize = 20;

/// They differ in their names alone, for they are sealed once, for the whole namespace.
#[derive(Clone)]
pub(crate) struct Load {
    stage: Arc<Stage>,
    pattern: DynamicObject,
    value: Arc<str>,
}

impl Load {
    /// Seals this value; the objects will be called `name-0`, `name-1`, ...
    pub(crate) fn of(stage: Stage, name: &str, value: &str) -> Result<Self> {
        let (file, data) = (format!("{name}.yaml"), [("password", value)]);
        let manifest = laptop::secret_manifest(&stage.space.name, name, &data)?;
        stage.laptop.seal_with(&["--scope", "namespace", "-w", &file], manifest)?;
        let pattern = manifests::read(&stage.laptop.path(&file))?.pop().context("there is one document")?;
        Ok(Self { stage: Arc::new(stage), pattern, value: value.into() })
    }

    /// Applies one after the other until so many make it over; how long each waited for its Secret.
    pub(crate) async fn until(&self, is_over: impl Fn(usize) -> bool) -> Result<Vec<Duration>> {
        let at_once = Arc::new(Semaphore::new(AT_ONCE));
        let mut waits = JoinSet::new();
        while !is_over(waits.len()) {
            let permit = Arc::clone(&at_once).acquire_owned().await?;
            let (load, number, begin) = (self.clone(), waits.len(), Instant::now());
            self.apply(number).await?;
            // Each is waited for beside those that follow, so that a late one does not hold up the load.
            waits.spawn(async move {
                load.has_its_secret(number).await?;
                drop(permit);
                Ok::<_, anyhow::Error>(begin.elapsed())
            });
        }
        waits.join_all().await.into_iter().collect()
    }

    /// Applies one of them.
    pub(crate) async fn apply(&self, number: usize) -> Result<()> {
        let mut object = self.pattern.clone();
        object.metadata.name = Some(self.name(number));
        manifests::apply(&self.stage.space.client, &[object]).await.map(drop)
    }

    /// Waits until one of them has its Secret.
    pub(crate) async fn has_its_secret(&self, number: usize) -> Result<()> {
        self.stage.holds(&self.name(number), &[("password", &self.value)]).await
    }

    fn name(&self, number: usize) -> String {
        format!("{}-{number}", self.pattern.metadata.name.as_deref().unwrap_or_default())
    }
}
