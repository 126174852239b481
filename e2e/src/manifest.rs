//! Manifests that many tests begin with, all of the namespace `shop`: what a test is about stands in the test.
//!
//! Each begins with `---`, so that those of a mesh are written one after the other.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::CertificateDer;

/// A Microservice with a port called `http`; `more` goes on with its spec.
pub fn service(name: &str, more: &str) -> String {
    service_on(("http", "HTTP"), name, more)
}

/// As [`service`], with a port of another name and protocol.
pub fn service_on((port, protocol): (&str, &str), name: &str, more: &str) -> String {
    format!(
        "\
---
apiVersion: weft.dev/v1alpha1
kind: Microservice
metadata: {{name: {name}, namespace: shop}}
spec:
  ports: [{{name: {port}, port: 80, targetPort: 8080, protocol: {protocol}}}]
{more}
"
    )
}

/// The Gateway `public` with these listeners.
pub fn gateway(listeners: &[&str]) -> String {
    format!(
        "\
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: public, namespace: shop}}
spec:
  gatewayClassName: weft
  listeners: [{}]
",
        listeners.join(", ")
    )
}

/// A route of the Gateway `public`; its rules are items of a list, indented by two.
pub fn http_route(rules: &str) -> String {
    format!(
        "\
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: all, namespace: shop}}
spec:
  parentRefs: [{{name: public}}]
  rules:
{rules}
"
    )
}

/// The Secret `edge` with a certificate for this host, and that certificate.
pub fn secret(host: &str) -> (String, CertificateDer<'static>) {
    let certified = rcgen::generate_simple_self_signed(vec![host.to_owned()]).unwrap();
    let secret = format!(
        "\
---
apiVersion: v1
kind: Secret
type: kubernetes.io/tls
metadata: {{name: edge, namespace: shop}}
data: {{tls.crt: {}, tls.key: {}}}
",
        STANDARD.encode(certified.cert.pem()),
        STANDARD.encode(certified.signing_key.serialize_pem())
    );
    (secret, certified.cert.der().clone())
}
