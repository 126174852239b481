//! Listeners: which ones a snapshot asks for, opening and closing them as snapshots change, and the accept loops. An
//! unchanged listener is left alone, and closing one leaves its accepted connections alone.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;
use tokio::time::{Duration, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::redirect::canonical;
use super::worker::{Accepted, Lane, dispatch};
use crate::config::Shared;
use crate::config::snapshot::{OutboundListener, Snapshot};
use crate::drain::Tasks;
use crate::reject::Reason;
use crate::telemetry::Direction;

const BACKLOG: i32 = 4096;
/// What Linux says where IPv6 is switched off.
const EAFNOSUPPORT: i32 = nix::errno::Errno::EAFNOSUPPORT as i32;
/// Pause after an accept that failed for want of file descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// Through which listener a connection came in. Only names: what they stand for is read from the current snapshot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A port of the workload, by name.
    Inbound(Arc<str>),
    /// Any port of the workload; the original destination says which.
    InboundRedirected,
    /// One destination.
    Outbound(OutboundListener),
    /// Any destination; the original destination or the authority says which.
    OutboundRedirected,
    /// An address at the edge, by the name of the first of its listeners.
    Gateway(Arc<str>),
}

impl Entry {
    const fn direction(&self) -> Direction {
        match self {
            Self::Inbound(_) | Self::InboundRedirected => Direction::Inbound,
            Self::Outbound(_) | Self::OutboundRedirected => Direction::Outbound,
            Self::Gateway(_) => Direction::Gateway,
        }
    }

    /// Whether connections through both are served alike, wherever they listen.
    fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Outbound(one), Self::Outbound(two)) => {
                (&one.destination, one.protocol) == (&two.destination, two.protocol)
            }
            // Whose listener a connection is for is looked up when it comes.
            (Self::Gateway(_), Self::Gateway(_)) => true,
            _ => self == other,
        }
    }
}

/// A listener as a snapshot asks for it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wanted {
    address: SocketAddr,
    entry: Entry,
}

/// An open listener: as it was asked for, where it is bound, and what closes it.
type Open = (Wanted, SocketAddr, CancellationToken);

/// The listeners that are open.
#[derive(Debug)]
pub struct Listeners {
    shared: Arc<Shared>,
    lanes: Arc<[Lane]>,
    tasks: Tasks,
    open: HashMap<String, Open>,
}

impl Listeners {
    /// None yet.
    pub fn new(shared: &Arc<Shared>, lanes: Arc<[Lane]>) -> Self {
        Self { shared: Arc::clone(shared), lanes, tasks: shared.tasks.sibling(), open: HashMap::new() }
    }

    /// Opens what this snapshot asks for and closes what it no longer does. Returns the first failure; all others are
    /// opened all the same.
    pub fn follow(&mut self, snapshot: &Snapshot) -> std::io::Result<()> {
        let wanted = wanted(&self.shared, snapshot);
        for (name, open) in std::mem::take(&mut self.open) {
            match wanted_as(&wanted, &name, &open) {
                Some(name) => drop(self.open.insert(name.to_owned(), open)),
                None => open.2.cancel(),
            }
        }
        let mut result = Ok(());
        for (name, wanted) in wanted {
            if self.open.contains_key(&name) {
                continue;
            }
            if let Err(error) = self.open(&name, wanted) {
                warn!(listener = name, %error, "listener cannot be opened");
                result = result.and(Err(error));
            }
        }
        self.publish();
        self.shared.listening(result.is_ok() && snapshot.configured());
        result
    }

    /// Closes all of them.
    pub fn close(&mut self) {
        for (_, _, close) in self.open.values() {
            close.cancel();
        }
        self.open.clear();
    }

    fn open(&mut self, name: &str, wanted: Wanted) -> std::io::Result<()> {
        let listener = bind(wanted.address)?;
        let address = listener.local_addr()?;
        let close = CancellationToken::new();
        info!(listener = name, %address, "listening");
        let door = Door {
            shared: Arc::clone(&self.shared),
            lanes: Arc::clone(&self.lanes),
            entry: wanted.entry.clone(),
            open: Arc::default(),
        };
        let accept = door.accept(TcpListener::from_std(listener)?);
        let closed = close.clone();
        self.tasks.spawn("accept", async move {
            tokio::select! { () = accept => {}, () = closed.cancelled() => {} }
        });
        self.open.insert(name.to_owned(), (wanted, address, close));
        Ok(())
    }

