//! Some instances of the service on one database and one Redis, and people who use them.

use clap::Parser as _;
use shop_kit::testing::{Http, Running, database, redis};
use uuid::Uuid;

use crate::client::Client;

/// A user.
#[derive(Clone, Debug)]
pub(crate) struct User {
    pub(crate) id: Uuid,
    pub(crate) name: &'static str,
}

impl User {
    pub(crate) fn new(name: &'static str) -> Self {
        Self { id: Uuid::new_v4(), name }
    }
}

/// The instances.
pub(crate) struct Town {
    pub(crate) database: String,
    pub(crate) redis: String,
    pub(crate) settings: Vec<String>,
    pub(crate) instances: Vec<Running>,
}

impl Town {
    /// So many instances.
    pub(crate) async fn of(instances: usize) -> Self {
        Self::with(instances, &[]).await
    }

    /// So many instances with these settings.
    pub(crate) async fn with(instances: usize, settings: &[&str]) -> Self {
        let (database, redis) = (database().await, redis().await);
        Self::on(&database, &redis, instances, settings).await
    }

    /// So many instances on these stores.
    pub(crate) async fn on(database: &str, redis: &str, instances: usize, settings: &[&str]) -> Self {
        let settings = settings.iter().map(ToString::to_string).collect();
        let (database, redis) = (database.to_owned(), redis.to_owned());
        let mut town = Self { database, redis, settings, instances: Vec::new() };
        for _ in 0..instances {
            town.grow().await;
        }
        town
    }

    /// Starts one more instance.
    pub(crate) async fn grow(&mut self) {
        let instance = format!("chat-{}", self.instances.len());
        let fixed = ["chat", "--database-url", &self.database, "--redis-url", &self.redis];
        let named = ["--instance", &instance, "--database-connections", "5"];
        let all = fixed.into_iter().chain(named).chain(self.settings.iter().map(String::as_str));
        let settings = shop_chat::settings::Settings::parse_from(all);
        let started = Running::start(|listeners, shutdown| shop_chat::serve(settings, listeners, shutdown));
        self.instances.push(started.await);
    }

    /// The JSON API of an instance, on behalf of a user.
    pub(crate) fn http(&self, instance: usize, user: &User) -> Http {
        self.instances[instance].http.user(user.id, "customer")
    }

    /// What an instance has counted, of that name and with those labels.
    pub(crate) async fn metric(&self, instance: usize, series: &str) -> i64 {
        let text = self.instances[instance].http.get("/metrics").await.body;
        let value = |line: &str| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok();
        text.as_str().unwrap().lines().find_map(value).unwrap_or_default()
    }

    /// Enters a room.
    pub(crate) async fn enter(&self, instance: usize, user: &User, room: &str) -> Client {
        self.enter_after(instance, user, room, None).await
    }

    /// Enters a room, to get what follows a message.
    pub(crate) async fn enter_after(
        &self,
        instance: usize,
        user: &User,
        room: &str,
        after: Option<i64>,
    ) -> Client {
        let query = after.map(|id| format!("?after={id}")).unwrap_or_default();
        let path = format!("/chat/rooms/{room}/ws{query}");
        Client::open(self.instances[instance].http.address(), &path, user, &[]).await.unwrap()
    }
}
