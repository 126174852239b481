//! Which loopback address and ports each part of a run has. Kept in `plan.json`, so that a restart finds every part
//! where it was. Each part gets an address of its own, 127.0.n.1; where the system has only 127.0.0.1, ports of that.
//! What can be bound is asked through [`Net`]; the file is written by the caller.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};

use anyhow::{Context, Result, anyhow};
use serde::{Deserialize, Serialize};

/// The first n of 127.0.n.1.
const FIRST: u8 = 2;
/// First port of outbound listeners on an instance's address.
const OUTBOUND: u16 = 15100;
/// First port of inbound listeners on an instance's address.
const INBOUND: u16 = 15200;
/// Outbound listeners after the first hundred go on here.
const OUTBOUND_MORE: u16 = 15300;

/// All places, by the name of the part (`order-0`, `postgres`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Plan {
    /// Address and ports of each part.
    #[serde(default)]
    places: BTreeMap<String, Place>,
    /// Number of each destination: its outbound listener has the same port at every instance, for good.
    #[serde(default)]
    destinations: BTreeMap<String, u16>,
}

/// Where one part of a run is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Place {
    /// Its address.
    pub(crate) address: IpAddr,
    /// Its ports by purpose: `app:http`, `in:http`, `out:shop/user:grpc`, `admin`.
    pub(crate) ports: BTreeMap<String, u16>,
}

impl Place {
    /// The address for a purpose that the place was made for.
    pub(crate) fn socket(&self, purpose: &str) -> Option<SocketAddr> {
        self.ports.get(purpose).map(|port| SocketAddr::new(self.address, *port))
    }
}

/// What a part needs: its purposes, each with the port it would like.
pub(crate) type Needs = Vec<(String, u16)>;

/// What the network of this machine allows.
pub(crate) struct Net<'a> {
    /// Whether 127.0.n.1 can be bound for every n.
    pub(crate) many_addresses: bool,
    /// Addresses that other runs have.
    pub(crate) taken: BTreeSet<IpAddr>,
    /// Whether an address can be bound now.
    pub(crate) free: &'a dyn Fn(SocketAddr) -> bool,
    /// A port that can be bound now on an address.
    pub(crate) any_port: &'a dyn Fn(IpAddr) -> Option<u16>,
}

impl Net<'_> {
    /// The real network.
    pub(crate) fn of_this_machine(taken: BTreeSet<IpAddr>) -> Net<'static> {
        let probe = SocketAddr::from((Ipv4Addr::new(127, 0, FIRST, 1), 0));
        Net { many_addresses: can_bind(probe), taken, free: &can_bind, any_port: &any_port }
    }
}

/// Whether an address can be bound now.
pub(crate) fn can_bind(address: SocketAddr) -> bool {
    TcpListener::bind(address).is_ok()
}

fn any_port(address: IpAddr) -> Option<u16> {
    TcpListener::bind((address, 0)).ok()?.local_addr().ok().map(|bound| bound.port())
}

impl Plan {
    /// What is in the file; an unreadable file is an error, since forgetting would move everything.
    pub(crate) fn from_json(text: &str) -> Result<Self> {
        serde_json::from_str(text)
            .context("plan.json is damaged; delete it to let every part find a new address")
    }

    /// Every address that no other run may have; 127.0.0.1 is everybody's.
    pub(crate) fn private_addresses(&self) -> BTreeSet<IpAddr> {
        let all = self.places.values().map(|place| place.address);
        all.filter(|address| *address != IpAddr::from(Ipv4Addr::LOCALHOST)).collect()
    }

    /// Gives every destination its number. Those that have one keep it.
    pub(crate) fn number_destinations(&mut self, names: &BTreeSet<String>) {
        for name in names {
            if self.destinations.contains_key(name) {
                continue;
            }
            let used: BTreeSet<u16> = self.destinations.values().copied().collect();
            let next = (0..u16::MAX).find(|n| !used.contains(n)).unwrap_or_default();
            self.destinations.insert(name.clone(), next);
        }
    }

