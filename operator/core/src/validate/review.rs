//! What is wrong or odd about an object that somebody is about to store in a cluster, in the words of `weft check`.
//!
//! What can become right by what comes later is a warning: objects come in any order. What cannot is an error. Unlike
//! among objects that are there, where the later by name is told of a clash, here it is always the one that comes.

use super::{Problem, Severity, object};
use crate::world::{Name, Object, ObjectKind, ObjectRef, World, affected};

/// Everything that would be wrong or odd about the object if it were in the world; none where it is another
/// controller's. What is wrong already is a warning: a change of something else must not wait for it.
pub fn review(world: &mut World, new: Object) -> Option<Vec<Problem>> {
    let reference = new.reference();
    let before = found(world, &reference);
    let after = world.supposing(new, |world| is_ours(world, &reference).then(|| found(world, &reference)))?;
    Some(after.into_iter().map(|problem| weigh(problem, &before)).collect())
}

/// Gateways of a class of ours, and routes that lead through one of them or to a Microservice.
fn is_ours(world: &World, reference: &ObjectRef) -> bool {
    let own = &reference.name.namespace;
    match reference.kind {
        ObjectKind::Gateway => world.gateway(&reference.name).is_some_and(|gateway| {
            let class = Name::new("", &gateway.spec.gateway_class_name);
            !world.is_in_cluster() || world.contains(&ObjectRef::new(ObjectKind::GatewayClass, class))
        }),
        ObjectKind::HttpRoute | ObjectKind::GrpcRoute | ObjectKind::TlsRoute => {
            world.route(reference).is_some_and(|route| {
                route.parents().iter().any(|parent| {
                    let name = Name::new(parent.namespace_or(own), &parent.name);
                    world.gateway(&name).is_some() || world.microservice(&name).is_some()
                })
            })
        }
        _ => true,
    }
}

fn weigh(mut problem: Problem, before: &[Problem]) -> Problem {
    // A Redis for all can be named in the Mesh later.
    let may_come = problem.field.starts_with("spec.rateLimits[");
    if may_come || before.contains(&problem) {
        problem.severity = Severity::Warning;
    }
    problem
}

fn found(world: &World, reference: &ObjectRef) -> Vec<Problem> {
    let mut problems = object(world, reference);
    problems.extend(rivals(world, reference));
    problems
}

