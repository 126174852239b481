//! The status of a Microservice: is it valid, do enough instances serve, has each a proxy, is mutual TLS in force.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use weft_api::v1;
use weft_crds::microservice::{BreakerState, BreakerStatus, Microservice, MicroserviceStatus, MtlsMode};

use super::Status;
use super::condition::{Conditions, Verdict, accepted, refused, time};
use crate::instances::{Instance, Role};
use crate::validate;
use crate::world::affected::breakers;
use crate::world::{InstanceRef, Invalid, Name, ObjectRef, World};

/// What is known of a service's instances.
struct Fleet<'a> {
    instances: Vec<(&'a Instance, Option<&'a v1::Report>)>,
}

impl Fleet<'_> {
    fn total(&self) -> usize {
        self.instances.len()
    }

    fn ready(&self) -> usize {
        self.instances.iter().filter(|(instance, _)| instance.ready).count()
    }

    fn meshed(&self) -> usize {
        self.instances.iter().filter(|(instance, report)| instance.meshed && report.is_some()).count()
    }

    /// When certificates end, of the proxies that say it.
    fn expiries(&self) -> impl Iterator<Item = i64> {
        self.instances
            .iter()
            .filter_map(|(_, report)| Some(report.as_ref()?.certificate_not_after))
            .filter(|end| *end > 0)
    }
}

pub(super) fn of(world: &World, reference: &ObjectRef, now: i64) -> Option<MicroserviceStatus> {
    let name = &reference.name;
    let old = match world.statuses.get(reference) {
        Some(Status::Microservice(old)) => old.conditions.as_slice(),
        _ => &[],
    };
    let generation = world.generation(reference);
    let invalid = world.invalid(reference);
    let Some(service) = world.microservice(name) else {
        let make = Conditions { old, generation, now };
        return invalid.map(|invalid| unread(invalid, make));
    };
    let accepts = match invalid {
        Some(invalid) => refused(invalid, true),
        None => accepted(&validate::object(world, reference)),
    };
    let fleet = fleet(world, name);
    let mode = world.mtls_mode(service);
    let make = Conditions { old, generation, now };
    let mut conditions = vec![
        make.make("Accepted", accepts),
        make.make("Ready", reachable(world, name, service).unwrap_or_else(|| ready(service, &fleet))),
        make.make("Meshed", meshed(&fleet)),
        make.make("Secured", secured(mode, &fleet, now)),
    ];
    if service.spec.workload.is_some() {
        conditions.extend(applied(world, reference, make));
    }
    Some(MicroserviceStatus {
        conditions,
        replicas: count(fleet.total()),
        meshed_replicas: count(fleet.meshed()),
        mtls: Some(mode),
        breaker: breaker(world, name),
        certificate_expires: fleet.expiries().min().map(time),
        observed_generation: Some(generation),
    })
}

/// No form of it could be read so far.
fn unread(invalid: &Invalid, make: Conditions<'_>) -> MicroserviceStatus {
    let not_in_force = || Verdict::no("Invalid", "it cannot be read; see the condition Accepted");
    MicroserviceStatus {
        conditions: vec![
            make.make("Accepted", refused(invalid, false)),
            make.make("Ready", not_in_force()),
            make.make("Meshed", not_in_force()),
            make.make("Secured", not_in_force()),
        ],
        observed_generation: Some(make.generation),
        ..MicroserviceStatus::default()
    }
}

/// Whether what it needs is in the cluster. Until that is known here it stays as it was said.
fn applied(world: &World, reference: &ObjectRef, make: Conditions<'_>) -> Option<Condition> {
    let verdict = match world.applied.get(reference) {
        Some(None) => Verdict::yes("Applied", "what it needs is in the cluster"),
        Some(Some(obstacle)) => Verdict::no(&obstacle.reason, obstacle.to_string()),
        None => return make.old.iter().find(|old| old.type_ == "Applied").cloned(),
    };
    Some(make.make("Applied", verdict))
}

fn fleet<'a>(world: &'a World, name: &Name) -> Fleet<'a> {
    let services = world.instances_of(name).filter(|instance| instance.role == Role::Service);
    let report = |instance: &Instance| {
        let pod = Name::new(&name.namespace, &instance.name);
        // A pod of another workload reports as that.
        let home = world.home(&pod).filter(|_| instance.shared).unwrap_or(name);
        world.report(&InstanceRef::new(home.clone(), &instance.name))
    };
    Fleet { instances: services.map(|instance| (instance, report(instance))).collect() }
}

