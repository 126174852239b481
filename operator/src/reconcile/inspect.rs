//! What the operator shows of itself: the status of the mesh, put together from the world and the streams, and a view
//! of the world for debugging. Shows names and versions only, never contents, since those hold keys of gateways.

use serde_json::{Value, json};
use weft_api::status::{
    Breaker, ConfigState, GatewayStatus, InstanceStatus, KeysStatus, ListenerAddress, MeshStatus,
    ServiceStatus,
};
use weft_core::compile;
use weft_core::instances::Instance;
use weft_core::world::{InstanceRef, Name, ObjectKind, ObjectRef};

use super::Reconciler;
use crate::jwks::Wanted;
use crate::publish::Progress;

impl Reconciler {
    /// The status of the whole mesh.
    pub(super) fn mesh_status(&self, now: i64) -> MeshStatus {
        MeshStatus {
            version: env!("CARGO_PKG_VERSION").into(),
            trust_domain: self.world.mesh().trust_domain.clone(),
            time: now,
            root_expires: self.authority.as_ref().map(|authority| authority.expires()).unwrap_or_default(),
            services: self.world.microservices().map(|(name, _)| self.service_status(name)).collect(),
            gateways: self.world.gateways().map(|(name, _)| self.gateway_status(name)).collect(),
            keys: self.keys_status(),
            problems: self.problems.values().flatten().cloned().collect(),
        }
    }

    /// Of the key sets that are wanted now; those of an earlier configuration are kept, but mean nothing.
    fn keys_status(&self) -> Vec<KeysStatus> {
        let wanted = self.outlets.wanted_keys.borrow();
        let status = |wanted: &Wanted| match self.keys.get(&wanted.name) {
            Some(keys) => {
                KeysStatus { name: wanted.name.clone(), fetched: keys.fetched_at, error: keys.error.clone() }
            }
            None => KeysStatus { name: wanted.name.clone(), fetched: 0, error: "not fetched yet".into() },
        };
        wanted.iter().map(status).collect()
    }

    fn service_status(&self, name: &Name) -> ServiceStatus {
        let reference = ObjectRef::new(ObjectKind::Microservice, name.clone());
        ServiceStatus {
            namespace: name.namespace.clone(),
            name: name.name.clone(),
            conditions: self.status.conditions(&reference),
            instances: self
                .world
                .instances_of(name)
                .map(|instance| self.instance_status(name, instance))
                .collect(),
        }
    }

    fn gateway_status(&self, name: &Name) -> GatewayStatus {
        let listeners = self.world.instances_of(name).flat_map(|instance| &instance.listeners);
        let addresses = listeners.map(|(listener, address)| {
            let listener = listener.clone();
            ListenerAddress { listener, address: *address }
        });
        GatewayStatus {
            namespace: name.namespace.clone(),
            name: name.name.clone(),
            addresses: addresses.collect(),
            instances: self
                .world
                .instances_of(name)
                .map(|instance| self.instance_status(name, instance))
                .collect(),
        }
    }

    fn instance_status(&self, workload: &Name, instance: &Instance) -> InstanceStatus {
        let progress = self.progress(&InstanceRef::new(workload.clone(), &instance.name));
        let connected = progress.is_some();
        let progress = progress.unwrap_or_default();
        let config = match &progress {
            _ if !connected => ConfigState::None,
            Progress { refusal, .. } if !refusal.is_empty() => ConfigState::Refused,
            Progress { synced: true, .. } => ConfigState::Synced,
            _ => ConfigState::Pending,
        };
        let report = progress.report.unwrap_or_default();
        let breakers = report.breakers.iter().map(|breaker| Breaker {
            destination: breaker.destination.clone(),
            state: breaker.state().into(),
            failures: breaker.failures,
            successes: breaker.successes,
        });
        InstanceStatus {
            name: instance.name.clone(),
            address: instance.address,
            ready: instance.ready,
            meshed: instance.meshed,
            connected,
            proxy_version: progress.proxy_version,
            config,
            acked_version: progress.acked_version,
            refusal: progress.refusal,
            certificate_expires: report.certificate_not_after,
            breakers: breakers.collect(),
            active_requests: report.active_requests,
            open_connections: report.open_connections,
        }
    }

    /// What is known, by name and version.
    pub(super) fn world_view(&self) -> Value {
        let objects: Vec<Value> = self
            .world
            .references()
            .into_iter()
            .map(|reference| {
                let conditions = self.status.conditions(&reference);
                json!({
                    "object": reference.to_string(),
                    "generation": self.world.generation(&reference),
                    "conditions": conditions,
                })
            })
            .collect();
        let instances: Vec<Value> = self.world.instances().map(instance_view).collect();
        let destinations: serde_json::Map<String, Value> = self
            .world
            .destinations()
            .into_iter()
            .map(|name| {
                let resources = compile::destination(&self.world, &name);
                let versions = resources.iter().map(|resource| {
                    let kind = resource.kind().as_str_name();
                    json!({"kind": kind, "name": resource.name, "version": resource.version})
                });
                let versions = versions.collect();
                (name, versions)
            })
            .collect();
        json!({
            "trustDomain": self.world.mesh().trust_domain,
            "objects": objects,
            "instances": instances,
            "destinations": destinations,
            "keys": self.keys.keys().collect::<Vec<_>>(),
        })
    }
}

fn instance_view(instance: &Instance) -> Value {
    json!({
        "namespace": instance.namespace,
        "service": instance.service,
        "name": instance.name,
        "address": instance.address,
        "ports": instance.ports,
        "outbound": instance.outbound,
        "listeners": instance.listeners,
        "ready": instance.ready,
        "meshed": instance.meshed,
    })
}
