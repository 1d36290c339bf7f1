//! The chart's README: its table is made of `values.yaml`. `SNAPSHOTS=overwrite cargo test -p seal-tests --test chart readme`
//! writes it.

use std::fs;

use seal_tests::{Context, Result, ensure, helm};
use serde_yaml::Value;

const BEGIN: &str = "<!-- values: generated -->\n";
const END: &str = "<!-- end of values -->\n";

/// A value: its path, what is said of it, and its default.
struct Entry {
    path: String,
    text: String,
}

/// Every `# --` comment with the path of the key under it.
fn entries(values: &str) -> Result<Vec<Entry>> {
    let mut entries = Vec::new();
    let mut above: Vec<(usize, String)> = Vec::new();
    let mut text: Option<String> = None;
    for line in values.lines() {
        let indent = line.len() - line.trim_start().len();
        let content = line.trim_start();
        if let Some(begun) = content.strip_prefix("# -- ") {
            text = Some(begun.to_owned());
        } else if let (Some(so_far), Some(more)) = (&mut text, content.strip_prefix("# ")) {
            so_far.push(' ');
            so_far.push_str(more);
        } else if let Some((key, _)) = content.split_once(':').filter(|(key, _)| is_key(key)) {
            above.retain(|(outer, _)| *outer < indent);
            above.push((indent, key.to_owned()));
            if let Some(text) = text.take() {
                let path = above.iter().map(|(_, key)| key.as_str()).collect::<Vec<_>>().join(".");
                entries.push(Entry { path, text });
            }
        }
    }
    ensure!(text.is_none(), "the last comment belongs to no key");
    Ok(entries)
}

fn is_key(key: &str) -> bool {
    !key.is_empty() && key.chars().all(|letter| letter.is_ascii_alphanumeric())
}

fn at<'a>(values: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').try_fold(values, |value, key| value.get(key))
}

fn table(values: &str) -> Result<String> {
    let parsed: Value = serde_yaml::from_str(values)?;
    let mut table = "| value | default | |\n|---|---|---|\n".to_owned();
    for Entry { path, text } in entries(values)? {
        let default = serde_json::to_string(at(&parsed, &path).with_context(|| format!("{path} is a value"))?)?;
        table.push_str(&format!("| `{path}` | `{}` | {} |\n", default.replace('|', "\\|"), text.replace('|', "\\|")));
    }
    Ok(table)
}

/// Leaves of the values that no comment covers, not even one further up.
fn undescribed(value: &Value, path: &str, described: &[String], into: &mut Vec<String>) {
    if described.iter().any(|known| known == path) {
        return;
    }
    match value.as_mapping().filter(|map| !map.is_empty()) {
        Some(map) => {
            for (key, value) in map {
                let key = key.as_str().unwrap_or_default();
                let path = if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
                undescribed(value, &path, described, into);
            }
        }
        None => into.push(path.to_owned()),
    }
}

#[test]
fn the_readme_lists_every_value_with_its_default() -> Result<()> {
    let values = fs::read_to_string(helm::chart().join("values.yaml"))?;
    let described: Vec<_> = entries(&values)?.into_iter().map(|entry| entry.path).collect();
    let mut missing = Vec::new();
    undescribed(&serde_yaml::from_str(&values)?, "", &described, &mut missing);
    ensure!(missing.is_empty(), "values without a `# --` comment: {missing:?}");

    let file = helm::chart().join("README.md");
    let readme = fs::read_to_string(&file)?;
    let (before, rest) = readme.split_once(BEGIN).context("the README has a mark where the values begin")?;
    let (_, after) = rest.split_once(END).context("the README has a mark where the values end")?;
    let right = format!("{before}{BEGIN}{}{END}{after}", table(&values)?);
    if std::env::var_os("SNAPSHOTS").is_some_and(|mode| mode == "overwrite") {
        return Ok(fs::write(&file, right)?);
    }
    ensure!(
        readme == right,
        "the README is out of date: SNAPSHOTS=overwrite cargo test -p seal-tests --test chart readme"
    );
    Ok(())
}
