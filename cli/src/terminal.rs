//! Talking with the person at the terminal: questions, and passphrases that are not shown.
//!
//! A question is asked where stdin and stderr are the terminal, else there is nobody to ask. A passphrase is asked for on
//! the terminal itself, so that stdin and stdout stay free for data.

use std::io::{self, BufRead as _, IsTerminal as _};

use age::secrecy::SecretString;

use crate::{
    error::{Error, Result},
    output,
};

/// What a person said to a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Yes,
    No,
    /// There is no terminal to ask on.
    Nobody,
}

/// Asks on the terminal; anything but `y` or `yes` is no.
pub(crate) fn ask(question: &str) -> Result<Answer> {
    if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
        return Ok(Answer::Nobody);
    }
    output::prompt(&format!("{question} [y/N] "));
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).map_err(|cause| Error::request("cannot read the answer").because(cause))?;
    let is_yes = matches!(line.trim().to_ascii_lowercase().as_str(), "y" | "yes");
    Ok(if is_yes { Answer::Yes } else { Answer::No })
}

/// Asks on the terminal for a line that is not shown.
pub(crate) fn hidden(prompt: &str) -> io::Result<String> {
    #[cfg(unix)]
    show_again_when_interrupted();
    rpassword::prompt_password(prompt)
}

/// Ctrl-C at a hidden prompt must not leave a terminal behind that shows nothing of what is typed.
#[cfg(unix)]
fn show_again_when_interrupted() {
    use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
    use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
    static WATCHED: std::sync::Once = std::sync::Once::new();

    WATCHED.call_once(|| {
        let Ok(terminal) = std::fs::File::open("/dev/tty") else { return };
        let Ok(as_it_was) = tcgetattr(&terminal) else { return };
        let Ok(mut signals) = signal_hook::iterator::Signals::new([SIGHUP, SIGINT, SIGTERM]) else { return };
        std::thread::spawn(move || {
            if let Some(signal) = signals.forever().next() {
                // It may be gone; there is nobody left to tell.
                tcsetattr(&terminal, OptionalActions::Now, &as_it_was).ok();
                std::process::exit(128 + signal);
            }
        });
    });
}

/// Asks for a passphrase without showing it; `otherwise` is what to do without a terminal.
pub(crate) fn passphrase(prompt: &str, otherwise: &str) -> Result<SecretString> {
    let typed = hidden(prompt).map_err(|cause| {
        Error::request("there is no terminal on which to ask for the passphrase").because(cause).hint(otherwise)
    })?;
    Ok(SecretString::from(typed))
}

/// Asks for a new passphrase, twice.
pub(crate) fn new_passphrase() -> Result<SecretString> {
    use age::secrecy::ExposeSecret as _;
    let otherwise = "run it in one, or encrypt what is written without --passphrase: `age -p`";
    let once = passphrase("Passphrase for the new identity: ", otherwise)?;
    if once.expose_secret().is_empty() {
        return Err(Error::request("the passphrase is empty").hint("leave out --passphrase for a file without one"));
    }
    let again = passphrase("The same again: ", otherwise)?;
    if once.expose_secret() != again.expose_secret() {
        return Err(Error::request("the two passphrases differ").hint("nothing was written; try again"));
    }
    Ok(once)
}
