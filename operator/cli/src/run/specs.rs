//! From what is to run (project.rs) and where (plan.rs) to units: every process with its arguments and environment, its
//! health check, and how the operator knows it. Starts nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use weft_core::instances::{Instance, PortAddresses, Role};

use super::context::Tools;
use super::health::Check;
use super::plan::{Net, Place, Plan, proxy_needs, service_needs};
use super::process::{ProcessSpec, StopBy};
use super::project::{Gateway, Health, Project, Service, outbound_variable};
use super::template;
use super::unit::UnitSpec;
use crate::api::Kind;
use crate::state::{State, random_hex, sha256_hex};

/// Name of the operator's unit.
pub(crate) const OPERATOR: &str = "operator";

/// What all units of a run have in common.
#[derive(Clone, Debug)]
pub(crate) struct Ground {
    /// The state folder.
    pub(crate) state: State,
    /// Programs of this machine.
    pub(crate) tools: Tools,
    /// The operator's program.
    pub(crate) operator_program: PathBuf,
    /// The proxy's program.
    pub(crate) proxy_program: PathBuf,
    /// Address of gateways where weft.yaml names none.
    pub(crate) gateway_address: IpAddr,
    /// Which lines the operator and the proxies log.
    pub(crate) log: String,
    /// How long proxies drain.
    pub(crate) drain: Duration,
    /// Where the operator's gRPC port is.
    pub(crate) operator: SocketAddr,
    /// `${postgres}`.
    pub(crate) postgres: Option<String>,
    /// `${redis}`.
    pub(crate) redis: Option<String>,
}

/// What changes while units are laid out: places and tokens, kept between layouts.
pub(crate) struct Layout<'a> {
    /// Places.
    pub(crate) plan: &'a mut Plan,
    /// Join tokens by unit, kept for the life of the run.
    pub(crate) tokens: &'a mut BTreeMap<String, String>,
    /// Units that run now, whose ports are in use by themselves.
    pub(crate) running: BTreeSet<String>,
    /// The network.
    pub(crate) net: Net<'a>,
}

impl Layout<'_> {
    fn token(&mut self, unit: &str) -> String {
        self.tokens.entry(unit.to_owned()).or_insert_with(random_hex).clone()
    }

    /// The place of a unit with these needs.
    pub(crate) fn place(&mut self, unit: &str, needs: &super::plan::Needs) -> Result<Place> {
        self.plan.place(unit, needs, &self.net, !self.running.contains(unit))
    }
}

/// The operator's unit.
pub(crate) fn operator(ground: &Ground, directory: &Path, place: Place) -> Result<UnitSpec> {
    let grpc = place.socket("grpc").context("the operator has no gRPC port")?;
    let admin = place.socket("admin").context("the operator has no admin port")?;
    let args = [
        "--source".to_owned(),
        format!("dir:{}", directory.display()),
        "--state".to_owned(),
        ground.state.root().display().to_string(),
        "--grpc-addr".to_owned(),
        grpc.to_string(),
        "--admin-addr".to_owned(),
        admin.to_string(),
        "--log".to_owned(),
        ground.log.clone(),
        "--log-format".to_owned(),
        "json".to_owned(),
    ];
    let process = ProcessSpec {
        name: OPERATOR.into(),
        program: ground.operator_program.clone(),
        args: args.to_vec(),
        env: Vec::new(),
        directory: ground.state.root().to_owned(),
        user: None,
        stop: StopBy::Group,
    };
    let check = Check::Http(admin, "/status.json".into());
    Ok(UnitSpec { app: Some((process, check)), ..bare(OPERATOR, Kind::Operator, place) })
}

/// A private server's unit.
pub(crate) fn server(process: ProcessSpec, place: Place, address: SocketAddr) -> UnitSpec {
    let name = process.name.clone();
    UnitSpec { app: Some((process, Check::Tcp(address))), ..bare(&name, Kind::Server, place) }
}

fn bare(name: &str, kind: Kind, place: Place) -> UnitSpec {
    UnitSpec {
        name: name.to_owned(),
        kind,
        namespace: String::new(),
        service: name.to_owned(),
        place,
        app: None,
        proxy: None,
        registration: None,
        urls: Vec::new(),
        generation: 0,
    }
}

