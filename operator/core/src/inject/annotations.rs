//! What a pod asks of its proxy by annotations `config.weft.dev/*`: what is not redirected, its log, image and resources,
//! how long the application goes on at the end. Every value is checked here, and one that cannot be used refuses the pod
//! with the annotation named: a proxy that does less than was asked for would go unnoticed.

use std::net::IpAddr;
use std::str::FromStr;

use k8s_openapi::api::core::v1::{EnvVar, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use weft_api::names;

use super::template::value;
use super::{Found, Template, annotation, annotation_path, quantity};

/// How long an application goes on before it is told to stop.
pub(super) const DRAIN_DELAY: &str = "config.weft.dev/drain-delay";
const SKIP_INBOUND_PORTS: &str = "config.weft.dev/skip-inbound-ports";
const SKIP_OUTBOUND_PORTS: &str = "config.weft.dev/skip-outbound-ports";
const SKIP_OUTBOUND_CIDRS: &str = "config.weft.dev/skip-outbound-cidrs";
const SKIP_UIDS: &str = "config.weft.dev/skip-uids";
const PROXY_LOG: &str = "config.weft.dev/proxy-log";
const PROXY_IMAGE: &str = "config.weft.dev/proxy-image";
/// Annotations of one resource, request before limit.
const RESOURCES: [(&str, [&str; 2]); 2] = [
    ("cpu", ["config.weft.dev/proxy-cpu-request", "config.weft.dev/proxy-cpu-limit"]),
    ("memory", ["config.weft.dev/proxy-memory-request", "config.weft.dev/proxy-memory-limit"]),
];
const KNOWN: [&str; 11] = [
    DRAIN_DELAY,
    SKIP_INBOUND_PORTS,
    SKIP_OUTBOUND_PORTS,
    SKIP_OUTBOUND_CIDRS,
    SKIP_UIDS,
    PROXY_LOG,
    PROXY_IMAGE,
    "config.weft.dev/proxy-cpu-request",
    "config.weft.dev/proxy-cpu-limit",
    "config.weft.dev/proxy-memory-request",
    "config.weft.dev/proxy-memory-limit",
];
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// What a pod asks of its proxy.
#[derive(Debug)]
pub(super) struct Wishes {
    /// The template as the pod wants it.
    pub(super) template: Template,
    /// Ports that are reached without the proxy.
    pub(super) skip_inbound_ports: Vec<u16>,
    skip_outbound_ports: Vec<u16>,
    skip_outbound_cidrs: Vec<String>,
    skip_uids: Vec<u32>,
    /// Seconds that the application goes on at the end; none: as by default.
    pub(super) drain_delay: Option<i64>,
}

impl Wishes {
    /// What is not redirected, as `weft-proxy init` reads it.
    pub(super) fn redirect(&self) -> Vec<EnvVar> {
        let lists = [
            ("WEFT_EXCLUDE_INBOUND", join(&self.skip_inbound_ports)),
            ("WEFT_EXCLUDE_OUTBOUND", join(&self.skip_outbound_ports)),
            ("WEFT_EXCLUDE_CIDRS", join(&self.skip_outbound_cidrs)),
            ("WEFT_EXCLUDE_UIDS", join(&self.skip_uids)),
        ];
        let given = lists.iter().filter(|(_, list)| !list.is_empty());
        given.map(|(name, list)| value(name, list)).collect()
    }
}

/// Reads what a pod asks for.
pub(super) fn read(pod: &Pod, template: &Template, found: &mut Found) -> Wishes {
    let mut read = Read { pod, found };
    let mut template = template.clone();
    if let Some(log) = read.one(PROXY_LOG, log) {
        template.log = log;
    }
    if let Some(image) = read.one(PROXY_IMAGE, image) {
        template.image = image;
    }
    read.resources(&mut template);
    let wishes = Wishes {
        template,
        skip_inbound_ports: read.many(SKIP_INBOUND_PORTS, port),
        skip_outbound_ports: read.many(SKIP_OUTBOUND_PORTS, port),
        skip_outbound_cidrs: read.many(SKIP_OUTBOUND_CIDRS, cidr),
        skip_uids: read.many(SKIP_UIDS, uid),
        drain_delay: read.one(DRAIN_DELAY, seconds),
    };
    read.unknown();
    wishes
}

/// A value that cannot be used: what is wrong with it, and what to write.
type Unusable = (String, &'static str);

struct Read<'a> {
    pod: &'a Pod,
    found: &'a mut Found,
}

impl Read<'_> {
    fn one<T>(&mut self, name: &str, parse: impl Fn(&str) -> Result<T, Unusable>) -> Option<T> {
        let text = annotation(self.pod.metadata.annotations.as_ref(), name)?;
        self.keep(name, parse(text.trim()))
    }

    fn many<T>(&mut self, name: &str, parse: impl Fn(&str) -> Result<T, Unusable>) -> Vec<T> {
        let text = annotation(self.pod.metadata.annotations.as_ref(), name).unwrap_or_default();
        let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
        entries.filter_map(|entry| self.keep(name, parse(entry))).collect()
    }

    fn keep<T>(&mut self, name: &str, parsed: Result<T, Unusable>) -> Option<T> {
        parsed.map_err(|(message, remedy)| self.found.wrong(annotation_path(name), message, remedy)).ok()
    }

    /// A limit below the request would be refused by Kubernetes: the one that is annotated takes the other along.
    fn resources(&mut self, template: &mut Template) {
        for (resource, [request, limit]) in RESOURCES {
            let (asked, most) = (self.one(request, amount), self.one(limit, amount));
            if let (Some(asked), Some(most)) = (&asked, &most)
                && more(asked, most)
            {
                let message = format!("{} is less than the request, {}", most.0, asked.0);
                self.found.wrong(annotation_path(limit), message, "raise it, or lower the request");
            }
            let requests = template.resources.requests.get_or_insert_default();
            let limits = template.resources.limits.get_or_insert_default();
            if let Some(most) = most {
                requests.entry(resource.to_owned()).and_modify(|asked| lower(asked, &most));
                limits.insert(resource.to_owned(), most);
            }
            if let Some(asked) = asked {
                limits.entry(resource.to_owned()).and_modify(|most| raise(most, &asked));
                requests.insert(resource.to_owned(), asked);
            }
        }
        template.resources.requests = template.resources.requests.take().filter(|all| !all.is_empty());
        template.resources.limits = template.resources.limits.take().filter(|all| !all.is_empty());
    }

    /// A name that means nothing is most likely misspelt.
    fn unknown(&mut self) {
        let annotations = self.pod.metadata.annotations.iter().flatten().map(|(name, _)| name.as_str());
        let ours = annotations.filter(|name| name.starts_with(names::CONFIG_PREFIX));
        for name in ours.filter(|name| !KNOWN.contains(name)) {
            self.found
                .warnings
                .push(format!("annotation {name} means nothing to the proxy; correct or remove it"));
        }
    }
}

