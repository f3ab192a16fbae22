//! Frames that are shown and filled where they lie.

#![allow(clippy::unwrap_used, reason = "helpers are part of the tests")]

mod common;

use std::time::Instant;

use bypass_core::testing::rig::VethOptions;
use bypass_core::{Buffer, Burst, Endpoint, Error, Frame, FrameError, PacketIo, Verdict};
use bypass_xdp::XdpPort;
use common::*;

/// Shows what comes to `f`, with the number of the frame, until `n` frames of ours have been shown and
/// none waits.
fn visit(port: &mut XdpPort, n: usize, mut f: impl FnMut(usize, &mut [u8]) -> Verdict) {
    let (mut seen, mut waiting) = (0, Burst::with_capacity(64));
    let deadline = Instant::now() + PATIENCE.unwrap();
    while seen < n || !waiting.is_empty() {
        port.visit(&mut waiting, |data, _| {
            if data[12..14] != numbered(0, 60)[12..14] {
                return Verdict::Drop;
            }
            seen += 1;
            f(seen - 1, data)
        })
        .unwrap();
        assert!(Instant::now() < deadline, "{seen} of {n} frames came, {} wait", waiting.len());
    }
}

/// What a visitor drops is posted again at once, in the chunks that the kernel wrote to.
#[test]
fn frames_are_shown_in_the_memory_that_the_kernel_wrote_to() {
    in_both_modes(&VethOptions::default(), |rig, hook| {
        for unaligned in [false, true] {
            let (mut a, mut b) = rig.pair(hook, |options| {
                options.umem.unaligned = unaligned;
                options.umem.pool.chunks = 256;
                options.umem.pool.rx_reserve = 64;
                (options.rings.rx, options.rings.fill) = (64, 64);
            });
            let memory = b.umem().arena().base() as usize;
            let memory = memory..memory + b.umem().arena().len();
            let before = b.umem().census();
            assert_eq!((before.rx_posted, before.free), (64, 192));
            for round in 0..20 {
                let frames: Vec<_> = (0..32).map(|n| numbered(n, 60 + round)).collect();
                send(&mut a, &frames);
                visit(&mut b, 32, |n, data| {
                    assert_eq!(data, frames[n]);
                    assert!(memory.contains(&(data.as_ptr() as usize)));
                    // It is the visitor's, to the last byte.
                    data.fill(0xff);
                    Verdict::Drop
                });
                assert_eq!(b.umem().census(), before, "round {round}");
            }
            let stats = b.stats();
            assert!(stats.rx_packets >= 640 && stats.drops.total() == 0, "{stats:?}");
            assert_eq!(counter(&b, "rx_strays"), 0);
        }
    });
}

/// More go back than the TX ring has places for: in order, none twice.
#[test]
fn what_a_visitor_sends_back_arrives_in_order_through_a_small_ring() {
    in_both_modes(&VethOptions::default(), |rig, hook| {
        let (mut a, mut b) = rig.pair(hook, |options| {
            (options.rings.tx, options.rings.completion) = (16, 16);
        });
        for round in 0..10 {
            let frames: Vec<_> = (0..60).map(|n| numbered(n + round, 60 + n as usize)).collect();
            send(&mut a, &frames);
            visit(&mut b, 60, |n, data| {
                assert_eq!(data, frames[n]);
                data[59] = round as u8;
                if n % 5 == 4 { Verdict::Drop } else { Verdict::Send }
            });
            settle(&mut b);
            let back = receive(&mut a, 48, is_ours);
            let sent = frames.iter().enumerate().filter(|(n, _)| n % 5 != 4);
            for (frame, (_, sent)) in back.iter().zip(sent) {
                let mut changed = sent.clone();
                changed[59] = round as u8;
                assert_eq!(bytes(frame), changed);
            }
        }
        let (stats, kept) = (b.stats(), b.umem().census());
        assert_eq!((stats.tx_packets, stats.drops.total(), kept.held), (480, 0, 0));
        assert!(kept.adds_up());
    });
}

