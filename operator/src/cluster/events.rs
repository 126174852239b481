//! Events (`events.k8s.io`) about objects, for `kubectl describe` and `kubectl get events`.
//!
//! One that is said again within [`REMEMBERED`] counts up the first instead of making another, and not more often than
//! every [`BETWEEN_COUNTS`]; an object about which too much is said is not said more about for a while.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;
use tokio::time::Instant;
use tracing::debug;
use weft_api::names::OPERATOR_ACCOUNT;
use weft_core::world::ObjectRef;

use super::kinds;
use super::news::News;

/// How long an event is counted up instead of being made anew.
const REMEMBERED: Duration = Duration::from_mins(10);
/// Between two counts of one event.
const BETWEEN_COUNTS: Duration = Duration::from_secs(30);
/// New events about one object within [`REMEMBERED`].
const NEW_AT_MOST: usize = 20;
/// The API's bound on a note, in bytes.
const NOTE_AT_MOST: usize = 1024;
/// No answer of the API server for this long is a failure.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Says events about objects.
pub(super) struct Recorder {
    client: Client,
    /// Name of this replica.
    instance: String,
    memory: Memory,
}

impl Recorder {
    pub(super) fn new(client: Client, instance: String) -> Self {
        Self { client, instance, memory: Memory::default() }
    }

    /// Says it. An event that cannot be written is lost: conditions say the same.
    pub(super) async fn say(&mut self, object: &ObjectRef, uid: &str, news: &News, now: Instant) {
        let said = match self.memory.take(object, news, now) {
            Say::Nothing => return,
            Say::New(name) => self.create(object, uid, news, name).await,
            Say::Again { name, count } => self.count(object, &name, count).await,
        };
        if let Err(error) = said {
            debug!(%object, reason = news.reason, error, "event not written");
        }
    }

    async fn create(&self, object: &ObjectRef, uid: &str, news: &News, name: String) -> Result<(), String> {
        let now = Timestamp::now();
        let resource = kinds::with_status(object.kind).ok_or("kind without status")?;
        let regarding = ObjectReference {
            api_version: Some(resource.api_version),
            kind: Some(resource.kind),
            name: Some(object.name.name.clone()),
            namespace: Some(object.name.namespace.clone()).filter(|namespace| !namespace.is_empty()),
            uid: Some(uid.to_owned()).filter(|uid| !uid.is_empty()),
            ..ObjectReference::default()
        };
        let event = Event {
            metadata: ObjectMeta { name: Some(name), ..ObjectMeta::default() },
            regarding: Some(regarding),
            type_: Some(if news.warning { "Warning" } else { "Normal" }.to_owned()),
            reason: Some(news.reason.clone()),
            note: Some(shortened(&news.note)),
            action: Some("Reconcile".to_owned()),
            event_time: Some(MicroTime(now)),
            reporting_controller: Some(format!("weft.dev/{OPERATOR_ACCOUNT}")),
            reporting_instance: Some(self.instance.clone()),
            ..Event::default()
        };
        let params = PostParams::default();
        let api = self.api(object);
        answer(api.create(&params, &event)).await
    }

    async fn count(&self, object: &ObjectRef, name: &str, count: i32) -> Result<(), String> {
        let series = json!({"series": {"count": count, "lastObservedTime": MicroTime(Timestamp::now())}});
        let (params, patch) = (PatchParams::default(), Patch::Merge(&series));
        let api = self.api(object);
        answer(api.patch(name, &params, &patch)).await
    }

    /// Events about what is in no namespace are in `default`.
    fn api(&self, object: &ObjectRef) -> Api<Event> {
        match object.name.namespace.as_str() {
            "" => Api::namespaced(self.client.clone(), "default"),
            namespace => Api::namespaced(self.client.clone(), namespace),
        }
    }
}

async fn answer(request: impl Future<Output = kube::Result<Event>>) -> Result<(), String> {
    match tokio::time::timeout(ANSWER_WITHIN, request).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("no answer of the API server".to_owned()),
    }
}

