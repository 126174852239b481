//! `weft-proxy init`: redirects the pod's TCP traffic through the proxy by nftables, then exits. Runs once, before the
//! proxy, with `NET_ADMIN` in the pod's network namespace; the rules go with the namespace.
//!
//! Left alone: the proxy's own traffic (by user id), loopback, ports that are excluded, and everything that is not TCP.

use std::fmt::Write;
use std::io::Write as _;
use std::process::{Command, Stdio};

use anyhow::{Context, ensure};
use weft_api::names::{PORT_HEALTH, PORT_INBOUND, PORT_METRICS, PORT_OUTBOUND};

use crate::settings::Settings;

/// Programs the rules; running it again replaces them.
pub fn run(settings: &Settings) -> anyhow::Result<()> {
    let mut nft = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .context("starting `nft`; is it in the image?")?;
    let mut input = nft.stdin.take().context("the standard input of `nft`")?;
    input.write_all(rules(settings).as_bytes()).context("handing the rules to `nft`")?;
    drop(input);
    let status = nft.wait().context("waiting for `nft`")?;
    ensure!(status.success(), "`nft` refused the rules ({status}); does the container have NET_ADMIN?");
    Ok(())
}

/// The rules. The table is declared and deleted first, so that it is there to be deleted at the first run too.
fn rules(settings: &Settings) -> String {
    let inbound = settings.inbound_addr.map_or(PORT_INBOUND, |address| address.port());
    let outbound = settings.outbound_addr.map_or(PORT_OUTBOUND, |address| address.port());
    let mut own = settings.exclude_inbound.clone();
    own.extend([PORT_HEALTH, PORT_METRICS, inbound]);
    let own = set(&own);
    let mut text = format!(
        "table inet weft\n\
         delete table inet weft\n\
         table inet weft {{\n\
         \x20 chain inbound {{\n\
         \x20   type nat hook prerouting priority dstnat; policy accept;\n\
         \x20   tcp dport {own} return\n\
         \x20   meta l4proto tcp redirect to :{inbound}\n\
         \x20 }}\n\
         \x20 chain outbound {{\n\
         \x20   type nat hook output priority -100; policy accept;\n\
         \x20   meta skuid {uid} return\n\
         \x20   oifname \"lo\" return\n\
         \x20   fib daddr type local return\n",
        uid = settings.uid,
    );
    if !settings.exclude_outbound.is_empty() {
        writeln!(text, "    tcp dport {} return", set(&settings.exclude_outbound))
            .expect("writing to a String cannot fail");
    }
    write!(text, "    meta l4proto tcp redirect to :{outbound}\n  }}\n}}\n")
        .expect("writing to a String cannot fail");
    text
}

fn set(ports: &[u16]) -> String {
    let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
    format!("{{ {} }}", ports.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rules_spare_the_proxy_itself_and_what_is_excluded() {
        let settings = Settings {
            uid: 1337,
            exclude_inbound: vec![22],
            exclude_outbound: vec![5432],
            ..Settings::default()
        };
        let rules = rules(&settings);
        for line in [
            "tcp dport { 22, 15021, 15090, 15006 } return",
            "meta l4proto tcp redirect to :15006",
            "meta skuid 1337 return",
            "tcp dport { 5432 } return",
            "meta l4proto tcp redirect to :15001",
        ] {
            assert_eq!(rules.lines().filter(|found| found.trim() == line).count(), 1, "{line} in\n{rules}");
        }
    }

    #[test]
    fn nothing_excluded_is_no_rule() {
        assert_eq!(rules(&Settings::default()).matches("dport").count(), 1);
    }
}
