//! `seal open`, `seal ls` and `seal verify`: what is in sealed files, and who can open them.

use std::path::PathBuf;

use clap::Args;

use super::{cluster::ClusterArgs, ring::Listing, seal::Format};

const OPEN_EXAMPLES: &str = "\
Examples:
  seal open sealed.yaml -i recovery.txt                         # a Secret manifest
  seal open sealed.yaml -i recovery.txt --key password          # one value, as it is
  seal open sealed.yaml -i recovery.txt | kubectl apply -f -    # without any controller";

const LS_HELP: &str = "\
JSON: an array with one object for each SealedSecret:
  file, document    where it stands; documents count from 1
  namespace, name   of the Secret that it makes
  sealedFor         {name, namespaces}; an absent part means any
  keys              [{key, keyId, ring, place, bucket}], or {key, error} for no sealed value;
                    place is ok or moved, the value is shorter than bucket bytes
  vault             [{key, source, store}]; no key: all of the source

Examples:
  seal ls sealed.yaml -o json
  seal ls                         # every sealed file below this folder";

const VERIFY_HELP: &str = "\
Exit codes: 0 everything opens, 1 something does not or could not be asked.

Examples:
  seal verify sealed.yaml         # asks the cluster of the current context
  seal verify sealed.yaml --controller-url http://127.0.0.1:8080
  seal verify apps -i recovery.txt        # a drill: would this identity recover everything?";

/// Open sealed files, for members of the ring
///
/// Prints a Secret manifest for every SealedSecret. The ring's wraps are found in `.seal/keyrings/`, upward from the file.
/// Nothing is written to the disk. Templates are not rendered and Vault is not asked.
#[derive(Args)]
#[command(after_long_help = OPEN_EXAMPLES)]
pub(crate) struct OpenArgs {
    /// Sealed files; `-` is stdin
    #[arg(value_name = "FILE", required = true)]
    pub(crate) files: Vec<PathBuf>,

    #[command(flatten)]
    pub(crate) keys: OpenerArgs,

    /// Print the raw value of this key alone
    #[arg(short, long)]
    pub(crate) key: Option<String>,

    /// Only the SealedSecrets of this Secret name
    #[arg(long)]
    pub(crate) name: Option<String>,

    /// Namespace of SealedSecrets that name none
    ///
    /// Not needed where they are sealed for exactly one.
    #[arg(short, long, value_name = "NS")]
    pub(crate) namespace: Option<String>,

    /// Format of the manifests
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value = "yaml", conflicts_with = "key")]
    pub(crate) output: Format,
}

/// With which private keys values are opened.
#[derive(Args)]
pub(crate) struct OpenerArgs {
    /// Identity file of a member of the ring; `-` is stdin
    ///
    /// Asks for the passphrase of a file that has one.
    #[arg(
        short,
        long = "identity",
        value_name = "FILE",
        required = true,
        env = "SEAL_IDENTITY",
        hide_env_values = true
    )]
    pub(crate) identities: Vec<PathBuf>,

    /// Ring that holds the wraps, a name or a file [default: those in `.seal/keyrings/`]
    #[arg(long = "ring", value_name = "RING")]
    pub(crate) rings: Vec<String>,
}

/// List what is sealed, to whom and for whom
///
/// Needs no key and no cluster. Folders are searched for `*.yaml`, `*.yml` and `*.json` as Git sees them: what it ignores
/// is left out.
#[derive(Args)]
#[command(after_long_help = LS_HELP)]
pub(crate) struct LsArgs {
    /// Sealed files and folders; `-` is stdin [default: this folder]
    #[arg(value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,

    /// Format
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value = "text")]
    pub(crate) output: Listing,
}

/// Ask whether sealed files can be opened, by a cluster or by an identity
///
/// The cluster's controller is asked through the API server. It is sent what is sealed, and answers yes or no for each
/// object, nothing else. Folders are searched as by `seal ls`; a file in them that holds sealed values and cannot be read
/// does not open.
#[derive(Args)]
#[command(after_long_help = VERIFY_HELP)]
pub(crate) struct VerifyArgs {
    /// Sealed files and folders; `-` is stdin
    #[arg(value_name = "PATH", required = true)]
    pub(crate) paths: Vec<PathBuf>,

    /// Ask the controller at this address, not through the API server
    #[arg(long, value_name = "URL")]
    pub(crate) controller_url: Option<String>,

    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,

    /// Namespace of the controller
    #[arg(long, value_name = "NS", default_value = super::CONTROLLER_NAMESPACE)]
    pub(crate) controller_namespace: String,

    /// Ask nobody: try to open with this identity file; `-` is stdin
    #[arg(short, long = "identity", value_name = "FILE", conflicts_with_all = ["controller_url", "context", "kubeconfig"])]
    pub(crate) identities: Vec<PathBuf>,

    /// With -i: ring that holds the wraps, a name or a file [default: those in `.seal/keyrings/`]
    #[arg(long = "ring", value_name = "RING", requires = "identities")]
    pub(crate) rings: Vec<String>,

    /// Namespace of SealedSecrets that name none
    #[arg(short, long, value_name = "NS")]
    pub(crate) namespace: Option<String>,
}
