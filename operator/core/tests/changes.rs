//! Random worlds: applying changes one by one gives what building the world at once gives, and what `Affected` leaves
//! out really is the same as before. This is what finds a dependency that compile has and `affected` does not know.

#![expect(clippy::unwrap_used, reason = "test code")]

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};
use weft_api::v1;
use weft_core::compile;
use weft_core::instances::pod::Pod;
use weft_core::instances::slice::{Endpoint, Slice};
use weft_core::instances::{Instance, PortAddresses, Role};
use weft_core::status::{self, Status};
use weft_core::world::{
    Affected, Change, InstanceRef, Invalid, Name, Object, ObjectKind, ObjectRef, Trust, World,
};

const NAMESPACES: [&str; 2] = ["a", "b"];
const SERVICES: [&str; 3] = ["x", "y", "gateway"];
const GATEWAYS: [&str; 2] = ["gateway", "edge"];
const CLUSTER_IPS: [&str; 2] = ["10.96.0.1", "10.96.0.2"];
const PORTS: [(&str, u16); 2] = [("http", 80), ("grpc", 9090)];
const PODS: [&str; 3] = ["0", "1", "2"];
/// Sorts before all others, so it is applied last: after the form that stays in force.
const UNREAD: &str = "0 unread ";
const NOW: i64 = 1_795_255_200;

proptest! {
    #![proptest_config(ProptestConfig { cases: 160, ..ProptestConfig::default() })]

    #[test]
    fn one_by_one_is_as_good_as_all_at_once(
        in_cluster in any::<bool>(),
        seeds in prop::collection::vec(any::<u64>(), 1..28),
    ) {
        let empty = || if in_cluster { World::in_cluster() } else { World::default() };
        let mut world = empty();
        let mut seen = Seen::of(&world);
        let mut last: BTreeMap<String, Change> = BTreeMap::new();
        for (step, seed) in seeds.into_iter().enumerate() {
            let change = change(&mut Dice(seed), i64::try_from(step).unwrap() + 1, in_cluster);
            let shown = format!("{change:?}");
            if let Change::Upsert(_) | Change::Remove(_) = change {
                last.remove(&format!("{UNREAD}{}", target(&change)));
            }
            last.insert(target(&change), change.clone());
            let affected = world.apply(change);
            let now = Seen::of(&world);
            prop_assert_eq!(seen.missed(&now, &affected), Vec::<String>::new(), "{}", shown);
            seen = now;
        }
        let mut at_once = empty();
        for change in last.into_values().rev() {
            at_once.apply(change);
        }
        prop_assert!(seen == Seen::of(&at_once), "worlds differ");
    }
}

/// Everything that can be computed from a world.
#[derive(PartialEq)]
struct Seen {
    own: BTreeMap<InstanceRef, Vec<v1::Resource>>,
    destinations: BTreeMap<String, Vec<v1::Resource>>,
    addresses: BTreeMap<String, v1::Resource>,
    statuses: BTreeMap<ObjectRef, Option<Status>>,
    homes: BTreeMap<Name, Option<Name>>,
}

impl Seen {
    fn of(world: &World) -> Self {
        let mut own = BTreeMap::new();
        let mut destinations = BTreeMap::new();
        for name in names(&["x", "y", "gateway", "edge", "account"]) {
            for instance in ["0", "1"] {
                let instance = InstanceRef::new(name.clone(), instance);
                own.insert(instance.clone(), compile::own(world, &instance));
            }
            for (port, _) in PORTS {
                let destination = format!("{name}:{port}");
                destinations.insert(destination.clone(), compile::destination(world, &destination));
            }
        }
        let addresses = addresses().into_iter().map(|name| {
            let address = compile::address(world, &name);
            (name, address)
        });
        let addresses = addresses.collect();
        let statuses = references().into_iter().map(|reference| {
            let status = status::of(world, &reference, NOW);
            (reference, status)
        });
        let homes = names(&PODS).into_iter().map(|pod| (pod.clone(), world.home(&pod).cloned()));
        Self { own, destinations, addresses, statuses: statuses.collect(), homes: homes.collect() }
    }

