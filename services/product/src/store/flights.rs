//! One load of a key at a time, however many ask for it: who comes before a load has begun waits for its result, who
//! comes later gets the next one.
//!
//! So nobody is given what was read before they asked, and a change that was made before they asked is never missed.
//! A load goes on while anybody waits for it and is given up when nobody does. A failed one fails for all of them.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::{
    FutureExt as _,
    future::{BoxFuture, Shared, WeakShared},
};

type Flight<V> = Shared<BoxFuture<'static, V>>;
type Weak<V> = WeakShared<BoxFuture<'static, V>>;
type Slots<K, V> = HashMap<K, Slot<V>>;

/// Keys that nobody waits for any more are forgotten above so many.
const MOST_KEYS: usize = 1024;

/// The loads that are under way.
pub struct Flights<K, V: Clone> {
    slots: Arc<Mutex<Slots<K, V>>>,
}

struct Slot<V: Clone> {
    /// The load that has begun.
    current: Option<Weak<V>>,
    /// The one that begins when that has ended.
    next: Option<Weak<V>>,
}

impl<K, V> Flights<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// No loads.
    pub fn new() -> Self {
        Self { slots: Arc::default() }
    }

    /// What a load of the key finds that begins from now on: this one, unless another waits already.
    pub async fn load(&self, key: K, load: impl Future<Output = V> + Send + 'static) -> V {
        // In a statement of its own, so that the lock is not held while waiting.
        let flight = self.join(key, load);
        flight.await
    }

    fn join(&self, key: K, load: impl Future<Output = V> + Send + 'static) -> Flight<V> {
        let mut slots = self.lock();
        if slots.len() > MOST_KEYS {
            slots.retain(|_, slot| {
                alive(slot.current.as_ref()).or_else(|| alive(slot.next.as_ref())).is_some()
            });
        }
        let slot = slots.entry(key.clone()).or_insert(Slot { current: None, next: None });
        if let Some(next) = alive(slot.next.as_ref()) {
            return next;
        }
        let (before, flights) = (alive(slot.current.as_ref()), Self { slots: self.slots.clone() });
        let flight = async move {
            if let Some(before) = before {
                before.await;
            }
            flights.begin(&key);
            let value = load.await;
            flights.end(&key);
            value
        };
        let flight = flight.boxed().shared();
        slot.next = flight.downgrade();
        flight
    }

    fn begin(&self, key: &K) {
        if let Some(slot) = self.lock().get_mut(key) {
            slot.current = slot.next.take();
        }
    }

    fn end(&self, key: &K) {
        let mut slots = self.lock();
        if slots.get(key).is_some_and(|slot| alive(slot.next.as_ref()).is_none()) {
            slots.remove(key);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Slots<K, V>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K, V> Default for Flights<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    fn default() -> Self {
        Self::new()
    }
}

fn alive<V: Clone>(flight: Option<&Weak<V>>) -> Option<Flight<V>> {
    flight.and_then(WeakShared::upgrade)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::{future::join_all, poll};
    use tokio::sync::Semaphore;

    use super::*;

    /// A place that is read, slowly.
    #[derive(Clone)]
    struct Place {
        value: Arc<AtomicUsize>,
        reads: Arc<AtomicUsize>,
        go_on: Arc<Semaphore>,
    }

    impl Place {
        fn new(value: usize) -> Self {
            Self { value: Arc::new(value.into()), reads: Arc::default(), go_on: Arc::new(Semaphore::new(0)) }
        }

        async fn read(self) -> Result<usize, &'static str> {
            self.reads.fetch_add(1, Ordering::Relaxed);
            let value = self.value.load(Ordering::Relaxed);
            self.go_on.acquire().await.unwrap().forget();
            if value == 0 { Err("nothing there") } else { Ok(value) }
        }

        fn reads(&self) -> usize {
            self.reads.load(Ordering::Relaxed)
        }
    }

    #[tokio::test]
    async fn many_readers_are_served_by_one_load_after_another() {
        let (flights, place) = (Flights::new(), Place::new(0));
        let mut first = Box::pin(flights.load("a", place.clone().read()));
        assert!(poll!(&mut first).is_pending());
        let mut others: Vec<_> =
            (0..100).map(|_| Box::pin(flights.load("a", place.clone().read()))).collect();
        for other in &mut others {
            assert!(poll!(other).is_pending());
        }
        assert_eq!(place.reads(), 1, "the second load waits for the first");
        // Whoever came after the change sees it, those of the first load may not.
        place.value.store(7, Ordering::Relaxed);
        place.go_on.add_permits(2);
        assert_eq!(first.await, Err("nothing there"));
        assert!(join_all(others).await.iter().all(|value| *value == Ok(7)));
        assert_eq!(place.reads(), 2);
        assert!(flights.lock().is_empty());
    }

    #[tokio::test]
    async fn keys_do_not_wait_for_each_other() {
        let (flights, a, b) = (Flights::new(), Place::new(1), Place::new(2));
        b.go_on.add_permits(1);
        let mut slow = Box::pin(flights.load("a", a.clone().read()));
        assert!(poll!(&mut slow).is_pending());
        assert_eq!(flights.load("b", b.read()).await, Ok(2));
        a.go_on.add_permits(1);
        assert_eq!(slow.await, Ok(1));
    }

    #[tokio::test]
    async fn a_load_that_nobody_waits_for_is_given_up() {
        let (flights, place) = (Flights::new(), Place::new(1));
        let mut gone = Box::pin(flights.load("a", place.clone().read()));
        assert!(poll!(&mut gone).is_pending());
        let mut stays = Box::pin(flights.load("a", place.clone().read()));
        assert!(poll!(&mut stays).is_pending());
        drop(gone);
        place.go_on.add_permits(2);
        assert_eq!(stays.await, Ok(1), "one who waits takes over the load that is left");
        let mut gone = Box::pin(flights.load("a", place.clone().read()));
        place.go_on.forget_permits(2);
        assert!(poll!(&mut gone).is_pending());
        drop(gone);
        place.go_on.add_permits(1);
        assert_eq!(flights.load("a", place.clone().read()).await, Ok(1));
    }
}
