//! The template engine against Go: every vector of `templates/vectors.json`, which the program in
//! `templates/generate` makes with `text/template` and sprig v3.3.0.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use seal_controller::template::{Failure, Reason, Renderer, function_names};
use serde::Deserialize;

#[derive(Deserialize)]
struct File {
    functions: BTreeSet<String>,
    values: BTreeMap<String, String>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Case {
    template: String,
    #[serde(default)]
    output: String,
    output_base64: Option<String>,
    error: Option<String>,
    #[serde(default)]
    line: usize,
    /// Set where the controller differs from Go on purpose.
    ours: Option<String>,
}

fn vectors() -> File {
    serde_json::from_str(include_str!("templates/vectors.json")).unwrap()
}

fn render(values: &BTreeMap<String, Vec<u8>>, template: &str) -> Result<Vec<u8>, Failure> {
    let values = values.iter().map(|(key, value)| (key.as_str(), value.as_slice()));
    Renderer::new(values).render("key", template).map(|bytes| bytes.to_vec())
}

#[test]
fn every_template_gives_what_go_gives() {
    let file = vectors();
    let values = file.values.into_iter().map(|(key, value)| (key, BASE64_STANDARD.decode(value).unwrap())).collect();
    let mut wrong = Vec::new();
    for case in &file.cases {
        let got = render(&values, &case.template);
        let expected = match (&case.ours, &case.error, &case.output_base64) {
            (Some(reason), _, _) | (None, Some(reason), _) => Err(reason.as_str()),
            (None, None, Some(output)) => Ok(BASE64_STANDARD.decode(output).unwrap()),
            (None, None, None) => Ok(case.output.clone().into_bytes()),
        };
        let agrees = match (&got, &expected) {
            (Ok(got), Ok(expected)) => got == expected,
            (Err(failure), Err(reason)) => {
                failure.reason.as_str() == *reason && (case.ours.is_some() || failure.line == case.line)
            }
            _ => false,
        };
        if !agrees {
            let show = |bytes: &[u8]| format!("{:?}", String::from_utf8_lossy(bytes));
            let got = got.map_or_else(|failure| failure.to_string(), |got| show(&got));
            let expected = expected.map_or_else(|reason| format!("{reason}, line {}", case.line), |e| show(&e));
            wrong.push(format!("{}\n     got {got}\n    want {expected}", case.template));
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), file.cases.len(), wrong.join("\n"));
    assert!(file.cases.len() > 400, "vectors are missing");
}

#[test]
fn the_functions_are_those_that_go_was_asked_about() {
    let ours: BTreeSet<String> = function_names().map(str::to_owned).collect();
    assert_eq!(ours, vectors().functions);
}

#[test]
fn the_reference_names_every_function_and_reason() {
    let reference = include_str!("../../docs/reference/templates.md");
    let named = |name: &str| reference.contains(&format!("`{name}`"));
    let missing: Vec<_> = function_names().filter(|name| !named(name)).collect();
    assert!(missing.is_empty(), "docs/reference/templates.md does not name {missing:?}");
    for reason in [
        Reason::ParseError,
        Reason::UnknownFunction,
        Reason::MissingKey,
        Reason::ExecutionFailed,
        Reason::OutputTooLarge,
        Reason::TooMuchWork,
    ] {
        assert!(named(reason.as_str()), "{reason}");
    }
}

/// Every function is called by at least one vector that renders.
#[test]
fn every_function_has_a_vector() {
    let file = vectors();
    let good: Vec<&Case> = file.cases.iter().filter(|case| case.error.is_none() && case.ours.is_none()).collect();
    let is_called = |name: &str| {
        good.iter().any(|case| case.template.split(|c: char| !c.is_alphanumeric()).any(|word| word == name))
    };
    // `fail` can only fail.
    let missing: Vec<_> = function_names().filter(|name| *name != "fail" && !is_called(name)).collect();
    assert!(missing.is_empty(), "no vector calls {missing:?}");
}

#[test]
fn a_failure_quotes_nothing() {
    let values = BTreeMap::from([("p".to_owned(), b"hunter2".to_vec())]);
    for template in [
        "{{ index .p (index .p 0) }}",
        "{{ .p.x }}",
        "{{ range .p }}{{ end }}",
        "{{ template .p }}",
        "{{ fail .p }}",
        "{{ fromJson .p }}",
        "{{ urlParse (print \":\" .p) }}",
        "{{ regexFind (print \"(\" .p) .p }}",
        "{{ (index (dict .p 1) .p).x }}",
    ] {
        let failure = render(&values, template).unwrap_err();
        let text = format!("{failure} {failure:?}");
        assert!(!text.contains("hunter2") && !text.contains("104"), "{text}");
        assert!(matches!(failure.reason, Reason::ExecutionFailed | Reason::ParseError));
    }
}
