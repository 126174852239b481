//! Chromium without a screen, driven by the `DevTools` protocol over its WebSocket: one process, any number of pages.

use std::collections::VecDeque;
use std::process::Stdio;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, ChildStderr, Command};
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

/// Longest start of the browser, and longest answer of it.
const START: Duration = Duration::from_mins(1);
/// Longest until something is to be seen.
const SOON: Duration = Duration::from_secs(30);
const PROGRAMS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/// A running browser; ends when dropped.
pub(crate) struct Browser {
    wire: Mutex<Wire>,
    _process: Child,
    _profile: tempfile::TempDir,
}

struct Wire {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    last: u64,
    /// What pages complained of: exceptions, and what their security policy forbids.
    complaints: VecDeque<String>,
}

/// A page in it.
pub(crate) struct Page<'a> {
    browser: &'a Browser,
    session: String,
}

impl Browser {
    /// Starts it.
    pub(crate) async fn start() -> Self {
        let profile = tempfile::Builder::new().prefix("weft-browser-").tempdir().unwrap();
        let mut process = spawn(profile.path());
        let stderr = BufReader::new(process.stderr.take().unwrap());
        let url = timeout(START, listening(stderr)).await.expect("the browser starts");
        let (socket, _) = connect_async(url).await.unwrap();
        let wire = Wire { socket, last: 0, complaints: VecDeque::new() };
        Self { wire: Mutex::new(wire), _process: process, _profile: profile }
    }

    /// Opens a page and waits until it is loaded.
    pub(crate) async fn open(&self, url: &str) -> Page<'_> {
        let target = self.call(None, "Target.createTarget", json!({"url": "about:blank"})).await;
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = self.call(None, "Target.attachToTarget", attach).await;
        let page = Page { browser: self, session: attached["sessionId"].as_str().unwrap().to_owned() };
        for domain in ["Runtime.enable", "Log.enable", "Page.enable"] {
            page.call(domain, json!({})).await;
        }
        let gone = page.call("Page.navigate", json!({"url": url})).await;
        assert!(gone["errorText"].is_null(), "{url}: {gone}");
        page.until("the page is loaded", "document.readyState === 'complete'").await;
        page
    }

    /// What pages complained of until now.
    pub(crate) async fn complaints(&self) -> Vec<String> {
        self.wire.lock().await.complaints.drain(..).collect()
    }

    async fn call(&self, session: Option<&str>, method: &str, params: Value) -> Value {
        let mut wire = self.wire.lock().await;
        timeout(START, wire.call(session, method, params))
            .await
            .unwrap_or_else(|_| panic!("no answer to {method}"))
    }
}

/// Where the browser says that it listens.
async fn listening(stderr: BufReader<ChildStderr>) -> String {
    let mut lines = stderr.lines();
    let mut said = Vec::new();
    while let Some(line) = lines.next_line().await.unwrap() {
        if let Some(url) = line.strip_prefix("DevTools listening on ") {
            return url.to_owned();
        }
        said.push(line);
    }
    panic!("the browser ended:\n{}", said.join("\n"));
}

fn spawn(profile: &std::path::Path) -> Child {
    let quiet = [
        "--headless=new",
        "--remote-debugging-port=0",
        "--disable-gpu",
        "--no-first-run",
        "--disable-extensions",
    ];
    // Root has no sandbox to put it in; what it loads is ours.
    let container = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-background-networking"];
    for program in PROGRAMS {
        let mut command = Command::new(program);
        command.args(quiet).args(container).arg(format!("--user-data-dir={}", profile.display()));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        if let Ok(process) = command.spawn() {
            return process;
        }
    }
    panic!("there is no Chromium on PATH: run ./setup.sh browser, or apt-get install chromium");
}

impl Wire {
    async fn call(&mut self, session: Option<&str>, method: &str, params: Value) -> Value {
        self.last += 1;
        let mut request = json!({"id": self.last, "method": method, "params": params});
        if let Some(session) = session {
            request["sessionId"] = session.into();
        }
        self.socket.send(Message::text(request.to_string())).await.unwrap();
        loop {
            let Message::Text(text) = self.socket.next().await.unwrap().unwrap() else { continue };
            let answer: Value = serde_json::from_str(&text).unwrap();
            if answer["id"] == self.last {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                return answer["result"].clone();
            }
            self.note(&answer);
        }
    }

    fn note(&mut self, event: &Value) {
        let entry = &event["params"]["entry"];
        if event["method"] == "Runtime.exceptionThrown" || entry["source"] == "security" {
            self.complaints.push_back(event["params"].to_string());
        }
    }
}

impl Page<'_> {
    async fn call(&self, method: &str, params: Value) -> Value {
        self.browser.call(Some(&self.session), method, params).await
    }

    /// The value of an expression of JavaScript.
    pub(crate) async fn value(&self, expression: &str) -> Value {
        let params = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let answer = self.call("Runtime.evaluate", params).await;
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// Waits until an expression is true.
    pub(crate) async fn until(&self, what: &str, expression: &str) {
        let deadline = Instant::now() + SOON;
        while self.value(expression).await != true {
            if Instant::now() > deadline {
                let shown = self.value("document.body.innerText").await;
                let complaints = self.browser.complaints().await;
                panic!("it never came to pass that {what}; the page shows {shown}, {complaints:?}");
            }
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Types into a field, as a person does: key by key as far as the page can tell.
    pub(crate) async fn type_into(&self, id: &str, text: &str) {
        let field = format!("document.getElementById({})", json!(id));
        self.value(&format!("{field}.value = '', {field}.focus(), document.activeElement === {field}")).await;
        self.call("Input.insertText", json!({"text": text})).await;
    }

    /// Presses a button.
    pub(crate) async fn press(&self, selector: &str) {
        self.value(&format!("document.querySelector({}).click()", json!(selector))).await;
    }
}
