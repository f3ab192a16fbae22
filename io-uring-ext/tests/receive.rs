//! Multishot receives: why they end, and that they are armed again as they should be.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod common;

use std::io::Write;
use std::net::UdpSocket;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::time::Duration;

use common::{SOON, until};
use io_uring_ext::buf::BufPool;
use io_uring_ext::buf_ring::{BufRing, BufSource, EndReason, MessageLayout, Receiver};
use io_uring_ext::{DatagramFd, Error, Fd, Ring, Shared};

/// A buffer ring of `entries`, with as many more buffers in the pool.
fn buffers(ring: &Ring, entries: u16) -> (BufRing<BufPool>, BufPool) {
    let pool = BufPool::local(2048, 2 * usize::from(entries)).unwrap();
    (BufRing::new(ring, entries, pool.clone()).unwrap(), pool)
}

fn unix_pair() -> (UnixDatagram, UnixDatagram) {
    UnixDatagram::pair().unwrap()
}

#[test]
fn one_submission_receives_many_datagrams() {
    let ring = Ring::local().unwrap();
    let (buffers, pool) = buffers(&ring, 8);
    assert_eq!((buffers.available(), pool.available()), (8, 8));
    let (near, far) = unix_pair();
    let mut receiver = buffers.receiver(&Fd::new(near));
    for n in 0..1000_u32 {
        far.send(&n.to_ne_bytes()).unwrap();
        let received = receiver.wait(SOON).unwrap().unwrap();
        assert_eq!(received[..], n.to_ne_bytes());
    }
    let counters = receiver.counters();
    assert_eq!((counters.received, counters.armed), (1000, 1));
}

#[test]
fn buffers_come_back_when_they_are_dropped() {
    let ring = Ring::local().unwrap();
    let (buffers, pool) = buffers(&ring, 4);
    let (near, far) = unix_pair();
    let mut receiver = buffers.receiver(&Fd::new(near));
    let mut held = Vec::new();
    for n in 0..8_u8 {
        far.send(&[n]).unwrap();
        held.push(receiver.wait(SOON).unwrap().unwrap());
        assert_eq!(pool.available() + held.len() + buffers.available(), 8);
    }
    // All eight are out. The ninth datagram waits in the socket.
    far.send(&[8]).unwrap();
    assert!(receiver.wait(Some(Duration::from_millis(20))).unwrap().is_none());
    assert_eq!(receiver.end_reason(), Some(EndReason::NoBuffers));
    assert!(!receiver.is_armed(), "arming on an empty ring would fail at once");
    for (n, buffer) in held.iter().enumerate() {
        assert_eq!(buffer[..], [n as u8]);
    }
    held.clear();
    assert_eq!(receiver.wait(SOON).unwrap().unwrap()[..], [8]);
}

#[test]
fn without_buffers_it_is_armed_again_at_the_low_water_mark() {
    let ring = Ring::local().unwrap();
    let pool = BufPool::local(64, 4).unwrap();
    let buffers = BufRing::new(&ring, 4, pool).unwrap();
    let (near, far) = unix_pair();
    let mut receiver = buffers.receiver(&Fd::new(near)).low_water(3);
    let mut held = Vec::new();
    for n in 0..4 {
        far.send(&[n]).unwrap();
        held.push(receiver.wait(SOON).unwrap().unwrap());
    }
    for n in 4..6 {
        far.send(&[n]).unwrap();
    }
    let brief = Some(Duration::from_millis(20));
    assert!(receiver.wait(brief).unwrap().is_none());
    for available in 1..3 {
        held.pop();
        assert!(receiver.wait(brief).unwrap().is_none());
        assert_eq!((buffers.available(), receiver.is_armed()), (available, false));
        assert_eq!(receiver.counters().armed, 1, "not before the mark is reached");
    }
    held.pop();
    assert_eq!(receiver.wait(SOON).unwrap().unwrap()[..], [4], "nothing was lost");
    assert_eq!(receiver.wait(SOON).unwrap().unwrap()[..], [5]);
    assert_eq!((receiver.counters().armed, receiver.counters().no_buffers), (2, 1));
}

