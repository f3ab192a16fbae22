//! Streams through buffer rings: bundles, and multishot reads.
#![allow(clippy::unwrap_used, reason = "a test says what it expects by unwrapping")]

mod common;

use std::io::Write;
use std::net::UdpSocket;
use std::os::unix::net::UnixStream;

use common::stream::{pattern, tcp_pair};
use common::{SOON, until};
use io_uring_ext::buf::BufPool;
use io_uring_ext::buf_ring::{BufRing, EndReason, Receiver};
use io_uring_ext::{Fd, Ring, StreamFd};

fn buffers(ring: &Ring, size: usize, entries: u16) -> (BufRing<BufPool>, BufPool) {
    let pool = BufPool::local(size, 2 * usize::from(entries)).unwrap();
    (BufRing::new(ring, entries, pool.clone()).unwrap(), pool)
}

/// Writes `total` bytes of the pattern in pieces of all sizes, from a thread of its own.
fn write_pattern(mut to: impl Write + Send + 'static, total: usize) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let (mut at, mut piece) = (0, 1);
        while at < total {
            let len = piece.min(total - at);
            to.write_all(&pattern(at, len)).unwrap();
            at += len;
            piece = piece * 7 % 70_001 + 1;
        }
    })
}

/// Receives to the end and compares.
fn receive_pattern(receiver: &mut Receiver<BufPool>, total: usize) {
    let mut at = 0;
    while let Some(data) = receiver.wait(SOON).unwrap() {
        assert!(!data.is_empty());
        assert!(data[..] == pattern(at, data.len()), "at {at}, {} bytes", data.len());
        at += data.len();
    }
    assert_eq!((at, receiver.end_reason()), (total, Some(EndReason::EndOfStream)));
}

#[test]
fn bundles_bring_every_byte_in_order() {
    const TOTAL: usize = 16 << 20;
    let ring = Ring::local().unwrap();
    for (size, entries) in [(512, 64), (4096, 16), (100, 256), (65536, 4)] {
        let (buffers, pool) = buffers(&ring, size, entries);
        let (near, far) = tcp_pair();
        let writer = write_pattern(far, TOTAL);
        let stream = StreamFd::new(&Fd::new(near)).unwrap();
        let mut receiver = buffers.bundle_receiver(&stream);
        receive_pattern(&mut receiver, TOTAL);
        writer.join().unwrap();
        let counters = receiver.counters();
        if size < 4096 {
            assert!(counters.bundled > counters.received, "{size}: {counters:?}");
        }
        drop(receiver);
        assert_eq!(buffers.refill() + pool.available(), 2 * usize::from(entries), "none is lost");
    }
}

#[test]
fn a_receiver_without_bundles_does_the_same_with_more_completions() {
    const TOTAL: usize = 1 << 20;
    let ring = Ring::local().unwrap();
    let completions = |bundles: bool| {
        let (buffers, _pool) = buffers(&ring, 256, 256);
        let (near, mut far) = tcp_pair();
        let stream = StreamFd::new(&Fd::new(near)).unwrap();
        let mut receiver =
            if bundles { buffers.bundle_receiver(&stream) } else { buffers.receiver(&stream) };
        let writer = std::thread::spawn(move || far.write_all(&pattern(0, TOTAL)).unwrap());
        receive_pattern(&mut receiver, TOTAL);
        writer.join().unwrap();
        receiver.counters().received
    };
    let (with, without) = (completions(true), completions(false));
    assert!(with * 4 < without, "{with} completions with bundles, {without} without");
}

#[test]
fn receivers_share_a_ring_of_buffers_and_do_not_mix_their_bundles() {
    const TOTAL: usize = 2 << 20;
    let ring = Ring::local().unwrap();
    let (buffers, _pool) = buffers(&ring, 300, 128);
    let mut writers = Vec::new();
    let mut receivers: Vec<_> = (0..4)
        .map(|n| {
            let (near, far) = tcp_pair();
            writers.push(write_pattern(far, TOTAL + n));
            let fd = Fd::new(near);
            let stream = StreamFd::new(&fd).unwrap();
            // One of them takes single buffers from between the bundles.
            let receiver =
                if n == 0 { buffers.receiver(&fd) } else { buffers.bundle_receiver(&stream) };
            (receiver, 0)
        })
        .collect();
    until("every stream's end", || {
        for (receiver, at) in &mut receivers {
            while let Some(data) = receiver.try_recv().unwrap() {
                assert!(data[..] == pattern(*at, data.len()), "at {at}");
                *at += data.len();
            }
        }
        receivers.iter().all(|(it, _)| it.end_reason() == Some(EndReason::EndOfStream))
    });
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    let received: Vec<_> = receivers.iter().map(|(_, at)| *at).collect();
    assert_eq!(received, [TOTAL, TOTAL + 1, TOTAL + 2, TOTAL + 3]);
}

