//! Orders from the customer's request to the event in the stream, with the real user and product services.

use std::collections::BTreeSet;

use clap::Parser as _;
use futures_util::future::join_all;
use http::StatusCode;
use serde_json::json;
use shop_kit::{
    pb::{
        order::{
            CancelOrderRequest, CreateOrderRequest, GetOrderRequest, ListOrdersRequest, NewItem,
            UpdateOrderStatusRequest, order_service_client::OrderServiceClient,
        },
        product::{UpdateStockRequest, product_service_client::ProductServiceClient},
    },
    testing::{RedisServer, Reply, Running, cut_off, documented, eventually, let_in},
};
use sqlx::{Connection as _, PgConnection};
use tonic::Code;
use uuid::Uuid;

use crate::shop::{Shop, id_of, items};

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

#[tokio::test]
async fn the_api_is_described() {
    let shop = Shop::open().await;
    documented(&shop.order.http, &[include_str!("../../src/api/http.rs")]).await;
    assert!(shop.order.reflected().await.contains(&"shop.order.v1.OrderService".to_owned()));
}

#[tokio::test]
async fn an_order_is_priced_takes_stock_and_is_published() {
    let shop = Shop::open().await;
    let (lamp, chair) = (shop.add(1999, 5).await, shop.add(5000, 1).await);
    let placed =
        shop.me().header("traceparent", TRACE).post("/orders", items(&[(lamp, 2), (chair, 1)])).await;
    assert_eq!(placed.status, StatusCode::CREATED, "{placed:?}");
    assert_eq!((&placed.body["total"], &placed.body["currency"]), (&json!(8998), &json!("EUR")));
    assert_eq!((&placed.body["status"], &placed.body["user_id"]), (&json!("pending"), &json!(shop.customer)));
    assert_eq!((shop.stock(lamp).await, shop.stock(chair).await), (3, 0));

    let id = id_of(&placed);
    assert_eq!(placed.headers["location"], format!("orders/{id}"));
    assert_eq!(shop.me().get(&format!("/orders/{id}")).await.body, placed.body);
    let list = shop.me().get("/orders").await.body;
    assert_eq!((&list["items"][0], &list["total"]), (&placed.body, &json!(1)));

    eventually("the event is published", async || shop.published_ids().await == [id.clone()]).await;
    assert_eq!(shop.published().await[0], placed.body);
    let entries = shop.entries("order.created").await;
    assert_eq!(entries[0].get::<String>("traceparent").as_deref(), Some(TRACE));
    assert_eq!(entries[0].get::<String>("type").as_deref(), Some("order.created"));
}

#[tokio::test]
async fn an_order_that_makes_no_sense_takes_nothing() {
    let shop = Shop::open().await;
    let lamp = shop.add(1999, 5).await;
    let nobody = shop.order.http.user(Uuid::new_v4(), "customer");
    for (client, body, expect, slug) in [
        (shop.me(), items(&[(lamp, 1), (Uuid::new_v4(), 1)]), StatusCode::NOT_FOUND, "product-not-found"),
        (nobody, items(&[(lamp, 1)]), StatusCode::NOT_FOUND, "user-not-found"),
        (shop.order.http.clone(), items(&[(lamp, 1)]), StatusCode::UNAUTHORIZED, "unauthenticated"),
        (shop.me(), items(&[]), StatusCode::UNPROCESSABLE_ENTITY, "invalid"),
        (shop.me(), items(&[(lamp, 0)]), StatusCode::UNPROCESSABLE_ENTITY, "invalid"),
        (
            shop.me(),
            json!({"items": [{"product_id": "x", "quantity": 1}]}),
            StatusCode::UNPROCESSABLE_ENTITY,
            "invalid",
        ),
        (shop.me(), items(&[(lamp, 6)]), StatusCode::CONFLICT, "out-of-stock"),
    ] {
        let reply = client.post("/orders", body.clone()).await;
        assert_eq!(reply.status, expect, "{body} {reply:?}");
        assert_eq!(reply.body["type"], format!("urn:problem:shop:{slug}"), "{body}");
    }
    assert_eq!(shop.stock(lamp).await, 5);
    assert_eq!(shop.me().get("/orders").await.body["total"], 0);
    assert!(shop.published().await.is_empty());
}