/// Units for all services and gateways.
pub(crate) fn units(ground: &Ground, project: &Project, layout: &mut Layout<'_>) -> Result<Vec<UnitSpec>> {
    layout.plan.number_destinations(&project.destinations);
    let mut units = Vec::new();
    for service in &project.services {
        for index in 0..service.instances {
            units.push(instance(ground, project, (service, index), layout)?);
        }
    }
    for gateway in &project.gateways {
        units.push(gateway_unit(ground, gateway, layout)?);
    }
    Ok(units)
}

fn instance(
    ground: &Ground,
    project: &Project,
    (service, index): (&Service, u32),
    layout: &mut Layout<'_>,
) -> Result<UnitSpec> {
    let name = format!("{}-{index}", service.prefix);
    let needs = service_needs(&service.ports, &project.destinations, layout.plan);
    let place = layout.place(&name, &needs)?;
    let token = layout.token(&name);
    let value = |wanted: &str| variable(wanted, ground, service, (&name, index, &place));
    let fill =
        |text: &String| template::fill(text, &value).with_context(|| format!("service {}", service.name));
    let mut command = service.command.iter().map(fill);
    let program = command.next().context("the command is empty")??;
    let Some(program) = ground.tools.find_from(&program, &service.directory) else {
        bail!(
            "service {}: there is no program `{program}` beside `weft`, on PATH or in {}; build or install it, or \
             correct `services.{}.command` in weft.yaml",
            service.name,
            service.directory.display(),
            service.name
        );
    };
    let env = service.env.iter().map(|(key, text)| Ok((key.clone(), fill(text)?)));
    let app = ProcessSpec {
        name: name.clone(),
        program,
        args: command.collect::<Result<_>>()?,
        env: env.collect::<Result<_>>()?,
        directory: service.directory.clone(),
        user: None,
        stop: StopBy::Group,
    };
    let check = match &service.health {
        Health::Http { port, path } => Check::Http(socket(&place, &format!("app:{port}"))?, path.clone()),
        Health::Tcp { port } => Check::Tcp(socket(&place, &format!("app:{port}"))?),
    };
    let workload = (service.namespace.as_str(), service.name.as_str(), service.account.as_str());
    let proxy = proxy(ground, workload, (&name, &place), &token)?;
    let registration = register_instance(project, service, (&name, &place), &token)?;
    Ok(UnitSpec {
        namespace: service.namespace.clone(),
        service: service.name.clone(),
        app: Some((app, check)),
        proxy: Some(proxy),
        registration: Some(registration),
        ..bare(&name, Kind::Service, place)
    })
}

fn socket(place: &Place, purpose: &str) -> Result<SocketAddr> {
    place.socket(purpose).with_context(|| format!("no port was planned for {purpose}"))
}

/// The value of `${wanted}` for an instance.
fn variable(
    wanted: &str,
    ground: &Ground,
    service: &Service,
    (name, index, place): (&str, u32, &Place),
) -> Option<String> {
    match wanted {
        "address" => Some(place.address.to_string()),
        "instance" => Some(name.to_owned()),
        "index" => Some(index.to_string()),
        "namespace" => Some(service.namespace.clone()),
        "service" => Some(service.name.clone()),
        "directory" => Some(service.directory.display().to_string()),
        "state" => Some(ground.state.root().display().to_string()),
        "postgres" => ground.postgres.clone(),
        "redis" => ground.redis.clone(),
        _ => {
            if let Some(port) = wanted.strip_prefix("port.") {
                return place.ports.get(&format!("app:{port}")).map(u16::to_string);
            }
            let outbound = place.ports.keys().filter_map(|purpose| purpose.strip_prefix("out:"));
            let found = outbound.into_iter().find(|destination| {
                outbound_variable(destination, &service.namespace).is_some_and(|variable| variable == wanted)
            })?;
            place.socket(&format!("out:{found}")).map(|address| address.to_string())
        }
    }
}

fn register_instance(
    project: &Project,
    service: &Service,
    (name, place): (&str, &Place),
    token: &str,
) -> Result<Instance> {
    let mut ports = BTreeMap::new();
    for (port, _) in &service.ports {
        let app = socket(place, &format!("app:{port}"))?;
        ports.insert(port.clone(), PortAddresses { app, peers: socket(place, &format!("in:{port}"))? });
    }
    let mut outbound = BTreeMap::new();
    for destination in &project.destinations {
        outbound.insert(destination.clone(), socket(place, &format!("out:{destination}"))?);
    }
    Ok(Instance {
        namespace: service.namespace.clone(),
        service: service.name.clone(),
        name: name.to_owned(),
        role: Role::Service,
        address: place.address,
        ports,
        outbound,
        listeners: BTreeMap::new(),
        ready: false,
        meshed: true,
        zone: String::new(),
        account: String::new(),
        shared: false,
        for_zones: Vec::new(),
        token_sha256: sha256_hex(token),
    })
}

