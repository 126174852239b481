//! What the operator and the proxies both say: the wire protocol, SPIFFE identities and the names of ports, headers
//! and labels. Stands under every other crate of the mesh; knows neither Kubernetes nor any IO.

pub mod names;
pub mod spiffe;
pub mod status;
pub mod tls;

/// Messages and services of `weft.v1`, generated from `proto/`.
pub mod v1 {
    #![allow(
        clippy::all,
        clippy::pedantic,
        clippy::allow_attributes_without_reason,
        missing_docs,
        reason = "generated code"
    )]
    tonic::include_proto!("weft.v1");

    impl Resource {
        /// The kind of what is inside; `Unspecified` for an empty resource.
        pub fn kind(&self) -> Kind {
            use resource::Body;
            match &self.body {
                Some(Body::Proxy(_)) => Kind::Proxy,
                Some(Body::Inbound(_)) => Kind::Inbound,
                Some(Body::Gateway(_)) => Kind::Gateway,
                Some(Body::Destination(_)) => Kind::Destination,
                Some(Body::Endpoints(_)) => Kind::Endpoints,
                Some(Body::Routes(_)) => Kind::Routes,
                Some(Body::Keys(_)) => Kind::Keys,
                Some(Body::Address(_)) => Kind::Address,
                None => Kind::Unspecified,
            }
        }
    }
}
