//! Control messages (`cmsg(3)`): what travels beside a datagram or frame.
//!
//! They are read and written as bytes in the kernel's layout, which is the same on every C
//! library: a `size_t` length with header, an `int` level, an `int` type, then the data, and the
//! next header at the next multiple of `size_t`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::{Clock, Ecn, Timestamp, Transmit};

const WORD: usize = size_of::<usize>();
const HEADER: usize = WORD + 8;

/// `MSG_CONTROL` bytes that hold everything that [`encode`] writes or that a socket with every
/// option of the backends receives.
pub const CONTROL_ROOM: usize = 256;

/// Memory for control messages, aligned as the kernel's macros expect it.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(8))]
pub struct ControlBuffer(pub [u8; CONTROL_ROOM]);

impl Default for ControlBuffer {
    fn default() -> Self {
        Self([0; CONTROL_ROOM])
    }
}

/// What the kernel told beside a datagram or frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// The address that the datagram was sent to; for a broadcast, our own on that link
    /// (`IP_PKTINFO`, `IPV6_PKTINFO`).
    pub local: Option<IpAddr>,
    /// Congestion mark (`IP_RECVTOS`, `IPV6_RECVTCLASS`).
    pub ecn: Ecn,
    /// Size of the segments of a train (`UDP_GRO`, Linux 5.0+).
    pub segment_size: Option<u16>,
    /// When it arrived (`SO_TIMESTAMPNS`; `SO_TIMESTAMPING`, of which the device's stamp is
    /// preferred).
    pub timestamp: Option<Timestamp>,
    /// Packets that the socket has dropped so far, modulo 2³² (`SO_RXQ_OVFL`, Linux 2.6.33+).
    pub dropped: Option<u32>,
    /// What AF_PACKET knows (`PACKET_AUXDATA`).
    pub auxdata: Option<AuxData>,
}

/// `struct tpacket_auxdata` of `linux/if_packet.h`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AuxData {
    /// `TP_STATUS_*`.
    pub status: u32,
    /// Bytes of the frame on the wire, without a stripped VLAN tag.
    pub len: u32,
    /// Bytes of it that were received.
    pub snaplen: u32,
    /// The stripped VLAN tag; valid with `TP_STATUS_VLAN_VALID`.
    pub vlan_tci: u16,
    /// Its protocol; valid with `TP_STATUS_VLAN_TPID_VALID` (Linux 3.14+), else `0x8100`.
    pub vlan_tpid: u16,
}

/// Reads control messages. What is unknown, cut short or malformed is left out.
#[must_use]
#[inline]
pub fn decode(mut control: &[u8]) -> Received {
    let mut received = Received::default();
    while let Some((level, kind, data, rest)) = split_first(control) {
        received.take(level, kind, data);
        control = rest;
    }
    received
}

/// The first control message (level, type, data) and what lies behind it.
fn split_first(control: &[u8]) -> Option<(i32, i32, &[u8], &[u8])> {
    let (len, rest) = control.split_first_chunk::<WORD>()?;
    let (level, rest) = rest.split_first_chunk::<4>()?;
    let (kind, _) = rest.split_first_chunk::<4>()?;
    let len = usize::from_ne_bytes(*len);
    let data = control.get(HEADER..len)?;
    let next = len.next_multiple_of(WORD).min(control.len());
    Some((i32::from_ne_bytes(*level), i32::from_ne_bytes(*kind), data, &control[next..]))
}

impl Received {
    fn take(&mut self, level: i32, kind: i32, data: &[u8]) {
        match (level, kind) {
            (libc::SOL_IP, libc::IP_PKTINFO) => self.take_v4_info(data),
            (libc::SOL_IPV6, libc::IPV6_PKTINFO) => {
                let ip = data.first_chunk::<16>().map(|ip| Ipv6Addr::from(*ip).to_canonical());
                self.local = self.local.or(ip);
            }
            (libc::SOL_IP, libc::IP_TOS) => {
                self.ecn = data.first().map_or(self.ecn, |tos| Ecn::from_bits(*tos));
            }
            (libc::SOL_IPV6, libc::IPV6_TCLASS) => {
                self.ecn = word(data, 0).map_or(self.ecn, |class| Ecn::from_bits(class as u8));
            }
            (libc::SOL_UDP, libc::UDP_GRO) => {
                self.segment_size = word(data, 0).and_then(|size| u16::try_from(size).ok());
            }
            (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) => {
                self.timestamp = timespec(data, 0, Clock::Realtime);
            }
            (libc::SOL_SOCKET, libc::SCM_TIMESTAMPING) => {
                let device = timespec(data, 2, Clock::Device);
                self.timestamp = device.or_else(|| timespec(data, 0, Clock::Realtime));
            }
            (libc::SOL_SOCKET, libc::SO_RXQ_OVFL) => self.dropped = word(data, 0),
            (libc::SOL_PACKET, libc::PACKET_AUXDATA) => self.auxdata = auxdata(data),
            _ => {}
        }
    }

