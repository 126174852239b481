//! Hedging: where the first attempt has not answered after a while, the same request goes to another endpoint too, and the
//! first good answer counts. Stands in place of a single attempt (`attempts.rs`), for requests without a body that may be
//! made twice, where the destination's `retries` say so. Each further attempt takes from the retry budget.

use std::rc::Rc;
use std::sync::Arc;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, sleep_until};

use super::attempts::{Run, Sent, Try, outcome, speaks, target, timed_out};
use crate::http::deadline;
use crate::policy::outcome::Health;
use crate::policy::retry::Hedge;

/// One attempt under way: its place in the list, how it ended, and when it was handed to a connection.
type Landed = (usize, Sent, Option<Instant>);

/// Runs the first attempt and those beside it. Returns the one that counts; the others are given up, or have been judged.
pub(super) async fn race(run: &mut Run<'_>, first: Try, hedge: Hedge, until: Instant) -> (Try, Sent) {
    let mut next = first.since + hedge.after;
    let mut flights = FuturesUnordered::new();
    flights.push(fly(run, 0, &first, until));
    let mut tries = vec![Some(first)];
    let mut left = hedge.max;
    let (winner, sent) = loop {
        tokio::select! {
            biased;
            Some((index, sent, since)) = flights.next() => {
                let Some(landed) = tries.get_mut(index).and_then(Option::take) else { continue };
                let landed = Try { since: since.unwrap_or(landed.since), ..landed };
                if flights.is_empty() || outcome(&sent).health() != Health::Bad {
                    break (landed, sent);
                }
                run.fail(landed, &sent, outcome(&sent));
            }
            () = sleep_until(next), if left > 0 => {
                (left, next) = (left - 1, next + hedge.after);
                match run.another() {
                    Some(another) => {
                        flights.push(fly(run, tries.len(), &another, until));
                        tries.push(Some(another));
                    }
                    None => left = 0,
                }
            }
            () = sleep_until(until) => {
                let Some(oldest) = tries.iter_mut().find_map(Option::take) else { continue };
                break (oldest, Err(timed_out()));
            }
        }
    };
    let now = Instant::now();
    for outrun in tries.iter().flatten() {
        outrun.picked.outrun(now - outrun.since, now);
    }
    (winner, sent)
}

fn fly(run: &Run<'_>, index: usize, this: &Try, until: Instant) -> impl Future<Output = Landed> + use<> {
    let (worker, destination) = (Rc::clone(run.worker), Arc::clone(run.destination));
    let endpoint = Arc::clone(this.picked.endpoint());
    let mut outgoing = run.outgoing.twin();
    let speaks = speaks(destination.protocol, &endpoint, run.cx, &outgoing);
    deadline::tell(outgoing.headers_mut(), until, this.since);
    this.span.tell(outgoing.headers_mut());
    async move {
        let sent = outgoing.send(&worker, target(&destination, &endpoint), speaks).await;
        (index, sent, outgoing.sent())
    }
}
