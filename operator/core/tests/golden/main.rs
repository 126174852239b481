//! Golden cases: manifests, instances, keys and reports in, what every proxy gets and what every object says of itself
//! out. Each folder beside this file is a case: `input.yaml`, and where needed `instances.json`, `keys.json` and
//! `reports.json`, and for a case in a cluster `cluster.yaml` with its pods and slices; expected are `config.yaml` and `status.yaml`. `UPDATE_GOLDEN=1` writes those anew.

#![expect(clippy::unwrap_used, clippy::panic, reason = "test code")]

#[path = "../common/golden.rs"]
mod golden;
mod render;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use serde_json::{Value, json};
use weft_api::v1;
use weft_core::instances::Instances;
use weft_core::instances::pod::Pod;
use weft_core::instances::slice::Slice;
use weft_core::validate::Severity;
use weft_core::world::{Change, InstanceRef, Name, Object, World};
use weft_core::{compile, status, validate};
use weft_crds::manifest;

/// The time in every case: 2026-11-21T10:00:00Z.
const NOW: i64 = 1_795_255_200;

#[test]
fn every_case_gives_what_is_expected() {
    let cases = golden::cases("golden", Path::is_dir, 12);
    let wrong: Vec<String> = cases.iter().flat_map(|case| check(case)).collect();
    golden::all_as_expected("golden", &wrong);
}

#[test]
fn the_example_shop_has_nothing_wrong() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/shop");
    let mut world = World::default();
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    // `weft.yaml` says what runs and holds no manifests.
    for path in
        files.filter(|path| path.extension().is_some_and(|is| is == "yaml") && !path.ends_with("weft.yaml"))
    {
        read_manifests(&mut world, &path);
    }
    let mut problems = validate::world(&world);
    // The certificate of its gateway is made on the machine that runs it.
    problems.retain(|problem| !problem.field.ends_with("certificateRefs"));
    assert_eq!(problems, []);
    for (gateway, _) in world.gateways() {
        let own = compile::own(&world, &InstanceRef::new(gateway.clone(), "any"));
        let reached = own.iter().filter(|resource| resource.kind() == v1::Kind::Destination);
        let mut reached: Vec<&str> = reached.map(|resource| resource.name.as_str()).collect();
        reached.sort_unstable();
        let services = ["chat", "notification", "order", "payment", "product", "ticket", "user"];
        assert_eq!(reached, services.map(|name| format!("shop/{name}:http")));
    }
}

/// Files of a case that are not as expected.
fn check(case: &Path) -> Vec<String> {
    let world = world(case);
    let mut outputs = vec![("config.yaml", config(&world)), ("status.yaml", statuses(&world))];
    if let Some(asked) = read::<Vec<String>>(&case.join("asked.json")) {
        outputs.push(("addresses.yaml", addresses(&world, &asked)));
    }
    let differ = outputs.into_iter().filter_map(|(name, value)| {
        golden::compare(&case.join(name), &serde_saphyr::to_string(&value).unwrap())
    });
    differ.collect()
}

fn world(case: &Path) -> World {
    let cluster = case.join("cluster.yaml");
    let mut world = if cluster.exists() { World::in_cluster() } else { World::default() };
    read_manifests(&mut world, &case.join("input.yaml"));
    if cluster.exists() {
        read_cluster(&mut world, &cluster);
    }
    if let Some(instances) = read::<Instances>(&case.join("instances.json")) {
        world.apply(Change::ReplaceInstances(instances.instances));
    }
    for (name, keys) in read::<BTreeMap<String, Keys>>(&case.join("keys.json")).unwrap_or_default() {
        let keys = v1::Keys { jwks: keys.jwks, error: keys.error, fetched_at: keys.fetched_at };
        world.apply(Change::Keys { name, keys });
    }
    for report in read::<Vec<Report>>(&case.join("reports.json")).unwrap_or_default() {
        let instance = InstanceRef::new(report.workload.parse().unwrap(), &report.instance);
        world.apply(Change::Report { instance, report: Some(report.into_wire()) });
    }
    world
}

fn read_manifests(world: &mut World, path: &Path) {
    let parsed = manifest::parse(&path.display().to_string(), &fs::read_to_string(path).unwrap());
    let errors: Vec<String> = parsed.errors().map(ToString::to_string).collect();
    assert!(errors.is_empty(), "{errors:#?}");
    for mut found in parsed.manifests {
        found.object.default_namespace("shop");
        if let Some(object) = Object::from_manifest(found.object) {
            world.apply(Change::Upsert(Box::new(object)));
        }
    }
}

/// Pods and slices, as a cluster has them.
fn read_cluster(world: &mut World, path: &Path) {
    let objects: Vec<Value> = serde_saphyr::from_multiple(&fs::read_to_string(path).unwrap()).unwrap();
    for object in objects {
        let meta: ObjectMeta = serde_json::from_value(object["metadata"].clone()).unwrap();
        let name = Name::new(meta.namespace.as_deref().unwrap(), meta.name.as_deref().unwrap());
        world.apply(match object["kind"].as_str().unwrap() {
            "Pod" => Change::Pod { name, pod: Some(Pod::of(&meta)) },
            "EndpointSlice" => {
                let slice = Slice::of(&serde_json::from_value(object).unwrap());
                Change::Slice { name, slice }
            }
            other => panic!("{}: {other} is not read here", path.display()),
        });
    }
}

