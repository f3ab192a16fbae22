//! The questions that are put to the kernel over netlink, and its news: rtnetlink(7).

use std::io;
use std::net::IpAddr;

use netlink_packet_core::{NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteType, RouteVia,
};
use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_ROUTE;

use crate::MacAddr;
use crate::rtnetlink::{Rtnetlink, family, messages};

/// News of neighbours and of routes of both families.
const GROUPS: [u32; 3] = [libc::RTNLGRP_NEIGH, libc::RTNLGRP_IPV4_ROUTE, libc::RTNLGRP_IPV6_ROUTE];

/// A conversation with the kernel: one socket to ask, one to listen.
#[derive(Debug)]
pub(super) struct Netlink {
    questions: Rtnetlink,
    news: Socket,
    /// The interface that we care about.
    interface: u32,
}

/// What the kernel says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// The state of a neighbour.
    Neighbour { host: IpAddr, state: KernelState },
    /// Some route has changed.
    Routes,
    /// There was more news than fitted: everything may have changed.
    Lost,
}

/// What the kernel knows of a neighbour, as far as it matters to us (neighbour states of
/// `linux/neighbour.h`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KernelState {
    /// Good to use.
    Valid(MacAddr),
    /// Good to use, but the kernel would ask again when it does.
    Stale(MacAddr),
    /// It is being asked for.
    Incomplete,
    /// It did not answer.
    Failed,
    /// Forgotten.
    Gone,
}

impl Netlink {
    pub(super) fn open(interface: u32) -> io::Result<Self> {
        let mut news = Socket::new(NETLINK_ROUTE)?;
        news.bind_auto()?;
        news.set_non_blocking(true)?;
        for group in GROUPS {
            news.add_membership(group)?;
        }
        Ok(Self { questions: Rtnetlink::open()?, news, interface })
    }

    /// Everything that the kernel knows of neighbours on the interface.
    pub(super) fn dump(&mut self) -> io::Result<Vec<News>> {
        let message = RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default());
        let answers = self.questions.ask(message, NLM_F_DUMP)?;
        Ok(answers.into_iter().filter_map(|answer| self.news_of(answer)).collect())
    }

    /// Has the kernel find out, or confirm, where `host` is, as if it were about to send to it
    /// (`NTF_USE`, Linux 2.6.32). With `create` false, only if it has heard of it.
    pub(super) fn make_use_of(&mut self, host: IpAddr, create: bool) -> io::Result<()> {
        let mut message = NeighbourMessage::default();
        message.header.family = family(host);
        message.header.ifindex = self.interface;
        message.header.state = NeighbourState::None;
        message.header.flags = NeighbourFlags::Use;
        message.attributes.push(NeighbourAttribute::Destination(match host {
            IpAddr::V4(ip) => NeighbourAddress::Inet(ip),
            IpAddr::V6(ip) => NeighbourAddress::Inet6(ip),
        }));
        let create = if create { NLM_F_CREATE } else { 0 };
        self.questions.ask(RouteNetlinkMessage::NewNeighbour(message), NLM_F_ACK | create).map(drop)
    }

    /// The host on the link that the kernel would hand packets to `destination` to, and the
    /// interface; `None` where it would not send them out at all.
    pub(super) fn route(&mut self, destination: IpAddr) -> io::Result<Option<(IpAddr, u32)>> {
        let mut message = RouteMessage::default();
        message.header.address_family = family(destination);
        message.header.destination_prefix_length = if destination.is_ipv4() { 32 } else { 128 };
        message.attributes.push(RouteAttribute::Destination(destination.into()));
        let answers = self.questions.ask(RouteNetlinkMessage::GetRoute(message), 0)?;
        let route = answers.into_iter().find_map(|answer| match answer {
            RouteNetlinkMessage::NewRoute(route) => Some(route),
            _ => None,
        });
        let Some(route) = route.filter(|route| route.header.kind == RouteType::Unicast) else {
            return Ok(None);
        };
        let (mut hop, mut interface) = (destination, None);
        for attribute in &route.attributes {
            match attribute {
                RouteAttribute::Gateway(RouteAddress::Inet(ip))
                | RouteAttribute::Via(RouteVia::Inet(ip)) => hop = (*ip).into(),
                RouteAttribute::Gateway(RouteAddress::Inet6(ip))
                | RouteAttribute::Via(RouteVia::Inet6(ip)) => hop = (*ip).into(),
                RouteAttribute::Oif(index) => interface = Some(*index),
                _ => {}
            }
        }
        Ok(interface.map(|interface| (hop, interface)))
    }

    /// The next piece of news that matters, if there is any.
    pub(super) fn next(&mut self, pending: &mut Vec<News>) -> io::Result<bool> {
        let (bytes, sender) = match self.news.recv_from_full() {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                pending.push(News::Lost);
                return Ok(true);
            }
            Err(error) => return Err(error),
        };
        if sender.port_number() == 0 {
            for message in messages(&bytes) {
                if let NetlinkPayload::InnerMessage(message) = message?.payload {
                    pending.extend(self.news_of(message));
                }
            }
        }
        Ok(true)
    }

    fn news_of(&self, message: RouteNetlinkMessage) -> Option<News> {
        let (neighbour, gone) = match message {
            RouteNetlinkMessage::NewNeighbour(neighbour) => (neighbour, false),
            RouteNetlinkMessage::DelNeighbour(neighbour) => (neighbour, true),
            RouteNetlinkMessage::NewRoute(_) | RouteNetlinkMessage::DelRoute(_) => {
                return Some(News::Routes);
            }
            _ => return None,
        };
        if neighbour.header.ifindex != self.interface {
            return None;
        }
        let (mut host, mut station) = (None, None);
        for attribute in &neighbour.attributes {
            match attribute {
                NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => {
                    host = Some(IpAddr::from(*ip));
                }
                NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => {
                    host = Some(IpAddr::from(*ip));
                }
                NeighbourAttribute::LinkLayerAddress(mac) => {
                    station = <[u8; 6]>::try_from(&mac[..]).ok().map(MacAddr);
                }
                _ => {}
            }
        }
        let state = match (neighbour.header.state, station) {
            _ if gone => KernelState::Gone,
            (
                NeighbourState::Reachable
                | NeighbourState::Delay
                | NeighbourState::Probe
                | NeighbourState::Permanent
                | NeighbourState::Noarp,
                Some(station),
            ) => KernelState::Valid(station),
            (NeighbourState::Stale, Some(station)) => KernelState::Stale(station),
            (NeighbourState::Incomplete, _) => KernelState::Incomplete,
            (NeighbourState::Failed, _) => KernelState::Failed,
            _ => KernelState::Gone,
        };
        Some(News::Neighbour { host: host?, state })
    }
}
