//! [`WaitId`].

use std::fmt;
use std::io;
use std::os::fd::{AsFd, AsRawFd};

use io_uring::{opcode, squeue};

use super::sealed::Prepare;
use super::{Completions, Fd, Operation, Target};
use crate::ring::RingId;

/// Waits for a child process to end and reaps it, as `waitid(2)` with `WEXITED` (Linux 6.7).
///
/// ```
/// use io_uring_ext::Ring;
/// use io_uring_ext::op::{ChildEnd, WaitId};
///
/// let ring = Ring::local()?;
/// let child = std::process::Command::new("false").spawn()?;
/// let exit = ring.push(WaitId::process(child.id()))?.wait(None)??;
/// assert_eq!((exit.process, exit.end), (child.id(), ChildEnd::Exited(1)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// A child that is reaped here is not there any more for `std::process::Child::wait`;
/// [`leave`](Self::leave) lets it be waited for again. `ECHILD` when there is no such child.
pub struct WaitId {
    kind: libc::idtype_t,
    id: u32,
    options: i32,
    /// Keeps the number of a process descriptor.
    _pidfd: Option<Fd>,
    info: libc::siginfo_t,
}

// SAFETY: `siginfo_t` has pointers for signals of other kinds; nobody follows any.
unsafe impl Send for WaitId {}

impl WaitId {
    fn new(kind: libc::idtype_t, id: u32) -> Self {
        // SAFETY: it is integers and pointers throughout, for which zero is a value.
        let info = unsafe { std::mem::zeroed() };
        Self { kind, id, options: libc::WEXITED, _pidfd: None, info }
    }

    /// The child with this number.
    pub fn process(id: u32) -> Self {
        Self::new(libc::P_PID, id)
    }

    /// The child of this process descriptor (`pidfd_open(2)`), whose number cannot be used again
    /// meanwhile.
    pub fn pidfd(fd: &Fd) -> Self {
        // Descriptors are numbers of 31 bits.
        let id = fd.as_fd().as_raw_fd() as u32;
        Self { _pidfd: Some(fd.clone()), ..Self::new(libc::P_PIDFD, id) }
    }

    /// Any child of this process.
    pub fn any() -> Self {
        Self::new(libc::P_ALL, 0)
    }

    /// Leaves the child as it is, to be waited for again (`WNOWAIT`).
    #[must_use]
    pub fn leave(mut self) -> Self {
        self.options |= libc::WNOWAIT;
        self
    }
}

/// A child that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChildExit {
    /// Its number, free for another process now unless it was [left](WaitId::leave).
    pub process: u32,
    /// The user whom it ran as.
    pub user: u32,
    /// How it ended.
    pub end: ChildEnd,
}

/// How a child has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChildEnd {
    /// By itself, with this code.
    Exited(i32),
    /// By this signal.
    Killed(i32),
    /// By this signal, with a memory image written.
    Dumped(i32),
}

// SAFETY: the kernel writes to `info` inside the operation, which does not move after this; the
// operation owns the process descriptor, if there is one.
unsafe impl Prepare for WaitId {
    fn target(&self) -> Option<&Target> {
        None
    }

    fn entry(&mut self, _ring: RingId) -> squeue::Entry {
        let info = (&raw mut self.info).cast_const();
        opcode::WaitId::new(self.kind, self.id, self.options).infop(info).build()
    }
}

impl Operation for WaitId {
    type Output = io::Result<ChildExit>;

    fn complete(self, completions: Completions) -> io::Result<ChildExit> {
        completions.result()?;
        // SAFETY: after success the kernel has filled in what `waitid(2)` promises, of which this is one.
        let process = unsafe { self.info.si_pid() };
        // SAFETY: as above.
        let user = unsafe { self.info.si_uid() };
        // SAFETY: as above.
        let status = unsafe { self.info.si_status() };
        let end = match self.info.si_code {
            libc::CLD_EXITED => ChildEnd::Exited(status),
            libc::CLD_DUMPED => ChildEnd::Dumped(status),
            _ => ChildEnd::Killed(status),
        };
        // Process numbers are positive.
        Ok(ChildExit { process: process as u32, user, end })
    }
}

impl fmt::Debug for WaitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitId")
            .field("kind", &self.kind)
            .field("id", &self.id)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