fn read<T: for<'de> Deserialize<'de>>(path: &Path) -> Option<T> {
    let text = fs::read_to_string(path).ok()?;
    Some(serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Keys {
    #[serde(default)]
    jwks: String,
    #[serde(default)]
    error: String,
    #[serde(default)]
    fetched_at: i64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Report {
    workload: String,
    instance: String,
    certificate_not_after: i64,
    /// State by destination.
    #[serde(default)]
    breakers: BTreeMap<String, String>,
}

impl Report {
    fn into_wire(self) -> v1::Report {
        let breaker = |(destination, state): (String, String)| v1::BreakerReport {
            destination,
            state: v1::BreakerState::from_str_name(&format!("BREAKER_STATE_{state}")).unwrap().into(),
            failures: 0,
            successes: 0,
        };
        let breakers = self.breakers.into_iter().map(breaker).collect();
        v1::Report {
            certificate_not_after: self.certificate_not_after,
            breakers,
            ready: true,
            ..v1::Report::default()
        }
    }
}

fn config(world: &World) -> Value {
    let destinations: BTreeMap<String, Vec<v1::Resource>> = world
        .destinations()
        .into_iter()
        .map(|name| (name.clone(), compile::destination(world, &name)))
        .collect();
    let own: BTreeMap<String, Value> = instances(world)
        .into_iter()
        .map(|instance| {
            (instance.to_string(), resources(&compile::own(world, &instance), None, &destinations))
        })
        .collect();
    let called: BTreeMap<&String, Value> = destinations
        .iter()
        .map(|(name, compiled)| (name, resources(compiled, Some(name), &destinations)))
        .collect();
    let wanted: Vec<Value> = compile::keys_wanted(world)
        .into_iter()
        .map(|keys| {
            let wanted_by: Vec<String> = keys.wanted_by.iter().map(ToString::to_string).collect();
            json!({"uri": keys.uri, "destination": keys.destination, "wantedBy": wanted_by})
        })
        .collect();
    json!({"destinations": called, "fetch": wanted, "own": own})
}

/// Where each address leads, empty where nobody in the mesh is there.
fn addresses(world: &World, asked: &[String]) -> Value {
    let lead = |name: &String| match compile::address(world, name).body {
        Some(v1::resource::Body::Address(v1::Address { destination, endpoint, meshed })) => {
            let only = if meshed { "only" } else { "only, in plain text," };
            let endpoint = if endpoint.is_empty() { endpoint } else { format!(" ({only} {endpoint})") };
            Value::String(format!("{destination}{endpoint}"))
        }
        other => panic!("{name}: {other:?}"),
    };
    asked.iter().map(|name| (name.clone(), lead(name))).collect()
}

/// Every instance, and one called `any` of each workload that has none.
fn instances(world: &World) -> Vec<InstanceRef> {
    let known = world
        .instances()
        .map(|instance| InstanceRef::new(Name::new(&instance.namespace, &instance.service), &instance.name));
    let mut all: Vec<InstanceRef> = known.collect();
    let workloads = world.microservices().map(|(name, _)| name).chain(world.gateways().map(|(name, _)| name));
    for workload in workloads {
        if !all.iter().any(|instance| instance.workload == *workload) {
            all.push(InstanceRef::new(workload.clone(), "any"));
        }
    }
    all
}

/// Resources in full, but those that another destination shows are only named.
fn resources(
    all: &[v1::Resource],
    shown: Option<&String>,
    destinations: &BTreeMap<String, Vec<v1::Resource>>,
) -> Value {
    let elsewhere = |resource: &v1::Resource| {
        shown != Some(&resource.name)
            && destinations.get(&resource.name).is_some_and(|compiled| compiled.contains(resource))
    };
    let entries = all.iter().map(|resource| {
        let kind = resource.kind().as_str_name().trim_start_matches("KIND_").to_lowercase();
        let title = if resource.name == "self" { kind } else { format!("{kind} {}", resource.name) };
        if elsewhere(resource) {
            return Value::String(title);
        }
        json!({title: render::body(&format!("{:?}", resource.body))})
    });
    entries.collect()
}

fn statuses(world: &World) -> Value {
    let of = |status: status::Status| match status {
        status::Status::Microservice(status) => serde_json::to_value(status),
        status::Status::Mesh(status) => serde_json::to_value(status),
        status::Status::Gateway(status) => serde_json::to_value(status),
        status::Status::Route(status) => serde_json::to_value(status),
        status::Status::GatewayClass(status) => serde_json::to_value(status),
    };
    let objects: BTreeMap<String, Value> = world
        .references()
        .into_iter()
        .filter_map(|reference| {
            Some((reference.to_string(), of(status::of(world, &reference, NOW)?).unwrap()))
        })
        .collect();
    let problems = validate::world(world);
    let told = |severity: Severity| {
        let told = problems.iter().filter(|problem| problem.severity == severity);
        told.map(ToString::to_string).collect::<Vec<_>>()
    };
    json!({
        "errors": told(Severity::Error),
        "objects": objects,
        "warnings": told(Severity::Warning),
    })
}
