//! The two queues.
//!
//! Relies on the `io-uring` crate for mapping and memory order. What is added: counting positions,
//! so that it is known which entries the kernel has consumed, and one `enter` that is right for
//! every kind of ring.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use io_uring::{EnterFlags, IoUring, Submitter, squeue};

use super::control::{Control, Wait, WaitRegion};
use super::fork::{ForkSentinel, NotInChild};
use super::setup::{self, NotResized};
use crate::ring::Cqe;

/// A ring with its counted positions.
pub(crate) struct Uring {
    ring: NotInChild<IoUring>,
    fork: Arc<ForkSentinel>,
    /// Entries pushed since the ring was made, wrapping: the submission queue's tail.
    pushed: u32,
    control: Control,
}

/// Why `enter` came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entered {
    /// What was asked for has been done, as far as the kernel could.
    Done,
    /// A signal came.
    Interrupted,
    /// The kernel submits nothing more until completions have been taken or memory is there.
    Busy,
}

impl Uring {
    /// `ring` must have been built with `dontfork` and must be unused.
    pub(crate) fn new(ring: IoUring) -> io::Result<Self> {
        let fork = Arc::new(ForkSentinel::new()?);
        let control = Control::default();
        let ring = NotInChild::new(ring, Arc::clone(&fork));
        Ok(Self { ring, fork, pushed: 0, control })
    }

    /// Tells whether this process is a child of the one that made the ring. A child must not use
    /// the ring at all: its queues are not mapped there.
    pub(crate) fn fork_sentinel(&self) -> Arc<ForkSentinel> {
        Arc::clone(&self.fork)
    }

    /// Queues an entry; the kernel sees it at the next [`enter`](Self::enter), or at once under
    /// SQPOLL. False, with nothing done, when the queue is full.
    ///
    /// # Safety
    ///
    /// Everything that the entry points to stays valid, at its address, and is not written to (for
    /// what the kernel reads) or not touched at all (for what it writes) until the terminal
    /// completion of the entry has been taken, or the entry is one that ends inside the submission
    /// and the kernel has consumed it.
    pub(crate) unsafe fn push(&mut self, entry: &squeue::Entry) -> bool {
        // SAFETY: passed on to the caller.
        let pushed = unsafe { self.ring.submission().push(entry) }.is_ok();
        self.pushed = self.pushed.wrapping_add(u32::from(pushed));
        pushed
    }

    /// Queues entries next to each other and publishes them at once, so that even a polling kernel
    /// thread sees all or none. False, with nothing done, when not all fit.
    ///
    /// # Safety
    ///
    /// As [`push`](Self::push), for each of them.
    pub(crate) unsafe fn push_all(&mut self, entries: &[squeue::Entry]) -> bool {
        // One guard for all: it stores the queue's tail when it is dropped.
        let mut queue = self.ring.submission();
        // SAFETY: passed on to the caller.
        let pushed = unsafe { queue.push_multiple(entries) }.is_ok();
        drop(queue);
        self.pushed = self.pushed.wrapping_add(if pushed { entries.len() as u32 } else { 0 });
        pushed
    }

    /// Entries that the submission queue has room for when it is empty.
    pub(crate) fn capacity(&self) -> usize {
        self.ring.params().sq_entries() as usize
    }

    /// Free places in the submission queue.
    pub(crate) fn space(&mut self) -> usize {
        let queue = self.ring.submission();
        queue.capacity() - queue.len()
    }

    /// Entries that the kernel has not consumed yet.
    pub(crate) fn unsubmitted(&mut self) -> usize {
        self.ring.submission().len()
    }

    /// The position that the next entry gets.
    pub(crate) fn position(&self) -> u32 {
        self.pushed
    }

    /// The position of the next entry that the kernel will consume.
    pub(crate) fn head(&mut self) -> u32 {
        self.pushed.wrapping_sub(self.unsubmitted() as u32)
    }

    /// Whether the kernel has consumed the entry at `position`.
    pub(crate) fn consumed(&mut self, position: u32) -> bool {
        passed(self.head(), position)
    }

