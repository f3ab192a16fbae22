//! A key-value store that speaks memcached's text protocol, over UDP on any backend and over TCP.
//!
//! ```text
//! cargo run --release --example kv                                        # 127.0.0.1:11211, UDP and TCP
//! cargo run --release --example kv -- --workers 2 --memory 1024           # two shards, each on a core
//! cargo run --release --example kv -- --log /var/lib/kv                   # nothing acknowledged is lost
//! cargo run --release --example kv --features xdp -- 10.0.0.1:11211       # UDP past the kernel, by AF_XDP
//! cargo run --release --example kv --features dpdk -- 10.0.0.1:11211      # or by DPDK
//! cargo run --release --example kv -- --udp udp+socket://127.0.0.1:{port} # or by plain sockets
//! cargo run --release --example kv -- --front tokio                       # the baseline of the field
//! ```
//!
//! Any client of memcached talks to it: `printf 'set a 0 0 1\r\n1\r\nget a\r\n' | socat - TCP:127.0.0.1:11211`.
//! Ctrl-C ends it and prints what happened.
//!
//! | module | what it does |
//! |---|---|
//! | `protocol` | reads requests; the frame of a datagram |
//! | `store` | items in memory: a table, a list by time of use, expiry |
//! | `shard` | carries requests out on a store |
//! | `log` | the log on the disk, snapshots, recovery |
//! | `server` | workers: UDP, TCP, and requests that arrived at the wrong shard |
//! | `stats` | what is counted |

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example talks to its user")]
#![allow(unreachable_pub, reason = "what is public in a module of a program is for the others")]

mod log;
mod options;
mod protocol;
mod server;
mod shard;
mod stats;
mod store;

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bypass_io::any::open_socket;
use bypass_io::telemetry::{Board, Exporter, Snapshot};
use bypass_io::worker::{Stop, Worker, Workers};
use bypass_io::{Bind as _, DefaultSocket, Error, Share, UdpOptions};

use options::Options;
use server::worker::Setup;
use server::{QUEUE, handover, tokio, worker};
use stats::{Figure, Stats};

type Result<T = (), E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// What a worker says when it serves: its backend, and where it listens for datagrams.
type Ready = (String, SocketAddr);

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
    let listener = listen(&mut options.address)?;
    let stop = Stop::on_signals()?;
    let shards = options.cores.len();
    let stats = Arc::new(Stats::new(shards, options.memory as u64));
    if options.tokio {
        let (ready, announced) = channel();
        let setup = tokio::Setup {
            udp: options.address,
            listener,
            stats: Arc::clone(&stats),
            memory: options.memory,
            patience: options.patience,
            connections: options.connections,
            ready,
        };
        return std::thread::scope(|scope| {
            let (stop, address) = (&stop, options.address);
            scope.spawn(move || announce(&announced, stop, address, shards));
            tokio::run(setup, stop)
        });
    }
    let board = Board::new();
    let telemetry = options.telemetry.as_ref();
    let exporter = telemetry.map(|place| Exporter::start(&board, place)).transpose()?;
    if let Some(exporter) = &exporter {
        println!("telemetry at {}", exporter.address());
    }
    let workers = start(&options, &listener, &stats, &board, &stop)?;
    if options.check {
        workers.stop();
    }
    let snapshots = workers.join()?;
    if options.json {
        let mut totals = serde_json::Map::new();
        stats.each_total(|name, total| drop(totals.insert(name.to_owned(), total.into())));
        println!("{}", serde_json::json!({ "workers": snapshots, "kv": totals }));
        return Ok(());
    }
    for (index, snapshot) in snapshots.iter().enumerate() {
        println!("worker {index}: {snapshot}");
    }
    let total = |figure| stats.total(figure);
    println!(
        "{} hits, {} misses, {} writes, {} handed over, {} items, {} evicted, {} commits",
        total(Figure::GetHits),
        total(Figure::GetMisses),
        total(Figure::Sets),
        total(Figure::HandedOver),
        total(Figure::Items),
        total(Figure::Evictions),
        total(Figure::LogCommits),
    );
    Ok(())
}

/// Listens for connections; where the kernel shall choose a port, it is one that UDP has too.
fn listen(address: &mut SocketAddr) -> Result<TcpListener> {
    let mut attempts = 0;
    loop {
        let listener = TcpListener::bind(*address)
            .map_err(|error| format!("cannot listen on {address}: {error}"))?;
        let there = listener.local_addr()?;
        attempts += 1;
        if address.port() != 0 || UdpSocket::bind(there).is_ok() || attempts == 20 {
            *address = there;
            return Ok(listener);
        }
    }
}

/// Starts the workers and says so when all of them serve.
fn start(
    options: &Options,
    listener: &TcpListener,
    stats: &Arc<Stats>,
    board: &Board,
    stop: &Stop,
) -> Result<Workers<Snapshot>> {
    let shards = options.cores.len();
    let (ready, announced) = channel();
    let setup = |handover| -> Result<_> {
        Ok(Some(Setup {
            listener: listener.try_clone()?,
            handover,
            stats: Arc::clone(stats),
            memory: options.memory / shards,
            log: options.log.clone(),
            spin: options.spin,
            patience: options.patience,
            connections: options.connections,
            board: board.clone(),
            ready: ready.clone(),
        }))
    };
    let setups = handover::between(shards)?.into_iter().map(setup).collect::<Result<Vec<_>>>()?;
    drop(ready);
    let (setups, udp, address) = (Mutex::new(setups), options.udp.clone(), options.address);
    let workers = Workers::spawn_until(stop, &options.cores, move |worker| {
        let setup = setups.lock().unwrap_or_else(PoisonError::into_inner)[worker.index()].take();
        serve(setup, udp.as_deref(), address, shards, worker)
            .map_err(|error| Error::backend("kv", error))
    })?;
    announce(&announced, stop, options.address, shards);
    Ok(workers)
}

/// Opens the worker's socket, and serves.
fn serve(
    setup: Option<Setup>,
    udp: Option<&str>,
    address: SocketAddr,
    shards: usize,
    worker: &Worker,
) -> Result<Snapshot> {
    let setup = setup.ok_or("each worker is started once")?;
    match udp {
        // The backend that the features chose, known to the compiler.
        None => {
            let mut options = UdpOptions::new(address);
            options.share = Share { index: worker.index() as u32, count: shards as u32 };
            options.recv_buffer = Some(QUEUE);
            options.pool.chunks = 4096;
            worker::run(DefaultSocket::bind(&options)?, setup, worker)
        }
        Some(uri) => {
            let uri = uri.replace("{worker}", &worker.index().to_string());
            let uri = uri.replace("{workers}", &shards.to_string());
            let uri = uri.replace("{port}", &address.port().to_string());
            worker::run(open_socket(&uri)?, setup, worker)
        }
    }
}

/// Says where it serves when all shards do; nothing when one of them failed.
fn announce(ready: &Receiver<Ready>, stop: &Stop, tcp: SocketAddr, shards: usize) {
    let mut serving = 0;
    while !stop.stopping() {
        let Ok((backend, udp)) = ready.recv_timeout(Duration::from_millis(50)) else { continue };
        serving += 1;
        if serving == shards {
            println!("kv on udp {udp}, tcp {tcp}, backend {backend}, {shards} shards");
            return;
        }
    }
}
