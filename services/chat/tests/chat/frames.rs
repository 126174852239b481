//! What a client must not send, and what it is told.

use futures_util::SinkExt as _;
use serde_json::json;
use tokio_tungstenite::tungstenite::{
    Message,
    protocol::frame::{
        Frame,
        coding::{Data, OpCode},
    },
};

use crate::town::{Town, User};

#[tokio::test]
async fn a_frame_that_is_refused_changes_nothing() {
    let town = Town::of(1).await;
    let ann = User::new("Ann");
    let mut client = town.enter(0, &ann, "lobby").await;
    let long = "x".repeat(16 * 1024 + 1);
    for (text, reason) in [
        ("{".to_owned(), "malformed"),
        ("[]".to_owned(), "malformed"),
        (json!({"type": "shout"}).to_string(), "malformed"),
        (json!({"type": "send", "text": "no id"}).to_string(), "malformed"),
        (json!({"type": "send", "client_id": "x", "text": ""}).to_string(), "invalid"),
        (json!({"type": "send", "client_id": "x", "text": "a\0b"}).to_string(), "invalid"),
        (json!({"type": "send", "client_id": "x", "text": long}).to_string(), "too-long"),
        (json!({"type": "ack", "id": 1}).to_string(), "invalid"),
    ] {
        client.socket.send(Message::text(text)).await.unwrap();
        let error = client.of("error").await;
        assert_eq!(error["reason"], reason, "{error}");
        assert!(error["detail"].is_string());
    }
    // It is the first message that is stored.
    assert_eq!(client.tell(&"x".repeat(16 * 1024)).await, 1);
}

async fn ends_with(messages: &[Message], expect: u16) {
    let town = Town::of(1).await;
    let mut client = town.enter(0, &User::new("Ann"), "lobby").await;
    for message in messages {
        // It may be closed before all are sent.
        client.socket.send(message.clone()).await.ok();
    }
    let (code, reason) = client.end().await.expect("a close frame comes");
    assert_eq!(code, expect, "{reason}");
    assert!(!reason.is_empty());
    // Nothing of it was stored.
    assert_eq!(town.enter(0, &User::new("Ann"), "lobby").await.tell("hello").await, 1);
}

#[tokio::test]
async fn a_megabyte_ends_with_1009() {
    let text = json!({"type": "send", "client_id": "x", "text": "x".repeat(1 << 20)}).to_string();
    ends_with(&[Message::text(text)], 1009).await;
}

/// A text in so many frames.
fn parts<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Vec<Message> {
    let mut parts = parts.into_iter().peekable();
    let mut kind = Data::Text;
    let mut frames = Vec::new();
    while let Some(part) = parts.next() {
        let last = parts.peek().is_none();
        frames.push(Message::Frame(Frame::message(part.to_vec(), OpCode::Data(kind), last)));
        kind = Data::Continue;
    }
    frames
}

#[tokio::test]
async fn a_megabyte_in_small_frames_ends_with_1009() {
    let text = json!({"type": "send", "client_id": "x", "text": "x".repeat(1 << 20)}).to_string();
    ends_with(&parts(text.as_bytes().chunks(16 * 1024)), 1009).await;
}

#[tokio::test]
async fn a_character_may_lie_across_two_frames() {
    let town = Town::of(1).await;
    let mut client = town.enter(0, &User::new("Ann"), "lobby").await;
    let text = json!({"type": "send", "client_id": "x", "text": "größer"}).to_string();
    for frame in parts(text.as_bytes().chunks(1)) {
        client.socket.send(frame).await.unwrap();
    }
    assert_eq!(client.of("message").await["text"], "größer");
}

#[tokio::test]
async fn what_is_not_utf8_ends_with_1007() {
    let frame = Frame::message(&b"{\"type\": \"\xff\xfe\"}"[..], OpCode::Data(Data::Text), true);
    ends_with(&[Message::Frame(frame)], 1007).await;
    // In a later frame than the first, and a character that never ends.
    ends_with(&parts([&b"{\"type\": "[..], b"\"\xff\xfe\"}"]), 1007).await;
    ends_with(&parts([&b"{\"type\": \"\xc3"[..], b"\"}"]), 1007).await;
}

#[tokio::test]
async fn binary_ends_with_1003() {
    ends_with(&[Message::binary(&b"{}"[..])], 1003).await;
}
