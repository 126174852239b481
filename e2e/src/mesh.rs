//! A mesh inside this process: manifests compiled by the real core, certificates signed by the real authority, real
//! proxies on loopback. What is left out is the operator's stream, which has tests of its own.
//!
//! Every instance has a loopback address to itself, as under `weft run`, so tests run side by side.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::PrivatePkcs8KeyDer;
use weft_api::spiffe::SpiffeId;
use weft_api::tls::Identity;
use weft_api::{names, v1};
use weft_core::ca::{Ca, Lifetime};
use weft_core::compile;
use weft_core::instances::{Instance, PortAddresses, Role};
use weft_core::world::{Change, InstanceRef, Name, Object, World};
use weft_crds::manifest;
use weft_sidecar::app::{Handle, Proxy, Source};
use weft_sidecar::settings::Settings;
use weft_sidecar::tls::TlsMaterial;

use crate::tokens::now;

/// The access log would drown what a failing test says; a test that wants it brings a Mesh of its own.
const QUIET: &str = "\
apiVersion: weft.dev/v1alpha1
kind: Mesh
metadata: {name: default}
spec: {accessLog: None}
";
const HOUR: Duration = Duration::from_hours(1);

/// A mesh of proxies in this process.
pub struct Mesh {
    world: World,
    ca: Ca,
    members: BTreeMap<String, Member>,
    /// Instances without a proxy.
    bare: Vec<Instance>,
    /// What others are told instead of where a proxy listens.
    detours: BTreeMap<String, String>,
}

struct Member {
    instance: Instance,
    proxy: Handle,
}

impl Mesh {
    /// A mesh of these manifests, without any instance yet. Panics on the first problem in them.
    pub fn new(manifests: &str) -> Self {
        let ca = Ca::new(names::DEFAULT_TRUST_DOMAIN, now(), 24 * HOUR).unwrap();
        let mut mesh = Self {
            world: World::default(),
            ca,
            members: BTreeMap::new(),
            bare: Vec::new(),
            detours: BTreeMap::new(),
        };
        mesh.upsert(QUIET);
        mesh.upsert(manifests);
        mesh
    }

    /// Starts a sidecar beside an application: `instance` is `<service>-<n>` of the namespace `shop`, `apps` says where
    /// the application listens for each port name.
    pub fn add(&mut self, instance: &str, apps: &[(&str, SocketAddr)]) {
        let mut new = in_shop(instance, Role::Service);
        for (index, (port, app)) in (0..).zip(apps) {
            let peers = SocketAddr::new(new.address, 15200 + index);
            new.ports.insert((*port).to_owned(), PortAddresses { app: *app, peers });
        }
        for (index, destination) in (0..).zip(self.world.destinations()) {
            new.outbound.insert(destination, SocketAddr::new(new.address, 15100 + index));
        }
        self.start(new, Settings::in_process());
    }

    /// Adds an instance without a proxy, which callers reach in plain text where its service permits that.
    pub fn add_bare(&mut self, instance: &str, apps: &[(&str, SocketAddr)]) {
        let mut new = in_shop(instance, Role::Service);
        let addresses =
            apps.iter().map(|(port, app)| ((*port).to_owned(), PortAddresses { app: *app, peers: *app }));
        new.ports.extend(addresses);
        new.meshed = false;
        self.bare.push(new);
        self.push();
    }

    /// Starts the proxy of a Gateway of the namespace `shop`, with these listeners. Those of one port share an address.
    pub fn add_gateway(&mut self, instance: &str, listeners: &[&str]) {
        let mut new = in_shop(instance, Role::Gateway);
        let spec = &self.world.gateway(&Name::new("shop", &new.service)).expect("the Gateway is there").spec;
        let port = |name: &str| spec.listeners.iter().find(|listener| listener.name == name).map(|l| l.port);
        for (index, listener) in (0..).zip(listeners) {
            let first = (0..).zip(listeners).find(|(_, other)| port(other) == port(listener));
            let index = first.map_or(index, |(first, _)| first);
            new.listeners.insert((*listener).to_owned(), SocketAddr::new(new.address, 8080 + index));
        }
        let settings =
            Settings { mode: Some(weft_sidecar::settings::Mode::Gateway), ..Settings::in_process() };
        self.start(new, settings);
    }

