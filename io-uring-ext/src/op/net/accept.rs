//! [`Accept`] and [`Socket`]: operations that make a descriptor.
//!
//! A descriptor that nobody will take, because its operation was abandoned before it was done, is
//! closed with the completion that brings it.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{FromRawFd, OwnedFd};

use io_uring::types::DestinationSlot;
use io_uring::{opcode, squeue};

use crate::op::sealed::Prepare;
use crate::op::{Completions, Operation, Target};
use crate::ring::{Cqe, RingId};
use crate::sys::entry_fields;
use crate::sys::socket_address::AddressRoom;

/// `IORING_ACCEPT_POLL_FIRST`.
const ACCEPT_POLL_FIRST: u16 = 1 << 2;

/// Takes the descriptor that a completion brought, for whoever wants it, or to close it.
///
/// # Safety
///
/// The completion is of an operation whose result is a new descriptor, and is taken only once.
pub(crate) unsafe fn take_fd(cqe: Cqe) -> io::Result<OwnedFd> {
    cqe.to_result()?;
    // SAFETY: the kernel has made the descriptor for this operation and told nobody else its number.
    Ok(unsafe { OwnedFd::from_raw_fd(cqe.result) })
}

/// Takes a connection from a listening socket, as `accept4(2)` (Linux 5.5; `IORING_OP_ACCEPT` in
/// `io_uring_enter(2)`). The new descriptor is closed on `exec`.
///
/// To take many with one submission, use [`Incoming`](crate::multishot::Incoming).
#[derive(Debug)]
pub struct Accept {
    listener: Target,
    peer: AddressRoom,
    poll_first: bool,
}

impl Accept {
    /// Takes the next connection.
    pub fn new(listener: impl Into<Target>) -> Self {
        Self { listener: listener.into(), peer: AddressRoom::new(), poll_first: false }
    }

    /// Waits for a connection without trying first (`IORING_ACCEPT_POLL_FIRST`, Linux 6.10).
    #[must_use]
    pub fn poll_first(mut self) -> Self {
        self.poll_first = true;
        self
    }

    /// The entry, with the slot to install into, or for an ordinary descriptor.
    pub(super) fn build(&mut self, slot: Option<DestinationSlot>) -> squeue::Entry {
        let (address, len) = (self.peer.address_ptr(), self.peer.len_ptr());
        let accept = opcode::Accept::new(self.listener.number(), address, len)
            // A slot is no descriptor, so there is nothing to close on `exec`.
            .flags(if slot.is_some() { 0 } else { libc::SOCK_CLOEXEC })
            .file_index(slot)
            .build();
        entry_fields::or_ioprio(accept, if self.poll_first { ACCEPT_POLL_FIRST } else { 0 })
    }

    pub(super) fn listener(&self) -> &Target {
        &self.listener
    }

    pub(super) fn peer(&self) -> Option<SocketAddr> {
        self.peer.get()
    }
}

/// A connection, and where it comes from.
#[derive(Debug)]
#[non_exhaustive]
pub struct Accepted {
    /// The connection.
    pub socket: OwnedFd,
    /// The peer's address, if it is an internet address.
    pub peer: Option<SocketAddr>,
}

// SAFETY: the address room is part of the operation, which does not move after this and owns the
// descriptor.
unsafe impl Prepare for Accept {
    fn target(&self) -> Option<&Target> {
        Some(&self.listener)
    }

    fn entry(&mut self, _ring: RingId) -> squeue::Entry {
        self.build(None)
    }

    fn discard(&mut self, cqe: Cqe) {
        // SAFETY: the completion of an accept, which nobody else will take.
        drop(unsafe { take_fd(cqe) });
    }
}

impl Operation for Accept {
    type Output = io::Result<Accepted>;

    fn complete(self, completions: Completions) -> io::Result<Accepted> {
        // SAFETY: the completion of an accept, which is taken with the operation.
        let socket = completions.only().and_then(|cqe| unsafe { take_fd(cqe) })?;
        Ok(Accepted { socket, peer: self.peer.get() })
    }
}

/// Makes a socket, as `socket(2)` (Linux 5.19). The new descriptor is closed on `exec`.
#[derive(Clone, Copy, Debug)]
pub struct Socket {
    pub(super) domain: i32,
    pub(super) kind: i32,
    pub(super) protocol: i32,
}

impl Socket {
    /// A socket of these `domain` (`AF_…`), `kind` (`SOCK_…`) and `protocol` numbers.
    pub fn new(domain: i32, kind: i32, protocol: i32) -> Self {
        Self { domain, kind, protocol }
    }

    /// A TCP socket of the family of `address`.
    pub fn tcp(address: &SocketAddr) -> Self {
        Self::new(family(address), libc::SOCK_STREAM, 0)
    }

    /// A UDP socket of the family of `address`.
    pub fn udp(address: &SocketAddr) -> Self {
        Self::new(family(address), libc::SOCK_DGRAM, 0)
    }
}

fn family(address: &SocketAddr) -> i32 {
    if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 }
}

// SAFETY: the entry points to nothing.
unsafe impl Prepare for Socket {
    fn target(&self) -> Option<&Target> {
        None
    }

    fn entry(&mut self, _ring: RingId) -> squeue::Entry {
        opcode::Socket::new(self.domain, self.kind | libc::SOCK_CLOEXEC, self.protocol).build()
    }

    fn discard(&mut self, cqe: Cqe) {
        // SAFETY: the completion of an operation that makes a descriptor, which nobody else will take.
        drop(unsafe { take_fd(cqe) });
    }
}

impl Operation for Socket {
    type Output = io::Result<OwnedFd>;

    fn complete(self, completions: Completions) -> io::Result<OwnedFd> {
        // SAFETY: the completion of an operation that makes a descriptor, taken with the operation.
        completions.only().and_then(|cqe| unsafe { take_fd(cqe) })
    }
}
