//! What this replica's proxies say, on its way to the replica that leads: it alone writes statuses, so it must know of
//! all proxies. The reconciler puts the newest in; while another leads, one stream to it carries what changed. The
//! leader's end is `server/replicas`.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream;
use http::Uri;
use hyper_util::rt::TokioIo;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};
use tracing::{debug, info};
use weft_api::names::{ALPN_H2, OPERATOR_ACCOUNT, OPERATOR_SERVER_NAME, PORT_OPERATOR, SYSTEM_NAMESPACE};
use weft_api::tls::peer_identity;
use weft_api::v1::replicas_client::ReplicasClient;
use weft_api::v1::{ForwardRequest, ProxyName, ProxyReport};
use weft_core::world::InstanceRef;

use crate::jwks::ClientTls;
use crate::latest::{Changed, Latest};
use crate::leader::Leadership;
use crate::publish::Progress;

/// For TCP and TLS together.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// After a stream that broke.
const AGAIN_AFTER: Duration = Duration::from_secs(1);
/// A leader that vanished without a word is noticed within the two together.
const PING_EVERY: Duration = Duration::from_secs(10);
const PONG_WITHIN: Duration = Duration::from_secs(5);
/// Most proxies in one message, far below what a message may hold.
const AT_ONCE: usize = 256;

/// What this replica's proxies say, shared by the reconciler and the stream.
pub(crate) type Reports = Latest<InstanceRef, Progress>;

/// Tells the leader, while that is another replica.
pub(crate) struct Forwarder {
    pub(crate) reports: Reports,
    pub(crate) leadership: Leadership,
    /// Of the operator's own identity.
    pub(crate) tls: ClientTls,
    /// As the Lease would name this replica, `<pod>_<address>`.
    pub(crate) me: String,
}

impl Forwarder {
    /// Tells whoever leads until `stopping`.
    pub(crate) async fn run(mut self, stopping: CancellationToken) {
        stopping.run_until_cancelled(self.forward()).await;
    }

    async fn forward(&mut self) {
        loop {
            let holder = self.leadership.holder();
            let leader = address(&holder).filter(|_| holder != self.me);
            let mut leadership = self.leadership.clone();
            tokio::select! {
                () = self.tell(leader, &holder) => tokio::time::sleep(AGAIN_AFTER).await,
                led = leadership.changed() => if led.is_err() { return },
            }
            self.leadership = leadership;
        }
    }

    /// Says everything, then what changes. Ends when the stream does; never where there is nobody to tell.
    async fn tell(&self, leader: Option<SocketAddr>, holder: &str) {
        let Some(leader) = leader else { return std::future::pending().await };
        let channel = match connect(leader, &self.tls).await {
            Ok(channel) => channel,
            Err(error) => {
                return debug!(holder, error = &error as &dyn std::error::Error, "no way to the leader yet");
            }
        };
        info!(holder, "what proxies say goes to the leader");
        self.reports.begin();
        let (reports, me) = (self.reports.clone(), self.me.clone());
        let messages = stream::unfold(true, move |first| {
            let (reports, me) = (reports.clone(), me.clone());
            async move { Some((next(&reports, &me, first).await, false)) }
        });
        if let Err(status) = ReplicasClient::new(channel).forward(messages).await {
            debug!(holder, code = ?status.code(), message = status.message(), "the leader hears no more");
        }
    }
}

/// The address in `<pod>_<address>`, with a port where it is not the usual one.
fn address(holder: &str) -> Option<SocketAddr> {
    let (_, address) = holder.rsplit_once('_')?;
    let usual = || address.parse::<IpAddr>().ok().map(|ip| SocketAddr::from((ip, PORT_OPERATOR)));
    address.parse().ok().or_else(usual)
}

