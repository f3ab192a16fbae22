//! A server under test, and connections to it.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use bypass_core::testing::needs::skip_because;

use crate::common::{descriptors_for, example};

/// Not the default, which with all features moves nothing over loopback.
const UDP: &str = "udp+uring://127.0.0.1:{port}?reuse_port=true";

/// How long an answer may take on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Arguments, with a backend for UDP where none is chosen.
fn with_udp<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    let chosen = arguments.iter().any(|argument| matches!(*argument, "--udp" | "--front"));
    let udp = if chosen { &[][..] } else { &["--udp", UDP] };
    [udp, arguments].concat()
}

/// A running server; it is killed when this is dropped.
pub(crate) struct Server {
    child: Child,
    /// What the example prints.
    lines: Option<BufReader<ChildStdout>>,
    pub(crate) address: SocketAddr,
    pub(crate) greeting: String,
}

impl Server {
    /// The example, on a port that the kernel chooses.
    pub(crate) fn kv(arguments: &[&str]) -> Self {
        Self::kv_at("127.0.0.1:0", &with_udp(arguments))
    }

    /// The example, at this address.
    pub(crate) fn kv_at(address: &str, arguments: &[&str]) -> Self {
        Self::start(example("kv"), address, arguments)
    }

    /// The example, which may have descriptors below this number.
    pub(crate) fn kv_with_descriptors(most: usize, arguments: &[&str]) -> Self {
        let mut command = Command::new("prlimit");
        command.arg(format!("--nofile={most}")).arg(example("kv").get_program());
        Self::start(command, "127.0.0.1:0", &with_udp(arguments))
    }

    fn start(mut command: Command, address: &str, arguments: &[&str]) -> Self {
        let mut child = command
            .arg(address)
            // On a busy machine the pieces of a request come slowly.
            .args(["--patience", "600"])
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut greeting = String::new();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        lines.read_line(&mut greeting).unwrap();
        let address = greeting.split_once("tcp ").and_then(|(_, rest)| rest.split_once(','));
        let (address, _) = address.unwrap_or_else(|| panic!("it says {greeting:?}"));
        Self { address: address.parse().unwrap(), child, lines: Some(lines), greeting }
    }

    /// memcached, with UDP.
    pub(crate) fn memcached() -> Self {
        // It cannot be asked to choose a port for both; one that was free a moment ago seldom is not.
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let port = free.port().to_string();
        let arguments = ["-l", "127.0.0.1", "-p", &port, "-U", &port, "-t", "1", "-u", "nobody"];
        let child = Command::new("memcached").args(arguments).spawn().unwrap();
        let server = Self { child, lines: None, address: free, greeting: String::new() };
        let begin = Instant::now();
        while TcpStream::connect(free).is_err() {
            assert!(begin.elapsed() < PATIENCE, "memcached does not listen");
            std::thread::sleep(Duration::from_millis(5));
        }
        server
    }

    pub(crate) fn connect(&self) -> Connection {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Connection(stream)
    }

    /// A socket for datagrams to it.
    pub(crate) fn datagrams(&self) -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(self.address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    }

    /// Kills it, as `kill -9` does.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Ends the example, as Ctrl-C does, and returns its report.
    #[cfg_attr(not(feature = "dpdk"), expect(dead_code, reason = "only tests on DPDK read it"))]
    pub(crate) fn report(mut self) -> String {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
        let mut report = String::new();
        self.lines.take().unwrap().read_to_string(&mut report).unwrap();
        assert!(self.child.wait().unwrap().success(), "{report}");
        report
    }

    /// The number below which it has so many descriptors left.
    pub(crate) fn descriptors_for(&self, more: usize) -> usize {
        descriptors_for(self.child.id(), more)
    }

    /// Bytes of memory that it has had at the most.
    pub(crate) fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        peak.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// A figure of its statistics.
    pub(crate) fn stat(&self, name: &str) -> u64 {
        let text = self.connect().ask_until("stats\r\n", "END\r\n");
        let line = text.lines().find_map(|line| line.strip_prefix("STAT ")?.strip_prefix(name));
        line.unwrap_or_else(|| panic!("no {name} in {text}")).trim().parse().unwrap()
    }

    /// Waits until what was acknowledged so far is on the disk: not the time is awaited but the log, two
    /// commits, of which the second began after it.
    pub(crate) fn await_commit(&self, connection: &mut Connection) {
        let commits = self.stat("log_commits");
        for more in 1..=2 {
            connection.ask_until("set later 0 0 1\r\nx\r\n", "STORED\r\n");
            self.await_stat("log_commits", |n| n >= commits + more);
        }
    }

