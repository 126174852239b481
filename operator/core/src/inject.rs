//! What a pod of the mesh looks like: its own containers and beside them a proxy, through which all its traffic goes.
//!
//! [`pod`] is the whole path, used by the webhook and by `weft inject`: it leaves a pod alone, refuses it with a remedy,
//! or gives it a proxy. Doing it twice is doing it once, so another webhook may change the pod in between. Nothing is
//! changed that need not be; [`patch`] says the difference in a form that spares what this code does not know.

mod annotations;
pub mod patch;
mod probes;
mod quantity;
pub mod template;

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::core::v1::{
    Container, EnvVar, Lifecycle, LifecycleHandler, Pod, PodSpec, SleepAction, Volume,
};
use serde_json::{Map, Value};
use weft_api::names;
use weft_crds::{FieldPath, Violation};

use annotations::Wishes;
pub use template::Template;
use template::value;

/// Label of a namespace: the Pod Security standard that it enforces.
pub const POD_SECURITY: &str = "pod-security.kubernetes.io/enforce";
/// Annotation that the kubelet gives to what it shows of a pod that it runs from a file.
const MIRROR: &str = "kubernetes.io/config.mirror";
/// Variable with the probes that the proxy makes in place of the kubelet.
const PROBES: &str = "WEFT_PROBES";
/// How long an application goes on before it is told to stop, so that callers learn of its end first.
const DRAIN_DELAY: i64 = 3;
/// How long Kubernetes waits for the end of a pod that says nothing of it.
const GRACE_PERIOD: i64 = 30;

/// Where a pod is to run, and whose it is.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// The Microservice that selects it; none: it is known by its service account.
    pub microservice: Option<&'a str>,
    /// The Pod Security standard that its namespace enforces.
    pub pod_security: Option<&'a str>,
}

/// What became of a pod.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// The pod, as it is to be.
    pub pod: Pod,
    /// Why it has no proxy; none: it has one.
    pub left: Option<Left>,
    /// What its owner should know.
    pub warnings: Vec<String>,
}

/// Why a pod is left without a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Left {
    /// Its annotation says so.
    OptedOut,
    /// Its namespace never has proxies.
    Namespace,
    /// It is what the kubelet shows of a pod that it runs from a file.
    Mirror,
    /// It has no network of its own whose traffic could be redirected.
    HostNetwork,
    /// It runs on Windows.
    Windows,
}

impl Left {
    /// As annotations and metrics spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OptedOut => "opted-out",
            Self::Namespace => "namespace",
            Self::Mirror => "mirror-pod",
            Self::HostNetwork => "host-network",
            Self::Windows => "windows",
        }
    }

    /// What to tell the owner of a pod that was to have a proxy and cannot.
    fn warning(self) -> Option<&'static str> {
        match self {
            Self::OptedOut | Self::Namespace | Self::Mirror => None,
            Self::HostNetwork => Some(
                "pod is not in the mesh: spec.hostNetwork is true, and the node's traffic is not redirected; \
                 remove it, or set the annotation weft.dev/inject: disabled to say that it is meant",
            ),
            Self::Windows => Some(
                "pod is not in the mesh: there is no proxy for Windows; \
                 set the annotation weft.dev/inject: disabled to say that it is meant",
            ),
        }
    }
}

/// A pod that cannot be in the mesh as it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Refusal(pub Vec<Violation>);

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, violation) in self.0.iter().enumerate() {
            f.write_str(if at == 0 { "" } else { ". " })?;
            violation.fmt(f)?;
        }
        Ok(())
    }
}

/// Gives a pod its proxy, where it is to have one.
pub fn pod(pod: &Pod, place: Place<'_>, template: &Template) -> Result<Outcome, Refusal> {
    let mut pod = pod.clone();
    if let Some(reason) = left(&pod, place)? {
        return Ok(leave(pod, reason));
    }
    let mut found = Found::default();
    let wishes = annotations::read(&pod, template, &mut found);
    let spec = pod.spec.get_or_insert_default();
    let marked = annotation(pod.metadata.annotations.as_ref(), names::ANNOTATION_INJECTED).is_some();
    let known = take_out(spec, marked, &mut found);
    check_security(place, &mut found);
    check_users(spec, &mut found);
    check_ports(spec, &mut found);
    let probes = probes::rewrite(spec, &wishes, known, &mut found);
    delay_end(spec, &wishes, &mut found);
    let account = account(spec);
    put_in(spec, &wishes, (place.namespace, place.microservice.unwrap_or(&account)), probes);
    let annotations = pod.metadata.annotations.get_or_insert_default();
    annotations.insert(names::ANNOTATION_INJECTED.to_owned(), template.version.clone());
    annotations.insert(names::ANNOTATION_ACCOUNT.to_owned(), account);
    annotations.remove(names::ANNOTATION_NOT_INJECTED);
    if found.violations.is_empty() {
        Ok(Outcome { pod, left: None, warnings: found.warnings })
    } else {
        Err(Refusal(found.violations))
    }
}