/// What keeps a service that others run from being called, however its pods are.
fn reachable(world: &World, name: &Name, service: &Microservice) -> Option<Verdict> {
    let missing = world.is_in_cluster() && service.spec.workload.is_none() && world.service(name).is_none();
    missing.then(|| {
        Verdict::no("NoService", format!("there is no Service {name}, by which its pods would be found"))
    })
}

/// Enough are ready when as many are as were asked for, or all that there are.
fn ready(service: &Microservice, fleet: &Fleet<'_>) -> Verdict {
    let asked = service.spec.workload.as_ref().map(|workload| workload.initial_replicas() as usize);
    let (total, ready) = (fleet.total(), fleet.ready());
    let enough = asked.map_or(total, |asked| asked.min(total)).max(1);
    let message = format!("{ready} of {total} instances ready");
    match (total, ready) {
        (0, _) if asked == Some(0) => Verdict::yes("ScaledToZero", "no instance is asked for"),
        (0, _) => Verdict::no("NoInstances", "no instance is there yet"),
        (_, 0) => Verdict::no("NoInstanceReady", message),
        _ if ready >= enough => Verdict::yes("InstancesReady", message),
        _ => Verdict::no("TooFewReady", message),
    }
}

fn meshed(fleet: &Fleet<'_>) -> Verdict {
    let (total, meshed) = (fleet.total(), fleet.meshed());
    let bare: Vec<&str> = names(fleet, |(instance, _)| !instance.meshed);
    if total == 0 {
        Verdict::unknown("NoInstances", "no instance is there yet")
    } else if !bare.is_empty() {
        Verdict::no("NoProxy", format!("without proxy: {}", bare.join(", ")))
    } else if meshed < total {
        let silent = names(fleet, |(_, report)| report.is_none());
        Verdict::no("ProxyNotConnected", format!("proxy not connected: {}", silent.join(", ")))
    } else {
        Verdict::yes("AllMeshed", format!("{meshed} of {total} instances meshed"))
    }
}

fn secured(mode: MtlsMode, fleet: &Fleet<'_>, now: i64) -> Verdict {
    let expired = names(fleet, |(_, report)| {
        report.is_some_and(|report| report.certificate_not_after > 0 && report.certificate_not_after <= now)
    });
    let missing = names(fleet, |(_, report)| report.is_none_or(|report| report.certificate_not_after == 0));
    match mode {
        MtlsMode::Permissive => {
            Verdict::no("PlainTextAllowed", "mtls.mode is Permissive: callers without certificate are let in")
        }
        MtlsMode::Disabled => {
            Verdict::no("MutualTlsDisabled", "mtls.mode is Disabled: everything is plain text")
        }
        MtlsMode::Strict if fleet.total() == 0 => Verdict::unknown("NoInstances", "no instance is there yet"),
        MtlsMode::Strict if !expired.is_empty() => {
            Verdict::no("CertificateExpired", format!("certificate ended: {}", expired.join(", ")))
        }
        MtlsMode::Strict if !missing.is_empty() => {
            Verdict::unknown("CertificateUnknown", format!("no certificate known: {}", missing.join(", ")))
        }
        MtlsMode::Strict => Verdict::yes("MutualTls", "every caller proves who it is"),
    }
}

fn names<'a>(
    fleet: &Fleet<'a>,
    keep: impl Fn(&(&'a Instance, Option<&'a v1::Report>)) -> bool,
) -> Vec<&'a str> {
    fleet.instances.iter().filter(|entry| keep(entry)).map(|(instance, _)| instance.name.as_str()).collect()
}

/// The worst that callers see; none where no caller has called yet.
fn breaker(world: &World, name: &Name) -> Option<BreakerStatus> {
    let mut worst = None;
    let mut open_for = BTreeSet::new();
    for (caller, report) in world.reports_of(name).filter(|(caller, _)| world.instance(caller).is_some()) {
        for state in breakers(Some(report)).remove(name).unwrap_or_default() {
            let state = match state {
                v1::BreakerState::Closed => BreakerState::Closed,
                v1::BreakerState::HalfOpen => BreakerState::HalfOpen,
                v1::BreakerState::Open => BreakerState::Open,
            };
            worst = worst.max(Some(state));
            if state == BreakerState::Open {
                open_for.insert(caller.workload.to_string());
            }
        }
    }
    worst.map(|state| BreakerStatus { state, open_for: open_for.into_iter().collect() })
}

fn count(number: usize) -> Option<i32> {
    i32::try_from(number).ok()
}
