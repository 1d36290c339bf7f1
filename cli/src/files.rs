//! Files: read whole, replaced atomically. The old file is intact until the new one is complete on the disk.
//!
//! Only what is sealed or public is ever written here, and new identities, which their owner alone may read.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Write as _},
    path::{Path, PathBuf},
};

use tempfile::NamedTempFile;
use zeroize::Zeroizing;

use crate::error::{Error, Result};

/// On Windows the shell hands `*` over as it stands.
const SOME_FILES: &str = if cfg!(windows) { r"apps\db.yaml" } else { "apps/*.yaml" };

/// Reads a file that may hold plaintext; the buffer is wiped.
pub(crate) fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    read_if_exists(path)?.ok_or_else(|| no_such_file(path))
}

/// A file that should be there.
pub(crate) fn no_such_file(path: &Path) -> Error {
    let error = Error::request(format!("there is no file {}", path.display()));
    match std::env::current_dir() {
        Ok(folder) if path.is_relative() => error.hint(format!("it was looked for from {}", folder.display())),
        _ => error.hint("check its name"),
    }
}

/// As [`read`], nothing where there is no file.
pub(crate) fn read_if_exists(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>> {
    let failed = |cause: io::Error| {
        let error = Error::request(format!("cannot read {}", path.display()));
        let error = match cause.kind() {
            // Windows has no error of its own for it.
            _ if path.is_dir() => error.hint(format!("name the files in it, such as {SOME_FILES}")),
            io::ErrorKind::PermissionDenied => error.hint("see who may read it: `ls -l`"),
            _ => error.hint("check its name, and where it leads: `ls -l`"),
        };
        error.because(cause)
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(cause) if cause.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(cause) => return Err(failed(cause)),
    };
    // Of a pipe it says zero.
    let length = file.metadata().map(|metadata| metadata.len()).unwrap_or_default();
    read_wiped(file, usize::try_from(length).unwrap_or_default() + 1).map(Some).map_err(failed)
}

/// Reads what a file to be written holds now; nothing for a pipe or a device, which hold nothing to be kept.
pub(crate) fn read_old(path: &Path) -> Result<Option<Zeroizing<Vec<u8>>>> {
    if is_stream(path) { Ok(None) } else { read_if_exists(path) }
}

/// Whether there is something at `path` that takes bytes and is no file: a pipe, a terminal, `/dev/full`.
fn is_stream(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| !metadata.is_file() && !metadata.is_dir())
}

/// Reads stdin to its end, verbatim.
pub(crate) fn read_stdin() -> Result<Zeroizing<Vec<u8>>> {
    read_wiped(io::stdin().lock(), 0).map_err(|cause| Error::request("cannot read stdin").because(cause))
}

/// Reads to the end. A buffer that grew by itself would leave copies behind: each that gets too small is wiped.
/// `expected`: what the source says of its length, and one more; few bytes where it says nothing, since all are wiped.
pub(crate) fn read_wiped(mut source: impl io::Read, expected: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(expected.max(4 * 1024)));
    loop {
        let room = bytes.capacity() - bytes.len();
        if source.by_ref().take(room as u64).read_to_end(&mut bytes)? < room {
            return Ok(bytes);
        }
        let mut larger = Zeroizing::new(Vec::with_capacity(4 * bytes.capacity()));
        larger.extend_from_slice(&bytes);
        bytes = larger;
    }
}

/// Makes a file that must not exist yet; who may read it is what the umask says.
pub(crate) fn create(path: &Path, bytes: &[u8]) -> Result<()> {
    create_with_mode(path, bytes, 0o666)
}

/// Makes a file that its owner alone may read; there is no moment at which others could. On Windows those may who may
/// read in its folder.
pub(crate) fn create_private(path: &Path, bytes: &[u8]) -> Result<()> {
    create_with_mode(path, bytes, 0o600)
}

fn create_with_mode(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let file = temporary_in(&directory_of(path), path, mode)?;
    let file = filled(path, file, bytes)?;
    file.persist_noclobber(path).map_err(|failure| match failure.error.kind() {
        io::ErrorKind::AlreadyExists => already_exists(path),
        _ => cannot_write(path, failure.error),
    })?;
    sync_directory(path);
    Ok(())
}

/// Makes the folder that a file is to stand in.
pub(crate) fn make_folder_of(path: &Path) -> Result<()> {
    let folder = directory_of(path);
    fs::create_dir_all(&folder)
        .map_err(|cause| Error::request(format!("cannot make {}", folder.display())).because(cause))
}

pub(crate) fn already_exists(path: &Path) -> Error {
    if !path.exists() {
        return Error::request(format!("{} is a link to a file that is not there", path.display()))
            .hint("remove the link, or make what it leads to");
    }
    Error::request(format!("{} exists already", path.display()))
}