#[test]
fn bundles_that_nobody_takes_give_all_their_buffers_back() {
    let ring = Ring::local().unwrap();
    let (buffers, pool) = buffers(&ring, 100, 64);
    for round in 0..20 {
        let (near, mut far) = tcp_pair();
        let mut receiver = buffers.bundle_receiver(&StreamFd::new(&Fd::new(near)).unwrap());
        assert!(receiver.try_recv().unwrap().is_none());
        far.write_all(&pattern(0, 2000)).unwrap();
        match round % 3 {
            // Nothing fetched; a bundle half handed out; dropped before anything came.
            0 => ring.submit().unwrap(),
            1 => assert!(receiver.wait(SOON).unwrap().is_some()),
            _ => {}
        }
        drop(receiver);
        until("the end", || {
            ring.submit().unwrap();
            ring.in_flight() == 0
        });
        assert_eq!((buffers.refill(), pool.available()), (64, 64), "round {round}");
    }
    // They are in order again: what comes now is whole.
    let (near, far) = tcp_pair();
    let writer = write_pattern(far, 1 << 20);
    let mut receiver = buffers.bundle_receiver(&StreamFd::new(&Fd::new(near)).unwrap());
    receive_pattern(&mut receiver, 1 << 20);
    writer.join().unwrap();
}

#[test]
fn a_full_completion_queue_does_not_tear_bundles() {
    const TOTAL: usize = 4 << 20;
    let ring = Ring::builder().entries(2).completions(2).operations(8).build_local().unwrap();
    let (buffers, _pool) = buffers(&ring, 128, 256);
    let mut streams: Vec<_> = (0..3)
        .map(|_| {
            let (near, far) = tcp_pair();
            let writer = write_pattern(far, TOTAL);
            let receiver = buffers.bundle_receiver(&StreamFd::new(&Fd::new(near)).unwrap());
            (receiver, 0, writer)
        })
        .collect();
    until("every stream's end", || {
        for (receiver, at, _) in &mut streams {
            while let Some(data) = receiver.try_recv().unwrap() {
                assert!(data[..] == pattern(*at, data.len()), "at {at}");
                *at += data.len();
            }
        }
        streams.iter().all(|(it, ..)| it.end_reason() == Some(EndReason::EndOfStream))
    });
    let overflows: u64 = streams.iter().map(|(it, ..)| it.counters().overflows).sum();
    assert!(overflows > 0);
    for (_, at, writer) in streams {
        assert_eq!(at, TOTAL);
        writer.join().unwrap();
    }
}

#[test]
fn only_streams_are_streams() {
    StreamFd::new(&Fd::new(UnixStream::pair().unwrap().0)).unwrap();
    let udp = Fd::new(UdpSocket::bind("127.0.0.1:0").unwrap());
    let refused = StreamFd::new(&udp).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::InvalidInput);
    assert!(refused.to_string().contains("is no stream socket"), "{refused}");
    assert!(StreamFd::new(&Fd::new(common::pipe().0)).is_err());
}

#[test]
fn a_pipe_is_read_with_one_submission() {
    const TOTAL: usize = 4 << 20;
    let ring = Ring::local().unwrap();
    let (buffers, pool) = buffers(&ring, 4096, 8);
    let (reader, mut writer) = std::io::pipe().unwrap();
    let mut receiver = buffers.reader(&Fd::new(reader));
    for n in 0..100_u8 {
        writer.write_all(&[n]).unwrap();
        assert_eq!(receiver.wait(SOON).unwrap().unwrap()[..], [n]);
    }
    assert_eq!((receiver.counters().received, receiver.counters().armed), (100, 1));
    let writer = write_pattern(writer, TOTAL);
    receive_pattern(&mut receiver, TOTAL);
    writer.join().unwrap();
    assert_eq!(buffers.refill() + pool.available(), 16);
}

#[test]
fn a_reader_can_be_cancelled_and_armed_again() {
    let ring = Ring::local().unwrap();
    let (buffers, _pool) = buffers(&ring, 64, 4);
    let (reader, mut writer) = std::io::pipe().unwrap();
    let mut receiver = buffers.reader(&Fd::new(reader));
    writer.write_all(b"one").unwrap();
    assert_eq!(receiver.wait(SOON).unwrap().unwrap()[..], *b"one");
    receiver.cancel().unwrap();
    assert!(receiver.wait(SOON).unwrap().is_none());
    assert_eq!(receiver.end_reason(), Some(EndReason::Cancelled));
    writer.write_all(b"two").unwrap();
    receiver.rearm();
    assert_eq!(receiver.wait(SOON).unwrap().unwrap()[..], *b"two");
}

#[test]
fn a_regular_file_is_not_read_again_and_again() {
    let ring = Ring::local().unwrap();
    let (buffers, _pool) = buffers(&ring, 64, 4);
    let file = std::fs::File::open(std::env::current_exe().unwrap()).unwrap();
    let mut receiver = buffers.reader(&Fd::new(file));
    let refused = receiver.wait(SOON).unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(libc::EBADFD));
    assert_eq!(buffers.available(), 4, "no buffer was used");
}
