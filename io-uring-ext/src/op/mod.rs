//! Operations: what a ring can be asked to do.
//!
//! Each is a type that owns everything the kernel reads or writes for it: buffer, descriptor,
//! address, message header, time. It turns itself into a submission entry once it has reached the
//! address where it stays, and into its output when the kernel is done with it. An operation of a new
//! kind (on a fixed file or a registered buffer, a chain, a file operation) is one more file here.

mod message;
mod read;
mod send;
mod timer;
mod zero_copy;

use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use io_uring::types;
use socket2::SockRef;

use crate::ring::Cqe;

pub use message::Message;
pub(crate) use message::empty_header;
pub use read::{Read, ReadDone};
pub use send::{Send, SendMsg, Sent, SentMsg};
pub use timer::{Nop, Timeout, TimeoutEnd};
pub use zero_copy::{SendMsgZc, SendZc, ZC_THRESHOLD, ZcSent, ZcSentMsg};

/// Something that a ring can be asked to do. Implemented by the types of this module.
pub trait Operation: sealed::Prepare {
    /// The result, with what the operation owned.
    type Output;

    #[doc(hidden)]
    fn complete(self, completions: Completions) -> Self::Output;
}

pub(crate) mod sealed {
    use super::Cqe;
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
        #[doc(hidden)]
        fn entry(&mut self) -> squeue::Entry;

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
    fn result_or(self, all: usize) -> std::io::Result<usize> {
        self.first.map_or(Ok(all), Cqe::to_result)
    }

    fn notification(self) -> Option<Cqe> {
        self.second
    }
}

/// A descriptor that operations share: it stays open until the last of them is done.
///
/// Closing a descriptor does not end what is armed on it (the kernel holds the file), and its number
/// may be given to another file while an entry with that number waits to be submitted. So operations
/// own their descriptors, and ending a multishot is a cancel, never a close.
#[derive(Clone)]
pub struct Fd(Arc<OwnedFd>);

impl Fd {
    /// Takes a descriptor: a file, a socket, a pipe's end.
    pub fn new(fd: impl Into<OwnedFd>) -> Self {
        Self(Arc::new(fd.into()))
    }

    pub(crate) fn target(&self) -> types::Fd {
        types::Fd(self.0.as_raw_fd())
    }
}

/// A socket that keeps message boundaries: UDP, Unix datagram, AF_PACKET, raw IP.
///
/// What is sound or lossless only for such sockets asks for this type.
#[derive(Clone, Debug)]
pub struct DatagramFd(Fd);

impl DatagramFd {
    /// Takes a socket of type `SOCK_DGRAM` or `SOCK_RAW` (`SO_TYPE` in `socket(7)`).
    ///
    /// # Errors
    ///
    /// `InvalidInput` for a socket of another type; `ENOTSOCK` for what is no socket.
    pub fn new(fd: impl Into<OwnedFd>) -> std::io::Result<Self> {
        let fd = fd.into();
        match SockRef::from(&fd).r#type()? {
            socket2::Type::DGRAM | socket2::Type::RAW => Ok(Self(Fd::new(fd))),
            other => Err(std::io::Error::new(
                std::io::ErrorKind::InvalidInput,
                format!("a socket of type {other:?} does not keep message boundaries"),
            )),
        }
    }

    /// The descriptor, for operations that take any.
    pub fn fd(&self) -> &Fd {
        &self.0
    }
}

impl AsFd for DatagramFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsFd for Fd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl fmt::Debug for Fd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Fd").field(&self.0.as_raw_fd()).finish()
    }
}
