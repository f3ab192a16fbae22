//! [`AcceptFixed`] and [`SocketFixed`]: sockets made straight in a slot of the ring's file table.
//!
//! The process's table of descriptors never sees them. Where nobody takes the result, the slot is
//! released, and with it the file closed.

use std::io;
use std::net::SocketAddr;

use io_uring::{opcode, squeue};

use super::accept::{Accept, Socket};
use crate::fixed::{FixedFd, FixedSlot};
use crate::op::sealed::Prepare;
use crate::op::{Completions, Operation, Target};
use crate::ring::{Cqe, RingId};

/// Takes a connection from a listening socket into a slot: [`Accept`] with a direct descriptor (Linux
/// 5.15, in a slot that the kernel chooses 5.19).
///
/// When the kernel has no slot left to choose, the answer is `ENFILE` and the connection is closed:
/// the kernel looks for the slot when it has taken the connection (`io_accept` in `io_uring/net.c`).
#[derive(Debug)]
pub struct AcceptFixed {
    accept: Accept,
    slot: FixedSlot,
}

impl AcceptFixed {
    /// Takes the next connection into `slot`: a reserved one, whose content it replaces, or one that
    /// the kernel chooses.
    pub fn new(listener: impl Into<Target>, slot: impl Into<FixedSlot>) -> Self {
        Self { accept: Accept::new(listener), slot: slot.into() }
    }

    /// Waits for a connection without trying first (`IORING_ACCEPT_POLL_FIRST`, Linux 6.10).
    #[must_use]
    pub fn poll_first(mut self) -> Self {
        self.accept = self.accept.poll_first();
        self
    }
}

/// A connection in a slot, and where it comes from.
#[derive(Debug)]
#[non_exhaustive]
pub struct AcceptedFixed {
    /// The connection.
    pub socket: FixedFd,
    /// The peer's address, if it is an internet address.
    pub peer: Option<SocketAddr>,
}

// SAFETY: as for `Accept`, which this is but for the place of the result; the operation owns the slot.
unsafe impl Prepare for AcceptFixed {
    fn target(&self) -> Option<&Target> {
        self.accept.target()
    }

    fn entry(&mut self, _ring: RingId) -> squeue::Entry {
        self.accept.build(Some(self.slot.destination()))
    }

    fn belongs_to(&self, ring: RingId) -> bool {
        self.slot.belongs_to(ring)
    }

    fn discard(&mut self, cqe: Cqe) {
        // Without a handle the slot is released again.
        drop(installed(&self.slot, cqe.to_result(), false));
    }
}

impl Operation for AcceptFixed {
    type Output = io::Result<AcceptedFixed>;

    fn complete(self, completions: Completions) -> io::Result<AcceptedFixed> {
        let result = completions.only().and_then(Cqe::to_result);
        let stream = self.accept.listener().is_stream();
        Ok(AcceptedFixed {
            socket: installed(&self.slot, result, stream)?,
            peer: self.accept.peer(),
        })
    }
}

/// Makes a socket in a slot: [`Socket`] with a direct descriptor (Linux 5.19).
#[derive(Debug)]
pub struct SocketFixed {
    socket: Socket,
    slot: FixedSlot,
}

impl SocketFixed {
    /// Makes `socket` in `slot`: a reserved one, whose content it replaces, or one that the kernel
    /// chooses.
    pub fn new(socket: Socket, slot: impl Into<FixedSlot>) -> Self {
        Self { socket, slot: slot.into() }
    }
}

// SAFETY: the entry points to nothing; the operation owns the slot.
unsafe impl Prepare for SocketFixed {
    fn target(&self) -> Option<&Target> {
        None
    }

    fn entry(&mut self, _ring: RingId) -> squeue::Entry {
        let Socket { domain, kind, protocol } = self.socket;
        opcode::Socket::new(domain, kind, protocol)
            .file_index(Some(self.slot.destination()))
            .build()
    }

    fn belongs_to(&self, ring: RingId) -> bool {
        self.slot.belongs_to(ring)
    }

    fn discard(&mut self, cqe: Cqe) {
        // Without a handle the slot is released again.
        drop(installed(&self.slot, cqe.to_result(), false));
    }
}

impl Operation for SocketFixed {
    type Output = io::Result<FixedFd>;

    fn complete(self, completions: Completions) -> io::Result<FixedFd> {
        /// The type without `SOCK_NONBLOCK` and `SOCK_CLOEXEC` (`include/linux/net.h`).
        const TYPE: i32 = 0xf;

        let stream = self.socket.kind & TYPE == libc::SOCK_STREAM;
        installed(&self.slot, completions.only().and_then(Cqe::to_result), stream)
    }
}

fn installed(slot: &FixedSlot, result: io::Result<usize>, stream: bool) -> io::Result<FixedFd> {
    let fd = slot.installed(result?)?;
    fd.set_stream(stream);
    Ok(fd)
}
