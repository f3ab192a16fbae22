//! Bundles that are sent: every byte once and in order, however a send ends.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod common;

use std::io::{Read, Write};
use std::iter::from_fn;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::thread::{JoinHandle, spawn};
use std::time::Duration;

use common::stream::{pattern, tcp_pair};
use common::{SOON, Tracked, count, counter, lacks, until};
use io_uring_ext::buf::{BufPool, IoBuf, PoolBuf};
use io_uring_ext::buf_ring::{BufRing, BundleSender};
use io_uring_ext::{Error, Fd, Ring, Shared, StreamFd};

const BUNDLES: &str = "IORING_FEAT_RECVSEND_BUNDLE";

fn stream(socket: impl Into<OwnedFd>) -> StreamFd {
    StreamFd::new(&Fd::new(socket)).unwrap()
}

fn tcp() -> (StreamFd, Box<dyn Read + Send>) {
    let (near, far) = tcp_pair();
    // Little room, so that sends have to wait for the reader again and again.
    socket2::SockRef::from(&near).set_send_buffer_size(16 << 10).unwrap();
    socket2::SockRef::from(&far).set_recv_buffer_size(16 << 10).unwrap();
    (stream(near), Box::new(far))
}

fn unix() -> (StreamFd, Box<dyn Read + Send>) {
    let (near, far) = UnixStream::pair().unwrap();
    (stream(near), Box::new(far))
}

/// Lengths of the pattern's pieces, which add up to `total`.
fn pieces(longest: usize, total: usize) -> impl Iterator<Item = std::ops::Range<usize>> {
    let (mut at, mut len) = (0, 1);
    from_fn(move || {
        let piece = at..total.min(at + len);
        len = len * 7 % longest + 1;
        at = piece.end;
        (!piece.is_empty()).then_some(piece)
    })
}

/// Reads to the end in pieces of all sizes, and compares. Returns how much it was.
fn read_pattern(mut from: impl Read + Send + 'static) -> JoinHandle<usize> {
    spawn(move || {
        let (mut at, mut piece, mut buf) = (0, 1, vec![0; 50_000]);
        loop {
            let len = from.read(&mut buf[..piece]).unwrap();
            assert!(buf[..len] == pattern(at, len), "at {at}, {len} bytes");
            if len == 0 {
                return at;
            }
            at += len;
            piece = piece * 7 % 49_999 + 1;
        }
    })
}

/// Takes back what is not in flight; how many bytes it was.
fn unsent<B: IoBuf>(sender: &mut BundleSender<B>) -> usize {
    from_fn(|| sender.take_unsent()).map(|rest| rest.init_len()).sum()
}

#[test]
fn every_byte_comes_once_and_in_order_however_slow_the_reader_is() {
    const TOTAL: usize = 8 << 20;
    if lacks(BUNDLES) {
        return;
    }
    let ring = Ring::local().unwrap();
    for (near, far) in [tcp(), unix()] {
        let reader = read_pattern(far);
        let mut sender = BundleSender::new(&ring, &near, 64).unwrap();
        drop(near);
        let mut sent = 0;
        for piece in pieces(9_001, TOTAL) {
            let buf = pattern(piece.start, piece.len());
            if let Err(buf) = sender.push(buf) {
                assert!(sender.wait(SOON).unwrap());
                sent += from_fn(|| sender.take_sent()).map(|buf| buf.len()).sum::<usize>();
                sender.push(buf).unwrap();
            }
        }
        assert!(sender.wait(SOON).unwrap());
        let counters = sender.counters();
        assert_eq!((counters.bytes, counters.short), (TOTAL as u64, 0));
        assert_eq!(counters.buffers, pieces(9_001, TOTAL).count() as u64);
        assert!(counters.sends <= counters.buffers.div_ceil(64) + 1, "{counters:?}");
        assert!(sent > 0 && sent <= TOTAL);
        drop(sender);
        assert_eq!(reader.join().unwrap(), TOTAL);
    }
}