    /// What differs although it was not said to.
    fn missed(&self, new: &Self, affected: &Affected) -> Vec<String> {
        let own = self.own.iter().filter(|(instance, old)| {
            new.own[*instance] != **old && !affected.workloads.contains(&instance.workload)
        });
        let destinations = self
            .destinations
            .iter()
            .filter(|(name, old)| new.destinations[*name] != **old && !affected.destinations.contains(*name));
        let statuses = self.statuses.iter().filter(|(reference, old)| {
            new.statuses[*reference] != **old && !affected.resources.contains(reference)
        });
        let addresses = self
            .addresses
            .iter()
            .filter(|(name, old)| new.addresses[*name] != **old && !affected.addresses.contains(*name));
        let own = own.map(|(instance, _)| format!("own {instance}"));
        let addresses = addresses.map(|(name, _)| format!("address {name}"));
        let destinations = destinations.map(|(name, _)| format!("destination {name}"));
        let statuses = statuses.map(|(reference, _)| format!("status {reference}"));
        own.chain(destinations).chain(addresses).chain(statuses).collect()
    }
}

fn names(all: &[&str]) -> Vec<Name> {
    NAMESPACES.iter().flat_map(|namespace| all.iter().map(move |name| Name::new(namespace, name))).collect()
}

fn references() -> Vec<ObjectRef> {
    let mut all = vec![ObjectRef::new(ObjectKind::Mesh, Name::new("", "default"))];
    for (kind, called) in [
        (ObjectKind::Microservice, SERVICES.as_slice()),
        (ObjectKind::Gateway, GATEWAYS.as_slice()),
        (ObjectKind::HttpRoute, ["r", "s"].as_slice()),
        (ObjectKind::GrpcRoute, ["r"].as_slice()),
        (ObjectKind::TlsRoute, ["t"].as_slice()),
    ] {
        all.extend(names(called).into_iter().map(|name| ObjectRef::new(kind, name)));
    }
    all
}

/// Every address that one of these worlds may know.
fn addresses() -> Vec<String> {
    let ports = [80, 90, 8080, 9090];
    let by_number = names(&["x", "y", "gateway", "z"]).into_iter();
    let by_number = by_number.flat_map(|name| ports.iter().map(move |port| format!("{name}:{port}")));
    let services = CLUSTER_IPS.iter().flat_map(|ip| ports.iter().map(move |port| format!("{ip}:{port}")));
    let ips = ["127.0.1.1", "127.0.1.2", "127.0.2.1", "127.0.2.2"].into_iter();
    let instances = ips.flat_map(|ip| [80, 10080, 9090, 19090].map(|port| format!("{ip}:{port}")));
    by_number.chain(services).chain(instances).collect()
}

/// What a change is about: of several about one thing only the last counts.
fn target(change: &Change) -> String {
    match change {
        Change::Upsert(object) => object.reference().to_string(),
        Change::Remove(reference) => reference.to_string(),
        Change::Invalid { reference, .. } => format!("{UNREAD}{reference}"),
        Change::Pod { name, .. } => format!("pod {name}"),
        Change::Slice { name, .. } => format!("slice {name}"),
        Change::Instances { workload, .. } => format!("instances {workload}"),
        Change::ReplaceInstances(_) => "instances".to_owned(),
        Change::Keys { name, .. } => format!("keys {name}"),
        Change::Trust(_) => "trust".to_owned(),
        Change::Report { instance, .. } => format!("report {instance}"),
        Change::Applied { owner, .. } => format!("applied {owner}"),
    }
}

/// Small choices from one number.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((mixed ^ (mixed >> 31)) % sides as u64).unwrap()
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.roll(all.len())]
    }

    fn often(&mut self) -> bool {
        self.roll(2) == 0
    }

    fn namespace(&mut self) -> &'static str {
        self.of(&NAMESPACES)
    }
}

