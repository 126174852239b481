//! Names that more than one part must spell the same: ports, headers, ALPN, labels, well-known identities.
//! A name used by one crate only stays in that crate.

use std::fmt;
use std::net::SocketAddr;

/// Outbound port of a proxy whose traffic is redirected.
pub const PORT_OUTBOUND: u16 = 15001;
/// Inbound port of a proxy whose traffic is redirected.
pub const PORT_INBOUND: u16 = 15006;
/// Readiness (`/ready`) and liveness (`/live`).
pub const PORT_HEALTH: u16 = 15021;
/// Prometheus metrics (`/metrics`).
pub const PORT_METRICS: u16 = 15090;
/// Admin, on loopback only.
pub const PORT_ADMIN: u16 = 15000;
/// The operator's gRPC port: identity and configuration.
pub const PORT_OPERATOR: u16 = 15012;
/// The operator's admission webhooks.
pub const PORT_WEBHOOK: u16 = 15017;
/// The operator's admin port: metrics and probes for all, `/status.json` and `/debug` on loopback.
pub const PORT_OPERATOR_ADMIN: u16 = 15014;

/// Why a request was refused, in kebab case (`circuit-open`).
pub const HEADER_REASON: &str = "x-weft-reason";
/// Id of the request, made where it enters the mesh.
pub const HEADER_REQUEST_ID: &str = "x-request-id";
/// Set to `true` on an answer served from the stale cache.
pub const HEADER_STALE: &str = "x-weft-stale";

/// ALPN names between proxies, in order of preference: the transport of our own (`sidecar/transport/README.md`).
pub const ALPN_WEFT: &[u8] = b"weft/1";
/// HTTP/2 between proxies.
pub const ALPN_H2: &[u8] = b"h2";
/// HTTP/1.1 between proxies.
pub const ALPN_HTTP1: &[u8] = b"http/1.1";
/// Raw TCP between proxies.
pub const ALPN_TCP: &[u8] = b"weft/tcp";

/// Offered by every proxy beside what it speaks, never chosen: tells the mesh's TLS from an application's own.
pub const ALPN_MESH: &[u8] = b"weft";

/// Namespace of the operator.
pub const SYSTEM_NAMESPACE: &str = "weft-system";
/// Service account of the operator.
pub const OPERATOR_ACCOUNT: &str = "weft-operator";
/// `ClusterRole` of the release. What the operator makes for itself (its authority, its Lease, the roots of every
/// namespace) names it as its owner, so that Kubernetes removes all of it once the release is uninstalled. Not a webhook
/// configuration, which is what people delete in an emergency.
pub const RELEASE_OWNER: &str = "weft-operator";
/// Host of the operator's Service: where proxies dial, and the name in the certificate of its webhooks.
pub const OPERATOR_HOST: &str = "weft-operator.weft-system.svc";
/// TLS name of the operator's gRPC server.
pub const OPERATOR_SERVER_NAME: &str = "operator.weft-system.svc";
/// Annotation of the Mesh that asks for a new root whenever its value changes.
pub const ANNOTATION_ROTATE_ROOT: &str = "weft.dev/rotate-root";
/// Trust domain where the Mesh resource names none.
pub const DEFAULT_TRUST_DOMAIN: &str = "cluster.local";

/// Label of a namespace and annotation of a pod: whether pods get a proxy, [`INJECT_ENABLED`] or [`INJECT_DISABLED`].
pub const INJECT: &str = "weft.dev/inject";
/// Pods get a proxy.
pub const INJECT_ENABLED: &str = "enabled";
/// The pod gets none.
pub const INJECT_DISABLED: &str = "disabled";
/// Annotation of a pod with a proxy: which version gave it one.
pub const ANNOTATION_INJECTED: &str = "weft.dev/injected";
/// Annotation of a pod with a proxy: its service account, the last part of its identity.
pub const ANNOTATION_ACCOUNT: &str = "weft.dev/account";
/// Annotation of a pod that asked for a proxy and cannot have one: why.
pub const ANNOTATION_NOT_INJECTED: &str = "weft.dev/not-injected";
/// Prefix of the annotations by which a pod sets what its proxy does.
pub const CONFIG_PREFIX: &str = "config.weft.dev/";
/// Namespaces whose pods never get a proxy.
pub const NEVER_INJECTED: [&str; 4] = ["kube-system", "kube-public", "kube-node-lease", SYSTEM_NAMESPACE];

