//! A service's rules: who may call what.
//!
//! Names of services become identities. `from.services` takes, in this order: the Microservice so called (its identity
//! is its service account), for the word `gateway` every Gateway of the namespace, and the Gateway so called (a gateway
//! runs as the service account of its own name). A name that is none of them stands for the service account so called,
//! so that a rule for a caller that is not there yet never becomes a rule for everyone.

use weft_api::v1;
use weft_api::v1::header_match::Value;
use weft_api::v1::peer_match::Peer;
use weft_crds::microservice::{
    Authorization, AuthorizationRule, Effect, Microservice, MtlsMode, RuleFrom, RuleTo,
};

use super::keys;
use crate::world::{Name, World};

/// Name of the rule that lets the operator read the key sets that the mesh uses.
pub const KEYS_RULE: &str = "weft-jwks";

/// The rules of a service; none where everything is allowed.
pub fn of(world: &World, workload: &Name, service: &Microservice) -> Option<v1::Authorization> {
    let Authorization { default, rules, audit } = service.spec.authorization.as_ref()?;
    let said = rules.iter().map(|said| rule(world, workload, service, said));
    Some(v1::Authorization {
        default_allow: *default == Effect::Allow,
        rules: said.chain(keys_rule(world, workload, service)).collect(),
        audit: *audit,
    })
}

fn rule(world: &World, workload: &Name, service: &Microservice, said: &AuthorizationRule) -> v1::Rule {
    let claim = |(claim, values): (&String, &Vec<String>)| v1::ClaimMatch {
        claim: claim.clone(),
        values: values.clone(),
    };
    v1::Rule {
        name: said.name.clone(),
        deny: said.action == Effect::Deny,
        from: peers(world, workload, &said.from),
        to: request(service, &said.to).into_iter().collect(),
        claims: said.when.claims.iter().map(claim).collect(),
        headers: said.when.headers.iter().map(|(name, values)| header(name, values)).collect(),
    }
}

fn peers(world: &World, workload: &Name, from: &RuleFrom) -> Vec<v1::PeerMatch> {
    let mut identities = from.identities.clone();
    for text in &from.services {
        let callers = world.callers(text, &workload.namespace);
        let absent = callers.is_empty().then(|| Name::relative(text, &workload.namespace));
        identities.extend(callers.iter().chain(&absent).flat_map(|caller| world.calling_identities(caller)));
    }
    identities.sort();
    identities.dedup();
    let identities = identities.into_iter().map(Peer::Identity);
    let namespaces = from.namespaces.iter().cloned().map(Peer::Namespace);
    identities.chain(namespaces).map(|peer| v1::PeerMatch { peer: Some(peer) }).collect()
}

/// What is called; none where it is everything. The resource's ports are those of the process; on the wire they are
/// those of the service.
pub(super) fn request(service: &Microservice, to: &RuleTo) -> Option<v1::RequestMatch> {
    if to.is_empty() {
        return None;
    }
    let here = service.spec.ports.iter().filter(|port| to.ports.contains(&port.target()));
    let mut ports: Vec<u32> = here.map(|port| port.port.into()).collect();
    if ports.is_empty() && !to.ports.is_empty() {
        // None of them is a port of this service: port 0 matches nothing, an empty list would match everything.
        ports.push(0);
    }
    Some(v1::RequestMatch {
        methods: to.methods.clone(),
        paths: to.paths.clone(),
        hosts: to.hosts.iter().map(|host| host.to_ascii_lowercase()).collect(),
        ports,
    })
}

/// A header that must have one of these values.
pub(super) fn header(name: &str, values: &[String]) -> v1::HeaderMatch {
    let value = match values {
        _ if values.iter().any(|value| value == "*") => Value::Present(true),
        [one] => Value::Exact(one.clone()),
        many => {
            let escaped: Vec<String> = many.iter().map(|value| regex::escape(value)).collect();
            Value::Regex(escaped.join("|"))
        }
    };
    v1::HeaderMatch { name: name.to_ascii_lowercase(), value: Some(value) }
}

/// Without mutual TLS there are no identities: then anyone may read the key sets, which are public.
fn keys_rule(world: &World, workload: &Name, service: &Microservice) -> Option<v1::Rule> {
    let request = keys::request(world, workload)?;
    let operator = v1::PeerMatch { peer: Some(Peer::Identity(world.operator_identity())) };
    let identified = world.mtls_mode(service) != MtlsMode::Disabled;
    Some(v1::Rule {
        name: KEYS_RULE.to_owned(),
        from: identified.then_some(operator).into_iter().collect(),
        to: vec![request],
        ..v1::Rule::default()
    })
}
