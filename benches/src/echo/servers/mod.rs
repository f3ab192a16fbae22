//! The servers: each takes a bound UDP socket and sends every datagram back to where it came from.

mod mmsg;

#[cfg(feature = "peers")]
mod a10;
#[cfg(feature = "peers")]
mod compio;
#[cfg(feature = "peers")]
mod monoio;
#[cfg(feature = "peers")]
#[expect(unsafe_code, reason = "the kernel is given pointers by hand")]
mod raw;
#[cfg(feature = "peers")]
mod tokio;

use std::convert::Infallible;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use anyhow::Result;

/// Serves until the process ends.
pub(crate) type Serve = fn(UdpSocket) -> Result<Infallible>;

/// What a server runs on.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Program {
    /// This program.
    Here(Serve),
    /// sockperf, with these options.
    Sockperf(&'static [&'static str]),
}

/// A contestant.
pub(crate) struct Server {
    pub(crate) name: &'static str,
    pub(crate) program: Program,
    /// Whether it is one of ours; the others are peers.
    pub(crate) ours: bool,
    /// Whether it spins and never sleeps: such servers are compared with each other only.
    pub(crate) spins: bool,
}

impl Server {
    const fn peer(name: &'static str, serve: Serve) -> Self {
        Self { name, program: Program::Here(serve), ours: false, spins: false }
    }

    const fn sockperf(name: &'static str, options: &'static [&'static str]) -> Self {
        Self { name, program: Program::Sockperf(options), ours: false, spins: false }
    }

    const fn spinning(self) -> Self {
        Self { spins: true, ..self }
    }
}

pub(crate) const SERVERS: &[Server] = &[
    Server::peer("recvmmsg", mmsg::serve),
    #[cfg(feature = "peers")]
    Server::peer("tokio", tokio::serve),
    #[cfg(feature = "peers")]
    Server::peer("monoio", monoio::serve),
    #[cfg(feature = "peers")]
    Server::peer("compio", compio::serve),
    #[cfg(feature = "peers")]
    Server::peer("a10", a10::serve),
    #[cfg(feature = "peers")]
    Server::peer("raw io-uring", raw::serve),
    Server::sockperf("sockperf", &[]),
    Server::peer("recvmmsg spinning", mmsg::spin).spinning(),
    Server::sockperf("sockperf spinning", &["--nonblocked"]).spinning(),
];

pub(crate) fn find(name: &str) -> Option<Program> {
    SERVERS.iter().find(|server| server.name == name).map(|server| server.program)
}

/// How many operations the runtimes over io_uring keep under way. Their best of 1 to 64: fewer lose
/// round trips per CPU second, more gain none and make each datagram wake tasks for which there is
/// nothing.
#[cfg(feature = "peers")]
const TASKS: usize = 32;

/// Counted by the servers that make their system calls themselves.
static SYSTEM_CALLS: AtomicU64 = AtomicU64::new(0);

/// Books `calls` more.
fn count_system_calls(calls: usize) {
    SYSTEM_CALLS.fetch_add(calls as u64, Relaxed);
}

/// The count, where the server keeps one.
pub(crate) fn system_calls() -> Option<u64> {
    Some(SYSTEM_CALLS.load(Relaxed)).filter(|calls| *calls > 0)
}
