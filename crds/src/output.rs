//! What no SealedSecret may produce, whoever wrote it.
//!
//! One list, for the rules of the API server (made from it below), for `seal`, and for the controller, which
//! judges again: an object may have been stored under an older definition.

use kube::core::Rule;
use thiserror::Error;

use crate::API_GROUP;

/// Types that make a Secret a credential of the cluster, or what Helm applies at a rollback.
const TYPES: [&str; 3] = ["kubernetes.io/service-account-token", "bootstrap.kubernetes.io/token", "helm.sh/release.v1"];

/// The label by which sealed-secrets, and whoever takes its place, finds its private keys.
const SEALED_SECRETS_KEY: &str = "sealedsecrets.bitnami.com/sealed-secrets-key";

/// Labels and annotations by which Argo CD, Flux and Helm know what is theirs, to change and to prune. Only those:
/// others of the same prefixes, such as `argocd.argoproj.io/secret-type`, belong on Secrets.
const TRACKING: [&str; 9] = [
    "argocd.argoproj.io/instance",
    "argocd.argoproj.io/installation-id",
    "argocd.argoproj.io/tracking-id",
    "helm.toolkit.fluxcd.io/name",
    "helm.toolkit.fluxcd.io/namespace",
    "kustomize.toolkit.fluxcd.io/name",
    "kustomize.toolkit.fluxcd.io/namespace",
    "meta.helm.sh/release-name",
    "meta.helm.sh/release-namespace",
];

/// Labels that many set, and the one value of each by which Helm knows what is its own: an object, and a release.
const HELM: [(&str, &str); 2] = [("app.kubernetes.io/managed-by", "Helm"), ("owner", "helm")];

/// Why a part of a Secret is refused. Names the kind of part, not the part.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum RefusedOutput {
    /// A type that others trust.
    #[error("a Secret of this type would be a credential of the cluster or of the controller, or a release of Helm")]
    Type,
    /// A label or annotation under `sealwright.dev/`.
    #[error("keys under sealwright.dev/ are the controller's own")]
    Own,
    /// The mark of a private key of sealed-secrets.
    #[error("this key marks the private keys of sealed-secrets")]
    SealedSecretsKey,
    /// A label or annotation by which other tools track their objects.
    #[error("the tracking keys of Argo CD, Flux and Helm would make the Secret theirs")]
    Tracking,
}

/// Whether a Secret may have this type.
///
/// # Errors
///
/// Says why not.
pub fn check_type(type_: &str) -> Result<(), RefusedOutput> {
    if TYPES.contains(&type_) || is_own(type_) { Err(RefusedOutput::Type) } else { Ok(()) }
}

/// Whether a Secret may carry this label.
///
/// # Errors
///
/// Says why not.
pub fn check_label(key: &str, value: &str) -> Result<(), RefusedOutput> {
    if HELM.contains(&(key, value)) { Err(RefusedOutput::Tracking) } else { check_key(key) }
}

/// Whether a Secret may carry this annotation.
///
/// # Errors
///
/// Says why not.
pub fn check_annotation(key: &str) -> Result<(), RefusedOutput> {
    check_key(key)
}

fn check_key(key: &str) -> Result<(), RefusedOutput> {
    if is_own(key) {
        Err(RefusedOutput::Own)
    } else if key == SEALED_SECRETS_KEY {
        Err(RefusedOutput::SealedSecretsKey)
    } else if TRACKING.contains(&key) {
        Err(RefusedOutput::Tracking)
    } else {
        Ok(())
    }
}

/// Whether a type or a key is under our own group.
fn is_own(name: &str) -> bool {
    name.strip_prefix(API_GROUP).is_some_and(|rest| rest.starts_with('/'))
}

/// [`check_type`] as a rule on a type.
pub(crate) fn type_rule() -> Rule {
    rule(format!("!(self in {TYPES:?}) && !self.startsWith('{API_GROUP}/')"), RefusedOutput::Type)
}

/// [`check_annotation`] as rules on a map.
pub(crate) fn annotation_rules() -> Vec<Rule> {
    vec![
        rule(format!("!self.exists(k, k.startsWith('{API_GROUP}/'))"), RefusedOutput::Own),
        rule(format!("!('{SEALED_SECRETS_KEY}' in self)"), RefusedOutput::SealedSecretsKey),
        rule(format!("!{TRACKING:?}.exists(k, k in self)"), RefusedOutput::Tracking),
    ]
}

/// [`check_label`] as rules on a map.
pub(crate) fn label_rules() -> Vec<Rule> {
    let helm = HELM
        .map(|(key, value)| rule(format!("!('{key}' in self) || self['{key}'] != '{value}'"), RefusedOutput::Tracking));
    annotation_rules().into_iter().chain(helm).collect()
}

fn rule(rule: String, refused: RefusedOutput) -> Rule {
    Rule::new(rule).message(refused.to_string().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_that_others_trust_are_refused() {
        for type_ in TYPES.into_iter().chain(["sealwright.dev/identity", "sealwright.dev/"]) {
            assert_eq!(check_type(type_), Err(RefusedOutput::Type), "{type_}");
        }
        for type_ in ["Opaque", "kubernetes.io/tls", "kubernetes.io/dockerconfigjson", "sealwright.device/x"] {
            assert_eq!(check_type(type_), Ok(()), "{type_}");
        }
    }

    #[test]
    fn marks_of_others_are_refused_and_only_those() {
        for (key, value, refused) in [
            ("sealwright.dev/owner", "x", RefusedOutput::Own),
            ("sealwright.dev/vault-auth", "true", RefusedOutput::Own),
            (SEALED_SECRETS_KEY, "active", RefusedOutput::SealedSecretsKey),
            ("argocd.argoproj.io/tracking-id", "x", RefusedOutput::Tracking),
            ("app.kubernetes.io/managed-by", "Helm", RefusedOutput::Tracking),
            ("owner", "helm", RefusedOutput::Tracking),
        ] {
            assert_eq!(check_label(key, value), Err(refused), "{key}");
        }
        for (key, value) in [
            ("app.kubernetes.io/managed-by", "sealwright"),
            ("app.kubernetes.io/instance", "shop"),
            ("owner", "shop"),
            ("argocd.argoproj.io/secret-type", "repository"),
            ("helm.sh/resource-policy", "keep"),
            ("reflector.v1.k8s.emberstack.com/reflection-allowed", "true"),
        ] {
            assert_eq!(check_label(key, value), Ok(()), "{key}");
        }
    }
}
