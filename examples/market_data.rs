//! Market data over UDP: a publisher sends numbered, time-stamped trades at a fixed rate, a
//! receiver takes them in bursts, keeps the last price of each symbol, and detects gaps.
//!
//! ```text
//! cargo run --release --example market_data
//! cargo run --release --example market_data -- --rate 500000 --seconds 5
//! cargo run --release --example market_data -- --json
//! sudo -E cargo run --release --features xdp --example market_data             # on AF_XDP
//! ```
//!
//! The receiver is written once, against `DatagramIo`. It runs on the plain socket backend and on
//! the backend that the crate's features chose, one after the other, and the table compares them.
//! The publisher is another host, as far as the network goes: it sits in a network namespace of its
//! own, at the other end of a cable. That needs no root where the machine allows unprivileged
//! namespaces; where it does not, the traffic runs over the loopback interface, which kernel sockets
//! have and AF_XDP has not.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example talks to its user")]

use std::any::TypeId;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use bypass_io::backend::socket::UdpSocket;
use bypass_io::prelude::*;
use bypass_io::sandbox::{Host, Sandbox};
use bypass_io::telemetry::{Clock, Meter, Snapshot};
use bypass_io::worker::{available_cores, pin_to};
use bypass_io::{Bind, DefaultSocket, UdpOptions};

/// A trade on the wire, big endian: number, intended time of sending, symbol, price, size.
const MESSAGE: usize = 8 + 8 + 8 + 8 + 4;
const SYMBOLS: [&[u8; 8]; 4] = [b"AAPL    ", b"MSFT    ", b"NVDA    ", b"TSLA    "];
const BURST: usize = 64;
/// The symbol of a message that carries no trade, but the number of the next one: by it a receiver
/// sees a gap at the end.
const HEARTBEAT: &[u8; 8] = b"HEARTBT ";
/// Between heartbeats.
const INTERVAL: Duration = Duration::from_millis(20);

fn main() -> ExitCode {
    let job = match Job::from_args() {
        Ok(job) => job,
        Err(usage) => {
            eprintln!("{usage}");
            return ExitCode::from(2);
        }
    };
    // First of all, while there is only one thread.
    let network = Network::make();
    match run(&job, &network) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("messages are missing that no counter explains");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What lies between the publisher and the receiver.
#[derive(Clone)]
enum Network {
    /// A cable to another host, where the publisher is.
    Cable(Arc<Host>),
    /// Nothing, for this reason.
    Loopback(String),
}

impl Network {
    fn make() -> Self {
        match Sandbox::enter().and_then(|sandbox| sandbox.host("feed")) {
            Ok(host) => Self::Cable(Arc::new(host)),
            Err(error) => Self::Loopback(error.to_string()),
        }
    }

    fn receiver(&self) -> Ipv4Addr {
        match self {
            Self::Cable(host) => host.here,
            Self::Loopback(_) => Ipv4Addr::LOCALHOST,
        }
    }

    /// Moves the calling thread to where the publisher is, and tells its address.
    fn enter_publisher(&self) -> Result<Ipv4Addr> {
        match self {
            Self::Cable(host) => host.enter().map(|()| host.there),
            Self::Loopback(_) => Ok(Ipv4Addr::LOCALHOST),
        }
    }

    /// What did not fit into the cable so far, on the publisher's side.
    fn dropped(&self) -> Result<u64> {
        match self {
            Self::Cable(host) => host.dropped(1),
            Self::Loopback(_) => Ok(0),
        }
    }
}

impl std::fmt::Display for Network {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cable(_) => f.write_str("a cable between two network namespaces"),
            Self::Loopback(why) => write!(f, "the loopback interface ({why})"),
        }
    }
}

/// What to do.
struct Job {
    rate: u64,
    seconds: u64,
    json: bool,
}

