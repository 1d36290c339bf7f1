//! Condition types and their reasons.
//!
//! A reason is a stable word that programs and alerts may match; the message beside it is for people and names ids
//! and paths, never values. `Stalled=True` says that only a person can help, `Reconciling=True` that we retry; both
//! carry the reason of `Ready`, and never both are true.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

/// Condition type: the object does what its spec says.
pub const READY: &str = "Ready";
/// Condition type: nothing will change until a person changes something.
pub const STALLED: &str = "Stalled";
/// Condition type: not there yet, and being tried again.
pub const RECONCILING: &str = "Reconciling";
/// Condition type of a SealedSecret with a `vault` part: the last fetch from Vault succeeded.
pub const VAULT_SYNCED: &str = "VaultSynced";
/// Condition type of a KeyRing: somebody besides this cluster can open it.
pub const RECOVERABLE: &str = "Recoverable";

/// The `status` of a condition.
pub const TRUE: &str = "True";
/// The `status` of a condition.
pub const FALSE: &str = "False";
/// The `status` of a condition.
pub const UNKNOWN: &str = "Unknown";

/// Declares an enum of reasons: the variant's name is the word in the manifest.
macro_rules! reasons {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident,)+ }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// Every reason, in the order of the reference.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The word as it stands in `status.conditions[].reason`.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => stringify!($variant),)+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = UnknownReason;

            fn from_str(word: &str) -> Result<Self, UnknownReason> {
                Self::ALL.iter().copied().find(|reason| reason.as_str() == word).ok_or(UnknownReason)
            }
        }
    };
}

/// The word is none of the reasons of this condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownReason;

impl std::fmt::Display for UnknownReason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("unknown reason")
    }
}

impl std::error::Error for UnknownReason {}

reasons! {
    /// Why a SealedSecret is `Ready` or not; `Stalled` and `Reconciling` repeat it.
    SealedSecretReason {
        /// The Secret exists and holds what the spec says.
        Synced,
        /// The spec contradicts itself in a way that the API server cannot see, or came past its checks.
        InvalidSpec,
        /// The values are sealed for another name or namespace than this object's Secret.
        SealedForElsewhere,
        /// A value is not a sealed value, or of a version that this controller does not know.
        UnknownFormat,
        /// A value is sealed to a key that no ring of this cluster holds, or that one holds and does not open here.
        KeyNotFound,
        /// A value is sealed to a key that is in a ring without a proof that covers it.
        KeyNotProven,
        /// A value is sealed to a key that its ring has disabled.
        KeyDisabled,
        /// A value does not open: it was altered, or moved from another key, name or namespace.
        DecryptFailed,
        /// A template does not parse, or failed on these values.
        TemplateFailed,
        /// The Secret would carry a type, a label or an annotation that is refused.
        OutputRefused,
        /// The Secret would exceed the size that the API server accepts.
        TooLarge,
        /// The Secret belongs to somebody else and does not consent to be taken over.
        TargetNotOwned,
        /// Another SealedSecret of this namespace already makes that Secret.
        TargetConflict,
        /// The Secret is immutable and its data would have to change.
        TargetImmutable,
        /// The Secret is being deleted; it is made anew when it is gone.
        TargetTerminating,
        /// Somebody keeps changing the Secret back; it is repaired, but ever more slowly.
        Contested,
        /// The API server refused the write, by quota, admission or rights.
        WriteRefused,
        /// More than once in a row the API server answered with an error, not in time, or something had changed.
        WriteFailed,
        /// The first fetch from Vault has not succeeded yet; the sealed keys wait for it too.
        NeverSynced,
        /// The last successful fetch from Vault is older than `staleAfter`.
        Stale,
        /// The CRD in the cluster is older than this controller, which therefore writes nothing.
        SchemaOutdated,
        /// A fault of the controller itself.
        InternalError,
    }
}

