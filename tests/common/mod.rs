//! Running examples, and programs of others that talk to them.

#![allow(dead_code, unreachable_pub, reason = "not every test uses everything")]

use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

/// The program of an example, which cargo has built beside this test; but for `cargo test --test ...`, which
/// builds no examples: there `cargo build --examples` with the same features goes first.
pub fn example(name: &str) -> Command {
    let test = std::env::current_exe().unwrap();
    let profile: PathBuf = test.ancestors().nth(2).unwrap().to_owned();
    Command::new(profile.join("examples").join(name))
}

/// A running example; it is ended when this is dropped.
pub struct Running {
    pub child: Child,
    lines: BufReader<ChildStdout>,
}

impl Running {
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line
    }

    /// Waits until it ends by itself, and returns what it printed after the lines that were read.
    pub fn finish(mut self) -> String {
        let mut rest = String::new();
        self.lines.read_to_string(&mut rest).unwrap();
        assert!(self.child.wait().unwrap().success(), "{rest}");
        rest
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Sends text with socat, and returns what came back.
pub fn socat(address: &str, text: &str) -> String {
    let mut socat = Command::new("socat")
        .args(["-t", "0.7", "-", address])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = socat.stdin.take().unwrap();
    // At once: socat reads no more while nobody takes what comes back.
    let output = std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(text.as_bytes()).unwrap());
        socat.wait_with_output().unwrap()
    });
    assert!(output.status.success(), "socat failed");
    String::from_utf8(output.stdout).unwrap()
}
