//! What the command line means, once nothing in it can contradict itself.
//!
//! [`Args`] -> [`Settings`], or what is wrong and what to do about it.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use ring::rand::{SecureRandom, SystemRandom};
use seal_crds::Period;
use seal_envelope::{KeyError, Recipient};
use thiserror::Error;

use crate::{args::Args, realm::Realm};

/// Where a pod finds the name of its namespace.
const POD_NAMESPACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";
const DEFAULT_NAMESPACE: &str = "sealwright-system";

/// How the controller runs.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Which cluster.
    pub cluster: Cluster,
    /// The controller's own namespace.
    pub namespace: String,
    /// The namespaces whose SealedSecrets it serves.
    pub realm: Realm,
    /// Where the HTTP endpoints are.
    pub listen: SocketAddr,
    /// The name under which this replica holds the lease.
    pub replica: String,
    /// The name of this cluster as a member of the first ring.
    pub cluster_name: String,
    /// The ring that is made where there is none.
    pub first_ring: Option<FirstRing>,
    /// How many objects are worked on at the same time.
    pub workers: usize,
    /// How often each Secret is read and compared as a whole.
    pub verify_every: Option<Duration>,
    /// Whether values are fetched from Vault at all.
    pub serves_vault: bool,
    /// Whether tokens that the API server would accept may be sent to a VaultStore's address.
    pub vault_allows_api_audience: bool,
}

/// Which cluster to work in.
#[derive(Clone, Debug)]
pub enum Cluster {
    /// The one whose pod this is.
    Own,
    /// The one of a kubeconfig.
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// Its context; its current one if none.
        context: Option<String>,
    },
}

/// The ring that is made where there is none.
#[derive(Clone, Debug)]
pub struct FirstRing {
    /// Its name.
    pub name: String,
    /// Who can open it besides this cluster.
    pub recovery: Vec<Recipient>,
}

/// A command line that cannot be met.
#[derive(Debug, Error)]
pub enum SettingsError {
    /// A recovery recipient that is none.
    #[error("--keyring-recovery number {position} is no recipient, nor a file with one")]
    Recovery {
        /// Counted from 1.
        position: usize,
        /// Why not.
        source: KeyError,
    },
    /// A recovery file with another number of recipients than one.
    #[error("the file of --keyring-recovery number {position} holds {count} recipients, where one belongs")]
    RecoveryFile {
        /// Counted from 1.
        position: usize,
        /// How many it holds.
        count: usize,
    },
    /// Something among the namespaces that names none.
    #[error("--namespaces number {0} is not the name of a namespace")]
    Namespace(usize),
    /// `--context` without a kubeconfig.
    #[error("--context needs --kubeconfig")]
    Context,
    /// Not a length of time.
    #[error("--verify-every is not a length of time such as `6h`, `90m` or `0`")]
    Period,
    /// No randomness.
    #[error("the operating system gives no random bytes")]
    Randomness,
}

impl TryFrom<Args> for Settings {
    type Error = SettingsError;

    fn try_from(args: Args) -> Result<Self, SettingsError> {
        let cluster = match (args.kubeconfig, args.context) {
            (Some(path), context) => Cluster::Kubeconfig { path, context },
            (None, None) => Cluster::Own,
            (None, Some(_)) => return Err(SettingsError::Context),
        };
        let recovery = args.keyring_recovery.iter().zip(1..).map(|(given, position)| recovery(given, position));
        let recovery = recovery.collect::<Result<_, _>>()?;
        let period: Period = args.verify_every.parse().map_err(|_| SettingsError::Period)?;
        Ok(Self {
            cluster,
            namespace: args.namespace.unwrap_or_else(pod_namespace),
            realm: Realm::of(&args.namespaces).map_err(SettingsError::Namespace)?,
            listen: args.listen,
            replica: replica(args.replica)?,
            cluster_name: args.cluster_name,
            first_ring: args.keyring_create.then_some(FirstRing { name: args.keyring_name, recovery }),
            workers: usize::from(args.workers),
            verify_every: Some(period.duration()).filter(|period| !period.is_zero()),
            serves_vault: args.vault,
            vault_allows_api_audience: args.vault_allow_api_audience,
        })
    }
}

