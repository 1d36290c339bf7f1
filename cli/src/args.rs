//! The command line as clap sees it. The text here is the user documentation; meaning is given in `request`.
//!
//! One file a verb under `args/`; `docs/reference/cli.md` is generated from them.

pub(crate) mod change;
pub(crate) mod cluster;
pub(crate) mod open;
pub(crate) mod ring;
pub(crate) mod seal;
pub(crate) mod shell;
pub(crate) mod vault;

use clap::{Parser, Subcommand};

use self::{
    change::{CreateArgs, SetArgs, UnsetArgs, ValueVerbArgs},
    cluster::InitArgs,
    open::{LsArgs, OpenArgs, VerifyArgs},
    ring::{KeygenArgs, RingCommand},
    seal::SealArgs,
    shell::{CompletionArgs, ConfigCommand, ManArgs},
    vault::VaultCommand,
};

/// Where the controller is, unless it was installed elsewhere.
const CONTROLLER_NAMESPACE: &str = "sealwright-system";

const EXAMPLES: &str = "\
Examples:
  kubectl create secret generic db --from-file=password -n shop --dry-run=client -o yaml | seal > sealed.yaml
  seal secret.yaml -w sealed.yaml            # a new sealed file, or merged into an existing one
  seal secret.yaml --to ring.yaml            # no .seal/ needed: a ring file is enough
  seal --in-place apps/*/secrets.yaml        # replace the Secrets in these files

Exit codes: 0 done, 1 the request could not be met, 2 bad command line, 70 a bug of ours.
Output that nobody reads, as behind `| head` or with stdout closed, is no error.";

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
    #[command(subcommand)]
    Vault(VaultCommand),
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

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_does_not_contradict_itself() {
        Cli::command().debug_assert();
    }

    /// `SNAPSHOTS=overwrite cargo test -p seal reference` writes it anew.
    #[test]
    fn the_reference_is_all_of_the_help_text() {
        let mut command = Cli::command().term_width(100);
        command.build();
        let mut text = "<!-- Made from the program's own help: `SNAPSHOTS=overwrite cargo test -p seal reference` -->\n\n# The command line\n".to_owned();
        describe(&mut command, &mut text);
        snapbox::assert_data_eq!(text, snapbox::file!["../../docs/reference/cli.md"].raw());
    }

    fn describe(command: &mut clap::Command, text: &mut String) {
        let name = command.get_bin_name().unwrap_or("seal").to_owned();
        let help: Vec<String> =
            command.render_long_help().to_string().lines().map(|line| line.trim_end().to_owned()).collect();
        text.push_str(&format!("\n## `{name}`\n\n```text\n{}\n```\n", help.join("\n").trim_end()));
        for verb in command.get_subcommands_mut().filter(|verb| verb.get_name() != "help" && !verb.is_hide_set()) {
            describe(verb, text);
        }
    }
}
