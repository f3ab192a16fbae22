//! The way in for datagrams, on any backend.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bypass_io::prelude::*;
use bypass_io::{Error, Transmit};

use super::assembly::{Assembly, Taken};
use super::budget::Budgets;
use super::handover::{Envelope, Handover, KEPT, ROOM};
use super::{Back, Core, Outcome};
use crate::protocol::frame::{Frame, HEADER, MAX_PART};
use crate::protocol::{ERROR, REPLY_TOO_LARGE, TOO_LARGE, first_key};
use crate::shard::FULL;
use crate::stats::Figure;
use crate::store::AHEAD;

/// Datagrams that are received at once.
const BATCH: usize = AHEAD;
/// Datagrams that are on their way out.
const OUTGOING: usize = 4 * BATCH;
/// Answers that may wait for the log before no more requests are received.
const HELD: usize = 8 * BATCH;
/// Answers of several datagrams that may be on their way.
const LONG: usize = 1024;

pub struct UdpServer<S: DatagramIo> {
    pub socket: S,
    received: Burst<S::Datagram>,
    outgoing: Burst<S::Datagram>,
    /// Requests that have come in part.
    assembly: Assembly,
    /// What waits until a group of the log is on the disk, in the order of the groups.
    held: VecDeque<(u64, Held<S::Datagram>)>,
    /// Answers that need datagrams of their own.
    long: VecDeque<Long>,
    /// Where the bytes of requests and answers are taken from.
    budgets: Arc<Budgets>,
    /// Finished requests of this shard that have waited for its log.
    pub finished: VecDeque<Box<Envelope<Back>>>,
    /// Memory of such answers, to be used again.
    spare: Vec<Vec<u8>>,
    out: Vec<u8>,
    /// Datagrams that have left.
    pub sent: usize,
}

enum Held<D> {
    Datagram(D),
    Long(Long),
    /// A request that goes on to another shard, or comes home there.
    Envelope(usize, Box<Envelope<Back>>),
}

/// An answer that leaves datagram by datagram.
struct Long {
    transmit: Transmit,
    request: u16,
    answer: Vec<u8>,
    /// Datagrams that have left.
    sent: usize,
}

impl<S: DatagramIo> UdpServer<S> {
    /// `patience` is how long the datagrams of a request may take.
    pub fn new(socket: S, handover: &Handover<Back>, patience: Duration) -> Self {
        let budgets = handover.budgets();
        Self {
            socket,
            received: Burst::with_capacity(BATCH),
            outgoing: Burst::with_capacity(OUTGOING),
            assembly: Assembly::new(Arc::clone(budgets), patience),
            held: VecDeque::with_capacity(HELD + BATCH),
            long: VecDeque::with_capacity(LONG),
            budgets: Arc::clone(budgets),
            finished: VecDeque::with_capacity(HELD),
            spare: (0..BATCH).map(|_| Vec::with_capacity(ROOM)).collect(),
            out: Vec::with_capacity(ROOM),
            sent: 0,
        }
    }

    /// Receives, carries out, answers. Returns how much there was to do.
    pub fn turn(&mut self, core: &mut Core, handover: &mut Handover<Back>) -> Result<usize> {
        let mut work = self.release(core, handover);
        if self.outgoing.room() >= BATCH && self.held.len() < HELD {
            work += self.socket.recv(&mut self.received)?;
            let requests =
                self.received.iter().filter_map(|datagram| Frame::split(datagram.data()));
            core.shard.store.foresee(requests.filter_map(|(_, requests)| first_key(requests)));
            while let Some(datagram) = self.received.pop_front() {
                self.serve(datagram, core, handover);
            }
        }
        self.pour(core);
        while !self.outgoing.is_empty() {
            let sent = match self.socket.send(&mut self.outgoing) {
                // To port 0, say.
                Err(Error::Frame { .. }) => {
                    self.outgoing.pop_front();
                    core.shard.stats.add(core.shard.index, Figure::NoBuffer, 1);
                    continue;
                }
                sent => sent?,
            };
            work += sent;
            self.sent += sent;
            if sent == 0 {
                break;
            }
        }
        self.socket.flush()?;
        Ok(work)
    }

    /// Forgets requests whose other pieces do not come.
    pub fn tick(&mut self, core: &Core) {
        let count = |figure| core.shard.stats.add(core.shard.index, figure, 1);
        self.assembly.expire(Instant::now(), count);
    }

    /// Whether nothing waits that no arrival would wake.
    pub fn may_sleep(&self) -> bool {
        self.outgoing.is_empty() && self.long.is_empty()
    }

