//! One file a verb, each the same steps: read, plan, act, write.

mod seal;

use crate::{args::Cli, error::Result};

pub(crate) fn run(cli: Cli) -> Result<()> {
    match cli.command {
        None => seal::run(cli.seal),
        Some(command) => match command {},
    }
}
