//! Market data and tick-to-trade: a feed of NASDAQ's ITCH 5.0 messages in MoldUDP64 packets, a
//! receiver that keeps an order book for each security and sends orders.
//!
//! ```text
//! cargo run --release --example market_data
//! cargo run --release --example market_data -- --rate 500000 --seconds 5 --loss 10
//! cargo run --release --example market_data -- --seconds 60 --telemetry 127.0.0.1:9100
//! cargo run --release --example market_data -- 01302020.NASDAQ_ITCH50.gz --json
//! sudo -E cargo run --release --features xdp --example market_data             # on AF_XDP
//! ```
//!
//! | file | what is there |
//! |---|---|
//! | [`receiver`] | the loop, against `DatagramIo`: packets in, books, orders out |
//! | [`mold`], [`itch`], [`ouch`] | the formats: packets, messages, orders |
//! | [`sequence`] | each message once and in order: gaps, requests, what is lost |
//! | [`book`], [`trader`] | who would buy and sell; a rule that trades on it |
//! | [`day`] | the messages, from a file or made up |
//! | [`exchange`] | the other end: the feed, its retransmission server, order entry |
//! | [`network`], [`options`], [`report`] | the cable, the command line, the table |
//!
//! The receiver runs on the plain socket backend and on the backend that the crate's features chose,
//! one after the other, and the table compares them. The exchange is another host, as far as the
//! network goes: it sits in a network namespace of its own, at the other end of a cable. That needs
//! no root where the machine allows unprivileged namespaces; where it does not, the traffic runs over
//! the loopback interface, which kernel sockets have and AF_XDP has not.
//!
//! Ctrl-C ends the day early: the receiver takes what has been published, and the table says what that was.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example talks to its user")]
#![allow(unreachable_pub, reason = "what is public in a module of a program is for the others")]

mod book;
mod day;
mod exchange;
mod itch;
mod mold;
mod network;
mod options;
mod ouch;
mod receiver;
mod report;
mod sequence;
mod trader;

use std::any::TypeId;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use bypass_io::backend::socket::UdpSocket;
use bypass_io::prelude::*;
use bypass_io::telemetry::{Board, Clock, Exporter, Listening, Snapshot};
use bypass_io::worker::{Stop, available_cores, pin_to};
use bypass_io::{Bind, DefaultSocket, Error, UdpOptions};

use day::Day;
use exchange::{Exchange, Progress};
use network::Network;
use options::Job;
use receiver::{Market, Receiver, Schedule};
use report::Row;

/// Until the first message is due: both sides are ready then.
const LEAD: Duration = Duration::from_millis(100);

