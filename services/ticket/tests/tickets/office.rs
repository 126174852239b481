//! A box office: the ticket service, the payment service when it is needed, and what tests ask of them.

use std::{collections::BTreeMap, time::Duration};

use clap::Parser as _;
use http::StatusCode;
use redis::{AsyncConnectionConfig, Client, cmd};
use serde_json::{Value, json};
use shop_kit::{
    clock,
    testing::{Http, Reply, Running, database, redis as redis_database},
};
use shop_ticket::settings::Settings;
use sqlx::{Connection as _, PgConnection};
use time::format_description::well_known::Rfc3339;
use tokio::net::TcpListener;
use uuid::Uuid;

/// Longest to wait for Redis, which may be busy with all tests at once.
const PATIENCE: Duration = Duration::from_secs(20);

/// Both, for tests that hold for both.
pub(crate) const STRATEGIES: [&str; 2] = ["postgres", "redis"];

/// The service and what is behind it.
pub(crate) struct Office {
    pub(crate) ticket: Running,
    pub(crate) payment: Option<Running>,
    pub(crate) database: String,
    pub(crate) payments: String,
    pub(crate) redis: String,
}

impl Office {
    /// Without payments.
    pub(crate) async fn open() -> Self {
        Self::open_with(&redis_database().await, &[]).await
    }

    pub(crate) async fn open_with(redis: &str, settings: &[&str]) -> Self {
        let database = database().await;
        let ticket = start(&database, redis, "http://127.0.0.1:9", settings).await;
        Self { ticket, payment: None, database, payments: String::new(), redis: redis.to_owned() }
    }

    /// With the payment service.
    pub(crate) async fn paying() -> Self {
        Self::paying_with(&redis_database().await, &[]).await
    }

    pub(crate) async fn paying_with(redis: &str, settings: &[&str]) -> Self {
        let (tickets, payments) = (database().await, database().await);
        let payment = start_payment(&payments, redis, None).await;
        let ticket = start(&tickets, redis, &payment.grpc, settings).await;
        Self { ticket, payment: Some(payment), database: tickets, payments, redis: redis.to_owned() }
    }

    pub(crate) fn admin(&self) -> Http {
        self.ticket.http.user(Uuid::from_u128(1), "admin")
    }

    /// Somebody who was not here before.
    pub(crate) fn customer(&self) -> Http {
        self.ticket.http.user(Uuid::new_v4(), "customer")
    }

    /// Adds an event that is on sale now, with these fields otherwise, and returns its path.
    pub(crate) async fn event(&self, fields: Value) -> String {
        let reply = self.admin().post("/tickets/events", event(fields)).await;
        assert_eq!(reply.status, StatusCode::CREATED, "{reply:?}");
        format!("/tickets/events/{}", reply.body["id"].as_str().unwrap())
    }

    pub(crate) async fn left(&self, event: &str) -> i64 {
        self.ticket.http.get(event).await.body["left"].as_i64().unwrap()
    }

    /// Tickets and seats of all events by status, as PostgreSQL has them.
    pub(crate) async fn books(&self) -> BTreeMap<String, (i64, i64)> {
        let sql = "SELECT status, count(*), sum(quantity) FROM tickets GROUP BY status";
        let mut connection = PgConnection::connect(&self.database).await.unwrap();
        let rows: Vec<(String, i64, i64)> = sqlx::query_as(sql).fetch_all(&mut connection).await.unwrap();
        rows.into_iter().map(|(status, tickets, seats)| (status, (tickets, seats))).collect()
    }

    /// Seats of a status.
    pub(crate) async fn seats(&self, status: &str) -> i64 {
        self.books().await.get(status).map_or(0, |(_, seats)| *seats)
    }

    /// Changes the tables behind the service's back.
    pub(crate) async fn sql(&self, sql: &'static str) {
        let mut connection = PgConnection::connect(&self.database).await.unwrap();
        sqlx::query(sql).execute(&mut connection).await.unwrap();
    }

