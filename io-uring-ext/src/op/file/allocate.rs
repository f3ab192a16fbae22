//! [`Allocate`], [`Truncate`] and [`Advise`].

use bitflags::bitflags;
use io_uring::{opcode, squeue};

use super::succeeds_or_fails;
use crate::op::Target;
use crate::op::sealed::Prepare;
use crate::ring::RingId;

bitflags! {
    /// What [`Allocate`] does to the range (`fallocate(2)`). Nothing set: allocates, with zeros where
    /// nothing was, and makes the file as long as the range needs. What a file system cannot do it
    /// answers with `EOPNOTSUPP`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct AllocateMode: i32 {
        /// Keeps the file's length.
        const KEEP_SIZE = libc::FALLOC_FL_KEEP_SIZE;
        /// Gives the range's blocks back; it reads as zeros. Together with `KEEP_SIZE`.
        const PUNCH_HOLE = libc::FALLOC_FL_PUNCH_HOLE;
        /// Makes the range zeros.
        const ZERO_RANGE = libc::FALLOC_FL_ZERO_RANGE;
        /// Takes the range out; what is behind moves up. Whole blocks only.
        const COLLAPSE_RANGE = libc::FALLOC_FL_COLLAPSE_RANGE;
        /// Makes room; what is behind moves back. Whole blocks only.
        const INSERT_RANGE = libc::FALLOC_FL_INSERT_RANGE;
        /// Makes blocks shared with other files the file's own.
        const UNSHARE_RANGE = libc::FALLOC_FL_UNSHARE_RANGE;
    }
}

/// Allocates or frees disk space of a file, as `fallocate(2)` (Linux 5.6).
#[derive(Clone, Debug)]
pub struct Allocate {
    fd: Target,
    mode: AllocateMode,
    offset: u64,
    len: u64,
}

impl Allocate {
    /// `len` bytes from `offset`, neither beyond `i64::MAX`.
    pub fn new(fd: impl Into<Target>, mode: AllocateMode, offset: u64, len: u64) -> Self {
        Self { fd: fd.into(), mode, offset, len }
    }
}

// SAFETY: the entry points to nothing, and the operation owns the descriptor.
unsafe impl Prepare for Allocate {
    fn target(&self) -> Option<&Target> {
        Some(&self.fd)
    }

    fn entry(&mut self, _ring: RingId) -> squeue::Entry {
        opcode::Fallocate::new(self.fd.number(), self.len)
            .offset(self.offset)
            .mode(self.mode.bits())
            .build()
    }
}

/// Cuts or extends a file to a length, as `ftruncate(2)` (Linux 6.9).
#[derive(Clone, Debug)]
pub struct Truncate {
    fd: Target,
    len: u64,
}

impl Truncate {
    /// Makes the file `len` bytes long; new ones are zeros.
    pub fn new(fd: impl Into<Target>, len: u64) -> Self {
        Self { fd: fd.into(), len }
    }
}

// SAFETY: the entry points to nothing, and the operation owns the descriptor.
unsafe impl Prepare for Truncate {
    fn target(&self) -> Option<&Target> {
        Some(&self.fd)
    }

    fn entry(&mut self, _ring: RingId) -> squeue::Entry {
        opcode::Ftruncate::new(self.fd.number(), self.len).build()
    }
}

/// What [`Advise`] says about the use of a file to come (`posix_fadvise(2)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Advice(i32);

impl Advice {
    /// Nothing special: takes earlier advice back.
    pub const NORMAL: Self = Self(libc::POSIX_FADV_NORMAL);
    /// Read in order: twice the read-ahead.
    pub const SEQUENTIAL: Self = Self(libc::POSIX_FADV_SEQUENTIAL);
    /// Read in no order: no read-ahead.
    pub const RANDOM: Self = Self(libc::POSIX_FADV_RANDOM);
    /// Needed soon: begins to read it into the page cache.
    pub const WILL_NEED: Self = Self(libc::POSIX_FADV_WILLNEED);
    /// Not needed any more: what is clean leaves the page cache.
    pub const DONT_NEED: Self = Self(libc::POSIX_FADV_DONTNEED);
    /// Read once (Linux 6.3; without effect before).
    pub const NO_REUSE: Self = Self(libc::POSIX_FADV_NOREUSE);
}

/// Tells the kernel how a file will be used, as `posix_fadvise(2)` (Linux 5.6).
///
/// There is no `madvise` here: its advice can change what memory holds under the eyes of safe code.
#[derive(Clone, Debug)]
pub struct Advise {
    fd: Target,
    advice: Advice,
    offset: u64,
    len: u32,
}

impl Advise {
    /// About `len` bytes from `offset`; zero is up to the end of the file.
    pub fn new(fd: impl Into<Target>, advice: Advice, offset: u64, len: u32) -> Self {
        Self { fd: fd.into(), advice, offset, len }
    }
}

// SAFETY: the entry points to nothing, and the operation owns the descriptor.
unsafe impl Prepare for Advise {
    fn target(&self) -> Option<&Target> {
        Some(&self.fd)
    }

    fn entry(&mut self, _ring: RingId) -> squeue::Entry {
        opcode::Fadvise::new(self.fd.number(), self.len.into(), self.advice.0)
            .offset(self.offset)
            .build()
    }
}

succeeds_or_fails!(Allocate, Truncate, Advise);
