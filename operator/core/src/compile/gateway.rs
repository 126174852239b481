//! What a gateway's proxy listens on, with certificates and routes.
//!
//! A listener that cannot be served (it speaks something else, its certificate is missing) is left out, and the status
//! says so; the others go on. What the routes lead to is compiled beside (see `compile`).

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use weft_api::names::gateway_port;
use weft_api::v1;
use weft_crds::gateway::{Gateway, Listener, ListenerProtocol, TlsMode};

use super::attach::passes_through;
use super::resource::Body;
use super::routes;
use crate::world::{InstanceRef, Name, ObjectKind, World};

/// Why a listener cannot be served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unserved {
    /// Its protocol, or the way its TLS ends, is not one that Weft serves.
    Protocol(String),
    /// It clashes with another listener.
    Conflict {
        /// `ProtocolConflict` or `HostnameConflict`.
        reason: &'static str,
        /// With which.
        message: String,
    },
    /// Its certificate cannot be used; the word is the reason in the status.
    Certificate {
        /// `InvalidCertificateRef` or `RefNotPermitted`.
        reason: &'static str,
        /// What is wrong.
        message: String,
    },
}

/// How a listener is served.
#[derive(Clone, Debug, PartialEq)]
pub enum Served {
    /// Plain HTTP.
    Plain,
    /// TLS ends here, with this certificate.
    Tls(v1::ServerCertificate),
    /// TLS goes through, by the server name it asks for.
    Through,
}

impl Served {
    fn certificate(self) -> Option<v1::ServerCertificate> {
        match self {
            Self::Tls(certificate) => Some(certificate),
            Self::Plain | Self::Through => None,
        }
    }
}

/// Routes of a listener with the name of their resource.
pub type NamedRoutes = (String, v1::Routes);

/// The Gateway resource of an instance, and the routes of its listeners by name.
pub fn of(world: &World, instance: &InstanceRef, gateway: &Gateway) -> (Body, Vec<NamedRoutes>) {
    let name = &instance.workload;
    let mut listeners = Vec::new();
    let mut all_routes = Vec::new();
    for listener in &gateway.spec.listeners {
        let Ok(served) = serve(world, (name, gateway), listener) else { continue };
        let bound = world.instance(instance).and_then(|instance| instance.listeners.get(&listener.name));
        let routes_name = format!("{name}/{}", listener.name);
        listeners.push(v1::GatewayListener {
            name: listener.name.clone(),
            listen: bound
                .map_or_else(|| format!("0.0.0.0:{}", gateway_port(listener.port)), ToString::to_string),
            passthrough: served == Served::Through,
            tls: served.certificate(),
            hostname: listener.hostname.clone().unwrap_or_default().to_ascii_lowercase(),
            routes: routes_name.clone(),
        });
        all_routes.push((routes_name, routes::of_listener(world, (name, gateway), listener)));
    }
    let identity = world.identity(&name.namespace, &name.name);
    (Body::Gateway(v1::Gateway { identity, listeners }), all_routes)
}

/// Whether a listener can be served, and how.
pub fn serve(world: &World, gateway: (&Name, &Gateway), listener: &Listener) -> Result<Served, Unserved> {
    if let Some((reason, message)) = conflict(gateway.1, listener) {
        return Err(Unserved::Conflict { reason, message });
    }
    match &listener.protocol {
        ListenerProtocol::Http => Ok(Served::Plain),
        ListenerProtocol::Https => certificate(world, gateway.0, listener).map(Served::Tls),
        ListenerProtocol::Tls if passes_through(listener) => Ok(Served::Through),
        ListenerProtocol::Tls => {
            Err(Unserved::Protocol("TLS that ends at the gateway is served as HTTPS only".to_owned()))
        }
        ListenerProtocol::Tcp => Err(Unserved::Protocol("protocol TCP is not served".to_owned())),
        ListenerProtocol::Other(other) => Err(Unserved::Protocol(format!("protocol {other} is not served"))),
    }
}

/// The clash of a listener with another one of its Gateway: on one port all must begin alike (with TLS or without), for
/// other hosts.
pub fn conflict(gateway: &Gateway, listener: &Listener) -> Option<(&'static str, String)> {
    let host = |listener: &Listener| listener.hostname.as_deref().unwrap_or_default().to_ascii_lowercase();
    let others = gateway.spec.listeners.iter().filter(|other| other.name != listener.name);
    let mut beside = others.filter(|other| other.port == listener.port);
    beside.find_map(|other| {
        let (name, port) = (&other.name, listener.port);
        if !begin_alike(&other.protocol, &listener.protocol) {
            Some(("ProtocolConflict", format!("listener `{name}` speaks another protocol on port {port}")))
        } else if host(other) == host(listener) {
            Some(("HostnameConflict", format!("listener `{name}` has the same hostname on port {port}")))
        } else {
            None
        }
    })
}

/// Whether the server name tells connections of both apart.
fn begin_alike(one: &ListenerProtocol, other: &ListenerProtocol) -> bool {
    let tls = |protocol| matches!(protocol, &ListenerProtocol::Https | &ListenerProtocol::Tls);
    one == other || (tls(one) && tls(other))
}

fn certificate(
    world: &World,
    gateway: &Name,
    listener: &Listener,
) -> Result<v1::ServerCertificate, Unserved> {
    let invalid = |message: String| Unserved::Certificate { reason: "InvalidCertificateRef", message };
    let tls = listener.tls.as_ref().ok_or_else(|| invalid("HTTPS needs tls.certificateRefs".to_owned()))?;
    if tls.mode != TlsMode::Terminate {
        return Err(Unserved::Protocol("TLS of an HTTPS listener must end at the gateway".to_owned()));
    }
    let reference =
        tls.certificate_refs.first().ok_or_else(|| invalid("tls.certificateRefs is empty".to_owned()))?;
    if !reference.is_core("Secret", "Secret") {
        return Err(invalid(format!("certificate {} is not a Secret", reference.name)));
    }
    let secret = Name::new(reference.namespace_or(&gateway.namespace), &reference.name);
    if !world.permits((ObjectKind::Gateway, &gateway.namespace), (ObjectKind::Secret, &secret)) {
        let message =
            format!("no ReferenceGrant in {} lets the Gateway use Secret {secret}", secret.namespace);
        return Err(Unserved::Certificate { reason: "RefNotPermitted", message });
    }
    from_secret(world, &secret).map_err(invalid)
}

fn from_secret(world: &World, secret: &Name) -> Result<v1::ServerCertificate, String> {
    let text = |key: &str| {
        world.secret_text(secret, key).ok_or_else(|| format!("Secret {secret} is not there or has no {key}"))
    };
    let (chain, key) = (text("tls.crt")?, text("tls.key")?);
    let certificates = CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<Vec<_>, _>>();
    if !certificates.is_ok_and(|certificates| !certificates.is_empty()) {
        return Err(format!("tls.crt of Secret {secret} holds no certificate in PEM"));
    }
    if PrivateKeyDer::from_pem_slice(key.as_bytes()).is_err() {
        return Err(format!("tls.key of Secret {secret} holds no private key in PEM"));
    }
    Ok(v1::ServerCertificate { chain, key })
}
