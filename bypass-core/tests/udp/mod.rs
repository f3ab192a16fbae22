//! A port whose other side is the test, and packets built by other hands (etherparse).

#![allow(dead_code, unreachable_pub, reason = "each test uses a part")]
#![allow(clippy::unwrap_used, reason = "helpers are part of the tests")]

use std::cell::RefCell;
use std::collections::VecDeque;
use std::net::IpAddr;
use std::rc::Rc;
use std::time::Duration;

use bypass_core::pool::{FrameMeta, Kind, Pool, PoolBuf, PoolOptions};
use bypass_core::udp::neighbours::Neighbours;
use bypass_core::udp::{Config, UdpDatagram, UdpOverL2};
use bypass_core::{
    Buffer, Burst, Caps, DatagramIo, DropCause, Endpoint, Error, Interest, MacAddr, PacketIo,
    Ready, Result, RxMeta, Stats, TxMeta,
};

pub const US: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
pub const PEER: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
pub const US_V4: [u8; 4] = [10, 0, 0, 1];
pub const PEER_V4: [u8; 4] = [10, 0, 0, 2];
pub const US_V6: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
pub const PEER_V6: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
pub const PORT: u16 = 4000;
pub const PEER_PORT: u16 = 5000;

#[derive(Clone, Copy, Debug)]
pub struct Scripted;

impl Kind for Scripted {
    type Meta = FrameMeta;
    const BACKEND: &'static str = "scripted";
}

pub type ScriptedFrame = PoolBuf<Scripted>;
pub type Stack<N> = UdpOverL2<ScriptedPort, N>;

/// What went out, and how.
#[derive(Clone, Debug)]
pub struct Sent {
    pub bytes: Vec<u8>,
    pub meta: TxMeta,
    /// Where its memory was.
    pub end: *const u8,
}

#[derive(Debug)]
struct Script {
    inbox: VecDeque<ScriptedFrame>,
    sent: Vec<Sent>,
    /// Frames that are still taken for sending.
    room: usize,
    failure: Option<Error>,
    stats: Stats,
    waits: u64,
}

/// The port.
#[derive(Debug)]
pub struct ScriptedPort {
    pool: Pool<Scripted>,
    caps: Caps,
    script: Rc<RefCell<Script>>,
}

/// The other side of the port.
#[derive(Clone, Debug)]
pub struct Wire {
    pool: Pool<Scripted>,
    script: Rc<RefCell<Script>>,
}

pub fn port(options: &PoolOptions) -> (ScriptedPort, Wire) {
    let pool = Pool::new(options).unwrap();
    let mut caps = Caps::new(Scripted::BACKEND, 1518, options.headroom as usize);
    caps.tx_offloads = options.tx_offloads;
    caps.max_segments = 2;
    let script = Rc::new(RefCell::new(Script {
        inbox: VecDeque::new(),
        sent: Vec::new(),
        room: usize::MAX,
        failure: None,
        stats: Stats::default(),
        waits: 0,
    }));
    let port = ScriptedPort { pool: pool.clone(), caps, script: Rc::clone(&script) };
    (port, Wire { pool, script })
}

/// A stack at both our addresses, and the wire.
pub fn stack<N: Neighbours>(refine: impl FnOnce(Config) -> Config<N>) -> (Stack<N>, Wire) {
    stack_on(&PoolOptions::new(256), refine)
}

pub fn stack_on<N: Neighbours>(
    options: &PoolOptions,
    refine: impl FnOnce(Config) -> Config<N>,
) -> (Stack<N>, Wire) {
    let (port, wire) = port(options);
    let config = Config::new(US, PORT)
        .address("10.0.0.1/24".parse().unwrap())
        .address("fd00::1/64".parse().unwrap());
    (UdpOverL2::new(port, refine(config)).unwrap(), wire)
}

impl Wire {
    pub fn arrive(&self, bytes: &[u8]) {
        self.arrive_with(bytes, RxMeta::default());
    }

