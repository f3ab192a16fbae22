//! Operations that the kernel starts one after the other.
//!
//! # When the kernel takes a part of a chain
//!
//! `io_submit_sqes` (`io_uring/io_uring.c`) makes a chain of what it consumes in one go, up to the
//! first entry without a link flag. It stops early only when it cannot allocate a request:
//! `IORING_SETUP_SUBMIT_ALL`, which all our rings have, makes it go on after an entry that is invalid.
//! Then `io_submit_state_end` starts the part that it has, and the rest, still in the queue, would
//! begin a chain of its own at the next submission: an `fdatasync` that does not wait for its write.
//! So after each submission the queue's head is compared with where chains lie. What is left of one
//! that was cut is turned into nops in place and reported as cancelled; a member whose time limit was
//! cut off is cancelled too. This needs no memory at that moment: the entries are mapped with the first
//! chain.
//!
//! A polling kernel thread (SQPOLL) goes on by itself before anybody could look, so there the cut
//! stays what the kernel makes of it. It sees either the whole chain or nothing in all other cases: a
//! thread that serves one ring takes all that is there, and the tail moves once per chain.

use std::time::Duration;

use io_uring::{opcode, squeue};

use super::State;
use crate::chain::parts::{Parts, Sequence};
use crate::error::{Error, StartError};
use crate::ring::Cqe;
use crate::ring::key::{self, Key, Kind};
use crate::sys::fork::NotInChild;
use crate::sys::queued_entries::Entries;

/// A member's neighbours.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Linked {
    /// The member that the kernel starts when this one has ended.
    next: Option<Key>,
    /// For a time limit: the member that it limits.
    limits: Option<Key>,
    /// The member before it has not ended.
    waits: bool,
    /// Cancels that did not find it.
    missed: u8,
    /// A completion of it has come. At most the notification of a zero-copy send is left, which no
    /// cancel hastens.
    answered: bool,
}

impl Linked {
    /// A completion has come: the next member, with the first one.
    pub(super) fn answered(&mut self) -> Option<Key> {
        self.answered = true;
        self.next.take()
    }
}

/// What the state remembers of its chains.
#[derive(Debug, Default)]
pub(super) struct Chains {
    /// First and last positions of the chains that the kernel has not consumed yet.
    queued: std::collections::VecDeque<(u32, u32)>,
    /// The entries of the chain that is being made.
    scratch: Vec<squeue::Entry>,
    /// For mending a chain that was cut; mapped with the first chain.
    entries: Option<NotInChild<Entries>>,
    /// Members whose cancels were too early, to be cancelled again.
    late: Vec<Key>,
}

impl Chains {
    /// The queue has been mapped anew, and is empty.
    pub(super) fn forget_queue(&mut self) {
        self.queued.clear();
        self.entries = None;
    }
}

/// How often a cancel that came between two members is repeated at once. Between them lies one run of
/// the submitter's task work, which a submission brings about.
const AT_ONCE: u8 = 4;

/// How long to sleep at most while a cancel has to be repeated.
pub(crate) const REPEAT: Duration = Duration::from_millis(20);

impl State {
    /// Queues all members of a chain, or none and gives it back.
    pub(crate) fn start_chain<P: Parts>(&mut self, parts: P) -> Result<P::Keys, (P, StartError)> {
        match self.chain_fits(&parts) {
            Ok(()) => {}
            Err(why) => return Err((parts, why)),
        }
        self.chains.scratch.clear();
        let mut sequence = Sequence::new(self);
        let keys = parts.start(&mut sequence);
        sequence.finish();
        let entries = std::mem::take(&mut self.chains.scratch);
        let first = self.uring.position();
        let last = first.wrapping_add(entries.len() as u32).wrapping_sub(1);
        // SAFETY: as in `push`: every entry is of an operation that has just been stored in the slab.
        let pushed = unsafe { self.uring.push_all(&entries) };
        debug_assert!(pushed, "room was checked");
        self.chains.scratch = entries;
        if !self.sqpoll {
            self.chains.queued.push_back((first, last));
        }
        self.wake_driver();
        Ok(keys)
    }

    fn chain_fits<P: Parts>(&mut self, parts: &P) -> Result<(), StartError> {
        let needed = parts.entries();
        if self.closed {
            return Err(Error::Closed.into());
        }
        let capacity = self.uring.capacity();
        if !(1..=capacity).contains(&needed) {
            return Err(Error::ChainLength { entries: needed, capacity }.into());
        }
        if !parts.belong_to(self.id) {
            return Err(Error::ForeignRing.into());
        }
        if self.uring.space() < needed {
            self.submit()?;
        }
        if self.uring.space() < needed {
            return Err(StartError::QueueFull);
        }
        let capacity = self.slab.capacity();
        if capacity - self.slab.occupied() < needed {
            return Err(StartError::TooMany { capacity });
        }
        if self.chains.entries.is_none() && !self.sqpoll {
            let entries = Entries::map(self.uring.fd(), self.uring.capacity() as u32);
            let entries =
                entries.map_err(|error| Error::os("mapping the submission entries", error))?;
            self.chains.entries = Some(NotInChild::new(entries, self.uring.fork_sentinel()));
        }
        Ok(())
    }

