//! Operations and receivers as futures.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod common;

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::io::Write;
use std::net::UdpSocket;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Barrier};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use common::task::{Call, Hooked, Woken, drive, poll};
use common::{SOON, Tracked, count, counter, pipe, until};
use futures_core::Stream;
use io_uring_ext::buf::BufPool;
use io_uring_ext::buf_ring::{BufRing, EndReason, MessageLayout};
use io_uring_ext::op::{Nop, Read, ReadDone};
use io_uring_ext::{DatagramFd, Error, Fd, Local, Pending, Ring, leaked_operations};

/// A read from a pipe, submitted, and the end that feeds it.
fn hanging_read(ring: &Ring) -> (Pending<Read<Vec<u8>>, Local>, std::fs::File) {
    let (reader, writer) = pipe();
    let read = ring.push(Read::new(&Fd::new(reader), vec![0; 8], 0)).unwrap();
    ring.submit().unwrap();
    (read, writer.into())
}

fn errno(done: ReadDone<Vec<u8>>) -> Option<i32> {
    done.result.unwrap_err().raw_os_error()
}

#[test]
fn an_operation_is_awaited_and_gives_its_buffer_back() {
    let ring = Ring::local().unwrap();
    let (read, mut writer) = hanging_read(&ring);
    writer.write_all(b"data").unwrap();
    let done = drive(&ring, read).unwrap();
    assert_eq!((done.result.unwrap(), &done.buf[..]), (4, &b"data"[..]));
    assert_eq!(ring.in_flight(), 0);
}

#[test]
fn a_task_is_woken_once_and_by_its_last_waker() {
    let ring = Ring::local().unwrap();
    let (mut read, mut writer) = hanging_read(&ring);
    let (first, second) = (Woken::new(), Woken::new());
    assert!(poll(&mut read, &Waker::from(first.clone())).is_pending());
    for _ in 0..3 {
        assert!(poll(&mut read, &Waker::from(second.clone())).is_pending());
    }
    assert_eq!(Arc::strong_count(&first), 1, "let go of");
    writer.write_all(b"x").unwrap();
    ring.wait(1, SOON).unwrap();
    assert_eq!((first.times(), second.times()), (0, 1));
    assert_eq!(Arc::strong_count(&second), 1, "let go of");
    assert!(poll(&mut read, Waker::noop()).is_ready());
    assert!(poll(&mut read, Waker::noop()).is_pending(), "the result is taken");
    assert_eq!(second.times(), 1);
}

#[test]
fn cancelled_operations_give_their_buffers_back() {
    let ring = Ring::local().unwrap();
    let (read, _writer) = hanging_read(&ring);
    let done = drive(&ring, read.cancelled()).unwrap();
    assert_eq!(done.buf.len(), 8);
    assert_eq!(errno(done), Some(libc::ECANCELED));
}

#[test]
fn a_dropped_future_cancels_and_frees_only_when_the_kernel_is_done() {
    let ring = Ring::local().unwrap();
    let (reader, _writer) = pipe();
    let freed = counter();
    let mut read = ring.push(Read::new(&Fd::new(reader), Tracked::new(8, &freed), 0)).unwrap();
    ring.submit().unwrap();
    let woken = Woken::new();
    assert!(poll(&mut read, &Waker::from(woken.clone())).is_pending());
    drop(read);
    assert_eq!((count(&freed), ring.in_flight()), (0, 1), "the kernel has not answered");
    assert_eq!(Arc::strong_count(&woken), 1, "nobody is to be woken");
    until("the read to be freed", || {
        ring.submit().unwrap();
        count(&freed) == 1
    });
    assert_eq!((ring.in_flight(), woken.times()), (0, 0));
}

#[test]
fn a_forgotten_future_leaks_its_place_until_the_ring_goes() {
    let ring = Ring::local().unwrap();
    let (mut read, mut writer) = hanging_read(&ring);
    let woken = Woken::new();
    assert!(poll(&mut read, &Waker::from(woken.clone())).is_pending());
    std::mem::forget(read);
    writer.write_all(b"x").unwrap();
    ring.wait(1, SOON).unwrap();
    assert_eq!(woken.times(), 1);
    drop(ring);
    assert_eq!(Arc::strong_count(&woken), 1);
}

#[test]
fn results_outlive_the_ring_for_tasks_too() {
    let ring = Ring::local().unwrap();
    let (mut read, _writer) = hanging_read(&ring);
    let woken = Woken::new();
    assert!(poll(&mut read, &Waker::from(woken.clone())).is_pending());
    drop(ring);
    assert_eq!(woken.times(), 1);
    let Poll::Ready(done) = poll(&mut read, Waker::noop()) else { panic!("it hangs") };
    assert_eq!(errno(done.unwrap()), Some(libc::ECANCELED));
}

