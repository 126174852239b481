//! The pure heart of the operator: a [`world`] of what is known, [`compile`] from it what each proxy gets, [`status`] what
//! each resource says of itself, [`validate`] what is refused and in which words, [`inject`] what a proxy adds to a pod,
//! [`ca`] who is who. No IO, no clock, no async: time, keys and reports are arguments. Adapters around it: the operator
//! (directory or Kubernetes) and the CLI.

pub mod ca;
pub mod compile;
pub mod inject;
pub mod instances;
pub mod render;
pub mod status;
pub mod validate;
pub mod world;
