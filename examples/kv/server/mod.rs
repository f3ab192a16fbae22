//! What a worker is made of: a shard with its log, and the ways in.

pub mod assembly;
pub mod budget;
pub mod handover;
pub mod seats;
pub mod tcp;
pub mod tokio;
pub mod udp;
mod wake;
pub mod worker;

use std::rc::Rc;

use bypass_io::Transmit;
use bypass_io::io_uring::Ring;

use crate::Result;
use crate::log::Log;
use crate::protocol::{Parsed, Request, parse};
use crate::shard::{Change, Next, Shard};
use crate::stats::Figure;
use crate::store::Store;

/// Bytes of the kernel's queue of datagrams: some 10 ms of requests.
pub const QUEUE: usize = 4 << 20;

/// Whom a request that was handed over is answered.
#[derive(Clone, Copy, Debug)]
pub enum Back {
    /// A datagram's sender, and the number of its request.
    Udp { request: u16, transmit: Transmit },
    /// The connection that sits there.
    Tcp { seat: usize },
}

/// How far requests were carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// To their end.
    Done,
    /// What is left is not a whole request; so many bytes of it have to be there.
    More(usize),
    /// Up to one that another shard has to go on with.
    Shard(usize),
    /// Up to where the answer has no more room: it has to be sent first.
    Full,
    /// To the end of the connection.
    Close,
}

/// A shard with its log: everything of a worker that requests change.
pub struct Core {
    pub shard: Shard,
    pub log: Option<Log>,
    ring: Rc<Ring>,
    /// Why the log does not go on.
    failure: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Core {
    pub fn new(shard: Shard, log: Option<Log>, ring: Rc<Ring>) -> Self {
        Self { shard, log, ring, failure: None }
    }

    /// Carries out the requests of `bytes` from `used` on, as far as their answer has `room`. `progress` is how
    /// much of the first is done. The number is what their answer has to wait for.
    pub fn run(
        &mut self,
        bytes: &[u8],
        used: &mut usize,
        progress: &mut usize,
        (out, room): (&mut Vec<u8>, usize),
    ) -> (Outcome, Option<u64>) {
        let mut changes = false;
        let Self { shard, log, ring, failure } = self;
        let mut changed = |store: &mut Store, change: Change<'_>| {
            changes = true;
            if let Some(log) = log
                && let Err(error) = log.append(ring, store, change)
            {
                failure.get_or_insert(error);
            }
        };
        let outcome = carry_out_all(shard, bytes, used, progress, (out, room), &mut changed);
        let log = log.as_ref().filter(|_| changes);
        (outcome, log.and_then(Log::ticket))
    }

    /// The last group of the log that is on the disk.
    pub fn durable(&self) -> u64 {
        self.log.as_ref().map_or(u64::MAX, Log::durable)
    }

    /// Goes on with the log. Whether something was done.
    pub fn turn(&mut self) -> Result<bool> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        let Some(log) = &mut self.log else { return Ok(false) };
        let done = log.turn(&self.ring)?;
        if done {
            let counters = log.counters();
            for (figure, value) in [
                (Figure::LogCommits, counters.commits),
                (Figure::LogBytes, counters.bytes),
                (Figure::Snapshots, counters.snapshots),
            ] {
                self.shard.stats.set(self.shard.index, figure, value);
            }
        }
        Ok(done)
    }

    /// Tells the time, in seconds since 1970.
    pub fn tick(&mut self, now: u32) -> Result {
        let store = &mut self.shard.store;
        if store.tick(now)
            && let Some(log) = &mut self.log
        {
            log.append(&self.ring, store, Change::Flushed(None))?;
        }
        store.sweep(SWEEP);
        self.shard.publish();
        Ok(())
    }
}

/// Buckets that are searched for dead items each second.
const SWEEP: usize = 4096;

/// Carries out requests one after the other, as far as their answer has `room`.
pub fn carry_out_all(
    shard: &mut Shard,
    bytes: &[u8],
    used: &mut usize,
    progress: &mut usize,
    (out, room): (&mut Vec<u8>, usize),
    changed: &mut impl FnMut(&mut Store, Change<'_>),
) -> Outcome {
    while let Some(rest) = bytes.get(*used..).filter(|rest| !rest.is_empty()) {
        // Many short requests, each with an answer.
        if out.len() >= room {
            return Outcome::Full;
        }
        let (request, length) = match parse(rest) {
            Parsed::Request(Request::Quit, _) | Parsed::Hopeless => return Outcome::Close,
            Parsed::Request(request, length) => (request, length),
            Parsed::More(length) => return Outcome::More(length),
        };
        match shard.carry_out(&request, progress, (out, room), changed) {
            Next::Done => (*used, *progress) = (*used + length, 0),
            Next::Shard(owner) => return Outcome::Shard(owner),
            Next::Full => return Outcome::Full,
        }
    }
    Outcome::Done
}
