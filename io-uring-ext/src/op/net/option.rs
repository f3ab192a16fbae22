//! [`SetSockOpt`] and [`GetSockOpt`].

use std::io;

use io_uring::{opcode, squeue};

use crate::op::sealed::Prepare;
use crate::op::{Completions, Operation, Target};
use crate::ring::RingId;
use crate::sys::entry_fields;

/// `SOCKET_URING_OP_GETSOCKOPT`.
const GET: u32 = 2;

/// A socket option whose value is an `int` (`socket(7)`, `tcp(7)`, `ip(7)`, `udp(7)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketOption {
    level: i32,
    name: i32,
}

macro_rules! options {
    ($($(#[$doc:meta])* $constant:ident = $level:ident, $name:ident;)*) => {
        impl SocketOption {
            $($(#[$doc])* pub const $constant: Self = Self { level: libc::$level, name: libc::$name };)*
        }
    };
}

options! {
    /// `SO_REUSEADDR`: bind where an old connection lingers.
    REUSE_ADDRESS = SOL_SOCKET, SO_REUSEADDR;
    /// `SO_REUSEPORT`: several sockets on one port share its load.
    REUSE_PORT = SOL_SOCKET, SO_REUSEPORT;
    /// `SO_KEEPALIVE`.
    KEEP_ALIVE = SOL_SOCKET, SO_KEEPALIVE;
    /// `SO_RCVBUF`, in bytes; the kernel doubles it.
    RECEIVE_BUFFER = SOL_SOCKET, SO_RCVBUF;
    /// `SO_SNDBUF`, in bytes; the kernel doubles it.
    SEND_BUFFER = SOL_SOCKET, SO_SNDBUF;
    /// `SO_RCVLOWAT`: bytes that make the socket readable.
    RECEIVE_LOW_WATER = SOL_SOCKET, SO_RCVLOWAT;
    /// `SO_PRIORITY`.
    PRIORITY = SOL_SOCKET, SO_PRIORITY;
    /// `SO_BUSY_POLL`, in microseconds.
    BUSY_POLL = SOL_SOCKET, SO_BUSY_POLL;
    /// `SO_INCOMING_CPU`.
    INCOMING_CPU = SOL_SOCKET, SO_INCOMING_CPU;
    /// `SO_ERROR`, to be read: the pending error, which this clears.
    ERROR = SOL_SOCKET, SO_ERROR;
    /// `SO_TYPE`, to be read.
    TYPE = SOL_SOCKET, SO_TYPE;
    /// `SO_DOMAIN`, to be read.
    DOMAIN = SOL_SOCKET, SO_DOMAIN;
    /// `SO_ACCEPTCONN`, to be read: whether the socket listens.
    LISTENS = SOL_SOCKET, SO_ACCEPTCONN;
    /// `TCP_NODELAY`: send small segments at once.
    NO_DELAY = IPPROTO_TCP, TCP_NODELAY;
    /// `TCP_CORK`: send full segments only.
    CORK = IPPROTO_TCP, TCP_CORK;
    /// `TCP_QUICKACK`.
    QUICK_ACK = IPPROTO_TCP, TCP_QUICKACK;
    /// `TCP_DEFER_ACCEPT`, in seconds: accept when data has come.
    DEFER_ACCEPT = IPPROTO_TCP, TCP_DEFER_ACCEPT;
    /// `TCP_USER_TIMEOUT`, in milliseconds.
    USER_TIMEOUT = IPPROTO_TCP, TCP_USER_TIMEOUT;
    /// `TCP_NOTSENT_LOWAT`, in bytes.
    NOT_SENT_LOW_WATER = IPPROTO_TCP, TCP_NOTSENT_LOWAT;
    /// `TCP_MAXSEG`, in bytes.
    MAX_SEGMENT = IPPROTO_TCP, TCP_MAXSEG;
    /// `TCP_KEEPIDLE`, in seconds.
    KEEP_IDLE = IPPROTO_TCP, TCP_KEEPIDLE;
    /// `TCP_KEEPINTVL`, in seconds.
    KEEP_INTERVAL = IPPROTO_TCP, TCP_KEEPINTVL;
    /// `TCP_KEEPCNT`.
    KEEP_COUNT = IPPROTO_TCP, TCP_KEEPCNT;
    /// `TCP_FASTOPEN`: how many connections may wait for their handshake.
    FAST_OPEN = IPPROTO_TCP, TCP_FASTOPEN;
    /// `IPV6_V6ONLY`.
    IPV6_ONLY = IPPROTO_IPV6, IPV6_V6ONLY;
}

impl SocketOption {
    /// Another option.
    ///
    /// # Safety
    ///
    /// The option's value is four bytes, whatever they are, both ways: it holds no address that the
    /// kernel would follow (as that of `SO_ATTACH_FILTER` and `TCP_ZEROCOPY_RECEIVE` does), and the
    /// kernel writes no more than the length it is told (as it does for `SO_GET_FILTER`).
    pub const unsafe fn from_raw(level: i32, name: i32) -> Self {
        Self { level, name }
    }

    fn entry(self, socket: &Target, value: *const i32) -> squeue::Entry {
        let (level, name) = (self.level as u32, self.name as u32);
        opcode::SetSockOpt::new(socket.number(), level, name, value.cast(), size_of::<i32>() as u32)
            .build()
    }
}

/// Sets a socket option, as `setsockopt(2)` (Linux 6.7; `io_uring/uring_cmd.c`).
#[derive(Debug)]
pub struct SetSockOpt {
    socket: Target,
    option: SocketOption,
    value: i32,
}

impl SetSockOpt {
    /// Sets `option` to `value`.
    pub fn new(socket: impl Into<Target>, option: SocketOption, value: i32) -> Self {
        Self { socket: socket.into(), option, value }
    }
}

// SAFETY: the value is part of the operation, which does not move after this and owns the descriptor.
// The option takes four bytes.
unsafe impl Prepare for SetSockOpt {
    fn target(&self) -> Option<&Target> {
        Some(&self.socket)
    }

    fn entry(&mut self, _ring: RingId) -> squeue::Entry {
        self.option.entry(&self.socket, &raw const self.value)
    }
}

impl Operation for SetSockOpt {
    type Output = io::Result<()>;

    fn complete(self, completions: Completions) -> io::Result<()> {
        completions.result_or(0).map(drop)
    }
}

/// Reads a socket option, as `getsockopt(2)` (Linux 6.7; `io_uring/uring_cmd.c`).
///
/// The kernel does so for options of the level `SOL_SOCKET` only, and answers `EOPNOTSUPP` to others.
#[derive(Debug)]
pub struct GetSockOpt {
    socket: Target,
    option: SocketOption,
    value: i32,
}

impl GetSockOpt {
    /// Reads `option`.
    pub fn new(socket: impl Into<Target>, option: SocketOption) -> Self {
        Self { socket: socket.into(), option, value: 0 }
    }
}

// SAFETY: as for `SetSockOpt`; the kernel writes no more than the four bytes it is told of.
unsafe impl Prepare for GetSockOpt {
    fn target(&self) -> Option<&Target> {
        Some(&self.socket)
    }

    fn entry(&mut self, _ring: RingId) -> squeue::Entry {
        entry_fields::set_command(self.option.entry(&self.socket, &raw mut self.value), GET)
    }
}

impl Operation for GetSockOpt {
    type Output = io::Result<i32>;

    fn complete(self, completions: Completions) -> io::Result<i32> {
        completions.result_or(0).map(|_| self.value)
    }
}
