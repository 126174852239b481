//! Envoy on both hops, with HTTP/2 between them, which costs it less than HTTP/1.1.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use super::{CLIENT_NAME, Hops, Origins, SERVER_NAME, Template, WORKERS, start};

/// Both hops, run by this program.
pub(crate) fn envoy(program: &Path, dir: &Path, hops: &Hops, origins: &Origins) -> Result<Vec<Child>> {
    let to_server =
        |name: &str, address| cluster(name, address, true, Some(&mutual(dir, "client", SERVER_NAME)));
    let edge = json!({ "common_tls_context": {
        "tls_params": tls13(), "tls_certificates": [certificate(dir, "edge")], "alpn_protocols": ["http/1.1"],
    }});
    let client = json!({ "static_resources": {
        "listeners": [
            listener("http1", hops.client_http1, None),
            listener("http1", hops.client_tls, Some(&edge)),
            listener("http2", hops.client_http2, None),
            listener("websocket", hops.client_websocket, None),
        ],
        "clusters": [
            to_server("http1", hops.server_http1),
            to_server("http2", hops.server_http2),
            to_server("websocket", hops.server_websocket),
        ],
    }});
    let accepts = mutual(dir, "server", CLIENT_NAME);
    let server = json!({ "static_resources": {
        "listeners": [
            listener("http1", hops.server_http1, Some(&accepts)),
            listener("http2", hops.server_http2, Some(&accepts)),
            listener("websocket", hops.server_websocket, Some(&accepts)),
        ],
        "clusters": [
            cluster("http1", origins.http1, false, None),
            cluster("http2", origins.http2, true, None),
            cluster("websocket", origins.websocket, false, None),
        ],
    }});
    let hop = |name: &str, config: Value| {
        let file = Template(config.to_string()).write(dir, &format!("{name}.json"))?;
        let mut command = Command::new(program);
        command.arg("-c").arg(file).args(["--concurrency", &WORKERS.to_string(), "--disable-hot-restart"]);
        start(dir, name, command.args(["--log-level", "error"]))
    };
    Ok(vec![hop("envoy-client", client)?, hop("envoy-server", server)?])
}

fn listener(cluster: &str, listen: SocketAddr, tls: Option<&Value>) -> Value {
    let mut chain = json!({ "filters": [{
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": kind("filters.network.http_connection_manager.v3.HttpConnectionManager"),
            "stat_prefix": cluster,
            "codec_type": "AUTO",
            "generate_request_id": false,
            "stream_idle_timeout": "0s",
            "http2_protocol_options": { "max_concurrent_streams": 1024, "allow_connect": true },
            "upgrade_configs": [{ "upgrade_type": "websocket" }],
            "route_config": { "virtual_hosts": [{
                "name": "all",
                "domains": ["*"],
                "routes": [{ "match": { "prefix": "/" }, "route": { "cluster": cluster, "timeout": "0s" } }],
            }]},
            "http_filters": [{
                "name": "envoy.filters.http.router",
                "typed_config": { "@type": kind("filters.http.router.v3.Router") },
            }],
        },
    }]});
    if let Some(tls) = tls {
        chain["transport_socket"] = socket("DownstreamTlsContext", tls);
    }
    json!({ "name": listen.to_string(), "address": address(listen), "filter_chains": [chain], "tcp_backlog_size": 8192 })
}

fn cluster(name: &str, to: SocketAddr, http2: bool, tls: Option<&Value>) -> Value {
    let protocol = if http2 {
        json!({ "http2_protocol_options": { "max_concurrent_streams": 1024, "allow_connect": true } })
    } else {
        json!({ "http_protocol_options": {} })
    };
    let unlimited = json!({
        "max_connections": 100_000, "max_pending_requests": 100_000, "max_requests": 100_000, "max_retries": 1000,
    });
    let mut cluster = json!({
        "name": name,
        "type": "STATIC",
        "connect_timeout": "5s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": address(to) } }] }],
        },
        "circuit_breakers": { "thresholds": [unlimited] },
        "typed_extension_protocol_options": { "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": kind("upstreams.http.v3.HttpProtocolOptions"),
            "explicit_http_config": protocol,
        }},
    });
    if let Some(tls) = tls {
        cluster["transport_socket"] = socket("UpstreamTlsContext", tls);
    }
    cluster
}

/// Mutual TLS with the certificate of this name, with a peer of that one.
fn mutual(dir: &Path, own: &str, peer: &str) -> Value {
    let common = json!({
        "tls_params": tls13(),
        "tls_certificates": [certificate(dir, own)],
        "validation_context": {
            "trusted_ca": { "filename": dir.join("ca.crt") },
            "match_typed_subject_alt_names": [{ "san_type": "DNS", "matcher": { "exact": peer } }],
        },
        "alpn_protocols": ["h2"],
    });
    if peer == SERVER_NAME {
        json!({ "sni": peer, "common_tls_context": common })
    } else {
        json!({ "require_client_certificate": true, "common_tls_context": common })
    }
}

fn tls13() -> Value {
    json!({ "tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3" })
}

fn certificate(dir: &Path, name: &str) -> Value {
    json!({
        "certificate_chain": { "filename": dir.join(format!("{name}.crt")) },
        "private_key": { "filename": dir.join(format!("{name}.key")) },
    })
}

fn socket(context: &str, tls: &Value) -> Value {
    let mut typed = tls.clone();
    typed["@type"] = kind(&format!("transport_sockets.tls.v3.{context}")).into();
    json!({ "name": "tls", "typed_config": typed })
}

fn kind(name: &str) -> String {
    format!("type.googleapis.com/envoy.extensions.{name}")
}

fn address(of: SocketAddr) -> Value {
    json!({ "socket_address": { "address": of.ip().to_string(), "port_value": of.port() } })
}
