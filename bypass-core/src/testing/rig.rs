//! [`Namespace`] and [`Veth`]: network stacks of a test's own, joined by a cable of its own.
//!
//! Namespaces are anonymous: they hold no name that could clash or be left behind, and the kernel
//! removes them, with every interface inside, when the last descriptor and the last process in
//! them are gone, also after `kill -9`.
//!
//! # What the unsafe code here relies on
//!
//! `unshare(2)` and `getuid(2)` take no pointers.

use std::fs::File;
use std::io;
use std::marker::PhantomData;
use std::os::fd::AsFd;
use std::process::{Command, Output};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::{Error, MacAddr, Result};

/// The network namespace of the calling thread.
const OWN: &str = "/proc/thread-self/ns/net";

/// A network namespace without a name.
#[derive(Debug)]
pub struct Namespace {
    file: File,
    /// Any thread or process inside, for `ip link ... netns`.
    path: String,
}

impl Namespace {
    /// Makes a namespace with its loopback interface up.
    ///
    /// # Errors
    ///
    /// [`Error::MissingCapability`] without `CAP_SYS_ADMIN`.
    pub fn new() -> Result<Self> {
        // The thread dies with its task in the new namespace; the descriptor keeps that alive.
        let made = std::thread::scope(|scope| scope.spawn(Self::make).join());
        made.unwrap_or_else(|_| Err(Error::os("make a namespace", io::ErrorKind::Other)))
    }

    fn make() -> Result<Self> {
        // SAFETY: it takes no pointer and changes only this thread, which ends soon.
        if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
            let error = io::Error::last_os_error();
            return Err(Error::privileged("make a network namespace", "CAP_SYS_ADMIN", error));
        }
        let file = File::open(OWN).map_err(|error| Error::os(format!("open {OWN}"), error))?;
        let path = format!("/proc/{}/fd/{}", std::process::id(), {
            use std::os::fd::AsRawFd;
            file.as_raw_fd()
        });
        let namespace = Self { file, path };
        run(Command::new("ip").args(["link", "set", "lo", "up"]))?;
        Ok(namespace)
    }

    /// Moves the calling thread into the namespace until the guard is dropped. Sockets opened and
    /// programs started meanwhile belong to the namespace for good.
    ///
    /// # Errors
    ///
    /// When the kernel refuses.
    pub fn enter(&self) -> Result<Entered> {
        let home = File::open(OWN).map_err(|error| Error::os(format!("open {OWN}"), error))?;
        join(&self.file)?;
        Ok(Entered { home, stays_on_thread: PhantomData })
    }

    /// Runs `ip` inside, with arguments separated by blanks.
    ///
    /// # Errors
    ///
    /// When it fails, with what it printed.
    pub fn ip(&self, arguments: &str) -> Result<String> {
        self.run("ip", arguments)
    }

    /// Runs a program inside, with arguments separated by blanks, and returns what it printed.
    ///
    /// # Errors
    ///
    /// When it fails, with what it printed.
    pub fn run(&self, program: &str, arguments: &str) -> Result<String> {
        let _inside = self.enter()?;
        run(Command::new(program).args(arguments.split_whitespace()))
    }

    /// Sets a kernel parameter of the namespace, such as `net.ipv4.icmp_echo_ignore_all`.
    ///
    /// # Errors
    ///
    /// When there is none of this name, or the value is refused.
    pub fn sysctl(&self, name: &str, value: &str) -> Result<()> {
        let _inside = self.enter()?;
        let path = format!("/proc/sys/{}", name.replace('.', "/"));
        std::fs::write(&path, value).map_err(|error| Error::os(format!("set {path}"), error))
    }
}

/// The calling thread is in another network namespace; dropping this brings it home.
#[derive(Debug)]
#[must_use = "the thread returns to its own namespace when this is dropped"]
pub struct Entered {
    home: File,
    stays_on_thread: PhantomData<*const ()>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        // A thread that is lost in the wrong namespace must not go on.
        join(&self.home).expect("the thread's own network namespace is there to return to");
    }
}

fn join(namespace: &File) -> Result<()> {
    move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
        .map_err(|error| Error::privileged("enter a network namespace", "CAP_SYS_ADMIN", error))
}