#[test]
fn a_full_completion_queue_ends_it_and_loses_nothing() {
    let ring = Ring::builder().entries(8).completions(8).operations(16).build_local().unwrap();
    let (buffers, _pool) = buffers(&ring, 64);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.connect(socket.local_addr().unwrap()).unwrap();
    let mut receiver = buffers.receiver(&Fd::new(socket));
    assert!(receiver.try_recv().unwrap().is_none());
    for n in 0..40 {
        client.send(&[n]).unwrap();
    }
    for n in 0..40 {
        assert_eq!(receiver.wait(SOON).unwrap().unwrap()[..], [n], "in order, each once");
    }
    assert!(receiver.counters().overflows > 0, "{:?}", receiver.counters());
    assert_eq!(receiver.counters().received, 40);
    assert!(ring.counters().overflows > 0, "{:?}", ring.counters());
}

#[test]
fn cancelling_ends_it_until_it_is_allowed_again() {
    let ring = Ring::local().unwrap();
    let (buffers, _pool) = buffers(&ring, 4);
    let (near, far) = unix_pair();
    let mut receiver = buffers.receiver(&Fd::new(near));
    assert!(receiver.try_recv().unwrap().is_none());
    receiver.cancel().unwrap();
    assert!(receiver.wait(SOON).unwrap().is_none());
    assert_eq!(receiver.end_reason(), Some(EndReason::Cancelled));
    far.send(b"later").unwrap();
    assert!(receiver.try_recv().unwrap().is_none());
    receiver.rearm();
    assert_eq!(receiver.wait(SOON).unwrap().unwrap()[..], *b"later");
}

#[test]
fn the_end_of_a_stream_is_told() {
    let ring = Ring::local().unwrap();
    let (buffers, _pool) = buffers(&ring, 4);
    let (near, mut far) = UnixStream::pair().unwrap();
    let mut receiver = buffers.receiver(&Fd::new(near));
    far.write_all(b"bytes").unwrap();
    assert_eq!(receiver.wait(SOON).unwrap().unwrap()[..], *b"bytes");
    drop(far);
    assert!(receiver.wait(SOON).unwrap().is_none());
    assert_eq!(receiver.end_reason(), Some(EndReason::EndOfStream));
    assert_eq!(buffers.refill(), 4, "no buffer is lost at the end");
}

#[test]
fn an_empty_datagram_is_received_and_ends_nothing_for_good() {
    let ring = Ring::local().unwrap();
    let (buffers, _pool) = buffers(&ring, 4);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    let socket = DatagramFd::new(socket).unwrap();
    let mut receiver = buffers.message_receiver(&socket, MessageLayout::new(28, 0));
    for payload in [&b"one"[..], b"", b"", b"two"] {
        client.send_to(payload, address).unwrap();
        let message = receiver.wait(SOON).unwrap().unwrap();
        assert_eq!(message.payload(), payload);
        assert_eq!(message.source(), Some(client.local_addr().unwrap()));
    }
    assert_eq!(receiver.counters().armed, 3);

    let (near, far) = unix_pair();
    let mut receiver = buffers.receiver(&Fd::new(near));
    for payload in [&b"one"[..], b"", b"two"] {
        far.send(payload).unwrap();
    }
    // Without a header there is nothing to put into a buffer.
    assert_eq!(receiver.wait(SOON).unwrap().unwrap()[..], *b"one");
    assert_eq!(receiver.wait(SOON).unwrap().unwrap()[..], *b"two");
}