    fn serve(&mut self, datagram: S::Datagram, core: &mut Core, handover: &mut Handover<Back>) {
        let index = core.shard.index;
        let Some((frame, part)) = Frame::split(datagram.data()) else {
            core.shard.stats.add(index, Figure::Malformed, 1);
            return;
        };
        let request = frame.request;
        self.out.clear();
        let gathered;
        let count = |figure| core.shard.stats.add(index, figure, 1);
        let requests = if frame.is_whole() {
            count(Figure::Whole);
            part
        } else {
            // Whoever is not known cannot be answered either.
            let Some(peer) = datagram.recv_meta().remote else { return count(Figure::Malformed) };
            match self.assembly.take(peer, frame, part, Instant::now(), count) {
                Taken::Piece => return,
                Taken::TooLarge => {
                    self.out.extend_from_slice(TOO_LARGE.as_bytes());
                    return self.answer(datagram, request, None, core);
                }
                Taken::Whole(requests) => {
                    gathered = requests;
                    &gathered
                }
            }
        };
        let (mut used, mut progress) = (0, 0);
        let (outcome, ticket) = core.run(requests, &mut used, &mut progress, (&mut self.out, FULL));
        match outcome {
            Outcome::Shard(to) => {
                let count = |figure| core.shard.stats.add(index, figure, 1);
                let rest = &requests[used..];
                let Some(mut envelope) = handover.envelope() else {
                    return count(Figure::HandoverFull);
                };
                if !self.assembly.make_room(rest.len(), count) {
                    handover.recycle(envelope);
                    return count(Figure::HandoverTooLarge);
                }
                let meta = datagram.recv_meta();
                let mut transmit = Transmit::default();
                (transmit.destination, transmit.source) = (meta.remote, meta.local);
                transmit.next_hop = meta.next_hop;
                envelope.back = Some(Back::Udp { request, transmit });
                handover.put(rest, &mut envelope);
                envelope.answer.extend_from_slice(&self.out);
                envelope.progress = progress;
                if !handover.charge_answer(&mut envelope) {
                    handover.recycle(envelope);
                    count(Figure::NoBuffer);
                    conclude(Outcome::Full, &mut self.out);
                    return self.answer(datagram, request, ticket, core);
                }
                count(Figure::HandedOver);
                self.pass_on(to, envelope, ticket, handover);
            }
            outcome => {
                conclude(outcome, &mut self.out);
                self.answer(datagram, request, ticket, core);
            }
        }
    }

    /// Answers in the datagram that asked, if the answer fits one.
    fn answer(
        &mut self,
        mut datagram: S::Datagram,
        request: u16,
        ticket: Option<u64>,
        core: &Core,
    ) {
        if self.out.is_empty() {
            return;
        }
        datagram.reply();
        if self.out.len() > MAX_PART {
            let answer = std::mem::replace(&mut self.out, self.spare.pop().unwrap_or_default());
            let long = Long { transmit: datagram.transmit(), request, answer, sent: 0 };
            self.queue(long, ticket, core);
            return;
        }
        let header = Frame { request, sequence: 0, total: 1 }.bytes();
        if datagram.set_len(HEADER + self.out.len()).is_err() {
            core.shard.stats.add(core.shard.index, Figure::NoBuffer, 1);
            return;
        }
        let (front, rest) = datagram.data_mut().split_at_mut(HEADER);
        front.copy_from_slice(&header);
        rest.copy_from_slice(&self.out);
        match ticket {
            Some(group) => self.held.push_back((group, Held::Datagram(datagram))),
            // There is room: this many were received and no more.
            None => drop(self.outgoing.push(datagram)),
        }
    }

    /// Takes an answer in, if there is room for its bytes.
    fn queue(&mut self, long: Long, ticket: Option<u64>, core: &Core) {
        if !self.budgets.answers.take(long.answer.len()) {
            return core.shard.stats.add(core.shard.index, Figure::NoBuffer, 1);
        }
        match ticket {
            Some(group) => self.held.push_back((group, Held::Long(long))),
            None => self.line_up(long, core),
        }
    }

    fn line_up(&mut self, long: Long, core: &Core) {
        if self.long.len() < LONG {
            self.long.push_back(long);
        } else {
            self.budgets.answers.give(long.answer.len());
            core.shard.stats.add(core.shard.index, Figure::NoBuffer, 1);
        }
    }