impl SealedSecretReason {
    /// Whether only a person can help, so that `Stalled` is true rather than `Reconciling`.
    pub const fn needs_a_person(self) -> bool {
        match self {
            Self::InvalidSpec
            | Self::SealedForElsewhere
            | Self::UnknownFormat
            | Self::KeyNotFound
            | Self::KeyNotProven
            | Self::KeyDisabled
            | Self::DecryptFailed
            | Self::TemplateFailed
            | Self::OutputRefused
            | Self::TooLarge
            | Self::TargetNotOwned
            | Self::TargetConflict
            | Self::TargetImmutable
            | Self::SchemaOutdated => true,
            Self::Synced
            | Self::TargetTerminating
            | Self::Contested
            | Self::WriteRefused
            | Self::WriteFailed
            | Self::NeverSynced
            | Self::Stale
            | Self::InternalError => false,
        }
    }
}

reasons! {
    /// Why a SealedSecret's `VaultSynced` is true or false.
    VaultReason {
        /// The last fetch succeeded.
        Synced,
        /// The server did not answer: connection, TLS, timeout, or an error of its own.
        VaultUnreachable,
        /// The server is sealed.
        VaultSealed,
        /// The server asks us to slow down.
        RateLimited,
        /// The identity may not read the path.
        PermissionDenied,
        /// The server does not accept the identity.
        AuthFailed,
        /// There is nothing at the path.
        PathNotFound,
        /// The version at the path was deleted or destroyed.
        VersionDeleted,
        /// The secret has no such field, or it does not decode.
        FieldNotFound,
        /// The store does not allow this namespace, or this path.
        StoreNotAllowed,
        /// There is no such VaultStore, its spec cannot be read, or the controller uses no Vault at all.
        StoreNotFound,
    }
}

reasons! {
    /// Why a KeyRing is `Ready` or not.
    KeyRingReason {
        /// Every key opens here and is covered by a proof.
        Opened,
        /// The ring contradicts itself in a way that the API server cannot see, or came past its checks.
        InvalidSpec,
        /// Rings are honoured in the controller's namespace only.
        NotHonoured,
        /// None of this controller's identities is a member.
        NotAMember,
        /// A wrap is absent, damaged, or opens to another key than the one it stands beside.
        WrapInvalid,
        /// The proof does not cover every key: somebody who cannot open the ring changed it.
        NotProven,
        /// A key is in another ring as well; it opens, and is reported in both.
        KeyInTwoRings,
        /// A member is itself a ring key.
        MemberIsRingKey,
        /// A key was removed, changed or reordered, although a ring only ever grows.
        KeysRewritten,
    }
}

reasons! {
    /// Why a KeyRing is `Recoverable` or not.
    RecoverableReason {
        /// A member besides this cluster can open every key.
        OtherMembers,
        /// Only this cluster can open the ring: losing it loses every value.
        OnlyThisCluster,
    }
}

reasons! {
    /// Why a VaultStore is `Ready` or not.
    VaultStoreReason {
        /// The server answers, and no login that it refuses is known.
        Reachable,
        /// The server could not be asked: where its CA is cannot be read.
        Unknown,
        /// The server did not answer: connection, timeout, or an error of its own.
        VaultUnreachable,
        /// The server's certificate is not one that the spec accepts.
        TLSFailed,
        /// The server is sealed.
        VaultSealed,
        /// The server refuses logins.
        AuthFailed,
        /// The spec contradicts itself, or names something that is absent.
        InvalidSpec,
    }
}

/// The condition of this type, if there is one.
pub fn find<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// Whether the condition of this type is there and `True`.
pub fn is_true(conditions: &[Condition], type_: &str) -> bool {
    find(conditions, type_).is_some_and(|condition| condition.status == TRUE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_reads_back_from_its_word() {
        for reason in SealedSecretReason::ALL {
            assert_eq!(reason.as_str().parse(), Ok(*reason));
        }
        assert_eq!("Nonsense".parse::<SealedSecretReason>(), Err(UnknownReason));
    }

    #[test]
    fn a_reason_is_a_word_that_the_api_server_accepts() {
        let words = SealedSecretReason::ALL
            .iter()
            .map(|reason| reason.as_str())
            .chain(VaultReason::ALL.iter().map(|reason| reason.as_str()))
            .chain(KeyRingReason::ALL.iter().map(|reason| reason.as_str()))
            .chain(RecoverableReason::ALL.iter().map(|reason| reason.as_str()))
            .chain(VaultStoreReason::ALL.iter().map(|reason| reason.as_str()));
        for word in words {
            assert!(word.len() <= 64 && word.chars().all(|c| c.is_ascii_alphanumeric()), "{word}");
        }
    }
}
