//! `weft proxy`: what the proxy of an instance says on its admin port, printed as it is. In a cluster
//! cluster/proxy.rs finds the pod.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use http::Method;

use crate::api::UnitStatus;
use crate::http::{Server, call};
use crate::place::{self, Place};
use crate::run::terminal::print_line;
use crate::settings::ProxyArgs;
use crate::state::State;
use crate::{cluster, control, suggest};

/// Admin pages are made in memory.
const PATIENCE: Duration = Duration::from_secs(10);

/// Prints one page of one proxy.
pub(crate) async fn run(args: &ProxyArgs) -> Result<ExitCode> {
    let path = args.what.path();
    let page = match place::choose(&args.state, &args.cluster).await? {
        Place::Run(state) => of_run(&state, &args.instance, path).await?,
        Place::Cluster(cluster) => cluster::proxy::page(&cluster, &args.instance, path).await?,
    };
    print_line(String::from_utf8_lossy(&page).trim_end());
    Ok(ExitCode::SUCCESS)
}

async fn of_run(state: &State, instance: &str, path: &str) -> Result<Bytes> {
    let status = control::status(state).await?;
    let unit = choose(&status.units, instance)?;
    let admin = unit.admin.with_context(|| format!("{} has no proxy", unit.name))?;
    let answer = call(Server::Tcp(admin), Method::GET, path, PATIENCE).await;
    let (code, body) = answer.with_context(|| format!("the proxy of {} at http://{admin}", unit.name))?;
    if !code.is_success() {
        bail!("GET http://{admin}{path} answers {code}");
    }
    Ok(body)
}

/// The instance of that name, else the only one of a service of that name.
fn choose<'u>(units: &'u [UnitStatus], name: &str) -> Result<&'u UnitStatus> {
    let of_service: Vec<&UnitStatus> = units.iter().filter(|unit| unit.service == name).collect();
    match (units.iter().find(|unit| unit.name == name), of_service.as_slice()) {
        (Some(unit), _) => Ok(unit),
        (None, [only]) => Ok(only),
        (None, []) => {
            let names = units.iter().map(|unit| unit.name.as_str());
            bail!("there is no instance `{name}`{}", suggest::hint(name, names))
        }
        (None, several) => {
            let names: Vec<&str> = several.iter().map(|unit| unit.name.as_str()).collect();
            bail!("{name} has several instances; name one of {}", names.join(", "))
        }
    }
}
