//! Frames of every shape: headroom, chunk sizes, segments, forwarding without a copy.

#![allow(clippy::unwrap_used, reason = "helpers are part of the tests")]

mod common;

use bypass_core::testing::rig::{Veth, VethOptions};
use bypass_core::{
    Buffer, Burst, DropCause, Endpoint, Error, Frame, FrameError, PacketIo, PacketIoExt,
    swap_addresses,
};
use bypass_xdp::{Umem, XdpFrame, XdpPort};
use common::*;

#[test]
fn a_single_packet_arrives_as_it_was() {
    in_both_modes(&VethOptions::default(), |rig, hook| {
        let (mut a, mut b) = rig.pair(hook, |_| {});
        send(&mut a, &[numbered(7, 60)]);
        let seen = receive(&mut b, 1, is_ours);
        assert_eq!(seen[0].data(), numbered(7, 60));
        assert_eq!((seen[0].headroom(), seen[0].rx_meta().queue), (256 + 128, 0));
        assert_eq!((a.stats().tx_packets, b.stats().drops.total()), (1, 0));
    });
}

#[test]
fn headroom_is_what_was_asked_for_and_can_be_filled() {
    in_both_modes(&VethOptions::default(), |rig, hook| {
        for unaligned in [false, true] {
            let (mut a, mut b) = rig.pair(hook, |options| {
                options.umem.pool.headroom = 200;
                options.umem.unaligned = unaligned;
            });
            assert_eq!(a.caps().headroom, 200);
            send(&mut a, &[numbered(1, 1000)]);
            let mut seen = receive(&mut b, 1, is_ours);
            let mut frame = seen.pop().unwrap();
            assert_eq!(frame.headroom(), 456);
            // To the very start of the chunk, and back to where it came from.
            frame.prepend(456).unwrap().copy_from_slice(&numbered(2, 456));
            let whole = frame.data().to_vec();
            let mut burst = Burst::with_capacity(1);
            assert!(burst.push(frame).is_ok());
            send_burst(&mut b, &mut burst);
            assert_eq!(receive(&mut a, 1, is_ours)[0].data(), whole);
        }
    });
}

#[test]
fn chunks_of_4_kib_carry_frames_of_3_kib() {
    in_both_modes(&VethOptions { mtu: 3400, ..VethOptions::default() }, |rig, hook| {
        let (mut a, mut b) = rig.pair(hook, |options| {
            options.umem.pool.chunk_size = 4096;
            options.umem.pool.chunks = 1024;
            options.umem.pool.rx_reserve = 512;
        });
        assert_eq!((a.caps().max_len, a.caps().max_segments), (3414, 1));
        let frames: Vec<_> = (0..64).map(|n| numbered(n, 3351 + n as usize)).collect();
        send(&mut a, &frames);
        let seen = receive(&mut b, 64, is_ours);
        assert!(seen.iter().zip(&frames).all(|(frame, sent)| frame.data() == sent));
    });
}

fn jumbo_pair(rig: &Rig, hook: bypass_xdp::Hook) -> (XdpPort, XdpPort) {
    rig.pair(hook, |options| options.multi_buffer = true)
}

/// A frame of pieces of these lengths.
fn in_pieces(port: &mut XdpPort, lengths: &[usize]) -> XdpFrame {
    let mut burst = Burst::with_capacity(lengths.len());
    assert_eq!(port.alloc(&mut burst, lengths.len()), lengths.len());
    let whole = numbered(lengths.len() as u16, lengths.iter().sum());
    let mut rest = &whole[..];
    for (piece, &len) in burst.iter_mut().zip(lengths) {
        let (now, later) = rest.split_at(len);
        piece.fill(now).unwrap();
        rest = later;
    }
    let mut head = burst.pop_front().unwrap();
    while let Some(piece) = burst.pop_front() {
        assert!(head.chain(piece).is_ok());
    }
    head
}

