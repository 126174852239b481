//! The user service, the mailbox and the notification service on private servers.

use std::{
    collections::HashMap,
    net::SocketAddr,
    num::NonZeroUsize,
    process::{Child, Command, Stdio},
    sync::Arc,
};

use clap::Parser as _;
use redis::{cmd, streams::StreamRangeReply};
use serde_json::{Value, json};
use shop_kit::{
    clock,
    events::Event,
    redis::Redis,
    testing::{Http, Running, database, eventually, redis as redis_database},
};
use shop_mailbox::{
    Listeners,
    messages::{Channel, Filter, Message, Messages},
};
use sqlx::{Connection as _, PgConnection};
use time::format_description::well_known::Rfc3339;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// What is needed to be told something, and a customer.
pub(crate) struct Shop {
    pub(crate) user: Running,
    pub(crate) customer: Uuid,
    pub(crate) database: String,
    service: Option<Running>,
    redis: String,
    mailbox: Mailbox,
    /// Where mail goes: to the mailbox, or into a line to it.
    smtp: SocketAddr,
    tasks: JoinSet<()>,
}

/// A mailbox that can be closed and opened at the same place.
struct Mailbox {
    messages: Arc<Messages>,
    http: SocketAddr,
    smtp: SocketAddr,
    open: CancellationToken,
}

impl Shop {
    pub(crate) async fn open() -> Self {
        let mut shop = Self::open_without_service().await;
        shop.service = Some(shop.instance("notification-0").await);
        shop
    }

    /// The first conversation is cut off when the server has said that it keeps the mail.
    pub(crate) async fn open_behind_a_line_that_breaks() -> Self {
        let mut shop = Self::open_without_service().await;
        let line = TcpListener::bind("127.0.0.1:0").await.unwrap();
        shop.smtp = line.local_addr().unwrap();
        let server = shop.mailbox.smtp;
        shop.tasks.spawn(async move {
            let (client, _) = line.accept().await.unwrap();
            until_kept(client, server).await;
            loop {
                let (mut client, _) = line.accept().await.unwrap();
                let mut server = TcpStream::connect(server).await.unwrap();
                tokio::io::copy_bidirectional(&mut client, &mut server).await.ok();
            }
        });
        shop.service = Some(shop.instance("notification-0").await);
        shop
    }

    pub(crate) async fn open_without_service() -> Self {
        let (users, notifications) = (database().await, database().await);
        let settings = shop_user::settings::Settings::parse_from(["user", "--database-url", &users]);
        let user =
            Running::start(|listeners, shutdown| shop_user::serve(settings, listeners, shutdown)).await;
        let body = json!({"email": "ann@example.com", "password": "correct horse", "name": "Ann Ümlaut"});
        let made = user.http.post("/users", body).await;
        let customer = made.body["id"].as_str().unwrap().parse().unwrap();
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let messages = Arc::new(Messages::new(NonZeroUsize::new(1000).unwrap()));
        let mailbox = Mailbox { messages, http: any, smtp: any, open: CancellationToken::new() };
        let mut shop = Self {
            user,
            customer,
            database: notifications,
            service: None,
            redis: redis_database().await,
            mailbox,
            smtp: any,
            tasks: JoinSet::new(),
        };
        shop.open_mailbox().await;
        shop.smtp = shop.mailbox.smtp;
        shop
    }

    pub(crate) async fn open_mailbox(&mut self) {
        let mailbox = &mut self.mailbox;
        let listeners = Listeners {
            http: TcpListener::bind(mailbox.http).await.unwrap(),
            smtp: TcpListener::bind(mailbox.smtp).await.unwrap(),
        };
        mailbox.http = listeners.http.local_addr().unwrap();
        mailbox.smtp = listeners.smtp.local_addr().unwrap();
        mailbox.open = CancellationToken::new();
        let serving = shop_mailbox::serve(mailbox.messages.clone(), listeners, mailbox.open.clone());
        self.tasks.spawn(async move { serving.await.unwrap() });
    }

    pub(crate) async fn close_mailbox(&mut self) {
        self.mailbox.open.cancel();
        self.tasks.join_next().await.unwrap().unwrap();
    }

    pub(crate) fn service(&self) -> &Running {
        self.service.as_ref().unwrap()
    }

    /// The settings of the service as flags; quick to try again and to take over.
    fn flags(&self, instance: &str) -> Vec<String> {
        let (smtp, http) = (self.smtp, self.mailbox.http);
        [
            ("--database-url", self.database.clone()),
            ("--redis-url", self.redis.clone()),
            ("--user-url", self.user.grpc.clone()),
            ("--smtp-url", format!("smtp://{smtp}")),
            ("--sms-url", format!("http://{http}/sms")),
            ("--push-url", format!("http://{http}/push")),
            ("--instance", instance.to_owned()),
            ("--retry-after", "50ms".to_owned()),
            ("--take-over-after", "1500ms".to_owned()),
        ]
        .into_iter()
        .flat_map(|(flag, value)| [flag.to_owned(), value])
        .collect()
    }

