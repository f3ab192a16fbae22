//! [`Channel`]: packets and datagrams seen alike, so that each check is written once.

use std::net::SocketAddr;

use crate::{Buffer, Burst, Datagram, DatagramIo, Endpoint, PacketIo, Result};

/// One end of a pair: an endpoint that knows how to address the other end.
pub trait Channel {
    /// The endpoint.
    type Endpoint: Endpoint;
    /// What it moves.
    type Unit: Buffer;

    /// The endpoint.
    fn endpoint(&mut self) -> &mut Self::Endpoint;
    /// `recv` of the endpoint.
    ///
    /// # Errors
    ///
    /// As the endpoint's.
    fn recv(&mut self, out: &mut Burst<Self::Unit>) -> Result<usize>;
    /// `alloc` of the endpoint.
    fn alloc(&mut self, out: &mut Burst<Self::Unit>, n: usize) -> usize;
    /// `send` of the endpoint.
    ///
    /// # Errors
    ///
    /// As the endpoint's.
    fn send(&mut self, units: &mut Burst<Self::Unit>) -> Result<usize>;
    /// Makes `unit` a packet to the other end.
    fn address(&self, unit: &mut Self::Unit);
    /// Tells packets of this pair from those of an earlier one.
    fn run(&self) -> u64;
    /// What comes before the part of a packet that a check may fill.
    const HEADER: &'static [u8];
}

/// A packet queue.
#[derive(Debug)]
pub struct Packets<P> {
    port: P,
    run: u64,
}

impl<P: PacketIo> Packets<P> {
    pub(super) fn new(port: P, run: u64) -> Self {
        Self { port, run }
    }
}

impl<P: PacketIo> Channel for Packets<P> {
    type Endpoint = P;
    type Unit = P::Frame;

    /// To all stations, from a locally administered address, of the EtherType that IEEE 802 keeps
    /// for experiments: no stack answers it.
    const HEADER: &'static [u8] =
        &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 9, 0x88, 0xb5];

    fn endpoint(&mut self) -> &mut P {
        &mut self.port
    }

    fn recv(&mut self, out: &mut Burst<P::Frame>) -> Result<usize> {
        self.port.recv(out)
    }

    fn alloc(&mut self, out: &mut Burst<P::Frame>, n: usize) -> usize {
        self.port.alloc(out, n)
    }

    fn send(&mut self, units: &mut Burst<P::Frame>) -> Result<usize> {
        self.port.send(units)
    }

    fn address(&self, _unit: &mut P::Frame) {}

    fn run(&self) -> u64 {
        self.run
    }
}

/// A datagram endpoint and the address of the other end.
#[derive(Debug)]
pub struct Datagrams<D> {
    socket: D,
    peer: SocketAddr,
    run: u64,
}

impl<D: DatagramIo> Datagrams<D> {
    pub(super) fn new(socket: D, peer: SocketAddr, run: u64) -> Self {
        Self { socket, peer, run }
    }

    pub(super) fn peer(&self) -> SocketAddr {
        self.peer
    }
}

impl<D: DatagramIo> Channel for Datagrams<D> {
    type Endpoint = D;
    type Unit = D::Datagram;

    const HEADER: &'static [u8] = &[];

    fn endpoint(&mut self) -> &mut D {
        &mut self.socket
    }

    fn recv(&mut self, out: &mut Burst<D::Datagram>) -> Result<usize> {
        self.socket.recv(out)
    }

    fn alloc(&mut self, out: &mut Burst<D::Datagram>, n: usize) -> usize {
        self.socket.alloc(out, n)
    }

    fn send(&mut self, units: &mut Burst<D::Datagram>) -> Result<usize> {
        self.socket.send(units)
    }

    fn address(&self, unit: &mut D::Datagram) {
        unit.send_to(self.peer);
    }

    fn run(&self) -> u64 {
        self.run
    }
}
