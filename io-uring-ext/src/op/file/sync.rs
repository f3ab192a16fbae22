//! [`Fsync`] and [`SyncRange`].

use bitflags::bitflags;
use io_uring::types::FsyncFlags;
use io_uring::{opcode, squeue};

use super::succeeds_or_fails;
use crate::op::Target;
use crate::op::sealed::Prepare;
use crate::ring::RingId;

/// Brings a file to the disk, as `fsync(2)` or `fdatasync(2)` (Linux 5.1).
///
/// It covers the writes that are *done* when it begins. Operations run side by side, so a sync that is
/// pushed behind a write does not wait for it: take the write's result first, or link the two.
#[derive(Clone, Debug)]
pub struct Fsync {
    fd: Target,
    flags: FsyncFlags,
}

impl Fsync {
    /// Data and everything about the file (`fsync`).
    pub fn all(fd: impl Into<Target>) -> Self {
        Self { fd: fd.into(), flags: FsyncFlags::empty() }
    }

    /// Data, and of what is about the file only what is needed to read them (`fdatasync`).
    pub fn data(fd: impl Into<Target>) -> Self {
        Self { fd: fd.into(), flags: FsyncFlags::DATASYNC }
    }
}

// SAFETY: the entry points to nothing, and the operation owns the descriptor.
unsafe impl Prepare for Fsync {
    fn target(&self) -> Option<&Target> {
        Some(&self.fd)
    }

    fn entry(&mut self, _ring: RingId) -> squeue::Entry {
        opcode::Fsync::new(self.fd.number()).flags(self.flags).build()
    }
}

bitflags! {
    /// What [`SyncRange`] does, in this order (`sync_file_range(2)`).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct SyncRangeMode: u32 {
        /// Waits for writing that has begun already.
        const WAIT_BEFORE = libc::SYNC_FILE_RANGE_WAIT_BEFORE;
        /// Begins to write what is dirty.
        const WRITE = libc::SYNC_FILE_RANGE_WRITE;
        /// Waits for what is being written.
        const WAIT_AFTER = libc::SYNC_FILE_RANGE_WAIT_AFTER;
    }
}

/// Writes a part of a file out of the page cache, as `sync_file_range(2)` (Linux 5.2).
///
/// **It makes nothing durable**: neither the file's length nor the disk's own cache is written. It is
/// for spreading the work of a later [`Fsync`].
#[derive(Clone, Debug)]
pub struct SyncRange {
    fd: Target,
    offset: u64,
    len: u32,
    mode: SyncRangeMode,
}

impl SyncRange {
    /// `len` bytes from `offset`; zero is up to the end of the file.
    pub fn new(fd: impl Into<Target>, offset: u64, len: u32, mode: SyncRangeMode) -> Self {
        Self { fd: fd.into(), offset, len, mode }
    }
}

// SAFETY: the entry points to nothing, and the operation owns the descriptor.
unsafe impl Prepare for SyncRange {
    fn target(&self) -> Option<&Target> {
        Some(&self.fd)
    }

    fn entry(&mut self, _ring: RingId) -> squeue::Entry {
        opcode::SyncFileRange::new(self.fd.number(), self.len)
            .offset(self.offset)
            .flags(self.mode.bits())
            .build()
    }
}

succeeds_or_fails!(Fsync, SyncRange);
