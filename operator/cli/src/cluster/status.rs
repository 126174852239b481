//! `weft status` of a cluster: what its leading operator says of the mesh.

mod table;

use std::process::ExitCode;

use anyhow::Result;
use serde::Serialize;
use weft_api::status::MeshStatus;

use crate::cluster::{Cluster, operators};
use crate::run::clock::unix_now;
use crate::run::terminal::print_line;
use crate::settings::Output;

/// What is printed as JSON.
#[derive(Debug, Serialize)]
struct Told<'a> {
    context: &'a str,
    leader: &'a str,
    mesh: &'a MeshStatus,
}

/// Prints the status.
pub(crate) async fn run(cluster: &Cluster, output: Output) -> Result<ExitCode> {
    let leader = operators::leader(&cluster.client).await?;
    let mut mesh = operators::mesh(&cluster.client, &leader).await?;
    if let Some(namespace) = &cluster.namespace {
        keep_only(&mut mesh, namespace);
    }
    if output == Output::Json {
        let told = Told { context: &cluster.name, leader: &leader, mesh: &mesh };
        print_line(&serde_json::to_string_pretty(&told)?);
        return Ok(ExitCode::SUCCESS);
    }
    for line in table::lines(&cluster.name, &leader, &mesh, unix_now()) {
        print_line(&line);
    }
    Ok(ExitCode::SUCCESS)
}

/// Leaves out what belongs to other namespaces.
fn keep_only(mesh: &mut MeshStatus, namespace: &str) {
    mesh.services.retain(|service| service.namespace == namespace);
    mesh.gateways.retain(|gateway| gateway.namespace == namespace);
    let place = format!(" {namespace}/");
    // A resource without namespace, such as the Mesh, concerns all.
    mesh.problems.retain(|problem| !problem.resource.contains('/') || problem.resource.contains(&place));
}

#[cfg(test)]
mod tests {
    use weft_api::status::{Problem, ServiceStatus};

    use super::*;

    #[test]
    fn a_namespace_leaves_out_the_others_but_not_what_concerns_all() {
        let service =
            |namespace: &str| ServiceStatus { namespace: namespace.into(), ..ServiceStatus::default() };
        let problem = |resource: &str| Problem { resource: resource.into(), ..Problem::default() };
        let mut mesh = MeshStatus {
            services: vec![service("shop"), service("ops")],
            problems: vec![
                problem("Microservice shop/a"),
                problem("Microservice ops/a"),
                problem("Mesh default"),
            ],
            ..MeshStatus::default()
        };
        keep_only(&mut mesh, "shop");
        assert_eq!(mesh.services, [service("shop")]);
        assert_eq!(mesh.problems, [problem("Microservice shop/a"), problem("Mesh default")]);
    }
}
