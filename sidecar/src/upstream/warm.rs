//! Connections made in advance: where a new configuration brings endpoints to a destination that this worker calls, it
//! connects to their proxies in the background, a few at a time, so that no request waits for TCP and TLS. The worker has
//! it look when the configuration is another, and go on at each tick. Leaves out what speaks HTTP alone: there each
//! connection carries one request, and one in advance would not be enough.

use std::cell::Cell;
use std::collections::{HashSet, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use crate::config::snapshot::{Destination, Snapshot};
use crate::net::worker::Worker;
use crate::outbound::attempts::target;
use crate::upstream::balance::Endpoint;

/// Connections under way at a time, per worker.
const AT_ONCE: usize = 8;
/// Endpoints that wait for theirs; those beyond are connected to when they are called.
const MOST: usize = 128;

/// An endpoint that is new, of this destination.
type New = (Arc<Destination>, Arc<Endpoint>);

/// What is connected to in advance.
#[derive(Debug)]
pub struct Warmer {
    /// The configuration looked at last.
    seen: Arc<Snapshot>,
    waiting: VecDeque<New>,
    under_way: Rc<Cell<usize>>,
}

/// One connection under way.
struct Place(Rc<Cell<usize>>);

impl Place {
    fn take(under_way: &Rc<Cell<usize>>) -> Self {
        under_way.set(under_way.get() + 1);
        Self(Rc::clone(under_way))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl Warmer {
    /// Begins with this configuration: what it holds is not new.
    pub fn new(seen: Arc<Snapshot>) -> Self {
        Self { seen, waiting: VecDeque::new(), under_way: Rc::default() }
    }

    /// Looks for endpoints that are new, and connects to some of them.
    pub fn look(&mut self, worker: &Rc<Worker>) {
        let config = worker.shared.config.load_full();
        let before = std::mem::replace(&mut self.seen, Arc::clone(&config));
        let room = MOST.saturating_sub(self.waiting.len());
        self.waiting.extend(arrived(&before, &config, &worker.pool.called()).take(room));
        self.go_on(worker);
    }

    /// Connects to some more of what waits.
    pub fn go_on(&mut self, worker: &Rc<Worker>) {
        while self.under_way.get() < AT_ONCE {
            let Some((destination, endpoint)) = self.waiting.pop_front() else { return };
            let (place, to) = (Place::take(&self.under_way), Rc::clone(worker));
            worker.tasks.spawn_local(async move {
                let _place = place;
                to.pool.warm(&to, target(&destination, &endpoint)).await;
            });
        }
    }
}

/// Endpoints with a proxy that came to destinations that are called.
fn arrived(before: &Snapshot, now: &Snapshot, called: &HashSet<Arc<str>>) -> impl Iterator<Item = New> {
    let changed = called.iter().filter_map(|name| {
        let (earlier, later) = (before.destinations.get(name)?, now.destinations.get(name)?);
        (!Arc::ptr_eq(earlier, later)).then_some((earlier, later))
    });
    changed.flat_map(|(earlier, later)| {
        let known: HashSet<SocketAddr> =
            earlier.balancer.endpoints().iter().map(|endpoint| endpoint.address()).collect();
        let new = later.balancer.endpoints().iter();
        let new = new.filter(move |endpoint| endpoint.is_meshed() && !known.contains(&endpoint.address()));
        new.map(|endpoint| (Arc::clone(later), Arc::clone(endpoint)))
    })
}
