//! [`Nop`] and [`Timeout`].

use std::io;
use std::time::Duration;

use io_uring::types::Timespec;
use io_uring::{opcode, squeue};

use super::sealed::Prepare;
use super::{Completions, Operation, Target};
use crate::ring::RingId;

/// Does nothing, and completes (Linux 5.1). For waking a ring and for measuring it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Nop(());

impl Nop {
    /// Nothing.
    pub fn new() -> Self {
        Self(())
    }
}

// SAFETY: the entry points to nothing.
unsafe impl Prepare for Nop {
    fn target(&self) -> Option<&Target> {
        None
    }

    fn entry(&mut self, _ring: RingId) -> squeue::Entry {
        opcode::Nop::new().build()
    }
}

impl Operation for Nop {
    type Output = io::Result<()>;

    fn complete(self, completions: Completions) -> io::Result<()> {
        completions.result_or(0).map(drop)
    }
}

/// Completes when a time has passed (`IORING_OP_TIMEOUT`, Linux 5.4).
#[derive(Clone, Copy, Debug)]
pub struct Timeout(Timespec);

impl Timeout {
    /// `duration` from the moment of submission, on the monotonic clock.
    pub fn after(duration: Duration) -> Self {
        Self(duration.into())
    }
}

/// How a [`Timeout`] ended.
#[derive(Debug)]
pub enum TimeoutEnd {
    /// The time has passed.
    Expired,
    /// It was cancelled before.
    Cancelled,
    /// The kernel did not accept it.
    Failed(io::Error),
}

// SAFETY: the time is part of the operation, which does not move after this.
unsafe impl Prepare for Timeout {
    fn target(&self) -> Option<&Target> {
        None
    }

    fn entry(&mut self, _ring: RingId) -> squeue::Entry {
        opcode::Timeout::new(&raw const self.0).build()
    }
}

impl Operation for Timeout {
    type Output = TimeoutEnd;

    fn complete(self, completions: Completions) -> TimeoutEnd {
        match completions.result_or(0) {
            Ok(_) => TimeoutEnd::Expired,
            Err(error) => match error.raw_os_error() {
                Some(libc::ETIME) => TimeoutEnd::Expired,
                Some(libc::ECANCELED) => TimeoutEnd::Cancelled,
                _ => TimeoutEnd::Failed(error),
            },
        }
    }
}
