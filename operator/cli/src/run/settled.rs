//! Whether the mesh knows what the supervisor knows: the operator has taken the instances in, and every proxy has
//! acknowledged what follows from them. Before that, a request may meet a proxy that has not heard of an instance yet.

use std::collections::BTreeMap;
use std::time::Duration;

use http::Method;
use tokio::time::{Instant, sleep};
use weft_api::status::{ConfigState, InstanceStatus, MeshStatus};

use super::board::Board;
use super::specs::OPERATOR;
use crate::http::{Server, call};

/// How often the operator is asked; it answers from memory.
const EVERY: Duration = Duration::from_millis(50);
/// It takes a fraction of a second; where it takes longer something is wrong that `weft status` tells better.
const WITHIN: Duration = Duration::from_secs(5);

/// Waits until the mesh has settled; false when it has not soon enough.
pub(crate) async fn settled(board: &Board) -> bool {
    let deadline = Instant::now() + WITHIN;
    if !board.wait(WITHIN, Board::all_told).await {
        return false;
    }
    while !agrees(board).await {
        if Instant::now() >= deadline {
            return false;
        }
        sleep(EVERY).await;
    }
    true
}

/// Whether the operator's view of every instance is ours, and its proxy in step.
async fn agrees(board: &Board) -> bool {
    let Some(admin) = board.socket(OPERATOR, "admin") else { return false };
    let Ok((_, body)) = call(Server::Tcp(admin), Method::GET, "/status.json", WITHIN).await else {
        return false;
    };
    let Ok(mesh) = serde_json::from_slice::<MeshStatus>(&body) else { return false };
    let services =
        mesh.services.iter().map(|service| (&service.namespace, &service.name, &service.instances));
    let gateways =
        mesh.gateways.iter().map(|gateway| (&gateway.namespace, &gateway.name, &gateway.instances));
    let known: BTreeMap<_, &InstanceStatus> = services
        .chain(gateways)
        .flat_map(|(namespace, name, instances)| {
            instances.iter().map(move |one| ((namespace, name, &one.name), one))
        })
        .collect();
    board.instances().instances.iter().all(|ours| {
        let theirs = known.get(&(&ours.namespace, &ours.service, &ours.name));
        let in_step = |one: &InstanceStatus| one.connected && one.config == ConfigState::Synced;
        theirs.is_some_and(|one| one.ready == ours.ready && (in_step(one) || !ours.ready))
    })
}