#[tokio::test]
async fn what_was_taken_is_given_back_when_a_later_product_runs_out() {
    let (shop, lamp, chair) = Shop::open_sold_out().await;
    let me = shop.me().header("idempotency-key", "k1");
    let reply = me.post("/orders", items(&[(lamp, 2), (chair, 1)])).await;
    assert_eq!(reply.status, StatusCode::CONFLICT, "{reply:?}");
    assert_eq!((shop.stock(lamp).await, shop.stock(chair).await), (5, 0));
    assert_eq!(shop.me().get("/orders").await.body["total"], 0);

    // The key is free again, and nothing was published for the order that failed.
    let placed = me.post("/orders", items(&[(lamp, 2)])).await;
    assert_eq!(placed.status, StatusCode::CREATED, "{placed:?}");
    eventually("one event is published", async || shop.published_ids().await == [id_of(&placed)]).await;
}

#[tokio::test]
async fn fifty_customers_share_ten_lamps_and_exactly_the_orders_placed_are_published() {
    let shop = Shop::open().await;
    let lamp = shop.add(1999, 10).await;
    let second = shop.another_order(&[]).await;
    let clients = [shop.me(), second.http.user(shop.customer, "customer")];
    let orders = join_all((0..50).map(|i| {
        let client = clients[i % 2].clone();
        async move { client.post("/orders", items(&[(lamp, 1)])).await }
    }))
    .await;
    let placed: BTreeSet<String> =
        orders.iter().filter(|r| r.status == StatusCode::CREATED).map(id_of).collect();
    let refused = orders.iter().filter(|reply| reply.status == StatusCode::CONFLICT).count();
    let others: Vec<_> = orders.iter().filter(|r| r.status.is_server_error()).collect();
    assert_eq!((placed.len(), refused), (10, 40), "{others:?}");
    assert_eq!(shop.stock(lamp).await, 0);
    eventually("all are published", async || shop.published().await.len() >= 10).await;
    let published = shop.published_ids().await;
    assert_eq!((published.len(), published.into_iter().collect::<BTreeSet<_>>()), (10, placed));
}

#[tokio::test]
async fn the_same_idempotency_key_places_one_order() {
    let shop = Shop::open().await;
    let lamp = shop.add(1999, 100).await;
    let me = shop.me().header("idempotency-key", "k1");
    let replies = join_all((0..8).map(|_| me.post("/orders", items(&[(lamp, 2)])))).await;
    let placed: BTreeSet<String> =
        replies.iter().filter(|r| r.status == StatusCode::CREATED).map(id_of).collect();
    assert_eq!(placed.len(), 1, "{replies:?}");
    let waiting = |r: &&Reply| r.body["type"] == "urn:problem:shop:in-progress";
    assert!(replies.iter().all(|r| r.status == StatusCode::CREATED || waiting(&r)), "{replies:?}");

    let again = me.post("/orders", items(&[(lamp, 1), (lamp, 1)])).await;
    assert_eq!((again.status, Some(&id_of(&again))), (StatusCode::CREATED, placed.first()));
    let other = me.post("/orders", items(&[(lamp, 3)])).await;
    assert_eq!(
        (other.status, &other.body["type"]),
        (StatusCode::CONFLICT, &json!("urn:problem:shop:key-reused"))
    );
    assert_eq!(shop.stock(lamp).await, 98);
    eventually("one event is published", async || shop.published().await.len() == 1).await;
}

#[tokio::test]
async fn with_redis_gone_orders_are_placed_and_their_events_wait() {
    let server = RedisServer::start();
    let shop = Shop::open_with(&server.url()).await;
    let lamp = shop.add(1999, 10).await;
    server.stop();
    let mut placed = BTreeSet::new();
    for _ in 0..3 {
        let reply = shop.me().post("/orders", items(&[(lamp, 1)])).await;
        assert_eq!(reply.status, StatusCode::CREATED, "{reply:?}");
        placed.insert(id_of(&reply));
    }
    assert_eq!(shop.order.health().await, (StatusCode::OK, "DEGRADED".to_owned()));
    server.resume();
    eventually("what waited is published", async || shop.published().await.len() == 3).await;
    assert_eq!(shop.published_ids().await.into_iter().collect::<BTreeSet<_>>(), placed);
    let reply = shop.me().post("/orders", items(&[(lamp, 1)])).await;
    eventually("what is new is published", async || shop.published_ids().await.contains(&id_of(&reply)))
        .await;
    assert_eq!(shop.order.health().await, (StatusCode::OK, "UP".to_owned()));
}

