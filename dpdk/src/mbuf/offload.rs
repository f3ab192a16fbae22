//! [`TxOffload`]: what a device is asked to do to a packet that it sends.

use bypass_core::{Buffer, TxChecksum, TxMeta, Unsupported};
use bypass_dpdk_sys as sys;

use super::Mbuf;

/// Every flag that asks for something on send.
pub(crate) const REQUESTS: u64 = sys::RTE_MBUF_F_TX_IP_CKSUM
    | sys::RTE_MBUF_F_TX_L4_MASK
    | sys::RTE_MBUF_F_TX_TCP_SEG
    | sys::RTE_MBUF_F_TX_UDP_SEG
    | sys::RTE_MBUF_F_TX_VLAN
    | sys::RTE_MBUF_F_TX_QINQ
    | sys::RTE_MBUF_F_TX_TUNNEL_MASK
    | sys::RTE_MBUF_F_TX_OUTER_IP_CKSUM
    | sys::RTE_MBUF_F_TX_OUTER_UDP_CKSUM
    | sys::RTE_MBUF_F_TX_MACSEC
    | sys::RTE_MBUF_F_TX_SEC_OFFLOAD
    | sys::RTE_MBUF_F_TX_IEEE1588_TMST;

const ETHERNET: u16 = 14;
const VLAN_TAG: u16 = 4;

/// The network layer of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum L3 {
    /// IPv4.
    Ipv4,
    /// IPv6, without extension headers.
    Ipv6,
}

/// The transport layer of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum L4 {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// What a device is to do to a packet when it sends it. Where the headers are is read from the packet
/// itself, when it is [asked for](Mbuf::offload).
///
/// ```
/// use bypass_dpdk::TxOffload;
///
/// // The IPv4 header's checksum and the transport's.
/// let checksums = TxOffload { ip_checksum: true, l4_checksum: true, ..TxOffload::default() };
/// // A train of TCP segments, each with 1448 bytes of data; its checksums are part of that.
/// let train = TxOffload { segment_size: Some(1448), ..TxOffload::default() };
/// # let _ = (checksums, train);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TxOffload {
    /// Fill in the checksum of the IPv4 header (RFC 791).
    pub ip_checksum: bool,
    /// Fill in the checksum of TCP or UDP, over IPv4 or IPv6.
    pub l4_checksum: bool,
    /// Cut the packet's data into TCP segments or UDP datagrams of so many bytes.
    pub segment_size: Option<u16>,
    /// Insert an IEEE 802.1Q tag of this priority and number.
    pub vlan: Option<u16>,
}

impl TxOffload {
    fn asks_for_headers(self) -> bool {
        self.ip_checksum || self.l4_checksum || self.segment_size.is_some()
    }
}

/// What is to be written to an mbuf.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Fields {
    flags: u64,
    lengths: u64,
    vlan: u16,
}

/// Where the headers of a packet are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Headers {
    l2_len: u16,
    l3: L3,
    l3_len: u16,
    l4: Option<L4>,
    l4_len: u16,
}

impl Mbuf {
    /// Asks for offloads when the packet is sent, instead of those that were asked for before. A queue
    /// whose port was not [configured](crate::PortOptions) for one of them refuses the packet.
    ///
    /// Headers must not be moved or cut afterwards; checksums that are asked for need not be filled in.
    ///
    /// # Errors
    ///
    /// [`Unsupported`] when the first segment does not begin with the headers that are asked about:
    /// Ethernet, at most one VLAN tag, IPv4 or IPv6 without extension headers, TCP or UDP.
    pub fn offload(&mut self, offload: TxOffload) -> Result<(), Unsupported> {
        let fields = offload.fields(self.data())?;
        self.set_fields(fields);
        Ok(())
    }

    /// What the packet was asked to have done when it is sent.
    #[must_use]
    pub fn offloads(&self) -> TxOffload {
        let (raw, flags) = (self.raw(), self.raw().ol_flags());
        let cut = flags & (sys::RTE_MBUF_F_TX_TCP_SEG | sys::RTE_MBUF_F_TX_UDP_SEG) != 0;
        TxOffload {
            ip_checksum: flags & sys::RTE_MBUF_F_TX_IP_CKSUM != 0,
            l4_checksum: flags & sys::RTE_MBUF_F_TX_L4_MASK != 0,
            segment_size: cut.then(|| segment_size(raw.tx_offload())),
            vlan: (flags & sys::RTE_MBUF_F_TX_VLAN != 0).then(|| raw.vlan_tci()),
        }
    }