fn more(one: &Quantity, other: &Quantity) -> bool {
    quantity::parse(&one.0) > quantity::parse(&other.0)
}

fn lower(value: &mut Quantity, most: &Quantity) {
    if more(value, most) {
        *value = most.clone();
    }
}

fn raise(value: &mut Quantity, least: &Quantity) {
    if more(least, value) {
        *value = least.clone();
    }
}

fn join<T: ToString>(entries: &[T]) -> String {
    entries.iter().map(T::to_string).collect::<Vec<_>>().join(",")
}

fn port(text: &str) -> Result<u16, Unusable> {
    let port = u16::from_str(text).ok().filter(|port| *port > 0);
    port.ok_or_else(|| (format!("`{text}` is no port"), "write numbers from 1 to 65535, as in 25,5432"))
}

fn uid(text: &str) -> Result<u32, Unusable> {
    let number = u32::from_str(text);
    number.map_err(|_| (format!("`{text}` is no user id"), "write numbers, as in 0,1001"))
}

/// The network itself, without the bits that are a host's.
fn cidr(text: &str) -> Result<String, Unusable> {
    let unusable = || (format!("`{text}` is no network"), "write address/length, as in 10.0.0.0/8,fd00::/8");
    let (address, length) = text.split_once('/').ok_or_else(unusable)?;
    let address: IpAddr = address.parse().map_err(|_| unusable())?;
    let length: u32 = length.parse().map_err(|_| unusable())?;
    let network = match address {
        IpAddr::V4(address) if length <= 32 => {
            let mask = u32::MAX.checked_shl(32 - length).unwrap_or_default();
            IpAddr::V4((address.to_bits() & mask).into())
        }
        IpAddr::V6(address) if length <= 128 => {
            let mask = u128::MAX.checked_shl(128 - length).unwrap_or_default();
            IpAddr::V6((address.to_bits() & mask).into())
        }
        _ => return Err(unusable()),
    };
    Ok(format!("{network}/{length}"))
}

