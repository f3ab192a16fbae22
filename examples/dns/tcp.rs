//! Queries on connections (RFC 7766): one ring accepts, receives and sends for all of them.

use std::cell::{Cell, RefCell};
use std::net::TcpListener;
use std::time::Duration;

use bypass_io::io_uring::driver::{LocalExecutor, Runner};
use bypass_io::io_uring::multishot::Ticker;
use bypass_io::io_uring::net::{self, TcpStream};
use bypass_io::io_uring::{Local, Ring};
use bypass_io::worker::Stop;

use crate::Result;
use crate::responder::Responder;
use crate::responder::counts::Counts;
use crate::responder::query::Transport;

/// Connections at a time; more are closed at once.
const CONNECTIONS: u32 = 1000;
/// How long to wait for a descriptor.
const RETRY: Duration = Duration::from_millis(50);
/// How long a connection may say nothing, or take nothing.
const IDLE: Duration = Duration::from_secs(10);
/// Bytes that are received at a time.
const CHUNK: usize = 4096;
/// Bytes of responses that are collected before they are sent.
const BATCH: usize = 64 << 10;

/// What the connections brought.
#[derive(Debug, Default)]
pub(crate) struct Served {
    pub(crate) counts: Counts,
    pub(crate) connections: u64,
    /// Connections that were too many.
    pub(crate) turned_away: u64,
    /// Times that one could not be accepted for want of descriptors.
    pub(crate) out_of_descriptors: u64,
}

struct Server<'s> {
    ring: &'s Ring<Local>,
    responder: &'s Responder,
    served: RefCell<Served>,
    open: Cell<u32>,
}

/// Answers on connections until it is told to stop, and then tells everybody else.
pub(crate) fn serve(listener: TcpListener, responder: &Responder, stop: &Stop) -> Result<Served> {
    let outcome = accept(listener, responder, stop);
    stop.stop();
    outcome
}

fn accept(listener: TcpListener, responder: &Responder, stop: &Stop) -> Result<Served> {
    // Each connection has an operation and a timer in flight.
    let ring = Ring::builder().entries(256).completions(8192).operations(4096).build_local()?;
    let listener = net::TcpListener::from_std(&ring, listener);
    let served = RefCell::default();
    let server = Server { ring: &ring, responder, served, open: Cell::new(0) };
    {
        let executor = LocalExecutor::new();
        let ending = executor.spawn(async {
            let mut ticker = Ticker::new(&ring, Duration::from_millis(50))?;
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
                        server.served.borrow_mut().out_of_descriptors += 1;
                        // When it is time to end, it ends early.
                        let _slept = ring.sleep(RETRY).await;
                        continue;
                    }
                    Err(error) => return Err(error.into()),
                };
                if server.open.get() == CONNECTIONS {
                    server.served.borrow_mut().turned_away += 1;
                    continue;
                }
                server.open.set(server.open.get() + 1);
                server.served.borrow_mut().connections += 1;
                let conversation = async {
                    // However it ends: the other side knows, and nobody else has to.
                    let _ended = server.converse(stream).await;
                    server.open.set(server.open.get() - 1);
                };
                executor.spawn(conversation).detach();
            }
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(ending.await?)
        };
        Runner::new(&ring)?.block_on(executor.run(accepting))??;
    }
    Ok(server.served.into_inner())
}

impl Server<'_> {
    /// Answers what comes on a connection, in its order, until it ends.
    async fn converse(&self, stream: TcpStream) -> Result {
        stream.set_nodelay(true)?;
        let (mut input, mut output, mut chunk) =
            (Vec::new(), Vec::new(), Vec::with_capacity(CHUNK));
        loop {
            let mut taken = 0;
            while output.len() < BATCH
                && let Some(message) = first_message(&input[taken..])
            {
                taken += 2 + message.len();
                self.respond(message, &mut output)?;
            }
            input.drain(..taken);
            if !output.is_empty() {
                let write = stream.write(output).map_err(|refused| refused.why)?;
                let written = self.ring.timeout(IDLE, write).await??;
                written.result?;
                output = written.buf;
                output.clear();
                continue;
            }
            let read = stream.read(chunk).map_err(|refused| refused.why)?;
            let read = self.ring.timeout(IDLE, read).await??;
            chunk = read.buf;
            if read.result? == 0 {
                return Ok(());
            }
            input.extend_from_slice(&chunk);
            chunk.clear();
        }
    }

    /// Appends the response to a message; what is to be met with silence ends the connection.
    fn respond(&self, message: &[u8], output: &mut Vec<u8>) -> Result {
        let outcome = self.responder.reply(message, Transport::Tcp);
        self.served.borrow_mut().counts.count(&outcome);
        let reply = outcome.map_err(|silence| format!("no answer: {silence:?}"))?;
        output.extend((reply.len() as u16).to_be_bytes());
        let begin = output.len();
        output.extend(&message[..message.len().min(reply.len())]);
        output.resize(begin + reply.len(), 0);
        reply.write(&mut output[begin..]);
        Ok(())
    }
}

/// The first message that is there as a whole, without its length before it.
fn first_message(input: &[u8]) -> Option<&[u8]> {
    let (len, rest) = input.split_first_chunk()?;
    rest.get(..usize::from(u16::from_be_bytes(*len)))
}