    pub(super) fn clear_offloads(&mut self) {
        self.set_fields(Fields::default());
    }

    pub(super) fn set_fields(&mut self, fields: Fields) {
        let raw = self.raw();
        let kept = raw.ol_flags() & !(REQUESTS | sys::RTE_MBUF_F_TX_IPV4 | sys::RTE_MBUF_F_TX_IPV6);
        raw.set_ol_flags(kept | fields.flags);
        raw.set_tx_offload(fields.lengths);
        if fields.flags & sys::RTE_MBUF_F_TX_VLAN != 0 {
            raw.set_vlan_tci(fields.vlan);
        }
    }
}

const L3_SHIFT: u32 = sys::BYPASS_TX_L2_LEN_BITS;
const L4_SHIFT: u32 = L3_SHIFT + sys::BYPASS_TX_L3_LEN_BITS;
const SEGMENT_SHIFT: u32 = L4_SHIFT + sys::BYPASS_TX_L4_LEN_BITS;

/// Bytes of the headers that a packet's offloads are about.
#[inline]
pub(crate) fn header_len(lengths: u64) -> usize {
    let part = |shift: u32, bits: u32| (lengths >> shift) as usize & ((1 << bits) - 1);
    part(0, sys::BYPASS_TX_L2_LEN_BITS)
        + part(L3_SHIFT, sys::BYPASS_TX_L3_LEN_BITS)
        + part(L4_SHIFT, sys::BYPASS_TX_L4_LEN_BITS)
}

/// Bytes of data in each of the pieces that a packet is cut into.
#[inline]
pub(crate) const fn segment_size(lengths: u64) -> u16 {
    (lengths >> SEGMENT_SHIFT) as u16
}

/// The abilities (`RTE_ETH_TX_OFFLOAD_*`) that a packet's flags need.
pub(crate) fn abilities(flags: u64) -> u64 {
    let mut needed = 0;
    let mut need = |condition: bool, ability: u64| needed |= if condition { ability } else { 0 };
    let l4 = flags & sys::RTE_MBUF_F_TX_L4_MASK;
    need(flags & sys::RTE_MBUF_F_TX_IP_CKSUM != 0, sys::RTE_ETH_TX_OFFLOAD_IPV4_CKSUM);
    need(l4 == sys::RTE_MBUF_F_TX_TCP_CKSUM, sys::RTE_ETH_TX_OFFLOAD_TCP_CKSUM);
    need(l4 == sys::RTE_MBUF_F_TX_UDP_CKSUM, sys::RTE_ETH_TX_OFFLOAD_UDP_CKSUM);
    need(flags & sys::RTE_MBUF_F_TX_TCP_SEG != 0, sys::RTE_ETH_TX_OFFLOAD_TCP_TSO);
    need(flags & sys::RTE_MBUF_F_TX_UDP_SEG != 0, sys::RTE_ETH_TX_OFFLOAD_UDP_TSO);
    need(flags & sys::RTE_MBUF_F_TX_VLAN != 0, sys::RTE_ETH_TX_OFFLOAD_VLAN_INSERT);
    needed
}

