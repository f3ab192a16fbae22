//! [`Summary`]: whether a chain broke, where and why.

use std::io;

use super::parts::Link;
use crate::ring::Cqe;
use crate::ring::state::chain::MemberEnd;

/// Whether a chain broke, where and why.
///
/// Members are counted from zero, [`Each`](super::Each) with all its operations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    members: usize,
    broken: Option<Broken>,
    cancelled: Vec<usize>,
}

/// The first member of a chain that did not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken {
    /// Which one.
    pub member: usize,
    /// What was wrong with it.
    pub why: Why,
}

/// What was wrong with a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Why {
    /// It failed with this `errno`.
    Failed(i32),
    /// It succeeded, with less than was asked for. That breaks a soft link.
    Short,
    /// Its [time limit](super::Chain::within) was over.
    TimedOut,
    /// Somebody cancelled it: through the chain's handle, with everything, by its descriptor; or, on a
    /// [`Shared`](crate::Shared) ring, the thread that had submitted it has exited.
    Cancelled,
    /// The kernel ran out of memory while it took the chain in, and started the members before this one
    /// only. This and all behind it did not run, and those before may have, as if the chain had ended
    /// there. On a ring with SQPOLL this is not noticed: there the rest runs without its links.
    Cut,
}

impl Summary {
    /// Whether every member succeeded.
    pub fn is_whole(&self) -> bool {
        self.broken.is_none()
    }

    /// The first member that did not succeed.
    pub fn broken(&self) -> Option<Broken> {
        self.broken
    }

    /// The members that were cancelled because of it or together with it, in order.
    pub fn cancelled(&self) -> &[usize] {
        &self.cancelled
    }

    /// Members of the chain.
    pub fn members(&self) -> usize {
        self.members
    }

    /// The first failure as an error.
    ///
    /// # Errors
    ///
    /// When a member failed, with its `errno`; `TimedOut`, `UnexpectedEof` (short) or `ECANCELED`
    /// otherwise.
    pub fn to_result(&self) -> io::Result<()> {
        match self.broken.map(|broken| broken.why) {
            None => Ok(()),
            Some(Why::Failed(errno)) => Err(io::Error::from_raw_os_error(errno)),
            Some(Why::TimedOut) => Err(io::ErrorKind::TimedOut.into()),
            Some(Why::Short) => Err(io::ErrorKind::UnexpectedEof.into()),
            Some(Why::Cancelled | Why::Cut) => Err(io::Error::from_raw_os_error(libc::ECANCELED)),
        }
    }
}

/// Collects what is said of the members, in order, and judges it.
#[derive(Debug, Default)]
pub(super) struct Tally {
    members: usize,
    /// The first member with an error that is its own.
    failed: Option<Broken>,
    /// The first member that was cancelled.
    stopped: Option<Broken>,
    cancelled: Vec<usize>,
    /// The member before succeeded.
    good: bool,
}

impl Tally {
    pub(super) fn member(
        &mut self,
        end: MemberEnd,
        result: Option<Cqe>,
        limit: Option<Cqe>,
        link: Link,
    ) {
        let member = self.members;
        let before_was_good = std::mem::replace(&mut self.good, false);
        self.members += 1;
        let result = result.map_or(0, |cqe| cqe.result);
        // A member that blocks in a worker is interrupted rather than cancelled.
        let stopped = result == -libc::ECANCELED || result == -libc::EINTR;
        // The time limit says that it has expired only if it has found its member, or come too early
        // for it to be found; the member says whether it was stopped.
        let timed_out = stopped && limit.is_some_and(|limit| limit.result == -libc::ETIME);
        if result >= 0 {
            self.good = true;
        } else if timed_out || end.cut || stopped {
            let why = if end.cut {
                Why::Cut
            } else if timed_out {
                Why::TimedOut
            } else if before_was_good && link == Link::Soft && !end.cancel_asked {
                // Nobody but the member before can have stopped it, and that one succeeded.
                Why::Short
            } else {
                Why::Cancelled
            };
            let culprit = if why == Why::Short { member - 1 } else { member };
            self.stopped.get_or_insert(Broken { member: culprit, why });
            if !timed_out {
                self.cancelled.push(member);
            }
        } else {
            self.failed.get_or_insert(Broken { member, why: Why::Failed(-result) });
        }
    }

    /// An error of a member's own comes first: when the kernel does not accept a member, those before it
    /// are cancelled too.
    pub(super) fn summary(self) -> Summary {
        let Self { members, failed, stopped, cancelled, .. } = self;
        let broken = match (failed, stopped) {
            (Some(failed), Some(stopped)) if stopped.why != Why::Cancelled => {
                Some(if stopped.member < failed.member { stopped } else { failed })
            }
            (Some(failed), _) => Some(failed),
            (None, stopped) => stopped,
        };
        Summary { members, broken, cancelled }
    }
}
