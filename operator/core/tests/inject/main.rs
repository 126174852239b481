//! What becomes of pods: each folder beside this file is a case, `in.yaml` a pod and where it runs, `out.yaml` what is made
//! of it. `UPDATE_GOLDEN=1` writes those anew. Every pod that gets a proxy is injected again, which must change nothing,
//! and the patch to it is applied to the pod as it was written.

#![expect(clippy::unwrap_used, clippy::panic, reason = "test code")]

#[path = "../common/golden.rs"]
mod golden;

use std::fs;
use std::path::Path;

use k8s_openapi::api::core::v1::{Pod, ResourceRequirements};
use serde::Deserialize;
use serde_json::{Value, json};
use weft_core::inject::{self, Outcome, Place, Template, patch};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    namespace: String,
    microservice: Option<String>,
    #[serde(default)]
    pod_security: Option<String>,
    pod: Value,
}

#[test]
fn every_case_gives_what_is_expected() {
    let cases = golden::cases("inject", Path::is_dir, 12);
    let wrong: Vec<String> = cases.iter().filter_map(|case| check(case)).collect();
    golden::all_as_expected("inject", &wrong);
}

/// The file of a case that is not as expected.
fn check(folder: &Path) -> Option<String> {
    let text = fs::read_to_string(folder.join("in.yaml")).unwrap();
    let case: Case =
        serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    golden::compare(&folder.join("out.yaml"), &serde_saphyr::to_string(&outcome(&case)).unwrap())
}

fn outcome(case: &Case) -> Value {
    let place = Place {
        namespace: &case.namespace,
        microservice: case.microservice.as_deref(),
        pod_security: case.pod_security.as_deref(),
    };
    let pod: Pod = serde_json::from_value(case.pod.clone()).unwrap();
    match inject::pod(&pod, place, &template()) {
        Ok(outcome) => {
            let again = inject::pod(&outcome.pod, place, &template()).unwrap();
            assert_eq!(again, outcome, "twice is not once");
            assert_eq!(patched(case, &pod, &outcome), outcome.pod);
            let left = outcome.left.map(inject::Left::as_str);
            json!({"left": left, "pod": outcome.pod, "warnings": outcome.warnings})
        }
        Err(refusal) => {
            let violations: Vec<String> = refusal.0.iter().map(ToString::to_string).collect();
            json!({"refused": violations})
        }
    }
}

/// The pod as it was written, with the patch applied.
fn patched(case: &Case, pod: &Pod, outcome: &Outcome) -> Pod {
    let (before, after) = (serde_json::to_value(pod).unwrap(), serde_json::to_value(&outcome.pod).unwrap());
    let mut written = case.pod.clone();
    json_patch::patch(&mut written, &patch::between(&before, &after)).unwrap();
    serde_json::from_value(written).unwrap()
}

fn template() -> Template {
    let resources: ResourceRequirements = serde_json::from_value(
        json!({"requests": {"cpu": "20m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}}),
    )
    .unwrap();
    Template {
        version: "1.2.3".into(),
        image: "weft-proxy:1.2.3".into(),
        pull_policy: Some("IfNotPresent".into()),
        resources,
        ..Template::default()
    }
}
