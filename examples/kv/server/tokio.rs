//! The same shards behind tokio: what the field would write, and the baseline to measure against.
//!
//! tokio moves tasks between its threads, so each shard is behind a lock, and whoever has a request takes the
//! locks that it needs. There is no log: a commit would block a thread.

mod tcp;

use std::net::SocketAddr;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bypass_io::UdpOptions;
use bypass_io::worker::Stop;
use rustix::net::sockopt::set_socket_recv_buffer_size;
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;

use super::assembly::{Assembly, Taken};
use super::worker::now;
use super::{Outcome, QUEUE, carry_out_all};
use crate::Result;
use crate::protocol::frame::{Frame, HEADER};
use crate::protocol::{ERROR, REPLY_TOO_LARGE, TOO_LARGE};
use crate::shard::{FULL, Shard};
use crate::stats::{Figure, Stats};
use crate::store::Store;

/// How often the signal to stop and the clock are looked at.
const TICK: Duration = Duration::from_millis(50);

type Shards = Arc<[Mutex<Shard>]>;

/// What tokio is to serve.
pub struct Setup {
    pub udp: SocketAddr,
    pub listener: std::net::TcpListener,
    pub stats: Arc<Stats>,
    /// Bytes of all stores.
    pub memory: usize,
    /// How long the datagrams of a request may take, and memory be kept that others wait for.
    pub patience: Duration,
    /// Connections at a time, of each shard.
    pub connections: usize,
    pub ready: Sender<(String, SocketAddr)>,
}

/// Serves until it is told to stop, with a thread for each shard.
pub fn run(setup: Setup, stop: &Stop) -> Result {
    let threads = setup.stats.shards();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    runtime.block_on(serve(setup, stop))
}

async fn serve(setup: Setup, stop: &Stop) -> Result {
    let Setup { udp, listener, stats, memory, patience, connections, ready } = setup;
    let count = stats.shards();
    let shards: Shards = (0..count)
        .map(|index| {
            let store = Store::new(memory / count, now())?;
            Ok(Mutex::new(Shard { index, store, stats: Arc::clone(&stats) }))
        })
        .collect::<Result<_>>()?;
    // Tasks without which it does not serve.
    let mut tasks = JoinSet::new();
    for index in 0..count {
        let mut options = UdpOptions::new(udp);
        options.reuse_port = count > 1;
        let socket = options.bind()?;
        // As much as the other front ends have, if the kernel lets it be so much.
        set_socket_recv_buffer_size(&socket, QUEUE)?;
        let socket = UdpSocket::from_std(socket.into())?;
        ready.send(("tokio".to_owned(), socket.local_addr()?))?;
        let assembly = Assembly::new(Arc::default(), patience);
        tasks.spawn(datagrams(socket, assembly, Arc::clone(&shards), index, Arc::clone(&stats)));
    }
    listener.set_nonblocking(true)?;
    let places = connections.saturating_mul(count);
    let shared = Arc::new(tcp::Shared::new(Arc::clone(&shards), stats, places, patience));
    tasks.spawn(tcp::accept(TcpListener::from_std(listener)?, Arc::clone(&shared)));
    while !stop.stopping() {
        // They end only when they fail.
        if let Ok(Some(ended)) = tokio::time::timeout(TICK, tasks.join_next()).await {
            ended??;
        }
        shared.show();
        for shard in &*shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.store.tick(now());
            shard.publish();
        }
    }
    Ok(())
}

/// Counts for the first shard: who has its lock may.
fn with_first<T>(shards: &Shards, count: impl FnOnce() -> T) -> T {
    let _lock = shards[0].lock().unwrap_or_else(PoisonError::into_inner);
    count()
}

/// Carries out requests, shard by shard.
fn carry_out(
    shards: &Shards,
    bytes: &[u8],
    used: &mut usize,
    progress: &mut usize,
    (out, room): (&mut Vec<u8>, usize),
) -> Outcome {
    let mut at = 0;
    loop {
        let mut shard = shards[at].lock().unwrap_or_else(PoisonError::into_inner);
        match carry_out_all(&mut shard, bytes, used, progress, (out, room), &mut |_, _| {}) {
            Outcome::Shard(owner) => at = owner,
            outcome => return outcome,
        }
    }
}

/// Serves a socket. What becomes of its datagrams is counted by nobody else in the place of this index.
async fn datagrams(
    socket: UdpSocket,
    mut assembly: Assembly,
    shards: Shards,
    index: usize,
    stats: Arc<Stats>,
) -> std::io::Result<()> {
    let (mut buffer, mut out, mut datagram) = (vec![0; 1 << 16], Vec::new(), Vec::new());
    let count = |figure| stats.add(index, figure, 1);
    loop {
        let received = socket.recv_from(&mut buffer);
        let (length, peer) = match assembly.deadline() {
            None => received.await?,
            Some(deadline) => {
                let received = tokio::time::timeout_at(deadline.into(), received).await;
                // Late is late, whatever else comes.
                assembly.expire(Instant::now(), count);
                let Ok(received) = received else { continue };
                received?
            }
        };
        count(Figure::Received);
        let Some((frame, part)) = Frame::split(&buffer[..length]) else {
            count(Figure::Malformed);
            continue;
        };
        out.clear();
        let gathered;
        let requests = if frame.is_whole() {
            count(Figure::Whole);
            part
        } else {
            match assembly.take(peer, frame, part, Instant::now(), count) {
                Taken::Piece => continue,
                Taken::TooLarge => {
                    out.extend_from_slice(TOO_LARGE.as_bytes());
                    &[]
                }
                Taken::Whole(requests) => {
                    gathered = requests;
                    &gathered[..]
                }
            }
        };
        match carry_out(&shards, requests, &mut 0, &mut 0, (&mut out, FULL)) {
            Outcome::More(_) => out.extend_from_slice(ERROR.as_bytes()),
            Outcome::Full => {
                out.clear();
                out.extend_from_slice(REPLY_TOO_LARGE.as_bytes());
            }
            _ => {}
        }
        for (frame, part) in Frame::parts(frame.request, &out).into_iter().flatten() {
            datagram.clear();
            datagram.reserve(HEADER + part.len());
            datagram.extend_from_slice(&frame.bytes());
            datagram.extend_from_slice(part);
            // A peer that cannot be reached is no reason to end.
            count(match socket.send_to(&datagram, peer).await {
                Ok(_) => Figure::Sent,
                Err(_) => Figure::NoBuffer,
            });
        }
    }
}
