//! Ports: opening, starting, stopping, and what is refused.

#![allow(clippy::unwrap_used, reason = "helpers are part of the tests")]

mod common;

use std::sync::atomic::{AtomicBool, Ordering};

use bypass_core::{
    Buffer, Burst, DropCause, Endpoint, Error, Frame, FrameError, Interest, MacAddr, PacketIo,
    Ready,
};
use bypass_dpdk::{
    DpdkError, Features, Mbuf, Mempool, MempoolOptions, Port, PortOptions, QueuePair, Rss,
    RssTypes, TxOffload, Vdev,
};
use bypass_dpdk_sys as sys;
use common::*;

const HEADER: &[u8] = b"to..tofromfr\x88\xb5";

fn dpdk_error(error: &Error) -> &DpdkError {
    match error {
        Error::Backend { source, .. } => source.downcast_ref().expect("an error of DPDK's"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_port_is_opened_by_its_name_and_once() {
    let name = format!("net_ring{}", number());
    let missing = Port::open(&eal(), &name).unwrap_err();
    assert!(matches!(missing, Error::Config { setting, .. } if setting == "port"));
    let device = Vdev::plug(&eal(), &name, "").unwrap();
    let port = Port::open(&eal(), &name).unwrap();
    assert_eq!((port.name(), device.ports()), (name.as_str(), vec![port.id()]));
    let again = Port::open(&eal(), &name).unwrap_err();
    assert!(again.to_string().contains("open already"), "{again}");
    assert!(matches!(dpdk_error(&again), DpdkError::Refused { .. }));
    // Closed, it is gone; plugged in again, the device has another.
    drop(port);
    Port::open(&eal(), &name).unwrap_err();
    device.unplug().unwrap();
    let _device = Vdev::plug(&eal(), &name, "").unwrap();
    Port::open(&eal(), &name).unwrap();
}

/// Some drivers drive the ports of others (`net_netvsc`), and say so.
#[test]
#[expect(unsafe_code, reason = "another part of the program is what uses the raw crate")]
fn a_port_that_somebody_else_drives_is_not_opened() {
    let name = format!("net_ring{}", number());
    let device = Vdev::plug(&eal(), &name, "").unwrap();
    let id = device.ports()[0];
    let mut owner = sys::rte_eth_dev_owner { id: 0, name: [0; 64] };
    // SAFETY: there is room for the number.
    assert_eq!(unsafe { sys::rte_eth_dev_owner_new(&raw mut owner.id) }, 0);
    // SAFETY: the owner is filled in.
    assert_eq!(unsafe { sys::rte_eth_dev_owner_set(id, &raw const owner) }, 0);
    let refused = Port::open(&eal(), &name).unwrap_err();
    assert!(refused.to_string().contains("another part of the program has it"), "{refused}");
    // SAFETY: as above.
    assert_eq!(unsafe { sys::rte_eth_dev_owner_unset(id, owner.id) }, 0);
    Port::open(&eal(), &name).unwrap();
}

/// Nobody looks into a port that somebody else is just closing.
#[test]
fn devices_come_and_go_while_others_are_looked_at() {
    let until = std::time::Instant::now() + std::time::Duration::from_secs(2);
    let one = |number: u32| {
        let name = format!("net_null{number}");
        while std::time::Instant::now() < until {
            let device = Vdev::plug(&eal(), &name, "").unwrap();
            let port = Port::open(&eal(), &name).unwrap();
            assert_eq!(device.ports(), [port.id()]);
            drop(port);
            assert!(device.ports().is_empty());
        }
    };
    std::thread::scope(|scope| {
        (0..3).map(|_| number()).for_each(|number| drop(scope.spawn(move || one(number))));
    });
}

#[test]
fn what_a_port_cannot_do_is_refused_before_it_is_touched() {
    let pool = pool(1023);
    let name = format!("net_ring{}", number());
    let _device = Vdev::plug(&eal(), &name, "").unwrap();
    let mut port = Port::open(&eal(), &name).unwrap();
    let new = || PortOptions::new(&pool);
    let tiny = Mempool::new(&eal(), &MempoolOptions { data_room: 512, ..MempoolOptions::new(63) })
        .unwrap();
    let empty =
        Mempool::new(&eal(), &MempoolOptions { data_room: 0, ..MempoolOptions::new(63) }).unwrap();
    let rss = |rss| PortOptions { rss: Some(rss), ..new() };
    for (options, setting) in [
        (PortOptions { rx_queues: 1000, ..new() }, "rx_queues"),
        (PortOptions { tx_queues: 1000, ..new() }, "tx_queues"),
        (PortOptions { rx_queues: 0, tx_queues: 0, ..new() }, "rx_queues"),
        // They would be full of packets that nobody can receive.
        (PortOptions { rx_queues: 0, ..new() }, "tx_queues"),
        (PortOptions { pools: Vec::new(), ..new() }, "pools"),
        (PortOptions { pools: vec![empty], ..new() }, "pools"),
        (PortOptions { mtu: Some(1), ..new() }, "mtu"),
    ] {
        let refused = port.start(&options).unwrap_err();
        match &refused.error {
            Error::Config { setting: named, .. } => assert_eq!(named, setting),
            other => panic!("{setting}: {other:?}"),
        }
        port = refused.port;
    }
    for options in [
        PortOptions { require: Features::TX_TCP_SEGMENTATION, ..new() },
        rss(Rss::new(RssTypes::UDP)),
        PortOptions { rx_interrupts: true, ..new() },
    ] {
        let refused = port.start(&options).unwrap_err();
        assert!(matches!(refused.error, Error::Unsupported(_)), "{refused:?}");
        assert!(refused.error.to_string().contains("net_ring"), "{refused}");
        port = refused.port;
    }
    // What is only preferred is told, and the rest is had.
    let prefer = Features::TX_TCP_SEGMENTATION | Features::RX_TIMESTAMP;
    let port = port.start(&PortOptions { prefer, pools: vec![tiny], ..new() });
    let port = match port {
        Ok(port) => port,
        Err(refused) => panic!("{refused}"),
    };
    let fallbacks = port.report().fallbacks.join("; ");
    for part in ["TX_TCP_SEGMENTATION", "RX_TIMESTAMP", "512 bytes"] {
        assert!(fallbacks.contains(part), "{part} is not in {fallbacks:?}");
    }
    assert_eq!(port.queue_pair(0).unwrap().caps().fallbacks, port.report().fallbacks);
}

#[test]
fn each_queue_has_one_user() {
    let (_device, port) = started("net_null", "", &PortOptions::new(&pool(1023))).unwrap();
    let queue = port.rx_queue(0).unwrap();
    let taken = port.rx_queue(0).unwrap_err();
    assert!(taken.to_string().contains("one user"), "{taken}");
    port.queue_pair(0).unwrap_err();
    let missing = port.tx_queue(1).unwrap_err();
    assert!(missing.to_string().contains("started with 1"), "{missing}");
    // The pair that was refused has given its half back.
    drop(port.tx_queue(0).unwrap());
    drop(queue);
    drop(port.queue_pair(0).unwrap());
    port.queue_pair(0).unwrap();
}

#[test]
fn a_port_is_stopped_when_nobody_uses_it_and_starts_again() {
    let (pool, name) = (pool(4095), format!("net_ring{}", number()));
    let device = Vdev::plug(&eal(), &name, "").unwrap();
    let mut port = Port::open(&eal(), &name).unwrap();
    for queues in [1, 3, 2] {
        let options =
            PortOptions { rx_queues: queues, tx_queues: queues, ..PortOptions::new(&pool) };
        let started = port.start(&options).unwrap();
        started.queue_pair(queues).unwrap_err();
        let mut pair = started.queue_pair(queues - 1).unwrap();
        let mut packets = burst([packet(&pool, HEADER), packet(&pool, HEADER)]);
        send_all(&mut pair, &mut packets);
        assert_eq!(pair.recv(&mut packets).unwrap(), 2);
        send_all(&mut pair, &mut packets);
        let refused = started.stop().unwrap_err();
        assert!(refused.to_string().contains("in use 2 times"), "{refused}");
        // Still running.
        assert_eq!(pair.recv(&mut packets).unwrap(), 2);
        send_all(&mut pair, &mut packets);
        drop(pair);
        port = refused.port.stop().unwrap();
        assert_eq!(pool.in_use(), 0, "what was in the ring is freed");
    }
    drop(port);
    device.unplug().unwrap();
}

#[test]
fn a_port_is_not_stopped_under_traffic() {
    let pools = [pool(4095), pool(4095)];
    let options = PortOptions {
        pools: pools.to_vec(),
        rx_queues: 2,
        tx_queues: 2,
        ..PortOptions::new(&pools[0])
    };
    let (device, port) = started("net_ring", "", &options).unwrap();
    let mut a = QueuePair::new(port.rx_queue(0).unwrap(), port.tx_queue(1).unwrap());
    let mut b = QueuePair::new(port.rx_queue(1).unwrap(), port.tx_queue(0).unwrap());
    let (over, all_sent) = (AtomicBool::new(false), AtomicBool::new(false));
    let port = std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let mut packets = Burst::with_capacity(32);
            let mut sent = 0u64;
            // Once at least, however late it comes to run.
            loop {
                a.alloc(&mut packets, 32);
                packets.iter_mut().for_each(|packet| packet.fill(HEADER).unwrap());
                sent += a.send(&mut packets).unwrap() as u64;
                if over.load(Ordering::Relaxed) {
                    return sent;
                }
            }
        });
        let receiver = scope.spawn(|| {
            let (mut packets, mut got) = (Burst::with_capacity(32), 0u64);
            loop {
                let last = all_sent.load(Ordering::Acquire);
                let n = b.recv(&mut packets).unwrap();
                assert!(packets.iter().all(|packet| packet.data() == HEADER));
                packets.clear();
                got += n as u64;
                if last && n == 0 {
                    return got;
                }
            }
        });
        let mut port = port;
        for _ in 0..1000 {
            port = port.stop().unwrap_err().port;
            std::thread::yield_now();
        }
        over.store(true, Ordering::Relaxed);
        let sent = sender.join().unwrap();
        all_sent.store(true, Ordering::Release);
        assert_eq!((sent, sent > 0), (receiver.join().unwrap(), true));
        port
    });
    drop((a, b));
    port.stop().unwrap();
    device.unplug().unwrap();
}

