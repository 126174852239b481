//! TLS that goes through the gateway: by its server name to an application that ends it itself.

use std::io;
use std::sync::Arc;

use rustls::AlertDescription;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use weft_e2e::apps::http::HttpApp;
use weft_e2e::apps::tls::TlsApp;
use weft_e2e::client::{get, trusting};
use weft_e2e::manifest::{self, gateway, http_route};
use weft_e2e::mesh::Mesh;

const PASSTHROUGH: &str = "{name: tls, port: 8443, protocol: TLS, tls: {mode: Passthrough}}";

/// A service that takes raw bytes.
fn service(name: &str) -> String {
    format!(
        "---\napiVersion: weft.dev/v1alpha1\nkind: Microservice\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec: {{ports: [{{name: tls, port: 443, targetPort: 8443, protocol: TCP}}]}}\n"
    )
}

fn route(name: &str, hosts: &str, backends: &str) -> String {
    format!(
        "---\napiVersion: gateway.networking.k8s.io/v1\nkind: TLSRoute\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec: {{parentRefs: [{{name: public}}], hostnames: [{hosts}], rules: [{{backendRefs: [{backends}]}}]}}\n"
    )
}

/// Two applications, each with a host of its own.
async fn mail_and_files() -> (Mesh, TlsApp, TlsApp) {
    let (mail, files) = (TlsApp::echo("mail.example").await, TlsApp::echo("files.example").await);
    let manifests = [
        service("mail"),
        service("files"),
        gateway(&[PASSTHROUGH]),
        route("mail", "Mail.example", "{name: mail, port: 443}"),
        route("files", "\"*.example\"", "{name: files, port: 443}"),
    ];
    let mut mesh = Mesh::new(&manifests.concat());
    mesh.add("mail-0", &[("tls", mail.addr)]);
    mesh.add("files-0", &[("tls", files.addr)]);
    mesh.add_gateway("public-0", &["tls"]);
    (mesh, mail, files)
}

/// Connects to this listener and asks for that host, trusting one certificate alone.
async fn connect(
    mesh: &Mesh,
    listener: &str,
    host: &str,
    trusted: &CertificateDer<'static>,
) -> io::Result<TlsStream<TcpStream>> {
    let config = trusting(trusted, &[b"imap", b"http/1.1"]);
    let stream = TcpStream::connect(mesh.listener("public-0", listener)).await.unwrap();
    let name = ServerName::try_from(host.to_owned()).unwrap();
    TlsConnector::from(Arc::new(config)).connect(name, stream).await
}

fn alert_of(error: &io::Error) -> Option<AlertDescription> {
    match error.get_ref()?.downcast_ref::<rustls::Error>()? {
        rustls::Error::AlertReceived(alert) => Some(*alert),
        _ => None,
    }
}

async fn metrics(mesh: &Mesh) -> String {
    get(mesh.page("public-0", "metrics"), "/metrics").await.text()
}

fn value(metrics: &str, name: &str, labels: &[&str]) -> u64 {
    let is_it = |line: &&str| line.starts_with(name) && labels.iter().all(|label| line.contains(label));
    let line = metrics.lines().find(is_it);
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or_default()
}

#[tokio::test]
async fn each_host_goes_to_its_application_which_ends_tls_itself() {
    let (mesh, mail, files) = mail_and_files().await;
    for (host, app) in [("mail.example", &mail), ("files.example", &files)] {
        let mut stream = connect(&mesh, "tls", host, &app.certificate).await.unwrap();
        let seen = stream.get_ref().1.peer_certificates().unwrap();
        assert_eq!(seen, std::slice::from_ref(&app.certificate), "{host} shows its own certificate");
        let mut greeting = [0; 5];
        stream.read_exact(&mut greeting).await.unwrap();
        assert_eq!(&greeting, b"imap\n", "ALPN is between client and application");
    }
}