    fn publish(&self) {
        let addresses = self.open.iter().map(|(name, (_, address, _))| (name.clone(), *address));
        let addresses: HashMap<_, _> = addresses.collect();
        self.shared.bound.send_modify(|bound| {
            let mut all: HashMap<_, _> = HashMap::clone(bound);
            all.retain(|name, _| !is_ours(name));
            all.extend(addresses);
            *bound = Arc::new(all);
        });
    }
}

/// Under which name an open listener is wanted further; none: no more. A port the system chose counts as the one that was
/// asked for, and an address goes on to whom it is now.
fn wanted_as<'w>(
    wanted: &'w HashMap<String, Wanted>,
    name: &str,
    (open, bound, _): &Open,
) -> Option<&'w str> {
    let same = wanted.get_key_value(name).filter(|(_, wanted)| *wanted == open);
    let here =
        || wanted.iter().find(|(_, wanted)| wanted.address == *bound && wanted.entry.is_like(&open.entry));
    same.or_else(here).map(|(name, _)| name.as_str())
}

/// Whether this name of a bound address is one of a data-plane listener, not of admin, health or metrics.
fn is_ours(name: &str) -> bool {
    name.starts_with("inbound") || name.starts_with("outbound") || name.starts_with("gateway")
}

fn wanted(shared: &Shared, snapshot: &Snapshot) -> HashMap<String, Wanted> {
    let mut all = HashMap::new();
    let mut add = |name: String, address: SocketAddr, entry: Entry| {
        all.insert(name, Wanted { address, entry });
    };
    for port in snapshot.inbound.iter().flat_map(|inbound| &inbound.ports) {
        if let Some(address) = port.listen {
            add(format!("inbound/{}", port.name), address, Entry::Inbound(Arc::clone(&port.name)));
        }
    }
    for to in &snapshot.proxy.outbound {
        add(format!("outbound/{}", to.destination), to.listen, Entry::Outbound(to.clone()));
    }
    let mut edges = HashSet::new();
    for listener in snapshot.gateway.iter().flat_map(|gateway| &gateway.listeners) {
        // Those that share an address share a socket; ports that the system is to choose are not shared.
        if listener.listen.port() > 0 && !edges.insert(listener.listen) {
            continue;
        }
        let name = Arc::clone(&listener.name);
        add(format!("gateway/{name}"), listener.listen, Entry::Gateway(name));
    }
    if let (Some(address), true) = (shared.settings.inbound_addr, snapshot.inbound.is_some()) {
        add("inbound".into(), address, Entry::InboundRedirected);
    }
    if let Some(address) = shared.settings.outbound_addr {
        add("outbound".into(), address, Entry::OutboundRedirected);
    }
    all
}

/// Binds a listener; one for both families takes IPv4 alone where the system has no IPv6.
pub fn bind(address: SocketAddr) -> std::io::Result<std::net::TcpListener> {
    let every = |ip: IpAddr| ip == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    match bind_exactly(address) {
        Err(error) if every(address.ip()) && error.raw_os_error() == Some(EAFNOSUPPORT) => {
            bind_exactly(SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), address.port()))
        }
        bound => bound,
    }
}

fn bind_exactly(address: SocketAddr) -> std::io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    if address.is_ipv6() {
        // Whatever the system's default is: `[::]` means both families.
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// What a listener does with those who come.
struct Door {
    shared: Arc<Shared>,
    lanes: Arc<[Lane]>,
    entry: Entry,
    open: Arc<AtomicU32>,
}

/// One of the connections that a listener may have open.
#[derive(Debug)]
pub struct Place(Arc<AtomicU32>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Door {
    async fn accept(self, listener: TcpListener) {
        loop {
            // A worker registers the socket with its own runtime, so it leaves this one first.
            let accepted = listener.accept().await.and_then(|(stream, peer)| Ok((stream.into_std()?, peer)));
            match accepted {
                // Linux hands TCP_NODELAY down from the listener.
                Ok((stream, peer)) => self.let_in(stream, canonical(peer)).await,
                Err(error) => {
                    warn!(%error, "connection cannot be accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn let_in(&self, stream: std::net::TcpStream, peer: SocketAddr) {
        if let Some(place) = self.place() {
            dispatch(&self.lanes, Accepted { stream, peer, entry: self.entry.clone(), place }).await;
        }
    }

    /// A place for one more connection; none, where there are too many.
    fn place(&self) -> Option<Place> {
        let limit = self.shared.settings.limits.max_connections;
        let place = Place(Arc::clone(&self.open));
        if self.open.fetch_add(1, Ordering::Relaxed) < limit || limit == 0 {
            return Some(place);
        }
        self.shared.telemetry.metrics.rejected(self.entry.direction(), Reason::Overflow);
        None
    }
}