#[tokio::test]
async fn a_cancelled_order_gives_its_stock_back_once() {
    let shop = Shop::open().await;
    let lamp = shop.add(1999, 5).await;
    let id = id_of(&shop.me().post("/orders", items(&[(lamp, 2)])).await);
    let path = format!("/orders/{id}/cancel");
    let stranger = shop.order.http.user(Uuid::new_v4(), "customer");
    assert_eq!(stranger.post(&path, json!({})).await.status, StatusCode::NOT_FOUND);
    assert_eq!(stranger.get(&format!("/orders/{id}")).await.status, StatusCode::NOT_FOUND);
    assert_eq!(shop.stock(lamp).await, 3);
    for _ in 0..2 {
        let reply = shop.me().post(&path, json!({})).await;
        assert_eq!((reply.status, &reply.body["status"]), (StatusCode::OK, &json!("cancelled")));
        assert_eq!(shop.stock(lamp).await, 5);
    }
}

#[tokio::test]
async fn only_an_admin_moves_an_order_on_and_only_forward() {
    let shop = Shop::open().await;
    let lamp = shop.add(1999, 5).await;
    let path = format!("/orders/{}", id_of(&shop.me().post("/orders", items(&[(lamp, 1)])).await));
    let to = |status: &str| json!({"status": status});
    let admin = shop.order.http.user(Uuid::new_v4(), "admin");
    let status_path = format!("{path}/status");
    assert_eq!(shop.me().patch(&status_path, to("paid")).await.status, StatusCode::FORBIDDEN);
    for (status, expect) in [
        ("shipped", StatusCode::CONFLICT),
        ("placing", StatusCode::UNPROCESSABLE_ENTITY),
        ("paid", StatusCode::OK),
        ("shipped", StatusCode::OK),
        ("cancelled", StatusCode::CONFLICT),
        ("delivered", StatusCode::OK),
    ] {
        assert_eq!(admin.patch(&status_path, to(status)).await.status, expect, "{status}");
    }
    assert_eq!(shop.me().post(&format!("{path}/cancel"), json!({})).await.status, StatusCode::CONFLICT);
    assert_eq!(admin.get(&path).await.body["status"], "delivered");
    assert_eq!(shop.stock(lamp).await, 4);
}

#[tokio::test]
async fn an_order_that_was_left_half_placed_is_taken_back() {
    let shop = Shop::open().await;
    let (lamp, chair) = (shop.add(1999, 5).await, shop.add(5000, 5).await);
    let id = Uuid::new_v4();
    let mut orders = PgConnection::connect(&shop.orders_database).await.unwrap();
    // As a crash leaves it: the lamp was taken, the chair was not yet.
    let mut product = ProductServiceClient::new(shop.product.channel());
    let take = |product_id: Uuid| UpdateStockRequest {
        product_id: product_id.to_string(),
        delta: -2,
        operation_id: format!("order/{id}/{product_id}"),
        revoke: false,
    };
    product.update_stock(take(lamp)).await.unwrap();
    let mut tx = orders.begin().await.unwrap();
    let sql = "INSERT INTO orders VALUES ($1, $2, 'placing', 2, 'EUR', 'k1', now() - interval '1 hour')";
    sqlx::query(sql).bind(id).bind(shop.customer).execute(&mut *tx).await.unwrap();
    for product in [lamp, chair] {
        let sql = "INSERT INTO order_items VALUES ($1, $2, 'x', 1, 2)";
        sqlx::query(sql).bind(id).bind(product).execute(&mut *tx).await.unwrap();
    }
    tx.commit().await.unwrap();
    assert_eq!(shop.me().get(&format!("/orders/{id}")).await.status, StatusCode::NOT_FOUND);

    eventually("the lamps are given back", async || shop.stock(lamp).await == 5).await;
    eventually("nothing is left to give back", async || {
        let sql = "SELECT count(*) FROM releases";
        sqlx::query_scalar::<_, i64>(sql).fetch_one(&mut orders).await.unwrap() == 0
    })
    .await;
    // A taking of the chair that was still on its way comes too late.
    assert_eq!(product.update_stock(take(chair)).await.unwrap_err().code(), Code::FailedPrecondition);
    assert_eq!((shop.stock(lamp).await, shop.stock(chair).await), (5, 5));
    assert!(shop.published().await.is_empty());
}