/// Service account that a pod runs as.
pub fn account(spec: &PodSpec) -> String {
    let named = spec.service_account_name.as_deref().or(spec.service_account.as_deref());
    named.filter(|name| !name.is_empty()).unwrap_or("default").to_owned()
}

/// What is wrong with a pod, and what is worth a word.
#[derive(Debug, Default)]
struct Found {
    violations: Vec<Violation>,
    warnings: Vec<String>,
}

impl Found {
    fn wrong(&mut self, field: FieldPath, message: impl Into<String>, remedy: impl Into<String>) {
        self.violations.push(Violation { field, message: message.into(), remedy: remedy.into() });
    }
}

/// Why a pod is to be left alone.
fn left(pod: &Pod, place: Place<'_>) -> Result<Option<Left>, Refusal> {
    if names::NEVER_INJECTED.contains(&place.namespace) {
        return Ok(Some(Left::Namespace));
    }
    let annotations = pod.metadata.annotations.as_ref();
    match annotation(annotations, names::INJECT) {
        None | Some(names::INJECT_ENABLED) => {}
        Some(names::INJECT_DISABLED) => return Ok(Some(Left::OptedOut)),
        Some(other) => {
            return Err(Refusal(vec![Violation {
                field: annotation_path(names::INJECT),
                message: format!("`{other}` says neither that the pod gets a proxy nor that it gets none"),
                remedy: format!("write {} or {}", names::INJECT_ENABLED, names::INJECT_DISABLED),
            }]));
        }
    }
    let spec = pod.spec.as_ref();
    let windows = spec.and_then(|spec| spec.os.as_ref()).is_some_and(|os| os.name == "windows");
    let host_network = spec.and_then(|spec| spec.host_network).unwrap_or_default();
    Ok(match () {
        () if annotation(annotations, MIRROR).is_some() => Some(Left::Mirror),
        () if windows => Some(Left::Windows),
        () if host_network => Some(Left::HostNetwork),
        () => None,
    })
}

/// Notes on the pod that it is outside the mesh, where that is not what was asked for.
fn leave(mut pod: Pod, reason: Left) -> Outcome {
    let warnings: Vec<String> = reason.warning().into_iter().map(str::to_owned).collect();
    if !warnings.is_empty() {
        let annotations = pod.metadata.annotations.get_or_insert_default();
        annotations.insert(names::ANNOTATION_NOT_INJECTED.to_owned(), reason.as_str().to_owned());
        // Nobody may take it for an instance with a proxy.
        annotations.remove(names::ANNOTATION_INJECTED);
        annotations.remove(names::ANNOTATION_ACCOUNT);
    }
    Outcome { pod, left: Some(reason), warnings }
}

/// Takes out what an earlier injection put in, and gives the probes that it took over. Where there was none, our names
/// must be free.
fn take_out(spec: &mut PodSpec, marked: bool, found: &mut Found) -> Map<String, Value> {
    let path = FieldPath::of(&["spec"]);
    for (at, container) in spec.containers.iter().enumerate() {
        check_name(&container.name, &path.field("containers").index(at), found);
    }
    if !marked {
        for (at, container) in spec.init_containers.iter().flatten().enumerate() {
            check_name(&container.name, &path.field("initContainers").index(at), found);
        }
        for (at, volume) in spec.volumes.iter().flatten().enumerate() {
            check_name(&volume.name, &path.field("volumes").index(at), found);
        }
        return Map::new();
    }
    let mut probes = None;
    if let Some(containers) = &mut spec.init_containers {
        let proxy = containers.iter().find(|container| container.name == names::CONTAINER_PROXY);
        let variables = proxy.and_then(|proxy| proxy.env.as_ref()).into_iter().flatten();
        probes = variables.filter(|variable| variable.name == PROBES).find_map(|it| it.value.clone());
        containers.retain(|container| !is_ours(&container.name));
    }
    if let Some(volumes) = &mut spec.volumes {
        volumes.retain(|volume| !is_ours(&volume.name));
    }
    probes.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}

fn is_ours(name: &str) -> bool {
    [names::CONTAINER_PROXY, names::CONTAINER_INIT, names::VOLUME_IDENTITY].contains(&name)
}

fn check_name(name: &str, path: &FieldPath, found: &mut Found) {
    if is_ours(name) {
        let remedy = "give it another name, or set the annotation weft.dev/inject: disabled to run the pod \
                      outside the mesh";
        found.wrong(path.field("name"), format!("`{name}` is the name of a part of the proxy"), remedy);
    }
}

