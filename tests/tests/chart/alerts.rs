//! Alerts and dashboard: Prometheus's own tool judges them, and every metric in them exists in a running controller.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use kube::api::DynamicObject;
use seal_tests::binaries::ROOT;
use seal_tests::promtool::Promtool;
use seal_tests::{Context, Result, Stage, ensure, helm, in_namespace, manifests, wait};
use serde_json::{Value, json};

fn rules() -> Result<String> {
    fs::read_to_string(helm::chart().join("files/rules.yaml")).context("read the rules")
}

/// What the panels ask for, with an interval in the place of Grafana's.
fn queries() -> Result<Vec<String>> {
    let dashboard: Value = serde_json::from_str(&fs::read_to_string(helm::chart().join("files/dashboard.json"))?)?;
    let panels = dashboard["panels"].as_array().context("a dashboard has panels")?;
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let queries: Vec<_> = targets.filter_map(|target| target["expr"].as_str()).collect();
    ensure!(queries.len() >= panels.len() / 2, "panels ask for something");
    Ok(queries.into_iter().map(|query| query.replace("$__rate_interval", "5m")).collect())
}

/// The names of our metrics in a text.
fn metrics(text: &str) -> BTreeSet<&str> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    words.filter(|word| word.starts_with("sealwright_")).collect()
}

#[test]
fn prometheus_can_read_every_rule_and_every_panel() -> Result<()> {
    let promtool = Promtool::find()?;
    promtool.run(&[Path::new("check"), Path::new("rules"), &helm::chart().join("files/rules.yaml")])?;
    let rules = queries()?.into_iter().enumerate();
    let rules: Vec<_> =
        rules.map(|(number, query)| json!({"record": format!("panel_{number}"), "expr": query})).collect();
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("panels.yaml");
    fs::write(&file, json!({"groups": [{"name": "panels", "rules": rules}]}).to_string())?;
    promtool.run(&[Path::new("check"), Path::new("rules"), &file])
}

#[test]
fn the_alerts_say_what_they_should_about_a_course_of_events() -> Result<()> {
    let events = Path::new(ROOT).join("tests/tests/chart/alerts.test.yaml");
    Promtool::find()?.run(&[Path::new("test"), Path::new("rules"), &events])
}

#[test]
fn every_metric_of_a_rule_or_a_panel_exists_in_the_running_controller() {
    in_namespace(|space| async move {
        let (stage, controller) = Stage::shared(space).await?;
        // A metric shows once there is something to count.
        stage.establish("db", &[("password", "1")]).await?;
        manifests::apply(&stage.space.client, &unreachable(&stage.space.name)?).await?;
        let (rules, queries) = (rules()?, queries()?.join("\n"));
        let asked: BTreeSet<_> = metrics(&rules).union(&metrics(&queries)).map(|name| family(name)).collect();
        ensure!(asked.len() > 15, "the rules and panels name metrics: {asked:?}");
        wait::until("the controller has every metric", || async {
            let answer = controller.get("/metrics").await?.body;
            let families = answer.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
            let families: BTreeSet<_> = families.collect();
            let missing: Vec<_> = asked.difference(&families).collect();
            ensure!(missing.is_empty(), "the controller has no {missing:?}");
            for (name, labels) in selectors(&rules).chain(selectors(&queries)) {
                let has = |line: &str| line.starts_with(name) && labels.iter().all(|label| line.contains(label));
                ensure!(answer.lines().any(has), "the controller has no {name} with {labels:?}");
            }
            Ok(Some(()))
        })
        .await
    });
}

/// The metrics in a text that are asked for by labels, and the labels as the controller writes them.
fn selectors(text: &str) -> impl Iterator<Item = (&str, Vec<String>)> {
    text.match_indices("sealwright_").filter_map(|(start, _)| {
        let (name, rest) = text[start..].split_once('{')?;
        let labels = rest.split_once('}')?.0.split(',').map(|label| label.replace('\'', "\""));
        let is_name = name.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
        is_name.then(|| (name, labels.filter(|label| !label.contains('%')).collect()))
    })
}

/// Without what OpenMetrics appends to the name of a family.
fn family(metric: &str) -> &str {
    let ends = ["_total", "_bucket", "_sum", "_count", "_info"];
    ends.iter().find_map(|end| metric.strip_suffix(end)).unwrap_or(metric)
}

/// A VaultStore whose server does not answer, and an object that asks it.
fn unreachable(namespace: &str) -> Result<Vec<DynamicObject>> {
    let kind = |kind: &str, name: &str, spec: Value| {
        json!({"apiVersion": "sealwright.dev/v1alpha1", "kind": kind,
               "metadata": {"name": name, "namespace": namespace}, "spec": spec})
    };
    let auth = json!({"kubernetes": {"role": "app", "serviceAccount": "default"}});
    let data = json!([{"key": "user", "mount": "kv", "path": "app/db", "field": "username"}]);
    let objects = [
        kind("VaultStore", "main", json!({"address": "https://127.0.0.1:1", "auth": auth})),
        kind("SealedSecret", "asks", json!({"vault": {"storeRef": {"name": "main"}, "data": data}})),
    ];
    objects.into_iter().map(|object| Ok(serde_json::from_value(object)?)).collect()
}

#[test]
fn every_alert_has_a_page_that_its_link_leads_to() -> Result<()> {
    let runbook = fs::read_to_string(Path::new(ROOT).join("docs/operations/alerts.md"))?;
    let rules: Value = serde_yaml::from_str(&rules()?)?;
    for rule in rules["groups"][0]["rules"].as_array().context("a group has rules")? {
        let name = rule["alert"].as_str().context("a rule is an alert")?;
        ensure!(runbook.contains(&format!("\n## {name}\n")), "docs/operations/alerts.md says nothing of {name}");
        let link = rule["annotations"]["runbook_url"].as_str().unwrap_or_default();
        let end = format!("/docs/operations/alerts.md#{}", name.to_lowercase());
        ensure!(link.ends_with(&end), "{name} leads to {link:?}");
    }
    Ok(())
}
