//! An authoritative DNS server on any backend: every answer is worked out when it starts, and a query
//! becomes its own response in the memory in which it came.
//!
//! ```text
//! cargo run --release --example dns                                     # 127.0.0.1:5353, example.com
//! cargo run --release --example dns -- --zone example.org=FILE 0.0.0.0:53
//! cargo run --release --example dns -- udp+socket://127.0.0.1:5353      # another backend
//! cargo run --release --example dns -- --cores 0,1 --json 127.0.0.1:5353
//! cargo run --release --features xdp --example dns -- 10.0.0.1:53       # AF_XDP, on the interface that has it
//! cargo run --release --features dpdk --example dns -- 10.0.0.1:53      # DPDK, the same way
//! ```
//!
//! Ask it with `dig @127.0.0.1 -p 5353 www.example.com`. Ctrl-C ends it and prints what happened.
//!
//! | option | meaning |
//! |---|---|
//! | `--zone NAME=FILE` | serve this zone (several are possible); without one, `example.com` as it comes along |
//! | `--cores A,B` | one worker on each of these cores, sharing the address; without it, one on the first |
//! | `--tcp ADDRESS`, `--tcp off` | where to take connections; without it, at the same address, if the kernel has that |
//! | `--queries N` | end after N queries in datagrams |
//! | `--json` | print the report as JSON |
//! | `--telemetry ADDRESS` | show what happens to the example `monitor` and to Prometheus: `127.0.0.1:9100` |
//!
//! It follows RFC 1034, 1035, 2181, 2308, 4592 (wildcards), 6891 (EDNS), 7766 (connections), 8482 (ANY)
//! and 9471 (glue). Not here: DNSSEC, DNAME, zone transfers, dynamic updates.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example talks to its user")]

mod options;
mod report;
mod responder;
mod tcp;
mod udp;

use std::net::{SocketAddr, TcpListener};
use std::process::ExitCode;
use std::sync::Arc;

use bypass_io::any::open_socket;
use bypass_io::prelude::DatagramIo;
use bypass_io::telemetry::{Board, Exporter, Meter};
use bypass_io::worker::{Stop, Worker, Workers};
use bypass_io::{Bind as _, DefaultSocket, Share, UdpOptions};

use options::{Options, Place};
use report::Report;
use responder::Responder;
use responder::zone::Zone;

/// Bytes of the kernel's receive queue of each socket.
const RECV_BUFFER: usize = 4 << 20;

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> ExitCode {
    let Err(error) = run() else { return ExitCode::SUCCESS };
    eprintln!("error: {error}");
    ExitCode::FAILURE
}

fn run() -> Result {
    let Some(mut options) = Options::read(lexopt::Parser::from_env())? else {
        println!("{}", options::USAGE);
        return Ok(());
    };
    let responder = Arc::new(Responder::new(&zones(&options)?)?);
    let stop = Stop::on_signals()?;
    let board = Board::new();
    let telemetry = options.telemetry.as_ref();
    let exporter = telemetry.map(|place| Exporter::start(&board, place)).transpose()?;
    if let Some(exporter) = &exporter {
        println!("telemetry at {}", exporter.address());
    }
    let listener = options.tcp_address().map(listen).transpose()?;
    if let Some(listener) = &listener {
        let address = listener.local_addr()?;
        println!("tcp on {address}");
        // Port 0 has been replaced by one that is free.
        options.place.set_port(address.port());
    }
    let (cores, json) = (options.cores.clone(), options.json);
    let workers = {
        let responder = Arc::clone(&responder);
        Workers::spawn_until(&stop, &cores, move |worker| {
            work(&options, &responder, worker, worker.meter(&board)?)
        })?
    };
    let tcp = listener.map(|listener| tcp::serve(listener, &responder, &stop));
    let report = Report { workers: workers.join()?, tcp: tcp.transpose()? };
    println!("{}", if json { report.to_json() } else { report.to_string() });
    Ok(())
}

fn listen(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).map_err(|error| {
        let remedy = "another address with --tcp, or --tcp off, goes without it";
        format!("cannot listen for connections at {address}: {error}; {remedy}").into()
    })
}

fn zones(options: &Options) -> Result<Vec<Zone>> {
    if options.zones.is_empty() {
        return Ok(vec![Zone::parse("example.com.", include_str!("example.zone"))?]);
    }
    let zones = options.zones.iter().map(|(apex, file)| Zone::load(apex, file));
    Ok(zones.collect::<std::result::Result<_, _>>()?)
}

/// What each worker does: it opens its own queue, and answers what comes there.
fn work(
    options: &Options,
    responder: &Responder,
    worker: &Worker,
    meter: Meter,
) -> bypass_io::Result<udp::Served> {
    match &options.place {
        // An address: the backend that the features chose, known to the compiler.
        Place::Address(address) => {
            let mut socket = UdpOptions::new(*address);
            let (index, count) = (worker.index() as u32, options.cores.len() as u32);
            socket.share = Share { index, count };
            socket.recv_buffer = Some(RECV_BUFFER);
            start(DefaultSocket::bind(&socket)?, options, responder, worker, meter)
        }
        // A URI: whichever backend it names.
        Place::Uri(uri) => {
            let socket = open_socket(&options.uri(uri, worker.index()))?;
            start(socket, options, responder, worker, meter)
        }
    }
}

fn start<S: DatagramIo>(
    socket: S,
    options: &Options,
    responder: &Responder,
    worker: &Worker,
    meter: Meter,
) -> bypass_io::Result<udp::Served> {
    let (address, backend) = (socket.local_addr(), socket.caps().backend);
    println!("dns on {address}, backend {backend}, core {}", worker.core());
    udp::serve(socket, responder, worker, meter, options.queries)
}
