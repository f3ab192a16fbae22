//! [`Mapped`]: a ring in memory that is shared with the kernel.
//!
//! # What the unsafe code here relies on
//!
//! The pointers lie inside the mapping, which lives as long as they do, and are aligned: both are
//! checked when the ring is made. Every byte of the mapping is initialised (the kernel zeroes it, and
//! anonymous memory is zero), and every sequence of bytes is a valid entry. Cursors and flags are
//! written by both sides at any time, and only accessed as atomics.

use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering};

use memmap2::MmapRaw;

use super::{MAX_SIZE, Memory, Slots};

/// Where the parts of a ring lie in its mapping (`struct xdp_ring_offset` of `linux/if_xdp.h`), in
/// bytes, and how many entries it has.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    pub(crate) producer: u64,
    pub(crate) consumer: u64,
    pub(crate) flags: u64,
    pub(crate) entries: u64,
    pub(crate) size: u32,
}

impl Layout {
    /// Bytes that a ring of this layout needs, with entries of type `E`.
    pub(crate) fn len<E>(&self) -> usize {
        let entries = u64::from(self.size) * size_of::<E>() as u64;
        self.entries.saturating_add(entries) as usize
    }
}

/// Integers in any combination: whatever bytes the kernel writes, it is a value of the type.
///
/// # Safety
///
/// Every sequence of bytes must be a value.
pub(crate) unsafe trait Entry: Copy + std::fmt::Debug {}

// SAFETY: an integer.
unsafe impl Entry for u64 {}
// SAFETY: integers without padding between them.
unsafe impl Entry for crate::sys::Desc {}

/// A ring in mapped memory.
#[derive(Debug)]
pub(crate) struct Mapped<E> {
    producer: NonNull<AtomicU32>,
    consumer: NonNull<AtomicU32>,
    flags: NonNull<AtomicU32>,
    slots: MappedSlots<E>,
    /// Keeps the pointers valid.
    _map: MmapRaw,
}

/// The entries of a ring in mapped memory.
#[derive(Debug)]
pub(crate) struct MappedSlots<E> {
    entries: NonNull<E>,
    /// The size, less one.
    mask: u32,
}

impl<E> Clone for MappedSlots<E> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<E> Copy for MappedSlots<E> {}

impl<E: Entry> Mapped<E> {
    /// The ring in `map`, which must be memory that lives as long as the mapping does: shared with the
    /// kernel or anonymous.
    ///
    /// # Errors
    ///
    /// When the layout does not fit the mapping.
    pub(crate) fn new(map: MmapRaw, layout: &Layout) -> io::Result<Self> {
        let wrong = || io::Error::new(io::ErrorKind::InvalidData, "an impossible layout of a ring");
        let base = NonNull::new(map.as_mut_ptr()).ok_or_else(wrong)?;
        let place = |offset: u64, len: usize, align: usize| {
            let offset = usize::try_from(offset).map_err(|_| wrong())?;
            if offset.checked_add(len).is_none_or(|end| end > map.len()) {
                return Err(wrong());
            }
            // SAFETY: the offset is inside the mapping.
            let pointer = unsafe { base.add(offset) };
            if pointer.addr().get().is_multiple_of(align) { Ok(pointer) } else { Err(wrong()) }
        };
        let word = |offset| Ok::<_, io::Error>(place(offset, 4, 4)?.cast::<AtomicU32>());
        let len = (layout.size as usize).checked_mul(size_of::<E>()).ok_or_else(wrong)?;
        if !layout.size.is_power_of_two() || layout.size > MAX_SIZE {
            return Err(wrong());
        }
        Ok(Self {
            producer: word(layout.producer)?,
            consumer: word(layout.consumer)?,
            flags: word(layout.flags)?,
            slots: MappedSlots {
                entries: place(layout.entries, len, align_of::<E>())?.cast(),
                mask: layout.size - 1,
            },
            _map: map,
        })
    }
}

/// A word of the ring, which both sides access.
fn word(pointer: &NonNull<AtomicU32>) -> &AtomicU32 {
    // SAFETY: it is aligned and lies in the mapping, which lives as long as the ring that is borrowed.
    unsafe { pointer.as_ref() }
}

impl<E: Entry> Memory for Mapped<E> {
    type Entry = E;
    type Slots = MappedSlots<E>;

    #[inline]
    fn slots(&self) -> MappedSlots<E> {
        self.slots
    }

    #[inline]
    fn size(&self) -> u32 {
        self.slots.mask + 1
    }

    #[inline]
    fn producer(&self) -> u32 {
        word(&self.producer).load(Ordering::Acquire)
    }

    #[inline]
    fn consumer(&self) -> u32 {
        word(&self.consumer).load(Ordering::Acquire)
    }

    #[inline]
    fn set_producer(&self, cursor: u32) {
        word(&self.producer).store(cursor, Ordering::Release);
    }

    #[inline]
    fn set_consumer(&self, cursor: u32) {
        word(&self.consumer).store(cursor, Ordering::Release);
    }

    #[inline]
    fn flags(&self) -> u32 {
        word(&self.flags).load(Ordering::Relaxed)
    }
}

impl<E: Entry> Slots for MappedSlots<E> {
    type Entry = E;
    type Place = *mut E;

    #[inline]
    fn place(&self, cursor: u32) -> *mut E {
        self.entries.as_ptr().wrapping_add((cursor & self.mask) as usize)
    }

    #[inline]
    fn ahead(place: *mut E, n: u32) -> *mut E {
        place.wrapping_add(n as usize)
    }

    #[inline]
    fn between(from: *mut E, to: *mut E) -> u32 {
        ((to.addr() - from.addr()) / size_of::<E>()) as u32
    }

    #[inline]
    unsafe fn read(&self, place: *mut E) -> E {
        // SAFETY: the caller says that the place is one of the entries, which lie in the mapping, aligned and
        // initialised, that this is there, and that nobody writes to it.
        unsafe { place.read() }
    }

    #[inline]
    unsafe fn write(&self, place: *mut E, entry: E) {
        // SAFETY: the caller says that the place is one of the entries, which lie in the mapping, aligned,
        // that this is there, and that nobody else accesses it.
        unsafe { place.write(entry) };
    }
}
