//! [`Limits`]: which packets a port can send, and what is wrong with the others.

use bypass_core::{Buffer as _, FrameError, Unsupported};
use bypass_dpdk_sys as sys;

use super::is_passing;
use crate::mbuf::offload::{REQUESTS, abilities, header_len, segment_size};
use crate::mbuf::{Mbuf, Raw, SharedMbuf};
use crate::port::{AF_XDP, Running};

/// A packet has at least an Ethernet header.
const MIN_LEN: u32 = Mbuf::SHORTEST_RECEIVED as u32;

/// The longest packet that can be cut: what an IP header can tell of, and an Ethernet header.
const MOST_CUT: u32 = u16::MAX as u32 + MIN_LEN;

/// A VLAN tag, which comes on top of the MTU.
const VLAN_TAG: u32 = 4;

/// What drivers say of received packets, in the lower bits of `ol_flags`: of no use on send, and a lie
/// behind a `net_ring`.
const RECEIVED: u64 = (1 << 41) - 1;

/// What can be sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// The longest packet without a VLAN tag.
    pub(super) max_len: u32,
    max_segments: u16,
    /// The pieces of a packet that is cut have to fit the MTU with all their headers.
    strict: bool,
    /// `RTE_ETH_TX_OFFLOAD_*` that were granted.
    abilities: u64,
    /// The device reads any memory of the process.
    reads_all: bool,
    /// The device finds a packet's data where the mbuf is.
    in_place: bool,
    /// The driver goes on with what it has taken when it is called, and not by itself.
    pub(super) is_lazy: bool,
    /// The driver writes VLAN tags into packets (`rte_vlan_insert`). That of `net_vhost` loses count of what it
    /// has freed when there is no room for one.
    inserts: bool,
    /// The driver does not look at packets, so that nothing about one can be wrong for it.
    pub(super) takes_any: bool,
}

/// The driver that takes the MTU for what a piece of a packet may have with its Ethernet header, and
/// never sends one that has more.
const STRICT: &str = "net_tap";

/// The driver whose other side sees DPDK's memory, and no other.
const SEES_POOLS: &str = "net_virtio_user";

/// What a look at packets found.
pub(super) struct Looked {
    /// So many can be sent, from the first.
    pub(super) good: usize,
    pub(super) bytes: u64,
    /// The driver has to make some of them ready.
    pub(super) prepare: bool,
    /// What is wrong with the one behind.
    pub(super) cause: Option<FrameError>,
}

impl Limits {
    /// What a port takes.
    pub(super) fn of(running: &Running) -> Self {
        let report = &running.report;
        Self {
            max_len: u32::from(report.mtu) + MIN_LEN,
            max_segments: u16::try_from(report.max_segments).unwrap_or(u16::MAX),
            strict: report.driver == STRICT,
            abilities: report.features.offloads().1,
            reads_all: running.device.is_virtual && report.driver != SEES_POOLS,
            in_place: report.driver == AF_XDP,
            is_lazy: report.driver == AF_XDP,
            inserts: running.device.is_virtual,
            takes_any: is_passing(&report.driver),
        }
    }

    /// Bytes of packets all of which are plain: of one segment, of a good length, asking for nothing.
    #[inline(always)]
    pub(super) fn plain(self, packets: &[Mbuf]) -> Option<u64> {
        let (mut special, mut bytes) = (0, 0);
        for packet in packets {
            let raw = packet.raw();
            let len = raw.pkt_len();
            let in_range = len.wrapping_sub(MIN_LEN) <= self.max_len - MIN_LEN;
            special |= raw.ol_flags() | u64::from(raw.nb_segs() ^ 1) | u64::from(!in_range);
            bytes += u64::from(len);
        }
        (special == 0).then_some(bytes)
    }

    /// Looks at packets until one cannot be sent.
    pub(super) fn look_at(self, packets: &[Mbuf]) -> Looked {
        let mut looked = Looked { good: 0, bytes: 0, prepare: false, cause: None };
        for packet in packets {
            let raw = packet.raw();
            let (flags, len) = (raw.ol_flags(), raw.pkt_len());
            let in_range = len.wrapping_sub(MIN_LEN) <= self.max_len - MIN_LEN;
            if flags & REQUESTS != 0 || raw.nb_segs() != 1 || !in_range {
                if let Err(cause) = self.check(raw) {
                    looked.cause = Some(cause);
                    return looked;
                }
                looked.prepare |= flags & REQUESTS != 0;
            }
            if flags & RECEIVED != 0 {
                raw.set_ol_flags(flags & !RECEIVED);
            }
            looked.good += 1;
            looked.bytes += u64::from(len);
        }
        looked
    }

