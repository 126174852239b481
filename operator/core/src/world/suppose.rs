//! What would be if an object were in the world: looked at, then undone.

use std::collections::BTreeMap;

use super::{Name, Object, World};

impl World {
    /// What a look at the world finds with that object in it. Afterwards the world is as before.
    pub fn supposing<T>(&mut self, object: Object, look: impl FnOnce(&Self) -> T) -> T {
        let name = object.reference().name;
        match object {
            Object::Microservice(object) => {
                let old = self.microservices.insert(name.clone(), object);
                let seen = look(self);
                put_back(&mut self.microservices, name, old);
                seen
            }
            Object::Mesh(object) => {
                let old = self.meshes.insert(name.clone(), object);
                let seen = look(self);
                put_back(&mut self.meshes, name, old);
                seen
            }
            Object::Gateway(object) => {
                let old = self.gateways.insert(name.clone(), object);
                let seen = look(self);
                put_back(&mut self.gateways, name, old);
                seen
            }
            Object::HttpRoute(object) => {
                let old = self.http_routes.insert(name.clone(), object);
                let seen = look(self);
                put_back(&mut self.http_routes, name, old);
                seen
            }
            Object::GrpcRoute(object) => {
                let old = self.grpc_routes.insert(name.clone(), object);
                let seen = look(self);
                put_back(&mut self.grpc_routes, name, old);
                seen
            }
            Object::TlsRoute(object) => {
                let old = self.tls_routes.insert(name.clone(), object);
                let seen = look(self);
                put_back(&mut self.tls_routes, name, old);
                seen
            }
            Object::ReferenceGrant(object) => {
                let old = self.grants.insert(name.clone(), object);
                let seen = look(self);
                put_back(&mut self.grants, name, old);
                seen
            }
            // Nobody asks beforehand whether these may be stored.
            Object::Secret(_) | Object::Service(_) | Object::GatewayClass(_) | Object::Namespace(_) => {
                look(self)
            }
        }
    }
}

fn put_back<T>(objects: &mut BTreeMap<Name, T>, name: Name, old: Option<T>) {
    match old {
        Some(old) => drop(objects.insert(name, old)),
        None => drop(objects.remove(&name)),
    }
}
