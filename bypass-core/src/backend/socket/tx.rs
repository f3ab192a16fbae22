//! Sending: many datagrams in few messages, many messages in one `sendmmsg(2)`.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::BorrowedFd;

use super::refusal::{self, Judgement};
use super::{ConfiguredUdp, UdpOptions};
use crate::pool::{DatagramMeta, Kind, PoolBuf};
use crate::sys::{Family, Outgoing, SendBatch, Train, TrainPlanner};
use crate::{Buffer, Burst, Caps, Datagram, Error, FrameError, Result, Stats};

/// Datagrams in one batch; a message takes one, or a whole train of them.
const MOST_DATAGRAMS: usize = 1024;

/// How often a message is tried again after errors that belong to earlier ones.
const MOST_TRIES: u64 = 4;

/// The sending half of a UDP socket, shared by the backends over such sockets.
#[derive(Debug)]
pub struct Sender {
    batch: SendBatch,
    /// The messages of the batch.
    trains: Vec<Train>,
    planner: TrainPlanner,
    route: Route,
    counters: Counters,
}

/// Where the socket can send.
#[derive(Debug)]
struct Route {
    family: Family,
    /// The address that it is bound to, unless that is a wildcard.
    bound: Option<IpAddr>,
    /// Where it is connected to; that need not be named in a message.
    peer: Option<SocketAddr>,
}

/// What the sender counts beside [`Stats`].
#[derive(Debug, Default)]
struct Counters {
    pending_errors: u64,
    coalesced_messages: u64,
    coalesced_datagrams: u64,
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
    /// Sends as `options` say.
    #[must_use]
    pub fn new(configured: &ConfiguredUdp, options: &UdpOptions) -> Self {
        Self {
            batch: SendBatch::new(options.batch, MOST_DATAGRAMS),
            trains: Vec::with_capacity(options.batch),
            planner: TrainPlanner::new(options.coalesce && configured.segmentation),
            route: Route {
                family: Family::of(&configured.local),
                bound: configured.bound,
                peer: configured.peer,
            },
            counters: Counters::default(),
        }
    }

    /// The message that the front of `datagrams` goes as, for a backend that sends it by itself and
    /// tells with [`sent`](Self::sent). `None` where it cannot be sent, or there is nothing:
    /// [`send`](Self::send) knows why.
    #[must_use]
    pub fn first<K: Kind<Meta = DatagramMeta>>(
        &self,
        datagrams: &[PoolBuf<K>],
        caps: &Caps,
    ) -> Option<Train> {
        let train = first(datagrams, &self.planner, &self.route, 0).ok()?;
        refusal::unsendable(&train, self.route.family, caps).is_none().then_some(train)
    }

    /// Where to address a message to, in the socket's own address family; `None` for what it is
    /// connected to.
    #[must_use]
    pub fn destination(&self, train: &Train) -> Option<SocketAddr> {
        let to = train.transmit.destination.filter(|to| Some(*to) != self.route.peer)?;
        Some(match (self.route.family, to) {
            (Family::V6, SocketAddr::V4(to)) => (to.ip().to_ipv6_mapped(), to.port()).into(),
            (Family::V4, to) => (to.ip().to_canonical(), to.port()).into(),
            (Family::V6, to) => to,
        })
    }

    /// A message that was [first](Self::first) has been sent.
    pub fn sent(&mut self, train: &Train, stats: &mut Stats, caps: &mut Caps) {
        self.counters.count(train, stats);
        if self.planner.sent(train) {
            caps.fallbacks.retain(|old| !old.starts_with("coalescing:"));
            caps.fallbacks.extend(self.planner.fallback());
        }
    }

    /// How many errors were about earlier datagrams.
    #[must_use]
    pub fn pending_errors(&self) -> u64 {
        self.counters.pending_errors
    }

    /// Shows what is counted beside [`Stats`].
    pub fn visit_counters(&self, visit: &mut dyn FnMut(&str, u64)) {
        visit("coalesced_messages", self.counters.coalesced_messages);
        visit("coalesced_datagrams", self.counters.coalesced_datagrams);
        visit("refused_trains", self.planner.refused());
    }

    /// Sends from the front of `datagrams` as far as the kernel takes them, and returns how many.
    ///
    /// # Errors
    ///
    /// As [`DatagramIo::send`](crate::DatagramIo::send).
    pub fn send<K: Kind<Meta = DatagramMeta>>(
        &mut self,
        socket: BorrowedFd<'_>,
        datagrams: &mut Burst<PoolBuf<K>>,
        stats: &mut Stats,
        caps: &mut Caps,
    ) -> Result<usize> {
        let mut taken = 0;
        while !datagrams.is_empty() {
            let (sent, end) = self.send_batch(socket, datagrams, stats, caps);
            PoolBuf::free_bulk(datagrams.drain(sent));
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
    fn send_batch<K: Kind<Meta = DatagramMeta>>(
        &mut self,
        socket: BorrowedFd<'_>,
        datagrams: &[PoolBuf<K>],
        stats: &mut Stats,
        caps: &mut Caps,
    ) -> (usize, End) {
        let Self { batch, trains, planner, route, counters } = self;
        let mut outgoing = batch.fill();
        trains.clear();
        let wrong = plan(datagrams, planner, route, caps, trains, &mut outgoing);
        if let (Some(cause), true) = (wrong, trains.is_empty()) {
            return (0, failed::<K>(cause));
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
                        let failed = refusal::diagnose(first, errno, K::BACKEND).map(failed::<K>);
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
fn plan<'a, K: Kind<Meta = DatagramMeta>>(
    datagrams: &'a [PoolBuf<K>],
    planner: &TrainPlanner,
    route: &Route,
    caps: &Caps,
    trains: &mut Vec<Train>,
    outgoing: &mut Outgoing<'_, 'a>,
) -> Option<FrameError> {
    let mut planned = 0;
    while planned < datagrams.len() {
        let rest = &datagrams[planned..];
        let train = match first(rest, planner, route, planned) {
            Ok(train) => train,
            Err(wrong) => return Some(wrong),
        };
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

/// The first message of `datagrams`, which are some, behind `planned` others.
#[inline(always)]
fn first<K: Kind<Meta = DatagramMeta>>(
    datagrams: &[PoolBuf<K>],
    planner: &TrainPlanner,
    route: &Route,
    planned: usize,
) -> Result<Train, FrameError> {
    let whole = datagrams.iter().take_while(|datagram| !datagram.is_chain());
    let queue = whole.map(|datagram| (datagram.data().len(), datagram.transmit()));
    let mut train = planner.next(planned, queue).ok_or_else(|| refusal::chain(K::BACKEND))?;
    if train.transmit.source == route.bound {
        // It leaves from there anyway, and the kernel need not look the source up each time.
        train.transmit.source = None;
    }
    Ok(train)
}

fn failed<K: Kind>(cause: FrameError) -> End {
    End::Failed(Error::frame("send a datagram", K::BACKEND, cause))
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
