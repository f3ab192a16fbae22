//! What frames ask for when they are sent, and what is told of them when they are received.

#![allow(clippy::unwrap_used, reason = "helpers are part of the tests")]

mod common;

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use bypass_core::testing::needs::{Need, skip};
use bypass_core::testing::rig::{Veth, VethOptions};
use bypass_core::{
    Buffer, Burst, Clock, Endpoint, Error, Frame, FrameError, OutOfRoom, PacketIo, Room,
    RxOffloads, TxChecksum, TxMeta, TxOffloads,
};
use bypass_xdp::program::Hints;
use bypass_xdp::{CopyMode, Hook, Interface, Receive, Umem, Want, XdpError, XdpFrame, XdpOptions};
use bypass_xdp::{XdpPort, program::Filter};
use common::*;
use etherparse::PacketBuilder;
use rustix::time::{DynamicClockId, clock_gettime_dynamic};

const PORT: u16 = 4000;
/// Behind Ethernet and IPv4, the checksum of UDP.
const UDP_SUM: TxChecksum = TxChecksum { start: 34, offset: 6 };

/// Opens a sending port with these offloads on side a; nothing where the kernel is too old for any. It
/// has no program, so no mode.
fn sender(
    rig: &Rig,
    offloads: TxOffloads,
    change: impl FnOnce(&mut XdpOptions),
) -> Option<XdpPort> {
    let opened = try_open(&rig.veth.a, Hook::Native, |options| {
        options.receive = Receive::Nothing;
        options.mode = Want::Require(CopyMode::Copy);
        options.umem.pool.tx_offloads = offloads;
        change(options);
    });
    match opened {
        Ok(port) => Some(port),
        Err(error) => {
            let XdpError::OldKernel { since, .. } = xdp_error(&error) else { panic!("{error}") };
            assert_eq!(*since, "6.11");
            None
        }
    }
}

/// A datagram from a to b, with its checksum.
fn datagram(payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2(Veth::MAC[0].0, Veth::MAC[1].0)
        .ipv4(Veth::IPV4[0].octets(), Veth::IPV4[1].octets(), 64)
        .udp(5000, PORT)
        .write(&mut bytes, payload)
        .unwrap();
    bytes
}

/// The same as it is handed to a device that sums: the field has the sum over the pseudo header.
fn unsummed(datagram: &[u8]) -> Vec<u8> {
    let len = u16::from_be_bytes([datagram[38], datagram[39]]);
    let words = datagram[26..34].as_chunks::<2>().0.iter().map(|word| u16::from_be_bytes(*word));
    let sum: u32 = words.chain([17, len]).map(u32::from).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    let mut bytes = datagram.to_vec();
    bytes[40..42].copy_from_slice(&((sum + (sum >> 16)) as u16).to_be_bytes());
    bytes
}

fn ask(frame: &mut XdpFrame, change: impl FnOnce(&mut TxMeta)) {
    let mut asked = TxMeta::default();
    change(&mut asked);
    frame.set_tx_meta(asked).unwrap();
}

/// A frame in segments, to be summed.
fn jumbo(port: &mut XdpPort, datagram: &[u8]) -> XdpFrame {
    let mut burst =
        compose(port, &unsummed(datagram).chunks(1501).map(<[u8]>::to_vec).collect::<Vec<_>>());
    let mut head = burst.pop_front().unwrap();
    while let Some(piece) = burst.pop_front() {
        assert!(head.chain(piece).is_ok());
    }
    ask(&mut head, |asked| asked.checksum = Some(UDP_SUM));
    head
}

/// A socket of the kernel's on side b.
fn socket(rig: &Rig) -> UdpSocket {
    let _inside = rig.veth.b.enter().unwrap();
    let socket = UdpSocket::bind(SocketAddr::from((Veth::IPV4[1], PORT))).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket
}

/// Datagrams with a wrong checksum that side b's kernel has seen.
fn wrong_sums(rig: &Rig) -> u64 {
    let _inside = rig.veth.b.enter().unwrap();
    let table = std::fs::read_to_string("/proc/thread-self/net/snmp").unwrap();
    let mut lines = table.lines().filter(|line| line.starts_with("Udp:"));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let at = names.split(' ').position(|name| name == "InCsumErrors").unwrap();
    values.split(' ').nth(at).unwrap().parse().unwrap()
}