    /// Why a packet's data is not where the device looks for it.
    pub(super) fn unreadable(self, packet: &SharedMbuf) -> Option<&'static str> {
        if packet.is_external() && !self.reads_all {
            return Some("sending from memory that is not registered with the device");
        }
        if self.in_place && !packet.raw().chain().all(Raw::is_exclusive) {
            return Some("sending data that does not lie in the mbuf itself");
        }
        None
    }

    /// What is wrong with a packet.
    #[cold]
    pub(super) fn check(self, raw: Raw) -> Result<(), FrameError> {
        let (flags, len) = (raw.ol_flags(), raw.pkt_len());
        if len < MIN_LEN {
            return Err(FrameError::TooShort { len: len as usize, min: MIN_LEN as usize });
        }
        if raw.nb_segs() > self.max_segments {
            let what = format!("packets of {} segments", raw.nb_segs());
            let why = match self.max_segments {
                1 => "the port was started without `Features::TX_MULTI_SEGMENT`",
                _ => "the driver takes fewer",
            };
            return Err(lacking(what, why));
        }
        if u32::from(raw.data_len()) < MIN_LEN {
            let why = "whoever receives it looks for the Ethernet header there: put more into it";
            return Err(lacking("packets with less than 14 bytes in the first segment", why));
        }
        if raw.nb_segs() > 1 && raw.chain().any(|segment| segment.data_len() == 0) {
            return Err(lacking(
                "packets with empty segments",
                "a descriptor says where bytes are",
            ));
        }
        let is_cut = flags & (sys::RTE_MBUF_F_TX_TCP_SEG | sys::RTE_MBUF_F_TX_UDP_SEG) != 0;
        let whole = if is_cut { MOST_CUT } else { self.max_len };
        let tag = if is_tagged(raw) { VLAN_TAG } else { 0 };
        let max = whole + tag;
        if len > max {
            return Err(FrameError::TooLong { len: len as usize, max: max as usize });
        }
        if flags & REQUESTS == 0 {
            return Ok(());
        }
        let has_room = u32::from(raw.data_off()) >= VLAN_TAG
            && u32::from(raw.data_len()) >= MIN_LEN
            && raw.is_exclusive();
        if flags & sys::RTE_MBUF_F_TX_VLAN != 0 && self.inserts && !has_room {
            let why = "the driver writes it into the packet, which takes 4 bytes of headroom, an Ethernet header in \
                       the first segment, and data that nobody else sees";
            return Err(lacking("a VLAN tag in this packet", why));
        }
        let piece = header_len(raw.tx_offload()) + usize::from(segment_size(raw.tx_offload()));
        let max = (if self.strict { self.max_len - MIN_LEN } else { self.max_len + tag }) as usize;
        if is_cut && piece > max {
            return Err(FrameError::TooLong { len: piece, max });
        }
        if abilities(flags) & !self.abilities != 0 {
            let why = "ask for it in `PortOptions::require` or `prefer`; `Port::report` says what was granted";
            return Err(lacking("an offload that the packet asks for", why));
        }
        if header_len(raw.tx_offload()) > usize::from(raw.data_len()) {
            let why = "they were cut since offloads were asked for";
            return Err(lacking(
                "offloads for a packet whose first segment has not all headers",
                why,
            ));
        }
        Ok(())
    }
}

/// Whether a VLAN tag comes on top of the MTU.
fn is_tagged(raw: Raw) -> bool {
    // SAFETY: the packet is there, and nobody writes to it meanwhile.
    let data = unsafe { raw.data() };
    matches!(data.get(12..14), Some([0x81, 0x00] | [0x88, 0xa8]))
}

pub(super) fn lacking(
    what: impl Into<std::borrow::Cow<'static, str>>,
    why: &'static str,
) -> FrameError {
    let (what, why) = (what.into(), why.into());
    FrameError::Unsupported(Unsupported { what, backend: crate::BACKEND, why })
}
