//! The submission entries themselves, mapped a second time.
//!
//! The `io-uring` crate can queue an entry but not touch it again, and a chain of which the kernel
//! took only a part has to be changed where it lies. Relies on the ring allowing any number of shared
//! mappings of its entries (`IORING_OFF_SQES`, `io_uring_mmap` in `io_uring/memmap.c`), and on the
//! kernel not reading entries outside `io_uring_enter` when no thread of its own polls them.

use std::io;
use std::os::fd::BorrowedFd;

use io_uring::squeue::Entry;
use memmap2::{MmapOptions, MmapRaw};

/// `IORING_OFF_SQES` in `include/uapi/linux/io_uring.h`.
const OFFSET: u64 = 0x1000_0000;

/// The array of entries of a ring without SQPOLL.
#[derive(Debug)]
pub(crate) struct Entries {
    map: MmapRaw,
    mask: u32,
}

impl Entries {
    /// `count` is the ring's number of entries, a power of two.
    pub(crate) fn map(ring: BorrowedFd<'_>, count: u32) -> io::Result<Self> {
        let len = count as usize * size_of::<Entry>();
        let map = MmapOptions::new().offset(OFFSET).len(len).map_raw(&ring)?;
        // As the ring's other mappings: a child has no business there.
        map.advise(memmap2::Advice::DontFork)?;
        Ok(Self { map, mask: count - 1 })
    }

    /// Puts `change` of the entry at `position` in its place.
    ///
    /// # Safety
    ///
    /// The entry has been pushed and not been consumed, nothing else reads or writes it now, and what
    /// replaces it keeps the promises of [`Uring::push`](super::uring::Uring::push).
    pub(crate) unsafe fn replace(&self, position: u32, change: impl FnOnce(&Entry) -> Entry) {
        #[expect(clippy::cast_ptr_alignment, reason = "a mapping begins with a page")]
        let entry = self.map.as_mut_ptr().cast::<Entry>();
        let entry = entry.wrapping_add((position & self.mask) as usize);
        // SAFETY: inside the mapping, which is aligned to a page; written by an earlier push, and by
        // the caller's promise touched by nobody else now.
        let old = unsafe { entry.read_volatile() };
        let new = change(&old);
        // SAFETY: as above.
        unsafe { entry.write_volatile(new) };
    }
}
