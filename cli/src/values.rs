//! Where plaintext values come from: a hidden prompt, stdin, files. Never from arguments, which every process can read.

use std::{
    io::{self, IsTerminal as _},
    path::Path,
};

use seal_envelope::{DataKey, MAX_VALUE};
use zeroize::Zeroizing;

use crate::{
    args::change::ValueArgs,
    error::{Error, Result},
    files,
    manifest::text::Text,
    output, terminal,
};

/// Values by the key that they get. They are wiped when dropped.
pub(crate) type Values = Vec<(DataKey, Zeroizing<Vec<u8>>)>;

/// Collects the values of `keys` and of `--from-file`; each key once.
pub(crate) fn collect(keys: &[String], args: &ValueArgs, env_files: &[impl AsRef<Path>]) -> Result<Values> {
    let asked: Vec<DataKey> = keys.iter().map(|key| checked_key(key)).collect::<Result<_>>()?;
    let from_files: Vec<(DataKey, &str)> =
        args.from_file.iter().map(|pair| key_and_file(pair)).collect::<Result<_>>()?;
    if asked.is_empty() && from_files.is_empty() && env_files.is_empty() {
        return Err(Error::usage("no KEY was given").hint("name the keys, or pass --from-file KEY=FILE"));
    }
    let stdin_is_a_file = from_files.iter().any(|(_, file)| *file == "-");
    let mut values = Values::new();
    for file in env_files {
        values.extend(env_file(file.as_ref())?);
    }
    for (key, file) in from_files {
        let value = if file == "-" { files::read_stdin()? } else { files::read(Path::new(file))? };
        values.push((key, value));
    }
    if !asked.is_empty() {
        values.extend(asked_values(asked, args.trim, stdin_is_a_file)?);
    }
    refuse_repeated(&values)?;
    refuse_large(&values)?;
    Ok(values)
}

/// A prompt for each on a terminal; one key from stdin otherwise.
fn asked_values(keys: Vec<DataKey>, trim: bool, stdin_is_taken: bool) -> Result<Values> {
    if io::stdin().is_terminal() {
        return keys.into_iter().map(|key| prompted(&key).map(|value| (key, value))).collect();
    }
    let one: [DataKey; 1] = keys.try_into().map_err(|_| {
        Error::usage("stdin holds the value of one KEY, and several were given")
            .hint("run the command once a key, or pass --from-file KEY=FILE")
    })?;
    if stdin_is_taken {
        return Err(
            Error::usage("stdin can be read once").hint("`--from-file KEY=-` reads it, and so does a KEY alone")
        );
    }
    let [key] = one;
    let value = files::read_stdin()?;
    if value.is_empty() {
        return Err(Error::request(format!("stdin is empty, so there is no value for `{}`", key.as_str()))
            .hint(how_to_be_empty(&key)));
    }
    Ok(vec![(key, without_final_line_break(value, trim))])
}

fn how_to_be_empty(key: &DataKey) -> String {
    let nothing = if cfg!(windows) { "NUL" } else { "/dev/null" };
    format!("for an empty value pass --from-file {}={nothing}", key.as_str())
}

fn prompted(key: &DataKey) -> Result<Zeroizing<Vec<u8>>> {
    let typed = terminal::hidden(&format!("Value for {}: ", key.as_str()))
        .map(Zeroizing::new)
        .map_err(|cause| Error::request("cannot ask on the terminal").because(cause))?;
    if typed.is_empty() {
        return Err(Error::request(format!("no value was typed for `{}`", key.as_str())).hint(how_to_be_empty(key)));
    }
    Ok(Zeroizing::new(typed.as_bytes().to_vec()))
}

/// stdin is taken verbatim: a final line break is what `echo` added, or part of a certificate; only a person knows.
fn without_final_line_break(mut value: Zeroizing<Vec<u8>>, trim: bool) -> Zeroizing<Vec<u8>> {
    let length = match value.as_slice() {
        [start @ .., b'\r', b'\n'] | [start @ .., b'\n'] => start.len(),
        _ => return value,
    };
    if trim {
        value.truncate(length);
    } else {
        output::warn("the value ends in a line break, which is sealed with it");
        output::hint("pass --trim to cut it off, or use `printf %s` instead of `echo`");
    }
    value
}

/// A key that was typed. It is not repeated: what is no key may be a value in the wrong place.
pub(crate) fn checked_key(key: &str) -> Result<DataKey> {
    if key.contains('=') {
        return Err(Error::usage("values are not taken from the command line, where every process can read them")
            .hint("give the KEY alone: the value is asked for, or read from stdin or --from-file KEY=FILE")
            .hint("if that was a real value, change it: it stands in the history of your shell"));
    }
    DataKey::new(key).map_err(|_| {
        Error::usage("a KEY given is none that a Secret can have")
            .hint("keys are up to 253 letters, digits, `-`, `_` and `.`")
    })
}

