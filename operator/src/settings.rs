//! Every setting of the operator: one table of flag, environment variable, type, default and doc. Nothing else reads
//! the environment. [`Args`] is what was written, [`Settings`] what it means; the way between them finds all mistakes
//! and reports them together. What can change while the operator runs is in the resources, not here.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Parser;
use k8s_openapi::api::core::v1::ResourceRequirements;
use tracing_subscriber::EnvFilter;
use weft_core::inject::Template;

/// Weft's operator: watches resources, publishes configuration to proxies and issues their identities.
#[derive(Clone, Debug, Parser)]
#[command(name = "weft-operator", version)]
pub struct Args {
    /// Where resources come from: `kube` watches a cluster, `dir:PATH` reads the *.yaml files of a directory
    #[arg(long, env = "WEFT_SOURCE", value_name = "SOURCE")]
    pub source: String,

    /// Folder that keeps what outlives a restart, made where missing; needed with `dir:PATH`
    #[arg(long, env = "WEFT_STATE", value_name = "DIR")]
    pub state: Option<String>,

    /// Where proxies get identities and configuration (gRPC with TLS); port 0 takes any free one
    #[arg(long, env = "WEFT_GRPC_ADDR", value_name = "ADDR", default_value = "127.0.0.1:15012")]
    pub grpc_addr: String,

    /// Where metrics, readiness and status are served (plain HTTP); port 0 takes any free one
    #[arg(long, env = "WEFT_ADMIN_ADDR", value_name = "ADDR", default_value = "127.0.0.1:15014")]
    pub admin_addr: String,

    /// Image of the proxy that pods and gateways get
    #[arg(long, env = "WEFT_PROXY_IMAGE", value_name = "IMAGE", default_value = concat!("weft-proxy:", env!("CARGO_PKG_VERSION")))]
    pub proxy_image: String,

    /// When that image is pulled: `Always`, `IfNotPresent` or `Never`
    #[arg(long, env = "WEFT_PROXY_PULL_POLICY", value_name = "POLICY", default_value = "IfNotPresent")]
    pub proxy_pull_policy: String,

    /// Resources of a proxy, as `resources` of a container in JSON
    #[arg(
        long,
        env = "WEFT_PROXY_RESOURCES",
        value_name = "JSON",
        default_value = r#"{"requests":{"cpu":"20m","memory":"32Mi"}}"#
    )]
    pub proxy_resources: String,

    /// Which log lines a proxy writes, as in `info` or `info,weft_sidecar=debug`
    #[arg(long, env = "WEFT_PROXY_LOG", value_name = "FILTER", default_value = "info")]
    pub proxy_log: String,

    /// Where the API server asks its webhooks (HTTPS), with `kube`; port 0 takes any free one
    #[arg(long, env = "WEFT_WEBHOOK_ADDR", value_name = "ADDR", default_value = "127.0.0.1:15017")]
    pub webhook_addr: String,

    /// Folder with `tls.crt` and `tls.key` for that, renewed by somebody else; default: the mesh's authority issues it
    #[arg(long, env = "WEFT_WEBHOOK_CERTIFICATE", value_name = "DIR")]
    pub webhook_certificate: Option<String>,

    /// Name of the operator's own pod, with `kube`; default: the host's name
    #[arg(long, env = "WEFT_POD_NAME", value_name = "NAME")]
    pub pod_name: Option<String>,

    /// Address of the operator's own pod, under which other replicas reach it, with `kube`
    #[arg(long, env = "WEFT_POD_IP", value_name = "IP")]
    pub pod_ip: Option<String>,

    /// Life of a proxy's certificate, for tests (`10s`, `5m`, `24h`); default: what the Mesh resource says
    #[arg(long, env = "WEFT_CERTIFICATE_LIFETIME", value_name = "DURATION")]
    pub certificate_lifetime: Option<String>,

    /// Which log lines are written, as in `info` or `info,weft_operator=debug`
    #[arg(long, env = "WEFT_LOG", value_name = "FILTER", default_value = "info")]
    pub log: String,

    /// How log lines look: `json` or `text`
    #[arg(long, env = "WEFT_LOG_FORMAT", value_name = "FORMAT", default_value = "text")]
    pub log_format: String,
}

/// What the settings mean.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where resources come from.
    pub source: SourceSetting,
    /// Folder for what outlives a restart; none only in a cluster.
    pub state: Option<PathBuf>,
    /// gRPC listener.
    pub grpc_addr: SocketAddr,
    /// Admin listener.
    pub admin_addr: SocketAddr,
    /// What proxies in pods have.
    pub proxy: Template,
    /// Listener of the webhooks; there is one in a cluster only.
    pub webhook_addr: SocketAddr,
    /// Where the certificate of the webhooks is, where the authority does not issue it.
    pub webhook_certificate: Option<PathBuf>,
    /// Name of the operator's own pod.
    pub pod_name: String,
    /// Address of the operator's own pod; loopback where it is not known.
    pub pod_ip: IpAddr,
    /// Life of certificates, where it overrides the Mesh resource.
    pub certificate_lifetime: Option<Duration>,
    /// Filter of the log.
    pub log: String,
    /// Format of the log.
    pub log_format: LogFormat,
}

