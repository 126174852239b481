//! The fetcher against a real HTTP server, at a pace for tests.

use std::sync::Mutex;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::*;

const JWKS: &str = r#"{"keys":[]}"#;
const DEADLINE: Duration = Duration::from_secs(20);

/// A server that answers what it is told to, and a fetcher that asks it again and again.
struct Bench {
    answer: Arc<Mutex<Response<Full<Bytes>>>>,
    events: mpsc::Receiver<Event>,
    _folder: tempfile::TempDir,
    _tasks: JoinSet<()>,
}

impl Bench {
    async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let uri = format!("http://{}/keys", listener.local_addr().unwrap());
        let answer = Arc::new(Mutex::new(Response::new(Full::from(JWKS))));
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, Arc::clone(&answer)));
        let folder = tempfile::tempdir().unwrap();
        let (hub, events) = Hub::new();
        let wanted = Wanted { name: "keys".into(), uri, route: Route::Direct };
        let (say, told) = watch::channel(vec![wanted]);
        let config = rustls::ClientConfig::builder_with_provider(weft_api::tls::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let fetcher = Fetcher {
            wanted: told,
            tls: Arc::new(ArcSwap::from_pointee(config)),
            store: Arc::new(Store::open(Some(folder.path()))),
            hub,
            metrics: Arc::new(Metrics::new().unwrap()),
            pace: Pace {
                refresh: Duration::from_millis(10),
                retry_first: Duration::from_millis(10),
                retry_last: Duration::from_millis(40),
            },
        };
        tasks.spawn(async move {
            fetcher.run(CancellationToken::new()).await;
            drop(say);
        });
        Self { answer, events, _folder: folder, _tasks: tasks }
    }

    fn answer(&self, status: StatusCode, body: impl Into<Bytes>) {
        let mut answer = Response::new(Full::new(body.into()));
        *answer.status_mut() = status;
        *self.answer.lock().unwrap() = answer;
    }

    async fn next(&mut self) -> Keys {
        match tokio::time::timeout(DEADLINE, self.events.recv()).await.unwrap().unwrap() {
            Event::Keys { keys, .. } => keys,
            other => panic!("{other:?}"),
        }
    }
}

async fn serve(listener: TcpListener, answer: Arc<Mutex<Response<Full<Bytes>>>>) {
    loop {
        let (tcp, _) = listener.accept().await.unwrap();
        let answer = service_fn(async |_| Ok::<_, std::io::Error>(answer.lock().unwrap().clone()));
        drop(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(tcp), answer).await);
    }
}

#[tokio::test]
async fn the_last_good_keys_stay_whatever_the_server_says_later() {
    let mut bench = Bench::start().await;
    let good = bench.next().await;
    assert_eq!((good.jwks.as_str(), good.error.as_str()), (JWKS, ""));
    let too_long = format!(r#"{{"keys":["{}"]}}"#, "x".repeat(1 << 20));
    let cases = [
        (StatusCode::INTERNAL_SERVER_ERROR, String::new(), "status 500"),
        (StatusCode::OK, too_long, "longer than 1 MiB"),
        (StatusCode::FOUND, String::new(), "redirect"),
        (StatusCode::OK, "<html>".into(), "not JSON"),
        (StatusCode::OK, r#"{"keys":1}"#.into(), "no list `keys`"),
    ];
    for (status, body, why) in cases {
        bench.answer(status, body);
        let kept = bench.next().await;
        assert_eq!((kept.jwks.as_str(), kept.fetched_at), (JWKS, good.fetched_at));
        assert!(kept.error.contains(why), "{why} missing in {}", kept.error);
        bench.answer(StatusCode::OK, JWKS);
        assert_eq!(bench.next().await, good, "good again");
    }
}

#[tokio::test]
async fn new_keys_replace_the_old_ones() {
    let mut bench = Bench::start().await;
    bench.next().await;
    let new = r#"{"keys":[{"kid":"two"}]}"#;
    bench.answer(StatusCode::OK, new);
    assert_eq!(bench.next().await.jwks, new);
}
