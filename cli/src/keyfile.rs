//! Identities and recipients, as people keep them: in files, behind a passphrase, on stdin.
//!
//! FILE -> [`Identity`] (wiped when dropped) and FILE or text -> [`Recipient`]. What was read is in no error: a private
//! key pasted into the wrong place must not end up in a CI log.

use std::{
    io::{self, Write as _},
    path::Path,
};

use age::{
    armor::{ArmoredReader, ArmoredWriter, Format},
    secrecy::SecretString,
};
use seal_envelope::{Identity, KeyError, Recipient};
use zeroize::Zeroizing;

use crate::{
    config::looks_like_private_key as is_private,
    error::{Error, Result},
    files,
    manifest::text::Text,
    terminal,
};

const PUBLIC_HINT: &str = "give the recipient (age1pq1...): `seal keygen` printed it, it also stands behind `# public key:` in the identity file";

/// Reads every identity of these files; one that is behind a passphrase is asked for it.
pub(crate) fn identities(files: &[impl AsRef<Path>]) -> Result<Vec<Identity>> {
    let mut identities = Vec::new();
    for file in files {
        identities.extend(identities_in(file.as_ref())?);
    }
    Ok(identities)
}

fn identities_in(file: &Path) -> Result<Vec<Identity>> {
    if is_private(&file.to_string_lossy()) {
        return Err(Error::usage("an identity stands on the command line, where every process can read it")
            .hint("give a file that holds it, or `-` and the identity on stdin"));
    }
    let name = shown(file);
    let bytes = read(file)?;
    let bytes = if is_encrypted(&bytes) { decrypt(&bytes, &name)? } else { bytes };
    let text = Text::decode(&bytes).map_err(|_| not_an_identity(&name, 0, &KeyError::Damaged))?;
    Identity::parse_file(text.as_str()).map_err(|(line, cause)| match other_kind(text.as_str()) {
        Some(kind) => Error::request(format!("{name} is {kind}, where an identity belongs"))
            .hint("give the file that `seal keygen -w` or `age-keygen -pq -o` wrote"),
        None => not_an_identity(&name, line, &cause),
    })
}

/// What a file is that was taken for an identity, as far as it says so.
fn other_kind(text: &str) -> Option<&'static str> {
    let kind = text.lines().find_map(|line| line.trim_start_matches([' ', '"']).strip_prefix("kind"));
    let kind = kind.map(|kind| kind.trim_matches(['"', ':', ' ', ',', '\'']));
    match kind {
        Some("SealedSecret") => Some("a SealedSecret"),
        Some("KeyRing") => Some("a key ring"),
        Some("Secret") => Some("a Secret"),
        Some(_) => Some("a manifest"),
        None if text.trim_start().starts_with("-----BEGIN") => Some("a PEM file"),
        None => None,
    }
}

fn not_an_identity(name: &str, line: usize, cause: &KeyError) -> Error {
    let error = match (line, cause) {
        (0, _) => Error::request(format!("{name} holds no identity")),
        _ => Error::request(format!("{name}, line {line}, holds no identity")).because(cause.clone()),
    };
    match cause {
        KeyError::PublicKey => {
            error.hint("this is the public half; give the file that `seal keygen -w` or `age-keygen -pq -o` wrote")
        }
        _ => error.hint("an identity file holds a line AGE-SECRET-KEY-PQ-1..., see `seal keygen --help`"),
    }
}

/// Splits `NAME=WHERE` and reads the recipient.
pub(crate) fn member(argument: &str) -> Result<seal_envelope::Member> {
    let Some((name, whence)) = argument.split_once('=').filter(|(name, _)| !is_private(name)) else {
        let shown = if is_private(argument) { String::new() } else { format!(" `{argument}`") };
        return Err(Error::usage(format!("the member{shown} has no name"))
            .hint("members are given as `--member NAME=FILE`, such as `--member prod-eu=prod-eu.pub`"));
    };
    let recipient = recipient(whence).map_err(|error| error.within(format_args!("member `{name}`")))?;
    Ok(seal_envelope::Member { name: name.to_owned(), recipient })
}

/// A recipient from a file that holds it, from stdin (`-`), or as it stands.
fn recipient(whence: &str) -> Result<Recipient> {
    if is_private(whence) {
        return Err(private_key_given("the argument"));
    }
    if whence.starts_with("age1") {
        return whence.parse().map_err(|cause| not_a_recipient("the argument", cause));
    }
    let file = Path::new(whence);
    let name = shown(file);
    let bytes = read(file)?;
    if is_encrypted(&bytes) {
        return Err(Error::request(format!("{name} is an encrypted file, where a recipient belongs")).hint(PUBLIC_HINT));
    }
    let text = Text::decode(&bytes).map_err(|_| not_a_recipient(&name, KeyError::Damaged))?;
    let words = || text.as_str().lines().map(str::trim).filter(|line| !line.starts_with('#'));
    if words().any(is_private) {
        return Err(private_key_given(&name));
    }
    let word = words().flat_map(str::split_whitespace).find(|word| word.starts_with("age1"));
    word.ok_or_else(|| not_a_recipient(&name, KeyError::Damaged))?
        .parse()
        .map_err(|cause| not_a_recipient(&name, cause))
}

fn private_key_given(name: &str) -> Error {
    Error::request(format!("{name} holds a private key, where a recipient belongs")).hint(PUBLIC_HINT)
}

