//! Places stay where they are, and move only when they must.

use std::cell::Cell;

use super::*;

fn net<'a>(
    many: bool,
    free: &'a dyn Fn(SocketAddr) -> bool,
    any: &'a dyn Fn(IpAddr) -> Option<u16>,
) -> Net<'a> {
    Net { many_addresses: many, taken: BTreeSet::new(), free, any_port: any }
}

fn needs(list: &[(&str, u16)]) -> Needs {
    list.iter().map(|(name, port)| ((*name).to_owned(), *port)).collect()
}

fn socket(place: &Place, purpose: &str) -> String {
    place.socket(purpose).unwrap().to_string()
}

#[test]
fn every_part_has_an_address_of_its_own_and_the_ports_it_likes() {
    let net = net(true, &|_| true, &|_| None);
    let mut plan = Plan::default();
    let a = plan.place("a", &needs(&[("app:http", 8080)]), &net, true).unwrap();
    let b = plan.place("b", &needs(&[("app:http", 8080)]), &net, true).unwrap();
    assert_eq!(socket(&a, "app:http"), "127.0.2.1:8080");
    assert_eq!(socket(&b, "app:http"), "127.0.3.1:8080");
}

#[test]
fn a_restart_finds_everything_where_it_was() {
    let net = net(true, &|_| true, &|_| None);
    let mut plan = Plan::default();
    for name in ["b", "c"] {
        plan.place(name, &needs(&[("admin", 15000)]), &net, true).unwrap();
    }
    let text = serde_json::to_string(&plan).unwrap();
    let mut again = Plan::from_json(&text).unwrap();
    // Another order, and a newcomer that sorts first.
    for (name, expect) in [("c", "127.0.3.1:15000"), ("a", "127.0.4.1:15000"), ("b", "127.0.2.1:15000")] {
        let place = again.place(name, &needs(&[("admin", 15000)]), &net, true).unwrap();
        assert_eq!(socket(&place, "admin"), expect, "{name}");
    }
}

#[test]
fn a_taken_port_is_replaced_at_start_only() {
    let busy = |address: SocketAddr| address.port() != 8080;
    let mut plan = Plan::default();
    let free = net(true, &|_| true, &|_| Some(40000));
    plan.place("a", &needs(&[("app:http", 8080)]), &free, true).unwrap();
    let busy = net(true, &busy, &|_| Some(40000));
    let running = plan.place("a", &needs(&[("app:http", 8080)]), &busy, false).unwrap();
    assert_eq!(socket(&running, "app:http"), "127.0.2.1:8080");
    let starting = plan.place("a", &needs(&[("app:http", 8080)]), &busy, true).unwrap();
    assert_eq!(socket(&starting, "app:http"), "127.0.2.1:40000");
}

#[test]
fn an_address_of_another_run_is_left_alone() {
    let mut net = net(true, &|_| true, &|_| None);
    let mut plan = Plan::default();
    plan.place("a", &needs(&[("admin", 15000)]), &net, true).unwrap();
    net.taken.insert("127.0.2.1".parse().unwrap());
    let moved = plan.place("a", &needs(&[("admin", 15000)]), &net, true).unwrap();
    assert_eq!(socket(&moved, "admin"), "127.0.3.1:15000");
}

#[test]
fn with_one_address_only_parts_share_it_on_different_ports() {
    let next = Cell::new(20000);
    let any = |_| {
        next.set(next.get() + 1);
        // Every port is offered twice: the plan must not give it out twice.
        Some(next.get() / 2)
    };
    let net = net(false, &|_| true, &any);
    let mut plan = Plan::default();
    let a = plan.place("a", &needs(&[("app:http", 8080), ("admin", 15000)]), &net, true).unwrap();
    let b = plan.place("b", &needs(&[("app:http", 8080)]), &net, true).unwrap();
    let all = [socket(&a, "app:http"), socket(&a, "admin"), socket(&b, "app:http")];
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), 3, "{all:?}");
    assert!(all.iter().all(|address| address.starts_with("127.0.0.1:")), "{all:?}");
}

#[test]
fn a_new_destination_does_not_move_the_others() {
    let mut plan = Plan::default();
    let names = |list: &[&str]| list.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    plan.number_destinations(&names(&["shop/product:grpc", "shop/user:grpc"]));
    assert_eq!(plan.outbound_port("shop/user:grpc"), 15101);
    plan.number_destinations(&names(&["shop/chat:http", "shop/product:grpc", "shop/user:grpc"]));
    assert_eq!(plan.outbound_port("shop/product:grpc"), 15100);
    assert_eq!(plan.outbound_port("shop/user:grpc"), 15101);
    assert_eq!(plan.outbound_port("shop/chat:http"), 15102);
}

#[test]
fn more_than_a_hundred_destinations_stay_clear_of_inbound_ports() {
    let mut plan = Plan::default();
    let names: BTreeSet<String> = (0..150).map(|n| format!("shop/s{n:03}:http")).collect();
    plan.number_destinations(&names);
    assert_eq!(plan.outbound_port("shop/s099:http"), 15199);
    assert_eq!(plan.outbound_port("shop/s100:http"), 15300);
}

#[test]
fn what_a_service_needs_follows_its_ports_and_all_destinations() {
    let mut plan = Plan::default();
    let destinations = BTreeSet::from(["shop/user:grpc".to_owned()]);
    plan.number_destinations(&destinations);
    let ports = [("http".to_owned(), 8080), ("grpc".to_owned(), 9090)];
    let needs = service_needs(&ports, &destinations, &plan);
    let expect = [
        ("admin", 15000),
        ("health", 15021),
        ("metrics", 15090),
        ("app:http", 8080),
        ("in:http", 15200),
        ("app:grpc", 9090),
        ("in:grpc", 15201),
        ("out:shop/user:grpc", 15100),
    ];
    assert_eq!(needs, expect.map(|(name, port)| (name.to_owned(), port)));
}
