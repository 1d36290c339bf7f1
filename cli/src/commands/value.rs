//! `seal value`: one token, to be put anywhere by hand.

use std::path::Path;

use crate::{
    args::{change::ValueVerbArgs, seal::Scope},
    config::Config,
    error::{Error, Result},
    output, plan, request, values,
};

pub(crate) fn run(args: &ValueVerbArgs) -> Result<()> {
    let sealed_for = request::sealed_for(&args.sealed_for, args.scope.unwrap_or(Scope::Strict))?;
    let keys: Vec<String> = args.key.iter().cloned().collect();
    for key in &keys {
        values::checked_key(key)?;
    }
    let ring = Config::find(None)?.ring_for(args.ring.to.as_deref(), None)?;
    let recipient = ring.sealing_recipient()?;
    let values = values::collect(&keys, &args.values, &[] as &[&Path])?;
    if values.len() != 1 {
        return Err(
            Error::usage("one token is printed, and several keys were given").hint("run the command once for each key")
        );
    }
    let tokens = plan::seal_values(recipient, &sealed_for, &values)?;
    for (_, token) in tokens {
        output::data(format!("{token}\n").as_bytes())?;
    }
    Ok(())
}
