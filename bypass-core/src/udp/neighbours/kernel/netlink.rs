//! The questions that are put to the kernel over netlink, and its news: rtnetlink(7).

use std::io;
use std::net::IpAddr;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteMessage, RouteType, RouteVia,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

use crate::MacAddr;

/// News of neighbours and of routes of both families.
const GROUPS: [u32; 3] = [libc::RTNLGRP_NEIGH, libc::RTNLGRP_IPV4_ROUTE, libc::RTNLGRP_IPV6_ROUTE];

/// A conversation with the kernel: one socket to ask, one to listen.
#[derive(Debug)]
pub(super) struct Netlink {
    questions: Socket,
    news: Socket,
    /// The interface that we care about.
    interface: u32,
    sequence: u32,
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
        let kernel = SocketAddr::new(0, 0);
        let mut questions = Socket::new(NETLINK_ROUTE)?;
        questions.bind_auto()?;
        questions.connect(&kernel)?;
        let mut news = Socket::new(NETLINK_ROUTE)?;
        news.bind_auto()?;
        news.set_non_blocking(true)?;
        for group in GROUPS {
            news.add_membership(group)?;
        }
        Ok(Self { questions, news, interface, sequence: 0 })
    }

    /// Everything that the kernel knows of neighbours on the interface.
    pub(super) fn dump(&mut self) -> io::Result<Vec<News>> {
        let message = RouteNetlinkMessage::GetNeighbour(NeighbourMessage::default());
        let answers = self.ask(message, NLM_F_DUMP)?;
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
        self.ask(RouteNetlinkMessage::NewNeighbour(message), NLM_F_ACK | create).map(drop)
    }

    /// The host on the link that the kernel would hand packets to `destination` to, and the
    /// interface; `None` where it would not send them out at all.
    pub(super) fn route(&mut self, destination: IpAddr) -> io::Result<Option<(IpAddr, u32)>> {
        let mut message = RouteMessage::default();
        message.header.address_family = family(destination);
        message.header.destination_prefix_length = if destination.is_ipv4() { 32 } else { 128 };
        message.attributes.push(RouteAttribute::Destination(destination.into()));
        let answers = self.ask(RouteNetlinkMessage::GetRoute(message), 0)?;
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

    /// Sends a request and reads up to its last answer.
    fn ask(
        &mut self,
        what: RouteNetlinkMessage,
        flags: u16,
    ) -> io::Result<Vec<RouteNetlinkMessage>> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut request = NetlinkMessage::new(header, NetlinkPayload::from(what));
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.questions.send(&bytes, 0)?;

        let mut answers = Vec::new();
        loop {
            let (bytes, _) = self.questions.recv_from_full()?;
            for message in messages(&bytes) {
                let message = message?;
                if message.header.sequence_number != self.sequence {
                    continue;
                }
                match message.payload {
                    NetlinkPayload::Done(_) => return Ok(answers),
                    NetlinkPayload::Error(error) if error.code.is_some() => {
                        return Err(error.to_io());
                    }
                    NetlinkPayload::Error(_) => return Ok(answers),
                    NetlinkPayload::InnerMessage(answer) => {
                        answers.push(answer);
                        if flags & (NLM_F_DUMP | NLM_F_ACK) == 0 {
                            return Ok(answers);
                        }
                    }
                    _ => {}
                }
            }
        }
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

fn family(ip: IpAddr) -> AddressFamily {
    if ip.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

/// The messages that lie one behind the other in what one call received.
fn messages(
    mut bytes: &[u8],
) -> impl Iterator<Item = io::Result<NetlinkMessage<RouteNetlinkMessage>>> {
    std::iter::from_fn(move || {
        if bytes.is_empty() {
            return None;
        }
        let message = NetlinkMessage::deserialize(bytes);
        // Messages are aligned to four bytes.
        let len = match &message {
            Ok(message) => (message.header.length as usize).next_multiple_of(4).max(4),
            Err(_) => bytes.len(),
        };
        bytes = bytes.get(len..).unwrap_or_default();
        Some(message.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string())))
    })
}