#[test]
fn jumbo_frames_come_and_go_as_segments() {
    in_both_modes(&VethOptions { mtu: 9000, ..VethOptions::default() }, |rig, hook| {
        let (mut a, mut b) = jumbo_pair(rig, hook);
        assert_eq!((a.caps().max_len, a.caps().max_segments), (9014, 17));
        let shapes = [
            vec![60],
            vec![1900, 14],
            vec![1900, 1900, 1900, 1900, 1414],
            vec![14; 17],
            vec![530; 17],
            vec![64, 1],
        ];
        let mut burst = Burst::with_capacity(8);
        for shape in &shapes {
            assert!(burst.push(in_pieces(&mut a, shape)).is_ok());
        }
        let sent: Vec<_> = burst.iter().map(bytes).collect();
        send_burst(&mut a, &mut burst);
        let mut seen = receive(&mut b, shapes.len(), is_ours);
        for (frame, sent) in seen.iter().zip(&sent) {
            assert_eq!(&bytes(frame), sent);
        }
        assert!(seen[4].segments().count() > 1, "9010 bytes do not fit a chunk");
        let total: u64 = sent.iter().map(|bytes| bytes.len() as u64).sum();
        let stats = a.stats();
        assert_eq!((stats.tx_packets, stats.tx_bytes, stats.tx_in_flight), (6, total, 0));
        assert_eq!((b.stats().rx_packets, b.stats().rx_bytes), (6, total));

        // Back as they came: not a byte is copied.
        for frame in &mut seen {
            swap_addresses(frame);
        }
        let expected: Vec<_> = seen.iter().map(bytes).collect();
        for frame in seen.drain(..) {
            assert!(burst.push(frame).is_ok());
        }
        send_burst(&mut b, &mut burst);
        let back = receive(&mut a, shapes.len(), is_ours);
        assert!(back.iter().map(bytes).eq(expected));
        drop(back);
        for port in [&a, &b] {
            let census = port.stats().frames.unwrap();
            assert!(census.adds_up() && census.held == 0, "{census:?}");
        }
    });
}

#[test]
fn too_many_segments_and_empty_ones_are_refused_and_kept() {
    in_both_modes(&VethOptions { mtu: 9000, ..VethOptions::default() }, |rig, hook| {
        let (mut a, mut b) = jumbo_pair(rig, hook);
        for shape in [vec![64; 18], vec![64, 0, 64]] {
            let mut burst = Burst::with_capacity(2);
            assert!(burst.push(in_pieces(&mut a, &shape)).is_ok());
            assert!(burst.push(in_pieces(&mut a, &[60])).is_ok());
            let Error::Frame { cause, .. } = a.send(&mut burst).unwrap_err() else { panic!() };
            assert!(matches!(cause, FrameError::Unsupported(_)), "{cause}");
            assert_eq!(bytes(&burst[0]).len(), shape.iter().sum::<usize>());
            burst.pop_front();
            send_burst(&mut a, &mut burst);
            assert_eq!(receive(&mut b, 1, is_ours)[0].data().len(), 60);
        }
    });
}

/// The kernel counts these as dropped and nothing else, like a frame that is too long.
#[test]
fn a_frame_of_segments_without_buffers_is_counted_as_that() {
    in_both_modes(&VethOptions { mtu: 9000, ..VethOptions::default() }, |rig, hook| {
        let mut a = open(&rig.veth.a, hook, |options| options.multi_buffer = true);
        let mut b = open(&rig.veth.b, hook, |options| {
            options.multi_buffer = true;
            (options.umem.pool.chunks, options.umem.pool.rx_reserve) = (32, 16);
        });
        for _ in 0..10 {
            let mut burst = Burst::with_capacity(1);
            assert!(burst.push(in_pieces(&mut a, &[500; 16])).is_ok());
            send_burst(&mut a, &mut burst);
        }
        let seen = drain(&mut b);
        let (stats, came) = (b.stats(), seen.len() as u64);
        assert!(came > 0 && seen.iter().all(|frame| bytes(frame).len() == 8000));
        assert_eq!((stats.rx_packets, stats.drops[DropCause::RxNoFrame]), (came, 10 - came));
        assert_eq!(stats.drops.total(), 10 - came);
    });
}

