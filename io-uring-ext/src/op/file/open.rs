//! [`Open`].

use std::io;
use std::os::fd::OwnedFd;

use bitflags::bitflags;
use io_uring::types::OpenHow;
use io_uring::{opcode, squeue};

use super::PathAt;
use crate::fixed::{FixedFd, FixedSlot};
use crate::op::net::take_fd;
use crate::op::sealed::Prepare;
use crate::op::{Completions, Operation, Target};
use crate::ring::{Cqe, RingId};

/// How [`Open`] opens, as `open_how` in `openat2(2)`. Descriptors are always closed on `exec`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct OpenOptions {
    flags: i32,
    mode: u32,
    resolve: Resolve,
}

bitflags! {
    /// How a path is looked up (`RESOLVE_*` in `openat2(2)`, Linux 5.6).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub struct Resolve: u64 {
        /// No component leaves the directory where the path starts; `EXDEV` if one would.
        const BENEATH = libc::RESOLVE_BENEATH;
        /// The directory where the path starts is the root while it is looked up.
        const IN_ROOT = libc::RESOLVE_IN_ROOT;
        /// No links like those in `/proc/self/fd`; `ELOOP` if there is one.
        const NO_MAGICLINKS = libc::RESOLVE_NO_MAGICLINKS;
        /// No symbolic links in any component; `ELOOP` if there is one.
        const NO_SYMLINKS = libc::RESOLVE_NO_SYMLINKS;
        /// No crossing of mount points; `EXDEV` if there is one.
        const NO_XDEV = libc::RESOLVE_NO_XDEV;
        /// Only what the cache answers; `EAGAIN` for the rest (Linux 5.12).
        const CACHED = libc::RESOLVE_CACHED;
    }
}

impl OpenOptions {
    /// For reading (`O_RDONLY`).
    pub const fn read_only() -> Self {
        Self::access(libc::O_RDONLY)
    }

    /// For writing (`O_WRONLY`).
    pub const fn write_only() -> Self {
        Self::access(libc::O_WRONLY)
    }

    /// For reading and writing (`O_RDWR`).
    pub const fn read_write() -> Self {
        Self::access(libc::O_RDWR)
    }

    const fn access(access: i32) -> Self {
        Self { flags: access, mode: 0, resolve: Resolve::empty() }
    }

    const fn with(mut self, flag: i32) -> Self {
        self.flags |= flag;
        self
    }

    /// Creates a regular file with these permissions, less the umask, if there is none (`O_CREAT`).
    pub const fn create(mut self, mode: u32) -> Self {
        self.mode = mode;
        self.with(libc::O_CREAT)
    }

    /// Creates a regular file; `EEXIST` if the name exists (`O_CREAT | O_EXCL`).
    pub const fn create_new(self, mode: u32) -> Self {
        self.create(mode).with(libc::O_EXCL)
    }

    /// Creates a file without a name in the directory that is opened (`O_TMPFILE`).
    pub const fn unnamed(mut self, mode: u32) -> Self {
        self.mode = mode;
        self.with(libc::O_TMPFILE)
    }

    /// Cuts the file to nothing (`O_TRUNC`).
    pub const fn truncate(self) -> Self {
        self.with(libc::O_TRUNC)
    }

    /// Every write goes to the end of the file, whatever its offset (`O_APPEND`).
    pub const fn append(self) -> Self {
        self.with(libc::O_APPEND)
    }

    /// Reads and writes go past the page cache (`O_DIRECT`). The address of every buffer, the offset
    /// and the length must then be multiples of what [`Metadata::direct_io`](super::Metadata::direct_io)
    /// says; what is not is refused with `EINVAL`, or, by some file systems, goes through the page cache
    /// after all. [`AlignedBuf`](crate::buf::AlignedBuf) begins on a page, which suffices everywhere.
    /// A file system without direct I/O answers the open with `EINVAL`.
    pub const fn direct(self) -> Self {
        self.with(libc::O_DIRECT)
    }

    /// A write is done when its data are on the disk (`O_DSYNC`).
    pub const fn data_sync(self) -> Self {
        self.with(libc::O_DSYNC)
    }

    /// Opens a directory and nothing else, `ENOTDIR` otherwise (`O_DIRECTORY`).
    pub const fn directory(self) -> Self {
        self.with(libc::O_DIRECTORY)
    }