impl TxOffload {
    pub(super) fn fields(self, packet: &[u8]) -> Result<Fields, Unsupported> {
        let mut fields = Fields::default();
        if let Some(tag) = self.vlan {
            fields.flags |= sys::RTE_MBUF_F_TX_VLAN;
            fields.vlan = tag;
        }
        if !self.asks_for_headers() {
            return Ok(fields);
        }
        let headers = Headers::of(packet)?;
        let is_v4 = headers.l3 == L3::Ipv4;
        fields.flags |= if is_v4 { sys::RTE_MBUF_F_TX_IPV4 } else { sys::RTE_MBUF_F_TX_IPV6 };
        fields.lengths = u64::from(headers.l2_len) | u64::from(headers.l3_len) << L3_SHIFT;
        if self.ip_checksum && !is_v4 {
            return Err(lacking("an IP checksum", "IPv6 headers have none"));
        }
        if is_v4 && (self.ip_checksum || self.segment_size.is_some()) {
            fields.flags |= sys::RTE_MBUF_F_TX_IP_CKSUM;
        }
        if self.l4_checksum || self.segment_size.is_some() {
            let why =
                "the packet is neither TCP nor UDP, or its header is not in the first segment";
            let l4 = headers.l4.ok_or_else(|| lacking("a transport checksum", why))?;
            fields.lengths |= u64::from(headers.l4_len) << L4_SHIFT;
            fields.flags |= match l4 {
                L4::Tcp => sys::RTE_MBUF_F_TX_TCP_CKSUM,
                L4::Udp => sys::RTE_MBUF_F_TX_UDP_CKSUM,
            };
            if let Some(size) = self.segment_size {
                if size == 0 {
                    return Err(lacking("segments of 0 bytes", "a segment has at least one"));
                }
                fields.lengths |= u64::from(size) << SEGMENT_SHIFT;
                fields.flags |= match l4 {
                    L4::Tcp => sys::RTE_MBUF_F_TX_TCP_SEG,
                    L4::Udp => sys::RTE_MBUF_F_TX_UDP_SEG,
                };
            }
        }
        Ok(fields)
    }

    /// What `meta` asks for, of a packet that begins with `packet`.
    pub(super) fn from_meta(packet: &[u8], meta: TxMeta) -> Result<Self, Unsupported> {
        if meta.launch_time.is_some() {
            return Err(lacking("launch times", "they are not asked of drivers yet"));
        }
        if let Some(TxChecksum { start, offset }) = meta.checksum {
            let headers = Headers::of(packet)?;
            let field = match headers.l4 {
                Some(L4::Tcp) => 16,
                Some(L4::Udp) => 6,
                None => u16::MAX,
            };
            if (start, offset) != (headers.l2_len + headers.l3_len, field) {
                let why = "devices know the checksums of TCP and UDP, right behind the IP header";
                return Err(lacking(format!("checksum at {start} + {offset}"), why));
            }
        } else if meta.segment_size.is_some() {
            return Err(lacking("segmentation without a checksum", "each segment needs its own"));
        }
        let (l4_checksum, segment_size) = (meta.checksum.is_some(), meta.segment_size);
        Ok(Self { l4_checksum, segment_size, ..Self::default() })
    }
}

impl Headers {
    /// Of a packet that begins with `packet`.
    fn of(packet: &[u8]) -> Result<Self, Unsupported> {
        let why = "the first segment does not begin with Ethernet, at most one VLAN tag, and IPv4 or \
                   IPv6";
        Self::read(packet).ok_or_else(|| lacking("offloads for this packet", why))
    }

    fn read(packet: &[u8]) -> Option<Self> {
        let ether_type = |at: u16| {
            let bytes = packet.get(usize::from(at)..usize::from(at) + 2)?;
            Some(u16::from_be_bytes([bytes[0], bytes[1]]))
        };
        let mut l2_len = ETHERNET;
        let mut kind = ether_type(l2_len - 2)?;
        if kind == 0x8100 || kind == 0x88a8 {
            l2_len += VLAN_TAG;
            kind = ether_type(l2_len - 2)?;
        }
        let ip = packet.get(usize::from(l2_len)..)?;
        let (l3, l3_len, protocol) = match (kind, ip.first()? >> 4) {
            (0x0800, 4) => (L3::Ipv4, u16::from(ip[0] & 0xf) * 4, *ip.get(9)?),
            (0x86dd, 6) => (L3::Ipv6, 40, *ip.get(6)?),
            _ => return None,
        };
        if l3_len < 20 {
            return None;
        }
        let transport = ip.get(usize::from(l3_len)..)?;
        let (l4, l4_len) = match protocol {
            6 => match transport.get(12).map(|offset| u16::from(offset >> 4) * 4) {
                Some(len @ 20..) if transport.len() >= usize::from(len) => (Some(L4::Tcp), len),
                _ => (None, 0),
            },
            17 if transport.len() >= 8 => (Some(L4::Udp), 8),
            _ => (None, 0),
        };
        Some(Self { l2_len, l3, l3_len, l4, l4_len })
    }
}

fn lacking(what: impl Into<std::borrow::Cow<'static, str>>, why: &'static str) -> Unsupported {
    Unsupported { what: what.into(), backend: crate::BACKEND, why: why.into() }
}
