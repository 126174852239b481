//! What is wrong with a Gateway because of its listeners among each other, and because of the Secrets they name.

use weft_crds::gateway::Gateway;

use super::Found;
use crate::compile::gateway::{Unserved, conflict, serve};
use crate::world::{Name, World};

/// Checks one Gateway.
pub(super) fn check(world: &World, name: &Name, found: &mut Found) {
    let Some(gateway) = world.gateway(name) else { return };
    names(gateway, found);
    for (at, listener) in gateway.spec.listeners.iter().enumerate() {
        let path = format!("spec.listeners[{at}]");
        if let Some((_, message)) = conflict(gateway, listener) {
            found.error(path, message, "give them other ports or hostnames");
            continue;
        }
        match serve(world, (name, gateway), listener) {
            Ok(_) | Err(Unserved::Conflict { .. }) => {}
            Err(Unserved::Protocol(message)) => {
                found.warning(
                    format!("{path}.protocol"),
                    message,
                    "use HTTP, HTTPS, or TLS with tls.mode Passthrough; the listener is left out",
                );
            }
            Err(Unserved::Certificate { message, .. }) => found.warning(
                format!("{path}.tls.certificateRefs"),
                message,
                "create the Secret with tls.crt and tls.key; until then the listener is left out",
            ),
        }
    }
}

fn names(gateway: &Gateway, found: &mut Found) {
    let listeners = &gateway.spec.listeners;
    for (at, listener) in listeners.iter().enumerate() {
        if listeners.iter().take(at).any(|earlier| earlier.name == listener.name) {
            found.error(
                format!("spec.listeners[{at}].name"),
                format!("there is another listener `{}`", listener.name),
                "give each listener a name of its own",
            );
        }
    }
}
