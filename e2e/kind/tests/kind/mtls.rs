//! Mutual TLS: who is let in without it, and what can be seen between two pods.

use anyhow::{Result, ensure};
use serde_json::json;
use weft_e2e_kind::exec::Place;
use weft_e2e_kind::runner::Cx;
use weft_e2e_kind::wait::eventually;
use weft_e2e_kind::{ROLLOUT, SOON};

use crate::apps::{expect, is, pod, selecting, service};

/// Strict refuses a pod without identity; Permissive lets it in; members of the mesh pass either way.
pub(crate) async fn plain_text_is_refused_under_strict_and_taken_under_permissive(cx: Cx) -> Result<()> {
    let (mesh, outside) = tokio::try_join!(cx.meshed(), cx.plain())?;
    mesh.apply(&service("echo", 1, "  mtls: {mode: Strict}\n")).await?;
    let (friend, stranger, ()) =
        tokio::try_join!(mesh.caller("friend"), outside.caller("stranger"), mesh.in_service("echo"))?;
    let url = format!("http://echo.{}.svc/", mesh.name);

    expect(&friend.get(&url).await?, 200, "", "Strict lets a member of the mesh in")?;
    // A pod outside the mesh reaches a Service once its node has heard of the endpoint.
    eventually("Strict refuses a pod outside the mesh", SOON, || async {
        is(stranger.get(&url).await, 403, "peer-unauthenticated")
    })
    .await?;

    mesh.patch_microservice("echo", json!({"spec": {"mtls": {"mode": "Permissive"}}})).await?;
    eventually("Permissive lets a pod outside the mesh in", SOON, || async {
        is(stranger.get(&url).await, 200, "")
    })
    .await?;
    expect(&friend.get(&url).await?, 200, "", "Permissive lets a member of the mesh in")?;
    mesh.condition("echo", ("Secured", "False", "PlainTextAllowed")).await?;
    Ok(())
}

/// A capture on the server's interface shows TLS and not the payload; that it would show it is proved by plain text.
pub(crate) async fn between_pods_goes_tls_and_no_payload(cx: Cx) -> Result<()> {
    let (mesh, outside) = tokio::try_join!(cx.meshed(), cx.plain())?;
    mesh.apply(&(pod("echo", CAPTURE) + &selecting("echo", "  mtls: {mode: Permissive}\n"))).await?;
    let (friend, stranger, _) =
        tokio::try_join!(mesh.caller("friend"), outside.caller("stranger"), mesh.ready_pod("echo"))?;
    mesh.in_service("echo").await?;
    mesh.logged(("echo", "capture"), "tcpdump listens", |line| line.contains("listening on").then_some(()))
        .await?;
    let url = format!("http://echo.{}.svc/", mesh.name);
    let send = async |from: &Place, secret: &str| {
        let header = format!("x-secret: {secret}");
        from.call(&["-X", "POST", "-H", &header, "-d", secret, &url]).await
    };

    expect(&send(&friend, "hidden-in-tls").await?, 200, "", "from within the mesh")?;
    // A pod outside the mesh reaches a Service once its node has heard of the endpoint.
    eventually("Permissive lets a pod outside the mesh in", SOON, || async {
        is(send(&stranger, "plain-to-see").await, 200, "")
    })
    .await?;
    let capture = mesh.place("echo", "capture");
    let packets = eventually("the plain request is in the capture", ROLLOUT, || async {
        let ran = capture.exec(&["cat", "/capture/packets"]).await.map_err(|error| format!("{error:#}"))?;
        let seen = contains(&ran.stdout, b"plain-to-see");
        if seen { Ok(ran.stdout) } else { Err(format!("{} bytes without it", ran.stdout.len())) }
    })
    .await?;
    ensure!(contains(&packets, &[0x17, 0x03, 0x03]), "no TLS record of application data is in the capture");
    ensure!(
        !contains(&packets, b"hidden-in-tls"),
        "what was sent within the mesh can be read between the pods"
    );
    Ok(())
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// What sees the packets of a pod, beside the application.
const CAPTURE: &str = "  - name: capture
    image: $TOOLS
    command: [tcpdump, -i, eth0, -U, -Z, root, -w, /capture/packets, tcp]
    securityContext: {runAsUser: 0, capabilities: {add: [NET_RAW]}}
    volumeMounts: [{name: capture, mountPath: /capture}]
  volumes: [{name: capture, emptyDir: {}}]
";