/// Replaces what `path` held when it was read (`before`), or makes it where it was not there.
///
/// A symlink stays one: the file it leads to is replaced. The mode stays. Refuses if the file is no longer as it was
/// read. What is no regular file (a pipe, a terminal) is written to as it is.
pub(crate) fn replace(path: &Path, before: Option<&[u8]>, bytes: &[u8]) -> Result<()> {
    if is_stream(path) {
        return write_through(path, bytes);
    }
    let Some(before) = before else { return create(path, bytes) };
    let target = path.canonicalize().map_err(|cause| cannot_write(path, cause))?;
    let metadata = fs::metadata(&target).map_err(|cause| cannot_write(path, cause))?;
    if metadata.permissions().readonly() {
        return Err(Error::request(format!("cannot write {}: it is read-only", path.display()))
            .hint("make it writable, or pass -w with another file"));
    }
    let file = temporary_in(&directory_of(&target), path, 0o600)?;
    file.as_file().set_permissions(metadata.permissions()).map_err(|cause| cannot_write(path, cause))?;
    let file = filled(path, file, bytes)?;
    if read_if_exists(&target)?.as_deref().map(Vec::as_slice) != Some(before) {
        return Err(Error::request(format!("{} was changed by someone else meanwhile", path.display()))
            .hint("nothing was written; run the command again"));
    }
    file.persist(&target).map_err(|failure| cannot_write(path, failure.error))?;
    sync_directory(&target);
    Ok(())
}

/// A file in the directory of what is written, so that the rename is atomic. Where there are no modes, none is set.
fn temporary_in(directory: &Path, path: &Path, mode: u32) -> Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".seal-").suffix(".tmp");
    #[cfg(unix)]
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
    #[cfg(unix)]
    builder.permissions(permissions);
    #[cfg(not(unix))]
    let _ = mode;
    builder.tempfile_in(directory).map_err(|cause| {
        let missing = cause.kind() == io::ErrorKind::NotFound;
        let error = cannot_write(path, cause);
        let make = if cfg!(windows) { "mkdir" } else { "mkdir -p" };
        if missing { error.hint(format!("make the directory first: {make} {}", directory.display())) } else { error }
    })
}

fn filled(path: &Path, mut file: NamedTempFile, bytes: &[u8]) -> Result<NamedTempFile> {
    file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(|cause| cannot_write(path, cause))?;
    Ok(file)
}

fn write_through(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut file = OpenOptions::new().write(true).open(path).map_err(|cause| cannot_write(path, cause))?;
    file.write_all(bytes).map_err(|cause| match cause.kind() {
        io::ErrorKind::BrokenPipe => Error::broken_pipe(),
        _ => cannot_write(path, cause),
    })
}

fn cannot_write(path: &Path, cause: io::Error) -> Error {
    let error = Error::request(format!("cannot write {}", path.display()));
    let error = match cause.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            error.hint("nothing was changed; make room and run the command again")
        }
        io::ErrorKind::PermissionDenied if cfg!(windows) => {
            error.hint("see whether another program has it open, and whether you may write in its directory")
        }
        io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
            error.hint("the directory must be writable too: the file is replaced as a whole")
        }
        _ => error,
    };
    error.because(without_its_path(cause))
}

/// What the system said: tempfile adds the path of a file that nobody asked for and that is gone.
fn without_its_path(cause: io::Error) -> io::Error {
    match cause.to_string().split_once(" at path ") {
        Some((said, _)) => io::Error::new(cause.kind(), said.to_owned()),
        None => cause,
    }
}

fn directory_of(path: &Path) -> PathBuf {
    match path.parent() {
        Some(parent) if parent != Path::new("") => parent.to_owned(),
        _ => PathBuf::from("."),
    }
}

/// Makes the rename last over a power cut; where directories cannot be synced, the file itself is.
fn sync_directory(path: &Path) {
    if let Ok(directory) = File::open(directory_of(path)) {
        let _ = directory.sync_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_changed_meanwhile_is_left_alone() {
        let directory = tempfile::tempdir().expect("is made");
        let path = directory.path().join("sealed.yaml");
        fs::write(&path, "theirs").expect("is written");
        let error = replace(&path, Some(b"ours before"), b"ours after").expect_err("is refused");
        assert!(error.to_string().contains("meanwhile"));
        assert_eq!(fs::read(&path).expect("is read"), b"theirs");
        assert_eq!(fs::read_dir(directory.path()).expect("is listed").count(), 1, "no temporary file stays");
    }

    #[test]
    fn what_says_no_length_is_read_to_its_end() {
        for length in [0, 1, 4095, 4096, 4097, 16_384, 100_000] {
            let bytes: Vec<u8> = (0..length).map(|number: u32| number.to_le_bytes()[0]).collect();
            let (shorter, longer) = (bytes.len() / 2, bytes.len() + 1);
            for expected in [0, shorter, longer] {
                assert_eq!(*read_wiped(bytes.as_slice(), expected).expect("is read"), bytes);
            }
        }
    }

    #[test]
    fn create_refuses_what_exists() {
        let directory = tempfile::tempdir().expect("is made");
        let path = directory.path().join("sealed.yaml");
        create(&path, b"first").expect("is made");
        assert!(create(&path, b"second").is_err());
        assert_eq!(fs::read(&path).expect("is read"), b"first");
    }

    #[cfg(unix)]
    #[test]
    fn mode_and_symlink_stay() {
        use std::os::unix::fs::{PermissionsExt as _, symlink};
        let directory = tempfile::tempdir().expect("is made");
        let (file, link) = (directory.path().join("file"), directory.path().join("link"));
        fs::write(&file, "before").expect("is written");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).expect("is set");
        symlink("file", &link).expect("is made");
        replace(&link, Some(b"before"), b"after").expect("is replaced");
        assert!(fs::symlink_metadata(&link).expect("is there").is_symlink());
        assert_eq!(fs::read(&file).expect("is read"), b"after");
        assert_eq!(fs::metadata(&file).expect("is there").permissions().mode() & 0o777, 0o640);
    }
}
