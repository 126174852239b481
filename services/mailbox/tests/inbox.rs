//! What is shown of mails that come more than once, over real SMTP and HTTP.

#![allow(clippy::unwrap_used, reason = "test code")]

use std::{net::SocketAddr, num::NonZeroUsize, sync::Arc};

use serde_json::{Value, json};
use shop_kit::testing::Http;
use shop_mailbox::{Listeners, messages::Messages};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

struct Mailbox {
    http: Http,
    smtp: SocketAddr,
    _serving: JoinSet<()>,
}

impl Mailbox {
    async fn open() -> Self {
        let listen = async || TcpListener::bind("127.0.0.1:0").await.unwrap();
        let listeners = Listeners { http: listen().await, smtp: listen().await };
        let http = Http::new(format!("http://{}", listeners.http.local_addr().unwrap()));
        let smtp = listeners.smtp.local_addr().unwrap();
        let messages = Arc::new(Messages::new(NonZeroUsize::new(100).unwrap()));
        let mut serving = JoinSet::new();
        let work = shop_mailbox::serve(messages, listeners, CancellationToken::new());
        serving.spawn(async move { work.await.unwrap() });
        Self { http, smtp, _serving: serving }
    }

    /// Delivers a mail in a conversation of its own.
    async fn deliver(&self, to: &str, mail: &str) {
        let mut line = BufReader::new(TcpStream::connect(self.smtp).await.unwrap());
        let mut said = String::new();
        line.read_line(&mut said).await.unwrap();
        for (command, expect) in [
            ("HELO client", "250"),
            ("MAIL FROM:<shop@shop.example>", "250"),
            (&format!("RCPT TO:<{to}>"), "250"),
            ("DATA", "354"),
            (&format!("{mail}\r\n."), "250"),
            ("QUIT", "221"),
        ] {
            line.write_all(format!("{command}\r\n").as_bytes()).await.unwrap();
            said.clear();
            line.read_line(&mut said).await.unwrap();
            assert!(said.starts_with(expect), "{command}: {said}");
        }
    }

    async fn inbox(&self, to: &str) -> Vec<Value> {
        let shown = self.http.get(&format!("/messages?channel=email&to={to}")).await.body;
        shown.as_array().unwrap().clone()
    }
}

#[tokio::test]
async fn a_mail_that_comes_twice_is_in_each_inbox_once() {
    let mailbox = Mailbox::open().await;
    let mail = "Message-ID: <1@shop.example>\r\nSubject: Paid\r\n\r\nThank you";
    for to in ["ann@example.com", "ann@example.com", "bob@example.com"] {
        mailbox.deliver(to, mail).await;
    }
    mailbox
        .deliver("ann@example.com", "Message-ID: <2@shop.example>\r\nSubject: Paid\r\n\r\nThank you")
        .await;
    let ann = mailbox.inbox("ann@example.com").await;
    let ids: Vec<_> = ann.iter().map(|mail| (&mail["id"], &mail["deliveries"])).collect();
    assert_eq!(ids, [(&json!("1@shop.example"), &json!(3)), (&json!("2@shop.example"), &json!(1))]);
    // The same mail to somebody else is no second copy.
    let bob = mailbox.inbox("bob@example.com").await;
    assert_eq!((bob.len(), &bob[0]["id"]), (1, &json!("1@shop.example")));
}

#[tokio::test]
async fn mails_without_a_message_id_are_never_the_same() {
    let mailbox = Mailbox::open().await;
    for text in ["one", "two"] {
        mailbox.deliver("ann@example.com", &format!("Subject: Hello\r\n\r\n{text}")).await;
    }
    let mails = mailbox.inbox("ann@example.com").await;
    let texts: Vec<_> = mails.iter().map(|mail| mail["text"].as_str().unwrap().trim()).collect();
    assert_eq!(texts, ["one", "two"]);
    assert_ne!(mails[0]["id"], mails[1]["id"]);
}
