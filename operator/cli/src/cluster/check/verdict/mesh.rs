//! The mesh: roots of trust, its namespaces, and the proxies in its pods.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use kube::ResourceExt;
use weft_api::names::{
    ANNOTATION_INJECTED, INJECT, INJECT_DISABLED, NEVER_INJECTED, ROOTS_CONFIG_MAP, ROOTS_FILE,
};
use weft_api::status::{ConfigState, InstanceStatus, MeshStatus};

use super::{count, some};
use crate::cluster::check::facts::{Facts, Operator};
use crate::cluster::check::report::{Line, Section};

/// A root that ends sooner than this should have had a successor long ago.
const ROOT_ENDS_SOON: i64 = 7 * 86_400;
const DAY: i64 = 86_400;

/// The authority and its roots in every namespace.
pub(super) fn identity(facts: &Facts, found: &Operator, now: i64) -> Vec<Line> {
    let mut section = Section::new("identity");
    if let Ok(mesh) = &found.mesh {
        let left = mesh.root_expires - now;
        if left <= 0 {
            section.error(
                "the root certificate of the mesh has ended, or there is none",
                "kubectl get mesh default --output yaml says what the authority waits for",
            );
        } else if left < ROOT_ENDS_SOON {
            section.warning(
                format!("the root certificate of the mesh ends in {} days", left / DAY),
                "renew the Secret of your own authority, or see the operator's log for why it has no successor",
            );
        } else {
            section.ok(format!("the root certificate of the mesh is good for {} days", left / DAY));
        }
    }
    match (&facts.meshed, &found.roots) {
        (Ok(meshed), Ok(roots)) => self::roots(&mut section, meshed, roots),
        (Err(why), _) | (_, Err(why)) => section.unseen("the roots in the namespaces of the mesh", why),
    }
    section.lines()
}

fn roots(section: &mut Section, meshed: &[Namespace], roots: &[ConfigMap]) {
    let root_of = |map: &ConfigMap| map.data.as_ref().and_then(|data| data.get(ROOTS_FILE)).cloned();
    let found: BTreeMap<String, Option<String>> =
        roots.iter().map(|map| (map.namespace().unwrap_or_default(), root_of(map))).collect();
    let missing: Vec<String> = in_the_mesh(meshed)
        .map(ResourceExt::name_any)
        .filter(|name| found.get(name).and_then(Option::as_ref).is_none())
        .collect();
    let different: BTreeSet<&Option<String>> = found.values().collect();
    if !missing.is_empty() {
        section.error(
            format!("no ConfigMap {ROOTS_CONFIG_MAP} in {}: pods there cannot start", some(&missing)),
            "the leader makes it within seconds; if not, see its log",
        );
    } else if different.len() > 1 {
        section.warning(
            format!("the ConfigMaps {ROOTS_CONFIG_MAP} of the namespaces differ"),
            "a new root is on its way; if it stays so, see the leader's log",
        );
    } else if !found.is_empty() {
        section.ok(format!("the roots are in {}", count(found.len(), "namespace")));
    }
}

/// Namespaces whose pods get a proxy.
fn in_the_mesh(labelled: &[Namespace]) -> impl Iterator<Item = &Namespace> {
    labelled.iter().filter(|namespace| !NEVER_INJECTED.contains(&namespace.name_any().as_str()))
}

/// Namespaces of the mesh.
pub(super) fn namespaces(facts: &Facts) -> Vec<Line> {
    let mut section = Section::new("namespaces");
    let labelled = match &facts.meshed {
        Ok(labelled) => labelled,
        Err(why) => {
            section.unseen("namespaces", why);
            return section.lines();
        }
    };
    for namespace in labelled {
        namespace_of_the_mesh(&mut section, namespace);
    }
    let meshed: Vec<String> = in_the_mesh(labelled).map(ResourceExt::name_any).collect();
    if meshed.is_empty() {
        section
            .warning("no namespace is in the mesh", format!("kubectl label namespace NAME {INJECT}=enabled"));
    } else {
        section.ok(format!("{} in the mesh: {}", count(meshed.len(), "namespace"), some(&meshed)));
    }
    section.lines()
}

