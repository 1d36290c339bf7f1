//! The command line, and nothing else: the text here is what users read.

use std::{net::SocketAddr, path::PathBuf};

use clap::{ArgAction, Parser, Subcommand};

use crate::telemetry::{LogFormat, LogLevel};

/// Opens SealedSecrets in a cluster and keeps the resulting Secrets true to Git.
///
/// Without a subcommand it runs until it gets SIGTERM. In a pod it needs no flag at all.
#[derive(Debug, Parser)]
#[command(name = "seal-controller", version, max_term_width = 100)]
pub struct Args {
    /// What to do instead of running.
    #[command(subcommand)]
    pub command: Option<Command>,

    /// Kubeconfig file; in a pod, its ServiceAccount is the default
    #[arg(long, env = "SEALWRIGHT_KUBECONFIG", value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// Context of the kubeconfig; its current one is the default
    #[arg(long, env = "SEALWRIGHT_CONTEXT", value_name = "NAME")]
    pub context: Option<String>,

    /// The controller's own namespace: identities, key rings and the lease live there
    ///
    /// Defaults to the pod's namespace, or to sealwright-system outside of a pod.
    #[arg(long, env = "SEALWRIGHT_NAMESPACE", value_name = "NAMESPACE")]
    pub namespace: Option<String>,

    /// Namespaces whose SealedSecrets are served, separated by commas; without it, all of the cluster
    ///
    /// Then no right in the whole cluster is needed: the chart's `namespaces` gives roles in these namespaces alone. One
    /// that does not exist, or may not be read, is served as soon as it may; the others do not wait for it.
    #[arg(long, env = "SEALWRIGHT_NAMESPACES", value_name = "NAMESPACE", value_delimiter = ',')]
    pub namespaces: Vec<String>,

    /// Address of the HTTP endpoints
    #[arg(long, env = "SEALWRIGHT_LISTEN", value_name = "ADDRESS", default_value = "0.0.0.0:8080", value_parser = address)]
    pub listen: SocketAddr,

    /// Name under which this replica holds the lease, with a random part after it; the host's is the default
    #[arg(long, env = "SEALWRIGHT_REPLICA", value_name = "NAME")]
    pub replica: Option<String>,

    /// Name of this cluster as a member of the first key ring
    #[arg(long, env = "SEALWRIGHT_CLUSTER_NAME", value_name = "NAME", default_value = "cluster")]
    pub cluster_name: String,

    /// Name of the key ring that is made where there is none
    #[arg(long, env = "SEALWRIGHT_KEYRING_NAME", value_name = "NAME", default_value = "default")]
    pub keyring_name: String,

    /// Whether a first key ring is made where there is none
    #[arg(
        long,
        env = "SEALWRIGHT_KEYRING_CREATE",
        value_name = "BOOL",
        default_value_t = true,
        action = ArgAction::Set,
        num_args = 0..=1,
        default_missing_value = "true"
    )]
    pub keyring_create: bool,

    /// Recipient (age1pq1...), or a file that holds one, who can open the first key ring besides this cluster
    ///
    /// May be given several times; in the variable, separated by commas. Without one, losing this cluster loses every
    /// value that was sealed to the ring.
    #[arg(long, env = "SEALWRIGHT_KEYRING_RECOVERY", value_name = "RECIPIENT|FILE", value_delimiter = ',')]
    pub keyring_recovery: Vec<String>,

    /// How many objects are worked on at the same time
    #[arg(long, env = "SEALWRIGHT_WORKERS", value_name = "N", default_value_t = 24, value_parser = clap::value_parser!(u16).range(2..=256))]
    pub workers: u16,

    /// How often each Secret is read and compared as a whole, such as 6h; 0 means never
    #[arg(long, env = "SEALWRIGHT_VERIFY_EVERY", value_name = "PERIOD", default_value = "6h")]
    pub verify_every: String,

    /// Whether values are fetched from Vault at all; false where the rights for it are not given
    #[arg(
        long,
        env = "SEALWRIGHT_VAULT",
        value_name = "BOOL",
        default_value_t = true,
        action = ArgAction::Set,
        num_args = 0..=1,
        default_missing_value = "true"
    )]
    pub vault: bool,

    /// Whether a VaultStore may name audiences of the API server itself
    ///
    /// A token for such an audience is a credential for this cluster, in the hands of whoever runs the address of the
    /// store. Needed only where Vault reviews logins with the token that logs in.
    #[arg(
        long,
        env = "SEALWRIGHT_VAULT_ALLOW_API_AUDIENCE",
        value_name = "BOOL",
        default_value_t = false,
        action = ArgAction::Set,
        num_args = 0..=1,
        default_missing_value = "true"
    )]
    pub vault_allow_api_audience: bool,

    /// What is logged: this and whatever is worse
    #[arg(long, env = "SEALWRIGHT_LOG_LEVEL", value_name = "LEVEL", value_enum, default_value_t)]
    pub log_level: LogLevel,

    /// How the log is written
    #[arg(long, env = "SEALWRIGHT_LOG_FORMAT", value_name = "FORMAT", value_enum, default_value_t)]
    pub log_format: LogFormat,
}

/// What the program can do besides running.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Print the CustomResourceDefinitions as YAML
    Crds,
}

/// An IP address and a port.
fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| match text.trim_start_matches(':').parse::<u16>() {
        Ok(port) => {
            format!("an address and a port belong here: 0.0.0.0:{port}, or 127.0.0.1:{port} for this host alone")
        }
        Err(_) => "an IP address and a port belong here, such as 0.0.0.0:8080 or [::]:8080".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn a_port_alone_is_told_what_it_lacks() {
        for given in ["8081", ":8081"] {
            let error = Args::try_parse_from(["seal-controller", "--listen", given]).unwrap_err().to_string();
            assert!(error.contains("127.0.0.1:8081"), "{error}");
        }
        assert!(Args::try_parse_from(["seal-controller", "--listen", "[::]:8081"]).is_ok());
    }

    #[test]
    fn every_flag_has_its_variable() {
        let command = Args::command();
        command.clone().debug_assert();
        for argument in command.get_arguments() {
            let Some(flag) = argument.get_long().filter(|flag| !matches!(*flag, "help" | "version")) else { continue };
            let variable = format!("SEALWRIGHT_{}", flag.replace('-', "_").to_uppercase());
            assert_eq!(argument.get_env().and_then(|env| env.to_str()), Some(variable.as_str()));
        }
    }
}