#[test]
fn buffers_of_a_pool_come_back_and_are_sent_again() {
    const TOTAL: usize = 4 << 20;
    if lacks(BUNDLES) {
        return;
    }
    let ring = Ring::local().unwrap();
    let pool = BufPool::local(1500, 40).unwrap();
    let (near, far) = tcp();
    let reader = read_pattern(far);
    let mut sender = BundleSender::<PoolBuf>::new(&ring, &near, 32).unwrap();
    drop(near);
    let mut at = 0;
    while at < TOTAL {
        while at < TOTAL
            && sender.room() > 0
            && let Some(mut buf) = sender.take_sent().or_else(|| pool.take())
        {
            let len = buf.capacity().min(TOTAL - at);
            buf.set_len(len);
            buf.copy_from_slice(&pattern(at, len));
            sender.push(buf).unwrap();
            at += len;
        }
        assert!(sender.wait(SOON).unwrap());
    }
    drop(sender);
    assert_eq!((reader.join().unwrap(), pool.available()), (TOTAL, 40));
}

/// The heart of it: sends that are cut short anywhere are continued where they were.
#[test]
fn what_a_cancel_cuts_short_is_continued_to_the_byte() {
    const TOTAL: usize = 4 << 20;
    if lacks(BUNDLES) {
        return;
    }
    let ring = Ring::local().unwrap();
    for (near, far) in [tcp(), unix()] {
        let reader = read_pattern(far);
        let mut sender = BundleSender::new(&ring, &near, 16).unwrap();
        drop(near);
        let mut pieces = pieces(20_011, TOTAL).peekable();
        let mut cancelled = 0;
        while pieces.peek().is_some() || sender.queued() > 0 {
            while sender.room() > 0
                && let Some(piece) = pieces.next()
            {
                sender.push(pattern(piece.start, piece.len())).unwrap();
            }
            // In flight, unless the reader was quick.
            if sender.try_flush().unwrap() {
                continue;
            }
            sender.cancel().unwrap();
            match sender.wait(SOON) {
                Ok(all) => assert!(all, "neither sent nor cancelled"),
                Err(error) => {
                    assert_eq!(error.raw_os_error(), Some(libc::ECANCELED), "{error}");
                    assert!(!sender.is_sending());
                    cancelled += 1;
                }
            }
        }
        let counters = sender.counters();
        assert!(cancelled > 3, "{cancelled} cancels were in time");
        assert!(counters.short >= cancelled, "{counters:?}");
        assert_eq!(counters.bytes, TOTAL as u64);
        drop(sender);
        assert_eq!(reader.join().unwrap(), TOTAL);
    }
}

#[test]
fn what_an_error_leaves_unsent_can_be_taken_back() {
    if lacks(BUNDLES) {
        return;
    }
    let ring = Ring::local().unwrap();
    let (near, far) = UnixStream::pair().unwrap();
    let mut sender = BundleSender::new(&ring, &stream(near), 32).unwrap();
    let mut total = 0;
    while sender.push(pattern(total, 30_001)).is_ok() {
        total += 30_001;
    }
    assert!(!sender.try_flush().unwrap(), "there is no room for so much");
    assert_eq!(sender.queued(), 64);
    assert_eq!(unsent(&mut sender), 32 * 30_001);
    total -= 32 * 30_001;
    drop(far);
    let broken = loop {
        match sender.wait(SOON) {
            Ok(all) => assert!(!all),
            Err(error) => break error,
        }
    };
    assert!(matches!(broken.raw_os_error(), Some(libc::EPIPE | libc::ECONNRESET)), "{broken}");
    let sent = sender.counters().bytes as usize;
    assert!(sent > 0 && !sent.is_multiple_of(30_001), "cut inside a buffer: {sent}");
    let mut at = sent;
    while let Some(rest) = sender.take_unsent() {
        assert!(rest.bytes() == pattern(at, rest.init_len()), "at {at}");
        at += rest.init_len();
    }
    assert_eq!((at, sender.queued()), (total, 0));
    assert!(sender.wait(SOON).unwrap(), "nothing is left to send");
}

#[test]
fn a_socket_that_does_not_block_is_waited_for_too() {
    const TOTAL: usize = 16 * 50_000;
    if lacks(BUNDLES) {
        return;
    }
    let ring = Ring::local().unwrap();
    let (near, far) = UnixStream::pair().unwrap();
    near.set_nonblocking(true).unwrap();
    let mut sender = BundleSender::new(&ring, &stream(near), 8).unwrap();
    for n in 0..16 {
        sender.push(pattern(50_000 * n, 50_000)).unwrap();
    }
    assert!(!sender.try_flush().unwrap());
    let reader = read_pattern(far);
    assert!(sender.wait(SOON).unwrap());
    drop(sender);
    assert_eq!(reader.join().unwrap(), TOTAL);
}

