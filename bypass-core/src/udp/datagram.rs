//! [`UdpDatagram`]: a frame seen as the datagram inside it.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bitflags::bitflags;
use zerocopy::FromBytes;

use super::inspect::Layout;
use super::local::Local;
use super::wire::ethernet::{self, Ethernet};
use super::wire::ipv4::Ipv4;
use super::wire::ipv6::{Ipv6, TRAFFIC_CLASS};
use super::wire::udp::{self, Udp};
use crate::buffer::Room;
use crate::{Buffer, Datagram, Ecn, Frame, MacAddr, NextHop, OutOfRoom, RecvMeta, Transmit};

/// The datagram of [`UdpOverL2`](super::UdpOverL2): a frame of the port, seen as its payload.
///
/// A received one keeps its headers where they came, in front of the payload, and reads
/// [`RecvMeta`] out of them when asked; a [reply](Datagram::reply) turns them around in place.
///
/// ```text
/// |<- room ->|<- Ethernet, IP, UDP ->|<---- data ---->|
///            |<------------- the frame -------------->|
/// ```
///
/// [`headroom`](Buffer::headroom) is what is left when the largest headers of the endpoint have
/// found their place.
pub struct UdpDatagram<F> {
    frame: F,
    /// Bytes of the frame before the payload: the headers of a received datagram.
    head: u32,
    /// Bytes of the frame before the IP header.
    link: u8,
    /// Bytes that the endpoint's headers may need in front of the payload.
    reserve: u8,
    flags: Flags,
    plan: Plan,
}

/// Where the datagram goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Plan {
    /// Nobody has said.
    Unset,
    /// Back to where it came from.
    Reply,
    /// There, with nothing else asked for: what is said of nearly every datagram.
    To(SocketAddr),
    /// As this says.
    As(Transmit),
}

bitflags! {
    /// What is known of the headers of a received datagram.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(super) struct Flags: u8 {
        /// They are those that it was received with.
        const RECEIVED = 1 << 0;
        const V6 = 1 << 1;
        /// They are the common ones, so that they can be turned around in place: no tag but our
        /// own, no options, no extensions, and we alone are the destination.
        const PLAIN = 1 << 2;
        /// The checksum in them is right for the payload, which nobody has touched.
        const SEALED = 1 << 3;
    }
}

/// Headers that are turned around in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    /// Bytes before the IP header.
    pub(super) link: usize,
    pub(super) v6: bool,
    /// The checksum is still right.
    pub(super) sealed: bool,
}

impl<F: Frame> UdpDatagram<F> {
    /// Of a frame that was received and inspected.
    #[inline(always)]
    pub(super) fn received(mut frame: F, layout: &Layout, reserve: u8) -> Self {
        if layout.end < frame.data().len() {
            // Shortening never fails.
            let _shorter = frame.set_len(layout.end);
        }
        let (head, link) = (layout.head as u32, layout.link as u8);
        Self { frame, head, link, reserve, flags: layout.flags, plan: Plan::Unset }
    }

    /// Of an empty frame.
    pub(super) fn empty(frame: F, reserve: u8) -> Self {
        Self { frame, head: 0, link: 0, reserve, flags: Flags::empty(), plan: Plan::Unset }
    }

    /// Where it goes.
    #[inline(always)]
    pub(super) fn plan(&self) -> &Plan {
        &self.plan
    }

    /// How its headers are turned around, if they can be, for an endpoint that is `local`.
    #[inline(always)]
    pub(super) fn turn(&self, local: &Local) -> Option<Turn> {
        (self.flags.contains(Flags::PLAIN) && self.was_sent_to(local)).then(|| Turn {
            link: self.link.into(),
            v6: self.flags.contains(Flags::V6),
            sealed: self.flags.contains(Flags::SEALED),
        })
    }

    /// Bytes that there are for headers.
    #[inline(always)]
    pub(super) fn header_room(&self) -> usize {
        self.frame.headroom() + self.head()
    }

    /// The frame, and the bytes of headers in it.
    #[inline(always)]
    pub(super) fn into_parts(self) -> (F, usize) {
        let head = self.head();
        (self.frame, head)
    }

    /// Whether its headers are what this endpoint would have accepted, with its tag or none, and
    /// not another one.
    #[inline(always)]
    fn was_sent_to(&self, local: &Local) -> bool {
        let udp = self.head().checked_sub(udp::LEN).and_then(|at| self.frame.data().get(at..));
        usize::from(self.link) == ethernet::header_len(local.vlan)
            && self.headers().is_some_and(|(_, ip)| local.is_ours(ip.destination))
            && udp
                .and_then(|udp| Udp::ref_from_prefix(udp).ok())
                .is_some_and(|(udp, _)| udp.destination.get() == local.port)
    }

    /// Bytes of headers that it was received with.
    #[inline(always)]
    fn head(&self) -> usize {
        self.head as usize
    }

    /// The station and the address that it came from: what learning needs.
    #[inline(always)]
    pub(super) fn origin(&self) -> Option<(IpAddr, MacAddr)> {
        let (ethernet, ip) = self.headers()?;
        Some((ip.source, MacAddr(ethernet.source)))
    }

