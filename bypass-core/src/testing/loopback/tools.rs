//! What the checks are made of: endpoints on the loopback interface, and the standard library's
//! sockets to talk to.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use super::Sockets;
use crate::backend::socket::UdpOptions;
use crate::{Burst, Datagram, DatagramIo, DatagramIoExt, Interest, Ready, RecvMeta, Transmit};

/// How long to wait for what must come.
pub const PATIENCE: Option<Duration> = Some(Duration::from_secs(5));

pub(super) fn open<D: DatagramIo>(
    sockets: Sockets<'_, D>,
    local: &str,
    change: impl FnOnce(&mut UdpOptions),
) -> D {
    let mut options = UdpOptions::new(local.parse().unwrap());
    change(&mut options);
    sockets(&options).unwrap()
}

/// A socket of the standard library, which knows nothing of trains.
pub fn std_socket() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(PATIENCE).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// What the next datagram holds. A kernel thread of a ring that comes or goes interrupts a system call
/// of its owner, which a socket with a timeout tells.
pub fn take(socket: &UdpSocket, buffer: &mut [u8]) -> (usize, SocketAddr) {
    loop {
        match socket.recv_from(buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            answer => return answer.unwrap(),
        }
    }
}

/// Composes one datagram for each payload.
pub fn compose<'a, D: DatagramIo>(
    socket: &mut D,
    to: SocketAddr,
    payloads: impl IntoIterator<Item = &'a [u8]>,
) -> Burst<D::Datagram> {
    let mut burst = Burst::with_capacity(128);
    for payload in payloads {
        assert!(socket.compose(payload, to, &mut burst).unwrap(), "no buffer left");
    }
    burst
}

/// Receives until `n` datagrams are there.
pub fn receive<D: DatagramIo>(socket: &mut D, n: usize) -> Burst<D::Datagram> {
    let mut burst = Burst::with_capacity(128);
    while burst.len() < n {
        let ready = socket.wait(Interest::RX, PATIENCE).unwrap();
        assert_eq!(ready, Ready::RX, "{} of {n} datagrams came", burst.len());
        socket.recv(&mut burst).unwrap();
    }
    burst
}

/// Sends one datagram with a transmit of its own and returns what the receiver learned.
pub fn learn<D: DatagramIo>(from: &mut D, to: &mut D, transmit: Transmit) -> RecvMeta {
    let mut burst = compose(from, transmit.destination.unwrap(), [&b"x"[..]]);
    burst[0].set_transmit(transmit);
    assert_eq!(from.send(&mut burst).unwrap(), 1);
    receive(to, 1)[0].recv_meta()
}

/// The endpoint's own counter of this name.
pub fn counter<D: DatagramIo>(socket: &D, name: &str) -> u64 {
    let mut found = None;
    socket.visit_counters(&mut |counter, value| {
        if counter == name {
            found = Some(value);
        }
    });
    found.unwrap_or_else(|| panic!("no counter {name}"))
}
