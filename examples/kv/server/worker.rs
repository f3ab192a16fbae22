//! A worker: one thread on one core, with a socket, a ring, a shard and a log of its own.

use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, SystemTime};

use bypass_io::Stats as SocketStats;
use bypass_io::io_uring::Ring;
use bypass_io::io_uring::driver::LocalExecutor;
use bypass_io::prelude::*;
use bypass_io::telemetry::{Board, Snapshot};
use bypass_io::worker::Worker;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::Timespec;

use super::handover::Handover;
use super::seats::Shared;
use super::tcp::accept;
use super::udp::UdpServer;
use super::{Back, Core};
use crate::log::{self, Log, snapshot};
use crate::shard::Shard;
use crate::stats::{Figure, Stats};
use crate::store::Store;

/// The longest sleep: the clock of the items and the stop signal are looked at in between.
const SLEEP: Duration = Duration::from_millis(50);
/// Tasks that run before datagrams are looked at again.
const TASKS: usize = 64;

/// What a worker is started with.
pub struct Setup {
    pub listener: TcpListener,
    pub handover: Handover<Back>,
    pub stats: Arc<Stats>,
    /// Bytes of its store.
    pub memory: usize,
    pub log: Option<log::Options>,
    /// Never to sleep.
    pub spin: bool,
    /// How long the datagrams of a request may take, and memory be kept that others wait for.
    pub patience: Duration,
    /// Connections at a time.
    pub connections: usize,
    /// Where others see what it does.
    pub board: Board,
    /// Told the name of the backend and where it listens when everything is there.
    pub ready: Sender<(String, std::net::SocketAddr)>,
}

/// Shows the counters of the socket and of the ring to the others.
fn show(socket: &SocketStats, core: &Core, ring: &Ring) {
    let (stats, index) = (&core.shard.stats, core.shard.index);
    stats.set(index, Figure::Received, socket.rx_packets);
    stats.set(index, Figure::Sent, socket.tx_packets);
    stats.set(index, Figure::Dropped, socket.drops.total());
    let calls = socket.syscalls.unwrap_or(0) + ring.counters().enters;
    stats.set(index, Figure::SystemCalls, calls);
}

/// Seconds since 1970.
pub fn now() -> u32 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0, |since| u32::try_from(since.as_secs()).unwrap_or(u32::MAX))
}

/// Serves until it is told to stop, and says what that was and what it cost.
pub fn run<S: DatagramIo>(socket: S, setup: Setup, worker: &Worker) -> crate::Result<Snapshot> {
    let Setup { listener, handover, stats, memory, log, spin, .. } = setup;
    let Setup { patience, connections, board, ready, .. } = setup;
    // A connection receives or sends.
    let ring = Ring::builder().entries(512).completions(16384).operations(16384).build_local()?;
    let ring = Rc::new(ring);
    // While a log is read, no item is too old: what makes it younger may stand behind it.
    let mut store = Store::new(memory, 0)?;
    let shard = (worker.index(), stats.shards());
    let log = log.map(|options| Log::open(&ring, &options, shard, &mut store)).transpose()?;
    let shard = Shard { index: worker.index(), store, stats: Arc::clone(&stats) };
    let mut core = Core::new(shard, log, Rc::clone(&ring));
    core.tick(now())?;
    let mut udp = UdpServer::new(socket, &handover, patience);
    let shared = Rc::new(Shared::new(Rc::clone(&ring), core, handover, patience));
    let executor = Rc::new(LocalExecutor::new());
    let accepting = accept(Rc::clone(&shared), listener, connections, Rc::clone(&executor));
    executor.spawn(noted(Rc::clone(&shared), accepting)).detach();
    if !spin {
        // What it takes to sleep is made with the first look, and is there before connections take all descriptors.
        let _arrivals = udp.socket.as_fd();
        ring.poll_fd()?;
    }
    let backend = udp.socket.caps().backend.to_owned();
    // Whoever waited for it may have given up.
    let _waiting = ready.send((backend, udp.socket.local_addr()));

    let mut meter = worker.meter(&board)?;
    let mut wait = if spin { Adaptive::new(Duration::MAX) } else { Adaptive::default() };
    let (mut second, mut sleeps) = (0, 0);
    while !worker.stopping() {
        let (turned, sent) = (meter.clock().now(), udp.sent);
        let mut work = turn(&shared, &mut udp, &mut second, &executor)?;
        work += run_tasks(&ring, &executor)?;
        meter.record(turned, udp.sent - sent);
        meter.show_with(&udp.socket, |showing| {
            add_own(showing.stats, &ring, sleeps);
            stats.each(worker.index(), |name, value| showing.counter(name, value));
        });
        if let Some(failure) = shared.failure.borrow_mut().take() {
            return Err(failure);
        }
        // What no arrival would wake counts as work.
        let work = work + usize::from(!udp.may_sleep());
        if wait.is_time_to_sleep(work) {
            sleep(&shared, &udp.socket)?;
            sleeps += 1;
        }
    }
    let log = shared.core.borrow_mut().log.take();
    log.map_or(Ok(()), |log| log.close(&ring))?;
    let mut socket = udp.socket.stats();
    add_own(&mut socket, &ring, sleeps);
    Ok(meter.snapshot(socket))
}

