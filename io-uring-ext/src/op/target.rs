//! What an operation works on.

use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use io_uring::{squeue, types};
use socket2::SockRef;

use crate::fixed::FixedFd;
use crate::ring::RingId;

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

    /// The descriptor itself, when no operation and nobody else has it any more.
    ///
    /// # Errors
    ///
    /// Gives it back when it is shared.
    pub fn try_into_owned(self) -> Result<OwnedFd, Self> {
        Arc::try_unwrap(self.0).map_err(Self)
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

/// A stream socket: TCP, Unix stream. It may be a fixed file.
///
/// What would tear or merge messages asks for this type.
#[derive(Clone, Debug)]
pub struct StreamFd(Target);

impl StreamFd {
    /// Takes a socket of type `SOCK_STREAM` (`SO_TYPE` in `socket(7)`), or a fixed file that has been
    /// installed as one.
    ///
    /// # Errors
    ///
    /// `InvalidInput` for everything else.
    pub fn new(socket: impl Into<Target>) -> std::io::Result<Self> {
        let socket = socket.into();
        if socket.is_stream() {
            return Ok(Self(socket));
        }
        let why = format!("{socket:?} is no stream socket");
        Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, why))
    }
}

impl From<&StreamFd> for Target {
    fn from(fd: &StreamFd) -> Self {
        fd.0.clone()
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

/// What an operation works on: a descriptor, or a fixed file of its ring. Made from references, so
/// operations are given `&fd`.
#[derive(Clone, Debug)]
pub struct Target(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Fd(Fd),
    Fixed(FixedFd),
}

impl Target {
    /// The number for the entry; [`mark`](Self::mark) says of what.
    pub(crate) fn number(&self) -> types::Fd {
        match &self.0 {
            Kind::Fd(fd) => types::Fd(fd.0.as_raw_fd()),
            // A table has at most 2^20 slots.
            Kind::Fixed(fd) => types::Fd(fd.slot() as i32),
        }
    }

    /// Tells the entry what kind of number it has.
    pub(crate) fn mark(&self, entry: squeue::Entry) -> squeue::Entry {
        match &self.0 {
            Kind::Fd(_) => entry,
            Kind::Fixed(_) => entry.flags(squeue::Flags::FIXED_FILE),
        }
    }

    /// What `splice(2)`'s flags in an entry say about the number of the input, which
    /// [`mark`](Self::mark) does not cover.
    pub(crate) fn splice_flag(&self) -> u32 {
        /// The input is a fixed file.
        const SPLICE_F_FD_IN_FIXED: u32 = 1 << 31;
        match &self.0 {
            Kind::Fd(_) => 0,
            Kind::Fixed(_) => SPLICE_F_FD_IN_FIXED,
        }
    }

    /// What a cancel that is no entry says of it.
    pub(crate) fn cancel(&self) -> types::CancelBuilder {
        match &self.0 {
            Kind::Fd(_) => types::CancelBuilder::fd(self.number()),
            Kind::Fixed(fd) => types::CancelBuilder::fd(types::Fixed(fd.slot())),
        }
    }

    /// The flag with which descriptors that a message carries are closed on `exec`. Frames carry none,
    /// and their sockets refuse the flag (`packet_recvmsg` in `net/packet/af_packet.c`).
    pub(crate) fn close_on_exec(&self) -> i32 {
        match &self.0 {
            Kind::Fd(fd) if matches!(SockRef::from(fd).domain(), Ok(socket2::Domain::PACKET)) => 0,
            _ => libc::MSG_CMSG_CLOEXEC,
        }
    }

    /// Whether it is a stream socket. What is no socket says so when it is used.
    pub(crate) fn is_stream(&self) -> bool {
        match &self.0 {
            Kind::Fd(fd) => matches!(SockRef::from(fd).r#type(), Ok(socket2::Type::STREAM)),
            Kind::Fixed(fd) => fd.is_stream(),
        }
    }

    /// Whether an operation on this ring can name it.
    pub(crate) fn belongs_to(&self, ring: RingId) -> bool {
        match &self.0 {
            Kind::Fd(_) => true,
            Kind::Fixed(fd) => fd.ring() == ring,
        }
    }
}

impl From<&Self> for Target {
    fn from(target: &Self) -> Self {
        target.clone()
    }
}

impl From<&Fd> for Target {
    fn from(fd: &Fd) -> Self {
        Self(Kind::Fd(fd.clone()))
    }
}

impl From<&DatagramFd> for Target {
    fn from(fd: &DatagramFd) -> Self {
        Self(Kind::Fd(fd.0.clone()))
    }
}

impl From<&FixedFd> for Target {
    fn from(fd: &FixedFd) -> Self {
        Self(Kind::Fixed(fd.clone()))
    }
}