#[test]
fn a_device_is_not_pulled_while_a_queue_lives() {
    let pool = pool(1023);
    let (device, port) = started("net_ring", "", &PortOptions::new(&pool)).unwrap();
    let mut pair = port.queue_pair(0).unwrap();
    let (device, error) = device.unplug().unwrap_err();
    assert!(matches!(error, DpdkError::DeviceInUse { .. }), "{error}");
    drop((device, port));
    // Nobody has a handle any more, and the queue works.
    let mut packets = burst([packet(&pool, HEADER)]);
    send_all(&mut pair, &mut packets);
    assert_eq!(pair.recv(&mut packets).unwrap(), 1);
}

#[test]
fn address_and_modes_are_set_and_read() {
    let (_device, port) = started("net_null", "", &PortOptions::new(&pool(1023))).unwrap();
    let address = MacAddr([2, 0, 0, 1, 2, 3]);
    port.set_mac(address).unwrap();
    assert_eq!(port.mac().unwrap(), address);
    let group = port.set_mac(MacAddr([0xff; 6])).unwrap_err();
    assert!(matches!(dpdk_error(&group), DpdkError::Refused { .. }), "{group}");
    let (_device, port) = started("net_ring", "", &PortOptions::new(&pool(1023))).unwrap();
    for on in [true, false, true] {
        port.set_promiscuous(on).unwrap();
        assert_eq!(port.is_promiscuous().unwrap(), on);
        port.set_all_multicast(on).unwrap();
        assert_eq!(port.is_all_multicast().unwrap(), on);
    }
    assert!(port.link().unwrap().is_up);
    assert_eq!(port.socket().is_some(), port.capabilities().unwrap().socket.is_some());
}

