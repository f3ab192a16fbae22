//! [`Cancel`]: ending many operations early.

use std::io;

use io_uring::types::CancelBuilder;
use io_uring::{opcode, squeue};

use super::sealed::Prepare;
use super::{Completions, Operation, Target};
use crate::ring::RingId;

/// Asks the kernel to end operations early, and says how many it found (`IORING_OP_ASYNC_CANCEL`, many at
/// once Linux 5.19). Each of them ends with its own completion.
///
/// It reaches what the kernel has begun: not what is queued behind it, and not the members of a
/// [chain](crate::chain) whose turn has not come. [`Pending::cancel`](crate::Pending::cancel),
/// [`PendingChain::cancel`](crate::chain::PendingChain::cancel) and
/// [`Ring::cancel_all`](crate::Ring::cancel_all) see to those too.
#[derive(Debug)]
pub struct Cancel {
    /// `None`: whatever it works on.
    target: Option<Target>,
}

impl Cancel {
    /// Everything that works on this descriptor or fixed file.
    pub fn target(target: impl Into<Target>) -> Self {
        Self { target: Some(target.into()) }
    }

    /// Everything.
    pub fn any() -> Self {
        Self { target: None }
    }
}

// SAFETY: the entry points to nothing; the operation owns the descriptor.
unsafe impl Prepare for Cancel {
    fn target(&self) -> Option<&Target> {
        self.target.as_ref()
    }

    fn entry(&mut self, _ring: RingId) -> squeue::Entry {
        let builder = match &self.target {
            // Whether the number is that of a fixed file is told by the entry's flag.
            Some(target) => CancelBuilder::fd(target.number()).all(),
            None => CancelBuilder::any().all(),
        };
        opcode::AsyncCancel2::new(builder).build()
    }
}

impl Operation for Cancel {
    /// How many operations were found, of which some may be too far to be stopped.
    type Output = io::Result<usize>;

    fn complete(self, completions: Completions) -> io::Result<usize> {
        completions.result_or(0)
    }
}
