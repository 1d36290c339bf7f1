//! `seal keygen` and `seal ring ...`: identities, and who can open what.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

const KEYGEN_EXAMPLES: &str = "\
Examples:
  seal keygen -w recovery.txt > recovery.pub    # keep recovery.txt offline, recovery.pub is public
  seal keygen --passphrase -w recovery.txt      # asks for one; `age -d` opens it, too";

const NEW_EXAMPLES: &str = "\
Examples:
  seal ring new prod --member prod-eu=prod-eu.pub --member recovery=recovery.pub
  seal keygen -w me.txt | seal ring new test --member me=-";

const ADD_EXAMPLES: &str = "\
Examples:
  seal ring add prod --member prod-us=prod-us.pub -i recovery.txt";

const REMOVE_EXAMPLES: &str = "\
Examples:
  seal ring remove prod prod-us -i recovery.txt";

/// Make an identity: a private key for a person or a cluster
///
/// The file is an ordinary age identity file, readable by its owner only; an existing file is never overwritten. The
/// recipient (age1pq1...), which is public, is printed alone on stdout. Without -w the identity goes to stdout, unless
/// that is a terminal.
#[derive(Args)]
#[command(after_long_help = KEYGEN_EXAMPLES)]
pub(crate) struct KeygenArgs {
    /// Write the identity to this new file
    #[arg(short, long, value_name = "FILE")]
    pub(crate) write: Option<PathBuf>,

    /// Ask for a passphrase and encrypt the identity with it
    ///
    /// The result is an age file (scrypt) that `seal` and `age` open after asking for the passphrase.
    #[arg(long)]
    pub(crate) passphrase: bool,
}

/// Make and change key rings
///
/// A ring lists its members, who can open everything that is sealed to it, and its keys, each wrapped for every member.
/// It is one file, `.seal/keyrings/NAME.yaml`: commit it, and apply it to the clusters. Changing a ring touches no sealed
/// file. Every change but `new` needs a member's identity, and proves it to the clusters.
#[derive(Subcommand)]
pub(crate) enum RingCommand {
    New(NewArgs),
    Add(AddArgs),
    Remove(RemoveArgs),
    Rotate(RotateArgs),
    Disable(DisableArgs),
    Status(StatusArgs),
}

/// Make a ring with one key, wrapped for its members
///
/// Its private half is born here, and kept nowhere but in the wraps. A ring whose only member is lost cannot be
/// recovered: give a cluster and an offline identity of yours.
#[derive(Args)]
#[command(after_long_help = NEW_EXAMPLES)]
pub(crate) struct NewArgs {
    /// The ring's name
    pub(crate) name: String,

    /// A member and the file that holds its recipient (or the recipient itself, or `-` for stdin)
    #[arg(short, long = "member", value_name = "NAME=FILE", required = true)]
    pub(crate) members: Vec<String>,

    /// Namespace of the controller, which the manifest names
    #[arg(short, long, value_name = "NS", default_value = super::CONTROLLER_NAMESPACE)]
    pub(crate) namespace: String,

    /// Write to this new file; `-` is stdout [default: .seal/keyrings/NAME.yaml]
    #[arg(short, long, value_name = "FILE")]
    pub(crate) write: Option<PathBuf>,
}

/// Add members: another cluster, or a person
///
/// Every key of the ring, old ones too, is wrapped for the new members: they open everything that was ever sealed to it.
#[derive(Args)]
#[command(after_long_help = ADD_EXAMPLES)]
pub(crate) struct AddArgs {
    /// The ring: a name in `.seal/keyrings/`, or a ring file
    pub(crate) ring: String,

    /// A member and the file that holds its recipient (or the recipient itself, or `-` for stdin)
    #[arg(short, long = "member", value_name = "NAME=FILE", required = true)]
    pub(crate) members: Vec<String>,

    #[command(flatten)]
    pub(crate) identity: MemberArgs,
}

/// Remove members, and rotate the ring without them
///
/// A removed member keeps what it could open so far, in the Git history too. The values that must change at their source
/// are listed.
#[derive(Args)]
#[command(after_long_help = REMOVE_EXAMPLES)]
pub(crate) struct RemoveArgs {
    /// The ring: a name in `.seal/keyrings/`, or a ring file
    pub(crate) ring: String,

    /// The members to remove
    #[arg(value_name = "MEMBER", required_unless_present = "members")]
    pub(crate) names: Vec<String>,

    /// The same, as a flag
    #[arg(short, long = "member", value_name = "MEMBER")]
    pub(crate) members: Vec<String>,

    #[command(flatten)]
    pub(crate) identity: MemberArgs,
}

/// Append a new key, which seals from now on
#[derive(Args)]
pub(crate) struct RotateArgs {
    /// The ring: a name in `.seal/keyrings/`, or a ring file
    pub(crate) ring: String,

    #[command(flatten)]
    pub(crate) identity: MemberArgs,
}

/// Disable keys, for ever: clusters no longer open what is sealed to them
///
/// The ring's last key seals and cannot be disabled: rotate first.
#[derive(Args)]
pub(crate) struct DisableArgs {
    /// The ring: a name in `.seal/keyrings/`, or a ring file
    pub(crate) ring: String,

    /// Ids of keys, or their beginnings
    #[arg(value_name = "KEY", required_unless_present = "keys")]
    pub(crate) ids: Vec<String>,

    /// The same, as a flag
    #[arg(short, long = "key", value_name = "KEY")]
    pub(crate) keys: Vec<String>,

    #[command(flatten)]
    pub(crate) identity: MemberArgs,
}

/// Show members and keys, and which keys are still needed
#[derive(Args)]
pub(crate) struct StatusArgs {
    /// The ring: a name in `.seal/keyrings/`, or a ring file [default: all of `.seal/keyrings/`]
    pub(crate) ring: Option<String>,

    /// Files and folders in which to look for sealed values [default: the folder that holds `.seal/`]
    #[arg(value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,

    /// Check the proof and every wrap of this member, too; `-` is stdin
    #[arg(short, long = "identity", value_name = "FILE")]
    pub(crate) identities: Vec<PathBuf>,

    /// Format
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value = "text")]
    pub(crate) output: Listing,
}

/// Who changes the ring.
#[derive(Args)]
pub(crate) struct MemberArgs {
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

    /// Do not ask on the terminal
    #[arg(short, long)]
    pub(crate) yes: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Listing {
    Text,
    Json,
}
