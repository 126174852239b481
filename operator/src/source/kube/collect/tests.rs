//! What watches say becomes changes: lists that leave something out, classes that decide about Gateways, Secrets that
//! are followed as long as someone points to them.

use kube::api::DynamicObject;
use serde_json::{Value, json};

use super::super::read;
use super::*;

fn seen(kind: Kind, name: &str, spec: &Value) -> Said {
    let (namespace, short) = name.split_once('/').unwrap_or(("", name));
    let object = json!({"metadata": {"namespace": namespace, "name": short, "generation": 3}, "spec": spec});
    let object: DynamicObject = serde_json::from_value(object).unwrap();
    read::custom(kind, Name::new(namespace, short), &object)
}

fn gone(kind: Kind, namespace: &str, name: &str) -> Said {
    Said::Gone { kind, name: Name::new(namespace, name) }
}

fn told(changes: &[Change]) -> Vec<String> {
    let one = |change: &Change| match change {
        Change::Upsert(object) => format!("+ {}", object.reference()),
        Change::Remove(reference) => format!("- {reference}"),
        Change::Invalid { reference, .. } => format!("! {reference}"),
        other => format!("{other:?}"),
    };
    changes.iter().map(one).collect()
}

fn gateway(class: &str) -> Value {
    let tls = json!({"certificateRefs": [{"name": "shop-tls"}]});
    let listener = json!({"name": "https", "port": 443, "protocol": "HTTPS", "tls": tls});
    json!({"gatewayClassName": class, "listeners": [listener]})
}

fn wanted(collector: &Collector) -> Vec<String> {
    let mut wanted = BTreeSet::new();
    collector.update_wanted(&mut wanted);
    wanted.iter().map(ToString::to_string).collect()
}

#[test]
fn what_a_new_list_leaves_out_is_gone() {
    let mut collector = Collector::default();
    let spec = json!({"ports": [{"name": "http", "port": 80}]});
    for name in ["shop/order", "shop/user"] {
        assert_eq!(told(&collector.take(seen(Kind::Microservice, name, &spec))).len(), 1);
    }
    let all = BTreeSet::from([Name::new("shop", "user")]);
    let changes = collector.take(Said::Listed { kind: Kind::Microservice, all });
    assert_eq!(told(&changes), ["- Microservice shop/order"]);
    let changes = collector.take(Said::Listed { kind: Kind::Microservice, all: BTreeSet::new() });
    assert_eq!(told(&changes), ["- Microservice shop/user"]);
}

#[test]
fn gateways_count_as_long_as_their_class_is_ours() {
    let mut collector = Collector::default();
    assert_eq!(
        told(&collector.take(seen(Kind::Gateway, "shop/edge", &gateway("weft")))),
        ["- Gateway shop/edge"]
    );
    assert_eq!(wanted(&collector), [""; 0], "nobody asks for the certificates of others");
    let class = |controller: &str| seen(Kind::GatewayClass, "weft", &json!({"controllerName": controller}));
    let ours = collector.take(class(CONTROLLER));
    assert_eq!(told(&ours), ["+ GatewayClass weft", "+ Gateway shop/edge"]);
    assert_eq!(wanted(&collector), ["shop/shop-tls"]);
    let theirs = collector.take(class("example.com/other"));
    assert_eq!(told(&theirs), ["- GatewayClass weft", "- Gateway shop/edge"]);
    assert_eq!(wanted(&collector), [""; 0]);
    collector.take(class(CONTROLLER));
    let changes = collector.take(gone(Kind::GatewayClass, "", "weft"));
    assert_eq!(told(&changes), ["- GatewayClass weft", "- Gateway shop/edge"]);
}

#[test]
fn a_secret_is_followed_until_the_last_pointer_is_gone() {
    let mut collector = Collector::default();
    let jwt = json!([{"issuer": "i", "jwks": {"secretRef": {"name": "keys"}}}]);
    let with = json!({"ports": [{"name": "http", "port": 80}], "authentication": {"jwt": jwt}});
    collector.take(seen(Kind::Microservice, "shop/order", &with));
    collector.take(seen(Kind::Microservice, "shop/user", &with));
    assert_eq!(wanted(&collector), ["shop/keys"]);
    collector.take(gone(Kind::Microservice, "shop", "order"));
    assert_eq!(wanted(&collector), ["shop/keys"]);
    let without = json!({"ports": [{"name": "http", "port": 80}]});
    collector.take(seen(Kind::Microservice, "shop/user", &without));
    assert_eq!(wanted(&collector), [""; 0]);
    let late = k8s_openapi::api::core::v1::Secret::default();
    let changes = collector.take(read::secret(Name::new("shop", "keys"), late));
    assert_eq!(told(&changes), [""; 0], "what comes late is not kept");
}

#[test]
fn an_object_that_cannot_be_read_is_told_with_field_and_remedy() {
    let mut collector = Collector::default();
    let spec = json!({"ports": [{"name": "http", "prot": 80}]});
    let changes = collector.take(seen(Kind::Microservice, "shop/order", &spec));
    let [Change::Invalid { reference, invalid }] = changes.as_slice() else { panic!("{changes:?}") };
    assert_eq!((reference.to_string().as_str(), invalid.generation), ("Microservice shop/order", 3));
    let fields: Vec<String> = invalid.violations.iter().map(|found| found.field.to_string()).collect();
    assert!(fields.contains(&"spec.ports[0].prot".to_owned()), "{:?}", invalid.violations);
    let changes = collector.take(gone(Kind::Microservice, "shop", "order"));
    assert_eq!(told(&changes), ["- Microservice shop/order"]);
}

#[test]
fn all_is_read_once_every_kind_and_every_secret_has_been_answered() {
    let mut collector = Collector::default();
    let jwt = json!([{"issuer": "i", "jwks": {"secretRef": {"name": "keys"}}}]);
    let spec = json!({"ports": [{"name": "http", "port": 80}], "authentication": {"jwt": jwt}});
    collector.take(seen(Kind::Microservice, "shop/order", &spec));
    for kind in Kind::LISTED {
        assert!(!collector.becomes_synced());
        let all = BTreeSet::from_iter((kind == Kind::Microservice).then(|| Name::new("shop", "order")));
        // A kind of the Gateway API that may not be read keeps nobody waiting; what the mesh is made of does.
        collector.take(Said::Unanswered(kind));
        if !kind.is_optional() {
            collector.take(Said::Listed { kind, all });
        }
    }
    assert!(!collector.becomes_synced(), "the Secret is not known yet");
    collector.take(gone(Kind::Secret, "shop", "keys"));
    assert!(collector.becomes_synced());
    assert!(!collector.becomes_synced(), "it is said once");
}
