//! The rules of the election, without requests and without a clock.
//!
//! A replica never compares a time in the Lease with its own clock. It remembers when it saw the Lease change last, and
//! takes over once it has not changed for as long as the Lease lasts. The holder counts from the moment at which it
//! began its last renewal that succeeded, which is before anyone could see it, and gives up earlier: so however the
//! clocks are set, one has ended before the next begins.

use std::time::Duration;

use tokio::time::Instant;

/// How long a Lease lasts that is not renewed.
pub(super) const LEASE_FOR: Duration = Duration::from_secs(15);
/// How often the holder renews: twice before it would have to give up.
const RENEW_EVERY: Duration = Duration::from_secs(5);
/// A holder whose last successful renewal began so long ago leads no more. What it has under way has ended before the
/// Lease runs out.
pub(super) const GIVE_UP_AFTER: Duration = Duration::from_secs(10);
/// After a renewal that failed.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// How often the others look.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What the Lease says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// Empty: nobody.
    pub(super) holder: String,
    /// Differs with every renewal; its order means nothing.
    pub(super) renewed: String,
    pub(super) lasts: Duration,
}

/// What to do now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing: it is another's, and may be alive.
    Look,
    /// Write it as one's own.
    Claim,
}

/// What one replica knows of the election.
#[derive(Debug)]
pub(super) struct Election {
    me: String,
    /// The Lease as last seen, and since when it has been like that. None: it is not there.
    seen: Option<(Record, Instant)>,
    /// While leading: when the last renewal that succeeded began.
    renewed: Option<Instant>,
    /// The last request failed.
    failed: bool,
}

impl Election {
    pub(super) fn new(me: String) -> Self {
        Self { me, seen: None, renewed: None, failed: false }
    }

    pub(super) fn me(&self) -> &str {
        &self.me
    }

    /// Who holds it as far as is known.
    pub(super) fn holder(&self) -> String {
        self.seen.as_ref().map(|(record, _)| record.holder.clone()).unwrap_or_default()
    }

    /// The Lease is like this.
    pub(super) fn observe(&mut self, record: Option<&Record>, now: Instant) {
        self.failed = false;
        if record.is_none_or(|record| record.holder != self.me) {
            self.renewed = None;
        }
        match record {
            None => self.seen = None,
            Some(record) if self.seen.as_ref().is_some_and(|(seen, _)| seen == record) => {}
            Some(record) => self.seen = Some((record.clone(), now)),
        }
    }

    /// What to do about what was observed.
    pub(super) fn step(&self, now: Instant) -> Step {
        match &self.seen {
            Some((record, since))
                if !record.holder.is_empty() && record.holder != self.me && now < *since + record.lasts =>
            {
                Step::Look
            }
            // Nobody's, one that ran out, or one's own: of this process, or of one before it in the same pod.
            _ => Step::Claim,
        }
    }

    /// A claim that began then was written.
    pub(super) fn won(&mut self, record: &Record, begun: Instant) {
        self.seen = Some((record.clone(), begun));
        self.renewed = Some(begun);
        self.failed = false;
    }

    /// A request failed: nothing is known but what was known.
    pub(super) fn failed(&mut self) {
        self.failed = true;
    }

    pub(super) fn leads(&self, now: Instant) -> bool {
        self.leads_until().is_some_and(|until| now < until)
    }

    /// When a round that begins now is to be broken off, because leading ends; never where it has ended before.
    pub(super) fn gives_up_at(&self, begun: Instant) -> Option<Instant> {
        self.leads_until().filter(|until| begun < *until)
    }

    /// When it has to give up unless it renews.
    fn leads_until(&self) -> Option<Instant> {
        Some(self.renewed? + GIVE_UP_AFTER)
    }

