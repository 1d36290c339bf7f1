//! Secrets that somebody changes by hand, and SealedSecrets that come and go: the Secret stays true to Git.

mod hands;
mod lives;
mod odds;
