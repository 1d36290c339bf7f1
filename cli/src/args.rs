//! The command line as clap sees it. The text here is the user documentation; meaning is given in `request`.
//!
//! One file a verb under `args/`; `docs/reference/cli.md` is generated from them.

pub(crate) mod change;
pub(crate) mod cluster;
pub(crate) mod open;
pub(crate) mod ring;
pub(crate) mod seal;
pub(crate) mod shell;

use clap::{Parser, Subcommand};

use self::{
    change::{CreateArgs, SetArgs, UnsetArgs, ValueVerbArgs},
    cluster::InitArgs,
    open::{LsArgs, OpenArgs, VerifyArgs},
    ring::{KeygenArgs, RingCommand},
    seal::SealArgs,
    shell::{CompletionArgs, ConfigCommand, ManArgs},
};

/// Where the controller is, unless it was installed elsewhere.
const CONTROLLER_NAMESPACE: &str = "sealwright-system";

const EXAMPLES: &str = "\
Examples:
  kubectl create secret generic db --from-literal=password=s3cret -n shop --dry-run=client -o yaml | seal > db.yaml
  seal secret.yaml -w sealed.yaml            # a new sealed file, or merged into an existing one
  seal secret.yaml --to ring.yaml            # no .seal/ needed: a ring file is enough
  seal --in-place apps/*/secrets.yaml        # replace the Secrets in these files

Exit codes: 0 done, 1 the request could not be met, 2 bad command line, 70 a bug of ours.";

/// Seal Kubernetes Secrets for a ring of clusters, so that they can live in Git
///
/// Without a verb, reads Secret manifests (YAML or JSON, many documents, `kind: List`) from the files or from stdin, and
/// writes SealedSecret manifests. Documents that are not Secrets pass through unchanged. Works offline, with public keys
/// only: the key ring is read from `.seal/keyrings/`, found upward from the file that is written.
#[derive(Parser)]
#[command(name = "seal", version, args_conflicts_with_subcommands = true, after_long_help = EXAMPLES)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) seal: SealArgs,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    Create(CreateArgs),
    Set(SetArgs),
    Unset(UnsetArgs),
    Value(ValueVerbArgs),
    Open(OpenArgs),
    Ls(LsArgs),
    Verify(VerifyArgs),
    Init(InitArgs),
    Keygen(KeygenArgs),
    #[command(subcommand)]
    Ring(RingCommand),
    #[command(subcommand)]
    Config(ConfigCommand),
    Completion(CompletionArgs),
    Man(ManArgs),
}
