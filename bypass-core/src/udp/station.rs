//! [`Station`]: the interface that has an address, as the kernel knows it.

use std::io;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;
use netlink_packet_core::NLM_F_DUMP;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{InfoKind, LinkAttribute, LinkInfo, LinkLayerType, LinkMessage};

use crate::backend::socket::UdpOptions;
use crate::rtnetlink::Rtnetlink;
use crate::{Error, MacAddr, Result, Unsupported};

/// The interface that has an address, and what an endpoint beside the kernel has to know of it.
///
/// ```no_run
/// use bypass_core::backend::socket::UdpOptions;
/// use bypass_core::udp::Station;
///
/// let station = Station::of(&UdpOptions::new("10.0.0.1:4000".parse()?))?;
/// println!("{} on {}, MTU {}", station.mac, station.interface, station.mtu);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Station {
    /// The interface's name.
    pub interface: String,
    /// Its Ethernet address.
    pub mac: MacAddr,
    /// The addresses that are asked for, with the prefixes that are reached on the link; at least one.
    pub addresses: Vec<IpNet>,
    /// The largest IP packet, in bytes.
    pub mtu: usize,
    /// The other end of the cable is on this machine (veth). A kernel there leaves the checksums of
    /// what it sends to a device, and there is none.
    pub is_virtual: bool,
}

impl Station {
    /// Finds the interface that has the address of `options.local`; it must be `options.interface`,
    /// if that is set. For an unspecified address the interface must be named (there, or with the
    /// groups to join): the station has all its addresses then, of both families for `[::]` unless
    /// `options.only_v6` is set.
    ///
    /// It asks for the state of the calling thread's network namespace as it is now; an address that
    /// moves later is not followed.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when no interface is named or two are; [`Error::NoSuchInterface`];
    /// [`Error::Os`] for an address that no interface has, with a list of those there are;
    /// [`Error::Unsupported`] for the loopback interface and others that are no Ethernet.
    pub fn of(options: &UdpOptions) -> Result<Self> {
        let attempt = || format!("find the interface of {}", options.local);
        let (links, addresses) = ask_kernel().map_err(|error| Error::os(attempt(), error))?;
        let named = named(options)?;
        if let Some(name) = &named
            && !links.iter().any(|link| link.name == **name)
        {
            return Err(Error::NoSuchInterface { attempt: attempt().into(), name: name.clone() });
        }
        let is_named = |link: &Link| named.as_ref().is_none_or(|name| link.name == *name);
        let known = addresses.iter().filter_map(|&(index, net)| {
            Some((links.iter().find(|link| link.index == index)?, net))
        });
        let wanted: Vec<(&Link, IpNet)> = known
            .clone()
            .filter(|(link, net)| is_named(link) && asks_for(options, link, net))
            .collect();
        let Some(&(link, _)) = wanted.first() else {
            let there: Vec<_> = known
                .filter(|(link, _)| !link.is_loopback)
                .map(|(link, net)| format!("{} ({})", net.addr(), link.name))
                .collect();
            let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
            let error = io::Error::from_raw_os_error(libc::EADDRNOTAVAIL);
            return Err(Error::os(attempt(), error)
                .with_remedy(format!("take an address of an interface; there are: {there}")));
        };
        let unsupported = |why: String| Unsupported {
            what: "way to receive past the kernel".into(),
            backend: "this interface",
            why: why.into(),
        };
        if link.is_loopback {
            return Err(unsupported(format!(
                "{} has {}, and what is sent to it never becomes a frame with a checksum; take an \
                 address of an Ethernet interface, or a backend over kernel sockets \
                 (`udp+socket://`, `udp+uring://`)",
                link.name,
                options.local.ip()
            ))
            .into());
        }
        let mac = link.mac.ok_or_else(|| unsupported(format!("{} is no Ethernet", link.name)))?;
        Ok(Self {
            interface: link.name.clone(),
            mac,
            mtu: link.mtu,
            is_virtual: link.is_virtual,
            addresses: wanted
                .iter()
                .filter(|(other, _)| other.index == link.index)
                .map(|&(_, net)| net)
                .collect(),
        })
    }
}