    /// `ELOOP` when the last component is a symbolic link (`O_NOFOLLOW`).
    pub const fn no_follow(self) -> Self {
        self.with(libc::O_NOFOLLOW)
    }

    /// How the path is looked up.
    pub const fn resolve(mut self, resolve: Resolve) -> Self {
        self.resolve = resolve;
        self
    }

    fn how(self, more: i32) -> OpenHow {
        // The flags are positive; none is the sign bit.
        OpenHow::new()
            .flags(u64::from((self.flags | more) as u32))
            .mode(self.mode.into())
            .resolve(self.resolve.bits())
    }
}

/// Opens a file, as `openat2(2)` (Linux 5.6).
///
/// Opening a FIFO does not wait for the other end: for reading it succeeds at once, for writing it is
/// `ENXIO` while nobody reads. The kernel tries with `O_NONBLOCK` first, and that answer counts.
///
/// When nobody takes the descriptor, because the [`Pending`](crate::Pending) was dropped, it is closed.
#[derive(Debug)]
pub struct Open {
    path: PathAt,
    how: OpenHow,
}

impl Open {
    /// Opens `path`.
    pub fn new(path: PathAt, options: OpenOptions) -> Self {
        Self { path, how: options.how(libc::O_CLOEXEC) }
    }

    /// Opens `path` straight in a slot of the ring's [`FileTable`](crate::fixed::FileTable), as a direct
    /// descriptor (Linux 5.15; in a slot that the kernel chooses 5.19). A file that is in a reserved slot
    /// already is closed.
    pub fn into_slot(path: PathAt, options: OpenOptions, slot: impl Into<FixedSlot>) -> OpenInSlot {
        // No process inherits a slot, so the kernel does not take `O_CLOEXEC` here.
        OpenInSlot { path, how: options.how(0), slot: slot.into() }
    }
}

// SAFETY: the path is a heap block of the operation, `how` is part of it, and the operation does not
// move after this; it owns the directory's descriptor.
unsafe impl Prepare for Open {
    fn target(&self) -> Option<&Target> {
        None
    }

    fn entry(&mut self, _ring: RingId) -> squeue::Entry {
        opcode::OpenAt2::new(self.path.dir(), self.path.as_ptr(), &raw const self.how).build()
    }

    fn discard(&mut self, cqe: Cqe) {
        // SAFETY: the completion of an open, which nobody else will take.
        drop(unsafe { take_fd(cqe) });
    }
}

impl Operation for Open {
    type Output = io::Result<OwnedFd>;

    fn complete(self, completions: Completions) -> io::Result<OwnedFd> {
        // SAFETY: the completion of an open, which is taken with the operation.
        completions.only().and_then(|cqe| unsafe { take_fd(cqe) })
    }
}

/// Opens a file in a slot. Made by [`Open::into_slot`].
///
/// When nobody takes the fixed file, because the [`Pending`](crate::Pending) was dropped, it is closed with
/// the slot's last handle.
#[derive(Debug)]
pub struct OpenInSlot {
    path: PathAt,
    how: OpenHow,
    slot: FixedSlot,
}

impl OpenInSlot {
    /// To be called once for each completion.
    fn opened(&self, result: io::Result<usize>) -> io::Result<FixedFd> {
        let fd = self.slot.installed(result?)?;
        fd.set_stream(false);
        Ok(fd)
    }
}

// SAFETY: as for `Open`; and the operation owns the slot.
unsafe impl Prepare for OpenInSlot {
    fn target(&self) -> Option<&Target> {
        None
    }

    fn entry(&mut self, _ring: RingId) -> squeue::Entry {
        opcode::OpenAt2::new(self.path.dir(), self.path.as_ptr(), &raw const self.how)
            .file_index(Some(self.slot.destination()))
            .build()
    }

    fn belongs_to(&self, ring: RingId) -> bool {
        self.slot.belongs_to(ring)
    }

    fn discard(&mut self, cqe: Cqe) {
        // Without a handle the slot is released again.
        drop(self.opened(cqe.to_result()));
    }
}

impl Operation for OpenInSlot {
    type Output = io::Result<FixedFd>;

    fn complete(self, completions: Completions) -> io::Result<FixedFd> {
        self.opened(completions.result())
    }
}
