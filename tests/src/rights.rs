//! The controller's rights one verb at a time: taken out of its role, missed, given back.
//!
//! a rendered role -> [`each_verb`] -> [`Less::take`] -> what is refused ([`Less::is_missed`]) -> [`Less::give`].

use std::fmt;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use k8s_openapi::api::rbac::v1::PolicyRule;
use kube::api::{Api, DynamicObject, PostParams};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};

use crate::control_plane::ControlPlane;
use crate::{manifests, wait};

/// Who the controller is towards the API server.
pub const CONTROLLER_USER: &str = "system:serviceaccount:sealwright-system:seal-controller";

/// A control plane that writes down what the controller asks for. It streams no lists, as those of Kubernetes 1.33: there,
/// each watch begins with a list.
pub fn plane() -> ControlPlane {
    let flags = ["--feature-gates=WatchList=false"];
    ControlPlane::start_audited(CONTROLLER_USER, &flags).expect("a control plane can be started")
}

/// A role that lacks one verb of one rule.
#[derive(Debug, Clone)]
pub struct Less {
    /// The resource of the rule, such as `sealedsecrets/status`.
    pub resource: String,
    /// What may not be done with it.
    pub verb: String,
    group: String,
    name: Option<String>,
    whole: DynamicObject,
    less: DynamicObject,
}

impl fmt::Display for Less {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (kind, name) = (manifests::kind_of(&self.whole), self.whole.name_any());
        write!(f, "`{} {}` of {kind} {name}", self.verb, self.resource)
    }
}

/// The role without each of its verbs in turn.
pub fn each_verb(role: &DynamicObject) -> Result<Vec<Less>> {
    let mut each = Vec::new();
    for (number, rule) in rules_of(role)?.iter().enumerate() {
        let (groups, resources) = (rule.api_groups.iter().flatten(), rule.resources.iter().flatten());
        let ([group], [resource]) = (&*groups.collect::<Vec<_>>(), &*resources.collect::<Vec<_>>()) else {
            anyhow::bail!("a rule of {} is about more than one resource: {rule:?}", role.name_any());
        };
        for verb in &rule.verbs {
            let mut less = role.clone();
            let verbs: Vec<_> = rule.verbs.iter().filter(|other| *other != verb).collect();
            let rules = less.data["rules"].as_array_mut().context("a role has rules")?;
            if verbs.is_empty() {
                rules.remove(number);
            } else {
                rules[number]["verbs"] = json!(verbs);
            }
            let (group, resource, verb) = ((*group).clone(), (*resource).clone(), verb.clone());
            let name = rule.resource_names.iter().flatten().next().cloned();
            each.push(Less { resource, verb, group, name, whole: role.clone(), less });
        }
    }
    ensure!(!each.is_empty(), "{} gives nothing", role.name_any());
    Ok(each)
}

fn rules_of(role: &DynamicObject) -> Result<Vec<PolicyRule>> {
    serde_json::from_value(role.data["rules"].clone()).context("a role has rules")
}

impl Less {
    /// The namespace of the role, if it has one.
    pub fn namespace(&self) -> Option<String> {
        self.whole.namespace()
    }

    /// Takes the verb away, and waits until that counts. Never, if another rule gives it too.
    pub async fn take(&self, client: &Client) -> Result<()> {
        manifests::apply(client, std::slice::from_ref(&self.less)).await?;
        self.counts(client, false).await
    }

    /// Gives it back.
    pub async fn give(&self, client: &Client) -> Result<()> {
        manifests::apply(client, std::slice::from_ref(&self.whole)).await?;
        self.counts(client, true).await
    }

    async fn counts(&self, client: &Client, wanted: bool) -> Result<()> {
        let (resource, subresource) = self.resource.split_once('/').unwrap_or((&self.resource, ""));
        let review: SubjectAccessReview = serde_json::from_value(json!({"spec": {
            "user": CONTROLLER_USER, "groups": ["system:authenticated"], "resourceAttributes": {
                "group": self.group, "resource": resource, "subresource": subresource, "verb": self.verb,
                "name": self.name, "namespace": self.namespace(),
            },
        }}))?;
        let reviews: Api<SubjectAccessReview> = Api::all(client.clone());
        wait::until_equal(&format!("whether {self} is given"), wanted, || async {
            let answer = reviews.create(&PostParams::default(), &review).await?;
            Ok(answer.status.context("a review has an answer")?.allowed)
        })
        .await
    }

    /// Waits until the controller was refused for want of exactly this, since the first `before` requests.
    pub async fn is_missed(&self, plane: &ControlPlane, before: usize) -> Result<()> {
        let is_missed = || async { Ok(self.is_refused(plane, before)?.then_some(())) };
        wait::until(&format!("{self} is missed"), is_missed).await
    }

    fn is_refused(&self, plane: &ControlPlane, before: usize) -> Result<bool> {
        let namespace = self.namespace();
        Ok(plane.audited(before)?.iter().any(|event| {
            let object = &event["objectRef"];
            let is_here = namespace.as_deref().is_none_or(|namespace| object["namespace"] == *namespace);
            is_here && event["responseStatus"]["code"] == 403 && resource_of(object) == self.resource && {
                // Server-side apply that creates is asked for both, and written down as what is asked first.
                let is_allowed = event["annotations"]["authorization.k8s.io/decision"] == "allow";
                if is_allowed { event["verb"] == "patch" && self.verb == "create" } else { event["verb"] == *self.verb }
            }
        }))
    }
}

fn resource_of(object: &Value) -> String {
    let text = |name: &str| object[name].as_str().unwrap_or_default();
    [text("resource"), text("subresource")].join("/").trim_end_matches('/').to_owned()
}
