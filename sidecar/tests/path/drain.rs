//! Shutdown: nothing that is in flight is lost.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use crate::support::{Client, PATIENCE, app, echo, pair};

#[tokio::test]
async fn a_request_in_flight_is_answered_and_the_connection_closed() {
    let (arrived, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (told, wait) = (Arc::clone(&arrived), Arc::clone(&go));
    let slow = app(move |_: Request<Incoming>| {
        let (told, wait) = (Arc::clone(&told), Arc::clone(&wait));
        async move {
            told.notify_one();
            wait.notified().await;
            Response::new(Full::new(Bytes::from("done")))
        }
    })
    .await;
    let pair = pair(slow);
    let tasks = TaskTracker::new();
    let to = pair.to;
    let answer = tasks.spawn(async move { Client::connect(to).await.get("/").await });
    timeout(PATIENCE, arrived.notified()).await.unwrap();
    let shared = Arc::clone(&pair.client.shared);
    let drained = tasks.spawn(pair.client.shutdown(PATIENCE));
    timeout(PATIENCE, shared.tasks.draining().cancelled()).await.unwrap();
    assert!(!shared.is_ready());
    go.notify_one();
    let (answer, body) = timeout(PATIENCE, answer).await.unwrap().unwrap();
    assert_eq!((answer.status(), body.as_str()), (StatusCode::OK, "done"));
    assert!(timeout(PATIENCE, drained).await.unwrap().unwrap());
}

#[tokio::test]
async fn requests_go_on_while_a_server_drains_and_each_is_told_to_close() {
    let pair = pair(echo().await);
    let mut client = Client::connect(pair.to).await;
    assert_eq!(client.get("/").await.0.status(), StatusCode::OK);
    let shared = Arc::clone(&pair.client.shared);
    let tasks = TaskTracker::new();
    let drained = tasks.spawn(pair.client.shutdown(PATIENCE));
    timeout(PATIENCE, shared.tasks.draining().cancelled()).await.unwrap();
    let (answer, _) = client.get("/").await;
    assert_eq!(answer.status(), StatusCode::OK);
    assert!(timeout(PATIENCE, drained).await.unwrap().unwrap());
}

#[tokio::test]
async fn starting_and_stopping_is_quick() {
    let begun = tokio::time::Instant::now();
    drop(pair(echo().await));
    assert!(begun.elapsed() < std::time::Duration::from_millis(500), "{:?}", begun.elapsed());
}
