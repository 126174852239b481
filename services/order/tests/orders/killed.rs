//! The process of the order service killed at any moment, again and again, while customers buy and cancel.

use std::{process::Command, time::Duration};

use futures_util::future::join_all;
use serde_json::json;
use shop_kit::testing::{Http, Process, eventually, free_port};
use uuid::Uuid;

use crate::shop::{Shop, id_of, paying};

const CUSTOMERS: usize = 24;

fn start(shop: &Shop, http: u16) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shop-order"));
    command.args(["--database-url", &shop.orders_database, "--redis-url", &shop.redis]);
    command.args(["--user-url", &shop.user.grpc, "--product-url", &shop.product.grpc]);
    command.args(["--payment-url", &shop.payment.grpc, "--sweep-every", "100ms", "--abandoned-after", "1s"]);
    command.args(["--request-timeout", "1s", "--instance", "killed"]);
    command.args(["--http-addr", &format!("127.0.0.1:{http}"), "--grpc-addr", "127.0.0.1:0"]);
    Process::spawn(&mut command)
}

/// One request, or nothing when the service died over it.
async fn attempt(client: &Http, path: &str, body: serde_json::Value) -> Option<shop_kit::testing::Reply> {
    let reachable = tokio::net::TcpStream::connect(client.address()).await.is_ok();
    if !reachable {
        return None;
    }
    let (client, path) = (client.clone(), path.to_owned());
    let request = tokio::task::spawn_local(async move { client.post(&path, body).await });
    request.await.ok()
}

async fn customer(client: Http, lamp: Uuid, number: usize) {
    let method = ["tok_ok", "tok_declined", "tok_callback", "tok_timeout"][number % 4];
    let client = client.header("idempotency-key", &format!("key-{number}"));
    let mut placed = None;
    eventually("there is an answer", async || {
        let reply = attempt(&client, "/orders", paying(&[(lamp, 1)], method)).await;
        let settled = |reply: &shop_kit::testing::Reply| {
            reply.body["id"].is_string() || reply.body["type"] == "urn:problem:shop:payment-declined"
        };
        placed = reply.filter(settled);
        placed.is_some()
    })
    .await;
    let placed = placed.unwrap();
    if number.is_multiple_of(3) && placed.body["id"].is_string() {
        let path = format!("/orders/{}/cancel", id_of(&placed));
        eventually("it is cancelled", async || {
            let reply = attempt(&client, &path, json!({})).await;
            reply.is_some_and(|reply| reply.body["status"] == "cancelled")
        })
        .await;
    }
}

#[tokio::test]
async fn killed_at_any_moment_no_money_and_no_stock_is_lost() {
    let shop = Shop::open().await;
    let lamp = shop.add(1999, 100).await;
    let port = free_port();
    let http = Http::new(format!("http://127.0.0.1:{port}")).user(shop.customer, "customer");
    let mut process = Some(start(&shop, port));
    let up = async || tokio::net::TcpStream::connect(http.address()).await.is_ok();

    let local = tokio::task::LocalSet::new();
    let work = join_all((0..CUSTOMERS).map(|number| customer(http.clone(), lamp, number)));
    let kills = async {
        for after in [40_u64, 90, 150, 230] {
            eventually("it is there again", up).await;
            // Not to wait for anything: to die at a moment that nothing chose.
            tokio::time::sleep(Duration::from_millis(after)).await;
            drop(process.take());
            process = Some(start(&shop, port));
        }
    };
    local.run_until(async { tokio::join!(work, kills) }).await;
    shop.books_agree(lamp, 100).await;

    let list = shop.me().get("/orders?per_page=100").await.body;
    assert_eq!(list["total"], CUSTOMERS, "an order per key: {list}");
    for order in list["items"].as_array().unwrap() {
        let id = order["id"].as_str().unwrap();
        let paid = order["status"] == "paid";
        assert_eq!(shop.moved(id).await.iter().sum::<i64>(), if paid { 1999 } else { 0 }, "{order}");
        let facts = shop.history(id).await;
        assert!(facts.iter().filter(|fact| *fact == "paid").count() <= 1, "{facts:?}");
    }
}
