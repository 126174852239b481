//! The status as lines of text: tables with columns as wide as they need to be. Pure: the time is an argument.

use std::collections::BTreeMap;

use weft_api::status::{BreakerState, ConfigState, InstanceStatus, MeshStatus};

use crate::api::{Kind, Phase, ProcessStatus, RunStatus, UnitStatus};

/// The status, line by line.
pub(crate) fn lines(run: &RunStatus, mesh: Result<&MeshStatus, String>, now: i64) -> Vec<String> {
    let empty = MeshStatus::default();
    let known = mesh.as_ref().copied().unwrap_or(&empty);
    let mut out = vec![headline(run, now), String::new()];
    out.extend(units(run, known, now));
    out.extend(titled(gateways(run)));
    out.extend(titled(breakers(known)));
    out.extend(titled(keys(known, now)));
    let problems: Vec<String> = problems(run, known, mesh.err());
    if !problems.is_empty() {
        out.push(String::new());
        out.push("PROBLEMS".into());
        out.extend(problems.into_iter().map(|problem| format!("  {problem}")));
    }
    out
}

fn headline(run: &RunStatus, now: i64) -> String {
    let ready = if run.ready { "ready" } else { "not ready" };
    let up = span(now - run.started);
    format!(
        "{} is {ready}, up {up} (pid {}, state {})",
        run.directory.display(),
        run.pid,
        run.state.display()
    )
}

/// A table with an empty line before it.
pub(crate) fn titled(table: Option<Vec<String>>) -> Vec<String> {
    table.into_iter().flat_map(|lines| std::iter::once(String::new()).chain(lines)).collect()
}

fn units(run: &RunStatus, mesh: &MeshStatus, now: i64) -> Vec<String> {
    let mut meshed: BTreeMap<&str, &InstanceStatus> = BTreeMap::new();
    let services = mesh.services.iter().map(|service| &service.instances);
    let gateways = mesh.gateways.iter().map(|gateway| &gateway.instances);
    for instance in services.chain(gateways).flatten() {
        meshed.insert(&instance.name, instance);
    }
    let secured: BTreeMap<(&str, &str), &str> = mesh
        .services
        .iter()
        .filter_map(|service| {
            let condition = service.conditions.iter().find(|condition| condition.kind == "Secured")?;
            Some(((service.namespace.as_str(), service.name.as_str()), condition.reason.as_str()))
        })
        .collect();
    let header = ["NAME", "KIND", "ADDRESS", "READY", "MTLS", "CERTIFICATE", "CONFIG", "RESTARTS", "NOTE"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for unit in &run.units {
        let instance = meshed.get(unit.name.as_str());
        let mtls = match unit.kind {
            Kind::Service => {
                let service = (unit.namespace.as_str(), unit.service.as_str());
                secured.get(&service).map_or("-", |reason| mtls(reason))
            }
            _ => "-",
        };
        rows.push(vec![
            unit.name.clone(),
            kind(unit.kind).into(),
            unit.address.to_string(),
            readiness(unit).into(),
            mtls.to_owned(),
            instance.map_or("-".into(), |instance| expiry(instance.certificate_expires, now)),
            instance.map_or("-", |instance| config(instance.config)).to_owned(),
            restarts(unit).to_string(),
            note(unit, instance.copied()),
        ]);
    }
    align(&rows)
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Server => "server",
        Kind::Operator => "operator",
        Kind::Service => "service",
        Kind::Gateway => "gateway",
    }
}

fn readiness(unit: &UnitStatus) -> &'static str {
    match (unit.wanted, unit.ready) {
        (true, true) => "yes",
        (true, false) => "no",
        (false, _) => "stopped",
    }
}

/// The mode of mutual TLS behind the reason of the condition `Secured`; the reason where something is amiss.
pub(crate) fn mtls(reason: &str) -> &str {
    match reason {
        "MutualTls" => "Strict",
        "PlainTextAllowed" => "Permissive",
        "MutualTlsDisabled" => "Disabled",
        other => other,
    }
}

/// How the configuration of a proxy stands, in one word.
pub(crate) fn config(state: ConfigState) -> &'static str {
    match state {
        ConfigState::None => "-",
        ConfigState::Pending => "pending",
        ConfigState::Synced => "synced",
        ConfigState::Refused => "refused",
    }
}

fn restarts(unit: &UnitStatus) -> u32 {
    [&unit.app, &unit.proxy].into_iter().flatten().map(|process| process.restarts).sum()
}

fn note(unit: &UnitStatus, instance: Option<&InstanceStatus>) -> String {
    if !unit.wanted {
        return format!("start it with: weft start {}", unit.name);
    }
    let of = |which: &str, process: &Option<ProcessStatus>| {
        let process = process.as_ref()?;
        let text = match process.phase {
            Phase::Waiting => format!("{which} {}", process.last_end),
            Phase::Running if !process.unhealthy.is_empty() => format!("{which}: {}", process.unhealthy),
            Phase::Running | Phase::Stopped => return None,
        };
        Some(text)
    };
    let app = if unit.proxy.is_some() { "application" } else { "it" };
    let refusal = instance.map(|instance| instance.refusal.clone()).filter(|refusal| !refusal.is_empty());
    let parts =
        [of(app, &unit.app), of("proxy", &unit.proxy), refusal.map(|text| format!("config refused: {text}"))];
    parts.into_iter().flatten().collect::<Vec<_>>().join("; ")
}

