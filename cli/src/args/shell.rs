//! `seal config`, `seal completion` and `seal man`.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use clap_complete::Shell;

/// Look into `.seal/config.yaml`
#[derive(Subcommand)]
pub(crate) enum ConfigCommand {
    Explain(ExplainArgs),
}

/// Show which rule wins for a path, and which never can
#[derive(Args)]
pub(crate) struct ExplainArgs {
    /// A path that is written; it need not exist
    #[arg(value_name = "PATH")]
    pub(crate) path: PathBuf,
}

const COMPLETION_EXAMPLES: &str = "\
Examples:
  seal completion bash > /etc/bash_completion.d/seal
  seal completion zsh > \"${fpath[1]}/_seal\"
  seal completion fish > ~/.config/fish/completions/seal.fish";

/// Print the completion script of a shell
#[derive(Args)]
#[command(after_long_help = COMPLETION_EXAMPLES)]
pub(crate) struct CompletionArgs {
    /// The shell
    #[arg(value_enum)]
    pub(crate) shell: Shell,
}

/// Print the manual page
#[derive(Args)]
pub(crate) struct ManArgs {
    /// Write a page for every verb into this folder instead
    #[arg(long, value_name = "FOLDER")]
    pub(crate) dir: Option<PathBuf>,
}