async fn connect(leader: SocketAddr, tls: &ClientTls) -> Result<Channel, tonic::transport::Error> {
    let mut config = tls.load().as_ref().clone();
    config.alpn_protocols = vec![ALPN_H2.to_vec()];
    let connector = TlsConnector::from(Arc::new(config));
    let dial = move |_: Uri| {
        let connector = connector.clone();
        async move {
            let dialled = tokio::time::timeout(CONNECT_WITHIN, dial(leader, connector)).await;
            dialled.map_err(std::io::Error::other)?.map(TokioIo::new)
        }
    };
    Endpoint::from_static("http://operator")
        .connect_timeout(CONNECT_WITHIN)
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PONG_WITHIN)
        .keep_alive_while_idle(true)
        .connect_with_connector(tower::service_fn(dial))
        .await
}

async fn dial(leader: SocketAddr, connector: TlsConnector) -> std::io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect(leader).await?;
    let name = ServerName::try_from(OPERATOR_SERVER_NAME).expect("a constant DNS name");
    let stream = connector.connect(name, tcp).await?;
    let peer = peer_identity(stream.get_ref().1.peer_certificates()).map_err(std::io::Error::other)?;
    if (peer.namespace(), peer.account()) != (SYSTEM_NAMESPACE, OPERATOR_ACCOUNT) {
        return Err(std::io::Error::other(format!(
            "`{peer}` answers at {leader}, which is not the operator"
        )));
    }
    Ok(stream)
}

/// What there is to say next. The first message goes out even where that is nothing: it names this replica.
async fn next(reports: &Reports, replica: &str, first: bool) -> ForwardRequest {
    let said = if first { reports.take(AT_ONCE) } else { reports.next(AT_ONCE).await };
    message(replica, &said)
}

fn message(replica: &str, said: &[Changed<InstanceRef, Progress>]) -> ForwardRequest {
    let mut message = ForwardRequest { replica: replica.to_owned(), ..ForwardRequest::default() };
    for (proxy, progress) in said {
        match progress {
            Some(progress) => message.proxies.push(report(proxy, progress)),
            None => message.gone.push(name(proxy)),
        }
    }
    message
}

fn name(proxy: &InstanceRef) -> ProxyName {
    ProxyName { workload: proxy.workload.to_string(), instance: proxy.instance.clone() }
}

fn report(proxy: &InstanceRef, progress: &Progress) -> ProxyReport {
    ProxyReport {
        proxy: Some(name(proxy)),
        version: progress.proxy_version.clone(),
        synced: progress.synced,
        acked_version: progress.acked_version.clone(),
        refusal: progress.refusal.clone(),
        report: progress.report.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_core::world::Name;

    fn proxy(instance: &str) -> InstanceRef {
        InstanceRef::new(Name::new("shop", "order"), instance)
    }

    fn said_by(proxies: &[ProxyReport]) -> Vec<&str> {
        let proxies = proxies.iter().filter_map(|report| report.proxy.as_ref());
        proxies.map(|proxy| proxy.instance.as_str()).collect()
    }

    #[test]
    fn a_message_names_who_says_it_who_speaks_and_who_is_gone() {
        let said = [(proxy("a"), Some(Progress::default())), (proxy("b"), None)];
        let message = message("me", &said);
        assert_eq!(said_by(&message.proxies), ["a"]);
        assert_eq!((message.replica.as_str(), message.gone.as_slice()), ("me", &[name(&proxy("b"))][..]));
    }

    #[test]
    fn the_holder_says_where_it_is() {
        let usual = |ip: &str| ip.parse::<IpAddr>().ok().map(|ip| SocketAddr::from((ip, PORT_OPERATOR)));
        assert_eq!(address("weft-operator-7d_10.0.0.1"), usual("10.0.0.1"));
        assert_eq!(address("weft-operator-7d_fd00::1"), usual("fd00::1"));
        assert_eq!(address("a_b_127.0.0.1:7201"), "127.0.0.1:7201".parse().ok());
        for nowhere in ["", "weft-operator", "weft-operator_"] {
            assert_eq!(address(nowhere), None);
        }
    }
}
