//! Chains that are cancelled, dropped, forgotten, waited for, and shared by threads.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod common;

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use common::{Part, SOON, Tracked, count, counter, pipe, until};
use io_uring_ext::chain::{Broken, Chain, ChainWaitError, Why};
use io_uring_ext::op::{Nop, Read, Send, SendZc};
use io_uring_ext::{Fd, Ring, SqPoll, StartError};

const NEVER: Duration = Duration::from_secs(1000);

fn read(fd: &Fd) -> Read<Vec<u8>> {
    Read::new(fd, Vec::with_capacity(8), 0)
}

/// A descriptor from which no read succeeds.
fn unreadable() -> Fd {
    Fd::new(std::fs::OpenOptions::new().write(true).open("/dev/null").unwrap())
}

fn errno<T>(result: std::io::Result<T>) -> Option<i32> {
    result.err().and_then(|error| error.raw_os_error())
}

#[test]
fn a_cancelled_chain_ends_hard_links_and_all() {
    let ring = Ring::local().unwrap();
    let (reader, _writer) = pipe();
    let reader = Fd::new(reader);
    // Nobody writes, so each member would wait for ever.
    let chain = || {
        Chain::new(read(&reader))
            .then_always(read(&reader))
            .then_always(read(&reader))
            .within(NEVER)
    };
    let pending = ring.push_chain(chain()).unwrap();
    ring.submit().unwrap();
    pending.cancel().unwrap();
    let done = pending.wait(SOON).unwrap();
    assert_eq!(done.summary.broken(), Some(Broken { member: 0, why: Why::Cancelled }));
    assert_eq!(done.summary.cancelled(), [0, 1, 2]);

    // The same through everything at once, before and after it was submitted.
    for submit in [true, false] {
        let pending = ring.push_chain(chain()).unwrap();
        if submit {
            ring.submit().unwrap();
        }
        ring.cancel_all().unwrap();
        let done = pending.wait(SOON).unwrap();
        assert_eq!(done.summary.cancelled(), [0, 1, 2]);
    }
    assert_eq!((ring.in_flight(), ring.counters().stale), (0, 0));
}

#[test]
fn a_dropped_chain_is_cancelled_and_freed_once() {
    for shared in [false, true] {
        let (reader, _writer) = pipe();
        let reader = Fd::new(reader);
        let freed = counter();
        let track = || Read::new(&reader, Tracked::new(8, &freed), 0);
        let chain =
            || Chain::new(track()).within(NEVER).then_always(track()).then(track()).within(NEVER);
        let (local, threads) = (Ring::local().unwrap(), Ring::shared().unwrap());
        for round in 1..=100 {
            let submit = || {
                if shared { threads.submit().unwrap() } else { local.submit().unwrap() }
            };
            if shared {
                let pending = threads.push_chain(chain()).unwrap();
                if round % 2 == 0 {
                    submit();
                }
                drop(pending);
            } else {
                let pending = local.push_chain(chain()).unwrap();
                if round % 2 == 0 {
                    submit();
                }
                drop(pending);
            }
            until("the chain to be freed", || {
                submit();
                count(&freed) == 3 * round
            });
        }
        until("the limits to end", || {
            local.submit().unwrap();
            threads.submit().unwrap();
            local.in_flight() + threads.in_flight() == 0
        });
        assert_eq!(local.counters().stale + threads.counters().stale, 0);
    }
}

#[test]
fn memory_of_a_chain_is_freed_when_the_ring_is_dropped() {
    let (reader, _writer) = pipe();
    let reader = Fd::new(reader);
    for forget in [false, true] {
        let freed = counter();
        let track = || Read::new(&reader, Tracked::new(8, &freed), 0);
        let ring = Ring::local().unwrap();
        let chain = Chain::new(track()).within(NEVER).then_always(track()).then(track());
        let pending = ring.push_chain(chain).unwrap();
        ring.submit().unwrap();
        if forget {
            std::mem::forget(pending);
            drop(ring);
            assert_eq!(count(&freed), 0, "forgetting leaks");
        } else {
            drop(ring);
            assert_eq!(count(&freed), 0, "the results are still to be taken");
            let done = pending.wait(SOON).unwrap();
            assert_eq!(done.summary.cancelled(), [0, 1, 2]);
            drop(done);
            assert_eq!(count(&freed), 3);
        }
    }
}

