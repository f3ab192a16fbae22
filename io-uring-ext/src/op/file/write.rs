//! [`Write`].

use std::io;

use bitflags::bitflags;
use io_uring::{opcode, squeue};

use crate::buf::IoBuf;
use crate::op::sealed::Prepare;
use crate::op::{Completions, Operation, Target};
use crate::ring::RingId;

bitflags! {
    /// What is special about one read or write (`RWF_*` in `preadv2(2)`). What a file cannot do is
    /// answered with `EOPNOTSUPP`, by kernels that are too old as well.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct RwFlags: i32 {
        /// This write's data are on the disk when it is done, as with `O_DSYNC`.
        const DSYNC = libc::RWF_DSYNC;
        /// Its data and everything about the file are, as with `O_SYNC`.
        const SYNC = libc::RWF_SYNC;
        /// It goes to the end of the file, as with `O_APPEND`.
        const APPEND = libc::RWF_APPEND;
        /// `EAGAIN` instead of waiting for the disk or a lock.
        const NOWAIT = libc::RWF_NOWAIT;
        /// All of it or nothing survives a loss of power, where file system and disk can do that
        /// (Linux 6.11, `O_DIRECT`).
        const ATOMIC = libc::RWF_ATOMIC;
        /// What it brought into the page cache leaves it again (Linux 6.14).
        const DONTCACHE = libc::RWF_DONTCACHE;
    }
}

/// The offset that means the file's own position (`preadv2(2)`).
pub(in crate::op) const POSITION: u64 = u64::MAX;

/// Writes a buffer, as `pwrite(2)` (Linux 5.6).
///
/// A file is written at `offset`; a socket or a pipe has none, so zero is given there.
///
/// # Short writes
///
/// Fewer bytes than there are may be written: on regular files when the disk or a limit is full or a
/// signal came, on pipes and sockets at any time. The result says how many; the rest is the caller's to
/// write again.
#[derive(Debug)]
pub struct Write<B: IoBuf> {
    fd: Target,
    buf: B,
    offset: u64,
    flags: RwFlags,
}

impl<B: IoBuf> Write<B> {
    /// Writes the buffer's contents (at most 4 GiB) to `fd` at `offset`.
    pub fn new(fd: impl Into<Target>, buf: B, offset: u64) -> Self {
        Self { fd: fd.into(), buf, offset, flags: RwFlags::empty() }
    }

    /// Writes to the end of the file, however it was opened (`RWF_APPEND`). Appends do not overwrite
    /// each other; the order of those in flight together is not known.
    pub fn append(fd: impl Into<Target>, buf: B) -> Self {
        Self { flags: RwFlags::APPEND, ..Self::new(fd, buf, 0) }
    }

    /// Writes at the file's own position and moves it, as `write(2)`: offset −1. One at a time: of two
    /// in flight together both may write to the same place.
    pub fn at_position(fd: impl Into<Target>, buf: B) -> Self {
        Self::new(fd, buf, POSITION)
    }

    /// Adds what is special about this write.
    #[must_use]
    pub fn flags(mut self, flags: RwFlags) -> Self {
        self.flags |= flags;
        self
    }

    /// The buffer, from an operation that was not started.
    pub fn into_buf(self) -> B {
        self.buf
    }
}

/// A finished [`Write`] or [`WriteVectored`](super::WriteVectored).
#[derive(Debug)]
#[must_use = "the result may be an error"]
pub struct WriteDone<B> {
    /// Bytes written: not always all.
    pub result: io::Result<usize>,
    /// The buffer.
    pub buf: B,
}

// SAFETY: the buffer is stable memory that the operation owns (`IoBuf`), and so is the descriptor.
unsafe impl<B: IoBuf> Prepare for Write<B> {
    fn target(&self) -> Option<&Target> {
        Some(&self.fd)
    }

    fn entry(&mut self, ring: RingId) -> squeue::Entry {
        let len = u32::try_from(self.buf.init_len()).unwrap_or(u32::MAX);
        let (fd, offset, flags) = (self.fd.number(), self.offset, self.flags.bits());
        let address = self.buf.stable_ptr();
        match self.buf.registered(ring) {
            Some(index) => opcode::WriteFixed::new(fd, address, len, index)
                .offset(offset)
                .rw_flags(flags)
                .build(),
            None => opcode::Write::new(fd, address, len).offset(offset).rw_flags(flags).build(),
        }
    }
}

impl<B: IoBuf> Operation for Write<B> {
    type Output = WriteDone<B>;

    fn complete(self, completions: Completions) -> WriteDone<B> {
        WriteDone { result: completions.result_or(self.buf.init_len()), buf: self.buf }
    }
}
