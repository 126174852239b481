//! Microservices that cannot work never get into the cluster: the schema, its rules or the webhook refuse them, and say
//! which field is wrong and what to do.

use anyhow::{Context, Result, ensure};
use weft_e2e_kind::runner::Cx;

/// What is wrong, the spec, and what the refusal has to say.
type Case = (&'static str, &'static str, &'static [&'static str]);

const CASES: [Case; 6] = [
    ("an unknown field", "  ports: [{name: http, port: 80}]\n  retires: {}\n", &["spec.retires"]),
    ("a number out of bounds", "  ports: [{name: http, port: 70000}]\n", &["spec.ports[0].port", "65535"]),
    (
        "two ports of one name",
        "  ports: [{name: http, port: 80}, {name: http, port: 81}]\n",
        &["spec", "two ports have the same name", "give each port a name of its own"],
    ),
    (
        "a workload and a selector",
        "  ports: [{name: http, port: 80}]\n  workload: {image: a}\n  selector: {app: a}\n",
        &["both workload and selector are given", "keep workload"],
    ),
    (
        "keys that are not JSON, which only the webhook can tell",
        "  ports: [{name: http, port: 80}]\n  authentication: {jwt: [{issuer: a, jwks: {inline: none}}]}\n",
        &["spec.authentication.jwt[0].jwks", "inline is not a JSON key set", "write the JSON"],
    ),
    (
        "keys from a metadata address, which only the webhook can tell",
        "  ports: [{name: http, port: 80}]\n  authentication: {jwt: [{issuer: a, jwks: {uri: \"http://169.254.169.254/keys\"}}]}\n",
        &["spec.authentication.jwt[0].jwks.uri", "metadata address", "name the issuer's public address"],
    ),
];

/// Each case by itself, in one namespace; the last one is good, so that not everything is refused.
pub(crate) async fn bad_microservices_are_refused_with_field_and_remedy(cx: Cx) -> Result<()> {
    let mesh = cx.meshed().await?;
    let manifest = |spec: &str| {
        format!("apiVersion: weft.dev/v1alpha1\nkind: Microservice\nmetadata: {{name: echo}}\nspec:\n{spec}")
    };
    for (what, spec, said) in CASES {
        let error = mesh.apply(&manifest(spec)).await.err().with_context(|| format!("{what} was taken"))?;
        let error = format!("{error:#}");
        for part in said {
            ensure!(error.contains(part), "{what}: the refusal should say {part:?} and says: {error}");
        }
    }
    mesh.apply(&manifest("  ports: [{name: http, port: 80}]\n")).await?;
    Ok(())
}
