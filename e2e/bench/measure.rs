//! One measurement: a load over a path, with what the proxies on it used meanwhile. Made again when others were using the
//! machine.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::client::{self, Caller, websocket};
use crate::loads::{Load, Shape};
use crate::machine::{self, CpuClock};
use crate::paths::Path;
use crate::report::{self, Figures, Metric, Run};

/// How often a disturbed run is measured again before it is taken as it is and marked.
const ATTEMPTS: usize = 3;
/// How long idle sockets are watched.
const IDLE: Duration = Duration::from_secs(1);

/// How to measure.
#[derive(Clone, Copy)]
pub(crate) struct Conditions {
    pub(crate) duration: Duration,
    /// Share of the machine's CPU that others may use meanwhile, in percent.
    pub(crate) others: f64,
}

/// Sends a load for a moment, to see that it is answered.
pub(crate) async fn once(caller: &Caller, address: SocketAddr, load: &Load) -> Result<()> {
    if let Shape::WebSockets { count } = load.shape {
        websocket::open(caller, address, count).await?;
        return Ok(());
    }
    client::run(caller, address, load, Duration::from_millis(20)).await?;
    Ok(())
}

/// One measurement.
pub(crate) async fn measure(
    caller: &Caller,
    path: &Path,
    load: &Load,
    conditions: Conditions,
) -> Result<Run> {
    let mut attempt = 1;
    loop {
        if matches!(load.shape, Shape::Connections { .. }) {
            machine::room_for_connections(report::note).await?;
        }
        let (figures, others) = try_once(caller, path, load, conditions.duration)
            .await
            .with_context(|| format!("measuring {} on {}", load.key, path.kind.name()))?;
        let disturbed = others > conditions.others;
        if !disturbed || attempt == ATTEMPTS {
            return Ok(Run { kind: path.kind, figures, disturbed });
        }
        attempt += 1;
    }
}

async fn try_once(caller: &Caller, path: &Path, load: &Load, duration: Duration) -> Result<(Figures, f64)> {
    let mut figures = Figures::default();
    if let Shape::WebSockets { count } = load.shape {
        let clock = CpuClock::start(&path.processes)?;
        let sockets = websocket::open(caller, path.address, count).await?;
        tokio::time::sleep(IDLE).await;
        let memory = machine::memory_mib(&path.processes)?;
        drop(sockets);
        let others = clock.stop()?.others_percent;
        figures.set(Metric::Others, others);
        if !path.processes.is_empty() {
            figures.set(Metric::Memory, memory);
            figures.set(Metric::Idle, path.idle);
            figures.set(Metric::PerSocket, (memory - path.idle) * 1024.0 / count as f64);
        }
        return Ok((figures, others));
    }
    let clock = CpuClock::start(&path.processes)?;
    let outcome = client::run(caller, path.address, load, duration).await?;
    let cpu = clock.stop()?;
    let quantile = |q| outcome.latency.value_at_quantile(q) as f64 / 1000.0;
    figures.set(Metric::Rate, outcome.requests as f64 / outcome.elapsed.as_secs_f64());
    figures.set(Metric::P50, quantile(0.5));
    figures.set(Metric::P99, quantile(0.99));
    figures.set(Metric::P999, quantile(0.999));
    figures.set(Metric::Others, cpu.others_percent);
    if !path.processes.is_empty() {
        figures.set(Metric::Cpu, cpu.seconds * 1e6 / outcome.requests as f64);
        figures.set(Metric::Memory, machine::memory_mib(&path.processes)?);
        figures.set(Metric::Idle, path.idle);
    }
    Ok((figures, cpu.others_percent))
}
