//! What a connection is doing, as seen by a watch over many connections, and what the watch tells it. One timer for all
//! connections judges them by this; a connection itself knows no time.

use std::cell::{Cell, RefCell};
use std::task::Waker;

/// What a connection is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Order {
    /// Go on.
    #[default]
    Continue,
    /// Make the next answer the last. An unused connection stays open, since a request may already be on its way.
    Last,
    /// Finish what is in flight, take nothing new.
    Finish,
    /// The client takes too long with what it is at: refuse a head or body that does not come (408), give up an answer
    /// that is not read.
    TimeOut,
    /// Close at once.
    Close,
}

/// What a connection waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// A request.
    #[default]
    Idle,
    /// The rest of a head.
    Head,
    /// The handler.
    Handler,
    /// The client: for more of the request's body, or for taking more of the answer.
    Client,
}

/// The state of one connection.
#[derive(Debug, Default)]
pub struct Control {
    order: Cell<Order>,
    waker: RefCell<Option<Waker>>,
    phase: Cell<Phase>,
    heads: Cell<u64>,
    moved: Cell<u64>,
}

impl Control {
    /// Tells the connection; what it was told before counts where it was stronger.
    pub fn tell(&self, order: Order) {
        if order > self.order.get() {
            self.order.set(order);
            if let Some(waker) = self.waker.borrow().as_ref() {
                waker.wake_by_ref();
            }
        }
    }

    /// What the connection was told.
    pub fn order(&self) -> Order {
        self.order.get()
    }

    /// What it was told; this waker is woken when that changes.
    pub fn poll_order(&self, waker: &Waker) -> Order {
        let mut slot = self.waker.borrow_mut();
        match slot.as_mut() {
            Some(known) => known.clone_from(waker),
            None => *slot = Some(waker.clone()),
        }
        self.order.get()
    }

    /// What it waits for.
    pub fn phase(&self) -> Phase {
        self.phase.get()
    }

    /// Heads read so far.
    pub fn heads(&self) -> u64 {
        self.heads.get()
    }

    /// Bytes of bodies that have passed, both ways.
    pub fn moved(&self) -> u64 {
        self.moved.get()
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.phase.set(phase);
    }

    pub(crate) fn begin(&self) {
        self.heads.set(self.heads.get() + 1);
        self.phase.set(Phase::Handler);
    }

    pub(crate) fn pass(&self, bytes: usize) {
        self.moved.set(self.moved.get().wrapping_add(bytes as u64));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stronger_order_stands() {
        let control = Control::default();
        control.tell(Order::Finish);
        control.tell(Order::Last);
        assert_eq!(control.order(), Order::Finish);
        control.tell(Order::Close);
        assert_eq!(control.poll_order(Waker::noop()), Order::Close);
    }
}
