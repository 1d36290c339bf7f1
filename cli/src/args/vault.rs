//! `seal vault ...`: references to values that stay in Vault or OpenBao.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use super::change::DocumentArgs;

const ADD_EXAMPLES: &str = "\
Examples:
  seal vault add db.yaml DB_USER --store platform/main --mount kv --path app/db --field username
  seal vault add db.yaml tls.p12 --mount kv --path app/tls --field p12 --decode base64 --version 4
  seal vault add db.yaml DB_HOST --mount kv --path app/db --field /primary/host    # a JSON pointer";

/// Refer to values that stay in Vault or OpenBao
///
/// A SealedSecret can take single values from there, with sealed ones or instead of them: see `spec.vault`.
#[derive(Subcommand)]
pub(crate) enum VaultCommand {
    Add(VaultAddArgs),
}

/// Take one more value from Vault into the Secret
///
/// Adds a reference to `spec.vault` of a SealedSecret. Neither Vault nor a cluster is asked, and nothing else in the file
/// changes, not even a space. With `--name NS/NAME`, a file that is not there yet is made.
#[derive(Args)]
#[command(after_long_help = ADD_EXAMPLES)]
pub(crate) struct VaultAddArgs {
    /// File to change; with `--name NS/NAME` it need not be there yet
    pub(crate) file: PathBuf,

    /// Key that the value will have in the Secret
    pub(crate) key: String,

    /// The VaultStore: NAME, or NS/NAME for one of another namespace
    ///
    /// Not needed where the SealedSecret names its store already, or a rule of `.seal/config.yaml` does.
    #[arg(long, value_name = "STORE")]
    pub(crate) store: Option<String>,

    /// Where the KV engine is mounted, such as `kv`
    #[arg(long)]
    pub(crate) mount: String,

    /// Path of the secret below the mount, without `data/`
    #[arg(long)]
    pub(crate) path: String,

    /// Its field: a name, or a JSON pointer when it begins with `/`
    #[arg(long)]
    pub(crate) field: String,

    /// A fixed version of the secret [default: the latest]
    #[arg(long, value_parser = clap::value_parser!(i64).range(1..))]
    pub(crate) version: Option<i64>,

    /// How the field is encoded in Vault [default: not at all]
    #[arg(long, value_enum)]
    pub(crate) decode: Option<Decode>,

    /// Version of the KV engine [default: 2]
    #[arg(long, value_name = "1|2", value_parser = clap::value_parser!(i64).range(1..=2))]
    pub(crate) kv: Option<i64>,

    #[command(flatten)]
    pub(crate) which: DocumentArgs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Decode {
    /// Standard base64
    Base64,
}
