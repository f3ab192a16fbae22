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

/// Every server, by the name under which it is listed.
const SERVERS: &[(&str, Serve)] = &[
    ("recvmmsg", mmsg::serve),
    #[cfg(feature = "peers")]
    ("tokio", tokio::serve),
    #[cfg(feature = "peers")]
    ("monoio", monoio::serve),
    #[cfg(feature = "peers")]
    ("compio", compio::serve),
    #[cfg(feature = "peers")]
    ("a10", a10::serve),
    #[cfg(feature = "peers")]
    ("raw-io-uring", raw::serve),
];

pub(crate) fn find(name: &str) -> Option<Serve> {
    SERVERS.iter().find(|(known, _)| *known == name).map(|(_, serve)| *serve)
}

/// The names of all servers that were compiled in.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    SERVERS.iter().map(|(name, _)| *name)
}

/// How many receives the runtimes over io_uring keep under way. Their best of 1 to 64: fewer lose round trips per CPU
/// second, more gain none and make each datagram wake tasks for which there is nothing.
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
