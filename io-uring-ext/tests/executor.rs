//! A ring that runs an executor on its own thread.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod common;

use std::cell::Cell;
use std::future::{pending, poll_fn};
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::rc::Rc;
use std::sync::mpsc;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use async_executor::LocalExecutor;
use common::{Tracked, count, counter, pipe, until};
use io_uring_ext::driver::{Runner, TimeoutError};
use io_uring_ext::op::{Nop, Read, Send};
use io_uring_ext::{Error, Fd, Local, Ring, SqPoll};

const HANGS: Duration = Duration::from_secs(5);

/// Runs the future; fails the test when it hangs.
fn run<F: Future>(ring: &Ring<Local>, future: F) -> F::Output {
    in_time(ring, &Runner::new(ring).unwrap(), future)
}

/// The end of the time wakes the task too, which finds then what it was not woken for. So what counts is
/// when it is done.
fn in_time<F: Future>(ring: &Ring<Local>, runner: &Runner<'_>, future: F) -> F::Output {
    let began = Instant::now();
    let output = runner.block_on(ring.timeout(HANGS, future)).unwrap().expect("it hangs");
    assert!(began.elapsed() < HANGS, "nobody woke it");
    output
}

#[test]
fn tasks_of_an_executor_share_the_ring() {
    let ring = Ring::local().unwrap();
    let executor = LocalExecutor::new();
    let tasks: Vec<_> = (0..8_u8)
        .map(|task| {
            let ring = &ring;
            executor.spawn(async move {
                let (a, b) = std::os::unix::net::UnixStream::pair().unwrap();
                let (a, b) = (Fd::new(a), Fd::new(b));
                for round in 0..100_u8 {
                    let read = ring.push(Read::new(&b, vec![0; 2], 0)).unwrap();
                    let sent = ring.push(Send::new(&a, vec![task, round])).unwrap();
                    assert_eq!(sent.await.unwrap().result.unwrap(), 2);
                    assert_eq!(read.await.unwrap().buf, [task, round]);
                }
            })
        })
        .collect();
    run(
        &ring,
        executor.run(async {
            for task in tasks {
                task.await;
            }
        }),
    );
}

#[test]
fn a_turn_with_nothing_left_to_do_is_one_system_call() {
    let ring = Ring::local().unwrap();
    let runner = Runner::new(&ring).unwrap();
    let (reader, writer) = pipe();
    let (reader, mut writer) = (Fd::new(reader), std::fs::File::from(writer));
    let mut rounds = 0;
    let enters = runner
        .block_on(async {
            ring.push(Nop::new()).unwrap().await.unwrap().unwrap();
            let before = ring.counters().enters;
            for _ in 0..100 {
                let read = ring.push(Read::new(&reader, vec![0; 8], 0)).unwrap();
                writer.write_all(b"x").unwrap();
                read.await.unwrap().result.unwrap();
                rounds += 1;
            }
            ring.counters().enters - before
        })
        .unwrap();
    assert_eq!((rounds, enters), (100, 100));
}

#[test]
fn another_thread_wakes_a_thread_that_sleeps_in_its_ring() {
    for spins in [0, 100, u32::MAX] {
        let ring = Ring::local().unwrap();
        let runner = Runner::new(&ring).unwrap().spins(spins);
        let (to_thread, wakers) = mpsc::channel::<Waker>();
        let thread = std::thread::spawn(move || wakers.into_iter().for_each(Waker::wake));
        for _round in 0..200 {
            let mut polls = 0;
            let woken = poll_fn(|context| {
                polls += 1;
                if polls == 1 {
                    to_thread.send(context.waker().clone()).unwrap();
                    return Poll::Pending;
                }
                Poll::Ready(())
            });
            in_time(&ring, &runner, woken);
        }
        drop(to_thread);
        thread.join().unwrap();
    }
}

#[test]
fn a_thread_is_woken_out_of_its_sleep() {
    let ring = Ring::local().unwrap();
    let (to_thread, wakers) = mpsc::channel::<Waker>();
    let asleep = std::fs::read_link("/proc/thread-self").unwrap();
    let thread = std::thread::spawn(move || {
        let waker = wakers.recv().unwrap();
        // `S`: it sleeps, and in nothing else than the ring.
        let stat = Path::new("/proc").join(asleep).join("stat");
        until("the thread to sleep", || std::fs::read_to_string(&stat).unwrap().contains(") S "));
        waker.wake();
    });
    let mut polls = 0;
    run(
        &ring,
        poll_fn(|context| {
            polls += 1;
            if polls == 1 {
                to_thread.send(context.waker().clone()).unwrap();
                return Poll::Pending;
            }
            Poll::Ready(())
        }),
    );
    thread.join().unwrap();
}

