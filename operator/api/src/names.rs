//! Names that more than one part must spell the same: ports, headers, ALPN, labels, well-known identities.
//! A name used by one crate only stays in that crate.

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

/// Why a request was refused, in kebab case (`circuit-open`).
pub const HEADER_REASON: &str = "x-weft-reason";
/// Id of the request, made where it enters the mesh.
pub const HEADER_REQUEST_ID: &str = "x-request-id";
/// Set to `true` on an answer served from the stale cache.
pub const HEADER_STALE: &str = "x-weft-stale";

/// ALPN names between proxies, in order of preference.
pub const ALPN_H2: &[u8] = b"h2";
/// HTTP/1.1 between proxies.
pub const ALPN_HTTP1: &[u8] = b"http/1.1";
/// Raw TCP between proxies.
pub const ALPN_TCP: &[u8] = b"weft/tcp";

/// Namespace of the operator.
pub const SYSTEM_NAMESPACE: &str = "weft-system";
/// Service account of the operator.
pub const OPERATOR_ACCOUNT: &str = "weft-operator";
/// `ClusterRole` of the release. What the operator makes for itself (its authority, its Lease, the roots of every
/// namespace) names it as its owner, so that Kubernetes removes all of it once the release is uninstalled. Not a webhook
/// configuration, which is what people delete in an emergency.
pub const RELEASE_OWNER: &str = "weft-operator";
/// TLS name of the operator's gRPC server.
pub const OPERATOR_SERVER_NAME: &str = "operator.weft-system.svc";
/// Trust domain where the Mesh resource names none.
pub const DEFAULT_TRUST_DOMAIN: &str = "cluster.local";

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
}
