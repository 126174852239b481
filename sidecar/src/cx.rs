//! What the steps of one request share. A step reads what earlier steps found out and writes what it found out itself;
//! steps never call each other.

use std::net::SocketAddr;
use std::sync::Arc;

use http::{Method, Version};
use tokio::time::Instant;
use weft_api::spiffe::SpiffeId;

use crate::policy::jwt::Claims;
use crate::policy::path::NormalPath;
use crate::policy::rate_limit::Standing;
use crate::telemetry::trace::TraceContext;

/// The connection a request came in on.
#[derive(Clone, Debug)]
pub struct ConnCx {
    /// Socket address of whoever connected.
    pub peer: SocketAddr,
    /// Verified SPIFFE identity of the peer; none without mutual TLS.
    pub identity: Option<Arc<SpiffeId>>,
    /// The port peers and rules name.
    pub port: u16,
    /// Whether the connection is TLS (`x-forwarded-proto` at a gateway).
    pub tls: bool,
}

/// One request on its way.
#[derive(Debug)]
pub struct RequestCx {
    /// Where it came from.
    pub conn: Arc<ConnCx>,
    /// `x-request-id`, made here where the request had none.
    pub id: Box<str>,
    /// Trace context of this hop.
    pub trace: TraceContext,
    /// When the head was read.
    pub started: Instant,
    /// Method as received.
    pub method: Method,
    /// Version as received.
    pub version: Version,
    /// Authority without port, lower case.
    pub host: Box<str>,
    /// Path after normalisation, without query; what all policies look at.
    pub path: NormalPath,
    /// Address of the client as the gateway saw it (`x-forwarded-for`'s last hop inside the mesh), else the peer's.
    pub client_ip: std::net::IpAddr,
    /// Whether answers must be gRPC.
    pub grpc: bool,
    /// Claims of the verified token.
    pub claims: Option<Arc<Claims>>,
    /// Name of the route or rule that was chosen, for the log.
    pub route: Option<Arc<str>>,
    /// Name of the authorization rule that allowed it.
    pub rule: Option<Arc<str>>,
    /// Destination chosen (outbound), `shop/product:http`.
    pub destination: Option<Arc<str>>,
    /// Endpoint that answered.
    pub endpoint: Option<SocketAddr>,
    /// Attempts made.
    pub attempts: u32,
    /// Key of the session that begins with this request.
    pub session: Option<u64>,
    /// How the tightest rate limit stands, where the answer is to say so.
    pub standing: Option<Standing>,
}

impl RequestCx {
    /// A GET that has come in on this connection and of which no step has found out anything yet.
    pub fn new(conn: Arc<ConnCx>, path: NormalPath, started: Instant) -> Self {
        Self {
            client_ip: conn.peer.ip(),
            conn,
            id: Box::default(),
            trace: TraceContext::default(),
            started,
            method: Method::GET,
            version: Version::HTTP_11,
            host: Box::default(),
            path,
            grpc: false,
            claims: None,
            route: None,
            rule: None,
            destination: None,
            endpoint: None,
            attempts: 0,
            session: None,
            standing: None,
        }
    }
}
