//! Values: which are refused and how, and what the API server thinks of what the others make.

use std::path::Path;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinitionSpec as CrdSpec;
use kube::api::{DynamicObject, Patch, PatchParams, ValidationDirective};
use kube::{Client, ResourceExt};
use seal_tests::gitops::Judges;
use seal_tests::helm::{self, Helm, RELEASE};
use seal_tests::install::{self, CONTROLLER, NAMESPACE};
use seal_tests::process::command;
use seal_tests::{Context, Result, Space, binaries, ensure, in_namespace, manifests, schemas};
use serde_json::{Value, json};

/// Everything that can be switched on, at once.
const EVERYTHING: &str = r#"
commonLabels: {team: platform}
crds: {keep: false}
image: {registry: 'mirror.example.com:5000', repository: sealwright/seal-controller, digest: 'sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef'}
imagePullSecrets: [{name: registry}]
vault: {audiences: [vault, 'https://kubernetes.default.svc', '"]:#{a''\'], allowApiAudience: true}
extraArgs: [--replica=one]
extraEnv: [{name: HTTPS_PROXY, value: 'http://proxy:3128'}]
volumes: [{name: authorities, configMap: {name: authorities}}]
volumeMounts: [{name: authorities, mountPath: /authorities, readOnly: true}]
serviceAccount: {annotations: {a: b}, labels: {c: d}}
rbac: {proxier: {subjects: [{kind: ServiceAccount, name: ci, namespace: ci}]}}
revisionHistoryLimit: 2
deploymentAnnotations: {e: f}
podAnnotations: {g: h}
podLabels: {i: j}
priorityClassName: system-cluster-critical
runtimeClassName: gvisor
affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [{matchExpressions: [{key: a, operator: Exists}]}]}}}
tolerations: [{key: CriticalAddonsOnly, operator: Exists}]
topologySpreadConstraints: [{maxSkew: 1, topologyKey: a, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {x: z}}}]
dnsPolicy: None
dnsConfig: {nameservers: [10.0.0.10]}
hostAliases: [{ip: 10.0.0.8, hostnames: [vault.internal]}]
podDisruptionBudget: {maxUnavailable: 50%}
networkPolicy:
  dns: {to: [], ports: [{port: 5353, protocol: UDP}]}
  from: [{namespaceSelector: {matchLabels: {name: monitoring}}}]
  egress: [{ports: [{port: 443, protocol: TCP}], to: [{ipBlock: {cidr: 10.0.0.0/8}}]}]
service: {annotations: {k: l}, labels: {q: r}, ipFamilyPolicy: SingleStack, ipFamilies: [IPv4]}
metrics:
  podMonitor: {enabled: true, labels: {release: prometheus}, interval: 30s, scrapeTimeout: 10s, relabelings: [{action: labeldrop, regex: pod}]}
  prometheusRule: {enabled: true, labels: {release: prometheus}}
  dashboard: {enabled: true, annotations: {folder: secrets}}
recipient:
  ingress: {enabled: true, className: nginx, host: sealwright.example.com, annotations: {o: p}, tls: [{hosts: [sealwright.example.com], secretName: tls}]}
  httpRoute: {enabled: true, parentRefs: [{name: gateway, namespace: gateways}], hostnames: [sealwright.example.com]}
extraObjects:
- {apiVersion: v1, kind: ConfigMap, metadata: {name: '{{ .Release.Name }}-as-object', namespace: default}}
- |
  apiVersion: v1
  kind: ConfigMap
  metadata: {name: as-text, namespace: {{ .Release.Namespace }}}
"#;

/// Most of it switched off, and everything named otherwise.
const LITTLE: &str = "
nameOverride: keeper
fullnameOverride: keeper-of-secrets
namespaceOverride: default
crds: {enabled: false}
replicaCount: 1
keyRing: {create: false}
vault: {enabled: false}
rbac: {create: false, aggregate: false}
serviceAccount: {create: false, name: somebody}
admissionPolicies: {enabled: false}
strategy: {type: Recreate, rollingUpdate: null}
topologySpreadConstraints: []
resources: null
nodeSelector: null
podSecurityContext: null
securityContext: null
livenessProbe: null
readinessProbe: null
networkPolicy: {enabled: false}
metrics: {serviceMonitor: {enabled: true, namespace: default}}
";

