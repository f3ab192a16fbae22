//! The server in a process of its own, pinned to one core, with the counters of that process.
//!
//! The parent talks to it over pipes: the server prints its port, answers each line with its counters, and ends when
//! its input does, so it never outlives the benchmark.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, UdpSocket};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use rustix::thread::{CpuSet, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::servers;
use crate::allocations;

/// The hidden command of this program that becomes a server.
pub(crate) const COMMAND: &str = "serve-echo";

const SERVER_CORE: usize = 0;
const CLIENT_CORE: usize = 1;

/// Counters of a process since its start.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Usage {
    pub(crate) cpu_ns: u64,
    /// Context switches of all threads because they waited.
    pub(crate) voluntary: u64,
    /// Context switches of all threads because something else ran.
    pub(crate) involuntary: u64,
    pub(crate) allocations: u64,
    /// System calls, where the server counts them itself.
    pub(crate) system_calls: Option<u64>,
}

/// A running server.
pub(crate) struct Server {
    process: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    pub(crate) port: u16,
}

impl Server {
    pub(crate) fn start(name: &str) -> Result<Self> {
        let program = std::env::current_exe().context("cannot tell where this program lies")?;
        let mut process = Command::new(program)
            .args([COMMAND, name])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start server {name}"))?;
        let input = process.stdin.take();
        let output = process.stdout.take().context("the server has no output")?;
        let mut server = Self { process, input, output: BufReader::new(output), port: 0 };
        server.port =
            server.line()?.parse().with_context(|| format!("server {name} printed no port"))?;
        Ok(server)
    }

    /// The counters of now.
    pub(crate) fn usage(&mut self) -> Result<Usage> {
        let input = self.input.as_mut().context("the server has no input")?;
        input.write_all(b"\n").context("the server is gone")?;
        Ok(serde_json::from_str(&self.line()?)?)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        ensure!(!line.is_empty(), "the server ended early");
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The end of its input ends the server.
        self.input = None;
        if let Err(error) = self.process.wait() {
            eprintln!("a server cannot be waited for: {error}");
        }
    }
}

/// Becomes the server `name`.
pub(crate) fn serve(name: &str) -> Result<()> {
    pin(SERVER_CORE)?;
    let serve = servers::find(name).with_context(|| format!("there is no server `{name}`"))?;
    let socket =
        UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).context("cannot bind the server's socket")?;
    println!("{}", socket.local_addr()?.port());
    std::thread::spawn(move || {
        let Err(error) = serve(socket);
        eprintln!("the server failed: {error:#}");
        std::process::exit(1);
    });
    allocations::exempt_this_thread();
    for line in std::io::stdin().lines() {
        line?;
        println!("{}", serde_json::to_string(&usage()?)?);
    }
    Ok(())
}

/// Keeps the generator off the server's core.
pub(crate) fn pin_client() -> Result<()> {
    pin(CLIENT_CORE)
}

fn pin(core: usize) -> Result<()> {
    let mut cores = CpuSet::new();
    cores.set(core);
    sched_setaffinity(None, &cores).with_context(|| format!("cannot pin to core {core}"))
}

/// The counters of this process.
fn usage() -> Result<Usage> {
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    let mut usage = Usage {
        cpu_ns: cpu.tv_sec as u64 * 1_000_000_000 + cpu.tv_nsec as u64,
        allocations: allocations::so_far(),
        system_calls: servers::system_calls(),
        ..Usage::default()
    };
    for task in fs::read_dir("/proc/self/task").context("cannot list this process's threads")? {
        let status = fs::read_to_string(task?.path().join("status"))?;
        let count = |name: &str| {
            let value = status
                .lines()
                .find_map(|line| line.strip_prefix(name))
                .context("no such counter")?;
            value.trim().parse::<u64>().context("not a counter")
        };
        usage.voluntary += count("voluntary_ctxt_switches:")?;
        usage.involuntary += count("nonvoluntary_ctxt_switches:")?;
    }
    Ok(usage)
}
