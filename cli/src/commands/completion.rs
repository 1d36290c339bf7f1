//! `seal completion`: the command line -> a shell's script.

use clap::CommandFactory as _;

use crate::{
    args::{Cli, shell::CompletionArgs},
    error::Result,
    output,
};

pub(crate) fn run(args: CompletionArgs) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "seal", &mut script);
    output::data(&script)
}