/// Clashes of which the other one is told among objects that are there.
fn rivals(world: &World, reference: &ObjectRef) -> Vec<Problem> {
    let name = &reference.name;
    let error = |field: &str, message: String, remedy: &str| Problem {
        severity: Severity::Error,
        object: reference.clone(),
        field: field.to_owned(),
        message,
        remedy: remedy.to_owned(),
    };
    match reference.kind {
        ObjectKind::Microservice => {
            let Some(service) = world.microservice(name) else { return Vec::new() };
            let later = affected::rivals(world, name, service).filter(|other| *other > name);
            let told = later.map(|other| {
                error(
                    "spec.selector",
                    format!("selects the same pods as Microservice {other}"),
                    "give one of them a selector of its own, or make them one Microservice with two ports",
                )
            });
            told.collect()
        }
        ObjectKind::Gateway if world.gateway(name).is_some() && world.microservice(name).is_some() => {
            vec![error(
                "metadata.name",
                format!("Microservice {name} has the same name, and both would act with one identity"),
                "rename one of them",
            )]
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::world::Change;

    fn microservice(name: &str, spec: &Value) -> Object {
        let mut whole = json!({"ports": [{"name": "http", "port": 80, "protocol": "HTTP"}]});
        whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let object = json!({"metadata": {"name": name, "namespace": "shop"}, "spec": whole});
        Object::Microservice(serde_json::from_value(object).unwrap())
    }

    fn world(objects: impl IntoIterator<Item = Object>) -> World {
        let mut world = World::default();
        for object in objects {
            world.apply(Change::Upsert(Box::new(object)));
        }
        world
    }

    fn check(world: &mut World, new: Object, expect: &[(Severity, &str)]) {
        let before = super::super::world(world);
        let found = review(world, new).unwrap();
        let told: Vec<_> = found.iter().map(|problem| (problem.severity, problem.field.as_str())).collect();
        assert_eq!(told, expect, "{found:?}");
        assert_eq!(super::super::world(world), before, "the world is not as before");
    }

    #[test]
    fn the_one_that_comes_is_told_of_a_clash_whatever_its_name() {
        let app = json!({"selector": {"app": "x"}});
        let mut world = world([microservice("m", &app)]);
        for name in ["a", "z"] {
            check(&mut world, microservice(name, &app), &[(Severity::Error, "spec.selector")]);
        }
        check(&mut world, microservice("a", &json!({"selector": {"app": "y"}})), &[]);
        check(&mut world, microservice("m", &app), &[]);
        let gateway = json!({"metadata": {"name": "m", "namespace": "shop"},
            "spec": {"gatewayClassName": "weft", "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}]}});
        let gateway = Object::Gateway(serde_json::from_value(gateway).unwrap());
        check(&mut world, gateway, &[(Severity::Error, "metadata.name")]);
    }

    #[test]
    fn what_another_controller_acts_on_is_not_judged() {
        let mut world = World::in_cluster();
        let route = |parent: &str| {
            let route = json!({"metadata": {"name": "r", "namespace": "shop"},
                "spec": {"parentRefs": [{"name": parent}], "rules": [{"backendRefs": [{"name": "x", "port": 80}]}]}});
            Object::HttpRoute(serde_json::from_value(route).unwrap())
        };
        let gateway = |class: &str| {
            let gateway = json!({"metadata": {"name": "public", "namespace": "shop"}, "spec": {
                "gatewayClassName": class, "listeners": [{"name": "a", "port": 80, "protocol": "HTTP"}]}});
            Object::Gateway(serde_json::from_value(gateway).unwrap())
        };
        let class =
            json!({"metadata": {"name": "weft"}, "spec": {"controllerName": "weft.dev/gateway-controller"}});
        world.apply(Change::Upsert(Box::new(Object::GatewayClass(serde_json::from_value(class).unwrap()))));
        assert_eq!(review(&mut world, gateway("other")), None);
        assert_eq!(review(&mut world, gateway("weft")), Some(Vec::new()));
        assert_eq!(review(&mut world, route("public")), None);
        world.apply(Change::Upsert(Box::new(gateway("weft"))));
        let found = review(&mut world, route("public")).unwrap();
        assert_eq!(found[0].field, "spec.rules[0].backendRefs[0]");
        assert_eq!(review(&mut world, route("theirs")), None);
    }

    #[test]
    fn what_is_wrong_already_stays_a_warning() {
        let app = json!({"selector": {"app": "x"}});
        let mut world = world([microservice("a", &app), microservice("b", &app)]);
        let replicas = json!({"selector": {"app": "x"}, "mtls": {"mode": "Permissive"}});
        check(&mut world, microservice("b", &replicas), &[(Severity::Warning, "spec.selector")]);
    }

    #[test]
    fn what_may_come_later_is_a_warning() {
        let mut world = World::default();
        let limits =
            json!({"rateLimits": [{"requests": 1, "per": "1m", "key": "client-ip", "scope": "Global"}]});
        check(&mut world, microservice("a", &limits), &[(Severity::Warning, "spec.rateLimits[0].scope")]);
        let rule = json!({"authorization": {"rules": [{"name": "r", "from": {"services": ["nobody"]}}]}});
        let field = "spec.authorization.rules[0].from.services[0]";
        check(&mut world, microservice("a", &rule), &[(Severity::Warning, field)]);
    }

    #[test]
    fn what_can_never_be_right_is_an_error() {
        let jwks = json!({"jwks": {"uri": "http://169.254.169.254/keys"}, "issuer": "https://a.example"});
        let jwt = json!({"authentication": {"jwt": [jwks]}});
        let expect = [(Severity::Error, "spec.authentication.jwt[0].jwks.uri")];
        check(&mut World::default(), microservice("a", &jwt), &expect);
    }
}