/// The ring takes up what the kernel has freed also for a frame that needs more places than were known
/// to be free, though fewer than the burst has frames.
#[test]
fn a_frame_of_segments_finds_the_places_that_single_ones_left() {
    in_both_modes(&VethOptions { mtu: 9000, ..VethOptions::default() }, |rig, hook| {
        let (mut a, mut b) = rig.pair(hook, |options| {
            options.multi_buffer = true;
            (options.rings.tx, options.rings.completion) = (16, 16);
        });
        assert_eq!(a.caps().max_segments, 16, "more do not fit the ring");
        for round in 0..20 {
            for n in 0..round {
                send(&mut a, &[numbered(n, 60)]);
            }
            let mut burst = Burst::with_capacity(1);
            assert!(burst.push(in_pieces(&mut a, &[100; 16])).is_ok());
            send_burst(&mut a, &mut burst);
            let seen = receive(&mut b, usize::from(round) + 1, is_ours);
            assert_eq!(bytes(&seen[usize::from(round)]).len(), 1600);
        }
        let mut burst = Burst::with_capacity(1);
        assert!(burst.push(in_pieces(&mut a, &[100; 17])).is_ok());
        assert!(matches!(a.send(&mut burst).unwrap_err(), Error::Frame { .. }));
    });
}

#[test]
fn segments_are_refused_by_a_port_without_them() {
    in_both_modes(&VethOptions::default(), |rig, hook| {
        let (mut a, _b) = rig.pair(hook, |_| {});
        let mut burst = Burst::with_capacity(1);
        assert!(burst.push(in_pieces(&mut a, &[64, 64])).is_ok());
        let error = a.send(&mut burst).unwrap_err();
        assert!(error.to_string().contains("no frames of 2 segments"), "{error}");
        assert_eq!(burst[0].segments().count(), 2);
    });
}

#[test]
fn a_frame_of_another_umem_is_refused_and_kept() {
    in_both_modes(&VethOptions::default(), |rig, hook| {
        let (mut a, mut b) = rig.pair(hook, |_| {});
        let mut foreign = compose(&mut b, &[numbered(1, 60)]);
        let Error::Frame { cause, .. } = a.send(&mut foreign).unwrap_err() else { panic!() };
        assert_eq!(cause, FrameError::ForeignPool);
        assert_eq!(foreign[0].data(), numbered(1, 60));
        // Copied, it goes.
        let mut burst = Burst::with_capacity(1);
        assert!(a.import(&foreign[0], &mut burst).unwrap());
        send_burst(&mut a, &mut burst);
        assert_eq!(receive(&mut b, 1, is_ours)[0].data(), numbered(1, 60));
    });
}

#[test]
fn lengths_that_cannot_be_sent_are_refused_and_kept() {
    in_both_modes(&VethOptions::default(), |rig, hook| {
        let (mut a, mut b) = rig.pair(hook, |_| {});
        let tagged = |len: usize| {
            let mut frame = numbered(9, len);
            frame[12..14].copy_from_slice(&[0x81, 0]);
            frame
        };
        for (bad, wanted) in [
            (vec![], FrameError::TooShort { len: 0, min: 14 }),
            (vec![0; 13], FrameError::TooShort { len: 13, min: 14 }),
            (numbered(1, 1515), FrameError::TooLong { len: 1515, max: 1514 }),
            (tagged(1519), FrameError::TooLong { len: 1519, max: 1518 }),
        ] {
            let mut burst = compose(&mut a, &[numbered(0, 60), bad, numbered(2, 1514)]);
            assert_eq!(a.send(&mut burst).unwrap(), 1, "those in front of it go");
            let Error::Frame { cause, .. } = a.send(&mut burst).unwrap_err() else { panic!() };
            assert_eq!((cause, burst.len()), (wanted, 2));
            burst.pop_front();
            send_burst(&mut a, &mut burst);
            assert_eq!(receive(&mut b, 2, is_ours)[1].data(), numbered(2, 1514));
        }
        let is_tagged = |frame: &XdpFrame| frame.data()[12..14] == [0x81, 0];
        send(&mut a, &[tagged(1518)]);
        assert_eq!(receive(&mut b, 1, is_tagged)[0].data(), tagged(1518));
    });
}

