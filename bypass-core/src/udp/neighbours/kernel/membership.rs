//! Groups that the kernel joins for us: it tells routers and opens the card's filter.

use std::io;
use std::net::IpAddr;

use socket2::{Domain, InterfaceIndexOrAddress, Socket, Type};

use crate::{Error, Result};

/// The sockets that hold the memberships; they receive nothing.
#[derive(Debug)]
pub(super) struct Memberships {
    v4: Option<Socket>,
    v6: Option<Socket>,
}

impl Memberships {
    /// Opens the sockets in the network namespace of the calling thread. A family that the kernel
    /// does not have is missed when it is used.
    pub(super) fn open() -> Self {
        let socket = |domain| Socket::new(domain, Type::DGRAM, None).ok();
        Self { v4: socket(Domain::IPV4), v6: socket(Domain::IPV6) }
    }

    pub(super) fn set(
        &self,
        group: IpAddr,
        member: bool,
        interface: u32,
        name: &str,
    ) -> Result<()> {
        self.try_set(group, member, interface).map_err(|error| {
            let verb = if member { "join" } else { "leave" };
            let many = error.raw_os_error() == Some(libc::ENOBUFS);
            let error = Error::os(format!("{verb} {group} on {name}"), error);
            if many { error.with_remedy("raise net.ipv4.igmp_max_memberships") } else { error }
        })
    }

    fn try_set(&self, group: IpAddr, member: bool, interface: u32) -> io::Result<()> {
        let missing = || io::Error::from_raw_os_error(libc::EAFNOSUPPORT);
        match group {
            IpAddr::V4(group) => {
                let socket = self.v4.as_ref().ok_or_else(missing)?;
                let interface = InterfaceIndexOrAddress::Index(interface);
                if member {
                    socket.join_multicast_v4_n(&group, &interface)
                } else {
                    socket.leave_multicast_v4_n(&group, &interface)
                }
            }
            IpAddr::V6(group) => {
                let socket = self.v6.as_ref().ok_or_else(missing)?;
                if member {
                    socket.join_multicast_v6(&group, interface)
                } else {
                    socket.leave_multicast_v6(&group, interface)
                }
            }
        }
    }
}
