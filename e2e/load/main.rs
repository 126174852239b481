//! Puts the shop under load and looks at its books afterwards: a rush on tickets, a swarm that chats, the everyday mix.
//!
//! `load --help` says how; README.md beside this file has commands and figures. The loop is open: requests are sent by a
//! timetable (`arrivals`, `drive`), and latency counts from when one was due. A scenario (`sale`, `chat`, `shop`) says what
//! is sent and which refusals are right; `books` says what must hold when all is over; `report` says what came of it.
#![expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "figures of a load are far below 2^53"
)]

mod arrivals;
mod books;
mod chat;
mod crowd;
mod drive;
mod page;
mod people;
mod progress;
mod record;
mod report;
mod sale;
mod shop;
mod site;
mod web;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Args, Parser, Subcommand};

use arrivals::{Arrivals, Spread};
use drive::Drive;
use people::Identity;
use report::Report;
use site::{Site, Way, named, named_url, url};

/// Puts the shop under load and looks at its books afterwards
///
/// Where the shop is: `--state` names the state folder of `weft run`, which knows everything; or name the gateway with
/// --url, services with --service for --way direct, and databases with --database to have the tables looked at too.
///
/// Ends with 1 when the books do not balance.
#[derive(Parser)]
#[command(name = "load", version)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    scenario: Scenario,
}

#[derive(Args)]
struct Common {
    /// State folder of a running `weft run`, such as examples/shop/.weft
    #[arg(long, global = true, value_name = "DIR")]
    state: Option<PathBuf>,
    /// The gateway: `http://host:port`
    #[arg(long, global = true, value_name = "URL", value_parser = url)]
    url: Option<String>,
    /// An instance of a service: `ticket=http://host:port`; may be given several times
    #[arg(long = "service", global = true, value_name = "NAME=URL", value_parser = named_url)]
    services: Vec<(String, String)>,
    /// A database: `tickets=postgres://user:password@host/tickets`; may be given several times
    #[arg(long = "database", global = true, value_name = "NAME=URL", value_parser = named)]
    databases: Vec<(String, String)>,
    /// Which way requests take
    #[arg(long, global = true, value_enum, default_value = "mesh")]
    way: Way,
    /// Longest time that a customer waits for an answer, in seconds
    #[arg(long, global = true, default_value = "10", value_parser = above_zero, value_name = "SECONDS")]
    patience: f64,
    /// Most requests under way at once; those beyond are errors
    #[arg(long, global = true, default_value = "20000", value_parser = count, value_name = "N")]
    most: usize,
    /// What chance begins with: the same number, the same arrivals and choices
    #[arg(long, global = true, default_value = "1", value_name = "N")]
    seed: u64,
    /// Writes the report as JSON too
    #[arg(long, global = true, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Writes a plot of the latencies too, as SVG
    #[arg(long, global = true, value_name = "FILE")]
    plot: Option<PathBuf>,
    #[command(flatten)]
    identity: Identity,
}

#[derive(Subcommand)]
enum Scenario {
    /// A rush on the tickets of a few events
    Sale(sale::Sale),
    /// People in rooms who talk to each other
    Chat(chat::Chat),
    /// The everyday mix: browse, order, look, cancel
    Shop(shop::Shop),
    /// No load: looks at the books alone, once all that is under way has ended
    Books,
    /// No load: shows reports of several loads together, or writes them into a README
    Page(page::Page),
}

/// When requests come.
#[derive(Clone, Debug, Args)]
struct Timing {
    /// Requests per second
    #[arg(long, default_value = "500", value_parser = above_zero, value_name = "N")]
    rate: f64,
    /// How long they come
    #[arg(long, default_value = "10", value_parser = above_zero, value_name = "SECONDS")]
    seconds: f64,
    /// How they are spread
    #[arg(long, value_enum, default_value = "poisson")]
    arrivals: Spread,
    /// Instead of a rate: so many customers who ask again once they are answered. Shows how many requests are possible at
    /// most, and hides how long they would have waited
    #[arg(long, value_parser = count, value_name = "N")]
    workers: Option<usize>,
}