/// Adds what the worker asked the kernel for beside its socket.
fn add_own(stats: &mut SocketStats, ring: &Ring, sleeps: u64) {
    *stats.syscalls.get_or_insert_default() += ring.counters().enters + sleeps;
    *stats.wakeups.get_or_insert_default() += sleeps;
}

/// Everything that waits for nobody, once.
fn turn<S: DatagramIo>(
    shared: &Rc<Shared>,
    udp: &mut UdpServer<S>,
    second: &mut u32,
    executor: &Rc<LocalExecutor<'static>>,
) -> crate::Result<usize> {
    let (mut core, mut handover) = (shared.core.borrow_mut(), shared.handover.borrow_mut());
    let mut work = 0;
    let now = now();
    if now != *second {
        *second = now;
        core.tick(now)?;
        udp.tick(&core);
        shared.tick(&core);
        show(&udp.socket.stats(), &core, &shared.ring);
    }
    work += udp.turn(&mut core, &mut handover)?;
    let (mut home, before) = (Vec::new(), work);
    while let Some(envelope) = udp.finished.pop_front().or_else(|| handover.receive()) {
        work += 1;
        udp.open(envelope, &mut core, &mut handover, &mut |seat, envelope| {
            home.push((seat, envelope));
        });
    }
    let opened = work > before;
    if core.turn()? {
        work += 1;
        shared.durable.wake();
    }
    if core.log.as_mut().is_some_and(Log::wants_snapshot) {
        let shared = Rc::clone(shared);
        let snapshot = {
            let shared = Rc::clone(&shared);
            async move { snapshot::make(&shared.ring, &shared.core).await }
        };
        executor.spawn(noted(shared, snapshot)).detach();
    }
    drop((core, handover));
    home.into_iter().for_each(|(seat, envelope)| shared.deliver(seat, envelope));
    if opened {
        shared.home.wake();
    }
    Ok(work)
}

/// A task without which the worker is none.
async fn noted(shared: Rc<Shared>, task: impl Future<Output = crate::Result>) {
    if let Err(error) = task.await {
        shared.failure.borrow_mut().get_or_insert(error);
    }
}

/// Runs the tasks that completions have woken. Returns how many there were.
fn run_tasks(ring: &Ring, executor: &LocalExecutor<'_>) -> crate::Result<usize> {
    let mut work = 0;
    loop {
        ring.submit()?;
        let ran = (0..TASKS).take_while(|_| executor.try_tick()).count();
        work += ran;
        if ran == 0 || work >= 4 * TASKS {
            return Ok(work);
        }
    }
}

/// Sleeps until a datagram, a completion or another shard comes.
fn sleep<S: DatagramIo>(shared: &Shared, socket: &S) -> crate::Result {
    // A backend that has to be looked at does not let anybody sleep.
    let Some(arrivals) = socket.as_fd() else { return Ok(()) };
    let handover = shared.handover.borrow();
    if !handover.fall_asleep() {
        return Ok(());
    }
    let idle = shared.core.borrow().log.as_ref().and_then(Log::idle_time);
    let limit = Timespec::try_from(idle.unwrap_or(SLEEP).min(SLEEP)).ok();
    {
        let (completions, bell) = (shared.ring.poll_fd()?, handover.bell());
        let mut fds = [
            PollFd::new(&arrivals, PollFlags::IN),
            PollFd::new(&completions, PollFlags::IN),
            PollFd::new(&bell, PollFlags::IN),
        ];
        match poll(&mut fds, limit.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(format!("cannot sleep: {error}").into()),
        }
    }
    handover.wake_up();
    shared.ring.acknowledge()?;
    Ok(())
}
