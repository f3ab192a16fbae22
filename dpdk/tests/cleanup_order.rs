//! The environment ends when nothing of it is left, and not before. A process of its own.

#![allow(clippy::unwrap_used, reason = "helpers are part of the tests")]

mod common;

use std::collections::BTreeSet;
use std::env;

use bypass_dpdk::{DpdkError, Eal, PortOptions};
use common::*;

#[test]
fn the_environment_ends_after_everything_that_needs_it() {
    let variables = || BTreeSet::from_iter(env::vars_os().map(|(name, _)| name));
    let before = variables();
    let refused = |what: &str| match Eal::current().unwrap().cleanup() {
        Err(DpdkError::InUse { handles }) => assert!(handles > 1, "{what}: {handles} handles"),
        other => panic!("{what}: {other:?}"),
    };
    let pool = pool(255);
    let (device, port) = started("net_ring", "", &PortOptions::new(&pool)).unwrap();
    let queue = port.rx_queue(0).unwrap();
    let packet = packet(&pool, b"the last");
    refused("all is there");
    // Drivers set variables behind the back of Rust's lock: only such as the crate has set under it.
    let known = ["RDMAV_HUGEPAGES_SAFE", "MLX5_DEVICE_FATAL_CLEANUP", "MLX4_DEVICE_FATAL_CLEANUP"];
    let unknown = |name: &&_| !known.iter().any(|known| **name == *known);
    assert_eq!(variables().difference(&before).find(unknown), None);
    drop(port);
    refused("a queue is there");
    drop((queue, device));
    refused("a pool is there");
    drop(pool);
    refused("an mbuf is there");
    drop(packet);
    // `common::eal` keeps a handle of its own: it is all that is left beside this one.
    match Eal::current().unwrap().cleanup() {
        Err(DpdkError::InUse { handles: 1 }) => {}
        other => panic!("{other:?}"),
    }
}
