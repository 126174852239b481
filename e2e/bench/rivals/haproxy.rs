//! HAProxy on both hops, with HTTP/1.1 or HTTP/2 between them.

use std::path::Path;

use anyhow::Result;
use tokio::process::{Child, Command};

use super::{Hops, Origins, Template, start};

/// What the hops speak with each other.
#[derive(Clone, Copy)]
pub(crate) enum Between {
    Http1,
    Http2,
}

/// Both hops.
pub(crate) fn haproxy(dir: &Path, hops: &Hops, origins: &Origins, between: Between) -> Result<Vec<Child>> {
    let (suffix, alpn) = match between {
        Between::Http1 => ("h1", "http/1.1"),
        Between::Http2 => ("h2", "h2"),
    };
    let hop = |name: &str, text: &str| {
        let name = format!("{name}-{suffix}");
        let config = Template::new(text, dir).set("BETWEEN", alpn).addresses(hops, origins);
        let file = config.write(dir, &format!("{name}.cfg"))?;
        start(dir, &name, Command::new("haproxy").arg("-f").arg(file))
    };
    Ok(vec![
        hop("haproxy-client", include_str!("haproxy-client.cfg"))?,
        hop("haproxy-server", include_str!("haproxy-server.cfg"))?,
    ])
}