/// Container of the proxy.
pub const CONTAINER_PROXY: &str = "weft-proxy";
/// Container that redirects a pod's traffic through its proxy.
pub const CONTAINER_INIT: &str = "weft-init";
/// User and group of the proxy: its own traffic is not redirected.
pub const PROXY_UID: u32 = 1337;
/// Volume with the proxy's token and the roots of the mesh.
pub const VOLUME_IDENTITY: &str = "weft-identity";
/// Where the proxy finds that volume.
pub const IDENTITY_FOLDER: &str = "/var/run/weft";
/// The token in that folder.
pub const TOKEN_FILE: &str = "token";
/// Audience of the token.
pub const TOKEN_AUDIENCE: &str = "weft";
/// `ConfigMap` with the roots of the mesh, one in every namespace that has proxies.
pub const ROOTS_CONFIG_MAP: &str = "weft-roots";
/// The roots in that `ConfigMap` and folder, PEM.
pub const ROOTS_FILE: &str = "roots.pem";
/// Path on the health port under which the proxy asks the application in place of the kubelet:
/// `/probe/<container>/<liveness|readiness|startup>`.
pub const PROBE_PATH: &str = "/probe";

/// Path of the webhook that gives pods their proxy.
pub const PATH_MUTATE: &str = "/mutate";
/// Path of the webhook that refuses resources that cannot work.
pub const PATH_VALIDATE: &str = "/validate";
/// `MutatingWebhookConfiguration` of the chart.
pub const MUTATING_WEBHOOK: &str = "weft-injector";
/// `ValidatingWebhookConfiguration` of the chart.
pub const VALIDATING_WEBHOOK: &str = "weft-validator";

/// Folder in the state folder whose `*.yaml` files are manifests too: what `weft run` makes itself, such as the Secret of
/// a self-signed certificate. The operator reads it beside the directory it is given, and treats it the same.
pub const GENERATED_FOLDER: &str = "generated";

/// Field manager of everything that the operator writes to a cluster, and who manages what it makes.
pub const MANAGER: &str = "weft";
/// Lease of the replica that writes.
pub const LEASE: &str = "weft-operator";
/// Label that says who manages an object; [`MANAGER`] on all that the operator makes.
pub const LABEL_MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Label of what is made of a Microservice: its name.
pub const LABEL_MICROSERVICE: &str = "weft.dev/microservice";
/// Label of what is made of a Gateway: its name.
pub const LABEL_GATEWAY: &str = "weft.dev/gateway";
/// Annotation of a Gateway, after [`CONFIG_PREFIX`]: type of its Service.
pub const CONFIG_SERVICE_TYPE: &str = "service-type";
/// Annotation of a Gateway, after [`CONFIG_PREFIX`]: how many instances it has.
pub const CONFIG_REPLICAS: &str = "replicas";

/// Where a gateway's proxy listens in its pod for a port of its Gateway: nobody but root may listen below 1024.
pub const fn gateway_port(port: u16) -> u16 {
    if port < 1024 { port + 10_000 } else { port }
}

/// Name of a destination: one port of one service.
pub fn destination(namespace: &str, service: &str, port: &str) -> String {
    format!("{namespace}/{service}:{port}")
}

/// Parts of a destination's name: namespace, service, port name.
pub fn split_destination(name: &str) -> Option<(&str, &str, &str)> {
    let (namespace, rest) = name.split_once('/')?;
    let (service, port) = rest.split_once(':')?;
    let all = [namespace, service, port];
    all.iter().all(|part| !part.is_empty()).then_some((namespace, service, port))
}

/// What a proxy asks about where traffic is redirected, beside destinations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address<'a> {
    /// A port of a service by its number, as an authority says it: `shop/user:80`.
    Port {
        /// Namespace.
        namespace: &'a str,
        /// Service.
        service: &'a str,
        /// Number of the service's port.
        port: u16,
    },
    /// Where a connection was going before it was redirected: `10.96.3.4:80`, `[fd00::7]:80`.
    Socket(SocketAddr),
}

impl<'a> Address<'a> {
    /// Reads an address; none where this is the name of a destination (or nothing at all). Names of ports have a letter,
    /// so the two never look alike.
    pub fn parse(name: &'a str) -> Option<Self> {
        if let Ok(socket) = name.parse() {
            return Some(Self::Socket(socket));
        }
        let (namespace, service, port) = split_destination(name)?;
        let digits = port.bytes().all(|c| c.is_ascii_digit());
        let port = port.parse().ok().filter(|_| digits)?;
        Some(Self::Port { namespace, service, port })
    }
}

impl fmt::Display for Address<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Port { namespace, service, port } => write!(f, "{namespace}/{service}:{port}"),
            Self::Socket(socket) => socket.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_destination_name_splits_into_its_parts() {
        let name = destination("shop", "user", "grpc");
        assert_eq!(split_destination(&name), Some(("shop", "user", "grpc")));
        assert_eq!(split_destination("user:grpc"), None);
        assert_eq!(split_destination("shop/user"), None);
        assert_eq!(split_destination("shop/user:"), None);
    }

    #[test]
    fn addresses_are_told_from_destinations() {
        for name in ["shop/user:80", "10.96.3.4:80", "[fd00::7]:80"] {
            assert_eq!(Address::parse(name).map(|address| address.to_string()).as_deref(), Some(name));
        }
        for name in
            ["shop/user:http", "shop/user:h2", "shop/user:+80", "shop/user:70000", "user:80", "10.96.3.4"]
        {
            assert_eq!(Address::parse(name), None, "{name}");
        }
    }
}
