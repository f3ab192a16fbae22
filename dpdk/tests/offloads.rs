//! What a device is asked to do to packets, as the kernel at the other end sees it: `net_tap` and
//! `net_af_packet` do in software what other devices do in hardware.

#![allow(clippy::unwrap_used, reason = "helpers are part of the tests")]

mod common;

use std::io::ErrorKind;
use std::net::UdpSocket;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bypass_core::backend::packet::{PacketFrame, PacketOptions};
use bypass_core::testing::needs::{Need, skip};
use bypass_core::testing::rig::{Namespace, Veth, VethOptions};
use bypass_core::{
    Buffer, Burst, Caps, ChecksumVerdict, Endpoint, Error, Frame, MacAddr, PacketIo, RxOffloads,
    TxChecksum, TxMeta, TxOffloads,
};
use bypass_dpdk::{
    Eal, Features, Mbuf, Mempool, MempoolOptions, Port, PortOptions, QueuePair, Started, TxOffload,
    Vdev,
};
use common::*;

const KERNEL: [u8; 4] = [10, 77, 0, 1];
const OURS: [u8; 4] = [10, 77, 0, 2];
const PATIENCE: Duration = Duration::from_secs(5);

/// A tap of the kernel's, the other end of which is ours.
struct Tap {
    namespace: Namespace,
    _device: Vdev,
    port: Port<Started>,
    pool: Mempool,
    mac: MacAddr,
}

impl Tap {
    fn new(require: Features) -> Option<Self> {
        if skip(&[Need::Namespaces]) {
            return None;
        }
        let namespace = Namespace::new().unwrap();
        namespace.sysctl("net.ipv6.conf.default.disable_ipv6", "1").unwrap();
        let pool = pool(4095);
        let options = PortOptions { require, ..PortOptions::new(&pool) };
        let (_device, port) = {
            let _inside = namespace.enter().unwrap();
            tap(&namespace, &options)
        };
        let mac = port.mac().unwrap();
        Some(Self { namespace, _device, port, pool, mac })
    }

    fn socket(&self) -> UdpSocket {
        let _inside = self.namespace.enter().unwrap();
        let socket = UdpSocket::bind("10.77.0.1:7000").unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    }

    fn udp(&self, payload: &[u8]) -> Vec<u8> {
        datagram(self.mac, payload)
    }

    /// A counter of the kernel's (`/proc/net/snmp`).
    fn counter(&self, line: &str, name: &str) -> u64 {
        let text = {
            let _inside = self.namespace.enter().unwrap();
            std::fs::read_to_string("/proc/thread-self/net/snmp").unwrap()
        };
        let mut lines = text.lines().filter(|row| row.starts_with(line)).map(str::split_whitespace);
        let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
        names.zip(values).find(|&(found, _)| found == name).unwrap().1.parse().unwrap()
    }
}

/// Ethernet, IPv4 and UDP, without any checksum.
fn datagram(to: MacAddr, payload: &[u8]) -> Vec<u8> {
    let udp_len = 8 + payload.len() as u16;
    let mut frame = [&to.0[..], &[2, 0, 0, 0, 0, 9], &[0x08, 0]].concat();
    frame.extend([0x45, 0]);
    frame.extend((20 + udp_len).to_be_bytes());
    frame.extend([0, 0, 0x40, 0, 64, 17, 0, 0]);
    frame.extend([OURS, KERNEL].concat());
    frame.extend([0x1b, 0x59, 0x1b, 0x58]);
    frame.extend(udp_len.to_be_bytes());
    frame.extend([0, 0]);
    frame.extend(payload);
    frame
}

/// The sum that makes a checksum (RFC 1071), not inverted.
fn sum(parts: &[&[u8]]) -> u16 {
    let bytes = parts.concat();
    let words = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | pair.get(1).map_or(0, |&b| u32::from(b)));
    let total: u64 = words.map(u64::from).sum();
    let folded = (total >> 32) + (total & 0xffff_ffff);
    (0..4).fold(folded, |sum, _| (sum >> 16) + (sum & 0xffff)) as u16
}