/// What waits tells the queue that it came by, as what was received does.
#[test]
fn frames_that_wait_know_their_queue() {
    in_both_modes(&VethOptions { queues: 3, ..VethOptions::default() }, |rig, hook| {
        let from = (0..3).find(|&queue| arrives_at(hook, queue) == 1).unwrap();
        let mut a = open(&rig.veth.a, hook, |options| options.queue = from);
        let mut b = open(&rig.veth.b, hook, |options| {
            options.queue = 1;
            (options.rings.tx, options.rings.completion) = (16, 16);
        });
        send(&mut a, &(0..60).map(|n| numbered(n, 60)).collect::<Vec<_>>());
        let mut waiting = Burst::with_capacity(64);
        let deadline = Instant::now() + PATIENCE.unwrap();
        while waiting.is_empty() {
            b.visit(&mut waiting, |_, meta| {
                assert_eq!(meta.queue, 1);
                Verdict::Send
            })
            .unwrap();
            assert!(Instant::now() < deadline, "nothing waits for the small ring");
        }
        assert!(waiting.iter().all(|frame| frame.rx_meta().queue == 1));
    });
}

/// A visitor sees the first piece of a frame of several, and sends all of them.
#[test]
fn frames_of_several_segments_go_back_whole() {
    in_both_modes(&VethOptions { mtu: 9000, ..VethOptions::default() }, |rig, hook| {
        let (mut a, mut b) = rig.pair(hook, |options| options.multi_buffer = true);
        let lens = [60, 5000, 9000, 100, 2500, 64];
        let frames: Vec<_> =
            lens.iter().zip(0..).map(|(&len, n)| numbered(n, len.min(1500))).collect();
        let mut whole = Vec::new();
        for (bytes, len) in frames.into_iter().zip(lens) {
            let mut bytes = bytes;
            bytes.resize(len, 7);
            whole.push(bytes);
        }
        for bytes in &whole {
            let mut burst = Burst::with_capacity(8);
            let pieces: Vec<_> = bytes.chunks(1500).collect();
            assert_eq!(a.alloc(&mut burst, pieces.len()), pieces.len());
            for (piece, bytes) in burst.iter_mut().zip(&pieces) {
                piece.fill(bytes).unwrap();
            }
            let mut head = burst.pop_front().unwrap();
            while let Some(piece) = burst.pop_front() {
                head.chain(piece).unwrap();
            }
            assert!(burst.push(head).is_ok());
            send_burst(&mut a, &mut burst);
        }
        visit(&mut b, whole.len(), |n, data| {
            assert!(!data.is_empty() && whole[n].starts_with(data));
            Verdict::Send
        });
        settle(&mut b);
        let back = receive(&mut a, whole.len(), is_ours);
        assert!(back.iter().map(bytes).eq(whole));
        assert_eq!(b.umem().census().held, 0);
    });
}

#[test]
fn frames_are_generated_as_long_as_there_is_memory_for_them() {
    in_both_modes(&VethOptions::default(), |rig, hook| {
        let (mut a, mut b) = rig.pair(hook, |options| {
            options.umem.pool.chunks = 128;
            options.umem.pool.rx_reserve = 64;
            (options.rings.rx, options.rings.fill) = (64, 64);
        });
        let (mut waiting, mut kept) = (Burst::with_capacity(256), Burst::with_capacity(60));
        // What the application holds is not there to be sent.
        assert_eq!(a.alloc(&mut kept, 60), 60);
        let mut made = 0;
        let mut generate = |a: &mut XdpPort| {
            let fill = |data: &mut [u8]| {
                data.copy_from_slice(&numbered(made, 100));
                made += 1;
            };
            let sent = a.generate(&mut waiting, 64, 100, fill).unwrap();
            assert!(waiting.is_empty());
            sent
        };
        assert_eq!((generate(&mut a), generate(&mut a)), (4, 0));
        a.flush().unwrap();
        let seen = receive(&mut b, 4, is_ours);
        assert!(seen.iter().zip(0..).all(|(frame, n)| frame.data() == numbered(n, 100)));
        kept.clear();
        settle(&mut a);
        assert_eq!(generate(&mut a), 64, "all but what is kept to receive into");
        a.flush().unwrap();
        settle(&mut a);
        assert_eq!((a.stats().tx_packets, a.stats().tx_bytes), (68, 6800));
        assert_eq!((a.umem().census().held, a.umem().census().rx_posted), (0, 64));
        let mut waiting = Burst::with_capacity(4);
        for (len, cause) in [
            (13, FrameError::TooShort { len: 13, min: 14 }),
            (1515, FrameError::TooLong { len: 1515, max: 1514 }),
        ] {
            let refused = a.generate(&mut waiting, 1, len, |_| unreachable!("it cannot be sent"));
            let error = refused.expect_err("no frame is so long");
            assert!(matches!(&error, Error::Frame { cause: c, .. } if *c == cause), "{error}");
        }
    });
}