/// Roles in some namespaces.
const SOME: &str = "namespaces: [default, kube-system]";

/// All of them.
const SETS: [&str; 4] = ["{}", EVERYTHING, LITTLE, SOME];

fn with(values: &str) -> Result<Vec<DynamicObject>> {
    manifests::parse(&text_with(values)?)
}

fn text_with(values: &str) -> Result<String> {
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("values.yaml");
    std::fs::write(&file, values)?;
    Helm::find()?.template_text(&["--values", file.to_str().context("the path is text")?])
}

/// Rehearses the apply as strictly as the API server can: an unknown or doubled field is an error.
async fn judged(client: &Client, object: &DynamicObject) -> Result<()> {
    let mut strictly = PatchParams::apply(manifests::MANAGER).force();
    strictly.dry_run = true;
    strictly.field_validation = Some(ValidationDirective::Strict);
    let api = manifests::api_of(client, object).await?;
    let name = object.name_any();
    let judged = api.patch(&name, &strictly, &Patch::Apply(object)).await;
    judged.map(drop).with_context(|| format!("{} {name}", manifests::kind_of(object)))
}

#[test]
fn helm_finds_nothing_to_complain_of() -> Result<()> {
    let chart = helm::chart();
    Helm::find()?.run(&[Path::new("lint"), Path::new("--strict"), &chart]).map(drop)
}

#[test]
fn the_api_server_accepts_strictly_what_every_set_of_values_makes() {
    in_namespace(|space| async move {
        manifests::apply(&space.client, &[install::namespace()?]).await?;
        manifests::apply_crds(&space.client, &helm::foreign_definitions()?).await?;
        for (number, values) in SETS.iter().enumerate() {
            for object in with(values)? {
                judged(&space.client, &object).await.with_context(|| format!("values number {number}"))?;
            }
        }
        Ok(())
    });
}

#[test]
fn kubeconform_accepts_strictly_what_every_set_of_values_makes() {
    in_namespace(|space| async move {
        manifests::apply_crds(&space.client, &helm::foreign_definitions()?).await?;
        let (judges, folder) = (Judges::find()?, tempfile::tempdir()?);
        let location = folder.path().join(schemas::LOCATION);
        let location = location.to_str().context("the path is text")?;
        let judge = |text: &str| -> Result<(bool, String)> {
            let file = folder.path().join("rendered.yaml");
            std::fs::write(&file, text)?;
            let file = file.to_str().context("the path is text")?;
            let said = judges.kubeconform(&["-strict", "-summary", "-schema-location", location, file])?;
            Ok((said.status.success(), String::from_utf8_lossy(&said.stdout).into_owned()))
        };
        for (number, values) in SETS.iter().enumerate() {
            let text = text_with(values)?;
            let objects = manifests::parse(&text)?;
            schemas::write(&space.client, &objects, folder.path()).await?;
            let (is_content, said) = judge(&text)?;
            ensure!(
                is_content && said.contains(&format!("Valid: {}", objects.len())),
                "values number {number}: {said}"
            );
        }
        let text = text_with("{}")?;
        for (right, wrong) in [("replicas: 2", "replica: 2"), ("replicas: 2", "replicas: two"), ("verbs: [", "verb: [")]
        {
            ensure!(text.contains(right) && !judge(&text.replace(right, wrong))?.0, "{wrong} is accepted");
        }
        Ok(())
    });
}

#[test]
fn the_controller_knows_every_flag_that_the_chart_gives_it() -> Result<()> {
    for values in SETS {
        let objects = with(values)?;
        let deployment = objects.iter().find(|object| manifests::kind_of(object) == "Deployment");
        let container = &deployment.context("there is a Deployment")?.data["spec"]["template"]["spec"]["containers"][0];
        let args = container["args"].as_array().context("a container has args")?.iter().filter_map(Value::as_str);
        // With a subcommand it reads its flags and does not begin to work.
        let said = command(binaries::seal_controller()?).args(args).arg("crds").output()?;
        ensure!(said.status.success(), "{}: {}", container["args"], String::from_utf8_lossy(&said.stderr));
    }
    Ok(())
}

