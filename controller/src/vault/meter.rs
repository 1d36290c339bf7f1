//! What is counted of the requests to Vault, with labels that stores and enums give.
//!
//! A store becomes a label when it is used, and stops being one when it is deleted: as many as operators make.

use std::time::Duration;

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
    },
    registry::{Registry, Unit},
};

use super::{client::Fault, reader::StoreId};

/// What a request was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// A login.
    Login,
    /// A secret.
    Read,
    /// A longer life of a token.
    Renew,
    /// Whether a token is still worth anything.
    LookUp,
    /// The end of a token.
    Revoke,
    /// Whether the server is there.
    Probe,
}

impl Operation {
    /// Every operation.
    pub const ALL: [Self; 6] = [Self::Login, Self::Read, Self::Renew, Self::LookUp, Self::Revoke, Self::Probe];

    /// The label's value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::Read => "read",
            Self::Renew => "renew",
            Self::LookUp => "look_up",
            Self::Revoke => "revoke",
            Self::Probe => "probe",
        }
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Well.
    Ok,
    /// Refused: no right, or not this identity.
    Denied,
    /// There is nothing, or nothing any more.
    Absent,
    /// The server asks to slow down.
    Limited,
    /// Another refusal.
    Refused,
    /// The server's own fault, sealed too.
    Server,
    /// No answer in time.
    Timeout,
    /// No connection, or none that lasted.
    Connection,
}

impl Class {
    /// Every class.
    pub const ALL: [Self; 8] = [
        Self::Ok,
        Self::Denied,
        Self::Absent,
        Self::Limited,
        Self::Refused,
        Self::Server,
        Self::Timeout,
        Self::Connection,
    ];

    /// The label's value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Denied => "denied",
            Self::Absent => "absent",
            Self::Limited => "limited",
            Self::Refused => "refused",
            Self::Server => "server",
            Self::Timeout => "timeout",
            Self::Connection => "connection",
        }
    }

    /// The class of a request that ended like this.
    pub fn of<T>(result: &Result<T, Fault>) -> Self {
        match result {
            Ok(_) => Self::Ok,
            Err(Fault::Status { code: 401 | 403, .. }) => Self::Denied,
            Err(Fault::Status { code: 404, .. } | Fault::Absent | Fault::Deleted { .. }) => Self::Absent,
            Err(Fault::Status { code: 429, .. }) => Self::Limited,
            Err(Fault::Status { code: 500.., .. } | Fault::Malformed | Fault::NotKv) => Self::Server,
            Err(Fault::Status { .. } | Fault::TooLarge | Fault::Crowded | Fault::Unsendable | Fault::Redirect(_)) => {
                Self::Refused
            }
            Err(Fault::Timeout) => Self::Timeout,
            Err(Fault::Connect | Fault::Tls(_) | Fault::Torn) => Self::Connection,
        }
    }
}

impl EncodeLabelValue for Operation {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        self.as_str().encode(encoder)
    }
}

impl EncodeLabelValue for Class {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        self.as_str().encode(encoder)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Requests {
    store: String,
    operation: Operation,
    class: Class,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Seconds {
    store: String,
    operation: Operation,
}

type Store = [(&'static str, String); 1];

/// The counts. Clones count together.
#[derive(Clone, Debug)]
pub struct Meter {
    requests: Family<Requests, Counter>,
    seconds: Family<Seconds, Histogram, fn() -> Histogram>,
    is_open: Family<Store, Gauge>,
    tokens: Family<Store, Gauge>,
    last_success: Family<Store, Gauge>,
}

impl Default for Meter {
    fn default() -> Self {
        Self {
            requests: Family::default(),
            // 1 ms to 32 s: from a server beside us to the end of its deadline.
            seconds: Family::new_with_constructor(|| Histogram::new(exponential_buckets(0.001, 2.0, 16))),
            is_open: Family::default(),
            tokens: Family::default(),
            last_success: Family::default(),
        }
    }
}

impl Meter {
    /// Lets Prometheus see them.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("vault_requests", "Requests to Vault", self.requests.clone());
        registry.register_with_unit("vault_request", "How long Vault took", Unit::Seconds, self.seconds.clone());
        registry.register("vault_store_open", "Whether requests to the store are held back", self.is_open.clone());
        registry.register("vault_tokens", "Tokens of Vault that are held", self.tokens.clone());
        registry.register_with_unit(
            "vault_last_success_timestamp",
            "When the store last answered well",
            Unit::Seconds,
            self.last_success.clone(),
        );
    }

    /// A request has ended.
    pub fn request<T>(&self, store: &StoreId, operation: Operation, result: &Result<T, Fault>, took: Duration) {
        let class = Class::of(result);
        self.requests.get_or_create(&Requests { store: store.to_string(), operation, class }).inc();
        self.seconds.get_or_create(&Seconds { store: store.to_string(), operation }).observe(took.as_secs_f64());
        if class == Class::Ok {
            self.last_success.get_or_create(&by(store)).set(jiff::Timestamp::now().as_second());
        }
    }

    /// Requests to the store are held back, or pass again.
    pub fn open(&self, store: &StoreId, is_open: bool) {
        self.is_open.get_or_create(&by(store)).set(is_open.into());
    }

    /// So many tokens are held for the store.
    pub fn tokens(&self, store: &StoreId, tokens: usize) {
        self.tokens.get_or_create(&by(store)).set(tokens.try_into().unwrap_or(i64::MAX));
    }

    /// The store is gone, and so are its labels.
    pub fn forget(&self, store: &StoreId) {
        for operation in Operation::ALL {
            for class in Class::ALL {
                self.requests.remove(&Requests { store: store.to_string(), operation, class });
            }
            self.seconds.remove(&Seconds { store: store.to_string(), operation });
        }
        self.is_open.remove(&by(store));
        self.tokens.remove(&by(store));
        self.last_success.remove(&by(store));
    }
}

fn by(store: &StoreId) -> Store {
    [("store", store.to_string())]
}
