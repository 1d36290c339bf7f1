//! Rights: the controller needs each that the chart gives it, and has none that it must not have.
//!
//! Both halves look at one audit log of the API server, in which every request of the controller stands.

use std::collections::BTreeSet;

use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::authorization::v1::SelfSubjectAccessReview;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::PolicyRule;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use rustix::process::Signal;
use seal_crds::KeyRing;
use seal_tests::control_plane::client_of;
use seal_tests::helm::{self, Helm};
use seal_tests::install::{self, CONTROLLER, NAMESPACE};
use seal_tests::laptop::secret_manifest;
use seal_tests::{
    Context, ControlPlane, Controller, Result, Space, Stage, bail, ensure, in_cluster, in_namespace, manifests, wait,
};
use serde_json::{Value, json};

pub(crate) const CONTROLLER_USER: &str = "system:serviceaccount:sealwright-system:seal-controller";
const FORBIDDEN: u64 = 403;
/// Objects of 1.2 MB each: more than the controller holds while they wait.
const BACKLOG: usize = 16;

/// One verb on one resource: what RBAC gives, and what a request asks for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Right {
    group: String,
    resource: String,
    verb: String,
}

impl Right {
    /// With one name for the verbs that read: each shows the same bytes, and which of them a watch takes depends on the
    /// API server, for older ones cannot stream a list.
    fn reading(self) -> Self {
        let verb = if ["get", "list", "watch"].contains(&self.verb.as_str()) { "read".to_owned() } else { self.verb };
        Self { verb, ..self }
    }
}

/// The roles that are the controller's, without what Vault takes: that is for the suite of Vault to show.
fn roles(mut objects: Vec<DynamicObject>) -> Vec<DynamicObject> {
    objects.retain(|object| {
        let is_role = ["Role", "ClusterRole"].contains(&manifests::kind_of(object));
        is_role && [CONTROLLER, "seal-controller-served"].contains(&object.name_any().as_str())
    });
    objects
}

fn rules_of(role: &DynamicObject) -> Result<Vec<PolicyRule>> {
    serde_json::from_value(role.data["rules"].clone()).context("a role has rules")
}

fn rights_of(rule: &PolicyRule) -> BTreeSet<Right> {
    let mut rights = BTreeSet::new();
    for group in rule.api_groups.iter().flatten() {
        for resource in rule.resources.iter().flatten() {
            for verb in &rule.verbs {
                rights.insert(Right { group: group.clone(), resource: resource.clone(), verb: verb.clone() });
            }
        }
    }
    rights
}

