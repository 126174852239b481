//! A stand-in for the operator, a proxy and a service, for tests of the supervisor: answers every request with 200 on
//! the address that whoever it stands in for would serve. `GET /exit` ends it with code 3. Not part of the product.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let flag = |name: &str| args.iter().position(|arg| arg == name).and_then(|at| args.get(at + 1)).cloned();
    let env = |name: &str| std::env::vars().find(|(key, _)| key == name).map(|(_, value)| value);
    if let (Some(admin), Some(state)) = (flag("--admin-addr"), flag("--state")) {
        std::fs::write(format!("{state}/roots.pem"), "stand-in\n").expect("the state folder can be written");
        serve(&admin);
    } else if let (Some(health), Some(admin)) = (env("WEFT_HEALTH_ADDR"), env("WEFT_ADMIN_ADDR")) {
        std::thread::spawn(move || serve(&admin));
        serve(&health);
    } else {
        serve(&flag("--listen").expect("--listen ADDR"));
    }
}

fn serve(address: &str) {
    let listener = TcpListener::bind(address).expect("the address can be bound");
    for stream in listener.incoming().flatten() {
        answer(stream);
    }
}

fn answer(mut stream: TcpStream) {
    let mut head = Vec::new();
    let mut piece = [0; 1024];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        match stream.read(&mut piece) {
            Ok(0) | Err(_) => return,
            Ok(read) => head.extend(piece.iter().take(read)),
        }
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let path = head.split(' ').nth(1).unwrap_or_default();
    let body = format!("{{\"version\":\"stub\",\"path\":\"{path}\"}}");
    let answer =
        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len());
    // Whoever hung up does not want the answer.
    drop(stream.write_all(answer.as_bytes()));
    if path == "/exit" {
        #[expect(clippy::exit, reason = "this is what the path is for")]
        std::process::exit(3);
    }
}
