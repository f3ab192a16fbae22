//! A zero-copy order sender: each order, in the format of NASDAQ's OUCH 4.2, is written straight into
//! the frame that leaves, and the UDP, IP and Ethernet headers are built in place in front of it. The
//! kernel's IP stack takes no part. At NASDAQ the same bytes go through SoupBinTCP, which is TCP.
//!
//! ```text
//! cargo run --release --example order_sender        # no root: a network and an exchange of its own
//! cargo run --release --example order_sender -- \
//!     --interface eth1 --from 10.0.0.9/24:5000 --to 10.0.0.1:6000 --orders 1000 --rate 10000
//! ```
//!
//! Without an interface it makes a cable in a network namespace of its own and puts an exchange at
//! the other end, which verifies every checksum and accepts every order, so that the round trip is
//! measured. With one (CAP_NET_RAW) it asks for the receiver's station by ARP or NDP; look
//! at what leaves with `tcpdump -vv`. Ctrl-C ends it early, with a report of what was sent.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example talks to its user")]

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU64;
use std::process::ExitCode;
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

use bypass_io::prelude::*;
use bypass_io::sandbox::{Interface, Sandbox};
use bypass_io::telemetry::{Clock, Meter, Snapshot};
use bypass_io::udp::{Config, IpNet, UdpOverL2};
use bypass_io::worker::Stop;
use bypass_io::{Attach, DefaultPort, DropCause, Error, MacAddr, PacketOptions, sys};
use lexopt::prelude::*;
use zerocopy::byteorder::big_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

const USAGE: &str = "\
usage: order_sender [--orders N] [--rate N] [--json] [--interface NAME --from IP/PREFIX:PORT --to IP:PORT]";

const BURST: usize = 32;
/// How long the last acknowledgements may take.
const PATIENCE: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let Err(error) = run() else { return ExitCode::SUCCESS };
    eprintln!("error: {error}");
    ExitCode::FAILURE
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let Some(job) = Job::from_args()? else {
        println!("{USAGE}");
        return Ok(());
    };
    let stop = Stop::on_signals()?;
    let report = match job.interface {
        Some(_) => send_outside(&job, &stop)?,
        None => send_inside(&job, &stop)?,
    };
    if job.json {
        println!("{}", report.json())
    } else {
        println!("{report}")
    }
    Ok(())
}

/// What to do.
struct Job {
    interface: Option<String>,
    from: Station,
    to: SocketAddr,
    orders: u64,
    rate: u64,
    json: bool,
}

/// An order as its owner numbers it, in letters and digits.
type Token = [u8; 14];

/// What an order is about, in the same place of both messages.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Order {
    token: Token,
    /// `B` or `S`.
    side: u8,
    shares: U32,
    stock: [u8; 8],
    /// In 1/10 000 dollars.
    price: U32,
    /// In seconds; 0 for an order that is executed at once or never.
    time_in_force: U32,
    firm: [u8; 4],
    display: u8,
}

/// How it may be executed, likewise.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Terms {
    capacity: u8,
    intermarket_sweep: u8,
    minimum_quantity: U32,
    cross: u8,
}

/// `O`: a new order.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct EnterOrder {
    kind: u8,
    order: Order,
    terms: Terms,
    customer: u8,
}

/// `A`: the order is on the book.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Accepted {
    kind: u8,
    /// Nanoseconds since midnight.
    timestamp: U64,
    order: Order,
    reference: U64,
    terms: Terms,
    /// `L`, live.
    state: u8,
    weight: u8,
}

/// An address of our own: the kernel must not have it, or it answers too.
#[derive(Clone)]
struct Station {
    net: IpNet,
    port: u16,
}

impl Job {
    /// What the command line says; `None` when it asks for help.
    fn from_args() -> Result<Option<Self>, Box<dyn std::error::Error>> {
        let mut job = Self {
            interface: None,
            from: Station::new([10, 77, 0, 1].into(), 5000)?,
            to: ([10, 77, 0, 2], 6000).into(),
            orders: 20_000,
            rate: 10_000,
            json: false,
        };
        let mut args = lexopt::Parser::from_env();
        while let Some(arg) = args.next()? {
            match arg {
                Long("interface") => job.interface = Some(args.value()?.string()?),
                Long("from") => {
                    let station = |text: &str| Station::parse(text).ok_or("IP/PREFIX:PORT");
                    job.from = args.value()?.parse_with(station)?;
                }
                Long("to") => job.to = args.value()?.parse()?,
                Long("orders") => job.orders = args.value()?.parse::<NonZeroU64>()?.get(),
                Long("rate") => job.rate = args.value()?.parse::<NonZeroU64>()?.get(),
                Long("json") => job.json = true,
                Long("help") | Short('h') => return Ok(None),
                _ => return Err(format!("{}\n{USAGE}", arg.unexpected()).into()),
            }
        }
        Ok(Some(job))
    }
}

impl Station {
    /// On a network of 24 bits.
    fn new(ip: IpAddr, port: u16) -> Result<Self> {
        let net =
            IpNet::new(ip, 24).map_err(|error| Error::config("prefix", 24, error.to_string()))?;
        Ok(Self { net, port })
    }

