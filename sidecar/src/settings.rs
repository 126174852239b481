//! Every setting of the proxy, once: flag, environment variable, default, meaning. Nothing else reads the environment.
//! What changes while it runs comes by configuration, not from here.

mod limits;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use crate::probe::Probes;

pub use limits::{ClientLimits, PeerLimits};

/// Weft's proxy: mutual TLS, JWT, authorization, resilience, rate limits and telemetry beside every instance.
#[derive(Clone, Debug, Parser)]
#[command(name = "weft-proxy", version)]
pub struct Settings {
    /// What to run as.
    #[command(subcommand)]
    pub mode: Option<Mode>,

    /// Workload this proxy belongs to: `<namespace>/<service>`, or `<namespace>/<gateway>`.
    #[arg(long, env = "WEFT_WORKLOAD", default_value = "default/unknown")]
    pub workload: String,

    /// Service account of the workload, the last part of its identity.
    #[arg(long, env = "WEFT_ACCOUNT", default_value = "default")]
    pub account: String,

    /// Name of this instance: the pod's name, or `order-0` standalone.
    #[arg(long, env = "WEFT_INSTANCE", default_value = "unknown-0")]
    pub instance: String,

    /// Operator's gRPC address, `host:port`.
    #[arg(long, env = "WEFT_OPERATOR", default_value = "weft-operator.weft-system.svc:15012")]
    pub operator: String,

    /// File with the roots of the mesh (PEM); waited for until it exists.
    #[arg(long, env = "WEFT_ROOTS", default_value = "/var/run/weft/roots.pem")]
    pub roots: PathBuf,

    /// Token that proves the workload to the operator. Prefer the file.
    #[arg(long, env = "WEFT_TOKEN", hide_env_values = true)]
    pub token: Option<String>,

    /// File with that token, read again for every certificate.
    #[arg(long, env = "WEFT_TOKEN_FILE", default_value = "/var/run/secrets/weft/token")]
    pub token_file: PathBuf,

    /// Admin pages; loopback only.
    #[arg(long, env = "WEFT_ADMIN_ADDR", default_value = "127.0.0.1:15000")]
    pub admin_addr: SocketAddr,

    /// Readiness and liveness.
    #[arg(long, env = "WEFT_HEALTH_ADDR", default_value = "[::]:15021")]
    pub health_addr: SocketAddr,

    /// Prometheus metrics.
    #[arg(long, env = "WEFT_METRICS_ADDR", default_value = "[::]:15090")]
    pub metrics_addr: SocketAddr,

    /// Where redirected outbound traffic arrives; unset: explicit listeners only.
    #[arg(long, env = "WEFT_OUTBOUND_ADDR")]
    pub outbound_addr: Option<SocketAddr>,

    /// Where redirected inbound traffic arrives; unset: explicit listeners only.
    #[arg(long, env = "WEFT_INBOUND_ADDR")]
    pub inbound_addr: Option<SocketAddr>,

    /// Where redirected inbound traffic goes on to: `original`, the address it was sent to, or `loopback`, for an
    /// application that listens on 127.0.0.1 only.
    #[arg(long, env = "WEFT_APP_ADDRESS", value_enum, default_value_t)]
    pub app_address: AppAddress,

    /// Health checks of the application that `/probe/<container>/<probe>` on the health port makes: JSON, by
    /// `<container>/<probe>`.
    #[arg(long, env = "WEFT_PROBES", default_value = "{}", value_parser = Probes::parse)]
    pub probes: Probes,

    /// User the proxy runs as: its own traffic is not redirected.
    #[arg(long, env = "WEFT_UID", default_value_t = 1337)]
    pub uid: u32,

    /// Inbound ports that are not redirected, separated by commas.
    #[arg(long, env = "WEFT_EXCLUDE_INBOUND", value_delimiter = ',')]
    pub exclude_inbound: Vec<u16>,

    /// Destination ports that are not redirected, separated by commas.
    #[arg(long, env = "WEFT_EXCLUDE_OUTBOUND", value_delimiter = ',')]
    pub exclude_outbound: Vec<u16>,

    /// Destinations that are not redirected, as CIDRs separated by commas: `10.0.0.0/8,fd00::/8`.
    #[arg(long, env = "WEFT_EXCLUDE_CIDRS", value_delimiter = ',', value_parser = cidr)]
    pub exclude_outbound_cidrs: Vec<Cidr>,

    /// Users whose traffic is not redirected, separated by commas.
    #[arg(long, env = "WEFT_EXCLUDE_UIDS", value_delimiter = ',')]
    pub exclude_uids: Vec<u32>,

    /// Worker threads; 0: one per CPU.
    #[arg(long, env = "WEFT_WORKERS", default_value_t = 0)]
    pub workers: usize,

    /// What this proxy prefers when it calls another one: `weft`, all requests over one connection, or `http`, HTTP/2 and
    /// HTTP/1.1 only. All are accepted.
    #[arg(long, env = "WEFT_TRANSPORT", value_enum, default_value_t)]
    pub transport: Transport,

    /// How long requests and connections in flight may go on after SIGTERM.
    #[arg(long, env = "WEFT_DRAIN_DEADLINE", default_value = "30s", value_parser = duration)]
    pub drain_deadline: Duration,

    /// What is logged: a level, or `target=level,…`.
    #[arg(long, env = "WEFT_LOG", default_value = "info")]
    pub log: String,

    /// `text` or `json`.
    #[arg(long, env = "WEFT_LOG_FORMAT", default_value = "json", value_parser = ["text", "json"])]
    pub log_format: String,