/// Whether the checksums of an IPv4 packet and of the TCP or UDP in it are right.
fn is_right(frame: &[u8]) -> bool {
    let (ip, transport) = frame[14..].split_at(20);
    let len = (transport.len() as u16).to_be_bytes();
    sum(&[ip]) == 0xffff && sum(&[&ip[12..20], &[0, ip[9]], &len, transport]) == 0xffff
}

/// Fills in the IPv4 header's checksum.
fn with_ip_checksum(mut frame: Vec<u8>) -> Vec<u8> {
    let checksum = !sum(&[&frame[14..34]]);
    frame[24..26].copy_from_slice(&checksum.to_be_bytes());
    frame
}

fn send(queue: &mut QueuePair, packet: Mbuf) {
    let mut packets = burst([packet]);
    send_all(queue, &mut packets);
    queue.flush().unwrap();
}

/// The driver of taps interrupts whoever sleeps (`SIGIO`).
fn receive(socket: &UdpSocket, to: &mut [u8]) -> usize {
    loop {
        match socket.recv(to) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            outcome => return outcome.unwrap(),
        }
    }
}

const CHECKSUMS: Features = Features::TX_IP_CHECKSUM.union(Features::TX_L4_CHECKSUM);

#[test]
fn checksums_are_filled_in() {
    let Some(tap) = Tap::new(CHECKSUMS) else { return };
    let (socket, mut queue) = (tap.socket(), tap.port.queue_pair(0).unwrap());
    assert!(queue.caps().tx_offloads.contains(TxOffloads::CHECKSUM));
    let mut got = [0; 2000];
    for len in [1, 2, 11, 100, 1000, 1472] {
        let payload: Vec<u8> = (0..len).map(|i| (i * 7) as u8).collect();
        let mut asking = packet(&tap.pool, &tap.udp(&payload));
        asking.data_mut()[40..42].copy_from_slice(&[0xba, 0xd1]);
        asking
            .offload(TxOffload { ip_checksum: true, l4_checksum: true, ..TxOffload::default() })
            .unwrap();
        send(&mut queue, asking);
        let n = receive(&socket, &mut got);
        assert_eq!(&got[..n], &payload[..]);
    }
    // By the words that all backends share; the IP header's is the sender's affair then.
    let mut asking = packet(&tap.pool, &with_ip_checksum(tap.udp(b"by offset")));
    let pseudo = sum(&[&OURS, &KERNEL, &[0, 17], &17u16.to_be_bytes()]);
    asking.data_mut()[40..42].copy_from_slice(&pseudo.to_be_bytes());
    let mut meta = TxMeta::default();
    meta.checksum = Some(TxChecksum { start: 34, offset: 6 });
    asking.set_tx_meta(meta).unwrap();
    send(&mut queue, asking);
    let n = receive(&socket, &mut got);
    assert_eq!(&got[..n], b"by offset");
    // Who does not ask is taken at his word, and found out.
    let before = tap.counter("Udp:", "InCsumErrors");
    let mut wrong = packet(&tap.pool, &with_ip_checksum(tap.udp(b"wrong")));
    wrong.data_mut()[40..42].copy_from_slice(&[0xba, 0xd1]);
    send(&mut queue, wrong);
    let deadline = Instant::now() + PATIENCE;
    while tap.counter("Udp:", "InCsumErrors") == before {
        assert!(Instant::now() < deadline, "the kernel took a wrong checksum for a right one");
    }
}

