//! Where the shop's messages end on one machine, in a demo and in tests: an SMTP server, and a provider of SMS and push
//! messages over HTTP. It keeps what it is sent and shows it; nothing leaves it.
//!
//! A message that comes again under the same id is kept once, with the number of times it was delivered: so a test can
//! tell that nobody would have been told twice, and how often it was tried. Addresses that begin with `bounce` do not
//! exist here, for those who want to see what happens then.

pub mod http;
pub mod messages;
pub mod settings;
pub mod smtp;

use std::{future::IntoFuture as _, io, sync::Arc};

use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::messages::Messages;

/// The two sockets of a mailbox.
pub struct Listeners {
    /// Messages to look at, and the provider of SMS and push.
    pub http: TcpListener,
    /// Mail.
    pub smtp: TcpListener,
}

/// Takes messages until told to stop.
pub async fn serve(
    messages: Arc<Messages>,
    listeners: Listeners,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let conversations = TaskTracker::new();
    let router = http::router(messages.clone());
    let http = axum::serve(listeners.http, router).with_graceful_shutdown(shutdown.clone().cancelled_owned());
    let smtp = smtp::serve(listeners.smtp, messages, &conversations, &shutdown);
    let served = tokio::try_join!(http.into_future(), smtp);
    conversations.close();
    conversations.wait().await;
    served.map(|((), ())| ())
}
