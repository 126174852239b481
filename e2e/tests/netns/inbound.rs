//! Who reaches an application in a pod, and how.

use std::io::Read;

use super::network::possible;
use super::pods::{OTHER_WEB, Pods, SERVICE, WEB};
use super::talk::{dial, echo, get, status, status_of};

#[test]
fn strict_refuses_plain_text_and_says_why() {
    if !possible() {
        return;
    }
    let pods = Pods::start("Strict");
    for to in [format!("{WEB}:8080"), "[fd77:2::2]:8080".to_owned()] {
        let answer = get(&pods.stranger, &to, "web", "");
        assert_eq!(status_of(&answer), 403, "{answer}");
        assert!(answer.contains("x-weft-reason: peer-unauthenticated"), "{answer}");
    }
    // A declared TCP port and one that is not declared: an end, not a reset.
    for port in [5432, 7000] {
        let mut stream = dial(&pods.stranger, &format!("{WEB}:{port}")).unwrap();
        std::io::Write::write_all(&mut stream, b"plain text\n").unwrap();
        assert_eq!(stream.read(&mut [0; 16]).unwrap(), 0, "port {port} answers");
    }
    pods.until("the log names the reason", |pods| pods.log("web").contains("plain text refused"));
    let metrics = get(&pods.stranger, &format!("{WEB}:15090"), "web", "metrics");
    assert!(
        metrics.contains(r#"weft_rejections_total{direction="inbound",reason="peer-unauthenticated""#),
        "{metrics}"
    );
    // What is excluded goes past the proxy, and the proxy's own pages are not reached through it.
    let mut stream = dial(&pods.stranger, &format!("{WEB}:7001")).unwrap();
    assert_eq!(echo(&mut stream, b"past the proxy"), b"past the proxy");
    for port in [15000, 15001, 15006] {
        assert_eq!(status(&pods.stranger, &format!("{WEB}:{port}"), "localhost"), 0, "port {port} answers");
    }
    assert_eq!(status(&pods.order, SERVICE, "web"), 200);
}

#[test]
fn permissive_lets_plain_text_and_the_applications_own_tls_in() {
    if !possible() {
        return;
    }
    let pods = Pods::start("Permissive");
    for to in [format!("{WEB}:8080"), format!("{OTHER_WEB}:8080"), "[fd77:2::2]:8080".to_owned()] {
        let answer = get(&pods.stranger, &to, "web", "");
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains(&format!("local={to}")), "{answer}");
    }
    // Nothing but an echo behind it, so what it begins with is no whole handshake: it passes all the same.
    let tls = b"\x16\x03\x01\x00\x05\x02\x00\x00\x01\x00 an application's own TLS";
    for to in ["10.77.2.2:7000", "[fd77:2::2]:7000"] {
        let mut stream = dial(&pods.stranger, to).unwrap();
        assert_eq!(echo(&mut stream, tls), tls, "{to}");
    }
    assert_eq!(status(&pods.order, SERVICE, "web"), 200);
    // A change of mode needs no restart.
    pods.set_mode("Strict");
    pods.until("plain text is refused", |pods| status(&pods.stranger, &format!("{WEB}:8080"), "web") == 403);
    assert_eq!(status(&pods.order, SERVICE, "web"), 200);
}
