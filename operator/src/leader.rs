//! Who of the operator's replicas writes to the cluster: the holder of the Lease `weft-operator`. All replicas watch,
//! compile and serve; only the leader applies objects, writes statuses and events, and turns secrets over.
//!
//! The rules are in [`election`], which reads no clock; here are the requests and the waiting. Whoever writes asks a
//! [`Leadership`] and lives inside a [`Term`]: once that has ended nothing of it writes any more, and only then is the
//! Lease given back. A replica that cannot renew gives up [`election::GIVE_UP_AFTER`] after its last renewal began,
//! seconds before anyone else may take over.

mod election;

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};
use weft_api::names::{LEASE, SYSTEM_NAMESPACE};

use self::election::{Election, LEASE_FOR, Record, Step};
use crate::metrics::Metrics;
use crate::trust::owner::installation;

/// No answer of the API server for this long is a failure.
const ANSWER_WITHIN: Duration = Duration::from_secs(4);
/// How long writers may take to end before the Lease is given back.
const WRITERS_END_WITHIN: Duration = Duration::from_secs(2);

/// What is known of who leads.
#[derive(Clone, Debug, Default)]
struct State {
    /// There while this replica leads.
    term: Option<Term>,
    /// Who leads, `<pod>_<address>`; empty: nobody.
    holder: String,
}

/// The time during which this replica leads. Whoever writes holds it while it does.
#[derive(Clone, Debug)]
pub(crate) struct Term {
    ended: CancellationToken,
    /// Dropped with the last writer.
    _writes: mpsc::Sender<()>,
}

/// Says whether this replica leads, and who does.
#[derive(Clone, Debug)]
pub(crate) struct Leadership(watch::Receiver<State>);

/// Takes part in the election.
pub(crate) struct Candidate {
    client: Client,
    leases: Api<Lease>,
    election: Election,
    /// As last read, with its version: what is written back is written only if nobody wrote meanwhile.
    lease: Option<Lease>,
    /// With the end of who writes.
    term: Option<(Term, mpsc::Receiver<()>)>,
    say: watch::Sender<State>,
    metrics: Arc<Metrics>,
}

impl Leadership {
    /// Who leads, `<pod>_<address>`; empty: nobody.
    pub(crate) fn holder(&self) -> String {
        self.0.borrow().holder.clone()
    }

    /// Waits until somebody else leads or nobody does; an error at the end of the operator.
    pub(crate) async fn changed(&mut self) -> Result<(), watch::error::RecvError> {
        self.0.changed().await
    }

    /// Does `work` while this replica leads, from its beginning in every term; what is unfinished at the end of a term
    /// is dropped. Ends with the operator.
    pub(crate) async fn while_leading<W: Future<Output = ()>>(&mut self, mut work: impl FnMut() -> W) {
        while let Some(term) = self.next_term().await {
            term.ended.run_until_cancelled(async { work().await }).await;
            // Work that ends early waits for the next term.
            term.ended.cancelled().await;
        }
    }

    async fn next_term(&mut self) -> Option<Term> {
        let leads = self.0.wait_for(|state| state.term.as_ref().is_some_and(Term::goes_on)).await;
        leads.ok()?.term.clone()
    }
}

impl Term {
    fn goes_on(&self) -> bool {
        !self.ended.is_cancelled()
    }
}

impl Candidate {
    /// A replica, `<pod>_<address>`.
    pub(crate) fn new(client: Client, me: String, metrics: Arc<Metrics>) -> (Self, Leadership) {
        let (say, state) = watch::channel(State::default());
        let leases = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
        let candidate =
            Self { client, leases, election: Election::new(me), lease: None, term: None, say, metrics };
        (candidate, Leadership(state))
    }

    /// Takes part until `stopping`, then gives the Lease back if it holds it.
    pub(crate) async fn run(mut self, stopping: CancellationToken) {
        loop {
            let begun = Instant::now();
            let give_up = self.election.gives_up_at(begun);
            tokio::select! {
                () = self.round(begun) => {}
                () = until(give_up) => debug!("no answer while the lease runs out"),
                () = stopping.cancelled() => break,
            }
            self.say();
            let wake = self.election.wake_at(begun, Instant::now());
            tokio::select! {
                () = tokio::time::sleep_until(wake) => {}
                () = stopping.cancelled() => break,
            }
        }
        self.release().await;
    }

    /// Looks at the Lease and does what the rules say.
    async fn round(&mut self, begun: Instant) {
        if let Err(error) = self.try_round(begun).await {
            self.election.failed();
            warn!(error = &error as &dyn std::error::Error, "the Lease {LEASE} cannot be read or written");
        }
    }

