//! [`PacketRing`]: the memory into which AF_PACKET writes what it receives (`TPACKET_V2`).
//!
//! # What the unsafe code here relies on
//!
//! The layout in `linux/if_packet.h` and `Documentation/networking/packet_mmap.rst`: the ring is
//! blocks of slots; a slot is a `tpacket2_hdr`, a `sockaddr_ll`, and the frame at `tp_mac`. While
//! `TP_STATUS_USER` is set in its first word the kernel neither reads nor writes the slot; a store
//! of `TP_STATUS_KERNEL` there gives it back. Offsets and lengths in the header are checked against
//! the size of the slot.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicU32, Ordering};

use libc::{TP_STATUS_KERNEL, TP_STATUS_USER, sockaddr_ll, tpacket_req, tpacket2_hdr};
use memmap2::{MmapOptions, MmapRaw};

use super::{checksum, option, vlan};
use crate::{ChecksumVerdict, Clock, Timestamp, VlanTag};

/// Bytes that the kernel takes in front of a frame: header, address, and the padding that aligns
/// what follows the Ethernet header (`tpacket_rcv` in `net/packet/af_packet.c`).
const OVERHEAD: usize = 80;
/// A block is a run of pages; the kernel finds runs of this size easily.
const BLOCK: usize = 128 << 10;

/// A receive ring shared with the kernel.
#[derive(Debug)]
pub(crate) struct PacketRing {
    map: MmapRaw,
    slot_size: usize,
    slots_per_block: usize,
    slots: usize,
    next: usize,
}

impl PacketRing {
    /// Gives an AF_PACKET socket a ring of at least `slots` slots for frames of up to `max_len`
    /// bytes.
    pub(crate) fn new(socket: BorrowedFd<'_>, slots: u32, max_len: usize) -> io::Result<Self> {
        let version = libc::tpacket_versions::TPACKET_V2 as i32;
        option::set_int(socket, libc::SOL_PACKET, libc::PACKET_VERSION, version)?;
        let slot_size = (OVERHEAD + max_len).next_multiple_of(libc::TPACKET_ALIGNMENT);
        let slots_per_block = BLOCK / slot_size;
        let too_long = || io::Error::from(io::ErrorKind::InvalidInput);
        let blocks = (slots as usize).div_ceil(slots_per_block.max(1));
        let slots = slots_per_block.checked_mul(blocks).filter(|n| *n > 0).ok_or_else(too_long)?;
        // struct tpacket_req: block size, blocks, frame size, frames
        let mut request = [0; size_of::<tpacket_req>()];
        for (field, value) in request.chunks_exact_mut(4).zip([BLOCK, blocks, slot_size, slots]) {
            field.copy_from_slice(&u32::try_from(value).map_err(|_| too_long())?.to_ne_bytes());
        }
        option::set(socket, libc::SOL_PACKET, libc::PACKET_RX_RING, &request)?;
        let len = BLOCK.checked_mul(blocks).ok_or_else(too_long)?;
        let map = MmapOptions::new().len(len).map_raw(socket.as_raw_fd())?;
        Ok(Self { map, slot_size, slots_per_block, slots, next: 0 })
    }

    /// How many frames it holds.
    pub(crate) fn slots(&self) -> usize {
        self.slots
    }

    /// Whether a frame is there.
    pub(crate) fn is_empty(&self) -> bool {
        !self.is_filled(self.next)
    }

    /// How many frames are there. Looks at a few slots: they are filled in order, so those that are
    /// full lie together.
    pub(crate) fn waiting(&self) -> usize {
        let (mut full, mut more) = (0, self.slots);
        while full < more {
            let middle = full + (more - full) / 2;
            if self.is_filled((self.next + middle) % self.slots) {
                full = middle + 1;
            } else {
                more = middle;
            }
        }
        full
    }

    fn is_filled(&self, slot: usize) -> bool {
        self.status(slot).load(Ordering::Acquire) & TP_STATUS_USER != 0
    }

