//! Which namespaces are served, and the watches that this takes.
//!
//! ```text
//! --namespaces -> Realm -> a watch of the cluster, or one of each namespace -> rewatch::follow
//! ```
//!
//! Where only some namespaces are served, nothing is asked of the API server that takes a right in the whole cluster
//! (`docs/design/controller.md` 12).

use std::{iter, sync::Arc};

use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client, CustomResourceExt,
    api::{DynamicObject, PartialObjectMeta},
};
use seal_envelope::Place;

/// The namespaces that are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Realm {
    /// All of them.
    Cluster,
    /// These and no others.
    Namespaces(Arc<[Arc<str>]>),
}

/// What one watch covers: a namespace, or the whole cluster.
pub type Region<'a> = Option<&'a str>;

impl Realm {
    /// The realm of these namespaces; of all, if none is named. Else gives the number, from 1, of what is no name.
    pub fn of(names: &[String]) -> Result<Self, usize> {
        let mut namespaces: Vec<Arc<str>> = Vec::with_capacity(names.len());
        for (name, position) in iter::zip(names, 1_usize..) {
            // Every namespace is one of a place where a Secret could be.
            Place::new(name, "any").map_err(|_| position)?;
            if !namespaces.iter().any(|known| **known == **name) {
                namespaces.push(name.as_str().into());
            }
        }
        Ok(if namespaces.is_empty() { Self::Cluster } else { Self::Namespaces(namespaces.into()) })
    }

    /// Whether SealedSecrets of this namespace become Secrets here.
    pub fn serves(&self, namespace: &str) -> bool {
        match self {
            Self::Cluster => true,
            Self::Namespaces(names) => names.iter().any(|name| **name == *namespace),
        }
    }

    /// What there is to watch, each by itself.
    pub fn regions(&self) -> Vec<Option<Arc<str>>> {
        match self {
            Self::Cluster => vec![None],
            Self::Namespaces(names) => names.iter().cloned().map(Some).collect(),
        }
    }
}

/// Whether a namespace belongs to a region.
pub fn is_in(namespace: &str, region: Region<'_>) -> bool {
    region.is_none_or(|region| region == namespace)
}

/// The objects of one of our kinds in a region, as they are: one that makes no sense must not stop the others.
pub fn objects<K: CustomResourceExt>(client: Client) -> impl Fn(Region<'_>) -> Api<DynamicObject> {
    let kind = K::api_resource();
    move |region| match region {
        None => Api::all_with(client.clone(), &kind),
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &kind),
    }
}

/// The metadata of the Secrets of a region.
pub fn secrets(client: Client) -> impl Fn(Region<'_>) -> Api<PartialObjectMeta<Secret>> {
    move |region| match region {
        None => Api::all(client.clone()),
        Some(namespace) => Api::namespaced(client.clone(), namespace),
    }
}
