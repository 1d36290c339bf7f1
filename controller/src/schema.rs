//! Whether the CRDs in the cluster know every field that this controller writes.
//!
//! CRD -> its schema number -> may we write? An older CRD prunes fields that it does not know on every status write,
//! and for good (`docs/design/controller.md` 8), so under one nothing is written, and that is said.

use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{Api, Client, CustomResourceExt, ResourceExt};
use seal_crds::{KeyRing, SCHEMA, SCHEMA_ANNOTATION, SealedSecret, VaultStore};
use tokio::sync::watch;
use tracing::{error, info};

use crate::{apply::DEADLINE, error::within};

/// How soon the CRDs are looked at again: while they are too old, and while they are right.
const SOON: Duration = Duration::from_secs(5);
const LATER: Duration = Duration::from_secs(60);

/// What the CRDs are like.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Verdict {
    Right,
    Outdated(String),
    Unknown(String),
}

/// Keeps `is_right` true to the cluster; ends only with the process.
pub async fn watch(client: Client, is_right: watch::Sender<bool>) {
    let api: Api<CustomResourceDefinition> = Api::all(client);
    let mut said = None;
    loop {
        let verdict = verdict(&api).await;
        if said.as_ref() != Some(&verdict) {
            match &verdict {
                Verdict::Right => info!(schema = SCHEMA, "the CRDs are right"),
                Verdict::Outdated(why) => error!("nothing is written: {why}; apply the CRDs of this version"),
                Verdict::Unknown(why) => error!("nothing is written: {why}"),
            }
        }
        // What was right stays right while the API server cannot be asked.
        match verdict {
            Verdict::Right => drop(is_right.send_replace(true)),
            Verdict::Outdated(_) => drop(is_right.send_replace(false)),
            Verdict::Unknown(_) => {}
        }
        said = Some(verdict);
        tokio::time::sleep(if *is_right.borrow() { LATER } else { SOON }).await;
    }
}

async fn verdict(api: &Api<CustomResourceDefinition>) -> Verdict {
    for name in [SealedSecret::crd_name(), KeyRing::crd_name(), VaultStore::crd_name()] {
        match within(DEADLINE, api.get_metadata(name)).await {
            Ok(crd) => {
                let number = crd.annotations().get(SCHEMA_ANNOTATION).and_then(|number| number.parse::<u32>().ok());
                if number.is_none_or(|number| number < SCHEMA) {
                    let number = number.map_or_else(|| "none".to_owned(), |number| number.to_string());
                    return Verdict::Outdated(format!(
                        "CRD {name} has schema number {number}, this controller needs {SCHEMA}"
                    ));
                }
            }
            Err(error) if error.is_not_found() => return Verdict::Unknown(format!("CRD {name} is not installed")),
            Err(error) => return Verdict::Unknown(format!("cannot read CRD {name}: {error}")),
        }
    }
    Verdict::Right
}