fn gateways(run: &RunStatus) -> Option<Vec<String>> {
    let mut rows = vec![vec!["GATEWAY".to_owned(), "ADDRESSES".to_owned()]];
    let gateways = run.units.iter().filter(|unit| unit.kind == Kind::Gateway);
    rows.extend(gateways.map(|unit| vec![unit.service.clone(), unit.urls.join("  ")]));
    (rows.len() > 1).then(|| align(&rows))
}

/// Circuit breakers that something went through.
pub(crate) fn breakers(mesh: &MeshStatus) -> Option<Vec<String>> {
    let header = ["CALLER", "DESTINATION", "BREAKER", "FAILURES", "SUCCESSES"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    let mut quiet = 0;
    let services = mesh.services.iter().map(|service| &service.instances);
    let gateways = mesh.gateways.iter().map(|gateway| &gateway.instances);
    for instance in services.chain(gateways).flatten() {
        for breaker in &instance.breakers {
            if breaker.state == BreakerState::Closed && (breaker.failures, breaker.successes) == (0, 0) {
                quiet += 1;
                continue;
            }
            rows.push(vec![
                instance.name.clone(),
                breaker.destination.clone(),
                breaker.state.to_string(),
                breaker.failures.to_string(),
                breaker.successes.to_string(),
            ]);
        }
    }
    let mut lines = if rows.len() > 1 { align(&rows) } else { Vec::new() };
    lines.extend(quiet_breakers(quiet, !lines.is_empty()));
    (!lines.is_empty()).then_some(lines)
}

/// One line for all through which nothing went lately.
fn quiet_breakers(count: usize, others: bool) -> Option<String> {
    let other = if others { "other " } else { "" };
    let (breakers, are) = if count == 1 { ("breaker", "is") } else { ("breakers", "are") };
    (count > 0)
        .then(|| format!("{count} {other}circuit {breakers} {are} CLOSED and unused; --json lists all"))
}

/// Key sets of token issuers.
pub(crate) fn keys(mesh: &MeshStatus, now: i64) -> Option<Vec<String>> {
    let mut rows = vec![["JWT KEYS", "FETCHED", "NOTE"].map(str::to_owned).to_vec()];
    for keys in &mesh.keys {
        let fetched =
            if keys.fetched == 0 { "never".into() } else { format!("{} ago", span(now - keys.fetched)) };
        rows.push(vec![keys.name.clone(), fetched, keys.error.clone()]);
    }
    (rows.len() > 1).then(|| align(&rows))
}

fn problems(run: &RunStatus, mesh: &MeshStatus, unreachable: Option<String>) -> Vec<String> {
    let mut all = run.problems.clone();
    for problem in mesh.problems.iter().map(ToString::to_string) {
        // Both read the same files and say the same words.
        if !all.contains(&problem) {
            all.push(problem);
        }
    }
    all.extend(unreachable);
    all
}

/// When a certificate ends.
pub(crate) fn expiry(ends: i64, now: i64) -> String {
    match ends {
        0 => "none yet".into(),
        ends if ends <= now => "EXPIRED".into(),
        ends => format!("for {}", span(ends - now)),
    }
}

/// A time in its two largest units.
pub(crate) fn span(seconds: i64) -> String {
    let seconds = seconds.max(0);
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{}s", seconds % 60),
        (0, _, _) => format!("{hours}h{minutes}m"),
        _ => format!("{days}d{hours}h"),
    }
}

/// Rows with columns as wide as they need to be.
pub(crate) fn align(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width =
        |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or_default()).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
pub(crate) mod tests {
    use weft_api::status::{Breaker, Condition, GatewayStatus, KeysStatus, Problem, ServiceStatus};

    use super::*;

    pub(crate) const NOW: i64 = 1_800_000_000;

    fn unit(name: &str, kind: Kind, ready: bool) -> UnitStatus {
        let process =
            ProcessStatus { phase: Phase::Running, pid: Some(7), since: NOW, ..ProcessStatus::default() };
        UnitStatus {
            name: name.into(),
            kind,
            namespace: "shop".into(),
            service: name.rsplit_once('-').map_or(name, |(service, _)| service).into(),
            address: "127.0.4.1".parse().unwrap(),
            ready,
            wanted: true,
            urls: if kind == Kind::Gateway { vec!["http://127.0.0.1:8080".into()] } else { Vec::new() },
            admin: None,
            metrics: None,
            app: (kind != Kind::Gateway).then(|| process.clone()),
            proxy: matches!(kind, Kind::Service | Kind::Gateway).then_some(process),
        }
    }

