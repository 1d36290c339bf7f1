//! Values out of Vault and OpenBao, fetched as the namespace that wants them.
//!
//! ```text
//! spec.vault -> path::Plan -> path::Fence -> auth (whose token) -> reader (requests) -> value::Values | VaultFailure
//!                                              breaker, client: under all of them, one of each for every store
//! ```
//!
//! The identity is always the consumer namespace's: a token of its ServiceAccount, or its own labelled Secret. What the
//! controller itself is, or runs with, is never shown to a server that somebody else has named. Nothing is persisted.

pub mod auth;
pub mod breaker;
pub mod client;
pub mod cluster;
pub mod course;
pub mod errand;
pub mod link;
pub mod mac;
pub mod meter;
pub mod path;
pub mod probes;
pub mod purse;
pub mod reader;
pub mod stores;
pub mod turns;
pub mod value;

use std::time::Duration;

use seal_crds::condition::{VaultReason, VaultStoreReason};

use self::{
    client::{Fault, Hint},
    link::StoreId,
};

/// Why nothing could be fetched, in words that anyone who may read the object may see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VaultFailure {
    /// The reason of `VaultSynced=False`.
    pub reason: VaultReason,
    /// The message beside it: no times, no counts.
    pub message: String,
    /// When it makes sense to try again.
    pub retry: Retry,
}

/// When a failed fetch is tried again; a change of the object, its store, or the refresh annotation comes before all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retry {
    /// When the store is back: [`reader::StoreEvent`] says so.
    WhenUp,
    /// With exponential backoff between these two.
    Backoff {
        /// The first wait.
        from: Duration,
        /// The longest.
        to: Duration,
    },
    /// Not before this has passed.
    After(Duration),
    /// With the next regular refresh.
    Refresh,
}

/// What the controller knows of a store's server, for `VaultStore` status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreHealth {
    /// The reason of `Ready`; true for `Reachable` only.
    pub reason: VaultStoreReason,
    /// The message beside it.
    pub message: String,
}

/// What was asked when a request failed.
#[derive(Clone, Copy, Debug)]
pub enum Asked<'a> {
    /// A secret, by mount and path.
    Secret(&'a str),
    /// A login, by the mount of the auth method.
    Login(&'a str),
}

const PERMISSION_WAIT: Retry = Retry::Backoff { from: Duration::from_secs(30), to: Duration::from_secs(15 * 60) };
/// Between two logins that a server refuses.
pub const LOGIN_WAIT: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(5 * 60));
/// Between two questions to an API server that does not answer.
const CLUSTER_WAIT: Retry = Retry::Backoff { from: Duration::from_secs(1), to: Duration::from_secs(60) };
const SERVER_WAIT: Retry = Retry::Backoff { from: Duration::from_secs(5), to: Duration::from_secs(5 * 60) };
const RATE_WAIT: Retry = Retry::Backoff { from: Duration::from_secs(1), to: Duration::from_secs(60) };

/// What a fault means for the object: the table of failure semantics, as one function.
pub fn judged(fault: Fault, asked: Asked<'_>) -> VaultFailure {
    use VaultReason as Reason;
    let (reason, retry) = match (fault, asked) {
        (Fault::Status { code: 429, retry_after, .. }, _) => (
            Reason::RateLimited,
            retry_after.map_or(RATE_WAIT, |wait| Retry::After(wait.min(Duration::from_secs(300)))),
        ),
        (Fault::Crowded, _) => (Reason::RateLimited, RATE_WAIT),
        (Fault::Status { code: 503, hint: Some(Hint::Sealed), .. }, _) => (Reason::VaultSealed, SERVER_WAIT),
        (Fault::Status { code: 500.., .. } | Fault::Status { code: 412, .. }, _) => {
            (Reason::VaultUnreachable, SERVER_WAIT)
        }
        // Of a load balancer without a server, perhaps.
        (Fault::Status { hint: Some(Hint::NotVaults), .. }, _) => (Reason::VaultUnreachable, SERVER_WAIT),
        (Fault::Status { .. } | Fault::Absent | Fault::Unsendable, Asked::Login(_)) => {
            (Reason::AuthFailed, Retry::Backoff { from: LOGIN_WAIT.0, to: LOGIN_WAIT.1 })
        }
        (Fault::Absent | Fault::NotKv, _) => (Reason::PathNotFound, Retry::Refresh),
        // An engine that is not mounted may be on its way: a server is being set up, or restored.
        (Fault::Status { code: 404, .. }, Asked::Secret(_)) => (Reason::PathNotFound, PERMISSION_WAIT),
        (Fault::Status { code: 401 | 403, .. } | Fault::Unsendable, Asked::Secret(_)) => {
            (Reason::PermissionDenied, PERMISSION_WAIT)
        }
        // A bad request: an engine of the other version, or one that wants other parameters.
        (Fault::Status { .. }, Asked::Secret(_)) => (Reason::PathNotFound, Retry::Refresh),
        (Fault::Deleted { .. }, _) => (Reason::VersionDeleted, Retry::Refresh),
        (Fault::TooLarge, _) => (Reason::FieldNotFound, Retry::Refresh),
        (Fault::Connect | Fault::Tls(_) | Fault::Timeout | Fault::Torn | Fault::Malformed | Fault::Redirect(_), _) => {
            (Reason::VaultUnreachable, SERVER_WAIT)
        }
    };
    VaultFailure { reason, message: message(fault, asked), retry }
}