/// `KEY=FILE`, or `FILE`, whose name is the key then.
fn key_and_file(pair: &str) -> Result<(DataKey, &str)> {
    let (key, file) = match pair.split_once('=') {
        Some((key, file)) => (key, file),
        None => (Path::new(pair).file_name().and_then(|name| name.to_str()).unwrap_or_default(), pair),
    };
    let key = DataKey::new(key).map_err(|_| {
        Error::usage("--from-file takes KEY=FILE, and the KEY is none that a Secret can have")
            .hint("keys are up to 253 letters, digits, `-`, `_` and `.`")
    })?;
    Ok((key, file))
}

/// `KEY=VALUE` lines as `kubectl create secret --from-env-file` reads them: no quotes, no escapes, `#` comments.
fn env_file(path: &Path) -> Result<Values> {
    let bytes = files::read(path)?;
    let text = Text::decode(&bytes).map_err(|cause| {
        Error::request(format!("{} holds no KEY=VALUE lines", path.display()))
            .because(cause)
            .hint("a whole file as one value is --from-file KEY=FILE")
    })?;
    let mut values = Values::new();
    for (line, number) in text.as_str().lines().zip(1..) {
        let line = line.trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = |what: &str| {
            Error::request(format!("{}, line {number}: {what}", path.display()))
                .hint("lines are KEY=VALUE, empty, or comments with `#`; a value of several lines needs --from-file")
        };
        let (key, value) = line.split_once('=').ok_or_else(|| wrong("not KEY=VALUE"))?;
        let key = DataKey::new(key).map_err(|_| wrong("the key is none that a Secret can have"))?;
        values.push((key, Zeroizing::new(value.as_bytes().to_vec())));
    }
    if values.is_empty() {
        return Err(Error::request(format!("{} holds no KEY=VALUE line", path.display()))
            .hint("lines are KEY=VALUE; a whole file as one value is --from-file KEY=FILE"));
    }
    Ok(values)
}

fn refuse_repeated(values: &Values) -> Result<()> {
    for (index, (key, _)) in values.iter().enumerate() {
        if values[..index].iter().any(|(known, _)| known == key) {
            return Err(Error::usage(format!("`{}` is given twice", key.as_str())).hint("give each key once"));
        }
    }
    Ok(())
}

fn refuse_large(values: &Values) -> Result<()> {
    let total: usize = values.iter().map(|(_, value)| value.len()).sum();
    if total > MAX_VALUE {
        return Err(Error::request(format!("the values are {total} bytes; a Secret holds {MAX_VALUE} in all"))
            .hint("part them over several Secrets"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_on_the_command_line_is_refused_and_not_repeated() {
        for key in ["password=hunter2", "=hunter2", "hunter2!", "", ".."] {
            let error = checked_key(key).expect_err("is refused");
            let text = format!("{error} {:?}", error.hints());
            assert_eq!(error.kind().exit_code(), 2);
            assert!(!text.contains("hunter2"), "{text}");
        }
    }

    #[test]
    fn a_final_line_break_is_cut_only_when_asked() {
        let cut = |value: &[u8], trim| without_final_line_break(Zeroizing::new(value.to_vec()), trim).to_vec();
        assert_eq!(cut(b"a\n", true), b"a");
        assert_eq!(cut(b"a\r\n", true), b"a");
        assert_eq!(cut(b"a\n\n", true), b"a\n");
        assert_eq!(cut(b"a\n", false), b"a\n");
        assert_eq!(cut(b"a", true), b"a");
    }

    #[test]
    fn an_env_file_is_read_as_kubectl_reads_it() {
        let directory = tempfile::tempdir().expect("is made");
        let path = directory.path().join(".env");
        std::fs::write(&path, "# comment\r\n\r\nA=1\r\n  B=x = \"y\" # z\nC=\n").expect("is written");
        let values = env_file(&path).expect("is read");
        let values: Vec<_> = values.iter().map(|(key, value)| (key.as_str(), value.as_slice())).collect();
        assert_eq!(values, [("A", &b"1"[..]), ("B", b"x = \"y\" # z"), ("C", b"")]);
        std::fs::write(&path, "A=1\nhunter2\n").expect("is written");
        let error = env_file(&path).map(drop).expect_err("is refused").to_string();
        assert!(error.contains("line 2") && !error.contains("hunter2"), "{error}");
    }
}
