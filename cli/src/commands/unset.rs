//! `seal unset`: values out of a sealed file.

use super::change::Opened;
use crate::{
    args::change::UnsetArgs,
    error::{Error, Result, did_you_mean},
    manifest::edit::Changes,
    output,
    sealing::changed,
};

pub(crate) fn run(args: &UnsetArgs) -> Result<()> {
    let path = args.file.as_path();
    let file = Opened::read(path)?;
    let object = file.sealed(path, args.which.name.as_deref())?;
    let mut remove: Vec<&str> = Vec::new();
    for key in &args.keys {
        if !object.keys.contains(key) {
            let error = Error::request(format!("{} holds no sealed `{key}`", path.display()));
            if object.fetches(key) {
                return Err(error.hint("it comes from Vault: remove its line from `spec.vault.data`, by hand"));
            }
            return Err(match did_you_mean(key, object.keys.iter().map(String::as_str)) {
                Some(near) => error.hint(format!("did you mean `{near}`?")),
                None => error.hint(format!("it holds: {}", object.keys.join(", "))),
            });
        }
        if !remove.contains(&key.as_str()) {
            remove.push(key);
        }
    }
    let is_empty = remove.len() == object.keys.len();
    let text = changed(&file.stream, &object, &Changes { set: Vec::new(), remove })
        .map_err(|error| error.within(path.display()))?;
    file.replace(path, &text)?;
    output::say(&format!("{}: {} removed", path.display(), args.keys.join(", ")));
    if is_empty {
        output::warn("no sealed value is left in it");
    }
    Ok(())
}