    fn parse(text: &str) -> Option<Self> {
        let (net, port) = text.rsplit_once(':')?;
        Some(Self { net: net.parse().ok()?, port: port.parse().ok()? })
    }

    /// UDP over Ethernet in user space, on the backend that the features chose.
    fn open(&self, interface: &str, mac: MacAddr) -> Result<UdpOverL2<DefaultPort>> {
        let port = DefaultPort::attach(&PacketOptions::new(interface))?;
        UdpOverL2::new(port, Config::new(mac, self.port).address(self.net))
    }
}

/// Sends through an interface that is there.
fn send_outside(job: &Job, stop: &Stop) -> Result<Report> {
    let interface = job.interface.as_deref().unwrap_or_default();
    let mut socket = job.from.open(interface, sys::interface::mac(interface)?)?;
    let mut meter = Meter::start(Clock::new());
    let trade = trade(&mut socket, job, stop, &mut meter, Duration::ZERO)?;
    let telemetry = meter.snapshot(socket.stats());
    Ok(Report { trade, exchange: None, telemetry })
}

/// Sends through a cable of its own, to an exchange of its own.
fn send_inside(job: &Job, stop: &Stop) -> Result<Report> {
    let [ours, theirs] = Sandbox::enter()?.veth("orders")?;
    let close = Stop::new();
    let (opened, is_open) = mpsc::channel();
    let exchange = {
        let (to, close) = (job.to, close.clone());
        thread::spawn(move || run_exchange(&theirs, to, &opened, &close))
    };
    let mut socket = job.from.open(&ours.name, ours.mac)?;
    // Nobody would answer before; an exchange that failed says so when it is joined.
    let _open_or_failed = is_open.recv();
    let mut meter = Meter::start(Clock::new());
    let outcome = trade(&mut socket, job, stop, &mut meter, PATIENCE);
    close.stop();
    let exchange = match exchange.join() {
        Ok(exchange) => exchange?,
        Err(panic) => std::panic::resume_unwind(panic),
    };
    let trade = outcome?;
    let telemetry = meter.snapshot(socket.stats());
    Ok(Report { trade, exchange: Some(exchange), telemetry })
}

/// What became of the orders.
struct Trade {
    sent: u64,
    acknowledged: u64,
    /// Datagrams that acknowledge no order of ours.
    strays: u64,
}

/// Sends the orders at their rate, as many as there are or until it is told to stop, and takes
/// acknowledgements for `patience` after the last.
fn trade<S: DatagramIo>(
    socket: &mut S,
    job: &Job,
    stop: &Stop,
    meter: &mut Meter,
    patience: Duration,
) -> Result<Trade> {
    let (mut orders, mut answers) = (Burst::with_capacity(BURST), Burst::with_capacity(BURST));
    let clock = meter.clock().clone();
    let begin = clock.now();
    let due = |number: u64| begin + number * 1_000_000_000 / job.rate;
    let (mut number, mut end) = (0, job.orders);
    let (mut acknowledged, mut strays) = (0, 0);
    let mut found = false;
    loop {
        if end > number && stop.stopping() {
            end = number;
        }
        // The first order goes alone: the receiver's station has to be asked for, and the others
        // would only queue up behind the question.
        if !found && number > 0 {
            let stats = socket.stats();
            found = stats.tx_packets > 0;
            if stats.drops[DropCause::NeighbourTimeout] > 0 {
                let nobody = std::io::ErrorKind::HostUnreachable;
                return Err(Error::os(format!("find the station of {}", job.to.ip()), nobody));
            }
        }
        let room = if found { orders.room() } else { usize::from(number == 0) };
        let now = clock.now();
        let late = (number..end).take(room).take_while(|&n| due(n) <= now);
        let old = orders.len();
        socket.alloc(&mut orders, late.count());
        for order in &mut orders[old..] {
            order.send_to(job.to);
            write_order(order, number)?;
            number += 1;
        }
        let sent = if orders.is_empty() { 0 } else { socket.send(&mut orders)? };
        socket.flush()?;

        let received = socket.recv(&mut answers)?;
        let now = clock.now();
        for answer in answers.iter() {
            match accepted(answer.data()).filter(|&order| order < number) {
                Some(order) => {
                    meter.latency.record(now.saturating_sub(due(order)));
                    acknowledged += 1;
                }
                None => strays += 1,
            }
        }
        answers.clear();
        if number == end && orders.is_empty() {
            let over = now > due(end) + patience.as_nanos() as u64;
            // Datagrams that wait for ARP are still in flight; who stops does not wait for it.
            let left = socket.stats().tx_in_flight == 0 || stop.stopping() && !found;
            if (acknowledged == end || over) && left {
                return Ok(Trade { sent: socket.stats().tx_packets, acknowledged, strays });
            }
        }
        if sent + received == 0 {
            std::hint::spin_loop();
        }
    }
}