    /// `struct in_pktinfo`: interface, local address for a reply, destination address.
    fn take_v4_info(&mut self, data: &[u8]) {
        let address = |at| -> Option<Ipv4Addr> {
            data.get(at..).and_then(<[u8]>::first_chunk::<4>).map(|ip| Ipv4Addr::from(*ip))
        };
        let (reply_from, sent_to) = (address(4), address(8));
        // A group is what a receiver wants to know; a broadcast address tells it nothing.
        let local = sent_to.filter(Ipv4Addr::is_multicast).or(reply_from);
        self.local = local.map(IpAddr::V4).or(self.local);
    }
}

fn word(data: &[u8], at: usize) -> Option<u32> {
    data.get(at..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

fn half(data: &[u8], at: usize) -> Option<u16> {
    data.get(at..)?.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes))
}

/// The `index`th `struct timespec`; a zero means that nobody stamped.
fn timespec(data: &[u8], index: usize, clock: Clock) -> Option<Timestamp> {
    let long = |at: usize| -> Option<i64> {
        let bytes = data.get(at * WORD..)?.first_chunk::<WORD>()?;
        i64::try_from(isize::from_ne_bytes(*bytes)).ok()
    };
    let (seconds, nanos) = (long(2 * index)?, long(2 * index + 1)?);
    let nanos = seconds.checked_mul(1_000_000_000)?.checked_add(nanos)?;
    let nanos = u64::try_from(nanos).ok().filter(|nanos| *nanos > 0)?;
    Some(Timestamp { nanos, clock })
}

fn auxdata(data: &[u8]) -> Option<AuxData> {
    Some(AuxData {
        status: word(data, 0)?,
        len: word(data, 4)?,
        snaplen: word(data, 8)?,
        vlan_tci: half(data, 16)?,
        vlan_tpid: half(data, 18)?,
    })
}

/// Writes what a transmit asks for beside its destination, with `segment_size` for `UDP_SEGMENT`,
/// and returns the bytes used. Zero when it asks for nothing.
///
/// A group or broadcast address as source, which a reply to a multicast has, is left out: no host
/// sends from there.
#[must_use]
#[inline]
pub fn encode(to: &mut ControlBuffer, transmit: &Transmit, segment_size: Option<u16>) -> usize {
    let mut writer = Writer { to: &mut to.0, len: 0 };
    if let Some(size) = segment_size {
        writer.push(libc::SOL_UDP, libc::UDP_SEGMENT, &size.to_ne_bytes());
    }
    let v4 = transmit.destination.is_some_and(|to| to.ip().to_canonical().is_ipv4());
    if transmit.ecn != Ecn::NotCapable {
        let bits = i32::from(transmit.ecn as u8).to_ne_bytes();
        match v4 {
            true => writer.push(libc::SOL_IP, libc::IP_TOS, &bits),
            false => writer.push(libc::SOL_IPV6, libc::IPV6_TCLASS, &bits),
        }
    }
    match transmit.source.map(|source| source.to_canonical()) {
        Some(IpAddr::V4(source)) if !source.is_multicast() && !source.is_broadcast() => {
            // interface, local address, destination (ignored)
            let mut info = [0; 12];
            info[4..8].copy_from_slice(&source.octets());
            writer.push(libc::SOL_IP, libc::IP_PKTINFO, &info);
        }
        Some(IpAddr::V6(source)) if !source.is_multicast() => {
            // address, interface
            let mut info = [0; 20];
            info[..16].copy_from_slice(&source.octets());
            writer.push(libc::SOL_IPV6, libc::IPV6_PKTINFO, &info);
        }
        _ => {}
    }
    writer.len
}

struct Writer<'a> {
    to: &'a mut [u8; CONTROL_ROOM],
    len: usize,
}