    pub fn arrive_with(&self, bytes: &[u8], rx: RxMeta) {
        let mut frame = self.pool.alloc_rx().unwrap();
        frame.fill(bytes).unwrap();
        frame.set_meta(FrameMeta { rx, tx: TxMeta::default() });
        self.script.borrow_mut().inbox.push_back(frame);
    }

    /// A frame with no headroom at all.
    pub fn arrive_at_start(&self, bytes: &[u8]) {
        let mut frame = self.pool.alloc_rx().unwrap();
        frame.prepend(frame.headroom()).unwrap();
        frame.fill(bytes).unwrap();
        self.script.borrow_mut().inbox.push_back(frame);
    }

    /// A frame of two segments.
    pub fn arrive_in_pieces(&self, bytes: &[u8]) {
        let (front, back) = bytes.split_at(bytes.len() / 2);
        let [mut first, mut second] = [front, back].map(|part| {
            let mut frame = self.pool.alloc_rx().unwrap();
            frame.fill(part).unwrap();
            Some(frame)
        });
        let mut first = first.take().unwrap();
        first.chain(second.take().unwrap()).unwrap();
        self.script.borrow_mut().inbox.push_back(first);
    }

    /// What was sent since the last time.
    pub fn sent(&self) -> Vec<Sent> {
        std::mem::take(&mut self.script.borrow_mut().sent)
    }

    /// The one frame that was sent since the last time.
    pub fn sent_one(&self) -> Sent {
        let mut sent = self.sent();
        assert_eq!(sent.len(), 1, "{sent:?}");
        sent.remove(0)
    }

    /// From now on so many frames are taken, and no more.
    pub fn set_room(&self, frames: usize) {
        self.script.borrow_mut().room = frames;
    }

    /// The next `send` fails.
    pub fn fail_with(&self, error: Error) {
        self.script.borrow_mut().failure = Some(error);
    }

    /// How often the port was waited for.
    pub fn waits(&self) -> u64 {
        self.script.borrow().waits
    }

    pub fn pool(&self) -> &Pool<Scripted> {
        &self.pool
    }
}

impl PacketIo for ScriptedPort {
    type Frame = ScriptedFrame;

    fn recv(&mut self, out: &mut Burst<ScriptedFrame>) -> Result<usize> {
        let mut script = self.script.borrow_mut();
        let mut received = 0;
        while !out.is_full()
            && let Some(frame) = script.inbox.pop_front()
        {
            out.push(frame).unwrap();
            received += 1;
        }
        script.stats.rx_packets += received as u64;
        Ok(received)
    }

    fn alloc(&mut self, out: &mut Burst<ScriptedFrame>, n: usize) -> usize {
        self.pool.alloc(out, n)
    }

    fn send(&mut self, frames: &mut Burst<ScriptedFrame>) -> Result<usize> {
        let mut script = self.script.borrow_mut();
        if let Some(failure) = script.failure.take() {
            return Err(failure);
        }
        let taken = script.room.min(frames.len());
        script.room -= taken;
        for frame in frames.drain(taken) {
            let (bytes, meta) = (frame.data().to_vec(), frame.meta().tx);
            script.sent.push(Sent { end: frame.data().as_ptr_range().end, bytes, meta });
        }
        script.stats.tx_packets += taken as u64;
        Ok(taken)
    }
}

impl Endpoint for ScriptedPort {
    fn flush(&mut self) -> Result<()> {
        Ok(())
    }

    fn wait(&mut self, interest: Interest, timeout: Option<Duration>) -> Result<Ready> {
        self.script.borrow_mut().waits += 1;
        let script = self.script.borrow();
        let mut ready = Ready::empty();
        ready.set(Ready::RX, interest.contains(Interest::RX) && !script.inbox.is_empty());
        ready.set(Ready::TX, interest.contains(Interest::TX) && script.room > 0);
        if ready.is_empty() {
            std::thread::sleep(timeout.expect("nothing ever comes here of itself"));
        }
        Ok(ready)
    }

    fn caps(&self) -> &Caps {
        &self.caps
    }

    fn stats(&self) -> Stats {
        let mut stats = self.script.borrow().stats;
        stats.frames = Some(self.pool.census());
        stats
    }
}

