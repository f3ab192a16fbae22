//! Pools: what they refuse, when they are freed, and by whom they may be used.

#![allow(clippy::unwrap_used, reason = "helpers are part of the tests")]

mod common;

use std::sync::Barrier;
use std::sync::mpsc::channel;

use bypass_core::testing::process;
use bypass_core::{Buffer, Burst, Error};
use bypass_dpdk::{Mbuf, Mempool, MempoolOptions};
use common::*;

/// A pool of this name: it can be made only when the last one of that name has been freed.
fn named(name: &str) -> bypass_core::Result<Mempool> {
    let options = MempoolOptions { name: Some(name.to_owned()), ..MempoolOptions::new(255) };
    Mempool::new(&eal(), &options)
}

#[test]
fn options_that_make_no_sense_are_refused_with_the_setting() {
    let good = || MempoolOptions::new(1023);
    let long = Some("a-name-of-twenty-six-bytes".to_owned());
    for (options, setting) in [
        (MempoolOptions { mbufs: 0, rx_reserve: 0, ..good() }, "mbufs"),
        (MempoolOptions { data_room: 65_408, ..good() }, "data_room"),
        (MempoolOptions { private_size: 7, ..good() }, "private_size"),
        (MempoolOptions { cache: 513, ..good() }, "cache"),
        (MempoolOptions { mbufs: 100, cache: 67, rx_reserve: 0, ..good() }, "cache"),
        (MempoolOptions { rx_reserve: 1023, ..good() }, "rx_reserve"),
        (MempoolOptions { name: long, ..good() }, "name"),
        (MempoolOptions { name: Some("a\0b".to_owned()), ..good() }, "name"),
    ] {
        match Mempool::new(&eal(), &options) {
            Err(Error::Config { setting: refused, .. }) => assert_eq!(refused, setting),
            other => panic!("{setting}: {other:?}"),
        }
    }
}

#[test]
fn too_little_memory_is_an_error_that_says_so() {
    let options = MempoolOptions { data_room: 60_000, ..MempoolOptions::new(100_000) };
    let error = Mempool::new(&eal(), &options).unwrap_err().to_string();
    assert!(error.contains("100000 mbufs") && error.contains("memory"), "{error}");
}

#[test]
fn a_pool_is_made_on_the_node_that_is_named_or_not_at_all() {
    let on = |node| {
        Mempool::new(&eal(), &MempoolOptions { socket: Some(node), ..MempoolOptions::new(63) })
    };
    let nodes = eal().numa_nodes();
    for &node in &nodes {
        assert_eq!(on(node).unwrap().available(), 63, "node {node}");
    }
    let missing = (0..).find(|node| !nodes.contains(node)).unwrap();
    let error = on(missing).unwrap_err().to_string();
    assert!(error.contains(&format!("63 mbufs on NUMA node {missing}: ")), "{error}");
}

#[test]
fn options_of_every_extreme_make_pools() {
    for options in [
        MempoolOptions { data_room: 65_407, ..MempoolOptions::new(7) },
        MempoolOptions { data_room: 1, private_size: 8, ..MempoolOptions::new(1) },
        MempoolOptions { name: Some("n".repeat(25)), ..MempoolOptions::new(2) },
        MempoolOptions { cache: 512, ..MempoolOptions::new(768) },
    ] {
        let pool = Mempool::new(&eal(), &options).unwrap();
        let all: Vec<Mbuf> = std::iter::from_fn(|| pool.alloc_one()).collect();
        assert_eq!(all.len(), options.mbufs as usize);
        for mut packet in all {
            let room = packet.tailroom();
            assert_eq!(room, usize::from(options.data_room));
            packet.append(room).unwrap().fill(0x5a);
        }
        assert_eq!(pool.in_use(), 0);
    }
}

/// Twice, since its memory has a name too.
#[test]
fn packed_mbufs_lie_side_by_side_and_do_not_touch() {
    for _ in 0..2 {
        let name = Some("packed".to_owned());
        let options =
            MempoolOptions { name, packed: true, private_size: 8, ..MempoolOptions::new(1023) };
        let pool = Mempool::new(&eal(), &options).unwrap();
        let mut all: Vec<Mbuf> = std::iter::from_fn(|| pool.alloc_one()).collect();
        assert_eq!(all.len(), 1023);
        let content = |i: usize| [(i % 251) as u8; 2048];
        for (i, packet) in all.iter_mut().enumerate() {
            packet.fill(&content(i)).unwrap();
        }
        assert!(all.iter().enumerate().all(|(i, packet)| *packet.data() == content(i)));
        all.sort_by_key(|packet| packet.data().as_ptr());
        let gaps =
            all.windows(2).map(|two| two[1].data().as_ptr().addr() - two[0].data().as_ptr().addr());
        let (least, most) = (gaps.clone().min(), gaps.max());
        assert_eq!(least, most, "one stride for all of them");
        assert!(most < Some(4096), "a page has more than one");
    }
}

#[test]
fn the_reserve_is_left_for_receiving() {
    let options = MempoolOptions { cache: 0, rx_reserve: 20, ..MempoolOptions::new(100) };
    let pool = Mempool::new(&eal(), &options).unwrap();
    let mut burst = Burst::with_capacity(200);
    assert_eq!((pool.alloc(&mut burst, 200), pool.available()), (80, 20));
    assert_eq!(pool.alloc(&mut burst, 1), 0);
    assert!(pool.alloc_one().is_some());
    burst.truncate(79);
    assert_eq!(pool.alloc(&mut burst, 5), 1);
}

