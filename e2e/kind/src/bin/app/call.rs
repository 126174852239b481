//! Requests and their answers.

use std::process::ExitCode;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Response, Uri};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use weft_e2e_kind::wire::Answer;

use crate::print;

/// What `call` is told.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Where to: `http://host:port/path`.
    url: Uri,
    /// Method.
    #[arg(short = 'X', long, default_value = "GET")]
    method: Method,
    /// A header, `name: value`; may be repeated.
    #[arg(short = 'H', long = "header")]
    headers: Vec<String>,
    /// Body.
    #[arg(short, long, default_value = "")]
    data: String,
    /// How often, one after the other; each answer is a line.
    #[arg(long, default_value_t = 1)]
    times: u32,
    /// Fail unless every answer has this status.
    #[arg(long)]
    expect: Option<u16>,
    /// Longest time for one request, in seconds.
    #[arg(long, default_value_t = 15)]
    timeout: u64,
}

/// A client whose connections are kept and used again, or closed after each request.
pub(crate) type HttpClient = Client<HttpConnector, Full<Bytes>>;

pub(crate) fn client(keep: bool) -> HttpClient {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let mut builder = Client::builder(TokioExecutor::new());
    builder.pool_timer(TokioTimer::new());
    if !keep {
        builder.pool_max_idle_per_host(0);
    }
    builder.build(connector)
}

/// Sends requests and prints the answers. The first connection is made at once: this is also the application that dials
/// at its first instruction.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let client = client(true);
    let mut met = true;
    for _ in 0..args.times {
        let answer = match request(&args) {
            Ok(request) => send(&client, request, Duration::from_secs(args.timeout)).await,
            Err(error) => Answer { error: Some(format!("{error:#}")), ..Answer::default() },
        };
        met &= args.expect.is_none_or(|status| answer.status == Some(status));
        print(&answer)?;
    }
    Ok(if met { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn request(args: &Args) -> anyhow::Result<Request<Full<Bytes>>> {
    let mut request = Request::new(Full::new(Bytes::from(args.data.clone())));
    *request.method_mut() = args.method.clone();
    *request.uri_mut() = args.url.clone();
    for header in &args.headers {
        let (name, value) =
            header.split_once(':').ok_or_else(|| anyhow::anyhow!("`{header}` is not `name: value`"))?;
        let name = HeaderName::try_from(name.trim())?;
        request.headers_mut().append(name, HeaderValue::try_from(value.trim())?);
    }
    Ok(request)
}

/// One request and the whole of its answer.
pub(crate) async fn send(client: &HttpClient, request: Request<Full<Bytes>>, within: Duration) -> Answer {
    let exchange = async {
        let response = client.request(request).await.map_err(|error| chain(&error))?;
        answer(response).await.map_err(|error| chain(&error))
    };
    let failed = |error: String| Answer { error: Some(error), ..Answer::default() };
    match tokio::time::timeout(within, exchange).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(error)) => failed(error),
        Err(_) => failed(format!("no answer within {within:?}")),
    }
}

async fn answer(response: Response<Incoming>) -> Result<Answer, hyper::Error> {
    let (head, body) = response.into_parts();
    let headers = head.headers.iter().map(|(name, value)| {
        (name.as_str().to_owned(), String::from_utf8_lossy(value.as_bytes()).into_owned())
    });
    let headers = headers.collect();
    let body = String::from_utf8_lossy(&body.collect().await?.to_bytes()).into_owned();
    Ok(Answer { status: Some(head.status.as_u16()), headers, body, error: None })
}

/// An error with its causes, in one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
