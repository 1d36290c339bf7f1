//! Applications: made as people make them, and read as Argo CD's own pages show them.

use anyhow::{Context, Result, ensure};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use seal_tests::argo_cd::{ArgoCd, NAMESPACE};
use seal_tests::wait;
use serde_json::{Value, json};

use crate::world::World;

/// Argo CD deletes what belongs to an Application before the Application goes.
const CASCADE: &str = "resources-finalizer.argocd.argoproj.io";

const REFRESH: &str = "argocd.argoproj.io/refresh";

impl World<'_> {
    pub(crate) fn applications(&self) -> Api<DynamicObject> {
        ArgoCd::applications(&self.client)
    }

    /// Makes an Application over a folder of the repository, with the policy that our guide advises.
    ///
    /// `source` is what it says besides the path.
    pub(crate) async fn apply_folder(&self, name: &str, namespace: &str, path: &str, source: Value) -> Result<()> {
        let mut full = json!({
            "repoURL": format!("file://{}", self.laptop.folder().display()), "targetRevision": "main", "path": path,
        });
        if let (Some(full), Some(further)) = (full.as_object_mut(), source.as_object()) {
            full.extend(further.clone());
        }
        let application = serde_json::from_value(json!({
            "apiVersion": "argoproj.io/v1alpha1", "kind": "Application",
            "metadata": {"name": name, "namespace": NAMESPACE, "finalizers": [CASCADE]},
            "spec": {
                "project": "default", "source": full,
                "destination": {"server": "https://kubernetes.default.svc", "namespace": namespace},
                "syncPolicy": {
                    "automated": {"prune": true, "selfHeal": true},
                    // By default a commit that fails is tried five times, for minutes, before the next has its turn.
                    "retry": {"limit": 1, "backoff": {"duration": "1s"}},
                    "syncOptions": ["CreateNamespace=true", "ServerSideApply=true"],
                },
            },
        }))
        .context("make an Application")?;
        let made = self.applications().create(&PostParams::default(), &application).await;
        made.with_context(|| format!("make Application {name}")).map(drop)
    }

    /// Deletes an Application with all that belongs to it.
    pub(crate) async fn drop_application(&self, name: &str) -> Result<()> {
        let applications = self.applications();
        applications.delete(name, &DeleteParams::default()).await.context("delete an Application")?;
        wait::until(&format!("Application {name} is gone"), || async {
            Ok(applications.get_opt(name).await?.is_none().then_some(()))
        })
        .await
    }

    /// Commits everything, and tells Argo CD, as a webhook would.
    pub(crate) async fn push(&self, message: &str, application: &str) -> Result<()> {
        self.laptop.commit(message)?;
        self.refresh(application, "normal").await
    }

    /// Asks for a comparison and waits until it was made; `hard` takes nothing from a cache.
    pub(crate) async fn refresh(&self, name: &str, how: &str) -> Result<()> {
        let applications = self.applications();
        let patch = json!({"metadata": {"annotations": {REFRESH: how}}});
        applications.patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await.context("ask for a refresh")?;
        wait::until(&format!("{name} is refreshed"), || async {
            self.assert_running()?;
            let application = applications.get(name).await?;
            Ok((!application.annotations().contains_key(REFRESH)).then_some(()))
        })
        .await
    }

    /// Waits until the last commit is Synced, and the whole of it has this health.
    pub(crate) async fn is_synced(&self, name: &str, health: &str) -> Result<()> {
        let head = self.laptop.git(&["rev-parse", "HEAD"])?;
        self.shows(name, &format!("{name} is Synced and {health}"), |status| {
            ensure!(
                status["sync"]["status"] == "Synced"
                    && status["sync"]["revision"] == head.trim()
                    && status["health"]["status"] == health,
                "it is {} at {}, and {}: {} {}",
                status["sync"]["status"],
                status["sync"]["revision"],
                status["health"]["status"],
                status["operationState"]["message"],
                status["conditions"],
            );
            Ok(())
        })
        .await
        .map(drop)
    }

    /// Waits until one object of an Application has this health, with these words beside; gives all of them.
    pub(crate) async fn has_health(
        &self,
        name: &str,
        (kind, object): (&str, &str),
        health: &str,
        words: &str,
    ) -> Result<String> {
        let message = |status: &Value| -> Result<String> {
            let found = &resource(status, kind, object)?["health"];
            let told = found["message"].as_str().unwrap_or_default();
            ensure!(found["status"] == health && told.contains(words), "it is {found}");
            Ok(told.to_owned())
        };
        let what = format!("{name}: {kind} {object} is {health}, {words}");
        let status = self.shows(name, &what, |status| message(status).map(drop)).await?;
        message(&status)
    }

    /// Waits until the status of an Application passes; gives it.
    pub(crate) async fn shows(&self, name: &str, what: &str, passes: impl Fn(&Value) -> Result<()>) -> Result<Value> {
        let applications = self.applications();
        wait::until(what, || async {
            self.assert_running()?;
            let status = applications.get(name).await?.data["status"].clone();
            passes(&status)?;
            Ok(Some(status))
        })
        .await
    }

    /// For whoever reads a failure.
    pub(crate) async fn applications_as_they_are(&self) -> Result<Vec<String>> {
        let all = self.applications().list(&ListParams::default()).await?;
        let told = all.iter().map(|application| {
            let status = &application.data["status"];
            let parts = ["sync", "health", "resources", "conditions", "operationState"].map(|part| &status[part]);
            format!("{}: {parts:?}", application.name_any())
        });
        Ok(told.collect())
    }
}

/// What an Application's status says of one object.
fn resource<'a>(status: &'a Value, kind: &str, name: &str) -> Result<&'a Value> {
    let mut resources = status["resources"].as_array().into_iter().flatten();
    let found = resources.find(|resource| resource["kind"] == kind && resource["name"] == name);
    found.with_context(|| format!("no {kind} {name} among its resources"))
}
