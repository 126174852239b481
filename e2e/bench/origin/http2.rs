//! An HTTP/2 origin that answers everything with 1 KiB: a stream that ends with its head as plain HTTP, one that ends with
//! a body as a unary gRPC call. What was asked does not matter, so header blocks are not even read.

use std::collections::VecDeque;

use anyhow::{Result, ensure};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::frames::{self, Frame, Indexing, Input};

const ANSWER: usize = 1024;
/// What a connection may send without being told again.
const WINDOW: u32 = 1 << 30;

/// Serves a connection until it is closed.
pub(super) async fn serve(mut stream: TcpStream) -> Result<()> {
    let mut input = Input::new();
    let mut connection = Connection::new();
    let mut greeted = false;
    loop {
        stream.write_all(&connection.output).await?;
        connection.output.clear();
        if !input.read(&mut stream).await? {
            return Ok(());
        }
        if !greeted {
            let Some(preface) = input.take(frames::PREFACE.len()) else { continue };
            ensure!(preface == frames::PREFACE, "not HTTP/2");
            greeted = true;
        }
        while let Some(frame) = input.frame()? {
            connection.take(&frame)?;
        }
        connection.answer();
    }
}

struct Connection {
    output: Vec<u8>,
    window: i64,
    /// Streams that wait for their answer; whether they are gRPC.
    asked: VecDeque<(u32, bool)>,
    plain: Answer,
    grpc: Answer,
}

struct Answer {
    head: Vec<u8>,
    body: Vec<u8>,
    trailers: Option<Vec<u8>>,
}

impl Connection {
    fn new() -> Self {
        let mut output = Vec::new();
        frames::write_settings(&mut output, &[(frames::MAX_CONCURRENT_STREAMS, 1024)]);
        frames::write(&mut output, frames::WINDOW_UPDATE, 0, 0, &WINDOW.to_be_bytes());
        Self {
            output,
            window: frames::FIRST_WINDOW,
            asked: VecDeque::new(),
            plain: Answer::plain(),
            grpc: Answer::grpc(),
        }
    }

    fn take(&mut self, frame: &Frame<'_>) -> Result<()> {
        match frame.kind {
            frames::HEADERS | frames::DATA if frame.has(frames::END_STREAM) => {
                self.asked.push_back((frame.stream, frame.kind == frames::DATA));
            }
            frames::SETTINGS if !frame.has(frames::ACK) => {
                let small = frame
                    .settings()
                    .any(|(name, value)| name == frames::INITIAL_WINDOW_SIZE && (value as usize) < ANSWER);
                ensure!(!small, "an answer does not fit into a stream's window");
                frames::write(&mut self.output, frames::SETTINGS, frames::ACK, 0, &[]);
            }
            frames::PING if !frame.has(frames::ACK) => {
                frames::write(&mut self.output, frames::PING, frames::ACK, 0, frame.payload);
            }
            frames::WINDOW_UPDATE if frame.stream == 0 => self.window += frame.increment()?,
            _ => {}
        }
        Ok(())
    }

    /// Answers in the order of asking, as far as the window allows.
    fn answer(&mut self) {
        while self.window >= ANSWER as i64
            && let Some((stream, grpc)) = self.asked.pop_front()
        {
            let answer = if grpc { &self.grpc } else { &self.plain };
            let out = &mut self.output;
            frames::write(out, frames::HEADERS, frames::END_HEADERS, stream, &answer.head);
            let end = if answer.trailers.is_some() { 0 } else { frames::END_STREAM };
            frames::write(out, frames::DATA, end, stream, &answer.body);
            if let Some(trailers) = &answer.trailers {
                let flags = frames::END_HEADERS | frames::END_STREAM;
                frames::write(out, frames::HEADERS, flags, stream, trailers);
            }
            self.window -= ANSWER as i64;
        }
    }
}

impl Answer {
    fn plain() -> Self {
        // 0x88: `:status: 200`.
        let mut head = vec![0x88];
        frames::write_field(&mut head, Indexing::Leave, 31, "", "text/plain");
        frames::write_field(&mut head, Indexing::Leave, 28, "", "1024");
        Self { head, body: vec![b'x'; ANSWER], trailers: None }
    }

    fn grpc() -> Self {
        let mut head = vec![0x88];
        frames::write_field(&mut head, Indexing::Leave, 31, "", "application/grpc");
        let mut trailers = Vec::new();
        frames::write_field(&mut trailers, Indexing::Leave, 0, "grpc-status", "0");
        // One message: not compressed, its length, itself.
        let mut body = vec![0, 0, 0, 3, 251];
        body.resize(ANSWER, b'x');
        Self { head, body, trailers: Some(trailers) }
    }
}
