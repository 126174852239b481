//! The application of the tests on a cluster: server, client and load in one small program, so that one image does.
//! It knows nothing of the mesh. What it prints is read by the tests (`weft_e2e_kind::wire`).
#![expect(clippy::print_stdout, reason = "what it prints is its result")]

mod call;
mod load;
mod serve;
mod talk;
mod tcp;
mod ws;

use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

/// What it does.
#[derive(Parser)]
#[command(name = "weft-e2e-app", version)]
enum Mode {
    /// Answer HTTP/1.1, HTTP/2, WebSocket and gRPC health checks on one port and speak first on another.
    Serve(serve::Args),
    /// Send requests and print the answers.
    Call(call::Args),
    /// Send requests steadily until told to stop, and count.
    Load(load::Args),
    /// Keep a WebSocket open, send messages steadily, and count the echoes and the breaks.
    Ws(ws::Args),
    /// Open WebSockets, send over the first, and print what all of them get.
    Talk(talk::Args),
    /// Connect, read what the server says first, send a line and read it back.
    Tcp(tcp::Args),
    /// Do nothing until told to stop; somewhere to run the others in.
    Idle,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let mode = Mode::parse();
    let run = async {
        match mode {
            Mode::Serve(args) => serve::run(args).await,
            Mode::Call(args) => call::run(args).await,
            Mode::Load(args) => load::run(args).await,
            Mode::Ws(args) => ws::run(args).await,
            Mode::Talk(args) => talk::run(args).await,
            Mode::Tcp(args) => tcp::run(args).await,
            Mode::Idle => {
                stopped().await;
                Ok(ExitCode::SUCCESS)
            }
        }
    };
    run.await.unwrap_or_else(|error: anyhow::Error| {
        println!("{{\"fatal\": {:?}}}", format!("{error:#}"));
        ExitCode::FAILURE
    })
}

/// Waits for SIGTERM or SIGINT: as the first process of a container nothing else ends it.
async fn stopped() {
    let (Ok(mut term), Ok(mut int)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        return;
    };
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}

/// Prints a value as one line of JSON.
fn print(value: &impl serde::Serialize) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string(value)?);
    Ok(())
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