/// Where resources come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceSetting {
    /// The manifests in a directory.
    Dir(PathBuf),
    /// The cluster that the kubeconfig or the pod's service account leads to.
    Kube,
}

/// Format of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// For people.
    Text,
}

/// All settings that cannot be used, one line each.
#[derive(Debug, thiserror::Error)]
#[error("{} of the settings cannot be used:\n  {}", .0.len(), .0.join("\n  "))]
pub struct BadSettings(pub Vec<String>);

impl Settings {
    /// Settings for a directory, with everything else at its default and free ports: for running in-process.
    pub fn for_dir(manifests: impl Into<PathBuf>, state: impl Into<PathBuf>) -> Self {
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        Self {
            source: SourceSetting::Dir(manifests.into()),
            state: Some(state.into()),
            grpc_addr: any_port,
            admin_addr: any_port,
            proxy: Template::default(),
            webhook_addr: any_port,
            webhook_certificate: None,
            pod_name: "weft-operator".into(),
            pod_ip: any_port.ip(),
            certificate_lifetime: None,
            log: "info".into(),
            log_format: LogFormat::Text,
        }
    }
}

impl TryFrom<Args> for Settings {
    type Error = BadSettings;

    fn try_from(args: Args) -> Result<Self, BadSettings> {
        let mut bad = Vec::new();
        let source = note(&mut bad, "--source", parse_source(&args.source));
        let grpc_addr = note(&mut bad, "--grpc-addr", parse_addr(&args.grpc_addr));
        let admin_addr = note(&mut bad, "--admin-addr", parse_addr(&args.admin_addr));
        let proxy = parse_proxy(&mut bad, &args);
        let webhook_addr = note(&mut bad, "--webhook-addr", parse_addr(&args.webhook_addr));
        let pod_ip = note(&mut bad, "--pod-ip", parse_ip(args.pod_ip.as_deref()));
        let certificate_lifetime = args.certificate_lifetime.as_deref().map(parse_lifetime).transpose();
        let certificate_lifetime = note(&mut bad, "--certificate-lifetime", certificate_lifetime);
        note(&mut bad, "--log", EnvFilter::from_str(&args.log).map_err(|error| error.to_string()));
        let log_format = note(&mut bad, "--log-format", parse_format(&args.log_format));
        let state = args.state.filter(|folder| !folder.is_empty()).map(PathBuf::from);
        if state.is_none() && !matches!(source, Some(SourceSetting::Kube)) {
            bad.push("--state: is not given; name the folder that keeps the operator's state".into());
        }
        let certificate = args.webhook_certificate.filter(|folder| !folder.is_empty());
        let webhook_certificate = certificate.map(PathBuf::from);
        let all = || {
            Some(Self {
                source: source?,
                state,
                grpc_addr: grpc_addr?,
                admin_addr: admin_addr?,
                webhook_addr: webhook_addr?,
                webhook_certificate,
                pod_name: args.pod_name.filter(|name| !name.is_empty()).unwrap_or_else(host_name),
                pod_ip: pod_ip?,
                proxy: proxy?,
                certificate_lifetime: certificate_lifetime?,
                log: args.log,
                log_format: log_format?,
            })
        };
        if bad.is_empty() { all().ok_or(BadSettings(bad)) } else { Err(BadSettings(bad)) }
    }
}

fn note<T>(bad: &mut Vec<String>, flag: &str, parsed: Result<T, String>) -> Option<T> {
    parsed.map_err(|why| bad.push(format!("{flag}: {why}"))).ok()
}

fn parse_source(text: &str) -> Result<SourceSetting, String> {
    match text.split_once(':') {
        Some(("dir", path)) if !path.is_empty() => Ok(SourceSetting::Dir(path.into())),
        None if text == "kube" => Ok(SourceSetting::Kube),
        _ => Err(format!("`{text}` is not a source; write kube or dir:PATH")),
    }
}

fn parse_proxy(bad: &mut Vec<String>, args: &Args) -> Option<Template> {
    if args.proxy_image.is_empty() {
        bad.push("--proxy-image: is empty; name the image of weft-proxy".into());
    }
    let pull_policy = note(bad, "--proxy-pull-policy", parse_pull_policy(&args.proxy_pull_policy));
    let resources = note(bad, "--proxy-resources", parse_resources(&args.proxy_resources));
    note(bad, "--proxy-log", EnvFilter::from_str(&args.proxy_log).map_err(|error| error.to_string()));
    Some(Template {
        image: args.proxy_image.clone(),
        pull_policy: Some(pull_policy?),
        resources: resources?,
        log: args.proxy_log.clone(),
        ..Template::default()
    })
}

