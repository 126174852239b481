//! What the mesh needs to know of an `EndpointSlice`: where the pods behind a Service are, on which ports, and which of
//! them are to get traffic.

use std::net::IpAddr;

use k8s_openapi::api::discovery::v1::{Endpoint as SliceEndpoint, EndpointSlice};

/// Label of a slice: the Service it belongs to.
const SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// Some of the endpoints of one Service, all of one address family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slice {
    /// Name of the Service, in the slice's own namespace.
    pub service: String,
    /// Ports by name, the empty one for a port without; where the pods listen.
    pub ports: Vec<(String, u16)>,
    /// The endpoints.
    pub endpoints: Vec<Endpoint>,
}

/// One address behind a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The address.
    pub address: IpAddr,
    /// Whether it is to get traffic.
    pub ready: bool,
    /// Whether it still can take some, though it is ending.
    pub draining: bool,
    /// Where it is.
    pub zone: String,
    /// Zones whose callers it is meant for, where the cluster has decided that.
    pub for_zones: Vec<String>,
    /// The pod; none for an address that someone wrote down.
    pub pod: Option<String>,
}

impl Slice {
    /// What a slice says; none where it belongs to no Service, or holds names instead of addresses.
    pub fn of(slice: &EndpointSlice) -> Option<Self> {
        let service = slice.metadata.labels.as_ref()?.get(SERVICE_LABEL)?.clone();
        let ports = slice.ports.iter().flatten().filter_map(|port| {
            let number = u16::try_from(port.port?).ok()?;
            let udp = port.protocol.as_deref().is_some_and(|protocol| protocol != "TCP");
            (!udp).then(|| (port.name.clone().unwrap_or_default(), number))
        });
        let endpoints = slice.endpoints.iter().filter_map(endpoint);
        (slice.address_type != "FQDN").then(|| Self {
            service,
            ports: ports.collect(),
            endpoints: endpoints.collect(),
        })
    }
}

/// All addresses of an endpoint are the same pod's: the first is as good as the others.
fn endpoint(endpoint: &SliceEndpoint) -> Option<Endpoint> {
    let address = endpoint.addresses.first()?.parse().ok()?;
    let pod = endpoint.target_ref.as_ref().filter(|target| target.kind.as_deref() == Some("Pod"));
    let conditions = endpoint.conditions.as_ref();
    // A condition that is not said holds (discovery.k8s.io/v1, EndpointConditions).
    let ready = conditions.and_then(|conditions| conditions.ready).unwrap_or(true);
    let serving = conditions.and_then(|conditions| conditions.serving).unwrap_or(ready);
    let terminating = conditions.and_then(|conditions| conditions.terminating).unwrap_or(false);
    Some(Endpoint {
        address,
        ready,
        draining: serving && terminating && !ready,
        zone: endpoint.zone.clone().unwrap_or_default(),
        for_zones: for_zones(endpoint),
        pod: pod.and_then(|target| target.name.clone()),
    })
}

/// In the order of their names, so that the same hints are the same instance.
fn for_zones(endpoint: &SliceEndpoint) -> Vec<String> {
    let hints = endpoint.hints.as_ref().and_then(|hints| hints.for_zones.as_ref());
    let mut zones: Vec<String> = hints.into_iter().flatten().map(|zone| zone.name.clone()).collect();
    zones.sort_unstable();
    zones
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn slice(endpoints: &Value, more: &Value) -> Option<Slice> {
        let mut slice = json!({
            "metadata": {"name": "order-x", "namespace": "shop", "labels": {"kubernetes.io/service-name": "order"}},
            "addressType": "IPv4",
            "ports": [{"name": "http", "port": 8080}, {"port": 53, "protocol": "UDP"}, {"port": 9090, "protocol": "TCP"}],
            "endpoints": endpoints,
        });
        for (key, value) in more.as_object().unwrap() {
            slice[key] = value.clone();
        }
        Slice::of(&serde_json::from_value(slice).unwrap())
    }

    #[test]
    fn what_a_slice_says_is_kept_short() {
        let pod = json!({"kind": "Pod", "name": "order-1", "namespace": "shop"});
        let hints = json!({"forZones": [{"name": "b"}, {"name": "a"}]});
        let slice = slice(
            &json!([{"addresses": ["10.1.0.1"], "zone": "a", "targetRef": pod, "hints": hints}]),
            &json!({}),
        )
        .unwrap();
        assert_eq!(slice.service, "order");
        assert_eq!(slice.ports, [("http".to_owned(), 8080), (String::new(), 9090)]);
        let [endpoint] = slice.endpoints.as_slice() else { panic!("{slice:?}") };
        assert!(endpoint.ready && !endpoint.draining, "a condition that is not said holds");
        assert_eq!((endpoint.pod.as_deref(), endpoint.zone.as_str()), (Some("order-1"), "a"));
        assert_eq!(endpoint.for_zones, ["a", "b"]);
    }

    #[test]
    fn conditions_say_who_gets_traffic() {
        let check = |conditions: Value, expect: (bool, bool)| {
            let endpoints = json!([{"addresses": ["10.1.0.1"], "conditions": conditions}]);
            let slice = slice(&endpoints, &json!({})).unwrap();
            assert_eq!((slice.endpoints[0].ready, slice.endpoints[0].draining), expect, "{conditions}");
        };
        check(json!({"ready": true, "serving": true, "terminating": false}), (true, false));
        check(json!({"ready": false, "serving": false, "terminating": false}), (false, false));
        check(json!({"ready": false, "serving": true, "terminating": true}), (false, true));
        check(json!({"ready": false, "serving": false, "terminating": true}), (false, false));
        check(json!({"ready": false}), (false, false));
    }

    #[test]
    fn a_slice_of_names_or_of_no_service_is_none() {
        assert_eq!(slice(&json!([]), &json!({"addressType": "FQDN"})), None);
        assert_eq!(slice(&json!([]), &json!({"metadata": {"name": "x", "namespace": "shop"}})), None);
    }
}
