//! Every flag and environment variable of the command, with its default and what it is for. Nothing else reads the
//! environment.

use std::ffi::OsStr;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

/// Name under which `kubectl` finds this command as its plugin.
const PLUGIN: &str = "kubectl-weft";

/// Run a service mesh on this machine, check manifests, and look at what runs, here or in a cluster.
///
/// `status` and `proxy` look at what `weft run` runs on this machine, as long as something does or --state names it, and
/// otherwise at the cluster of the current context. --cluster, --context, --kubeconfig and --namespace always mean the
/// cluster, and so does the plugin `kubectl weft` (this program installed as `kubectl-weft`).
#[derive(Debug, Parser)]
#[command(name = "weft", version, propagate_version = true, max_term_width = 100)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

impl Cli {
    /// What this process was called with.
    pub(crate) fn of_process() -> Self {
        let program = std::env::args_os().next();
        let command = if program.as_deref().is_some_and(is_plugin) { as_plugin() } else { Self::command() };
        Self::from_arg_matches(&command.get_matches()).unwrap_or_else(|error| error.exit())
    }
}

fn is_plugin(program: &OsStr) -> bool {
    Path::new(program).file_stem().is_some_and(|name| name == PLUGIN)
}

/// The command as `kubectl weft`: it always means the cluster.
fn as_plugin() -> clap::Command {
    let command = Cli::command().bin_name("kubectl weft");
    command.mut_subcommands(|command| {
        let has_cluster = command.get_arguments().any(|argument| argument.get_id() == "cluster");
        if has_cluster {
            command.mut_arg("cluster", |argument| argument.default_value("true").hide(true))
        } else {
            command
        }
    })
}

/// What the command does.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the services, gateways and private servers of a directory, with the operator and a proxy each
    ///
    /// DIR holds the manifests a cluster would get, and a weft.yaml that says what to start for them on this machine.
    /// Everything it starts ends with it. Files that change are taken over while it runs.
    Run(RunArgs),
    /// Show what runs: services, instances, mutual TLS, circuit breakers, certificates
    Status(StatusArgs),
    /// Stop a service, instance, gateway or server (its name as in `weft status`)
    Stop(NameArgs),
    /// Start what was stopped, and wait until it is ready
    Start(NameArgs),
    /// Restart a service instance by instance, so that it stays available
    Restart(NameArgs),
    /// Print the logs of a service, instance, gateway or server, and of its proxies
    Logs(LogsArgs),
    /// Check manifests and weft.yaml; without PATH, check the cluster
    ///
    /// Of manifests it prints one line per finding, with file, line, column, field and what to do. Without PATH it checks
    /// the cluster: before the installation whether Weft can be installed, after it whether everything works, one line
    /// each and what to do. Exits with 1 when something is wrong, with 0 when there are at most warnings.
    Check(CheckArgs),
    /// Put a proxy into every pod of manifests, as the webhook does in a cluster
    ///
    /// Prints the manifests: what runs pods (deployments, jobs, plain pods, lists of them …) with proxies,
    /// everything else as it is written. `weft inject app.yaml | kubectl apply -f -`
    Inject(InjectArgs),
    /// Ask the proxy of an instance what it knows
    Proxy(ProxyArgs),
    /// End the children of a killed run (started by `weft run` itself)
    #[command(hide = true)]
    Guard {
        /// Lock to hold meanwhile
        lock: PathBuf,
    },
}

/// Which run is meant.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct StateArgs {
    /// State folder of the run [default: ./.weft, else that of the newest run of this user]
    #[arg(long, env = "WEFT_STATE", value_name = "FOLDER")]
    pub(crate) state: Option<PathBuf>,

    /// Folder for what lives as long as the session; running meshes are noted there
    #[arg(long, env = "XDG_RUNTIME_DIR", value_name = "FOLDER", hide = true)]
    pub(crate) runtime: Option<PathBuf>,
}

