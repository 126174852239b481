//! The program itself: what it prints, and how it ends.

#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

use std::process::{Output, Stdio};

use serde_json::Value;
use shop_kit::testing::{Http, database};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

const PROGRAM: &str = env!("CARGO_BIN_EXE_shop-user");

fn program(settings: &[(&str, &str)]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.envs(settings.iter().copied()).stdin(Stdio::null()).kill_on_drop(true);
    command
}

async fn line(lines: &mut Lines<BufReader<ChildStdout>>, message: &str) -> Value {
    loop {
        let text = lines.next_line().await.unwrap().unwrap_or_else(|| panic!("no line says {message}"));
        let entry: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("not JSON: {text}"));
        if entry["message"] == message {
            return entry;
        }
    }
}

async fn started(database: &str) -> (Child, Lines<BufReader<ChildStdout>>, Http) {
    let settings = [("HTTP_ADDR", "127.0.0.1:0"), ("GRPC_ADDR", "127.0.0.1:0"), ("DATABASE_URL", database)];
    let mut child = program(&settings).env("INSTANCE", "user-7").stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let address = line(&mut lines, "listening").await["http"].as_str().unwrap().to_owned();
    line(&mut lines, "ready").await;
    (child, lines, Http::new(format!("http://{address}")))
}

#[tokio::test]
async fn a_request_is_one_line_of_json_and_a_signal_ends_the_program_well() {
    for signal in ["TERM", "INT"] {
        let (mut child, mut lines, http) = started(&database().await).await;
        let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let secret = "/users/me?token=hunter2";
        http.header("traceparent", trace).header("x-request-id", "r1").get(secret).await;
        let entry = line(&mut lines, "request").await;
        for (field, expect) in [
            ("trace_id", "4bf92f3577b34da6a3ce929d0e0e4736"),
            ("request_id", "r1"),
            ("method", "GET"),
            ("path", "/users/me"),
            ("status", "401"),
            ("instance", "user-7"),
        ] {
            assert_eq!(entry[field], expect, "{entry}");
        }
        assert!(entry["duration_ms"].is_f64(), "{entry}");
        assert!(!entry.to_string().contains("hunter2"), "{entry}");

        let pid = child.id().unwrap().to_string();
        assert!(Command::new("kill").args(["-s", signal, &pid]).status().await.unwrap().success());
        line(&mut lines, "stopped").await;
        assert!(child.wait().await.unwrap().success());
    }
}

#[tokio::test]
async fn all_bad_settings_are_named_and_nothing_is_started() {
    let settings = [("HTTP_ADDR", "nowhere"), ("TOKEN_LIFETIME", "15"), ("LOG_FORMAT", "xml")];
    let Output { status, stderr, stdout } =
        program(&settings).env_remove("DATABASE_URL").output().await.unwrap();
    assert_eq!((status.code(), stdout.len()), (Some(2), 0));
    let text = String::from_utf8(stderr).unwrap();
    for name in ["HTTP_ADDR: ", "TOKEN_LIFETIME: ", "LOG_FORMAT: ", "DATABASE_URL: is required"] {
        assert!(text.contains(name), "{name} is missing in {text}");
    }
}
