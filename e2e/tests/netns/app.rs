//! The application in a pod, and the stranger's: HTTP that tells what it sees, TCP that speaks first, TCP that echoes.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;

use super::network::Namespace;

/// What a server that speaks first says.
pub(crate) const GREETING: &str = "220 ready\r\n";

/// Answers every request with the address it was reached at and the request's head.
pub(crate) fn http(namespace: &Namespace, port: u16) {
    serve(namespace, port, |mut stream| {
        let mut seen = Vec::new();
        let mut buffer = [0; 4096];
        while !seen.windows(4).any(|end| end == b"\r\n\r\n") {
            match stream.read(&mut buffer) {
                Ok(0) | Err(_) => return,
                Ok(count) => seen.extend_from_slice(&buffer[..count]),
            }
        }
        let mut body = String::new();
        let local = stream.local_addr().unwrap();
        let local = SocketAddr::new(local.ip().to_canonical(), local.port());
        write!(body, "local={local}\n{}", String::from_utf8_lossy(&seen)).unwrap();
        let length = body.len();
        drop(write!(
            stream,
            "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
        ));
    });
}

/// Greets before it reads, then sends back what it gets.
pub(crate) fn server_first(namespace: &Namespace, port: u16) {
    serve(namespace, port, |mut stream| {
        if stream.write_all(GREETING.as_bytes()).is_ok() {
            send_back(stream);
        }
    });
}

/// Sends back what it gets.
pub(crate) fn echo(namespace: &Namespace, port: u16) {
    serve(namespace, port, send_back);
}

fn send_back(mut stream: TcpStream) {
    let mut buffer = [0; 4096];
    while let Ok(count) = stream.read(&mut buffer) {
        if count == 0 || stream.write_all(&buffer[..count]).is_err() {
            return;
        }
    }
}

/// Listens on every address of the namespace, for as long as this process lives.
fn serve(namespace: &Namespace, port: u16, handle: impl Fn(TcpStream) + Send + Sync + 'static) {
    let handle = Arc::new(handle);
    let listener = namespace.within(|| TcpListener::bind(("::", port)).unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let handle = Arc::clone(&handle);
            std::thread::spawn(move || handle(stream));
        }
    });
}
