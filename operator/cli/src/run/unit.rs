//! The life of one unit of a run: a server, the operator, a gateway, or an application with its proxy. Up: the proxy
//! first, then the application, both kept alive and checked. Down: deregistered first, so that callers go elsewhere,
//! then the application, which can still call others while it drains, then the proxy.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use weft_core::instances::Instance;

use super::board::{Part, Which, takes_traffic};
use super::context::Context;
use super::health::{self, Check};
use super::plan::Place;
use super::process::{self, ProcessSpec};
use crate::api::Kind;

/// An application waits this long for its proxy before it starts without.
const PROXY_FIRST: Duration = Duration::from_secs(15);
/// What callers get to hear that an instance is going, before it goes.
const FAREWELL: Duration = Duration::from_millis(700);

/// What a unit runs and how it is known.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct UnitSpec {
    /// `order-0`.
    pub(crate) name: String,
    /// What it is.
    pub(crate) kind: Kind,
    /// Namespace of its Microservice or Gateway.
    pub(crate) namespace: String,
    /// Name of its Microservice or Gateway.
    pub(crate) service: String,
    /// Where it is.
    pub(crate) place: Place,
    /// The application, and how its health is asked.
    pub(crate) app: Option<(ProcessSpec, Check)>,
    /// The proxy, and how its health is asked.
    pub(crate) proxy: Option<(ProcessSpec, Check)>,
    /// How the operator knows it; `ready` is filled in by the board.
    pub(crate) registration: Option<Instance>,
    /// Where its listeners are, for gateways.
    pub(crate) urls: Vec<String>,
    /// Counts wishes to restart it.
    pub(crate) generation: u64,
}

impl UnitSpec {
    /// Whether changing to `other` needs no restart.
    pub(crate) fn runs_alike(&self, other: &Self) -> bool {
        self.app == other.app && self.proxy == other.proxy && self.generation == other.generation
    }

    fn part(&self, which: Which) -> Part {
        Part { unit: self.name.clone(), which }
    }
}

/// What a unit is to do.
#[derive(Clone, Debug)]
pub(crate) enum Goal {
    /// Run like this.
    Up(Arc<UnitSpec>),
    /// Do not run.
    Down,
}

/// Follows the goal until its sender is gone.
pub(crate) async fn run(cx: Arc<Context>, mut goal: watch::Receiver<Goal>) {
    loop {
        let now = goal.borrow_and_update().clone();
        if let Goal::Up(spec) = now {
            live(&cx, spec, &mut goal).await;
        } else if goal.changed().await.is_err() {
            return;
        }
        if goal.has_changed().is_err() && matches!(*goal.borrow(), Goal::Up(_)) {
            return;
        }
    }
}

/// Runs a unit until its goal is another.
async fn live(cx: &Arc<Context>, mut spec: Arc<UnitSpec>, goal: &mut watch::Receiver<Goal>) {
    cx.board.wanted(&spec);
    let (app_stop, proxy_stop) = (CancellationToken::new(), CancellationToken::new());
    let proxy = cx.tasks.spawn(keep_proxy(Arc::clone(cx), Arc::clone(&spec), proxy_stop.clone()));
    let app = cx.tasks.spawn(keep_app(Arc::clone(cx), Arc::clone(&spec), app_stop.clone()));
    let watching = CancellationToken::new();
    for which in [Which::App, Which::Proxy] {
        let watched = watch_health(Arc::clone(cx), Arc::clone(&spec), which);
        let until = watching.clone();
        cx.tasks.spawn(async move { until.run_until_cancelled(watched).await });
    }
    while goal.changed().await.is_ok() {
        let next = goal.borrow_and_update().clone();
        match next {
            Goal::Up(next) if next.runs_alike(&spec) => {
                cx.board.wanted(&next);
                spec = next;
            }
            // Seen again by the caller.
            _ => {
                goal.mark_changed();
                break;
            }
        }
    }
    say_farewell(cx, &spec).await;
    watching.cancel();
    app_stop.cancel();
    finished(app).await;
    proxy_stop.cancel();
    finished(proxy).await;
}

/// Callers hear that it goes, before it goes. Nothing calls any more when the whole run ends.
async fn say_farewell(cx: &Context, spec: &UnitSpec) {
    let was_ready = cx.board.is_ready(&spec.name);
    cx.board.unwanted(&spec.name);
    if was_ready && takes_traffic(spec.kind) {
        let ending = cx.ending.clone();
        tokio::select! {
            () = sleep(FAREWELL) => {}
            () = ending.cancelled() => {}
        }
    }
}

async fn finished(task: tokio::task::JoinHandle<()>) {
    if let Err(error) = task.await
        && let Ok(panic) = error.try_into_panic()
    {
        std::panic::resume_unwind(panic);
    }
}

async fn keep_proxy(cx: Arc<Context>, spec: Arc<UnitSpec>, stop: CancellationToken) {
    if let Some((process, _)) = &spec.proxy {
        process::keep(&cx, &spec.part(Which::Proxy), process, &stop).await;
    }
}

async fn keep_app(cx: Arc<Context>, spec: Arc<UnitSpec>, stop: CancellationToken) {
    let Some((process, _)) = &spec.app else { return };
    if spec.proxy.is_some() {
        let proxy = spec.part(Which::Proxy);
        // An application whose calls go nowhere at first is better than one that never starts.
        stop.run_until_cancelled(cx.board.wait(PROXY_FIRST, |board| board.is_well(&proxy))).await;
    }
    process::keep(&cx, &spec.part(Which::App), process, &stop).await;
}

async fn watch_health(cx: Arc<Context>, spec: Arc<UnitSpec>, which: Which) {
    let checked = match which {
        Which::App => &spec.app,
        Which::Proxy => &spec.proxy,
    };
    if let Some((_, check)) = checked {
        health::watch(&cx.board, &spec.part(which), check).await;
    }
}
