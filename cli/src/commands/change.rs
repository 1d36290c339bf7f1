//! What `set`, `unset` and `create` share: a sealed file is read, one object of it is changed, the file is replaced.

use std::path::Path;

use zeroize::Zeroizing;

use crate::{
    error::{Error, Result},
    files,
    manifest::read::{Sealed, Stream},
};

/// A file that exists, and what it says.
pub(crate) struct Opened {
    pub(crate) bytes: Zeroizing<Vec<u8>>,
    pub(crate) stream: Stream,
}

impl Opened {
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let bytes = files::read(path)?;
        let stream = Stream::parse(&bytes).map_err(|error| error.within(path.display()))?;
        Ok(Self { bytes, stream })
    }

    /// Replaces the file, in its encoding.
    pub(crate) fn replace(&self, path: &Path, text: &str) -> Result<()> {
        files::replace(path, Some(&self.bytes), &self.stream.text.encode_like(text))
    }

    /// The SealedSecret meant: the only one, or the one of this name.
    pub(crate) fn sealed(&self, path: &Path, named: Option<&str>) -> Result<Sealed> {
        let mut sealed = self.stream.sealed_secrets().map_err(|error| error.within(path.display()))?;
        if sealed.is_empty() {
            return Err(Error::request(format!("{} holds no SealedSecret", path.display()))
                .hint("make one with `seal create`, or seal a Secret into it with `seal FILE -w`"));
        }
        let name = |object: &Sealed| object.name.clone().unwrap_or_default();
        let names = sealed.iter().map(name).collect::<Vec<_>>().join(", ");
        if let Some(named) = named {
            sealed.retain(|object| is_named(object, named));
        }
        match (sealed.len(), named) {
            (1, _) => Ok(sealed.remove(0)),
            (0, _) => Err(Error::request(format!("{} holds no SealedSecret of this name", path.display()))
                .hint(format!("it holds: {names}"))),
            (_, None) => Err(Error::usage(format!("{} holds several SealedSecrets", path.display()))
                .hint(format!("say which with --name NAME or --name NS/NAME: {names}"))),
            (_, Some(_)) => Err(Error::usage(format!("{} holds several SealedSecrets of this name", path.display()))
                .hint("say which with --name NS/NAME")),
        }
    }
}

fn is_named(object: &Sealed, named: &str) -> bool {
    match named.split_once('/') {
        Some((namespace, name)) => {
            object.namespace.as_deref() == Some(namespace) && object.name.as_deref() == Some(name)
        }
        None => object.name.as_deref() == Some(named),
    }
}
