//! The status of a `GatewayClass`: whoever names Weft's controller is accepted.

use weft_crds::gateway_class::GatewayClassStatus;

use super::Status;
use super::condition::{Conditions, Verdict};
use crate::world::{ObjectRef, World};

pub(super) fn of(world: &World, reference: &ObjectRef, now: i64) -> GatewayClassStatus {
    let old = match world.statuses.get(reference) {
        Some(Status::GatewayClass(old)) => old.clone(),
        _ => GatewayClassStatus::default(),
    };
    let make = Conditions { old: &old.conditions, generation: world.generation(reference), now };
    let accepted = make.make("Accepted", Verdict::yes("Accepted", "Gateways of this class are Weft's"));
    GatewayClassStatus { conditions: vec![accepted], extra: old.extra }
}