    fn run() -> RunStatus {
        let mut sick = unit("product-0", Kind::Service, false);
        let app = sick.app.as_mut().unwrap();
        (app.phase, app.last_end, app.restarts) = (Phase::Waiting, "ended with code 1".into(), 3);
        let mut stopped = unit("user-0", Kind::Service, false);
        stopped.wanted = false;
        RunStatus {
            directory: "/shop".into(),
            state: "/shop/.weft".into(),
            pid: 42,
            started: NOW - 3_700,
            ready: false,
            operator_admin: None,
            units: vec![
                unit("redis", Kind::Server, true),
                unit("order-0", Kind::Service, true),
                sick,
                stopped,
                unit("public-0", Kind::Gateway, true),
            ],
            problems: vec!["a.yaml:3:1: bad".into()],
        }
    }

    /// One whose proxy is well.
    pub(crate) fn instance(name: &str, breakers: Vec<Breaker>) -> InstanceStatus {
        InstanceStatus {
            name: name.into(),
            address: "127.0.4.1".parse().unwrap(),
            ready: true,
            meshed: true,
            connected: true,
            proxy_version: "0.1.0".into(),
            config: ConfigState::Synced,
            acked_version: String::new(),
            refusal: String::new(),
            certificate_expires: NOW + 23 * 3_600,
            breakers,
            active_requests: 0,
            open_connections: 0,
        }
    }

    fn mesh() -> MeshStatus {
        let breaker = |destination: &str, state, successes| Breaker {
            destination: destination.into(),
            state,
            failures: 0,
            successes,
        };
        let breakers = vec![
            breaker("shop/product:http", BreakerState::HalfOpen, 1),
            breaker("shop/user:http", BreakerState::Closed, 7),
            breaker("shop/user:grpc", BreakerState::Closed, 0),
            breaker("shop/order:grpc", BreakerState::Closed, 0),
        ];
        let secured = Condition {
            kind: "Secured".into(),
            status: "True".into(),
            reason: "MutualTls".into(),
            ..Condition::default()
        };
        MeshStatus {
            services: vec![ServiceStatus {
                namespace: "shop".into(),
                name: "order".into(),
                conditions: vec![secured],
                instances: vec![instance("order-0", vec![])],
            }],
            gateways: vec![GatewayStatus {
                namespace: "shop".into(),
                name: "public".into(),
                instances: vec![instance("public-0", breakers)],
                ..GatewayStatus::default()
            }],
            keys: vec![KeysStatus { name: "https://user".into(), fetched: NOW - 5, error: String::new() }],
            problems: vec![Problem { file: "b.yaml".into(), message: "worse".into(), ..Problem::default() }],
            ..MeshStatus::default()
        }
    }

    #[test]
    fn everything_is_shown_in_tables() {
        let expect = "\
/shop is not ready, up 1h1m (pid 42, state /shop/.weft)

NAME       KIND     ADDRESS    READY    MTLS    CERTIFICATE  CONFIG  RESTARTS  NOTE
redis      server   127.0.4.1  yes      -       -            -       0
order-0    service  127.0.4.1  yes      Strict  for 23h0m    synced  0
product-0  service  127.0.4.1  no       -       -            -       3         application ended with code 1
user-0     service  127.0.4.1  stopped  -       -            -       0         start it with: weft start user-0
public-0   gateway  127.0.4.1  yes      -       for 23h0m    synced  0

GATEWAY  ADDRESSES
public   http://127.0.0.1:8080

CALLER    DESTINATION        BREAKER    FAILURES  SUCCESSES
public-0  shop/product:http  HALF_OPEN  0         1
public-0  shop/user:http     CLOSED     0         7
2 other circuit breakers are CLOSED and unused; --json lists all

JWT KEYS      FETCHED  NOTE
https://user  5s ago

PROBLEMS
  a.yaml:3:1: bad
  b.yaml: worse";
        assert_eq!(lines(&run(), Ok(&mesh()), NOW).join("\n"), expect);
    }

    #[test]
    fn breakers_that_nothing_went_through_are_counted_only() {
        assert_eq!(quiet_breakers(0, true), None);
        let alone = "1 circuit breaker is CLOSED and unused; --json lists all";
        assert_eq!(quiet_breakers(1, false).as_deref(), Some(alone));
    }

    #[test]
    fn with_the_operator_gone_the_rest_still_prints() {
        let text = lines(&run(), Err("the operator cannot be reached".into()), NOW).join("\n");
        assert!(text.contains("order-0    service"), "{text}");
        assert!(text.ends_with("  the operator cannot be reached"), "{text}");
    }

    #[test]
    fn times_are_told_in_their_two_largest_units() {
        let told: Vec<String> = [-5, 0, 59, 61, 3_661, 90_000].map(span).to_vec();
        assert_eq!(told, ["0s", "0s", "59s", "1m1s", "1h1m", "1d1h"]);
    }
}
