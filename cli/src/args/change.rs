//! `create`, `set`, `unset` and `value`: verbs that take values from a person, a pipe or a file, never from arguments.

use std::path::PathBuf;

use clap::Args;

use super::seal::{Format, RingArgs, Scope};

const CREATE_EXAMPLES: &str = "\
Examples:
  seal create db.yaml -n shop --name db password               # asks for it, hidden
  openssl rand -base64 24 | seal create db.yaml -n shop --name db password --trim
  seal create tls.yaml -n shop --name web --type kubernetes.io/tls --from-file tls.crt=web.pem --from-file tls.key=web.key
  seal create env.yaml -n shop --name env --from-env-file .env";

/// Make a new sealed file from values typed, piped or read from files
#[derive(Args)]
#[command(after_long_help = CREATE_EXAMPLES)]
pub(crate) struct CreateArgs {
    /// File to make; it must not exist. `-` is stdout
    pub(crate) file: PathBuf,

    /// Keys whose values are asked for; a single one may come from stdin
    #[arg(value_name = "KEY")]
    pub(crate) keys: Vec<String>,

    /// Namespace of the Secret; several (`-n a,b`) let it open in each
    #[arg(short, long, value_name = "NS", value_delimiter = ',')]
    pub(crate) namespace: Vec<String>,

    /// Name of the Secret
    #[arg(long)]
    pub(crate) name: String,

    /// Type of the Secret, as `kubernetes.io/tls` [default: Opaque]
    #[arg(long = "type", value_name = "TYPE")]
    pub(crate) secret_type: Option<String>,

    #[command(flatten)]
    pub(crate) ring: RingArgs,

    /// What a value may be opened for [default: strict]
    #[arg(long, value_enum)]
    pub(crate) scope: Option<Scope>,

    #[command(flatten)]
    pub(crate) values: ValueArgs,

    /// Take all values of a file of KEY=VALUE lines
    #[arg(long, value_name = "FILE")]
    pub(crate) from_env_file: Vec<PathBuf>,

    /// Format of the file [default: json for *.json, else yaml]
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    pub(crate) output: Option<Format>,
}

/// Where values come from, if not from a prompt.
#[derive(Args)]
pub(crate) struct ValueArgs {
    /// Take the value of KEY from a file, verbatim
    #[arg(long, value_name = "KEY=FILE")]
    pub(crate) from_file: Vec<String>,

    /// Cut one final line break off what stdin gives
    #[arg(long)]
    pub(crate) trim: bool,
}

const SET_EXAMPLES: &str = "\
Examples:
  seal set db.yaml password                                    # asks for it, hidden
  printf %s \"$NEW\" | seal set db.yaml password
  seal set web.yaml --from-file tls.key=web.key
  seal set values.yaml --at db.auth.password --for shop/db password    # one token in a Helm values file";

/// Change or add values in a sealed file, or a token anywhere in a YAML file
///
/// A value is asked for on a terminal, else read from stdin, verbatim. It is never taken from the command line, where
/// every process can read it. Nothing else in the file changes, not even a space.
#[derive(Args)]
#[command(after_long_help = SET_EXAMPLES)]
pub(crate) struct SetArgs {
    /// Sealed file to change; with --at, any YAML file
    pub(crate) file: PathBuf,

    /// Keys whose values are asked for; a single one may come from stdin
    #[arg(value_name = "KEY")]
    pub(crate) keys: Vec<String>,

    #[command(flatten)]
    pub(crate) values: ValueArgs,

    #[command(flatten)]
    pub(crate) which: DocumentArgs,

    #[command(flatten)]
    pub(crate) ring: RingArgs,

    /// Put the token at this path of the file, as `db.auth[0].password`
    #[arg(long, value_name = "PATH", requires = "for")]
    pub(crate) at: Option<String>,

    /// With --at: the Secret that the value is for
    #[arg(long = "for", id = "for", value_name = "NS/NAME", requires = "at", conflicts_with = "name")]
    pub(crate) sealed_for: Option<String>,

    /// With --at: what the value may be opened for [default: strict]
    #[arg(long, value_enum, requires = "at")]
    pub(crate) scope: Option<Scope>,
}

/// Which SealedSecret of a file is meant.
#[derive(Args)]
pub(crate) struct DocumentArgs {
    /// The SealedSecret meant, where the file holds several: NAME or NS/NAME
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
}

const UNSET_EXAMPLES: &str = "\
Examples:
  seal unset db.yaml old-password
  seal unset all.yaml --name shop/db old-password";

/// Remove values from a sealed file
///
/// They stay in the history: a value that must not be known any more has to change at its source.
#[derive(Args)]
#[command(after_long_help = UNSET_EXAMPLES)]
pub(crate) struct UnsetArgs {
    /// Sealed file to change
    pub(crate) file: PathBuf,

    /// Keys to remove
    #[arg(value_name = "KEY", required = true)]
    pub(crate) keys: Vec<String>,

    #[command(flatten)]
    pub(crate) which: DocumentArgs,
}

const VALUE_EXAMPLES: &str = "\
Examples:
  seal value --for shop/db password                            # asks for it, hidden
  printf %s \"$NEW\" | seal value --for shop/db password
  seal value --for shop/db --scope namespace --from-file ca.crt=ca.pem";

/// Print one sealed value, to be put anywhere by hand
#[derive(Args)]
#[command(after_long_help = VALUE_EXAMPLES)]
pub(crate) struct ValueVerbArgs {
    /// Key that the value will have in the Secret
    #[arg(required_unless_present = "from_file")]
    pub(crate) key: Option<String>,

    /// The Secret that the value is for
    #[arg(long = "for", value_name = "NS/NAME")]
    pub(crate) sealed_for: String,

    /// What the value may be opened for [default: strict]
    #[arg(long, value_enum)]
    pub(crate) scope: Option<Scope>,

    #[command(flatten)]
    pub(crate) ring: RingArgs,

    #[command(flatten)]
    pub(crate) values: ValueArgs,
}