    async fn try_round(&mut self, begun: Instant) -> Result<(), LeaseError> {
        if self.lease.is_none() || !self.election.leads(begun) {
            self.lease = answer(self.leases.get_opt(LEASE)).await?;
        }
        self.election.observe(self.lease.as_ref().map(record).as_ref(), Instant::now());
        let step = self.election.step(Instant::now());
        if step == Step::Look {
            return Ok(());
        }
        let wanted = self.claim().await;
        let params = PostParams { field_manager: Some("weft".to_owned()), ..PostParams::default() };
        let written = match &self.lease {
            None => answer(self.leases.create(&params, &wanted)).await,
            Some(_) => answer(self.leases.replace(LEASE, &params, &wanted)).await,
        };
        match written {
            Ok(lease) => {
                self.election.won(&record(&lease), begun);
                self.lease = Some(lease);
                Ok(())
            }
            Err(LeaseError::Api(error)) if is_conflict(&error) => {
                // Somebody else wrote it: read it again at once, and be no leader unless it still says so.
                self.lease = answer(self.leases.get_opt(LEASE)).await?;
                self.election.observe(self.lease.as_ref().map(record).as_ref(), Instant::now());
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// The Lease as ours, renewed now; a new one goes with the release that the operator came with. Clocks are for people to read: nobody compares them.
    async fn claim(&self) -> Lease {
        let now = MicroTime(Timestamp::now());
        let old = self.lease.as_ref().and_then(|lease| lease.spec.clone()).unwrap_or_default();
        let me = self.election.me();
        let is_mine = old.holder_identity.as_deref() == Some(me);
        let transitions = old.lease_transitions.unwrap_or_default();
        let metadata = match &self.lease {
            Some(lease) => lease.metadata.clone(),
            None => ObjectMeta {
                name: Some(LEASE.to_owned()),
                owner_references: installation(&self.client).await.map(|owner| vec![owner]),
                ..ObjectMeta::default()
            },
        };
        let spec = LeaseSpec {
            holder_identity: Some(me.to_owned()),
            lease_duration_seconds: i32::try_from(LEASE_FOR.as_secs()).ok(),
            acquire_time: if is_mine { old.acquire_time } else { Some(now.clone()) },
            renew_time: Some(now),
            lease_transitions: Some(if is_mine { transitions } else { transitions + 1 }),
            ..LeaseSpec::default()
        };
        Lease { metadata, spec: Some(spec) }
    }

    /// Begins or ends a term as the election says, and says who leads.
    fn say(&mut self) {
        let leads = self.election.leads(Instant::now());
        if leads && self.term.is_none() {
            let (writes, ended) = mpsc::channel(1);
            self.term = Some((Term { ended: CancellationToken::new(), _writes: writes }, ended));
            info!(replica = self.election.me(), "this replica leads");
        }
        if !leads && let Some((term, _)) = self.term.take() {
            term.ended.cancel();
            warn!(replica = self.election.me(), "this replica leads no more");
        }
        self.metrics.leading.set(leads.into());
        let state =
            State { term: self.term.as_ref().map(|(term, _)| term.clone()), holder: self.election.holder() };
        self.say.send_if_modified(|known| {
            let changed = known.holder != state.holder || known.term.is_some() != state.term.is_some();
            *known = state;
            changed
        });
    }

    async fn release(mut self) {
        let Some((Term { ended, _writes: writes }, mut all_ended)) = self.term.take() else { return };
        ended.cancel();
        drop(writes);
        self.say.send_replace(State::default());
        self.metrics.leading.set(0);
        if tokio::time::timeout(WRITERS_END_WITHIN, all_ended.recv()).await.is_err() {
            warn!("the Lease is not given back, because something still writes; it runs out by itself");
            return;
        }
        let Some(mut lease) = self.lease.take() else { return };
        if let Some(spec) = &mut lease.spec {
            spec.holder_identity = None;
            spec.renew_time = Some(MicroTime(Timestamp::now()));
        }
        let params = PostParams::default();
        match answer(self.leases.replace(LEASE, &params, &lease)).await {
            Ok(_) => info!("the Lease is given back"),
            Err(error) => warn!(
                error = &error as &dyn std::error::Error,
                "the Lease is not given back; it runs out by itself"
            ),
        }
    }
}

/// What went wrong with the Lease.
#[derive(Debug, thiserror::Error)]
enum LeaseError {
    /// The API server refused, or cannot be reached.
    #[error("the API server does not do it")]
    Api(#[from] kube::Error),
    /// No answer.
    #[error("no answer of the API server within {} s", ANSWER_WITHIN.as_secs())]
    Late,
}

async fn answer<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, LeaseError> {
    let answered = tokio::time::timeout(ANSWER_WITHIN, request).await;
    answered.map_err(|_| LeaseError::Late)?.map_err(LeaseError::Api)
}

fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409 || status.code == 404)
}

fn record(lease: &Lease) -> Record {
    let spec = lease.spec.clone().unwrap_or_default();
    let lasts = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    Record {
        holder: spec.holder_identity.unwrap_or_default(),
        renewed: spec.renew_time.map(|time| time.0.to_string()).unwrap_or_default(),
        lasts: lasts.map_or(LEASE_FOR, Duration::from_secs),
    }
}

async fn until(end: Option<Instant>) {
    match end {
        Some(end) => tokio::time::sleep_until(end).await,
        None => std::future::pending().await,
    }
}