fn not_a_recipient(name: &str, cause: KeyError) -> Error {
    let error = Error::request(format!("{name} holds no usable recipient"));
    match cause {
        KeyError::PrivateKey => private_key_given(name),
        KeyError::Damaged => error.hint("a recipient is one word that begins with age1pq1; `seal keygen` prints it"),
        _ => error.because(cause),
    }
}

/// An identity file as `age-keygen` writes it.
pub(crate) fn identity_file(identity: &Identity, created: jiff::Timestamp) -> Zeroizing<String> {
    let secret = identity.to_secret_string();
    // Room for all of it, so that growing leaves no copy behind.
    let mut text = Zeroizing::new(String::with_capacity(secret.len() + identity.recipient().as_str().len() + 128));
    text.push_str(&format!("# created: {}\n# public key: {}\n", rounded(created), identity.recipient()));
    text.push_str(&secret);
    text.push('\n');
    text
}

/// Whole seconds, as Kubernetes writes times.
pub(crate) fn rounded(time: jiff::Timestamp) -> jiff::Timestamp {
    jiff::Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// Encrypts an identity file with a passphrase, as `age --passphrase --armor` does.
pub(crate) fn encrypt(text: &str, passphrase: &SecretString) -> io::Result<Vec<u8>> {
    let encryptor = age::Encryptor::with_user_passphrase(passphrase.clone());
    let mut file = Vec::new();
    let armor = ArmoredWriter::wrap_output(&mut file, Format::AsciiArmor)?;
    let mut writer = encryptor.wrap_output(armor)?;
    writer.write_all(text.as_bytes())?;
    writer.finish()?.finish()?;
    Ok(file)
}

fn decrypt(bytes: &[u8], name: &str) -> Result<Zeroizing<Vec<u8>>> {
    let broken = |cause: age::DecryptError| Error::request(format!("{name} cannot be decrypted")).because(cause);
    let decryptor = age::Decryptor::new_buffered(ArmoredReader::new(bytes)).map_err(broken)?;
    if !decryptor.is_scrypt() {
        return Err(Error::request(format!("{name} is encrypted to a key, not with a passphrase"))
            .hint(format!("open it first: `age -d -i KEY {name} | seal ... -i -`")));
    }
    let otherwise = "decrypt the file first: `age -d FILE | seal ... -i -`";
    let passphrase = terminal::passphrase(&format!("Passphrase of {name}: "), otherwise)?;
    let identity = age::scrypt::Identity::new(passphrase);
    let reader = decryptor.decrypt(std::iter::once(&identity as &dyn age::Identity)).map_err(|cause| match cause {
        age::DecryptError::DecryptionFailed | age::DecryptError::KeyDecryptionFailed => {
            Error::request(format!("the passphrase does not open {name}"))
                .hint("try again; upper and lower case differ")
        }
        cause => broken(cause),
    })?;
    // No longer than what it is decrypted from.
    files::read_wiped(reader, bytes.len())
        .map_err(|cause| Error::request(format!("{name} cannot be decrypted")).because(cause))
}

/// Whether this is an age file, armored or not.
fn is_encrypted(bytes: &[u8]) -> bool {
    bytes.starts_with(b"age-encryption.org/") || bytes.trim_ascii_start().starts_with(b"-----BEGIN AGE ENCRYPTED FILE")
}

/// An identity that would be lost if it were overwritten.
pub(crate) fn identity_exists(path: &Path) -> Error {
    Error::request(format!("{} exists already, and may hold the only copy of an identity", path.display()))
        .hint("choose another name with -w")
        .hint("its recipient stands in it, after `# public key:`, should the shell have emptied the file for it")
}

fn read(file: &Path) -> Result<Zeroizing<Vec<u8>>> {
    if file == Path::new("-") { files::read_stdin() } else { files::read(file) }
}

fn shown(file: &Path) -> String {
    if file == Path::new("-") { "stdin".to_owned() } else { file.display().to_string() }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_private_key_where_a_recipient_belongs_is_refused_without_echo() {
        let identity = Identity::generate().unwrap();
        let secret = identity.to_secret_string();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("me.txt");
        fs::write(&file, identity_file(&identity, jiff::Timestamp::UNIX_EPOCH).as_bytes()).unwrap();

        for argument in [
            format!("me={}", file.display()),
            format!("me={}", *secret),
            format!("me={}", secret.to_lowercase()),
            format!("{}=x", *secret),
            secret.to_string(),
        ] {
            let error = member(&argument).unwrap_err();
            let text = format!("{error} {:?} {error:?}", error.hints()).to_lowercase();
            assert!(!text.contains("age-secret-key-pq-1"), "{text}");
            assert!(!error.hints().is_empty());
        }
    }

    #[test]
    fn the_first_recipient_of_a_file_counts_and_comments_do_not() {
        let (one, two) = (Identity::generate().unwrap(), Identity::generate().unwrap());
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("me.pub");
        fs::write(&file, format!("\u{feff}# {}\r\n\r\n  {} laptop\r\n", one.recipient(), two.recipient())).unwrap();
        assert_eq!(member(&format!("me={}", file.display())).unwrap().recipient, *two.recipient());
        assert_eq!(member(&format!("me={}", one.recipient())).unwrap().recipient, *one.recipient());
    }

    #[test]
    fn an_identity_file_is_read_back() {
        let identity = Identity::generate().unwrap();
        let text = identity_file(&identity, "2026-11-21T09:00:00.5Z".parse().unwrap());
        assert!(text.starts_with("# created: 2026-11-21T09:00:00Z\n# public key: age1pq1"));
        let [read] = Identity::parse_file(&text).unwrap().try_into().ok().unwrap();
        assert!(read.recipient() == identity.recipient());
    }
}
