//! The other end: publishes the day, sends again what is asked for, takes orders.
//!
//! In the world these are several servers. Here they are one loop on one core, on plain sockets, so
//! that they do not take the receiver's time.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use bypass_io::backend::socket::UdpSocket;
use bypass_io::prelude::*;
use bypass_io::telemetry::Clock;
use bypass_io::worker::Stop;
use bypass_io::{Error, UdpOptions};
use fastrand::Rng;
use zerocopy::{FromBytes as _, IntoBytes as _};

use super::day::Day;
use super::mold::{FIRST, Header, LONGEST, Session};
use super::ouch::EnterOrder;
use super::receiver::{Schedule, Servers};

const SESSION: Session = *b"BYPASS0001";
const BURST: usize = 64;
/// Between heartbeats, in nanoseconds.
const INTERVAL: u64 = 20_000_000;
/// How long the last orders may take to come, likewise.
const PATIENCE: u64 = 500_000_000;

/// How the feed is sent.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// How many of a thousand packets are withheld, as a bad network would.
    pub loss: u32,
    /// How many messages the retransmission server remembers.
    pub retain: u64,
    pub seed: u64,
}

/// What the two threads know of each other.
#[derive(Default)]
pub struct Progress {
    pub exchange_gone: AtomicBool,
    pub receiver_gone: AtomicBool,
    /// Orders that the receiver has sent, once it is done.
    pub orders: AtomicU64,
}

/// What the exchange has done.
#[derive(Debug, Clone, Copy, Default)]
pub struct Published {
    pub messages: u64,
    /// Packets with messages of the feed that were sent.
    pub packets: u64,
    /// Packets that were sent because they were asked for.
    pub retransmitted: u64,
    /// Heartbeats and ends of the session.
    pub idle: u64,
    /// Packets that were not sent, on purpose.
    pub withheld: u64,
    /// Packets that did not fit into the cable, or that the kernel failed to send.
    pub dropped: u64,
    pub orders: u64,
    /// Orders that no exchange would take.
    pub refused: u64,
    /// Orders that came and were dropped before they were read.
    pub orders_dropped: u64,
}

pub struct Exchange<'a> {
    day: &'a Day,
    settings: Settings,
    clock: Clock,
    feed: UdpSocket,
    retransmission: UdpSocket,
    orders: UdpSocket,
    random: Rng,
    /// The number of the next message.
    next: u64,
    /// When the last packet was sent.
    last: u64,
    pub published: Published,
}

impl<'a> Exchange<'a> {
    /// Opens its sockets at this address, which is the calling thread's.
    pub fn open(at: Ipv4Addr, day: &'a Day, settings: Settings, clock: Clock) -> Result<Self> {
        let open = || UdpOptions::new(SocketAddr::from((at, 0))).open();
        let (feed, retransmission, orders) = (open()?, open()?, open()?);
        let random = Rng::with_seed(settings.seed);
        let published = Published::default();
        Ok(Self {
            day,
            settings,
            clock,
            feed,
            retransmission,
            orders,
            random,
            next: FIRST,
            last: 0,
            published,
        })
    }

    pub fn servers(&self) -> Servers {
        Servers {
            retransmission: self.retransmission.local_addr(),
            orders: self.orders.local_addr(),
        }
    }

    /// Publishes in open loop: each message has a time at which it is due, and what is late is caught
    /// up without forgetting how late it was. Then, or when it is told to stop, says that the session is
    /// over until the receiver has gone, and takes the orders that are still under way.
    pub fn run(
        &mut self,
        to: SocketAddr,
        schedule: Schedule,
        progress: &Progress,
        stop: &Stop,
    ) -> Result<()> {
        let mut end = FIRST + self.day.len();
        let (mut packets, mut scratch) = (Burst::with_capacity(BURST), Burst::with_capacity(BURST));
        while self.next < end || !packets.is_empty() {
            let now = self.clock.now();
            if stop.stopping() {
                end = self.next;
            }
            self.write_due(to, schedule, now, end, &mut packets)?;
            if packets.is_empty() {
                // A receiver that hears nothing could not tell a quiet market from a broken cable.
                if now.saturating_sub(self.last) > INTERVAL && now > schedule.begin {
                    self.say(Header::heartbeat(SESSION, self.next), to, now)?;
                }
                self.serve(&mut scratch)?;
            } else {
                let sent = self.feed.send(&mut packets)?;
                self.published.packets += sent as u64;
                self.last = now;
            }
        }
        self.published.messages = end - FIRST;
        while !progress.receiver_gone.load(Ordering::Acquire) {
            let now = self.clock.now();
            if now.saturating_sub(self.last) > INTERVAL {
                self.say(Header::end(SESSION, end), to, now)?;
            }
            self.serve(&mut scratch)?;
            std::thread::yield_now();
        }
        let (sent, since) = (progress.orders.load(Ordering::Acquire), self.clock.now());
        while self.published.orders < sent && self.clock.now() < since + PATIENCE {
            self.serve(&mut scratch)?;
        }
        self.published.orders_dropped = self.orders.stats().drops.total();
        self.published.dropped =
            self.feed.stats().drops.total() + self.retransmission.stats().drops.total();
        Ok(())
    }

