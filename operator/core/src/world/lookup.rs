//! Who points to what: names in rules, hosts in addresses, references in routes, keys in Secrets.
//!
//! Every question that compile, status, validate and `affected` ask in common is answered here, so that they cannot
//! answer it differently.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use weft_api::names;
use weft_api::spiffe::SpiffeId;
use weft_crds::GATEWAY_GROUP;
use weft_crds::gateway_meta::ObjectReference;
use weft_crds::mesh::Redis;
use weft_crds::microservice::{Jwks, Microservice, MtlsMode, Port};

use super::World;
use super::object::{InstanceRef, Name, ObjectKind, ObjectRef, Stored};
use super::route::RouteView;
use crate::instances::{Instance, Role};

/// The word in `from.services` that means every Gateway of a namespace.
pub const ANY_GATEWAY: &str = "gateway";

/// Where a reference leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Backend {
    /// To that destination.
    Destination(String),
    /// The group or kind is not one that can be a backend.
    InvalidKind,
    /// There is no such service, or it has no such port.
    NotFound,
    /// It is in another namespace that does not grant it.
    NotPermitted,
}

/// An address split up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uri<'a> {
    /// Whether it is `https`.
    pub tls: bool,
    /// Host, without port and without the brackets of an IPv6 address.
    pub host: &'a str,
    /// Port, the scheme's own where none is given.
    pub port: u16,
    /// Path without query, at least `/`.
    pub path: &'a str,
    /// Whether it carries a user name or password.
    pub credentials: bool,
}

impl<'a> Uri<'a> {
    /// Splits an `http` or `https` address; none where it is not one.
    pub fn parse(text: &'a str) -> Option<Self> {
        let (tls, rest) = match text.strip_prefix("https://") {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix("http://")?),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, path) = (rest.get(..end)?, rest.get(end..)?);
        let path = path.split(['?', '#']).next().filter(|path| !path.is_empty()).unwrap_or("/");
        let (credentials, authority) = match authority.rsplit_once('@') {
            Some((_, authority)) => (true, authority),
            None => (false, authority),
        };
        let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
            Some((host, port)) => (host, port.strip_prefix(':')),
            None => match authority.rsplit_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        let default = if tls { 443 } else { 80 };
        let port = port.map_or(Ok(default), str::parse).ok()?;
        (!host.is_empty()).then_some(Self { tls, host, port, path, credentials })
    }
}

/// Whether nobody may make the operator fetch from there: link-local addresses and those under which clouds keep the
/// credentials of their machines. To be asked again with what a name resolves to.
pub fn forbidden_address(address: IpAddr) -> bool {
    let v4 = |address: Ipv4Addr| {
        address.is_link_local()
            || address.is_unspecified()
            || address.is_broadcast()
            || [
                Ipv4Addr::new(100, 100, 100, 200),
                Ipv4Addr::new(168, 63, 129, 16),
                Ipv4Addr::new(192, 0, 0, 192),
            ]
            .contains(&address)
    };
    match address {
        IpAddr::V4(address) => v4(address),
        IpAddr::V6(address) => {
            let aws = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);
            address.is_unicast_link_local()
                || address.is_unspecified()
                || address == aws
                || address.to_ipv4().is_some_and(v4)
        }
    }
}

/// Whether nobody may make the operator fetch from that host, as far as its text tells.
pub fn forbidden_host(host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let address: Option<IpAddr> = host.parse().ok();
    // What looks like a number is read as an address by some resolvers (`0xa9fea9fe`, `2852039166`).
    let number = host.strip_prefix("0x").unwrap_or(&host).bytes().all(|c| c.is_ascii_hexdigit())
        && host.bytes().next().is_some_and(|c| c.is_ascii_digit());
    address.is_some_and(forbidden_address)
        || (address.is_none() && number)
        || ["metadata", "metadata.google.internal", "instance-data"].contains(&host.as_str())
}

/// Names under which a service is called, in the order of length.
pub fn hosts(service: &Name) -> Vec<String> {
    let Name { namespace, name } = service;
    vec![
        name.clone(),
        format!("{name}.{namespace}"),
        format!("{name}.{namespace}.svc"),
        format!("{name}.{namespace}.svc.cluster.local"),
    ]
}

/// The service that a host names; none for a bare name, which says no namespace, and for hosts outside.
pub fn service_of_host(host: &str) -> Option<Name> {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let short =
        host.strip_suffix(".svc.cluster.local").or_else(|| host.strip_suffix(".svc")).unwrap_or(&host);
    let (name, namespace) = short.split_once('.')?;
    (!name.is_empty() && !namespace.is_empty() && !namespace.contains('.'))
        .then(|| Name::new(namespace, name))
}