impl Writer<'_> {
    fn push(&mut self, level: i32, kind: i32, data: &[u8]) {
        let len = HEADER + data.len();
        let end = self.len + len.next_multiple_of(WORD);
        let at = &mut self.to[self.len..end];
        at[..WORD].copy_from_slice(&len.to_ne_bytes());
        at[WORD..WORD + 4].copy_from_slice(&level.to_ne_bytes());
        at[WORD + 4..HEADER].copy_from_slice(&kind.to_ne_bytes());
        at[HEADER..len].copy_from_slice(data);
        at[len..].fill(0);
        self.len = end;
    }
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use libc::{in_pktinfo, in6_pktinfo, tpacket_auxdata};
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_layout_is_the_kernels() {
        // SAFETY: a computation on a constant.
        let space = unsafe { libc::CMSG_SPACE(1) } as usize;
        assert_eq!(space, HEADER + WORD);
        assert_eq!(offset_of!(in_pktinfo, ipi_spec_dst), 4);
        assert_eq!(offset_of!(in_pktinfo, ipi_addr), 8);
        assert_eq!(size_of::<in_pktinfo>(), 12);
        assert_eq!((offset_of!(in6_pktinfo, ipi6_addr), size_of::<in6_pktinfo>()), (0, 20));
        assert_eq!(offset_of!(tpacket_auxdata, tp_vlan_tci), 16);
        assert_eq!(offset_of!(tpacket_auxdata, tp_vlan_tpid), 18);
        assert_eq!(offset_of!(tpacket_auxdata, tp_snaplen), 8);
        assert_eq!(size_of::<libc::timespec>(), 2 * WORD);
    }

    fn transmit() -> impl Strategy<Value = Transmit> {
        (any::<std::net::SocketAddr>(), any::<Option<IpAddr>>(), 0u8..4).prop_map(
            |(destination, source, ecn)| Transmit {
                destination: Some(destination),
                source,
                ecn: Ecn::from_bits(ecn),
                ..Transmit::default()
            },
        )
    }

    proptest! {
        #[test]
        fn garbage_is_left_out(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _read = decode(&bytes);
        }

        #[test]
        fn a_message_cut_anywhere_never_reads_further(len in 0usize..200, at in 0usize..120) {
            let mut buffer = ControlBuffer::default();
            let mut writer = Writer { to: &mut buffer.0, len: 0 };
            writer.push(libc::SOL_PACKET, libc::PACKET_AUXDATA, &[0xff; 20]);
            writer.push(libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS, &[1; 2 * WORD]);
            let whole = writer.len;
            buffer.0[..WORD].copy_from_slice(&len.to_ne_bytes());
            let _read = decode(&buffer.0[..at.min(whole)]);
        }

        #[test]
        fn what_is_sent_reads_back(transmit in transmit(), size: Option<u16>) {
            let mut buffer = ControlBuffer::default();
            let len = encode(&mut buffer, &transmit, size);
            prop_assert!(len <= 120, "{} bytes", len);
            let read = decode(&buffer.0[..len]);
            prop_assert_eq!(read.ecn, transmit.ecn);
            let source = transmit.source.map(|source| source.to_canonical());
            let host = source.filter(|source| match source {
                IpAddr::V4(source) => !source.is_multicast() && !source.is_broadcast(),
                IpAddr::V6(source) => !source.is_multicast(),
            });
            prop_assert_eq!(read.local, host);
        }
    }

    #[test]
    fn every_kind_at_once() {
        let mut buffer = ControlBuffer::default();
        let mut writer = Writer { to: &mut buffer.0, len: 0 };
        writer.push(libc::SOL_IP, libc::IP_TTL, &64i32.to_ne_bytes());
        writer.push(libc::SOL_IP, libc::IP_PKTINFO, &[1, 0, 0, 0, 10, 0, 0, 1, 239, 0, 0, 1]);
        writer.push(libc::SOL_IP, libc::IP_TOS, &[0b1011]);
        writer.push(libc::SOL_UDP, libc::UDP_GRO, &1200i32.to_ne_bytes());
        writer.push(libc::SOL_SOCKET, libc::SO_RXQ_OVFL, &7u32.to_ne_bytes());
        let mut stamps = [0u8; 6 * WORD];
        stamps[0] = 2;
        stamps[WORD] = 5;
        writer.push(libc::SOL_SOCKET, libc::SCM_TIMESTAMPING, &stamps);
        let len = writer.len;
        let read = decode(&buffer.0[..len]);
        let timestamp = Timestamp { nanos: 2_000_000_005, clock: Clock::Realtime };
        let expected = Received {
            local: Some([239, 0, 0, 1].into()),
            ecn: Ecn::Congestion,
            segment_size: Some(1200),
            timestamp: Some(timestamp),
            dropped: Some(7),
            auxdata: None,
        };
        assert_eq!(read, expected);
    }
}
