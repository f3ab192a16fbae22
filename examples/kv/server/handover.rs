//! From shard to shard: requests that arrived at the wrong one.
//!
//! A request travels in an [`Envelope`], with the answer as far as it goes: a `get` of many keys visits the
//! shards that have them in the order of the keys, and comes home with the whole answer. Each shard has a
//! fixed number of envelopes, made at the start, so that nothing is allocated when one is sent, no ring can
//! overflow, and a shard that falls behind is noticed where the requests arrive: there are no envelopes left.
//! What requests and answers take is [budgeted](super::budget).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};

use rtrb::{Consumer, Producer, RingBuffer};
use rustix::event::{EventfdFlags, eventfd};

use super::Outcome;
use super::budget::Budgets;
use super::seats::room;

/// Envelopes of each shard.
pub const ENVELOPES: usize = 512;
/// Room for a request or an answer that an envelope has from the beginning.
pub const ROOM: usize = 4096;
/// How often a shard hands over what one datagram, or several, asked for. A shard looks for the end of the
/// line each time, which is far away in a `get` of very many keys.
const HOPS: u32 = 4096;
/// Bytes of the largest memory of a request or an answer that is kept to be used again.
pub const KEPT: usize = 16 << 10;

/// A request on its way, and what its home remembers about it.
pub struct Envelope<Back> {
    /// Where it came from and is answered.
    pub home: usize,
    /// Whom to answer.
    pub back: Option<Back>,
    pub requests: Vec<u8>,
    /// Bytes of them that are finished.
    pub used: usize,
    /// How much of the next is done.
    pub progress: usize,
    /// Shards that it may still be sent to.
    pub hops: u32,
    pub answer: Vec<u8>,
    /// It comes home, carried out so far.
    pub done: Option<Outcome>,
    /// Bytes that are taken for it from its home's budgets.
    charged: Charged,
}

#[derive(Default)]
struct Charged {
    requests: usize,
    answer: usize,
    /// From the budget of connections.
    connection: bool,
}

impl<Back> Envelope<Back> {
    /// Bytes that the answer has beyond the room that it has always, and that are not taken yet.
    fn grown(&self) -> usize {
        self.answer.len().saturating_sub(ROOM).saturating_sub(self.charged.answer)
    }
}

/// Wakes a shard that sleeps.
pub struct Bell {
    asleep: AtomicBool,
    event: OwnedFd,
}

impl Bell {
    fn new() -> io::Result<Self> {
        let event = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        Ok(Self { asleep: AtomicBool::new(false), event })
    }

    fn ring(&self) {
        // What was put into the ring must be seen by whom this finds awake.
        fence(Ordering::SeqCst);
        if self.asleep.swap(false, Ordering::Relaxed) {
            // It can only fail when the counter is full, and then it is readable.
            let _full = rustix::io::write(&self.event, &1_u64.to_ne_bytes());
        }
    }
}

/// The ends of all rings that belong to one shard.
pub struct Handover<Back> {
    index: usize,
    to: Vec<Option<Producer<Box<Envelope<Back>>>>>,
    from: Vec<Option<Consumer<Box<Envelope<Back>>>>>,
    bells: Arc<[Bell]>,
    /// Those of all shards.
    budgets: Arc<[Arc<Budgets>]>,
    spare: Vec<Box<Envelope<Back>>>,
}

/// Rings between each two of so many shards.
pub fn between<Back>(shards: usize) -> io::Result<Vec<Handover<Back>>> {
    let bells: Arc<[Bell]> = (0..shards).map(|_| Bell::new()).collect::<io::Result<_>>()?;
    let budgets: Arc<[_]> = (0..shards).map(|_| Arc::default()).collect();
    let envelope = |home| {
        Box::new(Envelope {
            home,
            back: None,
            requests: Vec::with_capacity(ROOM),
            used: 0,
            progress: 0,
            hops: HOPS,
            answer: Vec::with_capacity(ROOM),
            done: None,
            charged: Charged::default(),
        })
    };
    let mut all: Vec<_> = (0..shards)
        .map(|index| Handover {
            index,
            to: (0..shards).map(|_| None).collect(),
            from: (0..shards).map(|_| None).collect(),
            bells: Arc::clone(&bells),
            budgets: Arc::clone(&budgets),
            spare: (0..if shards > 1 { ENVELOPES } else { 0 }).map(|_| envelope(index)).collect(),
        })
        .collect();
    for from in 0..shards {
        for to in (0..shards).filter(|&to| to != from) {
            // All envelopes that there are have room in each.
            let (producer, consumer) = RingBuffer::new(shards * ENVELOPES);
            all[from].to[to] = Some(producer);
            all[to].from[from] = Some(consumer);
        }
    }
    Ok(all)
}

impl<Back> Handover<Back> {
    /// An envelope to send something in, if one is left.
    pub fn envelope(&mut self) -> Option<Box<Envelope<Back>>> {
        self.spare.pop()
    }

    /// Memory that this shard gives to datagrams.
    pub fn budgets(&self) -> &Arc<Budgets> {
        &self.budgets[self.index]
    }

    /// Puts requests into an envelope, whose bytes have been taken from this shard's budget.
    pub fn put(&self, requests: &[u8], envelope: &mut Envelope<Back>) {
        envelope.requests.extend_from_slice(requests);
        envelope.charged.requests += requests.len();
    }

