//! A rush on tickets during which one part of the shop after another is killed, each strategy in turn. What dies is started
//! again by `weft run`; afterwards the books balance: `load` looks at tickets, payments, and the money that moved.

use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::time::{MissedTickBehavior, interval};

use crate::{SOON, Shop, signal};

/// What dies, in this order: a service, whom it asks, the stores of both, the proxies of all, and who configures them.
const VICTIMS: [&str; 6] =
    ["shop-ticket", "shop-payment", "redis-server", "postgres", "weft-proxy", "weft-operator"];
const BETWEEN: Duration = Duration::from_millis(2500);

/// Sells tickets while everything dies once.
pub(crate) async fn books_balance_whatever_dies(shop: &mut Shop) {
    for strategy in ["redis", "postgres"] {
        let mut load = Command::new(shop.weft.with_file_name("load"));
        load.arg("--state").arg(shop.state()).args(["--patience", "5", "sale", "--strategy", strategy]);
        load.args(["--rate", "30", "--seconds", "17", "--buyers", "60", "--events", "2", "--capacity", "90"]);
        let rush = load.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut ticks = interval(BETWEEN);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first tick is now, and the sale must be set up.
        ticks.tick().await;
        for victim in VICTIMS {
            ticks.tick().await;
            let pids = shop.program(victim);
            assert!(!pids.is_empty(), "{victim} runs");
            for pid in pids {
                signal(pid, Signal::SIGKILL);
            }
        }
        let ended = tokio::task::spawn_blocking(move || rush.wait_with_output().unwrap()).await.unwrap();
        let said =
            format!("{}\n{}", String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
        assert!(ended.status.success(), "{strategy}: {said}");
        // Whatever died, some came through between.
        assert!(!said.contains("of them 0 done"), "{strategy}: {said}");
        shop.until("everything is back", SOON, |shop| {
            VICTIMS.iter().all(|victim| !shop.program(victim).is_empty()) && shop.login_is_refused_with_401()
        })
        .await;
    }
}
