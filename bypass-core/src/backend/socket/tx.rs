//! Sending: many datagrams in few messages, many messages in one `sendmmsg(2)`.

use std::net::SocketAddr;
use std::os::fd::BorrowedFd;

use super::refusal::{self, Judgement};
use super::{Socket, UdpDatagram};
use crate::pool::Kind;
use crate::sys::{Family, Outgoing, SendBatch, Train, TrainPlanner};
use crate::{Buffer, Burst, Caps, Datagram, Error, FrameError, Result, Stats};

/// Datagrams in one batch; a message takes one, or a whole train of them.
const MOST_DATAGRAMS: usize = 1024;

/// How often a message is tried again after errors that belong to earlier ones.
const MOST_TRIES: u64 = 4;

/// The sending half of a socket.
#[derive(Debug)]
pub(super) struct Sender {
    batch: SendBatch,
    /// The messages of the batch.
    trains: Vec<Train>,
    planner: TrainPlanner,
    route: Route,
    pub(super) counters: Counters,
}

/// Where the socket can send.
#[derive(Debug)]
struct Route {
    family: Family,
    /// Where it is connected to; that need not be named in a message.
    peer: Option<SocketAddr>,
}

/// What the sender counts beside [`Stats`].
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) pending_errors: u64,
    pub(super) coalesced_messages: u64,
    pub(super) coalesced_datagrams: u64,
}

/// How a batch ended.
enum End {
    /// Everything in it was sent, or the rest must be planned anew.
    Next,
    /// The kernel has no room.
    Full,
    Failed(Error),
}

impl Sender {
    pub(super) fn new(
        local: &SocketAddr,
        peer: Option<SocketAddr>,
        batch: usize,
        coalesce: bool,
    ) -> Self {
        Self {
            batch: SendBatch::new(batch, MOST_DATAGRAMS),
            trains: Vec::with_capacity(batch),
            planner: TrainPlanner::new(coalesce),
            route: Route { family: Family::of(local), peer },
            counters: Counters::default(),
        }
    }

    /// How many trains the kernel refused.
    pub(super) fn refused_trains(&self) -> u64 {
        self.planner.refused()
    }

    /// Sends from the front of `datagrams` as far as the kernel takes them.
    pub(super) fn send(
        &mut self,
        socket: BorrowedFd<'_>,
        datagrams: &mut Burst<UdpDatagram>,
        stats: &mut Stats,
        caps: &mut Caps,
    ) -> Result<usize> {
        let mut taken = 0;
        while !datagrams.is_empty() {
            let (sent, end) = self.send_batch(socket, datagrams, stats, caps);
            UdpDatagram::free_bulk(datagrams.drain(sent));
            taken += sent;
            match end {
                End::Next => {}
                End::Failed(error) if taken == 0 => return Err(error),
                // The next call fails the same way.
                End::Failed(_) | End::Full => break,
            }
        }
        Ok(taken)
    }

    /// Sends one batch and answers how many datagrams are gone.
    fn send_batch(
        &mut self,
        socket: BorrowedFd<'_>,
        datagrams: &[UdpDatagram],
        stats: &mut Stats,
        caps: &mut Caps,
    ) -> (usize, End) {
        let Self { batch, trains, planner, route, counters } = self;
        let mut outgoing = batch.fill();
        trains.clear();
        let wrong = plan(datagrams, planner, route, caps, trains, &mut outgoing);
        if let (Some(cause), true) = (wrong, trains.is_empty()) {
            return (0, failed(cause));
        }
        let (mut waiting, mut sent, mut tries) = (trains.as_slice(), 0, 0);
        while let Some(first) = waiting.first() {
            stats.syscalls = stats.syscalls.map(|n| n + 1);
            match outgoing.send(socket) {
                Ok(messages) => {
                    counters.pending_errors += std::mem::take(&mut tries);
                    let (gone, left) = waiting.split_at(messages);
                    for train in gone {
                        sent += train.datagrams;
                        counters.count(train, stats);
                        if planner.sent(train) {
                            caps.fallbacks.retain(|old| !old.starts_with("coalescing:"));
                            caps.fallbacks.extend(planner.fallback());
                        }
                    }
                    waiting = left;
                }
                Err(error) => match refusal::judge(&error, tries) {
                    Judgement::Full => return (sent, End::Full),
                    Judgement::Pending if tries < MOST_TRIES => tries += 1,
                    Judgement::Pending => {
                        counters.pending_errors += tries;
                        return (sent, End::Full);
                    }
                    Judgement::Refused(errno) if planner.take_apart(first, errno) => {
                        return (sent, End::Next);
                    }
                    Judgement::Refused(errno) => {
                        planner.failed();
                        let failed = refusal::diagnose(first, errno).map(failed);
                        let other = || End::Failed(Error::os("send on a UDP socket", error));
                        return (sent, failed.unwrap_or_else(other));
                    }
                },
            }
        }
        (sent, End::Next)
    }
}

/// Fills `outgoing` with messages from the front of `datagrams`, described in `trains`, until it is
/// full or a datagram comes that can never be sent; answers what is wrong with that one.
fn plan<'a>(
    datagrams: &'a [UdpDatagram],
    planner: &TrainPlanner,
    route: &Route,
    caps: &Caps,
    trains: &mut Vec<Train>,
    outgoing: &mut Outgoing<'_, 'a>,
) -> Option<FrameError> {
    let mut planned = 0;
    while planned < datagrams.len() {
        let rest = &datagrams[planned..];
        let whole = rest.iter().take_while(|datagram| !datagram.is_chain());
        let queue = whole.map(|datagram| (datagram.data().len(), datagram.transmit()));
        let Some(train) = planner.next(planned, queue) else { return Some(refusal::chain()) };
        if let Some(wrong) = refusal::unsendable(&train, route.family, caps) {
            return Some(wrong);
        }
        let parts = rest[..train.datagrams].iter().map(Buffer::data);
        let named = train.transmit.destination != route.peer;
        if !outgoing.push_train(&train, route.family, named, parts) {
            return None;
        }
        planned += train.datagrams;
        trains.push(train);
    }
    None
}

fn failed(cause: FrameError) -> End {
    End::Failed(Error::frame("send a datagram", Socket::BACKEND, cause))
}

impl Counters {
    fn count(&mut self, train: &Train, stats: &mut Stats) {
        stats.tx_packets += train.packets();
        stats.tx_bytes += train.bytes as u64;
        if train.datagrams > 1 {
            self.coalesced_messages += 1;
            self.coalesced_datagrams += train.datagrams as u64;
        }
    }
}
