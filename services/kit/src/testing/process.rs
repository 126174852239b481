//! A service as a process of its own, for tests that kill it.

use std::{
    net::TcpListener,
    process::{Child, Command, Stdio},
};

/// A running process, killed when dropped.
pub struct Process(Child);

impl Process {
    /// Runs this; what it prints goes nowhere.
    pub fn spawn(command: &mut Command) -> Self {
        Self(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    /// Kills it and waits until it has ended.
    pub fn kill(&mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// A port at which nobody listens now.
pub fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}
