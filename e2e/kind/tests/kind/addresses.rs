//! Ways to address something: headless Services, single pods, names outside, servers that speak first.

use anyhow::{Context, Result, ensure};
use weft_e2e_kind::exec::Place;
use weft_e2e_kind::runner::Cx;
use weft_e2e_kind::wait::eventually;
use weft_e2e_kind::wire::Answer;
use weft_e2e_kind::{ROLLOUT, SOON};

use crate::apps::{expect, is, pod, service, who};

/// Each pod of a `StatefulSet` answers to its own name, with mutual TLS in force.
pub(crate) async fn stateful_pods_are_reached_by_their_own_names(cx: Cx) -> Result<()> {
    let mesh = cx.meshed().await?;
    mesh.apply(STATEFUL).await?;
    let (caller, ()) = tokio::try_join!(mesh.caller("caller"), mesh.stateful_set_ready("store"))?;
    mesh.in_service("store").await?;
    for pod in ["store-0", "store-1"] {
        for url in
            [format!("http://{pod}.store:8080/"), format!("http://{pod}.store.{}.svc:8080/", mesh.name)]
        {
            let answer = get(&caller, &url).await?;
            let who = who(&answer)?;
            ensure!(who.pod == pod, "{url} was answered by {}", who.pod);
        }
    }
    expect(&caller.get("http://store:8080/").await?, 200, "", "the headless Service itself")?;
    Ok(())
}

/// The tests' own server-first protocol: a port declared TCP, and one that nobody declared.
pub(crate) async fn server_may_speak_first(cx: Cx) -> Result<()> {
    let (mesh, outside) = tokio::try_join!(cx.meshed(), cx.plain())?;
    mesh.apply(&service("echo", 1, "")).await?;
    outside.apply(&plain()).await?;
    let (caller, ()) = tokio::try_join!(mesh.caller("caller"), mesh.in_service("echo"))?;
    outside.ready_pod("plain").await?;
    greets(&caller, "echo:9000").await?;
    greets(&caller, &format!("plain.{}:9000", outside.name)).await
}

/// Databases whose clients wait for the server's first word, one in the mesh and one outside of it.
pub(crate) async fn postgres_and_redis_are_reached_from_a_meshed_pod(cx: Cx) -> Result<()> {
    let (mesh, outside) = tokio::try_join!(cx.meshed(), cx.plain())?;
    let databases = DATABASES
        .replace("$POSTGRES", &cx.cluster.settings.image("weft-shop/postgres"))
        .replace("$REDIS", &cx.cluster.settings.image("weft-shop/redis"));
    mesh.apply(&databases).await?;
    mesh.apply(DATABASES_IN_THE_MESH).await?;
    outside.apply(&databases).await?;
    mesh.apply(TOOLS).await?;
    mesh.ready_pod("tools").await?;
    let tools = mesh.place("tools", "app");
    for space in [&mesh, &outside] {
        let database = format!("postgresql://e2e:a-password@postgres.{}/e2e", space.name);
        says(&tools, &["psql", &database, "-Atc", "select 6*7"], "42").await?;
        says(&tools, &["redis-cli", "-h", &format!("redis.{}", space.name), "ping"], "PONG").await?;
    }
    mesh.in_service("postgres").await
}

/// What the mesh does not know is let out as it is: an external name, a Service of another namespace, a pod's address.
pub(crate) async fn external_names_and_strangers_are_reached(cx: Cx) -> Result<()> {
    let (mesh, outside) = tokio::try_join!(cx.meshed(), cx.plain())?;
    outside.apply(&plain()).await?;
    let elsewhere = format!(
        "\
apiVersion: v1
kind: Service
metadata: {{name: elsewhere}}
spec: {{type: ExternalName, externalName: plain.{}.svc.cluster.local}}
",
        outside.name
    );
    mesh.apply(&elsewhere).await?;
    let (caller, plain) = tokio::try_join!(mesh.caller("caller"), outside.ready_pod("plain"))?;
    let ip = plain.status.and_then(|status| status.pod_ip).context("a ready pod has an address")?;
    let urls = [
        "http://elsewhere:8080/".to_owned(),
        format!("http://plain.{}.svc:8080/", outside.name),
        format!("http://{ip}:8080/"),
    ];
    for url in urls {
        let answer = get(&caller, &url).await?;
        let who = who(&answer)?;
        ensure!(who.pod == "plain", "{url} was answered by {}", who.pod);
    }
    Ok(())
}