impl Job {
    fn from_args() -> Result<Self, String> {
        let mut job = Self { rate: 100_000, seconds: 3, json: false };
        let mut args = std::env::args().skip(1);
        while let Some(arg) = args.next() {
            let mut number = || {
                let text = args.next().unwrap_or_default();
                text.parse().ok().filter(|&n| n > 0).ok_or(format!("{arg} takes a number"))
            };
            match arg.as_str() {
                "--rate" => job.rate = number()?,
                "--seconds" => job.seconds = number()?,
                "--json" => job.json = true,
                _ => return Err(format!("{arg}? known: --rate N, --seconds N, --json")),
            }
        }
        Ok(job)
    }

    fn messages(&self) -> u64 {
        self.rate * self.seconds
    }
}

/// Runs every backend and shows the results; false when messages are unaccounted for.
fn run(job: &Job, network: &Network) -> Result<bool> {
    let (clock, cores) = (Clock::new(), available_cores()?);
    let mut rows = vec![measure::<UdpSocket>(job, network, &clock, &cores)?];
    if TypeId::of::<DefaultSocket>() != TypeId::of::<UdpSocket>() {
        rows.push(measure::<DefaultSocket>(job, network, &clock, &cores)?);
    }
    if job.json {
        rows.iter().for_each(|row| println!("{}", row.json()));
    } else {
        println!("{} messages/s for {} s on {network}\n", job.rate, job.seconds);
        println!("{}", Row::HEADER);
        rows.iter().for_each(|row| println!("{}", row.table()));
        rows.iter().flat_map(|row| &row.notes).for_each(|note| println!("note: {note}"));
    }
    for row in rows.iter().filter(|row| !row.adds_up()) {
        eprintln!("{}: {}", row.backend, row.account());
    }
    Ok(rows.iter().all(Row::adds_up))
}

/// One publisher, one receiver on the backend `S`.
fn measure<S: Bind>(job: &Job, network: &Network, clock: &Clock, cores: &[usize]) -> Result<Row> {
    let (publisher_core, receiver_core) = (cores[cores.len() - 1], cores[0]);
    pin_to(receiver_core)?;
    let mut options = UdpOptions::new(SocketAddr::from((network.receiver(), 0)));
    options.recv_buffer = Some(4 << 20);
    let mut socket = S::bind(&options)?;

    let progress = Arc::new(Progress::default());
    let publisher = {
        let (progress, clock, network) = (Arc::clone(&progress), clock.clone(), network.clone());
        let (rate, messages, to) = (job.rate, job.messages(), socket.local_addr());
        thread::spawn(move || {
            // However it ends, the receiver must not wait for more.
            let _gone = SetOnDrop(&progress.publisher_gone);
            pin_to(publisher_core)?;
            publish(rate, messages, to, &network, &clock, &progress)
        })
    };
    let mut meter = Meter::start(clock.clone());
    let outcome = receive(&mut socket, &mut meter, &progress);
    progress.receiver_gone.store(true, Ordering::Release);
    let snapshot = meter.snapshot(socket.stats());
    let published = match publisher.join() {
        Ok(published) => published?,
        Err(panic) => std::panic::resume_unwind(panic),
    };
    let caps = socket.caps();
    let (backend, notes) = (caps.backend, caps.fallbacks.clone());
    Ok(Row { backend, notes, published, feed: outcome?, snapshot })
}

/// What the two threads know of each other.
#[derive(Default)]
struct Progress {
    publisher_gone: AtomicBool,
    receiver_gone: AtomicBool,
}

struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// What the publisher put on the wire.
#[derive(Clone, Copy, Default)]
struct Published {
    messages: u64,
    heartbeats: u64,
    /// Messages and heartbeats that did not fit into the cable.
    dropped: u64,
}