#[test]
fn a_detached_chain_runs_to_its_end() {
    let ring = Ring::local().unwrap();
    let (reader, writer) = pipe();
    let (reader, mut writer) = (Fd::new(reader), std::fs::File::from(writer));
    let freed = counter();
    let track = || Read::new(&reader, Tracked::new(1, &freed), 0);
    ring.push_chain(Chain::new(track()).within(NEVER).then(track())).unwrap().detach();
    ring.submit().unwrap();
    assert_eq!((count(&freed), ring.in_flight()), (0, 3));
    writer.write_all(b"ab").unwrap();
    until("the chain to end", || {
        ring.submit().unwrap();
        ring.in_flight() == 0
    });
    assert_eq!((count(&freed), ring.counters().cancels), (2, 0));
}

#[test]
fn waiting_for_a_chain_is_limited_in_time() {
    let ring = Ring::local().unwrap();
    let (reader, writer) = pipe();
    let chain = Chain::new(Read::new(&Fd::new(reader), vec![0; 1], 0)).then(Nop::new());
    let pending = ring.push_chain(chain).unwrap();
    let pending = match pending.wait(Some(Duration::from_millis(5))).unwrap_err() {
        ChainWaitError::TimedOut(pending) => pending,
        other => panic!("{other:?}"),
    };
    let pending = pending.try_take().unwrap_err();
    std::fs::File::from(writer).write_all(b"x").unwrap();
    assert!(pending.wait(SOON).unwrap().summary.is_whole());
}

#[test]
fn a_polling_kernel_thread_sees_a_chain_as_a_whole() {
    let sqpoll = SqPoll { idle: Some(Duration::from_millis(50)), cpu: None };
    let ring = Ring::builder().entries(16).sqpoll(sqpoll).build_local().unwrap();
    let unreadable = unreadable();
    for _ in 0..300 {
        // If the thread saw the first entries alone, the last ones would run as a chain of their own.
        let mut chain = Chain::new(read(&unreadable)).then_each((0..10).map(|_| Nop::new()));
        let done = loop {
            match ring.push_chain(chain) {
                Ok(pending) => break pending.wait(SOON).unwrap(),
                Err(refused) => {
                    assert!(matches!(refused.why, StartError::QueueFull));
                    chain = refused.operation;
                }
            }
        };
        assert!(done.results.1.into_iter().all(|nop| errno(nop) == Some(libc::ECANCELED)));
    }
    assert_eq!(ring.in_flight(), 0);
}

#[test]
fn threads_make_chains_on_a_shared_ring() {
    let ring = Ring::shared().unwrap();
    // The kernel may cancel what a thread has submitted, also for others, when the thread exits.
    let end = std::sync::Barrier::new(4);
    std::thread::scope(|scope| {
        for thread in 0..4_u8 {
            let (ring, end) = (&ring, &end);
            scope.spawn(move || {
                let (a, b) = UnixStream::pair().unwrap();
                let (a, b) = (Fd::new(a), Fd::new(b));
                for round in 0..100_u8 {
                    let chain = Chain::new(Send::new(&a, vec![thread, round]))
                        .then(Read::new(&b, Vec::with_capacity(2), 0))
                        .within(NEVER);
                    let done = ring.push_chain(chain).unwrap().wait(SOON).unwrap();
                    assert!(done.summary.is_whole(), "{:?}", done.summary);
                    assert_eq!(done.results.1.buf, [thread, round]);
                }
                end.wait();
            });
        }
    });
    assert_eq!((ring.in_flight(), ring.counters().stale), (0, 0));
}

#[test]
fn a_lent_buffer_is_waited_for_but_does_not_hold_the_chain_up() {
    let ring = Ring::local().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let near = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let far = listener.accept().unwrap().0;
    let (near, far) = (Fd::new(near), Fd::new(far));
    let chain = Chain::new(SendZc::new(&near, vec![7; 4096])).then(Read::new(
        &far,
        Vec::with_capacity(1),
        0,
    ));
    let done = ring.push_chain(chain).unwrap().wait(SOON).unwrap();
    assert!(done.summary.is_whole(), "{:?}", done.summary);
    let (sent, received) = done.results;
    assert_eq!((sent.result.unwrap(), sent.buf.len()), (4096, 4096));
    assert!(sent.copied.is_some(), "the notification has come");
    assert_eq!(received.buf, [7]);
}