/// The interface that the options name, if they name one.
fn named(options: &UdpOptions) -> Result<Option<String>> {
    let groups = options.multicast.groups.iter().filter_map(|(_, name)| name.as_ref());
    let sending = options.multicast.interface.iter();
    let mut names = options.interface.iter().chain(groups).chain(sending);
    let first = names.next();
    if let Some(other) = names.find(|&name| Some(name) != first) {
        let why = format!(
            "an endpoint past the kernel has one interface, and {} is named, too",
            first.map_or("another", |name| name.as_str())
        );
        return Err(Error::config("interface", other, why));
    }
    if first.is_none() && options.local.ip().is_unspecified() {
        let why = "an endpoint past the kernel has one interface: name it (`interface`), or take \
                   one of its addresses";
        return Err(Error::config("local", options.local, why));
    }
    Ok(first.cloned())
}

/// Whether an address of an interface is one that the options ask for.
fn asks_for(options: &UdpOptions, link: &Link, net: &IpNet) -> bool {
    let address = net.addr();
    match options.local {
        SocketAddr::V4(local) if local.ip().is_unspecified() => address.is_ipv4(),
        SocketAddr::V6(local) if local.ip().is_unspecified() => {
            address.is_ipv6() || !options.only_v6
        }
        SocketAddr::V6(local) if local.scope_id() != 0 => {
            link.index == local.scope_id() && address == IpAddr::V6(*local.ip())
        }
        local => address == local.ip(),
    }
}

struct Link {
    index: u32,
    name: String,
    mac: Option<MacAddr>,
    mtu: usize,
    is_loopback: bool,
    is_virtual: bool,
}

/// An address, and the index of the interface that has it.
type Held = (u32, IpNet);

/// All interfaces, and all addresses.
fn ask_kernel() -> io::Result<(Vec<Link>, Vec<Held>)> {
    let mut netlink = Rtnetlink::open()?;
    let links = RouteNetlinkMessage::GetLink(LinkMessage::default());
    let addresses = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    let links = netlink.ask(links, NLM_F_DUMP)?.into_iter().filter_map(link);
    let links = links.collect();
    let addresses = netlink.ask(addresses, NLM_F_DUMP)?.into_iter().filter_map(address);
    Ok((links, addresses.collect()))
}

fn link(answer: RouteNetlinkMessage) -> Option<Link> {
    let RouteNetlinkMessage::NewLink(message) = answer else { return None };
    let kind = message.header.link_layer_type;
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        mac: None,
        mtu: 0,
        is_loopback: kind == LinkLayerType::Loopback,
        is_virtual: false,
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Mtu(mtu) => link.mtu = mtu as usize,
            LinkAttribute::Address(mac) if kind == LinkLayerType::Ether => {
                link.mac = mac.try_into().ok().map(MacAddr);
            }
            LinkAttribute::LinkInfo(about) => {
                link.is_virtual = about.contains(&LinkInfo::Kind(InfoKind::Veth));
            }
            _ => {}
        }
    }
    Some(link)
}

fn address(answer: RouteNetlinkMessage) -> Option<Held> {
    let RouteNetlinkMessage::NewAddress(message) = answer else { return None };
    // On a link between two hosts `Address` is the other one's, `Local` ours; elsewhere they are the
    // same, and IPv6 leaves `Local` out.
    let (mut ours, mut other) = (None, None);
    for attribute in message.attributes {
        match attribute {
            AddressAttribute::Local(address) => ours = Some(address),
            AddressAttribute::Address(address) => other = Some(address),
            _ => {}
        }
    }
    let net = IpNet::new(ours.or(other)?, message.header.prefix_len).ok()?;
    Some((message.header.index, net))
}