#[test]
fn an_error_of_the_socket_is_told_once_and_receiving_goes_on() {
    let ring = Ring::local().unwrap();
    let (buffers, _pool) = buffers(&ring, 4);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let gone = UdpSocket::bind("127.0.0.1:0").unwrap();
    let gone_address = gone.local_addr().unwrap();
    drop(gone);
    socket.connect(gone_address).unwrap();
    let sender = socket.try_clone().unwrap();
    let mut receiver = buffers.receiver(&Fd::new(socket));
    assert!(receiver.try_recv().unwrap().is_none());
    sender.send(b"anyone?").unwrap();
    let error = receiver.wait(SOON).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ECONNREFUSED), "{error}");
    assert_eq!(receiver.end_reason(), Some(EndReason::Error(libc::ECONNREFUSED)));
    let back = UdpSocket::bind(gone_address).unwrap();
    back.send_to(b"here", address).unwrap();
    assert_eq!(receiver.wait(SOON).unwrap().unwrap()[..], *b"here");
}

#[test]
fn what_is_no_socket_is_refused_with_an_error() {
    let ring = Ring::local().unwrap();
    let (buffers, _pool) = buffers(&ring, 4);
    let (reader, _writer) = common::pipe();
    let error = buffers.receiver(&Fd::new(reader)).wait(SOON).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ENOTSOCK));
    let (near, _far) = UnixStream::pair().unwrap();
    let error = DatagramFd::new(near).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput, "a stream has no messages");
}

#[test]
fn messages_that_do_not_fit_say_so() {
    let ring = Ring::local().unwrap();
    let layout = MessageLayout::new(28, 0);
    let pool = BufPool::local(layout.payload_at() + 10, 8).unwrap();
    let buffers = BufRing::new(&ring, 4, pool).unwrap();
    let (near, far) = unix_pair();
    let mut receiver = buffers.message_receiver(&DatagramFd::new(near).unwrap(), layout);
    far.send(b"0123456789").unwrap();
    far.send(b"0123456789+").unwrap();
    let fits = receiver.wait(SOON).unwrap().unwrap();
    assert_eq!((fits.payload(), fits.is_truncated()), (&b"0123456789"[..], false));
    let cut = receiver.wait(SOON).unwrap().unwrap();
    assert_eq!((cut.payload(), cut.is_truncated()), (&b"0123456789"[..], true));
}

/// Buffers whose memory is not initialised, as far as the allocator knows; here it is poison.
struct Fresh;

impl BufSource for Fresh {
    type Buf = Vec<u8>;
    fn supply(&mut self) -> Option<Vec<u8>> {
        let mut memory = vec![0xAA; 512];
        memory.clear();
        Some(memory)
    }
}

#[test]
fn what_the_kernel_leaves_out_of_a_message_is_zero() {
    let ring = Ring::local().unwrap();
    // A sender's address takes 16 of 32 bytes here, and there are no control messages.
    let layout = MessageLayout::new(28, 40);
    let buffers = BufRing::new(&ring, 2, Fresh).unwrap();
    let near = UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = near.local_addr().unwrap();
    let mut receiver = buffers.message_receiver(&DatagramFd::new(near).unwrap(), layout);
    let far = UdpSocket::bind("127.0.0.1:0").unwrap();
    far.send_to(b"data", to).unwrap();
    let message = receiver.wait(SOON).unwrap().unwrap();
    assert_eq!(message.source(), Some(far.local_addr().unwrap()));
    let name = message.name().len();
    let bytes = message.into_buf();
    assert_eq!(bytes.len(), layout.payload_at() + 4);
    let gap = 16 + name..layout.payload_at();
    assert_eq!(gap.len(), 16 + 40);
    assert!(bytes[gap].iter().all(|byte| *byte == 0), "{bytes:?}");
}

#[test]
fn dropping_a_receiver_gives_every_buffer_back() {
    let ring = Ring::local().unwrap();
    let (buffers, pool) = buffers(&ring, 8);
    for untaken in 0..8 {
        let (near, far) = unix_pair();
        let mut receiver = buffers.receiver(&Fd::new(near));
        assert!(receiver.try_recv().unwrap().is_none());
        for n in 0..=untaken {
            far.send(&[n]).unwrap();
        }
        // One is taken, so that the completions of the others have been fetched with it.
        drop(receiver.wait(SOON).unwrap().unwrap());
        drop(receiver);
        far.send(b"while the cancel is under way").unwrap_or(0);
        until("the receive to end", || {
            ring.submit().unwrap();
            ring.in_flight() == 0
        });
        assert_eq!((buffers.refill(), pool.available()), (8, 8), "after {untaken} untaken");
    }
}