/// No program is on either side: the peer's kernel receives.
#[test]
fn the_kernel_of_the_peer_takes_what_the_kernel_has_summed() {
    let Some(rig) = Rig::new(&VethOptions { mtu: 9000, ..VethOptions::default() }) else { return };
    let socket = socket(&rig);
    for unaligned in [false, true] {
        let port = sender(&rig, TxOffloads::CHECKSUM, |options| {
            options.umem.software_checksum = true;
            options.umem.unaligned = unaligned;
            options.multi_buffer = true;
        });
        let Some(mut port) = port else { return };
        assert_eq!((port.caps().tx_offloads, port.caps().headroom), (TxOffloads::CHECKSUM, 128));
        let before = wrong_sums(&rig);
        let mut seen = [0; 9000];
        for len in [1, 2, 17, 60, 999, 1400, 1800] {
            let payload: Vec<u8> = (0..len).map(|i| (i * 7) as u8).collect();
            let whole = unsummed(&datagram(&payload));
            // As it is, it is not taken; with its checksum filled in, it is.
            let mut burst = compose(&mut port, &[whole.clone(), whole]);
            ask(&mut burst[1], |asked| asked.checksum = Some(UDP_SUM));
            send_burst(&mut port, &mut burst);
            let (n, _) = socket.recv_from(&mut seen).unwrap();
            assert_eq!(seen[..n], payload);
        }
        assert_eq!(wrong_sums(&rig) - before, 7, "those without");

        // It would sum the first segment only.
        let mut burst = Burst::with_capacity(1);
        assert!(burst.push(jumbo(&mut port, &datagram(&[7; 5000]))).is_ok());
        let Err(Error::Frame { cause, .. }) = port.send(&mut burst) else { panic!("taken") };
        assert!(cause.to_string().contains("no checksum over several segments"), "{cause}");
        assert_eq!(port.stats().drops.total(), 0);
        assert_eq!(counter(&port, "kernel_tx_invalid_descs"), 0);
    }
}

/// The checksum is the device's work: on a veth pair the kernel at the other end knows that it has none,
/// and a device that does not sum has the kernel do it.
#[test]
fn without_a_device_that_sums_the_kernel_does() {
    if skip(&[Need::Tool("ethtool")]) {
        return;
    }
    let Some(rig) = Rig::new(&VethOptions { mtu: 9000, ..VethOptions::default() }) else { return };
    let whole = datagram(b"payload");
    let send_unsummed = |port: &mut XdpPort| {
        let mut burst = compose(port, &[unsummed(&whole)]);
        ask(&mut burst[0], |asked| asked.checksum = Some(UDP_SUM));
        send_burst(port, &mut burst);
    };
    {
        let (socket, mut seen) = (socket(&rig), [0; 100]);
        let Some(mut port) = sender(&rig, TxOffloads::CHECKSUM, |_| {}) else { return };
        send_unsummed(&mut port);
        let (n, _) = socket.recv_from(&mut seen).unwrap();
        assert_eq!((&seen[..n], wrong_sums(&rig)), (&b"payload"[..], 0));
    }
    rig.veth.a.run("ethtool", "-K veth0 tx off").unwrap();
    for hook in HOOKS {
        let multi_buffer = |options: &mut XdpOptions| options.multi_buffer = true;
        let Some(mut port) = sender(&rig, TxOffloads::CHECKSUM, multi_buffer) else { return };
        let mut sink = open(&rig.veth.b, hook, |options| {
            options.receive = Receive::Filter(Filter::new().udp([PORT]));
            options.multi_buffer = true;
        });
        send_unsummed(&mut port);
        assert_eq!(receive(&mut sink, 1, |_| true)[0].data(), whole);
        // Over all segments.
        let payload: Vec<u8> = (0..5001).map(|i| (i * 11) as u8).collect();
        let (long, mut burst) = (datagram(&payload), Burst::with_capacity(1));
        assert!(burst.push(jumbo(&mut port, &long)).is_ok());
        send_burst(&mut port, &mut burst);
        assert_eq!(bytes(&receive(&mut sink, 1, |_| true)[0]), long);
    }
}