fn run(command: &mut Command) -> Result<String> {
    let Output { status, stdout, stderr } = command
        .output()
        .map_err(|error| Error::os(format!("run {}", command.get_program().display()), error))?;
    if status.success() {
        return Ok(String::from_utf8_lossy(&stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&stderr).trim().to_owned();
    Err(Error::os(format!("run {command:?} ({status}: {said})"), io::ErrorKind::Other))
}

/// How a [`Veth`] pair is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VethOptions {
    /// Bytes in a packet, without its Ethernet header.
    pub mtu: u16,
    /// RX and TX queues on each side.
    pub queues: u16,
    /// Whether the interfaces speak IPv6. Off keeps them silent: nothing is on the cable but what
    /// a test sends.
    pub ipv6: bool,
}

impl Default for VethOptions {
    fn default() -> Self {
        Self { mtu: 1500, queues: 1, ipv6: false }
    }
}

/// Two namespaces joined by a veth pair; the interface is called [`Veth::NAME`] on both sides.
///
/// Side `a` has 10.66.0.1/24 and fd66::1/64, side `b` has 10.66.0.2/24 and fd66::2/64 (with
/// [`VethOptions::ipv6`]).
#[derive(Debug)]
pub struct Veth {
    /// One side.
    pub a: Namespace,
    /// The other side.
    pub b: Namespace,
}

impl Veth {
    /// The interface's name, on both sides.
    pub const NAME: &'static str = "veth0";

    /// Ethernet addresses of the sides `a` and `b`.
    pub const MAC: [MacAddr; 2] = [MacAddr([2, 0, 0, 0, 0x66, 1]), MacAddr([2, 0, 0, 0, 0x66, 2])];

    /// IPv4 addresses of the sides `a` and `b`.
    pub const IPV4: [std::net::Ipv4Addr; 2] =
        [std::net::Ipv4Addr::new(10, 66, 0, 1), std::net::Ipv4Addr::new(10, 66, 0, 2)];

    /// IPv6 addresses of the sides `a` and `b`.
    pub const IPV6: [std::net::Ipv6Addr; 2] = [
        std::net::Ipv6Addr::new(0xfd66, 0, 0, 0, 0, 0, 0, 1),
        std::net::Ipv6Addr::new(0xfd66, 0, 0, 0, 0, 0, 0, 2),
    ];

    /// Makes both namespaces and the cable, and waits until it is up.
    ///
    /// # Errors
    ///
    /// Without the right to make namespaces, or without iproute2.
    pub fn new(options: &VethOptions) -> Result<Self> {
        let (a, b) = (Namespace::new()?, Namespace::new()?);
        let (name, mtu, queues) = (Self::NAME, options.mtu, options.queues);
        let side = |mac: MacAddr| {
            format!("{name} mtu {mtu} address {mac} numrxqueues {queues} numtxqueues {queues}")
        };
        let [mac_a, mac_b] = Self::MAC.map(side);
        a.ip(&format!("link add {mac_a} type veth peer {mac_b} netns {}", b.path))?;
        for (i, namespace) in [&a, &b].into_iter().enumerate() {
            let off = if options.ipv6 { "0" } else { "1" };
            namespace.sysctl(&format!("net.ipv6.conf.{name}.disable_ipv6"), off)?;
            namespace.ip(&format!("address add {}/24 dev {name}", Self::IPV4[i]))?;
            if options.ipv6 {
                let address = Self::IPV6[i];
                namespace.ip(&format!("address add {address}/64 dev {name} nodad"))?;
            }
            namespace.ip(&format!("link set {name} up"))?;
        }
        let pair = Self { a, b };
        pair.await_carrier()?;
        Ok(pair)
    }

    fn await_carrier(&self) -> Result<()> {
        for side in [&self.a, &self.b] {
            // Carrier is reported by deferred work in the kernel; there is nothing to block on.
            while !side.ip(&format!("link show {}", Self::NAME))?.contains("LOWER_UP") {
                std::thread::yield_now();
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::needs::{Need, skip};

    #[test]
    fn the_sides_reach_each_other_and_nobody_else_sees_them() {
        if skip(&[Need::Namespaces, Need::Tool("ping")]) {
            return;
        }
        let veth = Veth::new(&VethOptions { ipv6: true, ..VethOptions::default() }).unwrap();
        veth.a.run("ping", "-c 1 -W 2 10.66.0.2").unwrap();
        veth.b.run("ping", "-c 1 -W 2 fd66::1").unwrap();
        let outside = run(Command::new("ip").args(["address", "show"])).unwrap();
        assert!(!outside.contains("10.66.0.1"), "{outside}");
        assert!(veth.a.ip("link show nosuch0").is_err());
    }
}