async fn get(caller: &Place, url: &str) -> Result<Answer> {
    let what = format!("{url} answers");
    eventually(&what, SOON, || async { is(caller.get(url).await, 200, "") }).await
}

async fn greets(caller: &Place, address: &str) -> Result<()> {
    eventually(&format!("{address} speaks first"), SOON, || async {
        let answer = caller.tcp(address).await.map_err(|error| format!("{error:#}"))?;
        if answer.body.starts_with("ready ") { Ok(()) } else { Err(answer.told()) }
    })
    .await
}

async fn says(place: &Place, command: &[&str], expected: &str) -> Result<()> {
    let what = format!("`{}` says {expected}", command.join(" "));
    eventually(&what, ROLLOUT, || async {
        let ran = place.exec(command).await.map_err(|error| format!("{error:#}"))?;
        let said = ran.text();
        if said.trim() == expected { Ok(()) } else { Err(format!("{said}{}", ran.stderr)) }
    })
    .await
}

/// A server outside of the mesh, and its Service.
fn plain() -> String {
    let service = "\
---
apiVersion: v1
kind: Service
metadata: {name: plain}
spec:
  selector: {app: plain}
  ports: [{name: http, port: 8080}, {name: raw, port: 9000}]
";
    pod("plain", "") + service
}

const STATEFUL: &str = "\
apiVersion: v1
kind: Service
metadata: {name: store}
spec:
  clusterIP: None
  selector: {app: store}
  ports: [{name: http, port: 8080, appProtocol: http}]
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: store}
spec:
  serviceName: store
  replicas: 2
  podManagementPolicy: Parallel
  selector: {matchLabels: {app: store}}
  template:
    metadata: {labels: {app: store}}
    spec:
      terminationGracePeriodSeconds: 5
      containers:
      - name: app
        image: $APP
        args: [serve]
        readinessProbe: {httpGet: {path: /health, port: 8080}, periodSeconds: 1}
---
apiVersion: weft.dev/v1alpha1
kind: Microservice
metadata: {name: store}
spec:
  selector: {app: store}
  ports: [{name: http, port: 8080, protocol: HTTP}]
";

const TOOLS: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: tools, labels: {app: tools}}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: app, image: $TOOLS}]
";

const DATABASES: &str = "\
apiVersion: v1
kind: Secret
metadata: {name: passwords}
stringData: {e2e: a-password}
---
apiVersion: v1
kind: Pod
metadata: {name: postgres, labels: {app: postgres}}
spec:
  terminationGracePeriodSeconds: 5
  containers:
  - name: postgres
    image: $POSTGRES
    env: [{name: DATABASES, value: e2e}]
    volumeMounts: [{name: data, mountPath: /data}, {name: passwords, mountPath: /run/passwords}]
  volumes: [{name: data, emptyDir: {}}, {name: passwords, secret: {secretName: passwords}}]
---
apiVersion: v1
kind: Service
metadata: {name: postgres}
spec: {selector: {app: postgres}, ports: [{name: postgres, port: 5432}]}
---
apiVersion: v1
kind: Pod
metadata: {name: redis, labels: {app: redis}}
spec:
  terminationGracePeriodSeconds: 5
  containers:
  - name: redis
    image: $REDIS
    volumeMounts: [{name: data, mountPath: /data}]
  volumes: [{name: data, emptyDir: {}}]
---
apiVersion: v1
kind: Service
metadata: {name: redis}
spec: {selector: {app: redis}, ports: [{name: redis, port: 6379}]}
";

const DATABASES_IN_THE_MESH: &str = "\
apiVersion: weft.dev/v1alpha1
kind: Microservice
metadata: {name: postgres}
spec: {selector: {app: postgres}, ports: [{name: postgres, port: 5432, protocol: TCP}]}
---
apiVersion: weft.dev/v1alpha1
kind: Microservice
metadata: {name: redis}
spec: {selector: {app: redis}, ports: [{name: redis, port: 6379, protocol: TCP}]}
";
