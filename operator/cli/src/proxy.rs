//! `weft proxy`: what the proxy of an instance says on its admin port, printed as it is.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use http::Method;

use crate::api::UnitStatus;
use crate::control;
use crate::http::{Server, call};
use crate::run::terminal::print_line;
use crate::settings::ProxyArgs;
use crate::suggest;

/// Admin pages are made in memory.
const PATIENCE: Duration = Duration::from_secs(10);

/// Prints one page of one proxy.
pub(crate) async fn run(args: &ProxyArgs) -> Result<ExitCode> {
    let state = control::find(&args.state)?;
    let status = control::status(&state).await?;
    let unit = choose(&status.units, &args.instance)?;
    let admin = unit.admin.with_context(|| format!("{} has no proxy", unit.name))?;
    let path = args.what.path();
    let answer = call(Server::Tcp(admin), Method::GET, path, PATIENCE).await;
    let (code, body) = answer.with_context(|| format!("the proxy of {} at http://{admin}", unit.name))?;
    if !code.is_success() {
        bail!("GET http://{admin}{path} answers {code}");
    }
    print_line(String::from_utf8_lossy(&body).trim_end());
    Ok(ExitCode::SUCCESS)
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
