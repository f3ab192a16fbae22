//! [`Host`]: another network at the end of a cable.

use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use netlink_packet_route::link::{LinkAttribute, LinkFlags};
use nix::sched::{CloneFlags, setns, unshare};

use super::netlink::Netlink;
use super::{Interface, Sandbox, ends};
use crate::{Error, Result};

/// The network namespace of the calling thread.
const OWN: &str = "/proc/thread-self/ns/net";
/// How long the kernel may take to say that a cable is plugged in.
const PATIENCE: Duration = Duration::from_secs(5);

/// Another host at the end of a cable: a network namespace with an address of its own. What travels
/// between it and the sandbox travels over two real interfaces, and the kernel keeps the addresses of
/// both.
///
/// ```no_run
/// use std::net::UdpSocket;
///
/// use bypass_core::sandbox::Sandbox;
///
/// // First thing in `main`, before any thread is started.
/// let host = Sandbox::enter()?.host("cable")?;
/// let here = UdpSocket::bind((host.here, 9000))?;
/// std::thread::scope(|scope| {
///     scope.spawn(|| -> bypass_core::Result<()> {
///         host.enter()?; // this thread is there from now on
///         let there = UdpSocket::bind((host.there, 0)).expect("an address of its own");
///         there.send_to(b"hello", (host.here, 9000)).expect("a cable between them");
///         Ok(())
///     });
/// });
/// let mut bytes = [0; 5];
/// here.recv(&mut bytes)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct Host {
    /// The sandbox's address on the cable, on a network of 24 bits.
    pub here: Ipv4Addr,
    /// The host's address.
    pub there: Ipv4Addr,
    /// The two ends of the cable: the sandbox's, the host's.
    pub ends: [Interface; 2],
    namespace: File,
}

impl Sandbox {
    /// Makes another host and a cable to it, and waits until that is up. The interfaces are called
    /// `NAME0` here and `NAME1` there.
    ///
    /// # Errors
    ///
    /// [`Error::Os`] when the name is taken or longer than 14 bytes.
    pub fn host(&self, name: &str) -> Result<Host> {
        let host = Host {
            here: Ipv4Addr::new(10, 77, 0, 1),
            there: Ipv4Addr::new(10, 77, 0, 2),
            ends: ends(name),
            namespace: on_another_thread(new_namespace)?,
        };
        Netlink::open()?.add_veth(&host.ends, Some(host.namespace.as_fd()))?;
        on_another_thread(|| {
            host.enter()?;
            Netlink::open()?.set_up("lo")?;
            host.plug_in(1, host.there)
        })?;
        host.plug_in(0, host.here)?;
        on_another_thread(|| {
            host.enter()?;
            host.await_carrier(1)
        })?;
        host.await_carrier(0)?;
        Ok(host)
    }
}

impl Host {
    /// Moves the calling thread to the host, for good: what it opens from now on is there.
    ///
    /// # Errors
    ///
    /// [`Error::Os`] when the kernel refuses.
    pub fn enter(&self) -> Result<()> {
        setns(&self.namespace, CloneFlags::CLONE_NEWNET).map_err(|error| {
            Error::os("move into a host's network namespace", io::Error::from(error))
        })
    }

    /// Packets that one end of the cable could not hand to the other, because that had no room; by
    /// a thread on the side of that end.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for an end that there is not; [`Error::Os`] on the other side, where there is no
    /// such interface.
    pub fn dropped(&self, end: usize) -> Result<u64> {
        let why = "a cable has the ends 0 and 1";
        let end = self.ends.get(end).ok_or_else(|| Error::config("end", end, why))?;
        let link = Netlink::open()?.link(&end.name)?;
        let dropped = link.attributes.iter().find_map(|attribute| match attribute {
            LinkAttribute::Stats64(stats) => Some(stats.tx_dropped),
            _ => None,
        });
        Ok(dropped.unwrap_or(0))
    }

    fn plug_in(&self, end: usize, address: Ipv4Addr) -> Result<()> {
        let mut netlink = Netlink::open()?;
        netlink.keep_quiet(&self.ends[end].name);
        netlink.add_address(&self.ends[end].name, address)?;
        netlink.set_up(&self.ends[end].name)
    }

    /// Carrier is reported by deferred work of the kernel's; what is sent before is lost.
    fn await_carrier(&self, end: usize) -> Result<()> {
        let name = &self.ends[end].name;
        let (mut netlink, start) = (Netlink::open()?, Instant::now());
        while !netlink.link(name)?.header.flags.contains(LinkFlags::Running) {
            if start.elapsed() > PATIENCE {
                return Err(Error::os(format!("bring {name} up"), io::ErrorKind::TimedOut));
            }
            thread::yield_now();
        }
        Ok(())
    }
}

fn new_namespace() -> Result<File> {
    let attempt = "make a network namespace for another host";
    unshare(CloneFlags::CLONE_NEWNET)
        .map_err(io::Error::from)
        .and_then(|()| File::open(OWN))
        .map_err(|error| Error::os(attempt, error))
}

/// Namespaces belong to threads: one that ends leaves no trace.
fn on_another_thread<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    match thread::scope(|scope| scope.spawn(work).join()) {
        Ok(outcome) => outcome,
        Err(panic) => std::panic::resume_unwind(panic),
    }
}