    /// The next completion.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<(u64, Cqe)> {
        let cqe = self.ring.completion().next()?;
        Some((cqe.user_data(), Cqe { result: cqe.result(), flags: cqe.flags() }))
    }

    /// Completions that can be popped now.
    pub(crate) fn completions(&mut self) -> usize {
        self.ring.completion().len()
    }

    /// Whether the kernel has work that it does only inside `enter`: deferred completions, or
    /// completions that did not fit the queue.
    #[inline]
    pub(crate) fn kernel_has_work(&mut self) -> bool {
        let queue = self.ring.submission();
        queue.taskrun() || queue.cq_overflow()
    }

    /// Whether completions wait inside the kernel because the queue was full.
    pub(crate) fn overflown(&mut self) -> bool {
        self.ring.submission().cq_overflow()
    }

    /// Whether the polling thread sleeps (SQPOLL).
    pub(crate) fn poller_sleeps(&mut self) -> bool {
        self.ring.submission().need_wakeup()
    }

    /// Submits what is queued, lets the kernel finish what it has deferred, and waits for `want`
    /// completions for at most `timeout`; after `min`, unless that is zero, any one ends the wait.
    pub(crate) fn enter_batch(
        &mut self,
        want: usize,
        timeout: Option<Duration>,
        min: Duration,
    ) -> io::Result<Entered> {
        let parameters = self.ring.params();
        let (sqpoll, iopoll) = (parameters.is_setup_sqpoll(), parameters.is_setup_iopoll());
        let queue = self.ring.submission();
        let waiting = queue.len() as u32;
        let deferred = queue.cq_overflow() || queue.taskrun();
        let mut flags = EnterFlags::empty();
        if want > 0 || iopoll || deferred {
            flags |= EnterFlags::GETEVENTS;
        }
        if sqpoll {
            // Has a full fence before it looks.
            if queue.need_wakeup() {
                flags |= EnterFlags::SQ_WAKEUP;
            } else if want == 0 && !deferred {
                return Ok(Entered::Done);
            }
        }
        drop(queue);
        let wait = Wait { want: want as u32, timeout: timeout.filter(|_| want > 0), min };
        if iopoll && !sqpoll && wait.timeout.is_some() {
            return self.poll_device(waiting, wait, flags);
        }
        self.control.enter(self.ring.as_raw_fd(), waiting, wait, flags.bits())
    }

    /// The kernel polls a device until there are completions, whatever the time: so it is asked to look
    /// once, again and again.
    fn poll_device(&mut self, waiting: u32, wait: Wait, flags: EnterFlags) -> io::Result<Entered> {
        let deadline = wait.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let look = Wait { want: 0, timeout: None, min: Duration::ZERO };
        let mut waiting = waiting;
        loop {
            let entered = self.control.enter(self.ring.as_raw_fd(), waiting, look, flags.bits())?;
            let over = deadline.is_some_and(|deadline| Instant::now() >= deadline);
            // What has not been consumed is looked at before it is submitted again (`chain.rs`).
            let over = over || self.unsubmitted() > 0;
            if entered != Entered::Done || over || self.completions() >= wait.want as usize {
                return Ok(entered);
            }
            waiting = 0;
            std::thread::yield_now();
        }
    }

    /// Has `enter` find the ring without a look into the table of descriptors.
    pub(crate) fn register_fd(&mut self) -> io::Result<()> {
        let ring = self.ring.as_raw_fd();
        self.control.register_ring(ring)
    }

    /// Has `enter` read times from this memory, which the ring has been told of.
    pub(crate) fn set_wait_region(&mut self, region: WaitRegion) {
        self.control.region = Some(NotInChild::new(region, self.fork_sentinel()));
    }

    /// Gives the queues other sizes. They must be empty, or what is in them must fit. Fatal when it fails
    /// after the kernel has changed them: then they cannot be used any more.
    pub(crate) fn resize(&mut self, entries: u32, completions: u32) -> Result<(), NotResized> {
        let fd = self.fd().try_clone_to_owned().map_err(NotResized::Unchanged)?;
        let ring = setup::resize(self.ring.params(), fd, entries, completions)?;
        // The old queues are unmapped, and their descriptor closed.
        self.ring = NotInChild::new(ring, self.fork_sentinel());
        Ok(())
    }

    pub(crate) fn submitter(&self) -> Submitter<'_> {
        self.ring.submitter()
    }

    pub(crate) fn parameters(&self) -> &io_uring::Parameters {
        self.ring.params()
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is the ring's own, open as long as `self` lives.
        unsafe { BorrowedFd::borrow_raw(self.ring.as_raw_fd()) }
    }
}

impl Drop for Uring {
    fn drop(&mut self) {
        if !self.fork.in_child() {
            // The registration would keep the ring open.
            self.control.unregister_ring(self.ring.as_raw_fd());
        }
    }
}

/// Whether `head` has moved past `position`, both wrapping counters less than 2³¹ apart.
fn passed(head: u32, position: u32) -> bool {
    head.wrapping_sub(position).wrapping_sub(1) < u32::MAX / 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_compare_across_the_wrap() {
        assert!(!passed(5, 5));
        assert!(passed(6, 5));
        assert!(!passed(4, 5));
        assert!(passed(2, u32::MAX - 1));
        assert!(passed(0, u32::MAX));
        assert!(!passed(u32::MAX, 0));
        assert!(!passed(u32::MAX, u32::MAX));
    }
}
