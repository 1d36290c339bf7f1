//! What the process promises about itself, in a process of its own.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use rustix::process::{DumpableBehavior, Resource, Rlimit, dumpable_behavior, getrlimit};
use seal_controller::process::{Error, harden};

#[test]
fn a_hardened_process_leaves_no_core_and_has_one_provider() {
    harden().unwrap();
    assert_eq!(getrlimit(Resource::Core), Rlimit { current: Some(0), maximum: Some(0) });
    assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
    assert!(rustls::crypto::CryptoProvider::get_default().is_some());
    assert!(matches!(harden(), Err(Error::CryptoProvider)));
}