    /// Runs a command of Redis behind the service's back.
    pub(crate) async fn redis<T: redis::FromRedisValue>(&self, words: &[&str]) -> T {
        let patient = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE));
        let client = Client::open(self.redis.as_str()).unwrap();
        let mut connection = client.get_multiplexed_async_connection_with_config(&patient).await.unwrap();
        let mut command = cmd(words[0]);
        command.arg(&words[1..]);
        command.query_async(&mut connection).await.unwrap()
    }

    /// The data of all messages of a stream.
    pub(crate) async fn told(&self, stream: &str) -> Vec<Value> {
        let range: redis::streams::StreamRangeReply = self.redis(&["XRANGE", stream, "-", "+"]).await;
        let data = |entry: &redis::streams::StreamId| entry.get::<String>("data").unwrap();
        range.ids.iter().map(|entry| serde_json::from_str(&data(entry)).unwrap()).collect()
    }

    /// What the admin's route says of an event.
    pub(crate) async fn reconciliation(&self, event: &str) -> Value {
        let reply = self.admin().get(&format!("{event}/reconciliation")).await;
        assert_eq!(reply.status, StatusCode::OK, "{reply:?}");
        reply.body
    }
}

/// The command line of a service that does not wait long for anything, but where a test says otherwise.
pub(crate) fn words<'a>(
    database: &'a str,
    redis: &'a str,
    payment: &'a str,
    more: &[&'a str],
) -> Vec<&'a str> {
    let fixed = ["ticket", "--database-url", database, "--redis-url", redis, "--payment-url", payment];
    let quick = [["--sweep-every", "100ms"], ["--settle-after", "300ms"], ["--abandoned-after", "1s"]];
    let quick = quick.iter().filter(|[flag, _]| !more.contains(flag)).flatten();
    fixed.iter().chain(quick).chain(more).copied().collect()
}

pub(crate) async fn start(database: &str, redis: &str, payment: &str, more: &[&str]) -> Running {
    let instance = Uuid::new_v4().to_string();
    let more = [more, &["--instance", &instance]].concat();
    let settings = Settings::parse_from(words(database, redis, payment, &more));
    Running::start(|listeners, shutdown| shop_ticket::serve(settings, listeners, shutdown)).await
}

pub(crate) async fn start_payment(database: &str, redis: &str, grpc: Option<TcpListener>) -> Running {
    let fixed = ["payment", "--database-url", database, "--redis-url", redis];
    let quick = ["--sweep-every", "100ms", "--provider-delay", "0s", "--callback-delay", "300ms"];
    let settings = shop_payment::settings::Settings::parse_from([fixed.as_slice(), &quick].concat());
    Running::start(|mut listeners, shutdown| {
        listeners.grpc = grpc.unwrap_or(listeners.grpc);
        shop_payment::serve(settings, listeners, shutdown)
    })
    .await
}

/// An event that is on sale now.
pub(crate) fn event(fields: Value) -> Value {
    let minute = 60_000;
    let mut event = json!({
        "name": "Concert", "venue": "Town hall", "price": 4500, "currency": "EUR", "capacity": 10,
        "starts": in_ms(2880 * minute),
        "opens": in_ms(-minute),
        "closes": in_ms(1440 * minute),
    });
    let Value::Object(fields) = fields else { panic!("no fields: {fields}") };
    event.as_object_mut().unwrap().extend(fields);
    event
}

/// A time so many milliseconds from now.
pub(crate) fn in_ms(ms: i64) -> String {
    (clock::now() + time::Duration::milliseconds(ms)).format(&Rfc3339).unwrap()
}

pub(crate) fn id_of(reply: &Reply) -> String {
    reply.body["id"].as_str().unwrap_or_else(|| panic!("no id in {reply:?}")).to_owned()
}

/// Whether that is the problem of an answer, and its status.
pub(crate) fn assert_problem(reply: &Reply, status: u16, slug: &str) {
    assert_eq!(
        (reply.status.as_u16(), &reply.body["type"]),
        (status, &json!(format!("urn:problem:shop:{slug}"))),
        "{reply:?}"
    );
}