/// Whether a host can only be a service of a cluster.
pub fn is_inside(host: &str) -> bool {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    [".svc", ".svc.cluster.local"].iter().any(|suffix| host.ends_with(suffix))
}

/// Service accounts that a service's instances are known to run as.
pub(super) fn accounts<'a>(instances: impl Iterator<Item = &'a Instance>) -> BTreeSet<&'a str> {
    let serving = instances.filter(|instance| instance.role == Role::Service && !instance.account.is_empty());
    serving.map(|instance| instance.account.as_str()).collect()
}

/// Service account of a Microservice's instances.
pub fn account<'a>(name: &'a Name, service: &'a Microservice) -> &'a str {
    let named = service.spec.workload.as_ref().and_then(|workload| workload.service_account_name.as_deref());
    named.unwrap_or(&name.name)
}

impl World {
    pub(super) fn object(&self, reference: &ObjectRef) -> Option<Stored<'_>> {
        let name = &reference.name;
        match reference.kind {
            ObjectKind::Microservice => self.microservices.get(name).map(Stored::Microservice),
            ObjectKind::Mesh => self.meshes.get(name).map(Stored::Mesh),
            ObjectKind::Gateway => self.gateways.get(name).map(Stored::Gateway),
            ObjectKind::HttpRoute => self.http_routes.get(name).map(Stored::HttpRoute),
            ObjectKind::GrpcRoute => self.grpc_routes.get(name).map(Stored::GrpcRoute),
            ObjectKind::TlsRoute => self.tls_routes.get(name).map(Stored::TlsRoute),
            ObjectKind::ReferenceGrant => self.grants.get(name).map(Stored::ReferenceGrant),
            ObjectKind::Secret => self.secrets.get(name).map(Stored::Secret),
            ObjectKind::GatewayClass => self.classes.get(name).map(Stored::GatewayClass),
            ObjectKind::Service => self.services.get(name).map(Stored::Service),
            ObjectKind::Namespace => self.namespaces.get(name).map(Stored::Namespace),
        }
    }

    /// Identity of a service account in this mesh.
    pub fn identity(&self, namespace: &str, account: &str) -> String {
        let trust_domain = &self.mesh().trust_domain;
        SpiffeId::new(trust_domain, namespace, account).map_or_else(
            |_| format!("spiffe://{trust_domain}/ns/{namespace}/sa/{account}"),
            |id| id.to_string(),
        )
    }

    /// Identity of the operator.
    pub fn operator_identity(&self) -> String {
        self.identity(names::SYSTEM_NAMESPACE, names::OPERATOR_ACCOUNT)
    }

    /// Identities that may answer for a workload: that of its service account, and those of its instances. A service
    /// that others run has none of its own, once it has instances.
    pub fn serving_identities(&self, workload: &Name) -> Vec<String> {
        let accounts = accounts(self.instances_of(workload));
        let own = accounts.is_empty() || !self.is_attached(workload);
        self.identities(workload, accounts, own)
    }

    /// Identities that a rule means by the name of a workload: that of its service account; those of the instances of a
    /// service that others run.
    pub fn calling_identities(&self, workload: &Name) -> Vec<String> {
        if !self.is_attached(workload) {
            return self.identities(workload, BTreeSet::new(), true);
        }
        let accounts = accounts(self.instances_of(workload));
        let own = accounts.is_empty();
        self.identities(workload, accounts, own)
    }

    fn identities<'a>(
        &'a self,
        workload: &'a Name,
        mut accounts: BTreeSet<&'a str>,
        own: bool,
    ) -> Vec<String> {
        let service = self.microservices.get(workload);
        let declared = service.map_or(workload.name.as_str(), |service| account(workload, service));
        accounts.extend(own.then_some(declared));
        accounts.into_iter().map(|account| self.identity(&workload.namespace, account)).collect()
    }

    /// Whether a Microservice attaches to pods that others run.
    fn is_attached(&self, workload: &Name) -> bool {
        self.microservices.get(workload).is_some_and(|service| service.spec.workload.is_none())
    }

    /// Identity of an instance: that of its service account, else that of its workload.
    pub fn instance_identity(&self, instance: &InstanceRef) -> String {
        let account = self.instance_account(instance).unwrap_or_else(|| instance.workload.clone());
        self.identity(&account.namespace, &account.name)
    }

    /// Service account (namespace and name) of an instance that is known, else that of its workload if it is.
    pub fn instance_account(&self, instance: &InstanceRef) -> Option<Name> {
        let workload = &instance.workload;
        let own = self.instance(instance).map(|instance| instance.account.as_str());
        let own = own.filter(|account| !account.is_empty());
        own.map(|account| Name::new(&workload.namespace, account)).or_else(|| self.account_of(workload))
    }

    /// Service account (namespace and name) of a workload that is known, else none.
    pub fn account_of(&self, workload: &Name) -> Option<Name> {
        let service = self.microservices.get(workload).map(|service| account(workload, service));
        let gateway = self.gateways.get(workload).map(|_| workload.name.as_str());
        service.or(gateway).map(|account| Name::new(&workload.namespace, account))
    }

    /// Workloads that a name in `from.services` of a service in `own` means, in this order: the Microservice so called;
    /// for the word `gateway` every Gateway of the namespace; the Gateway so called. None of them: empty.
    pub fn callers(&self, text: &str, own: &str) -> Vec<Name> {
        let name = Name::relative(text, own);
        if self.microservices.contains_key(&name) {
            return vec![name];
        }
        if name.name == ANY_GATEWAY {
            return self
                .gateways
                .keys()
                .filter(|gateway| gateway.namespace == name.namespace)
                .cloned()
                .collect();
        }
        self.gateways.contains_key(&name).then_some(name).into_iter().collect()
    }

    /// Mutual TLS mode in force at a service.
    pub fn mtls_mode(&self, service: &Microservice) -> MtlsMode {
        weft_crds::microservice::Mtls::effective(
            service.spec.mtls.as_ref(),
            self.mesh().defaults.mtls.as_ref(),
        )
    }

    /// Names of the destinations of a service: one for each port.
    pub fn destinations_of(&self, service: &Name) -> Vec<String> {
        let ports =
            self.microservices.get(service).map(|service| service.spec.ports.as_slice()).unwrap_or_default();
        ports.iter().map(|port| names::destination(&service.namespace, &service.name, &port.name)).collect()
    }

    /// Service and port of a destination.
    pub fn destination(&self, name: &str) -> Option<(Name, &Microservice, &Port)> {
        let (namespace, service, port) = names::split_destination(name)?;
        let key = Name::new(namespace, service);
        let service = self.microservices.get(&key)?;
        Some((key, service, service.spec.port(port)?))
    }

    /// The destination under that host and port; none outside the mesh.
    pub fn destination_at(&self, host: &str, port: u16) -> Option<String> {
        let name = service_of_host(host)?;
        let service = self.microservices.get(&name)?;
        let port = service.spec.ports.iter().find(|candidate| candidate.port == port)?;
        Some(names::destination(&name.namespace, &name.name, &port.name))
    }

    /// Where a reference of a route leads.
    pub fn backend(&self, route: RouteView<'_>, reference: &ObjectReference) -> Backend {
        if !reference.is_core("Service", "Service") {
            return Backend::InvalidKind;
        }
        let own = route.name().namespace;
        let name = Name::new(reference.namespace_or(&own), &reference.name);
        if !self.permits((route.kind(), &own), (ObjectKind::Microservice, &name)) {
            return Backend::NotPermitted;
        }
        let service = self.microservices.get(&name);
        let port = service.and_then(|service| {
            service.spec.ports.iter().find(|candidate| Some(candidate.port) == reference.port)
        });
        match port {
            Some(port) => Backend::Destination(names::destination(&name.namespace, &name.name, &port.name)),
            None => Backend::NotFound,
        }
    }

    /// Whether an object of that kind and namespace may point to that Service or Secret: in its own namespace always,
    /// into another one where a `ReferenceGrant` there says so.
    pub fn permits(&self, from: (ObjectKind, &str), to: (ObjectKind, &Name)) -> bool {
        let (namespace, name) = (to.1.namespace.as_str(), to.1.name.as_str());
        let kind = if to.0 == ObjectKind::Secret { "Secret" } else { "Service" };
        let allows = |grant: &weft_crds::reference_grant::ReferenceGrant| {
            grant.spec.allows((GATEWAY_GROUP, from.0.as_str(), from.1), ("", kind, name))
        };
        from.1 == namespace
            || self.grants.iter().any(|(grant, object)| grant.namespace == namespace && allows(object))
    }

    /// A value of a Secret as text.
    pub fn secret_text(&self, secret: &Name, key: &str) -> Option<String> {
        let secret = self.secrets.get(secret)?;
        if let Some(text) = secret.string_data.as_ref().and_then(|data| data.get(key)) {
            return Some(text.clone());
        }
        let bytes = secret.data.as_ref()?.get(key)?;
        String::from_utf8(bytes.0.clone()).ok()
    }

    /// The Secret that the mesh's Redis address is in.
    pub fn redis_secret(&self) -> Option<(Name, &str)> {
        let secret = self.mesh().redis.as_ref()?.secret_ref.as_ref()?;
        Some((Name::new(names::SYSTEM_NAMESPACE, &secret.name), &secret.key))
    }

    /// Address of the mesh's Redis, empty where there is none.
    pub fn redis_url(&self) -> String {
        let url = self.mesh().redis.as_ref().and_then(|redis: &Redis| redis.url.clone());
        let secret = || self.redis_secret().and_then(|(secret, key)| self.secret_text(&secret, key));
        url.or_else(secret).unwrap_or_default()
    }

    /// Paths under which a service serves key sets that services of the mesh use.
    pub fn key_paths(&self, service: &Name) -> Vec<String> {
        let users = self.index.keyed_at.of(service).filter_map(|user| self.microservices.get(user));
        let all = users.flat_map(jwks_of).filter_map(|jwks| jwks.uri.as_deref());
        let here =
            all.filter_map(Uri::parse).filter(|uri| service_of_host(uri.host).as_ref() == Some(service));
        let mut paths: Vec<String> = here.map(|uri| uri.path.to_owned()).collect();
        paths.sort();
        paths.dedup();
        paths
    }
}

