//! The two ends on two threads: nothing is torn, nobody sleeps through a ring.

use std::os::fd::AsFd;
use std::thread;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::*;

/// When somebody has been asleep for too long.
const STALLED: Duration = Duration::from_secs(20);

fn wait(port: &mut MemoryPort, interest: Interest) {
    let ready = port.wait(interest, Some(STALLED)).unwrap();
    assert!(!ready.is_empty(), "it slept through a ring: {:?}", port.stats());
}

/// Sends frames `0..n`, asleep whenever there is no room.
fn send_all(port: &mut MemoryPort, n: u64) {
    let (mut burst, mut made) = (Burst::with_capacity(4), 0);
    while made < n || !burst.is_empty() {
        if burst.is_empty() {
            made += numbered(port, &mut burst, made, 4.min((n - made) as usize));
        }
        if burst.is_empty() || port.send(&mut burst).unwrap() == 0 {
            wait(port, Interest::TX);
        }
    }
}

/// Runs `there` on a thread with the other end, and `here` with this one.
fn on_two_threads(
    options: &LinkOptions,
    there: impl FnOnce(MemoryPort) + Send + 'static,
    here: impl FnOnce(MemoryPort),
) {
    let (a, b) = link(options).unwrap();
    let thread = thread::spawn(move || there(a.open().unwrap()));
    here(b.open().unwrap());
    thread.join().unwrap();
}

#[test]
fn twenty_thousand_turns_of_ping_pong_wake_both_ends() {
    const TURNS: u64 = 20_000;
    let turn = |port: &mut MemoryPort, burst: &mut Burst<MemoryFrame>| {
        while port.recv(burst).unwrap() == 0 {
            wait(port, Interest::RX);
        }
        number(&burst[0])
    };
    let there = move |mut port: MemoryPort| {
        let mut burst = Burst::with_capacity(1);
        for n in 0..TURNS {
            assert_eq!(turn(&mut port, &mut burst), n);
            assert_eq!(port.send(&mut burst).unwrap(), 1);
        }
        // The last one is still on the cable, which ends with this port.
        while port.stats().frames.is_some_and(|census| census.tx_in_flight > 0) {
            thread::yield_now();
        }
    };
    on_two_threads(&small(), there, |mut port| {
        let mut burst = Burst::with_capacity(1);
        for n in 0..TURNS {
            numbered(&mut port, &mut burst, n, 1);
            assert_eq!(port.send(&mut burst).unwrap(), 1);
            assert_eq!(turn(&mut port, &mut burst), n);
            burst.clear();
        }
        assert_eq!((port.stats().rx_packets, port.stats().drops.total()), (TURNS, 0));
    });
}

#[test]
fn a_sender_that_waits_for_room_is_woken() {
    const FRAMES: u64 = 20_000;
    let options = LinkOptions { ring: 2, ..small() };
    on_two_threads(
        &options,
        |mut port| send_all(&mut port, FRAMES),
        |mut port| {
            let (mut burst, mut next) = (Burst::with_capacity(1), 0);
            while next < FRAMES {
                if port.recv(&mut burst).unwrap() == 0 {
                    wait(&mut port, Interest::RX);
                }
                while let Some(frame) = burst.pop_front() {
                    assert_eq!(number(&frame), next);
                    next += 1;
                }
            }
        },
    );
}

/// The event loop of the book: poll the descriptor, receive once, less than there may be.
#[test]
fn the_descriptor_stays_readable_while_there_are_frames() {
    const FRAMES: u64 = 20_000;
    on_two_threads(
        &small(),
        |mut port| send_all(&mut port, FRAMES),
        |mut port| {
            let (mut burst, mut next) = (Burst::with_capacity(2), 0);
            let limit = Timespec::try_from(STALLED).unwrap();
            let fd = port.as_fd().unwrap().try_clone_to_owned().unwrap();
            while next < FRAMES {
                let found = poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&limit)).unwrap();
                assert_eq!(found, 1, "frame {next} did not make it readable");
                port.recv(&mut burst).unwrap();
                while let Some(frame) = burst.pop_front() {
                    assert_eq!(number(&frame), next);
                    next += 1;
                }
            }
        },
    );
}

fn readable(fd: &impl AsFd) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut [PollFd::new(fd, PollFlags::IN)], Some(&now)).unwrap() == 1
}

#[test]
fn waiting_takes_no_ring_from_the_descriptor() {
    let (mut a, mut b) = open(&small());
    let mut burst = Burst::with_capacity(8);
    let fd = b.as_fd().unwrap().try_clone_to_owned().unwrap();
    let readable = || readable(&fd);
    // Whoever begins to watch looks once; then there is silence.
    assert!(readable() && b.recv(&mut burst).unwrap() == 0 && !readable());
    assert!(b.wait(Interest::RX, Some(Duration::ZERO)).unwrap().is_empty());
    numbered(&mut a, &mut burst, 0, 3);
    a.send(&mut burst).unwrap();
    // The ring woke the sleeper too; it must not be the only one to hear it.
    b.wait(Interest::RX, None).unwrap();
    let mut one = Burst::with_capacity(1);
    for n in 0..3 {
        assert!(readable(), "{n} of 3 were received");
        assert_eq!(b.recv(&mut one).unwrap(), 1);
        one.clear();
    }
    assert!(b.recv(&mut one).unwrap() == 0 && !readable());
}

