//! nginx twice: as the HTTP/1.1 origin of every path, and as a rival.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Result;
use tokio::process::{Child, Command};

use super::{Hops, Origins, Template, start};

/// Serves 1 KiB at every path but `/1m`, where it is 1 MiB.
pub(crate) fn origin(dir: &Path, listen: SocketAddr) -> Result<Child> {
    std::fs::write(dir.join("1m"), vec![b'x'; 1024 * 1024])?;
    let config = Template::new(include_str!("origin.conf"), dir)
        .set("TEMP", temporary(dir, "origin"))
        .set("KIB", "x".repeat(1024))
        .set("ORIGIN", listen);
    run(dir, "origin", config)
}

/// Both hops.
pub(crate) fn nginx(dir: &Path, hops: &Hops, origins: &Origins) -> Result<Vec<Child>> {
    let hop = |name: &str, text: &str| {
        let config = Template::new(text, dir).set("TEMP", temporary(dir, name)).addresses(hops, origins);
        run(dir, name, config)
    };
    Ok(vec![
        hop("nginx-client", include_str!("nginx-client.conf"))?,
        hop("nginx-server", include_str!("nginx-server.conf"))?,
    ])
}

/// Where it would put what does not fit into memory.
fn temporary(dir: &Path, name: &str) -> String {
    let kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
    kinds.map(|kind| format!("{kind}_temp_path {}/{name}-{kind}; ", dir.display())).concat()
}

fn run(dir: &Path, name: &str, config: Template) -> Result<Child> {
    let file = config.write(dir, &format!("{name}.conf"))?;
    start(dir, name, Command::new("nginx").arg("-c").arg(file))
}
