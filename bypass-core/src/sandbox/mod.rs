//! [`Sandbox`]: a network of the process's own, without root and without any program.
//!
//! Examples and load tests use it to have real interfaces to work on, on any machine that allows
//! unprivileged user namespaces, and to be sure that nothing else is on the cable.

mod host;
mod netlink;

use std::fs;
use std::io;

use nix::sched::{CloneFlags, unshare};

pub use self::host::Host;
use self::netlink::Netlink;
use crate::{Error, MacAddr, Result};

/// The process is in network namespaces of its own; they vanish with it.
///
/// ```no_run
/// use bypass_core::sandbox::Sandbox;
///
/// // First thing in `main`, before any thread is started.
/// let sandbox = Sandbox::enter()?;
/// let [a, b] = sandbox.veth("cable")?;
/// println!("{} and {} are two ends of a cable", a.name, b.name);
/// # Ok::<(), bypass_core::Error>(())
/// ```
#[derive(Debug)]
pub struct Sandbox(());

/// An interface that a [`Sandbox`] has made; it is up.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Its Ethernet address.
    pub mac: MacAddr,
}

impl Sandbox {
    /// Moves the process into a user namespace, where it is root, and a network namespace, where
    /// there is nothing but a loopback interface, which is up.
    ///
    /// A process that is root already gets the network namespace only.
    ///
    /// # Errors
    ///
    /// [`Error::Os`] where the machine does not allow it, or when the process has several threads.
    pub fn enter() -> Result<Self> {
        let attempt = "move into a user and a network namespace of its own";
        let remedy = "call it before any thread is started; sysctl user.max_user_namespaces and \
                      kernel.apparmor_restrict_unprivileged_userns may forbid it";
        let refused =
            |error: nix::Error| Error::os(attempt, io::Error::from(error)).with_remedy(remedy);
        let (user, group) = (nix::unistd::geteuid(), nix::unistd::getegid());
        if user.is_root() && unshare(CloneFlags::CLONE_NEWNET).is_ok() {
            return Self::with_loopback();
        }
        unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET).map_err(refused)?;
        // The order is the kernel's: user_namespaces(7).
        map("setgroups", "deny")?;
        map("uid_map", &format!("0 {user} 1"))?;
        map("gid_map", &format!("0 {group} 1"))?;
        Self::with_loopback()
    }

    fn with_loopback() -> Result<Self> {
        Netlink::open()?.set_up("lo")?;
        Ok(Self(()))
    }

    /// Makes a cable: two Ethernet interfaces, `NAME0` and `NAME1`, that receive what the other
    /// sends. They have no addresses, and the kernel says nothing on them by itself.
    ///
    /// # Errors
    ///
    /// [`Error::Os`] when the name is taken or longer than 14 bytes.
    pub fn veth(&self, name: &str) -> Result<[Interface; 2]> {
        let ends = ends(name);
        let mut netlink = Netlink::open()?;
        netlink.add_veth(&ends, None)?;
        for end in &ends {
            netlink.keep_quiet(&end.name);
            netlink.set_up(&end.name)?;
        }
        Ok(ends)
    }
}

/// The ends of a cable of this name.
fn ends(name: &str) -> [Interface; 2] {
    [0, 1].map(|end| Interface {
        name: format!("{name}{end}"),
        mac: MacAddr([2, 0, 0, 0xca, 0xb1, end]),
    })
}

fn map(file: &str, content: &str) -> Result<()> {
    fs::write(format!("/proc/self/{file}"), content)
        .map_err(|error| Error::os(format!("write {content:?} to /proc/self/{file}"), error))
}
