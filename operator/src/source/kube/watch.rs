//! One kind, watched for ever: listed in pages, then followed; listed anew where the watch has fallen behind. A kind that
//! is not there is looked for; what fails is tried again, ever more slowly.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use kube::api::Api;
use kube::runtime::watcher::{self, watcher};
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use weft_core::world::Name;

use super::health::{Failure, Health};
use super::kind::Kind;
use super::read::{Read, Said};

/// A watch is opened anew after so many seconds: one whose connection died without a word is noticed by then.
pub(super) const RENEWED_AFTER: u32 = 60;
/// A watch that has said nothing for so long, since it failed, works: there was nothing to say. Longer than an attempt to
/// connect may take.
const WORKS_AFTER: Duration = Duration::from_secs(8);
/// How often a kind that is not there is looked for.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// A watch of one kind.
pub(super) struct Watch<K> {
    pub(super) kind: Kind,
    /// Where it may be kept; the first of them that is there is followed.
    pub(super) apis: Vec<Api<K>>,
    pub(super) config: watcher::Config,
    pub(super) read: Read<K>,
    pub(super) health: Arc<Health>,
}

/// The collector is gone.
struct Over;

impl<K> Watch<K>
where
    K: Resource + Clone + Debug + DeserializeOwned + Send + 'static,
{
    /// Watches until nobody listens any more.
    pub(super) async fn run(self, say: mpsc::Sender<Said>) {
        while self.look(&say).await.is_ok() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Follows each that is there as long as it is. Only where none is, the kind is not there.
    async fn look(&self, say: &mpsc::Sender<Said>) -> Result<(), Over> {
        for (at, api) in self.apis.iter().enumerate() {
            self.follow(api, at + 1 == self.apis.len(), say).await?;
        }
        Ok(())
    }

    /// Watches as long as the kind is there.
    async fn follow(&self, api: &Api<K>, last: bool, say: &mpsc::Sender<Said>) -> Result<(), Over> {
        let mut events = pin!(watcher(api.clone(), self.config.clone()));
        let mut retry = Retry::default();
        let mut listed = BTreeSet::new();
        loop {
            match tokio::time::timeout(WORKS_AFTER, events.next()).await {
                // Nothing has been asked of the API server yet.
                Ok(Some(Ok(watcher::Event::Init))) => listed.clear(),
                Ok(Some(Ok(event))) => {
                    self.works(&mut retry);
                    self.tell(event, &mut listed, say).await?;
                }
                Ok(Some(Err(error))) if !last && Failure::of_watch(&error) == Failure::Absent => {
                    return Ok(());
                }
                Ok(Some(Err(error))) => match self.fails(&error, say).await? {
                    Failure::Absent => return Ok(()),
                    Failure::Behind => {}
                    _ => tokio::time::sleep(retry.next()).await,
                },
                Ok(None) => return Ok(()),
                Err(_) => self.works(&mut retry),
            }
        }
    }

    async fn fails(&self, error: &watcher::Error, say: &mpsc::Sender<Said>) -> Result<Failure, Over> {
        let failure = Failure::of_watch(error);
        if failure != Failure::Behind {
            self.health.fails(self.kind, "", failure, error);
        }
        match failure {
            // Without its definition nothing of a kind is there.
            Failure::Absent if self.kind.is_optional() => {
                send(say, Said::Listed { kind: self.kind, all: BTreeSet::new() }).await?;
            }
            Failure::Forbidden => send(say, Said::Unanswered(self.kind)).await?,
            _ => {}
        }
        Ok(failure)
    }

    fn works(&self, retry: &mut Retry) {
        self.health.works(self.kind, "");
        *retry = Retry::default();
    }

    async fn tell(
        &self,
        event: watcher::Event<K>,
        listed: &mut BTreeSet<Name>,
        say: &mpsc::Sender<Said>,
    ) -> Result<(), Over> {
        let name = |object: &K| Name::new(&object.namespace().unwrap_or_default(), &object.name_any());
        let event = event.modify(|object| object.managed_fields_mut().clear());
        let said = match event {
            watcher::Event::Init => return Ok(()),
            watcher::Event::InitApply(object) => {
                let name = name(&object);
                listed.insert(name.clone());
                (self.read)(self.kind, name, &object)
            }
            watcher::Event::InitDone => Said::Listed { kind: self.kind, all: std::mem::take(listed) },
            watcher::Event::Apply(object) => (self.read)(self.kind, name(&object), &object),
            watcher::Event::Delete(object) => Said::Gone { kind: self.kind, name: name(&object) },
        };
        send(say, said).await
    }
}

async fn send(say: &mpsc::Sender<Said>, said: Said) -> Result<(), Over> {
    say.send(said).await.map_err(|_| Over)
}

/// How long to wait before the next attempt: longer each time, never the same for all.
#[derive(Debug)]
pub(super) struct Retry {
    wait: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self { wait: Self::FIRST }
    }
}

