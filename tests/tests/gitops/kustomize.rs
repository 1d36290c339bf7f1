//! kustomize, the real one that kubectl carries: overlays change where an object is, and no value with it.

use std::process::Command;

use seal_tests::kubectl::kubectl;
use seal_tests::process::command;
use seal_tests::{Result, Space, Stage, ensure, in_namespace, manifests};

/// What `kubectl kustomize` makes of a folder of the repository.
fn built(stage: &Stage, folder: &str) -> Result<String> {
    let mut kustomize: Command = command(kubectl()?);
    kustomize.args(["kustomize", folder]);
    let said = stage.laptop.run(kustomize, b"")?;
    ensure!(said.code == Some(0), "kustomize: {}", said.stderr);
    Ok(String::from_utf8(said.stdout)?)
}

#[test]
fn one_sealed_file_serves_two_overlays_with_prefix_namespace_labels_and_a_generator_beside() {
    in_namespace(|space| async move {
        let (stage, _) = Stage::shared(space).await?;
        let here = stage.space.name.clone();
        let other = format!("{here}-other");
        Space::named(stage.space.plane.clone(), other.clone()).await?;
        let namespaces = format!("{here},{other}");
        let anywhere = "apiVersion: v1\nkind: Secret\nmetadata: {name: db}\nstringData: {password: '1'}\n";
        stage.laptop.write("base/kustomization.yaml", "resources: [db.yaml]\n")?;
        stage.laptop.seal_with(&["-n", &namespaces, "-w", "base/db.yaml"], anywhere)?;
        for (overlay, namespace, prefix) in [("dev", &here, "dev-"), ("prod", &other, "prod-")] {
            let kustomization = format!(
                "resources: [../base]\nnamespace: {namespace}\nnamePrefix: {prefix}\n\
                 labels: [{{pairs: {{stage: {overlay}}}}}]\n\
                 secretGenerator: [{{name: beside, literals: [a=b]}}]\n\
                 configMapGenerator: [{{name: settings, literals: [c=d]}}]\n"
            );
            stage.laptop.write(&format!("{overlay}/kustomization.yaml"), kustomization)?;
            let objects = manifests::parse(&built(&stage, overlay)?)?;
            ensure!(objects.len() == 3, "{overlay}: {objects:?}");
            manifests::apply(&stage.space.client, &objects).await?;
        }
        stage.ready("dev-db").await?;
        stage.holds("db", &[("password", "1")]).await?;
        stage.holds_nothing("dev-db").await?;
        let prod = Stage { space: Space { name: other, ..stage.space.clone() }, ..stage };
        prod.ready("prod-db").await?;
        prod.holds("db", &[("password", "1")]).await
    });
}