fn message(fault: Fault, asked: Asked<'_>) -> String {
    let place = match asked {
        Asked::Secret(place) => place.to_owned(),
        Asked::Login(mount) => format!("login at auth/{mount}"),
    };
    let remark = match (fault, asked) {
        (Fault::Status { hint: Some(Hint::Sealed), .. }, _) => ": the server is sealed",
        (Fault::Status { hint: Some(Hint::NotInitialised), .. }, _) => ": the server is not initialised",
        (Fault::Status { hint: Some(Hint::Role), .. }, _) => ": there is no such role",
        (Fault::Status { hint: Some(Hint::Audience), .. }, _) => {
            ": the role expects another audience; make the role's audience and the store's audiences equal"
        }
        (Fault::Status { hint: Some(Hint::Account), .. }, _) => ": the role is not bound to this ServiceAccount",
        (Fault::Status { hint: Some(Hint::Namespace), .. }, _) => ": the role is not bound to this namespace",
        (Fault::Status { code: 400 | 401 | 403, .. }, Asked::Login(_)) => {
            ": the server does not accept this identity; compare the role's bindings with it"
        }
        (Fault::Status { code: 401 | 403, .. }, Asked::Secret(_)) => ": the identity may not read it",
        (Fault::Status { hint: Some(Hint::NotVaults), .. }, _) => ": the answer is not Vault's",
        (Fault::Absent, Asked::Secret(_)) => ": there is nothing at this path",
        (Fault::Status { code: 404, .. }, Asked::Secret(_)) => ": no engine is mounted there",
        (Fault::Status { code: 404, .. } | Fault::Absent, Asked::Login(_)) => ": no auth method is mounted there",
        (Fault::Status { code: 400 | 405, .. }, Asked::Secret(_)) => ": the mount is no KV engine of this version",
        (Fault::Status { code: 429, .. }, _) => ": the server asks to slow down",
        _ => "",
    };
    format!("{place}: {fault}{remark}")
}

/// What a fault that a probe has confirmed means for the store.
pub fn health(fault: Fault) -> StoreHealth {
    let reason = match fault {
        Fault::Tls(_) => VaultStoreReason::TLSFailed,
        Fault::Status { hint: Some(Hint::Sealed), .. } => VaultStoreReason::VaultSealed,
        _ => VaultStoreReason::VaultUnreachable,
    };
    let remark = match fault {
        Fault::Status { hint: Some(Hint::Sealed), .. } => ": the server is sealed",
        Fault::Status { hint: Some(Hint::NotInitialised), .. } => ": the server is not initialised",
        _ => "",
    };
    StoreHealth { reason, message: format!("{fault}{remark}") }
}

/// What the outage of its store means for an object. What the fault is, the store says: there it may change, and is one
/// write, not one for each object.
pub fn outage(store: &StoreId, reason: VaultStoreReason) -> VaultFailure {
    let (reason, what) = match reason {
        VaultStoreReason::VaultSealed => (VaultReason::VaultSealed, "is sealed"),
        _ => (VaultReason::VaultUnreachable, "is out"),
    };
    let message = format!("the server of VaultStore {store} {what}; the store's status says more");
    VaultFailure { reason, message, retry: Retry::WhenUp }
}

#[cfg(test)]
mod tests {
    use super::{client::TlsFault, *};

    fn status(code: u16) -> Fault {
        Fault::Status { code, retry_after: None, hint: None }
    }

