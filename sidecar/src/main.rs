//! `weft-proxy`: the sidecar, the gateway, and the pod's init step in one binary. Reads the settings, starts the proxy,
//! waits for a signal, drains.

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use weft_sidecar::app::{Proxy, Source};
use weft_sidecar::settings::{Mode, Settings};
use weft_sidecar::{init, logging};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> anyhow::Result<()> {
    let settings = Settings::parse();
    logging::init(&settings)?;
    match settings.mode {
        Some(Mode::Init) => init::run(&settings),
        None | Some(Mode::Gateway) => run(settings),
    }
}

fn run(settings: Settings) -> anyhow::Result<()> {
    let deadline = settings.drain_deadline;
    let handle = Proxy::start(settings, Source::Operator)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        handle.shutdown(deadline).await;
        Ok(())
    })
}