fn change(dice: &mut Dice, generation: i64, in_cluster: bool) -> Change {
    match dice.roll(20) {
        0..=11 => {
            let object = object(dice, generation);
            if dice.roll(4) == 0 {
                Change::Remove(object.reference())
            } else {
                Change::Upsert(Box::new(object))
            }
        }
        12 => {
            let name = Name::new(dice.namespace(), dice.of(&SERVICES));
            let reference = ObjectRef::new(ObjectKind::Microservice, name);
            Change::Invalid { reference, invalid: Invalid { generation, violations: Vec::new() } }
        }
        13 | 14 if in_cluster => {
            let name = Name::new(dice.namespace(), dice.of(&PODS));
            let pod = (dice.roll(4) > 0).then(|| pod(dice));
            Change::Pod { name, pod }
        }
        15 if in_cluster => {
            let name = Name::new(dice.namespace(), dice.of(&["s", "t"]));
            let slice = (dice.roll(4) > 0).then(|| slice(dice));
            Change::Slice { name, slice }
        }
        13..=15 => {
            let workload = dice.of(&["x", "y", "gateway", "edge"]);
            let workload = Name::new(dice.namespace(), workload);
            let instances = (0..dice.roll(3)).map(|at| instance(dice, &workload, at)).collect();
            Change::Instances { workload, instances }
        }
        16 => {
            let keys = v1::Keys { jwks: dice.of(&["{}", "[]"]).to_owned(), ..v1::Keys::default() };
            Change::Keys { name: uri(dice), keys }
        }
        17 => {
            let number = generation;
            let problem = dice.of(&["", "none"]).to_owned();
            Change::Trust(Trust { roots: vec![vec![1]], number, ends: 7, problem })
        }
        _ => {
            let workload = Name::new(dice.namespace(), dice.of(&["x", "y", "gateway", "edge"]));
            let instance = InstanceRef::new(workload, dice.of(&["0", "1"]));
            let report = (dice.roll(4) > 0).then(|| report(dice));
            Change::Report { instance, report }
        }
    }
}

fn object(dice: &mut Dice, generation: i64) -> Object {
    let kind = dice.roll(15);
    let name = match kind {
        0..=4 => dice.of(&SERVICES),
        5 | 6 => dice.of(&GATEWAYS),
        7 | 8 => dice.of(&["r", "s"]),
        9 => "r",
        10 => dice.of(&["secret", "grant"]),
        12 | 13 => dice.of(&["x", "y", "z"]),
        14 => "t",
        _ => "default",
    };
    let mut meta = json!({"name": name, "generation": generation});
    if name != "default" {
        meta["namespace"] = dice.namespace().into();
    }
    if name == "secret" && dice.roll(3) == 0 {
        // Where the mesh's own Secrets are.
        meta["namespace"] = "weft-system".into();
    }
    let with = |spec: Value| json!({"metadata": meta.clone(), "spec": spec});
    let read = "generated objects are valid";
    match kind {
        0..=4 => Object::Microservice(serde_json::from_value(with(microservice(dice))).expect(read)),
        5 | 6 => Object::Gateway(serde_json::from_value(with(gateway(dice))).expect(read)),
        7 | 8 => Object::HttpRoute(serde_json::from_value(with(http_route(dice))).expect(read)),
        9 => Object::GrpcRoute(serde_json::from_value(with(grpc_route(dice))).expect(read)),
        10 if name == "grant" => {
            Object::ReferenceGrant(serde_json::from_value(with(grant(dice))).expect(read))
        }
        10 => {
            let pem = "-----BEGIN CERTIFICATE-----\ndGVzdA==\n-----END CERTIFICATE-----\n";
            let key = "-----BEGIN PRIVATE KEY-----\ndGVzdA==\n-----END PRIVATE KEY-----\n";
            let keys = dice.of(&["{\"keys\":[]}", "broken"]);
            let data = json!({"tls.crt": pem, "tls.key": key, "jwks.json": keys, "url": "redis://r"});
            Object::Secret(serde_json::from_value(json!({"metadata": meta, "stringData": data})).expect(read))
        }
        12 | 13 => Object::Service(serde_json::from_value(with(service(dice))).expect(read)),
        14 => Object::TlsRoute(serde_json::from_value(with(tls_route(dice))).expect(read)),
        _ => Object::Mesh(serde_json::from_value(with(mesh(dice))).expect(read)),
    }
}

fn uri(dice: &mut Dice) -> String {
    let service = dice.of(&SERVICES);
    format!("http://{service}.{}.svc/keys", dice.namespace())
}

fn service(dice: &mut Dice) -> Value {
    let port = json!({
        "name": dice.of(&["http", "grpc"]),
        "port": dice.of(&[80, 90]),
        "targetPort": if dice.often() { json!(dice.of(&[80, 9090])) } else { json!(dice.of(&["http", "grpc"])) },
        "appProtocol": dice.of(&["http", "tcp", "other"]),
    });
    json!({
        "clusterIP": dice.of(&["10.96.0.1", "10.96.0.2", "None"]),
        "ports": [port],
        "selector": {"app.kubernetes.io/name": dice.of(&["x", "y"])},
    })
}

