//! The way in for connections: one submission accepts all of them, one each receives all that comes.

use std::cell::RefCell;
use std::rc::Rc;

use bypass_io::io_uring::buf::BufPool;
use bypass_io::io_uring::buf_ring::BufRing;
use bypass_io::io_uring::driver::LocalExecutor;
use bypass_io::io_uring::net::{TcpListener, TcpStream};
use bypass_io::io_uring::{Local, Ring};

use super::handover::{Envelope, Handover};
use super::wake::Wakers;
use super::{Back, Core, Outcome};
use crate::Result;
use crate::stats::Figure;

/// Bytes of a receive buffer, and how many there are.
const BUFFER: usize = 16 << 10;
const BUFFERS: usize = 1024;

/// What the tasks of a worker share with it. All are on its thread.
pub struct Shared {
    pub ring: Rc<Ring>,
    pub core: RefCell<Core>,
    pub handover: RefCell<Handover<Back>>,
    /// Where connections sit, and find the answers that other shards gave.
    seats: RefCell<Vec<Seat>>,
    /// Rung when envelopes have come home: with an answer, or to be used again.
    pub home: Wakers,
    /// Rung when a group of the log is on the disk.
    pub durable: Wakers,
    pub failure: RefCell<Option<Box<dyn std::error::Error + Send + Sync>>>,
}

#[derive(Default)]
struct Seat {
    taken: bool,
    answer: Option<Box<Envelope<Back>>>,
}

impl Shared {
    pub fn new(ring: Rc<Ring>, core: Core, handover: Handover<Back>) -> Self {
        Self {
            ring,
            core: RefCell::new(core),
            handover: RefCell::new(handover),
            seats: RefCell::default(),
            home: Wakers::default(),
            durable: Wakers::default(),
            failure: RefCell::default(),
        }
    }

    /// An answer for a connection has come home; for one that has gone meanwhile it is of no use.
    pub fn deliver(&self, seat: usize, envelope: Box<Envelope<Back>>) {
        let mut seats = self.seats.borrow_mut();
        match seats.get_mut(seat) {
            Some(seat) => seat.answer = Some(envelope),
            None => self.handover.borrow_mut().recycle(envelope),
        }
    }

    /// A free seat. One whose answer is still on its way is not free.
    fn sit_down(&self) -> usize {
        let mut seats = self.seats.borrow_mut();
        let free = seats.iter().position(|seat| !seat.taken);
        let seat = free.unwrap_or_else(|| {
            seats.push(Seat::default());
            seats.len() - 1
        });
        seats[seat].taken = true;
        seat
    }
}

/// Accepts connections until the ring is told to end.
pub async fn accept(
    shared: Rc<Shared>,
    listener: std::net::TcpListener,
    executor: Rc<LocalExecutor<'static>>,
) -> Result {
    let ring = Rc::clone(&shared.ring);
    let buffers = BufRing::new(&ring, BUFFERS as u16, BufPool::local(BUFFER, BUFFERS)?)?;
    let listener = TcpListener::from_std(&ring, listener);
    let mut incoming = listener.incoming();
    while let Some(stream) = incoming.next().await? {
        let (shared, buffers) = (Rc::clone(&shared), buffers.clone());
        let connection = async move {
            let (stats, index) = {
                let core = shared.core.borrow();
                (core.shard.stats.clone(), core.shard.index)
            };
            stats.add(index, Figure::Connections, 1);
            // However it ends, the other end knows.
            let _ended = Connection::new(&shared, stream).serve(&buffers).await;
            stats.disconnected(index);
        };
        executor.spawn(connection).detach();
    }
    Ok(())
}

struct Connection<'a> {
    shared: &'a Shared,
    stream: TcpStream,
    seat: usize,
    /// What has come and is not carried out.
    input: Vec<u8>,
    out: Vec<u8>,
    /// What the answer waits for.
    ticket: Option<u64>,
}

impl Drop for Connection<'_> {
    fn drop(&mut self) {
        if let Some(seat) = self.shared.seats.borrow_mut().get_mut(self.seat) {
            seat.taken = false;
        }
    }
}

impl<'a> Connection<'a> {
    fn new(shared: &'a Shared, stream: TcpStream) -> Self {
        let seat = shared.sit_down();
        Self { shared, stream, seat, input: Vec::new(), out: Vec::new(), ticket: None }
    }

    async fn serve(&mut self, buffers: &BufRing<BufPool, Local>) -> Result {
        self.stream.set_nodelay(true)?;
        let mut receiver = self.stream.receiver(buffers);
        // Bytes of a value too large, which go by.
        let mut skip = 0;
        while let Some(data) = receiver.recv().await? {
            let skipped = data.len().min(skip);
            skip -= skipped;
            self.input.extend_from_slice(&data[skipped..]);
            drop(data);
            let mut used = 0;
            let open = self.carry_out(&mut used).await?;
            self.flush().await?;
            if !open {
                break;
            }
            skip += used.saturating_sub(self.input.len());
            self.input.drain(..used.min(self.input.len()));
        }
        Ok(())
    }

    /// Carries out what has come; false is the end.
    async fn carry_out(&mut self, used: &mut usize) -> Result<bool> {
        let mut progress = 0;
        loop {
            let (outcome, ticket) = {
                let mut core = self.shared.core.borrow_mut();
                core.run(&self.input, used, &mut progress, &mut self.out)
            };
            self.ticket = ticket.or(self.ticket);
            match outcome {
                Outcome::Done | Outcome::More => return Ok(true),
                Outcome::Close => return Ok(false),
                Outcome::Full => self.flush().await?,
                Outcome::Shard(to, length) => {
                    let request = *used..self.input.len().min(*used + length);
                    progress = self.hand_over(to, request, progress).await?;
                    if progress == 0 {
                        *used += length;
                    } else {
                        self.flush().await?;
                    }
                }
            }
        }
    }

    /// Has another shard go on with a request; returns its progress, 0 when it is done.
    async fn hand_over(
        &mut self,
        to: usize,
        request: std::ops::Range<usize>,
        progress: usize,
    ) -> Result<usize> {
        let shared = self.shared;
        let home = &shared.home;
        let mut envelope = home.until(|| shared.handover.borrow_mut().envelope()).await;
        envelope.back = Some(Back::Tcp { seat: self.seat });
        envelope.requests.extend_from_slice(&self.input[request]);
        envelope.progress = progress;
        {
            let shard = &shared.core.borrow().shard;
            shard.stats.add(shard.index, Figure::HandedOver, 1);
        }
        shared.handover.borrow_mut().send(to, envelope);
        let seat = self.seat;
        let take = || shared.seats.borrow_mut().get_mut(seat)?.answer.take();
        let envelope = home.until(take).await;
        self.out.extend_from_slice(&envelope.answer);
        let progress = envelope.progress;
        shared.handover.borrow_mut().recycle(envelope);
        // One who waits for an envelope can go on.
        home.wake();
        Ok(progress)
    }

    /// Sends the answer when what it acknowledges is on the disk.
    async fn flush(&mut self) -> Result {
        if let Some(group) = self.ticket.take() {
            let shared = self.shared;
            let durable = || (shared.core.borrow().durable() >= group).then_some(());
            shared.durable.until(durable).await;
        }
        if !self.out.is_empty() {
            let out = std::mem::take(&mut self.out);
            let length = out.len();
            let sent = self.stream.write(out).map_err(|refused| refused.why)?.await?;
            if sent.result? < length {
                return Err("the connection failed".into());
            }
            self.out = sent.buf;
            self.out.clear();
        }
        Ok(())
    }
}