#[test]
fn the_time_of_sending_is_told_under_the_sender_s_number() {
    in_both_modes(&VethOptions::default(), |rig, hook| {
        let offloads = TxOffloads::TIMESTAMP | TxOffloads::CHECKSUM;
        let small = |options: &mut XdpOptions| {
            (options.umem.pool.chunks, options.umem.pool.rx_reserve) = (64, 1);
        };
        let Some(mut port) = sender(rig, offloads, small) else { return };
        let mut sink = open(&rig.veth.b, hook, |_| {});
        let now = || {
            let now = clock_gettime_dynamic(DynamicClockId::Tai).unwrap();
            now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
        };
        let mut last = now();
        for round in 0..20u64 {
            let frames: Vec<_> = (0..30).map(|n| numbered(n, 60)).collect();
            let mut burst = compose(&mut port, &frames);
            for (frame, n) in burst.iter_mut().zip(0..) {
                // Two in three ask, one of them for a checksum, too, which the time takes the place of.
                if n % 3 < 2 {
                    ask(frame, |asked| {
                        asked.timestamp = Some(round << 32 | n);
                        let sum = TxChecksum { start: 20, offset: 30 };
                        asked.checksum = (n % 3 == 1).then_some(sum);
                    });
                }
            }
            send_burst(&mut port, &mut burst);
            let times: Vec<_> = port.sent_times().collect();
            let tags: Vec<_> = times.iter().map(|sent| sent.tag).collect();
            let asked: Vec<_> = (0..30).filter(|n| n % 3 < 2).map(|n| round << 32 | n).collect();
            assert_eq!(tags, asked);
            for sent in times {
                assert_eq!(sent.time.clock, Clock::Tai);
                // The kernel's fast clock may be some nanoseconds behind.
                assert!((last - 1000..=now() + 1000).contains(&sent.time.nanos), "{last} {sent:?}");
            }
            last = now();
            assert_eq!(port.sent_times().count(), 0, "told once");
            assert_eq!(receive(&mut sink, 30, is_ours).len(), 30);
        }
        // Nobody looks: as many are kept as there are chunks, the others are counted.
        for tag in 0..100 {
            let mut burst = compose(&mut port, &[numbered(0, 60)]);
            ask(&mut burst[0], |asked| asked.timestamp = Some(tag));
            send_burst(&mut port, &mut burst);
        }
        assert_eq!(counter(&port, "tx_times_lost"), 36);
        assert!(port.sent_times().map(|sent| sent.tag).eq(0..64));
        let stats = port.stats();
        assert_eq!((stats.tx_packets, stats.tx_bytes), (700, 700 * 60));
        assert!(stats.frames.unwrap().adds_up() && stats.frames.unwrap().held == 0);
    });
}

#[test]
fn a_received_frame_is_summed_and_timed_on_its_way_back() {
    in_both_modes(&VethOptions::default(), |rig, hook| {
        let Some(probe) = sender(rig, TxOffloads::CHECKSUM, |_| {}) else { return };
        drop(probe);
        let mut a = open(&rig.veth.a, hook, |_| {});
        let mut b = open(&rig.veth.b, hook, |options| {
            options.mode = Want::Require(CopyMode::Copy);
            options.umem.pool.tx_offloads = TxOffloads::CHECKSUM | TxOffloads::TIMESTAMP;
            options.umem.software_checksum = true;
        });
        let (whole, mut burst) = (datagram(b"there and back"), Burst::with_capacity(1));
        send(&mut a, &[unsummed(&whole)]);
        let mut frame = receive(&mut b, 1, |_| true).pop().unwrap();
        ask(&mut frame, |asked| {
            asked.checksum = Some(UDP_SUM);
            asked.timestamp = Some(1);
        });
        assert!(burst.push(frame).is_ok());
        send_burst(&mut b, &mut burst);
        assert_eq!(receive(&mut a, 1, |_| true)[0].data(), whole);
        assert_eq!(b.sent_times().count(), 1);
        // What one frame asked for, the next in its chunk does not.
        for n in 0..5000 {
            send(&mut a, &[numbered(n, 60)]);
            let frame = receive(&mut b, 1, is_ours).pop().unwrap();
            assert!(burst.push(frame).is_ok());
            send_burst(&mut b, &mut burst);
            receive(&mut a, 1, is_ours);
        }
        assert_eq!(b.sent_times().count(), 0);
    });
}

