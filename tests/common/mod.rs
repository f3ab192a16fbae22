//! Running examples, and programs of others that talk to them.

#![allow(dead_code, unreachable_pub, reason = "not every test uses everything")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use bypass_core::testing::needs::skip_because;

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

    /// As Ctrl-C does.
    pub fn interrupt(&self) {
        let kill = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status();
        assert!(kill.unwrap().success());
    }

    /// Waits until it has said what Ctrl-C shall do.
    pub fn await_handler(&mut self) {
        const SIGINT: u32 = 2;
        let status = format!("/proc/{}/status", self.child.id());
        loop {
            assert!(self.child.try_wait().unwrap().is_none(), "it has ended");
            let text = std::fs::read_to_string(&status).unwrap();
            let caught = text.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
            if u64::from_str_radix(caught.trim(), 16).unwrap() & 1 << (SIGINT - 1) != 0 {
                return;
            }
            std::thread::yield_now();
        }
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

/// A second of the example `market_data`: what it says of each backend.
pub fn market_data(more: &[&str]) -> Vec<serde_json::Value> {
    let arguments = ["--rate", "20000", "--seconds", "1", "--json"];
    let output = example("market_data").args(arguments).args(more).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let why = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{text}{why}");
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// `market_data` and `order_sender` run on the backend that the features chose, and lose nothing uncounted.
pub fn feed_and_orders_run_on(backend: &str) {
    let rows = market_data(&[]);
    let backends: Vec<_> = rows.iter().map(|row| row["backend"].as_str().unwrap()).collect();
    assert_eq!(backends, ["socket", backend]);
    for row in rows {
        assert_eq!(row["adds_up"], true, "{row}");
        assert!(row["received"].as_u64().unwrap() > 0, "{row}");
    }
    let output = example("order_sender").args(["--orders", "500"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("500 orders sent, 500 acknowledged"), "{text}");
}

/// What a script in `tests/market` prints about an ITCH file, with meatpy, which reads and writes such;
/// `None` where it is not installed, and that has been said.
pub fn meatpy(script: &str, file: &Path) -> Option<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let python = root.join("target/python");
    // What setup writes last.
    if !python.join("complete").exists() {
        skip_because("no meatpy: `cargo xtask setup` installs it");
        return None;
    }
    let script = root.join("tests/market").join(script);
    let output = Command::new(python.join("bin/python")).arg(script).arg(file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(output.stdout)
}

/// The blocks of an ITCH file but for those of type `O`, in which meatpy 0.5 expects a price more than the
/// specification has.
pub fn without_direct_listings(mut day: &[u8]) -> Vec<&[u8]> {
    let mut blocks = Vec::new();
    while let Some((length, _)) = day.split_first_chunk() {
        let (block, rest) = day.split_at(2 + usize::from(u16::from_be_bytes(*length)));
        blocks.extend((block[2] != b'O').then_some(block));
        day = rest;
    }
    blocks
}

/// Starts a server on connections with descriptors for two of them, and has five come, of which each has an answer in
/// its turn. `address` says where it listens, `ask` has it answer.
pub fn starve(
    command: &Command,
    address: impl Fn(&mut Running) -> SocketAddr,
    ask: impl Fn(&mut TcpStream),
) -> Running {
    let connect = |address| {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream
    };
    let start = |most: &str| {
        let mut limited = Command::new("prlimit");
        limited.arg(format!("--nofile={most}")).arg(command.get_program());
        let mut server = Running::start(limited.args(command.get_args()));
        let address = address(&mut server);
        (server, address)
    };
    let (server, place) = start("1024");
    let mut first = connect(place);
    ask(&mut first);
    // Everything is open now, and a connection.
    let most = descriptors_for(server.child.id(), 1);
    drop((first, server));
    let (server, place) = start(&most.to_string());
    let streams: Vec<_> = (0..5).map(|_| connect(place)).collect();
    for mut stream in streams {
        ask(&mut stream);
    }
    server
}

/// The number below which a process has so many descriptors left.
pub fn descriptors_for(process: u32, more: usize) -> usize {
    let open = std::fs::read_dir(format!("/proc/{process}/fd")).unwrap();
    let name = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().file_name();
    let open: Vec<usize> =
        open.map(|entry| name(entry).into_string().unwrap().parse().unwrap()).collect();
    (0..).filter(|number| !open.contains(number)).nth(more).unwrap()
}