/// Which cluster; each of these says that the cluster is meant.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct ClusterArgs {
    /// Look at the cluster, even while something runs on this machine
    #[arg(long)]
    pub(crate) cluster: bool,

    /// Context of the kubeconfig [default: its current one]
    #[arg(long, value_name = "NAME")]
    pub(crate) context: Option<String>,

    /// The kubeconfig [default: those of $KUBECONFIG, else ~/.kube/config]
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,

    /// Namespace in the cluster [default: all; for `proxy` that of the context]
    #[arg(short, long, value_name = "NAMESPACE")]
    pub(crate) namespace: Option<String>,
}

impl ClusterArgs {
    /// Whether a flag says that the cluster is meant.
    pub(crate) fn is_meant(&self) -> bool {
        self.cluster || self.context.is_some() || self.kubeconfig.is_some() || self.namespace.is_some()
    }
}

/// How an answer is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// For people
    #[default]
    Text,
    /// For programs
    Json,
}

/// Settings of `weft run`.
#[derive(Clone, Debug, Args)]
pub(crate) struct RunArgs {
    /// Directory with manifests and weft.yaml
    #[arg(value_name = "DIR")]
    pub(crate) directory: PathBuf,

    /// State folder: databases, certificate authority, logs [default: DIR/.weft]
    #[arg(long, env = "WEFT_STATE", value_name = "FOLDER")]
    pub(crate) state: Option<PathBuf>,

    /// Show the logs of everything here too
    #[arg(long)]
    pub(crate) logs: bool,

    /// Address of gateways for which weft.yaml names none (0.0.0.0: reachable from other machines)
    #[arg(long, env = "WEFT_GATEWAY_ADDRESS", value_name = "IP", default_value = "127.0.0.1")]
    pub(crate) gateway_address: IpAddr,

    /// Which lines the operator and the proxies log, as in `info` or `info,weft_sidecar=debug`
    #[arg(long, env = "WEFT_LOG", value_name = "FILTER", default_value = "info")]
    pub(crate) log: String,

    /// Seconds that processes have to finish their work when they are stopped
    #[arg(long, env = "WEFT_DRAIN_SECONDS", value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(0..=600))]
    pub(crate) drain: u64,

    /// The operator's program [default: weft-operator beside weft, else on PATH]
    #[arg(long, env = "WEFT_OPERATOR_PROGRAM", value_name = "FILE", hide_short_help = true)]
    pub(crate) operator_program: Option<PathBuf>,

    /// The proxy's program [default: weft-proxy beside weft, else on PATH]
    #[arg(long, env = "WEFT_PROXY_PROGRAM", value_name = "FILE", hide_short_help = true)]
    pub(crate) proxy_program: Option<PathBuf>,

    /// Where programs are looked up
    #[arg(long, env = "PATH", hide = true, default_value = "/usr/local/bin:/usr/bin:/bin")]
    pub(crate) path: String,

    /// Folder for what lives as long as the session; running meshes are noted there
    #[arg(long, env = "XDG_RUNTIME_DIR", value_name = "FOLDER", hide = true)]
    pub(crate) runtime: Option<PathBuf>,
}

/// Settings of `weft status`.
#[derive(Clone, Debug, Args)]
pub(crate) struct StatusArgs {
    /// Which run.
    #[command(flatten)]
    pub(crate) state: StateArgs,

    /// Which cluster.
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,

    /// How to print it; as JSON {run, mesh}, of a cluster {context, leader, mesh}
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Output,

    /// The same as -o json
    #[arg(long)]
    pub(crate) json: bool,
}

/// One thing that runs.
#[derive(Clone, Debug, Args)]
pub(crate) struct NameArgs {
    /// Service, instance, gateway, `operator`, `postgres` or `redis`
    pub(crate) name: String,

    /// Which run.
    #[command(flatten)]
    pub(crate) state: StateArgs,
}

/// Settings of `weft logs`.
#[derive(Clone, Debug, Args)]
pub(crate) struct LogsArgs {
    /// Service, instance, gateway, `operator`, `postgres` or `redis`; everything when left out
    pub(crate) names: Vec<String>,

    /// Go on with new lines as they come
    #[arg(short, long)]
    pub(crate) follow: bool,

    /// Only the last lines of each log
    #[arg(short = 'n', long, value_name = "LINES")]
    pub(crate) lines: Option<usize>,