#[test]
fn what_can_never_be_sent_is_refused_with_the_reason_and_stays_first() {
    let pool = pool(1023);
    let (_device, port) = started("net_ring", "", &PortOptions::new(&pool)).unwrap();
    let mut pair = port.queue_pair(0).unwrap();
    let long = |len: usize, tagged: bool| {
        let mut packet = packet(&pool, HEADER);
        packet.set_len(len).unwrap();
        if tagged {
            packet.data_mut()[12..14].copy_from_slice(&[0x81, 0]);
        }
        packet
    };
    let mut chain = packet(&pool, HEADER);
    chain.chain(packet(&pool, b"more")).unwrap();
    let mut asking = long(100, false);
    asking.offload(TxOffload { vlan: Some(1), ..TxOffload::default() }).unwrap();
    for (bad, part) in [
        (long(13, false), "at least 14"),
        (long(1515, false), "the limit here is 1514"),
        (long(1519, true), "the limit here is 1518"),
        (chain, "2 segments"),
        (asking, "offload"),
    ] {
        let mut packets = burst([packet(&pool, HEADER), bad, packet(&pool, HEADER)]);
        assert_eq!(pair.send(&mut packets).unwrap(), 1, "{part}");
        for _ in 0..2 {
            let error = pair.send(&mut packets).unwrap_err();
            assert!(matches!(error, Error::Frame { .. }), "{error:?}");
            assert!(error.to_string().contains(part), "{part:?} is not in {error}");
            assert_eq!(packets.len(), 2);
        }
        drop(packets.pop_front());
        assert_eq!(pair.send(&mut packets).unwrap(), 1);
    }
    let mut packets = burst([long(1514, false), long(1518, true)]);
    assert_eq!(pair.send(&mut packets).unwrap(), 2);
    // The same for packets that others hold.
    let mut tx = port.tx_queue(0).unwrap_err();
    assert!(tx.to_string().contains("one user"), "{tx}");
    let mut shared = vec![long(1515, false).share()];
    tx = pair.tx().send_shared(&mut shared).unwrap_err();
    assert!(matches!(tx, Error::Frame { cause: FrameError::TooLong { .. }, .. }), "{tx}");
    assert_eq!(shared.len(), 1);
}