    /// The port an outbound listener would like, for a destination with a number.
    pub(crate) fn outbound_port(&self, destination: &str) -> u16 {
        let number = self.destinations.get(destination).copied().unwrap_or_default();
        if number < 100 { OUTBOUND + number } else { OUTBOUND_MORE.saturating_add(number - 100) }
    }

    /// The place of a part: the one it had, with what it newly needs added, or a new one. `moving` says that the part
    /// does not run, so that a port which someone else took meanwhile is replaced.
    pub(crate) fn place(&mut self, name: &str, needs: &Needs, net: &Net<'_>, moving: bool) -> Result<Place> {
        let mut place = match self.places.get(name) {
            Some(place) if !moving || !net.taken.contains(&place.address) => place.clone(),
            _ => Place { address: self.new_address(net)?, ports: BTreeMap::new() },
        };
        let address = place.address;
        place.ports.retain(|purpose, port| {
            let Some((_, liked)) = needs.iter().find(|(need, _)| need == purpose) else { return false };
            // An application may not be able to listen elsewhere than its manifest says, so that is tried again.
            let better = purpose.starts_with("app:") && net.many_addresses && *port != *liked;
            let better = better && (net.free)(SocketAddr::new(address, *liked));
            !better && (!moving || (net.free)(SocketAddr::new(address, *port)))
        });
        for (purpose, liked) in needs {
            if place.ports.contains_key(purpose) {
                continue;
            }
            let port = self.new_port(name, &place, *liked, net)?;
            place.ports.insert(purpose.clone(), port);
        }
        self.places.insert(name.to_owned(), place.clone());
        Ok(place)
    }

    fn new_address(&self, net: &Net<'_>) -> Result<IpAddr> {
        if !net.many_addresses {
            return Ok(Ipv4Addr::LOCALHOST.into());
        }
        let used = self.private_addresses();
        (FIRST..=254)
            .map(|n| IpAddr::from(Ipv4Addr::new(127, 0, n, 1)))
            .find(|address| !used.contains(address) && !net.taken.contains(address))
            .ok_or_else(|| {
                anyhow!("all addresses 127.0.2.1 to 127.0.254.1 are in use; stop another `weft run`")
            })
    }

    fn new_port(&self, name: &str, place: &Place, liked: u16, net: &Net<'_>) -> Result<u16> {
        let others = |port: &u16| {
            place.ports.values().any(|p| p == port)
                || self.places.iter().any(|(other, at)| {
                    other != name && at.address == place.address && at.ports.values().any(|p| p == port)
                })
        };
        let as_liked = Some(liked).filter(|port| net.many_addresses && *port != 0 && !others(port));
        let as_liked = as_liked.filter(|port| (net.free)(SocketAddr::new(place.address, *port)));
        as_liked
            .or_else(|| {
                std::iter::repeat_with(|| (net.any_port)(place.address))
                    .take(64)
                    .flatten()
                    .find(|p| !others(p))
            })
            .with_context(|| format!("{name}: no free port on {}", place.address))
    }
}

/// What a proxy needs beside the listeners of its destinations.
pub(crate) fn proxy_needs() -> Needs {
    use weft_api::names::{PORT_ADMIN, PORT_HEALTH, PORT_METRICS};
    vec![("admin".into(), PORT_ADMIN), ("health".into(), PORT_HEALTH), ("metrics".into(), PORT_METRICS)]
}

/// What an instance of a service needs: its own ports (name, target port), the proxy's, and one per destination.
pub(crate) fn service_needs(ports: &[(String, u16)], destinations: &BTreeSet<String>, plan: &Plan) -> Needs {
    let mut needs = proxy_needs();
    for ((name, target), inbound) in ports.iter().zip(INBOUND..) {
        needs.push((format!("app:{name}"), *target));
        needs.push((format!("in:{name}"), inbound));
    }
    needs.extend(destinations.iter().map(|name| (format!("out:{name}"), plan.outbound_port(name))));
    needs
}

#[cfg(test)]
mod tests;
