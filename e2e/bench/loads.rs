//! What is sent: every load with the table it fills. The order here is the order of the report.

use std::time::Duration;

use crate::report::Metric;

/// One load, and the table that its measurements make.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    /// Names it on the command line and its plot's file.
    pub(crate) key: &'static str,
    pub(crate) title: &'static str,
    pub(crate) shape: Shape,
    /// Length of every answer's body.
    pub(crate) answer: usize,
    pub(crate) columns: &'static [Metric],
    /// What the plot shows, one panel each.
    pub(crate) plotted: &'static [Metric],
}

/// How it is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Shape {
    /// HTTP/1.1, keep-alive: the next request of a connection when the answer is there.
    Closed { connections: usize },
    /// HTTP/1.1, keep-alive, at so many requests per second of all connections together.
    Fixed { connections: usize, rate: u64 },
    /// HTTP/2 by prior knowledge: so many streams always open on each connection.
    Streams { connections: usize, streams: usize, grpc: bool },
    /// A connection per request, so many at a time.
    Connections { at_once: usize, tls: Option<Handshake> },
    /// Connections that were upgraded and say nothing.
    WebSockets { count: usize },
}

/// How a client begins TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Handshake {
    /// Certificate and signature every time.
    Full,
    /// By the ticket of an earlier session.
    Resumed,
}

/// Where on a path a load enters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// Plain HTTP/1.1.
    Http1,
    /// Plain HTTP/2.
    Http2,
    /// Plain HTTP/2 that carries gRPC.
    Grpc,
    /// HTTP/1.1 over TLS, without client certificate.
    Tls,
    /// HTTP/1.1 that leads to the WebSocket origin.
    WebSocket,
}

impl Load {
    pub(crate) fn entry(&self) -> Entry {
        match self.shape {
            Shape::Closed { .. } | Shape::Fixed { .. } | Shape::Connections { tls: None, .. } => Entry::Http1,
            Shape::Streams { grpc: false, .. } => Entry::Http2,
            Shape::Streams { grpc: true, .. } => Entry::Grpc,
            Shape::Connections { tls: Some(_), .. } => Entry::Tls,
            Shape::WebSockets { .. } => Entry::WebSocket,
        }
    }

    /// Path of the request target.
    pub(crate) fn path(&self) -> &'static str {
        if self.answer == MIB { "/1m" } else { "/" }
    }

    /// The same entry with little traffic: to see whether a path answers, and to warm it up.
    pub(crate) fn probe(self) -> Self {
        let shape = match self.shape {
            Shape::Closed { .. } | Shape::Fixed { .. } => Shape::Closed { connections: 1 },
            Shape::Streams { grpc, .. } => Shape::Streams { connections: 1, streams: 1, grpc },
            Shape::Connections { .. } => Shape::Connections { at_once: 1, tls: self.full_handshake() },
            Shape::WebSockets { .. } => Shape::WebSockets { count: 1 },
        };
        Self { shape, ..self }
    }

    fn full_handshake(self) -> Option<Handshake> {
        (self.entry() == Entry::Tls).then_some(Handshake::Full)
    }
}

/// How long each measurement takes where nothing else is asked for.
pub(crate) const SECONDS: Duration = Duration::from_secs(3);
const KIB: usize = 1024;
const MIB: usize = 1024 * 1024;

const FLOW: &[Metric] =
    &[Metric::Rate, Metric::P50, Metric::P99, Metric::P999, Metric::Cpu, Metric::Memory, Metric::Others];
const PACED: &[Metric] = &[
    Metric::P50,
    Metric::P99,
    Metric::P999,
    Metric::AddedP50,
    Metric::AddedP99,
    Metric::Cpu,
    Metric::Memory,
    Metric::Others,
];
const OPENED: &[Metric] =
    &[Metric::Rate, Metric::P50, Metric::P99, Metric::Cpu, Metric::Memory, Metric::Others];
const HELD: &[Metric] = &[Metric::Idle, Metric::Memory, Metric::PerSocket, Metric::Others];
const RATE_AND_CPU: &[Metric] = &[Metric::Rate, Metric::Cpu];
const ADDED_AND_CPU: &[Metric] = &[Metric::AddedP50, Metric::AddedP99, Metric::Cpu];

/// All of them.
pub(crate) const ALL: [Load; 12] = [
    closed("closed-1", "HTTP/1.1, 1 connection, 1 KiB answers", 1, KIB),
    closed("closed-32", "HTTP/1.1, 32 connections, 1 KiB answers", 32, KIB),
    closed("closed-256", "HTTP/1.1, 256 connections, 1 KiB answers", 256, KIB),
    fixed("fixed-2000", "HTTP/1.1 at a fixed 2,000 requests/s on 32 connections, 1 KiB answers", 2000),
    fixed("fixed-5000", "HTTP/1.1 at a fixed 5,000 requests/s on 32 connections, 1 KiB answers", 5000),
    streams("http2-512", "HTTP/2, 512 streams on 16 connections, 1 KiB answers", false),
    streams("grpc-512", "gRPC unary, 512 streams on 16 connections, 1 KiB answers", true),
    closed("bodies-1m", "HTTP/1.1, 16 connections, 1 MiB answers", 16, MIB),
    opened("connections-plain", "A new plain connection per request, 32 at a time, 1 KiB answers", None),
    opened(
        "connections-tls-full",
        "A new TLS 1.3 connection per request, full handshake, 32 at a time, 1 KiB answers",
        Some(Handshake::Full),
    ),
    opened(
        "connections-tls-resumed",
        "A new TLS 1.3 connection per request, resumed session, 32 at a time, 1 KiB answers",
        Some(Handshake::Resumed),
    ),
    Load {
        key: "websockets-1000",
        title: "1,000 idle WebSockets",
        shape: Shape::WebSockets { count: 1000 },
        answer: 0,
        columns: HELD,
        plotted: &[Metric::Memory, Metric::PerSocket],
    },
];

const fn closed(key: &'static str, title: &'static str, connections: usize, answer: usize) -> Load {
    Load { key, title, shape: Shape::Closed { connections }, answer, columns: FLOW, plotted: RATE_AND_CPU }
}

const fn fixed(key: &'static str, title: &'static str, rate: u64) -> Load {
    let shape = Shape::Fixed { connections: 32, rate };
    Load { key, title, shape, answer: KIB, columns: PACED, plotted: ADDED_AND_CPU }
}

const fn streams(key: &'static str, title: &'static str, grpc: bool) -> Load {
    let shape = Shape::Streams { connections: 16, streams: 32, grpc };
    Load { key, title, shape, answer: KIB, columns: FLOW, plotted: RATE_AND_CPU }
}

const fn opened(key: &'static str, title: &'static str, tls: Option<Handshake>) -> Load {
    let shape = Shape::Connections { at_once: 32, tls };
    Load { key, title, shape, answer: KIB, columns: OPENED, plotted: RATE_AND_CPU }
}
