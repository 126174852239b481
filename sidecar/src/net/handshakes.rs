//! TLS handshakes under way on one worker: so many and no more. One too many makes the oldest be given up, so that those
//! who began one only to let it lie cannot keep others out: an honest handshake is through long before it is the oldest.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::rc::Rc;

use tokio::sync::Notify;

/// Handshakes under way.
#[derive(Debug)]
pub struct Handshakes {
    /// 0: no limit.
    limit: usize,
    next: Cell<u64>,
    open: RefCell<VecDeque<Open>>,
}

/// One of them: its number, and what tells it that it is given up.
type Open = (u64, Rc<Notify>);

impl Handshakes {
    /// None yet, and never more than this.
    pub fn new(limit: usize) -> Self {
        Self { limit, next: Cell::new(0), open: RefCell::default() }
    }

    /// Makes a handshake; none, if it was given up for a newer one.
    pub async fn run<T>(&self, handshake: impl Future<Output = T>) -> Option<T> {
        if self.limit == 0 {
            return Some(handshake.await);
        }
        let (place, given_up) = self.begin();
        let done = tokio::select! {
            biased;
            done = handshake => Some(done),
            () = given_up.notified() => None,
        };
        drop(place);
        done
    }

    fn begin(&self) -> (Place<'_>, Rc<Notify>) {
        let id = self.next.get();
        self.next.set(id + 1);
        let given_up = Rc::new(Notify::new());
        let mut open = self.open.borrow_mut();
        open.push_back((id, Rc::clone(&given_up)));
        if open.len() > self.limit
            && let Some((_, oldest)) = open.pop_front()
        {
            oldest.notify_one();
        }
        (Place { handshakes: self, id }, given_up)
    }
}

/// Keeps a handshake counted while it lives.
struct Place<'a> {
    handshakes: &'a Handshakes,
    id: u64,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut open = self.handshakes.open.borrow_mut();
        // By ids it is sorted.
        if let Ok(at) = open.binary_search_by_key(&self.id, |(id, _)| *id) {
            open.remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn one_too_many_makes_the_oldest_be_given_up() {
        let handshakes = Handshakes::new(2);
        let mut oldest = Box::pin(handshakes.run(pending::<()>()));
        let mut other = Box::pin(handshakes.run(pending::<()>()));
        assert!(oldest.as_mut().now_or_never().is_none());
        assert!(other.as_mut().now_or_never().is_none());
        assert_eq!(handshakes.run(ready(7)).await, Some(7));
        assert_eq!(oldest.await, None);
        assert!(other.as_mut().now_or_never().is_none(), "it is not the oldest");
        drop(other);
        assert!(handshakes.open.borrow().is_empty());
    }
}
