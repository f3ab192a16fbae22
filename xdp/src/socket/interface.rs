//! [`Interface`]: what sockets are bound to.

use std::borrow::Cow;
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::fd::AsFd;

use bypass_core::sys::{VLAN_LEN, interface};
use bypass_core::{Error, Result};

use crate::sys::{DeviceFeatures, ethtool, netdev};

/// Bytes of an Ethernet header.
const ETHERNET_LEN: usize = 14;
/// Bytes of an Ethernet header with a VLAN tag.
pub(super) const OVERHEAD: usize = ETHERNET_LEN + VLAN_LEN;
/// Where the EtherType is.
const ETHER_TYPE: std::ops::Range<usize> = 12..14;

/// An Ethernet interface, as it was when it was looked up.
///
/// It is only needed to open sockets that come from elsewhere ([`XdpOptions::adopt`]).
///
/// [`XdpOptions::adopt`]: crate::XdpOptions::adopt
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name, for messages.
    pub name: String,
    /// Its index in its network namespace.
    pub index: u32,
    /// Bytes in its largest packet, without the Ethernet header.
    pub mtu: usize,
    /// How many queues can have a socket.
    pub queues: u32,
    /// What its driver says that it can do; nothing where the kernel does not tell (before Linux 6.3).
    pub features: Option<DeviceFeatures>,
}

impl Interface {
    /// The interface of this name, in the calling thread's namespace.
    ///
    /// # Errors
    ///
    /// [`Error::NoSuchInterface`], else [`Error::Os`].
    pub fn find(name: &str) -> Result<Self> {
        let attempt = format!("open AF_XDP sockets on {name}");
        // AF_XDP sockets have no ioctl of their own.
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))
            .map_err(|error| Error::os("open a socket to look up interfaces", error))?;
        let index = interface::index(socket.as_fd(), name, &attempt)?;
        let mtu = interface::mtu(socket.as_fd(), name)?;
        let queues = ethtool::queues(socket.as_fd(), name)
            .map_err(|error| Error::os(format!("count the queues of {name}"), error))?;
        let features = netdev::features(index);
        Ok(Self { name: name.to_owned(), index, mtu, queues, features })
    }

    /// The longest frame without a VLAN tag, in bytes.
    pub(crate) fn max_len(&self) -> usize {
        self.mtu.saturating_add(ETHERNET_LEN)
    }

    /// The longest frame like `frame`: a tag is allowed on top.
    pub(crate) fn max_len_of(&self, frame: &[u8]) -> usize {
        let tagged = frame.get(ETHER_TYPE) == Some(&[0x81, 0x00]);
        self.max_len().saturating_add(if tagged { VLAN_LEN } else { 0 })
    }

    /// The longest frame that can arrive, in bytes.
    pub(crate) fn longest(&self) -> usize {
        self.mtu.saturating_add(OVERHEAD)
    }

    /// The error of a call on a bound socket.
    pub(crate) fn explain(&self, attempt: impl Into<Cow<'static, str>>, error: io::Error) -> Error {
        match error.raw_os_error() {
            // The kernel has unbound the socket.
            Some(libc::ENXIO) => {
                Error::NoSuchInterface { attempt: attempt.into(), name: self.name.clone() }
            }
            Some(libc::ENETDOWN) => Error::os(attempt, error).with_remedy(format!(
                "ip link set {} up; the port then goes on by itself",
                self.name
            )),
            _ => Error::os(attempt, error),
        }
    }
}
