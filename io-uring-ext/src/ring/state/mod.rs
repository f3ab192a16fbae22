//! What a ring knows: its queues, its operations, what it still has to cancel.
//!
//! The one rule behind everything here: an operation's memory is given back or freed only after its
//! terminal completion, the one without `MORE` (for a zero-copy send that is the notification).
//! Abandoning, cancelling or closing changes who gets the result, never when memory is free.

mod buffers;
mod cancel;
pub(crate) mod chain;
mod complete;
mod flight;
mod inbox;
mod outbox;
mod shutdown;
mod submit;
mod tables;
#[cfg(feature = "tracing")]
mod trace;
mod watch;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;

use io_uring::squeue;

use self::chain::Chains;
use self::flight::Flight;
use self::tables::Table;
use super::key::{self, Key, Kind};
use super::slab::Slab;
use super::{Counters, Cqe};
use crate::error::{Error, Result, StartError};
use crate::op::Target;
use crate::op::sealed::Prepare;
use crate::sys::uring::Uring;
pub(crate) use flight::Ends;
pub(crate) use outbox::{Deferred, Outbox};
pub(crate) use watch::{Until, Watched};

/// Which ring of this process: what is known to one by number is nothing, or something else, to
/// another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[doc(hidden)]
pub struct RingId(u64);

impl RingId {
    pub(crate) fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

/// A place whose operation is making its entry. A buffer's methods may panic meanwhile; then the place is
/// vacated.
struct Placing<'a> {
    slab: &'a mut Slab<Flight>,
    outbox: &'a mut Outbox,
    key: Key,
}

impl Drop for Placing<'_> {
    fn drop(&mut self) {
        if let Some(flight) = self.slab.get_mut(self.key) {
            self.outbox.push(Deferred::Free(flight.payload.evict()));
            self.slab.vacate(self.key);
        }
    }
}

/// The state behind a ring's lock.
pub(crate) struct State {
    id: RingId,
    pub(crate) uring: Uring,
    slab: Slab<Flight>,
    /// Operations whose terminal completion has not come.
    in_flight: usize,
    /// Cancels that wait for room in the submission queue. Each operation is in it at most once, so
    /// the capacity reserved at the start suffices; only a member of a chain may be there twice.
    cancels: VecDeque<Key>,
    cancel_all: bool,
    /// Cancels of all that works on something, which wait for room and a place.
    cancels_of_targets: VecDeque<Target>,
    /// How often a cancel of everything has been asked for.
    cancels_of_all: u64,
    /// Operations that end inside the submission, by position in the submission queue.
    ending: VecDeque<(u32, Key)>,
    chains: Chains,
    mailbox: Option<inbox::Mailbox>,
    /// Inboxes that have been opened so far, to tell their mail apart.
    inboxes: u32,
    /// Group identifiers of buffer rings: those given back, and the next new one.
    free_groups: Vec<u16>,
    next_group: u16,
    files: Option<Table>,
    buffers: Option<Table>,
    table_generation: u32,
    /// What to do once the lock has been released.
    outbox: Outbox,
    #[cfg(feature = "tracing")]
    unsubmitted: trace::Unsubmitted,
    /// The task that submits for all, while it waits for something to submit.
    driver: Option<Waker>,
    /// Whether there is such a task.
    #[cfg(feature = "tokio")]
    driven: bool,
    counters: Counters,
    /// Completions that had been taken when the last wait returned.
    pub(super) waited: u64,
    overflown: bool,
    closed: bool,
    sqpoll: bool,
    iopoll: bool,
    /// A thread polls the ring for all (see `wait.rs`) and is the only one to take completions.
    pub(super) led: bool,
}

impl State {
    pub(crate) fn new(uring: Uring, operations: u32) -> Self {
        let sqpoll = uring.parameters().is_setup_sqpoll();
        Self {
            id: RingId::next(),
            slab: Slab::new(operations, Flight::new),
            in_flight: 0,
            cancels: VecDeque::with_capacity(operations as usize),
            cancel_all: false,
            cancels_of_targets: VecDeque::new(),
            cancels_of_all: 0,
            ending: VecDeque::with_capacity(uring.parameters().sq_entries() as usize),
            chains: Chains::default(),
            mailbox: None,
            inboxes: 0,
            free_groups: Vec::new(),
            next_group: 0,
            files: None,
            buffers: None,
            table_generation: 0,
            outbox: Outbox::default(),
            #[cfg(feature = "tracing")]
            unsubmitted: trace::Unsubmitted::new(),
            driver: None,
            #[cfg(feature = "tokio")]
            driven: false,
            counters: Counters::default(),
            waited: 0,
            overflown: false,
            closed: false,
            sqpoll,
            iopoll: uring.parameters().is_setup_iopoll(),
            led: false,
            uring,
        }
    }

    /// Whether [`start`](Self::start) finds a place and room in the queue; submits to make some.
    #[cfg(feature = "packet")]
    pub(crate) fn has_room(&mut self) -> bool {
        if self.uring.space() == 0 && self.submit().is_err() {
            return false;
        }
        !self.closed && self.uring.space() > 0 && self.slab.occupied() < self.slab.capacity()
    }