/// What the controller has asked for since the first `before` requests, with the code that it was answered with.
fn asked(plane: &ControlPlane, before: usize) -> Result<Vec<(Right, u64)>> {
    let mut asked = Vec::new();
    for event in plane.audited()?.iter().skip(before) {
        let object = &event["objectRef"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let resource = match object["subresource"].as_str() {
            Some(sub) => format!("{}/{sub}", text(&object["resource"])),
            None => text(&object["resource"]),
        };
        let code = event["responseStatus"]["code"].as_u64().unwrap_or_default();
        let right = Right { group: text(&object["apiGroup"]), resource, verb: text(&event["verb"]) };
        if right.verb == "patch" && code == 201 {
            // Server-side apply that creates is asked for both, and written down once.
            asked.push((Right { verb: "create".to_owned(), ..right.clone() }, code));
        }
        asked.push((right, code));
    }
    Ok(asked)
}

/// Does everything that takes a right: first start, sealing, drift, another type, a backlog beyond what is held.
async fn live(space: &Space) -> Result<()> {
    let controller = Controller::start(&space.plane, CONTROLLER, &[]).await?;
    let stage = Stage::set(space.clone()).await?;
    stage.establish("db", &[("password", "1")]).await?;
    stage.meddle("db", json!({"data": {"password": "bWluZQ=="}})).await?;
    stage.holds("db", &[("password", "1")]).await?;
    let retype = |file: &mut Value| {
        file["spec"]["template"] = json!({"type": "example.com/other"});
        Ok(())
    };
    stage.tamper("db.yaml", retype).await?;
    stage.ready("db").await?;
    ended(controller).await?;
    backlog(&stage).await?;
    let _second = Controller::start(&space.plane, "seal-controller-again", &[]).await?;
    for number in 0..BACKLOG {
        stage.ready(&format!("item-{number}")).await?;
    }
    Ok(())
}

/// More bytes of sealed objects than the controller holds while they wait.
async fn backlog(stage: &Stage) -> Result<()> {
    let manifest = secret_manifest(&stage.space.name, "any", &[("blob", &"x".repeat(900 * 1024))])?;
    let mut object = sealed_for_any_name(stage, manifest)?;
    for number in 0..BACKLOG {
        object.metadata.name = Some(format!("item-{number}"));
        manifests::apply(&stage.space.client, std::slice::from_ref(&object)).await?;
    }
    Ok(())
}

fn sealed_for_any_name(stage: &Stage, manifest: String) -> Result<DynamicObject> {
    let sealed = stage.laptop.seal_with(&["--scope", "namespace"], manifest)?;
    manifests::parse(&sealed)?.pop().context("one document")
}

#[test]
fn every_right_of_the_chart_is_used_and_no_other_is_asked_for() {
    let plane = ControlPlane::start_audited(CONTROLLER_USER).expect("a control plane can be started");
    in_cluster(plane, |space| async move {
        // Without Vault: so it needs nothing of what is given for it.
        install::chart(&space.client, &Helm::find()?.template(&["--set", "vault.enabled=false"])?).await?;
        live(&space).await?;
        let asked = asked(&space.plane, 0)?;
        let refused: BTreeSet<_> =
            asked.iter().filter(|(_, code)| *code == FORBIDDEN).map(|(right, _)| right).collect();
        ensure!(refused.is_empty(), "asked for, and not given: {refused:?}");
        let used: BTreeSet<_> = asked.iter().map(|(right, _)| right.clone().reading()).collect();
        let mut given = BTreeSet::new();
        for role in roles(helm::rendered()?) {
            given.extend(rules_of(&role)?.iter().flat_map(rights_of).map(Right::reading));
        }
        let unused: Vec<_> = given.difference(&used).collect();
        ensure!(unused.is_empty(), "given, and never used: {unused:?}");
        Ok(())
    });
}

#[test]
fn without_any_one_of_the_rules_the_controller_is_refused_what_it_needs() {
    every_rule_is_missed(|_| helm::rendered());
}

#[test]
fn nor_is_there_a_rule_too_many_where_it_serves_some_namespaces() {
    every_rule_is_missed(|space| helm::for_namespaces(&[&space.name]));
}

fn every_rule_is_missed(rendered: impl FnOnce(&Space) -> Result<Vec<DynamicObject>>) {
    let plane = ControlPlane::start_audited(CONTROLLER_USER).expect("a control plane can be started");
    in_cluster(plane, |space| async move {
        let objects = rendered(&space)?;
        install::chart(&space.client, &objects).await?;
        let first = Controller::start(&space.plane, CONTROLLER, &[]).await?;
        let stage = Stage::set(space).await?;
        let object = sealed_for_any_name(&stage, secret_manifest(&stage.space.name, "any", &[("a", "1")])?)?;
        ended(first).await?;
        for role in roles(objects) {
            for number in 0..rules_of(&role)?.len() {
                let what =
                    format!("{} {} without its rule number {number}", manifests::kind_of(&role), role.name_any());
                is_missed(&stage, &role, number, &object).await.context(what)?;
            }
        }
        Ok(())
    });
}

/// Takes one rule out, begins anew with an empty namespace and a new object, and waits until what it gave is refused.
async fn is_missed(stage: &Stage, role: &DynamicObject, number: usize, object: &DynamicObject) -> Result<()> {
    let space = &stage.space;
    forget(space).await?;
    let mut object = object.clone();
    object.metadata.name = Some(format!("{}-{}-{number}", manifests::kind_of(role).to_lowercase(), role.name_any()));
    manifests::apply(&space.client, &[object]).await?;
    let rule = rules_of(role)?.remove(number);
    let mut less = role.clone();
    less.data["rules"].as_array_mut().context("a role has rules")?.remove(number);
    manifests::apply(&space.client, &[less]).await?;
    let (rights, before) = (rights_of(&rule), space.plane.audited()?.len());
    let controller = Controller::spawn(&space.plane, CONTROLLER, &[]).await?;
    wait::until(&format!("one of {rights:?} is refused"), || async {
        let asked = asked(&space.plane, before)?;
        Ok(asked.iter().any(|(right, code)| *code == FORBIDDEN && rights.contains(right)).then_some(()))
    })
    .await?;
    ended(controller).await?;
    manifests::apply(&space.client, std::slice::from_ref(role)).await.map(drop)
}

/// As if there had never been a controller: identity, lease, rings and what it has published.
async fn forget(space: &Space) -> Result<()> {
    let (client, all) = (&space.client, ListParams::default());
    let gone = DeleteParams::default();
    Api::<KeyRing>::namespaced(client.clone(), NAMESPACE).delete_collection(&gone, &all).await?;
    Api::<Lease>::namespaced(client.clone(), NAMESPACE).delete_collection(&gone, &all).await?;
    let secrets: Api<Secret> = Api::namespaced(client.clone(), NAMESPACE);
    secrets.delete_collection(&gone, &all).await?;
    let configs: Api<ConfigMap> = Api::namespaced(client.clone(), NAMESPACE);
    configs.delete_collection(&gone, &all).await?;
    Ok(())
}

/// Ends it as a kubelet does; it hands the lease over.
async fn ended(controller: Controller) -> Result<()> {
    controller.process().signal(Signal::TERM)?;
    wait::until("the controller has ended", || async { Ok(controller.process().ended()?.map(drop)) }).await
}

#[test]
fn the_controllers_account_may_do_nothing_besides() {
    in_namespace(|space| async move {
        install::everything(&space.client).await?;
        let own = client_of(&space.plane.kubeconfig_of(NAMESPACE, CONTROLLER).await?).await?;
        let reviews: Api<SelfSubjectAccessReview> = Api::all(own);
        for (group, resource, verbs, namespace) in [
            ("", "secrets", "update deletecollection", ""),
            ("", "pods", "get list create delete", NAMESPACE),
            ("", "pods/exec", "get create", NAMESPACE),
            ("", "nodes", "get list", ""),
            ("", "nodes/proxy", "get create", ""),
            ("", "configmaps", "list watch create patch delete", "kube-system"),
            ("", "namespaces", "create patch delete", ""),
            ("", "serviceaccounts", "list create patch impersonate", ""),
            ("", "users", "impersonate", ""),
            ("", "groups", "impersonate", ""),
            ("apps", "deployments", "get create patch", NAMESPACE),
            ("coordination.k8s.io", "leases", "get update", "kube-system"),
            ("rbac.authorization.k8s.io", "roles", "get create patch bind escalate", NAMESPACE),
            ("rbac.authorization.k8s.io", "clusterroles", "get create patch bind escalate", ""),
            ("rbac.authorization.k8s.io", "clusterrolebindings", "create patch", ""),
            ("admissionregistration.k8s.io", "validatingadmissionpolicies", "patch delete", ""),
            ("admissionregistration.k8s.io", "validatingadmissionpolicybindings", "patch delete", ""),
            ("apiextensions.k8s.io", "customresourcedefinitions", "list create patch update delete", ""),
            ("certificates.k8s.io", "certificatesigningrequests", "create", ""),
            ("sealwright.dev", "sealedsecrets", "create update patch delete", ""),
            ("sealwright.dev", "keyrings", "update delete", NAMESPACE),
            ("sealwright.dev", "keyrings", "create patch", "kube-system"),
            ("sealwright.dev", "vaultstores", "create update patch delete", ""),
        ] {
            for verb in verbs.split(' ') {
                let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
                let review = serde_json::from_value(json!({"metadata": {}, "spec": {"resourceAttributes": {
                    "group": group, "resource": resource, "subresource": subresource, "verb": verb, "namespace": namespace,
                }}}))?;
                let answer = reviews.create(&PostParams::default(), &review).await?.status.context("an answer")?;
                ensure!(!answer.allowed, "it may {verb} {resource}.{group} in {namespace:?}: {:?}", answer.reason);
            }
        }
        Ok(())
    });
}

#[test]
fn the_controllers_account_may_write_no_secret_token_or_ring_that_is_not_its_work() {
    in_namespace(|space| async move {
        let (stage, _) = Stage::shared(space).await?;
        let space = &stage.space;
        stage.establish("ours", &[("a", "1")]).await?;
        let foreign = manifests::parse(&secret_manifest(&space.name, "foreign", &[("a", "1")])?)?;
        manifests::apply(&space.client, &foreign).await?;
        manifests::apply(&space.client, &policies()?).await?;
        let own = client_of(&space.plane.kubeconfig_of(NAMESPACE, CONTROLLER).await?).await?;
        let (here, home): (Api<Secret>, Api<Secret>) =
            (Api::namespaced(own.clone(), &space.name), Api::namespaced(own.clone(), NAMESPACE));
        let apply = PatchParams::apply("seal-controller").force();
        let secret = |name: &str, body: Value| {
            let mut whole = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}});
            for (key, value) in body.as_object().into_iter().flatten() {
                whole[key] = value.clone();
            }
            whole["metadata"]["name"] = name.into();
            Patch::Apply(whole)
        };
        let label = json!({"labels": {"sealwright.dev/owner": "x"}});
        let (unlabelled, not_ours, power) = ("without the label", "not its own", "a type that gives power");

        // A policy is at work a moment after it is made.
        wait::until("the policies are at work", || async {
            Ok(refused(here.patch("new", &apply, &secret("new", json!({}))).await, unlabelled).is_ok().then_some(()))
        })
        .await?;
        refused(here.patch("foreign", &apply, &secret("foreign", json!({"metadata": label}))).await, not_ours)?;
        refused(here.delete("foreign", &DeleteParams::default()).await, not_ours)?;
        let unlabel =
            Patch::Merge(json!({"metadata": {"labels": {"sealwright.dev/owner": null}}, "data": {"a": "Mg=="}}));
        refused(here.patch("ours", &PatchParams::default(), &unlabel).await, unlabelled)?;
        refused(home.delete("identity-1", &DeleteParams::default()).await, not_ours)?;
        let touch = Patch::Merge(json!({"metadata": {"labels": {"sealwright.dev/owner": "x"}}}));
        refused(home.patch("identity-1", &PatchParams::default(), &touch).await, not_ours)?;
        for kind in ["kubernetes.io/service-account-token", "bootstrap.kubernetes.io/token", "sealwright.dev/identity"]
        {
            let mut body = json!({"metadata": label, "type": kind});
            body["metadata"]["annotations"] = json!({"kubernetes.io/service-account.name": "default"});
            refused(here.patch("identity-7", &apply, &secret("identity-7", body)).await, power)?;
        }
        let key = json!({"metadata": {"labels": {
            "sealwright.dev/owner": "x", "sealedsecrets.bitnami.com/sealed-secrets-key": "active",
        }}});
        refused(here.patch("key", &apply, &secret("key", key)).await, "no key of sealed-secrets")?;

        let rings: Api<KeyRing> = Api::namespaced(own.clone(), NAMESPACE);
        let planted = Patch::Merge(json!({"spec": {"proof": format!("{}=", "A".repeat(43))}}));
        refused(rings.patch("default", &PatchParams::default(), &planted).await, "rings belong to Git")?;

        let token = async |namespace: &str, account: &str, audiences: Value| {
            let accounts: Api<ServiceAccount> = Api::namespaced(own.clone(), namespace);
            let request: TokenRequest =
                serde_json::from_value(json!({"metadata": {}, "spec": {"audiences": audiences}}))?;
            Result::<_>::Ok(accounts.create_token_request(account, &PostParams::default(), &request).await)
        };
        let unlisted = "does not list this audience";
        // Without one it would be a token for the API server.
        wait::until("the policy of tokens is at work", || async {
            Ok(refused(token(&space.name, "default", json!([])).await?, unlisted).is_ok().then_some(()))
        })
        .await?;
        refused(token(&space.name, "default", json!(["vault", "bank"])).await?, unlisted)?;
        refused(token(NAMESPACE, CONTROLLER, json!(["vault"])).await?, "no token of its own")?;
        token(&space.name, "default", json!(["vault"])).await?.map(drop).context("a token for Vault")
    });
}

/// The policies with nothing but the chart's defaults.
fn policies() -> Result<Vec<DynamicObject>> {
    let mut objects = Helm::find()?.template(&[])?;
    objects.retain(|object| manifests::kind_of(object) == "ValidatingAdmissionPolicy");
    Ok(objects)
}

/// The policies refuse with this message.
fn refused<T>(answer: kube::Result<T>, message: &str) -> Result<()> {
    match answer {
        Err(kube::Error::Api(status)) if status.message.contains(message) => Ok(()),
        Err(error) => bail!("refused, but not with `{message}`: {error}"),
        Ok(_) => bail!("not refused, where `{message}` was to be said"),
    }
}
