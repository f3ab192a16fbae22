//! The receivers: one application, on every backend and on a bare `recvmmsg` loop.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, UdpSocket as StdSocket};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::Sender;

use anyhow::{Result, anyhow, ensure};
use bypass_core::backend::socket::UdpSocket;
use bypass_core::{Buffer as _, Burst};
use bypass_io::xdp::XdpSocket;
use bypass_io::{Bind, UdpOptions};
use hdrhistogram::Histogram;
use io_uring_ext::packet::UringSocket;

use super::book::Books;
use super::itch::Message;
use super::mold::FIRST;
use super::sequence::{Handler, Origin, Sequencer};
use super::source::{Feed, late};
use crate::generator;
use crate::mmsg::{Batch, Wait};

const PORT: u16 = 26_400;
const BURST: usize = 64;
const RECEIVE_BUFFER: usize = 4 << 20;

pub(super) struct Receiver {
    pub(super) name: &'static str,
    pub(super) ours: bool,
    /// Receives on core 0 until it is told to stop; says where, once it does.
    pub(super) run: fn(Ipv4Addr, &Feed, &Control, Sender<SocketAddrV4>) -> Result<()>,
}

pub(super) const RECEIVERS: &[Receiver] = &[
    Receiver { name: "socket", ours: true, run: on::<UdpSocket> },
    Receiver { name: "io_uring", ours: true, run: on::<UringSocket> },
    Receiver { name: "AF_XDP", ours: true, run: on::<XdpSocket> },
    #[cfg(feature = "dpdk")]
    Receiver { name: "DPDK net_af_packet", ours: true, run: on::<bypass_io::dpdk::DpdkSocket> },
    Receiver { name: "recvmmsg", ours: false, run: by_hand },
];

/// What source and receiver tell each other. A stretch is begun and ended by the source; the receiver agrees.
pub(super) struct Control {
    /// Counts beginnings and ends: odd while a stretch is on.
    wanted: AtomicU64,
    agreed: AtomicU64,
    stop: AtomicBool,
    /// Messages of this stretch.
    received: AtomicU64,
    /// What it has seen, once it has ended.
    latency: Mutex<Option<Histogram<u64>>>,
}

impl Default for Control {
    fn default() -> Self {
        Self {
            wanted: AtomicU64::new(0),
            agreed: AtomicU64::new(0),
            stop: AtomicBool::new(false),
            received: AtomicU64::new(0),
            latency: Mutex::new(None),
        }
    }
}

impl Control {
    pub(super) fn begin(&self) -> Result<()> {
        self.next()
    }

    pub(super) fn end(&self) -> Option<Histogram<u64>> {
        self.next().ok()?;
        self.latency.lock().ok()?.take()
    }

    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Acquire)
    }

    pub(super) fn stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    fn next(&self) -> Result<()> {
        let wanted = self.wanted.fetch_add(1, Ordering::AcqRel) + 1;
        while self.agreed.load(Ordering::Acquire) < wanted {
            ensure!(!self.stop.load(Ordering::Acquire), "the receiver has gone");
            std::thread::yield_now();
        }
        Ok(())
    }
}

/// A receiver that ends, however, lets nobody wait for it.
struct Gone<'a>(&'a Control);

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// What is done with the packets.
struct Application<'a> {
    feed: &'a Feed,
    control: &'a Control,
    sequencer: Sequencer,
    market: Market,
    latency: Histogram<u64>,
    agreed: u64,
}

struct Market(Books);

impl Handler for Market {
    fn message(&mut self, _: u64, bytes: &[u8]) {
        let tick = Message::read(bytes).ok().and_then(|message| self.0.apply(message).ok());
        std::hint::black_box(tick);
    }
}

impl<'a> Application<'a> {
    fn new(feed: &'a Feed, control: &'a Control) -> Result<Self> {
        Ok(Self {
            feed,
            control,
            sequencer: Sequencer::new(FIRST),
            market: Market(Books::new()),
            latency: Histogram::new_with_bounds(100, 10_000_000_000, 3)?,
            agreed: 0,
        })
    }

    fn take(&mut self, packet: &[u8], now: u64) {
        if let Some(late) = late(packet, now) {
            self.latency.saturating_record(late);
        }
        self.sequencer.take(packet, Origin::Feed, now, &mut self.market);
    }

    /// After each burst; false when it is over.
    fn go_on(&mut self, now: u64) -> Result<bool> {
        // Nobody would answer: what is missing stays so.
        while self.sequencer.request(now, &mut self.market).is_some() {}
        let received = self.sequencer.counts.live;
        if received != self.control.received.load(Ordering::Relaxed) {
            self.control.received.store(received, Ordering::Release);
        }
        let wanted = self.control.wanted.load(Ordering::Acquire);
        if wanted != self.agreed {
            self.agreed = wanted;
            if wanted % 2 == 1 {
                self.begin();
            } else {
                let latency = self.control.latency.lock();
                *latency.map_err(|_| anyhow!("the source panicked"))? = Some(self.latency.clone());
            }
            self.control.agreed.store(wanted, Ordering::Release);
        }
        Ok(!self.control.stop.load(Ordering::Acquire))
    }

    /// A stretch begins with books that have seen the whole feed once, so that memory is warm.
    fn begin(&mut self) {
        self.market = Market(Books::new());
        for packet in &self.feed.packets {
            Sequencer::new(FIRST).take(packet, Origin::Feed, 0, &mut self.market);
        }
        self.sequencer = Sequencer::new(FIRST);
        self.latency.reset();
        self.control.received.store(0, Ordering::Release);
    }
}

fn options(here: Ipv4Addr) -> UdpOptions {
    let mut options = UdpOptions::new(SocketAddr::from((here, PORT)));
    options.recv_buffer = Some(RECEIVE_BUFFER);
    // Past the kernel there is no such buffer: the pool's chunks are it.
    options.pool.chunks = 8192;
    options.pool.rx_reserve = 4096;
    options
}

fn on<S: Bind>(
    here: Ipv4Addr,
    feed: &Feed,
    control: &Control,
    ready: Sender<SocketAddrV4>,
) -> Result<()> {
    let _gone = Gone(control);
    let mut socket = S::bind(&options(here))?;
    let mut application = Application::new(feed, control)?;
    ready.send(SocketAddrV4::new(here, PORT))?;
    let mut burst = Burst::with_capacity(BURST);
    loop {
        socket.recv(&mut burst)?;
        let now = generator::now();
        for datagram in burst.iter() {
            application.take(datagram.data(), now);
        }
        burst.clear();
        if !application.go_on(now)? {
            return Ok(());
        }
    }
}

fn by_hand(
    here: Ipv4Addr,
    feed: &Feed,
    control: &Control,
    ready: Sender<SocketAddrV4>,
) -> Result<()> {
    let _gone = Gone(control);
    let options = options(here);
    let socket = StdSocket::from(options.configure(options.bind()?)?.socket);
    let mut application = Application::new(feed, control)?;
    ready.send(SocketAddrV4::new(here, PORT))?;
    let mut batch = Batch::with_addresses(BURST);
    loop {
        let received = match batch.receive(&socket, BURST, Wait::No) {
            Ok(received) => received,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error.into()),
        };
        let now = generator::now();
        for place in 0..received {
            application.take(batch.payload(place), now);
        }
        if !application.go_on(now)? {
            return Ok(());
        }
    }
}
