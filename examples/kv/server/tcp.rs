//! The way in for connections: one submission accepts all of them.

use std::cell::Cell;
use std::rc::Rc;

use bypass_io::io_uring::driver::LocalExecutor;
use bypass_io::io_uring::net::{TcpListener, TcpStream};

use super::seats::{Holder, OWN, Shared};
use super::{Back, Outcome};
use crate::Result;
use crate::stats::Figure;

/// Bytes that a connection receives at once. It receives no more before they are carried out: who does not read
/// answers is not listened to either.
pub const CHUNK: usize = 16 << 10;

pub const TOO_MANY: &str = "ERROR Too many open connections\r\n";
pub const SHUT_OUT: &str = "SERVER_ERROR out of memory reading request\r\n";

/// Accepts connections until the ring is told to end, so many at a time.
pub async fn accept(
    shared: Rc<Shared>,
    listener: std::net::TcpListener,
    most: usize,
    executor: Rc<LocalExecutor<'static>>,
) -> Result {
    let listener = TcpListener::from_std(&shared.ring, listener);
    let (mut incoming, open) = (listener.incoming(), Rc::new(Cell::new(0)));
    loop {
        let stream = match incoming.next().await {
            Ok(Some(stream)) => stream,
            Ok(None) => return Ok(()),
            // Out of descriptors: those who come wait until somebody has gone.
            Err(error) if error.is_out_of_descriptors() => {
                shared.wait_for_others().await;
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        if open.get() == most {
            shared.count(Figure::Rejected);
            // A few bytes have room in the socket; and it ends anyway.
            let _told = rustix::net::send(stream.fd(), TOO_MANY.as_bytes(), TELL);
            continue;
        }
        open.set(open.get() + 1);
        let (shared, open) = (Rc::clone(&shared), Rc::clone(&open));
        let connection = async move {
            let (stats, index) = {
                let core = shared.core.borrow();
                (core.shard.stats.clone(), core.shard.index)
            };
            stats.add(index, Figure::Connections, 1);
            let mut connection = Connection::new(&shared, stream);
            // However it ends, the other end knows.
            let _ended = connection.serve().await;
            if connection.holder.is_shut_out() && !connection.holder.sending.get() {
                let _told = rustix::net::send(connection.stream.fd(), SHUT_OUT.as_bytes(), TELL);
            }
            stats.disconnected(index);
            open.set(open.get() - 1);
        };
        executor.spawn(connection).detach();
    }
}

const TELL: rustix::net::SendFlags =
    rustix::net::SendFlags::DONTWAIT.union(rustix::net::SendFlags::NOSIGNAL);

struct Connection<'a> {
    shared: &'a Shared,
    stream: TcpStream,
    seat: usize,
    holder: Rc<Holder>,
    /// What has come and is not carried out.
    input: Vec<u8>,
    out: Vec<u8>,
    /// What the answer waits for.
    ticket: Option<u64>,
}

impl Drop for Connection<'_> {
    fn drop(&mut self) {
        self.shared.stand_up(self.seat, &self.holder);
    }
}

impl<'a> Connection<'a> {
    fn new(shared: &'a Shared, stream: TcpStream) -> Self {
        let (seat, holder) = shared.sit_down(&stream);
        Self { shared, stream, seat, holder, input: Vec::new(), out: Vec::new(), ticket: None }
    }

    async fn serve(&mut self) -> Result {
        self.stream.set_nodelay(true)?;
        let mut chunk = Vec::with_capacity(CHUNK);
        // Bytes of a value too large, which go by.
        let mut skip = 0;
        loop {
            let read = self.stream.read(chunk).map_err(|refused| refused.why)?.await?;
            chunk = read.buf;
            if read.result? == 0 || self.holder.is_shut_out() {
                return Ok(());
            }
            let skipped = chunk.len().min(skip);
            skip -= skipped;
            self.input.extend_from_slice(&chunk[skipped..]);
            chunk.clear();
            let mut used = 0;
            let more = self.carry_out(&mut used).await?;
            self.flush().await?;
            let Some(more) = more else { return Ok(()) };
            skip += used.saturating_sub(self.input.len());
            self.input.drain(..used.min(self.input.len()));
            self.expect(more).await?;
        }
    }

