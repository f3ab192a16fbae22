//! [`Incoming`] and [`IncomingFixed`]: connections, as they come.

use io_uring::{opcode, squeue};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{EndReason, Engine, Source, common_methods, item_methods};
use crate::fixed::{FixedFd, FixedSlot, KernelSlots};
use crate::mode::{Local, Mode};
use crate::op::sealed::Prepare;
use crate::op::{Target, take_fd};
use crate::ring::{Cqe, Inner, Ring, RingId};

/// Takes connections from a listening socket, all with one submission: `accept` multishot (Linux
/// 5.19; `io_uring_prep_multishot_accept(3)`).
///
/// The connections are closed on `exec`; `getpeername(2)` says where they come from.
///
/// When the kernel ends it, it is armed again as its [`EndReason`] allows. Out of descriptors (`EMFILE`
/// or `ENFILE`), the kernel ends it before it takes a connection (`io_accept` in `io_uring/net.c`), so
/// connections wait with the listener. The call that finds out returns the error; nothing is tried
/// before the next call, which tries once, and fails at once while there is still no descriptor, whether
/// or not somebody waits. So close something before that call, or [sleep](Ring::sleep) a while: a loop
/// that only ignores the error spins.
///
/// A connection that the kernel has accepted and that nobody takes, because this or its ring is
/// dropped, is closed and counted in the [`Tally`].
///
/// ```
/// use io_uring_ext::multishot::Incoming;
/// use io_uring_ext::{Fd, Ring};
/// use std::net::{TcpListener, TcpStream};
/// use std::time::Duration;
///
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
pub struct Incoming<M: Mode = Local>(Engine<AcceptSource<Descriptors>, M>);

/// As [`Incoming`], with the connections in slots of the ring's file table, which the kernel chooses
/// (Linux 5.19): operations on them spare the kernel looking a descriptor up, and the limit on open
/// descriptors does not count them.
///
/// When no slot is left, the kernel closes the connection that it had taken already (`io_accept` in
/// `io_uring/net.c`) and ends with `ENFILE`, which is counted. So give the table as many
/// [kernel slots](crate::fixed::FileTable::with_kernel_slots) as there may be connections.
pub struct IncomingFixed<M: Mode = Local>(Engine<AcceptSource<Slots>, M>);

