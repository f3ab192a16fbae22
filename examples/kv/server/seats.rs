//! What the connections of a worker share: where each sits, what it keeps, and who waits for whom.
//!
//! A connection has [`OWN`] bytes for requests and as many for answers. What it needs beyond that comes from the
//! shard's [budget](super::budget), for a whole request at once: it waits where so much is not left, and so does its
//! client, from whom no more is received. Short requests with short answers always have room. While somebody waits, who has kept such memory
//! for longer than he may is shut out: a client that sends a value in pieces for ever, or reads no answers.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bypass_io::io_uring::Ring;
use bypass_io::io_uring::net::TcpStream;
use rustix::net::{Shutdown, shutdown};

use super::budget::Budgets;
use super::handover::{Envelope, Handover};
use super::wake::Wakers;
use super::{Back, Core};
use crate::Result;
use crate::shard::FULL;
use crate::stats::Figure;

/// Bytes that a connection has for requests, and for answers, whatever others keep.
pub const OWN: usize = 32 << 10;

/// Bytes that an answer to a connection may have: what it has always, when more than there is has been taken.
pub fn room(budgets: &Budgets) -> usize {
    // Memory grows to the next power of two.
    if budgets.connections.is_overdrawn() { OWN / 2 } else { FULL }
}

/// What the tasks of a worker share with it. All are on its thread.
pub struct Shared {
    pub ring: Rc<Ring>,
    pub core: RefCell<Core>,
    pub handover: RefCell<Handover<Back>>,
    seats: RefCell<Vec<Seat>>,
    budgets: Arc<Budgets>,
    /// How long memory may be kept that others wait for.
    patience: Duration,
    waiting: Cell<usize>,
    /// Rung when envelopes have come home: with an answer, or to be used again.
    pub home: Wakers,
    /// Rung when a group of the log is on the disk.
    pub durable: Wakers,
    /// Rung when a connection has given memory back or has ended, and every second.
    given: Wakers,
    pub failure: RefCell<Option<Box<dyn std::error::Error + Send + Sync>>>,
}

#[derive(Default)]
struct Seat {
    taken: Option<Rc<Holder>>,
    /// That another shard gave.
    answer: Option<Box<Envelope<Back>>>,
}

/// What a connection keeps.
pub struct Holder {
    stream: TcpStream,
    bytes: Cell<usize>,
    since: Cell<Instant>,
    /// An answer is on its way, and nothing else can be said.
    pub sending: Cell<bool>,
    shut_out: Cell<bool>,
}

impl Holder {
    pub fn is_shut_out(&self) -> bool {
        self.shut_out.get()
    }
}

impl Shared {
    pub fn new(ring: Rc<Ring>, core: Core, handover: Handover<Back>, patience: Duration) -> Self {
        Self {
            ring,
            core: RefCell::new(core),
            budgets: Arc::clone(handover.budgets()),
            handover: RefCell::new(handover),
            seats: RefCell::default(),
            patience,
            waiting: Cell::new(0),
            home: Wakers::default(),
            durable: Wakers::default(),
            given: Wakers::default(),
            failure: RefCell::default(),
        }
    }

    pub fn count(&self, figure: Figure) {
        let shard = &self.core.borrow().shard;
        shard.stats.add(shard.index, figure, 1);
    }

    /// A free seat. One whose answer is still on its way is not free.
    pub fn sit_down(&self, stream: &TcpStream) -> (usize, Rc<Holder>) {
        let holder = Rc::new(Holder {
            stream: stream.clone(),
            bytes: Cell::new(0),
            since: Cell::new(Instant::now()),
            sending: Cell::new(false),
            shut_out: Cell::new(false),
        });
        let mut seats = self.seats.borrow_mut();
        let free = seats.iter().position(|seat| seat.taken.is_none());
        let seat = free.unwrap_or_else(|| {
            seats.push(Seat::default());
            seats.len() - 1
        });
        seats[seat].taken = Some(Rc::clone(&holder));
        (seat, holder)
    }