/// What to do about an event.
#[derive(Debug, PartialEq, Eq)]
enum Say {
    /// Make one of this name.
    New(String),
    /// Count up the one of this name.
    Again { name: String, count: i32 },
    /// It was counted a moment ago, or there is too much about the object.
    Nothing,
}

/// What was said lately.
#[derive(Debug, Default)]
struct Memory {
    said: HashMap<(ObjectRef, News), Said>,
    new: HashMap<ObjectRef, VecDeque<Instant>>,
    number: u64,
}

#[derive(Debug)]
struct Said {
    name: String,
    count: i32,
    last: Instant,
    counted: Instant,
}

impl Memory {
    fn take(&mut self, object: &ObjectRef, news: &News, now: Instant) -> Say {
        self.said.retain(|_, said| now < said.last + REMEMBERED);
        self.new.retain(|_, times| times.back().is_some_and(|last| now < *last + REMEMBERED));
        if let Some(said) = self.said.get_mut(&(object.clone(), news.clone())) {
            said.count = said.count.saturating_add(1);
            said.last = now;
            if now < said.counted + BETWEEN_COUNTS {
                return Say::Nothing;
            }
            said.counted = now;
            return Say::Again { name: said.name.clone(), count: said.count };
        }
        let times = self.new.entry(object.clone()).or_default();
        while times.front().is_some_and(|first| now >= *first + REMEMBERED) {
            times.pop_front();
        }
        if times.len() >= NEW_AT_MOST {
            return Say::Nothing;
        }
        times.push_back(now);
        self.number += 1;
        // As client-go names them: the object, then something that is not used twice.
        let name = format!(
            "{}.{:x}{:04x}",
            object.name.name,
            Timestamp::now().as_microsecond(),
            self.number & 0xffff
        );
        let said = Said { name: name.clone(), count: 1, last: now, counted: now };
        self.said.insert((object.clone(), news.clone()), said);
        Say::New(name)
    }
}

fn shortened(note: &str) -> String {
    if note.len() <= NOTE_AT_MOST {
        return note.to_owned();
    }
    let end = note.floor_char_boundary(NOTE_AT_MOST - '…'.len_utf8());
    format!("{}…", note.get(..end).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_core::world::{Name, ObjectKind};

    fn order() -> ObjectRef {
        ObjectRef::new(ObjectKind::Microservice, Name::new("shop", "order"))
    }

    fn news(note: &str) -> News {
        News { warning: true, reason: "CircuitOpened".into(), note: note.into() }
    }

    #[test]
    fn what_is_said_again_is_counted() {
        let now = Instant::now();
        let mut memory = Memory::default();
        let Say::New(name) = memory.take(&order(), &news("a"), now) else { panic!("not new") };
        assert_eq!(memory.take(&order(), &news("a"), now + Duration::from_secs(1)), Say::Nothing);
        let again = memory.take(&order(), &news("a"), now + BETWEEN_COUNTS);
        assert_eq!(again, Say::Again { name: name.clone(), count: 3 });
        assert!(matches!(memory.take(&order(), &news("b"), now), Say::New(other) if other != name));
        let later = now + BETWEEN_COUNTS + REMEMBERED;
        assert!(matches!(memory.take(&order(), &news("a"), later), Say::New(_)));
    }

    #[test]
    fn too_much_about_one_object_is_not_said() {
        let now = Instant::now();
        let mut memory = Memory::default();
        let said = |memory: &mut Memory, n: usize, now: Instant| {
            matches!(memory.take(&order(), &news(&n.to_string()), now), Say::New(_))
        };
        let count = (0..100).filter(|n| said(&mut memory, *n, now)).count();
        assert_eq!(count, NEW_AT_MOST);
        assert!(said(&mut memory, 1000, now + REMEMBERED));
    }

    #[test]
    fn a_note_has_a_bound() {
        assert_eq!(shortened("short"), "short");
        let long = shortened(&"é".repeat(1000));
        assert!(long.len() <= NOTE_AT_MOST && long.ends_with('…'));
    }
}
