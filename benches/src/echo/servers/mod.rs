//! The servers: each takes a bound UDP socket and sends every datagram back to where it came from.

mod mmsg;
mod ours;

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
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{self, SyncSender};
use std::time::Duration;

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

    const fn ours(name: &'static str, serve: Serve) -> Self {
        Self { name, program: Program::Here(serve), ours: true, spins: false }
    }

    const fn spinning(self) -> Self {
        Self { spins: true, ..self }
    }
}

pub(crate) const SERVERS: &[Server] = &[
    Server::ours("io_uring", ours::io_uring),
    Server::ours("socket", ours::socket),
    Server::ours("io_uring spinning", ours::io_uring_spinning).spinning(),
    Server::ours("socket spinning", ours::socket_spinning).spinning(),
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

/// How the system calls of this process are counted.
static SYSTEM_CALLS: Counter =
    Counter { booked: AtomicU64::new(0), asked: AtomicBool::new(false), asking: Mutex::new(None) };

struct Counter {
    /// By servers that make their calls themselves.
    booked: AtomicU64,
    /// Whether the thread that serves is to answer, since only it can read its backend's count.
    asked: AtomicBool,
    asking: Mutex<Option<SyncSender<Option<u64>>>>,
}

/// Books `calls` more.
fn count_system_calls(calls: usize) {
    SYSTEM_CALLS.booked.fetch_add(calls as u64, Relaxed);
}

/// Called in every turn by the servers whose backend counts: reads `count` when it is asked for.
fn answer_system_calls(count: impl FnOnce() -> Option<u64>) {
    if SYSTEM_CALLS.asked.load(Relaxed)
        && let Ok(mut asking) = SYSTEM_CALLS.asking.lock()
        && let Some(asking) = asking.take()
    {
        SYSTEM_CALLS.asked.store(false, Relaxed);
        // Whoever asked may have given up.
        let _received = asking.send(count());
    }
}

/// The count of the server `name`, where there is one.
pub(crate) fn system_calls(name: &str) -> Option<u64> {
    let ours = SERVERS.iter().any(|server| server.name == name && server.ours);
    if !ours {
        return Some(SYSTEM_CALLS.booked.load(Relaxed)).filter(|calls| *calls > 0);
    }
    let (sender, receiver) = mpsc::sync_channel(1);
    *SYSTEM_CALLS.asking.lock().ok()? = Some(sender);
    SYSTEM_CALLS.asked.store(true, Relaxed);
    // A server sleeps for 100 ms at the most.
    receiver.recv_timeout(Duration::from_secs(1)).ok()?
}