    /// A connection ends, and gives back what it has kept.
    pub fn stand_up(&self, seat: usize, holder: &Holder) {
        self.keep(holder, 0);
        if let Some(seat) = self.seats.borrow_mut().get_mut(seat) {
            seat.taken = None;
        }
        self.given.wake();
    }

    /// An answer for a connection has come home; for one that has gone meanwhile it is of no use.
    pub fn deliver(&self, seat: usize, envelope: Box<Envelope<Back>>) {
        let mut seats = self.seats.borrow_mut();
        match seats.get_mut(seat) {
            Some(seat) => seat.answer = Some(envelope),
            None => self.handover.borrow_mut().recycle(envelope),
        }
    }

    /// The answer that has come home to a seat.
    pub async fn answer(&self, seat: usize) -> Box<Envelope<Back>> {
        self.home.until(|| self.seats.borrow_mut().get_mut(seat)?.answer.take()).await
    }

    /// Bytes that an answer may have now.
    pub fn room(&self) -> usize {
        room(&self.budgets)
    }

    /// Takes so many bytes, when they are there; who waits for them may be shut out, too.
    pub async fn take(&self, holder: &Holder, bytes: usize) -> Result {
        self.wait(holder, || bytes == 0 || self.budgets.connections.take(bytes)).await
    }

    /// Waits until an answer may have as many bytes as any has.
    pub async fn wait_for_room(&self, holder: &Holder) -> Result {
        self.wait(holder, || !self.budgets.connections.is_overdrawn()).await
    }

    /// Waits until a connection gives back memory, or ends, or a second has begun.
    pub async fn wait_for_others(&self) {
        let mut asked = false;
        self.given.until(|| std::mem::replace(&mut asked, true).then_some(())).await;
    }

    async fn wait(&self, holder: &Holder, mut there: impl FnMut() -> bool) -> Result {
        if there() {
            return Ok(());
        }
        self.waiting.set(self.waiting.get() + 1);
        let done = || (there() || holder.is_shut_out()).then(|| !holder.is_shut_out());
        let got = self.given.until(done).await;
        self.waiting.set(self.waiting.get() - 1);
        if got { Ok(()) } else { Err("it has kept memory for too long".into()) }
    }

    /// Says how much a connection keeps by now, of which `taken` has been taken before.
    pub fn keep(&self, holder: &Holder, bytes: usize) {
        self.keep_of(holder, bytes, 0);
    }

    /// As [`keep`](Self::keep), where so many bytes have been [taken](Self::take) already.
    pub fn keep_of(&self, holder: &Holder, bytes: usize, taken: usize) {
        let before = holder.bytes.replace(bytes);
        if before == 0 {
            holder.since.set(Instant::now());
        }
        let budget = &self.budgets.connections;
        budget.overdraw(bytes);
        budget.give(before + taken);
        if bytes < before {
            self.given.wake();
        }
    }

    /// Each second: shuts out who has kept for too long what others wait for.
    pub fn tick(&self, core: &Core) {
        let (stats, index) = (&core.shard.stats, core.shard.index);
        stats.set(index, Figure::ConnectionBytes, self.budgets.connections.taken() as u64);
        if self.waiting.get() > 0 {
            for holder in self.seats.borrow().iter().filter_map(|seat| seat.taken.as_ref()) {
                let too_long = holder.since.get().elapsed() >= self.patience;
                if holder.bytes.get() == 0 || !too_long {
                    continue;
                }
                stats.add(index, Figure::ShutOut, u64::from(!holder.shut_out.replace(true)));
                // What is received or sent ends with it. Who has no answer on its way can be told.
                let how = if holder.sending.get() { Shutdown::Both } else { Shutdown::Read };
                // It may have gone already.
                let _gone = shutdown(holder.stream.fd(), how);
            }
        }
        self.given.wake();
    }
}
