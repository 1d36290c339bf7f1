//! Which cluster to talk to, and `seal init`.

use std::path::PathBuf;

use clap::Args;

const INIT_EXAMPLES: &str = "\
Examples:
  seal init --from-cluster                       # the ring of the current context's cluster
  seal init --from-cluster --context prod-eu     # again later: shows what changed, and asks
  seal init prod.yaml                            # from a ring file that somebody gave you";

/// Start sealing in this repository: pin key rings in `.seal/`
///
/// From then on `.seal/keyrings/NAME.yaml` is what sealing reads, never the network: commit it. Compare the ids shown
/// with those of whoever made the ring. Also writes `.seal/config.yaml`, where there is none.
#[derive(Args)]
#[command(after_long_help = INIT_EXAMPLES)]
pub(crate) struct InitArgs {
    /// Ring files to pin
    #[arg(value_name = "RING", conflicts_with = "from_cluster")]
    pub(crate) files: Vec<PathBuf>,

    /// Fetch the rings from the controller's namespace
    #[arg(long)]
    pub(crate) from_cluster: bool,

    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,

    /// Namespace of the controller
    #[arg(short, long, value_name = "NS", default_value = super::CONTROLLER_NAMESPACE)]
    pub(crate) namespace: String,

    /// Fetch this ring only
    #[arg(long, value_name = "NAME", requires = "from_cluster")]
    pub(crate) ring: Option<String>,

    /// Accept changes of a pinned ring, and rings that the cluster does not accept, without asking
    #[arg(short, long)]
    pub(crate) yes: bool,
}

#[derive(Args)]
pub(crate) struct ClusterArgs {
    /// Context of the kubeconfig [default: its current one]
    #[arg(long)]
    pub(crate) context: Option<String>,

    /// Kubeconfig file [default: $KUBECONFIG, else ~/.kube/config, else the pod's own account]
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
}