fn microservice(dice: &mut Dice) -> Value {
    let mut ports = vec![json!({"name": "http", "port": 80, "protocol": dice.of(&["HTTP", "TCP"])})];
    if dice.often() {
        ports.push(json!({"name": "grpc", "port": 9090, "protocol": "GRPC"}));
    }
    let mut spec = json!({"ports": ports});
    if dice.often() {
        spec["mtls"] = json!({"mode": dice.of(&["Strict", "Permissive", "Disabled"])});
    }
    match dice.roll(4) {
        0 => spec["workload"] = json!({"image": "i", "serviceAccountName": "account", "replicas": 1}),
        1 => spec["selector"] = json!({"app": dice.of(&["one", "two"])}),
        _ => {}
    }
    if dice.often() {
        let jwks = match dice.roll(4) {
            0 => json!({"inline": "{\"keys\":[]}"}),
            1 => json!({"secretRef": {"name": "secret"}}),
            _ => json!({"uri": uri(dice)}),
        };
        spec["authentication"] = json!({"jwt": [{"issuer": "i", "jwks": jwks}]});
    }
    if dice.often() {
        let from = dice.of(&["x", "y", "gateway", "edge", "a/x", "b/y", "a/gateway", "b/edge"]);
        spec["authorization"] = json!({"rules": [{"name": "r", "from": {"services": [from]}}]});
    }
    if dice.roll(4) == 0 {
        spec["rateLimits"] = json!([{"requests": 1, "scope": "Global"}]);
    }
    if dice.often() {
        spec["resilience"] = json!({"timeout": "1s"});
    }
    spec
}

fn mesh(dice: &mut Dice) -> Value {
    let mut spec = json!({"trustDomain": dice.of(&["one.example", "two.example"])});
    match dice.roll(3) {
        0 => spec["redis"] = json!({"secretRef": {"name": "secret"}}),
        1 => spec["defaults"] = json!({"mtls": {"mode": "Permissive"}, "resilience": {"circuitBreaker": {}}}),
        _ => {}
    }
    spec
}

fn gateway(dice: &mut Dice) -> Value {
    let from = dice.of(&["Same", "All"]);
    let mut listeners = vec![json!({
        "name": "http", "port": 80, "protocol": "HTTP", "allowedRoutes": {"namespaces": {"from": from}},
    })];
    if dice.often() {
        let port = dice.of(&[80, 443]);
        let secret = json!({"name": "secret", "namespace": dice.namespace()});
        listeners.push(json!({
            "name": "https", "port": port, "protocol": "HTTPS", "hostname": "a.example", "tls": {"certificateRefs": [secret]},
        }));
    }
    if dice.often() {
        listeners.push(json!({
            "name": "tls", "port": 443, "protocol": "TLS", "tls": {"mode": dice.of(&["Passthrough", "Terminate"])},
        }));
    }
    json!({"gatewayClassName": "weft", "listeners": listeners})
}

fn parent(dice: &mut Dice) -> Value {
    let mut parent = if dice.often() {
        json!({"name": dice.of(&GATEWAYS)})
    } else {
        json!({"group": "", "kind": "Service", "name": dice.of(&SERVICES)})
    };
    if dice.roll(3) == 0 {
        parent["namespace"] = dice.namespace().into();
    }
    if dice.roll(4) == 0 {
        parent["port"] = dice.of(&[80, 9090]).into();
    }
    parent
}

fn backend(dice: &mut Dice) -> Value {
    let mut backend =
        json!({"name": dice.of(&SERVICES), "port": dice.of(&[80, 9090]), "weight": dice.roll(3)});
    if dice.roll(3) == 0 {
        backend["namespace"] = dice.namespace().into();
    }
    backend
}

fn http_route(dice: &mut Dice) -> Value {
    let rules: Vec<Value> = (0..=dice.roll(2))
        .map(|_| {
            let path = dice.of(&["/", "/a", "/b"]);
            let mut rule = json!({
                "matches": [{"path": {"type": dice.of(&["Exact", "PathPrefix"]), "value": path}}],
                "backendRefs": [backend(dice)],
            });
            if dice.roll(4) == 0 {
                let mut mirrored = backend(dice);
                mirrored.as_object_mut().unwrap().remove("weight");
                rule["filters"] =
                    json!([{"type": "RequestMirror", "requestMirror": {"backendRef": mirrored}}]);
            }
            rule
        })
        .collect();
    let parents: Vec<Value> = (0..=dice.roll(2)).map(|_| parent(dice)).collect();
    json!({"parentRefs": parents, "hostnames": [dice.of(&["a.example", "b.example"])], "rules": rules})
}