/// A recipient, or a file whose only line besides comments is one.
fn recovery(given: &str, position: usize) -> Result<Recipient, SettingsError> {
    let parse = |text: &str| text.parse().map_err(|source| SettingsError::Recovery { position, source });
    let given = given.trim();
    if given.starts_with("age1") {
        return parse(given);
    }
    // Not a recipient: the only other thing it may be.
    let Ok(text) = std::fs::read_to_string(given) else { return parse(given) };
    let lines: Vec<_> = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    match lines.as_slice() {
        [line] => parse(line),
        lines => Err(SettingsError::RecoveryFile { position, count: lines.len() }),
    }
}

fn pod_namespace() -> String {
    let namespace = std::fs::read_to_string(POD_NAMESPACE).map(|namespace| namespace.trim().to_owned());
    namespace.ok().filter(|namespace| !namespace.is_empty()).unwrap_or_else(|| DEFAULT_NAMESPACE.to_owned())
}

/// The name that was given, or the host's, and always a random part: two processes of one name would both lead.
fn replica(name: Option<String>) -> Result<String, SettingsError> {
    let mut random = [0; 4];
    SystemRandom::new().fill(&mut random).map_err(|_| SettingsError::Randomness)?;
    let name = name.unwrap_or_else(|| rustix::system::uname().nodename().to_string_lossy().into_owned());
    Ok(format!("{name}-{:08x}", u32::from_be_bytes(random)))
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use seal_envelope::Identity;

    use super::*;

    fn settings(flags: &[&str]) -> Result<Settings, SettingsError> {
        let args = ["seal-controller"].iter().chain(flags).copied();
        Settings::try_from(Args::try_parse_from(args).unwrap())
    }

    #[test]
    fn the_defaults_make_a_ring_and_verify() {
        let settings = settings(&[]).unwrap();
        assert_eq!(settings.first_ring.unwrap().name, "default");
        assert_eq!(settings.verify_every, Some(Duration::from_secs(6 * 3600)));
        assert!(matches!(settings.cluster, Cluster::Own));
        assert_eq!(settings.realm, Realm::Cluster);
    }

    #[test]
    fn a_ring_can_be_declined_and_verification_switched_off() {
        let settings = settings(&["--keyring-create=false", "--verify-every", "0"]).unwrap();
        assert!(settings.first_ring.is_none() && settings.verify_every.is_none());
    }

    #[test]
    fn a_recovery_recipient_is_text_or_a_file() {
        let recipient = Identity::generate().unwrap().recipient().to_string();
        let file = std::env::temp_dir().join(format!("sealwright-recovery-{}", std::process::id()));
        std::fs::write(&file, format!("# offline\n{recipient}\n")).unwrap();
        let path = file.to_str().unwrap().to_owned();
        let first = settings(&["--keyring-recovery", &recipient, "--keyring-recovery", &path]).unwrap().first_ring;
        std::fs::remove_file(file).unwrap();
        assert_eq!(
            first.unwrap().recovery.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [&*recipient, &*recipient]
        );
    }

    #[test]
    fn a_private_key_in_place_of_a_recipient_is_refused_and_not_quoted() {
        let identity = Identity::generate().unwrap().to_secret_string();
        let error = settings(&["--keyring-recovery", &identity]).unwrap_err();
        assert!(matches!(error, SettingsError::Recovery { source: KeyError::PrivateKey, .. }));
        assert!(!format!("{error} {error:?}").contains(&identity[..40]));
    }

    #[test]
    fn the_namespaces_that_are_served_are_named_and_none_of_them_is_nothing() {
        let realm = settings(&["--namespaces", "shop,bank", "--namespaces=shop"]).unwrap().realm;
        assert_eq!(realm.regions(), [Some("shop".into()), Some("bank".into())]);
        assert!(realm.serves("bank") && !realm.serves("ban") && Realm::Cluster.serves("ban"));
        for (given, position) in [("--namespaces=", 1), ("--namespaces=shop,,bank", 2), ("--namespaces=shop,*", 2)] {
            let error = settings(&[given]).unwrap_err();
            assert!(matches!(error, SettingsError::Namespace(at) if at == position), "{given}: {error}");
        }
    }

    #[test]
    fn two_replicas_of_one_name_are_two_replicas() {
        let [first, second] = [(); 2].map(|()| settings(&["--replica", "pod"]).unwrap().replica);
        assert!(first.starts_with("pod-") && first != second, "{first} {second}");
    }

    #[test]
    fn contradictions_are_refused() {
        assert!(matches!(settings(&["--context", "c"]), Err(SettingsError::Context)));
        assert!(matches!(settings(&["--verify-every", "soon"]), Err(SettingsError::Period)));
    }
}