/// The caches of threads are filled up from the ring; the reserve in it is not for them.
#[test]
fn the_reserve_is_left_by_threads_with_caches_too() {
    let options = MempoolOptions { cache: 250, rx_reserve: 100, ..MempoolOptions::new(1023) };
    let pool = Mempool::new(&eal(), &options).unwrap();
    let registration = eal().register_thread().unwrap();
    for step in [1, 7, 32, 33] {
        let mut hoard = Burst::with_capacity(1023);
        while pool.alloc(&mut hoard, step) > 0 {}
        assert_eq!(hoard.len(), 923, "in steps of {step}");
        assert!(hoard.iter().all(|packet| packet.data().is_empty() && packet.headroom() == 128));
        // Another thread, without a cache, receives from what was left.
        let received = || std::iter::from_fn(|| pool.alloc_one()).take(100).count();
        assert_eq!(std::thread::scope(|scope| scope.spawn(received).join().unwrap()), 100);
    }
    drop(registration);
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn a_pool_outlives_its_handles_as_long_as_one_mbuf_is_there() {
    let name = "outlived";
    let pool = named(name).unwrap();
    let mut packet = packet(&pool, b"still there");
    let other = pool.clone();
    assert!(other == pool);
    drop((pool, other));
    assert!(named(name).is_err(), "it is parked, not freed");
    packet.append(5).unwrap().copy_from_slice(b", yes");
    assert_eq!(packet.data(), b"still there, yes");
    drop(packet);
    // Whoever makes a pool looks after those that are parked.
    drop(named(name).unwrap());
}

#[test]
fn an_mbuf_that_is_forgotten_keeps_its_pool_for_good() {
    let pool = named("forgotten").unwrap();
    std::mem::forget(packet(&pool, b"gone"));
    drop(pool);
    assert!(named("forgotten").is_err(), "a leak, and nothing worse");
}

#[test]
fn the_cache_of_a_thread_that_is_gone_does_not_keep_a_pool() {
    let name = "cached";
    let pool = named(name).unwrap();
    let (give, take) = channel::<Mbuf>();
    let (done, wait) = channel::<()>();
    let freer = std::thread::spawn(move || {
        let registration = eal().register_thread().unwrap();
        take.iter().for_each(drop);
        wait.recv().unwrap();
        drop(registration);
    });
    for _ in 0..8 {
        give.send(pool.alloc_one().unwrap()).unwrap();
    }
    drop(give);
    while pool.in_use() > 0 {
        std::thread::yield_now();
    }
    drop(pool);
    assert!(named(name).is_err(), "a thread that is at work might still write there");
    done.send(()).unwrap();
    freer.join().unwrap();
    drop(named(name).unwrap());
}

/// The last handle goes while other threads give back the last mbufs, some through a cache of theirs and
/// some not: whatever comes first, nobody writes to memory that was freed, and the pool is freed in the
/// end.
#[test]
fn handles_and_mbufs_may_go_at_the_same_moment() {
    // Threads of other tests would come by the numbers of these, and keep a pool waiting for them.
    process::alone(|| {
        for round in 0..300 {
            let name = format!("moment{}", round % 2);
            let pool = named(&name).unwrap();
            let barrier = Barrier::new(4);
            std::thread::scope(|scope| {
                for i in 0..3 {
                    let mut burst = Burst::with_capacity(40);
                    assert_eq!(pool.alloc(&mut burst, 40), 40);
                    let barrier = &barrier;
                    scope.spawn(move || {
                        let registration = (i > 0).then(|| eal().register_thread().unwrap());
                        barrier.wait();
                        for packet in burst.drain(20) {
                            drop(packet);
                        }
                        burst.clear();
                        drop(registration);
                    });
                }
                barrier.wait();
                drop(pool);
            });
        }
    });
}

#[test]
fn mbufs_are_freed_by_any_thread() {
    let pool = pool(1023);
    let (to, from) = channel::<Burst<Mbuf>>();
    std::thread::scope(|scope| {
        let producer = pool.clone();
        scope.spawn(move || {
            let _registration = eal().register_thread().unwrap();
            let mut sent = 0;
            while sent < 20_000 {
                let mut burst = Burst::with_capacity(32);
                sent += producer.alloc(&mut burst, 32);
                for packet in burst.iter_mut() {
                    packet.fill(&sent.to_be_bytes()).unwrap();
                }
                to.send(burst).unwrap();
            }
        });
        scope.spawn(move || {
            let mut last = 0;
            for burst in from {
                for packet in burst.iter() {
                    let now = usize::from_be_bytes(packet.data().try_into().unwrap());
                    assert!(now >= last, "whole, and in order");
                    last = now;
                }
            }
        });
    });
    assert_eq!(pool.in_use(), 0);
}

#[test]
fn exhaustion_ends_when_mbufs_come_home() {
    let pool = pool(127);
    let all: Vec<Mbuf> = std::iter::from_fn(|| pool.alloc_one()).collect();
    assert_eq!((all.len(), pool.available()), (127, 0));
    let mut burst = Burst::with_capacity(8);
    assert_eq!(pool.alloc(&mut burst, 8), 0);
    drop(all);
    assert_eq!(pool.alloc(&mut burst, 8), 8);
}