/// Writes an order into the datagram that will be sent: this is the only time its bytes are
/// written.
fn write_order(datagram: &mut impl Datagram, number: u64) -> Result<()> {
    let room = |error| Error::frame("write an order", "order_sender", error);
    let bytes = datagram.append(size_of::<EnterOrder>()).map_err(room)?;
    let order = Order {
        token: token(number),
        side: if number.is_multiple_of(2) { b'B' } else { b'S' },
        shares: (100 + number as u32 % 900).into(),
        stock: *b"AAPL    ",
        price: (1_800_000 + 100 * (number as u32 % 100)).into(),
        time_in_force: 0.into(),
        firm: *b"BYPS",
        display: b'Y',
    };
    let terms =
        Terms { capacity: b'P', intermarket_sweep: b'N', minimum_quantity: 0.into(), cross: b'N' };
    let enter = EnterOrder { kind: b'O', order, terms, customer: b'N' };
    bytes.copy_from_slice(enter.as_bytes());
    Ok(())
}

fn token(number: u64) -> Token {
    let (mut token, mut rest) = ([b'0'; 14], number);
    for digit in token.iter_mut().rev() {
        *digit += (rest % 10) as u8;
        rest /= 10;
    }
    token
}

fn number_of(token: &Token) -> Option<u64> {
    std::str::from_utf8(token).ok()?.parse().ok()
}

/// The number of the order that an answer says is accepted.
fn accepted(answer: &[u8]) -> Option<u64> {
    let accepted = Accepted::ref_from_bytes(answer).ok()?;
    number_of(&accepted.order.token).filter(|_| accepted.kind == b'A')
}

/// Makes an order's datagram the answer that it is accepted, in place, and returns its number; `None`
/// where there is no order in it.
fn accept(datagram: &mut impl Datagram, reference: u64) -> Option<u64> {
    let &EnterOrder { kind, order, terms, .. } =
        EnterOrder::ref_from_bytes(datagram.data()).ok()?;
    let number = number_of(&order.token).filter(|_| kind == b'O')?;
    let accepted = Accepted {
        kind: b'A',
        timestamp: 0.into(),
        order,
        reference: reference.into(),
        terms,
        state: b'L',
        weight: b' ',
    };
    datagram.fill(accepted.as_bytes()).ok()?;
    datagram.reply();
    Some(number)
}

/// What the exchange saw.
struct Exchange {
    orders: u64,
    out_of_order: u64,
    /// Datagrams in which no order is.
    malformed: u64,
    dropped: u64,
}

/// Accepts every order, in the frame that it came in.
fn run_exchange(
    interface: &Interface,
    at: SocketAddr,
    opened: &Sender<()>,
    close: &Stop,
) -> Result<Exchange> {
    let station = Station::new(at.ip(), at.port())?;
    let mut socket = station.open(&interface.name, interface.mac)?;
    // Whoever waits may have failed and gone.
    let _gone = opened.send(());
    let mut exchange = Exchange { orders: 0, out_of_order: 0, malformed: 0, dropped: 0 };
    let (mut incoming, mut burst) = (Burst::with_capacity(BURST), Burst::with_capacity(BURST));
    let mut wait = Adaptive::default();
    while !close.stopping() {
        let received = socket.recv(&mut incoming)?;
        incoming.retain(|datagram| {
            let number = accept(datagram, exchange.orders);
            exchange.malformed += u64::from(number.is_none());
            exchange.out_of_order += u64::from(number.is_some_and(|n| n != exchange.orders));
            exchange.orders += u64::from(number.is_some());
            number.is_some()
        });
        // What was refused is still in front.
        let count = incoming.len();
        burst.append(&mut incoming, count);
        let sent = if burst.is_empty() { 0 } else { socket.send(&mut burst)? };
        socket.flush()?;
        wait.after(received + sent, &mut socket, Interest::RX)?;
    }
    exchange.dropped = socket.stats().drops.total();
    Ok(exchange)
}

struct Report {
    trade: Trade,
    exchange: Option<Exchange>,
    telemetry: Snapshot,
}

impl Report {
    fn json(&self) -> serde_json::Value {
        let exchange = self.exchange.as_ref().map(|exchange| {
            let Exchange { orders, out_of_order, malformed, dropped } = exchange;
            serde_json::json!({
                "orders": orders, "out_of_order": out_of_order, "malformed": malformed, "dropped": dropped,
            })
        });
        let Trade { sent, acknowledged, strays } = self.trade;
        serde_json::json!({
            "sent": sent,
            "acknowledged": acknowledged,
            "strays": strays,
            "exchange": exchange,
            "telemetry": self.telemetry,
        })
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Trade { sent, acknowledged, strays } = self.trade;
        write!(f, "{sent} orders sent, {acknowledged} acknowledged")?;
        match strays {
            0 => writeln!(f)?,
            _ => writeln!(f, ", {strays} answers to none of them")?,
        }
        if let Some(Exchange { orders, out_of_order, malformed, dropped }) = self.exchange {
            write!(f, "the exchange received {orders} with good checksums, ")?;
            writeln!(
                f,
                "{out_of_order} out of order, {malformed} malformed; {dropped} other packets dropped"
            )?;
        }
        write!(f, "{}", self.telemetry)
    }
}