/// Who redirects a pod's traffic needs a privilege that the stricter standards do not let anybody have.
fn check_security(place: Place<'_>, found: &mut Found) {
    if let Some(standard @ ("baseline" | "restricted")) = place.pod_security {
        found.warnings.push(format!(
            "namespace {} enforces Pod Security {standard}, which refuses NET_ADMIN of weft-init; set its label \
             {POD_SECURITY}: privileged (`warn` and `audit` may stay)",
            place.namespace
        ));
    }
}

/// What runs as the proxy's user would not go through the proxy.
fn check_users(spec: &PodSpec, found: &mut Found) {
    let path = FieldPath::of(&["spec"]);
    let mut check = |user: Option<i64>, path: FieldPath| {
        if user == Some(i64::from(names::PROXY_UID)) {
            let message =
                format!("{} is the user of the proxy, whose own traffic is not redirected", names::PROXY_UID);
            found.wrong(path.field("securityContext").field("runAsUser"), message, "run as another user");
        }
    };
    check(spec.security_context.as_ref().and_then(|security| security.run_as_user), path.clone());
    for (at, container) in spec.containers.iter().enumerate() {
        let user = container.security_context.as_ref().and_then(|security| security.run_as_user);
        check(user, path.field("containers").index(at));
    }
}

/// Two cannot listen on one port.
fn check_ports(spec: &PodSpec, found: &mut Found) {
    let taken = [
        names::PORT_ADMIN,
        names::PORT_OUTBOUND,
        names::PORT_INBOUND,
        names::PORT_HEALTH,
        names::PORT_METRICS,
    ];
    for container in &spec.containers {
        let ports = container.ports.iter().flatten().map(|port| port.container_port);
        for port in ports.filter(|port| taken.iter().any(|taken| i32::from(*taken) == *port)) {
            let name = &container.name;
            found.warnings.push(format!(
                "container {name} names port {port}, where the proxy listens; let it listen on another port"
            ));
        }
    }
}

/// Lets an application that says nothing of its end go on for a moment: until then calls still come.
fn delay_end(spec: &mut PodSpec, wishes: &Wishes, found: &mut Found) {
    let grace = spec.termination_grace_period_seconds.unwrap_or(GRACE_PERIOD);
    let delay = match wishes.drain_delay {
        Some(delay) if delay > grace => {
            let message = format!("is longer than the pod has to end, {grace}s");
            let remedy = "shorten it, or lengthen spec.terminationGracePeriodSeconds";
            found.wrong(annotation_path(annotations::DRAIN_DELAY), message, remedy);
            return;
        }
        Some(delay) => delay,
        // A pod that has hardly any time to end is not to spend all of it waiting.
        None if DRAIN_DELAY * 2 > grace => 0,
        None => DRAIN_DELAY,
    };
    if delay == 0 {
        return;
    }
    for container in &mut spec.containers {
        let lifecycle = container.lifecycle.get_or_insert_with(Lifecycle::default);
        if lifecycle.pre_stop.is_none() {
            let sleep = Some(SleepAction { seconds: delay });
            lifecycle.pre_stop = Some(LifecycleHandler { sleep, ..LifecycleHandler::default() });
        }
    }
}

/// Puts the proxy before everything else, so that whatever starts later finds the network as it will be.
fn put_in(spec: &mut PodSpec, wishes: &Wishes, workload: (&str, &str), probes: Map<String, Value>) {
    let template = &wishes.template;
    let mut init = template.init();
    init.env = Some(wishes.redirect()).filter(|env| !env.is_empty());
    let mut proxy = template.proxy(&format!("{}/{}", workload.0, workload.1));
    proxy.restart_policy = Some("Always".to_owned());
    let env = proxy.env.get_or_insert_default();
    env.extend(listeners());
    if !probes.is_empty() {
        env.push(value(PROBES, &Value::Object(probes).to_string()));
    }
    let containers: &mut Vec<Container> = spec.init_containers.get_or_insert_default();
    containers.splice(0..0, [init, proxy]);
    let volumes: &mut Vec<Volume> = spec.volumes.get_or_insert_default();
    volumes.push(Template::volume());
}

/// Where redirected traffic arrives, over IPv4 and IPv6.
fn listeners() -> [EnvVar; 2] {
    [
        value("WEFT_OUTBOUND_ADDR", &format!("[::]:{}", names::PORT_OUTBOUND)),
        value("WEFT_INBOUND_ADDR", &format!("[::]:{}", names::PORT_INBOUND)),
    ]
}

fn annotation<'a>(annotations: Option<&'a BTreeMap<String, String>>, name: &str) -> Option<&'a str> {
    annotations.and_then(|annotations| annotations.get(name)).map(String::as_str)
}

fn annotation_path(name: &str) -> FieldPath {
    FieldPath::of(&["metadata", "annotations", name])
}
