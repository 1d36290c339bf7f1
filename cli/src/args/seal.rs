//! `seal [FILE...]`, the default verb, and the flags that every sealing verb shares.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::Deserialize;

#[derive(Args)]
pub(crate) struct SealArgs {
    /// Manifests to seal; `-` or none is stdin
    #[arg(value_name = "FILE")]
    pub(crate) files: Vec<PathBuf>,

    /// Write to this file; an existing one is merged
    ///
    /// What is sealed in the file stays: its `sealedFor` holds (a flag or rule that differs is an error), keys that the
    /// input does not mention, comments and the template stay. Without this the result goes to stdout.
    #[arg(short, long, value_name = "FILE", conflicts_with = "in_place")]
    pub(crate) write: Option<PathBuf>,

    /// Replace the Secrets in the files themselves
    ///
    /// Every other document keeps its bytes. The plaintext stays in the history of a file that was committed.
    #[arg(long, requires = "files")]
    pub(crate) in_place: bool,

    #[command(flatten)]
    pub(crate) ring: RingArgs,

    /// What a value may be opened for [default: strict]
    ///
    /// Overrides the rule of `.seal/config.yaml`; a file that is merged into keeps its own.
    #[arg(long, value_enum)]
    pub(crate) scope: Option<Scope>,

    /// Namespace of Secrets that name none
    ///
    /// There is no other default: a Secret without a namespace is an error, never kubeconfig's `default`. With several
    /// (`-n shop-dev,shop-prod`) the values open in each of them, and the manifest names none.
    #[arg(short, long, value_name = "NS", value_delimiter = ',')]
    pub(crate) namespace: Vec<String>,

    /// Name of the Secret, where the input has another or none
    #[arg(long)]
    pub(crate) name: Option<String>,

    /// Format of what is written [default: that of the file written, else of the input]
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    pub(crate) output: Option<Format>,

    /// With -w: remove sealed keys that the input does not have
    #[arg(long, requires = "write")]
    pub(crate) prune: bool,

    /// Say what would be sealed for whom, and write nothing
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Path whose rule applies, where the output goes to stdout
    ///
    /// Rules match the path that is written; this names it for `cat secret.yaml | seal --path apps/db.yaml > ...`.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["write", "in_place"])]
    pub(crate) path: Option<PathBuf>,
}

/// Whom to seal to.
#[derive(Args)]
pub(crate) struct RingArgs {
    /// Key ring to seal to: a name in `.seal/keyrings/`, or a ring file
    ///
    /// Not needed where a rule names it or where there is only one ring.
    #[arg(long, value_name = "RING")]
    pub(crate) to: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Scope {
    /// This name in this namespace (or these)
    Strict,
    /// Any name in this namespace (or these)
    Namespace,
    /// Anywhere in a cluster of the ring
    Cluster,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Yaml,
    Json,
}