#[test]
fn a_receiver_survives_the_ring_and_the_handles() {
    let ring = Ring::local().unwrap();
    let (buffers, pool) = buffers(&ring, 4);
    let (near, far) = unix_pair();
    let mut receiver = buffers.receiver(&Fd::new(near));
    assert!(receiver.try_recv().unwrap().is_none());
    far.send(b"last").unwrap();
    drop(buffers);
    drop(ring);
    let last = receiver.try_recv().unwrap();
    assert!(last.is_none_or(|last| last[..] == *b"last"));
    let closed = receiver.try_recv();
    assert!(matches!(closed, Ok(None) | Err(Error::Closed)), "{closed:?}");
    drop(receiver);
    assert_eq!(pool.available(), 8, "unregistered, and everything released");
}

#[test]
fn an_armed_receive_keeps_its_socket_and_lets_go_of_it() {
    let ring = Ring::local().unwrap();
    let (buffers, _pool) = buffers(&ring, 4);
    let (near, far) = unix_pair();
    let near = Fd::new(near);
    let mut receiver = buffers.receiver(&near);
    assert!(receiver.try_recv().unwrap().is_none());
    drop(near); // the last handle but the receiver's
    far.send(b"still there").unwrap();
    assert_eq!(receiver.wait(SOON).unwrap().unwrap()[..], *b"still there");
    drop(receiver); // cancels; nothing stays armed on a closed socket
    until("the socket to be closed", || {
        ring.submit().unwrap();
        far.send(b"anyone?").is_err()
    });
}

#[test]
fn several_receivers_share_a_ring_of_buffers() {
    let ring = Ring::local().unwrap();
    let (buffers, _pool) = buffers(&ring, 8);
    let mut pairs: Vec<_> = (0..4)
        .map(|_| {
            let (near, far) = unix_pair();
            (buffers.receiver(&Fd::new(near)), far)
        })
        .collect();
    for round in 0..50_u8 {
        for (n, (_, far)) in pairs.iter().enumerate() {
            far.send(&[n as u8, round]).unwrap();
        }
        for (n, (receiver, _)) in pairs.iter_mut().enumerate() {
            assert_eq!(receiver.wait(SOON).unwrap().unwrap()[..], [n as u8, round]);
        }
    }
}

#[test]
fn sizes_that_the_kernel_does_not_take_are_refused() {
    let ring = Ring::local().unwrap();
    for entries in [0, 3, 40_000] {
        let error = BufRing::new(&ring, entries, BufPool::local(64, 4).unwrap()).unwrap_err();
        assert!(matches!(error, Error::Config { .. }), "{error:?}");
    }
}

#[test]
fn groups_are_used_again() {
    let ring = Ring::local().unwrap();
    for _ in 0..100 {
        let first = BufRing::new(&ring, 2, BufPool::local(64, 2).unwrap()).unwrap();
        let second = BufRing::new(&ring, 2, BufPool::local(64, 2).unwrap()).unwrap();
        drop(first);
        let third = BufRing::new(&ring, 2, BufPool::local(64, 2).unwrap()).unwrap();
        drop((second, third));
    }
}

#[test]
fn a_shared_ring_receives_on_another_thread() {
    let ring = Ring::shared().unwrap();
    let pool = BufPool::shared(2048, 16).unwrap();
    let buffers = BufRing::new(&ring, 8, pool).unwrap();
    let (near, far) = unix_pair();
    let mut receiver = buffers.receiver(&Fd::new(near));
    let (to_main, from_thread) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for _ in 0..500 {
                to_main.send(receiver.wait(SOON).unwrap().unwrap()).unwrap();
            }
        });
        // Four at a time, because what this thread holds the receiver cannot use.
        for first in (0..500_u32).step_by(4) {
            for n in first..first + 4 {
                far.send(&n.to_ne_bytes()).unwrap();
            }
            for n in first..first + 4 {
                assert_eq!(from_thread.recv().unwrap()[..], n.to_ne_bytes());
            }
        }
    });
}