/// What every scenario needs.
struct Cx {
    site: Site,
    way: Way,
    identity: Identity,
    patience: Duration,
    most: usize,
    seed: u64,
}

impl Cx {
    fn drive(&self) -> Drive {
        Drive { patience: self.patience, most: self.most, seed: self.seed }
    }
}

impl Timing {
    fn lasts(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }

    fn arrivals(&self, seed: u64) -> Arrivals {
        Arrivals::new(self.rate, self.arrivals, self.lasts(), seed)
    }
}

#[tokio::main]
async fn main() -> Result<ExitCode> {
    let Cli { common, scenario } = Cli::parse();
    if let Scenario::Page(page) = &scenario {
        page::run(page)?;
        return Ok(ExitCode::SUCCESS);
    }
    let cx = Cx {
        site: common.site()?,
        way: common.way,
        identity: common.identity.clone(),
        patience: Duration::from_secs_f64(common.patience),
        most: common.most,
        seed: common.seed,
    };
    let report = match &scenario {
        Scenario::Sale(sale) => Box::pin(sale::run(&cx, sale)).await?,
        Scenario::Chat(chat) => Box::pin(chat::run(&cx, chat)).await?,
        Scenario::Shop(shop) => Box::pin(shop::run(&cx, shop)).await?,
        Scenario::Books | Scenario::Page(_) => {
            let books = books::all(&cx.site).await?;
            report::print_books(&books);
            return Ok(code(books.iter().all(|check| check.holds)));
        }
    };
    common.tell(&[report])
}

impl Common {
    fn site(&self) -> Result<Site> {
        let mut site = self.state.as_deref().map(Site::of_run).transpose()?.unwrap_or_default();
        if self.url.is_some() {
            site.gateway.clone_from(&self.url);
        }
        for (name, url) in &self.services {
            site.add_service(name, url);
        }
        site.databases.extend(self.databases.iter().cloned());
        Ok(site)
    }

    fn tell(&self, reports: &[Report]) -> Result<ExitCode> {
        report::print(reports);
        if let Some(file) = &self.json {
            report::write_json(reports, file)?;
        }
        if let Some(file) = &self.plot {
            report::write_plot("Latency from when a request was due", reports, file)?;
        }
        Ok(code(reports.iter().all(Report::balances)))
    }
}

fn code(good: bool) -> ExitCode {
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Reads a number that is not below 0.
fn positive(text: &str) -> Result<f64, String> {
    let number = text.parse::<f64>().ok().filter(|number| number.is_finite() && (0.0..=1e6).contains(number));
    number.ok_or_else(|| "expected a number from 0 to 1000000".into())
}

/// Reads a number above 0.
fn above_zero(text: &str) -> Result<f64, String> {
    positive(text)
        .ok()
        .filter(|number| *number > 0.0)
        .ok_or_else(|| "expected a number above 0, up to 1000000".into())
}

/// Reads a count from 1.
fn count(text: &str) -> Result<usize, String> {
    let number = text.parse::<usize>().ok().filter(|number| (1..=1_000_000).contains(number));
    number.ok_or_else(|| "expected a whole number from 1 to 1000000".into())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn bad_input_is_refused_with_what_to_write_instead() {
        Cli::command().debug_assert();
        for (args, expect) in [
            (["sale", "--rate", "0"], "above 0"),
            (["sale", "--rate", "inf"], "above 0"),
            (["sale", "--buyers", "-1"], "unexpected argument"),
            (["sale", "--buyers", "0"], "from 1"),
            (["sale", "--strategy", "mysql"], "redis, postgres"),
            (["sale", "--url", "localhost"], "http://host:port"),
            (["sale", "--service", "ticket"], "name=URL"),
            (["shop", "--browse", "NaN"], "from 0"),
            (["chat", "--clients", "1.5"], "whole number"),
        ] {
            let error = Cli::try_parse_from(["load"].into_iter().chain(args)).err().unwrap().to_string();
            assert!(error.contains(expect), "{args:?}: {error}");
        }
    }
}
