//! What waking a task costs under each way to drive a ring.
//!
//! `cargo run --release -p io-uring-ext --features tokio --example wake_cost`
//!
//! Pairs of tasks play ping-pong with one byte over Unix sockets, all through one ring: four operations,
//! each awaited, for each round trip. The kernel's part is the same in every row; `alone` has no tasks
//! at all, and what a row costs more than that is the price of its tasks and their wakes. The rows take
//! turns; shown is the CPU time of the thread, the median of 21 turns with the least and the most.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a program that shows figures")]

use std::future::Future;
use std::os::unix::net::UnixStream;
use std::pin::Pin;
use std::rc::Rc;

use async_executor::LocalExecutor;
use futures_executor::LocalPool;
use io_uring_ext::driver::Runner;
use io_uring_ext::op::{Read, Send};
use io_uring_ext::{Fd, Ring};
use rustix::time::{ClockId, clock_gettime};

const OPERATIONS: u32 = 40_000;
const TURNS: usize = 21;

type Task = Pin<Box<dyn Future<Output = ()>>>;

/// Sends and receives `rounds` times; who begins sends first.
async fn player(ring: Rc<Ring>, socket: Fd, rounds: u32, begins: bool) {
    let mut byte = vec![1];
    for turn in 0..2 * rounds {
        if (turn % 2 == 0) == begins {
            let sent = ring.push(Send::new(&socket, byte)).unwrap().await.unwrap();
            sent.result.unwrap();
            byte = sent.buf;
        } else {
            let read = ring.push(Read::new(&socket, byte, 0)).unwrap().await.unwrap();
            assert_eq!(read.result.unwrap(), 1);
            byte = read.buf;
        }
    }
}

fn players(ring: &Rc<Ring>, pairs: u32) -> impl Iterator<Item = Task> {
    let rounds = OPERATIONS / 4 / pairs;
    (0..pairs).flat_map(move |_| {
        let (a, b) = UnixStream::pair().unwrap();
        let player = |socket, begins| player(Rc::clone(ring), Fd::new(socket), rounds, begins);
        [Box::pin(player(a, true)) as Task, Box::pin(player(b, false))]
    })
}

/// The same operations, submitted and waited for in batches, without tasks.
fn alone(ring: &Rc<Ring>, pairs: u32) {
    let pairs: Vec<_> = (0..pairs).map(|_| UnixStream::pair().unwrap()).collect();
    let pairs: Vec<_> = pairs.into_iter().map(|(a, b)| [Fd::new(a), Fd::new(b)]).collect();
    let mut bytes: Vec<_> = pairs.iter().map(|_| (vec![1], vec![1])).collect();
    for turn in 0..OPERATIONS as usize / 2 / pairs.len() {
        let started: Vec<_> = pairs
            .iter()
            .zip(bytes.drain(..))
            .map(|(pair, (out, back))| {
                let read = ring.push(Read::new(&pair[1 - turn % 2], back, 0)).unwrap();
                (ring.push(Send::new(&pair[turn % 2], out)).unwrap(), read)
            })
            .collect();
        for (sent, read) in started {
            bytes.push((sent.wait(None).unwrap().buf, read.wait(None).unwrap().buf));
        }
    }
}

fn local_executor(ring: &Rc<Ring>, pairs: u32) {
    let executor = LocalExecutor::new();
    let tasks: Vec<_> = players(ring, pairs).map(|task| executor.spawn(task)).collect();
    let all = async {
        for task in tasks {
            task.await;
        }
    };
    Runner::new(ring).unwrap().block_on(executor.run(all)).unwrap();
}

/// What is inside a `LocalPool`, as a future: tasks that are known beforehand.
fn unordered(ring: &Rc<Ring>, pairs: u32) {
    use futures_util::stream::{FuturesUnordered, StreamExt as _};

    let tasks: FuturesUnordered<_> = players(ring, pairs).collect();
    Runner::new(ring).unwrap().block_on(tasks.collect::<()>()).unwrap();
}

/// A `LocalPool` is no future and sleeps by itself, where no completion wakes it. So it runs until it
/// has nothing to do, and the ring waits; a wake from another thread would not end that.
fn local_pool(ring: &Rc<Ring>, pairs: u32) {
    use futures_executor::LocalSpawner;
    use futures_task::LocalSpawn as _;

    let mut pool = LocalPool::new();
    let spawner: LocalSpawner = pool.spawner();
    let left = Rc::new(std::cell::Cell::new(2 * pairs));
    for task in players(ring, pairs) {
        let left = Rc::clone(&left);
        let task = async move {
            task.await;
            left.set(left.get() - 1);
        };
        spawner.spawn_local_obj(Box::pin(task).into()).unwrap();
    }
    loop {
        pool.run_until_stalled();
        if left.get() == 0 {
            return;
        }
        ring.wait(1, None).unwrap();
    }
}

#[cfg(feature = "tokio")]
fn tokio(ring: &Rc<Ring>, pairs: u32) {
    use io_uring_ext::driver::TokioDriver;
    use tokio::task::{LocalSet, spawn_local};

    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    LocalSet::new().block_on(&runtime, async {
        let driver = spawn_local(TokioDriver::new(ring).unwrap());
        let tasks: Vec<_> = players(ring, pairs).map(spawn_local).collect();
        for task in tasks {
            task.await.unwrap();
        }
        driver.abort();
    });
}

type Run = fn(&Rc<Ring>, u32);

const ROWS: &[(&str, Run)] = &[
    ("alone", alone),
    ("Runner, LocalExecutor", local_executor),
    ("Runner, FuturesUnordered", unordered),
    ("LocalPool", local_pool),
    #[cfg(feature = "tokio")]
    ("TokioDriver", tokio),
];

/// CPU time of this thread so far, in nanoseconds: what other programs do does not count.
fn cpu_time() -> i64 {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

fn main() {
    println!("{:24} {:>6} {:>28} {:>10}", "", "pairs", "ns per operation (min..max)", "enters/op");
    for pairs in [1, 8, 64] {
        let mut nanoseconds = vec![Vec::new(); ROWS.len()];
        let mut enters = vec![0; ROWS.len()];
        for _ in 0..TURNS {
            for (row, (_, run)) in ROWS.iter().enumerate() {
                let ring = Rc::new(Ring::builder().entries(256).build_local().unwrap());
                let start = cpu_time();
                run(&ring, pairs);
                nanoseconds[row].push((cpu_time() - start) / i64::from(OPERATIONS));
                enters[row] = ring.counters().enters;
            }
        }
        for (((name, _), mut times), enters) in ROWS.iter().zip(nanoseconds).zip(enters) {
            times.sort_unstable();
            let shown = format!("{} ({}..{})", times[TURNS / 2], times[0], times[TURNS - 1]);
            let enters = enters as f64 / f64::from(OPERATIONS);
            println!("{name:24} {pairs:>6} {shown:>28} {enters:>10.3}");
        }
    }
}