#[test]
fn pods_of_the_deployment_are_let_into_a_namespace_of_the_strictest_kind() {
    in_namespace(|space| async move {
        install::everything(&space.client).await?;
        judged(&space.client, &pod(&space).await?).await?;
        let mut loose = pod(&space).await?;
        loose.data["spec"]["securityContext"] = json!({});
        let refused = judged(&space.client, &loose).await.expect_err("it may run as root");
        assert!(format!("{refused:#}").contains("violates PodSecurity"), "{refused:#}");
        Ok(())
    });
}

/// What the Deployment's controller would make of it.
async fn pod(space: &Space) -> Result<DynamicObject> {
    let deployment = manifests::parse(&format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: {CONTROLLER}, namespace: {NAMESPACE}}}"
    ))?;
    let deployment = manifests::api_of(&space.client, &deployment[0]).await?.get(CONTROLLER).await?;
    let spec = &deployment.data["spec"]["template"]["spec"];
    Ok(serde_json::from_value(json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "one", "namespace": NAMESPACE}, "spec": spec,
    }))?)
}

#[test]
fn a_wrong_value_is_refused_with_its_place() -> Result<()> {
    let helm = Helm::find()?;
    for (set, told) in [
        ("keyRing.recovry=x", "at '/keyRing': additional properties 'recovry' not allowed"),
        ("keyring.name=x", "additional properties 'keyring' not allowed"),
        ("replicaCount=-1", "at '/replicaCount': minimum: got -1, want 0"),
        ("image.registry=https://mirror", "at '/image/registry': 'https://mirror' does not match pattern"),
        ("podDisruptionBudget.maxUnavailable=half", "at '/podDisruptionBudget/maxUnavailable'"),
        ("podDisruptionBudget.maxUnavailable=0", "maxUnavailable: 0 lets no node be drained"),
        ("podDisruptionBudget.minAvailable=2", "minAvailable: 2 of replicaCount 2 lets no node be drained"),
        ("podDisruptionBudget.minAvailable=51%", "minAvailable: 51% of replicaCount 2 lets no node be drained"),
        ("livenessProbe.periodSecond=5", "at '/livenessProbe': additional properties 'periodSecond' not allowed"),
        ("resources.limit.memory=1Gi", "at '/resources': additional properties 'limit' not allowed"),
        ("resources.limits.memory=1GB", "at '/resources/limits/memory': '1GB' does not match pattern"),
        ("strategy.rollingUpdate.maxSurg=1", "at '/strategy/rollingUpdate': additional properties 'maxSurg'"),
        ("securityContext.readOnlyRootFileSystem=true", "additional properties 'readOnlyRootFileSystem' not allowed"),
        ("commonLabels.team=a b", "at '/commonLabels/team': 'a b' does not match pattern"),
        ("commonLabels.a b=c", "invalid propertyName 'a b'"),
        (r"podLabels.app\.kubernetes\.io/name=x", "app.kubernetes.io/name is the chart's own"),
        (r"commonLabels.helm\.sh/chart=x", "helm.sh/chart is the chart's own"),
        ("vault.audiences={a b}", "at '/vault/audiences/0': 'a b' does not match pattern"),
        ("vault.audiences={vault,https://kubernetes.default.svc}", "looks like the API server's own"),
        ("replicaCount=two", "at '/replicaCount': got string, want integer"),
        ("image.digest=sha256:1", "at '/image/digest': 'sha256:1' does not match pattern"),
        (
            "image.pullPolicy=Sometimes",
            "at '/image/pullPolicy': value must be one of 'Always', 'IfNotPresent', 'Never'",
        ),
        ("log.level=loud", "at '/log/level': value must be one of 'error', 'warn', 'info', 'debug', 'trace'"),
        ("workers=1", "at '/workers': minimum: got 1, want 2"),
        ("verifyEvery=soon", "at '/verifyEvery': 'soon' does not match pattern"),
        ("namespaces=shop", "at '/namespaces': got string, want array"),
        ("namespaces={Shop}", "at '/namespaces/0': 'Shop' does not match pattern"),
        ("rbac.proxier.subjects[0].kind=ServiceAccount,rbac.proxier.subjects[0].name=ci", "/rbac/proxier/subjects/0"),
        ("keyRing.recovery=", "keyRing.recovery holds no recipient: is the file empty?"),
        ("keyRing.recovery={age1qqqq}", "keyRing.recovery: entry number 1 is no recipient"),
        ("recipient.ingress.enabled=true", "recipient.ingress.host: which name?"),
        ("recipient.httpRoute.enabled=true", "recipient.httpRoute.parentRefs: which Gateway?"),
        ("metrics.podMonitor.enabled=true,metrics.serviceMonitor.enabled=true", "enable one of them"),
    ] {
        let refused = helm.template(&["--set", set]).expect_err(set);
        assert!(format!("{refused:#}").contains(told), "{set}: {refused:#}");
    }
    Ok(())
}