    /// Writes packets with the messages below number `end` that are due.
    fn write_due(
        &mut self,
        to: SocketAddr,
        schedule: Schedule,
        now: u64,
        end: u64,
        packets: &mut Burst<<UdpSocket as DatagramIo>::Datagram>,
    ) -> Result<()> {
        while !packets.is_full() && self.next < end && schedule.due(self.next) <= now {
            // The first number that is not due yet.
            let due = (now - schedule.begin) as u128 * u128::from(schedule.rate) / 1_000_000_000;
            let until = end.min(FIRST + 1 + due as u64);
            let header = Header::new(SESSION, self.next, 0);
            if self.settings.loss > 0 && self.random.u32(..1000) < self.settings.loss {
                let (_, count) = self.day.blocks(self.next, until, LONGEST - Header::LEN);
                self.next += u64::from(count);
                self.published.withheld += 1;
                continue;
            }
            if self.feed.alloc(packets, 1) == 0 {
                return Ok(());
            }
            let Some(packet) = packets.last_mut() else { return Ok(()) };
            packet.send_to(to);
            self.next += u64::from(write_packet(packet, self.day, header, until)?);
        }
        Ok(())
    }

    /// Sends a packet without messages.
    fn say(&mut self, header: Header, to: SocketAddr, now: u64) -> Result<()> {
        self.last = now;
        let mut burst = Burst::with_capacity(1);
        if self.feed.compose(header.as_bytes(), to, &mut burst)? {
            self.published.idle += self.feed.send(&mut burst)? as u64;
        }
        Ok(())
    }

    /// Answers requests, and takes orders.
    fn serve(&mut self, burst: &mut Burst<<UdpSocket as DatagramIo>::Datagram>) -> Result<()> {
        self.retransmission.recv(burst)?;
        let mut answers = Burst::with_capacity(burst.len());
        for mut request in burst.drain(burst.len()) {
            let Ok(&Header { session, sequence, count }) = Header::ref_from_bytes(request.data())
            else {
                continue;
            };
            let first = sequence.get();
            let oldest = self.next.saturating_sub(self.settings.retain).max(FIRST);
            let until = first.saturating_add(count.get().into()).min(self.next);
            if session != SESSION || first < oldest || first >= until {
                continue;
            }
            // One packet; whoever needs more asks again.
            request.reply();
            write_packet(&mut request, self.day, Header::new(SESSION, first, 0), until)?;
            answers.push(request).map_err(|_| Error::config("burst", 0, "it has room for all"))?;
        }
        if !answers.is_empty() {
            self.published.retransmitted += self.retransmission.send(&mut answers)? as u64;
        }
        self.orders.recv(burst)?;
        for order in burst.iter() {
            match EnterOrder::read(order.data()) {
                Some(_) => self.published.orders += 1,
                None => self.published.refused += 1,
            }
        }
        burst.clear();
        Ok(())
    }
}

/// Writes messages from the header's on, below number `end`, into the datagram that will be sent, as
/// many as fit, and returns how many.
fn write_packet(
    packet: &mut impl Datagram,
    day: &Day,
    mut header: Header,
    end: u64,
) -> Result<u16> {
    let (blocks, count) = day.blocks(header.sequence.get(), end, LONGEST - Header::LEN);
    header.count = count.into();
    let room = |error| Error::frame("write a packet of the feed", "market_data", error);
    packet.set_len(Header::LEN + blocks.len()).map_err(room)?;
    let (front, back) = packet.data_mut().split_at_mut(Header::LEN);
    front.copy_from_slice(header.as_bytes());
    back.copy_from_slice(blocks);
    Ok(count)
}