#[test]
fn a_chain_is_a_future() {
    use std::future::IntoFuture;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    let ring = Ring::local().unwrap();
    let (reader, writer) = pipe();
    let chain =
        Chain::new(Read::new(&Fd::new(reader), vec![0; 1], 0)).within(NEVER).then(Nop::new());
    let mut future = pin!(ring.push_chain(chain).unwrap().into_future());
    let mut context = Context::from_waker(Waker::noop());
    assert!(future.as_mut().poll(&mut context).is_pending());
    std::fs::File::from(writer).write_all(b"x").unwrap();
    until("the future to be ready", || {
        ring.submit().unwrap();
        match future.as_mut().poll(&mut context) {
            Poll::Ready(done) => {
                assert!(done.unwrap().summary.is_whole());
                true
            }
            Poll::Pending => false,
        }
    });
}

/// A buffer's methods may panic; the kernel has seen nothing of such a chain.
#[test]
fn a_panic_while_a_chain_is_made_leaves_nothing_behind() {
    let ring = Ring::builder().operations(4).build_local().unwrap();
    let freed = counter();
    let (reader, _writer) = pipe();
    let reader = Fd::new(reader);
    for round in 1..4 {
        let track = || Read::new(&reader, Tracked::new(1, &freed), 0);
        let broken = Part { bytes: vec![0; 4], from: 3, len: 2 };
        let chain = Chain::new(track()).then(track()).then(Send::new(&reader, broken));
        let pushed = catch_unwind(AssertUnwindSafe(|| drop(ring.push_chain(chain))));
        assert!(pushed.is_err());
        ring.submit().unwrap();
        assert_eq!((ring.in_flight(), count(&freed)), (0, 2 * round));
    }
    let broken = Part { bytes: vec![0; 4], from: 3, len: 2 };
    assert!(
        catch_unwind(AssertUnwindSafe(|| drop(ring.push(Send::new(&reader, broken))))).is_err()
    );
    let nops: Vec<_> = (0..4).map(|_| ring.push(Nop::new()).unwrap()).collect();
    nops.into_iter().for_each(|nop| nop.wait(SOON).unwrap().unwrap());
}

/// The other end has not taken what was sent, so the buffer is not free; but the next member runs.
#[test]
fn a_cancel_reaches_the_member_behind_a_zero_copy_send_that_is_not_free_yet() {
    let listener =
        socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    listener.set_recv_buffer_size(4096).unwrap();
    listener.bind(&std::net::SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    listener.listen(1).unwrap();
    let near = std::net::TcpStream::connect(listener.local_addr().unwrap().as_socket().unwrap());
    let near = near.unwrap();
    let mut far = std::net::TcpStream::from(listener.accept().unwrap().0);
    socket2::SockRef::from(&near).set_send_buffer_size(1 << 20).unwrap();
    let near = Fd::new(near);
    let ring = Ring::local().unwrap();
    // More than the other end has room for.
    const FILL: usize = 200_000;
    ring.push(Send::new(&near, vec![0; FILL])).unwrap().wait(SOON).unwrap().result.unwrap();

    let chain = Chain::new(SendZc::new(&near, vec![7; 4096])).then(Read::new(&near, vec![0; 1], 0));
    let chain = ring.push_chain(chain).unwrap();
    ring.submit().unwrap();
    assert_eq!(ring.in_flight(), 2);
    chain.cancel().unwrap();
    ring.submit().unwrap();
    until("the read to be cancelled", || {
        ring.submit().unwrap();
        ring.in_flight() == 1
    });
    assert!(!chain.is_done());
    let mut taken = vec![0; FILL + 4096];
    std::io::Read::read_exact(&mut far, &mut taken).unwrap();
    let done = chain.wait(SOON).unwrap();
    assert_eq!(errno(done.results.1.result), Some(libc::ECANCELED));
}