    /// Queues an operation; it is given back when that is not possible.
    pub(crate) fn start<T: Prepare>(
        &mut self,
        operation: T,
        ends: Ends,
    ) -> Result<Key, (T, StartError)> {
        if self.closed {
            return Err((operation, Error::Closed.into()));
        }
        if self.uring.space() == 0 {
            if let Err(error) = self.submit() {
                return Err((operation, error.into()));
            }
            if self.uring.space() == 0 {
                return Err((operation, StartError::QueueFull));
            }
        }
        if !operation.target().is_none_or(|target| target.belongs_to(self.id))
            || !operation.belongs_to(self.id)
        {
            return Err((operation, Error::ForeignRing.into()));
        }
        let (key, entry) = match self.place(operation) {
            Ok(placed) => placed,
            Err(operation) => {
                let capacity = self.slab.capacity();
                return Err((operation, StartError::TooMany { capacity }));
            }
        };
        let in_submission = ends == Ends::InSubmission && !self.sqpoll;
        let entry = if in_submission { entry.flags(squeue::Flags::SKIP_SUCCESS) } else { entry };
        if in_submission {
            self.ending.push_back((self.uring.position(), key));
        }
        #[cfg(feature = "tracing")]
        self.trace_start::<T>(key);
        self.push(&entry);
        self.wake_driver();
        Ok(key)
    }

    /// Stores an operation where it stays, and makes its entry; it is given back when all places are
    /// taken.
    fn place<T: Prepare>(&mut self, operation: T) -> Result<(Key, squeue::Entry), T> {
        let Some((key, _)) = self.slab.occupy() else { return Err(operation) };
        let placing = Placing { slab: &mut self.slab, outbox: &mut self.outbox, key };
        let Some(flight) = placing.slab.get_mut(key) else { return Err(operation) };
        let operation = flight.payload.store(operation);
        let entry = operation.entry(self.id).user_data(key::encode(Kind::Operation, key));
        let entry = match operation.target() {
            Some(target) => target.mark(entry),
            None => entry,
        };
        flight.results.clear();
        (flight.in_flight, flight.abandoned, flight.cancelling) = (true, false, false);
        (flight.linked, flight.cut) = (None, false);
        flight.began_after = self.cancels_of_all;
        std::mem::forget(placing);
        self.in_flight += 1;
        Ok((key, entry))
    }

    /// Queues an entry for which there is room.
    fn push(&mut self, entry: &squeue::Entry) {
        // SAFETY: an entry with pointers comes from an operation that owns what they point to
        // (`Prepare`'s contract) and that has been stored in the slab, where it stays, at its
        // address, until `deliver` sees its terminal completion or `settle` sees that the kernel
        // has consumed an entry that ends in its submission. Cancels point to nothing.
        let pushed = unsafe { self.uring.push(entry) };
        debug_assert!(pushed, "room was checked");
    }

    /// Nobody will take the result any more: everything that came is discarded, and what the
    /// operation owns is freed with its terminal completion.
    pub(crate) fn abandon(&mut self, key: Key, cancel: bool) {
        self.release_watcher(key);
        let Some(flight) = self.slab.get_mut(key) else { return };
        flight.abandoned = true;
        while let Some(cqe) = flight.results.pop_front() {
            flight.payload.discard(cqe);
        }
        if !flight.in_flight {
            let payload = flight.payload.evict();
            self.outbox.push(Deferred::Free(payload));
            self.slab.vacate(key);
            self.place_is_vacant();
        } else if cancel {
            self.cancel(key);
        }
    }

    /// Whether the kernel is done with the operation.
    pub(crate) fn is_done(&mut self, key: Key) -> bool {
        self.slab.get_mut(key).is_none_or(|flight| !flight.in_flight)
    }

    /// Takes a finished operation out, with its completions put behind `results`. `None` while the
    /// kernel is not done, or when the memory had to be leaked.
    pub(crate) fn take<T: Prepare>(
        &mut self,
        key: Key,
        results: &mut impl Extend<Cqe>,
    ) -> Option<T> {
        let flight = self.slab.get_mut(key).filter(|flight| !flight.in_flight)?;
        let operation = flight.payload.take::<T>()?;
        results.extend(flight.results.drain(..));
        self.slab.vacate(key);
        self.place_is_vacant();
        Some(operation)
    }

    /// The first completion of an operation, left in place.
    pub(crate) fn first_result(&mut self, key: Key) -> Option<Cqe> {
        self.slab.get_mut(key)?.results.front().copied()
    }

    /// Swaps the completions that have come for `taken`, which must be empty. Neither allocates.
    pub(crate) fn swap_results(&mut self, key: Key, taken: &mut VecDeque<Cqe>) {
        debug_assert!(taken.is_empty());
        if let Some(flight) = self.slab.get_mut(key) {
            std::mem::swap(&mut flight.results, taken);
        }
    }

    /// What to do once the lock has been released, if anything.
    #[inline]
    pub(crate) fn take_outbox(&mut self) -> Option<Outbox> {
        (!self.outbox.is_empty()).then(|| std::mem::take(&mut self.outbox))
    }

    /// Keeps the memory of an outbox that has been delivered, so that the next one allocates nothing.
    pub(crate) fn reuse_outbox(&mut self, outbox: &mut Outbox) {
        #[cfg(feature = "tracing")]
        self.adopt_spans(&mut outbox.spans);
        self.outbox.reuse(outbox);
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight
    }

    pub(crate) fn counters(&self) -> Counters {
        Counters { waiting_cancels: self.cancels.len() as u64, ..self.counters }
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("in_flight", &self.in_flight)
            .field("occupied", &self.slab.occupied())
            .field("closed", &self.closed)
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}
