//! The four services in this process, a customer, and what the tests look at behind the services' backs.

use std::sync::atomic::{AtomicU32, Ordering};

use clap::Parser as _;
use redis::{
    cmd,
    streams::{StreamId, StreamRangeReply},
};
use serde_json::{Value, json};
use shop_kit::{
    redis::Redis,
    testing::{Http, Reply, Running, database, eventually, redis as redis_database},
};
use sqlx::{Connection as _, PgConnection};
use uuid::Uuid;

use http::StatusCode;

/// The services and a customer.
pub(crate) struct Shop {
    pub(crate) user: Running,
    pub(crate) product: Running,
    pub(crate) payment: Running,
    pub(crate) order: Running,
    pub(crate) orders_database: String,
    pub(crate) products_database: String,
    pub(crate) payments_database: String,
    pub(crate) redis: String,
    pub(crate) customer: Uuid,
}

impl Shop {
    pub(crate) async fn open() -> Self {
        Self::open_with(&redis_database().await).await
    }

    pub(crate) async fn open_with(redis: &str) -> Self {
        Self::open_as(redis, &[]).await
    }

    /// With more settings of the order service.
    pub(crate) async fn open_as(redis: &str, more: &[&str]) -> Self {
        // On the heap: four services that are about to start are large.
        Box::pin(Self::start(redis, more)).await
    }

    /// With five lamps, and a chair of which the last has just been sold: only taking it finds that out.
    pub(crate) async fn open_sold_out() -> (Self, Uuid, Uuid) {
        let shop = Self::open().await;
        let (mut lamp, mut chair) = (shop.add(1999, 5).await, shop.add(1999, 5).await);
        if lamp > chair {
            // Stock is taken in the order of the ids; the one that runs out must come last.
            std::mem::swap(&mut lamp, &mut chair);
        }
        // The cache goes on showing five.
        shop.product.http.get(&format!("/products/{chair}")).await;
        let mut row = PgConnection::connect(&shop.products_database).await.unwrap();
        let sold_out = sqlx::query("UPDATE products SET stock = 0 WHERE id = $1").bind(chair);
        sold_out.execute(&mut row).await.unwrap();
        (shop, lamp, chair)
    }

    async fn start(redis: &str, more: &[&str]) -> Self {
        let (users, products, orders) = (database().await, database().await, database().await);
        let payments = database().await;
        let settings = shop_user::settings::Settings::parse_from(["user", "--database-url", &users]);
        let user =
            Running::start(|listeners, shutdown| Box::pin(shop_user::serve(settings, listeners, shutdown)))
                .await;
        let fixed = ["product", "--database-url", &products, "--redis-url", redis];
        let settings = shop_product::settings::Settings::parse_from(fixed);
        let product = Running::start(|listeners, shutdown| {
            Box::pin(shop_product::serve(settings, listeners, shutdown))
        })
        .await;
        let payment = start_payment(&payments, redis).await;
        let neighbours = [user.grpc.as_str(), &product.grpc, &payment.grpc];
        let order = Box::pin(start_order(&orders, redis, neighbours, more)).await;
        let body = json!({"email": "ann@example.com", "password": "correct horse", "name": "Ann"});
        let made = user.http.post("/users", body).await;
        let customer = made.body["id"].as_str().unwrap().parse().unwrap();
        Self {
            user,
            product,
            payment,
            order,
            orders_database: orders,
            products_database: products,
            payments_database: payments,
            redis: redis.to_owned(),
            customer,
        }
    }

    /// One more instance of the order service.
    pub(crate) async fn another_order(&self, more: &[&str]) -> Running {
        let neighbours = [self.user.grpc.as_str(), &self.product.grpc, &self.payment.grpc];
        Box::pin(start_order(&self.orders_database, &self.redis, neighbours, more)).await
    }

    /// Stops the payment service; what was said of it stands.
    pub(crate) async fn stop_payment(&mut self) -> std::net::SocketAddr {
        let address = self.payment.grpc.strip_prefix("http://").unwrap().parse().unwrap();
        let gone = std::mem::replace(&mut self.payment, Running::launch(async |_, _| Ok(())).await);
        gone.stop().await.unwrap();
        address
    }

