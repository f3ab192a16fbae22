//! What a driver found out about a packet.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bypass_core::{ChecksumVerdict, Clock, RxMeta, Timestamp, VlanTag};
use bypass_dpdk_sys as sys;

use super::Raw;

/// The flag that says that a packet has a time, and where that is: fields that are registered when a
/// port is asked for times. No flag is set before.
static TIME_FLAG: AtomicU64 = AtomicU64::new(0);
static TIME_OFFSET: AtomicUsize = AtomicUsize::new(0);

/// The flag that says that the number of the queue is where a flow rule's mark would be.
static QUEUE_FLAG: AtomicU64 = AtomicU64::new(0);

/// Where a driver writes times, and the flag it sets; the place lies within an mbuf.
pub(crate) fn times_are_at(offset: usize, flag: u64) {
    debug_assert!(offset + size_of::<u64>() <= size_of::<sys::rte_mbuf>(), "outside of the mbuf");
    TIME_OFFSET.store(offset, Ordering::Relaxed);
    // Whoever sees the flag sees the place.
    TIME_FLAG.store(flag, Ordering::Release);
}

/// The flag for numbers of queues.
pub(crate) fn queues_are_marked_by(flag: u64) {
    QUEUE_FLAG.store(flag, Ordering::Release);
}

/// Notes the queue that a packet came from, unless a flow rule's mark is in the place.
#[inline]
pub(crate) fn mark_queue(packet: Raw, queue: u16) {
    let (flags, flag) = (packet.ol_flags(), QUEUE_FLAG.load(Ordering::Relaxed));
    if flags & sys::RTE_MBUF_F_RX_FDIR_ID == 0 {
        packet.set_hash_fdir_hi(u32::from(queue));
        packet.set_ol_flags(flags | flag);
    }
}

#[inline]
pub(super) fn read(packet: Raw) -> RxMeta {
    let flags = packet.ol_flags();
    let has = |flag| flags & flag == flag;
    let mut meta = RxMeta::default();
    if flags == 0 {
        return meta;
    }
    meta.hash = has(sys::RTE_MBUF_F_RX_RSS_HASH).then(|| packet.hash_rss());
    if has(sys::RTE_MBUF_F_RX_VLAN | sys::RTE_MBUF_F_RX_VLAN_STRIPPED) {
        meta.vlan = Some(VlanTag { tpid: 0x8100, tci: packet.vlan_tci() });
    }
    meta.checksum = verdict(flags);
    let time = TIME_FLAG.load(Ordering::Acquire);
    if time != 0 && has(time) {
        meta.timestamp = Some(Timestamp { nanos: time_of(packet), clock: Clock::Device });
    }
    let queue = QUEUE_FLAG.load(Ordering::Relaxed);
    if queue != 0 && has(queue) {
        meta.queue = packet.hash_fdir_hi() as u16;
    }
    meta
}

fn verdict(flags: u64) -> ChecksumVerdict {
    let l3 = flags & sys::RTE_MBUF_F_RX_IP_CKSUM_MASK;
    let l4 = flags & sys::RTE_MBUF_F_RX_L4_CKSUM_MASK;
    // An IPv6 header has no checksum: its verdict stays unknown.
    if l3 == sys::RTE_MBUF_F_RX_IP_CKSUM_BAD || l4 == sys::RTE_MBUF_F_RX_L4_CKSUM_BAD {
        ChecksumVerdict::Bad
    } else if l4 == sys::RTE_MBUF_F_RX_L4_CKSUM_GOOD {
        ChecksumVerdict::Good
    } else if l4 == sys::RTE_MBUF_F_RX_L4_CKSUM_NONE {
        ChecksumVerdict::NotNeeded
    } else {
        ChecksumVerdict::Unknown
    }
}

fn time_of(packet: Raw) -> u64 {
    let offset = TIME_OFFSET.load(Ordering::Relaxed);
    let field = packet.as_ptr().wrapping_byte_add(offset).cast::<u64>();
    // SAFETY: DPDK registered the field, within the mbuf; a driver has written it, as the flag says.
    unsafe { field.read_unaligned() }
}