/// Sends `messages` trades in open loop: each has a time at which it is due, and when the publisher
/// is late it catches up without forgetting how late it was. Then heartbeats, until the receiver
/// has heard one.
fn publish(
    rate: u64,
    messages: u64,
    to: SocketAddr,
    network: &Network,
    clock: &Clock,
    progress: &Progress,
) -> Result<Published> {
    let from = network.enter_publisher()?;
    let dropped_before = network.dropped()?;
    let mut socket = UdpOptions::new(SocketAddr::from((from, 0))).open()?;
    let mut burst = Burst::with_capacity(BURST);
    let (begin, mut number) = (clock.now(), 0);
    let due = |number: u64| begin + number * 1_000_000_000 / rate;
    while number < messages || !burst.is_empty() {
        let now = clock.now();
        let late = (number..messages).take(burst.room()).take_while(|&number| due(number) <= now);
        let old = burst.len();
        socket.alloc(&mut burst, late.count());
        for datagram in &mut burst[old..] {
            let symbol = SYMBOLS[number as usize % SYMBOLS.len()];
            datagram.send_to(to);
            write_message(datagram, number, due(number), symbol)?;
            number += 1;
        }
        if burst.is_empty() {
            std::hint::spin_loop();
        } else {
            socket.send(&mut burst)?;
        }
    }
    let mut heartbeats = 0;
    while !progress.receiver_gone.load(Ordering::Acquire) {
        if socket.alloc(&mut burst, 1) == 1 {
            burst[0].send_to(to);
            write_message(&mut burst[0], messages, clock.now(), HEARTBEAT)?;
            heartbeats += socket.send(&mut burst)? as u64;
        }
        burst.clear();
        thread::sleep(INTERVAL);
    }
    // What the kernel took and then failed to send was never on the wire.
    let failed = socket.stats().drops.total();
    let dropped = network.dropped()? - dropped_before;
    Ok(Published { messages: messages - failed.min(messages), heartbeats, dropped })
}

/// Writes a message straight into the datagram that will be sent.
fn write_message(
    datagram: &mut impl Datagram,
    number: u64,
    due: u64,
    symbol: &[u8; 8],
) -> Result<()> {
    let room = |error| bypass_io::Error::frame("write a trade", "market_data", error);
    datagram.set_len(MESSAGE).map_err(room)?;
    let (price, size) = (10_000 + number % 500, 1 + number as u32 % 100);
    let bytes = datagram.data_mut();
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    bytes[8..16].copy_from_slice(&due.to_be_bytes());
    bytes[16..24].copy_from_slice(symbol);
    bytes[24..32].copy_from_slice(&price.to_be_bytes());
    bytes[32..36].copy_from_slice(&size.to_be_bytes());
    Ok(())
}

/// What the receiver made of the feed.
#[derive(Default)]
struct Feed {
    received: u64,
    /// Numbers that were passed over and have not come since.
    missing: u64,
    malformed: u64,
    /// The number that is expected next.
    next: u64,
    ended: bool,
    last_price: [u64; SYMBOLS.len()],
}

/// Takes messages in bursts until a heartbeat says that there are no more.
fn receive<S: DatagramIo>(socket: &mut S, meter: &mut Meter, progress: &Progress) -> Result<Feed> {
    let mut feed = Feed::default();
    let mut burst = Burst::with_capacity(BURST);
    let mut wait = Adaptive::new(100);
    while !feed.ended {
        let gone = progress.publisher_gone.load(Ordering::Acquire);
        let n = socket.recv(&mut burst)?;
        let now = meter.clock().now();
        for datagram in burst.iter() {
            match feed.take(datagram.data()) {
                Some(Message::Trade { due }) => meter.latency.record(now.saturating_sub(due)),
                Some(Message::Heartbeat) => feed.ended = true,
                None => feed.malformed += 1,
            }
        }
        burst.clear();
        // A publisher that failed sends no heartbeat.
        feed.ended |= n == 0 && gone;
        wait.after(n, socket, Interest::RX)?;
    }
    Ok(feed)
}

enum Message {
    Trade { due: u64 },
    Heartbeat,
}

impl Feed {
    /// Reads one message; `None` when it is none.
    fn take(&mut self, bytes: &[u8]) -> Option<Message> {
        let (number, rest) = bytes.split_first_chunk()?;
        let (due, rest) = rest.split_first_chunk()?;
        let (symbol, rest) = rest.split_first_chunk::<8>()?;
        let (price, _size) = rest.split_first_chunk()?;
        let number = u64::from_be_bytes(*number);
        if symbol == HEARTBEAT {
            self.missing += number.saturating_sub(self.next);
            self.next = self.next.max(number);
            return Some(Message::Heartbeat);
        }
        let symbol = SYMBOLS.iter().position(|known| *known == symbol)?;
        self.received += 1;
        if number < self.next {
            // It was counted as missing when a later one came first.
            self.missing = self.missing.saturating_sub(1);
        } else {
            self.missing += number - self.next;
            self.next = number + 1;
        }
        self.last_price[symbol] = u64::from_be_bytes(*price);
        Some(Message::Trade { due: u64::from_be_bytes(*due) })
    }
}

