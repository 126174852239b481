//! The process of the payment service killed at any moment, again and again: every payment is charged once or given
//! back, and the provider's own ledger says so.

#![allow(clippy::unwrap_used, reason = "test code")]

use std::{process::Command, time::Duration};

use futures_util::future::join_all;
use shop_kit::{
    pb::payment::{
        GetPaymentRequest, PayRequest, PaymentStatus, RefundRequest,
        payment_service_client::PaymentServiceClient,
    },
    testing::{Http, Process, database, eventually, free_port, redis},
};
use sqlx::{Connection as _, PgConnection};
use tonic::transport::{Channel, Endpoint};
use uuid::Uuid;

const PAYMENTS: usize = 40;

fn start(database: &str, redis: &str, (http, grpc): (u16, u16)) -> Process {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shop-payment"));
    command.args(["--database-url", database, "--redis-url", redis, "--sweep-every", "100ms"]);
    command.args(["--provider-timeout", "500ms", "--provider-delay", "10ms", "--callback-delay", "100ms"]);
    command.args(["--http-addr", &format!("127.0.0.1:{http}"), "--grpc-addr", &format!("127.0.0.1:{grpc}")]);
    Process::spawn(&mut command)
}

async fn pay(mut client: PaymentServiceClient<Channel>, number: usize) {
    let method = ["tok_ok", "tok_flaky", "tok_callback", "tok_timeout"][number % 4];
    let reference = format!("order:{number}");
    let request = PayRequest {
        reference: reference.clone(),
        user_id: Uuid::from_u128(7).to_string(),
        amount: 100,
        currency: "EUR".into(),
        method: method.into(),
    };
    // What a caller does who does not know: the same again, until there is an answer.
    eventually("there is an answer", async || client.pay(request.clone()).await.is_ok()).await;
    if number.is_multiple_of(5) {
        let take_back = RefundRequest { reference };
        eventually("it is taken back", async || client.refund(take_back.clone()).await.is_ok()).await;
    }
}

#[tokio::test]
async fn killed_at_any_moment_it_charges_once_or_gives_back() {
    let (database, redis, ports) = (database().await, redis().await, (free_port(), free_port()));
    let http = Http::new(format!("http://127.0.0.1:{}", ports.0));
    let channel = Endpoint::from_shared(format!("http://127.0.0.1:{}", ports.1)).unwrap().connect_lazy();
    let client = PaymentServiceClient::new(channel);
    let mut process = Some(start(&database, &redis, ports));
    let up = async || tokio::net::TcpStream::connect(http.address()).await.is_ok();

    let work = join_all((0..PAYMENTS).map(|number| pay(client.clone(), number)));
    let kills = async {
        for after in [30_u64, 70, 110, 160, 220] {
            eventually("it is there again", up).await;
            // Not to wait for anything: to die at a moment that nothing chose.
            tokio::time::sleep(Duration::from_millis(after)).await;
            drop(process.take());
            process = Some(start(&database, &redis, ports));
        }
    };
    tokio::join!(work, kills);

    let mut row = PgConnection::connect(&database).await.unwrap();
    for number in 0..PAYMENTS {
        let mut payment = None;
        eventually("every payment is settled", async || {
            let request = GetPaymentRequest { reference: format!("order:{number}") };
            payment = client.clone().get_payment(request).await.ok().map(tonic::Response::into_inner);
            let status = payment.as_ref().map(shop_kit::pb::payment::Payment::status);
            matches!(status, Some(PaymentStatus::Captured | PaymentStatus::Refunded))
        })
        .await;
        let payment = payment.unwrap();
        let sql = "SELECT amount FROM provider.movements WHERE charge = $1 ORDER BY position";
        let id: Uuid = payment.id.parse().unwrap();
        let moved: Vec<i64> = sqlx::query_scalar(sql).bind(id).fetch_all(&mut row).await.unwrap();
        let refunded = payment.status() == PaymentStatus::Refunded;
        assert_eq!(refunded, number.is_multiple_of(5), "{payment:?}");
        assert!(
            if refunded { moved.is_empty() || moved == [100, -100] } else { moved == [100] },
            "{payment:?} {moved:?}"
        );
    }
}