/// The services that serve a key set which that service uses.
pub(super) fn key_hosts(service: &Microservice) -> impl Iterator<Item = Name> {
    let uris = jwks_of(service).filter_map(|jwks| jwks.uri.as_deref());
    uris.filter_map(Uri::parse).filter_map(|uri| service_of_host(uri.host))
}

/// Key sets of a service's issuers.
pub fn jwks_of(service: &Microservice) -> impl Iterator<Item = &Jwks> {
    let authentication = service.spec.authentication.as_ref();
    authentication.into_iter().flat_map(|authentication| &authentication.jwt).map(|provider| &provider.jwks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_split() {
        let check = |text: &str, expect: (bool, &str, u16, &str)| {
            let uri = Uri::parse(text).unwrap();
            assert_eq!((uri.tls, uri.host, uri.port, uri.path), expect, "{text}");
        };
        check(
            "http://user.shop.svc/.well-known/jwks.json",
            (false, "user.shop.svc", 80, "/.well-known/jwks.json"),
        );
        check("https://issuer.example", (true, "issuer.example", 443, "/"));
        check("https://issuer.example:8443/keys?x=/y#z", (true, "issuer.example", 8443, "/keys"));
        check("http://[fe80::1]:80/", (false, "fe80::1", 80, "/"));
        check("http://a?b", (false, "a", 80, "/"));
        assert!(Uri::parse("http://user:pass@host/").unwrap().credentials);
        for bad in ["", "ftp://a/", "http://", "http:///x", "http://a:b/", "http://a:99999/"] {
            assert_eq!(Uri::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn metadata_and_link_local_hosts_are_forbidden() {
        for host in [
            "169.254.169.254",
            "fe80::1",
            "::ffff:169.254.169.254",
            "fd00:ec2::254",
            "100.100.100.200",
            "168.63.129.16",
            "0.0.0.0",
            "::",
            "metadata.google.internal",
            "Metadata.Google.Internal.",
            "2852039166",
            "0xa9fea9fe",
        ] {
            assert!(forbidden_host(host), "{host}");
        }
        for host in
            ["user.shop.svc", "10.0.0.1", "127.0.0.1", "issuer.example", "fd00::1", "cafe", "1.example"]
        {
            assert!(!forbidden_host(host), "{host}");
        }
    }

    #[test]
    fn hosts_and_services_fit() {
        let user = Name::new("shop", "user");
        for host in hosts(&user).iter().skip(1) {
            assert_eq!(service_of_host(host), Some(user.clone()), "{host}");
        }
        assert_eq!(service_of_host("User.Shop.svc."), Some(user));
        for host in ["user", "user.shop.example", "a.b.c.svc", ".svc", "svc.cluster.local.x"] {
            assert_eq!(service_of_host(host), None, "{host}");
        }
    }
}
