//! The backends of the bypass-io family on io_uring: [`UringSocket`] moves UDP datagrams,
//! [`UringPort`] whole Ethernet frames.
//!
//! Both receive with one multishot `recvmsg` into chunks of the family's packet pool: what arrives is
//! handed out in the buffer that the kernel wrote it to, and while packets keep coming no system call
//! is made to ask for them. The header that the kernel writes in front of each becomes headroom.
//!
//! Sending keeps the contract that what is refused stays in its place. A burst that is one message (a
//! train of datagrams, a single frame) is an entry of the ring, which goes with the call that also
//! fetches what has arrived. A burst of several messages goes with `sendmmsg(2)`, which stops at the
//! first that the kernel refuses; separate entries would send what lies behind it.

#[expect(unsafe_code, reason = "promises that pool chunks are stable and owned")]
mod pool;
mod port;
mod rx;
mod socket;
mod tx;

use bypass_core::Error as CoreError;

pub use port::{UringFrame, UringPacket, UringPort};
pub use socket::{UringDatagram, UringSocket, UringUdp};

use crate::ring::{RingBuilder, SqPoll};
use crate::{Error, Local, Ring};

/// How the ring of an endpoint is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UringOptions {
    /// Buffers that the kernel holds to receive into: a power of two, fewer than the pool's chunks, of which
    /// the application has the others. `None`: as many as a quarter of the chunks, up to 1024.
    pub rx_buffers: Option<u16>,
    /// Lets a kernel thread take the entries, so that sending and receiving make no system call while
    /// it is awake. It costs a core.
    pub sqpoll: Option<SqPoll>,
}

impl Default for UringOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl UringOptions {
    /// As many buffers as the pool can spare, no kernel thread.
    #[must_use]
    pub const fn new() -> Self {
        Self { rx_buffers: None, sqpoll: None }
    }

    /// How many buffers the kernel gets of a pool of `chunks`.
    fn entries(&self, chunks: u32) -> bypass_core::Result<u16> {
        let most = 1 << (chunks / 4).clamp(1, 1024).ilog2();
        match self.rx_buffers {
            None => Ok(most),
            Some(n) if n.is_power_of_two() && u32::from(n) < chunks => Ok(n),
            Some(n) => Err(CoreError::config(
                "rx_buffers",
                n,
                format!("take a power of two below the {chunks} chunks of the pool"),
            )),
        }
    }

    /// A ring that holds a completion for every buffer and every send.
    fn ring(&self, rx_buffers: u16) -> bypass_core::Result<Ring<Local>> {
        let operations = u32::from(rx_buffers) + tx::MOST_IN_FLIGHT as u32 + 8;
        let mut builder = RingBuilder::new()
            .entries(64)
            .completions(operations.next_power_of_two())
            .operations(tx::MOST_IN_FLIGHT as u32 + 8);
        if let Some(sqpoll) = self.sqpoll {
            builder = builder.sqpoll(sqpoll);
        }
        builder.build_local().map_err(core_error)
    }
}

/// An error of the ring as the family tells it.
fn core_error(error: Error) -> CoreError {
    match error {
        Error::Os { what, source } => CoreError::os(what, source),
        Error::Config { what, value, why } => CoreError::config(what, value, why),
        error => CoreError::backend("uring", error),
    }
}
