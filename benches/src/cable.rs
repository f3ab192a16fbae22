//! [`Cable`]: a veth pair whose ends receive like network cards with interrupts of their own.
//!
//! On a veth pair without more, the kernel's work of receiving (the XDP program, or the way up the stack to
//! a socket) is done within the call of who sends: the client's core pays for the server's packets and the
//! server's for the client's. Here each end is polled by a kernel thread (threaded NAPI, Linux 5.12) on the
//! core of who receives there, ahead of all programs, as interrupts are, and no more often than a card with
//! moderated interrupts would ask for it.

use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use bypass_core::sandbox::{Host, Sandbox};

use crate::child;

/// Cores of who is on each end: the server's side is the process's own network.
pub(crate) const SERVER_CORE: usize = 0;
pub(crate) const CLIENT_CORE: usize = 1;

/// What packets go over.
pub(crate) const NETWORK: &str = "veth pair, AF_XDP in copy mode";

/// What a report says of the rig.
pub(crate) const ABOUT: &str = "Both ends of the veth pair are polled by kernel threads, the server's on core 0, the client's on core 1, \
     at most every 50 µs, like cards with moderated interrupts.";

/// Between two polls of an end that has packets, in nanoseconds: what cards of 10 Gbit/s and more have by
/// themselves is between 8 and 50 µs.
const MODERATION: &str = "50000";
/// Polls without a packet before the next one brings an interrupt at once again.
const PATIENCE: &str = "2";

/// Two hosts and a cable between them.
#[derive(Debug)]
pub(crate) struct Cable {
    pub(crate) host: Host,
    /// Receives on the server's side.
    pub(crate) receiver: Receiver,
    _other: Receiver,
}

impl Cable {
    /// Moves the process into a network of its own, with a cable to another host; no thread may have been
    /// started yet.
    pub(crate) fn lay() -> Result<Self> {
        let host = Sandbox::enter()?.host(&unique())?;
        let other = std::thread::scope(|scope| {
            let there = scope.spawn(|| {
                host.enter()?;
                Receiver::pin(&host.ends[1].name, CLIENT_CORE)
            });
            there.join().map_err(|_| anyhow::anyhow!("a thread panicked"))?
        })?;
        let receiver = Receiver::pin(&host.ends[0].name, SERVER_CORE)?;
        Ok(Self { host, receiver, _other: other })
    }
}

/// A name for a cable that no other process of now uses: the kernel's threads are called after interfaces,
/// whichever network those are in.
pub(crate) fn unique() -> String {
    format!("b{}-", std::process::id())
}

/// The kernel thread that receives at one end of a cable.
#[derive(Debug)]
pub(crate) struct Receiver(u32);

impl Receiver {
    /// Has an interface of the calling thread's network polled on `core`.
    pub(crate) fn pin(interface: &str, core: usize) -> Result<Self> {
        // A veth pair polls where it merges packets. Checksums are left to no device: this is a cable, and
        // AF_XDP at its other end is not told that there are none.
        run("ethtool", &["-K", interface, "gro", "on", "tx", "off"])?;
        // The files about another network are seen where they are mounted from inside it.
        let files = "mount -t sysfs sysfs /sys && cd /sys/class/net/$0 && echo 1 > threaded && \
                     echo $1 > gro_flush_timeout && echo $2 > napi_defer_hard_irqs";
        run("unshare", &["--mount", "sh", "-c", files, interface, MODERATION, PATIENCE])?;
        let thread = thread_of(interface)?;
        run("taskset", &["-cp", &core.to_string(), &thread.to_string()])?;
        run("chrt", &["--fifo", "-p", "1", &thread.to_string()])?;
        Ok(Self(thread))
    }

    /// CPU time that it has had, in nanoseconds.
    pub(crate) fn cpu_ns(&self) -> Result<u64> {
        Ok(child::schedule(self.0)?.0)
    }
}

fn thread_of(interface: &str) -> Result<u32> {
    let prefix = format!("napi/{interface}-");
    for process in fs::read_dir("/proc").context("cannot list /proc")? {
        let process = process?.file_name();
        let Some(id) = process.to_str().and_then(|name| name.parse().ok()) else { continue };
        // It may have ended meanwhile.
        let name = fs::read_to_string(format!("/proc/{id}/comm")).unwrap_or_default();
        if name.starts_with(&prefix) {
            return Ok(id);
        }
    }
    bail!("no thread of the kernel polls {interface}; it takes Linux 5.12 and root")
}

fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let output = Command::new(program).args(arguments).output();
    let output = output.with_context(|| format!("cannot run {program}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{program} {}: {said}", arguments.join(" "));
    Ok(())
}