fn parse_pull_policy(text: &str) -> Result<String, String> {
    match text {
        "Always" | "IfNotPresent" | "Never" => Ok(text.to_owned()),
        _ => Err(format!("`{text}` is not a pull policy; write Always, IfNotPresent or Never")),
    }
}

fn parse_resources(json: &str) -> Result<ResourceRequirements, String> {
    let example = r#"write for example {"requests":{"cpu":"20m","memory":"32Mi"}}"#;
    serde_json::from_str(json).map_err(|error| format!("{error}; {example}"))
}

fn parse_ip(text: Option<&str>) -> Result<IpAddr, String> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(Ipv4Addr::LOCALHOST.into()) };
    text.parse().map_err(|_| format!("`{text}` is not an IP address"))
}

/// In a pod the host's name is the pod's.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "weft-operator".to_owned() } else { name.to_owned() }
}

fn parse_addr(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| format!("`{text}` is not an address; write IP:PORT, as in 127.0.0.1:15012"))
}

fn parse_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "json" => Ok(LogFormat::Json),
        "text" => Ok(LogFormat::Text),
        _ => Err(format!("`{text}` is not a format; write json or text")),
    }
}

fn parse_lifetime(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a duration of at least 1s; write it as in 30s, 5m or 24h");
    let duration: weft_crds::Duration = text.parse().map_err(|_| wrong())?;
    let duration = Duration::from(duration);
    if duration < Duration::from_secs(1) { Err(wrong()) } else { Ok(duration) }
}

#[cfg(test)]
mod tests {
    use clap::{Arg, CommandFactory};

    use super::*;

    fn row(arg: &Arg) -> Option<String> {
        let default = arg.get_default_values().first().map(|value| format!("`{}`", value.to_string_lossy()));
        let (flag, variable) = (arg.get_long()?, arg.get_env()?.display().to_string());
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        Some(format!("| `--{flag}` | `{variable}` | {} | {help} |", default.unwrap_or_default()))
    }

    #[test]
    fn the_readme_shows_the_same_settings() {
        let rows: Vec<String> = Args::command().get_arguments().filter_map(row).collect();
        let rows = rows.join("\n");
        let table = format!("| what it sets |\n|---|---|---|---|\n{rows}\n\n");
        assert!(include_str!("../README.md").contains(&table), "operator/README.md lacks these rows\n{rows}");
    }

    fn args(extra: &[&str]) -> Args {
        let base = ["weft-operator", "--source", "dir:shop", "--state", "state"];
        Args::try_parse_from(base.iter().chain(extra)).unwrap()
    }

    #[test]
    fn defaults_are_loopback_addresses() {
        let settings = Settings::try_from(args(&[])).unwrap();
        assert_eq!(settings.source, SourceSetting::Dir("shop".into()));
        assert_eq!(settings.grpc_addr.to_string(), "127.0.0.1:15012");
        assert_eq!(settings.admin_addr.to_string(), "127.0.0.1:15014");
        assert_eq!(settings.certificate_lifetime, None);
    }

    #[test]
    fn a_cluster_needs_no_state_folder_and_a_directory_does() {
        let of = |flags: &[&str]| {
            Settings::try_from(Args::try_parse_from(["weft-operator"].iter().chain(flags)).unwrap())
        };
        let kube =
            of(&["--source", "kube", "--pod-name", "weft-operator-1", "--pod-ip", "10.0.0.7"]).unwrap();
        assert_eq!((kube.source, kube.state), (SourceSetting::Kube, None));
        assert_eq!(
            (kube.pod_name.as_str(), kube.pod_ip.to_string().as_str()),
            ("weft-operator-1", "10.0.0.7")
        );
        assert!(of(&["--source", "dir:shop"]).unwrap_err().to_string().contains("--state"));
        assert!(of(&["--source", "kube", "--pod-ip", "here"]).unwrap_err().to_string().contains("--pod-ip"));
    }

    #[test]
    fn all_bad_settings_are_reported_at_once() {
        let flags = [
            "--source",
            "file:x",
            "--grpc-addr",
            "here",
            "--certificate-lifetime",
            "1",
            "--log-format",
            "xml",
            "--proxy-resources",
            "much",
            "--proxy-pull-policy",
            "sometimes",
        ];
        let mut written = args(&[]);
        written.update_from(["weft-operator", "--state", "s"].iter().chain(&flags));
        let text = Settings::try_from(written).unwrap_err().to_string();
        for flag in flags.iter().step_by(2) {
            assert!(text.contains(flag), "{flag} missing in {text}");
        }
    }

    #[test]
    fn a_lifetime_is_a_duration() {
        let settings = Settings::try_from(args(&["--certificate-lifetime", "90s"])).unwrap();
        assert_eq!(settings.certificate_lifetime, Some(Duration::from_secs(90)));
    }
}
