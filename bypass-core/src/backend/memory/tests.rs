//! The memory link, case by case. That it behaves as every backend does, the conformance suite
//! checks.

mod faults;
mod segments;
mod threads;

use std::time::Duration;

use super::*;
use crate::pool::PoolOptions;
use crate::{
    Buffer, Burst, DropCause, Endpoint, Error, FrameError, Interest, PacketIo, Ready, Result, Stats,
};

fn open(options: &LinkOptions) -> (MemoryPort, MemoryPort) {
    let (a, b) = link(options).unwrap();
    (a.open().unwrap(), b.open().unwrap())
}

/// A link with the pool of 16 chunks of 256 bytes, 4 of them in reserve.
fn small() -> LinkOptions {
    let pool = PoolOptions { chunk_size: 256, headroom: 32, ..PoolOptions::new(16) };
    LinkOptions { ring: 8, pool, max_len: 224, ..LinkOptions::default() }
}

/// Allocates `n` frames that hold their number, from `first`, and what follows from it.
fn numbered(port: &mut MemoryPort, burst: &mut Burst<MemoryFrame>, first: u64, n: usize) -> u64 {
    let old = burst.len();
    port.alloc(burst, n);
    for (frame, number) in burst[old..].iter_mut().zip(first..) {
        frame.fill(&bytes(number)).unwrap();
    }
    (burst.len() - old) as u64
}

fn bytes(number: u64) -> [u8; 64] {
    let mut bytes = [number as u8; 64];
    bytes[..8].copy_from_slice(&number.to_be_bytes());
    bytes
}

/// The number of an undamaged frame.
fn number(frame: &MemoryFrame) -> u64 {
    let number = u64::from_be_bytes(frame.data()[..8].try_into().unwrap());
    assert_eq!(frame.data(), bytes(number));
    number
}

fn numbers(burst: &Burst<MemoryFrame>) -> Vec<u64> {
    burst.iter().map(number).collect()
}

fn counter(port: &MemoryPort, name: &str) -> u64 {
    let mut found = None;
    port.visit_counters(&mut |n, value| found = if n == name { Some(value) } else { found });
    found.unwrap()
}

/// What an end counts adds up, whatever has happened so far.
fn check(stats: &Stats, taken: u64) {
    assert_eq!(taken, stats.tx_packets + stats.tx_in_flight + stats.drops[DropCause::Injected]);
    assert!(stats.frames.unwrap().adds_up(), "{stats:?}");
}

#[test]
fn options_that_do_not_fit_together_are_named() {
    let faulty = Faults { loss: 0.1, ..Faults::default() };
    let odds = |faults| LinkOptions { faults, ..small() };
    let all = [
        ("ring", LinkOptions { ring: 0, ..small() }),
        ("ring", LinkOptions { ring: 3, max_segments: 4, ..small() }),
        ("ring", LinkOptions { ring: 2, faults: faulty, ..small() }),
        ("ring", LinkOptions { ring: 8, max_segments: 3, faults: faulty, ..small() }),
        ("max_segments", LinkOptions { max_segments: 0, ..small() }),
        ("max_segments", LinkOptions { ring: 100, max_segments: 17, ..small() }),
        ("max_segments", LinkOptions { max_segments: usize::MAX, ..small() }),
        ("max_len", LinkOptions { max_len: 0, ..small() }),
        ("max_len", LinkOptions { max_len: 225, ..small() }),
        ("max_len", LinkOptions { max_len: 449, max_segments: 2, ..small() }),
        ("chunks", LinkOptions { pool: PoolOptions::new(0), ..small() }),
        ("loss", odds(Faults { loss: -0.1, ..Faults::default() })),
        ("duplication", odds(Faults { duplication: 1.1, ..Faults::default() })),
        ("reordering", odds(Faults { reordering: f64::NAN, ..Faults::default() })),
        ("corruption", odds(Faults { corruption: f64::INFINITY, ..Faults::default() })),
        // Together they are nothing; one by one they are not.
        ("refusal", odds(Faults { loss: 0.5, refusal: -0.5, ..Faults::default() })),
    ];
    for (setting, options) in all {
        let error = link(&options).map(|_| ()).expect_err(setting);
        assert!(matches!(&error, Error::Config { setting: s, .. } if s == setting), "{error}");
    }
}

#[test]
fn an_empty_pool_leaves_frames_on_the_cable() {
    let (mut a, mut b) = open(&small());
    let (mut out, mut held) = (Burst::with_capacity(8), Burst::with_capacity(32));
    let mut next = 0;
    // Two rounds fill the pool of `b`, the third the cable.
    for (n, left) in [(8, 0), (8, 0), (8, 8)] {
        next += numbered(&mut a, &mut out, next, n);
        assert_eq!(a.send(&mut out).unwrap(), n);
        b.recv(&mut held).unwrap();
        assert_eq!(a.stats().frames.unwrap().tx_in_flight, left);
    }
    assert_eq!((numbers(&held), counter(&b, "rx_waits_for_memory")), ((0..16).collect(), 1));
    assert_eq!((b.stats().drops.total(), b.stats().frames.unwrap().held), (0, 16));
    next += numbered(&mut a, &mut out, next, 1);
    assert_eq!(a.send(&mut out).unwrap(), 0, "a full cable pushes back");
    held.truncate(11);
    assert_eq!((b.recv(&mut held).unwrap(), held.len()), (5, 16));
    held.clear();
    assert_eq!((b.recv(&mut held).unwrap(), a.send(&mut out).unwrap()), (3, 1));
    assert_eq!(b.recv(&mut held).unwrap(), 1);
    assert_eq!(numbers(&held), [21, 22, 23, 24]);
    check(&a.stats(), next);
}

