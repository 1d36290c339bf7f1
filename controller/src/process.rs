//! Owns what the process promises about itself before the first secret enters its memory:
//! one crypto provider for every TLS connection, no core dump, no debugger of the same user.

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};

/// Why the process cannot be trusted with secrets.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A library that came first installed another provider.
    #[error("another crypto provider is already installed")]
    CryptoProvider,
    /// The kernel refused; a seccomp profile that forbids it is the usual reason.
    #[error("cannot switch off core dumps")]
    CoreDumps(#[source] rustix::io::Errno),
}

/// Prepares the process. To be called first in `main`, before any thread or connection exists.
pub fn harden() -> Result<(), Error> {
    rustls::crypto::ring::default_provider().install_default().map_err(|_| Error::CryptoProvider)?;
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }).map_err(Error::CoreDumps)?;
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(Error::CoreDumps)
}
