//! [`FilesUpdate`] and [`FixedFdInstall`]: from a descriptor to a fixed file, and back.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};

use io_uring::{opcode, squeue, types};

use super::sealed::Prepare;
use super::{Completions, Fd, Operation, Target, take_fd};
use crate::fixed::{FixedFd, FixedSlot};
use crate::ring::{Cqe, RingId};

/// Installs a descriptor in a slot of the ring's file table (`IORING_OP_FILES_UPDATE`, Linux 5.6; in a
/// slot that the kernel chooses 6.0).
///
/// [`FileTable::install`](crate::fixed::FileTable::install) does the same at once; this can be part of
/// a chain, and takes a kernel's slot too.
#[derive(Debug)]
pub struct FilesUpdate {
    fd: Fd,
    slot: FixedSlot,
    /// The kernel reads the descriptor here, and leaves the number of the slot that it chose.
    number: RawFd,
}

impl FilesUpdate {
    /// Installs `fd` in a reserved slot, or in one that the kernel chooses. A slot that it chose before is
    /// refused with `EINVAL`: a failure would leave it empty, and the kernel could choose it again while
    /// there are handles of it.
    pub fn new(fd: &Fd, slot: impl Into<FixedSlot>) -> Self {
        Self { fd: fd.clone(), slot: slot.into(), number: -1 }
    }

    fn installed(&self) -> io::Result<FixedFd> {
        let fd = self.slot.installed(self.number as usize)?;
        fd.set_stream(Target::from(&self.fd).is_stream());
        Ok(fd)
    }
}

// SAFETY: the number is part of the operation, which does not move after this; the operation owns the
// descriptor and the slot.
unsafe impl Prepare for FilesUpdate {
    fn target(&self) -> Option<&Target> {
        None
    }

    fn entry(&mut self, _ring: RingId) -> squeue::Entry {
        self.number = self.fd.as_fd().as_raw_fd();
        // A table has at most 2^20 slots; -1 is `IORING_FILE_INDEX_ALLOC`.
        let offset = self.slot.number_to_empty().map_or(-1, |slot| slot as i32);
        opcode::FilesUpdate::new((&raw mut self.number).cast_const(), 1).offset(offset).build()
    }

    fn belongs_to(&self, ring: RingId) -> bool {
        self.slot.belongs_to(ring)
    }

    fn discard(&mut self, cqe: Cqe) {
        if cqe.result > 0 {
            // Without a handle the slot is released again.
            let _ = self.installed();
        }
    }
}

impl Operation for FilesUpdate {
    type Output = io::Result<FixedFd>;

    fn complete(self, completions: Completions) -> io::Result<FixedFd> {
        match completions.result_or(0)? {
            0 => Err(io::ErrorKind::InvalidInput.into()),
            _ => self.installed(),
        }
    }
}

/// Makes an ordinary descriptor of a fixed file (`IORING_OP_FIXED_FD_INSTALL`, Linux 6.8), with
/// `O_CLOEXEC`. The slot stays as it is.
#[derive(Debug)]
pub struct FixedFdInstall(Target);

impl FixedFdInstall {
    /// Makes a descriptor of what `fd` refers to.
    pub fn new(fd: &FixedFd) -> Self {
        Self(fd.into())
    }
}

// SAFETY: the entry points to nothing; the operation owns the slot.
unsafe impl Prepare for FixedFdInstall {
    fn target(&self) -> Option<&Target> {
        Some(&self.0)
    }

    fn entry(&mut self, _ring: RingId) -> squeue::Entry {
        opcode::FixedFdInstall::new(types::Fixed(self.0.number().0 as u32), 0).build()
    }

    fn discard(&mut self, cqe: Cqe) {
        // SAFETY: the completion of an install, which nobody else will take.
        drop(unsafe { take_fd(cqe) });
    }
}

impl Operation for FixedFdInstall {
    type Output = io::Result<OwnedFd>;

    fn complete(self, completions: Completions) -> io::Result<OwnedFd> {
        // SAFETY: the completion of an install, which is taken with the operation.
        completions.only().and_then(|cqe| unsafe { take_fd(cqe) })
    }
}
