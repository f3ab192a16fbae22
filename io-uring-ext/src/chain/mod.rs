//! Operations that the kernel starts one after the other, with one submission and no round trip between
//! them.
//!
//! ```
//! use io_uring_ext::chain::Chain;
//! use io_uring_ext::op::{Read, Send};
//! use io_uring_ext::{Fd, Ring};
//! use std::os::unix::net::UnixStream;
//! use std::time::Duration;
//!
//! let ring = Ring::local()?;
//! let (a, b) = UnixStream::pair()?;
//! let (a, b) = (Fd::new(a), Fd::new(b));
//!
//! // Asks, and then waits for the answer, but not for ever.
//! let chain = Chain::new(Send::new(&a, b"question".to_vec()))
//!     .then(Read::new(&a, vec![0; 64], 0))
//!     .within(Duration::from_secs(5));
//! let asked = ring.push_chain(chain)?;
//!
//! let question = ring.push(Read::new(&b, vec![0; 64], 0))?.wait(None)?;
//! assert_eq!(question.buf, b"question");
//! ring.push(Send::new(&b, b"answer".to_vec()))?.wait(None)?.result?;
//!
//! let done = asked.wait(None)?;
//! let (_sent, answer) = done.results;
//! assert_eq!(answer.buf, b"answer");
//! assert!(done.summary.is_whole());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Links
//!
//! - [`then`](Chain::then), a soft link (`IOSQE_IO_LINK`, Linux 5.3): the next member runs if the one
//!   before succeeded; otherwise it and all behind it are cancelled. Success is strict: a read or write of
//!   fewer bytes than asked for breaks the chain too, and so do a timeout that expires (unless
//!   [told otherwise](crate::op::Timeout::expiry_is_success)) and a `recv` or `send` with `MSG_WAITALL`
//!   that falls short. Without that flag they do not.
//! - [`then_always`](Chain::then_always), a hard link (`IOSQE_IO_HARDLINK`, Linux 5.5): the next member
//!   runs whatever became of the one before. An entry that the kernel does not even accept (a bad
//!   argument, an opcode that it does not have) still cancels the whole chain, members before it
//!   included: it is found before the first one is started (`io_submit_fail_init` in
//!   `io_uring/io_uring.c`).
//! - [`within`](Chain::within), a time limit for one member (`IORING_OP_LINK_TIMEOUT`, Linux 5.5): past it
//!   the member is cancelled, which breaks a soft link behind it.
//!
//! # All or nothing
//!
//! A chain goes into the submission queue as a whole, next to each other, and is published at once; where
//! there is no room for all of it, it comes back. It takes one entry and one place for each member and one
//! for each time limit. What may happen when the kernel runs out of memory while it takes the chain in is
//! told by [`Why::Cut`].
//!
//! # What can be a member
//!
//! Every [`Operation`], of which multishots are none: they have no end that another member could wait
//! for. Zero-copy sends can: the next member starts when the data is sent, not when the buffer is free
//! again, and the chain is done when both are. Members always post a completion, because
//! `IOSQE_CQE_SKIP_SUCCESS` would leave those of a broken chain in doubt, so datagrams go into a chain as
//! [`SendMsg`](crate::op::SendMsg).
//!
//! Rings that poll their device ([`IORING_SETUP_IOPOLL`]) take reads and writes only, so no time limits
//! there: the kernel answers `EINVAL` and cancels the chain.
//!
//! [`IORING_SETUP_IOPOLL`]: https://man7.org/linux/man-pages/man2/io_uring_setup.2.html

pub(crate) mod parts;
mod pending;
mod summary;

pub use parts::{Each, One, Parts};
pub use pending::{ChainWaitError, PendingChain};
pub use summary::{Broken, Summary, Why};

use crate::error::{NotStarted, Result};
use crate::mode::{Mode, OwnedBy};
use crate::op::{Operation, When};
use crate::ring::Ring;
use parts::{Grow, Last, Link};

