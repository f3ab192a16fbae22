//! Messages sent through the ring.

use std::collections::VecDeque;
use std::io;

use bypass_core::Burst;
use bypass_core::pool::{Kind, PoolBuf};

use crate::mode::Local;
use crate::op::{DatagramFd, Message, SendMsg, SentMsg};
use crate::ring::state::State;
use crate::ring::{Pending, Ring};

/// Messages in flight, at most; only a polling kernel thread leaves any in flight.
pub(super) const MOST_IN_FLIGHT: usize = 128;

/// Buffers in a message, at most: `UDP_MAX_SEGMENTS` of every kernel that has `UDP_SEGMENT`.
const MOST_BUFFERS: usize = 64;

/// A message on its way between the ring and its next use.
type Packed<K> = Box<Message<PoolBuf<K>>>;

/// A message that the kernel has not finished with.
type Sending<K> = Pending<SendMsg<PoolBuf<K>>, Local>;

/// The ring's half of sending. `T` is what is known of a message.
#[derive(Debug)]
pub(super) struct RingTx<K: Kind, T> {
    socket: DatagramFd,
    /// Messages to fill, allocated once.
    spare: Vec<Packed<K>>,
    in_flight: VecDeque<(Sending<K>, T)>,
    /// Buffers in them.
    sending: u64,
    sqpoll: bool,
}

/// What became of a message.
pub(super) enum Fate {
    /// The kernel has it.
    Sent,
    /// It is in flight.
    Queued,
    /// It is back in the burst; with the kernel's error number, if it was asked.
    Refused(Option<i32>),
}

impl<K: Kind, T> RingTx<K, T> {
    pub(super) fn new(socket: DatagramFd, sqpoll: bool) -> Self {
        Self { socket, spare: Vec::new(), in_flight: VecDeque::new(), sending: 0, sqpoll }
    }

    /// Whether a kernel thread sends, so that messages are in flight.
    pub(super) fn is_sqpoll(&self) -> bool {
        self.sqpoll
    }

    pub(super) fn has_room(&self) -> bool {
        self.in_flight.len() < MOST_IN_FLIGHT
    }

    /// Buffers in flight.
    pub(super) fn sending(&self) -> u64 {
        self.sending
    }

    /// Sends the first `n` of `bufs` as one message, which `address` addresses. What is refused is
    /// put back in front.
    pub(super) fn send(
        &mut self,
        ring: &Ring<Local>,
        bufs: &mut Burst<PoolBuf<K>>,
        n: usize,
        known: T,
        address: impl FnOnce(&mut Message<PoolBuf<K>>),
    ) -> Fate {
        if !ring.inner.with(State::has_room).unwrap_or(false) {
            return Fate::Refused(None);
        }
        let mut message = self.spare.pop().unwrap_or_else(|| Message::with_capacity(MOST_BUFFERS));
        for buf in bufs.drain(n) {
            let _it_has_room_for_a_train = message.push(buf);
        }
        address(&mut message);
        let started = if self.sqpoll {
            // It waits for room in the socket's buffer instead of refusing.
            ring.push(SendMsg::new(self.socket.fd(), message))
        } else {
            ring.push_datagram(&self.socket, message)
        };
        let pending = match started {
            Ok(pending) => pending,
            Err(refused) => {
                self.put_back(refused.operation.into_message(), bufs);
                return Fate::Refused(None);
            }
        };
        // An error here is about the ring; the message stays queued and the next call meets it too.
        let _ = ring.submit();
        if self.sqpoll {
            return self.queue(pending, n, known);
        }
        match pending.try_take() {
            Ok(SentMsg { result: Ok(_), message }) => {
                self.recycle(message);
                Fate::Sent
            }
            Ok(SentMsg { result: Err(error), message }) => {
                self.put_back(message, bufs);
                Fate::Refused(error.raw_os_error())
            }
            Err(pending) => self.queue(pending, n, known),
        }
    }

    fn queue(&mut self, pending: Sending<K>, n: usize, known: T) -> Fate {
        self.sending += n as u64;
        self.in_flight.push_back((pending, known));
        Fate::Queued
    }

    /// Takes back what has been sent since, oldest first, and shows each message's result.
    pub(super) fn reclaim(&mut self, mut done: impl FnMut(&T, io::Result<usize>)) {
        while let Some((pending, known)) = self.in_flight.pop_front() {
            match pending.try_take() {
                Ok(SentMsg { result, message }) => {
                    self.sending -= message.bufs().len() as u64;
                    done(&known, result);
                    self.recycle(message);
                }
                Err(pending) => {
                    self.in_flight.push_front((pending, known));
                    break;
                }
            }
        }
    }

    /// What is still in flight.
    pub(super) fn in_flight(&self) -> impl Iterator<Item = &T> {
        self.in_flight.iter().map(|(_, known)| known)
    }

    fn recycle(&mut self, mut message: Packed<K>) {
        message.drain().for_each(drop);
        self.spare.push(message);
    }

    fn put_back(&mut self, mut message: Packed<K>, bufs: &mut Burst<PoolBuf<K>>) {
        for buf in message.drain().rev() {
            let _it_has_just_come_from_there = bufs.push_front(buf);
        }
        self.spare.push(message);
    }
}
