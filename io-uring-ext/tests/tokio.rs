//! A ring inside tokio.
#![cfg(feature = "tokio")]
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod common;

use std::io::Write;
use std::net::UdpSocket;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use common::{SOON, Tracked, count, counter, pipe, until};
use io_uring_ext::buf::BufPool;
use io_uring_ext::buf_ring::{BufRing, MessageLayout};
use io_uring_ext::driver::{TimeoutError, TokioDriver};
use io_uring_ext::op::{Nop, Read, Send};
use io_uring_ext::{DatagramFd, Error, Fd, Ring};
use tokio::runtime::{Builder, Runtime};
use tokio::task::{LocalSet, spawn_local, yield_now};

fn current_thread() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Fails the test when the future hangs.
async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(SOON.unwrap(), future).await.expect("it hangs")
}

fn run<F: Future>(future: F) -> F::Output {
    LocalSet::new().block_on(&current_thread(), soon(future))
}

#[test]
fn a_local_ring_is_driven_beside_tasks() {
    run(async {
        let ring = Rc::new(Ring::local().unwrap());
        let driver = spawn_local(TokioDriver::new(&ring).unwrap());
        let echoes: Vec<_> = (0..4_u8)
            .map(|task| {
                let ring = Rc::clone(&ring);
                spawn_local(async move {
                    let (a, b) = std::os::unix::net::UnixStream::pair().unwrap();
                    let (a, b) = (Fd::new(a), Fd::new(b));
                    for round in 0..100_u8 {
                        let read = ring.push(Read::new(&b, vec![0; 2], 0)).unwrap();
                        if round % 3 == 0 {
                            // So that the read is in the kernel before there is something to read.
                            yield_now().await;
                            ring.sleep(Duration::from_micros(50)).await.unwrap();
                        }
                        let sent = ring.push(Send::new(&a, vec![task, round])).unwrap();
                        assert_eq!(sent.await.unwrap().result.unwrap(), 2);
                        assert_eq!(read.await.unwrap().buf, [task, round]);
                    }
                })
            })
            .collect();
        for echo in echoes {
            echo.await.unwrap();
        }
        drop(ring);
        driver.await.unwrap().unwrap(); // it ends with the ring
    });
}

#[test]
fn what_is_pushed_in_one_turn_is_submitted_once() {
    run(async {
        let ring = Rc::new(Ring::builder().entries(256).build_local().unwrap());
        spawn_local(TokioDriver::new(&ring).unwrap());
        ring.push(Nop::new()).unwrap().await.unwrap().unwrap();
        let before = ring.counters().enters;
        let tasks: Vec<_> = (0..100)
            .map(|_| {
                let ring = Rc::clone(&ring);
                spawn_local(async move { ring.push(Nop::new()).unwrap().await })
            })
            .collect();
        for task in tasks {
            task.await.unwrap().unwrap().unwrap();
        }
        let enters = ring.counters().enters - before;
        assert!(enters <= 2, "{enters} system calls for 100 operations");
    });
}

#[test]
fn receivers_are_woken_by_the_driver() {
    run(async {
        let ring = Ring::local().unwrap();
        spawn_local(TokioDriver::new(&ring).unwrap());
        let buffers = BufRing::new(&ring, 8, BufPool::local(512, 16).unwrap()).unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let client = UdpSocket::bind("127.0.0.1:0").unwrap();
        client.connect(socket.local_addr().unwrap()).unwrap();
        let socket = DatagramFd::new(socket).unwrap();
        let mut receiver = buffers.message_receiver(&socket, MessageLayout::new(28, 0));
        for round in 0..100_u8 {
            client.send(&[round]).unwrap();
            assert_eq!(receiver.recv().await.unwrap().unwrap().payload(), [round]);
        }
    });
}