#[tokio::test]
async fn a_name_without_a_route_is_refused_with_the_alert_for_it() {
    let (mut mesh, mail, _files) = mail_and_files().await;
    let error = connect(&mesh, "tls", "mail.test", &mail.certificate).await.unwrap_err();
    assert_eq!(alert_of(&error), Some(AlertDescription::UnrecognisedName), "{error}");
    let error = connect(&mesh, "tls", "127.0.0.1", &mail.certificate).await.unwrap_err();
    assert_eq!(alert_of(&error), Some(AlertDescription::UnrecognisedName), "no name at all: {error}");
    // A backend that is not there: the connection ends, and nothing is said.
    mesh.apply(&route("mail", "mail.example", "{name: nobody, port: 443}"));
    let error = connect(&mesh, "tls", "mail.example", &mail.certificate).await.unwrap_err();
    assert_eq!((alert_of(&error), error.kind()), (None, io::ErrorKind::UnexpectedEof), "{error}");
    weft_e2e::eventually("all of them are counted", async || {
        let text = metrics(&mesh).await;
        let failed = value(&text, "weft_tls_handshake_failures_total", &["gateway", "\"unknown-name\""]);
        let refused = value(&text, "weft_rejections_total", &["gateway", "\"no-route\""]);
        let invalid = value(&text, "weft_rejections_total", &["gateway", "\"invalid-route\""]);
        ((failed, refused, invalid) == (2, 2, 1)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_is_no_tls_is_told_so_and_counted() {
    let (mesh, ..) = mail_and_files().await;
    let mut stream = TcpStream::connect(mesh.listener("public-0", "tls")).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: mail.example\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert_eq!((answer.first(), answer.len()), (Some(&21), 7), "an alert: {answer:?}");
    drop(stream);
    weft_e2e::eventually("it is counted", async || {
        let labels = ["gateway", "\"protocol\""];
        let count = value(&metrics(&mesh).await, "weft_tls_handshake_failures_total", &labels);
        (count == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_connection_lives_through_updates_ends_by_halves_and_its_bytes_are_counted() {
    let (mut mesh, mail, files) = mail_and_files().await;
    let mut stream = connect(&mesh, "tls", "mail.example", &mail.certificate).await.unwrap();
    let mut greeting = [0; 5];
    stream.read_exact(&mut greeting).await.unwrap();
    mesh.apply(&route("mail", "mail.example", "{name: files, port: 443}"));
    mesh.renew();
    let sent: Vec<u8> = (0..300_000_u32).map(|at| (at % 251) as u8).collect();
    let (mut reader, mut writer) = tokio::io::split(stream);
    let writing = async {
        writer.write_all(&sent).await.unwrap();
        writer.shutdown().await.unwrap();
    };
    let mut answer = Vec::new();
    let ((), read) = tokio::join!(writing, reader.read_to_end(&mut answer));
    read.unwrap();
    assert!(answer.strip_suffix(b"bye").is_some_and(|echoed| echoed == sent), "{} bytes", answer.len());
    weft_e2e::eventually("the connection is counted as a raw one, with all its bytes", async || {
        let text = metrics(&mesh).await;
        let peer = ["gateway", "\"shop/mail:tls\""];
        let bytes = |flow| value(&text, "weft_tcp_bytes_total", &[peer[0], peer[1], flow]);
        let counted = bytes("received") > 300_000 && bytes("sent") > 300_000;
        let closed = value(&text, "weft_tcp_connections_open", &peer) == 0;
        (counted && closed && value(&text, "weft_tcp_connections_total", &peer) == 1).then_some(())
    })
    .await;
    // The next one goes by the new route, to an application with a certificate for another host.
    let error = connect(&mesh, "tls", "mail.example", &files.certificate).await.unwrap_err();
    assert!(error.to_string().contains("not valid for name"), "{error}");
}

#[tokio::test]
async fn an_instance_that_does_not_answer_is_passed_over() {
    let (mut mesh, mail, _files) = mail_and_files().await;
    mesh.add("mail-1", &[("tls", mail.addr)]);
    mesh.stop("mail-1", false).await;
    for _ in 0..8 {
        connect(&mesh, "tls", "mail.example", &mail.certificate).await.unwrap();
    }
}

#[tokio::test]
async fn on_one_port_tls_ends_for_one_host_and_goes_through_for_another() {
    let certified = rcgen::generate_simple_self_signed(vec!["shop.example".to_owned()]).unwrap();
    let text = |pem: String| serde_json::to_string(&pem).unwrap();
    let secret = format!(
        "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: edge, namespace: shop}}\n\
         stringData: {{tls.crt: {}, tls.key: {}}}\n",
        text(certified.cert.pem()),
        text(certified.signing_key.serialize_pem())
    );
    let ends = "{name: https, port: 8443, protocol: HTTPS, hostname: '*.example', tls: {certificateRefs: [{name: edge}]}}";
    let passes = "{name: tls, port: 8443, protocol: TLS, hostname: mail.example, tls: {mode: Passthrough}}";
    let (mail, web) = (TlsApp::echo("mail.example").await, HttpApp::start("product").await);
    let manifests = [
        manifest::service("product", ""),
        service("mail"),
        secret,
        gateway(&[ends, passes]),
        http_route("  - {backendRefs: [{name: product, port: 80}]}"),
        route("mail", "\"*.example\"", "{name: mail, port: 443}"),
    ];
    let mut mesh = Mesh::new(&manifests.concat());
    mesh.add("mail-0", &[("tls", mail.addr)]);
    mesh.add("product-0", &[("http", web.addr)]);
    mesh.add_gateway("public-0", &["https", "tls"]);
    assert_eq!(mesh.listener("public-0", "https"), mesh.listener("public-0", "tls"));

    let through = connect(&mesh, "tls", "mail.example", &mail.certificate).await.unwrap();
    assert_eq!(through.get_ref().1.alpn_protocol(), Some(&b"imap"[..]));
    for (host, status) in [("shop.example", 200), ("mail.example", 404)] {
        let mut ends = connect(&mesh, "https", "shop.example", certified.cert.der()).await.unwrap();
        let request = format!("GET /x HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
        ends.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        ends.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{host}: {answer}");
    }
    assert_eq!(get(mesh.page("public-0", "health"), "/ready").await.status, 200, "one socket serves both");

    // Without the first of them the other one keeps the socket.
    mesh.apply(&gateway(&[PASSTHROUGH]));
    connect(&mesh, "tls", "mail.example", &mail.certificate).await.unwrap();
    let error = connect(&mesh, "tls", "shop.test", certified.cert.der()).await.unwrap_err();
    assert_eq!(alert_of(&error), Some(AlertDescription::UnrecognisedName), "{error}");
}
