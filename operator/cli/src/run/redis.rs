//! A private Redis in the state folder: on loopback only, with a password made here, append-only file on. Never touches
//! the system's server.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;

use anyhow::{Context as _, Result};

use super::context::Context;
use super::process::{ProcessSpec, StopBy};
use crate::state::{kept_secret, write_whole};

/// The server, ready to be started.
#[derive(Clone, Debug)]
pub(crate) struct Redis {
    /// What to run.
    pub(crate) process: ProcessSpec,
    /// `redis://:password@address`.
    pub(crate) url: String,
}

/// Finds the program and writes its configuration.
pub(crate) fn prepare(cx: &Context, address: SocketAddr) -> Result<Redis> {
    let names = ["redis-server", "valkey-server"];
    let program = names.iter().find_map(|name| cx.tools.find(name)).context(
        "Redis is not installed (redis-server is needed; it need not run). Debian and Ubuntu: apt-get install \
         redis-server; Fedora: dnf install redis; Arch: pacman -S valkey; macOS: brew install redis",
    )?;
    let home = cx.state.path("redis");
    fs::create_dir_all(&home).with_context(|| format!("cannot make {}", home.display()))?;
    fs::set_permissions(&home, fs::Permissions::from_mode(0o700))?;
    let password = kept_secret(&home.join("password")).context("cannot keep the password of Redis")?;
    let settings = format!(
        "bind {}\nport {}\nprotected-mode yes\nrequirepass {password}\ndaemonize no\ndir \"{}\"\n\
         appendonly yes\nappendfsync everysec\nsave \"\"\n",
        address.ip(),
        address.port(),
        home.display()
    );
    let file = home.join("redis.conf");
    write_whole(&file, settings.as_bytes(), 0o600)?;
    let process = ProcessSpec {
        name: "redis".into(),
        program,
        args: vec![file.display().to_string()],
        env: Vec::new(),
        directory: home,
        user: None,
        stop: StopBy::Group,
    };
    Ok(Redis { process, url: format!("redis://:{password}@{address}") })
}