    /// Takes what an answer has grown by, beyond the room that it has always, from the budget of its home; false
    /// when there is not so much left.
    #[must_use]
    pub fn charge_answer(&self, envelope: &mut Envelope<Back>) -> bool {
        let grown = envelope.grown();
        let charge = grown == 0 || self.budgets[envelope.home].answers.take(grown);
        envelope.charged.answer += if charge { grown } else { 0 };
        charge
    }

    /// Bytes that an answer to a connection may have now.
    pub fn room_of_connection(&self, envelope: &Envelope<Back>) -> usize {
        room(&self.budgets[envelope.home])
    }

    /// Takes what an answer to a connection has, wherever that leads: [room](Self::room_of_connection) was asked for.
    pub fn charge_connection(&self, envelope: &mut Envelope<Back>) {
        let grown = envelope.grown();
        self.budgets[envelope.home].connections.overdraw(grown);
        envelope.charged.answer += grown;
        envelope.charged.connection = true;
    }

    /// Takes an envelope back that has come home.
    pub fn recycle(&mut self, mut envelope: Box<Envelope<Back>>) {
        let Charged { requests, answer, connection } = std::mem::take(&mut envelope.charged);
        if connection {
            self.budgets().connections.give(requests + answer);
        } else {
            self.budgets().requests.give(requests);
            self.budgets().answers.give(answer);
        }
        envelope.back = None;
        for memory in [&mut envelope.requests, &mut envelope.answer] {
            memory.clear();
            if memory.capacity() > KEPT {
                memory.shrink_to(ROOM);
            }
        }
        (envelope.used, envelope.progress, envelope.hops, envelope.done) = (0, 0, HOPS, None);
        self.spare.push(envelope);
    }

    /// Sends it to another shard.
    pub fn send(&mut self, to: usize, envelope: Box<Envelope<Back>>) {
        let refused = match &mut self.to[to] {
            Some(ring) => ring.push(envelope).err().map(|error| error.to_string()),
            None => Some("a shard sends nothing to itself".to_owned()),
        };
        debug_assert_eq!(refused, None, "all envelopes that there are have room in a ring");
        self.bells[to].ring();
    }

    /// The next one that has arrived.
    pub fn receive(&mut self) -> Option<Box<Envelope<Back>>> {
        self.from.iter_mut().flatten().find_map(|ring| ring.pop().ok())
    }

    /// Says that this shard is going to sleep; false when something has arrived, and it must not.
    pub fn fall_asleep(&self) -> bool {
        self.bells[self.index].asleep.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        let arrived = self.from.iter().flatten().any(|ring| !ring.is_empty());
        if arrived {
            self.wake_up();
        }
        !arrived
    }

    /// Says that it does not sleep any more.
    pub fn wake_up(&self) {
        let bell = &self.bells[self.index];
        if !bell.asleep.swap(false, Ordering::Relaxed) {
            // Somebody has rung, or will have in a moment; then it is readable once more for nothing.
            let _nothing = rustix::io::read(&bell.event, &mut [0_u8; 8]);
        }
    }

    /// What becomes readable when somebody rings.
    pub fn bell(&self) -> BorrowedFd<'_> {
        self.bells[self.index].event.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two shards send all their envelopes to and fro, sleeping whenever there is nothing: a bell that is
    /// not heard ends in the time limit.
    #[test]
    fn nothing_is_lost_and_everybody_wakes() {
        const ROUNDS: usize = 20_000;
        let shards = between::<usize>(2).unwrap();
        let threads = shards.into_iter().map(|mut shard| {
            std::thread::spawn(move || {
                let (mut sent, mut home, mut forwarded) = (0, 0, 0);
                let other = 1 - shard.index;
                while home < ROUNDS || forwarded < ROUNDS {
                    while sent < ROUNDS
                        && let Some(mut envelope) = shard.envelope()
                    {
                        envelope.back = Some(sent);
                        envelope.requests.extend_from_slice(&sent.to_le_bytes());
                        shard.send(other, envelope);
                        sent += 1;
                    }
                    let mut received = 0;
                    while let Some(mut envelope) = shard.receive() {
                        received += 1;
                        if envelope.home == shard.index {
                            assert_eq!(envelope.answer, envelope.back.unwrap().to_le_bytes());
                            home += 1;
                            shard.recycle(envelope);
                        } else {
                            forwarded += 1;
                            let Envelope { requests, answer, .. } = &mut *envelope;
                            answer.extend_from_slice(requests);
                            shard.send(other, envelope);
                        }
                    }
                    if received == 0 && (home < ROUNDS || forwarded < ROUNDS) && shard.fall_asleep()
                    {
                        let bell = shard.bell();
                        let mut fds =
                            [rustix::event::PollFd::new(&bell, rustix::event::PollFlags::IN)];
                        let limit = rustix::time::Timespec { tv_sec: 20, tv_nsec: 0 };
                        let woken = rustix::event::poll(&mut fds, Some(&limit)).unwrap();
                        assert_eq!(woken, 1, "nobody rang");
                        shard.wake_up();
                    }
                }
                (shard.spare.len(), shard)
            })
        });
        let threads: Vec<_> = threads.collect();
        let ends: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        assert!(ends.iter().all(|(spare, _)| *spare == ENVELOPES));
    }
}