#[test]
fn chains_are_sent_where_they_were_asked_for() {
    let pool = pool(1023);
    let require = Features::TX_MULTI_SEGMENT;
    let options = PortOptions { require, ..PortOptions::new(&pool) };
    let (_device, port) = started("net_ring", "", &options).unwrap();
    let mut pair = port.queue_pair(0).unwrap();
    assert!(pair.caps().max_segments > 2);
    let mut chain = packet(&pool, HEADER);
    chain.chain(packet(&pool, b"more")).unwrap();
    let mut packets = burst([chain]);
    assert_eq!(pair.send(&mut packets).unwrap(), 1);
    assert_eq!(pair.recv(&mut packets).unwrap(), 1);
    assert_eq!((bytes(&packets[0]), packets[0].segment_count()), ([HEADER, b"more"].concat(), 2));
    packets[0].append(0).unwrap();
    let empty = packets[0].split_next().unwrap();
    packets[0].chain(packet(&pool, b"")).unwrap();
    packets[0].chain(empty).unwrap();
    let error = pair.send(&mut packets).unwrap_err().to_string();
    assert!(error.contains("empty segments"), "{error}");
}

#[test]
fn packets_tell_the_queue_that_they_came_from() {
    let pool = pool(1023);
    let options = PortOptions { rx_queues: 3, tx_queues: 3, ..PortOptions::new(&pool) };
    let (_device, port) = started("net_ring", "", &options).unwrap();
    for queue in [2, 0, 1] {
        let mut pair = port.queue_pair(queue).unwrap();
        let mut packets = burst([packet(&pool, HEADER)]);
        send_all(&mut pair, &mut packets);
        pair.recv(&mut packets).unwrap();
        assert_eq!(packets[0].rx_meta().queue, queue);
        // The ring passes packets on as they are, or writes this into them (DPDK 24.11).
        assert!(packets[0].port().is_none_or(|id| id == port.id()));
    }
}