    #[test]
    fn every_fault_has_its_reason_and_its_retry() {
        use VaultReason as Reason;
        let secret = Asked::Secret("kv/app/db");
        let login = Asked::Login("kubernetes");
        let login_wait = Retry::Backoff { from: LOGIN_WAIT.0, to: LOGIN_WAIT.1 };
        let sealed = Fault::Status { code: 503, retry_after: None, hint: Some(Hint::Sealed) };
        let stranger = Fault::Status { code: 404, retry_after: None, hint: Some(Hint::NotVaults) };
        let limited = Fault::Status { code: 429, retry_after: Some(Duration::from_secs(7)), hint: None };
        for (fault, asked, reason, retry) in [
            (Fault::Connect, secret, Reason::VaultUnreachable, SERVER_WAIT),
            (Fault::Timeout, login, Reason::VaultUnreachable, SERVER_WAIT),
            (Fault::Torn, secret, Reason::VaultUnreachable, SERVER_WAIT),
            (Fault::Malformed, secret, Reason::VaultUnreachable, SERVER_WAIT),
            (Fault::Redirect(307), secret, Reason::VaultUnreachable, SERVER_WAIT),
            (Fault::Tls(TlsFault::Expired), login, Reason::VaultUnreachable, SERVER_WAIT),
            (status(500), secret, Reason::VaultUnreachable, SERVER_WAIT),
            (status(502), login, Reason::VaultUnreachable, SERVER_WAIT),
            (sealed, secret, Reason::VaultSealed, SERVER_WAIT),
            (sealed, login, Reason::VaultSealed, SERVER_WAIT),
            (status(429), secret, Reason::RateLimited, RATE_WAIT),
            (limited, login, Reason::RateLimited, Retry::After(Duration::from_secs(7))),
            (status(403), secret, Reason::PermissionDenied, PERMISSION_WAIT),
            (status(403), login, Reason::AuthFailed, login_wait),
            (status(400), login, Reason::AuthFailed, login_wait),
            (status(404), login, Reason::AuthFailed, login_wait),
            (Fault::Unsendable, login, Reason::AuthFailed, login_wait),
            (Fault::Absent, secret, Reason::PathNotFound, Retry::Refresh),
            (status(404), secret, Reason::PathNotFound, PERMISSION_WAIT),
            (stranger, secret, Reason::VaultUnreachable, SERVER_WAIT),
            (stranger, login, Reason::VaultUnreachable, SERVER_WAIT),
            (status(400), secret, Reason::PathNotFound, Retry::Refresh),
            (Fault::Deleted { version: 3, is_destroyed: false }, secret, Reason::VersionDeleted, Retry::Refresh),
            (Fault::TooLarge, secret, Reason::FieldNotFound, Retry::Refresh),
        ] {
            let failure = judged(fault, asked);
            assert_eq!((failure.reason, failure.retry), (reason, retry), "{fault:?} {asked:?}");
        }
    }

    #[test]
    fn troubleshooting_quotes_what_is_said() {
        let page = include_str!("../../../docs/operations/troubleshooting.md");
        let secret = Asked::Secret("kv/app/db");
        let stranger = Fault::Status { code: 404, retry_after: None, hint: Some(Hint::NotVaults) };
        for (fault, words) in [
            (Fault::Absent, "there is nothing at this path"),
            (status(405), "no KV engine of this version"),
            (status(404), "no engine is mounted there"),
            (stranger, "the answer is not Vault's"),
            (status(429), "the server asks to slow down"),
            (Fault::Crowded, "too much is being fetched at this moment"),
        ] {
            assert!(judged(fault, secret).message.contains(words), "{words}");
            assert!(page.contains(&format!("`{words}`")), "{words}");
        }
    }

    #[test]
    fn messages_name_the_status_and_the_path() {
        for (fault, asked, message) in [
            (status(403), Asked::Secret("kv/app/db"), "kv/app/db: HTTP 403: the identity may not read it"),
            (
                Fault::Deleted { version: 3, is_destroyed: true },
                Asked::Secret("kv/app/db"),
                "kv/app/db: HTTP 404, version 3 is destroyed",
            ),
            (
                Fault::Status { code: 400, retry_after: None, hint: Some(Hint::Audience) },
                Asked::Login("kubernetes"),
                "login at auth/kubernetes: HTTP 400: the role expects another audience; make the role's audience and the \
                 store's audiences equal",
            ),
        ] {
            assert_eq!(judged(fault, asked).message, message);
        }
    }

    #[test]
    fn a_store_says_what_is_the_matter_with_its_server() {
        for (fault, reason) in [
            (Fault::Tls(TlsFault::Name), VaultStoreReason::TLSFailed),
            (Fault::Status { code: 503, retry_after: None, hint: Some(Hint::Sealed) }, VaultStoreReason::VaultSealed),
            (status(503), VaultStoreReason::VaultUnreachable),
            (Fault::Timeout, VaultStoreReason::VaultUnreachable),
        ] {
            let health = health(fault);
            assert_eq!(health.reason, reason, "{fault:?}");
            let outage = outage(&StoreId::new("platform", "main"), health.reason);
            assert_eq!(outage.reason == VaultReason::VaultSealed, reason == VaultStoreReason::VaultSealed);
            assert!(!outage.message.contains(&health.message), "{}", outage.message);
        }
    }
}
