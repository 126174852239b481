//! What proxies of other replicas say, as long as it holds. A proxy that leaves one replica is on its way to another,
//! and a replica that is gone leaves proxies that look for a new one: so what they said stays for a while.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;
use weft_core::world::InstanceRef;

use crate::publish::Progress;
use crate::server::replicas::SessionId;

/// How long what a proxy said holds after its stream to another replica has ended.
const AFTER_PROXY: Duration = Duration::from_secs(5);
/// How long what proxies said holds after their replica went away.
const AFTER_REPLICA: Duration = Duration::from_secs(30);

/// Proxies of other replicas.
#[derive(Debug, Default)]
pub(super) struct Remote(HashMap<InstanceRef, Known>);

#[derive(Debug)]
struct Known {
    session: SessionId,
    progress: Progress,
    /// Held no longer than until then.
    until: Option<Instant>,
}

impl Remote {
    /// A replica says this of a proxy; none: its stream has ended.
    pub(super) fn take(
        &mut self,
        session: SessionId,
        proxy: &InstanceRef,
        progress: Option<Progress>,
        now: Instant,
    ) {
        match progress {
            Some(progress) => {
                self.0.insert(proxy.clone(), Known { session, progress, until: None });
            }
            None => self.end(now + AFTER_PROXY, |known, of| known == proxy && of == session),
        }
    }

    /// A replica says nothing more.
    pub(super) fn ended(&mut self, session: SessionId, now: Instant) {
        self.end(now + AFTER_REPLICA, |_, of| of == session);
    }

    /// Forgets what holds no more, and says of whom.
    pub(super) fn sweep(&mut self, now: Instant) -> Vec<InstanceRef> {
        let mut forgotten = Vec::new();
        self.0.retain(|proxy, known| {
            let holds = known.until.is_none_or(|until| now < until);
            if !holds {
                forgotten.push(proxy.clone());
            }
            holds
        });
        forgotten
    }

    /// What a proxy said last to another replica.
    pub(super) fn progress(&self, proxy: &InstanceRef) -> Option<&Progress> {
        self.0.get(proxy).map(|known| &known.progress)
    }

    fn end(&mut self, until: Instant, is: impl Fn(&InstanceRef, SessionId) -> bool) {
        for (proxy, known) in &mut self.0 {
            if is(proxy, known.session) && known.until.is_none() {
                known.until = Some(until);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_core::world::Name;

    fn proxy(instance: &str) -> InstanceRef {
        InstanceRef::new(Name::new("shop", "order"), instance)
    }

    fn says(version: &str) -> Progress {
        Progress { acked_version: version.into(), ..Progress::default() }
    }

    fn version(remote: &Remote, instance: &str) -> Option<String> {
        remote.progress(&proxy(instance)).map(|progress| progress.acked_version.clone())
    }

    #[test]
    fn a_replica_that_goes_takes_its_reports_with_it_after_a_while() {
        let now = Instant::now();
        let mut remote = Remote::default();
        remote.take(SessionId(1), &proxy("a"), Some(says("1")), now);
        remote.take(SessionId(2), &proxy("b"), Some(says("1")), now);
        remote.ended(SessionId(1), now);
        assert!(remote.sweep(now + AFTER_REPLICA / 2).is_empty() && version(&remote, "a").is_some());
        assert_eq!(remote.sweep(now + AFTER_REPLICA), [proxy("a")]);
        assert_eq!((version(&remote, "a"), version(&remote, "b")), (None, Some("1".into())));
    }

    #[test]
    fn a_replica_that_comes_back_in_time_loses_nothing() {
        let now = Instant::now();
        let mut remote = Remote::default();
        remote.take(SessionId(1), &proxy("a"), Some(says("1")), now);
        remote.ended(SessionId(1), now);
        remote.take(SessionId(2), &proxy("a"), Some(says("2")), now);
        assert!(remote.sweep(now + AFTER_REPLICA).is_empty());
        assert_eq!(version(&remote, "a"), Some("2".into()));
    }

    #[test]
    fn a_proxy_that_moves_is_never_missing() {
        let now = Instant::now();
        let mut remote = Remote::default();
        remote.take(SessionId(1), &proxy("a"), Some(says("1")), now);
        remote.take(SessionId(2), &proxy("a"), Some(says("2")), now);
        remote.take(SessionId(1), &proxy("a"), None, now);
        assert!(remote.sweep(now + AFTER_PROXY).is_empty(), "the other replica's word counts");
        remote.take(SessionId(2), &proxy("a"), None, now);
        assert_eq!(remote.sweep(now + AFTER_PROXY), [proxy("a")]);
    }
}
