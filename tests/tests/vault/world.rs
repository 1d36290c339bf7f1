//! What the tests have: a namespace with a laptop, and an OpenBao of its own that trusts ServiceAccounts of the cluster.
//!
//! OpenBao (`World::bao`) -> VaultStore ([`World::store`]) -> SealedSecret ([`Tenant::object`]) -> Secret.

use std::sync::Arc;

use base64::{Engine, prelude::BASE64_STANDARD};
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kube::api::{Api, PostParams};
use seal_tests::{
    Context, Controller, Result, Space, Stage,
    install::{self, CONTROLLER},
    openbao::Bao,
    process::Guard,
};
use serde_json::{Value, json};

pub(crate) use crate::tenant::{Tenant, field, merged};

/// What role `app-<namespace>` may read.
const READ: &str = "path \"kv/*\" { capabilities = [\"read\"] }";

pub(crate) struct World {
    /// Owns the scratch folder of the servers.
    pub(crate) guard: Guard,
    pub(crate) controller: Arc<Controller>,
    pub(crate) bao: Bao,
    /// Who wants the secrets.
    pub(crate) shop: Tenant,
}

impl World {
    /// A namespace with ServiceAccount `app`, and an OpenBao with `kv/app/db` that the ServiceAccount may read.
    pub(crate) async fn set(space: Space) -> Result<Self> {
        let (stage, controller) = Stage::shared(space).await?;
        Self::around(stage, controller).await
    }

    /// The same with store `main`, and object `db` that has become a Secret with the user in `kv/app/db`.
    pub(crate) async fn with_db(space: Space) -> Result<Self> {
        let world = Self::set(space).await?;
        world.store(json!({})).await?;
        world.shop.wants("db", &[field("user", "app/db", "user")]).await?;
        world.shop.stage.ready("db").await?;
        Ok(world)
    }

    /// Like [`Self::set`], on a cluster of its own, with a controller of its own.
    pub(crate) async fn set_own(space: Space) -> Result<Self> {
        install::everything(&space.client).await?;
        let controller = Controller::start(&space.plane, CONTROLLER, &[]).await?;
        Self::around(Stage::set(space).await?, Arc::new(controller)).await
    }

    /// Around a namespace on a cluster where a controller runs.
    pub(crate) async fn around(stage: Stage, controller: Arc<Controller>) -> Result<Self> {
        let guard = Guard::start()?;
        let bao = Bao::dev(&guard, "bao").await?;
        Self::with(stage, controller, guard, bao).await
    }

    /// The same around what there is.
    pub(crate) async fn with(stage: Stage, controller: Arc<Controller>, guard: Guard, bao: Bao) -> Result<Self> {
        let world = Self { guard, controller, bao, shop: Tenant { stage } };
        world.shop.account("app").await?;
        let reviewer = world.reviewer().await?;
        world.fill(&reviewer).await?;
        Ok(world)
    }

    /// Another namespace, with a ServiceAccount `app` too.
    pub(crate) async fn neighbour(&self) -> Result<Tenant> {
        let stage = Stage::set(Space::make(self.shop.stage.space.plane.clone()).await?).await?;
        let tenant = Tenant { stage };
        tenant.account("app").await?;
        Ok(tenant)
    }

    /// Puts everything into an empty server: engine, policy, auth method, role and secret.
    pub(crate) async fn fill(&self, reviewer: &str) -> Result<()> {
        self.bao.mount_kv("kv", 2).await?;
        self.bao.policy("read", READ).await?;
        self.bao.put("kv", "app/db", json!({"user": "ada", "password": "first"})).await?;
        self.bao.ask("POST", "sys/auth/kubernetes", json!({"type": "kubernetes"})).await?;
        self.bao.ask("POST", "auth/kubernetes/config", self.cluster(reviewer)?).await?;
        self.role(&self.shop, "app", json!({})).await
    }

    /// A token with which a server may have our API server review others.
    pub(crate) async fn reviewer(&self) -> Result<String> {
        let (client, namespace) = (&self.shop.stage.space.client, self.shop.namespace());
        self.shop.account("reviewer").await?;
        let binding: ClusterRoleBinding = serde_json::from_value(json!({
            "metadata": {"name": format!("{namespace}-reviewer")},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:auth-delegator"},
            "subjects": [{"kind": "ServiceAccount", "name": "reviewer", "namespace": namespace}],
        }))?;
        Api::all(client.clone()).create(&PostParams::default(), &binding).await?;
        self.shop.token_of("reviewer", None).await
    }

    /// How a server reaches our API server.
    pub(crate) fn cluster(&self, reviewer: &str) -> Result<Value> {
        let kubeconfig = std::fs::read_to_string(self.shop.stage.space.plane.kubeconfig())?;
        let kubeconfig: Value = serde_yaml::from_str(&kubeconfig)?;
        let cluster = &kubeconfig["clusters"][0]["cluster"];
        let ca = match cluster["certificate-authority"].as_str() {
            Some(file) => std::fs::read_to_string(file)?,
            None => {
                let data = cluster["certificate-authority-data"].as_str().context("a kubeconfig has a CA")?;
                String::from_utf8(BASE64_STANDARD.decode(data)?)?
            }
        };
        Ok(json!({"kubernetes_host": cluster["server"], "kubernetes_ca_cert": ca, "token_reviewer_jwt": reviewer}))
    }

    /// Gives a ServiceAccount the role of its name and its namespace's; `more` overrides the role's settings.
    pub(crate) async fn role(&self, tenant: &Tenant, account: &str, more: Value) -> Result<()> {
        let role = merged(role_of(tenant, account), more);
        let path = format!("auth/kubernetes/role/{account}-{}", tenant.namespace());
        self.bao.ask("POST", &path, role).await.map(drop)
    }

    /// Applies the shop's VaultStore `main`, which logs in as ServiceAccount `app`; `more` overrides its spec.
    pub(crate) async fn store(&self, more: Value) -> Result<()> {
        self.shop.store("main", self.spec(more)).await
    }

    /// The spec of a store for our server.
    pub(crate) fn spec(&self, more: Value) -> Value {
        merged(store_at(&self.bao.url()), more)
    }

    /// How many logins of ServiceAccounts the server has seen.
    pub(crate) fn logins(&self) -> Result<usize> {
        self.bao.count("update auth/kubernetes/login")
    }

    /// How many tokens were revoked by those who held them.
    pub(crate) fn revoked(&self) -> Result<usize> {
        self.bao.count("update auth/token/revoke-self")
    }

    /// How often a secret below `kv` was read.
    pub(crate) fn reads(&self, path: &str) -> Result<usize> {
        let wanted = format!("read kv/data/{path}");
        Ok(self.bao.requests()?.iter().filter(|request| **request == wanted).count())
    }
}

/// The settings of a role for one ServiceAccount.
pub(crate) fn role_of(tenant: &Tenant, account: &str) -> Value {
    json!({
        "bound_service_account_names": [account], "bound_service_account_namespaces": [tenant.namespace()],
        "audience": "vault", "token_policies": ["read"], "token_ttl": "1h",
    })
}

/// The spec of a store at this address that logs in as ServiceAccount `app`.
pub(crate) fn store_at(address: &str) -> Value {
    let login = json!({"kubernetes": {"role": "app-{namespace}", "serviceAccount": "app"}});
    json!({"address": address, "auth": login, "tls": {"allowPlaintext": true}})
}