#[test]
fn a_waker_outlives_its_runner_and_its_ring() {
    let ring = Ring::local().unwrap();
    let waker = run(&ring, poll_fn(|context| Poll::Ready(context.waker().clone())));
    waker.wake_by_ref();
    drop(ring);
    waker.wake_by_ref();
    waker.wake();
}

#[test]
fn spinning_finds_completions_too() {
    let ring = Ring::local().unwrap();
    let runner = Runner::new(&ring).unwrap().spins(u32::MAX);
    let (reader, writer) = pipe();
    let read = ring.push(Read::new(&Fd::new(reader), vec![0; 8], 0)).unwrap();
    let feeder = std::thread::spawn(move || std::fs::File::from(writer).write_all(b"x").unwrap());
    assert_eq!(runner.block_on(read).unwrap().unwrap().buf, b"x");
    feeder.join().unwrap();
}

#[test]
fn timers_fire_in_order_and_are_cancelled_by_dropping() {
    let ring = Ring::local().unwrap();
    let executor = LocalExecutor::new();
    let order = Rc::new(Cell::new(0));
    let tasks: Vec<_> = [30, 10, 20]
        .map(|milliseconds| {
            let (ring, order) = (&ring, Rc::clone(&order));
            executor.spawn(async move {
                ring.sleep(Duration::from_millis(milliseconds)).await.unwrap();
                order.set(order.get() * 100 + milliseconds);
            })
        })
        .into();
    run(
        &ring,
        executor.run(async {
            for task in tasks {
                task.await;
            }
        }),
    );
    assert_eq!(order.get(), 10_20_30);

    let hour = ring.timeout(Duration::from_secs(3600), pending::<()>());
    let short = ring.timeout(Duration::from_millis(1), hour);
    assert!(matches!(run(&ring, short), Err(TimeoutError::Elapsed(_))));
    until("the hour to be cancelled", || {
        ring.submit().unwrap();
        ring.in_flight() == 0
    });
    run(&ring, ring.sleep(Duration::ZERO)).unwrap();
    let forever = ring.timeout(Duration::MAX, ring.push(Nop::new()).unwrap());
    run(&ring, forever).unwrap().unwrap().unwrap();
}

#[test]
fn cancelling_everything_ends_sleeps() {
    let ring = Ring::local().unwrap();
    let mut sleep = ring.sleep(Duration::from_secs(3600));
    run(&ring, async {
        assert!(poll_once(&mut sleep).await.is_pending());
        ring.cancel_all().unwrap();
        let error = sleep.await.unwrap_err();
        assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::CANCELED.raw_os_error()));
    });
}

/// Polls once, with the task's own waker.
async fn poll_once<F: Future + Unpin>(future: &mut F) -> Poll<F::Output> {
    poll_fn(|context| Poll::Ready(std::pin::Pin::new(&mut *future).poll(context))).await
}

#[test]
fn a_ring_without_a_place_for_the_runner_says_so() {
    let ring = Ring::builder().operations(1).build_local().unwrap();
    let (reader, _writer) = pipe();
    let read = ring.push(Read::new(&Fd::new(reader), vec![0; 8], 0)).unwrap();
    let error = ring.block_on(read).unwrap_err();
    assert!(matches!(error, Error::Config { what: "operations", .. }), "{error}");
}

#[test]
fn a_dropped_executor_cancels_what_its_tasks_awaited() {
    let ring = Ring::local().unwrap();
    let (reader, _writer) = pipe();
    let reader = Fd::new(reader);
    let freed = counter();
    let executor = LocalExecutor::new();
    for _ in 0..8 {
        let read = ring.push(Read::new(&reader, Tracked::new(8, &freed), 0)).unwrap();
        executor.spawn(async move { drop(read.await) }).detach();
    }
    run(&ring, executor.run(ring.sleep(Duration::from_millis(1)))).unwrap();
    assert_eq!((count(&freed), ring.in_flight() >= 8), (0, true));
    drop(executor);
    until("the reads to end", || {
        ring.submit().unwrap();
        ring.in_flight() == 0
    });
    assert_eq!(count(&freed), 8);
}

