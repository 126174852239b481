//! The `weft` command against a cluster.

use anyhow::{Result, ensure};
use weft_e2e_kind::command::attempt;
use weft_e2e_kind::runner::Cx;

use crate::apps::{labels, service};

/// check, status and proxy say what is there.
pub(crate) async fn weft_sees_the_cluster(cx: Cx) -> Result<()> {
    let mesh = cx.meshed().await?;
    mesh.apply(&service("echo", 1, "")).await?;
    mesh.in_service("echo").await?;
    let pod = mesh.place_of(&labels("echo")).await?.pod;
    let weft = &cx.cluster.settings.weft;
    for (args, parts) in [
        // Of this namespace: those of other tests come and go.
        (vec!["check", "-n", &mesh.name], vec!["weft-operator"]),
        (vec!["status", "-n", &mesh.name], vec!["echo", "Strict"]),
        (vec!["proxy", "certs", &pod, "-n", &mesh.name], vec!["/sa/echo"]),
        (vec!["proxy", "config", &pod, "-n", &mesh.name], vec!["echo"]),
    ] {
        let said = attempt(weft, &args).await?;
        let all = said.all();
        ensure!(said.code == Some(0), "`weft {}` failed with {:?}:\n{all}", args.join(" "), said.code);
        for part in parts {
            ensure!(all.contains(part), "`weft {}` should say {part:?} and says:\n{all}", args.join(" "));
        }
    }
    Ok(())
}
