//! A zero-copy order sender: each order is written straight into the frame that leaves, and the
//! UDP, IP and Ethernet headers are built in place in front of it. The kernel's IP stack takes no
//! part.
//!
//! ```text
//! cargo run --release --example order_sender        # no root: a network and an exchange of its own
//! cargo run --release --example order_sender -- \
//!     --interface eth1 --from 10.0.0.9/24:5000 --to 10.0.0.1:6000 --orders 1000 --rate 10000
//! ```
//!
//! Without an interface it makes a cable in a network namespace of its own and puts an exchange at
//! the other end, which verifies every checksum and acknowledges every order, so that the round
//! trip is measured. With one (CAP_NET_RAW) it asks for the receiver's station by ARP or NDP; look
//! at what leaves with `tcpdump -vv`.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example talks to its user")]

use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

use bypass_io::prelude::*;
use bypass_io::sandbox::{Interface, Sandbox};
use bypass_io::telemetry::{Clock, Meter, Snapshot};
use bypass_io::udp::{Config, IpNet, UdpOverL2};
use bypass_io::worker::Stop;
use bypass_io::{Attach, DefaultPort, DropCause, Error, MacAddr, PacketOptions, sys};

/// Number, time of sending, symbol, side, size, price; big endian.
const ORDER: usize = 8 + 8 + 8 + 1 + 4 + 8;
const BURST: usize = 32;
/// How long the last acknowledgements may take.
const PATIENCE: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let outcome = Job::from_args().and_then(|job| match job.interface {
        Some(_) => send_outside(&job),
        None => send_inside(&job),
    });
    match outcome {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// What to do.
struct Job {
    interface: Option<String>,
    from: Station,
    to: SocketAddr,
    orders: u64,
    rate: u64,
}

/// An address of our own: the kernel must not have it, or it answers too.
#[derive(Clone)]
struct Station {
    net: IpNet,
    port: u16,
}

impl Job {
    fn from_args() -> Result<Self> {
        let mut job = Self {
            interface: None,
            from: Station::new([10, 77, 0, 1].into(), 5000)?,
            to: ([10, 77, 0, 2], 6000).into(),
            orders: 20_000,
            rate: 10_000,
        };
        let mut args = std::env::args().skip(1);
        while let Some(key) = args.next() {
            let value = args.next().unwrap_or_default();
            let wrong = |why| Error::config(key.clone(), &value, why);
            let number = || value.parse().ok().filter(|&n| n > 0).ok_or(wrong("a number"));
            match key.as_str() {
                "--interface" => job.interface = Some(value),
                "--from" => job.from = Station::parse(&value).ok_or(wrong("IP/PREFIX:PORT"))?,
                "--to" => job.to = value.parse().map_err(|_| wrong("IP:PORT"))?,
                "--orders" => job.orders = number()?,
                "--rate" => job.rate = number()?,
                _ => return Err(wrong("known: --interface --from --to --orders --rate")),
            }
        }
        Ok(job)
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
fn send_outside(job: &Job) -> Result<Report> {
    let interface = job.interface.as_deref().unwrap_or_default();
    let mut socket = job.from.open(interface, sys::interface::mac(interface)?)?;
    let mut meter = Meter::start(Clock::new());
    let (sent, acknowledged) = trade(&mut socket, job, &mut meter, Duration::ZERO)?;
    let telemetry = meter.snapshot(socket.stats());
    Ok(Report { sent, acknowledged, exchange: None, telemetry })
}

/// Sends through a cable of its own, to an exchange of its own.
fn send_inside(job: &Job) -> Result<Report> {
    let [ours, theirs] = Sandbox::enter()?.veth("orders")?;
    let stop = Arc::new(Stop::new());
    let (opened, is_open) = mpsc::channel();
    let exchange = {
        let (to, stop) = (job.to, Arc::clone(&stop));
        thread::spawn(move || run_exchange(&theirs, to, &opened, &stop))
    };
    let mut socket = job.from.open(&ours.name, ours.mac)?;
    // Nobody would answer before; an exchange that failed says so when it is joined.
    let _open_or_failed = is_open.recv();
    let mut meter = Meter::start(Clock::new());
    let outcome = trade(&mut socket, job, &mut meter, PATIENCE);
    stop.stop();
    let exchange = match exchange.join() {
        Ok(exchange) => exchange?,
        Err(panic) => std::panic::resume_unwind(panic),
    };
    let (sent, acknowledged) = outcome?;
    let telemetry = meter.snapshot(socket.stats());
    Ok(Report { sent, acknowledged, exchange: Some(exchange), telemetry })
}

/// Sends the orders at their rate, and takes acknowledgements for `patience` after the last.
/// Returns how many left and how many were acknowledged.
fn trade<S: DatagramIo>(
    socket: &mut S,
    job: &Job,
    meter: &mut Meter,
    patience: Duration,
) -> Result<(u64, u64)> {
    let (mut orders, mut answers) = (Burst::with_capacity(BURST), Burst::with_capacity(BURST));
    let clock = meter.clock().clone();
    let begin = clock.now();
    let due = |number: u64| begin + number * 1_000_000_000 / job.rate;
    let (mut number, mut acknowledged) = (0, 0);
    let mut found = false;
    loop {
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
        let late = (number..job.orders).take(room).take_while(|&n| due(n) <= now);
        let old = orders.len();
        socket.alloc(&mut orders, late.count());
        for order in &mut orders[old..] {
            order.send_to(job.to);
            write_order(order, number, due(number))?;
            number += 1;
        }
        let sent = if orders.is_empty() { 0 } else { socket.send(&mut orders)? };
        socket.flush()?;

        let received = socket.recv(&mut answers)?;
        let now = clock.now();
        for answer in answers.iter() {
            if let Some(due) = answer.data().get(8..16).and_then(|due| due.try_into().ok()) {
                meter.latency.record(now.saturating_sub(u64::from_be_bytes(due)));
                acknowledged += 1;
            }
        }
        answers.clear();
        if number == job.orders && orders.is_empty() {
            let over = now > due(job.orders) + patience.as_nanos() as u64;
            // Datagrams that wait for ARP are still in flight.
            let left = socket.stats().tx_in_flight == 0;
            if (acknowledged == job.orders || over) && left {
                return Ok((socket.stats().tx_packets, acknowledged));
            }
        }
        if sent + received == 0 {
            std::hint::spin_loop();
        }
    }
}

/// Writes an order into the datagram that will be sent: this is the only time its bytes are
/// written.
fn write_order(order: &mut impl Datagram, number: u64, due: u64) -> Result<()> {
    let room = |error| Error::frame("write an order", "order_sender", error);
    let bytes = order.append(ORDER).map_err(room)?;
    let side = if number.is_multiple_of(2) { b'B' } else { b'S' };
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    bytes[8..16].copy_from_slice(&due.to_be_bytes());
    bytes[16..24].copy_from_slice(b"AAPL    ");
    bytes[24] = side;
    bytes[25..29].copy_from_slice(&(100 + number as u32 % 900).to_be_bytes());
    bytes[29..37].copy_from_slice(&(18_000 + number % 100).to_be_bytes());
    Ok(())
}

/// What the exchange saw.
struct Exchange {
    orders: u64,
    out_of_order: u64,
    dropped: u64,
}

/// Acknowledges every order by sending it back, in the frame that it came in.
fn run_exchange(
    interface: &Interface,
    at: SocketAddr,
    opened: &Sender<()>,
    stop: &Stop,
) -> Result<Exchange> {
    let station = Station::new(at.ip(), at.port())?;
    let mut socket = station.open(&interface.name, interface.mac)?;
    // Whoever waits may have failed and gone.
    let _gone = opened.send(());
    let mut exchange = Exchange { orders: 0, out_of_order: 0, dropped: 0 };
    let (mut burst, mut wait) = (Burst::with_capacity(BURST), Adaptive::default());
    while !stop.stopping() {
        let old = burst.len();
        let received = socket.recv(&mut burst)?;
        for order in &mut burst[old..] {
            let number = order.data().first_chunk().map(|bytes| u64::from_be_bytes(*bytes));
            exchange.out_of_order += u64::from(number != Some(exchange.orders));
            exchange.orders += 1;
            order.reply();
        }
        let sent = if burst.is_empty() { 0 } else { socket.send(&mut burst)? };
        socket.flush()?;
        wait.after(received + sent, &mut socket, Interest::RX)?;
    }
    exchange.dropped = socket.stats().drops.total();
    Ok(exchange)
}

struct Report {
    sent: u64,
    acknowledged: u64,
    exchange: Option<Exchange>,
    telemetry: Snapshot,
}

impl std::fmt::Display for Report {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{} orders sent, {} acknowledged", self.sent, self.acknowledged)?;
        if let Some(Exchange { orders, out_of_order, dropped }) = self.exchange {
            write!(f, "the exchange received {orders} with good checksums, ")?;
            writeln!(f, "{out_of_order} out of order; {dropped} other packets dropped")?;
        }
        write!(f, "{}", self.telemetry)
    }
}
