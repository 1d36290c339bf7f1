//! A namespace for each test, on the control plane that the test binary shares.

use std::future::Future;
use std::panic::{AssertUnwindSafe, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};
use futures::FutureExt;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::Client;
use kube::api::{Api, PostParams};
use kube::core::ObjectMeta;

use crate::control_plane::ControlPlane;
use crate::dump;

/// What a test has: a cluster, an administrator's client, a namespace of its own.
#[derive(Clone)]
pub struct Space {
    /// The cluster.
    pub plane: Arc<ControlPlane>,
    /// An administrator's client.
    pub client: Client,
    /// The namespace.
    pub name: String,
}

impl Space {
    /// Makes a new namespace.
    pub async fn make(plane: Arc<ControlPlane>) -> Result<Self> {
        static MADE: AtomicUsize = AtomicUsize::new(1);
        Self::named(plane, format!("test-{}", MADE.fetch_add(1, Ordering::Relaxed))).await
    }

    /// Makes the namespace of this name.
    pub async fn named(plane: Arc<ControlPlane>, name: String) -> Result<Self> {
        let client = plane.client().await?;
        let namespace =
            Namespace { metadata: ObjectMeta { name: Some(name.clone()), ..Default::default() }, ..Default::default() };
        let namespaces: Api<Namespace> = Api::all(client.clone());
        namespaces.create(&PostParams::default(), &namespace).await.context("make a namespace")?;
        Ok(Self { plane, client, name })
    }

    /// The Secrets of the namespace.
    pub fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), &self.name)
    }
}

/// Runs a test in a namespace of its own, on the cluster that the test binary shares; when it fails, shows what was
/// in there.
///
/// The namespace is left as it is: the whole cluster goes when the test binary ends.
pub fn in_namespace<T, F>(test: T)
where
    T: FnOnce(Space) -> F,
    F: Future<Output = Result<()>>,
{
    run(ControlPlane::shared(), test);
}

/// Runs a test on a cluster of its own, which it may break.
pub fn in_own_cluster<T, F>(test: T)
where
    T: FnOnce(Space) -> F,
    F: Future<Output = Result<()>>,
{
    run(Arc::new(ControlPlane::start().expect("a control plane can be started")), test);
}

/// Runs a test on a cluster that was started for it.
pub fn in_cluster<T, F>(plane: ControlPlane, test: T)
where
    T: FnOnce(Space) -> F,
    F: Future<Output = Result<()>>,
{
    run(Arc::new(plane), test);
}

fn run<T, F>(plane: Arc<ControlPlane>, test: T)
where
    T: FnOnce(Space) -> F,
    F: Future<Output = Result<()>>,
{
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime can be started").block_on(async {
        let space = Space::make(plane).await.expect("a namespace can be made");
        let outcome = AssertUnwindSafe(test(space.clone())).catch_unwind().await;
        if !matches!(outcome, Ok(Ok(()))) {
            dump::show(&space).await;
        }
        match outcome {
            // Without the backtrace that anyhow's own Debug brings: it says nothing about the cluster.
            Ok(result) => result.unwrap_or_else(|error| panic!("{}", chain(&error))),
            Err(panic) => resume_unwind(panic),
        }
    });
}

fn chain(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).collect::<Vec<_>>().join("\n  caused by: ")
}
