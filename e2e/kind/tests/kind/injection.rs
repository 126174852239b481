//! Which pods get a proxy, and that the kubelet's probes work through it.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::PostParams;
use serde_json::{Value, json};
use weft_e2e_kind::ROLLOUT;
use weft_e2e_kind::runner::Cx;
use weft_e2e_kind::space::{Space, has_proxy, is_ready, restarts, told};
use weft_e2e_kind::wait::{Goal, one, until};

use crate::apps::{expect, selecting};

/// What the API server would make of a pod, the webhooks included.
async fn as_admitted(space: &Space, metadata: &Value, host_network: bool) -> Result<Pod> {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": metadata,
        "spec": {"hostNetwork": host_network, "containers": [{"name": "app", "image": "nothing"}]},
    });
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let pods = space.api::<Pod>();
    pods.create(&dry, &serde_json::from_value(pod)?).await.with_context(|| format!("pod {metadata}"))
}

/// The namespace's label, the pod's annotation, and the places where neither counts.
pub(crate) async fn labels_and_annotations_decide(cx: Cx) -> Result<()> {
    let (mesh, outside) = tokio::try_join!(cx.meshed(), cx.plain())?;
    let system = cx.existing("kube-system");
    let inject = |value: &str| json!({"name": "pod", "annotations": {"weft.dev/inject": value}});
    let silent = json!({"name": "pod"});
    let cases = [
        (&mesh, &silent, false, true, "a pod in a meshed namespace"),
        (&mesh, &inject("disabled"), false, false, "one that opts out"),
        (&mesh, &silent, true, false, "one in the node's network"),
        (&outside, &silent, false, false, "a pod elsewhere"),
        (&outside, &inject("enabled"), false, true, "one that opts in"),
        (&system, &inject("enabled"), false, false, "one in kube-system"),
    ];
    for (space, metadata, host_network, meshed, what) in cases {
        let pod = as_admitted(space, metadata, host_network).await?;
        let expected = if meshed { "should" } else { "should not" };
        ensure!(has_proxy(&pod) == meshed, "{what} {expected} have a proxy");
    }

    let forged = json!({"name": "pod", "annotations": {
        "weft.dev/account": "admin", "weft.dev/injected": "forged",
    }});
    let pod = as_admitted(&mesh, &forged, false).await?;
    let annotations = pod.metadata.annotations.clone().unwrap_or_default();
    let account = annotations.get("weft.dev/account").map(String::as_str);
    ensure!(account == Some("default"), "a pod may not name its own account: {annotations:?}");
    let first: Vec<String> = pod
        .spec
        .into_iter()
        .filter_map(|spec| spec.init_containers)
        .flatten()
        .map(|init| init.name)
        .collect();
    ensure!(first == ["weft-init", "weft-proxy"], "init containers are {first:?}");
    Ok(())
}

/// The annotation that is wrong is named, and no pod without it is made instead.
pub(crate) async fn bad_annotations_refuse_the_pod(cx: Cx) -> Result<()> {
    let mesh = cx.meshed().await?;
    for (annotation, value) in [
        ("weft.dev/inject", "maybe"),
        ("config.weft.dev/skip-outbound-ports", "http"),
        ("config.weft.dev/skip-outbound-cidrs", "10.0.0.0/99"),
        ("config.weft.dev/proxy-log", "loud"),
    ] {
        let metadata = json!({"name": "pod", "annotations": {annotation: value}});
        let refused = as_admitted(&mesh, &metadata, false).await;
        let error = refused.err().with_context(|| format!("{annotation}: {value} was taken"))?;
        let said = format!("{error:#}");
        ensure!(said.contains(annotation), "{annotation}: {value} was refused without naming it: {said}");
    }
    Ok(())
}

/// Probes of every kind reach the application, say what it says, and need no hole in Strict.
pub(crate) async fn probes_work_under_strict(cx: Cx) -> Result<()> {
    let mesh = cx.meshed().await?;
    mesh.apply(&(PROBED.to_owned() + &selecting("probed", "  mtls: {mode: Strict}\n"))).await?;
    let pod = mesh.ready_pod("probed").await?;
    mesh.in_service("probed").await?;
    ensure!(restarts(&pod) == 0, "containers were restarted: {pod:?}");

    let app = mesh.place("probed", "app");
    for (on, ready) in [("true", false), ("false", true)] {
        let url = format!("http://127.0.0.1:8080/unhealthy?on={on}");
        expect(
            &app.call(&["-X", "POST", &url]).await?,
            200,
            "",
            "the application is told to be ill or well",
        )?;
        let what = format!("the pod's readiness is {ready} when unhealthy is {on}");
        until(&mesh.api::<Pod>(), Goal::named(&what, "probed", ROLLOUT), |pods| {
            if is_ready(one(pods)?) == ready { Ok(()) } else { Err(told(pods)) }
        })
        .await?;
    }
    Ok(())
}

const PROBED: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: probed, labels: {app: probed}}
spec:
  terminationGracePeriodSeconds: 5
  containers:
  - name: app
    image: $APP
    args: [serve]
    ports: [{name: http, containerPort: 8080}]
    startupProbe: {httpGet: {path: /health, port: http}, periodSeconds: 1}
    readinessProbe: {grpc: {port: 8080}, periodSeconds: 1}
    livenessProbe: {tcpSocket: {port: http}, periodSeconds: 1}
";
