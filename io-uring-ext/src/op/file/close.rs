//! [`Close`].

use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, OwnedFd};

use io_uring::{opcode, squeue, types};

use super::succeeds_or_fails;
use crate::error::{Error, Result};
use crate::fixed::FixedFd;
use crate::op::sealed::Prepare;
use crate::op::{Completions, Operation, Target};
use crate::ring::{Cqe, RingId};

/// Closes a descriptor, as `close(2)` (Linux 5.6), and brings the errors that a plain drop swallows.
///
/// It takes the only owner. An [`Fd`](crate::Fd) is shared with the operations that use it, and closes
/// when the last of them is done; [`Fd::try_into_owned`](crate::Fd::try_into_owned) makes it the only one.
///
/// The descriptor is gone whatever the result, as always with `close` on Linux. Only where the kernel
/// refuses to close it at all is it leaked: on a ring with `IORING_SETUP_IOPOLL` (`EINVAL`), and when it
/// is a ring itself (`EBADF`).
#[derive(Debug)]
pub struct Close {
    fd: ManuallyDrop<OwnedFd>,
    /// The kernel has, or may have, taken the descriptor out of the table.
    gone: bool,
}

impl Close {
    /// Closes `fd`.
    pub fn new(fd: impl Into<OwnedFd>) -> Self {
        Self { fd: ManuallyDrop::new(fd.into()), gone: false }
    }

    /// Closes what is in a reserved slot of the ring's [`FileTable`](crate::fixed::FileTable) and leaves
    /// the slot empty, for something else to be installed (Linux 5.15). As
    /// [`FileTable::clear`](crate::fixed::FileTable::clear), but part of a submission.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] for a slot that the kernel chose: it could choose it again at once, for something
    /// else, while there are handles of it.
    pub fn slot(slot: &FixedFd) -> Result<CloseSlot> {
        if slot.is_kernels() {
            let why = "the kernel chose it: let go of its last handle instead";
            return Err(Error::config("a slot to be emptied", slot.slot(), why));
        }
        Ok(CloseSlot(slot.clone()))
    }

    /// `io_close` in `io_uring/openclose.c` takes the number out of the table before it can fail, so an
    /// error says nothing about the number any more; it may serve another file already. `ECANCELED` is
    /// given to operations that have not begun.
    fn ended(&mut self, result: &io::Result<usize>) {
        self.gone = match result {
            Ok(_) => true,
            Err(error) => error.raw_os_error() != Some(libc::ECANCELED),
        };
    }
}

impl Drop for Close {
    fn drop(&mut self) {
        if !self.gone {
            // SAFETY: nothing uses it after this, and it is still open: the kernel has not been asked
            // to close it, or has said that it did not begin to.
            unsafe { ManuallyDrop::drop(&mut self.fd) };
        }
    }
}

// SAFETY: the entry points to nothing, and the operation owns the descriptor that it names. Its success
// posts a completion, through which it learns that the descriptor is gone.
unsafe impl Prepare for Close {
    fn target(&self) -> Option<&Target> {
        None
    }

    fn entry(&mut self, _ring: RingId) -> squeue::Entry {
        opcode::Close::new(types::Fd(self.fd.as_raw_fd())).build()
    }

    fn discard(&mut self, cqe: Cqe) {
        self.ended(&cqe.to_result());
    }
}

impl Operation for Close {
    type Output = io::Result<()>;

    fn complete(mut self, completions: Completions) -> io::Result<()> {
        let result = completions.result();
        self.ended(&result);
        result.map(drop)
    }
}

/// Closes what is in a slot. Made by [`Close::slot`]. `EBADF` when nothing is.
#[derive(Clone, Debug)]
pub struct CloseSlot(FixedFd);

// SAFETY: the entry points to nothing, and the operation owns the slot that it names.
unsafe impl Prepare for CloseSlot {
    fn target(&self) -> Option<&Target> {
        // The slot is named elsewhere in the entry, without the flag that a target gives it.
        None
    }

    fn entry(&mut self, _ring: RingId) -> squeue::Entry {
        opcode::Close::new(types::Fixed(self.0.slot())).build()
    }

    fn belongs_to(&self, ring: RingId) -> bool {
        self.0.ring() == ring
    }
}

succeeds_or_fails!(CloseSlot);
