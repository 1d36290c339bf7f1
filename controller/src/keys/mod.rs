//! The keys of this controller: its identities, the rings that they open, and the index that values are opened with.
//!
//! ```text
//! Secret identity-<n> -> identity -> ClusterIdentity -+
//!                                                     +-> rings -> OpenedRing -> index -> KeyIndex
//! KeyRing, what is remembered of it (memory) ---------+
//! ```

pub mod identity;
pub mod index;
pub mod live;
pub mod memory;
pub mod rings;

pub use identity::ClusterIdentity;
pub use index::{Found, KeyIndex};
pub use memory::Memory;
pub use rings::OpenedRing;
