//! Watches over the accepted connections of one worker: tells them when shutdown begins, closes those that never finish
//! a head (slow clients) and those unused for long. One timer per worker instead of one per connection, and nothing to
//! poll per request.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use super::scan::Heads;

/// What a connection has been told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verdict {
    /// Go on.
    #[default]
    None,
    /// Make the next answer the last. An unused connection is left open for a moment, since a request may already be on
    /// its way to it.
    Last,
    /// Finish what is in flight, take nothing new.
    Finish,
    /// Close at once.
    Close,
}

/// One accepted connection as the watch sees it.
#[derive(Debug, Default)]
pub struct Watched {
    verdict: Cell<Verdict>,
    waker: RefCell<Option<Waker>>,
    heads: Option<Arc<Heads>>,
    busy: Cell<u32>,
    seen: Cell<(u32, bool)>,
    quiet: Cell<Duration>,
}

/// The connections of one worker.
#[derive(Debug, Default)]
pub struct Connections {
    next: Cell<u64>,
    all: RefCell<HashMap<u64, Rc<Watched>>>,
    draining: Cell<bool>,
}

/// Keeps a connection registered while it lives.
#[derive(Debug)]
pub struct Registered {
    connections: Rc<Connections>,
    id: u64,
    watched: Rc<Watched>,
}

impl Connections {
    /// Begins to watch a connection; `heads` where its heads are scanned.
    pub fn register(self: &Rc<Self>, heads: Option<Arc<Heads>>) -> Registered {
        let id = self.next.get();
        self.next.set(id + 1);
        let watched = Rc::new(Watched { heads, ..Watched::default() });
        if self.draining.get() {
            watched.drain();
        }
        self.all.borrow_mut().insert(id, Rc::clone(&watched));
        Registered { connections: Rc::clone(self), id, watched }
    }

    /// Tells all connections, and those to come, to finish.
    pub fn drain(&self) {
        self.draining.set(true);
        for watched in self.all.borrow().values() {
            watched.drain();
        }
    }

    /// Judges all connections; called every `passed`.
    pub fn tick(&self, passed: Duration, head: Duration, idle: Duration) {
        for watched in self.all.borrow().values() {
            let idle = if watched.verdict.get() == Verdict::Last { passed } else { idle };
            match watched.quiet_for(passed) {
                (true, quiet) if quiet >= head => watched.tell(Verdict::Close),
                (false, quiet) if quiet >= idle => watched.tell(Verdict::Finish),
                _ => {}
            }
        }
    }
}

impl Watched {
    /// HTTP/2 says GOAWAY and loses nothing by it; HTTP/1.1 can only say so with an answer.
    fn drain(&self) {
        self.tell(if self.heads.is_some() { Verdict::Last } else { Verdict::Finish });
    }

    fn tell(&self, verdict: Verdict) {
        if self.verdict.get() != verdict && self.verdict.get() != Verdict::Close {
            self.verdict.set(verdict);
            if let Some(waker) = self.waker.borrow().as_ref() {
                waker.wake_by_ref();
            }
        }
    }

    /// Whether it is inside a head, and how long nothing has changed.
    fn quiet_for(&self, passed: Duration) -> (bool, Duration) {
        let Some(heads) = &self.heads else { return (false, Duration::ZERO) };
        let now = (heads.complete(), heads.is_inside());
        if self.seen.replace(now) == now && self.busy.get() == 0 {
            self.quiet.set(self.quiet.get() + passed);
        } else {
            self.quiet.set(Duration::ZERO);
        }
        (now.1, self.quiet.get())
    }
}

impl Registered {
    /// What it has been told; it is woken when that changes.
    pub fn verdict(&self, waker: &Waker) -> Verdict {
        let mut slot = self.watched.waker.borrow_mut();
        if !slot.as_ref().is_some_and(|known| known.will_wake(waker)) {
            *slot = Some(waker.clone());
        }
        self.watched.verdict.get()
    }

    /// Marks a request in flight until the guard is dropped: while there is one the connection is never idle.
    pub fn busy(&self) -> Busy {
        self.watched.busy.set(self.watched.busy.get() + 1);
        Busy(Rc::clone(&self.watched))
    }

    /// Whether shutdown has begun for this connection.
    pub fn is_finishing(&self) -> bool {
        self.watched.verdict.get() != Verdict::None
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.connections.all.borrow_mut().remove(&self.id);
    }
}

/// A request in flight.
#[derive(Debug)]
pub struct Busy(Rc<Watched>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.busy.set(self.0.busy.get().saturating_sub(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn told(registered: &Registered) -> Verdict {
        registered.verdict(Waker::noop())
    }

    #[test]
    fn an_idle_connection_is_finished_and_a_busy_one_is_not() {
        let connections = Rc::new(Connections::default());
        let idle = connections.register(Some(Arc::default()));
        let busy = connections.register(Some(Arc::default()));
        let guard = busy.busy();
        for _ in 0..3 {
            connections.tick(SECOND, 10 * SECOND, 2 * SECOND);
        }
        assert_eq!((told(&idle), told(&busy)), (Verdict::Finish, Verdict::None));
        drop(guard);
        for _ in 0..3 {
            connections.tick(SECOND, 10 * SECOND, 2 * SECOND);
        }
        assert_eq!(told(&busy), Verdict::Finish);
    }

    #[test]
    fn connections_made_while_draining_are_told_too() {
        let connections = Rc::new(Connections::default());
        let before = connections.register(None);
        connections.drain();
        let after = connections.register(None);
        assert_eq!((told(&before), told(&after)), (Verdict::Finish, Verdict::Finish));
    }
}