/// One line of the result.
struct Row {
    backend: &'static str,
    notes: Vec<String>,
    published: Published,
    feed: Feed,
    snapshot: Snapshot,
}

impl Row {
    const HEADER: &'static str = "backend     sent  received    lost  (by cause)            \
         msg/s   p50 µs   p90 µs   p99 µs  p99.9 µs  CPU %  switches/s  syscalls/msg";

    fn lost(&self) -> u64 {
        self.published.messages.saturating_sub(self.feed.received)
    }

    /// Every message was received, or a counter says why not; only heartbeats may have been lost
    /// beside.
    fn adds_up(&self) -> bool {
        let (lost, counted) = (self.lost(), self.counted());
        self.feed.missing == lost
            && self.feed.malformed == 0
            && (lost..=lost + self.published.heartbeats).contains(&counted)
    }

    fn counted(&self) -> u64 {
        self.published.dropped + self.snapshot.stats.drops.total()
    }

    /// What is compared, for when it does not add up.
    fn account(&self) -> String {
        let (Published { messages, heartbeats, .. }, feed) = (self.published, &self.feed);
        format!(
            "{messages} messages and {heartbeats} heartbeats were sent, {} messages received, {} \
             passed over by number, {} malformed, {} counted as dropped",
            feed.received,
            feed.missing,
            feed.malformed,
            self.counted(),
        )
    }

    fn cpu(&self) -> f64 {
        100.0 * self.snapshot.usage.cpu().as_secs_f64() / self.snapshot.elapsed.as_secs_f64()
    }

    fn switches(&self) -> u64 {
        self.snapshot.usage.voluntary_switches + self.snapshot.usage.involuntary_switches
    }

    fn syscalls(&self) -> String {
        match self.snapshot.stats.syscalls {
            Some(n) => format!("{:.3}", n as f64 / self.feed.received.max(1) as f64),
            None => "unknown".to_owned(),
        }
    }

    fn table(&self) -> String {
        let Self { backend, published, feed, snapshot, .. } = self;
        let drops = snapshot.stats.drops.iter().map(|(cause, n)| (cause.name(), n));
        let cable = Some(("cable", published.dropped)).filter(|(_, n)| *n > 0);
        let causes = drops.chain(cable).map(|(cause, n)| format!("{cause} {n}"));
        let causes: Vec<_> = causes.collect();
        let causes = if causes.is_empty() { "none".to_owned() } else { causes.join(", ") };
        let us = |nanos: u64| nanos as f64 / 1000.0;
        let latency = snapshot.latency;
        format!(
            "{backend:<8} {:>8} {:>9} {:>7}  {causes:<20} {:>7.0} {:>8.1} {:>8.1} {:>8.1} \
             {:>9.1} {:>6.1} {:>11.0} {:>13}",
            published.messages,
            feed.received,
            self.lost(),
            snapshot.rate(feed.received),
            us(latency.p50),
            us(latency.p90),
            us(latency.p99),
            us(latency.p999),
            self.cpu(),
            snapshot.rate(self.switches()),
            self.syscalls(),
        )
    }

    fn json(&self) -> String {
        let Self { backend, published, feed, snapshot, .. } = self;
        format!(
            "{{\"backend\":\"{backend}\",\"sent\":{},\"received\":{},\"lost\":{},\
             \"adds_up\":{},\"cpu_percent\":{:.2},\"telemetry\":{}}}",
            published.messages,
            feed.received,
            self.lost(),
            self.adds_up(),
            self.cpu(),
            snapshot.to_json(),
        )
    }
}
