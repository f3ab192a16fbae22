//! Connections behind tokio: as many as were allowed, and as much memory as the other front end has for them.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{sleep, timeout_at};

use super::{Outcome, Shards, TICK, carry_out, with_first};
use crate::server::budget::CONNECTIONS;
use crate::server::seats::OWN;
use crate::server::tcp::{CHUNK, SHUT_OUT, TOO_MANY};
use crate::shard::FULL;
use crate::stats::{Figure, Stats};

/// What all connections share.
pub struct Shared {
    shards: Shards,
    stats: Arc<Stats>,
    /// Connections that may still come.
    places: Arc<Semaphore>,
    /// Bytes that they may still have beyond [their own](OWN).
    bytes: Semaphore,
    /// Those who wait for bytes.
    waiting: AtomicUsize,
    /// How long bytes may be kept that others wait for.
    patience: Duration,
}

impl Shared {
    pub fn new(shards: Shards, stats: Arc<Stats>, places: usize, patience: Duration) -> Self {
        let bytes = Semaphore::new(CONNECTIONS * shards.len());
        let places = Arc::new(Semaphore::new(places.min(Semaphore::MAX_PERMITS)));
        Self { shards, stats, places, bytes, waiting: AtomicUsize::new(0), patience }
    }

    /// Shows how many bytes are taken.
    pub fn show(&self) {
        let taken = CONNECTIONS * self.shards.len() - self.bytes.available_permits();
        with_first(&self.shards, || self.stats.set(0, Figure::ConnectionBytes, taken as u64));
    }

    /// Adds to a state, which wraps round.
    fn count(&self, figure: Figure, n: u64) {
        with_first(&self.shards, || self.stats.add(0, figure, n));
    }
}

/// Accepts connections for ever; an error is one that no waiting mends.
pub async fn accept(listener: TcpListener, shared: Arc<Shared>) -> io::Result<()> {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            // Out of descriptors: those who come wait until somebody has gone.
            Err(error)
                if matches!(Errno::from_io_error(&error), Some(Errno::MFILE | Errno::NFILE)) =>
            {
                sleep(TICK).await;
                continue;
            }
            // Who came has gone already.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
            Err(error) => return Err(error),
        };
        let Ok(place) = Arc::clone(&shared.places).try_acquire_owned() else {
            shared.count(Figure::Rejected, 1);
            tell(&stream, TOO_MANY);
            continue;
        };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let _place = place;
            shared.count(Figure::Connections, 1);
            let mut connection = Connection::new(&shared, stream);
            // However it ends, the other end knows.
            let _ended = connection.serve().await;
            connection.leave();
            shared.count(Figure::Connections, u64::MAX);
        });
    }
}

/// A few bytes have room in the socket; and it ends anyway.
fn tell(stream: &TcpStream, text: &str) {
    let _told = stream.try_write(text.as_bytes());
}

struct Connection<'a> {
    shared: &'a Shared,
    stream: TcpStream,
    /// What has come and is not carried out.
    input: Vec<u8>,
    out: Vec<u8>,
    /// What it has beyond its own, for a long request and for long answers.
    of_input: Held<'a>,
    of_out: Held<'a>,
    /// Since when it has any of that.
    since: Option<Instant>,
    /// An answer is on its way, and nothing else can be said.
    sending: bool,
    shut_out: bool,
}

type Held<'a> = Option<SemaphorePermit<'a>>;

impl<'a> Connection<'a> {
    fn new(shared: &'a Shared, stream: TcpStream) -> Self {
        Self {
            shared,
            stream,
            input: Vec::new(),
            out: Vec::new(),
            of_input: None,
            of_out: None,
            since: None,
            sending: false,
            shut_out: false,
        }
    }

