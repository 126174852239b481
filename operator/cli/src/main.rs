//! The weft command: runs a mesh on one machine (`run`), checks manifests (`check`), puts proxies into them (`inject`),
//! and looks at what runs (`status`, `logs`, `proxy`), here or in a cluster. Reads flags, hands over to one file per
//! command, turns errors into one line and an exit code.

mod api;
mod check;
mod cluster;
mod control;
mod http;
mod inject;
mod logs;
mod place;
mod problem;
mod proxy;
mod run;
mod settings;
mod state;
mod status;
mod suggest;

use std::process::ExitCode;

use settings::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::of_process();
    match command(cli.command) {
        Ok(code) => code,
        Err(error) => {
            complain(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn command(command: Command) -> anyhow::Result<ExitCode> {
    if let Command::Guard { lock } = command {
        run::guard::run(&lock)?;
        return Ok(ExitCode::SUCCESS);
    }
    // One thread: children are to end with the thread that started them, and there is little to do.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let code = runtime.block_on(async {
        match command {
            Command::Run(args) => Box::pin(run::run(args)).await,
            Command::Status(args) => status::run(&args).await,
            Command::Stop(args) => control::run("stop", &args).await,
            Command::Start(args) => control::run("start", &args).await,
            Command::Restart(args) => control::run("restart", &args).await,
            Command::Logs(args) => logs::run(&args).await,
            Command::Check(args) if args.paths.is_empty() => Box::pin(cluster::check::run(&args)).await,
            Command::Check(args) => Ok(check::run(&args)),
            Command::Inject(args) => inject::run(&args),
            Command::Proxy(args) => proxy::run(&args).await,
            Command::Guard { .. } => Ok(ExitCode::SUCCESS),
        }
    });
    // What still waits for a blocking call must not hold the end up.
    runtime.shutdown_background();
    code
}

/// One line on stderr.
#[expect(clippy::print_stderr, reason = "this is where errors are told")]
fn complain(text: &str) {
    eprintln!("weft: {text}");
}