#[test]
fn empty_and_very_long_buffers_are_sent_like_others() {
    const LONG: usize = (9 << 20) + 5;
    if lacks(BUNDLES) {
        return;
    }
    let ring = Ring::local().unwrap();
    let (near, far) = tcp();
    let reader = read_pattern(far);
    let mut sender = BundleSender::new(&ring, &near, 2).unwrap();
    drop(near);
    sender.push(Vec::new()).unwrap();
    assert!(sender.wait(SOON).unwrap());
    assert_eq!((sender.take_sent(), sender.counters().sends), (Some(Vec::new()), 0));
    let mut at = 0;
    for len in [0, LONG, 0, 7] {
        sender.push(pattern(at, len)).unwrap();
        at += len;
    }
    assert_eq!(sender.push(vec![1]).unwrap_err(), [1], "four may be queued");
    assert!(sender.wait(Some(Duration::from_secs(60))).unwrap());
    // Two entries of 4 MiB, and then the rest of it with the last one; more if the kernel tires.
    assert!(sender.counters().sends >= 2);
    assert_eq!(sender.counters().buffers, 5);
    drop(sender);
    assert_eq!(reader.join().unwrap(), LONG + 7);
}

/// Queues as much as may be, far more than a socket takes.
fn fill(sender: &mut BundleSender<Tracked>, freed: &Arc<AtomicUsize>) {
    while sender.room() > 0 {
        sender.push(Tracked::new(100_000, freed)).unwrap();
    }
}

#[test]
fn dropped_in_flight_it_keeps_the_memory_until_the_kernel_is_done() {
    if lacks(BUNDLES) {
        return;
    }
    let ring = Ring::local().unwrap();
    for round in 0..20 {
        let freed = counter();
        let (near, far) = UnixStream::pair().unwrap();
        let mut sender = BundleSender::new(&ring, &stream(near), 16).unwrap();
        fill(&mut sender, &freed);
        if round % 2 == 0 {
            assert!(!sender.try_flush().unwrap());
        } else {
            // Time runs out: the send goes on.
            assert!(!sender.wait(Some(Duration::from_millis(1))).unwrap());
        }
        assert!(sender.is_sending());
        drop(sender);
        assert_eq!(count(&freed), 16, "those that waited behind it");
        until("the send's end", || {
            ring.submit().unwrap();
            ring.in_flight() == 0
        });
        assert_eq!(count(&freed), 32);
        drop(far);
    }
}

#[test]
fn a_dropped_ring_gives_back_what_was_not_sent() {
    if lacks(BUNDLES) {
        return;
    }
    let freed = counter();
    let ring = Ring::local().unwrap();
    let (near, mut far) = UnixStream::pair().unwrap();
    let mut sender = BundleSender::new(&ring, &stream(near), 8).unwrap();
    fill(&mut sender, &freed);
    assert!(!sender.try_flush().unwrap());
    drop(ring);
    assert_eq!(count(&freed), 0, "the sender has them");
    let ended = sender.wait(SOON).unwrap_err();
    assert_eq!(ended.raw_os_error(), Some(libc::ECANCELED), "{ended}");
    assert!(matches!(sender.wait(SOON), Err(Error::Closed | Error::Os { .. })));
    let sent = sender.counters().bytes as usize;
    assert_eq!(sent + unsent(&mut sender), 1_600_000);
    drop(sender);
    assert_eq!(count(&freed), 16);
    let mut came = Vec::new();
    far.read_to_end(&mut came).unwrap();
    assert_eq!(came.len(), sent);
}

#[test]
fn tasks_send_and_receive_bundles_on_one_ring() {
    const TOTAL: usize = 4 << 20;
    if lacks(BUNDLES) {
        return;
    }
    let ring = Ring::local().unwrap();
    let (near, far) = tcp_pair();
    let (near, far) = (stream(near), stream(far));
    let buffers = BufRing::new(&ring, 64, BufPool::local(4096, 128).unwrap()).unwrap();
    let mut receiver = buffers.bundle_receiver(&far);
    let mut sender = BundleSender::new(&ring, &near, 32).unwrap();
    drop(near);
    let send = async {
        for piece in pieces(9_001, TOTAL) {
            sender.ready().await.unwrap();
            sender.push(pattern(piece.start, piece.len())).unwrap();
        }
        sender.flush().await.unwrap();
        drop(sender);
    };
    let receive = async {
        let mut at = 0;
        while let Some(data) = receiver.recv().await.unwrap() {
            assert!(data[..] == pattern(at, data.len()), "at {at}");
            at += data.len();
        }
        at
    };
    let ((), received) = ring.block_on(futures_util::future::join(send, receive)).unwrap();
    assert_eq!(received, TOTAL);
}