    /// Applies manifests to the running mesh; every request that starts afterwards is under them.
    pub fn apply(&mut self, manifests: &str) {
        self.upsert(manifests);
        self.push();
    }

    /// Says in which zone an instance runs.
    pub fn place(&mut self, instance: &str, zone: &str) {
        let member = self.members.get_mut(instance).expect("the instance is there");
        zone.clone_into(&mut member.instance.zone);
        self.push();
    }

    /// Says for callers of which zones an instance is meant, as hints of an `EndpointSlice` do.
    pub fn hint(&mut self, instance: &str, zones: &[&str]) {
        let member = self.members.get_mut(instance).expect("the instance is there");
        member.instance.for_zones = zones.iter().map(|zone| (*zone).to_owned()).collect();
        self.push();
    }

    /// Stops an instance as SIGTERM would, and takes it out of the others' endpoints first when `deregister`.
    pub async fn stop(&mut self, instance: &str, deregister: bool) {
        let member = self.members.remove(instance).expect("the instance is there");
        if deregister {
            self.push();
        }
        member.proxy.shutdown(Duration::from_secs(5)).await;
    }

    /// Where the applications beside this instance reach a destination, `shop/product:http`.
    pub fn outbound(&self, instance: &str, destination: &str) -> SocketAddr {
        self.member(instance).instance.outbound[destination]
    }

    /// Where peers reach a port of this instance.
    pub fn inbound(&self, instance: &str, port: &str) -> SocketAddr {
        self.member(instance).instance.ports[port].peers
    }

    /// Makes the others connect here to reach this address of a proxy: a network between them that can be made worse.
    pub fn detour(&mut self, from: SocketAddr, to: SocketAddr) {
        self.detours.insert(from.to_string(), to.to_string());
        self.push();
    }

    /// Where a gateway instance listens.
    pub fn listener(&self, instance: &str, listener: &str) -> SocketAddr {
        self.member(instance).instance.listeners[listener]
    }

    /// The running proxy of an instance.
    pub fn proxy(&self, instance: &str) -> &Handle {
        &self.member(instance).proxy
    }

    /// Address of a proxy's own server: `admin`, `health` or `metrics`.
    pub fn page(&self, instance: &str, server: &str) -> SocketAddr {
        self.proxy(instance).address(server).expect("every proxy has it")
    }

    /// A certificate for this service account of the namespace `shop`, from the mesh's authority.
    pub fn identity(&self, account: &str) -> Identity {
        let id = SpiffeId::new(names::DEFAULT_TRUST_DOMAIN, "shop", account).unwrap();
        issue(&self.ca, &id)
    }

    /// As [`Mesh::identity`], but signed half an hour ago for a minute.
    pub fn expired_identity(&self, account: &str) -> Identity {
        let id = SpiffeId::new(names::DEFAULT_TRUST_DOMAIN, "shop", account).unwrap();
        let minute = Lifetime { length: Duration::from_mins(1), renew_percent: 70 };
        issue_at(&self.ca, &id, now() - 1800, minute)
    }

    /// Gives every proxy a new certificate, as a renewal does.
    pub fn renew(&self) {
        for member in self.members.values() {
            certify(&member.proxy, self.identity(&member.instance.service));
        }
    }

    fn start(&mut self, instance: Instance, settings: Settings) {
        let settings = Settings {
            workload: format!("{}/{}", instance.namespace, instance.service),
            account: instance.service.clone(),
            instance: instance.name.clone(),
            ..settings
        };
        let mut all = self.instances();
        all.push(instance.clone());
        self.world.apply(Change::ReplaceInstances(all));
        let identity = Arc::new(self.identity(&instance.service));
        let source = Source::Static(self.resources(&instance), identity);
        let proxy = Proxy::start(settings, source).unwrap();
        self.members.insert(instance.name.clone(), Member { instance, proxy });
        self.push();
    }

    /// Tells the world which instances there are and every proxy what follows.
    fn push(&mut self) {
        self.world.apply(Change::ReplaceInstances(self.instances()));
        for member in self.members.values() {
            member.proxy.replace(self.resources(&member.instance)).unwrap();
        }
    }

    fn upsert(&mut self, manifests: &str) {
        let parsed = manifest::parse("test.yaml", manifests);
        let errors: Vec<String> = parsed.errors().map(ToString::to_string).collect();
        assert!(errors.is_empty(), "{}", errors.join("\n"));
        for manifest in parsed.manifests {
            if let Some(object) = known(manifest.object) {
                self.world.apply(Change::Upsert(Box::new(object)));
            }
        }
    }

