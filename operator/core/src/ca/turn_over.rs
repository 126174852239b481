//! Roots over time. A root that is to sign is first trusted by everyone (it *joins*), then it signs and its predecessor
//! *retires*: it is trusted until the last certificate under it has ended. So at every moment every two workloads
//! verify each other, whatever the ages of their certificates.
//!
//! A root has been joined for long enough when every workload has renewed its certificate since, because roots come
//! with certificates; sooner when the operator knows from the proxies that all of them trust it. Who keeps the result
//! and tells the proxies is the operator's.

use std::time::Duration;

use rustls_pki_types::CertificateDer;
use weft_api::tls::fingerprint;
use weft_crds::mesh::Identity;

use super::brought::Brought;
use super::root::{Root, Stage};
use super::{CLOCK_SKEW, Ca, CaError, seconds};

/// A root is joined for at least this long, even if all proxies that are known trust it: one that has just started may
/// not have said so yet.
const JOINED_AT_LEAST: Duration = Duration::from_secs(30);
/// Part of the life of a root that is the longest life of a certificate: a successor takes two of them to join, and so
/// again and again there is one root that signs and none that is never used.
const ROOT_PART: u32 = 6;

/// What is wanted of roots and certificates.
#[derive(Clone, Debug)]
pub struct Policy<'a> {
    /// Life of a root made here.
    pub root_lifetime: Duration,
    /// How long before its end a root is joined by its successor.
    pub overlap: Duration,
    /// Life of certificates.
    pub certificate_lifetime: Duration,
    /// Asks for a new root whenever it changes.
    pub rotate: &'a str,
    /// Whose the issuer is.
    pub issuer: Wish<'a>,
}

/// Whose the issuer is to be.
#[derive(Clone, Copy, Debug)]
pub enum Wish<'a> {
    /// Roots made here.
    Own,
    /// The issuer the user brought.
    Brought(&'a Brought),
    /// Whose it is now, since the one that was asked for cannot be used.
    AsIs,
}

impl Policy<'_> {
    /// What the Mesh resource says; `length` is the life of certificates where that is said elsewhere.
    pub fn new(identity: &Identity, length: Option<Duration>) -> Self {
        let certificate_lifetime = length.unwrap_or(identity.certificate_lifetime.get());
        let (root_lifetime, overlap) = (identity.root_lifetime.get(), identity.root_overlap.get());
        Self { root_lifetime, overlap, certificate_lifetime, rotate: "", issuer: Wish::Own }
    }

    /// Life of certificates as it is used: short enough for roots to turn over in theirs.
    fn longest(&self) -> Duration {
        match self.issuer {
            Wish::Own => self.certificate_lifetime.min(self.root_lifetime / ROOT_PART),
            Wish::Brought(_) | Wish::AsIs => self.certificate_lifetime,
        }
    }

    /// How long before the end of a root its successor joins: twice as long as it takes to be trusted by all.
    fn joins_before_end(&self) -> i64 {
        let joining = self.longest() + CLOCK_SKEW.min(self.longest());
        seconds(self.overlap.min(self.root_lifetime * 2 / 3).max(joining * 2))
    }
}