/// Operations to be started one after the other. `P` is a tuple with one element for each call that made
/// it: [`One`] operation or [`Each`] of many.
#[derive(Debug)]
#[must_use = "a chain does nothing until it is pushed to a ring"]
pub struct Chain<P> {
    pub(crate) parts: P,
}

impl<T: Operation> Chain<(One<T>,)> {
    /// A chain that begins with this operation.
    pub fn new(operation: T) -> Self {
        Self { parts: (One::new(operation, Link::Soft),) }
    }
}

impl<T: Operation> Chain<(Each<T>,)> {
    /// A chain that begins with these operations, each behind a soft link to the one before.
    ///
    /// ```
    /// use io_uring_ext::chain::Chain;
    /// use io_uring_ext::op::Nop;
    /// use io_uring_ext::Ring;
    ///
    /// let ring = Ring::local()?;
    /// let chain = Chain::each((0..5).map(|_| Nop::new())).then(Nop::new());
    /// let (five, one) = ring.push_chain(chain)?.wait(None)?.results;
    /// assert_eq!(five.len(), 5);
    /// one?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn each(operations: impl IntoIterator<Item = T>) -> Self {
        Self { parts: (Each::new(operations.into_iter().collect(), Link::Soft),) }
    }
}

impl<P> Chain<P> {
    /// Then this, if what was before succeeded. A chain has up to eight parts.
    pub fn then<T: Operation>(self, operation: T) -> Chain<P::Grown>
    where
        P: Grow<One<T>>,
    {
        Chain { parts: self.parts.grow(One::new(operation, Link::Soft)) }
    }

    /// Then this, whatever became of what was before.
    pub fn then_always<T: Operation>(self, operation: T) -> Chain<P::Grown>
    where
        P: Grow<One<T>>,
    {
        Chain { parts: self.parts.grow(One::new(operation, Link::Hard)) }
    }

    /// Then these, one after the other, each if what was before succeeded. They count as one part; none
    /// at all is allowed.
    pub fn then_each<T: Operation>(self, operations: impl IntoIterator<Item = T>) -> Chain<P::Grown>
    where
        P: Grow<Each<T>>,
    {
        Chain { parts: self.parts.grow(Each::new(operations.into_iter().collect(), Link::Soft)) }
    }

    /// Limits the time of the last part, counted from when the kernel starts it; of [`Each`], every
    /// member has this time for itself.
    pub fn within(mut self, limit: impl Into<When>) -> Self
    where
        P: Last,
    {
        self.parts.limit(limit.into());
        self
    }

    /// The operations, for instance of a chain that was not started.
    pub fn into_operations(self) -> P::Operations
    where
        P: Parts,
    {
        self.parts.into_operations()
    }
}

/// The results of a chain.
#[derive(Debug)]
#[non_exhaustive]
#[must_use = "the results may be errors"]
pub struct ChainDone<O> {
    /// What each part gave, in order: an operation's output, or a `Vec` of them for [`Each`].
    pub results: O,
    /// Whether the chain broke, where and why.
    pub summary: Summary,
}

/// A chain that has been started, or is given back because it could not be.
pub type StartedChain<P, M> = Result<PendingChain<P, M>, NotStarted<Chain<P>>>;

impl<M: Mode> Ring<M> {
    /// Moves a chain into the ring and queues all of it, as [`push`](Self::push) does with one operation.
    ///
    /// # Errors
    ///
    /// Gives the chain back whole: when there are not enough places or entries for all of it
    /// ([`TooMany`](crate::StartError::TooMany), [`QueueFull`](crate::StartError::QueueFull)), when there
    /// never will be ([`ChainLength`](crate::Error::ChainLength)), or when the ring does not work.
    pub fn push_chain<P: Parts + OwnedBy<M>>(&self, chain: Chain<P>) -> StartedChain<P, M> {
        PendingChain::start(&self.inner, chain)
    }
}