impl Retry {
    const FIRST: Duration = Duration::from_millis(250);
    const LONGEST: Duration = Duration::from_secs(10);

    /// The wait before the next attempt.
    pub(super) fn next(&mut self) -> Duration {
        let wait = self.wait.mul_f64(rand::random_range(0.8..1.2));
        self.wait = (self.wait * 2).min(Self::LONGEST);
        wait
    }
}

#[cfg(test)]
mod tests {
    use kube::api::DynamicObject;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};
    use tokio::task::JoinSet;

    use super::*;
    use crate::metrics::Metrics;
    use crate::source::kube::read;

    /// What the watch of `TLSRoute` says first, of a cluster that has one of them, at that version only.
    async fn says_first(version: &'static str) -> Vec<String> {
        let api_server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", api_server.local_addr().unwrap()).parse().unwrap();
        let client = kube::Client::try_from(kube::Config::new(url)).unwrap();
        let watch = Watch::<DynamicObject> {
            kind: Kind::TlsRoute,
            apis: Kind::TlsRoute.resources().iter().map(|at| Api::all_with(client.clone(), at)).collect(),
            config: watcher::Config::default(),
            read: read::custom,
            health: Arc::new(Health::new(Arc::new(Metrics::new().unwrap()))),
        };
        let (say, mut said) = mpsc::channel(8);
        let mut tasks = JoinSet::new();
        tasks.spawn(watch.run(say));
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = api_server.accept().await.unwrap();
                connections.spawn(answer(stream, version));
            }
        });
        let mut first = Vec::new();
        while first.last().is_none_or(|last: &String| !last.starts_with("listed")) {
            first.push(match said.recv().await.unwrap() {
                Said::Seen { name, .. } => format!("seen {name}"),
                Said::Listed { all, .. } => format!("listed {}", all.len()),
                other => format!("{other:?}"),
            });
        }
        first
    }

    /// An API server with one TLSRoute at that version.
    async fn answer(mut stream: TcpStream, version: &str) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        let there = String::from_utf8(head).unwrap();
        let there = there.starts_with(&format!("GET /apis/gateway.networking.k8s.io/{version}/tlsroutes?"));
        let (status, body) = if there {
            let route = r#"{"metadata": {"name": "mail", "namespace": "shop"}, "spec": {}}"#;
            ("200 OK", format!(r#"{{"metadata": {{"resourceVersion": "1"}}, "items": [{route}]}}"#))
        } else {
            // What it says of a version that it does not have is no Status.
            ("404 Not Found", "404 page not found\n".to_owned())
        };
        let length = body.len();
        let head = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
        stream.write_all(format!("{head}{body}").as_bytes()).await.unwrap();
    }

    #[tokio::test]
    async fn a_kind_is_followed_at_the_version_that_is_there() {
        for version in ["v1", "v1alpha3", "v1alpha2"] {
            assert_eq!(says_first(version).await, ["seen shop/mail", "listed 1"], "{version}");
        }
        assert_eq!(says_first("none").await, ["listed 0"]);
    }

    #[test]
    fn attempts_come_ever_more_slowly_up_to_a_bound() {
        let mut retry = Retry::default();
        let waits: Vec<Duration> = (0..9).map(|_| retry.next()).collect();
        assert!(waits[0] <= Duration::from_millis(300) && waits[8] >= Duration::from_secs(8), "{waits:?}");
        assert!(waits.iter().all(|wait| *wait <= Duration::from_secs(12)), "{waits:?}");
    }
}