/// What an [`Incoming`] has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct IncomingCounters {
    /// Connections handed out.
    pub taken: u64,
    /// Connections that nobody took, and that were closed.
    pub closed: u64,
    /// Connections that the kernel closed for want of a slot (`ENFILE`); for [`IncomingFixed`] alone.
    pub no_slot: u64,
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

    fn take<L: Landing>(&self, landing: &L, cqe: Cqe) -> Option<L::Connection> {
        // SAFETY: a completion of an accept into this landing, given to `Source::take`, `discard` or
        // `Prepare::discard` once.
        let connection = unsafe { landing.take(cqe) }.ok()?;
        self.0.taken.fetch_add(1, Ordering::Relaxed);
        Some(connection)
    }

    fn close<L: Landing>(&self, landing: &L, cqe: Cqe) {
        // SAFETY: as in `take`.
        if let Ok(connection) = unsafe { landing.take(cqe) } {
            drop(connection);
            self.0.closed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl<M: Mode> Incoming<M> {
    /// Takes connections from `listener`, beginning with the first call.
    pub fn new(ring: &Ring<M>, listener: impl Into<Target>) -> Self {
        Self::on(ring.inner.clone(), listener)
    }

    pub(crate) fn on(ring: M::Ptr<Inner<M>>, listener: impl Into<Target>) -> Self {
        Self(engine(ring, listener.into(), Descriptors))
    }
}

impl<M: Mode> IncomingFixed<M> {
    /// Takes connections from `listener` into `slots`, beginning with the first call, which answers
    /// [`Error::ForeignRing`](crate::Error::ForeignRing) for the slots of another ring.
    pub fn new(ring: &Ring<M>, listener: impl Into<Target>, slots: KernelSlots) -> Self {
        let listener = listener.into();
        let landing = Slots { stream: listener.is_stream(), slots: FixedSlot::from(&slots) };
        Self(engine(ring.inner.clone(), listener, landing))
    }
}

fn engine<L: Landing, M: Mode>(
    ring: M::Ptr<Inner<M>>,
    listener: Target,
    landing: L,
) -> Engine<AcceptSource<L>, M> {
    let source = AcceptSource { listener, landing, tally: Tally::default(), no_slot: 0 };
    let completions = ring.setup().completions as usize;
    Engine::new(ring, source, completions)
}

macro_rules! counted {
    ($incoming:ident) => {
        impl<M: Mode> $incoming<M> {
            /// What it has done so far.
            pub fn counters(&self) -> IncomingCounters {
                let (source, ends) = (&self.0.source, self.0.ends());
                IncomingCounters {
                    taken: source.tally.taken(),
                    closed: source.tally.closed(),
                    no_slot: source.no_slot,
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
    };
}

counted!(Incoming);
counted!(IncomingFixed);
common_methods!([M: Mode] Incoming<M>, 0, IncomingCounters);
common_methods!([M: Mode] IncomingFixed<M>, 0, IncomingCounters);
item_methods!([M: Mode] Incoming<M>, OwnedFd);
item_methods!([M: Mode] IncomingFixed<M>, FixedFd);

/// Where connections land.
pub(crate) trait Landing: Clone + 'static {
    type Connection;

    fn entry(&self, listener: &Target) -> squeue::Entry;

    /// Takes the connection that a completion brought.
    ///
    /// # Safety
    ///
    /// The completion is of an accept with this [`entry`](Self::entry), and is taken only once.
    unsafe fn take(&self, cqe: Cqe) -> io::Result<Self::Connection>;

    fn belongs_to(&self, ring: RingId) -> bool {
        let _ = ring;
        true
    }
}

/// In the process's table of descriptors.
#[derive(Clone, Debug)]
pub(crate) struct Descriptors;

impl Landing for Descriptors {
    type Connection = OwnedFd;

    fn entry(&self, listener: &Target) -> squeue::Entry {
        opcode::AcceptMulti::new(listener.number()).flags(libc::SOCK_CLOEXEC).build()
    }

    unsafe fn take(&self, cqe: Cqe) -> io::Result<OwnedFd> {
        // SAFETY: by the caller's promise.
        unsafe { take_fd(cqe) }
    }
}

/// In slots that the kernel chooses.
#[derive(Clone, Debug)]
pub(crate) struct Slots {
    slots: FixedSlot,
    stream: bool,
}

impl Landing for Slots {
    type Connection = FixedFd;

    fn entry(&self, listener: &Target) -> squeue::Entry {
        // In a table without slots for the kernel it would choose among the others (see
        // `FileTable::with_kernel_slots`). This flag and a slot it refuses together, before it takes a
        // connection.
        let flags = if self.slots.number().is_some() { libc::SOCK_CLOEXEC } else { 0 };
        let accept = opcode::AcceptMulti::new(listener.number());
        accept.allocate_file_index(true).flags(flags).build()
    }

    unsafe fn take(&self, cqe: Cqe) -> io::Result<FixedFd> {
        let connection = self.slots.installed(cqe.to_result()?)?;
        connection.set_stream(self.stream);
        Ok(connection)
    }

    fn belongs_to(&self, ring: RingId) -> bool {
        self.slots.belongs_to(ring)
    }
}

pub(crate) struct AcceptSource<L> {
    listener: Target,
    landing: L,
    tally: Tally,
    no_slot: u64,
}

impl<L: Landing> Source for AcceptSource<L> {
    type Operation = AcceptMulti<L>;
    type Item = L::Connection;
    const WHAT: &'static str = "a multishot accept";

    fn operation(&self) -> AcceptMulti<L> {
        AcceptMulti {
            listener: self.listener.clone(),
            landing: self.landing.clone(),
            tally: self.tally.clone(),
        }
    }

    fn ready(&mut self, _ended: Option<EndReason>) -> bool {
        true
    }

    fn end(&self, _cqe: Cqe) -> Option<EndReason> {
        None
    }

    fn take(&mut self, cqe: Cqe) -> Option<L::Connection> {
        self.no_slot += u64::from(cqe.result == -libc::ENFILE);
        self.tally.take(&self.landing, cqe)
    }

    fn discard(&mut self, cqe: Cqe) {
        self.tally.close(&self.landing, cqe);
    }
}

/// `accept` with `IORING_ACCEPT_MULTISHOT`.
pub(crate) struct AcceptMulti<L> {
    listener: Target,
    landing: L,
    tally: Tally,
}

// SAFETY: the entry points to nothing; the operation owns the descriptor.
unsafe impl<L: Landing> Prepare for AcceptMulti<L> {
    fn target(&self) -> Option<&Target> {
        Some(&self.listener)
    }

    fn entry(&mut self, _ring: RingId) -> squeue::Entry {
        self.landing.entry(&self.listener)
    }

    fn belongs_to(&self, ring: RingId) -> bool {
        self.landing.belongs_to(ring)
    }

    fn discard(&mut self, cqe: Cqe) {
        self.tally.close(&self.landing, cqe);
    }
}
