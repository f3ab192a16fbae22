//! [`Connect`], [`Bind`], [`Listen`] and [`Shutdown`]: the life of a socket.

use std::io;
use std::net::{self, SocketAddr};

use io_uring::{opcode, squeue};

use crate::op::sealed::Prepare;
use crate::op::{Completions, Operation, Target};
use crate::ring::RingId;
use crate::sys::socket_address::RawAddress;

/// Connects a socket, as `connect(2)` (Linux 5.5; `IORING_OP_CONNECT` in `io_uring_enter(2)`).
///
/// Cancelling it leaves the socket as an interrupted `connect` does: the attempt goes on in the
/// kernel; drop the socket to end it.
#[derive(Debug)]
pub struct Connect {
    socket: Target,
    to: RawAddress,
}

impl Connect {
    /// Connects `socket` to an address; for a datagram socket that only fixes the peer.
    pub fn new(socket: impl Into<Target>, to: SocketAddr) -> Self {
        Self { socket: socket.into(), to: RawAddress::new(to) }
    }
}

// SAFETY: the address is part of the operation, which does not move after this and owns the
// descriptor.
unsafe impl Prepare for Connect {
    fn target(&self) -> Option<&Target> {
        Some(&self.socket)
    }

    fn entry(&mut self, _ring: RingId) -> squeue::Entry {
        opcode::Connect::new(self.socket.number(), self.to.as_ptr(), self.to.len()).build()
    }
}

/// Gives a socket its address, as `bind(2)` (Linux 6.11).
#[derive(Debug)]
pub struct Bind {
    socket: Target,
    to: RawAddress,
}

impl Bind {
    /// Binds `socket` to a local address.
    pub fn new(socket: impl Into<Target>, to: SocketAddr) -> Self {
        Self { socket: socket.into(), to: RawAddress::new(to) }
    }
}

// SAFETY: as for `Connect`.
unsafe impl Prepare for Bind {
    fn target(&self) -> Option<&Target> {
        Some(&self.socket)
    }

    fn entry(&mut self, _ring: RingId) -> squeue::Entry {
        opcode::Bind::new(self.socket.number(), self.to.as_ptr(), self.to.len()).build()
    }
}

/// Makes a socket listen, as `listen(2)` (Linux 6.11).
#[derive(Debug)]
pub struct Listen {
    socket: Target,
    backlog: u32,
}

impl Listen {
    /// Listens, with up to `backlog` connections waiting to be accepted; the kernel caps it at
    /// `net.core.somaxconn`.
    pub fn new(socket: impl Into<Target>, backlog: u32) -> Self {
        Self { socket: socket.into(), backlog }
    }
}

// SAFETY: the entry points to nothing; the operation owns the descriptor.
unsafe impl Prepare for Listen {
    fn target(&self) -> Option<&Target> {
        Some(&self.socket)
    }

    fn entry(&mut self, _ring: RingId) -> squeue::Entry {
        let backlog = i32::try_from(self.backlog).unwrap_or(i32::MAX);
        opcode::Listen::new(self.socket.number(), backlog).build()
    }
}

/// Shuts a connection down, one way or both, as `shutdown(2)` (Linux 5.11).
#[derive(Debug)]
pub struct Shutdown {
    socket: Target,
    how: net::Shutdown,
}

impl Shutdown {
    /// Ends reading, writing or both.
    pub fn new(socket: impl Into<Target>, how: net::Shutdown) -> Self {
        Self { socket: socket.into(), how }
    }
}

// SAFETY: the entry points to nothing; the operation owns the descriptor.
unsafe impl Prepare for Shutdown {
    fn target(&self) -> Option<&Target> {
        Some(&self.socket)
    }

    fn entry(&mut self, _ring: RingId) -> squeue::Entry {
        let how = match self.how {
            net::Shutdown::Read => libc::SHUT_RD,
            net::Shutdown::Write => libc::SHUT_WR,
            net::Shutdown::Both => libc::SHUT_RDWR,
        };
        opcode::Shutdown::new(self.socket.number(), how).build()
    }
}

macro_rules! done_or_not {
    ($($operation:ident),*) => {$(
        impl Operation for $operation {
            type Output = io::Result<()>;

            fn complete(self, completions: Completions) -> io::Result<()> {
                completions.result_or(0).map(drop)
            }
        }
    )*};
}

done_or_not!(Connect, Bind, Listen, Shutdown);