    /// How long a client may take to send a request's head, and a TLS peer its handshake.
    #[arg(long, env = "WEFT_CLIENT_HEADER_TIMEOUT", default_value = "10s", value_parser = duration)]
    pub client_header_timeout: Duration,

    /// How long a client may let a body stand still, one that it sends or one that it takes.
    #[arg(long, env = "WEFT_CLIENT_BODY_TIMEOUT", default_value = "1m", value_parser = duration)]
    pub client_body_timeout: Duration,

    /// How long a client may let a body without length stand still that it sends over HTTP/2, where that may be a stream;
    /// gRPC's may for as long as they like. 0s: so may all.
    #[arg(long, env = "WEFT_CLIENT_STREAM_TIMEOUT", default_value = "5m", value_parser = duration)]
    pub client_stream_timeout: Duration,

    /// How long an accepted connection may stay without a request or a byte.
    #[arg(long, env = "WEFT_CLIENT_IDLE_TIMEOUT", default_value = "1h", value_parser = duration)]
    pub client_idle_timeout: Duration,

    /// What one client or listener may have at most.
    #[command(flatten)]
    pub limits: ClientLimits,

    /// What one peer may have at most.
    #[command(flatten)]
    pub peer_limits: PeerLimits,
}

/// What to run as; none: the sidecar of a workload.
#[derive(Clone, Debug, PartialEq, Eq, clap::Subcommand)]
pub enum Mode {
    /// Stand at the edge: listeners and routes of a Gateway.
    Gateway,
    /// Redirect the pod's traffic through the proxy by nftables, then exit.
    Init,
}

/// What proxies speak to each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Transport {
    /// `weft/1`, and HTTP with those that do not speak it.
    #[default]
    Weft,
    /// HTTP/2 and HTTP/1.1.
    Http,
}

/// Where the application is, seen from the proxy of a redirected connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum AppAddress {
    /// Where the connection was sent to.
    #[default]
    Original,
    /// On the loopback address.
    Loopback,
}

/// A range of addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    /// Its first address, or any in it.
    pub address: IpAddr,
    /// Bits that all its addresses share.
    pub bits: u8,
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.bits)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self::parse_from(["weft-proxy"])
    }
}

impl Settings {
    /// Settings of a proxy that runs inside a test or a bench: every port chosen by the system, one worker.
    pub fn in_process() -> Self {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Self {
            admin_addr: any,
            health_addr: any,
            metrics_addr: any,
            workers: 1,
            drain_deadline: Duration::from_secs(5),
            ..Self::default()
        }
    }

    /// Whether this is a port of the proxy itself, which nobody reaches through it.
    pub fn is_own(&self, port: u16) -> bool {
        let data = [self.outbound_addr, self.inbound_addr].into_iter().flatten();
        let pages = [self.admin_addr, self.health_addr, self.metrics_addr];
        data.chain(pages).any(|address| address.port() == port)
    }

    /// Where the application is for a connection that was sent to this address.
    pub fn app_address(&self, original: SocketAddr) -> SocketAddr {
        let ip = match (self.app_address, original.ip()) {
            (AppAddress::Original, ip) => ip,
            (AppAddress::Loopback, IpAddr::V4(_)) => Ipv4Addr::LOCALHOST.into(),
            (AppAddress::Loopback, IpAddr::V6(_)) => Ipv6Addr::LOCALHOST.into(),
        };
        SocketAddr::new(ip, original.port())
    }

    /// What another proxy may do on one connection of `weft/1`.
    pub fn peer_limits(&self) -> weft_transport::Limits {
        self.peer_limits.of_connection(self.client_header_timeout)
    }

    /// Worker threads to start.
    pub fn worker_count(&self) -> usize {
        match self.workers {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            n => n,
        }
    }
}

/// `250ms`, `30s`, `5m`, `1h`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let invalid = || format!("`{text}` is not a duration: write 250ms, 30s, 5m or 1h");
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(invalid)?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| invalid())?;
    let millis = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        _ => return Err(invalid()),
    };
    number.checked_mul(millis).map(Duration::from_millis).ok_or_else(invalid)
}

/// `10.0.0.0/8`, `fd00::/8`; an address alone is the range of it alone.
fn cidr(text: &str) -> Result<Cidr, String> {
    let invalid = || format!("`{text}` is no range of addresses: write 10.0.0.0/8, fd00::/8 or one address");
    let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
    let address: IpAddr = address.trim().parse().map_err(|_| invalid())?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    let bits = bits.map_or(Ok(most), |bits| bits.trim().parse().map_err(|_| invalid()))?;
    if bits > most { Err(invalid()) } else { Ok(Cidr { address, bits }) }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_table_is_consistent() {
        Settings::command().debug_assert();
    }

    #[test]
    fn ranges_of_addresses_are_checked() {
        let shown = |text: &str| cidr(text).map(|cidr| cidr.to_string());
        assert_eq!(shown("10.0.0.0/8").as_deref(), Ok("10.0.0.0/8"));
        assert_eq!(shown(" fd00::1").as_deref(), Ok("fd00::1/128"));
        for text in ["", "10.0.0.0/33", "10.0/8", "fd00::/129", "db.shop.svc", "10.0.0.0/-1"] {
            assert!(cidr(text).is_err_and(|error| error.contains(text)), "{text}");
        }
    }

    #[test]
    fn durations_carry_their_unit() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("5m"), Ok(Duration::from_mins(5)));
        for text in ["", "5", "s", "-1s", "5d", "99999999999999999999s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
