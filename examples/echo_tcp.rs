//! TCP echo on io_uring: one submission accepts all connections, one each receives all that comes, and
//! that goes back in the buffer in which it came.
//!
//! ```text
//! cargo run --release --example echo_tcp                                     # 127.0.0.1:7777
//! cargo run --release --example echo_tcp -- --connections 50 --messages 1000 # talks to itself, and ends
//! ```
//!
//! It receives ahead of what it sends: a client that sends and does not read keeps buffers, and in the end all of
//! them. A server for strangers reads a piece at a time, when the last one has been dealt with, as `kv` and `dns` do.
//!
//! Try it with `socat - TCP:127.0.0.1:7777`. Ctrl-C ends it and prints what happened, with `--json` as JSON.

#![forbid(unsafe_code)]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example talks to its user")]

use std::cell::Cell;
use std::io::{Read as _, Write as _};
use std::rc::Rc;
use std::{net::SocketAddr, process::ExitCode, time::Duration};

use bypass_io::io_uring::buf::BufPool;
use bypass_io::io_uring::buf_ring::BufRing;
use bypass_io::io_uring::driver::{LocalExecutor, Runner};
use bypass_io::io_uring::multishot::Ticker;
use bypass_io::io_uring::net::{TcpListener, TcpStream};
use bypass_io::io_uring::{Local, Ring};
use bypass_io::worker::Stop;
use lexopt::prelude::*;

const USAGE: &str = "usage: echo_tcp [ADDRESS] [--connections N --messages N] [--json]";

/// How long to wait for a descriptor.
const RETRY: Duration = Duration::from_millis(50);

type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

fn main() -> ExitCode {
    let Err(error) = run() else { return ExitCode::SUCCESS };
    eprintln!("error: {error}");
    ExitCode::FAILURE
}

fn run() -> Result {
    let (mut address, mut connections, mut messages) = ("127.0.0.1:7777".to_owned(), 0, 0);
    let mut json = false;
    let mut args = lexopt::Parser::from_env();
    while let Some(arg) = args.next()? {
        match arg {
            Long("connections") => connections = args.value()?.parse()?,
            Long("messages") => messages = args.value()?.parse()?,
            Long("json") => json = true,
            Long("help") | Short('h') => {
                println!("{USAGE}");
                return Ok(());
            }
            Value(value) => address = value.string()?,
            _ => return Err(format!("{}\n{USAGE}", arg.unexpected()).into()),
        }
    }
    let to_itself = connections > 0 && messages > 0;
    let address: SocketAddr =
        if to_itself { ([127, 0, 0, 1], 0).into() } else { address.parse()? };

    // Each connection has two operations in flight: one receives, one sends.
    let ring = Ring::builder().entries(256).completions(16384).operations(16384).build_local()?;
    let listener = TcpListener::bind(&ring, address)?;
    let (address, stop) = (listener.local_addr()?, Stop::on_signals()?);
    println!("echo on {address}");
    let (counts, came_back) = if to_itself {
        // The server goes on until the client has ended, which looks at the signal.
        let close = Stop::new();
        std::thread::scope(|scope| {
            let client = scope.spawn(|| {
                let outcome = talk(address, connections, messages, &stop);
                close.stop();
                outcome
            });
            let counts = serve(&ring, &listener, &close)?;
            let came_back = client.join().map_err(|_| "the client panicked")??;
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>((counts, Some(came_back)))
        })?
    } else {
        (serve(&ring, &listener, &stop)?, None)
    };
    let [connections, buffers, bytes, out_of_descriptors] =
        [&counts.connections, &counts.buffers, &counts.bytes, &counts.out_of_descriptors]
            .map(Cell::get);
    let calls = ring.counters().enters;
    if json {
        let report = serde_json::json!({
            "connections": connections, "buffers": buffers, "bytes": bytes, "system_calls": calls,
            "messages_each": came_back, "out_of_descriptors": out_of_descriptors,
        });
        println!("{report}");
        return Ok(());
    }
    if let Some(messages) = came_back {
        println!("{connections} connections, {messages} messages each, all of them came back");
    }
    println!("{connections} connections, {bytes} bytes in {buffers} buffers, {calls} system calls");
    if out_of_descriptors > 0 {
        println!("{out_of_descriptors} times there was no descriptor for a connection");
    }
    Ok(())
}