    /// Has memory for a request of so many bytes, and what comes with its end, as soon as there is so much. Who
    /// has to wait for it keeps nothing meanwhile, so those who wait do not wait for each other.
    async fn expect(&mut self, length: usize) -> Result {
        let capacity = length + CHUNK;
        if capacity <= OWN {
            self.input.shrink_to(OWN);
            self.keep();
        } else if capacity > self.input.capacity() {
            let taken = beyond_own(capacity) - beyond_own(self.input.capacity());
            self.shared.take(&self.holder, taken).await?;
            self.input.reserve_exact(capacity - self.input.len());
            self.shared.keep_of(&self.holder, self.bytes(), taken);
        }
        Ok(())
    }

    /// Bytes that it has beyond its own.
    fn bytes(&self) -> usize {
        beyond_own(self.input.capacity()) + beyond_own(self.out.capacity())
    }

    fn keep(&self) {
        self.shared.keep(&self.holder, self.bytes());
    }

    /// Carries out what has come, and says how many bytes have to be there for more; `None` is the end.
    async fn carry_out(&mut self, used: &mut usize) -> Result<Option<usize>> {
        let mut progress = 0;
        loop {
            let (mut outcome, ticket) = {
                let mut core = self.shared.core.borrow_mut();
                let out = (&mut self.out, self.shared.room());
                core.run(&self.input, used, &mut progress, out)
            };
            self.keep();
            self.ticket = ticket.or(self.ticket);
            if let Outcome::Shard(to) = outcome {
                outcome = self.hand_over(to, used, &mut progress).await?;
            }
            match outcome {
                Outcome::Done => return Ok(Some(0)),
                Outcome::More(length) => return Ok(Some(length)),
                Outcome::Close => return Ok(None),
                Outcome::Full => self.make_room().await?,
                Outcome::Shard(_) => {}
            }
        }
    }

    /// Sends what there is of the answer; without any there is no memory for more.
    async fn make_room(&mut self) -> Result {
        if self.out.is_empty() {
            return self.shared.wait_for_room(&self.holder).await;
        }
        self.flush().await
    }

    /// Has other shards go on, as far as they can.
    async fn hand_over(
        &mut self,
        to: usize,
        used: &mut usize,
        progress: &mut usize,
    ) -> Result<Outcome> {
        if self.out.len() > OWN {
            self.flush().await?;
        }
        let shared = self.shared;
        let mut envelope = shared.home.until(|| shared.handover.borrow_mut().envelope()).await;
        envelope.back = Some(Back::Tcp { seat: self.seat });
        (envelope.used, envelope.progress) = (*used, *progress);
        // What has come travels itself, and is nowhere twice.
        std::mem::swap(&mut envelope.requests, &mut self.input);
        shared.count(Figure::HandedOver);
        shared.handover.borrow_mut().send(to, envelope);
        let mut envelope = shared.answer(self.seat).await;
        std::mem::swap(&mut envelope.requests, &mut self.input);
        (*used, *progress) = (envelope.used, envelope.progress);
        self.out.extend_from_slice(&envelope.answer);
        self.keep();
        let outcome = envelope.done.unwrap_or(Outcome::Done);
        shared.handover.borrow_mut().recycle(envelope);
        // One who waits for an envelope can go on.
        shared.home.wake();
        Ok(outcome)
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
            self.holder.sending.set(true);
            let sent = self.stream.write(out).map_err(|refused| refused.why)?.await?;
            if sent.result? < length {
                return Err("the connection failed".into());
            }
            self.holder.sending.set(false);
            self.out = sent.buf;
            self.out.clear();
            self.out.shrink_to(OWN);
            self.keep();
        }
        Ok(())
    }
}

/// Of so many bytes of memory, those beyond what each connection has.
fn beyond_own(capacity: usize) -> usize {
    capacity.saturating_sub(OWN)
}