#[test]
fn what_can_never_be_sent_is_named_and_kept() {
    let (mut a, mut b) = open(&LinkOptions { max_len: 100, ..small() });
    let mut burst = Burst::with_capacity(4);
    let cause = |burst: &mut Burst<MemoryFrame>, a: &mut MemoryPort| match a.send(burst) {
        Err(Error::Frame { backend: "memory", cause, .. }) => cause,
        other => panic!("{other:?}"),
    };
    numbered(&mut a, &mut burst, 0, 3);
    burst[1].set_len(0).unwrap();
    assert_eq!(a.send(&mut burst).unwrap(), 1, "those before it are sent");
    assert_eq!(cause(&mut burst, &mut a), FrameError::TooShort { len: 0, min: 1 });
    burst[0].set_len(101).unwrap();
    assert_eq!(cause(&mut burst, &mut a), FrameError::TooLong { len: 101, max: 100 });
    burst[0].fill(&bytes(1)).unwrap();
    assert_eq!((a.send(&mut burst).unwrap(), b.recv(&mut burst).unwrap()), (2, 3));
    assert_eq!(numbers(&burst), [0, 1, 2]);
}

#[test]
fn a_closed_link_says_so_when_it_is_empty() {
    let (mut a, mut b) = open(&small());
    let mut burst = Burst::with_capacity(8);
    numbered(&mut a, &mut burst, 0, 3);
    a.send(&mut burst).unwrap();
    drop(a);
    let closed = |answer: Result<usize>| {
        let error = answer.expect_err("the other end is closed");
        assert_eq!(error.raw_os_error(), Some(libc::ENETDOWN));
        assert!(error.to_string().contains("the other end is closed"), "{error}");
    };
    // What was sent before comes first, and the data outlives the sender's pool.
    assert_eq!(b.wait(Interest::RX, None).unwrap(), Ready::RX);
    assert_eq!(b.recv(&mut burst).unwrap(), 3);
    assert_eq!(numbers(&burst), [0, 1, 2]);
    // An answer, rather than a sleep that nothing ends.
    let both = Interest::RX | Interest::TX;
    assert_eq!(b.wait(both, None).unwrap(), Ready::RX | Ready::TX);
    closed(b.recv(&mut burst));
    closed(b.send(&mut burst));
    assert_eq!(burst.len(), 3, "no frame is lost");
    b.flush().unwrap();
    check(&b.stats(), 0);
}

#[test]
fn chunks_come_home_from_a_port_that_is_closed() {
    let (mut a, b) = open(&small());
    let mut burst = Burst::with_capacity(8);
    let n = numbered(&mut a, &mut burst, 0, 5);
    a.send(&mut burst).unwrap();
    assert_eq!(a.stats().frames.unwrap().tx_in_flight, 5);
    drop(b);
    let census = a.stats().frames.unwrap();
    assert_eq!((census.free, census.tx_in_flight), (16, 0));
    check(&a.stats(), n);
}

#[test]
fn an_end_that_is_never_opened_closes_the_link_too() {
    let (a, b) = link(&small()).unwrap();
    let mut a = a.open().unwrap();
    let mut burst = Burst::with_capacity(1);
    numbered(&mut a, &mut burst, 0, 1);
    drop(b);
    assert!(a.send(&mut burst).is_err() && a.recv(&mut Burst::with_capacity(1)).is_err());
}

#[test]
fn waiting_for_a_long_time_is_waiting() {
    let (mut a, mut b) = open(&small());
    // Longer than the clock and the kernel can count: no limit, and no overflow.
    assert_eq!(a.wait(Interest::TX, Some(Duration::MAX)).unwrap(), Ready::TX);
    let mut burst = Burst::with_capacity(1);
    numbered(&mut a, &mut burst, 0, 1);
    a.send(&mut burst).unwrap();
    assert_eq!(b.wait(Interest::RX, Some(Duration::MAX)).unwrap(), Ready::RX);
}

#[test]
fn system_calls_are_made_and_counted_only_for_waiting() {
    let (mut a, mut b) = open(&small());
    let mut burst = Burst::with_capacity(8);
    for _ in 0..10 {
        numbered(&mut a, &mut burst, 0, 8);
        a.send(&mut burst).unwrap();
        a.flush().unwrap();
        b.wait(Interest::RX, None).unwrap();
        b.recv(&mut burst).unwrap();
        burst.clear();
    }
    assert_eq!((a.stats().syscalls, b.stats().syscalls), (Some(0), Some(0)));
    b.wait(Interest::RX, Some(Duration::ZERO)).unwrap();
    assert_eq!(b.stats().syscalls, Some(1), "it went to sleep");
    numbered(&mut a, &mut burst, 0, 1);
    a.send(&mut burst).unwrap();
    assert_eq!(a.stats().syscalls, Some(1), "it rang once");
}