#[test]
fn a_name_that_yaml_takes_for_a_number_stays_a_name() -> Result<()> {
    let names = [
        "nameOverride",
        "fullnameOverride",
        "namespaceOverride",
        "commonLabels.a",
        "namespaces[0]",
        "imagePullSecrets[0].name",
        "clusterName",
        "keyRing.name",
        "serviceAccount.name",
        "podLabels.b",
        "priorityClassName",
        "runtimeClassName",
        "metrics.podMonitor.namespace",
        "recipient.ingress.host",
        "recipient.ingress.className",
    ];
    let names = names.map(|name| format!("{name}=123")).join(",");
    let switches = ["metrics.podMonitor", "metrics.prometheusRule", "metrics.dashboard", "recipient.ingress"];
    let switches = switches.map(|part| format!("{part}.enabled=true")).join(",");
    let objects = Helm::find()?.template(&["--set-string", &names, "--set", &switches])?;
    let as_names = serde_json::to_string(&objects)?.matches("\"123\"").count();
    ensure!(as_names > 50, "{as_names} names");
    for object in objects {
        let object = serde_json::to_string(&object)?;
        let number = object.find("\":123").or_else(|| object.find("[123"));
        ensure!(number.is_none(), "a number: {object}");
    }
    Ok(())
}

#[test]
fn null_takes_a_value_away_or_is_refused_with_its_place() -> Result<()> {
    let values: Value = serde_yaml::from_str(&std::fs::read_to_string(helm::chart().join("values.yaml"))?)?;
    for depth in 1..=4 {
        let mut nulls = nulls(&values, depth);
        let refused = with(&nulls.to_string()).expect_err("not everything can be taken away");
        for line in format!("{refused:#}").lines() {
            // - at '/crds': missing properties 'enabled', 'keep'
            let quoted: Vec<_> = line.split('\'').skip(1).step_by(2).collect();
            let Some((place, missing)) = quoted.split_first().filter(|_| line.contains("': missing propert")) else {
                continue;
            };
            let part = nulls.pointer_mut(place).and_then(Value::as_object_mut).with_context(|| line.to_owned())?;
            part.retain(|name, _| !missing.contains(&name.as_str()));
        }
        for object in with(&nulls.to_string()).with_context(|| format!("at depth {depth}"))? {
            let text = serde_json::to_string(&object)?;
            let is_definition = manifests::kind_of(&object) == "CustomResourceDefinition";
            ensure!(is_definition || !text.contains("\":null"), "at depth {depth}: {text}");
        }
    }
    Ok(())
}

/// Each value as null; those further in only down to this depth, where they go all together.
fn nulls(values: &Value, depth: usize) -> Value {
    match values.as_object().filter(|map| depth > 0 && !map.is_empty()) {
        Some(map) => map.iter().map(|(key, value)| (key.clone(), nulls(value, depth - 1))).collect(),
        None => Value::Null,
    }
}

#[test]
fn a_private_key_given_as_recovery_recipient_is_refused_and_not_quoted() -> Result<()> {
    let key = "AGE-SECRET-KEY-PQ-1QQQQQQQQMARKERQQQQQQQQ";
    let refused =
        Helm::find()?.template(&["--set", &format!("keyRing.recovery={{{key}}}")]).expect_err("a private key");
    let told = format!("{refused:#}");
    assert!(told.contains("entry number 1 is a PRIVATE key") && !told.contains("MARKER"), "{told}");
    Ok(())
}