#[tokio::test]
async fn without_the_product_service_orders_are_refused_and_stock_is_given_back_later() {
    let mut shop = Shop::open().await;
    let lamp = shop.add(1999, 5).await;
    let order = id_of(&shop.me().post("/orders", items(&[(lamp, 2)])).await);
    assert_eq!(shop.order.health().await, (StatusCode::OK, "UP".to_owned()));
    let address: std::net::SocketAddr = shop.product.grpc.strip_prefix("http://").unwrap().parse().unwrap();
    let gone = std::mem::replace(&mut shop.product, Running::launch(async |_, _| Ok(())).await);
    gone.stop().await.unwrap();

    let reply = shop.me().post("/orders", items(&[(lamp, 1)])).await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE, "{reply:?}");
    assert_eq!(reply.headers["retry-after"], "1");
    assert_eq!(shop.order.health().await, (StatusCode::OK, "DEGRADED".to_owned()));
    // Cancelling works without it; giving the stock back waits until it is there again.
    let cancelled = shop.me().post(&format!("/orders/{order}/cancel"), json!({})).await;
    assert_eq!(cancelled.body["status"], "cancelled", "{cancelled:?}");
    assert_eq!(shop.stock(lamp).await, 3);

    let fixed = ["product", "--database-url", &shop.products_database];
    let settings = shop_product::settings::Settings::parse_from(fixed);
    let grpc = tokio::net::TcpListener::bind(address).await.unwrap();
    shop.product = Running::start(|mut listeners, shutdown| {
        listeners.grpc = grpc;
        Box::pin(shop_product::serve(settings, listeners, shutdown))
    })
    .await;
    eventually("the stock is given back", async || shop.stock(lamp).await == 5).await;
}

#[tokio::test]
async fn without_its_database_the_service_is_down_and_comes_back() {
    let shop = Shop::open().await;
    cut_off(&shop.orders_database).await;
    assert_eq!(shop.order.health().await, (StatusCode::SERVICE_UNAVAILABLE, "DOWN".to_owned()));
    let reply = shop.me().get("/orders").await;
    assert_eq!(reply.status, StatusCode::SERVICE_UNAVAILABLE, "{reply:?}");
    let_in(&shop.orders_database).await;
    eventually("the database is used again", async || shop.order.health().await.1 == "UP").await;
    assert_eq!(shop.me().get("/orders").await.status, StatusCode::OK);
}

#[tokio::test]
async fn grpc_does_what_json_does() {
    let shop = Shop::open().await;
    let lamp = shop.add(1999, 5).await;
    let mut grpc = OrderServiceClient::new(shop.order.channel());
    let create = CreateOrderRequest {
        user_id: shop.customer.to_string(),
        items: vec![NewItem { product_id: lamp.to_string(), quantity: 2 }],
        idempotency_key: "k1".into(),
        payment_method: String::new(),
    };
    let order = grpc.create_order(create.clone()).await.unwrap().into_inner();
    assert_eq!((order.total, order.status.as_str(), order.items[0].price), (3998, "pending", 1999));
    assert_eq!(grpc.create_order(create.clone()).await.unwrap().into_inner(), order);
    let get = GetOrderRequest { id: order.id.clone() };
    assert_eq!(grpc.get_order(get).await.unwrap().into_inner(), order);
    let list = ListOrdersRequest { user_id: shop.customer.to_string(), ..Default::default() };
    assert_eq!(grpc.list_orders(list).await.unwrap().into_inner().orders, std::slice::from_ref(&order));
    let paid = UpdateOrderStatusRequest { id: order.id.clone(), status: "paid".into() };
    assert_eq!(grpc.update_order_status(paid.clone()).await.unwrap().into_inner().status, "paid");
    assert_eq!(grpc.update_order_status(paid).await.unwrap_err().code(), Code::FailedPrecondition);
    let cancel = CancelOrderRequest { id: order.id };
    assert_eq!(grpc.cancel_order(cancel).await.unwrap().into_inner().status, "cancelled");
    assert_eq!(shop.stock(lamp).await, 5);
    let too_many = CreateOrderRequest {
        items: vec![NewItem { product_id: lamp.to_string(), quantity: 6 }],
        idempotency_key: String::new(),
        ..create
    };
    assert_eq!(grpc.create_order(too_many).await.unwrap_err().code(), Code::FailedPrecondition);
}
