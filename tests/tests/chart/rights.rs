//! Rights: the controller asks for none that the chart does not give it, and has none that it must not have.
//!
//! That it needs each is shown in `verbs`.

use std::collections::BTreeSet;

use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::authorization::v1::SelfSubjectAccessReview;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use kube::api::{Api, DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use seal_crds::KeyRing;
use seal_tests::control_plane::client_of;
use seal_tests::helm::Helm;
use seal_tests::install::{self, CONTROLLER, NAMESPACE};
use seal_tests::laptop::secret_manifest;
use seal_tests::rights::CONTROLLER_USER;
use seal_tests::{
    Context, ControlPlane, Controller, Result, Stage, bail, ensure, in_cluster, in_namespace, manifests, wait,
};
use serde_json::{Value, json};

#[test]
fn no_right_is_asked_for_that_the_chart_does_not_give() {
    let plane = ControlPlane::start_audited(CONTROLLER_USER, &[]).expect("a control plane can be started");
    in_cluster(plane, |space| async move {
        // Without Vault: so it needs nothing of what is given for it.
        install::chart(&space.client, &Helm::find()?.template(&["--set", "vault.enabled=false"])?).await?;
        let _controller = Controller::start(&space.plane, CONTROLLER, &[]).await?;
        let stage = Stage::set(space).await?;
        stage.establish("db", &[("password", "1")]).await?;
        stage.meddle("db", json!({"data": {"password": "bWluZQ=="}})).await?;
        stage.holds("db", &[("password", "1")]).await?;
        let retype = |file: &mut Value| {
            file["spec"]["template"] = json!({"type": "example.com/other"});
            Ok(())
        };
        stage.tamper("db.yaml", retype).await?;
        stage.ready("db").await?;
        let asked = stage.space.plane.audited(0)?;
        let refused = asked.iter().filter(|event| event["responseStatus"]["code"] == 403);
        let refused: BTreeSet<_> = refused.map(|event| event["responseStatus"]["message"].to_string()).collect();
        ensure!(refused.is_empty() && !asked.is_empty(), "asked for, and not given: {refused:?}");
        Ok(())
    });
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
            ("", "pods/ephemeralcontainers", "update patch", NAMESPACE),
            ("batch", "jobs", "create patch", "kube-system"),
            ("apps", "daemonsets", "create patch", "kube-system"),
            ("", "nodes", "get list", ""),
            ("", "nodes/proxy", "get create", ""),
            ("", "configmaps", "list watch create patch delete", "kube-system"),
            ("", "configmaps", "update delete", NAMESPACE),
            ("", "namespaces", "create patch delete", ""),
            ("", "serviceaccounts", "list create patch update delete impersonate", ""),
            ("", "users", "impersonate", ""),
            ("", "groups", "impersonate", ""),
            ("apps", "deployments", "get create patch", NAMESPACE),
            ("coordination.k8s.io", "leases", "get update", "kube-system"),
            ("coordination.k8s.io", "leases", "delete", NAMESPACE),
            ("rbac.authorization.k8s.io", "roles", "get create patch update bind escalate", NAMESPACE),
            ("rbac.authorization.k8s.io", "clusterroles", "get create patch update bind escalate", ""),
            ("rbac.authorization.k8s.io", "rolebindings", "create patch update", "kube-system"),
            ("rbac.authorization.k8s.io", "clusterrolebindings", "create patch update", ""),
            ("admissionregistration.k8s.io", "validatingadmissionpolicies", "create patch update delete", ""),
            ("admissionregistration.k8s.io", "validatingadmissionpolicybindings", "create patch update delete", ""),
            ("admissionregistration.k8s.io", "validatingwebhookconfigurations", "create patch update delete", ""),
            ("admissionregistration.k8s.io", "mutatingwebhookconfigurations", "create patch update delete", ""),
            ("apiextensions.k8s.io", "customresourcedefinitions", "get list create patch update delete", ""),
            ("apiregistration.k8s.io", "apiservices", "create patch update", ""),
            ("certificates.k8s.io", "certificatesigningrequests", "create", ""),
            ("certificates.k8s.io", "certificatesigningrequests/approval", "update patch", ""),
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
        let system: Api<Secret> = Api::namespaced(own.clone(), "kube-system");
        refused(system.patch("new", &apply, &secret("new", json!({}))).await, unlabelled)?;
        refused(here.patch("foreign", &apply, &secret("foreign", json!({"metadata": label}))).await, not_ours)?;
        refused(here.delete("foreign", &DeleteParams::default()).await, not_ours)?;
        let unlabel =
            Patch::Merge(json!({"metadata": {"labels": {"sealwright.dev/owner": null}}, "data": {"a": "Mg=="}}));
        refused(here.patch("ours", &PatchParams::default(), &unlabel).await, unlabelled)?;
        refused(home.delete("identity-1", &DeleteParams::default()).await, not_ours)?;
        let touch = Patch::Merge(json!({"metadata": {"labels": {"sealwright.dev/owner": "x"}}}));
        refused(home.patch("identity-1", &PatchParams::default(), &touch).await, not_ours)?;
        for kind in [
            "kubernetes.io/service-account-token",
            "bootstrap.kubernetes.io/token",
            "sealwright.dev/identity",
            "helm.sh/release.v1",
        ] {
            let mut body = json!({"metadata": label, "type": kind});
            body["metadata"]["annotations"] = json!({"kubernetes.io/service-account.name": "default"});
            refused(here.patch("identity-7", &apply, &secret("identity-7", body)).await, power)?;
        }
        let key = json!({"metadata": {"labels": {
            "sealwright.dev/owner": "x", "sealedsecrets.bitnami.com/sealed-secrets-key": "active",
        }}});
        refused(here.patch("key", &apply, &secret("key", key)).await, "no key of sealed-secrets")?;

        let release = json!({"metadata": {"labels": {"sealwright.dev/owner": "x", "owner": "helm"}}});
        refused(here.patch("release", &apply, &secret("release", release)).await, "no release of Helm")?;
        let stuck = json!({"metadata": {"labels": {"sealwright.dev/owner": "x"}, "finalizers": ["example.com/never"]}});
        refused(here.patch("stuck", &apply, &secret("stuck", stuck)).await, "no finalizer")?;
        let cluster = json!({"sealwright.dev/owner": null, "argocd.argoproj.io/secret-type": "cluster"});
        let marked = Patch::Merge(json!({"metadata": {"labels": cluster}}));
        refused(here.patch("ours", &PatchParams::default(), &marked).await, "may add no label")?;
        // People make the next identity; the highest number is published.
        let identity: Secret = serde_json::from_value(json!({
            "metadata": {"name": "identity-2"}, "type": "sealwright.dev/identity", "immutable": true,
        }))?;
        refused(home.create(&PostParams::default(), &identity).await, unlabelled)?;

        let rings: Api<KeyRing> = Api::namespaced(own.clone(), NAMESPACE);
        let planted = Patch::Merge(json!({"spec": {"proof": format!("{}=", "A".repeat(43))}}));
        refused(rings.patch("default", &PatchParams::default(), &planted).await, "rings belong to Git")?;

        let token_for = async |namespace: &str, account: &str, audiences: Value, seconds: u32| {
            let accounts: Api<ServiceAccount> = Api::namespaced(own.clone(), namespace);
            let spec = json!({"audiences": audiences, "expirationSeconds": seconds});
            let request: TokenRequest = serde_json::from_value(json!({"metadata": {}, "spec": spec}))?;
            Result::<_>::Ok(accounts.create_token_request(account, &PostParams::default(), &request).await)
        };
        let token = async |namespace, account, audiences| token_for(namespace, account, audiences, 600).await;
        let unlisted = "does not list this audience";
        // Without one it would be a token for the API server.
        wait::until("the policy of tokens is at work", || async {
            Ok(refused(token(&space.name, "default", json!([])).await?, unlisted).is_ok().then_some(()))
        })
        .await?;
        refused(token(&space.name, "default", json!(["vault", "bank"])).await?, unlisted)?;
        refused(token(NAMESPACE, CONTROLLER, json!(["vault"])).await?, "no token of its own")?;
        refused(token_for(&space.name, "default", json!(["vault"]), 601).await?, "longer than ten minutes")?;
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