// --- what happens to frames ---------------------------------------------------------------------

/// Receives once: the datagrams.
pub fn received<N: Neighbours>(stack: &mut Stack<N>) -> Burst<UdpDatagram<ScriptedFrame>> {
    let mut burst = Burst::with_capacity(64);
    stack.recv(&mut burst).unwrap();
    burst
}

/// Counters beyond [`Stats`].
pub fn counter<N: Neighbours>(stack: &Stack<N>, name: &str) -> u64 {
    let mut found = None;
    stack.visit_counters(&mut |this, value| {
        if this == name {
            found = Some(value);
        }
    });
    found.unwrap_or_else(|| panic!("no counter {name}"))
}

/// Everything that came in is delivered, was handled, or is counted as dropped.
pub fn assert_accounted<N: Neighbours>(stack: &Stack<N>) {
    let (above, below) = (stack.stats(), stack.port().stats());
    let handled = counter(stack, "control_received");
    let dropped: u64 = above
        .drops
        .iter()
        .filter(|(cause, _)| {
            use DropCause::{NeighbourQueueFull, NeighbourTimeout, TxAborted, TxError};
            !matches!(cause, NeighbourQueueFull | NeighbourTimeout | TxAborted | TxError)
        })
        .map(|(_, n)| n)
        .sum();
    assert_eq!(
        below.rx_packets,
        above.rx_packets + handled + dropped,
        "delivered {}, handled {handled}, {:?}",
        above.rx_packets,
        above.drops
    );
}

/// A datagram of ours with this in it.
pub fn compose<N: Neighbours>(
    stack: &mut Stack<N>,
    payload: &[u8],
) -> Burst<UdpDatagram<ScriptedFrame>> {
    let mut burst = Burst::with_capacity(64);
    assert_eq!(stack.alloc(&mut burst, 1), 1);
    burst[0].fill(payload).unwrap();
    burst
}

// --- packets ------------------------------------------------------------------------------------

/// An IPv4 datagram from the peer to us.
pub fn v4(payload: &[u8]) -> Vec<u8> {
    v4_to(US, US_V4, payload)
}

pub fn v4_to(station: MacAddr, host: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    etherparse::PacketBuilder::ethernet2(PEER.0, station.0)
        .ipv4(PEER_V4, host, 64)
        .udp(PEER_PORT, PORT)
        .write(&mut bytes, payload)
        .unwrap();
    bytes
}

/// An IPv6 datagram from the peer to us.
pub fn v6(payload: &[u8]) -> Vec<u8> {
    v6_to(US, US_V6, payload)
}

pub fn v6_to(station: MacAddr, host: [u8; 16], payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    etherparse::PacketBuilder::ethernet2(PEER.0, station.0)
        .ipv6(PEER_V6, host, 64)
        .udp(PEER_PORT, PORT)
        .write(&mut bytes, payload)
        .unwrap();
    bytes
}

/// An echo request from the peer to us.
pub fn ping_v4() -> Vec<u8> {
    let mut bytes = Vec::new();
    etherparse::PacketBuilder::ethernet2(PEER.0, US.0)
        .ipv4(PEER_V4, US_V4, 64)
        .icmpv4_echo_request(7, 9)
        .write(&mut bytes, b"how are you?")
        .unwrap();
    bytes
}

pub fn ping_v6() -> Vec<u8> {
    let mut bytes = Vec::new();
    etherparse::PacketBuilder::ethernet2(PEER.0, US.0)
        .ipv6(PEER_V6, US_V6, 64)
        .icmpv6_echo_request(7, 9)
        .write(&mut bytes, b"how are you?")
        .unwrap();
    bytes
}

/// An ARP message from the peer.
pub fn arp(operation: u16, sender: ([u8; 6], [u8; 4]), target: [u8; 4]) -> Vec<u8> {
    let station = if operation == 1 { [0xff; 6] } else { US.0 };
    let mut bytes = [&station[..], &PEER.0, &[8, 6, 0, 1, 8, 0, 6, 4]].concat();
    bytes.extend(operation.to_be_bytes());
    bytes.extend(sender.0);
    bytes.extend(sender.1);
    bytes.extend(if operation == 1 { [0; 6] } else { US.0 });
    bytes.extend(target);
    bytes
}

