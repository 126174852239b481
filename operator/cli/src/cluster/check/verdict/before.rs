//! What can be judged before Weft is installed: the cluster, and what the installation needs.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::version::Info;
use kube::ResourceExt;
use weft_api::names::MUTATING_WEBHOOK;

use super::some;
use crate::cluster::check::facts::{Facts, Installed};
use crate::cluster::check::report::{Line, Section};

/// First minor version of Kubernetes 1 with native sidecars.
const FIRST_MINOR: u32 = 29;
const INSTALL_DEFINITIONS: &str =
    "helm install weft-crds charts/weft-crds --namespace weft-system --create-namespace";
/// Injectors of other meshes, by the beginning of their webhook configuration's name.
const OTHERS: [(&str, &str); 5] = [
    ("istio-sidecar-injector", "Istio"),
    ("istio-revision-tag", "Istio"),
    ("linkerd-proxy-injector", "Linkerd"),
    ("consul-connect-injector", "Consul"),
    ("kuma-admission", "Kuma"),
];

/// The cluster itself.
pub(super) fn kubernetes(facts: &Facts) -> Vec<Line> {
    let mut section = Section::new("kubernetes");
    match &facts.version {
        Ok(info) => version(&mut section, info),
        Err(why) => section.unseen("the version", why),
    }
    match &facts.gateway_kinds {
        Ok(kinds) if kinds.is_empty() => section.warning(
            "the Gateway API is not installed, so there are no gateways and routes",
            "https://gateway-api.sigs.k8s.io says how; then `helm upgrade` adds the GatewayClass `weft`",
        ),
        Ok(_) => section.ok("the Gateway API is installed"),
        Err(why) => section.unseen("the Gateway API", why),
    }
    match &facts.mutating {
        Ok(webhooks) => {
            let names: Vec<String> = webhooks.iter().map(ResourceExt::name_any).collect();
            others(&mut section, &names);
        }
        Err(why) => section.unseen("webhooks", why),
    }
    section.lines()
}

fn version(section: &mut Section, info: &Info) {
    let digits: String = info.minor.chars().take_while(char::is_ascii_digit).collect();
    let told = &info.git_version;
    match (info.major.as_str(), digits.parse::<u32>()) {
        ("1", Ok(minor)) if minor < FIRST_MINOR => section.error(
            format!("Kubernetes {told} has no native sidecars"),
            format!("upgrade the cluster to 1.{FIRST_MINOR} or newer"),
        ),
        _ => section.ok(format!("Kubernetes {told} has native sidecars")),
    }
}

fn others(section: &mut Section, webhooks: &[String]) {
    let mut found: Vec<&str> = OTHERS
        .iter()
        .filter(|(prefix, _)| webhooks.iter().any(|name| name.starts_with(prefix)))
        .map(|(_, mesh)| *mesh)
        .collect();
    found.dedup();
    if found.is_empty() {
        section.ok("no other mesh gives pods a proxy");
    } else {
        section.warning(
            format!("{} gives pods a proxy too", found.join(" and ")),
            "a pod can be in one mesh only: keep their namespaces apart",
        );
    }
}

/// What the installation brings, or needs.
pub(super) fn installation(facts: &Facts) -> Vec<Line> {
    let mut section = Section::new("installation");
    let is_installed = matches!(facts.operator, Ok(Installed::Yes(_)));
    match &facts.definitions {
        Ok(found) if found.is_empty() && !is_installed => {
            section.warning("the definitions are not installed", INSTALL_DEFINITIONS);
        }
        Ok(found) => definitions(&mut section, found),
        Err(why) => section.unseen("the definitions", why),
    }
    if let Ok(Installed::No(denied)) = &facts.operator {
        match denied {
            Ok(denied) if denied.is_empty() => section.ok("you may install Weft"),
            Ok(denied) => section.error(
                format!("you may not create {}", denied.join(", ")),
                "let somebody install Weft who is cluster-admin",
            ),
            Err(why) => section.unseen("what you may do", why),
        }
        absent(&mut section, facts);
    }
    section.lines()
}

fn definitions(section: &mut Section, found: &[CustomResourceDefinition]) {
    let missing: Vec<&str> = ["microservices.weft.dev", "meshes.weft.dev"]
        .into_iter()
        .filter(|name| !found.iter().any(|definition| definition.name_any() == *name))
        .collect();
    let waiting = found.iter().find(|definition| !is_established(definition));
    if !missing.is_empty() {
        section.error(format!("the definitions {} are missing", missing.join(" and ")), INSTALL_DEFINITIONS);
    } else if let Some(definition) = waiting {
        let conditions = definition.status.iter().flat_map(|status| status.conditions.iter().flatten());
        let why: Vec<String> = conditions
            .filter(|condition| condition.status == "False")
            .filter_map(|condition| condition.message.clone())
            .collect();
        section
            .error(format!("{} is not served yet: {}", definition.name_any(), some(&why)), "wait a moment");
    } else {
        section.ok("the definitions of Microservice and Mesh are installed");
    }
}

fn is_established(definition: &CustomResourceDefinition) -> bool {
    let conditions = definition.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Established" && condition.status == "True")
}

/// There is no operator: that is what is to be installed, or something is left of one.
fn absent(section: &mut Section, facts: &Facts) {
    let webhooks = facts.mutating.as_deref().unwrap_or_default();
    if webhooks.iter().any(|webhook| webhook.name_any() == MUTATING_WEBHOOK) {
        section.error(
            format!("the webhook {MUTATING_WEBHOOK} is there, but no operator to answer it: no pod of the mesh can start"),
            format!(
                "install Weft again, or take the rest away: kubectl delete mutatingwebhookconfiguration \
                 {MUTATING_WEBHOOK}"
            ),
        );
    } else {
        section.warning(
            "the operator is not installed",
            "helm install weft charts/weft --namespace weft-system --create-namespace",
        );
    }
}
