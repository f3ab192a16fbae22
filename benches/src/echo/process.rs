//! The server in a process of its own, pinned to one core, with the counters of that process.
//!
//! A server of this program prints its port, answers each line with the counters that only it can
//! know, and ends when its input does, so it never outlives the benchmark.

use std::convert::Infallible;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, UdpSocket};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use bypass_core::worker::pin_to;
use serde::{Deserialize, Serialize};
use socket2::SockRef;

use super::calls;
use super::contestant::{Contestant, Program};
use crate::{allocations, child};

/// The hidden command of this program that becomes a server: scenario, name, address.
pub(crate) const COMMAND: &str = "serve-echo";

const SERVER_CORE: usize = 0;
/// Keeps the generator off the server's core.
pub(crate) const CLIENT_CORE: usize = 1;

/// Counters of a server since its start.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Usage {
    /// CPU time of all threads, kernel included; of a thread that runs, as of the last clock tick.
    pub(crate) cpu_ns: u64,
    /// Context switches of all threads, whatever their cause.
    pub(crate) switches: u64,
    pub(crate) own: Own,
}

/// What a server counts itself, where it is one of this program.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub(crate) struct Own {
    pub(crate) allocations: Option<u64>,
    pub(crate) system_calls: Option<u64>,
}

/// A running server.
pub(crate) struct Server {
    process: Child,
    /// To a server of this program.
    pipes: Option<(ChildStdin, BufReader<ChildStdout>)>,
    pub(crate) address: SocketAddrV4,
}

impl Server {
    pub(crate) fn start(scenario: &str, contestant: &Contestant, at: Ipv4Addr) -> Result<Self> {
        match contestant.program {
            Program::Udp(_) | Program::Tcp(_) => Self::start_own(scenario, contestant.name, at),
            Program::Sockperf(options) => Self::start_sockperf(options, at),
        }
        .with_context(|| format!("cannot start server {}", contestant.name))
    }

    fn start_own(scenario: &str, name: &str, at: Ipv4Addr) -> Result<Self> {
        let program = std::env::current_exe().context("cannot tell where this program lies")?;
        let mut process = Command::new(program)
            .args([COMMAND, scenario, name, &at.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let input = process.stdin.take().context("it has no input")?;
        let output = process.stdout.take().context("it has no output")?;
        let pipes = Some((input, BufReader::new(output)));
        let mut server = Self { process, pipes, address: SocketAddrV4::new(at, 0) };
        let port = server.line()?.parse().context("it printed no port")?;
        server.address.set_port(port);
        Ok(server)
    }

    fn start_sockperf(options: &[&str], at: Ipv4Addr) -> Result<Self> {
        // A port that was free a moment ago; sockperf cannot choose one itself.
        let port = UdpSocket::bind((at, 0))?.local_addr()?.port();
        // It ends with this thread, however that ends.
        let process = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "taskset", "--cpu-list", &SERVER_CORE.to_string()])
            .args(["sockperf", "server", "-i", &at.to_string(), "-p", &port.to_string()])
            .args(options)
            .stdout(Stdio::null())
            .spawn()
            .context("cannot run setpriv")?;
        Ok(Self { process, pipes: None, address: SocketAddrV4::new(at, port) })
    }

    /// The counters of now.
    pub(crate) fn usage(&mut self) -> Result<Usage> {
        let mut usage = Usage::default();
        if let Some((input, _)) = &mut self.pipes {
            input.write_all(b"\n").context("the server is gone")?;
            usage.own = serde_json::from_str(&self.line()?)?;
        }
        (usage.cpu_ns, usage.switches) = child::schedule(self.process.id())?;
        Ok(usage)
    }

    fn line(&mut self) -> Result<String> {
        let (_, output) = self.pipes.as_mut().context("the server has no pipes")?;
        let mut line = String::new();
        output.read_line(&mut line)?;
        ensure!(!line.is_empty(), "the server ended early");
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The end of its input ends a server of this program; another needs to be told.
        let killed = if self.pipes.take().is_none() { self.process.kill() } else { Ok(()) };
        if let Err(error) = killed.and_then(|()| self.process.wait()) {
            eprintln!("a server cannot be ended: {error}");
        }
    }
}

/// Becomes the server `name` of `contestants`.
pub(crate) fn serve(contestants: &[Contestant], name: &str, at: Ipv4Addr) -> Result<()> {
    let contestant = Contestant::find(contestants, name)?;
    match contestant.program {
        Program::Udp(serve) => {
            let socket = UdpSocket::bind((at, 0)).context("cannot bind a socket")?;
            run(contestant, socket.local_addr()?.port(), move || serve(socket))
        }
        Program::Tcp(serve) => {
            let listener = TcpListener::bind((at, 0)).context("cannot bind a socket")?;
            // The connections inherit it: an answer never waits for an acknowledgement.
            SockRef::from(&listener).set_tcp_nodelay(true)?;
            run(contestant, listener.local_addr()?.port(), move || serve(listener))
        }
        Program::Sockperf(_) => bail!("server {name} is another program"),
    }
}

/// Serves on a thread of its own, and answers for the process on this one.
fn run(
    contestant: &Contestant,
    port: u16,
    serve: impl FnOnce() -> Result<Infallible> + Send + 'static,
) -> Result<()> {
    println!("{port}");
    std::thread::spawn(move || {
        // Only the thread that serves has the core, so one that spins keeps no answer from below.
        let Err(error) = pin_to(SERVER_CORE).map_err(Into::into).and_then(|()| serve());
        eprintln!("the server failed: {error:#}");
        std::process::exit(1);
    });
    allocations::exempt_this_thread();
    for line in std::io::stdin().lines() {
        line?;
        let own = Own {
            allocations: Some(allocations::so_far()),
            system_calls: calls::so_far(contestant.ours),
        };
        println!("{}", serde_json::to_string(&own)?);
    }
    Ok(())
}