    /// Waits until a figure is as it should be.
    pub(crate) fn await_stat(&self, name: &str, right: impl Fn(u64) -> bool) {
        let begin = Instant::now();
        loop {
            let value = self.stat(name);
            if right(value) {
                return;
            }
            assert!(begin.elapsed() < PATIENCE, "{name} is still {value}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have been killed already.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// A connection to a server.
pub(crate) struct Connection(TcpStream);

impl Connection {
    pub(crate) fn send(&mut self, request: &[u8]) {
        self.0.write_all(request).unwrap();
    }

    /// Sends, and reads up to `end`.
    pub(crate) fn ask_until(&mut self, request: &str, end: &str) -> String {
        self.send(request.as_bytes());
        String::from_utf8(self.read_until(end.as_bytes())).unwrap()
    }

    pub(crate) fn read_until(&mut self, end: &[u8]) -> Vec<u8> {
        let mut text = Vec::new();
        self.try_read_until(end, &mut text).unwrap_or_else(|error| {
            panic!("{error} after {:?}", String::from_utf8_lossy(&text));
        });
        text
    }

    pub(crate) fn try_read_until(&mut self, end: &[u8], text: &mut Vec<u8>) -> std::io::Result<()> {
        let mut buffer = [0; 65536];
        while !text.ends_with(end) {
            let length = match self.0.read(&mut buffer) {
                // A ring that this thread closed ends later, in the kernel, and interrupts it then.
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                read => read?,
            };
            if length == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
            text.extend_from_slice(&buffer[..length]);
        }
        Ok(())
    }

    /// The connection, where no call waits any more.
    pub(crate) fn without_blocking(self) -> Self {
        self.0.set_nonblocking(true).unwrap();
        self
    }

    /// Sends what there is room for, and returns how much that was; nothing once it has been closed.
    pub(crate) fn send_some(&mut self, bytes: &[u8]) -> usize {
        self.0.write(bytes).unwrap_or(0)
    }

    /// What has come by now.
    pub(crate) fn read_what_is_there(&mut self) -> Vec<u8> {
        let mut text = Vec::new();
        // Until it would wait, or the end.
        let _end = self.0.read_to_end(&mut text);
        text
    }

    /// Asks for the statistics until they have this line.
    pub(crate) fn until_stats_say(&mut self, line: &str) {
        let begin = Instant::now();
        loop {
            let stats = self.ask_until("stats\r\n", "END\r\n");
            if stats.contains(line) {
                return;
            }
            assert!(begin.elapsed() < PATIENCE, "{line} is not in {stats}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Another handle of it.
    pub(crate) fn clone_for_reading(&self) -> Self {
        Self(self.0.try_clone().unwrap())
    }

    pub(crate) fn read_some(&mut self) -> Vec<u8> {
        let mut buffer = vec![0; 65536];
        let length = self.0.read(&mut buffer).unwrap();
        assert!(length > 0, "the server has closed the connection");
        buffer.truncate(length);
        buffer
    }

    /// Reads what comes next; false at the end.
    pub(crate) fn try_read_some(&mut self, text: &mut Vec<u8>) -> bool {
        let mut buffer = [0; 4096];
        let length = self.0.read(&mut buffer).unwrap_or(0);
        text.extend_from_slice(&buffer[..length]);
        length > 0
    }

    pub(crate) fn try_send(&mut self, request: &[u8]) -> std::io::Result<()> {
        self.0.write_all(request)
    }
}

/// A folder on a disk that goes with the test.
pub(crate) struct Scratch(pub(crate) PathBuf);

impl Scratch {
    pub(crate) fn new(name: &str) -> Self {
        let test = std::env::current_exe().unwrap();
        let mut path = test.with_file_name(format!("kv-{name}-{}", std::process::id()));
        if std::fs::create_dir_all(&path).is_err() {
            path = std::env::temp_dir().join(path.file_name().unwrap());
            std::fs::create_dir_all(&path).unwrap();
        }
        Self(path)
    }

    pub(crate) fn path(&self) -> &str {
        self.0.to_str().unwrap()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        std::fs::remove_dir_all(&self.0).unwrap();
    }
}

/// Whether the test is skipped because there are fewer cores.
pub(crate) fn lacks_cores(least: usize) -> bool {
    let cores = bypass_core::worker::available_cores().unwrap().len();
    if cores < least {
        skip_because(&format!("needs {least} cores, there are {cores}"));
    }
    cores < least
}