#[test]
fn chains_arrive_whole() {
    let Some(tap) = Tap::new(CHECKSUMS | Features::TX_MULTI_SEGMENT) else { return };
    let (socket, mut queue) = (tap.socket(), tap.port.queue_pair(0).unwrap());
    let frame = tap.udp(b"a datagram in many pieces");
    // Even lengths: the driver of DPDK 22.11 adds up each piece as if it began a word of the sum.
    let mut chain = packet(&tap.pool, &frame[..44]);
    for piece in frame[44..].chunks(6) {
        chain.chain(packet(&tap.pool, piece)).unwrap();
    }
    chain
        .offload(TxOffload { ip_checksum: true, l4_checksum: true, ..TxOffload::default() })
        .unwrap();
    send(&mut queue, chain);
    let mut got = [0; 100];
    let n = receive(&socket, &mut got);
    assert_eq!(&got[..n], b"a datagram in many pieces");
    // The same of packets that others hold, with checksums of their own.
    let mut frame = with_ip_checksum(tap.udp(b"shared"));
    let len = 14u16.to_be_bytes();
    let checksum = !sum(&[&OURS, &KERNEL, &[0, 17], &len, &frame[34..]]);
    frame[40..42].copy_from_slice(&checksum.to_be_bytes());
    let payload = packet(&tap.pool, &frame[42..]).share();
    for _ in 0..3 {
        let tail = payload.try_clone(&tap.pool).unwrap();
        let mut packets = vec![tail.with_header(packet(&tap.pool, &frame[..42])).unwrap()];
        assert_eq!(queue.tx().send_shared(&mut packets).unwrap(), 1);
        let n = receive(&socket, &mut got);
        assert_eq!(&got[..n], b"shared");
    }
    let outside = bypass_dpdk::ExternalBuffer::new(frame);
    let mut packets = vec![bypass_dpdk::SharedMbuf::external(&tap.pool, outside).unwrap()];
    assert_eq!(queue.tx().send_shared(&mut packets).unwrap(), 1);
    let n = receive(&socket, &mut got);
    assert_eq!(&got[..n], b"shared");
}

#[test]
fn trains_of_tcp_are_cut() {
    let features = CHECKSUMS | Features::TX_MULTI_SEGMENT | Features::TX_TCP_SEGMENTATION;
    let Some(tap) = Tap::new(features) else { return };
    let mut queue = tap.port.queue_pair(0).unwrap();
    let mut watcher = {
        let _inside = tap.namespace.enter().unwrap();
        PacketOptions::new("tap0").open().unwrap()
    };
    let payload: Vec<u8> = (0..10_000u32).map(|i| (i * 31) as u8).collect();
    let mut frame = tap.udp(&[]);
    frame.truncate(34);
    let total = 20 + 20 + payload.len() as u16;
    frame[16..18].copy_from_slice(&total.to_be_bytes());
    frame[23] = 6;
    frame.extend([0x1b, 0x59, 0x1b, 0x58, 0, 0, 1, 0, 0, 0, 0, 0, 0x50, 0x18, 1, 0, 0, 0, 0, 0]);
    let mut train = packet(&tap.pool, &frame);
    for piece in payload.chunks(2000) {
        train.chain(packet(&tap.pool, piece)).unwrap();
    }
    train.offload(TxOffload { segment_size: Some(1400), ..TxOffload::default() }).unwrap();
    send(&mut queue, train);
    let (mut seen, mut segments) = (Vec::new(), 0);
    let (mut frames, deadline) = (Burst::with_capacity(32), Instant::now() + PATIENCE);
    while seen.len() < payload.len() {
        assert!(Instant::now() < deadline, "{} of {} bytes came", seen.len(), payload.len());
        watcher.recv(&mut frames).unwrap();
        for frame in frames.iter().map(|frame| frame.data()).filter(|frame| frame[23] == 6) {
            // Not what the kernel answers.
            if frame[26..30] != OURS {
                continue;
            }
            assert!(is_right(frame), "segment {segments}");
            assert_eq!(frame[38..42], (256 + seen.len() as u32).to_be_bytes(), "its place");
            assert!(frame.len() <= 54 + 1400);
            seen.extend_from_slice(&frame[54..]);
            segments += 1;
        }
        frames.clear();
    }
    assert_eq!((seen, segments), (payload, 8));
}

