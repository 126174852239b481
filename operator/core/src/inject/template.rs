//! What every proxy in a pod has, be it a sidecar or a gateway: image, identity, security, probes. [`crate::inject`] adds
//! to it what a sidecar needs, and who renders gateways adds their listeners.

use k8s_openapi::api::core::v1::{
    Capabilities, ConfigMapProjection, Container, ContainerPort, EnvVar, EnvVarSource, HTTPGetAction,
    KeyToPath, ObjectFieldSelector, Probe, ProjectedVolumeSource, ResourceRequirements, SeccompProfile,
    SecurityContext, ServiceAccountTokenProjection, Volume, VolumeMount, VolumeProjection,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use weft_api::names;

/// Life of the proxy's token in seconds; the kubelet renews it in time.
const TOKEN_LIFETIME: i64 = 3600;
/// Tries of a proxy to become ready, one each second, before it is restarted: an operator that is away for minutes is no
/// reason for it.
const STARTS_WITHIN: i32 = 600;

/// What the operator's settings say of every proxy.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    /// Version of Weft, noted in every pod that gets a proxy.
    pub version: String,
    /// Image of the proxy; it holds `weft-proxy` as its entry point, and `nft`.
    pub image: String,
    /// `Always`, `IfNotPresent` or `Never`; Kubernetes' default where none is given.
    pub pull_policy: Option<String>,
    /// Resources of the proxy.
    pub resources: ResourceRequirements,
    /// Which lines the proxy logs.
    pub log: String,
    /// Where the operator is, `host:port`.
    pub operator: String,
}

impl Default for Template {
    fn default() -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            image: concat!("weft-proxy:", env!("CARGO_PKG_VERSION")).to_owned(),
            pull_policy: None,
            resources: ResourceRequirements::default(),
            log: "info".to_owned(),
            operator: format!("{}:{}", names::OPERATOR_HOST, names::PORT_OPERATOR),
        }
    }
}

impl Template {
    /// The container of a proxy that belongs to a workload, `<namespace>/<name>`. It needs the volume of
    /// [`Template::volume`] beside it.
    pub fn proxy(&self, workload: &str) -> Container {
        let port = |name: &str, port: u16| ContainerPort {
            name: Some(name.to_owned()),
            container_port: i32::from(port),
            protocol: Some("TCP".to_owned()),
            ..ContainerPort::default()
        };
        Container {
            name: names::CONTAINER_PROXY.to_owned(),
            env: Some(self.environment(workload)),
            ports: Some(vec![
                port("weft-health", names::PORT_HEALTH),
                port("weft-metrics", names::PORT_METRICS),
            ]),
            startup_probe: Some(ready(1, STARTS_WITHIN)),
            readiness_probe: Some(ready(5, 3)),
            security_context: Some(restricted()),
            volume_mounts: Some(vec![VolumeMount {
                name: names::VOLUME_IDENTITY.to_owned(),
                mount_path: names::IDENTITY_FOLDER.to_owned(),
                read_only: Some(true),
                ..VolumeMount::default()
            }]),
            ..self.container()
        }
    }

    /// The container that redirects the traffic of a pod through its proxy, then ends. It alone needs a privilege: to
    /// program the pod's own network.
    pub fn init(&self) -> Container {
        let security = SecurityContext {
            capabilities: Some(Capabilities {
                add: Some(vec!["NET_ADMIN".to_owned()]),
                drop: Some(vec!["ALL".to_owned()]),
            }),
            // Also where the pod says otherwise for all its containers.
            run_as_user: Some(0),
            run_as_group: Some(0),
            run_as_non_root: Some(false),
            ..restricted()
        };
        Container {
            name: names::CONTAINER_INIT.to_owned(),
            args: Some(vec!["init".to_owned()]),
            security_context: Some(security),
            ..self.container()
        }
    }

    /// The volume with the token of the proxy and the roots of the mesh.
    pub fn volume() -> Volume {
        let token = ServiceAccountTokenProjection {
            audience: Some(names::TOKEN_AUDIENCE.to_owned()),
            expiration_seconds: Some(TOKEN_LIFETIME),
            path: names::TOKEN_FILE.to_owned(),
        };
        let roots = ConfigMapProjection {
            name: names::ROOTS_CONFIG_MAP.to_owned(),
            items: Some(vec![KeyToPath {
                key: names::ROOTS_FILE.to_owned(),
                path: names::ROOTS_FILE.to_owned(),
                mode: None,
            }]),
            optional: None,
        };
        let sources = vec![
            VolumeProjection { service_account_token: Some(token), ..VolumeProjection::default() },
            VolumeProjection { config_map: Some(roots), ..VolumeProjection::default() },
        ];
        // Readable by any user: nobody but the proxy mounts it, so that the pod needs no group of its own for it.
        let projected = ProjectedVolumeSource { default_mode: Some(0o644), sources: Some(sources) };
        Volume { name: names::VOLUME_IDENTITY.to_owned(), projected: Some(projected), ..Volume::default() }
    }

    fn container(&self) -> Container {
        Container {
            image: Some(self.image.clone()),
            image_pull_policy: self.pull_policy.clone(),
            resources: Some(self.resources.clone()),
            ..Container::default()
        }
    }

    fn environment(&self, workload: &str) -> Vec<EnvVar> {
        let folder = names::IDENTITY_FOLDER;
        vec![
            value("WEFT_WORKLOAD", workload),
            field("WEFT_ACCOUNT", "spec.serviceAccountName"),
            field("WEFT_INSTANCE", "metadata.name"),
            value("WEFT_OPERATOR", &self.operator),
            value("WEFT_TOKEN_FILE", &format!("{folder}/{}", names::TOKEN_FILE)),
            value("WEFT_ROOTS", &format!("{folder}/{}", names::ROOTS_FILE)),
            value("WEFT_LOG", &self.log),
        ]
    }
}

/// A variable with a value.
pub(super) fn value(name: &str, value: &str) -> EnvVar {
    EnvVar { name: name.to_owned(), value: Some(value.to_owned()), value_from: None }
}

/// A variable with what a field of the pod says.
fn field(name: &str, path: &str) -> EnvVar {
    let field = ObjectFieldSelector { api_version: None, field_path: path.to_owned() };
    let source = EnvVarSource { field_ref: Some(field), ..EnvVarSource::default() };
    EnvVar { name: name.to_owned(), value: None, value_from: Some(source) }
}

fn ready(period: i32, failures: i32) -> Probe {
    let get = HTTPGetAction {
        path: Some("/ready".to_owned()),
        port: IntOrString::Int(i32::from(names::PORT_HEALTH)),
        ..HTTPGetAction::default()
    };
    Probe {
        http_get: Some(get),
        period_seconds: Some(period),
        failure_threshold: Some(failures),
        ..Probe::default()
    }
}

/// What the Pod Security standard `restricted` asks for, and a file system that cannot be written.
fn restricted() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities { add: None, drop: Some(vec!["ALL".to_owned()]) }),
        privileged: Some(false),
        read_only_root_filesystem: Some(true),
        run_as_user: Some(i64::from(names::PROXY_UID)),
        run_as_group: Some(i64::from(names::PROXY_UID)),
        run_as_non_root: Some(true),
        seccomp_profile: Some(SeccompProfile { localhost_profile: None, type_: "RuntimeDefault".to_owned() }),
        ..SecurityContext::default()
    }
}