    /// An instance in this process.
    pub(crate) async fn instance(&self, name: &str) -> Running {
        let flags = self.flags(name);
        let argv = std::iter::once("notification").chain(flags.iter().map(String::as_str));
        let settings = shop_notification::settings::Settings::parse_from(argv);
        Running::start(|listeners, shutdown| shop_notification::serve(settings, listeners, shutdown)).await
    }

    /// An instance in a process of its own.
    pub(crate) fn process(&self) -> Child {
        Command::new(env!("CARGO_BIN_EXE_shop-notification"))
            .args(self.flags("notification-0"))
            .args(["--http-addr", "127.0.0.1:0", "--grpc-addr", "127.0.0.1:0"])
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    }

    pub(crate) fn me(&self) -> Http {
        self.service().http.user(self.customer, "customer")
    }

    /// An event that the customer is told of.
    pub(crate) fn expired(&self) -> Event {
        let data = json!({"ticket_id": "t1", "event_id": "e1", "event_name": "The Concert", "price": 2999,
            "currency": "EUR", "user_id": self.customer});
        event("ticket.expired", data)
    }

    /// Puts an event into its stream.
    pub(crate) async fn tell(&self, event: &Event) {
        let mut add = cmd("XADD");
        add.arg(&event.stream).arg("*").arg("id").arg(event.id.to_string()).arg("type").arg(&event.stream);
        add.arg("time").arg(event.time.format(&Rfc3339).unwrap()).arg("data").arg(event.data.to_string());
        self.redis().run::<()>(&add).await.unwrap();
    }

    fn redis(&self) -> Redis {
        Redis::new(self.redis.parse().unwrap()).unwrap()
    }

    /// What is in a stream.
    pub(crate) async fn entries(&self, stream: &str) -> Vec<HashMap<String, String>> {
        let all = self.redis().run::<StreamRangeReply>(cmd("XRANGE").arg(stream).arg("-").arg("+")).await;
        let fields = |value: &redis::Value| redis::from_redis_value_ref::<String>(value).unwrap();
        let read = |entry: redis::streams::StreamId| {
            entry.map.iter().map(|(name, value)| (name.clone(), fields(value))).collect()
        };
        all.unwrap().ids.into_iter().map(read).collect()
    }

    pub(crate) fn mails(&self) -> Vec<Message> {
        self.mailbox.messages.find(&Filter { channel: Some(Channel::Email), to: None })
    }

    pub(crate) fn sent_by(&self, channel: &str) -> Vec<Message> {
        let channel = serde_json::from_value(json!(channel)).unwrap();
        self.mailbox.messages.find(&Filter { channel: Some(channel), to: None })
    }

    pub(crate) async fn until_mails(&self, number: usize) {
        eventually("the mails came", async || self.mails().len() == number).await;
    }

    /// The states of the customer's notifications.
    pub(crate) async fn states(&self) -> Vec<String> {
        self.field("state").await.iter().map(|state| state.as_str().unwrap().to_owned()).collect()
    }

    /// How often the customer's only notification was tried.
    pub(crate) async fn tries(&self) -> u64 {
        self.field("attempts").await.first().and_then(Value::as_u64).unwrap_or_default()
    }

    async fn field(&self, name: &str) -> Vec<Value> {
        let list = self.me().get("/notifications?per_page=100").await;
        let items = list.body["items"].as_array().cloned().unwrap_or_default();
        items.iter().map(|item| item[name].clone()).collect()
    }

    /// How many notifications of that state there are, by the table.
    pub(crate) async fn stored(&self, state: &str) -> i64 {
        let mut database = PgConnection::connect(&self.database).await.unwrap();
        sqlx::query_scalar("SELECT count(*) FROM notifications WHERE state = $1")
            .bind(state)
            .fetch_one(&mut database)
            .await
            .unwrap()
    }
}

pub(crate) fn event(stream: &str, data: Value) -> Event {
    Event { id: Uuid::now_v7(), stream: stream.into(), data, traceparent: None, time: clock::now() }
}

/// Carries a conversation until the server has said that it keeps the mail; the client does not hear that.
async fn until_kept(mut client: TcpStream, server: SocketAddr) {
    let mut server = TcpStream::connect(server).await.unwrap();
    let (mut up, mut down) = ([0; 1024], [0; 1024]);
    loop {
        tokio::select! {
            read = client.read(&mut up) => server.write_all(&up[..read.unwrap()]).await.unwrap(),
            read = server.read(&mut down) => {
                let said = &down[..read.unwrap()];
                if said.starts_with(b"250 2.0.0 kept") {
                    return;
                }
                client.write_all(said).await.unwrap();
            }
        }
    }
}
