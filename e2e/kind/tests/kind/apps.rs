//! The services that most tests use, and what they expect of an answer.

use anyhow::{Result, ensure};
use weft_e2e_kind::wire::{Answer, Who};

/// A Microservice that runs the tests' server; `more` goes below its spec.
pub(crate) fn service(name: &str, replicas: u32, more: &str) -> String {
    format!(
        "\
apiVersion: weft.dev/v1alpha1
kind: Microservice
metadata: {{name: {name}}}
spec:
  workload: {{image: $APP, imagePullPolicy: IfNotPresent, args: [serve], replicas: {replicas}}}
  ports:
  - {{name: http, port: 80, targetPort: 8080, protocol: HTTP}}
  - {{name: raw, port: 9000, protocol: TCP}}
{more}"
    )
}

/// A pod that runs the tests' server in its container `app`; `more` goes on where that ends.
pub(crate) fn pod(name: &str, more: &str) -> String {
    format!(
        "\
---
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: {name}}}}}
spec:
  terminationGracePeriodSeconds: 5
  containers:
  - name: app
    image: $APP
    args: [serve]
    readinessProbe: {{httpGet: {{path: /health, port: 8080}}, periodSeconds: 1}}
{more}"
    )
}

/// The Service of pods that are not the operator's, and the Microservice that selects them; `more` goes below its spec.
pub(crate) fn selecting(name: &str, more: &str) -> String {
    format!(
        "\
---
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec: {{selector: {{app: {name}}}, ports: [{{name: http, port: 80, targetPort: 8080}}]}}
---
apiVersion: weft.dev/v1alpha1
kind: Microservice
metadata: {{name: {name}}}
spec:
  selector: {{app: {name}}}
  ports: [{{name: http, port: 80, targetPort: 8080, protocol: HTTP}}]
{more}"
    )
}

/// Labels of the pods of a Microservice that runs its own workload.
pub(crate) fn labels(name: &str) -> String {
    format!("weft.dev/microservice={name}")
}

/// Fails unless the answer has this status and, where a proxy should have refused, this reason.
pub(crate) fn expect(answer: &Answer, status: u16, reason: &str, what: &str) -> Result<()> {
    ensure!(
        answer.status == Some(status) && answer.reason() == reason,
        "{what}: expected {status} with reason {reason:?}, got {}",
        answer.told()
    );
    Ok(())
}

/// As [`expect`], in the words of a condition that is waited for.
pub(crate) fn is(answer: Result<Answer>, status: u16, reason: &str) -> Result<Answer, String> {
    let answer = answer.map_err(|error| format!("{error:#}"))?;
    if answer.status == Some(status) && answer.reason() == reason { Ok(answer) } else { Err(answer.told()) }
}

/// What the server said of itself and the request.
pub(crate) fn who(answer: &Answer) -> Result<Who> {
    expect(answer, 200, "", "the server answers")?;
    Ok(serde_json::from_str(&answer.body)?)
}