/// The driver would take none of them, now or later, and not say why.
#[test]
fn pieces_that_are_too_long_are_refused() {
    let require =
        Features::TX_TCP_SEGMENTATION | Features::TX_IP_CHECKSUM | Features::TX_L4_CHECKSUM;
    let Some(tap) = Tap::new(require) else { return };
    let mut queue = tap.port.queue_pair(0).unwrap();
    let mut frame = tap.udp(&[]);
    frame.truncate(34);
    frame[23] = 6;
    frame.extend([0x1b, 0x59, 0x1b, 0x58, 0, 0, 1, 0, 0, 0, 0, 0, 0x50, 0x18, 1, 0, 0, 0, 0, 0]);
    frame.resize(54 + 1800, 1);
    // 54 bytes of headers, and the driver counts 1500 for all.
    for (size, is_sent) in [(1447, false), (1446, true)] {
        let mut train = packet(&tap.pool, &frame);
        train.offload(TxOffload { segment_size: Some(size), ..TxOffload::default() }).unwrap();
        let sent = queue.send(&mut burst([train]));
        assert_eq!(sent.as_ref().ok(), is_sent.then_some(&1), "{size}: {sent:?}");
        let text = sent.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(is_sent || text.contains("1501"), "{text}");
    }
}

#[test]
fn the_mtu_that_is_asked_for_is_the_kernels_too() {
    if skip(&[Need::Namespaces]) {
        return;
    }
    let namespace = Namespace::new().unwrap();
    let pool = pool(4095);
    let _inside = namespace.enter().unwrap();
    let start = |mtu| {
        let options = PortOptions { mtu: Some(mtu), ..PortOptions::new(&pool) };
        started("net_tap", "iface=tap0", &options)
    };
    let error = start(65_535).unwrap_err();
    assert!(matches!(&error, Error::Config { setting, .. } if *setting == "mtu"), "{error}");
    let (_device, port) = start(1400).unwrap();
    assert_eq!(port.report().mtu, 1400);
    let shown = std::process::Command::new("ip").args(["link", "show", "tap0"]).output().unwrap();
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains("mtu 1400"), "{shown}");
}

#[test]
fn checksums_of_what_arrives_are_verified() {
    let Some(tap) = Tap::new(Features::RX_IP_CHECKSUM | Features::RX_L4_CHECKSUM) else { return };
    let mut queue = tap.port.queue_pair(0).unwrap();
    assert!(queue.caps().rx_offloads.contains(RxOffloads::CHECKSUM));
    let mut kernel = {
        let _inside = tap.namespace.enter().unwrap();
        PacketOptions::new("tap0").open().unwrap()
    };
    let right = {
        let mut frame = with_ip_checksum(tap.udp(b"verify me"));
        let len = 17u16.to_be_bytes();
        let checksum = !sum(&[&OURS, &KERNEL, &[0, 17], &len, &frame[34..]]);
        frame[40..42].copy_from_slice(&checksum.to_be_bytes());
        frame
    };
    let (mut bad_l4, mut bad_ip) = (right.clone(), right.clone());
    bad_l4[45] ^= 1;
    bad_ip[24] ^= 1;
    for (frame, verdict) in [
        (right, ChecksumVerdict::Good),
        (bad_l4, ChecksumVerdict::Bad),
        (bad_ip, ChecksumVerdict::Bad),
    ] {
        let mut out = Burst::with_capacity(1);
        kernel.alloc(&mut out, 1);
        out[0].fill(&frame).unwrap();
        kernel.send(&mut out).unwrap();
        kernel.flush().unwrap();
        let (mut got, deadline) = (Burst::with_capacity(8), Instant::now() + PATIENCE);
        while !got.iter().any(|packet: &Mbuf| packet.data() == frame) {
            assert!(Instant::now() < deadline, "it did not arrive");
            got.clear();
            queue.recv(&mut got).unwrap();
        }
        let packet = got.iter().find(|packet| packet.data() == frame).unwrap();
        assert_eq!(packet.rx_meta().checksum, verdict);
        assert_eq!(packet.port(), Some(tap.port.id()));
    }
}