    /// Stores one member and notes its entry. There is a place: that was checked for all.
    pub(crate) fn add_member<T: crate::op::sealed::Prepare>(
        &mut self,
        operation: T,
        role: Role,
    ) -> Key {
        let Ok((key, entry)) = self.place(operation) else {
            unreachable!("the places were counted")
        };
        let (before, limits) = match role {
            Role::Member { after } => (after, None),
            Role::Limit { of } => (None, Some(of)),
        };
        if let Some(flight) = self.slab.get_mut(key) {
            let waits = before.is_some();
            flight.linked = Some(Linked { limits, waits, ..Linked::default() });
        }
        if let Some(before) = before.and_then(|before| self.slab.get_mut(before)) {
            before.linked = before.linked.map(|linked| Linked { next: Some(key), ..linked });
        }
        self.chains.scratch.push(entry);
        #[cfg(feature = "tracing")]
        self.trace_start::<T>(key);
        key
    }

    /// Takes back the members of a chain of which one could not make its entry, because its buffer
    /// panicked. The kernel has seen none of them.
    pub(crate) fn take_members_back(&mut self) {
        let mut entries = std::mem::take(&mut self.chains.scratch);
        for entry in entries.drain(..) {
            let Some((Kind::Operation, key)) = key::decode(entry.get_user_data()) else { continue };
            self.end(key);
            self.abandon(key, false);
        }
        self.chains.scratch = entries;
    }

    /// How a member that is done came to its end, beside its result.
    pub(crate) fn member_end(&mut self, key: Key) -> MemberEnd {
        let cut = self.slab.get_mut(key).is_some_and(|flight| flight.cut);
        MemberEnd { cut, cancel_asked: self.cancel_was_asked(key) }
    }

    /// The entries of the chain that is being made, from `first` on, get these flags.
    pub(crate) fn mark_members(&mut self, first: usize, flags: squeue::Flags) {
        for entry in self.chains.scratch.iter_mut().skip(first) {
            *entry = entry.clone().flags(flags);
        }
    }

    /// Entries of the chain that is being made.
    pub(crate) fn members(&self) -> usize {
        self.chains.scratch.len()
    }

    /// Whether a member waits for the one before it.
    pub(super) fn waits(&mut self, key: Key) -> bool {
        let linked = self.slab.get_mut(key).and_then(|flight| flight.linked);
        linked.is_some_and(|linked| linked.waits)
    }

    /// The kernel starts this member, the one before being done. A cancel of it that came earlier has not
    /// found it, so it is asked for again.
    pub(super) fn start_next(&mut self, next: Key) {
        if let Some(linked) = self.slab.get_mut(next).and_then(|flight| flight.linked.as_mut()) {
            linked.waits = false;
        }
        if self.cancel_was_asked(next) {
            self.cancels.push_back(next);
            self.wake_driver();
        }
    }

    /// The answer to a cancel. One that found nothing while its member was about to be started is
    /// repeated.
    pub(super) fn cancel_answered(&mut self, key: Key, answer: Cqe) {
        if answer.result != -libc::ENOENT {
            return;
        }
        let flight = self.slab.get_mut(key).filter(|flight| flight.in_flight);
        let Some(linked) = flight.and_then(|flight| flight.linked.as_mut()) else { return };
        // `start_next` repeats it, or there is nothing to be found any more.
        if linked.waits || linked.answered {
            return;
        }
        if linked.missed < AT_ONCE {
            linked.missed += 1;
            self.cancels.push_back(key);
        } else {
            self.chains.late.push(key);
        }
        self.wake_driver();
    }

    /// Asks again for what has been asked for in vain.
    pub(super) fn repeat_late_cancels(&mut self) {
        while let Some(key) = self.chains.late.pop() {
            self.cancels.push_back(key);
        }
    }

    /// Whether a cancel has to be repeated.
    #[cfg(feature = "tokio")]
    pub(super) fn has_late_cancels(&self) -> bool {
        !self.chains.late.is_empty()
    }

    /// How long to sleep at most: shortly, while a cancel has to be repeated.
    pub(crate) fn nap(&self, timeout: Option<Duration>) -> Option<Duration> {
        if self.chains.late.is_empty() {
            return timeout;
        }
        Some(timeout.map_or(REPEAT, |timeout| timeout.min(REPEAT)))
    }

    /// Finds the chain of which the last submission took a part, and ends the rest.
    pub(super) fn mend_cut_chain(&mut self) {
        if self.chains.queued.is_empty() {
            return;
        }
        let head = self.uring.head();
        while let Some((first, last)) = self.chains.queued.front().copied() {
            if self.uring.consumed(last) {
                self.chains.queued.pop_front();
            } else {
                if self.uring.consumed(first) {
                    self.chains.queued.pop_front();
                    self.end_rest(head, last);
                }
                break;
            }
        }
    }

