//! One test's side of the world: a namespace, a laptop, an OpenBao of its own that trusts ServiceAccounts of the cluster.
//!
//! OpenBao (`World::bao`) -> VaultStore ([`World::store`]) -> SealedSecret ([`World::object`]) -> Secret.

use std::sync::Arc;

use base64::{Engine, prelude::BASE64_STANDARD};
use k8s_openapi::api::{core::v1::ServiceAccount, rbac::v1::ClusterRoleBinding};
use kube::api::{Api, DynamicObject, Patch, PatchParams, PostParams};
use seal_crds::{REFRESH_ANNOTATION, SealedSecret, VaultStore, condition};
use seal_tests::{
    Context, Controller, Result, Space, Stage, ensure,
    install::{self, CONTROLLER},
    manifests,
    openbao::Bao,
    process::Guard,
    wait,
};
use serde_json::{Value, json};

/// What role `app-<namespace>` may read.
const READ: &str = "path \"kv/*\" { capabilities = [\"read\"] }";

pub(crate) struct World {
    /// Owns the scratch folder of the servers.
    _guard: Guard,
    pub(crate) stage: Stage,
    pub(crate) controller: Arc<Controller>,
    pub(crate) bao: Bao,
}

impl World {
    /// A namespace with ServiceAccount `app`, and an OpenBao with `kv/app/db` that the ServiceAccount may read.
    pub(crate) async fn set(space: Space) -> Result<Self> {
        let (stage, controller) = Stage::shared(space).await?;
        Self::around(stage, controller).await
    }

    /// The same on a cluster of its own, with a controller of its own.
    pub(crate) async fn set_own(space: Space) -> Result<Self> {
        install::everything(&space.client).await?;
        let controller = Controller::start(&space.plane, CONTROLLER, &[]).await?;
        Self::around(Stage::set(space).await?, Arc::new(controller)).await
    }

    async fn around(stage: Stage, controller: Arc<Controller>) -> Result<Self> {
        let guard = Guard::start()?;
        let bao = Bao::dev(&guard, "bao").await?;
        bao.mount_kv("kv", 2).await?;
        bao.policy("read", READ).await?;
        bao.put("kv", "app/db", json!({"user": "ada", "password": "first", "port": 5432})).await?;
        let world = Self { _guard: guard, stage, controller, bao };
        world.account("app").await?;
        world.trust_the_cluster().await?;
        world.role("app", json!({})).await?;
        Ok(world)
    }

    pub(crate) fn namespace(&self) -> &str {
        &self.stage.space.name
    }

    /// Makes a ServiceAccount.
    pub(crate) async fn account(&self, name: &str) -> Result<()> {
        let account: ServiceAccount = serde_json::from_value(json!({"metadata": {"name": name}}))?;
        let accounts = Api::namespaced(self.stage.space.client.clone(), self.namespace());
        accounts.create(&PostParams::default(), &account).await.context("make a ServiceAccount").map(drop)
    }

    /// Lets OpenBao have our API server review tokens.
    async fn trust_the_cluster(&self) -> Result<()> {
        let (client, namespace) = (&self.stage.space.client, self.namespace());
        self.account("reviewer").await?;
        let binding: ClusterRoleBinding = serde_json::from_value(json!({
            "metadata": {"name": format!("{namespace}-reviewer")},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:auth-delegator"},
            "subjects": [{"kind": "ServiceAccount", "name": "reviewer", "namespace": namespace}],
        }))?;
        Api::all(client.clone()).create(&PostParams::default(), &binding).await?;
        let request = serde_json::from_value(json!({"spec": {"audiences": []}, "metadata": {}}))?;
        let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
        let made = accounts.create_token_request("reviewer", &PostParams::default(), &request).await?;
        let jwt = made.status.context("a token request has a token")?.token;
        let kubeconfig: Value = serde_yaml::from_str(&std::fs::read_to_string(self.stage.space.plane.kubeconfig())?)?;
        let cluster = &kubeconfig["clusters"][0]["cluster"];
        let ca = match cluster["certificate-authority"].as_str() {
            Some(file) => std::fs::read_to_string(file)?,
            None => {
                let data = cluster["certificate-authority-data"].as_str().context("a kubeconfig has a CA")?;
                String::from_utf8(BASE64_STANDARD.decode(data)?)?
            }
        };
        self.bao.ask("POST", "sys/auth/kubernetes", json!({"type": "kubernetes"})).await?;
        let config = json!({"kubernetes_host": cluster["server"], "kubernetes_ca_cert": ca, "token_reviewer_jwt": jwt});
        self.bao.ask("POST", "auth/kubernetes/config", config).await.map(drop)
    }

