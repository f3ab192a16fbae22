//! Operations: what a ring can be asked to do.
//!
//! Each is a type that owns everything the kernel reads or writes for it: buffer, descriptor,
//! address, message header, time. It turns itself into a submission entry once it has reached the
//! address where it stays, and into its output when the kernel is done with it. An operation of a new
//! kind is one more file here.
//!
//! A result is the one of the system call that the operation's documentation names, and an error is what
//! that call would answer. A kernel that is older than what is documented answers `EINVAL`. So does a ring
//! with `IORING_SETUP_IOPOLL` to everything that works on files or sockets but reads and writes, vectored
//! ones among them, and those it takes for files that were opened with `O_DIRECT` alone (`EOPNOTSUPP`).

mod cancel;
mod file;
mod futex;
mod install;
mod net;
mod pipe;
mod read;
mod target;
mod timer;
mod wait_id;

use crate::ring::Cqe;

pub use cancel::Cancel;
pub use file::*;
pub use futex::{FutexWait, FutexWaitV, FutexWake};
pub use install::{FilesUpdate, FixedFdInstall};
pub use net::*;
pub(crate) use net::{Header, close_rights, take_fd};
pub use pipe::{Pipe, Splice, SpliceFlags, Tee};
pub use read::{Read, ReadDone};
pub use target::{DatagramFd, Fd, StreamFd, Target};
pub use timer::{Clock, Nop, Timeout, TimeoutEnd, TimeoutRemove, TimeoutUpdate, When};
pub(crate) use timer::{Limit, timespec};
pub use wait_id::{ChildEnd, ChildExit, WaitId};

/// Something that a ring can be asked to do. Implemented by the types of this module.
pub trait Operation: sealed::Prepare {
    /// The result, with what the operation owned.
    type Output;

    #[doc(hidden)]
    fn complete(self, completions: Completions) -> Self::Output;
}

pub(crate) mod sealed {
    use super::{Cqe, Target};
    use crate::ring::RingId;
    use io_uring::squeue;

    /// Turns an operation into a submission entry.
    ///
    /// # Safety
    ///
    /// - Everything that the entry points to, and the descriptor that it names, is owned by the
    ///   operation and stays valid at its address until the operation is moved or dropped.
    /// - Between `entry` and the terminal completion, `discard` is the only method called; it does
    ///   not invalidate what the kernel still uses, and does not call into a ring.
    pub unsafe trait Prepare: 'static {
        /// What it works on, whose [number](Target::number) is in the entry. The ring checks that it
        /// is its own, and tells the entry which kind of number it is.
        #[doc(hidden)]
        fn target(&self) -> Option<&Target>;

        /// The entry for this ring, in which a buffer may be registered.
        #[doc(hidden)]
        fn entry(&mut self, ring: RingId) -> squeue::Entry;

        /// Whether everything else that the operation names by number, such as the slot that it
        /// installs into, is of this ring.
        #[doc(hidden)]
        fn belongs_to(&self, ring: RingId) -> bool {
            let _ = ring;
            true
        }

        /// A completion that nobody will take: resources that it brought go back here.
        #[doc(hidden)]
        fn discard(&mut self, cqe: Cqe) {
            let _ = cqe;
        }
    }
}

/// The completions of an operation that is done: none (it ended inside its submission), one, or a
/// result and the notification of a zero-copy send.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Completions {
    first: Option<Cqe>,
    second: Option<Cqe>,
}

impl Extend<Cqe> for Completions {
    fn extend<I: IntoIterator<Item = Cqe>>(&mut self, cqes: I) {
        for cqe in cqes {
            if self.first.is_none() {
                self.first = Some(cqe);
            } else {
                self.second = Some(cqe);
            }
        }
    }
}

impl Completions {
    /// The result, or `all` for an operation that ended well inside its submission.
    pub(crate) fn result_or(self, all: usize) -> std::io::Result<usize> {
        self.first.map_or(Ok(all), Cqe::to_result)
    }

    /// The completion of an operation that always has one.
    fn only(self) -> std::io::Result<Cqe> {
        self.first.ok_or_else(|| std::io::Error::other("an operation without a completion"))
    }

    /// The result of an operation that always has a completion.
    fn result(self) -> std::io::Result<usize> {
        self.only()?.to_result()
    }

    pub(crate) fn first(self) -> Option<Cqe> {
        self.first
    }

    fn notification(self) -> Option<Cqe> {
        self.second
    }
}
