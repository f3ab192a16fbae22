//! [`Ring`]: submission, completion, and the owner of everything in flight.

mod builder;
mod disabled;
mod features;
mod inner;
pub(crate) mod key;
mod pending;
mod restrictions;
mod slab;
#[expect(unsafe_code, reason = "queues entries for operations that it keeps in the slab")]
pub(crate) mod state;
mod turn;
mod wait;

use std::fmt;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

pub use builder::{IoPoll, RingBuilder, Setup, SqPoll};
pub use disabled::DisabledRing;
pub use features::{NapiBusyPoll, WorkerLimits};
pub(crate) use inner::Inner;
pub use inner::leaked_operations;
pub use pending::{Pending, Started, WaitError};
pub use restrictions::{EntryFlags, Restrictions};
pub(crate) use state::{Deferred, Ends, Outbox, RingId, Until};

use crate::error::Result;
use crate::mode::{Local, Mode, OwnedBy, Shared};
use crate::op::{Operation, Target};

/// An io_uring instance that owns what its operations use.
///
/// ```
/// use io_uring_ext::op::{Read, Send};
/// use io_uring_ext::{Fd, Ring};
/// use std::os::unix::net::UnixStream;
///
/// let ring = Ring::local()?;
/// let (a, b) = UnixStream::pair()?;
/// let (a, b) = (Fd::new(a), Fd::new(b));
///
/// let read = ring.push(Read::new(&b, vec![0; 16], 0))?;
/// let sent = ring.push(Send::new(&a, b"hello".to_vec()))?;
///
/// assert_eq!(sent.wait(None)?.result?, 5);
/// let read = read.wait(None)?;
/// assert_eq!(read.result?, 5);
/// assert_eq!(read.buf, b"hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Who owns what
///
/// [`push`](Self::push) moves an operation, with its buffer, address and descriptor, into the ring;
/// [`Pending`] stands for it. The memory comes back with the result, or is freed after the
/// operation's terminal completion when the `Pending` was dropped. Nothing that is dropped or
/// forgotten, in any order, makes the kernel write to freed memory: forgetting leaks.
///
/// Dropping the ring publishes what is queued, cancels everything, and takes completions until
/// nothing is in flight. What the kernel does not end before the
/// [shutdown deadline](RingBuilder::shutdown_deadline) is leaked and counted
/// ([`leaked_operations`]).
///
/// The kernel takes a ring down after it was closed, and for that wakes every thread that has submitted to
/// it (`io_ring_exit_work` in `io_uring/io_uring.c`). A system call in which such a thread then blocks with
/// a timeout, a read with `SO_RCVTIMEO` for example, may end with `EINTR` once although no signal came
/// (seen on Linux 6.18 each time): repeat it.
///
/// # After `fork`
///
/// The ring stays with the parent. In the child every call answers
/// [`Error::Forked`](crate::Error::Forked), and dropping the ring there leaks it; the queues are not
/// mapped in the child at all.
///
/// A `Ring<Local>` stays on its thread:
///
/// ```compile_fail,E0277
/// let ring = io_uring_ext::Ring::local()?;
/// std::thread::spawn(move || ring.submit());
/// # Ok::<(), io_uring_ext::Error>(())
/// ```
///
/// and a `Ring<Shared>` owns only what can be freed on any thread:
///
/// ```compile_fail,E0277
/// use io_uring_ext::{buf::BufPool, op::Read, Fd, Ring};
/// let ring = Ring::shared()?;
/// let pool = BufPool::local(64, 1)?; // its buffers count without atomics
/// let file = Fd::new(std::fs::File::open("/dev/zero")?);
/// ring.push(Read::new(&file, pool.take().unwrap(), 0))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Ring<M: Mode = Local> {
    pub(crate) inner: M::Ptr<Inner<M>>,
}

impl Ring<Local> {
    /// Sizes and features of a ring to be, of either mode.
    pub fn builder() -> RingBuilder {
        RingBuilder::new()
    }

