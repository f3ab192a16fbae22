//! [`XdpError`]: what can go wrong with an AF_XDP socket and nothing else.

use std::fmt;
use std::io;

use crate::socket::{CopyMode, Holder};

/// What can go wrong with an AF_XDP socket, beside what every backend can meet. It is the `source` of a
/// [`bypass_core::Error::Backend`]:
///
/// ```
/// use bypass_xdp::XdpError;
///
/// fn is_taken(error: &bypass_core::Error) -> bool {
///     let bypass_core::Error::Backend { source, .. } = error else { return false };
///     matches!(source.downcast_ref(), Some(XdpError::QueueInUse { .. }))
/// }
/// # assert!(!is_taken(&bypass_core::Error::config("x", 1, "y")));
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum XdpError {
    /// The kernel has no AF_XDP.
    #[error(
        "this kernel has no AF_XDP sockets; they need Linux 5.4 or later, built with \
         CONFIG_XDP_SOCKETS"
    )]
    NoAfXdp,
    /// The kernel is too old for what was asked.
    #[error("cannot {attempt}: {source}; it needs Linux {since} or later")]
    OldKernel {
        /// What was attempted.
        attempt: String,
        /// The first version that can do it.
        since: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The interface has no such queue.
    #[error(
        "{interface} has no queue {queue}: it has {queues}, counted from 0; `ethtool -L {interface}` \
         changes that"
    )]
    NoSuchQueue {
        /// The interface.
        interface: String,
        /// The queue that was asked for.
        queue: u32,
        /// How many it has.
        queues: u32,
    },
    /// Another AF_XDP socket is bound to the queue.
    #[error("queue {queue} of {interface} is in use {}; close that socket or take another queue", By(.holder))]
    QueueInUse {
        /// The interface.
        interface: String,
        /// The queue.
        queue: u32,
        /// Who has it, where that can be known.
        holder: Option<Holder>,
    },
    /// The driver cannot do what was required.
    #[error(
        "{interface} cannot do {mode} on queue {queue}: {source}; prefer it, and copy mode is taken where it is not to be had"
    )]
    ModeRefused {
        /// The interface.
        interface: String,
        /// The queue.
        queue: u32,
        /// What was required.
        mode: CopyMode,
        /// The driver's answer.
        source: io::Error,
    },
    /// Frames do not fit a chunk.
    #[error(
        "a frame of {interface} has up to {frame} bytes (MTU {mtu}), a chunk has room for {room}: lower the MTU, take chunks of 4096 bytes, or set `multi_buffer`"
    )]
    MtuTooLarge {
        /// The interface.
        interface: String,
        /// Its MTU.
        mtu: usize,
        /// Bytes of its longest frame, with a VLAN tag.
        frame: usize,
        /// Bytes that fit a chunk.
        room: usize,
    },
    /// The limit of locked memory is too low.
    #[error(
        "cannot register {bytes} bytes of packet memory: the limit of locked memory is reached; raise it (`ulimit -l`, LimitMEMLOCK= of systemd), or give the program CAP_IPC_LOCK"
    )]
    LockedMemory {
        /// Bytes of memory.
        bytes: usize,
    },
}

impl From<XdpError> for bypass_core::Error {
    fn from(error: XdpError) -> Self {
        Self::backend("AF_XDP", error)
    }
}

struct By<'a>(&'a Option<Holder>);

impl fmt::Display for By<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(holder) => write!(f, "by {holder}"),
            None => f.write_str("by a process that cannot be seen from here"),
        }
    }
}
