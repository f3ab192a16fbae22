//! The memory of a provided-buffer ring (`io_uring_register_buf_ring(3)`, Linux 5.19).
//!
//! Relies on the layout of `struct io_uring_buf_ring` in `include/uapi/linux/io_uring.h`: an array
//! of 16-byte entries, the tail a `u16` in the reserved field of the first. The kernel reads entries
//! between its own head and the tail; an entry is written before the tail that covers it is
//! published with release order.

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::Submitter;
use memmap2::MmapMut;

/// One entry, as the kernel reads it.
#[derive(Clone, Copy)]
#[repr(C)]
struct Entry {
    address: u64,
    len: u32,
    buffer: u16,
    /// In the first entry: the ring's tail. Never written through this type.
    reserved: u16,
}

const TAIL: usize = std::mem::offset_of!(Entry, reserved);

/// Entries in a ring, at most (`io_register_pbuf_ring` in `io_uring/kbuf.c`).
pub(crate) const MAX_ENTRIES: u16 = 1 << 15;

/// The shared memory of one ring.
#[derive(Debug)]
pub(crate) struct BufRingMemory {
    base: NonNull<u8>,
    mask: u16,
    /// Where the next entry goes, wrapping; the kernel knows it up to the last `publish`.
    tail: u16,
    _map: MmapMut,
}

// SAFETY: the mapping is plain memory; all writes go through `&mut self`.
unsafe impl Send for BufRingMemory {}

impl BufRingMemory {
    /// `entries` must be a power of two, at most [`MAX_ENTRIES`].
    pub(crate) fn new(entries: u16) -> io::Result<Self> {
        assert!(entries.is_power_of_two() && entries <= MAX_ENTRIES);
        let mut map = MmapMut::map_anon(usize::from(entries) * size_of::<Entry>())?;
        let base = NonNull::from(&mut map[..]).cast();
        Ok(Self { base, mask: entries - 1, tail: 0, _map: map })
    }

    pub(crate) fn address(&self) -> u64 {
        self.base.as_ptr() as u64
    }

    /// Writes the next entry. The kernel may use it after [`publish`](Self::publish).
    ///
    /// # Safety
    ///
    /// The `len` bytes at `address` are the kernel's to write from now on, until a completion names
    /// `buffer` or the ring has been unregistered and no operation of its group is in flight. No
    /// more entries are written than the ring has, counting those that the kernel has not used yet.
    pub(crate) unsafe fn write(&mut self, address: NonNull<u8>, len: u32, buffer: u16) {
        let at = usize::from(self.tail & self.mask) * size_of::<Entry>();
        // SAFETY: the mask keeps `at` inside the mapping.
        let entry = unsafe { self.base.add(at) }.cast::<[u8; TAIL]>();
        let mut bytes = [0; TAIL];
        bytes[..8].copy_from_slice(&(address.as_ptr() as u64).to_ne_bytes());
        bytes[8..12].copy_from_slice(&len.to_ne_bytes());
        bytes[12..].copy_from_slice(&buffer.to_ne_bytes());
        // SAFETY: 14 bytes of an entry inside the mapping that the kernel does not read before the
        // tail passes it; the field that holds the tail is left out.
        unsafe { entry.write(bytes) };
        self.tail = self.tail.wrapping_add(1);
    }

    /// Shows the kernel all entries written so far.
    pub(crate) fn publish(&mut self) {
        // SAFETY: the first entry is inside the mapping.
        let tail = unsafe { self.base.add(TAIL) }.cast::<AtomicU16>();
        // SAFETY: aligned, because the mapping is page-aligned and the offset even; alive as long as
        // `self`; only read by the kernel, and atomically.
        let tail = unsafe { tail.as_ref() };
        tail.store(self.tail, Ordering::Release);
    }
}

/// Registers an empty ring and takes it back, to see whether the kernel would.
pub(crate) fn try_register(submitter: &Submitter<'_>, flags: u16) -> io::Result<()> {
    /// A group that nobody else uses on the ring that is tried.
    const GROUP: u16 = u16::MAX;

    let memory = BufRingMemory::new(1)?;
    // SAFETY: the memory is a ring of one entry, and outlives the registration, which ends below.
    unsafe { submitter.register_buf_ring_with_flags(memory.address(), 1, GROUP, flags) }?;
    let taken_back = submitter.unregister_buf_ring(GROUP);
    if taken_back.is_err() {
        std::mem::forget(memory);
    }
    taken_back
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_is_the_kernels() {
        assert_eq!(size_of::<Entry>(), 16);
        assert_eq!(std::mem::offset_of!(Entry, address), 0);
        assert_eq!(std::mem::offset_of!(Entry, len), 8);
        assert_eq!(std::mem::offset_of!(Entry, buffer), 12);
        assert_eq!(TAIL, 14);
    }

    #[test]
    fn the_tail_wraps_and_the_first_entry_keeps_it() {
        let mut ring = BufRingMemory::new(2).unwrap();
        let mut byte = 0_u8;
        for n in 0..=u16::MAX {
            // SAFETY: no kernel knows of this ring.
            unsafe { ring.write(NonNull::from(&mut byte), 1, n) };
        }
        ring.publish();
        assert_eq!(&ring._map[TAIL..16], &0_u16.to_ne_bytes());
        // SAFETY: as above.
        unsafe { ring.write(NonNull::from(&mut byte), 1, 7) };
        assert_eq!(&ring._map[TAIL..16], &0_u16.to_ne_bytes(), "not before it is published");
        ring.publish();
        assert_eq!(&ring._map[TAIL..16], &1_u16.to_ne_bytes());
        assert_eq!(&ring._map[12..14], &7_u16.to_ne_bytes());
    }
}