#[test]
fn a_receive_outlives_the_thread_that_armed_it() {
    let ring = Ring::shared().unwrap();
    let buffers = BufRing::new(&ring, 8, BufPool::shared(2048, 16).unwrap()).unwrap();
    let (near, far) = unix_pair();
    let mut receiver = buffers.receiver(&Fd::new(near));
    let arm = |mut receiver: Receiver<BufPool<Shared>, Shared>| {
        assert!(receiver.try_recv().unwrap().is_none());
        assert!(receiver.is_armed());
        receiver
    };
    for round in 0..3 {
        receiver = std::thread::spawn(move || arm(receiver)).join().unwrap();
        // The kernel finds nobody to run what the arrival sets off, and cancels it.
        far.send(&[round as u8]).unwrap();
        assert_eq!(receiver.wait(SOON).unwrap().unwrap()[..], [round as u8]);
        assert_eq!(receiver.counters().orphaned, round + 1);
        ring.cancel_all().unwrap();
        assert!(receiver.wait(SOON).unwrap().is_none());
        assert_eq!(receiver.end_reason(), Some(EndReason::Cancelled), "this was asked for");
        receiver.rearm();
    }
}

/// Supplies so many buffers, and panics when it is asked for another one.
struct Brittle(Option<usize>);

impl BufSource for Brittle {
    type Buf = Vec<u8>;
    fn supply(&mut self) -> Option<Vec<u8>> {
        match self.0?.checked_sub(1) {
            left @ Some(_) => self.0 = left,
            // Without a report on standard error.
            None => std::panic::resume_unwind(Box::new("as it was told")),
        }
        Some(Vec::with_capacity(64))
    }
}

#[test]
fn what_a_source_has_supplied_before_it_panics_is_received_into() {
    let ring = Ring::local().unwrap();
    let buffers = BufRing::new(&ring, 4, Brittle(None)).unwrap();
    let (near, far) = unix_pair();
    let mut receiver = buffers.receiver(&Fd::new(near));
    buffers.with_source(|source| source.0 = Some(2)).unwrap();
    let refill = std::panic::AssertUnwindSafe(|| buffers.refill());
    assert!(std::panic::catch_unwind(refill).is_err());
    buffers.with_source(|source| source.0 = None).unwrap();
    assert_eq!(buffers.available(), 2);
    for n in 0..2 {
        far.send(&[n]).unwrap();
        assert_eq!(receiver.wait(SOON).unwrap(), Some(vec![n]));
    }
    assert_eq!(buffers.available(), 0);
}

/// Supplies buffers of this size.
struct Sized(usize);

impl BufSource for Sized {
    type Buf = Vec<u8>;
    fn supply(&mut self) -> Option<Vec<u8>> {
        Some(Vec::with_capacity(self.0))
    }
}

#[test]
fn a_buffer_that_holds_nothing_is_none() {
    let ring = Ring::local().unwrap();
    let buffers = BufRing::new(&ring, 4, Sized(0)).unwrap();
    assert_eq!(buffers.available(), 0);
    let (near, far) = unix_pair();
    let mut receiver = buffers.receiver(&Fd::new(near));
    far.send(b"kept").unwrap();
    assert!(receiver.wait(SOON).unwrap().is_none());
    let state = (receiver.end_reason(), receiver.is_armed());
    assert_eq!(state, (None, false), "it waits for buffers, and the stream has not ended");
    buffers.with_source(|source| source.0 = 64).unwrap();
    assert_eq!(buffers.refill(), 4);
    assert_eq!(receiver.wait(SOON).unwrap().unwrap(), b"kept");
}
