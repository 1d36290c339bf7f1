//! Manifests that are made on the way: by kustomize and by Helm, as Argo CD runs them.

use std::time::Instant;

use anyhow::Result;
use serde_json::json;

use crate::world::World;

pub(crate) async fn kustomize_overlays(world: &mut World<'_>) -> Result<()> {
    world.narrator.step("One sealed file, two kustomize overlays: prefix, namespace, generators beside");
    let namespaces = "overlay-dev,overlay-prod";
    let anywhere = "apiVersion: v1\nkind: Secret\nmetadata: {name: db}\nstringData: {password: '1'}\n";
    world.laptop.write("base/kustomization.yaml", "resources: [db.yaml]\n")?;
    world.laptop.seal_with(&["-n", namespaces, "-w", "base/db.yaml"], anywhere)?;
    for stage in ["dev", "prod"] {
        let kustomization = format!(
            "resources: [../../base]\nnamespace: overlay-{stage}\nnamePrefix: {stage}-\n\
             labels: [{{pairs: {{stage: {stage}}}}}]\n\
             secretGenerator: [{{name: beside, literals: [a=b]}}]\n\
             configMapGenerator: [{{name: settings, literals: [c=d]}}]\n"
        );
        world.laptop.write(&format!("overlays/{stage}/kustomization.yaml"), kustomization)?;
    }
    world.laptop.commit("two stages")?;
    let begin = Instant::now();
    for stage in ["dev", "prod"] {
        let name = format!("overlay-{stage}");
        world.apply_folder(&name, &name, &format!("overlays/{stage}"), json!({})).await?;
    }
    for stage in ["dev", "prod"] {
        let name = format!("overlay-{stage}");
        world.is_synced(&name, "Healthy").await?;
        world.has_health(&name, ("SealedSecret", &format!("{stage}-db")), "Healthy", "Synced").await?;
        world.stage(&name).holds("db", &[("password", "1")]).await?;
    }
    world.narrator.seen("SealedSecrets dev-db and prod-db, each with its Secret db", begin);
    Ok(())
}

/// As a chart's author writes it: the values hold sealed tokens, and no template sees what is in them.
const TEMPLATE: &str = "\
apiVersion: sealwright.dev/v1alpha1
kind: SealedSecret
metadata:
  name: {{ .Release.Name }}-db
spec:
  sealedFor: {name: db, namespaces: [{{ .Release.Namespace }}]}
  encryptedData:
    {{- toYaml .Values.db.sealed | nindent 4 }}
  template:
    data:
      url: postgres://{{ .Values.db.user }}:{{ `{{ .password }}` }}@{{ .Values.db.host }}/
";

pub(crate) async fn a_chart_with_sealed_values(world: &mut World<'_>) -> Result<()> {
    const CHARTED: &str = "charted";
    world.narrator.step("A Helm chart whose values are sealed");
    let token = world.laptop.seal_with(&["value", "--for", "charted/db", "password"], "first")?;
    world.laptop.write("shop-chart/Chart.yaml", "apiVersion: v2\nname: shop\nversion: 1.0.0\n")?;
    world.laptop.write("shop-chart/templates/db.yaml", TEMPLATE)?;
    let values = format!("db:\n  host: db.example\n  user: app\n  sealed:\n    password: {}\n", token.trim());
    world.laptop.write("shop-chart/values.yaml", values)?;
    world.laptop.commit("a chart")?;
    let begin = Instant::now();
    world.apply_folder(CHARTED, CHARTED, "shop-chart", json!({})).await?;
    world.is_synced(CHARTED, "Healthy").await?;
    let stage = world.stage(CHARTED);
    stage.holds("db", &[("password", "first"), ("url", "postgres://app:first@db.example/")]).await?;
    world.narrator.seen("values of `seal value`, and a URL that is put together in the cluster alone", begin);

    world.narrator.command(
        "printf %s second | seal set shop-chart/values.yaml --at db.sealed.password --for charted/db password",
    );
    let set = ["set", "shop-chart/values.yaml", "--at", "db.sealed.password", "--for", "charted/db", "password"];
    world.laptop.seal_with(&set, "second")?;
    let begin = Instant::now();
    world.push("a new password", CHARTED).await?;
    world.is_synced(CHARTED, "Healthy").await?;
    stage.holds("db", &[("password", "second"), ("url", "postgres://app:second@db.example/")]).await?;
    world.narrator.seen("the Secret follows", begin);
    Ok(())
}