#[test]
fn detached_frames_come_home_from_other_threads() {
    in_both_modes(&VethOptions::default(), |rig, hook| {
        let (mut a, mut b) = rig.pair(hook, |_| {});
        send(&mut a, &[numbered(1, 60), numbered(2, 60)]);
        let mut seen = receive(&mut b, 2, is_ours);
        let (second, first) = (seen.pop().unwrap(), seen.pop().unwrap());
        let (first, second) = (first.detach().unwrap(), second.detach().unwrap());
        let first = std::thread::spawn(move || {
            drop(second);
            first
        });
        let first = b.umem().attach(first.join().unwrap()).unwrap();
        assert_eq!(first.data(), numbered(1, 60));
        let other = Umem::new(&bypass_xdp::UmemOptions::default()).unwrap();
        let detached = other.attach(first.detach().unwrap()).map(|_| ()).expect_err("another umem");
        drop(detached);
        assert_eq!(b.stats().frames.unwrap().held, 0);
    });
}

/// From one interface to another, in the chunk that the frame came in.
#[test]
fn ports_that_share_memory_forward_without_a_copy() {
    in_both_modes(&VethOptions::default(), |rig, hook| {
        let middle = &rig.veth.b;
        middle.ip("link add out0 type veth peer name out1").unwrap();
        for name in ["out0", "out1"] {
            middle.sysctl(&format!("net.ipv6.conf.{name}.disable_ipv6"), "1").unwrap();
            middle.ip(&format!("link set {name} up")).unwrap();
        }
        let on = |name: &str| {
            let _inside = middle.enter().unwrap();
            let mut options = options(hook);
            options.interface = name.to_owned();
            options.umem.pool.rx_reserve = 1024;
            options.single_queue().unwrap()
        };
        let mut source = open(&rig.veth.a, hook, |_| {});
        let umem = Umem::new(&bypass_xdp::UmemOptions {
            pool: bypass_core::pool::PoolOptions {
                rx_reserve: 1024,
                ..bypass_core::pool::PoolOptions::new(4096)
            },
            ..bypass_xdp::UmemOptions::default()
        })
        .unwrap();
        let mut into = on(Veth::NAME).open_on(&umem).unwrap();
        let mut out = on("out0").open_on(&umem).unwrap();
        let mut sink = on("out1").open().unwrap();
        let frames: Vec<_> = (0..200).map(|n| numbered(n, 60 + n as usize)).collect();
        for some in frames.chunks(50) {
            send(&mut source, some);
        }
        let mut burst = Burst::with_capacity(256);
        for frame in receive(&mut into, 200, is_ours) {
            assert!(burst.push(frame).is_ok());
        }

        send_burst(&mut out, &mut burst);
        let seen = receive(&mut sink, 200, is_ours);
        assert!(seen.iter().zip(&frames).all(|(frame, sent)| frame.data() == sent));
        assert_eq!((into.stats().drops.total(), out.stats().tx_packets), (0, 200));
        let census = umem.census();
        assert!(census.adds_up() && census.held == 0 && census.tx_in_flight == 0, "{census:?}");
        // The first to go leaves the other in order.
        drop(into);
        send(&mut out, &[numbered(201, 60)]);
        assert_eq!(receive(&mut sink, 1, is_ours)[0].data(), numbered(201, 60));
        // A third joins what is left.
        let mut again = on(Veth::NAME).open_on(&umem).unwrap();
        send(&mut source, &[numbered(202, 60)]);
        let mut burst = Burst::with_capacity(1);
        assert!(burst.push(receive(&mut again, 1, is_ours).pop().unwrap()).is_ok());
        send_burst(&mut out, &mut burst);
        assert_eq!(receive(&mut sink, 1, is_ours)[0].data(), numbered(202, 60));
    });
}
