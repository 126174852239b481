//! What arrives out of order, twice or not at all, with the real database.

use shop_kit::{
    store as kit_store,
    testing::{cut_off, database, let_in},
};
use sqlx::PgPool;
use tokio::time::timeout;
use uuid::Uuid;

use super::*;
use crate::{
    MIGRATIONS,
    domain::frame::Person,
    store::{Draft, Stored},
};

const SOON: Duration = Duration::from_secs(20);

struct Scene {
    database: String,
    store: Store,
    hub: Hub,
    heard: broadcast::Receiver<Delivery>,
    _follow: tokio_util::task::AbortOnDropHandle<()>,
}

impl Scene {
    async fn new() -> Self {
        let database = database().await;
        let pool = PgPool::connect_lazy(&database).unwrap();
        kit_store::migrate(&pool, &MIGRATIONS).await;
        let store = Store::new(pool);
        let (hub, inbox) = Hub::new(Room::parse("lobby").unwrap(), 1024);
        let heard = hub.out.subscribe();
        let follow = spawn(follow(store.clone(), inbox));
        hub.at.clone().wait_for(Option::is_some).await.unwrap();
        Self { database, store, hub, heard, _follow: follow }
    }

    /// Stores a message without telling the room.
    async fn store(&self, text: &str) -> (MessageId, Utf8Bytes) {
        let author = Person { user: Uuid::nil(), name: "Ann".into() };
        let client_id = Uuid::new_v4().to_string();
        let draft = Draft { room: &self.hub.room, author: &author, client_id: &client_id, text };
        match self.store.insert(&draft).await.unwrap() {
            Stored::New(message) => (message.id, Outgoing::Message(&message).text()),
            Stored::Before(id) => panic!("{id:?} was stored before"),
        }
    }

    fn arrive(&self, message: &(MessageId, Utf8Bytes)) {
        self.hub.arrive(Arrival::Message(Told::here(message.0, message.1.clone())));
    }

    async fn hear(&mut self) -> i64 {
        match timeout(SOON, self.heard.recv()).await.expect("something is handed out").unwrap() {
            Delivery::Message(message) => {
                let frame: serde_json::Value = serde_json::from_str(&message.frame).unwrap();
                assert_eq!(frame["id"], message.id.0);
                message.id.0
            }
            Delivery::Event(frame) => frame.trim_start_matches("event ").parse().unwrap(),
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "the task ends with the scene")]
fn spawn(work: impl Future<Output = ()> + Send + 'static) -> tokio_util::task::AbortOnDropHandle<()> {
    tokio_util::task::AbortOnDropHandle::new(tokio::spawn(work))
}

#[tokio::test]
async fn messages_are_handed_out_once_and_in_order() {
    let mut scene = Scene::new().await;
    let mut all = Vec::new();
    for number in 0..6 {
        all.push(scene.store(&format!("message {number}")).await);
    }
    for index in [0, 2, 1, 1, 0, 4] {
        scene.arrive(&all[index]);
    }
    // The fourth never arrives: the fifth waits a moment for it, and then all that is there is read.
    for expect in 1..=6 {
        assert_eq!(scene.hear().await, expect);
    }
    // Something that is not stored passes between them.
    scene.arrive(&all[5]);
    scene.hub.arrive(Arrival::Event("event 77".into()));
    assert_eq!(scene.hear().await, 77);
    // The last one is lost, and nothing comes after it that would tell.
    scene.store("lost").await;
    scene.hub.arrive(Arrival::Look);
    assert_eq!(scene.hear().await, 7);
    assert!(!scene.hub.is_before(MessageId(7)) && scene.hub.is_before(MessageId(8)));
}

#[tokio::test]
async fn more_than_a_page_is_read_when_much_was_missed() {
    let mut scene = Scene::new().await;
    let mut last = None;
    for number in 0..PAGE + 5 {
        last = Some(scene.store(&format!("message {number}")).await);
    }
    scene.arrive(&last.unwrap());
    for expect in 1..=PAGE + 5 {
        assert_eq!(scene.hear().await, expect);
    }
}

#[tokio::test]
async fn a_message_from_nowhere_is_never_handed_out() {
    let mut scene = Scene::new().await;
    scene.arrive(&(MessageId(5), "{\"id\":5}".into()));
    let first = scene.store("the first").await;
    scene.arrive(&first);
    assert_eq!(scene.hear().await, 1);
    scene.hub.arrive(Arrival::Look);
    scene.hub.arrive(Arrival::Event("event 77".into()));
    assert_eq!(scene.hear().await, 77);
}

#[tokio::test]
async fn without_the_database_early_messages_wait_until_it_is_back() {
    let mut scene = Scene::new().await;
    let first = scene.store("the first").await;
    let second = scene.store("the second").await;
    cut_off(&scene.database).await;
    scene.arrive(&second);
    scene.hub.arrive(Arrival::Event("event 77".into()));
    assert_eq!(scene.hear().await, 77);
    let_in(&scene.database).await;
    assert_eq!(scene.hear().await, first.0.0);
    assert_eq!(scene.hear().await, second.0.0);
}
