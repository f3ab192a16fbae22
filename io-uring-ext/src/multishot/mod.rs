//! Operations that complete again and again: one submission, many results.
//!
//! The kernel ends such an operation when it sees a reason to; each [`EndReason`] says whether
//! anything was lost (nothing ever is) and whether the operation is armed again. All of them take
//! their results with `try_next`, `wait` or, as streams, `next`, cancel when they are dropped, and allocate nothing per
//! result.
//!
//! Here are those that need no buffers: [`Incoming`] connections, a [`Poller`] and a [`Ticker`].
//! Those that receive into provided buffers are in [`buf_ring`](crate::buf_ring).

mod engine;
mod incoming;
mod methods;
mod poller;
mod ticker;

pub(crate) use engine::{Engine, Source};
pub use incoming::{Incoming, IncomingCounters, IncomingFixed, Tally};
pub(crate) use methods::{common_methods, item_methods};
pub use poller::{PollEvents, Poller, PollerCounters};
pub use ticker::{Ticker, TickerCounters};

/// Why a multishot operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndReason {
    /// The buffer ring was empty (`ENOBUFS`). Nothing is lost: data waits in the socket. Re-armed once
    /// the ring holds the low-water mark again; arming at once would fail at once.
    NoBuffers,
    /// A result came, without the `MORE` flag: the completion queue was full. Nothing is lost.
    /// Re-armed with the next call; the queue should be larger.
    Overflow,
    /// An empty datagram came, which the kernel takes for an end. Re-armed with the next call.
    EmptyMessage,
    /// It was cancelled, by itself or with everything on the ring. Stays ended.
    Cancelled,
    /// The kernel cancelled it unasked: the thread that had armed it has exited (see
    /// [`Shared`](crate::Shared)). Nothing is lost. Re-armed with the next call, by the thread that
    /// makes it.
    Orphaned,
    /// The peer has closed the stream. Stays ended.
    EndOfStream,
    /// It has done all that it was asked to do. Stays ended.
    Finished,
    /// There was an error of this number, which the call that found it returns. Re-armed with the
    /// next call, because most such errors are about one datagram or one connection.
    Error(i32),
}

impl EndReason {
    /// Whether the operation stays ended until [`rearm`](Incoming::rearm) is called.
    pub(crate) fn is_final(self) -> bool {
        matches!(self, Self::Cancelled | Self::EndOfStream | Self::Finished)
    }
}
