//! `weft-proxy init`: redirects the pod's TCP traffic through the proxy by nftables, then exits. Runs once, before the
//! proxy, with `NET_ADMIN` in the pod's network namespace; the rules go with the namespace. Running it again replaces
//! them.
//!
//! Left alone: the proxy's own traffic (by user id), loopback and the pod's own addresses, what is excluded by port, range
//! or user, and everything that is not TCP, DNS over UDP above all.

use std::fmt::{Display, Write};
use std::io::Write as _;
use std::net::IpAddr;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, bail};
use tracing::info;
use weft_api::names::{PORT_HEALTH, PORT_INBOUND, PORT_METRICS, PORT_OUTBOUND};

use crate::settings::Settings;

/// There where the system has IPv6.
const IPV6: &str = "/proc/net/if_inet6";

/// The families of addresses that rules are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Family {
    /// IPv4 and IPv6.
    Both,
    /// IPv4 alone, where the node has no IPv6: the kernel refuses rules for what it does not have.
    V4,
}

/// Programs the rules; running it again replaces them.
pub fn run(settings: &Settings) -> anyhow::Result<()> {
    let family = if Path::new(IPV6).exists() { Family::Both } else { Family::V4 };
    let output = nft(&rules(settings, family))?;
    if output.status.success() {
        info!(inbound = inbound(settings), outbound = outbound(settings), ?family, "traffic is redirected");
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim();
    if said.contains("Operation not permitted") || said.contains("must be root") {
        bail!(
            "`nft` may not change the rules: the container needs the capability NET_ADMIN and user 0 ({said})"
        );
    }
    bail!("`nft` refused the rules ({}): {said}", output.status);
}

fn nft(rules: &str) -> anyhow::Result<Output> {
    let mut nft = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("starting `nft`; it must be in the image, in a folder of PATH")?;
    let mut input = nft.stdin.take().context("the standard input of `nft`")?;
    // An `nft` that ends without reading has said why.
    let written = input.write_all(rules.as_bytes());
    drop(input);
    let output = nft.wait_with_output().context("waiting for `nft`")?;
    if output.status.success() {
        written.context("handing the rules to `nft`")?;
    }
    Ok(output)
}

fn inbound(settings: &Settings) -> u16 {
    settings.inbound_addr.map_or(PORT_INBOUND, |address| address.port())
}

fn outbound(settings: &Settings) -> u16 {
    settings.outbound_addr.map_or(PORT_OUTBOUND, |address| address.port())
}

/// The rules. The table is declared and deleted first, so that it is there to be deleted at the first run too; all of it
/// is one transaction.
fn rules(settings: &Settings, family: Family) -> String {
    let table = match family {
        Family::Both => "inet weft",
        Family::V4 => "ip weft",
    };
    let mut text = format!("table {table}\ndelete table {table}\ntable {table} {{\n");
    let mut chain = |name: &str, hook: &str, rules: Vec<String>| {
        write!(text, "  chain {name} {{\n    type nat hook {hook}; policy accept;\n")
            .expect("writing to a String cannot fail");
        for rule in rules {
            writeln!(text, "    {rule}").expect("writing to a String cannot fail");
        }
        text.push_str("  }\n");
    };
    chain("inbound", "prerouting priority dstnat", inbound_rules(settings));
    chain("outbound", "output priority -100", outbound_rules(settings, family));
    text.push_str("}\n");
    text
}

fn inbound_rules(settings: &Settings) -> Vec<String> {
    let inbound = inbound(settings);
    let mut own = settings.exclude_inbound.clone();
    own.extend([PORT_HEALTH, PORT_METRICS, inbound]);
    vec![
        "iifname \"lo\" return".to_owned(),
        format!("tcp dport {} return", set(own)),
        format!("meta l4proto tcp redirect to :{inbound}"),
    ]
}

fn outbound_rules(settings: &Settings, family: Family) -> Vec<String> {
    let mut users = settings.exclude_uids.clone();
    users.push(settings.uid);
    let mut rules = vec![
        format!("meta skuid {} return", set(users)),
        "oifname \"lo\" return".to_owned(),
        "fib daddr type local return".to_owned(),
    ];
    if !settings.exclude_outbound.is_empty() {
        rules.push(format!("tcp dport {} return", set(settings.exclude_outbound.clone())));
    }
    // One rule for each: ranges that overlap are no set.
    for range in &settings.exclude_outbound_cidrs {
        match (range.address, family) {
            (IpAddr::V4(_), _) => rules.push(format!("ip daddr {range} return")),
            (IpAddr::V6(_), Family::Both) => rules.push(format!("ip6 daddr {range} return")),
            (IpAddr::V6(_), Family::V4) => {}
        }
    }
    rules.push(format!("meta l4proto tcp redirect to :{}", outbound(settings)));
    rules
}

fn set<T: Display + Ord>(mut elements: Vec<T>) -> String {
    elements.sort_unstable();
    elements.dedup();
    let elements: Vec<String> = elements.iter().map(ToString::to_string).collect();
    format!("{{ {} }}", elements.join(", "))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    const ALL: [&str; 9] = [
        "weft-proxy",
        "--exclude-inbound=22,22",
        "--exclude-outbound=5432",
        "--exclude-outbound-cidrs=10.0.0.0/8,10.1.0.0/16,fd00::/8",
        "--exclude-uids=4242",
        "--uid=1337",
        "--inbound-addr=[::]:15006",
        "--outbound-addr=[::]:15001",
        "init",
    ];

    #[test]
    fn the_rules_spare_the_proxy_itself_and_what_is_excluded() {
        let rules = rules(&Settings::parse_from(ALL), Family::Both);
        for line in [
            "delete table inet weft",
            "tcp dport { 22, 15006, 15021, 15090 } return",
            "meta l4proto tcp redirect to :15006",
            "meta skuid { 1337, 4242 } return",
            "fib daddr type local return",
            "tcp dport { 5432 } return",
            "ip daddr 10.0.0.0/8 return",
            "ip daddr 10.1.0.0/16 return",
            "ip6 daddr fd00::/8 return",
            "meta l4proto tcp redirect to :15001",
        ] {
            assert_eq!(rules.lines().filter(|found| found.trim() == line).count(), 1, "{line} in\n{rules}");
        }
    }

    #[test]
    fn nothing_excluded_is_no_rule() {
        let rules = rules(&Settings::default(), Family::Both);
        assert_eq!((rules.matches("dport").count(), rules.matches("daddr").count()), (1, 1));
    }

    #[test]
    fn where_there_is_no_ipv6_no_rule_speaks_of_it() {
        let rules = rules(&Settings::parse_from(ALL), Family::V4);
        assert!(
            !rules.contains("ip6") && !rules.contains("inet") && rules.contains("table ip weft"),
            "{rules}"
        );
    }
}
