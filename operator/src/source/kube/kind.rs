//! The kinds that are watched, and which of them a cluster may be without.

use kube::core::{ApiResource, Resource};
use weft_core::world::ObjectKind;
use weft_crds::gateway::Gateway;
use weft_crds::gateway_class::GatewayClass;
use weft_crds::grpc_route::GrpcRoute;
use weft_crds::http_route::HttpRoute;
use weft_crds::reference_grant::ReferenceGrant;
use weft_crds::tls_route::TlsRoute;
use weft_crds::{GATEWAY_GROUP, Mesh, Microservice};

/// A kind that is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Kind {
    Microservice,
    Mesh,
    GatewayClass,
    Gateway,
    HttpRoute,
    GrpcRoute,
    TlsRoute,
    ReferenceGrant,
    Namespace,
    Service,
    EndpointSlice,
    Pod,
    /// By name only.
    Secret,
}

impl Kind {
    /// Those that are listed as a whole.
    pub(super) const LISTED: [Self; 12] = [
        Self::Microservice,
        Self::Mesh,
        Self::GatewayClass,
        Self::Gateway,
        Self::HttpRoute,
        Self::GrpcRoute,
        Self::TlsRoute,
        Self::ReferenceGrant,
        Self::Namespace,
        Self::Service,
        Self::EndpointSlice,
        Self::Pod,
    ];

    /// As Kubernetes spells it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::EndpointSlice => "EndpointSlice",
            Self::Pod => "Pod",
            _ => self.object().map_or("", ObjectKind::as_str),
        }
    }

    /// What the world calls it; pods and slices are no objects there.
    pub(super) fn object(self) -> Option<ObjectKind> {
        Some(match self {
            Self::Microservice => ObjectKind::Microservice,
            Self::Mesh => ObjectKind::Mesh,
            Self::GatewayClass => ObjectKind::GatewayClass,
            Self::Gateway => ObjectKind::Gateway,
            Self::HttpRoute => ObjectKind::HttpRoute,
            Self::GrpcRoute => ObjectKind::GrpcRoute,
            Self::TlsRoute => ObjectKind::TlsRoute,
            Self::ReferenceGrant => ObjectKind::ReferenceGrant,
            Self::Namespace => ObjectKind::Namespace,
            Self::Service => ObjectKind::Service,
            Self::Secret => ObjectKind::Secret,
            Self::EndpointSlice | Self::Pod => return None,
        })
    }

    /// Whether a `CustomResourceDefinition` brings it.
    pub(super) fn is_custom(self) -> bool {
        matches!(self, Self::Microservice | Self::Mesh) || self.is_optional()
    }

    /// Whether the mesh works without: the Gateway API is an add-on.
    pub(super) fn is_optional(self) -> bool {
        self.resource().group == GATEWAY_GROUP
    }

    /// Everywhere the API server may keep it, the likeliest first: it is kept at one of them.
    pub(super) fn resources(self) -> Vec<ApiResource> {
        if self == Self::TlsRoute { TlsRoute::resources() } else { vec![self.resource()] }
    }

    /// Where the API server keeps it. Of the built-in kinds nobody asks.
    pub(super) fn resource(self) -> ApiResource {
        fn of<K: Resource<DynamicType = ()>>() -> ApiResource {
            ApiResource::erase::<K>(&())
        }
        match self {
            Self::Mesh => of::<Mesh>(),
            Self::GatewayClass => of::<GatewayClass>(),
            Self::Gateway => of::<Gateway>(),
            Self::HttpRoute => of::<HttpRoute>(),
            Self::GrpcRoute => of::<GrpcRoute>(),
            Self::TlsRoute => of::<TlsRoute>(),
            Self::ReferenceGrant => of::<ReferenceGrant>(),
            Self::Namespace => of::<k8s_openapi::api::core::v1::Namespace>(),
            Self::Service => of::<k8s_openapi::api::core::v1::Service>(),
            Self::EndpointSlice => of::<k8s_openapi::api::discovery::v1::EndpointSlice>(),
            Self::Pod => of::<k8s_openapi::api::core::v1::Pod>(),
            Self::Secret => of::<k8s_openapi::api::core::v1::Secret>(),
            Self::Microservice => of::<Microservice>(),
        }
    }
}