    fn resources(&self, instance: &Instance) -> Vec<v1::Resource> {
        let workload = Name::new(&instance.namespace, &instance.service);
        let reference = InstanceRef::new(workload, &instance.name);
        let mut all: BTreeMap<(i32, String), v1::Resource> = BTreeMap::new();
        let own = compile::own(&self.world, &reference);
        let destinations = self.world.destinations();
        let others = destinations.iter().flat_map(|name| compile::destination(&self.world, name));
        for mut resource in own.into_iter().chain(others) {
            if let Some(v1::resource::Body::Endpoints(endpoints)) = &mut resource.body {
                endpoints.endpoints.iter_mut().for_each(|endpoint| self.divert(endpoint));
            }
            all.insert((resource.kind().into(), resource.name.clone()), resource);
        }
        all.into_values().collect()
    }

    fn divert(&self, endpoint: &mut v1::Endpoint) {
        if let Some(to) = self.detours.get(&endpoint.address) {
            endpoint.address.clone_from(to);
        }
    }

    fn instances(&self) -> Vec<Instance> {
        self.members.values().map(|member| &member.instance).chain(&self.bare).cloned().collect()
    }

    fn member(&self, instance: &str) -> &Member {
        self.members.get(instance).unwrap_or_else(|| panic!("no instance called {instance}"))
    }
}

/// Gives a proxy another certificate, as a renewal does.
pub fn certify(proxy: &Handle, identity: Identity) {
    proxy.shared.certify(TlsMaterial::new(Arc::new(identity)).unwrap());
}

/// What the world holds of an object; nothing where it does not concern the mesh.
fn known(object: manifest::Object) -> Option<Object> {
    match object {
        manifest::Object::Microservice(object) => Some(Object::Microservice(*object)),
        manifest::Object::Mesh(object) => Some(Object::Mesh(*object)),
        manifest::Object::Gateway(object) => Some(Object::Gateway(*object)),
        manifest::Object::HttpRoute(object) => Some(Object::HttpRoute(*object)),
        manifest::Object::GrpcRoute(object) => Some(Object::GrpcRoute(*object)),
        manifest::Object::TlsRoute(object) => Some(Object::TlsRoute(*object)),
        manifest::Object::ReferenceGrant(object) => Some(Object::ReferenceGrant(*object)),
        manifest::Object::Secret(object) => Some(Object::Secret(*object)),
        _ => None,
    }
}

/// A certificate for any identity, from any authority.
pub fn issue(ca: &Ca, id: &SpiffeId) -> Identity {
    issue_at(ca, id, now(), Lifetime { length: HOUR, renew_percent: 70 })
}

fn issue_at(ca: &Ca, id: &SpiffeId, at: i64, lifetime: Lifetime) -> Identity {
    let key = KeyPair::generate().unwrap();
    let csr = CertificateParams::default().serialize_request(&key).unwrap();
    let signed = ca.sign(csr.der(), id, at, lifetime).unwrap();
    Identity {
        chain: signed.chain,
        key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        roots: ca.roots(),
    }
}

fn in_shop(name: &str, role: Role) -> Instance {
    let service = name.rsplit_once('-').expect("an instance is called <service>-<n>").0;
    instance(Name::new("shop", service), name, role, address())
}

/// An instance that is ready and has a proxy, of which nothing else is said yet.
pub fn instance(workload: Name, name: &str, role: Role, address: IpAddr) -> Instance {
    Instance {
        namespace: workload.namespace,
        service: workload.name,
        name: name.to_owned(),
        role,
        address,
        ports: BTreeMap::new(),
        outbound: BTreeMap::new(),
        listeners: BTreeMap::new(),
        ready: true,
        meshed: true,
        zone: String::new(),
        account: String::new(),
        shared: false,
        for_zones: Vec::new(),
        token_sha256: String::new(),
    }
}

/// A loopback address that no other instance of this process has; processes that run at the same time differ by pid.
fn address() -> IpAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let next = NEXT.fetch_add(1, Ordering::Relaxed);
    let octet = |n: u32| u8::try_from(n % 250).expect("below 250");
    Ipv4Addr::new(127, 2 + octet(std::process::id()) / 2, octet(next / 250), 1 + octet(next)).into()
}
