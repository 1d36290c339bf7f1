//! `docs/reference/controller.md` against what the controller really has: flags, metrics and their labels.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{collections::BTreeSet, time::Duration};

use clap::CommandFactory;
use seal_controller::{
    args::Args,
    keys::OpenedRing,
    metrics::{ApiFailure, Class, Dropped, Endpoint, KeyState, Kind, Metrics, Outcome, Ready, Write},
    vault::{
        link::StoreId,
        meter::{self, Operation},
    },
};
use seal_crds::condition::{KeyRingReason, RecoverableReason};
use seal_envelope::Identity;

const REFERENCE: &str = include_str!("../../docs/reference/controller.md");

/// The first cells of the rows whose first cell begins like this, without backquotes.
fn rows(start: &str) -> Vec<Vec<&'static str>> {
    let cells = |line: &'static str| -> Vec<_> { line.trim_matches('|').split(" | ").map(str::trim).collect() };
    REFERENCE.lines().filter(|line| line.starts_with(&format!("| `{start}"))).map(cells).collect()
}

#[test]
fn every_flag_and_its_variable_and_default_are_described() {
    let described: BTreeSet<_> = rows("--")
        .iter()
        .map(|row| {
            let flag = row[0].trim_matches('`').split(' ').next().unwrap().trim_start_matches("--");
            (flag.to_owned(), row[1].trim_matches('`').to_owned())
        })
        .collect();
    let command = Args::command();
    let mut real = BTreeSet::new();
    for argument in command.get_arguments() {
        let Some(variable) = argument.get_env() else { continue };
        let flag = argument.get_long().unwrap();
        real.insert((flag.to_owned(), variable.to_str().unwrap().to_owned()));
        if let Some(default) = argument.get_default_values().first() {
            let row = rows(&format!("--{flag} ")).remove(0);
            assert_eq!(row[2].trim_matches('`'), default.to_str().unwrap(), "the default of --{flag}");
        }
    }
    assert_eq!(described, real);
}

fn ring() -> OpenedRing {
    OpenedRing {
        name: "prod".into(),
        keys: vec![],
        members: vec![],
        reason: KeyRingReason::Opened,
        message: String::new(),
        recoverable: RecoverableReason::OtherMembers,
    }
}

#[test]
fn every_metric_is_described_with_its_type() {
    let metrics = Metrics::new();
    // What has labels shows only once it has a sample.
    metrics.reconciled(Kind::SealedSecret, Outcome::Changed, Class::None, Duration::ZERO);
    metrics.objects([Ready::Unknown]);
    metrics.rings(&[ring()], &[]);
    metrics.key_objects([(Identity::generate().unwrap().recipient().key_id(), 1)]);
    metrics.answered(Endpoint::Healthz, 200);
    let (store, vault) = (StoreId::new("platform", "main"), metrics.vault());
    vault.request(&store, Operation::Read, &Ok(()), Duration::ZERO);
    vault.open(&store, false);
    vault.tokens(&store, 1);
    let text = metrics.encode().unwrap();
    let described: BTreeSet<_> =
        rows("sealwright_").iter().map(|row| (row[0].trim_matches('`').to_owned(), row[1].to_owned())).collect();
    let real: BTreeSet<_> = text
        .lines()
        .filter_map(|line| {
            let (name, type_) = line.strip_prefix("# TYPE ")?.split_once(' ')?;
            let suffix = match type_ {
                "counter" => "_total",
                "info" => "_info",
                _ => "",
            };
            Some((format!("{name}{suffix}"), type_.to_owned()))
        })
        .collect();
    assert_eq!(described, real);
}

#[test]
fn every_value_of_a_label_is_described() {
    let text = |metric: &str| rows(metric).remove(0).join(" | ");
    let assert_described = |metric: &str, words: Vec<&str>| {
        for word in words {
            assert!(text(metric).contains(&format!("`{word}`")), "{metric}: {word}");
        }
    };
    assert_described("sealwright_reconciles_total", Outcome::ALL.iter().map(|value| value.as_str()).collect());
    assert_described("sealwright_reconciles_total", Class::ALL.iter().map(|value| value.as_str()).collect());
    assert_described("sealwright_secret_writes_total", Write::ALL.iter().map(|value| value.as_str()).collect());
    assert_described("sealwright_keyring_keys", KeyState::ALL.iter().map(|value| value.as_str()).collect());
    assert_described("sealwright_events_dropped_total", Dropped::ALL.iter().map(|value| value.as_str()).collect());
    assert_described("sealwright_vault_requests_total", Operation::ALL.map(Operation::as_str).to_vec());
    assert_described("sealwright_vault_requests_total", meter::Class::ALL.map(meter::Class::as_str).to_vec());
    assert_described("sealwright_api_errors_total", ApiFailure::ALL.iter().map(|value| value.as_str()).collect());
    for endpoint in Endpoint::ALL.iter().filter(|endpoint| **endpoint != Endpoint::Other) {
        assert!(REFERENCE.contains(&format!(" {}` |", endpoint.as_str())), "{}", endpoint.as_str());
    }
}
