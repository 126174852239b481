//! Clients: what an application does in a pod, or a stranger outside.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::network::Namespace;

/// Nothing here takes longer unless it hangs.
const PATIENCE: Duration = Duration::from_secs(20);
const CONNECT: Duration = Duration::from_secs(5);

/// A connection from that namespace, whose reads do not wait for ever.
pub(crate) fn dial(from: &Namespace, to: &str) -> std::io::Result<TcpStream> {
    let to: SocketAddr = to.parse().unwrap();
    let stream = from.within(|| TcpStream::connect_timeout(&to, CONNECT))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// A GET of `/<path>` for that host: the whole answer, empty where there is none.
pub(crate) fn get(from: &Namespace, to: &str, host: &str, path: &str) -> String {
    let Ok(mut stream) = dial(from, to) else { return String::new() };
    let mut answer = Vec::new();
    let asked = write!(stream, "GET /{path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    if asked.is_ok() {
        drop(stream.read_to_end(&mut answer));
    }
    String::from_utf8_lossy(&answer).into_owned()
}

/// Status of a GET; 0 without an answer.
pub(crate) fn status(from: &Namespace, to: &str, host: &str) -> u16 {
    status_of(&get(from, to, host, ""))
}

pub(crate) fn status_of(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default()
}

/// What the other side says of itself before it is told anything.
pub(crate) fn listen(stream: &mut TcpStream, length: usize) -> String {
    let mut said = vec![0; length];
    let read = stream.read_exact(&mut said);
    read.map(|()| String::from_utf8_lossy(&said).into_owned()).unwrap_or_default()
}

/// Says something and hears as many bytes.
pub(crate) fn echo(stream: &mut TcpStream, bytes: &[u8]) -> Vec<u8> {
    let mut heard = vec![0; bytes.len()];
    match stream.write_all(bytes).and_then(|()| stream.read_exact(&mut heard)) {
        Ok(()) => heard,
        Err(_) => Vec::new(),
    }
}