/// Of the virtual devices a `net_af_packet` has times, since DPDK 24.07. An older one refuses to promise them.
#[test]
fn arrivals_have_the_time_of_the_kernel() {
    if skip(&[Need::Namespaces]) {
        return;
    }
    let (veth, pool) = (Veth::new(&VethOptions::default()).unwrap(), pool(4095));
    let options = PortOptions { prefer: Features::RX_TIMESTAMP, ..PortOptions::new(&pool) };
    let (_device, port) = {
        let _inside = veth.a.enter().unwrap();
        started("net_af_packet", "iface=veth0", &options).unwrap()
    };
    let has_times = port.report().features.contains(Features::RX_TIMESTAMP);
    let mut queue = port.queue_pair(0).unwrap();
    assert_eq!(queue.caps().rx_offloads.contains(RxOffloads::TIMESTAMP), has_times);
    if !has_times {
        // DPDK's versions sort as texts do.
        assert!(Eal::version().as_str() < "DPDK 24.07", "{}", Eal::version());
        let _inside = veth.a.enter().unwrap();
        let options = PortOptions { require: Features::RX_TIMESTAMP, ..options };
        let refused = started("net_af_packet", "iface=veth0", &options).unwrap_err();
        assert!(matches!(refused, Error::Unsupported(_)), "{refused:?}");
        assert!(refused.to_string().contains("RX_TIMESTAMP"), "{refused}");
        return;
    }
    let frame = with_ip_checksum(datagram(Veth::MAC[0], b"when?"));
    let mut kernel = {
        let _inside = veth.b.enter().unwrap();
        PacketOptions::new("veth0").open().unwrap()
    };
    let mut frames = Burst::with_capacity(1);
    kernel.alloc(&mut frames, 1);
    frames[0].fill(&frame).unwrap();
    kernel.send(&mut frames).unwrap();
    kernel.flush().unwrap();
    let (mut packets, deadline) = (Burst::with_capacity(8), Instant::now() + PATIENCE);
    while !packets.iter().any(|packet: &Mbuf| packet.data() == frame) {
        assert!(Instant::now() < deadline, "it did not arrive");
        packets.clear();
        queue.recv(&mut packets).unwrap();
    }
    // In nanoseconds of the system's clock: anything else is off by more than a day.
    const DAY: Duration = Duration::from_secs(86_400);
    for packet in packets.iter() {
        let time = packet.rx_meta().timestamp.expect("a time");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        assert!(now.abs_diff(Duration::from_nanos(time.nanos)) < DAY, "{time:?}");
    }
}

#[test]
fn vlan_tags_are_inserted_and_stripped() {
    if skip(&[Need::Namespaces]) {
        return;
    }
    let (veth, pool) = (Veth::new(&VethOptions::default()).unwrap(), pool(4095));
    let require = Features::TX_VLAN_INSERT | Features::RX_VLAN_STRIP;
    let (_device, port) = {
        let _inside = veth.a.enter().unwrap();
        let options = PortOptions { require, ..PortOptions::new(&pool) };
        started("net_af_packet", "iface=veth0", &options).unwrap()
    };
    let mut queue = port.queue_pair(0).unwrap();
    let mut kernel = {
        let _inside = veth.b.enter().unwrap();
        PacketOptions::new("veth0").open().unwrap()
    };
    let plain = with_ip_checksum(datagram(Veth::MAC[1], b"vlan 5"));
    let tagged = [&plain[..12], &[0x81, 0, 0x60, 5], &plain[12..]].concat();

    let mut asking = packet(&pool, &plain);
    asking.offload(TxOffload { vlan: Some(0x6005), ..TxOffload::default() }).unwrap();
    send(&mut queue, asking);
    let (mut frames, deadline) = (Burst::with_capacity(8), Instant::now() + PATIENCE);
    while !frames.iter().any(|frame: &PacketFrame| frame.data() == tagged) {
        assert!(Instant::now() < deadline, "it did not arrive");
        frames.clear();
        kernel.recv(&mut frames).unwrap();
    }
    frames.clear();

    kernel.alloc(&mut frames, 1);
    frames[0].fill(&tagged).unwrap();
    kernel.send(&mut frames).unwrap();
    kernel.flush().unwrap();
    let (mut packets, deadline) = (Burst::with_capacity(8), Instant::now() + PATIENCE);
    loop {
        assert!(Instant::now() < deadline, "it did not arrive");
        queue.recv(&mut packets).unwrap();
        if let Some(packet) = packets.iter().find(|packet| packet.data() == plain) {
            let tag = packet.rx_meta().vlan.expect("a tag");
            assert_eq!((tag.tpid, tag.tci), (0x8100, 0x6005));
            break;
        }
        packets.clear();
    }
}

