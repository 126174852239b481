//! `weft check` and `--help`, as a user sees them.

#![expect(clippy::unwrap_used, reason = "test code")]

mod support;

use std::path::Path;

use support::{microservice, weft};

/// What `weft check` prints for these files, with the directory left out, and whether it is content.
fn check(files: &[(&str, &str)]) -> (bool, String) {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    let output = weft().arg("check").arg(dir.path()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).replace(&format!("{}/", dir.path().display()), "");
    (output.status.success(), text)
}

#[test]
fn a_good_directory_is_content() {
    let yaml = "services:\n  a: {command: [a], env: {X: \"${address}:${port.http} ${outbound.b.http}\"}}\n  b: {command: [b]}\n";
    let (ok, text) =
        check(&[("a.yaml", &microservice("a")), ("b.yaml", &microservice("b")), ("weft.yaml", yaml)]);
    assert_eq!((ok, text.as_str()), (true, "ok: 2 objects, 0 errors, 0 warnings\n"));
}

#[test]
fn bad_manifests_are_told_with_place_and_remedy() {
    let unknown = microservice("a").replace("ports:", "prots:");
    let (ok, text) = check(&[("a.yaml", &unknown)]);
    assert!(!ok);
    assert!(text.contains("error: a.yaml:5:3: "), "{text}");
    assert!(text.contains("prots"), "{text}");
    let range = microservice("a").replace("port: 80,", "port: 80000,");
    let (ok, text) = check(&[("a.yaml", &range)]);
    assert!(!ok && text.contains("a.yaml:6:"), "{text}");
}

#[test]
fn names_that_lead_nowhere_are_told_with_the_nearest() {
    let yaml = "\
services:
  ordr: {command: [x]}
  user: {command: [x], env: {A: \"${port.htp}\", B: \"${postgres}/x\", C: \"${open\"}}
gateways:
  pubic: {}
";
    let files =
        [("order.yaml", &*microservice("order")), ("user.yaml", &*microservice("user")), ("weft.yaml", yaml)];
    let (ok, text) = check(&files);
    let expect = "\
warning: weft.yaml: Microservice default/order has no entry under `services`, so it is not started here
error: weft.yaml:2:3: services.ordr: the manifests have no Microservice of this name; did you mean `order`? (there are: order, user)
error: weft.yaml:3:33: services.user.env.A: unknown variable `${port.htp}`; did you mean `port.http`? (known here: \
${address}, ${instance}, ${index}, ${namespace}, ${service}, ${directory}, ${state}, ${port.http}, ${outbound.order.http}, \
${outbound.user.http})
error: weft.yaml:3:51: services.user.env.B: `${postgres}` needs a server; add `servers: {postgres: {databases: [...]}}`
error: weft.yaml:3:71: services.user.env.C: `${` is not closed with `}`; write `$${` for a literal `${`
error: weft.yaml:5:3: gateways.pubic: the manifests have no Gateway of this name (there are: none)
refused: 2 objects, 5 errors, 1 warning
";
    assert_eq!((ok, text.as_str()), (false, expect));
}

#[test]
fn two_objects_of_one_name_are_told() {
    let (ok, text) = check(&[("a.yaml", &microservice("a")), ("b.yaml", &microservice("a"))]);
    assert!(!ok);
    assert!(
        text.contains("error: b.yaml:1: Microservice default/a: metadata.name: is there twice, first at a.yaml:1; remove one"),
        "{text}"
    );
}

#[test]
fn a_missing_path_is_told() {
    let output = weft().args(["check", "/no/such/place"]).output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).contains("/no/such/place: cannot be read"));
}

#[test]
fn the_shop_is_content() {
    let shop = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/shop");
    let output = weft().arg("check").arg(shop).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}");
    assert!(text.ends_with(" 0 warnings\n"), "{text}");
}

#[test]
fn help_says_what_there_is() {
    let help = |args: &[&str]| {
        let output = weft().args(args).arg("--help").env_clear().output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    let subcommands = ["run", "status", "stop", "logs", "check", "inject", "proxy"];
    let pages: Vec<String> =
        subcommands.iter().map(|name| format!("$ weft {name} --help\n{}", help(&[name]))).collect();
    insta::assert_snapshot!(format!("$ weft --help\n{}\n{}", help(&[]), pages.join("\n")));
}

#[test]
fn what_is_wrong_only_together_is_told_with_its_place() {
    let global =
        microservice("a") + "  rateLimits: [{requests: 100, per: 1m, key: client-ip, scope: Global}]\n";
    let (ok, text) = check(&[("a.yaml", &global)]);
    assert!(!ok);
    assert!(
        text.contains("error: a.yaml:7:64: Microservice default/a: spec.rateLimits[0].scope: "),
        "{text}"
    );
}