    /// Sends out what answers need more datagrams for, as many as there are to be had.
    fn pour(&mut self, core: &Core) {
        while let Some(long) = self.long.front_mut() {
            let Some((frame, part)) =
                Frame::parts(long.request, &long.answer).and_then(|mut parts| parts.nth(long.sent))
            else {
                if let Some(Long { mut answer, .. }) = self.long.pop_front() {
                    self.budgets.answers.give(answer.len());
                    if answer.capacity() <= KEPT {
                        answer.clear();
                        self.spare.push(answer);
                    }
                }
                continue;
            };
            if self.outgoing.is_full() || self.socket.alloc(&mut self.outgoing, 1) == 0 {
                break;
            }
            long.sent += 1;
            let Some(datagram) = self.outgoing.last_mut() else { break };
            datagram.set_transmit(long.transmit);
            if datagram.set_len(HEADER + part.len()).is_err() {
                self.outgoing.pop_back();
                core.shard.stats.add(core.shard.index, Figure::NoBuffer, 1);
                continue;
            }
            let (front, rest) = datagram.data_mut().split_at_mut(HEADER);
            front.copy_from_slice(&frame.bytes());
            rest.copy_from_slice(part);
        }
    }

    /// Lets go what has waited for a group of the log that is on the disk now.
    fn release(&mut self, core: &Core, handover: &mut Handover<Back>) -> usize {
        let durable = core.durable();
        let mut released = 0;
        while self.held.front().is_some_and(|(group, _)| *group <= durable) {
            if self.outgoing.is_full() {
                break;
            }
            match self.held.pop_front() {
                Some((_, Held::Datagram(datagram))) => drop(self.outgoing.push(datagram)),
                Some((_, Held::Long(long))) => self.line_up(long, core),
                Some((_, Held::Envelope(to, envelope))) if to == core.shard.index => {
                    self.finished.push_back(envelope);
                }
                Some((_, Held::Envelope(to, envelope))) => handover.send(to, envelope),
                None => {}
            }
            released += 1;
        }
        released
    }

    fn pass_on(
        &mut self,
        to: usize,
        envelope: Box<Envelope<Back>>,
        ticket: Option<u64>,
        handover: &mut Handover<Back>,
    ) {
        match ticket {
            Some(group) => self.held.push_back((group, Held::Envelope(to, envelope))),
            None => handover.send(to, envelope),
        }
    }

    /// Goes on with a request that another shard has handed over, or brings it to its end here, where it
    /// came from. What belongs to a connection is given to `home`.
    pub fn open(
        &mut self,
        mut envelope: Box<Envelope<Back>>,
        core: &mut Core,
        handover: &mut Handover<Back>,
        home: &mut dyn FnMut(usize, Box<Envelope<Back>>),
    ) {
        let here = core.shard.index;
        let mut ticket = None;
        if envelope.done.is_none() {
            let connection = matches!(envelope.back, Some(Back::Tcp { .. }));
            let room = if connection { handover.room_of_connection(&envelope) } else { FULL };
            let Envelope { requests, used, progress, answer, .. } = &mut *envelope;
            let (mut outcome, group) = core.run(requests, used, progress, (answer, room));
            ticket = group;
            if connection {
                handover.charge_connection(&mut envelope);
            } else if !handover.charge_answer(&mut envelope) {
                core.shard.stats.add(here, Figure::NoBuffer, 1);
                outcome = Outcome::Full;
            }
            match outcome {
                Outcome::Shard(to) if envelope.hops > 0 => {
                    envelope.hops -= 1;
                    self.pass_on(to, envelope, ticket, handover);
                    return;
                }
                // It goes on with what is left itself.
                _ if connection => {}
                outcome => conclude(outcome, &mut envelope.answer),
            }
            envelope.done = Some(outcome);
        }
        if envelope.home != here || ticket.is_some() {
            self.pass_on(envelope.home, envelope, ticket, handover);
            return;
        }
        match envelope.back {
            Some(Back::Tcp { seat }) => home(seat, envelope),
            Some(Back::Udp { request, transmit }) => {
                let mut answer = self.spare.pop().unwrap_or_default();
                std::mem::swap(&mut answer, &mut envelope.answer);
                handover.recycle(envelope);
                if !answer.is_empty() {
                    self.queue(Long { transmit, request, answer, sent: 0 }, None, core);
                }
            }
            None => handover.recycle(envelope),
        }
    }
}

/// What is said to requests in a datagram that cannot be carried out to their end.
fn conclude(outcome: Outcome, out: &mut Vec<u8>) {
    match outcome {
        Outcome::More(_) => out.extend_from_slice(ERROR.as_bytes()),
        // What goes to and fro for ever costs as much as what is too long.
        Outcome::Full | Outcome::Shard(_) => {
            out.clear();
            out.shrink_to(ROOM);
            out.extend_from_slice(REPLY_TOO_LARGE.as_bytes());
        }
        Outcome::Done | Outcome::Close => {}
    }
}