    async fn serve(&mut self) -> io::Result<()> {
        self.stream.set_nodelay(true)?;
        let (mut chunk, mut skip) = (vec![0; CHUNK], 0);
        loop {
            let since = self.since();
            let read = self.stream.read(&mut chunk);
            let length = patient(self.shared, since, &mut self.shut_out, read).await??;
            if length == 0 {
                return Ok(());
            }
            let skipped = length.min(skip);
            skip -= skipped;
            self.input.extend_from_slice(&chunk[skipped..length]);
            let mut used = 0;
            let more = match self.carry_out(&mut used).await? {
                Outcome::Close => return Ok(()),
                Outcome::More(length) => length,
                _ => 0,
            };
            skip += used.saturating_sub(self.input.len());
            self.input.drain(..used.min(self.input.len()));
            self.expect(more).await?;
        }
    }

    /// Carries out what has come, and sends the answers.
    async fn carry_out(&mut self, used: &mut usize) -> io::Result<Outcome> {
        let mut progress = 0;
        loop {
            // Memory grows to the next power of two.
            let room = if self.of_out.is_some() { FULL } else { OWN / 2 };
            let out = (&mut self.out, room);
            let outcome = carry_out(&self.shared.shards, &self.input, used, &mut progress, out);
            if outcome == Outcome::Full && self.out.is_empty() {
                // The answer is a long one.
                self.of_out = Some(self.take(FULL).await?);
                continue;
            }
            self.sending = true;
            let since = self.since();
            let sent = self.stream.write_all(&self.out);
            patient(self.shared, since, &mut self.shut_out, sent).await??;
            self.sending = false;
            self.out.clear();
            self.out.shrink_to(OWN);
            self.of_out = None;
            if outcome != Outcome::Full {
                return Ok(outcome);
            }
        }
    }

    /// Has memory for a request of so many bytes, and what comes with its end, as soon as there is so much.
    async fn expect(&mut self, length: usize) -> io::Result<()> {
        let capacity = length + CHUNK;
        if capacity <= OWN {
            self.input.shrink_to(OWN);
            self.of_input = None;
        } else if capacity > self.input.capacity() {
            let held = self.of_input.as_ref().map_or(0, SemaphorePermit::num_permits);
            let more = self.take((capacity - OWN).saturating_sub(held)).await?;
            match &mut self.of_input {
                Some(held) => held.merge(more),
                none => *none = Some(more),
            }
            self.input.reserve_exact(capacity - self.input.len());
        }
        Ok(())
    }

    /// Takes so many bytes, when they are there.
    async fn take(&mut self, bytes: usize) -> io::Result<SemaphorePermit<'a>> {
        let shared = self.shared;
        let bytes = u32::try_from(bytes).map_err(io::Error::other)?;
        if let Ok(taken) = shared.bytes.try_acquire_many(bytes) {
            return Ok(taken);
        }
        let _one_more = Waiting::new(&shared.waiting);
        let taken = shared.bytes.acquire_many(bytes);
        let since = self.since();
        let taken = patient(shared, since, &mut self.shut_out, taken).await?;
        taken.map_err(io::Error::other)
    }

    /// Since when it has what others may wait for.
    fn since(&mut self) -> Option<Instant> {
        let keeps = self.of_input.is_some() || self.of_out.is_some();
        self.since = keeps.then(|| self.since.unwrap_or_else(Instant::now));
        self.since
    }

    /// Counts how it ends, and says it where that can be said.
    fn leave(&self) {
        if self.shut_out {
            self.shared.count(Figure::ShutOut, 1);
            if !self.sending {
                tell(&self.stream, SHUT_OUT);
            }
        }
    }
}

/// Waits for the client or for memory: not for ever where memory is kept, since then, that others wait for.
async fn patient<F: Future>(
    shared: &Shared,
    since: Option<Instant>,
    shut_out: &mut bool,
    future: F,
) -> io::Result<F::Output> {
    let Some(since) = since else { return Ok(future.await) };
    let mut future = pin!(future);
    loop {
        let too_long = since.elapsed() >= shared.patience;
        if too_long && shared.waiting.load(Ordering::Relaxed) > 0 {
            *shut_out = true;
            return Err(io::Error::other("it has kept memory for too long"));
        }
        let next_look = if too_long { Instant::now() + TICK } else { since + shared.patience };
        if let Ok(output) = timeout_at(next_look.into(), &mut future).await {
            return Ok(output);
        }
    }
}

/// One who waits, for as long as this is there.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
