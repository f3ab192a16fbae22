//! Queries in datagrams, on any backend.

use bypass_io::prelude::*;
use bypass_io::telemetry::{Meter, Snapshot};
use bypass_io::worker::Worker;

use super::responder::Responder;
use super::responder::counts::Counts;
use super::responder::query::Transport;

/// Datagrams in a turn.
const BURST: usize = 64;

/// What a worker did.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) counts: Counts,
    /// Responses that can never be sent: to port 0, say.
    pub(crate) unsendable: u64,
    pub(crate) snapshot: Snapshot,
}

/// Answers until it is told to stop, or `limit` queries have come; then all workers stop.
pub(crate) fn serve<S: DatagramIo>(
    mut socket: S,
    responder: &Responder,
    worker: &Worker,
    mut meter: Meter,
    limit: u64,
) -> Result<Served> {
    let (mut burst, mut wait) = (Burst::with_capacity(BURST), Adaptive::default());
    let (mut counts, mut unsendable) = (Counts::default(), 0);
    while !worker.stopping() && counts.queries < limit {
        // What could not be sent in the last turn goes first; while there is much of it, less is
        // received.
        let refused = burst.len();
        let received = socket.recv(&mut burst)?;
        let begin = meter.clock().now();
        let mut at = 0;
        burst.retain(|datagram| {
            at += 1;
            at <= refused || turn_round(responder, datagram, &mut counts)
        });
        let mut sent = 0;
        if !burst.is_empty() {
            match socket.send(&mut burst) {
                Ok(n) => sent = n,
                Err(bypass_io::Error::Frame { .. }) => {
                    burst.pop_front();
                    unsendable += 1;
                }
                Err(error) => return Err(error),
            }
        }
        socket.flush()?;
        meter.record(begin, sent);
        meter.show_with(&socket, |showing| {
            counts.iter().for_each(|(name, count)| showing.counter(name, count));
        });
        let interest = if burst.is_empty() { Interest::RX } else { Interest::RX | Interest::TX };
        wait.after(received + sent, &mut socket, interest)?;
    }
    worker.stop_all();
    Ok(Served { counts, unsendable, snapshot: meter.snapshot(socket.stats()) })
}

/// Makes a query its own response; answers whether there is one.
#[inline]
fn turn_round(responder: &Responder, datagram: &mut impl Datagram, counts: &mut Counts) -> bool {
    let room = datagram.data().len() + datagram.tailroom();
    let outcome = responder.reply(datagram.data(), Transport::Udp { room });
    counts.count(&outcome);
    let Ok(reply) = outcome else { return false };
    // There is room: it was looked at.
    if datagram.set_len(reply.len()).is_err() {
        return false;
    }
    reply.write(datagram.data_mut());
    datagram.reply();
    true
}