/// A neighbour discovery message; `kind` 135 asks for `target`, 136 advertises it.
pub fn ndp(kind: u8, flags: u8, from: [u8; 16], to: [u8; 16], target: [u8; 16]) -> Vec<u8> {
    let station = if to[0] == 0xff { [0x33, 0x33, to[12], to[13], to[14], to[15]] } else { US.0 };
    let mut message = vec![kind, 0, 0, 0, flags, 0, 0, 0];
    message.extend(target);
    if from != [0; 16] {
        message.extend([if kind == 135 { 1 } else { 2 }, 1]);
        message.extend(PEER.0);
    }
    icmpv6(MacAddr(station), from, to, 255, &message)
}

/// An ICMPv6 message of any kind.
pub fn icmpv6(station: MacAddr, from: [u8; 16], to: [u8; 16], hops: u8, message: &[u8]) -> Vec<u8> {
    let mut bytes = [&station.0[..], &PEER.0, &[0x86, 0xdd, 0x60, 0, 0, 0]].concat();
    bytes.extend((message.len() as u16).to_be_bytes());
    bytes.extend([58, hops]);
    bytes.extend(from);
    bytes.extend(to);
    bytes.extend(message);
    bytes[56..58].fill(0);
    let pseudo = [&from[..], &to, &[0, 0], &(message.len() as u16).to_be_bytes(), &[0, 0, 0, 58]];
    let sum = checksum(&[&pseudo.concat()[..], &bytes[54..]].concat());
    bytes[56..58].copy_from_slice(&sum);
    bytes
}

/// The solicited-node group of an address, and its station.
pub fn solicited(of: [u8; 16]) -> [u8; 16] {
    let mut group = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 0];
    group[13..].copy_from_slice(&of[13..]);
    group
}

/// As RFC 1071 has it.
pub fn checksum(bytes: &[u8]) -> [u8; 2] {
    let word = |pair: &[u8]| u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0));
    let mut sum: u64 = bytes.chunks(2).map(word).sum();
    while sum > 0xffff {
        sum = (sum >> 16) + (sum & 0xffff);
    }
    (!(sum as u16)).to_be_bytes()
}

/// Makes the checksum of an IPv4 header right again.
pub fn mend_ipv4(bytes: &mut [u8]) {
    let len = usize::from(bytes[14] & 0xf) * 4;
    bytes[24..26].fill(0);
    let sum = checksum(&bytes[14..14 + len]);
    bytes[24..26].copy_from_slice(&sum);
}

/// The datagram in a frame, judged by etherparse: addresses, ports, payload, and that every
/// checksum is right.
pub fn judged(frame: &[u8]) -> (IpAddr, IpAddr, u16, u16, Vec<u8>) {
    use etherparse::{NetHeaders, PacketHeaders, TransportHeader};
    let packet = PacketHeaders::from_ethernet_slice(frame).unwrap();
    let payload = packet.payload.slice().to_vec();
    let Some(TransportHeader::Udp(udp)) = packet.transport else { panic!("no UDP in {frame:?}") };
    let (from, to): (IpAddr, IpAddr) = match packet.net.unwrap() {
        NetHeaders::Ipv4(ip, _) => {
            assert_eq!(ip.calc_header_checksum(), ip.header_checksum, "IPv4 checksum");
            let sum = udp.calc_checksum_ipv4(&ip, &payload).unwrap();
            assert_eq!(sum, udp.checksum, "UDP checksum");
            (ip.source.into(), ip.destination.into())
        }
        NetHeaders::Ipv6(ip, _) => {
            let sum = udp.calc_checksum_ipv6(&ip, &payload).unwrap();
            assert_eq!(sum, udp.checksum, "UDP checksum");
            (ip.source.into(), ip.destination.into())
        }
        other => panic!("no IP in {other:?}"),
    };
    (from, to, udp.source_port, udp.destination_port, payload)
}
