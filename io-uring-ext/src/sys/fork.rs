//! Knowing that one is a forked child.
//!
//! The queues of a ring are shared memory. A child that used them would submit into its parent's
//! ring, and one that dropped the ring would cancel its parent's operations. Relies on
//! `MADV_WIPEONFORK` (Linux 4.14, `madvise(2)`): in the child, and only there, the page reads zero.

use std::io;
use std::mem::ManuallyDrop;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use memmap2::MmapMut;

/// A page that reads non-zero in the process that made it.
#[derive(Debug)]
pub(crate) struct ForkSentinel {
    page: MmapMut,
}

impl ForkSentinel {
    pub(crate) fn new() -> io::Result<Self> {
        let mut page = MmapMut::map_anon(page_size())?;
        // SAFETY: the range is exactly the mapping that `page` owns; wiping it in a child changes
        // bytes that nothing but this type reads, and only where they are read as an atomic.
        let answer =
            unsafe { libc::madvise(page.as_mut_ptr().cast(), page.len(), libc::MADV_WIPEONFORK) };
        if answer != 0 {
            return Err(io::Error::last_os_error());
        }
        page[0] = 1;
        Ok(Self { page })
    }

    /// Whether this process is a child of the one that made the sentinel.
    #[inline]
    pub(crate) fn in_child(&self) -> bool {
        let byte = self.page.as_ptr().cast_mut().cast::<AtomicU8>();
        // SAFETY: the byte lives as long as `self`, is written by nobody after `new`, and an
        // `AtomicU8` has the layout of a byte.
        let byte = unsafe { &*byte };
        byte.load(Ordering::Relaxed) == 0
    }
}

/// What is mapped with `MADV_DONTFORK`: unmapped only in the process that made it. In a child nothing is
/// there, or something else that has come to the same address.
#[derive(Debug)]
pub(crate) struct NotInChild<T> {
    mapped: ManuallyDrop<T>,
    fork: Arc<ForkSentinel>,
}

impl<T> NotInChild<T> {
    pub(crate) fn new(mapped: T, fork: Arc<ForkSentinel>) -> Self {
        Self { mapped: ManuallyDrop::new(mapped), fork }
    }
}

impl<T> Deref for NotInChild<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.mapped
    }
}

impl<T> DerefMut for NotInChild<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        &mut self.mapped
    }
}

impl<T> Drop for NotInChild<T> {
    fn drop(&mut self) {
        if !self.fork.in_child() {
            // SAFETY: nothing uses it after this.
            unsafe { ManuallyDrop::drop(&mut self.mapped) };
        }
    }
}

/// Bytes in a page of memory.
pub(crate) fn page_size() -> usize {
    // SAFETY: `sysconf` has no preconditions.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).unwrap_or(4096)
}