#[test]
fn what_is_not_to_be_had_is_refused_by_name() {
    in_both_modes(&VethOptions::default(), |rig, hook| {
        if sender(rig, TxOffloads::CHECKSUM, |_| {}).is_none() {
            return;
        }
        for (offloads, named) in [
            (TxOffloads::LAUNCH_TIME, "LAUNCH_TIME"),
            (TxOffloads::SEGMENTATION | TxOffloads::CHECKSUM, "SEGMENTATION"),
        ] {
            let error = try_open(&rig.veth.a, hook, |options| {
                options.umem.pool.tx_offloads = offloads;
            });
            let Err(Error::Unsupported(lacking)) = error else { panic!("{error:?}") };
            assert_eq!(lacking.backend, "xdp");
            assert!(
                lacking.what.contains(named) && lacking.what.ends_with("on veth0"),
                "{lacking}"
            );
            assert!(!lacking.what.contains("CHECKSUM"), "{lacking}");
            rig.assert_clean();
        }
        for (offloads, mode) in [
            (TxOffloads::CHECKSUM, Want::Prefer(CopyMode::ZeroCopy)),
            (TxOffloads::TIMESTAMP, Want::Require(CopyMode::Copy)),
        ] {
            let error = try_open(&rig.veth.a, hook, |options| {
                options.umem.pool.tx_offloads = offloads;
                (options.umem.software_checksum, options.mode) = (true, mode);
            });
            let Err(Error::Config { setting, .. }) = error else { panic!("{error:?}") };
            assert_eq!(setting, "software_checksum");
        }
        // A frame cannot ask for what its port was not opened for.
        let mut port = sender(rig, TxOffloads::CHECKSUM, |_| {}).unwrap();
        let mut burst = compose(&mut port, &[numbered(1, 60)]);
        ask(&mut burst[0], |asked| asked.checksum = Some(TxChecksum { start: 20, offset: 0 }));
        let mut asked = TxMeta::default();
        asked.launch_time = Some(1);
        let lacking = burst[0].set_tx_meta(asked).unwrap_err();
        assert!(lacking.what.contains("LAUNCH_TIME"), "{lacking}");
        send_burst(&mut port, &mut burst);
    });
}

#[test]
fn frames_that_the_kernel_would_choke_on_are_refused_and_kept() {
    in_both_modes(&VethOptions { mtu: 9000, ..VethOptions::default() }, |rig, hook| {
        let multi_buffer = |options: &mut XdpOptions| options.multi_buffer = true;
        let Some(mut port) = sender(rig, TxOffloads::CHECKSUM, multi_buffer) else { return };
        let mut sink = open(&rig.veth.b, hook, multi_buffer);
        let refused = |port: &mut XdpPort, frame: XdpFrame| {
            let mut burst = Burst::with_capacity(1);
            assert!(burst.push(frame).is_ok());
            let Err(Error::Frame { cause, .. }) = port.send(&mut burst) else {
                panic!("it was taken")
            };
            (cause, burst.pop_front().unwrap())
        };
        let alloc =
            |port: &mut XdpPort, bytes: Vec<u8>| compose(port, &[bytes]).pop_front().unwrap();

        // A checksum behind the end of the (first segment of the) frame.
        let mut frame = alloc(&mut port, numbered(1, 60));
        ask(&mut frame, |asked| asked.checksum = Some(TxChecksum { start: 50, offset: 9 }));
        let rest = alloc(&mut port, vec![0; 100]);
        assert!(frame.chain(rest).is_ok());
        let (cause, mut frame) = refused(&mut port, frame);
        assert_eq!(cause, FrameError::TooShort { len: 60, min: 61 });
        ask(&mut frame, |asked| {
            asked.checksum = Some(TxChecksum { start: u16::MAX, offset: u16::MAX })
        });
        let (cause, mut frame) = refused(&mut port, frame);
        assert_eq!(cause, FrameError::TooShort { len: 60, min: 131_072 });
        ask(&mut frame, |asked| asked.checksum = Some(TxChecksum { start: 50, offset: 8 }));
        let mut burst = Burst::with_capacity(2);
        assert!(burst.push(frame).is_ok());
        send_burst(&mut port, &mut burst);
        receive(&mut sink, 1, is_ours);

        // What the umem does not allow, asked for past `set_tx_meta`.
        let mut frame = alloc(&mut port, numbered(3, 60));
        let mut meta = frame.meta();
        meta.tx.launch_time = Some(1);
        frame.set_meta(meta);
        let (cause, _) = refused(&mut port, frame);
        assert!(cause.to_string().contains("LAUNCH_TIME"), "{cause}");

        // No room for the kernel in front: of a frame that asks for nothing, and of a later segment.
        let no_room =
            |available| FrameError::Room(OutOfRoom { room: Room::Headroom, asked: 24, available });
        let mut frame = alloc(&mut port, numbered(2, 60));
        assert_eq!(frame.headroom(), 128 + 24, "of which 24 are the kernel's");
        frame.prepend(129).unwrap();
        let (cause, mut frame) = refused(&mut port, frame);
        assert_eq!(cause, no_room(23));
        frame.trim_front(129).unwrap();
        let mut rest = alloc(&mut port, vec![0; 100]);
        rest.prepend(152).unwrap();
        assert!(frame.chain(rest).is_ok());
        let (cause, mut frame) = refused(&mut port, frame);
        assert_eq!(cause, no_room(0));
        let mut rest = frame.split_next().unwrap();
        rest.trim_front(24).unwrap();
        assert!(frame.chain(rest).is_ok());
        assert!(burst.push(frame).is_ok());
        send_burst(&mut port, &mut burst);
        assert_eq!(receive(&mut sink, 1, is_ours)[0].total_len(), 60 + 100 + 128);
        let stats = port.stats();
        assert_eq!((stats.tx_packets, stats.drops.total()), (2, 0));
        assert_eq!(counter(&port, "kernel_tx_invalid_descs"), 0);
    });
}