#[test]
fn a_full_ring_takes_what_fits_and_an_empty_pool_receives_nothing() {
    let pool = pool(4095);
    let (_device, port) = started("net_ring", "", &PortOptions::new(&pool)).unwrap();
    let mut pair = port.queue_pair(0).unwrap();
    let (mut packets, mut taken) = (Burst::with_capacity(100), 0);
    loop {
        pair.alloc(&mut packets, 100);
        packets.iter_mut().for_each(|packet| packet.fill(HEADER).unwrap());
        let n = pair.send(&mut packets).unwrap();
        taken += n;
        if n < 100 {
            break;
        }
    }
    let left = packets.len();
    assert_eq!((taken + left) % 100, 0, "none is lost");
    packets.clear();
    let mut arrived = 0;
    while pair.recv(&mut packets).unwrap() > 0 {
        arrived += packets.len();
        packets.clear();
    }
    assert_eq!(arrived, taken);
    assert_eq!((pair.stats().tx_packets, pair.stats().rx_packets), (taken as u64, taken as u64));

    // net_null makes packets out of the pool.
    let (_device, port) = started("net_null", "", &PortOptions::new(&pool)).unwrap();
    let mut null = port.queue_pair(0).unwrap();
    let hoard: Vec<_> = std::iter::from_fn(|| pool.alloc_one()).collect();
    assert_eq!(null.recv(&mut packets).unwrap(), 0);
    drop(hoard);
    assert_eq!(null.recv(&mut packets).unwrap(), 100);
    assert_eq!(null.stats().drops[DropCause::RxError], 0);
}

#[test]
fn counters_have_the_drivers_names() {
    let pool = pool(1023);
    let (_device, port) = started("net_null", "", &PortOptions::new(&pool)).unwrap();
    let mut pair = port.queue_pair(0).unwrap();
    let mut packets = Burst::with_capacity(10);
    pair.recv(&mut packets).unwrap();
    pair.send(&mut packets).unwrap();
    let (mut good, mut size) = (None, None);
    pair.visit_counters(&mut |name, value| match name {
        "rx_good_packets" => good = Some(value),
        "pool_size" => size = Some(value),
        _ => {}
    });
    assert_eq!((good, size), (Some(10), Some(1023)));
    let stats = port.stats().unwrap();
    assert_eq!((stats.rx_packets, stats.tx_packets), (10, 10));
    // They count from the start.
    drop(pair);
    let port = port.stop().unwrap().start(&PortOptions::new(&pool)).unwrap();
    assert_eq!(port.stats().unwrap().rx_packets, 0);
}

#[test]
fn flows_are_spread_as_asked() {
    let pool = pool(4095);
    let mut rss = Rss::new(RssTypes::all());
    rss.table = Some(vec![2, 0, 1]);
    let new = || PortOptions { rx_queues: 3, tx_queues: 3, ..PortOptions::new(&pool) };
    let options = PortOptions { rss: Some(rss.clone()), ..new() };
    let (_device, mut port) = started("net_null", "", &options).unwrap();
    let capabilities = port.capabilities().unwrap();
    let table = port.rss_table().unwrap();
    assert_eq!(table.len(), usize::from(capabilities.rss_table_len));
    assert!(table.iter().eq([2, 0, 1].iter().cycle().take(table.len())));
    assert_eq!(port.report().rss, capabilities.rss);
    assert!(port.report().fallbacks.join("").contains("RSS by"), "not all types there are");
    let mut stopped = port.stop().unwrap();
    for (wrong, setting) in [
        (Rss { key: Some(vec![1, 2, 3]), ..rss.clone() }, "rss.key"),
        (Rss { table: Some(Vec::new()), ..rss.clone() }, "rss.table"),
        (Rss { table: Some(vec![3]), ..rss.clone() }, "rss.table"),
    ] {
        let refused = stopped.start(&PortOptions { rss: Some(wrong), ..new() }).unwrap_err();
        match &refused.error {
            Error::Config { setting: named, .. } => assert_eq!(named, setting),
            other => panic!("{setting}: {other:?}"),
        }
        stopped = refused.port;
    }
    let key = vec![0x5a; usize::from(capabilities.rss_key_len)];
    let good = Rss { key: Some(key), table: None, types: capabilities.rss };
    port = stopped.start(&PortOptions { rss: Some(good), ..new() }).unwrap();
    assert_eq!(port.report().fallbacks, Vec::<String>::new());
}

