//! Where an address that a proxy asks about leads: to a destination by its one name, so that breakers, connections and
//! routes exist once per destination however it is called, and to one endpoint where the address is an instance's own.
//! What nobody knows is answered too, and answered again once somebody does.

use weft_api::names::Address;
use weft_api::v1;

use super::resource::{Body, versioned};
use crate::world::World;

/// The Address resource, named as it was asked for.
pub fn of(world: &World, name: &str) -> v1::Resource {
    let lead = Address::parse(name).and_then(|address| world.lead(address));
    let body = lead.map_or_else(v1::Address::default, |lead| v1::Address {
        destination: lead.destination,
        endpoint: lead.endpoint.map(|(address, _)| address.to_string()).unwrap_or_default(),
        meshed: lead.endpoint.is_some_and(|(_, meshed)| meshed),
    });
    versioned(name, Body::Address(body))
}
