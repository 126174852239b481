//! What becomes of a small project: processes, environment, registration.

use super::*;
use crate::run::project::Listener;

fn program(dir: &Path, name: &str) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let path = dir.join(name);
    std::fs::write(&path, "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn ground(dir: &Path) -> Ground {
    Ground {
        state: State::create(&dir.join("state")).unwrap(),
        tools: Tools::new(&dir.display().to_string()),
        operator_program: program(dir, "weft-operator"),
        proxy_program: program(dir, "weft-proxy"),
        gateway_address: Ipv4Addr::LOCALHOST.into(),
        log: "info".into(),
        drain: Duration::from_secs(30),
        operator: "127.0.2.1:15012".parse().unwrap(),
        postgres: Some("postgres://weft:secret@127.0.3.1:5432".into()),
        redis: None,
    }
}

fn project(dir: &Path) -> Project {
    let service = Service {
        namespace: "shop".into(),
        name: "order".into(),
        prefix: "order".into(),
        account: "orders".into(),
        ports: vec![("http".into(), 8080), ("grpc".into(), 9090)],
        health: Health::Http { port: "http".into(), path: "/health".into() },
        command: vec!["shop-order".into(), "--name=${instance}".into()],
        env: BTreeMap::from([
            ("HTTP_ADDR".to_owned(), "${address}:${port.http}".to_owned()),
            ("DATABASE_URL".to_owned(), "${postgres}/orders".to_owned()),
            ("USER_URL".to_owned(), "http://${outbound.user.grpc}".to_owned()),
        ]),
        directory: dir.to_owned(),
        instances: 2,
    };
    let gateway = Gateway {
        namespace: "shop".into(),
        name: "public".into(),
        prefix: "public".into(),
        address: None,
        listeners: vec![Listener { name: "http".into(), port: 8080, scheme: "http" }],
        certificates: BTreeMap::new(),
    };
    let destinations = ["shop/order:http", "shop/order:grpc", "shop/user:grpc"].map(str::to_owned);
    Project {
        services: vec![service],
        gateways: vec![gateway],
        destinations: destinations.into(),
        ..Project::default()
    }
}

/// Lays the project out on a network where the given address is taken.
fn lay_out(dir: &Path, taken: Option<&str>) -> Result<Vec<UnitSpec>> {
    program(dir, "shop-order");
    let taken: Option<SocketAddr> = taken.map(|address| address.parse().unwrap());
    let (mut plan, mut tokens) = (Plan::default(), BTreeMap::new());
    let free = |address| Some(address) != taken;
    let net = Net { many_addresses: true, taken: BTreeSet::new(), free: &free, any_port: &|_| Some(40000) };
    let mut layout = Layout { plan: &mut plan, tokens: &mut tokens, running: BTreeSet::new(), net };
    units(&ground(dir), &project(dir), &mut layout)
}

#[test]
fn an_instance_gets_its_places_filled_in() {
    let dir = tempfile::tempdir().unwrap();
    let units = lay_out(dir.path(), None).unwrap();
    let names: Vec<&str> = units.iter().map(|unit| unit.name.as_str()).collect();
    assert_eq!(names, ["order-0", "order-1", "public-0"]);
    let (app, check) = units[1].app.as_ref().unwrap();
    assert_eq!(app.args, ["--name=order-1"]);
    let env: BTreeMap<&str, &str> =
        app.env.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!(env["HTTP_ADDR"], "127.0.3.1:8080");
    assert_eq!(env["DATABASE_URL"], "postgres://weft:secret@127.0.3.1:5432/orders");
    assert_eq!(env["USER_URL"], "http://127.0.3.1:15102");
    assert_eq!(*check, Check::Http("127.0.3.1:8080".parse().unwrap(), "/health".into()));
}

#[test]
fn the_operator_knows_an_instance_by_the_hash_of_its_token() {
    let dir = tempfile::tempdir().unwrap();
    let units = lay_out(dir.path(), None).unwrap();
    let (proxy, _) = units[0].proxy.as_ref().unwrap();
    let env: BTreeMap<&str, &str> =
        proxy.env.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!(
        (env["WEFT_WORKLOAD"], env["WEFT_ACCOUNT"], env["WEFT_INSTANCE"]),
        ("shop/order", "orders", "order-0")
    );
    let registration = units[0].registration.as_ref().unwrap();
    assert_eq!(registration.token_sha256, sha256_hex(env["WEFT_TOKEN"]));
    assert_eq!(registration.ports["grpc"].app.to_string(), "127.0.2.1:9090");
    assert_eq!(registration.ports["grpc"].peers.to_string(), "127.0.2.1:15201");
    assert_eq!(registration.outbound["shop/order:grpc"].to_string(), "127.0.2.1:15100");
    let other = units[1].proxy.as_ref().unwrap();
    assert!(!other.0.env.iter().any(|(_, value)| value == env["WEFT_TOKEN"]));
}

#[test]
fn a_gateway_has_listeners_and_urls() {
    let dir = tempfile::tempdir().unwrap();
    let units = lay_out(dir.path(), None).unwrap();
    let gateway = &units[2];
    assert_eq!(gateway.urls, ["http://127.0.0.1:8080"]);
    assert_eq!(gateway.registration.as_ref().unwrap().listeners["http"].to_string(), "127.0.0.1:8080");
    assert_eq!(gateway.proxy.as_ref().unwrap().0.args, ["gateway"]);
}

#[test]
fn a_taken_gateway_port_is_told_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let error = lay_out(dir.path(), Some("127.0.0.1:8080")).unwrap_err().to_string();
    assert!(error.starts_with("port 8080 of 127.0.0.1 is taken, and Gateway public wants it"), "{error}");
}