    /// Gives a ServiceAccount of the namespace the role of its name and the namespace's; `more` overrides its settings.
    pub(crate) async fn role(&self, account: &str, more: Value) -> Result<()> {
        let mut role = json!({
            "bound_service_account_names": [account], "bound_service_account_namespaces": [self.namespace()],
            "audience": "vault", "token_policies": ["read"], "token_ttl": "1h",
        });
        merge(&mut role, more);
        let path = format!("auth/kubernetes/role/{account}-{}", self.namespace());
        self.bao.ask("POST", &path, role).await.map(drop)
    }

    /// Applies VaultStore `main`, which logs in as ServiceAccount `app`; `more` overrides its spec.
    pub(crate) async fn store(&self, more: Value) -> Result<()> {
        self.store_at(self.namespace(), "main", more).await
    }

    /// The same under another name.
    pub(crate) async fn store_named(&self, name: &str, more: Value) -> Result<()> {
        self.store_at(self.namespace(), name, more).await
    }

    /// The same in another namespace.
    pub(crate) async fn store_in(&self, namespace: &str, more: Value) -> Result<()> {
        self.store_at(namespace, "main", more).await
    }

    async fn store_at(&self, namespace: &str, name: &str, more: Value) -> Result<()> {
        let login = json!({"kubernetes": {"role": "app-{namespace}", "serviceAccount": "app"}});
        let mut spec = json!({"address": self.bao.url(), "auth": login, "tls": {"allowPlaintext": true}});
        merge(&mut spec, more);
        self.apply("VaultStore", namespace, name, spec).await
    }

    /// Applies a SealedSecret with this Vault part, which uses store `main`; `more` adds to its spec.
    pub(crate) async fn object(&self, name: &str, vault: Value, more: Value) -> Result<()> {
        let mut spec = json!({"vault": {"storeRef": {"name": "main"}}});
        merge(&mut spec["vault"], vault);
        merge(&mut spec, more);
        self.apply("SealedSecret", self.namespace(), name, spec).await
    }

    /// Asks for a fetch now.
    pub(crate) async fn annotate(&self, name: &str, value: &str) -> Result<()> {
        let patch = Patch::Merge(json!({"metadata": {"annotations": {REFRESH_ANNOTATION: value}}}));
        self.stage.sealed().patch(name, &PatchParams::default(), &patch).await.context("annotate").map(drop)
    }

    async fn apply(&self, kind: &str, namespace: &str, name: &str, spec: Value) -> Result<()> {
        let object: DynamicObject = serde_json::from_value(json!({
            "apiVersion": "sealwright.dev/v1alpha1", "kind": kind,
            "metadata": {"name": name, "namespace": namespace}, "spec": spec,
        }))?;
        manifests::apply(&self.stage.space.client, &[object]).await.map(drop)
    }

    /// Waits until `VaultSynced` of the object as it is now has this reason.
    pub(crate) async fn vault_is(&self, name: &str, wanted: &str) -> Result<SealedSecret> {
        let sealed = self.stage.sealed();
        wait::until(&format!("the Vault part of {name} is {wanted}"), || async {
            let object = sealed.get(name).await?;
            let status = object.status.clone().unwrap_or_default();
            let synced = condition::find(&status.conditions, condition::VAULT_SYNCED).cloned();
            ensure!(
                status.observed_generation == object.metadata.generation
                    && synced.as_ref().is_some_and(|synced| synced.reason == wanted),
                "generation {:?} of {:?} is {synced:?}",
                status.observed_generation,
                object.metadata.generation
            );
            Ok(Some(object))
        })
        .await
    }

    /// Waits until `Ready` of store `main` has this reason.
    pub(crate) async fn store_is(&self, wanted: &str) -> Result<VaultStore> {
        let stores: Api<VaultStore> = Api::namespaced(self.stage.space.client.clone(), self.namespace());
        wait::until(&format!("the store is {wanted}"), || async {
            let store = stores.get("main").await?;
            let status = store.status.clone().unwrap_or_default();
            let ready = condition::find(&status.conditions, condition::READY).cloned();
            ensure!(
                status.observed_generation == store.metadata.generation
                    && ready.as_ref().is_some_and(|ready| ready.reason == wanted),
                "it is {ready:?}"
            );
            Ok(Some(store))
        })
        .await
    }
}

/// Puts the fields of one object into another.
fn merge(into: &mut Value, more: Value) {
    if let (Value::Object(into), Value::Object(more)) = (into, more) {
        into.extend(more);
    }
}
