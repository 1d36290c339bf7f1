//! Installs Sealwright into a control plane, as the guide says: the CRDs, then the manifests of the chart.

use std::path::{Path, PathBuf};

use anyhow::Result;
use kube::Client;

use crate::binaries::ROOT;
use crate::manifests;

/// The controller's namespace.
pub const NAMESPACE: &str = "sealwright-system";
/// The controller's ServiceAccount, and the Service in front of it.
pub const CONTROLLER: &str = "seal-controller";

/// The folder of the CRDs.
pub fn crds() -> PathBuf {
    Path::new(ROOT).join("crds")
}

/// Applies the CRDs and waits until they are served.
pub async fn definitions(client: &Client) -> Result<()> {
    manifests::apply_crds(client, &crds()).await
}

/// Applies the CRDs, the namespace and the rights.
pub async fn everything(client: &Client) -> Result<()> {
    definitions(client).await?;
    manifests::apply(client, &manifests::read(&Path::new(ROOT).join("charts/sealwright/install"))?).await.map(drop)
}
