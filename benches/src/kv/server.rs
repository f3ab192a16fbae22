//! The servers, in processes of their own.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};

use serde::{Deserialize, Serialize};

use super::workload::{self, KEYS, Workload};
use crate::cable::Receiver;
use crate::child;

const PORT: u16 = 11211;
const CORE: &str = "0";
/// How long a server may take to begin.
const PATIENCE: Duration = Duration::from_secs(10);
/// MiB for items: all of them stay.
const MEMORY: &str = "512";

const ADDRESS: &str = "ADDRESS";

/// It never sleeps; its driver's system calls are not counted.
const DPDK: &str = "DPDK net_af_packet";

pub(super) struct Contestant {
    pub(super) name: &'static str,
    pub(super) ours: bool,
    /// How ours is started, with [`ADDRESS`] for its address; memcached has its own way.
    arguments: Option<&'static [&'static str]>,
}

const fn ours(name: &'static str, arguments: &'static [&'static str]) -> Contestant {
    Contestant { name, ours: true, arguments: Some(arguments) }
}

pub(super) const SERVERS: &[Contestant] = &[
    ours("socket", &["--udp", "udp+socket://ADDRESS:11211?recv_buffer=4194304&frames=4096"]),
    ours("io_uring", &["--udp", "udp+uring://ADDRESS:11211?recv_buffer=4194304&frames=4096"]),
    // What the example's features choose.
    ours("AF_XDP", &[]),
    ours("AF_XDP spinning", &["--spin"]),
    #[cfg(feature = "dpdk")]
    ours(DPDK, &["--udp", "udp+dpdk://ADDRESS:11211"]),
    Contestant { name: "tokio", ours: false, arguments: Some(&["--front", "tokio"]) },
    Contestant { name: "memcached", ours: false, arguments: None },
];

pub(super) struct Server {
    process: Child,
    address: SocketAddrV4,
    counts_calls: bool,
}

/// What a server has used so far.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(super) struct Usage {
    pub(super) cpu_ns: u64,
    pub(super) switches: u64,
}

/// What a server has counted, and what it had used before and after it was waited for to count.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Counters {
    pub(super) when_asked: Usage,
    pub(super) system_calls: Option<u64>,
    pub(super) when_answered: Usage,
}

impl Usage {
    pub(super) fn since(self, before: Self) -> Self {
        Self { cpu_ns: self.cpu_ns - before.cpu_ns, switches: self.switches - before.switches }
    }
}

impl Server {
    /// Starts the server `name` in the calling thread's network.
    pub(super) fn start(name: &str, address: Ipv4Addr) -> Result<Self> {
        let contestant = super::find(name)?;
        let place = SocketAddrV4::new(address, PORT);
        let mut command = match contestant.arguments {
            Some(arguments) => {
                let program = std::env::current_exe()?.with_file_name("examples").join("kv");
                ensure!(program.exists(), "{} is not built", program.display());
                // Its worker pins itself; a thread that only waits must not be kept from that by a spinning one.
                let mut command = Command::new(program);
                command.arg(place.to_string()).args(["--memory", MEMORY, "--cores", CORE]);
                command
                    .args(arguments.iter().map(|text| text.replace(ADDRESS, &address.to_string())));
                command
            }
            None => {
                let (host, port) = (address.to_string(), PORT.to_string());
                let mut command = Command::new("memcached");
                command.args(["-l", &host, "-p", &port, "-U", &port, "-t", "1"]);
                command.args(["-u", "root", "-m", MEMORY]);
                command
            }
        };
        if !contestant.ours {
            // They do not pin themselves.
            let mut pinned = Command::new("taskset");
            pinned.args(["--cpu-list", CORE]).arg(command.get_program()).args(command.get_args());
            command = pinned;
        }
        let mut process = command
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        if contestant.arguments.is_some() {
            let output = process.stdout.take().context("the server has no output")?;
            let mut greeting = String::new();
            BufReader::new(output).read_line(&mut greeting)?;
            ensure!(greeting.starts_with("kv on"), "{name} did not start: {greeting}");
        }
        let counts_calls = contestant.ours && name != DPDK;
        let server = Self { process, address: place, counts_calls };
        let begin = Instant::now();
        while TcpStream::connect(place).is_err() {
            ensure!(begin.elapsed() < PATIENCE, "{name} does not listen");
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(server)
    }

    pub(super) fn address(&self) -> SocketAddrV4 {
        self.address
    }

    /// Stores every item.
    pub(super) fn load(&self, workload: &Workload) -> Result<()> {
        let mut stream = TcpStream::connect(self.address)?;
        let value = workload.value();
        let mut requests = Vec::new();
        for number in 0..KEYS as u32 {
            requests.extend_from_slice(b"set ");
            requests.extend_from_slice(&workload::key(number));
            requests.extend_from_slice(format!(" 0 0 {} noreply\r\n", value.len()).as_bytes());
            requests.extend_from_slice(&value);
            requests.extend_from_slice(b"\r\n");
        }
        requests.extend_from_slice(b"version\r\n");
        stream.write_all(&requests)?;
        let mut answer = [0; 7];
        stream.read_exact(&mut answer)?;
        ensure!(&answer == b"VERSION", "the items were not stored: {answer:?}");
        let items = stat(self.address, "curr_items")?;
        ensure!(items == KEYS as u64, "{items} of {KEYS} items are there");
        Ok(())
    }

    /// The counters of now, with those of who receives for it.
    pub(super) fn counters(&self, receiver: Option<&Receiver>) -> Result<Counters> {
        let when_asked = self.usage(receiver)?;
        let system_calls = self.system_calls()?;
        Ok(Counters { when_asked, system_calls, when_answered: self.usage(receiver)? })
    }

    fn usage(&self, receiver: Option<&Receiver>) -> Result<Usage> {
        let (cpu_ns, switches) = child::schedule(self.process.id())?;
        let receiving = receiver.map_or(Ok(0), Receiver::cpu_ns)?;
        Ok(Usage { cpu_ns: cpu_ns + receiving, switches })
    }

    /// System calls so far, where the server counts them. It does so once a second.
    fn system_calls(&self) -> Result<Option<u64>> {
        if !self.counts_calls {
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(1100));
        stat(self.address, "system_calls").map(Some)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.process.kill().and_then(|()| self.process.wait()) {
            eprintln!("a server cannot be ended: {error}");
        }
    }
}

/// A figure of a server's statistics.
fn stat(address: SocketAddrV4, name: &str) -> Result<u64> {
    let mut stream = TcpStream::connect(address)?;
    stream.write_all(b"stats\r\n")?;
    let mut text = Vec::new();
    while !text.ends_with(b"END\r\n") {
        let mut buffer = [0; 4096];
        let length = stream.read(&mut buffer)?;
        ensure!(length > 0, "the server has closed the connection");
        text.extend_from_slice(&buffer[..length]);
    }
    let text = String::from_utf8(text)?;
    let value = text.lines().find_map(|line| line.strip_prefix("STAT ")?.strip_prefix(name));
    Ok(value.with_context(|| format!("it does not count {name}"))?.trim().parse()?)
}