    /// A ring for this thread, with the defaults of [`RingBuilder`].
    ///
    /// # Errors
    ///
    /// As [`RingBuilder::build_local`].
    pub fn local() -> Result<Self> {
        RingBuilder::new().build_local()
    }
}

impl Ring<Shared> {
    /// A ring for any thread, with the defaults of [`RingBuilder`].
    ///
    /// # Errors
    ///
    /// As [`RingBuilder::build_shared`].
    pub fn shared() -> Result<Self> {
        RingBuilder::new().build_shared()
    }
}

impl<M: Mode> Ring<M> {
    /// Moves an operation into the ring and queues it. The kernel sees it with the next
    /// [`submit`](Self::submit) or wait; when the submission queue is full, this submits first.
    ///
    /// # Errors
    ///
    /// Gives the operation back when there is no place for it, or the ring does not work.
    pub fn push<T: Operation + OwnedBy<M>>(&self, operation: T) -> Started<T, M> {
        Pending::start(&self.inner, operation, Ends::WithCompletion)
    }

    /// Submits what is queued and takes the completions that are there. Never sleeps, and makes no
    /// system call when there is nothing to do.
    ///
    /// # Errors
    ///
    /// When `io_uring_enter(2)` fails.
    pub fn submit(&self) -> Result<()> {
        self.inner.submit()
    }

    /// Submits, and sleeps until `want` completions have come since the last call returned, or `timeout`
    /// is over (`None`: no limit). Returns how many came; a signal ends the sleep early.
    ///
    /// Counted are all completions, also those that another call took meanwhile: who submits, and then
    /// waits for what was already there, does not sleep. `wait(0, None)` begins to count anew.
    ///
    /// To wait for one operation, use [`Pending::wait`].
    ///
    /// # Errors
    ///
    /// As [`submit`](Self::submit).
    pub fn wait(&self, want: usize, timeout: Option<Duration>) -> Result<usize> {
        self.inner.wait(want, timeout)
    }

    /// Asks the kernel to end every operation early. Each ends with its own terminal completion,
    /// `ECANCELED` if it had not begun.
    ///
    /// # Errors
    ///
    /// As [`submit`](Self::submit).
    pub fn cancel_all(&self) -> Result<()> {
        self.inner.with(|state| {
            state.cancel_everything();
            state.submit()
        })?
    }

    /// Asks the kernel to end every operation early that works on this descriptor or fixed file, and
    /// that it has begun (Linux 5.19). Never lost: it waits for room and for a place.
    /// [`op::Cancel`](crate::op::Cancel) says how many there were.
    ///
    /// # Errors
    ///
    /// [`Error::ForeignRing`](crate::Error::ForeignRing) for another ring's fixed file; as
    /// [`submit`](Self::submit).
    pub fn cancel_target(&self, target: impl Into<Target>) -> Result<()> {
        let target = target.into();
        self.inner.with(|state| {
            state.cancel_target(target)?;
            state.submit()
        })?
    }