/// `net_null` takes every mbuf to have room for the packets that it makes up.
#[test]
fn packets_that_are_made_up_fit_their_mbufs() {
    let pool = pool(255);
    for (arguments, fits) in [("size=2048", true), ("size=2049", false), ("size=65535", false)] {
        match started("net_null", arguments, &PortOptions::new(&pool)) {
            Ok((_device, port)) => {
                assert!(fits, "{arguments}");
                let mut packets = Burst::with_capacity(4);
                assert_eq!(port.rx_queue(0).unwrap().recv(&mut packets), 4);
                packets.data_mut().for_each(|bytes| bytes.fill(0xff));
                assert!(packets.iter().all(|packet| packet.data().len() == 2048));
            }
            Err(error) => {
                assert!(!fits, "{arguments}: {error}");
                assert!(matches!(error, Error::Config { setting, .. } if setting == "pools"));
            }
        }
    }
    let error = started("net_null", "copy=1", &PortOptions::new(&pool)).unwrap_err();
    assert!(error.to_string().contains("beyond the packets"), "{error}");
}

/// Waiting takes packets; they are handed out first, by whoever receives, and counted then.
#[test]
fn what_came_while_somebody_waited_comes_first() {
    let pool = pool(255);
    let (_device, port) = started("net_ring", "", &PortOptions::new(&pool)).unwrap();
    let mut pair = port.queue_pair(0).unwrap();
    let numbered = |number: u8| packet(&pool, &[number; 60]);
    let mut next = 0;
    for (burst_len, direct) in [(7, false), (16, true), (64, false)] {
        send_all(&mut pair, &mut burst((0..50).map(numbered)));
        assert_eq!(pair.wait(Interest::RX, None).unwrap(), Ready::RX);
        send_all(&mut pair, &mut burst((50..90).map(numbered)));
        let (mut seen, mut packets) = (Vec::new(), Burst::with_capacity(burst_len));
        while seen.len() < 90 {
            let before = pair.stats().rx_packets;
            let received = if direct {
                pair.rx().recv(&mut packets)
            } else {
                pair.recv(&mut packets).unwrap()
            };
            assert_eq!(
                (received, pair.stats().rx_packets - before),
                (packets.len(), received as u64)
            );
            assert!(packets.is_as_received());
            seen.extend(packets.iter().map(|packet| packet.data()[0]));
            packets.clear();
        }
        assert!(seen.into_iter().eq(0..90));
        next += 90;
        assert_eq!((pair.rx().packets(), pair.tx().packets()), (next, next));
        assert_eq!(pair.stats().tx_packets, next);
    }
    // What nobody takes goes home with the queue.
    send_all(&mut pair, &mut burst((0..50).map(numbered)));
    pair.wait(Interest::RX, None).unwrap();
    drop((pair, port));
    assert_eq!(pool.in_use(), 0);
}

/// Nothing of a packet is read on its way where nobody may have changed more than its bytes; otherwise it is
/// looked at.
#[test]
fn what_is_as_it_was_received_goes_on_as_it_is() {
    let pool = pool(255);
    let (_device, port) = started("net_null", "size=2000", &PortOptions::new(&pool)).unwrap();
    let mut pair = port.queue_pair(0).unwrap();
    assert!(!pair.caps().counts_bytes);
    let mut packets = Burst::with_capacity(8);
    assert_eq!(pair.recv(&mut packets).unwrap(), 8);
    packets.data_mut().for_each(|bytes| bytes[0] = 1);
    assert_eq!(pair.send(&mut packets).unwrap(), 8);
    pair.recv(&mut packets).unwrap();
    assert_eq!(packets.iter_mut().len(), 8);
    let error = pair.send(&mut packets).unwrap_err();
    assert!(error.to_string().contains("the limit here is 1514"), "{error}");
    packets.iter_mut().for_each(|packet| packet.set_len(60).unwrap());
    assert_eq!(pair.send(&mut packets).unwrap(), 8);
    let stats = pair.stats();
    assert_eq!((stats.rx_packets, stats.tx_packets), (16, 16));
    assert_eq!((stats.rx_bytes, stats.tx_bytes), (0, 0));
}

