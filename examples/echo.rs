//! UDP echo on any backend: everything that arrives goes back to its sender, turned round in place.
//!
//! ```text
//! cargo run --release --example echo                                   # 127.0.0.1:7777, default backend
//! cargo run --release --example echo -- 0.0.0.0:9000                   # another address
//! cargo run --release --example echo -- udp+socket://127.0.0.1:7777    # another backend
//! cargo run --release --example echo -- 'udp+packet://10.0.0.9:7777?interface=eth0&prefix=24'
//! sudo -E cargo run --release --features xdp --example echo -- 10.0.0.1:7777   # this machine's address
//! ```
//!
//! Try it with `socat - UDP:127.0.0.1:7777`. On AF_XDP the address is one of an Ethernet interface, and
//! the client is another machine (or namespace). Ctrl-C ends it and
//! prints what happened, with `--json` as JSON; `--packets N` ends it after N packets. With `--telemetry 127.0.0.1:9100` the
//! example `monitor` and Prometheus can look at it while it works.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example talks to its user")]

use std::error::Error;
use std::process::ExitCode;

use bypass_io::any::open_socket;
use bypass_io::prelude::*;
use bypass_io::telemetry::{Board, Exporter, Snapshot};
use bypass_io::worker::Stop;
use bypass_io::{Bind, DefaultSocket, UdpOptions};
use lexopt::prelude::*;

const USAGE: &str = "usage: echo [ADDRESS | URI] [--packets N] [--telemetry ADDRESS] [--json]";

fn main() -> ExitCode {
    let Err(error) = run() else { return ExitCode::SUCCESS };
    eprintln!("error: {error}");
    ExitCode::FAILURE
}

fn run() -> Result<(), Box<dyn Error>> {
    let (mut place, mut packets, mut telemetry) = ("127.0.0.1:7777".to_owned(), u64::MAX, None);
    let mut json = false;
    let mut args = lexopt::Parser::from_env();
    while let Some(arg) = args.next()? {
        match arg {
            Long("packets") => packets = args.value()?.parse()?,
            Long("telemetry") => telemetry = Some(args.value()?.string()?),
            Long("json") => json = true,
            Long("help") | Short('h') => {
                println!("{USAGE}");
                return Ok(());
            }
            Value(value) => place = value.string()?,
            _ => return Err(format!("{}\n{USAGE}", arg.unexpected()).into()),
        }
    }
    let stop = Stop::on_signals()?;
    let board = Board::new();
    let exporter = telemetry.map(|place| Exporter::start(&board, &place)).transpose()?;
    if let Some(exporter) = &exporter {
        println!("telemetry at {}", exporter.address());
    }
    let snapshot = match place.parse() {
        // An address: the backend that the features chose, known to the compiler.
        Ok(address) => {
            serve(DefaultSocket::bind(&UdpOptions::new(address))?, &stop, packets, &board)?
        }
        // A URI: whichever backend it names.
        Err(_) => serve(open_socket(&place)?, &stop, packets, &board)?,
    };
    println!("{}", if json { snapshot.to_json() } else { snapshot.to_string() });
    Ok(())
}

/// Echoes until it is told to stop, or `packets` have been echoed.
fn serve<S: DatagramIo>(
    mut socket: S,
    stop: &Stop,
    packets: u64,
    board: &Board,
) -> Result<Snapshot> {
    println!("echo on {}, backend {}", socket.local_addr(), socket.caps().backend);
    let mut meter = board.meter("echo", None)?;
    let (mut burst, mut wait) = (Burst::with_capacity(64), Adaptive::default());
    let mut echoed = 0;
    while !stop.stopping() && echoed < packets {
        // What could not be sent in the last turn is still in the burst: it goes first, and while
        // there is much of it, no more is received. Back-pressure reaches the sender.
        let refused = burst.len();
        let received = socket.recv(&mut burst)?;
        let begin = meter.clock().now();
        burst[refused..].iter_mut().for_each(Datagram::reply);
        let sent = if burst.is_empty() { 0 } else { send(&mut socket, &mut burst)? };
        socket.flush()?;
        echoed += sent as u64;
        meter.record(begin, sent);
        meter.show(&socket);
        let interest = if burst.is_empty() { Interest::RX } else { Interest::RX | Interest::TX };
        wait.after(received + sent, &mut socket, interest)?;
    }
    Ok(meter.snapshot(socket.stats()))
}

/// Sends; a reply that can never be sent (to port 0, say) is dropped with a word, not for ever in
/// the way of the others.
fn send<S: DatagramIo>(socket: &mut S, burst: &mut Burst<S::Datagram>) -> Result<usize> {
    match socket.send(burst) {
        Err(error @ bypass_io::Error::Frame { .. }) => {
            eprintln!("dropped a reply: {error}");
            burst.pop_front();
            Ok(0)
        }
        outcome => outcome,
    }
}
