//! The operator: its replicas, who leads, and whether its webhooks work.

use k8s_openapi::api::admissionregistration::v1::WebhookClientConfig;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use weft_api::names::{MUTATING_WEBHOOK, VALIDATING_WEBHOOK};

use super::{count, some};
use crate::cluster::check::facts::{Facts, Operator};
use crate::cluster::check::is_ready;
use crate::cluster::check::probe::Probe;
use crate::cluster::check::report::{Line, Section};
use crate::cluster::operators::holder;

/// What to look at where an operator does not do what it should.
const LOOK: &str = "kubectl logs --namespace weft-system deployment/weft-operator";

/// Replicas, leader, version.
pub(super) fn replicas(found: &Operator, now: i64) -> Vec<Line> {
    let mut section = Section::new("operator");
    ready(&mut section, found);
    match &found.lease {
        Ok(lease) => leader(&mut section, lease.as_ref(), now),
        Err(why) => section.unseen("who leads", why),
    }
    match &found.mesh {
        Ok(mesh) if mesh.version == env!("CARGO_PKG_VERSION") => {
            section.ok(format!("weft-operator {} answers", mesh.version));
        }
        Ok(mesh) => section.warning(
            format!("weft-operator is {}, this command {}", mesh.version, env!("CARGO_PKG_VERSION")),
            "use the command of the operator's version",
        ),
        Err(why) => section.error(format!("the leader does not say how the mesh is: {why}"), LOOK),
    }
    section.lines()
}

fn ready(section: &mut Section, found: &Operator) {
    let wanted = found.deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let ready = found.deployment.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0);
    let text = format!("{ready} of {} ready", count(usize::try_from(wanted).unwrap_or(0), "replica"));
    let trouble: Vec<String> = found.pods.iter().flatten().filter_map(trouble).collect();
    let text = if trouble.is_empty() { text } else { format!("{text}: {}", some(&trouble)) };
    if ready == 0 {
        section.error(text, "kubectl describe pods --namespace weft-system");
    } else if ready < wanted {
        section.warning(text, "kubectl describe pods --namespace weft-system");
    } else if wanted < 2 {
        section.warning(
            text,
            "with one operator, no pod of the mesh can start while it is away: replicaCount 2",
        );
    } else {
        section.ok(text);
    }
}

/// Why a pod does not run, if it does not.
fn trouble(pod: &Pod) -> Option<String> {
    if is_ready(pod) {
        return None;
    }
    let containers = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let mut waiting = containers.filter_map(|container| container.state.as_ref()?.waiting.as_ref());
    let why = waiting.find_map(|waiting| waiting.reason.clone()).unwrap_or_else(|| "not ready".into());
    Some(format!("{} {why}", pod.name_any()))
}

fn leader(section: &mut Section, lease: Option<&Lease>, now: i64) {
    let spec = lease.and_then(|lease| lease.spec.as_ref());
    let renewed = spec.and_then(|spec| spec.renew_time.as_ref()).map_or(0, |time| time.0.as_second());
    let duration = spec.and_then(|spec| spec.lease_duration_seconds).unwrap_or(0);
    match lease.and_then(holder) {
        // A clock may differ a little from that of the operator.
        Some(pod) if renewed + 2 * i64::from(duration) >= now => section.ok(format!("{pod} leads")),
        Some(pod) => section.error(
            format!(
                "{pod} led, but has not said so for {} s: nothing is applied and no status written",
                now - renewed
            ),
            LOOK,
        ),
        None => section.error("no operator leads: nothing is applied and no status written", LOOK),
    }
}

/// Both webhook configurations, and whether the API server can ask them.
pub(super) fn webhooks(facts: &Facts, found: &Operator) -> Vec<Line> {
    let mut section = Section::new("webhooks");
    match &facts.mutating {
        Ok(all) => {
            let injector = all.iter().find(|webhook| webhook.name_any() == MUTATING_WEBHOOK);
            let clients = injector.map(|injector| {
                let webhooks = injector.webhooks.iter().flatten();
                webhooks.map(|webhook| &webhook.client_config).collect()
            });
            bundle(&mut section, MUTATING_WEBHOOK, clients);
        }
        Err(why) => section.unseen(MUTATING_WEBHOOK, why),
    }
    match &facts.validator {
        Ok(validator) => {
            let clients = validator.as_ref().map(|validator| {
                let webhooks = validator.webhooks.iter().flatten();
                webhooks.map(|webhook| &webhook.client_config).collect()
            });
            bundle(&mut section, VALIDATING_WEBHOOK, clients);
        }
        Err(why) => section.unseen(VALIDATING_WEBHOOK, why),
    }
    let no_proxy = "a pod that asks for a proxy gets none";
    answer(&mut section, "the injector", &found.injector, no_proxy);
    answer(&mut section, "the validator", &found.validator, "it is not asked");
    section.lines()
}

fn bundle(section: &mut Section, name: &str, clients: Option<Vec<&WebhookClientConfig>>) {
    let has_none =
        |client: &&WebhookClientConfig| client.ca_bundle.as_ref().is_none_or(|bundle| bundle.0.is_empty());
    match clients {
        None => section.error(
            format!("the webhook {name} is gone"),
            "helm upgrade weft charts/weft --namespace weft-system --reuse-values",
        ),
        Some(clients) if clients.iter().any(has_none) => section.error(
            format!("the webhook {name} has no caBundle: the API server cannot trust its operator"),
            format!("the leader writes it within seconds; if not: {LOOK}"),
        ),
        Some(_) => section.ok(format!("{name} has its caBundle")),
    }
}

fn answer(section: &mut Section, what: &str, probe: &Probe, silent: &str) {
    match probe {
        Probe::Answers => section.ok(format!("{what} answers the API server")),
        Probe::Silent => section.error(format!("{what} does nothing: {silent}"), LOOK),
        Probe::Unreachable(why) => {
            section.error(format!("{what} does not answer the API server: {why}"), LOOK);
        }
        Probe::Unknown(why) => section.unseen(what, why),
    }
}
