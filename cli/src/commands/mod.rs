//! One file a verb, each the same steps: read, plan, act, write.

mod change;
mod completion;
mod config;
mod create;
mod init;
mod keygen;
mod ls;
mod man;
mod open;
mod ring;
mod seal;
mod set;
mod unset;
mod value;
mod vault;
mod verify;

use crate::{
    args::{Cli, Command},
    error::Result,
};

pub(crate) fn run(cli: Cli) -> Result<()> {
    match cli.command {
        None => seal::run(cli.seal),
        Some(Command::Create(args)) => create::run(&args),
        Some(Command::Set(args)) => set::run(&args),
        Some(Command::Unset(args)) => unset::run(&args),
        Some(Command::Value(args)) => value::run(&args),
        Some(Command::Vault(command)) => vault::run(command),
        Some(Command::Open(args)) => open::run(args),
        Some(Command::Ls(args)) => ls::run(args),
        Some(Command::Verify(args)) => verify::run(args),
        Some(Command::Init(args)) => init::run(args),
        Some(Command::Keygen(args)) => keygen::run(args),
        Some(Command::Ring(command)) => ring::run(command),
        Some(Command::Config(command)) => config::run(command),
        Some(Command::Completion(args)) => completion::run(args),
        Some(Command::Man(args)) => man::run(args),
    }
}