    /// Starts it again at the same address.
    pub(crate) async fn resume_payment(&mut self, address: std::net::SocketAddr) {
        let grpc = tokio::net::TcpListener::bind(address).await.unwrap();
        let settings = payment_settings(&self.payments_database, &self.redis);
        self.payment = Running::start(|mut listeners, shutdown| {
            listeners.grpc = grpc;
            Box::pin(shop_payment::serve(settings, listeners, shutdown))
        })
        .await;
    }

    pub(crate) fn me(&self) -> Http {
        self.order.http.user(self.customer, "customer")
    }

    pub(crate) fn admin(&self) -> Http {
        self.order.http.user(Uuid::from_u128(1), "admin")
    }

    pub(crate) async fn add(&self, price: i64, stock: i64) -> Uuid {
        let body = json!({"name": "Lamp", "price": price, "currency": "EUR", "stock": stock});
        let reply = self.product.http.post("/products", body).await;
        assert_eq!(reply.status, StatusCode::CREATED, "{reply:?}");
        reply.body["id"].as_str().unwrap().parse().unwrap()
    }

    /// Places an order of one lamp with that means of payment.
    pub(crate) async fn buy(&self, lamp: Uuid, method: &str) -> Reply {
        self.me().post("/orders", paying(&[(lamp, 1)], method)).await
    }

    pub(crate) async fn order(&self, id: &str) -> Value {
        self.me().get(&format!("/orders/{id}")).await.body
    }

    pub(crate) async fn becomes(&self, id: &str, status: &str) {
        eventually(&format!("{id} is {status}"), async || self.order(id).await["status"] == status).await;
    }

    pub(crate) async fn stock(&self, id: Uuid) -> i64 {
        let mut row = PgConnection::connect(&self.products_database).await.unwrap();
        let sql = "SELECT stock FROM products WHERE id = $1";
        sqlx::query_scalar(sql).bind(id).fetch_one(&mut row).await.unwrap()
    }

    pub(crate) async fn stock_becomes(&self, id: Uuid, stock: i64) {
        eventually(&format!("the stock is {stock}"), async || self.stock(id).await == stock).await;
    }

    /// What moved at the provider for an order.
    pub(crate) async fn moved(&self, order: &str) -> Vec<i64> {
        let mut row = PgConnection::connect(&self.payments_database).await.unwrap();
        let sql = "SELECT m.amount FROM provider.movements m JOIN payments p ON p.id = m.charge \
                   WHERE p.reference = $1 ORDER BY m.position";
        sqlx::query_scalar(sql).bind(format!("order:{order}")).fetch_all(&mut row).await.unwrap()
    }

    pub(crate) async fn entries(&self, stream: &str) -> Vec<StreamId> {
        let redis = Redis::new(self.redis.parse().unwrap()).unwrap();
        let all = redis.run::<StreamRangeReply>(cmd("XRANGE").arg(stream).arg("-").arg("+")).await;
        all.unwrap().ids
    }

    /// The events of a stream.
    pub(crate) async fn told(&self, stream: &str) -> Vec<Value> {
        let data = |text: Option<String>| serde_json::from_str(&text.unwrap()).unwrap();
        self.entries(stream).await.iter().map(|entry| data(entry.get("data"))).collect()
    }

    /// The orders in the stream of new orders, in the order of their events.
    pub(crate) async fn published(&self) -> Vec<Value> {
        self.told("order.created").await
    }

    pub(crate) async fn published_ids(&self) -> Vec<String> {
        self.published().await.iter().map(|order| order["id"].as_str().unwrap().to_owned()).collect()
    }

    /// The types of the facts of an order; checks that they make the order that is shown.
    pub(crate) async fn history(&self, id: &str) -> Vec<String> {
        let reply = self.me().get(&format!("/orders/{id}/history")).await;
        assert_eq!(reply.body["order"], self.order(id).await, "the replay is the row");
        let items = reply.body["items"].as_array().unwrap();
        let versions: Vec<_> = items.iter().map(|item| item["version"].as_u64().unwrap()).collect();
        assert_eq!(versions, (1..=items.len() as u64).collect::<Vec<_>>());
        items.iter().map(|item| item["type"].as_str().unwrap().to_owned()).collect()
    }

