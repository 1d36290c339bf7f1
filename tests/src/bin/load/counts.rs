//! The API server's own count of the requests that it has answered.

use std::collections::BTreeMap;

use anyhow::Result;
use kube::Client;
use seal_tests::control_plane::http_get;
use seal_tests::http::metric;

/// Requests by resource and verb.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counts(pub(crate) BTreeMap<(&'static str, &'static str), u64>);

const RESOURCES: [&str; 4] = ["secrets", "sealedsecrets", "sealedsecrets/status", "events"];
const VERBS: [&str; 8] = ["GET", "LIST", "WATCH", "POST", "PUT", "PATCH", "APPLY", "DELETE"];

impl Counts {
    pub(crate) async fn read(client: &Client) -> Result<Self> {
        let text = client.request_text(http_get("/metrics")?).await?;
        let mut counts = BTreeMap::new();
        for resource in RESOURCES {
            let (name, part) = resource.split_once('/').unwrap_or((resource, ""));
            let (name, part) = (format!(",resource=\"{name}\","), format!("subresource=\"{part}\""));
            for verb in VERBS {
                let labels = [name.as_str(), part.as_str(), &format!("verb=\"{verb}\"")];
                counts.insert((resource, verb), metric(&text, "apiserver_request_total", &labels) as u64);
            }
        }
        Ok(Self(counts))
    }

    /// What has been added since then.
    pub(crate) fn since(&self, before: &Self) -> Self {
        let old = |key| before.0.get(key).copied().unwrap_or_default();
        Self(self.0.iter().map(|(key, now)| (*key, now.saturating_sub(old(key)))).filter(|(_, n)| *n > 0).collect())
    }
}
