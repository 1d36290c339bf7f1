//! `seal [FILE...]`: Secrets in, SealedSecrets out.

use crate::{
    args::seal::SealArgs,
    error::{Error, Result},
};

pub(crate) fn run(args: SealArgs) -> Result<()> {
    let _ = args.files;
    Err(Error::usage("no verb was given").hint("see `seal --help`"))
}