fn main() -> ExitCode {
    let job = match Job::from_args() {
        Ok(Some(job)) => job,
        Ok(None) => {
            println!("{}", options::USAGE);
            return ExitCode::SUCCESS;
        }
        Err(error) => {
            eprintln!("error: {error}\n{}", options::USAGE);
            return ExitCode::from(2);
        }
    };
    // Where others reach it, not in the namespace to come.
    let telemetry = match job.telemetry.as_deref().map(Exporter::listen).transpose() {
        Ok(telemetry) => telemetry,
        Err(error) => {
            eprintln!("error: {error}");
            return ExitCode::FAILURE;
        }
    };
    // While there is only one thread.
    let network = Network::make();
    match run(&job, telemetry, &network) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("there are messages, packets or orders that no counter explains");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs every backend and shows the results; false when something is unaccounted for.
fn run(job: &Job, telemetry: Option<Listening>, network: &Network) -> Result<bool> {
    let board = Board::new();
    let exporter = telemetry.map(|listening| listening.serve(&board)).transpose()?;
    if let Some(exporter) = exporter.as_ref().filter(|_| !job.json) {
        println!("telemetry at {}", exporter.address());
    }
    let day = read_day(job)?;
    write(job.save.as_deref(), || day.bytes().to_vec())?;
    let clock = Clock::new();
    // From here on, what has happened is shown when it is stopped.
    let stop = Stop::on_signals()?;
    let mut rows = vec![measure::<UdpSocket>(job, &day, network, &clock, &board, &stop)?];
    if TypeId::of::<DefaultSocket>() != TypeId::of::<UdpSocket>() && !stop.stopping() {
        rows.push(measure::<DefaultSocket>(job, &day, network, &clock, &board, &stop)?);
    }
    if job.json {
        rows.iter().for_each(|row| println!("{}", row.json()));
    } else {
        println!("{} messages, {} a second, over {network}\n", day.len(), job.rate);
        println!("{}", Row::HEADER);
        rows.iter().for_each(|row| println!("{}", row.table()));
        rows.iter().flat_map(|row| &row.notes).for_each(|note| println!("note: {note}"));
        if stop.stopping() {
            println!("stopped before the end of the day");
        }
    }
    for row in rows.iter().filter(|row| !row.adds_up()) {
        eprintln!("{}", row.account());
    }
    Ok(rows.iter().all(Row::adds_up))
}

fn write(file: Option<&Path>, content: impl FnOnce() -> Vec<u8>) -> Result<()> {
    let Some(file) = file else { return Ok(()) };
    let failed = |error| Error::os(format!("write {}", file.display()), error);
    std::fs::write(file, content()).map_err(failed)
}

fn read_day(job: &Job) -> Result<Day> {
    match &job.file {
        Some(file) => Day::open(file, job.messages()).map_err(|error| {
            Error::os(format!("read ITCH messages from {}", file.display()), error)
        }),
        None => Ok(Day::generate(job.settings.seed, job.messages())),
    }
}

/// One exchange, one receiver on the backend `S`.
fn measure<S: Bind>(
    job: &Job,
    day: &Day,
    network: &Network,
    clock: &Clock,
    board: &Board,
    stop: &Stop,
) -> Result<Row> {
    let cores = available_cores()?;
    pin_to(cores[0])?;
    let mut options = UdpOptions::new(SocketAddr::from((network.receiver(), 0)));
    options.recv_buffer = Some(4 << 20);
    let socket = S::bind(&options)?;
    let to = socket.local_addr();
    let schedule = Schedule { begin: clock.now() + LEAD.as_nanos() as u64, rate: job.rate };
    let dropped_before = network.dropped_by_receiver()?;

    let progress = Progress::default();
    let (opened, is_open) = mpsc::sync_channel(1);
    thread::scope(|scope| {
        let exchange = scope.spawn(|| {
            // However it ends, the receiver must not wait for more.
            let _gone = SetOnDrop(&progress.exchange_gone);
            pin_to(cores[cores.len() - 1])?;
            network.enter_exchange()?;
            let dropped_before = network.dropped_by_exchange()?;
            let mut exchange =
                Exchange::open(network.exchange(), day, job.settings, clock.clone())?;
            // Whoever waits may have failed and gone.
            let _gone = opened.send(exchange.servers());
            exchange.run(to, schedule, &progress, stop)?;
            exchange.published.dropped += network.dropped_by_exchange()? - dropped_before;
            Ok::<_, Error>(exchange.published)
        });
        // An exchange that failed says so when it is joined.
        let received = is_open.recv().ok().map(|servers| {
            let market = Market::new(schedule, board.meter("receiver", Some(cores[0]))?);
            let mut receiver = Receiver::new(socket, servers, market, clock.clone());
            let snapshot = receive(&mut receiver, &progress)?;
            Ok::<_, Error>((receiver, snapshot))
        });
        progress.receiver_gone.store(true, Ordering::Release);
        let published = match exchange.join() {
            Ok(published) => published?,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        let (receiver, snapshot) = received.unwrap_or_else(|| {
            Err(Error::os("receive from an exchange", std::io::ErrorKind::NotConnected))
        })?;
        let books = || report::books(&receiver.market.books).to_string().into_bytes();
        write(job.books.as_deref(), books)?;
        let caps = receiver.socket.caps();
        Ok(Row {
            backend: caps.backend,
            notes: caps.fallbacks.clone(),
            published,
            counts: receiver.sequencer.counts.clone(),
            malformed: receiver.market.malformed,
            oddities: receiver.market.oddities,
            tick_to_trade: receiver.tick_to_trade.summary(),
            orders: receiver.orders,
            forgone: receiver.market.trader.forgone,
            orders_dropped: network.dropped_by_receiver()? - dropped_before,
            snapshot,
        })
    })
}

/// Takes the feed until its session is over.
fn receive<S: Bind>(receiver: &mut Receiver<S>, progress: &Progress) -> Result<Snapshot> {
    let mut wait = Adaptive::default();
    while !receiver.sequencer.is_over() {
        let gone = progress.exchange_gone.load(Ordering::Acquire);
        let received = receiver.turn()?;
        // An exchange that failed says nothing any more.
        if received == 0 && gone {
            break;
        }
        receiver.show();
        receiver.wait(received, &mut wait)?;
    }
    receiver.finish()?;
    progress.orders.store(receiver.orders, Ordering::Release);
    Ok(receiver.market.meter.snapshot(receiver.socket.stats()))
}

struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}
