//! What an application in a pod calls: by Service, by instance, outside the mesh, and past the proxy.

use std::time::{Duration, Instant};

use super::app::GREETING;
use super::capture::{Capture, holds, holds_tls};
use super::network::possible;
use super::pods::{OTHER_WEB, Pods, SERVICE, SERVICE_V6, SPARED_USER, STRANGER, WEB};
use super::talk::{dial, echo, get, listen, status};

#[test]
fn calls_to_a_service_are_redirected_over_both_families_and_are_tls_on_the_wire() {
    if !possible() {
        return;
    }
    let pods = Pods::start("Strict");
    let capture = Capture::begin(&pods.node.namespace);
    for to in [SERVICE, SERVICE_V6] {
        let answer = get(&pods.order, to, "web", "the-secret-path");
        assert!(answer.starts_with("HTTP/1.1 200"), "{to}: {answer}");
        assert!(answer.contains("GET /the-secret-path"), "{answer}");
    }
    let seen = capture.take();
    assert!(holds_tls(&seen) && !holds(&seen, b"the-secret-path"), "{} frames", seen.len());
    // The authority says where a request goes; the address only says that it was redirected.
    assert_eq!(status(&pods.order, "203.0.113.1:80", "web.shop.svc.cluster.local"), 200);
    // The same capture does see what is not encrypted.
    get(&pods.stranger, &format!("{WEB}:8080"), "web", "another-path");
    assert!(holds(&capture.take(), b"another-path"));
}

#[test]
fn a_server_that_speaks_first_is_not_kept_waiting() {
    if !possible() {
        return;
    }
    let pods = Pods::start("Strict");
    // The address is asked for once.
    assert_eq!(listen(&mut dial(&pods.order, "10.96.0.10:5432").unwrap(), GREETING.len()), GREETING);
    let capture = Capture::begin(&pods.node.namespace);
    let begun = Instant::now();
    let mut stream = dial(&pods.order, "10.96.0.10:5432").unwrap();
    assert_eq!(listen(&mut stream, GREETING.len()), GREETING);
    assert!(begun.elapsed() < Duration::from_millis(900), "{:?}: no client is waited for", begun.elapsed());
    assert_eq!(echo(&mut stream, b"select the-secret"), b"select the-secret");
    let seen = capture.take();
    assert!(holds_tls(&seen) && !holds(&seen, b"the-secret"));
}

#[test]
fn the_address_of_an_instance_means_that_instance_ready_or_not() {
    if !possible() {
        return;
    }
    let pods = Pods::start("Strict");
    for ip in [WEB, OTHER_WEB] {
        for _ in 0..4 {
            let answer = get(&pods.order, &format!("{ip}:8080"), ip, "");
            assert!(answer.contains(&format!("local={ip}:8080")), "{answer}");
        }
    }
    pods.set_instances(&[WEB]);
    let by_service =
        |pods: &Pods| (0..4).all(|_| get(&pods.order, SERVICE, "web", "").contains(&format!("local={WEB}:")));
    pods.until("only one is an endpoint", by_service);
    let answer = get(&pods.order, &format!("{OTHER_WEB}:8080"), OTHER_WEB, "");
    assert!(answer.contains(&format!("local={OTHER_WEB}:8080")), "{answer}");
    // A workload that is its own endpoint meets its own proxy.
    assert_eq!(status(&pods.web, SERVICE, "web"), 200);
}

#[test]
fn what_is_excluded_is_not_redirected() {
    if !possible() {
        return;
    }
    let pods = Pods::start("Strict");
    assert_eq!(status(&pods.order, SERVICE, "web"), 200);
    // Nobody has a Service's address: without the proxy there is nothing to connect to.
    for to in ["10.96.0.10:81", "10.96.0.20:80", "[fd96::20]:80"] {
        assert!(dial(&pods.order, to).is_err(), "{to} was redirected");
    }
    let as_user = |user: &str| {
        let mut curl = pods.order.command("setpriv");
        curl.arg(format!("--reuid={user}")).args([
            "--clear-groups",
            "curl",
            "-s",
            "-m",
            "5",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
        ]);
        let output = curl.args(["-H", "Host: web", &format!("http://{SERVICE}/")]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    assert_eq!((as_user("1000").as_str(), as_user(SPARED_USER).as_str()), ("200", "000"));
}

#[test]
fn what_the_mesh_does_not_know_passes_as_it_is() {
    if !possible() {
        return;
    }
    let mut pods = Pods::start("Strict");
    assert_eq!(status(&pods.order, &format!("{STRANGER}:8080"), "stranger.example"), 200);
    // The beginning of a TLS handshake, and whatever follows: not looked into.
    let tls = b"\x16\x03\x01\x00\x05hello and more";
    let echoed = |pods: &Pods, to: &str, bytes: &[u8]| echo(&mut dial(&pods.order, to).unwrap(), bytes);
    for to in ["10.77.3.2:7000", "[fd77:3::2]:7000"] {
        assert_eq!(echoed(&pods, to, tls), tls, "{to}");
    }
    // Without the operator what is known goes on, and what is not known does not hang.
    assert_eq!(status(&pods.order, SERVICE, "web"), 200);
    pods.kill("operator");
    let new = b"not asked about before";
    assert_eq!(echoed(&pods, "10.77.3.2:7001", new), new);
    assert_eq!(status(&pods.order, SERVICE, "web"), 200);
    let held = get(&pods.order, &format!("{WEB}:8080"), "nobody.knows", "");
    assert!(
        held.starts_with("HTTP/1.1 200"),
        "an endpoint that is held is never called in plain text: {held}"
    );
    // The application has ended: the proxy has nothing to wait for.
    assert!(pods.terminate("order") < Duration::from_secs(5));
}
