//! [`Splice`], [`Tee`] and [`Pipe`].

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use bitflags::bitflags;
use io_uring::{opcode, squeue};

use super::sealed::Prepare;
use super::{Completions, Operation, Target};
use crate::ring::{Cqe, RingId};

bitflags! {
    /// How [`Splice`] and [`Tee`] move (`splice(2)`).
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
    pub struct SpliceFlags: u32 {
        /// Hint: move pages instead of copying them.
        const MOVE = libc::SPLICE_F_MOVE;
        /// `EAGAIN` instead of waiting for the pipe.
        const NONBLOCK = libc::SPLICE_F_NONBLOCK;
        /// Hint: more comes soon, as `MSG_MORE`.
        const MORE = libc::SPLICE_F_MORE;
    }
}

/// The bits for the entry: none that the type does not name. One of the others says that the number of the
/// input is that of a fixed file.
fn to_raw(flags: SpliceFlags) -> u32 {
    (flags & SpliceFlags::all()).bits()
}

/// No offset: the end of a pipe, or the file's own position.
const NONE: i64 = -1;

/// Moves bytes between a pipe and a file, a socket or another pipe, without a copy to this process, as
/// `splice(2)` (Linux 5.7).
///
/// Fewer bytes than asked for may move, and zero is the end of the input. One of the two has to be a
/// pipe, `EINVAL` otherwise. The kernel does it on a worker thread, always; one that waits there when it
/// is cancelled ends with `EINTR`.
#[derive(Debug)]
pub struct Splice {
    from: Target,
    from_offset: i64,
    to: Target,
    to_offset: i64,
    len: u32,
    flags: SpliceFlags,
}

impl Splice {
    /// Up to `len` bytes of `from` to `to`, both at their own position where they have one.
    pub fn new(from: impl Into<Target>, to: impl Into<Target>, len: u32) -> Self {
        let (from, to) = (from.into(), to.into());
        Self { from, from_offset: NONE, to, to_offset: NONE, len, flags: SpliceFlags::empty() }
    }

    /// Reads at `offset` of the input, at most `i64::MAX`; a pipe answers with `ESPIPE`.
    #[must_use]
    pub fn from_offset(mut self, offset: u64) -> Self {
        self.from_offset = i64::try_from(offset).unwrap_or(i64::MAX);
        self
    }

    /// Writes at `offset` of the output, at most `i64::MAX`; a pipe answers with `ESPIPE`.
    #[must_use]
    pub fn to_offset(mut self, offset: u64) -> Self {
        self.to_offset = i64::try_from(offset).unwrap_or(i64::MAX);
        self
    }

    /// Sets how it moves.
    #[must_use]
    pub fn flags(mut self, flags: SpliceFlags) -> Self {
        self.flags = flags;
        self
    }
}

// SAFETY: the entry points to nothing, and the operation owns both descriptors.
unsafe impl Prepare for Splice {
    fn target(&self) -> Option<&Target> {
        Some(&self.to)
    }

    fn entry(&mut self, _ring: RingId) -> squeue::Entry {
        let Self { from, from_offset, to, to_offset, len, flags } = self;
        opcode::Splice::new(from.number(), *from_offset, to.number(), *to_offset, *len)
            .flags(to_raw(*flags) | from.splice_flag())
            .build()
    }

    fn belongs_to(&self, ring: RingId) -> bool {
        self.from.belongs_to(ring)
    }
}

impl Operation for Splice {
    type Output = io::Result<usize>;

    fn complete(self, completions: Completions) -> io::Result<usize> {
        moved(completions)
    }
}

/// A cancel interrupts the worker thread; `io_uring/splice.c` hands out the `ERESTARTSYS` with which the
/// kernel says so to itself.
fn moved(completions: Completions) -> io::Result<usize> {
    const ERESTARTSYS: i32 = 512;
    completions.result().map_err(|error| match error.raw_os_error() {
        Some(ERESTARTSYS) => io::Error::from_raw_os_error(libc::EINTR),
        _ => error,
    })
}

/// Copies bytes from one pipe to another and leaves them in the first, as `tee(2)` (Linux 5.8).
///
/// Fewer bytes than asked for may be copied. The kernel does it on a worker thread, always.
#[derive(Debug)]
pub struct Tee {
    from: Target,
    to: Target,
    len: u32,
    flags: SpliceFlags,
}

impl Tee {
    /// Up to `len` bytes.
    pub fn new(from: impl Into<Target>, to: impl Into<Target>, len: u32) -> Self {
        Self { from: from.into(), to: to.into(), len, flags: SpliceFlags::empty() }
    }

    /// Sets how it copies.
    #[must_use]
    pub fn flags(mut self, flags: SpliceFlags) -> Self {
        self.flags = flags;
        self
    }
}

// SAFETY: the entry points to nothing, and the operation owns both descriptors.
unsafe impl Prepare for Tee {
    fn target(&self) -> Option<&Target> {
        Some(&self.to)
    }

    fn entry(&mut self, _ring: RingId) -> squeue::Entry {
        opcode::Tee::new(self.from.number(), self.to.number(), self.len)
            .flags(to_raw(self.flags) | self.from.splice_flag())
            .build()
    }

    fn belongs_to(&self, ring: RingId) -> bool {
        self.from.belongs_to(ring)
    }
}

impl Operation for Tee {
    type Output = io::Result<usize>;

    fn complete(self, completions: Completions) -> io::Result<usize> {
        moved(completions)
    }
}

/// Makes a pipe, as `pipe2(2)` with `O_CLOEXEC` (Linux 6.16; `EINVAL` before).
///
/// When nobody takes the two ends, because the [`Pending`](crate::Pending) was dropped, they are closed.
#[derive(Debug)]
pub struct Pipe {
    fds: [RawFd; 2],
    flags: i32,
}

impl Pipe {
    /// A pipe whose ends wait, as usual.
    #[expect(clippy::new_without_default, reason = "there is no value of a pipe to be")]
    pub fn new() -> Self {
        Self { fds: [-1; 2], flags: libc::O_CLOEXEC }
    }

    /// A pipe whose ends answer system calls with `EAGAIN` instead of waiting (`O_NONBLOCK`).
    pub fn nonblocking() -> Self {
        Self { flags: libc::O_CLOEXEC | libc::O_NONBLOCK, ..Self::new() }
    }

    /// The two ends, after success.
    fn ends(&mut self) -> (OwnedFd, OwnedFd) {
        let [reader, writer] = self.fds;
        // SAFETY: the kernel has just opened it for this operation, whose one completion is taken or
        // discarded, once: nobody else owns it.
        let reader = unsafe { OwnedFd::from_raw_fd(reader) };
        // SAFETY: as above.
        let writer = unsafe { OwnedFd::from_raw_fd(writer) };
        (reader, writer)
    }
}

// SAFETY: the numbers are written to the operation itself, which does not move after this.
unsafe impl Prepare for Pipe {
    fn target(&self) -> Option<&Target> {
        None
    }

    fn entry(&mut self, _ring: RingId) -> squeue::Entry {
        opcode::Pipe::new((&raw mut self.fds).cast()).flags(self.flags as u32).build()
    }

    fn discard(&mut self, cqe: Cqe) {
        if cqe.to_result().is_ok() {
            drop(self.ends());
        }
    }
}

impl Operation for Pipe {
    /// The end to read from and the end to write to.
    type Output = io::Result<(OwnedFd, OwnedFd)>;

    fn complete(mut self, completions: Completions) -> Self::Output {
        completions.result().map(|_| self.ends())
    }
}
