//! [`Incoming`]: connections, as they come.

use io_uring::{opcode, squeue};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{EndReason, Engine, Source, common_methods, item_methods};
use crate::mode::{Local, Mode};
use crate::op::sealed::Prepare;
use crate::op::{Target, take_fd};
use crate::ring::{Cqe, Ring, RingId};

/// Takes connections from a listening socket, all with one submission: `accept` multishot (Linux
/// 5.19; `io_uring_prep_multishot_accept(3)`).
///
/// The connections are closed on `exec`; `getpeername(2)` says where they come from.
///
/// When the kernel ends it, it is armed again as its [`EndReason`] allows. Out of descriptors
/// (`EMFILE`), the call that finds out returns the error and the next one tries again; connections
/// wait with the listener meanwhile.
///
/// A connection that the kernel has accepted and that nobody takes, because this or its ring is
/// dropped, is closed and counted in the [`Tally`].
///
/// ```
/// use io_uring_ext::multishot::Incoming;
/// use io_uring_ext::{Fd, Ring};
/// use std::net::{TcpListener, TcpStream};
/// ///
/// let ring = Ring::local()?;
/// let listener = TcpListener::bind("127.0.0.1:0")?;
/// let address = listener.local_addr()?;
/// let mut incoming = Incoming::new(&ring, &Fd::new(listener));
///
/// let client = TcpStream::connect(address)?;
/// let connection = incoming.wait(Some(Duration::from_secs(5)))?.ok_or("nobody came")?;
/// assert_eq!(TcpStream::from(connection).peer_addr()?, client.local_addr()?);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Incoming<M: Mode = Local>(Engine<AcceptSource, M>);

/// What an [`Incoming`] has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct IncomingCounters {
    /// Connections handed out.
    pub taken: u64,
    /// Connections that nobody took, and that were closed.
    pub closed: u64,
    /// Times it was armed.
    pub armed: u64,
    /// Times it ended because the completion queue was full.
    pub overflows: u64,
    /// Times it ended because the thread that had armed it had exited.
    pub orphaned: u64,
}

/// Where the connections of an [`Incoming`] went; readable also after that is gone.
///
/// Each connection that the kernel accepted is in one of the two, once the last completion has come
/// (with the next calls of the ring, or its end).
#[derive(Clone, Debug, Default)]
pub struct Tally(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    taken: AtomicU64,
    closed: AtomicU64,
}

impl Tally {
    /// Connections handed out.
    pub fn taken(&self) -> u64 {
        self.0.taken.load(Ordering::Relaxed)
    }

    /// Connections that nobody took, and that were closed.
    pub fn closed(&self) -> u64 {
        self.0.closed.load(Ordering::Relaxed)
    }

    fn take(&self, cqe: Cqe) -> Option<OwnedFd> {
        // SAFETY: a completion of an accept, which `Source::take` or `discard` is given once.
        let connection = unsafe { take_fd(cqe) }.ok()?;
        self.0.taken.fetch_add(1, Ordering::Relaxed);
        Some(connection)
    }

    fn close(&self, cqe: Cqe) {
        // SAFETY: as in `take`.
        if let Ok(connection) = unsafe { take_fd(cqe) } {
            drop(connection);
            self.0.closed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl<M: Mode> Incoming<M> {
    /// Takes connections from `listener`, beginning with the first call.
    pub fn new(ring: &Ring<M>, listener: impl Into<Target>) -> Self {
        let source = AcceptSource { listener: listener.into(), tally: Tally::default() };
        let capacity = ring.setup().completions as usize;
        Self(Engine::new(ring.inner.clone(), source, capacity))
    }

    /// What it has done so far.
    pub fn counters(&self) -> IncomingCounters {
        let (tally, ends) = (&self.0.source.tally, self.0.ends());
        IncomingCounters {
            taken: tally.taken(),
            closed: tally.closed(),
            armed: ends.armed,
            overflows: ends.overflows,
            orphaned: ends.orphaned,
        }
    }

    /// Where its connections went, to be read also when it is gone.
    pub fn tally(&self) -> Tally {
        self.0.source.tally.clone()
    }
}

common_methods!([M: Mode] Incoming<M>, 0, IncomingCounters);
item_methods!([M: Mode] Incoming<M>, OwnedFd);

struct AcceptSource {
    listener: Target,
    tally: Tally,
}

impl Source for AcceptSource {
    type Operation = AcceptMulti;
    type Item = OwnedFd;
    const WHAT: &'static str = "a multishot accept";

    fn operation(&self) -> AcceptMulti {
        AcceptMulti { listener: self.listener.clone(), tally: self.tally.clone() }
    }

    fn ready(&mut self, _ended: Option<EndReason>) -> bool {
        true
    }

    fn end(&self, _cqe: Cqe) -> Option<EndReason> {
        None
    }

    fn take(&mut self, cqe: Cqe) -> Option<OwnedFd> {
        self.tally.take(cqe)
    }

    fn discard(&mut self, cqe: Cqe) {
        self.tally.close(cqe);
    }
}

/// `accept` with `IORING_ACCEPT_MULTISHOT`.
struct AcceptMulti {
    listener: Target,
    tally: Tally,
}

// SAFETY: the entry points to nothing; the operation owns the descriptor.
unsafe impl Prepare for AcceptMulti {
    fn target(&self) -> Option<&Target> {
        Some(&self.listener)
    }

    fn entry(&mut self, _ring: RingId) -> squeue::Entry {
        opcode::AcceptMulti::new(self.listener.number()).flags(libc::SOCK_CLOEXEC).build()
    }

    fn discard(&mut self, cqe: Cqe) {
        self.tally.close(cqe);
    }
}