#[test]
fn a_shared_ring_serves_many_threads() {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let ring = Arc::new(Ring::shared().unwrap());
    runtime.block_on(soon(async {
        tokio::spawn(TokioDriver::new(&ring).unwrap());
        let tasks: Vec<_> = (0..8_u8)
            .map(|task| {
                let ring = Arc::clone(&ring);
                tokio::spawn(async move {
                    let (reader, writer) = pipe();
                    let (reader, mut writer) = (Fd::new(reader), std::fs::File::from(writer));
                    for round in 0..100 {
                        let read = ring.push(Read::new(&reader, vec![0; 2], 0)).unwrap();
                        if round % 2 == 0 {
                            yield_now().await;
                        }
                        writer.write_all(&[task, round]).unwrap();
                        assert_eq!(read.await.unwrap().buf, [task, round]);
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
    }));
    drop(runtime);
    assert_eq!((ring.in_flight(), ring.counters().stale), (0, 0));
}

#[test]
fn a_ring_has_one_driver_at_a_time() {
    run(async {
        let ring = Ring::local().unwrap();
        let first = TokioDriver::new(&ring).unwrap();
        assert!(matches!(TokioDriver::new(&ring), Err(Error::Config { .. })));
        drop(first);
        spawn_local(TokioDriver::new(&ring).unwrap());
        ring.push(Nop::new()).unwrap().await.unwrap().unwrap();
    });
}

#[test]
fn outside_of_a_runtime_there_is_no_driver() {
    let error = TokioDriver::new(&Ring::local().unwrap()).unwrap_err();
    assert!(matches!(error, Error::Os { .. }), "{error:?}");
}

#[test]
fn timers_race_operations() {
    run(async {
        let ring = Ring::local().unwrap();
        spawn_local(TokioDriver::new(&ring).unwrap());
        let (reader, _writer) = pipe();
        let freed = counter();
        let read = ring.push(Read::new(&Fd::new(reader), Tracked::new(8, &freed), 0)).unwrap();
        let answer = ring.timeout(Duration::from_millis(5), read).await;
        assert!(matches!(answer, Err(TimeoutError::Elapsed(_))));
        while count(&freed) == 0 {
            yield_now().await; // the cancel is answered
        }
        let in_time = ring.timeout(Duration::from_secs(1000), ring.push(Nop::new()).unwrap());
        in_time.await.unwrap().unwrap().unwrap();
        let mut sleep = ring.sleep(Duration::from_millis(5));
        tokio::select! {
            biased;
            _ = &mut sleep => panic!("too early"),
            () = yield_now() => {}
        }
        sleep.await.unwrap();
    });
}

/// The tasks are dropped with the runtime; the ring stays, with what they had in flight.
#[test]
fn a_dropped_runtime_cancels_what_its_tasks_awaited() {
    let ring = Rc::new(Ring::local().unwrap());
    let (reader, writer) = pipe();
    let reader = Fd::new(reader);
    let freed = counter();
    let (tasks, runtime) = (LocalSet::new(), current_thread());
    tasks.block_on(&runtime, async {
        spawn_local(TokioDriver::new(&ring).unwrap());
        for _ in 0..8 {
            let read = ring.push(Read::new(&reader, Tracked::new(8, &freed), 0)).unwrap();
            let other = ring.push(Read::new(&reader, Tracked::new(8, &freed), 0)).unwrap();
            spawn_local(async move { drop((read.await, other)) });
        }
        yield_now().await;
        yield_now().await;
    });
    assert_eq!((ring.in_flight(), count(&freed)), (16, 0));
    drop(tasks);
    drop(runtime);
    until("the reads to end", || {
        ring.submit().unwrap();
        ring.in_flight() == 0
    });
    assert_eq!(count(&freed), 16);
    // Another runtime takes over.
    run(async {
        spawn_local(TokioDriver::new(&ring).unwrap());
        let read = ring.push(Read::new(&reader, vec![0; 8], 0)).unwrap();
        std::fs::File::from(writer).write_all(b"x").unwrap();
        assert_eq!(read.await.unwrap().buf, b"x");
    });
}

/// The ring goes with the tasks, in whatever order the runtime drops them.
#[test]
fn a_ring_that_a_task_owns_is_dropped_with_the_runtime() {
    let freed = counter();
    for _ in 0..50 {
        let (reader, _writer) = pipe();
        let reader = Fd::new(reader);
        let (tasks, runtime) = (LocalSet::new(), current_thread());
        tasks.block_on(&runtime, async {
            let ring = Rc::new(Ring::local().unwrap());
            spawn_local(TokioDriver::new(&ring).unwrap());
            for _ in 0..4 {
                let (ring, reader, freed) = (Rc::clone(&ring), reader.clone(), freed.clone());
                spawn_local(async move {
                    let read = ring.push(Read::new(&reader, Tracked::new(8, &freed), 0)).unwrap();
                    drop(read.await);
                });
            }
            yield_now().await;
        });
    }
    assert_eq!(count(&freed), 200);
}

#[test]
fn a_shared_ring_outlives_its_runtime() {
    let ring = Arc::new(Ring::shared().unwrap());
    let (reader, _writer) = pipe();
    let reader = Fd::new(reader);
    let freed = counter();
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut awaited = Vec::new();
    runtime.block_on(async {
        tokio::spawn(TokioDriver::new(&ring).unwrap());
        for _ in 0..8 {
            let read = ring.push(Read::new(&reader, Tracked::new(8, &freed), 0)).unwrap();
            awaited.push(tokio::spawn(async move { drop(read.await) }));
        }
        yield_now().await;
    });
    drop(runtime);
    until("the reads to end", || {
        ring.submit().unwrap();
        ring.in_flight() == 0
    });
    assert_eq!(count(&freed), 8);
}

#[test]
fn a_panic_in_a_task_harms_no_other() {
    run(async {
        let ring = Rc::new(Ring::local().unwrap());
        spawn_local(TokioDriver::new(&ring).unwrap());
        let (reader, _writer) = pipe();
        let freed = counter();
        let read = ring.push(Read::new(&Fd::new(reader), Tracked::new(8, &freed), 0)).unwrap();
        let broken = spawn_local(async move {
            let _read = read;
            panic!("in the middle");
        });
        assert!(broken.await.unwrap_err().is_panic());
        while count(&freed) == 0 {
            yield_now().await;
        }
        ring.push(Nop::new()).unwrap().await.unwrap().unwrap();
    });
}

/// The cancel needs a place, and all are taken by results that nobody has looked at.
#[test]
fn a_cancel_by_descriptor_that_waits_for_a_place_is_made_when_there_is_one() {
    run(async {
        let ring = Ring::builder().operations(2).build_local().unwrap();
        let _driver = spawn_local(TokioDriver::new(&ring).unwrap());
        let (reader, _writer) = pipe();
        let reader = Fd::new(reader);
        let read = ring.push(Read::new(&reader, vec![0; 8], 0)).unwrap();
        let nop = ring.push(Nop::new()).unwrap();
        while !nop.is_done() {
            yield_now().await;
        }
        ring.cancel_target(&reader).unwrap();
        for _ in 0..10 {
            yield_now().await;
        }
        assert_eq!(ring.counters().cancels, 0, "there is no place");
        nop.try_take().unwrap().unwrap();
        let errno = read.await.unwrap().result.unwrap_err().raw_os_error();
        assert_eq!(errno, Some(libc::ECANCELED));
    });
}
