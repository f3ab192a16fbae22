//! UDP in user space beside the kernel: at an address that the kernel keeps.

use std::net::IpAddr;

use ipnet::IpNet;

use super::config::{Config, RxChecksums};
use super::neighbours::Kernel;
use super::{Station, UdpOverL2};
use crate::backend::socket::UdpOptions;
use crate::{Error, PacketIo, Result, RxOffloads, Unsupported};

/// What a port has to receive for an endpoint beside the kernel.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Beside {
    /// The interface.
    pub station: Station,
    /// The endpoint's UDP port, which a socket of the kernel reserves.
    pub port: u16,
    /// Where the endpoint's datagrams are sent to: its addresses, the broadcast addresses if it was
    /// bound to an unspecified one, and its groups.
    pub destinations: Vec<IpAddr>,
}

impl<P: PacketIo> UdpOverL2<P, Kernel> {
    /// Opens an endpoint like a UDP socket: at an [address](UdpOptions::local) that the kernel keeps,
    /// on the interface that has it. The kernel goes on answering ARP, NDP and ping there, finds
    /// neighbours and routes, tells routers of groups, and reserves the UDP port (port 0 lets it
    /// choose). `open` opens the port that receives what [`Beside`] names.
    ///
    /// What the machine itself sends to one of its own addresses never comes to an interface, so this
    /// endpoint does not receive it, nor does anybody here receive what it sends to a group. A
    /// program that wants to meet itself takes two network namespaces
    /// ([`Sandbox::host`](crate::sandbox::Sandbox::host)).
    ///
    /// Settings that say how kernel sockets go about it (`batch`, `coalesce`) say nothing here;
    /// datagrams are never fragmented; broadcast needs no permission.
    ///
    /// # Errors
    ///
    /// As [`Station::of`], [`Kernel::open`] and `open`; [`Error::Os`] for a port that a socket has;
    /// [`Error::Unsupported`] for what only kernel sockets do: `peer`, `reuse_port` and `gro`, and for
    /// `timestamps` on a port that makes none.
    pub fn beside_kernel(
        options: &UdpOptions,
        open: impl FnOnce(&Beside) -> Result<P>,
    ) -> Result<Self> {
        refuse(options)?;
        let station = Station::of(options)?;
        let socket = options.bind()?;
        let local = socket2::SockRef::from(&socket).local_addr();
        let port = local.ok().and_then(|local| local.as_socket()).map_or(0, |local| local.port());
        let neighbours = Kernel::open(&station.interface)?.reserve(socket)?;
        let beside = Beside { port, destinations: destinations(options, &station), station };
        let frames = open(&beside)?;
        if options.timestamps && !frames.caps().rx_offloads.contains(RxOffloads::TIMESTAMP) {
            let (backend, why) = (frames.caps().backend, "leave `timestamps` off".into());
            let what = "times of arrival (`timestamps`)".into();
            return Err(Unsupported { what, backend, why }.into());
        }

        let Beside { station, port, .. } = beside;
        let mut config = Config::new(station.mac, port).mtu(station.mtu);
        for address in station.addresses {
            config = config.address(address);
        }
        if let Some(hops) = options.ttl {
            config = config.ttl(hops);
        }
        if station.is_virtual {
            config = config.rx_checksums(RxChecksums::VerifyOrPartial);
        }
        let config = config.multicast_ttl(options.multicast.ttl).neighbours(neighbours);
        let mut endpoint = Self::new(frames, config)?;
        for (group, _) in &options.multicast.groups {
            endpoint.join(*group)?;
        }
        Ok(endpoint)
    }
}

fn refuse(options: &UdpOptions) -> Result<()> {
    let asked = [
        (options.peer.is_some(), "way to receive from one peer only", "look at who sent it"),
        (options.reuse_port, "sharing of ports", "say how many share it, with `share`"),
        (options.gro, "receiving in trains", "leave `gro` off"),
    ];
    match asked.into_iter().find(|(asked, ..)| *asked) {
        Some((_, what, why)) => {
            let (what, why) = (what.into(), why.into());
            Err(Error::from(Unsupported { what, backend: "UDP past the kernel", why }))
        }
        None => Ok(()),
    }
}

fn destinations(options: &UdpOptions, station: &Station) -> Vec<IpAddr> {
    let mut all: Vec<_> = station.addresses.iter().map(IpNet::addr).collect();
    if options.local.ip().is_unspecified() {
        let broadcasts = station.addresses.iter().filter(|net| net.addr().is_ipv4());
        all.extend(broadcasts.map(IpNet::broadcast));
        all.push([255; 4].into());
    }
    all.extend(options.multicast.groups.iter().map(|(group, _)| *group));
    all
}