    /// Submits, asks the kernel to end every operation early, of those on `target` alone where one is
    /// given, and waits until they have ended or `timeout` is over (`IORING_REGISTER_SYNC_CANCEL`, Linux
    /// 6.0). That there was none is fine. Their results are then there to be taken, and not before.
    ///
    /// # Errors
    ///
    /// `ETIME` when the time is over; [`Error::ForeignRing`](crate::Error::ForeignRing); as
    /// [`submit`](Self::submit).
    pub fn cancel_now(&self, target: Option<&Target>, timeout: Option<Duration>) -> Result<()> {
        /// How long to keep the lock of a ring that threads share at most.
        const SLICE: Duration = Duration::from_millis(5);

        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            let left = deadline.map(|end| end.saturating_duration_since(Instant::now()));
            let sliced = !M::LOCAL && left.is_none_or(|left| left > SLICE);
            let limit = if sliced { Some(SLICE) } else { left };
            let cancelled = self.inner.with(|state| {
                if target.is_some_and(|target| !target.belongs_to(state.id())) {
                    return Err(crate::Error::ForeignRing);
                }
                state.submit()?;
                let cancelled = state.cancel_now(target, limit);
                state.submit()?;
                cancelled.map_err(|error| crate::Error::os("cancelling and waiting", error))
            })?;
            match cancelled {
                Err(error) if sliced && error.raw_os_error() == Some(libc::ETIME) => {}
                answer => return answer,
            }
        }
    }

    /// Operations whose memory the kernel may still use.
    pub fn in_flight(&self) -> usize {
        self.inner.with(|state| state.in_flight()).unwrap_or(0)
    }

    /// What the ring has done so far.
    pub fn counters(&self) -> Counters {
        self.inner.with(|state| state.counters()).unwrap_or_default()
    }

    /// What the kernel granted.
    pub fn setup(&self) -> &Setup {
        self.inner.setup()
    }

    /// A descriptor that polls readable when there are completions to take.
    ///
    /// A ring with `DEFER_TASKRUN` never wakes a poll on its own descriptor, so for a [`Local`] ring
    /// without SQPOLL this is an eventfd, registered with the first call; the other kinds give the
    /// ring's own descriptor. After it polled readable, call [`acknowledge`](Self::acknowledge).
    ///
    /// # Errors
    ///
    /// When the eventfd cannot be made or registered.
    pub fn poll_fd(&self) -> Result<BorrowedFd<'_>> {
        self.inner.poll_fd()
    }

    /// Takes the completions that are there, as [`submit`](Self::submit), and clears the readiness of
    /// [`poll_fd`](Self::poll_fd). Nothing that comes meanwhile is missed: rather than that, the
    /// descriptor is readable once more with nothing behind it.
    ///
    /// # Errors
    ///
    /// As [`submit`](Self::submit).
    pub fn acknowledge(&self) -> Result<()> {
        self.inner.acknowledge()
    }

    /// Ends everything that is in flight, as dropping the ring does, and says how it went: the
    /// number of operations that did not end before the deadline and were leaked.
    pub fn close(self) -> usize {
        self.inner.close()
    }
}

impl<M: Mode> Drop for Ring<M> {
    fn drop(&mut self) {
        self.inner.close();
    }
}

impl<M: Mode> fmt::Debug for Ring<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ring")
            .field("setup", self.inner.setup())
            .field("counters", &self.counters())
            .finish()
    }
}

/// A completion, without its `user_data`.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cqe {
    pub(crate) result: i32,
    pub(crate) flags: u32,
}

impl Cqe {
    /// The result as system calls give it.
    pub(crate) fn to_result(self) -> std::io::Result<usize> {
        usize::try_from(self.result).map_err(|_| std::io::Error::from_raw_os_error(-self.result))
    }

    /// Whether more completions of the same operation follow.
    pub(crate) fn more(self) -> bool {
        io_uring::cqueue::more(self.flags)
    }
}

/// What a ring has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// System calls to submit or wait.
    pub enters: u64,
    /// Completions taken from the queue.
    pub completions: u64,
    /// Times that the completion queue was found full, with completions waiting inside the kernel.
    /// They are not lost, but multishot operations end early. Make the queue larger.
    pub overflows: u64,
    /// Cancels handed to the kernel.
    pub cancels: u64,
    /// Cancels that wait for room in the submission queue.
    pub waiting_cancels: u64,
    /// Completions for operations that were no longer there.
    pub stale: u64,
    /// Chains of which the kernel, out of memory, took only a part; see
    /// [`Why::Cut`](crate::chain::Why::Cut).
    pub cut_chains: u64,
    /// Messages for an [inbox](crate::message::Inbox) that was dropped before they arrived or were taken.
    pub stray_messages: u64,
}
