//! Watches over the accepted connections of one worker: tells them when shutdown begins, refuses clients that never finish
//! a head, gives up those that let a body stand still, and closes what is unused for long. One timer per worker instead of
//! one per connection, and nothing to poll per request.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use weft_http1::control::Phase;
use weft_http1::{Control, Order};

/// How long a client may take.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// For a head, from its first byte to its last.
    pub head: Duration,
    /// Between two pieces of a body that it sends, or that it takes.
    pub body: Duration,
    /// Between two requests.
    pub idle: Duration,
}

/// One accepted connection as the watch sees it.
#[derive(Debug, Default)]
struct Watched {
    control: Rc<Control>,
    /// Whether its codec says what it is doing; HTTP/2 looks after itself.
    http1: bool,
    seen: Cell<Seen>,
    quiet: Cell<Duration>,
}

/// What a connection was at; as long as that does not change it is quiet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    phase: Phase,
    heads: u64,
    moved: u64,
}

/// The connections of one worker.
#[derive(Debug, Default)]
pub struct Connections {
    next: Cell<u64>,
    all: RefCell<HashMap<u64, Watched>>,
    draining: Cell<bool>,
}

/// Keeps a connection registered while it lives.
#[derive(Debug)]
pub struct Registered {
    connections: Rc<Connections>,
    id: u64,
    control: Rc<Control>,
}

impl Connections {
    /// Begins to watch a connection.
    pub fn register(self: &Rc<Self>, http1: bool) -> Registered {
        let id = self.next.get();
        self.next.set(id + 1);
        let watched = Watched { http1, ..Watched::default() };
        if self.draining.get() {
            watched.drain();
        }
        let control = Rc::clone(&watched.control);
        self.all.borrow_mut().insert(id, watched);
        Registered { connections: Rc::clone(self), id, control }
    }

    /// Tells all connections, and those to come, to finish.
    pub fn drain(&self) {
        self.draining.set(true);
        for watched in self.all.borrow().values() {
            watched.drain();
        }
    }

    /// Judges all connections; called every `passed`.
    pub fn tick(&self, passed: Duration, patience: &Patience) {
        for watched in self.all.borrow().values().filter(|watched| watched.http1) {
            watched.judge(passed, patience);
        }
    }
}

impl Watched {
    /// HTTP/2 says GOAWAY and loses nothing by it; HTTP/1.1 can only say so with an answer.
    fn drain(&self) {
        self.control.tell(if self.http1 { Order::Last } else { Order::Finish });
    }

    fn judge(&self, passed: Duration, patience: &Patience) {
        let (phase, quiet) = self.quiet_for(passed);
        match phase {
            Phase::Head if quiet >= patience.head => self.control.tell(Order::TimeOut),
            Phase::Client if quiet >= patience.body => self.control.tell(Order::TimeOut),
            // In a drain only as long as a request may still be on its way.
            Phase::Idle if self.control.order() == Order::Last && quiet >= passed => {
                self.control.tell(Order::Finish);
            }
            Phase::Idle if quiet >= patience.idle => self.control.tell(Order::Finish),
            Phase::Idle | Phase::Head | Phase::Handler | Phase::Client => {}
        }
    }

    /// What it is at, and for how long.
    fn quiet_for(&self, passed: Duration) -> (Phase, Duration) {
        let control = &self.control;
        let now = Seen { phase: control.phase(), heads: control.heads(), moved: control.moved() };
        let quiet = if self.seen.replace(now) == now { self.quiet.get() + passed } else { Duration::ZERO };
        self.quiet.set(quiet);
        (now.phase, quiet)
    }
}

impl Registered {
    /// What the connection is told, and where it says what it is doing.
    pub const fn control(&self) -> &Rc<Control> {
        &self.control
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.connections.all.borrow_mut().remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const PATIENCE: Patience = Patience { head: SECOND, body: SECOND, idle: Duration::from_secs(2) };

    #[test]
    fn an_idle_connection_is_finished_and_one_of_http_2_looks_after_itself() {
        let connections = Rc::new(Connections::default());
        let idle = connections.register(true);
        let other = connections.register(false);
        for expect in [Order::Continue, Order::Continue, Order::Finish] {
            assert_eq!(idle.control().order(), expect);
            connections.tick(SECOND, &PATIENCE);
        }
        assert_eq!((idle.control().order(), other.control().order()), (Order::Finish, Order::Continue));
    }

    #[test]
    fn connections_made_while_draining_are_told_too() {
        let connections = Rc::new(Connections::default());
        let before = connections.register(false);
        connections.drain();
        let (after, http1) = (connections.register(false), connections.register(true));
        assert_eq!((before.control().order(), after.control().order()), (Order::Finish, Order::Finish));
        assert_eq!(http1.control().order(), Order::Last);
        connections.tick(SECOND, &PATIENCE);
        assert_eq!(http1.control().order(), Order::Finish);
    }
}