fn namespace_of_the_mesh(section: &mut Section, namespace: &Namespace) {
    let name = namespace.name_any();
    if NEVER_INJECTED.contains(&name.as_str()) {
        section.warning(
            format!("{name} is labelled {INJECT}=enabled, but its pods never get a proxy"),
            format!("kubectl label namespace {name} {INJECT}-"),
        );
        return;
    }
    let labels = namespace.labels();
    if let Some(level) =
        labels.get("pod-security.kubernetes.io/enforce").filter(|level| *level != "privileged")
    {
        section.error(
            format!("{name} enforces Pod Security {level}, which refuses the container that redirects traffic (NET_ADMIN)"),
            format!("kubectl label namespace {name} pod-security.kubernetes.io/enforce=privileged --overwrite"),
        );
    }
    let istio = labels.get("istio-injection").is_some_and(|value| value == "enabled");
    let istio = istio || labels.contains_key("istio.io/rev");
    let linkerd = namespace.annotations().get("linkerd.io/inject").is_some_and(|value| value == "enabled");
    for (_, mesh) in [(istio, "Istio"), (linkerd, "Linkerd")].into_iter().filter(|(is, _)| *is) {
        section.error(
            format!("{name} is in the mesh of {mesh} too, so its pods would get two proxies"),
            format!("take the namespace out of one of them: kubectl label namespace {name} {INJECT}-"),
        );
    }
}

/// Proxies, and pods that should have one.
pub(super) fn proxies(found: &Operator) -> Vec<Line> {
    let mut section = Section::new("proxies");
    match &found.workloads {
        Ok(pods) => without_proxy(&mut section, pods),
        Err(why) => section.unseen("pods", why),
    }
    if let Ok(mesh) = &found.mesh {
        of_mesh(&mut section, mesh);
    }
    section.lines()
}

fn without_proxy(section: &mut Section, pods: &[Pod]) {
    let mut bare: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for pod in pods.iter().filter(|pod| lacks_proxy(pod)) {
        bare.entry(pod.namespace().unwrap_or_default()).or_default().push(pod.name_any());
    }
    for (namespace, names) in &bare {
        section.warning(
            format!("{} of {namespace} without a proxy: {}", count(names.len(), "pod"), some(names)),
            format!("they started before the namespace was in the mesh: kubectl rollout restart deployment --namespace {namespace}"),
        );
    }
    if bare.is_empty() && !pods.is_empty() {
        section.ok("every pod of the mesh has its proxy");
    }
}

/// Whether a pod of a meshed namespace should have a proxy and has none.
fn lacks_proxy(pod: &Pod) -> bool {
    let ended = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    let ended = matches!(ended, Some("Succeeded" | "Failed")) || pod.metadata.deletion_timestamp.is_some();
    let opted_out = pod.annotations().get(INJECT).is_some_and(|value| value == INJECT_DISABLED);
    let on_host = pod.spec.as_ref().and_then(|spec| spec.host_network).unwrap_or(false);
    !ended && !opted_out && !on_host && !pod.annotations().contains_key(ANNOTATION_INJECTED)
}

fn of_mesh(section: &mut Section, mesh: &MeshStatus) {
    let instances = mesh.services.iter().map(|service| &service.instances);
    let instances = instances.chain(mesh.gateways.iter().map(|gateway| &gateway.instances)).flatten();
    let proxies: Vec<&InstanceStatus> = instances.filter(|instance| instance.meshed).collect();
    let named = |filter: &dyn Fn(&InstanceStatus) -> bool| -> Vec<String> {
        proxies.iter().filter(|instance| filter(instance)).map(|instance| instance.name.clone()).collect()
    };
    let other = named(&|it| !it.proxy_version.is_empty() && it.proxy_version != mesh.version);
    let refusing = named(&|it| it.config == ConfigState::Refused);
    let away = named(&|it| !it.connected);
    if !other.is_empty() {
        section.warning(
            format!("{} of another version than the operator: {}", count(other.len(), "proxy"), some(&other)),
            "restart their pods",
        );
    }
    if !refusing.is_empty() {
        section.error(
            format!("refused the newest configuration and run on their last good one: {}", some(&refusing)),
            "`weft status` says why",
        );
    }
    if !away.is_empty() {
        section.warning(
            format!("not connected to an operator: {}", some(&away)),
            "kubectl logs POD --container weft-proxy says why; they serve on what they have",
        );
    }
    if other.is_empty() && refusing.is_empty() && away.is_empty() {
        section.ok(format!("proxies connected and of the operator's version: {}", proxies.len()));
    }
    for problem in &mesh.problems {
        section.warning(problem.to_string(), String::new());
    }
}