#[test]
fn a_leaked_operation_tells_its_task() {
    let ring = Ring::builder().shutdown_deadline(Duration::ZERO).build_local().unwrap();
    let (mut read, _writer) = hanging_read(&ring);
    let woken = Woken::new();
    assert!(poll(&mut read, &Waker::from(woken.clone())).is_pending());
    let before = leaked_operations();
    assert_eq!(ring.close(), 1);
    assert!(leaked_operations() > before);
    assert_eq!(woken.times(), 1);
    assert!(matches!(poll(&mut read, Waker::noop()), Poll::Ready(Err(Error::Closed))));
}

#[test]
fn threads_await_operations_of_a_shared_ring() {
    let ring = Arc::new(Ring::shared().unwrap());
    // The kernel may cancel what a thread has submitted, also for others, when the thread exits.
    let end = Arc::new(Barrier::new(4));
    let threads: Vec<_> = (0..4_u8)
        .map(|thread| {
            let (ring, end) = (Arc::clone(&ring), Arc::clone(&end));
            std::thread::spawn(move || {
                let (reader, writer) = pipe();
                let (reader, mut writer) = (Fd::new(reader), std::fs::File::from(writer));
                for round in 0..100 {
                    let mut read = ring.push(Read::new(&reader, vec![0; 2], 0)).unwrap();
                    ring.submit().unwrap();
                    let woken = Woken::new();
                    let waker = Waker::from(woken.clone());
                    writer.write_all(&[thread, round]).unwrap();
                    // Any of the threads may take the completion, and wakes the others' tasks.
                    let done = loop {
                        match poll(&mut read, &waker) {
                            Poll::Ready(done) => break done.unwrap(),
                            Poll::Pending => until("the task to be woken", || {
                                ring.submit().unwrap();
                                woken.times() == 1
                            }),
                        }
                    };
                    assert_eq!((done.result.unwrap(), done.buf), (2, vec![thread, round]));
                }
                end.wait();
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert_eq!((ring.in_flight(), ring.counters().stale), (0, 0));
}

/// Everything that is done with a waker is done without the ring's lock.
#[test]
fn wakers_may_use_the_ring_in_every_call() {
    let ring = Rc::new(Ring::local().unwrap());
    let calls = Rc::new(RefCell::new(Vec::new()));
    let hooked = || {
        let (ring, calls) = (Rc::clone(&ring), Rc::clone(&calls));
        Hooked::waker(move |call| {
            calls.borrow_mut().push(call);
            ring.submit().unwrap();
            ring.push(Nop::new()).unwrap().detach();
            let mut nop = ring.push(Nop::new()).unwrap();
            assert!(poll(&mut nop, Waker::noop()).is_pending());
            ring.wait(1, SOON).unwrap();
        })
    };
    let (mut read, mut writer) = hanging_read(&ring);
    let (first, second) = (hooked(), hooked());
    assert!(poll(&mut read, &first).is_pending());
    assert_eq!(calls.take(), [Call::Clone]);
    assert!(poll(&mut read, &second).is_pending());
    assert_eq!(calls.take(), [Call::Clone, Call::Drop]);
    writer.write_all(b"x").unwrap();
    until("the wake", || {
        ring.submit().unwrap();
        calls.borrow().contains(&Call::Wake)
    });
    assert!(poll(&mut read, &second).is_ready());
    let (mut dropped, _writer) = hanging_read(&ring);
    assert!(poll(&mut dropped, &first).is_pending());
    calls.take();
    drop(dropped);
    assert_eq!(calls.take(), [Call::Drop]);
}

#[test]
fn wakers_that_panic_harm_nobody_else() {
    let ring = Ring::local().unwrap();
    let panics = Rc::new(Cell::new(None));
    let hook = {
        let panics = Rc::clone(&panics);
        move |call| assert!(panics.get() != Some(call), "as ordered")
    };
    let broken = Hooked::waker(hook);
    let caught = |f: &mut dyn FnMut()| catch_unwind(AssertUnwindSafe(f)).is_err();

    // On clone: the task is not registered, and that is all.
    let (mut read, mut writer) = hanging_read(&ring);
    panics.set(Some(Call::Clone));
    assert!(caught(&mut || drop(poll(&mut read, &broken))));
    panics.set(None);

    // On wake: the task behind it is woken all the same.
    let (mut other, mut other_writer) = hanging_read(&ring);
    let woken = Woken::new();
    assert!(poll(&mut read, &broken).is_pending());
    assert!(poll(&mut other, &Waker::from(woken.clone())).is_pending());
    writer.write_all(b"x").unwrap();
    other_writer.write_all(b"x").unwrap();
    panics.set(Some(Call::Wake));
    assert!(caught(&mut || {
        ring.wait(2, SOON).unwrap();
    }));
    assert_eq!(woken.times(), 1);
    panics.set(None);
    assert!(
        poll(&mut read, Waker::noop()).is_ready() && poll(&mut other, Waker::noop()).is_ready()
    );

    // On drop: the operation is cancelled all the same.
    let (mut read, _writer) = hanging_read(&ring);
    assert!(poll(&mut read, &broken).is_pending());
    panics.set(Some(Call::Drop));
    let mut read = Some(read);
    assert!(caught(&mut || drop(read.take())));
    panics.set(None);
    until("the cancelled read to end", || {
        ring.submit().unwrap();
        ring.in_flight() == 0
    });
}

#[test]
fn a_panic_in_a_task_cancels_what_it_awaited() {
    let ring = Ring::local().unwrap();
    let (read, _writer) = hanging_read(&ring);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        drive(&ring, async {
            let mut read = read;
            assert!(poll(&mut read, Waker::noop()).is_pending());
            panic!("in the middle");
        })
    }));
    assert!(panicked.is_err());
    until("the read to end", || {
        ring.submit().unwrap();
        ring.in_flight() == 0
    });
}

#[test]
fn datagrams_are_awaited() {
    let ring = Ring::local().unwrap();
    let buffers = BufRing::new(&ring, 8, BufPool::local(512, 16).unwrap()).unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(socket.local_addr().unwrap()).unwrap();
    let socket = DatagramFd::new(socket).unwrap();
    let mut receiver = buffers.message_receiver(&socket, MessageLayout::new(28, 0));
    for round in 0..100_u8 {
        // Every other time the datagram comes while the task sleeps.
        if round % 2 == 0 {
            client.send(&[round]).unwrap();
        } else {
            let woken = Woken::new();
            let waker = Waker::from(woken);
            let pending = receiver.poll_recv(&mut Context::from_waker(&waker)).is_pending();
            assert!(pending, "nothing was sent");
            client.send(&[round]).unwrap();
        }
        let message = drive(&ring, receiver.recv()).unwrap().unwrap();
        assert_eq!(message.payload(), [round]);
        assert_eq!(message.source(), Some(client.local_addr().unwrap()));
    }
    receiver.cancel().unwrap();
    assert!(drive(&ring, receiver.recv()).unwrap().is_none());
    assert_eq!(receiver.end_reason(), Some(EndReason::Cancelled));
}

#[test]
fn a_stream_ends_with_its_peer() {
    let ring = Ring::local().unwrap();
    let buffers = BufRing::new(&ring, 8, BufPool::local(512, 16).unwrap()).unwrap();
    let (a, mut b) = std::os::unix::net::UnixStream::pair().unwrap();
    let mut stream = buffers.receiver(&Fd::new(a));
    b.write_all(b"data").unwrap();
    let mut next = || drive(&ring, poll_fn(|context| Pin::new(&mut stream).poll_next(context)));
    assert_eq!(&next().unwrap().unwrap()[..], b"data");
    drop(b);
    assert!(next().is_none());
    assert!(next().is_none(), "it stays ended");
}

#[test]
fn a_receiver_without_buffers_waits_until_they_are_back() {
    let ring = Ring::local().unwrap();
    let pool = BufPool::local(512, 4).unwrap();
    let buffers = BufRing::new(&ring, 4, pool.clone()).unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(socket.local_addr().unwrap()).unwrap();
    let mut receiver = buffers.receiver(&Fd::new(socket)).low_water(2);
    (0..6_u8).for_each(|n| assert_eq!(client.send(&[n]).unwrap(), 1));
    let mut held: Vec<_> =
        (0..4).map(|_| drive(&ring, receiver.recv()).unwrap().unwrap()).collect();
    let woken = Woken::new();
    let waker = Waker::from(woken.clone());
    until("the receive to run dry", || {
        ring.submit().unwrap();
        assert!(receiver.poll_recv(&mut Context::from_waker(&waker)).is_pending());
        receiver.end_reason() == Some(EndReason::NoBuffers)
    });
    let before = woken.times();
    held.pop();
    assert!(woken.times() > before, "a buffer is back");
    assert!(receiver.poll_recv(&mut Context::from_waker(&waker)).is_pending());
    assert!(!receiver.is_armed(), "below the low-water mark");
    held.pop();
    assert_eq!(&drive(&ring, receiver.recv()).unwrap().unwrap()[..], [4]);
    assert_eq!(&drive(&ring, receiver.recv()).unwrap().unwrap()[..], [5]);
}

#[test]
fn a_receiver_whose_ring_is_closed_ends() {
    let ring = Ring::local().unwrap();
    let buffers = BufRing::new(&ring, 4, BufPool::local(512, 4).unwrap()).unwrap();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut receiver = buffers.receiver(&Fd::new(socket));
    let woken = Woken::new();
    let waker = Waker::from(woken.clone());
    assert!(receiver.poll_recv(&mut Context::from_waker(&waker)).is_pending());
    drop(ring);
    assert_eq!(woken.times(), 1);
    let Poll::Ready(end) = receiver.poll_recv(&mut Context::from_waker(&waker)) else {
        panic!("it hangs")
    };
    assert!(end.unwrap().is_none());
}