    #[inline(always)]
    fn headers(&self) -> Option<(&Ethernet, IpHeader)> {
        if !self.flags.contains(Flags::RECEIVED) {
            return None;
        }
        let headers = self.frame.data().get(..self.head())?;
        let (ethernet, _) = Ethernet::ref_from_prefix(headers).ok()?;
        let packet = headers.get(self.link.into()..)?;
        let ip = if self.flags.contains(Flags::V6) {
            let (ip, _) = Ipv6::ref_from_prefix(packet).ok()?;
            IpHeader {
                source: Ipv6Addr::from_octets(ip.source).into(),
                destination: Ipv6Addr::from_octets(ip.destination).into(),
                ecn: Ecn::from_bits((ip.version_class_flow.get() >> TRAFFIC_CLASS) as u8),
            }
        } else {
            let (ip, _) = Ipv4::ref_from_prefix(packet).ok()?;
            IpHeader {
                source: Ipv4Addr::from(ip.source).into(),
                destination: Ipv4Addr::from(ip.destination).into(),
                ecn: Ecn::from_bits(ip.tos),
            }
        };
        Some((ethernet, ip))
    }

    #[inline(always)]
    fn meta(&self) -> Option<RecvMeta> {
        let (ethernet, ip) = self.headers()?;
        let udp = self.frame.data().get(self.head().checked_sub(udp::LEN)?..)?;
        let (udp, _) = Udp::ref_from_prefix(udp).ok()?;
        Some(RecvMeta {
            remote: Some(SocketAddr::new(ip.source, udp.source.get())),
            local: Some(ip.destination),
            ecn: ip.ecn,
            next_hop: Some(NextHop { mac: MacAddr(ethernet.source) }),
            timestamp: self.frame.rx_meta().timestamp,
            ..RecvMeta::default()
        })
    }

    /// Moves the headers that it was received with, so that they end where the payload begins.
    fn shift_headers(&mut self, from: usize, to: usize) {
        let head = self.head();
        if head > 0 {
            self.frame.data_mut().copy_within(from..from + head, to);
        }
    }

    fn no_room(room: Room, asked: usize, available: usize) -> OutOfRoom {
        OutOfRoom { room, asked, available }
    }
}

struct IpHeader {
    source: IpAddr,
    destination: IpAddr,
    ecn: Ecn,
}

impl<F: Frame> Buffer for UdpDatagram<F> {
    #[inline(always)]
    fn data(&self) -> &[u8] {
        &self.frame.data()[self.head()..]
    }

    #[inline(always)]
    fn data_mut(&mut self) -> &mut [u8] {
        self.flags.remove(Flags::SEALED);
        let head = self.head();
        &mut self.frame.data_mut()[head..]
    }

    fn headroom(&self) -> usize {
        let behind_headers = self.header_room().saturating_sub(self.reserve.into());
        behind_headers.min(self.frame.headroom())
    }

    fn tailroom(&self) -> usize {
        self.frame.tailroom()
    }

    fn prepend(&mut self, n: usize) -> Result<&mut [u8], OutOfRoom> {
        if n > self.headroom() {
            return Err(Self::no_room(Room::Headroom, n, self.headroom()));
        }
        self.frame.prepend(n)?;
        self.shift_headers(n, 0);
        Ok(&mut self.data_mut()[..n])
    }

    fn append(&mut self, n: usize) -> Result<&mut [u8], OutOfRoom> {
        self.flags.remove(Flags::SEALED);
        self.frame.append(n)
    }

    fn trim_front(&mut self, n: usize) -> Result<(), OutOfRoom> {
        if n > self.data().len() {
            return Err(Self::no_room(Room::Data, n, self.data().len()));
        }
        self.flags.remove(Flags::SEALED);
        self.shift_headers(0, n);
        self.frame.trim_front(n)
    }

    fn set_len(&mut self, n: usize) -> Result<(), OutOfRoom> {
        if n > self.data().len() + self.tailroom() {
            let available = self.data().len() + self.tailroom();
            return Err(Self::no_room(Room::Tailroom, n, available));
        }
        self.flags.remove(Flags::SEALED);
        self.frame.set_len(self.head() + n)
    }
}

impl<F: Frame> Datagram for UdpDatagram<F> {
    #[inline]
    fn recv_meta(&self) -> RecvMeta {
        self.meta().unwrap_or_default()
    }

    fn transmit(&self) -> Transmit {
        match &self.plan {
            Plan::Unset => Transmit::default(),
            Plan::Reply => {
                let meta = self.recv_meta();
                Transmit {
                    destination: meta.remote,
                    source: meta.local,
                    next_hop: meta.next_hop,
                    ..Transmit::default()
                }
            }
            Plan::To(destination) => Transmit::to(*destination),
            Plan::As(transmit) => *transmit,
        }
    }

    #[inline]
    fn set_transmit(&mut self, transmit: Transmit) {
        self.plan = Plan::As(transmit);
    }

    #[inline(always)]
    fn send_to(&mut self, destination: SocketAddr) {
        self.plan = Plan::To(destination);
    }

    /// Turns the headers around in place when it is sent; nothing is looked up or copied.
    #[inline(always)]
    fn reply(&mut self) {
        self.plan = Plan::Reply;
    }
}

impl<F: Frame> fmt::Debug for UdpDatagram<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UdpDatagram")
            .field("len", &self.data().len())
            .field("remote", &self.recv_meta().remote)
            .field("destination", &self.transmit().destination)
            .finish_non_exhaustive()
    }
}
