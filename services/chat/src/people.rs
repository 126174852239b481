//! What one user may do on this instance: so many connections at once, and messages at a pace where Redis does not say
//! (`quota`).

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, interval};
use uuid::Uuid;

use crate::domain::pace::{Bucket, Pace};

const FORGET_EVERY: Duration = Duration::from_secs(30);

/// The users of this instance.
pub struct People {
    pace: Pace,
    most_connections: usize,
    all: Mutex<HashMap<Uuid, Account>>,
}

struct Account {
    connections: usize,
    bucket: Bucket,
}

/// One connection of a user, until this is dropped.
pub struct Connected {
    people: Arc<People>,
    user: Uuid,
}

impl People {
    /// Nobody yet.
    pub fn new(pace: Pace, most_connections: usize) -> Self {
        Self { pace, most_connections, all: Mutex::default() }
    }

    /// How fast a user may write.
    pub fn pace(&self) -> Pace {
        self.pace
    }

    /// Counts a connection; nothing if the user has as many as one may have.
    pub fn connect(self: &Arc<Self>, user: Uuid, now: Instant) -> Option<Connected> {
        let mut all = self.lock();
        let new = || Account { connections: 0, bucket: Bucket::new(self.pace, now) };
        let account = all.entry(user).or_insert_with(new);
        if account.connections >= self.most_connections {
            return None;
        }
        account.connections += 1;
        Some(Connected { people: self.clone(), user })
    }

    /// Forgets users who are gone and could write as fast as new ones, until dropped.
    pub async fn forget(&self) {
        let mut tick = interval(FORGET_EVERY);
        loop {
            let now = tick.tick().await;
            self.lock().retain(|_, account| account.connections > 0 || !account.bucket.is_full(now));
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Account>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connected {
    /// Who it is.
    pub fn user(&self) -> Uuid {
        self.user
    }

    /// Lets the user write a message by what was written on this instance, or says after what time they may.
    pub fn write(&self, now: Instant) -> Result<(), Duration> {
        self.people.lock().get_mut(&self.user).map_or(Ok(()), |account| account.bucket.take(now))
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        if let Some(account) = self.people.lock().get_mut(&self.user) {
            account.connections -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_user_has_so_many_connections_and_one_pace_over_all_of_them() {
        let people = Arc::new(People::new(Pace { rate: 1, burst: 2 }, 2));
        let (ann, bob) = (Uuid::new_v4(), Uuid::new_v4());
        let now = Instant::now();
        let first = people.connect(ann, now).unwrap();
        let second = people.connect(ann, now).unwrap();
        assert!(people.connect(ann, now).is_none());
        assert!(people.connect(bob, now).is_some());
        assert!(first.write(now).is_ok() && second.write(now).is_ok() && first.write(now).is_err());
        drop((first, second));
        // Who comes again has not become faster by that.
        let again = people.connect(ann, now).unwrap();
        assert_eq!(again.write(now), Err(Duration::from_secs(1)));
        drop(again);
        let forget = people.forget();
        tokio::select! {
            () = forget => {}
            () = tokio::time::sleep(FORGET_EVERY * 2) => {}
        }
        assert!(people.lock().is_empty());
    }
}