fn seconds(text: &str) -> Result<i64, Unusable> {
    let unusable = || (format!("`{text}` is no duration"), "write it as in 5s, or 0s for none");
    let duration: weft_crds::Duration = text.parse().map_err(|_| unusable())?;
    // Kubernetes waits whole seconds.
    i64::try_from(duration.get().as_millis().div_ceil(1000)).map_err(|_| unusable())
}

fn amount(text: &str) -> Result<Quantity, Unusable> {
    let unusable = || (format!("`{text}` is no quantity"), "write it as in 250m or 64Mi");
    quantity::parse(text).map(|_| Quantity(text.to_owned())).ok_or_else(unusable)
}

/// What `tracing` takes: a level, or `target=level` for some targets.
fn log(text: &str) -> Result<String, Unusable> {
    let is_level = |level: &str| LEVELS.contains(&level);
    let is_target = |target: &str| {
        !target.is_empty()
            && target.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | ':' | '-'))
    };
    let good = text.split(',').all(|directive| match directive.split_once('=') {
        Some((target, level)) => is_target(target) && is_level(level),
        None => is_level(directive),
    });
    let unusable =
        || (format!("`{text}` is no log filter"), "write it as in debug or info,weft_sidecar=debug");
    if good { Ok(text.to_owned()) } else { Err(unusable()) }
}

fn image(text: &str) -> Result<String, Unusable> {
    let good = !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic());
    let unusable = || (format!("`{text}` is no image"), "write it as in registry.example/weft-proxy:0.1.0");
    if good { Ok(text.to_owned()) } else { Err(unusable()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_lose_the_bits_of_hosts() {
        let check = |text: &str, expect: &str| assert_eq!(cidr(text).unwrap(), expect, "{text}");
        check("10.1.2.3/8", "10.0.0.0/8");
        check("10.1.2.3/32", "10.1.2.3/32");
        check("0.0.0.0/0", "0.0.0.0/0");
        check("fd00:1::1/16", "fd00::/16");
        check("::/0", "::/0");
        for bad in ["", "10.0.0.0", "10.0.0.0/33", "::/129", "host/8", "10.0.0.0/-1"] {
            assert!(cidr(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_log_filter_is_levels_of_targets() {
        for good in ["debug", "info,weft_sidecar=trace", "weft_sidecar::policy=off"] {
            assert!(log(good).is_ok(), "{good}");
        }
        for bad in ["", "loud", "=info", "weft=loud", "info,", "a b=info"] {
            assert!(log(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn seconds_are_rounded_up() {
        for (text, expect) in [("0s", 0), ("1ms", 1), ("1500ms", 2), ("1m", 60)] {
            assert_eq!(seconds(text), Ok(expect), "{text}");
        }
    }
}
