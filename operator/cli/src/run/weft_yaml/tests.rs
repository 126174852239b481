//! What weft.yaml may say, and how it answers when it says something else.

use super::*;

fn check(text: &str, expect: &[&str]) {
    let faults = parse(text).err().unwrap_or_default();
    let shown: Vec<String> =
        faults.iter().map(|f| format!("{}:{}: {}: {}", f.at.line, f.at.column, f.field, f.message)).collect();
    assert_eq!(shown, expect, "{text}");
}

#[test]
fn a_full_file_is_read() {
    let text = r#"
namespace: shop
servers:
  postgres: {databases: [users, orders]}
  redis: {}
services:
  order:
    command: [shop-order, --verbose]
    instances: 2
    env:
      HTTP_ADDR: "${address}:${port.http}"
      LIMIT: 10
gateways:
  public: {address: 127.0.0.1, ports: {http: 9000}, selfSigned: [localhost]}
"#;
    let file = parse(text).unwrap();
    assert_eq!(file.namespace.unwrap().value, "shop");
    assert!(file.servers.redis);
    let databases: Vec<String> = file.servers.postgres.unwrap().into_iter().map(|d| d.value).collect();
    assert_eq!(databases, ["users", "orders"]);
    let (name, order) = &file.services[0];
    assert_eq!((name.value.as_str(), name.at), ("order", Position { line: 7, column: 3 }));
    assert_eq!(order.command[1].value, "--verbose");
    assert_eq!(order.instances, Some(2));
    assert_eq!(order.env["LIMIT"].value, "10");
    assert_eq!(order.env["HTTP_ADDR"].at, Position { line: 11, column: 18 });
    let (_, public) = &file.gateways[0];
    assert_eq!(public.ports["http"].value, 9000);
    assert_eq!(public.self_signed[0].value, "localhost");
}

#[test]
fn an_empty_file_is_fine() {
    assert_eq!(parse("").unwrap(), WeftYaml::default());
    assert_eq!(parse("# nothing yet\n\n").unwrap(), WeftYaml::default());
}

#[test]
fn unknown_fields_are_refused_with_the_nearest_known_one() {
    check(
        "servces: {}\n",
        &[
            "1:1: servces: unknown field; did you mean `services`? (known here: `namespace`, `servers`, `services`, `gateways`)",
        ],
    );
    check(
        "services:\n  order:\n    comand: [x]\n    command: [x]\n",
        &[
            "3:5: services.order.comand: unknown field; did you mean `command`? (known here: `command`, `instances`, `env`, `directory`)",
        ],
    );
}

#[test]
fn every_problem_is_reported_not_only_the_first() {
    check(
        "services:\n  a: {command: [x], instances: 100}\n  b: {}\ngateways: {public: {address: home, ports: {http: 0}}}\n",
        &[
            "2:32: services.a.instances: must be a whole number from 0 to 64",
            "3:6: services.b.command: is missing; name the program to run: command: [my-service]",
            "4:30: gateways.public.address: is not an IP address; write for example 127.0.0.1, or 0.0.0.0 for all",
            "4:50: gateways.public.ports.http: must be a whole number from 1 to 65535",
        ],
    );
}

#[test]
fn wrong_kinds_are_refused_with_what_is_expected() {
    check("services: [a]\n", &["1:11: services: is a list, expected a map of `name: value`"]);
    check(
        "services: {a: {command: run}}\n",
        &[
            "1:25: services.a.command: is text, expected a list of texts: [a, b]",
            "1:15: services.a.command: is missing; name the program to run: command: [my-service]",
        ],
    );
    check(
        "services: {a: {command: [x], env: {SEED: true}}}\n",
        &["1:42: services.a.env.SEED: is a boolean, expected text; put it in quotes: \"true\""],
    );
    check(
        "servers: {postgres: {databases: [Users]}}\n",
        &[
            "1:34: servers.postgres.databases: must be 1 to 63 lower-case letters, digits and underscores with a letter first",
        ],
    );
}

#[test]
fn what_is_no_yaml_is_refused_at_its_place() {
    let faults = parse("services:\n  a: [x\n").unwrap_err();
    assert_eq!(faults.len(), 1);
    assert!(faults[0].at.line >= 2, "{faults:?}");
    assert!(faults[0].message.starts_with("not valid YAML: "), "{faults:?}");
    let twice = parse("services: {}\nservices: {}\n").unwrap_err();
    assert_eq!(twice[0].at.line, 2, "{twice:?}");
}