/// Only what a device has handed out is taken to have a header.
#[test]
fn packets_of_the_applications_own_may_be_empty() {
    let pool = pool(255);
    let (_device, port) = started("net_ring", "", &PortOptions::new(&pool)).unwrap();
    let mut pair = port.queue_pair(0).unwrap();
    let mut packets = burst([packet(&pool, &[7; 14]), packet(&pool, &[]), packet(&pool, &[8])]);
    let firsts = |packets: &mut Burst<Mbuf>| {
        let mut firsts = Vec::new();
        packets.data_mut().for_each(|bytes| firsts.push(bytes.first_mut().copied()));
        assert!(packets.data_mut().map(|bytes| bytes.first().copied()).eq(firsts.iter().copied()));
        firsts
    };
    assert_eq!(firsts(&mut packets), [Some(7), None, Some(8)]);
    assert_eq!(pair.send(&mut packets).unwrap(), 1);
    let error = pair.send(&mut packets).unwrap_err();
    assert!(error.to_string().contains("14"), "{error}");
    packets.clear();
    assert_eq!(pair.recv(&mut packets).unwrap(), 1);
    assert!(packets.is_as_received());
    assert_eq!(firsts(&mut packets), [Some(7)]);
    assert!(packets.push(packet(&pool, &[])).is_ok());
    assert_eq!(firsts(&mut packets), [Some(7), None]);
    // Nor does one come by a ring that has its header in pieces.
    let mut pieces = packet(&pool, &[9; 8]);
    pieces.chain(packet(&pool, &[9; 60])).unwrap();
    let error = pair.send(&mut burst([pieces])).unwrap_err();
    assert!(matches!(error, Error::Frame { .. }), "{error}");
    assert_eq!(pair.stats().rx_packets, 1);
}

/// A capture may have anything in it.
#[test]
fn packets_without_a_header_are_dropped_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("short.pcap");
    // The format of libpcap: its number, 2.4, no zone, no accuracy, 65 535 bytes of each packet, Ethernet.
    let mut capture: Vec<u8> =
        [0xa1b2_c3d4_u32, 2 | 4 << 16, 0, 0, 65_535, 1].map(u32::to_ne_bytes).concat();
    let lengths = [60, 13, 0, 14, 1, 1514];
    for len in lengths {
        capture.extend([0, 0, len, len].map(u32::to_ne_bytes).concat());
        capture.extend((0..len).map(|_| len as u8));
    }
    std::fs::write(&file, capture).unwrap();
    let pool = pool(255);
    let arguments = format!("rx_pcap={},tx_pcap=/dev/null", file.display());
    let (_device, port) = started("net_pcap", &arguments, &PortOptions::new(&pool)).unwrap();
    let mut pair = port.queue_pair(0).unwrap();
    let mut packets = Burst::with_capacity(32);
    // One call of the driver reads them all.
    assert_eq!(pair.recv(&mut packets).unwrap(), 3);
    let came: Vec<_> = packets.iter().map(Buffer::total_len).collect();
    packets.clear();
    assert_eq!(came, [60, 14, 1514]);
    let stats = pair.stats();
    assert_eq!((stats.rx_packets, stats.rx_bytes), (3, 1588));
    assert_eq!(stats.drops[DropCause::RxError], 3);
    assert_eq!(pair.rx().short(), 3);
    drop(pair);
    drop(port);
    assert_eq!(pool.in_use(), 0);
}
