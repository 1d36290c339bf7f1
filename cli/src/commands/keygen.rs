//! `seal keygen`: randomness -> identity file (0600) and the recipient on stdout.

use std::path::Path;

use jiff::Timestamp;
use seal_envelope::Identity;
use zeroize::Zeroizing;

use crate::{
    args::ring::KeygenArgs,
    error::{Error, Result},
    files, keyfile, output, terminal,
};

pub(crate) fn run(args: KeygenArgs) -> Result<()> {
    let file = args.write.as_deref().filter(|file| *file != Path::new("-"));
    match file {
        Some(file) if file.symlink_metadata().is_ok() => return Err(keyfile::identity_exists(file)),
        None if output::stdout_is_terminal() => {
            return Err(Error::request("a private key is not shown on a terminal")
                .hint("write it to a file: `seal keygen -w recovery.txt`"));
        }
        _ => {}
    }
    let identity = Identity::generate().map_err(|cause| Error::request("cannot make a key").because(cause))?;
    let text = keyfile::identity_file(&identity, Timestamp::now());
    let bytes = if args.passphrase { encrypted(&text)? } else { Zeroizing::new(text.as_bytes().to_vec()) };
    match file {
        Some(file) => {
            files::create_private(file, &bytes)?;
            output::data(format!("{}\n", identity.recipient()).as_bytes())?;
            output::say(&format!(
                "wrote the private key to {}; keep it secret, and where it is not lost",
                file.display()
            ));
            if cfg!(windows) {
                output::hint("who may read it is up to its folder; one in your profile is yours alone");
            }
            warn_inside_git(file);
        }
        None => {
            output::data(&bytes)?;
            output::say(&format!("public key: {}", identity.recipient()));
        }
    }
    Ok(())
}

fn encrypted(text: &str) -> Result<Zeroizing<Vec<u8>>> {
    let passphrase = terminal::new_passphrase()?;
    let bytes = keyfile::encrypt(text, &passphrase)
        .map_err(|cause| Error::request("cannot encrypt the identity").because(cause))?;
    Ok(Zeroizing::new(bytes))
}

fn warn_inside_git(file: &Path) {
    let Ok(file) = std::path::absolute(file) else { return };
    if file.ancestors().skip(1).any(|folder| folder.join(".git").exists()) {
        output::warn("that is inside a Git repository; move it out before somebody commits it");
    }
}
