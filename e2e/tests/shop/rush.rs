//! A rush on tickets and orders during which one part of the shop after another is killed, with each strategy of selling
//! tickets. What dies is started again by `weft run`; afterwards all books balance: `load` looks at tickets, orders, stock,
//! payments, and the money that moved.

use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::time::{MissedTickBehavior, interval};

use crate::{SOON, Shop, signal};

/// What dies in the run of each strategy, in this order. Who holds seats, orders and money, and where, dies in both; every
/// other program once.
const RUNS: [(&str, &[&str]); 2] = [
    (
        "redis",
        &[
            "shop-ticket",
            "shop-order",
            "shop-payment",
            "redis-server",
            "shop-user",
            "postgres",
            "shop-product",
            "weft-proxy",
        ],
    ),
    (
        "postgres",
        &[
            "shop-payment",
            "shop-notification",
            "shop-ticket",
            "redis-server",
            "shop-chat",
            "shop-order",
            "shop-mailbox",
            "postgres",
            "weft-operator",
        ],
    ),
];
const BETWEEN: Duration = Duration::from_millis(1800);
/// How long customers come: until the last victim died, and a moment more.
const SECONDS: &str = "17.5";

/// Sells tickets and takes orders while everything dies.
pub(crate) async fn books_balance_whatever_dies(shop: &mut Shop) {
    for service in shop.services() {
        let dies = RUNS.iter().any(|(_, victims)| victims.contains(&format!("shop-{service}").as_str()));
        assert!(dies, "{service} is a victim of a run");
    }
    for (strategy, victims) in RUNS {
        let sale = [
            "sale",
            "--strategy",
            strategy,
            "--rate",
            "30",
            "--buyers",
            "60",
            "--events",
            "2",
            "--capacity",
            "90",
        ];
        let orders = [
            "shop",
            "--rate",
            "20",
            "--customers",
            "60",
            "--products",
            "5",
            "--browse",
            "10",
            "--order",
            "60",
        ];
        let rush =
            [customers(shop, &sale), customers(shop, &[orders.as_slice(), &["--cancel", "20"]].concat())];
        kill(shop, victims).await;
        for load in rush {
            let ended = tokio::task::spawn_blocking(move || load.wait_with_output().unwrap()).await.unwrap();
            let said = said(&ended);
            assert!(ended.status.success(), "{strategy}: {said}");
            // Whatever died, some came through between.
            assert!(!said.contains("of them 0 done"), "{strategy}: {said}");
        }
        shop.until("everything is back", SOON, |shop| {
            victims.iter().all(|victim| !shop.program(victim).is_empty()) && shop.login_is_refused_with_401()
        })
        .await;
    }
    let books = load(shop).arg("books").output().unwrap();
    assert!(books.status.success(), "all books, after both: {}", said(&books));
}

async fn kill(shop: &Shop, victims: &[&str]) {
    let mut ticks = interval(BETWEEN);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick is now, and the loads must be set up.
    ticks.tick().await;
    for victim in victims {
        ticks.tick().await;
        let pids = shop.program(victim);
        assert!(!pids.is_empty(), "{victim} runs");
        for pid in pids {
            signal(pid, Signal::SIGKILL);
        }
    }
}

fn customers(shop: &Shop, what: &[&str]) -> Child {
    let mut load = load(shop);
    load.args(["--patience", "5"]).args(what).args(["--seconds", SECONDS]);
    load.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn load(shop: &Shop) -> Command {
    let mut load = Command::new(shop.weft.with_file_name("load"));
    load.arg("--state").arg(shop.state());
    load
}

fn said(ended: &Output) -> String {
    format!("{}\n{}", String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr))
}