    /// Only the applications, not their proxies
    #[arg(long, conflicts_with = "proxies")]
    pub(crate) apps: bool,

    /// Only the proxies
    #[arg(long)]
    pub(crate) proxies: bool,

    /// Which run.
    #[command(flatten)]
    pub(crate) state: StateArgs,
}

/// Settings of `weft check`.
#[derive(Clone, Debug, Args)]
pub(crate) struct CheckArgs {
    /// Directories (with their weft.yaml) and single manifests; none: the cluster
    #[arg(value_name = "PATH")]
    pub(crate) paths: Vec<PathBuf>,

    /// Which cluster.
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,

    /// How the checks of a cluster are printed; as JSON {ok, checks}
    #[arg(short, long, value_enum, default_value_t)]
    pub(crate) output: Output,
}

/// Settings of `weft inject`.
#[derive(Clone, Debug, Args)]
pub(crate) struct InjectArgs {
    /// Manifests; `-` is stdin
    #[arg(value_name = "FILE", default_value = "-")]
    pub(crate) files: Vec<PathBuf>,

    /// Namespace of manifests that name none
    #[arg(short, long, value_name = "NAMESPACE", default_value = "default")]
    pub(crate) namespace: String,

    /// Image of the proxy [default: weft-proxy of this version]
    #[arg(long, env = "WEFT_PROXY_IMAGE", value_name = "IMAGE")]
    pub(crate) image: Option<String>,

    /// When that image is pulled [default: as Kubernetes does]
    #[arg(long, value_name = "POLICY", value_parser = ["Always", "IfNotPresent", "Never"])]
    pub(crate) pull_policy: Option<String>,

    /// Resources of the proxy, as `resources` of a container in JSON [default: none]
    #[arg(long, value_name = "JSON")]
    pub(crate) resources: Option<String>,

    /// Which lines the proxy logs, as in `info` or `info,weft_sidecar=debug`
    #[arg(long, value_name = "FILTER", default_value = "info")]
    pub(crate) log: String,
}

/// Settings of `weft proxy`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ProxyArgs {
    /// What to ask for
    pub(crate) what: ProxyPage,

    /// Instance, or a service or gateway with one instance; in a cluster a pod, or one of deploy/NAME, sts/NAME,
    /// ds/NAME, svc/NAME, gateway/NAME
    pub(crate) instance: String,

    /// Which run.
    #[command(flatten)]
    pub(crate) state: StateArgs,

    /// Which cluster.
    #[command(flatten)]
    pub(crate) cluster: ClusterArgs,
}

/// What a proxy tells.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ProxyPage {
    /// The configuration it runs on
    Config,
    /// The endpoints of every destination
    Endpoints,
    /// Its circuit breakers
    Breakers,
    /// Its certificates
    Certs,
    /// What it does: requests and connections in flight, its stream to the operator, its listeners
    Stats,
    /// Requests of the next five seconds, at most a hundred, a line of JSON each
    Tap,
}

impl ProxyPage {
    /// Path on the admin port.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Config => "/config",
            Self::Endpoints => "/endpoints",
            Self::Breakers => "/breakers",
            Self::Certs => "/certs",
            Self::Stats => "/stats",
            Self::Tap => "/tap?seconds=5&max=100",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_consistent() {
        Cli::command().debug_assert();
        as_plugin().debug_assert();
    }

    #[test]
    fn the_plugin_of_kubectl_always_means_the_cluster() {
        assert!(is_plugin(OsStr::new("/usr/local/bin/kubectl-weft")));
        assert!(!is_plugin(OsStr::new("weft")));
        let meant = |command: clap::Command, args: &[&str]| {
            let matches = command.try_get_matches_from(["weft", "status"].iter().chain(args)).unwrap();
            let Command::Status(status) = Cli::from_arg_matches(&matches).unwrap().command else { panic!() };
            status.cluster.is_meant()
        };
        assert!(meant(as_plugin(), &[]));
        assert!(!meant(Cli::command(), &[]));
        for flags in [&["--cluster"][..], &["--context", "kind"], &["-n", "shop"], &["--kubeconfig", "k"]] {
            assert!(meant(Cli::command(), flags), "{flags:?}");
        }
    }
}