    /// Waits until nothing is owed any more, and checks that the books agree: what the provider has is what the paid
    /// orders cost, and what is not in stock is in orders that stand.
    pub(crate) async fn books_agree(&self, product: Uuid, stock_at_first: i64) {
        let mut orders = PgConnection::connect(&self.orders_database).await.unwrap();
        eventually("nothing is owed", async || {
            let sql = "SELECT (SELECT count(*) FROM orders WHERE step IS NOT NULL OR status = 'placing') \
                       + (SELECT count(*) FROM releases) + (SELECT count(*) FROM outbox)";
            sqlx::query_scalar::<_, i64>(sql).fetch_one(&mut orders).await.unwrap() == 0
        })
        .await;
        let mut payments = PgConnection::connect(&self.payments_database).await.unwrap();
        eventually("no payment is open", async || {
            let sql = "SELECT count(*) FROM payments WHERE due IS NOT NULL";
            sqlx::query_scalar::<_, i64>(sql).fetch_one(&mut payments).await.unwrap() == 0
        })
        .await;
        let sql = "SELECT coalesce(sum(amount), 0)::bigint FROM provider.movements";
        let money: i64 = sqlx::query_scalar(sql).fetch_one(&mut payments).await.unwrap();
        let sql = "SELECT coalesce(sum(total), 0)::bigint FROM orders \
                   WHERE method IS NOT NULL AND status IN ('paid', 'shipped', 'delivered')";
        let paid: i64 = sqlx::query_scalar(sql).fetch_one(&mut orders).await.unwrap();
        assert_eq!(money, paid, "captured less refunded is what paid orders cost");
        let sql = "SELECT coalesce(sum(i.quantity), 0)::bigint FROM orders o JOIN order_items i ON i.order_id = o.id \
                   WHERE i.product_id = $1 AND o.status NOT IN ('placing', 'failed', 'cancelled')";
        let sold: i64 = sqlx::query_scalar(sql).bind(product).fetch_one(&mut orders).await.unwrap();
        assert_eq!(self.stock(product).await + sold, stock_at_first, "what is not in stock is in orders");
    }
}

fn payment_settings(database: &str, redis: &str) -> shop_payment::settings::Settings {
    let fixed = ["payment", "--database-url", database, "--redis-url", redis, "--sweep-every", "100ms"];
    let more = ["--provider-delay", "0s", "--provider-timeout", "500ms", "--callback-delay", "100ms"];
    shop_payment::settings::Settings::parse_from([fixed.as_slice(), &more].concat())
}

async fn start_payment(database: &str, redis: &str) -> Running {
    let settings = payment_settings(database, redis);
    Running::start(|listeners, shutdown| Box::pin(shop_payment::serve(settings, listeners, shutdown))).await
}

async fn start_order(
    database: &str,
    redis: &str,
    [user, product, payment]: [&str; 3],
    more: &[&str],
) -> Running {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let instance = format!("order-{}", COUNT.fetch_add(1, Ordering::Relaxed));
    let fixed = ["order", "--database-url", database, "--redis-url", redis, "--user-url", user];
    let urls = ["--product-url", product, "--payment-url", payment, "--instance", &instance];
    let quick = ["--sweep-every", "100ms"];
    let words = [fixed.as_slice(), &urls, &quick, more].concat();
    let settings = shop_order::settings::Settings::parse_from(words);
    Running::start(|listeners, shutdown| Box::pin(shop_order::serve(settings, listeners, shutdown))).await
}

pub(crate) fn items(items: &[(Uuid, u32)]) -> Value {
    let items: Vec<_> =
        items.iter().map(|(id, quantity)| json!({"product_id": id, "quantity": quantity})).collect();
    json!({"items": items})
}

/// The same, and how it is paid.
pub(crate) fn paying(lines: &[(Uuid, u32)], method: &str) -> Value {
    let mut body = items(lines);
    body["payment"] = json!({"method": method});
    body
}

pub(crate) fn id_of(reply: &Reply) -> String {
    reply.body["id"].as_str().unwrap().to_owned()
}
