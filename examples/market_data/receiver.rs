//! The receiver: takes the feed, keeps the books, sends orders. Written once, against `DatagramIo`.

use std::net::SocketAddr;
use std::time::Duration;

use bypass_io::Error;
use bypass_io::prelude::*;
use bypass_io::telemetry::{Clock, Latency, Meter};
use zerocopy::IntoBytes as _;

use super::book::{Books, Oddity};
use super::itch::{Malformed, Message};
use super::mold::FIRST;
use super::sequence::{Handler, Origin, RETRY, Sequencer};
use super::trader::Trader;

const BURST: usize = 64;
/// How long the last orders may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Where the other end is.
#[derive(Debug, Clone, Copy)]
pub struct Servers {
    /// What was lost is asked for here, and comes from here.
    pub retransmission: SocketAddr,
    pub orders: SocketAddr,
}

/// When each message is due.
#[derive(Debug, Clone, Copy)]
pub struct Schedule {
    /// The first, on the clock that sender and receiver share.
    pub begin: u64,
    /// Messages a second.
    pub rate: u64,
}

impl Schedule {
    /// In nanoseconds.
    pub fn due(&self, sequence: u64) -> u64 {
        let nanos = sequence.saturating_sub(FIRST).saturating_mul(1_000_000_000) / self.rate;
        self.begin.saturating_add(nanos)
    }
}

/// What is done with the messages.
pub struct Market {
    pub books: Books,
    pub trader: Trader,
    pub schedule: Schedule,
    /// What it costs, and the times from when a message was due until it came, those before it and itself.
    pub meter: Meter,
    /// Messages by what was wrong with them, as in [`Malformed::ALL`] and [`Oddity::ALL`].
    pub malformed: [u64; Malformed::ALL.len()],
    pub oddities: [u64; Oddity::ALL.len()],
    /// When the burst came that is being worked on.
    now: u64,
}

impl Market {
    pub fn new(schedule: Schedule, meter: Meter) -> Self {
        Self {
            books: Books::new(),
            trader: Trader::new(),
            schedule,
            meter,
            malformed: Default::default(),
            oddities: Default::default(),
            now: 0,
        }
    }
}

impl Handler for Market {
    fn message(&mut self, sequence: u64, bytes: &[u8]) {
        self.meter.latency.record(self.now.saturating_sub(self.schedule.due(sequence)));
        let message = match Message::read(bytes) {
            Ok(message) => message,
            Err(malformed) => return self.malformed[malformed as usize] += 1,
        };
        match self.books.apply(message) {
            Ok(Some(tick)) => self.trader.on_tick(&tick, &self.books),
            Ok(None) => {}
            Err(oddity) => self.oddities[oddity as usize] += 1,
        }
    }
}

/// A socket on any backend, and all that belongs to one feed.
pub struct Receiver<S: DatagramIo> {
    pub socket: S,
    pub sequencer: Sequencer,
    pub market: Market,
    /// From a packet's arrival until the orders that it led to were with the backend.
    pub tick_to_trade: Latency,
    pub orders: u64,
    servers: Servers,
    clock: Clock,
    incoming: Burst<S::Datagram>,
    outgoing: Burst<S::Datagram>,
}

impl<S: DatagramIo> Receiver<S> {
    pub fn new(socket: S, servers: Servers, market: Market, clock: Clock) -> Self {
        Self {
            socket,
            sequencer: Sequencer::new(FIRST),
            market,
            tick_to_trade: Latency::new(),
            orders: 0,
            servers,
            clock,
            incoming: Burst::with_capacity(BURST),
            outgoing: Burst::with_capacity(BURST),
        }
    }

    /// One turn: a burst in, what follows from it out. Returns how many packets came.
    pub fn turn(&mut self) -> Result<usize> {
        let received = self.socket.recv(&mut self.incoming)?;
        let now = self.clock.now();
        self.market.now = now;
        for datagram in self.incoming.iter() {
            let origin = match datagram.recv_meta().remote {
                Some(remote) if remote == self.servers.retransmission => Origin::Retransmission,
                _ => Origin::Feed,
            };
            self.sequencer.take(datagram.data(), origin, now, &mut self.market);
        }
        // The memory goes back to where packets arrive.
        self.incoming.clear();
        // The other half is for orders.
        while self.outgoing.room() > BURST / 2
            && let Some(request) = self.sequencer.request(now, &mut self.market)
        {
            self.put(request.as_bytes(), self.servers.retransmission)?;
        }
        self.trade(now)?;
        Ok(received)
    }

    /// Passes the time until there is something to do: packets, or a request to repeat.
    pub fn wait(&mut self, received: usize, strategy: &mut impl WaitStrategy) -> Result<()> {
        if self.sequencer.has_gap() {
            self.socket.wait(Interest::RX, Some(Duration::from_nanos(RETRY)))?;
            return Ok(());
        }
        strategy.after(received, &mut self.socket, Interest::RX)
    }

    /// Shows what has happened so far, if somebody has asked.
    pub fn show(&mut self) {
        let Self { socket, sequencer, market, orders, .. } = self;
        let (counts, forgone) = (&sequencer.counts, market.trader.forgone);
        market.meter.show_with(socket, |showing| {
            for (name, count) in [
                ("messages", counts.live + counts.recovered),
                ("gaps", counts.gaps),
                ("re_requested", counts.requests),
                ("recovered", counts.recovered),
                ("lost", counts.lost),
                ("orders", *orders),
                ("orders_forgone", forgone),
            ] {
                showing.counter(name, count);
            }
        });
    }

    /// Sends the orders that have been decided on.
    fn trade(&mut self, since: u64) -> Result<()> {
        let mut orders = std::mem::take(&mut self.market.trader.orders);
        let mut written = 0;
        for order in &orders {
            if !self.put(order.as_bytes(), self.servers.orders)? {
                break;
            }
            written += 1;
        }
        self.orders += written as u64;
        // An order that has to wait is late, and an order that is late is none.
        self.market.trader.forgone += (orders.len() - written) as u64;
        orders.clear();
        self.market.trader.orders = orders;
        if !self.outgoing.is_empty() {
            self.socket.send(&mut self.outgoing)?;
            self.socket.flush()?;
            let took = self.clock.now().saturating_sub(since);
            (0..written).for_each(|_| self.tick_to_trade.record(took));
        }
        Ok(())
    }

    /// Writes a datagram; false where there is no room for one.
    fn put(&mut self, bytes: &[u8], to: SocketAddr) -> Result<bool> {
        self.socket.compose(bytes, to, &mut self.outgoing)
    }

    /// Sends what is left, and waits until all has been sent, for as long as that may take.
    pub fn finish(&mut self) -> Result<()> {
        let begin = self.clock.now();
        while !self.outgoing.is_empty() || self.socket.stats().tx_in_flight > 0 {
            if self.clock.since(begin) > PATIENCE {
                let attempt = "send the last orders";
                return Err(Error::os(attempt, std::io::ErrorKind::TimedOut));
            }
            self.socket.send(&mut self.outgoing)?;
            self.socket.flush()?;
        }
        Ok(())
    }
}