#[test]
fn the_definitions_in_the_chart_are_those_of_the_repository() -> Result<()> {
    let rendered = helm::rendered()?;
    for committed in manifests::read(&install::crds())? {
        let name = committed.name_any();
        let found = rendered.iter().find(|object| object.name_any() == name).with_context(|| name.clone())?;
        // As what it is: Helm writes 1.0 as 1.
        let spec_of = |object: &DynamicObject| serde_json::from_value::<CrdSpec>(object.data["spec"].clone());
        assert_eq!(spec_of(found)?, spec_of(&committed)?, "{name}");
        assert_eq!(found.annotations()["helm.sh/resource-policy"], "keep", "{name}");
        let schema = seal_crds::SCHEMA_ANNOTATION;
        assert_eq!(found.annotations()[schema], committed.annotations()[schema], "{name}");
    }
    Ok(())
}

#[test]
fn the_notes_say_what_to_do_next_with_these_values() -> Result<()> {
    let notes = |flags: &str| -> Result<String> {
        let chart = helm::chart();
        let chart = chart.to_str().context("the path is text")?;
        let install = ["install", RELEASE, chart, "--dry-run=client", "--namespace", NAMESPACE, "--set", flags];
        let said = Helm::find()?.run(&install)?;
        Ok(said.split("NOTES:").nth(1).context("there are notes")?.to_owned())
    };
    let (recipient, no_recovery) = (format!("keyRing.recovery=age1pq1{}", "q".repeat(1952)), "no recovery member");
    let usual = notes(&recipient)?;
    assert!(!usual.contains("WARNING") && usual.contains("seal init --from-cluster"), "{usual}");
    assert!(!usual.contains("get secret identity-1"), "nobody is told to print a private key: {usual}");
    for (flags, says, says_not) in [
        ("", no_recovery, "no ring"),
        ("keyRing.create=false", "seal ring add RING --member NAME=cluster.pub", no_recovery),
        ("namespaces={bank,shop}", "generic db -n bank", "-n shop"),
        ("vault.allowApiAudience=true", "act here as every ServiceAccount", "replicaCount"),
        ("vault.allowApiAudience=true,vault.enabled=false", no_recovery, "allowApiAudience"),
        ("admissionPolicies.enabled=false", "tokens of any ServiceAccount", "replicaCount"),
        ("replicaCount=0", "nothing is done until it is not", "ServiceAccount"),
        ("namespaceOverride=other", "seal verify db.yaml --controller-namespace other", NAMESPACE),
    ] {
        let told = notes(flags)?;
        assert!(told.contains(says) && !told.contains(says_not), "{flags}: {told}");
    }
    Ok(())
}

#[test]
fn where_it_may_connect_is_what_was_named_and_the_dns_pods() -> Result<()> {
    let egress = |flags: &str| -> Result<Value> {
        let objects = with(flags)?;
        let policy = objects.iter().find(|object| manifests::kind_of(object) == "NetworkPolicy");
        Ok(policy.context("there is a NetworkPolicy")?.data["spec"]["egress"].clone())
    };
    assert_eq!(egress("{}")?, Value::Null, "it may connect to anything");
    let narrowed = egress("networkPolicy: {egress: [{to: [{ipBlock: {cidr: 10.0.0.0/28}}]}]}")?;
    let dns = json!([{
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
        "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
    }]);
    assert_eq!((&narrowed[0]["to"], narrowed.as_array().map(Vec::len)), (&dns, Some(2)));
    let ports = json!([{"port": 5353, "protocol": "UDP"}]);
    assert_eq!(egress(EVERYTHING)?[0], json!({"ports": ports}), "no destination: any");
    Ok(())
}

#[test]
fn the_published_path_is_the_recipient_alone() -> Result<()> {
    let objects = with(EVERYTHING)?;
    let spec = |kind: &str| -> Result<Value> {
        let found = objects.iter().find(|object| manifests::kind_of(object) == kind);
        Ok(found.with_context(|| kind.to_owned())?.data["spec"].clone())
    };
    let paths = spec("Ingress")?["rules"][0]["http"]["paths"].take();
    assert_eq!(
        (&paths[0]["path"], &paths[0]["pathType"], &paths[1]),
        (&json!("/v1/recipient"), &json!("Exact"), &Value::Null)
    );
    let rules = spec("HTTPRoute")?["rules"].take();
    let matched = json!([{"path": {"type": "Exact", "value": "/v1/recipient"}, "method": "GET"}]);
    assert_eq!((&rules[0]["matches"], &rules[1]), (&matched, &Value::Null));
    Ok(())
}
