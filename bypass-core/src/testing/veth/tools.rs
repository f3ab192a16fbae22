//! What the checks are made of: ports in the two namespaces of a veth pair, and frames to send.

use std::time::{Duration, Instant};

use super::Ports;
use crate::backend::packet::PacketOptions;
use crate::testing::rig::{Namespace, Veth, VethOptions};
use crate::{Buffer, Burst, Error, Interest, PacketIo, Ready};

/// How long to wait for what must come.
pub const PATIENCE: Option<Duration> = Some(Duration::from_secs(5));
/// EtherType for local experiments: no stack answers it.
pub const ETHERTYPE: [u8; 2] = [0x88, 0xb5];

pub(super) fn veth() -> Veth {
    Veth::new(&VethOptions::default()).unwrap()
}

pub(super) fn open<P: PacketIo>(
    ports: Ports<'_, P>,
    namespace: &Namespace,
    change: impl FnOnce(&mut PacketOptions),
) -> P {
    let _inside = namespace.enter().unwrap();
    let mut options = PacketOptions::new(Veth::NAME);
    change(&mut options);
    ports(&options).unwrap()
}

pub(super) fn pair<P: PacketIo>(ports: Ports<'_, P>, veth: &Veth) -> (P, P) {
    (open(ports, &veth.a, |_| {}), open(ports, &veth.b, |_| {}))
}

/// A frame from side a to side b, with this behind the addresses.
pub fn frame(rest: &[u8]) -> Vec<u8> {
    [&Veth::MAC[1].0[..], &Veth::MAC[0].0, rest].concat()
}

/// A frame of `len` bytes that no stack answers.
pub fn numbered(number: u16, len: usize) -> Vec<u8> {
    let mut bytes = frame(&[&ETHERTYPE[..], &number.to_be_bytes()].concat());
    bytes.resize(len, number as u8);
    bytes
}

/// A burst of these frames, in buffers of the port.
pub fn compose<P: PacketIo>(port: &mut P, frames: &[Vec<u8>]) -> Burst<P::Frame> {
    let mut burst = Burst::with_capacity(frames.len());
    assert_eq!(port.alloc(&mut burst, frames.len()), frames.len());
    for (frame, bytes) in burst.iter_mut().zip(frames) {
        frame.fill(bytes).unwrap();
    }
    burst
}

/// Sends these frames, all at once.
pub fn send<P: PacketIo>(port: &mut P, frames: &[Vec<u8>]) {
    let mut burst = compose(port, frames);
    assert_eq!(port.send(&mut burst).unwrap(), frames.len());
    port.flush().unwrap();
}

/// How many frames a port has sent, once none is in flight any more.
pub(super) fn sent<P: PacketIo>(port: &mut P) -> u64 {
    let deadline = Instant::now() + Duration::from_secs(5);
    while port.stats().tx_in_flight > 0 {
        port.flush().unwrap();
        assert!(Instant::now() < deadline, "{:?}", port.stats());
    }
    port.stats().tx_packets
}

/// The error that is news: told by the wait, or by the call that it is followed by.
pub(super) fn bad_news<P: PacketIo>(port: &mut P) -> Error {
    match port.wait(Interest::RX, PATIENCE) {
        Err(error) => error,
        Ok(ready) => {
            assert_eq!(ready, Ready::RX, "the error is news");
            port.recv(&mut Burst::with_capacity(8)).unwrap_err()
        }
    }
}

/// A port as asked for, unless the backend refuses by type what it does not have.
pub(super) fn offered<P: PacketIo>(
    ports: Ports<'_, P>,
    namespace: &Namespace,
    change: impl FnOnce(&mut PacketOptions),
) -> Option<P> {
    let _inside = namespace.enter().unwrap();
    let mut options = PacketOptions::new(Veth::NAME);
    change(&mut options);
    match ports(&options) {
        Ok(port) => Some(port),
        Err(Error::Unsupported(_)) => None,
        Err(error) => panic!("{error}"),
    }
}

/// Receives until `wanted` has been true for `n` frames, and returns those.
pub fn receive<P: PacketIo>(
    port: &mut P,
    n: usize,
    mut wanted: impl FnMut(&P::Frame) -> bool,
) -> Vec<P::Frame> {
    let (mut seen, mut burst) = (Vec::new(), Burst::with_capacity(64));
    while seen.len() < n {
        let ready = port.wait(Interest::RX, PATIENCE).unwrap();
        assert_eq!(ready, Ready::RX, "{} of {n} frames came", seen.len());
        port.recv(&mut burst).unwrap();
        while let Some(frame) = burst.pop_front() {
            if wanted(&frame) {
                seen.push(frame);
            }
        }
    }
    seen
}

/// Whether a frame is a [`numbered`] one.
pub fn is_ours(frame: &impl Buffer) -> bool {
    frame.data()[12..14] == ETHERTYPE
}

/// Whether a frame is UDP over IPv4.
pub fn is_udp(frame: &impl Buffer) -> bool {
    frame.data()[12..14] == [8, 0] && frame.data()[23] == 17
}
