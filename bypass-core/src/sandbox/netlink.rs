//! The requests to rtnetlink(7) that a sandbox needs.

use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoKind, InfoVeth, LinkAttribute,
    LinkFlags, LinkInfo, LinkMessage,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::Interface;
use crate::rtnetlink::Rtnetlink;
use crate::{Error, Result};

pub(super) struct Netlink(Rtnetlink);

impl Netlink {
    pub(super) fn open() -> Result<Self> {
        Rtnetlink::open().map(Self).map_err(|error| Error::os("open a netlink socket", error))
    }

    /// Brings an interface up.
    pub(super) fn set_up(&mut self, name: &str) -> Result<()> {
        let mut link = named(name);
        link.header.flags = LinkFlags::Up;
        link.header.change_mask = LinkFlags::Up;
        self.request(RouteNetlinkMessage::SetLink(link), 0, || format!("bring {name} up"))
    }

    /// Has the kernel make up no IPv6 address for an interface, so that it says nothing there by itself.
    pub(super) fn keep_quiet(&mut self, name: &str) {
        let mode = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
        let mut link = named(name);
        link.attributes.push(LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![mode])]));
        let attempt = || format!("keep {name} quiet");
        // A kernel without IPv6 refuses, and is quiet.
        let _quiet = self.request(RouteNetlinkMessage::SetLink(link), 0, attempt);
    }

    /// Makes two interfaces joined by a cable, the second one in `there`, if that is given. The kernel cuts
    /// what it sends in trains before it gets on the cable, as it does for a network card that cannot: a
    /// veth pair would pass 64 KiB on as one frame, which `AF_PACKET` and what is built on it cut off.
    pub(super) fn add_veth(
        &mut self,
        [a, b]: &[Interface; 2],
        there: Option<BorrowedFd<'_>>,
    ) -> Result<()> {
        let end = |interface: &Interface| {
            let mut link = named(&interface.name);
            link.attributes.push(LinkAttribute::Address(interface.mac.0.to_vec()));
            link.attributes.push(LinkAttribute::GsoMaxSegs(1));
            link
        };
        let (mut link, mut peer) = (end(a), end(b));
        peer.attributes.extend(there.map(|there| LinkAttribute::NetNsFd(there.as_raw_fd())));
        link.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]));
        let attempt = || format!("make the veth pair {} and {}", a.name, b.name);
        self.request(RouteNetlinkMessage::NewLink(link), NLM_F_CREATE | NLM_F_EXCL, attempt)
    }

    /// Gives an interface an address on a network of 24 bits.
    pub(super) fn add_address(&mut self, name: &str, address: Ipv4Addr) -> Result<()> {
        let mut message = AddressMessage::default();
        message.header.family = AddressFamily::Inet;
        message.header.prefix_len = 24;
        message.header.index = self.link(name)?.header.index;
        message.attributes.push(AddressAttribute::Local(address.into()));
        message.attributes.push(AddressAttribute::Address(address.into()));
        let attempt = || format!("give {name} the address {address}");
        self.request(RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_EXCL, attempt)
    }

    /// What the kernel knows of an interface.
    pub(super) fn link(&mut self, name: &str) -> Result<LinkMessage> {
        let failed = |error| Error::os(format!("look {name} up"), error);
        let answers = self.0.ask(RouteNetlinkMessage::GetLink(named(name)), 0).map_err(failed)?;
        let link = answers.into_iter().find_map(|answer| match answer {
            RouteNetlinkMessage::NewLink(link) => Some(link),
            _ => None,
        });
        link.ok_or_else(|| failed(std::io::ErrorKind::InvalidData.into()))
    }

    fn request(
        &mut self,
        what: RouteNetlinkMessage,
        flags: u16,
        attempt: impl Fn() -> String,
    ) -> Result<()> {
        let done = self.0.ask(what, NLM_F_ACK | flags);
        done.map(drop).map_err(|error| Error::os(attempt(), error))
    }
}

fn named(name: &str) -> LinkMessage {
    let mut link = LinkMessage::default();
    link.attributes.push(LinkAttribute::IfName(name.to_owned()));
    link
}