/// The proxy of an instance or gateway. One worker thread each: on one machine many proxies share few cores.
fn proxy(
    ground: &Ground,
    (namespace, service, account): (&str, &str, &str),
    (name, place): (&str, &Place),
    token: &str,
) -> Result<(ProcessSpec, Check)> {
    let health = socket(place, "health")?;
    let settings = [
        ("WEFT_WORKLOAD", format!("{namespace}/{service}")),
        ("WEFT_ACCOUNT", account.to_owned()),
        ("WEFT_INSTANCE", name.to_owned()),
        ("WEFT_OPERATOR", ground.operator.to_string()),
        ("WEFT_ROOTS", ground.state.path("roots.pem").display().to_string()),
        ("WEFT_TOKEN", token.to_owned()),
        ("WEFT_ADMIN_ADDR", socket(place, "admin")?.to_string()),
        ("WEFT_HEALTH_ADDR", health.to_string()),
        ("WEFT_METRICS_ADDR", socket(place, "metrics")?.to_string()),
        ("WEFT_LOG", ground.log.clone()),
        ("WEFT_LOG_FORMAT", "json".to_owned()),
        ("WEFT_WORKERS", "1".to_owned()),
        ("WEFT_DRAIN_DEADLINE", format!("{}s", ground.drain.as_secs().max(1))),
    ];
    let process = ProcessSpec {
        name: format!("{name}.proxy"),
        program: ground.proxy_program.clone(),
        args: Vec::new(),
        env: settings.map(|(key, value)| (key.to_owned(), value)).to_vec(),
        directory: ground.state.root().to_owned(),
        user: None,
        stop: StopBy::Group,
    };
    Ok((process, Check::Http(health, "/ready".into())))
}

fn gateway_unit(ground: &Ground, gateway: &Gateway, layout: &mut Layout<'_>) -> Result<UnitSpec> {
    let name = format!("{}-0", gateway.prefix);
    let place = layout.place(&name, &proxy_needs())?;
    let token = layout.token(&name);
    let workload = (gateway.namespace.as_str(), gateway.name.as_str(), gateway.name.as_str());
    let (mut process, check) = proxy(ground, workload, (&name, &place), &token)?;
    process.args = vec!["gateway".into()];
    let at = gateway.address.unwrap_or(ground.gateway_address);
    let mut listeners = BTreeMap::new();
    for listener in &gateway.listeners {
        let address = SocketAddr::new(at, listener.port);
        if !layout.running.contains(&name) && !(layout.net.free)(address) {
            bail!(
                "port {} of {at} is taken, and Gateway {} wants it for its listener {}; stop what listens there (see: \
                 ss -ltnp), or write `gateways: {{{}: {{ports: {{{}: OTHER}}}}}}` in weft.yaml",
                listener.port,
                gateway.name,
                listener.name,
                gateway.name,
                listener.name
            );
        }
        listeners.insert(listener.name.clone(), address);
    }
    let urls = gateway.listeners.iter().map(|l| format!("{}://{}", l.scheme, shown(at, l.port))).collect();
    let registration = Instance {
        namespace: gateway.namespace.clone(),
        service: gateway.name.clone(),
        name: name.clone(),
        role: Role::Gateway,
        address: place.address,
        ports: BTreeMap::new(),
        outbound: BTreeMap::new(),
        listeners,
        ready: false,
        meshed: true,
        zone: String::new(),
        account: String::new(),
        shared: false,
        for_zones: Vec::new(),
        token_sha256: sha256_hex(&token),
    };
    Ok(UnitSpec {
        namespace: gateway.namespace.clone(),
        service: gateway.name.clone(),
        proxy: Some((process, check)),
        registration: Some(registration),
        urls,
        ..bare(&name, Kind::Gateway, place)
    })
}

/// How an address is typed into a browser: "all addresses" is not one.
fn shown(address: IpAddr, port: u16) -> SocketAddr {
    let address = if address.is_unspecified() { Ipv4Addr::LOCALHOST.into() } else { address };
    SocketAddr::new(address, port)
}

#[cfg(test)]
mod tests;
