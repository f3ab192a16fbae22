//! [`Link`]: the interface that a port is bound to, and what to make of its errors.

use std::borrow::Cow;
use std::io;
use std::os::fd::BorrowedFd;

use crate::sys::{VLAN_LEN, interface};
use crate::{Error, Result};

/// Bytes of an Ethernet header.
const ETHERNET_LEN: usize = 14;
/// Where the EtherType is.
const ETHERTYPE: std::ops::Range<usize> = 12..14;

/// An interface.
#[derive(Clone, Debug)]
pub struct Link {
    name: String,
    index: u32,
    max_len: usize,
}

impl Link {
    pub(super) fn new(socket: BorrowedFd<'_>, name: String, index: u32) -> Result<Self> {
        let max_len = interface::mtu(socket, &name)? + ETHERNET_LEN;
        Ok(Self { name, index, max_len })
    }

    /// Its name when the port was opened.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its index in its network namespace.
    #[must_use]
    pub fn index(&self) -> u32 {
        self.index
    }

    /// The longest frame that it sends without a VLAN tag, in bytes.
    #[must_use]
    pub fn max_len(&self) -> usize {
        self.max_len
    }

    /// The longest frame like `frame` that it sends: a tag is allowed on top.
    #[must_use]
    pub fn max_len_of(&self, frame: &[u8]) -> usize {
        let tagged = frame.get(ETHERTYPE) == Some(&[0x81, 0x00]);
        self.max_len + if tagged { VLAN_LEN } else { 0 }
    }

    /// [`max_len`](Self::max_len) as it is now, where the MTU may have changed.
    #[must_use]
    pub fn current_max_len(&self, socket: BorrowedFd<'_>) -> usize {
        interface::mtu(socket, &self.name).map_or(self.max_len, |mtu| mtu + ETHERNET_LEN)
    }

    /// The error of an operation on `socket`, which was bound to this: the interface is gone, down,
    /// or it is something else.
    pub fn explain(
        &self,
        socket: BorrowedFd<'_>,
        attempt: impl Into<Cow<'static, str>>,
        error: io::Error,
    ) -> Error {
        let attempt = attempt.into();
        match error.raw_os_error() {
            Some(libc::ENETDOWN | libc::ENXIO | libc::ENODEV) if self.is_gone(socket) => {
                Error::NoSuchInterface { attempt, name: self.name.clone() }
            }
            Some(libc::ENETDOWN) => Error::os(attempt, error).with_remedy(format!(
                "ip link set {} up; the port then goes on by itself",
                self.name
            )),
            _ => Error::os(attempt, error),
        }
    }

    /// Whether the interface was removed; the port is of no use any more then.
    #[must_use]
    pub fn is_gone(&self, socket: BorrowedFd<'_>) -> bool {
        interface::bound(socket).is_none()
    }
}