#[test]
fn what_was_not_granted_is_refused_packet_by_packet() {
    let Some(tap) = Tap::new(Features::TX_L4_CHECKSUM) else { return };
    let mut queue = tap.port.queue_pair(0).unwrap();
    let caps: Caps = queue.caps().clone();
    assert_eq!(caps.tx_offloads, TxOffloads::CHECKSUM);
    for offload in [
        TxOffload { ip_checksum: true, ..TxOffload::default() },
        TxOffload { segment_size: Some(100), ..TxOffload::default() },
        TxOffload { vlan: Some(5), ..TxOffload::default() },
    ] {
        let mut asking = packet(&tap.pool, &tap.udp(&[1; 200]));
        asking.offload(offload).unwrap();
        let mut packets = burst([asking]);
        let error = queue.send(&mut packets).unwrap_err();
        assert!(matches!(error, Error::Frame { .. }), "{error}");
        assert_eq!(packets.len(), 1);
    }
    // Headers that were cut away since.
    let mut asking = packet(&tap.pool, &tap.udp(&[1; 200]));
    asking.offload(TxOffload { l4_checksum: true, ..TxOffload::default() }).unwrap();
    asking.set_len(40).unwrap();
    let error = queue.send(&mut burst([asking])).unwrap_err();
    assert!(error.to_string().contains("all headers"), "{error}");
}

#[test]
fn what_is_longer_than_an_mbuf_arrives_in_a_chain() {
    if skip(&[Need::Namespaces]) {
        return;
    }
    let namespace = Namespace::new().unwrap();
    namespace.sysctl("net.ipv6.conf.default.disable_ipv6", "1").unwrap();
    let small = MempoolOptions { data_room: 512, ..MempoolOptions::new(8191) };
    let pool = Mempool::new(&eal(), &small).unwrap();
    let _inside = namespace.enter().unwrap();
    let (_device, port) = started("net_tap", "iface=tap0", &PortOptions::new(&pool)).unwrap();
    assert!(port.report().features.contains(Features::RX_SCATTER));
    namespace.ip("address add 10.77.0.1/24 dev tap0").unwrap();
    let mut queue = port.queue_pair(0).unwrap();
    let socket = UdpSocket::bind("10.77.0.1:0").unwrap();
    socket.set_broadcast(true).unwrap();
    let payload: Vec<u8> = (0..1400u32).map(|i| (i * 13) as u8).collect();
    socket.send_to(&payload, "10.77.0.255:9").unwrap();
    let (mut packets, deadline) = (Burst::with_capacity(8), Instant::now() + PATIENCE);
    loop {
        assert!(Instant::now() < deadline, "it did not arrive");
        queue.recv(&mut packets).unwrap();
        if let Some(packet) = packets.iter().find(|packet| bytes(packet).ends_with(&payload)) {
            assert_eq!((packet.segment_count(), packet.total_len()), (3, 1442));
            break;
        }
        packets.clear();
    }
}