/// What was echoed.
#[derive(Default)]
struct Counts {
    connections: Cell<u64>,
    /// Buffers that were received and sent back, and bytes in them.
    buffers: Cell<u64>,
    bytes: Cell<u64>,
    /// Times that a connection could not be accepted for want of descriptors.
    out_of_descriptors: Cell<u64>,
}

/// Echoes on every connection until it is told to stop.
fn serve(ring: &Ring, listener: &TcpListener, stop: &Stop) -> Result<Counts> {
    let counts = Rc::new(Counts::default());
    let buffers = BufRing::new(ring, 1024, BufPool::local(4096, 2048)?)?;
    let executor = LocalExecutor::new();
    // When it is time to end, everything in flight is cancelled, and no more connections come.
    let ending = executor.spawn(async {
        let mut ticker = Ticker::new(ring, Duration::from_millis(50))?;
        while !stop.stopping() && ticker.next().await?.is_some() {}
        ring.cancel_all()
    });
    let accepting = async {
        let mut incoming = listener.incoming();
        while !stop.stopping() {
            let stream = match incoming.next().await {
                Ok(Some(stream)) => stream,
                Ok(None) => break,
                // Those who come wait until somebody has gone.
                Err(error) if error.is_out_of_descriptors() => {
                    counts.out_of_descriptors.update(|n| n + 1);
                    // When it is time to end, it ends early.
                    let _slept = ring.sleep(RETRY).await;
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            counts.connections.update(|n| n + 1);
            let echo = echo(stream, buffers.clone(), Rc::clone(&counts));
            let echo = async { echo.await.unwrap_or_else(|error| eprintln!("ended: {error}")) };
            executor.spawn(echo).detach();
        }
        Result::Ok(ending.await?)
    };
    Runner::new(ring)?.block_on(executor.run(accepting))??;
    drop(executor);
    Ok(Rc::into_inner(counts).unwrap_or_default())
}

async fn echo(stream: TcpStream, buffers: BufRing<BufPool, Local>, counts: Rc<Counts>) -> Result {
    stream.set_nodelay(true)?;
    let mut receiver = stream.receiver(&buffers);
    while let Some(data) = receiver.recv().await? {
        // The buffer goes back to the kernel when it has been sent.
        let sent = stream.write(data).map_err(|refused| refused.why)?.await?.result?;
        counts.buffers.update(|n| n + 1);
        counts.bytes.update(|n| n + sent as u64);
    }
    Ok(())
}

/// The other end: sends on all connections, and checks that the same comes back. Returns how many messages
/// that were on each.
fn talk(address: SocketAddr, connections: usize, messages: usize, stop: &Stop) -> Result<usize> {
    let connect = |_| std::net::TcpStream::connect(address);
    let mut streams = (0..connections).map(connect).collect::<std::io::Result<Vec<_>>>()?;
    for message in 0..messages {
        if stop.stopping() {
            return Ok(message);
        }
        let text = |connection| format!("message {message:>9} on connection {connection:>9}\n");
        for (connection, stream) in streams.iter_mut().enumerate() {
            stream.write_all(text(connection).as_bytes())?;
        }
        for (connection, stream) in streams.iter_mut().enumerate() {
            let mut back = vec![0; text(connection).len()];
            stream.read_exact(&mut back)?;
            (back == text(connection).as_bytes())
                .then_some(())
                .ok_or("something else came back")?;
        }
    }
    Ok(messages)
}
