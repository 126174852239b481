//! The status of the Mesh: whether it is in force, and whether the authority and Redis it asks for are there.

use weft_crds::mesh::{MESH_NAME, MeshStatus};

use super::Status;
use super::condition::{Conditions, Verdict, accepted, refused, time};
use crate::validate::{self, Severity};
use crate::world::{ObjectRef, World};

pub(super) fn of(world: &World, reference: &ObjectRef, now: i64) -> MeshStatus {
    let old = match world.statuses.get(reference) {
        Some(Status::Mesh(old)) => Some(old),
        _ => None,
    };
    let generation = world.generation(reference);
    let conditions = old.map(|old| old.conditions.as_slice()).unwrap_or_default();
    let make = Conditions { old: conditions, generation, now };
    let problems = validate::object(world, reference);
    let in_force = reference.name.name == MESH_NAME;
    let accepts = match world.invalid(reference) {
        Some(invalid) => refused(invalid, world.has_mesh()),
        None if in_force => accepted(&problems),
        None => {
            Verdict::no("NotInForce", format!("only the Mesh named `{MESH_NAME}` is in force; rename it"))
        }
    };
    let lacks = problems.iter().find(|problem| problem.severity == Severity::Warning);
    let trust = world.trust();
    let ready = match lacks {
        _ if !in_force => Verdict::no("NotInForce", ""),
        Some(problem) => Verdict::no("RedisMissing", format!("{}; {}", problem.message, problem.remedy)),
        None if !trust.problem.is_empty() => Verdict::no("IssuerUnusable", &trust.problem),
        None => Verdict::yes("Ready", ""),
    };
    MeshStatus {
        conditions: vec![make.make("Accepted", accepts), make.make("Ready", ready)],
        root_expires: Some(time(trust.ends)).filter(|_| in_force && trust.ends > 0),
        observed_generation: Some(generation),
    }
}