    /// The next frame; it stays the next until it is [released](RingFrame::release).
    pub(crate) fn peek(&mut self) -> Option<RingFrame<'_>> {
        if self.is_empty() {
            return None;
        }
        // SAFETY: the header lies in the mapping and belongs to us: its status was just read with
        // acquire order.
        let header = unsafe { self.header(self.next).read() };
        Some(RingFrame { ring: self, header })
    }

    /// Where a slot begins.
    ///
    /// # Panics
    ///
    /// When there is no such slot.
    fn slot(&self, slot: usize) -> *mut u8 {
        assert!(slot < self.slots, "slot {slot} of {}", self.slots);
        let block = slot / self.slots_per_block;
        let offset = block * BLOCK + slot % self.slots_per_block * self.slot_size;
        // SAFETY: `slot` is below `slots`, so it lies inside the mapping.
        unsafe { self.map.as_mut_ptr().add(offset) }
    }

    /// Aligned, because slots are (`TPACKET_ALIGNMENT`).
    fn header(&self, slot: usize) -> *mut tpacket2_hdr {
        self.slot(slot).cast()
    }

    fn status(&self, slot: usize) -> &AtomicU32 {
        let status = self.header(slot).cast::<u32>();
        // SAFETY: the first word of a header is aligned, lives as long as the mapping, and is only
        // accessed atomically while the kernel may write it.
        unsafe { AtomicU32::from_ptr(status) }
    }
}

/// A received frame in the ring.
#[derive(Debug)]
pub(crate) struct RingFrame<'ring> {
    ring: &'ring mut PacketRing,
    header: tpacket2_hdr,
}

impl RingFrame<'_> {
    /// The frame, without the tag that [`vlan`](Self::vlan) tells; `None` when the kernel names
    /// bytes that are not in the slot.
    pub(crate) fn data(&self) -> Option<&[u8]> {
        let (start, len) = self.inside()?;
        // SAFETY: `start` is inside the slot (`inside`).
        let data = unsafe { self.ring.slot(self.ring.next).add(start) };
        // SAFETY: so is `start + len`. The slot is ours until `release`, which takes `self`, so
        // nobody writes to it while the result lives.
        Some(unsafe { std::slice::from_raw_parts(data, len) })
    }

    /// Where the frame lies in its slot.
    fn inside(&self) -> Option<(usize, usize)> {
        let (start, len) = (usize::from(self.header.tp_mac), self.header.tp_snaplen as usize);
        let end = start.checked_add(len)?;
        (start >= size_of::<tpacket2_hdr>() && end <= self.ring.slot_size).then_some((start, len))
    }

    /// Whether the frame was longer than a slot.
    pub(crate) fn is_truncated(&self) -> bool {
        self.header.tp_snaplen < self.header.tp_len
    }

    /// Whether this machine sent the frame.
    pub(crate) fn is_outgoing(&self) -> bool {
        let kind = size_of::<tpacket2_hdr>() + std::mem::offset_of!(sockaddr_ll, sll_pkttype);
        // SAFETY: the address lies behind the header, inside the slot.
        let kind = unsafe { self.ring.slot(self.ring.next).add(kind) };
        // SAFETY: the slot is ours, and every byte of the mapping is initialised.
        unsafe { kind.read() == libc::PACKET_OUTGOING }
    }

    pub(crate) fn vlan(&self) -> Option<VlanTag> {
        vlan(self.header.tp_status, self.header.tp_vlan_tpid, self.header.tp_vlan_tci)
    }

    pub(crate) fn checksum(&self) -> ChecksumVerdict {
        checksum(self.header.tp_status)
    }

    /// When the kernel received it: the driver's software stamp, or else the time at which it was
    /// written here.
    pub(crate) fn timestamp(&self) -> Timestamp {
        let (seconds, nanos) = (u64::from(self.header.tp_sec), u64::from(self.header.tp_nsec));
        Timestamp { nanos: seconds * 1_000_000_000 + nanos, clock: Clock::Realtime }
    }

    /// Gives the slot back to the kernel.
    pub(crate) fn release(self) {
        self.ring.status(self.ring.next).store(TP_STATUS_KERNEL, Ordering::Release);
        self.ring.next = (self.ring.next + 1) % self.ring.slots;
    }
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use super::*;

    #[test]
    fn the_layout_is_the_kernels() {
        assert_eq!(size_of::<tpacket2_hdr>(), 32);
        assert_eq!(offset_of!(tpacket2_hdr, tp_status), 0);
        assert!(size_of::<tpacket2_hdr>() + size_of::<sockaddr_ll>() + 16 <= OVERHEAD);
        assert_eq!(size_of::<tpacket_req>(), 16);
        assert_eq!(offset_of!(tpacket_req, tp_block_nr), 4);
        assert_eq!(offset_of!(tpacket_req, tp_frame_size), 8);
    }
}