fn grpc_route(dice: &mut Dice) -> Value {
    let method = json!({"service": "p.S", "method": dice.of(&["A", "B"])});
    let rules = json!([{"matches": [{"method": method}], "backendRefs": [backend(dice)]}]);
    json!({"parentRefs": [parent(dice)], "rules": rules})
}

fn tls_route(dice: &mut Dice) -> Value {
    let hosts = json!([dice.of(&["a.example", "*.example"])]);
    json!({"parentRefs": [parent(dice)], "hostnames": hosts, "rules": [{"backendRefs": [backend(dice)]}]})
}

fn grant(dice: &mut Dice) -> Value {
    let from = |kind: &str, namespace: &str| json!({"group": "gateway.networking.k8s.io", "kind": kind, "namespace": namespace});
    let to = dice.of(&["Service", "Secret"]);
    json!({"from": [from("HTTPRoute", "a"), from("Gateway", dice.namespace())], "to": [{"group": "", "kind": to}]})
}

fn pod(dice: &mut Dice) -> Pod {
    let label = match dice.roll(4) {
        0 => ("app", dice.of(&["one", "two"])),
        1 => ("weft.dev/gateway", dice.of(&GATEWAYS)),
        _ => ("app.kubernetes.io/name", dice.of(&SERVICES)),
    };
    let meshed = dice.often();
    let account = if meshed { dice.of(&["x", "y", "account"]) } else { "" };
    Pod { labels: [(label.0.to_owned(), label.1.to_owned())].into(), account: account.to_owned(), meshed }
}

fn slice(dice: &mut Dice) -> Slice {
    let endpoint = |dice: &mut Dice, pod: &str| Endpoint {
        address: std::net::Ipv4Addr::new(10, 0, 0, dice.of(&[1, 2])).into(),
        ready: dice.often(),
        draining: dice.roll(4) == 0,
        for_zones: Vec::new(),
        zone: dice.of(&["", "z"]).to_owned(),
        pod: (dice.roll(6) > 0).then(|| pod.to_owned()),
    };
    let pods: Vec<&str> = PODS.into_iter().filter(|_| dice.often()).collect();
    Slice {
        service: dice.of(&["x", "y", "gateway", "edge"]).to_owned(),
        ports: vec![(dice.of(&["http", "web"]).to_owned(), dice.of(&[80, 8080])), ("grpc".to_owned(), 9090)],
        endpoints: pods.into_iter().map(|pod| endpoint(dice, pod)).collect(),
    }
}

fn instance(dice: &mut Dice, workload: &Name, at: usize) -> Instance {
    let gateway = dice.roll(if workload.name == "edge" { 1 } else { 4 }) == 0;
    let number = u8::try_from(at + 1).unwrap();
    let address = std::net::Ipv4Addr::new(127, 0, number, dice.of(&[1, 2]));
    let socket = |port: u16| std::net::SocketAddr::from((address, port));
    let ports = PORTS.iter().map(|(name, port)| {
        let peers = socket(if dice.roll(3) == 0 { *port } else { port + 10_000 });
        ((*name).to_owned(), PortAddresses { app: socket(*port), peers })
    });
    Instance {
        namespace: workload.namespace.clone(),
        service: workload.name.clone(),
        name: at.to_string(),
        role: if gateway { Role::Gateway } else { Role::Service },
        address: address.into(),
        ports: ports.collect(),
        outbound: BTreeMap::from([(format!("{}/x:http", dice.namespace()), socket(15_100))]),
        listeners: BTreeMap::new(),
        ready: dice.often(),
        meshed: dice.roll(3) > 0,
        zone: dice.of(&["", "z"]).to_owned(),
        account: dice.of(&["", "", "x", "account"]).to_owned(),
        shared: false,
        for_zones: Vec::new(),
        token_sha256: String::new(),
    }
}

fn report(dice: &mut Dice) -> v1::Report {
    let breaker = |dice: &mut Dice| v1::BreakerReport {
        destination: format!("{}/{}:http", dice.namespace(), dice.of(&SERVICES)),
        state: i32::try_from(dice.roll(3)).unwrap(),
        failures: 0,
        successes: 0,
    };
    let breakers = (0..dice.roll(3)).map(|_| breaker(dice)).collect();
    let certificate_not_after = dice.of(&[0, NOW - 1, NOW + 1000]);
    v1::Report { certificate_not_after, breakers, ready: dice.often(), ..v1::Report::default() }
}
