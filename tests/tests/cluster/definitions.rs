//! The CRDs of `crds/` on a real API server: what they take, and what they refuse and with which words.

use std::path::Path;

use futures::{StreamExt, TryStreamExt, stream};
use kube::api::{Api, DynamicObject, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Error, ResourceExt};
use seal_tests::{Context, Result, Space, bail, ensure, in_namespace, install, manifests};
use tokio::sync::OnceCell;

/// More than the API server works on at once would only wait.
const AT_ONCE: usize = 8;

/// Of several documents in a file, only the last is in question; the others are the states before it.
struct Case {
    name: String,
    states: Vec<DynamicObject>,
    /// What the API server's refusal must say; none if it must not refuse.
    refusal: Option<String>,
}

#[test]
fn what_the_cases_say_is_accepted_is_accepted() {
    judge(read("accepted").expect("the cases can be read"));
}

#[test]
fn what_the_cases_say_is_refused_is_refused_with_those_words() {
    judge(read("refused").expect("the cases can be read"));
}

#[test]
fn a_fresh_object_has_a_status_that_says_unseen_and_a_spec_without_defaults() {
    in_namespace(|space| async move {
        let given = manifests::parse(include_str!("../../../crds/tests/cases/accepted/sealedsecret-strict.yaml"))?;
        let made = put(&space, &given[0]).await??;
        assert_eq!(made.data["status"], serde_json::json!({"observedGeneration": -1}));
        assert_eq!(made.data["spec"], given[0].data["spec"]);
        Ok(())
    });
}

fn judge(cases: Vec<Case>) {
    in_namespace(|space| async move {
        ensure!(!cases.is_empty(), "there are cases");
        stream::iter(cases).map(|case| judged(&space, case)).buffer_unordered(AT_ONCE).try_collect::<()>().await
    });
}

async fn judged(space: &Space, case: Case) -> Result<()> {
    // Its own namespace, for the names in the cases repeat.
    let space = Space::make(space.plane.clone()).await?;
    let (last, before) = case.states.split_last().with_context(|| format!("{} is empty", case.name))?;
    for state in before {
        put(&space, state).await?.with_context(|| format!("{}: a state before the one in question", case.name))?;
    }
    match (put(&space, last).await?, case.refusal) {
        (Ok(_), None) => Ok(()),
        (Err(Error::Api(status)), Some(words)) if status.message.contains(&words) => Ok(()),
        (Err(error), Some(words)) => Err(error).with_context(|| format!("{}: refused without `{words}`", case.name)),
        (Err(error), None) => Err(error).with_context(|| format!("{}: refused", case.name)),
        (Ok(_), Some(_)) => bail!("{}: accepted", case.name),
    }
}

async fn put(space: &Space, object: &DynamicObject) -> Result<Result<DynamicObject, Error>> {
    static INSTALLED: OnceCell<()> = OnceCell::const_new();
    INSTALLED.get_or_try_init(|| install::definitions(&space.client)).await?;
    let types = object.types.as_ref().context("an object has a kind")?;
    let kind = ApiResource::from_gvk(&GroupVersionKind::try_from(types)?);
    let api: Api<DynamicObject> = Api::namespaced_with(space.client.clone(), &space.name, &kind);
    let mut object = object.clone();
    object.metadata.namespace = Some(space.name.clone());
    let before = api.get_opt(&object.name_any()).await?;
    // As `kubectl create` and `kubectl replace`: server-side apply has words of its own for lists with doubles.
    Ok(match before {
        None => api.create(&PostParams::default(), &object).await,
        Some(before) => {
            object.metadata.resource_version = before.resource_version();
            api.replace(&object.name_any(), &PostParams::default(), &object).await
        }
    })
}

fn read(folder: &str) -> Result<Vec<Case>> {
    let folder = install::crds().join("tests/cases").join(folder);
    let mut cases = Vec::new();
    for entry in std::fs::read_dir(&folder).with_context(|| format!("list {folder:?}"))? {
        cases.push(case(&entry?.path())?);
    }
    Ok(cases)
}

fn case(path: &Path) -> Result<Case> {
    let text = std::fs::read_to_string(path)?;
    let refusal = text.lines().next().and_then(|line| line.strip_prefix("# expected: ")).map(str::to_owned);
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let states = manifests::parse(&text).with_context(|| format!("read {name}"))?;
    Ok(Case { name, states, refusal })
}
