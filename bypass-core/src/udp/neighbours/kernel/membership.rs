//! Groups that the kernel joins for us: it tells routers and opens the card's filter.

use std::io;
use std::net::IpAddr;

use socket2::{Domain, InterfaceIndexOrAddress, Socket, Type};

use crate::{Error, Result};

/// The sockets that hold the memberships; they receive nothing.
#[derive(Debug, Default)]
pub(super) struct Memberships {
    v4: Option<Socket>,
    v6: Option<Socket>,
}

impl Memberships {
    pub(super) fn set(
        &mut self,
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

    fn try_set(&mut self, group: IpAddr, member: bool, interface: u32) -> io::Result<()> {
        match group {
            IpAddr::V4(group) => {
                let socket = opened(&mut self.v4, Domain::IPV4)?;
                let interface = InterfaceIndexOrAddress::Index(interface);
                if member {
                    socket.join_multicast_v4_n(&group, &interface)
                } else {
                    socket.leave_multicast_v4_n(&group, &interface)
                }
            }
            IpAddr::V6(group) => {
                let socket = opened(&mut self.v6, Domain::IPV6)?;
                if member {
                    socket.join_multicast_v6(&group, interface)
                } else {
                    socket.leave_multicast_v6(&group, interface)
                }
            }
        }
    }
}

fn opened(socket: &mut Option<Socket>, domain: Domain) -> io::Result<&Socket> {
    if socket.is_none() {
        *socket = Some(Socket::new(domain, Type::DGRAM, None)?);
    }
    socket.as_ref().ok_or_else(|| io::ErrorKind::NotConnected.into())
}