#[test]
fn a_dropped_flush_loses_nothing() {
    if lacks(BUNDLES) {
        return;
    }
    let ring = Ring::local().unwrap();
    let (near, far) = unix();
    let mut sender = BundleSender::new(&ring, &near, 16).unwrap();
    drop(near);
    let mut at = 0;
    while sender.push(pattern(at, 50_000)).is_ok() {
        at += 50_000;
    }
    let pause = std::pin::pin!(ring.sleep(Duration::from_millis(1)));
    let flush = Box::pin(sender.flush());
    ring.block_on(futures_util::future::select(flush, pause)).map(drop).unwrap();
    assert!(sender.is_sending());
    let reader = read_pattern(far);
    assert!(sender.wait(SOON).unwrap());
    drop(sender);
    assert_eq!(reader.join().unwrap(), at);
}

#[test]
fn a_shared_rings_sender_goes_from_thread_to_thread() {
    const TOTAL: usize = 2 << 20;
    if lacks(BUNDLES) {
        return;
    }
    let ring = Ring::<Shared>::shared().unwrap();
    let (near, far) = tcp();
    let reader = read_pattern(far);
    let mut sender = BundleSender::new(&ring, &near, 16).unwrap();
    drop(near);
    let mut pieces = pieces(9_001, TOTAL).peekable();
    while pieces.peek().is_some() {
        while sender.room() > 0
            && let Some(piece) = pieces.next()
        {
            sender.push(pattern(piece.start, piece.len())).unwrap();
        }
        // The thread exits with the send in flight, which the kernel may take for its end.
        sender = spawn(move || {
            let _ = sender.try_flush().unwrap();
            sender
        })
        .join()
        .unwrap();
        assert!(sender.wait(SOON).unwrap());
    }
    drop(sender);
    assert_eq!(reader.join().unwrap(), TOTAL);
}

#[test]
fn only_what_the_kernel_takes_at_once_is_a_bundle() {
    let ring = Ring::local().unwrap();
    let (near, mut far) = UnixStream::pair().unwrap();
    let near = stream(near);
    for buffers in [0, 3, 512] {
        let refused = BundleSender::<Vec<u8>>::new(&ring, &near, buffers).unwrap_err().to_string();
        assert!(refused.contains(&format!("buffers in a bundle cannot be {buffers}")), "{refused}");
    }
    if lacks(BUNDLES) {
        return;
    }
    // All that one may have, with one submission.
    let mut sender = BundleSender::new(&ring, &near, BundleSender::<Vec<u8>>::MAX_BUFFERS).unwrap();
    for n in 0..256 {
        sender.push(pattern(n, 1)).unwrap();
    }
    assert!(sender.wait(SOON).unwrap());
    assert_eq!((sender.counters().sends, sender.counters().buffers), (1, 256));
    let mut came = [0; 256];
    far.read_exact(&mut came).unwrap();
    assert!(came[..] == pattern(0, 256));
    far.write_all(b"the other way is free").unwrap();
}

#[test]
fn a_send_needs_a_place_and_says_so() {
    if lacks(BUNDLES) {
        return;
    }
    let ring = Ring::builder().operations(1).build_local().unwrap();
    let (near, far) = unix();
    let place = ring.push(io_uring_ext::op::Nop::new()).unwrap();
    let mut sender = BundleSender::new(&ring, &near, 4).unwrap();
    drop(near);
    sender.push(pattern(0, 100)).unwrap();
    let refused = sender.try_flush().unwrap_err();
    assert!(refused.to_string().contains("operations cannot be 1"), "{refused}");
    place.wait(SOON).unwrap().unwrap();
    assert!(sender.wait(SOON).unwrap(), "it was kept");
    drop(sender);
    assert_eq!(read_pattern(far).join().unwrap(), 100);
}
