//! UDP in user space on a driver of the kernel's, which is the client.

#![allow(clippy::unwrap_used, reason = "helpers are part of the tests")]

mod common;

use std::net::UdpSocket;
use std::time::Duration;

use bypass_core::testing::needs::{Need, skip};
use bypass_core::testing::rig::Namespace;
use bypass_core::udp::{Config, UdpOverL2};
use bypass_core::{Burst, Datagram, DatagramIo, Endpoint, MacAddr};
use bypass_dpdk::PortOptions;
use common::*;

const PATIENCE: Duration = Duration::from_secs(10);

/// The kernel asks for the station, verifies every checksum, and sees each datagram come back.
#[test]
fn the_kernel_talks_to_a_server_behind_a_tap() {
    if skip(&[Need::Namespaces]) {
        return;
    }
    let namespace = Namespace::new().unwrap();
    let _inside = namespace.enter().unwrap();
    let (_device, port) = tap(&namespace, &PortOptions::new(&pool(4095)));
    namespace.ip("link set tap0 up").unwrap();
    // The interface has the port's address; the server is another station.
    let config =
        Config::new(MacAddr([2, 0, 0, 0, 0, 9]), 7).address("10.77.0.2/24".parse().unwrap());
    let mut server = UdpOverL2::new(port.queue_pair(0).unwrap(), config).unwrap();
    std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            let _inside = namespace.enter().unwrap();
            let socket = UdpSocket::bind("10.77.0.1:0").unwrap();
            socket.connect("10.77.0.2:7").unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            let mut answer = [0; 2048];
            for round in 0..500u16 {
                let question = vec![round as u8; usize::from(round) * 2 + 1];
                socket.send(&question).unwrap();
                let n = socket.recv(&mut answer).unwrap();
                assert_eq!(answer[..n], question, "round {round}");
            }
        });
        let mut burst = Burst::with_capacity(32);
        while !client.is_finished() {
            server.recv(&mut burst).unwrap();
            burst.iter_mut().for_each(|datagram| datagram.reply());
            if !burst.is_empty() {
                server.send(&mut burst).unwrap();
            }
            server.flush().unwrap();
        }
        client.join().unwrap();
    });
    assert_eq!(server.stats().rx_packets, 500);
    assert_eq!(server.stats().tx_packets, 500);
}
