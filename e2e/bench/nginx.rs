//! nginx twice: as the origin of every path, and as the rival, tuned, on the same two hops with mutual TLS 1.3 and
//! keep-alive on both sides.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, Result};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tokio::process::{Child, Command};

use crate::load::BODY;

const NAME: &str = "server.mesh";

/// Serves 1 KiB at every path.
pub(crate) fn origin(dir: &Path, listen: SocketAddr) -> Result<Child> {
    let body = "x".repeat(BODY);
    let server = format!(
        "server {{ listen {listen} backlog=8192; location / {{ default_type text/plain; return 200 \"{body}\"; }} }}"
    );
    start(dir, "origin", &server)
}

/// The hop that accepts mutual TLS and forwards to the origin.
pub(crate) fn server(dir: &Path, listen: SocketAddr, origin: SocketAddr) -> Result<Child> {
    let d = dir.display();
    let server = format!(
        "upstream up {{ server {origin}; keepalive 256; keepalive_requests 1000000000; keepalive_timeout 3600s; }}
         server {{ listen {listen} ssl backlog=8192;
           ssl_certificate {d}/server.crt; ssl_certificate_key {d}/server.key;
           ssl_client_certificate {d}/ca.crt; ssl_verify_client on; ssl_protocols TLSv1.3;
           ssl_session_cache shared:SSL:10m; location / {{ proxy_pass http://up; }} }}"
    );
    start(dir, "server", &server)
}

/// The hop that the load talks to and that dials the server hop.
pub(crate) fn client(dir: &Path, listen: SocketAddr, server: SocketAddr) -> Result<Child> {
    let d = dir.display();
    let server = format!(
        "upstream up {{ server {server}; keepalive 256; keepalive_requests 1000000000; keepalive_timeout 3600s; }}
         server {{ listen {listen} backlog=8192; location / {{ proxy_pass https://up;
           proxy_ssl_certificate {d}/client.crt; proxy_ssl_certificate_key {d}/client.key;
           proxy_ssl_trusted_certificate {d}/ca.crt; proxy_ssl_verify on; proxy_ssl_name {NAME};
           proxy_ssl_server_name on; proxy_ssl_protocols TLSv1.3; proxy_ssl_session_reuse on; }} }}"
    );
    start(dir, "client", &server)
}

/// Writes an authority and a certificate for each hop (ECDSA P-256, as Weft's).
pub(crate) fn certificates(dir: &Path) -> Result<()> {
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "bench authority");
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    std::fs::write(dir.join("ca.crt"), ca.pem())?;
    for (file, name) in [("server", NAME), ("client", "client.mesh")] {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(vec![name.to_owned()])?;
        // Issuer and subject of one name would be taken for self-signed.
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.signed_by(&key, &ca)?;
        std::fs::write(dir.join(format!("{file}.crt")), certificate.pem())?;
        std::fs::write(dir.join(format!("{file}.key")), key.serialize_pem())?;
    }
    Ok(())
}

fn start(dir: &Path, name: &str, server: &str) -> Result<Child> {
    let d = dir.display();
    let workers = std::thread::available_parallelism()?.get();
    let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    let temp = kinds.map(|kind| format!("{kind}_temp_path {d}/{name}-{kind}; ")).concat();
    let config = format!(
        "worker_processes {workers}; daemon off; pid {d}/{name}.pid; error_log {d}/{name}.err warn;
         events {{ worker_connections 4096; }}
         http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 3600s; tcp_nodelay on; {temp}
         proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_set_header Host $host;
         proxy_max_temp_file_size 0; proxy_buffers 16 16k; proxy_buffer_size 16k;
         {server} }}"
    );
    let file = dir.join(format!("{name}.conf"));
    std::fs::write(&file, config)?;
    Command::new("nginx")
        .arg("-c")
        .arg(&file)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .context("starting nginx (`make bench` installs it on Debian: nginx-light)")
}