    /// When to look again after a round.
    pub(super) fn wake_at(&self, begun: Instant, now: Instant) -> Instant {
        match self.leads_until() {
            Some(until) if now < until && self.failed => (now + RETRY_AFTER).min(until),
            Some(until) if now < until => (begun + RENEW_EVERY).min(until).max(now),
            _ => now + LOOK_EVERY,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The Lease on the server.
    struct Server {
        record: Option<Record>,
        writes: u32,
    }

    impl Server {
        fn write(&mut self, holder: &str) -> Record {
            self.writes += 1;
            let renewed = self.writes.to_string();
            let record = Record { holder: holder.to_owned(), renewed, lasts: LEASE_FOR };
            self.record = Some(record.clone());
            record
        }
    }

    fn round(election: &mut Election, server: &mut Server, now: Instant) {
        election.observe(server.record.as_ref(), now);
        if election.step(now) == Step::Claim {
            let record = server.write(&election.me.clone());
            election.won(&record, now);
        }
    }

    fn pair() -> (Election, Election, Server) {
        let server = Server { record: None, writes: 0 };
        (Election::new("a_10.0.0.1".into()), Election::new("b_10.0.0.2".into()), server)
    }

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn who_could_not_renew_takes_part_again() {
        let (mut a, _, mut server) = pair();
        let start = Instant::now();
        round(&mut a, &mut server, start);
        assert_eq!(a.gives_up_at(start), Some(start + GIVE_UP_AFTER));
        a.failed();
        let later = start + seconds(120);
        assert!(!a.leads(later));
        assert_eq!(a.gives_up_at(later), None, "a round after the end would be broken off before it began");
        round(&mut a, &mut server, later);
        assert!(a.leads(later));
    }

    #[test]
    fn the_first_to_write_leads_and_the_other_looks_on() {
        let (mut a, mut b, mut server) = pair();
        let start = Instant::now();
        for second in 0..60 {
            let now = start + seconds(second);
            round(&mut a, &mut server, now);
            round(&mut b, &mut server, now);
            assert!(a.leads(now) && !b.leads(now));
        }
        assert_eq!(b.holder(), "a_10.0.0.1");
    }

    #[test]
    fn who_cannot_renew_gives_up_before_another_may_take_over() {
        let (mut a, mut b, mut server) = pair();
        let start = Instant::now();
        round(&mut a, &mut server, start);
        round(&mut b, &mut server, start);
        let (mut ended, mut taken) = (None, None);
        for tenth in 0..400 {
            let now = start + Duration::from_millis(tenth * 100);
            a.failed();
            round(&mut b, &mut server, now);
            ended = ended.or((!a.leads(now)).then_some(now));
            taken = taken.or(b.leads(now).then_some(now));
            assert!(!(a.leads(now) && b.leads(now)));
        }
        assert_eq!(ended.unwrap() - start, GIVE_UP_AFTER);
        assert_eq!(taken.unwrap() - start, LEASE_FOR);
    }

    #[test]
    fn a_lease_that_is_seen_late_is_waited_for_in_full() {
        let (mut a, mut b, mut server) = pair();
        let start = Instant::now();
        round(&mut a, &mut server, start);
        // B starts a minute later; how old the times in the Lease are by its own clock does not count.
        let late = start + seconds(60);
        round(&mut b, &mut server, late);
        assert!(!b.leads(late));
        round(&mut b, &mut server, late + LEASE_FOR.checked_sub(seconds(1)).unwrap());
        assert_eq!(b.step(late + seconds(14)), Step::Look);
        round(&mut b, &mut server, late + LEASE_FOR);
        assert!(b.leads(late + LEASE_FOR));
    }

    #[test]
    fn a_lease_given_back_is_taken_at_once() {
        let (mut a, mut b, mut server) = pair();
        let start = Instant::now();
        round(&mut a, &mut server, start);
        round(&mut b, &mut server, start);
        server.write("");
        round(&mut b, &mut server, start + seconds(2));
        assert!(b.leads(start + seconds(2)));
        a.observe(server.record.as_ref(), start + seconds(3));
        assert!(!a.leads(start + seconds(3)), "it is another's now");
    }

    #[test]
    fn a_process_in_a_pod_that_held_it_takes_it_up_again() {
        let (mut a, _, mut server) = pair();
        server.write("a_10.0.0.1");
        let now = Instant::now();
        round(&mut a, &mut server, now);
        assert!(a.leads(now));
    }

    #[test]
    fn a_holder_renews_in_time_and_tries_again_soon() {
        let (mut a, _, mut server) = pair();
        let start = Instant::now();
        assert_eq!(a.wake_at(start, start), start + LOOK_EVERY);
        round(&mut a, &mut server, start);
        assert_eq!(a.wake_at(start, start + seconds(1)), start + RENEW_EVERY);
        a.failed();
        assert_eq!(a.wake_at(start, start + seconds(6)), start + seconds(7));
        assert_eq!(a.wake_at(start, start + Duration::from_millis(9_500)), start + GIVE_UP_AFTER);
        assert!(!a.leads(start + GIVE_UP_AFTER));
    }
}