#[test]
fn whoever_sleeps_hears_the_other_end_close() {
    for interest in [Interest::RX, Interest::TX] {
        let there = |port: MemoryPort| drop(port);
        on_two_threads(&small(), there, |mut port| {
            // Nothing to receive, and nothing free to send: it sleeps until the thread ends.
            let held: Vec<_> = std::iter::from_fn(|| port.pool().alloc_rx()).collect();
            wait(&mut port, interest);
            let mut burst = Burst::with_capacity(1);
            assert!(port.recv(&mut burst).is_err() && port.send(&mut burst).is_err());
            assert!(readable(&port.as_fd().unwrap()));
            drop(held);
        });
    }
}

#[test]
fn frames_of_several_segments_arrive_whole() {
    const FRAMES: u64 = 20_000;
    let options = LinkOptions { ring: 5, max_segments: 3, max_len: 600, ..small() };
    let there = |mut port: MemoryPort| {
        let mut burst = Burst::with_capacity(1);
        for n in 0..FRAMES {
            let mut frame = None;
            for part in 0..1 + n % 3 {
                let mut segment = loop {
                    match port.pool().alloc_rx() {
                        Some(segment) => break segment,
                        None => thread::yield_now(),
                    }
                };
                segment.fill(&bytes(n * 10 + part)).unwrap();
                frame = Some(join(frame, segment));
            }
            burst.push(frame.unwrap()).unwrap();
            while port.send(&mut burst).unwrap() == 0 {
                wait(&mut port, Interest::TX);
            }
        }
    };
    on_two_threads(&options, there, |mut port| {
        let (mut burst, mut next) = (Burst::with_capacity(2), 0);
        while next < FRAMES {
            if port.recv(&mut burst).unwrap() == 0 {
                wait(&mut port, Interest::RX);
            }
            while let Some(frame) = burst.pop_front() {
                let want = (0..1 + next % 3).map(|part| bytes(next * 10 + part));
                assert!(
                    frame.segments().eq(want),
                    "frame {next}: {} segments",
                    frame.segments().count()
                );
                next += 1;
            }
        }
        assert_eq!((port.stats().rx_packets, port.stats().drops.total()), (FRAMES, 0));
    });
}

#[test]
fn a_closing_end_rings_both_bells() {
    let (a, b) = bells().unwrap();
    let watched = b.watch(|| false).try_clone_to_owned().unwrap();
    let readable = || readable(&watched);
    assert_eq!((readable(), b.settle(|| true), readable()), (true, 1, false));
    drop(a);
    assert!(b.sleep(Some(STALLED)).unwrap() && readable());
}

/// What comes between the look that found nothing and the silence must be heard again.
#[test]
fn silence_does_not_swallow_a_packet() {
    let (a, b) = bells().unwrap();
    let watched = b.watch(|| false).try_clone_to_owned().unwrap();
    let readable = || readable(&watched);
    assert_eq!((b.settle(|| true), readable()), (1, false));
    assert_eq!((a.ring(), readable()), (1, true));
    assert_eq!((b.settle(|| false), readable()), (2, true), "a packet is there");
    assert_eq!((b.settle(|| true), readable()), (1, false));
}

/// The receiver looks while the sender is between two segments of a frame.
#[test]
fn a_frame_is_not_torn_where_the_sender_pauses() {
    let (mut a, b) = link(&LinkOptions { max_segments: 3, ..small() }).unwrap();
    let (mut b, pool) =
        (b.open().unwrap(), crate::pool::Pool::<Memory>::new(&small().pool).unwrap());
    let mut burst = Burst::with_capacity(4);
    for (number, more) in [(0, true), (1, true), (2, false), (3, false)] {
        let mut segment = pool.alloc_rx().unwrap();
        segment.fill(&bytes(number)).unwrap();
        a.tx.push(Wire { segment: segment.detach().unwrap(), more }).unwrap();
        assert_eq!(b.recv(&mut burst).unwrap(), usize::from(!more));
    }
    let got: Vec<usize> = burst.iter().map(|frame| frame.segments().count()).collect();
    assert_eq!((got, b.stats().rx_packets), (vec![3, 1], 2));
    assert!(burst[0].segments().eq((0..3).map(bytes)));
}

/// Frames that were written on one thread are read, and freed, on the other, while both ends are
/// torn down at any moment.
#[test]
fn ends_may_close_at_any_moment() {
    for round in 0..200 {
        on_two_threads(
            &small(),
            move |mut port| {
                let mut burst = Burst::with_capacity(4);
                for first in 0..round % 20 {
                    numbered(&mut port, &mut burst, first * 4, 4);
                    if !burst.is_empty() && port.send(&mut burst).is_err() {
                        break;
                    }
                }
                assert!(port.stats().frames.unwrap().adds_up());
            },
            |mut port| {
                let mut burst = Burst::with_capacity(3);
                for _ in 0..round % 7 {
                    if port.recv(&mut burst).is_err() {
                        break;
                    }
                    burst.drain(2).for_each(|frame| assert!(number(&frame) < 80));
                }
                assert!(port.stats().frames.unwrap().adds_up());
            },
        );
    }
}