impl Ca {
    /// Takes every step that is due; to be called now and then. `learned` says whether all proxies are known to trust a
    /// root that joins. Says whether anything changed.
    pub fn turn_over(
        &mut self,
        now: i64,
        policy: &Policy<'_>,
        learned: impl Fn(&CertificateDer<'_>) -> bool,
    ) -> Result<bool, CaError> {
        let before = self.to_pem();
        if self.lives.longest.is_zero() {
            // The first time: what was asked for before there was an authority is done.
            self.rotated = asked(policy.rotate);
        }
        self.follow_lives(now, policy.longest());
        self.retire(now);
        match policy.issuer {
            Wish::Own => self.join_own(now, policy)?,
            Wish::Brought(brought) => self.join_brought(now, brought)?,
            Wish::AsIs => {}
        }
        self.promote(now, learned);
        let is_changed = self.to_pem() != before;
        if is_changed {
            self.changed = now.max(self.changed + 1);
        }
        Ok(is_changed)
    }

    fn follow_lives(&mut self, now: i64, longest: Duration) {
        if longest < self.lives.longest {
            self.lives.longer_until = self.lives.longer_until.max(now + seconds(self.lives.longest));
        }
        self.lives.longest = longest;
    }

    /// When every certificate that was signed until now has ended, by any clock.
    fn all_renewed(&self, now: i64) -> i64 {
        let longest = self.lives.longest;
        self.lives.longer_until.max(now + seconds(longest)) + seconds(CLOCK_SKEW.min(longest))
    }

    /// Ended roots go, and those that nobody needs any more.
    fn retire(&mut self, now: i64) {
        let stays = |root: &Root| match root.stage {
            Stage::Retires { until } => until.min(root.not_after) > now,
            _ => root.not_after > now,
        };
        self.roots.retain(stays);
    }

    fn join_own(&mut self, now: i64, policy: &Policy<'_>) -> Result<(), CaError> {
        self.roots.retain(|root| root.joins().is_none() || root.is_own_and_stays());
        let own = || self.roots.iter().filter(|root| root.is_own_and_stays());
        let newest = own().map(|root| root.not_after).max();
        let is_due = newest.is_none_or(|end| end - policy.joins_before_end() <= now);
        // One that was asked for while another joins comes after it.
        let asked = asked(policy.rotate);
        let is_new = !asked.is_empty() && asked != self.rotated;
        let is_asked = is_new && own().all(|root| root.joins().is_none());
        if is_asked {
            self.rotated = asked;
        }
        if is_due || is_asked {
            let root = Root::make(&self.trust_domain, now, policy.root_lifetime)?;
            self.join(now, root);
        }
        Ok(())
    }

    fn join_brought(&mut self, now: i64, brought: &Brought) -> Result<(), CaError> {
        let settled = self.all_renewed(now);
        self.roots.retain(|root| root.joins().is_none() || root.certificate == brought.root);
        let Some(known) = self.roots.iter_mut().find(|root| root.certificate == brought.root) else {
            let root = brought.root()?;
            self.join(now, root);
            return Ok(());
        };
        brought.sign_under(known)?;
        known.stage = match known.stage {
            // Everyone has trusted it since it signed.
            Stage::Retires { .. } => Stage::Joins { since: now, signs_from: now },
            Stage::Trusted => Stage::Joins { since: now, signs_from: settled },
            stage => stage,
        };
        Ok(())
    }

    /// Only one root joins at a time; the one it takes the place of never signed anything.
    fn join(&mut self, now: i64, mut root: Root) {
        self.roots.retain(|root| root.joins().is_none());
        root.stage = Stage::Joins { since: now, signs_from: self.all_renewed(now) };
        self.roots.push(root);
    }

    /// The root that joins signs from now on, if its time has come or nothing else can sign.
    fn promote(&mut self, now: i64, learned: impl Fn(&CertificateDer<'_>) -> bool) {
        let can = |root: &Root| root.signer.as_ref().is_some_and(|signer| signer.not_after > now);
        let signs = self.roots.iter().any(|root| root.stage == Stage::Signs && can(root));
        let is_ready = |root: &Root| {
            root.joins().is_some_and(|(since, signs_from)| {
                let early = now >= since + seconds(JOINED_AT_LEAST) && learned(&root.certificate);
                can(root) && (!signs || signs_from <= now || early)
            })
        };
        let Some(at) = self.roots.iter().position(is_ready) else { return };
        let until = self.all_renewed(now);
        for root in self.roots.iter_mut().filter(|root| root.stage == Stage::Signs) {
            root.stage = Stage::Retires { until };
        }
        let mut next = self.roots.remove(at);
        next.stage = Stage::Signs;
        self.roots.insert(0, next);
    }
}

/// What was asked for, in a form that fits into the record.
fn asked(rotate: &str) -> String {
    if rotate.is_empty() { String::new() } else { fingerprint(rotate.as_bytes()) }
}