#[test]
fn a_panic_in_a_task_leaves_the_ring_whole() {
    let ring = Ring::local().unwrap();
    let (reader, _writer) = pipe();
    let freed = counter();
    let read = ring.push(Read::new(&Fd::new(reader), Tracked::new(8, &freed), 0)).unwrap();
    let executor = LocalExecutor::new();
    let broken = executor.spawn(async move {
        let _read = read;
        panic!("in the middle");
    });
    let runner = Runner::new(&ring).unwrap();
    let panicked = catch_unwind(AssertUnwindSafe(|| runner.block_on(executor.run(broken))));
    assert!(panicked.is_err());
    runner.block_on(ring.push(Nop::new()).unwrap()).unwrap().unwrap().unwrap();
    until("the read to end", || {
        ring.submit().unwrap();
        count(&freed) == 1
    });
}

#[test]
fn runners_nest() {
    let ring = Ring::local().unwrap();
    let inner = run(&ring, async {
        let read = ring.push(Nop::new()).unwrap();
        ring.block_on(read).unwrap().unwrap().unwrap();
        ring.push(Nop::new()).unwrap().await.unwrap()
    });
    inner.unwrap();
}

/// A wake for the outer future comes while the inner one is run.
#[test]
fn a_runner_inside_itself_swallows_no_wake() {
    let ring = Ring::local().unwrap();
    let runner = Runner::new(&ring).unwrap();
    let mut polls = 0;
    let outer = poll_fn(|context| {
        polls += 1;
        if polls == 2 {
            return Poll::Ready(());
        }
        let waker = context.waker().clone();
        let inner = async {
            waker.wake();
            ring.push(Nop::new()).unwrap().await.unwrap().unwrap();
        };
        runner.block_on(inner).unwrap();
        Poll::Pending
    });
    in_time(&ring, &runner, outer);
}

/// Whether this thread of the process sleeps: `S` in `proc_pid_stat(5)`.
fn sleeps(thread: &Path) -> bool {
    std::fs::read_to_string(thread.join("stat")).unwrap().contains(") S ")
}

/// The kernel's thread that takes submissions for the ring.
fn poller_sleeps() -> bool {
    let threads =
        std::fs::read_dir("/proc/self/task").unwrap().map(|thread| thread.unwrap().path());
    let comm = |thread: &Path| std::fs::read_to_string(thread.join("comm")).unwrap_or_default();
    let mut pollers = threads.filter(|thread| comm(thread).starts_with("iou-sqp"));
    pollers.any(|thread| sleeps(&thread))
}

/// Where the kernel's thread has not made room yet, the runner cannot read its alarm, and must not sleep
/// without.
#[test]
fn a_full_submission_queue_does_not_keep_the_alarm_from_ringing() {
    let sqpoll = SqPoll { idle: Some(Duration::from_millis(1)), cpu: None };
    let ring = Ring::builder().entries(1).operations(8).sqpoll(sqpoll).build_local().unwrap();
    let (reader, mut writer) = std::io::pipe().unwrap();
    let reader = Fd::new(reader);
    let asleep = Path::new("/proc").join(std::fs::read_link("/proc/thread-self").unwrap());
    let (to_thread, wakers) = mpsc::channel::<Waker>();
    let (done, is_done) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        for waker in wakers {
            until("the thread to sleep", || sleeps(&asleep));
            waker.wake();
            // What the ring reads ends its sleep, when the alarm does not.
            let in_time = is_done.recv_timeout(HANGS);
            writer.write_all(b"x").unwrap();
            in_time.expect("nobody woke it");
        }
    });
    for _round in 0..20 {
        until("the poller to sleep", poller_sleeps);
        let mut read = None;
        let woken = poll_fn(|context| {
            if read.is_some() {
                return Poll::Ready(());
            }
            // The queue is full with this one, until the poller has woken up.
            read = Some(ring.push(Read::new(&reader, vec![0; 1], 0)).unwrap());
            to_thread.send(context.waker().clone()).unwrap();
            Poll::Pending
        });
        ring.block_on(woken).unwrap();
        done.send(()).unwrap();
        assert_eq!(read.unwrap().wait(Some(HANGS)).unwrap().result.unwrap(), 1);
    }
    drop(to_thread);
    thread.join().unwrap();
}