    /// Makes nops of the entries from `head` to `last`.
    fn end_rest(&mut self, head: u32, last: u32) {
        let Some(entries) = self.chains.entries.take() else { return };
        for position in (0..=last.wrapping_sub(head)).map(|n| head.wrapping_add(n)) {
            let mut user_data = 0;
            // SAFETY: the kernel's head says that it has not consumed the entry, and without SQPOLL
            // it reads entries only inside `enter`, which this state, held exclusively, is not in. A
            // nop points to nothing.
            unsafe {
                entries.replace(position, |entry| {
                    user_data = entry.get_user_data();
                    opcode::Nop::new().build().user_data(user_data)
                });
            }
            let Some((Kind::Operation, key)) = key::decode(user_data) else { continue };
            let Some(flight) = self.slab.get_mut(key) else { continue };
            flight.cut = true;
            let limited = flight.linked.and_then(|linked| linked.limits);
            if let Some(limited) = limited {
                self.cancel(limited);
            }
        }
        self.chains.entries = Some(entries);
        self.counters.cut_chains += 1;
    }
}

/// How a member came to its end, beside its result.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MemberEnd {
    /// The kernel took the chain without it.
    pub(crate) cut: bool,
    /// Somebody asked for it to be cancelled.
    pub(crate) cancel_asked: bool,
}

/// What an entry is in its chain.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Role {
    /// A member, after another one or as the first.
    Member {
        /// The member before it.
        after: Option<Key>,
    },
    /// The time limit of a member.
    Limit {
        /// That member.
        of: Key,
    },
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use crate::chain::{Broken, Chain, Why};
    use crate::op::{Nop, Read};
    use crate::{Fd, Ring};

    const SOON: Option<Duration> = Some(Duration::from_secs(10));

    /// Has the kernel take fewer entries than there are, as it does when it cannot allocate a request.
    fn submit_only(ring: &Ring, entries: u32) {
        ring.inner
            .with(|state| {
                let submitter = state.uring.submitter();
                // SAFETY: submits entries that have been pushed, and waits for nothing.
                let taken = unsafe { submitter.enter::<libc::sigset_t>(entries, 0, 0, None) };
                assert_eq!(taken.unwrap(), entries as usize);
                state.mend_cut_chain();
            })
            .unwrap();
    }

    #[test]
    fn what_the_kernel_left_of_a_chain_does_not_run_by_itself() {
        let ring = Ring::local().unwrap();
        for taken in 1..4 {
            let before = ring.push(Nop::new()).unwrap();
            let chain = Chain::new(Nop::new()).then(Nop::new()).then(Nop::new()).then(Nop::new());
            let chain = ring.push_chain(chain).unwrap();
            let behind = ring.push(Nop::new()).unwrap();
            submit_only(&ring, 1 + taken);
            let done = chain.wait(SOON).unwrap();
            let results = <[_; 4]>::from(done.results);
            for (member, result) in (0..).zip(results) {
                let cancelled = result.is_err_and(|e| e.raw_os_error() == Some(libc::ECANCELED));
                assert_eq!(cancelled, member >= taken, "member {member}, {taken} taken");
            }
            let member = taken as usize;
            assert_eq!(done.summary.broken(), Some(Broken { member, why: Why::Cut }));
            assert_eq!(done.summary.cancelled(), (member..4).collect::<Vec<_>>());
            before.wait(SOON).unwrap().unwrap();
            behind.wait(SOON).unwrap().unwrap();
        }
        assert_eq!((ring.counters().cut_chains, ring.in_flight()), (3, 0));
    }

    #[test]
    fn a_member_does_not_run_without_its_time_limit() {
        let ring = Ring::local().unwrap();
        let (reader, _writer) = std::io::pipe().unwrap();
        let read = Read::new(&Fd::new(reader), vec![0; 8], 0);
        let chain = Chain::new(read).within(Duration::from_secs(1000)).then(Nop::new());
        let chain = ring.push_chain(chain).unwrap();
        submit_only(&ring, 1);
        let (read, nop) = chain.wait(SOON).unwrap().results;
        // The part that was taken runs in a worker, where a cancel may interrupt it.
        let errno = read.result.unwrap_err().raw_os_error();
        assert!(matches!(errno, Some(libc::ECANCELED | libc::EINTR)), "{errno:?}");
        assert!(nop.is_err());
        assert_eq!(ring.in_flight(), 0);
    }

    #[test]
    fn a_chain_that_is_taken_whole_is_left_alone() {
        let ring = Ring::builder().entries(4).build_local().unwrap();
        // Around the ring several times.
        for _ in 0..20 {
            let chain = Chain::new(Nop::new()).then(Nop::new()).then_always(Nop::new());
            assert!(ring.push_chain(chain).unwrap().wait(SOON).unwrap().summary.is_whole());
        }
        assert_eq!(ring.counters().cut_chains, 0);
    }
}