/// Ports that share memory share what frames may ask for.
#[test]
fn shared_memory_has_room_for_what_either_port_sends() {
    in_both_modes(&VethOptions { queues: 2, ..VethOptions::default() }, |rig, hook| {
        let Some(first) = sender(rig, TxOffloads::TIMESTAMP, |options| {
            options.umem.pool.rx_reserve = 512;
        }) else {
            return;
        };
        let umem: Umem = first.umem().clone();
        let second = {
            let _inside = rig.veth.a.enter().unwrap();
            let mut options = options(hook);
            (options.queue, options.receive) = (1, Receive::Nothing);
            options.single_queue().unwrap().open_on(&umem).unwrap()
        };
        assert_eq!(second.caps().tx_offloads, TxOffloads::TIMESTAMP);
        let sinks = {
            let _inside = rig.veth.b.enter().unwrap();
            options(hook).queues().unwrap()
        };
        let mut sinks: Vec<_> = sinks.into_iter().map(|queue| queue.open().unwrap()).collect();
        for mut port in [first, second] {
            let sink = &mut sinks[arrives_at(hook, port.queue()) as usize];
            let mut burst = compose(&mut port, &[numbered(1, 60)]);
            ask(&mut burst[0], |asked| asked.timestamp = Some(3));
            send_burst(&mut port, &mut burst);
            receive(sink, 1, is_ours);
            assert_eq!(port.sent_times().map(|sent| sent.tag).collect::<Vec<_>>(), [3]);
        }
    });
}

#[test]
fn hints_that_the_driver_gives_are_in_the_caps_and_no_others() {
    let Some(rig) = Rig::new(&VethOptions::default()) else { return };
    let features = {
        let _inside = rig.veth.b.enter().unwrap();
        Interface::find(Veth::NAME).unwrap().features
    };
    let port = open(&rig.veth.b, Hook::Native, |_| {});
    assert_eq!(port.caps().rx_offloads, RxOffloads::empty(), "nobody asked");
    drop(port);
    let prefer = |options: &mut XdpOptions| options.hints = Hints::Prefer;
    let port = open(&rig.veth.b, Hook::Generic, prefer);
    assert_eq!(port.caps().rx_offloads, RxOffloads::empty(), "only native mode can be asked");
    assert!(port.caps().fallbacks.iter().any(|told| told.starts_with("hints preferred")));
    drop(port);
    let mut port = open(&rig.veth.b, Hook::Native, prefer);
    let has_hints = port.program().unwrap().has_hints();
    let given = features.unwrap_or_default().rx_hints;
    assert_eq!(port.caps().rx_offloads, if has_hints { given } else { RxOffloads::empty() });
    if !port.caps().rx_offloads.contains(RxOffloads::HASH) {
        return;
    }
    // Of a frame of the kernel's a veth pair knows the hash; nobody has stamped it.
    let socket = {
        let _inside = rig.veth.a.enter().unwrap();
        UdpSocket::bind((Veth::IPV4[0], 0)).unwrap()
    };
    socket.send_to(b"x", (Veth::IPV4[1], 9)).unwrap();
    let frame = receive(&mut port, 1, |_| true).pop().unwrap();
    let meta = frame.rx_meta();
    assert!(meta.hash.is_some(), "{meta:?}");
}
