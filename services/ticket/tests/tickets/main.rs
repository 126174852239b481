//! The ticket service with real PostgreSQL, Redis and payment service, both strategies alike.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod agreement;
mod office;
mod purchase;
mod queue;
mod rush;
mod sale;

#[tokio::test]
async fn the_api_is_described() {
    let office = office::Office::open().await;
    shop_kit::testing::documented(&office.ticket.http, &[include_str!("../../src/api/http.rs")]).await;
}
