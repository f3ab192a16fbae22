//! Everything may be dropped in every order.

#![allow(clippy::unwrap_used, reason = "helpers are part of the tests")]

mod common;

use std::any::Any;

use bypass_core::{Buffer, Burst};
use bypass_dpdk::{Mempool, MempoolOptions, Port, PortOptions, Vdev};
use common::*;

const HEADER: &[u8] = b"to..tofromfr\x88\xb5";

/// Calls `show` with every order of `0..n`.
fn orders(n: usize, show: &mut impl FnMut(&[usize])) {
    fn go(order: &mut Vec<usize>, fixed: usize, show: &mut impl FnMut(&[usize])) {
        if fixed == order.len() {
            return show(order);
        }
        for i in fixed..order.len() {
            order.swap(fixed, i);
            go(order, fixed + 1, show);
            order.swap(fixed, i);
        }
    }
    go(&mut (0..n).collect(), 0, show);
}

/// Device, port, both queues, pool, received packets and a shared one: 5 040 orders, with packets in the
/// ring all the while. The same names are free again after each.
#[test]
fn everything_may_go_in_every_order() {
    let (device_name, pool_name) = (format!("net_ring{}", number()), "every-order".to_owned());
    let mut seen = 0;
    orders(7, &mut |order| {
        let options =
            MempoolOptions { name: Some(pool_name.clone()), cache: 0, ..MempoolOptions::new(63) };
        let pool =
            Mempool::new(&eal(), &options).unwrap_or_else(|error| panic!("{order:?}: {error}"));
        let device = Vdev::plug(&eal(), &device_name, "").unwrap();
        let port =
            Port::open(&eal(), &device_name).unwrap().start(&PortOptions::new(&pool)).unwrap();
        let (mut rx, mut tx) = (port.rx_queue(0).unwrap(), port.tx_queue(0).unwrap());
        let mut packets = burst((0..20).map(|_| packet(&pool, HEADER)));
        tx.send(&mut packets).unwrap();
        let mut received = Burst::with_capacity(10);
        assert_eq!(rx.recv(&mut received), 10);
        let shared = packet(&pool, HEADER).share();
        let clone = shared.try_clone(&pool).unwrap();
        drop(shared);
        let mut things: Vec<Option<Box<dyn Any>>> = vec![
            Some(Box::new(device)),
            Some(Box::new(port)),
            Some(Box::new(rx)),
            Some(Box::new(tx)),
            Some(Box::new(pool)),
            Some(Box::new(received)),
            Some(Box::new(clone)),
        ];
        for &i in order {
            drop(things[i].take());
            // What is left is whole.
            let packets = things[5].as_ref().and_then(|thing| thing.downcast_ref::<Burst<_>>());
            let packets: Option<&Burst<bypass_dpdk::Mbuf>> = packets;
            assert!(packets.into_iter().flat_map(|all| all.iter()).all(|one| one.data() == HEADER));
        }
        seen += 1;
    });
    assert_eq!(seen, 5040);
}

/// A handle that is forgotten keeps what it needs, and nothing else is harmed.
#[test]
fn forgetting_anything_leaks_and_no_more() {
    for forgotten in 0..4 {
        let pool = pool(63);
        let (device, port) = started("net_ring", "", &PortOptions::new(&pool)).unwrap();
        let (mut rx, mut tx) = (port.rx_queue(0).unwrap(), port.tx_queue(0).unwrap());
        let mut packets = burst([packet(&pool, HEADER)]);
        match forgotten {
            0 => std::mem::forget(device),
            1 => std::mem::forget(port.rx_queue(0)),
            2 => std::mem::forget(port),
            _ => std::mem::forget(pool),
        }
        tx.send(&mut packets).unwrap();
        let mut received = Burst::with_capacity(10);
        assert_eq!(rx.recv(&mut received), 1);
        assert_eq!(received[0].data(), HEADER);
    }
}
