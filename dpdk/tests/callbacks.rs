//! Functions that want to see a queue's packets (packet capture is one) are called, though the bursts are
//! in Rust.

#![allow(clippy::unwrap_used, reason = "helpers are part of the tests")]
#![allow(unsafe_code, reason = "the raw crate has the functions that add them")]

mod common;

use std::ffi::c_void;
use std::sync::atomic::{AtomicU64, Ordering};

use bypass_core::{Burst, Frame as _, PacketIo as _};
use bypass_dpdk::PortOptions;
use bypass_dpdk_sys as sys;
use common::*;

static RECEIVED: AtomicU64 = AtomicU64::new(0);
static SENT: AtomicU64 = AtomicU64::new(0);

unsafe extern "C" fn on_receive(
    _port: u16,
    _queue: u16,
    _packets: *mut *mut sys::rte_mbuf,
    n: u16,
    most: u16,
    _argument: *mut c_void,
) -> u16 {
    assert!(n <= most);
    RECEIVED.fetch_add(n.into(), Ordering::Relaxed);
    n
}

unsafe extern "C" fn on_send(
    _port: u16,
    _queue: u16,
    _packets: *mut *mut sys::rte_mbuf,
    n: u16,
    _argument: *mut c_void,
) -> u16 {
    SENT.fetch_add(n.into(), Ordering::Relaxed);
    n
}

#[test]
fn they_see_every_packet_until_they_are_removed() {
    let pool = pool(255);
    let (_device, port) = started("net_ring", "", &PortOptions::new(&pool)).unwrap();
    let mut pair = port.queue_pair(0).unwrap();
    let mut packets = Burst::with_capacity(32);
    let mut round = |n: usize| {
        let some = (0..n).map(|_| packet(&pool, &[0xff; 60]));
        assert_eq!(packets.fill_from(some), n);
        send_all(&mut pair, &mut packets);
        assert_eq!(pair.recv(&mut packets).unwrap(), n);
        assert!(packets.iter().all(|packet| packet.rx_meta().queue == 0));
        packets.clear();
        (SENT.load(Ordering::Relaxed), RECEIVED.load(Ordering::Relaxed))
    };
    assert_eq!(round(7), (0, 0));
    let id = port.id();
    // SAFETY: the port is started and has the queue; the functions take any packets.
    let receiving =
        unsafe { sys::rte_eth_add_rx_callback(id, 0, Some(on_receive), std::ptr::null_mut()) };
    // SAFETY: as above.
    let sending =
        unsafe { sys::rte_eth_add_tx_callback(id, 0, Some(on_send), std::ptr::null_mut()) };
    assert!(!receiving.is_null() && !sending.is_null());
    assert_eq!(round(10), (10, 10));
    assert_eq!(round(1), (11, 11));
    // SAFETY: they were added to this queue, which nobody uses meanwhile.
    assert_eq!(unsafe { sys::rte_eth_remove_rx_callback(id, 0, receiving) }, 0);
    // SAFETY: as above.
    assert_eq!(unsafe { sys::rte_eth_remove_tx_callback(id, 0, sending) }, 0);
    assert_eq!(round(5), (11, 11));
}
