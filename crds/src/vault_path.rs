//! Which mounts and paths of Vault may be read: one answer for `seal` and for the controller.
//!
//! The API server judges less, in the rules of `spec.vault`: what passes there is judged again.

/// Parts of paths that are Vault's own API, and no KV engine. Neither a Vault namespace nor the first part of a mount can
/// have such a name, but what stands before one may be a namespace: `team-a/auth/token` is `auth/token` of `team-a`, and
/// its `lookup-self` shows the session's own token. So none of them stands anywhere.
const VAULTS_OWN: [&str; 4] = ["sys", "auth", "identity", "cubbyhole"];

/// Whether a part of it is Vault's own and no KV engine.
pub fn is_vaults_own(path: &str) -> bool {
    path.split('/').any(|part| VAULTS_OWN.contains(&part))
}

/// Whether this is a path that every URL parser, and Vault, understands as it stands.
///
/// # Errors
///
/// What is wrong with it, to be put behind its name.
pub fn well_formed(path: &str) -> Result<(), &'static str> {
    if path.split('/').any(str::is_empty) {
        return Err("has an empty part");
    }
    if path.split('/').any(|part| part == "." || part == "..") {
        return Err("has a part `.` or `..`");
    }
    if path.contains(['?', '#', '%', '\\']) || path.chars().any(char::is_control) {
        return Err("has a character that means something else in a URL");
    }
    if path.split('/').any(|part| part.trim() != part) {
        return Err("has a part that begins or ends with a space");
    }
    Ok(())
}
